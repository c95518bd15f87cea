/* matmul_dotprod_neon.c - products for ARM processors with dot product instructions (sdot). */
#include <arm_neon.h>

static inline int32x4_t dot4(int32x4_t acc, int8x16_t w, int8x16_t x) {
    return vdotq_s32(acc, w, x);
}

#include "compute/cpu/matmul_neon.h"

EXO_TILE_DRIVE(exo_dotprod_q8_0, tile_q8_0, 1, 4, 3)
EXO_TILE_DRIVE(exo_dotprod_q4_0, tile_q4_0, 1, 4, 3)
EXO_TILE_DRIVE(exo_dotprod_q4_k, tile_q4_k, 1, 4, 3)
EXO_TILE_DRIVE(exo_dotprod_q6_k, tile_q6_k, 1, 4, 3)
EXO_TILE_DRIVE(exo_dotprod_f32, tile_f32, 1, 4, 3)
EXO_TILE_DRIVE(exo_dotprod_f16, tile_f16, 1, 4, 3)
EXO_TILE_DRIVE(exo_dotprod_bf16, tile_bf16, 1, 4, 3)
