/* matmul_avx2.c - products with AVX2: two registers are 16 rows x 4 weights.
 *
 * vpmaddubsw multiplies unsigned by signed bytes and saturates at int16, so every pair sum must
 * fit: Q8_0 weights lose their sign to the activations (128 * 127 * 2 = 32512), Q4_0 nibbles stay
 * unsigned (eight pair sums of 15 * 127 * 2 = 30480).  Integer sums are exact, so only the float
 * steps follow reference.h one for one. */
#include "compute/cpu/matmul_x86.h"

#include "compute/cpu/reference.h"
#include "compute/cpu/tile_drive.h"

#include <immintrin.h>
#include <string.h>

#define MAX_H    8 /* registers of 8 rows: two a group */
#define MAX_N    4
#define PREFETCH 1024 /* bytes ahead in the stream of quants, single column only */

EXO_INLINE __m256i load(const uint8_t *p) {
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

EXO_INLINE __m256i spread4(const int8_t *p) {
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

EXO_INLINE __m256 scale_add(__m256 acc, __m256i dot, __m256 dw, float dx) {
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_mul_ps(dw, _mm256_set1_ps(dx)), acc);
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

/* ---- one scale per 32: Q8_0, Q4_0 ---- */

EXO_INLINE void tile_q8_0(const exo_tile t, const int R, const int N) {
    const uint8_t *q = t.q, *s = t.s;
    const int8_t *x = t.x;
    const __m256i one = _mm256_set1_epi16(1);
    __m256 f[MAX_H][MAX_N];
    clear(f, R, N);
    for (uint32_t b = 0; b < t.n_blocks; b++, q += 512, s += 32, x += 32) {
        EXO_UNROLL for (int h = 0; h < 2 * R; h++) {
            const uint8_t *p = q + h / 2 * t.gq + h % 2 * 32;
            __m256i v[MAX_N];
            EXO_UNROLL for (int k = 0; k < N; k++) v[k] = _mm256_setzero_si256();
            EXO_UNROLL for (int j = 0; j < 8; j++) {
                if (h % 2 == 0) ahead(p + j * 64, N);
                __m256i wv = load(p + j * 64), mag = _mm256_abs_epi8(wv);
                EXO_UNROLL for (int k = 0; k < N; k++) {
                    __m256i xv = _mm256_sign_epi8(spread4(x + k * t.ld_q + j * 4), wv);
                    __m256i pairs = _mm256_maddubs_epi16(mag, xv);
                    v[k] = _mm256_add_epi32(v[k], _mm256_madd_epi16(pairs, one));
                }
            }
            __m256 dw = load_f16(s + h / 2 * t.gs + h % 2 * 16);
            EXO_UNROLL for (int k = 0; k < N; k++) {
                f[h][k] = scale_add(f[h][k], v[k], dw, t.d[k * t.ld_d + b]);
            }
        }
    }
    store(&t, f, R, N);
}

EXO_INLINE void tile_q4_0(const exo_tile t, const int R, const int N) {
    const uint8_t *q = t.q, *s = t.s;
    const int8_t *x = t.x;
    const __m256i one = _mm256_set1_epi16(1), low = _mm256_set1_epi8(15);
    __m256 f[MAX_H][MAX_N];
    clear(f, R, N);
    for (uint32_t b = 0; b < t.n_blocks; b++, q += 256, s += 32, x += 32) {
        EXO_UNROLL for (int h = 0; h < 2 * R; h++) {
            const uint8_t *p = q + h / 2 * t.gq + h % 2 * 32;
            __m256i v[MAX_N]; /* pairs of int16 */
            EXO_UNROLL for (int k = 0; k < N; k++) v[k] = _mm256_setzero_si256();
            EXO_UNROLL for (int j = 0; j < 4; j++) {
                if (h % 2 == 0) ahead(p + j * 64, N);
                __m256i z = load(p + j * 64), lo = _mm256_and_si256(z, low);
                __m256i hi = _mm256_and_si256(_mm256_srli_epi16(z, 4), low);
                EXO_UNROLL for (int k = 0; k < N; k++) {
                    const int8_t *xk = x + k * t.ld_q + j * 4;
                    v[k] = _mm256_add_epi16(v[k], _mm256_maddubs_epi16(lo, spread4(xk)));
                    v[k] = _mm256_add_epi16(v[k], _mm256_maddubs_epi16(hi, spread4(xk + 16)));
                }
            }
            __m256 dw = load_f16(s + h / 2 * t.gs + h % 2 * 16);
            EXO_UNROLL for (int k = 0; k < N; k++) {
                __m256i start = _mm256_set1_epi32(-8 * t.sum32[k * t.ld_d + b]);
                __m256i dot = _mm256_add_epi32(_mm256_madd_epi16(v[k], one), start);
                f[h][k] = scale_add(f[h][k], dot, dw, t.d[k * t.ld_d + b]);
            }
        }
    }
    store(&t, f, R, N);
}

/* ---- floats ---- */

EXO_INLINE __m256 load_weight(const uint8_t *q, const exo_dtype type) {
    if (type == EXO_F32) return _mm256_loadu_ps((const float *)(const void *)q);
    if (type == EXO_F16) return load_f16(q);
    __m128i half = _mm_loadu_si128((const __m128i *)(const void *)q);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}

EXO_INLINE void tile_float(const exo_tile t, const int R, const int N, const exo_dtype type) {
    const uint32_t K = t.n_blocks, step = type == EXO_F32 ? 64 : 32;
    const uint8_t *q = t.q;
    const float *x = t.xf;
    __m256 total[MAX_H][MAX_N];
    clear(total, R, N);
    for (uint32_t k0 = 0; k0 < K; k0 += EXO_FLOAT_CHUNK) {
        uint32_t end = K - k0 < EXO_FLOAT_CHUNK ? K : k0 + EXO_FLOAT_CHUNK;
        __m256 part[MAX_H][MAX_N];
        clear(part, R, N);
        for (uint32_t k = k0; k < end; k++, q += step) {
            __m256 wv[MAX_H];
            EXO_UNROLL for (int h = 0; h < 2 * R; h++) {
                const uint8_t *p = q + h / 2 * t.gq + h % 2 * (step / 2);
                if (h % 2 == 0) ahead(p, N);
                wv[h] = load_weight(p, type);
            }
            EXO_UNROLL for (int i = 0; i < N; i++) {
                __m256 xv = _mm256_set1_ps(x[i * t.ld_x + k]);
                EXO_UNROLL for (int h = 0; h < 2 * R; h++) {
                    part[h][i] = _mm256_fmadd_ps(wv[h], xv, part[h][i]);
                }
            }
        }
        EXO_UNROLL for (int h = 0; h < 2 * R; h++) {
            EXO_UNROLL for (int i = 0; i < N; i++) {
                total[h][i] = _mm256_add_ps(total[h][i], part[h][i]);
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

EXO_TILE_DRIVE(exo_avx2_q8_0, tile_q8_0, 1, 4, 3)
EXO_TILE_DRIVE(exo_avx2_q4_0, tile_q4_0, 1, 4, 3)
EXO_TILE_DRIVE(exo_avx2_f32, tile_f32, 2, 4, 3)
EXO_TILE_DRIVE(exo_avx2_f16, tile_f16, 2, 4, 3)
EXO_TILE_DRIVE(exo_avx2_bf16, tile_bf16, 2, 4, 3)
