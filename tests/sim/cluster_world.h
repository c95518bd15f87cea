/* cluster_world.h - whole clusters of nodes as they are built (src/cluster/cluster.h), on virtual
 * time: nodes that find each other, lose each other, go on alone and come together again.
 *
 * What goes wrong: messages lost, late, twice and out of order; links that break; networks cut one
 * or both ways; nodes that stall, crash between two actions, find their disk full, damaged or
 * empty; clocks that run fast or slow, or show another day.  Clients create and delete instances on
 * any node, and ask again elsewhere when no answer comes.  How often each of these happened is
 * counted: a fault that never happens tests nothing.  Instances compute, with a stand-in for the
 * engine, and clients ask for answers on any node, cancel, and ask again.
 *
 * After every event: one leader in a term of a log, one master in a term as shown, the same state
 * behind the same entry of a log on every node; no token of an answer twice, none out of order,
 * none that is not its own, none behind its end.  At the end, without faults: one log, one master,
 * one state, everything a client was told is done is done, every answer has ended, exact or with a
 * typed error, and nobody holds anything of it. */
#ifndef EXO_TESTS_CLUSTER_WORLD_H
#define EXO_TESTS_CLUSTER_WORLD_H

#include "cluster/cluster.h"
#include "sim/sim.h"

#define CLUSTER_WORLD_MAX_NODES 1000

/* Bugs that can be planted at the border between the step and its world. */
typedef enum {
    SPOIL_NONE,
    SPOIL_VOTE_NOT_PERSISTED,
    SPOIL_TERM_NOT_PERSISTED,
    SPOIL_ENTRIES_NOT_PERSISTED,
    SPOIL_TRUNCATION_NOT_PERSISTED,
    SPOIL_SNAPSHOT_NOT_PERSISTED,
    SPOIL_SNAPSHOT_OF_OLD_STATE,
    SPOIL_SNAPSHOT_FORGETS_MEMBERS,
    SPOIL_CARRY_NOT_PERSISTED,
    SPOIL_SENT_BEFORE_PERSISTED,
    SPOIL_DAMAGE_IGNORED,
    SPOIL_DISK_LOST_SAME_NAME,
    SPOIL_SESSION_REPEATED,
    SPOIL_COMMIT_TOO_FAR, /* from here on: in messages */
    SPOIL_ACK_TOO_FAR,
    SPOIL_REFUSAL_AS_ACK,
    SPOIL_OLD_LOG_ELECTED,
    SPOIL_REFUSED_VOTE_COUNTED,
    SPOIL_GAP_SKIPPED,
    SPOIL_LOG_NOT_COMPARED,
    SPOIL_ENTRY_CHANGED,
    SPOIL_IMAGE_LOSES_INSTANCE,
    SPOIL_LOGS_MIXED_UP,
    SPOIL_STALE_REPLY_COUNTED,
    SPOIL_END_LOST_WITH_NODE, /* from here on: of answers */
    SPOIL_WAITING_FORGOTTEN,
    SPOIL_GUESTS_KEPT,
    SPOIL_CANCEL_IGNORED,
    SPOIL_CANCEL_NOT_SENT,
    SPOIL_CANCELED_ROUTE_KEPT,
    SPOIL_DELETE_IGNORED,
    SPOIL_CREATE_IGNORED,
    SPOIL_LOSS_NOT_TOLD,
    SPOIL_HISTORY_FORGOTTEN,
    SPOIL_EVENT_SENT_TWICE,
    N_SPOILS,
} world_spoil;
const char *world_spoil_name(uint32_t s); /* NULL: there is none */

/* What happened, and how often. */
typedef enum {
    COUNT_EVENTS,
    COUNT_MESSAGES,
    COUNT_LOST,
    COUNT_TWICE,
    COUNT_LATE,
    COUNT_REORDERED,
    COUNT_LAST_WORDS, /* messages of a node that has died since */
    COUNT_CUTS,
    COUNT_CUTS_ONE_WAY,
    COUNT_STALLS,
    COUNT_STALLS_UNLINKED, /* so long that the node was taken for dead */
    COUNT_CRASHES,
    COUNT_CRASHES_IN_STEP,
    COUNT_DISKS_FULL,
    COUNT_DISKS_LOST,
    COUNT_DISKS_DAMAGED,
    COUNT_SNAPSHOTS_LOST, /* of them: the newest of two snapshots */
    COUNT_CLOCKS_OFF,     /* by a second in a minute or more */
    COUNT_MASTERS,
    COUNT_FORKS,
    COUNT_COMMANDS,
    COUNT_COMMANDS_ELSEWHERE, /* asked again on another node, under the same name */
    COUNT_COMMANDS_CUT_OFF,   /* attempts that ended because: the node died, */
    COUNT_COMMANDS_NO_MASTER, /* the node said that it has no master, */
    COUNT_COMMANDS_TIMED_OUT, /* nothing was heard for as long as the client cared to wait */
    COUNT_ACKNOWLEDGED,
    COUNT_WORDS,     /* what nodes, stages and threads tell each other about answers */
    COUNT_INSTANCES, /* that came to run */
    COUNT_INSTANCES_ENDED,
    COUNT_INSTANCES_MOVED, /* taken over from an owner that is away */
    COUNT_DELETED_DIES,    /* crashes of a node that ran what was deleted just then */
    COUNT_STEPS,           /* of all stages */
    COUNT_PUT_BACK,        /* answers that made room, and were read again from their tokens */
    COUNT_ANSWERS,
    COUNT_ANSWERS_AGAIN,     /* asked again under the same name */
    COUNT_ANSWERS_ELSEWHERE, /* attempts that another node computed */
    COUNT_ANSWERED,
    COUNT_ANSWERS_CANCELED,
    COUNT_ANSWERS_FAILED,        /* attempts that ended with a typed error, */
    COUNT_ANSWERS_FAILED_MIDWAY, /* behind a token, */
    COUNT_ANSWERS_CUT_OFF,       /* or with the node that was asked */
    N_COUNTS,
} world_count;
const char *world_count_name(world_count c);

typedef struct {
    uint64_t seed;
    uint32_t min_nodes, max_nodes; /* 0 = 2 to 7; drawn */
    uint64_t run_ms;               /* with faults; 0 = 40,000 */
    uint64_t calm_ms;              /* without, until all agree; 0 = 40,000 */
    bool peace;                    /* no faults; only the first 8 nodes have links to all others */
    world_spoil spoil;
    bool trace;
} cluster_world_desc;

/* What nodes send each other; the first ones as cluster_message.c numbers its kinds. */
typedef enum {
    TRAFFIC_RAFT_OTHER = 1, /* votes, snapshots */
    TRAFFIC_INFO,
    TRAFFIC_JOIN,
    TRAFFIC_EVENT,
    TRAFFIC_APPEND,
    TRAFFIC_APPEND_REPLY,
    N_TRAFFIC,
} world_traffic;

#define CLUSTER_WORLD_SETTLED_MS 30000 /* in peace: from then on traffic is counted by type */

typedef struct {
    bool ok;
    char why[256];
    uint64_t counts[N_COUNTS];
    uint64_t n_bytes;
    uint64_t traffic[N_TRAFFIC];       /* bytes of each type */
    uint64_t most_sent, most_received; /* bytes, of the node that has the most to say: the master */
    uint64_t least_sent, least_received; /* and of the last node, a learner */
    uint64_t converged_ms;               /* peace: when all first agreed */
} cluster_world_result;

cluster_world_result cluster_world_run(const cluster_world_desc *d);

#endif
