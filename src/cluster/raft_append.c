/* raft_append.c - replication: the leader sends its log, followers take it, a majority commits it.
 *
 * The leader sends ahead without waiting, and learns from a refusal where to begin again; a lost
 * message shows at the next heartbeat, because that names the entry it follows. */
#include "cluster/raft_impl.h"

/* ---- committing ---- */

static void apply(exo_raft *r) {
    while (r->applied < r->commit && r->status == EXO_OK) {
        r->applied++;
        exo_raft_action *a = exo_raft_emit(r, EXO_RAFT_APPLY);
        a->entries = exo_raft_log_at(&r->log, r->applied);
        a->n_entries = 1;
    }
}

static void commit_to(exo_raft *r, uint64_t index) {
    if (index <= r->commit) return;
    r->commit = index;
    apply(r);
}

void exo_raft_advance_commit(exo_raft *r) {
    uint64_t match[EXO_RAFT_MAX_VOTERS];
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->n_peers; i++) {
        const exo_raft_peer *p = &r->peers[i];
        if (!p->voter) continue;
        uint64_t m = p->id == r->id ? exo_raft_log_last(&r->log) : p->match;
        uint32_t at = n++;
        for (; at > 0 && match[at - 1] < m; at--) match[at] = match[at - 1];
        match[at] = m; /* descending */
    }
    uint64_t index = match[exo_raft_majority(r) - 1];
    if (index <= r->commit || exo_raft_log_term(&r->log, index) != r->term) return;
    commit_to(r, index);
    exo_raft_replicate_all(r);
    /* A leader that is no member any more has done its last work. */
    if (r->config_at <= r->commit && !exo_raft_may_stand(r)) {
        exo_raft_become_follower(r, r->term, 0);
    }
}

void exo_raft_append_own(exo_raft *r, exo_raft_entry_kind kind, const void *bytes, uint32_t n) {
    exo_raft_entry e = {.index = exo_raft_log_last(&r->log) + 1,
                        .term = r->term,
                        .kind = kind,
                        .n_bytes = n,
                        .bytes = bytes};
    if (!exo_raft_log_append(&r->log, &e)) {
        r->status = EXO_ENOMEM;
        return;
    }
    exo_raft_action *a = exo_raft_emit(r, EXO_RAFT_PERSIST_ENTRIES);
    a->entries = exo_raft_log_at(&r->log, e.index);
    a->n_entries = 1;
    if (kind == EXO_RAFT_CONFIG) exo_raft_read_config(r);
    if (r->status != EXO_OK) return;
    exo_raft_replicate_all(r);
    exo_raft_advance_commit(r);
}

/* ---- sending ---- */

static void send_snapshot(exo_raft *r, exo_raft_peer *p) {
    if (r->now_ms < p->snapshot_until_ms) return;
    p->snapshot_until_ms = r->now_ms + EXO_RAFT_SNAPSHOT_MS;
    p->probing = true;
    exo_raft_message m = {
        .type = EXO_RAFT_SNAPSHOT, .to = p->id, .term = r->term, .snapshot = &r->log.snapshot};
    exo_raft_send(r, &m);
}

static uint32_t entries_to_send(const exo_raft *r, const exo_raft_peer *p) {
    uint32_t n = 0;
    uint64_t bytes = 0;
    while (n < EXO_RAFT_MAX_SENT_ENTRIES) {
        const exo_raft_entry *e = exo_raft_log_at(&r->log, p->next + n);
        if (e == NULL || e->index > p->match + EXO_RAFT_MAX_AHEAD) break;
        bytes += e->n_bytes;
        if (n > 0 && bytes > EXO_RAFT_MAX_SENT_BYTES) break;
        n++;
    }
    return n;
}

static void send_append(exo_raft *r, exo_raft_peer *p, uint32_t n, bool may_wait) {
    exo_raft_message m = {.type = EXO_RAFT_APPEND,
                          .may_wait = may_wait,
                          .to = p->id,
                          .term = r->term,
                          .index = p->next - 1,
                          .log_term = exo_raft_log_term(&r->log, p->next - 1),
                          .commit = r->commit,
                          .n_entries = n,
                          .entries = exo_raft_log_at(&r->log, p->next)};
    exo_raft_send(r, &m);
    if (!p->probing) p->next += n;
}

void exo_raft_replicate(exo_raft *r, exo_raft_peer *p, bool heartbeat) {
    if (heartbeat) {
        p->send_at_ms = r->now_ms + (p->voter ? r->heartbeat_ms : r->learner_heartbeat_ms);
    }
    if (p->next <= r->log.snapshot.index) {
        send_snapshot(r, p);
        if (!heartbeat) return;
        /* The silence while it travels must not look like a dead leader. */
        exo_raft_message m = {.type = EXO_RAFT_APPEND,
                              .to = p->id,
                              .term = r->term,
                              .index = r->log.snapshot.index,
                              .log_term = r->log.snapshot.term};
        exo_raft_send(r, &m);
        return;
    }
    if (p->probing && !heartbeat) return;
    uint32_t n = entries_to_send(r, p);
    send_append(r, p, n, heartbeat && n == 0);
    while (!p->probing && (n = entries_to_send(r, p)) > 0) send_append(r, p, n, false);
}

void exo_raft_replicate_all(exo_raft *r) {
    for (uint32_t i = 0; i < r->n_peers && r->role == EXO_RAFT_LEADER; i++) {
        if (r->peers[i].id != r->id) exo_raft_replicate(r, &r->peers[i], false);
    }
}

/* ---- a follower ---- */

static void reply_append(exo_raft *r, const exo_raft_message *m, uint64_t index) {
    bool beat = m->type == EXO_RAFT_APPEND && m->n_entries == 0;
    exo_raft_message reply = {.type = EXO_RAFT_APPEND_REPLY,
                              .to = m->from,
                              .term = r->term,
                              .index = index,
                              .may_wait = beat && index <= m->commit};
    exo_raft_send(r, &reply);
}

static void refuse_append(exo_raft *r, const exo_raft_message *m) {
    exo_raft_message reply = {.type = EXO_RAFT_APPEND_REPLY,
                              .to = m->from,
                              .term = r->term,
                              .index = m->index,
                              .hint = exo_raft_log_meet(&r->log, m->index, m->log_term),
                              .refused = true};
    exo_raft_send(r, &reply);
}

static void follow(exo_raft *r, const exo_raft_message *m) {
    if (r->role != EXO_RAFT_FOLLOWER || r->leader != m->from) {
        exo_raft_become_follower(r, m->term, m->from);
    }
    r->heard_leader_ms = r->now_ms;
    exo_raft_wait_for_leader(r);
}

/* Takes the entries from the first on that this log does not have; what stood there goes. */
static void take_entries(exo_raft *r, const exo_raft_message *m) {
    uint32_t i = 0;
    while (i < m->n_entries &&
           exo_raft_log_term(&r->log, m->entries[i].index) == m->entries[i].term) {
        i++;
    }
    if (i == m->n_entries) return;
    uint64_t from = m->entries[i].index;
    if (from <= r->commit) { /* what is committed cannot change: a bug, here or there */
        r->status = EXO_EINTERNAL;
        return;
    }
    exo_raft_log_truncate(&r->log, from);
    bool config = r->config_at >= from;
    for (uint32_t k = i; k < m->n_entries; k++) {
        config = config || m->entries[k].kind == EXO_RAFT_CONFIG;
        if (!exo_raft_log_append(&r->log, &m->entries[k])) r->status = EXO_ENOMEM;
        if (r->status != EXO_OK) return;
    }
    exo_raft_action *a = exo_raft_emit(r, EXO_RAFT_PERSIST_ENTRIES);
    a->entries = exo_raft_log_at(&r->log, from);
    a->n_entries = m->n_entries - i;
    if (config) exo_raft_read_config(r);
}

void exo_raft_on_append(exo_raft *r, const exo_raft_message *m) {
    follow(r, m);
    if (m->index < r->commit) { /* old; everything committed is there */
        reply_append(r, m, r->commit);
        return;
    }
    bool known = m->index <= exo_raft_log_last(&r->log) &&
                 exo_raft_log_term(&r->log, m->index) == m->log_term;
    if (!known) {
        refuse_append(r, m);
        return;
    }
    take_entries(r, m);
    if (r->status != EXO_OK) return;
    uint64_t last = m->index + m->n_entries;
    commit_to(r, m->commit < last ? m->commit : last);
    reply_append(r, m, last);
}

void exo_raft_on_snapshot(exo_raft *r, const exo_raft_message *m) {
    follow(r, m);
    const exo_raft_snapshot *s = m->snapshot;
    if (s->index <= r->commit) {
        reply_append(r, m, r->commit);
        return;
    }
    bool keep = exo_raft_log_term(&r->log, s->index) == s->term;
    if (!exo_raft_log_set_snapshot(&r->log, s)) {
        r->status = EXO_ENOMEM;
        return;
    }
    exo_raft_action *a = exo_raft_emit(r, EXO_RAFT_PERSIST_SNAPSHOT);
    a->snapshot = &r->log.snapshot;
    a->keep = keep;
    r->commit = r->applied = s->index;
    a = exo_raft_emit(r, EXO_RAFT_RESTORE);
    a->snapshot = &r->log.snapshot;
    exo_raft_read_config(r);
    reply_append(r, m, s->index);
}

/* ---- the leader hears ---- */

static void on_refusal(exo_raft *r, exo_raft_peer *p, const exo_raft_message *m) {
    if (m->index <= p->match) return;                            /* old: it has said yes since */
    if (p->probing && m->index != p->next - 1) return;           /* old: about another entry */
    uint64_t hint = m->hint < m->index ? m->hint : m->index - 1; /* index is above match, above 0 */
    p->next = hint > p->match ? hint + 1 : p->match + 1;
    p->probing = true;
    if (p->next <= r->log.snapshot.index) {
        send_snapshot(r, p);
    } else {
        send_append(r, p, entries_to_send(r, p), false);
    }
}

void exo_raft_on_append_reply(exo_raft *r, const exo_raft_message *m) {
    exo_raft_peer *p = exo_raft_find(r, m->from);
    if (r->role != EXO_RAFT_LEADER || p == NULL) return;
    p->heard_ms = r->now_ms;
    if (m->refused) {
        on_refusal(r, p, m);
        return;
    }
    if (m->index > exo_raft_log_last(&r->log)) return; /* of another log than ours */
    bool was_probing = p->probing;
    p->probing = false;
    p->snapshot_until_ms = 0;
    if (m->index > p->match) p->match = m->index;
    if (was_probing || p->next <= p->match) p->next = p->match + 1;
    uint64_t commit = r->commit;
    exo_raft_advance_commit(r); /* which sends to everyone when it commits */
    bool more = p->next <= exo_raft_log_last(&r->log);
    if (r->role == EXO_RAFT_LEADER && r->commit == commit && more) exo_raft_replicate(r, p, false);
}
