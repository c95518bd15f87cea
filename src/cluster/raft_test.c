/* raft_test.c - the log by itself: one node, nonsense from peers and disk, memory that runs out.
 * Whole clusters under faults: tests/sim/raft_main.c. */
#include "base/mem.h"
#include "cluster/raft.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define SELF 7u

static uint8_t alone[EXO_RAFT_MEMBER_BYTES];

static exo_raft_snapshot first_snapshot(void) {
    exo_raft_member m = {SELF, true};
    exo_raft_config_write(&m, 1, alone);
    return (exo_raft_snapshot){.index = 1, .term = 1, .n_config = sizeof alone, .config = alone};
}

/* A cluster of one that leads. */
static exo_raft *make_leader(exo_raft_actions *out) {
    exo_raft_snapshot s = first_snapshot();
    exo_raft_desc d = {.id = SELF, .seed = 1, .term = 1, .snapshot = &s};
    exo_raft *r = NULL;
    assert_int_equal(exo_raft_create(&d, 0, &r, NULL), EXO_OK);
    assert_int_equal(exo_raft_tick(r, exo_raft_deadline(r), out, NULL), EXO_OK);
    assert_int_equal(exo_raft_role_of(r), EXO_RAFT_LEADER);
    return r;
}

static void test_one_node_leads_and_commits_at_once(void **state) {
    (void)state;
    exo_raft_actions out = {0};
    exo_raft *r = make_leader(&out);
    assert_int_equal(exo_raft_term(r), 2);
    uint64_t index = 0;
    assert_int_equal(exo_raft_propose(r, "hello", 5, &out, &index, NULL), EXO_OK);
    assert_int_equal(index, 3); /* behind the snapshot and the leader's first entry */
    assert_int_equal(exo_raft_commit_index(r), 3);
    bool persisted = false, applied = false;
    for (size_t i = 0; i < out.n; i++) {
        const exo_raft_action *a = &out.items[i];
        if (a->kind == EXO_RAFT_PERSIST_ENTRIES) persisted = true;
        if (a->kind != EXO_RAFT_APPLY) continue;
        assert_true(persisted); /* never before it is on disk */
        assert_memory_equal(a->entries->bytes, "hello", 5);
        applied = true;
    }
    assert_true(applied);
    exo_raft_destroy(r);
    exo_raft_actions_finish(&out);
}

static void test_a_node_without_members_waits(void **state) {
    (void)state;
    exo_raft_desc d = {.id = SELF, .seed = 1};
    exo_raft *r = NULL;
    exo_raft_actions out = {0};
    assert_int_equal(exo_raft_create(&d, 0, &r, NULL), EXO_OK);
    for (uint64_t now = 0; now < 100000; now += 1000) {
        assert_int_equal(exo_raft_tick(r, now, &out, NULL), EXO_OK);
        assert_int_equal(exo_raft_role_of(r), EXO_RAFT_FOLLOWER);
    }
    uint64_t index;
    assert_int_equal(exo_raft_propose(r, "x", 1, &out, &index, NULL), EXO_EBUSY);
    exo_raft_destroy(r);
    exo_raft_actions_finish(&out);
}

static void test_member_lists_are_checked(void **state) {
    (void)state;
    exo_raft_member m[EXO_RAFT_MAX_VOTERS + 1], read[EXO_RAFT_MAX_MEMBERS];
    uint8_t bytes[sizeof m / sizeof *m * EXO_RAFT_MEMBER_BYTES];
    uint32_t n = 0;
    for (uint32_t i = 0; i < EXO_RAFT_MAX_VOTERS + 1; i++) m[i] = (exo_raft_member){i + 1, true};
    exo_raft_config_write(m, EXO_RAFT_MAX_VOTERS + 1, bytes);
    assert_int_equal(exo_raft_config_read(bytes, sizeof bytes, read, &n, NULL), EXO_EFORMAT);
    assert_int_equal(
        exo_raft_config_read(bytes, sizeof bytes - EXO_RAFT_MEMBER_BYTES, read, &n, NULL), EXO_OK);
    assert_int_equal(n, EXO_RAFT_MAX_VOTERS);
    assert_int_equal(exo_raft_config_read(bytes, 10, read, &n, NULL), EXO_EFORMAT);
    assert_int_equal(exo_raft_config_read(bytes, 0, read, &n, NULL),
                     EXO_EFORMAT); /* nobody votes */
    m[1].id = m[0].id;
    exo_raft_config_write(m, 2, bytes);
    assert_int_equal(exo_raft_config_read(bytes, 18, read, &n, NULL), EXO_EFORMAT);
    bytes[8] = 2;
    assert_int_equal(exo_raft_config_read(bytes, 9, read, &n, NULL), EXO_EFORMAT);
}

static void test_a_log_that_contradicts_itself_is_refused(void **state) {
    (void)state;
    exo_raft_snapshot s = first_snapshot();
    exo_raft_entry e[2] = {{2, 1, EXO_RAFT_NOOP, 0, NULL}, {4, 1, EXO_RAFT_NOOP, 0, NULL}};
    exo_raft_desc d = {.id = SELF, .term = 1, .snapshot = &s, .entries = e, .n_entries = 2};
    exo_raft *r = NULL;
    exo_error err;
    assert_int_equal(exo_raft_create(&d, 0, &r, &err), EXO_EFORMAT); /* a gap */
    assert_non_null(strstr(err.message, "entry 4"));
    e[1] = (exo_raft_entry){3, 2, EXO_RAFT_NOOP, 0, NULL};
    assert_int_equal(exo_raft_create(&d, 0, &r, &err), EXO_EFORMAT); /* newer than the node */
    d.term = 2;
    assert_int_equal(exo_raft_create(&d, 0, &r, &err), EXO_OK);
    exo_raft_destroy(r);
}

static void test_nonsense_from_peers_changes_nothing(void **state) {
    (void)state;
    exo_raft_actions out = {0};
    exo_raft *r = make_leader(&out);
    uint64_t term = exo_raft_term(r), last = exo_raft_last_index(r);
    exo_raft_entry gap[2] = {{5, 9, EXO_RAFT_NOOP, 0, NULL}, {7, 9, EXO_RAFT_NOOP, 0, NULL}};
    exo_raft_entry nobody = {3, 9, EXO_RAFT_CONFIG, 0, NULL};
    exo_raft_snapshot bad = {.index = 9, .term = 9};
    const exo_raft_message all[] = {
        {.type = EXO_RAFT_APPEND, .from = SELF, .to = SELF, .term = 9},
        {.type = EXO_RAFT_APPEND, .from = 8, .to = 9, .term = 9},
        {.type = 99, .from = 8, .to = SELF, .term = 9},
        {.type = EXO_RAFT_APPEND, .from = 8, .to = SELF, .term = term}, /* a second leader */
        {.type = EXO_RAFT_SNAPSHOT, .from = 8, .to = SELF, .term = 9},
        {.type = EXO_RAFT_SNAPSHOT, .from = 8, .to = SELF, .term = 9, .snapshot = &bad},
        {.type = EXO_RAFT_APPEND,
         .from = 8,
         .to = SELF,
         .term = 9,
         .index = 4,
         .log_term = 2,
         .n_entries = 2,
         .entries = gap},
        {.type = EXO_RAFT_APPEND,
         .from = 8,
         .to = SELF,
         .term = 9,
         .index = 2,
         .log_term = 2,
         .n_entries = 1,
         .entries = &nobody},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        assert_int_equal(exo_raft_receive(r, &all[i], 10, &out, NULL), EXO_EFORMAT);
        assert_int_equal(out.n, 0);
        assert_int_equal(exo_raft_term(r), term);
        assert_int_equal(exo_raft_last_index(r), last);
        assert_int_equal(exo_raft_role_of(r), EXO_RAFT_LEADER);
    }
    exo_raft_destroy(r);
    exo_raft_actions_finish(&out);
}

static void test_voters_change_one_at_a_time(void **state) {
    (void)state;
    exo_raft_actions out = {0};
    exo_raft *r = make_leader(&out);
    const exo_raft_member three[] = {{SELF, true}, {8, true}, {9, true}};
    const exo_raft_member learners[] = {{SELF, true}, {8, false}, {9, false}};
    const exo_raft_member nobody[] = {{SELF, false}};
    assert_int_equal(exo_raft_set_members(r, three, 3, 20, &out, NULL), EXO_EINVAL);
    assert_int_equal(exo_raft_set_members(r, nobody, 1, 20, &out, NULL), EXO_EFORMAT);
    assert_int_equal(exo_raft_set_members(r, learners, 3, 20, &out, NULL), EXO_OK);
    uint32_t n = 0;
    exo_raft_members(r, &n);
    assert_int_equal(n, 3);
    assert_int_equal(exo_raft_set_members(r, three, 2, 20, &out, NULL), EXO_OK);
    /* Two voters now: the second has not agreed, so nothing more may change. */
    assert_int_equal(exo_raft_set_members(r, three, 3, 20, &out, NULL), EXO_EBUSY);
    exo_raft_destroy(r);
    exo_raft_actions_finish(&out);
}

/* Without memory at any point, the log refuses to go on, and nothing leaks. */
static void test_memory_may_run_out_anywhere(void **state) {
    (void)state;
    for (uint64_t k = 1;; k++) {
        exo_raft_actions out = {0};
        exo_raft_snapshot s = first_snapshot();
        exo_raft_desc d = {.id = SELF, .seed = 1, .term = 1, .snapshot = &s};
        exo_raft *r = NULL;
        uint64_t index;
        exo_mem_fail_at(k);
        exo_status st = exo_raft_create(&d, 0, &r, NULL);
        if (st == EXO_OK) st = exo_raft_tick(r, 5000, &out, NULL);
        if (st == EXO_OK) st = exo_raft_propose(r, "abc", 3, &out, &index, NULL);
        if (st == EXO_OK) st = exo_raft_compact(r, "state", 5, &out, NULL);
        bool failed = exo_mem_failed();
        exo_mem_fail_at(0);
        assert_int_equal(st, failed ? EXO_ENOMEM : EXO_OK);
        if (failed && r != NULL) {
            assert_int_equal(exo_raft_tick(r, 9000, &out, NULL), EXO_EINTERNAL);
        }
        exo_raft_destroy(r);
        exo_raft_actions_finish(&out);
        if (!failed) break;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_node_leads_and_commits_at_once),
        cmocka_unit_test(test_a_node_without_members_waits),
        cmocka_unit_test(test_member_lists_are_checked),
        cmocka_unit_test(test_a_log_that_contradicts_itself_is_refused),
        cmocka_unit_test(test_nonsense_from_peers_changes_nothing),
        cmocka_unit_test(test_voters_change_one_at_a_time),
        cmocka_unit_test(test_memory_may_run_out_anywhere),
    };
    return cmocka_run_group_tests_name("raft", tests, NULL, NULL);
}
