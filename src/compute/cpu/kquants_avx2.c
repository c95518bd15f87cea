/* kquants_avx2.c - Q4_K and Q6_K products with AVX2, Q5_K's of one column.
 *
 * vpmaddubsw gives int16 pair sums of unsigned quants and signed activations; as many of them
 * are added as fit int16, and vpmaddwd then multiplies by the sub-block's scale instead of by
 * one.  The offset of Q6_K and the minima of Q4_K are sums over sub-blocks of scale * sum(x),
 * taken two sub-blocks at a time (exo_sum32_at). */
#include "compute/cpu/matmul_x86.h"

#include "compute/cpu/q4_k_avx2.h"

#define MAX_H 8 /* registers of 8 rows: two a group */
#define MAX_N 4

/* Bytes ahead in the quants of a single column, as measured on Zen 2: records of 2 and 3 KiB are
 * too coarse for the hardware's own prefetching. */
#define Q4_K_AHEAD 512
#define Q5_K_AHEAD 2560
#define Q6_K_AHEAD 1536

EXO_INLINE void ahead(const uint8_t *p, const int lines, const int N) {
    EXO_UNROLL for (int i = 0; i < lines && N == 1; i++) {
        _mm_prefetch((const char *)p + i * 64, _MM_HINT_T0);
    }
}

EXO_INLINE void store(const exo_tile *t, __m256 f[MAX_H][MAX_N], const int R, const int N) {
    EXO_UNROLL for (int h = 0; h < 2 * R; h++) {
        EXO_UNROLL for (int k = 0; k < N; k++) {
            _mm256_storeu_ps(t->y + k * t->ld_y + h / 2 * t->gy + h % 2 * 8, f[h][k]);
        }
    }
}

EXO_INLINE void clear(__m256 f[MAX_H][MAX_N], const int R, const int N) {
    EXO_UNROLL for (int h = 0; h < 2 * R; h++) {
        EXO_UNROLL for (int k = 0; k < N; k++) f[h][k] = _mm256_setzero_ps();
    }
}

/* Byte j of each 32-bit lane, twice as int16, for vpmaddwd. */
EXO_INLINE __m256i byte_twice(__m256i v, const int j) {
    __m256i b = _mm256_and_si256(_mm256_srli_epi32(v, j * 8), _mm256_set1_epi32(255));
    return _mm256_or_si256(b, _mm256_slli_epi32(b, 16));
}
EXO_INLINE __m256i signed_byte_twice(__m256i v, const int j) {
    __m256i top = _mm256_slli_epi32(v, (3 - j) * 8); /* the byte on top of the lane */
    __m256i hi = _mm256_and_si256(_mm256_srai_epi32(top, 8), _mm256_set1_epi32((int)0xFFFF0000));
    return _mm256_or_si256(hi, _mm256_srli_epi32(_mm256_srai_epi32(top, 8), 16));
}

/* ---- Q4_K ---- */

/* isum[h] += sum sc_j * dot_j of sub-blocks 2p (j 0) and 2p + 1 (j 1), for both halves of a group;
 * q and x at the pair.  Each column's sums of a sub-block are eight pair sums of at most
 * 15 * 127 * 2: 30480 fits int16. */
EXO_INLINE void q4_k_dots(const uint8_t *q, const int8_t *x, size_t ld_q, const __m256i word[2],
                          __m256i isum[2][MAX_N], const int N) {
    const __m256i low = _mm256_set1_epi8(15);
    EXO_UNROLL for (int j = 0; j < 2; j++) {
        __m256i v[2][MAX_N];
        EXO_UNROLL for (int k = 0; k < N; k++) v[0][k] = v[1][k] = _mm256_setzero_si256();
        EXO_NO_UNROLL for (int i = 0; i < 8; i++) {
            __m256i z0 = load(q + i * 64), z1 = load(q + i * 64 + 32);
            z0 = _mm256_and_si256(j == 1 ? _mm256_srli_epi16(z0, 4) : z0, low);
            z1 = _mm256_and_si256(j == 1 ? _mm256_srli_epi16(z1, 4) : z1, low);
            EXO_UNROLL for (int k = 0; k < N; k++) {
                __m256i xv = spread4(x + k * ld_q + j * 32 + i * 4);
                v[0][k] = in_order(_mm256_add_epi16(v[0][k], _mm256_maddubs_epi16(z0, xv)));
                v[1][k] = in_order(_mm256_add_epi16(v[1][k], _mm256_maddubs_epi16(z1, xv)));
            }
        }
        __m256i scale0 = byte_twice(word[0], j), scale1 = byte_twice(word[1], j);
        EXO_UNROLL for (int k = 0; k < N; k++) {
            isum[0][k] = _mm256_add_epi32(isum[0][k], _mm256_madd_epi16(v[0][k], scale0));
            isum[1][k] = _mm256_add_epi32(isum[1][k], _mm256_madd_epi16(v[1][k], scale1));
        }
    }
}

/* The same for one column of R groups, pair p of each, the pair's nibbles side by side: each word
 * is loaded once.  A line of each group at a time, in a loop: the hardware then reads ahead in all
 * of them (Zen 2: 18.2 GB/s with eight lines of one and then of the other, 20.5 so). */
EXO_INLINE void q4_k_pair_1(const exo_tile *t, const uint8_t *q, const int8_t *x,
                            const __m256i word[MAX_H], __m256i isum[MAX_H][MAX_N], const int R) {
    const __m256i low = _mm256_set1_epi8(15);
    __m256i v[MAX_H][2]; /* of half h, nibble j */
    EXO_UNROLL for (int h = 0; h < 2 * R; h++) v[h][0] = v[h][1] = _mm256_setzero_si256();
    EXO_NO_UNROLL for (int i = 0; i < 8; i++) {
        __m256i x0 = spread4(x + i * 4), x1 = spread4(x + 32 + i * 4);
        EXO_UNROLL for (int h = 0; h < 2 * R; h++) {
            const uint8_t *line = q + h / 2 * t->gq + i * 64;
            if (h % 2 == 0) ahead(line + Q4_K_AHEAD, 1, 1);
            __m256i z = load(line + h % 2 * 32), lo = _mm256_and_si256(z, low);
            __m256i hi = _mm256_and_si256(_mm256_srli_epi16(z, 4), low);
            v[h][0] = in_order(_mm256_add_epi16(v[h][0], _mm256_maddubs_epi16(lo, x0)));
            v[h][1] = in_order(_mm256_add_epi16(v[h][1], _mm256_maddubs_epi16(hi, x1)));
        }
    }
    EXO_UNROLL for (int h = 0; h < 2 * R; h++) {
        EXO_UNROLL for (int j = 0; j < 2; j++) {
            __m256i scaled = _mm256_madd_epi16(v[h][j], byte_twice(word[h], j));
            isum[h][0] = _mm256_add_epi32(isum[h][0], scaled);
        }
    }
}

/* One super-block of R groups. */
EXO_INLINE void q4_k_block(const exo_tile *t, uint32_t b, __m256 f[MAX_H][MAX_N], const int R,
                           const int N) {
    const uint8_t *q = t->q + (size_t)b * 2048, *s = t->s + (size_t)b * 256;
    q4_k_scales u[MAX_H];
    __m256i isum[MAX_H][MAX_N];
    EXO_UNROLL for (int h = 0; h < 2 * R; h++) {
        u[h] = q4_k_unpack(s + h / 2 * t->gs + 64 + h % 2 * 32);
        EXO_UNROLL for (int k = 0; k < N; k++) isum[h][k] = _mm256_setzero_si256();
    }
    EXO_NO_UNROLL for (int p = 0; p < 4; p++) { /* pairs of sub-blocks: low, high nibbles */
        const __m128i at = _mm_cvtsi32_si128(p % 2 * 16);
        const int8_t *x = t->x + b * 256 + p * 64;
        __m256i word[MAX_H];
        EXO_UNROLL for (int h = 0; h < 2 * R; h++) {
            word[h] = _mm256_srl_epi32(u[h].scale[p / 2], at);
        }
        if (N == 1) q4_k_pair_1(t, q + p * 512, x, word, isum, R);
        EXO_UNROLL for (int r = 0; r < R && N > 1; r++) {
            q4_k_dots(q + r * t->gq + p * 512, x, t->ld_q, &word[2 * r], &isum[2 * r], N);
        }
    }
    EXO_UNROLL for (int h = 0; h < 2 * R; h++) {
        q4_k_add(s + h / 2 * t->gs, h % 2, t, b, &u[h], isum[h], f[h], N);
    }
}

EXO_INLINE void tile_q4_k(const exo_tile t, const int R, const int N) {
    __m256 f[MAX_H][MAX_N];
    clear(f, R, N);
    for (uint32_t b = 0; b < t.n_blocks; b++) q4_k_block(&t, b, f, R, N);
    store(&t, f, R, N);
}

/* ---- Q5_K, one column: as Q4_K, with a fifth bit from a plane of its own ---- */

/* Sub-blocks 2p and 2p + 1 of both halves of a group; q and x at the pair.  Four pair sums of
 * 31 * 127 * 2 fit int16. */
EXO_INLINE void q5_k_dots_1(const uint8_t *q, const uint8_t *high, const int8_t *x,
                            const __m256i word[2], __m256i isum[2][MAX_N], const __m128i bit) {
    const __m256i low = _mm256_set1_epi8(15), fifth = _mm256_set1_epi8(16);
    EXO_UNROLL for (int h = 0; h < 2; h++) {
        const __m256i scale[2] = {byte_twice(word[h], 0), byte_twice(word[h], 1)};
        EXO_UNROLL for (int i = 0; i < 8; i += 4) {
            __m256i v[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
            EXO_UNROLL for (int k = i; k < i + 4; k++) {
                __m256i z = load(q + k * 64 + h * 32), top = load(high + k * 64 + h * 32);
                top = _mm256_srl_epi16(top, bit); /* bits 0 and 1 of each byte are the pair's */
                __m256i a = _mm256_and_si256(_mm256_slli_epi16(top, 4), fifth);
                __m256i b = _mm256_and_si256(_mm256_slli_epi16(top, 3), fifth);
                a = _mm256_or_si256(_mm256_and_si256(z, low), a);
                b = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(z, 4), low), b);
                __m256i x0 = spread4(x + k * 4), x1 = spread4(x + 32 + k * 4);
                v[0] = in_order(_mm256_add_epi16(v[0], _mm256_maddubs_epi16(a, x0)));
                v[1] = in_order(_mm256_add_epi16(v[1], _mm256_maddubs_epi16(b, x1)));
            }
            isum[h][0] = _mm256_add_epi32(isum[h][0], _mm256_madd_epi16(v[0], scale[0]));
            isum[h][0] = _mm256_add_epi32(isum[h][0], _mm256_madd_epi16(v[1], scale[1]));
        }
    }
}

EXO_INLINE void q5_k_block(const exo_tile *t, uint32_t b, __m256 f[2][MAX_N]) {
    const uint8_t *q = t->q + (size_t)b * 2560, *s = t->s + (size_t)b * 256;
    const q4_k_scales u[2] = {q4_k_unpack(s + 64), q4_k_unpack(s + 96)};
    __m256i isum[2][MAX_N];
    isum[0][0] = isum[1][0] = _mm256_setzero_si256();
    /* A loop: unrolled, each load steps by whole records, which prefetching does not follow (Zen 2:
     * 7 instead of 13 GB/s). */
    EXO_NO_UNROLL for (int p = 0; p < 4; p++) {
        const __m128i at = _mm_cvtsi32_si128(p % 2 * 16);
        const __m256i word[2] = {_mm256_srl_epi32(u[0].scale[p / 2], at),
                                 _mm256_srl_epi32(u[1].scale[p / 2], at)};
        ahead(q + Q5_K_AHEAD + p * 640, 10, 1);
        q5_k_dots_1(q + p * 512, q + 2048, t->x + b * 256 + p * 64, word, isum,
                    _mm_cvtsi32_si128(2 * p));
    }
    EXO_UNROLL for (int h = 0; h < 2; h++) q4_k_add(s, h, t, b, &u[h], isum[h], f[h], 1);
}

void exo_avx2_q5_k_one(const exo_matmul_task *task) {
    for (uint32_t g = 0; g < task->n_groups; g++) {
        const exo_tile t = exo_tile_at(task, g, 1, 0);
        __m256 f[2][MAX_N];
        f[0][0] = f[1][0] = _mm256_setzero_ps();
        for (uint32_t b = 0; b < t.n_blocks; b++) q5_k_block(&t, b, f);
        _mm256_storeu_ps(t.y, f[0][0]);
        _mm256_storeu_ps(t.y + 8, f[1][0]);
    }
}

/* ---- Q6_K ---- */

/* 8 rows x 4 quants (0 to 63): quarter k of a half, word i (elements 4i .. of the quarter). */
EXO_INLINE __m256i q6_k_quants(const uint8_t *low, const uint8_t *high, const int k, const int i) {
    const __m256i m4 = _mm256_set1_epi8(0x0F), top = _mm256_set1_epi8(0x30);
    __m256i l = load(low + (k % 2 * 8 + i) * 64), h = load(high + i * 64);
    l = _mm256_and_si256(k < 2 ? l : _mm256_srli_epi16(l, 4), m4);
    if (k == 0) h = _mm256_slli_epi16(h, 4);
    if (k == 1) h = _mm256_slli_epi16(h, 2);
    if (k == 3) h = _mm256_srli_epi16(h, 2);
    return _mm256_or_si256(l, _mm256_and_si256(h, top));
}

/* sum sc_j * sum_j over the 16 sub-blocks. */
EXO_INLINE __m256i q6_k_offsets(const uint8_t *s, const int16_t *sums) {
    __m256i m = _mm256_setzero_si256();
    EXO_UNROLL for (int h = 0; h < 4; h++) {
        __m256i w = load(s + h * 64);
        __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8), odd = _mm256_srai_epi16(w, 8);
        m = _mm256_add_epi32(m, _mm256_madd_epi16(even, spread4(sums + h * 4)));
        m = _mm256_add_epi32(m, _mm256_madd_epi16(odd, spread4(sums + h * 4 + 2)));
    }
    return m;
}

/* isum[h] += sum sc_j * dot_j over sub-block e of each quarter of a half (32 rows of words; x at
 * it), for both halves of a group, quants unsigned.  Two pair sums of 63 * 127 * 2 fit int16. */
EXO_INLINE void q6_k_dots(const uint8_t *low, const uint8_t *high, const int8_t *x, size_t ld_q,
                          const __m256i scale[2], __m256i isum[2][MAX_N], const int quarter,
                          const int N) {
    EXO_NO_UNROLL for (int i = 0; i < 4; i += 2) {
        __m256i w[2][2];
        EXO_UNROLL for (int h = 0; h < 2; h++) {
            w[h][0] = q6_k_quants(low + h * 32, high + h * 32, quarter, i);
            w[h][1] = q6_k_quants(low + h * 32, high + h * 32, quarter, i + 1);
        }
        EXO_UNROLL for (int k = 0; k < N; k++) {
            const int8_t *xk = x + k * ld_q + i * 4;
            __m256i x0 = spread4(xk), x1 = spread4(xk + 4);
            EXO_UNROLL for (int h = 0; h < 2; h++) {
                __m256i v = _mm256_add_epi16(_mm256_maddubs_epi16(w[h][0], x0),
                                             _mm256_maddubs_epi16(w[h][1], x1));
                isum[h][k] = in_order(_mm256_add_epi32(isum[h][k], _mm256_madd_epi16(v, scale[h])));
            }
        }
    }
}

/* The scales of sub-blocks e % 2 of the four quarters of half e / 2. */
EXO_INLINE void q6_k_scales(const uint8_t *s, int e, __m256i scale[4]) {
    const __m128i up =
        _mm_cvtsi32_si128((1 - e % 2) * 8); /* an even one moves to the odd's place */
    EXO_UNROLL for (int c = 0; c < 4; c++) {
        __m256i word = _mm256_sll_epi32(load(s + (e / 2 * 2 + c / 2) * 64), up);
        scale[c] = signed_byte_twice(word, c % 2 * 2 + 1);
    }
}

/* Sub-block e % 2 of the quarters of half e / 2 of one group; q, s and x at the super-block. */
EXO_INLINE void q6_k_part(const uint8_t *q, const uint8_t *s, const int8_t *x, size_t ld_q,
                          const int e, __m256i isum[2][MAX_N], const int N) {
    const uint8_t *low = q + e / 2 * 1024 + e % 2 * 256;
    const uint8_t *high = q + 2048 + e / 2 * 512 + e % 2 * 256;
    __m256i scale[2][4];
    x += e / 2 * 128 + e % 2 * 16;
    EXO_UNROLL for (int h = 0; h < 2; h++) q6_k_scales(s + h * 32, e, scale[h]);
    EXO_UNROLL for (int c = 0; c < 4; c++) { /* quarters */
        const __m256i both[2] = {scale[0][c], scale[1][c]};
        q6_k_dots(low, high, x + c * 32, ld_q, both, isum, c, N);
    }
}

/* One column: words 2p and 2p + 1 of all quarters of a half, one half of the group; each is loaded
 * once. */
EXO_INLINE __m256i q6_k_dots_1(const uint8_t *low, const uint8_t *high, const int8_t *x,
                               const __m256i scale[4], __m256i isum) {
    EXO_UNROLL for (int c = 0; c < 4; c++) {
        __m256i a = _mm256_maddubs_epi16(q6_k_quants(low, high, c, 0), spread4(x + c * 32));
        __m256i b = _mm256_maddubs_epi16(q6_k_quants(low, high, c, 1), spread4(x + c * 32 + 4));
        __m256i both = _mm256_madd_epi16(_mm256_add_epi16(a, b), scale[c]);
        isum = in_order(_mm256_add_epi32(isum, both));
    }
    return isum;
}

/* One column of a super-block of R groups.  Their records are read side by side, a line or two of
 * each plane at a time in a loop: the hardware then reads ahead in all of them. */
EXO_INLINE void q6_k_block_1(const exo_tile *t, uint32_t b, __m256i isum[MAX_H][MAX_N],
                             const int R) {
    const uint8_t *q = t->q + (size_t)b * 3072, *s = t->s + (size_t)b * 288;
    const int8_t *x = t->x + b * 256;
    __m256i scale[4][MAX_H][4];
    EXO_NO_UNROLL for (int e = 0; e < 4; e++) {
        EXO_UNROLL for (int h = 0; h < 2 * R; h++) {
            q6_k_scales(s + h / 2 * t->gs + h % 2 * 32, e, scale[e][h]);
        }
    }
    EXO_NO_UNROLL for (int p = 0; p < 8; p++) { /* pairs of words: four a half */
        const uint8_t *low = q + p / 4 * 1024 + p % 4 * 128, *high = q + 2048 + p * 128;
        const int8_t *xp = x + p / 4 * 128 + p % 4 * 8;
        EXO_UNROLL for (int r = 0; r < R; r++) {
            ahead(q + r * t->gq + Q6_K_AHEAD + p * 384, 6, 1);
            EXO_UNROLL for (int h = 0; h < 2; h++) {
                size_t at = r * t->gq + (size_t)h * 32;
                isum[2 * r + h][0] = q6_k_dots_1(low + at, high + at, xp, scale[p / 2][2 * r + h],
                                                 isum[2 * r + h][0]);
            }
        }
    }
}

/* One super-block of R groups. */
EXO_INLINE void q6_k_block(const exo_tile *t, uint32_t b, __m256 f[MAX_H][MAX_N], const int R,
                           const int N) {
    const uint8_t *q = t->q + (size_t)b * 3072, *s = t->s + (size_t)b * 288;
    __m256i isum[MAX_H][MAX_N];
    EXO_UNROLL for (int h = 0; h < 2 * R; h++) {
        EXO_UNROLL for (int k = 0; k < N; k++) isum[h][k] = _mm256_setzero_si256();
    }
    if (N == 1) q6_k_block_1(t, b, isum, R);
    EXO_NO_UNROLL for (int e = 0; e < 4 && N > 1; e++) {
        EXO_UNROLL for (int r = 0; r < R; r++) {
            q6_k_part(q + r * t->gq, s + r * t->gs, t->x + b * 256, t->ld_q, e, &isum[2 * r], N);
        }
    }
    EXO_UNROLL for (int h = 0; h < 2 * R; h++) {
        const uint8_t *sh = s + h / 2 * t->gs;
        __m256 dw = load_f16(sh + 256 + h % 2 * 16);
        EXO_UNROLL for (int k = 0; k < N; k++) {
            const int16_t *sums = t->sums + (k * t->ld_d + b) * EXO_Q256_SUMS + 8;
            __m256i off = _mm256_slli_epi32(q6_k_offsets(sh + h % 2 * 32, sums), 5);
            __m256 dot = _mm256_cvtepi32_ps(_mm256_sub_epi32(isum[h][k], off));
            __m256 dwx = _mm256_mul_ps(dw, _mm256_set1_ps(t->d[k * t->ld_d + b]));
            f[h][k] = _mm256_fmadd_ps(dot, dwx, f[h][k]);
        }
    }
}

EXO_INLINE void tile_q6_k(const exo_tile t, const int R, const int N) {
    __m256 f[MAX_H][MAX_N];
    clear(f, R, N);
    for (uint32_t b = 0; b < t.n_blocks; b++) q6_k_block(&t, b, f, R, N);
    store(&t, f, R, N);
}

EXO_TILE_DRIVE_1(exo_avx2_q4_k, tile_q4_k, 3, 4, 3)
TILE_DRIVE_PAIRED(exo_avx2_q6_k, tile_q6_k, 2, 4, 3)
