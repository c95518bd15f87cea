/* stage_io.c - see stage_io.h.  Activations travel as they lie in memory: little-endian f32 or
 * f16, checked at compile time. */
#define _DEFAULT_SOURCE
#include "node/stage_io.h"

#include "base/clock.h"
#include "base/half.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#define SEND_DEADLINE_US 30000000u /* a neighbour that takes no bytes for so long is gone */
#define FAIL_DEADLINE_US 200000u   /* last words: a courtesy, since the closed lane says it too */

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "activations are sent as they lie in memory, which must be little-endian"
#endif

exo_status exo_stage_io_init(exo_stage_io *io, exo_stage *stage_take, uint32_t n_embd,
                             exo_error *err) {
    const exo_shard_desc *d = exo_shard_get_desc(exo_stage_shard(stage_take));
    io->stage = stage_take;
    io->n_embd = n_embd;
    io->wire_f16 = d->wire_f16;
    exo_status st = exo_step_init(&io->step, d->max_rows, EXO_MAX_STEP_PAGES, err);
    if (st != EXO_OK) goto fail;
    size_t n = (size_t)d->max_rows * n_embd;
    exo_step fullest = {.n_rows = d->max_rows, .n_pages = EXO_MAX_STEP_PAGES};
    io->x_in = exo_malloc(n * sizeof(float));
    io->x_out = exo_malloc(n * sizeof(float));
    io->x_wire = exo_malloc(io->wire_f16 ? n * sizeof(uint16_t) : 1);
    io->step_bytes = exo_malloc(exo_step_wire_bytes(&fullest));
    io->results = exo_calloc(d->max_seqs, sizeof *io->results);
    if (io->x_in && io->x_out && io->x_wire && io->step_bytes && io->results) return EXO_OK;
    st = exo_error_set(err, EXO_ENOMEM, "out of memory for the buffers of a stage");
fail:
    exo_stage_io_finish(io);
    return st;
}

void exo_stage_io_finish(exo_stage_io *io) {
    exo_lane_destroy(io->prev);
    exo_lane_destroy(io->next);
    exo_stage_destroy(io->stage);
    exo_seat_close(&io->seat);
    exo_step_finish(&io->step);
    exo_free(io->x_in);
    exo_free(io->x_out);
    exo_free(io->x_wire);
    exo_free(io->step_bytes);
    exo_free(io->results);
    exo_buf_finish(&io->result_bytes);
    *io = (exo_stage_io){.wait = io->wait, .stop = io->stop, .counters = io->counters};
}

static void count(atomic_uint_fast64_t *counter, uint64_t n) {
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

exo_status exo_stage_io_run(exo_stage_io *io, const exo_step *step, exo_error *err) {
    const exo_shard_desc *d = exo_shard_get_desc(exo_stage_shard(io->stage));
    uint64_t begin = exo_now_us();
    exo_status st =
        exo_stage_run(io->stage, step, d->has_embedding ? NULL : io->x_in,
                      d->has_head ? NULL : io->x_out, io->results, &io->n_results, io->stop, err);
    io->last_run_us = exo_now_us() - begin;
    uint32_t n_logits = exo_step_n_logits(step);
    count(&io->counters->steps, 1);
    count(&io->counters->rows, step->n_rows);
    count(&io->counters->tokens, n_logits);
    count(&io->counters->busy_us, io->last_run_us);
    if (n_logits == step->n_rows) {
        count(&io->counters->decode_steps, 1);
        count(&io->counters->decode_us, io->last_run_us);
    }
    return st;
}

exo_status exo_stage_io_move(exo_stage_io *io, const char *why, exo_error *err) {
    exo_shard *shard = NULL;
    exo_status st = exo_seat_move(&io->seat, exo_stage_give_shard(io->stage), why, &shard, err);
    if (st == EXO_OK) exo_stage_take_shard(io->stage, shard);
    return st;
}

static exo_status send_within(exo_stage_io *io, const exo_frame *f, uint64_t us, exo_error *err) {
    uint64_t before = exo_lane_bytes_sent(io->next);
    exo_status st = exo_lane_send(io->next, f, exo_now_us() + us, err);
    count(&io->counters->bytes_sent, exo_lane_bytes_sent(io->next) - before);
    return st;
}

static exo_status send_frame(exo_stage_io *io, const exo_frame *f, exo_error *err) {
    return send_within(io, f, SEND_DEADLINE_US, err);
}

exo_status exo_stage_io_send_step(exo_stage_io *io, const exo_step *step, exo_error *err) {
    size_t n = (size_t)step->n_rows * io->n_embd;
    exo_frame f = {.type = EXO_MSG_STEP, .epoch = io->epoch, .seq = step->number};
    exo_step_encode(step, io->step_bytes);
    f.header = io->step_bytes;
    f.header_bytes = (uint32_t)exo_step_wire_bytes(step);
    if (io->wire_f16) { /* exact: the residual was rounded to f16 by the plan */
        for (size_t i = 0; i < n; i++) io->x_wire[i] = exo_f32_to_f16(io->x_out[i]);
        f.body = (const uint8_t *)io->x_wire;
        f.body_bytes = (uint32_t)(n * sizeof(uint16_t));
    } else {
        f.body = (const uint8_t *)io->x_out;
        f.body_bytes = (uint32_t)(n * sizeof(float));
    }
    return send_frame(io, &f, err);
}

exo_status exo_stage_io_send_results(exo_stage_io *io, uint64_t number, exo_error *err) {
    exo_results_encode(io->results, io->n_results, &io->result_bytes);
    if (!exo_buf_ok(&io->result_bytes)) {
        return exo_error_set(err, EXO_ENOMEM, "out of memory for results");
    }
    exo_frame f = {.type = EXO_MSG_RESULT, .epoch = io->epoch, .seq = number};
    f.header = (const uint8_t *)io->result_bytes.data;
    f.header_bytes = (uint32_t)io->result_bytes.n;
    return send_frame(io, &f, err);
}

exo_status exo_stage_io_send_admit(exo_stage_io *io, uint32_t seq, const exo_request *r,
                                   exo_tokens history, exo_error *err) {
    json_t *json = NULL;
    exo_buf body = {0};
    exo_status st = exo_admit_encode(seq, r, history, &json, &body, err);
    if (st != EXO_OK) goto done;
    char *text = json_dumps(json, JSON_COMPACT);
    if (text == NULL) {
        st = exo_error_set(err, EXO_ENOMEM, "out of memory for an admission");
        goto done;
    }
    exo_frame f = {.type = EXO_MSG_ADMIT, .flags = EXO_FRAME_JSON, .epoch = io->epoch};
    f.header = (const uint8_t *)text;
    f.header_bytes = (uint32_t)strlen(text);
    f.body = (const uint8_t *)body.data;
    f.body_bytes = (uint32_t)body.n;
    st = send_frame(io, &f, err);
    free(text); /* jansson's allocator */
done:
    json_decref(json);
    exo_buf_finish(&body);
    return st;
}

exo_status exo_stage_io_send_note(exo_stage_io *io, const exo_move_note *note, exo_error *err) {
    char *text = exo_move_note_encode(note);
    if (text == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for a note");
    exo_frame f = {.type = EXO_MSG_DEVICE, .flags = EXO_FRAME_JSON, .epoch = io->epoch};
    f.header = (const uint8_t *)text;
    f.header_bytes = (uint32_t)strlen(text);
    exo_status st = send_frame(io, &f, err);
    free(text); /* jansson's allocator */
    return st;
}

void exo_stage_io_send_fail(exo_stage_io *io, const char *reason) {
    if (io->next == NULL) return;
    json_t *json = json_pack("{s:s}", "reason", reason);
    char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    if (text != NULL) {
        exo_frame f = {.type = EXO_MSG_FAIL, .flags = EXO_FRAME_JSON, .epoch = io->epoch};
        f.header = (const uint8_t *)text;
        f.header_bytes = (uint32_t)strlen(text);
        send_within(io, &f, FAIL_DEADLINE_US, NULL); /* a broken lane needs no second reason */
    }
    free(text);
    json_decref(json);
}

exo_status exo_stage_io_take_step(exo_stage_io *io, const exo_frame *f, exo_error *err) {
    exo_status st = exo_step_decode(&io->step, f->header, f->header_bytes, err);
    if (st != EXO_OK) return st;
    io->step.number = f->seq;
    size_t n = (size_t)io->step.n_rows * io->n_embd;
    size_t want = n * (io->wire_f16 ? sizeof(uint16_t) : sizeof(float));
    if (f->body_bytes != want) {
        return exo_error_set(err, EXO_EFORMAT, "a step of %u rows came with %u bytes, not %zu",
                             io->step.n_rows, f->body_bytes, want);
    }
    if (io->wire_f16) {
        memcpy(io->x_wire, f->body, want);
        for (size_t i = 0; i < n; i++) io->x_in[i] = exo_f16_to_f32(io->x_wire[i]);
    } else {
        memcpy(io->x_in, f->body, want);
    }
    return EXO_OK;
}

static exo_status fail_reason(const exo_frame *f, exo_error *err) {
    json_t *json = NULL;
    exo_status st = exo_frame_json(f, &json, err);
    if (st != EXO_OK) return st;
    const char *reason = json_string_value(json_object_get(json, "reason"));
    exo_error_set(err, EXO_EPEER, "%s", reason != NULL ? reason : "another stage failed");
    json_decref(json);
    return EXO_EPEER;
}

exo_status exo_stage_io_recv(exo_stage_io *io, exo_frame *f, bool *have, exo_error *err) {
    *have = false;
    if (io->prev == NULL) return EXO_OK;
    exo_status st = exo_lane_recv(io->next, f, have, err);
    if (st == EXO_OK && *have) {
        st = exo_error_set(err, EXO_EFORMAT, "unexpected frame of type %u from the next stage",
                           f->type);
    }
    if (st != EXO_OK) return st;
    uint64_t before = exo_lane_bytes_received(io->prev);
    st = exo_lane_recv(io->prev, f, have, err);
    count(&io->counters->bytes_received, exo_lane_bytes_received(io->prev) - before);
    if (st != EXO_OK || !*have) return st;
    if (f->epoch != io->epoch) {
        return exo_error_set(err, EXO_EFORMAT, "a frame of epoch %u on a lane of epoch %u",
                             f->epoch, io->epoch);
    }
    return f->type == EXO_MSG_FAIL ? fail_reason(f, err) : EXO_OK;
}

void exo_stage_io_hear_reason(exo_stage_io *io, exo_error *err) {
    exo_frame f;
    exo_error said;
    bool have = io->prev != NULL;
    while (have && exo_lane_recv(io->prev, &f, &have, NULL) == EXO_OK) {
        if (!have || f.type != EXO_MSG_FAIL || f.epoch != io->epoch) continue;
        if (fail_reason(&f, &said) == EXO_EPEER) *err = said;
    }
}

void exo_stage_io_wait(exo_stage_io *io, uint64_t deadline_us) {
    exo_lane *lanes[] = {io->prev, io->next};
    int ready;
    exo_lane_set_wait(io->wait, lanes, 2, 0, deadline_us, &ready);
}
