/* sampler.h - from logits to one token id: a pure function of (sampling, history, logits).
 *
 * The draw is arg max(logit / T + Gumbel(Philox(seed, choice, position, token id))) over the
 * ids that survive the filters, so it does not depend on how the head was split or on whether
 * the request was resumed; gumbel.h has the counters.  Ties go to the lower id.  No libm: the
 * same bits on every machine.
 * Order of filters (as llama.cpp): bias, penalties, top-k, typical, top-p, min-p, temperature.
 * Greedy (temperature 0) is the arg max after bias and penalties; filters do not matter to it.
 * Thread: COMPUTE; scratch belongs to the sampler, draws allocate nothing. */
#ifndef EXO_ENGINE_SAMPLER_H
#define EXO_ENGINE_SAMPLER_H

#include "compute/head.h"
#include "engine/request.h"

typedef struct exo_sampler exo_sampler;

typedef struct {
    int32_t id;
    float logprob; /* natural log of the model's probability before filters and temperature */
} exo_logprob;

typedef struct {
    int32_t id;
    float logprob; /* when asked for, else 0 */
    uint32_t n_top;
    exo_logprob top[EXO_MAX_LOGPROBS]; /* most probable first */
} exo_draw;

exo_status exo_sampler_create(uint32_t n_vocab, exo_sampler **out, exo_error *err);
void exo_sampler_destroy(exo_sampler *s);

/* history: prompt and generated ids before the drawn position, which is history.n; n_prompt of
 * them are the prompt.  logits: (n_vocab), not changed; one that is not finite is never drawn.
 * Ids outside the vocabulary (bias, history) are passed over.
 * EXO_EINTERNAL when no logit is finite. */
exo_status exo_sampler_draw(exo_sampler *s, const exo_sampling *p, exo_tokens history,
                            size_t n_prompt, const float *logits, exo_draw *out, exo_error *err);

/* What this draw has to know of the logits, for a device that can tell it without handing over the
 * row; kind EXO_HEAD_LOGITS: all of them.  position is that of the token to draw. */
exo_head_ask exo_sampler_ask(const exo_sampling *p, uint32_t n_vocab, uint32_t position);
/* exo_sampler_draw from the answer to `ask`.  True: out is what the whole row would give.  False:
 * the answer leaves it open. */
bool exo_sampler_draw_top(exo_sampler *s, const exo_sampling *p, const exo_head_ask *ask,
                          const exo_head_top *top, exo_draw *out);

/* The counter-based generator itself: Philox4x32-10 keyed by seed; tested against its
 * published vectors.  Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011. */
void exo_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

#endif
