/* cluster_world_impl.h - the simulated cluster's data, shared by cluster_world*.c.
 *
 *   cluster_world.c        life of a run: time, faults, links, clients
 *   cluster_world_node.c   a node: its disk, carrying actions out
 *   cluster_world_client.c commands, asked for and asked again
 *   cluster_world_spoil.c  planted bugs
 *   cluster_world_rules.c  what must never happen
 *
 * Answers, and the instances that compute them: cluster_world_engine.h. */
#ifndef EXO_TESTS_CLUSTER_WORLD_IMPL_H
#define EXO_TESTS_CLUSTER_WORLD_IMPL_H

#include "sim/cluster_world.h"

#define SIM_MS       1000u
#define MAX_REQUESTS 4096
#define RAFT_TYPE_AT 9 /* in a message: kind u8, log_id u64 come before */
#define N_MODELS     7 /* that clients ask for */
#define MAX_STAGES   3 /* nodes of one instance */

enum {
    EVENT_TICK = 1,
    EVENT_MESSAGE,
    EVENT_FAULT,
    EVENT_HEAL,
    EVENT_LINKS,
    EVENT_CLIENT,
    EVENT_START,
    EVENT_WAKE,
    EVENT_CRASH,
    EVENT_WORD,
    EVENT_ENGINES
};

/* Of messages that come in order and once: the last one that was sent, and that arrived. */
typedef struct {
    uint64_t sent, seen, last_us;
} sim_order;

typedef struct sim_engine sim_engine;
typedef struct sim_stream sim_stream;

typedef struct {
    uint64_t log_id, term, session;
    exo_raft_id member, vote;
    exo_raft_snapshot snapshot, older; /* the last two; owned; index 0 = none */
    exo_raft_entry *entries;           /* owned */
    size_t n, cap;
    uint8_t *carry; /* owned */
    size_t n_carry;
    bool damaged;
} sim_disk;

typedef struct {
    uint64_t id;
    bool up, asleep;
    uint64_t epoch; /* raised with each crash */
    exo_cluster *cluster;
    exo_cluster_actions out;
    sim_disk disk;
    double clock_rate;
    int64_t clock_off_ms; /* of the time of day */
    uint64_t clock_zero_us, tick_at_us;
    uint64_t sent_bytes, received_bytes; /* once all has settled */
    exo_raft_id shown_member;
    uint64_t shown_log, shown_index; /* the state that was last checked */
    uint64_t checked_term, checked_log;
    uint8_t *old_image; /* planted: of an earlier snapshot */
    uint32_t n_old_image;
    sim_engine *engine; /* its instances and answers; NULL in peace */
} sim_node;

typedef struct {
    uint32_t from, to;
    uint64_t link_epoch, number;
    size_t n;
    uint8_t bytes[];
} sim_message;

typedef struct {
    bool up;
    uint64_t epoch, break_at_us;
    uint64_t sent[2],
        seen[2]; /* messages: the number of the last one; from the lower index, to it */
    sim_order words[2];
} sim_link;

typedef struct {
    uint64_t created, deleted; /* when they were acknowledged, us; 0 = not */
    bool delete_asked;
    uint32_t n_attempts;
    /* the attempt under way, or the last one: */
    bool asked;
    uint32_t node;
    uint64_t epoch;            /* of the node that was asked */
    uint64_t node_says_us;     /* when that node says that it has no master */
    uint64_t patient_until_us; /* how long the client waits for it */
    uint64_t again_us;         /* not asked: when to ask again */
} sim_request;

/* 64 bits to 64 bits; open addressing. */
typedef struct {
    uint64_t *keys, *values;
    size_t n, cap;
} sim_map;
uint64_t *sim_map_at(sim_map *m, uint64_t key, bool *fresh); /* key is not 0 */

typedef struct {
    cluster_world_desc d;
    cluster_world_result *result;
    sim_rng rng;
    sim_queue queue;
    uint64_t now_us;
    bool calm, lossy; /* lossy: what was acknowledged may rightly be lost */
    sim_node *nodes;
    uint32_t n_nodes;
    sim_link *links; /* (n_nodes, n_nodes), the lower index first */
    bool *cut;       /* (n_nodes, n_nodes): from, to */
    double loss, twice, late, late_replies, crash_between, quick_restart, disk_full, relink;
    uint64_t links_ms; /* between looks at which links can be */
    bool duel;         /* elections meet: see draw_duel */
    double crash_behind_vote;
    uint32_t heartbeat_ms, election_ms; /* 0 = raft.h's */
    uint32_t late_ms;                   /* at most: a message that was held up somewhere */
    uint32_t kept_entries;
    uint64_t delay_us, fault_every_ms;
    sim_request requests[MAX_REQUESTS];
    uint32_t n_requests;
    sim_map leaders, masters, states;
    sim_rng engine_rng; /* of all that concerns answers: the rest of a seed stays the same */
    uint64_t n_uids, quiet_us;
    uint64_t calm_us; /* since when; 0 = not yet */
    sim_stream *streams;
    uint32_t n_streams;
} cworld;

static inline void count(cworld *w, world_count c) { w->result->counts[c]++; }
static inline bool cworld_over(const cworld *w) { return !w->result->ok; }
static inline sim_link *link_of(cworld *w, uint32_t a, uint32_t b) {
    return a < b ? &w->links[a * w->n_nodes + b] : &w->links[b * w->n_nodes + a];
}
void cworld_broken(cworld *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* node */
void cnode_start(cworld *w, uint32_t i);
void cnode_crash(cworld *w, uint32_t i);
void cnode_step(cworld *w, uint32_t i, const exo_cluster_input *in);
void cnode_free(sim_node *n);
void disk_clear(sim_disk *k);
void disk_drop(sim_disk *k, uint64_t from); /* entries from there on */
bool disk_lose_snapshot(sim_disk *k);       /* the newest; false: there is no other */
uint64_t cnode_now_ms(const cworld *w, const sim_node *n);
void cworld_send(cworld *w, uint32_t from, const exo_cluster_action *a);
uint8_t *sim_copy(const void *bytes, size_t n);
int cworld_index(const cworld *w, uint64_t id); /* -1: nobody */

/* spoil */
bool spoil_persist(cworld *w, sim_node *n, exo_cluster_action *a); /* true: it is skipped */
/* A message on its way out of `from`, changed; NULL: as it is.  The caller frees. */
uint8_t *spoil_message(cworld *w, sim_node *from, sim_node *to, const uint8_t *bytes, size_t n,
                       size_t *n_out);

/* client */
void clients_act(cworld *w, bool quiet);                /* quiet: nothing new is asked for */
void clients_hear(cworld *w, uint32_t i, uint64_t tag); /* node i: it is done */
void clients_final(cworld *w);

/* engine: a node's instances and answers */
void engine_start(cworld *w, uint32_t node);
void engine_crash(cworld *w, uint32_t node);
void engine_peer(cworld *w, uint32_t node, uint32_t peer, bool up);
void engine_action(cworld *w, uint32_t node, const exo_cluster_action *a);
void engine_deleted(cworld *w, const char *instance); /* a client has heard so */
void engine_tick(cworld *w);
void engine_word(cworld *w, sim_event *e);
void engine_drop_word(void *word);

/* stream */
void streams_act(cworld *w);
void streams_node_gone(cworld *w, uint32_t node);
void streams_final(cworld *w);
void streams_finish(cworld *w);

/* rules */
void rules_after_step(cworld *w, uint32_t i);
void rules_final(cworld *w);
bool rules_agree(const cworld *w, bool say, char *why, size_t cap);

#endif
