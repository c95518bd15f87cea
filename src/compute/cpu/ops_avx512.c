/* ops_avx512.c - the table of AVX-512 kernels, for processors with VNNI (Ice Lake, Zen 4, ...). */
#include "compute/cpu/cpu_info.h"
#include "compute/cpu/matmul_x86.h"
#include "compute/cpu/v16_avx512.h"
#include "compute/cpu/v16_ops_attention.h"

const exo_cpu_kernels exo_kernels_avx512 = {
    .isa = "avx512",
    .driver = "avx512-vnni",
    .runs_here = exo_cpu_has_avx512_vnni,
    .matmul = {[EXO_F32] = exo_avx512_f32,
               [EXO_F16] = exo_avx512_f16,
               [EXO_BF16] = exo_avx512_bf16,
               [EXO_Q4_0] = exo_avx512_q4_0,
               [EXO_Q8_0] = exo_avx512_q8_0,
               [EXO_Q4_K] = exo_avx512_q4_k,
               [EXO_Q6_K] = exo_avx512_q6_k,
               EXO_UNPACKED_TYPES(exo_avx512_unpacked)},
    .norm = v16_norm,
    .quantize32 = v16_quantize32,
    .quantize256 = v16_quantize256,
    .layer_norm = v16_layer_norm,
    .silu_mul = v16_silu_mul,
    .gelu_mul = v16_gelu_mul,
    .swiglu_oai = v16_swiglu_oai,
    .mix = v16_mix,
    .softcap = v16_softcap_row,
    .rope = v16_rope,
    .attention = v16_attention,
    .attention_join = v16_attention_join,
    .round_f16 = v16_round_f16_row,
    .read = v16_read,
};
