/* quantize.c - the door, the float formats and the blocks of 32; quantize_k.c has those of 256. */
#include "compute/quantize_impl.h"

#include "base/half.h"
#include "base/le.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define F16_MAX                                                                                    \
    65504.0f /* also the bound of scales in f16: a block's extreme is never below them */

uint8_t exo_table_index(const int8_t values[16], int8_t value) {
    uint8_t i = 0;
    while (i < 15 && values[i] != value) i++;
    return i;
}

/* ---- floats ---- */

static void quantize_f32(const float *x, uint8_t *out) { exo_put_f32(out, *x); }
static void quantize_f16(const float *x, uint8_t *out) { exo_put_u16(out, exo_f32_to_f16(*x)); }
static void quantize_bf16(const float *x, uint8_t *out) { exo_put_u16(out, exo_f32_to_bf16(*x)); }

/* ---- blocks of 32 ---- */

/* Nibbles of 32 elements, the low ones first; fifth bits, if asked for, in their order. */
static void put_nibbles(uint8_t *out, const int8_t *q, int offset, uint8_t *fifth) {
    uint32_t bits = 0;
    for (int i = 0; i < 32; i++) {
        uint32_t u = (uint32_t)(q[i] + offset);
        if (i < 16) {
            out[i] = (uint8_t)(u & 15);
        } else {
            out[i - 16] |= (uint8_t)((u & 15) << 4);
        }
        bits |= (u >> 4 & 1) << i;
    }
    if (fifth != NULL) exo_put_u32(fifth, bits);
}

/* Writes the scale and quantises with what f16 made of it. */
static void scaled_quants(const exo_levels *l, const float *x, uint8_t *d_at, int8_t q[32]) {
    uint16_t d = exo_f32_to_f16(exo_fit_scale(l, x, 32));
    exo_put_u16(d_at, d);
    exo_level_quants(l, x, 32, exo_f16_to_f32(d), q);
}

static void quantize_q4_0(const float *x, uint8_t *out) {
    static const exo_levels levels = {-8, 7, NULL, 0};
    int8_t q[32];
    scaled_quants(&levels, x, out, q);
    put_nibbles(out + 2, q, 8, NULL);
}

static void quantize_q5_0(const float *x, uint8_t *out) {
    static const exo_levels levels = {-16, 15, NULL, 0};
    int8_t q[32];
    scaled_quants(&levels, x, out, q);
    put_nibbles(out + 6, q, 16, out + 2);
}

/* No search: 8 bits are fine enough, and every other program writes these bytes. */
static void quantize_q8_0(const float *x, uint8_t *out) {
    static const exo_levels levels = {-127, 127, NULL, 0};
    float max = 0;
    for (int i = 0; i < 32; i++) max = fabsf(x[i]) > max ? fabsf(x[i]) : max;
    float d = max / 127;
    exo_put_u16(out, exo_f32_to_f16(d));
    int8_t q[32];
    exo_level_quants(&levels, x, 32, max < FLT_MIN * 256 ? 0 : d, q);
    memcpy(out + 2, q, 32);
}

/* d and m as f16 holds them. */
static void affine_quants(const float *x, int top, uint8_t *at, int8_t q[32]) {
    exo_affine a = exo_fit_affine(x, 32, top, false);
    exo_put_u16(at, exo_f32_to_f16(a.d));
    exo_put_u16(at + 2, exo_f32_to_f16(a.m));
    a = (exo_affine){exo_round_f16(a.d), exo_round_f16(a.m)};
    exo_affine_quants(x, 32, top, a, q);
}

static void quantize_q4_1(const float *x, uint8_t *out) {
    int8_t q[32];
    affine_quants(x, 15, out, q);
    put_nibbles(out + 4, q, 0, NULL);
}

static void quantize_q5_1(const float *x, uint8_t *out) {
    int8_t q[32];
    affine_quants(x, 31, out, q);
    put_nibbles(out + 8, q, 0, out + 4);
}

static void to_indices(const int8_t values[16], int8_t q[32]) {
    for (int i = 0; i < 32; i++) q[i] = (int8_t)exo_table_index(values, q[i]);
}

static void quantize_iq4_nl(const float *x, uint8_t *out) {
    int8_t q[32];
    scaled_quants(&exo_levels_iq4, x, out, q);
    to_indices(exo_iq4_values, q);
    put_nibbles(out + 2, q, 0, NULL);
}

/* The scale is a power of two: those around the one that lets the extreme just fit. */
static void quantize_mxfp4(const float *x, uint8_t *out) {
    float max = 0, least = INFINITY;
    int8_t q[32];
    for (int i = 0; i < 32; i++) max = fabsf(x[i]) > max ? fabsf(x[i]) : max;
    int exponent = 0;
    (void)frexpf(max, &exponent);
    int from = exponent - 4 + 128 - 1; /* max / 12 lies between 2^(exponent - 5) and - 3 */
    out[0] = 0;
    for (int e = from; e < from + 3 && max > 0; e++) {
        int held = e < 0 ? 0 : e > 254 ? 254 : e;
        float error = exo_level_error(&exo_levels_mxfp4, x, 32, exo_mxfp4_scale((uint8_t)held));
        if (error < least) least = error, out[0] = (uint8_t)held;
    }
    exo_level_quants(&exo_levels_mxfp4, x, 32, exo_mxfp4_scale(out[0]), q);
    to_indices(exo_mxfp4_values, q);
    put_nibbles(out + 1, q, 0, NULL);
}

/* ---- the door ---- */

typedef struct {
    void (*block)(const float *x, uint8_t *out);
    float largest; /* magnitude */
} format;

static const format formats[EXO_DTYPE_LIMIT] = {
    [EXO_F32] = {quantize_f32, FLT_MAX},           [EXO_F16] = {quantize_f16, F16_MAX},
    [EXO_BF16] = {quantize_bf16, 0x1.FEp127f},     [EXO_Q4_0] = {quantize_q4_0, F16_MAX},
    [EXO_Q4_1] = {quantize_q4_1, F16_MAX},         [EXO_Q5_0] = {quantize_q5_0, F16_MAX},
    [EXO_Q5_1] = {quantize_q5_1, F16_MAX},         [EXO_Q8_0] = {quantize_q8_0, F16_MAX},
    [EXO_Q2_K] = {exo_quantize_q2_k, F16_MAX},     [EXO_Q3_K] = {exo_quantize_q3_k, F16_MAX},
    [EXO_Q4_K] = {exo_quantize_q4_k, F16_MAX},     [EXO_Q5_K] = {exo_quantize_q5_k, F16_MAX},
    [EXO_Q6_K] = {exo_quantize_q6_k, F16_MAX},     [EXO_IQ4_NL] = {quantize_iq4_nl, F16_MAX},
    [EXO_IQ4_XS] = {exo_quantize_iq4_xs, F16_MAX}, [EXO_MXFP4] = {quantize_mxfp4, 0x1p120f},
};

bool exo_quantize_supported(exo_dtype type) {
    return (uint32_t)type < EXO_DTYPE_LIMIT && formats[type].block != NULL;
}

static exo_status check_row(exo_dtype type, const float *x, size_t row, size_t n, exo_error *err) {
    for (size_t i = 0; i < n; i++) {
        if (fabsf(x[i]) <= formats[type].largest) continue;
        bool finite = fabsf(x[i]) <= FLT_MAX;
        return exo_error_set(err, EXO_EINVAL, "element %zu of row %zu is %g, which %s", i, row,
                             (double)x[i],
                             finite ? "is beyond what the format holds" : "is no finite number");
    }
    return EXO_OK;
}

exo_status exo_quantize_rows(exo_dtype type, const float *src, size_t n_rows, size_t n_cols,
                             void *dst, exo_error *err) {
    const exo_dtype_info *info = exo_dtype_get((uint32_t)type);
    if (!exo_quantize_supported(type)) {
        return exo_error_set(err, EXO_EUNSUPPORTED, "exo does not quantise to %s",
                             info != NULL ? info->name : "an unknown type");
    }
    if (n_cols % info->block_elems != 0) {
        return exo_error_set(err, EXO_EINVAL, "rows of %zu are not whole blocks of %u (%s)", n_cols,
                             info->block_elems, info->name);
    }
    uint8_t *out = dst;
    for (size_t row = 0; row < n_rows; row++, src += n_cols) {
        exo_status st = check_row(type, src, row, n_cols, err);
        if (st != EXO_OK) return st;
        for (size_t i = 0; i < n_cols; i += info->block_elems, out += info->block_bytes) {
            formats[type].block(src + i, out);
        }
    }
    return EXO_OK;
}
