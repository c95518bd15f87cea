/* arena_test.c - alignment, limits, overflow, and failure that is remembered. */
#include "base/arena.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void blocks_are_aligned_and_do_not_overlap(void **state) {
    (void)state;
    exo_arena a = {0};
    unsigned char *p[200];
    for (size_t i = 0; i < 200; i++) {
        size_t n = i * 131 % 9000;
        p[i] = exo_arena_alloc(&a, n);
        assert_non_null(p[i]);
        assert_int_equal((uintptr_t)p[i] % 16, 0);
        memset(p[i], (int)i, n);
    }
    for (size_t i = 0; i < 200; i++) {
        for (size_t k = 0; k < i * 131 % 9000; k++) assert_int_equal(p[i][k], i);
    }
    assert_true(exo_arena_ok(&a));
    exo_arena_finish(&a);
    assert_null(a.head);
    assert_int_equal(a.used_bytes, 0);
}

static void what_is_cleared_keeps_one_block_for_the_next_use(void **state) {
    (void)state;
    exo_arena a = {.limit_bytes = 20000};
    exo_arena_clear(&a); /* nothing in it yet */
    for (size_t i = 0; i < 3; i++) assert_non_null(exo_arena_alloc(&a, 5000));
    const exo_arena_block *newest = a.head;
    exo_arena_clear(&a);
    assert_ptr_equal(a.head, newest);
    assert_int_equal(a.used_bytes, 0);
    assert_int_equal(a.limit_bytes, 20000);
    unsigned char *p = exo_arena_alloc(&a, 4000);
    assert_non_null(p);
    assert_ptr_equal(a.head, newest);
    memset(p, 1, 4000);
    assert_null(exo_arena_alloc(&a, 19000));
    assert_false(exo_arena_ok(&a));
    exo_arena_clear(&a);
    assert_true(exo_arena_ok(&a));
    exo_arena_finish(&a);
}

static void zeroed_memory_is_zero(void **state) {
    (void)state;
    exo_arena a = {0};
    memset(exo_arena_alloc(&a, 512), 0xFF, 512);
    const unsigned char *p = exo_arena_zalloc(&a, 100, 7);
    for (size_t i = 0; i < 700; i++) assert_int_equal(p[i], 0);
    exo_arena_finish(&a);
}

static void strings_are_copied_with_their_length(void **state) {
    (void)state;
    exo_arena a = {0};
    assert_string_equal(exo_arena_strndup(&a, "prefix and more", 6), "prefix");
    assert_string_equal(exo_arena_strndup(&a, NULL, 0), "");
    exo_arena_finish(&a);
}

static void the_limit_holds_and_survives_finish(void **state) {
    (void)state;
    exo_arena a = {.limit_bytes = 64};
    assert_non_null(exo_arena_alloc(&a, 33)); /* 48 with alignment */
    assert_non_null(exo_arena_alloc(&a, 16));
    assert_true(exo_arena_ok(&a));
    assert_null(exo_arena_alloc(&a, 1));
    assert_false(exo_arena_ok(&a));
    exo_arena_finish(&a);
    assert_true(exo_arena_ok(&a));
    assert_null(exo_arena_alloc(&a, 65));
    exo_arena_finish(&a);
}

static void sizes_that_overflow_fail(void **state) {
    (void)state;
    exo_arena a = {0};
    assert_null(exo_arena_zalloc(&a, SIZE_MAX / 2, 3));
    assert_null(exo_arena_alloc(&a, SIZE_MAX));
    assert_null(exo_arena_alloc(&a, SIZE_MAX - 8));
    assert_null(exo_arena_strndup(&a, "x", SIZE_MAX));
    assert_false(exo_arena_ok(&a));
    exo_arena_finish(&a);
}

static void a_failed_allocation_is_remembered(void **state) {
    (void)state;
    exo_arena a = {0};
    exo_mem_fail_at(1);
    assert_null(exo_arena_alloc(&a, 8));
    exo_mem_fail_at(0);
    assert_non_null(exo_arena_alloc(&a, 8));
    assert_false(exo_arena_ok(&a));
    exo_arena_finish(&a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_aligned_and_do_not_overlap),
        cmocka_unit_test(what_is_cleared_keeps_one_block_for_the_next_use),
        cmocka_unit_test(zeroed_memory_is_zero),
        cmocka_unit_test(strings_are_copied_with_their_length),
        cmocka_unit_test(the_limit_holds_and_survives_finish),
        cmocka_unit_test(sizes_that_overflow_fail),
        cmocka_unit_test(a_failed_allocation_is_remembered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
