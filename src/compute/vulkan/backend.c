/* backend.c - Vulkan as a backend: the table, the devices, their buffers.
 *
 * The instance is made once per process, at the first use.  A device is opened only after the probe
 * has judged it; which variant of each kernel runs follows from that verdict. */
#include "compute/vulkan/backend.h"

#include "base/mem.h"
#include "compute/vulkan/host.h"
#include "compute/vulkan/selftest.h"
#include "compute/vulkan/weight.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define MAX_HOST_PERCENT                                                                           \
    50 /* of a plan's products: beyond it the CPU alone is the better device                       \
        */

static _Atomic(exo_vk_instance *) instance; /* NULL until initialize */

static exo_vk_probe_desc probe_desc(void) {
    return (exo_vk_probe_desc){.kernels = exo_vk_kernels_version(), .selftest = exo_vk_selftest};
}

/* Several threads may come at once: the first to finish wins. */
static exo_status vk_initialize(exo_error *err) {
    if (atomic_load(&instance) != NULL) return EXO_OK;
    exo_vk_probe_desc desc = probe_desc();
    exo_vk_instance *made, *none = NULL;
    exo_status st = exo_vk_probe_instance(NULL, &desc, &made, err);
    if (st != EXO_OK) return st;
    if (!atomic_compare_exchange_strong(&instance, &none, made)) exo_vk_instance_destroy(made);
    return EXO_OK;
}

static void vk_shutdown(void) { exo_vk_instance_destroy(atomic_exchange(&instance, NULL)); }

/* ---- what there is ---- */

static void fill_info(const exo_vk_caps *c, uint32_t index, uint64_t available,
                      exo_device_info *out) {
    memset(out, 0, sizeof *out);
    out->clock_mhz = out->temperature_celsius = out->power_watts = NAN;
    (void)snprintf(out->id, sizeof out->id, "vulkan:%u", index);
    (void)snprintf(out->name, sizeof out->name, "%s", c->name);
    (void)snprintf(out->vendor, sizeof out->vendor, "%s", c->vendor_name);
    (void)snprintf(out->driver, sizeof out->driver, "%.63s", c->driver_info);
    out->compute_units = c->compute_units;
    for (uint32_t i = 0; i < c->n_heaps; i++) {
        const exo_vk_heap *h = &c->heaps[i];
        if (!h->device_local) continue;
        out->memory_bytes += h->bytes;
        uint64_t left = h->budget_bytes > h->used_bytes ? h->budget_bytes - h->used_bytes : 0;
        out->memory_available_bytes += left;
    }
    if (available != 0) out->memory_available_bytes = available;
}

static exo_status vk_list_devices(exo_device_info *out, size_t cap, size_t *n, exo_error *err) {
    *n = 0;
    exo_status st = vk_initialize(err);
    if (st != EXO_OK) return st;
    const exo_vk_instance *in = atomic_load(&instance);
    *n = in->n_devices;
    for (uint32_t i = 0; i < in->n_devices && i < cap; i++) {
        exo_vk_caps caps = in->devices[i].caps; /* the instance is shared by all threads */
        exo_vk_caps_refresh(&in->fn, in->devices[i].physical, &caps);
        fill_info(&caps, i, 0, &out[i]);
    }
    return EXO_OK;
}

static exo_status vk_query(exo_device *d, exo_device_info *out, exo_error *err) {
    (void)err;
    exo_vk_caps_refresh(&d->vk->instance->fn, d->vk->physical, &d->vk->caps);
    fill_info(&d->vk->caps, d->vk->index,
              exo_vk_memory_available(&d->vk->memory, EXO_VK_MEMORY_DEVICE), out);
    return EXO_OK;
}

/* ---- devices ---- */

exo_status exo_vk_device_wrap(exo_vk_device *vk, exo_device **out, exo_error *err) {
    *out = NULL;
    exo_device *d = exo_calloc(1, sizeof *d);
    if (d == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for a device");
    d->vk = vk;
    d->max_host_percent = 100;
    exo_status st = exo_vk_shaders_init(vk, &d->shaders, err);
    if (st != EXO_OK) {
        exo_free(d);
        return st;
    }
    *out = d;
    return EXO_OK;
}

void exo_vk_device_unwrap(exo_device *d) {
    if (d == NULL) return;
    (void)exo_vk_queue_wait_idle(&d->vk->queue, EXO_VK_DEADLINE_MS, NULL);
    exo_vk_shaders_finish(&d->shaders);
    if (d->host != NULL) exo_backend_cpu.close(d->host);
    exo_free(d);
}

/* The best variant that passed, or -1. */
static int passed_variant(const exo_device *d, const exo_vk_verdict *v, exo_vk_kernel k) {
    for (int n = exo_vk_variant_best(d->vk, k); n >= EXO_VK_SHARED; n--) {
        exo_vk_variant variant = (exo_vk_variant)n;
        if (exo_vk_variant_possible(d->vk, k, variant) &&
            exo_vk_verdict_of(v, exo_vk_kernel_name(k), exo_vk_variant_name(variant)) ==
                EXO_VK_TRIAL_PASSED) {
            return n;
        }
    }
    return -1;
}

/* Prompts take dot kernels where the device says that it has the hardware for them and they are
 * right.  Nothing measured counts: two devices of one type and driver give the same bits, however
 * busy their machines were when they were tried. */
static void choose_prompt_kernels(exo_device *d, const bool good[EXO_VK_N_KERNELS]) {
    bool possible = d->vk->caps.dot_product_accelerated && good[EXO_VK_KERNEL_quantize] &&
                    good[EXO_VK_KERNEL_rms];
    for (int t = 0; t < EXO_DTYPE_LIMIT; t++) {
        exo_vk_kernel k = exo_vk_dot_kernel((exo_dtype)t);
        bool use = possible && k != EXO_VK_N_KERNELS && good[k];
        exo_vk_shaders_use_dot(&d->shaders, (exo_dtype)t, use);
    }
}

/* The verdict decides the variants; what a kernel without a good one did the CPU does, and without
 * any product the device is left out. */
static exo_status apply_verdict(exo_device *d, const exo_vk_verdict *v, exo_error *err) {
    bool good[EXO_VK_N_KERNELS];
    for (int i = 0; i < EXO_VK_N_KERNELS; i++) {
        exo_vk_kernel k = (exo_vk_kernel)i;
        int chosen = passed_variant(d, v, k);
        good[i] = chosen >= 0;
        d->absent[i] = !good[i];
        if (good[i]) exo_vk_shaders_choose(&d->shaders, k, (exo_vk_variant)chosen);
    }
    d->shaders.no_head_top = !good[EXO_VK_KERNEL_head_top];
    choose_prompt_kernels(d, good);
    exo_error why = {0};
    if (exo_vk_is_useful(v, &why)) return EXO_OK;
    return exo_error_set(err, EXO_EUNSUPPORTED, "vulkan:%u (%s): %s", d->vk->index,
                         d->vk->caps.name, why.message);
}

static exo_status judge(exo_vk_instance *in, uint32_t index, exo_vk_verdict *v, exo_error *err) {
    if (index >= in->n_devices) {
        return exo_error_set(err, EXO_ENOTFOUND, "no device vulkan:%u: there are %u%s%s", index,
                             in->n_devices, in->left_out[0] != '\0' ? "; " : "", in->left_out);
    }
    const exo_vk_probe_desc desc = probe_desc();
    exo_status st = exo_vk_probe(in, index, &desc, v, err);
    if (st != EXO_OK || v->usable) return st;
    return exo_error_set(err, EXO_EUNSUPPORTED, "vulkan:%u (%s): %s", index,
                         in->devices[index].caps.name, v->reason);
}

static exo_status vk_open(uint32_t index, const exo_device_desc *desc, exo_device **out,
                          exo_error *err) {
    *out = NULL;
    exo_status st = vk_initialize(err);
    if (st != EXO_OK) return st;
    exo_vk_instance *in = atomic_load(&instance);
    exo_vk_verdict *v = exo_calloc(1, sizeof *v);
    if (v == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for a device");
    exo_vk_device *vk = NULL;
    exo_device *d = NULL;
    st = judge(in, index, v, err);
    if (st == EXO_OK) st = exo_vk_device_open(in, index, NULL, &vk, err);
    if (st == EXO_OK) st = exo_vk_device_wrap(vk, &d, err);
    if (st == EXO_OK) st = apply_verdict(d, v, err);
    bool keeps = exo_vk_verdict_of(v, EXO_VK_TRIAL_CACHE, EXO_VK_TRIAL_DISK) == EXO_VK_TRIAL_PASSED;
    if (st == EXO_OK && keeps) st = exo_vk_shaders_keep(&d->shaders, err);
    exo_free(v);
    if (st != EXO_OK) {
        exo_vk_device_unwrap(d);
        exo_vk_device_close(vk);
        return st;
    }
    if (desc != NULL) d->host_desc = *desc; /* threads and instruction sets are the CPU's */
    d->max_host_percent = MAX_HOST_PERCENT;
    *out = d;
    return EXO_OK;
}

static void vk_close(exo_device *d) {
    if (d == NULL) return;
    exo_vk_device *vk = d->vk;
    exo_vk_device_unwrap(d);
    exo_vk_device_close(vk);
}

/* ---- buffers ---- */

static exo_status vk_allocate(exo_device *d, size_t bytes, exo_buffer **out, exo_error *err) {
    *out = NULL;
    exo_buffer *b = exo_calloc(1, sizeof *b);
    if (b == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for a buffer");
    b->bytes = bytes;
    exo_status st =
        exo_vk_memory_allocate(&d->vk->memory, EXO_VK_MEMORY_DEVICE, bytes, &b->memory, err);
    if (st == EXO_OK) st = exo_vk_clear(d->vk->transfer, b->memory, 0, bytes, NULL, err);
    if (st != EXO_OK) {
        exo_vk_memory_deallocate(&d->vk->memory, b->memory);
        exo_free(b);
        return st;
    }
    *out = b;
    return EXO_OK;
}

static void vk_deallocate(exo_device *d, exo_buffer *b) {
    if (b == NULL) return;
    exo_vk_memory_deallocate(&d->vk->memory, b->memory);
    exo_free(b);
}

static exo_status vk_copy_to_device(exo_device *d, exo_buffer *dst, size_t offset, const void *src,
                                    size_t bytes, exo_error *err) {
    return exo_vk_copy_to_device(d->vk->transfer, dst->memory, offset, src, bytes, NULL, err);
}

static exo_status vk_copy_from_device(exo_device *d, void *dst, const exo_buffer *src,
                                      size_t offset, size_t bytes, exo_error *err) {
    return exo_vk_copy_from_device(d->vk->transfer, dst, src->memory, offset, bytes, err);
}

static exo_status vk_copy_device_to_device(exo_device *d, exo_buffer *dst, size_t dst_offset,
                                           const exo_buffer *src, size_t src_offset, size_t bytes,
                                           exo_error *err) {
    return exo_vk_copy_device_to_device(d->vk->transfer, dst->memory, dst_offset, src->memory,
                                        src_offset, bytes, NULL, err);
}

static exo_status vk_synchronize(exo_device *d, exo_error *err) {
    return exo_vk_synchronize(d->vk->transfer, err);
}

/* ---- weights ---- */

static bool vk_supports(exo_dtype type) {
    return exo_vk_weight_type(type) != EXO_VK_NO_WEIGHT_TYPE || exo_backend_cpu.supports(type);
}

/* A matrix that the CPU multiplies by, in its layout. */
static exo_status create_host_weight(exo_device *d, exo_weight *w, const void *src,
                                     exo_error *err) {
    exo_device *host;
    exo_status st = exo_vk_host_device(d, &host, err);
    if (st == EXO_OK) {
        st = exo_backend_cpu.weight_create(host, w->type, w->n_rows, w->n_cols, src, &w->host, err);
    }
    if (st == EXO_OK) w->memory_bytes = exo_backend_cpu.weight_bytes(w->host);
    return st;
}

static exo_status vk_weight_create(exo_device *d, exo_dtype type, uint32_t n_rows, uint32_t n_cols,
                                   const void *src, exo_weight **out, exo_error *err) {
    if (!exo_vk_host_type(d, type)) {
        return exo_vk_weight_pack(d->vk, type, n_rows, n_cols, src, out, err);
    }
    *out = NULL;
    exo_weight *w = exo_calloc(1, sizeof *w);
    if (w == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for a weight");
    w->type = type;
    w->n_rows = n_rows;
    w->n_cols = n_cols;
    exo_status st = create_host_weight(d, w, src, err);
    if (st != EXO_OK) {
        exo_free(w);
        return st;
    }
    *out = w;
    return EXO_OK;
}

static void vk_weight_destroy(exo_device *d, exo_weight *w) {
    if (w != NULL && w->host != NULL) exo_backend_cpu.weight_destroy(d->host, w->host);
    exo_vk_weight_free(d->vk, w);
}

static exo_status vk_weight_unpack(exo_device *d, const exo_weight *w, void *dst, exo_error *err) {
    if (w->host != NULL) return exo_backend_cpu.weight_unpack(d->host, w->host, dst, err);
    return exo_vk_weight_unpack(d->vk, w, dst, err);
}

static size_t vk_weight_bytes(const exo_weight *w) { return w->memory_bytes; }

/* ---- plans ---- */

static exo_status vk_plan_create(exo_device *d, const exo_plan_desc *desc, exo_plan **out,
                                 exo_error *err) {
    exo_status st = exo_vk_plan_create(d, desc, out, err);
    if (st == EXO_OK) exo_vk_shaders_save(&d->shaders);
    return st;
}

const exo_backend exo_backend_vulkan = {
    .name = "vulkan",
    .initialize = vk_initialize,
    .shutdown = vk_shutdown,
    .list_devices = vk_list_devices,
    .open = vk_open,
    .close = vk_close,
    .allocate = vk_allocate,
    .deallocate = vk_deallocate,
    .copy_to_device = vk_copy_to_device,
    .copy_from_device = vk_copy_from_device,
    .copy_device_to_device = vk_copy_device_to_device,
    .synchronize = vk_synchronize,
    .query = vk_query,
    .supports = vk_supports,
    .weight_create = vk_weight_create,
    .weight_destroy = vk_weight_destroy,
    .weight_unpack = vk_weight_unpack,
    .weight_bytes = vk_weight_bytes,
    .plan_create = vk_plan_create,
    .plan_has_classes = exo_vk_plan_has_classes,
    .plan_run = exo_vk_plan_run,
    .plan_destroy = exo_vk_plan_destroy,
    .plan_takes_asks = exo_vk_plan_takes_asks,
    .plan_read_logits = exo_vk_plan_read_logits,
};
