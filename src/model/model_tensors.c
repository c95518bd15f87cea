/* model_tensors.c - which tensors a model consists of, and the shape each must have.
 *
 * One table describes a layer of any architecture; traits and hyperparameters decide which of its
 * rules apply and the numbers.  A tensor that no rule asks for is an error too: leaving out a bias
 * that a file brings would change every answer in silence.
 * Files may hold several matrices in one tensor (queries, keys and values; gate and up): the parts
 * become views, so that code above sees one form only. */
#include "model/arch.h"

#include "base/mem.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define NAME_BYTES      64
#define VIEWS_PER_LAYER 8 /* q, k, v and their biases; gate and up, or the two parts of kv_a */

typedef enum {
    DIM_ONE,
    DIM_EMBD,
    DIM_FF,
    DIM_Q,
    DIM_K,
    DIM_V,
    DIM_ATTN, /* what attention gives out */
    DIM_HEAD,
    DIM_HEADS,
    DIM_Q_NORM, /* a head, or the whole row */
    DIM_K_NORM,
    DIM_EXPERTS,
    DIM_FF_EXPERT,
    DIM_FF_SHARED,
    DIM_Q_RANK,
    DIM_KV_RANK,
    DIM_KV_A,
    DIM_KV_B,
    DIM_NOPE,
    DIM_V_HEAD,
    DIM_LATENT_Q,
    DIM_VOCAB,
    DIM_CTX,
    N_DIMS
} dim;

typedef struct {
    uint64_t size;
    const char *name;
} dim_info;

static dim_info dim_get(dim d, const exo_hparams *hp) {
    const exo_latent *l = &hp->latent;
    uint64_t q = (uint64_t)hp->n_heads * hp->head_dim, k = (uint64_t)hp->n_kv_heads * hp->head_dim;
    bool row = hp->qk_norm == EXO_QK_NORM_ROW, latent = hp->arch->latent;
    const dim_info all[N_DIMS] = {
        [DIM_ONE] = {1, "one row"},
        [DIM_EMBD] = {hp->n_embd, "embedding_length"},
        [DIM_FF] = {hp->n_ff, "feed_forward_length"},
        [DIM_Q] = {q, "head_count * key_length"},
        [DIM_K] = {k, "head_count_kv * key_length"},
        [DIM_V] = {(uint64_t)hp->n_kv_heads * hp->v_dim, "head_count_kv * value_length"},
        [DIM_ATTN] = {(uint64_t)hp->n_heads * (latent ? l->v_dim : hp->v_dim),
                      "head_count * value_length"},
        [DIM_HEAD] = {hp->head_dim, "key_length"},
        [DIM_HEADS] = {hp->n_heads, "head_count"},
        [DIM_Q_NORM] = {row ? q : hp->head_dim, row ? "head_count * key_length" : "key_length"},
        [DIM_K_NORM] = {row ? k : hp->head_dim, row ? "head_count_kv * key_length" : "key_length"},
        [DIM_EXPERTS] = {hp->experts.n, "expert_count"},
        [DIM_FF_EXPERT] = {hp->experts.n_ff, "expert_feed_forward_length"},
        [DIM_FF_SHARED] = {hp->experts.n_ff_shared, "width of the shared experts"},
        [DIM_Q_RANK] = {l->q_rank, "q_lora_rank"},
        [DIM_KV_RANK] = {l->kv_rank, "kv_lora_rank"},
        [DIM_KV_A] = {l->kv_rank + l->rope_dim, "kv_lora_rank + rope.dimension_count"},
        [DIM_KV_B] = {(uint64_t)hp->n_heads * (l->nope_dim + l->v_dim),
                      "head_count * (key_length without rotation + value_length)"},
        [DIM_NOPE] = {l->nope_dim, "key_length without rotation"},
        [DIM_V_HEAD] = {l->v_dim, "value_length"},
        [DIM_LATENT_Q] = {(uint64_t)hp->n_heads * (l->nope_dim + l->rope_dim),
                          "head_count * key_length"},
        [DIM_VOCAB] = {hp->n_vocab, "vocabulary"},
        [DIM_CTX] = {hp->ctx_train, "context_length"},
    };
    return all[d];
}

/* ---- rules ---- */

/* When a layer has a tensor. */
typedef enum {
    WITH_ATTN_NORM,
    WITH_FFN_NORM,
    WITH_POST_NORMS,
    WITH_OUT_NORMS,
    WITH_FFN_RENAMED, /* the ffn_norm of some is called post_attention_norm */
    WITH_QKV,
    WITH_QKV_BIAS,
    WITH_ATTENTION, /* of any kind */
    WITH_QK_NORM,
    WITH_SINKS,
    WITH_LATENT,
    WITH_Q_RANK,
    WITH_Q_WHOLE, /* latent, queries in one product */
    WITH_ABSORBED,
    WITH_KV_B,
    WITH_FFN,
    WITH_GATE,
    WITH_EXPERTS,
    WITH_SHARED,
} condition;

static bool applies(condition c, const exo_hparams *hp, uint32_t il) {
    unsigned norms = hp->arch->norms != 0 ? hp->arch->norms : EXO_NORMS_PRE;
    bool experts = hp->experts.n > 0 && il >= hp->experts.n_dense_layers;
    const exo_latent *l = &hp->latent;
    switch (c) {
    case WITH_ATTN_NORM: return (norms & (EXO_NORMS_PRE | EXO_NORMS_PARALLEL)) != 0;
    case WITH_FFN_NORM: return (norms & EXO_NORMS_PRE) != 0 && (norms & EXO_NORMS_FFN_RENAMED) == 0;
    case WITH_POST_NORMS: return (norms & EXO_NORMS_POST) != 0;
    case WITH_OUT_NORMS: return (norms & EXO_NORMS_OUT) != 0;
    case WITH_FFN_RENAMED: return (norms & EXO_NORMS_FFN_RENAMED) != 0;
    case WITH_QKV: return !hp->arch->latent;
    case WITH_QKV_BIAS: return !hp->arch->latent && hp->qkv_bias;
    case WITH_ATTENTION: return true;
    case WITH_QK_NORM: return hp->qk_norm != EXO_QK_NORM_NONE;
    case WITH_SINKS: return hp->arch->sinks;
    case WITH_LATENT: return hp->arch->latent;
    case WITH_Q_RANK: return l->q_rank > 0;
    case WITH_Q_WHOLE: return hp->arch->latent && l->q_rank == 0;
    case WITH_ABSORBED: return l->absorbed;
    case WITH_KV_B: return hp->arch->latent && !l->absorbed;
    case WITH_FFN: return !experts;
    case WITH_GATE: return !experts && exo_epilogue_gated(hp->activation);
    case WITH_EXPERTS: return experts;
    case WITH_SHARED: return experts && hp->experts.n_ff_shared > 0;
    }
    return false;
}

enum {
    VECTOR = 1u << 0,        /* used as it lies: f32 */
    OPTIONAL = 1u << 1,      /* the file decides */
    OF_LAYER_NORM = 1u << 2, /* other norms have no bias */
};

typedef struct {
    const char *suffix;
    size_t member; /* offset in exo_layer_tensors */
    dim dims[3];   /* fastest first; unused are DIM_ONE */
    condition when;
    unsigned flags;
} layer_rule;

#define M(name) offsetof(exo_layer_tensors, name)
static const layer_rule layer_rules[] = {
    {"attn_norm.weight", M(attn_norm), {DIM_EMBD}, WITH_ATTN_NORM, VECTOR},
    {"attn_norm.bias",
     M(attn_norm_bias),
     {DIM_EMBD},
     WITH_ATTN_NORM,
     VECTOR | OPTIONAL | OF_LAYER_NORM},
    {"attn_q.weight", M(q), {DIM_EMBD, DIM_Q}, WITH_QKV, 0},
    {"attn_k.weight", M(k), {DIM_EMBD, DIM_K}, WITH_QKV, 0},
    {"attn_v.weight", M(v), {DIM_EMBD, DIM_V}, WITH_QKV, 0},
    {"attn_output.weight", M(o), {DIM_ATTN, DIM_EMBD}, WITH_ATTENTION, 0},
    {"attn_q.bias", M(q_bias), {DIM_Q}, WITH_QKV_BIAS, VECTOR},
    {"attn_k.bias", M(k_bias), {DIM_K}, WITH_QKV_BIAS, VECTOR},
    {"attn_v.bias", M(v_bias), {DIM_V}, WITH_QKV_BIAS, VECTOR},
    {"attn_output.bias", M(o_bias), {DIM_EMBD}, WITH_ATTENTION, VECTOR | OPTIONAL},
    {"attn_q_norm.weight", M(q_norm), {DIM_Q_NORM}, WITH_QK_NORM, VECTOR},
    {"attn_k_norm.weight", M(k_norm), {DIM_K_NORM}, WITH_QK_NORM, VECTOR},
    {"attn_sinks.weight", M(sinks), {DIM_HEADS}, WITH_SINKS, VECTOR},
    {"attn_q_a.weight", M(q_a), {DIM_EMBD, DIM_Q_RANK}, WITH_Q_RANK, 0},
    {"attn_q_a_norm.weight", M(q_a_norm), {DIM_Q_RANK}, WITH_Q_RANK, VECTOR},
    {"attn_q_b.weight", M(q_b), {DIM_Q_RANK, DIM_LATENT_Q}, WITH_Q_RANK, 0},
    {"attn_q.weight", M(q), {DIM_EMBD, DIM_LATENT_Q}, WITH_Q_WHOLE, 0},
    {"attn_kv_a_mqa.weight", M(kv_a), {DIM_EMBD, DIM_KV_A}, WITH_LATENT, 0},
    {"attn_kv_a_norm.weight", M(kv_a_norm), {DIM_KV_RANK}, WITH_LATENT, VECTOR},
    {"attn_kv_b.weight", M(kv_b), {DIM_KV_RANK, DIM_KV_B}, WITH_KV_B, 0},
    {"attn_k_b.weight", M(k_b), {DIM_NOPE, DIM_KV_RANK, DIM_HEADS}, WITH_ABSORBED, 0},
    {"attn_v_b.weight", M(v_b), {DIM_KV_RANK, DIM_V_HEAD, DIM_HEADS}, WITH_ABSORBED, 0},
    {"post_attention_norm.weight", M(attn_post_norm), {DIM_EMBD}, WITH_POST_NORMS, VECTOR},
    {"attn_output_norm.weight", M(attn_out_norm), {DIM_EMBD}, WITH_OUT_NORMS, VECTOR},
    {"attn_output_norm.bias",
     M(attn_out_norm_bias),
     {DIM_EMBD},
     WITH_OUT_NORMS,
     VECTOR | OPTIONAL | OF_LAYER_NORM},
    {"ffn_norm.weight", M(ffn_norm), {DIM_EMBD}, WITH_FFN_NORM, VECTOR},
    {"ffn_norm.bias",
     M(ffn_norm_bias),
     {DIM_EMBD},
     WITH_FFN_NORM,
     VECTOR | OPTIONAL | OF_LAYER_NORM},
    {"post_attention_norm.weight", M(ffn_norm), {DIM_EMBD}, WITH_FFN_RENAMED, VECTOR},
    {"ffn_gate.weight", M(gate), {DIM_EMBD, DIM_FF}, WITH_GATE, 0},
    {"ffn_up.weight", M(up), {DIM_EMBD, DIM_FF}, WITH_FFN, 0},
    {"ffn_down.weight", M(down), {DIM_FF, DIM_EMBD}, WITH_FFN, 0},
    {"ffn_gate.bias", M(gate_bias), {DIM_FF}, WITH_GATE, VECTOR | OPTIONAL},
    {"ffn_up.bias", M(up_bias), {DIM_FF}, WITH_FFN, VECTOR | OPTIONAL},
    {"ffn_down.bias", M(down_bias), {DIM_EMBD}, WITH_FFN, VECTOR | OPTIONAL},
    {"post_ffw_norm.weight", M(ffn_post_norm), {DIM_EMBD}, WITH_POST_NORMS, VECTOR},
    {"layer_output_norm.weight", M(layer_out_norm), {DIM_EMBD}, WITH_OUT_NORMS, VECTOR},
    {"layer_output_norm.bias",
     M(layer_out_norm_bias),
     {DIM_EMBD},
     WITH_OUT_NORMS,
     VECTOR | OPTIONAL | OF_LAYER_NORM},
    {"ffn_gate_inp.weight", M(router), {DIM_EMBD, DIM_EXPERTS}, WITH_EXPERTS, 0},
    {"ffn_gate_inp.bias", M(router_bias), {DIM_EXPERTS}, WITH_EXPERTS, VECTOR | OPTIONAL},
    {"exp_probs_b.bias", M(choice_bias), {DIM_EXPERTS}, WITH_EXPERTS, VECTOR | OPTIONAL},
    {"ffn_gate_exps.weight", M(gate_exps), {DIM_EMBD, DIM_FF_EXPERT, DIM_EXPERTS}, WITH_EXPERTS, 0},
    {"ffn_up_exps.weight", M(up_exps), {DIM_EMBD, DIM_FF_EXPERT, DIM_EXPERTS}, WITH_EXPERTS, 0},
    {"ffn_down_exps.weight", M(down_exps), {DIM_FF_EXPERT, DIM_EMBD, DIM_EXPERTS}, WITH_EXPERTS, 0},
    {"ffn_gate_exps.bias",
     M(gate_exps_bias),
     {DIM_FF_EXPERT, DIM_EXPERTS},
     WITH_EXPERTS,
     VECTOR | OPTIONAL},
    {"ffn_up_exps.bias",
     M(up_exps_bias),
     {DIM_FF_EXPERT, DIM_EXPERTS},
     WITH_EXPERTS,
     VECTOR | OPTIONAL},
    {"ffn_down_exps.bias",
     M(down_exps_bias),
     {DIM_EMBD, DIM_EXPERTS},
     WITH_EXPERTS,
     VECTOR | OPTIONAL},
    {"ffn_gate_shexp.weight", M(gate_shared), {DIM_EMBD, DIM_FF_SHARED}, WITH_SHARED, 0},
    {"ffn_up_shexp.weight", M(up_shared), {DIM_EMBD, DIM_FF_SHARED}, WITH_SHARED, 0},
    {"ffn_down_shexp.weight", M(down_shared), {DIM_FF_SHARED, DIM_EMBD}, WITH_SHARED, 0},
    {"ffn_gate_inp_shexp.weight", M(shared_gate), {DIM_EMBD}, WITH_SHARED, OPTIONAL},
};
#undef M

static bool has(const exo_hparams *hp, uint32_t il, const layer_rule *rule) {
    if ((rule->flags & OF_LAYER_NORM) != 0 && hp->arch->norm != EXO_NORM_LAYER) return false;
    return applies(rule->when, hp, il);
}

bool exo_model_layer_rule(const exo_hparams *hp, uint32_t il, size_t *at, exo_tensor_rule *out) {
    while (*at < sizeof layer_rules / sizeof *layer_rules) {
        const layer_rule *rule = &layer_rules[(*at)++];
        if (!has(hp, il, rule)) continue;
        *out = (exo_tensor_rule){.suffix = rule->suffix,
                                 .vector = (rule->flags & VECTOR) != 0,
                                 .optional = (rule->flags & OPTIONAL) != 0};
        for (int i = 0; i < 3; i++) out->dims[i] = dim_get(rule->dims[i], hp).size;
        return true;
    }
    return false;
}

/* ---- binding ---- */

/* One pass over a file: `used` marks the tensors that some rule has asked for. */
typedef struct {
    const exo_gguf *g;
    const exo_hparams *hp;
    bool *used; /* (n_tensors) */
    exo_model_tensors *out;
} binder;

static const exo_tensor *use(binder *b, const char *name) {
    const exo_tensor *t = exo_gguf_find(b->g, name);
    if (t != NULL) b->used[t - exo_gguf_tensor(b->g, 0)] = true;
    return t;
}

static exo_status bad_shape(const exo_tensor *t, const dim_info want[3], exo_error *err) {
    char third[96] = "";
    if (t->dims[2] != 1 || want[2].size != 1) {
        snprintf(third, sizeof third, " x %llu (%s), not %llu", (unsigned long long)want[2].size,
                 want[2].name, (unsigned long long)t->dims[2]);
    }
    return exo_error_set(
        err, EXO_EFORMAT,
        "tensor '%.*s' is %llu x %llu%s, but the metadata ask for %llu (%s) x %llu (%s)%s",
        (int)t->name.n, t->name.s, (unsigned long long)t->dims[0], (unsigned long long)t->dims[1],
        t->n_dims > 2 ? " x ..." : "", (unsigned long long)want[0].size, want[0].name,
        (unsigned long long)want[1].size, want[1].name, third);
}

/* Checks shape and type; vectors must be f32 because they are used as they lie. */
static exo_status check(const binder *b, const exo_tensor *t, const layer_rule *rule,
                        exo_error *err) {
    const dim_info want[3] = {dim_get(rule->dims[0], b->hp), dim_get(rule->dims[1], b->hp),
                              dim_get(rule->dims[2], b->hp)};
    if (t->dims[0] != want[0].size || t->dims[1] != want[1].size || t->dims[2] != want[2].size ||
        t->dims[3] != 1) {
        return bad_shape(t, want, err);
    }
    if ((rule->flags & VECTOR) != 0 && t->type != EXO_F32) {
        return exo_error_set(err, EXO_EUNSUPPORTED,
                             "tensor '%.*s' is %s, norms and biases must be f32", (int)t->name.n,
                             t->name.s, exo_dtype_get(t->type)->name);
    }
    if ((uintptr_t)t->data % sizeof(float) != 0) {
        return exo_error_set(err, EXO_EUNSUPPORTED,
                             "tensor '%.*s' does not begin at a multiple of %zu bytes",
                             (int)t->name.n, t->name.s, sizeof(float));
    }
    return EXO_OK;
}

static const exo_tensor **member(exo_layer_tensors *y, size_t offset) {
    return (const exo_tensor **)(void *)((char *)y + offset);
}

static exo_status bind(binder *b, const char *prefix, const layer_rule *rule,
                       const exo_tensor **out, exo_error *err) {
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "%s%s", prefix, rule->suffix);
    if (*out != NULL) return check(b, *out, rule, err); /* a view of another tensor */
    const exo_tensor *t = use(b, name);
    if (t == NULL && (rule->flags & OPTIONAL) != 0) return EXO_OK;
    if (t == NULL) return exo_error_set(err, EXO_EFORMAT, "tensor '%s' is missing", name);
    exo_status st = check(b, t, rule, err);
    if (st == EXO_OK) *out = t;
    return st;
}

/* ---- views ---- */

/* n of the rows (or elements, of a vector) of t from `first` on. */
static const exo_tensor *view(binder *b, const exo_tensor *t, uint64_t first, uint64_t n) {
    exo_tensor *v = &b->out->views[b->out->n_views++];
    int rows = t->n_dims > 1 ? 1 : 0;
    uint64_t row_bytes = t->bytes / t->dims[rows];
    *v = *t;
    v->dims[rows] = n;
    v->data = t->data + first * row_bytes;
    v->bytes = n * row_bytes;
    return v;
}

/* One tensor of several parts: checks the sum of their rows, then cuts it. */
typedef struct {
    const char *suffix;
    size_t member[3];
    dim part[3];
    int n_parts;
    dim cols; /* DIM_ONE for a vector */
} fused_rule;

#define M(name) offsetof(exo_layer_tensors, name)
static const fused_rule fused_rules[] = {
    {"attn_qkv.weight", {M(q), M(k), M(v)}, {DIM_Q, DIM_K, DIM_V}, 3, DIM_EMBD},
    {"attn_qkv.bias", {M(q_bias), M(k_bias), M(v_bias)}, {DIM_Q, DIM_K, DIM_V}, 3, DIM_ONE},
    {"ffn_up.weight", {M(gate), M(up), 0}, {DIM_FF, DIM_FF, DIM_ONE}, 2, DIM_EMBD},
};

static bool is_fused(const binder *b, const fused_rule *rule, const char *prefix, uint32_t il) {
    char name[NAME_BYTES];
    if (rule->n_parts == 3) return applies(WITH_QKV, b->hp, il);
    if (!applies(WITH_GATE, b->hp, il)) return false;
    snprintf(name, sizeof name, "%sffn_gate.weight", prefix);
    return exo_gguf_find(b->g, name) == NULL;
}

static exo_status cut_fused(binder *b, const fused_rule *rule, const char *prefix,
                            exo_layer_tensors *out, exo_error *err) {
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "%s%s", prefix, rule->suffix);
    const exo_tensor *t = use(b, name);
    if (t == NULL) return EXO_OK;
    uint64_t sum = 0, first = 0, cols = dim_get(rule->cols, b->hp).size;
    bool vector = rule->cols == DIM_ONE;
    for (int i = 0; i < rule->n_parts; i++) sum += dim_get(rule->part[i], b->hp).size;
    uint64_t rows = t->dims[vector ? 0 : 1];
    if (rows != sum || (!vector && t->dims[0] != cols) || t->dims[vector ? 1 : 2] != 1) {
        return exo_error_set(err, EXO_EFORMAT,
                             "tensor '%s' is %llu x %llu, but the metadata ask for %llu rows of "
                             "%llu: the sum of its %d parts",
                             name, (unsigned long long)t->dims[0], (unsigned long long)t->dims[1],
                             (unsigned long long)sum, (unsigned long long)cols, rule->n_parts);
    }
    for (int i = 0; i < rule->n_parts; i++) {
        uint64_t n = dim_get(rule->part[i], b->hp).size;
        *member(out, rule->member[i]) = view(b, t, first, n);
        first += n;
    }
    return EXO_OK;
}
#undef M

/* ---- layers ---- */

static exo_status bind_layer(binder *b, uint32_t il, exo_layer_tensors *out, exo_error *err) {
    char prefix[NAME_BYTES];
    exo_status st = EXO_OK;
    snprintf(prefix, sizeof prefix, "blk.%u.", il);
    for (size_t i = 0; st == EXO_OK && i < sizeof fused_rules / sizeof *fused_rules; i++) {
        if (is_fused(b, &fused_rules[i], prefix, il)) {
            st = cut_fused(b, &fused_rules[i], prefix, out, err);
        }
    }
    for (size_t i = 0; st == EXO_OK && i < sizeof layer_rules / sizeof *layer_rules; i++) {
        const layer_rule *rule = &layer_rules[i];
        if (!has(b->hp, il, rule)) continue;
        st = bind(b, prefix, rule, member(out, rule->member), err);
    }
    if (st == EXO_OK && out->kv_a != NULL) { /* the latent, then what is rotated */
        const exo_tensor *whole = out->kv_a;
        out->kv_a = view(b, whole, 0, b->hp->latent.kv_rank);
        out->k_rope = view(b, whole, b->hp->latent.kv_rank, b->hp->latent.rope_dim);
    }
    return st;
}

/* ---- around the layers ---- */

static exo_status bind_outer(binder *b, exo_outer_tensors *out, exo_error *err) {
    const exo_hparams *hp = b->hp;
    bool encoder = hp->arch->encoder, layer_norm = hp->arch->norm == EXO_NORM_LAYER;
    const struct {
        layer_rule rule;
        const exo_tensor **to;
        bool there;
    } rules[] = {
        {{"token_embd.weight", 0, {DIM_EMBD, DIM_VOCAB}, 0, 0}, &out->embedding, true},
        {{"position_embd.weight", 0, {DIM_EMBD, DIM_CTX}, 0, 0},
         &out->positions,
         hp->arch->positions},
        {{"token_embd_norm.weight", 0, {DIM_EMBD}, 0, VECTOR}, &out->embd_norm, encoder},
        {{"token_embd_norm.bias", 0, {DIM_EMBD}, 0, VECTOR | OPTIONAL | OF_LAYER_NORM},
         &out->embd_norm_bias,
         encoder},
        {{"output_norm.weight", 0, {DIM_EMBD}, 0, VECTOR}, &out->final_norm, !encoder},
        {{"output_norm.bias", 0, {DIM_EMBD}, 0, VECTOR | OPTIONAL | OF_LAYER_NORM},
         &out->final_norm_bias,
         !encoder && layer_norm},
        {{"output.weight", 0, {DIM_EMBD, DIM_VOCAB}, 0, 0}, &out->head, !encoder && !hp->tied_head},
        {{"output.bias", 0, {DIM_VOCAB}, 0, VECTOR | OPTIONAL}, &out->head_bias, !encoder},
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        if (!rules[i].there) continue;
        exo_status st = bind(b, "", &rules[i].rule, rules[i].to, err);
        if (st != EXO_OK) return st;
    }
    if (!encoder && hp->tied_head) out->head = out->embedding;
    return EXO_OK;
}

/* token_types.weight: one row per kind of token; all of ours are of kind 0. */
static exo_status bind_token_type(binder *b, exo_outer_tensors *out, exo_error *err) {
    const exo_tensor *t = b->hp->arch->encoder ? use(b, "token_types.weight") : NULL;
    if (t == NULL) return EXO_OK;
    if (t->type != EXO_F32 || t->dims[0] != b->hp->n_embd || t->dims[2] != 1) {
        return exo_error_set(err, EXO_EFORMAT,
                             "tensor 'token_types.weight' is %s rows of %llu, but "
                             "embedding_length %u asks for f32 rows of that",
                             exo_dtype_get(t->type)->name, (unsigned long long)t->dims[0],
                             b->hp->n_embd);
    }
    out->token_type = t->n_dims > 1 ? view(b, t, 0, 1) : t;
    return EXO_OK;
}

/* Is it a tensor of one of the layers that are left alone? */
static bool is_left_alone(const exo_hparams *hp, exo_str name) {
    char prefix[NAME_BYTES];
    for (uint32_t i = 0; i < hp->n_unused_layers; i++) {
        size_t n = (size_t)snprintf(prefix, sizeof prefix, "blk.%u.", hp->n_layers + i);
        if (name.n > n && memcmp(name.s, prefix, n) == 0) return true;
    }
    return false;
}

static exo_status refuse_unused(const binder *b, exo_error *err) {
    for (size_t i = 0; i < exo_gguf_n_tensors(b->g); i++) {
        exo_str name = exo_gguf_tensor(b->g, i)->name;
        if (b->used[i] || is_left_alone(b->hp, name)) continue;
        return exo_error_set(err, EXO_EUNSUPPORTED,
                             "tensor '%.*s' has no place in a %s model with %u layers", (int)name.n,
                             name.s, b->hp->arch->name, b->hp->n_layers);
    }
    return EXO_OK;
}

/* Factors of rotations, which hparams_rope.c has read. */
static void use_rope_factors(binder *b) {
    static const char *const names[] = {"rope_freqs.weight", "rope_factors_long.weight",
                                        "rope_factors_short.weight"};
    for (size_t i = 0; b->hp->arch->rope_factors && i < sizeof names / sizeof *names; i++) {
        (void)use(b, names[i]);
    }
}

exo_status exo_model_tensors_bind(const exo_gguf *g, const exo_hparams *hp, exo_model_tensors *out,
                                  exo_error *err) {
    exo_status st = EXO_OK;
    *out = (exo_model_tensors){0};
    out->layers = exo_calloc(hp->n_layers, sizeof *out->layers);
    out->views = exo_calloc((size_t)hp->n_layers * VIEWS_PER_LAYER + 1, sizeof *out->views);
    binder b = {g, hp, exo_calloc(exo_gguf_n_tensors(g), sizeof(bool)), out};
    if (out->layers == NULL || out->views == NULL || b.used == NULL) {
        st = exo_error_set(err, EXO_ENOMEM, "out of memory for tensors");
    }
    if (st == EXO_OK) st = bind_outer(&b, &out->outer, err);
    if (st == EXO_OK) st = bind_token_type(&b, &out->outer, err);
    for (uint32_t il = 0; il < hp->n_layers && st == EXO_OK; il++) {
        st = bind_layer(&b, il, &out->layers[il], err);
    }
    if (st == EXO_OK) use_rope_factors(&b);
    if (st == EXO_OK) st = refuse_unused(&b, err);
    exo_free(b.used);
    if (st != EXO_OK) exo_model_tensors_finish(out);
    return st;
}

void exo_model_tensors_finish(exo_model_tensors *t) {
    exo_free(t->views);
    exo_free(t->layers);
    *t = (exo_model_tensors){0};
}
