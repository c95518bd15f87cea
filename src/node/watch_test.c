/* watch_test.c - nodes tell each other how they are; made-up sensors, real links; and what a peer
 * may say without harm. */
#define _DEFAULT_SOURCE
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "node/node_impl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "node/sensors_testing.h"
#include "node/testing.h"

static char root[] = "/tmp/exo-test-XXXXXX";

/* ---- two nodes ---- */

static const exo_platform_sensors *platform; /* of nodes that are started; NULL = none */

/* A machine of 1,000 MiB with 400 free at this temperature; "" = no sensor. */
static exo_node *start(const char *name, const char *heat, const exo_node *peer) {
    char dir[64], sensors[64], address[32];
    const char *peers[] = {address};
    snprintf(dir, sizeof dir, "%s/%s", root, name);
    snprintf(sensors, sizeof sensors, "%s/%s-sensors", root, name);
    put(sensors, "proc/meminfo", "MemTotal: 1024000 kB\nMemAvailable: 409600 kB\n");
    put(sensors, "proc/stat", "cpu 10 0 10 80 0 0 0 0\n");
    put(sensors, "sys/class/hwmon/hwmon0/name", "coretemp\n");
    put(sensors, "sys/class/hwmon/hwmon0/temp1_input", heat);
    exo_node_desc d = {.data_dir = dir,
                       .name = name,
                       .listen_addr = "127.0.0.1",
                       .cluster_key = "correct horse battery",
                       .sensors_root = sensors};
    d.platform_sensors = platform;
    if (peer != NULL) {
        snprintf(address, sizeof address, "127.0.0.1:%u", exo_node_listen_port(peer));
        d.peers = peers;
        d.n_peers = 1;
    }
    exo_node *n;
    exo_error err = {0};
    check(exo_node_start(&d, &n, &err), &err);
    return n;
}

/* n's telemetry once it and the master know metrics of so many devices: a new reference. */
static json_t *telemetry_of(exo_node *n, size_t n_devices) {
    uint64_t deadline = exo_now_ms() + PATIENCE_MS;
    for (;; usleep(20000)) {
        json_t *state, *device;
        const char *id;
        exo_error err = {0};
        size_t known = 0;
        check(exo_node_state(n, &state, &err), &err);
        json_t *t = json_incref(json_object_get(state, "telemetry"));
        json_decref(state);
        json_object_foreach(json_object_get(t, "devices"), id, device) {
            known += json_is_object(json_object_get(device, "metrics"));
        }
        const json_t *all = json_object_get(t, "cluster");
        json_int_t counted = json_integer_value(json_object_get(all, "device_count"));
        if (known == n_devices && counted == (json_int_t)n_devices) return t;
        json_decref(t);
        if (exo_now_ms() > deadline) fail_msg("%zu of %zu devices are known", known, n_devices);
    }
}

/* One of them adds up for both: the other shows what that one says. */
static void wait_for_one_sum(exo_node *a, exo_node *b) {
    char by[2][64] = {"", ""};
    for (uint64_t deadline = exo_now_ms() + PATIENCE_MS;; usleep(20000)) {
        for (int i = 0; i < 2; i++) {
            json_t *t = telemetry_of(i == 0 ? a : b, 2);
            const json_t *all = json_object_get(t, "cluster");
            const char *id = json_string_value(json_object_get(all, "aggregated_by"));
            snprintf(by[i], sizeof by[i], "%s", id != NULL ? id : "nobody");
            json_decref(t);
        }
        if (strcmp(by[0], by[1]) == 0) break;
        if (exo_now_ms() > deadline) fail_msg("%s and %s add up", by[0], by[1]);
    }
    assert_true(strcmp(by[0], exo_node_id(a)) == 0 || strcmp(by[0], exo_node_id(b)) == 0);
}

static const json_t *device_of(const json_t *telemetry, const exo_node *n) {
    char id[64];
    snprintf(id, sizeof id, "%s/cpu:0", exo_node_id(n));
    const json_t *d = json_object_get(json_object_get(telemetry, "devices"), id);
    assert_true(json_is_object(d));
    const json_t *m = json_object_get(d, "metrics"), *c = json_object_get(d, "capabilities");
    assert_string_equal(json_string_value(json_object_get(m, "device_id")), id);
    assert_string_equal(json_string_value(json_object_get(c, "device_id")), id);
    return d;
}

static void two_nodes_with_devices_of_one_name_stay_two(void **state) {
    (void)state;
    exo_node *hot = start("hot", "85000\n", NULL), *plain = start("plain", "\n", hot);
    exo_node *both[] = {hot, plain};
    for (int i = 0; i < 2; i++) { /* one picture, whoever is asked */
        json_t *t = telemetry_of(both[i], 2);
        const json_t *h = device_of(t, hot), *p = device_of(t, plain);
        const json_t *m = json_object_get(h, "metrics");
        assert_true(json_number_value(json_object_get(m, "temperature_celsius")) == 85);
        assert_int_equal(json_integer_value(json_object_get(m, "memory_used_bytes")), 600 << 20);
        assert_string_equal(json_string_value(json_object_get(h, "thermal_state")), "throttling");
        assert_string_equal(json_string_value(json_object_get(h, "hostname")), "hot");
        assert_int_equal(json_integer_value(json_object_get(h, "port")), exo_node_listen_port(hot));
        m = json_object_get(p, "metrics");
        assert_true(json_is_null(json_object_get(m, "temperature_celsius"))); /* never 0 */
        assert_true(json_is_null(json_object_get(m, "power_watts")));
        assert_true(json_is_null(json_object_get(p, "thermal_state")));
        const json_t *left_out = json_object_get(p, "score_without");
        assert_string_equal(json_string_value(json_array_get(left_out, 0)), "temperature_celsius");
        double cool = json_number_value(json_object_get(p, "score"));
        double warm = json_number_value(json_object_get(h, "score"));
        assert_true(warm > 0 && fabs(warm - cool * 0.875) <= 1e-4); /* 5 of 40 degrees too hot */
        const json_t *all = json_object_get(t, "cluster");
        assert_int_equal(json_integer_value(json_object_get(all, "device_count")), 2);
        assert_int_equal(json_integer_value(json_object_get(all, "total_memory_bytes")),
                         2000ll << 20);
        assert_true(json_number_value(json_object_get(all, "average_temperature_celsius")) == 85);
        json_decref(t);
    }
    wait_for_one_sum(hot, plain);
    exo_node_stop(plain);
    json_t *t = telemetry_of(hot, 1); /* who left is not shown */
    device_of(t, hot);
    json_decref(t);
    exo_node_stop(hot);
}

/* ---- what comes by up-call ---- */

static void as_android_says(void *ud, exo_sensors *out) { exo_sensors_from_android(ud, out); }

static void a_phone_tells_by_up_call(void **state) {
    (void)state;
    exo_android_state phone = {.level = 40, .scale = 80, .plugged = 0, .thermal_status = 3};
    const exo_platform_sensors p = {.read = as_android_says, .ud = &phone};
    platform = &p;
    exo_node *n = start("phone", "61000\n", NULL);
    platform = NULL;
    json_t *t = telemetry_of(n, 1);
    const json_t *d = device_of(t, n);
    assert_true(json_number_value(json_object_get(d, "battery_percent")) == 50);
    assert_true(json_is_false(json_object_get(d, "on_mains")));
    /* 61 degrees alone are "warning"; the system says that it slows down. */
    assert_string_equal(json_string_value(json_object_get(d, "thermal_state")), "throttling");
    json_decref(t);
    exo_node_stop(n);
}

typedef struct {
    atomic_bool go_on, left;
} stuck;

static void never_answer(void *ud, exo_sensors *out) {
    stuck *s = ud;
    (void)out;
    while (!atomic_load(&s->go_on)) usleep(1000);
    atomic_store(&s->left, true);
}

static void a_sensor_that_never_answers_holds_up_nothing(void **state) {
    (void)state;
    static stuck driver;
    const exo_platform_sensors p = {.read = never_answer, .ud = &driver};
    platform = &p;
    exo_node *n = start("stuck", "50000\n", NULL);
    platform = NULL;
    json_t *t = telemetry_of(n, 1); /* the others' figures are there */
    const json_t *m = json_object_get(device_of(t, n), "metrics");
    assert_true(json_number_value(json_object_get(m, "temperature_celsius")) == 50);
    json_decref(t);
    uint64_t before = exo_now_ms();
    exo_node_stop(n);
    assert_true(exo_now_ms() - before < PATIENCE_MS / 2);
    assert_false(atomic_load(&driver.left)); /* it hangs to this day */
    atomic_store(&driver.go_on, true);
    while (!atomic_load(&driver.left) && exo_now_ms() - before < PATIENCE_MS) usleep(1000);
    assert_true(atomic_load(&driver.left));
}

/* ---- which GPU is ours ---- */

/* What n says of its device once its sensors were read again. */
static const exo_gpu_metrics *read_again(exo_node *n, uint64_t now_ms) {
    uint64_t deadline = exo_now_ms() + PATIENCE_MS;
    const exo_seen_device *own = exo_watch_own(n);
    for (uint64_t i = 0; own->heard_ms <= now_ms; i++) {
        exo_watch_tick(n, now_ms + i);
        usleep(1000);
        if (exo_now_ms() > deadline) fail_msg("the sensors were not read");
    }
    assert_true(own->has_heartbeat && own->heartbeat.has_metrics);
    return &own->heartbeat.metrics;
}

static void a_gpu_has_the_figures_of_its_vendors_only_card(void **state) {
    (void)state;
    char sensors[64];
    static exo_node n; /* not started: its loop turns here */
    snprintf(sensors, sizeof sensors, "%s/gpu-sensors", root);
    put(sensors, "proc/meminfo", "MemTotal: 1024000 kB\nMemAvailable: 409600 kB\n");
    put(sensors, "sys/class/drm/card0/device/vendor", "0x8086\n");
    put(sensors, "sys/class/drm/card0/device/gpu_busy_percent", "99\n");
    put(sensors, "sys/class/drm/card1/device/vendor", "0x1002\n");
    put(sensors, "sys/class/drm/card1/device/gpu_busy_percent", "25\n");
    put(sensors, "sys/class/drm/card1/device/hwmon/hwmon0/temp1_input", "71000\n");
    n.d.sensors_root = sensors;
    n.device_info = (exo_device_info){.id = "vulkan:0", .vendor = "AMD", .memory_bytes = 4096};
    assert_int_equal(exo_watch_create(&n, NULL), EXO_OK);
    const exo_gpu_metrics *m = read_again(&n, 1);
    assert_string_equal(m->device_id, "vulkan:0");
    assert_true(m->compute_utilization_percent == 25 && m->temperature_celsius == 71);
    assert_int_equal(m->memory_total_bytes, 4096); /* the driver's, not the machine's */
    assert_true(m->memory_used_bytes == EXO_BYTES_UNKNOWN);
    put(sensors, "sys/class/drm/card2/device/vendor", "0x1002\n");
    m = read_again(&n, 60000); /* two of them: nobody tells which is vulkan:0 */
    assert_true(isnan(m->compute_utilization_percent) && isnan(m->temperature_celsius));
    exo_watch_stop(&n);
    exo_watch_finish(&n);
}

/* ---- what a peer says ---- */

static void say(exo_peer *p, const char *text) {
    exo_frame f = {.type = EXO_MSG_TELEMETRY,
                   .flags = EXO_FRAME_JSON,
                   .header = (const uint8_t *)text,
                   .header_bytes = (uint32_t)strlen(text)};
    exo_watch_on_frame(NULL, p, &f);
}

static void say_beat(exo_peer *p, const char *device, const char *about) {
    char text[512];
    snprintf(text, sizeof text,
             "{\"type\":\"heartbeat\",\"version\":\"1.0\",\"timestamp\":1,\"payload\":{"
             "\"device_id\":\"%s\",\"timestamp\":1,\"metrics\":{\"device_id\":\"%s\","
             "\"timestamp\":1,\"memory_used_bytes\":1,\"memory_total_bytes\":2,"
             "\"compute_utilization_percent\":3,\"power_watts\":null,"
             "\"temperature_celsius\":null,\"clock_rate_mhz\":null},\"is_available\":true,"
             "\"error_message\":null}}",
             device, about);
    say(p, text);
}

static void a_peer_speaks_of_its_own_devices_only(void **state) {
    (void)state;
    exo_peer p = {.name = "liar"};
    say_beat(&p, "0123456789abcdef/cpu:0", "0123456789abcdef/cpu:0"); /* another node's */
    say_beat(&p, "cpu:0", "cpu:1");
    say_beat(&p, "", "");
    say_beat(&p, "a-name-for-a-device-that-is-far-too-long:0",
             "a-name-for-a-device-that-is-far-too-long:0");
    assert_int_equal(p.n_devices, 0);
    assert_true(p.telemetry_blamed);
    say_beat(&p, "cpu:0", "cpu:0"); /* blamed, and still heard when it speaks well */
    say_beat(&p, "cpu:0", "cpu:0");
    assert_int_equal(p.n_devices, 1);
    exo_watch_forget(&p);
}

static void a_peer_has_a_limited_number_of_devices(void **state) {
    (void)state;
    exo_peer p = {.name = "crowd"};
    for (int i = 0; i < 3 * EXO_MAX_SEEN_DEVICES; i++) {
        char id[32];
        snprintf(id, sizeof id, "vulkan:%d", i);
        say_beat(&p, id, id);
    }
    assert_int_equal(p.n_devices, EXO_MAX_SEEN_DEVICES);
    assert_true(p.telemetry_blamed);
    exo_watch_forget(&p);
    assert_int_equal(p.n_devices, 0);
}

static void what_is_no_telemetry_is_left_out(void **state) {
    (void)state;
    static const char bad_port[] =
        "{\"type\":\"device_registration\",\"version\":\"1.0\",\"timestamp\":1,\"payload\":{"
        "\"hostname\":\"a\",\"port\":70000,\"device_id\":\"cpu:0\",\"timestamp\":1}}";
    static const char *const nonsense[] = {
        "",
        "{",
        "[]",
        "{}",
        "{\"type\":\"heartbeat\"}",
        "{\"type\":\"heartbeat\",\"version\":\"1.0\",\"timestamp\":1,\"payload\":[]}",
        "{\"type\":\"heartbeat\",\"version\":\"1.0\",\"timestamp\":1,\"payload\":{}}",
        bad_port,
    };
    for (size_t i = 0; i < sizeof nonsense / sizeof nonsense[0]; i++) {
        exo_peer p = {.name = "noise"};
        say(&p, nonsense[i]);
        assert_int_equal(p.n_devices, 0);
        assert_true(p.telemetry_blamed);
    }
    exo_peer newer = {.name = "newer"};
    say(&newer, "{\"type\":\"weather\",\"version\":\"1.0\",\"timestamp\":1,\"payload\":{}}");
    say(&newer, "{\"type\":\"heartbeat\",\"version\":\"2.0\",\"timestamp\":1,\"payload\":{}}");
    assert_int_equal(newer.n_devices, 0);
    assert_false(newer.telemetry_blamed); /* says more than we understand */
}

static int make_root(void **state) {
    (void)state;
    exo_log_set(EXO_LOG_ERROR);
    return mkdtemp(root) == NULL;
}

static int remove_root(void **state) {
    (void)state;
    return remove_tree(root);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_nodes_with_devices_of_one_name_stay_two),
        cmocka_unit_test(a_phone_tells_by_up_call),
        cmocka_unit_test(a_sensor_that_never_answers_holds_up_nothing),
        cmocka_unit_test(a_gpu_has_the_figures_of_its_vendors_only_card),
        cmocka_unit_test(a_peer_speaks_of_its_own_devices_only),
        cmocka_unit_test(a_peer_has_a_limited_number_of_devices),
        cmocka_unit_test(what_is_no_telemetry_is_left_out),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
