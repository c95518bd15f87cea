/* rope.h - the rotation of one head, for every instruction set.
 *
 * The loops have no sums across elements, so the compiler may vectorise them as it likes: each
 * file that includes this gets the same bits at its own speed.  Order: reference.h. */
#ifndef EXO_COMPUTE_CPU_ROPE_H
#define EXO_COMPUTE_CPU_ROPE_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

/* cos and sin: (dims / 2). */
static inline void exo_rope_head(float *restrict head, const float *restrict cos,
                                 const float *restrict sin, uint32_t dims, bool neox) {
    uint32_t half = dims / 2;
    if (neox) {
        for (uint32_t i = 0; i < half; i++) {
            float a = head[i], b = head[i + half];
            head[i] = fmaf(a, cos[i], -(b * sin[i]));
            head[i + half] = fmaf(a, sin[i], b * cos[i]);
        }
    } else {
        for (uint32_t i = 0; i < half; i++) {
            float a = head[2 * i], b = head[2 * i + 1];
            head[2 * i] = fmaf(a, cos[i], -(b * sin[i]));
            head[2 * i + 1] = fmaf(a, sin[i], b * cos[i]);
        }
    }
}

#endif
