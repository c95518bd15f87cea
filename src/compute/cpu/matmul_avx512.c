/* matmul_avx512.c - products with AVX-512 VNNI: one register is 16 rows x 4 weights.
 *
 * vpdpbusd multiplies unsigned weights with signed activations: Q8_0 weights are flipped to
 * unsigned and the accumulator starts at -128 * sum(x); Q4_0 starts at -8 * sum(x).  Integer
 * sums are exact, so only the float steps follow reference.h one for one. */
#include "compute/cpu/matmul_x86.h"

#include "compute/cpu/reference.h"
#include "compute/cpu/tile_drive.h"

#include <immintrin.h>
#include <string.h>

#define MAX_R    4
#define MAX_N    12
#define PREFETCH 1024 /* bytes ahead in the stream of quants, single column only */

EXO_INLINE __m512i load(const uint8_t *p) { return _mm512_load_si512((const void *)p); }

/* Four bytes, or a pair of int16, for every row. */
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

/* acc += (float)dot * (dw * dx), rounded as the specification says. */
EXO_INLINE __m512 scale_add(__m512 acc, __m512i dot, __m512 dw, float dx) {
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_mul_ps(dw, _mm512_set1_ps(dx)), acc);
}

EXO_INLINE void store(const exo_tile *t, __m512 f[MAX_R][MAX_N], const int R, const int N) {
    EXO_UNROLL for (int r = 0; r < R; r++) {
        EXO_UNROLL for (int k = 0; k < N; k++) {
            _mm512_storeu_ps(t->y + k * t->ld_y + r * t->gy, f[r][k]);
        }
    }
}

EXO_INLINE void clear(__m512 f[MAX_R][MAX_N], const int R, const int N) {
    EXO_UNROLL for (int r = 0; r < R; r++) {
        EXO_UNROLL for (int k = 0; k < N; k++) f[r][k] = _mm512_setzero_ps();
    }
}

/* ---- one scale per 32: Q8_0, Q4_0 ---- */

EXO_INLINE void tile_q8_0(const exo_tile t, const int R, const int N) {
    const uint8_t *q = t.q, *s = t.s;
    const int8_t *x = t.x;
    const __m512i flip = _mm512_set1_epi8((char)0x80);
    __m512 f[MAX_R][MAX_N];
    clear(f, R, N);
    for (uint32_t b = 0; b < t.n_blocks; b++, q += 512, s += 32, x += 32) {
        __m512i v[MAX_R][MAX_N];
        EXO_UNROLL for (int k = 0; k < N; k++) {
            __m512i start = _mm512_set1_epi32(-128 * t.sum32[k * t.ld_d + b]);
            EXO_UNROLL for (int r = 0; r < R; r++) v[r][k] = start;
        }
        EXO_UNROLL for (int j = 0; j < 8; j++) {
            __m512i wv[MAX_R];
            EXO_UNROLL for (int r = 0; r < R; r++) {
                ahead(q + r * t.gq + j * 64, N);
                wv[r] = _mm512_xor_si512(load(q + r * t.gq + j * 64), flip);
            }
            EXO_UNROLL for (int k = 0; k < N; k++) {
                __m512i xv = spread4(x + k * t.ld_q + j * 4);
                EXO_UNROLL for (int r = 0; r < R; r++) {
                    v[r][k] = _mm512_dpbusd_epi32(v[r][k], wv[r], xv);
                }
            }
        }
        EXO_UNROLL for (int r = 0; r < R; r++) {
            ahead(s + r * t.gs, N);
            __m512 dw = load_f16(s + r * t.gs);
            EXO_UNROLL for (int k = 0; k < N; k++) {
                f[r][k] = scale_add(f[r][k], v[r][k], dw, t.d[k * t.ld_d + b]);
            }
        }
    }
    store(&t, f, R, N);
}

EXO_INLINE void tile_q4_0(const exo_tile t, const int R, const int N) {
    const uint8_t *q = t.q, *s = t.s;
    const int8_t *x = t.x;
    const __m512i low = _mm512_set1_epi8(15);
    __m512 f[MAX_R][MAX_N];
    clear(f, R, N);
    for (uint32_t b = 0; b < t.n_blocks; b++, q += 256, s += 32, x += 32) {
        __m512i v[MAX_R][MAX_N];
        EXO_UNROLL for (int k = 0; k < N; k++) {
            __m512i start = _mm512_set1_epi32(-8 * t.sum32[k * t.ld_d + b]);
            EXO_UNROLL for (int r = 0; r < R; r++) v[r][k] = start;
        }
        EXO_UNROLL for (int j = 0; j < 4; j++) {
            __m512i lo[MAX_R], hi[MAX_R];
            EXO_UNROLL for (int r = 0; r < R; r++) {
                ahead(q + r * t.gq + j * 64, N);
                __m512i p = load(q + r * t.gq + j * 64);
                lo[r] = _mm512_and_si512(p, low);
                hi[r] = _mm512_and_si512(_mm512_srli_epi16(p, 4), low);
            }
            EXO_UNROLL for (int k = 0; k < N; k++) {
                __m512i xl = spread4(x + k * t.ld_q + j * 4),
                        xh = spread4(x + k * t.ld_q + 16 + j * 4);
                EXO_UNROLL for (int r = 0; r < R; r++) {
                    v[r][k] = _mm512_dpbusd_epi32(v[r][k], lo[r], xl);
                }
                EXO_UNROLL for (int r = 0; r < R; r++) {
                    v[r][k] = _mm512_dpbusd_epi32(v[r][k], hi[r], xh);
                }
            }
        }
        EXO_UNROLL for (int r = 0; r < R; r++) {
            ahead(s + r * t.gs, N);
            __m512 dw = load_f16(s + r * t.gs);
            EXO_UNROLL for (int k = 0; k < N; k++) {
                f[r][k] = scale_add(f[r][k], v[r][k], dw, t.d[k * t.ld_d + b]);
            }
        }
    }
    store(&t, f, R, N);
}

/* ---- floats ---- */

EXO_INLINE __m512 load_weight(const uint8_t *q, const exo_dtype type) {
    if (type == EXO_F32) return _mm512_loadu_ps((const void *)q);
    if (type == EXO_F16) return load_f16(q);
    __m256i h = _mm256_loadu_si256((const __m256i *)(const void *)q);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

EXO_INLINE void tile_float(const exo_tile t, const int R, const int N, const exo_dtype type) {
    const uint32_t K = t.n_blocks, step = type == EXO_F32 ? 64 : 32;
    const uint8_t *q = t.q;
    const float *x = t.xf;
    __m512 total[MAX_R][MAX_N];
    clear(total, R, N);
    for (uint32_t k0 = 0; k0 < K; k0 += EXO_FLOAT_CHUNK) {
        uint32_t end = K - k0 < EXO_FLOAT_CHUNK ? K : k0 + EXO_FLOAT_CHUNK;
        __m512 part[MAX_R][MAX_N];
        clear(part, R, N);
        for (uint32_t k = k0; k < end; k++, q += step) {
            __m512 wv[MAX_R];
            EXO_UNROLL for (int r = 0; r < R; r++) {
                ahead(q + r * t.gq, N);
                wv[r] = load_weight(q + r * t.gq, type);
            }
            EXO_UNROLL for (int i = 0; i < N; i++) {
                __m512 xv = _mm512_set1_ps(x[i * t.ld_x + k]);
                EXO_UNROLL for (int r = 0; r < R; r++) {
                    part[r][i] = _mm512_fmadd_ps(wv[r], xv, part[r][i]);
                }
            }
        }
        EXO_UNROLL for (int r = 0; r < R; r++) {
            EXO_UNROLL for (int i = 0; i < N; i++) {
                total[r][i] = _mm512_add_ps(total[r][i], part[r][i]);
            }
        }
    }
    store(&t, total, R, N);
}

EXO_INLINE void tile_f32(const exo_tile t, const int R, const int N) {
    tile_float(t, R, N, EXO_F32);
}
EXO_INLINE void tile_f16(const exo_tile t, const int R, const int N) {
    tile_float(t, R, N, EXO_F16);
}
EXO_INLINE void tile_bf16(const exo_tile t, const int R, const int N) {
    tile_float(t, R, N, EXO_BF16);
}

EXO_TILE_DRIVE(exo_avx512_q8_0, tile_q8_0, 4, 6, 3)
EXO_TILE_DRIVE(exo_avx512_q4_0, tile_q4_0, 4, 4, 3)
EXO_TILE_DRIVE(exo_avx512_f32, tile_f32, 2, 12, 4)
EXO_TILE_DRIVE(exo_avx512_f16, tile_f16, 2, 12, 4)
EXO_TILE_DRIVE(exo_avx512_bf16, tile_bf16, 2, 12, 4)
