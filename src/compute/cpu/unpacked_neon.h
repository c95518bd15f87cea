/* unpacked_neon.h - unpacked.h with NEON: four registers are 16 rows x 4 bytes.
 *
 * Included by unpacked_neon.c (plain ARMv8-A), unpacked_dotprod_neon.c and unpacked_i8mm_neon.c,
 * which define before it
 *   dot16(dot, w, x, ld, N)  dot[k] = w . x[k * ld] of 16 elements for columns k < N, N <= 4; w:
 * four words of 4 rows */
#include "compute/cpu/matmul_arm.h"
#include "compute/cpu/unroll.h"

#include <string.h>

#define BV_ROWS 4

typedef uint8x16_t bv;
typedef int32x4_t iv;
typedef float32x4_t fv;

EXO_INLINE bv bv_load(const void *p) { return vld1q_u8(p); }
EXO_INLINE void bv_store(void *p, bv v) { vst1q_u8(p, v); }
EXO_INLINE bv bv_load_u16(const uint8_t *p) {
    return vreinterpretq_u8_u32(vmovl_u16(vreinterpret_u16_u8(vld1_u8(p))));
}
EXO_INLINE bv bv_load_u8(const uint8_t *p) {
    uint32_t four;
    memcpy(&four, p, sizeof four);
    uint16x8_t wide = vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four)));
    return vreinterpretq_u8_u32(vmovl_u16(vget_low_u16(wide)));
}
EXO_INLINE bv bv_bytes(int b) { return vdupq_n_u8((uint8_t)b); }
EXO_INLINE bv bv_words(uint32_t w) { return vreinterpretq_u8_u32(vdupq_n_u32(w)); }
EXO_INLINE bv bv_table(const int8_t t[16]) { return vld1q_u8((const uint8_t *)t); }
EXO_INLINE bv bv_and(bv a, bv b) { return vandq_u8(a, b); }
EXO_INLINE bv bv_or(bv a, bv b) { return vorrq_u8(a, b); }
EXO_INLINE bv bv_sub8(bv a, bv b) { return vsubq_u8(a, b); }
EXO_INLINE bv bv_same8(bv a, bv b) { return vceqq_u8(a, b); }
EXO_INLINE bv bv_sub32(bv a, bv b) {
    return vreinterpretq_u8_u32(vsubq_u32(vreinterpretq_u32_u8(a), vreinterpretq_u32_u8(b)));
}
EXO_INLINE bv bv_shr(bv v, int n) {
    return vreinterpretq_u8_u32(vshlq_u32(vreinterpretq_u32_u8(v), vdupq_n_s32(-n)));
}
EXO_INLINE bv bv_shl(bv v, int n) {
    return vreinterpretq_u8_u32(vshlq_u32(vreinterpretq_u32_u8(v), vdupq_n_s32(n)));
}
EXO_INLINE bv bv_sar(bv v, int n) {
    return vreinterpretq_u8_s32(vshlq_s32(vreinterpretq_s32_u8(v), vdupq_n_s32(-n)));
}
EXO_INLINE bv bv_pick(bv table, bv index) { return vqtbl1q_u8(table, index); }

EXO_INLINE iv iv_zero(void) { return vdupq_n_s32(0); }

EXO_INLINE void bv_dot16(iv *sum, const int8_t *q, const int8_t *x, size_t ld, bv scale,
                         const int N, const int steps) {
    int8x16_t w[4];
    iv dot[4];
    int32x4_t by = vshrq_n_s32(vreinterpretq_s32_u8(scale), 16);
    (void)steps; /* products are added as int32 */
    EXO_UNROLL for (int i = 0; i < 4; i++) w[i] = vld1q_s8(q + i * 64);
    dot16(dot, w, x, ld, N);
    EXO_UNROLL for (int k = 0; k < N; k++) sum[k] = vmlaq_s32(sum[k], dot[k], by);
}

EXO_INLINE iv bv_sums(iv sum, bv min, const int16_t *x) {
    int16x8_t m = vreinterpretq_s16_u8(min);
    int32_t pair;
    memcpy(&pair, x, sizeof pair);
    int16x8_t both = vreinterpretq_s16_s32(vdupq_n_s32(pair));
    int32x4_t lo = vmull_s16(vget_low_s16(m), vget_low_s16(both));
    return vaddq_s32(sum, vpaddq_s32(lo, vmull_high_s16(m, both)));
}

EXO_INLINE fv fv_zero(void) { return vdupq_n_f32(0); }
EXO_INLINE fv fv_all(float x) { return vdupq_n_f32(x); }
EXO_INLINE fv fv_load(const float *p) { return vld1q_f32(p); }
EXO_INLINE void fv_store(float *p, fv v) { vst1q_f32(p, v); }
EXO_INLINE fv fv_load_f16(const uint8_t *p) {
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
}
EXO_INLINE fv fv_of(iv v) { return vcvtq_f32_s32(v); }
EXO_INLINE fv fv_scaled(fv v, float s) { return vmulq_n_f32(v, s); }
EXO_INLINE fv fv_fma(fv a, fv b, fv c) { return vfmaq_f32(c, a, b); }
EXO_INLINE fv fv_fnma(fv a, fv b, fv c) { return vfmsq_f32(c, a, b); }

#include "compute/cpu/unpacked.h"
