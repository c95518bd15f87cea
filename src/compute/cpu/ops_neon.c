/* ops_neon.c - the three tables of NEON kernels: they differ in the products only.
 *
 * Every ARM processor of 64 bits has what this file uses. */
#include "compute/cpu/cpu_info.h"
#include "compute/cpu/matmul_arm.h"
#include "compute/cpu/v16_neon.h"
#include "compute/cpu/v16_ops_attention.h"

static bool always(void) { return true; }

#define OPERATIONS                                                                                 \
    .norm = v16_norm, .quantize32 = v16_quantize32, .quantize256 = v16_quantize256,                \
    .layer_norm = v16_layer_norm, .silu_mul = v16_silu_mul, .gelu_mul = v16_gelu_mul,              \
    .swiglu_oai = v16_swiglu_oai, .softcap = v16_softcap_row, .rope = v16_rope,                    \
    .attention = v16_attention, .attention_join = v16_attention_join, .mix = v16_mix,              \
    .round_f16 = v16_round_f16_row, .read = v16_read

const exo_cpu_kernels exo_kernels_neon_i8mm = {
    .isa = "neon-i8mm",
    .driver = "neon-i8mm",
    .runs_here = exo_cpu_has_i8mm,
    .matmul = {[EXO_F32] = exo_dotprod_f32,
               [EXO_F16] = exo_dotprod_f16,
               [EXO_BF16] = exo_dotprod_bf16,
               [EXO_Q4_0] = exo_i8mm_q4_0,
               [EXO_Q8_0] = exo_i8mm_q8_0,
               [EXO_Q4_K] = exo_i8mm_q4_k,
               [EXO_Q6_K] = exo_i8mm_q6_k,
               EXO_UNPACKED_TYPES(exo_i8mm_unpacked)},
    OPERATIONS,
};

const exo_cpu_kernels exo_kernels_neon_dotprod = {
    .isa = "neon-dotprod",
    .driver = "neon-dotprod",
    .runs_here = exo_cpu_has_dotprod,
    .matmul = {[EXO_F32] = exo_dotprod_f32,
               [EXO_F16] = exo_dotprod_f16,
               [EXO_BF16] = exo_dotprod_bf16,
               [EXO_Q4_0] = exo_dotprod_q4_0,
               [EXO_Q8_0] = exo_dotprod_q8_0,
               [EXO_Q4_K] = exo_dotprod_q4_k,
               [EXO_Q6_K] = exo_dotprod_q6_k,
               EXO_UNPACKED_TYPES(exo_dotprod_unpacked)},
    OPERATIONS,
};

const exo_cpu_kernels exo_kernels_neon = {
    .isa = "neon-plain",
    .driver = "neon",
    .runs_here = always,
    .matmul = {[EXO_F32] = exo_neon_f32,
               [EXO_F16] = exo_neon_f16,
               [EXO_BF16] = exo_neon_bf16,
               [EXO_Q4_0] = exo_neon_q4_0,
               [EXO_Q8_0] = exo_neon_q8_0,
               [EXO_Q4_K] = exo_neon_q4_k,
               [EXO_Q6_K] = exo_neon_q6_k,
               EXO_UNPACKED_TYPES(exo_neon_unpacked)},
    OPERATIONS,
};
