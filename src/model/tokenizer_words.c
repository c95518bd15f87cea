/* tokenizer_words.c - the words that a text has had already, and their ids.
 *
 * Owns the table that one call keeps of its own words: most words of a text come again, and their
 * ids are copied then.  Knows nothing of how ids are made.
 * What it takes is memory latency, so a place holds the whole of a short word and of its few ids:
 * one cache line answers.  Longer ones point into the text and the ids of the call. */
#include "model/tokenizer_impl.h"

#include "base/le.h"
#include "base/mem.h"

#include <string.h>

#define WAYS 2u /* places where a word may be, the last found or made first */

exo_status exo_words_init(exo_tokenize_call *c, size_t n_bytes, exo_error *err) {
    if (n_bytes < EXO_WORD_CACHE_MIN_BYTES) return EXO_OK;
    c->n_words = 1024;
    while (c->n_words < n_bytes / 16 && c->n_words < EXO_WORD_CACHE_MAX_SLOTS) c->n_words *= 2;
    c->words = exo_calloc(c->n_words, sizeof *c->words);
    if (c->words == NULL) return exo_ids_no_memory(err);
    return EXO_OK;
}

/* The word as two numbers: itself, up to 16 bytes; else its hash and where it is. */
static exo_word_slot key_of(const exo_tokenize_call *c, const uint8_t *s, size_t n) {
    exo_word_slot w = {.n = (uint16_t)n};
    if (n <= 8) {
        w.key[0] = exo_pack(s, n);
    } else if (n <= 16) {
        w.key[0] = exo_get_u64(s);
        w.key[1] = exo_get_u64(s + n - 8);
    } else {
        w.key[0] = exo_vocab_hash(&c->t->vocab, s, n);
        w.key[1] = (uint64_t)(s - c->text);
    }
    return w;
}

static bool same(const exo_tokenize_call *c, const exo_word_slot *a, const exo_word_slot *b) {
    if (a->key[0] != b->key[0] || a->n != b->n) return false;
    if (a->key[1] == b->key[1]) return true;
    return a->n > 16 && memcmp(c->text + a->key[1], c->text + b->key[1], a->n) == 0;
}

static exo_word_slot *line_of(const exo_tokenize_call *c, const exo_word_slot *w) {
    uint64_t secret = c->t->vocab.secret, h = (w->key[0] ^ w->n) * secret;
    if (w->n > 8 && w->n <= 16) h = ((h ^ h >> 32) + w->key[1]) * secret;
    return &c->words[(h >> 32) & (c->n_words - WAYS)];
}

static bool copy_ids(exo_tokenize_call *c, const exo_word_slot *w) {
    exo_ids *ids = c->ids;
    size_t n = w->n_ids;
    if (exo_grow((void **)&ids->ids, &ids->cap, ids->n + n, sizeof *ids->ids) != 0) return false;
    const int32_t *known = w->ids;
    if (n > EXO_WORD_IDS) known = ids->ids + c->first_id + (uint32_t)w->ids[0];
    for (size_t i = 0; i < n; i++) ids->ids[ids->n + i] = known[i];
    ids->n += n;
    return true;
}

bool exo_word_ids(exo_tokenize_call *c, const uint8_t *s, size_t n, exo_word_fn fresh) {
    if (c->words == NULL || n > UINT16_MAX) return fresh(c, s, n);
    exo_word_slot w = key_of(c, s, n), *line = line_of(c, &w);
    if (same(c, &line[0], &w)) return copy_ids(c, &line[0]);
    if (same(c, &line[1], &w)) {
        w = line[1];
        line[1] = line[0];
        line[0] = w;
        return copy_ids(c, &line[0]);
    }
    size_t at = c->ids->n;
    if (!fresh(c, s, n)) return false;
    size_t n_ids = c->ids->n - at;
    if (n_ids > UINT16_MAX) return true;
    w.n_ids = (uint16_t)n_ids;
    if (n_ids > EXO_WORD_IDS) {
        w.ids[0] = (int32_t)(at - c->first_id);
    } else {
        for (size_t i = 0; i < n_ids; i++) w.ids[i] = c->ids->ids[at + i];
    }
    line[1] = line[0];
    line[0] = w;
    return true;
}
