/* The scheduler against a model of what stages see.
 *
 * Two simulated stages run the steps in order but at different times.  A page holds for each
 * position a hash of all tokens up to it, as keys and values do in effect; every row checks that
 * its pages hold exactly its own sequence's prefix, and no page written by another sequence in
 * the same step.  The token drawn is a function of that hash, so a sequence that was put back
 * must draw the same again.  Any wrong sharing, early reuse or missing page entry shows. */
#include "engine/scheduler.h"

#include "base/hash.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum {
    N_REQUESTS = 60,
    MAX_CTX = 400,
    MAX_PAGES = 128,
    MAX_STEPS = 16, /* in flight */
    N_STAGES = 2,
    MAX_ROUNDS = 200000,
};

static uint64_t rng_state;

static uint32_t rng(uint32_t n) { /* below n */
    uint64_t z = rng_state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (uint32_t)((z >> 32) * n >> 32);
}

static bool with_classes; /* a position's content depends on whether it is the prompt's */

static uint64_t hash_after(uint64_t before, int32_t token, bool is_prompt) {
    return exo_hash64(&token, sizeof token, before + (with_classes && is_prompt));
}

/* Few different tokens, so that answers share prefixes too. */
static int32_t token_after(uint64_t hash) { return (int32_t)(hash % 3); }

/* ---- requests ---- */

typedef struct {
    int32_t tokens[MAX_CTX];
    uint64_t hash[MAX_CTX]; /* of tokens [0, i] */
    uint32_t n_prompt, n_tokens, n_wanted;
    bool live;
    bool lingers; /* full, and not ended yet */
} request;

typedef struct {
    exo_sched_desc desc;
    uint32_t limit; /* tokens, by context and pool */
    uint32_t lag;   /* rounds that a stage or an answer takes, on average */
    exo_sched *sched;
    request requests[N_REQUESTS];
    uint32_t n_added, n_live;
    uint32_t n_cancelled, n_answered, n_lingering;
} world;

static void append(request *r, int32_t token) {
    uint32_t i = r->n_tokens++;
    r->tokens[i] = token;
    r->hash[i] = hash_after(i == 0 ? 1 : r->hash[i - 1], token, i < r->n_prompt);
}

/* Beginnings that requests share, of two kinds of page in random order: pages of equal tokens
 * stand behind different prefixes. */
static void make_roots(int32_t roots[4][MAX_CTX]) {
    int32_t kinds[2][EXO_KV_PAGE_TOKENS];
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < EXO_KV_PAGE_TOKENS; i++) kinds[k][i] = (int32_t)rng(3);
    for (int r = 0; r < 4; r++) {
        uint32_t kind = 0;
        for (int i = 0; i < MAX_CTX; i++) {
            if (i % EXO_KV_PAGE_TOKENS == 0) kind = rng(2);
            roots[r][i] = kinds[kind][i % EXO_KV_PAGE_TOKENS];
        }
    }
}

/* The next turn of a conversation: an earlier request's prompt and the beginning of its answer. */
static void take_up(const world *w, request *r, const request *earlier) {
    static request so_far;
    so_far = *earlier;
    uint32_t n = earlier->n_prompt + rng(3 * EXO_KV_PAGE_TOKENS);
    r->n_prompt = n < w->limit ? n : w->limit - 1;
    while (so_far.n_tokens < r->n_prompt) {
        append(&so_far, token_after(so_far.hash[so_far.n_tokens - 1]));
    }
    for (uint32_t k = 0; k < r->n_prompt; k++) append(r, so_far.tokens[k]);
}

static void make_requests(world *w) {
    static int32_t roots[4][MAX_CTX];
    make_roots(roots);
    for (int i = 0; i < N_REQUESTS; i++) {
        request *r = &w->requests[i];
        r->n_wanted = 1 + rng(rng(4) == 0 ? w->limit : 20);
        if (i > 0 && rng(3) == 0) {
            take_up(w, r, &w->requests[rng((uint32_t)i)]);
            continue;
        }
        uint32_t n = 1 + rng(rng(3) == 0 ? w->limit - 1 : w->limit / 2), common = rng(n + 1);
        const int32_t *root = roots[rng(4)];
        r->n_prompt = n;
        for (uint32_t k = 0; k < n; k++) append(r, k < common ? root[k] : (int32_t)rng(3));
    }
}

/* ---- stages ---- */

typedef struct {
    uint64_t hash;
    uint64_t step; /* that wrote it */
    uint32_t seq;
} cell;

typedef struct {
    cell cells[MAX_PAGES][EXO_KV_PAGE_TOKENS];
    uint32_t table[EXO_MAX_SEQS][MAX_PAGES];
    request *owner[EXO_MAX_SEQS];
    uint64_t n_run; /* steps */
} stage;

typedef struct {
    exo_step step;
    exo_admission admitted[EXO_MAX_SEQS];
    uint32_t n_admitted;
    uint32_t seqs[EXO_MAX_SEQS];
    int32_t drawn[EXO_MAX_SEQS];
    uint32_t n_drawn;
} flight;

static void run_row(stage *s, const exo_step *step, const exo_row *row) {
    const request *r = s->owner[row->seq];
    assert_non_null(r);
    assert_in_range(row->pos, 0, r->n_tokens - 1);
    assert_int_equal(row->token, r->tokens[row->pos]);
    bool is_prompt = (row->flags & EXO_ROW_PROMPT) != 0;
    assert_int_equal(is_prompt, with_classes && row->pos < r->n_prompt);
    for (uint32_t i = 0; i <= row->pos; i++) {
        uint32_t page = s->table[row->seq][i / EXO_KV_PAGE_TOKENS];
        assert_in_range(page, 0, MAX_PAGES - 1);
        cell *c = &s->cells[page][i % EXO_KV_PAGE_TOKENS];
        if (i == row->pos) {
            *c = (cell){.hash = r->hash[i], .step = step->number, .seq = row->seq};
            return;
        }
        assert_true(c->hash == r->hash[i]);
        assert_true(c->step < step->number || c->seq == row->seq);
    }
}

static void run_stage(world *w, stage *s, flight *f, bool has_head) {
    assert_true(f->step.number == s->n_run + 1);
    s->n_run++;
    for (uint32_t i = 0; i < f->n_admitted; i++) {
        uint32_t seq = f->admitted[i].seq;
        assert_in_range(seq, 0, w->desc.max_seqs - 1);
        s->owner[seq] = &w->requests[f->admitted[i].id];
        memset(s->table[seq], 0xFF, sizeof s->table[seq]);
    }
    for (uint32_t i = 0; i < f->step.n_pages; i++) {
        const exo_page_entry *e = &f->step.pages[i];
        assert_in_range(e->page, 0, w->desc.n_pages - 1);
        s->table[e->seq][e->index] = e->page;
    }
    for (uint32_t i = 0; i < f->step.n_rows; i++) {
        const exo_row *row = &f->step.rows[i];
        run_row(s, &f->step, row);
        if (!has_head || (row->flags & EXO_ROW_LOGITS) == 0) continue;
        f->seqs[f->n_drawn] = row->seq;
        f->drawn[f->n_drawn++] = token_after(s->owner[row->seq]->hash[row->pos]);
    }
}

/* ---- the coordinator's side ---- */

static void end(world *w, uint64_t id) {
    request *r = &w->requests[id];
    if (r->lingers) w->n_lingering--;
    r->live = r->lingers = false;
    w->n_live--;
    exo_sched_end(w->sched, id);
}

static void take_answers(world *w, const flight *f) {
    exo_sched_answer answers[EXO_MAX_SEQS];
    exo_error err = {0};
    if (exo_sched_result(w->sched, f->step.number, f->seqs, f->drawn, f->n_drawn, answers, &err) !=
        EXO_OK)
        fail_msg("%s", err.message);
    for (uint32_t i = 0; i < f->n_drawn; i++) {
        const exo_sched_answer *a = &answers[i];
        request *r = &w->requests[a->id];
        assert_int_equal(a->live, r->live);
        if (!a->live) continue;
        assert_int_equal(a->pos, r->n_tokens);
        assert_int_equal(f->drawn[i], token_after(r->hash[r->n_tokens - 1]));
        append(r, f->drawn[i]);
        assert_int_equal(a->ctx_full, r->n_tokens == w->limit);
        bool complete = r->n_tokens - r->n_prompt == r->n_wanted;
        if (!complete && !a->ctx_full) continue;
        w->n_answered++;
        r->lingers = a->ctx_full && rng(2) == 0;
        if (r->lingers)
            w->n_lingering++;
        else
            end(w, a->id);
    }
}

static void check_step(const world *w, const flight *f) {
    const exo_step *s = &f->step;
    uint32_t n_prompt_rows = 0, n_logits = 0;
    assert_in_range(s->n_rows, 1, w->desc.max_rows);
    for (uint32_t i = 0; i < s->n_rows; i++) {
        bool alone = (i == 0 || s->rows[i - 1].seq != s->rows[i].seq) &&
                     (i + 1 == s->n_rows || s->rows[i + 1].seq != s->rows[i].seq);
        if (!alone) n_prompt_rows++;
        if (i > 0 && s->rows[i - 1].seq == s->rows[i].seq)
            assert_int_equal(s->rows[i].pos, s->rows[i - 1].pos + 1);
        n_logits += (s->rows[i].flags & EXO_ROW_LOGITS) != 0;
    }
    assert_in_range(n_prompt_rows, 0, w->desc.chunk_tokens);
    assert_in_range(n_logits, 0, w->desc.max_seqs);
    for (uint32_t i = 0; i < f->n_admitted; i++) {
        const request *r = &w->requests[f->admitted[i].id];
        exo_tokens known = exo_sched_tokens(w->sched, f->admitted[i].id);
        assert_int_equal(f->admitted[i].n_history, r->n_tokens - r->n_prompt);
        assert_int_equal(known.n, r->n_tokens);
        assert_memory_equal(known.ids, r->tokens, known.n * sizeof *known.ids);
    }
}

static void add_some(world *w) {
    while (w->n_added < N_REQUESTS && w->n_live < 12 && rng(3) != 0) {
        request *r = &w->requests[w->n_added];
        exo_error err = {0};
        if (exo_sched_add(w->sched, w->n_added, (exo_tokens){r->tokens, r->n_prompt}, &err) !=
            EXO_OK)
            fail_msg("%s", err.message);
        r->live = true;
        w->n_added++;
        w->n_live++;
    }
}

static void cancel_one(world *w) {
    uint32_t id = rng(N_REQUESTS);
    if (w->n_added <= id || !w->requests[id].live || w->requests[id].lingers) return;
    w->n_cancelled++;
    end(w, id);
}

static void end_lingering(world *w) {
    for (uint32_t id = 0; id < w->n_added; id++) {
        if (w->requests[id].lingers && rng(20) == 0) end(w, id);
    }
}

/* Runs one world to its end; the totals of what happened are added to *total. */
static void run_world(const exo_sched_desc *desc, uint32_t cancel_1_in, exo_sched_stats *total) {
    static world w;
    static stage stages[N_STAGES];
    static flight flights[MAX_STEPS];
    memset(&w, 0, sizeof w);
    memset(stages, 0, sizeof stages);
    w.desc = *desc;
    uint32_t pool_tokens = desc->n_pages * EXO_KV_PAGE_TOKENS + 1;
    w.lag = 1 + rng(6);
    w.limit = desc->ctx_tokens < pool_tokens ? desc->ctx_tokens : pool_tokens;
    make_requests(&w);
    assert_int_equal(exo_sched_create(desc, &w.sched, NULL), EXO_OK);
    for (int i = 0; i < MAX_STEPS; i++)
        assert_int_equal(
            exo_step_init(&flights[i].step, desc->max_rows, exo_sched_step_pages(w.sched), NULL),
            EXO_OK);
    uint64_t made = 0, answered = 0; /* steps */
    for (uint32_t round = 0; w.n_added < N_REQUESTS || w.n_live > 0; round++) {
        assert_in_range(round, 0, MAX_ROUNDS);
        if (rng(4) == 0) add_some(&w);
        end_lingering(&w);
        if (cancel_1_in > 0 && rng(cancel_1_in) == 0) cancel_one(&w);
        uint64_t allocated = exo_mem_count();
        flight *f = &flights[made % MAX_STEPS];
        f->n_drawn = 0;
        bool has_step = exo_sched_next(w.sched, &f->step, f->admitted, &f->n_admitted);
        if (has_step) {
            assert_true(f->step.number == ++made);
            check_step(&w, f);
        }
        bool hangs = !has_step && made == answered && w.n_live > 0 && w.n_lingering == 0;
        assert_false(hangs);
        for (int k = 0; k < N_STAGES; k++) {
            uint64_t ready = k == 0 ? made : stages[k - 1].n_run;
            while (stages[k].n_run < ready && (rng(w.lag) == 0 || !has_step))
                run_stage(&w, &stages[k], &flights[stages[k].n_run % MAX_STEPS], k == N_STAGES - 1);
        }
        while (answered < stages[N_STAGES - 1].n_run && (rng(w.lag) == 0 || !has_step))
            take_answers(&w, &flights[answered++ % MAX_STEPS]);
        assert_true(exo_mem_count() == allocated);
    }
    exo_sched_stats stats;
    exo_sched_get_stats(w.sched, &stats);
    assert_int_equal(stats.n_running + stats.n_waiting + stats.pages_used, 0);
    assert_int_equal(w.n_answered + w.n_cancelled, N_REQUESTS);
    total->preemptions += stats.preemptions;
    total->prefix_hit_tokens += stats.prefix_hit_tokens;
    for (int i = 0; i < MAX_STEPS; i++) exo_step_finish(&flights[i].step);
    exo_sched_destroy(w.sched);
}

static exo_sched_desc random_desc(void) {
    exo_sched_desc d = {
        .max_seqs = 1 + rng(8),
        .n_pages = 1 + rng(rng(2) == 0 ? 8 : 60),
        .ctx_tokens = 40 + rng(MAX_CTX - 40),
        .max_in_flight = 1 + rng(6),
    };
    d.has_classes = with_classes;
    d.max_rows = d.max_seqs + rng(64);
    d.chunk_tokens = 1 + rng(d.max_rows);
    return d;
}

static void run_worlds(uint64_t first_seed, int n, uint32_t cancel_1_in) {
    exo_sched_stats total = {0};
    for (int i = 0; i < n; i++) {
        rng_state = first_seed + (uint64_t)i;
        exo_sched_desc d = random_desc();
        run_world(&d, cancel_1_in, &total);
    }
    assert_true(total.preemptions > 100);
    assert_true(total.prefix_hit_tokens > 1000);
}

static void test_every_request_is_answered_from_its_own_prefix(void **state) {
    (void)state;
    run_worlds(1, 60, 0);
}

static void test_so_with_cancellation(void **state) {
    (void)state;
    run_worlds(1000, 60, 15);
}

/* A page that one request generated is never taken for another one's prompt, or the reverse. */
static void test_so_with_classes(void **state) {
    (void)state;
    with_classes = true;
    run_worlds(2000, 60, 15);
    with_classes = false;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_request_is_answered_from_its_own_prefix),
        cmocka_unit_test(test_so_with_cancellation),
        cmocka_unit_test(test_so_with_classes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
