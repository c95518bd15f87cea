/* testing.h - reproducible inputs for the tests and benchmarks of this folder. */
#ifndef EXO_COMPUTE_CPU_TESTING_H
#define EXO_COMPUTE_CPU_TESTING_H

#include "base/half.h"
#include "base/le.h"
#include "compute/dtype.h"

#include <stdint.h>
#include <string.h>

typedef struct {
    uint64_t state;
} test_rng;

static inline uint64_t test_next(test_rng *r) { /* splitmix64 */
    uint64_t z = (r->state += 0x9E3779B97F4A7C15u);
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static inline float test_float(test_rng *r) { /* [-1, 1) */
    return (float)(test_next(r) >> 40) * 0x1p-23f - 1.0f;
}

/* Mostly moderate, some outliers, some zero and some tiny blocks. */
static inline void test_floats(test_rng *r, float *x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        x[i] = test_float(r);
        if (test_next(r) % 64 == 0) x[i] *= 8;
    }
    for (size_t b = 0; b + 32 <= n; b += 32) {
        uint64_t kind = test_next(r) % 16;
        for (size_t i = 0; i < 32 && kind < 2; i++) x[b + i] = kind == 0 ? 0 : 1e-40f;
    }
}

/* Where a block has its f16 scales: byte offsets, -1 for none. */
static inline void test_scales_at(exo_dtype type, int at[2]) {
    at[0] = 0;
    at[1] = -1;
    switch (type) {
    case EXO_Q4_1:
    case EXO_Q5_1:
    case EXO_Q4_K:
    case EXO_Q5_K: at[1] = 2; return;
    case EXO_Q2_K: at[0] = 80, at[1] = 82; return;
    case EXO_Q3_K: at[0] = 108; return;
    case EXO_Q6_K: at[0] = 208; return;
    case EXO_MXFP4:
    case EXO_IQ1_M: at[0] = -1; return;
    default: return;
    }
}

/* The scales of one block; sometimes any denormal. */
static inline void test_put_scales(test_rng *r, exo_dtype type, uint8_t *block) {
    int at[2];
    bool wide = exo_dtype_get(type)->block_elems == 256;
    test_scales_at(type, at);
    for (int i = 0; i < 2; i++) {
        if (at[i] < 0) continue;
        uint64_t bits = test_next(r);
        float scale = (wide ? 0.0002f : 0.002f) * (1 + 0.5f * test_float(r));
        exo_put_u16(block + at[i],
                    bits % 64 == 0 ? (uint16_t)(bits >> 8 & 0x83FF) : exo_f32_to_f16(scale));
    }
    if (type == EXO_MXFP4) block[0] = (uint8_t)(test_next(r) % 64 == 0 ? 1 : 114 + block[0] % 8);
    if (type == EXO_IQ1_M) { /* the top nibbles of four words, here of a scale below 1 */
        for (int w = 0; w < 4; w++) block[49 + 2 * w] &= w == 3 ? 0x1F : 0xFF;
    }
}

/* n_blocks blocks of any packed type as a file holds them: all bit patterns of quants and integer
 * scales, moderate f16 scales with some denormals. */
static inline void test_weights(test_rng *r, exo_dtype type, uint8_t *dst, size_t n_blocks) {
    size_t bytes = exo_dtype_get(type)->block_bytes;
    for (size_t b = 0; b < n_blocks; b++, dst += bytes) {
        for (size_t i = 0; i < bytes; i++) dst[i] = (uint8_t)(test_next(r) >> 56);
        if (type == EXO_F32) {
            exo_put_f32(dst, test_float(r) * 0.05f);
        } else if (type == EXO_F16) {
            exo_put_u16(dst, exo_f32_to_f16(test_float(r) * 0.05f));
        } else if (type == EXO_BF16) {
            exo_put_u16(dst, exo_f32_to_bf16(test_float(r) * 0.05f));
        } else {
            test_put_scales(r, type, dst);
        }
    }
}

static inline uint64_t test_hash(const void *bytes, size_t n, uint64_t h) { /* FNV-1a */
    const uint8_t *b = bytes;
    if (h == 0) h = 1469598103934665603u;
    for (size_t i = 0; i < n; i++) h = (h ^ b[i]) * 1099511628211u;
    return h;
}

#define TEST_N_TYPES 23
static const exo_dtype test_types[TEST_N_TYPES] = {
    EXO_F32,     EXO_F16,    EXO_BF16,  EXO_Q4_0,    EXO_Q8_0,  EXO_Q4_K,   EXO_Q6_K,  EXO_Q4_1,
    EXO_Q5_0,    EXO_Q5_1,   EXO_Q2_K,  EXO_Q3_K,    EXO_Q5_K,  EXO_IQ4_NL, EXO_MXFP4, EXO_IQ4_XS,
    EXO_IQ2_XXS, EXO_IQ2_XS, EXO_IQ2_S, EXO_IQ3_XXS, EXO_IQ3_S, EXO_IQ1_S,  EXO_IQ1_M};

#endif
