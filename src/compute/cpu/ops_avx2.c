/* ops_avx2.c - the tables of AVX2 kernels, for x86 processors since 2013, and of AVX-VNNI's, which
 * differ in products of integers only.
 *
 * Every processor with AVX2 and FMA3 also has the F16C conversions. */
#include "compute/cpu/cpu_info.h"
#include "compute/cpu/matmul_x86.h"
#include "compute/cpu/v16_avx2.h"
#include "compute/cpu/v16_ops_attention.h"

static bool runs_here(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

#define OPERATIONS                                                                                 \
    .norm = v16_norm, .quantize32 = v16_quantize32, .quantize256 = v16_quantize256,                \
    .layer_norm = v16_layer_norm, .silu_mul = v16_silu_mul, .gelu_mul = v16_gelu_mul,              \
    .swiglu_oai = v16_swiglu_oai, .mix = v16_mix, .softcap = v16_softcap_row, .rope = v16_rope,    \
    .attention = v16_attention, .attention_join = v16_attention_join,                              \
    .round_f16 = v16_round_f16_row, .read = v16_read

const exo_cpu_kernels exo_kernels_avxvnni = {
    .isa = "avxvnni",
    .driver = "avx-vnni",
    .runs_here = exo_cpu_has_avxvnni,
    .matmul = {[EXO_F32] = exo_avx2_f32,
               [EXO_F16] = exo_avx2_f16,
               [EXO_BF16] = exo_avx2_bf16,
               [EXO_Q4_0] = exo_avxvnni_q4_0,
               [EXO_Q8_0] = exo_avxvnni_q8_0,
               [EXO_Q4_K] = exo_avxvnni_q4_k,
               [EXO_Q6_K] = exo_avxvnni_q6_k,
               EXO_UNPACKED_TYPES(exo_avxvnni_unpacked)},
    OPERATIONS,
};

const exo_cpu_kernels exo_kernels_avx2 = {
    .isa = "avx2",
    .driver = "avx2",
    .runs_here = runs_here,
    .matmul = {[EXO_F32] = exo_avx2_f32,
               [EXO_F16] = exo_avx2_f16,
               [EXO_BF16] = exo_avx2_bf16,
               [EXO_Q4_0] = exo_avx2_q4_0,
               [EXO_Q8_0] = exo_avx2_q8_0,
               [EXO_Q4_K] = exo_avx2_q4_k,
               [EXO_Q6_K] = exo_avx2_q6_k,
               EXO_UNPACKED_TYPES(exo_avx2_unpacked)},
    OPERATIONS,
};
