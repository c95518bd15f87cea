/* scheduler_stage_test.c - the scheduler in front of a real model: every answer is the one that
 * the request gets alone, with shared prefixes, little memory and sequences put back.
 *
 * Drawn at temperature 1, so that any difference in a logit soon shows in the tokens. */
#define _DEFAULT_SOURCE /* mkstemps */
#include "engine/scheduler.h"
#include "engine/stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "engine/testing.h"

enum { N_REQUESTS = 10, CTX = 160, N_COMMON = 70, N_DRAWN = 40, MAX_SEQS = 4, MAX_ROWS = 64 };

typedef struct {
    exo_request request;
    int32_t prompt[CTX];
    int32_t drawn[N_DRAWN];
    uint32_t n_drawn;
} client;

typedef struct {
    exo_sched *sched;
    exo_stage *stage;
    exo_step step;
    client *clients;
    uint32_t n_live;
} engine;

static void make_clients(client clients[N_REQUESTS], uint32_t n_vocab) {
    for (uint32_t i = 0; i < N_REQUESTS; i++) {
        client *c = &clients[i];
        *c = (client){.request = {.n_prompt = N_COMMON + 1 + 5 * i, .prompt = c->prompt}};
        c->request.sampling = (exo_sampling){
            .temperature = 1, .seed = 50 + i, .top_p = 0.98f, .repeat_penalty = 1.2f};
        snprintf(c->request.id, sizeof c->request.id, "request-%u", i);
        for (uint32_t k = 0; k < c->request.n_prompt; k++)
            c->prompt[k] = made_up_token(k < N_COMMON ? 0 : i, k, n_vocab);
    }
}

static void admit(engine *e, const exo_admission *a) {
    exo_error err = {0};
    exo_tokens history = exo_sched_tokens(e->sched, a->id);
    check(exo_stage_admit(e->stage, a->seq, &e->clients[a->id].request, history, &err), &err);
}

static void run_step(engine *e) {
    exo_error err = {0};
    exo_stage_result results[MAX_SEQS];
    exo_sched_answer answers[MAX_SEQS];
    uint32_t seqs[MAX_SEQS], n;
    int32_t tokens[MAX_SEQS];
    check(exo_stage_run(e->stage, &e->step, NULL, NULL, results, &n, NULL, &err), &err);
    for (uint32_t i = 0; i < n; i++) {
        seqs[i] = results[i].seq;
        tokens[i] = results[i].draw.id;
    }
    check(exo_sched_result(e->sched, e->step.number, seqs, tokens, n, answers, &err), &err);
    for (uint32_t i = 0; i < n; i++) {
        client *c = &e->clients[answers[i].id];
        assert_int_equal(answers[i].pos, results[i].pos);
        assert_int_equal(answers[i].pos, c->request.n_prompt + c->n_drawn);
        c->drawn[c->n_drawn++] = tokens[i];
        if (c->n_drawn < N_DRAWN) continue;
        exo_sched_end(e->sched, answers[i].id);
        e->n_live--;
    }
}

/* Answers clients [begin, end) together. */
static exo_sched_stats answer(exo_model *m, client *clients, uint32_t begin, uint32_t end,
                              uint32_t n_pages) {
    exo_error err = {0};
    chain c;
    const exo_shard_desc desc = {
        .ctx_tokens = CTX, .max_seqs = MAX_SEQS, .max_rows = MAX_ROWS, .n_pages = n_pages};
    assert_true(
        chain_open(&c, m, &(exo_device_desc){.n_threads = 1}, (uint32_t[MAX_CHAIN - 1]){0}, desc));
    engine e = {.clients = clients, .n_live = end - begin};
    check(exo_stage_create(c.shards[0], &e.stage, &err), &err);
    c.shards[0] = NULL;
    check(exo_sched_create(&(exo_sched_desc){.max_seqs = MAX_SEQS,
                                             .n_pages = n_pages,
                                             .ctx_tokens = CTX,
                                             .max_rows = MAX_ROWS,
                                             .chunk_tokens = 50},
                           &e.sched, &err),
          &err);
    check(exo_step_init(&e.step, MAX_ROWS, exo_sched_step_pages(e.sched), &err), &err);
    for (uint32_t i = begin; i < end; i++) {
        exo_tokens prompt = {clients[i].prompt, clients[i].request.n_prompt};
        check(exo_sched_add(e.sched, i, prompt, &err), &err);
    }
    while (e.n_live > 0) {
        exo_admission admitted[MAX_SEQS];
        uint32_t n_admitted;
        assert_true(exo_sched_next(e.sched, &e.step, admitted, &n_admitted));
        for (uint32_t i = 0; i < n_admitted; i++) admit(&e, &admitted[i]);
        run_step(&e);
    }
    exo_sched_stats stats;
    exo_sched_get_stats(e.sched, &stats);
    exo_step_finish(&e.step);
    exo_sched_destroy(e.sched);
    exo_stage_destroy(e.stage);
    chain_close(&c);
    return stats;
}

static void test_answers_are_those_of_each_request_alone(void **state) {
    (void)state;
    exo_model *m = data_model("stories260K/stories260K-Q8_0.gguf");
    static client alone[N_REQUESTS], together[N_REQUESTS];
    make_clients(alone, exo_model_hparams(m)->n_vocab);
    make_clients(together, exo_model_hparams(m)->n_vocab);
    for (uint32_t i = 0; i < N_REQUESTS; i++) answer(m, alone, i, i + 1, 8);
    exo_sched_stats stats = answer(m, together, 0, N_REQUESTS, 9);
    assert_true(stats.preemptions > 0);
    assert_true(stats.prefix_hit_tokens >= 64 * (N_REQUESTS - 1));
    for (uint32_t i = 0; i < N_REQUESTS; i++)
        assert_memory_equal(together[i].drawn, alone[i].drawn, sizeof alone[i].drawn);
    exo_model_unref(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers_are_those_of_each_request_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
