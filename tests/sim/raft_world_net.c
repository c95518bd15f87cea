/* raft_world_net.c - messages on their way: copied, delayed, lost, doubled, and spoilt on demand.
 */
#include "sim/raft_world_impl.h"

#include <stdlib.h>
#include <string.h>

static uint8_t *copy(const uint8_t *bytes, uint32_t n) {
    uint8_t *c = malloc(n > 0 ? n : 1);
    if (c == NULL) abort();
    if (n > 0) memcpy(c, bytes, n);
    return c;
}

static exo_raft_message *copy_message(const exo_raft_message *m) {
    exo_raft_message *c = malloc(sizeof *c);
    if (c == NULL) abort();
    *c = *m;
    c->entries = NULL;
    c->snapshot = NULL;
    if (m->n_entries > 0) {
        exo_raft_entry *e = calloc(m->n_entries, sizeof *e);
        if (e == NULL) abort();
        for (uint32_t i = 0; i < m->n_entries; i++) {
            e[i] = m->entries[i];
            e[i].bytes = copy(m->entries[i].bytes, e[i].n_bytes);
        }
        c->entries = e;
    }
    if (m->snapshot != NULL) {
        exo_raft_snapshot *s = malloc(sizeof *s);
        if (s == NULL) abort();
        *s = *m->snapshot;
        s->config = copy(s->config, s->n_config);
        s->image = copy(s->image, s->n_image);
        c->snapshot = s;
    }
    return c;
}

void net_free_message(void *data) {
    exo_raft_message *m = data;
    if (m == NULL) return;
    for (uint32_t i = 0; i < m->n_entries; i++) free((void *)m->entries[i].bytes);
    free((void *)m->entries);
    if (m->snapshot != NULL) {
        free((void *)m->snapshot->config);
        free((void *)m->snapshot->image);
        free((void *)m->snapshot);
    }
    free(m);
}

/* A spoilt sender. */
static void spoil_sent(const world *w, const node *from, exo_raft_message *m) {
    switch (w->d.plant) {
    case PLANT_STALE_TERM_OBEYED:
        if (m->type == EXO_RAFT_APPEND_REPLY && m->to == from->stale_leader) {
            m->term = from->stale_term;
        }
        break;
    case PLANT_ACK_TOO_FAR:
        if (m->type == EXO_RAFT_APPEND_REPLY && !m->refused) m->index += 1;
        break;
    case PLANT_REFUSAL_AS_ACK:
        if (m->type == EXO_RAFT_APPEND_REPLY) m->refused = false;
        break;
    case PLANT_COMMIT_TOO_FAR:
        if (m->type == EXO_RAFT_APPEND) m->commit = exo_raft_last_index(from->raft);
        break;
    case PLANT_OLD_LOG_ELECTED:
        if (m->type == EXO_RAFT_VOTE || m->type == EXO_RAFT_PRE_VOTE) {
            m->index = UINT64_MAX / 2;
            m->log_term = m->term;
        }
        break;
    case PLANT_REFUSED_VOTE_COUNTED:
        if (m->type == EXO_RAFT_VOTE_REPLY) m->refused = false;
        break;
    default: break;
    }
}

/* A spoilt receiver. */
static void spoil_received(const world *w, node *to, exo_raft_message *m) {
    uint64_t last = exo_raft_last_index(to->raft);
    switch (w->d.plant) {
    case PLANT_STALE_TERM_OBEYED:
        if (m->type == EXO_RAFT_APPEND && m->term < exo_raft_term(to->raft) &&
            exo_raft_role_of(to->raft) != EXO_RAFT_LEADER) {
            to->stale_leader = m->from;
            to->stale_term = m->term;
            m->term = exo_raft_term(to->raft);
        }
        break;
    case PLANT_STALE_REPLY_COUNTED:
        if (m->type == EXO_RAFT_VOTE_REPLY || m->type == EXO_RAFT_APPEND_REPLY) {
            m->term = exo_raft_term(to->raft);
        }
        break;
    case PLANT_GAP_SKIPPED: /* entries that do not follow the log are put behind it */
        if (m->type == EXO_RAFT_APPEND && m->index > last && m->n_entries > 0) {
            exo_raft_entry *e = (exo_raft_entry *)m->entries;
            for (uint32_t i = 0; i < m->n_entries; i++) e[i].index = last + 1 + i;
            m->index = last;
            m->log_term =
                to->disk.n > 0 ? to->disk.entries[to->disk.n - 1].term : to->disk.snapshot.term;
        }
        break;
    case PLANT_LOG_NOT_COMPARED:
        if (m->type == EXO_RAFT_APPEND && m->index > to->disk.snapshot.index &&
            m->index <= to->disk.snapshot.index + to->disk.n) {
            m->log_term = to->disk.entries[m->index - to->disk.snapshot.index - 1].term;
        }
        break;
    case PLANT_ENTRY_CHANGED_ON_THE_WAY:
        if (m->type == EXO_RAFT_APPEND && m->n_entries > 2) {
            exo_raft_entry *e = (exo_raft_entry *)m->entries;
            if (e[1].kind == EXO_RAFT_COMMAND) ((uint8_t *)e[1].bytes)[8] ^= 1;
        }
        break;
    default: break;
    }
}

static void schedule(world *w, uint32_t from, uint32_t to, const exo_raft_message *m) {
    uint64_t delay = 200 + sim_below(&w->rng, w->delay_us);
    if (w->cut[from][to] || sim_chance(&w->rng, w->loss)) return;
    exo_raft_message *c = copy_message(m);
    sim_add(&w->queue, (sim_event){.at_us = w->now_us + delay,
                                   .kind = EVENT_MESSAGE,
                                   .node = to,
                                   .epoch = from,
                                   .data = c});
}

void net_send(world *w, uint32_t from, const exo_raft_message *m) {
    node *to = world_find(w, m->to);
    w->result->n_messages++;
    if (to == NULL) return;
    uint32_t i = (uint32_t)(to - w->nodes);
    exo_raft_message spoilt = *m;
    spoil_sent(w, &w->nodes[from], &spoilt);
    schedule(w, from, i, &spoilt);
    if (sim_chance(&w->rng, w->twice)) schedule(w, from, i, &spoilt);
    /* A second vote under the name of a node that has not spoken. */
    if (w->d.plant == PLANT_VOTE_COUNTED_TWICE && m->type == EXO_RAFT_VOTE_REPLY && !m->refused) {
        spoilt.from = w->nodes[sim_below(&w->rng, w->n_nodes)].id;
        schedule(w, from, i, &spoilt);
    }
    if (w->d.plant == PLANT_LEARNER_COUNTED && m->type == EXO_RAFT_APPEND_REPLY && !m->refused) {
        spoilt.from = w->nodes[sim_below(&w->rng, w->n_nodes)].id;
        schedule(w, from, i, &spoilt);
    }
}

void net_deliver(world *w, const sim_event *e) {
    node *n = &w->nodes[e->node];
    exo_raft_message *m = e->data;
    if (n->asleep && n->up) { /* it waits in the socket */
        sim_add(&w->queue, (sim_event){.at_us = w->now_us + 10000,
                                       .kind = EVENT_MESSAGE,
                                       .node = e->node,
                                       .epoch = e->epoch,
                                       .data = m});
        return;
    }
    if (n->up && m->to == n->id && !w->cut[e->epoch][e->node]) {
        spoil_received(w, n, m);
        exo_error err;
        exo_status st = exo_raft_receive(n->raft, m, node_now_ms(w, n), &n->out, &err);
        if (st == EXO_OK) {
            node_act(w, e->node);
        } else if (st != EXO_EFORMAT || w->d.plant == PLANT_NONE) {
            world_broken(w, "node %llu: %s", (unsigned long long)n->id, err.message);
        }
    }
    net_free_message(m);
}
