/* cluster_world_node.c - a simulated node: what it keeps on disk, and its actions carried out in
 * the order in which src/node/consensus.c does it: all that is persisted at once, then the rest. */
#include "sim/cluster_world_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DISK_RETRY_MS 5000 /* as in src/node/consensus.c */
#define DAY_MS        86400000u

uint8_t *sim_copy(const void *bytes, size_t n) {
    uint8_t *c = malloc(n > 0 ? n : 1);
    if (c == NULL) abort();
    if (n > 0) memcpy(c, bytes, n);
    return c;
}

/* ---- disk ---- */

static void drop_snapshot(exo_raft_snapshot *s) {
    free((void *)s->config);
    free((void *)s->image);
    *s = (exo_raft_snapshot){0};
}

void disk_drop(sim_disk *k, uint64_t from) {
    while (k->n > 0 && k->entries[k->n - 1].index >= from) free((void *)k->entries[--k->n].bytes);
}

void disk_clear(sim_disk *k) {
    uint64_t session = k->session;
    drop_snapshot(&k->snapshot);
    drop_snapshot(&k->older);
    disk_drop(k, 0);
    free(k->entries);
    free(k->carry);
    *k = (sim_disk){.session = session};
}

/* Entries behind it do not follow the one before. */
bool disk_lose_snapshot(sim_disk *k) {
    if (k->older.index == 0) return false;
    drop_snapshot(&k->snapshot);
    k->snapshot = k->older;
    k->older = (exo_raft_snapshot){0};
    disk_drop(k, 0);
    return true;
}

static void store_entries(sim_disk *k, const exo_cluster_action *a) {
    disk_drop(k, a->entries[0].index);
    for (uint32_t i = 0; i < a->n_entries; i++) {
        if (k->n == k->cap) {
            k->cap = k->cap > 0 ? 2 * k->cap : 64;
            k->entries = realloc(k->entries, k->cap * sizeof *k->entries);
            if (k->entries == NULL) abort();
        }
        k->entries[k->n] = a->entries[i];
        k->entries[k->n++].bytes = sim_copy(a->entries[i].bytes, a->entries[i].n_bytes);
    }
}

static void store_snapshot(sim_disk *k, const exo_cluster_action *a) {
    const exo_raft_snapshot *s = a->snapshot;
    drop_snapshot(&k->older);
    k->older = k->snapshot;
    k->snapshot = *s;
    k->snapshot.config = sim_copy(s->config, s->n_config);
    k->snapshot.image = sim_copy(s->image, s->n_image);
    size_t drop = 0;
    while (drop < k->n && (!a->keep || k->entries[drop].index <= s->index)) {
        free((void *)k->entries[drop++].bytes);
    }
    k->n -= drop;
    if (k->n > 0) memmove(k->entries, k->entries + drop, k->n * sizeof *k->entries);
}

static void persist(cworld *w, sim_node *n, exo_cluster_action a) {
    sim_disk *k = &n->disk;
    if (spoil_persist(w, n, &a)) return;
    switch (a.kind) {
    case EXO_CLUSTER_PERSIST_LOG:
        disk_clear(k);
        k->log_id = a.log_id;
        k->member = a.member;
        k->carry = sim_copy(a.bytes, a.n_bytes);
        k->n_carry = a.n_bytes;
        break;
    case EXO_CLUSTER_PERSIST_VOTE:
        if (w->d.spoil == SPOIL_VOTE_NOT_PERSISTED) a.vote = a.term != k->term ? 0 : k->vote;
        k->term = a.term;
        k->vote = a.vote;
        break;
    case EXO_CLUSTER_PERSIST_ENTRIES: store_entries(k, &a); break;
    case EXO_CLUSTER_PERSIST_SNAPSHOT: store_snapshot(k, &a); break;
    case EXO_CLUSTER_PERSIST_CARRY:
        free(k->carry);
        k->carry = sim_copy(a.bytes, a.n_bytes);
        k->n_carry = a.n_bytes;
        break;
    default: break;
    }
}

/* ---- life ---- */

uint64_t cnode_now_ms(const cworld *w, const sim_node *n) {
    return (uint64_t)((double)(w->now_us - n->clock_zero_us) * n->clock_rate) / 1000 + 1;
}

void cnode_free(sim_node *n) {
    exo_cluster_destroy(n->cluster);
    exo_cluster_actions_finish(&n->out);
    disk_clear(&n->disk);
    free(n->old_image);
    free(n->engine);
}

void cnode_start(cworld *w, uint32_t i) {
    sim_node *n = &w->nodes[i];
    sim_disk *k = &n->disk;
    char name[32];
    exo_error err = {0};
    if (n->up) return;
    if (w->d.spoil != SPOIL_SESSION_REPEATED || k->session == 0) k->session++;
    n->clock_zero_us = w->now_us;
    snprintf(name, sizeof name, "n%u", i);
    exo_cluster_desc d = {
        .node = n->id,
        .name = name,
        .voter_ok = !w->d.peace || i < 8,
        .seed = sim_draw(&w->rng),
        .session = k->session,
        .unix_ms = (uint64_t)((int64_t)(2 * DAY_MS + w->now_us / 1000) + n->clock_off_ms),
        .heartbeat_ms = w->heartbeat_ms,
        .election_ms = w->election_ms,
        .kept_entries = w->kept_entries,
        .stored = {.log_id = k->log_id,
                   .member = k->member,
                   .term = k->term,
                   .vote = k->vote,
                   .snapshot = k->snapshot.index > 0 ? &k->snapshot : NULL,
                   .entries = k->entries,
                   .n_entries = (uint32_t)k->n,
                   .carry = k->carry,
                   .n_carry = (uint32_t)k->n_carry,
                   .damaged = k->damaged && w->d.spoil != SPOIL_DAMAGE_IGNORED},
    };
    if (exo_cluster_create(&d, cnode_now_ms(w, n), &n->cluster, &err) != EXO_OK) {
        cworld_broken(w, "node %u cannot start from its disk: %s", i, err.message);
        return;
    }
    if (d.stored.damaged) disk_clear(k); /* set aside, as src/node/log_store.c does it */
    k->damaged = false;
    n->up = true;
    n->asleep = false;
    n->shown_log = n->checked_log = 0;
    engine_start(w, i);
    cnode_step(w, i, &(exo_cluster_input){.kind = EXO_CLUSTER_TICK});
}

void cnode_crash(cworld *w, uint32_t i) {
    sim_node *n = &w->nodes[i];
    if (!n->up) return;
    count(w, COUNT_CRASHES);
    n->up = false;
    n->asleep = false;
    n->epoch++;
    exo_cluster_destroy(n->cluster);
    n->cluster = NULL;
    engine_crash(w, i);
    if (w->d.trace) printf("%.3f node %u crashes\n", (double)w->now_us / 1e6, i);
}

/* ---- steps ---- */

static bool is_persist(const exo_cluster_action *a) { return a->kind <= EXO_CLUSTER_PERSIST_CARRY; }

static void trace(const cworld *w, uint32_t i, const exo_cluster_action *a) {
    const sim_node *n = &w->nodes[i];
    if (a->kind == EXO_CLUSTER_STATUS) {
        printf("%.3f node %u: master %llu term %llu log %llx role %d\n", (double)w->now_us / 1e6, i,
               (unsigned long long)exo_cluster_master(n->cluster),
               (unsigned long long)exo_cluster_term(n->cluster),
               (unsigned long long)exo_cluster_log_id(n->cluster),
               (int)exo_raft_role_of(exo_cluster_raft(n->cluster)));
    } else if (a->kind == EXO_CLUSTER_APPLIED) {
        printf("%.3f node %u: %s %s of node %llu, index %llu\n", (double)w->now_us / 1e6, i,
               exo_event_name(a->event->type), a->event->instance,
               (unsigned long long)a->event->node,
               (unsigned long long)exo_raft_applied_index(exo_cluster_raft(n->cluster)));
    }
}

static void schedule_tick(cworld *w, uint32_t i) {
    sim_node *n = &w->nodes[i];
    uint64_t at_ms = exo_cluster_deadline(n->cluster), now_ms = cnode_now_ms(w, n);
    uint64_t wait_us =
        at_ms > now_ms ? (uint64_t)((double)(at_ms - now_ms) * 1000 / n->clock_rate) : 0;
    uint64_t at_us = w->now_us + wait_us + 100;
    if (n->tick_at_us > w->now_us && n->tick_at_us <= at_us) return;
    n->tick_at_us = at_us;
    sim_add(&w->queue,
            (sim_event){.at_us = at_us, .kind = EVENT_TICK, .node = i, .epoch = n->epoch});
}

/* A node that forgets what it has just promised does the most harm. */
static double crash_chance(const cworld *w, const exo_cluster_action *a) {
    bool vote = a->kind == EXO_CLUSTER_SEND && a->n_bytes > RAFT_TYPE_AT && a->bytes[0] == 1 &&
                a->bytes[RAFT_TYPE_AT] == EXO_RAFT_VOTE_REPLY;
    return vote ? w->crash_behind_vote : w->crash_between;
}

static bool crashes_behind(cworld *w, uint32_t i, const exo_cluster_action *a) {
    if (w->calm || !sim_chance(&w->rng, crash_chance(w, a))) return false;
    cnode_crash(w, i);
    count(w, COUNT_CRASHES_IN_STEP);
    bool quick = sim_chance(&w->rng, w->quick_restart);
    uint64_t most_ms = !quick ? 2000 : w->duel ? 8 : 30;
    sim_add(&w->queue, (sim_event){.at_us = w->now_us + (1 + sim_below(&w->rng, most_ms)) * SIM_MS,
                                   .kind = EVENT_START,
                                   .node = i});
    return true;
}

/* The disk refuses: nothing of the step happens, and the node begins anew from what it has. */
static bool disk_refuses(cworld *w, uint32_t i) {
    const sim_node *n = &w->nodes[i];
    bool any = false;
    for (size_t k = 0; k < n->out.n && !any; k++) any = is_persist(&n->out.items[k]);
    if (!any || w->calm || !sim_chance(&w->rng, w->disk_full)) return false;
    cnode_crash(w, i);
    count(w, COUNT_DISKS_FULL);
    sim_add(
        &w->queue,
        (sim_event){.at_us = w->now_us + DISK_RETRY_MS * SIM_MS, .kind = EVENT_START, .node = i});
    return true;
}

static bool carry_out(cworld *w, uint32_t i) {
    sim_node *n = &w->nodes[i];
    if (disk_refuses(w, i)) return false;
    rules_after_step(w, i);
    bool late = w->d.spoil == SPOIL_SENT_BEFORE_PERSISTED;
    for (size_t k = 0; k < n->out.n && !late; k++) {
        if (is_persist(&n->out.items[k])) persist(w, n, n->out.items[k]);
    }
    for (size_t k = 0; k < n->out.n; k++) {
        const exo_cluster_action *a = &n->out.items[k];
        if (is_persist(a)) continue;
        if (w->d.trace) trace(w, i, a);
        if (a->kind == EXO_CLUSTER_SEND) cworld_send(w, i, a);
        engine_action(w, i, a);
        if (a->kind == EXO_CLUSTER_APPLIED && a->tag != 0) clients_hear(w, i, a->tag);
        if (crashes_behind(w, i, a)) return false;
    }
    for (size_t k = 0; k < n->out.n && late; k++) {
        if (is_persist(&n->out.items[k])) persist(w, n, n->out.items[k]);
    }
    return true;
}

void cnode_step(cworld *w, uint32_t i, const exo_cluster_input *in) {
    sim_node *n = &w->nodes[i];
    exo_error err = {0};
    if (!n->up || cworld_over(w)) return;
    exo_status st = exo_cluster_step(n->cluster, in, cnode_now_ms(w, n), &n->out, &err);
    if (st == EXO_EFORMAT && w->d.spoil != SPOIL_NONE) st = EXO_OK; /* a spoilt message */
    if (st != EXO_OK) {
        cworld_broken(w, "node %u: %s", i, err.message);
        return;
    }
    if (carry_out(w, i)) schedule_tick(w, i);
}
