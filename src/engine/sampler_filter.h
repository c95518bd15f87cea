/* sampler_filter.h - which ids survive top-k, typical, top-p and min-p.
 *
 * Each filter keeps the shortest prefix of an ordering whose weight reaches a target, so one
 * selection serves all.  Internal to the sampler.
 * Thread: COMPUTE. */
#ifndef EXO_ENGINE_SAMPLER_FILTER_H
#define EXO_ENGINE_SAMPLER_FILTER_H

#include "engine/request.h"

typedef struct {
    uint64_t weight; /* what the current filter counts: 1, or the softmax weight */
    double key;      /* what it orders by, highest first; ties go to the lower id */
    float logit;
    int32_t id;
} exo_candidate;

bool exo_filter_active(const exo_sampling *p, uint32_t n_vocab);

/* Writes the ids that survive to ids (room for n_vocab) and returns their count, at least 1.
 * max: the highest finite logit.  scratch: (n_vocab). */
uint32_t exo_filter_run(const exo_sampling *p, const float *logits, uint32_t n_vocab, float max,
                        exo_candidate *scratch, int32_t *ids);

#endif
