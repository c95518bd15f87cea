/* stage_wire_test.c - admissions and results: round trips, every truncation, random bytes. */
#define _DEFAULT_SOURCE
#include "node/stage_wire.h"

#include "base/le.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define N 5u

/* Results with and without each optional part. */
static void make_results(exo_stage_result r[N]) {
    memset(r, 0, N * sizeof *r);
    for (uint32_t i = 0; i < N; i++) {
        r[i].seq = 60 * i;
        r[i].pos = 1000000 * i;
        r[i].draw.id = (int32_t)(i * 31999);
    }
    r[1].draw.logprob = -1.25f;
    r[2].draw.logprob = -0.5f;
    r[2].draw.n_top = EXO_MAX_LOGPROBS;
    for (int32_t k = 0; k < EXO_MAX_LOGPROBS; k++) {
        r[2].draw.top[k] = (exo_logprob){k, -0.125f * (float)k};
    }
    memset(r[3].logits_hash, 0xAB, EXO_SHA256_BYTES);
    r[4] = r[2];
    r[4].logits_hash[31] = 1;
}

static void expect_equal(const exo_stage_result *a, const exo_stage_result *b) {
    assert_int_equal(a->seq, b->seq);
    assert_int_equal(a->pos, b->pos);
    assert_int_equal(a->draw.id, b->draw.id);
    assert_memory_equal(&a->draw.logprob, &b->draw.logprob, sizeof(float));
    assert_int_equal(a->draw.n_top, b->draw.n_top);
    for (uint32_t k = 0; k < a->draw.n_top; k++) {
        assert_int_equal(a->draw.top[k].id, b->draw.top[k].id);
        assert_memory_equal(&a->draw.top[k].logprob, &b->draw.top[k].logprob, sizeof(float));
    }
    assert_memory_equal(a->logits_hash, b->logits_hash, EXO_SHA256_BYTES);
}

static void results_come_back(void **state) {
    (void)state;
    exo_stage_result in[N], out[N];
    exo_buf b = {0};
    make_results(in);
    for (uint32_t n = 0; n <= N; n++) {
        uint32_t got;
        exo_results_encode(in, n, &b);
        assert_true(exo_buf_ok(&b));
        memset(out, 0xEE, sizeof out);
        assert_int_equal(exo_results_decode((uint8_t *)b.data, b.n, N, out, &got, NULL), EXO_OK);
        assert_int_equal(got, n);
        for (uint32_t i = 0; i < n; i++) expect_equal(&in[i], &out[i]);
    }
    exo_buf_finish(&b);
}

/* The usual token: nothing was asked for beside it. */
static void a_plain_token_costs_twenty_bytes(void **state) {
    (void)state;
    exo_stage_result r = {.seq = 3, .pos = 4711, .draw = {.id = 99}};
    exo_buf b = {0};
    exo_results_encode(&r, 1, &b);
    assert_int_equal(b.n, 20);
    exo_buf_finish(&b);
}

static void every_truncation_of_results_is_refused(void **state) {
    (void)state;
    exo_stage_result in[N], out[N];
    exo_buf b = {0};
    exo_error err;
    uint32_t got = 9;
    make_results(in);
    exo_results_encode(in, N, &b);
    for (size_t n = 0; n < b.n; n++) {
        uint8_t *exact = malloc(n + 1); /* so that a sanitizer sees a read beyond */
        memcpy(exact, b.data, n);
        assert_int_equal(exo_results_decode(exact, n, N, out, &got, &err), EXO_EFORMAT);
        assert_int_equal(got, 0);
        free(exact);
    }
    exo_buf_putc(&b, 'x');
    assert_int_equal(exo_results_decode((uint8_t *)b.data, b.n, N, out, &got, &err), EXO_EFORMAT);
    exo_results_encode(in, N, &b);
    assert_int_equal(exo_results_decode((uint8_t *)b.data, b.n, N - 1, out, &got, &err),
                     EXO_EFORMAT);
    assert_non_null(strstr(err.message, "5 results where at most 4"));
    exo_buf_finish(&b);
}

static void random_bytes_break_nothing(void **state) {
    (void)state;
    exo_stage_result out[8];
    uint32_t u = 1, n, n_good = 0;
    for (int round = 0; round < 20000; round++) {
        uint8_t m[120];
        for (size_t i = 0; i < sizeof m; i++)
            m[i] = (uint8_t)((u = u * 1664525 + 1013904223) >> 24);
        exo_put_u16(m, (uint16_t)(u >> 16) % 6);
        size_t n_bytes = u % sizeof m;
        exo_status st = exo_results_decode(m, n_bytes, 8, out, &n, NULL);
        assert_true(st == EXO_OK || st == EXO_EFORMAT);
        for (uint32_t i = 0; i < n; i++) assert_true(out[i].draw.n_top <= EXO_MAX_LOGPROBS);
        n_good += st == EXO_OK;
    }
    assert_true(n_good < 2000);
}

/* An encoded admission as the frame that a lane delivers. */
static exo_status decode(json_t *json, const void *body, uint32_t n_body, uint32_t *seq,
                         exo_request *r, exo_tokens *history, exo_error *err) {
    char *text = json_dumps(json, JSON_COMPACT);
    exo_frame f = {.type = EXO_MSG_ADMIT,
                   .flags = EXO_FRAME_JSON,
                   .header = (uint8_t *)text,
                   .header_bytes = (uint32_t)strlen(text),
                   .body = body,
                   .body_bytes = n_body};
    exo_status st = exo_admit_decode(&f, seq, r, history, err);
    free(text);
    return st;
}

static void admissions_come_back(void **state) {
    (void)state;
    int32_t prompt[] = {1, 2, 3}, ids[] = {1, 2, 3, 31999, 0};
    exo_request in = {.id = "cmpl-1",
                      .prompt = prompt,
                      .n_prompt = 3,
                      .max_tokens = 9,
                      .sampling = {.temperature = 0.7f, .seed = UINT64_MAX, .top_k = 40}};
    exo_request out;
    exo_tokens history;
    json_t *json;
    exo_buf body = {0};
    uint32_t seq;
    exo_error err;
    assert_int_equal(exo_admit_encode(7, &in, (exo_tokens){ids, 5}, &json, &body, &err), EXO_OK);
    assert_int_equal(body.n, 20);
    assert_int_equal(decode(json, body.data, 20, &seq, &out, &history, &err), EXO_OK);
    assert_int_equal(seq, 7);
    assert_string_equal(out.id, "cmpl-1");
    assert_int_equal(out.n_prompt, 3);
    assert_true(out.sampling.seed == UINT64_MAX);
    assert_true(out.sampling.temperature == 0.7f);
    assert_int_equal(history.n, 5);
    assert_memory_equal(history.ids, ids, sizeof ids);
    exo_request_finish(&out);
    exo_free((void *)history.ids);

    assert_int_equal(decode(json, body.data, 19, &seq, &out, &history, &err), EXO_EFORMAT);
    static const json_int_t slots[] = {-1, EXO_MAX_SEQS, 1ll << 40};
    for (size_t i = 0; i < 3; i++) {
        json_object_set_new(json, "seq", json_integer(slots[i]));
        assert_int_equal(decode(json, body.data, 20, &seq, &out, &history, &err), EXO_EFORMAT);
        assert_null(history.ids);
    }
    json_object_set_new(json, "seq", json_string("1"));
    assert_int_equal(decode(json, body.data, 20, &seq, &out, &history, &err), EXO_EFORMAT);
    json_object_set_new(json, "seq", json_integer(1));
    json_object_set_new(json, "request", json_integer(1));
    assert_int_equal(decode(json, body.data, 20, &seq, &out, &history, &err), EXO_EFORMAT);
    json_decref(json);
    exo_buf_finish(&body);
}

static void failed_allocations_leave_nothing(void **state) {
    (void)state;
    int32_t ids[100] = {0};
    exo_request in = {.id = "cmpl-1", .n_prompt = 100};
    bool failed = true;
    for (uint64_t k = 1; failed; k++) {
        json_t *json = NULL;
        exo_buf body = {0};
        exo_request out = {0};
        exo_tokens history = {0};
        uint32_t seq;
        exo_mem_fail_at(k);
        exo_status st = exo_admit_encode(7, &in, (exo_tokens){ids, 100}, &json, &body, NULL);
        if (st == EXO_OK) st = decode(json, body.data, 400, &seq, &out, &history, NULL);
        failed = exo_mem_failed() != 0;
        exo_mem_fail_at(0);
        assert_int_equal(st, failed ? EXO_ENOMEM : EXO_OK);
        json_decref(json);
        exo_buf_finish(&body);
        exo_request_finish(&out);
        exo_free((void *)history.ids);
    }
}

static exo_status decode_note(const char *text, exo_move_note *out, exo_error *err) {
    const exo_frame f = {.type = EXO_MSG_DEVICE,
                         .flags = EXO_FRAME_JSON,
                         .header = (const uint8_t *)text,
                         .header_bytes = (uint32_t)strlen(text)};
    return exo_move_note_decode(&f, out, err);
}

static void notes_on_moves_come_back(void **state) {
    (void)state;
    exo_error err = {0};
    for (uint32_t op = EXO_MOVE_MOVING; op <= EXO_MOVE_REREAD; op++) {
        const exo_move_note in = {
            .op = (exo_move_op)op, .stage = 63 - op, .device_id = "cpu:0", .reason = "it is lost"};
        exo_move_note out;
        char *text = exo_move_note_encode(&in);
        assert_non_null(text);
        assert_int_equal(decode_note(text, &out, &err), EXO_OK);
        assert_int_equal(out.op, op);
        assert_int_equal(out.stage, 63 - op);
        assert_string_equal(out.device_id, "cpu:0");
        assert_string_equal(out.reason, "it is lost");
        free(text);
    }
    static const char *const wrong[] = {"",
                                        "[]",
                                        "{}",
                                        "{\"op\":\"flown\",\"stage\":1}",
                                        "{\"op\":\"moved\",\"stage\":64}",
                                        "{\"op\":\"moved\",\"stage\":-1}",
                                        "{\"op\":7}"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        exo_move_note out;
        assert_int_equal(decode_note(wrong[i], &out, &err), EXO_EFORMAT);
        assert_true(err.message[0] != '\0');
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_come_back),
        cmocka_unit_test(a_plain_token_costs_twenty_bytes),
        cmocka_unit_test(every_truncation_of_results_is_refused),
        cmocka_unit_test(random_bytes_break_nothing),
        cmocka_unit_test(admissions_come_back),
        cmocka_unit_test(notes_on_moves_come_back),
        cmocka_unit_test(failed_allocations_leave_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
