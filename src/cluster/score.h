/* score.h - how well a device could take work right now, in one number.
 *
 *   memory_score  = clamp01((memory_total_bytes - memory_used_bytes) / max_memory_bytes)
 *   compute_score = clamp01(1 - compute_utilization_percent / 100)
 *   temp_penalty  = temperature_celsius > 80 ? max(0.1, 1 - (temperature_celsius - 80) / 40) : 1
 *   score         = clamp01((0.6 memory_score + 0.4 compute_score) temp_penalty);
 *                   0 when max_memory_bytes is 0
 *
 * The score is relative to the device itself: an idle phone ties with an idle server.  So it is
 * health, beside measured speed, and never a share of the work by itself.  A sensor that is not
 * there costs nothing, and `unknown` says which one it was.  Pure.  Thread: ANY. */
#ifndef EXO_CLUSTER_SCORE_H
#define EXO_CLUSTER_SCORE_H

#include "cluster/telemetry.h"

enum {
    EXO_SCORE_NO_TEMPERATURE = 1u << 0, /* no penalty */
    EXO_SCORE_NO_UTILIZATION = 1u << 1, /* counted as idle */
    EXO_SCORE_NO_MEMORY = 1u << 2,      /* counted as free */
};

typedef struct {
    double score; /* 0 to 1 */
    double memory_score, compute_score, temp_penalty;
    uint32_t unknown; /* EXO_SCORE_NO_* */
} exo_device_score;

exo_device_score exo_score_device(const exo_gpu_metrics *m, const exo_device_capabilities *c);

/* A device as the functions below see it. */
typedef struct {
    const exo_gpu_metrics *metrics;
    const exo_device_capabilities *capabilities;
    exo_device_score score; /* filled in */
} exo_ranked_device;

/* Scores all and sorts them, best first; devices of one score by their id. */
void exo_rank_devices(exo_ranked_device *d, size_t n);
/* The best device with so much free memory; NULL when none has.  d is ranked. */
const exo_ranked_device *exo_find_best_device(const exo_ranked_device *d, size_t n,
                                              uint64_t min_memory_bytes);

/* ThermalState by temperature; unknown is normal. */
typedef enum {
    EXO_THERMAL_NORMAL,
    EXO_THERMAL_WARNING,    /* above 60 degrees */
    EXO_THERMAL_THROTTLING, /* above 75 */
    EXO_THERMAL_CRITICAL,   /* above 90 */
} exo_thermal_state;
exo_thermal_state exo_thermal_state_of(double temperature_celsius);
const char *exo_thermal_state_name(exo_thermal_state s);                /* "normal" */
bool exo_thermal_state_parse(const char *name, exo_thermal_state *out); /* false: no such state */

/* What all devices are together.  Sums and averages are over those that know the figure;
 * EXO_BYTES_UNKNOWN or NAN where none does. */
typedef struct {
    uint32_t device_count;
    uint64_t total_memory_bytes, used_memory_bytes, available_memory_bytes;
    double average_utilization_percent, average_temperature_celsius;
    double total_power_watts;
} exo_aggregated_metrics;
exo_aggregated_metrics exo_aggregate_metrics(const exo_gpu_metrics *const *m, size_t n);
json_t *exo_aggregated_metrics_json(const exo_aggregated_metrics *a); /* NULL without memory */

#endif
