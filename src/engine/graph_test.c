/* graph_test.c - every architecture: the same bits however its layers are cut, chunked, threaded
 * and on every instruction set; embeddings depend on their own text only.
 *
 * That the bits are the right ones is tests/oracle's part. */
#define _DEFAULT_SOURCE /* mkstemps, setenv */
#include "engine/embed.h"
#include "engine/shard.h"
#include "model/arch.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "engine/testing.h"

#define N_TOKENS 44 /* longer than the windows of the test shapes and than a page */

/* (N_TOKENS, n_vocab) logits of a made-up text, `chunk` rows a step, cut before layer `cut`. */
typedef struct {
    const char *isa;
    uint32_t threads, chunk, cut;
    bool company; /* a row of another sequence in every step */
} way;

static bool compute(exo_model *m, const way *w, float *out) {
    const exo_hparams *h = exo_model_hparams(m);
    exo_shard_desc desc = {
        .ctx_tokens = 64, .max_seqs = 2, .max_rows = 64, .max_logit_rows = 64, .n_pages = 5};
    const exo_device_desc device = {.n_threads = w->threads, .isa = w->isa};
    const uint32_t cuts[MAX_CHAIN - 1] = {w->cut};
    chain c;
    exo_step step;
    exo_error err = {0};
    if (!chain_open(&c, m, &device, cuts, desc)) return false;
    check(exo_step_init(&step, 64, 4, &err), &err);
    for (uint32_t i = 0; i < 4; i++) {
        step.pages[step.n_pages++] = scattered_page(i / 2, i % 2, 2, 5);
    }
    for (uint32_t pos = 0, n; pos < N_TOKENS; pos += n, exo_step_clear(&step)) {
        uint32_t first = 0;
        if (w->company) {
            step.rows[first++] = (exo_row){1, pos / w->chunk, made_up_token(1, pos, h->n_vocab), 0};
        }
        n = N_TOKENS - pos < w->chunk ? N_TOKENS - pos : w->chunk;
        for (uint32_t i = 0; i < n; i++) {
            step.rows[first + i] =
                (exo_row){0, pos + i, made_up_token(0, pos + i, h->n_vocab), EXO_ROW_LOGITS};
        }
        step.n_rows = first + n;
        chain_run(&c, &step);
        for (uint32_t i = 0; i < n; i++) {
            memcpy(out + (size_t)(pos + i) * h->n_vocab, exo_shard_logits(chain_last(&c), i),
                   h->n_vocab * sizeof *out);
        }
    }
    exo_step_finish(&step);
    chain_close(&c);
    return true;
}

/* Two shapes are deep for llama.cpp's sake: their layers repeat every four at the latest. */
static uint32_t n_layers_of(const char *shape) {
    bool deep = strcmp(shape, "test-exaone4") == 0 || strcmp(shape, "test-deepseek2-lite") == 0;
    return deep ? 5 : 0;
}

static void check_shape(const char *shape, const char *type) {
    static const way ways[] = {{"reference", 2, 5, 0, false},
                               {"avx2", 1, 44, 1, false},
                               {NULL, 3, 1, 1, false},
                               {NULL, 2, 7, 2, true},
                               {NULL, 1, 44, 0, true}};
    exo_model *m = synth_model_of(shape, type, n_layers_of(shape));
    size_t n = (size_t)N_TOKENS * exo_model_hparams(m)->n_vocab;
    float *want = calloc(n, sizeof *want), *got = calloc(n, sizeof *got);
    assert_true(want != NULL && got != NULL);
    assert_true(compute(m, &(way){NULL, 1, 44, 0, false}, want));
    for (size_t i = 0; i < n; i++) assert_true(isfinite(want[i]));
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        if (!compute(m, &ways[i], got)) continue;
        if (memcmp(want, got, n * sizeof *want) != 0) fail_msg("%s %s, way %zu", shape, type, i);
    }
    free(want);
    free(got);
    exo_model_unref(m);
}

static bool is_encoder(const char *shape) { return strstr(shape, "bert") != NULL; }

/* Quantised: up to the shape from which on architectures only combine operations of those before.
 */
static void every_architecture_gives_the_same_bits(void **state) {
    bool f32 = strcmp(*state, "f32") == 0;
    for (const char *const *s = exo_synth_shapes(); *s != NULL; s++) {
        if (!f32 && strcmp(*s, "test-olmoe") == 0) break;
        if (strncmp(*s, "test-", 5) == 0 && !is_encoder(*s)) check_shape(*s, *state);
    }
}

/* ---- embeddings ---- */

static void embed(exo_model *m, uint32_t threads, uint32_t n, float *out) {
    int32_t ids[N_TOKENS];
    exo_error err = {0};
    exo_embedder *e = NULL;
    const exo_session_desc d = {.n_threads = threads};
    check(exo_embedder_create(m, &d, &e, &err), &err);
    for (uint32_t i = 0; i < n; i++) ids[i] = made_up_token(2, i, exo_model_hparams(m)->n_vocab);
    if (threads > 1) check(exo_embedder_run(e, (exo_tokens){ids, 9}, out, &err), &err);
    check(exo_embedder_run(e, (exo_tokens){ids, n}, out, &err), &err);
    exo_embedder_destroy(e);
}

static void embeddings_are_of_length_one_and_repeat(void **state) {
    (void)state;
    static const char *const shapes[] = {"test-bert", "test-nomic-bert"};
    for (size_t i = 0; i < 2; i++) {
        exo_model *m = synth_model(shapes[i], "q8_0");
        float a[256], b[256], other[256];
        double squares = 0;
        embed(m, 1, N_TOKENS, a);
        embed(m, 3, N_TOKENS, b); /* after another text */
        assert_memory_equal(a, b, sizeof a);
        setenv("EXO_CPU_ISA", "reference", 1);
        embed(m, 2, N_TOKENS, b);
        unsetenv("EXO_CPU_ISA");
        assert_memory_equal(a, b, sizeof a);
        embed(m, 1, N_TOKENS - 1, other); /* rows see those behind them: another text throughout */
        for (int k = 0; k < 256; k++) squares += (double)a[k] * (double)a[k];
        assert_true(fabs(squares - 1) < 1e-5 && memcmp(a, other, sizeof a) != 0);
        exo_model_unref(m);
    }
}

static void wrong_uses_are_refused(void **state) {
    (void)state;
    exo_error err = {0};
    exo_embedder *e = NULL;
    float out[256];
    exo_model *bert = synth_model("test-bert", "q8_0"), *llama = synth_model("test-256", "q8_0");
    const exo_session_desc d = {.n_threads = 1, .ctx_tokens = 8};
    assert_int_equal(exo_embedder_create(llama, &d, &e, &err), EXO_EUNSUPPORTED);
    assert_non_null(strstr(err.message, "names no pooling"));
    exo_shard_desc text = {.layer_end = 3, .has_embedding = true, .has_head = true};
    assert_int_equal(exo_shard_desc_resolve(bert, &text, &err), EXO_EUNSUPPORTED);
    assert_non_null(strstr(err.message, "exo embed"));
    check(exo_embedder_create(bert, &d, &e, &err), &err);
    const int32_t ids[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9}, beyond = 100000;
    assert_int_equal(exo_embedder_run(e, (exo_tokens){ids, 9}, out, &err), EXO_ETOOLONG);
    assert_int_equal(exo_embedder_run(e, (exo_tokens){ids, 0}, out, &err), EXO_EINVAL);
    assert_int_equal(exo_embedder_run(e, (exo_tokens){&beyond, 1}, out, &err), EXO_EINVAL);
    exo_embedder_destroy(e);
    exo_model_unref(bert);
    exo_model_unref(llama);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        {"the same bits, f32", every_architecture_gives_the_same_bits, NULL, NULL, "f32"},
        {"the same bits, q4_K_M", every_architecture_gives_the_same_bits, NULL, NULL, "q4_K_M"},
        cmocka_unit_test(embeddings_are_of_length_one_and_repeat),
        cmocka_unit_test(wrong_uses_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
