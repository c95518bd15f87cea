/* tokenizer_hf.c - a text through the pipeline of a tokenizer.json, up to its pieces.
 *
 * Owns the order that Hugging Face's library has: tokens that are looked for in the text as it
 * stands; what is between them normalised, each run alone; in that the other added tokens; what is
 * left cut into pieces, which tokenizer_hf_model.c or a family of GGUF files makes ids of.
 * A token that is looked for after normalising is itself normalised first. */
#include "model/tokenizer_impl.h"

#include "base/mem.h"

/* ---- special tokens ---- */

static bool before_normalising(const exo_token *t) {
    return exo_is_special(t) && (t->flags & EXO_TOKEN_ADDED) != 0 &&
           (t->flags & EXO_TOKEN_NORMALISED) == 0;
}

static bool after_normalising(const exo_token *t) {
    return exo_is_special(t) && (t->flags & EXO_TOKEN_ADDED) != 0 &&
           (t->flags & EXO_TOKEN_NORMALISED) != 0;
}

/* The keys normalised, their texts in *texts.  Two may become the same text: then one that the
 * library counts as special goes before the others.  One that becomes nothing is left out. */
static exo_status normalise_keys(const exo_tokenizer *t, exo_trie_key *keys, size_t *n,
                                 exo_buf *texts, exo_error *err) {
    const exo_pipeline *p = t->pipeline;
    exo_pipeline_scratch scratch;
    exo_status st = exo_pipeline_scratch_init(&scratch, err);
    size_t kept = 0, at = 0;
    for (size_t i = 0; st == EXO_OK && i < *n; i++) {
        exo_str out, text = {(const char *)keys[i].s, keys[i].n};
        st = exo_pipeline_normalise(p, &scratch, text, &out, NULL, err);
        if (st != EXO_OK || out.n == 0) continue;
        exo_buf_append(texts, out.s, out.n);
        uint32_t order = keys[i].order;
        if (t->vocab.tokens[keys[i].id].type == EXO_TOKEN_USER_DEFINED)
            order += EXO_VOCAB_MAX_TOKENS;
        keys[kept++] = (exo_trie_key){NULL, (uint32_t)out.n, keys[i].id, order};
    }
    exo_pipeline_scratch_finish(&scratch);
    if (st == EXO_OK && !exo_buf_ok(texts))
        st = exo_error_set(err, EXO_ENOMEM, "out of memory for the vocabulary");
    for (size_t i = 0; i < kept; at += keys[i++].n) /* texts no longer move */
        keys[i].s = (const uint8_t *)exo_buf_str(texts) + at;
    *n = kept;
    return st;
}

exo_status exo_hf_special_init(exo_tokenizer *t, exo_error *err) {
    exo_buf texts = {0};
    size_t n = 0, n_after = 0;
    exo_trie_key *keys = exo_trie_keys(&t->vocab, before_normalising, &n);
    exo_trie_key *after = exo_trie_keys(&t->vocab, after_normalising, &n_after);
    exo_status st = EXO_OK;
    if (keys == NULL || after == NULL)
        st = exo_error_set(err, EXO_ENOMEM, "out of memory for the vocabulary");
    if (st == EXO_OK) st = normalise_keys(t, after, &n_after, &texts, err);
    if (st == EXO_OK) st = exo_trie_init(&t->special, keys, n, "special token", err);
    if (st == EXO_OK) st = exo_trie_init(&t->normalised, after, n_after, NULL, err);
    exo_free(keys);
    exo_free(after);
    exo_buf_finish(&texts);
    return st;
}

/* ---- text ---- */

static exo_status pieces(exo_tokenize_call *c, exo_str s, bool first, exo_error *err) {
    const exo_tokenizer *t = c->t;
    if (t->pipeline->named) return exo_bpe_text(c, (const uint8_t *)s.s, s.n, err);
    return exo_pipeline_cut(t->pipeline, c->scratch, s, first, exo_hf_piece, c, err);
}

exo_status exo_hf_text(exo_tokenize_call *c, exo_str s, bool first, exo_error *err) {
    const exo_pipeline *p = c->t->pipeline;
    if (p->n_norms > 0) {
        size_t at = c->normal.n;
        bool begins;
        exo_status st = exo_pipeline_normalise(p, c->scratch, s, &s, &begins, err);
        if (st != EXO_OK) return st;
        exo_buf_append(&c->normal, s.s, s.n);
        if (!exo_buf_ok(&c->normal)) return exo_ids_no_memory(err);
        if (c->normal.n > INT32_MAX)
            return exo_error_set(err, EXO_ETOOLONG, "a normalised text of more than 2 GiB");
        c->text = (const uint8_t *)exo_buf_str(&c->normal);
        s.s = exo_buf_str(&c->normal) + at;
        first = first && begins;
    }
    return exo_special_split(c, &c->t->normalised, s, first, pieces, err);
}
