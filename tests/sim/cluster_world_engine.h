/* cluster_world_engine.h - answers in the simulated cluster: instances that compute, and whoever
 * asks them.
 *
 *   cluster_world_word.c     what processes say to each other in order: links, lanes, threads
 *   cluster_world_place.c    instances of a node: placed, loaded, connected, running, ended
 *   cluster_world_remember.c which of them the log says this node is to run
 *   cluster_world_stage.c    an engine stand-in: stages, and the coordinator of each instance
 *   cluster_world_route.c    answers asked on a node, and its guests
 *   cluster_world_stream.c   clients that ask, read, cancel and ask again; what must hold of them
 *
 * The rules are those of src/node (instances.c, instances_log.c, worker.c, coordinator.c,
 * routes.c), the pure parts are the very same code: the scheduler (src/engine/scheduler.h), steps
 * as bytes, the even split (src/cluster/placement.h), routes (src/cluster/route.h), and the state
 * that all agree on. */
#ifndef EXO_TESTS_CLUSTER_WORLD_ENGINE_H
#define EXO_TESTS_CLUSTER_WORLD_ENGINE_H

#include "cluster/placement.h"
#include "cluster/route.h"
#include "engine/scheduler.h"
#include "sim/cluster_world_impl.h"

#define SIM_LAYERS    6
#define SIM_SEQS      4
#define SIM_CTX       160 /* tokens: prompt and answer */
#define SIM_ROWS      24  /* of one step */
#define SIM_SEQ_PAGES (SIM_CTX / 32)
#define SIM_MAX_PAGES (2 * SIM_SEQ_PAGES)
#define MAX_STREAMS   1024

/* ---- words: unlike what the log sends, they come in order and once, or not at all ---- */

typedef enum {
    WORD_CREATE, /* on the link of two nodes, as in src/node/instances.c */
    WORD_LOADED,
    WORD_CONNECT,
    WORD_READY,
    WORD_FAILED,
    WORD_DELETE,
    WORD_RECORD, /* which models a node runs */
    WORD_SUBMIT, /* as in src/node/routes.c */
    WORD_EVENT,
    WORD_CANCEL,
    WORD_LANE, /* on the lane of two stages */
    WORD_ADMIT,
    WORD_STEP,
    WORD_RESULT,
    WORD_CLOSED,
    WORD_ASK, /* to a node's LOOP, from its clients and from its other threads */
    WORD_HANG_UP,
    WORD_PROPOSE,
    WORD_REPORT_LOADED,
    WORD_REPORT_READY,
    WORD_REPORT_FAILED,
    WORD_GUEST_EVENT,
    WORD_ROUTE_DONE,
    WORD_WORK_LOADED, /* to the COMPUTE thread of an instance */
    WORD_WORK_CONNECT,
    WORD_WORK_SUBMIT,
    WORD_WORK_CANCEL,
    WORD_WORK_RESULT,
} word_kind;

typedef struct sim_lane sim_lane;
typedef struct sim_instance sim_instance;

/* What whoever asked gets; status other than EXO_OK or finished: the last one. */
typedef struct {
    exo_status status;
    bool has_token, finished;
    uint32_t pos; /* of the answer's tokens, from 0 on */
    int32_t token;
} sim_answer_event;

typedef struct {
    word_kind kind;
    uint32_t from, to; /* nodes; the same for threads of one */
    uint64_t epoch;    /* of the link or of the node */
    uint64_t uid;      /* COMPUTE: of the instance */
    sim_lane *lane;
    uint32_t end; /* of the lane, that it goes to */
    uint64_t number, depart_us;
    char instance[EXO_CLUSTER_INSTANCE_BYTES];
    uint32_t instance_epoch, stage, model, n_pages, n_stages;
    exo_shard_place places[MAX_STAGES];
    uint64_t handle, step;
    uint32_t stream, models, seq;
    sim_answer_event event;
    size_t n_extra;
    void *extra; /* owned */
} sim_word;

/* Of two stages; the first end dials, and is the one that sends. */
struct sim_lane {
    uint32_t refs;
    uint32_t node[2];
    uint64_t node_epoch[2];
    uint64_t uid[2];       /* of the instances; [1] 0 = not accepted yet */
    uint64_t closed_us[2]; /* 0 = open */
    sim_order order[2];    /* to that end */
};

void word_to_peer(cworld *w, const sim_word *m); /* no link: it is lost, as in src/node */
void word_to_loop(cworld *w, const sim_word *m); /* m->to */
void word_to_work(cworld *w, const sim_instance *i, const sim_word *m);
void word_on_lane(cworld *w, sim_lane *l, const sim_word *m, uint64_t depart_us);
void words_arrive(cworld *w, sim_event *e);
void word_free(sim_word *m);
sim_lane *lane_dial(cworld *w, const sim_instance *i, uint32_t to);
void lane_close(cworld *w, sim_lane *l, int end); /* NULL is allowed */
void lane_unref(sim_lane *l);

/* ---- instances ---- */

typedef enum { SIM_LOADING, SIM_CONNECTING, SIM_RUNNING } sim_instance_state;

typedef struct sim_live {
    struct sim_live *next;
    uint64_t handle;
    uint32_t stream, n_prompt, n_tokens, n_answer;
    int32_t tokens[SIM_CTX];
} sim_live;

/* What a stage keeps of a sequence: whose it is, and a sampler that has seen the answer so far. */
typedef struct {
    uint32_t stream, n_drawn;
    uint64_t sampler;
    uint32_t table[SIM_SEQ_PAGES];
} sim_seq;

struct sim_instance {
    sim_instance *next;
    char id[EXO_CLUSTER_INSTANCE_BYTES];
    uint64_t uid; /* unlike that of any other, ever */
    uint32_t node, owner, model, epoch, n_stages, my_stage;
    exo_shard_place places[MAX_STAGES];
    sim_instance_state state;
    bool loaded[MAX_STAGES], ready[MAX_STAGES];
    uint32_t n_pages[MAX_STAGES], common_pages;
    bool logged, fresh, connect_now;
    uint64_t log_by_us, begun_us;
    sim_lane *prev, *next_lane;
    /* its COMPUTE thread: */
    sim_order work;
    uint64_t busy_until_us;
    bool connected, failed;
    uint64_t *kv; /* (layers of this stage, pages, 32) */
    sim_seq seqs[SIM_SEQS];
    exo_step step;
    /* stage 0: */
    exo_sched *sched;
    sim_live *live;
};

/* An instance that should run here and does not: when to try again. */
typedef struct {
    char id[EXO_CLUSTER_INSTANCE_BYTES];
    uint64_t at_us;
    uint32_t wait_ms;
} sim_retry;

typedef struct sim_route {
    struct sim_route *next;
    exo_route_seat seat;
    uint32_t stream, model;
    uint64_t orphan_us; /* a guest whose node was not linked at that time; 0 = it was */
} sim_route;

struct sim_engine {
    sim_instance *instances;
    sim_route *routes;
    sim_retry *retries;
    uint32_t n_retries, cap_retries;
    uint32_t next_epoch;
    uint64_t last_handle;
    sim_order loop;
    uint32_t *peer_models; /* (n_nodes) what peers say they run, a bit per model */
    bool record_changed;
};

static inline uint64_t engine_between(cworld *w, uint64_t low, uint64_t high) {
    return low + sim_below(&w->engine_rng, high - low + 1);
}
static inline bool places_linked(cworld *w, uint32_t a, uint32_t b) {
    return a != b && link_of(w, a, b)->up;
}
uint32_t place_node(const exo_shard_place *p); /* its index */

/* place */
sim_instance *place_find(cworld *w, uint32_t node, const char *id);
sim_instance *place_by_uid(cworld *w, uint32_t node, uint64_t uid);
sim_instance *place_of_model(cworld *w, uint32_t node, uint32_t model); /* that the node owns */
uint32_t place_candidates(cworld *w, uint32_t node, exo_place_candidate *out, uint32_t cap);
sim_instance *place_begin(cworld *w, uint32_t node, uint32_t model, uint32_t n_stages,
                          const char *id);
void place_end(cworld *w, sim_instance *i);
void place_fail(cworld *w, sim_instance *i);
void place_advance(cworld *w, sim_instance *i);
void place_on_word(cworld *w, const sim_word *m);
void place_on_lane(cworld *w, const sim_word *m);
void place_peer_lost(cworld *w, uint32_t node, uint32_t peer);
void place_announce(cworld *w, uint32_t node);
void place_greet(cworld *w, uint32_t node, uint32_t peer);

/* remember */
void remember_event(cworld *w, uint32_t node, const exo_event *e);
void remember_state(cworld *w, uint32_t node);
void remember_tick(cworld *w, uint32_t node);
void remember_end(cworld *w, const sim_instance *i);
void remember_running(cworld *w, sim_instance *i);
sim_instance *remember_revive(cworld *w, uint32_t node, uint32_t model);

/* stage */
void stage_start(cworld *w, sim_instance *i);
void stage_stop(cworld *w, sim_instance *i); /* ends its answers; frees what it holds */
void stage_drop(sim_instance *i);            /* the same of a process that is gone */
void stage_fail(cworld *w, sim_instance *i);
void stage_on_word(cworld *w, sim_instance *i, const sim_word *m);
int32_t stage_token(uint64_t x, uint64_t sampler, uint32_t stream);
/* The answer as one machine alone computes it.  out: (n_answer). */
void stage_reference(const int32_t *prompt, uint32_t n_prompt, uint32_t stream, uint32_t n_answer,
                     int32_t *out);

/* route */
void route_on_word(cworld *w, const sim_word *m);
void route_event(cworld *w, uint32_t node, uint64_t handle,
                 const sim_answer_event *e); /* COMPUTE */
void route_instance(cworld *w, const sim_instance *i, bool runs);
void route_peer_lost(cworld *w, uint32_t node, uint32_t peer);

/* stream */
void stream_prompt(const cworld *w, uint32_t k, sim_live *l); /* what stream k asks */
void stream_hear(cworld *w, uint32_t node, uint64_t handle, const sim_answer_event *e);

#endif
