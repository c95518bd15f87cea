/* raft_config.c - who the members are, and changes by one voter at a time.
 *
 * A CONFIG entry counts from the moment it stands in a log, committed or not; when it is cut off
 * again, the one before it counts.  Since two configurations that follow each other differ by one
 * voter, their majorities overlap, and no joint phase is needed. */
#include "base/le.h"
#include "base/mem.h"
#include "cluster/raft_impl.h"

#include <string.h>

void exo_raft_config_write(const exo_raft_member *m, uint32_t n, uint8_t *out) {
    for (uint32_t i = 0; i < n; i++, out += EXO_RAFT_MEMBER_BYTES) {
        exo_put_u64(out, m[i].id);
        out[8] = m[i].voter;
    }
}

/* A thousand members are looked through with every change that a node receives: each is put into a
 * table at a place that follows from its id (0 = free: no member is called so). */
static exo_status check_twice(const exo_raft_member *m, uint32_t n, exo_error *err) {
    uint32_t cap = 16;
    while (cap < 2 * n) cap *= 2;
    exo_raft_id *seen = exo_calloc(cap, sizeof *seen);
    if (seen == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for %u members", n);
    exo_status st = EXO_OK;
    for (uint32_t i = 0; i < n && st == EXO_OK; i++) {
        uint32_t at = (uint32_t)(m[i].id * 0x9E3779B97F4A7C15u >> 32) & (cap - 1);
        while (seen[at] != 0 && seen[at] != m[i].id) at = (at + 1) & (cap - 1);
        if (seen[at] != 0) {
            st = exo_error_set(err, EXO_EFORMAT, "node %016llx is a member twice",
                               (unsigned long long)m[i].id);
        }
        seen[at] = m[i].id;
    }
    exo_free(seen);
    return st;
}

static exo_status check_members(const exo_raft_member *m, uint32_t n, exo_error *err) {
    uint32_t n_voters = 0;
    for (uint32_t i = 0; i < n; i++) {
        n_voters += m[i].voter;
        if (m[i].id == 0) return exo_error_set(err, EXO_EFORMAT, "member %u has no id", i);
    }
    exo_status st = check_twice(m, n, err);
    if (st != EXO_OK) return st;
    if (n_voters == 0 || n_voters > EXO_RAFT_MAX_VOTERS) {
        return exo_error_set(err, EXO_EFORMAT, "%u voters; there must be 1 to %d", n_voters,
                             EXO_RAFT_MAX_VOTERS);
    }
    return EXO_OK;
}

exo_status exo_raft_config_read(const uint8_t *bytes, uint32_t n_bytes, exo_raft_member *out,
                                uint32_t *n, exo_error *err) {
    *n = 0;
    uint32_t count = n_bytes / EXO_RAFT_MEMBER_BYTES;
    if (n_bytes % EXO_RAFT_MEMBER_BYTES != 0 || count > EXO_RAFT_MAX_MEMBERS) {
        return exo_error_set(err, EXO_EFORMAT, "%u bytes are no list of at most %d members",
                             n_bytes, EXO_RAFT_MAX_MEMBERS);
    }
    for (uint32_t i = 0; i < count; i++, bytes += EXO_RAFT_MEMBER_BYTES) {
        if (bytes[8] > 1) return exo_error_set(err, EXO_EFORMAT, "member %u is no yes or no", i);
        out[i] = (exo_raft_member){.id = exo_get_u64(bytes), .voter = bytes[8] == 1};
    }
    exo_status st = check_members(out, count, err);
    if (st == EXO_OK) *n = count;
    return st;
}

exo_raft_peer *exo_raft_find(const exo_raft *r, exo_raft_id id) {
    for (uint32_t i = 0; i < r->n_peers; i++) {
        if (r->peers[i].id == id) return &r->peers[i];
    }
    return NULL;
}

uint32_t exo_raft_majority(const exo_raft *r) { return r->n_voters / 2 + 1; }

bool exo_raft_may_stand(const exo_raft *r) {
    return r->self < r->n_peers && r->peers[r->self].voter;
}

/* What is known of a member stays known; a new one begins at the end of the log.  Most stand where
 * they stood. */
static exo_raft_peer make_peer(const exo_raft *r, const exo_raft_member *m, uint32_t place) {
    const exo_raft_peer *old = place < r->n_peers && r->peers[place].id == m->id
                                   ? &r->peers[place]
                                   : exo_raft_find(r, m->id);
    exo_raft_peer p = old != NULL ? *old
                                  : (exo_raft_peer){.id = m->id,
                                                    .probing = true,
                                                    .next = exo_raft_log_last(&r->log) + 1,
                                                    .heard_ms = r->now_ms,
                                                    .send_at_ms = r->now_ms};
    if (m->voter && !p.voter) { /* it was spoken to seldom; from here on its silence counts */
        p.heard_ms = r->now_ms;
        p.send_at_ms = r->now_ms;
    }
    p.voter = m->voter;
    return p;
}

void exo_raft_read_config(exo_raft *r) {
    uint32_t n_bytes = 0;
    const uint8_t *bytes =
        exo_raft_log_config(&r->log, exo_raft_log_last(&r->log), &n_bytes, &r->config_at);
    uint32_t n = n_bytes / EXO_RAFT_MEMBER_BYTES;
    exo_raft_member *members = exo_calloc(n + 1, sizeof *members);
    exo_raft_peer *peers = exo_calloc(n + 1, sizeof *peers);
    if (members == NULL || peers == NULL) {
        exo_free(members);
        exo_free(peers);
        r->status = EXO_ENOMEM;
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *b = bytes + (size_t)i * EXO_RAFT_MEMBER_BYTES;
        members[i] = (exo_raft_member){.id = exo_get_u64(b), .voter = b[8] == 1};
        peers[i] = make_peer(r, &members[i], i);
    }
    exo_free(r->members);
    exo_free(r->peers);
    r->members = members;
    r->peers = peers;
    r->n_peers = r->self = n;
    r->n_voters = 0;
    r->next_send_ms = UINT64_MAX;
    for (uint32_t i = 0; i < n; i++) {
        r->n_voters += peers[i].voter;
        if (peers[i].id == r->id) {
            r->self = i;
        } else if (peers[i].send_at_ms < r->next_send_ms) {
            r->next_send_ms = peers[i].send_at_ms;
        }
    }
}

/* Voters that are in one of the two lists only. */
static uint32_t changed_voters(const exo_raft *r, const exo_raft_member *m, uint32_t n) {
    uint32_t changed = 0, kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!m[i].voter) continue;
        const exo_raft_peer *p = exo_raft_find(r, m[i].id);
        if (p != NULL && p->voter) {
            kept++;
        } else {
            changed++;
        }
    }
    return changed + r->n_voters - kept;
}

exo_status exo_raft_set_members(exo_raft *r, const exo_raft_member *m, uint32_t n, uint64_t now_ms,
                                exo_raft_actions *out, exo_error *err) {
    out->n = 0;
    if (r->broken) return exo_error_set(err, EXO_EINTERNAL, "this log has failed before");
    if (r->role != EXO_RAFT_LEADER) {
        return exo_error_set(err, EXO_EBUSY, "this node does not lead");
    }
    if (r->config_at > r->commit) {
        return exo_error_set(err, EXO_EBUSY, "another change of the members is under way");
    }
    /* Without this a change could be decided twice, by leaders of two terms. */
    if (exo_raft_log_term(&r->log, r->commit) != r->term) {
        return exo_error_set(err, EXO_EBUSY, "the leader is too new to change the members");
    }
    if (n > EXO_RAFT_MAX_MEMBERS) {
        return exo_error_set(err, EXO_EINVAL, "%u members; at most %d", n, EXO_RAFT_MAX_MEMBERS);
    }
    exo_status st = check_members(m, n, err);
    if (st != EXO_OK) return st;
    if (changed_voters(r, m, n) > 1) {
        return exo_error_set(err, EXO_EINVAL, "voters change one at a time");
    }
    uint8_t *bytes = exo_malloc((size_t)n * EXO_RAFT_MEMBER_BYTES);
    if (bytes == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for %u members", n);
    exo_raft_config_write(m, n, bytes);
    r->now_ms = now_ms;
    r->out = out;
    r->status = EXO_OK;
    exo_raft_append_own(r, EXO_RAFT_CONFIG, bytes, n * EXO_RAFT_MEMBER_BYTES);
    exo_free(bytes);
    if (r->status == EXO_OK) return EXO_OK;
    r->broken = true;
    return exo_error_set(err, r->status, "the log failed while the members changed");
}
