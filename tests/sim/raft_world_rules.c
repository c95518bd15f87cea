/* raft_world_rules.c - what must never happen, checked as it happens. */
#include "base/hash.h"
#include "sim/raft_world_impl.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define U(x) ((unsigned long long)(x))

void world_broken(world *w, const char *fmt, ...) {
    if (!w->result->ok) return; /* the first one counts */
    w->result->ok = false;
    va_list args;
    va_start(args, fmt);
    vsnprintf(w->result->why, sizeof w->result->why, fmt, args);
    va_end(args);
}

static uint64_t hash_entry(const exo_raft_entry *e) {
    return exo_hash64(e->bytes, e->n_bytes, (uint64_t)e->kind + 1);
}

/* One order of entries for everyone, each applied once. */
void rules_applied(world *w, const node *n, const exo_raft_entry *e) {
    if (n->machine.applied != e->index) {
        world_broken(w, "node %llu applied entry %llu and stands at %llu", U(n->id), U(e->index),
                     U(n->machine.applied));
    }
    if (e->index > w->n_log + 1) {
        world_broken(w, "node %llu applied entry %llu, but nobody has applied %zu", U(n->id),
                     U(e->index), w->n_log + 1);
        return;
    }
    committed c = {e->term, exo_raft_term(n->raft), hash_entry(e), n->machine.chain};
    if (e->index == w->n_log + 1) {
        if (w->n_log == w->cap_log) {
            w->cap_log = w->cap_log > 0 ? 2 * w->cap_log : 256;
            w->log = realloc(w->log, w->cap_log * sizeof *w->log);
            if (w->log == NULL) abort();
        }
        w->log[w->n_log++] = c;
        w->result->n_committed++;
        return;
    }
    const committed *known = &w->log[e->index - 1];
    if (known->term != c.term || known->hash != c.hash || known->chain != c.chain) {
        world_broken(w,
                     "node %llu applied entry %llu of term %llu; another node applied one of "
                     "term %llu there, with another state behind it",
                     U(n->id), U(e->index), U(c.term), U(known->term));
    }
}

/* The state out of a snapshot is the state that the entries make. */
void rules_restored(world *w, const node *n) {
    uint64_t at = n->machine.applied;
    if (at <= 1) return;
    if (at > w->n_log) {
        world_broken(w, "node %llu restored entry %llu, but nobody has applied it", U(n->id),
                     U(at));
    } else if (w->log[at - 1].chain != n->machine.chain) {
        world_broken(w, "node %llu restored another state at entry %llu", U(n->id), U(at));
    }
}

static bool has_entry(const disk *k, uint64_t index, const committed *c) {
    if (index <= k->snapshot.index) return true;
    if (index > k->snapshot.index + k->n) return false;
    const exo_raft_entry *e = &k->entries[index - k->snapshot.index - 1];
    return e->term == c->term && hash_entry(e) == c->hash;
}

/* One leader in a term, and it has everything that was committed in earlier ones. */
void rules_role(world *w, const node *n) {
    if (exo_raft_role_of(n->raft) != EXO_RAFT_LEADER) return;
    uint64_t term = exo_raft_term(n->raft);
    for (size_t i = 0; i < w->n_leaders; i++) {
        if (w->leaders[i].term == term && w->leaders[i].leader != n->id) {
            world_broken(w, "nodes %llu and %llu both lead term %llu", U(w->leaders[i].leader),
                         U(n->id), U(term));
        }
    }
    if (w->n_leaders == w->cap_leaders) {
        w->cap_leaders = w->cap_leaders > 0 ? 2 * w->cap_leaders : 64;
        w->leaders = realloc(w->leaders, w->cap_leaders * sizeof *w->leaders);
        if (w->leaders == NULL) abort();
    }
    w->leaders[w->n_leaders].term = term;
    w->leaders[w->n_leaders++].leader = n->id;
    w->result->n_elections++;
    for (size_t i = 0; i < w->n_log; i++) {
        const committed *c = &w->log[i];
        if (c->seen_term >= term || has_entry(&n->disk, i + 1, c)) continue;
        world_broken(w, "node %llu leads term %llu without entry %zu, committed in term %llu",
                     U(n->id), U(term), i + 1, U(c->seen_term));
        return;
    }
}

/* Faults have stopped some time ago: one leader, one state, nothing lost. */
void rules_at_the_end(world *w) {
    const node *leader = NULL;
    for (uint32_t i = 0; i < w->n_nodes; i++) {
        const node *n = &w->nodes[i];
        if (!n->up || exo_raft_role_of(n->raft) != EXO_RAFT_LEADER) continue;
        if (leader == NULL || exo_raft_term(n->raft) > exo_raft_term(leader->raft)) leader = n;
    }
    if (leader == NULL) {
        world_broken(w, "no node leads after the faults have stopped");
        return;
    }
    uint32_t n_members = 0;
    const exo_raft_member *m = exo_raft_members(leader->raft, &n_members);
    for (uint32_t i = 0; i < n_members; i++) {
        const node *n = world_find(w, m[i].id);
        if (n == NULL || !n->up || n == leader) continue;
        if (n->machine.chain != leader->machine.chain || exo_raft_leader(n->raft) != leader->id) {
            world_broken(
                w, "node %llu stands at entry %llu under leader %llu; node %llu leads at %llu",
                U(n->id), U(n->machine.applied), U(exo_raft_leader(n->raft)), U(leader->id),
                U(leader->machine.applied));
        }
    }
    for (int i = 0; i < MAX_CLIENTS; i++) {
        if (leader->machine.last[i] < w->clients[i].done) {
            world_broken(w, "client %d was told that command %llu is done; the cluster knows %llu",
                         i, U(w->clients[i].done), U(leader->machine.last[i]));
        }
    }
}
