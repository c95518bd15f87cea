/* event_json_test.c - events between nodes: every member comes back, nonsense ends the answer. */
#include "node/event_json.h"

#include "net/frame.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* Through a real frame, as a link carries it.  out borrows from *json. */
static void send_over(const exo_node_event *e, json_t **json, exo_event_copy *out) {
    exo_buf wire = {0};
    exo_frame f;
    size_t used;
    json_t *m = exo_event_to_json(e);
    assert_non_null(m);
    assert_int_equal(exo_frame_write_json(EXO_MSG_REQUEST, 1, m, &wire, NULL), EXO_OK);
    assert_int_equal(exo_frame_parse((uint8_t *)wire.data, wire.n, &f, &used, NULL), EXO_OK);
    assert_int_equal(exo_frame_json(&f, json, NULL), EXO_OK);
    exo_event_from_json(*json, out);
    json_decref(m);
    exo_buf_finish(&wire);
}

static void a_token_comes_back_whole(void **state) {
    (void)state;
    uint8_t hash[EXO_SHA256_BYTES];
    for (int i = 0; i < EXO_SHA256_BYTES; i++) hash[i] = (uint8_t)(i * 9);
    exo_node_event e = {.message = "",
                        .has_token = true,
                        .draw = {.id = 31999, .logprob = -INFINITY, .n_top = 2},
                        .pos = 77,
                        .text = "caf\xC3\xA9 \"\0\" \n",
                        .n_text = 11,
                        .aside = true,
                        .reasoning = "so",
                        .n_reasoning = 2,
                        .finish = EXO_FINISH_LENGTH,
                        .n_prompt = 5,
                        .n_cached = 3,
                        .n_answer = 2,
                        .logits_hash = hash};
    e.draw.top[0] = (exo_logprob){4, -0.1f};
    e.draw.top[1] = (exo_logprob){0, -3.4e38f};
    json_t *json;
    exo_event_copy c;
    send_over(&e, &json, &c);
    const exo_node_event *got = &c.event;
    assert_int_equal(got->status, EXO_OK);
    assert_int_equal(got->finish, EXO_FINISH_LENGTH);
    assert_true(got->has_token && !got->started);
    assert_int_equal(got->pos, 77);
    assert_int_equal(got->draw.id, 31999);
    assert_true(isinf(got->draw.logprob) && got->draw.logprob < 0);
    assert_int_equal(got->draw.n_top, 2);
    assert_int_equal(got->draw.top[0].id, 4);
    assert_true(got->draw.top[0].logprob == -0.1f && got->draw.top[1].logprob == -3.4e38f);
    assert_int_equal(got->n_text, 11);
    assert_memory_equal(got->text, e.text, 11); /* a model may say a NUL byte */
    assert_true(got->aside);
    assert_int_equal(got->n_reasoning, 2);
    assert_memory_equal(got->reasoning, "so", 2);
    assert_int_equal(got->n_prompt, 5);
    assert_int_equal(got->n_cached, 3);
    assert_int_equal(got->n_answer, 2);
    assert_memory_equal(got->logits_hash, hash, sizeof hash);
    json_decref(json);
}

static void start_and_failure_come_back(void **state) {
    (void)state;
    json_t *json;
    exo_event_copy c;
    send_over(&(exo_node_event){.started = true, .n_prompt = 9}, &json, &c);
    assert_true(c.event.started && !c.event.has_token);
    assert_int_equal(c.event.status, EXO_OK);
    assert_int_equal(c.event.finish, EXO_GOING_ON);
    assert_string_equal(c.event.message, "");
    assert_int_equal(c.event.n_text, 0);
    assert_int_equal(c.event.n_reasoning, 0);
    assert_false(c.event.aside);
    assert_null(c.event.logits_hash);
    json_decref(json);
    send_over(&(exo_node_event){.status = EXO_EPEER, .message = "node b left"}, &json, &c);
    assert_int_equal(c.event.status, EXO_EPEER);
    assert_string_equal(c.event.message, "node b left");
    json_decref(json);
}

static void a_move_comes_back(void **state) {
    (void)state;
    const exo_node_move move = {.stage = 2, .device_id = "cpu:0", .reason = "vulkan:0 \"is\" lost"};
    const exo_node_event e = {.message = "", .n_answer = 9, .move = &move};
    json_t *json;
    exo_event_copy c;
    send_over(&e, &json, &c);
    assert_non_null(c.event.move);
    assert_int_equal(c.event.status, EXO_OK);
    assert_int_equal(c.event.finish, EXO_GOING_ON);
    assert_false(c.event.has_token);
    assert_int_equal(c.event.n_answer, 9);
    assert_int_equal(c.event.move->stage, 2);
    assert_string_equal(c.event.move->device_id, "cpu:0");
    assert_string_equal(c.event.move->reason, "vulkan:0 \"is\" lost");
    json_decref(json);
    json = json_pack("{s:{s:s}}", "move", "device_id", "cpu:0"); /* no reason: no news */
    exo_event_from_json(json, &c);
    assert_null(c.event.move);
    json_decref(json);
}

static void expect_nonsense(const char *text, exo_status status) {
    exo_event_copy c;
    json_t *m = json_loads(text, 0, NULL);
    assert_non_null(m);
    exo_event_from_json(m, &c);
    if (c.event.status != status) fail_msg("%s: status %d", text, c.event.status);
    json_decref(m);
}

static void nonsense_ends_the_answer(void **state) {
    (void)state;
    expect_nonsense("{\"status\": 1}", EXO_EFORMAT);
    expect_nonsense("{\"status\": -1000}", EXO_EFORMAT);
    expect_nonsense("{\"finish\": 17}", EXO_EFORMAT);
    expect_nonsense("{\"finish\": -1}", EXO_EFORMAT);
    expect_nonsense("{\"finish\": 1}", EXO_EFORMAT); /* an end without its token */
    expect_nonsense("{\"status\": -9}", EXO_EPEER);
    expect_nonsense("{}", EXO_OK);
}

static void wrong_members_are_harmless(void **state) {
    (void)state;
    exo_event_copy c;
    json_t *top = json_array();
    for (int i = 0; i < 100; i++) json_array_append_new(top, json_pack("[i, i]", i, i));
    json_t *m =
        json_pack("{s:i, s:o, s:s, s:i, s:I, s:[i], s:b}", "token", 7, "top", top, "logits_hash",
                  "abcd", "text", 5, "n_prompt", (json_int_t)-4, "message", 1, "started", 1);
    exo_event_from_json(m, &c);
    assert_int_equal(c.event.draw.id, 7);
    assert_int_equal(c.event.draw.n_top, EXO_MAX_LOGPROBS);
    assert_null(c.event.logits_hash);
    assert_int_equal(c.event.n_text, 0);
    assert_int_equal(c.event.n_prompt, 0);
    assert_string_equal(c.event.message, "");
    json_decref(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_token_comes_back_whole),   cmocka_unit_test(start_and_failure_come_back),
        cmocka_unit_test(a_move_comes_back),          cmocka_unit_test(nonsense_ends_the_answer),
        cmocka_unit_test(wrong_members_are_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
