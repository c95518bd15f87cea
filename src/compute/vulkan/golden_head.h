/* golden_head.h - asks of rows of logits with known answers, for the self-test and the tests.
 *
 * The logits of a case are those of one plan with a HEAD over a seed's weights.  The check runs it
 * twice, reading the rows and asking, and compares: every id that reaches the answer's bound is in
 * it with the row's own bits, at least as many as asked for, and no other; scores and totals are
 * within compute/head.h's errors of double precision.
 * Thread: COMPUTE. */
#ifndef EXO_COMPUTE_VULKAN_GOLDEN_HEAD_H
#define EXO_COMPUTE_VULKAN_GOLDEN_HEAD_H

#include "compute/vulkan/backend.h"

typedef struct {
    uint32_t n_vocab;
    uint32_t n; /* rows that ask */
    exo_head_ask ask;
    float spread; /* of the logits; 0 = 8.  Small ones are equal often */
    uint64_t seed;
} exo_vk_head_case;

exo_status exo_vk_check_head(exo_device *d, const exo_vk_head_case *c, exo_error *err);

#endif
