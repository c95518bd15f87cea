/* shard_weights.h - the tensors of one shard's layers, packed on its device.
 *
 * Only tensors of the range are touched.  Matrices are packed one by one and their source pages
 * dropped, so that a load never holds more than one tensor twice; norms and biases, a few
 * kilobytes each, become plain buffers.  A tied model whose embedding and head are both here
 * holds the matrix once.
 * Thread: COMPUTE. */
#ifndef EXO_ENGINE_SHARD_WEIGHTS_H
#define EXO_ENGINE_SHARD_WEIGHTS_H

#include "engine/pack_cache.h"
#include "engine/shard.h"

/* Shapes and meaning: exo_layer_tensors.  NULL where the layer has none. */
typedef struct {
    exo_buffer *attn_norm, *attn_norm_bias;
    exo_weight *q, *k, *v, *o;
    exo_buffer *q_bias, *k_bias, *v_bias, *o_bias;
    exo_buffer *q_norm, *k_norm, *sinks;
    exo_buffer *attn_post_norm, *attn_post_norm_bias, *attn_out_norm, *attn_out_norm_bias;
    exo_buffer *ffn_norm, *ffn_norm_bias;
    exo_weight *gate, *up, *down;
    exo_buffer *gate_bias, *up_bias, *down_bias;
    exo_buffer *ffn_post_norm, *ffn_post_norm_bias, *layer_out_norm, *layer_out_norm_bias;
    exo_weight *router;
    exo_buffer *router_bias, *choice_bias;
    exo_weight *gate_exps, *up_exps, *down_exps; /* all experts, one behind another */
    exo_buffer *gate_exps_bias, *up_exps_bias, *down_exps_bias;
    exo_weight *gate_shared, *up_shared, *down_shared, *shared_gate;
    exo_weight *q_a, *q_b, *kv_a, *k_rope, *kv_b, *k_b, *v_b;
    exo_buffer *q_a_norm, *kv_a_norm;
} exo_layer_weights;

typedef struct {
    exo_weight *embedding; /* (n_vocab, n_embd); NULL without the embedding */
    exo_weight *positions;
    exo_buffer *token_type, *embd_norm, *embd_norm_bias;
    exo_weight *head; /* (n_vocab, n_embd); the embedding when tied; NULL without head */
    exo_buffer *head_bias;
    exo_buffer *final_norm, *final_norm_bias; /* (n_embd); NULL without head */
    exo_layer_weights *layers;                /* (n_layers) */
    uint32_t n_layers;
    uint64_t bytes;        /* device memory of all of them */
    exo_pack_cache *cache; /* NULL: none; owned */
} exo_shard_weights;

/* Where they come from and go to; borrowed for the call. */
typedef struct {
    const exo_model *model;
    const exo_backend *backend;
    exo_device *device;
    exo_progress_fn progress; /* bytes of the file; may be NULL */
    void *ud;
} exo_weights_source;

/* d is resolved.  On failure *out is all zero.  EXO_EUNSUPPORTED names tensor and type;
 * EXO_ECANCELED when progress said so. */
exo_status exo_shard_weights_load(const exo_weights_source *from, const exo_shard_desc *d,
                                  exo_shard_weights *out, exo_error *err);
void exo_shard_weights_finish(exo_shard_weights *w, const exo_backend *backend,
                              exo_device *device); /* all-zero memory is allowed */

#endif
