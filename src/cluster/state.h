/* state.h - what all nodes of a cluster agree on: who is in it and what it runs.
 *
 * It changes by events only, with integers only, in the order of the log: two nodes that applied
 * the same events hold the same bytes.  An event that makes no sense any more (of an instance that
 * is gone, of a node that was removed) changes nothing.  What is true at a moment (temperatures,
 * links, who is silent) is not in it.
 * Thread: one at a time. */
#ifndef EXO_CLUSTER_STATE_H
#define EXO_CLUSTER_STATE_H

#include "cluster/event.h"

#define EXO_STATE_MAX_NODES     4096
#define EXO_STATE_MAX_INSTANCES 1024
#define EXO_STATE_MAX_DOWNLOADS 1024
#define EXO_STATE_MAX_DELETED   256 /* ids of instances that are remembered as deleted */
#define EXO_STATE_MAX_VOTERS    5

typedef struct {
    uint64_t node, member;
    uint64_t session, number; /* its last event that was applied */
    uint32_t slot;            /* from 1 on, never given twice in one log */
    bool voter_ok, removed;
    char name[EXO_CLUSTER_NAME_BYTES];
} exo_state_node;

typedef struct {
    char id[EXO_CLUSTER_INSTANCE_BYTES];
    char model_id[EXO_CLUSTER_MODEL_BYTES];
    uint64_t owner; /* the node whose coordinator runs it */
    uint32_t min_nodes, n_cuts;
    uint32_t cuts[EXO_CLUSTER_MAX_CUTS];
} exo_state_instance;

/* A model that a node is to fetch; one that failed stays until it is asked for again or dropped. */
typedef struct {
    uint64_t node;
    char what[EXO_CLUSTER_MODEL_BYTES];
    char reason[EXO_CLUSTER_REASON_BYTES]; /* why it failed; "" = it is under way */
} exo_state_download;

typedef struct {
    char id[EXO_CLUSTER_INSTANCE_BYTES];
} exo_state_deleted;

/* All-zero memory is the empty state. */
typedef struct {
    exo_state_node *nodes; /* ascending by id */
    size_t n_nodes, cap_nodes;
    exo_state_instance *instances; /* in the order of their creation */
    size_t n_instances, cap_instances;
    exo_state_download *downloads;
    size_t n_downloads, cap_downloads;
    exo_state_deleted *deleted; /* oldest first */
    size_t n_deleted, cap_deleted;
    uint32_t last_slot;
    /* Of a log that was begun by nodes which had lost the majority of an earlier one: */
    uint64_t parent;    /* that log's id; 0 = this log is nobody's child */
    uint32_t fork_slot; /* of the node that began it */
    uint32_t n_parent_voters;
    uint64_t parent_voters[EXO_STATE_MAX_VOTERS]; /* node ids */
} exo_state;

void exo_state_finish(exo_state *s);

/* EXO_ENOMEM leaves a state that must not be used further; everything else is EXO_OK. */
exo_status exo_state_apply(exo_state *s, const exo_event_origin *o, const exo_event *e,
                           exo_error *err);

/* An event of this origin would change nothing any more: it, or a later one, has been applied. */
bool exo_state_is_old(const exo_state *s, const exo_event_origin *o);

/* The whole state as bytes and back; equal states have equal bytes. */
void exo_state_write(const exo_state *s, exo_buf *out);
exo_status exo_state_read(const uint8_t *bytes, size_t n, exo_state *out, exo_error *err);

/* NULL: there is none. */
const exo_state_node *exo_state_node_of(const exo_state *s, uint64_t node);
const exo_state_node *exo_state_member(const exo_state *s, uint64_t member);
const exo_state_instance *exo_state_instance_of(const exo_state *s, const char *id);
const exo_state_download *exo_state_download_of(const exo_state *s, uint64_t node,
                                                const char *what);
bool exo_state_was_deleted(const exo_state *s, const char *instance);

/* This log was begun without the majority of the earlier one, and still lacks it. */
bool exo_state_is_provisional(const exo_state *s);

#endif
