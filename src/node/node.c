/* node.c - the life of a node: start, stop, the LOOP thread, calls from other threads. */
#define _DEFAULT_SOURCE
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/seat.h"
#include "net/hello.h"
#include "node/discover.h"
#include "node/hub.h"
#include "node/node_impl.h"

#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CALL_DEADLINE_MS   2000u
#define DEFAULT_MAX_SEQS   8u
#define DEFAULT_CTX_TOKENS 8192u

/* ---- calls into LOOP ---- */

void exo_node_post(exo_node *n, exo_loop_call *c) { exo_mailbox_push(n->mailbox, &c->msg); }

static void wake_loop(void *ud) { uv_async_send(&((exo_node *)ud)->async); }

static void run_calls(exo_node *n) {
    for (exo_msg *m = exo_mailbox_take(n->mailbox), *next; m != NULL; m = next) {
        next = m->next;
        exo_loop_call *c = (exo_loop_call *)m;
        c->run(n, c);
    }
}

static void on_async(uv_async_t *a) { run_calls(a->data); }

/* ---- the LOOP thread ---- */

static void on_tick(uv_timer_t *t) {
    exo_node *n = t->data;
    uint64_t now = exo_now_ms();
    if (n->consensus != NULL) {
        exo_consensus_tick(n, now);
        exo_instances_tick(n, now);
        exo_await_tick(n, now);
        exo_downloads_tick(n, now);
    }
    if (n->watch != NULL) exo_watch_tick(n, now);
    if (n->net == NULL) return;
    exo_admit_tick(n, now);
    exo_discover_tick(n, now);
    exo_members_tick(n, now);
    exo_topology_tick(n, now);
}

static void on_net_closed(void *ud) {
    exo_node *n = ud;
    uv_close((uv_handle_t *)&n->tick, NULL);
    uv_close((uv_handle_t *)&n->cluster_timer, NULL);
    uv_close((uv_handle_t *)&n->async, NULL);
}

static void end_answers(exo_node *n) {
    n->stopping = true;
    exo_instances_finish(n, EXO_NODE_STOPPING);
    exo_events_stop(n, EXO_NODE_STOPPING);
    exo_await_stop(n, EXO_NODE_STOPPING);
    exo_routes_finish(n, EXO_NODE_STOPPING);
}

static void stop_on_loop(exo_node *n, exo_loop_call *c) {
    (void)c; /* part of n: stopping needs no memory */
    end_answers(n);
    exo_discover_stop(n);
    exo_topology_stop(n);
    uv_timer_stop(&n->cluster_timer);
    exo_consensus_finish(n);
    exo_downloads_stop(n);
    exo_watch_stop(n);
    if (n->net != NULL) {
        exo_net_close(n->net, on_net_closed, n);
    } else {
        on_net_closed(n);
    }
}

static void *loop_main(void *ud) {
    exo_node *n = ud;
    if (n->consensus != NULL) exo_consensus_start(n);
    uv_run(&n->loop, UV_RUN_DEFAULT);
    run_calls(n); /* what workers said while they ended */
    return NULL;
}

/* ---- start and stop ---- */

static void copy_desc(exo_node *n, const exo_node_desc *d) {
    n->d = *d;
    snprintf(n->data_dir, sizeof n->data_dir, "%s", d->data_dir);
    snprintf(n->device, sizeof n->device, "%s", d->device != NULL ? d->device : "cpu:0");
    snprintf(n->api_addr, sizeof n->api_addr, "%s", d->api_addr != NULL ? d->api_addr : "");
    if (d->listen_addr != NULL) {
        snprintf(n->listen_addr, sizeof n->listen_addr, "%s", d->listen_addr);
    }
    char host[64] = "exo";
    if (d->name == NULL) gethostname(host, sizeof host - 1);
    exo_hello_text(d->name != NULL ? d->name : host, n->name, sizeof n->name);
    if (n->d.max_seqs == 0) n->d.max_seqs = DEFAULT_MAX_SEQS;
}

/* The CPU stands in for a GPU that is not there: the node starts all the same. */
static exo_status describe_device(exo_node *n, exo_error *err) {
    exo_error why = {0};
    exo_status st = exo_device_describe(n->device, &n->device_info, &why);
    if (st == EXO_OK) return st;
    if (!exo_seat_is_gpu(n->device)) {
        if (err != NULL) *err = why;
        return st;
    }
    exo_error_wrap(&why, st, "%s", n->device);
    snprintf(n->device_reason, sizeof n->device_reason, "%s", why.message);
    snprintf(n->device, sizeof n->device, "cpu:0");
    exo_warn("cpu:0 computes instead: %s", n->device_reason);
    return exo_device_describe(n->device, &n->device_info, err);
}

/* "*" is both families where the machine has IPv6; a usual port that is taken gives way. */
static exo_status listen_for_links(exo_node *n, exo_net_desc *nd, exo_error *err) {
    bool any = strcmp(n->listen_addr, "*") == 0;
    if (any) snprintf(n->listen_addr, sizeof n->listen_addr, "::");
    exo_status st = exo_net_create(nd, &n->net, err);
    if (any && (st == EXO_EIO || st == EXO_EINVAL)) {
        snprintf(n->listen_addr, sizeof n->listen_addr, "0.0.0.0");
        st = exo_net_create(nd, &n->net, err);
    }
    if (st == EXO_EBUSY && n->d.port_may_differ) {
        nd->listen_port = 0;
        st = exo_net_create(nd, &n->net, err);
    }
    return st;
}

static exo_status start_net(exo_node *n, exo_error *err) {
    const exo_node_desc *d = &n->d;
    if (d->listen_addr == NULL) return EXO_OK;
    exo_status st = exo_admit_start(n, err);
    if (st == EXO_OK) st = exo_tls_ctx_create(n->keyring.key, n->keyring.name_space, &n->tls, err);
    if (st != EXO_OK) return st;
    exo_admit_guests(n);
    n->hello_extra = exo_kv_types_json();
    exo_net_desc nd = {.loop = &n->loop,
                       .tls = n->tls,
                       .identity = n->identity,
                       .name = n->name,
                       .listen_addr = n->listen_addr,
                       .listen_port = d->listen_port,
                       .hello_extra = n->hello_extra,
                       .events = exo_members_events(),
                       .guest_events = exo_admit_guest_events(),
                       .admit = exo_admit_check,
                       .ud = n};
    st = listen_for_links(n, &nd, err);
    if (st != EXO_OK) return st;
    n->listen_port = exo_net_port(n->net);
    for (size_t i = 0; i < d->n_peers; i++) exo_members_add_address(n, d->peers[i], "", 0);
    st = exo_topology_start(n, err);
    return st == EXO_OK ? exo_discover_start(n, err) : st;
}

/* On failure there is no loop to unwind. */
static exo_status start_loop(exo_node *n, exo_error *err) {
    exo_status st = exo_mailbox_create(wake_loop, n, &n->mailbox, err);
    if (st != EXO_OK) return st;
    int r = uv_loop_init(&n->loop);
    if (r == 0) {
        r = uv_async_init(&n->loop, &n->async, on_async);
        if (r != 0) uv_loop_close(&n->loop);
    }
    if (r != 0) return exo_error_set(err, EXO_EIO, "cannot make an event loop: %s", uv_strerror(r));
    uv_timer_init(&n->loop, &n->tick);
    uv_timer_init(&n->loop, &n->cluster_timer);
    n->async.data = n;
    n->tick.data = n;
    n->cluster_timer.data = n;
    uv_timer_start(&n->tick, on_tick, 0, EXO_TICK_MS);
    return EXO_OK;
}

/* Runs the loop on this thread until every handle is closed: a node that never started. */
static void unwind_loop(exo_node *n) {
    stop_on_loop(n, &n->stop_call);
    loop_main(n);
    uv_loop_close(&n->loop);
}

static void free_node(exo_node *n) {
    exo_watch_finish(n);
    exo_events_finish(n);
    exo_meter_destroy(n->meter);
    exo_downloads_finish(n);
    exo_members_finish(n);
    exo_discover_finish(n);
    exo_topology_finish(n);
    exo_admit_finish(n);
    exo_keyring_finish(&n->keyring);
    exo_mailbox_destroy(n->mailbox);
    json_decref(n->hello_extra);
    exo_tls_ctx_destroy(n->tls);
    exo_identity_destroy(n->identity);
    exo_models_destroy(n->models);
    exo_free(n);
}

/* Peers may still compute answers of an earlier run of this node: none of theirs has a name that
 * this run gives. */
static exo_status choose_handles(exo_node *n, exo_error *err) {
    uint32_t random;
    if (RAND_bytes((unsigned char *)&random, sizeof random) != 1) {
        return exo_error_set(err, EXO_EIO, "no random numbers");
    }
    atomic_store(&n->next_handle, (uint64_t)random << 30); /* JSON's integers have 63 bits */
    return EXO_OK;
}

exo_status exo_node_start(const exo_node_desc *d, exo_node **out, exo_error *err) {
    *out = NULL;
    exo_node *n = exo_calloc(1, sizeof *n);
    if (n == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for a node");
    copy_desc(n, d);
    n->started_ms = exo_now_ms();
    exo_status st = start_loop(n, err);
    if (st != EXO_OK) {
        free_node(n);
        return st;
    }
    st = exo_identity_load(n->data_dir, &n->identity, err);
    if (st == EXO_OK) st = choose_handles(n, err);
    if (st == EXO_OK) st = describe_device(n, err);
    if (st == EXO_OK) st = exo_models_create(n->data_dir, d->models, d->n_models, &n->models, err);
    if (st == EXO_OK) st = exo_watch_create(n, err);
    if (st == EXO_OK) st = exo_events_create(n, err);
    if (st == EXO_OK) st = exo_meter_create(&n->meter, err);
    if (st == EXO_OK) st = exo_downloads_create(n, err);
    if (st == EXO_OK) st = start_net(n, err);
    if (st == EXO_OK) st = exo_consensus_create(n, err);
    if (st == EXO_OK && pthread_create(&n->thread, NULL, loop_main, n) != 0) {
        st = exo_error_set(err, EXO_EIO, "cannot start the loop thread");
    }
    n->d.cluster_key = n->d.name_space = NULL; /* the caller's, and one of them a secret */
    n->d.peers = n->d.models = NULL;
    n->d.sensors_root = NULL; /* copied by watch.c, as are */
    n->d.platform_sensors = NULL;
    if (st != EXO_OK) {
        unwind_loop(n);
        free_node(n);
        return st;
    }
    *out = n;
    return EXO_OK;
}

void exo_node_stop(exo_node *n) {
    if (n == NULL) return;
    n->stop_call.run = stop_on_loop;
    exo_node_post(n, &n->stop_call);
    pthread_join(n->thread, NULL);
    uv_loop_close(&n->loop);
    free_node(n);
}

const char *exo_node_id(const exo_node *n) { return exo_identity_node_id(n->identity); }

uint16_t exo_node_listen_port(const exo_node *n) { return n->listen_port; }

/* ---- models ---- */

exo_status exo_node_model(exo_node *n, const char *id, exo_model **out, exo_error *err) {
    return exo_models_get(n->models, id, out, err);
}

json_t *exo_node_models(exo_node *n) { return exo_models_list(n->models); }

json_t *exo_node_counts(exo_node *n) { return exo_meter_json(n->meter); }

uint32_t exo_node_ctx(const exo_node *n, const exo_model *m) {
    uint32_t trained = exo_model_hparams(m)->ctx_train;
    uint32_t limit = n->d.ctx_tokens != 0 ? n->d.ctx_tokens : DEFAULT_CTX_TOKENS;
    return trained < limit ? trained : limit;
}

exo_status exo_node_stage_desc(const exo_node *n, const exo_model *m, uint32_t start_layer,
                               uint32_t end_layer, exo_shard_desc *out, exo_error *err) {
    *out = (exo_shard_desc){.layer_begin = start_layer,
                            .layer_end = end_layer,
                            .has_embedding = start_layer == 0,
                            .has_head = end_layer == exo_model_hparams(m)->n_layers,
                            .kv_type = exo_kv_type_of(n->d.kv_f16, n->d.kv_q8_0),
                            .wire_f16 = n->d.wire_f16,
                            .ctx_tokens = exo_node_ctx(n, m),
                            .max_seqs = n->d.max_seqs};
    return exo_shard_desc_resolve(m, out, err);
}

/* ---- answers ---- */

typedef struct {
    exo_loop_call call;
    exo_route *route;
} submit_call;

static void submit_on_loop(exo_node *n, exo_loop_call *c) {
    exo_route *r = ((submit_call *)c)->route;
    exo_free(c);
    exo_routes_add(n, r);
}

static exo_status check_model_id(const char *id, exo_error *err) {
    if (strlen(id) < EXO_MODEL_ID_BYTES) return EXO_OK;
    return exo_error_set(err, EXO_ENOTFOUND, "model \"%.64s...\" not found", id);
}

exo_status exo_node_submit(exo_node *n, const char *model_id, const exo_request *r,
                           exo_node_event_fn fn, void *ud, uint64_t *handle, exo_error *err) {
    *handle = 0;
    exo_status st = check_model_id(model_id, err);
    if (st != EXO_OK) return st;
    submit_call *c = exo_calloc(1, sizeof *c);
    exo_route *route = exo_calloc(1, sizeof *route);
    if (c == NULL || route == NULL) {
        st = exo_error_set(err, EXO_ENOMEM, "out of memory for a request");
        goto fail;
    }
    st = exo_request_dup(r, &route->request, err);
    if (st != EXO_OK) goto fail;
    snprintf(route->model_id, sizeof route->model_id, "%s", model_id);
    route->node = n;
    route->seat.handle = *handle = atomic_fetch_add(&n->next_handle, 1) + 1;
    route->fn = fn;
    route->ud = ud;
    c->call.run = submit_on_loop;
    c->route = route;
    exo_node_post(n, &c->call);
    return EXO_OK;
fail:
    exo_free(c);
    exo_free(route);
    return st;
}

typedef struct {
    exo_loop_call call;
    uint64_t handle;
} cancel_call;

static void cancel_on_loop(exo_node *n, exo_loop_call *c) {
    uint64_t handle = ((cancel_call *)c)->handle;
    exo_free(c);
    exo_routes_cancel(n, handle);
    exo_events_cancel(n, handle);
    exo_await_cancel(n, handle);
}

void exo_node_cancel(exo_node *n, uint64_t handle) {
    cancel_call *c = exo_calloc(1, sizeof *c);
    if (c == NULL) {
        exo_warn("out of memory: a cancelled answer runs on");
        return;
    }
    c->call.run = cancel_on_loop;
    c->handle = handle;
    exo_node_post(n, &c->call);
}

/* ---- cluster ---- */

typedef struct {
    exo_loop_call call;
    char model_id[EXO_MODEL_ID_BYTES];
    exo_placement_wish wish;
    exo_waiter *waiter;
} place_call;

static void place_on_loop(exo_node *n, exo_loop_call *c) {
    place_call *p = (place_call *)c;
    exo_waiter *w = p->waiter;
    exo_error err = {0};
    exo_instance *i;
    exo_status st = exo_instances_place(n, p->model_id, &p->wish, &i, &err);
    if (st == EXO_OK) {
        w->next = i->waiters;
        i->waiters = w;
    } else {
        w->fn(w->ud, st, "", err.message);
        exo_free(w);
    }
    exo_free(p);
}

static exo_status check_wish(const exo_placement_wish *w, exo_error *err) {
    if (strcmp(w->sharding, "Pipeline") != 0) {
        bool known = strcmp(w->sharding, "Tensor") == 0;
        return exo_error_set(err, known ? EXO_EUNSUPPORTED : EXO_EINVAL,
                             known ? "sharding \"Tensor\" is not built yet; use \"Pipeline\""
                                   : "sharding must be \"Pipeline\"");
    }
    if (w->min_nodes == 0 || w->min_nodes > EXO_MAX_STAGES) {
        return exo_error_set(err, EXO_EINVAL, "min_nodes must be 1 to %d, not %u", EXO_MAX_STAGES,
                             w->min_nodes);
    }
    if (w->n_cuts != 0 && w->n_cuts + 1 != w->min_nodes) {
        return exo_error_set(err, EXO_EINVAL, "%u nodes have %u cuts between them, not %u",
                             w->min_nodes, w->min_nodes - 1, w->n_cuts);
    }
    if (w->n_nodes != 0 && w->n_nodes != w->min_nodes) {
        return exo_error_set(err, EXO_EINVAL, "%u nodes are named for %u stages", w->n_nodes,
                             w->min_nodes);
    }
    for (uint32_t i = 1; i < w->n_nodes; i++) {
        for (uint32_t k = 0; k < i; k++) {
            if (strcmp(w->nodes[i], w->nodes[k]) != 0) continue;
            return exo_error_set(err, EXO_EINVAL,
                                 "node %s is named for two stages; one is what a "
                                 "node takes",
                                 w->nodes[i]);
        }
    }
    return EXO_OK;
}

exo_status exo_node_place(exo_node *n, const char *model_id, const exo_placement_wish *wish,
                          exo_node_placed_fn done, void *ud, exo_error *err) {
    exo_status st = check_wish(wish, err);
    if (st == EXO_OK) st = check_model_id(model_id, err);
    if (st != EXO_OK) return st;
    place_call *c = exo_calloc(1, sizeof *c);
    exo_waiter *w = exo_calloc(1, sizeof *w);
    if (c == NULL || w == NULL) {
        exo_free(c);
        exo_free(w);
        return exo_error_set(err, EXO_ENOMEM, "out of memory for a placement");
    }
    snprintf(c->model_id, sizeof c->model_id, "%s", model_id);
    c->wish = *wish;
    c->wish.sharding = NULL; /* checked; the caller's string */
    w->fn = done;
    w->ud = ud;
    c->waiter = w;
    c->call.run = place_on_loop;
    exo_node_post(n, &c->call);
    return EXO_OK;
}

/* A call that the caller waits for; freed by whoever comes last. */
typedef struct {
    exo_loop_call call;
    exo_latch *latch;
    atomic_int holders; /* caller and LOOP */
    char instance[EXO_INSTANCE_ID_BYTES];
    exo_node_place_in_log from;
    exo_event event;
    json_t *state;
    exo_status status;
    char why[EXO_ERROR_BYTES];
} sync_call;

static void release(sync_call *c) {
    if (atomic_fetch_sub(&c->holders, 1) > 1) return;
    exo_latch_destroy(c->latch);
    json_decref(c->state);
    exo_free(c);
}

static void state_on_loop(exo_node *n, exo_loop_call *call) {
    sync_call *c = (sync_call *)call;
    c->state = n->stopping ? NULL : exo_node_state_json(n);
    c->status = c->state != NULL ? EXO_OK : EXO_ENOMEM;
    snprintf(c->why, sizeof c->why, n->stopping ? EXO_NODE_STOPPING : "out of memory for /state");
    exo_latch_set(c->latch);
    release(c);
}

static void events_on_loop(exo_node *n, exo_loop_call *call) {
    sync_call *c = (sync_call *)call;
    c->state = n->stopping ? NULL : exo_events_json(n, c->from);
    c->status = c->state != NULL ? EXO_OK : EXO_ENOMEM;
    exo_latch_set(c->latch);
    release(c);
}

static void counted(void *ud, exo_status status, const char *message) {
    sync_call *c = ud;
    c->status = status;
    snprintf(c->why, sizeof c->why, "%s", message);
    exo_latch_set(c->latch);
    release(c);
}

static void delete_on_loop(exo_node *n, exo_loop_call *call) {
    sync_call *c = (sync_call *)call;
    if (n->stopping) {
        counted(c, EXO_EPEER, EXO_NODE_STOPPING);
    } else {
        exo_instances_delete(n, c->instance, counted, c);
    }
}

static void propose_on_loop(exo_node *n, exo_loop_call *call) {
    sync_call *c = (sync_call *)call;
    const exo_state *s = n->stopping ? NULL : exo_consensus_state(n);
    const exo_state_node *m = s != NULL ? exo_state_node_of(s, c->event.node) : NULL;
    bool ends = c->event.type == EXO_EVENT_DOWNLOAD_ENDED;
    if (s == NULL) {
        counted(c, EXO_EPEER, EXO_NODE_STOPPING);
    } else if (!ends && (m == NULL || m->member == 0)) {
        counted(c, EXO_ENOTFOUND, "no such node is a member of this cluster");
    } else if (ends && exo_state_download_of(s, c->event.node, c->event.model_id) == NULL) {
        counted(c, EXO_ENOTFOUND, "no such download");
    } else {
        exo_consensus_propose(n, &c->event, counted, c);
    }
}

static exo_status call_and_wait(exo_node *n, void (*run)(exo_node *, exo_loop_call *),
                                const sync_call *with, json_t **state, exo_error *err) {
    sync_call *c = exo_malloc(sizeof *c);
    if (c != NULL) *c = *with;
    if (c == NULL || exo_latch_create(&c->latch, err) != EXO_OK) {
        exo_free(c);
        return exo_error_set(err, EXO_ENOMEM, "out of memory for a call");
    }
    c->call.run = run;
    atomic_store(&c->holders, 2);
    exo_node_post(n, &c->call);
    exo_status st = EXO_ETIMEDOUT;
    if (exo_latch_wait(c->latch, CALL_DEADLINE_MS)) {
        st = c->status;
        const char *why = c->why[0] != '\0' ? c->why : "out of memory, or shutting down";
        if (st != EXO_OK) exo_error_set(err, st, "%s", why);
        if (state != NULL) *state = c->state; /* moved: two threads never share JSON */
        c->state = NULL;
    }
    release(c);
    if (st == EXO_ETIMEDOUT) exo_error_set(err, st, "the node did not answer within 2 s");
    return st;
}

static void end_answers_on_loop(exo_node *n, exo_loop_call *call) {
    end_answers(n);
    counted(call, EXO_OK, "");
}

void exo_node_end_answers(exo_node *n) {
    if (n != NULL) call_and_wait(n, end_answers_on_loop, &(sync_call){0}, NULL, NULL);
}

exo_status exo_node_state(exo_node *n, json_t **out, exo_error *err) {
    *out = NULL;
    return call_and_wait(n, state_on_loop, &(sync_call){0}, out, err);
}

exo_status exo_node_events(exo_node *n, exo_node_place_in_log from, json_t **out, exo_error *err) {
    *out = NULL;
    return call_and_wait(n, events_on_loop, &(sync_call){.from = from}, out, err);
}

/* Of what the cluster's log decides: asked for it is, whether or not anybody waits. */
static exo_status decide(exo_node *n, void (*run)(exo_node *, exo_loop_call *), const sync_call *c,
                         exo_error *err) {
    exo_status st = call_and_wait(n, run, c, NULL, err);
    if (st != EXO_ETIMEDOUT) return st;
    return exo_error_set(err, st,
                         "the cluster has not decided within 2 s (it may have no master just now): "
                         "what was asked for may still be done");
}

exo_status exo_node_delete_instance(exo_node *n, const char *instance_id, exo_error *err) {
    sync_call c = {0};
    exo_status st = EXO_ENOTFOUND;
    if (strlen(instance_id) < sizeof c.instance) {
        snprintf(c.instance, sizeof c.instance, "%s", instance_id);
        st = decide(n, delete_on_loop, &c, err);
    }
    if (st == EXO_ENOTFOUND) {
        exo_error_set(err, st, "instance \"%.32s\" not found", instance_id);
    }
    return st;
}

static exo_status propose_download(exo_node *n, exo_event_type type, const char *node_id,
                                   const char *what, exo_error *err) {
    sync_call c = {.event = {.type = type}};
    if (node_id == NULL) node_id = exo_node_id(n);
    if (!exo_is_node_id(node_id)) {
        return exo_error_set(err, EXO_EINVAL, "\"%.64s\" is no node's id", node_id);
    }
    if (strlen(what) >= sizeof c.event.model_id) {
        return exo_error_set(err, EXO_EINVAL, "a model's name has %zu characters at most",
                             sizeof c.event.model_id - 1);
    }
    c.event.node = exo_node_number(node_id);
    snprintf(c.event.model_id, sizeof c.event.model_id, "%s", what);
    return decide(n, propose_on_loop, &c, err);
}

exo_status exo_node_download(exo_node *n, const char *node_id, const char *what, exo_error *err) {
    exo_hub_ref ref;
    exo_status st = exo_hub_ref_parse(what, &ref, err);
    return st == EXO_OK ? propose_download(n, EXO_EVENT_DOWNLOAD_STARTED, node_id, what, err) : st;
}

exo_status exo_node_drop_download(exo_node *n, const char *node_id, const char *what,
                                  exo_error *err) {
    return propose_download(n, EXO_EVENT_DOWNLOAD_ENDED, node_id, what, err);
}
