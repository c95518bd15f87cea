/* cluster_world_route.c - answers asked on a simulated node, and a node's life as far as answers
 * go: the verdicts of src/cluster/route.h, carried out as src/node/routes.c does it. */
#include "sim/cluster_world_engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TICK_MS      250 /* as in src/node */
#define LOOK_MS      50  /* between looks of clients */
#define HANDLE_STEP  40  /* a node's handles begin at chance, in steps of 2^40 */
#define DELETED_DIES 0.1
#define STUCK_MS     20000
#define ORPHAN_MS    1000

static sim_route *find(cworld *w, uint32_t node, uint64_t handle) {
    sim_route *r = w->nodes[node].engine->routes;
    while (r != NULL && r->seat.handle != handle) r = r->next;
    return r;
}

static void drop(cworld *w, uint32_t node, sim_route *r) {
    sim_route **at = &w->nodes[node].engine->routes;
    while (*at != r) at = &(*at)->next;
    *at = r->next;
    free(r);
}

static bool is_last(const sim_answer_event *e) { return e->status != EXO_OK || e->finished; }

/* LOOP sends it to the node that asked. */
static void guest_event(cworld *w, uint32_t node, const sim_route *r, const sim_answer_event *e) {
    word_to_loop(w, &(sim_word){.kind = WORD_GUEST_EVENT,
                                .to = node,
                                .stage = (uint32_t)cworld_index(w, r->seat.guest_of),
                                .handle = r->seat.their_handle,
                                .event = *e});
}

static void tell(cworld *w, uint32_t node, const sim_route *r, const sim_answer_event *e) {
    if (r->seat.guest_of != 0) {
        guest_event(w, node, r, e);
    } else {
        stream_hear(w, node, r->seat.handle, e);
    }
}

void route_event(cworld *w, uint32_t node, uint64_t handle, const sim_answer_event *e) {
    const sim_route *r = find(w, node, handle);
    if (r == NULL) {
        cworld_broken(w, "node %u: an event of an answer that has ended", node);
        return;
    }
    if (is_last(e)) {
        word_to_loop(w, &(sim_word){.kind = WORD_ROUTE_DONE, .to = node, .handle = handle});
    }
    tell(w, node, r, e);
}

/* ---- verdicts ---- */

static void to_work(cworld *w, uint32_t node, const sim_route *r, word_kind kind) {
    const sim_instance *i = place_find(w, node, r->seat.instance);
    if (i == NULL) return; /* its coordinator has ended it */
    word_to_work(w, i, &(sim_word){.kind = kind, .handle = r->seat.handle, .stream = r->stream});
}

static void to_peer(cworld *w, uint32_t node, const sim_route *r, word_kind kind) {
    word_to_peer(w, &(sim_word){.kind = kind,
                                .from = node,
                                .to = (uint32_t)cworld_index(w, r->seat.peer),
                                .handle = r->seat.handle,
                                .stream = r->stream,
                                .model = r->model});
}

/* `e`: what is delivered, or the error that ends it. */
static void carry_out(cworld *w, uint32_t node, sim_route *r, exo_route_verdict v,
                      const sim_answer_event *e) {
    switch (v) {
    case EXO_ROUTE_RUN: to_work(w, node, r, WORD_WORK_SUBMIT); break;
    case EXO_ROUTE_CANCEL: to_work(w, node, r, WORD_WORK_CANCEL); break;
    case EXO_ROUTE_SEND:
        count(w, COUNT_ANSWERS_ELSEWHERE);
        to_peer(w, node, r, WORD_SUBMIT);
        break;
    case EXO_ROUTE_DELIVER:
        tell(w, node, r, e);
        if (is_last(e)) drop(w, node, r);
        break;
    case EXO_ROUTE_CANCEL_REMOTE:
        if (w->d.spoil != SPOIL_CANCEL_NOT_SENT) to_peer(w, node, r, WORD_CANCEL);
        tell(w, node, r, e);
        if (w->d.spoil != SPOIL_CANCELED_ROUTE_KEPT) drop(w, node, r);
        break;
    case EXO_ROUTE_END:
        tell(w, node, r, e);
        drop(w, node, r);
        break;
    default: break;
    }
}

static void step_all(cworld *w, uint32_t node, const exo_route_event *e,
                     const sim_answer_event *event) {
    for (sim_route *r = w->nodes[node].engine->routes, *next; r != NULL; r = next) {
        next = r->next;
        exo_route_verdict v = exo_route_step(&r->seat, e);
        bool lost = e->kind == EXO_ROUTE_PEER_LOST;
        if (w->d.spoil == SPOIL_END_LOST_WITH_NODE && lost && v == EXO_ROUTE_END) continue;
        if (w->d.spoil == SPOIL_GUESTS_KEPT && lost && v == EXO_ROUTE_CANCEL) continue;
        carry_out(w, node, r, v, event);
    }
}

void route_instance(cworld *w, const sim_instance *i, bool runs) {
    if (!runs && w->d.spoil == SPOIL_WAITING_FORGOTTEN) return;
    step_all(w, i->node,
             &(exo_route_event){.kind = runs ? EXO_ROUTE_INSTANCE_RUNS : EXO_ROUTE_INSTANCE_ENDED,
                                .instance = i->id},
             &(sim_answer_event){.status = EXO_EPEER});
}

void route_peer_lost(cworld *w, uint32_t node, uint32_t peer) {
    step_all(w, node, &(exo_route_event){.kind = EXO_ROUTE_PEER_LOST, .node = w->nodes[peer].id},
             &(sim_answer_event){.status = EXO_EPEER});
}

/* ---- asked ---- */

/* The id of a peer that owns a running instance of the model, as it says; 0 = nobody. */
static uint64_t peer_with(cworld *w, uint32_t node, uint32_t model) {
    const sim_engine *e = w->nodes[node].engine;
    for (const sim_instance *i = e->instances; i != NULL; i = i->next) {
        if (i->model != model) continue;
        return places_linked(w, node, i->owner) ? w->nodes[i->owner].id : 0;
    }
    for (uint32_t k = 0; k < w->n_nodes; k++) {
        bool says = (e->peer_models[k] & 1u << model) != 0;
        if (says && places_linked(w, node, k)) return w->nodes[k].id;
    }
    return 0;
}

static void add(cworld *w, uint32_t node, const sim_word *m, uint64_t guest_of) {
    sim_engine *e = w->nodes[node].engine;
    sim_route *r = calloc(1, sizeof *r);
    if (r == NULL) abort();
    *r = (sim_route){.next = e->routes, .stream = m->stream, .model = m->model};
    r->seat.handle = guest_of == 0 ? m->handle : ++e->last_handle;
    r->seat.guest_of = guest_of;
    r->seat.their_handle = m->handle;
    e->routes = r;
    const sim_instance *i = place_of_model(w, node, m->model);
    exo_route_sites sites = {.peer = i == NULL ? peer_with(w, node, m->model) : 0};
    if (i == NULL && sites.peer == 0) i = remember_revive(w, node, m->model);
    if (i != NULL) {
        sites.instance = i->id;
        sites.running = i->state == SIM_RUNNING;
    }
    exo_route_verdict v = exo_route_choose(&r->seat, &sites);
    if (v == EXO_ROUTE_REVIVE) v = EXO_ROUTE_END; /* it could not be started */
    carry_out(w, node, r, v, &(sim_answer_event){.status = EXO_EPEER});
}

static void on_submit(cworld *w, const sim_word *m) {
    if (place_of_model(w, m->to, m->model) != NULL) {
        add(w, m->to, m, w->nodes[m->from].id);
        return;
    }
    word_to_peer(w, &(sim_word){.kind = WORD_EVENT,
                                .from = m->to,
                                .to = m->from,
                                .handle = m->handle,
                                .event = {.status = EXO_EPEER}});
}

/* LOOP of the node that computes, to the one that asked. */
static void send_guest_event(cworld *w, const sim_word *m) {
    sim_word on = {
        .kind = WORD_EVENT, .from = m->to, .to = m->stage, .handle = m->handle, .event = m->event};
    word_to_peer(w, &on);
    bool again = w->d.spoil == SPOIL_EVENT_SENT_TWICE && sim_chance(&w->engine_rng, 0.01);
    if (again) word_to_peer(w, &on);
}

void route_on_word(cworld *w, const sim_word *m) {
    const sim_answer_event canceled = {.status = EXO_ECANCELED};
    exo_route_event e = {.handle = m->handle, .node = w->nodes[m->from].id};
    sim_route *r;
    switch (m->kind) {
    case WORD_ASK: add(w, m->to, m, 0); break;
    case WORD_SUBMIT: on_submit(w, m); break;
    case WORD_HANG_UP:
        e.kind = EXO_ROUTE_CANCELED;
        step_all(w, m->to, &e, &canceled);
        break;
    case WORD_CANCEL:
        e.kind = EXO_ROUTE_GUEST_CANCELED;
        step_all(w, m->to, &e, &canceled);
        break;
    case WORD_EVENT:
        e.kind = EXO_ROUTE_EVENT;
        step_all(w, m->to, &e, &m->event);
        break;
    case WORD_GUEST_EVENT: send_guest_event(w, m); break;
    default: /* WORD_ROUTE_DONE */
        r = find(w, m->to, m->handle);
        if (r != NULL) drop(w, m->to, r);
    }
}

/* ---- a node's life ---- */

void engine_start(cworld *w, uint32_t node) {
    sim_node *n = &w->nodes[node];
    if (w->d.peace) return;
    if (n->engine == NULL) {
        n->engine = calloc(1, sizeof *n->engine);
        if (n->engine == NULL) abort();
    }
    uint32_t *models = calloc(w->n_nodes, sizeof *models);
    if (models == NULL) abort();
    free(n->engine->peer_models);
    *n->engine = (sim_engine){.peer_models = models};
    n->engine->next_epoch = (uint32_t)(n->disk.session << 8);
    n->engine->last_handle = engine_between(w, 1, 1u << 20) << HANDLE_STEP;
}

void engine_crash(cworld *w, uint32_t node) {
    sim_engine *e = w->nodes[node].engine;
    if (e == NULL) return;
    for (sim_instance *i = e->instances, *next; i != NULL; i = next) {
        next = i->next;
        lane_close(w, i->prev, 1);
        lane_close(w, i->next_lane, 0);
        stage_drop(i);
        free(i);
    }
    for (sim_route *r = e->routes, *next; r != NULL; r = next) {
        next = r->next;
        free(r);
    }
    free(e->retries);
    free(e->peer_models);
    *e = (sim_engine){0};
    streams_node_gone(w, node);
}

void engine_peer(cworld *w, uint32_t node, uint32_t peer, bool up) {
    sim_node *n = &w->nodes[node];
    if (!n->up || n->engine == NULL || cworld_over(w)) return;
    if (up) {
        n->engine->peer_models[peer] = 0;
        place_greet(w, node, peer);
        return;
    }
    place_peer_lost(w, node, peer);
    route_peer_lost(w, node, peer);
}

void engine_action(cworld *w, uint32_t node, const exo_cluster_action *a) {
    if (w->nodes[node].engine == NULL) return;
    if (a->kind == EXO_CLUSTER_APPLIED) remember_event(w, node, a->event);
    if (a->kind == EXO_CLUSTER_RESTORED) remember_state(w, node);
}

/* Now and then the power of a node that ran it fails at that very moment. */
void engine_deleted(cworld *w, const char *instance) {
    if (w->calm || !sim_chance(&w->engine_rng, DELETED_DIES)) return;
    for (uint32_t k = 0; k < w->n_nodes; k++) {
        if (!w->nodes[k].up || place_find(w, k, instance) == NULL) continue;
        uint64_t at_us = w->now_us + engine_between(w, 1, 40) * SIM_MS;
        count(w, COUNT_DELETED_DIES);
        sim_add(&w->queue, (sim_event){.at_us = w->now_us,
                                       .kind = EVENT_CRASH,
                                       .node = k,
                                       .epoch = w->nodes[k].epoch});
        sim_add(&w->queue, (sim_event){.at_us = at_us, .kind = EVENT_START, .node = k});
        return;
    }
}

/* Guests of a node that is gone are cancelled; their coordinator needs a moment for it. */
static void check_guests(cworld *w, uint32_t node) {
    for (sim_route *r = w->nodes[node].engine->routes; r != NULL; r = r->next) {
        if (r->seat.guest_of == 0) continue;
        uint32_t peer = (uint32_t)cworld_index(w, r->seat.guest_of);
        if (places_linked(w, node, peer) || w->nodes[node].asleep) {
            r->orphan_us = 0;
        } else if (r->orphan_us == 0) {
            r->orphan_us = w->now_us;
        } else if (w->now_us > r->orphan_us + ORPHAN_MS * SIM_MS) {
            cworld_broken(w, "node %u computes an answer for node %u, which is gone", node, peer);
        }
    }
}

/* Longer than every loss takes to be noticed, whatever goes wrong. */
static void check_instances(cworld *w, uint32_t node) {
    for (const sim_instance *i = w->nodes[node].engine->instances; i != NULL; i = i->next) {
        bool late = w->now_us > i->begun_us + STUCK_MS * SIM_MS;
        if (i->owner == node && i->state != SIM_RUNNING && late) {
            cworld_broken(w, "instance %s of node %u neither runs nor ends", i->id, node);
        }
    }
}

void engine_tick(cworld *w) {
    bool nodes_too = w->now_us / (LOOK_MS * SIM_MS) % (TICK_MS / LOOK_MS) == 0;
    for (uint32_t k = 0; k < w->n_nodes && nodes_too; k++) {
        if (!w->nodes[k].up) continue;
        check_guests(w, k);
        check_instances(w, k);
        if (w->nodes[k].asleep) continue;
        remember_tick(w, k);
        if (w->nodes[k].engine->record_changed) place_announce(w, k);
    }
    streams_act(w);
    sim_add(&w->queue, (sim_event){.at_us = w->now_us + LOOK_MS * SIM_MS, .kind = EVENT_ENGINES});
}

void engine_word(cworld *w, sim_event *e) { words_arrive(w, e); }

void engine_drop_word(void *word) { word_free(word); }
