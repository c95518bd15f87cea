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

#define N_BACKENDS (sizeof backends / sizeof backends[0])

const exo_backend *const *exo_backends(size_t *n) {
    *n = N_BACKENDS;
    return backends;
}

size_t exo_kv_page_bytes(exo_dtype kv_type, uint32_t n_kv_heads, uint32_t head_dim) {
    size_t element = kv_type == EXO_F32 ? 4 : 2;
    return (size_t)n_kv_heads * head_dim * EXO_KV_PAGE_TOKENS * element;
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

exo_status exo_device_open(const char *id, const exo_device_desc *desc, const exo_backend **backend,
                           exo_device **out, exo_error *err) {
    *backend = NULL;
    *out = NULL;
    size_t n;
    uint32_t index;
    if (!split_id(id, &n, &index)) {
        return exo_error_set(err, EXO_EINVAL, "'%s' is not a device; devices look like cpu:0", id);
    }
    for (size_t i = 0; i < N_BACKENDS; i++) {
        const exo_backend *b = backends[i];
        if (strlen(b->name) != n || strncmp(b->name, id, n) != 0) continue;
        exo_status st = b->initialize(err);
        if (st == EXO_OK) st = b->open(index, desc, out, err);
        if (st == EXO_OK) *backend = b;
        return st;
    }
    return exo_error_set(err, EXO_ENOTFOUND, "no backend for device '%s' in this build", id);
}
