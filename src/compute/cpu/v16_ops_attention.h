/* v16_ops_attention.h - attention over KV pages in vectors of sixteen floats; see v16_ops.h.
 *
 * A batch of queries that read the same kv head goes through the splits together, a tile of up to
 * V16_QUERIES at a time: what one tile has read of a split is in a cache for the next.  Within a
 * tile each key or value is loaded and widened once for all queries.  A tile has at most V16_ACCS
 * vectors of sums; with fewer queries it takes more positions, or more of the value row.
 *
 * A head's part of a page is too short for the hardware to see where reading goes on, so each step
 * over a page asks for its share of the two pages that are read next, by turns: the hardware
 * follows several such streams side by side, and one alone leaves the core waiting (Zen 2, reading
 * 4 KiB of each page: 16 GB/s with one stream, 21 with two).  Four are no faster here: what is
 * asked for has to stay in the first cache. */
#ifndef EXO_COMPUTE_CPU_V16_OPS_ATTENTION_H
#define EXO_COMPUTE_CPU_V16_OPS_ATTENTION_H

#include "compute/cpu/v16_ops.h"

#define V16_AT_MOST(n, most) ((n) < (most) ? (n) : (most))
#define V16_SCORES(Q)        V16_AT_MOST(V16_ACCS / (Q), 2) /* vectors of positions: up to a page */
#define V16_VALUES(Q)        V16_AT_MOST(V16_ACCS / (Q), 4) /* vectors of a value row */

typedef struct {
    const float *q;      /* (head_dim) */
    float *out;          /* (v_dim) */
    uint32_t head;       /* of all query heads */
    uint32_t first, pos; /* positions it sees */
    float *total;        /* (lanes) of the splits so far, with their */
    float max, sum;
    float *parts; /* where each split's part goes instead, or NULL */
} v16_query;

/* What is read next, of two pages: where the one and then the other are asked for. */
typedef struct {
    const uint8_t *one, *other;
} v16_next;

/* What a tile works on, in the task's scratch; rows of `weights` are EXO_ATTN_SPLIT_TOKENS wide. */
typedef struct {
    float *weights, *part;                /* (queries, 256), (queries, lanes) */
    float *scales;                        /* (32, v_dim / 32) of one page of quantised values */
    float *totals;                        /* (batch, lanes) */
    uint32_t lanes;                       /* v_dim rounded up to 16 */
    size_t k_at, v_at;                    /* of the kv head in a page */
    uint32_t p0, begin, end;              /* the split; what of it any query sees */
    uint32_t last;                        /* position that any query of the batch sees */
    uint32_t from[EXO_ATTENTION_QUERIES]; /* positions [from, to) of the split are seen; */
    uint32_t to[EXO_ATTENTION_QUERIES];   /* none when they are equal */
    v16_next next;
} v16_tile;

EXO_INLINE size_t v16_kv_size(const exo_dtype type) {
    return type == EXO_F32 ? 4 : type == EXO_F16 ? 2 : 1;
}

/* Elements i .. i + 15; of quantised ones the integers. */
EXO_INLINE v16 v16_load_kv(const uint8_t *p, size_t i, const exo_dtype type) {
    if (type == EXO_Q8_0) return v16_load_i8((const int8_t *)(const void *)p + i);
    if (type == EXO_F16) return v16_load_f16((const uint16_t *)(const void *)p + i);
    return v16_load((const float *)(const void *)p + i);
}

/* The same of n < 16; quantised rows have whole vectors. */
EXO_INLINE v16 v16_load_kv_n(const uint8_t *p, size_t i, uint32_t n, const exo_dtype type) {
    return type == EXO_F16 ? v16_load_f16_n((const uint16_t *)(const void *)p + i, n)
                           : v16_load_n((const float *)(const void *)p + i, n);
}

static inline const uint8_t *v16_k_page(const exo_attention_task *t, const v16_tile *tile,
                                        uint32_t pos) {
    return t->k_pages + t->table[pos / EXO_KV_PAGE_TOKENS] * t->k_page_bytes + tile->k_at;
}

static inline const uint8_t *v16_v_page(const exo_attention_task *t, const v16_tile *tile,
                                        uint32_t pos) {
    return t->v_pages + t->table[pos / EXO_KV_PAGE_TOKENS] * t->v_page_bytes + tile->v_at;
}

/* ---- reading ahead ---- */

/* Asks for `bytes` from p on. */
EXO_INLINE void v16_ahead(const uint8_t *p, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(p + i);
}

/* Asks for `bytes` more of the page whose turn it is. */
EXO_INLINE void v16_ask(v16_next *next, size_t bytes) {
    const uint8_t *p = next->one;
    v16_ahead(p, bytes);
    next->one = next->other;
    next->other = p + bytes;
}

/* The i-th page that a tile reads: the keys of its split, the values, the keys of the split behind
 * it; its last one if there is none. */
static inline const uint8_t *v16_reads(const exo_attention_task *t, const v16_tile *tile,
                                       uint32_t i) {
    const uint32_t tokens = EXO_KV_PAGE_TOKENS;
    uint32_t start = tile->begin / tokens, n = (tile->end + tokens - 1) / tokens - start;
    uint32_t behind = tile->p0 + EXO_ATTN_SPLIT_TOKENS + (i - 2 * n) * tokens;
    if (i < n) return v16_k_page(t, tile, tile->p0 + (start + i) * tokens);
    if (i >= 2 * n && behind <= tile->last) return v16_k_page(t, tile, behind);
    return v16_v_page(t, tile, tile->p0 + (start + (i < 2 * n ? i - n : n - 1)) * tokens);
}

/* To be called before page i of the tile is read: every second time, two other pages are next. */
static inline void v16_look_ahead(const exo_attention_task *t, v16_tile *tile, uint32_t i) {
    if (i % 2 != 0) return;
    tile->next.one = v16_reads(t, tile, i + 2);
    tile->next.other = v16_reads(t, tile, i + 3);
    if (t->kv_type != EXO_Q8_0) return;
    v16_ahead(tile->next.one + (size_t)t->head_dim * 32, t->head_dim * 2u);
    v16_ahead(tile->next.other + (size_t)t->head_dim * 32, t->head_dim * 2u);
}

/* ---- scores ---- */

/* Scores of Q queries against V16_SCORES(Q) * 16 positions of a page, from `first` of it on; w: of
 * query 0 and the first of them. */
EXO_INLINE void v16_score_some(const exo_attention_task *t, const v16_query *qs, v16_next *ahead,
                               const uint8_t *keys, float *w, const int Q, const exo_dtype type,
                               const uint32_t first) {
    const int S = V16_SCORES(Q);
    const size_t size = v16_kv_size(type), step = (size_t)S * 16 * size;
    const uint32_t hd = t->head_dim, block = type == EXO_Q8_0 ? 32 : hd;
    const uint8_t *page = keys + (size_t)first * size;
    const uint16_t *scales = (const uint16_t *)(const void *)(keys + (size_t)hd * 32) + first;
    v16_next next = *ahead;
    v16 acc[EXO_ATTENTION_QUERIES][2];
    EXO_UNROLL for (int q = 0; q < Q; q++) {
        EXO_UNROLL for (int v = 0; v < S; v++) acc[q][v] = v16_set1(0);
    }
    for (uint32_t b = 0; b < hd; b += block) {
        v16 x[2], d16[2];
        EXO_UNROLL for (int v = 0; v < S && type == EXO_Q8_0; v++) {
            d16[v] = v16_load_f16(scales + b + v * 16);
        }
        for (uint32_t d = b; d < b + block; d++) {
            v16_ask(&next, step);
            EXO_UNROLL for (int v = 0; v < S; v++) {
                x[v] = v16_load_kv(page, (size_t)v * 16, type);
                if (type == EXO_Q8_0) x[v] = v16_mul(x[v], d16[v]);
            }
            EXO_UNROLL for (int q = 0; q < Q; q++) {
                v16 y = v16_set1(qs[q].q[d]);
                EXO_UNROLL for (int v = 0; v < S; v++) acc[q][v] = v16_fma(y, x[v], acc[q][v]);
            }
            page += EXO_KV_PAGE_TOKENS * size;
        }
    }
    *ahead = next;
    v16 scale = v16_set1(t->scale);
    EXO_UNROLL for (int q = 0; q < Q; q++) {
        EXO_UNROLL for (int v = 0; v < S; v++) {
            v16 y = v16_mul(acc[q][v], scale);
            v16_store(w + q * EXO_ATTN_SPLIT_TOKENS + v * 16,
                      t->softcap > 0 ? v16_softcap(y, t->softcap) : y);
        }
    }
}

/* All of the split. */
EXO_INLINE void v16_scores(const exo_attention_task *t, const v16_query *qs, v16_tile *tile,
                           const int Q, const exo_dtype type) {
    const uint32_t wide = V16_SCORES(Q) * 16;
    uint32_t page = 0, i = tile->begin / EXO_KV_PAGE_TOKENS * EXO_KV_PAGE_TOKENS;
    for (; i < tile->end; i += EXO_KV_PAGE_TOKENS, page++) {
        const uint8_t *keys = v16_reads(t, tile, page);
        v16_look_ahead(t, tile, page);
        EXO_UNROLL for (uint32_t k = 0; k < EXO_KV_PAGE_TOKENS; k += wide) {
            v16_score_some(t, qs, &tile->next, keys, tile->weights + i + k, Q, type, k);
        }
    }
}

/* ---- weights ---- */

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
    uint32_t i = start;
    for (; i + V16_EXPS * 16 <= n; i += V16_EXPS * 16) {
        v16 e[V16_EXPS];
        EXO_UNROLL for (int k = 0; k < V16_EXPS; k++) e[k] = v16_sub(v16_load(w + i + k * 16), m);
        v16_exps(e, V16_EXPS);
        EXO_UNROLL for (int k = 0; k < V16_EXPS; k++) {
            v16_store(w + i + k * 16, e[k]);
            l = v16_add(l, i < from ? v16_seen(w, i + k * 16, from, n, 0) : e[k]);
        }
    }
    for (; i < n; i += 16) {
        v16_store(w + i, v16_exp(v16_sub(v16_load(w + i), m)));
        l = v16_add(l, v16_seen(w, i, from, n, 0));
    }
    *sum = v16_sum(l);
}

/* ---- values ---- */

/* n rows of one page's values from column d0 on, which the weights of query q0 on weigh. */
typedef struct {
    const uint8_t *row;
    v16_next *next;
    const float *weights;  /* of query q0 at the first row */
    const float *scales;   /* of the first row, from column d0 on */
    float *part;           /* of query q0 from column d0 on */
    uint32_t n, ld, width; /* rows; elements from one to the next; of the last vector */
} v16_rows;

EXO_INLINE void v16_weigh(const v16_rows *r, uint32_t lanes, const int Q, const int V,
                          const exo_dtype type, const bool whole) {
    const size_t row_bytes = (size_t)r->ld * v16_kv_size(type);
    const size_t step = (size_t)V * 16 * v16_kv_size(type), n_scales = r->ld / 32;
    const uint8_t *row = r->row;
    const float *w = r->weights, *end = w + r->n, *scales = r->scales;
    v16_next next = *r->next;
    v16 acc[EXO_ATTENTION_QUERIES][4], x[4];
    EXO_UNROLL for (int q = 0; q < Q; q++) {
        EXO_UNROLL for (int v = 0; v < V; v++) acc[q][v] = v16_load(r->part + q * lanes + v * 16);
    }
    for (; w < end; w++, row += row_bytes) {
        v16_ask(&next, step);
        EXO_UNROLL for (int v = 0; v < V; v++) {
            x[v] = whole || v + 1 < V ? v16_load_kv(row, (size_t)v * 16, type)
                                      : v16_load_kv_n(row, (size_t)v * 16, r->width, type);
            if (type == EXO_Q8_0) x[v] = v16_mul(x[v], v16_set1(scales[v / 2]));
        }
        if (type == EXO_Q8_0) scales += n_scales;
        EXO_UNROLL for (int q = 0; q < Q; q++) {
            v16 e = v16_set1(w[q * EXO_ATTN_SPLIT_TOKENS]);
            EXO_UNROLL for (int v = 0; v < V; v++) acc[q][v] = v16_fma(e, x[v], acc[q][v]);
        }
    }
    *r->next = next;
    EXO_UNROLL for (int q = 0; q < Q; q++) {
        EXO_UNROLL for (int v = 0; v < V; v++) v16_store(r->part + q * lanes + v * 16, acc[q][v]);
    }
}

/* All columns of some rows of a page, for Q queries; r comes with the first column. */
EXO_INLINE void v16_columns(const exo_attention_task *t, v16_rows r, uint32_t lanes, const int Q,
                            const exo_dtype type) {
    const int V = V16_VALUES(Q);
    const size_t size = v16_kv_size(type);
    const float *scales = r.scales;
    for (uint32_t d = 0; d < t->v_dim;) {
        uint32_t left = t->v_dim - d, wide = left >= (uint32_t)V * 16 ? (uint32_t)V * 16 : 16;
        r.scales = scales + d / 32;
        r.width = left;
        if (left >= (uint32_t)V * 16) {
            v16_weigh(&r, lanes, Q, V, type, true);
        } else if (left >= 16 || type == EXO_Q8_0) {
            v16_weigh(&r, lanes, Q, 1, type, true);
        } else {
            v16_weigh(&r, lanes, Q, 1, type, false);
        }
        d += wide;
        r.row += wide * size;
        r.part += wide;
    }
}

/* Columns of one query, where the queries of a tile do not see the same of a page. */
#define V16_COLUMNS_1(KV, TYPE)                                                                    \
    static EXO_NOINLINE void v16_columns_1_##KV(const exo_attention_task *t, const v16_rows *r,    \
                                                uint32_t lanes) {                                  \
        v16_columns(t, *r, lanes, 1, TYPE);                                                        \
    }
V16_COLUMNS_1(f32, EXO_F32)
V16_COLUMNS_1(f16, EXO_F16)
V16_COLUMNS_1(q8_0, EXO_Q8_0)
#undef V16_COLUMNS_1

/* Rows [from, to) of the page whose first row is position i of the split; r: at position i. */
static inline v16_rows v16_rows_of(const v16_rows *r, uint32_t i, uint32_t from, uint32_t to,
                                   size_t row_bytes) {
    v16_rows some = *r;
    some.n = from < to ? to - from : 0;
    some.row += (from - i) * row_bytes;
    some.weights += from - i;
    some.scales += (size_t)(from - i) * (r->ld / 32);
    return some;
}

/* What every query sees of the page goes through the wide tile if that is all that any of them
 * sees, else each goes alone: each sum stays in order. */
EXO_INLINE void v16_value_page(const exo_attention_task *t, v16_tile *tile, const v16_rows *r,
                               uint32_t i, const int Q, const exo_dtype type) {
    const size_t row_bytes = (size_t)t->v_dim * v16_kv_size(type);
    const uint32_t after = i + EXO_KV_PAGE_TOKENS;
    uint32_t from[EXO_ATTENTION_QUERIES], to[EXO_ATTENTION_QUERIES];
    bool same = true;
    for (int q = 0; q < Q; q++) {
        from[q] = tile->from[q] > i ? tile->from[q] : i;
        to[q] = tile->to[q] < after ? tile->to[q] : after;
        same = same && from[q] == from[0] && to[q] == to[0];
    }
    if (same) {
        v16_columns(t, v16_rows_of(r, i, from[0], to[0], row_bytes), tile->lanes, Q, type);
        return;
    }
    const v16_next next = *r->next;
    for (int q = 0; q < Q; q++) {
        if (from[q] >= to[q]) continue;
        *r->next = next; /* what one query's rows ask for is enough */
        v16_rows own = v16_rows_of(r, i, from[q], to[q], row_bytes);
        own.weights += q * EXO_ATTN_SPLIT_TOKENS;
        own.part += (size_t)q * tile->lanes;
        if (type == EXO_F32) v16_columns_1_f32(t, &own, tile->lanes);
        if (type == EXO_F16) v16_columns_1_f16(t, &own, tile->lanes);
        if (type == EXO_Q8_0) v16_columns_1_q8_0(t, &own, tile->lanes);
    }
}

/* All of the split. */
EXO_INLINE void v16_values(const exo_attention_task *t, v16_tile *tile, const int Q,
                           const exo_dtype type) {
    uint32_t i = tile->begin / EXO_KV_PAGE_TOKENS * EXO_KV_PAGE_TOKENS;
    uint32_t page = (tile->end - i + EXO_KV_PAGE_TOKENS - 1) / EXO_KV_PAGE_TOKENS;
    v16_rows r = {.scales = tile->scales, .part = tile->part, .ld = t->v_dim, .next = &tile->next};
    memset(tile->part, 0, (size_t)Q * tile->lanes * sizeof *tile->part);
    for (; i < tile->end; i += EXO_KV_PAGE_TOKENS, page++) {
        r.row = v16_reads(t, tile, page);
        r.weights = tile->weights + i;
        v16_look_ahead(t, tile, page);
        const uint8_t *scales = r.row + (size_t)t->v_dim * 32;
        for (uint32_t k = 0; k < t->v_dim && type == EXO_Q8_0; k += 16) {
            v16_store(tile->scales + k, v16_load_f16((const uint16_t *)(const void *)scales + k));
        }
        v16_value_page(t, tile, &r, i, Q, type);
    }
}

/* ---- splits ---- */

/* What the queries see of the split at p0; false: nothing. */
static inline bool v16_see(v16_tile *tile, const v16_query *qs, int Q, uint32_t p0) {
    uint32_t n = EXO_ATTN_SPLIT_TOKENS;
    tile->p0 = p0;
    tile->begin = n;
    tile->end = 0;
    for (int q = 0; q < Q; q++) {
        uint32_t from = qs[q].first < p0 ? 0 : qs[q].first - p0;
        uint32_t to = qs[q].pos < p0 ? 0 : qs[q].pos - p0 < n ? qs[q].pos - p0 + 1 : n;
        tile->to[q] = to;
        tile->from[q] = from < to ? from : to;
        if (from >= to) continue;
        tile->begin = from < tile->begin ? from : tile->begin;
        tile->end = to > tile->end ? to : tile->end;
    }
    return tile->begin < tile->end;
}

/* Adds a split's part (lanes) to the query's total; the first split is the total. */
static inline void v16_combine(v16_query *query, const float *part, uint32_t lanes, bool first,
                               float m, float l) {
    float *total = query->total;
    if (first) {
        memcpy(total, part, lanes * sizeof *total);
        query->max = m;
        query->sum = l;
        return;
    }
    float top = m > query->max ? m : query->max;
    v16 e[2] = {v16_set1(query->max - top), v16_set1(m - top)};
    v16_exps(e, 2);
    query->sum = fmaf(query->sum, v16_lane0(e[0]), l * v16_lane0(e[1]));
    for (uint32_t d = 0; d < lanes; d += 16) {
        v16 scaled = v16_mul(v16_load(part + d), e[1]);
        v16_store(total + d, v16_fma(v16_load(total + d), e[0], scaled));
    }
    query->max = top;
}

/* The part of the tile's split that query q has, to where the task wants it. */
static inline void v16_keep(const exo_attention_task *t, const v16_tile *tile, v16_query *query,
                            int q, float m, float l) {
    const float *part = tile->part + (size_t)q * tile->lanes;
    if (query->parts == NULL) {
        v16_combine(query, part, tile->lanes, query->first >= tile->p0, m, l);
        return;
    }
    size_t s = tile->p0 / EXO_ATTN_SPLIT_TOKENS - t->parts_first;
    float *to = query->parts + s * exo_attention_part(t->v_dim);
    memcpy(to, part, tile->lanes * sizeof *to);
    to[tile->lanes] = m;
    to[tile->lanes + 1] = l;
}

EXO_INLINE void v16_split(const exo_attention_task *t, v16_query *qs, v16_tile *tile, const int Q,
                          const exo_dtype type) {
    float m[EXO_ATTENTION_QUERIES] = {0}, l[EXO_ATTENTION_QUERIES] = {0};
    v16_scores(t, qs, tile, Q, type);
    for (int q = 0; q < Q; q++) {
        if (tile->from[q] == tile->to[q]) continue;
        v16_softmax(tile->weights + q * EXO_ATTN_SPLIT_TOKENS, tile->from[q], tile->to[q], &m[q],
                    &l[q]);
    }
    v16_values(t, tile, Q, type);
    for (int q = 0; q < Q; q++) {
        if (tile->from[q] != tile->to[q]) v16_keep(t, tile, &qs[q], q, m[q], l[q]);
    }
}

#define V16_SPLIT(Q, KV, TYPE)                                                                     \
    static EXO_NOINLINE void v16_split_##Q##_##KV(const exo_attention_task *t, v16_query *qs,      \
                                                  v16_tile *tile) {                                \
        v16_split(t, qs, tile, Q, TYPE);                                                           \
    }
#define V16_SPLITS(Q)                                                                              \
    V16_SPLIT(Q, f32, EXO_F32) V16_SPLIT(Q, f16, EXO_F16) V16_SPLIT(Q, q8_0, EXO_Q8_0)
V16_SPLITS(1)
V16_SPLITS(2)
#if V16_QUERIES == 4
V16_SPLITS(3)
V16_SPLITS(4)
#endif
#undef V16_SPLIT
#undef V16_SPLITS

typedef void (*v16_split_fn)(const exo_attention_task *t, v16_query *qs, v16_tile *tile);

/* By queries less one, then f32, f16, q8_0. */
static const v16_split_fn v16_split_fns[V16_QUERIES][3] = {
    {v16_split_1_f32, v16_split_1_f16, v16_split_1_q8_0},
    {v16_split_2_f32, v16_split_2_f16, v16_split_2_q8_0},
#if V16_QUERIES == 4
    {v16_split_3_f32, v16_split_3_f16, v16_split_3_q8_0},
    {v16_split_4_f32, v16_split_4_f16, v16_split_4_q8_0},
#endif
};

/* ---- the task ---- */

/* The sink's share of the sum, and the outputs. */
static inline void v16_finish(const exo_attention_task *t, v16_query *query) {
    float factor = 1;
    if (t->sinks != NULL) {
        float sink = t->sinks[query->head], top = sink > query->max ? sink : query->max;
        factor = v16_exp1(query->max - top);
        query->sum = fmaf(query->sum, factor, v16_exp1(sink - top));
    }
    v16 a = v16_set1(factor), inv = v16_set1(1.0f / query->sum);
    for (uint32_t d = 0; d < t->v_dim; d += 16) {
        v16 o = v16_load(query->total + d);
        v16_store_upto(query->out + d, v16_mul(v16_mul(o, a), inv), t->v_dim - d);
    }
}

static inline v16_query v16_query_of(const exo_attention_task *t, uint32_t i) {
    uint32_t row = i / t->group, head = t->kv_head * t->group + i % t->group, pos = t->pos[row];
    v16_query query = {.q = t->q + row * t->ld_q + (size_t)head * t->head_dim,
                       .out = t->out + row * t->ld_out + (size_t)head * t->v_dim,
                       .head = head,
                       .first = t->window > 0 && pos >= t->window ? pos - t->window + 1 : 0,
                       .pos = pos};
    if (t->parts != NULL) {
        query.parts = t->parts + (size_t)i * t->ld_parts * exo_attention_part(t->v_dim);
    }
    return query;
}

static inline v16_tile v16_tile_of(const exo_attention_task *t) {
    v16_tile tile = {.lanes = (t->v_dim + 15) / 16 * 16};
    tile.weights = t->scratch;
    tile.part = tile.weights + EXO_ATTENTION_QUERIES * EXO_ATTN_SPLIT_TOKENS;
    tile.scales = tile.part + (size_t)EXO_ATTENTION_QUERIES * tile.lanes;
    tile.totals = tile.scales + tile.lanes;
    tile.k_at = t->kv_head * (t->k_page_bytes / t->n_kv_heads);
    tile.v_at = t->kv_head * (t->v_page_bytes / t->n_kv_heads);
    return tile;
}

/* n queries through the splits that they see, or those of them that the task names. */
static void v16_batch(const exo_attention_task *t, v16_tile *tile, v16_query *qs, uint32_t n) {
    const uint32_t tokens = EXO_ATTN_SPLIT_TOKENS;
    uint32_t type = t->kv_type == EXO_F32 ? 0 : t->kv_type == EXO_F16 ? 1 : 2;
    uint32_t last = 0, first = UINT32_MAX;
    for (uint32_t q = 0; q < n; q++) {
        last = qs[q].pos > last ? qs[q].pos : last;
        first = qs[q].first < first ? qs[q].first : first;
    }
    uint32_t s = first / tokens, end = last / tokens + 1;
    tile->last = last;
    if (t->parts != NULL) {
        s = t->split > s ? t->split : s;
        end = t->split + t->n_splits < end ? t->split + t->n_splits : end;
    }
    for (; s < end; s++) {
        for (uint32_t i = 0, m; i < n; i += m) {
            m = n - i < V16_QUERIES ? n - i : V16_QUERIES;
            if (v16_see(tile, &qs[i], (int)m, s * tokens)) {
                v16_split_fns[m - 1][type](t, &qs[i], tile);
            }
        }
    }
}

static void v16_attention(const exo_attention_task *t) {
    v16_tile tile = v16_tile_of(t);
    for (uint32_t i = 0, m, n = t->n_rows * t->group; i < n; i += m) {
        v16_query qs[EXO_ATTENTION_BATCH];
        m = n - i < EXO_ATTENTION_BATCH ? n - i : EXO_ATTENTION_BATCH;
        for (uint32_t k = 0; k < m; k++) {
            qs[k] = v16_query_of(t, i + k);
            qs[k].total = tile.totals + (size_t)k * tile.lanes;
        }
        v16_batch(t, &tile, qs, m);
        for (uint32_t k = 0; k < m && t->parts == NULL; k++) v16_finish(t, &qs[k]);
    }
}

static void v16_attention_join(const exo_attention_task *t, uint32_t i) {
    v16_tile tile = v16_tile_of(t);
    v16_query query = v16_query_of(t, i);
    size_t width = exo_attention_part(t->v_dim);
    query.total = tile.totals;
    uint32_t first = query.first / EXO_ATTN_SPLIT_TOKENS, end = query.pos / EXO_ATTN_SPLIT_TOKENS;
    for (uint32_t s = first; s <= end; s++) {
        const float *part = query.parts + (s - t->parts_first) * width;
        v16_combine(&query, part, tile.lanes, s == first, part[tile.lanes], part[tile.lanes + 1]);
    }
    v16_finish(t, &query);
}

#endif
