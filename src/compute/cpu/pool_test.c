/* The pool: every thread takes part, barriers hold, idle threads sleep, threads that share a core
 * are kept apart. */
#define _GNU_SOURCE /* sched_setaffinity */
#include "base/clock.h"
#include "base/mem.h"
#include "compute/cpu/cpu_info.h"
#include "compute/cpu/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef __linux__
#include <sched.h>
#endif

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

#ifdef __linux__
/* ---- threads on one core ---- */

/* The pool decides after runs of 40 ms: one of two threads that need BUSY_MS each on one core, or
 * one rest; all rests together are shorter than the 500 ms after which a thread is tried again. */
enum { BUSY_MS = 25, REST_MS = 45, MAX_RESTS = 4, TRIES = 8, PLACED_TRIES = 3 };

/* Stands for the system's count: nobody but the caller wants a core. */
uint32_t exo_cpu_wanted(void) { return 1; }

typedef struct {
    exo_pool *pool;
    uint32_t core; /* where the threads meet */
    cpu_set_t all;
    bool held[2]; /* each thread may use one core only */
    uint32_t n;   /* threads of the last run */
} meeting;

/* The threads compute by turns on one core, and are free to go just before they end. */
static void meet(void *ud, uint32_t thread) {
    meeting *m = ud;
    struct timespec t;
    (void)thread;
    assert_true(exo_core_bind(m->core));
    exo_pool_barrier(m->pool);
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    int64_t end = t.tv_sec * 1000000000ll + t.tv_nsec + BUSY_MS * 1000000ll, now;
    do {
        (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        now = t.tv_sec * 1000000000ll + t.tv_nsec;
    } while (now < end);
    assert_int_equal(sched_setaffinity(0, sizeof m->all, &m->all), 0);
}

static void look_where(void *ud, uint32_t thread) {
    meeting *m = ud;
    cpu_set_t now;
    assert_int_equal(sched_getaffinity(0, sizeof now, &now), 0);
    m->held[thread] = CPU_COUNT(&now) == 1;
    if (thread == 0) m->n = exo_pool_running(m->pool);
}

static void rest(void *ud, uint32_t thread) {
    (void)ud;
    (void)thread;
    nanosleep(&(struct timespec){0, REST_MS * 1000000}, NULL);
}

static void make_meeting(meeting *m, bool placed) {
    exo_core_map map;
    uint16_t core[2];
    exo_core_map_read(&map);
    if (exo_cores_pick(&map, 2, core) < 2) {
        print_message("skipped: this process may use one core only\n");
        skip();
    }
    *m = (meeting){.core = core[0]};
    assert_int_equal(sched_getaffinity(0, sizeof m->all, &m->all), 0);
    assert_int_equal(exo_pool_create(2, false, &m->pool, NULL), EXO_OK);
    if (!placed) return;
    assert_int_equal(setenv("EXO_PIN", "1", 1), 0);
    exo_pool_place(m->pool);
    assert_int_equal(unsetenv("EXO_PIN"), 0);
}

/* A thread may be moved between its freedom and its end; then they have not met, and others try. */
static void test_threads_that_met_are_kept_apart(void **state) {
    (void)state;
    meeting m = {0};
    for (int i = 0; i < TRIES && !(m.held[0] && m.held[1]); i++) {
        make_meeting(&m, false);
        exo_pool_run_some(m.pool, meet, &m, 1);
        exo_pool_run_some(m.pool, look_where, &m, 2);
        cpu_set_t now;
        assert_int_equal(sched_getaffinity(0, sizeof now, &now), 0);
        assert_true(CPU_EQUAL(&now, &m.all)); /* between runs the caller is free */
        exo_pool_destroy(m.pool);
    }
    assert_int_equal(m.n, 2);
    assert_true(m.held[0] && m.held[1]);
}

/* Whoever asked for places keeps them: a thread that loses its time there is given up. */
static void test_placed_threads_are_not_moved(void **state) {
    (void)state;
    for (int i = 0; i < PLACED_TRIES; i++) {
        meeting m;
        make_meeting(&m, true);
        exo_pool_run_some(m.pool, meet, &m, 1);
        exo_pool_run_some(m.pool, look_where, &m, 2);
        assert_int_equal(m.n, 1);
        assert_false(m.held[0]);
        exo_pool_destroy(m.pool);
    }
}

/* A thread that was given up is back, long before its time, once a core was free twice. */
static void test_free_core_brings_thread_back(void **state) {
    (void)state;
    meeting m;
    make_meeting(&m, true);
    exo_pool_run_some(m.pool, meet, &m, 1);
    exo_pool_run_some(m.pool, look_where, &m, 2);
    assert_int_equal(m.n, 1);
    for (int run = 0; run < MAX_RESTS && m.n == 1; run++) {
        exo_pool_run_some(m.pool, rest, &m, 2);
        exo_pool_run_some(m.pool, look_where, &m, 2);
    }
    assert_int_equal(m.n, 2);
    exo_pool_destroy(m.pool);
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_barriers),
        cmocka_unit_test(test_some_threads),
        cmocka_unit_test(test_idle_threads_sleep),
#ifdef __linux__
        cmocka_unit_test(test_threads_that_met_are_kept_apart),
        cmocka_unit_test(test_placed_threads_are_not_moved),
        cmocka_unit_test(test_free_core_brings_thread_back),
#endif
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
