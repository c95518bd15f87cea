/* sampler.c - one draw: bias, penalties, filters, noise; and log-probabilities beside it.
 *
 * Owns the scratch of one sampler and the order of the steps; the filters are in
 * sampler_filter.c, the draw itself in gumbel.c.  Knows no text and no model.  The model's
 * logits are never changed: log-probabilities are those before any bias or filter. */
#include "engine/sampler.h"

#include "base/mem.h"
#include "engine/gumbel.h"
#include "engine/sampler_filter.h"
#include "engine/softmax.h"

#include <inttypes.h>
#include <math.h> /* the macro isfinite only */
#include <string.h>

struct exo_sampler {
    uint32_t n_vocab;
    float *adjusted;           /* (n_vocab) logits after bias and penalties */
    uint32_t *seen;            /* (n_vocab) zero between draws: SEEN | times generated */
    int32_t *ids;              /* (n_vocab) what the filters leave */
    exo_candidate *candidates; /* (n_vocab) */
};

#define SEEN 0x80000000u

exo_status exo_sampler_create(uint32_t n_vocab, exo_sampler **out, exo_error *err) {
    *out = NULL;
    if (n_vocab == 0 || n_vocab > EXO_SOFTMAX_MAX_VOCAB)
        return exo_error_set(err, EXO_EUNSUPPORTED,
                             "a vocabulary of %" PRIu32 " tokens; 1 to %u can be sampled", n_vocab,
                             EXO_SOFTMAX_MAX_VOCAB);
    exo_sampler *s = exo_calloc(1, sizeof *s);
    if (s == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for a sampler");
    s->n_vocab = n_vocab;
    s->adjusted = exo_malloc(n_vocab * sizeof *s->adjusted);
    s->seen = exo_calloc(n_vocab, sizeof *s->seen);
    s->ids = exo_malloc(n_vocab * sizeof *s->ids);
    s->candidates = exo_malloc(n_vocab * sizeof *s->candidates);
    if (s->adjusted == NULL || s->seen == NULL || s->ids == NULL || s->candidates == NULL) {
        exo_sampler_destroy(s);
        return exo_error_set(err, EXO_ENOMEM, "no memory for a sampler");
    }
    *out = s;
    return EXO_OK;
}

void exo_sampler_destroy(exo_sampler *s) {
    if (s == NULL) return;
    exo_free(s->adjusted);
    exo_free(s->seen);
    exo_free(s->ids);
    exo_free(s->candidates);
    exo_free(s);
}

static bool in_vocab(const exo_sampler *s, int32_t id) {
    return id >= 0 && (uint32_t)id < s->n_vocab;
}

/* ---- bias and penalties ---- */

static bool has_repeat(const exo_sampling *p) {
    return p->repeat_penalty > 0 && p->repeat_penalty != 1;
}

static bool has_penalties(const exo_sampling *p) {
    return has_repeat(p) || p->presence_penalty != 0 || p->frequency_penalty != 0;
}

static float penalised(const exo_sampling *p, float logit, uint32_t n_generated) {
    if (has_repeat(p)) {
        if (logit > 0)
            logit /= p->repeat_penalty;
        else
            logit *= p->repeat_penalty;
    }
    if (n_generated > 0) {
        logit -= (float)n_generated * p->frequency_penalty;
        logit -= p->presence_penalty;
    }
    return logit;
}

static void apply_penalties(exo_sampler *s, const exo_sampling *p, exo_tokens history,
                            size_t n_prompt) {
    size_t begin = 0;
    if (p->repeat_last_n > 0 && p->repeat_last_n < history.n) begin = history.n - p->repeat_last_n;
    for (size_t i = begin; i < history.n; i++) {
        if (!in_vocab(s, history.ids[i])) continue;
        uint32_t *seen = &s->seen[history.ids[i]];
        *seen |= SEEN;
        if (i >= n_prompt) ++*seen;
    }
    for (size_t i = begin; i < history.n; i++) {
        int32_t id = history.ids[i];
        if (!in_vocab(s, id) || s->seen[id] == 0) continue;
        s->adjusted[id] = penalised(p, s->adjusted[id], s->seen[id] & ~SEEN);
        s->seen[id] = 0;
    }
}

/* The logits to draw from: the model's own where nothing changes them. */
static const float *adjust(exo_sampler *s, const exo_sampling *p, exo_tokens history,
                           size_t n_prompt, const float *logits) {
    if (p->n_bias == 0 && !has_penalties(p)) return logits;
    memcpy(s->adjusted, logits, s->n_vocab * sizeof *logits);
    for (uint32_t i = 0; i < p->n_bias; i++) {
        if (in_vocab(s, p->bias[i].id)) s->adjusted[p->bias[i].id] += p->bias[i].bias;
    }
    if (has_penalties(p)) apply_penalties(s, p, history, n_prompt);
    return s->adjusted;
}

/* ---- log-probabilities ---- */

/* Keeps the n most probable ids so far in order; ids arrive in ascending order. */
static void insert_top(exo_draw *out, uint32_t n, int32_t id, float logit) {
    if (out->n_top == n && logit <= out->top[n - 1].logprob) return;
    uint32_t i = out->n_top < n ? out->n_top++ : n - 1;
    for (; i > 0 && out->top[i - 1].logprob < logit; i--) out->top[i] = out->top[i - 1];
    out->top[i] = (exo_logprob){.id = id, .logprob = logit};
}

static void write_logprobs(const exo_sampler *s, const exo_sampling *p, const float *logits,
                           exo_draw *out) {
    float max = logits[exo_logits_argmax(logits, NULL, s->n_vocab)];
    double log_total = exo_softmax_log(exo_softmax_total(logits, s->n_vocab, max));
    uint32_t n = p->n_logprobs < EXO_MAX_LOGPROBS ? p->n_logprobs : EXO_MAX_LOGPROBS;
    for (uint32_t i = 0; n > 0 && i < s->n_vocab; i++) {
        if (isfinite(logits[i])) insert_top(out, n, (int32_t)i, logits[i]);
    }
    for (uint32_t i = 0; i < out->n_top; i++) {
        double x = (double)out->top[i].logprob - (double)max;
        out->top[i].logprob = (float)(x - log_total);
    }
    out->logprob = (float)(((double)logits[out->id] - (double)max) - log_total);
}

/* ---- the draw ---- */

exo_status exo_sampler_draw(exo_sampler *s, const exo_sampling *p, exo_tokens history,
                            size_t n_prompt, const float *logits, exo_draw *out, exo_error *err) {
    out->id = -1;
    out->logprob = 0;
    out->n_top = 0;
    const float *adjusted = adjust(s, p, history, n_prompt, logits);
    int32_t best = exo_logits_argmax(adjusted, NULL, s->n_vocab);
    if (best < 0)
        return exo_error_set(err, EXO_EINTERNAL,
                             "none of the %" PRIu32 " logits at position %zu is a finite number",
                             s->n_vocab, history.n);
    if (p->temperature > 0) {
        exo_gumbel g = {
            .seed = p->seed,
            .choice = p->choice,
            .position = (uint32_t)history.n,
            .temperature = p->temperature,
        };
        const int32_t *ids = NULL;
        uint32_t n = s->n_vocab;
        if (exo_filter_active(p, n)) {
            n = exo_filter_run(p, adjusted, n, adjusted[best], s->candidates, s->ids);
            ids = s->ids;
        }
        best = exo_gumbel_argmax(&g, adjusted, ids, n);
    }
    out->id = best;
    if (p->want_logprobs || p->n_logprobs > 0) write_logprobs(s, p, logits, out);
    return EXO_OK;
}

/* ---- the draw from the highest ids ---- */

#define SCORES_ASKED  16 /* the 16th highest score is mostly a few units below the first */
#define HIGHEST_ASKED 64
#define LEAST_T       1e-4f /* 1 / T times a logit stays far from what an f32 holds */

exo_head_ask exo_sampler_ask(const exo_sampling *p, uint32_t n_vocab, uint32_t position) {
    exo_head_ask ask = {.kind = EXO_HEAD_LOGITS, .position = position};
    if (p->n_bias > 0 || has_penalties(p) || p->want_logprobs || p->n_logprobs > 0) return ask;
    bool has_top_k = p->top_k > 0 && p->top_k < n_vocab;
    if (!(p->temperature > 0)) {
        ask.kind = EXO_HEAD_HIGHEST;
        ask.n_ids = 1;
    } else if (!exo_filter_active(p, n_vocab)) {
        if (p->temperature < LEAST_T) return ask;
        ask.kind = EXO_HEAD_SCORES;
        ask.n_ids = SCORES_ASKED;
        ask.temperature = p->temperature;
        ask.seed = p->seed;
        ask.choice = p->choice;
    } else if (has_top_k) {
        if (p->top_k > EXO_HEAD_MAX_ASK) return ask;
        ask.kind = EXO_HEAD_HIGHEST;
        ask.n_ids = p->top_k;
    } else if (!(p->typical_p > 0 && p->typical_p < 1)) {
        ask.kind = EXO_HEAD_HIGHEST;
        ask.n_ids = HIGHEST_ASKED;
        ask.total = p->top_p > 0 && p->top_p < 1;
    }
    return ask;
}

/* No id that was not found can have this score. */
static bool beats_the_rest(const exo_gumbel *g, int32_t id, float logit, float bound) {
    double b = (double)bound, magnitude = b < 0 ? -b : b;
    double error = EXO_HEAD_SCORE_ERROR + EXO_HEAD_SCORE_SHARE * (magnitude + 40);
    return exo_gumbel_score(g, id, logit) > b + error;
}

static uint32_t filter_top(exo_sampler *s, const exo_sampling *p, const exo_head_top *top) {
    for (uint32_t i = 0; i < top->n_found; i++) {
        s->candidates[i] = (exo_candidate){.logit = top->logits[i], .id = top->ids[i]};
    }
    const exo_filter_bounds bounds = {
        .max = top->highest,
        .bound = top->bound,
        .total_low = (double)top->total * (1 - EXO_HEAD_TOTAL_ERROR),
        .total_high = (double)top->total * (1 + EXO_HEAD_TOTAL_ERROR),
    };
    return exo_filter_run_top(p, s->n_vocab, s->candidates, top->n_found, &bounds, s->ids);
}

bool exo_sampler_draw_top(exo_sampler *s, const exo_sampling *p, const exo_head_ask *ask,
                          const exo_head_top *top, exo_draw *out) {
    *out = (exo_draw){.id = -1};
    if (ask->kind == EXO_HEAD_LOGITS || top->n_found == 0 || top->n_found > EXO_HEAD_MAX_IDS) {
        return false;
    }
    for (uint32_t i = 0; i < top->n_found; i++) s->adjusted[top->ids[i]] = top->logits[i];
    if (!(p->temperature > 0)) {
        out->id = exo_logits_argmax(s->adjusted, top->ids, top->n_found);
        return out->id >= 0;
    }
    const exo_gumbel g = {
        .seed = p->seed,
        .choice = p->choice,
        .position = ask->position,
        .temperature = p->temperature,
    };
    if (ask->kind == EXO_HEAD_SCORES) {
        int32_t id = exo_gumbel_argmax(&g, s->adjusted, top->ids, top->n_found);
        if (id < 0 || !beats_the_rest(&g, id, s->adjusted[id], top->bound)) return false;
        out->id = id;
        return true;
    }
    uint32_t n = filter_top(s, p, top);
    if (n == 0) return false;
    out->id = exo_gumbel_argmax(&g, s->adjusted, s->ids, n);
    return out->id >= 0;
}
