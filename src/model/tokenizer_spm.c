/* tokenizer_spm.c - SentencePiece BPE: characters merged by score, bytes where none fits.
 *
 * Owns the rules of spaces: written as U+2581, one put before every run of text.  Two neighbours
 * merge if their joined text is a token; the higher its score, the sooner. SentencePiece merges a
 * whole text at once.  If no token goes on with a space after another character
 * (exo_vocab.words_are_apart, true of the known ones), no merge can reach from one word into the
 * next, and words taken one by one give the same ids in less time and memory. */
#include "model/tokenizer_impl.h"

#include "model/utf8.h"

#include <string.h>

static const char escaped_space[] = "\xE2\x96\x81";

/* Bytes of the space that s begins with: plain, or spelled as U+2581; 0 if none. */
static size_t space_at(const uint8_t *s, size_t n) {
    if (s[0] == ' ') return 1;
    return n >= 3 && memcmp(s, escaped_space, 3) == 0 ? 3 : 0;
}

/* Spaces and the characters up to the next ones. */
static size_t word_at(const exo_vocab *v, const uint8_t *s, size_t n) {
    if (!v->words_are_apart) return n;
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
    *order = order_of(v->scores[*id]);
    return true;
}

/* c->escaped holds the word. */
static bool merge_escaped(exo_tokenize_call *c) {
    const exo_vocab *v = &c->t->vocab;
    const uint8_t *s = (const uint8_t *)c->escaped.data;
    exo_merger *m = &c->merger;
    size_t len;
    m->n_symbols = 0;
    for (size_t i = 0; i < c->escaped.n; i += len) {
        if (exo_utf8_step(s + i, c->escaped.n - i, &len) != EXO_UTF8_WHOLE) len = 1;
        if (!exo_merger_add(m, (uint32_t)len, exo_vocab_find(v, s + i, len))) return false;
    }
    if (!exo_merger_run(m, pair_merge, c)) return false;
    for (uint32_t i = 0; i != EXO_NO_SYMBOL; i = m->symbols[i].next) {
        const exo_symbol *y = &m->symbols[i];
        if (y->id != EXO_NO_TOKEN) {
            if (!exo_ids_push(c->ids, y->id)) return false;
            continue;
        }
        for (uint32_t k = 0; k < y->n; k++) {
            if (!exo_ids_push(c->ids, v->byte_ids[s[y->start + k]])) return false;
        }
    }
    return true;
}

static void escape(exo_buf *out, const uint8_t *s, size_t n) {
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
    escape(&c->escaped, s, n);
    return exo_buf_ok(&c->escaped) && merge_escaped(c);
}

static bool merge_first_word(exo_tokenize_call *c, const uint8_t *s, size_t n) {
    exo_buf_clear(&c->escaped);
    exo_buf_puts(&c->escaped, escaped_space);
    escape(&c->escaped, s, n);
    return exo_buf_ok(&c->escaped) && merge_escaped(c);
}

exo_status exo_spm_text(exo_tokenize_call *c, const uint8_t *s, size_t n, exo_error *err) {
    bool prefix = c->t->vocab.add_space_prefix, ok = true;
    for (size_t word; ok && n > 0; s += word, n -= word) {
        word = word_at(&c->t->vocab, s, n);
        ok = prefix ? merge_first_word(c, s, word) : exo_word_ids(c, s, word, merge_word);
        prefix = false;
    }
    return ok ? EXO_OK : exo_error_set(err, EXO_ENOMEM, "out of memory for the ids");
}
