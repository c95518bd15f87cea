/* openai_request_test.c - what a body asks for, member by member, with the demo model. */
#define _DEFAULT_SOURCE
#include "api/openai.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "api/testing.h"

static test_node node;

static int start(void **ud) {
    (void)ud;
    test_node_start(&node);
    return 0;
}

static int stop(void **ud) {
    (void)ud;
    test_node_stop(&node);
    return 0;
}

/* ---- one body, parsed ---- */

typedef struct {
    exo_fields f;
    exo_openai_wish wish;
    exo_request request;
    exo_model *model;
} parsed;

static void parse_object(parsed *p, bool chat, json_t *object_take) {
    *p = (parsed){.f = {.object = object_take}, .wish = {.chat = chat}};
    exo_openai_parse(&p->f, node.node, &p->wish, &p->request, &p->model);
}

/* members are added to a body that is whole without them; the same name again replaces. */
static void parse(parsed *p, bool chat, const char *members) {
    char *json = test_json(members);
    json_error_t why;
    json_t *body = json_loads(chat ? "{\"model\":\"" TEST_MODEL "\", \"messages\":"
                                     "[{\"role\":\"user\", \"content\":\"Hello!\"}]}"
                                   : "{\"model\":\"" TEST_MODEL "\", \"prompt\":\"Hello!\"}",
                              0, &why);
    json_t *more = json_loads(json, 0, &why);
    if (more == NULL) fail_msg("%s: %s", members, why.text);
    json_object_update(body, more);
    json_decref(more);
    exo_free(json);
    parse_object(p, chat, body);
}

static void finish(parsed *p) {
    json_decref((json_t *)p->f.object);
    exo_request_finish(&p->request);
    exo_model_unref(p->model);
}

static void parse_ok(parsed *p, bool chat, const char *members) {
    parse(p, chat, members);
    if (!exo_fields_ok(&p->f)) fail_msg("%s: %s", members, p->f.err.message);
    assert_non_null(p->model);
}

static void assert_refused(bool chat, const char *members, const char *param, exo_status status) {
    parsed p;
    char quoted[80];
    parse(&p, chat, members);
    if (exo_fields_ok(&p.f)) fail_msg("%s was taken", members);
    assert_string_equal(p.f.param, param);
    assert_int_equal(p.f.err.status, status);
    snprintf(quoted, sizeof quoted, "\"%s\" ", param);
    assert_ptr_equal(strstr(p.f.err.message, quoted), p.f.err.message);
    finish(&p);
}

/* ---- what is taken ---- */

static void test_defaults_are_openais(void **ud) {
    (void)ud;
    parsed p;
    parse_ok(&p, true, "{}");
    const exo_sampling *s = &p.request.sampling;
    assert_true(s->temperature == 1);
    assert_true(s->top_k == 0 && s->top_p == 0 && s->min_p == 0 && s->typical_p == 0);
    assert_true(s->repeat_penalty == 0 && s->presence_penalty == 0 && s->frequency_penalty == 0);
    assert_true(s->n_bias == 0 && s->n_logprobs == 0 && !s->want_logprobs);
    assert_true(s->seed != 0);
    assert_true(p.request.max_tokens == 0 && !p.request.ignore_end && !p.request.hash_logits);
    assert_true(p.request.n_stops == 0 && p.request.n_prompt > 0);
    assert_true(!p.wish.stream && !p.wish.include_usage && !p.wish.logprobs);
    assert_string_equal(p.wish.model_id, TEST_MODEL);
    assert_ptr_equal(strstr(p.request.id, "chatcmpl-"), p.request.id);
    finish(&p);
    parse_ok(&p, false, "{}");
    assert_ptr_equal(strstr(p.request.id, "cmpl-"), p.request.id);
    finish(&p);
}

static void test_top_p_0_keeps_the_likeliest(void **ud) {
    (void)ud;
    parsed p;
    parse_ok(&p, true, "{'top_p': 0}");
    assert_true(p.request.sampling.top_p > 0 && p.request.sampling.top_p < 1e-30f);
    finish(&p);
}

static void test_every_member_arrives(void **ud) {
    (void)ud;
    parsed p;
    parse_ok(&p, true,
             "{'temperature': 0.5, 'top_p': 0.25, 'top_k': 40, 'min_p': 0.125, 'typical_p': 0.75,"
             " 'repetition_penalty': 1.5, 'presence_penalty': -2, 'frequency_penalty': 2,"
             " 'max_tokens': 7, 'seed': 99, 'n': 1, 'best_of': 1, 'echo': false, 'stream': true,"
             " 'stream_options': {'include_usage': true}, 'logprobs': true, 'top_logprobs': 20,"
             " 'ignore_eos': true, 'exo_logits_hash': true, 'response_format': {'type': 'text'},"
             " 'user': 'somebody', 'stop': ['a', 'bc'], 'logit_bias': {'5': -100, '07': 1.5}}");
    const exo_sampling *s = &p.request.sampling;
    assert_true(s->temperature == 0.5f && s->top_p == 0.25f && s->top_k == 40);
    assert_true(s->min_p == 0.125f && s->typical_p == 0.75f && s->repeat_penalty == 1.5f);
    assert_true(s->presence_penalty == -2 && s->frequency_penalty == 2 && s->seed == 99);
    assert_true(s->want_logprobs && s->n_logprobs == 20 && p.wish.logprobs);
    assert_int_equal(s->n_bias, 2);
    assert_true(s->bias[0].id == 5 && s->bias[0].bias == -100);
    assert_true(s->bias[1].id == 7 && s->bias[1].bias == 1.5f);
    assert_int_equal(p.request.n_stops, 2);
    assert_string_equal(p.request.stops[0], "a");
    assert_string_equal(p.request.stops[1], "bc");
    assert_true(p.request.max_tokens == 7 && p.request.ignore_end);
    assert_true(p.request.hash_logits && p.wish.logits_hash);
    assert_true(p.wish.stream && p.wish.include_usage);
    finish(&p);
}

static void test_null_is_absent(void **ud) {
    (void)ud;
    parsed p;
    parse_ok(&p, true,
             "{'temperature': null, 'top_p': null, 'max_tokens': null, 'seed': null, 'n': null,"
             " 'stop': null, 'logit_bias': null, 'stream': null, 'stream_options': null,"
             " 'tools': null, 'response_format': null, 'logprobs': null, 'top_logprobs': null}");
    assert_true(p.request.sampling.temperature == 1 && p.request.sampling.seed != 0);
    finish(&p);
}

static void test_a_request_survives_the_way_to_another_node(void **ud) {
    (void)ud;
    parsed p;
    exo_request again;
    exo_error err = {0};
    parse_ok(&p, true, "{'stop': 'end', 'logit_bias': {'1': 100}, 'temperature': 100, 'seed': -1}");
    assert_int_equal(exo_sampling_check(&p.request.sampling, &err), EXO_OK);
    json_t *j = exo_request_to_json(&p.request);
    assert_int_equal(exo_request_from_json(j, &again, &err), EXO_OK);
    assert_string_equal(again.id, p.request.id);
    assert_true(again.sampling.seed == UINT64_MAX);
    exo_request_finish(&again);
    json_decref(j);
    finish(&p);
}

static void test_the_newer_name_of_max_tokens_counts(void **ud) {
    (void)ud;
    parsed p;
    parse_ok(&p, true, "{'max_tokens': 7, 'max_completion_tokens': 9}");
    assert_int_equal(p.request.max_tokens, 9);
    finish(&p);
    parse_ok(&p, false, "{'max_tokens': 7, 'max_completion_tokens': 9}"); /* chat's only */
    assert_int_equal(p.request.max_tokens, 7);
    finish(&p);
}

static void test_seeds(void **ud) {
    (void)ud;
    parsed a, b;
    parse_ok(&a, true, "{}");
    parse_ok(&b, true, "{}");
    assert_true(a.request.sampling.seed != b.request.sampling.seed);
    assert_string_not_equal(a.request.id, b.request.id);
    finish(&a);
    finish(&b);
    parse_ok(&a, true, "{'seed': 0}"); /* a seed like any other, and not "none" */
    parse_ok(&b, true, "{'seed': 0}");
    assert_true(a.request.sampling.seed != 0);
    assert_true(a.request.sampling.seed == b.request.sampling.seed);
    finish(&a);
    finish(&b);
}

static void test_logprobs_of_completions_are_a_number(void **ud) {
    (void)ud;
    parsed p;
    parse_ok(&p, false, "{'logprobs': 0}");
    assert_true(p.wish.logprobs && p.request.sampling.want_logprobs);
    assert_int_equal(p.request.sampling.n_logprobs, 0);
    finish(&p);
    parse_ok(&p, false, "{'logprobs': 3}");
    assert_int_equal(p.request.sampling.n_logprobs, 3);
    finish(&p);
    assert_refused(false, "{'logprobs': true}", "logprobs", EXO_EINVAL);
}

/* ---- what is refused ---- */

static void test_wrong_members_are_named(void **ud) {
    (void)ud;
    static const struct {
        const char *members, *param;
    } wrong[] = {
        {"{'temperature': -0.1}", "temperature"},
        {"{'temperature': 'hot'}", "temperature"},
        {"{'temperature': 101}", "temperature"},
        {"{'top_p': 1.1}", "top_p"},
        {"{'top_k': -1}", "top_k"},
        {"{'top_k': 2147483648}", "top_k"},
        {"{'min_p': -1}", "min_p"},
        {"{'typical_p': 2}", "typical_p"},
        {"{'repetition_penalty': 0}", "repetition_penalty"},
        {"{'presence_penalty': 2.1}", "presence_penalty"},
        {"{'frequency_penalty': -2.1}", "frequency_penalty"},
        {"{'max_tokens': 0}", "max_tokens"},
        {"{'max_tokens': -1}", "max_tokens"},
        {"{'max_tokens': 1.5}", "max_tokens"},
        {"{'max_completion_tokens': 'x'}", "max_completion_tokens"},
        {"{'seed': 'x'}", "seed"},
        {"{'seed': 0.5}", "seed"},
        {"{'n': 0}", "n"},
        {"{'stream': 1}", "stream"},
        {"{'stream_options': true}", "stream_options"},
        {"{'stream_options': {'include_usage': 'yes'}}", "stream_options"},
        {"{'logprobs': 1}", "logprobs"},
        {"{'logprobs': true, 'top_logprobs': 21}", "top_logprobs"},
        {"{'top_logprobs': 1}", "top_logprobs"},
        {"{'ignore_eos': 'no'}", "ignore_eos"},
        {"{'exo_logits_hash': 1}", "exo_logits_hash"},
        {"{'tools': {}}", "tools"},
        {"{'tools': [{}, 1]}", "tools"},
        {"{'messages': [{'role': 'user'}]}", "messages"},
        {"{'messages': [{'role': 'system', 'content': null}]}", "messages"},
        {"{'chat_template_kwargs': []}", "chat_template_kwargs"},
        {"{'model': 5}", "model"},
        {"{'model': null}", "model"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_refused(true, wrong[i].members, wrong[i].param, EXO_EINVAL);
    }
}

static void test_what_is_not_built_is_refused_not_ignored(void **ud) {
    (void)ud;
    assert_refused(true, "{'n': 2}", "n", EXO_EUNSUPPORTED);
    assert_refused(false, "{'best_of': 2}", "best_of", EXO_EUNSUPPORTED);
    assert_refused(false, "{'echo': true}", "echo", EXO_EUNSUPPORTED);
    assert_refused(true, "{'response_format': {'type': 'json_object'}}", "response_format",
                   EXO_EUNSUPPORTED);
    assert_refused(true, "{'response_format': 'text'}", "response_format", EXO_EUNSUPPORTED);
    assert_refused(true, "{'tool_choice': 'required'}", "tool_choice", EXO_EUNSUPPORTED);
    assert_refused(true, "{'tool_choice': 1}", "tool_choice", EXO_EUNSUPPORTED);
    assert_refused(true, "{'modalities': ['text', 'audio']}", "modalities", EXO_EUNSUPPORTED);
    assert_refused(false, "{'suffix': 'x'}", "suffix", EXO_EUNSUPPORTED);
}

static void test_models_are_ids_never_paths(void **ud) {
    (void)ud;
    assert_refused(true, "{'model': 'no-such'}", "model", EXO_ENOTFOUND);
    assert_refused(true, "{'model': ''}", "model", EXO_ENOTFOUND);
    assert_refused(true, "{'model': '../" TEST_MODEL "'}", "model", EXO_ENOTFOUND);
    assert_refused(true, "{'model': '" EXO_SOURCE_DIR "/models/" TEST_MODEL ".gguf'}", "model",
                   EXO_ENOTFOUND);
}

static void test_stop_strings(void **ud) {
    (void)ud;
    parsed p;
    parse_ok(&p, true, "{'stop': 'one'}");
    assert_int_equal(p.request.n_stops, 1);
    finish(&p);
    parse_ok(&p, true, "{'stop': []}");
    assert_int_equal(p.request.n_stops, 0);
    finish(&p);
    json_t *body = json_pack("{s:s, s:s}", "model", TEST_MODEL, "prompt", "x");
    json_t *stops = json_array();
    for (int i = 0; i < EXO_MAX_STOPS; i++) json_array_append_new(stops, json_string("s"));
    json_object_set(body, "stop", stops);
    parse_object(&p, false, json_incref(body));
    assert_int_equal(p.request.n_stops, EXO_MAX_STOPS);
    finish(&p);
    json_array_append_new(stops, json_string("one too many"));
    parse_object(&p, false, json_incref(body));
    assert_string_equal(p.f.param, "stop");
    assert_non_null(strstr(p.f.err.message, "16"));
    finish(&p);
    json_decref(stops);
    json_decref(body);
    static const char *const wrong[] = {"{'stop': 5}",         "{'stop': ''}",
                                        "{'stop': ['a', '']}", "{'stop': ['a', 5]}",
                                        "{'stop': [null]}",    "{'stop': {}}"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_refused(true, wrong[i], "stop", EXO_EINVAL);
    }
}

/* The next stage refuses such descriptors, and would take the whole instance with it. */
static void test_stop_strings_that_break_the_pipeline_are_refused(void **ud) {
    (void)ud;
    parsed p;
    char text[EXO_MAX_STOP_BYTES + 2];
    memset(text, 'x', sizeof text);
    for (size_t n = EXO_MAX_STOP_BYTES; n <= EXO_MAX_STOP_BYTES + 1; n++) {
        parse_object(
            &p, false,
            json_pack("{s:s, s:s, s:s%}", "model", TEST_MODEL, "prompt", "x", "stop", text, n));
        assert_int_equal(exo_fields_ok(&p.f), n == EXO_MAX_STOP_BYTES);
        finish(&p);
    }
    parse_object(&p, false,
                 json_pack("{s:s, s:s, s:s%}", "model", TEST_MODEL, "prompt", "x", "stop", "\0x",
                           (size_t)2));
    assert_string_equal(p.f.param, "stop");
    finish(&p);
}

static void test_logit_bias(void **ud) {
    (void)ud;
    parsed p;
    parse_ok(&p, true, "{'logit_bias': {}}");
    assert_int_equal(p.request.sampling.n_bias, 0);
    finish(&p);
    static const char *const wrong[] = {
        "{'logit_bias': []}",          "{'logit_bias': 5}",
        "{'logit_bias': {'x': 1}}",    "{'logit_bias': {'': 1}}",
        "{'logit_bias': {'-1': 1}}",   "{'logit_bias': {' 1': 1}}",
        "{'logit_bias': {'1x': 1}}",   "{'logit_bias': {'1': 100.5}}",
        "{'logit_bias': {'1': '5'}}",  "{'logit_bias': {'99999999': 1}}",
        "{'logit_bias': {'1': null}}", "{'logit_bias': {'99999999999999999999': 1}}",
        "{'logit_bias': {'1': -101}}", "{'logit_bias': {'5': 1, '1': true}}",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_refused(true, wrong[i], "logit_bias", EXO_EINVAL);
    }
    json_t *bias = json_object();
    for (int i = 0; i <= EXO_MAX_BIAS; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        json_object_set_new(bias, key, json_integer(1));
    }
    parse_object(
        &p, false,
        json_pack("{s:s, s:s, s:o}", "model", TEST_MODEL, "prompt", "x", "logit_bias", bias));
    assert_string_equal(p.f.param, "logit_bias");
    finish(&p);
}

/* ---- prompts ---- */

static void assert_same_prompt(const char *a, const char *b) {
    parsed p, q;
    parse_ok(&p, true, a);
    parse_ok(&q, true, b);
    assert_int_equal(p.request.n_prompt, q.request.n_prompt);
    assert_memory_equal(p.request.prompt, q.request.prompt,
                        p.request.n_prompt * sizeof *p.request.prompt);
    finish(&p);
    finish(&q);
}

static void test_content_parts_are_joined(void **ud) {
    (void)ud;
    assert_same_prompt("{'messages': [{'role': 'user', 'content': 'Hello, exo'}]}",
                       "{'messages': [{'role': 'user', 'content': [{'type': 'text', 'text': "
                       "'Hello,'}, {'type': 'text', 'text': ' exo'}]}]}");
}

static void test_messages_that_are_refused(void **ud) {
    (void)ud;
    static const char *const wrong[] = {
        "{'messages': null}",
        "{'messages': []}",
        "{'messages': 'hi'}",
        "{'messages': [5]}",
        "{'messages': [[]]}",
        "{'messages': [{'content': 'x'}]}",
        "{'messages': [{'role': 5, 'content': 'x'}]}",
        "{'messages': [{'role': 'user', 'content': 5}]}",
        "{'messages': [{'role': 'user', 'content': {}}]}",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_refused(true, wrong[i], "messages", EXO_EINVAL);
    }
    static const char *const pictures[] = {
        "{'messages': [{'role': 'user', 'content': [{'type': 'image_url', 'image_url': {}}]}]}",
        "{'messages': [{'role': 'user', 'content': [{'type': 'text'}]}]}",
        "{'messages': [{'role': 'user', 'content': ['x']}]}",
    };
    for (size_t i = 0; i < sizeof pictures / sizeof *pictures; i++) {
        assert_refused(true, pictures[i], "messages", EXO_EUNSUPPORTED);
    }
}

static void test_prompts_of_ids(void **ud) {
    (void)ud;
    static const char *const right[] = {"{'prompt': [5, 6, 0]}", "{'prompt': [[5, 6, 0]]}"};
    for (size_t i = 0; i < sizeof right / sizeof *right; i++) {
        parsed p;
        parse_ok(&p, false, right[i]);
        assert_int_equal(p.request.n_prompt, 3);
        assert_true(p.request.prompt[0] == 5 && p.request.prompt[2] == 0);
        finish(&p);
    }
    static const char *const wrong[] = {
        "{'prompt': null}",         "{'prompt': 5}",        "{'prompt': []}",
        "{'prompt': [5, -1]}",      "{'prompt': [5, 'x']}", "{'prompt': [5, 99999999]}",
        "{'prompt': [4294967301]}", "{'prompt': [5, 6.5]}", "{'prompt': ['a', 'b']}",
        "{'prompt': [[5], [6]]}",   "{'prompt': [['a']]}",  "{'prompt': {}}",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_refused(false, wrong[i], "prompt", EXO_EINVAL);
    }
}

static void test_prompts_of_text(void **ud) {
    (void)ud;
    parsed p, q;
    parse_ok(&p, false, "{'prompt': 'Once upon a time'}");
    parse_ok(&q, false, "{'prompt': ['Once upon a time']}");
    assert_int_equal(p.request.n_prompt, q.request.n_prompt);
    assert_memory_equal(p.request.prompt, q.request.prompt,
                        p.request.n_prompt * sizeof *p.request.prompt);
    finish(&p);
    finish(&q);
}

static void parse_ids(parsed *p, size_t n) {
    json_t *ids = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(ids, json_integer(7));
    parse_object(p, false, json_pack("{s:s, s:o}", "model", TEST_MODEL, "prompt", ids));
}

static void test_a_prompt_beyond_the_context_is_refused_with_both_counts(void **ud) {
    (void)ud;
    parsed p;
    parse_ids(&p, TEST_MODEL_CTX - 1); /* room for one token */
    assert_true(exo_fields_ok(&p.f));
    finish(&p);
    parse_ids(&p, TEST_MODEL_CTX);
    assert_int_equal(p.f.err.status, EXO_ETOOLONG);
    assert_string_equal(p.f.param, "prompt");
    assert_string_equal(p.f.err.message,
                        "\"prompt\" has 2048 tokens, but the context of this model holds 2048");
    finish(&p);
}

/* Without reading it: such a text takes seconds. */
static void test_a_text_too_long_for_any_context_is_refused_by_its_size(void **ud) {
    (void)ud;
    exo_buf members = {0};
    exo_buf_puts(&members, "{'prompt': '");
    for (int i = 0; i < 1 << 17; i++) exo_buf_puts(&members, "a b c d ");
    exo_buf_puts(&members, "'}");
    parsed p;
    parse(&p, false, exo_buf_str(&members));
    assert_int_equal(p.f.err.status, EXO_ETOOLONG);
    assert_non_null(strstr(p.f.err.message, "has at least "));
    finish(&p);
    exo_buf_finish(&members);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults_are_openais),
        cmocka_unit_test(test_top_p_0_keeps_the_likeliest),
        cmocka_unit_test(test_every_member_arrives),
        cmocka_unit_test(test_null_is_absent),
        cmocka_unit_test(test_a_request_survives_the_way_to_another_node),
        cmocka_unit_test(test_the_newer_name_of_max_tokens_counts),
        cmocka_unit_test(test_seeds),
        cmocka_unit_test(test_logprobs_of_completions_are_a_number),
        cmocka_unit_test(test_wrong_members_are_named),
        cmocka_unit_test(test_what_is_not_built_is_refused_not_ignored),
        cmocka_unit_test(test_models_are_ids_never_paths),
        cmocka_unit_test(test_stop_strings),
        cmocka_unit_test(test_stop_strings_that_break_the_pipeline_are_refused),
        cmocka_unit_test(test_logit_bias),
        cmocka_unit_test(test_content_parts_are_joined),
        cmocka_unit_test(test_messages_that_are_refused),
        cmocka_unit_test(test_prompts_of_ids),
        cmocka_unit_test(test_prompts_of_text),
        cmocka_unit_test(test_a_prompt_beyond_the_context_is_refused_with_both_counts),
        cmocka_unit_test(test_a_text_too_long_for_any_context_is_refused_by_its_size),
    };
    return cmocka_run_group_tests_name("openai_request", tests, start, stop);
}
