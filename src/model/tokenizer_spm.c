/* tokenizer_spm.c - SentencePiece BPE: characters merged by score, bytes where none fits.
 *
 * Owns the rules of spaces: written as U+2581, one put before every run of text.  Two neighbours
 * merge if their joined text is a token; the higher its score, the sooner. SentencePiece merges a
 * whole text at once.  If no token goes on with a space after another character
 * (exo_vocab.words_are_apart, true of the known ones), no merge can reach from one word into the
 * next, and words taken one by one give the same ids in less time and memory.  A text of broken
 * UTF-8 is taken as a whole: llama.cpp lets a first byte have the bytes that it promises. */
#include "model/tokenizer_impl.h"

#include "model/utf8.h"

#include <string.h>

static const char escaped_space[] = "\xE2\x96\x81";

/* Bytes of the space that s begins with: plain, or spelled as U+2581; 0 if none. */
static size_t space_at(const uint8_t *s, size_t n) {
    if (s[0] == ' ') return 1;
    return n >= 3 && memcmp(s, escaped_space, 3) == 0 ? 3 : 0;
}

size_t exo_escaped_word(const uint8_t *s, size_t n) {
    size_t i = 0, space;
    while (i < n && (space = space_at(s + i, n - i)) > 0) i += space;
    while (i < n && space_at(s + i, n - i) == 0) i++;
    return i;
}

/* Floats in their order as integers, the highest first. */
static uint32_t order_of(float score) {
    uint32_t bits;
    score += 0.0f; /* -0 counts as 0 */
    memcpy(&bits, &score, sizeof bits);
    return (bits >> 31) != 0 ? bits : ~(bits | 0x80000000u);
}

static bool pair_merge(const void *ctx, const exo_symbol *l, const exo_symbol *r, uint32_t *order,
                       int32_t *id) {
    const exo_tokenize_call *c = ctx;
    const exo_vocab *v = &c->t->vocab;
    *id = exo_vocab_find(v, (const uint8_t *)c->escaped.data + l->start, l->n + r->n);
    if (*id == EXO_NO_TOKEN) return false;
    *order = order_of((float)v->scores[*id]);
    return true;
}

bool exo_merge_escaped(exo_tokenize_call *c, exo_merge_fn fn) {
    const exo_vocab *v = &c->t->vocab;
    const uint8_t *s = (const uint8_t *)c->escaped.data;
    exo_merger *m = &c->merger;
    if (!exo_buf_ok(&c->escaped)) return false;
    m->n_symbols = 0;
    for (size_t i = 0, len; i < c->escaped.n; i += len) {
        len = exo_utf8_promised(s[i]);
        if (len > c->escaped.n - i) len = c->escaped.n - i;
        if (!exo_merger_add(m, (uint32_t)len, exo_vocab_find(v, s + i, len))) return false;
    }
    if (m->n_symbols == 0) return true;
    if (!exo_merger_run(m, fn, c)) return false;
    for (uint32_t i = 0; i != EXO_NO_SYMBOL; i = m->symbols[i].next) {
        const exo_symbol *y = &m->symbols[i];
        if (y->id != EXO_NO_TOKEN) {
            if (!exo_ids_push(c->ids, y->id)) return false;
            continue;
        }
        for (uint32_t k = 0; k < y->n; k++) {
            int32_t id = v->byte_ids[s[y->start + k]];
            if (id != EXO_NO_TOKEN && !exo_ids_push(c->ids, id)) return false;
        }
    }
    return true;
}

void exo_escape_spaces(exo_buf *out, const uint8_t *s, size_t n) {
    for (const uint8_t *end = s + n; s < end;) {
        size_t run = 0;
        while (s + run < end && s[run] != ' ') run++;
        exo_buf_append(out, s, run);
        s += run;
        if (s == end) return;
        exo_buf_append(out, escaped_space, 3);
        s++;
    }
}

static bool merge_word(exo_tokenize_call *c, const uint8_t *s, size_t n) {
    exo_buf_clear(&c->escaped);
    exo_escape_spaces(&c->escaped, s, n);
    return exo_merge_escaped(c, pair_merge);
}

static bool merge_first_word(exo_tokenize_call *c, const uint8_t *s, size_t n) {
    exo_buf_clear(&c->escaped);
    exo_buf_puts(&c->escaped, escaped_space);
    exo_escape_spaces(&c->escaped, s, n);
    return exo_merge_escaped(c, pair_merge);
}

exo_status exo_spm_text(exo_tokenize_call *c, const uint8_t *s, size_t n, exo_error *err) {
    const exo_vocab *v = &c->t->vocab;
    bool apart = v->words_are_apart && exo_utf8_valid(s, n) == n;
    bool prefix = v->add_space_prefix, ok = true;
    for (size_t word; ok && n > 0; s += word, n -= word) {
        word = apart ? exo_escaped_word(s, n) : n;
        ok = prefix ? merge_first_word(c, s, word) : exo_word_ids(c, s, word, merge_word);
        prefix = false;
    }
    return ok ? EXO_OK : exo_ids_no_memory(err);
}
