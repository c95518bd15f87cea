/* buf_test.c - growth, the NUL behind the last byte, limits, and failure that keeps the bytes. */
#include "base/buf.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void every_way_to_append(void **state) {
    (void)state;
    exo_buf b = {0};
    assert_string_equal(exo_buf_str(&b), "");
    exo_buf_puts(&b, "layers ");
    exo_buf_printf(&b, "[%d, %d", 3, 17);
    exo_buf_putc(&b, ')');
    exo_buf_append(&b, NULL, 0);
    exo_buf_append(&b, "\0x", 2);
    assert_true(exo_buf_ok(&b));
    assert_int_equal(b.n, 16);
    assert_memory_equal(b.data, "layers [3, 17)\0x", 17); /* and the NUL */
    exo_buf_finish(&b);
    assert_null(b.data);
}

static void grows_past_many_doublings(void **state) {
    (void)state;
    exo_buf b = {0};
    for (int i = 0; i < 20000; i++) exo_buf_printf(&b, "%d,", i % 10);
    assert_int_equal(b.n, 40000);
    for (size_t i = 0; i < b.n; i += 2) assert_int_equal(b.data[i], '0' + (int)(i / 2 % 10));
    assert_int_equal(b.data[b.n], '\0');
    exo_buf_finish(&b);
}

static void drops_from_the_front(void **state) {
    (void)state;
    exo_buf b = {0};
    exo_buf_drop_front(&b, 0);
    exo_buf_puts(&b, "headbody");
    exo_buf_drop_front(&b, 4);
    assert_string_equal(exo_buf_str(&b), "body");
    exo_buf_drop_front(&b, 4);
    assert_int_equal(b.n, 0);
    assert_string_equal(exo_buf_str(&b), "");
    exo_buf_finish(&b);
}

static void the_limit_is_exact(void **state) {
    (void)state;
    exo_buf b = {.limit_bytes = 5};
    exo_buf_puts(&b, "12345");
    assert_true(exo_buf_ok(&b));
    exo_buf_putc(&b, '6');
    assert_false(exo_buf_ok(&b));
    assert_string_equal(exo_buf_str(&b), "12345");
    exo_buf_clear(&b);
    assert_true(exo_buf_ok(&b));
    exo_buf_printf(&b, "%s", "123456");
    assert_false(exo_buf_ok(&b));
    assert_string_equal(exo_buf_str(&b), "");
    exo_buf_finish(&b);
    assert_int_equal(b.limit_bytes, 5);
    assert_false(exo_buf_reserve(&(exo_buf){0}, SIZE_MAX));
}

static void a_failed_growth_keeps_the_bytes(void **state) {
    (void)state;
    exo_buf b = {0};
    char many[100];
    memset(many, 'x', sizeof many);
    exo_buf_puts(&b, "kept");
    exo_mem_fail_at(1);
    exo_buf_append(&b, many, sizeof many);
    exo_mem_fail_at(0);
    exo_buf_puts(&b, "not"); /* a hole in the middle would be worse than a short end */
    assert_false(exo_buf_ok(&b));
    assert_string_equal(exo_buf_str(&b), "kept");
    exo_buf_finish(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_way_to_append),
        cmocka_unit_test(grows_past_many_doublings),
        cmocka_unit_test(drops_from_the_front),
        cmocka_unit_test(the_limit_is_exact),
        cmocka_unit_test(a_failed_growth_keeps_the_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
