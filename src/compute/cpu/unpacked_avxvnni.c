/* unpacked_avxvnni.c - the types of unpack.h, and Q6_K, with AVX-VNNI.
 *
 * vpdpbusd multiplies unsigned by signed bytes: what is unpacked is flipped to unsigned once, for
 * all columns, and each sum starts at -128 * sum(x), which the activations bring along.  So a word
 * of weights costs one instruction a column, where AVX2's takes five.  A tile is both halves of a
 * group and six columns, as in matmul_avxvnni.c. */
#include "compute/cpu/bv_avx2.h"
#include "compute/cpu/matmul_x86.h"
#include "compute/cpu/unpack.h"
#include "compute/cpu/unpack_q6_k.h"

#define MAX_N    6
#define FEW_Q6_K 6 /* columns, for fewer of which Q6_K is not worth unpacking */

/* v += `words` words of both halves of a group, from q on, times x. */
EXO_INLINE void dots(const int8_t *q, const int8_t *x, size_t ld_q, iv v[2][MAX_N], const int words,
                     const int N) {
    EXO_NO_UNROLL for (int i = 0; i < words; i++, q += 64, x += 4) {
        bv w0 = bv_load(q), w1 = bv_load(q + 32);
        EXO_UNROLL for (int k = 0; k < N; k++) {
            bv xv = spread4(x + k * ld_q);
            v[0][k] = in_order(_mm256_dpbusd_avx_epi32(v[0][k], w0, xv));
            v[1][k] = in_order(_mm256_dpbusd_avx_epi32(v[1][k], w1, xv));
        }
    }
}

/* Column k of half h: its sums, times the block's scales, on top of what is there. */
EXO_INLINE void add_256(const unpacked *u, const columns *t, iv isum, const int k, const int h,
                        const bool minima) {
    float dx = t->d[k * t->ld_d], *y = t->y + k * t->ld_y + h * 8;
    fv f = t->first ? fv_zero() : fv_load(y);
    f = fv_fma(fv_of(isum), fv_scaled(fv_load(u->d[0] + h * 8), dx), f);
    if (minima) {
        const int16_t *sums = t->sums + k * t->ld_d * EXO_Q256_SUMS + 8;
        iv m = iv_zero();
        EXO_UNROLL for (int i = 0; i < 8; i++) {
            m = _mm256_dpwssd_avx_epi32(m, bv_load(u->min[i][h * 8]), spread4(sums + 2 * i));
        }
        f = fv_fnma(fv_of(m), fv_scaled(fv_load(u->dmin[0] + h * 8), dx), f);
    }
    fv_store(y, f);
}

/* words: of a sub-block, 4 or 8. */
EXO_INLINE void tile_256(const unpacked *u, const columns t, const int N, const int words,
                         const bool minima) {
    iv isum[2][MAX_N];
    EXO_UNROLL for (int k = 0; k < N; k++) isum[0][k] = isum[1][k] = iv_zero();
    EXO_NO_UNROLL for (int j = 0; j < 64 / words; j++) {
        uint32_t at = words == 8 ? exo_sum32_at((uint32_t)j) : exo_sum16_at((uint32_t)j);
        iv v[2][MAX_N];
        EXO_UNROLL for (int k = 0; k < N; k++) {
            v[0][k] = v[1][k] = _mm256_set1_epi32(-128 * t.sums[k * t.ld_d * EXO_Q256_SUMS + at]);
        }
        dots(u->q[j * words][0], t.x + j * words * 4, t.ld_q, v, words, N);
        EXO_UNROLL for (int h = 0; h < 2; h++) {
            bv scale = bv_sar(bv_load(u->scale[j * words / 4][h * 8]), 16);
            EXO_UNROLL for (int k = 0; k < N; k++) {
                isum[h][k] = _mm256_add_epi32(isum[h][k], _mm256_mullo_epi32(v[h][k], scale));
            }
        }
    }
    EXO_UNROLL for (int h = 0; h < 2; h++) {
        EXO_UNROLL for (int k = 0; k < N; k++) add_256(u, &t, isum[h][k], k, h, minima);
    }
}

/* Block b of half h, as add_256. */
EXO_INLINE void add_32(const unpacked *u, const columns *t, uint32_t b, const iv sum[MAX_N],
                       const int h, const int N, const bool minima) {
    fv dw = fv_load(u->d[b] + h * 8), dmin = minima ? fv_load(u->dmin[b] + h * 8) : fv_zero();
    EXO_UNROLL for (int k = 0; k < N; k++) {
        float dx = t->d[k * t->ld_d + b], *y = t->y + k * t->ld_y + h * 8;
        fv f = t->first && b == 0 ? fv_zero() : fv_load(y);
        f = fv_fma(fv_of(sum[k]), fv_scaled(dw, dx), f);
        if (minima) {
            fv all = fv_all((float)t->sum32[k * t->ld_d + b]);
            f = fv_fnma(all, fv_scaled(dmin, dx), f);
        }
        fv_store(y, f);
    }
}

EXO_INLINE void tile_32(const unpacked *u, const columns t, uint32_t n, const int N,
                        const bool minima) {
    for (uint32_t b = 0; b < n; b++) {
        iv v[2][MAX_N];
        EXO_UNROLL for (int k = 0; k < N; k++) {
            v[0][k] = v[1][k] = _mm256_set1_epi32(-128 * t.sum32[k * t.ld_d + b]);
        }
        dots(u->q[b * 8][0], t.x + b * 32, t.ld_q, v, 8, N);
        EXO_UNROLL for (int h = 0; h < 2; h++) add_32(u, &t, b, v[h], h, N, minima);
    }
}

/* All columns over what is unpacked of group g: n blocks from b on. */
typedef void (*pass_fn)(const unpacked *u, const exo_matmul_task *t, uint32_t g, uint32_t b,
                        uint32_t n);

#define PASS(name, elems, TILE)                                                                    \
    static EXO_NOINLINE void name(const unpacked *u, const exo_matmul_task *t, uint32_t g,         \
                                  uint32_t b, uint32_t n) {                                        \
        uint32_t c = 0;                                                                            \
        (void)n;                                                                                   \
        for (; c + 6 <= t->n; c += 6) TILE(columns_at(t, g, b, c, elems), 6);                      \
        if (c + 4 <= t->n) {                                                                       \
            TILE(columns_at(t, g, b, c, elems), 4);                                                \
            c += 4;                                                                                \
        }                                                                                          \
        if (c + 2 <= t->n) {                                                                       \
            TILE(columns_at(t, g, b, c, elems), 2);                                                \
            c += 2;                                                                                \
        }                                                                                          \
        if (c < t->n) TILE(columns_at(t, g, b, c, elems), 1);                                      \
    }
#define TILE_256_16(at, N)  tile_256(u, at, N, 4, false)
#define TILE_256_16M(at, N) tile_256(u, at, N, 4, true)
#define TILE_256_32(at, N)  tile_256(u, at, N, 8, false)
#define TILE_256_32M(at, N) tile_256(u, at, N, 8, true)
#define TILE_32(at, N)      tile_32(u, at, n, N, false)
#define TILE_32M(at, N)     tile_32(u, at, n, N, true)
PASS(pass_256_16, 256, TILE_256_16)
PASS(pass_256_16m, 256, TILE_256_16M)
PASS(pass_256_32, 256, TILE_256_32)
PASS(pass_256_32m, 256, TILE_256_32M)
PASS(pass_32, 32, TILE_32)
PASS(pass_32m, 32, TILE_32M)

static const struct {
    unpack_fn unpack;
    pass_fn pass;
} types[EXO_DTYPE_LIMIT] = {
    [EXO_Q4_1] = {unpack_q4_1, pass_32m},       [EXO_Q5_0] = {unpack_q5_0, pass_32},
    [EXO_Q5_1] = {unpack_q5_1, pass_32m},       [EXO_IQ4_NL] = {unpack_iq4_nl, pass_32},
    [EXO_MXFP4] = {unpack_mxfp4, pass_32},      [EXO_Q2_K] = {unpack_q2_k, pass_256_16m},
    [EXO_Q3_K] = {unpack_q3_k, pass_256_16},    [EXO_Q5_K] = {unpack_q5_k, pass_256_32m},
    [EXO_Q6_K] = {unpack_q6_k, pass_256_16},    [EXO_IQ4_XS] = {unpack_iq4_xs, pass_256_32},
    [EXO_IQ2_XXS] = {unpack_rows, pass_256_16}, [EXO_IQ2_XS] = {unpack_rows, pass_256_16},
    [EXO_IQ2_S] = {unpack_rows, pass_256_16},   [EXO_IQ3_XXS] = {unpack_rows, pass_256_16},
    [EXO_IQ3_S] = {unpack_rows, pass_256_16},   [EXO_IQ1_S] = {unpack_rows, pass_256_16},
    [EXO_IQ1_M] = {unpack_rows, pass_256_16},
};

EXO_INLINE void flip(unpacked *u, uint32_t words) {
    for (uint32_t i = 0; i < words; i++) {
        for (int r = 0; r < EXO_GROUP_ROWS; r += BV_ROWS) {
            put_words(u, (int)i, r, _mm256_xor_si256(bv_load(u->q[i][r]), bv_bytes(0x80)));
        }
    }
}

void exo_avxvnni_unpacked(const exo_matmul_task *t) {
    const exo_weight *w = t->w;
    const uint32_t step = ELEMENTS / exo_dtype_get(w->type)->block_elems;
    if (exo_avx2_unpacked_one(t)) return;
    for (uint32_t g = 0; g < t->n_groups; g++) {
        for (uint32_t b = 0; b < w->n_blocks; b += step) {
            uint32_t n = w->n_blocks - b < step ? w->n_blocks - b : step;
            _Alignas(64) unpacked u; /* no load or store of it crosses a cache line */
            types[w->type].unpack(&u, w, t->g0 + g, b, n);
            flip(&u, n * (ELEMENTS / 4 / step));
            types[w->type].pass(&u, t, g, b, n);
        }
    }
}

void exo_avxvnni_q6_k(const exo_matmul_task *t) {
    if (t->n < FEW_Q6_K) {
        exo_avx2_q6_k(t);
    } else {
        exo_avxvnni_unpacked(t);
    }
}
