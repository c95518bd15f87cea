/* record.c - see record.h. */
#define _DEFAULT_SOURCE
#include "node/record.h"

#include "net/hello.h"

#include <string.h>

#define MAX_UNITS   (1 << 24)
#define MAX_CELSIUS 1000.0

static exo_status wrong(exo_error *err, const char *where, const char *key, const char *what) {
    return exo_error_set(err, EXO_EFORMAT, "%s: member '%s' %s", where, key, what);
}

static bool is_printable(const char *text) {
    for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++) {
        if (*c < 0x20 || *c == 0x7F) return false;
    }
    return true;
}

bool exo_device_id_is_own(const char *id) {
    size_t n = strlen(id);
    return n > 0 && n <= EXO_DEVICE_ID_MAX && strchr(id, '/') == NULL && is_printable(id);
}

/* ---- members; what is absent or null is unknown ---- */

static bool is_unknown(const json_t *object, const char *key, const json_t **v) {
    *v = json_object_get(object, key);
    return *v == NULL || json_is_null(*v);
}

/* For people's eyes only: it is cut, and without control characters, rather than refused. */
static exo_status clean_text(json_t *object, const char *where, const char *key, exo_error *err) {
    const json_t *v;
    char text[EXO_RECORD_MAX_TEXT + 1];
    if (is_unknown(object, key, &v)) return EXO_OK;
    if (!json_is_string(v)) return wrong(err, where, key, "is no text");
    exo_hello_text(json_string_value(v), text, sizeof text);
    if (strcmp(text, json_string_value(v)) == 0) return EXO_OK;
    if (json_object_set_new(object, key, json_string(text)) == 0) return EXO_OK;
    return exo_error_set(err, EXO_ENOMEM, "no memory for what a node says of itself");
}

static exo_status check_whole(const json_t *object, const char *where, const char *key,
                              json_int_t most, exo_error *err) {
    const json_t *v;
    if (is_unknown(object, key, &v)) return EXO_OK;
    if (!json_is_integer(v)) return wrong(err, where, key, "is no whole number");
    bool fits = json_integer_value(v) >= 0 && json_integer_value(v) <= most;
    return fits ? EXO_OK : wrong(err, where, key, "is out of range");
}

static exo_status check_heat(const json_t *device, exo_error *err) {
    static const char key[] = "temperature_celsius";
    const json_t *v;
    if (is_unknown(device, key, &v)) return EXO_OK;
    double heat = json_number_value(v);
    bool fits = json_is_number(v) && heat > -MAX_CELSIUS && heat < MAX_CELSIUS;
    return fits ? EXO_OK : wrong(err, "device", key, "is out of range");
}

/* ---- lists ---- */

/* An array of objects, at most `most`; absent: none. */
static exo_status check_list(const json_t *record, const char *key, size_t most,
                             exo_status (*check)(json_t *item, exo_error *err), exo_error *err) {
    const json_t *list;
    exo_status st = EXO_OK;
    if (is_unknown(record, key, &list)) return EXO_OK;
    if (!json_is_array(list)) return wrong(err, "record", key, "is no array");
    if (json_array_size(list) > most) return wrong(err, "record", key, "has too many elements");
    for (size_t i = 0; i < json_array_size(list) && st == EXO_OK; i++) {
        json_t *item = json_array_get(list, i);
        st = json_is_object(item) ? check(item, err) : wrong(err, "record", key, "holds no object");
    }
    return st;
}

static exo_status check_device(json_t *d, exo_error *err) {
    static const char *const texts[] = {"device_reason", "name", "vendor", "driver_version"};
    static const char *const bytes[] = {"memory_total_bytes", "memory_available_bytes"};
    const char *id = json_string_value(json_object_get(d, "device_id"));
    if (id == NULL || !exo_device_id_is_own(id)) {
        return wrong(err, "device", "device_id", "is no device of a node");
    }
    exo_status st = check_heat(d, err);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0] && st == EXO_OK; i++) {
        st = clean_text(d, "device", texts[i], err);
    }
    for (size_t i = 0; i < sizeof bytes / sizeof bytes[0] && st == EXO_OK; i++) {
        st = check_whole(d, "device", bytes[i], (json_int_t)EXO_RECORD_MAX_MEMORY, err);
    }
    return st == EXO_OK ? check_whole(d, "device", "compute_units", MAX_UNITS, err) : st;
}

static bool is_name(const json_t *v) {
    const char *text = json_string_value(v);
    return text != NULL && json_string_length(v) <= EXO_RECORD_MAX_TEXT && is_printable(text);
}

static exo_status check_model(json_t *m, exo_error *err) {
    bool good = is_name(json_object_get(m, "id"));
    return good ? EXO_OK : wrong(err, "model", "id", "is no model's name");
}

/* ---- instances ---- */

static bool is_of(const json_t *instance, const char *node_id) {
    const char *owner = json_string_value(json_object_get(instance, "owner"));
    return owner != NULL && strcmp(owner, node_id) == 0;
}

/* Shown by the node that owns them; nobody speaks for another. */
static exo_status check_instances(json_t *record, const char *node_id, exo_error *err) {
    json_t *all = json_object_get(record, "instances"), *i;
    const char *id;
    void *next;
    if (all == NULL) return EXO_OK;
    if (!json_is_object(all) || json_object_size(all) > EXO_RECORD_MAX_INSTANCES) {
        return wrong(err, "record", "instances", "is no object, or has too many members");
    }
    json_object_foreach_safe(all, next, id, i) {
        bool good = is_of(i, node_id) && is_printable(id) && strlen(id) <= EXO_RECORD_MAX_TEXT &&
                    is_name(json_object_get(i, "model_id")) && is_name(json_object_get(i, "state"));
        if (!good) json_object_del(all, id);
    }
    return EXO_OK;
}

exo_status exo_record_check(json_t *record, const char *node_id, const char *name, exo_error *err) {
    exo_status st = clean_text(record, "record", "version", err);
    if (st == EXO_OK) st = clean_text(record, "record", "api", err);
    if (st == EXO_OK) {
        st = check_list(record, "devices", EXO_RECORD_MAX_DEVICES, check_device, err);
    }
    if (st == EXO_OK) st = check_list(record, "models", EXO_RECORD_MAX_MODELS, check_model, err);
    if (st == EXO_OK) st = check_instances(record, node_id, err);
    const json_t *downloads = json_object_get(record, "downloads");
    if (st == EXO_OK && downloads != NULL && !json_is_object(downloads)) {
        st = wrong(err, "record", "downloads", "is no object");
    }
    if (st != EXO_OK) return st;
    if (json_object_set_new(record, "name", json_string(name)) == 0) return EXO_OK;
    return exo_error_set(err, EXO_ENOMEM, "no memory for what a node says of itself");
}
