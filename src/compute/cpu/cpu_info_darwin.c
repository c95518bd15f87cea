/* cpu_info_darwin.c - the processor as sysctl describes it on macOS and iOS. */
#include "compute/cpu/cpu_info.h"

#ifdef __APPLE__
#include <mach/mach.h>
#include <string.h>
#include <sys/sysctl.h>

static uint64_t read_number(const char *key) { /* of 4 or 8 bytes, little-endian */
    uint64_t value = 0;
    size_t n = sizeof value;
    return sysctlbyname(key, &value, &n, NULL, 0) == 0 ? value : 0;
}

static uint64_t available_memory(void) {
    vm_statistics64_data_t stat;
    mach_msg_type_number_t n = HOST_VM_INFO64_COUNT;
    if (host_statistics64(mach_host_self(), HOST_VM_INFO64, (host_info64_t)&stat, &n) != 0) {
        return 0;
    }
    return ((uint64_t)stat.free_count + stat.inactive_count) * read_number("hw.pagesize");
}

bool exo_cpu_has_dotprod(void) { return read_number("hw.optional.arm.FEAT_DotProd") != 0; }

bool exo_cpu_has_i8mm(void) {
    return exo_cpu_has_dotprod() && read_number("hw.optional.arm.FEAT_I8MM") != 0;
}

uint32_t exo_cpu_wanted(void) { return 0; }

void exo_cpu_info(exo_device_info *out) {
    size_t n = sizeof out->name;
    if (sysctlbyname("machdep.cpu.brand_string", out->name, &n, NULL, 0) != 0) out->name[0] = 0;
    (void)strncpy(out->vendor, "Apple", sizeof out->vendor - 1);
    uint64_t cores = read_number("hw.activecpu");
    if (cores > 0) out->compute_units = (uint32_t)cores;
    out->memory_bytes = read_number("hw.memsize");
    out->memory_available_bytes = available_memory();
}
#endif
