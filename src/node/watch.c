/* watch.c - telemetry: this node's sensors, told to its peers, and what they say of theirs.
 *
 * Each control link carries a device_registration once and a heartbeat every 5 s, in frames of
 * their own.  Whose device it is, the authenticated link says and never the message: outside its
 * node "vulkan:0" is "node_id/vulkan:0", so that two nodes' devices of one name are two.
 *
 * Sensors are read on threads of their own, one source of figures at a time: a driver that takes
 * its time, or never answers, costs its own figures and nothing else.  Figures that are too old are
 * unknown.  The master adds all devices up and tells the others with its heartbeat. */
#define _DEFAULT_SOURCE
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/seat.h"
#include "node/node_impl.h"
#include "node/record.h"
#include "node/sensors_nvml.h"
#include "node/sensors_reader.h"

#include <stdio.h>
#include <string.h>

#define BEAT_MS        5000u
#define READ_MS        1500u  /* a beat waits so long for sensors that are being read */
#define SILENT_MS      20000u /* a source that does not answer for so long is named */
#define SECOND_BEAT_MS 1000u  /* load is a figure between two reads: soon after the first */

/* Where figures come from; each is read by itself. */
enum { SYSTEM, NVML, PLATFORM, N_SOURCES };
static const char *const source_names[N_SOURCES] = {"the system's sensors", "NVIDIA's driver",
                                                    "the platform"};

typedef struct {
    exo_sensors_reader *reader; /* NULL: this node has no such source */
    exo_sensors last;
    uint64_t last_ms;
    bool blamed; /* it was said that it does not answer */
} source;

struct exo_watch {
    exo_node *node;
    source sources[N_SOURCES];
    bool stopped;
    bool beat_due; /* once the reads under way have ended */
    uint64_t begun_ms, next_ms;
    uint32_t n_beats;
    exo_seen_device own;
};

/* ---- our own device ---- */

/* The one GPU whose vendor is the device's; of two nobody tells which it is, so none. */
static const exo_gpu_sensors *gpu_of(const exo_sensors *s, const char *vendor) {
    static const struct {
        const char *name;
        uint32_t pci_vendor;
    } vendors[] = {{"AMD", 0x1002}, {"Intel", 0x8086}, {"NVIDIA", 0x10DE}};
    uint32_t wanted = 0;
    for (size_t i = 0; i < sizeof vendors / sizeof vendors[0]; i++) {
        if (strcmp(vendors[i].name, vendor) == 0) wanted = vendors[i].pci_vendor;
    }
    const exo_gpu_sensors *found = NULL;
    for (size_t i = 0; i < s->n_gpus && wanted != 0; i++) {
        if (s->gpus[i].pci_vendor != wanted) continue;
        if (found != NULL) return NULL;
        found = &s->gpus[i];
    }
    return found;
}

static void measure(const exo_node *n, const exo_sensors *s, exo_gpu_metrics *m) {
    const exo_device_info *d = &n->device_info;
    *m = (exo_gpu_metrics){.timestamp = s->at_s,
                           .memory_used_bytes = EXO_BYTES_UNKNOWN,
                           .memory_total_bytes = EXO_BYTES_UNKNOWN,
                           .compute_utilization_percent = NAN,
                           .power_watts = NAN,
                           .temperature_celsius = NAN,
                           .clock_rate_mhz = NAN};
    snprintf(m->device_id, sizeof m->device_id, "%s", d->id);
    if (!exo_seat_is_gpu(d->id)) {
        m->memory_used_bytes = s->memory_used_bytes;
        m->memory_total_bytes = s->memory_total_bytes;
        m->compute_utilization_percent = s->load_percent;
        m->power_watts = s->power_watts;
        m->temperature_celsius = s->temperature_celsius;
        m->clock_rate_mhz = s->clock_mhz;
        return;
    }
    if (d->memory_bytes > 0) m->memory_total_bytes = d->memory_bytes;
    const exo_gpu_sensors *g = gpu_of(s, d->vendor);
    if (g == NULL) return;
    m->compute_utilization_percent = g->busy_percent;
    m->power_watts = g->power_watts;
    m->temperature_celsius = g->temperature_celsius;
    m->clock_rate_mhz = g->clock_mhz;
    if (g->memory_total_bytes == EXO_BYTES_UNKNOWN) return;
    m->memory_total_bytes = g->memory_total_bytes;
    m->memory_used_bytes = g->memory_used_bytes;
}

/* What the seeds' record has no member for. */
static json_t *supply_of(const exo_sensors *s) {
    static const char *const heats[] = {NULL, "normal", "warning", "throttling", "critical"};
    json_t *j = json_object();
    if (s->heat != EXO_HEAT_UNKNOWN) {
        json_object_set_new(j, "thermal_state", json_string(heats[s->heat]));
    }
    if (!isnan(s->battery_percent)) {
        json_object_set_new(j, "battery_percent", json_real(s->battery_percent));
    }
    if (s->mains != EXO_MAINS_UNKNOWN) {
        json_object_set_new(j, "on_mains", json_boolean(s->mains == EXO_MAINS_YES));
    }
    return j;
}

static void describe(exo_node *n, exo_device_registration *r) {
    const exo_device_info *d = &n->device_info;
    exo_device_capabilities *c = &r->capabilities;
    bool gpu = exo_seat_is_gpu(d->id);
    snprintf(r->hostname, sizeof r->hostname, "%s", n->name);
    snprintf(r->device_id, sizeof r->device_id, "%s", d->id);
    r->timestamp = exo_unix_time();
    snprintf(c->device_id, sizeof c->device_id, "%s", d->id);
    c->device_type = gpu ? EXO_DEVICE_VULKAN_LINUX : EXO_DEVICE_CPU;
    snprintf(c->device_name, sizeof c->device_name, "%s", d->name);
    snprintf(c->vendor, sizeof c->vendor, "%s", d->vendor);
    snprintf(c->driver_version, sizeof c->driver_version, "%s", d->driver);
    c->compute_units = d->compute_units;
    c->memory_bandwidth_gbps = NAN;
    c->max_memory_bytes = d->memory_bytes;
}

/* ---- telling ---- */

typedef exo_status (*send_fn)(exo_link *l, uint16_t type, const json_t *header, exo_error *err);

static void tell(const exo_peer *p, send_fn send, json_t *message_take) {
    exo_error err = {0};
    exo_status st = EXO_ENOMEM;
    if (message_take != NULL) st = send(p->link, EXO_MSG_TELEMETRY, message_take, &err);
    if (st != EXO_OK) exo_warn("cannot tell %s how we are: %s", p->name, err.message);
    json_decref(message_take);
}

void exo_watch_greet(exo_node *n, const exo_peer *p) {
    exo_seen_device *own = &n->watch->own;
    own->registration.port = n->listen_port; /* known since the listener is there */
    tell(p, exo_link_send_json, exo_telemetry_create_registration_message(&own->registration));
    if (!own->has_heartbeat) return;
    tell(p, exo_link_send_json, exo_telemetry_create_heartbeat_message(&own->heartbeat));
}

/* What all sources know by now. */
static exo_sensors gather(const exo_watch *w, uint64_t now_ms) {
    exo_sensors all;
    exo_sensors_clear(&all);
    for (int i = 0; i < N_SOURCES; i++) {
        const source *s = &w->sources[i];
        if (s->last_ms == 0 || now_ms - s->last_ms > EXO_SEEN_STALE_MS) continue;
        exo_sensors_merge(&all, &s->last);
        if (s->last.at_s > all.at_s) all.at_s = s->last.at_s;
    }
    return all;
}

static void beat(exo_watch *w, uint64_t now_ms) {
    exo_node *n = w->node;
    exo_heartbeat *h = &w->own.heartbeat;
    exo_sensors all = gather(w, now_ms);
    exo_heartbeat_finish(h);
    *h = (exo_heartbeat){.has_metrics = true, .timestamp = exo_unix_time(), .is_available = true};
    snprintf(h->device_id, sizeof h->device_id, "%s", n->device_info.id);
    measure(n, &all, &h->metrics);
    if (h->metrics.timestamp == 0) h->metrics.timestamp = h->timestamp;
    snprintf(h->error_message, sizeof h->error_message, "%s", n->device_reason);
    w->own.registration.port = n->listen_port;
    w->own.has_heartbeat = true;
    w->own.heard_ms = now_ms;
    h->extra = supply_of(&all);
    exo_watch_add_cluster(n, h, now_ms);
    for (const exo_peer *p = n->peers; p != NULL; p = p->next) {
        tell(p, exo_link_send_json_later, exo_telemetry_create_heartbeat_message(h));
    }
}

/* True while a source that may still answer in time is being read. */
static bool take_figures(exo_watch *w, uint64_t now_ms) {
    bool wait = false;
    for (int i = 0; i < N_SOURCES; i++) {
        source *s = &w->sources[i];
        if (s->reader == NULL) continue;
        if (exo_sensors_reader_take(s->reader, &s->last)) {
            s->last_ms = now_ms;
            s->blamed = false;
        }
        uint64_t busy_ms = exo_sensors_reader_busy_ms(s->reader);
        wait = wait || (busy_ms > 0 && busy_ms < READ_MS);
        if (busy_ms < SILENT_MS || s->blamed) continue;
        s->blamed = true;
        exo_warn("%s did not answer for %u s: its figures are unknown until it does",
                 source_names[i], SILENT_MS / 1000);
    }
    return wait && now_ms - w->begun_ms < READ_MS;
}

void exo_watch_tick(exo_node *n, uint64_t now_ms) {
    exo_watch *w = n->watch;
    if (w->stopped) return;
    bool wait = take_figures(w, now_ms);
    if (w->beat_due && !wait) {
        w->beat_due = false;
        beat(w, now_ms);
    }
    if (now_ms < w->next_ms) return;
    w->next_ms = now_ms + (w->n_beats++ == 0 ? SECOND_BEAT_MS : BEAT_MS);
    w->begun_ms = now_ms;
    w->beat_due = true;
    for (int i = 0; i < N_SOURCES; i++) {
        if (w->sources[i].reader != NULL) exo_sensors_reader_begin(w->sources[i].reader);
    }
}

/* ---- hearing ---- */

static exo_seen_device *seen(exo_peer *p, const char *device_id, exo_error *err) {
    for (size_t i = 0; i < p->n_devices; i++) {
        const exo_seen_device *d = &p->devices[i];
        const char *id = d->has_registration ? d->registration.device_id : d->heartbeat.device_id;
        if (strcmp(id, device_id) == 0) return &p->devices[i];
    }
    if (p->n_devices == EXO_MAX_SEEN_DEVICES) {
        exo_error_set(err, EXO_EFORMAT, "more than %d devices", EXO_MAX_SEEN_DEVICES);
        return NULL;
    }
    if (p->devices == NULL) p->devices = exo_calloc(EXO_MAX_SEEN_DEVICES, sizeof *p->devices);
    if (p->devices == NULL) {
        exo_error_set(err, EXO_ENOMEM, "out of memory for a device");
        return NULL;
    }
    return &p->devices[p->n_devices++];
}

/* A node names its own devices, without any node in the name. */
static exo_status check_id(const char *id, const char *inner, exo_error *err) {
    if (!exo_device_id_is_own(id)) {
        return exo_error_set(err, EXO_EFORMAT, "\"%.64s\" is no device of a node", id);
    }
    if (inner == NULL || strcmp(id, inner) == 0) return EXO_OK;
    return exo_error_set(err, EXO_EFORMAT, "of device \"%s\", about device \"%.64s\"", id, inner);
}

static exo_status on_registration(exo_peer *from, const json_t *payload, exo_error *err) {
    exo_device_registration r;
    exo_seen_device *d = NULL;
    exo_status st = exo_telemetry_parse_registration(payload, &r, err);
    if (st == EXO_OK) st = check_id(r.device_id, r.capabilities.device_id, err);
    if (st == EXO_OK && (d = seen(from, r.device_id, err)) == NULL) st = err->status;
    if (st != EXO_OK) {
        exo_device_registration_finish(&r);
        return st;
    }
    exo_device_registration_finish(&d->registration);
    d->registration = r;
    d->has_registration = true;
    return EXO_OK;
}

/* A device is new: what all are together is told soon. */
static void expect_more(exo_node *n) {
    uint64_t soon_ms = exo_now_ms() + SECOND_BEAT_MS;
    if (n != NULL && n->watch->next_ms > soon_ms) n->watch->next_ms = soon_ms;
}

static exo_status on_heartbeat(exo_node *n, exo_peer *from, const json_t *payload, exo_error *err) {
    exo_heartbeat h;
    exo_seen_device *d = NULL;
    exo_status st = exo_telemetry_parse_heartbeat(payload, &h, err);
    if (st == EXO_OK) {
        st = check_id(h.device_id, h.has_metrics ? h.metrics.device_id : NULL, err);
    }
    if (st == EXO_OK && (d = seen(from, h.device_id, err)) == NULL) st = err->status;
    if (st != EXO_OK) {
        exo_heartbeat_finish(&h);
        return st;
    }
    exo_heartbeat_finish(&d->heartbeat);
    if (!d->has_heartbeat) expect_more(n);
    d->heartbeat = h;
    d->has_heartbeat = true;
    d->heard_ms = exo_now_ms();
    return EXO_OK;
}

static exo_status take(exo_node *n, exo_peer *from, const exo_frame *f, exo_error *err) {
    json_t *j = NULL;
    exo_telemetry_message m = {0};
    exo_status st = EXO_OK;
    if (f->header_bytes > EXO_TELEMETRY_MAX_BYTES) {
        return exo_error_set(err, EXO_EFORMAT, "telemetry of %u bytes; %u at most", f->header_bytes,
                             EXO_TELEMETRY_MAX_BYTES);
    }
    st = exo_frame_json(f, &j, err);
    if (st == EXO_OK) st = exo_telemetry_judge_message(j, &m, err);
    if (st == EXO_EUNSUPPORTED) {
        st = EXO_OK; /* a newer node says more */
    } else if (st == EXO_OK && m.type == EXO_TELEMETRY_DEVICE_REGISTRATION) {
        st = on_registration(from, m.payload, err);
    } else if (st == EXO_OK && m.type == EXO_TELEMETRY_HEARTBEAT) {
        st = on_heartbeat(n, from, m.payload, err);
    } else if (st == EXO_OK && m.type == EXO_TELEMETRY_TOPOLOGY) {
        st = exo_topology_on_message(from, m.payload, err);
    }
    exo_telemetry_message_finish(&m);
    json_decref(j);
    return st;
}

/* What cannot be read costs its own figures: the link carries answers, too. */
void exo_watch_on_frame(exo_node *n, exo_peer *from, const exo_frame *f) {
    exo_error err = {0};
    if (take(n, from, f, &err) == EXO_OK || from->telemetry_blamed) return;
    from->telemetry_blamed = true;
    exo_warn("telemetry of %s (%s) is left out: %s", from->name, from->node_id, err.message);
}

void exo_watch_forget(exo_peer *p) {
    for (size_t i = 0; i < p->n_devices; i++) {
        exo_device_registration_finish(&p->devices[i].registration);
        exo_heartbeat_finish(&p->devices[i].heartbeat);
    }
    exo_free(p->devices);
    p->devices = NULL;
    p->n_devices = 0;
}

/* ---- where figures come from ---- */

/* The system's files, and what the next read counts from. */
typedef struct {
    char root[256];
    exo_sensors_before before;
} files;

static void read_files(void *ud, exo_sensors *out) {
    files *f = ud;
    exo_sensors_read(f->root, &f->before, out);
}

static void read_nvml(void *ud, exo_sensors *out) { exo_nvml_read(ud, out); }

static void finish_nvml(void *ud) { exo_nvml_destroy(ud); }

static exo_status open_sources(exo_watch *w, const char *root, exo_error *err) {
    const exo_platform_sensors *p = w->node->d.platform_sensors;
    files *f = exo_calloc(1, sizeof *f);
    exo_nvml *nvml = exo_nvml_create(EXO_NVML_LIBRARY);
    if (f == NULL || nvml == NULL) {
        exo_free(f);
        exo_nvml_destroy(nvml);
        return exo_error_set(err, EXO_ENOMEM, "out of memory for sensors");
    }
    snprintf(f->root, sizeof f->root, "%s", root);
    const exo_sensors_source all[N_SOURCES] = {
        [SYSTEM] = {.read = read_files, .finish = exo_free, .ud = f},
        [NVML] = {.read = read_nvml, .finish = finish_nvml, .ud = nvml},
        [PLATFORM] = {.read = p != NULL ? p->read : NULL, .ud = p != NULL ? p->ud : NULL},
    };
    exo_status st = EXO_OK;
    for (int i = 0; i < N_SOURCES; i++) { /* all are taken, also behind a failure */
        if (all[i].read == NULL) continue;
        exo_status one = exo_sensors_reader_create(&all[i], &w->sources[i].reader, err);
        if (one != EXO_OK) st = one;
    }
    return st;
}

/* ---- start and end ---- */

exo_status exo_watch_create(exo_node *n, exo_error *err) {
    const char *root = n->d.sensors_root != NULL ? n->d.sensors_root : "";
    exo_watch *w = exo_calloc(1, sizeof *w);
    if (w == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for sensors");
    n->watch = w;
    w->node = n;
    if (strlen(root) >= sizeof((files *)0)->root) {
        return exo_error_set(err, EXO_EINVAL, "the path of the sensors is too long: %.64s", root);
    }
    describe(n, &w->own.registration);
    w->own.has_registration = true;
    return open_sources(w, root, err);
}

const exo_seen_device *exo_watch_own(const exo_node *n) { return &n->watch->own; }

void exo_watch_stop(exo_node *n) {
    if (n->watch != NULL) n->watch->stopped = true;
}

void exo_watch_finish(exo_node *n) {
    exo_watch *w = n->watch;
    if (w == NULL) return;
    for (int i = 0; i < N_SOURCES; i++) exo_sensors_reader_release(w->sources[i].reader);
    exo_device_registration_finish(&w->own.registration);
    exo_heartbeat_finish(&w->own.heartbeat);
    exo_free(w);
    n->watch = NULL;
}
