/* bv_avx2.h - registers of 4 bytes for 8 rows, as unpack.h wants them, with AVX2. */
#ifndef EXO_COMPUTE_CPU_BV_AVX2_H
#define EXO_COMPUTE_CPU_BV_AVX2_H

#include "compute/cpu/unroll.h"

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define BV_ROWS 8

typedef __m256i bv;
typedef __m256i iv;
typedef __m256 fv;

EXO_INLINE bv bv_load(const void *p) { return _mm256_loadu_si256(p); }
EXO_INLINE void bv_store(void *p, bv v) { _mm256_storeu_si256(p, v); }
EXO_INLINE bv bv_load_u16(const uint8_t *p) {
    return _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
}
EXO_INLINE bv bv_load_u8(const uint8_t *p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p));
}
EXO_INLINE bv bv_bytes(int b) { return _mm256_set1_epi8((char)b); }
EXO_INLINE bv bv_words(uint32_t w) { return _mm256_set1_epi32((int32_t)w); }
EXO_INLINE bv bv_table(const int8_t t[16]) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)t));
}
EXO_INLINE bv bv_and(bv a, bv b) { return _mm256_and_si256(a, b); }
EXO_INLINE bv bv_or(bv a, bv b) { return _mm256_or_si256(a, b); }
EXO_INLINE bv bv_sub8(bv a, bv b) { return _mm256_sub_epi8(a, b); }
EXO_INLINE bv bv_same8(bv a, bv b) { return _mm256_cmpeq_epi8(a, b); }
EXO_INLINE bv bv_sub32(bv a, bv b) { return _mm256_sub_epi32(a, b); }
EXO_INLINE bv bv_shr(bv v, int n) { return _mm256_srli_epi32(v, n); }
EXO_INLINE bv bv_shl(bv v, int n) { return _mm256_slli_epi32(v, n); }
EXO_INLINE bv bv_sar(bv v, int n) { return _mm256_srai_epi32(v, n); }
EXO_INLINE bv bv_pick(bv table, bv index) { return _mm256_shuffle_epi8(table, index); }

EXO_INLINE iv iv_zero(void) { return _mm256_setzero_si256(); }

EXO_INLINE bv spread4(const void *p) {
    int32_t v;
    memcpy(&v, p, sizeof v);
    return _mm256_set1_epi32(v);
}

/* Sums that are added to one by one: regrouped, they would need more registers than there are. */
EXO_INLINE iv in_order(iv v) {
    __asm__("" : "+x"(v));
    return v;
}

EXO_INLINE fv fv_zero(void) { return _mm256_setzero_ps(); }
EXO_INLINE fv fv_all(float x) { return _mm256_set1_ps(x); }
EXO_INLINE fv fv_load(const float *p) { return _mm256_loadu_ps(p); }
EXO_INLINE void fv_store(float *p, fv v) { _mm256_storeu_ps(p, v); }
EXO_INLINE fv fv_load_f16(const uint8_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}
EXO_INLINE fv fv_of(iv v) { return _mm256_cvtepi32_ps(v); }
EXO_INLINE fv fv_scaled(fv v, float s) { return _mm256_mul_ps(v, _mm256_set1_ps(s)); }
EXO_INLINE fv fv_fma(fv a, fv b, fv c) { return _mm256_fmadd_ps(a, b, c); }
EXO_INLINE fv fv_fnma(fv a, fv b, fv c) { return _mm256_fnmadd_ps(a, b, c); }

#endif
