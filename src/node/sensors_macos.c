/* sensors_macos.c - macOS and iOS: load and memory from the Mach host, heat from the system's
 * notification of thermal pressure.  Public interfaces only; temperatures and power are not among
 * them.  Battery and, on iOS, heat come by up-call (sensors_platform.h).
 *
 * Not verified: written from the interfaces' documentation; no Apple machine has compiled it. */
#include "node/sensors.h"

#ifdef __APPLE__
#include "base/clock.h"
#include "cluster/telemetry.h"

#include <mach/mach.h>
#include <sys/sysctl.h>
#include <TargetConditionals.h>
#if TARGET_OS_OSX
#include <libkern/OSThermalNotification.h>
#include <notify.h>
#endif

static void read_load(exo_sensors_before *before, exo_sensors *out) {
    host_cpu_load_info_data_t t;
    mach_msg_type_number_t n = HOST_CPU_LOAD_INFO_COUNT;
    if (host_statistics(mach_host_self(), HOST_CPU_LOAD_INFO, (host_info_t)&t, &n) !=
        KERN_SUCCESS) {
        return;
    }
    uint64_t busy = (uint64_t)t.cpu_ticks[CPU_STATE_USER] + t.cpu_ticks[CPU_STATE_SYSTEM] +
                    t.cpu_ticks[CPU_STATE_NICE];
    uint64_t all = busy + t.cpu_ticks[CPU_STATE_IDLE];
    if (before->has_ticks && all > before->all_ticks && busy >= before->busy_ticks) {
        out->load_percent =
            100.0 * (double)(busy - before->busy_ticks) / (double)(all - before->all_ticks);
    }
    before->has_ticks = true;
    before->busy_ticks = busy;
    before->all_ticks = all;
}

static void read_memory(exo_sensors *out) {
    uint64_t total = 0;
    size_t n = sizeof total;
    vm_statistics64_data_t v;
    mach_msg_type_number_t count = HOST_VM_INFO64_COUNT;
    if (sysctlbyname("hw.memsize", &total, &n, NULL, 0) != 0 || total == 0) return;
    out->memory_total_bytes = total;
    if (host_statistics64(mach_host_self(), HOST_VM_INFO64, (host_info64_t)&v, &count) !=
        KERN_SUCCESS) {
        return;
    }
    /* What cannot be given up at once: neither free, nor a file's page, nor purgeable. */
    uint64_t pages = (uint64_t)v.internal_page_count - v.purgeable_count + v.wire_count +
                     v.compressor_page_count;
    uint64_t used = pages * vm_kernel_page_size;
    out->memory_used_bytes = used < total ? used : total;
}

#if TARGET_OS_OSX
static void read_heat(exo_sensors *out) {
    int token;
    uint64_t level;
    if (notify_register_check(kOSThermalNotificationPressureLevelName, &token) !=
        NOTIFY_STATUS_OK) {
        return;
    }
    if (notify_get_state(token, &level) == NOTIFY_STATUS_OK) {
        switch (level) {
        case kOSThermalPressureLevelNominal: out->heat = EXO_HEAT_NORMAL; break;
        case kOSThermalPressureLevelModerate: out->heat = EXO_HEAT_WARNING; break;
        case kOSThermalPressureLevelHeavy: out->heat = EXO_HEAT_THROTTLING; break;
        default: out->heat = EXO_HEAT_CRITICAL; break;
        }
    }
    notify_cancel(token);
}
#endif

void exo_sensors_read(const char *root, exo_sensors_before *before, exo_sensors *out) {
    exo_sensors_clear(out);
    out->at_s = exo_unix_time();
    if (root[0] != '\0') return; /* a test's tree holds none of these */
    read_load(before, out);
    read_memory(out);
#if TARGET_OS_OSX
    read_heat(out);
#endif
}
#endif
