/* telemetry.h - what nodes tell each other about their devices: the telemetry protocol.
 *
 * A message is an envelope {type, version "1.0", timestamp, payload} in JSON; its payload is one
 * of the records below, with exactly these member names.  What a device has no sensor for is null
 * on the wire and unknown here, never 0.  Members that this version does not know are kept in
 * `extra` and written again, so that nodes of different versions may pass messages on.
 *
 * Pure: makes and judges JSON; sends nothing and reads no clock.  Times are seconds since 1970.
 * Thread: ANY. */
#ifndef EXO_CLUSTER_TELEMETRY_H
#define EXO_CLUSTER_TELEMETRY_H

#include <exo/base.h>

#include <jansson.h>
#include <math.h>

#define EXO_TELEMETRY_VERSION   "1.0"
#define EXO_TELEMETRY_MAX_BYTES (256u << 10) /* of one message */
#define EXO_DEVICE_ID_BYTES     64 /* "vulkan:0", or "node_id/vulkan:0" outside its node */
#define EXO_BYTES_UNKNOWN       UINT64_MAX
/* An unknown double is NAN. */

typedef enum {
    EXO_DEVICE_CUDA,
    EXO_DEVICE_ROCM,
    EXO_DEVICE_METAL,
    EXO_DEVICE_VULKAN_ANDROID,
    EXO_DEVICE_VULKAN_LINUX,
    EXO_DEVICE_INTEL_XE,
    EXO_DEVICE_DIRECTML,
    EXO_DEVICE_CPU,
    EXO_N_DEVICE_TYPES,
} exo_device_type;
const char *exo_device_type_name(exo_device_type t); /* "vulkan_linux" */

/* DeviceCapabilities: what a device can do; does not change while it is there. */
typedef struct {
    char device_id[EXO_DEVICE_ID_BYTES];
    exo_device_type device_type;
    char device_name[128], vendor[64];
    uint64_t compute_units;       /* 0 = no driver tells */
    double memory_bandwidth_gbps; /* measured */
    uint64_t max_memory_bytes;
    char driver_version[128];
    bool supports_fp64, supports_tensor_cores;
    json_t *extra; /* owned; NULL = nothing */
} exo_device_capabilities;

/* GPUMetrics: how a device is right now. */
typedef struct {
    char device_id[EXO_DEVICE_ID_BYTES];
    double timestamp;
    uint64_t memory_used_bytes, memory_total_bytes; /* EXO_BYTES_UNKNOWN */
    double compute_utilization_percent;             /* 0 to 100 */
    double power_watts, temperature_celsius, clock_rate_mhz;
    json_t *extra;
} exo_gpu_metrics;

/* DeviceRegistration: a device that has come. */
typedef struct {
    char hostname[256];
    uint16_t port;
    char device_id[EXO_DEVICE_ID_BYTES];
    exo_device_capabilities capabilities;
    double timestamp;
    json_t *extra;
} exo_device_registration;

/* Heartbeat: it is still there. */
typedef struct {
    char device_id[EXO_DEVICE_ID_BYTES];
    bool has_metrics;
    exo_gpu_metrics metrics;
    double timestamp;
    bool is_available;
    char error_message[EXO_ERROR_BYTES]; /* "" = null */
    json_t *extra;
} exo_heartbeat;

/* They free `extra`; zeroed memory is allowed. */
void exo_device_capabilities_finish(exo_device_capabilities *c);
void exo_gpu_metrics_finish(exo_gpu_metrics *m);
void exo_device_registration_finish(exo_device_registration *r);
void exo_heartbeat_finish(exo_heartbeat *h);

/* ---- TelemetryProtocol ---- */

typedef enum {
    EXO_TELEMETRY_DEVICE_REGISTRATION,
    EXO_TELEMETRY_HEARTBEAT,
    EXO_TELEMETRY_METRICS,
    EXO_TELEMETRY_TOPOLOGY, /* its payload is topology.h's */
    EXO_TELEMETRY_N_TYPES,
} exo_telemetry_type;
const char *exo_telemetry_type_name(exo_telemetry_type t); /* "device_registration" */

typedef struct {
    exo_telemetry_type type;
    double timestamp;
    json_t *payload; /* owned */
} exo_telemetry_message;
void exo_telemetry_message_finish(exo_telemetry_message *m);

/* New references; NULL without memory. */
json_t *exo_telemetry_create_registration_message(const exo_device_registration *r);
json_t *exo_telemetry_create_heartbeat_message(const exo_heartbeat *h);
json_t *exo_telemetry_create_metrics_message(const exo_gpu_metrics *m);

/* One line of JSON, freed with free(); NULL without memory. */
char *exo_telemetry_serialize_message(const json_t *message);
/* EXO_EFORMAT says which member is wrong, and how; EXO_EUNSUPPORTED: another major version, or a
 * type that this version does not know. */
exo_status exo_telemetry_deserialize_message(const char *text, size_t n, exo_telemetry_message *out,
                                             exo_error *err);
exo_status exo_telemetry_judge_message(const json_t *message, exo_telemetry_message *out,
                                       exo_error *err);

/* Of a message's payload.  On failure *out is zeroed. */
exo_status exo_telemetry_parse_registration(const json_t *payload, exo_device_registration *out,
                                            exo_error *err);
exo_status exo_telemetry_parse_heartbeat(const json_t *payload, exo_heartbeat *out, exo_error *err);
exo_status exo_telemetry_parse_metrics(const json_t *payload, exo_gpu_metrics *out, exo_error *err);

#endif
