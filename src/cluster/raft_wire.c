/* raft_wire.c - Raft's messages to bytes and back.
 *
 *   type u8, flags u8 (1 refused, 2 hand_over), from, to, term, index, log_term, commit, hint u64
 *   APPEND     n u32, then each entry: term u64, kind u8, n_bytes u32, bytes
 *   SNAPSHOT   index, term u64, n_config, n_image u32, config, image
 *
 * The entries' indexes follow the message's own. */
#include "cluster/raft_wire.h"

enum { FLAG_REFUSED = 1, FLAG_HAND_OVER = 2 };

static void write_entries(const exo_raft_message *m, exo_buf *out) {
    exo_write_u32(out, m->n_entries);
    for (uint32_t i = 0; i < m->n_entries; i++) {
        const exo_raft_entry *e = &m->entries[i];
        exo_write_u64(out, e->term);
        exo_write_u8(out, (uint8_t)e->kind);
        exo_write_u32(out, e->n_bytes);
        exo_buf_append(out, e->bytes, e->n_bytes);
    }
}

static void write_snapshot(const exo_raft_snapshot *s, exo_buf *out) {
    exo_write_u64(out, s->index);
    exo_write_u64(out, s->term);
    exo_write_u32(out, s->n_config);
    exo_write_u32(out, s->n_image);
    exo_buf_append(out, s->config, s->n_config);
    exo_buf_append(out, s->image, s->n_image);
}

void exo_raft_wire_write(const exo_raft_message *m, exo_buf *out) {
    exo_write_u8(out, (uint8_t)m->type);
    exo_write_u8(out,
                 (uint8_t)((m->refused ? FLAG_REFUSED : 0) | (m->hand_over ? FLAG_HAND_OVER : 0)));
    const uint64_t numbers[] = {m->from, m->to, m->term, m->index, m->log_term, m->commit, m->hint};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) exo_write_u64(out, numbers[i]);
    if (m->type == EXO_RAFT_APPEND) write_entries(m, out);
    if (m->type == EXO_RAFT_SNAPSHOT) write_snapshot(m->snapshot, out);
}

static bool read_entries(exo_reader *r, exo_arena *arena, exo_raft_message *m) {
    uint32_t n = exo_read_u32(r);
    if (n > EXO_RAFT_WIRE_MAX_ENTRIES || m->index > UINT64_MAX - EXO_RAFT_WIRE_MAX_ENTRIES) {
        r->bad = true;
    }
    if (r->bad || n == 0) return true;
    exo_raft_entry *e = exo_arena_zalloc(arena, n, sizeof *e);
    if (e == NULL) return false;
    for (uint32_t i = 0; i < n && !r->bad; i++) {
        e[i].index = m->index + 1 + i;
        e[i].term = exo_read_u64(r);
        uint8_t kind = exo_read_u8(r);
        e[i].n_bytes = exo_read_u32(r);
        if (kind > EXO_RAFT_CONFIG || e[i].n_bytes > EXO_RAFT_MAX_COMMAND_BYTES) r->bad = true;
        e[i].kind = (exo_raft_entry_kind)kind;
        e[i].bytes = exo_read_bytes(r, e[i].n_bytes);
    }
    m->entries = e;
    m->n_entries = n;
    return true;
}

static bool read_snapshot(exo_reader *r, exo_arena *arena, exo_raft_message *m) {
    exo_raft_snapshot *s = exo_arena_zalloc(arena, 1, sizeof *s);
    if (s == NULL) return false;
    s->index = exo_read_u64(r);
    s->term = exo_read_u64(r);
    s->n_config = exo_read_u32(r);
    s->n_image = exo_read_u32(r);
    if (s->n_config > EXO_RAFT_MAX_MEMBERS * EXO_RAFT_MEMBER_BYTES ||
        s->n_image > EXO_RAFT_WIRE_MAX_IMAGE_BYTES || s->index == 0) {
        r->bad = true;
    }
    s->config = exo_read_bytes(r, s->n_config);
    s->image = exo_read_bytes(r, s->n_image);
    m->snapshot = s;
    return true;
}

exo_status exo_raft_wire_read(exo_reader *r, exo_arena *arena, exo_raft_message *out,
                              exo_error *err) {
    *out = (exo_raft_message){0};
    uint8_t type = exo_read_u8(r), flags = exo_read_u8(r);
    if (type < EXO_RAFT_PRE_VOTE || type > EXO_RAFT_TIMEOUT_NOW ||
        flags > (FLAG_REFUSED | FLAG_HAND_OVER)) {
        r->bad = true;
    }
    uint64_t *const numbers[] = {&out->from,     &out->to,     &out->term, &out->index,
                                 &out->log_term, &out->commit, &out->hint};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) *numbers[i] = exo_read_u64(r);
    bool room = true;
    if (!r->bad) {
        out->type = (exo_raft_message_type)type;
        out->refused = (flags & FLAG_REFUSED) != 0;
        out->hand_over = (flags & FLAG_HAND_OVER) != 0;
        if (type == EXO_RAFT_APPEND) room = read_entries(r, arena, out);
        if (type == EXO_RAFT_SNAPSHOT) room = read_snapshot(r, arena, out);
    }
    if (!room) return exo_error_set(err, EXO_ENOMEM, "no memory for a message of the log");
    if (!r->bad && r->left == 0) return EXO_OK;
    return exo_error_set(err, EXO_EFORMAT, "a message of the log that is broken or too long");
}
