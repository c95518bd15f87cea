/* session_test.c - the public session: the golden story, prefix reuse, failures.
 *
 * The golden comes from an independent float64 forward pass, so this is the test that says the
 * numbers are right; that they stay the same however they are computed is shard_test.c's part. */
#define _DEFAULT_SOURCE /* mkstemps */
#include <exo/session.h>

#include "base/mem.h"
#include "model/tokenizer.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "engine/testing.h"

#define GOLDEN "stories260K/golden-once-upon-a-time.json"

static exo_session *open_session(exo_model *m, exo_session_desc d) {
    exo_error err = {0};
    exo_session *s = NULL;
    check(exo_session_create(m, &d, &s, &err), &err);
    return s;
}

static void sync_ok(exo_session *s, const int32_t *ids, size_t n) {
    exo_error err = {0};
    check(exo_session_sync(s, (exo_tokens){ids, n}, NULL, NULL, &err), &err);
}

/* ---- the golden story ---- */

static void expect_prompt_ids(const exo_model *m, const json_t *golden, exo_ids *ids) {
    const char *prompt = json_string_value(json_object_get(golden, "prompt"));
    exo_error err = {0};
    check(exo_tokenize(exo_model_tokenizer(m), prompt, strlen(prompt), EXO_TOKENIZE_BOS, ids, &err),
          &err);
    const json_t *expected = json_object_get(golden, "prompt_ids");
    assert_int_equal(ids->n, json_array_size(expected));
    for (size_t i = 0; i < ids->n; i++) {
        assert_int_equal(ids->ids[i], json_integer_value(json_array_get(expected, i)));
    }
}

/* One file of the same model, with the tolerance its rounding allows. */
typedef struct {
    const char *name, *file;
    bool kv_f16;
    double tolerance; /* on the first step's logits */
} story;

static void tells_the_golden_story(void **state) {
    const story *t = *state;
    char path[512];
    snprintf(path, sizeof path, "%s/%s", EXO_SHARED_DATA, GOLDEN);
    exo_model *m = data_model(t->file);
    json_t *golden = json_load_file(path, 0, NULL);
    assert_non_null(golden);
    exo_ids ids = {0};
    expect_prompt_ids(m, golden, &ids);
    exo_session *s = open_session(m, (exo_session_desc){.n_threads = 2, .kv_f16 = t->kv_f16});
    const json_t *expected = json_object_get(golden, "ids");
    const json_t *first = json_object_get(golden, "first_step_logits");
    uint32_t n_vocab = exo_model_hparams(m)->n_vocab;
    size_t n = json_array_size(expected), n_prompt = ids.n;
    int32_t tokens[256];
    assert_int_equal(n, 120);
    assert_int_equal(json_array_size(first), n_vocab);
    memcpy(tokens, ids.ids, n_prompt * sizeof *tokens);
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        sync_ok(s, tokens, n_prompt + i);
        const float *logits = exo_session_logits(s);
        for (size_t k = 0; i == 0 && k < n_vocab; k++) {
            worst = fmax(worst, fabs(json_number_value(json_array_get(first, k)) - logits[k]));
        }
        tokens[n_prompt + i] = arg_max(logits, n_vocab);
        assert_int_equal(tokens[n_prompt + i], json_integer_value(json_array_get(expected, i)));
    }
    print_message("%s: largest difference of the first logits %.2g\n", t->name, worst);
    assert_true(worst <= t->tolerance);
    exo_session_destroy(s);
    exo_ids_finish(&ids);
    json_decref(golden);
    exo_model_unref(m);
}

/* ---- what sync reuses ---- */

typedef struct {
    uint32_t calls, stop_after;
    uint64_t first, done, total;
} sync_log;

static bool log_sync(void *ud, uint64_t done, uint64_t total) {
    sync_log *l = ud;
    if (l->calls++ == 0) l->first = done;
    l->done = done;
    l->total = total;
    return l->calls != l->stop_after;
}

/* Syncs and returns the position of the first token that was computed, for chunks of one row. */
static int first_computed(exo_session *s, const int32_t *ids, size_t n) {
    exo_error err = {0};
    sync_log l = {0};
    check(exo_session_sync(s, (exo_tokens){ids, n}, log_sync, &l, &err), &err);
    assert_non_null(exo_session_logits(s));
    return l.calls == 0 ? -1 : (int)l.first - 1;
}

static void reuses_the_common_prefix(void **state) {
    (void)state;
    exo_model *m = synth_model("test-256", "q8_0");
    uint32_t n_vocab = exo_model_hparams(m)->n_vocab;
    exo_session *s = open_session(m, (exo_session_desc){.n_threads = 1, .prefill_chunk = 1});
    exo_session *fresh = open_session(m, (exo_session_desc){.n_threads = 1});
    int32_t a[40], b[40];
    for (uint32_t i = 0; i < 40; i++) a[i] = b[i] = made_up_token(1, i, n_vocab);
    b[20] = (a[20] + 1) % (int32_t)n_vocab;

    assert_null(exo_session_logits(s));
    assert_int_equal(first_computed(s, a, 30), 0);
    assert_int_equal(first_computed(s, a, 30), -1); /* all there, logits too */
    assert_int_equal(first_computed(s, a, 40), 30); /* goes on */
    assert_int_equal(first_computed(s, a, 25), 24); /* shorter: the last again, for its logits */
    assert_int_equal(first_computed(s, b, 40), 20); /* forks */
    sync_ok(fresh, b, 40);
    assert_memory_equal(exo_session_logits(s), exo_session_logits(fresh), n_vocab * sizeof(float));
    assert_int_equal(first_computed(s, a, 21), 20); /* and back */
    sync_ok(fresh, a, 21);
    assert_memory_equal(exo_session_logits(s), exo_session_logits(fresh), n_vocab * sizeof(float));
    exo_session_destroy(fresh);
    exo_session_destroy(s);
    exo_model_unref(m);
}

static void stops_and_goes_on(void **state) {
    (void)state;
    exo_model *m = synth_model("test-256", "q8_0");
    uint32_t n_vocab = exo_model_hparams(m)->n_vocab;
    exo_session *s = open_session(m, (exo_session_desc){.n_threads = 1, .prefill_chunk = 8});
    exo_error err = {0};
    int32_t ids[40];
    for (uint32_t i = 0; i < 40; i++) ids[i] = made_up_token(1, i, n_vocab);
    sync_log l = {.stop_after = 2};
    const exo_tokens tokens = {ids, 40};
    assert_int_equal(exo_session_sync(s, tokens, log_sync, &l, &err), EXO_ECANCELED);
    assert_int_equal(l.done, 16);
    assert_int_equal(l.total, 40);
    assert_null(exo_session_logits(s));
    l = (sync_log){0};
    assert_int_equal(exo_session_sync(s, tokens, log_sync, &l, &err), EXO_OK);
    assert_int_equal(l.first, 24);
    assert_int_equal(l.done, 40);
    exo_session_destroy(s);
    exo_model_unref(m);
}

/* ---- eval ---- */

typedef struct {
    float *logits; /* (positions, n_vocab) */
    size_t next, n_vocab;
} eval_log;

static void log_eval(void *ud, size_t pos, const float *logits) {
    eval_log *l = ud;
    assert_int_equal(pos, l->next);
    memcpy(l->logits + l->next++ * l->n_vocab, logits, l->n_vocab * sizeof *logits);
}

/* Every position's logits are those that a sync to there gives. */
static void eval_gives_each_position(void **state) {
    (void)state;
    enum { N = 50 };
    exo_model *m = synth_model("test-256", "q8_0");
    uint32_t n_vocab = exo_model_hparams(m)->n_vocab;
    exo_session *s = open_session(m, (exo_session_desc){.n_threads = 2});
    exo_error err = {0};
    int32_t ids[N];
    for (uint32_t i = 0; i < N; i++) ids[i] = made_up_token(2, i, n_vocab);
    eval_log l = {.logits = calloc(N * n_vocab, sizeof(float)), .n_vocab = n_vocab};
    assert_non_null(l.logits);
    const exo_tokens tokens = {ids, N};
    check(exo_session_eval(s, tokens, 0, log_eval, &l, &err), &err);
    assert_int_equal(l.next, N);
    for (size_t n = 1; n <= N; n += 7) {
        sync_ok(s, ids, n);
        assert_memory_equal(exo_session_logits(s), l.logits + (n - 1) * n_vocab,
                            n_vocab * sizeof(float));
    }
    l.next = 13; /* the tail alone, over a cache that is not empty */
    check(exo_session_eval(s, tokens, 13, log_eval, &l, &err), &err);
    assert_int_equal(l.next, N);
    assert_memory_equal(exo_session_logits(s), l.logits + (N - 1) * n_vocab,
                        n_vocab * sizeof(float));
    assert_int_equal(exo_session_eval(s, tokens, N, log_eval, &l, &err), EXO_EINVAL);
    free(l.logits);
    exo_session_destroy(s);
    exo_model_unref(m);
}

/* ---- failures and memory ---- */

static void refuses_what_does_not_fit(void **state) {
    (void)state;
    exo_model *m = synth_model("test-256", "q8_0");
    exo_session *s = open_session(m, (exo_session_desc){.n_threads = 1, .ctx_tokens = 8});
    exo_error err = {0};
    const int32_t ids[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    assert_int_equal(exo_session_ctx(s), 8);
    assert_int_equal(exo_session_sync(s, (exo_tokens){ids, 0}, NULL, NULL, &err), EXO_EINVAL);
    assert_int_equal(exo_session_sync(s, (exo_tokens){ids, 9}, NULL, NULL, &err), EXO_ETOOLONG);
    assert_non_null(strstr(err.message, "9 tokens"));
    assert_non_null(strstr(err.message, "8"));
    sync_ok(s, ids, 8); /* the context may be full */
    const int32_t bad[2] = {1, -5};
    assert_int_equal(exo_session_sync(s, (exo_tokens){bad, 2}, NULL, NULL, &err), EXO_EINVAL);
    assert_non_null(strstr(err.message, "token -5"));
    assert_null(exo_session_logits(s));
    sync_ok(s, ids, 3);
    exo_session_destroy(s);

    assert_int_not_equal(
        exo_session_create(m, &(exo_session_desc){.device = "toaster:0"}, &s, &err), EXO_OK);
    assert_null(s);
    assert_int_equal(exo_session_create(m, &(exo_session_desc){.prefill_chunk = 1 << 20}, &s, &err),
                     EXO_EINVAL);
    assert_null(s);
    exo_session_destroy(NULL);
    exo_model_unref(m);
}

static void a_token_allocates_nothing(void **state) {
    (void)state;
    exo_model *m = synth_model("test-256", "q4_K_M");
    uint32_t n_vocab = exo_model_hparams(m)->n_vocab;
    exo_session *s = open_session(m, (exo_session_desc){.n_threads = 2, .prefill_chunk = 16});
    int32_t ids[100];
    for (uint32_t i = 0; i < 100; i++) ids[i] = made_up_token(3, i, n_vocab);
    sync_ok(s, ids, 1);
    uint64_t before = exo_mem_count();
    for (size_t n = 40; n <= 100; n++) sync_ok(s, ids, n);
    assert_int_equal(exo_mem_count(), before);
    exo_session_destroy(s);
    exo_model_unref(m);
}

static void failed_allocations_leave_nothing(void **state) {
    (void)state;
    exo_model *m = data_model("llama-2-tiny-random.gguf");
    uint64_t k = 0;
    for (bool failed = true; failed;) {
        exo_session *s;
        exo_mem_fail_at(++k);
        exo_status st = exo_session_create(m, &(exo_session_desc){.n_threads = 1}, &s, NULL);
        failed = exo_mem_failed() != 0;
        exo_mem_fail_at(0);
        assert_int_equal(st, failed ? EXO_ENOMEM : EXO_OK);
        exo_session_destroy(s);
    }
    assert_true(k > 20);
    exo_model_unref(m);
}

/* head_dim 4, width 8, a vocabulary of 32000: nothing is a multiple of anything. */
static void runs_odd_shapes(void **state) {
    (void)state;
    exo_model *m = data_model("llama-2-tiny-random.gguf");
    uint32_t n_vocab = exo_model_hparams(m)->n_vocab;
    exo_session *s = open_session(m, (exo_session_desc){.n_threads = 2});
    const int32_t ids[5] = {1, 15043, 3186, 31999, 0};
    sync_ok(s, ids, 5);
    const float *logits = exo_session_logits(s);
    float least = logits[0], most = logits[0];
    for (uint32_t i = 0; i < n_vocab; i++) {
        assert_true(isfinite(logits[i]));
        least = fminf(least, logits[i]);
        most = fmaxf(most, logits[i]);
    }
    assert_true(most > least);
    assert_true(exo_session_weight_bytes(s) > 0 && exo_session_kv_bytes(s) > 0);
    exo_session_destroy(s);
    exo_model_unref(m);
}

#define STORY(story)                                                                               \
    { story.name, tells_the_golden_story, NULL, NULL, &story }

int main(void) {
    static story f32 = {"golden story f32", "stories260K/stories260K-f32.gguf", false, 1e-4};
    static story f16 = {"golden story f16", "stories260K/stories260K-f16.gguf", false, 3e-2};
    static story kv = {"golden story f32, KV f16", "stories260K/stories260K-f32.gguf", true, 3e-2};
    static story both = {"golden story f16, KV f16", "stories260K/stories260K-f16.gguf", true,
                         3e-2};
    const struct CMUnitTest tests[] = {
        STORY(f32),
        STORY(f16),
        STORY(kv),
        STORY(both),
        cmocka_unit_test(reuses_the_common_prefix),
        cmocka_unit_test(stops_and_goes_on),
        cmocka_unit_test(eval_gives_each_position),
        cmocka_unit_test(refuses_what_does_not_fit),
        cmocka_unit_test(a_token_allocates_nothing),
        cmocka_unit_test(failed_allocations_leave_nothing),
        cmocka_unit_test(runs_odd_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
