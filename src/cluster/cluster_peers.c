/* cluster_peers.c - what peers say of their logs, and what follows: yield to another log, or begin
 * a fork of this one.
 *
 * Yielding is asked for, not taken: a node leaves its log only when the other log's leader has made
 * it a member there, and a node that is asking lets nobody in meanwhile.  Two nodes that ask each
 * other both wait in vain, rest for a time drawn by chance, and look again. */
#include "cluster/cluster_impl.h"

#include "base/mem.h"

#include <string.h>

#define INFO_SETTLED_MS 10000 /* between words to a node of a large log; news goes at once */
#define MANY_MEMBERS    16
#define YIELD_CHILD_MS  500   /* without leader, before a live fork of our log is asked */
#define YIELD_LOST_MS   2000  /* and any other live log */
#define BEGIN_ANEW_MS   5000  /* taken into a log that was never heard of again */
#define FORK_GRACE_MS   3000  /* after the start: the others are still being dialled */
#define FORK_CLOSED_MS  400   /* the only other voter's link has ended */
#define FORK_SILENT_MS  1200  /* it is there and says nothing */
#define FORK_MANY_MS    10000 /* with three voters or more, or when a majority can be reached */
#define FORK_RANK_MS    300   /* between those who are left: one fork is enough */
#define REACHED_MS      3000  /* a voter that was heard so lately can vote */

/* ---- peers ---- */

static size_t place(const exo_cluster *c, uint64_t node) {
    size_t low = 0, high = c->n_peers;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (c->peers[mid].node < node) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

exo_cluster_peer *exo_cluster_find_peer(const exo_cluster *c, uint64_t node) {
    size_t i = place(c, node);
    return i < c->n_peers && c->peers[i].node == node ? &c->peers[i] : NULL;
}

static bool says_name(const exo_cluster *c, const exo_cluster_peer *p, exo_raft_id member) {
    return p->info.member == member && p->knows && p->info.log_id == c->log_id;
}

/* By what it says of itself, by what the log says, by what it asked for. */
exo_cluster_peer *exo_cluster_peer_of_member(exo_cluster *c, exo_raft_id member) {
    for (size_t k = 0; k < c->n_peers; k++) { /* often the one behind the last */
        size_t i = c->route + k < c->n_peers ? c->route + k : c->route + k - c->n_peers;
        if (!says_name(c, &c->peers[i], member)) continue;
        c->route = i + 1 < c->n_peers ? i + 1 : 0;
        return &c->peers[i];
    }
    const exo_state_node *n = exo_state_member(&c->state, member);
    if (n != NULL) return exo_cluster_find_peer(c, n->node);
    for (size_t k = 0; k < c->n_joins; k++) { /* it does not know yet */
        if (c->joins[k].member == member) return exo_cluster_find_peer(c, c->joins[k].node);
    }
    return NULL;
}

void exo_cluster_peer_up(exo_cluster *c, uint64_t node) {
    if (node == c->node || node == 0 || exo_cluster_find_peer(c, node) != NULL) return;
    if (c->n_peers >= EXO_CLUSTER_MAX_PEERS) return;
    if (exo_grow((void **)&c->peers, &c->cap_peers, c->n_peers + 1, sizeof *c->peers) != 0) {
        exo_cluster_fail(c, EXO_ENOMEM);
        return;
    }
    size_t i = place(c, node);
    memmove(&c->peers[i + 1], &c->peers[i], (c->n_peers - i) * sizeof *c->peers);
    c->peers[i] = (exo_cluster_peer){.node = node, .heard_ms = c->now_ms};
    c->n_peers++;
    c->members_changed = true;
    c->own_at_ms = c->now_ms; /* tell it about us at once */
}

void exo_cluster_forget_joins(exo_cluster *c, uint64_t node) {
    size_t kept = 0;
    for (size_t i = 0; i < c->n_joins; i++) {
        if (c->joins[i].node != node) c->joins[kept++] = c->joins[i];
    }
    c->n_joins = kept;
}

void exo_cluster_peer_down(exo_cluster *c, uint64_t node) {
    exo_cluster_peer *p = exo_cluster_find_peer(c, node);
    if (p == NULL) return;
    const exo_state_node *n = exo_state_node_of(&c->state, node);
    exo_raft_id member = n != NULL ? n->member : 0;
    size_t i = (size_t)(p - c->peers);
    c->n_peers--;
    memmove(&c->peers[i], &c->peers[i + 1], (c->n_peers - i) * sizeof *c->peers);
    c->route = 0;
    exo_cluster_forget_joins(c, node);
    if (member == 0) return;
    exo_status st = exo_raft_lost(c->raft, member, c->now_ms, &c->raft_out, c->err);
    if (st != EXO_OK) exo_cluster_fail(c, st);
    exo_cluster_take(c);
    c->own_at_ms = c->now_ms;
}

/* ---- what we say ---- */

exo_cluster_info exo_cluster_own_info(const exo_cluster *c) {
    exo_cluster_info i = {.log_id = c->log_id,
                          .parent = c->state.parent,
                          .member = c->member,
                          .term = exo_cluster_term(c),
                          .leader = exo_cluster_master(c),
                          .provisional = exo_cluster_provisional(c),
                          .voter_ok = c->voter_ok};
    exo_raft_members(c->raft, &i.n_members);
    return i;
}

static bool same_info(const exo_cluster_info *a, const exo_cluster_info *b) {
    return a->log_id == b->log_id && a->parent == b->parent && a->member == b->member &&
           a->term == b->term && a->leader == b->leader && a->n_members == b->n_members &&
           a->provisional == b->provisional && a->voter_ok == b->voter_ok;
}

void exo_cluster_tell(exo_cluster *c) {
    exo_cluster_info i = exo_cluster_own_info(c);
    bool news = !same_info(&i, &c->said);
    if (!news && c->now_ms < c->own_at_ms) return;
    c->said = i;
    for (size_t k = 0; k < c->n_peers; k++) {
        exo_cluster_peer *p = &c->peers[k];
        if (!news && c->now_ms < p->info_at_ms) continue;
        bool settled = i.n_members > MANY_MEMBERS && p->knows && p->info.log_id == c->log_id;
        bool first = p->info_at_ms == 0;
        p->info_at_ms = c->now_ms + (settled ? INFO_SETTLED_MS : EXO_CLUSTER_INFO_MS);
        exo_cluster_send_info(c, p->node, &i, news || first);
    }
}

/* ---- yielding ---- */

static bool should_yield(const exo_cluster *c, const exo_cluster_info *mine,
                         const exo_cluster_info *theirs) {
    if (theirs->log_id == mine->log_id || theirs->leader == 0) return false;
    if (mine->leader == 0) {
        uint64_t since = c->now_ms - c->leaderless_ms;
        return since >= (theirs->parent == mine->log_id ? YIELD_CHILD_MS : YIELD_LOST_MS);
    }
    if (mine->provisional != theirs->provisional) return mine->provisional;
    bool single = mine->n_members == 1, their_single = theirs->n_members == 1;
    if (single != their_single) return single;
    if (single && mine->voter_ok != theirs->voter_ok) return !mine->voter_ok;
    return theirs->log_id < mine->log_id;
}

static void ask(exo_cluster *c) {
    c->join_at_ms = c->now_ms + EXO_CLUSTER_JOIN_MS;
    for (size_t i = 0; i < c->n_peers; i++) {
        const exo_cluster_peer *p = &c->peers[i];
        if (p->knows && p->info.log_id == c->yield_to) exo_cluster_send_join(c, p->node);
    }
}

static void keep_asking(exo_cluster *c, const exo_cluster_info *mine) {
    bool sense = false;
    for (size_t i = 0; i < c->n_peers && !sense; i++) {
        const exo_cluster_peer *p = &c->peers[i];
        sense = p->knows && p->info.log_id == c->yield_to && should_yield(c, mine, &p->info);
    }
    if (!sense || c->now_ms >= c->yield_until_ms) {
        c->yield_to = 0;
        c->rest_until_ms = c->now_ms + exo_cluster_draw(c) % EXO_CLUSTER_YIELD_MS;
        if (!sense) c->rest_until_ms = c->now_ms;
        return;
    }
    if (c->now_ms >= c->join_at_ms) ask(c);
}

static void look_for_log(exo_cluster *c, const exo_cluster_info *mine) {
    uint64_t best = 0;
    if (c->now_ms < c->rest_until_ms) return;
    for (size_t i = 0; i < c->n_peers; i++) {
        const exo_cluster_peer *p = &c->peers[i];
        if (!p->knows || !should_yield(c, mine, &p->info)) continue;
        if (best == 0 || p->info.log_id < best) best = p->info.log_id;
    }
    if (best == 0) return;
    c->yield_to = best;
    if (c->yield_member == 0) c->yield_member = exo_cluster_draw(c);
    c->yield_until_ms =
        c->now_ms + EXO_CLUSTER_YIELD_MS / 2 + exo_cluster_draw(c) % EXO_CLUSTER_YIELD_MS;
    ask(c);
}

/* ---- forks ---- */

static bool reaches(const exo_cluster *c, exo_raft_id member, bool *linked) {
    if (member == c->member) return *linked = true;
    for (size_t i = 0; i < c->n_peers; i++) {
        const exo_cluster_peer *p = &c->peers[i];
        if (!p->knows || p->info.log_id != c->log_id || p->info.member != member) continue;
        *linked = true;
        return c->now_ms < p->heard_ms + REACHED_MS;
    }
    return *linked = false;
}

/* How long this node waits for a leader before it goes on without those it has lost. */
static uint64_t patience(const exo_cluster *c) {
    uint32_t n = 0, voters = 0, reached = 0, linked = 0, rank = 0;
    const exo_raft_member *m = exo_raft_members(c->raft, &n);
    if (n == 0) return BEGIN_ANEW_MS;
    for (uint32_t i = 0; i < n; i++) {
        bool has_link = false;
        if (!m[i].voter) continue;
        voters++;
        reached += reaches(c, m[i].id, &has_link);
        linked += has_link;
    }
    for (size_t i = 0; i < c->n_peers; i++) {
        const exo_cluster_peer *p = &c->peers[i];
        rank += p->knows && p->info.log_id == c->log_id && p->node < c->node;
    }
    if (voters > 2 || reached >= voters / 2 + 1) return FORK_MANY_MS + rank * FORK_RANK_MS;
    bool closed = linked == 0 || (linked == 1 && reached == 1);
    return (closed ? FORK_CLOSED_MS : FORK_SILENT_MS) + rank * FORK_RANK_MS;
}

static bool sees_other_log(const exo_cluster *c) {
    for (size_t i = 0; i < c->n_peers; i++) {
        const exo_cluster_peer *p = &c->peers[i];
        if (p->knows && p->info.log_id != c->log_id && p->info.leader != 0) return true;
    }
    return false;
}

static void maybe_fork(exo_cluster *c) {
    bool settling = !c->had_leader && c->now_ms < c->started_ms + FORK_GRACE_MS;
    if (c->leaderless_ms == 0 || settling) return;
    uint64_t since = c->now_ms - c->leaderless_ms, limit = patience(c);
    if (since < limit) return;
    if (sees_other_log(c) && since < limit + EXO_CLUSTER_YIELD_MS) return; /* rather join that */
    uint32_t n_members = 0;
    exo_raft_members(c->raft, &n_members);
    exo_cluster_begin_log(c, n_members > 0);
}

void exo_cluster_reconsider(exo_cluster *c) {
    exo_cluster_info mine = exo_cluster_own_info(c);
    if (c->alone) return;
    if (c->yield_to != 0) {
        keep_asking(c, &mine);
    } else {
        look_for_log(c, &mine);
    }
    if (c->yield_to == 0) maybe_fork(c);
}
