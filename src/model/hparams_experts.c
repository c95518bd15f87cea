/* hparams_experts.c - how many experts a layer has, how they are chosen and weighed.
 *
 * The numbers that contradict each other are refused here; those that contradict the tensors when
 * the tensors are bound. */
#include "model/arch.h"

#include <string.h>

#define MAX_WIDTH (1u << 20)

static exo_status read_gating(const exo_arch_source *s, exo_hparams *hp, exo_error *err) {
    char key[EXO_KEY_BYTES];
    uint32_t kind = 0; /* 0: as the architecture has it */
    exo_status st = exo_arch_any_u32(s, "expert_gating_func", &kind, err);
    if (st != EXO_OK) return st;
    exo_arch_key(s, "expert_gating_func", key);
    if (kind > 3) {
        return exo_error_set(err, EXO_EUNSUPPORTED, "%s is %u: only 1 to 3 are known", key, kind);
    }
    hp->experts.gating = kind == 0 ? hp->arch->gating : (exo_gating)(kind - 1);
    hp->experts.normalize = hp->arch->experts_normalize;
    st = exo_arch_bool(s, "expert_weights_norm", &hp->experts.normalize, err);
    if (st != EXO_OK) return st;
    float scale = 0;
    exo_arch_key(s, "expert_weights_scale", key);
    if (exo_gguf_f32(s->g, key, &scale) && scale == 0) return EXO_OK;
    return exo_arch_f32(s, "expert_weights_scale", &hp->experts.scale, err);
}

static exo_status read_groups(const exo_arch_source *s, exo_experts *e, exo_error *err) {
    exo_status st = exo_arch_u32(s, "expert_group_count", EXO_MAX_EXPERTS, &e->n_groups, err);
    if (st == EXO_OK) {
        st = exo_arch_u32(s, "expert_group_used_count", EXO_MAX_EXPERTS, &e->n_groups_used, err);
    }
    if (st != EXO_OK) return st;
    if (e->n_groups <= 1) {
        e->n_groups = e->n_groups_used = 0;
        return EXO_OK;
    }
    uint32_t each = e->n / e->n_groups;
    if (each * e->n_groups != e->n || each < 2 || e->n_groups_used == 0 ||
        e->n_groups_used > e->n_groups || each * e->n_groups_used < e->n_used) {
        return exo_error_set(err, EXO_EFORMAT,
                             "%u experts in %u groups, %u of them used, for %u experts a token: "
                             "that does not fit",
                             e->n, e->n_groups, e->n_groups_used, e->n_used);
    }
    return EXO_OK;
}

static exo_status read_widths(const exo_arch_source *s, exo_hparams *hp, exo_error *err) {
    exo_experts *e = &hp->experts;
    uint32_t n_shared = 0, zero = 1;
    char key[EXO_KEY_BYTES];
    e->n_ff = hp->n_ff;
    exo_status st = exo_arch_u32(s, "expert_feed_forward_length", MAX_WIDTH, &e->n_ff, err);
    if (st != EXO_OK) return st;
    exo_arch_key(s, "expert_shared_count", key);
    if (!exo_gguf_u32(s->g, key, &zero) || zero != 0) {
        st = exo_arch_u32(s, "expert_shared_count", EXO_MAX_EXPERTS, &n_shared, err);
    }
    if (st != EXO_OK) return st;
    if ((uint64_t)n_shared * e->n_ff > MAX_WIDTH) {
        return exo_error_set(err, EXO_EFORMAT, "%u shared experts of width %u are too wide",
                             n_shared, e->n_ff);
    }
    bool counted = exo_gguf_has(s->g, key);
    e->n_ff_shared = n_shared * e->n_ff;
    if (exo_gguf_find(s->g, "blk.0.ffn_gate_inp_shexp.weight") != NULL) e->n_ff_shared = hp->n_ff;
    st = exo_arch_u32(s, "expert_shared_feed_forward_length", MAX_WIDTH, &e->n_ff_shared, err);
    if (st != EXO_OK || !counted || e->n_ff_shared == n_shared * e->n_ff) return st;
    return exo_error_set(err, EXO_EFORMAT,
                         "%s is %u and expert_feed_forward_length %u, but "
                         "expert_shared_feed_forward_length is %u",
                         key, n_shared, e->n_ff, e->n_ff_shared);
}

exo_status exo_hparams_read_experts(const exo_arch_source *s, exo_hparams *hp, exo_error *err) {
    exo_experts *e = &hp->experts;
    char key[EXO_KEY_BYTES];
    uint32_t n = 0;
    exo_status st = exo_arch_any_u32(s, "expert_count", &n, err);
    if (st != EXO_OK || n == 0) return st;
    st = exo_arch_need_u32(s, "expert_count", EXO_MAX_EXPERTS, &e->n, err);
    if (st == EXO_OK) {
        st = exo_arch_need_u32(s, "expert_used_count", EXO_MAX_EXPERTS, &e->n_used, err);
    }
    if (st != EXO_OK) return st;
    if (e->n_used > e->n) {
        return exo_error_set(err, EXO_EFORMAT, "%s.expert_used_count %u is above expert_count %u",
                             s->arch, e->n_used, e->n);
    }
    uint32_t zero = 1;
    exo_arch_key(s, "leading_dense_block_count", key);
    if (!exo_gguf_u32(s->g, key, &zero) || zero != 0) {
        st = exo_arch_u32(s, "leading_dense_block_count", EXO_MAX_LAYERS, &e->n_dense_layers, err);
    }
    if (st == EXO_OK) st = read_widths(s, hp, err);
    if (st == EXO_OK) st = read_gating(s, hp, err);
    return st == EXO_OK ? read_groups(s, e, err) : st;
}
