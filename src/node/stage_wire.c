/* stage_wire.c - encoding of admissions and results; see stage_wire.h for the layout. */
#define _DEFAULT_SOURCE
#include "node/stage_wire.h"

#include "base/le.h"
#include "base/mem.h"
#include "cluster/placement.h"

#include <string.h>

exo_status exo_admit_encode(uint32_t seq, const exo_request *r, exo_tokens history, json_t **json,
                            exo_buf *body, exo_error *err) {
    *json = json_pack("{s:i, s:o}", "seq", (int)seq, "request", exo_request_to_json(r));
    exo_buf_clear(body);
    for (size_t i = 0; i < history.n; i++) {
        uint8_t b[4];
        exo_put_u32(b, (uint32_t)history.ids[i]);
        exo_buf_append(body, b, 4);
    }
    if (*json != NULL && exo_buf_ok(body)) return EXO_OK;
    json_decref(*json);
    *json = NULL;
    return exo_error_set(err, EXO_ENOMEM, "out of memory for a request descriptor");
}

exo_status exo_admit_decode(const exo_frame *f, uint32_t *seq, exo_request *request,
                            exo_tokens *history, exo_error *err) {
    *request = (exo_request){0};
    *history = (exo_tokens){0};
    json_t *json = NULL;
    exo_status st = exo_frame_json(f, &json, err);
    if (st != EXO_OK) return st;
    const json_t *seq_json = json_object_get(json, "seq");
    json_int_t slot = json_is_integer(seq_json) ? json_integer_value(seq_json) : -1;
    if (slot < 0 || slot >= EXO_MAX_SEQS || f->body_bytes % 4 != 0) {
        st = exo_error_set(err, EXO_EFORMAT, "admission with slot %lld and %u bytes of history",
                           (long long)slot, f->body_bytes);
        goto done;
    }
    st = exo_request_from_json(json_object_get(json, "request"), request, err);
    if (st != EXO_OK) goto done;
    size_t n = f->body_bytes / 4;
    int32_t *ids = exo_malloc(n * sizeof *ids);
    if (ids == NULL) {
        exo_request_finish(request);
        st = exo_error_set(err, EXO_ENOMEM, "out of memory for %zu tokens of history", n);
        goto done;
    }
    for (size_t i = 0; i < n; i++) ids[i] = (int32_t)exo_get_u32(f->body + 4 * i);
    *history = (exo_tokens){ids, n};
    *seq = (uint32_t)slot;
done:
    json_decref(json);
    return st;
}

enum { RESULT_LOGPROB = 1, RESULT_HASH = 2 };

static uint8_t result_flags(const exo_stage_result *r) {
    static const uint8_t none[EXO_SHA256_BYTES];
    uint8_t flags = 0;
    if (r->draw.logprob != 0.0f || r->draw.n_top > 0) flags |= RESULT_LOGPROB;
    if (memcmp(r->logits_hash, none, sizeof none) != 0) flags |= RESULT_HASH;
    return flags;
}

void exo_results_encode(const exo_stage_result *results, uint32_t n, exo_buf *out) {
    exo_buf_clear(out);
    uint8_t head[12] = {0};
    exo_put_u16(head, (uint16_t)n);
    exo_buf_append(out, head, 8);
    for (uint32_t i = 0; i < n; i++) {
        const exo_stage_result *r = &results[i];
        uint8_t flags = result_flags(r);
        exo_put_u16(head, (uint16_t)r->seq);
        head[2] = (uint8_t)r->draw.n_top;
        head[3] = flags;
        exo_put_u32(head + 4, r->pos);
        exo_put_u32(head + 8, (uint32_t)r->draw.id);
        exo_buf_append(out, head, 12);
        if (flags & RESULT_LOGPROB) {
            exo_put_f32(head, r->draw.logprob);
            exo_buf_append(out, head, 4);
        }
        for (uint32_t k = 0; k < r->draw.n_top; k++) {
            exo_put_u32(head, (uint32_t)r->draw.top[k].id);
            exo_put_f32(head + 4, r->draw.top[k].logprob);
            exo_buf_append(out, head, 8);
        }
        if (flags & RESULT_HASH) exo_buf_append(out, r->logits_hash, EXO_SHA256_BYTES);
    }
}

/* Reads one result; 0 = the bytes end too early or break a limit. */
static size_t read_result(const uint8_t *p, size_t left, exo_stage_result *r) {
    *r = (exo_stage_result){0};
    if (left < 12) return 0;
    uint32_t n_top = p[2], flags = p[3];
    size_t need = 12 + (flags & RESULT_LOGPROB ? 4u : 0u) + 8u * n_top +
                  (flags & RESULT_HASH ? EXO_SHA256_BYTES : 0u);
    if (n_top > EXO_MAX_LOGPROBS || left < need) return 0;
    r->seq = exo_get_u16(p);
    r->pos = exo_get_u32(p + 4);
    r->draw.id = (int32_t)exo_get_u32(p + 8);
    r->draw.n_top = n_top;
    p += 12;
    if (flags & RESULT_LOGPROB) {
        r->draw.logprob = exo_get_f32(p);
        p += 4;
    }
    for (uint32_t k = 0; k < n_top; k++, p += 8) {
        r->draw.top[k].id = (int32_t)exo_get_u32(p);
        r->draw.top[k].logprob = exo_get_f32(p + 4);
    }
    if (flags & RESULT_HASH) memcpy(r->logits_hash, p, EXO_SHA256_BYTES);
    return need;
}

exo_status exo_results_decode(const uint8_t *bytes, size_t n_bytes, uint32_t cap,
                              exo_stage_result *out, uint32_t *n, exo_error *err) {
    *n = 0;
    if (n_bytes < 8) return exo_error_set(err, EXO_EFORMAT, "results of %zu bytes", n_bytes);
    uint32_t count = exo_get_u16(bytes);
    if (count > cap) {
        return exo_error_set(err, EXO_EFORMAT, "%u results where at most %u can be", count, cap);
    }
    size_t at = 8;
    for (uint32_t i = 0; i < count; i++) {
        size_t used = read_result(bytes + at, n_bytes - at, &out[i]);
        if (used == 0) return exo_error_set(err, EXO_EFORMAT, "result %u is cut short", i);
        at += used;
    }
    if (at != n_bytes) {
        return exo_error_set(err, EXO_EFORMAT, "%zu bytes after the last result", n_bytes - at);
    }
    *n = count;
    return EXO_OK;
}

/* ---- a stage that moves ---- */

static const char *const move_names[] = {"moving", "moved", "reread"};
#define N_MOVE_OPS (sizeof move_names / sizeof move_names[0])

char *exo_move_note_encode(const exo_move_note *n) {
    json_t *json = json_pack("{s:s, s:i, s:s, s:s}", "op", move_names[n->op], "stage",
                             (int)n->stage, "device_id", n->device_id, "reason", n->reason);
    char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    return text;
}

exo_status exo_move_note_decode(const exo_frame *f, exo_move_note *out, exo_error *err) {
    *out = (exo_move_note){0};
    json_t *json = NULL;
    exo_status st = exo_frame_json(f, &json, err);
    if (st != EXO_OK) return st;
    const char *op = json_string_value(json_object_get(json, "op"));
    const char *device = json_string_value(json_object_get(json, "device_id"));
    const char *reason = json_string_value(json_object_get(json, "reason"));
    json_int_t stage = json_integer_value(json_object_get(json, "stage"));
    size_t k = 0;
    while (k < N_MOVE_OPS && (op == NULL || strcmp(op, move_names[k]) != 0)) k++;
    bool fits = k < N_MOVE_OPS && stage >= 0 && stage < EXO_MAX_STAGES && device != NULL &&
                reason != NULL && strlen(device) < sizeof out->device_id &&
                strlen(reason) < sizeof out->reason;
    if (fits) {
        out->op = (exo_move_op)k;
        out->stage = (uint32_t)stage;
        memcpy(out->device_id, device, strlen(device) + 1);
        memcpy(out->reason, reason, strlen(reason) + 1);
    } else {
        st = exo_error_set(err, EXO_EFORMAT, "a note on a stage's device that makes no sense");
    }
    json_decref(json);
    return st;
}
