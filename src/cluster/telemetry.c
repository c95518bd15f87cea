/* telemetry.c - the records' tables, and the envelope around them; see telemetry.h. */
#include "cluster/telemetry.h"

#include "cluster/telemetry_record.h"

#include <stdlib.h>
#include <string.h>

#define MAX_CELSIUS 1000.0
#define MAX_UNITS   0x1p24
#define MAX_MEMORY  0x1p50 /* bytes: a PiB */

const char *exo_device_type_name(exo_device_type t) {
    static const char *const names[EXO_N_DEVICE_TYPES] = {
        [EXO_DEVICE_CUDA] = "cuda",
        [EXO_DEVICE_ROCM] = "rocm",
        [EXO_DEVICE_METAL] = "metal",
        [EXO_DEVICE_VULKAN_ANDROID] = "vulkan_android",
        [EXO_DEVICE_VULKAN_LINUX] = "vulkan_linux",
        [EXO_DEVICE_INTEL_XE] = "intel_xe",
        [EXO_DEVICE_DIRECTML] = "directml",
        [EXO_DEVICE_CPU] = "cpu",
    };
    return (unsigned)t < EXO_N_DEVICE_TYPES ? names[t] : "?";
}

const char *exo_telemetry_type_name(exo_telemetry_type t) {
    static const char *const names[EXO_TELEMETRY_N_TYPES] = {
        [EXO_TELEMETRY_DEVICE_REGISTRATION] = "device_registration",
        [EXO_TELEMETRY_HEARTBEAT] = "heartbeat",
        [EXO_TELEMETRY_METRICS] = "metrics",
        [EXO_TELEMETRY_TOPOLOGY] = "topology",
    };
    return (unsigned)t < EXO_TELEMETRY_N_TYPES ? names[t] : "?";
}

/* ---- the records ---- */

enum { UNKNOWN = EXO_FIELD_MAY_BE_UNKNOWN, ABSENT = EXO_FIELD_MAY_BE_ABSENT };

#define AT(type, m) .name = #m, .offset = offsetof(type, m)
#define TEXT(type, m, fl)                                                                          \
    { AT(type, m), .kind = EXO_FIELD_TEXT, .size = sizeof((type *)0)->m, .flags = (fl) }
#define BYTES(type, m, high, fl)                                                                   \
    { AT(type, m), .kind = EXO_FIELD_BYTES, .most = (high), .flags = (fl) }
#define REAL(type, m, low, high, fl)                                                               \
    { AT(type, m), .kind = EXO_FIELD_REAL, .least = (low), .most = (high), .flags = (fl) }
#define BOOL(type, m, fl)                                                                          \
    { AT(type, m), .kind = EXO_FIELD_BOOL, .flags = (fl) }
#define TABLE(text, type, list)                                                                    \
    {                                                                                              \
        .name = (text), .fields = (list), .n_fields = sizeof(list) / sizeof(list)[0],              \
        .extra_offset = offsetof(type, extra)                                                      \
    }

#define C exo_device_capabilities
static const exo_field capability_fields[] = {
    TEXT(C, device_id, 0),
    {AT(C, device_type), .kind = EXO_FIELD_DEVICE_TYPE},
    TEXT(C, device_name, 0),
    TEXT(C, vendor, 0),
    BYTES(C, compute_units, MAX_UNITS, 0),
    REAL(C, memory_bandwidth_gbps, 0, 1e9, UNKNOWN),
    BYTES(C, max_memory_bytes, MAX_MEMORY, 0),
    TEXT(C, driver_version, 0),
    BOOL(C, supports_fp64, ABSENT),
    BOOL(C, supports_tensor_cores, ABSENT),
};
static const exo_record_table capabilities = TABLE("capabilities", C, capability_fields);
#undef C

#define M exo_gpu_metrics
static const exo_field metric_fields[] = {
    TEXT(M, device_id, 0),
    REAL(M, timestamp, 0, 0, 0),
    BYTES(M, memory_used_bytes, MAX_MEMORY, UNKNOWN),
    BYTES(M, memory_total_bytes, MAX_MEMORY, UNKNOWN),
    REAL(M, compute_utilization_percent, 0, 100, UNKNOWN),
    REAL(M, power_watts, 0, 1e6, UNKNOWN),
    REAL(M, temperature_celsius, -273.15, MAX_CELSIUS, UNKNOWN),
    REAL(M, clock_rate_mhz, 0, 1e6, UNKNOWN),
};
static const exo_record_table metrics = TABLE("metrics", M, metric_fields);
#undef M

#define R exo_device_registration
static const exo_field registration_fields[] = {
    TEXT(R, hostname, 0),
    {AT(R, port), .kind = EXO_FIELD_PORT},
    TEXT(R, device_id, 0),
    {AT(R, capabilities), .kind = EXO_FIELD_RECORD, .table = &capabilities},
    REAL(R, timestamp, 0, 0, 0),
};
static const exo_record_table registration = TABLE("device_registration", R, registration_fields);
#undef R

#define H exo_heartbeat
static const exo_field heartbeat_fields[] = {
    TEXT(H, device_id, 0),
    {AT(H, metrics), .kind = EXO_FIELD_RECORD, .table = &metrics, .flags = UNKNOWN,
     .has_offset = offsetof(H, has_metrics)},
    REAL(H, timestamp, 0, 0, 0),
    BOOL(H, is_available, ABSENT | EXO_FIELD_DEFAULT_TRUE),
    TEXT(H, error_message, ABSENT | UNKNOWN),
};
static const exo_record_table heartbeat = TABLE("heartbeat", H, heartbeat_fields);
#undef H

void exo_device_capabilities_finish(exo_device_capabilities *c) {
    exo_record_finish(&capabilities, c);
}
void exo_gpu_metrics_finish(exo_gpu_metrics *m) { exo_record_finish(&metrics, m); }
void exo_device_registration_finish(exo_device_registration *r) {
    exo_record_finish(&registration, r);
}
void exo_heartbeat_finish(exo_heartbeat *h) { exo_record_finish(&heartbeat, h); }

/* ---- the envelope ---- */

static json_t *create(exo_telemetry_type type, double timestamp, json_t *payload_take) {
    return json_pack("{s:s, s:s, s:f, s:o}", "type", exo_telemetry_type_name(type), "version",
                     EXO_TELEMETRY_VERSION, "timestamp", timestamp, "payload", payload_take);
}

json_t *exo_telemetry_create_registration_message(const exo_device_registration *r) {
    return create(EXO_TELEMETRY_DEVICE_REGISTRATION, r->timestamp,
                  exo_record_write(&registration, r));
}

json_t *exo_telemetry_create_heartbeat_message(const exo_heartbeat *h) {
    return create(EXO_TELEMETRY_HEARTBEAT, h->timestamp, exo_record_write(&heartbeat, h));
}

json_t *exo_telemetry_create_metrics_message(const exo_gpu_metrics *m) {
    return create(EXO_TELEMETRY_METRICS, m->timestamp, exo_record_write(&metrics, m));
}

char *exo_telemetry_serialize_message(const json_t *message) {
    return json_dumps(message, JSON_COMPACT | JSON_REAL_PRECISION(17));
}

void exo_telemetry_message_finish(exo_telemetry_message *m) {
    json_decref(m->payload);
    m->payload = NULL;
}

/* "1.0" and "1.7" are read alike: minor versions only add members. */
static exo_status check_version(const json_t *v, exo_error *err) {
    const char *version = json_string_value(v);
    size_t major = strcspn(EXO_TELEMETRY_VERSION, ".") + 1; /* with its point */
    if (version == NULL) {
        return exo_error_set(err, EXO_EFORMAT, "telemetry: member 'version' is no text");
    }
    if (strncmp(version, EXO_TELEMETRY_VERSION, major) == 0) return EXO_OK;
    return exo_error_set(err, EXO_EUNSUPPORTED, "telemetry of version %.16s; this node speaks %s",
                         version, EXO_TELEMETRY_VERSION);
}

exo_status exo_telemetry_judge_message(const json_t *message, exo_telemetry_message *out,
                                       exo_error *err) {
    memset(out, 0, sizeof *out);
    if (!json_is_object(message)) {
        return exo_error_set(err, EXO_EFORMAT, "telemetry: is no JSON object");
    }
    exo_status st = check_version(json_object_get(message, "version"), err);
    if (st != EXO_OK) return st;
    const char *type = json_string_value(json_object_get(message, "type"));
    if (type == NULL) return exo_error_set(err, EXO_EFORMAT, "telemetry: member 'type' is no text");
    int t = 0;
    while (t < EXO_TELEMETRY_N_TYPES &&
           strcmp(type, exo_telemetry_type_name((exo_telemetry_type)t)) != 0) {
        t++;
    }
    if (t == EXO_TELEMETRY_N_TYPES) {
        return exo_error_set(err, EXO_EUNSUPPORTED, "telemetry of type '%.32s' is not known", type);
    }
    const json_t *timestamp = json_object_get(message, "timestamp");
    if (!json_is_number(timestamp) || !isfinite(json_number_value(timestamp))) {
        return exo_error_set(err, EXO_EFORMAT, "telemetry: member 'timestamp' is no number");
    }
    json_t *payload = json_object_get(message, "payload");
    if (!json_is_object(payload)) {
        return exo_error_set(err, EXO_EFORMAT, "telemetry: member 'payload' is no JSON object");
    }
    *out = (exo_telemetry_message){(exo_telemetry_type)t, json_number_value(timestamp),
                                   json_incref(payload)};
    return EXO_OK;
}

exo_status exo_telemetry_deserialize_message(const char *text, size_t n, exo_telemetry_message *out,
                                             exo_error *err) {
    memset(out, 0, sizeof *out);
    if (n > EXO_TELEMETRY_MAX_BYTES) {
        return exo_error_set(err, EXO_EFORMAT, "telemetry of %zu bytes; %u at most", n,
                             EXO_TELEMETRY_MAX_BYTES);
    }
    json_error_t why;
    json_t *message = json_loadb(text, n, JSON_REJECT_DUPLICATES, &why);
    if (message == NULL) {
        return exo_error_set(err, EXO_EFORMAT, "telemetry: %.120s at byte %d", why.text,
                             why.position);
    }
    exo_status st = exo_telemetry_judge_message(message, out, err);
    json_decref(message);
    return st;
}

static exo_status parse(const exo_record_table *t, const json_t *payload, void *out, size_t bytes,
                        exo_error *err) {
    memset(out, 0, bytes);
    exo_status st = exo_record_read(t, payload, out, err);
    if (st == EXO_OK) return st;
    exo_record_finish(t, out);
    memset(out, 0, bytes);
    return st;
}

exo_status exo_telemetry_parse_registration(const json_t *payload, exo_device_registration *out,
                                            exo_error *err) {
    return parse(&registration, payload, out, sizeof *out, err);
}

exo_status exo_telemetry_parse_heartbeat(const json_t *payload, exo_heartbeat *out,
                                         exo_error *err) {
    return parse(&heartbeat, payload, out, sizeof *out, err);
}

exo_status exo_telemetry_parse_metrics(const json_t *payload, exo_gpu_metrics *out,
                                       exo_error *err) {
    return parse(&metrics, payload, out, sizeof *out, err);
}
