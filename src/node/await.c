/* await.c - who waits for an instance to run: looked at four times a second, each with a deadline.
 *
 * An instance runs when its owner says so, this node or a peer that is linked. */
#define _DEFAULT_SOURCE
#include "base/clock.h"
#include "base/mem.h"
#include "node/node_impl.h"

#include <stdio.h>
#include <string.h>

#define MAX_AWAITS 1024

struct exo_await {
    exo_loop_call call; /* its way to LOOP */
    exo_await *next;
    uint64_t handle, deadline_ms;
    uint32_t patience_ms;
    char model_id[EXO_MODEL_ID_BYTES], instance_id[EXO_INSTANCE_ID_BYTES];
    exo_node_placed_fn done;
    void *ud;
};

/* ---- what is waited for ---- */

/* The best that is there of it. */
typedef struct {
    char id[EXO_INSTANCE_ID_BYTES], state[24];
    bool runs;
} sight;

static bool is_it(const exo_await *a, const char *id, const char *model_id) {
    return (a->model_id[0] == '\0' || strcmp(a->model_id, model_id) == 0) &&
           (a->instance_id[0] == '\0' || strcmp(a->instance_id, id) == 0);
}

static void see(const exo_await *a, json_t *instances, sight *s) {
    const char *id;
    json_t *i;
    json_object_foreach(instances, id, i) {
        const char *model = json_string_value(json_object_get(i, "model_id"));
        const char *state = json_string_value(json_object_get(i, "state"));
        if (s->runs || model == NULL || state == NULL || !is_it(a, id, model)) continue;
        snprintf(s->id, sizeof s->id, "%s", id);
        snprintf(s->state, sizeof s->state, "%s", state);
        s->runs = strcmp(state, "running") == 0;
    }
}

static sight look(exo_node *n, const exo_await *a) {
    sight s = {0};
    json_t *own = exo_node_instances(n);
    see(a, own, &s);
    json_decref(own);
    for (const exo_peer *p = n->peers; p != NULL; p = p->next) {
        see(a, json_object_get(p->record, "instances"), &s);
    }
    const exo_state *log = exo_consensus_state(n);
    for (size_t k = 0; k < log->n_instances && s.id[0] == '\0'; k++) {
        const exo_state_instance *i = &log->instances[k];
        if (!is_it(a, i->id, i->model_id)) continue;
        snprintf(s.id, sizeof s.id, "%s", i->id); /* remembered, but nobody runs it */
        snprintf(s.state, sizeof s.state, "waiting for its nodes");
    }
    return s;
}

/* ---- ends ---- */

static void end(exo_await *a, exo_status status, const char *id, const char *message) {
    a->done(a->ud, status, id, message);
    exo_free(a);
}

static void end_late(exo_await *a, const sight *s) {
    exo_error err = {0};
    bool named = a->instance_id[0] != '\0';
    char what[EXO_MODEL_ID_BYTES + 48];
    snprintf(what, sizeof what,
             named ? "instance \"%s\" does not run" : "no instance of model \"%s\" runs",
             named ? a->instance_id : a->model_id);
    double s_waited = a->patience_ms / 1000.0;
    if (s->id[0] != '\0') {
        exo_error_set(&err, EXO_ETIMEDOUT, "%s after %g s: %s is %s", what, s_waited, s->id,
                      s->state);
    } else {
        exo_error_set(&err, EXO_ETIMEDOUT,
                      "%s after %g s: there is none; POST /place_instance makes one", what,
                      s_waited);
    }
    end(a, EXO_ETIMEDOUT, "", err.message);
}

/* True: it has ended. */
static bool judge(exo_node *n, exo_await *a, uint64_t now_ms) {
    sight s = look(n, a);
    if (s.runs) {
        end(a, EXO_OK, s.id, "the instance is running");
    } else if (now_ms >= a->deadline_ms) {
        end_late(a, &s);
    } else {
        return false;
    }
    return true;
}

void exo_await_tick(exo_node *n, uint64_t now_ms) {
    for (exo_await **at = &n->awaits; *at != NULL;) {
        exo_await *a = *at, *next = a->next;
        if (judge(n, a, now_ms)) {
            *at = next;
        } else {
            at = &a->next;
        }
    }
}

void exo_await_cancel(exo_node *n, uint64_t handle) {
    for (exo_await **at = &n->awaits; *at != NULL; at = &(*at)->next) {
        exo_await *a = *at;
        if (a->handle != handle) continue;
        *at = a->next;
        end(a, EXO_ECANCELED, "", "canceled");
        return;
    }
}

void exo_await_stop(exo_node *n, const char *reason) {
    for (exo_await *a = n->awaits, *next; a != NULL; a = next) {
        next = a->next;
        end(a, EXO_EPEER, "", reason);
    }
    n->awaits = NULL;
}

/* ---- beginning ---- */

static void await_on_loop(exo_node *n, exo_loop_call *call) {
    exo_await *a = (exo_await *)call;
    size_t count = 0;
    for (const exo_await *other = n->awaits; other != NULL; other = other->next) count++;
    if (n->stopping) {
        end(a, EXO_EPEER, "", EXO_NODE_STOPPING);
    } else if (count >= MAX_AWAITS) {
        end(a, EXO_EBUSY, "", "too many requests wait for an instance on this node");
    } else if (!judge(n, a, exo_now_ms())) {
        a->next = n->awaits;
        n->awaits = a;
    }
}

exo_status exo_node_await(exo_node *n, const exo_node_await_desc *d, exo_node_placed_fn done,
                          void *ud, uint64_t *handle, exo_error *err) {
    *handle = 0;
    exo_await *a = exo_calloc(1, sizeof *a);
    if (a == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for waiting");
    const char *model = d->model_id != NULL ? d->model_id : "";
    const char *instance = d->instance_id != NULL ? d->instance_id : "";
    if (strlen(model) >= sizeof a->model_id || strlen(instance) >= sizeof a->instance_id) {
        exo_free(a);
        return exo_error_set(err, EXO_ENOTFOUND, "no model or instance has a name so long");
    }
    snprintf(a->model_id, sizeof a->model_id, "%s", model);
    snprintf(a->instance_id, sizeof a->instance_id, "%s", instance);
    a->patience_ms = d->deadline_ms;
    a->deadline_ms = exo_now_ms() + d->deadline_ms;
    a->handle = *handle = atomic_fetch_add(&n->next_handle, 1) + 1;
    a->done = done;
    a->ud = ud;
    a->call.run = await_on_loop;
    exo_node_post(n, &a->call);
    return EXO_OK;
}
