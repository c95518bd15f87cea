/* reference_matmul.c - products and embedding rows in plain C, straight from the file's blocks.
 *
 * Each block is taken back out of the packed layout and decoded as the file format defines it,
 * so this file does not depend on how weights are packed.
 * Block formats: ggml-common.h of llama.cpp. */
#include "compute/cpu/reference.h"

#include "base/half.h"
#include "base/le.h"

#include <math.h>
#include <string.h>

#define MAX_BLOCK_BYTES 256

/* One decoded block: value = d * scale[e / sub] * q[e] - dmin * min[e / sub]. */
typedef struct {
    float d, dmin;
    int8_t q[256]; /* Q4_0 and Q6_K: centred */
    int32_t scale[16], min[16];
} block;

static void decode_q4_0(const uint8_t *src, block *b) {
    b->d = exo_f16_to_f32(exo_get_u16(src));
    for (int i = 0; i < 16; i++) {
        b->q[i] = (int8_t)((src[2 + i] & 15) - 8);
        b->q[16 + i] = (int8_t)((src[2 + i] >> 4) - 8);
    }
}

static void decode_q8_0(const uint8_t *src, block *b) {
    b->d = exo_f16_to_f32(exo_get_u16(src));
    memcpy(b->q, src + 2, 32);
}

static void decode_q4_k(const uint8_t *src, block *b) {
    const uint8_t *s = src + 4, *q = src + 16;
    b->d = exo_f16_to_f32(exo_get_u16(src));
    b->dmin = exo_f16_to_f32(exo_get_u16(src + 2));
    for (int j = 0; j < 4; j++) {
        b->scale[j] = s[j] & 63;
        b->min[j] = s[4 + j] & 63;
        b->scale[4 + j] = (s[8 + j] & 15) | (s[j] >> 6 << 4);
        b->min[4 + j] = (s[8 + j] >> 4) | (s[4 + j] >> 6 << 4);
    }
    for (int c = 0; c < 4; c++) {
        for (int i = 0; i < 32; i++) {
            b->q[c * 64 + i] = (int8_t)(q[c * 32 + i] & 15);
            b->q[c * 64 + 32 + i] = (int8_t)(q[c * 32 + i] >> 4);
        }
    }
}

static int32_t signed_byte(uint8_t u) { return u < 128 ? u : (int32_t)u - 256; }

static void decode_q6_k(const uint8_t *src, block *b) {
    b->d = exo_f16_to_f32(exo_get_u16(src + 208));
    for (int j = 0; j < 16; j++) b->scale[j] = signed_byte(src[192 + j]);
    for (int half = 0; half < 2; half++) {
        const uint8_t *low = src + half * 64, *high = src + 128 + half * 32;
        int8_t *q = b->q + half * 128;
        for (int i = 0; i < 32; i++) {
            q[i] = (int8_t)(((low[i] & 15) | (high[i] & 3) << 4) - 32);
            q[32 + i] = (int8_t)(((low[32 + i] & 15) | (high[i] >> 2 & 3) << 4) - 32);
            q[64 + i] = (int8_t)(((low[i] >> 4) | (high[i] >> 4 & 3) << 4) - 32);
            q[96 + i] = (int8_t)(((low[32 + i] >> 4) | (high[i] >> 6) << 4) - 32);
        }
    }
}

static void decode(const exo_weight *w, uint32_t row, uint32_t i, block *b) {
    uint8_t src[MAX_BLOCK_BYTES];
    exo_weight_block(w, row, i, src);
    if (w->type == EXO_Q4_0) {
        decode_q4_0(src, b);
    } else if (w->type == EXO_Q8_0) {
        decode_q8_0(src, b);
    } else if (w->type == EXO_Q4_K) {
        decode_q4_k(src, b);
    } else {
        decode_q6_k(src, b);
    }
}

static float element(const exo_weight *w, uint32_t row, uint32_t k) {
    uint8_t src[4];
    exo_weight_block(w, row, k, src);
    if (w->type == EXO_F32) return exo_get_f32(src);
    uint16_t h = exo_get_u16(src);
    return w->type == EXO_F16 ? exo_f16_to_f32(h) : exo_bf16_to_f32(h);
}

static int32_t dot(const int8_t *a, const int8_t *b, uint32_t n) {
    int32_t sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* One block of one row times column c of the activations, added to acc. */
static float add_block(const exo_matmul_task *t, const block *b, uint32_t i, uint32_t c,
                       float acc) {
    const exo_act *a = t->a;
    float dx = a->d[c * a->ld_d + i];
    if (exo_act_form_of(t->w->type) == EXO_ACT_Q32) {
        const int8_t *x = a->q + c * a->ld_q + (size_t)i * 32;
        return fmaf((float)dot(b->q, x, 32), b->d * dx, acc);
    }
    const int8_t *x = a->q + c * a->ld_q + (size_t)i * 256;
    bool q4 = t->w->type == EXO_Q4_K;
    uint32_t sub = q4 ? 32 : 16;
    int32_t isum = 0, msum = 0;
    for (uint32_t j = 0; j < 256 / sub; j++) {
        isum += b->scale[j] * dot(b->q + j * sub, x + j * sub, sub);
        if (q4) msum += b->min[j] * a->sums[(c * a->ld_d + i) * EXO_Q256_SUMS + exo_sum32_at(j)];
    }
    acc = fmaf((float)isum, b->d * dx, acc);
    return q4 ? fmaf(-(float)msum, b->dmin * dx, acc) : acc;
}

static void matmul_blocks(const exo_matmul_task *t, uint32_t row, float *y) {
    for (uint32_t c = 0; c < t->n; c++) y[c * t->ld_y] = 0;
    for (uint32_t i = 0; i < t->w->n_blocks; i++) {
        block b;
        decode(t->w, row, i, &b);
        for (uint32_t c = 0; c < t->n; c++) {
            y[c * t->ld_y] = add_block(t, &b, i, c, y[c * t->ld_y]);
        }
    }
}

static void matmul_floats(const exo_matmul_task *t, uint32_t row, float *y) {
    const exo_act *a = t->a;
    uint32_t n_cols = t->w->n_cols;
    for (uint32_t c = 0; c < t->n; c++) y[c * t->ld_y] = 0;
    for (uint32_t k0 = 0; k0 < n_cols; k0 += EXO_FLOAT_CHUNK) {
        uint32_t n = n_cols - k0 < EXO_FLOAT_CHUNK ? n_cols - k0 : EXO_FLOAT_CHUNK;
        float w[EXO_FLOAT_CHUNK];
        for (uint32_t k = 0; k < n; k++) w[k] = element(t->w, row, k0 + k);
        for (uint32_t c = 0; c < t->n; c++) {
            float part = 0;
            for (uint32_t k = 0; k < n; k++) part = fmaf(w[k], a->x[c * a->ld_x + k0 + k], part);
            y[c * t->ld_y] += part;
        }
    }
}

void exo_ref_matmul(const exo_matmul_task *t) {
    bool floats = exo_act_form_of(t->w->type) == EXO_ACT_F32;
    for (uint32_t i = 0; i < t->n_groups * EXO_GROUP_ROWS; i++) {
        uint32_t row = t->g0 * EXO_GROUP_ROWS + i;
        if (floats) {
            matmul_floats(t, row, t->y + i);
        } else {
            matmul_blocks(t, row, t->y + i);
        }
    }
}

void exo_ref_embed(const exo_weight *w, uint32_t row, float *out) {
    if (exo_act_form_of(w->type) == EXO_ACT_F32) {
        for (uint32_t k = 0; k < w->n_cols; k++) out[k] = element(w, row, k);
        return;
    }
    uint32_t elems = exo_dtype_get(w->type)->block_elems;
    for (uint32_t i = 0; i < w->n_blocks; i++, out += elems) {
        block b;
        decode(w, row, i, &b);
        for (uint32_t k = 0; k < elems; k++) {
            float q = (float)b.q[k];
            if (w->type == EXO_Q4_K) {
                uint32_t sub = k / 32;
                float scaled = b.d * (float)b.scale[sub], min = b.dmin * (float)b.min[sub];
                out[k] = scaled * q - min;
            } else if (w->type == EXO_Q6_K) {
                uint32_t sub = k / 16;
                out[k] = (b.d * (float)b.scale[sub]) * q;
            } else {
                out[k] = b.d * q;
            }
        }
    }
}
