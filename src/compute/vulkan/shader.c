/* shader.c - SPIR-V modules, the common layout, and the table of pipelines.
 *
 * Lookup is a linear search: a device has a few dozen pipelines and plans ask when they are made,
 * never while they run. */
#include "compute/vulkan/shader.h"

#include "base/hash.h"
#include "base/mem.h"
#include "compute/backend.h"
#include "compute/vulkan/specialise.h"

#include <stdio.h>
#include <string.h>

/* The kernels' bytes, put into the program by cmake/spirv.S.in. */
#define DECLARE(symbol)                extern const uint32_t symbol[], symbol##_end[];
#define DECLARE_1(name)                DECLARE(exo_spirv_##name)
#define DECLARE_2(name)                DECLARE_1(name) DECLARE(exo_spirv_##name##_subgroup)
#define DECLARE_3(name)                DECLARE_2(name) DECLARE(exo_spirv_##name##_texel)
#define DECLARE_KERNEL(name, variants) DECLARE_##variants(name)
EXO_VK_KERNELS(DECLARE_KERNEL)

typedef struct {
    const uint32_t *begin, *end; /* NULL = no such variant */
} module_code;

typedef struct {
    const char *name;
    module_code variant[EXO_VK_N_VARIANTS];
} kernel_code;

#define CODE(symbol)                {symbol, symbol##_end},
#define CODE_1(name)                CODE(exo_spirv_##name)
#define CODE_2(name)                CODE_1(name) CODE(exo_spirv_##name##_subgroup)
#define CODE_3(name)                CODE_2(name) CODE(exo_spirv_##name##_texel)
#define CODE_KERNEL(name, variants) {#name, {CODE_##variants(name)}},

static const kernel_code code[EXO_VK_N_KERNELS] = {EXO_VK_KERNELS(CODE_KERNEL)};

#define MAX_COLS     4 /* columns of a product that share its weights: matmul.comp */
#define MAX_DOT_COLS 8 /* matmul_dot.comp */
#define DOT_ROW_LANES                                                                              \
    16 /* of a GPU: prompts have rows enough to fill it without sharing all of K */
#define GPU_LANES       64 /* a workgroup that every GPU fills well; phones want no more than 128 */
#define GPU_SCORE_LANES 8  /* neighbours load 128 bytes; phones would pay for the barriers */
/* Attention of a discrete GPU.  On an H200, one row of 32 heads of 128 over 576 positions took 40
 * us with 64 lanes and splits of 128 positions, 23 with 128 and 64, 17 with 256 and 64. */
#define BIG_LANES        256
#define BIG_SPLIT_TOKENS 64
#define MIN_SHARED       16384u
#define MIN_INVOCATIONS  128u

exo_vk_kernel exo_vk_dot_kernel(exo_dtype type) {
    switch (type) {
    case EXO_Q4_0: return EXO_VK_KERNEL_dot_q4_0;
    case EXO_Q8_0: return EXO_VK_KERNEL_dot_q8_0;
    case EXO_Q4_K: return EXO_VK_KERNEL_dot_q4_k;
    case EXO_Q6_K: return EXO_VK_KERNEL_dot_q6_k;
    default: return EXO_VK_N_KERNELS;
    }
}

uint32_t exo_vk_dot_block_units(exo_dtype type) { return exo_dtype_get(type)->block_elems / 32; }

const char *exo_vk_kernel_name(exo_vk_kernel k) {
    return (unsigned)k < EXO_VK_N_KERNELS ? code[k].name : "unknown";
}

const char *exo_vk_variant_name(exo_vk_variant v) {
    static const char *const names[EXO_VK_N_VARIANTS] = {"shared", "subgroup", "texel"};
    return (unsigned)v < EXO_VK_N_VARIANTS ? names[v] : "unknown";
}

static size_t code_bytes(exo_vk_kernel k, exo_vk_variant v) {
    const module_code *m = &code[k].variant[v];
    return (size_t)((uintptr_t)m->end - (uintptr_t)m->begin);
}

bool exo_vk_kernel_is_dot(exo_vk_kernel k) {
    return k >= EXO_VK_KERNEL_dot_q4_0 && k <= EXO_VK_KERNEL_dot_q6_k;
}

bool exo_vk_variant_possible(const exo_vk_device *d, exo_vk_kernel k, exo_vk_variant v) {
    const exo_vk_caps *c = &d->caps;
    if (code[k].variant[v].begin == NULL) return false;
    bool int8 = k == EXO_VK_KERNEL_quantize || exo_vk_kernel_is_dot(k);
    if (int8 && !c->dot_product) return false;
    if (v == EXO_VK_SHARED) return true;
    bool subgroup =
        c->subgroup_basic && c->subgroup_ballot && c->subgroup_shuffle && c->subgroup_size > 1;
    return subgroup &&
           (v == EXO_VK_SUBGROUP || 16ull * c->max_texel_elements >= c->max_storage_range);
}

exo_vk_variant exo_vk_variant_best(const exo_vk_device *d, exo_vk_kernel k) {
    bool cpu = d->caps.type == VK_PHYSICAL_DEVICE_TYPE_CPU;
    /* Subgroup reductions crash or fail to compile on several phones' drivers: never tried there.
     */
    if (d->caps.mobile) return EXO_VK_SHARED;
    if (cpu && exo_vk_variant_possible(d, k, EXO_VK_TEXEL)) return EXO_VK_TEXEL;
    bool subgroup = exo_vk_variant_possible(d, k, EXO_VK_SUBGROUP);
    return subgroup ? EXO_VK_SUBGROUP : EXO_VK_SHARED;
}

const char *exo_vk_kernels_version(void) {
    static char version[32];
    if (version[0] != '\0') return version;
    uint64_t h = 0;
    for (int k = 0; k < EXO_VK_N_KERNELS; k++) {
        for (int v = 0; v < EXO_VK_N_VARIANTS; v++) {
            if (code[k].variant[v].begin == NULL) continue;
            h = exo_hash64(code[k].variant[v].begin,
                           code_bytes((exo_vk_kernel)k, (exo_vk_variant)v), h);
        }
    }
    (void)snprintf(version, sizeof version, "%016llx", (unsigned long long)h);
    return version;
}

/* ---- how work is laid over the lanes ---- */

static uint32_t power_below(uint32_t n) {
    uint32_t p = 1;
    while (p * 2 <= n) p *= 2;
    return p;
}

/* A CPU that plays a GPU runs a workgroup as wide as its vectors without a stop and pays for every
 * barrier: rows go over the lanes, and no lane needs another's sum.  More columns would make its
 * compiler slow (1.5 s a kernel at 4) and its code no faster. */
static exo_vk_shape cpu_shape(const exo_vk_caps *c) {
    uint32_t lanes = c->subgroup_size >= 4 ? power_below(c->subgroup_size) : 8;
    return (exo_vk_shape){.lanes = lanes,
                          .row_lanes = lanes,
                          .split = 1,
                          .max_cols = 2,
                          .max_pair_cols = 1,
                          .attention_lanes = lanes,
                          .split_tokens = EXO_ATTN_SPLIT_TOKENS,
                          .score_lanes = 1,
                          .wide_rows = 2,
                          .dot_row_lanes = lanes,
                          .dot_cols = 2,
                          .dot_pair_cols = 1};
}

static exo_vk_shape gpu_shape(const exo_vk_caps *c, bool discrete) {
    uint32_t lanes = c->subgroup_size > GPU_LANES ? power_below(c->subgroup_size) : GPU_LANES;
    bool big = discrete && c->max_invocations >= BIG_LANES;
    return (exo_vk_shape){.lanes = lanes,
                          .row_lanes = 1,
                          .split = 4,
                          .max_cols = MAX_COLS,
                          .max_pair_cols = MAX_COLS,
                          .attention_lanes = big && lanes < BIG_LANES ? BIG_LANES : lanes,
                          .split_tokens = big ? BIG_SPLIT_TOKENS : EXO_ATTN_SPLIT_TOKENS,
                          .score_lanes = c->mobile ? 1 : GPU_SCORE_LANES,
                          .wide_rows = 4,
                          .dot_row_lanes = DOT_ROW_LANES,
                          .dot_cols = MAX_DOT_COLS,
                          .dot_pair_cols = MAX_DOT_COLS / 2};
}

exo_vk_shape exo_vk_shape_of(const exo_vk_caps *c, VkPhysicalDeviceType type) {
    return type == VK_PHYSICAL_DEVICE_TYPE_CPU
               ? cpu_shape(c)
               : gpu_shape(c, type == VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU);
}

/* ---- life ---- */

static exo_status check_limits(const exo_vk_device *d, exo_error *err) {
    const exo_vk_caps *c = &d->caps;
    if (c->max_storage_buffers < EXO_VK_BINDINGS) {
        return exo_error_set(err, EXO_EUNSUPPORTED,
                             "vulkan:%u: %u storage buffers in a shader; exo needs %d", d->index,
                             c->max_storage_buffers, EXO_VK_BINDINGS);
    }
    if (c->max_shared_bytes < MIN_SHARED || c->max_invocations < MIN_INVOCATIONS) {
        return exo_error_set(err, EXO_EUNSUPPORTED,
                             "vulkan:%u: workgroups of %u lanes with %u bytes; exo needs %u and %u",
                             d->index, c->max_invocations, c->max_shared_bytes, MIN_INVOCATIONS,
                             MIN_SHARED);
    }
    return EXO_OK;
}

static exo_status create_layouts(exo_vk_shaders *s, exo_error *err) {
    exo_vk_device *d = s->d;
    VkDescriptorSetLayoutBinding bindings[EXO_VK_BINDINGS + EXO_VK_TEXELS];
    for (uint32_t i = 0; i < EXO_VK_BINDINGS + EXO_VK_TEXELS; i++) {
        bindings[i] = (VkDescriptorSetLayoutBinding){
            .binding = i + 1,
            .descriptorType = i < EXO_VK_BINDINGS ? VK_DESCRIPTOR_TYPE_STORAGE_BUFFER
                                                  : VK_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER,
            .descriptorCount = 1,
            .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT};
    }
    VkDescriptorSetLayoutCreateInfo set = {.sType =
                                               VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
                                           .bindingCount = EXO_VK_BINDINGS + EXO_VK_TEXELS,
                                           .pBindings = bindings};
    VkResult r =
        EXO_VK_CALL(d->fn.CreateDescriptorSetLayout(d->handle, &set, NULL, &s->set_layout));
    if (r != VK_SUCCESS) return exo_vk_device_fail(d, r, "vkCreateDescriptorSetLayout", err);
    VkPushConstantRange push = {VK_SHADER_STAGE_COMPUTE_BIT, 0, EXO_VK_PUSH_BYTES};
    VkPipelineLayoutCreateInfo layout = {.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
                                         .setLayoutCount = 1,
                                         .pSetLayouts = &s->set_layout,
                                         .pushConstantRangeCount = 1,
                                         .pPushConstantRanges = &push};
    r = EXO_VK_CALL(d->fn.CreatePipelineLayout(d->handle, &layout, NULL, &s->layout));
    if (r != VK_SUCCESS) return exo_vk_device_fail(d, r, "vkCreatePipelineLayout", err);
    VkPipelineCacheCreateInfo cache = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO};
    r = EXO_VK_CALL(d->fn.CreatePipelineCache(d->handle, &cache, NULL, &s->cache.handle));
    return r == VK_SUCCESS ? EXO_OK : exo_vk_device_fail(d, r, "vkCreatePipelineCache", err);
}

exo_status exo_vk_shaders_init(exo_vk_device *d, exo_vk_shaders *out, exo_error *err) {
    *out = (exo_vk_shaders){.d = d};
    exo_status st = check_limits(d, err);
    if (st == EXO_OK) st = create_layouts(out, err);
    if (st != EXO_OK) {
        exo_vk_shaders_finish(out);
        return st;
    }
    for (int k = 0; k < EXO_VK_N_KERNELS; k++) {
        out->variant[k] = exo_vk_variant_best(d, (exo_vk_kernel)k);
    }
    out->shape = exo_vk_shape_of(&d->caps, d->caps.type);
    return EXO_OK;
}

void exo_vk_shaders_finish(exo_vk_shaders *s) {
    if (s->d == NULL) return;
    exo_vk_device *d = s->d;
    if (atomic_load(&d->hung)) {
        exo_free(s->pipelines);
        *s = (exo_vk_shaders){0};
        return;
    }
    exo_vk_shaders_save(s);
    for (size_t i = 0; i < s->n_pipelines; i++) {
        d->fn.DestroyPipeline(d->handle, s->pipelines[i].handle, NULL);
    }
    exo_free(s->pipelines);
    d->fn.DestroyPipelineCache(d->handle, s->cache.handle, NULL);
    d->fn.DestroyPipelineLayout(d->handle, s->layout, NULL);
    d->fn.DestroyDescriptorSetLayout(d->handle, s->set_layout, NULL);
    *s = (exo_vk_shaders){0};
}

exo_status exo_vk_shaders_keep(exo_vk_shaders *s, exo_error *err) {
    exo_vk_pipeline_cache kept;
    exo_status st = exo_vk_pipeline_cache_load(s->d, &kept, err);
    if (st != EXO_OK) return st;
    s->d->fn.DestroyPipelineCache(s->d->handle, s->cache.handle, NULL);
    s->cache = kept;
    s->keeps_pipelines = true;
    return EXO_OK;
}

void exo_vk_shaders_save(exo_vk_shaders *s) {
    if (s->keeps_pipelines) exo_vk_pipeline_cache_save(s->d, &s->cache);
}

void exo_vk_shaders_choose(exo_vk_shaders *s, exo_vk_kernel k, exo_vk_variant v) {
    if (s->variant[k] == v) return;
    exo_vk_device *d = s->d;
    size_t kept = 0;
    for (size_t i = 0; i < s->n_pipelines; i++) {
        if (s->pipelines[i].kernel == k) {
            d->fn.DestroyPipeline(d->handle, s->pipelines[i].handle, NULL);
        } else {
            s->pipelines[kept++] = s->pipelines[i];
        }
    }
    s->n_pipelines = kept;
    s->variant[k] = v;
}

void exo_vk_shaders_use_dot(exo_vk_shaders *s, exo_dtype type, bool use) { s->dot[type] = use; }

/* ---- pipelines ---- */

/* A module for one pipeline, whose constants are in it. */
static exo_status create_module(const exo_vk_shaders *s, const exo_vk_pipeline *p,
                                VkShaderModule *out, exo_error *err) {
    exo_vk_device *d = s->d;
    exo_vk_variant v = s->variant[p->kernel];
    char name[64];
    (void)snprintf(name, sizeof name, v == EXO_VK_SHARED ? "%s" : "%s_%s", code[p->kernel].name,
                   exo_vk_variant_name(v));
    exo_vk_module_desc desc = {.code = code[p->kernel].variant[v].begin,
                               .n_words = code_bytes(p->kernel, v) / 4,
                               .spec = p->spec,
                               .n_specs = p->n_specs,
                               .name = name};
    uint32_t *words = NULL;
    size_t n_words;
    exo_status st = exo_vk_specialise(&desc, &words, &n_words, err);
    if (st != EXO_OK) return st;
    VkShaderModuleCreateInfo info = {.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
                                     .codeSize = n_words * 4,
                                     .pCode = words};
    VkResult r = EXO_VK_CALL(d->fn.CreateShaderModule(d->handle, &info, NULL, out));
    exo_free(words);
    return r == VK_SUCCESS ? EXO_OK : exo_vk_device_fail(d, r, "vkCreateShaderModule", err);
}

static exo_status create_pipeline(exo_vk_shaders *s, exo_vk_pipeline *p, exo_error *err) {
    exo_vk_device *d = s->d;
    VkShaderModule module;
    exo_status st = create_module(s, p, &module, err);
    if (st != EXO_OK) return st;
    VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                  .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                  .module = module,
                  .pName = "main"},
        .layout = s->layout};
    VkResult r = EXO_VK_CALL(
        d->fn.CreateComputePipelines(d->handle, s->cache.handle, 1, &info, NULL, &p->handle));
    d->fn.DestroyShaderModule(d->handle, module, NULL);
    if (r == VK_SUCCESS) return EXO_OK;
    st = exo_vk_device_fail(d, r, "vkCreateComputePipelines", err);
    return exo_error_wrap(err, st, "kernel %s (%s)", code[p->kernel].name,
                          exo_vk_variant_name(s->variant[p->kernel]));
}

exo_status exo_vk_shaders_get(exo_vk_shaders *s, exo_vk_kernel k, const uint32_t *spec, uint32_t n,
                              VkPipeline *out, exo_error *err) {
    uint32_t lanes = k == EXO_VK_KERNEL_attention ? s->shape.attention_lanes : s->shape.lanes;
    exo_vk_pipeline p = {.kernel = k, .n_specs = n + 1, .spec = {lanes}};
    for (uint32_t i = 0; i < n; i++) p.spec[1 + i] = spec[i];
    for (size_t i = 0; i < s->n_pipelines; i++) {
        const exo_vk_pipeline *q = &s->pipelines[i];
        if (q->kernel == k && q->n_specs == p.n_specs &&
            memcmp(q->spec, p.spec, sizeof p.spec) == 0) {
            *out = q->handle;
            return EXO_OK;
        }
    }
    *out = VK_NULL_HANDLE;
    if (exo_grow((void **)&s->pipelines, &s->cap_pipelines, s->n_pipelines + 1,
                 sizeof *s->pipelines) != 0) {
        return exo_error_set(err, EXO_ENOMEM, "no memory for a pipeline");
    }
    exo_status st = create_pipeline(s, &p, err);
    if (st != EXO_OK) return st;
    s->pipelines[s->n_pipelines++] = p;
    *out = p.handle;
    return EXO_OK;
}
