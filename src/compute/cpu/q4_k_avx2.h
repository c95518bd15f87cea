/* q4_k_avx2.h - the scales and minima of Q4_K's super-blocks with AVX2; Q5_K's are the same. */
#ifndef EXO_COMPUTE_CPU_Q4_K_AVX2_H
#define EXO_COMPUTE_CPU_Q4_K_AVX2_H

#include "compute/cpu/tile_avx2.h"

typedef struct {
    __m256i scale[2], min[2]; /* bytes of 32-bit lanes: sub-blocks 0-3 and 4-7 */
} q4_k_scales;

EXO_INLINE q4_k_scales q4_k_unpack(const uint8_t *s) {
    const __m256i m6 = _mm256_set1_epi8(0x3F), m4 = _mm256_set1_epi8(0x0F);
    const __m256i top = _mm256_set1_epi8(0x30);
    __m256i w0 = load(s), w1 = load(s + 64), w2 = load(s + 128);
    q4_k_scales u;
    u.scale[0] = _mm256_and_si256(w0, m6);
    u.min[0] = _mm256_and_si256(w1, m6);
    u.scale[1] =
        _mm256_or_si256(_mm256_and_si256(w2, m4), _mm256_and_si256(_mm256_srli_epi32(w0, 2), top));
    u.min[1] = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi32(w2, 4), m4),
                               _mm256_and_si256(_mm256_srli_epi32(w1, 2), top));
    return u;
}

/* sum m_j * sum_j over the 8 sub-blocks. */
EXO_INLINE __m256i q4_k_minima(const q4_k_scales *u, const int16_t *sums) {
    const __m256i even = _mm256_set1_epi32(0x00FF00FF);
    __m256i m = _mm256_setzero_si256();
    EXO_UNROLL for (int h = 0; h < 2; h++) {
        __m256i e = _mm256_and_si256(u->min[h], even);
        __m256i o = _mm256_and_si256(_mm256_srli_epi32(u->min[h], 8), even);
        m = _mm256_add_epi32(m, _mm256_madd_epi16(e, spread4(sums + h * 4)));
        m = _mm256_add_epi32(m, _mm256_madd_epi16(o, spread4(sums + h * 4 + 2)));
    }
    return m;
}

/* The sub-blocks' sums of one half of a group, times their block's scales, added to f (N each). */
EXO_INLINE void q4_k_add(const uint8_t *s, const int h, const exo_tile *t, uint32_t b,
                         const q4_k_scales *u, const __m256i *isum, __m256 *f, const int N) {
    __m256 dw = load_f16(s + h * 16), dmin = load_f16(s + 32 + h * 16);
    EXO_UNROLL for (int k = 0; k < N; k++) {
        __m256 dx = _mm256_set1_ps(t->d[k * t->ld_d + b]);
        __m256i m = q4_k_minima(u, t->sums + (k * t->ld_d + b) * EXO_Q256_SUMS);
        f[k] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(isum[k]), _mm256_mul_ps(dw, dx), f[k]);
        f[k] = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(m), _mm256_mul_ps(dmin, dx), f[k]);
    }
}

#endif
