/* hf_vocab.c - entries and merges of a tokenizer.json, checked and written as GGUF arrays.
 *
 * The embedding may have more rows than there are tokens; the rest are unused ones.  Of a token
 * that only added_tokens has, the model knows nothing. */
#include "model/hf_vocab.h"

#include "base/mem.h"
#include "model/pipeline.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define NOWHERE_SCORE (-1e9) /* of a token that no merge makes */

const char *exo_hf_text_of(const json_t *from, const char *name) {
    const char *s = json_string_value(json_object_get(from, name));
    return s != NULL ? s : "";
}

/* ---- entries ---- */

static exo_status put_entry(const exo_hf_vocab *v, const json_t *id, const exo_hf_entry *new) {
    json_int_t i = json_is_integer(id) ? json_integer_value(id) : -1;
    if (i < 0 || i >= (json_int_t)v->n) {
        return exo_error_set(v->err, EXO_EFORMAT,
                             "tokenizer.json: token \"%.40s\" has id %lld, but the embedding has "
                             "%u rows",
                             new->s, (long long)i, v->n);
    }
    exo_hf_entry *e = &v->entries[i];
    bool same = e->s != NULL && e->n == new->n &&memcmp(e->s, new->s, new->n) == 0;
    if (e->s != NULL && !same) {
        return exo_error_set(v->err, EXO_EFORMAT,
                             "tokenizer.json: \"%.40s\" and \"%.40s\" both have id %lld", e->s,
                             new->s, (long long)i);
    }
    bool in_model = e->in_model || new->in_model;
    double score = e->in_model ? e->score : new->score;
    *e = *new;
    e->in_model = in_model;
    e->score = score;
    return EXO_OK;
}

static bool is_byte_token(const char *s, size_t n) {
    return n == 6 && memcmp(s, "<0x", 3) == 0 && s[5] == '>' &&
           strspn(s + 3, "0123456789ABCDEFabcdef") == 2;
}

const char *exo_hf_unknown_text(const exo_hf_vocab *v) {
    const json_t *id = json_object_get(v->model, "unk_id");
    const json_t *all = json_object_get(v->model, "vocab");
    if (!v->unigram) return exo_hf_text_of(v->model, "unk_token");
    const json_t *piece = NULL;
    if (json_is_integer(id) && json_integer_value(id) >= 0)
        piece = json_array_get(json_array_get(all, (size_t)json_integer_value(id)), 0);
    return json_is_string(piece) ? json_string_value(piece) : "";
}

static exo_hf_token_type type_of(const exo_hf_vocab *v, const char *s, size_t n, const char *unk) {
    if (v->form == EXO_HF_AS_GPT2) return EXO_HF_NORMAL;
    if (unk[0] != '\0' && strcmp(s, unk) == 0) return EXO_HF_UNKNOWN;
    return v->byte_fallback && is_byte_token(s, n) ? EXO_HF_BYTE : EXO_HF_NORMAL;
}

/* Unigram's: [["a", -3.5], ...] */
static exo_status read_pieces(exo_hf_vocab *v, const json_t *all) {
    const char *unk = exo_hf_unknown_text(v);
    exo_status st = EXO_OK;
    if (!json_is_array(all) || json_array_size(all) == 0)
        return exo_error_set(v->err, EXO_EFORMAT, "tokenizer.json: model.vocab is no list");
    for (size_t i = 0; st == EXO_OK && i < json_array_size(all); i++) {
        const json_t *piece = json_array_get(json_array_get(all, i), 0);
        const json_t *score = json_array_get(json_array_get(all, i), 1);
        if (!json_is_string(piece) || !json_is_number(score) || !isfinite(json_number_value(score)))
            return exo_error_set(v->err, EXO_EFORMAT,
                                 "tokenizer.json: model.vocab[%zu] is no pair of a text and a "
                                 "number",
                                 i);
        exo_hf_entry e = {.s = json_string_value(piece),
                          .n = json_string_length(piece),
                          .in_model = true,
                          .score = json_number_value(score)};
        e.type = type_of(v, e.s, e.n, unk);
        json_t *id = json_integer((json_int_t)i);
        st = id != NULL ? put_entry(v, id, &e)
                        : exo_error_set(v->err, EXO_ENOMEM, "out of memory for a vocabulary");
        json_decref(id);
    }
    return st;
}

exo_status exo_hf_read_vocab(exo_hf_vocab *v) {
    json_t *all = json_object_get(v->model, "vocab"), *id;
    const char *s, *unk = exo_hf_unknown_text(v);
    exo_status st = EXO_OK;
    if (v->unigram) return read_pieces(v, all);
    if (!json_is_object(all) || json_object_size(all) == 0)
        return exo_error_set(v->err, EXO_EFORMAT, "tokenizer.json: model.vocab is no object");
    json_object_foreach(all, s, id) {
        size_t n = strlen(s);
        exo_hf_entry e = {s, n, type_of(v, s, n, unk), true, NOWHERE_SCORE};
        st = put_entry(v, id, &e);
        if (st != EXO_OK) break;
    }
    return st;
}

static exo_status read_one_added(exo_hf_vocab *v, const json_t *t, size_t i) {
    static const char *const flags[] = {"special", "lstrip", "rstrip", "single_word", "normalized"};
    const json_t *content = json_object_get(t, "content"), *id = json_object_get(t, "id");
    if (!json_is_string(content) || json_string_length(content) == 0) {
        return exo_error_set(v->err, EXO_EFORMAT, "tokenizer.json: added token %zu has no content",
                             i);
    }
    for (size_t k = 0; k < sizeof flags / sizeof *flags; k++) {
        const json_t *flag = json_object_get(t, flags[k]);
        if (flag != NULL && !json_is_boolean(flag))
            return exo_error_set(v->err, EXO_EFORMAT,
                                 "tokenizer.json: \"%s\" of added token %zu is neither true nor "
                                 "false",
                                 flags[k], i);
    }
    json_int_t k = json_integer_value(id);
    bool unknown = json_is_integer(id) && k >= 0 && k < (json_int_t)v->n &&
                   v->entries[k].type == EXO_HF_UNKNOWN;
    bool special = json_is_true(json_object_get(t, "special"));
    exo_hf_entry e = {.s = json_string_value(content),
                      .n = json_string_length(content),
                      .type = unknown   ? EXO_HF_UNKNOWN
                              : special ? EXO_HF_CONTROL
                                        : EXO_HF_USER_DEFINED,
                      .score = NOWHERE_SCORE};
    return put_entry(v, id, &e);
}

exo_status exo_hf_read_added(exo_hf_vocab *v) {
    const json_t *all = json_object_get(v->texts->tokenizer, "added_tokens");
    exo_status st = EXO_OK;
    if (all != NULL && !json_is_null(all) && !json_is_array(all))
        return exo_error_set(v->err, EXO_EFORMAT, "tokenizer.json: added_tokens is no list");
    for (size_t i = 0; i < json_array_size(all) && st == EXO_OK; i++)
        st = read_one_added(v, json_array_get(all, i), i);
    return st;
}

static uint32_t flags_of(const exo_hf_vocab *v, const json_t *t) {
    static const struct {
        const char *name;
        uint32_t flag;
    } all[] = {{"lstrip", EXO_ADDED_STRIP_LEFT},
               {"rstrip", EXO_ADDED_STRIP_RIGHT},
               {"single_word", EXO_ADDED_WHOLE_WORD}};
    const json_t *normalised = json_object_get(t, "normalized");
    const exo_hf_entry *e = &v->entries[json_integer_value(json_object_get(t, "id"))];
    uint32_t flags = e->in_model ? 0 : EXO_ADDED_NO_MODEL;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (json_is_true(json_object_get(t, all[i].name))) flags |= all[i].flag;
    }
    bool usual = !json_is_true(json_object_get(t, "special"));
    if (json_is_boolean(normalised) ? json_is_true(normalised) : usual)
        flags |= EXO_ADDED_NORMALISED;
    return flags;
}

void exo_hf_add_added(const exo_hf_vocab *v) {
    const json_t *all = json_object_get(v->texts->tokenizer, "added_tokens");
    size_t n = json_array_size(all);
    exo_gguf_add_array(v->w, EXO_KEY_ADDED_IDS, EXO_GGUF_U32, n);
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_object_get(json_array_get(all, i), "id");
        exo_gguf_put_u32(&v->w->kvs, (uint32_t)json_integer_value(id));
    }
    exo_gguf_add_array(v->w, EXO_KEY_ADDED_FLAGS, EXO_GGUF_U32, n);
    for (size_t i = 0; i < n; i++)
        exo_gguf_put_u32(&v->w->kvs, flags_of(v, json_array_get(all, i)));
}

int64_t exo_hf_find_token(const exo_hf_vocab *v, const char *s) {
    const json_t *vocab = json_object_get(v->model, "vocab"), *id = json_object_get(vocab, s);
    for (size_t i = 0; v->unigram && i < json_array_size(vocab); i++) {
        if (strcmp(json_string_value(json_array_get(json_array_get(vocab, i), 0)), s) == 0)
            return (int64_t)i;
    }
    if (json_is_integer(id)) return json_integer_value(id); /* checked when it was read */
    const json_t *all = json_object_get(v->texts->tokenizer, "added_tokens");
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *t = json_array_get(all, i);
        if (strcmp(exo_hf_text_of(t, "content"), s) == 0)
            return json_integer_value(json_object_get(t, "id"));
    }
    return -1;
}

/* ---- merges ---- */

/* "a b", or ["a", "b"]. */
static bool read_merge(const json_t *m, const char **a, size_t *n_a, const char **b, size_t *n_b) {
    if (json_is_array(m) && json_array_size(m) == 2) {
        *a = json_string_value(json_array_get(m, 0));
        *b = json_string_value(json_array_get(m, 1));
        if (*a == NULL || *b == NULL) return false;
        *n_a = strlen(*a);
        *n_b = strlen(*b);
        return *n_a > 0 && *n_b > 0;
    }
    *a = json_string_value(m);
    const char *space = *a != NULL && **a != '\0' ? strchr(*a + 1, ' ') : NULL;
    if (space == NULL || space[1] == '\0') return false;
    *n_a = (size_t)(space - *a);
    *b = space + 1;
    *n_b = strlen(*b);
    return true;
}

static exo_status bad_merge(const exo_hf_vocab *v, size_t i) {
    return exo_error_set(v->err, EXO_EFORMAT, "tokenizer.json: merge %zu is no pair of tokens", i);
}

/* The two parts as one text, less what the right one begins with in the middle of a word. */
static void join_merge(const exo_hf_vocab *v, const char *a, size_t n_a, const char *b, size_t n_b,
                       exo_buf *out) {
    size_t prefix = strlen(exo_hf_text_of(v->model, "continuing_subword_prefix"));
    if (prefix > n_b) prefix = n_b;
    exo_buf_clear(out);
    exo_buf_append(out, a, n_a);
    exo_buf_append(out, b + prefix, n_b - prefix);
}

exo_status exo_hf_add_merges(const exo_hf_vocab *v) {
    const json_t *merges = json_object_get(v->model, "merges");
    exo_buf text = {0};
    exo_status st = EXO_OK;
    exo_gguf_add_array(v->w, "tokenizer.ggml.merges", EXO_GGUF_STRING, json_array_size(merges));
    for (size_t i = 0; i < json_array_size(merges) && st == EXO_OK; i++) {
        const char *a, *b;
        size_t n_a, n_b;
        if (!read_merge(json_array_get(merges, i), &a, &n_a, &b, &n_b)) {
            st = bad_merge(v, i);
            break;
        }
        if (memchr(a, ' ', n_a) != NULL || memchr(b, ' ', n_b) != NULL) {
            st = exo_error_set(v->err, EXO_EUNSUPPORTED,
                               "tokenizer.json: merge %zu has a token with a space in it", i);
            break;
        }
        exo_buf_clear(&text);
        exo_buf_append(&text, a, n_a);
        exo_buf_putc(&text, ' ');
        exo_buf_append(&text, b, n_b);
        if (!exo_buf_ok(&text)) {
            st = exo_error_set(v->err, EXO_ENOMEM, "out of memory for merges");
        } else {
            exo_gguf_put_str(&v->w->kvs, exo_buf_str(&text), text.n);
        }
    }
    exo_buf_finish(&text);
    return st;
}

exo_status exo_hf_score_by_merges(exo_hf_vocab *v) {
    const json_t *merges = json_object_get(v->model, "merges");
    exo_buf text = {0};
    const json_t *ids = json_object_get(v->model, "vocab");
    exo_status st = EXO_OK;
    for (size_t i = 0; i < json_array_size(merges) && st == EXO_OK; i++) {
        const char *a, *b;
        size_t n_a, n_b;
        if (!read_merge(json_array_get(merges, i), &a, &n_a, &b, &n_b)) {
            st = bad_merge(v, i);
            break;
        }
        join_merge(v, a, n_a, b, n_b, &text);
        const json_t *id = json_object_get(ids, exo_buf_str(&text));
        if (!json_is_integer(id)) {
            st = exo_error_set(v->err, EXO_EFORMAT,
                               "tokenizer.json: merge %zu makes \"%.40s\", which is no token", i,
                               exo_buf_str(&text));
            break;
        }
        exo_hf_entry *e = &v->entries[json_integer_value(id)];
        if (e->score == NOWHERE_SCORE) e->score = -(double)i;
    }
    exo_buf_finish(&text);
    return st;
}

/* ---- writing ---- */

/* A token as GGUF files spell it.  What is in brackets stands for itself. */
static void put_text(const exo_hf_vocab *v, const char *s, size_t n) {
    exo_buf *out = &v->w->kvs;
    bool begins = v->form == EXO_HF_AS_BERT && (n < 3 || s[0] != '[' || s[n - 1] != ']');
    bool goes_on = begins && n > 2 && memcmp(s, "##", 2) == 0;
    if (goes_on) {
        exo_gguf_put_str(out, s + 2, n - 2);
    } else if (begins) {
        exo_gguf_put_u64(out, n + 3);
        exo_buf_puts(out, "\xE2\x96\x81");
        exo_buf_append(out, s, n);
    } else {
        exo_gguf_put_str(out, s, n);
    }
}

/* In 32 bits where that loses nothing. */
static void add_scores(const exo_hf_vocab *v) {
    bool narrow = true;
    for (uint32_t i = 0; i < v->n; i++)
        narrow = narrow && (double)(float)v->entries[i].score == v->entries[i].score;
    exo_gguf_add_array(v->w, "tokenizer.ggml.scores", narrow ? EXO_GGUF_F32 : EXO_GGUF_F64, v->n);
    for (uint32_t i = 0; i < v->n; i++) {
        float score = (float)v->entries[i].score;
        uint32_t bits;
        uint64_t wide_bits;
        memcpy(&bits, &score, sizeof bits);
        memcpy(&wide_bits, &v->entries[i].score, sizeof wide_bits);
        if (narrow) {
            exo_gguf_put_u32(&v->w->kvs, bits);
        } else {
            exo_gguf_put_u64(&v->w->kvs, wide_bits);
        }
    }
}

void exo_hf_add_entries(const exo_hf_vocab *v) {
    char pad[32];
    exo_gguf_add_array(v->w, "tokenizer.ggml.tokens", EXO_GGUF_STRING, v->n);
    for (uint32_t i = 0; i < v->n; i++) {
        const exo_hf_entry *e = &v->entries[i];
        int n = snprintf(pad, sizeof pad, "[PAD%u]", i);
        put_text(v, e->s != NULL ? e->s : pad, e->s != NULL ? e->n : (size_t)n);
    }
    exo_gguf_add_array(v->w, "tokenizer.ggml.token_type", EXO_GGUF_I32, v->n);
    for (uint32_t i = 0; i < v->n; i++) {
        exo_hf_token_type type = v->entries[i].s != NULL ? v->entries[i].type : EXO_HF_UNUSED;
        exo_gguf_put_u32(&v->w->kvs, (uint32_t)type);
    }
    if (v->form == EXO_HF_AS_LLAMA || v->unigram) add_scores(v);
}
