/* host.h - what a Vulkan device leaves to the CPU: kernels without a good variant, weight types
 * without kernels.
 *
 * A kernel of which no variant passed its trial is absent.  Then the CPU computes the operations
 * that would need it, as host points of the plan (plan_host.h); two kernels only make things
 * faster, and plans do without.  A device without any product, or without the kernel for single
 * elements that stands between all others, is of no use and left out. Thread: COMPUTE. */
#ifndef EXO_COMPUTE_VULKAN_HOST_H
#define EXO_COMPUTE_VULKAN_HOST_H

#include "compute/vulkan/backend.h"
#include "compute/vulkan/probe.h"

/* Whether no variant of k passed; *reason (may be NULL) is what the last trial said. */
bool exo_vk_absent(const exo_vk_verdict *v, exo_vk_kernel k, const char **reason);
/* False, and why, when what passed is of no use.  err may be NULL. */
bool exo_vk_is_useful(const exo_vk_verdict *v, exo_error *err);
/* What the CPU computes without this kernel ("products of q4_0"); NULL: nothing, it is done
 * without. */
const char *exo_vk_host_computes(exo_vk_kernel k);

/* The CPU device behind d, opened at the first use and closed with d. */
exo_status exo_vk_host_device(exo_device *d, exo_device **out, exo_error *err);
/* Whether weights of this type are kept in the CPU's layout: it multiplies by them. */
bool exo_vk_host_type(const exo_device *d, exo_dtype type);

#endif
