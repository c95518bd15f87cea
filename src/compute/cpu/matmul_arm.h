/* matmul_arm.h - the products of the three NEON tables, one per weight type. */
#ifndef EXO_COMPUTE_CPU_MATMUL_ARM_H
#define EXO_COMPUTE_CPU_MATMUL_ARM_H

#include "compute/cpu/kernels.h"

void exo_neon_f32(const exo_matmul_task *t);
void exo_neon_f16(const exo_matmul_task *t);
void exo_neon_bf16(const exo_matmul_task *t);
void exo_neon_q4_0(const exo_matmul_task *t);
void exo_neon_q8_0(const exo_matmul_task *t);
void exo_neon_q4_k(const exo_matmul_task *t);
void exo_neon_q6_k(const exo_matmul_task *t);
void exo_neon_unpacked(const exo_matmul_task *t); /* EXO_UNPACKED_TYPES */

void exo_dotprod_f32(const exo_matmul_task *t);
void exo_dotprod_f16(const exo_matmul_task *t);
void exo_dotprod_bf16(const exo_matmul_task *t);
void exo_dotprod_q4_0(const exo_matmul_task *t);
void exo_dotprod_q8_0(const exo_matmul_task *t);
void exo_dotprod_q4_k(const exo_matmul_task *t);
void exo_dotprod_q6_k(const exo_matmul_task *t);
void exo_dotprod_unpacked(const exo_matmul_task *t); /* EXO_UNPACKED_TYPES */

void exo_i8mm_q4_0(const exo_matmul_task *t); /* floats: exo_dotprod_... */
void exo_i8mm_q8_0(const exo_matmul_task *t);
void exo_i8mm_q4_k(const exo_matmul_task *t);
void exo_i8mm_q6_k(const exo_matmul_task *t);
void exo_i8mm_unpacked(const exo_matmul_task *t); /* EXO_UNPACKED_TYPES */

#endif
