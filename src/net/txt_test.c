/* txt_test.c - TXT records: what is written is read, and odd ones are refused with a reason. */
#include "net/txt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static exo_status read_items(const char *const *items, size_t n, exo_txt *out, exo_error *err) {
    uint8_t bytes[1024];
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        size_t k = strlen(items[i]);
        bytes[used++] = (uint8_t)k;
        memcpy(bytes + used, items[i], k);
        used += k;
    }
    return exo_txt_read(bytes, used, out, err);
}
#define READ(out, err, ...)                                                                        \
    read_items((const char *const[]){__VA_ARGS__},                                                 \
               sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *), out, err)

static void what_is_written_is_read(void **state) {
    (void)state;
    exo_txt in = {.gpu_name = "Adreno 740",
                  .gpu_vendor = "Qualcomm",
                  .max_memory = 8ull << 30,
                  .compute_units = 6,
                  .id = "0123456789abcdef",
                  .cluster = "fedcba9876543210",
                  .port = 52416,
                  .v = 1},
            out;
    uint8_t bytes[EXO_TXT_BYTES];
    size_t n = exo_txt_write(&in, bytes);
    assert_true(n > 0 && n < 400);
    assert_int_equal(exo_txt_read(bytes, n, &out, NULL), EXO_OK);
    assert_string_equal(out.gpu_name, in.gpu_name);
    assert_string_equal(out.gpu_vendor, in.gpu_vendor);
    assert_string_equal(out.id, in.id);
    assert_string_equal(out.cluster, in.cluster);
    assert_true(out.max_memory == in.max_memory && out.compute_units == 6 && out.port == 52416 &&
                out.v == 1);
    for (size_t cut = 0; cut < n; cut++) { /* never more than was there */
        exo_error err = {0};
        exo_status st = exo_txt_read(bytes, cut, &out, &err);
        assert_true(st == EXO_OK || err.message[0] != '\0');
    }
}

static void unknown_and_repeated_keys_are_skipped(void **state) {
    (void)state;
    exo_txt t;
    assert_int_equal(READ(&t, NULL, "flag", "id=0123456789abcdef", "colour=blue",
                          "id=ffffffffffffffff", "v=2", ""),
                     EXO_OK);
    assert_string_equal(t.id, "0123456789abcdef");
    assert_int_equal(t.v, 2);
}

static void values_that_are_none_are_refused(void **state) {
    (void)state;
    exo_txt t;
    exo_error err = {0};
    assert_int_equal(READ(&t, &err, "id=0123456789abcdeX"), EXO_EFORMAT);
    assert_non_null(strstr(err.message, "id"));
    assert_int_equal(READ(&t, &err, "id=0123456789abcdef", "port=99999"), EXO_EFORMAT);
    assert_non_null(strstr(err.message, "port"));
    assert_int_equal(READ(&t, &err, "id=0123456789abcdef", "max_memory=-1"), EXO_EFORMAT);
    assert_int_equal(READ(&t, &err, "id=0123456789abcdef", "compute_units="), EXO_EFORMAT);
    assert_int_equal(READ(&t, &err, "v=1"), EXO_EFORMAT);
    assert_non_null(strstr(err.message, "without id"));
    assert_int_equal(READ(&t, &err, "id=0123456789abcdef", "gpu_name=a\nb"), EXO_OK);
    assert_string_equal(t.gpu_name, "a?b");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(unknown_and_repeated_keys_are_skipped),
        cmocka_unit_test(values_that_are_none_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
