/* instances_log.c - instances as the cluster remembers them.
 *
 * The log says which instances there are and who owns each.  An owner starts what it does not run:
 * after a restart, after a stage was lost and is back, with growing pauses where it fails.  A
 * request does not wait for that: it takes the nodes that are here.  Who asks for a model whose
 * owner is away takes the instance over. */
#define _DEFAULT_SOURCE
#include "node/instances_impl.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

#define RETRY_FIRST_MS 1000u
#define RETRY_MAX_MS   60000u
#define LOG_BY_MS      5000u /* an instance that is ready serves then, remembered or not */
#define SETTLE_MS      2000u /* after a start the list of what is remembered may be old so long */
#define DELETE_WAIT_MS 1000u /* for an instance to become known that somebody wants to delete */

static uint64_t own_number(const exo_node *n) { return exo_node_number(exo_node_id(n)); }

/* ---- events ---- */

static void propose_created(exo_node *n, const exo_instance *i, const exo_placement_wish *w) {
    exo_event e = {.type = EXO_EVENT_INSTANCE_CREATED,
                   .node = own_number(n),
                   .min_nodes = w->min_nodes,
                   .n_cuts = w->n_cuts};
    memcpy(e.instance, i->id, sizeof e.instance);
    memcpy(e.model_id, i->model_id, sizeof e.model_id);
    for (uint32_t k = 0; k < w->n_cuts; k++) e.cuts[k] = w->cuts[k];
    exo_consensus_propose(n, &e, NULL, NULL);
}

static void propose_deleted(exo_node *n, const char *id, exo_counted_fn fn, void *ud) {
    exo_event e = {.type = EXO_EVENT_INSTANCE_DELETED};
    snprintf(e.instance, sizeof e.instance, "%s", id);
    exo_consensus_propose(n, &e, fn, ud);
}

static void propose_moved(exo_node *n, const char *id) {
    exo_event e = {.type = EXO_EVENT_INSTANCE_MOVED, .node = own_number(n)};
    snprintf(e.instance, sizeof e.instance, "%s", id);
    exo_consensus_propose(n, &e, NULL, NULL);
}

/* ---- placing ---- */

/* Until when an instance waits to be remembered; where the disk takes no log, not at all. */
static uint64_t log_by(const exo_node *n) {
    return exo_now_ms() + (exo_consensus_is_stopped(n) ? 0 : LOG_BY_MS);
}

/* Instances of the model that this node owns, but for one: the new one takes their place. */
static void forget_others(exo_node *n, const char *model_id, const char *but) {
    const exo_state *s = exo_consensus_state(n);
    char ids[16][EXO_INSTANCE_ID_BYTES];
    size_t count = 0;
    for (size_t k = 0; k < s->n_instances && count < 16; k++) {
        const exo_state_instance *i = &s->instances[k];
        if (i->owner != own_number(n) || strcmp(i->model_id, model_id) != 0) continue;
        if (strcmp(i->id, but) != 0) memcpy(ids[count++], i->id, sizeof ids[0]);
    }
    for (size_t k = 0; k < count; k++) propose_deleted(n, ids[k], NULL, NULL);
}

exo_status exo_instances_place(exo_node *n, const char *model_id, const exo_placement_wish *wish,
                               exo_instance **out, exo_error *err) {
    char id[EXO_INSTANCE_ID_BYTES];
    exo_status st = exo_instances_begin(n, model_id, wish, NULL, out, err);
    if (st != EXO_OK) return st;
    (*out)->fresh = true;
    (*out)->log_by_ms = log_by(n);
    memcpy(id, (*out)->id, sizeof id);
    forget_others(n, model_id, id);
    propose_created(n, *out, wish);
    return EXO_OK;
}

/* ---- deleting ---- */

static bool is_known(exo_node *n, const char *id) {
    const exo_instance *i = exo_instances_find(n, id);
    return exo_state_instance_of(exo_consensus_state(n), id) != NULL ||
           (i != NULL && exo_instance_is_owned(i));
}

/* Why this node cannot say yet that there is no such instance; NULL when it can. */
static const char *why_not_sure(exo_node *n, const char *id, uint64_t now_ms) {
    const exo_state *s = exo_consensus_state(n);
    if (n->net == NULL || exo_state_was_deleted(s, id)) return NULL;
    if (exo_consensus_is_stopped(n)) return "its disk takes no log (see GET /state)";
    if (exo_consensus_master(n) == 0) return "it knows no master";
    if (now_ms - n->started_ms < SETTLE_MS) return "it has just started";
    for (const exo_peer *p = n->peers; p != NULL; p = p->next) {
        const exo_state_node *m = exo_state_node_of(s, exo_node_number(p->node_id));
        if (m == NULL || m->member == 0) return "a linked node is not in its log yet";
        if (json_object_get(json_object_get(p->record, "instances"), id) != NULL) {
            return "a node runs that instance, and it is not in the log yet";
        }
    }
    return NULL;
}

/* True: it has ended. */
static bool judge_deletion(exo_node *n, exo_deletion *d, uint64_t now_ms) {
    const char *why = NULL;
    if (is_known(n, d->instance)) {
        propose_deleted(n, d->instance, d->fn, d->ud);
    } else if ((why = why_not_sure(n, d->instance, now_ms)) == NULL) {
        d->fn(d->ud, EXO_ENOTFOUND, "not found");
    } else if (now_ms >= d->deadline_ms) {
        exo_error err;
        exo_error_set(&err, EXO_EPEER,
                      "this node has not caught up with the cluster: %s; try again in a moment",
                      why);
        d->fn(d->ud, EXO_EPEER, err.message);
    } else {
        return false;
    }
    exo_free(d);
    return true;
}

void exo_instances_delete(exo_node *n, const char *id, exo_counted_fn fn, void *ud) {
    uint64_t now_ms = exo_now_ms();
    exo_deletion *d = exo_calloc(1, sizeof *d);
    if (d == NULL) {
        fn(ud, EXO_ENOMEM, "out of memory for a change of the cluster");
        return;
    }
    *d = (exo_deletion){.deadline_ms = now_ms + DELETE_WAIT_MS, .fn = fn, .ud = ud};
    snprintf(d->instance, sizeof d->instance, "%s", id);
    if (judge_deletion(n, d, now_ms)) return;
    d->next = n->deletions;
    n->deletions = d;
}

/* What was waited for before a deletion is judged may change what else waits. */
static void judge_deletions(exo_node *n, uint64_t now_ms) {
    exo_deletion *list = n->deletions;
    n->deletions = NULL;
    for (exo_deletion *d = list, *next; d != NULL; d = next) {
        next = d->next;
        if (judge_deletion(n, d, now_ms)) continue;
        d->next = n->deletions;
        n->deletions = d;
    }
}

void exo_instances_drop_deletions(exo_node *n, const char *reason) {
    for (exo_deletion *d = n->deletions, *next; d != NULL; d = next) {
        next = d->next;
        d->fn(d->ud, EXO_EPEER, reason);
        exo_free(d);
    }
    n->deletions = NULL;
}

/* ---- what this node owns and does not run ---- */

static exo_retry *find_retry(exo_node *n, const char *id) {
    exo_retry *r = n->retries;
    while (r != NULL && strcmp(r->instance, id) != 0) r = r->next;
    return r;
}

static exo_retry *need_retry(exo_node *n, const char *id, uint64_t at_ms) {
    exo_retry *r = find_retry(n, id);
    if (r != NULL) return r;
    r = exo_calloc(1, sizeof *r);
    if (r == NULL) return NULL; /* the next tick tries */
    snprintf(r->instance, sizeof r->instance, "%s", id);
    r->at_ms = at_ms;
    r->wait_ms = RETRY_FIRST_MS;
    r->next = n->retries;
    n->retries = r;
    return r;
}

static void drop_retry(exo_node *n, const char *id) {
    exo_retry **at = &n->retries;
    while (*at != NULL && strcmp((*at)->instance, id) != 0) at = &(*at)->next;
    exo_retry *r = *at;
    if (r == NULL) return;
    *at = r->next;
    exo_free(r);
}

/* One that was asked for and never ran is not remembered: whoever asked has heard why. */
void exo_instances_note_end(exo_node *n, const exo_instance *i) {
    if (n->stopping) return;
    if (i->fresh && i->state != EXO_INSTANCE_RUNNING) {
        propose_deleted(n, i->id, NULL, NULL);
    } else {
        need_retry(n, i->id, exo_now_ms() + RETRY_FIRST_MS);
    }
}

void exo_instances_note_running(exo_instance *i) {
    i->fresh = false;
    drop_retry(i->node, i->id);
}

static exo_status resume(exo_node *n, const exo_state_instance *r, uint32_t n_nodes,
                         exo_instance **out, exo_error *err) {
    exo_state_instance copy = *r; /* the state may change meanwhile */
    exo_placement_wish wish = {.min_nodes = n_nodes};
    if (copy.n_cuts + 1 == n_nodes) {
        wish.n_cuts = copy.n_cuts;
        memcpy(wish.cuts, copy.cuts, sizeof wish.cuts);
    }
    exo_status st = exo_instances_begin(n, copy.model_id, &wish, copy.id, out, err);
    if (st != EXO_OK) return st;
    (*out)->logged = copy.owner == own_number(n);
    (*out)->log_by_ms = log_by(n);
    if (!(*out)->logged) propose_moved(n, copy.id);
    return EXO_OK;
}

/* The instance of the model that this node should run: its own, else one whose owner is away. */
static const exo_state_instance *find_remembered(exo_node *n, const char *model_id) {
    const exo_state *s = exo_consensus_state(n);
    const exo_state_instance *best = NULL;
    for (size_t k = 0; k < s->n_instances; k++) {
        const exo_state_instance *i = &s->instances[k];
        char owner[EXO_NODE_ID_BYTES];
        if (strcmp(i->model_id, model_id) != 0 || exo_instances_find(n, i->id) != NULL) continue;
        if (i->owner == own_number(n)) return i;
        exo_node_number_id(i->owner, owner);
        if (exo_members_find(n, owner) == NULL) best = i;
    }
    return best;
}

exo_status exo_instances_revive(exo_node *n, const char *model_id, exo_instance **out,
                                exo_error *err) {
    *out = NULL;
    const exo_state_instance *r = find_remembered(n, model_id);
    exo_place_candidate candidates[EXO_MAX_STAGES];
    uint32_t have = exo_instances_candidates(n, model_id, candidates);
    if (r == NULL) {
        exo_placement_wish one = {.min_nodes = 1};
        return exo_instances_place(n, model_id, &one, out, err);
    }
    return resume(n, r, r->min_nodes < have ? r->min_nodes : have, out, err);
}

static void start_again(exo_node *n, const exo_state_instance *i, uint64_t now_ms) {
    exo_place_candidate candidates[EXO_MAX_STAGES];
    exo_retry *r = need_retry(n, i->id, now_ms + RETRY_FIRST_MS);
    if (r == NULL || now_ms < r->at_ms) return;
    if (exo_instances_candidates(n, i->model_id, candidates) < i->min_nodes) return;
    r->at_ms = now_ms + r->wait_ms;
    r->wait_ms = r->wait_ms * 2 < RETRY_MAX_MS ? r->wait_ms * 2 : RETRY_MAX_MS;
    exo_error err = {0};
    exo_instance *out;
    char id[EXO_INSTANCE_ID_BYTES];
    memcpy(id, i->id, sizeof id);
    exo_status st = resume(n, i, i->min_nodes, &out, &err);
    if (st == EXO_OK) {
        exo_info("instance %s of %s is started again", out->id, out->model_id);
    } else {
        exo_warn("instance %s cannot be started again: %s", id, err.message);
    }
}

void exo_instances_remember_tick(exo_node *n, uint64_t now_ms) {
    judge_deletions(n, now_ms);
    for (exo_instance *i = n->instances; i != NULL; i = i->next) {
        if (!exo_instance_is_owned(i) || i->logged || now_ms < i->log_by_ms) continue;
        exo_warn("instance %s serves, but %s", i->id,
                 exo_consensus_is_stopped(n) ? "it will not be remembered: the disk takes no log"
                                             : "the cluster has no master to remember it");
        i->logged = true;
        exo_instance_advance(i);
    }
    /* One at a time: starting changes the list of what is remembered.  Without a master, and until
     * that one has said how far the log is decided (RETRY_FIRST_MS), the list may be old: after a
     * restart, what was deleted last would run for a while. */
    const exo_state *s = exo_consensus_state(n);
    bool may_start = !n->stopping && exo_consensus_master(n) != 0;
    for (size_t k = 0; k < s->n_instances && may_start; k++) {
        const exo_state_instance *i = &s->instances[k];
        if (i->owner != own_number(n) || exo_instances_find(n, i->id) != NULL) continue;
        if (exo_instances_of_model(n, i->model_id) != NULL) continue; /* it is being replaced */
        start_again(n, i, now_ms);
        s = exo_consensus_state(n);
    }
    for (exo_retry *r = n->retries, *next; r != NULL; r = next) {
        next = r->next;
        if (exo_state_instance_of(s, r->instance) == NULL) drop_retry(n, r->instance);
    }
}

/* ---- what the log says ---- */

static void agree(exo_instance *i) {
    if (i->logged) return;
    i->logged = true;
    exo_instance_advance(i);
}

void exo_instances_on_event(exo_node *n, const exo_event *e) {
    exo_instance *i = e->instance[0] != '\0' ? exo_instances_find(n, e->instance) : NULL;
    if (i == NULL || !exo_instance_is_owned(i)) return;
    bool ours = e->node == own_number(n);
    switch (e->type) {
    case EXO_EVENT_INSTANCE_CREATED: agree(i); break;
    case EXO_EVENT_INSTANCE_MOVED:
        if (ours) {
            agree(i);
        } else {
            exo_instances_end(n, i, "another node runs this instance now");
        }
        break;
    case EXO_EVENT_INSTANCE_DELETED: exo_instances_end(n, i, "the instance was deleted"); break;
    default: break;
    }
}

void exo_instances_on_state(exo_node *n) {
    const exo_state *s = exo_consensus_state(n);
    for (exo_instance *i = n->instances, *next; i != NULL; i = next) {
        next = i->next;
        if (!exo_instance_is_owned(i)) continue;
        const exo_state_instance *r = exo_state_instance_of(s, i->id);
        if (r != NULL && r->owner == own_number(n)) {
            agree(i);
        } else if (r != NULL && i->logged) { /* else it is being taken over from its owner */
            exo_instances_end(n, i, "another node runs this instance now");
        } else if (r == NULL && exo_state_was_deleted(s, i->id)) {
            exo_instances_end(n, i, "the instance was deleted");
        }
    }
}
