/* unpacked_avx2.c - unpacked.h with AVX2: two registers are 16 rows x 4 bytes.
 *
 * vpmaddubsw multiplies unsigned by signed bytes and saturates at int16: weights lose their sign
 * to the activations, and no more pair sums are added than fit. */
#include "compute/cpu/matmul_x86.h"
#include "compute/cpu/unroll.h"

#include <immintrin.h>
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

EXO_INLINE void bv_dot16(iv *sum, const int8_t *q, const int8_t *x, size_t ld, bv scale,
                         const int N, const int steps) {
    EXO_UNROLL for (int i = 0; i < 4; i += steps) {
        bv w[4], size[4];
        EXO_UNROLL for (int j = 0; j < steps; j++) {
            w[j] = bv_load(q + (i + j) * 64);
            size[j] = _mm256_abs_epi8(w[j]);
        }
        EXO_UNROLL for (int k = 0; k < N; k++) {
            bv pairs = _mm256_setzero_si256();
            EXO_UNROLL for (int j = 0; j < steps; j++) {
                bv xv = _mm256_sign_epi8(spread4(x + k * ld + (i + j) * 4), w[j]);
                pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(size[j], xv));
            }
            sum[k] = _mm256_add_epi32(sum[k], _mm256_madd_epi16(pairs, scale));
        }
    }
}

EXO_INLINE iv bv_sums(iv sum, bv min, const int16_t *x) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(min, spread4(x)));
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

#include "compute/cpu/unpacked.h"

#include "compute/cpu/paired_avx2.h"

bool exo_avx2_paired(const exo_matmul_task *t) { return paired_matmul(t); }

void exo_avx2_unpacked(const exo_matmul_task *t) {
    if (!exo_avx2_unpacked_one(t) && !paired_matmul(t)) unpacked_matmul(t);
}
