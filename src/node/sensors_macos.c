/* sensors_macos.c - macOS and iOS: load and memory from the Mach host; on macOS heat from the
 * system's notification of thermal pressure, and the battery from IOKit's power sources.  Public
 * interfaces only; temperatures and power are not among them.  On iOS battery and heat come by
 * up-call (sensors_platform.h).
 *
 * Not verified: written from the interfaces' documentation; no Apple machine has compiled it.
 * tests/apple/parse.sh has its syntax and types checked against declarations of the same source. */
#include "node/sensors.h"

#ifdef __APPLE__
#include "base/clock.h"
#include "base/json.h"
#include "cluster/telemetry.h"

#include <mach/mach.h>
#include <sys/sysctl.h>
#include <TargetConditionals.h>
#if TARGET_OS_OSX
#include <CoreFoundation/CoreFoundation.h>
#include <IOKit/ps/IOPowerSources.h>
#include <IOKit/ps/IOPSKeys.h>
#include <libkern/OSThermalNotification.h>
#include <notify.h>
#endif

static void read_load(mach_port_t host, exo_sensors_before *before, exo_sensors *out) {
    host_cpu_load_info_data_t t;
    mach_msg_type_number_t n = HOST_CPU_LOAD_INFO_COUNT;
    if (host_statistics(host, HOST_CPU_LOAD_INFO, (host_info_t)&t, &n) != KERN_SUCCESS) return;
    uint64_t busy = (uint64_t)t.cpu_ticks[CPU_STATE_USER] + t.cpu_ticks[CPU_STATE_SYSTEM] +
                    t.cpu_ticks[CPU_STATE_NICE];
    uint64_t all = busy + t.cpu_ticks[CPU_STATE_IDLE];
    if (before->has_ticks && all > before->all_ticks && busy >= before->busy_ticks) {
        double share = (double)(busy - before->busy_ticks) / (double)(all - before->all_ticks);
        out->load_percent = exo_json_rounded(100 * share, 10); /* ticks say no more */
    }
    before->has_ticks = true;
    before->busy_ticks = busy;
    before->all_ticks = all;
}

static void read_memory(mach_port_t host, exo_sensors *out) {
    uint64_t total = 0;
    size_t n = sizeof total;
    vm_statistics64_data_t v;
    mach_msg_type_number_t count = HOST_VM_INFO64_COUNT;
    if (sysctlbyname("hw.memsize", &total, &n, NULL, 0) != 0 || total == 0) return;
    out->memory_total_bytes = total;
    if (host_statistics64(host, HOST_VM_INFO64, (host_info64_t)&v, &count) != KERN_SUCCESS) return;
    /* What cannot be given up at once: neither free, nor a file's page, nor purgeable. */
    uint64_t pages = (uint64_t)v.internal_page_count + v.wire_count + v.compressor_page_count;
    pages -= v.purgeable_count < pages ? v.purgeable_count : pages;
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

static bool is_text(CFDictionaryRef d, CFStringRef key, CFStringRef text) {
    CFTypeRef v = CFDictionaryGetValue(d, key);
    return v != NULL && CFGetTypeID(v) == CFStringGetTypeID() &&
           CFStringCompare((CFStringRef)v, text, 0) == kCFCompareEqualTo;
}

static int number_of(CFDictionaryRef d, CFStringRef key) {
    CFTypeRef v = CFDictionaryGetValue(d, key);
    int n = -1;
    if (v == NULL || CFGetTypeID(v) != CFNumberGetTypeID()) return -1;
    return CFNumberGetValue((CFNumberRef)v, kCFNumberIntType, &n) ? n : -1;
}

static void read_battery(exo_sensors *out) {
    CFTypeRef info = IOPSCopyPowerSourcesInfo();
    CFArrayRef list = info != NULL ? IOPSCopyPowerSourcesList(info) : NULL;
    for (CFIndex i = 0; list != NULL && i < CFArrayGetCount(list); i++) {
        CFDictionaryRef d = IOPSGetPowerSourceDescription(info, CFArrayGetValueAtIndex(list, i));
        if (d == NULL || !is_text(d, CFSTR(kIOPSTypeKey), CFSTR(kIOPSInternalBatteryType))) {
            continue; /* of a mouse, or one that keeps the mains up */
        }
        int now = number_of(d, CFSTR(kIOPSCurrentCapacityKey));
        int full = number_of(d, CFSTR(kIOPSMaxCapacityKey));
        if (full > 0 && now >= 0 && now <= full) out->battery_percent = 100.0 * now / full;
        bool mains = is_text(d, CFSTR(kIOPSPowerSourceStateKey), CFSTR(kIOPSACPowerValue));
        out->mains = mains ? EXO_MAINS_YES : EXO_MAINS_NO;
    }
    if (list != NULL) CFRelease(list);
    if (info != NULL) CFRelease(info);
}
#endif

void exo_sensors_read(const char *root, exo_sensors_before *before, exo_sensors *out) {
    exo_sensors_clear(out);
    out->at_s = exo_unix_time();
    if (root[0] != '\0') return; /* a test's tree holds none of these */
    mach_port_t host = mach_host_self();
    read_load(host, before, out);
    read_memory(host, out);
    mach_port_deallocate(mach_task_self(), host);
#if TARGET_OS_OSX
    read_heat(out);
    read_battery(out);
#endif
}
#endif
