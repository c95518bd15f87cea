/* reference_matmul.c - products and embedding rows in plain C, straight from the file's blocks.
 *
 * Each block is taken back out of the packed layout and decoded as the file format defines it
 * (compute/blocks.h), so this file does not depend on how weights are packed. */
#include "compute/cpu/reference.h"

#include "base/half.h"
#include "base/le.h"
#include "compute/blocks.h"

#include <math.h>

static void decode(const exo_weight *w, uint32_t row, uint32_t i, exo_block *b) {
    uint8_t src[EXO_BLOCK_MAX_BYTES];
    exo_weight_block(w, row, i, src);
    exo_block_decode(w->type, src, b);
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

static int32_t sum_of(const int8_t *q, uint32_t n) {
    int32_t sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += q[i];
    return sum;
}

/* One block of one row times column c of the activations, added to acc. */
static float add_block(const exo_matmul_task *t, const exo_block *b, uint32_t i, uint32_t c,
                       float acc) {
    const exo_act *a = t->a;
    float dx = a->d[c * a->ld_d + i];
    bool wide = exo_act_form_of(t->w->type) == EXO_ACT_Q256;
    uint32_t elems = wide ? 256 : 32;
    const int8_t *x = a->q + c * a->ld_q + (size_t)i * elems;
    int32_t isum = 0, msum = 0;
    for (uint32_t j = 0; j < elems / b->sub; j++) {
        isum += b->scale[j] * dot(b->q + j * b->sub, x + j * b->sub, b->sub);
        msum += b->has_min ? b->min[j] * sum_of(x + j * b->sub, b->sub) : 0;
    }
    acc = fmaf((float)isum, b->d * dx, acc);
    return b->has_min ? fmaf(-(float)msum, b->dmin * dx, acc) : acc;
}

static void matmul_blocks(const exo_matmul_task *t, uint32_t row, float *y) {
    for (uint32_t c = 0; c < t->n; c++) y[c * t->ld_y] = 0;
    for (uint32_t i = 0; i < t->w->n_blocks; i++) {
        exo_block b;
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
        uint8_t src[EXO_BLOCK_MAX_BYTES];
        exo_weight_block(w, row, i, src);
        exo_dequantize(w->type, src, elems, out);
    }
}
