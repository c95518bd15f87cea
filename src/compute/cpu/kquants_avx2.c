/* kquants_avx2.c - Q4_K and Q6_K products with AVX2.
 *
 * vpmaddubsw gives int16 pair sums of unsigned quants and signed activations; as many of them
 * are added as fit int16, and vpmaddwd then multiplies by the sub-block's scale instead of by
 * one.  The offset of Q6_K and the minima of Q4_K are sums over sub-blocks of scale * sum(x),
 * taken two sub-blocks at a time (exo_sum32_at). */
#include "compute/cpu/matmul_x86.h"

#include "compute/cpu/tile_drive.h"

#include <immintrin.h>
#include <string.h>

#define MAX_H    8 /* registers of 8 rows: two a group */
#define MAX_N    4
#define PREFETCH 1024 /* bytes ahead in the stream of quants, single column only */

EXO_INLINE __m256i load(const uint8_t *p) {
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

EXO_INLINE __m256i spread4(const void *p) {
    int32_t v;
    memcpy(&v, p, sizeof v);
    return _mm256_set1_epi32(v);
}

EXO_INLINE __m256 load_f16(const uint8_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}

EXO_INLINE void ahead(const uint8_t *p, const int N) {
    if (N == 1) _mm_prefetch((const char *)p + PREFETCH, _MM_HINT_T0);
}

EXO_INLINE void store(const exo_tile *t, __m256 f[MAX_H][MAX_N], const int R, const int N) {
    EXO_UNROLL for (int h = 0; h < 2 * R; h++) {
        EXO_UNROLL for (int k = 0; k < N; k++) {
            _mm256_storeu_ps(t->y + k * t->ld_y + h / 2 * t->gy + h % 2 * 8, f[h][k]);
        }
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

/* sum sc_j * dot_j of 8 rows; q and x at the super-block.  Each column's sums of a sub-block are
 * eight pair sums of at most 15 * 127 * 2: 30480 fits int16. */
EXO_INLINE void q4_k_dots(const uint8_t *q, const int8_t *x, size_t ld_q, const q4_k_scales *u,
                          __m256i isum[MAX_N], const int N, const bool first) {
    const __m256i low = _mm256_set1_epi8(15);
    EXO_UNROLL for (int k = 0; k < N; k++) isum[k] = _mm256_setzero_si256();
    EXO_NO_UNROLL for (int p = 0; p < 4; p++) { /* pairs of sub-blocks: low, high nibbles */
        __m256i word =
            _mm256_srl_epi32(p < 2 ? u->scale[0] : u->scale[1], _mm_cvtsi32_si128(p % 2 * 16));
        EXO_UNROLL for (int j = 0; j < 2; j++) {
            __m256i v[MAX_N];
            EXO_UNROLL for (int k = 0; k < N; k++) v[k] = _mm256_setzero_si256();
            EXO_UNROLL for (int i = 0; i < 8; i++) {
                const uint8_t *from = q + p * 512 + i * 64;
                if (first && j == 0) ahead(from, N);
                __m256i z = load(from);
                z = _mm256_and_si256(j == 1 ? _mm256_srli_epi16(z, 4) : z, low);
                EXO_UNROLL for (int k = 0; k < N; k++) {
                    __m256i xv = spread4(x + k * ld_q + p * 64 + j * 32 + i * 4);
                    v[k] = _mm256_add_epi16(v[k], _mm256_maddubs_epi16(z, xv));
                }
            }
            __m256i scale = byte_twice(word, j);
            EXO_UNROLL for (int k = 0; k < N; k++) {
                isum[k] = _mm256_add_epi32(isum[k], _mm256_madd_epi16(v[k], scale));
            }
        }
    }
}

EXO_INLINE void tile_q4_k(const exo_tile t, const int R, const int N) {
    const uint8_t *q = t.q, *s = t.s;
    const int8_t *x = t.x;
    __m256 f[MAX_H][MAX_N];
    EXO_UNROLL for (int h = 0; h < 2 * R; h++) {
        EXO_UNROLL for (int k = 0; k < N; k++) f[h][k] = _mm256_setzero_ps();
    }
    for (uint32_t b = 0; b < t.n_blocks; b++, q += 2048, s += 256, x += 256) {
        EXO_UNROLL for (int h = 0; h < 2 * R; h++) {
            const uint8_t *sh = s + h / 2 * t.gs;
            q4_k_scales u = q4_k_unpack(sh + 64 + h % 2 * 32);
            __m256i isum[MAX_N];
            q4_k_dots(q + h / 2 * t.gq + h % 2 * 32, x, t.ld_q, &u, isum, N, h % 2 == 0);
            __m256 dw = load_f16(sh + h % 2 * 16), dmin = load_f16(sh + 32 + h % 2 * 16);
            EXO_UNROLL for (int k = 0; k < N; k++) {
                __m256 dx = _mm256_set1_ps(t.d[k * t.ld_d + b]);
                __m256i m = q4_k_minima(&u, t.sums + (k * t.ld_d + b) * EXO_Q256_SUMS);
                f[h][k] =
                    _mm256_fmadd_ps(_mm256_cvtepi32_ps(isum[k]), _mm256_mul_ps(dw, dx), f[h][k]);
                f[h][k] = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(m), _mm256_mul_ps(dmin, dx), f[h][k]);
            }
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

/* sum sc_j * dot_j of 8 rows, quants unsigned.  Two pair sums of 63 * 127 * 2 fit int16. */
EXO_INLINE void q6_k_dots(const uint8_t *q, const uint8_t *s, const int8_t *x, size_t ld_q,
                          __m256i isum[MAX_N], const int N, const bool first) {
    EXO_UNROLL for (int k = 0; k < N; k++) isum[k] = _mm256_setzero_si256();
    EXO_NO_UNROLL for (int e = 0; e < 4; e++) { /* half e / 2, sub-block e % 2 of each quarter */
        const uint8_t *low = q + e / 2 * 1024 + e % 2 * 256;
        const uint8_t *high = q + 2048 + e / 2 * 512 + e % 2 * 256;
        const __m128i shift = _mm_cvtsi32_si128((1 - e % 2) * 8);
        EXO_UNROLL for (int h = 0; h < 4; h++) { /* quarters */
            const int8_t *xh = x + e / 2 * 128 + h * 32 + e % 2 * 16;
            /* the byte of an even sub-block moves up to the odd one's place */
            __m256i word = _mm256_sll_epi32(load(s + (e / 2 * 2 + h / 2) * 64), shift);
            __m256i scale = signed_byte_twice(word, h % 2 * 2 + 1);
            EXO_UNROLL for (int i = 0; i < 3 && first; i++) ahead(q + (e * 12 + h * 3 + i) * 64, N);
            EXO_UNROLL for (int i = 0; i < 4; i += 2) {
                __m256i w0 = q6_k_quants(low, high, h, i), w1 = q6_k_quants(low, high, h, i + 1);
                EXO_UNROLL for (int k = 0; k < N; k++) {
                    const int8_t *xk = xh + k * ld_q + i * 4;
                    __m256i v = _mm256_add_epi16(_mm256_maddubs_epi16(w0, spread4(xk)),
                                                 _mm256_maddubs_epi16(w1, spread4(xk + 4)));
                    isum[k] = _mm256_add_epi32(isum[k], _mm256_madd_epi16(v, scale));
                }
            }
        }
    }
}

EXO_INLINE void tile_q6_k(const exo_tile t, const int R, const int N) {
    const uint8_t *q = t.q, *s = t.s;
    const int8_t *x = t.x;
    __m256 f[MAX_H][MAX_N];
    EXO_UNROLL for (int h = 0; h < 2 * R; h++) {
        EXO_UNROLL for (int k = 0; k < N; k++) f[h][k] = _mm256_setzero_ps();
    }
    for (uint32_t b = 0; b < t.n_blocks; b++, q += 3072, s += 288, x += 256) {
        EXO_UNROLL for (int h = 0; h < 2 * R; h++) {
            const uint8_t *qh = q + h / 2 * t.gq;
            const uint8_t *sh = s + h / 2 * t.gs;
            __m256i isum[MAX_N];
            q6_k_dots(qh + h % 2 * 32, sh + h % 2 * 32, x, t.ld_q, isum, N, h % 2 == 0);
            __m256 dw = load_f16(sh + 256 + h % 2 * 16);
            EXO_UNROLL for (int k = 0; k < N; k++) {
                const int16_t *sums = t.sums + (k * t.ld_d + b) * EXO_Q256_SUMS + 8;
                __m256i off = _mm256_slli_epi32(q6_k_offsets(sh + h % 2 * 32, sums), 5);
                __m256 dot = _mm256_cvtepi32_ps(_mm256_sub_epi32(isum[k], off));
                __m256 dwx = _mm256_mul_ps(dw, _mm256_set1_ps(t.d[k * t.ld_d + b]));
                f[h][k] = _mm256_fmadd_ps(dot, dwx, f[h][k]);
            }
        }
    }
    store(&t, f, R, N);
}

EXO_TILE_DRIVE(exo_avx2_q4_k, tile_q4_k, 1, 4, 3)
EXO_TILE_DRIVE(exo_avx2_q6_k, tile_q6_k, 1, 4, 3)
