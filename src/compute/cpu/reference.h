/* reference.h - what every CPU operation computes, to the bit.
 *
 * This is the specification.  reference*.c are the same in plain C; the instruction-set files
 * must agree with them in every bit, for any number of rows, threads or splits.  All arithmetic
 * is IEEE float, rounded to nearest even, in the order written here; fma(a, b, c) rounds once;
 * denormals are kept; no sum is reordered except exact integer sums.
 *
 * lanes16: l[i] starts at +0 and takes elements i, i+16, i+32 ... in order (missing ones add
 *   nothing); then l[i] += l[i+8] for i < 8, l[i] += l[i+4] for i < 4, +2, +1; the result is l[0].
 *
 * exp(x)
 *   x = min(x, 88); x = max(x, -87)            (both give the bound for NaN)
 *   n = nearbyint(x * log2e); r = fma(n, -ln2_hi, x); r = fma(n, -ln2_lo, r)
 *   p = c5; p = fma(p, r, c4) ... fma(p, r, c0); p = fma(p, r * r, r) + 1
 *   exp = p * 2^n                              (constants: EXO_EXP_*)
 *
 * norm: RMS norm of n elements
 *   s = lanes16 of l = fma(x, x, l); the step fails unless s is finite
 *   f = 1 / sqrt(s / n + eps); out = (x * f) * weight
 *
 * silu_mul: out = (g / (1 + exp(-g))) * u
 *
 * quantize32, quantize256: blocks of 32 or 256 elements
 *   amax = max |x|; the step fails unless every x is finite
 *   amax < 2^-100: q = 0, d = 0.  Else id = 127 / amax; q = nearbyint(x * id); d = amax / 127
 *
 * matmul, one output; acc starts at +0; a block is exact integers q, scale, min and floats d, dmin
 *   (compute/blocks.h); over its sub-blocks j, in exact int32,
 *   isum = sum scale_j dot_j, dot of q and the activations' q; msum = sum min_j sum_j
 *   blocks of 32    per block: acc = fma((float)isum, d * dx, acc); where the type has minima then
 *                   acc = fma(-(float)msum, dmin * dx, acc)
 *   blocks of 256   the same per super-block, with the activations' scale per 256
 *   F32, F16, BF16   per chunk of 256 elements (the last may be shorter): part starts at +0,
 *          part = fma(w, x, part), k in order; acc = acc + part
 * then y = acc + bias where there is one, and the epilogue: out = y, out = out + y, or
 * out = silu_mul(y_0, y_1).
 *
 * embed: an element is w (F32, F16, BF16), or (d * scale) * q, where there are minima
 *   (d * scale) * q - dmin * min.
 *
 * rope: c = (float)(cos(pos * inv_freq) * scale), s likewise, with the cosine of dmath.h; a pair
 *   (a, b) becomes (fma(a, c, -(b * s)), fma(a, s, b * c)).  A q/k norm comes first.
 *
 * KV store: f32, or f16 rounded to nearest even.
 *
 * attention: splits of 256 absolute positions, in order; in a split, over positions p <= pos
 *   score = (fma(q[d], k[p][d], score), d in order, from +0) * scale
 *   m = max score; e = exp(score - m); l = lanes16 of l = l + e, lane = p % 16
 *   o[d] = fma(e, v[p][d], o[d]), p in order, from +0
 * the first split sets M, L, O = m, l, o; each later one
 *   M' = max(M, m); a = exp(M - M'); b = exp(m - M')
 *   L = fma(L, a, l * b); O[d] = fma(O[d], a, o[d] * b); M = M'
 * out[d] = O[d] * (1 / L).
 *
 * round_f16: to f16 (nearest even) and back. */
#ifndef EXO_COMPUTE_CPU_REFERENCE_H
#define EXO_COMPUTE_CPU_REFERENCE_H

#include "compute/cpu/kernels.h"

#define EXO_EXP_MAX    88.0f
#define EXO_EXP_MIN    (-87.0f)
#define EXO_EXP_LOG2E  1.44269504088896341f
#define EXO_EXP_LN2_HI 0.693359375f /* exact: n * LN2_HI does not round */
#define EXO_EXP_LN2_LO (-2.12194440e-4f)
#define EXO_EXP_C5     1.9875691500e-4f
#define EXO_EXP_C4     1.3981999507e-3f
#define EXO_EXP_C3     8.3334519073e-3f
#define EXO_EXP_C2     4.1665795894e-2f
#define EXO_EXP_C1     1.6666665459e-1f
#define EXO_EXP_C0     5.0000001201e-1f

#define EXO_QUANT_TINY  0x1p-100f /* below it 127 / amax may overflow */
#define EXO_FLOAT_CHUNK 256       /* elements in one partial sum of F32, F16, BF16 */

float exo_ref_exp(float x);
/* out may be x. */
bool exo_ref_norm(float *out, const float *x, const float *weight, uint32_t n, float eps);
void exo_ref_silu_mul(float *out, const float *gate, const float *up, uint32_t n);
bool exo_ref_quantize32(const float *x, uint32_t n, int8_t *q, float *d, int32_t *sum);
bool exo_ref_quantize256(const float *x, uint32_t n, int8_t *q, float *d, int16_t *sums);
void exo_ref_rope(float *head, const float *cos, const float *sin, uint32_t dims, bool neox);
void exo_ref_attention(const exo_attention_task *t);
void exo_ref_round_f16(float *x, uint32_t n);
void exo_ref_matmul(const exo_matmul_task *t);

/* Row `row` of the matrix as f32 (n_cols). */
void exo_ref_embed(const exo_weight *w, uint32_t row, float *out);

/* The page pool of one layer. */
typedef struct {
    uint8_t *k_pages, *v_pages;
    size_t page_bytes;
    uint32_t head_dim;
    exo_dtype kv_type;
} exo_kv_pool;

/* k and v (head_dim) of one kv head go to position `slot` of page `page`. */
void exo_ref_kv_store(const exo_kv_pool *pool, uint32_t page, uint32_t slot, uint32_t kv_head,
                      const float *k, const float *v);

#endif
