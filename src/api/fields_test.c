/* fields_test.c - bodies that are no objects, and every reader at its borders. */
#define _DEFAULT_SOURCE
#include "api/fields.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "api/testing.h"

static exo_fields fields_of(const char *text) {
    char *json = test_json(text);
    json_t *object;
    exo_error err = {0};
    if (exo_fields_parse(json, strlen(json), &object, &err) != EXO_OK) {
        fail_msg("%s: %s", text, err.message);
    }
    exo_free(json);
    return (exo_fields){.object = object};
}

static void finish(exo_fields *f) { json_decref((json_t *)f->object); }

static void assert_wrong(exo_fields *f, const char *param) {
    char quoted[80];
    snprintf(quoted, sizeof quoted, "\"%s\" ", param);
    assert_false(exo_fields_ok(f));
    assert_string_equal(f->param, param);
    assert_ptr_equal(strstr(f->err.message, quoted), f->err.message);
}

/* ---- bodies ---- */

static void test_a_body_is_one_object(void **ud) {
    (void)ud;
    static const char *const wrong[] = {"",        "{",         "[1]",           "1",
                                        "\"x\"",   "null",      "{\"a\":1} x",   "{\"a\":1,}",
                                        "{a:1}",   "\xff\xfe",  "{\"a\":1e999}", "{\"a\":NaN}",
                                        "{'a':1}", "{\"a\" 1}", "{\"\xc3\":1}",  "{\"a\":01}"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        json_t *object;
        exo_error err = {0};
        assert_int_equal(exo_fields_parse(wrong[i], strlen(wrong[i]), &object, &err), EXO_EINVAL);
        assert_null(object);
        assert_non_null(strstr(err.message, "the body"));
    }
}

static void test_bodies_that_would_mean_two_things(void **ud) {
    (void)ud;
    json_t *object;
    exo_error err = {0};
    static const char twice[] = "{\"a\":1,\"a\":2}";
    assert_int_equal(exo_fields_parse(twice, strlen(twice), &object, &err), EXO_EINVAL);
    assert_non_null(strstr(err.message, "duplicate"));
    static const char cut[] = "{\"a\":1}\0{\"a\":2}"; /* bytes behind a NUL are not forgotten */
    assert_int_equal(exo_fields_parse(cut, sizeof cut - 1, &object, &err), EXO_EINVAL);
}

static void test_nesting_is_bounded(void **ud) {
    (void)ud;
    enum { DEPTH = 200000 };
    char *body = exo_malloc(DEPTH + 5);
    json_t *object;
    exo_error err = {0};
    memcpy(body, "{\"a\":", 5);
    memset(body + 5, '[', DEPTH);
    assert_int_equal(exo_fields_parse(body, DEPTH + 5, &object, &err), EXO_EINVAL);
    exo_free(body);
}

/* ---- readers ---- */

static void test_bool(void **ud) {
    (void)ud;
    exo_fields f = fields_of("{'yes': true, 'no': false, 'nil': null, 'one': 1}");
    bool v = true;
    assert_true(exo_fields_bool(&f, "no", &v));
    assert_false(v);
    assert_true(exo_fields_bool(&f, "yes", &v));
    assert_true(v);
    assert_false(exo_fields_bool(&f, "nil", &v));
    assert_false(exo_fields_bool(&f, "absent", &v));
    assert_true(v && exo_fields_ok(&f));
    assert_false(exo_fields_bool(&f, "one", &v));
    assert_wrong(&f, "one");
    finish(&f);
}

static void test_float(void **ud) {
    (void)ud;
    exo_fields f = fields_of("{'low': -2, 'high': 1.5, 'whole': 1, 'nil': null}");
    float v = 7;
    assert_true(exo_fields_float(&f, "low", -2, 1.5, &v));
    assert_true(v == -2);
    assert_true(exo_fields_float(&f, "high", -2, 1.5, &v));
    assert_true(v == 1.5f);
    assert_true(exo_fields_float(&f, "whole", -2, 1.5, &v));
    assert_true(v == 1);
    assert_false(exo_fields_float(&f, "nil", -2, 1.5, &v));
    assert_false(exo_fields_float(&f, "absent", -2, 1.5, &v));
    assert_true(v == 1 && exo_fields_ok(&f));
    finish(&f);

    static const char *const wrong[] = {"{'x': -2.001}", "{'x': 1.6}", "{'x': '1'}",
                                        "{'x': true}",   "{'x': [1]}", "{'x': {}}",
                                        "{'x': 1e300}",  "{'x': ''}"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        f = fields_of(wrong[i]);
        v = 7;
        assert_false(exo_fields_float(&f, "x", -2, 1.5, &v));
        assert_wrong(&f, "x");
        assert_non_null(strstr(f.err.message, "from -2 to 1.5"));
        assert_true(v == 7);
        finish(&f);
    }
}

static void test_u32(void **ud) {
    (void)ud;
    exo_fields f = fields_of("{'low': 3, 'high': 4294967295, 'whole': 5.0, 'nil': null}");
    uint32_t v = 0;
    assert_true(exo_fields_u32(&f, "low", 3, UINT32_MAX, &v));
    assert_int_equal(v, 3);
    assert_true(exo_fields_u32(&f, "high", 3, UINT32_MAX, &v));
    assert_int_equal(v, UINT32_MAX);
    assert_true(exo_fields_u32(&f, "whole", 3, UINT32_MAX, &v)); /* some clients write 5.0 */
    assert_int_equal(v, 5);
    assert_false(exo_fields_u32(&f, "nil", 3, UINT32_MAX, &v));
    assert_false(exo_fields_u32(&f, "absent", 3, UINT32_MAX, &v));
    assert_true(v == 5 && exo_fields_ok(&f));
    finish(&f);

    static const char *const wrong[] = {"{'x': 2}",          "{'x': 10}",  "{'x': -3}",
                                        "{'x': 3.5}",        "{'x': '3'}", "{'x': false}",
                                        "{'x': 4294967299}", "{'x': 1e18}"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        f = fields_of(wrong[i]);
        v = 7;
        assert_false(exo_fields_u32(&f, "x", 3, 9, &v));
        assert_wrong(&f, "x");
        assert_int_equal(v, 7);
        finish(&f);
    }
}

static void test_i64(void **ud) {
    (void)ud;
    exo_fields f = fields_of("{'low': -9223372036854775808, 'high': 9223372036854775807,"
                             " 'whole': -4e3, 'nil': null}");
    int64_t v = 0;
    assert_true(exo_fields_i64(&f, "low", &v));
    assert_true(v == INT64_MIN);
    assert_true(exo_fields_i64(&f, "high", &v));
    assert_true(v == INT64_MAX);
    assert_true(exo_fields_i64(&f, "whole", &v));
    assert_true(v == -4000);
    assert_false(exo_fields_i64(&f, "nil", &v));
    assert_false(exo_fields_i64(&f, "absent", &v));
    assert_true(v == -4000 && exo_fields_ok(&f));
    finish(&f);

    /* beyond 2^53 a real number no longer says which integer it was */
    static const char *const wrong[] = {"{'x': 1e16}", "{'x': 0.5}", "{'x': '1'}", "{'x': [1]}"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        f = fields_of(wrong[i]);
        v = 7;
        assert_false(exo_fields_i64(&f, "x", &v));
        assert_wrong(&f, "x");
        assert_true(v == 7);
        finish(&f);
    }
}

static void test_string(void **ud) {
    (void)ud;
    exo_fields f = fields_of("{'s': 'text', 'empty': '', 'nil': null, 'n': 5}");
    const char *v = "before";
    assert_true(exo_fields_string(&f, "s", &v));
    assert_string_equal(v, "text");
    assert_false(exo_fields_string(&f, "nil", &v));
    assert_false(exo_fields_string(&f, "absent", &v));
    assert_string_equal(v, "text");
    assert_true(exo_fields_string(&f, "empty", &v));
    assert_string_equal(v, "");
    assert_false(exo_fields_string(&f, "n", &v));
    assert_wrong(&f, "n");
    assert_string_equal(v, "");
    finish(&f);
    f = fields_of("{'s': 'two\\u0000names'}"); /* C would see the first half only */
    assert_false(exo_fields_string(&f, "s", &v));
    assert_wrong(&f, "s");
    finish(&f);
}

static void test_get_takes_null_for_absent(void **ud) {
    (void)ud;
    exo_fields f = fields_of("{'nil': null, 'zero': 0}");
    assert_null(exo_fields_get(&f, "nil"));
    assert_null(exo_fields_get(&f, "absent"));
    assert_non_null(exo_fields_get(&f, "zero"));
    finish(&f);
}

/* ---- errors ---- */

static void test_the_first_error_wins_and_stops_reading(void **ud) {
    (void)ud;
    exo_fields f = fields_of("{'first': 'x', 'second': 'x', 'right': 5, 'yes': true, 's': 'text'}");
    uint32_t u = 1;
    int64_t i = 2;
    float x = 3;
    bool b = false;
    const char *s = "before";
    assert_false(exo_fields_u32(&f, "first", 0, 9, &u));
    assert_false(exo_fields_u32(&f, "second", 0, 9, &u));
    exo_fields_fail(&f, "third", EXO_EUNSUPPORTED, "is not there either");
    assert_wrong(&f, "first");
    assert_int_equal(f.err.status, EXO_EINVAL);
    assert_false(exo_fields_u32(&f, "right", 0, 9, &u));
    assert_false(exo_fields_i64(&f, "right", &i));
    assert_false(exo_fields_float(&f, "right", 0, 9, &x));
    assert_false(exo_fields_bool(&f, "yes", &b));
    assert_false(exo_fields_string(&f, "s", &s));
    assert_true(u == 1 && i == 2 && x == 3 && !b);
    assert_string_equal(s, "before");
    finish(&f);
}

static void test_a_failure_has_status_member_and_text(void **ud) {
    (void)ud;
    exo_fields f = fields_of("{}");
    exo_fields_fail(&f, "prompt", EXO_ETOOLONG, "has %d tokens, not %d", 9, 8);
    assert_int_equal(f.err.status, EXO_ETOOLONG);
    assert_string_equal(f.err.message, "\"prompt\" has 9 tokens, not 8");
    assert_string_equal(f.param, "prompt");
    finish(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_body_is_one_object),
        cmocka_unit_test(test_bodies_that_would_mean_two_things),
        cmocka_unit_test(test_nesting_is_bounded),
        cmocka_unit_test(test_bool),
        cmocka_unit_test(test_float),
        cmocka_unit_test(test_u32),
        cmocka_unit_test(test_i64),
        cmocka_unit_test(test_string),
        cmocka_unit_test(test_get_takes_null_for_absent),
        cmocka_unit_test(test_the_first_error_wins_and_stops_reading),
        cmocka_unit_test(test_a_failure_has_status_member_and_text),
    };
    return cmocka_run_group_tests_name("fields", tests, NULL, NULL);
}
