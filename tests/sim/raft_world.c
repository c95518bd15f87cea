/* raft_world.c - the life of a run: who is there, what goes wrong and when, what clients ask. */
#include "base/le.h"
#include "sim/raft_world_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS             1000u
#define MAX_EVENTS     4000000u
#define CALM_DELAY_US  (5 * MS)
#define CLIENT_WAIT_US (1500 * MS)
#define QUIET_US       (5000 * MS) /* at the end nobody asks for anything */

node *world_find(world *w, exo_raft_id id) {
    for (uint32_t i = 0; i < w->n_nodes; i++) {
        if (w->nodes[i].exists && w->nodes[i].id == id) return &w->nodes[i];
    }
    return NULL;
}

static uint64_t between(world *w, uint64_t low, uint64_t high) {
    return low + sim_below(&w->rng, high - low + 1);
}

static void add_event(world *w, uint64_t in_us, uint32_t kind, uint32_t who) {
    sim_add(&w->queue, (sim_event){.at_us = w->now_us + in_us, .kind = kind, .node = who});
}

/* ---- faults ---- */

static void heal(world *w) { memset(w->cut, 0, sizeof w->cut); }

/* Cuts the nodes in two groups, for one direction or both. */
static void cut(world *w, bool one_way) {
    uint64_t group = sim_draw(&w->rng);
    for (uint32_t a = 0; a < w->n_nodes; a++) {
        for (uint32_t b = 0; b < w->n_nodes; b++) {
            bool left = group >> a & 1, right = group >> b & 1;
            if (left != right && (left || !one_way)) w->cut[a][b] = true;
        }
    }
}

static uint32_t leader_or_any(world *w) {
    for (uint32_t i = 0; i < w->n_nodes; i++) {
        const node *n = &w->nodes[i];
        if (n->up && exo_raft_role_of(n->raft) == EXO_RAFT_LEADER) return i;
    }
    return (uint32_t)sim_below(&w->rng, w->n_nodes);
}

static bool has_ghosts(world *w, const node *n) {
    uint32_t count = 0;
    const exo_raft_member *m = exo_raft_members(n->raft, &count);
    for (uint32_t i = 0; i < count; i++) {
        if (world_find(w, m[i].id) == NULL) return true;
    }
    return false;
}

/* A disk may be lost while every node is up and all agree on three voters or more: with fewer, or
 * in the middle of a change, the cluster could not recover by itself, and would be right not to. */
static bool may_lose_disk(world *w) {
    const node *first = &w->nodes[0];
    uint32_t n_first = 0, n_voters = 0;
    if (!first->up) return false;
    const exo_raft_member *a = exo_raft_members(first->raft, &n_first);
    for (uint32_t i = 0; i < n_first; i++) n_voters += a[i].voter;
    for (uint32_t i = 0; i < w->n_nodes; i++) {
        const node *n = &w->nodes[i];
        uint32_t count = 0;
        if (!n->up || has_ghosts(w, n)) return false;
        const exo_raft_member *b = exo_raft_members(n->raft, &count);
        if (count != n_first) return false;
        for (uint32_t k = 0; k < count; k++) {
            if (a[k].id != b[k].id || a[k].voter != b[k].voter) return false;
        }
    }
    return n_voters >= 3;
}

static void lose_disk(world *w, uint32_t i) {
    node *n = &w->nodes[i];
    if (!may_lose_disk(w)) return;
    node_crash(w, i);
    node_lose_disk(n);
    n->machine = (machine){0};
    if (w->d.plant != PLANT_DISK_LOST_SAME_ID) n->id = w->next_id++;
    add_event(w, between(w, 100, 2000) * MS, EVENT_START, i);
}

static void fault(world *w) {
    uint32_t i =
        sim_chance(&w->rng, 0.3) ? leader_or_any(w) : (uint32_t)sim_below(&w->rng, w->n_nodes);
    switch (sim_below(&w->rng, 7)) {
    case 0:
    case 1:
        node_crash(w, i);
        add_event(w, between(w, 1, sim_chance(&w->rng, w->quick_restart) ? 30 : 3000) * MS,
                  EVENT_START, i);
        break;
    case 2:
        w->nodes[i].asleep = true;
        add_event(w, between(w, 50, 3000) * MS, EVENT_WAKE, i);
        break;
    case 3:
        cut(w, sim_chance(&w->rng, 0.3));
        add_event(w, between(w, 200, 4000) * MS, EVENT_HEAL, 0);
        break;
    case 4: /* alone, in one direction or both */
        for (uint32_t k = 0; k < w->n_nodes; k++) {
            w->cut[i][k] = true;
            if (sim_chance(&w->rng, 0.5)) w->cut[k][i] = true;
        }
        add_event(w, between(w, 200, 4000) * MS, EVENT_HEAL, 0);
        break;
    case 5: w->delay_us = between(w, 1, 10) * between(w, 1, 40) * MS; break;
    case 6:
        if (sim_chance(&w->rng, 0.3)) lose_disk(w, i);
        break;
    }
    add_event(w, between(w, 20, w->fault_every_ms) * MS, EVENT_FAULT, 0);
}

static void calm_down(world *w) {
    w->calm = true;
    heal(w);
    w->loss = 0;
    w->twice = 0;
    w->delay_us = CALM_DELAY_US;
    for (uint32_t i = 0; i < w->n_nodes; i++) {
        w->nodes[i].asleep = false;
        node_start(w, i);
    }
}

/* ---- members ---- */

static void propose_members(world *w, uint32_t i, const exo_raft_member *m, uint32_t n) {
    node *l = &w->nodes[i];
    exo_error err;
    if (exo_raft_set_members(l->raft, m, n, node_now_ms(w, l), &l->out, &err) == EXO_OK) {
        w->result->n_member_changes++;
        node_act(w, i);
    }
}

/* Adds who is missing, removes who is gone, and otherwise changes one member at random. */
static void change_members(world *w, uint32_t i) {
    node *l = &w->nodes[i];
    exo_raft_member m[2 * WORLD_MAX_NODES];
    uint32_t n = 0, n_voters = 0, count = 0;
    const exo_raft_member *now = exo_raft_members(l->raft, &count);
    uint32_t ghost = UINT32_MAX;
    for (uint32_t k = 0; k < count && n < 2 * WORLD_MAX_NODES; k++) {
        m[n] = now[k];
        n_voters += now[k].voter;
        if (world_find(w, now[k].id) == NULL) ghost = n;
        n++;
    }
    if (ghost != UINT32_MAX) {
        if (m[ghost].voter && n_voters == 1) return;
        memmove(&m[ghost], &m[ghost + 1], (n - ghost - 1) * sizeof *m);
        propose_members(w, i, m, n - 1);
        return;
    }
    for (uint32_t k = 0; k < w->n_nodes; k++) {
        if (exo_raft_match_index(l->raft, w->nodes[k].id) != 0 || n >= 2 * WORLD_MAX_NODES)
            continue;
        bool member = false;
        for (uint32_t j = 0; j < n; j++) member = member || m[j].id == w->nodes[k].id;
        if (member) continue;
        m[n++] = (exo_raft_member){w->nodes[k].id, false};
        propose_members(w, i, m, n);
        return;
    }
    uint32_t k = (uint32_t)sim_below(&w->rng, n);
    if (m[k].voter && (w->calm || n_voters < 4 || sim_chance(&w->rng, 0.7))) return;
    if (!m[k].voter && n_voters == EXO_RAFT_MAX_VOTERS) return;
    /* A voter must be able to take part before it counts. */
    uint64_t match = exo_raft_match_index(l->raft, m[k].id);
    if (!m[k].voter && match + 8 < exo_raft_last_index(l->raft)) return;
    m[k].voter = !m[k].voter;
    propose_members(w, i, m, n);
}

static void look(world *w) {
    for (uint32_t i = 0; i < w->n_nodes && !world_over(w) && w->now_us < w->quiet_us; i++) {
        node *n = &w->nodes[i];
        if (!n->up || n->asleep || exo_raft_role_of(n->raft) != EXO_RAFT_LEADER) continue;
        if (sim_chance(&w->rng, 0.5)) change_members(w, i);
        if (!n->up || w->calm || !sim_chance(&w->rng, 0.03)) continue;
        exo_raft_id to = w->nodes[sim_below(&w->rng, w->n_nodes)].id;
        if (exo_raft_hand_over(n->raft, to, &n->out, NULL) == EXO_OK) node_act(w, i);
    }
    add_event(w, between(w, 50, 300) * MS, EVENT_LOOK, 0);
}

/* ---- clients ---- */

static void hear_client(world *w, client *c) {
    if (c->index == 0) return;
    if (c->index <= w->n_log) {
        if (w->log[c->index - 1].term == c->term) {
            c->done = c->number++;
            w->result->n_acknowledged++;
        }
        c->index = 0;
    } else if (w->now_us > c->deadline_us) {
        c->index = 0; /* perhaps done, perhaps not: it asks again under the same number */
    }
}

static void ask(world *w, uint32_t who) {
    client *c = &w->clients[who];
    hear_client(w, c);
    uint32_t i = (uint32_t)sim_below(&w->rng, w->n_nodes);
    node *n = &w->nodes[i];
    if (c->index == 0 && n->up && !n->asleep && w->now_us < w->quiet_us) {
        uint8_t bytes[16];
        exo_put_u64(bytes, who);
        exo_put_u64(bytes + 8, c->number);
        uint64_t index = 0;
        if (exo_raft_propose(n->raft, bytes, sizeof bytes, &n->out, &index, NULL) == EXO_OK) {
            c->index = index;
            c->term = exo_raft_term(n->raft);
            c->deadline_us = w->now_us + CLIENT_WAIT_US;
            node_act(w, i);
        }
    }
    add_event(w, between(w, 5, 60) * MS, EVENT_CLIENT, who);
}

/* ---- a run ---- */

static void set_up(world *w) {
    sim_rng *r = &w->rng;
    r->state = w->d.seed * 0x2545F4914F6CDD1Du + 1;
    uint32_t min = w->d.min_nodes != 0 ? w->d.min_nodes : 1;
    uint32_t max = w->d.min_nodes != 0 ? w->d.max_nodes : 7;
    w->n_nodes = min < max ? (uint32_t)between(w, min, max) : min;
    w->loss = w->d.peace ? 0 : (double)sim_below(r, 20) / 100.0;
    w->twice = w->d.peace ? 0 : (double)sim_below(r, 10) / 100.0;
    w->delay_us = w->d.peace ? CALM_DELAY_US : between(w, 1, 60) * MS;
    w->crash_between = w->d.peace ? 0 : (double)(1u << sim_below(r, 6)) / 2000.0;
    w->election_ms = w->d.peace ? 500 : 125u << sim_below(r, 3);
    w->fault_every_ms = 100u << sim_below(r, 5);
    w->quick_restart = (double)sim_below(r, 5) / 4.0;
    w->next_id = 1;
    w->log = calloc(1, sizeof *w->log); /* entry 1: the first snapshot */
    if (w->log == NULL) abort();
    w->n_log = w->cap_log = 1;
    w->log[0].term = 1;
    for (uint32_t i = 0; i < w->n_nodes; i++) {
        node *n = &w->nodes[i];
        n->exists = true;
        n->id = w->next_id++;
        n->clock_rate = 0.85 + (double)sim_below(r, 31) / 100.0;
        if (i == 0) node_begin_cluster(n);
        add_event(w, between(w, 0, 500) * MS, EVENT_START, i);
    }
    for (uint32_t c = 0; c < MAX_CLIENTS; c++) {
        w->clients[c].number = 1;
        add_event(w, between(w, 100, 1000) * MS, EVENT_CLIENT, c);
    }
    add_event(w, 300 * MS, EVENT_LOOK, 0);
    if (!w->d.peace) add_event(w, 3000 * MS, EVENT_FAULT, 0);
}

static void happen(world *w, const sim_event *e) {
    node *n = &w->nodes[e->node];
    switch (e->kind) {
    case EVENT_TICK:
        if (!n->up || e->epoch != n->epoch || e->at_us != n->tick_at_us) break;
        if (n->asleep) {
            n->tick_at_us = w->now_us + 10 * MS;
            sim_add(&w->queue, (sim_event){n->tick_at_us, 0, EVENT_TICK, e->node, n->epoch, NULL});
        } else {
            node_tick(w, e->node);
        }
        break;
    case EVENT_MESSAGE: net_deliver(w, e); break;
    case EVENT_FAULT:
        if (!w->calm) fault(w);
        break;
    case EVENT_HEAL: heal(w); break;
    case EVENT_CLIENT: ask(w, e->node); break;
    case EVENT_START: node_start(w, e->node); break;
    case EVENT_WAKE: n->asleep = false; break;
    case EVENT_LOOK: look(w); break;
    }
}

static void trace(const world *w, const sim_event *e) {
    static const char *const names[] = {"tick",   "message", "fault", "heal",
                                        "client", "start",   "wake",  "look"};
    printf("%10.3f ms  %-8s %u", (double)w->now_us / 1000.0, names[e->kind], e->node);
    if (e->kind == EVENT_MESSAGE) {
        const exo_raft_message *m = e->data;
        printf("  type %d from %llu term %llu index %llu (term %llu) commit %llu, %u entries%s",
               m->type, (unsigned long long)m->from, (unsigned long long)m->term,
               (unsigned long long)m->index, (unsigned long long)m->log_term,
               (unsigned long long)m->commit, m->n_entries, m->refused ? ", refused" : "");
    }
    printf("\n");
}

static void clean_up(world *w) {
    sim_event e;
    while (sim_next(&w->queue, &e)) {
        if (e.kind == EVENT_MESSAGE) net_free_message(e.data);
    }
    sim_queue_finish(&w->queue);
    for (uint32_t i = 0; i < w->n_nodes; i++) node_free(&w->nodes[i]);
    free(w->log);
    free(w->leaders);
}

world_result world_run(const world_desc *d) {
    world_result result = {.ok = true};
    world *w = calloc(1, sizeof *w);
    if (w == NULL) abort();
    w->d = *d;
    w->result = &result;
    uint64_t run_us = (d->run_ms != 0 ? d->run_ms : 20000) * MS;
    uint64_t end_us = run_us + (d->calm_ms != 0 ? d->calm_ms : 20000) * MS;
    w->quiet_us = end_us - QUIET_US;
    set_up(w);
    sim_event e;
    while (!world_over(w) && sim_next(&w->queue, &e)) {
        w->now_us = e.at_us;
        if (w->now_us >= run_us && !w->calm) calm_down(w);
        if (w->now_us >= end_us || world_over(w)) {
            if (e.kind == EVENT_MESSAGE) net_free_message(e.data);
            break;
        }
        if (++result.n_events > MAX_EVENTS) {
            world_broken(w, "%u events and no end", MAX_EVENTS);
        }
        if (d->trace) trace(w, &e);
        happen(w, &e);
    }
    if (!world_over(w)) rules_at_the_end(w);
    clean_up(w);
    free(w);
    return result;
}
