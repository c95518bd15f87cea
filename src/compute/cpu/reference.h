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
 * layer_norm of n elements
 *   m = lanes16 of l = l + x, / n; d = x - m
 *   s = lanes16 of l = fma(d, d, l); the step fails unless s is finite
 *   f = 1 / sqrt(s / n + eps); out = (d * f) * weight [+ bias]
 *
 * silu_mul: out = (g / (1 + exp(-g))) * u
 * gelu_mul: t = g * EXO_GELU_A; t = fma(t * EXO_GELU_B, g * g, t)   (t = 2 sqrt(2/pi) (g + ..g^3))
 *   out = (g / (1 + exp(-t))) [* u]
 * swiglu_oai: x = min(g, 7); y = min(max(u, -7), 7)
 *   out = (x / (1 + exp(-(1.702 x)))) * (y + 1)
 * relu2: r = max(y, 0); out = r * r
 * softcap: out = (1 - 2 / (exp(x * (2 / cap)) + 1)) * cap
 *
 * norm operation: y = norm(x), layer_norm(x) or x; then y * scale where there is one; out = y or
 *   out + y.
 *
 * route: scores x of n experts
 *   softmax: m = max x; p = exp(x - m); s = sum p in order of experts; p = p / s
 *   sigmoid: p = 1 / (1 + exp(-x)).  softmax over the chosen: p = x
 *   c = p [+ choice bias]; with groups, a group's rank is the sum of its two best c, and only
 *   experts of the best groups remain; the n_used best c are chosen; the lower number wins a tie
 *   w_r = p of the r-th chosen; over the chosen: softmax of w as above in order of r
 *   normalize: s = sum w_r in order of r, at least 2^-14; w_r = w_r / s.  Then w_r * scale
 * experts: each chosen expert's product as matmul has it
 * mix: acc = fma(w_r, y_r, acc), r in order, from +0; out = acc or out + acc
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
 * then y = acc + bias where there is one, and the epilogue: out = y, out = out + y, or one of the
 * functions above of y_0 and y_1.  The head's logits then take y * scale and softcap.
 *
 * embed: a row, times scale where there is one, plus the position's row, plus the bias.
 *   An element is w (F32, F16, BF16), or (d * scale) * q, where there are minima
 *   (d * scale) * q - dmin * min.
 *
 * rope: c = (float)(cos(pos * inv_freq) * scale), s likewise, with the cosine of dmath.h; a pair
 *   (a, b) becomes (fma(a, c, -(b * s)), fma(a, s, b * c)).  A q/k norm comes first.
 *
 * KV store: f32; f16 rounded to nearest even; or q8_0: blocks of 32 elements of one head as
 *   quantize32 has them, d rounded to f16; the step fails when that is not finite.  An element of
 * it is q * d.
 *
 * attention: splits of 256 absolute positions, in order; in a split, over positions p <= pos, and
 *   p > pos - window where there is one; splits without such a p are left out
 *   score = (fma(q[d], k[p][d], score), d in order, from +0) * scale, then softcap
 *   m = max score; e = exp(score - m); l = lanes16 of l = l + e, lane = p % 16
 *   o[d] = fma(e, v[p][d], o[d]), p in order, from +0
 * the first split sets M, L, O = m, l, o; each later one
 *   M' = max(M, m); a = exp(M - M'); b = exp(m - M')
 *   L = fma(L, a, l * b); O[d] = fma(O[d], a, o[d] * b); M = M'
 * with a sink z: M' = max(M, z); a = exp(M - M'); b = exp(z - M'); L = fma(L, a, b); O[d] = O[d] *
 * a out[d] = O[d] * (1 / L).
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

#define EXO_GELU_A      1.5957691216057308f /* 2 sqrt(2 / pi) */
#define EXO_GELU_B      0.044715f
#define EXO_SWIGLU_BETA 1.702f
#define EXO_SWIGLU_MAX  7.0f
#define EXO_ROUTE_MIN   0x1p-14f /* least sum of weights */

#define EXO_QUANT_TINY  0x1p-100f /* below it 127 / amax may overflow */
#define EXO_FLOAT_CHUNK 256       /* elements in one partial sum of F32, F16, BF16 */

float exo_ref_exp(float x);
/* out may be x. */
bool exo_ref_norm(float *out, const float *x, const float *weight, uint32_t n, float eps);
bool exo_ref_layer_norm(float *out, const float *x, const exo_norm_weights *w, uint32_t n);
void exo_ref_silu_mul(float *out, const float *gate, const float *up, uint32_t n);
void exo_ref_gelu_mul(float *out, const float *gate, const float *up, uint32_t n);
void exo_ref_swiglu_oai(float *out, const float *gate, const float *up, uint32_t n);
void exo_ref_softcap(float *x, float cap, uint32_t n);
void exo_ref_mix(float *out, const exo_mix_row *m);

typedef struct {
    const float *x; /* (n_experts) scores */
    float *out;     /* (2 * n_used) */
    float *scratch; /* EXO_ROUTE_SCRATCH(n_experts) floats */
} exo_route_row;
#define EXO_ROUTE_SCRATCH(n_experts) (3 * (size_t)(n_experts))

/* The one implementation of ROUTE (experts.c); false when a score is not finite. */
bool exo_ref_route(const exo_op_route *o, const float *choice_bias, const exo_route_row *row);
bool exo_ref_quantize32(const float *x, uint32_t n, int8_t *q, float *d, int32_t *sum);
bool exo_ref_quantize256(const float *x, uint32_t n, int8_t *q, float *d, int16_t *sums);
void exo_ref_rope(float *head, const float *cos, const float *sin, uint32_t dims, bool neox);
void exo_ref_attention(const exo_attention_task *t);
void exo_ref_attention_join(const exo_attention_task *t, uint32_t i);
void exo_ref_round_f16(float *x, uint32_t n);
void exo_ref_matmul(const exo_matmul_task *t);

/* Row `row` of the matrix as f32 (n_cols). */
void exo_ref_embed(const exo_weight *w, uint32_t row, float *out);

/* The page pool of one layer. */
typedef struct {
    uint8_t *k_pages, *v_pages;
    size_t k_page_bytes, v_page_bytes;
    uint32_t head_dim, v_dim;
    exo_dtype kv_type;
} exo_kv_pool;

/* k (head_dim) and v (v_dim) of one kv head go to position `slot` of page `page`; false when they
 * cannot be kept. */
bool exo_ref_kv_store(const exo_kv_pool *pool, uint32_t page, uint32_t slot, uint32_t kv_head,
                      const float *k, const float *v);

#endif
