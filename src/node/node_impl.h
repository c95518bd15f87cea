/* node_impl.h - the node's data, shared by the files of src/node and by nobody else.
 *
 *   node.c       life: start, stop, the LOOP thread, calls from other threads
 *   models.c     which models this node can open
 *   discover.c   who is out there: beacon, DNS-SD, platform, peers file
 *   admit.c      who may be in: join codes, removed nodes, new keys
 *   members.c    peers: dialling, control links, what each node tells the others
 *   instances.c  instances: placing, loading, lanes, ending
 *   instances_log.c  instances that the cluster remembers: started again, moved, deleted
 *   events.c     what has changed lately, for whoever follows
 *   await.c      who waits for an instance to run
 *   routes.c     answers asked here: which instance computes them, here or on a peer
 *   state.c      what GET /state shows
 *   watch.c      telemetry: this node's sensors, and what peers say of theirs
 *   watch_json.c telemetry as GET /state shows it
 *   topology.c   how good the links are
 *   downloads.c  models that the cluster's log wants here, fetched
 *   consensus.c  the cluster's log: its steps carried out, its clock, who waits for it
 *   log_store.c  the log on disk
 *
 * Thread: LOOP for everything that is not marked otherwise. */
#ifndef EXO_NODE_NODE_IMPL_H
#define EXO_NODE_NODE_IMPL_H

#include "base/lock.h"
#include "base/mailbox.h"
#include "cluster/cluster.h"
#include "cluster/placement.h"
#include "cluster/route.h"
#include "cluster/telemetry.h"
#include "cluster/topology.h"
#include "net/keyring.h"
#include "net/link.h"
#include "node/log_store.h"
#include "node/meter.h"
#include "node/node.h"
#include "node/redial.h"
#include "node/worker.h"

#define EXO_TICK_MS           250
#define EXO_INSTANCE_ID_BYTES 24
#define EXO_MODEL_ID_BYTES    128
#define EXO_PLACE_DEADLINE_MS 600000u /* loading and connecting one instance */

/* ---- calls into LOOP ---- */

typedef struct exo_loop_call {
    exo_msg msg;
    void (*run)(exo_node *n, struct exo_loop_call *c); /* frees c */
} exo_loop_call;

/* ---- models ---- */

typedef struct exo_models exo_models;
exo_status exo_models_create(const char *data_dir, const char *const *files, size_t n_files,
                             exo_models **out, exo_error *err);
void exo_models_destroy(exo_models *m);
/* ANY; a new reference. */
exo_status exo_models_get(exo_models *m, const char *id, exo_model **out, exo_error *err);
json_t *exo_models_list(exo_models *m); /* ANY */

/* ---- members ---- */

/* An address worth dialling: given by --peer, or told by a peer. */
typedef struct exo_address {
    struct exo_address *next;
    char host_port[64];
    char node_id[EXO_NODE_ID_BYTES]; /* "" until somebody answered there */
    exo_link *link;                  /* being dialled or open, else NULL */
    exo_redial redial;
    char last_reason[EXO_ERROR_BYTES]; /* said once, not at every try */
    char why[EXO_ERROR_BYTES];         /* of the last try, said or not */
} exo_address;

/* A device, as its node's telemetry has it. */
typedef struct {
    bool has_registration, has_heartbeat;
    exo_device_registration registration;
    exo_heartbeat heartbeat;
    uint64_t heard_ms; /* the heartbeat */
} exo_seen_device;
#define EXO_MAX_SEEN_DEVICES 16     /* of one peer */
#define EXO_SEEN_STALE_MS    16000u /* three heartbeats that did not come */

/* A node that a control link is open to. */
typedef struct exo_peer {
    struct exo_peer *next;
    char node_id[EXO_NODE_ID_BYTES], name[64], listen[64];
    exo_link *link;
    bool outgoing;
    json_t *record;           /* the last thing it said of itself: devices, models, instances */
    exo_seen_device *devices; /* (n_devices) owned */
    size_t n_devices;
    exo_path_plan plan;      /* of its bandwidth */
    exo_link_metrics *links; /* (n_links) owned: what it says of its own */
    size_t n_links;
    bool telemetry_blamed, record_blamed; /* for what could not be read: said once */
} exo_peer;

#define EXO_NODE_STOPPING "this node is shutting down"

/* What a link is for; the link's ud. */
typedef enum { EXO_LINK_UNKNOWN, EXO_LINK_CONTROL, EXO_LINK_LANE } exo_link_use;
typedef struct exo_link_ctx {
    struct exo_link_ctx *next; /* among the retired */
    exo_link *retired;         /* a second control link to a peer, closed a little later */
    uint64_t close_at_ms;
    exo_link_use use;
    exo_address *address;                 /* of a dialled control link */
    char instance[EXO_INSTANCE_ID_BYTES]; /* of a lane */
} exo_link_ctx;

exo_link_events exo_members_events(void);
void exo_members_add_address(exo_node *n, const char *host_port, const char *node_id,
                             uint64_t dial_at_ms);
/* Discovery heard node_id there: it is dialled at dial_at_ms, if nothing links us by then. */
void exo_members_heard(exo_node *n, const char *host_port, const char *node_id,
                       uint64_t dial_at_ms);
/* Dials another address of a node that is linked; both sides then keep the new link. */
void exo_members_move(exo_node *n, const char *host_port, const char *node_id);
void exo_members_forget(exo_node *n, const char *host_port);
void exo_members_tick(exo_node *n, uint64_t now_ms);
void exo_members_announce(exo_node *n); /* our record changed: tell everyone */
exo_peer *exo_members_find(exo_node *n, const char *node_id); /* NULL: not connected */
void exo_members_finish(exo_node *n);

/* ---- who may be in ---- */

typedef struct exo_admit exo_admit;

/* Loads the keyring; holds the data directory of a node with links. */
exo_status exo_admit_start(exo_node *n, exo_error *err);
/* Once the key is there: join codes are found from now on. */
void exo_admit_guests(exo_node *n);
exo_link_events exo_admit_guest_events(void);
exo_status exo_admit_check(void *node, const exo_peer_info *peer, exo_error *err);
bool exo_admit_inviting(const exo_node *n);     /* a join code is open */
void exo_admit_greet(exo_node *n, exo_link *l); /* a control link opened */
void exo_admit_on_message(exo_node *n, const exo_peer *from, const json_t *m);
void exo_admit_refused(exo_node *n, const char *why); /* says it, not again and again */
void exo_admit_tick(exo_node *n, uint64_t now_ms);
void exo_admit_finish(exo_node *n);

/* ---- the cluster's log ---- */

typedef struct exo_consensus exo_consensus;
/* An event counts, or will not before its deadline. */
typedef void (*exo_counted_fn)(void *ud, exo_status status, const char *message);

exo_status exo_consensus_create(exo_node *n, exo_error *err); /* before LOOP runs */
void exo_consensus_start(exo_node *n);
void exo_consensus_finish(exo_node *n);
void exo_consensus_tick(exo_node *n, uint64_t now_ms);
/* This node belongs to another cluster now: what it ran for the last one ends, and that one's log
 * is put aside.  Not from within a call-back of the log. */
void exo_consensus_begin_anew(exo_node *n);
void exo_consensus_peer(exo_node *n, const char *node_id, bool up);
void exo_consensus_on_frame(exo_node *n, const exo_peer *from, const exo_frame *f);
/* fn may be NULL; it may come within the call. */
void exo_consensus_propose(exo_node *n, const exo_event *e, exo_counted_fn fn, void *ud);
/* What all agree on: borrowed until LOOP goes on. */
const exo_state *exo_consensus_state(const exo_node *n);
uint64_t exo_consensus_master(const exo_node *n); /* a node's number; 0 = none now */
bool exo_consensus_is_stopped(const exo_node *n); /* the disk refuses the log */
void exo_consensus_show(exo_node *n, json_t *s);  /* adds members to /state */

uint64_t exo_node_number(const char *node_id);
void exo_node_number_id(uint64_t number, char out[EXO_NODE_ID_BYTES]);

/* ---- instances ---- */

typedef enum {
    EXO_INSTANCE_LOADING,
    EXO_INSTANCE_CONNECTING,
    EXO_INSTANCE_RUNNING
} exo_instance_state;

typedef struct {
    exo_shard_place place;
    char listen[64]; /* where its node accepts links, as the owner sees it */
    bool loaded, ready;
    char reason[EXO_ERROR_BYTES]; /* why place.device_id is not the device it was placed on; "" */
    uint64_t weight_bytes, kv_bytes;
    uint32_t n_pages;
    bool has_classes; /* it computes rows of prompts by other kernels */
    exo_worker_stats stats;
} exo_instance_stage;

typedef struct exo_waiter { /* somebody who asked for a placement */
    struct exo_waiter *next;
    exo_node_placed_fn fn;
    void *ud;
} exo_waiter;

/* An instance that this node owns (its coordinator is here) or has a stage of. */
typedef struct exo_instance {
    struct exo_instance *next;
    exo_node *node;
    char id[EXO_INSTANCE_ID_BYTES];
    char model_id[EXO_MODEL_ID_BYTES];
    char owner[EXO_NODE_ID_BYTES];
    uint32_t epoch, min_nodes;
    exo_instance_state state;
    uint32_t n_stages, my_stage;
    exo_instance_stage stages[EXO_MAX_STAGES];
    exo_worker *worker;
    exo_lane *prev, *next_lane; /* until the worker has them */
    bool connect_now;           /* all stages are loaded: lanes may go to the worker */
    uint32_t n_pages;
    bool has_classes; /* owner: a stage has */
    uint64_t deadline_ms;
    exo_waiter *waiters; /* owner */
    bool fresh;          /* owner: it was asked for in this run, and has not run yet */
    bool logged;         /* owner: the cluster remembers it */
    uint64_t log_by_ms;  /* it serves without that from then on */
} exo_instance;

/* Places a model anew: an instance that this node owns of it ends once the new plan stands. */
exo_status exo_instances_place(exo_node *n, const char *model_id, const exo_placement_wish *wish,
                               exo_instance **out, exo_error *err);
exo_instance *exo_instances_find(exo_node *n, const char *id);
exo_instance *exo_instances_of_model(exo_node *n, const char *model_id); /* owned here, or NULL */
/* Runs a model that is asked for and that nobody runs: the instance that the cluster remembers of
 * it, on as many of its nodes as are here, else a new one. */
exo_status exo_instances_revive(exo_node *n, const char *model_id, exo_instance **out,
                                exo_error *err);
/* The cluster's log has said this; its state is another as a whole. */
void exo_instances_on_event(exo_node *n, const exo_event *e);
void exo_instances_on_state(exo_node *n);
/* Ends it for all, and in the cluster's memory.  EXO_ENOTFOUND: nobody has it; EXO_EPEER: this node
 * cannot tell yet. */
void exo_instances_delete(exo_node *n, const char *id, exo_counted_fn fn, void *ud);
uint32_t exo_instances_candidates(exo_node *n, const char *model_id, exo_place_candidate *out);
/* {"kv_types": [...]}: what this node can keep keys and values in, for its hello; owned. */
json_t *exo_kv_types_json(void);
/* Whether the node that said this hello can. */
bool exo_hello_has_kv(const json_t *hello, exo_dtype type);
void exo_instances_end(exo_node *n, exo_instance *i, const char *reason);
void exo_instances_on_message(exo_node *n, exo_peer *from, const json_t *m);
void exo_instances_on_lane(exo_node *n, exo_link *l, const exo_frame *f);
/* The control link to a lane's target opened; l belongs to the instance's next stage. */
void exo_instances_lane_open(exo_node *n, exo_link *l, exo_link_ctx *ctx_take);
void exo_instances_lane_lost(exo_node *n, const char *instance, const char *why);
void exo_instances_peer_lost(exo_node *n, const char *node_id, const char *why);
void exo_instances_tick(exo_node *n, uint64_t now_ms);
json_t *exo_instance_json(const exo_instance *i); /* the design's shape of /state */
void exo_instances_finish(exo_node *n, const char *reason);

/* ---- downloads ---- */

typedef struct exo_downloads exo_downloads;
exo_status exo_downloads_create(exo_node *n, exo_error *err); /* before LOOP runs */
void exo_downloads_tick(exo_node *n, uint64_t now_ms);
json_t *exo_downloads_record(const exo_node *n); /* {what: progress} of those that run here */
/* {node id: {what: progress}} of all that the log wants; records: {node id: its record's}. */
json_t *exo_downloads_json(const exo_node *n, const json_t *records);
void exo_downloads_stop(exo_node *n); /* waits for the threads, a second at most */
void exo_downloads_finish(exo_node *n);

/* ---- telemetry ---- */

typedef struct exo_watch exo_watch;
exo_status exo_watch_create(exo_node *n, exo_error *err); /* before LOOP runs */
void exo_watch_tick(exo_node *n, uint64_t now_ms);
void exo_watch_greet(exo_node *n, const exo_peer *p); /* tells it of our device */
void exo_watch_on_frame(exo_node *n, exo_peer *from, const exo_frame *f);
void exo_watch_forget(exo_peer *p);                /* frees its devices */
void exo_watch_show(const exo_node *n, json_t *s); /* adds "telemetry" to /state */
/* A master's heartbeat says what all devices are together. */
void exo_watch_add_cluster(const exo_node *n, exo_heartbeat *h, uint64_t now_ms);
const exo_seen_device *exo_watch_own(const exo_node *n);
void exo_watch_stop(exo_node *n); /* no more reads; one that runs is not waited for */
void exo_watch_finish(exo_node *n);

/* ---- who follows, and who waits ---- */

typedef struct exo_events exo_events;
exo_status exo_events_create(exo_node *n, exo_error *err); /* before LOOP runs */
void exo_events_applied(exo_node *n, const exo_cluster_action *a);
void exo_events_restored(exo_node *n, const exo_cluster_action *a);
json_t *exo_events_json(const exo_node *n, exo_node_place_in_log from); /* a new reference */
void exo_events_cancel(exo_node *n, uint64_t handle);  /* another's handle is left alone */
void exo_events_stop(exo_node *n, const char *reason); /* followers hear it */
void exo_events_finish(exo_node *n);

typedef struct exo_await exo_await;
void exo_await_cancel(exo_node *n, uint64_t handle);
void exo_await_tick(exo_node *n, uint64_t now_ms);
void exo_await_stop(exo_node *n, const char *reason);

/* ---- topology ---- */

typedef struct exo_topology exo_topology;
exo_status exo_topology_start(exo_node *n, exo_error *err); /* once links are accepted */
void exo_topology_tick(exo_node *n, uint64_t now_ms);
void exo_topology_greet(exo_node *n); /* a peer has come: it hears of our links soon */
exo_status exo_topology_on_message(exo_peer *from, const json_t *payload, exo_error *err);
void exo_topology_on_probe(exo_node *n, exo_peer *from, const json_t *m);
void exo_topology_forget(exo_peer *p);                     /* frees what it said */
json_t *exo_topology_link(exo_node *n, const exo_peer *p); /* of GET /state's "links" */
json_t *exo_topology_all(exo_node *n);                     /* and its "topology" */
void exo_topology_stop(exo_node *n);
void exo_topology_finish(exo_node *n); /* after the loop */

/* ---- routes ---- */

/* An answer asked on this node (or by a peer, see routes.c). */
typedef struct exo_route {
    exo_loop_call done; /* a LOCAL route's way to LOOP with its last event; first member */
    struct exo_route *next;
    exo_node *node;
    char model_id[EXO_MODEL_ID_BYTES];
    exo_request request;
    exo_node_event_fn fn;
    void *ud;
    exo_meter_mark mark; /* of guests all-zero: they are counted where they were asked */
    exo_route_seat seat; /* its handle, and what becomes of it */
} exo_route;

/* Takes r; its last event comes whatever happens. */
void exo_routes_add(exo_node *n, exo_route *r_take);
void exo_routes_cancel(exo_node *n, uint64_t handle);
void exo_routes_instance_running(exo_node *n, const exo_instance *i);
void exo_routes_instance_ended(exo_node *n, const char *instance, const char *reason);
void exo_routes_peer_lost(exo_node *n, const char *node_id, const char *why);
void exo_routes_on_message(exo_node *n, exo_peer *from, const json_t *m);
void exo_routes_finish(exo_node *n, const char *reason);

/* ---- the node ---- */

/* An instance that should run here and could not be started: when to try again. */
typedef struct exo_retry {
    struct exo_retry *next;
    char instance[EXO_INSTANCE_ID_BYTES];
    uint64_t at_ms;
    uint32_t wait_ms;
} exo_retry;

/* A deletion of an instance that is not known here, or not yet. */
typedef struct exo_deletion {
    struct exo_deletion *next;
    char instance[EXO_INSTANCE_ID_BYTES];
    uint64_t deadline_ms;
    exo_counted_fn fn;
    void *ud;
} exo_deletion;

struct exo_node {
    exo_node_desc d; /* strings below are copies */
    char data_dir[1024], name[64], listen_addr[64], api_addr[64], device[32];
    exo_device_info device_info;
    char device_reason[EXO_ERROR_BYTES]; /* why it is not the device asked for; "" */
    exo_identity *identity;
    exo_keyring keyring;
    exo_admit *admit;
    exo_tls_ctx *tls;
    struct exo_discover *discover; /* discover.h */
    exo_models *models;
    exo_net *net; /* NULL: one machine */
    json_t *hello_extra;
    uint16_t listen_port;

    uv_loop_t loop;
    uv_async_t async;
    uv_timer_t tick, cluster_timer;
    exo_consensus *consensus;
    exo_watch *watch;
    exo_topology *topology; /* NULL: no links */
    exo_downloads *downloads;
    pthread_t thread;
    bool stopping; /* LOOP takes on nothing new */
    exo_loop_call stop_call;
    exo_mailbox *mailbox;
    atomic_uint_fast64_t next_handle;

    exo_address *addresses;
    exo_peer *peers;
    exo_link_ctx *retired; /* control links that only receive */
    exo_instance *instances;
    exo_retry *retries;
    exo_deletion *deletions;
    exo_meter *meter;
    exo_events *events;
    exo_await *awaits;
    exo_route *routes;
    uint32_t n_routes;
    uint32_t next_epoch;
    bool record_changed;
    uint64_t announced_ms, started_ms;
};

/* ANY: runs c on LOOP. */
void exo_node_post(exo_node *n, exo_loop_call *c);
/* Our own record, as peers get it: a new reference. */
json_t *exo_node_record(exo_node *n);
json_t *exo_node_instances(exo_node *n); /* that it owns, as /state shows them: a new reference */
json_t *exo_node_state_json(exo_node *n);

#endif
