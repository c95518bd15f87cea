/* state.c - the state that the log drives; see state.h. */
#include "cluster/state.h"

#include "base/mem.h"

#include <string.h>

#define FORMAT 2 /* of the bytes of a whole state */

void exo_state_finish(exo_state *s) {
    exo_free(s->nodes);
    exo_free(s->instances);
    exo_free(s->downloads);
    exo_free(s->deleted);
    memset(s, 0, sizeof *s);
}

/* ---- looking ---- */

/* Where a node stands, or would stand. */
static size_t node_place(const exo_state *s, uint64_t node) {
    size_t low = 0, high = s->n_nodes;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (s->nodes[mid].node < node) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

static exo_state_node *find_node(const exo_state *s, uint64_t node) {
    size_t i = node_place(s, node);
    return i < s->n_nodes && s->nodes[i].node == node ? &s->nodes[i] : NULL;
}

const exo_state_node *exo_state_node_of(const exo_state *s, uint64_t node) {
    return find_node(s, node);
}

const exo_state_node *exo_state_member(const exo_state *s, uint64_t member) {
    for (size_t i = 0; i < s->n_nodes; i++) {
        if (s->nodes[i].member == member) return &s->nodes[i];
    }
    return NULL;
}

static size_t instance_place(const exo_state *s, const char *id) {
    size_t i = 0;
    while (i < s->n_instances && strcmp(s->instances[i].id, id) != 0) i++;
    return i;
}

const exo_state_instance *exo_state_instance_of(const exo_state *s, const char *id) {
    size_t i = instance_place(s, id);
    return i < s->n_instances ? &s->instances[i] : NULL;
}

static size_t download_place(const exo_state *s, uint64_t node, const char *what) {
    size_t i = 0;
    while (i < s->n_downloads &&
           (s->downloads[i].node != node || strcmp(s->downloads[i].what, what) != 0)) {
        i++;
    }
    return i;
}

const exo_state_download *exo_state_download_of(const exo_state *s, uint64_t node,
                                                const char *what) {
    size_t i = download_place(s, node, what);
    return i < s->n_downloads ? &s->downloads[i] : NULL;
}

bool exo_state_was_deleted(const exo_state *s, const char *instance) {
    for (size_t i = 0; i < s->n_deleted; i++) {
        if (strcmp(s->deleted[i].id, instance) == 0) return true;
    }
    return false;
}

bool exo_state_is_provisional(const exo_state *s) {
    uint32_t here = 0, all = 0;
    for (uint32_t i = 0; i < s->n_parent_voters; i++) {
        const exo_state_node *n = find_node(s, s->parent_voters[i]);
        if (n != NULL && n->removed) continue; /* nobody waits for it */
        all++;
        here += n != NULL && n->member != 0;
    }
    return s->parent != 0 && all > 0 && here < all / 2 + 1;
}

/* ---- applying ---- */

static exo_state_node *add_node(exo_state *s, uint64_t node) {
    size_t i = node_place(s, node);
    if (exo_grow((void **)&s->nodes, &s->cap_nodes, s->n_nodes + 1, sizeof *s->nodes) != 0) {
        return NULL;
    }
    memmove(&s->nodes[i + 1], &s->nodes[i], (s->n_nodes - i) * sizeof *s->nodes);
    memset(&s->nodes[i], 0, sizeof s->nodes[i]);
    s->nodes[i].node = node;
    s->nodes[i].slot = ++s->last_slot;
    s->n_nodes++;
    return &s->nodes[i];
}

static bool apply_joined(exo_state *s, const exo_event *e) {
    exo_state_node *n = find_node(s, e->node);
    if (n != NULL && n->removed) return true;
    if (n == NULL) {
        if (s->n_nodes >= EXO_STATE_MAX_NODES) return true;
        n = add_node(s, e->node);
    }
    if (n == NULL) return false;
    n->member = e->member;
    n->voter_ok = e->voter_ok;
    memcpy(n->name, e->name, sizeof n->name);
    return true;
}

static void drop_downloads_of(exo_state *s, uint64_t node) {
    size_t kept = 0;
    for (size_t i = 0; i < s->n_downloads; i++) {
        if (s->downloads[i].node != node) s->downloads[kept++] = s->downloads[i];
    }
    s->n_downloads = kept;
}

/* Its number of events stays known, so that none of them counts again. */
static void apply_gone(exo_state *s, const exo_event *e) {
    exo_state_node *n = find_node(s, e->node);
    if (n == NULL) return;
    n->member = 0;
    n->voter_ok = false;
    if (e->type == EXO_EVENT_NODE_REMOVED) n->removed = true;
    drop_downloads_of(s, e->node);
}

static bool apply_created(exo_state *s, const exo_event *e) {
    bool known = instance_place(s, e->instance) < s->n_instances;
    if (known || exo_state_was_deleted(s, e->instance)) return true;
    if (s->n_instances >= EXO_STATE_MAX_INSTANCES) return true;
    if (exo_grow((void **)&s->instances, &s->cap_instances, s->n_instances + 1,
                 sizeof *s->instances) != 0) {
        return false;
    }
    exo_state_instance *i = &s->instances[s->n_instances++];
    memset(i, 0, sizeof *i);
    memcpy(i->id, e->instance, sizeof i->id);
    memcpy(i->model_id, e->model_id, sizeof i->model_id);
    i->owner = e->node;
    i->min_nodes = e->min_nodes;
    i->n_cuts = e->n_cuts;
    memcpy(i->cuts, e->cuts, sizeof i->cuts);
    return true;
}

static void apply_moved(exo_state *s, const exo_event *e) {
    size_t i = instance_place(s, e->instance);
    if (i < s->n_instances) s->instances[i].owner = e->node;
}

static bool apply_deleted(exo_state *s, const exo_event *e) {
    size_t i = instance_place(s, e->instance);
    if (i < s->n_instances) {
        s->n_instances--;
        memmove(&s->instances[i], &s->instances[i + 1],
                (s->n_instances - i) * sizeof *s->instances);
    }
    if (exo_state_was_deleted(s, e->instance)) return true;
    if (s->n_deleted == EXO_STATE_MAX_DELETED) {
        s->n_deleted--;
        memmove(&s->deleted[0], &s->deleted[1], s->n_deleted * sizeof *s->deleted);
    }
    if (exo_grow((void **)&s->deleted, &s->cap_deleted, s->n_deleted + 1, sizeof *s->deleted) !=
        0) {
        return false;
    }
    memcpy(s->deleted[s->n_deleted++].id, e->instance, sizeof s->deleted[0].id);
    return true;
}

static bool apply_download(exo_state *s, const exo_event *e) {
    size_t i = download_place(s, e->node, e->model_id);
    bool known = i < s->n_downloads;
    if (e->type == EXO_EVENT_DOWNLOAD_FAILED) {
        if (known) memcpy(s->downloads[i].reason, e->reason, sizeof e->reason);
        return true;
    }
    if (e->type == EXO_EVENT_DOWNLOAD_ENDED) {
        if (!known) return true;
        s->n_downloads--;
        memmove(&s->downloads[i], &s->downloads[i + 1],
                (s->n_downloads - i) * sizeof *s->downloads);
        return true;
    }
    if (known) s->downloads[i].reason[0] = '\0'; /* once more */
    if (known || s->n_downloads >= EXO_STATE_MAX_DOWNLOADS) return true;
    if (exo_grow((void **)&s->downloads, &s->cap_downloads, s->n_downloads + 1,
                 sizeof *s->downloads) != 0) {
        return false;
    }
    exo_state_download *d = &s->downloads[s->n_downloads++];
    memset(d, 0, sizeof *d);
    d->node = e->node;
    memcpy(d->what, e->model_id, sizeof d->what);
    return true;
}

static bool apply(exo_state *s, const exo_event *e) {
    exo_state_node *n;
    switch (e->type) {
    case EXO_EVENT_NODE_JOINED: return apply_joined(s, e);
    case EXO_EVENT_NODE_LEFT:
    case EXO_EVENT_NODE_REMOVED: apply_gone(s, e); return true;
    case EXO_EVENT_NODE_RENAMED:
        n = find_node(s, e->node);
        if (n != NULL) memcpy(n->name, e->name, sizeof n->name);
        return true;
    case EXO_EVENT_INSTANCE_CREATED: return apply_created(s, e);
    case EXO_EVENT_INSTANCE_MOVED: apply_moved(s, e); return true;
    case EXO_EVENT_INSTANCE_DELETED: return apply_deleted(s, e);
    case EXO_EVENT_DOWNLOAD_STARTED:
    case EXO_EVENT_DOWNLOAD_ENDED:
    case EXO_EVENT_DOWNLOAD_FAILED: return apply_download(s, e);
    }
    return true;
}

bool exo_state_is_old(const exo_state *s, const exo_event_origin *o) {
    const exo_state_node *from = find_node(s, o->node);
    return from != NULL && (o->session < from->session ||
                            (o->session == from->session && o->number <= from->number));
}

exo_status exo_state_apply(exo_state *s, const exo_event_origin *o, const exo_event *e,
                           exo_error *err) {
    exo_state_node *from = find_node(s, o->node);
    if (exo_state_is_old(s, o)) return EXO_OK;
    if (from != NULL) {
        from->session = o->session;
        from->number = o->number;
    }
    if (apply(s, e)) return EXO_OK;
    return exo_error_set(err, EXO_ENOMEM, "no memory for the cluster's state");
}

/* ---- as bytes ---- */

static void write_node(const exo_state_node *n, exo_buf *out) {
    exo_write_u64(out, n->node);
    exo_write_u64(out, n->member);
    exo_write_u64(out, n->session);
    exo_write_u64(out, n->number);
    exo_write_u32(out, n->slot);
    exo_write_u8(out, n->voter_ok);
    exo_write_u8(out, n->removed);
    exo_write_text(out, n->name);
}

static void write_instance(const exo_state_instance *i, exo_buf *out) {
    exo_write_text(out, i->id);
    exo_write_text(out, i->model_id);
    exo_write_u64(out, i->owner);
    exo_write_u32(out, i->min_nodes);
    exo_write_u32(out, i->n_cuts);
    for (uint32_t k = 0; k < i->n_cuts; k++) exo_write_u32(out, i->cuts[k]);
}

void exo_state_write(const exo_state *s, exo_buf *out) {
    exo_write_u8(out, FORMAT);
    exo_write_u32(out, s->last_slot);
    exo_write_u64(out, s->parent);
    exo_write_u32(out, s->fork_slot);
    exo_write_u32(out, s->n_parent_voters);
    for (uint32_t i = 0; i < s->n_parent_voters; i++) exo_write_u64(out, s->parent_voters[i]);
    exo_write_u32(out, (uint32_t)s->n_nodes);
    for (size_t i = 0; i < s->n_nodes; i++) write_node(&s->nodes[i], out);
    exo_write_u32(out, (uint32_t)s->n_instances);
    for (size_t i = 0; i < s->n_instances; i++) write_instance(&s->instances[i], out);
    exo_write_u32(out, (uint32_t)s->n_downloads);
    for (size_t i = 0; i < s->n_downloads; i++) {
        exo_write_u64(out, s->downloads[i].node);
        exo_write_text(out, s->downloads[i].what);
        exo_write_text(out, s->downloads[i].reason);
    }
    exo_write_u32(out, (uint32_t)s->n_deleted);
    for (size_t i = 0; i < s->n_deleted; i++) exo_write_text(out, s->deleted[i].id);
}

/* Room for n records of a list, each of which takes at least min_bytes of what is left. */
static void *read_list(exo_reader *r, size_t max, size_t min_bytes, size_t size, size_t *n) {
    *n = exo_read_u32(r);
    if (*n > max || *n > r->left / min_bytes) r->bad = true;
    if (r->bad) *n = 0;
    return exo_calloc(*n > 0 ? *n : 1, size);
}

static void read_node(exo_reader *r, exo_state_node *n) {
    n->node = exo_read_u64(r);
    n->member = exo_read_u64(r);
    n->session = exo_read_u64(r);
    n->number = exo_read_u64(r);
    n->slot = exo_read_u32(r);
    n->voter_ok = exo_read_bool(r);
    n->removed = exo_read_bool(r);
    exo_read_text(r, n->name, sizeof n->name);
}

static void read_instance(exo_reader *r, exo_state_instance *i) {
    exo_read_text(r, i->id, sizeof i->id);
    exo_read_text(r, i->model_id, sizeof i->model_id);
    i->owner = exo_read_u64(r);
    i->min_nodes = exo_read_u32(r);
    i->n_cuts = exo_read_u32(r);
    if (i->n_cuts > EXO_CLUSTER_MAX_CUTS) {
        i->n_cuts = 0;
        r->bad = true;
    }
    for (uint32_t k = 0; k < i->n_cuts; k++) i->cuts[k] = exo_read_u32(r);
}

static bool read_lists(exo_reader *r, exo_state *s) {
    s->nodes = read_list(r, EXO_STATE_MAX_NODES, 39, sizeof *s->nodes, &s->n_nodes);
    if (s->nodes == NULL) return false;
    for (size_t i = 0; i < s->n_nodes; i++) {
        read_node(r, &s->nodes[i]);
        if (i > 0 && s->nodes[i].node <= s->nodes[i - 1].node) r->bad = true;
    }
    s->instances = read_list(r, EXO_STATE_MAX_INSTANCES, 18, sizeof *s->instances, &s->n_instances);
    if (s->instances == NULL) return false;
    for (size_t i = 0; i < s->n_instances; i++) read_instance(r, &s->instances[i]);
    s->downloads = read_list(r, EXO_STATE_MAX_DOWNLOADS, 9, sizeof *s->downloads, &s->n_downloads);
    if (s->downloads == NULL) return false;
    for (size_t i = 0; i < s->n_downloads; i++) {
        s->downloads[i].node = exo_read_u64(r);
        exo_read_text(r, s->downloads[i].what, sizeof s->downloads[i].what);
        exo_read_text(r, s->downloads[i].reason, sizeof s->downloads[i].reason);
    }
    s->deleted = read_list(r, EXO_STATE_MAX_DELETED, 1, sizeof *s->deleted, &s->n_deleted);
    if (s->deleted == NULL) return false;
    for (size_t i = 0; i < s->n_deleted; i++) {
        exo_read_text(r, s->deleted[i].id, sizeof s->deleted[i].id);
    }
    s->cap_nodes = s->n_nodes;
    s->cap_instances = s->n_instances;
    s->cap_downloads = s->n_downloads;
    s->cap_deleted = s->n_deleted;
    return true;
}

exo_status exo_state_read(const uint8_t *bytes, size_t n, exo_state *out, exo_error *err) {
    exo_reader r = {bytes, n, false};
    memset(out, 0, sizeof *out);
    if (exo_read_u8(&r) != FORMAT) r.bad = true;
    out->last_slot = exo_read_u32(&r);
    out->parent = exo_read_u64(&r);
    out->fork_slot = exo_read_u32(&r);
    uint32_t n_voters = exo_read_u32(&r);
    if (n_voters > EXO_STATE_MAX_VOTERS) r.bad = true;
    if (!r.bad) out->n_parent_voters = n_voters;
    for (uint32_t i = 0; i < out->n_parent_voters; i++) out->parent_voters[i] = exo_read_u64(&r);
    bool room = read_lists(&r, out);
    if (room && !r.bad && r.left == 0) return EXO_OK;
    exo_state_finish(out);
    return room ? exo_error_set(err, EXO_EFORMAT, "%zu bytes are no state of a cluster", n)
                : exo_error_set(err, EXO_ENOMEM, "no memory for the cluster's state");
}
