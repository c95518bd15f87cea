/* gumbel.h - the draw: arg max of logit / T plus counter-based Gumbel noise.
 *
 * That arg max is distributed as softmax(logit / T) (Gumbel 1954; "the Gumbel-max trick").  Each
 * token's noise depends on its own counter only, so the draw is the same however the vocabulary
 * is split, filtered or ordered.  The noise of token `id`:
 *
 *   counter  {id >> 1, position, choice, 0}   four 32-bit words of Philox4x32-10
 *   key      {seed low, seed high}
 *   bits     out[1] : out[0] for even ids, out[3] : out[2] for odd ones (high : low)
 *   k        bits >> 12                       52 bits
 *   u        (k + 1/2) / 2^52                 exact in a double, never 0 or 1
 *   noise    -log(-log(u))                    with exo_dlog, in (-3.6, 36.8)
 *
 * Thread: ANY. */
#ifndef EXO_ENGINE_GUMBEL_H
#define EXO_ENGINE_GUMBEL_H

#include <exo/base.h>

typedef struct {
    uint64_t seed;
    uint32_t choice, position;
    float temperature; /* > 0 */
} exo_gumbel;

/* The definition: (double)logit / T + noise. */
double exo_gumbel_score(const exo_gumbel *g, int32_t id, float logit);

/* The id of the highest score, the lower one of equals, among ids (n), or among all ids below n
 * when ids is NULL; logits are indexed by id.  Logits that are not finite never win; -1 when
 * none is finite. */
int32_t exo_gumbel_argmax(const exo_gumbel *g, const float *logits, const int32_t *ids, uint32_t n);

/* The highest logit's id under the same rules. */
int32_t exo_logits_argmax(const float *logits, const int32_t *ids, uint32_t n);

#endif
