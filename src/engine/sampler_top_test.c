/* Draws from a device's answer: the token of the whole row, whenever the answer decides it.
 *
 * The device is played here: answers are built from the row with as many equal values, as coarse a
 * bound and as wrong a total and scores as compute/head.h allows. */
#include "engine/sampler.h"

#include "engine/gumbel.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define N 3000

static uint64_t rng_state;

static uint32_t rng(void) { /* splitmix64 */
    uint64_t z = (rng_state += 0x9E3779B97F4A7C15u);
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (uint32_t)(z >> 32);
}

static float rng_f(float low, float high) {
    return low + (high - low) * (float)(rng() >> 8) * 0x1p-24f;
}

static void random_logits(float *logits) {
    uint32_t kind = rng() % 4;
    for (uint32_t i = 0; i < N; i++) {
        float x = rng_f(-4, 4) + rng_f(-4, 4) + rng_f(-4, 4);
        logits[i] = kind == 0 ? x : kind == 1 ? 3 * x : kind == 2 ? roundf(2 * x) : 0.02f * x;
    }
}

/* ---- the device ---- */

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

static void answer(const exo_head_ask *ask, const float *logits, exo_head_top *out) {
    static double keys[N], sorted[N];
    double total = 0;
    const exo_gumbel g = {ask->seed, ask->choice, ask->position, ask->temperature};
    out->highest = -FLT_MAX;
    for (int32_t i = 0; i < N; i++) {
        out->highest = fmaxf(out->highest, logits[i]);
        keys[i] = (double)logits[i];
        if (ask->kind != EXO_HEAD_SCORES) continue;
        double x = keys[i] / (double)ask->temperature, score = exo_gumbel_score(&g, i, logits[i]);
        double error = EXO_HEAD_SCORE_ERROR + EXO_HEAD_SCORE_SHARE * fabs(x);
        keys[i] = score + error * (double)rng_f(-1, 1);
    }
    for (int i = 0; i < N; i++) total += exp((double)logits[i] - (double)out->highest);
    out->total = (float)(total * (1 + 0.99 * EXO_HEAD_TOTAL_ERROR * (double)rng_f(-1, 1)));
    memcpy(sorted, keys, sizeof sorted);
    qsort(sorted, N, sizeof sorted[0], by_size);
    double bound = sorted[ask->n_ids - 1 + rng() % 20];
    out->bound = (float)bound;
    if ((double)out->bound > bound) out->bound = nextafterf(out->bound, -INFINITY);
    out->n_found = 0;
    for (int32_t i = N - 1; i >= 0; i--) { /* in no useful order */
        if (keys[i] < (double)out->bound) continue;
        if (out->n_found < EXO_HEAD_MAX_IDS) {
            out->ids[out->n_found] = i;
            out->logits[out->n_found] = logits[i];
        }
        out->n_found++;
    }
}

/* Draws from an answer and from the row; false when the answer left it open. */
static bool same_draw(exo_sampler *s, const exo_sampling *p, const float *logits) {
    static int32_t history[64];
    const exo_tokens tokens = {history, 1 + rng() % 60};
    exo_head_ask ask = exo_sampler_ask(p, N, (uint32_t)tokens.n);
    assert_int_not_equal(ask.kind, EXO_HEAD_LOGITS);
    static exo_head_top top;
    exo_draw d, want;
    answer(&ask, logits, &top);
    assert_int_equal(exo_sampler_draw(s, p, tokens, 1, logits, &want, NULL), EXO_OK);
    if (!exo_sampler_draw_top(s, p, &ask, &top, &d)) return false;
    assert_int_equal(d.id, want.id);
    return true;
}

/* How many of 1000 draws the answers decided. */
static uint32_t decided(exo_sampling (*choose)(void)) {
    static float logits[N];
    exo_sampler *s;
    assert_int_equal(exo_sampler_create(N, &s, NULL), EXO_OK);
    uint32_t n = 0;
    for (int round = 0; round < 1000; round++) {
        if (round % 10 == 0) random_logits(logits);
        exo_sampling p = choose();
        p.seed = (uint64_t)rng() << 32 | rng();
        p.choice = rng() % 3;
        n += same_draw(s, &p, logits);
    }
    exo_sampler_destroy(s);
    return n;
}

static exo_sampling greedy(void) { return (exo_sampling){.top_k = 7, .top_p = 0.5f}; }
static exo_sampling plain(void) { return (exo_sampling){.temperature = rng_f(0.05f, 1.5f)}; }
static exo_sampling hot(void) { return (exo_sampling){.temperature = rng_f(5, 50)}; }
static exo_sampling top_k(void) {
    exo_sampling p = {.temperature = rng_f(0.1f, 2), .top_k = 1 + rng() % 60};
    if (rng() % 2) p.top_p = rng_f(0.1f, 0.99f);
    if (rng() % 2) p.min_p = rng_f(0.01f, 0.3f);
    if (rng() % 2) p.typical_p = rng_f(0.1f, 0.99f);
    return p;
}
static exo_sampling top_p(void) {
    exo_sampling p = {.temperature = rng_f(0.1f, 2), .top_p = rng_f(0.01f, 0.95f)};
    if (rng() % 2) p.min_p = rng_f(0.01f, 0.3f);
    return p;
}
static exo_sampling min_p(void) {
    return (exo_sampling){.temperature = rng_f(0.1f, 2), .min_p = rng_f(0.05f, 1)};
}

/* Shares of a thousand: below them the answers would not be worth asking for.  A row in four has
 * all logits nearly equal, one in four has many ties. */
static void test_greedy(void **state) {
    (void)state;
    rng_state = 1;
    assert_true(decided(greedy) > 950);
}
static void test_plain_temperature(void **state) {
    (void)state;
    rng_state = 2;
    assert_true(decided(plain) > 900);
    assert_true(decided(hot) > 900);
}
static void test_top_k(void **state) {
    (void)state;
    rng_state = 3;
    assert_true(decided(top_k) > 700);
}
static void test_top_p(void **state) {
    (void)state;
    rng_state = 4;
    uint32_t n = decided(top_p);
    assert_in_range(n, 300, 900); /* flat rows need more ids than there are */
}
static void test_min_p(void **state) {
    (void)state;
    rng_state = 5;
    uint32_t n = decided(min_p);
    assert_in_range(n, 300, 900);
}

/* ---- what is not asked ---- */

static void test_whole_rows(void **state) {
    (void)state;
    exo_logit_bias bias = {3, 1};
    const exo_sampling whole[] = {
        {.n_bias = 1, .bias = &bias},
        {.repeat_penalty = 1.1f},
        {.presence_penalty = 1},
        {.frequency_penalty = 1},
        {.want_logprobs = true},
        {.n_logprobs = 1},
        {.temperature = 1, .typical_p = 0.5f},
        {.temperature = 1, .top_k = EXO_HEAD_MAX_ASK + 1},
        {.temperature = 1e-6f},
    };
    for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++) {
        assert_int_equal(exo_sampler_ask(&whole[i], N, 5).kind, EXO_HEAD_LOGITS);
    }
    exo_sampling p = {.temperature = 1, .top_k = N, .repeat_penalty = 1, .seed = 9, .choice = 2};
    exo_head_ask ask = exo_sampler_ask(&p, N, 5); /* filters that filter nothing */
    assert_int_equal(ask.kind, EXO_HEAD_SCORES);
    assert_true(ask.seed == 9 && ask.choice == 2 && ask.position == 5);
}

/* Too many ids, none, or a total that allows two answers: left open, never guessed. */
static void test_left_open(void **state) {
    (void)state;
    static float logits[N];
    static exo_head_top top;
    exo_sampler *s;
    exo_draw d;
    assert_int_equal(exo_sampler_create(N, &s, NULL), EXO_OK);
    exo_sampling p = {0};
    exo_head_ask ask = exo_sampler_ask(&p, N, 1);
    answer(&ask, logits, &top); /* all equal */
    assert_int_equal(top.n_found, N);
    assert_false(exo_sampler_draw_top(s, &p, &ask, &top, &d));
    top.n_found = 0;
    assert_false(exo_sampler_draw_top(s, &p, &ask, &top, &d));
    /* two ids of weight 1 in a total of 4: the first has a quarter, to within the error */
    top = (exo_head_top){.n_found = 2, .bound = 1, .highest = 1, .total = 4};
    top.ids[1] = 1;
    top.logits[0] = top.logits[1] = 1;
    p = (exo_sampling){.temperature = 1, .top_p = 0.25f, .seed = 1};
    ask = exo_sampler_ask(&p, N, 1);
    assert_false(exo_sampler_draw_top(s, &p, &ask, &top, &d));
    p.top_p = 0.249f; /* one id */
    assert_true(exo_sampler_draw_top(s, &p, &ask, &top, &d));
    assert_int_equal(d.id, 0);
    p.top_p = 0.6f; /* more than the two */
    assert_false(exo_sampler_draw_top(s, &p, &ask, &top, &d));
    exo_sampler_destroy(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy),    cmocka_unit_test(test_plain_temperature),
        cmocka_unit_test(test_top_k),     cmocka_unit_test(test_top_p),
        cmocka_unit_test(test_min_p),     cmocka_unit_test(test_whole_rows),
        cmocka_unit_test(test_left_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
