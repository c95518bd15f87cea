/* fake_nvml.c - a stand-in for NVIDIA's management library, for tests of src/node/sensors_nvml.c.
 *
 * It has two GPUs, of which the second is lost.  EXO_FAKE_NVML chooses another mood: "odd" answers
 * with figures that no GPU has, "crowd" has more GPUs than anybody, "asleep" has no driver. */
#include <stdlib.h>
#include <string.h>

#define EXPORT  __attribute__((visibility("default")))
#define OK      0
#define NO_DATA 999

typedef struct {
    unsigned gpu, memory;
} utilization;
typedef struct {
    unsigned long long total, free, used;
} memory_info;
typedef struct {
    char legacy_id[16];
    unsigned domain, bus, device, pci_device, pci_subsystem;
    char id[32];
} pci_info;

static char gpu;

static int mood(const char *name) {
    const char *is = getenv("EXO_FAKE_NVML");
    return is != NULL && strcmp(is, name) == 0;
}

EXPORT int nvmlInit_v2(void);
EXPORT int nvmlShutdown(void);
EXPORT int nvmlDeviceGetCount_v2(unsigned *n);
EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **device);
EXPORT int nvmlDeviceGetPciInfo_v3(void *device, pci_info *p);
EXPORT int nvmlDeviceGetUtilizationRates(void *device, utilization *u);
EXPORT int nvmlDeviceGetMemoryInfo(void *device, memory_info *m);
EXPORT int nvmlDeviceGetTemperature(void *device, unsigned sensor, unsigned *celsius);
EXPORT int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts);
EXPORT int nvmlDeviceGetClockInfo(void *device, unsigned kind, unsigned *mhz);

int nvmlInit_v2(void) { return mood("asleep") ? NO_DATA : OK; }
int nvmlShutdown(void) { return OK; }

int nvmlDeviceGetCount_v2(unsigned *n) {
    *n = mood("crowd") ? 4000000000u : 2;
    return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **device) {
    *device = &gpu;
    return i == 0 || mood("crowd") ? OK : NO_DATA;
}

int nvmlDeviceGetPciInfo_v3(void *device, pci_info *p) {
    *p = (pci_info){.domain = 0, .bus = 0x41, .device = 0};
    return device == &gpu && !mood("crowd") ? OK : NO_DATA;
}

int nvmlDeviceGetUtilizationRates(void *device, utilization *u) {
    *u = (utilization){.gpu = mood("odd") ? 400 : 37};
    return device == &gpu ? OK : NO_DATA;
}

int nvmlDeviceGetMemoryInfo(void *device, memory_info *m) {
    *m = (memory_info){.total = 8ull << 30, .free = 6ull << 30, .used = 2ull << 30};
    if (mood("odd")) m->used = 9ull << 30;
    return device == &gpu ? OK : NO_DATA;
}

int nvmlDeviceGetTemperature(void *device, unsigned sensor, unsigned *celsius) {
    *celsius = mood("odd") ? 0 : 61;
    return device == &gpu && sensor == 0 ? OK : NO_DATA;
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) {
    *milliwatts = mood("odd") ? 4294967295u : 123500;
    return device == &gpu ? OK : NO_DATA;
}

int nvmlDeviceGetClockInfo(void *device, unsigned kind, unsigned *mhz) {
    *mhz = mood("odd") ? 0 : 1410;
    return device == &gpu && kind == 1 ? OK : NO_DATA;
}
