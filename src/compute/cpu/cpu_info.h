/* cpu_info.h - what the operating system tells about the processor: one file per system. */
#ifndef EXO_COMPUTE_CPU_CPU_INFO_H
#define EXO_COMPUTE_CPU_CPU_INFO_H

#include "compute/backend.h"

/* Fills name, vendor, compute_units (cores this process may use), memory and sensors; what the
 * system does not tell stays as it was. */
void exo_cpu_info(exo_device_info *out);

/* How many threads of the whole system, the caller among them, want a core now; 0 where it does not
 * tell.  Does not allocate. */
uint32_t exo_cpu_wanted(void);

/* True for an ARM processor with dot product instructions; with those and int8 matrix products. */
bool exo_cpu_has_dotprod(void);
bool exo_cpu_has_i8mm(void);

#if defined(__x86_64__)             /* cpu_info_x86.c */
bool exo_cpu_has_avxvnni(void);     /* and AVX2, FMA */
bool exo_cpu_has_avx512_vnni(void); /* and the parts of AVX-512 that kernels use */
#endif

#endif
