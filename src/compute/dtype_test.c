/* dtype_test.c - the format table's facts that files depend on. */
#include "compute/dtype.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void names_parse_back_to_their_numbers(void **ud) {
    (void)ud;
    unsigned known = 0;
    for (uint32_t i = 0; i < EXO_DTYPE_LIMIT + 2; i++) {
        const exo_dtype_info *info = exo_dtype_get(i);
        if (info == NULL) continue;
        known++;
        exo_dtype parsed;
        assert_int_equal(exo_dtype_parse(info->name, &parsed), EXO_OK);
        assert_int_equal(parsed, i);
    }
    assert_int_equal(known, 35);
    exo_dtype t;
    assert_int_equal(exo_dtype_parse("Q4_k", &t), EXO_OK);
    assert_int_equal(t, EXO_Q4_K);
    assert_int_equal(exo_dtype_parse("q4", &t), EXO_ENOTFOUND);
}

static void numbers_without_a_format_are_unknown(void **ud) {
    (void)ud;
    static const uint32_t numbers[] = {4, 5, 31, 32, 33, 36, 37, 38, 43, 63, 64, 1000, UINT32_MAX};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        assert_null(exo_dtype_get(numbers[i]));
    }
}

static void row_bytes_count_whole_blocks(void **ud) {
    (void)ud;
    assert_int_equal(exo_dtype_row_bytes(EXO_F32, 7), 28);
    assert_int_equal(exo_dtype_row_bytes(EXO_Q8_0, 64), 68);
    assert_int_equal(exo_dtype_row_bytes(EXO_Q4_K, 512), 288);
    assert_int_equal(exo_dtype_row_bytes(EXO_Q6_K, 256), 210);
    assert_int_equal(exo_dtype_row_bytes(EXO_Q4_0, 0), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_parse_back_to_their_numbers),
        cmocka_unit_test(numbers_without_a_format_are_unknown),
        cmocka_unit_test(row_bytes_count_whole_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
