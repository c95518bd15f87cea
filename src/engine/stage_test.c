/* stage_test.c - requests through one to three stages: the same tokens however they are run.
 *
 * A little coordinator, enough to drive rows by hand: each request gives a chunk of its prompt or
 * its newest token to every step.  Drawn at temperature 1 with penalties, so that a wrong history,
 * position or logit shows in the tokens. */
#define _DEFAULT_SOURCE /* mkstemps */
#include "engine/stage.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "engine/testing.h"

#define MAX_SEQS  8
#define CTX       128
#define SEQ_PAGES (CTX / EXO_KV_PAGE_TOKENS)
#define N_PAGES   (MAX_SEQS * SEQ_PAGES + 3) /* 35: no multiple of 37 */
#define N_DRAWN   24

/* One request as the coordinator sees it. */
typedef struct {
    uint32_t seq;
    exo_request request;
    int32_t tokens[CTX];       /* prompt and drawn */
    uint32_t n_tokens, n_done; /* rows of them already computed */
    uint8_t hash[EXO_SHA256_BYTES];
} client;

typedef struct {
    chain c; /* its shards belong to the stages */
    exo_stage *stages[MAX_CHAIN];
    exo_step step;
    uint32_t n_vocab;
} pipeline;

static pipeline open_pipeline(exo_model *m, const uint32_t cuts[MAX_CHAIN - 1]) {
    pipeline p = {.n_vocab = exo_model_hparams(m)->n_vocab};
    exo_error err = {0};
    const exo_shard_desc desc = {
        .ctx_tokens = CTX, .max_seqs = MAX_SEQS, .max_rows = 300, .n_pages = N_PAGES};
    assert_true(chain_open(&p.c, m, &(exo_device_desc){.n_threads = 2}, cuts, desc));
    for (uint32_t i = 0; i < p.c.n; i++) {
        check(exo_stage_create(p.c.shards[i], &p.stages[i], &err), &err);
        p.c.shards[i] = NULL;
    }
    assert_int_equal(exo_step_init(&p.step, 300, N_PAGES, NULL), EXO_OK);
    return p;
}

static void close_pipeline(pipeline *p) {
    for (uint32_t i = 0; i < p->c.n; i++) exo_stage_destroy(p->stages[i]);
    exo_step_finish(&p->step);
    chain_close(&p->c);
}

/* Tokens that would always be drawn, were they not penalised for having been: what is drawn
 * depends on the whole history. */
static exo_logit_bias favourites[] = {{11, 30}, {12, 30}, {13, 30}, {14, 30}, {15, 30}};

static client new_client(uint32_t seq, uint32_t voice, uint32_t n_prompt, uint32_t n_vocab) {
    client c = {.seq = seq, .n_tokens = n_prompt};
    for (uint32_t i = 0; i < n_prompt; i++) c.tokens[i] = made_up_token(voice, i, n_vocab);
    c.request = (exo_request){.n_prompt = n_prompt, .hash_logits = true};
    c.request.sampling = (exo_sampling){.temperature = 1,
                                        .seed = 1000 + voice,
                                        .frequency_penalty = 3,
                                        .bias = favourites,
                                        .n_bias = sizeof favourites / sizeof *favourites};
    snprintf(c.request.id, sizeof c.request.id, "request-%u", voice);
    return c;
}

/* Tells every stage; the next step brings all pages of the slot. */
static void admit(pipeline *p, client *c) {
    exo_error err = {0};
    c->request.prompt = c->tokens; /* borrowed for the call */
    for (uint32_t i = 0; i < p->c.n; i++) {
        check(exo_stage_admit(p->stages[i], c->seq, &c->request,
                              (exo_tokens){c->tokens, c->n_tokens}, &err),
              &err);
    }
    for (uint32_t i = 0; i < SEQ_PAGES; i++) {
        p->step.pages[p->step.n_pages++] = scattered_page(c->seq, i, SEQ_PAGES, N_PAGES);
    }
}

static void add_rows(exo_step *step, client *c, uint32_t chunk) {
    uint32_t left = c->n_tokens - c->n_done, n = left < chunk ? left : chunk;
    for (uint32_t i = 0; i < n; i++, c->n_done++) {
        step->rows[step->n_rows++] =
            (exo_row){.seq = c->seq,
                      .pos = c->n_done,
                      .token = c->tokens[c->n_done],
                      .flags = c->n_done + 1 == c->n_tokens ? EXO_ROW_LOGITS : 0u};
    }
}

static void run_stages(pipeline *p, exo_stage_result *results, uint32_t *n) {
    exo_error err = {0};
    for (uint32_t i = 0; i < p->c.n; i++) {
        check(exo_stage_run(p->stages[i], &p->step, i > 0 ? p->c.x[i - 1] : NULL, p->c.x[i],
                            results, n, NULL, &err),
              &err);
    }
}

/* One step of all clients; twice when asked, which must change nothing. */
static void run_step(pipeline *p, client *clients, uint32_t n_clients, uint32_t chunk, bool twice) {
    exo_stage_result results[MAX_SEQS], again[MAX_SEQS];
    uint32_t n, n_again;
    p->step.n_rows = 0;
    for (uint32_t i = 0; i < n_clients; i++) add_rows(&p->step, &clients[i], chunk);
    memset(results, 0, sizeof results), memset(again, 0, sizeof again);
    run_stages(p, results, &n);
    if (twice) {
        run_stages(p, again, &n_again);
        assert_int_equal(n, n_again);
        for (uint32_t i = 0; i < n; i++) {
            assert_int_equal(results[i].draw.id, again[i].draw.id);
            assert_memory_equal(results[i].logits_hash, again[i].logits_hash, EXO_SHA256_BYTES);
        }
    }
    p->step.number++;
    p->step.n_pages = 0;
    for (uint32_t i = 0; i < n; i++) {
        client *c = clients;
        while (c->seq != results[i].seq) c++;
        assert_int_equal(results[i].pos, c->n_tokens);
        c->tokens[c->n_tokens++] = results[i].draw.id;
        memcpy(c->hash, results[i].logits_hash, EXO_SHA256_BYTES);
    }
}

static void finish_client(pipeline *p, client *clients, uint32_t n, uint32_t chunk, bool twice) {
    while (clients[0].n_tokens < clients[0].request.n_prompt + N_DRAWN) {
        run_step(p, clients, n, chunk, twice);
    }
}

/* The first of n clients, answered under these circumstances. */
static client answer(exo_model *m, const uint32_t cuts[MAX_CHAIN - 1], uint32_t n, uint32_t chunk,
                     bool twice) {
    static client clients[MAX_SEQS];
    pipeline p = open_pipeline(m, cuts);
    for (uint32_t i = 0; i < n; i++) {
        clients[i] = new_client((i + 5) % MAX_SEQS, i, 40 + 3 * i, p.n_vocab);
        admit(&p, &clients[i]);
    }
    finish_client(&p, clients, n, chunk, twice);
    close_pipeline(&p);
    return clients[0];
}

static void expect_same(const client *a, const client *b) {
    assert_int_equal(a->n_tokens, b->n_tokens);
    assert_memory_equal(a->tokens, b->tokens, a->n_tokens * sizeof *a->tokens);
    assert_memory_equal(a->hash, b->hash, sizeof a->hash);
}

static void the_same_answer_every_way(void **state) {
    (void)state;
    exo_model *m = synth_model("test-256", "q4_K_M");
    static const uint32_t whole[2] = {0}, halves[2] = {1}, thirds[2] = {1, 2};
    const client base = answer(m, whole, 1, 300, false);
    static const uint8_t zero[EXO_SHA256_BYTES] = {0};
    assert_memory_not_equal(base.hash, zero, sizeof zero);
    client c = answer(m, whole, 1, 7, true);
    expect_same(&c, &base);
    c = answer(m, halves, 8, 32, false);
    expect_same(&c, &base);
    c = answer(m, thirds, 8, 7, true);
    expect_same(&c, &base);
    c = answer(m, halves, 1, 1, false);
    expect_same(&c, &base);
    exo_model_unref(m);
}

/* Every token is what the sampler draws from the logits at its place and all tokens before it,
 * and the hash is that of those logits in order. */
static void draws_from_the_whole_history(void **state) {
    (void)state;
    exo_model *m = synth_model("test-256", "q8_0");
    static const uint32_t whole[2] = {0};
    client a = answer(m, whole, 1, 16, false);
    uint32_t n_prompt = (uint32_t)a.request.n_prompt, n_vocab = exo_model_hparams(m)->n_vocab;
    chain c;
    exo_step step;
    exo_sampler *sampler;
    exo_error err = {0};
    const exo_shard_desc desc = {.ctx_tokens = CTX, .max_logit_rows = CTX};
    assert_true(chain_open(&c, m, &(exo_device_desc){.n_threads = 1}, whole, desc));
    check(exo_step_init(&step, CTX, SEQ_PAGES, &err), &err);
    check(exo_sampler_create(n_vocab, &sampler, &err), &err);
    for (uint32_t i = 0; i < SEQ_PAGES; i++) {
        step.pages[step.n_pages++] = (exo_page_entry){.index = i, .page = i};
    }
    for (uint32_t i = 0; i + 1 < a.n_tokens; i++) {
        step.rows[step.n_rows++] =
            (exo_row){.pos = i, .token = a.tokens[i], .flags = EXO_ROW_LOGITS};
    }
    chain_run(&c, &step);
    exo_sha256 *hash = exo_sha256_create();
    for (uint32_t pos = n_prompt; pos < a.n_tokens; pos++) {
        const float *logits = exo_shard_logits(chain_last(&c), pos - 1);
        exo_draw draw;
        check(exo_sampler_draw(sampler, &a.request.sampling, (exo_tokens){a.tokens, pos}, n_prompt,
                               logits, &draw, &err),
              &err);
        assert_int_equal(draw.id, a.tokens[pos]);
        exo_sha256_update(hash, logits, n_vocab * sizeof *logits);
    }
    uint8_t digest[EXO_SHA256_BYTES];
    exo_sha256_peek(hash, digest);
    assert_memory_equal(digest, a.hash, sizeof digest);
    exo_sha256_destroy(hash);
    exo_sampler_destroy(sampler);
    exo_step_finish(&step);
    chain_close(&c);
    exo_model_unref(m);
}

/* A row from long before, run again, draws what it drew then and changes nothing behind it. */
static void an_old_row_draws_the_same_again(void **state) {
    (void)state;
    exo_model *m = synth_model("test-256", "q8_0");
    static const uint32_t whole[2] = {0};
    const client base = answer(m, whole, 1, 300, false);
    pipeline p = open_pipeline(m, whole);
    client c = new_client(5, 0, 40, p.n_vocab);
    admit(&p, &c);
    while (c.n_tokens < 55) run_step(&p, &c, 1, 16, false);
    exo_stage_result result;
    uint32_t n;
    p.step.rows[0] = (exo_row){.seq = 5, .pos = 43, .token = c.tokens[43], .flags = EXO_ROW_LOGITS};
    p.step.n_rows = 1;
    run_stages(&p, &result, &n);
    assert_int_equal(n, 1);
    assert_int_equal(result.pos, 44);
    assert_int_equal(result.draw.id, c.tokens[44]);
    assert_memory_equal(result.logits_hash, c.hash, EXO_SHA256_BYTES);
    finish_client(&p, &c, 1, 16, false);
    expect_same(&c, &base);
    close_pipeline(&p);
    exo_model_unref(m);
}

/* A sequence put back and re-read, in another slot, goes on with the same tokens and hash. */
static void goes_on_in_another_slot(void **state) {
    (void)state;
    exo_model *m = synth_model("test-256", "q8_0");
    static const uint32_t whole[2] = {0};
    const client base = answer(m, whole, 1, 300, false);
    pipeline p = open_pipeline(m, whole);
    client c = new_client(5, 0, 40, p.n_vocab);
    admit(&p, &c);
    while (c.n_tokens < 50) run_step(&p, &c, 1, 16, false);
    c.seq = 2;
    c.n_done = 0;
    c.n_tokens--; /* its last token was lost on the way: drawn, and hashed, before */
    admit(&p, &c);
    while (c.n_tokens < 57) run_step(&p, &c, 1, 16, false);
    c.n_done = 0; /* and back into the same slot */
    admit(&p, &c);
    finish_client(&p, &c, 1, 16, false);
    expect_same(&c, &base);

    /* Its slot was taken by somebody else: no hash rather than half of one. */
    client other = new_client(2, 3, 20, p.n_vocab);
    admit(&p, &other);
    c.seq = 1;
    c.n_done = 0;
    admit(&p, &c);
    static const uint8_t zero[EXO_SHA256_BYTES] = {0};
    while (c.n_tokens < CTX && c.n_done < c.n_tokens - 1) run_step(&p, &c, 1, 16, false);
    assert_memory_equal(c.hash, zero, sizeof zero);
    close_pipeline(&p);
    exo_model_unref(m);
}

/* A new request in a used slot has neither its history nor its pages. */
static void a_slot_forgets(void **state) {
    (void)state;
    exo_model *m = synth_model("test-256", "q8_0");
    static const uint32_t whole[2] = {0};
    pipeline p = open_pipeline(m, whole);
    client first = new_client(5, 9, 60, p.n_vocab), second = new_client(5, 0, 40, p.n_vocab);
    admit(&p, &first);
    finish_client(&p, &first, 1, 300, false);
    admit(&p, &second);
    p.step.n_pages = 0; /* pages not sent */
    add_rows(&p.step, &second, 8);
    p.step.rows[0] = p.step.rows[p.step.n_rows - 1];
    p.step.n_rows = 1;
    exo_stage_result results[MAX_SEQS];
    uint32_t n;
    exo_error err = {0};
    assert_int_equal(exo_stage_run(p.stages[0], &p.step, NULL, NULL, results, &n, NULL, &err),
                     EXO_EINVAL);
    assert_non_null(strstr(err.message, "pages end at 0"));
    second.n_done = 0;
    admit(&p, &second);
    finish_client(&p, &second, 1, 300, false);
    const client base = answer(m, whole, 1, 300, false);
    expect_same(&second, &base);
    close_pipeline(&p);
    exo_model_unref(m);
}

static void refuses_strange_rows(void **state) {
    (void)state;
    exo_model *m = synth_model("test-256", "q8_0");
    static const uint32_t whole[2] = {0};
    pipeline p = open_pipeline(m, whole);
    client c = new_client(1, 0, 10, p.n_vocab);
    c.request.prompt = c.tokens;
    exo_stage *s = p.stages[0];
    exo_error err = {0};
    assert_int_equal(exo_stage_admit(s, MAX_SEQS, &c.request, (exo_tokens){c.tokens, 10}, &err),
                     EXO_EINVAL);
    assert_int_equal(exo_stage_admit(s, 1, &c.request, (exo_tokens){c.tokens, 9}, &err),
                     EXO_EINVAL);
    assert_int_equal(exo_stage_admit(s, 1, &c.request, (exo_tokens){c.tokens, CTX + 1}, &err),
                     EXO_EINVAL);
    admit(&p, &c);
    const struct {
        exo_row row;
        const char *why;
    } bad[] = {
        {{.seq = 0}, "slot 0 serves no request"},
        {{.seq = MAX_SEQS}, "slot 8 serves no request"},
        {{.seq = 1, .pos = 11}, "history has 10 tokens"},
        {{.seq = 1, .pos = 0, .token = -1}, "token -1"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        exo_stage_result results[MAX_SEQS];
        uint32_t n = 99;
        p.step.rows[0] = bad[i].row;
        p.step.n_rows = 1;
        assert_int_equal(exo_stage_run(s, &p.step, NULL, NULL, results, &n, NULL, &err),
                         EXO_EINVAL);
        if (strstr(err.message, bad[i].why) == NULL) {
            fail_msg("'%s' lacks '%s'", err.message, bad[i].why);
        }
        assert_int_equal(n, 0);
    }
    close_pipeline(&p);
    exo_model_unref(m);
}

static void a_step_allocates_nothing(void **state) {
    (void)state;
    exo_model *m = synth_model("test-256", "q8_0");
    static const uint32_t halves[2] = {1};
    pipeline p = open_pipeline(m, halves);
    client c = new_client(1, 0, 40, p.n_vocab);
    c.request.sampling.top_k = 40;
    c.request.sampling.top_p = 0.9f;
    admit(&p, &c);
    run_step(&p, &c, 1, 8, false);
    uint64_t before = exo_mem_count();
    finish_client(&p, &c, 1, 8, false);
    assert_int_equal(exo_mem_count(), before);
    close_pipeline(&p);
    exo_model_unref(m);
}

static void failed_allocations_leave_nothing(void **state) {
    (void)state;
    exo_model *m = synth_model("test-256", "q8_0");
    static const uint32_t whole[2] = {0};
    uint64_t k = 0;
    for (bool failed = true; failed;) {
        chain c;
        exo_stage *s;
        exo_error err = {0};
        client who = new_client(3, 0, 10, 100);
        who.request.prompt = who.tokens;
        assert_true(chain_open(&c, m, &(exo_device_desc){.n_threads = 1}, whole,
                               (exo_shard_desc){.ctx_tokens = CTX}));
        exo_mem_fail_at(++k);
        exo_status st = exo_stage_create(c.shards[0], &s, &err);
        c.shards[0] = NULL;
        if (st == EXO_OK) {
            st = exo_stage_admit(s, 3, &who.request, (exo_tokens){who.tokens, 10}, &err);
        }
        failed = exo_mem_failed() != 0;
        exo_mem_fail_at(0);
        assert_int_equal(st, failed ? EXO_ENOMEM : EXO_OK);
        exo_stage_destroy(s);
        chain_close(&c);
    }
    assert_true(k > 5);
    exo_model_unref(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_answer_every_way),
        cmocka_unit_test(draws_from_the_whole_history),
        cmocka_unit_test(an_old_row_draws_the_same_again),
        cmocka_unit_test(goes_on_in_another_slot),
        cmocka_unit_test(a_slot_forgets),
        cmocka_unit_test(refuses_strange_rows),
        cmocka_unit_test(a_step_allocates_nothing),
        cmocka_unit_test(failed_allocations_leave_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
