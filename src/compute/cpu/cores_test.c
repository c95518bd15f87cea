/* Cores and memory nodes read from folders that look like /sys, and threads placed by them. */
#define _GNU_SOURCE /* mkdtemp, sched_getaffinity */
#include "compute/cpu/place.h"

#include "base/mailbox.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __linux__
#include <pthread.h>
#include <sched.h>
#endif

#include <cmocka.h>

static char root[] = "/tmp/exo-cores-XXXXXX";

static void remove_root(void) {
    char command[64];
    (void)snprintf(command, sizeof command, "rm -rf %s/*", root);
    assert_int_equal(system(command), 0);
}

/* A file below devices/system, with its folders. */
static void put(const char *path, const char *text) {
    char full[256];
    (void)snprintf(full, sizeof full, "%s/devices/system/%s", root, path);
    for (char *c = full + 1; *c != '\0'; c++) {
        if (*c != '/') continue;
        *c = '\0';
        (void)mkdir(full, 0700);
        *c = '/';
    }
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    (void)fputs(text, f);
    (void)fclose(f);
}

static void put_number(const char *fmt, unsigned core, unsigned value) {
    char path[128], text[16];
    (void)snprintf(path, sizeof path, fmt, core);
    (void)snprintf(text, sizeof text, "%u\n", value);
    put(path, text);
}

static exo_core_map map_of(uint32_t n) {
    uint16_t cores[EXO_CORES_MAX];
    exo_core_map m;
    for (uint32_t i = 0; i < n; i++) cores[i] = (uint16_t)i;
    exo_core_map_describe(&m, cores, n);
    return m;
}

static void expect_order(const exo_core_map *m, uint32_t n, const uint16_t *want) {
    assert_int_equal(m->n, n);
    for (uint32_t i = 0; i < n; i++) assert_int_equal(m->cores[i].core, want[i]);
}

/* A phone: four small cores, three larger ones, one fastest. */
static void test_fastest_first(void **state) {
    (void)state;
    static const unsigned capacity[8] = {200, 200, 200, 200, 700, 700, 700, 1024};
    for (unsigned i = 0; i < 8; i++) put_number("cpu/cpu%u/cpu_capacity", i, capacity[i]);
    exo_core_map m = map_of(8);
    expect_order(&m, 8, (const uint16_t[]){7, 4, 5, 6, 0, 1, 2, 3});
    assert_int_equal(m.n_nodes, 1);
}

/* A laptop whose kernel knows frequencies only: two fast cores of two threads each, two slow. */
static void test_second_threads_of_a_core_last(void **state) {
    (void)state;
    static const unsigned khz[6] = {4800000, 4800000, 4800000, 4800000, 3500000, 3500000};
    for (unsigned i = 0; i < 6; i++) put_number("cpu/cpu%u/cpufreq/cpuinfo_max_freq", i, khz[i]);
    for (unsigned i = 0; i < 4; i++) {
        char path[64];
        (void)snprintf(path, sizeof path, "cpu/cpu%u/topology/thread_siblings_list", i);
        put(path, i < 2 ? "0-1\n" : "2,3\n");
    }
    exo_core_map m = map_of(6);
    expect_order(&m, 6, (const uint16_t[]){0, 2, 4, 5, 1, 3});
}

static void test_nothing_known(void **state) {
    (void)state;
    exo_core_map m = map_of(3);
    expect_order(&m, 3, (const uint16_t[]){0, 1, 2});
    assert_int_equal(m.n_nodes, 1);
}

static void test_bad_files_are_as_good_as_none(void **state) {
    (void)state;
    static const char *const bad[] = {
        "", "\n", "x", "-", "3-1", "1-", ",", "99999999999999999999", "0-99999999", "0x3", "0 1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        put("cpu/cpu1/cpu_capacity", bad[i]);
        put("cpu/cpu1/topology/thread_siblings_list", bad[i]);
        put("node/online", bad[i]);
        put("node/node0/cpulist", bad[i]);
        exo_core_map m = map_of(2);
        assert_int_equal(m.n, 2);
        assert_int_equal(m.n_nodes, 1);
    }
}

/* Two nodes with cores and one, as of expansion memory, without. */
static void test_nodes(void **state) {
    (void)state;
    put("node/online", "0,2-3\n");
    put("node/node0/cpulist", "0-1,4-5\n");
    put("node/node2/cpulist", "\n");
    put("node/node3/cpulist", "2-3\n");
    exo_core_map m = map_of(6);
    assert_int_equal(m.n_nodes, 2);
    assert_int_equal(m.node_id[0], 0);
    assert_int_equal(m.node_id[1], 3);
    static const uint16_t node[6] = {0, 0, 1, 1, 0, 0};
    for (uint32_t i = 0; i < 6; i++) assert_int_equal(m.cores[i].node, node[m.cores[i].core]);

    exo_core at[9];
    exo_node_split split;
    exo_place_threads(&m, true, 6, at, &split);
    assert_int_equal(split.n, 2);
    assert_int_equal(split.end[0], 4); /* as the cores are divided */
    assert_int_equal(split.end[1], 6);
    assert_int_equal(split.id[1], 3);
    uint32_t taken = 0;
    for (uint32_t t = 0; t < 6; t++) {
        assert_int_equal(at[t].node, node[at[t].core]);
        taken |= 1u << at[t].core;
    }
    assert_int_equal(taken, 0x3f); /* a core each */
    exo_place_threads(&m, true, 9, at, &split);
    assert_int_equal(split.end[1], 9);
    exo_place_threads(&m, true, 1, at, &split);
    assert_int_equal(split.end[1], 1); /* the other node has no part */
    exo_place_threads(&m, false, 6, at, &split);
    assert_int_equal(split.n, 1);
    for (uint32_t t = 0; t < 6; t++) assert_int_equal(at[t].core, m.cores[t].core);
}

/* Every row is in one node's part. */
static void test_shares(void **state) {
    (void)state;
    const exo_node_split split = {.n = 3, .end = {5, 5, 7}};
    for (uint32_t n = 0; n < 100; n++) {
        uint32_t at = 0, from, to;
        for (uint32_t node = 0; node < split.n; node++) {
            exo_node_share(&split, node, n, &from, &to);
            assert_int_equal(from, at);
            assert_true(to >= from);
            at = to;
        }
        assert_int_equal(at, n);
    }
}

#ifdef __linux__
static cpu_set_t usable(void) {
    cpu_set_t set;
    assert_int_equal(sched_getaffinity(0, sizeof set, &set), 0);
    return set;
}

/* A thread held on a core is free again afterwards, unless somebody else has bound it meanwhile. */
static void test_hold(void **state) {
    (void)state;
    cpu_set_t before = usable(), now;
    exo_core_map m;
    exo_core_map_read(&m);
    assert_int_equal(m.n, CPU_COUNT(&before));
    if (m.n < 2) {
        print_message("skipped: this process may use one core only\n");
        skip();
    }
    uint16_t picked[2];
    assert_int_equal(exo_cores_pick(&m, 2, picked), 2);
    for (int i = 0; i < 2; i++) {
        uint32_t core;
        assert_true(exo_core_hold(picked[i]));
        assert_true(exo_core_now(&core));
        assert_int_equal(core, picked[i]);
    }
    exo_core_release();
    now = usable();
    assert_true(CPU_EQUAL(&now, &before));
    assert_true(exo_core_hold(picked[0]));
    assert_true(exo_core_bind(picked[1])); /* as `taskset -p` does */
    exo_core_release();
    assert_false(exo_core_hold(picked[0])); /* it may not go there any more */
    now = usable();
    assert_int_equal(CPU_COUNT(&now), 1);
    assert_true(CPU_ISSET(picked[1], &now));
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
}

static uint32_t other_thread;
static uint16_t other_core;

static void *be_held(void *ud) {
    assert_true(exo_core_hold(other_core));
    assert_true(exo_core_is_held());
    other_thread = exo_core_thread();
    exo_latch_set(((exo_latch **)ud)[0]);
    assert_true(exo_latch_wait(((exo_latch **)ud)[1], 20000));
    assert_false(exo_core_is_held());
    exo_core_release();
    return NULL;
}

/* All threads bound to the core that one of them is held on: the others tell that one. */
static void test_the_process_is_bound_while_threads_are_held(void **state) {
    (void)state;
    cpu_set_t before = usable(), one, now;
    exo_core_map m;
    uint16_t picked[2];
    exo_latch *latch[2];
    pthread_t thread;
    exo_core_map_read(&m);
    if (m.n < 2) {
        print_message("skipped: this process may use one core only\n");
        skip();
    }
    assert_int_equal(exo_cores_pick(&m, 2, picked), 2);
    other_core = picked[1];
    for (int i = 0; i < 2; i++) assert_int_equal(exo_latch_create(&latch[i], NULL), EXO_OK);
    assert_int_equal(pthread_create(&thread, NULL, be_held, latch), 0);
    assert_true(exo_latch_wait(latch[0], 20000));
    assert_true(exo_core_hold(picked[0]));
    CPU_ZERO(&one);
    CPU_SET(picked[0], &one);
    assert_int_equal(sched_setaffinity((pid_t)other_thread, sizeof one, &one), 0);
    assert_true(exo_core_is_held()); /* as far as this thread can tell */
    exo_core_release_as(other_thread);
    now = usable();
    assert_true(CPU_EQUAL(&now, &one));
    exo_latch_set(latch[1]);
    assert_int_equal(pthread_join(thread, NULL), 0);
    for (int i = 0; i < 2; i++) exo_latch_destroy(latch[i]);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
}

/* A node that is not there is refused; the memory is used as it is. */
static void test_memory(void **state) {
    (void)state;
    size_t n = (size_t)1 << 20;
    uint8_t *p = exo_pages_alloc(n);
    assert_non_null(p);
    assert_int_not_equal(exo_memory_prefer(p, n, 1023), 0);
    assert_int_not_equal(exo_memory_prefer(p, n, 1024), 0);
    const exo_node_split split = {.n = 2, .end = {1, 2}, .id = {0, 1023}};
    exo_place_memory(&split, &(exo_place_units){p, n, p, 100, (uint32_t)(n / 100)});
    memset(p, 1, n);
    exo_pages_free(p, n);
}
#endif

static int make_root(void **state) {
    (void)state;
    if (mkdtemp(root) == NULL) return -1;
    return setenv("EXO_SYSFS", root, 1);
}

static int drop_root(void **state) {
    (void)state;
    return rmdir(root);
}

static int clear(void **state) {
    (void)state;
    remove_root();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares),
#ifdef __linux__
        cmocka_unit_test_teardown(test_fastest_first, clear),
        cmocka_unit_test_teardown(test_second_threads_of_a_core_last, clear),
        cmocka_unit_test_teardown(test_nothing_known, clear),
        cmocka_unit_test_teardown(test_bad_files_are_as_good_as_none, clear),
        cmocka_unit_test_teardown(test_nodes, clear),
        cmocka_unit_test(test_hold),
        cmocka_unit_test(test_the_process_is_bound_while_threads_are_held),
        cmocka_unit_test(test_memory),
#endif
    };
    return cmocka_run_group_tests(tests, make_root, drop_root);
}
