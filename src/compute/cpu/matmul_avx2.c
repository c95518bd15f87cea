/* matmul_avx2.c - products with AVX2: two registers are 16 rows x 4 weights.
 *
 * vpmaddubsw multiplies unsigned by signed bytes and saturates at int16, so every pair sum must
 * fit: Q8_0 weights lose their sign to the activations (128 * 127 * 2 = 32512), Q4_0 nibbles stay
 * unsigned (eight pair sums of 15 * 127 * 2 = 30480).  Integer sums are exact, so only the float
 * steps follow reference.h one for one. */
#include "compute/cpu/matmul_x86.h"

#include "compute/cpu/reference.h"
#include "compute/cpu/tile_avx2.h"

#define MAX_H 8 /* registers of 8 rows: two a group */
#define MAX_N 6

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

/* One block of one group: exact dot products of both halves. */
EXO_INLINE void q8_0_dots(const uint8_t *q, const int8_t *x, size_t ld_q, __m256i v[2][MAX_N],
                          const int N) {
    const __m256i one = _mm256_set1_epi16(1);
    EXO_UNROLL for (int k = 0; k < N; k++) v[0][k] = v[1][k] = _mm256_setzero_si256();
    EXO_NO_UNROLL for (int j = 0; j < 8; j++) {
        __m256i w0 = load(q + j * 64), w1 = load(q + j * 64 + 32);
        __m256i size0 = _mm256_abs_epi8(w0), size1 = _mm256_abs_epi8(w1);
        EXO_UNROLL for (int k = 0; k < N; k++) {
            __m256i xv = spread4(x + k * ld_q + j * 4);
            __m256i p0 = _mm256_maddubs_epi16(size0, _mm256_sign_epi8(xv, w0));
            __m256i p1 = _mm256_maddubs_epi16(size1, _mm256_sign_epi8(xv, w1));
            v[0][k] = in_order(_mm256_add_epi32(v[0][k], _mm256_madd_epi16(p0, one)));
            v[1][k] = in_order(_mm256_add_epi32(v[1][k], _mm256_madd_epi16(p1, one)));
        }
    }
}

EXO_INLINE void tile_q8_0(const exo_tile t, const int R, const int N) {
    const uint8_t *q = t.q, *s = t.s;
    const int8_t *x = t.x;
    __m256 f[MAX_H][MAX_N];
    clear(f, R, N);
    for (uint32_t b = 0; b < t.n_blocks; b++, q += 512, s += 32, x += 32) {
        EXO_UNROLL for (int r = 0; r < R; r++) {
            __m256i v[2][MAX_N];
            q8_0_dots(q + r * t.gq, x, t.ld_q, v, N);
            EXO_UNROLL for (int h = 0; h < 2; h++) {
                __m256 dw = load_f16(s + r * t.gs + h * 16);
                EXO_UNROLL for (int k = 0; k < N; k++) {
                    f[2 * r + h][k] = scale_add(f[2 * r + h][k], v[h][k], dw, t.d[k * t.ld_d + b]);
                }
            }
        }
    }
    store(&t, f, R, N);
}

/* The same of nibbles, as pairs of int16. */
EXO_INLINE void q4_0_dots(const uint8_t *q, const int8_t *x, size_t ld_q, __m256i v[2][MAX_N],
                          const int N) {
    const __m256i low = _mm256_set1_epi8(15);
    EXO_UNROLL for (int k = 0; k < N; k++) v[0][k] = v[1][k] = _mm256_setzero_si256();
    EXO_NO_UNROLL for (int j = 0; j < 4; j++) {
        __m256i z0 = load(q + j * 64), z1 = load(q + j * 64 + 32);
        __m256i lo0 = _mm256_and_si256(z0, low), lo1 = _mm256_and_si256(z1, low);
        __m256i hi0 = _mm256_and_si256(_mm256_srli_epi16(z0, 4), low);
        __m256i hi1 = _mm256_and_si256(_mm256_srli_epi16(z1, 4), low);
        EXO_UNROLL for (int k = 0; k < N; k++) {
            const int8_t *xk = x + k * ld_q + j * 4;
            __m256i xl = spread4(xk), xh = spread4(xk + 16);
            v[0][k] = in_order(_mm256_add_epi16(v[0][k], _mm256_maddubs_epi16(lo0, xl)));
            v[1][k] = in_order(_mm256_add_epi16(v[1][k], _mm256_maddubs_epi16(lo1, xl)));
            v[0][k] = in_order(_mm256_add_epi16(v[0][k], _mm256_maddubs_epi16(hi0, xh)));
            v[1][k] = in_order(_mm256_add_epi16(v[1][k], _mm256_maddubs_epi16(hi1, xh)));
        }
    }
}

EXO_INLINE void tile_q4_0(const exo_tile t, const int R, const int N) {
    const uint8_t *q = t.q, *s = t.s;
    const int8_t *x = t.x;
    const __m256i one = _mm256_set1_epi16(1);
    __m256 f[MAX_H][MAX_N];
    clear(f, R, N);
    for (uint32_t b = 0; b < t.n_blocks; b++, q += 256, s += 32, x += 32) {
        EXO_UNROLL for (int r = 0; r < R; r++) {
            __m256i v[2][MAX_N];
            q4_0_dots(q + r * t.gq, x, t.ld_q, v, N);
            EXO_UNROLL for (int k = 0; k < N; k++) {
                __m256i eights = _mm256_slli_epi32(spread4(&t.sum32[k * t.ld_d + b]), 3);
                EXO_UNROLL for (int h = 0; h < 2; h++) {
                    __m256i dot = _mm256_sub_epi32(_mm256_madd_epi16(v[h][k], one), eights);
                    __m256 dw = load_f16(s + r * t.gs + h * 16);
                    f[2 * r + h][k] = scale_add(f[2 * r + h][k], dot, dw, t.d[k * t.ld_d + b]);
                }
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

TILE_DRIVE_PAIRED(exo_avx2_q8_0, tile_q8_0, 4, 4, 3)
EXO_TILE_DRIVE_1(exo_avx2_q4_0, tile_q4_0, 4, 4, 3)
EXO_TILE_DRIVE_1(exo_avx2_f32, tile_f32, 4, 6, 4)
EXO_TILE_DRIVE_1(exo_avx2_f16, tile_f16, 4, 6, 4)
EXO_TILE_DRIVE_1(exo_avx2_bf16, tile_bf16, 4, 6, 4)
