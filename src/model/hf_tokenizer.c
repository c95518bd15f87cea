/* hf_tokenizer.c - tokenizer.json and its companions to the tokenizer keys of a GGUF file.
 *
 * Byte-level BPE that cuts words in a way with a name becomes "gpt2" with its merges.  BPE with
 * byte fallback is SentencePiece's in other clothes and becomes "llama": a token's score is minus
 * the rank of the first merge that makes it, which merges in the same order.  WordPiece as BERT has
 * it becomes "bert", where words begin with U+2581 instead of going on with "##".  These load in
 * other programs, too.  Anything else has no name there and is "huggingface".
 * All but BERT's carry a description of what the file says about text (pipeline.h), by which exo
 * gives the ids that the file's own library gives. */
#include "model/hf_vocab.h"

#include "base/mem.h"
#include "model/pipeline.h"

#include <stdlib.h>
#include <string.h>

#define MAX_TOKENS (1u << 24)

/* ---- what is added to every text ---- */

/* "<s>", or {"content": "<s>", ...} */
static const char *token_text(const json_t *from, const char *name) {
    const json_t *v = json_object_get(from, name);
    return json_is_object(v) ? exo_hf_text_of(v, "content") : exo_hf_text_of(from, name);
}

/* Some classes rebuild their post-processor from the configuration. */
static bool rebuilds(const json_t *config) {
    const char *class = exo_hf_text_of(config, "tokenizer_class");
    return strncmp(class, "Llama", 5) == 0 || strncmp(class, "CodeLlama", 9) == 0 ||
           strncmp(class, "Gemma", 5) == 0;
}

/* Adds the tokens of a template that special_tokens leave out, where the vocabulary has them. */
static bool explain_template(const exo_hf_vocab *v, json_t *template) {
    json_t *known = json_object_get(template, "special_tokens"), *item;
    size_t i;
    bool ok = true;
    if (!json_is_object(known)) {
        known = json_object();
        ok = json_object_set_new(template, "special_tokens", known) == 0;
    }
    json_array_foreach(json_object_get(template, "single"), i, item) {
        const char *name = exo_hf_text_of(json_object_get(item, "SpecialToken"), "id");
        if (!ok || name[0] == '\0' || json_object_get(known, name) != NULL) continue;
        int64_t id = exo_hf_find_token(v, name);
        if (id >= 0)
            ok = json_object_set_new(known, name, json_pack("{s:[I]}", "ids", (json_int_t)id)) == 0;
    }
    return ok;
}

static bool explain_templates(const exo_hf_vocab *v, json_t *post, int depth) {
    json_t *all = json_object_get(post, "processors"), *p;
    size_t i;
    if (strcmp(exo_hf_text_of(post, "type"), "TemplateProcessing") == 0)
        return explain_template(v, post);
    bool ok = true;
    if (depth == 0) return ok;
    json_array_foreach(all, i, p) ok = ok && explain_templates(v, p, depth - 1);
    return ok;
}

/* v->post: as the file has it, with its templates explained. */
static exo_status copy_post(exo_hf_vocab *v) {
    const json_t *post = json_object_get(v->texts->tokenizer, "post_processor");
    v->post = post != NULL ? json_deep_copy(post) : json_null();
    if (v->post != NULL && explain_templates(v, v->post, 8)) return EXO_OK;
    return exo_error_set(v->err, EXO_ENOMEM, "out of memory for a tokenizer");
}

/* What a text is put between. */
typedef struct {
    bool add_bos, add_eos;
    bool by_flags; /* and by nothing else */
} frame;

static exo_status read_frame(const exo_hf_vocab *v, int64_t bos, int64_t eos, frame *out) {
    const json_t *config = v->texts->tokenizer_config;
    const json_t *own_bos = json_object_get(config, "add_bos_token");
    const json_t *own_eos = json_object_get(config, "add_eos_token");
    exo_pipeline *p = exo_calloc(1, sizeof *p);
    if (p == NULL) return exo_error_set(v->err, EXO_ENOMEM, "out of memory for a tokenizer");
    exo_status st = exo_pipeline_read_frame(p, v->post, v->n, v->err);
    if (st == EXO_OK) {
        bool free_to_say = rebuilds(config) || p->n_before + p->n_after == 0;
        out->add_bos = p->n_before > 0 && p->before[0] == bos;
        out->add_eos = p->n_after > 0 && p->after[p->n_after - 1] == eos;
        out->by_flags = free_to_say && (json_is_boolean(own_bos) || json_is_boolean(own_eos));
        if (free_to_say && json_is_boolean(own_bos)) out->add_bos = json_is_true(own_bos);
        if (free_to_say && json_is_boolean(own_eos)) out->add_eos = json_is_true(own_eos);
        out->add_bos = out->add_bos && bos >= 0;
        out->add_eos = out->add_eos && eos >= 0;
    }
    exo_free(p);
    return st == EXO_OK ? st : exo_error_wrap(v->err, st, "tokenizer.json");
}

static void add_id(const exo_hf_vocab *v, const char *key, int64_t id) {
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

static int64_t named_or_numbered(const exo_hf_vocab *v, const char *text, const char *number) {
    int64_t id = text[0] != '\0' ? exo_hf_find_token(v, text) : -1;
    if (id < 0) id = id_at(v->texts->config, number, 0);
    if (id < 0) id = id_at(v->texts->generation, number, 0);
    return id;
}

static exo_status add_special(const exo_hf_vocab *v, frame *f) {
    const json_t *config = v->texts->tokenizer_config;
    static const char *const more[] = {"tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    int64_t bos = named_or_numbered(v, token_text(config, "bos_token"), "bos_token_id");
    int64_t eos = named_or_numbered(v, token_text(config, "eos_token"), "eos_token_id");
    const char *unk = exo_hf_unknown_text(v);
    add_id(v, "tokenizer.ggml.bos_token_id", bos);
    add_id(v, "tokenizer.ggml.eos_token_id", eos);
    if (unk[0] != '\0') add_id(v, "tokenizer.ggml.unknown_token_id", exo_hf_find_token(v, unk));
    const char *pad = token_text(config, "pad_token");
    if (pad[0] != '\0') add_id(v, "tokenizer.ggml.padding_token_id", exo_hf_find_token(v, pad));
    size_t n_more = 0; /* other tokens that end an answer */
    const json_t *ends = v->texts->generation;
    if (id_at(ends, "eos_token_id", 0) < 0) ends = v->texts->config;
    for (size_t k = 0; k < 8 && n_more < 2; k++) {
        int64_t id = id_at(ends, "eos_token_id", k);
        if (id < 0 || id == eos || id >= v->n) continue;
        add_id(v, more[n_more++], id);
    }
    exo_status st = read_frame(v, bos, eos, f);
    if (st != EXO_OK) return st;
    exo_gguf_add_bool(v->w, "tokenizer.ggml.add_bos_token", f->add_bos);
    exo_gguf_add_bool(v->w, "tokenizer.ggml.add_eos_token", f->add_eos);
    return EXO_OK;
}

/* ---- the template ---- */

static void add_template(const exo_hf_vocab *v) {
    const exo_hf_texts *t = v->texts;
    const json_t *own = json_object_get(t->tokenizer_config, "chat_template");
    const char *s = t->chat_template;
    size_t n = t->n_chat_template;
    if (json_is_array(own)) { /* several by name: the default one */
        const json_t *first = json_array_get(own, 0);
        for (size_t i = 0; i < json_array_size(own); i++) {
            if (strcmp(exo_hf_text_of(json_array_get(own, i), "name"), "default") == 0) {
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
    if (strcmp(exo_hf_text_of(from, "type"), type) == 0) return true;
    for (size_t i = 0; i < json_array_size(all); i++) {
        if (strcmp(exo_hf_text_of(json_array_get(all, i), "type"), type) == 0) return true;
    }
    return false;
}

/* SentencePiece puts a space before a text: as a normalizer, or as a pre-tokenizer. */
static bool adds_space(const json_t *tokenizer) {
    const json_t *pre = json_object_get(tokenizer, "pre_tokenizer");
    if (has_step(json_object_get(tokenizer, "normalizer"), "normalizers", "Prepend")) return true;
    if (strcmp(exo_hf_text_of(pre, "type"), "Metaspace") != 0) return false;
    const char *scheme = exo_hf_text_of(pre, "prepend_scheme");
    if (scheme[0] != '\0') return strcmp(scheme, "never") != 0;
    return !json_is_false(json_object_get(pre, "add_prefix_space"));
}

/* BERT's own: what tokenizer_wpm.c does. */
static bool is_bert(const exo_hf_vocab *v) {
    const json_t *t = v->texts->tokenizer, *normalizer = json_object_get(t, "normalizer");
    const json_t *max = json_object_get(v->model, "max_input_chars_per_word");
    const json_t *added = json_object_get(t, "added_tokens");
    const char *pre = exo_hf_text_of(json_object_get(t, "pre_tokenizer"), "type");
    bool usual = strcmp(exo_hf_text_of(normalizer, "type"), "BertNormalizer") == 0 &&
                 !json_is_false(json_object_get(normalizer, "clean_text")) &&
                 !json_is_false(json_object_get(normalizer, "handle_chinese_chars")) &&
                 strcmp(pre, "BertPreTokenizer") == 0 &&
                 strcmp(exo_hf_text_of(v->model, "continuing_subword_prefix"), "##") == 0 &&
                 (!json_is_integer(max) || json_integer_value(max) == 100);
    for (size_t i = 0; usual && i < json_array_size(added); i++) {
        static const char *const odd[] = {"lstrip", "rstrip", "single_word", "normalized"};
        for (size_t k = 0; k < sizeof odd / sizeof *odd; k++)
            usual = usual && !json_is_true(json_object_get(json_array_get(added, i), odd[k]));
    }
    return usual;
}

/* [CLS] text [SEP], which a "bert" file means without saying so. */
static bool is_bert_frame(const exo_hf_vocab *v, int64_t cls, int64_t sep) {
    exo_pipeline *p = exo_calloc(1, sizeof *p);
    bool usual = p != NULL && exo_pipeline_read_frame(p, v->post, v->n, NULL) == EXO_OK &&
                 p->n_before == 1 && p->n_after == 1 && p->before[0] == cls && p->after[0] == sep;
    exo_free(p);
    return usual;
}

static int64_t bert_id(const exo_hf_vocab *v, const char *name, const char *usual) {
    const char *text = token_text(v->texts->tokenizer_config, name);
    return exo_hf_find_token(v, text[0] != '\0' ? text : usual);
}

static void add_bert(const exo_hf_vocab *v) {
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
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        add_id(v, ids[i].key, bert_id(v, ids[i].name, ids[i].usual));
    exo_gguf_add_str(v->w, "tokenizer.ggml.model", "bert");
    exo_gguf_add_bool(v->w, "tokenizer.ggml.normalizer.lowercase", lowercase);
    exo_gguf_add_bool(v->w, "tokenizer.ggml.normalizer.strip_accents",
                      json_is_boolean(strip) ? json_is_true(strip) : lowercase);
}

/* Whether each byte has its stand-in: then nothing is unknown. */
static bool has_all_bytes(const exo_hf_vocab *v) {
    const json_t *vocab = json_object_get(v->model, "vocab");
    exo_buf text = {0};
    bool all = true;
    for (int b = 0; all && b < 256; b++) {
        uint8_t byte = (uint8_t)b;
        exo_buf_clear(&text);
        exo_append_stand_ins(&text, &byte, 1);
        all = json_object_get(vocab, exo_buf_str(&text)) != NULL;
    }
    exo_buf_finish(&text);
    return all;
}

/* Spaces are U+2581, and characters that the vocabulary lacks are bytes. */
static bool is_sentence_piece(const exo_hf_vocab *v) {
    const json_t *t = v->texts->tokenizer;
    bool spaces = has_step(json_object_get(t, "normalizer"), "normalizers", "Replace") ||
                  has_step(json_object_get(t, "normalizer"), "normalizers", "Prepend") ||
                  has_step(json_object_get(t, "pre_tokenizer"), "pretokenizers", "Metaspace");
    return v->byte_fallback && spaces && !json_is_true(json_object_get(v->model, "ignore_merges"));
}

static bool has_part(const exo_hf_vocab *v, const char *name) {
    return exo_hf_text_of(v->model, name)[0] != '\0';
}

static exo_hf_form form_of_bpe(exo_hf_vocab *v) {
    bool whole_words =
        !has_part(v, "continuing_subword_prefix") && !has_part(v, "end_of_word_suffix");
    v->pre = exo_hf_pre_name(v->texts->tokenizer, &v->exactly);
    if (whole_words && v->pre != NULL && has_all_bytes(v)) return EXO_HF_AS_GPT2;
    return whole_words && is_sentence_piece(v) ? EXO_HF_AS_LLAMA : EXO_HF_AS_OWN;
}

static exo_status find_form(exo_hf_vocab *v) {
    static const char *const known[] = {"BPE", "Unigram", "WordPiece", "WordLevel"};
    const char *type = exo_hf_text_of(v->model, "type");
    bool merges = json_is_array(json_object_get(v->model, "merges")), found = false;
    if (type[0] == '\0' && merges) type = "BPE";
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        found = found || strcmp(known[i], type) == 0;
    if (!found)
        return exo_error_set(v->err, EXO_EUNSUPPORTED,
                             "tokenizer.json: model type \"%.32s\" is not supported (BPE, Unigram, "
                             "WordPiece and WordLevel are)",
                             type);
    v->bpe = strcmp(type, "BPE") == 0;
    v->unigram = strcmp(type, "Unigram") == 0;
    v->byte_fallback = json_is_true(json_object_get(v->model, "byte_fallback"));
    if (v->bpe && !merges)
        return exo_error_set(v->err, EXO_EFORMAT,
                             "tokenizer.json: model.merges is no list, and BPE cannot do without");
    v->form = EXO_HF_AS_OWN;
    if (v->bpe) v->form = form_of_bpe(v);
    if (strcmp(type, "WordPiece") == 0 && is_bert(v)) v->form = EXO_HF_AS_BERT;
    return EXO_OK;
}

/* ---- the description ---- */

static bool copy_member(json_t *to, const json_t *from, const char *name) {
    json_t *v = json_object_get(from, name);
    return v == NULL || json_object_set(to, name, v) == 0;
}

static json_t *describe(const exo_hf_vocab *v, const frame *f) {
    static const char *const of_model[] = {"byte_fallback",      "fuse_unk",
                                           "ignore_merges",      "continuing_subword_prefix",
                                           "end_of_word_suffix", "max_input_chars_per_word"};
    const json_t *t = v->texts->tokenizer;
    const char *type = exo_hf_text_of(v->model, "type");
    json_t *model = json_object(), *d = json_object();
    bool ok = json_object_set_new(model, "type", json_string(type[0] != '\0' ? type : "BPE")) == 0;
    for (size_t i = 0; i < sizeof of_model / sizeof *of_model; i++)
        ok = ok && copy_member(model, v->model, of_model[i]);
    ok = json_object_set_new(d, "model", model) == 0 && ok;
    ok = ok && copy_member(d, t, "normalizer") && copy_member(d, t, "decoder");
    if (ok && !(v->form == EXO_HF_AS_GPT2 && v->exactly)) {
        json_t *pre = json_object_get(t, "pre_tokenizer");
        ok = json_object_set(d, "pre_tokenizer", pre != NULL ? pre : json_null()) == 0;
    }
    if (ok && !f->by_flags) ok = json_object_set(d, "post_processor", v->post) == 0;
    if (ok) return d;
    json_decref(d);
    return NULL;
}

/* Written, and tried out: what exo cannot do is said now. */
static exo_status add_description(const exo_hf_vocab *v, const frame *f) {
    json_t *d = describe(v, f);
    char *text = d != NULL ? json_dumps(d, JSON_COMPACT) : NULL;
    exo_pipeline *p = NULL;
    exo_status st = EXO_ENOMEM;
    if (text == NULL) {
        (void)exo_error_set(v->err, st, "out of memory for a tokenizer");
    } else {
        st = exo_pipeline_create((exo_str){text, strlen(text)}, v->n, &p, v->err);
        if (st != EXO_OK) st = exo_error_wrap(v->err, st, "tokenizer.json");
        exo_gguf_add_str(v->w, EXO_KEY_PIPELINE, text);
    }
    exo_pipeline_destroy(p);
    free(text);
    json_decref(d);
    return st;
}

/* ---- the whole ---- */

static void add_names(const exo_hf_vocab *v) {
    const char *model = v->form == EXO_HF_AS_GPT2    ? "gpt2"
                        : v->form == EXO_HF_AS_LLAMA ? "llama"
                                                     : EXO_TOKENIZER_OWN;
    exo_gguf_add_str(v->w, "tokenizer.ggml.model", model);
    if (v->form == EXO_HF_AS_GPT2) exo_gguf_add_str(v->w, "tokenizer.ggml.pre", v->pre);
    if (v->form != EXO_HF_AS_LLAMA) return;
    exo_gguf_add_str(v->w, "tokenizer.ggml.pre", "default");
    exo_gguf_add_bool(v->w, "tokenizer.ggml.add_space_prefix", adds_space(v->texts->tokenizer));
}

static exo_status add_all(exo_hf_vocab *v) {
    frame f = {0};
    exo_status st = find_form(v);
    if (st == EXO_OK) st = exo_hf_read_vocab(v);
    if (st == EXO_OK && v->form == EXO_HF_AS_LLAMA) st = exo_hf_score_by_merges(v);
    if (st == EXO_OK) st = exo_hf_read_added(v);
    if (st == EXO_OK) st = copy_post(v);
    if (st != EXO_OK) return st;
    if (v->form == EXO_HF_AS_BERT &&
        !is_bert_frame(v, bert_id(v, "cls_token", "[CLS]"), bert_id(v, "sep_token", "[SEP]")))
        v->form = EXO_HF_AS_OWN;
    if (v->form == EXO_HF_AS_BERT) {
        add_bert(v);
        exo_hf_add_entries(v);
        return EXO_OK;
    }
    add_names(v);
    if (v->bpe) st = exo_hf_add_merges(v);
    if (st == EXO_OK) st = add_special(v, &f);
    if (st == EXO_OK) st = add_description(v, &f);
    if (st != EXO_OK) return st;
    exo_hf_add_added(v);
    exo_hf_add_entries(v);
    add_template(v);
    return EXO_OK;
}

exo_status exo_hf_add_tokenizer(const exo_hf_texts *t, uint32_t n_rows, exo_gguf_writer *w,
                                exo_error *err) {
    exo_hf_vocab v = {.texts = t,
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
    json_decref(v.post);
    return st;
}
