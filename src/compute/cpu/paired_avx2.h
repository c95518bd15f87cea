/* paired_avx2.h - products of many columns with half the multiplications.
 *
 * AVX2 processors multiply integers on one port, and a dot product of bytes needs that port twice
 * for every 32 bytes: vpmaddubsw, and vpmaddwd to widen its sums.  Winograd's inner product takes
 * two terms with one multiplication:
 *
 *   w0 x0 + w1 x1 = (w0 + x1) (w1 + x0) - w0 w1 - x0 x1
 *
 * w0 w1 is summed once a group of rows, x0 x1 once a column.  All of it is integers modulo 2^32,
 * and what the sum is in the end fits: the same bits as any other way.  So weights are unpacked
 * to int16, times the integer scales of their sub-blocks, which then cost nothing more: even
 * elements and odd ones apart, and every column of the activations passes over them.
 *
 * Included by unpacked_avx2.c behind unpacked.h, whose unpack functions and columns it uses.
 * Zen 2, one thread, 512 columns: Q6_K 122 instead of 103 GOP/s, IQ4_XS 122 instead of 85, Q8_0 101
 * instead of 93, whose scales at every 32 elements cost most. */

#include "compute/cpu/unpack_q6_k.h"

#define PAIRED_R 2 /* groups in a tile: they share each column's bytes, taken apart */
#define PAIRED_N 3 /* columns in a tile: 12 sums, all that 16 registers can hold */

typedef struct {
    int16_t w[ELEMENTS / 4][2][EXO_GROUP_ROWS][2]; /* 0, 2 and 1, 3 of each four, times scale */
    int32_t products[8][EXO_GROUP_ROWS];           /* sum w0 w1: of each block */
    unpacked u;                                    /* the scales of the blocks */
} paired;

/* Even and odd bytes as int16. */
EXO_INLINE bv even_bytes(bv v) { return _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8); }
EXO_INLINE bv odd_bytes(bv v) { return _mm256_srai_epi16(v, 8); }

/* x + what stands at p, which is read each time: kept in registers, weights push the sums out. */
EXO_INLINE bv add16_at(bv x, const void *p) {
    bv sum;
    __asm__("vpaddw %1, %2, %0" : "=x"(sum) : "m"(*(const bv *)p), "x"(x));
    return sum;
}

/* ---- types whose kernel for few columns has no use for the unpacked form ---- */

static EXO_NOINLINE void unpack_q8_0(unpacked *u, const exo_weight *w, uint32_t g, uint32_t b,
                                     uint32_t n) {
    const uint8_t *q = quants_at(w, g, b, 512), *s = scales_at(w, g, b, 32);
    ahead(q, n * 512);
    memcpy(u->q, q, (size_t)n * 512);
    for (uint32_t i = 0; i < n; i++) {
        for (int r = 0; r < EXO_GROUP_ROWS; r += BV_ROWS) put_halves(u->d[i], s + i * 32, r);
    }
}

/* ---- taking apart ---- */

/* `words` words of each of n blocks: 8, or all of one block of 256 with its scales. */
EXO_INLINE void pair_up(paired *p, uint32_t n, const int words, const bool scaled) {
    for (uint32_t b = 0; b < n; b++) {
        for (int r = 0; r < EXO_GROUP_ROWS; r += BV_ROWS) {
            iv sum = iv_zero();
            for (int i = 0; i < words; i++) {
                uint32_t at = b * 8 + (uint32_t)i;
                bv v = bv_load(p->u.q[at][r]), even = even_bytes(v), odd = odd_bytes(v);
                if (scaled) {
                    bv scale = bv_load(p->u.scale[at / 4][r]);
                    even = _mm256_mullo_epi16(even, scale);
                    odd = _mm256_mullo_epi16(odd, scale);
                }
                bv_store(p->w[at][0][r], even);
                bv_store(p->w[at][1][r], odd);
                sum = _mm256_add_epi32(sum, _mm256_madd_epi16(even, odd));
            }
            bv_store(&p->products[b][r], sum);
        }
    }
}

/* sum x0 x1 of 32 elements, in eight parts. */
EXO_INLINE iv products_of(const int8_t *x) {
    bv v = bv_load(x);
    return _mm256_madd_epi16(even_bytes(v), odd_bytes(v));
}

/* to[b]: minus the sum of v[b]. */
EXO_INLINE void minus_sums_of_8(int32_t to[8], const iv v[8]) {
    iv a = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
    iv b = _mm256_hadd_epi32(_mm256_hadd_epi32(v[4], v[5]), _mm256_hadd_epi32(v[6], v[7]));
    iv low = _mm256_permute2x128_si256(a, b, 0x20), high = _mm256_permute2x128_si256(a, b, 0x31);
    bv_store(to, bv_sub32(bv_sub32(iv_zero(), low), high));
}

/* ---- the product ---- */

/* sum[h][k] += (w0 + x1) (w1 + x0) over `words` words from word j on; x at it. */
EXO_INLINE void paired_dots(const paired *p, uint32_t j, const int words, const int8_t *x,
                            size_t ld, iv sum[2 * PAIRED_R][PAIRED_N], const int R, const int N) {
    EXO_NO_UNROLL for (int i = 0; i < words; i++, j++, x += 4) {
        EXO_UNROLL for (int k = 0; k < N; k++) {
            bv v = spread4(x + k * ld), x0 = even_bytes(v), x1 = odd_bytes(v);
            EXO_UNROLL for (int h = 0; h < 2 * R; h++) {
                bv a = add16_at(x1, p[h / 2].w[j][0][h % 2 * 8]);
                bv b = add16_at(x0, p[h / 2].w[j][1][h % 2 * 8]);
                sum[h][k] = in_order(_mm256_add_epi32(sum[h][k], _mm256_madd_epi16(a, b)));
            }
        }
    }
}

EXO_INLINE void paired_start(const paired *p, uint32_t b, int32_t minus[PAIRED_N][8],
                             iv sum[2 * PAIRED_R][PAIRED_N], const int R, const int N) {
    EXO_UNROLL for (int k = 0; k < N; k++) {
        bv start = spread4(&minus[k][b]);
        EXO_UNROLL for (int h = 0; h < 2 * R; h++) {
            sum[h][k] = bv_sub32(start, bv_load(&p[h / 2].products[b][h % 2 * 8]));
        }
    }
}

/* 8 rows of column k: their sums, times the block's scales, on top of what is there. */
EXO_INLINE fv scaled_256(const unpacked *u, const columns *t, int r, int k, iv sum,
                         const float *y) {
    fv dw = fv_scaled(fv_load(u->d[0] + r), t->d[k * t->ld_d]);
    return fv_fma(fv_of(sum), dw, t->first ? fv_zero() : fv_load(y));
}

/* The same with minima: column by column, whose sums over sub-blocks then meet the minima of all
 * rows (unrolled, gcc 12 spills them: Q5_K 93 instead of 111 GOP/s). */
EXO_INLINE void add_minima(const paired *p, const columns *t, iv sum[2 * PAIRED_R][PAIRED_N],
                           const int R, const int N) {
    iv done[PAIRED_N][2 * PAIRED_R];
    EXO_UNROLL for (int k = 0; k < N; k++) {
        EXO_UNROLL for (int h = 0; h < 2 * R; h++) done[k][h] = sum[h][k];
    }
    EXO_NO_UNROLL for (int k = 0; k < N; k++) {
        const int16_t *sums = t->sums + k * t->ld_d * EXO_Q256_SUMS + 8;
        bv sub[8];
        EXO_UNROLL for (int i = 0; i < 8; i++) sub[i] = spread4(sums + 2 * i);
        EXO_NO_UNROLL for (int h = 0; h < 2 * R; h++) {
            const unpacked *u = &p[h / 2].u;
            int r = h % 2 * BV_ROWS;
            float *y = t->y + k * t->ld_y + h * BV_ROWS;
            iv m[2] = {iv_zero(), iv_zero()};
            EXO_UNROLL for (int i = 0; i < 8; i++) {
                iv both = _mm256_madd_epi16(sub[i], bv_load(u->min[i][r]));
                m[i % 2] = _mm256_add_epi32(m[i % 2], both);
            }
            fv dmin = fv_scaled(fv_load(u->dmin[0] + r), t->d[k * t->ld_d]);
            fv f = scaled_256(u, t, r, k, done[k][h], y);
            fv_store(y, fv_fnma(fv_of(_mm256_add_epi32(m[0], m[1])), dmin, f));
        }
    }
}

EXO_INLINE void paired_256(const paired *p, const columns t, const int R, const int N,
                           const bool minima) {
    int32_t minus[PAIRED_N][8];
    EXO_UNROLL for (int k = 0; k < N; k++) {
        iv parts[8] = {iv_zero()};
        for (int b = 0; b < 8; b++) {
            parts[0] = _mm256_add_epi32(parts[0], products_of(t.x + k * t.ld_q + b * 32));
        }
        EXO_UNROLL for (int i = 1; i < 8; i++) parts[i] = parts[0];
        minus_sums_of_8(minus[k], parts);
    }
    iv sum[2 * PAIRED_R][PAIRED_N];
    paired_start(p, 0, minus, sum, R, N);
    paired_dots(p, 0, 64, t.x, t.ld_q, sum, R, N);
    if (minima) {
        add_minima(p, &t, sum, R, N);
        return;
    }
    EXO_UNROLL for (int h = 0; h < 2 * R; h++) {
        EXO_UNROLL for (int k = 0; k < N; k++) {
            float *y = t.y + k * t.ld_y + h * BV_ROWS;
            fv_store(y, scaled_256(&p[h / 2].u, &t, h % 2 * BV_ROWS, k, sum[h][k], y));
        }
    }
}

/* Block b's sums, times its scales, are added to the results. */
EXO_INLINE void add_32(const paired *p, const columns *t, uint32_t b,
                       iv sum[2 * PAIRED_R][PAIRED_N], const int R, const int N) {
    EXO_UNROLL for (int h = 0; h < 2 * R; h++) {
        fv dw = fv_load(p[h / 2].u.d[b] + h % 2 * BV_ROWS);
        EXO_UNROLL for (int k = 0; k < N; k++) {
            float *y = t->y + k * t->ld_y + h * BV_ROWS;
            fv scale = fv_scaled(dw, t->d[k * t->ld_d + b]);
            fv_store(y, fv_fma(fv_of(sum[h][k]), scale, fv_load(y)));
        }
    }
}

EXO_INLINE void paired_32(const paired *p, const columns t, uint32_t n, const int R, const int N) {
    int32_t minus[PAIRED_N][8];
    EXO_UNROLL for (int k = 0; k < N; k++) {
        iv parts[8];
        for (uint32_t b = 0; b < 8; b++) {
            parts[b] = b < n ? products_of(t.x + k * t.ld_q + b * 32) : iv_zero();
        }
        minus_sums_of_8(minus[k], parts);
        EXO_UNROLL for (int h = 0; h < 2 * R; h++) {
            if (t.first) fv_store(t.y + k * t.ld_y + h * 8, fv_zero());
        }
    }
    for (uint32_t b = 0; b < n; b++) {
        iv sum[2 * PAIRED_R][PAIRED_N];
        paired_start(p, b, minus, sum, R, N);
        paired_dots(p, b * 8, 8, t.x + b * 32, t.ld_q, sum, R, N);
        add_32(p, &t, b, sum, R, N);
    }
}

/* All columns over what is unpacked of R groups from g on: n blocks from b on. */
typedef void (*paired_fn)(const paired *p, const exo_matmul_task *t, uint32_t g, uint32_t b,
                          uint32_t n);

#define PAIRED_PASS(name, elems, R, TILE)                                                          \
    static EXO_NOINLINE void name(const paired *p, const exo_matmul_task *t, uint32_t g,           \
                                  uint32_t b, uint32_t n) {                                        \
        uint32_t c = 0;                                                                            \
        (void)n;                                                                                   \
        for (; c + 3 <= t->n; c += 3) TILE(columns_at(t, g, b, c, elems), R, 3);                   \
        if (c + 2 == t->n) TILE(columns_at(t, g, b, c, elems), R, 2);                              \
        if (c + 1 == t->n) TILE(columns_at(t, g, b, c, elems), R, 1);                              \
    }
#define PAIRED_256(at, R, N)  paired_256(p, at, R, N, false)
#define PAIRED_256M(at, R, N) paired_256(p, at, R, N, true)
#define PAIRED_32(at, R, N)   paired_32(p, at, n, R, N)
PAIRED_PASS(paired_256_1, 256, 1, PAIRED_256)
PAIRED_PASS(paired_256_2, 256, 2, PAIRED_256)
PAIRED_PASS(paired_256m_1, 256, 1, PAIRED_256M)
PAIRED_PASS(paired_256m_2, 256, 2, PAIRED_256M)
PAIRED_PASS(paired_32_1, 32, 1, PAIRED_32)
PAIRED_PASS(paired_32_2, 32, 2, PAIRED_32)

/* What a type needs, and from how many columns on its preparation is worth it: measured on Zen 2.
 * Q4_0 and Q4_K have kernels that are faster; Q4_1, Q5_0, Q5_1 and MXFP4 gain nothing. */
static const struct {
    unpack_fn unpack;
    paired_fn pass[PAIRED_R]; /* of one group, of two */
    uint32_t columns;
} paired_types[EXO_DTYPE_LIMIT] = {
    [EXO_Q8_0] = {unpack_q8_0, {paired_32_1, paired_32_2}, 64},
    [EXO_IQ4_NL] = {unpack_iq4_nl, {paired_32_1, paired_32_2}, 24},
    [EXO_Q2_K] = {unpack_q2_k, {paired_256m_1, paired_256m_2}, 64},
    [EXO_Q3_K] = {unpack_q3_k, {paired_256_1, paired_256_2}, 64},
    [EXO_Q5_K] = {unpack_q5_k, {paired_256m_1, paired_256m_2}, 64},
    [EXO_Q6_K] = {unpack_q6_k, {paired_256_1, paired_256_2}, 32},
    [EXO_IQ4_XS] = {unpack_iq4_xs, {paired_256_1, paired_256_2}, 24},
    [EXO_IQ2_XXS] = {unpack_rows, {paired_256_1, paired_256_2}, 24},
    [EXO_IQ2_XS] = {unpack_rows, {paired_256_1, paired_256_2}, 24},
    [EXO_IQ2_S] = {unpack_rows, {paired_256_1, paired_256_2}, 24},
    [EXO_IQ3_XXS] = {unpack_rows, {paired_256_1, paired_256_2}, 24},
    [EXO_IQ3_S] = {unpack_rows, {paired_256_1, paired_256_2}, 24},
    [EXO_IQ1_S] = {unpack_rows, {paired_256_1, paired_256_2}, 24},
    [EXO_IQ1_M] = {unpack_rows, {paired_256_1, paired_256_2}, 24},
};

static bool paired_matmul(const exo_matmul_task *t) {
    const exo_weight *w = t->w;
    const uint32_t least = paired_types[w->type].columns;
    if (least == 0 || t->n < least) return false;
    const bool wide = exo_dtype_get(w->type)->block_elems == ELEMENTS;
    const uint32_t step = wide ? 1 : 8;
    for (uint32_t g = 0; g < t->n_groups; g += PAIRED_R) {
        uint32_t R = t->n_groups - g < PAIRED_R ? t->n_groups - g : PAIRED_R;
        for (uint32_t b = 0; b < w->n_blocks; b += step) {
            uint32_t n = w->n_blocks - b < step ? w->n_blocks - b : step;
            _Alignas(64) paired p[PAIRED_R];
            for (uint32_t i = 0; i < R; i++) {
                paired_types[w->type].unpack(&p[i].u, w, t->g0 + g + i, b, n);
                if (wide) {
                    pair_up(&p[i], 1, 64, true);
                } else {
                    pair_up(&p[i], n, 8, false);
                }
            }
            paired_types[w->type].pass[R - 1](p, t, g, b, n);
        }
    }
    return true;
}
