/* node.h - the running node: the only place where all parts meet.
 *
 * A node owns one LOOP thread (libuv: control links, membership, instances) and one COMPUTE
 * thread per stage that it runs.  Everything above (HTTP, CLI) talks to it through the calls
 * below, which hand a message to LOOP.  A node without listen address is a cluster of one.
 * Thread: every function here is ANY; call-backs come on a node thread and must not block. */
#ifndef EXO_NODE_NODE_H
#define EXO_NODE_NODE_H

#include "engine/answer.h"
#include "engine/sampler.h"
#include "engine/shard.h"
#include "net/finder.h"
#include "net/peers.h"
#include "node/sensors_platform.h"

#include <jansson.h>

typedef struct exo_node exo_node;

/* Discovery by the platform (Android NSD, Apple MultipeerConnectivity), which exo cannot call
 * itself.  Both come on the node's LOOP thread and must not block; advertise comes again when
 * what is to be advertised changes.  What the platform finds goes to exo_node_found. */
typedef struct {
    void (*advertise)(void *ud, const exo_advert *a);
    void (*withdraw)(void *ud); /* the node stops */
    void *ud;
} exo_platform_discovery;

typedef struct {
    const char *data_dir;    /* identity, models/; made when absent */
    const char *name;        /* NULL = host name */
    const char *listen_addr; /* NULL = no links: one machine; "*" = on every interface */
    uint16_t listen_port;    /* 0 = any */
    bool port_may_differ;    /* a port in use is no error: another one is taken */
    bool discovery;          /* find nodes by beacon, too; else by peers and the peers file */
    uint16_t beacon_port;    /* 0 = EXO_BEACON_PORT */
    const exo_platform_discovery *platform; /* copied; NULL = none */
    const char *api_addr;                   /* "127.0.0.1:52415", shown in /state; may be NULL */
    const char *const *peers;               /* (n_peers) "host:port", dialled until they answer */
    size_t n_peers;
    const char *cluster_key;   /* passphrase; NULL = the stored key, made at first start */
    const char *name_space;    /* NULL = as stored, "default" at first */
    const char *device;        /* "cpu:0" by default */
    uint32_t n_threads;        /* CPU threads per stage; 0 = all cores */
    const char *const *models; /* (n_models) files added by -m, or "tiny" */
    size_t n_models;
    uint32_t ctx_tokens;   /* 0 = the model's, at most 8192 */
    uint32_t max_seqs;     /* answers at once per instance; 0 = 8 */
    uint32_t chunk_tokens; /* prompt rows per step; 0 = sized by time */
    bool kv_f16, kv_q8_0, wire_f16;
    const char *sensors_root; /* where proc/ and sys/ are; NULL = this machine's */
    const exo_platform_sensors *platform_sensors; /* until start returns; NULL = none */
} exo_node_desc;

exo_status exo_node_start(const exo_node_desc *d, exo_node **out, exo_error *err);
/* Ends all answers, streams and waits with a reason, and begins none any more: what comes before
 * stop where replies still have to be written.  NULL is allowed. */
void exo_node_end_answers(exo_node *n);
/* Ends answers with an error, says goodbye to peers, joins the threads.  NULL is allowed. */
void exo_node_stop(exo_node *n);
const char *exo_node_id(const exo_node *n);
uint16_t exo_node_listen_port(const exo_node *n); /* 0 without listener */

/* A way to a node was found: source EXO_SOURCE_PLATFORM or EXO_SOURCE_DNS_SD.  f is copied.  What
 * it says is checked when the node is dialled; our own advertisement is skipped. */
exo_status exo_node_found(exo_node *n, exo_peer_source source, const exo_found *f, exo_error *err);

/* ---- models ---- */

/* Opens (or finds open) a model by id; the caller unrefs.  EXO_ENOTFOUND names the id. */
exo_status exo_node_model(exo_node *n, const char *id, exo_model **out, exo_error *err);
/* JSON array of {"id", "path"?, "loaded"} of the models this node can open; files given with -m
 * first, then by directory.  New reference; NULL without memory. */
json_t *exo_node_models(exo_node *n);
/* A stage of the model as an instance placed by this node has it; EXO_EINVAL: no such layers. */
exo_status exo_node_stage_desc(const exo_node *n, const exo_model *m, uint32_t start_layer,
                               uint32_t end_layer, exo_shard_desc *out, exo_error *err);
/* Positions an instance of this model will have (prompt + answer). */
uint32_t exo_node_ctx(const exo_node *n, const exo_model *m);

/* ---- answers ---- */

/* A stage's device failed in mid-answer and its node's CPU took over: another numeric profile. */
typedef struct {
    uint32_t stage;
    char device_id[32]; /* that computes from here on */
    char reason[EXO_ERROR_BYTES];
} exo_node_move;

/* One event of an answer.  Pointers are borrowed for the call. */
typedef struct {
    exo_status status; /* != EXO_OK: the last event; message says why */
    const char *message;
    bool started;   /* the request left the queue: reading of the prompt begins */
    bool has_token; /* a token was drawn: */
    exo_draw draw;
    uint32_t pos;
    bool aside;       /* the token is no content: reasoning, or the format's structure */
    const char *text; /* content that may be shown now; may be empty, ids run ahead of text */
    size_t n_text;
    const char *reasoning; /* the same of what the model thinks before it answers */
    size_t n_reasoning;
    exo_finish finish;                     /* != EXO_GOING_ON: the last event */
    uint32_t n_prompt, n_cached, n_answer; /* token counts so far */
    const exo_node_move *move;             /* nothing but this news: tokens sent so far stay */
    const uint8_t *logits_hash;            /* EXO_SHA256_BYTES when the request asked, else NULL */
} exo_node_event;
typedef void (*exo_node_event_fn)(void *ud, const exo_node_event *e);

/* Queues a request (copied) for the model's instance, placing one first where there is none.
 * Exactly one last event comes, whatever happens; ud stays valid until then. */
exo_status exo_node_submit(exo_node *n, const char *model_id, const exo_request *r,
                           exo_node_event_fn fn, void *ud, uint64_t *handle, exo_error *err);
/* The last event (EXO_ECANCELED) follows unless it is already on its way. */
void exo_node_cancel(exo_node *n, uint64_t handle);

/* What was asked on this node so far, by model, as exo_meter_json (meter.h) has it: a new
 * reference. */
json_t *exo_node_counts(exo_node *n);

/* ---- cluster ---- */

/* What a placement should look like. */
typedef struct {
    const char *sharding; /* "Pipeline" */
    uint32_t min_nodes;   /* at least so many nodes */
    uint32_t n_cuts;      /* 0 = an even split by layers; else min_nodes - 1 */
    uint32_t cuts[63];    /* first layer of each stage but the first */
    uint32_t n_nodes;     /* 0 = any; else min_nodes of them, the first of them this one */
    char nodes[64][EXO_NODE_ID_BYTES]; /* in the order of the stages */
} exo_placement_wish;

/* Places a model; done comes once it serves or cannot.  On success instance_id is its id. */
typedef void (*exo_node_placed_fn)(void *ud, exo_status status, const char *instance_id,
                                   const char *message);
exo_status exo_node_place(exo_node *n, const char *model_id, const exo_placement_wish *wish,
                          exo_node_placed_fn done, void *ud, exo_error *err);
/* Ends an instance; its answers get an error. */
exo_status exo_node_delete_instance(exo_node *n, const char *instance_id, exo_error *err);
/* Calls done once an instance runs of the model, or the one that is named; at the deadline with
 * EXO_ETIMEDOUT and what is known of it.  *handle is for exo_node_cancel; done comes once in any
 * case. */
typedef struct {
    const char *model_id, *instance_id; /* one of them, or both */
    uint32_t deadline_ms;
} exo_node_await_desc;
exo_status exo_node_await(exo_node *n, const exo_node_await_desc *d, exo_node_placed_fn done,
                          void *ud, uint64_t *handle, exo_error *err);

/* One change of what all nodes agree on: its place in the log, and a JSON object that is borrowed
 * for the call.  event NULL: nothing more comes, status and message say why. */
typedef struct {
    uint64_t log_id, index;
    const json_t *event;
    exo_status status;
    const char *message;
} exo_node_change;
typedef void (*exo_node_change_fn)(void *ud, const exo_node_change *c);
/* Which changes: those after index `since` of a log; of another log, all that are kept. */
typedef struct {
    uint64_t log_id; /* 0 = whichever it is */
    uint64_t since;
} exo_node_place_in_log;
/* Those that are kept, oldest first: a new reference.  Waits for LOOP, 2 s at most. */
exo_status exo_node_events(exo_node *n, exo_node_place_in_log from, json_t **out, exo_error *err);
/* Those, then each as it comes, until exo_node_cancel; exactly one last call comes. */
exo_status exo_node_follow(exo_node *n, exo_node_place_in_log from, exo_node_change_fn fn, void *ud,
                           uint64_t *handle, exo_error *err);
/* Has a node (NULL: this one) fetch a model, named as `exo pull` takes it, and the cluster remember
 * that until it is there: restarts go on with it.  Comes back once the cluster knows, 2 s at most.
 * EXO_EINVAL: that is no model's name; EXO_ENOTFOUND: no such member. */
exo_status exo_node_download(exo_node *n, const char *node_id, const char *what, exo_error *err);
/* Nobody wants it any more: it stops, and what is there of it stays for a later one. */
exo_status exo_node_drop_download(exo_node *n, const char *node_id, const char *what,
                                  exo_error *err);
/* What GET /state shows: a new reference.  Waits for LOOP, 2 s at most. */
exo_status exo_node_state(exo_node *n, json_t **out, exo_error *err);

#endif
