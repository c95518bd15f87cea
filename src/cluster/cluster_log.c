/* cluster_log.c - between the log and what is made of it: Raft's actions carried over, own events
 * on their way, logs begun and entered. */
#include "cluster/cluster_impl.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

#define LEARNER_HEARTBEAT_MS 1000
#define LOG_ID_RANDOM_BITS   32 /* a log's id is the second it was begun in, and chance */

/* ---- Raft's actions ---- */

static const exo_raft_entry *keep_entries(exo_cluster *c, const exo_raft_entry *e, uint32_t n) {
    exo_raft_entry *copy = exo_cluster_keep(c, e, n * sizeof *e);
    for (uint32_t i = 0; i < n && copy != NULL; i++) {
        copy[i].bytes = exo_cluster_keep(c, e[i].bytes, e[i].n_bytes);
    }
    return copy;
}

static const exo_raft_snapshot *keep_snapshot(exo_cluster *c, const exo_raft_snapshot *s) {
    exo_raft_snapshot *copy = exo_cluster_keep(c, s, sizeof *s);
    if (copy == NULL) return NULL;
    copy->config = exo_cluster_keep(c, s->config, s->n_config);
    copy->image = exo_cluster_keep(c, s->image, s->n_image);
    return copy;
}

static void say_applied(exo_cluster *c, const exo_event *e, uint64_t index, uint64_t tag) {
    exo_cluster_action *a = exo_cluster_emit(c, EXO_CLUSTER_APPLIED);
    a->log_id = c->log_id;
    a->index = index;
    a->event = exo_cluster_keep(c, e, sizeof *e);
    a->tag = tag;
}

static void say_restored(exo_cluster *c, uint64_t index) {
    exo_cluster_action *a = exo_cluster_emit(c, EXO_CLUSTER_RESTORED);
    a->log_id = c->log_id;
    a->index = index;
}

static void drop_first(exo_cluster *c) {
    c->n_waiting--;
    memmove(&c->waiting[0], &c->waiting[1], c->n_waiting * sizeof *c->waiting);
}

static bool same_event(const exo_event *a, const exo_event *b) {
    return a->type == b->type && a->node == b->node && a->member == b->member &&
           strcmp(a->instance, b->instance) == 0 && strcmp(a->model_id, b->model_id) == 0 &&
           strcmp(a->name, b->name) == 0;
}

/* It is the oldest own event that was on its way. */
static bool is_first(const exo_cluster *c, const exo_event_origin *o, const exo_event *e) {
    const exo_cluster_waiting_event *w = &c->waiting[0];
    return c->n_waiting > 0 && w->sent && o->node == c->node && o->session == c->session &&
           o->number == w->number && same_event(&w->event, e);
}

/* The log has it behind one with a higher number, of a life that this node does not remember: it
 * changes nothing there, and is sent again under a number that does. */
static void send_anew(exo_cluster *c) {
    const exo_state_node *self = exo_state_node_of(&c->state, c->node);
    if (self != NULL && self->session >= c->session) c->session = self->session + 1;
    c->waiting[0].sent = false;
    c->waiting[0].send_at_ms = 0;
}

static void apply(exo_cluster *c, const exo_raft_entry *entry) {
    exo_event_origin o;
    exo_event e;
    if (entry->kind != EXO_RAFT_COMMAND) return;
    /* What this version cannot read, every node of this version skips. */
    if (exo_event_read(entry->bytes, entry->n_bytes, &o, &e, NULL) != EXO_OK) return;
    bool first = is_first(c, &o, &e);
    if (exo_state_is_old(&c->state, &o)) {
        if (first) send_anew(c);
        return;
    }
    exo_status st = exo_state_apply(&c->state, &o, &e, NULL);
    if (st != EXO_OK) {
        exo_cluster_fail(c, st);
        return;
    }
    if (e.type <= EXO_EVENT_NODE_REMOVED) c->members_changed = true;
    if (e.type == EXO_EVENT_NODE_LEFT || e.type == EXO_EVENT_NODE_REMOVED) {
        exo_cluster_forget_joins(c, e.node); /* what it asked for before that is void */
    }
    bool mark = e.type == EXO_EVENT_NODE_RENAMED && o.node == c->node && o.session == c->session;
    if (mark && c->carry_mark == EXO_CLUSTER_MARK_SENT) c->carry_mark = EXO_CLUSTER_MARK_PASSED;
    uint64_t tag = first ? c->waiting[0].tag : 0;
    if (first) drop_first(c);
    say_applied(c, &e, entry->index, tag);
}

static void replace_state(exo_cluster *c, const exo_raft_snapshot *s) {
    exo_state fresh;
    exo_status st = exo_state_read(s->image, s->n_image, &fresh, NULL);
    if (st != EXO_OK) {
        exo_cluster_fail(c, st);
        return;
    }
    exo_state_finish(&c->state);
    c->state = fresh;
    const exo_state_node *self = exo_state_node_of(&c->state, c->node);
    if (self != NULL && self->session == c->session && c->n_waiting > 0 && c->waiting[0].sent &&
        c->waiting[0].number <= self->number) { /* what was on its way is in it */
        if (c->waiting[0].tag != 0) say_applied(c, &c->waiting[0].event, 0, c->waiting[0].tag);
        drop_first(c);
    }
    c->members_changed = true;
    c->carry_mark = EXO_CLUSTER_MARK_NONE;
    say_restored(c, s->index);
}

static void send(exo_cluster *c, const exo_raft_message *m) {
    const exo_cluster_peer *p = exo_cluster_peer_of_member(c, m->to);
    if (p != NULL) exo_cluster_send_raft(c, p->node, m);
}

static void carry_over(exo_cluster *c, const exo_raft_action *r) {
    exo_cluster_action *a;
    switch (r->kind) {
    case EXO_RAFT_PERSIST_VOTE:
        a = exo_cluster_emit(c, EXO_CLUSTER_PERSIST_VOTE);
        a->term = r->term;
        a->vote = r->vote;
        break;
    case EXO_RAFT_PERSIST_ENTRIES:
        a = exo_cluster_emit(c, EXO_CLUSTER_PERSIST_ENTRIES);
        a->n_entries = r->n_entries;
        a->entries = keep_entries(c, r->entries, r->n_entries);
        break;
    case EXO_RAFT_PERSIST_SNAPSHOT:
        a = exo_cluster_emit(c, EXO_CLUSTER_PERSIST_SNAPSHOT);
        a->keep = r->keep;
        a->snapshot = keep_snapshot(c, r->snapshot);
        break;
    case EXO_RAFT_SEND: send(c, &r->message); break;
    case EXO_RAFT_APPLY: apply(c, r->entries); break;
    case EXO_RAFT_RESTORE: replace_state(c, r->snapshot); break;
    case EXO_RAFT_ROLE:
        exo_cluster_emit(c, EXO_CLUSTER_STATUS);
        c->members_changed = true;
        c->lead_at_ms = 0;
        if (c->n_waiting > 0) c->waiting[0].send_at_ms = 0;
        break;
    }
}

/* The node that leads; a name in a log is one node's for ever. */
static void find_master(exo_cluster *c) {
    exo_raft_id leader = exo_raft_leader(c->raft);
    if (leader == c->leader && (c->master != 0 || leader == 0)) return;
    c->leader = leader;
    c->master = leader == c->member ? c->node : 0;
    if (leader == 0 || c->master != 0) return;
    const exo_state_node *n = exo_state_member(&c->state, leader);
    if (n != NULL) c->master = n->node;
    for (size_t i = 0; i < c->n_peers && c->master == 0; i++) {
        const exo_cluster_peer *p = &c->peers[i];
        if (p->knows && p->info.member == leader) c->master = p->node;
    }
}

void exo_cluster_take(exo_cluster *c) {
    for (size_t i = 0; i < c->raft_out.n && c->status == EXO_OK; i++) {
        carry_over(c, &c->raft_out.items[i]);
    }
    c->raft_out.n = 0;
    find_master(c);
    if (exo_raft_leader(c->raft) != 0) {
        c->had_leader = true;
        c->leaderless_ms = 0;
    } else if (c->leaderless_ms == 0) {
        c->leaderless_ms = c->now_ms > 0 ? c->now_ms : 1;
    }
}

/* ---- own events ---- */

void exo_cluster_propose(exo_cluster *c, const exo_event *e, uint64_t tag) {
    for (size_t i = 0; i < c->n_waiting && tag == 0; i++) {
        if (same_event(&c->waiting[i].event, e)) return; /* on its way */
    }
    if (c->n_waiting >= EXO_CLUSTER_MAX_WAITING) {
        exo_cluster_emit(c, EXO_CLUSTER_DROPPED)->tag = tag;
        return;
    }
    if (exo_grow((void **)&c->waiting, &c->cap_waiting, c->n_waiting + 1, sizeof *c->waiting) !=
        0) {
        exo_cluster_fail(c, EXO_ENOMEM);
        return;
    }
    c->waiting[c->n_waiting++] =
        (exo_cluster_waiting_event){.event = *e, .number = ++c->last_number, .tag = tag};
}

/* Whom a leader lets in is its own affair, and that of its log. */
static void drop_joined(exo_cluster *c) {
    size_t kept = 0;
    for (size_t i = 0; i < c->n_waiting; i++) {
        if (c->waiting[i].event.type != EXO_EVENT_NODE_JOINED) c->waiting[kept++] = c->waiting[i];
    }
    c->n_waiting = kept;
}

/* This node's numbers must rise, also where its data directory is younger than its name: what it
 * used in an earlier life stands in the log before its membership.  False: that has not come yet.
 */
static bool choose_session(exo_cluster *c) {
    const exo_state_node *self = exo_state_node_of(&c->state, c->node);
    if (self == NULL || self->member != c->member) return false;
    bool used = self->session == c->session && c->waiting[0].number <= self->number;
    if (used || self->session > c->session) c->session = self->session + 1;
    return true;
}

static void propose_here(exo_cluster *c, const exo_cluster_waiting_event *w) {
    exo_event_origin o = {c->node, c->session, w->number};
    uint64_t index;
    exo_buf_clear(&c->bytes);
    exo_event_write(&o, &w->event, &c->bytes);
    if (!exo_buf_ok(&c->bytes)) {
        exo_cluster_fail(c, EXO_ENOMEM);
        return;
    }
    exo_status st =
        exo_raft_propose(c->raft, c->bytes.data, (uint32_t)c->bytes.n, &c->raft_out, &index, NULL);
    if (st != EXO_OK && st != EXO_EBUSY) exo_cluster_fail(c, st);
    exo_cluster_take(c);
}

/* One at a time: a later number that came first would make the earlier one old. */
void exo_cluster_push_waiting(exo_cluster *c) {
    size_t before = 0;
    if (exo_raft_role_of(c->raft) != EXO_RAFT_LEADER) drop_joined(c);
    while (c->n_waiting > 0 && c->n_waiting != before && c->status == EXO_OK) {
        exo_cluster_waiting_event *w = &c->waiting[0];
        before = c->n_waiting;
        if (c->yield_to != 0 || c->now_ms < w->send_at_ms) return;
        uint64_t master = exo_cluster_master(c);
        if (master == 0) return;
        if (!choose_session(c)) return;
        w->sent = true;
        w->send_at_ms = c->now_ms + EXO_CLUSTER_RETRY_MS;
        if (master == c->node) {
            exo_cluster_waiting_event copy = *w; /* it may count at once, and be gone */
            propose_here(c, &copy);
        } else if (exo_cluster_find_peer(c, master) != NULL) {
            exo_cluster_send_event(c, master, w);
        }
    }
}

/* ---- logs ---- */

static uint64_t new_log_id(exo_cluster *c) {
    uint64_t s = (c->unix_ms + (c->now_ms - c->started_ms)) / 1000;
    return s << LOG_ID_RANDOM_BITS | (exo_cluster_draw(c) >> (64 - LOG_ID_RANDOM_BITS) | 1);
}

static void persist_log(exo_cluster *c) {
    exo_cluster_action *a = exo_cluster_emit(c, EXO_CLUSTER_PERSIST_LOG);
    a->log_id = c->log_id;
    a->member = c->member;
    if (!c->has_carry) return;
    exo_buf_clear(&c->bytes);
    exo_state_write(&c->carry, &c->bytes);
    if (!exo_buf_ok(&c->bytes)) exo_cluster_fail(c, EXO_ENOMEM);
    a->n_bytes = c->bytes.n;
    a->bytes = exo_cluster_keep(c, c->bytes.data, c->bytes.n);
}

static void new_raft(exo_cluster *c, const exo_raft_snapshot *s, uint64_t term) {
    exo_raft_desc d = {.id = c->member,
                       .seed = exo_cluster_draw(c),
                       .heartbeat_ms = c->heartbeat_ms,
                       .election_ms = c->election_ms,
                       .learner_heartbeat_ms = LEARNER_HEARTBEAT_MS,
                       .term = term,
                       .snapshot = s};
    exo_raft *r = NULL;
    exo_status st = exo_raft_create(&d, c->now_ms, &r, c->err);
    if (st != EXO_OK) {
        exo_cluster_fail(c, st);
        return;
    }
    exo_raft_destroy(c->raft);
    c->raft = r;
    c->leader = 0;
    c->master = 0;
    c->carry_mark = EXO_CLUSTER_MARK_NONE;
    c->compact_at = 0;
    c->leaderless_ms = c->now_ms > 0 ? c->now_ms : 1;
    c->yield_to = 0;
    c->yield_member = 0;
    c->n_joins = 0;
    memset(c->seen, 0, sizeof c->seen);
    drop_joined(c);
    exo_cluster_emit(c, EXO_CLUSTER_STATUS);
}

/* The state of a log of this node alone: nobody else has a name in it yet. */
static void make_own(exo_cluster *c) {
    for (size_t i = 0; i < c->state.n_nodes; i++) c->state.nodes[i].member = 0;
    exo_event e = {.type = EXO_EVENT_NODE_JOINED,
                   .node = c->node,
                   .member = c->member,
                   .voter_ok = c->voter_ok};
    exo_event_origin nobody = {0};
    memcpy(e.name, c->name, sizeof e.name);
    if (exo_state_apply(&c->state, &nobody, &e, NULL) != EXO_OK) exo_cluster_fail(c, EXO_ENOMEM);
}

/* What may be committed elsewhere counts here, too: nothing that was promised is lost. */
static void apply_rest(exo_cluster *c) {
    uint64_t last = exo_raft_last_index(c->raft);
    for (uint64_t i = exo_raft_applied_index(c->raft) + 1; i <= last; i++) {
        const exo_raft_entry *e = exo_raft_entry_at(c->raft, i);
        if (e != NULL) apply(c, e);
    }
}

/* Remembers whose majority this node has lost. */
static void note_parent(exo_cluster *c) {
    exo_state *s = &c->state;
    if (exo_state_is_provisional(s)) return; /* still that one's */
    uint32_t n = 0;
    const exo_raft_member *m = exo_raft_members(c->raft, &n);
    s->parent = c->log_id;
    s->n_parent_voters = 0;
    for (uint32_t i = 0; i < n && s->n_parent_voters < EXO_STATE_MAX_VOTERS; i++) {
        if (!m[i].voter) continue;
        const exo_state_node *v = exo_state_member(s, m[i].id);
        if (v != NULL)
            s->parent_voters[s->n_parent_voters++] = v->node; /* else it has another name */
    }
}

void exo_cluster_begin_log(exo_cluster *c, bool fork) {
    exo_raft_snapshot s = {.index = 1, .term = 1};
    uint64_t term = 1;
    if (fork) { /* what is carried still has to be brought */
        apply_rest(c);
        note_parent(c);
        s.index = exo_raft_last_index(c->raft) + 1;
        s.term = term = exo_raft_term(c->raft) + 1;
    } else if (c->has_carry) {
        exo_state_finish(&c->state);
        c->state = c->carry;
        memset(&c->carry, 0, sizeof c->carry);
        c->has_carry = false;
    }
    c->member = exo_cluster_draw(c);
    c->log_id = new_log_id(c);
    make_own(c);
    if (fork) c->state.fork_slot = exo_state_node_of(&c->state, c->node)->slot;
    persist_log(c);
    exo_cluster_action *a = exo_cluster_emit(c, EXO_CLUSTER_PERSIST_VOTE);
    a->term = term;
    exo_raft_member self = {c->member, true};
    uint8_t config[EXO_RAFT_MEMBER_BYTES];
    exo_raft_config_write(&self, 1, config);
    s.config = config;
    s.n_config = sizeof config;
    exo_buf_clear(&c->bytes);
    exo_state_write(&c->state, &c->bytes);
    if (!exo_buf_ok(&c->bytes)) exo_cluster_fail(c, EXO_ENOMEM);
    s.image = (const uint8_t *)c->bytes.data;
    s.n_image = (uint32_t)c->bytes.n;
    if (c->status != EXO_OK) return;
    a = exo_cluster_emit(c, EXO_CLUSTER_PERSIST_SNAPSHOT);
    a->snapshot = keep_snapshot(c, &s);
    new_raft(c, &s, term);
    say_restored(c, s.index);
}

static bool copy_state(const exo_state *from, exo_buf *scratch, exo_state *to) {
    exo_buf_clear(scratch);
    exo_state_write(from, scratch);
    return exo_buf_ok(scratch) &&
           exo_state_read((const uint8_t *)scratch->data, scratch->n, to, NULL) == EXO_OK;
}

static exo_event created_event(const exo_state_instance *i) {
    exo_event e = {.type = EXO_EVENT_INSTANCE_CREATED,
                   .node = i->owner,
                   .min_nodes = i->min_nodes,
                   .n_cuts = i->n_cuts};
    memcpy(e.instance, i->id, sizeof e.instance);
    memcpy(e.model_id, i->model_id, sizeof e.model_id);
    memcpy(e.cuts, i->cuts, sizeof e.cuts);
    return e;
}

static exo_event download_event(const exo_state_download *d) {
    exo_event e = {.type = EXO_EVENT_DOWNLOAD_STARTED, .node = d->node};
    memcpy(e.model_id, d->what, sizeof e.model_id);
    return e;
}

/* Downloads are brought along by the node that runs them; those that failed are past. */
static bool is_running_here(const exo_cluster *c, const exo_state_download *d) {
    return d->node == c->node && d->reason[0] == '\0';
}

static exo_event deleted_event(const exo_state_deleted *d) {
    exo_event e = {.type = EXO_EVENT_INSTANCE_DELETED};
    memcpy(e.instance, d->id, sizeof e.instance);
    return e;
}

/* What is carried from now on: this log's state, with what of an earlier one was not brought yet.
 */
static bool pack(exo_cluster *c) {
    exo_event_origin nobody = {0};
    exo_state all;
    if (!copy_state(&c->state, &c->bytes, &all)) return false;
    bool room = true;
    for (size_t k = 0; k < c->carry.n_instances && room; k++) {
        exo_event e = created_event(&c->carry.instances[k]);
        room = exo_state_apply(&all, &nobody, &e, NULL) == EXO_OK;
    }
    for (size_t k = 0; k < c->carry.n_downloads && room; k++) {
        exo_event e = download_event(&c->carry.downloads[k]);
        if (!is_running_here(c, &c->carry.downloads[k])) continue;
        room = exo_state_apply(&all, &nobody, &e, NULL) == EXO_OK;
    }
    for (size_t k = 0; k < c->carry.n_deleted && room; k++) {
        exo_event e = deleted_event(&c->carry.deleted[k]);
        room = exo_state_apply(&all, &nobody, &e, NULL) == EXO_OK;
    }
    exo_state_finish(&c->carry);
    c->carry = all;
    c->has_carry = true;
    return room;
}

/* The state stays what it was until the log brings another. */
void exo_cluster_enter_log(exo_cluster *c, uint64_t log_id, exo_raft_id member) {
    apply_rest(c);
    if (!pack(c)) exo_cluster_fail(c, EXO_ENOMEM);
    c->log_id = log_id;
    c->member = member;
    persist_log(c);
    if (c->status == EXO_OK) new_raft(c, NULL, 0);
}

/* An instance of the last log that the present one does not know, whoever owns it: its owner may
 * have gone to a third log before it counted there.  What was deleted there is deleted here, too.
 */
static bool is_missing(const exo_cluster *c, const exo_state_instance *i) {
    return exo_state_instance_of(&c->state, i->id) == NULL &&
           !exo_state_was_deleted(&c->state, i->id) &&
           c->state.n_instances < EXO_STATE_MAX_INSTANCES;
}

/* An event of our own that changes nothing: once it counts, everything before it has come. */
static void propose_mark(exo_cluster *c) {
    const exo_state_node *self = exo_state_node_of(&c->state, c->node);
    exo_event e = {.type = EXO_EVENT_NODE_RENAMED, .node = c->node};
    if (self == NULL) return; /* not a member yet */
    memcpy(e.name, self->name, sizeof e.name);
    exo_cluster_propose(c, &e, 0);
    c->carry_mark = EXO_CLUSTER_MARK_SENT;
}

void exo_cluster_bring(exo_cluster *c) {
    uint32_t n_members = 0;
    exo_raft_members(c->raft, &n_members);
    if (!c->has_carry || n_members == 0) return; /* the log has not come yet */
    if (c->carry_mark == EXO_CLUSTER_MARK_NONE) propose_mark(c);
    if (c->carry_mark != EXO_CLUSTER_MARK_PASSED) return;
    bool all = true;
    for (size_t k = 0; k < c->carry.n_instances && c->status == EXO_OK; k++) {
        const exo_state_instance *i = &c->carry.instances[k];
        if (!is_missing(c, i)) continue;
        exo_event e = created_event(i);
        exo_cluster_propose(c, &e, 0);
        all = false;
    }
    for (size_t k = 0; k < c->carry.n_downloads && c->status == EXO_OK; k++) {
        const exo_state_download *d = &c->carry.downloads[k];
        bool known = exo_state_download_of(&c->state, d->node, d->what) != NULL;
        if (known || !is_running_here(c, d)) continue;
        if (c->state.n_downloads >= EXO_STATE_MAX_DOWNLOADS) continue;
        exo_event e = download_event(d);
        exo_cluster_propose(c, &e, 0);
        all = false;
    }
    for (size_t k = 0; k < c->carry.n_deleted && c->status == EXO_OK; k++) {
        exo_event e = deleted_event(&c->carry.deleted[k]);
        if (exo_state_was_deleted(&c->state, e.instance)) continue;
        exo_cluster_propose(c, &e, 0);
        all = false;
    }
    if (!all) return;
    exo_state_finish(&c->carry);
    c->has_carry = false;
    exo_cluster_emit(c, EXO_CLUSTER_PERSIST_CARRY);
}

void exo_cluster_compact(exo_cluster *c) {
    if (exo_raft_kept_entries(c->raft) < c->kept_entries) return;
    if (exo_raft_applied_index(c->raft) < c->compact_at) return;
    c->compact_at = exo_raft_applied_index(c->raft) + c->kept_entries / 2;
    exo_buf_clear(&c->bytes);
    exo_state_write(&c->state, &c->bytes);
    if (!exo_buf_ok(&c->bytes)) {
        exo_cluster_fail(c, EXO_ENOMEM);
        return;
    }
    exo_status st =
        exo_raft_compact(c->raft, c->bytes.data, (uint32_t)c->bytes.n, &c->raft_out, c->err);
    if (st != EXO_OK) exo_cluster_fail(c, st);
    exo_cluster_take(c);
}
