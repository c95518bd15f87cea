/* coordinator_test.c - requests in, events out, over a real stage in a pipeline of one.
 *
 * The test is the COMPUTE thread: it takes turns until there is nothing left to do.  A pipeline of
 * several stages needs their threads; worker_test.c has those. */
#define _DEFAULT_SOURCE
#include "node/coordinator.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "node/testing.h"

#define CTX      96u
#define MAX_SEQS 4u

static exo_model *model;
static uint32_t n_vocab;

typedef struct {
    const exo_backend *backend;
    exo_device *device;
    exo_stage_counters counters;
    atomic_bool stop;
    exo_stage_io io;
    exo_coordinator *coordinator;
} rig;

static exo_status try_open(rig *r, uint32_t n_pages, exo_error *err) {
    *r = (rig){.counters = {0}};
    r->io = (exo_stage_io){.stop = &r->stop, .counters = &r->counters};
    exo_shard *shard = NULL;
    exo_stage *stage = NULL;
    exo_shard_desc d = {.layer_end = 4,
                        .has_embedding = true,
                        .has_head = true,
                        .ctx_tokens = CTX,
                        .max_seqs = MAX_SEQS,
                        .max_rows = 64,
                        .n_pages = n_pages};
    exo_device_desc one = {.n_threads = 1};
    exo_status st = exo_device_open("cpu:0", &one, &r->backend, &r->device, err);
    if (st == EXO_OK) {
        st = exo_shard_create(model, r->backend, r->device, &d, NULL, NULL, &shard, err);
    }
    if (st == EXO_OK) st = exo_stage_create(shard, &stage, err);
    if (st == EXO_OK) st = exo_stage_io_init(&r->io, stage, exo_model_hparams(model)->n_embd, err);
    if (st != EXO_OK) return st;
    exo_coordinator_desc cd = {.io = &r->io,
                               .tokenizer = exo_model_tokenizer(model),
                               .n_stages = 1,
                               .n_pages = exo_shard_get_desc(shard)->n_pages};
    return exo_coordinator_create(&cd, &r->coordinator, err);
}

static void close_rig(rig *r) {
    exo_coordinator_destroy(r->coordinator);
    exo_stage_io_finish(&r->io);
    if (r->device != NULL) r->backend->close(r->device);
}

static void open_rig(rig *r, uint32_t n_pages) {
    exo_error err = {0};
    check(try_open(r, n_pages, &err), &err);
}

static void submit(rig *r, uint64_t id, exo_request request, asker *a) {
    asker_init(a);
    exo_coordinator_submit(r->coordinator, id, &request, record_event, a);
    assert_null(request.prompt);
}

/* Up to n turns; true when there is nothing left to do. */
static bool turns(rig *r, int n) {
    exo_error err = {0};
    uint64_t deadline = 0;
    while (n-- > 0 && deadline != UINT64_MAX) {
        check(exo_coordinator_turn(r->coordinator, &deadline, &err), &err);
    }
    return deadline == UINT64_MAX;
}

static void run_to_idle(rig *r) { assert_true(turns(r, 100000)); }

/* The same rig on a device that is lost after so many steps. */
static void open_flaky_rig(rig *r, int steps) {
    open_rig(r, 0);
    exo_seat_desc d = {.device = "flaky:0",
                       .backend = flaky_backend(steps),
                       .n_threads = 1,
                       .model = model,
                       .shard = *exo_shard_get_desc(exo_stage_shard(r->io.stage))};
    exo_shard_destroy(exo_stage_give_shard(r->io.stage));
    exo_shard *shard;
    exo_error err = {0};
    check(exo_seat_open(&r->io.seat, &d, &shard, &err), &err);
    exo_stage_take_shard(r->io.stage, shard);
}

/* What request `who` is answered when it is alone. */
static void answer_alone(uint32_t who, size_t n_prompt, uint32_t n_answer, asker *a) {
    rig r;
    open_rig(&r, 0);
    submit(&r, 1, new_request(who, n_prompt, n_answer, n_vocab), a);
    run_to_idle(&r);
    close_rig(&r);
}

static void a_request_gets_its_answer(void **state) {
    (void)state;
    asker a;
    answer_alone(3, 40, 20, &a);
    expect_full_answer(&a, 20);
    assert_int_equal(a.n_prompt, 40);
    assert_int_equal(a.n_cached, 0);
    asker_finish(&a);
}

static void company_changes_no_answer(void **state) {
    (void)state;
    enum { N = 40 };
    static asker a[N];
    asker alone;
    rig r;
    open_rig(&r, 0);
    for (uint32_t i = 0; i < N; i++) {
        submit(&r, 100 + i, new_request(i, 5 + i, 10 + i % 7, n_vocab), &a[i]);
    }
    run_to_idle(&r);
    for (uint32_t i = 0; i < N; i++) expect_full_answer(&a[i], 10 + i % 7);
    for (uint32_t i = 0; i < N; i += 13) {
        answer_alone(i, 5 + i, 10 + i % 7, &alone);
        expect_same_answer(&a[i], &alone);
        asker_finish(&alone);
    }
    for (uint32_t i = 0; i < N; i++) asker_finish(&a[i]);
    close_rig(&r);
}

static void too_few_pages_delay_but_change_nothing(void **state) {
    (void)state;
    asker a[3], alone;
    rig r;
    open_rig(&r, 5); /* three sequences grow to 3 pages each: somebody is put back */
    for (uint32_t i = 0; i < 3; i++) submit(&r, i, new_request(i, 30, 50, n_vocab), &a[i]);
    run_to_idle(&r);
    for (uint32_t i = 0; i < 3; i++) {
        expect_full_answer(&a[i], 50); /* started once, though admitted more often */
        answer_alone(i, 30, 50, &alone);
        assert_memory_equal(a[i].ids, alone.ids, 50 * sizeof *alone.ids);
        asker_finish(&alone);
        asker_finish(&a[i]);
    }
    close_rig(&r);
}

static void canceled_before_and_in_mid_answer(void **state) {
    (void)state;
    asker a[3];
    rig r;
    open_rig(&r, 0);
    for (uint32_t i = 0; i < 3; i++) submit(&r, i + 1, new_request(i, 20, 30, n_vocab), &a[i]);
    exo_coordinator_cancel(r.coordinator, 1);
    expect_end(&a[0], EXO_ECANCELED, "canceled");
    assert_int_equal(a[0].n_started, 0);
    turns(&r, 10);
    assert_in_range(atomic_load(&a[1].n_tokens), 1, 29);
    exo_coordinator_cancel(r.coordinator, 2);
    expect_end(&a[1], EXO_ECANCELED, "canceled");
    assert_int_equal(a[1].n_answer, atomic_load(&a[1].n_tokens));
    exo_coordinator_cancel(r.coordinator, 2); /* it is gone */
    exo_coordinator_cancel(r.coordinator, 99);
    run_to_idle(&r);
    expect_full_answer(&a[2], 30);
    for (uint32_t i = 0; i < 3; i++) asker_finish(&a[i]);
    close_rig(&r);
}

/* Whatever the step at which the device is lost: several answers under way go on, with the same
 * tokens, since this device counts as the CPU does. */
static void a_lost_device_costs_no_answer(void **state) {
    (void)state;
    enum { N = 6 };
    asker a[N], alone[N];
    unsigned n_moved = 0;
    for (uint32_t i = 0; i < N; i++) answer_alone(i, 20 + 9 * i, 12 + i, &alone[i]);
    for (int steps = 0; steps < 40; steps += 3) {
        rig r;
        open_flaky_rig(&r, steps);
        for (uint32_t i = 0; i < N; i++) {
            submit(&r, i + 1, new_request(i, 20 + 9 * i, 12 + i, n_vocab), &a[i]);
        }
        run_to_idle(&r);
        assert_string_equal(r.io.seat.device_id, "cpu:0");
        assert_non_null(strstr(r.io.seat.reason, "flaky:0 is lost"));
        for (uint32_t i = 0; i < N; i++) {
            expect_full_answer(&a[i], 12 + i); /* started once */
            assert_memory_equal(a[i].ids, alone[i].ids, (12 + i) * sizeof *a[i].ids);
            assert_int_equal(a[i].n_text, alone[i].n_text); /* nothing is said twice */
            assert_memory_equal(a[i].text, alone[i].text, a[i].n_text);
            n_moved += a[i].n_moved;
            if (a[i].n_moved > 0) assert_string_equal(a[i].move.device_id, "cpu:0");
            asker_finish(&a[i]);
        }
        close_rig(&r);
    }
    assert_true(n_moved > N);
    for (uint32_t i = 0; i < N; i++) asker_finish(&alone[i]);
}

/* The CPU cannot take over either: every answer ends with the reason. */
static void a_lost_device_without_memory_for_another(void **state) {
    (void)state;
    asker a;
    exo_error err = {0};
    uint64_t deadline = 0;
    rig r;
    open_flaky_rig(&r, 3);
    submit(&r, 1, new_request(1, 10, 20, n_vocab), &a);
    for (int i = 0; i < 3; i++) check(exo_coordinator_turn(r.coordinator, &deadline, &err), &err);
    exo_mem_fail_at(3); /* closing the lost device takes two, and can do without */
    exo_status st = exo_coordinator_turn(r.coordinator, &deadline, &err);
    exo_mem_fail_at(0);
    assert_int_equal(st, EXO_ENOMEM);
    exo_coordinator_fail(r.coordinator, EXO_EPEER, err.message);
    expect_end(&a, EXO_EPEER, "");
    assert_int_equal(a.n_answer, 3);
    asker_finish(&a);
    close_rig(&r);
}

static void refusals_say_why_and_harm_nobody(void **state) {
    (void)state;
    asker good, too_long, empty, strange;
    rig r;
    open_rig(&r, 0);
    submit(&r, 1, new_request(1, 10, 5, n_vocab), &good);
    submit(&r, 2, new_request(2, CTX, 5, n_vocab), &too_long);
    expect_end(&too_long, EXO_ETOOLONG, "96");
    submit(&r, 3, new_request(3, 0, 5, n_vocab), &empty);
    expect_end(&empty, EXO_EINVAL, "");
    exo_request bad = new_request(4, 10, 5, n_vocab);
    bad.prompt[7] = (int32_t)n_vocab;
    submit(&r, 4, bad, &strange);
    expect_end(&strange, EXO_EINVAL, "512");
    run_to_idle(&r);
    expect_full_answer(&good, 5);
    asker_finish(&good);
    asker_finish(&too_long);
    asker_finish(&empty);
    asker_finish(&strange);
    close_rig(&r);
}

static void an_answer_ends_with_the_context(void **state) {
    (void)state;
    asker a;
    rig r;
    open_rig(&r, 0);
    submit(&r, 1, new_request(5, 60, 0, n_vocab), &a);
    run_to_idle(&r);
    expect_end(&a, EXO_OK, "");
    assert_int_equal(a.finish, EXO_FINISH_LENGTH);
    assert_in_range(a.n_prompt + a.n_answer, CTX, CTX + 1); /* the last token needs no position */
    asker_finish(&a);
    close_rig(&r);
}

static void a_shared_prefix_is_read_once(void **state) {
    (void)state;
    asker first, second, alone;
    rig r;
    open_rig(&r, 0);
    submit(&r, 1, new_request(6, 70, 8, n_vocab), &first);
    run_to_idle(&r);
    exo_request again = new_request(6, 70, 8, n_vocab);
    again.prompt[69] = 1; /* the last page differs */
    submit(&r, 2, again, &second);
    run_to_idle(&r);
    assert_int_equal(first.n_cached, 0);
    assert_int_equal(second.n_cached, 64); /* two whole pages */
    asker third;
    submit(&r, 3, new_request(6, 70, 8, n_vocab), &third);
    run_to_idle(&r);
    assert_int_equal(third.n_cached, 64);
    answer_alone(6, 70, 8, &alone);
    assert_memory_equal(third.ids, alone.ids, 8 * sizeof *alone.ids);
    asker_finish(&first);
    asker_finish(&second);
    asker_finish(&third);
    asker_finish(&alone);
    close_rig(&r);
}

static void a_full_queue_says_so_and_failure_ends_all(void **state) {
    (void)state;
    enum { N = 300 };
    static asker a[N];
    rig r;
    open_rig(&r, 0);
    uint32_t n_refused = 0;
    for (uint32_t i = 0; i < N; i++) {
        submit(&r, i, new_request(i, 8, 10, n_vocab), &a[i]);
        if (atomic_load(&a[i].n_last) == 0) continue;
        expect_end(&a[i], EXO_EBUSY, "");
        n_refused++;
    }
    assert_in_range(n_refused, 1, N - 1);
    turns(&r, 5);
    exo_coordinator_fail(r.coordinator, EXO_EPEER, "stage 1 burnt down");
    for (uint32_t i = 0; i < N; i++) {
        if (a[i].status != EXO_EBUSY) expect_end(&a[i], EXO_EPEER, "stage 1 burnt down");
        asker_finish(&a[i]);
    }
    run_to_idle(&r);
    asker later;
    submit(&r, 1, new_request(1, 8, 10, n_vocab), &later); /* the slots are free again */
    run_to_idle(&r);
    expect_full_answer(&later, 10);
    asker_finish(&later);
    close_rig(&r);
}

static void a_stopped_step_ends_the_turn(void **state) {
    (void)state;
    asker a;
    rig r;
    open_rig(&r, 0);
    submit(&r, 1, new_request(1, 50, 10, n_vocab), &a);
    atomic_store(&r.stop, true);
    exo_error err = {0};
    uint64_t deadline;
    assert_int_equal(exo_coordinator_turn(r.coordinator, &deadline, &err), EXO_ECANCELED);
    exo_coordinator_fail(r.coordinator, EXO_EPEER, "the node stops");
    expect_end(&a, EXO_EPEER, "the node stops");
    asker_finish(&a);
    close_rig(&r);
}

/* From opening the device to the end of an answer: each allocation fails once. */
static void failed_allocations_leave_nothing(void **state) {
    (void)state;
    uint64_t k = 0;
    for (bool failed = true; failed;) {
        rig r;
        asker a;
        exo_error err = {0};
        uint64_t deadline = 0;
        exo_request request = new_request(9, 40, 3, n_vocab);
        asker_init(&a);
        exo_mem_fail_at(++k);
        exo_status st = try_open(&r, 0, &err);
        bool asked = st == EXO_OK;
        if (asked) exo_coordinator_submit(r.coordinator, 1, &request, record_event, &a);
        while (st == EXO_OK && deadline != UINT64_MAX) {
            st = exo_coordinator_turn(r.coordinator, &deadline, &err);
        }
        failed = exo_mem_failed() != 0;
        exo_mem_fail_at(0);
        if (asked && st != EXO_OK) exo_coordinator_fail(r.coordinator, st, err.message);
        if (asked) {
            assert_int_equal(a.status, failed ? EXO_ENOMEM : EXO_OK);
            asker_finish(&a);
        } else {
            assert_int_equal(st, EXO_ENOMEM);
            exo_latch_destroy(a.ended);
        }
        exo_request_finish(&request);
        close_rig(&r);
    }
    assert_true(k > 50);
}

static int open_model(void **state) {
    (void)state;
    model = synth_model("test-256", "q8_0");
    n_vocab = exo_model_hparams(model)->n_vocab;
    return 0;
}

static int close_model(void **state) {
    (void)state;
    exo_model_unref(model);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_gets_its_answer),
        cmocka_unit_test(company_changes_no_answer),
        cmocka_unit_test(too_few_pages_delay_but_change_nothing),
        cmocka_unit_test(canceled_before_and_in_mid_answer),
        cmocka_unit_test(a_lost_device_costs_no_answer),
        cmocka_unit_test(a_lost_device_without_memory_for_another),
        cmocka_unit_test(refusals_say_why_and_harm_nobody),
        cmocka_unit_test(an_answer_ends_with_the_context),
        cmocka_unit_test(a_shared_prefix_is_read_once),
        cmocka_unit_test(a_full_queue_says_so_and_failure_ends_all),
        cmocka_unit_test(a_stopped_step_ends_the_turn),
        cmocka_unit_test(failed_allocations_leave_nothing),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
