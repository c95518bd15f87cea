/* dmath.c - range reduction and Taylor series behind dmath.h.
 *
 * Knows nothing of tensors.  Reductions are chosen so that their products are exact in 53 bits
 * (the leading part of each split constant has trailing zeros enough); the series are plain
 * Taylor series, long enough that the first term left out is below 2^-56.  Speed does not
 * matter here: a few hundred calls per token. */
#include "compute/dmath.h"

#include <float.h>
#include <math.h> /* the macros NAN and INFINITY only */
#include <stdint.h>
#include <string.h>

_Static_assert(FLT_EVAL_METHOD == 0, "doubles must be evaluated as doubles (no x87)");

#define LN2_HI 0x1.62e42fefp-1 /* 33 bits: k * LN2_HI is exact for |k| < 2^20 */
#define LN2_LO 0x1.473de6af278edp-34
#define LOG2_E 0x1.71547652b82fep+0

#define PIO2_1     0x1.921fb54p+0 /* 28 bits each: n * part is exact for |n| < 2^25 */
#define PIO2_2     0x1.10b461p-30
#define PIO2_3     0x1.a62633145c06ep-58
#define TWO_PI_RE  0x1.45f306dc9c883p-1 /* 2 / pi */
#define SINCOS_MAX 5e7

static uint64_t bits_of(double x) {
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static double double_of(uint64_t u) {
    double x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* 2^k for a normal result: -1022 <= k <= 1023. */
static double pow2(int k) { return double_of((uint64_t)(k + 1023) << 52); }

/* Nearest integer, halves away from zero; |x| far below 2^31. */
static int nearest(double x) { return (int)(x < 0 ? x - 0.5 : x + 0.5); }

double exo_dexp(double x) {
    static const double inv_factorial[] = {
        1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320,
        1.0 / 5040,       1.0 / 720,       1.0 / 120,      1.0 / 24,      1.0 / 6,      1.0 / 2,
    };
    if (x != x) return x;
    if (x > 709.79) return INFINITY;
    if (x < -745.2) return 0;
    int k = nearest(x * LOG2_E);
    double r = (x - k * LN2_HI) - k * LN2_LO; /* |r| <= 0.35 */
    double p = inv_factorial[0];
    for (int i = 1; i < 12; i++) p = p * r + inv_factorial[i];
    double e = 1 + (r + r * r * p);
    int half = k / 2; /* two factors, so that neither overflows nor is subnormal */
    return e * pow2(half) * pow2(k - half);
}

double exo_dlog(double x) {
    if (x != x || x < 0) return NAN;
    if (x == 0) return -INFINITY;
    if (x > DBL_MAX) return x;
    int k = 0;
    if (x < DBL_MIN) { /* subnormal */
        x *= 0x1p54;
        k = -54;
    }
    uint64_t u = bits_of(x);
    k += (int)(u >> 52) - 1023;
    double m = double_of((u & 0xFFFFFFFFFFFFFu) | 0x3FF0000000000000u); /* [1, 2) */
    if (m > 1.41421356237309504880) {
        m *= 0.5;
        k++;
    }
    /* log(m) = 2 atanh(s), |s| <= 0.172 */
    double f = m - 1, s = f / (2 + f), z = s * s, p = 1.0 / 23;
    for (int i = 21; i >= 3; i -= 2) p = p * z + 1.0 / i;
    double tail = 2 * s * z * p; /* s^3/3 + s^5/5 + ..., twice */
    /* 2 s = f - s f: f is exact, so the rounding error of s weighs little. */
    return k * LN2_HI + (f + (k * LN2_LO + (tail - s * f)));
}

double exo_dpow(double base, double exponent) { return exo_dexp(exponent * exo_dlog(base)); }

static double sin_series(double r) { /* |r| <= pi/4 */
    static const double c[] = {
        1.0 / 355687428096000, -1.0 / 1307674368000, 1.0 / 6227020800, -1.0 / 39916800,
        1.0 / 362880,          -1.0 / 5040,          1.0 / 120,        -1.0 / 6,
    };
    double z = r * r, p = c[0];
    for (int i = 1; i < 8; i++) p = p * z + c[i];
    return r + r * z * p;
}

static double cos_series(double r) {
    static const double c[] = {
        -1.0 / 6402373705728000, 1.0 / 20922789888000, -1.0 / 87178291200, 1.0 / 479001600,
        -1.0 / 3628800,          1.0 / 40320,          -1.0 / 720,         1.0 / 24,
    };
    double z = r * r, p = c[0];
    for (int i = 1; i < 8; i++) p = p * z + c[i];
    return 1 - (0.5 * z - z * z * p);
}

void exo_dsincos(double x, double *sin_x, double *cos_x) {
    if (!(x >= -SINCOS_MAX && x <= SINCOS_MAX)) {
        *sin_x = *cos_x = NAN;
        return;
    }
    int n = nearest(x * TWO_PI_RE);
    double r = ((x - n * PIO2_1) - n * PIO2_2) - n * PIO2_3;
    double s = sin_series(r), c = cos_series(r);
    switch (n & 3) {
    case 0: *sin_x = s, *cos_x = c; break;
    case 1: *sin_x = c, *cos_x = -s; break;
    case 2: *sin_x = -s, *cos_x = -c; break;
    default: *sin_x = -c, *cos_x = s; break;
    }
}
