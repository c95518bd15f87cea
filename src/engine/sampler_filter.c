/* sampler_filter.c - top-k, typical, top-p and min-p by selection instead of sorting.
 *
 * Knows nothing of penalties or noise.  A coarse histogram over the distance from the highest
 * logit first drops what the first filter surely drops, so that the exact selection works on
 * hundreds of ids and not on the vocabulary.  Weights are integers (softmax.h): every sum is
 * exact, and the survivors do not depend on the order in which ids are visited.
 * Semantics and order are those of llama.cpp's samplers of the same names. */
#include "engine/sampler_filter.h"

#include "compute/dmath.h"
#include "engine/softmax.h"

#include <float.h>
#include <math.h> /* the macro isfinite only */

#define N_BINS       256
#define BINS_PER_NAT 8.0

typedef struct {
    exo_candidate *c; /* (n) */
    uint32_t n;
} survivors;

static bool is_part(float p) { return p > 0 && p < 1; }

bool exo_filter_active(const exo_sampling *p, uint32_t n_vocab) {
    return (p->top_k > 0 && p->top_k < n_vocab) || is_part(p->typical_p) || is_part(p->top_p) ||
           p->min_p > 0;
}

/* ---- selection ---- */

static bool before(const exo_candidate *a, const exo_candidate *b) {
    return a->key != b->key ? a->key > b->key : a->id < b->id;
}

static void swap(exo_candidate *a, exo_candidate *b) {
    exo_candidate t = *a;
    *a = *b;
    *b = t;
}

/* Puts the median of first, middle and last at the end. */
static void choose_pivot(exo_candidate *c, uint32_t n) {
    exo_candidate *a = &c[0], *m = &c[n / 2], *z = &c[n - 1];
    if (before(m, a)) swap(a, m);
    if (before(z, a)) swap(a, z);
    if (before(m, z)) swap(m, z);
}

/* Keeps the shortest prefix of the order whose weight is at least target (all if none is); at
 * least one candidate.  Quickselect: what is kept ends up in front, unsorted. */
static void keep_prefix(survivors *s, uint64_t target) {
    uint32_t lo = 0, hi = s->n; /* [0, lo) is kept, [hi, n) is dropped */
    while (hi - lo > 1) {
        exo_candidate *c = s->c + lo;
        uint32_t last = hi - lo - 1, n_before = 0;
        uint64_t weight = 0;
        choose_pivot(c, hi - lo);
        for (uint32_t i = 0; i < last; i++) {
            if (!before(&c[i], &c[last])) continue;
            weight += c[i].weight;
            swap(&c[i], &c[n_before++]);
        }
        swap(&c[last], &c[n_before]);
        if (weight >= target) {
            hi = lo + (n_before > 0 ? n_before : 1);
            continue;
        }
        target -= weight;
        lo += n_before + 1;
        if (c[n_before].weight >= target)
            hi = lo;
        else
            target -= c[n_before].weight;
    }
    s->n = hi;
}

/* ---- gathering: the first filter's coarse cut ---- */

static uint32_t bin_of(float logit, float max) {
    double d = ((double)max - (double)logit) * BINS_PER_NAT;
    return d < N_BINS - 1 ? (uint32_t)d : N_BINS - 1;
}

static void gather(survivors *s, const float *logits, uint32_t n, float max, uint32_t last_bin) {
    for (uint32_t i = 0; i < n; i++) {
        float l = logits[i];
        if (!isfinite(l) || bin_of(l, max) > last_bin) continue;
        s->c[s->n++] = (exo_candidate){.logit = l, .key = (double)l, .id = (int32_t)i};
    }
}

/* The first bin at which the weight of all bins up to it reaches target. */
static uint32_t cut_bin(const uint64_t bins[N_BINS], uint64_t target) {
    uint64_t weight = 0;
    for (uint32_t b = 0; b < N_BINS; b++) {
        weight += bins[b];
        if (weight >= target) return b;
    }
    return N_BINS - 1;
}

static void weigh(survivors *s, float max) {
    for (uint32_t i = 0; i < s->n; i++)
        s->c[i].weight = exo_softmax_weight((double)s->c[i].logit - (double)max);
}

static uint64_t total_weight(const survivors *s) {
    uint64_t total = 0;
    for (uint32_t i = 0; i < s->n; i++) total += s->c[i].weight;
    return total;
}

/* The least integer >= p total. */
static uint64_t part_of(float p, uint64_t total) {
    double exact = (double)p * (double)total;
    uint64_t part = (uint64_t)exact;
    return (double)part < exact ? part + 1 : part;
}

/* ---- the filters ---- */

static void top_k_of_vocab(survivors *s, uint32_t k, const float *logits, uint32_t n, float max) {
    uint64_t bins[N_BINS] = {0};
    for (uint32_t i = 0; i < n; i++) {
        if (isfinite(logits[i])) bins[bin_of(logits[i], max)]++;
    }
    gather(s, logits, n, max, cut_bin(bins, k));
    for (uint32_t i = 0; i < s->n; i++) s->c[i].weight = 1;
    keep_prefix(s, k);
    weigh(s, max);
}

static void top_p_of_vocab(survivors *s, float p, const float *logits, uint32_t n, float max) {
    uint64_t bins[N_BINS] = {0}, total = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t w = exo_softmax_weight((double)logits[i] - (double)max);
        if (w == 0) continue;
        total += w;
        bins[bin_of(logits[i], max)] += w;
    }
    uint64_t target = part_of(p, total);
    gather(s, logits, n, max, cut_bin(bins, target));
    weigh(s, max);
    keep_prefix(s, target);
}

/* Keeps the ids whose surprise -log p is nearest to the entropy.  Meister et al., "Locally
 * typical sampling", 2022. */
static void typical(survivors *s, float p, float max) {
    uint64_t total = total_weight(s);
    double log_total = exo_softmax_log(total);
    int64_t sum = 0; /* of weight * (logit - max); exact like the weights */
    for (uint32_t i = 0; i < s->n; i++) {
        double x = (double)s->c[i].logit - (double)max;
        sum += (int64_t)((double)s->c[i].weight * x);
    }
    double entropy = log_total - (double)sum / (double)total;
    for (uint32_t i = 0; i < s->n; i++) {
        double surprise = log_total - ((double)s->c[i].logit - (double)max);
        double distance = surprise - entropy;
        s->c[i].key = distance < 0 ? distance : -distance;
    }
    keep_prefix(s, (uint64_t)((double)p * (double)total) + 1); /* more than p */
    for (uint32_t i = 0; i < s->n; i++) s->c[i].key = (double)s->c[i].logit;
}

/* Keeps ids at least min_p times as probable as the most probable survivor. */
static void min_p(survivors *s, float p) {
    double max = -(double)FLT_MAX;
    for (uint32_t i = 0; i < s->n; i++) {
        if ((double)s->c[i].logit > max) max = (double)s->c[i].logit;
    }
    double least = max + exo_dlog((double)p);
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        if ((double)s->c[i].logit >= least || (double)s->c[i].logit == max) s->c[n++] = s->c[i];
    }
    s->n = n;
}

uint32_t exo_filter_run(const exo_sampling *p, const float *logits, uint32_t n_vocab, float max,
                        exo_candidate *scratch, int32_t *ids) {
    survivors s = {.c = scratch};
    bool has_top_k = p->top_k > 0 && p->top_k < n_vocab;
    bool has_typical = is_part(p->typical_p), has_top_p = is_part(p->top_p);
    if (has_top_k) {
        top_k_of_vocab(&s, p->top_k, logits, n_vocab, max);
    } else if (has_top_p && !has_typical) {
        top_p_of_vocab(&s, p->top_p, logits, n_vocab, max);
        has_top_p = false;
    } else {
        gather(&s, logits, n_vocab, max, N_BINS - 1);
        if (has_typical) weigh(&s, max);
    }
    if (has_typical) typical(&s, p->typical_p, max);
    if (has_top_p) keep_prefix(&s, part_of(p->top_p, total_weight(&s)));
    if (p->min_p > 0) min_p(&s, p->min_p);
    for (uint32_t i = 0; i < s.n; i++) ids[i] = s.c[i].id;
    return s.n;
}

/* ---- from the highest ids only ---- */

/* Top-p of the vocabulary: false unless the least and the greatest possible total keep the same
 * prefix, and that lies within the candidates. */
static bool top_p_of_top(survivors *s, float p, const exo_filter_bounds *b) {
    weigh(s, b->max);
    uint64_t here = total_weight(s);
    uint64_t low = part_of(p, exo_softmax_part(b->total_low));
    uint64_t high = part_of(p, exo_softmax_part(b->total_high));
    if (high > here) return false;
    keep_prefix(s, high);
    uint64_t last = UINT64_MAX, kept = total_weight(s); /* weight of the last one kept */
    double key = DBL_MAX;
    int32_t id = -1;
    for (uint32_t i = 0; i < s->n; i++) {
        const exo_candidate *c = &s->c[i];
        if (c->key > key || (c->key == key && c->id < id)) continue;
        key = c->key;
        id = c->id;
        last = c->weight;
    }
    return s->n == 1 || kept - last < low; /* the one before does not reach even the least */
}

uint32_t exo_filter_run_top(const exo_sampling *p, uint32_t n_vocab, exo_candidate *c, uint32_t n,
                            const exo_filter_bounds *b, int32_t *ids) {
    survivors s = {.c = c, .n = n};
    bool has_top_k = p->top_k > 0 && p->top_k < n_vocab, is_whole = true;
    bool has_typical = is_part(p->typical_p), has_top_p = is_part(p->top_p);
    for (uint32_t i = 0; i < n; i++) c[i].key = (double)c[i].logit;
    if (has_top_k) {
        if (p->top_k > n) return 0;
        for (uint32_t i = 0; i < n; i++) c[i].weight = 1;
        keep_prefix(&s, p->top_k);
        weigh(&s, b->max);
    } else if (has_typical) {
        return 0;
    } else if (has_top_p) {
        if (!top_p_of_top(&s, p->top_p, b)) return 0;
        has_top_p = false;
    } else {
        is_whole = (double)b->bound <= (double)b->max + exo_dlog((double)p->min_p);
    }
    if (!is_whole) return 0;
    if (has_typical) typical(&s, p->typical_p, b->max);
    if (has_top_p) keep_prefix(&s, part_of(p->top_p, total_weight(&s)));
    if (p->min_p > 0) min_p(&s, p->min_p);
    for (uint32_t i = 0; i < s.n; i++) ids[i] = s.c[i].id;
    return s.n;
}
