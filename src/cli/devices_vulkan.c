/* devices_vulkan.c - Vulkan devices as JSON: identity, memory, capabilities, limits, verdict.
 *
 * Nothing is asked of a driver in this process before a child has survived it: the probe lists
 * the drivers and tries each device there, or knows the verdict from an earlier start.  A figure
 * that the driver does not tell is null. */
#include "cli/devices_vulkan.h"

#include "base/mem.h"
#include "compute/vulkan/host.h"
#include "compute/vulkan/selftest.h"
#include "compute/vulkan/shader.h"

#include <stdio.h>
#include <string.h>

static exo_vk_probe_desc probe_desc(bool again) {
    return (exo_vk_probe_desc){
        .kernels = exo_vk_kernels_version(), .selftest = exo_vk_selftest, .refresh = again};
}

bool exo_cli_vulkan_child(int argc, char **argv, int *exit_code) {
    return exo_vk_probe_child(argc, argv, exo_vk_selftest, exit_code);
}

/* ---- members ---- */

static json_t *integer_or_null(uint64_t v) {
    return v != 0 ? json_integer((json_int_t)v) : json_null();
}

static json_t *figure_or_null(double v) { return v > 0 ? json_real(v) : json_null(); }

static const char *type_name(VkPhysicalDeviceType t) {
    switch (t) {
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU: return "integrated";
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU: return "discrete";
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU: return "virtual";
    case VK_PHYSICAL_DEVICE_TYPE_CPU: return "cpu";
    default: return "other";
    }
}

static json_t *heaps_json(const exo_vk_caps *c) {
    json_t *list = json_array();
    for (uint32_t i = 0; i < c->n_heaps; i++) {
        const exo_vk_heap *h = &c->heaps[i];
        json_array_append_new(
            list, json_pack("{s:I, s:I, s:o, s:b}", "bytes", (json_int_t)h->bytes, "budget_bytes",
                            (json_int_t)h->budget_bytes, "used_bytes",
                            c->has_budget ? json_integer((json_int_t)h->used_bytes) : json_null(),
                            "device_local", h->device_local));
    }
    return list;
}

static json_t *subgroup_json(const exo_vk_caps *c) {
    const struct {
        bool has;
        const char *name;
    } all[] = {{c->subgroup_basic, "basic"},
               {c->subgroup_arithmetic, "arithmetic"},
               {c->subgroup_ballot, "ballot"},
               {c->subgroup_shuffle, "shuffle"},
               {c->subgroup_clustered, "clustered"}};
    json_t *operations = json_array();
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (all[i].has) json_array_append_new(operations, json_string(all[i].name));
    }
    return json_pack("{s:i, s:i, s:i, s:b, s:o}", "size", (int)c->subgroup_size, "min_size",
                     (int)c->subgroup_min, "max_size", (int)c->subgroup_max, "size_control",
                     c->subgroup_size_control, "operations", operations);
}

static json_t *matrices_json(const exo_vk_caps *c) {
    json_t *list = json_array();
    for (uint32_t i = 0; i < c->n_matrix_shapes; i++) {
        const exo_vk_matrix_shape *s = &c->matrix_shapes[i];
        json_array_append_new(list, json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:i}", "m", (int)s->m,
                                              "n", (int)s->n, "k", (int)s->k, "a_type", (int)s->a,
                                              "b_type", (int)s->b, "c_type", (int)s->c,
                                              "result_type", (int)s->result));
    }
    return list;
}

static json_t *capabilities_json(const exo_vk_caps *c) {
    return json_pack("{s:o, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:o, s:b, s:b}",
                     "subgroup", subgroup_json(c), "storage_8bit", c->storage_8bit, "storage_16bit",
                     c->storage_16bit, "float16", c->f16, "int8", c->int8, "int16", c->int16,
                     "int64", c->int64, "integer_dot_product", c->dot_product,
                     "integer_dot_product_accelerated", c->dot_product_accelerated, "memory_model",
                     c->memory_model, "timeline_semaphore", c->timeline, "cooperative_matrix",
                     c->cooperative_matrix, "cooperative_matrix_shapes", matrices_json(c),
                     "memory_budget", c->has_budget, "host_memory_import",
                     c->host_import_alignment != 0);
}

static json_t *limits_json(const exo_vk_caps *c) {
    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:i, s:i, s:i, s:i, s:i, s:[i,i,i], s:o}",
        "max_allocation_bytes", (json_int_t)c->max_allocation_bytes, "max_buffer_bytes",
        (json_int_t)c->max_buffer_bytes, "max_storage_range_bytes",
        (json_int_t)c->max_storage_range, "max_texel_elements", (json_int_t)c->max_texel_elements,
        "max_allocations", (json_int_t)c->max_allocations, "max_shared_bytes",
        (int)c->max_shared_bytes, "max_invocations", (int)c->max_invocations, "max_push_bytes",
        (int)c->max_push_bytes, "max_storage_buffers", (int)c->max_storage_buffers,
        "min_storage_alignment_bytes", (int)c->min_storage_alignment, "max_workgroup_size",
        (int)c->max_workgroup_size[0], (int)c->max_workgroup_size[1], (int)c->max_workgroup_size[2],
        "timestamp_ns", figure_or_null(c->timestamp_ns));
}

/* ---- the verdict ---- */

static const char *result_name(exo_vk_trial_result r) {
    switch (r) {
    case EXO_VK_TRIAL_PASSED: return "passed";
    case EXO_VK_TRIAL_FAILED: return "failed";
    case EXO_VK_TRIAL_CRASHED: return "crashed";
    default: return "unknown";
    }
}

static json_t *trials_json(const exo_vk_verdict *v) {
    json_t *list = json_array();
    for (uint32_t i = 0; i < v->n_trials; i++) {
        const exo_vk_trial_entry *e = &v->trials[i];
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:s, s:s?}", "pipeline", e->pipeline, "variant",
                                        e->variant, "result", result_name(e->result), "reason",
                                        e->reason[0] != '\0' ? e->reason : NULL));
    }
    return list;
}

/* Kernels of which no variant passed, and what the CPU computes because of that. */
static json_t *on_cpu_json(const exo_vk_verdict *v) {
    json_t *list = json_array();
    for (int k = 0; k < EXO_VK_N_KERNELS; k++) {
        const char *reason, *computes = exo_vk_host_computes((exo_vk_kernel)k);
        if (computes == NULL || !exo_vk_absent(v, (exo_vk_kernel)k, &reason)) continue;
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:s}", "computes", computes, "kernel",
                                        exo_vk_kernel_name((exo_vk_kernel)k), "reason", reason));
    }
    return list;
}

static json_t *verdict_json(const exo_vk_verdict *v) {
    exo_error why = {0};
    if (!v->usable) exo_error_set(&why, EXO_EUNSUPPORTED, "%s", v->reason);
    bool usable = v->usable && exo_vk_is_useful(v, &why);
    return json_pack("{s:b, s:s?, s:b, s:o, s:o, s:o, s:o, s:o}", "usable", usable, "reason",
                     usable ? NULL : why.message, "verdict_cached", v->cached, "copy_gbps",
                     figure_or_null(v->copy_gbps), "compute_gflops",
                     figure_or_null(v->compute_gflops), "read_gbps", figure_or_null(v->read_gbps),
                     "on_cpu", usable ? on_cpu_json(v) : json_array(), "trials", trials_json(v));
}

/* ---- devices ---- */

static json_t *identity_json(const exo_vk_caps *c, uint32_t index) {
    char id[32];
    uint64_t total = 0, available = 0;
    (void)snprintf(id, sizeof id, "vulkan:%u", index);
    for (uint32_t i = 0; i < c->n_heaps; i++) {
        const exo_vk_heap *h = &c->heaps[i];
        if (!h->device_local) continue;
        total += h->bytes;
        available += h->budget_bytes > h->used_bytes ? h->budget_bytes - h->used_bytes : 0;
    }
    return json_pack(
        "{s:s, s:s, s:s, s:s, s:o, s:I, s:I, s:n, s:n, s:n, s:s, s:s, s:s, s:i, s:s, s:b}",
        "device_id", id, "name", c->name, "vendor", c->vendor_name, "driver_version",
        c->driver_info, "compute_units", integer_or_null(c->compute_units), "memory_total_bytes",
        (json_int_t)total, "memory_available_bytes", (json_int_t)available, "clock_rate_mhz",
        "temperature_celsius", "power_watts", "uuid", c->uuid, "driver_uuid", c->driver_uuid,
        "driver", c->driver, "vendor_id", (int)c->vendor_id, "type", type_name(c->type),
        "portability", c->portability);
}

static void add_device(json_t *list, exo_vk_instance *instance, uint32_t index,
                       const exo_vk_probe_desc *desc, exo_vk_verdict *v) {
    exo_vk_physical *d = &instance->devices[index];
    const exo_vk_caps *c = &d->caps;
    exo_error err = {0};
    char api[32];
    if (exo_vk_probe(instance, index, desc, v, &err) != EXO_OK) {
        memset(v, 0, sizeof *v);
        (void)snprintf(v->reason, sizeof v->reason, "%s", err.message);
    }
    exo_vk_caps_refresh(&instance->fn, d->physical, &d->caps);
    (void)snprintf(api, sizeof api, "%u.%u.%u", VK_API_VERSION_MAJOR(c->api_version),
                   VK_API_VERSION_MINOR(c->api_version), VK_API_VERSION_PATCH(c->api_version));
    json_t *j = identity_json(c, index);
    json_t *more = json_pack("{s:s, s:b, s:o, s:o, s:o}", "api_version", api, "unified_memory",
                             c->unified, "memory_heaps", heaps_json(c), "capabilities",
                             capabilities_json(c), "limits", limits_json(c));
    json_object_update_missing_new(j, more);
    json_object_update_missing_new(j, verdict_json(v));
    json_array_append_new(list, j);
}

/* What cannot be opened has no number. */
static void add_left_out(json_t *list, const char *reason, size_t n) {
    json_array_append_new(
        list, json_pack("{s:s, s:n, s:n, s:n, s:n, s:n, s:n, s:n, s:n, s:n, s:b, s:s%}",
                        "device_id", "vulkan", "name", "vendor", "driver_version", "compute_units",
                        "memory_total_bytes", "memory_available_bytes", "clock_rate_mhz",
                        "temperature_celsius", "power_watts", "usable", 0, "reason", reason, n));
}

void exo_cli_vulkan_devices(json_t *list, bool again) {
    exo_vk_probe_desc desc = probe_desc(again);
    exo_vk_instance *instance = NULL;
    exo_error err = {0};
    exo_vk_verdict *v = exo_calloc(1, sizeof *v);
    exo_status st = v != NULL ? exo_vk_probe_instance(NULL, &desc, &instance, &err)
                              : exo_error_set(&err, EXO_ENOMEM, "no memory to list Vulkan devices");
    if (st != EXO_OK) {
        add_left_out(list, err.message, strlen(err.message));
        exo_free(v);
        return;
    }
    for (uint32_t i = 0; i < instance->n_devices; i++) add_device(list, instance, i, &desc, v);
    const char *line = instance->left_out;
    while (*line != '\0') {
        size_t n = strcspn(line, "\n");
        if (n > 0) add_left_out(list, line, n);
        line += n + (line[n] == '\n');
    }
    if (instance->n_devices == 0 && instance->left_out[0] == '\0') {
        static const char none[] = "no Vulkan device here";
        add_left_out(list, none, sizeof none - 1);
    }
    exo_vk_instance_destroy(instance);
    exo_free(v);
}
