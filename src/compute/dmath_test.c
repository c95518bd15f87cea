/* dmath_test.c - dmath against libm, and pinned bits that every machine must reproduce.
 *
 * libm serves as an oracle of known accuracy (below 1 ulp), not of bits. */
#include "compute/dmath.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define PI 3.14159265358979323846

/* A small generator of doubles in [0, 1), so that runs are the same. */
static uint64_t state = 1;
static double uniform(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(state >> 11) * 0x1p-53;
}

static void assert_close(double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance)) {
        fail_msg("got %.17g, want %.17g (off by %g, allowed %g)", got, want, got - want, tolerance);
    }
}

static void exp_agrees_with_libm(void **ud) {
    (void)ud;
    for (int i = 0; i < 200000; i++) {
        double x = (uniform() - 0.5) * 1400, want = exp(x);
        assert_close(exo_dexp(x), want, want * 1e-15);
        x = (uniform() - 0.5) * 2;
        assert_close(exo_dexp(x), exp(x), exp(x) * 4e-16);
    }
    assert_true(exo_dexp(0) == 1);
    assert_true(exo_dexp(1000) == INFINITY && exo_dexp(-1000) == 0);
    assert_true(exo_dexp(-740) > 0); /* subnormal */
    assert_true(isnan(exo_dexp(NAN)));
}

static void log_agrees_with_libm(void **ud) {
    (void)ud;
    for (int i = 0; i < 200000; i++) {
        double x = exp((uniform() - 0.5) * 1400), want = log(x);
        assert_close(exo_dlog(x), want, fabs(want) * 1e-15);
        x = 0.5 + uniform();
        assert_close(exo_dlog(x), log(x), 4e-16);
    }
    assert_true(exo_dlog(1) == 0);
    assert_close(exo_dlog(0x1p-1074), log(0x1p-1074), 1e-12);
    assert_true(exo_dlog(0) == -INFINITY && exo_dlog(INFINITY) == INFINITY);
    assert_true(isnan(exo_dlog(-1)) && isnan(exo_dlog(NAN)));
}

static void pow_agrees_with_libm_on_rope_bases(void **ud) {
    (void)ud;
    static const double bases[] = {2, 10000, 500000, 1e6, 1e7};
    for (size_t b = 0; b < sizeof bases / sizeof *bases; b++) {
        for (int i = 0; i < 256; i++) {
            double y = -2.0 * i / 512, want = pow(bases[b], y);
            assert_close(exo_dpow(bases[b], y), want, want * 1e-14);
        }
    }
    assert_true(exo_dpow(10000, 0) == 1);
}

static void sincos_agrees_with_libm(void **ud) {
    (void)ud;
    for (int i = 0; i < 400000; i++) {
        double s, c, x = (uniform() - 0.5) * (i % 2 == 0 ? 1e8 : 20);
        exo_dsincos(x, &s, &c);
        assert_close(s, sin(x), 1e-15);
        assert_close(c, cos(x), 1e-15);
    }
    for (int n = -70000; n <= 70000; n += 7) { /* near the switches of quadrant */
        double s, c, x = n * (PI / 4);
        exo_dsincos(x, &s, &c);
        assert_close(s, sin(x), 1e-15);
        assert_close(c, cos(x), 1e-15);
    }
    double s, c;
    exo_dsincos(0, &s, &c);
    assert_true(s == 0 && c == 1);
    exo_dsincos(1e9, &s, &c);
    assert_true(isnan(s) && isnan(c));
    exo_dsincos(NAN, &s, &c);
    assert_true(isnan(s) && isnan(c));
}

/* FNV-1a over the bits of many results: one number that all machines must print. */
static void bits_are_pinned(void **ud) {
    (void)ud;
    uint64_t h = 14695981039346656037u;
    state = 42;
    for (int i = 0; i < 20000; i++) {
        double v[4], base = 1 + 1e6 * uniform();
        exo_dsincos((uniform() - 0.5) * 2e6, &v[0], &v[1]);
        v[2] = exo_dpow(base, -uniform());
        v[3] = exo_dexp((uniform() - 0.5) * 100);
        for (int k = 0; k < 4; k++) {
            uint64_t u;
            memcpy(&u, &v[k], 8);
            h = (h ^ u) * 1099511628211u;
        }
    }
    assert_true(h == 0x1334b01774bf9e14u);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_agrees_with_libm),
        cmocka_unit_test(log_agrees_with_libm),
        cmocka_unit_test(pow_agrees_with_libm_on_rope_bases),
        cmocka_unit_test(sincos_agrees_with_libm),
        cmocka_unit_test(bits_are_pinned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
