/* blocks.c - the block formats, each decoded as the file format defines it, one element at a time.
 *
 * Written for the reader and for exactness; kernels unpack faster and must agree.  The formats
 * that take their quants from codebooks are in blocks_iq.h. */
#include "compute/blocks.h"

#include "base/half.h"
#include "base/le.h"
#include "compute/blocks_iq.h"

#include <string.h>

const int8_t exo_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                   1,    13,   25,  38,  53,  69,  89,  113};
const int8_t exo_mxfp4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static float half_at(const uint8_t *p) { return exo_f16_to_f32(exo_get_u16(p)); }

static int16_t signed_byte(uint8_t u) { return (int16_t)(u < 128 ? u : (int)u - 256); }

static void one_scale(exo_block *b) {
    b->sub = 32;
    b->scale[0] = 1;
}

/* ---- one scale per 32 ---- */

/* Nibbles of 32 elements: the low ones first. */
static void nibbles(const uint8_t *src, int8_t *q, int offset) {
    for (int i = 0; i < 16; i++) {
        q[i] = (int8_t)((src[i] & 15) - offset);
        q[16 + i] = (int8_t)((src[i] >> 4) - offset);
    }
}

/* A fifth bit for each, from 32 bits in the order of the elements. */
static void fifth_bits(const uint8_t *src, int8_t *q) {
    uint32_t bits = exo_get_u32(src);
    for (int i = 0; i < 32; i++) q[i] = (int8_t)(q[i] + (int)(bits >> i & 1) * 16);
}

/* Every element has m added: dmin * min with the sign turned. */
static void add_minimum(const uint8_t *src, exo_block *b) {
    b->has_min = true;
    b->dmin = -half_at(src);
    b->min[0] = 1;
}

static void decode_q4_0(const uint8_t *src, exo_block *b) {
    one_scale(b);
    b->d = half_at(src);
    nibbles(src + 2, b->q, 8);
}

static void decode_q4_1(const uint8_t *src, exo_block *b) {
    one_scale(b);
    b->d = half_at(src);
    add_minimum(src + 2, b);
    nibbles(src + 4, b->q, 0);
}

static void decode_q5_0(const uint8_t *src, exo_block *b) {
    one_scale(b);
    b->d = half_at(src);
    nibbles(src + 6, b->q, 16);
    fifth_bits(src + 2, b->q);
}

static void decode_q5_1(const uint8_t *src, exo_block *b) {
    one_scale(b);
    b->d = half_at(src);
    add_minimum(src + 2, b);
    nibbles(src + 8, b->q, 0);
    fifth_bits(src + 4, b->q);
}

static void decode_q8_0(const uint8_t *src, exo_block *b) {
    one_scale(b);
    b->d = half_at(src);
    memcpy(b->q, src + 2, 32);
}

/* Indices into a table instead of numbers. */
static void look_up(int8_t *q, int n, const int8_t values[16]) {
    for (int i = 0; i < n; i++) q[i] = values[q[i]];
}

static void decode_iq4_nl(const uint8_t *src, exo_block *b) {
    one_scale(b);
    b->d = half_at(src);
    nibbles(src + 2, b->q, 0);
    look_up(b->q, 32, exo_iq4_values);
}

static void decode_mxfp4(const uint8_t *src, exo_block *b) {
    one_scale(b);
    b->d = exo_mxfp4_scale(src[0]);
    nibbles(src + 1, b->q, 0);
    look_up(b->q, 32, exo_mxfp4_values);
}

/* ---- super-blocks of 256 ---- */

static void decode_q2_k(const uint8_t *src, exo_block *b) {
    b->sub = 16;
    b->has_min = true;
    b->d = half_at(src + 80);
    b->dmin = half_at(src + 82);
    for (int j = 0; j < 16; j++) {
        b->scale[j] = src[j] & 15;
        b->min[j] = src[j] >> 4;
    }
    for (int e = 0; e < 256; e++) {
        b->q[e] = (int8_t)(src[16 + e / 128 * 32 + e % 32] >> e / 32 % 4 * 2 & 3);
    }
}

static void decode_q3_k(const uint8_t *src, exo_block *b) {
    const uint8_t *s = src + 96;
    b->sub = 16;
    b->d = half_at(src + 108);
    for (int j = 0; j < 16; j++) {
        int low = (j < 8 ? s[j] : s[j - 8] >> 4) & 15, high = s[8 + j % 4] >> j / 4 * 2 & 3;
        b->scale[j] = (int16_t)((low | high << 4) - 32);
    }
    for (int e = 0; e < 256; e++) {
        int low = src[32 + e / 128 * 32 + e % 32] >> e / 32 % 4 * 2 & 3;
        int high = src[e % 32] >> e / 32 & 1;
        b->q[e] = (int8_t)((low | high << 2) - 4);
    }
}

/* The 12 bytes with 8 scales and 8 minima of 6 bits that Q4_K and Q5_K have. */
static void six_bit_scales(const uint8_t *s, exo_block *b) {
    b->sub = 32;
    b->has_min = true;
    for (int j = 0; j < 4; j++) {
        b->scale[j] = s[j] & 63;
        b->min[j] = s[4 + j] & 63;
        b->scale[4 + j] = (int16_t)((s[8 + j] & 15) | s[j] >> 6 << 4);
        b->min[4 + j] = (int16_t)(s[8 + j] >> 4 | s[4 + j] >> 6 << 4);
    }
}

static void decode_q4_k(const uint8_t *src, exo_block *b) {
    b->d = half_at(src);
    b->dmin = half_at(src + 2);
    six_bit_scales(src + 4, b);
    for (int e = 0; e < 256; e++) {
        b->q[e] = (int8_t)(src[16 + e / 64 * 32 + e % 32] >> e / 32 % 2 * 4 & 15);
    }
}

static void decode_q5_k(const uint8_t *src, exo_block *b) {
    b->d = half_at(src);
    b->dmin = half_at(src + 2);
    six_bit_scales(src + 4, b);
    for (int e = 0; e < 256; e++) {
        int low = src[48 + e / 64 * 32 + e % 32] >> e / 32 % 2 * 4 & 15;
        int high = src[16 + e % 32] >> e / 32 & 1;
        b->q[e] = (int8_t)(low | high << 4);
    }
}

static void decode_q6_k(const uint8_t *src, exo_block *b) {
    b->sub = 16;
    b->d = half_at(src + 208);
    for (int j = 0; j < 16; j++) b->scale[j] = signed_byte(src[192 + j]);
    for (int e = 0; e < 256; e++) {
        int half = e / 128, quarter = e / 32 % 4, i = e % 32;
        int low = src[half * 64 + quarter % 2 * 32 + i] >> quarter / 2 * 4 & 15;
        int high = src[128 + half * 32 + i] >> quarter * 2 & 3;
        b->q[e] = (int8_t)((low | high << 4) - 32);
    }
}

static void decode_iq4_xs(const uint8_t *src, exo_block *b) {
    b->sub = 32;
    b->d = half_at(src);
    uint32_t high = exo_get_u16(src + 2);
    for (int j = 0; j < 8; j++) {
        uint32_t low = src[4 + j / 2] >> j % 2 * 4 & 15;
        b->scale[j] = (int16_t)((int)(low | (high >> 2 * j & 3) << 4) - 32);
        nibbles(src + 8 + 16 * j, b->q + 32 * j, 0);
    }
    look_up(b->q, 256, exo_iq4_values);
}

/* ---- all of them ---- */

typedef void (*decode_fn)(const uint8_t *src, exo_block *b);

static const decode_fn decoders[EXO_DTYPE_LIMIT] = {
    [EXO_Q4_0] = decode_q4_0,           [EXO_Q4_1] = decode_q4_1,
    [EXO_Q5_0] = decode_q5_0,           [EXO_Q5_1] = decode_q5_1,
    [EXO_Q8_0] = decode_q8_0,           [EXO_IQ4_NL] = decode_iq4_nl,
    [EXO_MXFP4] = decode_mxfp4,         [EXO_Q2_K] = decode_q2_k,
    [EXO_Q3_K] = decode_q3_k,           [EXO_Q4_K] = decode_q4_k,
    [EXO_Q5_K] = decode_q5_k,           [EXO_Q6_K] = decode_q6_k,
    [EXO_IQ4_XS] = decode_iq4_xs,       [EXO_IQ2_XXS] = exo_decode_iq2_xxs,
    [EXO_IQ2_XS] = exo_decode_iq2_xs,   [EXO_IQ2_S] = exo_decode_iq2_s,
    [EXO_IQ3_XXS] = exo_decode_iq3_xxs, [EXO_IQ3_S] = exo_decode_iq3_s,
    [EXO_IQ1_S] = exo_decode_iq1_s,     [EXO_IQ1_M] = exo_decode_iq1_m,
};

bool exo_block_known(exo_dtype type) {
    return (uint32_t)type < EXO_DTYPE_LIMIT && decoders[type] != NULL;
}

void exo_block_decode(exo_dtype type, const uint8_t *src, exo_block *out) {
    out->has_min = false;
    out->dmin = 0;
    decoders[type](src, out);
}

static void block_values(const exo_block *b, uint32_t n, float *out) {
    for (uint32_t j = 0; j < n / b->sub; j++) {
        float scale = b->d * (float)b->scale[j];
        float min = b->has_min ? b->dmin * (float)b->min[j] : 0;
        for (uint32_t e = j * b->sub; e < (j + 1) * b->sub; e++) {
            float value = scale * (float)b->q[e];
            out[e] = b->has_min ? value - min : value;
        }
    }
}

void exo_dequantize(exo_dtype type, const uint8_t *src, size_t n, float *out) {
    const exo_dtype_info *info = exo_dtype_get(type);
    for (size_t i = 0; i < n; i += info->block_elems, src += info->block_bytes) {
        if (type == EXO_F32) {
            out[i] = exo_get_f32(src);
        } else if (type == EXO_F16) {
            out[i] = half_at(src);
        } else if (type == EXO_BF16) {
            out[i] = exo_bf16_to_f32(exo_get_u16(src));
        } else {
            exo_block b;
            exo_block_decode(type, src, &b);
            block_values(&b, info->block_elems, out + i);
        }
    }
}
