/* peers_test.c - the peer table: who is kept, what is a replay, which address is best. */
#include "net/peers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define ID "0123456789abcdef"

static exo_peer_table *table;

static int make(void **state) {
    (void)state;
    table = exo_peers_create();
    return table == NULL;
}

static int drop(void **state) {
    (void)state;
    exo_peers_destroy(table);
    return 0;
}

static exo_sighting sighting(const char *host, uint64_t run, uint64_t counter) {
    return (exo_sighting){.node_id = ID,
                          .name = "laptop",
                          .version = "0.1.0",
                          .verdict = EXO_HEARD_MEMBER,
                          .source = EXO_SOURCE_BEACON,
                          .host = host,
                          .interface = "eth0",
                          .port = 52416,
                          .udp_port = 40000,
                          .proven = true,
                          .run = run,
                          .counter = counter};
}

static exo_peer_news note(const char *host, uint64_t run, uint64_t counter, uint64_t now) {
    exo_sighting s = sighting(host, run, counter);
    exo_peer_news news;
    exo_peers_note(table, &s, now, &news);
    return news;
}

static void news_is_told_once(void **state) {
    (void)state;
    assert_int_equal(note("10.0.0.1", 1, 1, 0), EXO_NEWS_PEER);
    assert_int_equal(note("10.0.0.1", 1, 2, 10), EXO_NEWS_NONE);
    assert_int_equal(note("192.168.0.1", 1, 2, 10), EXO_NEWS_ADDRESS);
    assert_int_equal(note("10.0.0.1", 2, 1, 20), EXO_NEWS_RESTART);
    assert_int_equal(exo_peers_count(table), 1);
    assert_int_equal(exo_peers_find(table, ID)->n_addresses, 2);
}

static void replays_are_left_out(void **state) {
    (void)state;
    note("10.0.0.1", 1, 100, 0);
    assert_int_equal(note("10.6.6.6", 1, 100 - EXO_PEER_BEACON_WINDOW, 10), EXO_NEWS_REPLAY);
    assert_int_equal(note("10.0.0.2", 1, 100 - EXO_PEER_BEACON_WINDOW + 1, 10), EXO_NEWS_ADDRESS);
    note("10.0.0.1", 2, 1, 20); /* it restarted */
    assert_int_equal(note("10.6.6.6", 1, 100, 30), EXO_NEWS_REPLAY);
    assert_int_equal(exo_peers_find(table, ID)->n_two_runs, 0);
}

static void an_identity_used_twice_is_seen(void **state) {
    (void)state;
    for (uint64_t i = 1; i < 5; i++) {
        note("10.0.0.1", 1, i, i);
        note("10.0.0.2", 2, i, i);
    }
    assert_true(exo_peers_find(table, ID)->n_two_runs >= 2);
}

static void what_is_said_changes_nothing_that_is_proven(void **state) {
    (void)state;
    exo_peer_news news;
    note("10.0.0.1", 1, 1, 0);
    exo_sighting lie = sighting("10.6.6.6", 0, 0);
    lie.proven = false;
    lie.name = "liar";
    lie.source = EXO_SOURCE_DNS_SD;
    assert_non_null(exo_peers_note(table, &lie, 10, &news));
    exo_heard_peer *p = exo_peers_find(table, ID);
    assert_true(p->proven && p->n_addresses == 1);
    assert_string_equal(p->name, "laptop");
    lie.host = "10.0.0.1"; /* the same address, confirmed by another source */
    assert_null(exo_peers_note(table, &lie, 20, &news));
    assert_int_equal(p->addresses[0].sources, EXO_SOURCE_BEACON | EXO_SOURCE_DNS_SD);
}

static void strangers_do_not_push_members_out(void **state) {
    (void)state;
    exo_peer_news news;
    note("10.0.0.1", 1, 1, 0);
    for (unsigned i = 0; i < 2 * EXO_PEERS_MAX_SAID; i++) {
        char id[EXO_NODE_ID_BYTES];
        snprintf(id, sizeof id, "%016x", i);
        exo_sighting s = sighting("10.0.0.9", 0, 0);
        s.node_id = id;
        s.proven = false;
        assert_non_null(exo_peers_note(table, &s, 100 + i, &news));
    }
    assert_int_equal(exo_peers_count(table), 1 + EXO_PEERS_MAX_SAID);
    assert_true(exo_peers_find(table, ID)->proven);
}

static void count_forgotten(void *ud, const char *host_port) {
    assert_true(*host_port != '\0');
    ++*(unsigned *)ud;
}

static void addresses_are_bounded_and_forgotten(void **state) {
    (void)state;
    unsigned forgotten = 0;
    for (unsigned i = 0; i < 3 * EXO_PEER_ADDRESSES; i++) {
        char host[32];
        snprintf(host, sizeof host, "10.0.1.%u", i);
        note(host, 1, 1 + i, i);
    }
    exo_heard_peer *p = exo_peers_find(table, ID);
    assert_int_equal(p->n_addresses, EXO_PEER_ADDRESSES);
    exo_peers_expire(table, 3 * EXO_PEER_ADDRESSES + EXO_PEER_ADDRESS_MS, count_forgotten,
                     &forgotten);
    assert_int_equal(forgotten, EXO_PEER_ADDRESSES);
    assert_int_equal(exo_peers_find(table, ID)->n_addresses, 0);
    exo_peers_expire(table, 3600000, count_forgotten, &forgotten);
    assert_int_equal(exo_peers_count(table), 0);
}

static void the_fastest_address_is_best(void **state) {
    (void)state;
    note("10.0.0.1", 1, 1, 0);
    note("192.168.0.1", 1, 1, 0);
    note("fe80::1%eth0", 1, 1, 0);
    exo_heard_peer *p = exo_peers_find(table, ID);
    assert_int_equal(exo_peer_rank(p, &p->addresses[0]), 0); /* as they were heard */
    exo_peers_measured(table, ID, "192.168.0.1", 900);
    exo_peers_measured(table, ID, "fe80::1%eth0", 100);
    assert_int_equal(exo_peer_rank(p, &p->addresses[1]), 0);
    assert_int_equal(exo_peer_rank(p, &p->addresses[0]), 1);
    assert_int_equal(exo_peer_rank(p, &p->addresses[2]), 2); /* link-local last */
}

static void a_much_better_address_is_taken_after_three_judgements(void **state) {
    (void)state;
    note("10.0.0.1", 1, 1, 0);
    note("192.168.0.1", 1, 1, 0);
    exo_heard_peer *p = exo_peers_find(table, ID);
    exo_peers_measured(table, ID, "10.0.0.1", 2000);
    assert_null(exo_peer_better(p, "10.0.0.1:52416")); /* nothing measured to compare with */
    exo_peers_measured(table, ID, "192.168.0.1", 1500);
    for (int i = 0; i < 5; i++) assert_null(exo_peer_better(p, "10.0.0.1:52416"));
    for (int i = 0; i < 40; i++) exo_peers_measured(table, ID, "10.0.0.1", 20000); /* degrades */
    assert_null(exo_peer_better(p, "10.0.0.1:52416"));
    assert_null(exo_peer_better(p, "10.0.0.1:52416"));
    const exo_peer_address *a = exo_peer_better(p, "10.0.0.1:52416");
    assert_non_null(a);
    assert_string_equal(a->host, "192.168.0.1");
    for (int i = 0; i < 5; i++) assert_null(exo_peer_better(p, "192.168.0.1:52416"));
    p->addresses[1].n_unanswered = 3; /* the one in use falls silent */
    for (int i = 0; i < 2; i++) assert_null(exo_peer_better(p, "192.168.0.1:52416"));
    assert_non_null(exo_peer_better(p, "192.168.0.1:52416"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(news_is_told_once, make, drop),
        cmocka_unit_test_setup_teardown(replays_are_left_out, make, drop),
        cmocka_unit_test_setup_teardown(an_identity_used_twice_is_seen, make, drop),
        cmocka_unit_test_setup_teardown(what_is_said_changes_nothing_that_is_proven, make, drop),
        cmocka_unit_test_setup_teardown(strangers_do_not_push_members_out, make, drop),
        cmocka_unit_test_setup_teardown(addresses_are_bounded_and_forgotten, make, drop),
        cmocka_unit_test_setup_teardown(the_fastest_address_is_best, make, drop),
        cmocka_unit_test_setup_teardown(a_much_better_address_is_taken_after_three_judgements, make,
                                        drop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
