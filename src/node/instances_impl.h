/* instances_impl.h - what instances.c and instances_json.c share. */
#ifndef EXO_NODE_INSTANCES_IMPL_H
#define EXO_NODE_INSTANCES_IMPL_H

#include "node/node_impl.h"

/* What every stage of an instance must agree on, besides its layers. */
typedef struct {
    uint32_t ctx_tokens, max_seqs, chunk_tokens;
    bool kv_f16, wire_f16;
} exo_instance_settings;

/* Names the instance that a lane in the making belongs to. */
typedef struct {
    exo_node *node;
    char instance[EXO_INSTANCE_ID_BYTES];
} exo_lane_ctx;

exo_status exo_instance_start_worker(exo_instance *i, exo_model *m, const exo_instance_settings *s,
                                     exo_error *err);
/* Joins an instance of another owner as one of its stages. */
exo_status exo_instances_join(exo_node *n, const char *owner, const json_t *m, exo_error *err);

/* instances_json.c: all checked, wrong members are named. */
json_t *exo_shard_place_json(const exo_shard_place *p);
exo_status exo_instance_from_json(const json_t *m, exo_instance *i, exo_instance_settings *s,
                                  exo_error *err);
json_t *exo_stats_json(const exo_worker_stats *s);
void exo_stats_from_json(const json_t *m, exo_worker_stats *s);

#endif
