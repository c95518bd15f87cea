/* state_test.c - events and states: bytes and back, limits, and that nothing counts twice. */
#include "cluster/state.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static exo_event example(exo_event_type t) {
    exo_event e = {
        .type = t, .node = 7, .member = 9, .voter_ok = true, .min_nodes = 2, .n_cuts = 2};
    snprintf(e.name, sizeof e.name, "laptop");
    snprintf(e.instance, sizeof e.instance, "0123456789abcdef");
    snprintf(e.model_id, sizeof e.model_id, "tiny");
    snprintf(e.reason, sizeof e.reason, "no such repository");
    e.cuts[0] = 3;
    e.cuts[1] = 5;
    return e;
}

static void apply(exo_state *s, const exo_event *e, uint64_t number) {
    exo_event_origin o = {7, 1, number};
    assert_int_equal(exo_state_apply(s, &o, e, NULL), EXO_OK);
}

static void test_events_survive_the_wire_or_are_refused(void **state) {
    (void)state;
    for (int t = EXO_EVENT_NODE_JOINED; t <= EXO_EVENT_LAST; t++) {
        exo_event e = example((exo_event_type)t), again;
        exo_event_origin o = {7, 2, 3}, from;
        exo_buf out = {0}, second = {0};
        exo_event_write(&o, &e, &out);
        assert_true(exo_buf_ok(&out));
        assert_int_equal(exo_event_read((uint8_t *)out.data, out.n, &from, &again, NULL), EXO_OK);
        assert_int_equal(again.type, t);
        assert_int_equal(from.number, 3);
        exo_event_write(&from, &again, &second);
        assert_int_equal(second.n, out.n);
        assert_memory_equal(second.data, out.data, out.n);
        for (size_t n = 0; n < out.n; n++) { /* no prefix is an event, nor one byte more */
            exo_error err = {0};
            assert_int_equal(exo_event_read((uint8_t *)out.data, n, &from, &again, &err),
                             EXO_EFORMAT);
            assert_true(err.message[0] != '\0');
        }
        exo_buf_putc(&out, 'x');
        assert_int_equal(exo_event_read((uint8_t *)out.data, out.n, &from, &again, NULL),
                         EXO_EFORMAT);
        exo_buf_finish(&out);
        exo_buf_finish(&second);
    }
}

static void test_an_event_counts_once(void **state) {
    (void)state;
    exo_state s = {0};
    exo_event joined = example(EXO_EVENT_NODE_JOINED);
    exo_event created = example(EXO_EVENT_INSTANCE_CREATED);
    exo_event deleted = example(EXO_EVENT_INSTANCE_DELETED);
    apply(&s, &joined, 1);
    apply(&s, &created, 2);
    apply(&s, &created, 2);
    assert_int_equal(s.n_instances, 1);
    apply(&s, &deleted, 3);
    apply(&s, &created, 2); /* late, and a second time */
    assert_int_equal(s.n_instances, 0);
    apply(&s, &created, 4); /* its id is used up */
    assert_int_equal(s.n_instances, 0);
    assert_true(exo_state_was_deleted(&s, created.instance));
    exo_event_origin next = {7, 2, 1}; /* the node has started again: its numbers, too */
    snprintf(created.instance, sizeof created.instance, "another");
    assert_int_equal(exo_state_apply(&s, &next, &created, NULL), EXO_OK);
    assert_int_equal(s.n_instances, 1);
    exo_state_finish(&s);
}

static void test_a_removed_node_stays_outside(void **state) {
    (void)state;
    exo_state s = {0};
    exo_event joined = example(EXO_EVENT_NODE_JOINED), removed = example(EXO_EVENT_NODE_REMOVED);
    apply(&s, &joined, 1);
    assert_int_equal(exo_state_node_of(&s, 7)->slot, 1);
    apply(&s, &removed, 2);
    joined.member = 10;
    apply(&s, &joined, 3);
    assert_int_equal(exo_state_node_of(&s, 7)->member, 0);
    assert_true(exo_state_node_of(&s, 7)->removed);
    exo_state_finish(&s);
}

static void fill(exo_state *s) {
    uint64_t number = 0;
    for (uint64_t i = 0; i < 40; i++) {
        exo_event e = example(EXO_EVENT_NODE_JOINED);
        e.node = 1 + (i * 37) % 101;
        e.member = 1000 + i;
        apply(s, &e, ++number);
    }
    for (int i = 0; i < 400; i++) {
        exo_event e = example(EXO_EVENT_INSTANCE_CREATED);
        snprintf(e.instance, sizeof e.instance, "i%d", i);
        apply(s, &e, ++number);
        e.type = i % 4 != 0 ? EXO_EVENT_INSTANCE_DELETED : EXO_EVENT_INSTANCE_MOVED;
        e.node = 8;
        apply(s, &e, ++number);
    }
    exo_event e = example(EXO_EVENT_DOWNLOAD_STARTED);
    apply(s, &e, ++number);
    e.type = EXO_EVENT_DOWNLOAD_FAILED;
    apply(s, &e, ++number);
    e.type = EXO_EVENT_DOWNLOAD_STARTED;
    snprintf(e.model_id, sizeof e.model_id, "hf:owner/repo");
    apply(s, &e, ++number);
    s->parent = 5;
    s->n_parent_voters = 2;
    s->parent_voters[0] = 7;
    s->parent_voters[1] = 8000;
}

static void test_downloads_start_fail_and_end(void **state) {
    (void)state;
    exo_state s = {0};
    exo_event e = example(EXO_EVENT_DOWNLOAD_FAILED);
    apply(&s, &e, 1); /* of what nobody asked for */
    assert_int_equal(s.n_downloads, 0);
    e.type = EXO_EVENT_DOWNLOAD_STARTED;
    apply(&s, &e, 2);
    apply(&s, &e, 3);
    assert_int_equal(s.n_downloads, 1);
    assert_string_equal(exo_state_download_of(&s, 7, "tiny")->reason, "");
    e.type = EXO_EVENT_DOWNLOAD_FAILED;
    apply(&s, &e, 4);
    assert_string_equal(exo_state_download_of(&s, 7, "tiny")->reason, "no such repository");
    e.type = EXO_EVENT_DOWNLOAD_STARTED; /* somebody asks for it again */
    apply(&s, &e, 5);
    assert_string_equal(exo_state_download_of(&s, 7, "tiny")->reason, "");
    assert_null(exo_state_download_of(&s, 8, "tiny"));
    e.type = EXO_EVENT_DOWNLOAD_ENDED;
    apply(&s, &e, 6);
    assert_int_equal(s.n_downloads, 0);
    exo_state_finish(&s);
}

static void test_a_state_survives_the_disk_or_is_refused(void **state) {
    (void)state;
    exo_state s = {0}, again;
    exo_buf out = {0}, second = {0};
    fill(&s);
    assert_int_equal(s.n_deleted, EXO_STATE_MAX_DELETED);
    assert_true(exo_state_is_provisional(&s));
    exo_state_write(&s, &out);
    assert_int_equal(exo_state_read((uint8_t *)out.data, out.n, &again, NULL), EXO_OK);
    exo_state_write(&again, &second);
    assert_int_equal(second.n, out.n);
    assert_memory_equal(second.data, out.data, out.n);
    exo_state_finish(&again);
    for (size_t n = 0; n < out.n; n += 7) {
        assert_int_equal(exo_state_read((uint8_t *)out.data, n, &again, NULL), EXO_EFORMAT);
    }
    exo_state_finish(&s);
    exo_buf_finish(&out);
    exo_buf_finish(&second);
}

static void test_failed_allocations_leave_nothing(void **state) {
    (void)state;
    exo_state s = {0}, again;
    exo_buf out = {0};
    fill(&s);
    exo_state_write(&s, &out);
    for (uint64_t k = 1; k <= 4; k++) {
        exo_mem_fail_at(k);
        assert_int_equal(exo_state_read((uint8_t *)out.data, out.n, &again, NULL), EXO_ENOMEM);
        assert_true(exo_mem_failed());
        exo_mem_fail_at(0);
    }
    exo_state_finish(&s);
    exo_buf_finish(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events_survive_the_wire_or_are_refused),
        cmocka_unit_test(test_an_event_counts_once),
        cmocka_unit_test(test_a_removed_node_stays_outside),
        cmocka_unit_test(test_downloads_start_fail_and_end),
        cmocka_unit_test(test_a_state_survives_the_disk_or_is_refused),
        cmocka_unit_test(test_failed_allocations_leave_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
