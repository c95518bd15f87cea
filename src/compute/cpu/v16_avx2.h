/* v16_avx2.h - sixteen floats in two 256-bit registers; see v16_ops.h for what each must do. */
#ifndef EXO_COMPUTE_CPU_V16_AVX2_H
#define EXO_COMPUTE_CPU_V16_AVX2_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define V16_QUERIES 4 /* queries in one attention tile */
#define V16_ACCS    4 /* vectors of sums in it */
#define V16_EXPS    4 /* vectors whose e^x go abreast */

typedef struct {
    __m256 lo, hi;
} v16;
typedef struct {
    __m256i lo, hi;
} v16i;

#define V16_EACH(f, a, b) ((v16){f((a).lo, (b).lo), f((a).hi, (b).hi)})
#define V16_NEAREST       (_MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)

static inline v16 v16_set1(float x) { return (v16){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
static inline v16 v16_load(const float *p) {
    return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
static inline v16 v16_load_n(const float *p, uint32_t n) {
    float f[16] = {0};
    memcpy(f, p, n * sizeof *f);
    return v16_load(f);
}
static inline v16 v16_load_f16(const uint16_t *p) {
    return (v16){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p)),
                 _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(p + 8)))};
}
static inline v16 v16_load_f16_n(const uint16_t *p, uint32_t n) {
    uint16_t h[16] = {0};
    memcpy(h, p, n * sizeof *h);
    return v16_load_f16(h);
}
static inline v16 v16_load_i8(const int8_t *p) {
    __m128i b = _mm_loadu_si128((const __m128i *)(const void *)p);
    return (v16){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(b)),
                 _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(b, 8)))};
}
static inline void v16_store(float *p, v16 a) {
    _mm256_storeu_ps(p, a.lo);
    _mm256_storeu_ps(p + 8, a.hi);
}
static inline void v16_store_n(float *p, v16 a, uint32_t n) {
    float f[16];
    v16_store(f, a);
    memcpy(p, f, n * sizeof *f);
}
static inline v16 v16_add(v16 a, v16 b) { return V16_EACH(_mm256_add_ps, a, b); }
static inline v16 v16_sub(v16 a, v16 b) { return V16_EACH(_mm256_sub_ps, a, b); }
static inline v16 v16_mul(v16 a, v16 b) { return V16_EACH(_mm256_mul_ps, a, b); }
static inline v16 v16_div(v16 a, v16 b) { return V16_EACH(_mm256_div_ps, a, b); }
static inline v16 v16_fma(v16 a, v16 b, v16 c) {
    return (v16){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
static inline v16 v16_min(v16 a, v16 b) { return V16_EACH(_mm256_min_ps, a, b); }
static inline v16 v16_max(v16 a, v16 b) { return V16_EACH(_mm256_max_ps, a, b); }
static inline v16 v16_round(v16 a) {
    return (v16){_mm256_round_ps(a.lo, V16_NEAREST), _mm256_round_ps(a.hi, V16_NEAREST)};
}
static inline __m256 v8_pow2(__m256 n) {
    __m256i e = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(e, 23));
}
static inline v16 v16_pow2(v16 n) { return (v16){v8_pow2(n.lo), v8_pow2(n.hi)}; }
static inline v16 v16_keep_first(v16 a, uint32_t n, float fill) {
    float f[16];
    v16_store(f, a);
    for (uint32_t i = n; i < 16; i++) f[i] = fill;
    return v16_load(f);
}
static inline v16 v16_round_f16(v16 a) {
    return (v16){_mm256_cvtph_ps(_mm256_cvtps_ph(a.lo, V16_NEAREST)),
                 _mm256_cvtph_ps(_mm256_cvtps_ph(a.hi, V16_NEAREST))};
}
static inline float v16_sum(v16 v) {
    __m256 a = _mm256_add_ps(v.lo, v.hi);
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}
static inline float v16_top(v16 v) {
    __m256 a = _mm256_max_ps(v.lo, v.hi);
    __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}
static inline v16i v16_magnitude(v16 a) {
    __m256i mask = _mm256_set1_epi32(0x7FFFFFFF);
    return (v16i){_mm256_and_si256(_mm256_castps_si256(a.lo), mask),
                  _mm256_and_si256(_mm256_castps_si256(a.hi), mask)};
}
static inline v16i v16i_add(v16i a, v16i b) {
    return (v16i){_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)};
}
static inline v16i v16i_max(v16i a, v16i b) {
    return (v16i){_mm256_max_epi32(a.lo, b.lo), _mm256_max_epi32(a.hi, b.hi)};
}
static inline int32_t v16i_top(v16i v) {
    __m256i a = _mm256_max_epi32(v.lo, v.hi);
    __m128i b = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    b = _mm_max_epi32(b, _mm_shuffle_epi32(b, 0x4E));
    return _mm_cvtsi128_si32(_mm_max_epi32(b, _mm_shuffle_epi32(b, 0xB1)));
}
static inline v16i v16_to_int(v16 a) {
    return (v16i){_mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi)};
}
static inline int32_t v16i_sum(v16i v) {
    __m256i a = _mm256_add_epi32(v.lo, v.hi);
    __m128i b = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    b = _mm_add_epi32(b, _mm_shuffle_epi32(b, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(b, _mm_shuffle_epi32(b, 0xB1)));
}
static inline void v16i_store_i8(int8_t *p, v16i a) {
    __m256i w = _mm256_packs_epi32(a.lo, a.hi); /* 0-3 8-11 | 4-7 12-15 */
    w = _mm256_permute4x64_epi64(w, 0xD8);
    __m128i b = _mm_packs_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1));
    _mm_storeu_si128((__m128i *)(void *)p, b);
}
static inline uint64_t v16_stream(const uint8_t *p, size_t bytes) {
    __m256i a[4], sum = _mm256_setzero_si256();
    size_t quarter = bytes / 4;
    for (int k = 0; k < 4; k++) a[k] = sum;
    for (size_t i = 0; i + 64 <= quarter; i += 64) {
        for (int k = 0; k < 4; k++) {
            const __m256i *from = (const __m256i *)(const void *)(p + k * quarter + i);
            _mm_prefetch((const char *)from + 512, _MM_HINT_T0);
            a[k] = _mm256_xor_si256(a[k], _mm256_load_si256(from));
            a[k] = _mm256_xor_si256(a[k], _mm256_load_si256(from + 1));
        }
    }
    for (int k = 0; k < 4; k++) sum = _mm256_xor_si256(sum, a[k]);
    return (uint64_t)_mm256_extract_epi64(sum, 0) ^ (uint64_t)_mm256_extract_epi64(sum, 1) ^
           (uint64_t)_mm256_extract_epi64(sum, 2) ^ (uint64_t)_mm256_extract_epi64(sum, 3);
}

#undef V16_EACH
#undef V16_NEAREST

#endif
