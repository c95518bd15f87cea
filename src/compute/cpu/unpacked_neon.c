/* unpacked_neon.c - unpacked.h for ARMv8-A processors without dot product instructions. */
#include <arm_neon.h>

static inline int32x4_t dot4(int32x4_t acc, int8x16_t w, int8x16_t x) {
    int16x8_t lo = vmull_s8(vget_low_s8(w), vget_low_s8(x)), hi = vmull_high_s8(w, x);
    return vaddq_s32(acc, vpaddq_s32(vpaddlq_s16(lo), vpaddlq_s16(hi)));
}

#include "compute/cpu/dot16_neon.h"
#include "compute/cpu/unpacked_neon.h"

void exo_neon_unpacked(const exo_matmul_task *t) { unpacked_matmul(t); }
