/* seat_test.c - a device that is not there, will not open or fails later: the CPU takes its place.
 */
#define _DEFAULT_SOURCE /* mkstemps */
#include "engine/seat.h"

#include "base/hash.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "engine/testing.h"

static exo_model *model;

static exo_seat_desc wish(const char *device, const exo_backend *backend) {
    return (exo_seat_desc){
        .device = device,
        .backend = backend,
        .n_threads = 1,
        .model = model,
        .shard = {.layer_end = 4, .has_embedding = true, .has_head = true, .max_seqs = 1}};
}

/* One token at position 0; the logits' hash, or 0 when the step failed with *st. */
static uint64_t run_token(exo_shard *shard, int32_t token, exo_status *st, exo_error *err) {
    exo_step step;
    check(exo_step_init(&step, 1, 1, err), err);
    step.n_rows = step.n_pages = 1;
    step.rows[0] = (exo_row){.token = token, .flags = EXO_ROW_LOGITS};
    step.pages[0] = (exo_page_entry){0};
    *st = exo_shard_run(shard, &step, NULL, NULL, NULL, err);
    exo_step_finish(&step);
    uint32_t n_vocab = exo_model_hparams(model)->n_vocab;
    return *st == EXO_OK ? exo_hash64(exo_shard_logits(shard, 0), n_vocab * sizeof(float), 0) : 0;
}

static void names(void **state) {
    (void)state;
    assert_true(exo_seat_is_gpu("vulkan:0") && exo_seat_is_gpu("metal:12"));
    static const char *const none[] = {"cpu:0",     "vulkan", "vulkan:", "vulkan:x",
                                       "vulkan:0x", "",       ":0"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        assert_false(exo_seat_is_gpu(none[i]));
}

/* In every build: without Vulkan, without a driver, or without a device of that number. */
static void a_gpu_that_is_not_there(void **state) {
    (void)state;
    exo_seat s;
    exo_shard *shard;
    exo_error err = {0};
    exo_status st;
    setenv("EXO_VULKAN_LOADER", "/nonexistent/libvulkan.so", 1);
    exo_seat_desc d = wish("vulkan:27", NULL);
    check(exo_seat_open(&s, &d, &shard, &err), &err);
    assert_string_equal(s.device_id, "cpu:0");
    assert_string_equal(s.asked, "vulkan:27");
    assert_non_null(strstr(s.reason, "vulkan:27"));
    assert_true(run_token(shard, 5, &st, &err) != 0);
    assert_false(exo_seat_can_move(&s, EXO_EIO)); /* it has moved already */
    exo_shard_destroy(shard);
    exo_seat_close(&s);
}

static void what_is_no_gpu_is_refused(void **state) {
    (void)state;
    static const char *const devices[] = {"cpu:99", "toaster:0", "vulkan",
                                          "a name that no device of this world would ever have"};
    for (size_t i = 0; i < sizeof devices / sizeof devices[0]; i++) {
        exo_seat s;
        exo_shard *shard;
        exo_error err = {0};
        exo_seat_desc d = wish(devices[i], NULL);
        assert_int_not_equal(exo_seat_open(&s, &d, &shard, &err), EXO_OK);
        assert_null(shard);
        assert_true(err.message[0] != '\0');
        exo_seat_close(&s);
    }
}

static void a_device_that_fails_later(void **state) {
    (void)state;
    exo_seat s;
    exo_shard *shard;
    exo_error err = {0};
    exo_status st;
    exo_seat_desc d = wish("flaky:0", flaky_backend(1));
    check(exo_seat_open(&s, &d, &shard, &err), &err);
    assert_string_equal(s.device_id, "flaky:0");
    assert_string_equal(s.reason, "");
    uint64_t want = run_token(shard, 5, &st, &err);
    assert_true(want != 0);
    assert_int_equal(run_token(shard, 5, &st, &err), 0);
    assert_int_equal(st, EXO_EIO);
    assert_true(exo_seat_can_move(&s, st));
    assert_false(exo_seat_can_move(&s, EXO_ECANCELED));
    assert_false(exo_seat_can_move(&s, EXO_EINVAL));
    assert_false(exo_seat_can_move(&s, EXO_OK));
    uint32_t n_pages = exo_shard_get_desc(shard)->n_pages;
    check(exo_seat_move(&s, shard, err.message, &shard, &err), &err);
    assert_string_equal(s.device_id, "cpu:0");
    assert_string_equal(s.reason, "flaky:0 is lost");
    assert_int_equal(exo_shard_get_desc(shard)->n_pages, n_pages);
    assert_true(run_token(shard, 5, &st, &err) == want);
    assert_false(exo_seat_can_move(&s, EXO_EIO));
    exo_shard_destroy(shard);
    exo_seat_close(&s);
}

static bool stop_at_once(void *ud, uint64_t done, uint64_t total) {
    (void)ud;
    (void)done;
    (void)total;
    return false;
}

/* Somebody who stops the loading wants no CPU instead. */
static void a_stopped_load_is_stopped(void **state) {
    (void)state;
    exo_seat s;
    exo_shard *shard;
    exo_error err = {0};
    exo_seat_desc d = wish("flaky:0", flaky_backend(1));
    d.progress = stop_at_once;
    int opens = atomic_load(&flaky_n_opens);
    assert_int_equal(exo_seat_open(&s, &d, &shard, &err), EXO_ECANCELED);
    assert_int_equal(atomic_load(&flaky_n_opens), opens + 1);
    assert_null(shard);
    exo_seat_close(&s);
}

static void failed_allocations_leave_nothing(void **state) {
    (void)state;
    bool failed = true;
    for (uint64_t k = 1; failed; k++) {
        exo_seat s;
        exo_shard *shard;
        exo_error err = {0};
        exo_seat_desc d = wish("flaky:0", flaky_backend(0));
        exo_mem_fail_at(k); /* the CPU makes up for one that fails */
        exo_status st = exo_seat_open(&s, &d, &shard, &err);
        failed = exo_mem_failed();
        exo_mem_fail_at(0);
        check(st, &err);
        assert_int_equal(s.reason[0] != '\0', failed);
        exo_shard_destroy(shard);
        exo_seat_close(&s);
    }
}

static int open_model(void **state) {
    (void)state;
    model = synth_model("test-256", "q8_0");
    return 0;
}

static int close_model(void **state) {
    (void)state;
    exo_model_unref(model);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(a_gpu_that_is_not_there),
        cmocka_unit_test(what_is_no_gpu_is_refused),
        cmocka_unit_test(a_device_that_fails_later),
        cmocka_unit_test(a_stopped_load_is_stopped),
        cmocka_unit_test(failed_allocations_leave_nothing),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
