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

/* Rows of a step that run together: all of them, or those of one class. */
typedef struct {
    const exo_plan_args *args;
    const uint32_t *rows; /* (n_rows) of the step, ascending */
    uint32_t n_rows;
    const uint32_t *logit_rows; /* (n_logits) of the pass: those that want logits */
    uint32_t n_logits;
    bool is_followed; /* another pass of this step will compute logits */
} exo_vk_pass;

/* Memory on the host; behind lay_out. */
exo_status exo_vk_head_allocate(exo_plan *p, exo_error *err);
/* Before a step: EXO_EINVAL for an ask that cannot be. */
exo_status exo_vk_head_check(exo_plan *p, const exo_plan_args *args, exo_error *err);
/* Before a pass is submitted: its asks into `words`, the step block. */
void exo_vk_head_begin(exo_plan *p, const exo_vk_pass *ps, uint32_t *words);
VkCommandBuffer exo_vk_head_reads(const exo_plan *p); /* of the pass' rows */
/* After it: answers and logits to where the step wants them. */
exo_status exo_vk_head_end(exo_plan *p, const exo_vk_pass *ps, exo_error *err);

#endif
