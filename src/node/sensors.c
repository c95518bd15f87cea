/* sensors.c - what every platform's sensors have in common: that nothing is known at first. */
#include "node/sensors.h"

#include "cluster/telemetry.h"

#include <string.h>

void exo_sensors_clear(exo_sensors *out) {
    *out = (exo_sensors){.load_percent = NAN,
                         .temperature_celsius = NAN,
                         .power_watts = NAN,
                         .clock_mhz = NAN,
                         .memory_used_bytes = EXO_BYTES_UNKNOWN,
                         .memory_total_bytes = EXO_BYTES_UNKNOWN,
                         .battery_percent = NAN};
    for (size_t i = 0; i < EXO_SENSORS_MAX_GPUS; i++) {
        out->gpus[i] = (exo_gpu_sensors){.busy_percent = NAN,
                                         .temperature_celsius = NAN,
                                         .power_watts = NAN,
                                         .clock_mhz = NAN,
                                         .memory_used_bytes = EXO_BYTES_UNKNOWN,
                                         .memory_total_bytes = EXO_BYTES_UNKNOWN};
    }
}

static void take(double *into, double more) {
    if (isnan(*into)) *into = more;
}

static void take_bytes(uint64_t *into, uint64_t more) {
    if (*into == EXO_BYTES_UNKNOWN) *into = more;
}

static void merge_gpu(exo_gpu_sensors *into, const exo_gpu_sensors *more) {
    take(&into->busy_percent, more->busy_percent);
    take(&into->temperature_celsius, more->temperature_celsius);
    take(&into->power_watts, more->power_watts);
    take(&into->clock_mhz, more->clock_mhz);
    take_bytes(&into->memory_used_bytes, more->memory_used_bytes);
    take_bytes(&into->memory_total_bytes, more->memory_total_bytes);
}

void exo_sensors_merge(exo_sensors *into, const exo_sensors *more) {
    take(&into->load_percent, more->load_percent);
    take(&into->temperature_celsius, more->temperature_celsius);
    take(&into->power_watts, more->power_watts);
    take(&into->clock_mhz, more->clock_mhz);
    take_bytes(&into->memory_used_bytes, more->memory_used_bytes);
    take_bytes(&into->memory_total_bytes, more->memory_total_bytes);
    take(&into->battery_percent, more->battery_percent);
    if (into->mains == EXO_MAINS_UNKNOWN) into->mains = more->mains;
    if (more->heat > into->heat) into->heat = more->heat;
    for (size_t i = 0; i < more->n_gpus; i++) {
        const exo_gpu_sensors *g = &more->gpus[i];
        size_t k = 0;
        while (k < into->n_gpus && (g->pci_address[0] == '\0' ||
                                    strcmp(into->gpus[k].pci_address, g->pci_address) != 0)) {
            k++;
        }
        if (k < into->n_gpus) {
            merge_gpu(&into->gpus[k], g);
        } else if (k < EXO_SENSORS_MAX_GPUS) {
            into->gpus[into->n_gpus++] = *g;
        }
    }
}
