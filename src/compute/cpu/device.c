/* device.c - the CPU as a backend: the table, the device, its buffers.
 *
 * Buffers are host memory, so transfers are copies and there is nothing to wait for. */
#include "compute/cpu/device.h"

#include "base/log.h"
#include "base/mem.h"
#include "compute/cpu/cpu_info.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static exo_status cpu_initialize(exo_error *err) {
    const exo_cpu_kernels *kernels;
    return exo_kernels_choose(NULL, &kernels, err);
}

static void cpu_shutdown(void) {}

static void fill_info(const exo_cpu_kernels *kernels, exo_device_info *out) {
    memset(out, 0, sizeof *out);
    out->clock_mhz = out->temperature_celsius = out->power_watts = NAN;
    (void)snprintf(out->id, sizeof out->id, "cpu:0");
    (void)snprintf(out->name, sizeof out->name, "CPU");
    (void)snprintf(out->driver, sizeof out->driver, "%s", kernels->driver);
    out->compute_units = 1;
    exo_cpu_info(out);
}

static exo_status cpu_list_devices(exo_device_info *out, size_t cap, size_t *n, exo_error *err) {
    const exo_cpu_kernels *kernels;
    *n = 0;
    exo_status st = exo_kernels_choose(NULL, &kernels, err);
    if (st != EXO_OK) return st;
    *n = 1;
    if (cap > 0) fill_info(kernels, &out[0]);
    return EXO_OK;
}

static exo_status cpu_query(exo_device *d, exo_device_info *out, exo_error *err) {
    (void)err;
    fill_info(d->kernels, out);
    return EXO_OK;
}

/* The cores this process may use. */
static uint32_t usable_cores(const exo_cpu_kernels *kernels) {
    exo_device_info info;
    fill_info(kernels, &info);
    return info.compute_units < EXO_POOL_MAX_THREADS ? info.compute_units : EXO_POOL_MAX_THREADS;
}

/* Threads that spin beside each other on one core only take time from each other. */
static void limit_threads(exo_device *d, uint32_t n_cores) {
    uint32_t n = exo_pool_threads(d->pool);
    if (n <= n_cores) return;
    exo_warn(
        "CPU: %u threads asked for, but this process may use %u core(s): steps of few rows use "
        "no more",
        n, n_cores);
    exo_pool_limit(d->pool, n_cores);
}

static exo_status cpu_open(uint32_t index, const exo_device_desc *desc, exo_device **out,
                           exo_error *err) {
    *out = NULL;
    if (index != 0) {
        return exo_error_set(err, EXO_ENOTFOUND, "no device cpu:%u: all cores are cpu:0", index);
    }
    exo_device *d = exo_calloc(1, sizeof *d);
    if (d == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for a device");
    exo_status st = exo_kernels_choose(desc != NULL ? desc->isa : NULL, &d->kernels, err);
    if (st == EXO_OK) {
        uint32_t n = desc != NULL ? desc->n_threads : 0;
        uint32_t n_cores = usable_cores(d->kernels);
        bool spin = desc != NULL && desc->spin;
        st = exo_pool_create(n != 0 ? n : n_cores, spin, &d->pool, err);
        if (st == EXO_OK && spin) limit_threads(d, n_cores);
        if (st == EXO_OK) exo_pool_place(d->pool);
    }
    if (st != EXO_OK) {
        exo_free(d);
        return st;
    }
    *out = d;
    return EXO_OK;
}

static void cpu_close(exo_device *d) {
    if (d == NULL) return;
    exo_pool_destroy(d->pool);
    exo_free(d);
}

static exo_status cpu_allocate(exo_device *d, size_t bytes, exo_buffer **out, exo_error *err) {
    (void)d;
    *out = NULL;
    exo_buffer *b = exo_calloc(1, sizeof *b);
    if (b != NULL) b->data = exo_pages_alloc(bytes);
    if (b == NULL || b->data == NULL) {
        exo_free(b);
        return exo_error_set(err, EXO_ENOMEM, "no memory for a buffer of %zu bytes", bytes);
    }
    exo_pages_prefer_huge(b->data, bytes); /* KV pages: each head's part of one is 4 KiB */
    b->bytes = bytes;
    *out = b;
    return EXO_OK;
}

static void cpu_deallocate(exo_device *d, exo_buffer *b) {
    (void)d;
    if (b == NULL) return;
    exo_pages_free(b->data, b->bytes);
    exo_free(b);
}

static exo_status check_range(const exo_buffer *b, size_t offset, size_t bytes, exo_error *err) {
    if (offset <= b->bytes && bytes <= b->bytes - offset) return EXO_OK;
    return exo_error_set(err, EXO_EINVAL, "bytes %zu + %zu of a buffer of %zu", offset, bytes,
                         b->bytes);
}

static exo_status cpu_copy_to_device(exo_device *d, exo_buffer *dst, size_t offset, const void *src,
                                     size_t bytes, exo_error *err) {
    (void)d;
    exo_status st = check_range(dst, offset, bytes, err);
    if (st == EXO_OK && bytes > 0) memcpy(dst->data + offset, src, bytes);
    return st;
}

static exo_status cpu_copy_from_device(exo_device *d, void *dst, const exo_buffer *src,
                                       size_t offset, size_t bytes, exo_error *err) {
    (void)d;
    exo_status st = check_range(src, offset, bytes, err);
    if (st == EXO_OK && bytes > 0) memcpy(dst, src->data + offset, bytes);
    return st;
}

static exo_status cpu_copy_device_to_device(exo_device *d, exo_buffer *dst, size_t dst_offset,
                                            const exo_buffer *src, size_t src_offset, size_t bytes,
                                            exo_error *err) {
    (void)d;
    exo_status st = check_range(src, src_offset, bytes, err);
    if (st == EXO_OK) st = check_range(dst, dst_offset, bytes, err);
    if (st == EXO_OK && bytes > 0) memmove(dst->data + dst_offset, src->data + src_offset, bytes);
    return st;
}

static exo_status cpu_synchronize(exo_device *d, exo_error *err) {
    (void)d;
    (void)err;
    return EXO_OK;
}

static exo_status cpu_weight_create(exo_device *d, exo_dtype type, uint32_t n_rows, uint32_t n_cols,
                                    const void *src, exo_weight **out, exo_error *err) {
    return exo_weight_pack(d->pool, type, n_rows, n_cols, src, out, err);
}

static void cpu_weight_destroy(exo_device *d, exo_weight *w) {
    (void)d;
    exo_weight_free(w);
}

static exo_status cpu_weight_unpack(exo_device *d, const exo_weight *w, void *dst, exo_error *err) {
    (void)d;
    (void)err;
    exo_weight_unpack(w, dst);
    return EXO_OK;
}

static size_t cpu_weight_bytes(const exo_weight *w) { return w->memory_bytes; }

static const void *cpu_weight_packed(const exo_weight *w, size_t *bytes) {
    *bytes = w->memory_bytes;
    return w->memory;
}

static exo_status cpu_weight_adopt(exo_device *d, const exo_packed *p, exo_weight **out,
                                   exo_error *err) {
    return exo_weight_adopt(d->pool, p, out, err);
}

/* One kernel serves rows of both classes. */
static bool has_classes(const exo_plan *p) {
    (void)p;
    return false;
}

const exo_backend exo_backend_cpu = {
    .name = "cpu",
    .initialize = cpu_initialize,
    .shutdown = cpu_shutdown,
    .list_devices = cpu_list_devices,
    .open = cpu_open,
    .close = cpu_close,
    .allocate = cpu_allocate,
    .deallocate = cpu_deallocate,
    .copy_to_device = cpu_copy_to_device,
    .copy_from_device = cpu_copy_from_device,
    .copy_device_to_device = cpu_copy_device_to_device,
    .synchronize = cpu_synchronize,
    .query = cpu_query,
    .supports = exo_weight_supported,
    .weight_create = cpu_weight_create,
    .weight_destroy = cpu_weight_destroy,
    .weight_unpack = cpu_weight_unpack,
    .weight_bytes = cpu_weight_bytes,
    .weight_layout = EXO_WEIGHT_LAYOUT,
    .weight_packed = cpu_weight_packed,
    .weight_adopt = cpu_weight_adopt,
    .plan_create = exo_cpu_plan_create,
    .plan_has_classes = has_classes,
    .plan_run = exo_cpu_plan_run,
    .plan_destroy = exo_cpu_plan_destroy,
};
