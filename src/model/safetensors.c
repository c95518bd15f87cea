/* safetensors.c - see safetensors.h.
 *
 * Source: the format's description in the safetensors repository (README, "Format"). */
#include "model/safetensors.h"

#include "base/le.h"
#include "base/mem.h"
#include "model/json_limits.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    uint32_t bits;
} dtypes[] = {
    {"BF16", 16}, {"F16", 16},    {"F32", 32},    {"F64", 64},    {"I8", 8},   {"U8", 8},
    {"I16", 16},  {"U16", 16},    {"I32", 32},    {"U32", 32},    {"I64", 64}, {"U64", 64},
    {"BOOL", 8},  {"F8_E4M3", 8}, {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"C64", 64}, {"F4", 4},
};

/* Three containers and about a dozen values for a tensor; real files have under 50000 of those. */
static const exo_json_limits header_limits = {
    .depth = 8, .containers = 600000, .values = 2400000, .string_bytes = 1u << 20};

static uint32_t dtype_bits(const char *name) {
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        if (strcmp(dtypes[i].name, name) == 0) return dtypes[i].bits;
    }
    return 0;
}

static bool get_u64(const json_t *v, uint64_t *out) {
    if (!json_is_integer(v) || json_integer_value(v) < 0) return false;
    *out = (uint64_t)json_integer_value(v);
    return true;
}

/* ---- one tensor ---- */

/* *bytes follows from shape and type; at most INT64_MAX. */
static exo_status read_shape(const json_t *shape, exo_safetensor *t, uint64_t *bytes,
                             exo_error *err) {
    size_t n = json_array_size(shape);
    if (!json_is_array(shape) || n > EXO_SAFETENSORS_MAX_DIMS) {
        return exo_error_set(err, EXO_EFORMAT, "its shape is no list of at most %d numbers",
                             EXO_SAFETENSORS_MAX_DIMS);
    }
    uint64_t n_elems = 1;
    t->n_dims = (uint32_t)n;
    for (size_t i = 0; i < n; i++) {
        uint64_t d;
        if (!get_u64(json_array_get(shape, i), &d)) {
            return exo_error_set(err, EXO_EFORMAT, "dimension %zu is no whole number", i);
        }
        if (d != 0 && n_elems > (INT64_MAX / 64) / d) {
            return exo_error_set(err, EXO_EFORMAT, "the product of its dimensions overflows");
        }
        t->shape[i] = d;
        n_elems *= d;
    }
    uint64_t bits = n_elems * t->elem_bits;
    if (bits % 8 != 0) return exo_error_set(err, EXO_EFORMAT, "it has no whole number of bytes");
    *bytes = bits / 8;
    return EXO_OK;
}

static exo_status read_tensor(const json_t *entry, const uint8_t *data, uint64_t n_data,
                              exo_safetensor *t, exo_error *err) {
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    uint64_t begin, end, bytes = 0;
    if (dtype == NULL) return exo_error_set(err, EXO_EFORMAT, "it has no dtype");
    t->dtype = dtype;
    t->elem_bits = dtype_bits(dtype);
    if (t->elem_bits == 0) {
        return exo_error_set(err, EXO_EUNSUPPORTED, "unknown dtype %.16s", dtype);
    }
    exo_status st = read_shape(json_object_get(entry, "shape"), t, &bytes, err);
    if (st != EXO_OK) return st;
    if (json_array_size(offsets) != 2 || !get_u64(json_array_get(offsets, 0), &begin) ||
        !get_u64(json_array_get(offsets, 1), &end)) {
        return exo_error_set(err, EXO_EFORMAT, "data_offsets are no two whole numbers");
    }
    if (begin > end || end > n_data) {
        return exo_error_set(err, EXO_EFORMAT, "its data are at %llu to %llu, the file has %llu",
                             (unsigned long long)begin, (unsigned long long)end,
                             (unsigned long long)n_data);
    }
    if (end - begin != bytes) {
        return exo_error_set(err, EXO_EFORMAT, "it has %llu bytes of data, its shape asks for %llu",
                             (unsigned long long)(end - begin), (unsigned long long)bytes);
    }
    t->data = data + begin;
    t->bytes = bytes;
    return EXO_OK;
}

/* ---- the file ---- */

static int by_place(const void *pa, const void *pb) {
    const exo_safetensor *a = pa, *b = pb;
    if (a->data != b->data) return a->data < b->data ? -1 : 1;
    if (a->bytes != b->bytes) return a->bytes < b->bytes ? -1 : 1;
    return strcmp(a->name, b->name);
}

static exo_status check_cover(const exo_safetensors *s, const uint8_t *data, uint64_t n_data,
                              exo_error *err) {
    const uint8_t *at = data;
    for (size_t i = 0; i < s->n; i++) {
        const exo_safetensor *t = &s->tensors[i];
        if (t->data != at) {
            return exo_error_set(err, EXO_EFORMAT, "tensor '%.64s' %s the one before it", t->name,
                                 t->data < at ? "overlaps" : "leaves a gap behind");
        }
        at += t->bytes;
    }
    if (at == data + n_data) return EXO_OK;
    return exo_error_set(err, EXO_EFORMAT, "%llu bytes of data belong to no tensor",
                         (unsigned long long)(n_data - (uint64_t)(at - data)));
}

static exo_status read_tensors(exo_safetensors *s, const uint8_t *data, uint64_t n_data,
                               exo_error *err) {
    const char *name;
    json_t *entry;
    s->tensors = exo_calloc(json_object_size(s->header) + 1, sizeof *s->tensors);
    if (s->tensors == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for tensors");
    json_object_foreach(s->header, name, entry) {
        if (strcmp(name, "__metadata__") == 0) continue;
        exo_safetensor *t = &s->tensors[s->n++];
        t->name = name;
        exo_status st = read_tensor(entry, data, n_data, t, err);
        if (st != EXO_OK) return exo_error_wrap(err, st, "tensor '%.64s'", name);
    }
    qsort(s->tensors, s->n, sizeof *s->tensors, by_place);
    return check_cover(s, data, n_data, err);
}

exo_status exo_safetensors_parse(const void *bytes, size_t n, exo_safetensors *out,
                                 exo_error *err) {
    *out = (exo_safetensors){0};
    const uint8_t *p = bytes;
    uint64_t n_header = n >= 8 ? exo_get_u64(p) : 0;
    if (n < 10 || n_header > n - 8 || n_header < 2 || p[8] != '{') {
        return exo_error_set(err, EXO_EFORMAT, "not a safetensors file, or its header is cut");
    }
    if (n_header > EXO_SAFETENSORS_MAX_HEADER) {
        return exo_error_set(err, EXO_EUNSUPPORTED,
                             "its header has %llu bytes, at most %u are read",
                             (unsigned long long)n_header, EXO_SAFETENSORS_MAX_HEADER);
    }
    json_error_t je;
    exo_safetensors s = {0};
    exo_status st = exo_json_check((const char *)p + 8, (size_t)n_header, &header_limits, err);
    if (st != EXO_OK) return exo_error_wrap(err, st, "its header");
    s.header = json_loadb((const char *)p + 8, (size_t)n_header, JSON_REJECT_DUPLICATES, &je);
    if (!json_is_object(s.header)) {
        st = exo_error_set(err, EXO_EFORMAT, "its header is no JSON object: %.80s",
                           s.header == NULL ? je.text : "another kind of value");
    } else {
        st = read_tensors(&s, p + 8 + n_header, n - 8 - n_header, err);
    }
    if (st != EXO_OK) {
        exo_safetensors_finish(&s);
        return st;
    }
    *out = s;
    return EXO_OK;
}

void exo_safetensors_finish(exo_safetensors *s) {
    exo_free(s->tensors);
    json_decref(s->header);
    *s = (exo_safetensors){0};
}
