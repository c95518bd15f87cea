/* kquants_avx512.c - Q4_K and Q6_K products with AVX-512 VNNI; Q2_K's, Q3_K's and Q5_K's of one
 * column, whose quants go from memory into products at once (unpacked.h would store them first).
 *
 * Quants stay unsigned; a sub-block's dot product is exact int32 and is multiplied by its integer
 * scale (vpmulld).  What the offset of Q6_K and the minima of Q4_K add is a sum over sub-blocks
 * of scale * sum(x): vpdpwssd takes it two sub-blocks at a time, which is why the sums of the
 * activations stand in the order of exo_sum32_at. */
#include "compute/cpu/matmul_x86.h"

#include "compute/cpu/tile_drive.h"

#include <immintrin.h>
#include <string.h>

#define MAX_R    4
#define MAX_N    12
#define PREFETCH 1024 /* bytes ahead in the stream of quants, single column only */

EXO_INLINE __m512i load(const uint8_t *p) { return _mm512_loadu_si512((const void *)p); }

EXO_INLINE __m512i spread4(const void *p) {
    int32_t v;
    memcpy(&v, p, sizeof v);
    return _mm512_set1_epi32(v);
}

EXO_INLINE __m512 load_f16(const uint8_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}

EXO_INLINE void ahead(const uint8_t *p, const int N) {
    if (N == 1) _mm_prefetch((const char *)p + PREFETCH, _MM_HINT_T0);
}

EXO_INLINE void store(const exo_tile *t, __m512 f[MAX_R][MAX_N], const int R, const int N) {
    EXO_UNROLL for (int r = 0; r < R; r++) {
        EXO_UNROLL for (int k = 0; k < N; k++) {
            _mm512_storeu_ps(t->y + k * t->ld_y + r * t->gy, f[r][k]);
        }
    }
}

/* Byte j (constant) of each 32-bit lane. */
EXO_INLINE __m512i byte_of(__m512i v, const int j) {
    return _mm512_and_si512(_mm512_srli_epi32(v, (unsigned)j * 8), _mm512_set1_epi32(255));
}
EXO_INLINE __m512i signed_byte_of(__m512i v, const int j) {
    return _mm512_srai_epi32(_mm512_slli_epi32(v, (unsigned)(3 - j) * 8), 24);
}

/* ---- Q4_K ---- */

/* The 12 scale bytes of 16 rows as bytes of 32-bit lanes: sub-blocks 0-3 and 4-7. */
typedef struct {
    __m512i scale[2], min[2];
} q4_k_scales;

EXO_INLINE q4_k_scales q4_k_unpack(const uint8_t *s) {
    const __m512i m6 = _mm512_set1_epi8(0x3F), m4 = _mm512_set1_epi8(0x0F);
    const __m512i top = _mm512_set1_epi8(0x30);
    __m512i w0 = load(s), w1 = load(s + 64), w2 = load(s + 128);
    q4_k_scales u;
    u.scale[0] = _mm512_and_si512(w0, m6);
    u.min[0] = _mm512_and_si512(w1, m6);
    u.scale[1] =
        _mm512_or_si512(_mm512_and_si512(w2, m4), _mm512_and_si512(_mm512_srli_epi32(w0, 2), top));
    u.min[1] = _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi32(w2, 4), m4),
                               _mm512_and_si512(_mm512_srli_epi32(w1, 2), top));
    return u;
}

/* sum m_j * sum_j over the 8 sub-blocks. */
EXO_INLINE __m512i q4_k_minima(const q4_k_scales *u, const int16_t *sums) {
    const __m512i even = _mm512_set1_epi32(0x00FF00FF);
    __m512i m = _mm512_setzero_si512();
    EXO_UNROLL for (int h = 0; h < 2; h++) {
        __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u->min[h], 8), even);
        m = _mm512_dpwssd_epi32(m, _mm512_and_si512(u->min[h], even), spread4(sums + h * 4));
        m = _mm512_dpwssd_epi32(m, odd, spread4(sums + h * 4 + 2));
    }
    return m;
}

EXO_INLINE void tile_q4_k(const exo_tile t, const int R, const int N) {
    const uint8_t *q = t.q, *s = t.s;
    const int8_t *x = t.x;
    const __m512i low = _mm512_set1_epi8(15);
    __m512 f[MAX_R][MAX_N];
    EXO_UNROLL for (int r = 0; r < R; r++) {
        EXO_UNROLL for (int k = 0; k < N; k++) f[r][k] = _mm512_setzero_ps();
    }
    for (uint32_t b = 0; b < t.n_blocks; b++, q += 2048, s += 256, x += 256) {
        __m512i isum[MAX_R][MAX_N];
        q4_k_scales u[MAX_R];
        EXO_UNROLL for (int r = 0; r < R; r++) {
            u[r] = q4_k_unpack(s + r * t.gs + 64);
            EXO_UNROLL for (int k = 0; k < N; k++) isum[r][k] = _mm512_setzero_si512();
        }
        EXO_NO_UNROLL for (int p = 0; p < 4; p++) { /* pairs of sub-blocks: low, high nibbles */
            const __m128i shift = _mm_cvtsi32_si128(p % 2 * 16);
            EXO_UNROLL for (int j = 0; j < 2; j++) {
                __m512i v[MAX_R][MAX_N];
                EXO_UNROLL for (int r = 0; r < R; r++) {
                    EXO_UNROLL for (int k = 0; k < N; k++) v[r][k] = _mm512_setzero_si512();
                }
                EXO_UNROLL for (int i = 0; i < 8; i++) {
                    __m512i wv[MAX_R];
                    EXO_UNROLL for (int r = 0; r < R; r++) {
                        const uint8_t *from = q + r * t.gq + p * 512 + i * 64;
                        if (j == 0) ahead(from, N);
                        __m512i z = load(from);
                        wv[r] = _mm512_and_si512(j == 1 ? _mm512_srli_epi16(z, 4) : z, low);
                    }
                    EXO_UNROLL for (int k = 0; k < N; k++) {
                        __m512i xv = spread4(x + k * t.ld_q + p * 64 + j * 32 + i * 4);
                        EXO_UNROLL for (int r = 0; r < R; r++) {
                            v[r][k] = _mm512_dpbusd_epi32(v[r][k], wv[r], xv);
                        }
                    }
                }
                EXO_UNROLL for (int r = 0; r < R; r++) {
                    __m512i word = p < 2 ? u[r].scale[0] : u[r].scale[1];
                    __m512i scale = byte_of(_mm512_srl_epi32(word, shift), j);
                    EXO_UNROLL for (int k = 0; k < N; k++) {
                        __m512i add = _mm512_mullo_epi32(v[r][k], scale);
                        isum[r][k] = _mm512_add_epi32(isum[r][k], add);
                    }
                }
            }
        }
        EXO_UNROLL for (int r = 0; r < R; r++) {
            __m512 dw = load_f16(s + r * t.gs), dmin = load_f16(s + r * t.gs + 32);
            EXO_UNROLL for (int k = 0; k < N; k++) {
                __m512 dx = _mm512_set1_ps(t.d[k * t.ld_d + b]);
                __m512i m = q4_k_minima(&u[r], t.sums + (k * t.ld_d + b) * EXO_Q256_SUMS);
                f[r][k] =
                    _mm512_fmadd_ps(_mm512_cvtepi32_ps(isum[r][k]), _mm512_mul_ps(dw, dx), f[r][k]);
                f[r][k] = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(m), _mm512_mul_ps(dmin, dx), f[r][k]);
            }
        }
    }
    store(&t, f, R, N);
}

/* ---- Q6_K ---- */

/* 16 rows x 4 quants (0 to 63): quarter k of a half, word i (elements 4i .. of the quarter). */
EXO_INLINE __m512i q6_k_quants(const uint8_t *low, const uint8_t *high, const int k, const int i) {
    const __m512i m4 = _mm512_set1_epi8(0x0F), top = _mm512_set1_epi8(0x30);
    __m512i l = load(low + (k % 2 * 8 + i) * 64), h = load(high + i * 64);
    l = _mm512_and_si512(k < 2 ? l : _mm512_srli_epi16(l, 4), m4);
    if (k == 0) h = _mm512_slli_epi16(h, 4);
    if (k == 1) h = _mm512_slli_epi16(h, 2);
    if (k == 3) h = _mm512_srli_epi16(h, 2);
    return _mm512_or_si512(l, _mm512_and_si512(h, top));
}

/* sum sc_j * sum_j over the 16 sub-blocks; scale: four signed bytes of each row. */
EXO_INLINE __m512i sums16(const __m512i scale[4], const int16_t *sums) {
    __m512i m = _mm512_setzero_si512();
    EXO_UNROLL for (int h = 0; h < 4; h++) {
        __m512i even = _mm512_srai_epi16(_mm512_slli_epi16(scale[h], 8), 8);
        m = _mm512_dpwssd_epi32(m, even, spread4(sums + h * 4));
        m = _mm512_dpwssd_epi32(m, _mm512_srai_epi16(scale[h], 8), spread4(sums + h * 4 + 2));
    }
    return m;
}

EXO_INLINE __m512i q6_k_offsets(const uint8_t *s, const int16_t *sums) {
    const __m512i scale[4] = {load(s), load(s + 64), load(s + 128), load(s + 192)};
    return sums16(scale, sums);
}

EXO_INLINE void tile_q6_k(const exo_tile t, const int R, const int N) {
    const uint8_t *q = t.q, *s = t.s;
    const int8_t *x = t.x;
    __m512 f[MAX_R][MAX_N];
    EXO_UNROLL for (int r = 0; r < R; r++) {
        EXO_UNROLL for (int k = 0; k < N; k++) f[r][k] = _mm512_setzero_ps();
    }
    for (uint32_t b = 0; b < t.n_blocks; b++, q += 3072, s += 288, x += 256) {
        __m512i isum[MAX_R][MAX_N];
        EXO_UNROLL for (int r = 0; r < R; r++) {
            EXO_UNROLL for (int k = 0; k < N; k++) isum[r][k] = _mm512_setzero_si512();
        }
        EXO_NO_UNROLL for (int e = 0; e < 4;
                           e++) { /* half e / 2, sub-block e % 2 of each quarter */
            const __m128i shift = _mm_cvtsi32_si128((1 - e % 2) * 8);
            EXO_UNROLL for (int h = 0; h < 4; h++) { /* quarters */
                const int8_t *xh = x + e / 2 * 128 + h * 32 + e % 2 * 16;
                __m512i v[MAX_R][MAX_N];
                EXO_UNROLL for (int r = 0; r < R; r++) {
                    EXO_UNROLL for (int k = 0; k < N; k++) v[r][k] = _mm512_setzero_si512();
                }
                EXO_UNROLL for (int i = 0; i < 4; i++) {
                    __m512i wv[MAX_R];
                    EXO_UNROLL for (int r = 0; r < R; r++) {
                        const uint8_t *p = q + r * t.gq + e % 2 * 256;
                        if (i < 3) ahead(q + r * t.gq + (e * 12 + h * 3 + i) * 64, N);
                        wv[r] = q6_k_quants(p + e / 2 * 1024, p + 2048 + e / 2 * 512, h, i);
                    }
                    EXO_UNROLL for (int k = 0; k < N; k++) {
                        __m512i xv = spread4(xh + k * t.ld_q + i * 4);
                        EXO_UNROLL for (int r = 0; r < R; r++) {
                            v[r][k] = _mm512_dpbusd_epi32(v[r][k], wv[r], xv);
                        }
                    }
                }
                EXO_UNROLL for (int r = 0; r < R; r++) {
                    __m512i word = load(s + r * t.gs + (e / 2 * 2 + h / 2) * 64);
                    /* the byte of an even sub-block moves up to the odd one's place */
                    __m512i scale = signed_byte_of(_mm512_sll_epi32(word, shift), h % 2 * 2 + 1);
                    EXO_UNROLL for (int k = 0; k < N; k++) {
                        __m512i add = _mm512_mullo_epi32(v[r][k], scale);
                        isum[r][k] = _mm512_add_epi32(isum[r][k], add);
                    }
                }
            }
        }
        EXO_UNROLL for (int r = 0; r < R; r++) {
            __m512 dw = load_f16(s + r * t.gs + 256);
            EXO_UNROLL for (int k = 0; k < N; k++) {
                __m512i off =
                    q6_k_offsets(s + r * t.gs, t.sums + (k * t.ld_d + b) * EXO_Q256_SUMS + 8);
                __m512i dot = _mm512_sub_epi32(isum[r][k], _mm512_slli_epi32(off, 5));
                f[r][k] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot),
                                          _mm512_mul_ps(dw, _mm512_set1_ps(t.d[k * t.ld_d + b])),
                                          f[r][k]);
            }
        }
    }
    store(&t, f, R, N);
}

/* ---- one column of Q5_K: as Q4_K, with a fifth bit from a plane of its own ---- */

EXO_INLINE __m512 q5_k_block(const exo_tile *t, const int r, uint32_t b, __m512 f) {
    const uint8_t *q = t->q + r * t->gq + (size_t)b * 2560, *s = t->s + r * t->gs + (size_t)b * 256;
    const __m512i low = _mm512_set1_epi8(15), fifth = _mm512_set1_epi8(16);
    const q4_k_scales u = q4_k_unpack(s + 64);
    const int8_t *x = t->x + b * 256;
    __m512i isum = _mm512_setzero_si512();
    EXO_NO_UNROLL for (int p = 0; p < 4; p++, x += 64) { /* bits 2p and 2p + 1 of the high plane */
        const __m128i bit = _mm_cvtsi32_si128(2 * p), at = _mm_cvtsi32_si128(p % 2 * 16);
        __m512i v[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
        EXO_UNROLL for (int i = 0; i < 10; i++) ahead(q + p * 640 + i * 64, 1);
        EXO_UNROLL for (int i = 0; i < 8; i++) {
            __m512i z = load(q + p * 512 + i * 64);
            __m512i top = _mm512_srl_epi16(load(q + 2048 + i * 64), bit);
            __m512i w0 = _mm512_and_si512(_mm512_slli_epi16(top, 4), fifth);
            __m512i w1 = _mm512_and_si512(_mm512_slli_epi16(top, 3), fifth);
            w0 = _mm512_or_si512(_mm512_and_si512(z, low), w0);
            w1 = _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi16(z, 4), low), w1);
            v[0] = _mm512_dpbusd_epi32(v[0], w0, spread4(x + i * 4));
            v[1] = _mm512_dpbusd_epi32(v[1], w1, spread4(x + 32 + i * 4));
        }
        __m512i word = _mm512_srl_epi32(p < 2 ? u.scale[0] : u.scale[1], at);
        EXO_UNROLL for (int j = 0; j < 2; j++) {
            isum = _mm512_add_epi32(isum, _mm512_mullo_epi32(v[j], byte_of(word, j)));
        }
    }
    __m512 dx = _mm512_set1_ps(t->d[b]);
    __m512i m = q4_k_minima(&u, t->sums + b * EXO_Q256_SUMS);
    f = _mm512_fmadd_ps(_mm512_cvtepi32_ps(isum), _mm512_mul_ps(load_f16(s), dx), f);
    return _mm512_fnmadd_ps(_mm512_cvtepi32_ps(m), _mm512_mul_ps(load_f16(s + 32), dx), f);
}

/* ---- one column of Q2_K and Q3_K ---- */

/* sum over the super-block of sc_j * dot_j, quants unsigned; scale: 16 signed bytes of each row.
 * A sub-block's 16 * 7 * 127 fits int16, so that vpdpwssd takes it times its scale. */
EXO_INLINE __m512i quarters(const uint8_t *q, const int8_t *x, const __m512i scale[4],
                            const bool third) {
    const __m512i two = _mm512_set1_epi8(3), four = _mm512_set1_epi8(4);
    const uint32_t part = third ? 384 : 256; /* bytes of a quarter of a record */
    __m512i isum = _mm512_setzero_si512();
    EXO_NO_UNROLL for (int e = 0; e < 4; e++) { /* half e / 2, sub-block e % 2 of each quarter */
        const __m128i by = _mm_cvtsi32_si128(e / 2 * 4), up = _mm_cvtsi32_si128((1 - e % 2) * 8);
        __m512i v[4];
        EXO_UNROLL for (int k = 0; k < 4; k++) v[k] = _mm512_setzero_si512();
        EXO_UNROLL for (uint32_t i = 0; i < part; i += 64) ahead(q + (uint32_t)e * part + i, 1);
        EXO_UNROLL for (int i = 0; i < 4; i++) {
            __m512i low = load(q + e * 256 + i * 64), high = low;
            if (third) high = _mm512_srl_epi16(load(q + 1024 + e % 2 * 256 + i * 64), by);
            EXO_UNROLL for (int k = 0; k < 4; k++) {
                __m512i w = _mm512_and_si512(_mm512_srli_epi16(low, 2 * (unsigned)k), two);
                if (third) {
                    __m512i top = k == 3 ? _mm512_srli_epi16(high, 1)
                                         : _mm512_slli_epi16(high, 2 - (unsigned)k);
                    w = _mm512_or_si512(w, _mm512_and_si512(top, four));
                }
                const int8_t *xk = x + e / 2 * 128 + k * 32 + e % 2 * 16 + i * 4;
                v[k] = _mm512_dpbusd_epi32(v[k], w, spread4(xk));
            }
        }
        EXO_UNROLL for (int k = 0; k < 4; k++) {
            __m512i word = e < 2 ? scale[k / 2] : scale[2 + k / 2];
            __m512i by16 = signed_byte_of(_mm512_sll_epi32(word, up), k % 2 * 2 + 1);
            by16 = _mm512_and_si512(by16, _mm512_set1_epi32(0xFFFF));
            isum = _mm512_dpwssd_epi32(isum, v[k], by16);
        }
    }
    return isum;
}

EXO_INLINE __m512 q2_k_block(const exo_tile *t, const int r, uint32_t b, __m512 f) {
    const uint8_t *q = t->q + r * t->gq + (size_t)b * 1024, *s = t->s + r * t->gs + (size_t)b * 320;
    const __m512i low = _mm512_set1_epi8(15);
    __m512i scale[4], min[4];
    EXO_UNROLL for (int i = 0; i < 4; i++) {
        __m512i v = load(s + 64 + i * 64);
        scale[i] = _mm512_and_si512(v, low);
        min[i] = _mm512_and_si512(_mm512_srli_epi16(v, 4), low);
    }
    __m512i isum = quarters(q, t->x + b * 256, scale, false);
    __m512i m = sums16(min, t->sums + b * EXO_Q256_SUMS + 8);
    __m512 dx = _mm512_set1_ps(t->d[b]);
    f = _mm512_fmadd_ps(_mm512_cvtepi32_ps(isum), _mm512_mul_ps(load_f16(s), dx), f);
    return _mm512_fnmadd_ps(_mm512_cvtepi32_ps(m), _mm512_mul_ps(load_f16(s + 32), dx), f);
}

EXO_INLINE __m512 q3_k_block(const exo_tile *t, const int r, uint32_t b, __m512 f) {
    const uint8_t *q = t->q + r * t->gq + (size_t)b * 1536, *s = t->s + r * t->gs + (size_t)b * 224;
    const __m512i low = _mm512_set1_epi8(15), high = _mm512_set1_epi8(0x30);
    __m512i scale[4], top = load(s + 160);
    EXO_UNROLL for (int i = 0; i < 4; i++) {
        __m512i v = load(s + 32 + i % 2 * 64);
        v = _mm512_and_si512(i < 2 ? v : _mm512_srli_epi16(v, 4), low);
        __m512i h =
            i == 3 ? _mm512_srli_epi16(top, 2) : _mm512_slli_epi16(top, 4 - 2 * (unsigned)i);
        v = _mm512_or_si512(v, _mm512_and_si512(h, high));
        scale[i] = _mm512_sub_epi8(v, _mm512_set1_epi8(32));
    }
    __m512i isum = quarters(q, t->x + b * 256, scale, true);
    __m512i off = sums16(scale, t->sums + b * EXO_Q256_SUMS + 8);
    __m512 dw = _mm512_mul_ps(load_f16(s), _mm512_set1_ps(t->d[b]));
    isum = _mm512_sub_epi32(isum, _mm512_slli_epi32(off, 2));
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(isum), dw, f);
}

/* ---- the kernels ---- */

#define ONE(name)                                                                                  \
    EXO_INLINE void tile_##name(const exo_tile t, const int R, const int N) {                      \
        __m512 f[MAX_R][MAX_N];                                                                    \
        EXO_UNROLL for (int r = 0; r < R; r++) f[r][0] = _mm512_setzero_ps();                      \
        for (uint32_t b = 0; b < t.n_blocks; b++) {                                                \
            EXO_UNROLL for (int r = 0; r < R; r++) f[r][0] = name##_block(&t, r, b, f[r][0]);      \
        }                                                                                          \
        store(&t, f, R, N);                                                                        \
    }                                                                                              \
    EXO_TILE(name, tile_##name, 1, 1)                                                              \
    EXO_TILE_STREAM(name, tile_##name, 2)
ONE(q2_k)
ONE(q3_k)
ONE(q5_k)
#undef ONE

bool exo_avx512_unpacked_one(const exo_matmul_task *t) {
    if (t->n != 1) return false;
    switch (t->w->type) {
    case EXO_Q2_K: q2_k_stream(t); return true;
    case EXO_Q3_K: q3_k_stream(t); return true;
    case EXO_Q5_K: q5_k_stream(t); return true;
    default: return false;
    }
}

EXO_TILE_DRIVE(exo_avx512_q4_k, tile_q4_k, 4, 6, 3)
EXO_TILE_DRIVE(exo_avx512_q6_k, tile_q6_k, 2, 6, 3)
