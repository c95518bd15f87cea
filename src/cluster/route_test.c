/* route_test.c - what becomes of an answer: every state against everything that can happen. */
#include "cluster/route.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define US   0
#define THEM 7
#define PEER 9

static exo_route_seat seat(exo_route_state state, uint64_t guest_of) {
    exo_route_seat r = {.state = state, .handle = 3, .guest_of = guest_of, .their_handle = 5};
    strcpy(r.instance, "a");
    if (state == EXO_ROUTE_REMOTE) r.peer = PEER;
    return r;
}

static exo_route_verdict step(exo_route_state state, uint64_t guest_of, exo_route_event e) {
    exo_route_seat r = seat(state, guest_of);
    return exo_route_step(&r, &e);
}

static void test_a_place_is_chosen(void **state) {
    (void)state;
    exo_route_seat r = {.handle = 1};
    assert_int_equal(exo_route_choose(&r, &(exo_route_sites){0}), EXO_ROUTE_REVIVE);
    exo_route_sites ours = {.instance = "b", .running = true, .peer = PEER};
    assert_int_equal(exo_route_choose(&r, &ours), EXO_ROUTE_RUN); /* before a peer's */
    assert_int_equal(r.state, EXO_ROUTE_LOCAL);
    assert_string_equal(r.instance, "b");
    ours.running = false;
    assert_int_equal(exo_route_choose(&r, &ours), EXO_ROUTE_NOTHING);
    assert_int_equal(r.state, EXO_ROUTE_WAITING);
    assert_int_equal(exo_route_choose(&r, &(exo_route_sites){.peer = PEER}), EXO_ROUTE_SEND);
    assert_int_equal(r.state, EXO_ROUTE_REMOTE);
    assert_int_equal(r.peer, PEER);
}

static void test_only_who_waits_hears_of_an_instance(void **state) {
    (void)state;
    exo_route_event runs = {.kind = EXO_ROUTE_INSTANCE_RUNS, .instance = "a"};
    exo_route_event ended = {.kind = EXO_ROUTE_INSTANCE_ENDED, .instance = "a"};
    exo_route_event other = {.kind = EXO_ROUTE_INSTANCE_ENDED, .instance = "b"};
    exo_route_seat r = seat(EXO_ROUTE_WAITING, US);
    assert_int_equal(exo_route_step(&r, &other), EXO_ROUTE_NOTHING);
    assert_int_equal(exo_route_step(&r, &runs), EXO_ROUTE_RUN);
    assert_int_equal(r.state, EXO_ROUTE_LOCAL);
    assert_int_equal(exo_route_step(&r, &runs), EXO_ROUTE_NOTHING); /* once */
    assert_int_equal(exo_route_step(&r, &ended), EXO_ROUTE_NOTHING);
    assert_int_equal(step(EXO_ROUTE_WAITING, US, ended), EXO_ROUTE_END);
    assert_int_equal(step(EXO_ROUTE_REMOTE, US, ended), EXO_ROUTE_NOTHING);
}

static void test_a_peer_that_leaves_ends_what_it_computes_and_what_it_asked(void **state) {
    (void)state;
    exo_route_event peer = {.kind = EXO_ROUTE_PEER_LOST, .node = PEER};
    exo_route_event them = {.kind = EXO_ROUTE_PEER_LOST, .node = THEM};
    assert_int_equal(step(EXO_ROUTE_REMOTE, US, peer), EXO_ROUTE_END);
    assert_int_equal(step(EXO_ROUTE_REMOTE, US, them), EXO_ROUTE_NOTHING);
    assert_int_equal(step(EXO_ROUTE_LOCAL, US, peer), EXO_ROUTE_NOTHING);
    assert_int_equal(step(EXO_ROUTE_LOCAL, THEM, them), EXO_ROUTE_CANCEL);
    assert_int_equal(step(EXO_ROUTE_WAITING, THEM, them), EXO_ROUTE_END);
    assert_int_equal(step(EXO_ROUTE_LOCAL, THEM, peer), EXO_ROUTE_NOTHING);
}

static void test_cancel_reaches_whoever_computes(void **state) {
    (void)state;
    exo_route_event ours = {.kind = EXO_ROUTE_CANCELED, .handle = 3};
    exo_route_event theirs = {.kind = EXO_ROUTE_GUEST_CANCELED, .node = THEM, .handle = 5};
    assert_int_equal(step(EXO_ROUTE_WAITING, US, ours), EXO_ROUTE_END);
    assert_int_equal(step(EXO_ROUTE_LOCAL, US, ours), EXO_ROUTE_CANCEL);
    assert_int_equal(step(EXO_ROUTE_REMOTE, US, ours), EXO_ROUTE_CANCEL_REMOTE);
    assert_int_equal(step(EXO_ROUTE_LOCAL, THEM, theirs), EXO_ROUTE_CANCEL);
    theirs.node = PEER; /* another node's answer of the same name */
    assert_int_equal(step(EXO_ROUTE_LOCAL, THEM, theirs), EXO_ROUTE_NOTHING);
    ours.handle = 4;
    assert_int_equal(step(EXO_ROUTE_LOCAL, US, ours), EXO_ROUTE_NOTHING);
}

static void test_events_count_from_the_coordinators_node_only(void **state) {
    (void)state;
    exo_route_event e = {.kind = EXO_ROUTE_EVENT, .node = PEER, .handle = 3};
    assert_int_equal(step(EXO_ROUTE_REMOTE, US, e), EXO_ROUTE_DELIVER);
    assert_int_equal(step(EXO_ROUTE_LOCAL, US, e), EXO_ROUTE_NOTHING);
    e.node = THEM;
    assert_int_equal(step(EXO_ROUTE_REMOTE, US, e), EXO_ROUTE_NOTHING);
    exo_route_event stop = {.kind = EXO_ROUTE_STOPPED};
    assert_int_equal(step(EXO_ROUTE_REMOTE, US, stop), EXO_ROUTE_END);
    assert_int_equal(step(EXO_ROUTE_LOCAL, US, stop), EXO_ROUTE_NOTHING);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_place_is_chosen),
        cmocka_unit_test(test_only_who_waits_hears_of_an_instance),
        cmocka_unit_test(test_a_peer_that_leaves_ends_what_it_computes_and_what_it_asked),
        cmocka_unit_test(test_cancel_reaches_whoever_computes),
        cmocka_unit_test(test_events_count_from_the_coordinators_node_only),
    };
    return cmocka_run_group_tests_name("route", tests, NULL, NULL);
}
