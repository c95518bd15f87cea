/* v16_avx512.h - sixteen floats in one 512-bit register; see v16_ops.h for what each must do. */
#ifndef EXO_COMPUTE_CPU_V16_AVX512_H
#define EXO_COMPUTE_CPU_V16_AVX512_H

#include <immintrin.h>
#include <stdint.h>

#define V16_QUERIES 4  /* queries in one attention tile */
#define V16_ACCS    16 /* vectors of sums in it */
#define V16_EXPS    4  /* vectors whose e^x go abreast */

typedef __m512 v16;
typedef __m512i v16i;

static inline __mmask16 v16_first(uint32_t n) { return (__mmask16)((1u << n) - 1); } /* n < 16 */

static inline v16 v16_set1(float x) { return _mm512_set1_ps(x); }
static inline v16 v16_load(const float *p) { return _mm512_loadu_ps(p); }
static inline v16 v16_load_n(const float *p, uint32_t n) {
    return _mm512_maskz_loadu_ps(v16_first(n), p);
}
static inline v16 v16_load_f16(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
static inline v16 v16_load_f16_n(const uint16_t *p, uint32_t n) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(v16_first(n), p));
}
static inline v16 v16_load_i8(const int8_t *p) {
    return _mm512_cvtepi32_ps(
        _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)));
}
static inline void v16_store(float *p, v16 a) { _mm512_storeu_ps(p, a); }
static inline void v16_store_n(float *p, v16 a, uint32_t n) {
    _mm512_mask_storeu_ps(p, v16_first(n), a);
}
static inline v16 v16_add(v16 a, v16 b) { return _mm512_add_ps(a, b); }
static inline v16 v16_sub(v16 a, v16 b) { return _mm512_sub_ps(a, b); }
static inline v16 v16_mul(v16 a, v16 b) { return _mm512_mul_ps(a, b); }
static inline v16 v16_div(v16 a, v16 b) { return _mm512_div_ps(a, b); }
static inline v16 v16_fma(v16 a, v16 b, v16 c) { return _mm512_fmadd_ps(a, b, c); }
static inline v16 v16_min(v16 a, v16 b) { return _mm512_min_ps(a, b); }
static inline v16 v16_max(v16 a, v16 b) { return _mm512_max_ps(a, b); }
static inline v16 v16_round(v16 a) {
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline v16 v16_pow2(v16 n) {
    __m512i e = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(e, 23));
}
static inline v16 v16_keep_first(v16 a, uint32_t n, float fill) {
    return _mm512_mask_mov_ps(_mm512_set1_ps(fill), v16_first(n), a);
}
static inline v16 v16_round_f16(v16 a) {
    return _mm512_cvtph_ps(_mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static inline float v16_sum(v16 v) {
    __m256 a = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}
static inline float v16_top(v16 v) { return _mm512_reduce_max_ps(v); }
static inline v16i v16_magnitude(v16 a) {
    return _mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32(0x7FFFFFFF));
}
static inline v16i v16i_add(v16i a, v16i b) { return _mm512_add_epi32(a, b); }
static inline v16i v16i_max(v16i a, v16i b) { return _mm512_max_epi32(a, b); }
static inline int32_t v16i_top(v16i a) { return _mm512_reduce_max_epi32(a); }
static inline v16i v16_to_int(v16 a) { return _mm512_cvtps_epi32(a); }
static inline int32_t v16i_sum(v16i a) { return _mm512_reduce_add_epi32(a); }
static inline void v16i_store_i8(int8_t *p, v16i a) {
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(a));
}
static inline uint64_t v16_stream(const uint8_t *p, size_t bytes) {
    __m512i a[4] = {_mm512_setzero_si512()};
    size_t quarter = bytes / 4;
    a[1] = a[2] = a[3] = a[0];
    for (size_t i = 0; i + 64 <= quarter; i += 64) {
        for (int k = 0; k < 4; k++) {
            const uint8_t *from = p + k * quarter + i;
            _mm_prefetch((const char *)from + 512, _MM_HINT_T0);
            a[k] = _mm512_xor_si512(a[k], _mm512_load_si512((const void *)from));
        }
    }
    a[0] = _mm512_xor_si512(_mm512_xor_si512(a[0], a[1]), _mm512_xor_si512(a[2], a[3]));
    return (uint64_t)_mm512_reduce_add_epi64(a[0]);
}

#endif
