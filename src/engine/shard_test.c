/* shard_test.c - a shard computes the same bits however its model, steps and pages are cut.
 *
 * The hash of all logits of one sequence stands for its bits.  Each test changes one thing that
 * must not matter and compares hashes; that the hash is of the right numbers is session_test.c's
 * golden to say. */
#define _DEFAULT_SOURCE /* mkstemps */
#include "engine/shard.h"

#include "base/hash.h"
#include "base/le.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "engine/testing.h"

#define N_PROMPT 75 /* crosses two page boundaries */
#define N_DECODE 6
#define N_OTHERS 7
#define MAX_ROWS (512 + 3 * N_OTHERS)
#define CTX      352 /* 11 pages, and more than one attention split */

static const uint32_t no_cuts[MAX_CHAIN - 1] = {0};

/* One way to compute the same sequence. */
typedef struct {
    const char *isa; /* NULL = best */
    uint32_t n_threads;
    uint32_t chunk; /* prompt rows per step */
    uint32_t cuts[MAX_CHAIN - 1];
    bool crowded; /* seven other sequences in the same steps, pages scattered */
    bool wire_f16;
    exo_dtype kv_type;
    uint32_t n_prompt; /* 0 = N_PROMPT */
} way;

typedef struct {
    char hex[EXO_SHA256_HEX_BYTES]; /* "" when this machine cannot go that way */
} bits;

/* Page entries for every page of a sequence that ends before n_tokens. */
static void give_pages(exo_step *step, const way *w, uint32_t seq, uint32_t n_tokens,
                       uint32_t n_pages) {
    uint32_t seq_pages = CTX / EXO_KV_PAGE_TOKENS;
    for (uint32_t i = 0; i * EXO_KV_PAGE_TOKENS < n_tokens; i++) {
        step->pages[step->n_pages++] = w->crowded ? scattered_page(seq, i, seq_pages, n_pages)
                                                  : (exo_page_entry){seq, i, seq * seq_pages + i};
    }
}

/* One to three rows of each other sequence in [first, end): all at different lengths.  Every
 * second sequence asks for logits, so that ours are not the only ones. */
static void add_others(exo_step *step, uint32_t first, uint32_t end, uint32_t n_vocab) {
    for (uint32_t seq = first; seq < end; seq++) {
        uint32_t n = seq % 3 + 1, pos = (uint32_t)step->number * n;
        for (uint32_t i = 0; i < n && pos + i < CTX; i++) {
            step->rows[step->n_rows++] = (exo_row){.seq = seq,
                                                   .pos = pos + i,
                                                   .token = made_up_token(seq, pos + i, n_vocab),
                                                   .flags = seq % 2 != 0 ? EXO_ROW_LOGITS : 0u};
        }
    }
}

/* Runs one step of our rows [pos, pos + n) among the others; hashes our logits and returns the
 * most likely next token. */
static int32_t run_step(const chain *c, const way *w, exo_step *step, exo_sha256 *hash,
                        uint32_t ours, uint32_t pos, uint32_t n, const int32_t *tokens) {
    const exo_shard *last = chain_last(c);
    uint32_t n_vocab = exo_model_hparams(exo_shard_model(last))->n_vocab;
    step->n_rows = 0;
    if (w->crowded) add_others(step, 0, ours, n_vocab);
    uint32_t before = exo_step_n_logits(step);
    for (uint32_t i = 0; i < n; i++) {
        step->rows[step->n_rows++] = (exo_row){
            .seq = ours, .pos = pos + i, .token = tokens[pos + i], .flags = EXO_ROW_LOGITS};
    }
    if (w->crowded) add_others(step, ours + 1, N_OTHERS + 1, n_vocab);
    chain_run(c, step);
    step->number++;
    step->n_pages = 0;
    for (uint32_t i = 0; i < n; i++) {
        exo_sha256_update(hash, exo_shard_logits(last, before + i), n_vocab * sizeof(float));
    }
    return arg_max(exo_shard_logits(last, before + n - 1), n_vocab);
}

static bits compute(exo_model *m, const way *w) {
    bits result = {""};
    chain c;
    const exo_device_desc device = {.isa = w->isa, .n_threads = w->n_threads};
    const uint32_t n_pages = 10 * (CTX / EXO_KV_PAGE_TOKENS), ours = w->crowded ? 4 : 0;
    const exo_shard_desc desc = {.kv_type = w->kv_type,
                                 .wire_f16 = w->wire_f16,
                                 .ctx_tokens = CTX,
                                 .max_rows = MAX_ROWS,
                                 .max_logit_rows = MAX_ROWS,
                                 .n_pages = n_pages};
    if (!chain_open(&c, m, &device, w->cuts, desc)) return result;
    exo_step step;
    assert_int_equal(exo_step_init(&step, MAX_ROWS, 1024, NULL), EXO_OK);
    exo_sha256 *hash = exo_sha256_create();
    uint32_t n_vocab = exo_model_hparams(m)->n_vocab,
             n_prompt = w->n_prompt ? w->n_prompt : N_PROMPT;
    int32_t tokens[CTX];
    for (uint32_t i = 0; i < n_prompt; i++) tokens[i] = made_up_token(99, i, n_vocab);
    for (uint32_t seq = 0; seq <= (w->crowded ? N_OTHERS : 0); seq++) {
        give_pages(&step, w, seq, CTX, n_pages);
    }
    int32_t next = 0;
    for (uint32_t pos = 0; pos < n_prompt; pos += w->chunk) {
        uint32_t n = n_prompt - pos < w->chunk ? n_prompt - pos : w->chunk;
        next = run_step(&c, w, &step, hash, ours, pos, n, tokens);
    }
    for (uint32_t pos = n_prompt; pos < n_prompt + N_DECODE; pos++) {
        tokens[pos] = next;
        next = run_step(&c, w, &step, hash, ours, pos, 1, tokens);
    }
    uint8_t digest[EXO_SHA256_BYTES];
    exo_sha256_peek(hash, digest);
    exo_hex(digest, sizeof digest, result.hex);
    exo_sha256_destroy(hash);
    exo_step_finish(&step);
    chain_close(&c);
    return result;
}

static void expect_same(exo_model *m, const way *w, const bits *expected, const char *what) {
    bits b = compute(m, w);
    if (b.hex[0] == '\0') {
        print_message("not on this machine: %s\n", what);
    } else if (strcmp(b.hex, expected->hex) != 0) {
        fail_msg("%s changes the logits' bits", what);
    }
}

/* A random model; the thorough ones go every way, the others all the differences at once. */
typedef struct {
    const char *name, *shape, *type;
    bool thorough;
} subject;

static void every_chunk_and_thread(exo_model *m, const bits *base) {
    static const uint32_t chunks[] = {1, 7, 32};
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
        expect_same(m, &(way){.n_threads = 1, .chunk = chunks[i]}, base, "a chunk size");
    }
    expect_same(m, &(way){.n_threads = 2, .chunk = 32}, base, "a second thread");
    expect_same(m, &(way){.n_threads = 3, .chunk = 7}, base, "a third thread");
    expect_same(m, &(way){.n_threads = 2, .chunk = 512, .crowded = true}, base, "company");
}

static void every_cut(exo_model *m, const bits *base) {
    uint32_t n_layers = exo_model_hparams(m)->n_layers;
    for (uint32_t a = 1; a < n_layers; a++) {
        expect_same(m, &(way){.n_threads = 1, .chunk = 32, .cuts = {a}}, base, "a cut in two");
        for (uint32_t b = a + 1; b < n_layers; b++) {
            expect_same(m, &(way){.n_threads = 2, .chunk = 32, .cuts = {a, b}}, base,
                        "a cut in three");
        }
    }
}

/* Against one thread, the whole prompt in one step, alone. */
static void same_bits_every_way(void **state) {
    const subject *t = *state;
    exo_model *m = synth_model(t->shape, t->type);
    const bits base = compute(m, &(way){.n_threads = 1, .chunk = 512});
    assert_true(base.hex[0] != '\0');
    expect_same(m, &(way){.n_threads = 3, .chunk = 7, .cuts = {1}, .crowded = true}, &base,
                "company, a cut, threads or a chunk size");
    static const char *const isas[] = {"reference", "avx2", "avx512", "neon"};
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        expect_same(m, &(way){.isa = isas[i], .n_threads = 2, .chunk = 32}, &base, isas[i]);
    }
    if (t->thorough) {
        every_chunk_and_thread(m, &base);
        every_cut(m, &base);
    }
    exo_model_unref(m);
}

/* Positions beyond the first attention split of 256. */
static void same_bits_beyond_a_split(void **state) {
    (void)state;
    exo_model *m = synth_model("test-256", "q8_0");
    const bits base = compute(m, &(way){.n_threads = 1, .chunk = 512, .n_prompt = 300});
    expect_same(m, &(way){.n_threads = 2, .chunk = 7, .n_prompt = 300}, &base, "a chunk of 7");
    expect_same(m, &(way){.n_threads = 2, .chunk = 32, .n_prompt = 300, .crowded = true}, &base,
                "company");
    exo_model_unref(m);
}

/* With f16 on the wire the cut is invisible, but the rounding is real. */
static void f16_wire_hides_cuts(void **state) {
    (void)state;
    exo_model *m = synth_model("test-256", "q8_0");
    uint32_t n_layers = exo_model_hparams(m)->n_layers;
    const bits exact = compute(m, &(way){.n_threads = 1, .chunk = 32});
    const bits base = compute(m, &(way){.n_threads = 1, .chunk = 32, .wire_f16 = true});
    assert_string_not_equal(base.hex, exact.hex);
    for (uint32_t a = 1; a < n_layers; a++) {
        expect_same(m, &(way){.n_threads = 2, .chunk = 7, .cuts = {a}, .wire_f16 = true}, &base,
                    "a cut with f16 wire");
    }
    exo_model_unref(m);
}

static void f16_cache_hides_cuts_and_chunks(void **state) {
    (void)state;
    exo_model *m = synth_model("test-256", "f16");
    const bits exact = compute(m, &(way){.n_threads = 1, .chunk = 32});
    const bits base = compute(m, &(way){.n_threads = 1, .chunk = 512, .kv_type = EXO_F16});
    assert_string_not_equal(base.hex, exact.hex);
    expect_same(m, &(way){.n_threads = 2, .chunk = 7, .kv_type = EXO_F16, .crowded = true}, &base,
                "company with f16 cache");
    expect_same(m, &(way){.n_threads = 1, .chunk = 1, .cuts = {1}, .kv_type = EXO_F16}, &base,
                "a cut with f16 cache");
    expect_same(m, &(way){.isa = "reference", .n_threads = 2, .chunk = 32, .kv_type = EXO_F16},
                &base, "the reference with f16 cache");
    exo_model_unref(m);
}

/* In q8_0 rows of a page are quantised one by one, so that no cut of the steps shows. */
static void q8_0_cache_hides_cuts_and_chunks(void **state) {
    (void)state;
    exo_model *m = synth_model("test-256", "q8_0");
    const exo_dtype q8 = EXO_Q8_0;
    const bits f16 = compute(m, &(way){.n_threads = 1, .chunk = 512, .kv_type = EXO_F16});
    const bits base =
        compute(m, &(way){.n_threads = 1, .chunk = 512, .kv_type = q8, .n_prompt = 300});
    assert_string_not_equal(base.hex, f16.hex);
    expect_same(m, &(way){.n_threads = 2, .chunk = 7, .kv_type = q8, .n_prompt = 300}, &base,
                "a second thread with q8_0 cache");
    expect_same(
        m, &(way){.n_threads = 3, .chunk = 32, .kv_type = q8, .n_prompt = 300, .crowded = true},
        &base, "company with q8_0 cache");
    expect_same(m, &(way){.n_threads = 1, .chunk = 64, .cuts = {1}, .kv_type = q8, .n_prompt = 300},
                &base, "a cut with q8_0 cache");
    expect_same(
        m, &(way){.isa = "reference", .n_threads = 2, .chunk = 32, .kv_type = q8, .n_prompt = 300},
        &base, "the reference with q8_0 cache");
    exo_model_unref(m);
}

/* ---- what is refused ---- */

static void refuse_desc(const exo_model *m, exo_shard_desc d, exo_status expected,
                        const char *why) {
    exo_error err = {0};
    const exo_shard_desc before = d;
    assert_int_equal(exo_shard_desc_resolve(m, &d, &err), expected);
    if (strstr(err.message, why) == NULL) fail_msg("'%s' lacks '%s'", err.message, why);
    assert_memory_equal(&d, &before, sizeof d);
}

static void refuses_bad_descriptions(void **state) {
    (void)state;
    exo_model *m = synth_model("test-256", "q8_0");
    const exo_hparams *h = exo_model_hparams(m);
    const exo_shard_desc good = {.layer_end = h->n_layers, .has_embedding = true, .has_head = true};
    exo_shard_desc d = good;
    d.layer_end = h->n_layers + 1;
    refuse_desc(m, d, EXO_EINVAL, "layers [0, ");
    d.layer_begin = d.layer_end = 1;
    refuse_desc(m, d, EXO_EINVAL, "layers [1, 1)");
    d = good, d.layer_begin = 1;
    refuse_desc(m, d, EXO_EINVAL, "embedding");
    d = good, d.layer_end = 1;
    refuse_desc(m, d, EXO_EINVAL, "head");
    d = good, d.rank = 1, d.n_ranks = 2;
    refuse_desc(m, d, EXO_EUNSUPPORTED, "tensor parallelism");
    d = good, d.kv_type = EXO_Q4_0;
    refuse_desc(m, d, EXO_EUNSUPPORTED, "q8_0");
    d = good, d.ctx_tokens = h->ctx_train + 1;
    refuse_desc(m, d, EXO_EINVAL, "context");
    d = good, d.max_seqs = EXO_MAX_SEQS + 1;
    refuse_desc(m, d, EXO_EINVAL, "sequences");
    d = good, d.max_rows = EXO_MAX_STEP_ROWS + 1;
    refuse_desc(m, d, EXO_EINVAL, "rows");
    d = good, d.n_pages = 1;
    refuse_desc(m, d, EXO_EINVAL, "pages");
    exo_model_unref(m);
}

/* Heads of 48 are no whole blocks of q8_0, but go into the other types. */
static void refuses_heads_that_do_not_fit(void **state) {
    (void)state;
    static const char *const settings[] = {"head_dim=48"};
    const exo_synth_desc synth = {
        .shape = "test-256", .type = "f32", .seed = 7, .settings = settings, .n_settings = 1};
    exo_model *m = synth_model_from(&synth);
    const exo_hparams *h = exo_model_hparams(m);
    assert_int_equal(h->head_dim, 48);
    exo_shard_desc d = {.layer_end = h->n_layers, .has_embedding = true, .has_head = true};
    d.kv_type = EXO_Q8_0;
    refuse_desc(m, d, EXO_EUNSUPPORTED, "keys of 48 and values of 48 elements");
    d.kv_type = EXO_F16;
    assert_int_equal(exo_shard_desc_resolve(m, &d, NULL), EXO_OK);
    exo_model_unref(m);
}

static void fills_in_what_is_left_open(void **state) {
    (void)state;
    exo_model *m = synth_model("test-256", "q8_0");
    const exo_hparams *h = exo_model_hparams(m);
    exo_shard_desc d = {.layer_end = h->n_layers, .has_embedding = true, .has_head = true};
    assert_int_equal(exo_shard_desc_resolve(m, &d, NULL), EXO_OK);
    assert_int_equal(d.n_ranks, 1);
    assert_int_equal(d.ctx_tokens, h->ctx_train < 8192 ? h->ctx_train : 8192);
    assert_int_equal(d.max_seqs, 8);
    assert_int_equal(d.max_rows, 512);
    assert_int_equal(d.max_logit_rows, 8);
    assert_int_equal(d.n_pages, 4 * ((d.ctx_tokens + 31) / 32));
    const exo_shard_desc once = d;
    assert_int_equal(exo_shard_desc_resolve(m, &d, NULL), EXO_OK);
    assert_memory_equal(&d, &once, sizeof d);
    exo_model_unref(m);
}

/* A shard of two slots and a step to try on it. */
typedef struct {
    exo_model *m;
    chain c;
    exo_step step;
} rig;

static rig open_rig(void) {
    rig r = {.m = synth_model("test-256", "q8_0")};
    const exo_device_desc device = {.n_threads = 1};
    const exo_shard_desc desc = {.ctx_tokens = 96, .max_seqs = 2, .max_rows = 8};
    assert_true(chain_open(&r.c, r.m, &device, no_cuts, desc));
    assert_int_equal(exo_step_init(&r.step, 16, 16, NULL), EXO_OK);
    return r;
}

static void close_rig(rig *r) {
    exo_step_finish(&r->step);
    chain_close(&r->c);
    exo_model_unref(r->m);
}

/* Runs what stands in the step, then empties it. */
static void run_rig(rig *r, exo_status expected, const char *why) {
    exo_error err = {0};
    assert_int_equal(exo_shard_run(chain_last(&r->c), &r->step, NULL, NULL, NULL, &err), expected);
    if (strstr(err.message, why) == NULL) fail_msg("'%s' lacks '%s'", err.message, why);
    exo_step_clear(&r->step);
}

static void add_row(rig *r, exo_row row) { r->step.rows[r->step.n_rows++] = row; }
static void add_page(rig *r, exo_page_entry e) { r->step.pages[r->step.n_pages++] = e; }

static void refuses_steps_beyond_its_tables(void **state) {
    (void)state;
    rig r = open_rig();
    add_row(&r, (exo_row){.pos = 0});
    run_rig(&r, EXO_EINVAL, "pages end at 0");
    add_page(&r, (exo_page_entry){.seq = 0, .index = 1, .page = 2});
    add_row(&r, (exo_row){.pos = 32});
    run_rig(&r, EXO_EINVAL, "pages end at 0"); /* page 0 of the sequence is missing */
    add_page(&r, (exo_page_entry){.seq = 2});
    run_rig(&r, EXO_EINVAL, "sequence 2 of 2");
    add_page(&r, (exo_page_entry){.index = 3});
    run_rig(&r, EXO_EINVAL, "index 3 of 3");
    add_page(&r, (exo_page_entry){.page = 3});
    run_rig(&r, EXO_EINVAL, "page 3 of 3");
    add_page(&r, (exo_page_entry){.seq = 0, .index = 0, .page = 0});
    run_rig(&r, EXO_OK, ""); /* no rows: only the pages */
    add_row(&r, (exo_row){.pos = 33, .token = 1});
    run_rig(&r, EXO_OK, "");
    add_row(&r, (exo_row){.pos = 64});
    run_rig(&r, EXO_EINVAL, "pages end at 64");
    add_row(&r, (exo_row){.pos = 96});
    run_rig(&r, EXO_EINVAL, "position 96 in a context of 96");
    add_row(&r, (exo_row){.seq = 2});
    run_rig(&r, EXO_EINVAL, "sequence 2 of 2");
    add_row(&r, (exo_row){.seq = 1});
    run_rig(&r, EXO_EINVAL, "sequence 1: pages end at 0");
    add_row(&r, (exo_row){.pos = 3}), add_row(&r, (exo_row){.pos = 3});
    run_rig(&r, EXO_EINVAL, "row 1: position 3 of sequence 0 after position 3");
    add_row(&r, (exo_row){.token = -1});
    run_rig(&r, EXO_EINVAL, "token -1");
    add_row(&r, (exo_row){.token = INT32_MAX});
    run_rig(&r, EXO_EINVAL, "vocabulary");
    for (uint32_t i = 0; i < 9; i++) add_row(&r, (exo_row){.pos = i});
    run_rig(&r, EXO_EINVAL, "9 rows: at most 8");
    for (uint32_t i = 0; i < 3; i++) add_row(&r, (exo_row){.pos = i, .flags = EXO_ROW_LOGITS});
    run_rig(&r, EXO_EINVAL, "3 rows of logits: at most 2");
    exo_shard_clear_seq(chain_last(&r.c), 0);
    add_row(&r, (exo_row){.pos = 0});
    run_rig(&r, EXO_EINVAL, "pages end at 0");
    close_rig(&r);
}

static void cancel_and_missing_activations(void **state) {
    (void)state;
    rig r = open_rig();
    exo_error err = {0};
    atomic_bool cancel = true;
    add_page(&r, (exo_page_entry){0});
    add_row(&r, (exo_row){.flags = EXO_ROW_LOGITS});
    exo_shard *s = chain_last(&r.c);
    assert_int_equal(exo_shard_run(s, &r.step, NULL, NULL, &cancel, &err), EXO_ECANCELED);
    assert_null(exo_shard_logits(s, 0));
    cancel = false;
    assert_int_equal(exo_shard_run(s, &r.step, NULL, NULL, &cancel, &err), EXO_OK);
    assert_non_null(exo_shard_logits(s, 0));
    assert_null(exo_shard_logits(s, 1));
    close_rig(&r);

    exo_model *m = synth_model("test-256", "q8_0");
    chain c;
    exo_step step;
    float x[4096];
    const uint32_t cut[] = {1, 0};
    assert_true(chain_open(&c, m, &(exo_device_desc){.n_threads = 1}, cut, (exo_shard_desc){0}));
    assert_int_equal(exo_step_init(&step, 1, 1, NULL), EXO_OK);
    step.n_pages = step.n_rows = 1;
    assert_int_equal(exo_shard_run(c.shards[0], &step, NULL, NULL, NULL, &err), EXO_EINVAL);
    assert_int_equal(exo_shard_run(c.shards[1], &step, NULL, NULL, NULL, &err), EXO_EINVAL);
    assert_int_equal(exo_shard_run(c.shards[0], &step, NULL, x, NULL, &err), EXO_OK);
    assert_int_equal(exo_shard_run(c.shards[1], &step, x, NULL, NULL, &err), EXO_OK);
    exo_step_finish(&step);
    chain_close(&c);
    exo_model_unref(m);
}

/* ---- loading ---- */

typedef struct {
    uint64_t done, total, calls, stop_after;
} load_log;

static bool log_load(void *ud, uint64_t done, uint64_t total) {
    load_log *l = ud;
    assert_true(done > l->done && done <= total);
    l->done = done;
    l->total = total;
    return ++l->calls != l->stop_after;
}

/* Each shard reads its own range, the whole model reads each tensor once, tied or not. */
static void loads_its_own_range(void **state) {
    (void)state;
    exo_model *m = data_model("stories260K/stories260K-f32.gguf"); /* tied */
    const exo_hparams *h = exo_model_hparams(m);
    const exo_backend *be;
    exo_device *dev;
    exo_error err = {0};
    check(exo_device_open("cpu:0", &(exo_device_desc){.n_threads = 1}, &be, &dev, &err), &err);
    assert_true(h->tied_head);
    for (uint32_t i = 0; i < 3; i++) {
        const exo_shard_desc d = {.layer_begin = i == 2 ? 2 : 0,
                                  .layer_end = i == 1 ? 2 : h->n_layers,
                                  .has_embedding = i != 2,
                                  .has_head = i != 1};
        exo_shard *s;
        load_log log = {0};
        check(exo_shard_create(m, be, dev, &d, log_load, &log, &s, &err), &err);
        assert_int_equal(log.done, log.total);
        assert_int_equal(log.total, exo_model_range_bytes(m, d.layer_begin, d.layer_end,
                                                          d.has_embedding, d.has_head));
        assert_true(exo_shard_weight_bytes(s) >= log.total);
        assert_int_equal(exo_shard_kv_bytes(s), 2 * (d.layer_end - d.layer_begin) *
                                                    (uint64_t)exo_shard_get_desc(s)->n_pages *
                                                    h->n_kv_heads * h->head_dim *
                                                    EXO_KV_PAGE_TOKENS * 4);
        exo_shard_destroy(s);
        load_log stopped = {.stop_after = log.calls / 2};
        assert_int_equal(exo_shard_create(m, be, dev, &d, log_load, &stopped, &s, &err),
                         EXO_ECANCELED);
        assert_null(s);
    }
    be->close(dev);
    exo_model_unref(m);
}

/* Writes a copy of a file with the type of one matrix changed to one of equal size. */
static void write_retyped(const char *from, const char *to, const char *tensor, exo_dtype type) {
    static uint8_t bytes[4 << 20];
    FILE *f = fopen(from, "rb");
    assert_non_null(f);
    size_t n = fread(bytes, 1, sizeof bytes, f), len = strlen(tensor), at = 0;
    fclose(f);
    assert_true(n > 0 && n < sizeof bytes);
    while (at + len < n && memcmp(bytes + at, tensor, len) != 0) at++;
    assert_true(at + len + 24 < n);
    exo_put_u32(bytes + at + len + 4 + 2 * 8, (uint32_t)type); /* after n_dims and two dims */
    f = fopen(to, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* A matrix that nobody computes with stops the shard that needs it, and only that one. */
static void names_an_unsupported_tensor(void **state) {
    (void)state;
    exo_model_unref(data_model("stories260K/stories260K-f16.gguf"));
    char path[] = "/tmp/exo-test-XXXXXX.gguf";
    int fd = mkstemps(path, 5);
    assert_true(fd >= 0);
    close(fd);
    write_retyped(EXO_SHARED_DATA "/stories260K/stories260K-f16.gguf", path,
                  "blk.3.ffn_down.weight", EXO_I16);
    exo_error err = {0};
    exo_model *m;
    check(exo_model_open(path, &m, &err), &err);
    unlink(path);
    const exo_backend *be;
    exo_device *dev;
    exo_shard *s;
    check(exo_device_open("cpu:0", &(exo_device_desc){.n_threads = 1}, &be, &dev, &err), &err);
    exo_shard_desc d = {.layer_end = 3, .has_embedding = true};
    check(exo_shard_create(m, be, dev, &d, NULL, NULL, &s, &err), &err);
    exo_shard_destroy(s);
    d = (exo_shard_desc){.layer_begin = 3, .layer_end = 5, .has_head = true};
    assert_int_equal(exo_shard_create(m, be, dev, &d, NULL, NULL, &s, &err), EXO_EUNSUPPORTED);
    assert_null(s);
    assert_non_null(strstr(err.message, "blk.3.ffn_down.weight is i16"));
    be->close(dev);
    exo_model_unref(m);
}

/* Logits of one row at the end of a context that nobody computed. */
static void hash_pretended(exo_model *m, exo_dtype type, bool pretend, char hex[]) {
    chain c;
    exo_step step;
    exo_error err = {0};
    const exo_shard_desc desc = {
        .kv_type = type, .ctx_tokens = CTX, .max_seqs = 1, .max_rows = 8, .n_pages = 11};
    assert_true(chain_open(&c, m, &(exo_device_desc){.n_threads = 2}, no_cuts, desc));
    if (pretend) check(exo_shard_pretend_kv(chain_last(&c), &err), &err);
    assert_int_equal(exo_step_init(&step, 1, 11, NULL), EXO_OK);
    for (uint32_t i = 0; i < 11; i++) step.pages[i] = (exo_page_entry){0, i, i};
    step.n_pages = 11;
    step.rows[0] = (exo_row){.pos = CTX - 1, .token = 5, .flags = EXO_ROW_LOGITS};
    step.n_rows = 1;
    chain_run(&c, &step); /* fails where a number is not finite */
    exo_sha256 *hash = exo_sha256_create();
    uint8_t digest[EXO_SHA256_BYTES];
    size_t n_vocab = exo_model_hparams(m)->n_vocab;
    exo_sha256_update(hash, exo_shard_logits(chain_last(&c), 0), n_vocab * sizeof(float));
    exo_sha256_peek(hash, digest);
    exo_hex(digest, sizeof digest, hex);
    exo_sha256_destroy(hash);
    exo_step_finish(&step);
    chain_close(&c);
}

/* Pages of every type hold numbers that attention reads: other logits than of empty pages. */
static void a_pretended_context_is_read(void **state) {
    (void)state;
    static const exo_dtype types[] = {EXO_F32, EXO_F16, EXO_Q8_0};
    exo_model *m = synth_model("test-256", "q8_0");
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        char empty[EXO_SHA256_HEX_BYTES], full[EXO_SHA256_HEX_BYTES], again[EXO_SHA256_HEX_BYTES];
        hash_pretended(m, types[i], false, empty);
        hash_pretended(m, types[i], true, full);
        hash_pretended(m, types[i], true, again);
        assert_string_not_equal(empty, full);
        assert_string_equal(full, again);
    }
    exo_model_unref(m);
}

static void failed_allocations_leave_nothing(void **state) {
    (void)state;
    exo_model *m = data_model("stories260K/stories260K-Q8_0.gguf");
    const exo_backend *be;
    exo_device *dev;
    exo_error err = {0};
    check(exo_device_open("cpu:0", &(exo_device_desc){.n_threads = 1}, &be, &dev, &err), &err);
    const exo_shard_desc d = {.layer_end = 5, .has_embedding = true, .has_head = true};
    uint64_t k = 0;
    for (bool failed = true; failed;) {
        exo_shard *s;
        exo_mem_fail_at(++k);
        exo_status st = exo_shard_create(m, be, dev, &d, NULL, NULL, &s, &err);
        failed = exo_mem_failed() != 0;
        exo_mem_fail_at(0);
        assert_int_equal(st, failed ? EXO_ENOMEM : EXO_OK);
        exo_shard_destroy(s);
    }
    assert_true(k > 50); /* 5 layers of 9 tensors, pools and tables */
    be->close(dev);
    exo_model_unref(m);
}

static void a_step_allocates_nothing(void **state) {
    (void)state;
    rig r = open_rig();
    for (uint32_t i = 0; i < 3; i++) {
        add_page(&r, (exo_page_entry){.index = i, .page = i});
    }
    add_row(&r, (exo_row){.pos = 0});
    run_rig(&r, EXO_OK, "");
    uint64_t before = exo_mem_count();
    for (uint32_t pos = 1; pos < 60; pos += 3) {
        for (uint32_t i = 0; i < 3; i++) {
            add_row(&r, (exo_row){.pos = pos + i, .flags = i == 2 ? EXO_ROW_LOGITS : 0u});
        }
        run_rig(&r, EXO_OK, "");
    }
    assert_int_equal(exo_mem_count(), before);
    close_rig(&r);
}

#define EVERY_WAY(i)                                                                               \
    { subjects[i].name, same_bits_every_way, NULL, NULL, &subjects[i] }

int main(void) {
    static subject subjects[] = {
        {"same bits every way, q8_0", "test-256", "q8_0", true},
        {"same bits every way, q4_K_M", "test-256", "q4_K_M", true},
        {"same bits every way, f16", "test-256", "f16", true},
        {"same bits, q4_0", "test-256", "q4_0", false},
        {"same bits, q6_K", "test-256", "q6_K", false},
        {"same bits, bf16", "test-256", "bf16", false},
        {"same bits, f32", "test-256", "f32", false},
        {"same bits, qwen2", "test-qwen2", "q8_0", false},
        {"same bits, qwen3", "test-qwen3", "q4_K_M", false},
        {"same bits, q5_0", "test-qwen2", "q5_0", false},
        {"same bits, mxfp4", "test-qwen3", "mxfp4", false},
        {"same bits, q2_K", "test-256", "q2_K", false},
        {"same bits, q5_K_M", "test-256", "q5_K_M", false},
        {"same bits, iq4_xs", "test-qwen2", "iq4_xs", false},
        {"same bits, iq2_s", "test-qwen3", "iq2_s", false},
    };
    const struct CMUnitTest tests[] = {
        EVERY_WAY(0),
        EVERY_WAY(1),
        EVERY_WAY(2),
        EVERY_WAY(3),
        EVERY_WAY(4),
        EVERY_WAY(5),
        EVERY_WAY(6),
        EVERY_WAY(7),
        EVERY_WAY(8),
        EVERY_WAY(9),
        EVERY_WAY(10),
        EVERY_WAY(11),
        EVERY_WAY(12),
        EVERY_WAY(13),
        EVERY_WAY(14),
        cmocka_unit_test(same_bits_beyond_a_split),
        cmocka_unit_test(f16_wire_hides_cuts),
        cmocka_unit_test(f16_cache_hides_cuts_and_chunks),
        cmocka_unit_test(q8_0_cache_hides_cuts_and_chunks),
        cmocka_unit_test(refuses_bad_descriptions),
        cmocka_unit_test(refuses_heads_that_do_not_fit),
        cmocka_unit_test(fills_in_what_is_left_open),
        cmocka_unit_test(refuses_steps_beyond_its_tables),
        cmocka_unit_test(cancel_and_missing_activations),
        cmocka_unit_test(loads_its_own_range),
        cmocka_unit_test(names_an_unsupported_tensor),
        cmocka_unit_test(a_pretended_context_is_read),
        cmocka_unit_test(failed_allocations_leave_nothing),
        cmocka_unit_test(a_step_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
