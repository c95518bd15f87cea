/* le_test.c - the bytes themselves, at every alignment. */
#include "base/le.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void bytes_are_little_endian_at_every_alignment(void **state) {
    (void)state;
    uint8_t m[24];
    for (size_t at = 0; at < 8; at++) {
        memset(m, 0xAA, sizeof m);
        exo_put_u16(m + at, 0x0201);
        assert_memory_equal(m + at, "\x01\x02\xAA", 3);
        assert_int_equal(exo_get_u16(m + at), 0x0201);
        exo_put_u32(m + at, 0xF4030201u);
        assert_memory_equal(m + at, "\x01\x02\x03\xF4\xAA", 5);
        assert_int_equal(exo_get_u32(m + at), 0xF4030201u);
        exo_put_u64(m + at, 0xF807060504030201u);
        assert_memory_equal(m + at, "\x01\x02\x03\x04\x05\x06\x07\xF8\xAA", 9);
        assert_true(exo_get_u64(m + at) == 0xF807060504030201u);
    }
}

static void floats_keep_their_bits(void **state) {
    (void)state;
    static const uint32_t patterns[] = {0, 0x80000000, 0x3F800000, 0x7F800001, 0xFFC12345, 1};
    uint8_t m[8];
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        float f;
        exo_put_u32(m, patterns[i]);
        memcpy(&f, &patterns[i], 4);
        exo_put_f32(m + 4, f);
        assert_int_equal(exo_get_u32(m + 4), patterns[i]);
        f = exo_get_f32(m);
        assert_memory_equal(&f, &patterns[i], 4);
    }
    exo_put_u64(m, 0x400921FB54442D18u);
    assert_true(exo_get_f64(m) == 3.141592653589793);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_little_endian_at_every_alignment),
        cmocka_unit_test(floats_keep_their_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
