/* cluster_world_word.c - words: messages that come in order and once while their way lasts.
 *
 * A way is a link's control stream, a lane, or the mailbox of a thread.  What is in the way of a
 * word (a cut, a stall, a thread inside a step) holds it and all behind it; what ends the way loses
 * them.  A lane that one end closes still brings what was sent before, and then says so. */
#include "sim/cluster_world_engine.h"

#include <stdlib.h>
#include <string.h>

#define HELD_MS      10 /* between looks at whether the way is free */
#define MAILBOX_US   300
#define HANDSHAKE_US 3000

void word_free(sim_word *m) {
    if (m->lane != NULL) lane_unref(m->lane);
    free(m->extra);
    free(m);
}

static void send(cworld *w, const sim_word *m, sim_order *o, uint64_t at_us) {
    sim_word *copy = malloc(sizeof *copy);
    if (copy == NULL) abort();
    *copy = *m;
    copy->number = ++o->sent;
    copy->extra = m->n_extra > 0 ? sim_copy(m->extra, m->n_extra) : NULL;
    if (copy->lane != NULL) copy->lane->refs++;
    if (at_us < o->last_us) at_us = o->last_us;
    o->last_us = at_us;
    count(w, COUNT_WORDS);
    sim_add(&w->queue,
            (sim_event){.at_us = at_us, .kind = EVENT_WORD, .node = m->to, .data = copy});
}

static uint64_t network_us(cworld *w) { return 200 + sim_below(&w->engine_rng, w->delay_us); }

void word_to_peer(cworld *w, const sim_word *m) {
    if (!places_linked(w, m->from, m->to)) return;
    sim_word copy = *m;
    sim_link *l = link_of(w, m->from, m->to);
    copy.epoch = l->epoch;
    send(w, &copy, &l->words[m->from > m->to], w->now_us + network_us(w));
}

void word_to_loop(cworld *w, const sim_word *m) {
    sim_word copy = *m;
    sim_node *n = &w->nodes[m->to];
    if (!n->up) return;
    copy.from = m->to;
    copy.epoch = n->epoch;
    uint64_t us = m->kind == WORD_PROPOSE ? 0 : 20 + sim_below(&w->engine_rng, MAILBOX_US);
    send(w, &copy, &n->engine->loop, w->now_us + us);
}

void word_to_work(cworld *w, const sim_instance *i, const sim_word *m) {
    sim_word copy = *m;
    copy.from = copy.to = i->node;
    copy.uid = i->uid;
    copy.epoch = w->nodes[i->node].epoch;
    uint64_t at_us = w->now_us + 20 + sim_below(&w->engine_rng, MAILBOX_US);
    if (m->depart_us > at_us) at_us = m->depart_us;
    send(w, &copy, (sim_order *)&i->work, at_us);
}

void word_on_lane(cworld *w, sim_lane *l, const sim_word *m, uint64_t depart_us) {
    sim_word copy = *m;
    copy.lane = l;
    copy.from = l->node[1 - m->end];
    copy.to = l->node[m->end];
    copy.depart_us = depart_us;
    send(w, &copy, &l->order[m->end], depart_us + network_us(w));
}

/* ---- lanes ---- */

sim_lane *lane_dial(cworld *w, const sim_instance *i, uint32_t to) {
    sim_lane *l = calloc(1, sizeof *l);
    if (l == NULL) abort();
    *l = (sim_lane){.refs = 1,
                    .node = {i->node, to},
                    .node_epoch = {w->nodes[i->node].epoch, w->nodes[to].epoch},
                    .uid = {i->uid, 0}};
    sim_word m = {.kind = WORD_LANE, .end = 1, .instance_epoch = i->epoch, .stage = i->my_stage};
    memcpy(m.instance, i->id, sizeof m.instance);
    word_on_lane(w, l, &m, w->now_us + HANDSHAKE_US);
    return l;
}

void lane_unref(sim_lane *l) {
    if (--l->refs == 0) free(l);
}

void lane_close(cworld *w, sim_lane *l, int end) {
    if (l == NULL || l->closed_us[end] != 0) return;
    l->closed_us[end] = w->now_us;
    if (l->closed_us[1 - end] == 0) {
        word_on_lane(w, l, &(sim_word){.kind = WORD_CLOSED, .end = end == 0}, w->now_us);
    }
    lane_unref(l);
}

/* ---- arriving ---- */

/* The order of a word's way; NULL: the way has ended. */
static sim_order *way_of(cworld *w, const sim_word *m) {
    sim_node *n = &w->nodes[m->to];
    if (m->lane != NULL) {
        bool lives = n->up && n->epoch == m->lane->node_epoch[m->end];
        return lives && m->lane->closed_us[m->end] == 0 ? &m->lane->order[m->end] : NULL;
    }
    if (m->from != m->to) {
        sim_link *l = link_of(w, m->from, m->to);
        return l->up && l->epoch == m->epoch && n->up ? &l->words[m->from > m->to] : NULL;
    }
    if (!n->up) return NULL;
    if (m->kind >= WORD_WORK_LOADED) {
        sim_instance *i = place_by_uid(w, m->to, m->uid);
        return i != NULL ? &i->work : NULL;
    }
    return n->epoch == m->epoch ? &n->engine->loop : NULL;
}

static sim_instance *worker_of(cworld *w, const sim_word *m) {
    uint64_t uid = m->lane != NULL ? m->lane->uid[m->end] : m->uid;
    return uid != 0 ? place_by_uid(w, m->to, uid) : NULL;
}

/* When to look again; 0: nothing holds it. */
static uint64_t held_until(cworld *w, const sim_word *m) {
    bool cut = m->from != m->to && w->cut[m->from * w->n_nodes + m->to];
    if (cut || w->nodes[m->to].asleep) return w->now_us + HELD_MS * SIM_MS;
    const sim_instance *i = worker_of(w, m);
    return i != NULL && i->busy_until_us > w->now_us ? i->busy_until_us : 0;
}

/* A process that is gone does not know a lane that is still being opened; its machine says so.  A
 * thread that stops ends the answers that wait in its mailbox. */
static void lost(cworld *w, const sim_word *m) {
    const sim_node *n = &w->nodes[m->to];
    if (m->kind == WORD_WORK_SUBMIT && n->up && n->epoch == m->epoch) {
        route_event(w, m->to, m->handle, &(sim_answer_event){.status = EXO_EPEER});
    }
    if (m->lane != NULL && m->end == 1 && m->lane->uid[1] == 0) {
        m->lane->closed_us[1] = w->now_us;
        word_on_lane(w, m->lane, &(sim_word){.kind = WORD_CLOSED}, w->now_us);
    }
}

static void dispatch(cworld *w, sim_word *m) {
    if (m->kind <= WORD_RECORD) {
        place_on_word(w, m);
    } else if (m->kind <= WORD_CANCEL) {
        route_on_word(w, m);
    } else if (m->lane != NULL) {
        bool unsent =
            m->lane->closed_us[1 - m->end] != 0 && m->depart_us > m->lane->closed_us[1 - m->end];
        sim_instance *i = worker_of(w, m);
        if (m->kind == WORD_LANE) {
            if (!unsent) place_on_lane(w, m);
        } else if (i != NULL && !unsent) {
            stage_on_word(w, i, m);
        }
    } else if (m->kind >= WORD_WORK_LOADED) {
        stage_on_word(w, worker_of(w, m), m);
    } else if (m->kind == WORD_PROPOSE) {
        cnode_step(w, m->to, &(exo_cluster_input){.kind = EXO_CLUSTER_PROPOSE, .event = m->extra});
    } else if (m->kind <= WORD_HANG_UP || m->kind >= WORD_GUEST_EVENT) {
        route_on_word(w, m);
    } else {
        place_on_word(w, m);
    }
}

void words_arrive(cworld *w, sim_event *e) {
    sim_word *m = e->data;
    sim_order *way = way_of(w, m);
    if (way == NULL) {
        lost(w, m);
        word_free(m);
        return;
    }
    uint64_t again_us = held_until(w, m);
    if (again_us == 0 && m->number != way->seen + 1) again_us = w->now_us + HELD_MS * SIM_MS;
    if (again_us != 0) {
        e->at_us = again_us;
        sim_add(&w->queue, *e);
        return;
    }
    way->seen = m->number;
    dispatch(w, m);
    word_free(m);
}
