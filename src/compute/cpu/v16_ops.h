/* v16_ops.h - norm, quantisation, SiLU and attention over vectors of sixteen floats.
 *
 * reference.h fixes every sum in sixteen lanes or one element at a time, so the algorithms are
 * written once, here, and each instruction set only supplies the vector (v16_<isa>.h):
 *   v16_load_n   the first n < 16 elements, the others 0
 *   v16_min/max  the second operand when the first is NaN
 *   v16_round    to nearest even; v16_to_int of such a value
 *   v16_pow2     2^n for whole n in [-126, 127]
 *   v16_keep_first  lanes from n on replaced by fill (n < 16)
 *   v16_sum      the tree of lanes16; v16i_sum exact, any order
 *   v16_magnitude   the bits without the sign: ordered like |x|, infinities and NaN on top
 *   v16_stream   reads all bytes once, as four streams: one stream alone does not keep enough
 *                lines in flight on server cores (Sapphire Rapids: 11 against 16 GB/s a core)
 * V16_QUERIES (4 or 2) by V16_SCORES (vectors of positions, 1 or 2) and by V16_VALUES (vectors of a
 * value row) size the attention tiles to the registers. */
#ifndef EXO_COMPUTE_CPU_V16_OPS_H
#define EXO_COMPUTE_CPU_V16_OPS_H

#include "compute/cpu/reference.h"
#include "compute/cpu/rope.h"
#include "compute/cpu/unroll.h"

#include <math.h>
#include <string.h>

#define V16_INFINITE 0x7F800000 /* bits of +infinity */

static inline v16 v16_exp(v16 x) {
    x = v16_max(v16_min(x, v16_set1(EXO_EXP_MAX)), v16_set1(EXO_EXP_MIN));
    v16 n = v16_round(v16_mul(x, v16_set1(EXO_EXP_LOG2E)));
    v16 r = v16_fma(n, v16_set1(-EXO_EXP_LN2_HI), x);
    r = v16_fma(n, v16_set1(-EXO_EXP_LN2_LO), r);
    v16 p = v16_set1(EXO_EXP_C5);
    p = v16_fma(p, r, v16_set1(EXO_EXP_C4));
    p = v16_fma(p, r, v16_set1(EXO_EXP_C3));
    p = v16_fma(p, r, v16_set1(EXO_EXP_C2));
    p = v16_fma(p, r, v16_set1(EXO_EXP_C1));
    p = v16_fma(p, r, v16_set1(EXO_EXP_C0));
    p = v16_add(v16_fma(p, v16_mul(r, r), r), v16_set1(1.0f));
    return v16_mul(p, v16_pow2(n));
}

static inline float v16_exp1(float x) {
    float out[16];
    v16_store(out, v16_exp(v16_set1(x)));
    return out[0];
}

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

/* ---- attention ---- */

typedef struct {
    const float *q;      /* (head_dim) */
    float *out;          /* (v_dim) */
    uint32_t head;       /* of all query heads */
    uint32_t first, pos; /* positions it sees */
} v16_query;

/* The tile's arrays in the task's scratch; rows of `weights` are EXO_ATTN_SPLIT_TOKENS wide. */
typedef struct {
    float *weights, *part, *total; /* (queries, 256), (queries, lanes) twice */
    uint32_t lanes;                /* v_dim rounded up to 16 */
    float max[EXO_ATTENTION_QUERIES], sum[EXO_ATTENTION_QUERIES];
    uint32_t from[EXO_ATTENTION_QUERIES]; /* positions [from, to) of the split are seen; */
    uint32_t to[EXO_ATTENTION_QUERIES];   /* none when they are equal */
} v16_tile;

EXO_INLINE v16 v16_load_kv(const uint8_t *p, size_t i, bool f16) {
    return f16 ? v16_load_f16((const uint16_t *)(const void *)p + i)
               : v16_load((const float *)(const void *)p + i);
}

EXO_INLINE v16 v16_load_kv_upto(const uint8_t *p, size_t i, uint32_t n, bool f16) {
    if (n >= 16) return v16_load_kv(p, i, f16);
    return f16 ? v16_load_f16_n((const uint16_t *)(const void *)p + i, n)
               : v16_load_n((const float *)(const void *)p + i, n);
}

static inline const uint8_t *v16_k_page(const exo_attention_task *t, uint32_t pos) {
    return t->k_pages + t->table[pos / EXO_KV_PAGE_TOKENS] * t->k_page_bytes;
}

static inline const uint8_t *v16_v_page(const exo_attention_task *t, uint32_t pos) {
    return t->v_pages + t->table[pos / EXO_KV_PAGE_TOKENS] * t->v_page_bytes;
}

/* Asks for `bytes` from p on, which are to be read soon. */
EXO_INLINE void v16_ahead(const uint8_t *p, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(p + i);
}

/* Raw scores of Q queries against V16_SCORES * 16 positions of a page, from `first` of it on, which
 * is position `at` of the split.  The page after it is asked for meanwhile: a head's part of a page
 * is too short for the hardware to see where reading goes on. */
EXO_INLINE void v16_score_some(const exo_attention_task *t, const v16_query *qs, v16_tile *tile,
                               const uint8_t *page, const uint8_t *next, uint32_t at, const int Q,
                               const bool f16, const int first) {
    size_t k = (size_t)t->kv_head * t->head_dim * EXO_KV_PAGE_TOKENS, size = f16 ? 2 : 4;
    v16 acc[EXO_ATTENTION_QUERIES][V16_SCORES];
    EXO_UNROLL for (int q = 0; q < Q; q++) {
        EXO_UNROLL for (int v = 0; v < V16_SCORES; v++) acc[q][v] = v16_set1(0);
    }
    for (uint32_t d = 0; d < t->head_dim; d++, k += EXO_KV_PAGE_TOKENS) {
        v16 x[V16_SCORES];
        if (first == 0) v16_ahead(next + k * size, EXO_KV_PAGE_TOKENS * size);
        EXO_UNROLL for (int v = 0; v < V16_SCORES; v++) {
            x[v] = v16_load_kv(page, k + (size_t)(first + v * 16), f16);
        }
        EXO_UNROLL for (int q = 0; q < Q; q++) {
            v16 y = v16_set1(qs[q].q[d]);
            EXO_UNROLL for (int v = 0; v < V16_SCORES; v++) acc[q][v] = v16_fma(y, x[v], acc[q][v]);
        }
    }
    v16 scale = v16_set1(t->scale);
    EXO_UNROLL for (int q = 0; q < Q; q++) {
        float *w = tile->weights + q * EXO_ATTN_SPLIT_TOKENS + at;
        EXO_UNROLL for (int v = 0; v < V16_SCORES; v++) {
            v16 y = v16_mul(acc[q][v], scale);
            v16_store(w + v * 16, t->softcap > 0 ? v16_softcap(y, t->softcap) : y);
        }
    }
}

/* The same against the whole page. */
EXO_INLINE void v16_score_page(const exo_attention_task *t, const v16_query *qs, v16_tile *tile,
                               const uint8_t *page, const uint8_t *next, uint32_t at, const int Q,
                               const bool f16) {
    EXO_UNROLL for (int i = 0; i < (int)EXO_KV_PAGE_TOKENS; i += V16_SCORES * 16) {
        v16_score_some(t, qs, tile, page, next, at + (uint32_t)i, Q, f16, i);
    }
}

/* Lanes before n (< 16) replaced by fill. */
static inline v16 v16_drop_first(v16 a, uint32_t n, float fill) {
    float f[16];
    v16_store(f, a);
    for (uint32_t i = 0; i < n; i++) f[i] = fill;
    return v16_load(f);
}

/* The 16 scores or weights at w + i, those outside [from, n) replaced by fill. */
static inline v16 v16_seen(const float *w, uint32_t i, uint32_t from, uint32_t n, float fill) {
    v16 x = v16_load(w + i);
    if (i < from) x = v16_drop_first(x, from - i, fill);
    return n - i < 16 ? v16_keep_first(x, n - i, fill) : x;
}

/* Scores [from, n) to weights, in place; their maximum and sum. */
static inline void v16_softmax(float *w, uint32_t from, uint32_t n, float *max, float *sum) {
    v16 top = v16_set1(-INFINITY), l = v16_set1(0);
    uint32_t start = from / 16 * 16;
    for (uint32_t i = start; i < n; i += 16) top = v16_max(v16_seen(w, i, from, n, -INFINITY), top);
    *max = v16_top(top);
    v16 m = v16_set1(*max);
    for (uint32_t i = start; i < n; i += 16) {
        v16_store(w + i, v16_exp(v16_sub(v16_load(w + i), m)));
        l = v16_add(l, v16_seen(w, i, from, n, 0));
    }
    *sum = v16_sum(l);
}

/* Rows of one page that are weighed: where they lie, and the weights of query 0. */
typedef struct {
    const uint8_t *page, *next; /* at the first row; the same of the page after it */
    const float *weights;       /* of query q at q * EXO_ATTN_SPLIT_TOKENS */
    uint32_t n, ld, width;      /* rows; elements from one to the next; of the last vector */
    bool ask;                   /* for the next page */
} v16_rows;

EXO_INLINE void v16_weigh_rows(const v16_rows *r, v16 acc[EXO_ATTENTION_QUERIES][V16_VALUES],
                               const int Q, const int V, const bool f16, const bool whole) {
    const size_t row_bytes = (size_t)r->ld * (f16 ? 2 : 4);
    const uint8_t *page = r->page, *next = r->next;
    const float *w = r->weights, *end = w + r->n;
    for (; w < end; w++, page += row_bytes, next += row_bytes) {
        v16 x[V16_VALUES];
        if (r->ask) v16_ahead(next, row_bytes);
        EXO_UNROLL for (int v = 0; v < V; v++) {
            uint32_t width = whole || v + 1 < V ? 16 : r->width;
            x[v] = v16_load_kv_upto(page, (size_t)v * 16, width, f16);
        }
        EXO_UNROLL for (int q = 0; q < Q; q++) {
            v16 e = v16_set1(w[q * EXO_ATTN_SPLIT_TOKENS]);
            EXO_UNROLL for (int v = 0; v < V; v++) acc[q][v] = v16_fma(e, x[v], acc[q][v]);
        }
    }
}

/* part[q][d0 ..] += weights * values over positions [i, n) of the split, for Q queries from q0
 * and V vectors. */
EXO_INLINE void v16_weigh(const exo_attention_task *t, v16_tile *tile, uint32_t p0, uint32_t i,
                          uint32_t n, int q0, uint32_t d0, const int Q, const int V,
                          const bool f16) {
    v16 acc[EXO_ATTENTION_QUERIES][V16_VALUES];
    float *o = tile->part + (size_t)q0 * tile->lanes + d0;
    const uint32_t last = p0 + n - 1;
    v16_rows r = {.ld = t->v_dim, .width = t->v_dim - d0 - (uint32_t)(V - 1) * 16, .ask = d0 == 0};
    EXO_UNROLL for (int q = 0; q < Q; q++) {
        EXO_UNROLL for (int v = 0; v < V; v++) acc[q][v] = v16_load(o + q * tile->lanes + v * 16);
    }
    for (; i < n; i += r.n) {
        uint32_t slot = i % EXO_KV_PAGE_TOKENS, after = p0 + i + EXO_KV_PAGE_TOKENS;
        size_t at = ((size_t)t->kv_head * EXO_KV_PAGE_TOKENS + slot) * t->v_dim + d0;
        at *= f16 ? 2 : 4;
        r.page = v16_v_page(t, p0 + i) + at;
        r.next = v16_v_page(t, after < last ? after : last) + at;
        r.weights = tile->weights + q0 * EXO_ATTN_SPLIT_TOKENS + i;
        r.n = n - i < EXO_KV_PAGE_TOKENS - slot ? n - i : EXO_KV_PAGE_TOKENS - slot;
        if (r.width >= 16) {
            v16_weigh_rows(&r, acc, Q, V, f16, true);
        } else {
            v16_weigh_rows(&r, acc, Q, V, f16, false);
        }
    }
    EXO_UNROLL for (int q = 0; q < Q; q++) {
        EXO_UNROLL for (int v = 0; v < V; v++) v16_store(o + q * tile->lanes + v * 16, acc[q][v]);
    }
}

/* V vectors of value columns from d on.  Positions [lo, hi) that every query sees go through the
 * wide tile, those before and behind one query at a time: each sum stays in order. */
EXO_INLINE void v16_columns(const exo_attention_task *t, v16_tile *tile, uint32_t p0, uint32_t d,
                            const int Q, const int V, const bool f16) {
    uint32_t lo = tile->from[0], hi = tile->to[0];
    for (int q = 1; q < Q; q++) {
        lo = tile->from[q] > lo ? tile->from[q] : lo;
        hi = tile->to[q] < hi ? tile->to[q] : hi;
    }
    hi = hi < lo ? lo : hi;
    for (int q = 0; q < Q; q++) {
        uint32_t end = tile->to[q] < lo ? tile->to[q] : lo;
        if (tile->from[q] < end) v16_weigh(t, tile, p0, tile->from[q], end, q, d, 1, V, f16);
    }
    v16_weigh(t, tile, p0, lo, hi, 0, d, Q, V, f16);
    for (int q = 0; q < Q; q++) {
        if (hi < tile->to[q]) v16_weigh(t, tile, p0, hi, tile->to[q], q, d, 1, V, f16);
    }
}

EXO_INLINE void v16_values(const exo_attention_task *t, v16_tile *tile, uint32_t p0, const int Q,
                           const bool f16) {
    memset(tile->part, 0, (size_t)Q * tile->lanes * sizeof *tile->part);
    for (uint32_t d = 0; d < t->v_dim;) {
        bool wide = t->v_dim - d >= V16_VALUES * 16;
        if (wide) {
            v16_columns(t, tile, p0, d, Q, V16_VALUES, f16);
        } else {
            v16_columns(t, tile, p0, d, Q, 1, f16);
        }
        d += wide ? V16_VALUES * 16 : 16;
    }
}

/* Adds the split's part of query q to its total; the first split is the total. */
static inline void v16_combine(v16_tile *tile, int q, bool first, float m, float l) {
    float *total = tile->total + (size_t)q * tile->lanes;
    const float *part = tile->part + (size_t)q * tile->lanes;
    if (first) {
        memcpy(total, part, tile->lanes * sizeof *total);
        tile->max[q] = m;
        tile->sum[q] = l;
        return;
    }
    float top = m > tile->max[q] ? m : tile->max[q];
    float a = v16_exp1(tile->max[q] - top), b = v16_exp1(m - top);
    tile->sum[q] = fmaf(tile->sum[q], a, l * b);
    for (uint32_t d = 0; d < tile->lanes; d += 16) {
        v16 scaled = v16_mul(v16_load(part + d), v16_set1(b));
        v16_store(total + d, v16_fma(v16_load(total + d), v16_set1(a), scaled));
    }
    tile->max[q] = top;
}

/* The sink's share of the sum, and the outputs. */
static inline void v16_finish(const exo_attention_task *t, const v16_query *query, v16_tile *tile,
                              int q) {
    float factor = 1;
    if (t->sinks != NULL) {
        float sink = t->sinks[query->head], top = sink > tile->max[q] ? sink : tile->max[q];
        factor = v16_exp1(tile->max[q] - top);
        tile->sum[q] = fmaf(tile->sum[q], factor, v16_exp1(sink - top));
    }
    v16 a = v16_set1(factor), inv = v16_set1(1.0f / tile->sum[q]);
    for (uint32_t d = 0; d < t->v_dim; d += 16) {
        v16 o = v16_load(tile->total + (size_t)q * tile->lanes + d);
        v16_store_upto(query->out + d, v16_mul(v16_mul(o, a), inv), t->v_dim - d);
    }
}

/* What the queries see of the n positions of the split at p0; returns the first of them all. */
static inline uint32_t v16_see(v16_tile *tile, const v16_query *qs, int Q, uint32_t p0,
                               uint32_t n) {
    uint32_t least = n;
    for (int q = 0; q < Q; q++) {
        uint32_t from = qs[q].first < p0 ? 0 : qs[q].first - p0;
        uint32_t to = qs[q].pos < p0 ? 0 : qs[q].pos - p0 + 1;
        tile->to[q] = to < n ? to : n;
        tile->from[q] = from < tile->to[q] ? from : tile->to[q];
        if (tile->from[q] < tile->to[q] && tile->from[q] < least) least = tile->from[q];
    }
    return least;
}

EXO_INLINE void v16_attend(const exo_attention_task *t, const v16_query *qs, const int Q,
                           const bool f16) {
    v16_tile tile = {.lanes = (t->v_dim + 15) / 16 * 16};
    tile.weights = t->scratch;
    tile.part = tile.weights + EXO_ATTENTION_QUERIES * EXO_ATTN_SPLIT_TOKENS;
    tile.total = tile.part + (size_t)EXO_ATTENTION_QUERIES * tile.lanes;
    uint32_t last = 0, first = UINT32_MAX;
    for (int q = 0; q < Q; q++) {
        last = qs[q].pos > last ? qs[q].pos : last;
        first = qs[q].first < first ? qs[q].first : first;
    }
    uint32_t p0 = first / EXO_ATTN_SPLIT_TOKENS * EXO_ATTN_SPLIT_TOKENS;
    for (; p0 <= last; p0 += EXO_ATTN_SPLIT_TOKENS) {
        uint32_t n = last - p0 < EXO_ATTN_SPLIT_TOKENS ? last - p0 + 1 : EXO_ATTN_SPLIT_TOKENS;
        float m[EXO_ATTENTION_QUERIES] = {0}, l[EXO_ATTENTION_QUERIES] = {0};
        uint32_t i = v16_see(&tile, qs, Q, p0, n) / EXO_KV_PAGE_TOKENS * EXO_KV_PAGE_TOKENS;
        for (; i < n; i += EXO_KV_PAGE_TOKENS) {
            uint32_t after = p0 + i + EXO_KV_PAGE_TOKENS;
            v16_score_page(t, qs, &tile, v16_k_page(t, p0 + i),
                           v16_k_page(t, after < last ? after : last), i, Q, f16);
        }
        for (int q = 0; q < Q; q++) {
            if (tile.from[q] == tile.to[q]) continue;
            v16_softmax(tile.weights + q * EXO_ATTN_SPLIT_TOKENS, tile.from[q], tile.to[q], &m[q],
                        &l[q]);
        }
        v16_values(t, &tile, p0, Q, f16);
        for (int q = 0; q < Q; q++) {
            if (tile.from[q] == tile.to[q]) continue;
            v16_combine(&tile, q, qs[q].first >= p0, m[q], l[q]);
        }
    }
    for (int q = 0; q < Q; q++) v16_finish(t, &qs[q], &tile, q);
}

#define V16_ATTEND(Q, KV, F16)                                                                     \
    static EXO_NOINLINE void v16_attend_##Q##_##KV(const exo_attention_task *t,                    \
                                                   const v16_query *qs) {                          \
        v16_attend(t, qs, Q, F16);                                                                 \
    }
V16_ATTEND(1, f32, false)
V16_ATTEND(1, f16, true)
V16_ATTEND(2, f32, false)
V16_ATTEND(2, f16, true)
#if V16_QUERIES == 4
V16_ATTEND(4, f32, false)
V16_ATTEND(4, f16, true)
#endif
#undef V16_ATTEND

/* As many of the n queries as one tile takes; returns how many. */
static uint32_t v16_attend_some(const exo_attention_task *t, const v16_query *qs, uint32_t n) {
    bool f16 = t->kv_type == EXO_F16;
#if V16_QUERIES == 4
    if (n >= 4) {
        (f16 ? v16_attend_4_f16 : v16_attend_4_f32)(t, qs);
        return 4;
    }
#endif
    if (n >= 2) {
        (f16 ? v16_attend_2_f16 : v16_attend_2_f32)(t, qs);
        return 2;
    }
    (f16 ? v16_attend_1_f16 : v16_attend_1_f32)(t, qs);
    return 1;
}

static void v16_attention(const exo_attention_task *t) {
    uint32_t n = t->n_rows * t->group;
    for (uint32_t i = 0; i < n;) {
        v16_query qs[V16_QUERIES];
        uint32_t m = n - i < V16_QUERIES ? n - i : V16_QUERIES;
        for (uint32_t k = 0; k < m; k++) {
            uint32_t row = (i + k) / t->group, head = t->kv_head * t->group + (i + k) % t->group;
            uint32_t pos = t->pos[row];
            qs[k].q = t->q + row * t->ld_q + (size_t)head * t->head_dim;
            qs[k].out = t->out + row * t->ld_out + (size_t)head * t->v_dim;
            qs[k].head = head;
            qs[k].first = t->window > 0 && pos >= t->window ? pos - t->window + 1 : 0;
            qs[k].pos = pos;
        }
        i += v16_attend_some(t, qs, m);
    }
}

static uint64_t v16_read(const void *p, size_t bytes) { return v16_stream(p, bytes); }

#endif
