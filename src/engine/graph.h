/* graph.h - the forward pass of a layer range as a list of operations; private to shard.c.
 *
 * Which operations a layer consists of follows from the model's hyperparameters and from which
 * tensors it has, not from its architecture's name.
 * Thread: ANY. */
#ifndef EXO_ENGINE_GRAPH_H
#define EXO_ENGINE_GRAPH_H

#include "engine/shard_weights.h"

#define EXO_GRAPH_SLOTS 24

/* One layer's part of the page pool. */
typedef struct {
    exo_buffer *k; /* (n_pages, n_kv_heads, head_dim, 32) */
    exo_buffer *v; /* (n_pages, n_kv_heads, 32, v_dim) */
} exo_layer_kv;

typedef struct {
    const exo_hparams *hparams;
    const exo_shard_desc *desc; /* resolved */
    const exo_shard_weights *weights;
    const exo_layer_kv *kv; /* (layers of the shard) */
} exo_graph;

void exo_graph_widths(const exo_graph *g, uint32_t widths[EXO_GRAPH_SLOTS]);
size_t exo_graph_max_ops(const exo_graph *g);
/* Writes at most exo_graph_max_ops operations; returns how many. */
size_t exo_graph_build(const exo_graph *g, exo_op *ops);

#endif
