/* unpacked.h - the kernel that all weight types without one of their own share.
 *
 * Blocks are unpacked first (unpack.h), columns then pass over them in tiles.  So a new type is an
 * unpack function and an entry in the table at the end.
 *
 * Included by one file per instruction set, behind a header that defines what unpack.h wants and
 *   iv                     bv as int32; iv_zero
 *   bv_dot16(sum, q, x, ld, scale, N, steps)
 *                          sum[k] += scale * (q . x[k * ld]) of 16 elements, for columns k < N;
 *                          q: 4 words of each row, 64 bytes from one to the next; scale: int16,
 *                          twice in each row's 32 bits; steps: words whose products with int8, in
 *                          pairs, are sure to fit int16 together
 *   bv_sums(sum, min, x)   sum + min[0] * x[0] + min[1] * x[1] of int16 pairs; one x for all rows
 *   fv_zero, fv_all, fv_load, fv_of (iv)
 *   fv_fma(a, b, c)        a * b + c; fv_fnma: -(a * b) + c; each rounded once */
#include "compute/cpu/unpack.h"

#define MAX_N 4 /* columns in a tile */

EXO_INLINE void tile_256(const unpacked *u, const columns t, const int N, const int steps,
                         const bool minima) {
    for (int r = 0; r < EXO_GROUP_ROWS; r += BV_ROWS) {
        iv isum[MAX_N];
        EXO_UNROLL for (int k = 0; k < N; k++) isum[k] = iv_zero();
        EXO_NO_UNROLL for (int j = 0; j < 16; j++) {
            bv_dot16(isum, u->q[4 * j][r], t.x + 16 * j, t.ld_q, bv_load(u->scale[j][r]), N, steps);
        }
        fv dw = fv_load(u->d[0] + r);
        EXO_UNROLL for (int k = 0; k < N; k++) {
            float dx = t.d[k * t.ld_d], *y = t.y + k * t.ld_y + r;
            fv f = t.first ? fv_zero() : fv_load(y);
            f = fv_fma(fv_of(isum[k]), fv_scaled(dw, dx), f);
            if (minima) {
                const int16_t *sums = t.sums + k * t.ld_d * EXO_Q256_SUMS + 8;
                iv m = iv_zero();
                EXO_UNROLL for (int i = 0; i < 8; i++) {
                    m = bv_sums(m, bv_load(u->min[i][r]), sums + 2 * i);
                }
                f = fv_fnma(fv_of(m), fv_scaled(fv_load(u->dmin[0] + r), dx), f);
            }
            fv_store(y, f);
        }
    }
}

EXO_INLINE void tile_32(const unpacked *u, const columns t, uint32_t n, const int N,
                        const int steps, const bool minima) {
    const bv one = bv_words(0x00010001u);
    for (int r = 0; r < EXO_GROUP_ROWS; r += BV_ROWS) {
        fv f[MAX_N];
        EXO_UNROLL for (int k = 0; k < N; k++) {
            f[k] = t.first ? fv_zero() : fv_load(t.y + k * t.ld_y + r);
        }
        for (uint32_t b = 0; b < n; b++) {
            iv isum[MAX_N];
            EXO_UNROLL for (int k = 0; k < N; k++) isum[k] = iv_zero();
            bv_dot16(isum, u->q[8 * b][r], t.x + 32 * b, t.ld_q, one, N, steps);
            bv_dot16(isum, u->q[8 * b + 4][r], t.x + 32 * b + 16, t.ld_q, one, N, steps);
            fv dw = fv_load(u->d[b] + r), dmin = minima ? fv_load(u->dmin[b] + r) : fv_zero();
            EXO_UNROLL for (int k = 0; k < N; k++) {
                float dx = t.d[k * t.ld_d + b];
                f[k] = fv_fma(fv_of(isum[k]), fv_scaled(dw, dx), f[k]);
                if (!minima) continue;
                fv sum = fv_all((float)t.sum32[k * t.ld_d + b]);
                f[k] = fv_fnma(sum, fv_scaled(dmin, dx), f[k]);
            }
        }
        EXO_UNROLL for (int k = 0; k < N; k++) fv_store(t.y + k * t.ld_y + r, f[k]);
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
        for (; c + 4 <= t->n; c += 4) TILE(columns_at(t, g, b, c, elems), 4);                      \
        if (c + 3 == t->n) TILE(columns_at(t, g, b, c, elems), 3);                                 \
        if (c + 2 == t->n) TILE(columns_at(t, g, b, c, elems), 2);                                 \
        if (c + 1 == t->n) TILE(columns_at(t, g, b, c, elems), 1);                                 \
    }
#define TILE_256_4(at, N)  tile_256(u, at, N, 4, false)
#define TILE_256_2(at, N)  tile_256(u, at, N, 2, false)
#define TILE_256_1(at, N)  tile_256(u, at, N, 1, false)
#define TILE_256_4M(at, N) tile_256(u, at, N, 4, true)
#define TILE_32_4(at, N)   tile_32(u, at, n, N, 4, false)
#define TILE_32_1(at, N)   tile_32(u, at, n, N, 1, false)
#define TILE_32_4M(at, N)  tile_32(u, at, n, N, 4, true)
PASS(pass_256_4, 256, TILE_256_4)
PASS(pass_256_2, 256, TILE_256_2)
PASS(pass_256_1, 256, TILE_256_1)
PASS(pass_256_4m, 256, TILE_256_4M)
PASS(pass_32_4, 32, TILE_32_4)
PASS(pass_32_1, 32, TILE_32_1)
PASS(pass_32_4m, 32, TILE_32_4M)

/* Quants of at most 31 allow 4 steps (4 * 2 * 31 * 127 = 31496), of at most 62 two, of 127 one. */
static const struct {
    unpack_fn unpack;
    pass_fn pass;
} types[EXO_DTYPE_LIMIT] = {
    [EXO_Q4_1] = {unpack_q4_1, pass_32_4m},     [EXO_Q5_0] = {unpack_q5_0, pass_32_4},
    [EXO_Q5_1] = {unpack_q5_1, pass_32_4m},     [EXO_IQ4_NL] = {unpack_iq4_nl, pass_32_1},
    [EXO_MXFP4] = {unpack_mxfp4, pass_32_4},    [EXO_Q2_K] = {unpack_q2_k, pass_256_4m},
    [EXO_Q3_K] = {unpack_q3_k, pass_256_4},     [EXO_Q5_K] = {unpack_q5_k, pass_256_4m},
    [EXO_IQ4_XS] = {unpack_iq4_xs, pass_256_1}, [EXO_IQ2_XXS] = {unpack_rows, pass_256_2},
    [EXO_IQ2_XS] = {unpack_rows, pass_256_2},   [EXO_IQ2_S] = {unpack_rows, pass_256_2},
    [EXO_IQ3_XXS] = {unpack_rows, pass_256_2},  [EXO_IQ3_S] = {unpack_rows, pass_256_4},
    [EXO_IQ1_S] = {unpack_rows, pass_256_4},    [EXO_IQ1_M] = {unpack_rows, pass_256_4},
};

EXO_INLINE void unpacked_matmul(const exo_matmul_task *t) {
    const exo_weight *w = t->w;
    uint32_t step = ELEMENTS / exo_dtype_get(w->type)->block_elems;
    for (uint32_t g = 0; g < t->n_groups; g++) {
        for (uint32_t b = 0; b < w->n_blocks; b += step) {
            uint32_t n = w->n_blocks - b < step ? w->n_blocks - b : step;
            _Alignas(64) unpacked u; /* no load or store of it crosses a cache line */
            types[w->type].unpack(&u, w, t->g0 + g, b, n);
            types[w->type].pass(&u, t, g, b, n);
        }
    }
}
