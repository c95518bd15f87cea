/* event.c - events to bytes and back; see event.h.
 *
 *   origin      node u64, session u64, number u64
 *   type        u8
 *   ...         the type's members in the order of event.h; texts are u8 length and bytes
 *
 * Little-endian throughout. */
#include "cluster/event.h"

#include "base/le.h"

#include <string.h>

#define MAX_NODES 4096 /* an instance asks for */

/* ---- pieces ---- */

const uint8_t *exo_read_bytes(exo_reader *r, size_t n) {
    if (r->bad || n > r->left) {
        r->bad = true;
        return NULL;
    }
    const uint8_t *at = r->at;
    r->at += n;
    r->left -= n;
    return at;
}

uint8_t exo_read_u8(exo_reader *r) {
    const uint8_t *p = exo_read_bytes(r, 1);
    return p != NULL ? *p : 0;
}

uint32_t exo_read_u32(exo_reader *r) {
    const uint8_t *p = exo_read_bytes(r, 4);
    return p != NULL ? exo_get_u32(p) : 0;
}

uint64_t exo_read_u64(exo_reader *r) {
    const uint8_t *p = exo_read_bytes(r, 8);
    return p != NULL ? exo_get_u64(p) : 0;
}

bool exo_read_bool(exo_reader *r) {
    uint8_t v = exo_read_u8(r);
    if (v > 1) r->bad = true;
    return v == 1;
}

void exo_read_text(exo_reader *r, char *out, size_t cap) {
    uint8_t n = exo_read_u8(r);
    const uint8_t *p = exo_read_bytes(r, n);
    out[0] = '\0';
    if (p == NULL) return;
    if (n >= cap) {
        r->bad = true;
        return;
    }
    for (uint8_t i = 0; i < n; i++) {
        if (p[i] < 0x20 || p[i] == 0x7F) r->bad = true;
    }
    if (r->bad) return;
    memcpy(out, p, n);
    out[n] = '\0';
}

void exo_write_u8(exo_buf *b, uint8_t v) { exo_buf_append(b, &v, 1); }

void exo_write_u32(exo_buf *b, uint32_t v) {
    uint8_t bytes[4];
    exo_put_u32(bytes, v);
    exo_buf_append(b, bytes, sizeof bytes);
}

void exo_write_u64(exo_buf *b, uint64_t v) {
    uint8_t bytes[8];
    exo_put_u64(bytes, v);
    exo_buf_append(b, bytes, sizeof bytes);
}

void exo_write_text(exo_buf *b, const char *s) {
    size_t n = strlen(s);
    exo_write_u8(b, (uint8_t)n);
    exo_buf_append(b, s, n);
}

/* ---- events ---- */

static const char *const names[EXO_EVENT_LAST + 1] = {
    [EXO_EVENT_NODE_JOINED] = "node joined",
    [EXO_EVENT_NODE_LEFT] = "node left",
    [EXO_EVENT_NODE_REMOVED] = "node removed",
    [EXO_EVENT_NODE_RENAMED] = "node renamed",
    [EXO_EVENT_INSTANCE_CREATED] = "instance created",
    [EXO_EVENT_INSTANCE_MOVED] = "instance moved",
    [EXO_EVENT_INSTANCE_DELETED] = "instance deleted",
    [EXO_EVENT_DOWNLOAD_STARTED] = "download started",
    [EXO_EVENT_DOWNLOAD_ENDED] = "download ended",
    [EXO_EVENT_DOWNLOAD_FAILED] = "download failed",
};

const char *exo_event_name(exo_event_type t) {
    return t >= EXO_EVENT_NODE_JOINED && t <= EXO_EVENT_LAST ? names[t] : "unknown event";
}

void exo_event_write(const exo_event_origin *o, const exo_event *e, exo_buf *out) {
    exo_write_u64(out, o->node);
    exo_write_u64(out, o->session);
    exo_write_u64(out, o->number);
    exo_write_u8(out, (uint8_t)e->type);
    switch (e->type) {
    case EXO_EVENT_NODE_JOINED:
        exo_write_u64(out, e->node);
        exo_write_u64(out, e->member);
        exo_write_u8(out, e->voter_ok);
        exo_write_text(out, e->name);
        break;
    case EXO_EVENT_NODE_LEFT:
    case EXO_EVENT_NODE_REMOVED: exo_write_u64(out, e->node); break;
    case EXO_EVENT_NODE_RENAMED:
        exo_write_u64(out, e->node);
        exo_write_text(out, e->name);
        break;
    case EXO_EVENT_INSTANCE_CREATED:
        exo_write_text(out, e->instance);
        exo_write_text(out, e->model_id);
        exo_write_u64(out, e->node);
        exo_write_u32(out, e->min_nodes);
        exo_write_u8(out, (uint8_t)e->n_cuts);
        for (uint32_t i = 0; i < e->n_cuts; i++) exo_write_u32(out, e->cuts[i]);
        break;
    case EXO_EVENT_INSTANCE_MOVED:
        exo_write_text(out, e->instance);
        exo_write_u64(out, e->node);
        break;
    case EXO_EVENT_INSTANCE_DELETED: exo_write_text(out, e->instance); break;
    case EXO_EVENT_DOWNLOAD_STARTED:
    case EXO_EVENT_DOWNLOAD_ENDED:
        exo_write_u64(out, e->node);
        exo_write_text(out, e->model_id);
        break;
    case EXO_EVENT_DOWNLOAD_FAILED:
        exo_write_u64(out, e->node);
        exo_write_text(out, e->model_id);
        exo_write_text(out, e->reason);
        break;
    }
}

static void read_created(exo_reader *r, exo_event *e) {
    exo_read_text(r, e->instance, sizeof e->instance);
    exo_read_text(r, e->model_id, sizeof e->model_id);
    e->node = exo_read_u64(r);
    e->min_nodes = exo_read_u32(r);
    uint8_t n_cuts = exo_read_u8(r);
    if (n_cuts > EXO_CLUSTER_MAX_CUTS || e->min_nodes == 0 || e->min_nodes > MAX_NODES) {
        r->bad = true;
        return;
    }
    e->n_cuts = n_cuts;
    for (uint32_t i = 0; i < n_cuts; i++) {
        e->cuts[i] = exo_read_u32(r);
        if (i > 0 && e->cuts[i] <= e->cuts[i - 1]) r->bad = true;
    }
}

static void read_members(exo_reader *r, exo_event *e) {
    switch (e->type) {
    case EXO_EVENT_NODE_JOINED:
        e->node = exo_read_u64(r);
        e->member = exo_read_u64(r);
        e->voter_ok = exo_read_bool(r);
        exo_read_text(r, e->name, sizeof e->name);
        if (e->member == 0) r->bad = true;
        break;
    case EXO_EVENT_NODE_LEFT:
    case EXO_EVENT_NODE_REMOVED: e->node = exo_read_u64(r); break;
    case EXO_EVENT_NODE_RENAMED:
        e->node = exo_read_u64(r);
        exo_read_text(r, e->name, sizeof e->name);
        break;
    case EXO_EVENT_INSTANCE_CREATED: read_created(r, e); break;
    case EXO_EVENT_INSTANCE_MOVED:
        exo_read_text(r, e->instance, sizeof e->instance);
        e->node = exo_read_u64(r);
        break;
    case EXO_EVENT_INSTANCE_DELETED: exo_read_text(r, e->instance, sizeof e->instance); break;
    case EXO_EVENT_DOWNLOAD_STARTED:
    case EXO_EVENT_DOWNLOAD_ENDED:
    case EXO_EVENT_DOWNLOAD_FAILED:
        e->node = exo_read_u64(r);
        exo_read_text(r, e->model_id, sizeof e->model_id);
        if (e->model_id[0] == '\0') r->bad = true;
        if (e->type != EXO_EVENT_DOWNLOAD_FAILED) break;
        exo_read_text(r, e->reason, sizeof e->reason);
        if (e->reason[0] == '\0') r->bad = true;
        break;
    }
}

/* What every type that has the member must say. */
static bool is_complete(const exo_event *e) {
    bool of_instance =
        e->type >= EXO_EVENT_INSTANCE_CREATED && e->type <= EXO_EVENT_INSTANCE_DELETED;
    if (of_instance && e->instance[0] == '\0') return false;
    if (e->type == EXO_EVENT_INSTANCE_CREATED && e->model_id[0] == '\0') return false;
    return e->type == EXO_EVENT_INSTANCE_DELETED || e->node != 0;
}

exo_status exo_event_read(const uint8_t *bytes, size_t n, exo_event_origin *o, exo_event *e,
                          exo_error *err) {
    exo_reader r = {bytes, n, false};
    memset(e, 0, sizeof *e);
    o->node = exo_read_u64(&r);
    o->session = exo_read_u64(&r);
    o->number = exo_read_u64(&r);
    uint8_t type = exo_read_u8(&r);
    if (r.bad || type < EXO_EVENT_NODE_JOINED || type > EXO_EVENT_LAST) {
        return exo_error_set(err, EXO_EFORMAT, "%zu bytes begin no event of a known type", n);
    }
    e->type = (exo_event_type)type;
    read_members(&r, e);
    if (r.bad || r.left != 0 || !is_complete(e)) {
        return exo_error_set(err, EXO_EFORMAT, "%zu bytes are no event \"%s\"", n,
                             exo_event_name(e->type));
    }
    return EXO_OK;
}
