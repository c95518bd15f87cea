/* selftest.h - proves each kernel on a device with small inputs whose results are known. */
#ifndef EXO_COMPUTE_VULKAN_SELFTEST_H
#define EXO_COMPUTE_VULKAN_SELFTEST_H

#include "compute/vulkan/probe.h"

/* Tries every variant of every kernel against the CPU reference and reports each trial: an
 * exo_vk_selftest_fn.  An error means that the device cannot be tried at all. */
exo_status exo_vk_selftest(exo_vk_device *d, exo_vk_trials *t, exo_error *err);

#endif
