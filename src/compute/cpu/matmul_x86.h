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

void exo_avxvnni_q4_0(const exo_matmul_task *t);
void exo_avxvnni_q8_0(const exo_matmul_task *t);
void exo_avxvnni_q4_k(const exo_matmul_task *t);
void exo_avxvnni_q6_k(const exo_matmul_task *t);
void exo_avxvnni_unpacked(const exo_matmul_task *t); /* EXO_UNPACKED_TYPES */

/* The product where the type and so many columns gain by it (paired_avx2.h), else false. */
bool exo_avx2_paired(const exo_matmul_task *t);
/* The product of one column where the type has a kernel for that (kquants_avx512.c), else false. */
bool exo_avx512_unpacked_one(const exo_matmul_task *t);
/* The product of one column where the type has a kernel for that (unpacked_one_avx2.c), else false.
 */
bool exo_avx2_unpacked_one(const exo_matmul_task *t);
void exo_avx2_q5_k_one(const exo_matmul_task *t); /* n = 1 */

#endif
