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

static exo_status init(exo_tokenizer *t, const exo_gguf *g, exo_error *err) {
    exo_vocab_desc desc = {0};
    exo_str pre = {0};
    exo_status status = read_kind(g, &desc.kind, &pre, err);
    if (status == EXO_OK && desc.kind == EXO_VOCAB_BPE) {
        status = exo_pretokenizer_create(pre, &t->pre, err);
        if (status == EXO_OK) desc.pre = exo_pretokenizer_flags(t->pre);
    }
    if (status == EXO_OK) status = exo_vocab_init(&t->vocab, g, &desc, err);
    if (status == EXO_OK) status = exo_special_init(&t->special, &t->vocab, g, err);
    if (status != EXO_OK) return status;
    switch (desc.kind) {
    case EXO_VOCAB_SPM: break;
    case EXO_VOCAB_BPE: return exo_bpe_merges_init(&t->merges, &t->vocab, g, err);
    case EXO_VOCAB_WPM: return exo_wpm_init(t, err);
    case EXO_VOCAB_UGM: return exo_ugm_init(t, err);
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
    exo_vocab_finish(&t->vocab);
    exo_pretokenizer_destroy(t->pre);
    exo_free(t);
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
    exo_vocab_kind kind = c->t->vocab.kind; /* the other two take broken bytes as they come */
    if ((kind == EXO_VOCAB_BPE || kind == EXO_VOCAB_WPM) && exo_utf8_valid(c->text, *n) != *n) {
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
    if (!ok) return exo_error_set(err, EXO_ENOMEM, "out of memory for the tokenizer");
    return exo_words_init(c, *n, err);
}

static void finish(exo_tokenize_call *c) {
    exo_pretokenizer_scratch_destroy(c->match);
    exo_merger_finish(&c->merger);
    exo_buf_finish(&c->repaired);
    exo_buf_finish(&c->escaped);
    exo_free(c->words);
    exo_free(c->best);
}

static exo_status plain_text(exo_tokenize_call *c, const uint8_t *s, size_t n, exo_error *err) {
    if (n == 0) return EXO_OK;
    switch (c->t->vocab.kind) {
    case EXO_VOCAB_SPM: return exo_spm_text(c, s, n, err);
    case EXO_VOCAB_BPE: return exo_bpe_text(c, s, n, err);
    case EXO_VOCAB_WPM: return exo_wpm_text(c, s, n, err);
    case EXO_VOCAB_UGM: return exo_ugm_text(c, s, n, err);
    }
    return EXO_OK;
}

static bool is_blank(uint8_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static exo_status whole_text(exo_tokenize_call *c, size_t n, unsigned flags, exo_error *err) {
    const exo_tokenizer *t = c->t;
    const uint8_t *s = c->text;
    size_t done = 0; /* everything before it is in the ids */
    for (size_t i = 0; i < n;) {
        int32_t id = EXO_NO_TOKEN;
        if (t->special.first[s[i]] != 0)
            id = exo_special_match(&t->special, &t->vocab, s + i, n - i,
                                   (flags & EXO_TOKENIZE_SPECIAL) != 0);
        if (id == EXO_NO_TOKEN) {
            i++;
            continue;
        }
        const exo_token *token = &t->vocab.tokens[id];
        size_t end = i;
        while ((token->strip & EXO_STRIP_LEFT) != 0 && end > done && is_blank(s[end - 1])) end--;
        exo_status status = plain_text(c, s + done, end - done, err);
        if (status != EXO_OK) return status;
        if (!exo_ids_push(c->ids, id)) return exo_ids_no_memory(err);
        i += token->n_text;
        while ((token->strip & EXO_STRIP_RIGHT) != 0 && i < n && is_blank(s[i])) i++;
        done = i;
    }
    return plain_text(c, s + done, n - done, err);
}

exo_status exo_tokenize(const exo_tokenizer *t, const char *text, size_t n, unsigned flags,
                        exo_ids *ids, exo_error *err) {
    exo_tokenize_call c = {.t = t, .text = (const uint8_t *)text, .ids = ids, .first_id = ids->n};
    const exo_vocab *v = &t->vocab;
    bool add = (flags & EXO_TOKENIZE_BOS) != 0, ok = true;
    exo_status status = begin(&c, &n, err);
    if (status == EXO_OK && add && v->add_bos) ok = exo_ids_push(ids, v->bos);
    if (status == EXO_OK && ok) status = whole_text(&c, n, flags, err);
    if (status == EXO_OK && ok && add && v->add_eos) ok = exo_ids_push(ids, v->eos);
    if (status == EXO_OK && ok && add && v->add_sep) ok = exo_ids_push(ids, v->sep);
    finish(&c);
    if (status == EXO_OK && !ok) status = exo_ids_no_memory(err);
    if (status != EXO_OK) ids->n = c.first_id;
    return status;
}
