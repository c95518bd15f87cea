/* softmax.c - see softmax.h.  Knows logits only. */
#include "engine/softmax.h"

#include "compute/dmath.h"

#define ONE   0x1p44
#define MIN_X (-30.5) /* e^-30.5 2^44 < 1 */

uint64_t exo_softmax_weight(double x) {
    if (!(x > MIN_X && x <= 0)) return 0;
    return (uint64_t)(exo_dexp(x) * ONE);
}

uint64_t exo_softmax_total(const float *logits, uint32_t n, float max) {
    uint64_t total = 0;
    for (uint32_t i = 0; i < n; i++) total += exo_softmax_weight((double)logits[i] - (double)max);
    return total;
}

uint64_t exo_softmax_part(double sum) { return (uint64_t)(sum * ONE); }

double exo_softmax_log(uint64_t total) { return exo_dlog((double)total / ONE); }
