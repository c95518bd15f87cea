/* cluster_world_spoil.c - planted protocol bugs: what a node forgets to keep, and what it says or
 * hears wrongly.  The program under test stays the one that ships. */
#include "cluster/raft_wire.h"
#include "sim/cluster_world_impl.h"

#include <stdlib.h>
#include <string.h>

static const char *const names[N_SPOILS] = {
    [SPOIL_NONE] = "none",
    [SPOIL_VOTE_NOT_PERSISTED] = "vote-not-persisted",
    [SPOIL_TERM_NOT_PERSISTED] = "term-not-persisted",
    [SPOIL_ENTRIES_NOT_PERSISTED] = "entries-not-persisted",
    [SPOIL_TRUNCATION_NOT_PERSISTED] = "truncation-not-persisted",
    [SPOIL_SNAPSHOT_NOT_PERSISTED] = "snapshot-not-persisted",
    [SPOIL_SNAPSHOT_OF_OLD_STATE] = "snapshot-of-old-state",
    [SPOIL_SNAPSHOT_FORGETS_MEMBERS] = "snapshot-forgets-members",
    [SPOIL_CARRY_NOT_PERSISTED] = "carry-not-persisted",
    [SPOIL_SENT_BEFORE_PERSISTED] = "sent-before-persisted",
    [SPOIL_DAMAGE_IGNORED] = "damage-ignored",
    [SPOIL_DISK_LOST_SAME_NAME] = "disk-lost-same-name",
    [SPOIL_SESSION_REPEATED] = "session-repeated",
    [SPOIL_COMMIT_TOO_FAR] = "commit-too-far",
    [SPOIL_ACK_TOO_FAR] = "ack-too-far",
    [SPOIL_REFUSAL_AS_ACK] = "refusal-as-ack",
    [SPOIL_OLD_LOG_ELECTED] = "old-log-elected",
    [SPOIL_REFUSED_VOTE_COUNTED] = "refused-vote-counted",
    [SPOIL_GAP_SKIPPED] = "gap-skipped",
    [SPOIL_LOG_NOT_COMPARED] = "log-not-compared",
    [SPOIL_ENTRY_CHANGED] = "entry-changed",
    [SPOIL_IMAGE_LOSES_INSTANCE] = "image-loses-instance",
    [SPOIL_LOGS_MIXED_UP] = "logs-mixed-up",
    [SPOIL_STALE_REPLY_COUNTED] = "stale-reply-counted",
    [SPOIL_END_LOST_WITH_NODE] = "end-lost-with-node",
    [SPOIL_WAITING_FORGOTTEN] = "waiting-forgotten",
    [SPOIL_GUESTS_KEPT] = "guests-kept",
    [SPOIL_CANCEL_IGNORED] = "cancel-ignored",
    [SPOIL_CANCEL_NOT_SENT] = "cancel-not-sent",
    [SPOIL_CANCELED_ROUTE_KEPT] = "cancelled-route-kept",
    [SPOIL_DELETE_IGNORED] = "delete-ignored",
    [SPOIL_CREATE_IGNORED] = "create-ignored",
    [SPOIL_LOSS_NOT_TOLD] = "loss-not-told",
    [SPOIL_HISTORY_FORGOTTEN] = "history-forgotten",
    [SPOIL_EVENT_SENT_TWICE] = "event-sent-twice",
};

const char *world_spoil_name(uint32_t s) { return s < N_SPOILS ? names[s] : NULL; }

/* ---- disk ---- */

/* The image of a new snapshot is that of the one before. */
static void swap_image(sim_node *n, exo_cluster_action *a) {
    static exo_raft_snapshot old; /* until the disk has copied it */
    uint8_t *image = sim_copy(a->snapshot->image, a->snapshot->n_image);
    uint32_t n_image = a->snapshot->n_image;
    if (n->old_image != NULL) {
        old = *a->snapshot;
        old.image = n->old_image;
        old.n_image = n->n_old_image;
        exo_cluster_action copy = *a;
        copy.snapshot = &old;
        *a = copy;
    }
    (void)n_image;
    if (n->old_image == NULL) {
        n->old_image = image;
        n->n_old_image = n_image;
    } else {
        free(image);
    }
}

static void forget_members(const sim_node *n, exo_cluster_action *a) {
    static exo_raft_snapshot alone;
    static uint8_t config[EXO_RAFT_MEMBER_BYTES];
    exo_raft_member self = {n->disk.member, true};
    exo_raft_config_write(&self, 1, config);
    alone = *a->snapshot;
    alone.config = config;
    alone.n_config = sizeof config;
    a->snapshot = &alone;
}

bool spoil_persist(cworld *w, sim_node *n, exo_cluster_action *a) {
    switch (w->d.spoil) {
    case SPOIL_TERM_NOT_PERSISTED: return a->kind == EXO_CLUSTER_PERSIST_VOTE && n->disk.term != 0;
    case SPOIL_ENTRIES_NOT_PERSISTED:
        return a->kind == EXO_CLUSTER_PERSIST_ENTRIES && a->entries[0].index % 4 == 0;
    case SPOIL_TRUNCATION_NOT_PERSISTED: /* what is there stays, what is new comes behind it */
        return a->kind == EXO_CLUSTER_PERSIST_ENTRIES && n->disk.n > 0 &&
               a->entries[0].index <= n->disk.entries[n->disk.n - 1].index;
    case SPOIL_SNAPSHOT_NOT_PERSISTED:
        return a->kind == EXO_CLUSTER_PERSIST_SNAPSHOT && n->disk.snapshot.index > 0;
    case SPOIL_SNAPSHOT_OF_OLD_STATE:
        if (a->kind == EXO_CLUSTER_PERSIST_SNAPSHOT) swap_image(n, a);
        return false;
    case SPOIL_SNAPSHOT_FORGETS_MEMBERS:
        if (a->kind == EXO_CLUSTER_PERSIST_SNAPSHOT) forget_members(n, a);
        return false;
    case SPOIL_CARRY_NOT_PERSISTED:
        if (a->kind == EXO_CLUSTER_PERSIST_LOG) a->n_bytes = 0;
        return false;
    default: return false;
    }
}

/* ---- messages ---- */

static void spoil_sent(const sim_node *from, exo_raft_message *m, world_spoil s) {
    bool ack = m->type == EXO_RAFT_APPEND_REPLY;
    const exo_raft *r = exo_cluster_raft(from->cluster);
    if (s == SPOIL_ACK_TOO_FAR && ack && !m->refused) m->index += 1;
    if (s == SPOIL_REFUSAL_AS_ACK && ack) m->refused = false;
    if (s == SPOIL_COMMIT_TOO_FAR && m->type == EXO_RAFT_APPEND) {
        m->commit = exo_raft_last_index(r);
    }
    bool asks = m->type == EXO_RAFT_VOTE || m->type == EXO_RAFT_PRE_VOTE;
    if (s == SPOIL_OLD_LOG_ELECTED && asks) {
        m->index = UINT64_MAX / 2;
        m->log_term = m->term;
    }
    bool vote = m->type == EXO_RAFT_VOTE_REPLY;
    if (s == SPOIL_REFUSED_VOTE_COUNTED && vote) m->refused = false;
}

/* Term of the entry at index in a disk; 0 = it has none. */
static uint64_t term_at(const sim_disk *k, uint64_t index) {
    if (index == k->snapshot.index) return k->snapshot.term;
    if (index < k->snapshot.index || index > k->snapshot.index + k->n) return 0;
    return k->entries[index - k->snapshot.index - 1].term;
}

static void spoil_received(const sim_node *to, exo_raft_message *m, world_spoil s) {
    const exo_raft *r = exo_cluster_raft(to->cluster);
    uint64_t last = exo_raft_last_index(r);
    bool reply = m->type == EXO_RAFT_VOTE_REPLY || m->type == EXO_RAFT_APPEND_REPLY;
    if (s == SPOIL_STALE_REPLY_COUNTED && reply) m->term = exo_raft_term(r);
    if (m->type != EXO_RAFT_APPEND) return;
    exo_raft_entry *e = (exo_raft_entry *)m->entries;
    if (s == SPOIL_GAP_SKIPPED && m->index > last && m->n_entries > 0) {
        for (uint32_t i = 0; i < m->n_entries; i++) e[i].index = last + 1 + i;
        m->index = last;
        m->log_term = term_at(&to->disk, last);
    }
    if (s == SPOIL_LOG_NOT_COMPARED && term_at(&to->disk, m->index) != 0) {
        m->log_term = term_at(&to->disk, m->index);
    }
    if (s == SPOIL_ENTRY_CHANGED && m->n_entries > 0 && m->index % 8 == 0) {
        /* the instance's id: behind origin (24 bytes), type and length */
        bool created = e[0].kind == EXO_RAFT_COMMAND && e[0].n_bytes > 28 &&
                       e[0].bytes[24] == EXO_EVENT_INSTANCE_CREATED;
        if (created) ((uint8_t *)e[0].bytes)[26] ^= 1;
    }
}

/* The state of a snapshot without its last instance. */
static uint8_t *lose_instance(exo_raft_snapshot *s) {
    exo_state state;
    exo_buf out = {0};
    if (exo_state_read(s->image, s->n_image, &state, NULL) != EXO_OK) return NULL;
    if (state.n_instances > 0) state.n_instances--;
    exo_state_write(&state, &out);
    exo_state_finish(&state);
    uint8_t *image = sim_copy(out.data, out.n);
    s->image = image;
    s->n_image = (uint32_t)out.n;
    exo_buf_finish(&out);
    return image;
}

uint8_t *spoil_message(cworld *w, sim_node *from, sim_node *to, const uint8_t *bytes, size_t n,
                       size_t *n_out) {
    bool spoils = w->d.spoil >= SPOIL_COMMIT_TOO_FAR && w->d.spoil <= SPOIL_STALE_REPLY_COUNTED;
    if (!spoils || bytes[0] != 1) return NULL;
    uint8_t *copy = sim_copy(bytes, n), *image = NULL;
    exo_reader r = {copy + 9, n - 9, false};
    exo_arena arena = {0};
    exo_raft_message m;
    exo_buf out = {0};
    if (exo_raft_wire_read(&r, &arena, &m, NULL) == EXO_OK) {
        if (from != NULL) spoil_sent(from, &m, w->d.spoil);
        if (to != NULL) spoil_received(to, &m, w->d.spoil);
        if (from != NULL && m.snapshot != NULL && w->d.spoil == SPOIL_IMAGE_LOSES_INSTANCE) {
            image = lose_instance((exo_raft_snapshot *)m.snapshot);
        }
        exo_buf_append(&out, bytes, 9);
        if (to != NULL && w->d.spoil == SPOIL_LOGS_MIXED_UP) { /* taken for one of its own log */
            exo_buf_clear(&out);
            exo_write_u8(&out, 1);
            exo_write_u64(&out, exo_cluster_log_id(to->cluster));
            m.to = to->disk.member;
        }
        exo_raft_wire_write(&m, &out);
    }
    exo_arena_finish(&arena);
    uint8_t *result = out.n > 0 ? sim_copy(out.data, out.n) : NULL;
    *n_out = out.n;
    exo_buf_finish(&out);
    free(image);
    free(copy);
    return result;
}
