/* gpu.c - the public memory API over the Vulkan layer: handles, locks, bounds.
 *
 * A handle is a slot number and the slot's generation, so that a stale one is noticed without a
 * search.  Devices are opened at their first use. */
#include <exo/gpu.h>

#include "base/lock.h"
#include "base/mem.h"
#include "compute/vulkan/probe.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BOUNCE_BYTES ((size_t)1 << 20) /* between two devices, through the host */

typedef struct {
    exo_vk_allocation *memory; /* NULL = the slot is free */
    uint32_t device, generation;
    uint32_t next_free; /* slot + 1; 0 = none */
} gpu_slot;

struct exo_gpu {
    exo_lock *lock;
    exo_vk_instance *instance;
    exo_gpu_info *info;      /* (n_devices) */
    exo_vk_device **devices; /* (n_devices); NULL until used */
    uint32_t n_devices;
    gpu_slot *slots;
    size_t n_slots, cap_slots;
    uint32_t first_free; /* slot + 1; 0 = none */
};

/* ---- devices ---- */

static const char *type_name(VkPhysicalDeviceType type) {
    switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU: return "discrete";
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU: return "integrated";
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU: return "virtual";
    case VK_PHYSICAL_DEVICE_TYPE_CPU: return "cpu";
    default: return "other";
    }
}

static void fill_info(const exo_vk_caps *c, uint32_t index, const exo_vk_verdict *v,
                      exo_gpu_info *out) {
    (void)snprintf(out->device_id, sizeof out->device_id, "vulkan:%u", index);
    (void)snprintf(out->uuid, sizeof out->uuid, "%s", c->uuid);
    (void)snprintf(out->name, sizeof out->name, "%s", c->name);
    (void)snprintf(out->vendor, sizeof out->vendor, "%s", c->vendor_name);
    (void)snprintf(out->driver_version, sizeof out->driver_version, "%s%s%s", c->driver,
                   c->driver_info[0] != '\0' ? " " : "", c->driver_info);
    (void)snprintf(out->type, sizeof out->type, "%s", type_name(c->type));
    out->compute_units = c->compute_units;
    out->unified = c->unified;
    for (uint32_t i = 0; i < c->n_heaps; i++) {
        if (c->heaps[i].device_local && c->heaps[i].bytes > out->memory_bytes) {
            out->memory_bytes = c->heaps[i].bytes;
        }
    }
    out->usable = v->usable;
    out->bandwidth_gbps = v->copy_gbps;
    (void)snprintf(out->reason, sizeof out->reason, "%s", v->reason);
}

static exo_status try_devices(exo_gpu *g, exo_error *err) {
    const exo_vk_probe_desc desc = {0}; /* copies only: no kernel runs here */
    exo_vk_verdict *v = exo_calloc(1, sizeof *v);
    g->info = exo_calloc(g->n_devices + 1, sizeof *g->info);
    g->devices = exo_calloc(g->n_devices + 1, sizeof(exo_vk_device *));
    exo_status st = EXO_OK;
    if (v == NULL || g->info == NULL || g->devices == NULL) {
        exo_error_set(err, EXO_ENOMEM, "no memory for the list of devices");
        st = EXO_ENOMEM;
    }
    for (uint32_t i = 0; i < g->n_devices && st == EXO_OK; i++) {
        st = exo_vk_probe(g->instance, i, &desc, v, err);
        if (st == EXO_OK) fill_info(&g->instance->devices[i].caps, i, v, &g->info[i]);
    }
    exo_free(v);
    return st;
}

exo_status exo_gpu_create(exo_gpu **out, exo_error *err) {
    *out = NULL;
    exo_gpu *g = exo_calloc(1, sizeof *g);
    if (g == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for a GPU context");
    exo_status st = exo_lock_create(&g->lock, err);
    if (st == EXO_OK) {
        st = exo_vk_probe_instance(NULL, &(exo_vk_probe_desc){0}, &g->instance, err);
    }
    if (st == EXO_OK) {
        g->n_devices = g->instance->n_devices;
        st = try_devices(g, err);
    }
    if (st != EXO_OK) {
        exo_gpu_destroy(g);
        return st;
    }
    *out = g;
    return EXO_OK;
}

void exo_gpu_destroy(exo_gpu *g) {
    if (g == NULL) return;
    for (uint32_t i = 0; i < g->n_devices && g->devices != NULL; i++) {
        exo_vk_device_close(g->devices[i]); /* its allocations go with it */
    }
    exo_vk_instance_destroy(g->instance);
    exo_lock_destroy(g->lock);
    exo_free(g->info);
    exo_free(g->devices);
    exo_free(g->slots);
    exo_free(g);
}

uint32_t exo_gpu_count(const exo_gpu *g) { return g->n_devices; }

static exo_status check_device(const exo_gpu *g, uint32_t device, exo_error *err) {
    if (device < g->n_devices) return EXO_OK;
    return exo_error_set(err, EXO_ENOTFOUND, "no device vulkan:%u: this machine has %u", device,
                         g->n_devices);
}

exo_status exo_gpu_get_info(const exo_gpu *g, uint32_t device, exo_gpu_info *out, exo_error *err) {
    memset(out, 0, sizeof *out);
    exo_status st = check_device(g, device, err);
    if (st == EXO_OK) *out = g->info[device];
    return st;
}

exo_status exo_gpu_devices_json(const exo_gpu *g, char **out, exo_error *err) {
    *out = NULL;
    json_t *list = json_array();
    for (uint32_t i = 0; i < g->n_devices; i++) {
        const exo_gpu_info *d = &g->info[i];
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:s, s:I, s:I, s:f, s:s, s:s, s:s, s:b, s:b, s:s}",
                            "device_id", d->device_id, "name", d->name, "vendor", d->vendor,
                            "memory_bytes", (json_int_t)d->memory_bytes, "compute_units",
                            (json_int_t)d->compute_units, "bandwidth_gbps", d->bandwidth_gbps,
                            "uuid", d->uuid, "driver_version", d->driver_version, "type", d->type,
                            "unified", d->unified, "usable", d->usable, "reason", d->reason));
    }
    json_int_t count = (json_int_t)json_array_size(list);
    json_t *all = json_pack("{s:o, s:I}", "devices", list, "count", count);
    if (all != NULL && count == (json_int_t)g->n_devices) *out = json_dumps(all, JSON_COMPACT);
    json_decref(all);
    return *out != NULL ? EXO_OK : exo_error_set(err, EXO_ENOMEM, "no memory to list devices");
}

void exo_gpu_free_string(char *s) { free(s); }

/* The device, opened if need be; NULL on failure.  The lock is held. */
static exo_status use_device(exo_gpu *g, uint32_t device, exo_vk_device **out, exo_error *err) {
    *out = NULL;
    exo_status st = check_device(g, device, err);
    if (st != EXO_OK) return st;
    if (!g->info[device].usable) {
        return exo_error_set(err, EXO_EUNSUPPORTED, "vulkan:%u is left out: %s", device,
                             g->info[device].reason);
    }
    if (g->devices[device] == NULL) {
        st = exo_vk_device_open(g->instance, device, NULL, &g->devices[device], err);
    }
    *out = g->devices[device];
    return st;
}

exo_status exo_gpu_get_memory(exo_gpu *g, uint32_t device, exo_gpu_memory *out, exo_error *err) {
    memset(out, 0, sizeof *out);
    exo_vk_device *d = NULL;
    exo_lock_take(g->lock);
    exo_status st = use_device(g, device, &d, err);
    if (d != NULL) {
        out->total_bytes = g->info[device].memory_bytes;
        out->available_bytes = exo_vk_memory_available(&d->memory, EXO_VK_MEMORY_DEVICE);
        out->reserved_bytes = d->memory.stats.block_bytes;
    }
    for (size_t i = 0; i < g->n_slots && st == EXO_OK; i++) {
        if (g->slots[i].memory == NULL || g->slots[i].device != device) continue;
        out->n_allocations++;
        out->allocated_bytes += g->slots[i].memory->size;
    }
    exo_lock_give(g->lock);
    return st;
}

/* ---- handles ---- */

/* Numbers allocations of all contexts of this process: the handle of a closed one names nothing. */
static atomic_uint_least32_t n_generations;

static exo_gpu_handle handle_of(const exo_gpu *g, const gpu_slot *s) {
    return (uint64_t)s->generation << 32 | (uint64_t)(s - g->slots + 1);
}

/* NULL with err when the handle names no live allocation. */
static gpu_slot *find(exo_gpu *g, exo_gpu_handle handle, exo_error *err) {
    uint64_t at = handle & UINT32_MAX;
    if (at > 0 && at <= g->n_slots) {
        gpu_slot *s = &g->slots[at - 1];
        if (s->memory != NULL && s->generation == handle >> 32) return s;
    }
    exo_error_set(err, EXO_EINVAL, "handle %llu names no allocation (never given out, or freed)",
                  (unsigned long long)handle);
    return NULL;
}

static gpu_slot *new_slot(exo_gpu *g) {
    if (g->first_free != 0) {
        gpu_slot *s = &g->slots[g->first_free - 1];
        g->first_free = s->next_free;
        return s;
    }
    if (g->n_slots == UINT32_MAX - 1) return NULL;
    void *items = g->slots;
    int grown = exo_grow(&items, &g->cap_slots, g->n_slots + 1, sizeof *g->slots);
    g->slots = items;
    if (grown != 0) return NULL;
    gpu_slot *s = &g->slots[g->n_slots++];
    memset(s, 0, sizeof *s);
    return s;
}

static void drop_slot(exo_gpu *g, gpu_slot *s) {
    s->memory = NULL;
    s->next_free = g->first_free;
    g->first_free = (uint32_t)(s - g->slots + 1);
}

exo_status exo_gpu_allocate(exo_gpu *g, uint32_t device, uint64_t bytes, exo_gpu_handle *out,
                            exo_error *err) {
    *out = 0;
    exo_vk_device *d = NULL;
    exo_lock_take(g->lock);
    exo_status st = use_device(g, device, &d, err);
    gpu_slot *s = d != NULL ? new_slot(g) : NULL;
    if (d != NULL && s == NULL) st = exo_error_set(err, EXO_ENOMEM, "no memory for a handle");
    if (s != NULL) {
        s->device = device;
        s->generation = (uint32_t)atomic_fetch_add(&n_generations, 1) + 1;
        st = exo_vk_memory_allocate(&d->memory, EXO_VK_MEMORY_DEVICE, bytes, &s->memory, err);
        if (st == EXO_OK)
            *out = handle_of(g, s);
        else
            drop_slot(g, s);
    }
    exo_lock_give(g->lock);
    return st;
}

exo_status exo_gpu_free(exo_gpu *g, exo_gpu_handle handle, exo_error *err) {
    exo_lock_take(g->lock);
    gpu_slot *s = find(g, handle, err);
    if (s != NULL) {
        exo_vk_memory_deallocate(&g->devices[s->device]->memory, s->memory);
        drop_slot(g, s);
    }
    exo_lock_give(g->lock);
    return s != NULL ? EXO_OK : EXO_EINVAL;
}

exo_status exo_gpu_get_allocation(exo_gpu *g, exo_gpu_handle handle, exo_gpu_allocation *out,
                                  exo_error *err) {
    memset(out, 0, sizeof *out);
    exo_lock_take(g->lock);
    const gpu_slot *s = find(g, handle, err);
    if (s != NULL) {
        *out = (exo_gpu_allocation){.handle = handle,
                                    .device = s->device,
                                    .memory_type = s->memory->memory_type,
                                    .id = s->memory->id,
                                    .size = s->memory->size,
                                    .offset = s->memory->offset,
                                    .mapped = s->memory->mapped};
    }
    exo_lock_give(g->lock);
    return s != NULL ? EXO_OK : EXO_EINVAL;
}

/* ---- copies ---- */

static exo_status check_host(const void *p, uint64_t bytes, exo_error *err) {
    if (bytes > SIZE_MAX) return exo_error_set(err, EXO_EINVAL, "more bytes than a host can hold");
    if (p != NULL || bytes == 0) return EXO_OK;
    return exo_error_set(err, EXO_EINVAL, "the host's bytes are NULL");
}

exo_status exo_gpu_copy_to_device(exo_gpu *g, exo_gpu_handle dst, uint64_t offset, const void *src,
                                  uint64_t bytes, exo_error *err) {
    exo_status st = check_host(src, bytes, err);
    if (st != EXO_OK) return st;
    exo_lock_take(g->lock);
    gpu_slot *s = find(g, dst, err);
    st = s == NULL ? EXO_EINVAL
                   : exo_vk_copy_to_device(g->devices[s->device]->transfer, s->memory, offset, src,
                                           (size_t)bytes, NULL, err);
    exo_lock_give(g->lock);
    return st;
}

exo_status exo_gpu_copy_from_device(exo_gpu *g, void *dst, exo_gpu_handle src, uint64_t offset,
                                    uint64_t bytes, exo_error *err) {
    exo_status st = check_host(dst, bytes, err);
    if (st != EXO_OK) return st;
    exo_lock_take(g->lock);
    gpu_slot *s = find(g, src, err);
    st = s == NULL ? EXO_EINVAL
                   : exo_vk_copy_from_device(g->devices[s->device]->transfer, dst, s->memory,
                                             offset, (size_t)bytes, err);
    exo_lock_give(g->lock);
    return st;
}

static exo_status check_range(const gpu_slot *s, uint64_t offset, uint64_t bytes, exo_error *err) {
    uint64_t size = s->memory->size;
    if (offset <= size && bytes <= size - offset) return EXO_OK;
    return exo_error_set(err, EXO_EINVAL, "bytes %llu + %llu of an allocation of %llu",
                         (unsigned long long)offset, (unsigned long long)bytes,
                         (unsigned long long)size);
}

/* From one device to another, piece by piece through host memory. */
static exo_status bounce(exo_gpu *g, const gpu_slot *dst, const gpu_slot *src,
                         const exo_gpu_copy *c, exo_error *err) {
    size_t step = c->bytes < BOUNCE_BYTES ? (size_t)c->bytes : BOUNCE_BYTES;
    uint8_t *host = exo_malloc(step > 0 ? step : 1);
    exo_status st = host != NULL ? EXO_OK : exo_error_set(err, EXO_ENOMEM, "no memory for a copy");
    for (uint64_t at = 0; at < c->bytes && st == EXO_OK; at += step) {
        size_t n = c->bytes - at < step ? (size_t)(c->bytes - at) : step;
        st = exo_vk_copy_from_device(g->devices[src->device]->transfer, host, src->memory,
                                     c->src_offset + at, n, err);
        if (st != EXO_OK) break;
        st = exo_vk_copy_to_device(g->devices[dst->device]->transfer, dst->memory,
                                   c->dst_offset + at, host, n, NULL, err);
    }
    exo_free(host);
    return st;
}

exo_status exo_gpu_copy_device_to_device(exo_gpu *g, const exo_gpu_copy *copy, exo_error *err) {
    exo_lock_take(g->lock);
    const gpu_slot *dst = find(g, copy->dst, err), *src = dst ? find(g, copy->src, err) : NULL;
    exo_status st = src != NULL ? EXO_OK : EXO_EINVAL;
    if (st == EXO_OK) st = check_range(src, copy->src_offset, copy->bytes, err);
    if (st == EXO_OK) st = check_range(dst, copy->dst_offset, copy->bytes, err);
    if (st == EXO_OK && dst->device == src->device) {
        st = exo_vk_copy_device_to_device(g->devices[dst->device]->transfer, dst->memory,
                                          copy->dst_offset, src->memory, copy->src_offset,
                                          (size_t)copy->bytes, NULL, err);
    } else if (st == EXO_OK) {
        st = bounce(g, dst, src, copy, err);
    }
    exo_lock_give(g->lock);
    return st;
}

exo_status exo_gpu_synchronize(exo_gpu *g, uint32_t device, exo_error *err) {
    exo_vk_device *d = NULL;
    exo_lock_take(g->lock);
    exo_status st = use_device(g, device, &d, err);
    if (d != NULL) st = exo_vk_synchronize(d->transfer, err);
    exo_lock_give(g->lock);
    return st;
}
