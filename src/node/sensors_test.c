/* sensors_test.c - made-up trees of /proc and /sys: what is there is read, what is not is unknown.
 */
#define _DEFAULT_SOURCE
#include "node/sensors_platform.h"

#include "cluster/telemetry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "node/sensors_testing.h"

static int make_root(void **state) {
    char *root = strdup("/tmp/exo-test-XXXXXX");
    *state = root;
    return root == NULL || mkdtemp(root) == NULL;
}

static int remove_root(void **state) {
    int left = remove_tree(*state);
    free(*state);
    return left;
}

static exo_sensors read_once(const char *root) {
    exo_sensors_before before = {0};
    exo_sensors s;
    exo_sensors_read(root, &before, &s);
    return s;
}

static void test_without_a_sensor_nothing_is_known(void **state) {
    exo_sensors s = read_once(*state);
    assert_true(s.at_s > 1e9);
    assert_true(isnan(s.load_percent) && isnan(s.temperature_celsius) && isnan(s.power_watts));
    assert_true(isnan(s.clock_mhz) && isnan(s.battery_percent));
    assert_true(s.memory_used_bytes == EXO_BYTES_UNKNOWN);
    assert_true(s.memory_total_bytes == EXO_BYTES_UNKNOWN);
    assert_int_equal(s.mains, EXO_MAINS_UNKNOWN);
    assert_int_equal(s.n_gpus, 0);
}

static void test_load_is_counted_between_two_reads(void **state) {
    exo_sensors_before before = {0};
    exo_sensors s;
    put(*state, "proc/stat", "cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1 2 3 4\n");
    exo_sensors_read(*state, &before, &s);
    assert_true(isnan(s.load_percent));
    put(*state, "proc/stat", "cpu  130 0 110 750 110 0 0 0 0 0\ncpu0 1 2 3 4\n");
    exo_sensors_read(*state, &before, &s);
    assert_true(s.load_percent == 40); /* of 100 ticks 60 were idle or waited for a disk */
    exo_sensors_read(*state, &before, &s);
    assert_true(isnan(s.load_percent)); /* no tick has passed */
    put(*state, "proc/stat", "cpu  1 0 1 1 1\n");
    exo_sensors_read(*state, &before, &s);
    assert_true(isnan(s.load_percent)); /* counters that went back */
    put(*state, "proc/stat", "intr 1 2 3\n");
    exo_sensors_read(*state, &before, &s);
    assert_true(isnan(s.load_percent));
}

static void test_memory_in_use_is_what_is_not_available(void **state) {
    put(*state, "proc/meminfo", "MemTotal:  1000 kB\nMemFree:  1 kB\nMemAvailable:  400 kB\n");
    exo_sensors s = read_once(*state);
    assert_int_equal(s.memory_total_bytes, 1000 * 1024);
    assert_int_equal(s.memory_used_bytes, 600 * 1024);
    put(*state, "proc/meminfo", "MemTotal:  1000 kB\nMemFree:  1 kB\n");
    s = read_once(*state);
    assert_int_equal(s.memory_total_bytes, 1000 * 1024);
    assert_true(s.memory_used_bytes == EXO_BYTES_UNKNOWN);
}

static void test_the_hottest_of_the_processor_counts(void **state) {
    put(*state, "sys/class/thermal/thermal_zone0/type", "acpitz\n");
    put(*state, "sys/class/thermal/thermal_zone0/temp", "99000\n");
    assert_true(isnan(read_once(*state).temperature_celsius)); /* the board's */
    put(*state, "sys/class/thermal/thermal_zone1/type", "cpu-1-0-usr\n");
    put(*state, "sys/class/thermal/thermal_zone1/temp", "45500\n");
    assert_true(read_once(*state).temperature_celsius == 45.5);
    put(*state, "sys/class/hwmon/hwmon0/name", "nvme\n");
    put(*state, "sys/class/hwmon/hwmon0/temp1_input", "80000\n");
    put(*state, "sys/class/hwmon/hwmon3/name", "coretemp\n");
    put(*state, "sys/class/hwmon/hwmon3/temp1_input", "61000\n");
    put(*state, "sys/class/hwmon/hwmon3/temp5_input", "67000\n");
    assert_true(read_once(*state).temperature_celsius == 67);
}

static void test_a_broken_sensor_is_none(void **state) {
    static const char *const broken[] = {"0\n",
                                         "-274000\n",
                                         "9999999\n",
                                         "hot\n",
                                         "\n",
                                         "12x\n",
                                         "99999999999999999999999999999999999999999999\n"};
    put(*state, "sys/class/hwmon/hwmon0/name", "k10temp\n");
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        put(*state, "sys/class/hwmon/hwmon0/temp1_input", broken[i]);
        assert_true(isnan(read_once(*state).temperature_celsius));
    }
    put(*state, "sys/class/hwmon/hwmon0/temp1_input", "-5000\n");
    assert_true(read_once(*state).temperature_celsius == -5);
}

#define RAPL "sys/class/powercap/intel-rapl:"

static void test_power_is_the_packages_energy_over_time(void **state) {
    exo_sensors_before before = {0};
    exo_sensors s;
    put(*state, RAPL "0/name", "package-0\n");
    put(*state, RAPL "0/energy_uj", "999900\n");
    put(*state, RAPL "0/max_energy_range_uj", "1000000\n");
    put(*state, RAPL "0:0/name", "core\n");
    put(*state, RAPL "0:0/energy_uj", "1\n");
    put(*state, RAPL "1/name", "psys\n");
    put(*state, RAPL "1/energy_uj", "1\n");
    exo_sensors_read(*state, &before, &s);
    assert_true(isnan(s.power_watts));
    before.energy_at_ns -= 1000000000u;          /* a second ago */
    put(*state, RAPL "0/energy_uj", "500000\n"); /* the counter went round: 0.5001 J */
    put(*state, RAPL "1/energy_uj", "999999999\n");
    exo_sensors_read(*state, &before, &s);
    assert_true(s.power_watts > 0.3 && s.power_watts <= 0.5001);
    put(*state, RAPL "2/name", "package-1\n"); /* its counter cannot be read: no sum */
    before.energy_at_ns -= 1000000000u;
    exo_sensors_read(*state, &before, &s);
    assert_true(isnan(s.power_watts));
}

#define SUPPLY "sys/class/power_supply/"

static void test_battery_and_mains(void **state) {
    put(*state, SUPPLY "hidpp_battery_0/type", "Battery\n");
    put(*state, SUPPLY "hidpp_battery_0/scope", "Device\n");
    put(*state, SUPPLY "hidpp_battery_0/capacity", "7\n");
    put(*state, SUPPLY "hidpp_battery_0/status", "Discharging\n");
    exo_sensors s = read_once(*state);
    assert_true(isnan(s.battery_percent) && s.mains == EXO_MAINS_UNKNOWN); /* a mouse's */
    put(*state, SUPPLY "BAT0/type", "Battery\n");
    put(*state, SUPPLY "BAT0/capacity", "64\n");
    put(*state, SUPPLY "BAT0/status", "Discharging\n");
    s = read_once(*state);
    assert_true(s.battery_percent == 64 && s.mains == EXO_MAINS_NO);
    put(*state, SUPPLY "BAT1/type", "Battery\n");
    put(*state, SUPPLY "BAT1/capacity", "101\n"); /* no percentage */
    put(*state, SUPPLY "AC/type", "Mains\n");
    put(*state, SUPPLY "AC/online", "1\n");
    s = read_once(*state);
    assert_true(s.battery_percent == 64 && s.mains == EXO_MAINS_YES);
}

#define CARD "sys/class/drm/card0/device/"

static void test_a_gpu_tells_and_one_asleep_is_not_woken(void **state) {
    put(*state, CARD "vendor", "0x1002\n");
    put(*state, CARD "gpu_busy_percent", "37\n");
    put(*state, CARD "mem_info_vram_used", "1024\n");
    put(*state, CARD "mem_info_vram_total", "4096\n");
    put(*state, CARD "hwmon/hwmon4/temp1_input", "52000\n");
    put(*state, CARD "hwmon/hwmon4/power1_average", "31500000\n");
    put(*state, CARD "hwmon/hwmon4/freq1_input", "2100000000\n");
    put(*state, "sys/class/drm/card0-HDMI-A-1/device/vendor", "0x1002\n");
    put(*state, "sys/class/drm/card1/device/power/runtime_status", "suspended\n");
    put(*state, "sys/class/drm/card1/device/vendor", "0x8086\n");
    put(*state, "sys/class/drm/card1/device/gpu_busy_percent", "0\n");
    exo_sensors s = read_once(*state);
    assert_int_equal(s.n_gpus, 2);
    size_t amd = s.gpus[0].pci_vendor == 0x1002 ? 0 : 1;
    const exo_gpu_sensors *g = &s.gpus[amd], *asleep = &s.gpus[1 - amd];
    assert_int_equal(g->pci_vendor, 0x1002);
    assert_true(g->busy_percent == 37 && g->temperature_celsius == 52 && g->power_watts == 31.5);
    assert_true(g->clock_mhz == 2100);
    assert_int_equal(g->memory_used_bytes, 1024);
    assert_int_equal(g->memory_total_bytes, 4096);
    assert_int_equal(asleep->pci_vendor, 0x8086);
    assert_true(isnan(asleep->busy_percent));
    assert_true(asleep->memory_total_bytes == EXO_BYTES_UNKNOWN);
}

static void test_intels_cards_tell_their_clock_and_where_they_are(void **state) {
    char link[512], target[512];
    put(*state, "sys/devices/pci0000:00/0000:00:02.0/vendor", "0x8086\n");
    put(*state, "sys/class/drm/card0/gt_act_freq_mhz", "350\n");
    snprintf(link, sizeof link, "%s/sys/class/drm/card0/device", (const char *)*state);
    snprintf(target, sizeof target, "%s/sys/devices/pci0000:00/0000:00:02.0", (const char *)*state);
    assert_int_equal(symlink(target, link), 0);
    exo_sensors s = read_once(*state);
    assert_int_equal(s.n_gpus, 1);
    assert_int_equal(s.gpus[0].pci_vendor, 0x8086);
    assert_string_equal(s.gpus[0].pci_address, "0000:00:02.0");
    assert_true(s.gpus[0].clock_mhz == 350 && isnan(s.gpus[0].busy_percent));
}

static void test_what_phones_say_is_turned_into_sensors(void **state) {
    (void)state;
    exo_sensors s;
    static const exo_heat heats[] = {EXO_HEAT_UNKNOWN,  EXO_HEAT_NORMAL,     EXO_HEAT_NORMAL,
                                     EXO_HEAT_WARNING,  EXO_HEAT_THROTTLING, EXO_HEAT_CRITICAL,
                                     EXO_HEAT_CRITICAL, EXO_HEAT_CRITICAL,   EXO_HEAT_UNKNOWN};
    for (int i = -1; i <= 7; i++) {
        exo_sensors_clear(&s);
        exo_sensors_from_android(&(exo_android_state){50, 200, -1, i}, &s);
        assert_int_equal(s.heat, heats[i + 1]);
        assert_true(s.battery_percent == 25 && s.mains == EXO_MAINS_UNKNOWN);
    }
    exo_sensors_clear(&s);
    exo_sensors_from_android(&(exo_android_state){-1, 0, 2, -1}, &s); /* no level yet */
    assert_true(isnan(s.battery_percent) && s.mains == EXO_MAINS_YES);
    exo_sensors_from_android(&(exo_android_state){101, 100, 0, -1}, &s);
    assert_true(isnan(s.battery_percent) && s.mains == EXO_MAINS_NO);
    exo_sensors_clear(&s);
    exo_sensors_from_apple(&(exo_apple_state){0.5, 2, 2}, &s);
    assert_true(s.battery_percent == 50 && s.mains == EXO_MAINS_YES);
    assert_int_equal(s.heat, EXO_HEAT_THROTTLING);
    exo_sensors_clear(&s);
    exo_sensors_from_apple(&(exo_apple_state){-1, 0, -1}, &s); /* a simulator */
    assert_true(isnan(s.battery_percent) && s.mains == EXO_MAINS_UNKNOWN);
    assert_int_equal(s.heat, EXO_HEAT_UNKNOWN);
}

/* Whatever this machine has: nothing is out of range. */
static void test_this_machine_can_be_read(void **state) {
    (void)state;
    exo_sensors s = read_once("");
    assert_true(isnan(s.load_percent));
    assert_true(isnan(s.temperature_celsius) || s.temperature_celsius != 0);
    assert_true(isnan(s.battery_percent) || s.battery_percent <= 100);
    if (s.memory_used_bytes != EXO_BYTES_UNKNOWN) {
        assert_true(s.memory_used_bytes <= s.memory_total_bytes);
    }
}

#define IN_ROOT(test) cmocka_unit_test_setup_teardown(test, make_root, remove_root)

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_ROOT(test_without_a_sensor_nothing_is_known),
        IN_ROOT(test_load_is_counted_between_two_reads),
        IN_ROOT(test_memory_in_use_is_what_is_not_available),
        IN_ROOT(test_the_hottest_of_the_processor_counts),
        IN_ROOT(test_a_broken_sensor_is_none),
        IN_ROOT(test_power_is_the_packages_energy_over_time),
        IN_ROOT(test_battery_and_mains),
        IN_ROOT(test_a_gpu_tells_and_one_asleep_is_not_woken),
        IN_ROOT(test_intels_cards_tell_their_clock_and_where_they_are),
        cmocka_unit_test(test_what_phones_say_is_turned_into_sensors),
        cmocka_unit_test(test_this_machine_can_be_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
