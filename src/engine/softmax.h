/* softmax.h - probabilities as fixed-point integers, so that no sum depends on its order.
 *
 * The weight of a logit is floor(2^44 e^(logit - max)); probabilities are weights over their
 * sum.  Integer sums are exact: the same whatever the order, the split of the vocabulary or the
 * machine.  What is lost is below 2^-44 of the largest probability per token.
 * Thread: ANY. */
#ifndef EXO_ENGINE_SOFTMAX_H
#define EXO_ENGINE_SOFTMAX_H

#include <exo/base.h>

#define EXO_SOFTMAX_MAX_VOCAB (1u << 19) /* their weights' sum stays below 2^63 */

/* x = logit - max <= 0; 0 when x is not finite. */
uint64_t exo_softmax_weight(double x);

/* Sum of all weights; logits that are not finite weigh nothing. */
uint64_t exo_softmax_total(const float *logits, uint32_t n, float max);

/* A sum of e^(logit - max) in the same units, rounded down. */
uint64_t exo_softmax_part(double sum);
/* log(total / 2^44): log probability = (logit - max) - this. */
double exo_softmax_log(uint64_t total);

#endif
