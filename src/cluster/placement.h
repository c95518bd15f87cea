/* placement.h - which node computes which layers.  Pure: numbers in, plan out.
 *
 * So far an even split by layers over the first n candidates; the planner that weighs measured
 * speed, memory and links takes this file's place behind the same call.
 * Thread: ANY. */
#ifndef EXO_CLUSTER_PLACEMENT_H
#define EXO_CLUSTER_PLACEMENT_H

#include <exo/base.h>

#define EXO_MAX_STAGES 64

typedef struct {
    char node_id[17];
    char device_id[32];
    uint32_t start_layer, end_layer; /* [start, end) */
    uint32_t rank, world_size;       /* tensor-parallel share: 0 of 1 in a pipeline */
} exo_shard_place;

typedef struct {
    char node_id[17];
    char device_id[32];
} exo_place_candidate;

/* Splits n_layers over the first n_stages candidates, in their order; the first stages take the
 * remainder.  out: (n_stages).  EXO_EINVAL when there are fewer candidates or layers than stages;
 * the message has the numbers. */
exo_status exo_place_even(const exo_place_candidate *candidates, uint32_t n_candidates,
                          uint32_t n_layers, uint32_t n_stages, exo_shard_place *out,
                          exo_error *err);

/* The same for a split that somebody asked for: stage i ends before layer cuts[i] (n_stages - 1
 * cuts, ascending, within (0, n_layers)). */
exo_status exo_place_cuts(const exo_place_candidate *candidates, uint32_t n_candidates,
                          uint32_t n_layers, uint32_t n_stages, const uint32_t *cuts,
                          exo_shard_place *out, exo_error *err);

#endif
