/* unpacked_avx2.c - unpacked.h with AVX2: two registers are 16 rows x 4 bytes.
 *
 * vpmaddubsw multiplies unsigned by signed bytes and saturates at int16: weights lose their sign
 * to the activations, and no more pair sums are added than fit. */
#include "compute/cpu/bv_avx2.h"
#include "compute/cpu/matmul_x86.h"

EXO_INLINE void bv_dot16(iv *sum, const int8_t *q, const int8_t *x, size_t ld, bv scale,
                         const int N, const int steps) {
    EXO_UNROLL for (int i = 0; i < 4; i += steps) {
        bv w[4], size[4];
        EXO_UNROLL for (int j = 0; j < steps; j++) {
            w[j] = bv_load(q + (i + j) * 64);
            size[j] = _mm256_abs_epi8(w[j]);
        }
        EXO_UNROLL for (int k = 0; k < N; k++) {
            bv pairs = _mm256_setzero_si256();
            EXO_UNROLL for (int j = 0; j < steps; j++) {
                bv xv = _mm256_sign_epi8(spread4(x + k * ld + (i + j) * 4), w[j]);
                pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(size[j], xv));
            }
            sum[k] = _mm256_add_epi32(sum[k], _mm256_madd_epi16(pairs, scale));
        }
    }
}

EXO_INLINE iv bv_sums(iv sum, bv min, const int16_t *x) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(min, spread4(x)));
}

#include "compute/cpu/unpacked.h"

#include "compute/cpu/paired_avx2.h"

bool exo_avx2_paired(const exo_matmul_task *t) { return paired_matmul(t); }

void exo_avx2_unpacked(const exo_matmul_task *t) {
    if (!exo_avx2_unpacked_one(t) && !paired_matmul(t)) unpacked_matmul(t);
}
