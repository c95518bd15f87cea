/* The CPU backend's table: devices, buffers, names. */
#define _DEFAULT_SOURCE /* setenv */
#include "base/mem.h"
#include "compute/backend.h"
#include "compute/cpu/bandwidth.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_list(void **state) {
    (void)state;
    exo_device_info info;
    size_t n;
    assert_int_equal(exo_backend_cpu.list_devices(&info, 1, &n, NULL), EXO_OK);
    assert_int_equal(n, 1);
    assert_string_equal(info.id, "cpu:0");
    assert_true(info.name[0] != '\0' && info.driver[0] != '\0');
    assert_true(info.compute_units >= 1 && info.memory_bytes > 0);
    assert_true(info.memory_available_bytes <= info.memory_bytes);
    assert_true(isnan(info.power_watts));
    assert_int_equal(exo_backend_cpu.list_devices(NULL, 0, &n, NULL), EXO_OK);
    assert_int_equal(n, 1);
}

static void expect_open(const char *id, const exo_device_desc *desc, exo_status want,
                        const char *says) {
    const exo_backend *b;
    exo_device *d;
    exo_error err;
    assert_int_equal(exo_device_open(id, desc, &b, &d, &err), want);
    if (want == EXO_OK) {
        b->close(d);
        return;
    }
    assert_true(b == NULL && d == NULL);
    if (strstr(err.message, says) == NULL) fail_msg("'%s' lacks '%s'", err.message, says);
}

static void test_open(void **state) {
    (void)state;
    expect_open("cpu:0", NULL, EXO_OK, NULL);
    expect_open("cpu:0", &(exo_device_desc){.n_threads = 3, .isa = "reference"}, EXO_OK, NULL);
    expect_open("cpu:1", NULL, EXO_ENOTFOUND, "cpu:1");
    expect_open("tpu:0", NULL, EXO_ENOTFOUND, "tpu:0");
    expect_open("cpu", NULL, EXO_EINVAL, "'cpu'");
    expect_open("cpu:x", NULL, EXO_EINVAL, "'cpu:x'");
    expect_open("cpu:0z", NULL, EXO_EINVAL, "'cpu:0z'");
    expect_open("cpu:0", &(exo_device_desc){.n_threads = 100000}, EXO_EINVAL, "100000 threads");
    expect_open("cpu:0", &(exo_device_desc){.isa = "mmx"}, EXO_EINVAL, "mmx");
}

static void test_isa_from_environment(void **state) {
    (void)state;
    exo_device_info info;
    size_t n;
    exo_error err;
    assert_int_equal(setenv("EXO_CPU_ISA", "reference", 1), 0);
    assert_int_equal(exo_backend_cpu.list_devices(&info, 1, &n, NULL), EXO_OK);
    assert_string_equal(info.driver, "reference");
    assert_int_equal(setenv("EXO_CPU_ISA", "none", 1), 0);
    assert_int_equal(exo_backend_cpu.initialize(&err), EXO_EINVAL);
    assert_int_equal(unsetenv("EXO_CPU_ISA"), 0);
}

static void test_buffers(void **state) {
    (void)state;
    const exo_backend *b = &exo_backend_cpu;
    exo_device *d;
    exo_buffer *x, *y;
    exo_device_info info;
    uint8_t in[8] = {1, 2, 3, 4, 5, 6, 7, 8}, out[8] = {0};
    assert_int_equal(b->open(0, NULL, &d, NULL), EXO_OK);
    assert_int_equal(b->query(d, &info, NULL), EXO_OK);
    assert_string_equal(info.id, "cpu:0");
    assert_int_equal(b->allocate(d, 8, &x, NULL), EXO_OK);
    assert_int_equal(b->allocate(d, 8, &y, NULL), EXO_OK);
    assert_int_equal(b->copy_to_device(d, x, 0, in, 8, NULL), EXO_OK);
    assert_int_equal(b->copy_device_to_device(d, y, 2, x, 0, 6, NULL), EXO_OK);
    assert_int_equal(b->copy_from_device(d, out, y, 0, 8, NULL), EXO_OK);
    assert_int_equal(b->synchronize(d, NULL), EXO_OK);
    const uint8_t want[8] = {0, 0, 1, 2, 3, 4, 5, 6};
    assert_memory_equal(out, want, 8);
    assert_int_equal(b->copy_to_device(d, x, 1, in, 8, NULL), EXO_EINVAL);
    assert_int_equal(b->copy_from_device(d, out, x, 9, 0, NULL), EXO_EINVAL);
    assert_int_equal(b->copy_device_to_device(d, y, SIZE_MAX, x, 0, 2, NULL), EXO_EINVAL);
    b->deallocate(d, x);
    b->deallocate(d, y);
    for (uint64_t k = 1; k <= 2; k++) {
        exo_mem_fail_at(k);
        assert_int_equal(b->allocate(d, 8, &x, NULL), EXO_ENOMEM);
        assert_null(x);
    }
    exo_mem_fail_at(0);
    b->deallocate(d, NULL);
    b->close(d);
    b->close(NULL);
}

static void test_read_bandwidth(void **state) {
    (void)state;
    double gbps = exo_cpu_read_bandwidth(1, 20);
    assert_true(gbps > 0.1 && gbps < 10000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_open),
        cmocka_unit_test(test_isa_from_environment),
        cmocka_unit_test(test_buffers),
        cmocka_unit_test(test_read_bandwidth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
