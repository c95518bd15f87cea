/* kquants_avxvnni.c - Q4_K products of several columns with AVX-VNNI.
 *
 * A sub-block's dot product is exact int32 and is multiplied by its integer scale (vpmulld); for
 * each, its sums stand in registers and the super-block's in memory.  One column is memory's
 * speed with AVX2 already.  Q6_K goes the way of the unpacked types (unpacked_avxvnni.c): taking
 * its words apart would cost as much as multiplying them. */
#include "compute/cpu/matmul_x86.h"

#include "compute/cpu/q4_k_avx2.h"

#define MAX_N 6

/* v = sub-block j (low or high nibbles) of the pair at q times x, for both halves of a group. */
EXO_INLINE void sub_block_dots(const uint8_t *q, const int8_t *x, size_t ld_q, __m256i v[2][MAX_N],
                               const int j, const int N) {
    const __m256i low = _mm256_set1_epi8(15);
    EXO_UNROLL for (int k = 0; k < N; k++) v[0][k] = v[1][k] = _mm256_setzero_si256();
    EXO_NO_UNROLL for (int i = 0; i < 8; i++, q += 64, x += 4) {
        __m256i w0 = load(q), w1 = load(q + 32);
        w0 = _mm256_and_si256(j == 1 ? _mm256_srli_epi16(w0, 4) : w0, low);
        w1 = _mm256_and_si256(j == 1 ? _mm256_srli_epi16(w1, 4) : w1, low);
        EXO_UNROLL for (int k = 0; k < N; k++) {
            __m256i xv = spread4(x + k * ld_q);
            v[0][k] = in_order(_mm256_dpbusd_avx_epi32(v[0][k], w0, xv));
            v[1][k] = in_order(_mm256_dpbusd_avx_epi32(v[1][k], w1, xv));
        }
    }
}

/* Super-block b of one group, added to f. */
EXO_INLINE void q4_k_block(const exo_tile *t, uint32_t b, __m256 f[2][MAX_N], const int N) {
    const uint8_t *q = t->q + (size_t)b * 2048, *s = t->s + (size_t)b * 256;
    const int8_t *x = t->x + b * 256;
    const q4_k_scales u[2] = {q4_k_unpack(s + 64), q4_k_unpack(s + 96)};
    __m256i isum[2][MAX_N];
    EXO_UNROLL for (int k = 0; k < N; k++) isum[0][k] = isum[1][k] = _mm256_setzero_si256();
    EXO_NO_UNROLL for (int p = 0; p < 4; p++, q += 512, x += 64) { /* pairs of sub-blocks */
        const __m128i at = _mm_cvtsi32_si128(p % 2 * 16);
        EXO_UNROLL for (int j = 0; j < 2; j++) {
            __m256i v[2][MAX_N];
            sub_block_dots(q, x + j * 32, t->ld_q, v, j, N);
            EXO_UNROLL for (int h = 0; h < 2; h++) {
                __m256i scale = _mm256_srl_epi32(u[h].scale[p / 2], at);
                scale = _mm256_and_si256(_mm256_srli_epi32(scale, 8 * j), _mm256_set1_epi32(255));
                EXO_UNROLL for (int k = 0; k < N; k++) {
                    __m256i scaled = _mm256_mullo_epi32(v[h][k], scale);
                    isum[h][k] = _mm256_add_epi32(isum[h][k], scaled);
                }
            }
        }
    }
    EXO_UNROLL for (int h = 0; h < 2; h++) q4_k_add(s, h, t, b, &u[h], isum[h], f[h], N);
}

EXO_INLINE void tile_q4_k(const exo_tile t, const int R, const int N) {
    __m256 f[2][MAX_N];
    (void)R; /* one group */
    EXO_UNROLL for (int k = 0; k < N; k++) f[0][k] = f[1][k] = _mm256_setzero_ps();
    for (uint32_t b = 0; b < t.n_blocks; b++) q4_k_block(&t, b, f, N);
    EXO_UNROLL for (int k = 0; k < N; k++) {
        _mm256_storeu_ps(t.y + k * t.ld_y, f[0][k]);
        _mm256_storeu_ps(t.y + k * t.ld_y + 8, f[1][k]);
    }
}

EXO_TILE_COLUMNS(q4_k, tile_q4_k, 1, 6, 4)

void exo_avxvnni_q4_k(const exo_matmul_task *t) {
    if (t->n == 1) {
        exo_avx2_q4_k(t);
        return;
    }
    for (uint32_t g = 0; g < t->n_groups; g++) q4_k_columns_1(t, g);
}
