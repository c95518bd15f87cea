/* matmul_avxvnni.c - products with AVX-VNNI: two registers are 16 rows x 4 weights.
 *
 * vpdpbusd without AVX-512: Intel's processors since the 12th generation.  It adds four products of
 * unsigned weights and signed activations to int32 and does not saturate, so that one instruction
 * does what AVX2 does with four (Q8_0) or two (Q4_0).  Q8_0 weights are flipped to unsigned and
 * the sum starts at -128 * sum(x); that of Q4_0 at -8 * sum(x).  Integer sums are exact, so only
 * the float steps follow reference.h one for one.
 *
 * A tile is one group and six columns: 12 sums, two registers of weights and one of activations
 * are all that there are.  Results stand in memory during a block. */
#include "compute/cpu/matmul_x86.h"

#include "compute/cpu/tile_avx2.h"

#define MAX_H 8 /* registers of 8 rows: two a group */
#define MAX_N 6

EXO_INLINE __m256i dot4(__m256i sum, __m256i w, __m256i x) {
    return in_order(_mm256_dpbusd_avx_epi32(sum, w, x));
}

EXO_INLINE __m256 scale_add(__m256 acc, __m256i dot, __m256 dw, float dx) {
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_mul_ps(dw, _mm256_set1_ps(dx)), acc);
}

/* v += the words q (64 bytes from one to the next) times x, for both halves of a group. */
EXO_INLINE void q8_0_dots(const uint8_t *q, const int8_t *x, size_t ld_q, __m256i v[2][MAX_N],
                          const int N) {
    const __m256i flip = _mm256_set1_epi8((char)0x80);
    EXO_NO_UNROLL for (int j = 0; j < 8; j++, q += 64, x += 4) {
        __m256i w0 = _mm256_xor_si256(load(q), flip), w1 = _mm256_xor_si256(load(q + 32), flip);
        EXO_UNROLL for (int k = 0; k < N; k++) {
            __m256i xv = spread4(x + k * ld_q);
            v[0][k] = dot4(v[0][k], w0, xv);
            v[1][k] = dot4(v[1][k], w1, xv);
        }
    }
}

/* The same of nibbles: the low ones of all words first, so that two registers hold weights. */
EXO_INLINE void q4_0_dots(const uint8_t *q, const int8_t *x, size_t ld_q, __m256i v[2][MAX_N],
                          const int N) {
    const __m256i low = _mm256_set1_epi8(15);
    EXO_NO_UNROLL for (int j = 0; j < 4; j++, q += 64, x += 4) {
        EXO_UNROLL for (int h = 0; h < 2; h++) {
            __m256i w0 = load(q), w1 = load(q + 32);
            w0 = _mm256_and_si256(h == 1 ? _mm256_srli_epi16(w0, 4) : w0, low);
            w1 = _mm256_and_si256(h == 1 ? _mm256_srli_epi16(w1, 4) : w1, low);
            EXO_UNROLL for (int k = 0; k < N; k++) {
                __m256i xv = spread4(x + k * ld_q + h * 16);
                v[0][k] = dot4(v[0][k], w0, xv);
                v[1][k] = dot4(v[1][k], w1, xv);
            }
        }
    }
}

typedef struct {
    uint32_t quant_bytes; /* of a block of a group */
    int offset;           /* of the unsigned weights */
} block32;

EXO_INLINE void tile_32(const exo_tile t, const int R, const int N, const block32 type) {
    const uint8_t *q = t.q, *s = t.s;
    const int8_t *x = t.x;
    __m256 f[MAX_H][MAX_N];
    EXO_UNROLL for (int h = 0; h < 2 * R; h++) {
        EXO_UNROLL for (int k = 0; k < N; k++) f[h][k] = _mm256_setzero_ps();
    }
    for (uint32_t b = 0; b < t.n_blocks; b++, q += type.quant_bytes, s += 32, x += 32) {
        EXO_UNROLL for (int r = 0; r < R; r++) {
            __m256i v[2][MAX_N];
            EXO_UNROLL for (int k = 0; k < N; k++) {
                v[0][k] = v[1][k] = _mm256_set1_epi32(-type.offset * t.sum32[k * t.ld_d + b]);
            }
            if (type.quant_bytes == 512) {
                q8_0_dots(q + r * t.gq, x, t.ld_q, v, N);
            } else {
                q4_0_dots(q + r * t.gq, x, t.ld_q, v, N);
            }
            EXO_UNROLL for (int h = 0; h < 2; h++) {
                __m256 dw = load_f16(s + r * t.gs + h * 16);
                EXO_UNROLL for (int k = 0; k < N; k++) {
                    f[2 * r + h][k] = scale_add(f[2 * r + h][k], v[h][k], dw, t.d[k * t.ld_d + b]);
                }
            }
        }
    }
    EXO_UNROLL for (int h = 0; h < 2 * R; h++) {
        EXO_UNROLL for (int k = 0; k < N; k++) {
            _mm256_storeu_ps(t.y + k * t.ld_y + h / 2 * t.gy + h % 2 * 8, f[h][k]);
        }
    }
}

EXO_INLINE void tile_q8_0(const exo_tile t, const int R, const int N) {
    tile_32(t, R, N, (block32){512, 128});
}
EXO_INLINE void tile_q4_0(const exo_tile t, const int R, const int N) {
    tile_32(t, R, N, (block32){256, 8});
}

EXO_TILE_DRIVE_1(exo_avxvnni_q8_0, tile_q8_0, 4, 6, 4)
EXO_TILE_DRIVE_1(exo_avxvnni_q4_0, tile_q4_0, 4, 6, 4)
