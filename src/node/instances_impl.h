/* instances_impl.h - what instances.c, instances_log.c and instances_json.c share. */
#ifndef EXO_NODE_INSTANCES_IMPL_H
#define EXO_NODE_INSTANCES_IMPL_H

#include "node/node_impl.h"

/* What every stage of an instance must agree on, besides its layers. */
typedef struct {
    uint32_t ctx_tokens, max_seqs, chunk_tokens;
    bool kv_f16, kv_q8_0, wire_f16;
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

bool exo_instance_is_owned(const exo_instance *i);
/* Owner: connects once all have loaded, runs once all are ready and the cluster remembers it. */
void exo_instance_advance(exo_instance *i);
/* Plans and starts an instance; id NULL = a new one.  What this node runs of the model ends once
 * the new plan stands. */
exo_status exo_instances_begin(exo_node *n, const char *model_id, const exo_placement_wish *wish,
                               const char *id, exo_instance **out, exo_error *err);

/* instances_log.c */
void exo_instances_note_end(exo_node *n, const exo_instance *i);
void exo_instances_note_running(exo_instance *i);
void exo_instances_remember_tick(exo_node *n, uint64_t now_ms);
void exo_instances_drop_deletions(exo_node *n, const char *reason); /* who waits hears it */

/* instances_json.c: all checked, wrong members are named. */
json_t *exo_shard_place_json(const exo_shard_place *p);
exo_status exo_instance_from_json(const json_t *m, exo_instance *i, exo_instance_settings *s,
                                  exo_error *err);
json_t *exo_stats_json(const exo_worker_stats *s);
void exo_stats_from_json(const json_t *m, exo_worker_stats *s);

#endif
