/* raft_world_impl.h - the simulated cluster's data, shared by raft_world*.c.
 *
 *   raft_world.c        life of a run: time, faults, clients
 *   raft_world_node.c   a node: its disk, its state, carrying actions out
 *   raft_world_net.c    messages on their way
 *   raft_world_rules.c  what must never happen */
#ifndef EXO_TESTS_RAFT_WORLD_IMPL_H
#define EXO_TESTS_RAFT_WORLD_IMPL_H

#include "sim/raft_world.h"

enum {
    EVENT_TICK,
    EVENT_MESSAGE,
    EVENT_FAULT,
    EVENT_HEAL,
    EVENT_CLIENT,
    EVENT_START,
    EVENT_WAKE,
    EVENT_LOOK
};

#define MAX_CLIENTS 4

/* The state that the log drives: which command of each client was the last, and a hash over all
 * that changed it. */
typedef struct {
    uint64_t applied;           /* index */
    uint64_t chain;             /* hash over everything applied */
    uint64_t last[MAX_CLIENTS]; /* number of each client's last command; repeats change nothing */
} machine;

typedef struct {
    uint64_t term;
    exo_raft_id vote;
    exo_raft_snapshot snapshot; /* owned; index 0 = none */
    exo_raft_entry *entries;    /* owned; behind the snapshot */
    size_t n, cap;
} disk;

typedef struct {
    exo_raft_id id;
    bool exists, up, asleep;
    uint64_t epoch; /* raised at each crash and start */
    exo_raft *raft; /* NULL while down */
    exo_raft_actions out;
    disk disk;
    machine machine;
    double clock_rate; /* of this node's clock against true time */
    uint64_t clock_zero_us;
    uint64_t tick_at_us;      /* the tick that counts; others are old */
    exo_raft_id stale_leader; /* planted: an old term's leader that it obeys, */
    uint64_t stale_term;      /* and answers in that term */
} node;

typedef struct {
    uint64_t term;
    uint64_t
        seen_term;  /* of the node that applied it first: it was committed in this term at last */
    uint64_t hash;  /* of kind and bytes */
    uint64_t chain; /* the state's hash behind it */
} committed;

typedef struct {
    uint64_t number;      /* of its command under way */
    uint64_t index, term; /* where a leader said it would stand; 0 = not sent */
    uint32_t node;
    uint64_t deadline_us;
    uint64_t done; /* last command that it was told is done */
} client;

typedef struct {
    world_desc d;
    world_result *result;
    sim_rng rng;
    sim_queue queue;
    uint64_t now_us, quiet_us;
    bool calm;
    node nodes[WORLD_MAX_NODES];
    uint32_t n_nodes;
    bool cut[WORLD_MAX_NODES][WORLD_MAX_NODES]; /* from, to */
    uint32_t election_ms;
    double loss, twice;
    uint64_t delay_us;       /* largest */
    uint64_t fault_every_ms; /* at most */
    double quick_restart;    /* chance of a restart within 30 ms */
    double crash_between;    /* chance of a crash behind each action */
    client clients[MAX_CLIENTS];
    exo_raft_id next_id;

    /* what is known to be so */
    committed *log; /* [n_log]; entry i has index i + 1 */
    size_t n_log, cap_log;
    struct {
        uint64_t term;
        exo_raft_id leader;
    } * leaders;
    size_t n_leaders, cap_leaders;
} world;

void world_broken(world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static inline bool world_over(const world *w) { return !w->result->ok; }
node *world_find(world *w, exo_raft_id id);

/* node */
uint64_t node_now_ms(const world *w, const node *n);
void node_start(world *w, uint32_t i);
void node_crash(world *w, uint32_t i);
void node_free(node *n);
void node_lose_disk(node *n);
/* Carries out what the last call left in n->out. */
void node_act(world *w, uint32_t i);
void node_tick(world *w, uint32_t i);
void node_begin_cluster(node *n); /* its disk names it alone */
void machine_apply(machine *m, const exo_raft_entry *e);
void disk_drop_from(disk *k, uint64_t index);
bool disk_add(disk *k, const exo_raft_entry *e);

/* net */
void net_send(world *w, uint32_t from, const exo_raft_message *m);
void net_deliver(world *w, const sim_event *e);
void net_free_message(void *data);

/* rules */
void rules_applied(world *w, const node *n, const exo_raft_entry *e);
void rules_restored(world *w, const node *n);
void rules_role(world *w, const node *n);
void rules_at_the_end(world *w);

#endif
