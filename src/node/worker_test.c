/* worker_test.c - real workers on their threads, joined by real lanes over socket pairs. */
#define _DEFAULT_SOURCE
#include "node/worker.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "node/testing.h"

#define CTX      2048u
#define N_EVENTS (EXO_WORKER_FAILED + 1)

static exo_model *model;
static uint32_t n_vocab;

/* One worker and what it reported. */
typedef struct {
    exo_worker *worker;
    exo_latch *seen[N_EVENTS]; /* by event */
    exo_worker_report last;
} stage;

static void on_report(void *ud, const exo_worker_report *r) {
    stage *s = ud;
    s->last = *r;
    exo_latch_set(s->seen[r->event]);
}

static void await(stage *s, exo_worker_event event) {
    if (!exo_latch_wait(s->seen[event], PATIENCE_MS)) fail_msg("event %d did not come", event);
}

static void start_on(stage *s, uint32_t i, uint32_t n, uint32_t begin, uint32_t end,
                     const char *device, const exo_backend *backend) {
    exo_error err = {0};
    *s = (stage){0};
    for (int k = 0; k < N_EVENTS; k++)
        assert_int_equal(exo_latch_create(&s->seen[k], NULL), EXO_OK);
    exo_worker_desc d = {.model = model,
                         .device = device,
                         .backend = backend,
                         .n_threads = 1,
                         .shard = {.layer_begin = begin,
                                   .layer_end = end,
                                   .has_embedding = i == 0,
                                   .has_head = i + 1 == n,
                                   .ctx_tokens = CTX,
                                   .max_seqs = 4,
                                   .n_pages = 160},
                         .epoch = 3,
                         .stage = i,
                         .n_stages = n,
                         .report = on_report,
                         .ud = s};
    check(exo_worker_create(&d, &s->worker, &err), &err);
}

static void start(stage *s, uint32_t i, uint32_t n, uint32_t begin, uint32_t end,
                  const char *device) {
    start_on(s, i, n, begin, end, device, NULL);
}

static void end(stage *s, const char *reason) {
    exo_worker_destroy(s->worker, reason);
    for (int k = 0; k < N_EVENTS; k++) exo_latch_destroy(s->seen[k]);
}

static void start_alone(stage *s) {
    start(s, 0, 1, 0, 4, "cpu:0");
    await(s, EXO_WORKER_LOADED);
    assert_true(s->last.weight_bytes > 0 && s->last.kv_bytes > 0);
    assert_int_equal(s->last.n_pages, 160);
    exo_worker_connect(s->worker, NULL, NULL, (exo_worker_common){.n_pages = 160});
    await(s, EXO_WORKER_READY);
}

/* Stages 0 and 1 in a ring; *cable is the lane from 0 to 1 when asked for.  Bit i of flaky: stage i
 * is on flaky_backend(). */
static void start_pair_on(stage s[2], uint32_t cut, int *cable, unsigned flaky_stages) {
    exo_lane *out, *in, *back_out, *back_in;
    open_lane(&out, &in, cable);
    open_lane(&back_out, &back_in, NULL);
    start_on(&s[0], 0, 2, 0, cut, "cpu:0", flaky_stages & 1 ? &flaky : NULL);
    start_on(&s[1], 1, 2, cut, 4, "cpu:0", flaky_stages & 2 ? &flaky : NULL);
    for (int i = 0; i < 2; i++) await(&s[i], EXO_WORKER_LOADED);
    exo_worker_connect(s[0].worker, back_in, out, (exo_worker_common){.n_pages = 160});
    exo_worker_connect(s[1].worker, in, back_out, (exo_worker_common){.n_pages = 160});
    for (int i = 0; i < 2; i++) await(&s[i], EXO_WORKER_READY);
}

static void start_pair(stage s[2], uint32_t cut, int *cable) { start_pair_on(s, cut, cable, 0); }

static void ask(stage *s, uint64_t id, uint32_t who, size_t n_prompt, uint32_t n_answer, asker *a) {
    exo_error err = {0};
    asker_init(a);
    exo_request r = new_request(who, n_prompt, n_answer, n_vocab);
    check(exo_worker_submit(s->worker, id, &r, record_event, a, &err), &err);
    exo_request_finish(&r); /* the worker has its own copy */
}

static void two_stages_answer_as_one(void **state) {
    (void)state;
    stage one, pair[2];
    asker expected[4], got[4];
    start_alone(&one);
    for (uint32_t i = 0; i < 4; i++) ask(&one, i + 1, i, 10 + 90 * i, 12, &expected[i]);
    for (uint32_t i = 0; i < 4; i++) wait_for_end(&expected[i]);
    for (uint32_t cut = 1; cut <= 3; cut++) {
        start_pair(pair, cut, NULL);
        for (uint32_t i = 0; i < 4; i++) ask(&pair[0], i + 1, i, 10 + 90 * i, 12, &got[i]);
        for (uint32_t i = 0; i < 4; i++) {
            wait_for_end(&got[i]);
            expect_full_answer(&got[i], 12);
            expect_same_answer(&got[i], &expected[i]);
            asker_finish(&got[i]);
        }
        exo_worker_stats a, b;
        exo_worker_get_stats(pair[0].worker, &a);
        exo_worker_get_stats(pair[1].worker, &b);
        assert_int_equal(a.tokens, 4 * 12);
        assert_int_equal(a.rows, b.rows);
        assert_true(a.bytes_sent > a.rows * 256 * 4 && a.bytes_received > 0);
        end(&pair[0], "done");
        end(&pair[1], "done");
    }
    for (uint32_t i = 0; i < 4; i++) asker_finish(&expected[i]);
    end(&one, "done");
}

/* Either stage of a pipeline loses its device, or both do, at any step: the answers of all requests
 * under way go on with the same tokens. */
static void a_lost_device_costs_no_answer(void **state) {
    (void)state;
    enum { N = 4 };
    stage one, pair[2];
    asker expected[N], got[N];
    start_alone(&one);
    for (uint32_t i = 0; i < N; i++) ask(&one, i + 1, i, 10 + 90 * i, 20, &expected[i]);
    for (uint32_t i = 0; i < N; i++) wait_for_end(&expected[i]);
    for (unsigned flaky_stages = 1; flaky_stages <= 3; flaky_stages++) {
        for (int steps = 0; steps <= 27; steps += 9) {
            flaky_backend(steps);
            start_pair_on(pair, 2, NULL, flaky_stages);
            for (uint32_t i = 0; i < N; i++) ask(&pair[0], i + 1, i, 10 + 90 * i, 20, &got[i]);
            for (uint32_t i = 0; i < N; i++) {
                wait_for_end(&got[i]);
                expect_full_answer(&got[i], 20);
                assert_memory_equal(got[i].ids, expected[i].ids, 20 * sizeof *got[i].ids);
                assert_int_equal(got[i].n_text, expected[i].n_text);
                asker_finish(&got[i]);
            }
            for (unsigned i = 0; i < 2; i++) {
                if ((flaky_stages & 1u << i) == 0) continue;
                await(&pair[i], EXO_WORKER_MOVED);
                assert_string_equal(pair[i].last.device_id, "cpu:0");
                assert_non_null(strstr(pair[i].last.reason, "flaky:0 is lost"));
            }
            end(&pair[0], "done");
            end(&pair[1], "done");
        }
    }
    for (uint32_t i = 0; i < N; i++) asker_finish(&expected[i]);
    end(&one, "done");
}

/* The instance is ended, or the pipeline breaks, while a stage is being made on the CPU. */
static void ended_while_a_stage_moves(void **state) {
    (void)state;
    for (useconds_t us = 0; us < 20000; us += 4000) {
        stage s[2];
        asker a;
        flaky_backend(8);
        start_pair_on(s, 2, NULL, 2);
        ask(&s[0], 1, 1, 20, 400, &a);
        wait_for_tokens(&a, 3);
        usleep(us);
        end(&s[0], "changed my mind");
        wait_for_end(&a);
        expect_end(&a, EXO_EPEER, "changed my mind");
        asker_finish(&a);
        end(&s[1], "done");
    }
}

static void a_cut_lane_fails_both_stages(void **state) {
    (void)state;
    stage s[2];
    asker running, late;
    int cable;
    start_pair(s, 2, &cable);
    ask(&s[0], 1, 1, 20, 400, &running);
    wait_for_tokens(&running, 3);
    uint64_t begin = exo_now_ms();
    shutdown(cable, SHUT_RDWR);
    wait_for_end(&running);
    assert_true(exo_now_ms() - begin < 2000);
    expect_end(&running, EXO_EPEER, "");
    assert_true(running.message[0] != '\0');
    for (int i = 0; i < 2; i++) {
        await(&s[i], EXO_WORKER_FAILED);
        assert_true(s[i].last.message[0] != '\0');
    }
    ask(&s[0], 2, 2, 20, 5, &late);
    wait_for_end(&late);
    expect_end(&late, EXO_EPEER, running.message);
    asker_finish(&running);
    asker_finish(&late);
    close(cable);
    end(&s[0], "done");
    end(&s[1], "done");
}

static void a_stopped_neighbour_gives_its_reason(void **state) {
    (void)state;
    stage s[2];
    asker a;
    start_pair(s, 2, NULL);
    ask(&s[0], 1, 1, 20, 400, &a);
    wait_for_tokens(&a, 3);
    end(&s[1], "its owner went home");
    wait_for_end(&a);
    expect_end(&a, EXO_EPEER, "its owner went home");
    await(&s[0], EXO_WORKER_FAILED);
    asker_finish(&a);
    end(&s[0], "done");
}

static void destroy_ends_what_runs(void **state) {
    (void)state;
    stage s;
    asker a[6];
    start_alone(&s);
    for (uint32_t i = 0; i < 6; i++) ask(&s, i, i, 20, 400, &a[i]);
    wait_for_tokens(&a[0], 2);
    end(&s, "the instance was deleted");
    for (uint32_t i = 0; i < 6; i++) {
        expect_end(&a[i], EXO_EPEER, "the instance was deleted");
        asker_finish(&a[i]);
    }
}

static void cancel_takes_effect_at_once(void **state) {
    (void)state;
    stage s[2];
    asker a, b;
    start_pair(s, 1, NULL);
    ask(&s[0], 1, 1, 20, 400, &a);
    wait_for_tokens(&a, 3);
    exo_worker_cancel(s[0].worker, 1);
    wait_for_end(&a);
    expect_end(&a, EXO_ECANCELED, "canceled");
    ask(&s[0], 2, 2, 20, 5, &b); /* rows of the first that are in flight do not disturb */
    wait_for_end(&b);
    expect_full_answer(&b, 5);
    asker_finish(&a);
    asker_finish(&b);
    end(&s[0], "done");
    end(&s[1], "done");
}

static void too_early_and_wrong_device(void **state) {
    (void)state;
    stage s;
    asker a;
    start(&s, 0, 1, 0, 4, "cpu:0");
    ask(&s, 1, 1, 20, 5, &a);
    wait_for_end(&a);
    expect_end(&a, EXO_EPEER, "not ready");
    asker_finish(&a);
    end(&s, "done");
    start(&s, 0, 1, 0, 4, "cpu:7");
    await(&s, EXO_WORKER_FAILED);
    assert_non_null(strstr(s.last.message, "cpu:7"));
    ask(&s, 1, 1, 20, 5, &a);
    wait_for_end(&a);
    expect_end(&a, EXO_EPEER, "cpu:7");
    asker_finish(&a);
    end(&s, "done");
}

static void destroyed_while_loading(void **state) {
    (void)state;
    for (useconds_t us = 0; us < 8000; us += 1000) {
        stage s;
        start(&s, 0, 1, 0, 4, "cpu:0");
        usleep(us);
        end(&s, "changed my mind");
    }
}

/* A neighbour that reads nothing must not hold LOOP, which waits for the worker to end. */
static void destroyed_while_a_send_waits(void **state) {
    (void)state;
    stage s;
    asker a;
    exo_lane *out, *in, *back_out, *back_in;
    open_lane(&out, &in, NULL);
    open_lane(&back_out, &back_in, NULL);
    start(&s, 0, 2, 0, 2, "cpu:0");
    await(&s, EXO_WORKER_LOADED);
    exo_worker_connect(s.worker, back_in, out, (exo_worker_common){.n_pages = 160});
    await(&s, EXO_WORKER_READY);
    ask(&s, 1, 1, CTX - 10, 5, &a); /* 2 MB of activations: more than the sockets hold */
    exo_worker_stats now = {0}, before;
    uint64_t deadline = exo_now_ms() + PATIENCE_MS;
    do { /* until no step is made any more: it waits for room */
        before = now;
        usleep(300000);
        exo_worker_get_stats(s.worker, &now);
    } while ((now.rows == 0 || now.rows != before.rows) && exo_now_ms() < deadline);
    uint64_t begin = exo_now_ms();
    end(&s, "no patience");
    assert_true(exo_now_ms() - begin < 1000);
    wait_for_end(&a);
    expect_end(&a, EXO_EPEER, "no patience");
    asker_finish(&a);
    exo_lane_destroy(in);
    exo_lane_destroy(back_out);
}

static int set_up(void **state) {
    model = synth_model("test-256", "q8_0");
    n_vocab = exo_model_hparams(model)->n_vocab;
    return derive_lane_key(state);
}

static int tear_down(void **state) {
    exo_model_unref(model);
    return forget_lane_key(state);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_stages_answer_as_one),
        cmocka_unit_test(a_lost_device_costs_no_answer),
        cmocka_unit_test(ended_while_a_stage_moves),
        cmocka_unit_test(a_cut_lane_fails_both_stages),
        cmocka_unit_test(a_stopped_neighbour_gives_its_reason),
        cmocka_unit_test(destroy_ends_what_runs),
        cmocka_unit_test(cancel_takes_effect_at_once),
        cmocka_unit_test(too_early_and_wrong_device),
        cmocka_unit_test(destroyed_while_loading),
        cmocka_unit_test(destroyed_while_a_send_waits),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
