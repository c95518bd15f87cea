/* cluster_message.c - what nodes send each other about the cluster, as bytes.
 *
 *   kind u8, log_id u64, then
 *   1 RAFT     a message of the log (raft_wire.h)
 *   2 INFO     parent, member, term, leader u64, n_members u32, provisional u8, voter_ok u8
 *   3 JOIN     member, term u64, voter_ok u8, name: take me into log_id
 *   4 EVENT    an event with its origin (event.h): for the leader to propose
 *
 * Who sent it is known from the link.  Little-endian. */
#include "cluster/cluster_impl.h"

#include <string.h>

enum { KIND_RAFT = 1, KIND_INFO, KIND_JOIN, KIND_EVENT };

static void begin(exo_cluster *c, uint8_t kind, uint64_t log_id) {
    exo_buf_clear(&c->bytes);
    exo_write_u8(&c->bytes, kind);
    exo_write_u64(&c->bytes, log_id);
}

static void send(exo_cluster *c, uint64_t node, bool may_wait) {
    if (!exo_buf_ok(&c->bytes)) {
        exo_cluster_fail(c, EXO_ENOMEM);
        return;
    }
    exo_cluster_action *a = exo_cluster_emit(c, EXO_CLUSTER_SEND);
    a->node = node;
    a->may_wait = may_wait;
    a->n_bytes = c->bytes.n;
    a->bytes = exo_cluster_keep(c, c->bytes.data, c->bytes.n);
}

void exo_cluster_send_raft(exo_cluster *c, uint64_t node, const exo_raft_message *m) {
    begin(c, KIND_RAFT, c->log_id);
    exo_raft_wire_write(m, &c->bytes);
    send(c, node, m->may_wait);
}

void exo_cluster_send_info(exo_cluster *c, uint64_t node, const exo_cluster_info *i, bool news) {
    begin(c, KIND_INFO, i->log_id);
    exo_write_u64(&c->bytes, i->parent);
    exo_write_u64(&c->bytes, i->member);
    exo_write_u64(&c->bytes, i->term);
    exo_write_u64(&c->bytes, i->leader);
    exo_write_u32(&c->bytes, i->n_members);
    exo_write_u8(&c->bytes, i->provisional);
    exo_write_u8(&c->bytes, i->voter_ok);
    send(c, node, !news);
}

void exo_cluster_send_join(exo_cluster *c, uint64_t node) {
    begin(c, KIND_JOIN, c->yield_to);
    exo_write_u64(&c->bytes, c->yield_member);
    exo_write_u64(&c->bytes, exo_cluster_term(c));
    exo_write_u8(&c->bytes, c->voter_ok);
    exo_write_text(&c->bytes, c->name);
    send(c, node, false);
}

void exo_cluster_send_event(exo_cluster *c, uint64_t node, const exo_cluster_waiting_event *w) {
    exo_event_origin o = {c->node, c->session, w->number};
    begin(c, KIND_EVENT, c->log_id);
    exo_event_write(&o, &w->event, &c->bytes);
    send(c, node, false);
}

/* ---- in ---- */

static exo_status refuse(exo_error *err, const char *what) {
    return exo_error_set(err, EXO_EFORMAT, "a broken cluster message (%s)", what);
}

static exo_status on_raft(exo_cluster *c, exo_cluster_peer *p, uint64_t log_id, exo_reader *r,
                          exo_error *err) {
    exo_raft_message m;
    exo_status st = exo_raft_wire_read(r, &c->arena, &m, err);
    if (st != EXO_OK) return st;
    bool let_in = c->yield_to != 0 && log_id == c->yield_to && m.to == c->yield_member;
    if (let_in) exo_cluster_enter_log(c, log_id, m.to);
    if (c->status != EXO_OK || log_id != c->log_id || m.to != c->member) return EXO_OK;
    if (!p->knows || p->info.log_id != log_id) { /* its word comes before ours about it */
        p->info.log_id = log_id;
        p->info.member = m.from;
        p->knows = true;
    }
    if (m.from != p->info.member) return EXO_OK; /* of a name that it has given up */
    exo_state probe = {0};
    if (m.type == EXO_RAFT_SNAPSHOT) { /* read before anything changes */
        st = exo_state_read(m.snapshot->image, m.snapshot->n_image, &probe, err);
        exo_state_finish(&probe);
        if (st != EXO_OK) return st;
    }
    st = exo_raft_receive(c->raft, &m, c->now_ms, &c->raft_out, err);
    if (st == EXO_EFORMAT) return st;
    if (st != EXO_OK) exo_cluster_fail(c, st);
    exo_cluster_take(c);
    return EXO_OK;
}

static exo_status on_info(exo_cluster *c, exo_cluster_peer *p, uint64_t log_id, exo_reader *r,
                          exo_error *err) {
    exo_cluster_info i = {.log_id = log_id};
    i.parent = exo_read_u64(r);
    i.member = exo_read_u64(r);
    i.term = exo_read_u64(r);
    i.leader = exo_read_u64(r);
    i.n_members = exo_read_u32(r);
    i.provisional = exo_read_bool(r);
    i.voter_ok = exo_read_bool(r);
    if (r->bad || r->left != 0 || i.member == 0 || i.member == c->member) {
        return refuse(err, "info");
    }
    bool moved = !p->knows || p->info.log_id != i.log_id || p->info.member != i.member;
    bool news = moved || p->info.leader != i.leader || p->info.n_members != i.n_members;
    p->knows = true;
    p->info = i;
    if (moved) c->members_changed = true;
    if (news) c->own_at_ms = c->now_ms; /* reconsider at once */
    return EXO_OK;
}

static exo_status on_join(exo_cluster *c, exo_cluster_peer *p, uint64_t log_id, exo_reader *r,
                          exo_error *err) {
    exo_cluster_join j = {.node = p->node, .log_id = log_id, .at_ms = c->now_ms};
    j.member = exo_read_u64(r);
    j.term = exo_read_u64(r);
    j.voter_ok = exo_read_bool(r);
    exo_read_text(r, j.name, sizeof j.name);
    if (r->bad || r->left != 0 || j.member == 0) return refuse(err, "join");
    exo_cluster_on_join(c, &j);
    return EXO_OK;
}

/* A node speaks for itself only. */
static exo_status on_event(exo_cluster *c, exo_cluster_peer *p, uint64_t log_id, exo_reader *r,
                           exo_error *err) {
    exo_event_origin o;
    exo_event e;
    const uint8_t *bytes = r->at;
    size_t n = r->left;
    exo_status st = exo_event_read(bytes, n, &o, &e, err);
    if (st != EXO_OK) return st;
    if (o.node != p->node) return refuse(err, "another node's event");
    const exo_state_node *from = exo_state_node_of(&c->state, p->node);
    bool leads = exo_raft_role_of(c->raft) == EXO_RAFT_LEADER && c->yield_to == 0;
    if (!leads || log_id != c->log_id || from == NULL || from->member == 0) return EXO_OK;
    if (e.type == EXO_EVENT_NODE_JOINED) return EXO_OK; /* the leader's to say */
    uint64_t index;
    st = exo_raft_propose(c->raft, bytes, (uint32_t)n, &c->raft_out, &index, NULL);
    if (st != EXO_OK && st != EXO_EBUSY) exo_cluster_fail(c, st);
    exo_cluster_take(c);
    return EXO_OK;
}

exo_status exo_cluster_on_message(exo_cluster *c, uint64_t node, const uint8_t *bytes, size_t n,
                                  exo_error *err) {
    exo_cluster_peer *p = exo_cluster_find_peer(c, node);
    exo_reader r = {bytes, n, n > EXO_CLUSTER_MAX_MESSAGE_BYTES};
    if (p == NULL) return EXO_OK; /* a rest of an ended link */
    uint8_t kind = exo_read_u8(&r);
    uint64_t log_id = exo_read_u64(&r);
    if (r.bad || log_id == 0) return refuse(err, "head");
    p->heard_ms = c->now_ms;
    switch (kind) {
    case KIND_RAFT: return on_raft(c, p, log_id, &r, err);
    case KIND_INFO: return on_info(c, p, log_id, &r, err);
    case KIND_JOIN: return on_join(c, p, log_id, &r, err);
    case KIND_EVENT: return on_event(c, p, log_id, &r, err);
    default: return EXO_OK; /* a newer node may say more */
    }
}
