/* sensors_linux.c - the machine's sensors as /proc and /sys show them.
 *
 *   load          proc/stat, first line
 *   memory        proc/meminfo: MemTotal - MemAvailable
 *   temperature   sys/class/hwmon of a processor's driver, else a thermal zone of the processor
 *   power         sys/class/powercap/intel-rapl:N, its packages only; readable by root on most
 *   clock         sys/devices/system/cpu/cpu0/cpufreq
 *   battery       sys/class/power_supply, without those of mice and headsets
 *   GPU           sys/class/drm/cardN/device: gpu_busy_percent, mem_info_vram_*, hwmon (amdgpu);
 *                 cardN/gt_act_freq_mhz (i915), device/tile0/gt0/freq0 (xe)
 *
 * Every file is optional: containers, phones and virtual machines hide most of them.  What a
 * driver writes is not trusted: lengths, counts and ranges are checked. */
#ifdef __linux__
#define _GNU_SOURCE /* O_CLOEXEC */
#endif
#include "node/sensors.h"

#ifdef __linux__
#include "base/clock.h"
#include "base/json.h"
#include "cluster/telemetry.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_ENTRIES  256 /* of one folder */
#define MAX_CHANNELS 32  /* temperatures of one chip */
#define PATH_BYTES   512
#define TEXT_BYTES   4096
#define COLDEST      (-60.0) /* a sensor that says less, more or exactly 0 is broken or not there */
#define HOTTEST      150.0
#define MOST_WATTS   10000.0
#define MOST_MHZ     20000.0

/* ---- files ---- */

/* The beginning of a file as text without its newline at the end; false when it cannot be read. */
static bool read_text(const char *folder, const char *name, char *out, size_t cap) {
    char path[PATH_BYTES];
    out[0] = '\0';
    if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, name) >= sizeof path) return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return false;
    ssize_t n = read(fd, out, cap - 1);
    close(fd);
    out[n > 0 ? n : 0] = '\0';
    if (n > 0 && out[n - 1] == '\n') out[n - 1] = '\0';
    return n > 0;
}

static bool read_whole(const char *folder, const char *name, uint64_t *out) {
    char text[32], *end;
    if (!read_text(folder, name, text, sizeof text) || text[0] < '0' || text[0] > '9') return false;
    *out = strtoull(text, &end, 10);
    return *end == '\0' && *out < EXO_BYTES_UNKNOWN;
}

static uint64_t bytes_of(const char *folder, const char *name) {
    uint64_t v;
    return read_whole(folder, name, &v) && v <= INT64_MAX ? v : EXO_BYTES_UNKNOWN;
}

/* A number in units of 1/per; NAN when it is not there or not within 0 to most. */
static double figure_of(const char *folder, const char *name, double per, double most) {
    uint64_t v;
    if (!read_whole(folder, name, &v)) return NAN;
    double x = (double)v / per;
    return x <= most ? x : NAN;
}

static double celsius_of(const char *folder, const char *name) {
    char text[32], *end;
    if (!read_text(folder, name, text, sizeof text)) return NAN;
    double c = (double)strtol(text, &end, 10) / 1000;
    return *end == '\0' && c != 0 && c > COLDEST && c < HOTTEST ? c : NAN;
}

static double hotter(double a, double b) { return isnan(a) || b > a ? b : a; }

/* Calls fn with every entry of a folder whose name begins with prefix. */
typedef void (*entry_fn)(void *ud, const char *path, const char *name);
static void each_entry(const char *folder, const char *prefix, entry_fn fn, void *ud) {
    char path[PATH_BYTES];
    DIR *d = opendir(folder);
    if (d == NULL) return;
    struct dirent *e;
    for (int i = 0; i < MAX_ENTRIES && (e = readdir(d)) != NULL; i++) {
        if (e->d_name[0] == '.' || strncmp(e->d_name, prefix, strlen(prefix)) != 0) continue;
        int n = snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (n > 0 && (size_t)n < sizeof path) fn(ud, path, e->d_name);
    }
    closedir(d);
}

static bool is_one_of(const char *text, const char *const *list) {
    while (*list != NULL && strncmp(text, *list, strlen(*list)) != 0) list++;
    return *list != NULL;
}

/* ---- the processor ---- */

static void read_load(const char *root, exo_sensors_before *before, exo_sensors *out) {
    char text[TEXT_BYTES];
    unsigned long long t[8] = {0}; /* user nice system idle iowait irq softirq steal */
    if (!read_text(root, "proc/stat", text, sizeof text) || strncmp(text, "cpu ", 4) != 0) return;
    int n = 0;
    for (char *at = text + 4, *end; n < 8; n++, at = end) {
        t[n] = strtoull(at, &end, 10);
        if (end == at) break;
    }
    if (n < 4) return;
    uint64_t all = 0, idle = t[3] + t[4];
    for (int i = 0; i < 8; i++) all += t[i];
    uint64_t busy = all - idle;
    bool later = before->has_ticks && all > before->all_ticks && busy >= before->busy_ticks;
    if (later) {
        uint64_t passed = all - before->all_ticks, worked = busy - before->busy_ticks;
        double share = worked < passed ? (double)worked / (double)passed : 1;
        out->load_percent = exo_json_rounded(100 * share, 10); /* ticks say no more */
    }
    before->has_ticks = true;
    before->busy_ticks = busy;
    before->all_ticks = all;
}

static uint64_t kib_of(const char *text, const char *key) {
    const char *at = strstr(text, key);
    if (at == NULL) return EXO_BYTES_UNKNOWN;
    unsigned long long kib = strtoull(at + strlen(key), NULL, 10);
    return kib <= INT64_MAX / 1024 ? kib * 1024 : EXO_BYTES_UNKNOWN;
}

static void read_memory(const char *root, exo_sensors *out) {
    char text[TEXT_BYTES];
    if (!read_text(root, "proc/meminfo", text, sizeof text)) return;
    uint64_t total = kib_of(text, "MemTotal:"), left = kib_of(text, "MemAvailable:");
    if (total == EXO_BYTES_UNKNOWN || total == 0) return;
    out->memory_total_bytes = total;
    if (left <= total) out->memory_used_bytes = total - left;
}

static void read_chip(void *ud, const char *path, const char *name) {
    static const char *const drivers[] = {"coretemp", "k10temp", "zenpower", "k8temp",
                                          "cpu",      "soc",     "scpi",     NULL};
    char text[64];
    (void)name;
    if (!read_text(path, "name", text, sizeof text) || !is_one_of(text, drivers)) return;
    for (int i = 1; i <= MAX_CHANNELS; i++) {
        snprintf(text, sizeof text, "temp%d_input", i);
        *(double *)ud = hotter(*(double *)ud, celsius_of(path, text));
    }
}

static void read_zone(void *ud, const char *path, const char *name) {
    static const char *const types[] = {"x86_pkg_temp", "cpu", "soc", "CPU", "little", "big", NULL};
    char text[64];
    (void)name;
    if (!read_text(path, "type", text, sizeof text) || !is_one_of(text, types)) return;
    *(double *)ud = hotter(*(double *)ud, celsius_of(path, "temp"));
}

static void read_temperature(const char *root, exo_sensors *out) {
    char folder[PATH_BYTES];
    snprintf(folder, sizeof folder, "%s/sys/class/hwmon", root);
    each_entry(folder, "hwmon", read_chip, &out->temperature_celsius);
    if (!isnan(out->temperature_celsius)) return;
    snprintf(folder, sizeof folder, "%s/sys/class/thermal", root);
    each_entry(folder, "thermal_zone", read_zone, &out->temperature_celsius);
}

/* The counters of all packages; false when one of them cannot be read: a sum without it would be
 * wrong. */
typedef struct {
    uint64_t now[EXO_SENSORS_MAX_PACKAGES], range[EXO_SENSORS_MAX_PACKAGES];
    size_t n;
    bool ok;
} energy;

/* intel-rapl:0 has parts intel-rapl:0:0, and intel-rapl:1 may be "psys", which counts packages
 * again: only those named "package-N" are taken, each in its own place. */
static void read_energy(void *ud, const char *path, const char *name) {
    energy *e = ud;
    char text[64], *end;
    unsigned long i = strtoul(name + strlen("intel-rapl:"), &end, 10);
    if (*end != '\0' || i >= EXO_SENSORS_MAX_PACKAGES) return;
    if (!read_text(path, "name", text, sizeof text) || strncmp(text, "package-", 8) != 0) return;
    e->ok = e->ok && read_whole(path, "energy_uj", &e->now[i]) &&
            read_whole(path, "max_energy_range_uj", &e->range[i]);
    if (e->n < i + 1) e->n = i + 1;
}

static void read_power(const char *root, exo_sensors_before *before, exo_sensors *out) {
    char folder[PATH_BYTES];
    energy e = {.ok = true};
    snprintf(folder, sizeof folder, "%s/sys/class/powercap", root);
    each_entry(folder, "intel-rapl:", read_energy, &e);
    uint64_t now = exo_now_ns(), uj = 0;
    bool known = e.ok && e.n > 0;
    if (known && before->has_energy && before->n_packages == e.n && now > before->energy_at_ns) {
        for (size_t i = 0; i < e.n; i++) {
            bool wrapped = e.now[i] < before->energy_uj[i];
            uj += e.now[i] - before->energy_uj[i] + (wrapped ? e.range[i] : 0);
        }
        double watts = (double)uj * 1000 / (double)(now - before->energy_at_ns);
        if (watts <= MOST_WATTS) out->power_watts = watts;
    }
    before->has_energy = known;
    before->n_packages = e.n;
    before->energy_at_ns = now;
    memcpy(before->energy_uj, e.now, sizeof before->energy_uj);
}

/* ---- battery ---- */

typedef struct {
    exo_sensors *out;
    bool has_mains, on_mains, discharging;
} supplies;

static void read_supply(void *ud, const char *path, const char *name) {
    supplies *s = ud;
    char type[32], text[32];
    uint64_t v;
    (void)name;
    if (read_text(path, "scope", text, sizeof text) && strcmp(text, "Device") == 0) return;
    if (!read_text(path, "type", type, sizeof type)) return;
    if (strcmp(type, "Battery") != 0) {
        if (!read_whole(path, "online", &v)) return;
        s->has_mains = true;
        s->on_mains = s->on_mains || v != 0;
        return;
    }
    if (read_text(path, "status", text, sizeof text) && strcmp(text, "Discharging") == 0) {
        s->discharging = true;
    }
    double full = figure_of(path, "capacity", 1, 100); /* of several, the emptiest counts */
    if (!(full >= s->out->battery_percent)) s->out->battery_percent = full;
}

static void read_battery(const char *root, exo_sensors *out) {
    char folder[PATH_BYTES];
    supplies s = {.out = out};
    snprintf(folder, sizeof folder, "%s/sys/class/power_supply", root);
    each_entry(folder, "", read_supply, &s);
    if (s.on_mains) {
        out->mains = EXO_MAINS_YES;
    } else if (s.has_mains || s.discharging) {
        out->mains = EXO_MAINS_NO;
    }
}

/* ---- GPUs ---- */

static void read_gpu_chip(void *ud, const char *path, const char *name) {
    exo_gpu_sensors *g = ud;
    (void)name;
    if (isnan(g->temperature_celsius)) g->temperature_celsius = celsius_of(path, "temp1_input");
    if (isnan(g->clock_mhz)) g->clock_mhz = figure_of(path, "freq1_input", 1e6, MOST_MHZ);
    if (isnan(g->power_watts)) g->power_watts = figure_of(path, "power1_average", 1e6, MOST_WATTS);
    if (isnan(g->power_watts)) g->power_watts = figure_of(path, "power1_input", 1e6, MOST_WATTS);
}

/* domain:bus:device.function, as in 0000:01:00.0 */
static bool is_pci_address(const char *name) {
    static const char ends[] = "::.";
    for (int i = 0; i < 4; i++, name++) { /* the last end is the string's */
        size_t digits = strspn(name, "0123456789abcdef");
        name += digits;
        if (digits == 0 || *name != ends[i]) return false;
    }
    return true;
}

/* "device" leads to the card's place on the bus. */
static void read_address(const char *folder, exo_gpu_sensors *g) {
    char target[PATH_BYTES];
    ssize_t n = readlink(folder, target, sizeof target - 1);
    if (n <= 0) return;
    target[n] = '\0';
    const char *slash = strrchr(target, '/');
    const char *name = slash != NULL ? slash + 1 : target;
    if (is_pci_address(name)) snprintf(g->pci_address, sizeof g->pci_address, "%.15s", name);
}

static void read_gpu(void *ud, const char *path, const char *name) {
    exo_sensors *out = ud;
    char folder[PATH_BYTES], text[32];
    if (name[strlen("card") + strspn(name + strlen("card"), "0123456789")] != '\0') return;
    if (out->n_gpus == EXO_SENSORS_MAX_GPUS) return; /* card0-HDMI-A-1 is an outlet of one */
    if ((size_t)snprintf(folder, sizeof folder, "%s/device", path) >= sizeof folder) return;
    exo_gpu_sensors *g = &out->gpus[out->n_gpus++];
    read_address(folder, g);
    if (read_text(folder, "vendor", text, sizeof text)) {
        g->pci_vendor = (uint32_t)strtoul(text, NULL, 16);
    }
    if (read_text(folder, "power/runtime_status", text, sizeof text) &&
        strcmp(text, "suspended") == 0) {
        return; /* asleep: asking its sensors would wake it */
    }
    g->busy_percent = figure_of(folder, "gpu_busy_percent", 1, 100);
    g->clock_mhz = figure_of(path, "gt_act_freq_mhz", 1, MOST_MHZ); /* i915 */
    if (isnan(g->clock_mhz)) {                                      /* xe */
        g->clock_mhz = figure_of(folder, "tile0/gt0/freq0/act_freq", 1, MOST_MHZ);
    }
    g->memory_used_bytes = bytes_of(folder, "mem_info_vram_used");
    g->memory_total_bytes = bytes_of(folder, "mem_info_vram_total");
    if ((size_t)snprintf(folder, sizeof folder, "%s/device/hwmon", path) < sizeof folder) {
        each_entry(folder, "hwmon", read_gpu_chip, g);
    }
}

void exo_sensors_read(const char *root, exo_sensors_before *before, exo_sensors *out) {
    char folder[PATH_BYTES];
    exo_sensors_clear(out);
    out->at_s = exo_unix_time();
    if (strlen(root) > PATH_BYTES / 2) return;
    read_load(root, before, out);
    read_memory(root, out);
    read_temperature(root, out);
    read_power(root, before, out);
    snprintf(folder, sizeof folder, "%s/sys/devices/system/cpu/cpu0/cpufreq", root);
    out->clock_mhz = figure_of(folder, "scaling_cur_freq", 1e3, MOST_MHZ);
    read_battery(root, out);
    snprintf(folder, sizeof folder, "%s/sys/class/drm", root);
    each_entry(folder, "card", read_gpu, out);
}
#endif
