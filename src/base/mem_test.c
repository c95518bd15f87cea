/* mem_test.c - the two hooks other tests stand on, growth, and pages from the OS. */
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void every_allocation_is_counted(void **state) {
    (void)state;
    uint64_t before = exo_mem_count();
    void *p = exo_malloc(10), *q = exo_calloc(3, 5);
    char *s = exo_strdup("name");
    p = exo_realloc(p, 1000);
    void *pages = exo_pages_alloc(5000);
    assert_int_equal(exo_mem_count() - before, 5);
    assert_string_equal(s, "name");
    exo_free(p);
    exo_free(q);
    exo_free(s);
    exo_pages_free(pages, 5000);
    exo_free(NULL);
    exo_pages_free(NULL, 1);
    assert_int_equal(exo_mem_count() - before, 5);
}

static void exactly_the_kth_allocation_fails_once(void **state) {
    (void)state;
    for (uint64_t k = 1; k <= 4; k++) {
        exo_mem_fail_at(k);
        for (uint64_t i = 1; i <= 6; i++) {
            void *p = exo_malloc(1);
            assert_int_equal(p == NULL, i == k);
            assert_int_equal(exo_mem_failed() != 0, i >= k);
            exo_free(p);
        }
    }
    exo_mem_fail_at(0);
    assert_false(exo_mem_failed());
}

static void nothing_is_still_a_pointer_and_overflow_is_not(void **state) {
    (void)state;
    void *p = exo_malloc(0), *q = exo_calloc(0, 8);
    assert_non_null(p);
    assert_non_null(q);
    p = exo_realloc(p, 0);
    assert_non_null(p);
    assert_null(exo_calloc(SIZE_MAX / 2, 3));
    exo_free(p);
    exo_free(q);
}

static void growth_doubles_and_a_failure_changes_nothing(void **state) {
    (void)state;
    int *items = NULL;
    size_t cap = 0;
    uint64_t before = exo_mem_count();
    for (size_t n = 1; n <= 1000; n++) {
        assert_int_equal(exo_grow((void **)&items, &cap, n, sizeof *items), 0);
        assert_true(cap >= n);
        items[n - 1] = (int)n;
    }
    assert_true(exo_mem_count() - before <= 9); /* 8, 16, ... 1024 */
    int *kept = items;
    size_t kept_cap = cap;
    exo_mem_fail_at(1);
    assert_int_equal(exo_grow((void **)&items, &cap, cap + 1, sizeof *items), -1);
    exo_mem_fail_at(0);
    assert_int_equal(exo_grow((void **)&items, &cap, SIZE_MAX / 2, sizeof *items), -1);
    assert_int_equal(exo_grow((void **)&items, &cap, SIZE_MAX, sizeof *items), -1);
    assert_ptr_equal(items, kept);
    assert_int_equal(cap, kept_cap);
    for (int i = 0; i < 1000; i++) assert_int_equal(items[i], i + 1);
    exo_free(items);
}

static void pages_are_zero_and_writable(void **state) {
    (void)state;
    unsigned char *p = exo_pages_alloc(100000);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % 4096, 0);
    for (size_t i = 0; i < 100000; i++) assert_int_equal(p[i], 0);
    memset(p, 1, 100000);
    exo_pages_free(p, 100000);
    exo_mem_fail_at(1);
    assert_null(exo_pages_alloc(1));
    exo_mem_fail_at(0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_is_counted),
        cmocka_unit_test(exactly_the_kth_allocation_fails_once),
        cmocka_unit_test(nothing_is_still_a_pointer_and_overflow_is_not),
        cmocka_unit_test(growth_doubles_and_a_failure_changes_nothing),
        cmocka_unit_test(pages_are_zero_and_writable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
