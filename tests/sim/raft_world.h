/* raft_world.h - a cluster of nodes that agree on a log, on virtual time, with everything going
 * wrong: messages lost, late, twice and out of order; networks cut one or both ways; nodes that
 * stall, crash between two actions, lose their disk; clocks that run fast or slow; members that
 * come and go; snapshots all along.
 *
 * After every event the rules are checked: one leader in a term; a leader has every entry that was
 * ever committed; all nodes apply the same entries in the same order, each once; what a client was
 * told is done stays done.  At the end faults stop, and all nodes must come to one state. */
#ifndef EXO_TESTS_RAFT_WORLD_H
#define EXO_TESTS_RAFT_WORLD_H

#include "cluster/raft.h"
#include "sim/sim.h"

#define WORLD_MAX_NODES 64

/* Protocol bugs that can be planted: at the border between the log and its world, so that the
 * program under test is the one that ships. */
typedef enum {
    PLANT_NONE,
    PLANT_VOTE_NOT_PERSISTED,
    PLANT_TERM_NOT_PERSISTED,
    PLANT_ENTRIES_NOT_PERSISTED,
    PLANT_TRUNCATION_NOT_PERSISTED,
    PLANT_SENT_BEFORE_PERSISTED,
    PLANT_SNAPSHOT_NOT_PERSISTED,
    PLANT_STALE_TERM_OBEYED,
    PLANT_STALE_REPLY_COUNTED,
    PLANT_GAP_SKIPPED,
    PLANT_LOG_NOT_COMPARED,
    PLANT_COMMIT_TOO_FAR,
    PLANT_ACK_TOO_FAR,
    PLANT_REFUSAL_AS_ACK,
    PLANT_OLD_LOG_ELECTED,
    PLANT_REFUSED_VOTE_COUNTED,
    PLANT_VOTE_COUNTED_TWICE,
    PLANT_LEARNER_COUNTED,
    PLANT_SNAPSHOT_LOSES_ENTRY,
    PLANT_SNAPSHOT_OF_OLD_STATE,
    PLANT_SNAPSHOT_FORGETS_MEMBERS,
    PLANT_APPLIED_TWICE,
    PLANT_APPLY_SKIPPED,
    PLANT_DISK_LOST_SAME_ID,
    PLANT_ENTRY_CHANGED_ON_THE_WAY,
    N_PLANTS,
} world_plant;

typedef struct {
    uint64_t seed;
    uint32_t min_nodes, max_nodes; /* 0 = 1 to 7; drawn */
    uint64_t run_ms;               /* with faults; 0 = 20,000 */
    uint64_t calm_ms;              /* without, until all agree; 0 = 20,000 */
    bool peace;                    /* no faults at all */
    world_plant plant;
    bool trace; /* print every event */
} world_desc;

typedef struct {
    bool ok;
    char why[256]; /* the rule that was broken, and where */
    uint64_t n_events, n_messages, n_elections, n_committed, n_acknowledged, n_crashes;
    uint64_t n_snapshots, n_member_changes;
} world_result;

world_result world_run(const world_desc *d);

#endif
