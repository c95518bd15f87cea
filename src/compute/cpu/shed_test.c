/* Which number of threads is chosen, on a simulated machine. */
#include "compute/cpu/shed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define MS 1000000ull

/* Runs of 40 ms for one thread.  With fewer free cores than threads, they take turns, and all wait
 * for those whose turn it is not. */
typedef struct {
    exo_shed shed;
    uint64_t now_ns;
    uint32_t free_cores;
    bool everybody_loses; /* time is lost, but fewer threads lose no less */
    bool tells;           /* whether the system says that a core is free */
    bool spare;           /* there are more cores, which threads that are free to go would find */
    bool meets;           /* threads that are free to go run on one core by turns */
} machine;

static void run(machine *m) {
    uint32_t n = m->shed.n_now, over = n > m->free_cores ? n - m->free_cores : 0;
    uint64_t wall = 40 * MS / (n - over) + (over > 0 ? 10 * MS : 0);
    exo_shed_run r = {.wall_ns = wall, .lost_ns = wall * over, .work = 1};
    if (m->everybody_loses) r.lost_ns = wall / 4 * n;
    if (m->meets && n > 1 && !m->shed.apart) {
        r = (exo_shed_run){
            .wall_ns = 40 * MS, .lost_ns = 40 * MS * (n - 1), .work = 1, .met = true};
        wall = r.wall_ns;
    }
    if (m->tells) r.cores = n < m->free_cores ? EXO_CORES_FREE : EXO_CORES_BUSY;
    r.spare = m->spare;
    m->now_ns += wall;
    r.now_ns = m->now_ns;
    (void)exo_shed_report(&m->shed, &r);
}

/* Time in ms until n threads run, or the limit. */
static uint64_t until(machine *m, uint32_t n, uint64_t limit_ms) {
    uint64_t begin = m->now_ns;
    while (m->shed.n_now != n && m->now_ns - begin < limit_ms * MS) run(m);
    return (m->now_ns - begin) / MS;
}

/* Of 20 s, the time in ms that went by with two threads. */
static uint64_t tried_ms(machine *m) {
    uint64_t begin = m->now_ns, with_two = 0;
    while (m->now_ns - begin < 20000 * MS) {
        uint64_t before = m->now_ns;
        bool two = m->shed.n_now == 2;
        run(m);
        if (two) with_two += m->now_ns - before;
    }
    return with_two / MS;
}

static void test_busy_core(void **state) {
    (void)state;
    machine m = {.free_cores = 2};
    exo_shed_init(&m.shed, 2);
    for (int i = 0; i < 1000; i++) run(&m);
    assert_int_equal(m.shed.n_now, 2);
    m.free_cores = 1;
    assert_in_range(until(&m, 1, 1000), 1, 200);
    assert_in_range(tried_ms(&m), 1, 600); /* trials become rare */
    m.free_cores = 2;
    assert_in_range(until(&m, 2, 10000), 0, 4500);
    for (int i = 0; i < 100; i++) run(&m);
    assert_int_equal(m.shed.n_now, 2);
}

/* Where the system tells, trials beside the neighbour are rarer, and its end is seen at once. */
static void test_told(void **state) {
    (void)state;
    machine m = {.free_cores = 1, .tells = true};
    exo_shed_init(&m.shed, 2);
    assert_in_range(until(&m, 1, 1000), 1, 200);
    assert_in_range(tried_ms(&m), 1, 350);
    m.free_cores = 2;
    assert_in_range(until(&m, 2, 10000), 0, 200);
    for (int i = 0; i < 100; i++) run(&m);
    assert_int_equal(m.shed.n_now, 2);
}

/* A neighbour that begins within a window makes its mean faster than what comes after it: giving a
 * thread up is not taken back for that. */
static void test_begins_within_a_window(void **state) {
    (void)state;
    machine m = {.free_cores = 2};
    exo_shed_init(&m.shed, 2);
    for (int i = 0; i < 11; i++) run(&m); /* 20 ms each: one run into a window */
    m.free_cores = 1;
    assert_in_range(until(&m, 1, 1000), 1, 100);
    for (int i = 0; i < 10; i++) {
        run(&m);
        assert_int_equal(m.shed.n_now, 1);
    }
}

static void test_more_threads_than_cores(void **state) {
    (void)state;
    machine m = {.free_cores = 2};
    exo_shed_init(&m.shed, 16);
    assert_in_range(until(&m, 2, 10000), 1, 9999);
    m.free_cores = 16;
    assert_in_range(until(&m, 16, 20000), 1, 10000);
}

/* A hypervisor that takes time from all cores alike is not escaped by using fewer. */
static void test_lost_anyway(void **state) {
    (void)state;
    machine m = {.free_cores = 4, .everybody_loses = true};
    exo_shed_init(&m.shed, 4);
    uint64_t begin = m.now_ns, few = 0;
    while (m.now_ns - begin < 20000 * MS) {
        uint64_t before = m.now_ns;
        bool all = m.shed.n_now == 4;
        run(&m);
        if (!all) few += m.now_ns - before;
    }
    assert_in_range(few / MS, 0, 2000);
}

/* Neighbours of the lowest priority on every core: no thread is given up for them. */
static void test_kept_apart(void **state) {
    (void)state;
    machine m = {.free_cores = 2, .meets = true};
    exo_shed_init(&m.shed, 2);
    for (int i = 0; i < 1000; i++) {
        run(&m);
        assert_int_equal(m.shed.n_now, 2);
    }
    assert_true(m.shed.apart);
}

/* Two threads that met until each was kept on a core of its own. */
static machine kept_apart(void) {
    machine m = {.free_cores = 2, .meets = true};
    exo_shed_init(&m.shed, 2);
    for (int i = 0; i < 100; i++) run(&m);
    assert_true(m.shed.apart);
    m.meets = false;
    return m;
}

/* Threads kept apart are let go before one is given up: what came to one core may be evaded. */
static void test_let_go_again(void **state) {
    (void)state;
    machine m = kept_apart();
    m.free_cores = 1;
    m.spare = true;
    bool let_go = false;
    for (uint64_t end = m.now_ns + 500 * MS; m.shed.n_now == 2 && m.now_ns < end;) {
        run(&m);
        let_go = let_go || (!m.shed.apart && m.shed.n_now == 2);
    }
    assert_true(let_go);
    assert_int_equal(m.shed.n_now, 1);
    assert_false(m.shed.apart);
}

/* But not where there is no other core. */
static void test_given_up_at_once(void **state) {
    (void)state;
    machine m = kept_apart();
    m.free_cores = 1;
    assert_in_range(until(&m, 1, 1000), 1, 100);
    assert_false(m.shed.apart);
}

/* Where keeping apart does not help, a thread is given up as soon as otherwise, nearly, and trials
 * stay rare. */
static void test_apart_in_vain(void **state) {
    (void)state;
    machine m = {.free_cores = 1, .meets = true};
    exo_shed_init(&m.shed, 2);
    assert_in_range(until(&m, 1, 1000), 1, 250);
    assert_in_range(tried_ms(&m), 1, 1000);
}

static void test_one_thread(void **state) {
    (void)state;
    machine m = {.free_cores = 1};
    exo_shed_init(&m.shed, 1);
    for (int i = 0; i < 100; i++) run(&m);
    assert_int_equal(m.shed.n_now, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_busy_core),
        cmocka_unit_test(test_told),
        cmocka_unit_test(test_begins_within_a_window),
        cmocka_unit_test(test_more_threads_than_cores),
        cmocka_unit_test(test_lost_anyway),
        cmocka_unit_test(test_kept_apart),
        cmocka_unit_test(test_let_go_again),
        cmocka_unit_test(test_given_up_at_once),
        cmocka_unit_test(test_apart_in_vain),
        cmocka_unit_test(test_one_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
