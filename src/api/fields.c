/* fields.c - see fields.h. */
#include "api/fields.h"

#include "base/json.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

exo_status exo_fields_parse(const char *body, size_t n, json_t **out, exo_error *err) {
    *out = NULL;
    json_error_t je;
    json_t *j = exo_json_load(body, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &je);
    if (j == NULL) {
        return exo_error_set(err, EXO_EINVAL, "the body is not valid JSON: %s (line %d, column %d)",
                             je.text, je.line, je.column);
    }
    if (!json_is_object(j)) {
        json_decref(j);
        return exo_error_set(err, EXO_EINVAL, "the body must be a JSON object");
    }
    *out = j;
    return EXO_OK;
}

void exo_fields_fail(exo_fields *f, const char *param, exo_status status, const char *fmt, ...) {
    if (!exo_fields_ok(f)) return;
    char text[EXO_ERROR_BYTES];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    snprintf(f->param, sizeof f->param, "%s", param);
    exo_error_set(&f->err, status, "\"%s\" %s", param, text);
}

const json_t *exo_fields_get(const exo_fields *f, const char *name) {
    const json_t *j = json_object_get(f->object, name);
    return json_is_null(j) ? NULL : j;
}

bool exo_fields_bool(exo_fields *f, const char *name, bool *out) {
    const json_t *j = exo_fields_get(f, name);
    if (j == NULL || !exo_fields_ok(f)) return false;
    if (!json_is_boolean(j)) exo_fields_fail(f, name, EXO_EINVAL, "must be true or false");
    *out = json_is_true(j);
    return exo_fields_ok(f);
}

bool exo_fields_float(exo_fields *f, const char *name, double min, double max, float *out) {
    const json_t *j = exo_fields_get(f, name);
    if (j == NULL || !exo_fields_ok(f)) return false;
    double v = json_number_value(j);
    if (!json_is_number(j) || !(v >= min && v <= max)) {
        exo_fields_fail(f, name, EXO_EINVAL, "must be a number from %g to %g", min, max);
        return false;
    }
    *out = (float)v;
    return true;
}

bool exo_fields_i64(exo_fields *f, const char *name, int64_t *out) {
    const json_t *j = exo_fields_get(f, name);
    if (j == NULL || !exo_fields_ok(f)) return false;
    bool whole = json_is_real(j) && json_real_value(j) == floor(json_real_value(j)) &&
                 fabs(json_real_value(j)) < 9e15;
    if (!json_is_integer(j) && !whole) {
        exo_fields_fail(f, name, EXO_EINVAL, "must be a whole number");
        return false;
    }
    *out = whole ? (int64_t)json_real_value(j) : (int64_t)json_integer_value(j);
    return true;
}

bool exo_fields_u32(exo_fields *f, const char *name, uint32_t min, uint32_t max, uint32_t *out) {
    int64_t v;
    if (!exo_fields_i64(f, name, &v)) return false;
    if (v < (int64_t)min || v > (int64_t)max) {
        exo_fields_fail(f, name, EXO_EINVAL, "must be a whole number from %u to %u", min, max);
        return false;
    }
    *out = (uint32_t)v;
    return true;
}

bool exo_fields_string(exo_fields *f, const char *name, const char **out) {
    const json_t *j = exo_fields_get(f, name);
    if (j == NULL || !exo_fields_ok(f)) return false;
    if (!json_is_string(j) || strlen(json_string_value(j)) != json_string_length(j)) {
        exo_fields_fail(f, name, EXO_EINVAL, "must be a string without NUL");
        return false;
    }
    *out = json_string_value(j);
    return true;
}
