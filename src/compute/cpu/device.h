/* device.h - the CPU device and its buffers, as the files of this folder see them. */
#ifndef EXO_COMPUTE_CPU_DEVICE_H
#define EXO_COMPUTE_CPU_DEVICE_H

#include "compute/cpu/kernels.h"

struct exo_device {
    const exo_cpu_kernels *kernels;
    exo_pool *pool;
};

struct exo_buffer {
    uint8_t *data; /* page-aligned, zeroed when made */
    size_t bytes;
};

exo_status exo_cpu_plan_create(exo_device *d, const exo_plan_desc *desc, exo_plan **out,
                               exo_error *err);
exo_status exo_cpu_plan_run(exo_plan *p, const exo_plan_args *args, exo_error *err);
void exo_cpu_plan_destroy(exo_plan *p);

#endif
