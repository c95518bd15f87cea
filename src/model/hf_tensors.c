/* hf_tensors.c - the tensors of a folder under the names and in the types of a GGUF file.
 *
 * Which tensors there must be and of what shape is model_tensors.c's, as for any file; here names
 * are translated, types are checked, and what a vector is gets widened, since norms and biases are
 * f32 in GGUF files.  What becomes several tensors, or is one of several, is hf_stack.c's. */
#include "model/hf_impl.h"

#include "base/half.h"
#include "base/le.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

static bool find_type(const exo_safetensor *t, exo_hf_how how, exo_dtype *out) {
    static const struct {
        const char *name;
        exo_dtype type;
    } types[] = {{"BF16", EXO_BF16}, {"F16", EXO_F16}, {"F32", EXO_F32}};
    bool mxfp4 = how == EXO_HF_BLOCKS || how == EXO_HF_SCALES || how == EXO_HF_BLOCKS_PAIR ||
                 how == EXO_HF_SCALES_PAIR;
    *out = EXO_MXFP4;
    if (mxfp4) return strcmp(t->dtype, "U8") == 0;
    for (size_t i = 0; i < 3; i++) {
        if (strcmp(types[i].name, t->dtype) != 0) continue;
        *out = types[i].type;
        return true;
    }
    return false;
}

/* All of a tensor as f32; add: what the weights of some norms lack. */
static exo_status widen(exo_hf_tensors *s, const exo_safetensor *from, float add, exo_tensor *t,
                        exo_error *err) {
    uint64_t n = from->bytes * 8 / from->elem_bits;
    uint8_t *out =
        n < EXO_HF_VECTOR_LIMIT / 4 ? exo_arena_alloc(&s->memory, n > 0 ? 4 * (size_t)n : 4) : NULL;
    if (out == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for a vector");
    for (size_t i = 0; i < n; i++) {
        float v = t->type == EXO_F32   ? exo_get_f32(from->data + 4 * i)
                  : t->type == EXO_F16 ? exo_f16_to_f32(exo_get_u16(from->data + 2 * i))
                                       : exo_bf16_to_f32(exo_get_u16(from->data + 2 * i));
        exo_put_f32(out + 4 * i, v + add);
    }
    t->type = EXO_F32;
    t->data = out;
    t->bytes = 4 * n;
    return EXO_OK;
}

exo_tensor *exo_hf_tensors_find(const exo_hf_tensors *s, const char *name) {
    for (size_t i = s->n_tensors; i-- > 0;) { /* what belongs together comes together */
        if (strcmp(s->tensors[i].name.s, name) == 0) return &s->tensors[i];
    }
    return NULL;
}

exo_status exo_hf_tensors_push(exo_hf_tensors *s, const char *name, const exo_tensor *t,
                               exo_error *err) {
    char *copy = exo_arena_strndup(&s->memory, name, strlen(name));
    if (copy == NULL || exo_grow((void **)&s->tensors, &s->cap_tensors, s->n_tensors + 1,
                                 sizeof *s->tensors) != 0) {
        return exo_error_set(err, EXO_ENOMEM, "out of memory for tensors");
    }
    s->tensors[s->n_tensors] = *t;
    s->tensors[s->n_tensors++].name = (exo_str){copy, strlen(copy)};
    return EXO_OK;
}

/* ---- one of their tensors ---- */

static bool has_dims(uint32_t n, exo_hf_how how) {
    switch (how) {
    case EXO_HF_BLOCKS:
    case EXO_HF_BLOCKS_PAIR: return n == 4;
    case EXO_HF_SCALES:
    case EXO_HF_SCALES_PAIR:
    case EXO_HF_STACK:
    case EXO_HF_GATE_UP:
    case EXO_HF_TURNED:
    case EXO_HF_TURNED_PAIR: return n == 3;
    case EXO_HF_EXPERT:
    case EXO_HF_HALVES:
    case EXO_HF_GROUPS:
    case EXO_HF_BIAS_PAIR: return n == 2;
    case EXO_HF_AS_IS:
    case EXO_HF_WIDE:
    case EXO_HF_FLAT:
    case EXO_HF_NOT_NEEDED: break;
    }
    return n == 1 || n == 2;
}

static exo_status read_shape(const exo_safetensor *from, exo_hf_how how, exo_tensor *t,
                             exo_error *err) {
    if (!find_type(from, how, &t->type)) {
        return exo_error_set(err, EXO_EUNSUPPORTED, "it is %s (%s supported)", from->dtype,
                             t->type == EXO_MXFP4 ? "only U8 is" : "BF16, F16 and F32 are");
    }
    if (!has_dims(from->n_dims, how)) {
        return exo_error_set(err, EXO_EFORMAT, "it has %u dimensions", from->n_dims);
    }
    t->n_dims = from->n_dims;
    for (uint32_t i = 0; i < EXO_MAX_DIMS; i++) {
        t->dims[i] = i < from->n_dims ? from->shape[from->n_dims - 1 - i] : 1;
        if (t->dims[i] != 0) continue;
        return exo_error_set(err, EXO_EFORMAT, "dimension %u of its shape is 0",
                             from->n_dims - 1 - i);
    }
    if (how == EXO_HF_FLAT && t->dims[1] == 1) t->n_dims = 1;
    return EXO_OK;
}

static bool is_norm(const char *name) {
    size_t n = strlen(name);
    return n > 11 && strcmp(name + n - 11, "norm.weight") == 0;
}

/* Layers behind the last that guess further tokens: left out. */
static bool is_extra(const exo_hf_tensors *s, const char *name) {
    unsigned layer, n = exo_hf_n_layers(s->config);
    if (!exo_hf_has_member(s->arch, "num_nextn_predict_layers")) return false;
    double extra = exo_hf_number_or(s->config, "num_nextn_predict_layers", 0);
    return sscanf(name, "model.layers.%6u.", &layer) == 1 && layer >= n && layer < n + extra;
}

static exo_status add(exo_hf_tensors *s, const exo_safetensor *from, const exo_hf_place *place,
                      exo_error *err) {
    exo_tensor t = {.data = from->data, .bytes = from->bytes};
    exo_status st = read_shape(from, place->how, &t, err);
    bool wide = t.n_dims == 1 || place->how == EXO_HF_WIDE || place->how == EXO_HF_BIAS_PAIR;
    if (st == EXO_OK && wide) {
        bool less = s->arch->norms_less_1 && is_norm(place->name);
        st = widen(s, from, less ? 1.0f : 0.0f, &t, err);
    }
    if (st != EXO_OK) return st;
    bool plain =
        place->how == EXO_HF_AS_IS || place->how == EXO_HF_WIDE || place->how == EXO_HF_FLAT;
    return plain ? exo_hf_tensors_push(s, place->name, &t, err)
                 : exo_hf_stack_add(s, place, &t, err);
}

exo_status exo_hf_tensors_add(exo_hf_tensors *s, const exo_safetensor *from, exo_error *err) {
    exo_hf_place place;
    if (is_extra(s, from->name)) return EXO_OK;
    if (exo_hf_is_vision(from->name)) {
        s->n_vision++;
        return EXO_OK;
    }
    if (!exo_hf_find_name(s->arch, from->name, &place)) {
        return exo_error_set(err, EXO_EUNSUPPORTED, "it has no place in a %s model",
                             s->arch->model_type);
    }
    if (place.how == EXO_HF_NOT_NEEDED) return EXO_OK;
    if (s->tied && strcmp(place.name, "output.weight") == 0) {
        s->head = from->data;
        s->head_bytes = from->bytes;
        return EXO_OK;
    }
    return add(s, from, &place, err);
}

/* ---- all of them ---- */

static exo_status add_rope_factors(exo_hf_tensors *s, exo_error *err) {
    exo_hf_factors factors;
    for (int which = 0; exo_hf_rope_factors(s->config, s->arch, which, &factors); which++) {
        uint8_t *bytes = exo_arena_alloc(&s->memory, 4 * (size_t)factors.n);
        if (bytes == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for a vector");
        for (uint32_t i = 0; i < factors.n; i++) exo_put_f32(bytes + 4 * (size_t)i, factors.v[i]);
        exo_tensor t = {.type = EXO_F32,
                        .n_dims = 1,
                        .dims = {factors.n, 1, 1, 1},
                        .data = bytes,
                        .bytes = 4 * (uint64_t)factors.n};
        exo_status st = exo_hf_tensors_push(s, factors.name, &t, err);
        if (st != EXO_OK) return st;
    }
    return EXO_OK;
}

exo_status exo_hf_tensors_end(exo_hf_tensors *s, exo_error *err) {
    exo_status st = add_rope_factors(s, err);
    if (st == EXO_OK) st = exo_hf_stack_end(s, err);
    if (st == EXO_OK) st = exo_hf_check_biases(s, err);
    if (st != EXO_OK) return st;
    if (exo_hf_tensors_find(s, "token_embd.weight") == NULL) {
        return exo_error_set(err, EXO_EFORMAT, "tensor 'model.embed_tokens.weight' is missing");
    }
    if (s->tied) return exo_hf_check_head(s, err);
    if (exo_hf_tensors_find(s, "output.weight") != NULL) return EXO_OK;
    return exo_error_set(err, EXO_EFORMAT,
                         "config.json says tie_word_embeddings false, or nothing, which means that "
                         "in a %s model, but tensor 'lm_head.weight' is missing",
                         s->arch->model_type);
}
