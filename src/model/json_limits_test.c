/* json_limits_test.c - what is counted, and that nothing is read beyond the text. */
#include "model/json_limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const exo_json_limits few = {.depth = 3, .containers = 4, .values = 8, .string_bytes = 6};

/* From memory of just this size, so that sanitizers see a byte too many. */
static exo_status check(const char *text, exo_error *err) {
    size_t n = strlen(text);
    char *copy = malloc(n + (n == 0));
    assert_non_null(copy);
    if (n > 0) memcpy(copy, text, n);
    exo_status st = exo_json_check(copy, n, &few, err);
    free(copy);
    return st;
}

static void what_is_within_the_limits_passes(void **ud) {
    (void)ud;
    static const char *const texts[] = {
        "",
        "1",
        "[[[]]]",
        "[[],[],[]]",
        "{\"a\":1,\"b\":2,\"c\":[]}",
        "\"123456\"",
        "\"\\\"\\\\[[\"",
        "[1,2,3,4,5,6,7]",
        "]]]]}}}}",
        "\"[[[[[",
        "\"\\",
        "[true,null,-1e9]",
        "{\"[[\":\"{{\"}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        exo_error err = {0};
        if (check(texts[i], &err) != EXO_OK) fail_msg("%s: %s", texts[i], err.message);
    }
}

static void what_is_beyond_them_is_named(void **ud) {
    (void)ud;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"[[[[", "deeper than 3 at byte 3"},
        {"{\"a\":[[{", "deeper than 3 at byte 7"},
        {"[[],[],[],[]]", "more lists and objects than 4 at byte 10"},
        {"[1,2,3,4,5,6,7,8]", "more values than 8 at byte 15"},
        {"{\"a\":1,\"b\":2,\"c\":3,\"d\":4}", "more values than 8 at byte 23"},
        {"\"1234567\"", "more bytes than 6 at byte 1"},
        {"[\"123456\\u0031\"]", "more bytes than 6 at byte 2"},
        {"{\"1234567\":1}", "more bytes than 6 at byte 2"},
        {"\"1234567", "more bytes than 6 at byte 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        exo_error err = {0};
        assert_int_equal(check(cases[i].text, &err), EXO_EUNSUPPORTED);
        if (strstr(err.message, cases[i].says) == NULL)
            fail_msg("%s: %s", cases[i].text, err.message);
    }
}

static void zero_bytes_are_counted_and_not_the_end(void **ud) {
    (void)ud;
    exo_error err = {0};
    assert_int_equal(exo_json_check("\0[[[[", 6, &few, &err), EXO_EUNSUPPORTED);
    assert_int_equal(exo_json_check("\0[[[", 5, &few, &err), EXO_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_within_the_limits_passes),
        cmocka_unit_test(what_is_beyond_them_is_named),
        cmocka_unit_test(zero_bytes_are_counted_and_not_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
