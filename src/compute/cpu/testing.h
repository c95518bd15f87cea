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

/* The f16 scales of one block; sometimes any denormal. */
static inline void test_put_scales(test_rng *r, exo_dtype type, uint8_t *block) {
    bool k = type == EXO_Q4_K || type == EXO_Q6_K;
    uint8_t *at[2] = {type == EXO_Q6_K ? block + 208 : block, block + 2};
    for (int i = 0; i < (type == EXO_Q4_K ? 2 : 1); i++) {
        uint64_t bits = test_next(r);
        float scale = (k ? 0.0002f : 0.002f) * (1 + 0.5f * test_float(r));
        exo_put_u16(at[i], bits % 64 == 0 ? (uint16_t)(bits >> 8 & 0x83FF) : exo_f32_to_f16(scale));
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

#define TEST_N_TYPES 7
static const exo_dtype test_types[TEST_N_TYPES] = {EXO_F32,  EXO_F16,  EXO_BF16, EXO_Q4_0,
                                                   EXO_Q8_0, EXO_Q4_K, EXO_Q6_K};

#endif
