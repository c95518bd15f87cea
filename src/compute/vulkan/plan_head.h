/* plan_head.h - between plan_head.c, which knows what becomes of logits, and the plan's other
 * files. Thread: COMPUTE. */
#ifndef EXO_COMPUTE_VULKAN_PLAN_HEAD_H
#define EXO_COMPUTE_VULKAN_PLAN_HEAD_H

#include "compute/vulkan/plan_record.h"

#define EXO_VK_ASK_WORDS 8 /* of the step block, per row of logits */

/* Sizes of the head's memory; takes its part of the step block from *step_at on. */
void exo_vk_head_lay_out(exo_plan *p, uint64_t *step_at);

/* The dispatches that answer asks, behind those that compute logits. */
exo_status exo_vk_head_record(exo_vk_recorder *r, exo_error *err);
/* The commands that copy whole rows to the host, for 1, 2, 4, ... rows. */
exo_status exo_vk_head_record_reads(exo_vk_recorder *r, exo_error *err);

/* Before a step's block is submitted: its asks into `words`, the block. */
exo_status exo_vk_head_begin(exo_plan *p, const exo_plan_args *args, uint32_t *words,
                             exo_error *err);
bool exo_vk_head_asks(const exo_plan_args *args, uint32_t i); /* does the i-th logits row? */
VkCommandBuffer exo_vk_head_reads(const exo_plan *p);         /* of the step's rows */
/* After it: answers and logits to where args wants them. */
exo_status exo_vk_head_end(exo_plan *p, const exo_plan_args *args, exo_error *err);

#endif
