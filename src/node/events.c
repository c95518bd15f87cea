/* events.c - what has changed what all nodes agree on: kept for a while, and told to whoever
 * follows.
 *
 * An event has its place in the cluster's log, which is the same on every node.  Where a node is
 * given a whole state instead of events (a log that yielded to another, a node that was far
 * behind), one event "state_restored" stands for all before it, and what was kept is forgotten. */
#define _DEFAULT_SOURCE
#include "base/mem.h"
#include "node/node_impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MAX_KEPT      1024 /* as many entries as the log keeps before they become a snapshot */
#define MAX_FOLLOWERS 64

typedef struct {
    uint64_t index;
    json_t *event;
} change;

typedef struct follower {
    struct follower *next;
    uint64_t handle;
    exo_node_change_fn fn;
    void *ud;
} follower;

struct exo_events {
    change kept[MAX_KEPT]; /* a ring */
    size_t first, n;
    uint64_t log_id;
    follower *followers;
    size_t n_followers;
};

/* ---- an event as JSON ---- */

static json_t *number_json(uint64_t number) {
    char id[EXO_NODE_ID_BYTES];
    exo_node_number_id(number, id);
    return json_string(id);
}

static json_t *new_event(const exo_cluster_action *a, const char *name) {
    char type[32];
    snprintf(type, sizeof type, "%s", name);
    for (char *c = type; *c != '\0'; c++) {
        if (*c == ' ') *c = '_';
    }
    return json_pack("{s:I, s:o, s:s}", "index", (json_int_t)a->index, "log",
                     number_json(a->log_id), "type", type);
}

static json_t *cuts_json(const exo_event *e) {
    json_t *list = json_array();
    for (uint32_t i = 0; i < e->n_cuts; i++) {
        json_array_append_new(list, json_integer((json_int_t)e->cuts[i]));
    }
    return list;
}

static json_t *event_json(const exo_cluster_action *a) {
    const exo_event *e = a->event;
    json_t *j = new_event(a, exo_event_name(e->type));
    if (j == NULL) return NULL;
    if (e->node != 0) json_object_set_new(j, "node_id", number_json(e->node));
    if (e->name[0] != '\0') json_object_set_new(j, "name", json_string(e->name));
    if (e->instance[0] != '\0') json_object_set_new(j, "instance_id", json_string(e->instance));
    if (e->model_id[0] != '\0') json_object_set_new(j, "model_id", json_string(e->model_id));
    if (e->type == EXO_EVENT_INSTANCE_CREATED) {
        json_object_set_new(j, "min_nodes", json_integer((json_int_t)e->min_nodes));
        if (e->n_cuts > 0) json_object_set_new(j, "cuts", cuts_json(e));
    }
    return j;
}

/* ---- keeping and telling ---- */

static void tell(const follower *f, uint64_t log_id, const change *c) {
    f->fn(f->ud, &(exo_node_change){.log_id = log_id, .index = c->index, .event = c->event});
}

static void take(exo_events *v, uint64_t index, json_t *event_take) {
    if (event_take == NULL) return; /* no memory: one that follows sees a gap in the index */
    if (v->n == MAX_KEPT) {
        json_decref(v->kept[v->first].event);
        v->first = (v->first + 1) % MAX_KEPT;
        v->n--;
    }
    change *c = &v->kept[(v->first + v->n++) % MAX_KEPT];
    *c = (change){index, event_take};
    for (const follower *f = v->followers, *next; f != NULL; f = next) {
        next = f->next;
        tell(f, v->log_id, c);
    }
}

static void forget(exo_events *v) {
    for (size_t i = 0; i < v->n; i++) json_decref(v->kept[(v->first + i) % MAX_KEPT].event);
    v->first = v->n = 0;
}

void exo_events_applied(exo_node *n, const exo_cluster_action *a) {
    if (a->index == 0) return; /* it came within a state, which was told of */
    n->events->log_id = a->log_id;
    take(n->events, a->index, event_json(a));
}

void exo_events_restored(exo_node *n, const exo_cluster_action *a) {
    forget(n->events);
    n->events->log_id = a->log_id;
    take(n->events, a->index, new_event(a, "state restored"));
}

/* The first of those asked for. */
static size_t begin_of(const exo_events *v, const exo_node_place_in_log *from) {
    if (from->log_id != 0 && from->log_id != v->log_id) return 0;
    size_t i = 0;
    while (i < v->n && v->kept[(v->first + i) % MAX_KEPT].index <= from->since) i++;
    return i;
}

json_t *exo_events_json(const exo_node *n, exo_node_place_in_log from) {
    const exo_events *v = n->events;
    json_t *list = json_array();
    for (size_t i = begin_of(v, &from); i < v->n && list != NULL; i++) {
        /* A copy: two threads never share JSON. */
        json_array_append_new(list, json_deep_copy(v->kept[(v->first + i) % MAX_KEPT].event));
    }
    return list;
}

/* ---- followers ---- */

typedef struct {
    exo_loop_call call;
    follower *follower;
    exo_node_place_in_log from;
} follow_call;

static void end(follower *f, exo_status status, const char *why) {
    f->fn(f->ud, &(exo_node_change){.status = status, .message = why});
    exo_free(f);
}

static void follow_on_loop(exo_node *n, exo_loop_call *call) {
    follow_call *c = (follow_call *)call;
    exo_events *v = n->events;
    follower *f = c->follower;
    if (n->stopping) {
        end(f, EXO_EPEER, EXO_NODE_STOPPING);
    } else if (v->n_followers == MAX_FOLLOWERS) {
        end(f, EXO_EBUSY, "too many clients follow this node's events");
    } else {
        v->n_followers++;
        f->next = v->followers;
        v->followers = f;
        for (size_t i = begin_of(v, &c->from); i < v->n; i++) {
            tell(f, v->log_id, &v->kept[(v->first + i) % MAX_KEPT]);
        }
    }
    exo_free(c);
}

exo_status exo_node_follow(exo_node *n, exo_node_place_in_log from, exo_node_change_fn fn, void *ud,
                           uint64_t *handle, exo_error *err) {
    *handle = 0;
    follow_call *c = exo_calloc(1, sizeof *c);
    follower *f = exo_calloc(1, sizeof *f);
    if (c == NULL || f == NULL) {
        exo_free(c);
        exo_free(f);
        return exo_error_set(err, EXO_ENOMEM, "out of memory for a stream of events");
    }
    f->handle = *handle = atomic_fetch_add(&n->next_handle, 1) + 1;
    f->fn = fn;
    f->ud = ud;
    *c = (follow_call){.call = {.run = follow_on_loop}, .follower = f, .from = from};
    exo_node_post(n, &c->call);
    return EXO_OK;
}

void exo_events_cancel(exo_node *n, uint64_t handle) {
    for (follower **at = &n->events->followers; *at != NULL; at = &(*at)->next) {
        follower *f = *at;
        if (f->handle != handle) continue;
        *at = f->next;
        n->events->n_followers--;
        end(f, EXO_ECANCELED, "canceled");
        return;
    }
}

/* ---- life ---- */

exo_status exo_events_create(exo_node *n, exo_error *err) {
    n->events = exo_calloc(1, sizeof *n->events);
    return n->events != NULL ? EXO_OK : exo_error_set(err, EXO_ENOMEM, "out of memory for events");
}

void exo_events_stop(exo_node *n, const char *reason) {
    if (n->events == NULL) return;
    for (follower *f = n->events->followers, *next; f != NULL; f = next) {
        next = f->next;
        end(f, EXO_EPEER, reason);
    }
    n->events->followers = NULL;
    n->events->n_followers = 0;
}

void exo_events_finish(exo_node *n) {
    if (n->events == NULL) return;
    forget(n->events);
    exo_free(n->events);
    n->events = NULL;
}
