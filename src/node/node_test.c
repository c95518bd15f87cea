/* node_test.c - whole nodes in one process: they join over loopback, place a model, answer, and
 * lose each other. */
#define _DEFAULT_SOURCE
#include "node/node.h"

#include "base/log.h"
#include "base/mem.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "node/node_impl.h"
#include "node/testing.h"

#define KEY     "correct horse battery"
#define N_VOCAB 512u

static char root[] = "/tmp/exo-test-XXXXXX";
static char model_path[64];

static exo_status try_start(const char *name, const exo_node *peer, exo_node_desc d, exo_node **out,
                            exo_error *err) {
    char dir[64], address[32];
    const char *models[] = {model_path}, *peers[] = {address};
    static unsigned n_started; /* a node remembers its instances: each starts with nothing */
    snprintf(dir, sizeof dir, "%s/%u-%s", root, n_started++, name);
    if (d.data_dir == NULL) d.data_dir = dir;
    d.name = name;
    d.models = models;
    d.n_models = 1;
    d.n_threads = 1;
    d.ctx_tokens = 512;
    if (peer != NULL) {
        snprintf(address, sizeof address, "127.0.0.1:%u", exo_node_listen_port(peer));
        d.peers = peers;
        d.n_peers = 1;
    }
    return exo_node_start(&d, out, err);
}

static exo_node *start(const char *name, const exo_node *peer) {
    exo_node *n;
    exo_error err = {0};
    exo_node_desc d = {.listen_addr = "127.0.0.1", .cluster_key = KEY};
    check(try_start(name, peer, d, &n, &err), &err);
    assert_true(exo_node_listen_port(n) != 0);
    return n;
}

static json_t *state_of(exo_node *n) {
    exo_error err = {0};
    json_t *j;
    check(exo_node_state(n, &j, &err), &err);
    return j;
}

static size_t count_of(exo_node *n, const char *member) {
    json_t *j = state_of(n);
    size_t count = json_object_size(json_object_get(j, member));
    json_decref(j);
    return count;
}

/* Until the member of n's state ("nodes", "instances") has so many entries. */
static void wait_for(exo_node *n, const char *member, size_t count) {
    uint64_t deadline = exo_now_ms() + PATIENCE_MS;
    while (count_of(n, member) != count && exo_now_ms() < deadline) usleep(20000);
    assert_int_equal(count_of(n, member), count);
}

/* A busy machine may be between two masters for a moment. */
static void wait_for_master(exo_node *n) {
    uint64_t deadline = exo_now_ms() + PATIENCE_MS;
    for (bool known = false; !known && exo_now_ms() < deadline; usleep(20000)) {
        json_t *j = state_of(n);
        known = json_is_string(json_object_get(j, "master"));
        json_decref(j);
    }
}

/* Two nodes of one cluster: until they know each other's models. */
static void wait_for_each_other(exo_node *n[2]) {
    for (int i = 0; i < 2; i++) {
        wait_for(n[i], "nodes", 2);
        wait_for(n[i], "members", 2); /* of one log: what is placed is remembered by both */
        uint64_t deadline = exo_now_ms() + PATIENCE_MS;
        for (bool known = false; !known && exo_now_ms() < deadline; usleep(20000)) {
            json_t *j = state_of(n[i]);
            const json_t *other =
                json_object_get(json_object_get(j, "nodes"), exo_node_id(n[1 - i]));
            known = json_array_size(json_object_get(other, "models")) > 0;
            json_decref(j);
        }
    }
}

static void start_two(exo_node *n[2]) {
    n[0] = start("alpha", NULL);
    n[1] = start("beta", n[0]);
    wait_for_each_other(n);
}

/* A node that keeps keys and values in q8_0. */
static exo_node *start_q8_0(const char *name, const exo_node *peer) {
    exo_node *n;
    exo_error err = {0};
    exo_node_desc d = {.listen_addr = "127.0.0.1", .cluster_key = KEY, .kv_q8_0 = true};
    check(try_start(name, peer, d, &n, &err), &err);
    return n;
}

/* ---- placing ---- */

typedef struct {
    exo_latch *done;
    exo_status status;
    char instance[32], message[EXO_ERROR_BYTES];
} placement;

static void on_placed(void *ud, exo_status status, const char *instance, const char *message) {
    placement *p = ud;
    p->status = status;
    snprintf(p->instance, sizeof p->instance, "%s", instance);
    snprintf(p->message, sizeof p->message, "%s", message);
    exo_latch_set(p->done);
}

static placement place(exo_node *n, const char *model, uint32_t min_nodes) {
    placement p = {0};
    exo_error err = {0};
    exo_placement_wish wish = {.sharding = "Pipeline", .min_nodes = min_nodes};
    assert_int_equal(exo_latch_create(&p.done, NULL), EXO_OK);
    check(exo_node_place(n, model, &wish, on_placed, &p, &err), &err);
    assert_true(exo_latch_wait(p.done, PATIENCE_MS));
    exo_latch_destroy(p.done);
    return p;
}

static placement place_ok(exo_node *n, uint32_t min_nodes) {
    placement p = place(n, "placed", min_nodes);
    if (p.status != EXO_OK) fail_msg("%s", p.message);
    return p;
}

static uint64_t ask(exo_node *n, uint32_t who, uint32_t n_answer, asker *a) {
    uint64_t handle;
    exo_error err = {0};
    exo_request r = new_request(who, 40, n_answer, N_VOCAB);
    asker_init(a);
    check(exo_node_submit(n, "placed", &r, record_event, a, &handle, &err), &err);
    exo_request_finish(&r);
    return handle;
}

/* ---- the tests ---- */

static void two_nodes_answer_as_one(void **state) {
    (void)state;
    exo_node *n[2], *alone;
    exo_error err = {0};
    asker expected, near, far, many[6];
    check(try_start("alone", NULL, (exo_node_desc){0}, &alone, &err), &err);
    assert_int_equal(exo_node_listen_port(alone), 0);
    ask(alone, 1, 20, &expected); /* places the model by itself */
    wait_for_end(&expected);
    expect_full_answer(&expected, 20);
    exo_node_stop(alone);

    start_two(n);
    placement p = place_ok(n[0], 2);
    wait_for(n[1], "instances", 1);
    ask(n[0], 1, 20, &near);
    ask(n[1], 1, 20, &far); /* travels to the owner, its events back */
    wait_for_end(&near);
    wait_for_end(&far);
    expect_full_answer(&near, 20);
    expect_full_answer(&far, 20);
    expect_same_answer(&near, &expected);
    expect_same_answer(&far, &expected);
    for (uint32_t i = 0; i < 6; i++) ask(n[i % 2], 10 + i, 15, &many[i]);
    for (uint32_t i = 0; i < 6; i++) {
        wait_for_end(&many[i]);
        expect_full_answer(&many[i], 15);
        asker_finish(&many[i]);
    }
    check(exo_node_delete_instance(n[0], p.instance, &err), &err);
    assert_int_equal(exo_node_delete_instance(n[0], p.instance, &err), EXO_ENOTFOUND);
    wait_for(n[1], "instances", 0);
    exo_node_stop(n[0]);
    exo_node_stop(n[1]);
    asker_finish(&expected);
    asker_finish(&near);
    asker_finish(&far);
}

/* What one node keeps in q8_0 the other stage does, too, whatever its own setting is. */
static void two_nodes_answer_as_one_in_q8_0(void **state) {
    (void)state;
    exo_node *n[2], *alone;
    exo_error err = {0};
    asker plain, expected, near;
    check(try_start("plain", NULL, (exo_node_desc){0}, &alone, &err), &err);
    ask(alone, 1, 20, &plain);
    wait_for_end(&plain);
    exo_node_stop(alone);
    check(try_start("alone", NULL, (exo_node_desc){.kv_q8_0 = true}, &alone, &err), &err);
    ask(alone, 1, 20, &expected);
    wait_for_end(&expected);
    exo_node_stop(alone);
    assert_memory_not_equal(plain.logits_hash, expected.logits_hash, EXO_SHA256_BYTES);

    n[0] = start("alpha", NULL);
    n[1] = start_q8_0("beta", n[0]);
    wait_for_each_other(n);
    place_ok(n[1], 2);
    ask(n[1], 1, 20, &near);
    wait_for_end(&near);
    expect_full_answer(&near, 20);
    expect_same_answer(&near, &expected);
    exo_node_stop(n[0]);
    exo_node_stop(n[1]);
    asker_finish(&plain);
    asker_finish(&expected);
    asker_finish(&near);
}

/* It would skip the setting and compute in f32. */
static void a_node_older_than_q8_0_gets_no_stage_in_it(void **state) {
    (void)state;
    exo_node *n[2];
    asker a;
    n[0] = start("older", NULL);
    json_object_del(n[0]->hello_extra, "kv_types");
    wait_for(n[0], "nodes", 1); /* through its thread, which reads the hello from here on */
    n[1] = start_q8_0("newer", n[0]);
    wait_for_each_other(n);
    placement p = place(n[1], "placed", 2);
    assert_int_equal(p.status, EXO_EUNSUPPORTED);
    if (strstr(p.message, "node older (") == NULL ||
        strstr(p.message, "does not know keys and values in q8_0: update exo there") == NULL) {
        fail_msg("%s", p.message);
    }
    ask(n[1], 1, 5, &a); /* by itself it can */
    wait_for_end(&a);
    expect_full_answer(&a, 5);
    place_ok(n[0], 2); /* the other way round nobody asks for q8_0 */
    exo_node_stop(n[0]);
    exo_node_stop(n[1]);
    asker_finish(&a);
}

static void the_state_has_the_members_of_the_design(void **state) {
    (void)state;
    exo_node *n[2];
    start_two(n);
    placement p = place_ok(n[0], 2);
    wait_for(n[1], "instances", 1);
    for (int i = 0; i < 2; i++) wait_for_master(n[i]);
    for (int i = 0; i < 2; i++) {
        json_t *j = state_of(n[i]), *nodes, *instances, *links, *devices, *shards;
        const char *master, *name, *model_id, *sharding;
        int term;
        assert_int_equal(json_unpack(j, "{s:o, s:o, s:o, s:s, s:i}", "nodes", &nodes, "instances",
                                     &instances, "links", &links, "master", &master, "term", &term),
                         0);
        assert_non_null(json_object_get(nodes, master));
        for (int k = 0; k < 2; k++) {
            assert_int_equal(json_unpack(json_object_get(nodes, exo_node_id(n[k])), "{s:s, s:o}",
                                         "name", &name, "devices", &devices),
                             0);
            assert_string_equal(name, k == 0 ? "alpha" : "beta");
            assert_int_equal(json_array_size(devices), 1);
        }
        assert_int_equal(json_array_size(links), 1);
        assert_int_equal(json_unpack(json_object_get(instances, p.instance), "{s:s, s:s, s:o}",
                                     "model_id", &model_id, "sharding", &sharding, "shards",
                                     &shards),
                         0);
        assert_string_equal(model_id, "placed");
        assert_string_equal(sharding, "Pipeline");
        assert_int_equal(json_array_size(shards), 2);
        int next = 0;
        for (size_t k = 0; k < 2; k++) {
            const char *node_id, *device_id;
            int a, b, rank, world_size;
            assert_int_equal(json_unpack(json_array_get(shards, k),
                                         "{s:s, s:s, s:i, s:i, s:i, s:i}", "node_id", &node_id,
                                         "device_id", &device_id, "start_layer", &a, "end_layer",
                                         &b, "rank", &rank, "world_size", &world_size),
                             0);
            assert_string_equal(node_id, exo_node_id(n[k]));
            assert_int_equal(a, next);
            next = b;
        }
        assert_int_equal(next, 4);
        json_decref(j);
    }
    exo_node_stop(n[1]);
    exo_node_stop(n[0]);
}

static void cancel_on_either_node(void **state) {
    (void)state;
    exo_node *n[2];
    asker a[2];
    start_two(n);
    place_ok(n[0], 2);
    wait_for(n[1], "instances", 1);
    for (int i = 0; i < 2; i++) {
        uint64_t handle = ask(n[i], 1, 1900, &a[i]);
        wait_for_tokens(&a[i], 3);
        uint64_t begin = exo_now_ms();
        exo_node_cancel(n[i], handle);
        wait_for_end(&a[i]);
        expect_end(&a[i], EXO_ECANCELED, "canceled");
        assert_true(exo_now_ms() - begin < 2000);
        exo_node_cancel(n[i], handle); /* it is gone */
    }
    asker after;
    ask(n[1], 2, 5, &after);
    wait_for_end(&after);
    expect_full_answer(&after, 5);
    exo_node_stop(n[1]);
    exo_node_stop(n[0]);
    for (int i = 0; i < 2; i++) asker_finish(&a[i]);
    asker_finish(&after);
}

/* The participant leaves, then the owner: who asked hears of it, and the rest goes on. */
static void a_node_leaves_in_mid_answer(void **state) {
    (void)state;
    for (int leaver = 0; leaver < 2; leaver++) {
        exo_node *n[2];
        asker a[2], next;
        start_two(n);
        place_ok(n[0], 2);
        wait_for(n[1], "instances", 1);
        for (int i = 0; i < 2; i++) ask(n[i], (uint32_t)i, 1900, &a[i]);
        for (int i = 0; i < 2; i++) wait_for_tokens(&a[i], 2);
        uint64_t begin = exo_now_ms();
        exo_node_stop(n[leaver]);
        for (int i = 0; i < 2; i++) {
            wait_for_end(&a[i]);
            expect_end(&a[i], EXO_EPEER, "");
            assert_true(a[i].message[0] != '\0');
        }
        assert_true(exo_now_ms() - begin < 5000);
        wait_for(n[1 - leaver], "nodes", 1);
        wait_for(n[1 - leaver], "instances", 1); /* remembered */
        ask(n[1 - leaver], 7, 5, &next);         /* placed anew on who is left */
        wait_for_end(&next);
        expect_full_answer(&next, 5);
        exo_node_stop(n[1 - leaver]);
        for (int i = 0; i < 2; i++) asker_finish(&a[i]);
        asker_finish(&next);
    }
}

/* ---- what is remembered ---- */

/* A node of its cluster, in a folder that stays. */
static exo_node *start_in(const char *dir, const exo_node *peer) {
    exo_node *n;
    exo_error err = {0};
    exo_node_desc d = {.listen_addr = "127.0.0.1", .cluster_key = KEY, .data_dir = dir};
    check(try_start(dir + strlen(root) + 1, peer, d, &n, &err), &err);
    return n;
}

/* A restarted node does not know what was deleted last until a master has told it: what it
 * remembers does not run before. */
static void nothing_remembered_runs_before_there_is_a_master(void **state) {
    (void)state;
    char dir[2][64];
    exo_node *n[2];
    for (int i = 0; i < 2; i++) snprintf(dir[i], sizeof dir[i], "%s/stays-%d", root, i);
    n[0] = start_in(dir[0], NULL);
    n[1] = start_in(dir[1], n[0]);
    wait_for_each_other(n);
    placement p = place_ok(n[1], 1);
    for (int i = 0; i < 2; i++) exo_node_stop(n[1 - i]);
    n[1] = start_in(dir[1], NULL); /* alone: a while without a master, then a provisional term */
    bool started = false, mastered = false;
    uint64_t deadline = exo_now_ms() + PATIENCE_MS;
    while (!started && exo_now_ms() < deadline) {
        json_t *j = state_of(n[1]);
        const json_t *i = json_object_get(json_object_get(j, "instances"), p.instance);
        const char *now = json_string_value(json_object_get(i, "state"));
        mastered |= json_is_string(json_object_get(j, "master"));
        if (now != NULL) started = strcmp(now, "waiting") != 0;
        if (started) assert_true(mastered);
        json_decref(j);
        usleep(10000);
    }
    assert_true(started);
    exo_node_stop(n[1]);
}

/* It may know of nothing yet; that is no reason to deny it. */
static void a_node_that_just_started_denies_no_instance(void **state) {
    (void)state;
    exo_node *n[2];
    exo_error err = {0};
    n[0] = start("alpha", NULL);
    placement p = place_ok(n[0], 1);
    n[1] = start("beta", n[0]);
    exo_status st = EXO_EPEER;
    uint64_t deadline = exo_now_ms() + PATIENCE_MS;
    while (st != EXO_OK && exo_now_ms() < deadline) {
        st = exo_node_delete_instance(n[1], p.instance, &err);
        if (st == EXO_EPEER) assert_non_null(strstr(err.message, "not caught up"));
        assert_true(st == EXO_OK || st == EXO_EPEER || st == EXO_ETIMEDOUT);
    }
    assert_int_equal(st, EXO_OK);
    wait_for(n[0], "instances", 0);
    wait_for_each_other(n);
    while (exo_node_delete_instance(n[1], p.instance, &err) != EXO_ENOTFOUND) {
        assert_true(exo_now_ms() < deadline);
    }
    exo_node_stop(n[1]);
    exo_node_stop(n[0]);
}

/* What it cannot keep it does not promise; answers need no disk. */
static void a_full_disk_at_start_is_no_end(void **state) {
    (void)state;
    char dir[64];
    struct rlimit before, tight;
    asker a;
    snprintf(dir, sizeof dir, "%s/full", root);
    exo_node_stop(start_in(dir, NULL)); /* its keys are there */
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_IGN);
    tight = before;
    tight.rlim_cur = 4096;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    exo_node *n = start_in(dir, NULL);
    json_t *j = state_of(n);
    assert_true(json_is_null(json_object_get(j, "master")));
    assert_true(json_is_false(json_object_get(json_object_get(j, "log"), "kept")));
    assert_true(json_is_string(json_object_get(json_object_get(j, "log"), "trouble")));
    json_decref(j);
    ask(n, 1, 5, &a);
    wait_for_end(&a);
    expect_full_answer(&a, 5);
    asker_finish(&a);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    uint64_t deadline = exo_now_ms() + PATIENCE_MS;
    for (bool leads = false; !leads; usleep(20000)) {
        assert_true(exo_now_ms() < deadline);
        j = state_of(n);
        leads = json_is_string(json_object_get(j, "master"));
        json_decref(j);
    }
    exo_node_stop(n);
}

static void stopping_ends_what_waits(void **state) {
    (void)state;
    exo_node *n;
    exo_error err = {0};
    asker a[5];
    check(try_start("alone", NULL, (exo_node_desc){0}, &n, &err), &err);
    for (uint32_t i = 0; i < 5; i++) ask(n, i, 400, &a[i]); /* the instance is being loaded */
    exo_node_stop(n);
    for (uint32_t i = 0; i < 5; i++) {
        expect_end(&a[i], EXO_EPEER, "shutting down");
        asker_finish(&a[i]);
    }
}

static void refused_placements_leave_what_runs(void **state) {
    (void)state;
    exo_node *n;
    exo_error err = {0};
    asker a;
    check(try_start("alone", NULL, (exo_node_desc){0}, &n, &err), &err);
    placement good = place_ok(n, 1);
    placement p = place(n, "placed", 3);
    assert_int_equal(p.status, EXO_EINVAL);
    assert_non_null(strstr(p.message, "3 nodes"));
    p = place(n, "no-such-model", 1);
    assert_int_equal(p.status, EXO_ENOTFOUND);
    assert_non_null(strstr(p.message, "no-such-model"));
    exo_placement_wish wish = {.sharding = "Tensor", .min_nodes = 1};
    assert_int_equal(exo_node_place(n, "placed", &wish, on_placed, &p, &err), EXO_EUNSUPPORTED);
    wish = (exo_placement_wish){.sharding = "Diagonal", .min_nodes = 1};
    assert_int_equal(exo_node_place(n, "placed", &wish, on_placed, &p, &err), EXO_EINVAL);
    wish = (exo_placement_wish){.sharding = "Pipeline"};
    assert_int_equal(exo_node_place(n, "placed", &wish, on_placed, &p, &err), EXO_EINVAL);
    wish = (exo_placement_wish){.sharding = "Pipeline", .min_nodes = 2, .n_cuts = 5};
    assert_int_equal(exo_node_place(n, "placed", &wish, on_placed, &p, &err), EXO_EINVAL);
    json_t *j = state_of(n);
    assert_non_null(json_object_get(json_object_get(j, "instances"), good.instance));
    json_decref(j);
    ask(n, 1, 5, &a);
    wait_for_end(&a);
    expect_full_answer(&a, 5);
    asker_finish(&a);
    exo_node_stop(n);
}

static void expect_no_start(exo_node_desc d, exo_status status, const char *part) {
    exo_node *n = NULL;
    exo_error err = {0};
    assert_int_equal(try_start("alone", NULL, d, &n, &err), status);
    assert_null(n);
    if (strstr(err.message, part) == NULL) fail_msg("\"%s\" not in \"%s\"", part, err.message);
}

static void what_is_wrong_is_said_at_start(void **state) {
    (void)state;
    exo_node *other = start("other", NULL);
    expect_no_start((exo_node_desc){.device = "cpu:9"}, EXO_ENOTFOUND, "cpu:9");
    expect_no_start((exo_node_desc){.listen_addr = "127.0.0.1", .cluster_key = "short"}, EXO_EINVAL,
                    "10");
    expect_no_start((exo_node_desc){.listen_addr = "127.0.0.1",
                                    .cluster_key = KEY,
                                    .listen_port = exo_node_listen_port(other)},
                    EXO_EBUSY, "in use");
    exo_node_stop(other);
    exo_node_stop(NULL);
}

static void a_wrong_key_stays_outside(void **state) {
    (void)state;
    exo_node *a = start("alpha", NULL), *b;
    exo_error err = {0};
    exo_node_desc d = {.listen_addr = "127.0.0.1", .cluster_key = "another passphrase"};
    check(try_start("beta", a, d, &b, &err), &err);
    usleep(700000); /* several tries */
    assert_int_equal(count_of(a, "nodes"), 1);
    assert_int_equal(count_of(b, "nodes"), 1);
    exo_node_stop(b);
    exo_node_stop(a);
}

static void failed_allocations_at_start_leave_nothing(void **state) {
    (void)state;
    uint64_t k = 0;
    for (bool failed = true; failed; k += k < 16 ? 1 : 37) { /* most are the model file's */
        exo_node *n;
        exo_error err = {0};
        exo_mem_fail_at(k + 1);
        exo_status st = try_start("alone", NULL, (exo_node_desc){0}, &n, &err);
        failed = exo_mem_failed() != 0;
        exo_mem_fail_at(0);
        assert_true(st == EXO_OK || (failed && st == EXO_ENOMEM));
        exo_node_stop(n);
    }
    assert_true(k > 16);
}

static int make_model(void **state) {
    (void)state;
    exo_log_set(EXO_LOG_ERROR); /* links break here by design */
    if (mkdtemp(root) == NULL) return 1;
    snprintf(model_path, sizeof model_path, "%s/placed.gguf", root);
    const exo_synth_desc d = {.shape = "test-256", .type = "q8_0", .seed = 7};
    return exo_synth_write(&d, model_path, NULL, NULL, NULL) != EXO_OK;
}

static int remove_files(void **state) {
    char command[64];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_nodes_answer_as_one),
        cmocka_unit_test(two_nodes_answer_as_one_in_q8_0),
        cmocka_unit_test(a_node_older_than_q8_0_gets_no_stage_in_it),
        cmocka_unit_test(the_state_has_the_members_of_the_design),
        cmocka_unit_test(cancel_on_either_node),
        cmocka_unit_test(a_node_leaves_in_mid_answer),
        cmocka_unit_test(nothing_remembered_runs_before_there_is_a_master),
        cmocka_unit_test(a_node_that_just_started_denies_no_instance),
        cmocka_unit_test(a_full_disk_at_start_is_no_end),
        cmocka_unit_test(stopping_ends_what_waits),
        cmocka_unit_test(refused_placements_leave_what_runs),
        cmocka_unit_test(what_is_wrong_is_said_at_start),
        cmocka_unit_test(a_wrong_key_stays_outside),
        cmocka_unit_test(failed_allocations_at_start_leave_nothing),
    };
    return cmocka_run_group_tests(tests, make_model, remove_files);
}
