/* safetensors_test.c - headers that are right, and every way of lying in one. */
#include "model/safetensors.h"

#include "base/buf.h"
#include "base/le.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void make(exo_buf *b, const char *header, size_t n_data) {
    uint8_t size[8];
    exo_put_u64(size, strlen(header));
    exo_buf_clear(b);
    exo_buf_append(b, size, sizeof size);
    exo_buf_puts(b, header);
    for (size_t i = 0; i < n_data; i++) exo_buf_putc(b, (char)i);
}

static const char good[] = "{\"b\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[4,28]},\"__"
                           "metadata__\":{\"format\":"
                           "\"pt\"},\"a\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]}"
                           ",\"e\":{\"dtype\":\"I8\","
                           "\"shape\":[0,7],\"data_offsets\":[28,28]},\"s\":{\"dtype\":\"F16\","
                           "\"shape\":[],\"data_offsets\":"
                           "[28,30]}}  ";

static void tensors_are_read(void **ud) {
    (void)ud;
    exo_buf b = {0};
    exo_safetensors s;
    exo_error err = {0};
    make(&b, good, 30);
    if (exo_safetensors_parse(b.data, b.n, &s, &err) != EXO_OK) fail_msg("%s", err.message);
    assert_int_equal(s.n, 4);
    assert_string_equal(s.tensors[0].name, "a");
    assert_string_equal(s.tensors[1].name, "b");
    assert_int_equal(s.tensors[1].shape[1], 3);
    assert_int_equal(s.tensors[1].bytes, 24);
    assert_int_equal(s.tensors[1].data[0], 4);
    assert_int_equal(s.tensors[2].bytes, 0);
    assert_int_equal(s.tensors[3].n_dims, 0);
    exo_safetensors_finish(&s);
    exo_buf_finish(&b);
}

static void lies_are_refused(void **ud) {
    (void)ud;
    static const struct {
        const char *header;
        size_t n_data;
        const char *says;
    } bad[] = {
        {"[]", 0, "not a safetensors file"},
        {"{", 0, "not a safetensors file"},
        {"{x}", 0, "no JSON object"},
        {"{\"a\":1}", 0, "no dtype"},
        {"{\"a\":{\"dtype\":\"F99\",\"shape\":[],\"data_offsets\":[0,0]}}", 0, "unknown dtype F99"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 3, "the file has 3"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, "at 4 to 0"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "asks for 8"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 8, "belong to no"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "leaves a gap"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
         4, "'b' overlaps"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
         8, "duplicate"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "dimension 0"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}", 4, "dimension 0"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,4]}}", 4,
         "overflows"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[9223372036854775807],\"data_offsets\":[0,4]}}", 4,
         "overflows"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4,
         "at most 8"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":{},\"data_offsets\":[0,4]}}", 4, "no list"},
        {"{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}", 1, "whole number of"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "two whole numbers"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,99999999999999999999]}}", 4,
         "no JSON object"},
    };
    exo_buf b = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        exo_safetensors s;
        exo_error err = {0};
        make(&b, bad[i].header, bad[i].n_data);
        assert_int_not_equal(exo_safetensors_parse(b.data, b.n, &s, &err), EXO_OK);
        assert_null(s.tensors);
        if (strstr(err.message, bad[i].says) == NULL) {
            fail_msg("%s: \"%s\" does not say \"%s\"", bad[i].header, err.message, bad[i].says);
        }
    }
    exo_buf_finish(&b);
}

static void every_cut_and_size_is_refused(void **ud) {
    (void)ud;
    exo_buf b = {0};
    make(&b, good, 30);
    for (size_t n = 0; n < b.n; n++) {
        exo_safetensors s;
        exo_error err = {0};
        assert_int_not_equal(exo_safetensors_parse(b.data, n, &s, &err), EXO_OK);
    }
    static const uint64_t sizes[] = {0, 1, UINT64_MAX, INT64_MAX, 1ull << 40};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        exo_safetensors s;
        exo_put_u64(b.data, sizes[i]);
        assert_int_equal(exo_safetensors_parse(b.data, b.n, &s, NULL), EXO_EFORMAT);
    }
    exo_buf_finish(&b);
}

static void deep_nesting_is_refused(void **ud) {
    (void)ud;
    exo_buf header = {0}, b = {0};
    exo_safetensors s;
    exo_buf_puts(&header, "{\"a\":");
    for (int i = 0; i < 100000; i++) exo_buf_putc(&header, '[');
    make(&b, exo_buf_str(&header), 0);
    assert_int_equal(exo_safetensors_parse(b.data, b.n, &s, NULL), EXO_EUNSUPPORTED);
    exo_buf_finish(&header);
    exo_buf_finish(&b);
}

/* Three bytes of text would be some hundred bytes of tree. */
static void many_lists_are_refused(void **ud) {
    (void)ud;
    exo_buf header = {0}, b = {0};
    exo_safetensors s;
    exo_error err = {0};
    exo_buf_puts(&header, "{\"a\":[");
    for (int i = 0; i < 700000; i++) exo_buf_puts(&header, "[],");
    exo_buf_puts(&header, "0]}");
    make(&b, exo_buf_str(&header), 0);
    assert_int_equal(exo_safetensors_parse(b.data, b.n, &s, &err), EXO_EUNSUPPORTED);
    assert_non_null(strstr(err.message, "600000"));
    exo_buf_finish(&header);
    exo_buf_finish(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_read),
        cmocka_unit_test(lies_are_refused),
        cmocka_unit_test(every_cut_and_size_is_refused),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(many_lists_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
