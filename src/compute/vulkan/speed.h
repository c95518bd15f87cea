/* speed.h - what a device can do in a second: multiply-adds, and bytes read from its memory.
 *
 * Measured by a short kernel of each kind (compute/kernels/speed.comp) in the self-test, in well
 * under a second; the results of the kernel are checked.  Thread: COMPUTE. */
#ifndef EXO_COMPUTE_VULKAN_SPEED_H
#define EXO_COMPUTE_VULKAN_SPEED_H

#include "compute/vulkan/backend.h"

typedef struct {
    double gflops;    /* f32; a multiply-add is two */
    double read_gbps; /* 1e9 bytes */
} exo_vk_speed;

/* EXO_EINTERNAL when the kernel computes wrongly. */
exo_status exo_vk_measure_speed(exo_device *d, exo_vk_speed *out, exo_error *err);

#endif
