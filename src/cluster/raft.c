/* raft.c - life, time, terms and roles of a node's part in Raft; see raft.h.
 *
 * Every event runs between begin() and end(): time is set, the list of actions is empty, and a
 * failure on the way (memory, or a contradiction that only a bug can make) leaves the log broken
 * rather than half changed. */
#include "cluster/raft_impl.h"

#include "base/mem.h"

#include <string.h>

#define DEFAULT_HEARTBEAT_MS         100
#define DEFAULT_LEARNER_HEARTBEAT_MS 1000
#define DEFAULT_ELECTION_MS          500

/* ---- actions ---- */

void exo_raft_actions_finish(exo_raft_actions *a) {
    exo_free(a->items);
    memset(a, 0, sizeof *a);
}

exo_raft_action *exo_raft_emit(exo_raft *r, exo_raft_action_kind kind) {
    static exo_raft_action lost; /* what is written to it is dropped with the call */
    exo_raft_actions *a = r->out;
    if (exo_grow((void **)&a->items, &a->cap, a->n + 1, sizeof *a->items) != 0) {
        r->status = EXO_ENOMEM;
        return &lost;
    }
    exo_raft_action *action = &a->items[a->n++];
    memset(action, 0, sizeof *action);
    action->kind = kind;
    return action;
}

void exo_raft_send(exo_raft *r, const exo_raft_message *m) {
    exo_raft_action *a = exo_raft_emit(r, EXO_RAFT_SEND);
    a->message = *m;
    a->message.from = r->id;
}

void exo_raft_persist_vote(exo_raft *r) {
    exo_raft_action *a = exo_raft_emit(r, EXO_RAFT_PERSIST_VOTE);
    a->term = r->term;
    a->vote = r->vote;
}

/* ---- roles ---- */

static uint64_t draw(exo_raft *r) { /* splitmix64 */
    uint64_t z = r->rng += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

void exo_raft_wait_for_leader(exo_raft *r) {
    r->election_at_ms = r->now_ms + r->election_ms + draw(r) % r->election_ms;
    if (!exo_raft_may_stand(r)) r->election_at_ms += 3 * (uint64_t)r->learner_heartbeat_ms;
}

void exo_raft_set_role(exo_raft *r, exo_raft_role role, exo_raft_id leader) {
    bool same = r->role == role && r->leader == leader;
    r->role = role;
    r->leader = leader;
    if (!same) exo_raft_emit(r, EXO_RAFT_ROLE);
}

void exo_raft_become_follower(exo_raft *r, uint64_t term, exo_raft_id leader) {
    if (term > r->term) {
        r->term = term;
        r->vote = 0;
        exo_raft_persist_vote(r);
    }
    exo_raft_set_role(r, EXO_RAFT_FOLLOWER, leader);
    exo_raft_wait_for_leader(r);
}

void exo_raft_become_leader(exo_raft *r) {
    for (uint32_t i = 0; i < r->n_peers; i++) {
        exo_raft_peer *p = &r->peers[i];
        p->probing = true;
        p->next = exo_raft_log_last(&r->log) + 1;
        p->match = 0;
        p->heard_ms = r->now_ms;
        p->send_at_ms = r->now_ms;
        p->snapshot_until_ms = 0;
    }
    r->quorum_at_ms = r->now_ms + r->election_ms;
    r->next_send_ms = r->n_peers > 1 ? r->now_ms : UINT64_MAX;
    exo_raft_set_role(r, EXO_RAFT_LEADER, r->id);
    /* Entries of earlier terms are committed with one of this term only. */
    exo_raft_append_own(r, EXO_RAFT_NOOP, NULL, 0);
}

/* ---- life ---- */

static exo_status check_config(const uint8_t *bytes, uint32_t n_bytes, exo_error *err) {
    uint32_t n;
    exo_raft_member *m = exo_malloc((n_bytes / EXO_RAFT_MEMBER_BYTES + 1) * sizeof *m);
    if (m == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for the cluster's log");
    exo_status st = exo_raft_config_read(bytes, n_bytes, m, &n, err);
    exo_free(m);
    return st;
}

static exo_status check_persisted(const exo_raft_desc *d, exo_error *err) {
    uint64_t index = d->snapshot != NULL ? d->snapshot->index : 0;
    uint64_t term = d->snapshot != NULL ? d->snapshot->term : 0;
    exo_status st = EXO_OK;
    if (d->snapshot != NULL) st = check_config(d->snapshot->config, d->snapshot->n_config, err);
    for (uint32_t i = 0; i < d->n_entries && st == EXO_OK; i++) {
        const exo_raft_entry *e = &d->entries[i];
        if (e->index != index + 1 || e->term < term || e->term > d->term) {
            st = exo_error_set(err, EXO_EFORMAT,
                               "entry %llu of term %llu stands behind entry %llu of term %llu",
                               (unsigned long long)e->index, (unsigned long long)e->term,
                               (unsigned long long)index, (unsigned long long)term);
        } else if (e->kind == EXO_RAFT_CONFIG) {
            st = check_config(e->bytes, e->n_bytes, err);
        }
        index = e->index;
        term = e->term;
    }
    if (st == EXO_OK && term > d->term) {
        st = exo_error_set(err, EXO_EFORMAT, "the log is of term %llu, the node of term %llu",
                           (unsigned long long)term, (unsigned long long)d->term);
    }
    return st;
}

exo_status exo_raft_create(const exo_raft_desc *d, uint64_t now_ms, exo_raft **out,
                           exo_error *err) {
    *out = NULL;
    exo_status st = check_persisted(d, err);
    if (st != EXO_OK) return st;
    exo_raft *r = exo_calloc(1, sizeof *r);
    if (r == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for the cluster's log");
    r->id = d->id;
    r->rng = d->seed;
    r->heartbeat_ms = d->heartbeat_ms != 0 ? d->heartbeat_ms : DEFAULT_HEARTBEAT_MS;
    r->learner_heartbeat_ms =
        d->learner_heartbeat_ms != 0 ? d->learner_heartbeat_ms : DEFAULT_LEARNER_HEARTBEAT_MS;
    r->election_ms = d->election_ms != 0 ? d->election_ms : DEFAULT_ELECTION_MS;
    r->term = d->term;
    r->vote = d->vote;
    r->now_ms = now_ms;
    bool fits = d->snapshot == NULL || exo_raft_log_set_snapshot(&r->log, d->snapshot);
    for (uint32_t i = 0; i < d->n_entries && fits; i++) {
        fits = exo_raft_log_append(&r->log, &d->entries[i]);
    }
    r->commit = r->applied = r->log.snapshot.index;
    if (fits) exo_raft_read_config(r);
    if (!fits || r->status != EXO_OK) {
        exo_raft_destroy(r);
        return exo_error_set(err, EXO_ENOMEM, "no memory for the cluster's log");
    }
    exo_raft_wait_for_leader(r);
    if (exo_raft_may_stand(r) && exo_raft_majority(r) == 1) r->election_at_ms = now_ms;
    *out = r;
    return EXO_OK;
}

void exo_raft_destroy(exo_raft *r) {
    if (r == NULL) return;
    exo_raft_log_finish(&r->log);
    exo_free(r->peers);
    exo_free(r->members);
    exo_free(r);
}

/* ---- events ---- */

static exo_status begin(exo_raft *r, exo_raft_actions *out, exo_error *err) {
    out->n = 0;
    if (r->broken) return exo_error_set(err, EXO_EINTERNAL, "this log has failed before");
    r->out = out;
    r->status = EXO_OK;
    return EXO_OK;
}

static exo_status end(exo_raft *r, exo_error *err) {
    if (r->status == EXO_OK) return EXO_OK;
    r->broken = true;
    r->out->n = 0;
    return exo_error_set(err, r->status,
                         r->status == EXO_ENOMEM ? "no memory for the cluster's log"
                                                 : "the cluster's log contradicts itself");
}

/* A leader that no majority answers cannot know whether it still leads. */
static void check_quorum(exo_raft *r) {
    uint32_t heard = 0;
    for (uint32_t i = 0; i < r->n_peers; i++) {
        const exo_raft_peer *p = &r->peers[i];
        if (!p->voter) continue;
        heard += p->id == r->id || p->heard_ms + r->election_ms > r->now_ms;
    }
    r->quorum_at_ms = r->now_ms + r->election_ms;
    if (heard < exo_raft_majority(r)) exo_raft_become_follower(r, r->term, 0);
}

static void send_heartbeats(exo_raft *r) {
    uint64_t next = UINT64_MAX;
    for (uint32_t i = 0; i < r->n_peers; i++) {
        exo_raft_peer *p = &r->peers[i];
        if (p->id == r->id) continue;
        if (r->now_ms >= p->send_at_ms) exo_raft_replicate(r, p, true);
        if (p->send_at_ms < next) next = p->send_at_ms;
    }
    r->next_send_ms = next;
}

exo_status exo_raft_tick(exo_raft *r, uint64_t now_ms, exo_raft_actions *out, exo_error *err) {
    exo_status st = begin(r, out, err);
    if (st != EXO_OK) return st;
    r->now_ms = now_ms;
    if (r->role == EXO_RAFT_LEADER && now_ms >= r->quorum_at_ms) check_quorum(r);
    if (r->role == EXO_RAFT_LEADER) {
        if (now_ms >= r->next_send_ms) send_heartbeats(r);
    } else if (now_ms >= r->election_at_ms) {
        if (exo_raft_may_stand(r)) {
            exo_raft_campaign(r, true);
        } else {
            exo_raft_become_follower(r, r->term, 0); /* the leader is gone; wait for another */
        }
    }
    return end(r, err);
}

uint64_t exo_raft_deadline(const exo_raft *r) {
    if (r->role != EXO_RAFT_LEADER) return r->election_at_ms;
    return r->quorum_at_ms < r->next_send_ms ? r->quorum_at_ms : r->next_send_ms;
}

/* An old term's message is not obeyed.  Its sender learns of the new term where it would otherwise
 * go on for ever: a leader that nobody told, a node whose log lags behind its term. */
static void answer_old(exo_raft *r, const exo_raft_message *m) {
    exo_raft_message reply = {.to = m->from, .term = r->term, .refused = true};
    if (m->type == EXO_RAFT_APPEND || m->type == EXO_RAFT_SNAPSHOT) {
        reply.type = EXO_RAFT_APPEND_REPLY;
    } else if (m->type == EXO_RAFT_PRE_VOTE) {
        reply.type = EXO_RAFT_PRE_VOTE_REPLY;
    } else {
        return;
    }
    exo_raft_send(r, &reply);
}

/* While a leader is heard, nobody else is voted for, unless the leader itself asks for it. */
static bool content(const exo_raft *r, const exo_raft_message *m) {
    if (m->hand_over) return false;
    if (r->role == EXO_RAFT_LEADER) return true;
    return r->leader != 0 && r->now_ms < r->heard_leader_ms + r->election_ms;
}

static void take_term(exo_raft *r, const exo_raft_message *m) {
    bool promise =
        m->type == EXO_RAFT_PRE_VOTE || (m->type == EXO_RAFT_PRE_VOTE_REPLY && !m->refused);
    if (m->term <= r->term || promise) return;
    bool from_leader = m->type == EXO_RAFT_APPEND || m->type == EXO_RAFT_SNAPSHOT;
    exo_raft_become_follower(r, m->term, from_leader ? m->from : 0);
}

static void on_timeout_now(exo_raft *r, const exo_raft_message *m) {
    if (m->from != r->leader || !exo_raft_may_stand(r)) return;
    r->hand_over = true;
    exo_raft_campaign(r, false);
}

static void dispatch(exo_raft *r, const exo_raft_message *m) {
    bool asks = m->type == EXO_RAFT_VOTE || m->type == EXO_RAFT_PRE_VOTE;
    if (asks && content(r, m)) return;
    take_term(r, m);
    if (m->term < r->term) {
        answer_old(r, m);
        return;
    }
    switch (m->type) {
    case EXO_RAFT_PRE_VOTE:
    case EXO_RAFT_VOTE: exo_raft_on_vote(r, m); break;
    case EXO_RAFT_PRE_VOTE_REPLY:
    case EXO_RAFT_VOTE_REPLY: exo_raft_on_vote_reply(r, m); break;
    case EXO_RAFT_APPEND: exo_raft_on_append(r, m); break;
    case EXO_RAFT_APPEND_REPLY: exo_raft_on_append_reply(r, m); break;
    case EXO_RAFT_SNAPSHOT: exo_raft_on_snapshot(r, m); break;
    case EXO_RAFT_TIMEOUT_NOW: on_timeout_now(r, m); break;
    }
}

/* What no correct node sends is refused before anything changes. */
static exo_status check_message(const exo_raft *r, const exo_raft_message *m, exo_error *err) {
    if (m->from == 0 || m->from == r->id || m->to != r->id) {
        return exo_error_set(err, EXO_EFORMAT, "a message from node %016llx to node %016llx",
                             (unsigned long long)m->from, (unsigned long long)m->to);
    }
    if (m->type < EXO_RAFT_PRE_VOTE || m->type > EXO_RAFT_TIMEOUT_NOW) {
        return exo_error_set(err, EXO_EFORMAT, "messages of type %d do not exist", m->type);
    }
    bool leads = r->role == EXO_RAFT_LEADER && m->term == r->term;
    if (leads && (m->type == EXO_RAFT_APPEND || m->type == EXO_RAFT_SNAPSHOT)) {
        return exo_error_set(err, EXO_EFORMAT, "node %016llx leads term %llu as well as this node",
                             (unsigned long long)m->from, (unsigned long long)m->term);
    }
    exo_raft_desc d = {.term = m->term};
    if (m->type == EXO_RAFT_SNAPSHOT) {
        if (m->snapshot == NULL || m->snapshot->index == 0) {
            return exo_error_set(err, EXO_EFORMAT, "a snapshot message without snapshot");
        }
        d.snapshot = m->snapshot;
        return check_persisted(&d, err);
    }
    exo_raft_snapshot before = {.index = m->index, .term = m->log_term};
    exo_raft_member self = {r->id, true};
    uint8_t config[EXO_RAFT_MEMBER_BYTES];
    exo_raft_config_write(&self, 1, config);
    before.config = config; /* any valid one: entries are checked against index and term only */
    before.n_config = sizeof config;
    if (m->type != EXO_RAFT_APPEND || m->n_entries == 0) return EXO_OK;
    d.snapshot = &before;
    d.entries = m->entries;
    d.n_entries = m->n_entries;
    return check_persisted(&d, err);
}

exo_status exo_raft_receive(exo_raft *r, const exo_raft_message *m, uint64_t now_ms,
                            exo_raft_actions *out, exo_error *err) {
    exo_status st = begin(r, out, err);
    if (st == EXO_OK) st = check_message(r, m, err);
    if (st != EXO_OK) return st;
    r->now_ms = now_ms;
    dispatch(r, m);
    return end(r, err);
}

exo_status exo_raft_propose(exo_raft *r, const void *bytes, uint32_t n, exo_raft_actions *out,
                            uint64_t *index, exo_error *err) {
    *index = 0;
    exo_status st = begin(r, out, err);
    if (st != EXO_OK) return st;
    if (n > EXO_RAFT_MAX_COMMAND_BYTES) {
        return exo_error_set(err, EXO_ETOOLONG, "a command of %u bytes; %u at most", n,
                             EXO_RAFT_MAX_COMMAND_BYTES);
    }
    if (r->role != EXO_RAFT_LEADER) {
        return exo_error_set(err, EXO_EBUSY, "this node does not lead");
    }
    exo_raft_append_own(r, EXO_RAFT_COMMAND, bytes, n);
    *index = exo_raft_log_last(&r->log);
    return end(r, err);
}

exo_status exo_raft_compact(exo_raft *r, const void *image, uint32_t n, exo_raft_actions *out,
                            exo_error *err) {
    exo_status st = begin(r, out, err);
    if (st != EXO_OK || r->applied == r->log.snapshot.index) return st;
    exo_raft_snapshot s = {.index = r->applied,
                           .term = exo_raft_log_term(&r->log, r->applied),
                           .n_image = n,
                           .image = image};
    uint64_t at = 0;
    s.config = exo_raft_log_config(&r->log, r->applied, &s.n_config, &at);
    if (!exo_raft_log_set_snapshot(&r->log, &s)) r->status = EXO_ENOMEM;
    exo_raft_action *a = exo_raft_emit(r, EXO_RAFT_PERSIST_SNAPSHOT);
    a->snapshot = &r->log.snapshot;
    a->keep = true;
    return end(r, err);
}

exo_status exo_raft_hand_over(exo_raft *r, exo_raft_id to, exo_raft_actions *out, exo_error *err) {
    exo_status st = begin(r, out, err);
    if (st != EXO_OK) return st;
    const exo_raft_peer *p = exo_raft_find(r, to);
    if (r->role != EXO_RAFT_LEADER || p == NULL || !p->voter || to == r->id ||
        p->match != exo_raft_log_last(&r->log)) {
        return exo_error_set(err, EXO_EBUSY, "node %016llx cannot lead now",
                             (unsigned long long)to);
    }
    exo_raft_message m = {.type = EXO_RAFT_TIMEOUT_NOW, .to = to, .term = r->term};
    exo_raft_send(r, &m);
    return end(r, err);
}

exo_status exo_raft_lost(exo_raft *r, exo_raft_id id, uint64_t now_ms, exo_raft_actions *out,
                         exo_error *err) {
    exo_status st = begin(r, out, err);
    if (st != EXO_OK || id == r->id || r->leader != id) return st;
    r->now_ms = now_ms;
    exo_raft_become_follower(r, r->term, 0);
    /* The others lose it at about the same time; who draws the least asks first. */
    if (exo_raft_may_stand(r)) r->election_at_ms = now_ms + draw(r) % (r->election_ms / 2) + 1;
    return end(r, err);
}

exo_status exo_raft_raise_term(exo_raft *r, uint64_t term, uint64_t now_ms, exo_raft_actions *out,
                               exo_error *err) {
    exo_status st = begin(r, out, err);
    if (st != EXO_OK || term <= r->term) return st;
    r->now_ms = now_ms;
    exo_raft_become_follower(r, term, 0);
    if (exo_raft_may_stand(r) && exo_raft_majority(r) == 1) r->election_at_ms = now_ms;
    return end(r, err);
}

/* ---- questions ---- */

exo_raft_role exo_raft_role_of(const exo_raft *r) { return r->role; }
exo_raft_id exo_raft_leader(const exo_raft *r) { return r->leader; }
uint64_t exo_raft_term(const exo_raft *r) { return r->term; }
uint64_t exo_raft_commit_index(const exo_raft *r) { return r->commit; }
uint64_t exo_raft_last_index(const exo_raft *r) { return exo_raft_log_last(&r->log); }
uint64_t exo_raft_applied_index(const exo_raft *r) { return r->applied; }
uint64_t exo_raft_kept_entries(const exo_raft *r) { return r->log.n; }

const exo_raft_entry *exo_raft_entry_at(const exo_raft *r, uint64_t index) {
    return exo_raft_log_at(&r->log, index);
}

const exo_raft_member *exo_raft_members(const exo_raft *r, uint32_t *n) {
    *n = r->n_peers;
    return r->members;
}

uint64_t exo_raft_match_index(const exo_raft *r, exo_raft_id id) {
    const exo_raft_peer *p = exo_raft_find(r, id);
    if (r->role != EXO_RAFT_LEADER || p == NULL) return 0;
    return id == r->id ? exo_raft_log_last(&r->log) : p->match;
}
