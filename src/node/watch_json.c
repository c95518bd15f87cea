/* watch_json.c - telemetry as GET /state shows it.
 *
 * A device appears as "node_id/device_id", also inside its own records, with what follows from
 * them: its score, which sensors the score went without, its thermal state.  Figures that are too
 * old are null, as those that no sensor tells. */
#define _DEFAULT_SOURCE
#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "cluster/score.h"
#include "node/node_impl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define MAX_SUM 1e9 /* watts, degrees, percent */

static json_t *without(uint32_t unknown) {
    static const struct {
        uint32_t flag;
        const char *name;
    } figures[] = {{EXO_SCORE_NO_TEMPERATURE, "temperature_celsius"},
                   {EXO_SCORE_NO_UTILIZATION, "compute_utilization_percent"},
                   {EXO_SCORE_NO_MEMORY, "memory_used_bytes"}};
    json_t *list = json_array();
    for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++) {
        if ((unknown & figures[i].flag) == 0) continue;
        json_array_append_new(list, json_string(figures[i].name));
    }
    return list;
}

/* The payload of a message that create made. */
static json_t *payload_of(json_t *message_take, const char *id) {
    json_t *payload = json_incref(json_object_get(message_take, "payload"));
    json_decref(message_take);
    if (payload == NULL) return json_null();
    json_object_set_new(payload, "device_id", json_string(id));
    return payload;
}

static void add_capabilities(json_t *out, const exo_seen_device *d, const char *id) {
    json_t *r = payload_of(exo_telemetry_create_registration_message(&d->registration), id);
    json_t *c = json_object_get(r, "capabilities");
    json_object_set_new(c, "device_id", json_string(id));
    json_object_set(out, "capabilities", c);
    json_object_set(out, "hostname", json_object_get(r, "hostname"));
    json_object_set(out, "port", json_object_get(r, "port"));
    json_decref(r);
}

static void add_health(json_t *out, const exo_seen_device *d) {
    const exo_gpu_metrics *m = &d->heartbeat.metrics;
    exo_thermal_state t = exo_thermal_state_of(m->temperature_celsius), told = EXO_THERMAL_NORMAL;
    const char *name = json_string_value(json_object_get(d->heartbeat.extra, "thermal_state"));
    bool says = name != NULL && exo_thermal_state_parse(name, &told);
    if (says || !isnan(m->temperature_celsius)) { /* the worse of what is measured and said */
        t = says && told > t ? told : t;
        json_object_set_new(out, "thermal_state", json_string(exo_thermal_state_name(t)));
    }
    if (!d->has_registration) return;
    exo_device_score s = exo_score_device(m, &d->registration.capabilities);
    json_object_set_new(out, "score", json_real(exo_json_rounded(s.score, 1e4)));
    json_object_set_new(out, "score_without", without(s.unknown));
}

static bool is_fresh(const exo_seen_device *d, uint64_t now_ms) {
    return d->has_heartbeat && d->heartbeat.has_metrics && now_ms - d->heard_ms < EXO_SEEN_STALE_MS;
}

static bool is_percent(const json_t *v) {
    return json_is_number(v) && json_number_value(v) >= 0 && json_number_value(v) <= 100;
}

static json_t *device_json(const exo_seen_device *d, const char *id, uint64_t now_ms) {
    json_t *out = json_pack("{s:n, s:n, s:n, s:n, s:n, s:n, s:n, s:n}", "capabilities", "metrics",
                            "score", "score_without", "thermal_state", "is_available",
                            "error_message", "last_heard_s");
    if (out == NULL) return NULL;
    if (d->has_registration) add_capabilities(out, d, id);
    if (!d->has_heartbeat) return out;
    const exo_heartbeat *h = &d->heartbeat;
    json_object_set_new(out, "is_available", json_boolean(h->is_available));
    if (h->error_message[0] != '\0') {
        json_object_set_new(out, "error_message", json_string(h->error_message));
    }
    json_object_set_new(out, "last_heard_s", json_real((double)(now_ms - d->heard_ms) / 1000));
    const json_t *battery = json_object_get(h->extra, "battery_percent");
    const json_t *mains = json_object_get(h->extra, "on_mains");
    json_object_set_new(out, "battery_percent",
                        is_percent(battery) ? json_incref((json_t *)battery) : json_null());
    json_object_set_new(out, "on_mains",
                        json_is_boolean(mains) ? json_incref((json_t *)mains) : json_null());
    if (!is_fresh(d, now_ms)) return out;
    json_object_set_new(out, "metrics",
                        payload_of(exo_telemetry_create_metrics_message(&h->metrics), id));
    add_health(out, d);
    return out;
}

/* ---- what all devices are together ---- */

static const char *const sums[] = {
    "device_count",           "total_memory_bytes",          "used_memory_bytes",
    "available_memory_bytes", "average_utilization_percent", "average_temperature_celsius",
    "total_power_watts"};

/* As this node sees it: a new reference. */
static json_t *add_up(const exo_node *n, uint64_t now_ms) {
    size_t count = 0, cap = 1;
    for (const exo_peer *p = n->peers; p != NULL; p = p->next) cap += p->n_devices;
    const exo_gpu_metrics **metrics = exo_calloc(cap, sizeof *metrics);
    if (metrics == NULL) return json_null();
    const exo_seen_device *own = exo_watch_own(n);
    if (is_fresh(own, now_ms)) metrics[count++] = &own->heartbeat.metrics;
    for (const exo_peer *p = n->peers; p != NULL; p = p->next) {
        for (size_t i = 0; i < p->n_devices; i++) {
            if (is_fresh(&p->devices[i], now_ms))
                metrics[count++] = &p->devices[i].heartbeat.metrics;
        }
    }
    exo_aggregated_metrics a = exo_aggregate_metrics(metrics, count);
    exo_free(metrics);
    return exo_aggregated_metrics_json(&a);
}

void exo_watch_add_cluster(const exo_node *n, exo_heartbeat *h, uint64_t now_ms) {
    if (n->net == NULL || exo_consensus_master(n) != exo_node_number(exo_node_id(n))) return;
    json_object_set_new(h->extra, "cluster", add_up(n, now_ms));
}

/* Whole numbers for what is counted; nothing that no sum can be. */
static bool is_sum(const json_t *v) {
    if (json_is_integer(v)) return json_integer_value(v) >= 0;
    return json_is_real(v) && fabs(json_real_value(v)) <= MAX_SUM;
}

/* What the master says, where it is another node that is linked; else NULL.  Of it nothing but the
 * members that a sum has, and numbers in them. */
static json_t *told_by_master(const exo_node *n, const char *master, uint64_t now_ms) {
    const exo_peer *p = n->peers;
    while (p != NULL && strcmp(p->node_id, master) != 0) p = p->next;
    for (size_t i = 0; p != NULL && i < p->n_devices; i++) {
        const json_t *told = json_object_get(p->devices[i].heartbeat.extra, "cluster");
        if (!is_fresh(&p->devices[i], now_ms) || !json_is_object(told)) continue;
        json_t *out = json_object();
        for (size_t k = 0; k < sizeof sums / sizeof sums[0]; k++) {
            json_t *v = json_object_get(told, sums[k]);
            json_object_set_new(out, sums[k], is_sum(v) ? json_incref(v) : json_null());
        }
        return out;
    }
    return NULL;
}

static json_t *cluster_json(const exo_node *n, uint64_t now_ms) {
    char master[EXO_NODE_ID_BYTES];
    exo_node_number_id(exo_consensus_master(n), master);
    json_t *c = told_by_master(n, master, now_ms);
    const char *by = c != NULL ? master : exo_node_id(n);
    if (c == NULL) c = add_up(n, now_ms);
    if (json_is_object(c)) json_object_set_new(c, "aggregated_by", json_string(by));
    return c;
}

static void add(json_t *devices, const char *node_id, const exo_seen_device *d, uint64_t now_ms) {
    char id[EXO_NODE_ID_BYTES + EXO_DEVICE_ID_BYTES];
    const char *local = d->has_registration ? d->registration.device_id : d->heartbeat.device_id;
    snprintf(id, sizeof id, "%s/%s", node_id, local);
    json_object_set_new(devices, id, device_json(d, id, now_ms));
}

void exo_watch_show(const exo_node *n, json_t *s) {
    uint64_t now_ms = exo_now_ms();
    json_t *devices = json_object();
    add(devices, exo_node_id(n), exo_watch_own(n), now_ms);
    for (const exo_peer *peer = n->peers; peer != NULL; peer = peer->next) {
        for (size_t i = 0; i < peer->n_devices; i++) {
            add(devices, peer->node_id, &peer->devices[i], now_ms);
        }
    }
    json_object_set_new(
        s, "telemetry",
        json_pack("{s:o, s:o}", "devices", devices, "cluster", cluster_json(n, now_ms)));
}
