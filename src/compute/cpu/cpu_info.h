/* cpu_info.h - what the operating system tells about the processor: one file per system. */
#ifndef EXO_COMPUTE_CPU_CPU_INFO_H
#define EXO_COMPUTE_CPU_CPU_INFO_H

#include "compute/backend.h"

/* Fills name, vendor, compute_units (cores this process may use), memory and sensors; what the
 * system does not tell stays as it was. */
void exo_cpu_info(exo_device_info *out);

/* True for an ARM processor with dot product instructions. */
bool exo_cpu_has_dotprod(void);

#endif
