/* tokenizer_ugm.c - SentencePiece Unigram: of all ways to cut a text into tokens, the one with
 * the highest total score.
 *
 * Owns the normalisation before it (characters replaced as the file's map says, spaces written as
 * U+2581) and the search, which keeps the best way to every position.  A character that no token
 * covers costs more than the worst token, and a run of such becomes one unknown token.
 * If no token goes on with a space after another character, every way has a cut before each word,
 * and words searched one by one give the same ids in less memory. */
#include "model/tokenizer_impl.h"

#include "base/mem.h"
#include "model/charsmap.h"
#include "model/utf8.h"

#include <float.h>

#define UNKNOWN_PENALTY 10.0

static const char escaped_space[] = "\xE2\x96\x81";
static const char replacement[] = "\xEF\xBF\xBD"; /* U+FFFD, for each broken byte */

/* ---- life ---- */

static bool may_appear(const exo_token *t) {
    return t->type == EXO_TOKEN_NORMAL || t->type == EXO_TOKEN_USER_DEFINED ||
           t->type == EXO_TOKEN_UNUSED;
}

exo_status exo_ugm_init(exo_tokenizer *t, exo_error *err) {
    const exo_vocab *v = &t->vocab;
    double worst = FLT_MAX;
    size_t n;
    exo_trie_key *keys = exo_trie_keys(v, may_appear, &n);
    if (keys == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for the vocabulary");
    for (uint32_t id = 0; id < v->n; id++) {
        if (v->tokens[id].type == EXO_TOKEN_NORMAL && v->scores[id] < worst) worst = v->scores[id];
    }
    t->unknown_score = worst - UNKNOWN_PENALTY;
    exo_status status = exo_trie_init(&t->trie, keys, n, "token", err);
    exo_free(keys);
    return status;
}

/* ---- normalisation ---- */

typedef struct {
    const exo_vocab *v;
    exo_buf *out;
    bool in_word, prefixed;
} normaliser;

static void put(normaliser *m, exo_str text) {
    for (size_t i = 0; i < text.n; i++) {
        if (text.s[i] == ' ') {
            m->in_word = false;
            if (!m->v->remove_extra_spaces) exo_buf_append(m->out, escaped_space, 3);
            continue;
        }
        bool prefix = m->v->add_space_prefix && !m->prefixed;
        if (!m->in_word && (prefix || m->v->remove_extra_spaces)) {
            exo_buf_append(m->out, escaped_space, 3);
            m->prefixed = true;
        }
        m->in_word = true;
        exo_buf_putc(m->out, text.s[i]);
    }
}

static exo_status normalise(exo_tokenize_call *c, const uint8_t *s, size_t n, exo_error *err) {
    normaliser m = {.v = &c->t->vocab, .out = &c->escaped};
    exo_buf_clear(&c->escaped);
    for (size_t used; n > 0; s += used, n -= used) {
        exo_str text;
        if (!exo_charsmap_longest(m.v->charsmap, m.v->n_charsmap, (exo_str){(const char *)s, n},
                                  &used, &text))
            return exo_error_set(err, EXO_EFORMAT,
                                 "tokenizer.ggml.precompiled_charsmap points outside of itself");
        if (used == 0) {
            bool whole = exo_utf8_step(s, n, &used) == EXO_UTF8_WHOLE;
            if (!whole) used = 1;
            text = whole ? (exo_str){(const char *)s, used} : (exo_str){replacement, 3};
        }
        put(&m, text);
    }
    return exo_buf_ok(&c->escaped) ? EXO_OK : exo_ids_no_memory(err);
}

/* ---- search ---- */

static void improve(exo_best *b, double score, size_t from, int32_t id) {
    if (score > b->score) *b = (exo_best){.score = score, .from = from, .id = id};
}

/* All tokens that begin at `at`. */
static void go_on(const exo_tokenizer *t, exo_best *best, const uint8_t *s, size_t n, size_t at) {
    const exo_vocab *v = &t->vocab;
    size_t one = exo_utf8_promised(s[at]);
    if (one > n - at) one = n - at;
    bool covered = false;
    double so_far = best[at].score;
    uint32_t node = t->trie.first[s[at]];
    for (size_t end = at + 1; node != 0; end++) {
        int32_t id = t->trie.nodes[node].id;
        if (id != EXO_NO_TOKEN) {
            bool free_of_cost = v->tokens[id].type == EXO_TOKEN_USER_DEFINED;
            improve(&best[end], so_far + (free_of_cost ? 0.0 : v->scores[id]), at, id);
            covered = covered || end - at == one;
        }
        node = end < n ? exo_trie_next(&t->trie, node, s[end]) : 0;
    }
    if (!covered) improve(&best[at + one], so_far + t->unknown_score, at, v->unk);
}

/* Appends the ids of s, less an unknown token behind another one. */
static bool push_best(exo_tokenize_call *c, const exo_best *best, size_t n, bool *unknown) {
    exo_ids *ids = c->ids;
    int32_t unk = c->t->vocab.unk;
    size_t first = ids->n;
    for (size_t at = n; at > 0; at = best[at].from) {
        if (!exo_ids_push(ids, best[at].id)) return false;
    }
    for (size_t i = first, k = ids->n; i + 1 < k; i++) { /* they came from the end */
        int32_t id = ids->ids[--k];
        ids->ids[k] = ids->ids[i];
        ids->ids[i] = id;
    }
    size_t kept = first;
    for (size_t i = first; i < ids->n; i++) {
        bool is_unknown = ids->ids[i] == unk;
        if (!is_unknown || !*unknown) ids->ids[kept++] = ids->ids[i];
        *unknown = is_unknown;
    }
    ids->n = kept;
    return true;
}

static bool search(exo_tokenize_call *c, const uint8_t *s, size_t n, bool *unknown) {
    if (exo_grow((void **)&c->best, &c->best_cap, n + 1, sizeof *c->best) != 0) return false;
    exo_best *best = c->best;
    best[0] = (exo_best){.score = 0, .id = c->t->vocab.unk};
    for (size_t i = 1; i <= n; i++) best[i] = (exo_best){.score = -DBL_MAX};
    for (size_t at = 0, len; at < n; at += len) {
        len = exo_utf8_promised(s[at]);
        if (len > n - at) len = n - at;
        go_on(c->t, best, s, n, at);
    }
    return push_best(c, best, n, unknown);
}

exo_status exo_ugm_text(exo_tokenize_call *c, const uint8_t *s, size_t n, exo_error *err) {
    exo_status status = normalise(c, s, n, err);
    if (status != EXO_OK) return status;
    bool ok = true, unknown = false;
    const uint8_t *text = (const uint8_t *)exo_buf_str(&c->escaped);
    for (size_t left = c->escaped.n, word; ok && left > 0; text += word, left -= word) {
        word = c->t->vocab.words_are_apart ? exo_escaped_word(text, left) : left;
        ok = search(c, text, word, &unknown);
    }
    return ok ? EXO_OK : exo_ids_no_memory(err);
}
