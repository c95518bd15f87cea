/* tokenizer_hf_model.c - one piece of text to ids, by the model of a tokenizer.json.
 *
 * Owns BPE over characters, Unigram, WordPiece and WordLevel as Hugging Face's library has them:
 * what becomes of characters that the vocabulary lacks is where they differ from llama.cpp's. */
#include "model/tokenizer_impl.h"

#include "base/mem.h"
#include "model/utf8.h"

#include <float.h>
#include <string.h>

#define UNKNOWN_PENALTY 10.0
#define CACHED_BYTES    16 /* longer pieces do not lie in the call's text */

/* ---- life ---- */

static bool in_model(const exo_token *t) {
    return (t->flags & EXO_TOKEN_NO_MODEL) == 0 && t->type != EXO_TOKEN_UNUSED;
}

static bool is_indexed(const exo_token *t) { return t->indexed; }

static double worst_score(const exo_vocab *v) {
    double worst = DBL_MAX;
    for (uint32_t id = 0; v->scores != NULL && id < v->n; id++) {
        if (in_model(&v->tokens[id]) && v->scores[id] < worst) worst = v->scores[id];
    }
    return worst;
}

/* Where the parts of a word that follow its first one begin in the trie. */
static uint32_t find_prefix(const exo_tokenizer *t) {
    const exo_pipeline *p = t->pipeline;
    uint32_t node = 0;
    for (size_t i = 0; i < p->n_prefix; i++) {
        node = exo_trie_next(&t->trie, node, (uint8_t)p->prefix[i]);
        if (node == 0) return 0;
    }
    return node;
}

exo_status exo_hf_model_init(exo_tokenizer *t, const exo_gguf *g, exo_error *err) {
    const exo_vocab *v = &t->vocab;
    exo_pipeline_model model = t->pipeline->model;
    size_t n;
    if (model == EXO_PIPELINE_BPE) return exo_bpe_merges_init(&t->merges, v, g, err);
    if (model != EXO_PIPELINE_UNIGRAM && v->unk == EXO_NO_TOKEN)
        return exo_error_set(err, EXO_EFORMAT,
                             "the model's unknown token is not in its vocabulary");
    t->unknown_score = worst_score(v) - UNKNOWN_PENALTY;
    exo_trie_key *keys = exo_trie_keys(v, is_indexed, &n);
    if (keys == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for the vocabulary");
    exo_status st = exo_trie_init(&t->trie, keys, n, "token", err);
    exo_free(keys);
    if (st == EXO_OK) t->prefix_node = find_prefix(t);
    return st;
}

/* Text that is to be no control token does not become one by the model, either. */
static bool is_allowed(const exo_tokenize_call *c, int32_t id) {
    return (c->flags & EXO_TOKENIZE_SPECIAL) != 0 ||
           c->t->vocab.tokens[id].type != EXO_TOKEN_CONTROL;
}

static int32_t find_allowed(const exo_tokenize_call *c, const uint8_t *s, size_t n) {
    int32_t id = exo_vocab_find(&c->t->vocab, s, n);
    return id != EXO_NO_TOKEN && is_allowed(c, id) ? id : EXO_NO_TOKEN;
}

/* ---- BPE ---- */

static bool has_bytes(const exo_vocab *v, const uint8_t *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (v->byte_ids[s[i]] == EXO_NO_TOKEN) return false;
    }
    return true;
}

/* One character with what is written before and behind it there. */
static exo_str dress(exo_tokenize_call *c, const uint8_t *s, size_t n, bool first, bool last) {
    const exo_pipeline *p = c->t->pipeline;
    if (p->n_prefix == 0 && p->n_suffix == 0) return (exo_str){(const char *)s, n};
    exo_buf_clear(&c->escaped);
    if (!first) exo_buf_append(&c->escaped, p->prefix, p->n_prefix);
    exo_buf_append(&c->escaped, s, n);
    if (last) exo_buf_append(&c->escaped, p->suffix, p->n_suffix);
    return (exo_str){exo_buf_str(&c->escaped), c->escaped.n};
}

/* Symbols of a piece; a run of unknown characters is one, where the model says so. */
static bool add_symbols(exo_tokenize_call *c, const uint8_t *s, size_t n) {
    const exo_pipeline *p = c->t->pipeline;
    const exo_vocab *v = &c->t->vocab;
    exo_merger *m = &c->merger;
    uint32_t unknown = 0; /* bytes that wait to be one symbol */
    bool ok = true;
    for (size_t i = 0, len; ok && i < n; i += len) {
        exo_utf8_step(s + i, n - i, &len);
        exo_str dressed = dress(c, s + i, len, i == 0, i + len == n);
        const uint8_t *d = (const uint8_t *)dressed.s;
        int32_t id = exo_vocab_find(v, d, dressed.n);
        if (id != EXO_NO_TOKEN) {
            if (unknown > 0) ok = exo_merger_add(m, unknown, v->unk);
            unknown = 0;
            ok = ok && exo_merger_add(m, (uint32_t)len, id);
        } else if (p->byte_fallback && has_bytes(v, d, dressed.n)) {
            for (size_t k = 0; ok && k < dressed.n; k++)
                ok = exo_merger_add(m, 1, v->byte_ids[d[k]]);
        } else if (v->unk != EXO_NO_TOKEN) {
            if (unknown > 0 && !p->fuse_unk) {
                ok = exo_merger_add(m, unknown, v->unk);
                unknown = 0;
            }
            unknown += (uint32_t)len;
        }
    }
    return ok && (unknown == 0 || exo_merger_add(m, unknown, v->unk));
}

static bool bpe(exo_tokenize_call *c, const uint8_t *s, size_t n) {
    exo_merger *m = &c->merger;
    int32_t id = c->t->pipeline->ignore_merges ? find_allowed(c, s, n) : EXO_NO_TOKEN;
    if (id != EXO_NO_TOKEN) return exo_ids_push(c->ids, id);
    m->n_symbols = 0;
    if (!add_symbols(c, s, n)) return false;
    if (m->n_symbols == 0) return true;
    if (!exo_merger_run(m, exo_bpe_pair_merge, c)) return false;
    for (uint32_t i = 0; i != EXO_NO_SYMBOL; i = m->symbols[i].next) {
        if (!exo_ids_push(c->ids, m->symbols[i].id)) return false;
    }
    return true;
}

/* ---- Unigram ---- */

static void improve(exo_best *b, double score, size_t from, int32_t id) {
    if (b->from == SIZE_MAX || score > b->score)
        *b = (exo_best){.score = score, .from = from, .id = id};
}

/* All tokens that begin at `at`, and the unknown one where none covers the character. */
static void go_on(const exo_tokenize_call *c, const uint8_t *s, size_t n, size_t at, size_t one) {
    const exo_tokenizer *t = c->t;
    const exo_vocab *v = &t->vocab;
    exo_best *best = c->best;
    bool covered = false;
    uint32_t node = t->trie.first[s[at]];
    for (size_t end = at + 1; node != 0; end++) {
        int32_t id = t->trie.nodes[node].id;
        if (id != EXO_NO_TOKEN && is_allowed(c, id)) {
            improve(&best[end], v->scores[id] + best[at].score, at, id);
            covered = covered || end - at == one;
        }
        node = end < n ? exo_trie_next(&t->trie, node, s[end]) : 0;
    }
    if (!covered) improve(&best[at + one], t->unknown_score + best[at].score, at, v->unk);
}

/* The ids of one part of a piece: a token, or what the vocabulary lacks. */
static bool push_part(exo_tokenize_call *c, const uint8_t *s, size_t n) {
    const exo_vocab *v = &c->t->vocab;
    int32_t id = find_allowed(c, s, n);
    if (id == EXO_NO_TOKEN && c->t->pipeline->byte_fallback && has_bytes(v, s, n)) {
        bool ok = true;
        for (size_t i = 0; ok && i < n; i++) ok = exo_ids_push(c->ids, v->byte_ids[s[i]]);
        return ok;
    }
    if (id == EXO_NO_TOKEN) id = v->unk;
    c->no_unknown = c->no_unknown || id == EXO_NO_TOKEN;
    return id == EXO_NO_TOKEN || exo_ids_push(c->ids, id);
}

static bool unigram(exo_tokenize_call *c, const uint8_t *s, size_t n) {
    const exo_tokenizer *t = c->t;
    if (exo_grow((void **)&c->best, &c->best_cap, n + 1, sizeof *c->best) != 0) return false;
    exo_best *best = c->best;
    for (size_t i = 0; i <= n; i++) best[i] = (exo_best){.from = SIZE_MAX, .id = EXO_NO_TOKEN};
    best[0].from = 0;
    for (size_t at = 0, len; at < n; at += len) {
        exo_utf8_step(s + at, n - at, &len);
        go_on(c, s, n, at, len);
    }
    for (size_t at = n; at > 0; at = best[at].from) best[best[at].from].to = at;
    bool ok = true;
    for (size_t at = 0, end; ok && at < n; at = end) {
        end = best[at].to;
        bool unknown = best[end].id == t->vocab.unk && t->pipeline->fuse_unk;
        while (unknown && end < n && best[best[end].to].id == t->vocab.unk) end = best[end].to;
        ok = push_part(c, s + at, end - at);
    }
    return ok;
}

/* ---- WordPiece, WordLevel ---- */

static size_t count_chars(const uint8_t *s, size_t n) {
    size_t k = 0;
    for (size_t i = 0; i < n; i++) k += (s[i] & 0xC0) != 0x80;
    return k;
}

/* The longest token at s: a word's first part, or a later one.  */
static int32_t find_part(const exo_tokenize_call *c, const uint8_t *s, size_t n, bool first,
                         size_t *len) {
    const exo_tokenizer *t = c->t;
    int32_t id = EXO_NO_TOKEN;
    bool root = first || t->pipeline->n_prefix == 0;
    if (!root && t->prefix_node == 0) return id;
    id = root ? exo_trie_longest(&t->trie, s, n, len)
              : exo_trie_longest_below(&t->trie, t->prefix_node, s, n, len);
    while (id != EXO_NO_TOKEN && !is_allowed(c, id)) /* a shorter one: seldom */
        id = root ? exo_trie_longest(&t->trie, s, *len - 1, len)
                  : exo_trie_longest_below(&t->trie, t->prefix_node, s, *len - 1, len);
    return id;
}

static bool word_piece(exo_tokenize_call *c, const uint8_t *s, size_t n) {
    const exo_tokenizer *t = c->t;
    size_t first = c->ids->n, len = 0;
    bool good = count_chars(s, n) <= t->pipeline->max_chars, ok = true;
    for (size_t i = 0; ok && good && i < n; i += len) {
        int32_t id = find_part(c, s + i, n - i, i == 0, &len);
        good = id != EXO_NO_TOKEN;
        ok = !good || exo_ids_push(c->ids, id);
    }
    if (good || !ok) return ok;
    c->ids->n = first;
    return exo_ids_push(c->ids, t->vocab.unk);
}

static bool word_level(exo_tokenize_call *c, const uint8_t *s, size_t n) {
    int32_t id = find_allowed(c, s, n);
    return exo_ids_push(c->ids, id != EXO_NO_TOKEN ? id : c->t->vocab.unk);
}

/* ---- any ---- */

static const char mark[] = "\xE2\x96\x81"; /* U+2581 */

/* Whether no merge reaches from a character over a U+2581 behind it: then a text without spaces,
 * which is one piece, can be merged word by word. */
static bool words_are_apart(const exo_tokenizer *t) {
    const exo_pipeline *p = t->pipeline;
    return p->model == EXO_PIPELINE_BPE && t->vocab.words_are_apart && !p->ignore_merges &&
           p->n_prefix == 0 && p->n_suffix == 0 &&
           exo_vocab_find(&t->vocab, (const uint8_t *)mark, 3) != EXO_NO_TOKEN;
}

/* Bytes of the first word of s (n > 0): marks, and what follows up to the next one. */
static size_t first_word(const uint8_t *s, size_t n) {
    size_t i = 0;
    while (n - i >= 3 && memcmp(s + i, mark, 3) == 0) i += 3;
    while (i < n) {
        const uint8_t *next = memchr(s + i, (uint8_t)mark[0], n - i);
        if (next == NULL) return n;
        i = (size_t)(next - s);
        if (n - i >= 3 && memcmp(next, mark, 3) == 0) return i;
        i++;
    }
    return n;
}

exo_status exo_hf_piece(void *ud, const uint8_t *s, size_t n, exo_error *err) {
    static const exo_word_fn models[] = {[EXO_PIPELINE_BPE] = bpe,
                                         [EXO_PIPELINE_UNIGRAM] = unigram,
                                         [EXO_PIPELINE_WORD_PIECE] = word_piece,
                                         [EXO_PIPELINE_WORD_LEVEL] = word_level};
    exo_tokenize_call *c = ud;
    exo_word_fn model = models[c->t->pipeline->model];
    if (n > INT32_MAX)
        return exo_error_set(err, EXO_ETOOLONG, "a piece of text of more than 2 GiB");
    bool apart = n > CACHED_BYTES && words_are_apart(c->t), ok = true;
    for (size_t word; ok && n > 0; s += word, n -= word) {
        word = apart ? first_word(s, n) : n;
        ok = word <= CACHED_BYTES ? exo_word_ids(c, s, word, model) : model(c, s, word);
    }
    if (!ok) return exo_ids_no_memory(err);
    if (c->no_unknown)
        return exo_error_set(err, EXO_EUNSUPPORTED,
                             "the vocabulary has no token for a character of the text, and no "
                             "unknown token");
    return EXO_OK;
}
