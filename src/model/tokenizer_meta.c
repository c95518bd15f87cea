/* tokenizer_meta.c - what the metadata say about the use of a vocabulary: BOS and its like, what
 * ends an answer, spaces, normalisation.
 *
 * Owns the defaults of each kind, which are those of llama.cpp, since files are written for it.
 * An id that is no token is an error; a missing one is not, unless every text needs it. */
#include "model/tokenizer_impl.h"

#include "base/mem.h"
#include "model/charsmap.h"
#include "model/gguf_part.h"

#include <string.h>

#define CHARSMAP           "tokenizer.ggml.precompiled_charsmap"
#define MAX_CHARSMAP_BYTES (64u << 20)

/* ---- tokens that end an answer, whatever the metadata name ---- */

static const char *const end_names[] = {
    "</s>",
    "<eos>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<turn|>",
    "<|tool_response>",
    "<EOT>",
    "_<EOT>",
    "[EOS]",
    "[EOT]",
    "[e~[",
    "<end_of_utterance>",
    "<|return|>",
    "<|call|>",
    "<|calls|>",
    "<|flush|>",
    "<｜end▁of▁sentence｜>",
};

bool exo_vocab_is_end_name(exo_str s) {
    if (s.n < 4 || s.n > 32) return false;
    for (size_t i = 0; i < sizeof end_names / sizeof end_names[0]; i++) {
        if (strlen(end_names[i]) == s.n && memcmp(end_names[i], s.s, s.n) == 0) return true;
    }
    return false;
}

void exo_vocab_add_end(exo_vocab *v, int32_t id) {
    for (uint32_t i = 0; i < v->n_end_ids; i++) {
        if (v->end_ids[i] == id) return;
    }
    if (id >= 0 && v->n_end_ids < EXO_VOCAB_MAX_END_IDS) v->end_ids[v->n_end_ids++] = id;
}

/* Where all of `beside` end an answer too, `name` does not: it ends one message of it. */
static const struct {
    const char *name, *beside[2];
} not_ends[] = {
    {"<|end|>", {"<|return|>", "<|call|>"}},   /* gpt-oss */
    {"<|end|>", {"<|calls|>", "<|flush|>"}},   /* Solar */
    {"<|end|>", {"<|call|>", "<|flush|>"}},    /* Solar */
    {"</s>", {"<|tool_response>", "<turn|>"}}, /* Gemma 4 */
};

/* The position in end_ids, or n_end_ids. */
static uint32_t find_end(const exo_vocab *v, const char *name) {
    uint32_t i = 0;
    for (; i < v->n_end_ids; i++) {
        const exo_token *t = &v->tokens[v->end_ids[i]];
        if (t->n_text == strlen(name) && memcmp(v->blob + t->text, name, t->n_text) == 0) break;
    }
    return i;
}

static void drop_not_ends(exo_vocab *v) {
    for (size_t i = 0; i < sizeof not_ends / sizeof not_ends[0]; i++) {
        uint32_t at = find_end(v, not_ends[i].name);
        if (at == v->n_end_ids || v->end_ids[at] == v->eos ||
            find_end(v, not_ends[i].beside[0]) == v->n_end_ids ||
            find_end(v, not_ends[i].beside[1]) == v->n_end_ids)
            continue;
        v->end_ids[at] = v->end_ids[--v->n_end_ids];
    }
}

/* ---- ids and flags ---- */

static void set_defaults(exo_vocab *v, unsigned pre) {
    v->bos = v->eos = v->unk = v->sep = EXO_NO_TOKEN;
    switch (v->kind) {
    case EXO_VOCAB_SPM:
        v->unk = 0;
        v->bos = 1;
        v->eos = 2;
        v->add_bos = v->add_space_prefix = true;
        break;
    case EXO_VOCAB_WPM:
        v->unk = 100;
        v->bos = 101;
        v->sep = 102;
        v->lowercase = true;
        break;
    case EXO_VOCAB_UGM:
        v->eos = 1;
        v->unk = 2;
        v->add_eos = true;
        break;
    case EXO_VOCAB_BPE: v->add_bos = (pre & EXO_PRE_BOS) != 0; break;
    case EXO_VOCAB_HF: v->add_space_prefix = v->pipeline->leads_with_space; break;
    }
    int32_t *const ids[] = {&v->bos, &v->eos, &v->unk, &v->sep};
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        if (*ids[i] >= (int64_t)v->n) *ids[i] = EXO_NO_TOKEN;
    }
}

static exo_status read_id(const exo_vocab *v, const exo_gguf *g, const char *key, int32_t *id,
                          exo_error *err) {
    uint32_t value;
    if (!exo_gguf_has(g, key)) return EXO_OK;
    if (!exo_gguf_u32(g, key, &value)) {
        const exo_gguf_kv *kv = exo_gguf_part_find(exo_gguf_head(g), key);
        int64_t number;
        bool none = kv->type != EXO_GGUF_ARRAY && exo_gguf_kv_i64(kv, 0, &number) && number == -1;
        if (none) return EXO_OK; /* as some files say it */
        return exo_error_set(err, EXO_EFORMAT, "%s is no id of a token", key);
    }
    if (value >= v->n)
        return exo_error_set(err, EXO_EFORMAT, "%s is %u, but there are %u tokens", key, value,
                             v->n);
    *id = (int32_t)value;
    return EXO_OK;
}

static exo_status read_ids(exo_vocab *v, const exo_gguf *g, exo_error *err) {
    int32_t eot = EXO_NO_TOKEN, eom = EXO_NO_TOKEN, cls = EXO_NO_TOKEN, unused = EXO_NO_TOKEN;
    const struct {
        const char *key;
        int32_t *id;
    } ids[] = {
        {"tokenizer.ggml.bos_token_id", &v->bos},
        {"tokenizer.ggml.eos_token_id", &v->eos},
        {"tokenizer.ggml.unknown_token_id", &v->unk},
        {"tokenizer.ggml.seperator_token_id", &v->sep}, /* spelled so in files */
        {"tokenizer.ggml.cls_token_id", &cls},
        {"tokenizer.ggml.eot_token_id", &eot},
        {"tokenizer.ggml.eom_token_id", &eom},
        {"tokenizer.ggml.padding_token_id", &unused}, /* looked at, in case it is nonsense */
        {"tokenizer.ggml.mask_token_id", &unused},
    };
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        exo_status status = read_id(v, g, ids[i].key, ids[i].id, err);
        if (status != EXO_OK) return status;
    }
    if (cls != EXO_NO_TOKEN && v->kind == EXO_VOCAB_WPM &&
        !exo_gguf_has(g, "tokenizer.ggml.bos_token_id"))
        v->bos = cls;
    exo_vocab_add_end(v, v->eos);
    exo_vocab_add_end(v, eot);
    exo_vocab_add_end(v, eom);
    drop_not_ends(v);
    return EXO_OK;
}

/* Keeps the default where the file is silent. */
static exo_status read_flag(const exo_gguf *g, const char *key, bool *flag, exo_error *err) {
    if (!exo_gguf_has(g, key) || exo_gguf_bool(g, key, flag)) return EXO_OK;
    return exo_error_set(err, EXO_EFORMAT, "%s is neither true nor false", key);
}

static exo_status read_flags(exo_vocab *v, const exo_gguf *g, unsigned pre, exo_error *err) {
    bool spaces = v->kind == EXO_VOCAB_SPM || v->kind == EXO_VOCAB_UGM, strips = false;
    const struct {
        const char *key;
        bool *flag;
    } flags[] = {
        {"tokenizer.ggml.add_bos_token", &v->add_bos},
        {"tokenizer.ggml.add_eos_token", &v->add_eos},
        {"tokenizer.ggml.remove_extra_whitespaces", &v->remove_extra_spaces},
        {"tokenizer.ggml.normalizer.lowercase", &v->lowercase},
        {"tokenizer.ggml.normalizer.strip_accents", &strips},
        {"tokenizer.ggml.add_space_prefix", &v->add_space_prefix},
    };
    size_t n = sizeof flags / sizeof flags[0] - (spaces ? 0 : 1);
    exo_status status = EXO_OK;
    for (size_t i = 0; status == EXO_OK && i < n; i++)
        status = read_flag(g, flags[i].key, flags[i].flag, err);
    bool own = exo_gguf_has(g, "tokenizer.ggml.normalizer.strip_accents");
    v->strip_accents = own ? strips : v->lowercase;
    if ((pre & EXO_PRE_WHOLE_NEWLINES) != 0) v->add_bos = true; /* Gemma 4's files say no */
    if (v->kind == EXO_VOCAB_WPM) { /* [CLS] text [SEP], whatever the file says */
        v->add_bos = v->add_sep = true;
        v->add_eos = false;
    }
    return status;
}

static exo_status check_wanted(const exo_vocab *v, exo_error *err) {
    const struct {
        bool wanted;
        int32_t id;
        const char *what, *key;
    } all[] = {
        {v->add_bos, v->bos, "BOS", "bos_token_id"},
        {v->add_eos, v->eos, "EOS", "eos_token_id"},
        {v->add_sep, v->sep, "SEP", "seperator_token_id"},
        {v->kind == EXO_VOCAB_WPM || v->kind == EXO_VOCAB_UGM, v->unk, "an unknown token",
         "unknown_token_id"},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (all[i].wanted && all[i].id == EXO_NO_TOKEN)
            return exo_error_set(err, EXO_EFORMAT, "the model wants %s, but names no %s",
                                 all[i].what, all[i].key);
    }
    return EXO_OK;
}

/* ---- the map of characters ---- */

static exo_status read_charsmap(exo_vocab *v, const exo_gguf *g, exo_error *err) {
    exo_gguf_type elem;
    size_t n;
    int64_t byte;
    if (v->kind != EXO_VOCAB_UGM || !exo_gguf_has(g, CHARSMAP)) return EXO_OK;
    if (!exo_gguf_array(g, CHARSMAP, &elem, &n) || (elem != EXO_GGUF_U8 && elem != EXO_GGUF_I8))
        return exo_error_set(err, EXO_EFORMAT, "%s is not an array of bytes", CHARSMAP);
    if (n == 0) return EXO_OK;
    if (n > MAX_CHARSMAP_BYTES)
        return exo_error_set(err, EXO_EFORMAT, "%s has %zu bytes", CHARSMAP, n);
    v->charsmap = exo_malloc(n);
    if (v->charsmap == NULL)
        return exo_error_set(err, EXO_ENOMEM, "out of memory for the vocabulary");
    for (size_t i = 0; i < n; i++) {
        if (exo_gguf_array_i64(g, CHARSMAP, i, &byte)) v->charsmap[i] = (uint8_t)byte;
    }
    v->n_charsmap = n;
    if (!exo_charsmap_is_whole(v->charsmap, n))
        return exo_error_set(err, EXO_EFORMAT,
                             "%s: its %zu bytes are not a table and the texts it points to",
                             CHARSMAP, n);
    return EXO_OK;
}

exo_status exo_vocab_read_meta(exo_vocab *v, const exo_gguf *g, const exo_vocab_desc *desc,
                               exo_error *err) {
    set_defaults(v, desc->pre);
    exo_status status = read_ids(v, g, err);
    if (status != EXO_OK) return status;
    status = read_flags(v, g, desc->pre, err);
    if (status == EXO_OK) status = check_wanted(v, err);
    return status == EXO_OK ? read_charsmap(v, g, err) : status;
}
