/* matmul_neon.h - products with NEON: four registers are 16 rows x 4 weights.
 *
 * Included by matmul_neon.c (plain ARMv8-A) and matmul_dotprod_neon.c (with the dot product
 * instructions of ARMv8.2), which define before it
 *   dot4(acc, w, x)  acc[i] += w[4i] x[4i] + ... + w[4i+3] x[4i+3], int32
 * and make the kernels of their tables from its tiles.
 * All quants are taken as signed bytes, so nothing needs a correction.  Integer tiles go through
 * the registers of 4 rows in a loop: a block's work is long beside one load and store of its sum.
 */
#include "compute/cpu/matmul_arm.h"

#include "compute/cpu/reference.h"
#include "compute/cpu/tile_drive.h"

#include <string.h>

#define MAX_H 16 /* registers of 4 rows: four a group */
#define MAX_N 4
#define AHEAD 2048 /* bytes ahead in the stream of quants, single column only */

EXO_INLINE int8x16_t spread4(const int8_t *p) {
    int32_t v;
    memcpy(&v, p, sizeof v);
    return vreinterpretq_s8_s32(vdupq_n_s32(v));
}

EXO_INLINE float32x4_t load_f16(const uint8_t *p) {
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
}

EXO_INLINE void ahead(const uint8_t *p, const int N) {
    if (N == 1) __builtin_prefetch(p + AHEAD);
}

EXO_INLINE float32x4_t scale_add(float32x4_t acc, int32x4_t dot, float32x4_t dw, float dx) {
    return vfmaq_f32(acc, vcvtq_f32_s32(dot), vmulq_n_f32(dw, dx));
}

EXO_INLINE void store(const exo_tile *t, float32x4_t f[MAX_H][MAX_N], const int R, const int N) {
    EXO_UNROLL for (int h = 0; h < 4 * R; h++) {
        EXO_UNROLL for (int k = 0; k < N; k++) {
            vst1q_f32(t->y + k * t->ld_y + h / 4 * t->gy + h % 4 * 4, f[h][k]);
        }
    }
}

EXO_INLINE void clear(float32x4_t f[MAX_H][MAX_N], const int R, const int N) {
    EXO_UNROLL for (int h = 0; h < 4 * R; h++) {
        EXO_UNROLL for (int k = 0; k < N; k++) f[h][k] = vdupq_n_f32(0);
    }
}

/* ---- one scale per 32: Q8_0, Q4_0 ---- */

EXO_INLINE void tile_q8_0(exo_tile t, const int R, const int N) {
    float32x4_t f[MAX_H][MAX_N];
    clear(f, R, N);
    for (uint32_t b = 0; b < t.n_blocks; b++, t.q += 512, t.s += 32, t.x += 32) {
        EXO_NO_UNROLL for (int h = 0; h < 4 * R; h++) {
            const uint8_t *p = t.q + h / 4 * t.gq + h % 4 * 16;
            int32x4_t v[MAX_N];
            EXO_UNROLL for (int k = 0; k < N; k++) v[k] = vdupq_n_s32(0);
            EXO_UNROLL for (int j = 0; j < 8; j++) {
                if (h % 4 == 0) ahead(p + j * 64, N);
                int8x16_t w = vreinterpretq_s8_u8(vld1q_u8(p + j * 64));
                EXO_UNROLL for (int k = 0; k < N; k++) {
                    v[k] = dot4(v[k], w, spread4(t.x + k * t.ld_q + j * 4));
                }
            }
            float32x4_t dw = load_f16(t.s + h / 4 * t.gs + h % 4 * 8);
            EXO_UNROLL for (int k = 0; k < N; k++) {
                f[h][k] = scale_add(f[h][k], v[k], dw, t.d[k * t.ld_d + b]);
            }
        }
    }
    store(&t, f, R, N);
}

EXO_INLINE void tile_q4_0(exo_tile t, const int R, const int N) {
    const int8x16_t eight = vdupq_n_s8(8);
    float32x4_t f[MAX_H][MAX_N];
    clear(f, R, N);
    for (uint32_t b = 0; b < t.n_blocks; b++, t.q += 256, t.s += 32, t.x += 32) {
        EXO_NO_UNROLL for (int h = 0; h < 4 * R; h++) {
            const uint8_t *p = t.q + h / 4 * t.gq + h % 4 * 16;
            int32x4_t v[MAX_N];
            EXO_UNROLL for (int k = 0; k < N; k++) v[k] = vdupq_n_s32(0);
            EXO_UNROLL for (int j = 0; j < 4; j++) {
                if (h % 4 == 0) ahead(p + j * 64, N);
                uint8x16_t z = vld1q_u8(p + j * 64);
                int8x16_t lo = vreinterpretq_s8_u8(vandq_u8(z, vdupq_n_u8(15)));
                int8x16_t hi = vreinterpretq_s8_u8(vshrq_n_u8(z, 4));
                lo = vsubq_s8(lo, eight);
                hi = vsubq_s8(hi, eight);
                EXO_UNROLL for (int k = 0; k < N; k++) {
                    const int8_t *x = t.x + k * t.ld_q + j * 4;
                    v[k] = dot4(dot4(v[k], lo, spread4(x)), hi, spread4(x + 16));
                }
            }
            float32x4_t dw = load_f16(t.s + h / 4 * t.gs + h % 4 * 8);
            EXO_UNROLL for (int k = 0; k < N; k++) {
                f[h][k] = scale_add(f[h][k], v[k], dw, t.d[k * t.ld_d + b]);
            }
        }
    }
    store(&t, f, R, N);
}

/* ---- Q4_K ---- */

typedef struct {
    uint32x4_t scale[2], min[2]; /* bytes of 32-bit lanes: sub-blocks 0-3 and 4-7 */
} q4_k_scales;

EXO_INLINE uint32x4_t load_words(const uint8_t *p) { return vreinterpretq_u32_u8(vld1q_u8(p)); }

EXO_INLINE q4_k_scales q4_k_unpack(const uint8_t *s) {
    const uint32x4_t m6 = vdupq_n_u32(0x3F3F3F3F), m4 = vdupq_n_u32(0x0F0F0F0F);
    const uint32x4_t top = vdupq_n_u32(0x30303030);
    uint32x4_t w0 = load_words(s), w1 = load_words(s + 64), w2 = load_words(s + 128);
    q4_k_scales u;
    u.scale[0] = vandq_u32(w0, m6);
    u.min[0] = vandq_u32(w1, m6);
    u.scale[1] = vorrq_u32(vandq_u32(w2, m4), vandq_u32(vshrq_n_u32(w0, 2), top));
    u.min[1] = vorrq_u32(vandq_u32(vshrq_n_u32(w2, 4), m4), vandq_u32(vshrq_n_u32(w1, 2), top));
    return u;
}

/* Byte j of each 32-bit lane. */
EXO_INLINE int32x4_t byte_of(uint32x4_t v, int j) {
    uint32x4_t moved = vshlq_u32(v, vdupq_n_s32(-8 * j));
    return vreinterpretq_s32_u32(vandq_u32(moved, vdupq_n_u32(255)));
}

/* isum = sum sc_j * dot_j, msum = sum m_j * sum_j of 4 rows; sums at the first column's block. */
EXO_INLINE void q4_k_dots(const exo_tile *t, const uint8_t *q, const q4_k_scales *sc,
                          const int16_t *sums, int32x4_t isum[MAX_N], int32x4_t msum[MAX_N],
                          const int N) {
    EXO_UNROLL for (int k = 0; k < N; k++) isum[k] = msum[k] = vdupq_n_s32(0);
    EXO_NO_UNROLL for (int p = 0; p < 4; p++) { /* pairs of sub-blocks: low, high nibbles */
        EXO_UNROLL for (int j = 0; j < 2; j++) {
            int32x4_t v[MAX_N];
            EXO_UNROLL for (int k = 0; k < N; k++) v[k] = vdupq_n_s32(0);
            EXO_UNROLL for (int i = 0; i < 8; i++) {
                uint8x16_t z = vld1q_u8(q + p * 512 + i * 64);
                z = j == 1 ? vshrq_n_u8(z, 4) : vandq_u8(z, vdupq_n_u8(15));
                EXO_UNROLL for (int k = 0; k < N; k++) {
                    const int8_t *x = t->x + k * t->ld_q + p * 64 + j * 32 + i * 4;
                    v[k] = dot4(v[k], vreinterpretq_s8_u8(z), spread4(x));
                }
            }
            int32x4_t scale = byte_of(sc->scale[p / 2], p % 2 * 2 + j);
            int32x4_t min = byte_of(sc->min[p / 2], p % 2 * 2 + j);
            uint32_t at = exo_sum32_at((uint32_t)(p * 2 + j));
            EXO_UNROLL for (int k = 0; k < N; k++) {
                int32_t sum = sums[k * t->ld_d * EXO_Q256_SUMS + at];
                isum[k] = vmlaq_s32(isum[k], v[k], scale);
                msum[k] = vmlaq_n_s32(msum[k], min, sum);
            }
        }
    }
}

EXO_INLINE void tile_q4_k(exo_tile t, const int R, const int N) {
    float32x4_t f[MAX_H][MAX_N];
    clear(f, R, N);
    for (uint32_t b = 0; b < t.n_blocks; b++, t.q += 2048, t.s += 256, t.x += 256) {
        const int16_t *sums = t.sums + (size_t)b * EXO_Q256_SUMS;
        for (int i = 0; i < 32; i++) ahead(t.q + i * 64, N);
        EXO_NO_UNROLL for (int h = 0; h < 4 * R; h++) {
            const uint8_t *s = t.s + h / 4 * t.gs;
            q4_k_scales sc = q4_k_unpack(s + 64 + h % 4 * 16);
            int32x4_t isum[MAX_N], msum[MAX_N];
            q4_k_dots(&t, t.q + h / 4 * t.gq + h % 4 * 16, &sc, sums, isum, msum, N);
            float32x4_t dw = load_f16(s + h % 4 * 8), dmin = load_f16(s + 32 + h % 4 * 8);
            EXO_UNROLL for (int k = 0; k < N; k++) {
                float dx = t.d[k * t.ld_d + b];
                f[h][k] = scale_add(f[h][k], isum[k], dw, dx);
                f[h][k] = vfmsq_f32(f[h][k], vcvtq_f32_s32(msum[k]), vmulq_n_f32(dmin, dx));
            }
        }
    }
    store(&t, f, R, N);
}

/* ---- Q6_K ---- */

/* 4 rows x 4 quants (-32 to 31): quarter k of a half, word i (elements 4i .. of the quarter). */
EXO_INLINE int8x16_t q6_k_quants(const uint8_t *low, const uint8_t *high, const int k,
                                 const int i) {
    uint8x16_t l = vld1q_u8(low + (k % 2 * 8 + i) * 64), h = vld1q_u8(high + i * 64);
    l = k < 2 ? vandq_u8(l, vdupq_n_u8(15)) : vshrq_n_u8(l, 4);
    if (k == 0) h = vshlq_n_u8(h, 4);
    if (k == 1) h = vshlq_n_u8(h, 2);
    if (k == 3) h = vshrq_n_u8(h, 2);
    uint8x16_t q = vorrq_u8(l, vandq_u8(h, vdupq_n_u8(0x30)));
    return vsubq_s8(vreinterpretq_s8_u8(q), vdupq_n_s8(32));
}

/* sum sc_j * dot_j of 4 rows. */
EXO_INLINE void q6_k_dots(const exo_tile *t, const uint8_t *q, const uint8_t *s,
                          int32x4_t isum[MAX_N], const int N) {
    EXO_UNROLL for (int k = 0; k < N; k++) isum[k] = vdupq_n_s32(0);
    EXO_NO_UNROLL for (int e = 0; e < 4; e++) { /* half e / 2, sub-block e % 2 of each quarter */
        const uint8_t *low = q + e / 2 * 1024 + e % 2 * 256;
        const uint8_t *high = q + 2048 + e / 2 * 512 + e % 2 * 256;
        EXO_UNROLL for (int h = 0; h < 4; h++) { /* quarters */
            const int8_t *x = t->x + e / 2 * 128 + h * 32 + e % 2 * 16;
            int32x4_t v[MAX_N];
            EXO_UNROLL for (int k = 0; k < N; k++) v[k] = vdupq_n_s32(0);
            EXO_UNROLL for (int i = 0; i < 4; i++) {
                int8x16_t w = q6_k_quants(low, high, h, i);
                EXO_UNROLL for (int k = 0; k < N; k++) {
                    v[k] = dot4(v[k], w, spread4(x + k * t->ld_q + i * 4));
                }
            }
            int32x4_t word = vreinterpretq_s32_u8(vld1q_u8(s + (e / 2 * 2 + h / 2) * 64));
            int32x4_t top = vshlq_s32(word, vdupq_n_s32((3 - h % 2 * 2 - e % 2) * 8));
            int32x4_t scale = vshrq_n_s32(top, 24);
            EXO_UNROLL for (int k = 0; k < N; k++) isum[k] = vmlaq_s32(isum[k], v[k], scale);
        }
    }
}

EXO_INLINE void tile_q6_k(exo_tile t, const int R, const int N) {
    float32x4_t f[MAX_H][MAX_N];
    clear(f, R, N);
    for (uint32_t b = 0; b < t.n_blocks; b++, t.q += 3072, t.s += 288, t.x += 256) {
        for (int i = 0; i < 48; i++) ahead(t.q + i * 64, N);
        EXO_NO_UNROLL for (int h = 0; h < 4 * R; h++) {
            const uint8_t *s = t.s + h / 4 * t.gs;
            int32x4_t isum[MAX_N];
            q6_k_dots(&t, t.q + h / 4 * t.gq + h % 4 * 16, s + h % 4 * 16, isum, N);
            float32x4_t dw = load_f16(s + 256 + h % 4 * 8);
            EXO_UNROLL for (int k = 0; k < N; k++) {
                f[h][k] = scale_add(f[h][k], isum[k], dw, t.d[k * t.ld_d + b]);
            }
        }
    }
    store(&t, f, R, N);
}

/* ---- floats ---- */

EXO_INLINE float32x4_t load_weight(const uint8_t *q, const exo_dtype type) {
    if (type == EXO_F32) return vreinterpretq_f32_u8(vld1q_u8(q));
    if (type == EXO_F16) return load_f16(q);
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(q)), 16));
}

EXO_INLINE void tile_float(exo_tile t, const int R, const int N, const exo_dtype type) {
    const uint32_t K = t.n_blocks, step = type == EXO_F32 ? 64 : 32;
    float32x4_t total[MAX_H][MAX_N];
    clear(total, R, N);
    for (uint32_t k0 = 0; k0 < K; k0 += EXO_FLOAT_CHUNK) {
        uint32_t end = K - k0 < EXO_FLOAT_CHUNK ? K : k0 + EXO_FLOAT_CHUNK;
        float32x4_t part[MAX_H][MAX_N];
        clear(part, R, N);
        for (uint32_t k = k0; k < end; k++, t.q += step) {
            EXO_UNROLL for (int h = 0; h < 4 * R; h++) {
                const uint8_t *p = t.q + h / 4 * t.gq + h % 4 * (step / 4);
                if (h % 4 == 0) ahead(p, N);
                float32x4_t w = load_weight(p, type);
                EXO_UNROLL for (int i = 0; i < N; i++) {
                    part[h][i] = vfmaq_n_f32(part[h][i], w, t.xf[i * t.ld_x + k]);
                }
            }
        }
        EXO_UNROLL for (int h = 0; h < 4 * R; h++) {
            EXO_UNROLL for (int i = 0; i < N; i++) {
                total[h][i] = vaddq_f32(total[h][i], part[h][i]);
            }
        }
    }
    store(&t, total, R, N);
}

EXO_INLINE void tile_f32(exo_tile t, const int R, const int N) { tile_float(t, R, N, EXO_F32); }
EXO_INLINE void tile_f16(exo_tile t, const int R, const int N) { tile_float(t, R, N, EXO_F16); }
EXO_INLINE void tile_bf16(exo_tile t, const int R, const int N) { tile_float(t, R, N, EXO_BF16); }
