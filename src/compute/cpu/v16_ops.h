/* v16_ops.h - norm, quantisation and SiLU over vectors of sixteen floats; attention is in
 * v16_ops_attention.h.
 *
 * reference.h fixes every sum in sixteen lanes or one element at a time, so the algorithms are
 * written once, here, and each instruction set only supplies the vector (v16_<isa>.h):
 *   v16_load_n   the first n < 16 elements, the others 0
 *   v16_load_i8  16 signed bytes
 *   v16_min/max  the second operand when the first is NaN
 *   v16_round    to nearest even; v16_to_int of such a value
 *   v16_pow2     2^n for whole n in [-126, 127]
 *   v16_keep_first  lanes from n on replaced by fill (n < 16)
 *   v16_sum      the tree of lanes16; v16i_sum exact, any order
 *   v16_magnitude   the bits without the sign: ordered like |x|, infinities and NaN on top
 *   v16_stream   reads all bytes once, as four streams: one stream alone does not keep enough
 *                lines in flight on server cores (Sapphire Rapids: 11 against 16 GB/s a core)
 * V16_QUERIES (4 or 2) is the most queries of an attention tile, V16_ACCS its most vectors of sums,
 * V16_EXPS (1 to 4) the vectors whose e^x go abreast: they are sized to the registers. */
#ifndef EXO_COMPUTE_CPU_V16_OPS_H
#define EXO_COMPUTE_CPU_V16_OPS_H

#include "compute/cpu/reference.h"
#include "compute/cpu/rope.h"
#include "compute/cpu/unroll.h"

#include <math.h>
#include <string.h>

#define V16_INFINITE 0x7F800000 /* bits of +infinity */

/* e^x of N vectors, in place.  One is a chain of twenty dependent steps, so several go abreast. */
EXO_INLINE void v16_exps(v16 *x, const int N) {
    v16 n[4], p[4];
    EXO_UNROLL for (int k = 0; k < N; k++) x[k] = v16_min(x[k], v16_set1(EXO_EXP_MAX));
    EXO_UNROLL for (int k = 0; k < N; k++) x[k] = v16_max(x[k], v16_set1(EXO_EXP_MIN));
    EXO_UNROLL for (int k = 0; k < N; k++) n[k] = v16_round(v16_mul(x[k], v16_set1(EXO_EXP_LOG2E)));
    EXO_UNROLL for (int k = 0; k < N; k++) x[k] = v16_fma(n[k], v16_set1(-EXO_EXP_LN2_HI), x[k]);
    EXO_UNROLL for (int k = 0; k < N; k++) x[k] = v16_fma(n[k], v16_set1(-EXO_EXP_LN2_LO), x[k]);
    EXO_UNROLL for (int k = 0; k < N; k++) n[k] = v16_pow2(n[k]);
    EXO_UNROLL for (int k = 0; k < N; k++) p[k] = v16_set1(EXO_EXP_C5);
    EXO_UNROLL for (int k = 0; k < N; k++) p[k] = v16_fma(p[k], x[k], v16_set1(EXO_EXP_C4));
    EXO_UNROLL for (int k = 0; k < N; k++) p[k] = v16_fma(p[k], x[k], v16_set1(EXO_EXP_C3));
    EXO_UNROLL for (int k = 0; k < N; k++) p[k] = v16_fma(p[k], x[k], v16_set1(EXO_EXP_C2));
    EXO_UNROLL for (int k = 0; k < N; k++) p[k] = v16_fma(p[k], x[k], v16_set1(EXO_EXP_C1));
    EXO_UNROLL for (int k = 0; k < N; k++) p[k] = v16_fma(p[k], x[k], v16_set1(EXO_EXP_C0));
    EXO_UNROLL for (int k = 0; k < N; k++) p[k] = v16_fma(p[k], v16_mul(x[k], x[k]), x[k]);
    EXO_UNROLL for (int k = 0; k < N; k++) p[k] = v16_add(p[k], v16_set1(1.0f));
    EXO_UNROLL for (int k = 0; k < N; k++) x[k] = v16_mul(p[k], n[k]);
}

EXO_INLINE v16 v16_exp(v16 x) {
    v16_exps(&x, 1);
    return x;
}

static inline float v16_lane0(v16 x) {
    float out[16];
    v16_store(out, x);
    return out[0];
}

static inline float v16_exp1(float x) { return v16_lane0(v16_exp(v16_set1(x))); }

static inline v16 v16_load_upto(const float *p, uint32_t n) {
    return n < 16 ? v16_load_n(p, n) : v16_load(p);
}

static inline void v16_store_upto(float *p, v16 a, uint32_t n) {
    if (n < 16) {
        v16_store_n(p, a, n);
    } else {
        v16_store(p, a);
    }
}

static bool v16_norm(float *out, const float *x, const float *weight, uint32_t n, float eps) {
    v16 l = v16_set1(0);
    for (uint32_t i = 0; i < n; i += 16) {
        v16 v = v16_load_upto(x + i, n - i);
        l = v16_fma(v, v, l);
    }
    float sum = v16_sum(l);
    if (!(sum < INFINITY)) return false; /* a sum of squares: infinite or NaN */
    v16 f = v16_set1(1.0f / sqrtf(sum / (float)n + eps));
    for (uint32_t i = 0; i < n; i += 16) {
        v16 v = v16_mul(v16_load_upto(x + i, n - i), f);
        v16_store_upto(out + i, v16_mul(v, v16_load_upto(weight + i, n - i)), n - i);
    }
    return true;
}

static void v16_silu_mul(float *out, const float *gate, const float *up, uint32_t n) {
    v16 one = v16_set1(1.0f);
    for (uint32_t i = 0; i < n; i += 16) {
        v16 g = v16_load_upto(gate + i, n - i), u = v16_load_upto(up + i, n - i);
        v16 s = v16_div(g, v16_add(one, v16_exp(v16_sub(v16_set1(0), g))));
        v16_store_upto(out + i, v16_mul(s, u), n - i);
    }
}

static bool v16_layer_norm(float *out, const float *x, const exo_norm_weights *w, uint32_t n) {
    v16 l = v16_set1(0), squares = l;
    for (uint32_t i = 0; i < n; i += 16) l = v16_add(l, v16_load_upto(x + i, n - i));
    v16 mean = v16_set1(v16_sum(l) / (float)n);
    for (uint32_t i = 0; i < n; i += 16) {
        v16 d = v16_sub(v16_load_upto(x + i, n - i), mean);
        if (n - i < 16) d = v16_keep_first(d, n - i, 0);
        squares = v16_fma(d, d, squares);
    }
    float sum = v16_sum(squares);
    if (!(sum < INFINITY)) return false; /* a sum of squares: infinite or NaN */
    v16 f = v16_set1(1.0f / sqrtf(sum / (float)n + w->eps));
    for (uint32_t i = 0; i < n; i += 16) {
        v16 d = v16_mul(v16_sub(v16_load_upto(x + i, n - i), mean), f);
        v16 y = v16_mul(d, v16_load_upto(w->weight + i, n - i));
        if (w->bias != NULL) y = v16_add(y, v16_load_upto(w->bias + i, n - i));
        v16_store_upto(out + i, y, n - i);
    }
    return true;
}

static void v16_gelu_mul(float *out, const float *gate, const float *up, uint32_t n) {
    v16 one = v16_set1(1.0f), a = v16_set1(EXO_GELU_A), b = v16_set1(EXO_GELU_B);
    for (uint32_t i = 0; i < n; i += 16) {
        v16 g = v16_load_upto(gate + i, n - i), t = v16_mul(g, a);
        t = v16_fma(v16_mul(t, b), v16_mul(g, g), t);
        v16 y = v16_div(g, v16_add(one, v16_exp(v16_sub(v16_set1(0), t))));
        if (up != NULL) y = v16_mul(y, v16_load_upto(up + i, n - i));
        v16_store_upto(out + i, y, n - i);
    }
}

static void v16_swiglu_oai(float *out, const float *gate, const float *up, uint32_t n) {
    v16 one = v16_set1(1.0f), top = v16_set1(EXO_SWIGLU_MAX), beta = v16_set1(EXO_SWIGLU_BETA);
    for (uint32_t i = 0; i < n; i += 16) {
        v16 x = v16_min(v16_load_upto(gate + i, n - i), top);
        v16 y = v16_max(v16_load_upto(up + i, n - i), v16_set1(-EXO_SWIGLU_MAX));
        v16 e = v16_exp(v16_sub(v16_set1(0), v16_mul(beta, x)));
        y = v16_add(v16_min(y, top), one);
        v16_store_upto(out + i, v16_mul(v16_div(x, v16_add(one, e)), y), n - i);
    }
}

static void v16_mix(float *out, const exo_mix_row *m) {
    for (uint32_t i = 0; i < m->n; i += 16) {
        v16 acc = v16_set1(0);
        for (uint32_t r = 0; r < m->n_used; r++) {
            v16 y = v16_load_upto(m->y + (size_t)r * m->n + i, m->n - i);
            acc = v16_fma(v16_set1(m->w[r]), y, acc);
        }
        if (m->add) acc = v16_add(v16_load_upto(out + i, m->n - i), acc);
        v16_store_upto(out + i, acc, m->n - i);
    }
}

static inline v16 v16_softcap(v16 x, float cap) {
    v16 e = v16_add(v16_exp(v16_mul(x, v16_set1(2.0f / cap))), v16_set1(1.0f));
    v16 tanh_x = v16_sub(v16_set1(1.0f), v16_div(v16_set1(2.0f), e));
    return v16_mul(tanh_x, v16_set1(cap));
}

static void v16_softcap_row(float *x, float cap, uint32_t n) {
    for (uint32_t i = 0; i < n; i += 16) {
        v16_store_upto(x + i, v16_softcap(v16_load_upto(x + i, n - i), cap), n - i);
    }
}

static void v16_round_f16_row(float *x, uint32_t n) {
    for (uint32_t i = 0; i < n; i += 16) {
        v16_store_upto(x + i, v16_round_f16(v16_load_upto(x + i, n - i)), n - i);
    }
}

static void v16_rope(float *head, const float *cos, const float *sin, uint32_t dims, bool neox) {
    exo_rope_head(head, cos, sin, dims, neox);
}

/* ---- quantisation ---- */

/* Of n_vectors * 16 elements: *id and *d as reference.h has them; false when one is not finite. */
static inline bool v16_scales(const float *x, uint32_t n_vectors, float *id, float *d) {
    v16i top = v16_magnitude(v16_load(x));
    for (uint32_t i = 1; i < n_vectors; i++) {
        top = v16i_max(top, v16_magnitude(v16_load(x + i * 16)));
    }
    int32_t bits = v16i_top(top);
    if (bits >= V16_INFINITE) return false;
    float amax;
    memcpy(&amax, &bits, sizeof amax);
    bool tiny = amax < EXO_QUANT_TINY;
    *id = tiny ? 0 : 127.0f / amax;
    *d = tiny ? 0 : amax / 127.0f;
    return true;
}

static inline v16i v16_quantize(const float *x, v16 id, int8_t *q) {
    v16i v = v16_to_int(v16_mul(v16_load(x), id));
    v16i_store_i8(q, v);
    return v;
}

static bool v16_quantize32(const float *x, uint32_t n, int8_t *q, float *d, int32_t *sum) {
    for (uint32_t b = 0; b < n / 32; b++, x += 32, q += 32) {
        float id;
        if (!v16_scales(x, 2, &id, &d[b])) return false;
        v16i lo = v16_quantize(x, v16_set1(id), q);
        v16i hi = v16_quantize(x + 16, v16_set1(id), q + 16);
        sum[b] = v16i_sum(v16i_add(lo, hi));
    }
    return true;
}

static bool v16_quantize256(const float *x, uint32_t n, int8_t *q, float *d, int16_t *sums) {
    for (uint32_t b = 0; b < n / 256; b++, x += 256, q += 256, sums += EXO_Q256_SUMS) {
        float id;
        int32_t s[16];
        if (!v16_scales(x, 16, &id, &d[b])) return false;
        for (uint32_t j = 0; j < 16; j++) {
            s[j] = v16i_sum(v16_quantize(x + j * 16, v16_set1(id), q + j * 16));
        }
        for (uint32_t j = 0; j < 8; j++) sums[exo_sum32_at(j)] = (int16_t)(s[2 * j] + s[2 * j + 1]);
        for (uint32_t j = 0; j < 16; j++) sums[exo_sum16_at(j)] = (int16_t)s[j];
    }
    return true;
}

static uint64_t v16_read(const void *p, size_t bytes) { return v16_stream(p, bytes); }

#endif
