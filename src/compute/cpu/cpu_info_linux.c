/* cpu_info_linux.c - the processor as /proc, /sys and the scheduler describe it.
 *
 * Every figure is optional: containers and phones hide some of these files. */
#ifdef __linux__
#define _GNU_SOURCE /* getauxval */
#endif
#include "compute/cpu/cpu_info.h"

#ifdef __linux__
#include "compute/cpu/cores.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#define MAX_ZONES 32
#ifdef __aarch64__
#define DOTPROD_BIT (1ul << 20) /* HWCAP_ASIMDDP */
#define I8MM_BIT    (1ul << 13) /* HWCAP2_I8MM */
#else
#define DOTPROD_BIT 0ul
#define I8MM_BIT    0ul
#endif

/* Copies the text after "key : " to out when the line begins with key. */
static void take_field(const char *line, const char *key, char *out, size_t cap) {
    size_t n = strlen(key);
    if (out[0] != '\0' || strncmp(line, key, n) != 0) return;
    const char *value = strchr(line, ':');
    if (value == NULL) return;
    value += 1 + strspn(value + 1, " \t");
    (void)snprintf(out, cap, "%.*s", (int)strcspn(value, "\n"), value);
}

static void read_cpuinfo(exo_device_info *out) {
    FILE *f = fopen("/proc/cpuinfo", "r");
    if (f == NULL) return;
    char line[512], name[sizeof out->name] = "", vendor[sizeof out->vendor] = "", mhz[32] = "";
    while (fgets(line, sizeof line, f) != NULL) {
        take_field(line, "model name", name, sizeof name);
        take_field(line, "Hardware", name, sizeof name);
        take_field(line, "vendor_id", vendor, sizeof vendor);
        take_field(line, "cpu MHz", mhz, sizeof mhz);
    }
    (void)fclose(f);
    if (name[0] != '\0') memcpy(out->name, name, sizeof name);
    if (vendor[0] != '\0') memcpy(out->vendor, vendor, sizeof vendor);
    double clock = strtod(mhz, NULL);
    if (clock > 0) out->clock_mhz = clock;
}

static void read_meminfo(exo_device_info *out) {
    FILE *f = fopen("/proc/meminfo", "r");
    if (f == NULL) return;
    char line[256], total[32] = "", available[32] = "";
    while (fgets(line, sizeof line, f) != NULL) {
        take_field(line, "MemTotal", total, sizeof total);
        take_field(line, "MemAvailable", available, sizeof available);
    }
    (void)fclose(f);
    out->memory_bytes = strtoull(total, NULL, 10) * 1024;
    out->memory_available_bytes = strtoull(available, NULL, 10) * 1024;
}

/* The first thermal zone that calls itself a processor's. */
static void read_temperature(exo_device_info *out) {
    for (int i = 0; i < MAX_ZONES; i++) {
        char path[80], type[64] = "";
        (void)snprintf(path, sizeof path, "/sys/class/thermal/thermal_zone%d/type", i);
        FILE *f = fopen(path, "r");
        if (f == NULL) return;
        bool cpu = fgets(type, sizeof type, f) != NULL &&
                   (strstr(type, "cpu") != NULL || strstr(type, "x86_pkg") != NULL);
        (void)fclose(f);
        if (!cpu) continue;
        (void)snprintf(path, sizeof path, "/sys/class/thermal/thermal_zone%d/temp", i);
        if ((f = fopen(path, "r")) == NULL) return;
        char milli[32];
        if (fgets(milli, sizeof milli, f) != NULL) {
            out->temperature_celsius = strtod(milli, NULL) / 1000;
        }
        (void)fclose(f);
        return;
    }
}

/* "0.20 0.18 0.12 2/342 11206": the fourth is runnable/all. */
uint32_t exo_cpu_wanted(void) {
    char text[128];
    int fd = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0) close(fd);
    if (n <= 0) return 0;
    text[n] = '\0';
    const char *slash = strchr(text, '/');
    while (slash != NULL && slash > text && slash[-1] >= '0' && slash[-1] <= '9') slash--;
    return slash != NULL ? (uint32_t)strtoul(slash, NULL, 10) : 0;
}

bool exo_cpu_has_dotprod(void) { return (getauxval(AT_HWCAP) & DOTPROD_BIT) != 0; }

bool exo_cpu_has_i8mm(void) {
    return exo_cpu_has_dotprod() && (getauxval(AT_HWCAP2) & I8MM_BIT) != 0;
}

void exo_cpu_info(exo_device_info *out) {
    read_cpuinfo(out);
    read_meminfo(out);
    read_temperature(out);
    out->compute_units = exo_cores_usable();
}
#endif
