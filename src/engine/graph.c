/* graph.c - layers to operations: attention of three kinds, feed-forward layers of two.
 *
 * Reads straight, in the order in which a layer is computed.  What is optional is decided by a
 * weight that is NULL or a number that is 0.  Every operation's arithmetic, with the order of its
 * sums, is compute/cpu/reference.h's. */
#include "engine/graph.h"

#include "model/arch.h"

#define MAX_OPS_PER_LAYER 32
#define MAX_OPS_AROUND    8 /* embedding with norm and rounding; norm and head */

/* The activations of one row.  Slot 0 is the residual stream. */
enum {
    SLOT_X,
    SLOT_Q,
    SLOT_K,
    SLOT_V,
    SLOT_ATTN,
    SLOT_FF,
    SLOT_NORMED,
    SLOT_TERM, /* on its way to the residual */
    SLOT_SCORES,
    SLOT_ROUTE,
    SLOT_EXPERT_FF,
    SLOT_EXPERT_OUT,
    SLOT_SHARED_FF,
    SLOT_SHARED_SCORE,
    SLOT_SHARED_ROUTE,
    SLOT_Q_RANK,
    SLOT_Q_RAW,    /* (n_heads, nope_dim + rope_dim) */
    SLOT_LATENT,   /* (kv_rank) */
    SLOT_K_ROPE,   /* (rope_dim): one for all heads */
    SLOT_KV,       /* (n_heads, nope_dim + v_dim) */
    SLOT_Q_NOPE,   /* (n_heads, nope_dim) */
    SLOT_Q_LATENT, /* (n_heads, kv_rank) */
    SLOT_O_LATENT, /* (n_heads, kv_rank) */
    N_SLOTS
};
_Static_assert(N_SLOTS <= EXO_GRAPH_SLOTS, "graph.h has too few slots");

typedef struct {
    const exo_graph *g;
    const exo_hparams *h;
    exo_op *op; /* the next to write */
} writer;

/* One layer being written. */
typedef struct {
    uint32_t il; /* of the model */
    const exo_layer_weights *w;
    const exo_layer_kv *kv;
} layer;

/* What a product reads: a slot, normed on the way where the norm is RMS. */
typedef struct {
    uint32_t slot;
    const exo_buffer *norm;
} input;

static void emit(writer *wr, exo_op op) { *wr->op++ = op; }

/* ---- parts ---- */

static exo_norm_kind norm_kind(const writer *wr) { return wr->h->arch->norm; }

static void emit_norm(writer *wr, exo_op_norm n) {
    n.norm = n.weight == NULL ? EXO_NORM_NONE : n.norm;
    n.eps = wr->h->norm_eps;
    emit(wr, (exo_op){.kind = EXO_OP_NORM, .u.norm = n});
}

/* norm(x), or x itself where there is no norm.  A layer norm is an operation of its own. */
static input normed(writer *wr, const exo_buffer *weight, const exo_buffer *bias) {
    if (weight == NULL) return (input){SLOT_X, NULL};
    if (norm_kind(wr) == EXO_NORM_RMS) return (input){SLOT_X, weight};
    emit_norm(wr, (exo_op_norm){.in = SLOT_X,
                                .out = SLOT_NORMED,
                                .norm = norm_kind(wr),
                                .weight = weight,
                                .bias = bias});
    return (input){SLOT_NORMED, NULL};
}

static void emit_product(writer *wr, input in, exo_op_matmul m) {
    m.in = in.slot;
    m.norm = in.norm;
    m.norm_eps = wr->h->norm_eps;
    for (m.n_parts = 0; m.n_parts < EXO_MATMUL_PARTS && m.w[m.n_parts] != NULL;) m.n_parts++;
    emit(wr, (exo_op){.kind = EXO_OP_MATMUL, .u.matmul = m});
}

/* x += scale * norm(W in + bias): what attention and feed-forward layers end with. */
static void emit_residual(writer *wr, uint32_t in, const exo_weight *w, const exo_buffer *bias,
                          const exo_buffer *post_norm) {
    bool direct = post_norm == NULL && wr->h->residual_scale == 0;
    emit_product(wr, (input){in, NULL},
                 (exo_op_matmul){.w = {w},
                                 .bias = {bias},
                                 .out = {direct ? SLOT_X : SLOT_TERM},
                                 .epilogue = direct ? EXO_EPILOGUE_ADD : EXO_EPILOGUE_STORE});
    if (direct) return;
    emit_norm(wr, (exo_op_norm){.in = SLOT_TERM,
                                .out = SLOT_X,
                                .norm = norm_kind(wr),
                                .weight = post_norm,
                                .scale = wr->h->residual_scale,
                                .add = true});
}

/* x = norm(x): encoders. */
static void emit_out_norm(writer *wr, const exo_buffer *weight, const exo_buffer *bias) {
    if (weight == NULL) return;
    emit_norm(
        wr,
        (exo_op_norm){
            .in = SLOT_X, .out = SLOT_X, .norm = norm_kind(wr), .weight = weight, .bias = bias});
}

static void emit_copy(writer *wr, exo_op_copy c) {
    emit(wr, (exo_op){.kind = EXO_OP_COPY, .u.copy = c});
}

/* Matrix r of w for piece r of the input. */
static void emit_per_head(writer *wr, uint32_t in, uint32_t out, const exo_weight *w) {
    uint32_t n = wr->h->n_heads;
    emit(wr, (exo_op){.kind = EXO_OP_EXPERTS,
                      .u.experts = {.in = in,
                                    .split = true,
                                    .route = EXO_NO_SLOT,
                                    .n_experts = n,
                                    .n_used = n,
                                    .n_parts = 1,
                                    .w = {w},
                                    .out = out,
                                    .epilogue = EXO_EPILOGUE_STORE}});
}

/* ---- queries, keys, values ---- */

/* (n_embd) -> q (n_heads, head_dim), k and v (n_kv_heads, head_dim) */
static void build_qkv(writer *wr, const layer *y, input in) {
    const exo_layer_weights *w = y->w;
    emit_product(wr, in,
                 (exo_op_matmul){.w = {w->q, w->k, w->v},
                                 .bias = {w->q_bias, w->k_bias, w->v_bias},
                                 .out = {SLOT_Q, SLOT_K, SLOT_V},
                                 .epilogue = EXO_EPILOGUE_STORE});
    if (wr->h->qk_norm != EXO_QK_NORM_ROW) return;
    const exo_op_norm q = {.in = SLOT_Q, .out = SLOT_Q, .weight = w->q_norm};
    const exo_op_norm k = {.in = SLOT_K, .out = SLOT_K, .weight = w->k_norm};
    emit_norm(wr, q);
    emit_norm(wr, k);
}

/* Attention on the latent: k is (latent | rotated), v the latent; each query head is taken into the
 * latent space by its own matrix. */
static void build_absorbed(writer *wr, const layer *y) {
    const exo_latent *l = &wr->h->latent;
    uint32_t n = wr->h->n_heads, q_dim = l->nope_dim + l->rope_dim,
             k_dim = l->kv_rank + l->rope_dim;
    emit_copy(wr, (exo_op_copy){.in = SLOT_Q_RAW,
                                .out = SLOT_Q_NOPE,
                                .n = n,
                                .width = l->nope_dim,
                                .in_stride = q_dim,
                                .out_stride = l->nope_dim});
    emit_per_head(wr, SLOT_Q_NOPE, SLOT_Q_LATENT, y->w->k_b);
    emit_copy(wr, (exo_op_copy){.in = SLOT_Q_LATENT,
                                .out = SLOT_Q,
                                .n = n,
                                .width = l->kv_rank,
                                .in_stride = l->kv_rank,
                                .out_stride = k_dim});
    emit_copy(wr, (exo_op_copy){.in = SLOT_Q_RAW,
                                .out = SLOT_Q,
                                .n = n,
                                .width = l->rope_dim,
                                .in_offset = l->nope_dim,
                                .in_stride = q_dim,
                                .out_offset = l->kv_rank,
                                .out_stride = k_dim});
    emit_copy(wr, (exo_op_copy){.in = SLOT_LATENT, .out = SLOT_K, .n = 1, .width = l->kv_rank});
    emit_copy(wr, (exo_op_copy){.in = SLOT_LATENT, .out = SLOT_V, .n = 1, .width = l->kv_rank});
    emit_copy(wr, (exo_op_copy){.in = SLOT_K_ROPE,
                                .out = SLOT_K,
                                .n = 1,
                                .width = l->rope_dim,
                                .out_offset = l->kv_rank});
}

/* Keys and values unpacked from the latent, head by head. */
static void build_unpacked(writer *wr, const layer *y) {
    const exo_latent *l = &wr->h->latent;
    uint32_t n = wr->h->n_heads, k_dim = l->nope_dim + l->rope_dim, pair = l->nope_dim + l->v_dim;
    emit_product(wr, (input){SLOT_LATENT, NULL},
                 (exo_op_matmul){.w = {y->w->kv_b}, .out = {SLOT_KV}});
    emit_copy(wr, (exo_op_copy){.in = SLOT_KV,
                                .out = SLOT_K,
                                .n = n,
                                .width = l->nope_dim,
                                .in_stride = pair,
                                .out_stride = k_dim});
    emit_copy(wr, (exo_op_copy){.in = SLOT_K_ROPE,
                                .out = SLOT_K,
                                .n = n,
                                .width = l->rope_dim,
                                .out_offset = l->nope_dim,
                                .out_stride = k_dim});
    emit_copy(wr, (exo_op_copy){.in = SLOT_KV,
                                .out = SLOT_V,
                                .n = n,
                                .width = l->v_dim,
                                .in_offset = l->nope_dim,
                                .in_stride = pair,
                                .out_stride = l->v_dim});
}

static void build_latent(writer *wr, const layer *y, input in) {
    const exo_layer_weights *w = y->w;
    uint32_t q_out = wr->h->latent.absorbed ? SLOT_Q_RAW : SLOT_Q;
    bool two_steps = wr->h->latent.q_rank > 0;
    emit_product(
        wr, in,
        (exo_op_matmul){.w = {two_steps ? w->q_a : w->q, w->kv_a, w->k_rope},
                        .out = {two_steps ? SLOT_Q_RANK : q_out, SLOT_LATENT, SLOT_K_ROPE}});
    if (two_steps) {
        emit_product(wr, (input){SLOT_Q_RANK, w->q_a_norm},
                     (exo_op_matmul){.w = {w->q_b}, .out = {q_out}});
    }
    emit_norm(wr, (exo_op_norm){.in = SLOT_LATENT, .out = SLOT_LATENT, .weight = w->kv_a_norm});
    if (wr->h->latent.absorbed) {
        build_absorbed(wr, y);
    } else {
        build_unpacked(wr, y);
    }
}

/* ---- attention ---- */

static const exo_rope *rope_of(const writer *wr, uint32_t il) {
    const exo_hparams *h = wr->h;
    if (h->sliding[il]) return &h->rope_sliding;
    bool is_long = h->rope_long.dims > 0 && wr->g->desc->ctx_tokens > h->long_ctx;
    return is_long ? &h->rope_long : &h->rope;
}

/* q and k turned by their position; k and v into the page of that position */
static void build_rope(writer *wr, const layer *y) {
    const exo_hparams *h = wr->h;
    const exo_rope *rope = rope_of(wr, y->il);
    bool per_head = h->qk_norm == EXO_QK_NORM_HEAD;
    uint32_t dims = h->unrotated[y->il] ? 0 : rope->dims;
    emit(wr, (exo_op){.kind = EXO_OP_ROPE_KV,
                      .u.rope_kv = {.q = SLOT_Q,
                                    .k = SLOT_K,
                                    .v = SLOT_V,
                                    .q_norm = per_head ? y->w->q_norm : NULL,
                                    .k_norm = per_head ? y->w->k_norm : NULL,
                                    .norm_eps = h->norm_eps,
                                    .n_heads = h->n_heads,
                                    .n_kv_heads = h->n_kv_heads,
                                    .head_dim = h->head_dim,
                                    .v_dim = h->v_dim,
                                    .rope_offset = h->arch->latent ? h->head_dim - dims : 0,
                                    .rope_dims = dims,
                                    .rope_neox = h->rope_neox,
                                    .rope_inv_freq = rope->inv_freq,
                                    .rope_scale = rope->scale,
                                    .k_pages = y->kv->k,
                                    .v_pages = y->kv->v,
                                    .kv_type = wr->g->desc->kv_type}});
}

/* x += W_o attention(rope(q), rope(k), v) */
static void build_attention(writer *wr, const layer *y, input in) {
    const exo_hparams *h = wr->h;
    bool absorbed = h->latent.absorbed;
    if (h->arch->latent) {
        build_latent(wr, y, in);
    } else {
        build_qkv(wr, y, in);
    }
    build_rope(wr, y);
    /* each group of n_heads / n_kv_heads query heads reads one head of k and v */
    emit(wr, (exo_op){.kind = EXO_OP_ATTENTION,
                      .u.attention = {.q = SLOT_Q,
                                      .out = absorbed ? SLOT_O_LATENT : SLOT_ATTN,
                                      .n_heads = h->n_heads,
                                      .n_kv_heads = h->n_kv_heads,
                                      .head_dim = h->head_dim,
                                      .v_dim = h->v_dim,
                                      .scale = h->attn_scale,
                                      .softcap = h->attn_softcap,
                                      .window = h->sliding[y->il] ? h->window : 0,
                                      .bidirectional = h->bidirectional,
                                      .sinks = y->w->sinks,
                                      .k_pages = y->kv->k,
                                      .v_pages = y->kv->v,
                                      .kv_type = wr->g->desc->kv_type}});
    if (absorbed) emit_per_head(wr, SLOT_O_LATENT, SLOT_ATTN, y->w->v_b);
    emit_residual(wr, SLOT_ATTN, y->w->o, y->w->o_bias, y->w->attn_post_norm);
    emit_out_norm(wr, y->w->attn_out_norm, y->w->attn_out_norm_bias);
}

/* ---- feed-forward ---- */

/* x += W_down (act(W_gate norm(x)) * W_up norm(x)), or W_down act(W_up norm(x)) without a gate */
static void build_ffn(writer *wr, const layer *y, input in) {
    const exo_layer_weights *w = y->w;
    exo_op_matmul m = {.out = {SLOT_FF, EXO_NO_SLOT}, .epilogue = wr->h->activation};
    if (exo_epilogue_gated(wr->h->activation)) {
        m.w[0] = w->gate, m.w[1] = w->up;
        m.bias[0] = w->gate_bias, m.bias[1] = w->up_bias;
    } else {
        m.w[0] = w->up, m.bias[0] = w->up_bias;
    }
    emit_product(wr, in, m);
    emit_residual(wr, SLOT_FF, w->down, w->down_bias, w->ffn_post_norm);
}

/* The expert that every row takes, weighed by a gate of its own where it has one. */
static void build_shared(writer *wr, const layer *y, input in) {
    const exo_layer_weights *w = y->w;
    emit_product(wr, in,
                 (exo_op_matmul){.w = {w->gate_shared, w->up_shared},
                                 .out = {SLOT_SHARED_FF, EXO_NO_SLOT},
                                 .epilogue = wr->h->activation});
    emit_product(wr, (input){SLOT_SHARED_FF, NULL},
                 (exo_op_matmul){.w = {w->down_shared}, .out = {SLOT_TERM}});
    if (w->shared_gate == NULL) {
        emit_norm(wr,
                  (exo_op_norm){
                      .in = SLOT_TERM, .out = SLOT_X, .scale = wr->h->residual_scale, .add = true});
        return;
    }
    emit_product(wr, in, (exo_op_matmul){.w = {w->shared_gate}, .out = {SLOT_SHARED_SCORE}});
    emit(wr, (exo_op){.kind = EXO_OP_ROUTE,
                      .u.route = {.in = SLOT_SHARED_SCORE,
                                  .out = SLOT_SHARED_ROUTE,
                                  .n_experts = 1,
                                  .n_used = 1,
                                  .gating = EXO_GATING_SIGMOID}});
    emit(wr, (exo_op){.kind = EXO_OP_MIX,
                      .u.mix = {.in = SLOT_TERM,
                                .route = SLOT_SHARED_ROUTE,
                                .out = SLOT_X,
                                .n_used = 1,
                                .add = true}});
}

static void build_route(writer *wr, const layer *y, input in) {
    const exo_experts *e = &wr->h->experts;
    emit_product(
        wr, in,
        (exo_op_matmul){.w = {y->w->router}, .bias = {y->w->router_bias}, .out = {SLOT_SCORES}});
    emit(wr, (exo_op){.kind = EXO_OP_ROUTE,
                      .u.route = {.in = SLOT_SCORES,
                                  .out = SLOT_ROUTE,
                                  .n_experts = e->n,
                                  .n_used = e->n_used,
                                  .gating = e->gating,
                                  .n_groups = e->n_groups,
                                  .n_groups_used = e->n_groups_used,
                                  .choice_bias = y->w->choice_bias,
                                  .normalize = e->normalize,
                                  .scale = e->scale}});
}

/* x += sum over the chosen experts of weight * W_down (act(W_gate norm(x)) * W_up norm(x)) */
static void build_experts(writer *wr, const layer *y, input in) {
    const exo_experts *e = &wr->h->experts;
    const exo_layer_weights *w = y->w;
    bool direct = wr->h->residual_scale == 0 && w->ffn_post_norm == NULL;
    if (in.slot == SLOT_X && w->gate_shared != NULL) { /* x changes before the shared one reads */
        emit_norm(wr, (exo_op_norm){.in = SLOT_X, .out = SLOT_NORMED, .weight = in.norm});
        in = (input){SLOT_NORMED, NULL};
    }
    build_route(wr, y, in);
    emit(wr, (exo_op){.kind = EXO_OP_EXPERTS,
                      .u.experts = {.in = in.slot,
                                    .route = SLOT_ROUTE,
                                    .norm = in.norm,
                                    .norm_eps = wr->h->norm_eps,
                                    .n_experts = e->n,
                                    .n_used = e->n_used,
                                    .n_parts = 2,
                                    .w = {w->gate_exps, w->up_exps},
                                    .bias = {w->gate_exps_bias, w->up_exps_bias},
                                    .out = SLOT_EXPERT_FF,
                                    .epilogue = wr->h->activation}});
    emit(wr, (exo_op){.kind = EXO_OP_EXPERTS,
                      .u.experts = {.in = SLOT_EXPERT_FF,
                                    .split = true,
                                    .route = SLOT_ROUTE,
                                    .n_experts = e->n,
                                    .n_used = e->n_used,
                                    .n_parts = 1,
                                    .w = {w->down_exps},
                                    .bias = {w->down_exps_bias},
                                    .out = SLOT_EXPERT_OUT,
                                    .epilogue = EXO_EPILOGUE_STORE}});
    emit(wr, (exo_op){.kind = EXO_OP_MIX,
                      .u.mix = {.in = SLOT_EXPERT_OUT,
                                .route = SLOT_ROUTE,
                                .out = direct ? SLOT_X : SLOT_TERM,
                                .n_used = e->n_used,
                                .add = direct}});
    if (!direct) {
        emit_norm(wr, (exo_op_norm){.in = SLOT_TERM,
                                    .out = SLOT_X,
                                    .norm = norm_kind(wr),
                                    .weight = w->ffn_post_norm,
                                    .scale = wr->h->residual_scale,
                                    .add = true});
    }
    if (w->gate_shared != NULL) build_shared(wr, y, in);
}

/* ---- the whole ---- */

/* With the f16 wire the residual is rounded wherever a cut could be, so that cuts are invisible. */
static void build_cut(writer *wr) {
    if (!wr->g->desc->wire_f16) return;
    emit(wr, (exo_op){.kind = EXO_OP_ROUND_F16, .u.round_slot = SLOT_X});
}

static void build_layer(writer *wr, const layer *y) {
    const exo_layer_weights *w = y->w;
    bool parallel = (wr->h->arch->norms & EXO_NORMS_PARALLEL) != 0;
    input in = normed(wr, w->attn_norm, w->attn_norm_bias);
    build_attention(wr, y, in);
    if (!parallel) in = normed(wr, w->ffn_norm, w->ffn_norm_bias);
    if (w->router != NULL) {
        build_experts(wr, y, in);
    } else {
        build_ffn(wr, y, in);
    }
    emit_out_norm(wr, w->layer_out_norm, w->layer_out_norm_bias);
    build_cut(wr);
}

static void build_embedding(writer *wr) {
    const exo_shard_weights *w = wr->g->weights;
    emit(wr, (exo_op){.kind = EXO_OP_EMBED,
                      .u.embed = {.out = SLOT_X,
                                  .table = w->embedding,
                                  .scale = wr->h->embedding_scale,
                                  .positions = w->positions,
                                  .bias = w->token_type}});
    emit_out_norm(wr, w->embd_norm, w->embd_norm_bias);
    build_cut(wr);
}

static void build_head(writer *wr) {
    const exo_shard_weights *w = wr->g->weights;
    input in = normed(wr, w->final_norm, w->final_norm_bias);
    emit(wr, (exo_op){.kind = EXO_OP_HEAD,
                      .u.head = {.in = in.slot,
                                 .norm = in.norm,
                                 .norm_eps = wr->h->norm_eps,
                                 .w = w->head,
                                 .bias = w->head_bias,
                                 .scale = wr->h->logit_scale,
                                 .softcap = wr->h->logit_softcap}});
}

size_t exo_graph_max_ops(const exo_graph *g) {
    return (size_t)g->weights->n_layers * MAX_OPS_PER_LAYER + MAX_OPS_AROUND;
}

size_t exo_graph_build(const exo_graph *g, exo_op *ops) {
    writer wr = {g, g->hparams, ops};
    if (g->desc->has_embedding) build_embedding(&wr);
    for (uint32_t i = 0; i < g->weights->n_layers; i++) {
        const layer y = {g->desc->layer_begin + i, &g->weights->layers[i], &g->kv[i]};
        build_layer(&wr, &y);
    }
    if (g->desc->has_head) build_head(&wr);
    if (g->desc->embeddings) {
        emit_out_norm(&wr, g->weights->final_norm, g->weights->final_norm_bias);
    }
    return (size_t)(wr.op - ops);
}

void exo_graph_widths(const exo_graph *g, uint32_t widths[EXO_GRAPH_SLOTS]) {
    const exo_hparams *h = g->hparams;
    const exo_latent *l = &h->latent;
    const exo_experts *e = &h->experts;
    uint32_t out_dim = h->arch->latent ? l->v_dim : h->v_dim;
    const uint32_t all[EXO_GRAPH_SLOTS] = {
        [SLOT_X] = h->n_embd,
        [SLOT_Q] = h->n_heads * h->head_dim,
        [SLOT_K] = h->n_kv_heads * h->head_dim,
        [SLOT_V] = h->n_kv_heads * h->v_dim,
        [SLOT_ATTN] = h->n_heads * out_dim,
        [SLOT_FF] = h->n_ff,
        [SLOT_NORMED] = h->n_embd,
        [SLOT_TERM] = h->n_embd,
        [SLOT_SCORES] = e->n,
        [SLOT_ROUTE] = 2 * e->n_used,
        [SLOT_EXPERT_FF] = e->n_used * e->n_ff,
        [SLOT_EXPERT_OUT] = e->n_used * h->n_embd,
        [SLOT_SHARED_FF] = e->n_ff_shared,
        [SLOT_SHARED_SCORE] = e->n_ff_shared > 0,
        [SLOT_SHARED_ROUTE] = 2 * (e->n_ff_shared > 0),
        [SLOT_Q_RANK] = l->q_rank,
        [SLOT_Q_RAW] = l->absorbed ? h->n_heads * (l->nope_dim + l->rope_dim) : 0,
        [SLOT_LATENT] = l->kv_rank,
        [SLOT_K_ROPE] = l->rope_dim,
        [SLOT_KV] = l->absorbed ? 0 : h->n_heads * (l->nope_dim + l->v_dim),
        [SLOT_Q_NOPE] = l->absorbed ? h->n_heads * l->nope_dim : 0,
        [SLOT_Q_LATENT] = l->absorbed ? h->n_heads * l->kv_rank : 0,
        [SLOT_O_LATENT] = l->absorbed ? h->n_heads * l->kv_rank : 0,
    };
    for (uint32_t i = 0; i < EXO_GRAPH_SLOTS; i++) widths[i] = all[i];
}
