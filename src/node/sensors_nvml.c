/* sensors_nvml.c - see sensors_nvml.h.
 *
 * What is called, and what it fills in, is declared here as the library's public interface has it:
 * an opaque handle, numbers, and two small structures.  A function that an older library lacks
 * costs its own figure only. */
#define _DEFAULT_SOURCE
#include "node/sensors_nvml.h"

#include "base/mem.h"
#include "cluster/telemetry.h"

#include <stdio.h>
#include <string.h>

#ifdef __linux__
#include <dlfcn.h>

#define OK            0
#define SENSOR_OF_GPU 0 /* of the die */
#define CLOCK_OF_SM   1
#define NVIDIA_ON_PCI 0x10DEu
#define MOST_WATTS    10000.0
#define MOST_MHZ      20000.0
#define MOST_CELSIUS  150.0
#define RETRY_READS   60 /* a driver that was not there is looked for again after so many reads */

typedef void *handle; /* nvmlDevice_t */
typedef struct {
    unsigned gpu, memory; /* percent */
} utilization;
typedef struct {
    unsigned long long total, free, used;
} memory_info;
typedef struct {
    char legacy_id[16];
    unsigned domain, bus, device, pci_device, pci_subsystem;
    char id[32];
} pci_info;

struct exo_nvml {
    char library[256];
    void *open;
    bool ready;    /* the library has been initialised */
    unsigned wait; /* reads before it is tried again */
    int (*init)(void);
    int (*shutdown)(void);
    int (*count)(unsigned *);
    int (*by_index)(unsigned, handle *);
    int (*pci)(handle, pci_info *);
    int (*utilization)(handle, utilization *);
    int (*memory)(handle, memory_info *);
    int (*temperature)(handle, unsigned, unsigned *);
    int (*power)(handle, unsigned *); /* milliwatts */
    int (*clock)(handle, unsigned, unsigned *);
};

exo_nvml *exo_nvml_create(const char *library) {
    exo_nvml *n = exo_calloc(1, sizeof *n);
    if (n != NULL) snprintf(n->library, sizeof n->library, "%s", library);
    return n;
}

/* A function's address; ISO C has no cast from an object's. */
static void find(const exo_nvml *n, const char *name, void *function) {
    void *found = dlsym(n->open, name);
    memcpy(function, &found, sizeof found);
}

static bool get_ready(exo_nvml *n) {
    if (n->ready) return true;
    if (n->wait > 0) {
        n->wait--;
        return false;
    }
    n->wait = RETRY_READS;
    if (n->open == NULL) n->open = dlopen(n->library, RTLD_NOW | RTLD_LOCAL);
    if (n->open == NULL) return false;
    find(n, "nvmlInit_v2", &n->init);
    find(n, "nvmlShutdown", &n->shutdown);
    find(n, "nvmlDeviceGetCount_v2", &n->count);
    find(n, "nvmlDeviceGetHandleByIndex_v2", &n->by_index);
    find(n, "nvmlDeviceGetPciInfo_v3", &n->pci);
    find(n, "nvmlDeviceGetUtilizationRates", &n->utilization);
    find(n, "nvmlDeviceGetMemoryInfo", &n->memory);
    find(n, "nvmlDeviceGetTemperature", &n->temperature);
    find(n, "nvmlDeviceGetPowerUsage", &n->power);
    find(n, "nvmlDeviceGetClockInfo", &n->clock);
    n->ready = n->init != NULL && n->count != NULL && n->by_index != NULL && n->init() == OK;
    return n->ready;
}

void exo_nvml_destroy(exo_nvml *n) {
    if (n == NULL) return;
    if (n->ready && n->shutdown != NULL) n->shutdown();
    if (n->open != NULL) dlclose(n->open);
    exo_free(n);
}

static double within(double x, double least, double most) {
    return x >= least && x <= most ? x : NAN;
}

static void read_gpu(const exo_nvml *n, handle d, exo_gpu_sensors *g) {
    utilization u = {0};
    memory_info m = {0};
    pci_info p = {.id = ""};
    unsigned v = 0;
    g->pci_vendor = NVIDIA_ON_PCI;
    if (n->pci != NULL && n->pci(d, &p) == OK) {
        snprintf(g->pci_address, sizeof g->pci_address, "%04x:%02x:%02x.0", p.domain & 0xFFFF,
                 p.bus & 0xFF, p.device & 0x1F);
    }
    if (n->utilization != NULL && n->utilization(d, &u) == OK) {
        g->busy_percent = within(u.gpu, 0, 100);
    }
    if (n->memory != NULL && n->memory(d, &m) == OK && m.total > 0 && m.used <= m.total &&
        m.total <= INT64_MAX) {
        g->memory_total_bytes = m.total;
        g->memory_used_bytes = m.used;
    }
    if (n->temperature != NULL && n->temperature(d, SENSOR_OF_GPU, &v) == OK) {
        g->temperature_celsius = within(v, 1, MOST_CELSIUS); /* 0: no sensor */
    }
    if (n->power != NULL && n->power(d, &v) == OK) g->power_watts = within(v / 1e3, 0, MOST_WATTS);
    if (n->clock != NULL && n->clock(d, CLOCK_OF_SM, &v) == OK) {
        g->clock_mhz = within(v, 1, MOST_MHZ);
    }
}

void exo_nvml_read(exo_nvml *n, exo_sensors *out) {
    unsigned count = 0;
    if (!get_ready(n) || n->count(&count) != OK) return;
    for (unsigned i = 0; i < count && out->n_gpus < EXO_SENSORS_MAX_GPUS; i++) {
        handle d = NULL;
        if (n->by_index(i, &d) != OK) continue; /* lost, or not ours to read */
        read_gpu(n, d, &out->gpus[out->n_gpus++]);
    }
}
#else
/* NVIDIA's library is on no other system that exo runs on. */
exo_nvml *exo_nvml_create(const char *library) {
    (void)library;
    return exo_calloc(1, 1);
}
void exo_nvml_read(exo_nvml *n, exo_sensors *out) {
    (void)n;
    (void)out;
}
void exo_nvml_destroy(exo_nvml *n) { exo_free(n); }
#endif
