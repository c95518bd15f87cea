/* telemetry_test.c - every record goes out and comes back; what breaks one is named. */
#include "cluster/telemetry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char registration_text[] =
    "{\"type\":\"device_registration\",\"version\":\"1.0\",\"timestamp\":5.5,\"payload\":{"
    "\"hostname\":\"device-001\",\"port\":5000,\"device_id\":\"vulkan:0\",\"capabilities\":{"
    "\"device_id\":\"vulkan:0\",\"device_type\":\"vulkan_android\",\"device_name\":"
    "\"Qualcomm Adreno 650\",\"vendor\":\"Qualcomm\",\"compute_units\":3,"
    "\"memory_bandwidth_gbps\":null,\"max_memory_bytes\":8589934592,\"driver_version\":\"512.502\","
    "\"supports_fp64\":false,\"supports_tensor_cores\":true,\"shader_model\":\"new\"},"
    "\"timestamp\":5.5,\"colour\":[1,2]}}";

static void test_a_registration_comes_back_as_it_was(void **state) {
    (void)state;
    exo_telemetry_message m;
    exo_error err = {0};
    exo_status st = exo_telemetry_deserialize_message(registration_text,
                                                      sizeof registration_text - 1, &m, &err);
    if (st != EXO_OK) fail_msg("%s", err.message);
    assert_int_equal(m.type, EXO_TELEMETRY_DEVICE_REGISTRATION);
    exo_device_registration r;
    assert_int_equal(exo_telemetry_parse_registration(m.payload, &r, &err), EXO_OK);
    assert_string_equal(r.hostname, "device-001");
    assert_int_equal(r.port, 5000);
    assert_string_equal(r.capabilities.device_name, "Qualcomm Adreno 650");
    assert_int_equal(r.capabilities.device_type, EXO_DEVICE_VULKAN_ANDROID);
    assert_true(isnan(r.capabilities.memory_bandwidth_gbps)); /* unknown, not 0 */
    assert_true(r.capabilities.supports_tensor_cores);
    json_t *again = exo_telemetry_create_registration_message(&r);
    char *text = exo_telemetry_serialize_message(again);
    json_t *first = json_loads(registration_text, 0, NULL), *second = json_loads(text, 0, NULL);
    assert_true(json_equal(first, second)); /* members of newer versions included */
    json_decref(first);
    json_decref(second);
    free(text);
    json_decref(again);
    exo_device_registration_finish(&r);
    exo_telemetry_message_finish(&m);
}

static void test_a_heartbeat_may_lack_sensors_and_metrics(void **state) {
    (void)state;
    exo_heartbeat h = {.device_id = "vulkan:0",
                       .has_metrics = true,
                       .metrics = {.device_id = "vulkan:0",
                                   .timestamp = 7,
                                   .memory_used_bytes = 1,
                                   .memory_total_bytes = EXO_BYTES_UNKNOWN,
                                   .compute_utilization_percent = 12.5,
                                   .power_watts = NAN,
                                   .temperature_celsius = NAN,
                                   .clock_rate_mhz = NAN},
                       .timestamp = 7,
                       .is_available = false,
                       .error_message = "lost"};
    json_t *message = exo_telemetry_create_heartbeat_message(&h);
    json_t *metrics = json_object_get(json_object_get(message, "payload"), "metrics");
    assert_true(json_is_null(json_object_get(metrics, "temperature_celsius")));
    exo_heartbeat back;
    exo_error err = {0};
    exo_status st = exo_telemetry_parse_heartbeat(json_object_get(message, "payload"), &back, &err);
    if (st != EXO_OK) fail_msg("%s", err.message);
    assert_true(back.has_metrics && !back.is_available);
    assert_true(isnan(back.metrics.temperature_celsius));
    assert_true(back.metrics.memory_total_bytes == EXO_BYTES_UNKNOWN);
    assert_string_equal(back.error_message, "lost");
    exo_heartbeat_finish(&back);
    json_decref(message);

    json_t *least = json_pack("{s:s, s:n, s:f}", "device_id", "cpu:0", "metrics", "timestamp", 1.0);
    assert_int_equal(exo_telemetry_parse_heartbeat(least, &back, &err), EXO_OK);
    assert_true(!back.has_metrics && back.is_available && back.error_message[0] == '\0');
    exo_heartbeat_finish(&back);
    json_decref(least);
}

static void test_what_breaks_a_record_is_named(void **state) {
    (void)state;
    static const struct {
        const char *text, *part;
    } rows[] = {
        {"[]", "no JSON object"},
        {"{}", "'device_id' is missing"},
        {"{\"device_id\":7}", "'device_id' is no text"},
        {"{\"device_id\":null}", "'device_id' is null"},
        {"{\"device_id\":\"a\\u0000b\"}", "NUL"},
        {"{\"device_id\":\"0123456789012345678901234567890123456789012345678901234567890123\"}",
         "too long"},
        {"{\"device_id\":\"a\",\"timestamp\":\"now\"}", "'timestamp' is no number"},
        {"{\"device_id\":\"a\",\"timestamp\":1,\"memory_used_bytes\":-1}", "out of range"},
        {"{\"device_id\":\"a\",\"timestamp\":1,\"memory_used_bytes\":1.5}", "whole number"},
        {"{\"device_id\":\"a\",\"timestamp\":1,\"memory_used_bytes\":1,\"memory_total_bytes\":2,"
         "\"compute_utilization_percent\":101}",
         "'compute_utilization_percent' is out of range"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        json_t *j = json_loads(rows[i].text, JSON_ALLOW_NUL, NULL);
        exo_gpu_metrics m;
        exo_error err = {0};
        assert_int_equal(exo_telemetry_parse_metrics(j, &m, &err), EXO_EFORMAT);
        if (strstr(err.message, rows[i].part) == NULL) fail_msg("%s", err.message);
        assert_null(m.extra);
        json_decref(j);
    }
}

static void test_what_breaks_an_envelope_is_named(void **state) {
    (void)state;
    static const struct {
        const char *text, *part;
        exo_status status;
    } rows[] = {
        {"", "byte 0", EXO_EFORMAT},
        {"{\"type\":\"metrics\",\"type\":\"metrics\"}", "duplicate", EXO_EFORMAT},
        {"7", "telemetry", EXO_EFORMAT},
        {"{\"type\":\"metrics\"}", "'version'", EXO_EFORMAT},
        {"{\"type\":\"metrics\",\"version\":\"2.0\"}", "2.0", EXO_EUNSUPPORTED},
        {"{\"version\":\"1.0\"}", "'type'", EXO_EFORMAT},
        {"{\"version\":\"1.3\",\"type\":\"gossip\"}", "gossip", EXO_EUNSUPPORTED},
        {"{\"version\":\"1.0\",\"type\":\"metrics\"}", "'timestamp'", EXO_EFORMAT},
        {"{\"version\":\"1.0\",\"type\":\"metrics\",\"timestamp\":1}", "'payload'", EXO_EFORMAT},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        exo_telemetry_message m;
        exo_error err = {0};
        assert_int_equal(
            exo_telemetry_deserialize_message(rows[i].text, strlen(rows[i].text), &m, &err),
            rows[i].status);
        if (strstr(err.message, rows[i].part) == NULL) fail_msg("%zu: %s", i, err.message);
        assert_null(m.payload);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_registration_comes_back_as_it_was),
        cmocka_unit_test(test_a_heartbeat_may_lack_sensors_and_metrics),
        cmocka_unit_test(test_what_breaks_a_record_is_named),
        cmocka_unit_test(test_what_breaks_an_envelope_is_named),
    };
    return cmocka_run_group_tests_name("telemetry", tests, NULL, NULL);
}
