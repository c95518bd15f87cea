/* immintrin.h - AVX-512 and AVX-VNNI on a processor that has AVX2 only.
 *
 * Stands before the compiler's header of that name where kernel files are compiled for
 * compute_kernels_emulated_test: the very files, for which SIMDe and the functions below compute
 * what each instruction is specified to.  The bits are those of the instructions; the speed is
 * not. */
#ifndef EXO_EMULATE_IMMINTRIN_H
#define EXO_EMULATE_IMMINTRIN_H
#pragma GCC system_header /* as the next two are */

#include_next <immintrin.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512/abs.h>
#include <simde/x86/avx512/add.h>
#include <simde/x86/avx512/and.h>
#include <simde/x86/avx512/broadcast.h>
#include <simde/x86/avx512/cast.h>
#include <simde/x86/avx512/div.h>
#include <simde/x86/avx512/fmadd.h>
#include <simde/x86/avx512/fnmadd.h>
#include <simde/x86/avx512/load.h>
#include <simde/x86/avx512/loadu.h>
#include <simde/x86/avx512/max.h>
#include <simde/x86/avx512/min.h>
#include <simde/x86/avx512/mov.h>
#include <simde/x86/avx512/mul.h>
#include <simde/x86/avx512/mullo.h>
#include <simde/x86/avx512/or.h>
#include <simde/x86/avx512/roundscale.h>
#include <simde/x86/avx512/set1.h>
#include <simde/x86/avx512/setzero.h>
#include <simde/x86/avx512/shuffle.h>
#include <simde/x86/avx512/sll.h>
#include <simde/x86/avx512/slli.h>
#include <simde/x86/avx512/srai.h>
#include <simde/x86/avx512/srl.h>
#include <simde/x86/avx512/srli.h>
#include <simde/x86/avx512/storeu.h>
#include <simde/x86/avx512/sub.h>
#include <simde/x86/avx512/xor.h>

#include <string.h>

/* What Debian's SIMDe lacks, as two halves of 256 bits. */
typedef union {
    __m512i all;
    __m256i half[2];
    int32_t i32[16];
    int64_t i64[8];
} emulated_i;
typedef union {
    __m512 all;
    __m256 half[2];
    float f32[16];
} emulated_f;

#define EMULATED static inline __attribute__((always_inline))

EMULATED __m512i emulated_join(__m256i low, __m256i high) {
    emulated_i v = {.half = {low, high}};
    return v.all;
}
EMULATED __m512 emulated_join_ps(__m256 low, __m256 high) {
    emulated_f v = {.half = {low, high}};
    return v.all;
}
EMULATED __m128i emulated_high(__m256i v) { return _mm256_extracti128_si256(v, 1); }

EMULATED __m512i emulated_cvtepi8_epi32(__m128i v) {
    return emulated_join(_mm256_cvtepi8_epi32(v), _mm256_cvtepi8_epi32(_mm_srli_si128(v, 8)));
}
EMULATED __m512i emulated_cvtepu8_epi32(__m128i v) {
    return emulated_join(_mm256_cvtepu8_epi32(v), _mm256_cvtepu8_epi32(_mm_srli_si128(v, 8)));
}
EMULATED __m512i emulated_cvtepu16_epi32(__m256i v) {
    return emulated_join(_mm256_cvtepu16_epi32(_mm256_castsi256_si128(v)),
                         _mm256_cvtepu16_epi32(emulated_high(v)));
}
EMULATED __m128i emulated_cvtepi32_epi8(__m512i v) {
    emulated_i from = {.all = v};
    int8_t to[16];
    for (int i = 0; i < 16; i++) to[i] = (int8_t)from.i32[i]; /* cuts, as the instruction does */
    return _mm_loadu_si128((const __m128i *)(const void *)to);
}
EMULATED __m512 emulated_cvtepi32_ps(__m512i v) {
    emulated_i from = {.all = v};
    return emulated_join_ps(_mm256_cvtepi32_ps(from.half[0]), _mm256_cvtepi32_ps(from.half[1]));
}
EMULATED __m512i emulated_cvtps_epi32(__m512 v) {
    emulated_f from = {.all = v};
    return emulated_join(_mm256_cvtps_epi32(from.half[0]), _mm256_cvtps_epi32(from.half[1]));
}
EMULATED __m512 emulated_cvtph_ps(__m256i v) {
    return emulated_join_ps(_mm256_cvtph_ps(_mm256_castsi256_si128(v)),
                            _mm256_cvtph_ps(emulated_high(v)));
}
EMULATED __m256i emulated_cvtps_ph_nearest(__m512 v) {
    emulated_f from = {.all = v};
    return _mm256_set_m128i(_mm256_cvtps_ph(from.half[1], _MM_FROUND_TO_NEAREST_INT),
                            _mm256_cvtps_ph(from.half[0], _MM_FROUND_TO_NEAREST_INT));
}
EMULATED __m512i emulated_srai_epi32(__m512i v, unsigned n) {
    emulated_i from = {.all = v};
    return emulated_join(_mm256_srai_epi32(from.half[0], (int)n),
                         _mm256_srai_epi32(from.half[1], (int)n));
}
EMULATED __m256 emulated_extractf32x8_ps(__m512 v, int which) {
    emulated_f from = {.all = v};
    return from.half[which];
}

/* Lanes whose bit is not set are neither read nor written. */
EMULATED __m512 emulated_maskz_loadu_ps(__mmask16 lanes, const void *p) {
    emulated_f v = {.f32 = {0}};
    for (int i = 0; i < 16; i++) {
        if (lanes >> i & 1) memcpy(&v.f32[i], (const char *)p + 4 * i, 4);
    }
    return v.all;
}
EMULATED __m256i emulated_maskz_loadu_epi16(__mmask16 lanes, const void *p) {
    int16_t v[16] = {0};
    for (int i = 0; i < 16; i++) {
        if (lanes >> i & 1) memcpy(&v[i], (const char *)p + 2 * i, 2);
    }
    return _mm256_loadu_si256((const __m256i *)(const void *)v);
}
EMULATED void emulated_mask_storeu_ps(void *p, __mmask16 lanes, __m512 v) {
    emulated_f from = {.all = v};
    for (int i = 0; i < 16; i++) {
        if (lanes >> i & 1) memcpy((char *)p + 4 * i, &from.f32[i], 4);
    }
}

EMULATED int32_t emulated_reduce_add_epi32(__m512i v) {
    emulated_i from = {.all = v};
    uint32_t sum = 0;
    for (int i = 0; i < 16; i++) sum += (uint32_t)from.i32[i];
    return (int32_t)sum;
}
EMULATED int64_t emulated_reduce_add_epi64(__m512i v) {
    emulated_i from = {.all = v};
    uint64_t sum = 0;
    for (int i = 0; i < 8; i++) sum += (uint64_t)from.i64[i];
    return (int64_t)sum;
}
EMULATED int32_t emulated_reduce_max_epi32(__m512i v) {
    emulated_i from = {.all = v};
    int32_t top = from.i32[0];
    for (int i = 1; i < 16; i++) top = from.i32[i] > top ? from.i32[i] : top;
    return top;
}
EMULATED float emulated_reduce_max_ps(__m512 v) {
    emulated_f from = {.all = v};
    float top = from.f32[0];
    for (int i = 1; i < 16; i++) top = from.f32[i] > top ? from.f32[i] : top;
    return top;
}

/* Masks of bytes, which SIMDe takes one by one. */
EMULATED __mmask64 emulated_movepi8_mask(__m512i v) {
    emulated_i from = {.all = v};
    return (uint64_t)(uint32_t)_mm256_movemask_epi8(from.half[1]) << 32 |
           (uint32_t)_mm256_movemask_epi8(from.half[0]);
}
EMULATED __m256i emulated_bytes_of(uint32_t mask) {
    const __m256i byte =
        _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit = _mm256_set1_epi64x((int64_t)0x8040201008040201);
    __m256i v = _mm256_shuffle_epi8(_mm256_set1_epi32((int)mask), byte);
    return _mm256_cmpeq_epi8(_mm256_and_si256(v, bit), bit);
}
EMULATED __m512i emulated_movm_epi8(__mmask64 mask) {
    return emulated_join(emulated_bytes_of((uint32_t)mask),
                         emulated_bytes_of((uint32_t)(mask >> 32)));
}
EMULATED __mmask64 emulated_cmpeq_epi8_mask(__m512i a, __m512i b) {
    emulated_i v = {.all = a}, w = {.all = b};
    return emulated_movepi8_mask(emulated_join(_mm256_cmpeq_epi8(v.half[0], w.half[0]),
                                               _mm256_cmpeq_epi8(v.half[1], w.half[1])));
}
EMULATED __m512i emulated_mask_sub_epi8(__m512i src, __mmask64 mask, __m512i a, __m512i b) {
    emulated_i from = {.all = src}, v = {.all = a}, w = {.all = b}, m;
    m.all = emulated_movm_epi8(mask);
    for (int i = 0; i < 2; i++) {
        __m256i less = _mm256_sub_epi8(v.half[i], w.half[i]);
        from.half[i] = _mm256_blendv_epi8(from.half[i], less, m.half[i]);
    }
    return from.all;
}

/* sum + the four products of unsigned a and signed b in each 32 bits; SIMDe's take half a minute to
 * compile. */
EMULATED __m256i emulated_dpbusd(__m256i sum, __m256i a, __m256i b) {
    __m256i even = _mm256_madd_epi16(_mm256_and_si256(a, _mm256_set1_epi16(255)),
                                     _mm256_srai_epi16(_mm256_slli_epi16(b, 8), 8));
    __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(a, 8), _mm256_srai_epi16(b, 8));
    return _mm256_add_epi32(sum, _mm256_add_epi32(even, odd));
}
EMULATED __m512i emulated_dpbusd_512(__m512i sum, __m512i a, __m512i b) {
    emulated_i s = {.all = sum}, v = {.all = a}, w = {.all = b};
    return emulated_join(emulated_dpbusd(s.half[0], v.half[0], w.half[0]),
                         emulated_dpbusd(s.half[1], v.half[1], w.half[1]));
}
/* The same of two products of int16. */
EMULATED __m256i emulated_dpwssd(__m256i sum, __m256i a, __m256i b) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
}
EMULATED __m512i emulated_dpwssd_512(__m512i sum, __m512i a, __m512i b) {
    emulated_i s = {.all = sum}, v = {.all = a}, w = {.all = b};
    return emulated_join(emulated_dpwssd(s.half[0], v.half[0], w.half[0]),
                         emulated_dpwssd(s.half[1], v.half[1], w.half[1]));
}

#undef _mm512_mask_sub_epi8
#define _mm512_mask_sub_epi8(src, mask, a, b) emulated_mask_sub_epi8(src, mask, a, b)
#define _mm512_movepi8_mask(v)                emulated_movepi8_mask(v)
#define _mm512_movm_epi8(mask)                emulated_movm_epi8(mask)
#define _mm512_cmpeq_epi8_mask(a, b)          emulated_cmpeq_epi8_mask(a, b)
#define _mm512_cvtepi8_epi32(v)               emulated_cvtepi8_epi32(v)
#define _mm512_cvtepu8_epi32(v)               emulated_cvtepu8_epi32(v)
#define _mm512_cvtepu16_epi32(v)              emulated_cvtepu16_epi32(v)
#define _mm512_cvtepi32_epi8(v)               emulated_cvtepi32_epi8(v)
#define _mm512_cvtepi32_ps(v)                 emulated_cvtepi32_ps(v)
#define _mm512_cvtps_epi32(v)                 emulated_cvtps_epi32(v)
#define _mm512_cvtph_ps(v)                    emulated_cvtph_ps(v)
#define _mm512_cvtps_ph(v, nearest)           emulated_cvtps_ph_nearest(v)
#define _mm512_srai_epi32(v, n)               emulated_srai_epi32(v, n)
#define _mm512_extractf32x8_ps(v, which)      emulated_extractf32x8_ps(v, which)
#define _mm512_maskz_loadu_ps(lanes, p)       emulated_maskz_loadu_ps(lanes, p)
#define _mm256_maskz_loadu_epi16(lanes, p)    emulated_maskz_loadu_epi16(lanes, p)
#define _mm512_mask_storeu_ps(p, lanes, v)    emulated_mask_storeu_ps(p, lanes, v)
#define _mm512_reduce_add_epi32(v)            emulated_reduce_add_epi32(v)
#define _mm512_reduce_add_epi64(v)            emulated_reduce_add_epi64(v)
#define _mm512_reduce_max_epi32(v)            emulated_reduce_max_epi32(v)
#define _mm512_reduce_max_ps(v)               emulated_reduce_max_ps(v)
#define _mm256_dpbusd_avx_epi32(sum, a, b)    emulated_dpbusd(sum, a, b)
#define _mm256_dpwssd_avx_epi32(sum, a, b)    emulated_dpwssd(sum, a, b)
#define _mm512_dpbusd_epi32(sum, a, b)        emulated_dpbusd_512(sum, a, b)
#define _mm512_dpwssd_epi32(sum, a, b)        emulated_dpwssd_512(sum, a, b)

#endif
