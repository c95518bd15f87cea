/* hf_tokenizer.c - tokenizer.json and its companions to the tokenizer keys of a GGUF file.
 *
 * Three kinds are known.  Byte-level BPE becomes "gpt2" with its merges.  BPE with byte fallback is
 * SentencePiece's in other clothes and becomes "llama": a token's score is minus the rank of the
 * first merge that makes it, which merges in the same order.
 * WordPiece becomes "bert", where words begin with U+2581 instead of going on with "##".
 * The embedding may have more rows than there are tokens; the rest are unused ones. */
#include "model/hf_impl.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

#define MAX_TOKENS    (1u << 24)
#define NOWHERE_SCORE (-1e9f) /* of a token that no merge makes */

typedef enum { /* tokenizer.ggml.token_type */
               TYPE_NORMAL = 1,
               TYPE_UNKNOWN = 2,
               TYPE_CONTROL = 3,
               TYPE_USER_DEFINED = 4,
               TYPE_UNUSED = 5,
               TYPE_BYTE = 6,
} token_type;

typedef struct {
    const char *s; /* NULL: a gap */
    size_t n;
    token_type type;
    float score;
} entry;

typedef struct {
    const exo_hf_texts *texts;
    const json_t *model; /* of tokenizer.json */
    entry *entries;      /* (n) */
    uint32_t n;
    bool byte_level, word_piece;
    exo_gguf_writer *w;
    exo_error *err;
} vocab;

static const char *text_of(const json_t *from, const char *name) {
    const char *s = json_string_value(json_object_get(from, name));
    return s != NULL ? s : "";
}

/* ---- entries ---- */

static exo_status put_entry(vocab *v, const char *s, size_t n, const json_t *id, token_type type) {
    json_int_t i = json_is_integer(id) ? json_integer_value(id) : -1;
    if (i < 0 || i >= (json_int_t)v->n) {
        return exo_error_set(v->err, EXO_EFORMAT,
                             "tokenizer.json: token \"%.40s\" has id %lld, but the embedding has "
                             "%u rows",
                             s, (long long)i, v->n);
    }
    entry *e = &v->entries[i];
    bool same = e->s != NULL && e->n == n && memcmp(e->s, s, n) == 0;
    if (e->s != NULL && !same) {
        return exo_error_set(v->err, EXO_EFORMAT,
                             "tokenizer.json: \"%.40s\" and \"%.40s\" both have id %lld", e->s, s,
                             (long long)i);
    }
    *e = (entry){s, n, type, NOWHERE_SCORE};
    return EXO_OK;
}

static bool is_byte_token(const char *s, size_t n) {
    return n == 6 && memcmp(s, "<0x", 3) == 0 && s[5] == '>' &&
           strspn(s + 3, "0123456789ABCDEFabcdef") == 2;
}

static exo_status read_vocab(vocab *v) {
    json_t *all = json_object_get(v->model, "vocab"), *id;
    const char *s, *unk = text_of(v->model, "unk_token");
    if (!json_is_object(all) || json_object_size(all) == 0) {
        return exo_error_set(v->err, EXO_EFORMAT, "tokenizer.json: model.vocab is no object");
    }
    exo_status st = EXO_OK;
    json_object_foreach(all, s, id) {
        size_t n = strlen(s);
        token_type type = TYPE_NORMAL;
        if (!v->byte_level && !v->word_piece && is_byte_token(s, n)) type = TYPE_BYTE;
        if (!v->byte_level && unk[0] != '\0' && strcmp(s, unk) == 0) type = TYPE_UNKNOWN;
        st = put_entry(v, s, n, id, type);
        if (st != EXO_OK) break;
    }
    return st;
}

static exo_status read_added(vocab *v) {
    const json_t *all = json_object_get(v->texts->tokenizer, "added_tokens");
    exo_status st = EXO_OK;
    for (size_t i = 0; i < json_array_size(all) && st == EXO_OK; i++) {
        const json_t *t = json_array_get(all, i), *content = json_object_get(t, "content");
        const json_t *id = json_object_get(t, "id");
        if (!json_is_string(content)) {
            return exo_error_set(v->err, EXO_EFORMAT,
                                 "tokenizer.json: added token %zu has no content", i);
        }
        const char *s = json_string_value(content);
        bool special = json_is_true(json_object_get(t, "special"));
        json_int_t k = json_integer_value(id);
        bool unknown = json_is_integer(id) && k >= 0 && k < (json_int_t)v->n &&
                       v->entries[k].type == TYPE_UNKNOWN;
        st = put_entry(v, s, json_string_length(content), id,
                       unknown   ? TYPE_UNKNOWN
                       : special ? TYPE_CONTROL
                                 : TYPE_USER_DEFINED);
    }
    return st;
}

static int64_t find_token(const vocab *v, const char *s) {
    const json_t *id = json_object_get(json_object_get(v->model, "vocab"), s);
    if (json_is_integer(id)) return json_integer_value(id); /* checked when it was read */
    const json_t *all = json_object_get(v->texts->tokenizer, "added_tokens");
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *t = json_array_get(all, i);
        if (strcmp(text_of(t, "content"), s) == 0)
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

static exo_status bad_merge(const vocab *v, size_t i) {
    return exo_error_set(v->err, EXO_EFORMAT, "tokenizer.json: merge %zu is no pair of tokens", i);
}

static exo_status add_merges(const vocab *v, const json_t *merges) {
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

static exo_status score_by_merges(vocab *v, const json_t *merges) {
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
        exo_buf_clear(&text);
        exo_buf_append(&text, a, n_a);
        exo_buf_append(&text, b, n_b);
        const json_t *id = json_object_get(ids, exo_buf_str(&text));
        if (!json_is_integer(id)) {
            st = exo_error_set(v->err, EXO_EFORMAT,
                               "tokenizer.json: merge %zu makes \"%.40s\", which is no token", i,
                               exo_buf_str(&text));
            break;
        }
        entry *e = &v->entries[json_integer_value(id)];
        if (e->score == NOWHERE_SCORE) e->score = -(float)i;
    }
    exo_buf_finish(&text);
    return st;
}

/* ---- writing ---- */

/* A token as GGUF files spell it.  What is in brackets stands for itself. */
static void put_text(const vocab *v, const char *s, size_t n) {
    exo_buf *out = &v->w->kvs;
    bool begins = v->word_piece && (n < 3 || s[0] != '[' || s[n - 1] != ']');
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

static void add_entries(const vocab *v) {
    char pad[32];
    exo_gguf_add_array(v->w, "tokenizer.ggml.tokens", EXO_GGUF_STRING, v->n);
    for (uint32_t i = 0; i < v->n; i++) {
        const entry *e = &v->entries[i];
        int n = snprintf(pad, sizeof pad, "[PAD%u]", i);
        put_text(v, e->s != NULL ? e->s : pad, e->s != NULL ? e->n : (size_t)n);
    }
    exo_gguf_add_array(v->w, "tokenizer.ggml.token_type", EXO_GGUF_I32, v->n);
    for (uint32_t i = 0; i < v->n; i++) {
        token_type type = v->entries[i].s != NULL ? v->entries[i].type : TYPE_UNUSED;
        exo_gguf_put_u32(&v->w->kvs, (uint32_t)type);
    }
    if (v->byte_level || v->word_piece) return;
    exo_gguf_add_array(v->w, "tokenizer.ggml.scores", EXO_GGUF_F32, v->n);
    for (uint32_t i = 0; i < v->n; i++) {
        uint32_t bits;
        memcpy(&bits, &v->entries[i].score, sizeof bits);
        exo_gguf_put_u32(&v->w->kvs, bits);
    }
}

/* ---- what is added to every text ---- */

/* "<s>", or {"content": "<s>", ...} */
static const char *token_text(const json_t *from, const char *name) {
    const json_t *v = json_object_get(from, name);
    return json_is_object(v) ? text_of(v, "content") : text_of(from, name);
}

/* The post-processor that has a template, if there is one. */
static const json_t *find_template(const json_t *post) {
    const json_t *all = json_object_get(post, "processors");
    if (strcmp(text_of(post, "type"), "TemplateProcessing") == 0) return post;
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *p = json_array_get(all, i);
        if (strcmp(text_of(p, "type"), "TemplateProcessing") == 0) return p;
    }
    return NULL;
}

static const char *special_at(const json_t *single, size_t i) {
    return text_of(json_object_get(json_array_get(single, i), "SpecialToken"), "id");
}

static void add_flags(const vocab *v, const char *bos, const char *eos) {
    const json_t *config = v->texts->tokenizer_config;
    const json_t *post = find_template(json_object_get(v->texts->tokenizer, "post_processor"));
    const json_t *single = json_object_get(post, "single");
    size_t n = json_array_size(single);
    bool add_bos = n > 0 && bos[0] != '\0' && strcmp(special_at(single, 0), bos) == 0;
    bool add_eos = n > 1 && eos[0] != '\0' && strcmp(special_at(single, n - 1), eos) == 0;
    /* Some classes rebuild their post-processor from the configuration. */
    const char *class = text_of(config, "tokenizer_class");
    bool rebuilt = strncmp(class, "Llama", 5) == 0 || strncmp(class, "CodeLlama", 9) == 0 ||
                   strncmp(class, "Gemma", 5) == 0;
    const json_t *own_bos = json_object_get(config, "add_bos_token");
    const json_t *own_eos = json_object_get(config, "add_eos_token");
    if ((post == NULL || rebuilt) && json_is_boolean(own_bos)) add_bos = json_is_true(own_bos);
    if ((post == NULL || rebuilt) && json_is_boolean(own_eos)) add_eos = json_is_true(own_eos);
    exo_gguf_add_bool(v->w, "tokenizer.ggml.add_bos_token", add_bos && bos[0] != '\0');
    exo_gguf_add_bool(v->w, "tokenizer.ggml.add_eos_token", add_eos && eos[0] != '\0');
}

static void add_id(const vocab *v, const char *key, int64_t id) {
    if (id >= 0 && id < v->n) exo_gguf_add_u32(v->w, key, (uint32_t)id);
}

/* The k-th of "eos_token_id": 2 or [1, 2]; -1 for none. */
static int64_t id_at(const json_t *from, const char *name, size_t k) {
    const json_t *v = json_object_get(from, name);
    if (json_is_array(v))
        v = json_array_get(v, k);
    else if (k > 0)
        return -1;
    return json_is_integer(v) ? json_integer_value(v) : -1;
}

static int64_t named_or_numbered(const vocab *v, const char *text, const char *number) {
    int64_t id = text[0] != '\0' ? find_token(v, text) : -1;
    if (id < 0) id = id_at(v->texts->config, number, 0);
    if (id < 0) id = id_at(v->texts->generation, number, 0);
    return id;
}

static const char *text_at(const vocab *v, int64_t id) {
    return id >= 0 && id < v->n && v->entries[id].s != NULL ? v->entries[id].s : "";
}

static void add_special(const vocab *v) {
    const json_t *config = v->texts->tokenizer_config;
    static const char *const more[] = {"tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    int64_t bos = named_or_numbered(v, token_text(config, "bos_token"), "bos_token_id");
    int64_t eos = named_or_numbered(v, token_text(config, "eos_token"), "eos_token_id");
    const char *unk = text_of(v->model, "unk_token");
    add_id(v, "tokenizer.ggml.bos_token_id", bos);
    add_id(v, "tokenizer.ggml.eos_token_id", eos);
    if (unk[0] != '\0') add_id(v, "tokenizer.ggml.unknown_token_id", find_token(v, unk));
    const char *pad = token_text(config, "pad_token");
    if (pad[0] != '\0') add_id(v, "tokenizer.ggml.padding_token_id", find_token(v, pad));
    size_t n_more = 0; /* other tokens that end an answer */
    const json_t *ends = v->texts->generation;
    if (id_at(ends, "eos_token_id", 0) < 0) ends = v->texts->config;
    for (size_t k = 0; k < 8 && n_more < 2; k++) {
        int64_t id = id_at(ends, "eos_token_id", k);
        if (id < 0 || id == eos || id >= v->n) continue;
        add_id(v, more[n_more++], id);
    }
    add_flags(v, text_at(v, bos), text_at(v, eos));
}

/* ---- the template ---- */

static void add_template(const vocab *v) {
    const exo_hf_texts *t = v->texts;
    const json_t *own = json_object_get(t->tokenizer_config, "chat_template");
    const char *s = t->chat_template;
    size_t n = t->n_chat_template;
    if (json_is_array(own)) { /* several by name: the default one */
        const json_t *first = json_array_get(own, 0);
        for (size_t i = 0; i < json_array_size(own); i++) {
            if (strcmp(text_of(json_array_get(own, i), "name"), "default") == 0) {
                first = json_array_get(own, i);
            }
        }
        own = json_object_get(first, "template");
    }
    if (s == NULL && own == NULL) own = json_object_get(t->chat_template_json, "chat_template");
    if (s == NULL && json_is_string(own)) {
        s = json_string_value(own);
        n = json_string_length(own);
    }
    if (s != NULL) exo_gguf_add_strn(v->w, "tokenizer.chat_template", s, n);
}

/* ---- kinds ---- */

static bool has_step(const json_t *from, const char *list, const char *type) {
    const json_t *all = json_object_get(from, list);
    if (strcmp(text_of(from, "type"), type) == 0) return true;
    for (size_t i = 0; i < json_array_size(all); i++) {
        if (strcmp(text_of(json_array_get(all, i), "type"), type) == 0) return true;
    }
    return false;
}

/* SentencePiece puts a space before a text: as a normalizer, or as a pre-tokenizer. */
static bool adds_space(const json_t *tokenizer) {
    const json_t *pre = json_object_get(tokenizer, "pre_tokenizer");
    if (has_step(json_object_get(tokenizer, "normalizer"), "normalizers", "Prepend")) return true;
    if (strcmp(text_of(pre, "type"), "Metaspace") != 0) return false;
    const char *scheme = text_of(pre, "prepend_scheme");
    if (scheme[0] != '\0') return strcmp(scheme, "never") != 0;
    return !json_is_false(json_object_get(pre, "add_prefix_space"));
}

/* BERT's own: what tokenizer_wpm.c does. */
static exo_status check_word_piece(const vocab *v) {
    const json_t *t = v->texts->tokenizer, *normalizer = json_object_get(t, "normalizer");
    const char *prefix = text_of(v->model, "continuing_subword_prefix");
    bool usual = strcmp(text_of(normalizer, "type"), "BertNormalizer") == 0 &&
                 !json_is_false(json_object_get(normalizer, "clean_text")) &&
                 !json_is_false(json_object_get(normalizer, "handle_chinese_chars"));
    const char *pre = text_of(json_object_get(t, "pre_tokenizer"), "type");
    if (usual && strcmp(pre, "BertPreTokenizer") == 0 && strcmp(prefix, "##") == 0) return EXO_OK;
    return exo_error_set(v->err, EXO_EUNSUPPORTED,
                         "tokenizer.json: WordPiece with another normalizer or pre-tokenizer than "
                         "BERT's is not supported");
}

static void add_word_piece(const vocab *v) {
    const json_t *normalizer = json_object_get(v->texts->tokenizer, "normalizer");
    const json_t *strip = json_object_get(normalizer, "strip_accents");
    bool lowercase = !json_is_false(json_object_get(normalizer, "lowercase"));
    const struct {
        const char *name, *usual, *key;
    } ids[] = {
        {"cls_token", "[CLS]", "tokenizer.ggml.bos_token_id"},
        {"cls_token", "[CLS]", "tokenizer.ggml.cls_token_id"},
        {"sep_token", "[SEP]", "tokenizer.ggml.seperator_token_id"},
        {"unk_token", "[UNK]", "tokenizer.ggml.unknown_token_id"},
        {"pad_token", "[PAD]", "tokenizer.ggml.padding_token_id"},
        {"mask_token", "[MASK]", "tokenizer.ggml.mask_token_id"},
    };
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        const char *text = token_text(v->texts->tokenizer_config, ids[i].name);
        add_id(v, ids[i].key, find_token(v, text[0] != '\0' ? text : ids[i].usual));
    }
    exo_gguf_add_str(v->w, "tokenizer.ggml.model", "bert");
    exo_gguf_add_bool(v->w, "tokenizer.ggml.normalizer.lowercase", lowercase);
    exo_gguf_add_bool(v->w, "tokenizer.ggml.normalizer.strip_accents",
                      json_is_boolean(strip) ? json_is_true(strip) : lowercase);
}

static exo_status find_kind(vocab *v) {
    const json_t *t = v->texts->tokenizer;
    const char *type = text_of(v->model, "type");
    v->word_piece = strcmp(type, "WordPiece") == 0;
    if (v->word_piece) return check_word_piece(v);
    bool merges = json_is_array(json_object_get(v->model, "merges"));
    if ((type[0] != '\0' && strcmp(type, "BPE") != 0) || !merges) {
        return exo_error_set(v->err, EXO_EUNSUPPORTED,
                             "tokenizer.json: model type \"%.32s\" is "
                             "not supported (BPE and WordPiece are)",
                             type);
    }
    v->byte_level = has_step(json_object_get(t, "pre_tokenizer"), "pretokenizers", "ByteLevel") ||
                    has_step(json_object_get(t, "decoder"), "decoders", "ByteLevel");
    if (v->byte_level || json_is_true(json_object_get(v->model, "byte_fallback"))) return EXO_OK;
    return exo_error_set(v->err, EXO_EUNSUPPORTED,
                         "tokenizer.json: BPE that is neither byte-level "
                         "nor has byte_fallback is not supported");
}

static exo_status add_all(vocab *v) {
    const json_t *merges = json_object_get(v->model, "merges");
    const char *pre;
    exo_status st = find_kind(v);
    if (st == EXO_OK) st = read_vocab(v);
    if (st == EXO_OK && !v->byte_level && !v->word_piece) st = score_by_merges(v, merges);
    if (st == EXO_OK) st = read_added(v);
    if (st != EXO_OK) return st;
    if (v->word_piece) {
        add_word_piece(v);
        add_entries(v);
        return EXO_OK;
    }
    exo_gguf_add_str(v->w, "tokenizer.ggml.model", v->byte_level ? "gpt2" : "llama");
    if (v->byte_level) {
        st = exo_hf_pre_name(v->texts->tokenizer, &pre, v->err);
        if (st != EXO_OK) return st;
        exo_gguf_add_str(v->w, "tokenizer.ggml.pre", pre);
        st = add_merges(v, merges);
        if (st != EXO_OK) return st;
    } else {
        exo_gguf_add_str(v->w, "tokenizer.ggml.pre", "default");
        exo_gguf_add_bool(v->w, "tokenizer.ggml.add_space_prefix", adds_space(v->texts->tokenizer));
    }
    add_entries(v);
    add_special(v);
    add_template(v);
    return EXO_OK;
}

exo_status exo_hf_add_tokenizer(const exo_hf_texts *t, uint32_t n_rows, exo_gguf_writer *w,
                                exo_error *err) {
    vocab v = {.texts = t,
               .model = json_object_get(t->tokenizer, "model"),
               .n = n_rows,
               .w = w,
               .err = err};
    if (n_rows == 0 || n_rows > MAX_TOKENS) {
        return exo_error_set(err, EXO_EFORMAT, "the embedding has %u rows", n_rows);
    }
    v.entries = exo_calloc(n_rows, sizeof *v.entries);
    if (v.entries == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for a vocabulary");
    exo_status st = add_all(&v);
    exo_free(v.entries);
    return st;
}
