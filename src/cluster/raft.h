/* raft.h - the log that all nodes agree on, and who may write to it: Raft as published.
 *
 * A pure step: calls bring events in and leave what must be done in `out`; there is no socket,
 * file, thread or clock here.  Beside elections and replication there are pre-vote (a node that
 * comes back disturbs nobody), check-quorum (a leader that is cut off steps down), snapshots,
 * changes of one voter at a time, learners and hand-over of leadership.
 *
 * The caller carries the actions out in their order.  What is to be persisted must be on disk
 * before the actions after it, messages above all: a reply is a promise.  What an action borrows is
 * valid until the next call.
 *
 * A call that returns EXO_ENOMEM or EXO_EINTERNAL leaves a log that takes no further event: drop
 * its actions and start again from what was persisted, as after a crash.
 *
 * Thread: one at a time. */
#ifndef EXO_CLUSTER_RAFT_H
#define EXO_CLUSTER_RAFT_H

#include <exo/base.h>

#define EXO_RAFT_MAX_VOTERS        5
#define EXO_RAFT_MAX_MEMBERS       4096
#define EXO_RAFT_MAX_COMMAND_BYTES (1u << 20)

typedef struct exo_raft exo_raft;
typedef uint64_t exo_raft_id; /* a node; 0 = nobody */

typedef enum {
    EXO_RAFT_FOLLOWER,
    EXO_RAFT_PRE_CANDIDATE,
    EXO_RAFT_CANDIDATE,
    EXO_RAFT_LEADER
} exo_raft_role;

/* ---- the log ---- */

typedef enum {
    EXO_RAFT_NOOP,    /* a new leader's first entry */
    EXO_RAFT_COMMAND, /* the caller's bytes */
    EXO_RAFT_CONFIG,  /* who the members are from here on: exo_raft_config_* */
} exo_raft_entry_kind;

typedef struct {
    uint64_t index, term; /* from 1 on */
    exo_raft_entry_kind kind;
    uint32_t n_bytes;
    const uint8_t *bytes;
} exo_raft_entry;

/* Everything up to an index, in one piece. */
typedef struct {
    uint64_t index, term;
    uint32_t n_config, n_image;
    const uint8_t *config; /* the members at that index, as a CONFIG entry has them */
    const uint8_t *image;  /* the caller's state at that index */
} exo_raft_snapshot;

typedef struct {
    exo_raft_id id;
    bool voter; /* else a learner: gets the log, has no say */
} exo_raft_member;

/* A CONFIG entry's bytes, 9 for each member: id (u64), voter (u8).  config_read checks them: no
 * member twice, 1 to EXO_RAFT_MAX_VOTERS voters; out: (EXO_RAFT_MAX_MEMBERS at most). */
#define EXO_RAFT_MEMBER_BYTES 9
void exo_raft_config_write(const exo_raft_member *m, uint32_t n, uint8_t *out);
exo_status exo_raft_config_read(const uint8_t *bytes, uint32_t n_bytes, exo_raft_member *out,
                                uint32_t *n, exo_error *err);

/* ---- messages ---- */

typedef enum {
    EXO_RAFT_PRE_VOTE = 1, /* would you vote for me? */
    EXO_RAFT_PRE_VOTE_REPLY,
    EXO_RAFT_VOTE,
    EXO_RAFT_VOTE_REPLY,
    EXO_RAFT_APPEND, /* without entries: a heartbeat */
    EXO_RAFT_APPEND_REPLY,
    EXO_RAFT_SNAPSHOT,    /* answered by APPEND_REPLY */
    EXO_RAFT_TIMEOUT_NOW, /* hand-over: stand for election at once */
} exo_raft_message_type;

typedef struct {
    exo_raft_message_type type;
    exo_raft_id from, to;
    uint64_t term;
    uint64_t index;    /* votes: the candidate's last entry; APPEND: the entry before the first one
                        * sent; its reply: the last one that matches, or the one refused */
    uint64_t log_term; /* term of the entry at index */
    uint64_t commit;   /* APPEND */
    uint64_t hint;     /* a refused APPEND: the last entry that may match */
    bool refused;      /* replies */
    bool hand_over;    /* VOTE: the leader itself asked for it */
    bool may_wait; /* not sent: nothing becomes later by it, it shows that its sender is there */
    uint32_t n_entries;
    const exo_raft_entry *entries;     /* APPEND: consecutive, from index + 1 on */
    const exo_raft_snapshot *snapshot; /* SNAPSHOT */
} exo_raft_message;

/* ---- actions ---- */

typedef enum {
    EXO_RAFT_PERSIST_VOTE,     /* term and vote */
    EXO_RAFT_PERSIST_ENTRIES,  /* drop what is stored from entries[0].index on, store these */
    EXO_RAFT_PERSIST_SNAPSHOT, /* store it, then drop entries up to its index.  `keep` false: it is
                                * another's log, drop all entries */
    EXO_RAFT_SEND,
    EXO_RAFT_APPLY,   /* entries: one that is committed, in order, each once in a run */
    EXO_RAFT_RESTORE, /* snapshot: the caller's state becomes its image */
    EXO_RAFT_ROLE,    /* role, leader or term have changed: ask for them */
} exo_raft_action_kind;

typedef struct {
    exo_raft_action_kind kind;
    uint64_t term;
    exo_raft_id vote;
    bool keep;
    uint32_t n_entries;
    const exo_raft_entry *entries;
    const exo_raft_snapshot *snapshot;
    exo_raft_message message;
} exo_raft_action;

/* All-zero memory is an empty list; each call of the log empties it first. */
typedef struct {
    exo_raft_action *items;
    size_t n, cap;
} exo_raft_actions;
void exo_raft_actions_finish(exo_raft_actions *a);

/* ---- the log's life ---- */

typedef struct {
    exo_raft_id id;                /* this node */
    uint64_t seed;                 /* of the election timeouts; unlike on every node */
    uint32_t heartbeat_ms;         /* 0 = 100; to voters */
    uint32_t learner_heartbeat_ms; /* 0 = 1000 */
    uint32_t election_ms;          /* 0 = 500: silence of 1 to 2 times this starts an election */

    /* What was persisted; a first node of a new cluster has a snapshot of index 1 whose config
     * names it alone, one that waits to be invited has nothing. */
    uint64_t term;
    exo_raft_id vote;
    const exo_raft_snapshot *snapshot; /* NULL = none */
    const exo_raft_entry *entries;     /* behind the snapshot, consecutive */
    uint32_t n_entries;
} exo_raft_desc;

/* Copies what it is given.  EXO_EFORMAT when what was persisted contradicts itself.  The caller's
 * state is the snapshot's image; entries behind it are applied once they are known to be
 * committed. */
exo_status exo_raft_create(const exo_raft_desc *d, uint64_t now_ms, exo_raft **out, exo_error *err);
void exo_raft_destroy(exo_raft *r); /* NULL is allowed */

/* ---- events ---- */

/* Time has passed.  Call it at exo_raft_deadline or a little later. */
exo_status exo_raft_tick(exo_raft *r, uint64_t now_ms, exo_raft_actions *out, exo_error *err);
uint64_t exo_raft_deadline(const exo_raft *r); /* ms, as now_ms counts */

/* A peer's message, its `from` known from the link.  One that makes no sense is EXO_EFORMAT and
 * changes nothing; one that is old is ignored. */
exo_status exo_raft_receive(exo_raft *r, const exo_raft_message *m, uint64_t now_ms,
                            exo_raft_actions *out, exo_error *err);

/* Bytes for the log; *index is where they will stand, unless another leader comes first.
 * EXO_EBUSY on a node that does not lead. */
exo_status exo_raft_propose(exo_raft *r, const void *bytes, uint32_t n, exo_raft_actions *out,
                            uint64_t *index, exo_error *err);

/* The members from now on; differs from the present ones by at most one voter.  EXO_EBUSY on a
 * node that does not lead, while another change is not committed, and before the first entry of
 * this leader's term is. */
exo_status exo_raft_set_members(exo_raft *r, const exo_raft_member *m, uint32_t n, uint64_t now_ms,
                                exo_raft_actions *out, exo_error *err);

/* The caller's state after everything that was applied: the log up to there is dropped. */
exo_status exo_raft_compact(exo_raft *r, const void *image, uint32_t n, exo_raft_actions *out,
                            exo_error *err);

/* Asks a voter to lead instead of this node; EXO_EBUSY when it is not up to date. */
exo_status exo_raft_hand_over(exo_raft *r, exo_raft_id to, exo_raft_actions *out, exo_error *err);

/* The link to a member ended.  When it led, another is elected soon instead of after its silence.
 */
exo_status exo_raft_lost(exo_raft *r, exo_raft_id id, uint64_t now_ms, exo_raft_actions *out,
                         exo_error *err);

/* Goes on in a term behind `term`, which was seen elsewhere: whoever leads then leads a later one.
 */
exo_status exo_raft_raise_term(exo_raft *r, uint64_t term, uint64_t now_ms, exo_raft_actions *out,
                               exo_error *err);

/* ---- questions ---- */

exo_raft_role exo_raft_role_of(const exo_raft *r);
exo_raft_id exo_raft_leader(const exo_raft *r); /* 0 = not known */
uint64_t exo_raft_term(const exo_raft *r);
uint64_t exo_raft_commit_index(const exo_raft *r);
uint64_t exo_raft_last_index(const exo_raft *r);
uint64_t exo_raft_applied_index(const exo_raft *r);
/* Borrowed until the next call; NULL unless it stands behind the snapshot. */
const exo_raft_entry *exo_raft_entry_at(const exo_raft *r, uint64_t index);
/* Entries that are kept since the last snapshot: when to compact. */
uint64_t exo_raft_kept_entries(const exo_raft *r);
/* Borrowed until the next call. */
const exo_raft_member *exo_raft_members(const exo_raft *r, uint32_t *n);
/* On a leader: the last entry that this member is known to have; 0 = unknown. */
uint64_t exo_raft_match_index(const exo_raft *r, exo_raft_id id);

#endif
