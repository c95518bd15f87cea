/* cluster.h - one node's part in a cluster: who is in it, who leads it, what all agree on.
 *
 * A pure step: an input goes in, actions come out; no socket, thread, file or clock.  The node and
 * the simulator carry out the very same actions.
 *
 * Each node begins with a log of its own (a cluster of one).  When two nodes with the same key and
 * different logs meet, one log yields to the other: its nodes are taken into the other log one by
 * one, and bring the instances they own with them.  A node that has lost the majority of its log
 * begins a *fork* of it after a while: a log of those it reaches, with the same state, under a
 * provisional term.  When the others are back, the fork yields to its parent, or the rest of the
 * parent to the fork, by the same way.  So a cluster of two survives one death, and a healed
 * partition reconciles.
 *
 * Actions are to be carried out in their order, and what they say is to be persisted must be on
 * disk before a later SEND leaves.  What an action borrows is valid until the next step.  After a
 * step that fails, drop its actions and create the cluster anew from what was persisted.
 * Thread: one at a time. */
#ifndef EXO_CLUSTER_CLUSTER_H
#define EXO_CLUSTER_CLUSTER_H

#include "cluster/raft.h"
#include "cluster/state.h"

/* Elected terms are shown in thousands; what stands between two of them is the term of a fork, with
 * the number of the node that began it: two masters never share one. */
#define EXO_CLUSTER_TERM_STEP         1000u
#define EXO_CLUSTER_MAX_MESSAGE_BYTES (24u << 20)

typedef struct exo_cluster exo_cluster;

/* What a node finds in its data directory; all-zero = nothing. */
typedef struct {
    uint64_t log_id; /* 0 = none */
    exo_raft_id member;
    uint64_t term;
    exo_raft_id vote;
    const exo_raft_snapshot *snapshot; /* NULL = none */
    const exo_raft_entry *entries;     /* behind the snapshot */
    uint32_t n_entries;
    const uint8_t *carry; /* a state's bytes: what the node brings along from its last log */
    uint32_t n_carry;
    bool damaged; /* entries may be missing: the node must not vote under its old name */
} exo_cluster_stored;

typedef struct {
    uint64_t node; /* this node's id */
    const char *name;
    bool voter_ok;
    bool alone;       /* it has no links, now or later */
    uint64_t seed;    /* unlike on every node, and in every run */
    uint64_t session; /* higher than in every earlier run */
    uint64_t unix_ms; /* when a log that is begun now says it was begun: older logs are kept */
    uint32_t heartbeat_ms, election_ms; /* 0 = raft.h's */
    uint32_t kept_entries;              /* 0 = 1024; so many become a snapshot */
    exo_cluster_stored stored;
} exo_cluster_desc;

/* ---- inputs ---- */

typedef enum {
    EXO_CLUSTER_TICK,
    EXO_CLUSTER_PEER_UP,   /* node: a link to it is open, and it is a member of the key's cluster */
    EXO_CLUSTER_PEER_DOWN, /* node: the link ended */
    EXO_CLUSTER_MESSAGE,   /* node sent bytes */
    EXO_CLUSTER_PROPOSE,   /* event; it is proposed until it counts.  tag comes back */
} exo_cluster_input_kind;

typedef struct {
    exo_cluster_input_kind kind;
    uint64_t node;
    const uint8_t *bytes;
    size_t n_bytes;
    const exo_event *event;
    uint64_t tag; /* 0 = nobody waits */
} exo_cluster_input;

/* ---- actions ---- */

typedef enum {
    /* A new log: drop everything that is stored, then store log_id, member and bytes (carry). */
    EXO_CLUSTER_PERSIST_LOG,
    EXO_CLUSTER_PERSIST_VOTE,     /* term, vote */
    EXO_CLUSTER_PERSIST_ENTRIES,  /* drop what is stored from entries[0].index on, store these */
    EXO_CLUSTER_PERSIST_SNAPSHOT, /* store it, drop entries up to its index; keep false: drop all */
    EXO_CLUSTER_PERSIST_CARRY,    /* bytes replace what is carried; none = all of it has arrived */
    EXO_CLUSTER_SEND,             /* bytes to node */
    EXO_CLUSTER_APPLIED,          /* event has counted, once, at index; tag: it was our own */
    EXO_CLUSTER_RESTORED,         /* the state was replaced as a whole, by that of index */
    EXO_CLUSTER_STATUS,           /* master, term or provisional have changed */
    EXO_CLUSTER_DROPPED,          /* tag: its event was given up; too many are waiting */
} exo_cluster_action_kind;

typedef struct {
    exo_cluster_action_kind kind;
    uint64_t log_id, term, node, tag;
    uint64_t index; /* 0 of an APPLIED: it counted within a state that came as a whole */
    exo_raft_id member, vote;
    bool keep;
    uint32_t n_entries;
    const exo_raft_entry *entries;
    const exo_raft_snapshot *snapshot;
    bool may_wait; /* SEND: until something else is sent, for some hundred ms */
    const uint8_t *bytes;
    size_t n_bytes;
    const exo_event *event;
} exo_cluster_action;

/* All-zero memory is an empty list; each step empties it first. */
typedef struct {
    exo_cluster_action *items;
    size_t n, cap;
} exo_cluster_actions;
void exo_cluster_actions_finish(exo_cluster_actions *a);

/* ---- life ---- */

/* The first actions (a new log, if need be) come with the first step.  EXO_EFORMAT when what was
 * stored contradicts itself. */
exo_status exo_cluster_create(const exo_cluster_desc *d, uint64_t now_ms, exo_cluster **out,
                              exo_error *err);
void exo_cluster_destroy(exo_cluster *c); /* NULL is allowed */

/* EXO_EFORMAT: a peer sent what no node sends; nothing has changed, its link should end. */
exo_status exo_cluster_step(exo_cluster *c, const exo_cluster_input *in, uint64_t now_ms,
                            exo_cluster_actions *out, exo_error *err);
uint64_t exo_cluster_deadline(const exo_cluster *c); /* ms: tick then, or a little later */

/* ---- questions ---- */

/* Borrowed until the next step. */
const exo_state *exo_cluster_state_of(const exo_cluster *c);
uint64_t exo_cluster_master(const exo_cluster *c); /* a node id; 0 = none now */
uint64_t exo_cluster_term(const exo_cluster *c);
bool exo_cluster_provisional(const exo_cluster *c);
uint64_t exo_cluster_log_id(const exo_cluster *c);
/* This node's part in the log, for the simulator's rules. */
const exo_raft *exo_cluster_raft(const exo_cluster *c);
size_t exo_cluster_waiting(const exo_cluster *c); /* own events that do not count yet */
bool exo_cluster_is_voter(const exo_cluster *c, uint64_t node);

#endif
