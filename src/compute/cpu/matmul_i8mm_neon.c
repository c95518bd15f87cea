/* matmul_i8mm_neon.c - products for ARM processors with int8 matrix instructions (smmla).
 *
 * smmla takes 8 weights of two rows and 8 activations of two columns and adds their four sums:
 * twice what sdot does.  Weights stand as words of four rows, so two words make two registers of
 * two rows; the activations of a block are put in pairs of columns once, for all rows of the tile.
 * Sums come out as row and column in turn and are sorted when a block is done.  An odd column is
 * left to sdot, as is all decoding.  Integers are exact: the bits are those of matmul_neon.h. */
#include <arm_neon.h>

static inline int32x4_t dot4(int32x4_t acc, int8x16_t w, int8x16_t x) {
    return vdotq_s32(acc, w, x);
}

#include "compute/cpu/matmul_neon.h"

#define N_MAX 8  /* columns in a tile of this file */
#define STEPS 32 /* of 8 elements in a block, at most */

/* Columns 2c and 2c + 1 of 8 elements: at [step][c]. */
typedef struct {
    int8x16_t x[STEPS][N_MAX / 2];
} pairs;

EXO_INLINE void pair_up(pairs *to, const int8_t *x, size_t ld_q, const int steps, const int N) {
    EXO_NO_UNROLL for (int i = 0; i < steps; i++, x += 8) {
        EXO_UNROLL for (int c = 0; c < N / 2; c++) {
            const int8_t *p = x + (size_t)(2 * c) * ld_q;
            to->x[i][c] = vcombine_s8(vld1_s8(p), vld1_s8(p + ld_q));
        }
    }
}

/* v[2c], v[2c + 1] += rows 0 1 and 2 3 of the words w0 w1 times the columns of pair c. */
EXO_INLINE void dot8(int32x4_t v[N_MAX], int8x16_t w0, int8x16_t w1, const int8x16_t *x,
                     const int N) {
    int32x4_t a = vreinterpretq_s32_s8(w0), b = vreinterpretq_s32_s8(w1);
    int8x16_t low = vreinterpretq_s8_s32(vzip1q_s32(a, b));
    int8x16_t high = vreinterpretq_s8_s32(vzip2q_s32(a, b));
    EXO_UNROLL for (int c = 0; c < N / 2; c++) {
        v[2 * c] = vmmlaq_s32(v[2 * c], low, x[c]);
        v[2 * c + 1] = vmmlaq_s32(v[2 * c + 1], high, x[c]);
    }
}

/* From the order of dot8 to one register of 4 rows for each column. */
EXO_INLINE void sort_columns(int32x4_t v[N_MAX], const int N) {
    EXO_UNROLL for (int c = 0; c < N / 2; c++) {
        int32x4_t even = vuzp1q_s32(v[2 * c], v[2 * c + 1]);
        v[2 * c + 1] = vuzp2q_s32(v[2 * c], v[2 * c + 1]);
        v[2 * c] = even;
    }
}

/* v[2c], v[2c + 1] += what s has, times one scale a row, in the order of dot8. */
EXO_INLINE void add_scaled(int32x4_t v[N_MAX], const int32x4_t s[N_MAX], int32x4_t scale,
                           const int N) {
    int32x4_t low = vzip1q_s32(scale, scale), high = vzip2q_s32(scale, scale);
    EXO_UNROLL for (int c = 0; c < N / 2; c++) {
        v[2 * c] = vmlaq_s32(v[2 * c], s[2 * c], low);
        v[2 * c + 1] = vmlaq_s32(v[2 * c + 1], s[2 * c + 1], high);
    }
}

EXO_INLINE void zero(int32x4_t v[N_MAX], const int N) {
    EXO_UNROLL for (int k = 0; k < N; k++) v[k] = vdupq_n_s32(0);
}

EXO_INLINE int8x16_t load_words8(const uint8_t *p) { return vreinterpretq_s8_u8(vld1q_u8(p)); }

/* The results of a tile: registers of 4 rows, four a group. */
typedef struct {
    float32x4_t f[8][N_MAX];
} results;

EXO_INLINE void clear8(results *to, const int R, const int N) {
    EXO_UNROLL for (int h = 0; h < 4 * R; h++) {
        EXO_UNROLL for (int k = 0; k < N; k++) to->f[h][k] = vdupq_n_f32(0);
    }
}

EXO_INLINE void store8(const exo_tile *t, const results *from, const int R, const int N) {
    EXO_UNROLL for (int h = 0; h < 4 * R; h++) {
        EXO_UNROLL for (int k = 0; k < N; k++) {
            vst1q_f32(t->y + k * t->ld_y + h / 4 * t->gy + h % 4 * 4, from->f[h][k]);
        }
    }
}

EXO_INLINE void add_block(const exo_tile *t, uint32_t b, float32x4_t f[N_MAX],
                          const int32x4_t v[N_MAX], float32x4_t dw, const int N) {
    EXO_UNROLL for (int k = 0; k < N; k++) f[k] = scale_add(f[k], v[k], dw, t->d[k * t->ld_d + b]);
}

/* ---- one scale per 32: Q8_0, Q4_0 ---- */

EXO_INLINE void q8_0_dots(const uint8_t *q, const pairs *x, int32x4_t v[N_MAX], const int N) {
    EXO_UNROLL for (int i = 0; i < 4; i++) {
        dot8(v, load_words8(q + i * 128), load_words8(q + i * 128 + 64), x->x[i], N);
    }
}

/* Low nibbles are elements 0 to 15, high ones 16 to 31. */
EXO_INLINE void q4_0_dots(const uint8_t *q, const pairs *x, int32x4_t v[N_MAX], const int N) {
    const int8x16_t eight = vdupq_n_s8(8);
    EXO_UNROLL for (int i = 0; i < 2; i++) {
        uint8x16_t z0 = vld1q_u8(q + i * 128), z1 = vld1q_u8(q + i * 128 + 64);
        int8x16_t w0 = vreinterpretq_s8_u8(vandq_u8(z0, vdupq_n_u8(15)));
        int8x16_t w1 = vreinterpretq_s8_u8(vandq_u8(z1, vdupq_n_u8(15)));
        dot8(v, vsubq_s8(w0, eight), vsubq_s8(w1, eight), x->x[i], N);
        w0 = vreinterpretq_s8_u8(vshrq_n_u8(z0, 4));
        w1 = vreinterpretq_s8_u8(vshrq_n_u8(z1, 4));
        dot8(v, vsubq_s8(w0, eight), vsubq_s8(w1, eight), x->x[i + 2], N);
    }
}

EXO_INLINE void tile8_32(exo_tile t, const int R, const int N, const uint32_t bytes) {
    results y;
    clear8(&y, R, N);
    for (uint32_t b = 0; b < t.n_blocks; b++, t.q += bytes, t.s += 32, t.x += 32) {
        pairs x;
        pair_up(&x, t.x, t.ld_q, 4, N);
        EXO_NO_UNROLL for (int h = 0; h < 4 * R; h++) {
            const uint8_t *q = t.q + h / 4 * t.gq + h % 4 * 16;
            int32x4_t v[N_MAX];
            zero(v, N);
            if (bytes == 512) {
                q8_0_dots(q, &x, v, N);
            } else {
                q4_0_dots(q, &x, v, N);
            }
            sort_columns(v, N);
            add_block(&t, b, y.f[h], v, load_f16(t.s + h / 4 * t.gs + h % 4 * 8), N);
        }
    }
    store8(&t, &y, R, N);
}

/* ---- Q4_K ---- */

/* isum += sum sc_j * dot_j of 4 rows; columns in the order of dot8. */
EXO_INLINE void q4_k_dots8(const uint8_t *q, const pairs *x, const q4_k_scales *sc,
                           int32x4_t isum[N_MAX], const int N) {
    EXO_NO_UNROLL for (int p = 0; p < 4; p++) { /* pairs of sub-blocks: low, high nibbles */
        EXO_UNROLL for (int j = 0; j < 2; j++) {
            int32x4_t v[N_MAX];
            zero(v, N);
            EXO_UNROLL for (int i = 0; i < 4; i++) {
                const uint8_t *at = q + p * 512 + i * 128;
                uint8x16_t z0 = vld1q_u8(at), z1 = vld1q_u8(at + 64);
                z0 = j == 1 ? vshrq_n_u8(z0, 4) : vandq_u8(z0, vdupq_n_u8(15));
                z1 = j == 1 ? vshrq_n_u8(z1, 4) : vandq_u8(z1, vdupq_n_u8(15));
                dot8(v, vreinterpretq_s8_u8(z0), vreinterpretq_s8_u8(z1), x->x[p * 8 + j * 4 + i],
                     N);
            }
            add_scaled(isum, v, byte_of(sc->scale[p / 2], p % 2 * 2 + j), N);
        }
    }
}

/* sum m_j * sum_j of 4 rows and column k. */
EXO_INLINE int32x4_t q4_k_minima8(const q4_k_scales *sc, const int16_t *sums) {
    int32x4_t m = vdupq_n_s32(0);
    EXO_UNROLL for (int j = 0; j < 8; j++) {
        m = vmlaq_n_s32(m, byte_of(sc->min[j / 4], j % 4), sums[exo_sum32_at((uint32_t)j)]);
    }
    return m;
}

EXO_INLINE void tile8_q4_k(exo_tile t, const int R, const int N) {
    results y;
    clear8(&y, R, N);
    for (uint32_t b = 0; b < t.n_blocks; b++, t.q += 2048, t.s += 256, t.x += 256) {
        pairs x;
        pair_up(&x, t.x, t.ld_q, 32, N);
        EXO_NO_UNROLL for (int h = 0; h < 4 * R; h++) {
            const uint8_t *s = t.s + h / 4 * t.gs;
            q4_k_scales sc = q4_k_unpack(s + 64 + h % 4 * 16);
            int32x4_t isum[N_MAX];
            zero(isum, N);
            q4_k_dots8(t.q + h / 4 * t.gq + h % 4 * 16, &x, &sc, isum, N);
            sort_columns(isum, N);
            add_block(&t, b, y.f[h], isum, load_f16(s + h % 4 * 8), N);
            float32x4_t dmin = load_f16(s + 32 + h % 4 * 8);
            EXO_UNROLL for (int k = 0; k < N; k++) {
                size_t at = k * t.ld_d + b;
                int32x4_t m = q4_k_minima8(&sc, t.sums + at * EXO_Q256_SUMS);
                y.f[h][k] = vfmsq_f32(y.f[h][k], vcvtq_f32_s32(m), vmulq_n_f32(dmin, t.d[at]));
            }
        }
    }
    store8(&t, &y, R, N);
}

/* ---- Q6_K ---- */

/* isum += sum sc_j * dot_j of 4 rows; columns in the order of dot8. */
EXO_INLINE void q6_k_dots8(const uint8_t *q, const uint8_t *s, const pairs *x,
                           int32x4_t isum[N_MAX], const int N) {
    EXO_NO_UNROLL for (int e = 0; e < 4; e++) { /* half e / 2, sub-block e % 2 of each quarter */
        const uint8_t *low = q + e / 2 * 1024 + e % 2 * 256;
        const uint8_t *high = q + 2048 + e / 2 * 512 + e % 2 * 256;
        EXO_UNROLL for (int h = 0; h < 4; h++) { /* quarters */
            int32x4_t v[N_MAX];
            zero(v, N);
            EXO_UNROLL for (int i = 0; i < 2; i++) {
                dot8(v, q6_k_quants(low, high, h, 2 * i), q6_k_quants(low, high, h, 2 * i + 1),
                     x->x[e / 2 * 16 + h * 4 + e % 2 * 2 + i], N);
            }
            int32x4_t word = vreinterpretq_s32_u8(vld1q_u8(s + (e / 2 * 2 + h / 2) * 64));
            int32x4_t top = vshlq_s32(word, vdupq_n_s32((3 - h % 2 * 2 - e % 2) * 8));
            add_scaled(isum, v, vshrq_n_s32(top, 24), N);
        }
    }
}

EXO_INLINE void tile8_q6_k(exo_tile t, const int R, const int N) {
    results y;
    clear8(&y, R, N);
    for (uint32_t b = 0; b < t.n_blocks; b++, t.q += 3072, t.s += 288, t.x += 256) {
        pairs x;
        pair_up(&x, t.x, t.ld_q, 32, N);
        EXO_NO_UNROLL for (int h = 0; h < 4 * R; h++) {
            const uint8_t *s = t.s + h / 4 * t.gs;
            int32x4_t isum[N_MAX];
            zero(isum, N);
            q6_k_dots8(t.q + h / 4 * t.gq + h % 4 * 16, s + h % 4 * 16, &x, isum, N);
            sort_columns(isum, N);
            add_block(&t, b, y.f[h], isum, load_f16(s + 256 + h % 4 * 8), N);
        }
    }
    store8(&t, &y, R, N);
}

/* ---- the kernels ---- */

/* Two groups and 8, 4 or 2 columns at a time; an odd column and decoding with sdot. */
#define DRIVE(type, tile8)                                                                         \
    EXO_INLINE void mixed_##type(const exo_tile t, const int R, const int N) {                     \
        if (N == 1) {                                                                              \
            tile_##type(t, R, 1);                                                                  \
        } else {                                                                                   \
            tile8;                                                                                 \
        }                                                                                          \
    }                                                                                              \
    EXO_TILE_DRIVE(exo_i8mm_##type, mixed_##type, 1, 8, 4)
DRIVE(q8_0, tile8_32(t, R, N, 512))
DRIVE(q4_0, tile8_32(t, R, N, 256))
DRIVE(q4_k, tile8_q4_k(t, R, N))
DRIVE(q6_k, tile8_q6_k(t, R, N))
