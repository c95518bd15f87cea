/* quantize_impl.h - what the parts of quantize share: levels, fits, the types' own functions.
 *
 * Private to quantize*.c.  Sums run in eight lanes that are added in a fixed order. */
#ifndef EXO_COMPUTE_QUANTIZE_IMPL_H
#define EXO_COMPUTE_QUANTIZE_IMPL_H

#include "compute/blocks.h"
#include "compute/quantize.h"

/* The values a quant may have: all of [lo, hi], or those of an ascending table. */
typedef struct {
    int lo, hi;
    const int8_t *table; /* (n) or NULL */
    int n;
} exo_levels;

extern const exo_levels exo_levels_iq4, exo_levels_mxfp4;

/* q = the level nearest to x / d; 0, or the level nearest to it, where d is 0.  n <= 256. */
void exo_level_quants(const exo_levels *l, const float *x, int n, float d, int8_t *q);

/* Sum of (x - d q)^2 with the quants that belong to d; n is 16 or 32. */
float exo_level_error(const exo_levels *l, const float *x, int n, float d);

/* The d of least error among those tried; 0 for a block of (almost) zeros.  Any sign. */
float exo_fit_scale(const exo_levels *l, const float *x, int n);

/* x = d q + m with q in [0, top]. */
typedef struct {
    float d, m;
} exo_affine;

void exo_affine_quants(const float *x, int n, int top, exo_affine a, int8_t *q);
float exo_affine_error(const float *x, int n, int top, exo_affine a);

/* The same for d >= 0 and m; with `below`, m <= 0. */
exo_affine exo_fit_affine(const float *x, int n, int top, bool below);

float exo_round_f16(float x);

/* One block of x each. */
void exo_quantize_q2_k(const float *x, uint8_t *out);
void exo_quantize_q3_k(const float *x, uint8_t *out);
void exo_quantize_q4_k(const float *x, uint8_t *out);
void exo_quantize_q5_k(const float *x, uint8_t *out);
void exo_quantize_q6_k(const float *x, uint8_t *out);
void exo_quantize_iq4_xs(const float *x, uint8_t *out);

/* The place of each value of IQ4's or MXFP4's table. */
uint8_t exo_table_index(const int8_t values[16], int8_t value);

#endif
