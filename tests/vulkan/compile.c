/* compile.c - every kernel, in every variant, as pipelines of the first Vulkan device.
 *
 * For drivers that compile without hardware and cannot execute, such as RADV's null device: no
 * memory, queue or fence is made.  Names what it compiles on stderr, before the driver's own
 * statistics.  Exit code 0: all compiled; 1: one did not; 77: there is no such device.
 * tests/vulkan/compile.sh runs it. */
#include "base/mem.h"
#include "compute/vulkan/shader.h"

#include <stdio.h>
#include <string.h>

#define MAX_SETS 24

/* Values of the constants behind the number of lanes, as plans ask for them (plan_ops.c). */
typedef struct {
    uint32_t n; /* constants */
    uint32_t n_sets;
    uint32_t set[MAX_SETS][EXO_VK_MAX_SPECS - 1];
} spec_sets;

static void add(spec_sets *s, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
    const uint32_t set[] = {a, b, c, d};
    memcpy(s->set[s->n_sets++], set, sizeof set);
}

static void product_sets(spec_sets *s, uint32_t row_lanes, uint32_t cols, uint32_t pair_cols) {
    s->n = 3;
    for (uint32_t n = 1; n <= cols; n *= 2) add(s, row_lanes, n, 0, 0);
    for (uint32_t n = 1; n <= pair_cols; n *= 2) add(s, row_lanes, n, 1, 0);
}

static spec_sets sets_of(const exo_vk_shape *shape, exo_vk_kernel k) {
    spec_sets s = {0};
    if (k < EXO_VK_KERNEL_embed_f32) {
        product_sets(&s, shape->row_lanes, shape->max_cols, shape->max_pair_cols);
    } else if (k > EXO_VK_KERNEL_quantize) {
        product_sets(&s, shape->dot_row_lanes, shape->dot_cols, shape->dot_pair_cols);
    } else if (k == EXO_VK_KERNEL_attention) {
        s.n = 4;
        for (uint32_t i = 0; i < 12; i++) {
            add(&s, 1u << i % 3, i / 3 % 2, i / 6, i % 2 == 0 ? 16 : 32);
        }
    } else if (k == EXO_VK_KERNEL_elementwise || k == EXO_VK_KERNEL_rope_kv) {
        s.n = 1;
        for (uint32_t i = 0; i < (k == EXO_VK_KERNEL_rope_kv ? 2u : 3u); i++) add(&s, i, 0, 0, 0);
    } else if (k == EXO_VK_KERNEL_quantize) {
        s.n = 1;
        add(&s, 1, 0, 0, 0);
        add(&s, 8, 0, 0, 0);
    } else {
        add(&s, 0, 0, 0, 0);
    }
    return s;
}

/* Pipelines of one variant; how many, or -1. */
static int compile(exo_vk_shaders *shaders, exo_vk_kernel k, exo_vk_variant v) {
    spec_sets s = sets_of(&shaders->shape, k);
    exo_vk_shaders_choose(shaders, k, v);
    for (uint32_t i = 0; i < s.n_sets; i++) {
        const uint32_t *c = s.set[i];
        exo_error err = {.message = ""};
        VkPipeline pipeline;
        fprintf(stderr, "EXO %s %s %u %u %u %u\n", exo_vk_kernel_name(k), exo_vk_variant_name(v),
                c[0], c[1], c[2], c[3]);
        if (exo_vk_shaders_get(shaders, k, c, s.n, &pipeline, &err) == EXO_OK) continue;
        printf("%s\n", err.message);
        return -1;
    }
    return (int)s.n_sets;
}

/* Only what pipelines need. */
static exo_status open_device(exo_vk_instance *in, exo_vk_device *d, exo_error *err) {
    *d = (exo_vk_device){
        .instance = in, .physical = in->devices[0].physical, .caps = in->devices[0].caps};
    const char *dot = "VK_KHR_shader_integer_dot_product";
    bool named = exo_vk_has_extension(&in->fn, d->physical, dot);
    float priority = 1;
    VkDeviceQueueCreateInfo queue = {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                     .queueFamilyIndex = d->caps.queue_family,
                                     .queueCount = 1,
                                     .pQueuePriorities = &priority};
    VkPhysicalDeviceShaderIntegerDotProductFeatures features = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES,
        .shaderIntegerDotProduct = VK_TRUE};
    VkDeviceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                               .pNext = d->caps.dot_product ? &features : NULL,
                               .queueCreateInfoCount = 1,
                               .pQueueCreateInfos = &queue,
                               .enabledExtensionCount = d->caps.dot_product && named,
                               .ppEnabledExtensionNames = &dot};
    VkResult r = in->fn.CreateDevice(d->physical, &info, NULL, &d->handle);
    if (r != VK_SUCCESS) return exo_vk_fail(r, "vkCreateDevice", err);
    return exo_vk_load_device(&in->fn, d->handle, &d->fn, err);
}

static int compile_all(exo_vk_device *d, exo_error *err) {
    exo_vk_shaders shaders;
    int all = 0;
    if (exo_vk_shaders_init(d, &shaders, err) != EXO_OK) return -1;
    for (int k = 0; k < EXO_VK_N_KERNELS && all >= 0; k++) {
        for (int v = 0; v < EXO_VK_N_VARIANTS && all >= 0; v++) {
            if (!exo_vk_variant_possible(d, (exo_vk_kernel)k, (exo_vk_variant)v)) continue;
            int n = compile(&shaders, (exo_vk_kernel)k, (exo_vk_variant)v);
            all = n < 0 ? -1 : all + n;
        }
    }
    exo_vk_shaders_finish(&shaders);
    return all;
}

int main(void) {
    exo_vk_instance *in;
    exo_vk_device *d = exo_calloc(1, sizeof *d);
    exo_error err = {.message = ""};
    if (d == NULL || exo_vk_instance_create(NULL, &in, &err) != EXO_OK || in->n_devices == 0) {
        printf("no device: %s\n", err.message);
        exo_free(d);
        return 77;
    }
    int n = -1;
    if (open_device(in, d, &err) == EXO_OK) n = compile_all(d, &err);
    if (n < 0) {
        printf("%s\n", err.message);
    } else {
        printf("%s: %d pipelines compiled, integer dot products %s\n", d->caps.name, n,
               d->caps.dot_product ? "among them" : "not to be had");
    }
    if (d->handle != VK_NULL_HANDLE) d->fn.DestroyDevice(d->handle, NULL);
    exo_vk_instance_destroy(in);
    exo_free(d);
    return n < 0;
}
