/* cluster.c - life of a node's part in its cluster, its inputs and its time; see cluster.h.
 *
 * Every step runs the input, then what follows from it: own events that may go on their way, a
 * leader's duties, whether to yield or to begin a fork, what peers should be told. */
#include "cluster/cluster_impl.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

#define LEARNER_HEARTBEAT_MS 1000
#define KEPT_BYTES           16384 /* of memory, from one step to the next */

/* ---- actions ---- */

void exo_cluster_actions_finish(exo_cluster_actions *a) {
    exo_free(a->items);
    memset(a, 0, sizeof *a);
}

void exo_cluster_fail(exo_cluster *c, exo_status st) {
    if (c->status == EXO_OK) c->status = st;
}

exo_cluster_action *exo_cluster_emit(exo_cluster *c, exo_cluster_action_kind kind) {
    static exo_cluster_action lost; /* what is written to it is dropped with the step */
    exo_cluster_actions *a = c->out;
    if (exo_grow((void **)&a->items, &a->cap, a->n + 1, sizeof *a->items) != 0) {
        exo_cluster_fail(c, EXO_ENOMEM);
        return &lost;
    }
    exo_cluster_action *action = &a->items[a->n++];
    memset(action, 0, sizeof *action);
    action->kind = kind;
    return action;
}

void *exo_cluster_keep(exo_cluster *c, const void *bytes, size_t n) {
    void *copy = exo_arena_alloc(&c->arena, n > 0 ? n : 1);
    if (copy == NULL) {
        exo_cluster_fail(c, EXO_ENOMEM);
    } else if (n > 0) {
        memcpy(copy, bytes, n);
    }
    return copy;
}

uint64_t exo_cluster_draw(exo_cluster *c) { /* splitmix64 */
    uint64_t z = c->rng += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return z != 0 ? z : 1;
}

/* ---- life ---- */

static exo_status restore(exo_cluster *c, const exo_cluster_stored *s, exo_error *err) {
    exo_raft_desc d = {.id = s->member,
                       .seed = exo_cluster_draw(c),
                       .heartbeat_ms = c->heartbeat_ms,
                       .election_ms = c->election_ms,
                       .learner_heartbeat_ms = LEARNER_HEARTBEAT_MS,
                       .term = s->term,
                       .vote = s->vote,
                       .snapshot = s->snapshot,
                       .entries = s->entries,
                       .n_entries = s->n_entries};
    exo_status st = exo_raft_create(&d, c->now_ms, &c->raft, err);
    if (st == EXO_OK && s->n_carry > 0) {
        st = exo_state_read(s->carry, s->n_carry, &c->carry, err);
        c->has_carry = st == EXO_OK;
    }
    if (st == EXO_OK && s->snapshot != NULL) {
        st = exo_state_read(s->snapshot->image, s->snapshot->n_image, &c->state, err);
    } else if (st == EXO_OK && c->has_carry) { /* it was about to be taken into this log */
        st = exo_state_read(s->carry, s->n_carry, &c->state, err);
    }
    c->log_id = s->log_id;
    c->member = s->member;
    c->begin = s->damaged;
    c->leaderless_ms = c->now_ms;
    return st;
}

exo_status exo_cluster_create(const exo_cluster_desc *d, uint64_t now_ms, exo_cluster **out,
                              exo_error *err) {
    *out = NULL;
    exo_cluster *c = exo_calloc(1, sizeof *c);
    if (c == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for the cluster");
    c->node = d->node;
    snprintf(c->name, sizeof c->name, "%s", d->name);
    c->voter_ok = d->voter_ok;
    c->alone = d->alone;
    c->heartbeat_ms = d->heartbeat_ms;
    c->election_ms = d->election_ms;
    c->kept_entries = d->kept_entries != 0 ? d->kept_entries : EXO_CLUSTER_KEPT;
    c->rng = d->seed;
    c->unix_ms = d->unix_ms;
    c->session = d->session;
    c->started_ms = c->now_ms = now_ms;
    c->begin = true;
    if (d->stored.log_id != 0) {
        exo_status st = restore(c, &d->stored, err);
        if (st != EXO_OK) {
            exo_cluster_destroy(c);
            return st;
        }
    }
    *out = c;
    return EXO_OK;
}

void exo_cluster_destroy(exo_cluster *c) {
    if (c == NULL) return;
    exo_raft_destroy(c->raft);
    exo_raft_actions_finish(&c->raft_out);
    exo_state_finish(&c->state);
    exo_state_finish(&c->carry);
    exo_free(c->waiting);
    exo_free(c->peers);
    exo_free(c->joins);
    exo_arena_finish(&c->arena);
    exo_buf_finish(&c->bytes);
    exo_free(c);
}

/* ---- a step ---- */

static void tick(exo_cluster *c) {
    if (c->now_ms < exo_raft_deadline(c->raft)) return;
    exo_status st = exo_raft_tick(c->raft, c->now_ms, &c->raft_out, c->err);
    if (st != EXO_OK) exo_cluster_fail(c, st);
    exo_cluster_take(c);
}

static exo_status take_input(exo_cluster *c, const exo_cluster_input *in, exo_error *err) {
    switch (in->kind) {
    case EXO_CLUSTER_TICK: break;
    case EXO_CLUSTER_PEER_UP: exo_cluster_peer_up(c, in->node); break;
    case EXO_CLUSTER_PEER_DOWN: exo_cluster_peer_down(c, in->node); break;
    case EXO_CLUSTER_PROPOSE: exo_cluster_propose(c, in->event, in->tag); break;
    case EXO_CLUSTER_MESSAGE:
        return exo_cluster_on_message(c, in->node, in->bytes, in->n_bytes, err);
    }
    return EXO_OK;
}

static bool is_busy(const exo_cluster *c) {
    return c->n_waiting > 0 || c->leaderless_ms != 0 || c->yield_to != 0 || c->n_joins > 0 ||
           c->has_carry || c->members_changed;
}

/* What is under way by itself. */
static void look(exo_cluster *c) {
    if (c->now_ms >= c->own_at_ms) {
        exo_cluster_bring(c);
        exo_cluster_reconsider(c);
    }
    exo_cluster_push_waiting(c);
    exo_cluster_lead(c);
    exo_cluster_compact(c);
    exo_cluster_tell(c);
    if (c->now_ms >= c->own_at_ms) {
        c->own_at_ms = c->now_ms + (is_busy(c) ? EXO_CLUSTER_OWN_MS : EXO_CLUSTER_IDLE_MS);
    }
}

/* What one large step took is given back; a usual one allocates nothing. */
static void clear(exo_arena *a) {
    if (a->used_bytes > KEPT_BYTES) {
        exo_arena_finish(a);
    } else {
        exo_arena_clear(a);
    }
}

exo_status exo_cluster_step(exo_cluster *c, const exo_cluster_input *in, uint64_t now_ms,
                            exo_cluster_actions *out, exo_error *err) {
    exo_error ignored;
    out->n = 0;
    if (err == NULL) err = &ignored;
    if (c->broken) return exo_error_set(err, EXO_EINTERNAL, "this cluster has failed before");
    clear(&c->arena);
    c->out = out;
    c->err = err;
    c->now_ms = now_ms;
    c->status = EXO_OK;
    if (c->begin) {
        c->begin = false;
        exo_cluster_begin_log(c, c->log_id != 0);
    }
    exo_status refused = EXO_OK;
    exo_error why = {0};
    if (c->status == EXO_OK) refused = take_input(c, in, &why);
    if (c->status == EXO_OK) tick(c);
    if (c->status == EXO_OK) look(c);
    if (c->status == EXO_OK) {
        if (refused != EXO_OK) *err = why;
        return refused;
    }
    c->broken = true;
    out->n = 0;
    return exo_error_set(err, c->status,
                         c->status == EXO_ENOMEM ? "no memory for the cluster"
                                                 : "the cluster's log contradicts itself");
}

uint64_t exo_cluster_deadline(const exo_cluster *c) {
    if (c->begin) return c->started_ms;
    uint64_t at = exo_raft_deadline(c->raft);
    bool soon = is_busy(c) && c->own_at_ms > c->now_ms + EXO_CLUSTER_OWN_MS;
    uint64_t own = soon ? c->now_ms + EXO_CLUSTER_OWN_MS : c->own_at_ms;
    return own < at ? own : at;
}

/* ---- questions ---- */

const exo_state *exo_cluster_state_of(const exo_cluster *c) { return &c->state; }
uint64_t exo_cluster_log_id(const exo_cluster *c) { return c->log_id; }
const exo_raft *exo_cluster_raft(const exo_cluster *c) { return c->raft; }
size_t exo_cluster_waiting(const exo_cluster *c) { return c->n_waiting; }

uint64_t exo_cluster_master(const exo_cluster *c) { return c->master; }

uint64_t exo_cluster_term(const exo_cluster *c) {
    if (c->raft == NULL) return 0;
    return exo_raft_term(c->raft) * EXO_CLUSTER_TERM_STEP +
           c->state.fork_slot % EXO_CLUSTER_TERM_STEP;
}

bool exo_cluster_provisional(const exo_cluster *c) { return exo_state_is_provisional(&c->state); }

bool exo_cluster_is_voter(const exo_cluster *c, uint64_t node) {
    const exo_state_node *s = exo_state_node_of(&c->state, node);
    uint32_t n = 0;
    if (s == NULL || s->member == 0 || c->raft == NULL) return false;
    const exo_raft_member *m = exo_raft_members(c->raft, &n);
    for (uint32_t i = 0; i < n; i++) {
        if (m[i].id == s->member) return m[i].voter;
    }
    return false;
}
