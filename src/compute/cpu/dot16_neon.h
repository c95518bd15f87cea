/* dot16_neon.h - dot16 for unpacked_neon.h of single dot products.
 *
 * Included by the files that define before it
 *   dot4(acc, w, x)  acc[i] += w[4i] x[4i] + ... + w[4i+3] x[4i+3], int32 */
#include "compute/cpu/unroll.h"

#include <string.h>

EXO_INLINE int8x16_t spread4(const int8_t *p) {
    int32_t v;
    memcpy(&v, p, sizeof v);
    return vreinterpretq_s8_s32(vdupq_n_s32(v));
}

EXO_INLINE void dot16(int32x4_t dot[4], const int8x16_t w[4], const int8_t *x, size_t ld,
                      const int N) {
    EXO_UNROLL for (int k = 0; k < N; k++) {
        dot[k] = vdupq_n_s32(0);
        EXO_UNROLL for (int i = 0; i < 4; i++) {
            dot[k] = dot4(dot[k], w[i], spread4(x + k * ld + i * 4));
        }
    }
}
