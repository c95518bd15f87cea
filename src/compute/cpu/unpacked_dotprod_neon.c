/* unpacked_dotprod_neon.c - unpacked.h for ARM processors with dot product instructions (sdot). */
#include <arm_neon.h>

static inline int32x4_t dot4(int32x4_t acc, int8x16_t w, int8x16_t x) {
    return vdotq_s32(acc, w, x);
}

#include "compute/cpu/dot16_neon.h"
#include "compute/cpu/unpacked_neon.h"

void exo_dotprod_unpacked(const exo_matmul_task *t) { unpacked_matmul(t); }
