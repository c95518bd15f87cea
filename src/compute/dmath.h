/* dmath.h - exp, log, pow, sin and cos in double precision with the same bits on every machine.
 *
 * libm differs between systems in its last bits, and one such bit in a rotary angle changes
 * every logit after it.  These functions use additions, multiplications, divisions and
 * comparisons only, in a fixed order, so IEEE 754 fixes every result.  They serve tables and
 * rotary angles; kernels have their own float functions.
 * Thread: ANY. */
#ifndef EXO_COMPUTE_DMATH_H
#define EXO_COMPUTE_DMATH_H

/* e^x; relative error below 1e-15.  Overflow gives infinity, underflow 0, NaN stays NaN. */
double exo_dexp(double x);

/* Natural logarithm; error below 1e-15 relative or 1e-15 absolute.  0 gives -infinity; NaN and
 * negative numbers give NaN. */
double exo_dlog(double x);

/* base^exponent for base > 0; relative error below 1e-15 * (2 + |exponent * log(base)|). */
double exo_dpow(double base, double exponent);

/* Both at once; absolute error below 1e-15 for |x| <= 5e7 (a position times a frequency); beyond,
 * and for NaN, both are NaN. */
void exo_dsincos(double x, double *sin_x, double *cos_x);

#endif
