/* gguf_values.c - names to entries, entries to typed values.
 *
 * Reads what gguf_part.c has validated, so no bound is checked twice.  Widening is free, narrowing
 * is refused: a caller that asks for a u32 gets one from any integer type whose value fits. */
#include "model/gguf_part.h"

#include "base/le.h"

#include <string.h>

/* ---- sorted names ---- */

static int compare(const exo_str *a, const char *s, size_t n) {
    size_t common = a->n < n ? a->n : n;
    int order = common > 0 ? memcmp(a->s, s, common) : 0;
    return order != 0 ? order : (a->n > n) - (a->n < n);
}

static void sift_down(const exo_str **names, size_t root, size_t n) {
    for (size_t child; (child = 2 * root + 1) < n; root = child) {
        if (child + 1 < n && compare(names[child], names[child + 1]->s, names[child + 1]->n) < 0) {
            child++;
        }
        if (compare(names[root], names[child]->s, names[child]->n) >= 0) return;
        const exo_str *t = names[root];
        names[root] = names[child];
        names[child] = t;
    }
}

/* Heap sort: n log n whatever the file's author chose, and no memory. */
exo_status exo_names_sort(const exo_str **names, size_t n, const char *what, exo_error *err) {
    for (size_t i = n / 2; i-- > 0;) sift_down(names, i, n);
    for (size_t end = n; end-- > 1;) {
        const exo_str *t = names[0];
        names[0] = names[end];
        names[end] = t;
        sift_down(names, 0, end);
    }
    for (size_t i = 1; i < n; i++) {
        if (compare(names[i - 1], names[i]->s, names[i]->n) == 0) {
            return exo_error_set(err, EXO_EFORMAT, "%s '%.*s' occurs twice", what,
                                 EXO_STR_ARGS(*names[i]));
        }
    }
    return EXO_OK;
}

const exo_str *exo_names_find(const exo_str *const *names, size_t n, const char *name) {
    size_t lo = 0, hi = n, name_n = strlen(name);
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int order = compare(names[mid], name, name_n);
        if (order == 0) return names[mid];
        if (order < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return NULL;
}

const exo_gguf_kv *exo_gguf_part_find(const exo_gguf_part *p, const char *key) {
    return (const exo_gguf_kv *)exo_names_find(p->keys, p->n_kvs, key);
}

/* ---- values ---- */

bool exo_gguf_kv_i64(const exo_gguf_kv *kv, uint64_t i, int64_t *out) {
    const uint8_t *p = kv->first;
    switch (kv->elem) {
    case EXO_GGUF_BOOL: *out = p[i] != 0; return true;
    case EXO_GGUF_U8: *out = p[i]; return true;
    case EXO_GGUF_I8: *out = p[i] < 128 ? p[i] : p[i] - 256; return true;
    case EXO_GGUF_U16: *out = exo_get_u16(p + 2 * i); return true;
    case EXO_GGUF_I16: *out = (int16_t)exo_get_u16(p + 2 * i); return true;
    case EXO_GGUF_U32: *out = exo_get_u32(p + 4 * i); return true;
    case EXO_GGUF_I32: *out = (int32_t)exo_get_u32(p + 4 * i); return true;
    case EXO_GGUF_I64: *out = (int64_t)exo_get_u64(p + 8 * i); return true;
    case EXO_GGUF_U64: {
        uint64_t v = exo_get_u64(p + 8 * i);
        *out = v <= INT64_MAX ? (int64_t)v : 0;
        return v <= INT64_MAX;
    }
    case EXO_GGUF_F32:
    case EXO_GGUF_F64:
    case EXO_GGUF_STRING:
    case EXO_GGUF_ARRAY: break;
    }
    *out = 0;
    return false;
}

bool exo_gguf_kv_u32(const exo_gguf_kv *kv, uint32_t *out) {
    int64_t v;
    *out = 0;
    if (kv->type == EXO_GGUF_ARRAY || kv->type == EXO_GGUF_BOOL) return false;
    if (!exo_gguf_kv_i64(kv, 0, &v) || v < 0 || v > UINT32_MAX) return false;
    *out = (uint32_t)v;
    return true;
}

static uint64_t scalar_bytes(exo_gguf_type type) {
    switch (type) {
    case EXO_GGUF_U16:
    case EXO_GGUF_I16: return 2;
    case EXO_GGUF_U32:
    case EXO_GGUF_I32:
    case EXO_GGUF_F32: return 4;
    case EXO_GGUF_U64:
    case EXO_GGUF_I64:
    case EXO_GGUF_F64: return 8;
    default: return 1;
    }
}

const uint8_t *exo_gguf_kv_end(const exo_gguf_kv *kv) {
    if (kv->elem != EXO_GGUF_STRING) return kv->first + kv->n * scalar_bytes(kv->elem);
    uint64_t i = kv->marks != NULL && kv->n > 0 ? (kv->n - 1) / EXO_GGUF_MARK_EVERY : 0;
    const uint8_t *p = kv->first + (kv->marks != NULL && kv->n > 0 ? kv->marks[i] : 0);
    for (i *= EXO_GGUF_MARK_EVERY; i < kv->n; i++) p += 8 + exo_get_u64(p);
    return p;
}
