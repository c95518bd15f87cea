/* kquants_avx2.c - Q4_K and Q6_K products with AVX2.
 *
 * vpmaddubsw gives int16 pair sums of unsigned quants and signed activations; as many of them
 * are added as fit int16, and vpmaddwd then multiplies by the sub-block's scale instead of by
 * one.  The offset of Q6_K and the minima of Q4_K are sums over sub-blocks of scale * sum(x),
 * taken two sub-blocks at a time (exo_sum32_at). */
#include "compute/cpu/matmul_x86.h"

#include "compute/cpu/tile_avx2.h"

#define MAX_H 8 /* registers of 8 rows: two a group */
#define MAX_N 4

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

typedef struct {
    __m256i scale[2], min[2]; /* bytes of 32-bit lanes: sub-blocks 0-3 and 4-7 */
} q4_k_scales;

EXO_INLINE q4_k_scales q4_k_unpack(const uint8_t *s) {
    const __m256i m6 = _mm256_set1_epi8(0x3F), m4 = _mm256_set1_epi8(0x0F);
    const __m256i top = _mm256_set1_epi8(0x30);
    __m256i w0 = load(s), w1 = load(s + 64), w2 = load(s + 128);
    q4_k_scales u;
    u.scale[0] = _mm256_and_si256(w0, m6);
    u.min[0] = _mm256_and_si256(w1, m6);
    u.scale[1] =
        _mm256_or_si256(_mm256_and_si256(w2, m4), _mm256_and_si256(_mm256_srli_epi32(w0, 2), top));
    u.min[1] = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi32(w2, 4), m4),
                               _mm256_and_si256(_mm256_srli_epi32(w1, 2), top));
    return u;
}

/* sum m_j * sum_j over the 8 sub-blocks. */
EXO_INLINE __m256i q4_k_minima(const q4_k_scales *u, const int16_t *sums) {
    const __m256i even = _mm256_set1_epi32(0x00FF00FF);
    __m256i m = _mm256_setzero_si256();
    EXO_UNROLL for (int h = 0; h < 2; h++) {
        __m256i e = _mm256_and_si256(u->min[h], even);
        __m256i o = _mm256_and_si256(_mm256_srli_epi32(u->min[h], 8), even);
        m = _mm256_add_epi32(m, _mm256_madd_epi16(e, spread4(sums + h * 4)));
        m = _mm256_add_epi32(m, _mm256_madd_epi16(o, spread4(sums + h * 4 + 2)));
    }
    return m;
}

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
            if (j == 0) ahead(q + i * 64, N);
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

/* One super-block of one group; f (2, N). */
EXO_INLINE void q4_k_block(const uint8_t *q, const uint8_t *s, const exo_tile *t, uint32_t b,
                           __m256 f[2][MAX_N], const int N) {
    q4_k_scales u[2] = {q4_k_unpack(s + 64), q4_k_unpack(s + 96)};
    __m256i isum[2][MAX_N];
    EXO_UNROLL for (int k = 0; k < N; k++) isum[0][k] = isum[1][k] = _mm256_setzero_si256();
    EXO_NO_UNROLL for (int p = 0; p < 4; p++) { /* pairs of sub-blocks: low, high nibbles */
        const __m128i at = _mm_cvtsi32_si128(p % 2 * 16);
        __m256i word[2];
        EXO_UNROLL for (int h = 0; h < 2; h++) {
            word[h] = _mm256_srl_epi32(p < 2 ? u[h].scale[0] : u[h].scale[1], at);
        }
        q4_k_dots(q + p * 512, t->x + b * 256 + p * 64, t->ld_q, word, isum, N);
    }
    EXO_UNROLL for (int h = 0; h < 2; h++) {
        __m256 dw = load_f16(s + h * 16), dmin = load_f16(s + 32 + h * 16);
        EXO_UNROLL for (int k = 0; k < N; k++) {
            __m256 dx = _mm256_set1_ps(t->d[k * t->ld_d + b]);
            __m256i m = q4_k_minima(&u[h], t->sums + (k * t->ld_d + b) * EXO_Q256_SUMS);
            f[h][k] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(isum[h][k]), _mm256_mul_ps(dw, dx),
                                      f[h][k]);
            f[h][k] = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(m), _mm256_mul_ps(dmin, dx), f[h][k]);
        }
    }
}

EXO_INLINE void tile_q4_k(const exo_tile t, const int R, const int N) {
    __m256 f[MAX_H][MAX_N];
    clear(f, R, N);
    for (uint32_t b = 0; b < t.n_blocks; b++) {
        EXO_UNROLL for (int r = 0; r < R; r++) {
            q4_k_block(t.q + r * t.gq + (size_t)b * 2048, t.s + r * t.gs + (size_t)b * 256, &t, b,
                       &f[2 * r], N);
        }
    }
    store(&t, f, R, N);
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
                isum[h][k] =
                    in_order(_mm256_add_epi32(isum[h][k], _mm256_madd_epi16(v, scale[h])));
            }
        }
    }
}

/* One super-block of one group; f (2, N). */
EXO_INLINE void q6_k_block(const uint8_t *q, const uint8_t *s, const exo_tile *t, uint32_t b,
                           __m256 f[2][MAX_N], const int N) {
    const int8_t *x = t->x + b * 256;
    __m256i isum[2][MAX_N];
    EXO_UNROLL for (int k = 0; k < N; k++) isum[0][k] = isum[1][k] = _mm256_setzero_si256();
    EXO_NO_UNROLL for (int e = 0; e < 4; e++) { /* half e / 2, sub-block e % 2 of each quarter */
        const uint8_t *low = q + e / 2 * 1024 + e % 2 * 256;
        const uint8_t *high = q + 2048 + e / 2 * 512 + e % 2 * 256;
        const __m128i up = _mm_cvtsi32_si128((1 - e % 2) * 8);
        EXO_UNROLL for (int c = 0; c < 4; c++) { /* quarters */
            __m256i scale[2];
            EXO_UNROLL for (int h = 0; h < 2; h++) {
                /* the byte of an even sub-block moves up to the odd one's place */
                __m256i word = _mm256_sll_epi32(load(s + (e / 2 * 2 + c / 2) * 64 + h * 32), up);
                scale[h] = signed_byte_twice(word, c % 2 * 2 + 1);
            }
            EXO_UNROLL for (int i = 0; i < 3; i++) ahead(q + (e * 12 + c * 3 + i) * 64, N);
            q6_k_dots(low, high, x + e / 2 * 128 + c * 32 + e % 2 * 16, t->ld_q, scale, isum, c, N);
        }
    }
    EXO_UNROLL for (int h = 0; h < 2; h++) {
        __m256 dw = load_f16(s + 256 + h * 16);
        EXO_UNROLL for (int k = 0; k < N; k++) {
            const int16_t *sums = t->sums + (k * t->ld_d + b) * EXO_Q256_SUMS + 8;
            __m256i off = _mm256_slli_epi32(q6_k_offsets(s + h * 32, sums), 5);
            __m256 dot = _mm256_cvtepi32_ps(_mm256_sub_epi32(isum[h][k], off));
            __m256 dwx = _mm256_mul_ps(dw, _mm256_set1_ps(t->d[k * t->ld_d + b]));
            f[h][k] = _mm256_fmadd_ps(dot, dwx, f[h][k]);
        }
    }
}

EXO_INLINE void tile_q6_k(const exo_tile t, const int R, const int N) {
    __m256 f[MAX_H][MAX_N];
    clear(f, R, N);
    for (uint32_t b = 0; b < t.n_blocks; b++) {
        EXO_UNROLL for (int r = 0; r < R; r++) {
            q6_k_block(t.q + r * t.gq + (size_t)b * 3072, t.s + r * t.gs + (size_t)b * 288, &t, b,
                       &f[2 * r], N);
        }
    }
    store(&t, f, R, N);
}

EXO_TILE_DRIVE_1(exo_avx2_q4_k, tile_q4_k, 1, 4, 3)
EXO_TILE_DRIVE_1(exo_avx2_q6_k, tile_q6_k, 1, 4, 3)
