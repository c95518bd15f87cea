/* cluster_test.c - small clusters by hand: founding, meeting, losing one, coming back. */
#include "cluster/cluster.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define MAX_NODES 5
#define LINK_MS   2

typedef struct mail {
    struct mail *next;
    uint64_t at_ms;
    uint32_t from, to;
    size_t n;
    uint8_t bytes[];
} mail;

/* Nodes in one room: links are all or nothing, a message takes LINK_MS. */
typedef struct {
    exo_cluster *c[MAX_NODES];
    exo_cluster_actions out[MAX_NODES];
    bool linked[MAX_NODES][MAX_NODES];
    uint32_t n;
    uint64_t now_ms;
    mail *first, *last;
    size_t n_applied, n_at_once, n_may_wait;
    uint64_t last_tag;
} room;

static uint64_t id_of(uint32_t i) { return 100 + i; }

static void act(room *r, uint32_t from) {
    for (size_t k = 0; k < r->out[from].n; k++) {
        const exo_cluster_action *a = &r->out[from].items[k];
        if (a->kind == EXO_CLUSTER_APPLIED) {
            r->n_applied++;
            if (a->tag != 0) r->last_tag = a->tag;
        }
        if (a->kind != EXO_CLUSTER_SEND) continue;
        *(a->may_wait ? &r->n_may_wait : &r->n_at_once) += 1;
        uint32_t to = (uint32_t)(a->node - 100);
        if (!r->linked[from][to]) continue;
        mail *m = exo_malloc(sizeof *m + a->n_bytes);
        assert_non_null(m);
        *m = (mail){.at_ms = r->now_ms + LINK_MS, .from = from, .to = to, .n = a->n_bytes};
        memcpy(m->bytes, a->bytes, a->n_bytes);
        if (r->last != NULL) {
            r->last->next = m;
        } else {
            r->first = m;
        }
        r->last = m;
    }
}

static void step(room *r, uint32_t i, exo_cluster_input in) {
    exo_error err = {0};
    if (r->c[i] == NULL) return;
    exo_status st = exo_cluster_step(r->c[i], &in, r->now_ms, &r->out[i], &err);
    if (st != EXO_OK) fail_msg("node %u: %s", i, err.message);
    act(r, i);
}

static void deliver(room *r) {
    while (r->first != NULL && r->first->at_ms <= r->now_ms) {
        mail *m = r->first;
        r->first = m->next;
        if (r->first == NULL) r->last = NULL;
        if (r->linked[m->from][m->to]) {
            step(r, m->to,
                 (exo_cluster_input){.kind = EXO_CLUSTER_MESSAGE,
                                     .node = id_of(m->from),
                                     .bytes = m->bytes,
                                     .n_bytes = m->n});
        }
        exo_free(m);
    }
}

static void run(room *r, uint64_t ms) {
    for (uint64_t end = r->now_ms + ms; r->now_ms < end; r->now_ms++) {
        deliver(r);
        for (uint32_t i = 0; i < r->n; i++) {
            if (r->c[i] != NULL && r->now_ms >= exo_cluster_deadline(r->c[i])) {
                step(r, i, (exo_cluster_input){.kind = EXO_CLUSTER_TICK});
            }
        }
    }
}

static void start(room *r, uint32_t i, bool alone) {
    char name[16];
    snprintf(name, sizeof name, "n%u", i);
    exo_cluster_desc d = {.node = id_of(i),
                          .name = name,
                          .voter_ok = true,
                          .alone = alone,
                          .seed = i + 1 + r->now_ms,
                          .session = r->now_ms + 1,
                          .unix_ms = 1000000 + r->now_ms + i};
    assert_int_equal(exo_cluster_create(&d, r->now_ms, &r->c[i], NULL), EXO_OK);
    step(r, i, (exo_cluster_input){.kind = EXO_CLUSTER_TICK});
}

static void set_link(room *r, uint32_t a, uint32_t b, bool up) {
    if (r->linked[a][b] == up) return;
    r->linked[a][b] = r->linked[b][a] = up;
    exo_cluster_input_kind kind = up ? EXO_CLUSTER_PEER_UP : EXO_CLUSTER_PEER_DOWN;
    step(r, a, (exo_cluster_input){.kind = kind, .node = id_of(b)});
    step(r, b, (exo_cluster_input){.kind = kind, .node = id_of(a)});
}

static void open_room(room *r, uint32_t n) {
    memset(r, 0, sizeof *r);
    r->n = n;
    r->now_ms = 1000;
    for (uint32_t i = 0; i < n; i++) start(r, i, false);
    for (uint32_t a = 0; a < n; a++) {
        for (uint32_t b = a + 1; b < n; b++) set_link(r, a, b, true);
    }
}

static void close_room(room *r) {
    while (r->first != NULL) {
        mail *m = r->first;
        r->first = m->next;
        exo_free(m);
    }
    for (uint32_t i = 0; i < r->n; i++) {
        exo_cluster_destroy(r->c[i]);
        exo_cluster_actions_finish(&r->out[i]);
    }
}

static uint32_t n_nodes(const room *r, uint32_t i) {
    const exo_state *s = exo_cluster_state_of(r->c[i]);
    uint32_t n = 0;
    for (size_t k = 0; k < s->n_nodes; k++) n += s->nodes[k].member != 0;
    return n;
}

static void assert_one_cluster(const room *r, uint32_t n, uint32_t except) {
    uint64_t master = 0, term = 0, log_id = 0;
    for (uint32_t i = 0; i < r->n; i++) {
        if (i == except || r->c[i] == NULL) continue;
        if (log_id == 0) {
            master = exo_cluster_master(r->c[i]);
            term = exo_cluster_term(r->c[i]);
            log_id = exo_cluster_log_id(r->c[i]);
        }
        assert_int_equal(n_nodes(r, i), n);
        assert_int_not_equal(master, 0);
        assert_int_equal(exo_cluster_master(r->c[i]), master);
        assert_int_equal(exo_cluster_term(r->c[i]), term);
        assert_int_equal(exo_cluster_log_id(r->c[i]), log_id);
    }
}

static exo_event created(const char *id, uint64_t owner) {
    exo_event e = {.type = EXO_EVENT_INSTANCE_CREATED, .node = owner, .min_nodes = 1};
    snprintf(e.instance, sizeof e.instance, "%s", id);
    snprintf(e.model_id, sizeof e.model_id, "tiny");
    return e;
}

static void propose(room *r, uint32_t i, const exo_event *e, uint64_t tag) {
    step(r, i, (exo_cluster_input){.kind = EXO_CLUSTER_PROPOSE, .event = e, .tag = tag});
}

static bool has(const room *r, uint32_t i, const char *id) {
    return exo_state_instance_of(exo_cluster_state_of(r->c[i]), id) != NULL;
}

/* ---- tests ---- */

static void test_one_node_leads_itself_at_once(void **state) {
    (void)state;
    room r = {.n = 1, .now_ms = 5};
    start(&r, 0, true);
    assert_int_equal(exo_cluster_master(r.c[0]), id_of(0));
    assert_int_equal(exo_cluster_term(r.c[0]), 2 * EXO_CLUSTER_TERM_STEP);
    exo_event e = created("a", id_of(0));
    propose(&r, 0, &e, 7);
    assert_int_equal(r.last_tag, 7);
    assert_true(has(&r, 0, "a"));
    close_room(&r);
}

static void test_nodes_that_meet_are_one_cluster(void **state) {
    (void)state;
    for (uint32_t n = 2; n <= MAX_NODES; n++) {
        room r;
        open_room(&r, n);
        run(&r, 3000);
        assert_one_cluster(&r, n, n);
        uint32_t voters = 0;
        for (uint32_t i = 0; i < n; i++) voters += exo_cluster_is_voter(r.c[0], id_of(i));
        assert_int_equal(voters, n == 4 ? 3 : n);
        exo_event e = created("a", id_of(n - 1));
        propose(&r, n - 1, &e, 9);
        run(&r, 200);
        assert_int_equal(r.last_tag, 9);
        for (uint32_t i = 0; i < n; i++) assert_true(has(&r, i, "a"));
        close_room(&r);
    }
}

/* In a cluster where nothing happens no message is urgent; of what happens, those are. */
static void test_what_only_shows_that_a_node_is_there_may_wait(void **state) {
    (void)state;
    room r;
    open_room(&r, 3);
    run(&r, 5000);
    assert_one_cluster(&r, 3, 3);
    r.n_at_once = r.n_may_wait = 0;
    run(&r, 5000);
    assert_int_equal(r.n_at_once, 0);
    assert_true(r.n_may_wait > 0);
    exo_event e = created("a", id_of(1));
    propose(&r, 1, &e, 9);
    assert_true(r.n_at_once > 0);
    run(&r, 5 * LINK_MS); /* to the master, to the voters and back, and that it counts */
    assert_int_equal(r.last_tag, 9);
    close_room(&r);
}

static void lose(room *r, uint32_t lost) {
    for (uint32_t i = 0; i < r->n; i++) {
        if (i != lost) set_link(r, i, lost, false);
    }
}

static void test_a_dead_master_is_replaced_within_two_seconds(void **state) {
    (void)state;
    for (uint32_t n = 2; n <= MAX_NODES; n++) {
        room r;
        open_room(&r, n);
        run(&r, 5000);
        uint32_t master = (uint32_t)(exo_cluster_master(r.c[0]) - 100);
        uint64_t term = exo_cluster_term(r.c[0]);
        lose(&r, master);
        exo_cluster_destroy(r.c[master]);
        r.c[master] = NULL;
        run(&r, 2000);
        for (uint32_t i = 0; i < n; i++) {
            if (i == master) continue;
            assert_int_not_equal(exo_cluster_master(r.c[i]), 0);
            assert_int_not_equal(exo_cluster_master(r.c[i]), id_of(master));
            assert_true(exo_cluster_term(r.c[i]) > term);
            assert_int_equal(exo_cluster_provisional(r.c[i]), n == 2);
        }
        close_room(&r);
    }
}

static void test_two_halves_that_went_on_alone_reconcile(void **state) {
    (void)state;
    room r;
    open_room(&r, 2);
    run(&r, 5000);
    lose(&r, 1);
    run(&r, 3000);
    exo_event a = created("a", id_of(0)), b = created("b", id_of(1));
    propose(&r, 0, &a, 1);
    propose(&r, 1, &b, 2);
    run(&r, 1000);
    assert_true(has(&r, 0, "a") && !has(&r, 0, "b") && has(&r, 1, "b") && !has(&r, 1, "a"));
    assert_true(exo_cluster_provisional(r.c[0]) && exo_cluster_provisional(r.c[1]));
    assert_int_not_equal(exo_cluster_term(r.c[0]), exo_cluster_term(r.c[1]));
    uint64_t before[] = {exo_cluster_term(r.c[0]), exo_cluster_term(r.c[1])};
    set_link(&r, 0, 1, true);
    run(&r, 4000);
    assert_one_cluster(&r, 2, 2);
    assert_false(exo_cluster_provisional(r.c[0]));
    assert_true(exo_cluster_term(r.c[0]) >= before[0] && exo_cluster_term(r.c[0]) >= before[1]);
    for (uint32_t i = 0; i < 2; i++) assert_true(has(&r, i, "a") && has(&r, i, "b"));
    close_room(&r);
}

/* Its owner is in neither of two clusters that meet; whoever knows it brings it along. */
static void test_an_instance_whose_owner_is_elsewhere_is_brought_along(void **state) {
    (void)state;
    room r = {.n = 4, .now_ms = 1000};
    for (uint32_t i = 0; i < 4; i++) start(&r, i, false);
    set_link(&r, 0, 1, true);
    set_link(&r, 2, 3, true);
    run(&r, 3000);
    exo_event a = created("a", 999), b = created("b", 999);
    propose(&r, 1, &a, 1);
    propose(&r, 3, &b, 2);
    run(&r, 1000);
    assert_true(has(&r, 0, "a") && has(&r, 2, "b"));
    for (uint32_t i = 0; i < 4; i++) {
        for (uint32_t k = i + 1; k < 4; k++) set_link(&r, i, k, true);
    }
    run(&r, 15000);
    assert_one_cluster(&r, 4, 4);
    for (uint32_t i = 0; i < 4; i++) assert_true(has(&r, i, "a") && has(&r, i, "b"));
    close_room(&r);
}

/* A node whose disk was lost counts its events from the start again; the log knows higher numbers
 * of it.  What it says is done is done, whenever it was asked. */
static void test_an_event_that_an_earlier_life_overtook_is_not_acknowledged(void **state) {
    (void)state;
    room r;
    open_room(&r, 3);
    run(&r, 3000);
    exo_event before = created("before", id_of(1));
    propose(&r, 1, &before, 1);
    run(&r, 1000);
    lose(&r, 1);
    run(&r, 3000);
    exo_cluster_destroy(r.c[1]);
    exo_cluster_desc d = {.node = id_of(1),
                          .name = "n1",
                          .voter_ok = true,
                          .seed = 4711,
                          .session = 1,
                          .unix_ms = 9000000};
    assert_int_equal(exo_cluster_create(&d, r.now_ms, &r.c[1], NULL), EXO_OK);
    step(&r, 1, (exo_cluster_input){.kind = EXO_CLUSTER_TICK});
    set_link(&r, 0, 1, true);
    set_link(&r, 1, 2, true);
    char name[16];
    for (uint32_t k = 0; k < 100; k++) {
        snprintf(name, sizeof name, "i%u", k);
        exo_event e = created(name, id_of(1));
        propose(&r, 1, &e, 100 + k);
        run(&r, 10);
    }
    run(&r, 10000);
    assert_int_equal(r.last_tag, 199);
    for (uint32_t k = 0; k < 100; k++) {
        snprintf(name, sizeof name, "i%u", k);
        for (uint32_t i = 0; i < 3; i++) assert_true(has(&r, i, name));
    }
    close_room(&r);
}

static void test_garbage_is_refused_and_changes_nothing(void **state) {
    (void)state;
    room r;
    open_room(&r, 2);
    run(&r, 3000);
    uint64_t term = exo_cluster_term(r.c[0]);
    uint8_t bytes[64];
    exo_error err;
    for (uint32_t k = 0; k < 2000; k++) {
        for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(k * 31 + i * (k | 1));
        bytes[0] = (uint8_t)(k % 5);
        exo_cluster_input in = {.kind = EXO_CLUSTER_MESSAGE,
                                .node = id_of(1),
                                .bytes = bytes,
                                .n_bytes = k % sizeof bytes};
        exo_status st = exo_cluster_step(r.c[0], &in, r.now_ms, &r.out[0], &err);
        assert_true(st == EXO_OK || st == EXO_EFORMAT);
        act(&r, 0);
    }
    run(&r, 3000);
    assert_one_cluster(&r, 2, 2);
    assert_int_equal(exo_cluster_term(r.c[0]), term);
    close_room(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_node_leads_itself_at_once),
        cmocka_unit_test(test_nodes_that_meet_are_one_cluster),
        cmocka_unit_test(test_what_only_shows_that_a_node_is_there_may_wait),
        cmocka_unit_test(test_a_dead_master_is_replaced_within_two_seconds),
        cmocka_unit_test(test_two_halves_that_went_on_alone_reconcile),
        cmocka_unit_test(test_an_instance_whose_owner_is_elsewhere_is_brought_along),
        cmocka_unit_test(test_an_event_that_an_earlier_life_overtook_is_not_acknowledged),
        cmocka_unit_test(test_garbage_is_refused_and_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
