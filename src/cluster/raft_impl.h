/* raft_impl.h - a node's part in Raft, shared by raft*.c and by nobody else.
 *
 *   raft.c          life, time, terms and roles, what callers ask
 *   raft_vote.c     elections: asking, granting, counting
 *   raft_append.c   replication: sending, taking, committing, snapshots
 *   raft_config.c   who the members are, and changes of that */
#ifndef EXO_CLUSTER_RAFT_IMPL_H
#define EXO_CLUSTER_RAFT_IMPL_H

#include "cluster/raft_log.h"

#define EXO_RAFT_MAX_SENT_ENTRIES 64 /* in one APPEND */
#define EXO_RAFT_MAX_SENT_BYTES                                                                    \
    (256u << 10)                  /* of entries in one APPEND, unless it is one entry              \
                                   */
#define EXO_RAFT_MAX_AHEAD   1024 /* entries sent and not yet acknowledged */
#define EXO_RAFT_SNAPSHOT_MS 1000 /* before a snapshot is sent again */

/* What this node knows of a member, itself included. */
typedef struct {
    exo_raft_id id;
    bool voter;
    bool voted, refused; /* in the election under way */
    /* leader: */
    bool probing;        /* where its log agrees with ours is not known: one APPEND at a time */
    uint64_t next;       /* the next entry to send it */
    uint64_t match;      /* it has the log up to here */
    uint64_t heard_ms;   /* last reply */
    uint64_t send_at_ms; /* next heartbeat */
    uint64_t snapshot_until_ms; /* a snapshot is on its way */
} exo_raft_peer;

struct exo_raft {
    exo_raft_id id;
    uint32_t heartbeat_ms, learner_heartbeat_ms, election_ms;
    uint64_t rng;
    bool broken; /* takes no further event */

    /* persisted */
    uint64_t term;
    exo_raft_id vote;
    exo_raft_log log;

    uint64_t commit, applied;
    exo_raft_role role;
    exo_raft_id leader;
    uint64_t heard_leader_ms; /* last word of the leader of this term */
    uint64_t election_at_ms;
    uint64_t quorum_at_ms; /* leader: when to look whether a majority is there */
    bool hand_over;        /* this election was asked for by the leader */
    uint64_t config_at;    /* index of the entry that says who the members are */

    exo_raft_peer *peers;     /* the members, in the order of their entry */
    exo_raft_member *members; /* the same, for callers */
    uint32_t n_peers, n_voters;
    uint32_t self;         /* this node among them; n_peers = it is no member */
    uint64_t next_send_ms; /* leader: when the next heartbeat is due */

    uint64_t now_ms; /* of this call */
    exo_raft_actions *out;
    exo_status status; /* of this call; an error is the end */
};

/* Each adds an action; a failure is in r->status. */
exo_raft_action *exo_raft_emit(exo_raft *r, exo_raft_action_kind kind);
void exo_raft_send(exo_raft *r, const exo_raft_message *m); /* from and term are filled in */
void exo_raft_persist_vote(exo_raft *r);

void exo_raft_become_follower(exo_raft *r, uint64_t term, exo_raft_id leader);
void exo_raft_become_leader(exo_raft *r);
void exo_raft_set_role(exo_raft *r, exo_raft_role role, exo_raft_id leader);
void exo_raft_wait_for_leader(exo_raft *r); /* draws the next election timeout */

exo_raft_peer *exo_raft_find(const exo_raft *r, exo_raft_id id); /* NULL: no member */
uint32_t exo_raft_majority(const exo_raft *r);
bool exo_raft_may_stand(const exo_raft *r); /* this node is a voter */
void exo_raft_read_config(exo_raft *r);     /* members as the end of the log says */

void exo_raft_campaign(exo_raft *r, bool pre_vote);
void exo_raft_on_vote(exo_raft *r, const exo_raft_message *m);
void exo_raft_on_vote_reply(exo_raft *r, const exo_raft_message *m);

void exo_raft_append_own(exo_raft *r, exo_raft_entry_kind kind, const void *bytes, uint32_t n);
void exo_raft_replicate(exo_raft *r, exo_raft_peer *p, bool heartbeat);
void exo_raft_replicate_all(exo_raft *r);
void exo_raft_on_append(exo_raft *r, const exo_raft_message *m);
void exo_raft_on_append_reply(exo_raft *r, const exo_raft_message *m);
void exo_raft_on_snapshot(exo_raft *r, const exo_raft_message *m);
void exo_raft_advance_commit(exo_raft *r); /* leader: what a majority has */

#endif
