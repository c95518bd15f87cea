/* buf.c - doubling growth; see buf.h. */
#include "base/buf.h"

#include "base/assert.h"
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void exo_buf_finish(exo_buf *b) {
    exo_free(b->data);
    *b = (exo_buf){.limit_bytes = b->limit_bytes};
}

void exo_buf_clear(exo_buf *b) {
    b->n = 0;
    b->failed = false;
    if (b->data != NULL) b->data[0] = '\0';
}

bool exo_buf_reserve(exo_buf *b, size_t extra) {
    if (b->failed) return false;
    bool fits = extra < SIZE_MAX - 1 - b->n;
    if (fits && b->limit_bytes != 0) fits = b->n + extra <= b->limit_bytes;
    if (!fits || exo_grow((void **)&b->data, &b->cap, b->n + extra + 1, 1) != 0) b->failed = true;
    return !b->failed;
}

void exo_buf_append(exo_buf *b, const void *bytes, size_t n) {
    if (!exo_buf_reserve(b, n)) return;
    if (n > 0) memcpy(b->data + b->n, bytes, n);
    b->n += n;
    b->data[b->n] = '\0';
}

void exo_buf_puts(exo_buf *b, const char *s) { exo_buf_append(b, s, strlen(s)); }

void exo_buf_putc(exo_buf *b, char c) { exo_buf_append(b, &c, 1); }

void exo_buf_printf(exo_buf *b, const char *fmt, ...) {
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    if (n < 0) b->failed = true;
    if (n >= 0 && exo_buf_reserve(b, (size_t)n)) {
        vsnprintf(b->data + b->n, (size_t)n + 1, fmt, again);
        b->n += (size_t)n;
    }
    va_end(again);
    va_end(args);
}

void exo_buf_drop_front(exo_buf *b, size_t n) {
    EXO_ASSERT(n <= b->n);
    if (n == 0) return;
    memmove(b->data, b->data + n, b->n - n);
    b->n -= n;
    b->data[b->n] = '\0';
}
