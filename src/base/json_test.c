/* json_test.c - integers beyond 63 bits are read, everything else as jansson reads it. */
#include "base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static json_t *load(const char *text, json_error_t *why) {
    return exo_json_load(text, strlen(text), JSON_DECODE_ANY, why);
}

static void long_integers_are_the_nearest_double(void **state) {
    (void)state;
    json_error_t why;
    json_t *j = load("{\"a\": 1000000000000000019884624838656, \"b\": -18446744073709551615,"
                     "\"c\": 9223372036854775807, \"d\": 3, \"e\": 0.12345678901234567890123}",
                     &why);
    assert_non_null(j);
    assert_true(json_real_value(json_object_get(j, "a")) == 1e30);
    assert_true(json_real_value(json_object_get(j, "b")) == -18446744073709551616.0);
    assert_true(json_number_value(json_object_get(j, "c")) == 9223372036854775808.0);
    assert_true(json_is_integer(json_object_get(j, "d")));
    assert_true(json_real_value(json_object_get(j, "e")) == 0.12345678901234567890123);
    json_decref(j);
}

static void what_fits_stays_an_integer(void **state) {
    (void)state;
    json_t *j = load("[9223372036854775807, -9223372036854775808]", NULL);
    assert_true(json_integer_value(json_array_get(j, 0)) == INT64_MAX);
    assert_true(json_integer_value(json_array_get(j, 1)) == INT64_MIN);
    json_decref(j);
    j = load("[9223372036854775807, 9223372036854775808, -9223372036854775808, "
             "-9223372036854775809, 1234567890123456789]",
             NULL); /* also beside one that does not fit */
    assert_true(json_integer_value(json_array_get(j, 0)) == INT64_MAX);
    assert_true(json_real_value(json_array_get(j, 1)) == 0x1p63);
    assert_true(json_integer_value(json_array_get(j, 2)) == INT64_MIN);
    assert_true(json_real_value(json_array_get(j, 3)) == -0x1p63);
    assert_true(json_integer_value(json_array_get(j, 4)) == 1234567890123456789);
    json_decref(j);
}

static void figures_have_the_digits_that_were_measured(void **state) {
    (void)state;
    assert_true(exo_json_rounded(0.0428571428571429, 10000) == 0.0429);
    assert_true(exo_json_rounded(-2443.14136125654, 1000) == -2443.141);
    assert_true(exo_json_rounded(40, 1000) == 40 && isnan(exo_json_rounded(NAN, 1000)));
}

static void digits_in_strings_stay(void **state) {
    (void)state;
    json_t *j = load("[\"\\\"99999999999999999999\", \"\\\\\", 99999999999999999999]", NULL);
    assert_string_equal(json_string_value(json_array_get(j, 0)), "\"99999999999999999999");
    assert_string_equal(json_string_value(json_array_get(j, 1)), "\\");
    assert_true(json_real_value(json_array_get(j, 2)) == 1e20);
    json_decref(j);
}

static void what_is_wrong_is_refused_with_its_line(void **state) {
    (void)state;
    json_error_t why;
    assert_null(load("[99999999999999999999,\n 1e999]", &why));
    assert_int_equal(why.line, 2);
    assert_null(load("[99999999999999999999,\n \"open", &why));
    assert_null(load("[99999999999999999999,\n \"open\\", &why));
    assert_null(load("[99999999999999999999,\n 00000000000000000000001]", &why));
    assert_null(load("[99999999999999999999 --]", &why));
    assert_null(load("", &why));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(long_integers_are_the_nearest_double),
        cmocka_unit_test(what_fits_stays_an_integer),
        cmocka_unit_test(figures_have_the_digits_that_were_measured),
        cmocka_unit_test(digits_in_strings_stay),
        cmocka_unit_test(what_is_wrong_is_refused_with_its_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
