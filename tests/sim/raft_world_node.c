/* raft_world_node.c - a node: what is on its disk, what it has applied, and actions carried out one
 * by one, with a crash possible behind each. */
#include "base/hash.h"
#include "base/le.h"
#include "sim/raft_world_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COMPACT_AFTER 24

static void *must(void *p) {
    if (p == NULL) abort();
    return p;
}

static uint8_t *copy(const uint8_t *bytes, uint32_t n) {
    uint8_t *c = must(malloc(n > 0 ? n : 1));
    if (n > 0) memcpy(c, bytes, n);
    return c;
}

/* ---- its disk ---- */

void disk_drop_from(disk *k, uint64_t index) {
    while (k->n > 0 && k->entries[k->n - 1].index >= index) {
        free((void *)k->entries[--k->n].bytes);
    }
}

bool disk_add(disk *k, const exo_raft_entry *e) {
    if (e->index != k->snapshot.index + k->n + 1) return false; /* a hole: nothing to put it on */
    if (k->n == k->cap) {
        k->cap = k->cap > 0 ? 2 * k->cap : 32;
        k->entries = must(realloc(k->entries, k->cap * sizeof *k->entries));
    }
    k->entries[k->n] = *e;
    k->entries[k->n++].bytes = copy(e->bytes, e->n_bytes);
    return true;
}

static void disk_set_snapshot(disk *k, const exo_raft_snapshot *s, bool keep) {
    size_t drop = k->n;
    if (keep) drop = (size_t)(s->index - k->snapshot.index);
    for (size_t i = 0; i < drop && i < k->n; i++) free((void *)k->entries[i].bytes);
    if (drop < k->n) memmove(k->entries, k->entries + drop, (k->n - drop) * sizeof *k->entries);
    k->n = drop < k->n ? k->n - drop : 0;
    free((void *)k->snapshot.config);
    free((void *)k->snapshot.image);
    k->snapshot = *s;
    k->snapshot.config = copy(s->config, s->n_config);
    k->snapshot.image = copy(s->image, s->n_image);
}

void node_lose_disk(node *n) {
    disk_drop_from(&n->disk, 0);
    free(n->disk.entries);
    free((void *)n->disk.snapshot.config);
    free((void *)n->disk.snapshot.image);
    n->disk = (disk){0};
}

/* ---- its state ---- */

void machine_apply(machine *m, const exo_raft_entry *e) {
    m->applied = e->index;
    bool changes = false;
    if (e->kind == EXO_RAFT_COMMAND && e->n_bytes == 16) {
        uint64_t who = exo_get_u64(e->bytes) % MAX_CLIENTS, number = exo_get_u64(e->bytes + 8);
        changes = number > m->last[who];
        if (changes) m->last[who] = number;
    }
    if (changes) m->chain = exo_hash64(e->bytes, e->n_bytes, m->chain);
}

static void machine_write(const machine *m, uint8_t out[16 + 8 * MAX_CLIENTS]) {
    exo_put_u64(out, m->applied);
    exo_put_u64(out + 8, m->chain);
    for (int i = 0; i < MAX_CLIENTS; i++) exo_put_u64(out + 16 + 8 * i, m->last[i]);
}

static void machine_read(machine *m, const exo_raft_snapshot *s) {
    *m = (machine){.applied = s->index};
    if (s->n_image < 16 + 8 * MAX_CLIENTS) return; /* the first snapshot of all: nothing applied */
    m->chain = exo_get_u64(s->image + 8);
    for (int i = 0; i < MAX_CLIENTS; i++) m->last[i] = exo_get_u64(s->image + 16 + 8 * i);
}

/* ---- its life ---- */

uint64_t node_now_ms(const world *w, const node *n) {
    return 1000 + (uint64_t)((double)(w->now_us - n->clock_zero_us) * n->clock_rate / 1000.0);
}

void node_begin_cluster(node *n) {
    uint8_t config[EXO_RAFT_MEMBER_BYTES];
    exo_raft_member self = {n->id, true};
    exo_raft_config_write(&self, 1, config);
    exo_raft_snapshot s = {.index = 1, .term = 1, .n_config = sizeof config, .config = config};
    n->disk.term = 1;
    disk_set_snapshot(&n->disk, &s, false);
}

static void schedule_tick(world *w, uint32_t i) {
    node *n = &w->nodes[i];
    uint64_t now_ms = node_now_ms(w, n), at = exo_raft_deadline(n->raft);
    uint64_t wait_ms = at > now_ms ? at - now_ms : 0;
    n->tick_at_us = w->now_us + (uint64_t)((double)wait_ms * 1000.0 / n->clock_rate) + 500;
    sim_add(&w->queue,
            (sim_event){.at_us = n->tick_at_us, .kind = EVENT_TICK, .node = i, .epoch = n->epoch});
}

void node_start(world *w, uint32_t i) {
    node *n = &w->nodes[i];
    if (!n->exists || n->up) return;
    n->epoch++;
    n->asleep = false;
    exo_raft_desc d = {.id = n->id,
                       .seed = sim_draw(&w->rng),
                       .election_ms = w->election_ms,
                       .heartbeat_ms = w->election_ms / 5,
                       .term = n->disk.term,
                       .vote = n->disk.vote,
                       .snapshot = n->disk.snapshot.index > 0 ? &n->disk.snapshot : NULL,
                       .entries = n->disk.entries,
                       .n_entries = (uint32_t)n->disk.n};
    exo_error err;
    if (exo_raft_create(&d, node_now_ms(w, n), &n->raft, &err) != EXO_OK) {
        world_broken(w, "node %llu cannot start: %s", (unsigned long long)n->id, err.message);
        return;
    }
    n->up = true;
    machine_read(&n->machine, &n->disk.snapshot);
    rules_restored(w, n);
    schedule_tick(w, i);
}

void node_crash(world *w, uint32_t i) {
    node *n = &w->nodes[i];
    if (!n->up) return;
    w->result->n_crashes++;
    exo_raft_destroy(n->raft);
    n->raft = NULL;
    n->up = false;
    n->epoch++;
}

void node_free(node *n) {
    exo_raft_destroy(n->raft);
    exo_raft_actions_finish(&n->out);
    node_lose_disk(n);
}

/* ---- actions ---- */

static void persist_entries(const world *w, node *n, const exo_raft_action *a) {
    if (w->d.plant == PLANT_ENTRIES_NOT_PERSISTED) return;
    uint64_t from = a->entries[0].index;
    bool cuts = from <= n->disk.snapshot.index + n->disk.n;
    if (w->d.plant == PLANT_TRUNCATION_NOT_PERSISTED && cuts) return;
    disk_drop_from(&n->disk, from);
    for (uint32_t i = 0; i < a->n_entries; i++) disk_add(&n->disk, &a->entries[i]);
}

static void persist_snapshot(const world *w, node *n, const exo_raft_action *a) {
    if (w->d.plant == PLANT_SNAPSHOT_NOT_PERSISTED) { /* but the entries go */
        if (a->keep) {
            disk_drop_from(&n->disk, 0);
        }
        return;
    }
    exo_raft_snapshot s = *a->snapshot;
    if (w->d.plant == PLANT_SNAPSHOT_FORGETS_MEMBERS && s.n_config > EXO_RAFT_MEMBER_BYTES) {
        s.n_config = EXO_RAFT_MEMBER_BYTES;
        exo_raft_member first[1] = {{exo_get_u64(s.config), true}};
        exo_raft_config_write(first, 1, (uint8_t *)s.config);
    }
    disk_set_snapshot(&n->disk, &s, a->keep);
}

static void apply(world *w, node *n, const exo_raft_entry *e) {
    if (w->d.plant == PLANT_APPLY_SKIPPED && e->index % 37 == 0) return;
    machine_apply(&n->machine, e);
    if (w->d.plant == PLANT_APPLIED_TWICE && e->index % 37 == n->id % 37 && e->n_bytes > 0) {
        n->machine.chain = exo_hash64(e->bytes, e->n_bytes, n->machine.chain);
    }
    rules_applied(w, n, e);
}

/* A node that forgets what it has just promised does the most harm. */
static double crash_chance(const world *w, const exo_raft_action *a) {
    bool promise = a->kind == EXO_RAFT_SEND && a->message.type == EXO_RAFT_VOTE_REPLY;
    return w->crash_between * (promise ? 20 : 1);
}

/* False when the node crashed on the way. */
static bool act_once(world *w, uint32_t i, const exo_raft_action *a) {
    node *n = &w->nodes[i];
    switch (a->kind) {
    case EXO_RAFT_PERSIST_VOTE:
        if (w->d.plant == PLANT_VOTE_NOT_PERSISTED) {
            if (a->term != n->disk.term) n->disk.vote = 0;
            n->disk.term = a->term;
            break;
        }
        n->disk.vote = a->vote;
        if (w->d.plant == PLANT_TERM_NOT_PERSISTED && n->disk.term != 0) break;
        n->disk.term = a->term;
        break;
    case EXO_RAFT_PERSIST_ENTRIES: persist_entries(w, n, a); break;
    case EXO_RAFT_PERSIST_SNAPSHOT:
        w->result->n_snapshots++;
        persist_snapshot(w, n, a);
        break;
    case EXO_RAFT_SEND: net_send(w, i, &a->message); break;
    case EXO_RAFT_APPLY: apply(w, n, a->entries); break;
    case EXO_RAFT_RESTORE:
        machine_read(&n->machine, a->snapshot);
        rules_restored(w, n);
        break;
    case EXO_RAFT_ROLE: rules_role(w, n); break;
    }
    if (world_over(w) || w->calm || !sim_chance(&w->rng, crash_chance(w, a))) {
        return !world_over(w);
    }
    node_crash(w, i);
    uint64_t down_us = sim_chance(&w->rng, w->quick_restart) ? 20000 : 2000000; /* at most */
    sim_add(&w->queue, (sim_event){.at_us = w->now_us + sim_below(&w->rng, down_us),
                                   .kind = EVENT_START,
                                   .node = i});
    return false;
}

static void compact(world *w, uint32_t i) {
    node *n = &w->nodes[i];
    uint8_t image[16 + 8 * MAX_CLIENTS];
    machine m = n->machine;
    if (w->d.plant == PLANT_SNAPSHOT_LOSES_ENTRY && m.last[0] > 0) m.last[0]--;
    if (w->d.plant == PLANT_SNAPSHOT_OF_OLD_STATE) machine_read(&m, &n->disk.snapshot);
    machine_write(&m, image);
    exo_error err;
    if (exo_raft_compact(n->raft, image, sizeof image, &n->out, &err) != EXO_OK) {
        world_broken(w, "node %llu: %s", (unsigned long long)n->id, err.message);
        return;
    }
    for (size_t k = 0; k < n->out.n; k++) {
        if (!act_once(w, i, &n->out.items[k])) return;
    }
}

void node_act(world *w, uint32_t i) {
    node *n = &w->nodes[i];
    bool early = w->d.plant == PLANT_SENT_BEFORE_PERSISTED;
    for (size_t k = 0; k < n->out.n && early; k++) {
        if (n->out.items[k].kind == EXO_RAFT_SEND && !act_once(w, i, &n->out.items[k])) return;
    }
    for (size_t k = 0; k < n->out.n; k++) {
        if (early && n->out.items[k].kind == EXO_RAFT_SEND) continue;
        if (!act_once(w, i, &n->out.items[k])) return;
    }
    uint64_t stale = n->disk.snapshot.index + COMPACT_AFTER;
    if (exo_raft_kept_entries(n->raft) > COMPACT_AFTER && n->machine.applied > stale) compact(w, i);
    if (n->up) schedule_tick(w, i);
}

void node_tick(world *w, uint32_t i) {
    node *n = &w->nodes[i];
    exo_error err;
    if (exo_raft_tick(n->raft, node_now_ms(w, n), &n->out, &err) != EXO_OK) {
        world_broken(w, "node %llu: %s", (unsigned long long)n->id, err.message);
        return;
    }
    node_act(w, i);
}
