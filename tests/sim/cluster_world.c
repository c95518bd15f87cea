/* cluster_world.c - the life of a run: links, faults, clients, and time. */
#include "sim/cluster_world_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_EVENTS 60000000u
#define LATE_MS    3000 /* at most: a message that was held up somewhere, in most worlds */
#define SILENT_MS  1000 /* a cut is noticed after that */
#define STALL_MS   5000 /* and a stall */
#define DAY_MS     86400000
#define QUIET_MS   10000 /* at the end nobody asks for anything */
#define DUELS      0.2   /* of all worlds */
#define HUBS       8

int cworld_index(const cworld *w, uint64_t id) {
    for (uint32_t i = 0; i < w->n_nodes; i++) {
        if (w->nodes[i].id == id) return (int)i;
    }
    return -1;
}

static uint64_t between(cworld *w, uint64_t low, uint64_t high) {
    return low + sim_below(&w->rng, high - low + 1);
}

static void later(cworld *w, uint64_t in_ms, uint32_t kind, uint32_t who) {
    sim_add(&w->queue, (sim_event){.at_us = w->now_us + in_ms * SIM_MS, .kind = kind, .node = who});
}

/* ---- messages ---- */

static bool is_reply(const uint8_t *bytes, size_t n) {
    return n > RAFT_TYPE_AT && bytes[0] == 1 &&
           (bytes[RAFT_TYPE_AT] == EXO_RAFT_VOTE_REPLY ||
            bytes[RAFT_TYPE_AT] == EXO_RAFT_APPEND_REPLY);
}

static void schedule(cworld *w, uint32_t from, uint32_t to, const uint8_t *bytes, size_t n) {
    sim_message *m = malloc(sizeof *m + n);
    sim_link *l = link_of(w, from, to);
    if (m == NULL) abort();
    *m = (sim_message){
        .from = from, .to = to, .link_epoch = l->epoch, .number = ++l->sent[from > to], .n = n};
    memcpy(m->bytes, bytes, n);
    uint64_t delay_us = 200 + sim_below(&w->rng, w->delay_us);
    if (w->late > 0 && sim_chance(&w->rng, is_reply(bytes, n) ? w->late_replies : w->late)) {
        delay_us += sim_below(&w->rng, w->late_ms * SIM_MS);
        count(w, COUNT_LATE);
    }
    sim_add(
        &w->queue,
        (sim_event){.at_us = w->now_us + delay_us, .kind = EVENT_MESSAGE, .node = to, .data = m});
}

static void note_traffic(cworld *w, uint32_t from, uint32_t to, const exo_cluster_action *a) {
    int type = a->bytes[0];
    if (w->now_us < CLUSTER_WORLD_SETTLED_MS * SIM_MS) return;
    if (type == TRAFFIC_RAFT_OTHER && a->bytes[RAFT_TYPE_AT] == EXO_RAFT_APPEND) {
        type = TRAFFIC_APPEND;
    } else if (type == TRAFFIC_RAFT_OTHER && a->bytes[RAFT_TYPE_AT] == EXO_RAFT_APPEND_REPLY) {
        type = TRAFFIC_APPEND_REPLY;
    }
    w->result->traffic[type] += a->n_bytes;
    w->nodes[from].sent_bytes += a->n_bytes;
    w->nodes[to].received_bytes += a->n_bytes;
}

static void sum_traffic(cworld *w) {
    cluster_world_result *r = w->result;
    for (uint32_t i = 0; i < w->n_nodes; i++) {
        const sim_node *n = &w->nodes[i];
        if (n->sent_bytes > r->most_sent) r->most_sent = n->sent_bytes;
        if (n->received_bytes > r->most_received) r->most_received = n->received_bytes;
        r->least_sent = n->sent_bytes;
        r->least_received = n->received_bytes;
    }
}

void cworld_send(cworld *w, uint32_t from, const exo_cluster_action *a) {
    int to = w->d.peace ? (int)(a->node - 1) : cworld_index(w, a->node);
    count(w, COUNT_MESSAGES);
    w->result->n_bytes += a->n_bytes;
    if (to < 0 || !link_of(w, from, (uint32_t)to)->up || w->cut[from * w->n_nodes + (uint32_t)to]) {
        return;
    }
    if (w->d.peace) note_traffic(w, from, (uint32_t)to, a);
    size_t n = a->n_bytes;
    uint8_t *spoilt = spoil_message(w, &w->nodes[from], NULL, a->bytes, a->n_bytes, &n);
    const uint8_t *bytes = spoilt != NULL ? spoilt : a->bytes;
    if (sim_chance(&w->rng, w->loss)) {
        count(w, COUNT_LOST);
    } else {
        schedule(w, from, (uint32_t)to, bytes, n);
    }
    if (w->twice > 0 && sim_chance(&w->rng, w->twice)) {
        count(w, COUNT_TWICE);
        schedule(w, from, (uint32_t)to, bytes, n);
    }
    free(spoilt);
}

static void hand_over(cworld *w, const sim_message *m) {
    sim_node *n = &w->nodes[m->to];
    uint64_t *seen = &link_of(w, m->from, m->to)->seen[m->from > m->to];
    size_t n_bytes = m->n;
    if (m->number < *seen) count(w, COUNT_REORDERED);
    if (m->number > *seen) *seen = m->number;
    uint8_t *spoilt = spoil_message(w, NULL, n, m->bytes, m->n, &n_bytes);
    cnode_step(w, m->to,
               &(exo_cluster_input){.kind = EXO_CLUSTER_MESSAGE,
                                    .node = w->nodes[m->from].id,
                                    .bytes = spoilt != NULL ? spoilt : m->bytes,
                                    .n_bytes = n_bytes});
    free(spoilt);
}

static void deliver(cworld *w, sim_event *e) {
    sim_message *m = e->data;
    const sim_node *n = &w->nodes[m->to];
    if (n->up && n->asleep) { /* it waits in the socket */
        e->at_us = w->now_us + 10 * SIM_MS;
        sim_add(&w->queue, *e);
        return;
    }
    const sim_link *l = link_of(w, m->from, m->to);
    if (n->up && l->up && l->epoch == m->link_epoch) hand_over(w, m);
    free(m);
}

/* What a program had sent before it died arrives before its end is seen, unless its machine died,
 * too. */
static void deliver_last_words(cworld *w, uint32_t dead, uint32_t to) {
    uint64_t epoch = link_of(w, dead, to)->epoch;
    if (!w->nodes[to].up || w->nodes[to].asleep || sim_chance(&w->rng, 0.3)) return;
    for (size_t i = 0; i < w->queue.n && w->nodes[to].up; i++) { /* it may crash on one of them */
        sim_message *m = w->queue.items[i].data;
        bool last = w->queue.items[i].kind == EVENT_MESSAGE && m->from == dead && m->to == to &&
                    m->link_epoch == epoch;
        if (!last) continue;
        m->link_epoch = UINT64_MAX; /* what is left of it belongs to no link */
        count(w, COUNT_LAST_WORDS);
        hand_over(w, m);
    }
}

/* ---- links ---- */

static void set_link(cworld *w, uint32_t a, uint32_t b, bool up) {
    sim_link *l = link_of(w, a, b);
    if (l->up == up) return;
    if (!up && !w->nodes[a].up) deliver_last_words(w, a, b);
    if (!up && !w->nodes[b].up) deliver_last_words(w, b, a);
    l->up = up;
    l->epoch++;
    l->break_at_us = 0;
    memset(l->words, 0, sizeof l->words);
    exo_cluster_input_kind kind = up ? EXO_CLUSTER_PEER_UP : EXO_CLUSTER_PEER_DOWN;
    cnode_step(w, a, &(exo_cluster_input){.kind = kind, .node = w->nodes[b].id});
    cnode_step(w, b, &(exo_cluster_input){.kind = kind, .node = w->nodes[a].id});
    engine_peer(w, a, b, up);
    engine_peer(w, b, a, up);
}

static void look_at_link(cworld *w, uint32_t a, uint32_t b) {
    sim_link *l = link_of(w, a, b);
    bool cut = w->cut[a * w->n_nodes + b] || w->cut[b * w->n_nodes + a];
    bool both_up = w->nodes[a].up && w->nodes[b].up;
    bool stalled = w->nodes[a].asleep || w->nodes[b].asleep;
    if (!l->up) {
        if (both_up && !cut && !stalled && sim_chance(&w->rng, w->relink)) set_link(w, a, b, true);
        return;
    }
    if (!both_up) { /* the socket closes; a node that is back already is another */
        set_link(w, a, b, false);
        return;
    }
    if (!cut && !stalled) {
        l->break_at_us = 0;
    } else if (l->break_at_us == 0) {
        l->break_at_us = w->now_us + (cut ? SILENT_MS : STALL_MS) * SIM_MS;
    } else if (w->now_us >= l->break_at_us) {
        if (!cut) count(w, COUNT_STALLS_UNLINKED);
        set_link(w, a, b, false);
    }
}

static void look_at_links(cworld *w) {
    for (uint32_t a = 0; a < w->n_nodes && !cworld_over(w); a++) {
        for (uint32_t b = a + 1; b < w->n_nodes; b++) look_at_link(w, a, b);
    }
    later(w, w->links_ms, EVENT_LINKS, 0);
}

/* What died is unlinked before it starts again: its peers see the old socket close. */
static void unlink_all(cworld *w, uint32_t i) {
    for (uint32_t k = 0; k < w->n_nodes; k++) {
        if (k != i) set_link(w, i, k, false);
    }
}

/* One that is back at once finds the others before they look around. */
static void link_all(cworld *w, uint32_t i) {
    for (uint32_t k = 0; k < w->n_nodes && !w->calm; k++) {
        bool cut = w->cut[i * w->n_nodes + k] || w->cut[k * w->n_nodes + i];
        bool can = k != i && !cut && w->nodes[i].up && w->nodes[k].up && !w->nodes[k].asleep;
        if (can && sim_chance(&w->rng, 0.7)) set_link(w, i, k, true);
    }
}

/* ---- faults ---- */

static void cut_some(cworld *w, bool one_way) {
    uint64_t group = sim_draw(&w->rng);
    count(w, one_way ? COUNT_CUTS_ONE_WAY : COUNT_CUTS);
    for (uint32_t a = 0; a < w->n_nodes; a++) {
        for (uint32_t b = 0; b < w->n_nodes; b++) {
            bool left = group >> (a % 64) & 1, right = group >> (b % 64) & 1;
            if (left != right && (left || !one_way)) w->cut[a * w->n_nodes + b] = true;
        }
    }
}

static void cut_one(cworld *w, uint32_t i) {
    bool back = sim_chance(&w->rng, 0.5);
    count(w, back ? COUNT_CUTS : COUNT_CUTS_ONE_WAY);
    for (uint32_t k = 0; k < w->n_nodes; k++) {
        w->cut[i * w->n_nodes + k] = true;
        if (back) w->cut[k * w->n_nodes + i] = true;
    }
}

static uint32_t leader_or_any(cworld *w) {
    uint32_t any = (uint32_t)sim_below(&w->rng, w->n_nodes);
    if (!sim_chance(&w->rng, 0.4)) return any;
    for (uint32_t i = 0; i < w->n_nodes; i++) {
        const sim_node *n = &w->nodes[i];
        if (n->up && exo_raft_role_of(exo_cluster_raft(n->cluster)) == EXO_RAFT_LEADER) return i;
    }
    return any;
}

/* The data directory is gone, with or without the node's key; or the end of the log is; or its
 * newest snapshot. */
static void spoil_disk(cworld *w, uint32_t i) {
    sim_node *n = &w->nodes[i];
    bool planted = w->d.spoil == SPOIL_DISK_LOST_SAME_NAME || w->d.spoil == SPOIL_DAMAGE_IGNORED;
    if (!planted && !sim_chance(&w->rng, 0.3)) return;
    if (planted && sim_chance(&w->rng, 0.5)) return;
    cnode_crash(w, i);
    w->lossy = true;
    later(w, between(w, 50, 2000), EVENT_START, i);
    if (w->d.spoil == SPOIL_DAMAGE_IGNORED || (!planted && sim_chance(&w->rng, 0.4))) {
        if (sim_chance(&w->rng, 0.4) && disk_lose_snapshot(&n->disk)) {
            count(w, COUNT_SNAPSHOTS_LOST);
        } else {
            disk_drop(&n->disk, n->disk.snapshot.index + 1 + n->disk.n / 2);
        }
        n->disk.damaged = n->disk.log_id != 0 && n->disk.snapshot.index > 0;
        count(w, COUNT_DISKS_DAMAGED);
        return;
    }
    count(w, COUNT_DISKS_LOST);
    if (w->d.spoil == SPOIL_DISK_LOST_SAME_NAME) { /* it keeps its name in the log, and no vote */
        uint64_t log_id = n->disk.log_id;
        exo_raft_id member = n->disk.member;
        disk_clear(&n->disk);
        n->disk.log_id = log_id;
        n->disk.member = member;
        return;
    }
    disk_clear(&n->disk);
    n->disk.session = 0;
}

static void crash_for(cworld *w, uint32_t i, uint64_t most_ms) {
    cnode_crash(w, i);
    later(w, between(w, 1, most_ms), EVENT_START, i);
}

static void fault(cworld *w) {
    uint32_t i = leader_or_any(w);
    if (w->duel && sim_chance(&w->rng, 0.7)) {
        crash_for(w, i, 1500);
        later(w, between(w, 50, w->fault_every_ms), EVENT_FAULT, 0);
        return;
    }
    switch (sim_below(&w->rng, 8)) {
    case 0:
    case 1:
    case 2: crash_for(w, i, sim_chance(&w->rng, w->quick_restart) ? 50 : 8000); break;
    case 3:
        w->nodes[i].asleep = w->nodes[i].up;
        count(w, COUNT_STALLS);
        later(w, between(w, 50, 6000), EVENT_WAKE, i);
        break;
    case 4:
        cut_some(w, sim_chance(&w->rng, 0.3));
        later(w, between(w, 200, 12000), EVENT_HEAL, 0);
        break;
    case 5:
        cut_one(w, i);
        later(w, between(w, 200, 12000), EVENT_HEAL, 0);
        break;
    case 6: w->delay_us = between(w, 1, 10) * between(w, 1, 20) * SIM_MS; break;
    default: spoil_disk(w, i); break;
    }
    later(w, between(w, 50, w->fault_every_ms), EVENT_FAULT, 0);
}

static void calm_down(cworld *w) {
    w->calm = true;
    w->calm_us = w->now_us;
    w->loss = w->twice = w->late = 0;
    w->delay_us = 5 * SIM_MS;
    memset(w->cut, 0, (size_t)w->n_nodes * w->n_nodes * sizeof *w->cut);
    for (uint32_t i = 0; i < w->n_nodes; i++) {
        w->nodes[i].asleep = false;
        if (!w->nodes[i].up) unlink_all(w, i);
        cnode_start(w, i);
    }
}

/* ---- time ---- */

static void handle(cworld *w, sim_event *e) {
    sim_node *n = &w->nodes[e->node];
    switch (e->kind) {
    case EVENT_TICK:
        if (!n->up || e->epoch != n->epoch || e->at_us != n->tick_at_us) break;
        n->tick_at_us = 0;
        if (n->asleep) {
            n->tick_at_us = e->at_us + 20 * SIM_MS;
            sim_add(&w->queue, (sim_event){.at_us = n->tick_at_us,
                                           .kind = EVENT_TICK,
                                           .node = e->node,
                                           .epoch = n->epoch});
        } else {
            cnode_step(w, e->node, &(exo_cluster_input){.kind = EXO_CLUSTER_TICK});
        }
        break;
    case EVENT_MESSAGE: deliver(w, e); break;
    case EVENT_FAULT:
        if (!w->calm) fault(w);
        break;
    case EVENT_HEAL: memset(w->cut, 0, (size_t)w->n_nodes * w->n_nodes * sizeof *w->cut); break;
    case EVENT_LINKS: look_at_links(w); break;
    case EVENT_CLIENT:
        clients_act(w, w->now_us >= w->quiet_us);
        later(w, between(w, 20, 400), EVENT_CLIENT, 0);
        break;
    case EVENT_START:
        if (n->up) break;
        unlink_all(w, e->node);
        n->tick_at_us = 0;
        cnode_start(w, e->node);
        if (w->duel) link_all(w, e->node);
        break;
    case EVENT_WAKE: n->asleep = false; break;
    case EVENT_CRASH:
        if (e->epoch == n->epoch) cnode_crash(w, e->node);
        break;
    case EVENT_WORD: engine_word(w, e); break;
    case EVENT_ENGINES: engine_tick(w); break;
    }
}

/* A world in which elections meet: five voters, leaders that die all the time, messages on their
 * way for as long as an election takes, and voters that crash right behind their vote and are back
 * within milliseconds, asked by the next candidate before they hear of the first one.  In half of
 * them the deadlines are as short as the network is slow: candidates stand again and again, several
 * at a time, voters live, and what comes late comes in the term behind. */
static void draw_duel(cworld *w) {
    w->duel = true;
    if (w->d.min_nodes == 0) w->n_nodes = (uint32_t)between(w, 5, 6);
    w->delay_us = between(w, 20, 150) * SIM_MS;
    w->fault_every_ms = between(w, 500, 3000);
    w->late = 0.03;
    w->late_replies = 0.15;
    w->loss = 0.01;
    w->twice = 0.02;
    w->quick_restart = 0.9;
    w->crash_between = 0.0005;
    w->crash_behind_vote = 0.4;
    w->disk_full = 0;
    w->links_ms = 5;
    w->relink = 1.0;
    if (sim_chance(&w->rng, 0.5)) {
        w->heartbeat_ms = (uint32_t)between(w, 15, 40);
        w->election_ms = (uint32_t)between(w, 3, 5) * w->heartbeat_ms;
        w->late_ms = 4 * w->election_ms;
        w->late_replies = 0.3;
        w->crash_behind_vote = 0.02;
    }
}

static void draw_world(cworld *w) {
    w->rng.state = w->d.seed * 0x2545F4914F6CDD1Du + 99;
    w->engine_rng.state = w->d.seed * 0x9FB21C651E98DF25u + 7;
    uint32_t min = w->d.min_nodes != 0 ? w->d.min_nodes : 2;
    uint32_t max = w->d.min_nodes != 0 ? w->d.max_nodes : 7;
    w->n_nodes = min < max ? (uint32_t)between(w, min, max) : min;
    w->delay_us = w->d.peace ? 2 * SIM_MS : between(w, 1, 30) * SIM_MS;
    w->fault_every_ms = between(w, 500, 6000);
    if (w->d.peace) return;
    w->loss = sim_chance(&w->rng, 0.5) ? 0.0 : (double)between(w, 1, 50) / 1000;
    w->twice = sim_chance(&w->rng, 0.5) ? 0.0 : (double)between(w, 1, 50) / 1000;
    w->crash_between = (double)between(w, 0, 3) / 1000;
    w->late = sim_chance(&w->rng, 0.5) ? 0.0 : (double)between(w, 1, 20) / 1000;
    w->late_replies = w->late;
    w->late_ms = LATE_MS;
    w->links_ms = sim_chance(&w->rng, 0.5) ? 25 : 5;
    w->relink = sim_chance(&w->rng, 0.5) ? 0.3 : 1.0;
    w->disk_full = sim_chance(&w->rng, 0.5) ? 0.0 : 0.002;
    w->quick_restart = sim_chance(&w->rng, 0.5) ? 0.2 : 0.9;
    w->kept_entries = (uint32_t)between(w, 8, 64);
    w->crash_behind_vote = 40 * w->crash_between;
    if (sim_chance(&w->rng, DUELS)) draw_duel(w);
}

static void make_nodes(cworld *w) {
    w->nodes = calloc(w->n_nodes, sizeof *w->nodes);
    w->links = calloc((size_t)w->n_nodes * w->n_nodes, sizeof *w->links);
    w->cut = calloc((size_t)w->n_nodes * w->n_nodes, sizeof *w->cut);
    if (w->nodes == NULL || w->links == NULL || w->cut == NULL) abort();
}

static void begin(cworld *w) {
    for (uint32_t i = 0; i < w->n_nodes; i++) {
        w->nodes[i].id = i + 1;
        w->nodes[i].clock_rate = 0.9 + (double)sim_below(&w->rng, 2000) / 10000;
        w->nodes[i].clock_off_ms = (int64_t)sim_below(&w->rng, 2 * DAY_MS) - DAY_MS;
        if (w->d.peace) {
            w->nodes[i].clock_off_ms = 0;
            w->nodes[i].clock_rate = 1;
            cnode_start(w, i);
        } else {
            later(w, between(w, 0, 3000), EVENT_START, i);
        }
        double off = w->nodes[i].clock_rate - 1;
        if (off * 60 >= 1 || off * 60 <= -1) count(w, COUNT_CLOCKS_OFF);
    }
    if (w->d.peace) {
        uint32_t hubs = w->n_nodes < HUBS ? w->n_nodes : HUBS;
        for (uint32_t a = 0; a < hubs; a++) {
            for (uint32_t b = a + 1; b < w->n_nodes; b++) set_link(w, a, b, true);
        }
        return;
    }
    later(w, 1, EVENT_LINKS, 0);
    later(w, between(w, 2000, 8000), EVENT_FAULT, 0);
    later(w, 1000, EVENT_CLIENT, 0);
    later(w, 1000, EVENT_ENGINES, 0);
}

static void drop_event(sim_event *e) {
    if (e->kind == EVENT_MESSAGE) free(e->data);
    if (e->kind == EVENT_WORD) engine_drop_word(e->data);
}

static void finish(cworld *w) {
    sim_event e;
    for (uint32_t i = 0; i < w->n_nodes; i++) engine_crash(w, i);
    while (sim_next(&w->queue, &e)) {
        drop_event(&e);
    }
    sim_queue_finish(&w->queue);
    for (uint32_t i = 0; i < w->n_nodes; i++) cnode_free(&w->nodes[i]);
    streams_finish(w);
    sim_map *maps[] = {&w->leaders, &w->masters, &w->states};
    for (size_t i = 0; i < 3; i++) {
        free(maps[i]->keys);
        free(maps[i]->values);
    }
    free(w->nodes);
    free(w->links);
    free(w->cut);
}

cluster_world_result cluster_world_run(const cluster_world_desc *d) {
    cluster_world_result result = {.ok = true};
    cworld *w = calloc(1, sizeof *w);
    if (w == NULL) abort();
    w->d = *d;
    w->result = &result;
    draw_world(w);
    make_nodes(w);
    uint64_t calm_us = (d->run_ms != 0 ? d->run_ms : 40000) * SIM_MS;
    uint64_t end_us = calm_us + (d->peace ? 0 : (d->calm_ms != 0 ? d->calm_ms : 40000) * SIM_MS);
    uint64_t look_us = 0;
    w->quiet_us = end_us - QUIET_MS * SIM_MS;
    begin(w);
    sim_event e;
    while (result.ok && sim_next(&w->queue, &e)) {
        if (e.at_us > end_us) {
            drop_event(&e);
            break;
        }
        w->now_us = e.at_us;
        if (++result.counts[COUNT_EVENTS] > MAX_EVENTS && !d->peace) {
            cworld_broken(w, "more than %u events: something goes round in circles", MAX_EVENTS);
        }
        if (!w->calm && !d->peace && w->now_us >= calm_us) calm_down(w);
        if (d->peace && result.converged_ms == 0 && w->now_us >= look_us) {
            look_us = w->now_us + 50 * SIM_MS;
            if (rules_agree(w, false, NULL, 0)) result.converged_ms = w->now_us / SIM_MS;
        }
        handle(w, &e);
    }
    if (result.ok) rules_final(w);
    sum_traffic(w);
    finish(w);
    free(w);
    return result;
}
