/* half_test.c - every 16-bit value, and rounding against a plain search in double precision.
 *
 * The reference knows nothing of bit tricks: it takes the two representable neighbours of a value
 * and picks the nearer one, the even one of a tie. */
#include "base/half.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include <cmocka.h>

static float from_bits(uint32_t u) {
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static uint32_t bits(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

/* A positive finite value of a format, by its definition; bit pattern `top` stands for infinity,
 * which rounding treats as the next power of two. */
static double f16_value(uint32_t h) {
    int exp = (int)(h >> 10);
    double man = h & 1023;
    return exp == 0 ? ldexp(man, -24) : ldexp(1024 + man, exp - 25);
}

static double bf16_value(uint32_t h) {
    int exp = (int)(h >> 7);
    double man = h & 127;
    return exp == 0 ? ldexp(man, -133) : ldexp(128 + man, exp - 134);
}

static uint16_t nearest(double (*value)(uint32_t), uint32_t top, float f) {
    uint32_t sign = signbit(f) ? 0x8000 : 0, low = 0, high = top;
    double x = fabs((double)f);
    if (isinf(f) || x >= value(top)) return (uint16_t)(sign | top);
    while (high - low > 1) {
        uint32_t mid = (low + high) / 2;
        if (value(mid) <= x)
            low = mid;
        else
            high = mid;
    }
    double below = x - value(low), above = value(high) - x;
    bool up = above < below || (above == below && (low & 1) != 0);
    return (uint16_t)(sign | (up ? high : low));
}

static void all_f16_values_come_back(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = exo_f16_to_f32((uint16_t)h);
        uint32_t abs = h & 0x7FFF;
        assert_int_equal(signbit(f) != 0, h >> 15);
        if (abs > 0x7C00) {
            assert_true(isnan(f));
            assert_true(isnan(exo_f16_to_f32(exo_f32_to_f16(f))));
            continue;
        }
        if (abs == 0x7C00)
            assert_true(isinf(f));
        else
            assert_true(fabs((double)f) == f16_value(abs));
        assert_int_equal(exo_f32_to_f16(f), h);
    }
}

static void all_bf16_values_come_back(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = exo_bf16_to_f32((uint16_t)h);
        if ((h & 0x7FFF) > 0x7F80) {
            assert_true(isnan(f));
            assert_true(isnan(exo_bf16_to_f32(exo_f32_to_bf16(f))));
        } else {
            assert_int_equal(exo_f32_to_bf16(f), h);
        }
    }
}

static void expect_both(float f) {
    uint16_t f16 = nearest(f16_value, 0x7C00, f), bf16 = nearest(bf16_value, 0x7F80, f);
    if (exo_f32_to_f16(f) != f16) {
        fail_msg("f16 of %a (%08x): %04x, not %04x", (double)f, bits(f), exo_f32_to_f16(f), f16);
    }
    if (exo_f32_to_bf16(f) != bf16) {
        fail_msg("bf16 of %a (%08x): %04x, not %04x", (double)f, bits(f), exo_f32_to_bf16(f), bf16);
    }
}

/* Around every f16 and bf16 value and every midpoint: the tie, one bit below and one above. */
static void ties_and_their_neighbours_round_as_the_reference(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 0x7C00; h++) {
        float middle = (float)((f16_value(h) + f16_value(h + 1)) / 2); /* exact */
        for (uint32_t d = 0; d < 3; d++) {
            if (d == 0 && bits(middle) == 0) continue;
            expect_both(from_bits(bits(middle) + d - 1));
            expect_both(-from_bits(bits(middle) + d - 1));
        }
    }
    for (uint32_t h = 0; h < 0x7F80; h++) {
        uint32_t tie = h << 16 | 0x8000;
        for (uint32_t d = 0; d < 3; d++) expect_both(from_bits(tie + d - 1));
    }
}

static void a_sample_of_all_floats_rounds_as_the_reference(void **state) {
    (void)state;
    for (uint32_t i = 0, u = 12345; i < 300000; i++) {
        u = u * 1664525 + 1013904223;
        float f = from_bits(u ^ u >> 15);
        if (isnan(f)) continue;
        expect_both(f);
    }
}

static void overflow_infinity_and_nan(void **state) {
    (void)state;
    assert_int_equal(exo_f32_to_f16(65504.0f), 0x7BFF);
    assert_int_equal(exo_f32_to_f16(65519.996f), 0x7BFF);
    assert_int_equal(exo_f32_to_f16(65520.0f), 0x7C00); /* a tie with 65536 */
    assert_int_equal(exo_f32_to_f16(-1e30f), 0xFC00);
    assert_int_equal(exo_f32_to_f16(INFINITY), 0x7C00);
    assert_int_equal(exo_f32_to_f16(0x1p-25f), 0); /* a tie with 0 */
    assert_int_equal(exo_f32_to_f16(-0.0f), 0x8000);
    assert_int_equal(exo_f32_to_bf16(from_bits(0x7F7FFFFF)), 0x7F80);
    assert_int_equal(exo_f32_to_bf16(-INFINITY), 0xFF80);
    /* A NaN whose payload lies in the bits that are cut off must not become infinity. */
    assert_true(isnan(exo_f16_to_f32(exo_f32_to_f16(from_bits(0x7F800001)))));
    assert_true(isnan(exo_bf16_to_f32(exo_f32_to_bf16(from_bits(0xFF800001)))));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_f16_values_come_back),
        cmocka_unit_test(all_bf16_values_come_back),
        cmocka_unit_test(ties_and_their_neighbours_round_as_the_reference),
        cmocka_unit_test(a_sample_of_all_floats_rounds_as_the_reference),
        cmocka_unit_test(overflow_infinity_and_nan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
