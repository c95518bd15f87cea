/* watch_json.c - telemetry as GET /state shows it.
 *
 * A device appears as "node_id/device_id", also inside its own records, with what follows from
 * them: its score, which sensors the score went without, its thermal state.  Figures that are too
 * old are null, as those that no sensor tells. */
#define _DEFAULT_SOURCE
#include "base/clock.h"
#include "base/mem.h"
#include "cluster/score.h"
#include "node/node_impl.h"

#include <stdio.h>
#include <string.h>

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
    if (!isnan(m->temperature_celsius)) {
        exo_thermal_state t = exo_thermal_state_of(m->temperature_celsius);
        json_object_set_new(out, "thermal_state", json_string(exo_thermal_state_name(t)));
    }
    if (!d->has_registration) return;
    exo_device_score s = exo_score_device(m, &d->registration.capabilities);
    json_object_set_new(out, "score", json_real(s.score));
    json_object_set_new(out, "score_without", without(s.unknown));
}

static bool is_fresh(const exo_seen_device *d, uint64_t now_ms) {
    return d->has_heartbeat && d->heartbeat.has_metrics && now_ms - d->heard_ms < EXO_SEEN_STALE_MS;
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
                        json_is_number(battery) ? json_incref((json_t *)battery) : json_null());
    json_object_set_new(out, "on_mains",
                        json_is_boolean(mains) ? json_incref((json_t *)mains) : json_null());
    if (!is_fresh(d, now_ms)) return out;
    json_object_set_new(out, "metrics",
                        payload_of(exo_telemetry_create_metrics_message(&h->metrics), id));
    add_health(out, d);
    return out;
}

/* What all devices are together. */
typedef struct {
    json_t *devices;
    const exo_gpu_metrics **metrics; /* (cap); NULL without memory */
    size_t n, cap;
    uint64_t now_ms;
} picture;

static void add(picture *p, const char *node_id, const exo_seen_device *d) {
    char id[EXO_NODE_ID_BYTES + EXO_DEVICE_ID_BYTES];
    const char *local = d->has_registration ? d->registration.device_id : d->heartbeat.device_id;
    snprintf(id, sizeof id, "%s/%s", node_id, local);
    json_object_set_new(p->devices, id, device_json(d, id, p->now_ms));
    if (is_fresh(d, p->now_ms) && p->n < p->cap) p->metrics[p->n++] = &d->heartbeat.metrics;
}

void exo_watch_show(const exo_node *n, json_t *s) {
    picture p = {.devices = json_object(), .cap = 1, .now_ms = exo_now_ms()};
    for (const exo_peer *peer = n->peers; peer != NULL; peer = peer->next) p.cap += peer->n_devices;
    p.metrics = exo_calloc(p.cap, sizeof *p.metrics);
    if (p.metrics == NULL) p.cap = 0;
    add(&p, exo_node_id(n), exo_watch_own(n));
    for (const exo_peer *peer = n->peers; peer != NULL; peer = peer->next) {
        for (size_t i = 0; i < peer->n_devices; i++) add(&p, peer->node_id, &peer->devices[i]);
    }
    json_t *cluster = json_null();
    if (p.metrics != NULL) {
        exo_aggregated_metrics a = exo_aggregate_metrics(p.metrics, p.n);
        cluster = exo_aggregated_metrics_json(&a);
    }
    exo_free(p.metrics);
    json_object_set_new(s, "telemetry",
                        json_pack("{s:o, s:o}", "devices", p.devices, "cluster", cluster));
}
