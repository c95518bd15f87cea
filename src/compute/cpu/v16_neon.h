/* v16_neon.h - sixteen floats in four 128-bit registers; see v16_ops.h for what each must do.
 *
 * Only instructions of plain ARMv8-A, so both NEON tables share it. */
#ifndef EXO_COMPUTE_CPU_V16_NEON_H
#define EXO_COMPUTE_CPU_V16_NEON_H

#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

#define V16_QUERIES 2 /* queries in one attention tile */
#define V16_ACCS    4 /* vectors of sums in it */
#define V16_EXPS    2 /* vectors whose e^x go abreast */

typedef float32x4x4_t v16;
typedef int32x4x4_t v16i;

#define V16_EACH(f, a, b)                                                                          \
    ((v16){{f((a).val[0], (b).val[0]), f((a).val[1], (b).val[1]), f((a).val[2], (b).val[2]),       \
            f((a).val[3], (b).val[3])}})
#define V16_MAP(type, f, a) ((type){{f((a).val[0]), f((a).val[1]), f((a).val[2]), f((a).val[3])}})

static inline v16 v16_set1(float x) {
    float32x4_t v = vdupq_n_f32(x);
    return (v16){{v, v, v, v}};
}
static inline v16 v16_load(const float *p) {
    return (v16){{vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)}};
}
static inline v16 v16_load_n(const float *p, uint32_t n) {
    float f[16] = {0};
    memcpy(f, p, n * sizeof *f);
    return v16_load(f);
}
static inline float32x4_t v4_load_f16(const uint16_t *p) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
static inline v16 v16_load_f16(const uint16_t *p) {
    return (v16){{v4_load_f16(p), v4_load_f16(p + 4), v4_load_f16(p + 8), v4_load_f16(p + 12)}};
}
static inline v16 v16_load_f16_n(const uint16_t *p, uint32_t n) {
    uint16_t h[16] = {0};
    memcpy(h, p, n * sizeof *h);
    return v16_load_f16(h);
}
static inline v16 v16_load_i8(const int8_t *p) {
    int8x16_t b = vld1q_s8(p);
    int16x8_t lo = vmovl_s8(vget_low_s8(b)), hi = vmovl_s8(vget_high_s8(b));
    return (v16){
        {vcvtq_f32_s32(vmovl_s16(vget_low_s16(lo))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(lo))),
         vcvtq_f32_s32(vmovl_s16(vget_low_s16(hi))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(hi)))}};
}
static inline void v16_store(float *p, v16 a) {
    for (int i = 0; i < 4; i++) vst1q_f32(p + 4 * i, a.val[i]);
}
static inline void v16_store_n(float *p, v16 a, uint32_t n) {
    float f[16];
    v16_store(f, a);
    memcpy(p, f, n * sizeof *f);
}
static inline v16 v16_add(v16 a, v16 b) { return V16_EACH(vaddq_f32, a, b); }
static inline v16 v16_sub(v16 a, v16 b) { return V16_EACH(vsubq_f32, a, b); }
static inline v16 v16_mul(v16 a, v16 b) { return V16_EACH(vmulq_f32, a, b); }
static inline v16 v16_div(v16 a, v16 b) { return V16_EACH(vdivq_f32, a, b); }
static inline v16 v16_fma(v16 a, v16 b, v16 c) {
    for (int i = 0; i < 4; i++) c.val[i] = vfmaq_f32(c.val[i], a.val[i], b.val[i]);
    return c;
}
static inline v16 v16_min(v16 a, v16 b) { return V16_EACH(vminnmq_f32, a, b); }
static inline v16 v16_max(v16 a, v16 b) { return V16_EACH(vmaxnmq_f32, a, b); }
static inline v16 v16_round(v16 a) { return V16_MAP(v16, vrndnq_f32, a); }
static inline float32x4_t v4_pow2(float32x4_t n) {
    int32x4_t e = vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127));
    return vreinterpretq_f32_s32(vshlq_n_s32(e, 23));
}
static inline v16 v16_pow2(v16 n) { return V16_MAP(v16, v4_pow2, n); }
static inline v16 v16_keep_first(v16 a, uint32_t n, float fill) {
    float f[16];
    v16_store(f, a);
    for (uint32_t i = n; i < 16; i++) f[i] = fill;
    return v16_load(f);
}
static inline float32x4_t v4_round_f16(float32x4_t a) { return vcvt_f32_f16(vcvt_f16_f32(a)); }
static inline v16 v16_round_f16(v16 a) { return V16_MAP(v16, v4_round_f16, a); }
static inline float v16_sum(v16 v) {
    float32x4_t lo = vaddq_f32(v.val[0], v.val[2]), hi = vaddq_f32(v.val[1], v.val[3]);
    float32x4_t a = vaddq_f32(lo, hi);
    float32x2_t b = vadd_f32(vget_low_f32(a), vget_high_f32(a));
    return vget_lane_f32(b, 0) + vget_lane_f32(b, 1);
}
static inline float v16_top(v16 v) {
    float32x4_t lo = vmaxnmq_f32(v.val[0], v.val[1]), hi = vmaxnmq_f32(v.val[2], v.val[3]);
    return vmaxnmvq_f32(vmaxnmq_f32(lo, hi));
}
static inline int32x4_t v4_magnitude(float32x4_t a) {
    return vandq_s32(vreinterpretq_s32_f32(a), vdupq_n_s32(0x7FFFFFFF));
}
static inline v16i v16_magnitude(v16 a) { return V16_MAP(v16i, v4_magnitude, a); }
static inline v16i v16i_add(v16i a, v16i b) {
    for (int i = 0; i < 4; i++) a.val[i] = vaddq_s32(a.val[i], b.val[i]);
    return a;
}
static inline v16i v16i_max(v16i a, v16i b) {
    for (int i = 0; i < 4; i++) a.val[i] = vmaxq_s32(a.val[i], b.val[i]);
    return a;
}
static inline int32_t v16i_top(v16i v) {
    return vmaxvq_s32(vmaxq_s32(vmaxq_s32(v.val[0], v.val[1]), vmaxq_s32(v.val[2], v.val[3])));
}
static inline v16i v16_to_int(v16 a) { return V16_MAP(v16i, vcvtnq_s32_f32, a); }
static inline int32_t v16i_sum(v16i v) {
    return vaddvq_s32(vaddq_s32(vaddq_s32(v.val[0], v.val[1]), vaddq_s32(v.val[2], v.val[3])));
}
static inline void v16i_store_i8(int8_t *p, v16i a) {
    int16x8_t lo = vcombine_s16(vmovn_s32(a.val[0]), vmovn_s32(a.val[1]));
    int16x8_t hi = vcombine_s16(vmovn_s32(a.val[2]), vmovn_s32(a.val[3]));
    vst1q_s8(p, vcombine_s8(vmovn_s16(lo), vmovn_s16(hi)));
}
static inline uint64_t v16_stream(const uint8_t *p, size_t bytes) {
    uint8x16_t a[4];
    size_t quarter = bytes / 4;
    for (int k = 0; k < 4; k++) a[k] = vdupq_n_u8(0);
    for (size_t i = 0; i + 64 <= quarter; i += 64) {
        for (int k = 0; k < 4; k++) {
            const uint8_t *from = p + k * quarter + i;
            __builtin_prefetch(from + 512);
            for (int j = 0; j < 4; j++) a[k] = veorq_u8(a[k], vld1q_u8(from + 16 * j));
        }
    }
    uint64x2_t x = vreinterpretq_u64_u8(veorq_u8(veorq_u8(a[0], a[1]), veorq_u8(a[2], a[3])));
    return vgetq_lane_u64(x, 0) ^ vgetq_lane_u64(x, 1);
}

#undef V16_EACH
#undef V16_MAP

#endif
