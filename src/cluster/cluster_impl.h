/* cluster_impl.h - a node's part in its cluster, shared by cluster*.c and by nobody else.
 *
 *   cluster.c          life, inputs, actions, time
 *   cluster_log.c      Raft's actions carried over; own events on their way; beginning logs
 *   cluster_peers.c    what peers say of themselves: which log yields to which
 *   cluster_lead.c     a leader's duties: who is a member, who votes
 *   cluster_message.c  what nodes send each other, as bytes */
#ifndef EXO_CLUSTER_CLUSTER_IMPL_H
#define EXO_CLUSTER_CLUSTER_IMPL_H

#include "cluster/cluster.h"
#include "cluster/raft_wire.h"

#define EXO_CLUSTER_OWN_MS      100  /* between looks at what is under way */
#define EXO_CLUSTER_IDLE_MS     500  /* and when nothing is */
#define EXO_CLUSTER_INFO_MS     2000 /* between words to a peer about ourselves */
#define EXO_CLUSTER_JOIN_MS     300  /* between requests to be taken in */
#define EXO_CLUSTER_YIELD_MS    5000 /* before a request is given up for a while */
#define EXO_CLUSTER_RETRY_MS    1000 /* before an own event is proposed again */
#define EXO_CLUSTER_KEPT        1024 /* entries before they become a snapshot */
#define EXO_CLUSTER_MAX_WAITING 4096 /* own events */
#define EXO_CLUSTER_MAX_PEERS   4096

/* Of a log, as a node says it. */
typedef struct {
    uint64_t log_id, parent;
    exo_raft_id member; /* the node's name in it */
    uint64_t term;      /* as shown */
    uint64_t leader;    /* node id; 0 = the log has no leader now */
    uint32_t n_members;
    bool provisional, voter_ok;
} exo_cluster_info;

typedef struct {
    uint64_t node;
    uint64_t info_at_ms; /* when to tell it about us again */
    uint64_t heard_ms;
    bool knows; /* it has told us */
    exo_cluster_info info;
} exo_cluster_peer;

/* A node that asked to be taken into our log. */
typedef struct {
    uint64_t node, log_id, term;
    exo_raft_id member;
    bool voter_ok;
    char name[EXO_CLUSTER_NAME_BYTES];
    uint64_t at_ms;
} exo_cluster_join;

typedef struct {
    exo_event event;
    uint64_t number, tag, send_at_ms;
    bool sent; /* in this run: it may come back from the log */
} exo_cluster_waiting_event;

struct exo_cluster {
    uint64_t node;
    char name[EXO_CLUSTER_NAME_BYTES];
    bool voter_ok, alone;
    uint32_t heartbeat_ms, election_ms, kept_entries;
    uint64_t rng, unix_ms, started_ms;

    uint64_t log_id;
    exo_raft_id member;
    exo_raft *raft;
    exo_raft_actions raft_out;
    exo_state state;
    exo_raft_id leader;
    uint64_t master;        /* the leader's node; 0 = none, or not known */
    uint64_t leaderless_ms; /* since when; 0 = there is a leader */
    bool had_leader;        /* in this run */
    uint64_t compact_at; /* entries that are kept for another reason are not tried again at once */
    exo_cluster_info said; /* what peers were told last */

    uint64_t session, last_number;
    exo_cluster_waiting_event *waiting; /* oldest first */
    size_t n_waiting, cap_waiting;

    exo_state carry; /* the last log's state, while not all that is ours in it has arrived */
    bool has_carry;
    enum {
        EXO_CLUSTER_MARK_NONE,
        EXO_CLUSTER_MARK_SENT,
        EXO_CLUSTER_MARK_PASSED
    } carry_mark; /* whether this node has seen the new log up to a mark of its own */

    exo_cluster_peer *peers; /* ascending by node */
    size_t n_peers, cap_peers;
    size_t route; /* where the last member was found */

    /* Yielding: this node has asked to be taken into another log. */
    uint64_t yield_to, yield_until_ms, join_at_ms, rest_until_ms;
    exo_raft_id yield_member;

    /* A leader's. */
    exo_cluster_join *joins;
    size_t n_joins, cap_joins;
    bool members_changed;
    uint64_t lead_at_ms;
    struct {
        exo_raft_id member;
        uint64_t ms;
    } seen[EXO_RAFT_MAX_VOTERS]; /* voters, when they were last linked */

    uint64_t own_at_ms;
    bool begin; /* a log is to be begun with the first step */
    bool broken;

    uint64_t now_ms; /* of this step */
    exo_cluster_actions *out;
    exo_arena arena; /* of this step */
    exo_buf bytes;   /* a message being written */
    exo_status status;
    exo_error *err;
};

/* cluster.c */
exo_cluster_action *exo_cluster_emit(exo_cluster *c, exo_cluster_action_kind kind);
void exo_cluster_fail(exo_cluster *c, exo_status st);
void *exo_cluster_keep(exo_cluster *c, const void *bytes, size_t n); /* a copy for this step */
uint64_t exo_cluster_draw(exo_cluster *c);                           /* never 0 */

/* cluster_log.c */
void exo_cluster_take(exo_cluster *c); /* what the last call of Raft left */
void exo_cluster_begin_log(exo_cluster *c, bool fork);
void exo_cluster_enter_log(exo_cluster *c, uint64_t log_id, exo_raft_id member);
void exo_cluster_propose(exo_cluster *c, const exo_event *e, uint64_t tag);
void exo_cluster_push_waiting(exo_cluster *c);
void exo_cluster_bring(exo_cluster *c);   /* what is carried and ours is proposed */
void exo_cluster_compact(exo_cluster *c); /* when the log has grown */

/* cluster_peers.c */
exo_cluster_peer *exo_cluster_find_peer(const exo_cluster *c, uint64_t node);
exo_cluster_peer *exo_cluster_peer_of_member(exo_cluster *c, exo_raft_id member);
void exo_cluster_peer_up(exo_cluster *c, uint64_t node);
void exo_cluster_peer_down(exo_cluster *c, uint64_t node);
void exo_cluster_forget_joins(exo_cluster *c, uint64_t node);
void exo_cluster_tell(exo_cluster *c);       /* peers that should hear about us */
void exo_cluster_reconsider(exo_cluster *c); /* yield, or begin a fork, if it is time */
exo_cluster_info exo_cluster_own_info(const exo_cluster *c);

/* cluster_lead.c */
void exo_cluster_on_join(exo_cluster *c, const exo_cluster_join *j);
void exo_cluster_lead(exo_cluster *c);

/* cluster_message.c */
void exo_cluster_send_raft(exo_cluster *c, uint64_t node, const exo_raft_message *m);
void exo_cluster_send_info(exo_cluster *c, uint64_t node, const exo_cluster_info *i, bool news);
void exo_cluster_send_join(exo_cluster *c, uint64_t node);
void exo_cluster_send_event(exo_cluster *c, uint64_t node, const exo_cluster_waiting_event *w);
/* EXO_EFORMAT: what no node sends. */
exo_status exo_cluster_on_message(exo_cluster *c, uint64_t node, const uint8_t *bytes, size_t n,
                                  exo_error *err);

#endif
