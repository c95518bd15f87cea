/* meter_test.c - answers are counted once each, whatever their events look like. */
#include "node/meter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static exo_meter *meter;

static int make(void **state) {
    (void)state;
    return exo_meter_create(&meter, NULL) != EXO_OK;
}

static int drop(void **state) {
    (void)state;
    exo_meter_destroy(meter);
    return 0;
}

static json_int_t count(const char *model, const char *key, const char *inner) {
    json_t *all = exo_meter_json(meter), *v = json_object_get(json_object_get(all, model), key);
    if (inner != NULL) v = json_object_get(v, inner);
    json_int_t n = -1;
    if (json_is_integer(v)) n = json_integer_value(v);
    if (json_is_array(v)) {
        n = 0;
        for (size_t i = 0; i < json_array_size(v); i++) {
            n += json_integer_value(json_array_get(v, i));
        }
    }
    json_decref(all);
    return n;
}

static void an_answer_waits_runs_and_ends(void **state) {
    (void)state;
    exo_meter_mark a, b;
    exo_meter_begin(meter, &a, "m");
    exo_meter_begin(meter, &b, "m");
    assert_int_equal(count("m", "waiting", NULL), 2);
    exo_meter_event(meter, &a, &(exo_node_event){.started = true});
    assert_int_equal(count("m", "waiting", NULL), 1);
    assert_int_equal(count("m", "running", NULL), 1);
    exo_node_event token = {.has_token = true, .n_prompt = 10, .n_cached = 4, .n_answer = 1};
    exo_meter_event(meter, &a, &token);
    assert_int_equal(count("m", "prompt_tokens", NULL), 10);
    assert_int_equal(count("m", "cached_tokens", NULL), 4);
    assert_int_equal(count("m", "first_token_s", "counts"), 1);
    token.n_answer = 4; /* three at once */
    exo_meter_event(meter, &a, &token);
    exo_meter_event(meter, &a, &token); /* text of tokens that are counted */
    assert_int_equal(count("m", "next_token_s", "counts"), 3);
    token.finish = EXO_FINISH_LENGTH;
    exo_meter_event(meter, &a, &token);
    assert_int_equal(count("m", "running", NULL), 0);
    assert_int_equal(count("m", "answer_tokens", NULL), 4);
    assert_int_equal(count("m", "answer_s", "counts"), 1);
    assert_int_equal(count("m", "ended", "length"), 1);
    exo_meter_event(meter, &a, &token); /* behind its end: nothing */
    assert_int_equal(count("m", "ended", "length"), 1);
    exo_meter_event(meter, &b, &(exo_node_event){.status = EXO_ECANCELED}); /* in the queue */
    assert_int_equal(count("m", "waiting", NULL), 0);
    assert_int_equal(count("m", "ended", "abort"), 1);
    assert_int_equal(count("m", "answer_s", "counts"), 1);
}

/* Events of an answer that a peer computes are what the peer says. */
static void what_a_peer_says_is_counted_in_one_step(void **state) {
    (void)state;
    exo_meter_mark a;
    exo_meter_begin(meter, &a, "far");
    exo_node_event e = {.has_token = true, .n_prompt = UINT32_MAX, .n_answer = UINT32_MAX};
    exo_meter_event(meter, &a, &e);
    assert_int_equal(count("far", "answer_tokens", NULL), UINT32_MAX);
    assert_int_equal(count("far", "next_token_s", "counts"), (json_int_t)UINT32_MAX - 1);
    e.n_answer = 1; /* fewer than before */
    exo_meter_event(meter, &a, &e);
    assert_int_equal(count("far", "answer_tokens", NULL), UINT32_MAX);
    exo_meter_event(meter, &a, &(exo_node_event){.status = EXO_EPEER});
    assert_int_equal(count("far", "ended", "error"), 1);
}

static void models_beyond_the_table_are_counted_together(void **state) {
    (void)state;
    exo_meter_mark mark;
    for (int i = 0; i < 100; i++) {
        char id[16];
        snprintf(id, sizeof id, "model-%d", i);
        exo_meter_begin(meter, &mark, id);
    }
    assert_int_equal(count("model-0", "waiting", NULL), 1);
    assert_int_equal(count("model-99", "waiting", NULL), -1);
    assert_int_equal(count("(others)", "waiting", NULL), 37);
}

static void what_was_never_begun_is_not_counted(void **state) {
    (void)state;
    exo_meter_mark guest = {0};
    exo_meter_event(meter, &guest, &(exo_node_event){.has_token = true, .n_answer = 1});
    json_t *all = exo_meter_json(meter);
    assert_int_equal(json_object_size(all), 0);
    json_decref(all);
}

#define EACH(test) cmocka_unit_test_setup_teardown(test, make, drop)

int main(void) {
    const struct CMUnitTest tests[] = {
        EACH(an_answer_waits_runs_and_ends),
        EACH(what_a_peer_says_is_counted_in_one_step),
        EACH(models_beyond_the_table_are_counted_together),
        EACH(what_was_never_begun_is_not_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
