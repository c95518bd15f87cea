/* matmul_x86.h - the products of the x86 instruction sets, one per weight type. */
#ifndef EXO_COMPUTE_CPU_MATMUL_X86_H
#define EXO_COMPUTE_CPU_MATMUL_X86_H

#include "compute/cpu/kernels.h"

void exo_avx512_f32(const exo_matmul_task *t);
void exo_avx512_f16(const exo_matmul_task *t);
void exo_avx512_bf16(const exo_matmul_task *t);
void exo_avx512_q4_0(const exo_matmul_task *t);
void exo_avx512_q8_0(const exo_matmul_task *t);
void exo_avx512_q4_k(const exo_matmul_task *t);
void exo_avx512_q6_k(const exo_matmul_task *t);
void exo_avx512_unpacked(const exo_matmul_task *t); /* EXO_UNPACKED_TYPES */

void exo_avx2_f32(const exo_matmul_task *t);
void exo_avx2_f16(const exo_matmul_task *t);
void exo_avx2_bf16(const exo_matmul_task *t);
void exo_avx2_q4_0(const exo_matmul_task *t);
void exo_avx2_q8_0(const exo_matmul_task *t);
void exo_avx2_q4_k(const exo_matmul_task *t);
void exo_avx2_q6_k(const exo_matmul_task *t);
void exo_avx2_unpacked(const exo_matmul_task *t); /* EXO_UNPACKED_TYPES */

/* Q8_0, Q6_K and EXO_UNPACKED_TYPES; worth its preparation from so many columns on. */
void exo_avx2_paired(const exo_matmul_task *t);
#define EXO_AVX2_PAIRED 16

#endif
