/* gumbel.c - Philox4x32-10 and the exact, pruned arg max over a vocabulary.
 *
 * Knows nothing of filters or requests.  Two logarithms for each of 128k ids would cost 10 ms a
 * token; a bound from the random integer's highest bit leaves a few dozen ids that need them:
 *
 *   1 - u <= -log(u), so noise <= -log(1 - u) <= -log(2) floor(log2(1 - u))
 *
 * and an id whose logit / T plus that bound stays below the best score so far cannot win.  Only
 * ids that surely lose are passed over, so the result is that of the plain definition. */
#include "engine/gumbel.h"

#include "compute/dmath.h"
#include "engine/sampler.h"

#include <float.h>
#include <math.h> /* the macro isfinite only */
#include <string.h>

#define PHILOX_ROUNDS 10
#define PHILOX_M0     0xD2511F53u
#define PHILOX_M1     0xCD9E8D57u
#define PHILOX_W0     0x9E3779B9u /* golden ratio */
#define PHILOX_W1     0xBB67AE85u /* sqrt(3) - 1 */

#define LN2         0x1.62e42fefa39efp-1
#define SCORE_SLACK 1e-9 /* far above the rounding errors of a score */
#define BLOCK_IDS   64   /* even: a block begins with both halves of a Philox output */

typedef struct {
    int32_t id; /* -1: none yet */
    double score;
} winner;

static inline void philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < PHILOX_ROUNDS; round++) {
        uint64_t p0 = (uint64_t)PHILOX_M0 * c0, p1 = (uint64_t)PHILOX_M1 * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += PHILOX_W0;
        k1 += PHILOX_W1;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

void exo_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    philox(counter, key, out);
}

/* The 64 random bits of ids 2 * pair and 2 * pair + 1. */
static inline void random_pair(const exo_gumbel *g, uint32_t pair, uint64_t bits[2]) {
    uint32_t counter[4] = {pair, g->position, g->choice, 0}, out[4];
    uint32_t key[2] = {(uint32_t)g->seed, (uint32_t)(g->seed >> 32)};
    philox(counter, key, out);
    bits[0] = out[0] | (uint64_t)out[1] << 32;
    bits[1] = out[2] | (uint64_t)out[3] << 32;
}

static inline uint64_t random_of(const exo_gumbel *g, int32_t id) {
    uint64_t bits[2];
    random_pair(g, (uint32_t)id >> 1, bits);
    return bits[id & 1];
}

static double noise_of(uint64_t bits) {
    double u = ((double)(bits >> 12) + 0.5) * 0x1p-52;
    return -exo_dlog(-exo_dlog(u));
}

/* An upper bound of noise_of(bits): 1 - u = odd / 2^53, and log2 of it is at least the exponent
 * of the double `odd` less 53. */
static inline double noise_bound(uint64_t bits) {
    double odd = (double)(int64_t)((UINT64_C(1) << 53) - 2 * (bits >> 12) - 1);
    uint64_t u;
    memcpy(&u, &odd, sizeof u);
    return LN2 * (double)(53 + 1023 - (int)(u >> 52));
}

double exo_gumbel_score(const exo_gumbel *g, int32_t id, float logit) {
    return (double)logit / (double)g->temperature + noise_of(random_of(g, id));
}

int32_t exo_logits_argmax(const float *logits, const int32_t *ids, uint32_t n) {
    int32_t best = -1;
    float max = -FLT_MAX;
    for (uint32_t i = 0; i < n; i++) {
        int32_t id = ids != NULL ? ids[i] : (int32_t)i;
        float l = logits[id];
        if (!(l >= max && l <= FLT_MAX)) continue;
        if (l == max && best >= 0 && id > best) continue;
        max = l;
        best = id;
    }
    return best;
}

/* Below this logit / T plus noise_bound an id surely loses. */
static double losing_below(const winner *w) {
    double magnitude = w->score < 0 ? -w->score : w->score;
    return w->score - SCORE_SLACK * (1 + magnitude);
}

/* Lets m ids with their random bits compete. */
static void compete(const exo_gumbel *g, const float *logits, const int32_t *ids,
                    const uint64_t *bits, uint32_t m, winner *w) {
    double t = (double)g->temperature, losing = losing_below(w);
    for (uint32_t i = 0; i < m; i++) {
        float logit = logits[ids[i]];
        double x = (double)logit / t;
        if (x + noise_bound(bits[i]) < losing || !isfinite(logit)) continue;
        double score = x + noise_of(bits[i]);
        if (score < w->score || (score == w->score && ids[i] > w->id)) continue;
        *w = (winner){.id = ids[i], .score = score};
        losing = losing_below(w);
    }
}

int32_t exo_gumbel_argmax(const exo_gumbel *g, const float *logits, const int32_t *ids,
                          uint32_t n) {
    int32_t first = exo_logits_argmax(logits, ids, n);
    if (first < 0) return -1;
    winner w = {.id = first, .score = exo_gumbel_score(g, first, logits[first])};
    int32_t block[BLOCK_IDS];
    uint64_t bits[BLOCK_IDS];
    for (uint32_t begin = 0; begin < n; begin += BLOCK_IDS) {
        uint32_t m = n - begin < BLOCK_IDS ? n - begin : BLOCK_IDS;
        if (ids != NULL) {
            for (uint32_t i = 0; i < m; i++) bits[i] = random_of(g, ids[begin + i]);
            compete(g, logits, ids + begin, bits, m, &w);
            continue;
        }
        for (uint32_t i = 0; i < BLOCK_IDS; i += 2) {
            random_pair(g, (begin + i) / 2, bits + i);
            block[i] = (int32_t)(begin + i);
            block[i + 1] = (int32_t)(begin + i + 1);
        }
        compete(g, logits, block, bits, m, &w);
    }
    return w.id;
}
