/* synth_arch.c - tensors and metadata of the architectures that differ from llama.
 *
 * Which tensors a layer has is asked of model_tensors.c, so that an entry in the table of
 * architectures and one in that of shapes make a file.  Knows the names that files fuse. */
#include "model/arch.h"
#include "model/synth_impl.h"

#include "compute/dmath.h"

#include <stdio.h>
#include <string.h>

#define NAME_BYTES 96

/* ---- a shape as hyperparameters ---- */

static void fill_latent(const exo_synth_shape *s, exo_hparams *hp) {
    const exo_synth_extra *x = s->extra;
    exo_latent *l = &hp->latent;
    l->kv_rank = x->kv_rank;
    l->q_rank = x->q_rank;
    l->rope_dim = x->rope_dims;
    l->nope_dim = s->head_dim - x->rope_dims;
    l->v_dim = x->v_dim;
    l->absorbed = (x->with & EXO_SYNTH_LATENT_ABSORBED) != 0;
}

static void fill_hparams(const exo_synth_shape *s, uint32_t n_layers, exo_hparams *hp) {
    const exo_synth_extra *x = s->extra;
    *hp = (exo_hparams){.arch = exo_arch_find((exo_str){s->arch, strlen(s->arch)}),
                        .n_layers = n_layers,
                        .n_embd = s->n_embd,
                        .n_ff = x->n_ff_dense > 0 ? x->n_ff_dense : s->n_ff,
                        .n_heads = s->n_heads,
                        .n_kv_heads = s->n_kv_heads,
                        .head_dim = s->head_dim,
                        .v_dim = x->v_dim > 0 ? x->v_dim : s->head_dim,
                        .n_vocab = s->n_vocab,
                        .ctx_train = s->ctx,
                        .qkv_bias = (x->with & EXO_SYNTH_QKV_BIAS) != 0,
                        .experts = {.n = s->n_experts,
                                    .n_used = s->n_experts_used,
                                    .n_ff = s->n_ff,
                                    .n_ff_shared = x->n_ff_shared,
                                    .n_dense_layers = x->n_dense_layers}};
    hp->qk_norm = hp->arch->qk_norm;
    hp->activation =
        hp->arch->activation != EXO_EPILOGUE_STORE ? hp->arch->activation : EXO_EPILOGUE_SILU_MUL;
    if (hp->arch->latent) fill_latent(s, hp);
}

/* ---- tensors ---- */

static bool is(const char *name, const char *text) { return strcmp(name, text) == 0; }

static bool ends_with(const char *name, const char *end) {
    size_t n = strlen(name), m = strlen(end);
    return n >= m && memcmp(name + n - m, end, m) == 0;
}

/* Optional tensors are chosen one by one or as all biases. */
static bool wanted(const exo_synth_extra *x, const exo_tensor_rule *rule) {
    if (!rule->optional) return true;
    if (is(rule->suffix, "exp_probs_b.bias")) return (x->with & EXO_SYNTH_CHOICE_BIAS) != 0;
    if (is(rule->suffix, "ffn_gate_inp_shexp.weight")) {
        return (x->with & EXO_SYNTH_SHARED_GATE) != 0;
    }
    unsigned all = EXO_SYNTH_BIASES;
    if (strstr(rule->suffix, "norm.bias") != NULL) all |= EXO_SYNTH_NORM_BIASES;
    return (x->with & all) != 0;
}

/* Changes a rule into that of a fused tensor; false when the tensor is part of another. */
static bool fuse(const exo_synth_extra *x, const exo_hparams *hp, exo_tensor_rule *rule) {
    uint64_t rows = (uint64_t)hp->n_heads * hp->head_dim +
                    (uint64_t)hp->n_kv_heads * (hp->head_dim + hp->v_dim);
    if (x->with & EXO_SYNTH_FUSED_QKV && !hp->arch->latent) {
        const char *const parts[] = {"attn_k.weight", "attn_v.weight", "attn_k.bias",
                                     "attn_v.bias"};
        for (int i = 0; i < 4; i++) {
            if (is(rule->suffix, parts[i])) return false;
        }
        if (is(rule->suffix, "attn_q.weight")) {
            rule->suffix = "attn_qkv.weight";
            rule->dims[1] = rows;
        } else if (is(rule->suffix, "attn_q.bias")) {
            rule->suffix = "attn_qkv.bias";
            rule->dims[0] = rows;
        }
    }
    if (x->with & EXO_SYNTH_FUSED_UP) {
        if (is(rule->suffix, "ffn_gate.weight")) return false;
        if (is(rule->suffix, "ffn_up.weight")) rule->dims[1] *= 2;
    }
    return true;
}

static bool writes_residual(const char *suffix) {
    return is(suffix, "attn_output.weight") || is(suffix, "ffn_down.weight") ||
           is(suffix, "ffn_down_exps.weight") || is(suffix, "ffn_down_shexp.weight");
}

static void add_layer(const exo_synth_shape *s, const exo_hparams *hp, uint32_t il,
                      const exo_synth_sink *to) {
    float residual = 3 * (float)exo_dpow((double)hp->n_layers, -0.5);
    exo_tensor_rule rule;
    for (size_t at = 0; exo_model_layer_rule(hp, il, &at, &rule);) {
        char name[NAME_BYTES];
        if (!wanted(s->extra, &rule) || !fuse(s->extra, hp, &rule)) continue;
        snprintf(name, sizeof name, "blk.%u.%s", il, rule.suffix);
        bool norm = ends_with(name, "norm.weight"), sinks = ends_with(name, "sinks.weight");
        if (rule.vector) {
            to->vector(to->ud, name, rule.dims, norm ? 1 : 0, norm ? 0.05f : sinks ? 1 : 0.2f);
        } else {
            bool router = strstr(rule.suffix, "gate_inp") != NULL;
            to->matrix(to->ud, name, rule.dims, writes_residual(rule.suffix) ? residual : 1,
                       router);
        }
    }
}

static void add_outer_vector(const exo_synth_sink *to, const char *name, uint64_t n, bool bias) {
    to->vector(to->ud, name, (const uint64_t[]){n, 1}, bias ? 0 : 1, bias ? 0.2f : 0.05f);
}

static void add_encoder_input(const exo_synth_shape *s, const exo_hparams *hp,
                              const exo_synth_sink *to) {
    if (hp->arch->positions) {
        to->matrix(to->ud, "position_embd.weight", (const uint64_t[]){s->n_embd, s->ctx, 1}, 1,
                   true);
    }
    if (s->extra->with & EXO_SYNTH_TOKEN_TYPES) {
        to->matrix(to->ud, "token_types.weight", (const uint64_t[]){s->n_embd, 2, 1}, 1, true);
    }
    add_outer_vector(to, "token_embd_norm.weight", s->n_embd, false);
    add_outer_vector(to, "token_embd_norm.bias", s->n_embd, true);
}

void exo_synth_extra_tensors(const exo_synth_shape *s, uint32_t n_layers,
                             const exo_synth_sink *to) {
    exo_hparams hp;
    const uint64_t table[] = {s->n_embd, s->n_vocab, 1};
    bool layer_norm;
    fill_hparams(s, n_layers, &hp);
    layer_norm = hp.arch->norm == EXO_NORM_LAYER &&
                 (s->extra->with & (EXO_SYNTH_BIASES | EXO_SYNTH_NORM_BIASES)) != 0;
    to->matrix(to->ud, "token_embd.weight", table, hp.arch->name[0] == 'g' ? 1 : 2, false);
    if (hp.arch->encoder) add_encoder_input(s, &hp, to);
    if (s->extra->with & EXO_SYNTH_LONG_FACTORS) {
        uint64_t n[] = {(s->extra->rope_dims > 0 ? s->extra->rope_dims : s->head_dim) / 2, 1};
        to->vector(to->ud, "rope_factors_long.weight", n, 4, 1);
        to->vector(to->ud, "rope_factors_short.weight", n, 1.2f, 0.1f);
    }
    for (uint32_t il = 0; il < n_layers; il++) add_layer(s, &hp, il, to);
    if (hp.arch->encoder) return;
    add_outer_vector(to, "output_norm.weight", s->n_embd, false);
    if (layer_norm) add_outer_vector(to, "output_norm.bias", s->n_embd, true);
    if (!s->tied) to->matrix(to->ud, "output.weight", table, 2, false);
    if (s->extra->with & EXO_SYNTH_HEAD_BIAS) {
        add_outer_vector(to, "output.bias", s->n_vocab, true);
    }
}

/* ---- metadata ---- */

static void add_u32(const exo_synth_shape *s, exo_gguf_writer *w, const char *suffix, uint32_t v) {
    char key[NAME_BYTES];
    if (v == 0) return;
    snprintf(key, sizeof key, "%s.%s", s->arch, suffix);
    exo_gguf_add_u32(w, key, v);
}

static void add_f32(const exo_synth_shape *s, exo_gguf_writer *w, const char *suffix, float v) {
    char key[NAME_BYTES];
    if (v == 0) return;
    snprintf(key, sizeof key, "%s.%s", s->arch, suffix);
    exo_gguf_add_f32(w, key, v);
}

static void add_bool(const exo_synth_shape *s, exo_gguf_writer *w, const char *suffix, bool v) {
    char key[NAME_BYTES];
    snprintf(key, sizeof key, "%s.%s", s->arch, suffix);
    exo_gguf_add_bool(w, key, v);
}

static void add_sections(const exo_synth_shape *s, exo_gguf_writer *w) {
    char key[NAME_BYTES];
    uint32_t third = s->head_dim / 6;
    if ((s->extra->with & EXO_SYNTH_SECTIONS) == 0) return;
    snprintf(key, sizeof key, "%s.rope.dimension_sections", s->arch);
    exo_gguf_add_array(w, key, EXO_GGUF_I32, 4);
    exo_gguf_put_u32(&w->kvs, s->head_dim / 2 - 2 * third);
    exo_gguf_put_u32(&w->kvs, third);
    exo_gguf_put_u32(&w->kvs, third);
    exo_gguf_put_u32(&w->kvs, 0);
}

/* Heads as files say them: of the latent where attention works on it. */
static void add_heads(const exo_synth_shape *s, exo_gguf_writer *w) {
    const exo_synth_extra *x = s->extra;
    uint32_t v_dim = x->v_dim > 0 ? x->v_dim : s->head_dim;
    bool absorbed = (x->with & EXO_SYNTH_LATENT_ABSORBED) != 0;
    add_u32(s, w, "attention.key_length", absorbed ? x->kv_rank + x->rope_dims : s->head_dim);
    add_u32(s, w, "attention.value_length", absorbed ? x->kv_rank : v_dim);
    if (absorbed) {
        add_u32(s, w, "attention.key_length_mla", s->head_dim);
        add_u32(s, w, "attention.value_length_mla", v_dim);
    }
    add_u32(s, w, "attention.kv_lora_rank", x->kv_rank);
    add_u32(s, w, "attention.q_lora_rank", x->q_rank);
    add_u32(s, w, "rope.dimension_count", x->rope_dims > 0 ? x->rope_dims : s->head_dim);
}

static void add_rope_scaling(const exo_synth_shape *s, exo_gguf_writer *w) {
    const exo_synth_extra *x = s->extra;
    char key[NAME_BYTES];
    if (x->rope_scaling == NULL) return;
    snprintf(key, sizeof key, "%s.rope.scaling.type", s->arch);
    exo_gguf_add_str(w, key, x->rope_scaling);
    if (is(x->rope_scaling, "longrope")) {
        add_f32(s, w, "rope.scaling.attn_factor", 1.19f);
    } else {
        add_f32(s, w, "rope.scaling.factor", s->rope_factor);
    }
    add_u32(s, w, "rope.scaling.original_context_length", s->ctx / 8);
    add_f32(s, w, "rope.scaling.yarn_log_multiplier", x->yarn_log_multiplier);
}

static void add_experts(const exo_synth_shape *s, exo_gguf_writer *w) {
    const exo_synth_extra *x = s->extra;
    if (x->n_ff_shared > 0 && (x->with & EXO_SYNTH_SHARED_GATE) == 0) {
        add_u32(s, w, "expert_shared_count", x->n_ff_shared / s->n_ff);
    }
    if (x->n_ff_shared > 0) add_u32(s, w, "expert_shared_feed_forward_length", x->n_ff_shared);
    add_u32(s, w, "leading_dense_block_count", x->n_dense_layers);
    add_u32(s, w, "interleave_moe_layer_step", (x->with & EXO_SYNTH_STEP) != 0);
    add_u32(s, w, "expert_group_count", x->n_groups);
    add_u32(s, w, "expert_group_used_count", x->n_groups_used);
    add_u32(s, w, "expert_gating_func", x->gating);
    add_f32(s, w, "expert_weights_scale", x->expert_scale);
    if (x->with & EXO_SYNTH_NORMALIZE) add_bool(s, w, "expert_weights_norm", true);
}

void exo_synth_extra_metadata(const exo_synth_shape *s, exo_gguf_writer *w) {
    const exo_synth_extra *x = s->extra;
    const exo_arch_spec *arch = exo_arch_find((exo_str){s->arch, strlen(s->arch)});
    add_heads(s, w);
    add_rope_scaling(s, w);
    add_sections(s, w);
    add_f32(s, w,
            arch->norm == EXO_NORM_LAYER ? "attention.layer_norm_epsilon"
                                         : "attention.layer_norm_rms_epsilon",
            s->norm_eps);
    add_u32(s, w, "attention.sliding_window", x->window);
    add_f32(s, w, "attention.scale", x->attn_scale);
    add_f32(s, w, "embedding_scale", x->embedding_scale);
    add_f32(s, w, "residual_scale", x->residual_scale);
    add_f32(s, w, "logit_scale", x->logit_scale);
    add_f32(s, w, "attn_logit_softcapping", x->attn_softcap);
    add_f32(s, w, "final_logit_softcapping", x->logit_softcap);
    if (s->n_experts > 0) add_experts(s, w);
    if (!arch->encoder) return;
    add_bool(s, w, "attention.causal", false);
    add_u32(s, w, "pooling_type", x->pooling);
    if (x->with & EXO_SYNTH_TOKEN_TYPES) {
        exo_gguf_add_u32(w, "tokenizer.ggml.token_type_count", 2);
    }
}
