/* sensors_nvml_test.c - NVIDIA's library as a real shared object, opened at run time: a stand-in of
 * the tests (tests/nvml), and others that are no such library. */
#define _DEFAULT_SOURCE
#include "node/sensors_nvml.h"

#include "cluster/telemetry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static exo_sensors read_as(const char *library, const char *mood) {
    exo_sensors s;
    exo_sensors_clear(&s);
    assert_int_equal(setenv("EXO_FAKE_NVML", mood, 1), 0);
    exo_nvml *n = exo_nvml_create(library);
    assert_non_null(n);
    exo_nvml_read(n, &s);
    exo_nvml_destroy(n);
    return s;
}

static void a_gpu_tells_and_a_lost_one_is_left_out(void **state) {
    (void)state;
    exo_sensors s = read_as(EXO_FAKE_NVML_LIBRARY, "");
    assert_int_equal(s.n_gpus, 1);
    const exo_gpu_sensors *g = &s.gpus[0];
    assert_int_equal(g->pci_vendor, 0x10DE);
    assert_string_equal(g->pci_address, "0000:41:00.0");
    assert_true(g->busy_percent == 37 && g->temperature_celsius == 61);
    assert_true(g->power_watts == 123.5 && g->clock_mhz == 1410);
    assert_true(g->memory_total_bytes == 8ull << 30 && g->memory_used_bytes == 2ull << 30);
}

static void figures_that_no_gpu_has_are_unknown(void **state) {
    (void)state;
    exo_sensors s = read_as(EXO_FAKE_NVML_LIBRARY, "odd");
    assert_int_equal(s.n_gpus, 1);
    const exo_gpu_sensors *g = &s.gpus[0];
    assert_true(isnan(g->busy_percent) && isnan(g->temperature_celsius));
    assert_true(isnan(g->power_watts) && isnan(g->clock_mhz));
    assert_true(g->memory_total_bytes == EXO_BYTES_UNKNOWN);
    assert_true(g->memory_used_bytes == EXO_BYTES_UNKNOWN);
}

static void there_are_never_more_gpus_than_room(void **state) {
    (void)state;
    exo_sensors s = read_as(EXO_FAKE_NVML_LIBRARY, "crowd");
    assert_int_equal(s.n_gpus, EXO_SENSORS_MAX_GPUS);
    assert_string_equal(s.gpus[0].pci_address, "");
}

static void without_library_or_driver_there_is_no_gpu(void **state) {
    (void)state;
    assert_int_equal(read_as(EXO_FAKE_NVML_LIBRARY, "asleep").n_gpus, 0);
    assert_int_equal(read_as("libno-such-library.so.1", "").n_gpus, 0);
    assert_int_equal(read_as("libm.so.6", "").n_gpus, 0); /* lacks every function */
}

/* The proprietary driver's card is in /sys/class/drm too, without figures. */
static void what_two_sources_say_of_one_card_is_one_card(void **state) {
    (void)state;
    exo_sensors drm, nvml = read_as(EXO_FAKE_NVML_LIBRARY, "");
    exo_sensors_clear(&drm);
    drm.n_gpus = 2;
    drm.gpus[0].pci_vendor = 0x8086;
    drm.gpus[1].pci_vendor = 0x10DE;
    snprintf(drm.gpus[1].pci_address, sizeof drm.gpus[1].pci_address, "0000:41:00.0");
    exo_sensors_merge(&drm, &nvml);
    assert_int_equal(drm.n_gpus, 2);
    assert_true(isnan(drm.gpus[0].busy_percent) && drm.gpus[1].busy_percent == 37);
    exo_sensors_merge(&drm, &nvml); /* again: the same two */
    assert_int_equal(drm.n_gpus, 2);
    exo_sensors other = nvml;
    snprintf(other.gpus[0].pci_address, sizeof other.gpus[0].pci_address, "0000:42:00.0");
    for (int i = 0; i < 2 * EXO_SENSORS_MAX_GPUS; i++) {
        other.gpus[0].pci_address[0] = (char)('a' + i);
        exo_sensors_merge(&drm, &other);
    }
    assert_int_equal(drm.n_gpus, EXO_SENSORS_MAX_GPUS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_gpu_tells_and_a_lost_one_is_left_out),
        cmocka_unit_test(figures_that_no_gpu_has_are_unknown),
        cmocka_unit_test(there_are_never_more_gpus_than_room),
        cmocka_unit_test(without_library_or_driver_there_is_no_gpu),
        cmocka_unit_test(what_two_sources_say_of_one_card_is_one_card),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
