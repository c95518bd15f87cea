/* matmul_neon.c - products for ARMv8-A processors without dot product instructions.
 *
 * Products of two bytes fit int16 even for -128 * 127, and pairs of them are widened before they
 * are added: nothing can saturate. */
#include <arm_neon.h>

static inline int32x4_t dot4(int32x4_t acc, int8x16_t w, int8x16_t x) {
    int16x8_t lo = vmull_s8(vget_low_s8(w), vget_low_s8(x)), hi = vmull_high_s8(w, x);
    return vaddq_s32(acc, vpaddq_s32(vpaddlq_s16(lo), vpaddlq_s16(hi)));
}

#include "compute/cpu/matmul_neon.h"

EXO_TILE_DRIVE(exo_neon_q8_0, tile_q8_0, 1, 4, 3)
EXO_TILE_DRIVE(exo_neon_q4_0, tile_q4_0, 1, 4, 3)
EXO_TILE_DRIVE(exo_neon_q4_k, tile_q4_k, 1, 4, 3)
EXO_TILE_DRIVE(exo_neon_q6_k, tile_q6_k, 1, 4, 3)
EXO_TILE_DRIVE(exo_neon_f32, tile_f32, 1, 4, 3)
EXO_TILE_DRIVE(exo_neon_f16, tile_f16, 1, 4, 3)
EXO_TILE_DRIVE(exo_neon_bf16, tile_bf16, 1, 4, 3)
