/* plan_profile.h - where a step's time goes on the device, kernel by kernel.
 *
 * EXO_VULKAN_PROFILE=1 puts a timestamp behind every dispatch when a plan is recorded; the plan
 * says the sums in the log when it is destroyed.  What stands between two timestamps is a dispatch
 * with the barrier before it.  There is room for the command buffers of the smaller buckets
 * (plan_profile.c: MAX_BUFFERS): decoding is in it, long prompts of big models are not.  Without
 * the variable nothing is recorded and nothing is read. Thread: COMPUTE, with the plan. */
#ifndef EXO_COMPUTE_VULKAN_PLAN_PROFILE_H
#define EXO_COMPUTE_VULKAN_PLAN_PROFILE_H

#include "compute/vulkan/plan_record.h"

typedef struct exo_vk_profile exo_vk_profile;

/* *out is NULL where no profile was asked for, or the queue has no timestamps. */
exo_status exo_vk_profile_create(exo_vk_device *d, exo_vk_profile **out, exo_error *err);
/* Logs what was measured. NULL is allowed. */
void exo_vk_profile_destroy(exo_vk_profile *pf);

/* A command buffer has begun, or a dispatch was put into it; NULL is allowed. */
void exo_vk_profile_begin(exo_vk_profile *pf, VkCommandBuffer c);
void exo_vk_profile_dispatch(exo_vk_profile *pf, VkCommandBuffer c, const exo_vk_dispatch *d,
                             uint32_t rows);
/* These command buffers have run to their end. */
void exo_vk_profile_collect(exo_vk_profile *pf, const VkCommandBuffer *commands, uint32_t n);

#endif
