/* Quantisers: errors as small as promised on bell-shaped weights, sense at the edges, the same
 * bytes on every machine, and refusals that name the element. */
#include "compute/quantize.h"

#include "compute/blocks.h"
#include "compute/cpu/testing.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define N 32768

/* The mean square error of normal weights, as a share of their variance: what was measured, and
 * what llama.cpp's own quantiser leaves (both on 65,536 numbers). */
static const struct {
    exo_dtype type;
    double measured, llama_cpp;
} types[] = {
    {EXO_F32, 0, 0},
    {EXO_F16, 4.34e-8, 4.34e-8},
    {EXO_BF16, 2.8e-6, 2.8e-6},
    {EXO_Q8_0, 2.86e-5, 2.86e-5},
    {EXO_Q4_0, 6.49e-3, 7.32e-3},
    {EXO_Q4_1, 4.72e-3, 6.04e-3},
    {EXO_Q5_0, 1.62e-3, 1.81e-3},
    {EXO_Q5_1, 1.12e-3, 1.42e-3},
    {EXO_Q2_K, 6.67e-2, 8.70e-2},
    {EXO_Q3_K, 2.03e-2, 2.25e-2},
    {EXO_Q4_K, 4.83e-3, 5.03e-3},
    {EXO_Q5_K, 1.20e-3, 1.29e-3},
    {EXO_Q6_K, 2.80e-4, 3.14e-4},
    {EXO_IQ4_NL, 5.35e-3, 5.77e-3},
    {EXO_IQ4_XS, 5.45e-3, 5.86e-3},
    {EXO_MXFP4, 1.23e-2, 1.29e-2},
};
#define N_TYPES (sizeof types / sizeof *types)

static float x[N], back[N];
static uint8_t packed[N * 4];

/* Near to normal: four uniforms. */
static void fill_normal(float std) {
    test_rng rng = {11};
    for (int i = 0; i < N; i++) {
        float sum = 0;
        for (int k = 0; k < 4; k++) sum += test_float(&rng);
        x[i] = sum * std * 0.8660254f;
    }
}

static void quantize_ok(exo_dtype type, size_t n) {
    exo_error err = {0};
    if (exo_quantize_rows(type, x, 1, n, packed, &err) != EXO_OK) fail_msg("%s", err.message);
    exo_dequantize(type, packed, n, back);
}

static void errors_are_as_small_as_measured(void **state) {
    (void)state;
    for (size_t t = 0; t < N_TYPES; t++) {
        fill_normal(0.02f);
        quantize_ok(types[t].type, N);
        double error = 0, power = 0;
        for (int i = 0; i < N; i++) {
            double d = (double)back[i] - (double)x[i];
            error += d * d;
            power += (double)x[i] * (double)x[i];
        }
        double share = error / power, bound = types[t].measured * 1.03;
        if (share > bound || bound > types[t].llama_cpp * 1.03) {
            fail_msg("%s: error %g", exo_dtype_get(types[t].type)->name, share);
        }
    }
}

/* Blocks of one kind each: the largest error, as a share of the block's largest element. */
static double worst_of(exo_dtype type) {
    double worst = 0, max = 0;
    quantize_ok(type, 256);
    for (int i = 0; i < 256; i++) {
        assert_true(isfinite(back[i]));
        worst = fmax(worst, fabs((double)back[i] - (double)x[i]));
        max = fmax(max, fabs((double)x[i]));
    }
    return max > 0 ? worst / max : worst;
}

static void edges_make_sense(void **state) {
    (void)state;
    for (size_t t = 0; t < N_TYPES; t++) {
        exo_dtype type = types[t].type;
        memset(x, 0, sizeof x);
        assert_true(worst_of(type) == 0);
        static const float sizes[] = {FLT_MIN / 8, 1e-38f, 1e-30f, 1e-12f, 1e-5f, 0.01f, 1, 65504};
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            for (int i = 0; i < 256; i++) x[i] = sizes[s];
            double same = worst_of(type);
            for (int i = 0; i < 256; i++) x[i] = i % 2 == 0 ? sizes[s] : -sizes[s];
            double both = worst_of(type);
            for (int i = 0; i < 256; i++) x[i] = i == 77 ? -sizes[s] : 0;
            double lone = worst_of(type);
            if (sizes[s] < 0.01f) continue; /* f16 scales cannot hold these: only no nonsense */
            double bound = type == EXO_MXFP4 ? 0.21 : 0.02; /* scales are powers of two */
            if (same > bound || both > bound + 0.13 || lone > bound) {
                fail_msg("%s: %g %g %g", exo_dtype_get(type)->name, same, both, lone);
            }
        }
    }
}

static void the_same_bytes_everywhere(void **state) {
    (void)state;
    static const uint64_t pinned[N_TYPES] = {
        /* in the order of types */
        0x381c020825f39301u, 0xe88dea1207ddb32au, 0x3b4a163a30f20403u, 0x3d87e6652322c2adu,
        0x7067e7a30b01580bu, 0xa774f9a33a3debf8u, 0x0b566c493f42b3c9u, 0xb60fb9812fef99e0u,
        0xc398977f9b6c5918u, 0x1674a280b7618c07u, 0x0c6e93ea56415358u, 0xd595ce1c791357d5u,
        0x03869fc8c9ec840bu, 0x231bf02d3e3da2f8u, 0xf57523350af2c97au, 0x618f1d253040c1dau};
    bool changed = false;
    fill_normal(1);
    for (size_t t = 0; t < N_TYPES; t++) {
        quantize_ok(types[t].type, N);
        uint64_t h = test_hash(packed, exo_dtype_row_bytes(types[t].type, N), 0);
        if (h == pinned[t]) continue;
        print_error("%s: 0x%016llx\n", exo_dtype_get(types[t].type)->name, (unsigned long long)h);
        changed = true;
    }
    assert_false(changed);
}

static void fails(exo_dtype type, size_t rows, size_t cols, exo_status want, const char *part) {
    exo_error err = {0};
    assert_int_equal(exo_quantize_rows(type, x, rows, cols, packed, &err), want);
    if (strstr(err.message, part) == NULL) fail_msg("\"%s\"", err.message);
}

static void bad_input_is_named(void **state) {
    (void)state;
    fill_normal(1);
    fails(EXO_Q4_K, 1, 128, EXO_EINVAL, "rows of 128 are not whole blocks of 256 (q4_K)");
    fails(EXO_IQ2_XXS, 1, 256, EXO_EUNSUPPORTED, "iq2_xxs");
    fails((exo_dtype)1000, 1, 256, EXO_EUNSUPPORTED, "unknown");
    for (size_t t = 0; t < N_TYPES; t++) {
        static const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
        for (size_t b = 0; b < 4; b++) {
            x[512 + 300] = bad[b];
            fails(types[t].type, 2, 512, EXO_EINVAL, "element 300 of row 1 is");
            fails(types[t].type, 2, 512, EXO_EINVAL, "no finite number");
        }
        x[512 + 300] = 3.4e38f;
        if (types[t].type == EXO_F32) continue;
        fails(types[t].type, 2, 512, EXO_EINVAL,
              "element 300 of row 1 is 3.4e+38, which is beyond");
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_are_as_small_as_measured),
        cmocka_unit_test(edges_make_sense),
        cmocka_unit_test(the_same_bytes_everywhere),
        cmocka_unit_test(bad_input_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
