/* cluster_world_place.c - the life of an instance on a simulated node, by the rules of
 * src/node/instances.c: its owner tells the participants, all load, all connect, it runs; whatever
 * goes wrong ends it everywhere. */
#include "sim/cluster_world_engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint32_t place_node(const exo_shard_place *p) {
    return (uint32_t)strtoul(p->node_id, NULL, 16) - 1;
}

sim_instance *place_find(cworld *w, uint32_t node, const char *id) {
    sim_instance *i = w->nodes[node].engine->instances;
    while (i != NULL && strcmp(i->id, id) != 0) i = i->next;
    return i;
}

sim_instance *place_by_uid(cworld *w, uint32_t node, uint64_t uid) {
    sim_instance *i = w->nodes[node].engine->instances;
    while (i != NULL && i->uid != uid) i = i->next;
    return i;
}

sim_instance *place_of_model(cworld *w, uint32_t node, uint32_t model) {
    sim_instance *i = w->nodes[node].engine->instances;
    while (i != NULL && (i->model != model || i->owner != node)) i = i->next;
    return i;
}

static bool is_owned(const sim_instance *i) { return i->owner == i->node; }

/* ---- what peers are told ---- */

static uint32_t models_running(cworld *w, uint32_t node) {
    uint32_t models = 0;
    for (sim_instance *i = w->nodes[node].engine->instances; i != NULL; i = i->next) {
        if (is_owned(i) && i->state == SIM_RUNNING) models |= 1u << i->model;
    }
    return models;
}

void place_greet(cworld *w, uint32_t node, uint32_t peer) {
    word_to_peer(
        w, &(sim_word){
               .kind = WORD_RECORD, .from = node, .to = peer, .models = models_running(w, node)});
}

void place_announce(cworld *w, uint32_t node) {
    for (uint32_t k = 0; k < w->n_nodes; k++) {
        if (places_linked(w, node, k)) place_greet(w, node, k);
    }
    w->nodes[node].engine->record_changed = false;
}

static void tell_participants(cworld *w, const sim_instance *i, sim_word m) {
    m.from = i->node;
    memcpy(m.instance, i->id, sizeof m.instance);
    for (uint32_t s = 0; s < i->n_stages; s++) {
        m.to = place_node(&i->places[s]);
        if (s != i->my_stage) word_to_peer(w, &m);
    }
}

static void tell_owner(cworld *w, const sim_instance *i, word_kind kind) {
    sim_word m = {.kind = kind,
                  .from = i->node,
                  .to = i->owner,
                  .stage = i->my_stage,
                  .n_pages = i->n_pages[i->my_stage]};
    memcpy(m.instance, i->id, sizeof m.instance);
    word_to_peer(w, &m);
}

/* ---- ending ---- */

void place_end(cworld *w, sim_instance *i) {
    sim_engine *e = w->nodes[i->node].engine;
    sim_instance **at = &e->instances;
    while (*at != i) at = &(*at)->next;
    *at = i->next;
    if (is_owned(i)) {
        tell_participants(w, i, (sim_word){.kind = WORD_DELETE});
        remember_end(w, i);
    }
    if (w->d.trace) printf("%.3f node %u: %s ends\n", (double)w->now_us / 1e6, i->node, i->id);
    stage_stop(w, i);
    lane_close(w, i->prev, 1);
    lane_close(w, i->next_lane, 0);
    route_instance(w, i, false);
    e->record_changed = true;
    count(w, COUNT_INSTANCES_ENDED);
    free(i);
}

void place_fail(cworld *w, sim_instance *i) {
    if (!is_owned(i)) tell_owner(w, i, WORD_FAILED);
    place_end(w, i);
}

/* ---- lanes ---- */

static void give_lanes(cworld *w, sim_instance *i) {
    bool have = i->n_stages == 1 || (i->prev != NULL && i->next_lane != NULL);
    if (!i->connect_now || !have) return;
    i->connect_now = false;
    word_to_work(w, i, &(sim_word){.kind = WORD_WORK_CONNECT, .n_pages = i->common_pages});
}

static void connect_stage(cworld *w, sim_instance *i, uint32_t n_pages) {
    i->state = SIM_CONNECTING;
    i->common_pages = n_pages;
    i->connect_now = true;
    if (i->n_stages > 1) {
        i->next_lane = lane_dial(w, i, place_node(&i->places[(i->my_stage + 1) % i->n_stages]));
    }
    give_lanes(w, i);
}

/* The first word of a lane: whose it is. */
void place_on_lane(cworld *w, const sim_word *m) {
    sim_instance *i = place_find(w, m->to, m->instance);
    bool fits = i != NULL && m->instance_epoch == i->epoch && i->prev == NULL &&
                (m->stage + 1) % i->n_stages == i->my_stage &&
                place_node(&i->places[m->stage]) == m->from;
    m->lane->refs++; /* this end's */
    if (!fits) {
        lane_close(w, m->lane, 1);
        return;
    }
    m->lane->uid[1] = i->uid;
    i->prev = m->lane;
    give_lanes(w, i);
}

/* ---- placing (owner) ---- */

void place_advance(cworld *w, sim_instance *i) {
    bool loaded = true, ready = true;
    uint32_t n_pages = UINT32_MAX;
    for (uint32_t s = 0; s < i->n_stages; s++) {
        loaded &= i->loaded[s];
        ready &= i->ready[s];
        if (i->n_pages[s] < n_pages) n_pages = i->n_pages[s];
    }
    if (loaded && i->state == SIM_LOADING) {
        tell_participants(w, i, (sim_word){.kind = WORD_CONNECT, .n_pages = n_pages});
        connect_stage(w, i, n_pages);
        return;
    }
    if (!ready || !i->logged || i->state != SIM_CONNECTING) return;
    i->state = SIM_RUNNING;
    count(w, COUNT_INSTANCES);
    if (w->d.trace) printf("%.3f node %u: %s runs\n", (double)w->now_us / 1e6, i->node, i->id);
    remember_running(w, i);
    place_announce(w, i->node);
    route_instance(w, i, true);
}

/* Itself, then the peers behind it: in peers' lists the order is that of chance, too. */
uint32_t place_candidates(cworld *w, uint32_t node, exo_place_candidate *out, uint32_t cap) {
    uint32_t n = 0;
    for (uint32_t k = 0; k < w->n_nodes && n < cap; k++) {
        uint32_t peer = (node + k) % w->n_nodes;
        if (k > 0 && !places_linked(w, node, peer)) continue;
        snprintf(out[n].node_id, sizeof out[n].node_id, "%016llx",
                 (unsigned long long)w->nodes[peer].id);
        snprintf(out[n++].device_id, sizeof out[0].device_id, "sim:0");
    }
    return n;
}

static sim_instance *add(cworld *w, uint32_t node, const char *id) {
    sim_engine *e = w->nodes[node].engine;
    sim_instance *i = calloc(1, sizeof *i);
    if (i == NULL) abort();
    snprintf(i->id, sizeof i->id, "%s", id);
    i->node = node;
    i->uid = ++w->n_uids;
    i->begun_us = w->now_us;
    i->next = e->instances;
    e->instances = i;
    return i;
}

/* NULL: fewer nodes than stages are here. */
sim_instance *place_begin(cworld *w, uint32_t node, uint32_t model, uint32_t n_stages,
                          const char *id) {
    exo_place_candidate candidates[MAX_STAGES];
    exo_shard_place places[MAX_STAGES];
    uint32_t have = place_candidates(w, node, candidates, MAX_STAGES);
    if (exo_place_even(candidates, have, SIM_LAYERS, n_stages, places, NULL) != EXO_OK) return NULL;
    sim_instance *earlier = place_of_model(w, node, model);
    if (earlier != NULL) place_end(w, earlier);
    sim_instance *i = add(w, node, id);
    i->owner = node;
    i->model = model;
    i->epoch = ++w->nodes[node].engine->next_epoch;
    i->n_stages = n_stages;
    memcpy(i->places, places, n_stages * sizeof *places);
    sim_word m = {
        .kind = WORD_CREATE, .model = model, .instance_epoch = i->epoch, .n_stages = n_stages};
    memcpy(m.places, places, sizeof m.places);
    stage_start(w, i);
    tell_participants(w, i, m);
    return i;
}

/* ---- words ---- */

/* A later word of the same owner, or another owner's, says what is true now. */
static void join(cworld *w, const sim_word *m) {
    sim_instance *i = place_find(w, m->to, m->instance);
    if (i != NULL && w->d.spoil == SPOIL_CREATE_IGNORED) return;
    bool same_owner = i != NULL && i->owner == m->from;
    if (same_owner && i->epoch == m->instance_epoch) return; /* told twice */
    if (same_owner) {
        place_end(w, i);
    } else if (i != NULL) {
        place_fail(w, i);
    }
    i = add(w, m->to, m->instance);
    i->owner = m->from;
    i->model = m->model;
    i->epoch = m->instance_epoch;
    i->n_stages = m->n_stages;
    memcpy(i->places, m->places, sizeof i->places);
    while (place_node(&i->places[i->my_stage]) != m->to) i->my_stage++;
    stage_start(w, i);
}

static void on_report(cworld *w, const sim_word *m) {
    sim_instance *i = place_find(w, m->to, m->instance);
    if (i == NULL) return;
    if (m->kind == WORD_REPORT_FAILED) {
        place_fail(w, i);
        return;
    }
    i->loaded[i->my_stage] = true;
    i->ready[i->my_stage] = m->kind == WORD_REPORT_READY;
    i->n_pages[i->my_stage] = m->n_pages;
    if (is_owned(i)) {
        place_advance(w, i);
    } else {
        tell_owner(w, i, m->kind == WORD_REPORT_READY ? WORD_READY : WORD_LOADED);
    }
}

static void on_stage_word(cworld *w, sim_instance *i, const sim_word *m) {
    if (m->stage >= i->n_stages || m->stage == i->my_stage) return;
    if (place_node(&i->places[m->stage]) != m->from) return;
    i->loaded[m->stage] = true;
    i->ready[m->stage] = m->kind == WORD_READY;
    i->n_pages[m->stage] = m->n_pages;
    place_advance(w, i);
}

void place_on_word(cworld *w, const sim_word *m) {
    if (m->kind == WORD_RECORD) {
        w->nodes[m->to].engine->peer_models[m->from] = m->models;
        return;
    }
    if (m->kind >= WORD_REPORT_LOADED) {
        on_report(w, m);
        return;
    }
    if (m->kind == WORD_CREATE) {
        join(w, m);
        return;
    }
    sim_instance *i = place_find(w, m->to, m->instance);
    if (i == NULL) return; /* it ended meanwhile */
    if (is_owned(i)) {
        if (m->kind == WORD_FAILED) {
            place_end(w, i);
        } else {
            on_stage_word(w, i, m);
        }
    } else if (i->owner == m->from) {
        bool ignored = w->d.spoil == SPOIL_DELETE_IGNORED;
        if (m->kind == WORD_CONNECT && i->state == SIM_LOADING) connect_stage(w, i, m->n_pages);
        if (m->kind == WORD_DELETE && !ignored) place_end(w, i);
    }
}

void place_peer_lost(cworld *w, uint32_t node, uint32_t peer) {
    for (sim_instance *i = w->nodes[node].engine->instances, *next; i != NULL; i = next) {
        next = i->next;
        bool uses = i->owner == peer;
        for (uint32_t s = 0; s < i->n_stages; s++) uses |= place_node(&i->places[s]) == peer;
        if (!uses) continue;
        if (w->d.spoil == SPOIL_LOSS_NOT_TOLD) {
            place_end(w, i);
        } else {
            place_fail(w, i);
        }
    }
}
