/* The descriptor survives the wire bit for bit, and nothing malformed gets through. */
#include "engine/request.h"

#include "base/mem.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static exo_request full_request(void) {
    exo_request r = {
        .id = "chatcmpl-0.A_z",
        .n_prompt = 3,
        .max_tokens = UINT32_MAX,
        .ignore_end = true,
        .hash_logits = true,
        .n_stops = 2,
        .sampling =
            {
                .temperature = 0.7f,
                .top_k = 40,
                .top_p = 0.95f,
                .min_p = 0.05f,
                .typical_p = 0.3f,
                .repeat_penalty = 1.1f,
                .repeat_last_n = 64,
                .presence_penalty = -1.5f,
                .frequency_penalty = 0.1f,
                .seed = UINT64_MAX,
                .choice = 7,
                .n_logprobs = 20,
                .want_logprobs = true,
                .n_bias = 2,
            },
    };
    r.prompt = exo_malloc(3 * sizeof *r.prompt);
    assert_non_null(r.prompt);
    memcpy(r.prompt, (int32_t[]){1, 5, 1000}, 3 * sizeof *r.prompt);
    r.sampling.bias = exo_malloc(2 * sizeof *r.sampling.bias);
    assert_non_null(r.sampling.bias);
    r.sampling.bias[0] = (exo_logit_bias){.id = 3, .bias = -100};
    r.sampling.bias[1] = (exo_logit_bias){.id = 77, .bias = 0.1f};
    r.stops[0] = exo_strdup("\n\nUser:");
    r.stops[1] = exo_strdup("\xE2\x9C\x93");
    return r;
}

/* Equal but for the prompt. */
static void assert_same(const exo_request *a, const exo_request *b) {
    assert_string_equal(a->id, b->id);
    assert_int_equal(a->max_tokens, b->max_tokens);
    assert_int_equal(a->ignore_end, b->ignore_end);
    assert_int_equal(a->hash_logits, b->hash_logits);
    assert_int_equal(a->n_stops, b->n_stops);
    for (uint32_t i = 0; i < a->n_stops; i++) assert_string_equal(a->stops[i], b->stops[i]);
    const exo_sampling *p = &a->sampling, *q = &b->sampling;
    assert_memory_equal(&p->temperature, &q->temperature, sizeof(float));
    assert_memory_equal(&p->top_p, &q->top_p, sizeof(float));
    assert_memory_equal(&p->min_p, &q->min_p, sizeof(float));
    assert_memory_equal(&p->typical_p, &q->typical_p, sizeof(float));
    assert_memory_equal(&p->repeat_penalty, &q->repeat_penalty, sizeof(float));
    assert_memory_equal(&p->presence_penalty, &q->presence_penalty, sizeof(float));
    assert_memory_equal(&p->frequency_penalty, &q->frequency_penalty, sizeof(float));
    assert_int_equal(p->top_k, q->top_k);
    assert_int_equal(p->repeat_last_n, q->repeat_last_n);
    assert_true(p->seed == q->seed);
    assert_int_equal(p->choice, q->choice);
    assert_int_equal(p->n_logprobs, q->n_logprobs);
    assert_int_equal(p->want_logprobs, q->want_logprobs);
    assert_int_equal(p->n_bias, q->n_bias);
    for (uint32_t i = 0; i < p->n_bias; i++) {
        assert_int_equal(p->bias[i].id, q->bias[i].id);
        assert_memory_equal(&p->bias[i].bias, &q->bias[i].bias, sizeof(float));
    }
}

static void test_json_round_trip(void **state) {
    (void)state;
    exo_request r = full_request(), back;
    json_t *j = exo_request_to_json(&r);
    assert_non_null(j);
    char *text = json_dumps(j, JSON_COMPACT); /* through text, as on the wire */
    json_t *parsed = json_loads(text, 0, NULL);
    exo_error err = {0};
    assert_int_equal(exo_request_from_json(parsed, &back, &err), EXO_OK);
    assert_same(&r, &back);
    assert_null(back.prompt);
    assert_int_equal(back.n_prompt, 3);
    exo_request_finish(&back);
    json_decref(parsed);
    free(text);
    json_decref(j);
    exo_request_finish(&r);
}

static void test_empty_object_is_all_zero(void **state) {
    (void)state;
    json_t *j = json_object();
    exo_request r, zero = {0};
    assert_int_equal(exo_request_from_json(j, &r, NULL), EXO_OK);
    assert_memory_equal(&r, &zero, sizeof r);
    json_decref(j);
}

static void test_unknown_members_are_ignored(void **state) {
    (void)state;
    json_t *j =
        json_loads("{\"later\": [1], \"max_tokens\": 5, \"sampling\": {\"new\": {}}}", 0, NULL);
    exo_request r;
    assert_int_equal(exo_request_from_json(j, &r, NULL), EXO_OK);
    assert_int_equal(r.max_tokens, 5);
    json_decref(j);
}

static void test_bad_json_names_the_member(void **state) {
    (void)state;
    static const struct {
        const char *json, *named;
    } cases[] = {
        {"[]", "object"},
        {"{\"id\": 5}", "\"id\""},
        {"{\"id\": \"a b\"}", "\"id\""},
        {"{\"id\": \"0123456789012345678901234567890123456789\"}", "\"id\""},
        {"{\"n_prompt\": -1}", "n_prompt"},
        {"{\"max_tokens\": -1}", "max_tokens"},
        {"{\"max_tokens\": 1.5}", "max_tokens"},
        {"{\"max_tokens\": 4294967296}", "max_tokens"},
        {"{\"max_tokens\": null}", "max_tokens"},
        {"{\"ignore_end\": 1}", "ignore_end"},
        {"{\"stops\": \"x\"}", "stops"},
        {"{\"stops\": [\"\"]}", "stops"},
        {"{\"stops\": [\"a\", 1]}", "\"stops\"[1]"},
        {"{\"stops\": [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}", "stops"},
        {"{\"sampling\": []}", "sampling"},
        {"{\"sampling\": {\"temperature\": -0.1}}", "temperature"},
        {"{\"sampling\": {\"temperature\": 100.1}}", "temperature"},
        {"{\"sampling\": {\"temperature\": \"1\"}}", "temperature"},
        {"{\"sampling\": {\"top_k\": -1}}", "top_k"},
        {"{\"sampling\": {\"top_k\": 2147483648}}", "top_k"},
        {"{\"sampling\": {\"top_p\": 1.01}}", "top_p"},
        {"{\"sampling\": {\"min_p\": -1}}", "min_p"},
        {"{\"sampling\": {\"typical_p\": 2}}", "typical_p"},
        {"{\"sampling\": {\"repeat_penalty\": -1}}", "repeat_penalty"},
        {"{\"sampling\": {\"presence_penalty\": 1e9}}", "presence_penalty"},
        {"{\"sampling\": {\"frequency_penalty\": true}}", "frequency_penalty"},
        {"{\"sampling\": {\"n_logprobs\": 21}}", "n_logprobs"},
        {"{\"sampling\": {\"seed\": 5}}", "seed"},
        {"{\"sampling\": {\"seed\": \"\"}}", "seed"},
        {"{\"sampling\": {\"seed\": \"-1\"}}", "seed"},
        {"{\"sampling\": {\"seed\": \"18446744073709551616\"}}", "seed"},
        {"{\"sampling\": {\"bias\": {}}}", "bias"},
        {"{\"sampling\": {\"bias\": [5]}}", "bias"},
        {"{\"sampling\": {\"bias\": [[1, 2], [-1, 2]]}}", "\"bias\"[1]"},
        {"{\"sampling\": {\"bias\": [[1, \"2\"]]}}", "bias"},
        {"{\"sampling\": {\"bias\": [[1, 2, 3]]}}", "bias"},
        {"{\"sampling\": {\"bias\": [[1, 1e30]]}}", "bias"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *j = json_loads(cases[i].json, 0, NULL);
        assert_non_null(j);
        exo_request r, zero = {0};
        exo_error err = {0};
        exo_status st = exo_request_from_json(j, &r, &err);
        if (st != EXO_EFORMAT || strstr(err.message, cases[i].named) == NULL)
            fail_msg("%s: status %d, \"%s\"", cases[i].json, st, err.message);
        assert_memory_equal(&r, &zero, sizeof r);
        json_decref(j);
    }
}

static void test_too_many_biases(void **state) {
    (void)state;
    json_t *list = json_array();
    for (int i = 0; i <= EXO_MAX_BIAS; i++) json_array_append_new(list, json_pack("[i, i]", i, 1));
    json_t *j = json_pack("{s: {s: o}}", "sampling", "bias", list);
    exo_request r;
    assert_int_equal(exo_request_from_json(j, &r, NULL), EXO_EFORMAT);
    json_decref(j);
}

static void test_check_finds_what_is_out_of_range(void **state) {
    (void)state;
    exo_request r = full_request();
    exo_error err = {0};
    assert_int_equal(exo_sampling_check(&r.sampling, &err), EXO_OK);
    r.sampling.temperature = NAN;
    assert_int_equal(exo_sampling_check(&r.sampling, &err), EXO_EINVAL);
    assert_non_null(strstr(err.message, "temperature"));
    r.sampling.temperature = 1;
    r.sampling.bias[1].bias = INFINITY;
    assert_int_equal(exo_sampling_check(&r.sampling, &err), EXO_EINVAL);
    assert_non_null(strstr(err.message, "77"));
    assert_int_equal(exo_request_check_vocab(&r, 1001, &err), EXO_OK);
    assert_int_equal(exo_request_check_vocab(&r, 1000, &err), EXO_EINVAL);
    assert_non_null(strstr(err.message, "prompt token 2"));
    r.n_prompt = 2;
    assert_int_equal(exo_request_check_vocab(&r, 77, &err), EXO_EINVAL);
    assert_non_null(strstr(err.message, "77"));
    exo_request_finish(&r);
}

static void test_dup_is_deep_and_finish_twice_is_harmless(void **state) {
    (void)state;
    exo_request r = full_request(), copy;
    assert_int_equal(exo_request_dup(&r, &copy, NULL), EXO_OK);
    assert_same(&r, &copy);
    assert_int_equal(copy.n_prompt, 3);
    assert_memory_equal(copy.prompt, r.prompt, 3 * sizeof(int32_t));
    assert_ptr_not_equal(copy.prompt, r.prompt);
    assert_ptr_not_equal(copy.stops[0], r.stops[0]);
    assert_ptr_not_equal(copy.sampling.bias, r.sampling.bias);
    exo_request_finish(&r);
    exo_request_finish(&r);
    exo_request_finish(&copy);
}

static void test_no_memory_leaves_nothing_behind(void **state) {
    (void)state;
    exo_request r = full_request(), out, zero = {0};
    json_t *j = exo_request_to_json(&r);
    for (uint64_t k = 1;; k++) {
        exo_mem_fail_at(k);
        exo_status st = exo_request_dup(&r, &out, NULL);
        if (st == EXO_OK) {
            exo_request_finish(&out);
            st = exo_request_from_json(j, &out, NULL);
        }
        int failed = exo_mem_failed();
        exo_mem_fail_at(0);
        if (!failed) {
            assert_int_equal(st, EXO_OK);
            exo_request_finish(&out);
            break;
        }
        assert_int_equal(st, EXO_ENOMEM);
        assert_memory_equal(&out, &zero, sizeof out);
    }
    json_decref(j);
    exo_request_finish(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_round_trip),
        cmocka_unit_test(test_empty_object_is_all_zero),
        cmocka_unit_test(test_unknown_members_are_ignored),
        cmocka_unit_test(test_bad_json_names_the_member),
        cmocka_unit_test(test_too_many_biases),
        cmocka_unit_test(test_check_finds_what_is_out_of_range),
        cmocka_unit_test(test_dup_is_deep_and_finish_twice_is_harmless),
        cmocka_unit_test(test_no_memory_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
