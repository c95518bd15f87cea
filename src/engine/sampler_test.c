/* The sampler against published vectors, plain definitions and statistics with fixed seeds. */
#include "engine/sampler.h"

#include "base/mem.h"
#include "compute/dmath.h"
#include "engine/gumbel.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t rng_state;

static uint32_t rng(void) { /* splitmix64, upper half */
    uint64_t z = rng_state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (uint32_t)(z >> 32);
}

static float rng_f(float lo, float hi) { return lo + (hi - lo) * (float)(rng() >> 8) * 0x1p-24f; }

/* Logits as models make them (a bump), flat, or with many ties. */
static void random_logits(float *logits, uint32_t n) {
    uint32_t kind = rng() % 4;
    for (uint32_t i = 0; i < n; i++) {
        float x = rng_f(-4, 4) + rng_f(-4, 4) + rng_f(-4, 4);
        logits[i] = kind == 0 ? x : kind == 1 ? 3 * x : kind == 2 ? roundf(x) : rng_f(-0.1f, 0.1f);
    }
    if (rng() % 4 == 0) logits[rng() % n] = NAN;
    if (rng() % 4 == 0) logits[rng() % n] = -INFINITY;
}

static exo_draw draw(exo_sampler *s, const exo_sampling *p, exo_tokens history, size_t n_prompt,
                     const float *logits) {
    exo_draw d;
    exo_error err = {0};
    if (exo_sampler_draw(s, p, history, n_prompt, logits, &d, &err) != EXO_OK)
        fail_msg("%s", err.message);
    return d;
}

/* ---- the plain definitions ---- */

typedef struct {
    double p, key;
    float logit;
    int32_t id;
} plain_candidate;

static int by_key(const void *a, const void *b) {
    const plain_candidate *x = a, *y = b;
    if (x->key != y->key) return x->key > y->key ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

static void plain_softmax(plain_candidate *c, uint32_t n) {
    double max = -DBL_MAX, sum = 0;
    for (uint32_t i = 0; i < n; i++) max = fmax(max, (double)c[i].logit);
    for (uint32_t i = 0; i < n; i++) sum += c[i].p = exp((double)c[i].logit - max);
    for (uint32_t i = 0; i < n; i++) c[i].p /= sum;
}

/* Sorted by logit on the way in. */
static uint32_t plain_typical(plain_candidate *c, uint32_t n, double p) {
    double entropy = 0, sum = 0;
    plain_softmax(c, n);
    for (uint32_t i = 0; i < n; i++) entropy -= c[i].p > 0 ? c[i].p * log(c[i].p) : 0;
    for (uint32_t i = 0; i < n; i++) c[i].key = -fabs(-log(c[i].p) - entropy);
    qsort(c, n, sizeof *c, by_key);
    for (uint32_t i = 0; i < n; i++) {
        sum += c[i].p;
        if (sum > p) n = i + 1;
    }
    for (uint32_t i = 0; i < n; i++) c[i].key = (double)c[i].logit;
    qsort(c, n, sizeof *c, by_key);
    return n;
}

static uint32_t plain_top_p(plain_candidate *c, uint32_t n, double p) {
    double sum = 0;
    plain_softmax(c, n);
    for (uint32_t i = 0; i < n; i++) {
        sum += c[i].p;
        if (sum >= p) return i + 1;
    }
    return n;
}

static uint32_t plain_filters(const exo_sampling *p, const float *logits, uint32_t n_vocab,
                              plain_candidate *c) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < n_vocab; i++) {
        if (isfinite(logits[i]))
            c[n++] =
                (plain_candidate){.logit = logits[i], .key = (double)logits[i], .id = (int32_t)i};
    }
    qsort(c, n, sizeof *c, by_key);
    if (p->top_k > 0 && p->top_k < n) n = p->top_k;
    if (p->typical_p > 0 && p->typical_p < 1) n = plain_typical(c, n, (double)p->typical_p);
    if (p->top_p > 0 && p->top_p < 1) n = plain_top_p(c, n, (double)p->top_p);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        bool keep = p->min_p == 0 ||
                    (double)c[i].logit >= (double)c[0].logit + log((double)p->min_p) || i == 0;
        if (keep) c[kept++] = c[i];
    }
    return kept;
}

static int32_t plain_draw(const exo_sampling *p, uint32_t position, const float *logits,
                          uint32_t n_vocab) {
    plain_candidate *c = malloc(n_vocab * sizeof *c);
    assert_non_null(c);
    uint32_t n = plain_filters(p, logits, n_vocab, c);
    int32_t best = -1;
    double best_score = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t counter[4] = {(uint32_t)c[i].id >> 1, position, p->choice, 0}, out[4];
        uint32_t key[2] = {(uint32_t)p->seed, (uint32_t)(p->seed >> 32)};
        exo_philox(counter, key, out);
        const uint32_t *words = c[i].id % 2 == 0 ? out : out + 2;
        uint64_t bits = words[0] | (uint64_t)words[1] << 32;
        double u = ((double)(bits >> 12) + 0.5) / 0x1p52;
        double score = (double)c[i].logit / (double)p->temperature - exo_dlog(-exo_dlog(u));
        if (best >= 0 && (score < best_score || (score == best_score && c[i].id > best))) continue;
        best = c[i].id;
        best_score = score;
    }
    free(c);
    return best;
}

/* ---- tests ---- */

static void test_philox_known_answers(void **state) {
    (void)state;
    static const uint32_t vectors[3][10] = {
        /* counter, key, result: Random123 kat_vectors, philox4x32 with 10 rounds */
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d,
         0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09,
         0x94fdcceb, 0x5001e420, 0x24126ea1},
    };
    for (int i = 0; i < 3; i++) {
        uint32_t out[4];
        exo_philox(vectors[i], vectors[i] + 4, out);
        assert_memory_equal(out, vectors[i] + 6, sizeof out);
    }
}

static void test_draws_are_pinned(void **state) {
    (void)state;
    float logits[1000];
    for (int i = 0; i < 1000; i++) logits[i] = (float)((i * 7919) % 1000) / 250;
    exo_sampler *s;
    assert_int_equal(exo_sampler_create(1000, &s, NULL), EXO_OK);
    exo_sampling p = {.temperature = 1, .seed = 0x123456789ABCDEF0};
    int32_t history[8] = {0}, drawn[8];
    for (size_t i = 0; i < 8; i++) drawn[i] = draw(s, &p, (exo_tokens){history, i}, 0, logits).id;
    static const int32_t expected[8] = {76, 683, 4, 60, 991, 322, 681, 694};
    assert_memory_equal(drawn, expected, sizeof drawn);
    exo_sampler_destroy(s);
}

static void test_pruned_argmax_equals_plain_definition(void **state) {
    (void)state;
    rng_state = 11;
    enum { N = 3001 };
    static float logits[N];
    for (int round = 0; round < 400; round++) {
        random_logits(logits, N);
        if (round % 10 == 0) /* equal scores happen where the noise drowns in the logit */
            for (int i = 0; i < N; i++) logits[i] = 1e30f;
        exo_gumbel g = {.seed = (uint64_t)rng() << 32 | rng(),
                        .choice = rng() % 3,
                        .position = rng(),
                        .temperature = round % 3 == 0 ? 1 : rng_f(0.01f, 5)};
        int32_t best = -1;
        for (int32_t i = 0; i < N; i++) {
            if (!isfinite(logits[i])) continue;
            if (best < 0 ||
                exo_gumbel_score(&g, i, logits[i]) > exo_gumbel_score(&g, best, logits[best]))
                best = i;
        }
        assert_int_equal(exo_gumbel_argmax(&g, logits, NULL, N), best);
    }
}

static void test_argmax_over_any_order_of_ids(void **state) {
    (void)state;
    rng_state = 12;
    enum { N = 500 };
    float logits[N];
    int32_t ids[N];
    for (int32_t i = 0; i < N; i++) ids[i] = i;
    for (int round = 0; round < 100; round++) {
        random_logits(logits, N);
        if (round % 10 == 0)
            for (int i = 0; i < N; i++) logits[i] = 1e30f;
        for (uint32_t i = N - 1; i > 0; i--) {
            uint32_t j = rng() % (i + 1);
            int32_t t = ids[i];
            ids[i] = ids[j];
            ids[j] = t;
        }
        exo_gumbel g = {.seed = rng(), .position = rng(), .temperature = 0.8f};
        assert_int_equal(exo_gumbel_argmax(&g, logits, ids, N),
                         exo_gumbel_argmax(&g, logits, NULL, N));
        assert_int_equal(exo_logits_argmax(logits, ids, N), exo_logits_argmax(logits, NULL, N));
    }
}

static void test_filters_equal_plain_reference(void **state) {
    (void)state;
    rng_state = 13;
    static const uint32_t sizes[] = {1, 2, 7, 64, 1000, 5000};
    for (int round = 0; round < 3000; round++) {
        uint32_t n = sizes[rng() % 6];
        static float logits[5000];
        random_logits(logits, n);
        logits[0] = 0; /* one finite logit at least */
        exo_sampling p = {.temperature = rng_f(0.1f, 2), .seed = rng(), .choice = rng() % 2};
        if (rng() % 2 == 0) p.top_k = 1 + rng() % (n + 2);
        if (rng() % 3 == 0) p.typical_p = rng_f(0.01f, 1);
        if (rng() % 2 == 0) p.top_p = rng_f(0.01f, 1);
        if (rng() % 3 == 0) p.min_p = rng_f(0.001f, 1);
        exo_sampler *s;
        assert_int_equal(exo_sampler_create(n, &s, NULL), EXO_OK);
        int32_t history[16] = {0};
        uint32_t position = rng() % 16;
        int32_t id = draw(s, &p, (exo_tokens){history, position}, 0, logits).id;
        int32_t plain = plain_draw(&p, position, logits, n);
        if (id != plain)
            fail_msg("round %d, n %u, k %u, typical %g, top_p %g, min_p %g: %d, not %d", round, n,
                     p.top_k, (double)p.typical_p, (double)p.top_p, (double)p.min_p, id, plain);
        exo_sampler_destroy(s);
    }
}

/* Draws at many positions must follow the given probabilities: chi-square over the ids expected
 * at least 8 times, with 5 sigma of its normal approximation. */
static void assert_distribution(const exo_sampling *p, const float *logits, uint32_t n,
                                const double *expected) {
    enum { DRAWS = 20000 };
    exo_sampler *s;
    assert_int_equal(exo_sampler_create(n, &s, NULL), EXO_OK);
    int32_t *history = calloc(DRAWS, sizeof *history);
    uint32_t *count = calloc(n, sizeof *count);
    for (size_t i = 0; i < DRAWS; i++) count[draw(s, p, (exo_tokens){history, i}, 0, logits).id]++;
    double chi = 0, freedom = -1;
    for (uint32_t i = 0; i < n; i++) {
        double e = expected[i] * DRAWS;
        if (e == 0) assert_int_equal(count[i], 0);
        if (e < 8) continue;
        chi += ((double)count[i] - e) * ((double)count[i] - e) / e;
        freedom++;
    }
    if (fabs(chi - freedom) > 5 * sqrt(2 * freedom))
        fail_msg("chi-square %g with %g degrees of freedom", chi, freedom);
    free(count);
    free(history);
    exo_sampler_destroy(s);
}

static void test_frequencies_follow_softmax(void **state) {
    (void)state;
    rng_state = 14;
    enum { N = 200 };
    float logits[N];
    double expected[N];
    for (int i = 0; i < N; i++) logits[i] = rng_f(-3, 3);
    static const float temperatures[] = {0.5f, 1, 2.5f};
    for (int t = 0; t < 3; t++) {
        double sum = 0;
        for (int i = 0; i < N; i++)
            sum += expected[i] = exp((double)logits[i] / (double)temperatures[t]);
        for (int i = 0; i < N; i++) expected[i] /= sum;
        exo_sampling p = {.temperature = temperatures[t], .seed = 77 + (uint64_t)t};
        assert_distribution(&p, logits, N, expected);
        p.choice = 1;
        assert_distribution(&p, logits, N, expected);
    }
}

static void test_frequencies_follow_filtered_softmax(void **state) {
    (void)state;
    rng_state = 15;
    enum { N = 300 };
    float logits[N];
    for (int i = 0; i < N; i++) logits[i] = rng_f(-3, 3);
    exo_sampling p = {.temperature = 0.9f, .seed = 5, .top_k = 60, .top_p = 0.8f, .min_p = 0.05f};
    plain_candidate c[N];
    double expected[N] = {0}, sum = 0;
    uint32_t n = plain_filters(&p, logits, N, c);
    assert_in_range(n, 5, 59);
    for (uint32_t i = 0; i < n; i++)
        sum += expected[c[i].id] = exp((double)c[i].logit / (double)p.temperature);
    for (int i = 0; i < N; i++) expected[i] /= sum;
    assert_distribution(&p, logits, N, expected);
}

static void test_seed_choice_and_position_matter(void **state) {
    (void)state;
    enum { N = 1000 };
    static float logits[N]; /* flat */
    exo_sampler *s;
    assert_int_equal(exo_sampler_create(N, &s, NULL), EXO_OK);
    int32_t history[64] = {0};
    int same_seed = 0, same_choice = 0, same_position = 0, same_high = 0;
    for (size_t i = 1; i < 64; i++) {
        exo_sampling p = {.temperature = 1, .seed = 9};
        int32_t a = draw(s, &p, (exo_tokens){history, i}, 0, logits).id;
        assert_int_equal(draw(s, &p, (exo_tokens){history, i}, 0, logits).id, a);
        same_position += draw(s, &p, (exo_tokens){history, i - 1}, 0, logits).id == a;
        p.choice = 1;
        same_choice += draw(s, &p, (exo_tokens){history, i}, 0, logits).id == a;
        p.choice = 0;
        p.seed = 10;
        same_seed += draw(s, &p, (exo_tokens){history, i}, 0, logits).id == a;
        p.seed = 9 + (UINT64_C(1) << 32);
        same_high += draw(s, &p, (exo_tokens){history, i}, 0, logits).id == a;
    }
    assert_in_range(same_seed, 0, 3);
    assert_in_range(same_choice, 0, 3);
    assert_in_range(same_position, 0, 3);
    assert_in_range(same_high, 0, 3);
    exo_sampler_destroy(s);
}

static void test_greedy_takes_the_lowest_of_equal_ids(void **state) {
    (void)state;
    float logits[6] = {NAN, 1, 3, INFINITY, 3, -INFINITY};
    exo_sampler *s;
    assert_int_equal(exo_sampler_create(6, &s, NULL), EXO_OK);
    exo_sampling p = {0};
    assert_int_equal(draw(s, &p, (exo_tokens){0}, 0, logits).id, 2);
    exo_logit_bias bias[] = {{.id = 1, .bias = 2.5f}, {.id = 99, .bias = 100}};
    p.bias = bias;
    p.n_bias = 2;
    assert_int_equal(draw(s, &p, (exo_tokens){0}, 0, logits).id, 1);
    exo_sampler_destroy(s);
}

static void test_penalties(void **state) {
    (void)state;
    float logits[4] = {2, 1.9f, -1, -1.1f};
    exo_sampler *s;
    assert_int_equal(exo_sampler_create(4, &s, NULL), EXO_OK);
    const int32_t prompt_0[] = {0}, twice_0[] = {3, 0, 0};
    exo_sampling p = {.repeat_penalty = 1.1f};
    /* 2 / 1.1 < 1.9: repetition counts in the prompt as well */
    assert_int_equal(draw(s, &p, (exo_tokens){prompt_0, 1}, 1, logits).id, 1);
    p.repeat_penalty = 1.04f; /* once, however often it stands there */
    assert_int_equal(draw(s, &p, (exo_tokens){twice_0, 3}, 3, logits).id, 0);
    p = (exo_sampling){.repeat_penalty = 1.1f, .repeat_last_n = 2};
    const int32_t far[] = {0, 3, 3};
    assert_int_equal(draw(s, &p, (exo_tokens){far, 3}, 3, logits).id, 0); /* out of the window */
    p.repeat_last_n = 3;
    assert_int_equal(draw(s, &p, (exo_tokens){far, 3}, 3, logits).id, 1);
    /* presence: once; frequency: for each; both only where generated */
    p = (exo_sampling){.presence_penalty = 0.2f};
    assert_int_equal(draw(s, &p, (exo_tokens){twice_0, 3}, 3, logits).id, 0);
    assert_int_equal(draw(s, &p, (exo_tokens){twice_0, 3}, 2, logits).id, 1);
    p = (exo_sampling){.frequency_penalty = 0.06f};
    assert_int_equal(draw(s, &p, (exo_tokens){twice_0, 3}, 2, logits).id, 0);
    assert_int_equal(draw(s, &p, (exo_tokens){twice_0, 3}, 1, logits).id, 1);
    /* negative logits are multiplied */
    float negative[4] = {-1, -1.05f, -9, -9};
    p = (exo_sampling){.repeat_penalty = 1.1f};
    assert_int_equal(draw(s, &p, (exo_tokens){prompt_0, 1}, 1, negative).id, 1);
    /* nothing stays behind in the scratch, and strange ids do no harm */
    const int32_t strange[] = {-1, 4, INT32_MAX};
    assert_int_equal(draw(s, &p, (exo_tokens){strange, 3}, 1, negative).id, 0);
    exo_sampler_destroy(s);
}

static void test_logprobs_are_of_the_raw_logits(void **state) {
    (void)state;
    rng_state = 16;
    enum { N = 2000 };
    static float logits[N];
    for (int round = 0; round < 50; round++) {
        random_logits(logits, N);
        exo_logit_bias bias = {.id = 5, .bias = 100};
        exo_sampling p = {.temperature = 0.7f,
                          .seed = 3,
                          .top_k = 3,
                          .n_logprobs = 1 + rng() % EXO_MAX_LOGPROBS,
                          .bias = &bias,
                          .n_bias = 1};
        logits[5] = -2;
        exo_sampler *s;
        assert_int_equal(exo_sampler_create(N, &s, NULL), EXO_OK);
        exo_draw d = draw(s, &p, (exo_tokens){0}, 0, logits);
        assert_int_equal(d.id, 5);
        plain_candidate c[N];
        uint32_t n = plain_filters(&(exo_sampling){0}, logits, N, c);
        plain_softmax(c, n);
        assert_int_equal(d.n_top, p.n_logprobs);
        for (uint32_t i = 0; i < d.n_top; i++) {
            assert_int_equal(d.top[i].id, c[i].id);
            assert_true(fabs((double)d.top[i].logprob - log(c[i].p)) < 1e-6);
        }
        double own = 0;
        for (uint32_t i = 0; i < n; i++)
            if (c[i].id == 5) own = log(c[i].p);
        assert_true(fabs((double)d.logprob - own) < 1e-5);
        p.n_logprobs = 0;
        assert_true(draw(s, &p, (exo_tokens){0}, 0, logits).logprob == 0);
        p.want_logprobs = true;
        exo_draw again = draw(s, &p, (exo_tokens){0}, 0, logits);
        assert_true(again.logprob == d.logprob && again.n_top == 0);
        exo_sampler_destroy(s);
    }
}

static void test_no_finite_logit_is_an_error(void **state) {
    (void)state;
    float logits[3] = {NAN, INFINITY, -INFINITY};
    exo_sampler *s;
    assert_int_equal(exo_sampler_create(3, &s, NULL), EXO_OK);
    exo_draw d;
    exo_error err = {0};
    exo_sampling p = {.temperature = 1, .n_logprobs = 5};
    assert_int_equal(exo_sampler_draw(s, &p, (exo_tokens){0}, 0, logits, &d, &err), EXO_EINTERNAL);
    assert_non_null(strstr(err.message, "logits"));
    exo_sampler_destroy(s);
}

static void test_create_refuses_and_survives(void **state) {
    (void)state;
    exo_sampler *s;
    assert_int_equal(exo_sampler_create(0, &s, NULL), EXO_EUNSUPPORTED);
    assert_int_equal(exo_sampler_create(UINT32_MAX, &s, NULL), EXO_EUNSUPPORTED);
    assert_null(s);
    for (uint64_t k = 1; k <= 5; k++) {
        exo_mem_fail_at(k);
        assert_int_equal(exo_sampler_create(100, &s, NULL), EXO_ENOMEM);
        assert_null(s);
    }
    exo_mem_fail_at(0);
    exo_sampler_destroy(NULL);
}

static void test_draws_allocate_nothing(void **state) {
    (void)state;
    rng_state = 17;
    static float logits[4000];
    random_logits(logits, 4000);
    exo_sampler *s;
    assert_int_equal(exo_sampler_create(4000, &s, NULL), EXO_OK);
    exo_sampling p = {.temperature = 1,
                      .top_k = 50,
                      .typical_p = 0.9f,
                      .top_p = 0.9f,
                      .min_p = 0.01f,
                      .repeat_penalty = 1.2f,
                      .n_logprobs = 20};
    const int32_t history[] = {1, 2, 3};
    uint64_t before = exo_mem_count();
    for (int i = 0; i < 20; i++) draw(s, &p, (exo_tokens){history, 3}, 1, logits);
    assert_true(exo_mem_count() == before);
    exo_sampler_destroy(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox_known_answers),
        cmocka_unit_test(test_draws_are_pinned),
        cmocka_unit_test(test_pruned_argmax_equals_plain_definition),
        cmocka_unit_test(test_argmax_over_any_order_of_ids),
        cmocka_unit_test(test_filters_equal_plain_reference),
        cmocka_unit_test(test_frequencies_follow_softmax),
        cmocka_unit_test(test_frequencies_follow_filtered_softmax),
        cmocka_unit_test(test_seed_choice_and_position_matter),
        cmocka_unit_test(test_greedy_takes_the_lowest_of_equal_ids),
        cmocka_unit_test(test_penalties),
        cmocka_unit_test(test_logprobs_are_of_the_raw_logits),
        cmocka_unit_test(test_no_finite_logit_is_an_error),
        cmocka_unit_test(test_create_refuses_and_survives),
        cmocka_unit_test(test_draws_allocate_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
