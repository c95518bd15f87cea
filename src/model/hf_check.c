/* hf_check.c - whether config.json and the tensors tell the same about each other.
 *
 * Sizes are checked against shapes when the model is bound (model_tensors.c).  What has no size,
 * a bias that is there or not, and an id, is checked here: transformers would leave out what a
 * file has too much, and fill what it lacks with random numbers. */
#include "model/hf_impl.h"

#include <stdio.h>
#include <string.h>

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

/* ---- biases ---- */

/* Tensors that one member of config.json stands for. */
typedef struct {
    const char *member; /* or EXO_HF_ALWAYS, EXO_HF_NEVER; NULL: not checked */
    const char *suffixes[4];
} bias_rule;

static bool wanted(const exo_hf_tensors *s, const char *member) {
    if (strcmp(member, EXO_HF_ALWAYS) == 0) return true;
    return json_is_true(json_object_get(s->config, member));
}

static void describe(const exo_hf_tensors *s, const char *member, char out[96]) {
    bool named = strcmp(member, EXO_HF_ALWAYS) != 0 && strcmp(member, EXO_HF_NEVER) != 0;
    if (named) {
        snprintf(out, 96, "config.json says %s %s", member, wanted(s, member) ? "true" : "false");
    } else {
        snprintf(out, 96, "a %s model has %s such bias", s->arch->model_type,
                 wanted(s, member) ? "always" : "no");
    }
}

static exo_status refuse_stray(const exo_hf_tensors *s, const bias_rule *rule, exo_error *err) {
    char says[96];
    for (size_t i = 0; i < s->n_tensors; i++) {
        const char *name = s->tensors[i].name.s;
        for (const char *const *end = rule->suffixes; *end != NULL; end++) {
            if (strncmp(name, "blk.", 4) != 0 || !ends_with(name, *end)) continue;
            describe(s, rule->member, says);
            return exo_error_set(err, EXO_EFORMAT, "%s, but tensor '%s' is there", says, name);
        }
    }
    return EXO_OK;
}

/* The weight whose bias it is: some layers, or fused tensors, have none. */
static bool has_weight(const exo_hf_tensors *s, const char *bias) {
    char name[64];
    snprintf(name, sizeof name, "%.*s.weight", (int)(strlen(bias) - strlen(".bias")), bias);
    return exo_hf_tensors_find(s, name) != NULL;
}

static exo_status refuse_missing(const exo_hf_tensors *s, const bias_rule *rule, exo_error *err) {
    uint32_t n_layers = exo_hf_n_layers(s->config);
    char says[96], name[64];
    for (uint32_t il = 0; il < n_layers && il < s->n_tensors; il++) {
        for (const char *const *end = rule->suffixes; *end != NULL; end++) {
            snprintf(name, sizeof name, "blk.%u.%s", il, *end);
            if (!has_weight(s, name) || exo_hf_tensors_find(s, name) != NULL) continue;
            describe(s, rule->member, says);
            return exo_error_set(err, EXO_EFORMAT, "%s, but tensor '%s' is missing", says, name);
        }
    }
    return EXO_OK;
}

exo_status exo_hf_check_biases(const exo_hf_tensors *s, exo_error *err) {
    const bias_rule rules[] = {
        {s->arch->qkv_bias, {"attn_q.bias", "attn_k.bias", "attn_v.bias", NULL}},
        {s->arch->o_bias, {"attn_output.bias", NULL}},
        {s->arch->ffn_bias, {"ffn_gate.bias", "ffn_up.bias", "ffn_down.bias", NULL}},
    };
    exo_status st = EXO_OK;
    for (size_t i = 0; i < sizeof rules / sizeof *rules && st == EXO_OK; i++) {
        const char *member = rules[i].member;
        if (member == NULL) continue;
        const json_t *v = json_object_get(s->config, member);
        if (v != NULL && !json_is_boolean(v) && !json_is_null(v)) {
            return exo_error_set(err, EXO_EFORMAT, "config.json: %s is neither true nor false",
                                 member);
        }
        st =
            wanted(s, member) ? refuse_missing(s, &rules[i], err) : refuse_stray(s, &rules[i], err);
    }
    return st;
}

/* ---- the head ---- */

/* Enough to tell another head from the embedding, without reading gigabytes. */
#define HEAD_LOOKED_AT (1u << 20)

exo_status exo_hf_check_head(const exo_hf_tensors *s, exo_error *err) {
    const exo_tensor *embedding = exo_hf_tensors_find(s, "token_embd.weight");
    uint64_t n = s->head_bytes < HEAD_LOOKED_AT ? s->head_bytes : HEAD_LOOKED_AT;
    if (s->head == NULL) return EXO_OK;
    if (embedding->bytes == s->head_bytes && memcmp(embedding->data, s->head, (size_t)n) == 0) {
        return EXO_OK;
    }
    return exo_error_set(err, EXO_EFORMAT,
                         "config.json says tie_word_embeddings true, or nothing, which means that "
                         "in a %s model, but tensor 'lm_head.weight' is not the embedding",
                         s->arch->model_type);
}

/* ---- ids ---- */

static exo_status check_id(const json_t *v, const char *name, uint64_t n_rows, exo_error *err) {
    if (!json_is_integer(v)) {
        return exo_error_set(err, EXO_EFORMAT, "%s is no token id, nor a list of them", name);
    }
    json_int_t id = json_integer_value(v);
    if (id >= 0 && (uint64_t)id < n_rows) return EXO_OK;
    return exo_error_set(err, EXO_EFORMAT, "%s is %lld, but the embedding has %llu rows", name,
                         (long long)id, (unsigned long long)n_rows);
}

exo_status exo_hf_check_ids(const json_t *config, uint64_t n_rows, exo_error *err) {
    static const char *const names[] = {"bos_token_id", "eos_token_id"};
    exo_status st = EXO_OK;
    const json_t *size = json_object_get(config, "vocab_size");
    if (json_is_number(size) && json_number_value(size) != (double)n_rows) {
        return exo_error_set(err, EXO_EFORMAT,
                             "config.json says vocab_size %.0f, but the embedding has %llu rows",
                             json_number_value(size), (unsigned long long)n_rows);
    }
    for (size_t i = 0; i < sizeof names / sizeof *names && st == EXO_OK; i++) {
        const json_t *v = json_object_get(config, names[i]);
        if (v == NULL || json_is_null(v)) continue;
        if (!json_is_array(v)) st = check_id(v, names[i], n_rows, err);
        for (size_t k = 0; k < json_array_size(v) && st == EXO_OK; k++) {
            st = check_id(json_array_get(v, k), names[i], n_rows, err);
        }
    }
    return st;
}
