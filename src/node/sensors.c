/* sensors.c - what every platform's sensors have in common: that nothing is known at first. */
#include "node/sensors.h"

#include "cluster/telemetry.h"

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
