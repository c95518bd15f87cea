/* telemetry_record.c - reads and writes records by their tables; see telemetry_record.h. */
#include "cluster/telemetry_record.h"

#include "cluster/telemetry.h"

#include <string.h>

static const void *member(const void *record, size_t offset) {
    return (const char *)record + offset;
}

/* ---- reading ---- */

typedef struct {
    const exo_record_table *table;
    const exo_field *field;
    exo_error *err;
} place;

static exo_status wrong(const place *at, const char *what) {
    return exo_error_set(at->err, EXO_EFORMAT, "%s: member '%s' %s", at->table->name,
                         at->field->name, what);
}

static exo_status read_text(const place *at, const json_t *v, char *out) {
    if (!json_is_string(v)) return wrong(at, "is no text");
    const char *text = json_string_value(v);
    size_t n = json_string_length(v);
    if (n >= at->field->size) return wrong(at, "is too long");
    if (strlen(text) != n) return wrong(at, "holds a NUL");
    for (size_t i = 0; i <= n; i++) { /* it may be shown on a terminal */
        unsigned char c = (unsigned char)text[i];
        out[i] = (c < 0x20 && i < n) || c == 0x7F ? '?' : text[i];
    }
    return EXO_OK;
}

static exo_status read_whole(const place *at, const json_t *v, json_int_t most, uint64_t *out) {
    if (!json_is_integer(v)) return wrong(at, "is no whole number");
    json_int_t i = json_integer_value(v);
    if (i < 0 || i > most) return wrong(at, "is out of range");
    *out = (uint64_t)i;
    return EXO_OK;
}

static exo_status read_real(const place *at, const json_t *v, double *out) {
    const exo_field *f = at->field;
    if (!json_is_number(v)) return wrong(at, "is no number");
    double x = json_number_value(v);
    bool any = f->least == 0 && f->most == 0;
    if (!isfinite(x) || (!any && (x < f->least || x > f->most))) {
        return wrong(at, "is out of range");
    }
    *out = x;
    return EXO_OK;
}

static exo_status read_device_type(const place *at, const json_t *v, exo_device_type *out) {
    const char *name = json_string_value(v);
    for (int t = 0; name != NULL && t < EXO_N_DEVICE_TYPES; t++) {
        if (strcmp(name, exo_device_type_name((exo_device_type)t)) != 0) continue;
        *out = (exo_device_type)t;
        return EXO_OK;
    }
    return wrong(at, "is no type of device");
}

static exo_status read_unknown(const place *at, void *to) {
    const exo_field *f = at->field;
    if ((f->flags & EXO_FIELD_MAY_BE_UNKNOWN) == 0) return wrong(at, "is null");
    if (f->kind == EXO_FIELD_BYTES) *(uint64_t *)to = EXO_BYTES_UNKNOWN;
    if (f->kind == EXO_FIELD_REAL) *(double *)to = NAN;
    return EXO_OK; /* text and records stay empty */
}

static exo_status read_value(const place *at, const json_t *v, void *record) {
    const exo_field *f = at->field;
    void *to = (char *)record + f->offset;
    uint64_t whole = 0;
    exo_status st;
    if (json_is_null(v)) return read_unknown(at, to);
    switch (f->kind) {
    case EXO_FIELD_TEXT: return read_text(at, v, to);
    case EXO_FIELD_BYTES:
        return read_whole(at, v, f->most > 0 ? (json_int_t)f->most : INT64_MAX, to);
    case EXO_FIELD_PORT:
        st = read_whole(at, v, UINT16_MAX, &whole);
        *(uint16_t *)to = (uint16_t)whole;
        return st;
    case EXO_FIELD_REAL: return read_real(at, v, to);
    case EXO_FIELD_BOOL:
        if (!json_is_boolean(v)) return wrong(at, "is neither true nor false");
        *(bool *)to = json_is_true(v);
        return EXO_OK;
    case EXO_FIELD_DEVICE_TYPE: return read_device_type(at, v, to);
    case EXO_FIELD_RECORD:
        st = exo_record_read(f->table, v, to, at->err);
        if (f->has_offset != 0) *(bool *)((char *)record + f->has_offset) = st == EXO_OK;
        return st;
    }
    return wrong(at, "has no kind");
}

static bool is_known(const exo_record_table *t, const char *name) {
    for (size_t i = 0; i < t->n_fields; i++) {
        if (strcmp(t->fields[i].name, name) == 0) return true;
    }
    return false;
}

static exo_status keep_others(const exo_record_table *t, const json_t *in, void *record,
                              exo_error *err) {
    json_t *extra = NULL, *value;
    const char *name;
    json_object_foreach((json_t *)in, name, value) {
        if (is_known(t, name)) continue;
        if (extra == NULL) extra = json_object();
        if (json_object_set(extra, name, value) == 0) continue;
        json_decref(extra);
        return exo_error_set(err, EXO_ENOMEM, "no memory for a message");
    }
    *(json_t **)((char *)record + t->extra_offset) = extra;
    return EXO_OK;
}

exo_status exo_record_read(const exo_record_table *t, const json_t *in, void *out, exo_error *err) {
    if (!json_is_object(in)) {
        return exo_error_set(err, EXO_EFORMAT, "%s: is no JSON object", t->name);
    }
    exo_status st = EXO_OK;
    for (size_t i = 0; st == EXO_OK && i < t->n_fields; i++) {
        const exo_field *f = &t->fields[i];
        const place at = {t, f, err};
        const json_t *v = json_object_get(in, f->name);
        if (v != NULL) {
            st = read_value(&at, v, out);
        } else if ((f->flags & EXO_FIELD_MAY_BE_ABSENT) == 0) {
            st = wrong(&at, "is missing");
        } else if ((f->flags & EXO_FIELD_DEFAULT_TRUE) != 0) {
            *(bool *)((char *)out + f->offset) = true;
        }
    }
    if (st == EXO_OK) st = keep_others(t, in, out, err);
    return st;
}

/* ---- writing ---- */

static json_t *write_value(const exo_field *f, const void *record) {
    const void *from = member(record, f->offset);
    bool unknown = (f->flags & EXO_FIELD_MAY_BE_UNKNOWN) != 0;
    switch (f->kind) {
    case EXO_FIELD_TEXT:
        return unknown && *(const char *)from == '\0' ? json_null() : json_string(from);
    case EXO_FIELD_BYTES: {
        uint64_t n = *(const uint64_t *)from;
        return n == EXO_BYTES_UNKNOWN ? json_null() : json_integer((json_int_t)n);
    }
    case EXO_FIELD_PORT: return json_integer(*(const uint16_t *)from);
    case EXO_FIELD_REAL: {
        double x = *(const double *)from;
        return isfinite(x) ? json_real(x) : json_null();
    }
    case EXO_FIELD_BOOL: return json_boolean(*(const bool *)from);
    case EXO_FIELD_DEVICE_TYPE:
        return json_string(exo_device_type_name(*(const exo_device_type *)from));
    case EXO_FIELD_RECORD:
        if (f->has_offset != 0 && !*(const bool *)member(record, f->has_offset)) return json_null();
        return exo_record_write(f->table, from);
    }
    return NULL;
}

json_t *exo_record_write(const exo_record_table *t, const void *record) {
    json_t *out = json_object();
    bool ok = out != NULL;
    for (size_t i = 0; ok && i < t->n_fields; i++) {
        ok = json_object_set_new(out, t->fields[i].name, write_value(&t->fields[i], record)) == 0;
    }
    json_t *extra = *(json_t *const *)member(record, t->extra_offset);
    if (ok && extra != NULL) ok = json_object_update_missing(out, extra) == 0;
    if (ok) return out;
    json_decref(out);
    return NULL;
}

void exo_record_finish(const exo_record_table *t, void *record) {
    for (size_t i = 0; i < t->n_fields; i++) {
        const exo_field *f = &t->fields[i];
        if (f->kind == EXO_FIELD_RECORD) exo_record_finish(f->table, (char *)record + f->offset);
    }
    json_t **extra = (json_t **)((char *)record + t->extra_offset);
    json_decref(*extra);
    *extra = NULL;
}
