/* quantize_fit.c - the search for scales: least squares over candidates.
 *
 * For a guess of the scale the nearest quants are known; for these quants the best scale is a
 * quotient of sums, and what it leaves of the squared error is known without another pass.  The
 * guesses stretch the block's extreme over and beneath the last level, since it may pay to clip
 * one outlier; the best is polished by taking the quants of its own best scale. */
#include "compute/quantize_impl.h"

#include "base/half.h"

#include <float.h>
#include <math.h>

#define LANES  8
#define TINY   1e-30f /* blocks below are zeros: a reciprocal must not overflow */
#define POLISH 3

/* Of MXFP4 in ascending order. */
static const int8_t mxfp4_levels[15] = {-12, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 12};

const exo_levels exo_levels_iq4 = {-127, 113, exo_iq4_values, 16};
const exo_levels exo_levels_mxfp4 = {-12, 12, mxfp4_levels, 15};

float exo_round_f16(float x) { return exo_f16_to_f32(exo_f32_to_f16(x)); }

static float sum_of(const float l[LANES]) {
    return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]));
}

/* To the nearest integer, ties to even, for |x| < 2^22: one addition that every compiler turns
 * into vector code. */
static float nearest(float x) {
    const float big = 12582912.0f;
    return (x + big) - big;
}

static float clamp(float x, float lo, float hi) {
    x = x < lo ? lo : x;
    return x > hi ? hi : x;
}

static float nearest_in_table(const exo_levels *l, float x) {
    int i = 0;
    for (int k = 1; k < l->n; k++) i += x > 0.5f * (float)(l->table[k - 1] + l->table[k]);
    return (float)l->table[i];
}

/* 1 / d; 0, so that all quants are 0, where d is 0 or so small that this overflows. */
static float inverse(float d) { return fabsf(d) > FLT_MIN ? 1 / d : 0; }

/* The levels nearest to x * id. */
static void snap(const exo_levels *l, const float *x, int n, float id, float *q) {
    if (l->table != NULL) {
        for (int i = 0; i < n; i++) q[i] = nearest_in_table(l, x[i] * id);
        return;
    }
    float lo = (float)l->lo, hi = (float)l->hi;
    for (int i = 0; i < n; i++) q[i] = nearest(clamp(x[i] * id, lo, hi));
}

void exo_level_quants(const exo_levels *l, const float *x, int n, float d, int8_t *q) {
    float f[256], id = inverse(d);
    snap(l, x, n, id, f);
    for (int i = 0; i < n; i++) q[i] = (int8_t)f[i];
}

float exo_level_error(const exo_levels *l, const float *x, int n, float d) {
    float q[32] = {0}, s[LANES] = {0}, id = inverse(d);
    snap(l, x, n, id, q);
    for (int i = 0; i < n; i += LANES) {
        for (int k = 0; k < LANES; k++) {
            float e = x[i + k] - d * q[i + k];
            s[k] += e * e;
        }
    }
    return sum_of(s);
}

/* The best scale for quants q, and what it explains of the sum of squares. */
static float best_scale(const float *x, const float *q, int n, float *gain) {
    float xq[LANES] = {0}, qq[LANES] = {0};
    for (int i = 0; i < n; i += LANES) {
        for (int k = 0; k < LANES; k++) {
            xq[k] += x[i + k] * q[i + k];
            qq[k] += q[i + k] * q[i + k];
        }
    }
    float a = sum_of(xq), b = sum_of(qq);
    *gain = b > 0 ? a * (a / b) : 0;
    return b > 0 ? a / b : 0;
}

/* How far the extreme is stretched, as shares of the last level. */
#define STRETCHES 9
static float stretch(int i) { return 0.72f + 0.06f * (float)i; }

float exo_fit_scale(const exo_levels *l, const float *x, int n) {
    float extreme = 0, q[32] = {0}, d = 0, most = 0;
    for (int i = 0; i < n; i++) {
        if (fabsf(x[i]) > fabsf(extreme)) extreme = x[i];
    }
    if (fabsf(extreme) < TINY) return 0;
    for (int end = 0; end < 2; end++) {
        for (int i = 0; i < STRETCHES; i++) {
            float gain, id = (float)(end == 0 ? l->lo : l->hi) * stretch(i) / extreme;
            snap(l, x, n, id, q);
            float fit = best_scale(x, q, n, &gain);
            if (gain > most) most = gain, d = fit;
        }
    }
    for (int i = 0; i < POLISH && d != 0; i++) {
        float gain;
        snap(l, x, n, inverse(d), q);
        float fit = best_scale(x, q, n, &gain);
        if (gain > most) most = gain, d = fit;
    }
    return d;
}

/* ---- with an addend ---- */

static void snap_affine(const float *x, int n, int top, exo_affine a, float *q) {
    float id = inverse(a.d), hi = (float)top;
    for (int i = 0; i < n; i++) q[i] = nearest(clamp((x[i] - a.m) * id, 0, hi));
}

void exo_affine_quants(const float *x, int n, int top, exo_affine a, int8_t *q) {
    float f[256];
    snap_affine(x, n, top, a, f);
    for (int i = 0; i < n; i++) q[i] = (int8_t)f[i];
}

static float error_of(const float *x, const float *q, int n, exo_affine a) {
    float s[LANES] = {0};
    for (int i = 0; i < n; i += LANES) {
        for (int k = 0; k < LANES; k++) {
            float e = x[i + k] - (a.d * q[i + k] + a.m);
            s[k] += e * e;
        }
    }
    return sum_of(s);
}

float exo_affine_error(const float *x, int n, int top, exo_affine a) {
    float q[32] = {0};
    snap_affine(x, n, top, a, q);
    return error_of(x, q, n, a);
}

/* The best d and m for quants q; m <= 0 if asked for. */
static exo_affine best_affine(const float *x, const float *q, int n, bool below) {
    float sq[LANES] = {0}, qq[LANES] = {0}, sx[LANES] = {0}, xq[LANES] = {0};
    for (int i = 0; i < n; i += LANES) {
        for (int k = 0; k < LANES; k++) {
            sq[k] += q[i + k];
            qq[k] += q[i + k] * q[i + k];
            sx[k] += x[i + k];
            xq[k] += x[i + k] * q[i + k];
        }
    }
    float a = sum_of(qq), b = sum_of(sq), u = sum_of(xq), v = sum_of(sx), c = (float)n;
    float det = a * c - b * b;
    exo_affine fit = {0, v / c};
    if (det > 0) fit = (exo_affine){(u * c - v * b) / det, (v * a - u * b) / det};
    if (below && fit.m > 0) fit = (exo_affine){a > 0 ? u / a : 0, 0};
    return fit;
}

typedef struct {
    exo_affine fit;
    float error;
} affine_search;

static void try_affine(affine_search *s, const float *x, int n, int top, bool below,
                       exo_affine guess) {
    float q[32] = {0};
    snap_affine(x, n, top, guess, q);
    exo_affine fit = best_affine(x, q, n, below);
    float error = error_of(x, q, n, fit);
    if (fit.d >= 0 && error < s->error) *s = (affine_search){fit, error};
}

exo_affine exo_fit_affine(const float *x, int n, int top, bool below) {
    float lo = x[0], hi = x[0];
    for (int i = 1; i < n; i++) {
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
    }
    if (below && lo > 0) lo = 0;
    exo_affine flat = {0, below && lo > 0 ? 0 : lo};
    if (hi - lo < TINY) return flat;
    affine_search s = {flat, INFINITY};
    float step = (hi - lo) / (float)top; /* ends are moved in by shares of this */
    for (int i = -1; i <= 3; i++) {
        for (int k = -1; k <= 3; k++) {
            float from = lo + step * 0.3f * (float)i, to = hi - step * 0.3f * (float)k;
            if (to <= from) continue;
            try_affine(&s, x, n, top, below, (exo_affine){(to - from) / (float)top, from});
        }
    }
    for (int i = 0; i < POLISH; i++) try_affine(&s, x, n, top, below, s.fit);
    return s.fit;
}
