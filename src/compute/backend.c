/* backend.c - finds the backend that a device's name belongs to. */
#include "compute/backend.h"

#include <stdlib.h>
#include <string.h>

static const exo_backend *const backends[] = {
    &exo_backend_cpu,
#ifdef EXO_VULKAN
    &exo_backend_vulkan,
#endif
};

#define N_BACKENDS  (sizeof backends / sizeof backends[0])
#define MAX_DEVICES 64 /* of one backend */

const exo_backend *const *exo_backends(size_t *n) {
    *n = N_BACKENDS;
    return backends;
}

bool exo_kv_type_fits(exo_dtype kv_type, uint32_t head_dim) {
    const exo_dtype_info *type = exo_dtype_get(kv_type);
    if (kv_type != EXO_F32 && kv_type != EXO_F16 && kv_type != EXO_Q8_0) return false;
    return head_dim % type->block_elems == 0;
}

size_t exo_kv_page_bytes(exo_dtype kv_type, uint32_t n_kv_heads, uint32_t head_dim) {
    return exo_dtype_row_bytes(kv_type, (size_t)n_kv_heads * head_dim * EXO_KV_PAGE_TOKENS);
}

/* Splits "cpu:0"; false when it is not a name, a colon and a number. */
static bool split_id(const char *id, size_t *name_bytes, uint32_t *index) {
    const char *colon = strchr(id, ':');
    if (colon == NULL || colon[1] < '0' || colon[1] > '9') return false;
    char *end;
    unsigned long n = strtoul(colon + 1, &end, 10);
    if (*end != '\0' || n >= UINT32_MAX) return false;
    *name_bytes = (size_t)(colon - id);
    *index = (uint32_t)n;
    return true;
}

/* The backend of a device's name, initialized. */
static exo_status find_backend(const char *id, const exo_backend **out, uint32_t *index,
                               exo_error *err) {
    size_t n;
    if (!split_id(id, &n, index)) {
        return exo_error_set(err, EXO_EINVAL, "'%s' is not a device; devices look like cpu:0", id);
    }
    for (size_t i = 0; i < N_BACKENDS; i++) {
        const exo_backend *b = backends[i];
        if (strlen(b->name) != n || strncmp(b->name, id, n) != 0) continue;
        *out = b;
        return b->initialize(err);
    }
    return exo_error_set(err, EXO_ENOTFOUND, "no backend for device '%s' in this build", id);
}

exo_status exo_device_describe(const char *id, exo_device_info *out, exo_error *err) {
    const exo_backend *b = NULL;
    uint32_t index = 0;
    exo_status st = find_backend(id, &b, &index, err);
    if (st != EXO_OK) return st;
    exo_device_info all[MAX_DEVICES];
    size_t n;
    st = b->list_devices(all, MAX_DEVICES, &n, err);
    if (st != EXO_OK) return st;
    for (size_t i = 0; i < n && i < MAX_DEVICES; i++) {
        if (strcmp(all[i].id, id) != 0) continue;
        *out = all[i];
        return EXO_OK;
    }
    return exo_error_set(err, EXO_ENOTFOUND,
                         "device \"%s\" not found; `exo devices` lists this machine's", id);
}

exo_status exo_device_open(const char *id, const exo_device_desc *desc, const exo_backend **backend,
                           exo_device **out, exo_error *err) {
    *backend = NULL;
    *out = NULL;
    const exo_backend *b = NULL;
    uint32_t index = 0;
    exo_status st = find_backend(id, &b, &index, err);
    if (st == EXO_OK) st = b->open(index, desc, out, err);
    if (st == EXO_OK) *backend = b;
    return st;
}
