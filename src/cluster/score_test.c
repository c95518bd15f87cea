/* score_test.c - the formula at its edges, and what unknown sensors do to it. */
#include "cluster/score.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define GIB (UINT64_C(1) << 30)

static exo_gpu_metrics idle(void) {
    return (exo_gpu_metrics){.memory_used_bytes = 0,
                             .memory_total_bytes = 8 * GIB,
                             .temperature_celsius = 40,
                             .power_watts = 5,
                             .clock_rate_mhz = 600};
}

static exo_device_capabilities phone(const char *id) {
    exo_device_capabilities c = {.device_type = EXO_DEVICE_VULKAN_ANDROID,
                                 .max_memory_bytes = 8 * GIB};
    strncpy(c.device_id, id, sizeof c.device_id - 1);
    return c;
}

static void expect_score(const exo_gpu_metrics *m, double score) {
    exo_device_capabilities c = phone("vulkan:0");
    assert_true(fabs(exo_score_device(m, &c).score - score) < 1e-12);
}

static void test_the_formula(void **state) {
    (void)state;
    exo_gpu_metrics m = idle();
    expect_score(&m, 1);
    m.memory_used_bytes = 4 * GIB;
    expect_score(&m, 0.7);
    m.compute_utilization_percent = 50;
    expect_score(&m, 0.5);
    m.memory_used_bytes = 8 * GIB;
    m.compute_utilization_percent = 100;
    expect_score(&m, 0);
}

static void test_heat_is_a_factor_above_80_degrees(void **state) {
    (void)state;
    static const double rows[][2] = {{79, 1},    {80, 1},    {84, 0.9},
                                     {100, 0.5}, {116, 0.1}, {300, 0.1}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        exo_gpu_metrics m = idle();
        m.temperature_celsius = rows[i][0];
        expect_score(&m, rows[i][1]);
    }
}

static void test_figures_out_of_range_stay_within_0_and_1(void **state) {
    (void)state;
    exo_gpu_metrics m = idle();
    exo_device_capabilities c = phone("vulkan:0");
    m.memory_total_bytes = 64 * GIB; /* more than the capabilities say */
    expect_score(&m, 1);
    m = idle();
    m.memory_used_bytes = 9 * GIB; /* more than it has */
    expect_score(&m, 0.4);
    c.max_memory_bytes = 0;
    m = idle();
    assert_true(exo_score_device(&m, &c).score == 0);
}

static void test_an_unknown_sensor_costs_nothing_and_is_named(void **state) {
    (void)state;
    exo_device_capabilities c = phone("vulkan:0");
    exo_gpu_metrics m = idle();
    assert_int_equal(exo_score_device(&m, &c).unknown, 0);
    m.temperature_celsius = NAN;
    m.compute_utilization_percent = NAN;
    m.memory_used_bytes = EXO_BYTES_UNKNOWN;
    exo_device_score s = exo_score_device(&m, &c);
    assert_int_equal(s.unknown,
                     EXO_SCORE_NO_TEMPERATURE | EXO_SCORE_NO_UTILIZATION | EXO_SCORE_NO_MEMORY);
    assert_true(s.score == 1);
}

static void test_devices_are_ranked_and_the_best_that_fits_is_found(void **state) {
    (void)state;
    exo_gpu_metrics m[3] = {idle(), idle(), idle()};
    exo_device_capabilities c[3] = {phone("b/vulkan:0"), phone("a/vulkan:0"), phone("c/vulkan:0")};
    m[2].memory_used_bytes = 6 * GIB;
    exo_ranked_device d[3];
    for (int i = 0; i < 3; i++) {
        d[i] = (exo_ranked_device){.metrics = &m[i], .capabilities = &c[i]};
    }
    m[1].compute_utilization_percent = 90;
    m[1].memory_total_bytes = 16 * GIB;
    exo_rank_devices(d, 3);
    assert_string_equal(d[0].capabilities->device_id, "b/vulkan:0");
    assert_string_equal(d[1].capabilities->device_id, "a/vulkan:0");
    assert_string_equal(d[2].capabilities->device_id, "c/vulkan:0");
    assert_ptr_equal(exo_find_best_device(d, 3, 10 * GIB), &d[1]);
    assert_ptr_equal(exo_find_best_device(d, 3, 0), &d[0]);
    assert_null(exo_find_best_device(d, 3, 17 * GIB));
    assert_null(exo_find_best_device(d, 0, 0));
    m[1].compute_utilization_percent = 0; /* ties are broken by the id */
    exo_rank_devices(d, 3);
    assert_string_equal(d[0].capabilities->device_id, "a/vulkan:0");
}

static void test_thermal_states(void **state) {
    (void)state;
    static const struct {
        double celsius;
        const char *name;
    } rows[] = {{60, "normal"},     {60.5, "warning"},  {75, "warning"}, {76, "throttling"},
                {90, "throttling"}, {90.1, "critical"}, {NAN, "normal"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        exo_thermal_state s = exo_thermal_state_of(rows[i].celsius);
        assert_string_equal(exo_thermal_state_name(s), rows[i].name);
    }
}

static void test_aggregates_leave_out_what_is_unknown(void **state) {
    (void)state;
    exo_gpu_metrics m[2] = {idle(), idle()};
    m[1].memory_used_bytes = 2 * GIB;
    m[1].temperature_celsius = NAN;
    m[1].power_watts = NAN;
    m[1].compute_utilization_percent = 50;
    const exo_gpu_metrics *all[] = {&m[0], &m[1]};
    exo_aggregated_metrics a = exo_aggregate_metrics(all, 2);
    assert_int_equal(a.device_count, 2);
    assert_true(a.total_memory_bytes == 16 * GIB && a.available_memory_bytes == 14 * GIB);
    assert_true(a.average_temperature_celsius == 40 && a.total_power_watts == 5);
    assert_true(a.average_utilization_percent == 25);
    a = exo_aggregate_metrics(all, 0);
    json_t *j = exo_aggregated_metrics_json(&a);
    assert_true(json_is_null(json_object_get(j, "average_temperature_celsius")));
    assert_true(json_is_null(json_object_get(j, "total_memory_bytes"))); /* unknown, not 0 */
    assert_int_equal(json_integer_value(json_object_get(j, "device_count")), 0);
    json_decref(j);
}

static void test_sums_do_not_go_round(void **state) {
    (void)state;
    exo_gpu_metrics m = idle();
    m.memory_total_bytes = INT64_MAX;
    m.memory_used_bytes = EXO_BYTES_UNKNOWN;
    const exo_gpu_metrics *all[] = {&m, &m, &m};
    exo_aggregated_metrics a = exo_aggregate_metrics(all, 3);
    assert_true(a.total_memory_bytes == INT64_MAX);
    assert_true(a.used_memory_bytes == EXO_BYTES_UNKNOWN);
    assert_true(a.available_memory_bytes == EXO_BYTES_UNKNOWN);
}

static void test_thermal_states_are_read_by_name(void **state) {
    (void)state;
    exo_thermal_state s = EXO_THERMAL_NORMAL;
    for (int i = EXO_THERMAL_NORMAL; i <= EXO_THERMAL_CRITICAL; i++) {
        assert_true(exo_thermal_state_parse(exo_thermal_state_name((exo_thermal_state)i), &s));
        assert_int_equal(s, i);
    }
    assert_false(exo_thermal_state_parse("Normal", &s) || exo_thermal_state_parse("", &s));
    assert_int_equal(s, EXO_THERMAL_CRITICAL); /* left alone */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_formula),
        cmocka_unit_test(test_heat_is_a_factor_above_80_degrees),
        cmocka_unit_test(test_figures_out_of_range_stay_within_0_and_1),
        cmocka_unit_test(test_an_unknown_sensor_costs_nothing_and_is_named),
        cmocka_unit_test(test_devices_are_ranked_and_the_best_that_fits_is_found),
        cmocka_unit_test(test_thermal_states),
        cmocka_unit_test(test_aggregates_leave_out_what_is_unknown),
        cmocka_unit_test(test_sums_do_not_go_round),
        cmocka_unit_test(test_thermal_states_are_read_by_name),
    };
    return cmocka_run_group_tests_name("score", tests, NULL, NULL);
}
