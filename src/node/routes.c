/* routes.c - answers asked on this node: which instance computes them, here or on a peer.
 *
 * A route waits for its instance, runs on the local coordinator, or is forwarded to the node
 * that owns an instance of the model; that node serves it as a route of its own whose events
 * travel back (a guest).  What is decided is in src/cluster/route.h; here it is carried out.
 *
 *   EXO_MSG_REQUEST   {"op": "submit", "handle", "model_id", "request", "prompt": [ids]}
 *                     {"op": "event",  "handle", ...}    back to the asker (event_json.h)
 *                     {"op": "cancel", "handle"} */
#define _DEFAULT_SOURCE
#include "node/event_json.h"

#include "base/log.h"
#include "base/mem.h"
#include "node/node_impl.h"

#include <stdio.h>
#include <string.h>

#define MAX_ROUTES 4096 /* answers asked here and not yet ended */

static void guest_event(void *ud, const exo_node_event *e);

static void free_route(exo_route *r) {
    exo_request_finish(&r->request);
    exo_free(r);
}

static exo_route *find(exo_node *n, uint64_t handle) {
    exo_route *r = n->routes;
    while (r != NULL && r->seat.handle != handle) r = r->next;
    return r;
}

static void remove_route(exo_node *n, exo_route *r) {
    exo_route **at = &n->routes;
    while (*at != r) at = &(*at)->next;
    *at = r->next;
    n->n_routes--;
    free_route(r);
}

/* The last event of a route that no worker holds. */
static void end_route(exo_node *n, exo_route *r, exo_status status, const char *why) {
    exo_node_event e = {.status = status, .message = why};
    exo_meter_event(n->meter, &r->mark, &e);
    r->fn(r->ud, &e);
    remove_route(n, r);
}

/* ---- local ---- */

static bool is_last(const exo_node_event *e) {
    return e->status != EXO_OK || e->finish != EXO_GOING_ON;
}

static void on_done(exo_node *n, exo_loop_call *c) { remove_route(n, (exo_route *)c); }

/* COMPUTE: straight to the asker.  With its last event the route goes to LOOP to be removed, first:
 * a guest ends with its event, and no route may refer to it then. */
static void local_event(void *ud, const exo_node_event *e) {
    exo_route *r = ud;
    exo_node_event_fn fn = r->fn;
    void *fn_ud = r->ud;
    exo_meter_event(r->node->meter, &r->mark, e);
    if (is_last(e)) {
        r->done.run = on_done;
        exo_node_post(r->node, &r->done);
    }
    fn(fn_ud, e);
}

static void run_local(exo_node *n, exo_route *r) {
    const exo_instance *i = exo_instances_find(n, r->seat.instance);
    exo_error err = {.message = "the instance ended; ask again"};
    exo_status st = EXO_EPEER;
    if (i != NULL) {
        st = exo_worker_submit(i->worker, r->seat.handle, &r->request, local_event, r, &err);
    }
    if (st != EXO_OK) end_route(n, r, st, err.message);
}

static void cancel_local(exo_node *n, const exo_route *r) {
    const exo_instance *i = exo_instances_find(n, r->seat.instance);
    if (i != NULL) exo_worker_cancel(i->worker, r->seat.handle);
}

/* ---- remote ---- */

static exo_status send_request(exo_peer *p, json_t *m_take, exo_error *err) {
    exo_status st = m_take != NULL ? exo_link_send_json(p->link, EXO_MSG_REQUEST, m_take, err)
                                   : exo_error_set(err, EXO_ENOMEM, "out of memory");
    json_decref(m_take);
    return st;
}

static exo_peer *coordinator_of(exo_node *n, const exo_route *r) {
    char id[EXO_NODE_ID_BYTES];
    exo_node_number_id(r->seat.peer, id);
    return exo_members_find(n, id);
}

static void run_remote(exo_node *n, exo_route *r) {
    exo_error err = {.message = "its node has left; ask again"};
    exo_peer *p = coordinator_of(n, r);
    json_t *prompt = json_array();
    for (size_t i = 0; i < r->request.n_prompt && prompt != NULL; i++) {
        json_array_append_new(prompt, json_integer(r->request.prompt[i]));
    }
    json_t *m = json_pack("{s:s, s:I, s:s, s:o, s:o}", "op", "submit", "handle",
                          (json_int_t)r->seat.handle, "model_id", r->model_id, "request",
                          exo_request_to_json(&r->request), "prompt", prompt);
    exo_status st = EXO_EPEER;
    if (p != NULL) {
        st = send_request(p, m, &err);
    } else {
        json_decref(m);
    }
    if (st != EXO_OK) end_route(n, r, st, err.message);
}

static void cancel_remote(exo_node *n, const exo_route *r) {
    exo_peer *p = coordinator_of(n, r);
    if (p == NULL) return;
    json_t *m = json_pack("{s:s, s:I}", "op", "cancel", "handle", (json_int_t)r->seat.handle);
    send_request(p, m, NULL);
}

/* A peer that says it owns a running instance of the model. */
static exo_peer *peer_with_instance(exo_node *n, const char *model_id) {
    for (exo_instance *i = n->instances; i != NULL; i = i->next) { /* we compute a stage of it */
        if (strcmp(i->model_id, model_id) == 0) return exo_members_find(n, i->owner);
    }
    for (exo_peer *p = n->peers; p != NULL; p = p->next) {
        const char *id;
        json_t *item;
        json_object_foreach(json_object_get(p->record, "instances"), id, item) {
            const char *m = json_string_value(json_object_get(item, "model_id"));
            const char *state = json_string_value(json_object_get(item, "state"));
            if (m != NULL && state != NULL && strcmp(m, model_id) == 0 &&
                strcmp(state, "running") == 0) {
                return p;
            }
        }
    }
    return NULL;
}

/* ---- verdicts ---- */

/* status and why: the last event of a route that ends. */
static void carry_out(exo_node *n, exo_route *r, exo_route_verdict v, exo_status status,
                      const char *why) {
    switch (v) {
    case EXO_ROUTE_RUN: run_local(n, r); break;
    case EXO_ROUTE_SEND: run_remote(n, r); break;
    case EXO_ROUTE_CANCEL: cancel_local(n, r); break;
    case EXO_ROUTE_CANCEL_REMOTE:
        cancel_remote(n, r);
        end_route(n, r, status, why);
        break;
    case EXO_ROUTE_END: end_route(n, r, status, why); break;
    case EXO_ROUTE_NOTHING:
    case EXO_ROUTE_REVIVE:
    case EXO_ROUTE_DELIVER: break; /* those two where they come up */
    }
}

static void step_all(exo_node *n, const exo_route_event *e, exo_status status, const char *why) {
    for (exo_route *r = n->routes, *next; r != NULL; r = next) {
        next = r->next;
        carry_out(n, r, exo_route_step(&r->seat, e), status, why);
    }
}

static void sit_on(exo_route_sites *sites, const exo_instance *i) {
    if (i == NULL) return;
    sites->instance = i->id;
    sites->running = i->state == EXO_INSTANCE_RUNNING;
}

void exo_routes_add(exo_node *n, exo_route *r_take) {
    exo_route *r = r_take;
    exo_error err = {0};
    exo_status st = EXO_OK;
    if (r->seat.guest_of == 0) exo_meter_begin(n->meter, &r->mark, r->model_id);
    r->next = n->routes;
    n->routes = r;
    if (n->n_routes++ >= MAX_ROUTES || n->stopping) {
        const char *why = n->stopping ? EXO_NODE_STOPPING : "too many requests wait on this node";
        end_route(n, r, n->stopping ? EXO_EPEER : EXO_EBUSY, why);
        return;
    }
    exo_instance *i = exo_instances_of_model(n, r->model_id);
    const exo_peer *p = i == NULL ? peer_with_instance(n, r->model_id) : NULL;
    exo_route_sites sites = {.peer = p != NULL ? exo_node_number(p->node_id) : 0};
    sit_on(&sites, i);
    exo_route_verdict v = exo_route_choose(&r->seat, &sites);
    if (v == EXO_ROUTE_REVIVE) {
        st = exo_instances_revive(n, r->model_id, &i, &err);
        sit_on(&sites, i);
        v = st == EXO_OK ? exo_route_choose(&r->seat, &sites) : EXO_ROUTE_END;
    }
    carry_out(n, r, v, st, err.message);
}

void exo_routes_cancel(exo_node *n, uint64_t handle) {
    step_all(n, &(exo_route_event){.kind = EXO_ROUTE_CANCELED, .handle = handle}, EXO_ECANCELED,
             "canceled");
}

/* ---- guests: answers that a peer asked for ---- */

typedef struct guest guest;

typedef struct {
    exo_loop_call call;
    guest *of;
    json_t *event; /* NULL: there was no memory for it */
    bool last;
} guest_call;

struct guest {
    exo_node *node;
    char peer[EXO_NODE_ID_BYTES];
    uint64_t their_handle;
    bool torn;       /* an event was lost: the answer must not end well */
    guest_call last; /* here, so that the last event needs no memory */
};

static json_t *error_event(uint64_t handle, exo_status status, const char *why) {
    return json_pack("{s:s, s:I, s:i, s:s}", "op", "event", "handle", (json_int_t)handle, "status",
                     (int)status, "message", why);
}

/* LOOP */
static void send_guest_event(exo_node *n, exo_loop_call *call) {
    guest_call *c = (guest_call *)call;
    guest *g = c->of;
    exo_peer *p = exo_members_find(n, g->peer);
    if (c->event == NULL) {
        c->event = error_event(g->their_handle, EXO_ENOMEM, "out of memory in mid-answer");
    }
    if (p == NULL) {
        json_decref(c->event);
    } else if (send_request(p, c->event, NULL) != EXO_OK) {
        exo_link_close(p->link, EXO_ENOMEM, "an event of an answer could not be sent");
    }
    exo_free(c->last ? (void *)g : (void *)c);
}

/* COMPUTE or LOOP: hands the event to LOOP, which owns the link. */
static void guest_event(void *ud, const exo_node_event *e) {
    guest *g = ud;
    bool last = is_last(e);
    guest_call *c = last ? &g->last : exo_calloc(1, sizeof *c);
    if (c == NULL) {
        g->torn = true;
        return;
    }
    c->call.run = send_guest_event;
    c->of = g;
    c->last = last;
    c->event = last && g->torn ? NULL : exo_event_to_json(e);
    if (c->event != NULL) {
        json_object_set_new(c->event, "op", json_string("event"));
        json_object_set_new(c->event, "handle", json_integer((json_int_t)g->their_handle));
    }
    exo_node_post(g->node, &c->call);
}

static exo_status prompt_from_json(const json_t *list, exo_request *r, exo_error *err) {
    size_t n = json_array_size(list);
    if (n == 0 || n != r->n_prompt) {
        return exo_error_set(err, EXO_EFORMAT, "a request with %zu prompt ids, not %zu", n,
                             r->n_prompt);
    }
    r->prompt = exo_malloc(n * sizeof *r->prompt);
    if (r->prompt == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for a prompt");
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_array_get(list, i);
        json_int_t v = json_integer_value(id);
        if (!json_is_integer(id) || v < 0 || v > INT32_MAX) {
            return exo_error_set(err, EXO_EFORMAT, "prompt id %zu is not a token", i);
        }
        r->prompt[i] = (int32_t)v;
    }
    return EXO_OK;
}

static void on_submit(exo_node *n, exo_peer *from, const json_t *m, uint64_t their_handle) {
    exo_error err = {0};
    exo_status st = EXO_ENOMEM;
    guest *g = exo_calloc(1, sizeof *g);
    exo_route *r = exo_calloc(1, sizeof *r);
    const char *model_id = json_string_value(json_object_get(m, "model_id"));
    if (g == NULL || r == NULL) goto fail;
    g->node = r->node = n;
    memcpy(g->peer, from->node_id, sizeof g->peer);
    g->their_handle = their_handle;
    st = exo_request_from_json(json_object_get(m, "request"), &r->request, &err);
    if (st == EXO_OK) st = prompt_from_json(json_object_get(m, "prompt"), &r->request, &err);
    if (st == EXO_OK && (model_id == NULL || exo_instances_of_model(n, model_id) == NULL)) {
        st = exo_error_set(&err, EXO_EPEER, "the instance ended; ask again");
    }
    if (st != EXO_OK) goto fail;
    snprintf(r->model_id, sizeof r->model_id, "%s", model_id);
    r->seat.handle = atomic_fetch_add(&n->next_handle, 1) + 1;
    r->seat.guest_of = exo_node_number(from->node_id);
    r->seat.their_handle = their_handle;
    r->fn = guest_event;
    r->ud = g;
    exo_routes_add(n, r);
    return;
fail:
    send_request(from, error_event(their_handle, st, err.message), NULL);
    exo_free(g);
    if (r != NULL) free_route(r);
}

/* ---- messages in ---- */

static void on_event(exo_node *n, exo_peer *from, const json_t *m, uint64_t handle) {
    exo_route *r = find(n, handle);
    exo_route_event e = {
        .kind = EXO_ROUTE_EVENT, .node = exo_node_number(from->node_id), .handle = handle};
    if (r == NULL || exo_route_step(&r->seat, &e) != EXO_ROUTE_DELIVER) return;
    exo_event_copy copy;
    exo_event_from_json(m, &copy);
    exo_meter_event(n->meter, &r->mark, &copy.event);
    r->fn(r->ud, &copy.event);
    if (is_last(&copy.event)) remove_route(n, r);
}

void exo_routes_on_message(exo_node *n, exo_peer *from, const json_t *m) {
    const char *op = json_string_value(json_object_get(m, "op"));
    uint64_t handle = (uint64_t)json_integer_value(json_object_get(m, "handle"));
    if (op == NULL) return;
    if (strcmp(op, "submit") == 0) {
        on_submit(n, from, m, handle);
    } else if (strcmp(op, "event") == 0) {
        on_event(n, from, m, handle);
    } else if (strcmp(op, "cancel") == 0) {
        exo_route_event e = {.kind = EXO_ROUTE_GUEST_CANCELED,
                             .node = exo_node_number(from->node_id),
                             .handle = handle};
        step_all(n, &e, EXO_ECANCELED, "canceled");
    }
}

/* ---- what happens to instances and peers ---- */

void exo_routes_instance_running(exo_node *n, const exo_instance *i) {
    exo_route_event e = {.kind = EXO_ROUTE_INSTANCE_RUNS, .instance = i->id};
    step_all(n, &e, EXO_OK, "");
}

void exo_routes_instance_ended(exo_node *n, const char *instance, const char *reason) {
    exo_route_event e = {.kind = EXO_ROUTE_INSTANCE_ENDED, .instance = instance};
    step_all(n, &e, EXO_EPEER, reason);
}

/* Guests of the node are cancelled; nobody reads their last event any more. */
void exo_routes_peer_lost(exo_node *n, const char *node_id, const char *why) {
    exo_route_event e = {.kind = EXO_ROUTE_PEER_LOST, .node = exo_node_number(node_id)};
    exo_error reason;
    exo_error_set(&reason, EXO_EPEER, "node %s left in mid-answer: %s", node_id, why);
    step_all(n, &e, EXO_EPEER, reason.message);
}

void exo_routes_finish(exo_node *n, const char *reason) {
    step_all(n, &(exo_route_event){.kind = EXO_ROUTE_STOPPED}, EXO_EPEER, reason);
}
