/* unpacked_i8mm_neon.c - unpacked.h for ARM processors with int8 matrix instructions (smmla).
 *
 * Pairs of columns take half the instructions of sdot (matmul_i8mm_neon.c); one column is left to
 * sdot, and the last of an odd number is its own neighbour. */
#include <arm_neon.h>
#include <stddef.h>

#include "compute/cpu/unroll.h"

/* Two rows of 8 elements in each register: rows 0 1, rows 2 3. */
EXO_INLINE void two_rows(int8x16_t rows[2], int8x16_t w0, int8x16_t w1) {
    int32x4_t a = vreinterpretq_s32_s8(w0), b = vreinterpretq_s32_s8(w1);
    rows[0] = vreinterpretq_s8_s32(vzip1q_s32(a, b));
    rows[1] = vreinterpretq_s8_s32(vzip2q_s32(a, b));
}

EXO_INLINE void dot16(int32x4_t dot[4], const int8x16_t w[4], const int8_t *x, size_t ld,
                      const int N) {
    int8x16_t first[2], second[2];
    two_rows(first, w[0], w[1]);
    two_rows(second, w[2], w[3]);
    EXO_UNROLL for (int k = 0; k < N; k += 2) {
        const int8_t *p = x + (size_t)k * ld;
        int64x2_t a = vreinterpretq_s64_s8(vld1q_s8(p));
        int64x2_t b = k + 1 < N ? vreinterpretq_s64_s8(vld1q_s8(p + ld)) : a;
        int8x16_t low = vreinterpretq_s8_s64(vzip1q_s64(a, b));
        int8x16_t high = vreinterpretq_s8_s64(vzip2q_s64(a, b));
        int32x4_t v[2];
        EXO_UNROLL for (int r = 0; r < 2; r++) {
            v[r] = vmmlaq_s32(vdupq_n_s32(0), first[r], low);
            v[r] = vmmlaq_s32(v[r], second[r], high);
        }
        dot[k] = vuzp1q_s32(v[0], v[1]);
        if (k + 1 < N) dot[k + 1] = vuzp2q_s32(v[0], v[1]);
    }
}

#include "compute/cpu/unpacked_neon.h"

void exo_i8mm_unpacked(const exo_matmul_task *t) {
    if (t->n == 1) {
        exo_dotprod_unpacked(t);
    } else {
        unpacked_matmul(t);
    }
}
