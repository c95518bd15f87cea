/* cluster_world_remember.c - instances as the log remembers them, by the rules of
 * src/node/instances_log.c: owners start what they do not run, whoever is asked for a model whose
 * owner is away takes it over, and what was deleted ends. */
#include "sim/cluster_world_engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RETRY_FIRST_MS 1000u
#define RETRY_MAX_MS   60000u
#define LOG_BY_MS      5000u

static const exo_state *state_of(const cworld *w, uint32_t node) {
    return exo_cluster_state_of(w->nodes[node].cluster);
}

static uint32_t model_of(const exo_state_instance *i) { /* "m5" */
    return (uint32_t)strtoul(i->model_id + 1, NULL, 10);
}

static void propose(cworld *w, uint32_t node, exo_event_type type, const char *id, uint32_t model,
                    uint32_t min_nodes) {
    exo_event e = {.type = type, .min_nodes = min_nodes};
    if (type != EXO_EVENT_INSTANCE_DELETED) e.node = w->nodes[node].id;
    snprintf(e.instance, sizeof e.instance, "%s", id);
    if (type == EXO_EVENT_INSTANCE_CREATED) snprintf(e.model_id, sizeof e.model_id, "m%u", model);
    word_to_loop(w,
                 &(sim_word){.kind = WORD_PROPOSE, .to = node, .n_extra = sizeof e, .extra = &e});
}

/* ---- what is tried again ---- */

static sim_retry *need_retry(cworld *w, uint32_t node, const char *id) {
    sim_engine *e = w->nodes[node].engine;
    for (uint32_t k = 0; k < e->n_retries; k++) {
        if (strcmp(e->retries[k].id, id) == 0) return &e->retries[k];
    }
    if (e->n_retries == e->cap_retries) {
        e->cap_retries = e->cap_retries > 0 ? 2 * e->cap_retries : 8;
        e->retries = realloc(e->retries, e->cap_retries * sizeof *e->retries);
        if (e->retries == NULL) abort();
    }
    sim_retry *r = &e->retries[e->n_retries++];
    *r = (sim_retry){.at_us = w->now_us + RETRY_FIRST_MS * SIM_MS, .wait_ms = RETRY_FIRST_MS};
    snprintf(r->id, sizeof r->id, "%s", id);
    return r;
}

static void drop_retry(cworld *w, uint32_t node, const char *id) {
    sim_engine *e = w->nodes[node].engine;
    for (uint32_t k = 0; k < e->n_retries; k++) {
        if (strcmp(e->retries[k].id, id) != 0) continue;
        e->retries[k] = e->retries[--e->n_retries];
        return;
    }
}

void remember_end(cworld *w, const sim_instance *i) {
    if (i->fresh && i->state != SIM_RUNNING) {
        propose(w, i->node, EXO_EVENT_INSTANCE_DELETED, i->id, 0, 0);
    } else {
        need_retry(w, i->node, i->id);
    }
}

void remember_running(cworld *w, sim_instance *i) {
    i->fresh = false;
    drop_retry(w, i->node, i->id);
}

/* ---- starting what is remembered ---- */

static sim_instance *resume(cworld *w, uint32_t node, const exo_state_instance *r,
                            uint32_t n_stages) {
    char id[EXO_CLUSTER_INSTANCE_BYTES];
    bool ours = r->owner == w->nodes[node].id;
    memcpy(id, r->id, sizeof id);
    sim_instance *i = place_begin(w, node, model_of(r), n_stages, id);
    if (i == NULL) return NULL;
    i->logged = ours;
    i->log_by_us = w->now_us + LOG_BY_MS * SIM_MS;
    if (!ours) {
        propose(w, node, EXO_EVENT_INSTANCE_MOVED, id, 0, 0);
        count(w, COUNT_INSTANCES_MOVED);
    }
    return i;
}

/* Its own, else one whose owner is away. */
static const exo_state_instance *find_remembered(cworld *w, uint32_t node, uint32_t model) {
    const exo_state *s = state_of(w, node);
    const exo_state_instance *best = NULL;
    for (size_t k = 0; k < s->n_instances; k++) {
        const exo_state_instance *i = &s->instances[k];
        if (model_of(i) != model || place_find(w, node, i->id) != NULL) continue;
        if (i->owner == w->nodes[node].id) return i;
        int owner = cworld_index(w, i->owner);
        if (owner < 0 || !places_linked(w, node, (uint32_t)owner)) best = i;
    }
    return best;
}

/* A request does not wait for nodes that are away: it takes those that are here. */
sim_instance *remember_revive(cworld *w, uint32_t node, uint32_t model) {
    const exo_state_instance *r = find_remembered(w, node, model);
    exo_place_candidate candidates[MAX_STAGES];
    uint32_t have = place_candidates(w, node, candidates, MAX_STAGES);
    if (r != NULL) return resume(w, node, r, r->min_nodes < have ? r->min_nodes : have);
    char id[EXO_CLUSTER_INSTANCE_BYTES];
    snprintf(id, sizeof id, "x%llu", (unsigned long long)++w->n_uids);
    sim_instance *i = place_begin(w, node, model, 1, id);
    if (i == NULL) return NULL;
    i->fresh = true;
    i->log_by_us = w->now_us + LOG_BY_MS * SIM_MS;
    propose(w, node, EXO_EVENT_INSTANCE_CREATED, id, model, 1);
    return i;
}

static void start_again(cworld *w, uint32_t node, const exo_state_instance *i) {
    exo_place_candidate candidates[MAX_STAGES];
    sim_retry *r = need_retry(w, node, i->id);
    if (w->now_us < r->at_us) return;
    if (place_candidates(w, node, candidates, MAX_STAGES) < i->min_nodes) return;
    r->at_us = w->now_us + r->wait_ms * (uint64_t)SIM_MS;
    r->wait_ms = r->wait_ms * 2 < RETRY_MAX_MS ? r->wait_ms * 2 : RETRY_MAX_MS;
    resume(w, node, i, i->min_nodes);
}

void remember_tick(cworld *w, uint32_t node) {
    sim_engine *e = w->nodes[node].engine;
    const exo_state *s = state_of(w, node);
    for (sim_instance *i = e->instances; i != NULL; i = i->next) {
        if (i->owner != node || i->logged || w->now_us < i->log_by_us) continue;
        i->logged = true;
        place_advance(w, i);
    }
    if (exo_cluster_master(w->nodes[node].cluster) != 0) {
        for (size_t k = 0; k < s->n_instances; k++) {
            const exo_state_instance *i = &s->instances[k];
            if (i->owner != w->nodes[node].id || place_find(w, node, i->id) != NULL) continue;
            if (place_of_model(w, node, model_of(i)) == NULL) start_again(w, node, i);
        }
    }
    for (uint32_t k = 0; k < e->n_retries;) {
        if (exo_state_instance_of(s, e->retries[k].id) == NULL) {
            e->retries[k] = e->retries[--e->n_retries];
        } else {
            k++;
        }
    }
}

/* ---- what the log says ---- */

static void agree(cworld *w, sim_instance *i) {
    if (i->logged) return;
    i->logged = true;
    place_advance(w, i);
}

void remember_event(cworld *w, uint32_t node, const exo_event *e) {
    sim_instance *i = e->instance[0] != '\0' ? place_find(w, node, e->instance) : NULL;
    if (i == NULL || i->owner != node) return;
    bool ours = e->node == w->nodes[node].id;
    if (e->type == EXO_EVENT_INSTANCE_CREATED || (e->type == EXO_EVENT_INSTANCE_MOVED && ours)) {
        agree(w, i);
    } else if (e->type == EXO_EVENT_INSTANCE_MOVED || e->type == EXO_EVENT_INSTANCE_DELETED) {
        place_end(w, i);
    }
}

void remember_state(cworld *w, uint32_t node) {
    const exo_state *s = state_of(w, node);
    for (sim_instance *i = w->nodes[node].engine->instances, *next; i != NULL; i = next) {
        next = i->next;
        if (i->owner != node) continue;
        const exo_state_instance *r = exo_state_instance_of(s, i->id);
        if (r != NULL && r->owner == w->nodes[node].id) {
            agree(w, i);
        } else if (r != NULL ? i->logged : exo_state_was_deleted(s, i->id)) {
            place_end(w, i);
        }
    }
}
