/* quantize_k.c - super-blocks of 256: scales of sub-blocks that are integers themselves.
 *
 * Each sub-block is fitted alone; the largest of its scales sets the super-block's; then every
 * sub-block takes the integer, near the one its fit asks for, that leaves the least error with
 * the super-block's scale as f16 holds it. */
#include "compute/quantize_impl.h"

#include "base/half.h"
#include "base/le.h"

#include <math.h>
#include <string.h>

#define NEAR 1 /* integers tried on either side */

static int clamp_int(float x, int lo, int hi) {
    float r = nearbyintf(x);
    return r < (float)lo ? lo : r > (float)hi ? hi : (int)r;
}

/* ---- scales alone: Q3_K, Q6_K, IQ4_XS ---- */

typedef struct {
    exo_levels levels;
    int sub;    /* elements with one scale */
    int lo, hi; /* of the integer scales */
} signed_format;

/* Writes d; scale (256 / sub), q (256). */
static void fit_signed(const signed_format *f, const float *x, uint8_t *d_at, int *scale,
                       int8_t *q) {
    float fit[16], extreme = 0;
    int n = 256 / f->sub;
    for (int j = 0; j < n; j++) {
        fit[j] = exo_fit_scale(&f->levels, x + j * f->sub, f->sub);
        if (fabsf(fit[j]) > fabsf(extreme)) extreme = fit[j];
    }
    exo_put_u16(d_at, exo_f32_to_f16(extreme / (float)f->lo));
    float d = exo_f16_to_f32(exo_get_u16(d_at));
    for (int j = 0; j < n; j++) {
        const float *xj = x + j * f->sub;
        int middle = d != 0 ? clamp_int(fit[j] / d, f->lo, f->hi) : 0;
        float least = INFINITY;
        scale[j] = 0;
        for (int s = middle - NEAR; s <= middle + NEAR; s++) {
            if (s < f->lo || s > f->hi) continue;
            float error = exo_level_error(&f->levels, xj, f->sub, d * (float)s);
            if (error < least) least = error, scale[j] = s;
        }
        exo_level_quants(&f->levels, xj, f->sub, d * (float)scale[j], q + j * f->sub);
    }
}

void exo_quantize_q3_k(const float *x, uint8_t *out) {
    static const signed_format format = {{-4, 3, NULL, 0}, 16, -32, 31};
    int scale[16];
    int8_t q[256];
    memset(out, 0, 108);
    fit_signed(&format, x, out + 108, scale, q);
    for (int j = 0; j < 16; j++) {
        uint32_t s = (uint32_t)(scale[j] + 32);
        out[96 + j % 8] |= (uint8_t)((s & 15) << j / 8 * 4);
        out[104 + j % 4] |= (uint8_t)(s >> 4 << j / 4 * 2);
    }
    for (int e = 0; e < 256; e++) {
        uint32_t u = (uint32_t)(q[e] + 4);
        out[32 + e / 128 * 32 + e % 32] |= (uint8_t)((u & 3) << e / 32 % 4 * 2);
        out[e % 32] |= (uint8_t)(u >> 2 << e / 32);
    }
}

void exo_quantize_q6_k(const float *x, uint8_t *out) {
    static const signed_format format = {{-32, 31, NULL, 0}, 16, -128, 127};
    int scale[16];
    int8_t q[256];
    memset(out, 0, 192);
    fit_signed(&format, x, out + 208, scale, q);
    for (int j = 0; j < 16; j++) out[192 + j] = (uint8_t)(scale[j] & 255);
    for (int e = 0; e < 256; e++) {
        uint32_t u = (uint32_t)(q[e] + 32);
        int half = e / 128, quarter = e / 32 % 4, i = e % 32;
        out[half * 64 + quarter % 2 * 32 + i] |= (uint8_t)((u & 15) << quarter / 2 * 4);
        out[128 + half * 32 + i] |= (uint8_t)(u >> 4 << quarter * 2);
    }
}

void exo_quantize_iq4_xs(const float *x, uint8_t *out) {
    const signed_format format = {exo_levels_iq4, 32, -32, 31};
    int scale[8];
    int8_t q[256];
    uint32_t high = 0;
    memset(out, 0, 136);
    fit_signed(&format, x, out, scale, q);
    for (int j = 0; j < 8; j++) {
        uint32_t s = (uint32_t)(scale[j] + 32);
        out[4 + j / 2] |= (uint8_t)((s & 15) << j % 2 * 4);
        high |= s >> 4 << 2 * j;
    }
    exo_put_u16(out + 2, (uint16_t)high);
    for (int e = 0; e < 256; e++) {
        uint32_t index = exo_table_index(exo_iq4_values, q[e]);
        out[8 + e / 32 * 16 + e % 16] |= (uint8_t)(index << e / 16 % 2 * 4);
    }
}

/* ---- scales and minima: Q2_K, Q4_K, Q5_K ---- */

typedef struct {
    int top;       /* quants are 0 to this */
    int sub;       /* elements with one scale and one minimum */
    int top_scale; /* of both integers */
} affine_format;

/* The integers of one sub-block: scale in [0], minimum in [1]. */
static void choose(const affine_format *f, const float *x, exo_affine fit, float d, float dmin,
                   int best[2]) {
    int s0 = d > 0 ? clamp_int(fit.d / d, 0, f->top_scale) : 0;
    int m0 = dmin > 0 ? clamp_int(-fit.m / dmin, 0, f->top_scale) : 0;
    float least = INFINITY;
    for (int s = s0 - NEAR; s <= s0 + NEAR; s++) {
        for (int m = m0 - NEAR; m <= m0 + NEAR; m++) {
            if (s < 0 || s > f->top_scale || m < 0 || m > f->top_scale) continue;
            exo_affine a = {d * (float)s, -dmin * (float)m};
            float error = exo_affine_error(x, f->sub, f->top, a);
            if (error < least) least = error, best[0] = s, best[1] = m;
        }
    }
}

/* Writes d and dmin; scale and min (256 / sub), q (256). */
static void fit_affine(const affine_format *f, const float *x, uint8_t *d_at, int *scale, int *min,
                       int8_t *q) {
    exo_affine fit[16];
    float most = 0, lowest = 0;
    int n = 256 / f->sub;
    for (int j = 0; j < n; j++) {
        fit[j] = exo_fit_affine(x + j * f->sub, f->sub, f->top, true);
        most = fit[j].d > most ? fit[j].d : most;
        lowest = fit[j].m < lowest ? fit[j].m : lowest;
    }
    exo_put_u16(d_at, exo_f32_to_f16(most / (float)f->top_scale));
    exo_put_u16(d_at + 2, exo_f32_to_f16(-lowest / (float)f->top_scale));
    float d = exo_f16_to_f32(exo_get_u16(d_at)), dmin = exo_f16_to_f32(exo_get_u16(d_at + 2));
    for (int j = 0; j < n; j++) {
        int best[2] = {0, 0};
        choose(f, x + j * f->sub, fit[j], d, dmin, best);
        scale[j] = best[0];
        min[j] = best[1];
        exo_affine a = {d * (float)best[0], -dmin * (float)best[1]};
        exo_affine_quants(x + j * f->sub, f->sub, f->top, a, q + j * f->sub);
    }
}

void exo_quantize_q2_k(const float *x, uint8_t *out) {
    static const affine_format format = {3, 16, 15};
    int scale[16], min[16];
    int8_t q[256];
    memset(out, 0, 80);
    fit_affine(&format, x, out + 80, scale, min, q);
    for (int j = 0; j < 16; j++) out[j] = (uint8_t)(scale[j] | min[j] << 4);
    for (int e = 0; e < 256; e++) {
        out[16 + e / 128 * 32 + e % 32] |= (uint8_t)(q[e] << e / 32 % 4 * 2);
    }
}

/* d, dmin and the 12 bytes with 8 scales and 8 minima of 6 bits. */
static void fit_six_bits(int top, const float *x, uint8_t *out, int8_t *q) {
    const affine_format format = {top, 32, 63};
    int scale[8], min[8];
    fit_affine(&format, x, out, scale, min, q);
    for (int j = 0; j < 4; j++) {
        out[4 + j] = (uint8_t)(scale[j] | scale[4 + j] >> 4 << 6);
        out[8 + j] = (uint8_t)(min[j] | min[4 + j] >> 4 << 6);
        out[12 + j] = (uint8_t)((scale[4 + j] & 15) | (min[4 + j] & 15) << 4);
    }
}

void exo_quantize_q4_k(const float *x, uint8_t *out) {
    int8_t q[256];
    memset(out, 0, 144);
    fit_six_bits(15, x, out, q);
    for (int e = 0; e < 256; e++) {
        out[16 + e / 64 * 32 + e % 32] |= (uint8_t)(q[e] << e / 32 % 2 * 4);
    }
}

void exo_quantize_q5_k(const float *x, uint8_t *out) {
    int8_t q[256];
    memset(out, 0, 176);
    fit_six_bits(31, x, out, q);
    for (int e = 0; e < 256; e++) {
        out[48 + e / 64 * 32 + e % 32] |= (uint8_t)((q[e] & 15) << e / 32 % 2 * 4);
        out[16 + e % 32] |= (uint8_t)(q[e] >> 4 << e / 32);
    }
}
