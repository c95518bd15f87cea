/* tokenizer.c - a tokenizer's life, and one call from text to ids.
 *
 * Owns the order of things within a call: special tokens first, then the text between them, by
 * the algorithm that tokenizer.ggml.model names.  Knows neither algorithm.
 * A call that fails leaves the caller's ids as they were. */
#include "model/tokenizer_impl.h"

#include "base/mem.h"
#include "model/utf8.h"

#include <string.h>

#define MAX_TEXT_BYTES INT32_MAX /* positions in a word are 32 bits wide */

static const char replacement[] = "\xEF\xBF\xBD"; /* U+FFFD */

/* ---- life ---- */

static const struct {
    const char *name; /* tokenizer.ggml.model */
    exo_vocab_kind kind;
    const char *pre; /* in place of tokenizer.ggml.pre */
} kinds[] = {
    {"llama", EXO_VOCAB_SPM, NULL},      {"gpt2", EXO_VOCAB_BPE, NULL},
    {"bert", EXO_VOCAB_WPM, NULL},       {"t5", EXO_VOCAB_UGM, NULL},
    {"gemma4", EXO_VOCAB_BPE, "gemma4"}, {"whitespace", EXO_VOCAB_BPE, "whitespace"},
};

static exo_status read_kind(const exo_gguf *g, exo_vocab_kind *kind, exo_str *pre, exo_error *err) {
    exo_str model;
    if (!exo_gguf_str(g, "tokenizer.ggml.model", &model))
        return exo_error_set(err, EXO_EFORMAT, "tokenizer.ggml.model is missing");
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strlen(kinds[i].name) != model.n || memcmp(kinds[i].name, model.s, model.n) != 0)
            continue;
        *kind = kinds[i].kind;
        if (*kind != EXO_VOCAB_BPE) return EXO_OK;
        if (kinds[i].pre != NULL) {
            *pre = (exo_str){kinds[i].pre, strlen(kinds[i].pre)};
        } else if (!exo_gguf_str(g, "tokenizer.ggml.pre", pre)) {
            return exo_error_set(err, EXO_EUNSUPPORTED,
                                 "tokenizer.ggml.pre is missing: how this vocabulary cuts text "
                                 "into words is unknown; convert the model anew");
        }
        return EXO_OK;
    }
    return exo_error_set(err, EXO_EUNSUPPORTED,
                         "tokenizer model \"%.*s\" is not supported (llama, gpt2, bert, t5, "
                         "gemma4 and whitespace are)",
                         model.n < 64 ? (int)model.n : 64, model.s);
}

static exo_status read_pipeline(exo_tokenizer *t, const exo_gguf *g, exo_error *err) {
    exo_gguf_type elem;
    exo_str json;
    size_t n = 0;
    if (!exo_gguf_str(g, EXO_KEY_PIPELINE, &json)) return EXO_OK;
    (void)exo_gguf_array(g, "tokenizer.ggml.tokens", &elem, &n);
    uint32_t n_tokens = n < EXO_VOCAB_MAX_TOKENS ? (uint32_t)n : EXO_VOCAB_MAX_TOKENS;
    exo_status st = exo_pipeline_create(json, n_tokens, &t->pipeline, err);
    return st == EXO_OK ? st : exo_error_wrap(err, st, EXO_KEY_PIPELINE);
}

static exo_status init_special(exo_tokenizer *t, const exo_gguf *g, exo_error *err) {
    if (t->pipeline != NULL) return exo_hf_special_init(t, err);
    return exo_special_init(&t->special, &t->vocab, g, err);
}

static exo_status init(exo_tokenizer *t, const exo_gguf *g, exo_error *err) {
    exo_vocab_desc desc = {.kind = EXO_VOCAB_HF};
    exo_str pre = {0};
    exo_status status = read_pipeline(t, g, err);
    desc.pipeline = t->pipeline;
    bool by_kind = t->pipeline == NULL || t->pipeline->named;
    if (status == EXO_OK && by_kind) status = read_kind(g, &desc.kind, &pre, err);
    if (status == EXO_OK && t->pipeline != NULL && by_kind && desc.kind != EXO_VOCAB_BPE)
        status = exo_error_set(err, EXO_EFORMAT,
                               EXO_KEY_PIPELINE " leaves out how text is cut into words");
    if (status == EXO_OK && desc.kind == EXO_VOCAB_BPE) {
        status = exo_pretokenizer_create(pre, &t->pre, err);
        if (status == EXO_OK) desc.pre = exo_pretokenizer_flags(t->pre);
    }
    if (status == EXO_OK) status = exo_vocab_init(&t->vocab, g, &desc, err);
    if (status == EXO_OK) status = init_special(t, g, err);
    if (status != EXO_OK) return status;
    switch (desc.kind) {
    case EXO_VOCAB_SPM: break;
    case EXO_VOCAB_BPE: return exo_bpe_merges_init(&t->merges, &t->vocab, g, err);
    case EXO_VOCAB_WPM: return exo_wpm_init(t, err);
    case EXO_VOCAB_UGM: return exo_ugm_init(t, err);
    case EXO_VOCAB_HF: return exo_hf_model_init(t, g, err);
    }
    return EXO_OK;
}

exo_status exo_tokenizer_create(const exo_gguf *g, exo_tokenizer **out, exo_error *err) {
    *out = NULL;
    exo_tokenizer *t = exo_calloc(1, sizeof *t);
    if (t == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for the tokenizer");
    exo_status status = init(t, g, err);
    if (status != EXO_OK) {
        exo_tokenizer_destroy(t);
        return status;
    }
    *out = t;
    return EXO_OK;
}

void exo_tokenizer_destroy(exo_tokenizer *t) {
    if (t == NULL) return;
    exo_bpe_merges_finish(&t->merges);
    exo_trie_finish(&t->trie);
    exo_trie_finish(&t->special);
    exo_trie_finish(&t->normalised);
    exo_pipeline_destroy(t->pipeline);
    exo_vocab_finish(&t->vocab);
    exo_pretokenizer_destroy(t->pre);
    exo_free(t);
}

bool exo_tokenizer_is_own(const exo_gguf *g) {
    exo_str model;
    return exo_gguf_str(g, "tokenizer.ggml.model", &model) &&
           model.n == strlen(EXO_TOKENIZER_OWN) && memcmp(model.s, EXO_TOKENIZER_OWN, model.n) == 0;
}

uint32_t exo_tokenizer_n_vocab(const exo_tokenizer *t) { return t->vocab.n; }

int32_t exo_tokenizer_bos(const exo_tokenizer *t) { return t->vocab.bos; }

int32_t exo_tokenizer_eos(const exo_tokenizer *t) { return t->vocab.eos; }

bool exo_tokenizer_is_end(const exo_tokenizer *t, int32_t id) {
    for (uint32_t i = 0; i < t->vocab.n_end_ids; i++) {
        if (t->vocab.end_ids[i] == id) return true;
    }
    return false;
}

exo_str exo_tokenizer_piece(const exo_tokenizer *t, int32_t id) {
    const exo_vocab *v = &t->vocab;
    if (id < 0 || (uint32_t)id >= v->n) return (exo_str){"", 0};
    const exo_token *token = &v->tokens[id];
    return (exo_str){(const char *)v->blob + token->text, token->n_text};
}

/* ---- ids ---- */

void exo_ids_finish(exo_ids *ids) {
    exo_free(ids->ids);
    *ids = (exo_ids){0};
}

bool exo_ids_push(exo_ids *ids, int32_t id) {
    if (exo_grow((void **)&ids->ids, &ids->cap, ids->n + 1, sizeof *ids->ids) != 0) return false;
    ids->ids[ids->n++] = id;
    return true;
}

/* ---- a call ---- */

exo_status exo_ids_no_memory(exo_error *err) {
    return exo_error_set(err, EXO_ENOMEM, "out of memory for the ids");
}

/* Each byte that is no part of a well-formed sequence becomes U+FFFD, as in llama.cpp. */
static bool repair(exo_tokenize_call *c, const uint8_t *s, size_t n) {
    for (const uint8_t *end = s + n; s < end; s++) {
        size_t valid = exo_utf8_valid(s, (size_t)(end - s));
        exo_buf_append(&c->repaired, s, valid);
        s += valid;
        if (s == end) break;
        exo_buf_append(&c->repaired, replacement, 3);
    }
    return exo_buf_ok(&c->repaired);
}

static exo_status begin(exo_tokenize_call *c, size_t *n, exo_error *err) {
    bool ok = true;
    exo_vocab_kind kind = c->t->vocab.kind; /* these two take broken bytes as they come */
    if (kind != EXO_VOCAB_SPM && kind != EXO_VOCAB_UGM && exo_utf8_valid(c->text, *n) != *n) {
        ok = repair(c, c->text, *n);
        c->text = (const uint8_t *)exo_buf_str(&c->repaired);
        *n = c->repaired.n;
    }
    if (ok && *n > MAX_TEXT_BYTES)
        return exo_error_set(err, EXO_ETOOLONG, "a text of %zu bytes; 2 GiB is the limit", *n);
    if (ok && c->t->pre != NULL) {
        c->match = exo_pretokenizer_scratch_create(c->t->pre);
        ok = c->match != NULL;
    }
    if (ok && c->t->pipeline != NULL) {
        c->scratch = exo_calloc(1, sizeof *c->scratch);
        ok = c->scratch != NULL && exo_pipeline_scratch_init(c->scratch, err) == EXO_OK;
    }
    if (!ok) return exo_error_set(err, EXO_ENOMEM, "out of memory for the tokenizer");
    return exo_words_init(c, *n, err);
}

static void finish(exo_tokenize_call *c) {
    exo_pretokenizer_scratch_destroy(c->match);
    exo_merger_finish(&c->merger);
    exo_buf_finish(&c->repaired);
    exo_buf_finish(&c->escaped);
    exo_buf_finish(&c->normal);
    if (c->scratch != NULL) exo_pipeline_scratch_finish(c->scratch);
    exo_free(c->scratch);
    exo_free(c->words);
    exo_free(c->best);
}

static exo_status plain_text(exo_tokenize_call *c, exo_str str, bool first, exo_error *err) {
    const uint8_t *s = (const uint8_t *)str.s;
    size_t n = str.n;
    if (c->t->pipeline != NULL) return exo_hf_text(c, str, first, err);
    switch (c->t->vocab.kind) {
    case EXO_VOCAB_SPM: return exo_spm_text(c, s, n, err);
    case EXO_VOCAB_BPE: return exo_bpe_text(c, s, n, err);
    case EXO_VOCAB_WPM: return exo_wpm_text(c, s, n, err);
    case EXO_VOCAB_UGM: return exo_ugm_text(c, s, n, err);
    case EXO_VOCAB_HF: break; /* has a pipeline */
    }
    return EXO_OK;
}

static bool push_all(exo_ids *ids, const int32_t *more, size_t n) {
    bool ok = true;
    for (size_t i = 0; ok && i < n; i++) ok = exo_ids_push(ids, more[i]);
    return ok;
}

static bool push_before(const exo_tokenizer *t, exo_ids *ids) {
    const exo_pipeline *p = t->pipeline;
    if (p != NULL && p->framed) return push_all(ids, p->before, p->n_before);
    return !t->vocab.add_bos || exo_ids_push(ids, t->vocab.bos);
}

static bool push_after(const exo_tokenizer *t, exo_ids *ids) {
    const exo_pipeline *p = t->pipeline;
    const exo_vocab *v = &t->vocab;
    if (p != NULL && p->framed) return push_all(ids, p->after, p->n_after);
    return (!v->add_eos || exo_ids_push(ids, v->eos)) && (!v->add_sep || exo_ids_push(ids, v->sep));
}

exo_status exo_tokenize(const exo_tokenizer *t, const char *text, size_t n, unsigned flags,
                        exo_ids *ids, exo_error *err) {
    exo_tokenize_call c = {
        .t = t, .text = (const uint8_t *)text, .ids = ids, .first_id = ids->n, .flags = flags};
    bool add = (flags & EXO_TOKENIZE_BOS) != 0, ok = true;
    exo_status status = begin(&c, &n, err);
    if (status == EXO_OK && add) ok = push_before(t, ids);
    if (status == EXO_OK && ok) {
        exo_str all = {(const char *)c.text, n};
        status = exo_special_split(&c, &t->special, all, true, plain_text, err);
    }
    if (status == EXO_OK && ok && add) ok = push_after(t, ids);
    finish(&c);
    if (status == EXO_OK && !ok) status = exo_ids_no_memory(err);
    if (status != EXO_OK) ids->n = c.first_id;
    return status;
}
