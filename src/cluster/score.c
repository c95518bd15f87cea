/* score.c - DeviceScorer and the aggregates; see score.h. */
#include "cluster/score.h"

#include "base/json.h"

#include <stdlib.h>
#include <string.h>

#define HOT_CELSIUS   80.0
#define FADE_CELSIUS  40.0
#define LEAST_PENALTY 0.1

static double clamp01(double x) {
    if (!(x > 0)) return 0;
    return x < 1 ? x : 1;
}

/* Total less used; a device that says it uses more than it has is full. */
static uint64_t free_bytes(const exo_gpu_metrics *m) {
    if (m->memory_total_bytes == EXO_BYTES_UNKNOWN || m->memory_used_bytes == EXO_BYTES_UNKNOWN) {
        return EXO_BYTES_UNKNOWN;
    }
    return m->memory_used_bytes < m->memory_total_bytes
               ? m->memory_total_bytes - m->memory_used_bytes
               : 0;
}

exo_device_score exo_score_device(const exo_gpu_metrics *m, const exo_device_capabilities *c) {
    exo_device_score s = {.memory_score = 1, .compute_score = 1, .temp_penalty = 1};
    uint64_t free = free_bytes(m);
    if (free == EXO_BYTES_UNKNOWN) {
        s.unknown |= EXO_SCORE_NO_MEMORY;
    } else if (c->max_memory_bytes > 0) {
        s.memory_score = clamp01((double)free / (double)c->max_memory_bytes);
    }
    if (isnan(m->compute_utilization_percent)) {
        s.unknown |= EXO_SCORE_NO_UTILIZATION;
    } else {
        s.compute_score = clamp01(1 - m->compute_utilization_percent / 100);
    }
    if (isnan(m->temperature_celsius)) {
        s.unknown |= EXO_SCORE_NO_TEMPERATURE;
    } else if (m->temperature_celsius > HOT_CELSIUS) {
        double penalty = 1 - (m->temperature_celsius - HOT_CELSIUS) / FADE_CELSIUS;
        s.temp_penalty = penalty > LEAST_PENALTY ? penalty : LEAST_PENALTY;
    }
    if (c->max_memory_bytes == 0) {
        s.memory_score = 0;
        return s; /* score 0 */
    }
    s.score = clamp01((0.6 * s.memory_score + 0.4 * s.compute_score) * s.temp_penalty);
    return s;
}

static int by_score(const void *a, const void *b) {
    const exo_ranked_device *x = a, *y = b;
    if (x->score.score != y->score.score) return x->score.score > y->score.score ? -1 : 1;
    return strcmp(x->capabilities->device_id, y->capabilities->device_id);
}

void exo_rank_devices(exo_ranked_device *d, size_t n) {
    for (size_t i = 0; i < n; i++) {
        d[i].score = exo_score_device(d[i].metrics, d[i].capabilities);
    }
    if (n > 1) qsort(d, n, sizeof *d, by_score);
}

const exo_ranked_device *exo_find_best_device(const exo_ranked_device *d, size_t n,
                                              uint64_t min_memory_bytes) {
    for (size_t i = 0; i < n; i++) {
        uint64_t free = free_bytes(d[i].metrics);
        if (free == EXO_BYTES_UNKNOWN) free = d[i].capabilities->max_memory_bytes;
        if (free >= min_memory_bytes) return &d[i];
    }
    return NULL;
}

exo_thermal_state exo_thermal_state_of(double temperature_celsius) {
    if (temperature_celsius > 90) return EXO_THERMAL_CRITICAL;
    if (temperature_celsius > 75) return EXO_THERMAL_THROTTLING;
    return temperature_celsius > 60 ? EXO_THERMAL_WARNING : EXO_THERMAL_NORMAL;
}

static const char *const thermal_names[] = {"normal", "warning", "throttling", "critical"};
enum { N_THERMAL = sizeof thermal_names / sizeof thermal_names[0] };

const char *exo_thermal_state_name(exo_thermal_state s) {
    return (unsigned)s < N_THERMAL ? thermal_names[s] : "?";
}

bool exo_thermal_state_parse(const char *name, exo_thermal_state *out) {
    for (int s = 0; s < N_THERMAL; s++) {
        if (strcmp(name, thermal_names[s]) != 0) continue;
        *out = (exo_thermal_state)s;
        return true;
    }
    return false;
}

/* A mean, or a sum, over what is known. */
typedef struct {
    double sum;
    uint32_t n;
} known;

static void add(known *k, double x) {
    if (isnan(x)) return;
    k->sum += x;
    k->n++;
}

/* A sum of what is known; unknown while nothing is. */
static void add_bytes(uint64_t *sum, uint64_t bytes) {
    if (bytes == EXO_BYTES_UNKNOWN) return;
    if (*sum == EXO_BYTES_UNKNOWN) *sum = 0;
    *sum = bytes <= INT64_MAX - *sum ? *sum + bytes : INT64_MAX; /* peers may say anything */
}

exo_aggregated_metrics exo_aggregate_metrics(const exo_gpu_metrics *const *m, size_t n) {
    exo_aggregated_metrics a = {.device_count = (uint32_t)n,
                                .total_memory_bytes = EXO_BYTES_UNKNOWN,
                                .used_memory_bytes = EXO_BYTES_UNKNOWN,
                                .available_memory_bytes = EXO_BYTES_UNKNOWN};
    known busy = {0}, warm = {0}, power = {0};
    for (size_t i = 0; i < n; i++) {
        add_bytes(&a.total_memory_bytes, m[i]->memory_total_bytes);
        add_bytes(&a.used_memory_bytes, m[i]->memory_used_bytes);
        add_bytes(&a.available_memory_bytes, free_bytes(m[i]));
        add(&busy, m[i]->compute_utilization_percent);
        add(&warm, m[i]->temperature_celsius);
        add(&power, m[i]->power_watts);
    }
    a.average_utilization_percent = busy.n > 0 ? busy.sum / busy.n : NAN;
    a.average_temperature_celsius = warm.n > 0 ? warm.sum / warm.n : NAN;
    a.total_power_watts = power.n > 0 ? power.sum : NAN;
    return a;
}

static json_t *number_or_null(double x) {
    return isnan(x) ? json_null() : json_real(exo_json_rounded(x, 1e3));
}

static json_t *bytes_or_null(uint64_t n) {
    return n == EXO_BYTES_UNKNOWN ? json_null() : json_integer((json_int_t)n);
}

json_t *exo_aggregated_metrics_json(const exo_aggregated_metrics *a) {
    return json_pack("{s:i, s:o, s:o, s:o, s:o, s:o, s:o}", "device_count", (int)a->device_count,
                     "total_memory_bytes", bytes_or_null(a->total_memory_bytes),
                     "used_memory_bytes", bytes_or_null(a->used_memory_bytes),
                     "available_memory_bytes", bytes_or_null(a->available_memory_bytes),
                     "average_utilization_percent", number_or_null(a->average_utilization_percent),
                     "average_temperature_celsius", number_or_null(a->average_temperature_celsius),
                     "total_power_watts", number_or_null(a->total_power_watts));
}
