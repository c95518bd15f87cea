/* The scheduler's promises one by one; scheduler_property_test.c has their interplay. */
#include "engine/scheduler.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct {
    exo_sched *sched;
    exo_step step;
    exo_admission admitted[8];
    uint32_t n_admitted;
} fixture;

static fixture start(const exo_sched_desc *d) {
    fixture f = {0};
    exo_error err = {0};
    if (exo_sched_create(d, &f.sched, &err) != EXO_OK) fail_msg("%s", err.message);
    assert_int_equal(exo_step_init(&f.step, d->max_rows, exo_sched_step_pages(f.sched), NULL),
                     EXO_OK);
    return f;
}

static void finish(fixture *f) {
    exo_step_finish(&f->step);
    exo_sched_destroy(f->sched);
}

static exo_status try_add(fixture *f, uint64_t id, int32_t first, size_t n, exo_error *err) {
    int32_t *tokens = calloc(n + 1, sizeof *tokens);
    assert_non_null(tokens);
    for (size_t i = 0; i < n; i++) tokens[i] = first + (int32_t)i;
    exo_status st = exo_sched_add(f->sched, id, (exo_tokens){tokens, n}, err);
    free(tokens);
    return st;
}

static void add(fixture *f, uint64_t id, int32_t first, size_t n) {
    exo_error err = {0};
    if (try_add(f, id, first, n, &err) != EXO_OK) fail_msg("%s", err.message);
}

static bool next(fixture *f) {
    return exo_sched_next(f->sched, &f->step, f->admitted, &f->n_admitted);
}

/* Answers the oldest step in flight, which drew one token. */
static exo_sched_answer answer_one(fixture *f, uint64_t number, uint32_t seq, int32_t token) {
    exo_sched_answer a = {0};
    exo_error err = {0};
    if (exo_sched_result(f->sched, number, &seq, &token, 1, &a, &err) != EXO_OK)
        fail_msg("%s", err.message);
    return a;
}

static void answer_none(fixture *f, uint64_t number) {
    assert_int_equal(exo_sched_result(f->sched, number, NULL, NULL, 0, NULL, NULL), EXO_OK);
}

static uint32_t cached(const fixture *f, uint64_t id) {
    uint32_t done, total, n;
    assert_true(exo_sched_progress(f->sched, id, &done, &total, &n));
    return n;
}

static exo_sched_stats stats(const fixture *f) {
    exo_sched_stats s;
    exo_sched_get_stats(f->sched, &s);
    return s;
}

static void test_prompt_in_chunks_then_decoding(void **state) {
    (void)state;
    fixture f = start(&(exo_sched_desc){
        .max_seqs = 2, .n_pages = 8, .ctx_tokens = 100, .max_rows = 64, .chunk_tokens = 30});
    add(&f, 7, 100, 40);
    assert_true(next(&f));
    assert_int_equal(f.n_admitted, 1);
    assert_int_equal(f.admitted[0].id, 7);
    assert_int_equal(f.admitted[0].seq, 0);
    assert_int_equal(f.admitted[0].n_history, 0);
    assert_int_equal(f.step.number, 1);
    assert_int_equal(f.step.n_rows, 30);
    assert_int_equal(f.step.n_pages, 2);
    assert_int_equal(f.step.rows[29].pos, 29);
    assert_int_equal(f.step.rows[29].token, 129);
    assert_int_equal(exo_step_n_logits(&f.step), 0);
    assert_false(next(&f)); /* one step in flight is the limit */
    answer_none(&f, 1);
    uint32_t done, total, n_cached;
    assert_true(exo_sched_progress(f.sched, 7, &done, &total, &n_cached));
    assert_int_equal(done, 30);
    assert_int_equal(total, 40);
    assert_int_equal(n_cached, 0);
    assert_false(exo_sched_progress(f.sched, 8, &done, &total, &n_cached));
    assert_true(next(&f));
    assert_int_equal(f.step.n_rows, 10);
    assert_int_equal(f.step.n_pages, 0);
    assert_int_equal(f.step.rows[9].flags, EXO_ROW_LOGITS);
    assert_int_equal(f.step.rows[8].flags, 0);
    exo_sched_answer a = answer_one(&f, 2, 0, 5);
    assert_true(a.live && !a.ctx_full);
    assert_int_equal(a.id, 7);
    assert_int_equal(a.pos, 40);
    assert_true(next(&f));
    assert_int_equal(f.step.n_rows, 1);
    assert_int_equal(f.step.rows[0].pos, 40);
    assert_int_equal(f.step.rows[0].token, 5);
    finish(&f);
}

static void test_equal_prefix_is_computed_once(void **state) {
    (void)state;
    fixture f =
        start(&(exo_sched_desc){.max_seqs = 2, .n_pages = 20, .ctx_tokens = 200, .max_rows = 128});
    add(&f, 1, 0, 100);
    assert_true(next(&f));
    answer_one(&f, 1, 0, 9);
    add(&f, 2, 0, 100); /* while the first still holds its pages */
    assert_true(next(&f));
    assert_int_equal(cached(&f, 2), 96);
    assert_int_equal(f.step.n_rows, 1 + 4);
    assert_int_equal(f.step.n_pages, 4); /* the shared ones as well */
    assert_int_equal(f.step.rows[1].pos, 96);
    exo_sched_answer out[2];
    assert_int_equal(
        exo_sched_result(f.sched, 2, (uint32_t[]){0, 1}, (int32_t[]){9, 9}, 2, out, NULL), EXO_OK);
    exo_sched_end(f.sched, 1);
    exo_sched_end(f.sched, 2);
    assert_int_equal(stats(&f).pages_used, 0);
    assert_int_equal(stats(&f).pages_cached, 3);
    add(&f, 3, 0,
        64); /* whole pages only: the last token is computed again, in a page of its own */
    assert_true(next(&f));
    assert_int_equal(cached(&f, 3), 32);
    assert_int_equal(f.step.n_rows, 32);
    assert_int_not_equal(f.step.pages[1].page, f.step.pages[0].page);
    assert_true(stats(&f).prefix_hit_tokens == 96 + 32);
    finish(&f);
}

static void test_pages_of_an_answer_are_found_again(void **state) {
    (void)state;
    fixture f =
        start(&(exo_sched_desc){.max_seqs = 2, .n_pages = 20, .ctx_tokens = 200, .max_rows = 128});
    add(&f, 1, 0, 60);
    for (int32_t i = 0; i < 5; i++) { /* rows up to position 63, whose page is whole then */
        assert_true(next(&f));
        answer_one(&f, f.step.number, 0, 60 + i);
    }
    exo_sched_end(f.sched, 1);
    add(&f, 2, 0, 70); /* the conversation goes on */
    assert_true(next(&f));
    assert_int_equal(cached(&f, 2), 64);
    finish(&f);
}

/* The same where a stage tells classes apart: what was generated is computed again as a prompt. */
static void test_pages_of_an_answer_are_of_another_class(void **state) {
    (void)state;
    fixture f = start(&(exo_sched_desc){
        .max_seqs = 2, .n_pages = 20, .ctx_tokens = 200, .max_rows = 128, .has_classes = true});
    add(&f, 1, 0, 60);
    for (int32_t i = 0; i < 5; i++) {
        assert_true(next(&f));
        assert_int_equal(f.step.rows[0].flags & EXO_ROW_PROMPT, i == 0 ? EXO_ROW_PROMPT : 0);
        assert_int_equal(f.step.rows[f.step.n_rows - 1].flags,
                         EXO_ROW_LOGITS | (i == 0 ? EXO_ROW_PROMPT : 0));
        answer_one(&f, f.step.number, 0, 60 + i);
    }
    exo_sched_end(f.sched, 1);
    add(&f, 2, 0, 70);
    assert_true(next(&f));
    assert_int_equal(cached(&f, 2), 32); /* the first page is the prompt's alone */
    finish(&f);
}

static void test_requests_at_once_share_from_the_next_step_on(void **state) {
    (void)state;
    fixture f = start(&(exo_sched_desc){.max_seqs = 4,
                                        .n_pages = 40,
                                        .ctx_tokens = 200,
                                        .max_rows = 128,
                                        .chunk_tokens = 70,
                                        .max_in_flight = 3});
    for (uint64_t id = 1; id <= 4; id++) add(&f, id, 0, 70);
    assert_true(next(&f));
    assert_int_equal(f.n_admitted, 1);
    assert_true(next(&f)); /* nothing has been answered yet */
    assert_int_equal(f.n_admitted, 3);
    assert_int_equal(f.step.n_rows, 3 * 6);
    for (uint64_t id = 2; id <= 4; id++) assert_int_equal(cached(&f, id), 64);
    assert_int_equal(stats(&f).pages_used, 2 + 4);
    finish(&f);
}

static void test_decoding_goes_before_prompts_and_first_come_first_served(void **state) {
    (void)state;
    fixture f = start(&(exo_sched_desc){
        .max_seqs = 3, .n_pages = 40, .ctx_tokens = 200, .max_rows = 8, .chunk_tokens = 5});
    add(&f, 1, 0, 5);
    assert_true(next(&f));
    answer_one(&f, 1, 0, 9);
    add(&f, 2, 1000, 7);
    add(&f, 3, 2000, 4);
    add(&f, 4, 3000, 1);
    assert_true(next(&f));
    assert_int_equal(f.step.n_rows, 6); /* one of 1, a chunk of 2 */
    assert_int_equal(f.step.rows[0].token, 9);
    assert_int_equal(f.step.rows[1].token, 1000);
    assert_int_equal(f.n_admitted, 1);
    answer_one(&f, 2, 0, 9);
    assert_true(next(&f));
    assert_int_equal(f.step.n_rows, 6); /* one of 1, two of 2, three of 3; 4 has no slot */
    assert_int_equal(f.step.rows[1].token, 1005);
    assert_int_equal(f.step.rows[3].token, 2000);
    assert_int_equal(stats(&f).n_waiting, 1);
    exo_sched_set_chunk(f.sched, 0);
    exo_sched_end(f.sched, 1);
    exo_sched_answer out[2];
    assert_int_equal(
        exo_sched_result(f.sched, 3, (uint32_t[]){0, 1}, (int32_t[]){1, 1}, 2, out, NULL), EXO_OK);
    assert_false(out[0].live);
    assert_int_equal(out[0].id, 1);
    assert_true(out[1].live);
    assert_true(next(&f));
    assert_int_equal(f.n_admitted, 1);
    assert_int_equal(f.admitted[0].id, 4);
    assert_int_equal(f.admitted[0].seq, 0);
    finish(&f);
}

static void test_youngest_is_put_back_and_comes_back(void **state) {
    (void)state;
    fixture f =
        start(&(exo_sched_desc){.max_seqs = 2, .n_pages = 4, .ctx_tokens = 128, .max_rows = 128});
    add(&f, 1, 0, 64);
    add(&f, 2, 500, 40);
    assert_true(next(&f));
    assert_int_equal(f.n_admitted, 2);
    exo_sched_answer out[2];
    assert_int_equal(
        exo_sched_result(f.sched, 1, (uint32_t[]){0, 1}, (int32_t[]){7, 8}, 2, out, NULL), EXO_OK);
    assert_true(next(&f)); /* 1 needs a third page */
    assert_int_equal(f.step.n_rows, 1);
    assert_int_equal(f.step.n_pages, 1);
    assert_int_equal(f.step.pages[0].index, 2);
    assert_true(stats(&f).preemptions == 1);
    assert_int_equal(stats(&f).n_waiting, 1);
    answer_one(&f, 2, 0, 7);
    assert_true(next(&f)); /* 2 needs two pages, only one is left */
    assert_int_equal(f.n_admitted, 0);
    answer_one(&f, 3, 0, 7);
    exo_sched_end(f.sched, 1);
    assert_true(next(&f));
    assert_int_equal(f.n_admitted, 1);
    assert_int_equal(f.admitted[0].id, 2);
    assert_int_equal(f.admitted[0].n_history, 1);
    exo_tokens known = exo_sched_tokens(f.sched, 2);
    assert_int_equal(known.n, 41);
    assert_int_equal(known.ids[40], 8);
    assert_int_equal(f.step.rows[f.step.n_rows - 1].pos, 40);
    assert_int_equal(answer_one(&f, 4, 0, 9).pos, 41);
    finish(&f);
}

/* Puts request 2 back while the row that draws its token is in flight (step 2), then ends 1. */
static fixture start_put_back_while_drawing(uint32_t ctx_tokens, size_t n_second) {
    fixture f = start(&(exo_sched_desc){.max_seqs = 2,
                                        .n_pages = n_second > 64 ? 5 : 4,
                                        .ctx_tokens = ctx_tokens,
                                        .max_rows = 128,
                                        .chunk_tokens = 65,
                                        .max_in_flight = 4});
    add(&f, 1, 0, 64);
    assert_true(next(&f));
    exo_sched_set_chunk(f.sched, 100);
    add(&f, 2, 500, n_second);
    assert_true(next(&f));
    assert_int_equal(f.n_admitted, 1);
    answer_one(&f, 1, 0, 3);
    assert_true(next(&f));
    assert_true(stats(&f).preemptions == 1);
    exo_sched_end(f.sched, 1);
    return f;
}

static void test_put_back_while_drawing_waits_for_its_token(void **state) {
    (void)state;
    fixture f = start_put_back_while_drawing(128, 40);
    assert_false(next(&f)); /* there is room, but its next token is on the way */
    exo_sched_answer a = answer_one(&f, 2, 1, 6);
    assert_true(a.live);
    assert_int_equal(a.pos, 40);
    assert_true(next(&f));
    assert_int_equal(f.admitted[0].id, 2);
    assert_int_equal(f.admitted[0].n_history, 1);
    assert_false(answer_one(&f, 3, 0, 6).live);
    finish(&f);
}

static void test_put_back_and_full_does_not_block_others(void **state) {
    (void)state;
    fixture f = start_put_back_while_drawing(66, 65);
    assert_true(answer_one(&f, 2, 1, 6).ctx_full);
    assert_false(next(&f));
    add(&f, 3, 900, 5);
    assert_true(next(&f));
    assert_int_equal(f.n_admitted, 1);
    assert_int_equal(f.admitted[0].id, 3);
    finish(&f);
}

static void test_context_and_pool_limit_the_answer(void **state) {
    (void)state;
    static const struct {
        uint32_t n_pages, ctx_tokens, n_drawn;
    } cases[] = {{9, 35, 5}, {1, 100, 3}}; /* one page: 32 computed positions and one more token */
    for (int i = 0; i < 2; i++) {
        fixture f = start(&(exo_sched_desc){.max_seqs = 1,
                                            .n_pages = cases[i].n_pages,
                                            .ctx_tokens = cases[i].ctx_tokens,
                                            .max_rows = 64});
        add(&f, 1, 0, 30);
        for (uint32_t k = 1; k <= cases[i].n_drawn; k++) {
            assert_true(next(&f));
            assert_int_equal(answer_one(&f, k, 0, 1).ctx_full, k == cases[i].n_drawn);
        }
        assert_false(next(&f));
        exo_sched_end(f.sched, 1);
        assert_int_equal(stats(&f).pages_used, 0);
        finish(&f);
    }
}

static void test_refusals_name_the_numbers(void **state) {
    (void)state;
    fixture f = start(&(exo_sched_desc){
        .max_seqs = 1, .n_pages = 3, .ctx_tokens = 200, .max_rows = 64, .max_waiting = 2});
    exo_error err = {0};
    assert_int_equal(try_add(&f, 1, 0, 0, &err), EXO_EINVAL);
    assert_int_equal(try_add(&f, 1, 0, 200, &err), EXO_ETOOLONG);
    assert_non_null(strstr(err.message, "200 tokens"));
    assert_int_equal(try_add(&f, 1, 0, 199, &err), EXO_ETOOLONG);
    assert_non_null(strstr(err.message, "7 KV pages"));
    assert_non_null(strstr(err.message, "only 3"));
    assert_int_equal(try_add(&f, 1, 0, 96, &err), EXO_OK);
    assert_int_equal(try_add(&f, 1, 0, 5, &err), EXO_EINVAL);
    assert_int_equal(try_add(&f, 2, 0, 5, &err), EXO_OK);
    assert_int_equal(try_add(&f, 3, 0, 5, &err), EXO_EBUSY);
    exo_sched_end(f.sched, 99);
    finish(&f);
}

static void test_wrong_results_change_nothing(void **state) {
    (void)state;
    fixture f =
        start(&(exo_sched_desc){.max_seqs = 2, .n_pages = 8, .ctx_tokens = 100, .max_rows = 64});
    exo_sched_answer out[2];
    exo_error err = {0};
    assert_int_equal(exo_sched_result(f.sched, 1, NULL, NULL, 0, out, &err), EXO_EINTERNAL);
    add(&f, 1, 0, 5);
    assert_true(next(&f));
    uint32_t seq = 0, other = 1;
    int32_t token = 3, negative = -1;
    assert_int_equal(exo_sched_result(f.sched, 2, &seq, &token, 1, out, &err), EXO_EINTERNAL);
    assert_int_equal(exo_sched_result(f.sched, 1, &seq, &token, 0, out, &err), EXO_EINTERNAL);
    assert_int_equal(exo_sched_result(f.sched, 1, &other, &token, 1, out, &err), EXO_EINTERNAL);
    assert_int_equal(exo_sched_result(f.sched, 1, &seq, &negative, 1, out, &err), EXO_EINTERNAL);
    assert_int_equal(exo_sched_result(f.sched, 1, &seq, &token, 1, out, &err), EXO_OK);
    assert_int_equal(exo_sched_result(f.sched, 1, &seq, &token, 1, out, &err), EXO_EINTERNAL);
    finish(&f);
}

static void test_create_checks_its_limits(void **state) {
    (void)state;
    const exo_sched_desc good = {.max_seqs = 4, .n_pages = 8, .ctx_tokens = 100, .max_rows = 64};
    exo_sched *s;
    exo_sched_desc d = good;
    d.max_seqs = 0;
    assert_int_equal(exo_sched_create(&d, &s, NULL), EXO_EINVAL);
    d = good;
    d.max_rows = 3;
    assert_int_equal(exo_sched_create(&d, &s, NULL), EXO_EINVAL);
    d = good;
    d.ctx_tokens = UINT32_MAX;
    assert_int_equal(exo_sched_create(&d, &s, NULL), EXO_EINVAL);
    d = good;
    d.n_pages = 0;
    assert_int_equal(exo_sched_create(&d, &s, NULL), EXO_EINVAL);
    assert_null(s);
    exo_sched_destroy(NULL);
}

static void test_no_memory_is_reported_and_nothing_leaks(void **state) {
    (void)state;
    const exo_sched_desc d = {.max_seqs = 4, .n_pages = 8, .ctx_tokens = 100, .max_rows = 64};
    static const int32_t prompt[] = {1, 2, 3};
    for (uint64_t k = 1;; k++) {
        exo_sched *s;
        exo_mem_fail_at(k);
        exo_status st = exo_sched_create(&d, &s, NULL);
        if (st == EXO_OK) st = exo_sched_add(s, 1, (exo_tokens){prompt, 3}, NULL);
        int failed = exo_mem_failed();
        exo_mem_fail_at(0);
        assert_int_equal(st, failed ? EXO_ENOMEM : EXO_OK);
        exo_sched_destroy(s);
        if (!failed) break;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prompt_in_chunks_then_decoding),
        cmocka_unit_test(test_equal_prefix_is_computed_once),
        cmocka_unit_test(test_pages_of_an_answer_are_found_again),
        cmocka_unit_test(test_pages_of_an_answer_are_of_another_class),
        cmocka_unit_test(test_requests_at_once_share_from_the_next_step_on),
        cmocka_unit_test(test_decoding_goes_before_prompts_and_first_come_first_served),
        cmocka_unit_test(test_youngest_is_put_back_and_comes_back),
        cmocka_unit_test(test_put_back_while_drawing_waits_for_its_token),
        cmocka_unit_test(test_put_back_and_full_does_not_block_others),
        cmocka_unit_test(test_context_and_pool_limit_the_answer),
        cmocka_unit_test(test_refusals_name_the_numbers),
        cmocka_unit_test(test_wrong_results_change_nothing),
        cmocka_unit_test(test_create_checks_its_limits),
        cmocka_unit_test(test_no_memory_is_reported_and_nothing_leaks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
