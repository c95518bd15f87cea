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

/* What is known of the ids that are no candidates. */
typedef struct {
    float max;   /* the highest logit */
    float bound; /* theirs are below */
    double total_low, total_high;
} exo_filter_bounds;

bool exo_filter_active(const exo_sampling *p, uint32_t n_vocab);

/* Writes the ids that survive to ids (room for n_vocab) and returns their count, at least 1.
 * max: the highest finite logit.  scratch: (n_vocab). */
uint32_t exo_filter_run(const exo_sampling *p, const float *logits, uint32_t n_vocab, float max,
                        exo_candidate *scratch, int32_t *ids);

/* The same from candidates that are all ids with a logit of at least `bound`: (n), logit and id
 * filled, reordered.  The sum of e^(logit - max) over the vocabulary lies in [total_low,
 * total_high]. 0 when ids below the bound might survive, or the totals disagree about who does. */
uint32_t exo_filter_run_top(const exo_sampling *p, uint32_t n_vocab, exo_candidate *c, uint32_t n,
                            const exo_filter_bounds *b, int32_t *ids);

#endif
