/* instances_json_test.c - the create message of an instance: taken whole, or refused by member. */
#define _DEFAULT_SOURCE
#include "node/instances_impl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static exo_node node; /* only its identity is used here */
static const char *own_id;

#define OTHER_ID "00112233445566aa"

static json_t *shard(const char *node_id, int a, int b) {
    return json_pack("{s:s, s:s, s:i, s:i, s:i, s:i, s:s}", "node_id", node_id, "device_id",
                     "cpu:0", "start_layer", a, "end_layer", b, "rank", 0, "world_size", 1,
                     "listen", "127.0.0.1:5");
}

static json_t *good_message(void) {
    return json_pack("{s:s, s:s, s:i, s:i, s:{s:i, s:i, s:i, s:b, s:b, s:b}, s:[o, o, o]}",
                     "instance", "0123456789abcdef", "model_id", "test", "epoch", 3, "min_nodes", 3,
                     "settings", "ctx_tokens", 512, "max_seqs", 4, "chunk_tokens", 32, "kv_f16", 0,
                     "kv_q8_0", 1, "wire_f16", 0, "shards", shard(OTHER_ID, 0, 2),
                     shard(own_id, 2, 3), shard("ffffffffffffffff", 3, 8));
}

static void a_good_message_is_taken_whole(void **state) {
    (void)state;
    exo_instance i = {.node = &node};
    exo_instance_settings s;
    json_t *m = good_message();
    assert_int_equal(exo_instance_from_json(m, &i, &s, NULL), EXO_OK);
    json_decref(m);
    assert_string_equal(i.id, "0123456789abcdef");
    assert_string_equal(i.model_id, "test");
    assert_int_equal(i.epoch, 3);
    assert_int_equal(i.min_nodes, 3);
    assert_int_equal(i.n_stages, 3);
    assert_int_equal(i.my_stage, 1);
    assert_int_equal(i.stages[1].place.start_layer, 2);
    assert_int_equal(i.stages[1].place.end_layer, 3);
    assert_string_equal(i.stages[0].place.node_id, OTHER_ID);
    assert_string_equal(i.stages[2].listen, "127.0.0.1:5");
    assert_int_equal(s.ctx_tokens, 512);
    assert_int_equal(s.max_seqs, 4);
    assert_int_equal(s.chunk_tokens, 32);
    assert_true(!s.kv_f16 && s.kv_q8_0 && !s.wire_f16);
}

/* Replaces one member (of a shard, of the settings, or of the message) and expects its name. */
static void expect_refusal(const char *where, const char *member, json_t *value_take,
                           const char *named) {
    exo_instance i = {.node = &node};
    exo_instance_settings s;
    exo_error err = {0};
    json_t *m = good_message(), *at = m;
    if (strcmp(where, "settings") == 0) at = json_object_get(m, "settings");
    if (strcmp(where, "shard") == 0) at = json_array_get(json_object_get(m, "shards"), 1);
    if (value_take != NULL) {
        json_object_set_new(at, member, value_take);
    } else {
        json_object_del(at, member);
    }
    assert_int_equal(exo_instance_from_json(m, &i, &s, &err), EXO_EFORMAT);
    if (strstr(err.message, named) == NULL) fail_msg("%s %s: %s", where, member, err.message);
    json_decref(m);
}

static void wrong_members_are_named(void **state) {
    (void)state;
    static const char *const top[] = {"instance",  "model_id", "epoch",
                                      "min_nodes", "settings", "shards"};
    for (size_t k = 0; k < sizeof top / sizeof *top; k++) {
        expect_refusal("", top[k], NULL, top[k]);
        expect_refusal("", top[k], json_true(), top[k]);
    }
    static const char *const settings[] = {"ctx_tokens", "max_seqs", "chunk_tokens"};
    for (size_t k = 0; k < sizeof settings / sizeof *settings; k++) {
        expect_refusal("settings", settings[k], NULL, "settings");
        expect_refusal("settings", settings[k], json_integer(-1), "settings");
        expect_refusal("settings", settings[k], json_integer(1ll << 33), "settings");
    }
    static const char *const shards[] = {"node_id", "device_id", "start_layer", "listen"};
    for (size_t k = 0; k < sizeof shards / sizeof *shards; k++) {
        expect_refusal("shard", shards[k], NULL, shards[k]);
        expect_refusal("shard", shards[k], json_real(1.5), shards[k]);
    }
    char many[300];
    memset(many, 'x', sizeof many - 1);
    many[sizeof many - 1] = '\0';
    expect_refusal("", "instance", json_string(many), "instance");
    expect_refusal("", "model_id", json_string(many), "model_id");
    expect_refusal("shard", "device_id", json_string(many), "device_id");
    expect_refusal("shard", "node_id", json_string("short"), "node_id");
}

static void shards_must_follow_each_other_and_hold_us(void **state) {
    (void)state;
    expect_refusal("shard", "start_layer", json_integer(1), "start_layer");
    expect_refusal("shard", "end_layer", json_integer(2), "start_layer");
    expect_refusal("shard", "end_layer", json_integer(4), "start_layer");
    expect_refusal("shard", "end_layer", json_integer(100000), "start_layer");
    expect_refusal("shard", "rank", json_integer(1), "rank");
    expect_refusal("shard", "world_size", json_integer(2), "rank");
    expect_refusal("shard", "node_id", json_string(OTHER_ID), "shards"); /* we are not in it */
    expect_refusal("", "shards", json_array(), "shards");
    json_t *too_many = json_array();
    for (int k = 0; k <= EXO_MAX_STAGES; k++) {
        json_array_append_new(too_many, shard(own_id, k, k + 1));
    }
    expect_refusal("", "shards", too_many, "shards");
}

/* A hello without the member is one of a node that is older than q8_0. */
static void a_hello_tells_the_types_of_keys_and_values(void **state) {
    (void)state;
    json_t *now = exo_kv_types_json(), *older = json_object();
    json_t *odd[] = {json_pack("{s:s}", "kv_types", "q8_0"), json_pack("{s:[i, n]}", "kv_types", 8),
                     json_pack("{s:[s, s]}", "kv_types", "f16", "q8_01")};
    for (int t = 0; t < 2; t++) {
        exo_dtype type = t == 0 ? EXO_F32 : EXO_F16;
        assert_true(exo_hello_has_kv(now, type) && exo_hello_has_kv(older, type));
    }
    assert_true(exo_hello_has_kv(now, EXO_Q8_0));
    assert_false(exo_hello_has_kv(older, EXO_Q8_0));
    assert_false(exo_hello_has_kv(NULL, EXO_Q8_0));
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        assert_false(exo_hello_has_kv(odd[i], EXO_Q8_0));
        json_decref(odd[i]);
    }
    json_decref(now);
    json_decref(older);
}

static void stats_come_back_and_nonsense_is_zero(void **state) {
    (void)state;
    exo_worker_stats in = {1, 2, 3, 4, 5, 6, 7, 1ull << 40, 9, 10}, out;
    json_t *m = exo_stats_json(&in);
    exo_stats_from_json(m, &out);
    assert_memory_equal(&in, &out, sizeof in);
    json_object_set_new(m, "steps", json_integer(-5));
    json_object_set_new(m, "rows", json_string("many"));
    exo_stats_from_json(m, &out);
    assert_int_equal(out.steps, 0);
    assert_int_equal(out.rows, 0);
    json_decref(m);
}

static void the_state_shows_every_shard(void **state) {
    (void)state;
    exo_instance i = {.node = &node};
    exo_instance_settings s;
    json_t *m = good_message();
    assert_int_equal(exo_instance_from_json(m, &i, &s, NULL), EXO_OK);
    i.state = EXO_INSTANCE_RUNNING;
    i.stages[2].weight_bytes = 12345;
    json_t *j = exo_instance_json(&i);
    const char *model_id, *sharding, *shown_state, *node_id, *device_id;
    json_t *shards;
    assert_int_equal(json_unpack(j, "{s:s, s:s, s:s, s:o}", "model_id", &model_id, "sharding",
                                 &sharding, "state", &shown_state, "shards", &shards),
                     0);
    assert_string_equal(model_id, "test");
    assert_string_equal(sharding, "Pipeline");
    assert_string_equal(shown_state, "running");
    assert_int_equal(json_array_size(shards), 3);
    int a, b, rank, world_size, bytes;
    assert_int_equal(json_unpack(json_array_get(shards, 2), "{s:s, s:s, s:i, s:i, s:i, s:i, s:i}",
                                 "node_id", &node_id, "device_id", &device_id, "start_layer", &a,
                                 "end_layer", &b, "rank", &rank, "world_size", &world_size,
                                 "weight_bytes", &bytes),
                     0);
    assert_string_equal(node_id, "ffffffffffffffff");
    assert_true(a == 3 && b == 8 && rank == 0 && world_size == 1 && bytes == 12345);
    json_decref(j);
    json_decref(m);
}

static int load_identity(void **state) {
    (void)state;
    char dir[] = "/tmp/exo-test-XXXXXX", file[64];
    if (mkdtemp(dir) == NULL) return 1;
    exo_status st = exo_identity_load(dir, &node.identity, NULL);
    snprintf(file, sizeof file, "%s/node.key", dir);
    unlink(file);
    rmdir(dir);
    if (st != EXO_OK) return 1;
    own_id = exo_identity_node_id(node.identity);
    return 0;
}

static int forget_identity(void **state) {
    (void)state;
    exo_identity_destroy(node.identity);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_message_is_taken_whole),
        cmocka_unit_test(wrong_members_are_named),
        cmocka_unit_test(shards_must_follow_each_other_and_hold_us),
        cmocka_unit_test(a_hello_tells_the_types_of_keys_and_values),
        cmocka_unit_test(stats_come_back_and_nonsense_is_zero),
        cmocka_unit_test(the_state_shows_every_shard),
    };
    return cmocka_run_group_tests(tests, load_identity, forget_identity);
}
