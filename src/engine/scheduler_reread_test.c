/* All KV is lost now and then: every request still draws the tokens that it would have drawn.
 *
 * A model of a pipeline in which a token is a function of all tokens before it, as written to the
 * pages that the steps name.  Losing KV overwrites every page with nonsense. */
#include "engine/scheduler.h"

#include "base/hash.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N = 12, SEQS = 4, PAGES = 24, CTX = 200, ANSWER = 30, IN_FLIGHT = 3, INDICES = 8 };

typedef struct {
    uint64_t number;
    uint32_t n;
    uint32_t seqs[SEQS];
    int32_t tokens[SEQS];
} drawn;

typedef struct {
    exo_sched *sched;
    exo_step step;
    int32_t pages[PAGES][EXO_KV_PAGE_TOKENS]; /* the KV: tokens */
    uint32_t table[SEQS][INDICES];
    drawn flying[IN_FLIGHT];
    uint32_t n_flying;
    int32_t answers[N][ANSWER];
    uint32_t n_answered[N];
    uint64_t rng;
} world;

static uint32_t rnd(world *w, uint32_t n) {
    w->rng = w->rng * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(w->rng >> 33) % n;
}

/* What the head draws behind position pos of a slot. */
static int32_t draw(const world *w, uint32_t seq, uint32_t pos) {
    uint64_t h = 0;
    for (uint32_t i = 0; i <= pos; i++) {
        int32_t t = w->pages[w->table[seq][i / EXO_KV_PAGE_TOKENS]][i % EXO_KV_PAGE_TOKENS];
        h = exo_hash64(&t, sizeof t, h);
    }
    return (int32_t)(h % 1000);
}

static void run_step(world *w) {
    drawn *d = &w->flying[w->n_flying++];
    *d = (drawn){.number = w->step.number};
    for (uint32_t i = 0; i < w->step.n_pages; i++) {
        const exo_page_entry *e = &w->step.pages[i];
        w->table[e->seq][e->index] = e->page;
    }
    for (uint32_t i = 0; i < w->step.n_rows; i++) {
        const exo_row *r = &w->step.rows[i];
        w->pages[w->table[r->seq][r->pos / EXO_KV_PAGE_TOKENS]][r->pos % EXO_KV_PAGE_TOKENS] =
            r->token;
        if ((r->flags & EXO_ROW_LOGITS) == 0) continue;
        d->seqs[d->n] = r->seq;
        d->tokens[d->n++] = draw(w, r->seq, r->pos);
    }
}

static void take_oldest(world *w) {
    exo_sched_answer out[SEQS];
    exo_error err = {0};
    drawn d = w->flying[0];
    memmove(w->flying, w->flying + 1, --w->n_flying * sizeof *w->flying);
    exo_status st = exo_sched_result(w->sched, d.number, d.seqs, d.tokens, d.n, out, &err);
    if (st != EXO_OK) fail_msg("%s", err.message);
    for (uint32_t i = 0; i < d.n; i++) {
        if (!out[i].live) continue;
        uint64_t id = out[i].id;
        w->answers[id][w->n_answered[id]++] = d.tokens[i];
        if (w->n_answered[id] == ANSWER || out[i].ctx_full) exo_sched_end(w->sched, id);
    }
}

static void lose_everything(world *w) {
    uint64_t last = exo_sched_reread(w->sched);
    for (uint32_t i = 0; i < w->n_flying; i++) assert_true(w->flying[i].number <= last);
    w->n_flying = 0;
    memset(w->pages, 0x5A, sizeof w->pages);
    exo_sched_stats stats;
    exo_sched_get_stats(w->sched, &stats);
    assert_int_equal(stats.n_running, 0);
    assert_int_equal(stats.n_in_flight, 0);
    assert_int_equal(stats.pages_used, 0);
    assert_int_equal(stats.pages_cached, 0);
}

/* All requests to their end; every `often`-th turn loses everything (0 = never). */
static void run_world(world *w, uint64_t seed, uint32_t often) {
    const exo_sched_desc desc = {.max_seqs = SEQS,
                                 .n_pages = PAGES,
                                 .ctx_tokens = CTX,
                                 .max_rows = 64,
                                 .chunk_tokens = 24,
                                 .max_in_flight = IN_FLIGHT};
    exo_error err = {0};
    exo_admission admitted[SEQS];
    *w = (world){.rng = seed};
    assert_int_equal(exo_sched_create(&desc, &w->sched, &err), EXO_OK);
    assert_int_equal(exo_step_init(&w->step, 64, exo_sched_step_pages(w->sched), &err), EXO_OK);
    for (uint32_t id = 0; id < N; id++) {
        int32_t prompt[100];
        uint32_t n = 10 + id * 7; /* some share their beginning */
        for (uint32_t i = 0; i < n; i++) prompt[i] = (int32_t)(i + (i > 40 ? id : id % 2));
        exo_tokens tokens = {prompt, n};
        assert_int_equal(exo_sched_add(w->sched, id, tokens, &err), EXO_OK);
    }
    exo_sched_stats stats = {.n_waiting = 1};
    for (uint32_t turn = 1; stats.n_running + stats.n_waiting > 0; turn++) {
        uint32_t n_admitted;
        assert_true(turn < 100000);
        bool handed =
            w->n_flying < IN_FLIGHT && exo_sched_next(w->sched, &w->step, admitted, &n_admitted);
        if (handed) run_step(w);
        if (w->n_flying > 0 && (!handed || rnd(w, 2) == 0)) take_oldest(w);
        if (often > 0 && rnd(w, often) == 0) lose_everything(w);
        exo_sched_get_stats(w->sched, &stats);
    }
    exo_step_finish(&w->step);
    exo_sched_destroy(w->sched);
}

static void loses_kv_and_no_token(void **state) {
    (void)state;
    static world calm, lossy;
    run_world(&calm, 1, 0);
    for (uint32_t id = 0; id < N; id++) assert_int_equal(calm.n_answered[id], ANSWER);
    for (uint64_t seed = 1; seed <= 40; seed++) {
        run_world(&lossy, seed, 20 + (uint32_t)seed * 3);
        assert_memory_equal(lossy.n_answered, calm.n_answered, sizeof calm.n_answered);
        assert_memory_equal(lossy.answers, calm.answers, sizeof calm.answers);
    }
}

static void an_idle_scheduler_has_nothing_to_lose(void **state) {
    (void)state;
    exo_error err = {0};
    exo_sched *s;
    const exo_sched_desc desc = {
        .max_seqs = 1, .n_pages = 4, .ctx_tokens = 100, .max_rows = 16, .chunk_tokens = 16};
    assert_int_equal(exo_sched_create(&desc, &s, &err), EXO_OK);
    assert_int_equal(exo_sched_reread(s), 0);
    exo_sched_destroy(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loses_kv_and_no_token),
        cmocka_unit_test(an_idle_scheduler_has_nothing_to_lose),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
