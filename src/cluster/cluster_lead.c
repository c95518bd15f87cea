/* cluster_lead.c - a leader's duties: who is a member of the log, and which members vote.
 *
 * The state says which nodes there are and what each is called in the log (NODE_JOINED); the log's
 * members follow the state.  Voters are those that may vote and are linked, 1, 2, 3 or 5 of them;
 * they change one at a time. */
#include "cluster/cluster_impl.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#define JOIN_AGE_MS   3000 /* a request that is older is not heeded */
#define VOTER_GONE_MS 5000 /* without link, before another takes its place */
#define LOOK_MS       1000 /* at voters, when nothing else has changed */
#define CLOSE_ENTRIES 64   /* a learner that lags less may vote */
#define MAX_JOINS     4096

/* ---- who wants to come in ---- */

void exo_cluster_on_join(exo_cluster *c, const exo_cluster_join *j) {
    if (exo_raft_role_of(c->raft) != EXO_RAFT_LEADER || c->yield_to != 0) return;
    if (j->log_id != c->log_id) return;
    for (size_t i = 0; i < c->n_joins; i++) {
        if (c->joins[i].node != j->node) continue;
        c->joins[i] = *j;
        c->members_changed = true;
        return;
    }
    if (c->n_joins >= MAX_JOINS) return; /* it asks again */
    if (exo_grow((void **)&c->joins, &c->cap_joins, c->n_joins + 1, sizeof *c->joins) != 0) {
        exo_cluster_fail(c, EXO_ENOMEM);
        return;
    }
    c->joins[c->n_joins++] = *j;
    c->members_changed = true;
}

/* Terms that people and devices have seen do not come back: ours is raised above the newcomer's.
 * True: this node does not lead any more. */
static bool raise_term(exo_cluster *c, const exo_cluster_join *j) {
    uint64_t theirs = j->term / EXO_CLUSTER_TERM_STEP, ours = exo_raft_term(c->raft);
    if (j->term <= exo_cluster_term(c)) return false;
    /* Of two forks in the same term the one with the higher number is ahead, too. */
    exo_status st = exo_raft_raise_term(c->raft, theirs > ours ? theirs : ours + 1, c->now_ms,
                                        &c->raft_out, c->err);
    if (st != EXO_OK) exo_cluster_fail(c, st);
    exo_cluster_take(c);
    return exo_raft_role_of(c->raft) != EXO_RAFT_LEADER;
}

static void let_in(exo_cluster *c, const exo_cluster_join *j) {
    const exo_state_node *n = exo_state_node_of(&c->state, j->node);
    if (n != NULL && (n->removed || n->member == j->member)) return;
    if (exo_state_member(&c->state, j->member) != NULL) return; /* another's name */
    exo_event e = {.type = EXO_EVENT_NODE_JOINED,
                   .node = j->node,
                   .member = j->member,
                   .voter_ok = j->voter_ok};
    memcpy(e.name, j->name, sizeof e.name);
    exo_cluster_propose(c, &e, 0);
}

static bool heed_joins(exo_cluster *c) {
    size_t kept = 0;
    for (size_t i = 0; i < c->n_joins; i++) {
        if (c->now_ms < c->joins[i].at_ms + JOIN_AGE_MS) c->joins[kept++] = c->joins[i];
    }
    c->n_joins = kept;
    for (size_t i = 0; i < c->n_joins && c->status == EXO_OK; i++) {
        if (raise_term(c, &c->joins[i])) return false;
        let_in(c, &c->joins[i]);
    }
    return c->status == EXO_OK;
}

/* ---- members follow the state ---- */

typedef struct {
    exo_raft_member *m;
    uint32_t n, n_voters;
    uint32_t changed_voters;
    bool changed;
} plan;

static int by_id(const void *a, const void *b) {
    exo_raft_id x = *(const exo_raft_id *)a, y = *(const exo_raft_id *)b;
    return x < y ? -1 : x > y;
}

/* The ids of all, ascending; NULL without memory. */
static exo_raft_id *sorted(const exo_cluster *c, bool of_state, size_t *n_out) {
    uint32_t n_members = 0;
    const exo_raft_member *m = exo_raft_members(c->raft, &n_members);
    size_t n = of_state ? c->state.n_nodes : n_members;
    exo_raft_id *ids = exo_malloc((n + 1) * sizeof *ids);
    if (ids == NULL) return NULL;
    for (size_t i = 0; i < n; i++) ids[i] = of_state ? c->state.nodes[i].member : m[i].id;
    qsort(ids, n, sizeof *ids, by_id);
    *n_out = n;
    return ids;
}

static bool contains(const exo_raft_id *ids, size_t n, exo_raft_id id) {
    return bsearch(&id, ids, n, sizeof *ids, by_id) != NULL;
}

/* Members that no node goes by any more leave, at most one voter among them; nodes that are no
 * members yet become learners. */
static bool follow_state(exo_cluster *c, plan *p) {
    size_t n_state = 0, n_config = 0;
    exo_raft_id *state = sorted(c, true, &n_state), *config = sorted(c, false, &n_config);
    uint32_t n = 0;
    const exo_raft_member *m = exo_raft_members(c->raft, &n);
    p->m = exo_calloc(n + c->state.n_nodes + 1, sizeof *p->m);
    bool room = state != NULL && config != NULL && p->m != NULL;
    for (uint32_t i = 0; i < n && room; i++) {
        bool stale = m[i].id != c->member && !contains(state, n_state, m[i].id);
        bool may_go = !m[i].voter || p->changed_voters == 0;
        if (stale && may_go) {
            p->changed_voters += m[i].voter;
            p->changed = true;
            continue;
        }
        p->n_voters += m[i].voter;
        p->m[p->n++] = m[i];
    }
    for (size_t i = 0; i < c->state.n_nodes && room; i++) {
        exo_raft_id id = c->state.nodes[i].member;
        if (id == 0 || contains(config, n_config, id) || p->n >= EXO_RAFT_MAX_MEMBERS) continue;
        p->m[p->n++] = (exo_raft_member){id, false};
        p->changed = true;
    }
    exo_free(state);
    exo_free(config);
    return room;
}

/* ---- voters ---- */

static bool is_linked(exo_cluster *c, exo_raft_id member) {
    if (member == c->member) return true;
    for (size_t i = 0; i < c->n_peers; i++) {
        const exo_cluster_peer *p = &c->peers[i];
        if (p->knows && p->info.log_id == c->log_id && p->info.member == member) return true;
    }
    return false;
}

/* When a voter was last linked; a new leader gives each its time. */
static uint64_t last_seen(exo_cluster *c, exo_raft_id member, bool linked) {
    size_t spare = EXO_RAFT_MAX_VOTERS;
    for (size_t i = 0; i < EXO_RAFT_MAX_VOTERS; i++) {
        if (c->seen[i].member == member) {
            if (linked) c->seen[i].ms = c->now_ms;
            return c->seen[i].ms;
        }
        if (spare == EXO_RAFT_MAX_VOTERS || c->seen[i].ms < c->seen[spare].ms) spare = i;
    }
    c->seen[spare].member = member;
    return c->seen[spare].ms = c->now_ms;
}

/* A member that could vote from now on; NULL: nobody. */
static exo_raft_member *find_candidate(exo_cluster *c, plan *p, uint32_t *n_able,
                                       uint32_t *n_voting) {
    exo_raft_member *best = NULL;
    uint64_t last = exo_raft_last_index(c->raft);
    for (uint32_t i = 0; i < p->n; i++) {
        const exo_state_node *n = NULL;
        if (p->m[i].voter) {
            bool linked = is_linked(c, p->m[i].id);
            last_seen(c, p->m[i].id, linked);
            n = exo_state_member(&c->state, p->m[i].id);
            *n_able += linked && n != NULL && n->voter_ok;
            *n_voting += linked;
            continue;
        }
        if (best != NULL && *n_able >= EXO_RAFT_MAX_VOTERS) continue;
        n = exo_state_member(&c->state, p->m[i].id);
        if (n == NULL || !n->voter_ok || !is_linked(c, p->m[i].id)) continue;
        ++*n_able;
        uint64_t match = exo_raft_match_index(c->raft, p->m[i].id);
        if (best == NULL && match > 0 && match + CLOSE_ENTRIES >= last) best = &p->m[i];
    }
    return best;
}

/* A voter that may go: one that has been gone for a while, or any when too many are here. */
static exo_raft_member *find_excess(exo_cluster *c, plan *p, bool too_many) {
    exo_raft_member *worst = NULL;
    for (uint32_t i = 0; i < p->n; i++) {
        exo_raft_member *m = &p->m[i];
        if (!m->voter || m->id == c->member) continue;
        bool gone = c->now_ms >= last_seen(c, m->id, is_linked(c, m->id)) + VOTER_GONE_MS;
        const exo_state_node *n = exo_state_member(&c->state, m->id);
        if (gone || n == NULL || !n->voter_ok) return m;
        if (too_many) worst = m;
    }
    return worst;
}

static void choose_voters(exo_cluster *c, plan *p) {
    uint32_t n_able = 0, n_voting = 0;
    exo_raft_member *next = find_candidate(c, p, &n_able, &n_voting);
    uint32_t target = n_able >= EXO_RAFT_MAX_VOTERS ? EXO_RAFT_MAX_VOTERS
                      : n_able == 4                 ? 3
                                                    : n_able;
    if (target == 0) target = 1;
    if (p->changed_voters > 0) return;
    if (p->n_voters < target && next != NULL) {
        next->voter = true;
        p->changed = true;
        return;
    }
    if (p->n_voters <= 2) return; /* the other one of two cannot be outvoted */
    exo_raft_member *worst = find_excess(c, p, n_voting > target);
    if (worst == NULL) return;
    worst->voter = false;
    p->changed = true;
}

void exo_cluster_lead(exo_cluster *c) {
    if (exo_raft_role_of(c->raft) != EXO_RAFT_LEADER || c->alone) {
        c->members_changed = false; /* the next leader looks at everything */
        return;
    }
    if (c->yield_to != 0) return;
    bool due = c->now_ms >= c->lead_at_ms;
    if (!due) return;
    if (!c->members_changed && c->now_ms < c->lead_at_ms + LOOK_MS - EXO_CLUSTER_OWN_MS) return;
    c->lead_at_ms = c->now_ms + EXO_CLUSTER_OWN_MS;
    c->members_changed = false;
    if (!heed_joins(c)) return;
    exo_cluster_push_waiting(c);
    if (exo_raft_role_of(c->raft) != EXO_RAFT_LEADER) return;
    plan p = {0};
    if (follow_state(c, &p)) {
        choose_voters(c, &p);
    } else {
        exo_cluster_fail(c, EXO_ENOMEM);
    }
    if (p.changed && c->status == EXO_OK) {
        exo_status st = exo_raft_set_members(c->raft, p.m, p.n, c->now_ms, &c->raft_out, c->err);
        if (st == EXO_EBUSY) {
            c->members_changed = true; /* once the change under way is done */
        } else if (st != EXO_OK) {
            exo_cluster_fail(c, st);
        }
        exo_cluster_take(c);
        c->members_changed = true; /* perhaps there is more to do */
    }
    exo_free(p.m);
}
