/* jinja_ctx.c - what every part of the evaluator leans on: sticky failure, limits, memory, text.
 *
 * All text is made at the end of one buffer: the output itself, the body of a macro, the repr of
 * a list.  exo_jtake() cuts the end off as a string value, so nothing needs a buffer of its own
 * and nothing can leak when a render fails half-way. */
#include "model/jinja.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define BYTES_PER_STEP 64

static void set_failure(exo_jctx *c, exo_status status, const char *message) {
    if (!exo_jok(c)) return;
    c->status = exo_error_set(c->err, status, "%s", message);
}

exo_jvalue exo_jfail(exo_jctx *c, const char *fmt, ...) {
    char message[EXO_ERROR_BYTES], whole[EXO_ERROR_BYTES + 32];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    snprintf(whole, sizeof whole, "template line %u: %s", (unsigned)c->line, message);
    set_failure(c, c->fault, whole);
    return exo_jundefined;
}

void exo_jfail_as(exo_jctx *c, exo_status status, const char *fmt, ...) {
    char message[EXO_ERROR_BYTES];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    set_failure(c, status, message);
}

void exo_jcharge(exo_jctx *c, size_t steps) {
    c->steps += steps;
    if (c->steps <= c->max_steps) return;
    c->steps = c->max_steps;
    exo_jfail(c, "the template runs too long (more than %llu steps)",
              (unsigned long long)c->max_steps);
}

bool exo_jenter(exo_jctx *c) {
    if (!exo_jok(c)) return false;
    if (c->depth >= c->max_depth) {
        exo_jfail(c, "nested deeper than %u levels", (unsigned)c->max_depth);
        return false;
    }
    c->depth++;
    exo_jcharge(c, 1);
    return true;
}

void exo_jleave(exo_jctx *c) { c->depth--; }

void *exo_jalloc(exo_jctx *c, size_t count, size_t size) {
    if (!exo_jok(c)) return NULL;
    size_t limit = c->arena.limit_bytes, left = limit - c->arena.used_bytes;
    if (limit != 0 && (size == 0 || count > left / size)) {
        exo_jfail(c, "the template needs more than %zu MiB of memory", EXO_J_MAX_ARENA_BYTES >> 20);
        return NULL;
    }
    exo_jcharge(c, count * size / BYTES_PER_STEP);
    void *p = exo_arena_zalloc(&c->arena, count, size);
    if (p == NULL) exo_jfail_as(c, EXO_ENOMEM, "out of memory in a chat template");
    return p;
}

void exo_jput(exo_jctx *c, const char *s, size_t n) {
    if (!exo_jok(c)) return;
    if (n > EXO_J_MAX_TEXT_BYTES - c->text.n) {
        exo_jfail(c, "the text grows beyond %zu MiB", EXO_J_MAX_TEXT_BYTES >> 20);
        return;
    }
    exo_jcharge(c, n / BYTES_PER_STEP);
    exo_buf_append(&c->text, s, n);
    if (!exo_buf_ok(&c->text)) exo_jfail_as(c, EXO_ENOMEM, "out of memory in a chat template");
}

void exo_jputs(exo_jctx *c, const char *s) { exo_jput(c, s, strlen(s)); }

void exo_jput_str(exo_jctx *c, const exo_jstr *s) { exo_jput(c, s->s, s->n); }

void exo_jput_char(exo_jctx *c, uint32_t cp) {
    char b[4];
    size_t n;
    if (cp < 0x80) {
        b[0] = (char)cp;
        n = 1;
    } else if (cp < 0x800) {
        b[0] = (char)(0xC0 | cp >> 6);
        n = 2;
    } else if (cp < 0x10000) {
        b[0] = (char)(0xE0 | cp >> 12);
        n = 3;
    } else {
        b[0] = (char)(0xF0 | cp >> 18);
        n = 4;
    }
    for (size_t i = 1; i < n; i++) b[i] = (char)(0x80 | (cp >> 6 * (n - 1 - i) & 0x3F));
    exo_jput(c, b, n);
}

exo_jvalue exo_jtake(exo_jctx *c, size_t mark) {
    size_t n = c->text.n > mark ? c->text.n - mark : 0;
    exo_jvalue v = exo_jstring(c, n > 0 ? c->text.data + mark : "", n);
    if (n > 0) {
        c->text.n = mark;
        c->text.data[mark] = '\0';
    }
    return v;
}
