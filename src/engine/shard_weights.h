/* shard_weights.h - the tensors of one shard's layers, packed on its device.
 *
 * Only tensors of the range are touched.  Matrices are packed one by one and their source pages
 * dropped, so that a load never holds more than one tensor twice; norms and biases, a few
 * kilobytes each, become plain buffers.  A tied model whose embedding and head are both here
 * holds the matrix once.
 * Thread: COMPUTE. */
#ifndef EXO_ENGINE_SHARD_WEIGHTS_H
#define EXO_ENGINE_SHARD_WEIGHTS_H

#include "engine/shard.h"

typedef struct {
    exo_buffer *attn_norm; /* (n_embd) */
    exo_weight *q, *k, *v; /* (n_heads*head_dim, n_embd), (n_kv_heads*head_dim, ...) */
    exo_buffer *q_bias, *k_bias, *v_bias; /* one per row of q, k, v; NULL unless qkv_bias */
    exo_buffer *q_norm, *k_norm;          /* (head_dim); NULL unless qk_norm */
    exo_weight *o;                        /* (n_embd, n_heads*head_dim) */
    exo_buffer *ffn_norm;                 /* (n_embd) */
    exo_weight *gate, *up;                /* (n_ff, n_embd) */
    exo_weight *down;                     /* (n_embd, n_ff) */
} exo_layer_weights;

typedef struct {
    exo_weight *embedding;     /* (n_vocab, n_embd); NULL without the embedding */
    exo_weight *head;          /* (n_vocab, n_embd); the embedding when tied; NULL without head */
    exo_buffer *final_norm;    /* (n_embd); NULL without head */
    exo_layer_weights *layers; /* (n_layers) */
    uint32_t n_layers;
    uint64_t bytes; /* device memory of all of them */
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
