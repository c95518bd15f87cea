/* unpacked_avx512.c - unpacked.h with AVX-512 VNNI: one register is 16 rows x 4 bytes.
 *
 * vpdpbusd multiplies unsigned by signed bytes: weights lose their sign to the activations, so
 * that no offset has to be put right. */
#include "compute/cpu/matmul_x86.h"
#include "compute/cpu/unroll.h"

#include <immintrin.h>
#include <string.h>

#define BV_ROWS 16

typedef __m512i bv;
typedef __m512i iv;
typedef __m512 fv;

EXO_INLINE bv bv_load(const void *p) { return _mm512_loadu_si512(p); }
EXO_INLINE void bv_store(void *p, bv v) { _mm512_storeu_si512(p, v); }
EXO_INLINE bv bv_load_u16(const uint8_t *p) {
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
EXO_INLINE bv bv_load_u8(const uint8_t *p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
}
EXO_INLINE bv bv_bytes(int b) { return _mm512_set1_epi8((char)b); }
EXO_INLINE bv bv_words(uint32_t w) { return _mm512_set1_epi32((int32_t)w); }
EXO_INLINE bv bv_table(const int8_t t[16]) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)t));
}
EXO_INLINE bv bv_and(bv a, bv b) { return _mm512_and_si512(a, b); }
EXO_INLINE bv bv_or(bv a, bv b) { return _mm512_or_si512(a, b); }
EXO_INLINE bv bv_sub8(bv a, bv b) { return _mm512_sub_epi8(a, b); }
EXO_INLINE bv bv_same8(bv a, bv b) { return _mm512_movm_epi8(_mm512_cmpeq_epi8_mask(a, b)); }
EXO_INLINE bv bv_sub32(bv a, bv b) { return _mm512_sub_epi32(a, b); }
EXO_INLINE bv bv_shr(bv v, int n) { return _mm512_srli_epi32(v, (unsigned)n); }
EXO_INLINE bv bv_shl(bv v, int n) { return _mm512_slli_epi32(v, (unsigned)n); }
EXO_INLINE bv bv_sar(bv v, int n) { return _mm512_srai_epi32(v, (unsigned)n); }
EXO_INLINE bv bv_pick(bv table, bv index) { return _mm512_shuffle_epi8(table, index); }

EXO_INLINE iv iv_zero(void) { return _mm512_setzero_si512(); }

EXO_INLINE bv spread4(const void *p) {
    int32_t v;
    memcpy(&v, p, sizeof v);
    return _mm512_set1_epi32(v);
}

EXO_INLINE void bv_dot16(iv *sum, const int8_t *q, const int8_t *x, size_t ld, bv scale,
                         const int N, const int steps) {
    bv w[4];
    __mmask64 negative[4];
    (void)steps; /* products are added as int32 */
    EXO_UNROLL for (int i = 0; i < 4; i++) {
        bv v = bv_load(q + i * 64);
        w[i] = _mm512_abs_epi8(v);
        negative[i] = _mm512_movepi8_mask(v);
    }
    scale = bv_sar(scale, 16);
    EXO_UNROLL for (int k = 0; k < N; k++) {
        iv dot = _mm512_setzero_si512();
        EXO_UNROLL for (int i = 0; i < 4; i++) {
            bv xv = spread4(x + k * ld + i * 4);
            xv = _mm512_mask_sub_epi8(xv, negative[i], _mm512_setzero_si512(), xv);
            dot = _mm512_dpbusd_epi32(dot, w[i], xv);
        }
        sum[k] = _mm512_add_epi32(sum[k], _mm512_mullo_epi32(dot, scale));
    }
}

EXO_INLINE iv bv_sums(iv sum, bv min, const int16_t *x) {
    return _mm512_dpwssd_epi32(sum, min, spread4(x));
}

EXO_INLINE fv fv_zero(void) { return _mm512_setzero_ps(); }
EXO_INLINE fv fv_all(float x) { return _mm512_set1_ps(x); }
EXO_INLINE fv fv_load(const float *p) { return _mm512_loadu_ps(p); }
EXO_INLINE void fv_store(float *p, fv v) { _mm512_storeu_ps(p, v); }
EXO_INLINE fv fv_load_f16(const uint8_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
EXO_INLINE fv fv_of(iv v) { return _mm512_cvtepi32_ps(v); }
EXO_INLINE fv fv_scaled(fv v, float s) { return _mm512_mul_ps(v, _mm512_set1_ps(s)); }
EXO_INLINE fv fv_fma(fv a, fv b, fv c) { return _mm512_fmadd_ps(a, b, c); }
EXO_INLINE fv fv_fnma(fv a, fv b, fv c) { return _mm512_fnmadd_ps(a, b, c); }

#include "compute/cpu/unpacked.h"

void exo_avx512_unpacked(const exo_matmul_task *t) {
    if (!exo_avx512_unpacked_one(t)) unpacked_matmul(t);
}
