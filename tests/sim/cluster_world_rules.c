/* cluster_world_rules.c - what must never happen, checked as it happens, and how a run must end. */
#include "base/buf.h"
#include "base/hash.h"
#include "cluster/cluster_impl.h"
#include "sim/cluster_world_impl.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define U(x) ((unsigned long long)(x))

void cworld_broken(cworld *w, const char *fmt, ...) {
    if (!w->result->ok) return; /* the first one counts */
    w->result->ok = false;
    va_list args;
    va_start(args, fmt);
    vsnprintf(w->result->why, sizeof w->result->why, fmt, args);
    va_end(args);
}

/* ---- how often ---- */

static const char *const count_names[N_COUNTS] = {
    [COUNT_EVENTS] = "events",
    [COUNT_MESSAGES] = "messages",
    [COUNT_LOST] = "lost",
    [COUNT_TWICE] = "twice",
    [COUNT_LATE] = "late",
    [COUNT_REORDERED] = "out of order",
    [COUNT_LAST_WORDS] = "of the dead",
    [COUNT_CUTS] = "networks cut",
    [COUNT_CUTS_ONE_WAY] = "cut one way",
    [COUNT_STALLS] = "stalls",
    [COUNT_STALLS_UNLINKED] = "links lost to stalls",
    [COUNT_CRASHES] = "crashes",
    [COUNT_CRASHES_IN_STEP] = "between two actions",
    [COUNT_DISKS_FULL] = "disks full",
    [COUNT_DISKS_LOST] = "disks lost",
    [COUNT_DISKS_DAMAGED] = "disks damaged",
    [COUNT_SNAPSHOTS_LOST] = "newest snapshots damaged",
    [COUNT_CLOCKS_OFF] = "clocks off",
    [COUNT_MASTERS] = "masters",
    [COUNT_FORKS] = "provisional masters",
    [COUNT_COMMANDS] = "commands",
    [COUNT_COMMANDS_ELSEWHERE] = "on another node",
    [COUNT_COMMANDS_CUT_OFF] = "node gone",
    [COUNT_COMMANDS_NO_MASTER] = "no master",
    [COUNT_COMMANDS_TIMED_OUT] = "client waited no longer",
    [COUNT_ACKNOWLEDGED] = "acknowledged",
    [COUNT_WORDS] = "words",
    [COUNT_INSTANCES] = "instances run",
    [COUNT_INSTANCES_ENDED] = "ended",
    [COUNT_INSTANCES_MOVED] = "taken over",
    [COUNT_DELETED_DIES] = "crashes behind a delete",
    [COUNT_STEPS] = "steps of stages",
    [COUNT_PUT_BACK] = "answers put back",
    [COUNT_ANSWERS] = "answers asked",
    [COUNT_ANSWERS_AGAIN] = "asked again",
    [COUNT_ANSWERS_ELSEWHERE] = "computed elsewhere",
    [COUNT_ANSWERED] = "answered",
    [COUNT_ANSWERS_CANCELED] = "cancelled",
    [COUNT_ANSWERS_FAILED] = "ended with an error",
    [COUNT_ANSWERS_FAILED_MIDWAY] = "in mid-answer",
    [COUNT_ANSWERS_CUT_OFF] = "ended with their node",
};

const char *world_count_name(world_count c) { return count_names[c]; }

/* ---- a map ---- */

static void map_grow(sim_map *m) {
    sim_map big = {.cap = m->cap > 0 ? 2 * m->cap : 256};
    big.keys = calloc(big.cap, sizeof *big.keys);
    big.values = calloc(big.cap, sizeof *big.values);
    if (big.keys == NULL || big.values == NULL) abort();
    for (size_t i = 0; i < m->cap; i++) {
        bool fresh;
        if (m->keys[i] != 0) *sim_map_at(&big, m->keys[i], &fresh) = m->values[i];
    }
    free(m->keys);
    free(m->values);
    *m = big;
}

uint64_t *sim_map_at(sim_map *m, uint64_t key, bool *fresh) {
    if (2 * m->n >= m->cap) map_grow(m);
    size_t i = (size_t)(key * 0x9E3779B97F4A7C15u >> 20) & (m->cap - 1);
    while (m->keys[i] != 0 && m->keys[i] != key) i = (i + 1) & (m->cap - 1);
    *fresh = m->keys[i] == 0;
    if (*fresh) {
        m->keys[i] = key;
        m->n++;
    }
    return &m->values[i];
}

/* The value that a key has for ever; false: it has another. */
static bool always(sim_map *m, uint64_t a, uint64_t b, uint64_t value) {
    const uint64_t both[] = {a, b};
    bool fresh;
    uint64_t *at = sim_map_at(m, exo_hash64(both, sizeof both, 1) | 1, &fresh);
    if (fresh) *at = value;
    return *at == value;
}

/* ---- after every step ---- */

/* Of what a state holds in memory; unused bytes of it are zero wherever it came from. */
static uint64_t hash_lists(const exo_state *s) {
    uint64_t h = exo_hash64(s->nodes, s->n_nodes * sizeof *s->nodes, s->last_slot);
    for (size_t i = 0; i < s->n_instances; i++) { /* cuts come last */
        const exo_state_instance *k = &s->instances[i];
        h = exo_hash64(k, offsetof(exo_state_instance, cuts) + k->n_cuts * sizeof *k->cuts, h);
    }
    h = exo_hash64(s->downloads, s->n_downloads * sizeof *s->downloads, h);
    h = exo_hash64(s->deleted, s->n_deleted * sizeof *s->deleted, h);
    const uint64_t rest[] = {s->parent, s->fork_slot, s->n_parent_voters};
    h = exo_hash64(s->parent_voters, s->n_parent_voters * sizeof *s->parent_voters, h);
    return exo_hash64(rest, sizeof rest, h);
}

static uint64_t hash_state(const exo_state *s) {
    static exo_buf bytes; /* kept: one simulation runs at a time */
    exo_buf_clear(&bytes);
    exo_state_write(s, &bytes);
    return exo_hash64(bytes.data, bytes.n, 0);
}

static void check_master(cworld *w, uint32_t i) {
    sim_node *n = &w->nodes[i];
    const exo_raft *r = exo_cluster_raft(n->cluster);
    if (exo_raft_role_of(r) != EXO_RAFT_LEADER) return;
    uint64_t log = exo_cluster_log_id(n->cluster), term = exo_cluster_term(n->cluster);
    if (n->checked_log == log && n->checked_term == term) return;
    n->checked_log = log;
    n->checked_term = term;
    count(w, COUNT_MASTERS);
    if (exo_cluster_provisional(n->cluster)) count(w, COUNT_FORKS);
    if (!always(&w->leaders, log, exo_raft_term(r), n->id)) {
        cworld_broken(w, "node %u leads term %llu of log %llx as well as another node", i,
                      U(exo_raft_term(r)), U(log));
    }
}

void rules_after_step(cworld *w, uint32_t i) {
    sim_node *n = &w->nodes[i];
    check_master(w, i);
    uint64_t log = exo_cluster_log_id(n->cluster);
    uint64_t index = exo_raft_applied_index(exo_cluster_raft(n->cluster));
    if (index == 0 || (n->shown_log == log && n->shown_index == index)) return;
    bool same = n->shown_log == log && n->shown_member == n->disk.member;
    if (same && index < n->shown_index) {
        cworld_broken(w, "node %u went back from entry %llu to %llu", i, U(n->shown_index),
                      U(index));
    }
    n->shown_log = log;
    n->shown_member = n->disk.member;
    n->shown_index = index;
    if (w->n_nodes > 100) return; /* a state of 1,000 nodes takes longer to hash than to change */
    if (!always(&w->states, log, index, hash_lists(exo_cluster_state_of(n->cluster)))) {
        cworld_broken(w, "node %u has another state behind entry %llu of log %llx", i, U(index),
                      U(log));
    }
}

/* ---- at the end ---- */

bool rules_agree(const cworld *w, bool say, char *why, size_t cap) {
    const sim_node *first = NULL;
    uint64_t state = 0;
    for (uint32_t i = 0; i < w->n_nodes; i++) {
        const sim_node *n = &w->nodes[i];
        if (!n->up) continue;
        const exo_cluster *c = n->cluster;
        const char *what = NULL;
        if (first == NULL) {
            first = n;
            state = hash_state(exo_cluster_state_of(c));
        }
        const exo_cluster *f = first->cluster;
        if (exo_cluster_master(c) == 0)
            what = "has no master";
        else if (exo_cluster_log_id(c) != exo_cluster_log_id(f))
            what = "is in another log";
        else if (exo_cluster_master(c) != exo_cluster_master(f))
            what = "has another master";
        else if (exo_cluster_term(c) != exo_cluster_term(f))
            what = "is in another term";
        else if (exo_cluster_provisional(c))
            what = "is still in a provisional term";
        else if (exo_cluster_waiting(c) > 0)
            what = "still has events that do not count";
        else if (hash_state(exo_cluster_state_of(c)) != state)
            what = "has another state";
        else if (exo_state_node_of(exo_cluster_state_of(f), n->id) == NULL)
            what = "is no member";
        if (what == NULL) continue;
        if (say) snprintf(why, cap, "at the end node %u %s", i, what);
        return false;
    }
    return true;
}

void rules_final(cworld *w) {
    char why[200];
    if (!rules_agree(w, true, why, sizeof why)) {
        cworld_broken(w, "%s", why);
        return;
    }
    clients_final(w);
    streams_final(w);
}
