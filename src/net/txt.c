/* txt.c - TXT records of exo's service. */
#define _POSIX_C_SOURCE 200809L
#include "net/txt.h"

#include "net/hello.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define ITEM_MAX 255

static void put(uint8_t *out, size_t *used, const char *key, const char *value) {
    char item[ITEM_MAX + 1];
    int n = snprintf(item, sizeof item, "%s=%s", key, value);
    if (n <= 0 || n > ITEM_MAX || *used + 1 + (size_t)n > EXO_TXT_BYTES) return;
    out[*used] = (uint8_t)n;
    memcpy(out + *used + 1, item, (size_t)n);
    *used += 1 + (size_t)n;
}

size_t exo_txt_write(const exo_txt *t, uint8_t out[EXO_TXT_BYTES]) {
    size_t n = 0;
    char number[24];
    put(out, &n, "id", t->id);
    put(out, &n, "cluster", t->cluster);
    snprintf(number, sizeof number, "%u", t->port);
    put(out, &n, "port", number);
    snprintf(number, sizeof number, "%u", t->v);
    put(out, &n, "v", number);
    put(out, &n, "gpu_name", t->gpu_name);
    put(out, &n, "gpu_vendor", t->gpu_vendor);
    snprintf(number, sizeof number, "%" PRIu64, t->max_memory);
    put(out, &n, "max_memory", number);
    snprintf(number, sizeof number, "%" PRIu32, t->compute_units);
    put(out, &n, "compute_units", number);
    return n;
}

static bool number(const char *value, uint64_t max, uint64_t *out) {
    uint64_t v = 0;
    size_t n = strlen(value);
    if (n == 0 || n > 19 || strspn(value, "0123456789") != n) return false;
    for (size_t i = 0; i < n; i++) v = v * 10 + (uint64_t)(value[i] - '0');
    *out = v;
    return v <= max;
}

static bool is_hex(const char *value, size_t n) {
    return strlen(value) == n && strspn(value, "0123456789abcdef") == n;
}

/* The key's place in t; false for a value that is none. */
static bool take(exo_txt *t, const char *key, const char *value) {
    uint64_t v;
    if (strcmp(key, "id") == 0) {
        if (!is_hex(value, EXO_NODE_ID_BYTES - 1)) return false;
        if (t->id[0] == '\0') snprintf(t->id, sizeof t->id, "%s", value);
    } else if (strcmp(key, "cluster") == 0) {
        if (!is_hex(value, EXO_TXT_CLUSTER_BYTES - 1)) return false;
        if (t->cluster[0] == '\0') snprintf(t->cluster, sizeof t->cluster, "%s", value);
    } else if (strcmp(key, "port") == 0) {
        if (!number(value, UINT16_MAX, &v)) return false;
        if (t->port == 0) t->port = (uint16_t)v;
    } else if (strcmp(key, "v") == 0) {
        if (!number(value, UINT16_MAX, &v)) return false;
        if (t->v == 0) t->v = (uint16_t)v;
    } else if (strcmp(key, "max_memory") == 0) {
        if (!number(value, UINT64_MAX, &v)) return false;
        if (t->max_memory == 0) t->max_memory = v;
    } else if (strcmp(key, "compute_units") == 0) {
        if (!number(value, UINT32_MAX, &v)) return false;
        if (t->compute_units == 0) t->compute_units = (uint32_t)v;
    } else if (strcmp(key, "gpu_name") == 0) {
        if (t->gpu_name[0] == '\0') exo_hello_text(value, t->gpu_name, sizeof t->gpu_name);
    } else if (strcmp(key, "gpu_vendor") == 0) {
        if (t->gpu_vendor[0] == '\0') exo_hello_text(value, t->gpu_vendor, sizeof t->gpu_vendor);
    }
    return true;
}

exo_status exo_txt_take(exo_txt *t, const char *item, size_t n, exo_error *err) {
    char text[ITEM_MAX + 1];
    if (n > ITEM_MAX || memchr(item, 0, n) != NULL) {
        return exo_error_set(err, EXO_EFORMAT, "a TXT item that is no text");
    }
    memcpy(text, item, n);
    text[n] = '\0';
    char *equals = strchr(text, '=');
    if (equals == NULL) return EXO_OK; /* a flag of somebody else's */
    *equals = '\0';
    if (take(t, text, equals + 1)) return EXO_OK;
    char key[32];
    exo_hello_text(text, key, sizeof key);
    return exo_error_set(err, EXO_EFORMAT, "TXT key %s has no valid value", key);
}

exo_status exo_txt_read(const void *bytes, size_t n, exo_txt *out, exo_error *err) {
    const uint8_t *b = bytes;
    exo_txt t = {0};
    *out = t;
    if (n > EXO_TXT_MAX_BYTES)
        return exo_error_set(err, EXO_EFORMAT, "a TXT record of %zu bytes", n);
    for (size_t at = 0; at < n;) {
        size_t item = b[at++];
        if (item > n - at) return exo_error_set(err, EXO_EFORMAT, "a TXT record that is cut off");
        exo_status st = exo_txt_take(&t, (const char *)b + at, item, err);
        if (st != EXO_OK) return st;
        at += item;
    }
    if (t.id[0] == '\0') return exo_error_set(err, EXO_EFORMAT, "a TXT record without id");
    *out = t;
    return EXO_OK;
}
