/* The page pool: reuse by age, and a page is found only behind the prefix it was computed in. */
#include "engine/pages.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const int32_t *tokens_of(int32_t kind) {
    static int32_t tokens[EXO_KV_PAGE_TOKENS];
    for (int32_t i = 0; i < EXO_KV_PAGE_TOKENS; i++) tokens[i] = kind * 100 + i;
    return tokens;
}

static exo_page_content page_of(int32_t kind) { return (exo_page_content){tokens_of(kind), 0}; }

static exo_pages *new_pool(uint32_t n) {
    exo_pages *p;
    assert_int_equal(exo_pages_create(n, &p, NULL), EXO_OK);
    return p;
}

static void assert_counts(const exo_pages *p, uint32_t held, uint32_t cached, uint32_t n_free) {
    exo_pages_counts c = exo_pages_count(p);
    assert_int_equal(c.n_held, held);
    assert_int_equal(c.n_cached, cached);
    assert_int_equal(c.n_free, n_free);
}

static void test_unknown_pages_become_free(void **state) {
    (void)state;
    exo_pages *p = new_pool(2);
    uint32_t a = exo_pages_take(p), b = exo_pages_take(p);
    assert_int_not_equal(a, b);
    assert_int_equal(exo_pages_take(p), EXO_NO_PAGE);
    exo_pages_hold(p, a);
    exo_pages_release(p, a);
    assert_true(exo_pages_is_held(p, a));
    exo_pages_release(p, a);
    assert_false(exo_pages_is_held(p, a));
    assert_counts(p, 1, 0, 1);
    assert_int_equal(exo_pages_take(p), a);
    exo_pages_destroy(p);
}

static void test_oldest_cached_page_goes_first(void **state) {
    (void)state;
    exo_pages *p = new_pool(3);
    uint32_t page[3];
    for (int32_t i = 0; i < 3; i++) {
        exo_prefix prefix = {0};
        page[i] = exo_pages_take(p);
        exo_pages_publish(p, page[i], &prefix, page_of(i));
    }
    exo_pages_release(p, page[1]);
    exo_pages_release(p, page[0]);
    exo_pages_release(p, page[2]);
    assert_counts(p, 0, 3, 0);
    exo_prefix prefix = {0};
    assert_int_equal(exo_pages_find(p, &prefix, page_of(1)), page[1]); /* looking is no use */
    exo_pages_hold(p, page[0]);                                        /* holding is */
    exo_pages_release(p, page[0]);
    assert_int_equal(exo_pages_take(p), page[1]);
    assert_int_equal(exo_pages_take(p), page[2]);
    assert_int_equal(exo_pages_take(p), page[0]);
    prefix = (exo_prefix){0};
    for (int32_t i = 0; i < 3; i++)
        assert_int_equal(exo_pages_find(p, &prefix, page_of(i)), EXO_NO_PAGE);
    exo_pages_destroy(p);
}

static void test_same_tokens_behind_another_prefix_are_another_page(void **state) {
    (void)state;
    exo_pages *p = new_pool(4);
    exo_prefix a = {0}, b = {0};
    uint32_t pa = exo_pages_take(p), pb = exo_pages_take(p), tail = exo_pages_take(p);
    exo_pages_publish(p, pa, &a, page_of(1));
    exo_pages_publish(p, pb, &b, page_of(2));
    exo_prefix after_a = a;
    exo_pages_publish(p, tail, &after_a, page_of(3));
    exo_prefix found = b;
    assert_int_equal(exo_pages_find(p, &found, page_of(3)), EXO_NO_PAGE);
    assert_memory_equal(&found, &b, sizeof b);
    found = a;
    assert_int_equal(exo_pages_find(p, &found, page_of(3)), tail);
    assert_memory_equal(&found, &after_a, sizeof found);
    found = (exo_prefix){0};
    assert_int_equal(exo_pages_find(p, &found, page_of(3)), EXO_NO_PAGE);
    /* A prefix that only has the right hash is not the right prefix. */
    found = (exo_prefix){.hash = a.hash, .serial = b.serial};
    assert_int_equal(exo_pages_find(p, &found, page_of(3)), EXO_NO_PAGE);
    exo_pages_destroy(p);
}

static void test_same_tokens_of_another_class_are_another_page(void **state) {
    (void)state;
    exo_pages *p = new_pool(3);
    uint32_t page[3];
    const uint32_t n_prompt[3] = {EXO_KV_PAGE_TOKENS, 7, 0};
    for (int i = 0; i < 3; i++) {
        exo_prefix prefix = {0};
        page[i] = exo_pages_take(p);
        exo_pages_publish(p, page[i], &prefix, (exo_page_content){tokens_of(1), n_prompt[i]});
    }
    for (int i = 0; i < 3; i++) {
        exo_prefix prefix = {0};
        exo_page_content content = {tokens_of(1), n_prompt[i]};
        assert_int_equal(exo_pages_find(p, &prefix, content), page[i]);
    }
    exo_prefix prefix = {0};
    exo_page_content other = {tokens_of(1), 8};
    assert_int_equal(exo_pages_find(p, &prefix, other), EXO_NO_PAGE);
    exo_pages_destroy(p);
}

static void test_second_page_of_equal_content_stays_unknown(void **state) {
    (void)state;
    exo_pages *p = new_pool(2);
    exo_prefix a = {0}, b = {0};
    uint32_t first = exo_pages_take(p), second = exo_pages_take(p);
    exo_pages_publish(p, first, &a, page_of(1));
    exo_pages_publish(p, second, &b, page_of(1));
    assert_memory_equal(&a, &b, sizeof a);
    exo_pages_release(p, first);
    exo_pages_release(p, second);
    assert_counts(p, 0, 1, 1);
    exo_prefix prefix = {0};
    assert_int_equal(exo_pages_find(p, &prefix, page_of(1)), first);
    exo_pages_destroy(p);
}

static void test_page_behind_a_dropped_one_is_not_found(void **state) {
    (void)state;
    exo_pages *p = new_pool(2);
    exo_prefix prefix = {0};
    uint32_t head = exo_pages_take(p), tail = exo_pages_take(p);
    exo_pages_publish(p, head, &prefix, page_of(1));
    exo_pages_publish(p, tail, &prefix, page_of(2));
    exo_pages_release(p, head);
    head = exo_pages_take(p); /* the same page, to be computed again */
    prefix = (exo_prefix){0};
    exo_pages_publish(p, head, &prefix, page_of(1));
    assert_int_equal(exo_pages_find(p, &prefix, page_of(2)), EXO_NO_PAGE);
    exo_pages_destroy(p);
}

static void test_create_refuses_and_survives(void **state) {
    (void)state;
    exo_pages *p;
    assert_int_equal(exo_pages_create(0, &p, NULL), EXO_EINVAL);
    for (uint64_t k = 1; k <= 3; k++) {
        exo_mem_fail_at(k);
        assert_int_equal(exo_pages_create(10, &p, NULL), EXO_ENOMEM);
        assert_null(p);
    }
    exo_mem_fail_at(0);
    exo_pages_destroy(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unknown_pages_become_free),
        cmocka_unit_test(test_oldest_cached_page_goes_first),
        cmocka_unit_test(test_same_tokens_behind_another_prefix_are_another_page),
        cmocka_unit_test(test_same_tokens_of_another_class_are_another_page),
        cmocka_unit_test(test_second_page_of_equal_content_stays_unknown),
        cmocka_unit_test(test_page_behind_a_dropped_one_is_not_found),
        cmocka_unit_test(test_create_refuses_and_survives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
