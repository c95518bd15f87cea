/* model_tensors.c - which tensors a model consists of, and the shape each must have.
 *
 * One table describes a layer; hyperparameters decide the numbers.  A tensor that no rule asks for
 * is an error too: leaving out a bias that a file brings would change every answer in silence. */
#include "model/hparams.h"

#include "base/mem.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define NAME_BYTES 64

typedef enum { DIM_ONE, DIM_EMBD, DIM_FF, DIM_Q, DIM_KV, DIM_HEAD, DIM_VOCAB } dim;

static uint64_t dim_size(dim d, const exo_hparams *hp) {
    switch (d) {
    case DIM_ONE: return 1;
    case DIM_EMBD: return hp->n_embd;
    case DIM_FF: return hp->n_ff;
    case DIM_Q: return (uint64_t)hp->n_heads * hp->head_dim;
    case DIM_KV: return (uint64_t)hp->n_kv_heads * hp->head_dim;
    case DIM_HEAD: return hp->head_dim;
    case DIM_VOCAB: return hp->n_vocab;
    }
    return 0;
}

static const char *dim_name(dim d) {
    static const char *const names[] = {
        "one row",
        "embedding_length",
        "feed_forward_length",
        "head_count * head_dim",
        "head_count_kv * head_dim",
        "head_dim",
        "vocabulary",
    };
    return names[d];
}

typedef enum { ALWAYS, WITH_QKV_BIAS, WITH_QK_NORM } condition;

/* One tensor of a layer; a vector (rows == DIM_ONE) is always f32. */
typedef struct {
    const char *suffix;
    size_t member; /* offset in exo_layer_tensors */
    dim cols, rows;
    condition when;
} layer_rule;

#define MEMBER(name) offsetof(exo_layer_tensors, name)
static const layer_rule layer_rules[] = {
    {"attn_norm.weight", MEMBER(attn_norm), DIM_EMBD, DIM_ONE, ALWAYS},
    {"attn_q.weight", MEMBER(q), DIM_EMBD, DIM_Q, ALWAYS},
    {"attn_k.weight", MEMBER(k), DIM_EMBD, DIM_KV, ALWAYS},
    {"attn_v.weight", MEMBER(v), DIM_EMBD, DIM_KV, ALWAYS},
    {"attn_output.weight", MEMBER(o), DIM_Q, DIM_EMBD, ALWAYS},
    {"attn_q.bias", MEMBER(q_bias), DIM_Q, DIM_ONE, WITH_QKV_BIAS},
    {"attn_k.bias", MEMBER(k_bias), DIM_KV, DIM_ONE, WITH_QKV_BIAS},
    {"attn_v.bias", MEMBER(v_bias), DIM_KV, DIM_ONE, WITH_QKV_BIAS},
    {"attn_q_norm.weight", MEMBER(q_norm), DIM_HEAD, DIM_ONE, WITH_QK_NORM},
    {"attn_k_norm.weight", MEMBER(k_norm), DIM_HEAD, DIM_ONE, WITH_QK_NORM},
    {"ffn_norm.weight", MEMBER(ffn_norm), DIM_EMBD, DIM_ONE, ALWAYS},
    {"ffn_gate.weight", MEMBER(gate), DIM_EMBD, DIM_FF, ALWAYS},
    {"ffn_up.weight", MEMBER(up), DIM_EMBD, DIM_FF, ALWAYS},
    {"ffn_down.weight", MEMBER(down), DIM_FF, DIM_EMBD, ALWAYS},
};
#undef MEMBER

static bool applies(const layer_rule *rule, const exo_hparams *hp) {
    return rule->when == ALWAYS || (rule->when == WITH_QKV_BIAS && hp->qkv_bias) ||
           (rule->when == WITH_QK_NORM && hp->qk_norm);
}

/* One pass over a file: `used` marks the tensors that some rule has asked for. */
typedef struct {
    const exo_gguf *g;
    const exo_hparams *hp;
    bool *used; /* (n_tensors) */
} binder;

static const exo_tensor *use(binder *b, const char *name) {
    const exo_tensor *t = exo_gguf_find(b->g, name);
    if (t != NULL) b->used[t - exo_gguf_tensor(b->g, 0)] = true;
    return t;
}

/* Finds a tensor and checks its shape; vectors must be f32 because they are used as they lie. */
static exo_status bind(binder *b, const char *name, const dim shape[2], const exo_tensor **out,
                       exo_error *err) {
    const exo_tensor *t = use(b, name);
    uint64_t cols = dim_size(shape[0], b->hp), rows = dim_size(shape[1], b->hp);
    if (t == NULL) return exo_error_set(err, EXO_EFORMAT, "tensor '%s' is missing", name);
    if (t->dims[0] != cols || t->dims[1] != rows || t->dims[2] != 1 || t->dims[3] != 1) {
        return exo_error_set(
            err, EXO_EFORMAT,
            "tensor '%s' is %llu x %llu%s, but the metadata ask for %llu (%s) x %llu (%s)", name,
            (unsigned long long)t->dims[0], (unsigned long long)t->dims[1],
            t->n_dims > 2 ? " x ..." : "", (unsigned long long)cols, dim_name(shape[0]),
            (unsigned long long)rows, dim_name(shape[1]));
    }
    if (shape[1] == DIM_ONE && t->type != EXO_F32) {
        return exo_error_set(err, EXO_EUNSUPPORTED,
                             "tensor '%s' is %s, norms and biases must be f32", name,
                             exo_dtype_get(t->type)->name);
    }
    if ((uintptr_t)t->data % sizeof(float) != 0) {
        return exo_error_set(err, EXO_EUNSUPPORTED,
                             "tensor '%s' does not begin at a multiple of %zu bytes", name,
                             sizeof(float));
    }
    *out = t;
    return EXO_OK;
}

static exo_status bind_layer(binder *b, uint32_t il, exo_layer_tensors *out, exo_error *err) {
    for (size_t i = 0; i < sizeof layer_rules / sizeof *layer_rules; i++) {
        const layer_rule *rule = &layer_rules[i];
        char name[NAME_BYTES];
        const exo_tensor *t;
        if (!applies(rule, b->hp)) continue;
        snprintf(name, sizeof name, "blk.%u.%s", il, rule->suffix);
        exo_status st = bind(b, name, (const dim[]){rule->cols, rule->rows}, &t, err);
        if (st != EXO_OK) return st;
        memcpy((char *)out + rule->member, &t, sizeof(const exo_tensor *));
    }
    return EXO_OK;
}

static exo_status bind_around(binder *b, exo_model_tensors *out, exo_error *err) {
    static const dim table[] = {DIM_EMBD, DIM_VOCAB}, vector[] = {DIM_EMBD, DIM_ONE};
    exo_status st = bind(b, "token_embd.weight", table, &out->embedding, err);
    if (st == EXO_OK) st = bind(b, "output_norm.weight", vector, &out->final_norm, err);
    out->head = out->embedding;
    if (st == EXO_OK && !b->hp->tied_head) st = bind(b, "output.weight", table, &out->head, err);
    if (b->hp->arch == EXO_ARCH_LLAMA) (void)use(b, "rope_freqs.weight"); /* read by hparams.c */
    return st;
}

static exo_status refuse_unused(const binder *b, exo_error *err) {
    for (size_t i = 0; i < exo_gguf_n_tensors(b->g); i++) {
        if (b->used[i]) continue;
        exo_str name = exo_gguf_tensor(b->g, i)->name;
        return exo_error_set(err, EXO_EUNSUPPORTED,
                             "tensor '%.*s' has no place in this architecture with %u layers",
                             (int)name.n, name.s, b->hp->n_layers);
    }
    return EXO_OK;
}

exo_status exo_model_tensors_bind(const exo_gguf *g, const exo_hparams *hp, exo_model_tensors *out,
                                  exo_error *err) {
    exo_status st = EXO_OK;
    *out = (exo_model_tensors){0};
    exo_layer_tensors *layers = exo_calloc(hp->n_layers, sizeof *layers);
    binder b = {g, hp, exo_calloc(exo_gguf_n_tensors(g), sizeof(bool))};
    out->layers = layers;
    if (layers == NULL || b.used == NULL) {
        st = exo_error_set(err, EXO_ENOMEM, "out of memory for tensors");
    }
    if (st == EXO_OK) st = bind_around(&b, out, err);
    for (uint32_t il = 0; il < hp->n_layers && st == EXO_OK; il++) {
        st = bind_layer(&b, il, &layers[il], err);
    }
    if (st == EXO_OK) st = refuse_unused(&b, err);
    exo_free(b.used);
    if (st != EXO_OK) exo_model_tensors_finish(out);
    return st;
}

void exo_model_tensors_finish(exo_model_tensors *t) {
    exo_free(t->layers);
    *t = (exo_model_tensors){0};
}
