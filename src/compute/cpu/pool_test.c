/* The pool: every thread takes part, barriers hold, idle threads sleep. */
#define _POSIX_C_SOURCE 200809L /* nanosleep */
#include "base/clock.h"
#include "base/mem.h"
#include "compute/cpu/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { MAX_THREADS = 5, PHASES = 400 };

/* Each phase every thread adds up what all threads wrote in the phase before. */
typedef struct {
    exo_pool *pool;
    uint32_t n;
    uint64_t value[2][MAX_THREADS];
    bool ran[MAX_THREADS];
} job;

static void add_up(void *ud, uint32_t thread) {
    job *j = ud;
    j->ran[thread] = true;
    for (int phase = 0; phase < PHASES; phase++) {
        uint64_t sum = 0;
        for (uint32_t i = 0; i < j->n; i++) sum += j->value[phase % 2][i];
        j->value[(phase + 1) % 2][thread] = sum * 3 + thread + 1;
        exo_pool_barrier(j->pool);
    }
}

/* The same by one thread alone. */
static void add_up_alone(job *j) {
    for (int phase = 0; phase < PHASES; phase++) {
        uint64_t sum = 0;
        for (uint32_t i = 0; i < j->n; i++) sum += j->value[phase % 2][i];
        for (uint32_t i = 0; i < j->n; i++) j->value[(phase + 1) % 2][i] = sum * 3 + i + 1;
    }
}

static void test_barriers(void **state) {
    (void)state;
    for (uint32_t n = 1; n <= MAX_THREADS; n++) {
        for (int spin = 0; spin < 2; spin++) {
            job j = {.n = n}, want = {.n = n};
            assert_int_equal(exo_pool_create(n, spin != 0, &j.pool, NULL), EXO_OK);
            assert_int_equal(exo_pool_threads(j.pool), n);
            for (int run = 0; run < 3; run++) {
                memset(j.ran, 0, sizeof j.ran);
                exo_pool_run(j.pool, add_up, &j);
                for (uint32_t i = 0; i < n; i++) assert_true(j.ran[i]);
                add_up_alone(&want);
                assert_memory_equal(j.value, want.value, sizeof j.value);
            }
            exo_pool_destroy(j.pool);
        }
    }
}

static void nothing(void *ud, uint32_t thread) {
    (void)ud;
    (void)thread;
}

/* Whatever number of threads a run has, all of them take part. */
static void add_some(void *ud, uint32_t thread) {
    job *j = ud;
    uint32_t n = exo_pool_running(j->pool);
    assert_true(thread < n && n <= j->n);
    j->value[0][thread]++;
    exo_pool_barrier(j->pool);
    if (thread == 0) {
        for (uint32_t i = 0; i < n; i++) j->value[1][0] += j->value[0][i];
        memset(j->value[0], 0, sizeof j->value[0]);
        j->value[1][1] += n;
    }
    exo_pool_barrier(j->pool);
}

static void test_some_threads(void **state) {
    (void)state;
    job j = {.n = MAX_THREADS};
    assert_int_equal(exo_pool_create(MAX_THREADS, true, &j.pool, NULL), EXO_OK);
    uint64_t end = exo_now_ms() + 300; /* long enough for threads to be given up and taken back */
    for (uint64_t run = 0; exo_now_ms() < end; run++) exo_pool_run_some(j.pool, add_some, &j, 1);
    assert_int_equal(j.value[1][0], j.value[1][1]);
    assert_true(j.value[1][1] > 0);
    exo_pool_destroy(j.pool);
}

static void test_idle_threads_sleep(void **state) {
    (void)state;
    exo_pool *p;
    assert_int_equal(exo_pool_create(4, true, &p, NULL), EXO_OK);
    for (int run = 0; run < 5; run++) {
        exo_pool_run(p, nothing, NULL);
        uint64_t deadline = exo_now_ms() + 10000;
        while (exo_pool_sleepers(p) != 3 && exo_now_ms() < deadline) {
            nanosleep(&(struct timespec){0, 100000}, NULL);
        }
        assert_int_equal(exo_pool_sleepers(p), 3);
    }
    exo_pool_destroy(p);
}

static void test_refusals(void **state) {
    (void)state;
    exo_pool *p;
    exo_error err;
    assert_int_equal(exo_pool_create(0, false, &p, &err), EXO_EINVAL);
    assert_int_equal(exo_pool_create(EXO_POOL_MAX_THREADS + 1, false, &p, &err), EXO_EINVAL);
    assert_null(p);
    exo_mem_fail_at(1);
    assert_int_equal(exo_pool_create(2, false, &p, &err), EXO_ENOMEM);
    exo_mem_fail_at(0);
    exo_pool_destroy(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_barriers),
        cmocka_unit_test(test_some_threads),
        cmocka_unit_test(test_idle_threads_sleep),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
