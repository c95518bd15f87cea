/* caps.c - asks a physical device for everything exo wants to know.
 *
 * Structures of extensions a device does not name are never handed to it: some drivers complain,
 * older ones crash.  So the chain of questions is built from the device's own list. */
#include "compute/vulkan/caps.h"

#include "base/hash.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

/* ---- vendors ---- */

static const struct {
    uint32_t id;
    exo_vk_vendor vendor;
} vendor_ids[] = {
    {0x1002, EXO_VK_VENDOR_AMD},          {0x1010, EXO_VK_VENDOR_IMAGINATION},
    {0x106B, EXO_VK_VENDOR_APPLE},        {0x10DE, EXO_VK_VENDOR_NVIDIA},
    {0x13B5, EXO_VK_VENDOR_ARM},          {0x1414, EXO_VK_VENDOR_MICROSOFT},
    {0x144D, EXO_VK_VENDOR_SAMSUNG},      {0x14E4, EXO_VK_VENDOR_BROADCOM},
    {0x1AE0, EXO_VK_VENDOR_GOOGLE},       {0x5143, EXO_VK_VENDOR_QUALCOMM},
    {0x8086, EXO_VK_VENDOR_INTEL},        {0x19E5, EXO_VK_VENDOR_HUAWEI},
    {0x10001, EXO_VK_VENDOR_VERISILICON}, /* VkVendorId: vendors without a PCI id */
    {0x10002, EXO_VK_VENDOR_VERISILICON}, {0x10005, EXO_VK_VENDOR_MESA},
};

exo_vk_vendor exo_vk_vendor_of(uint32_t vendor_id) {
    for (size_t i = 0; i < sizeof vendor_ids / sizeof vendor_ids[0]; i++) {
        if (vendor_ids[i].id == vendor_id) return vendor_ids[i].vendor;
    }
    return EXO_VK_VENDOR_OTHER;
}

const char *exo_vk_vendor_name(exo_vk_vendor v) {
    static const char *const names[] = {
        [EXO_VK_VENDOR_OTHER] = "unknown vendor",
        [EXO_VK_VENDOR_AMD] = "AMD",
        [EXO_VK_VENDOR_APPLE] = "Apple",
        [EXO_VK_VENDOR_ARM] = "ARM",
        [EXO_VK_VENDOR_BROADCOM] = "Broadcom",
        [EXO_VK_VENDOR_GOOGLE] = "Google",
        [EXO_VK_VENDOR_HUAWEI] = "Huawei",
        [EXO_VK_VENDOR_IMAGINATION] = "Imagination",
        [EXO_VK_VENDOR_INTEL] = "Intel",
        [EXO_VK_VENDOR_MESA] = "Mesa",
        [EXO_VK_VENDOR_MICROSOFT] = "Microsoft",
        [EXO_VK_VENDOR_NVIDIA] = "NVIDIA",
        [EXO_VK_VENDOR_QUALCOMM] = "Qualcomm",
        [EXO_VK_VENDOR_SAMSUNG] = "Samsung",
        [EXO_VK_VENDOR_VERISILICON] = "VeriSilicon",
    };
    return (size_t)v < sizeof names / sizeof names[0] ? names[v] : names[EXO_VK_VENDOR_OTHER];
}

static bool is_mobile(const exo_vk_caps *c) {
    switch (c->vendor) {
    case EXO_VK_VENDOR_ARM:
    case EXO_VK_VENDOR_BROADCOM:
    case EXO_VK_VENDOR_HUAWEI:
    case EXO_VK_VENDOR_IMAGINATION:
    case EXO_VK_VENDOR_QUALCOMM:
    case EXO_VK_VENDOR_SAMSUNG:
    case EXO_VK_VENDOR_VERISILICON: return true;
    default: return false;
    }
}

/* ---- extensions ---- */

typedef struct {
    VkExtensionProperties *all;
    uint32_t n;
} extension_list;

static bool list_extensions(const exo_vk_instance_functions *fn, VkPhysicalDevice physical,
                            extension_list *out) {
    memset(out, 0, sizeof *out);
    if (EXO_VK_CALL(fn->EnumerateDeviceExtensionProperties(physical, NULL, &out->n, NULL)) !=
        VK_SUCCESS) {
        out->n = 0;
        return false;
    }
    if (out->n == 0) return true;
    out->all = exo_calloc(out->n, sizeof *out->all);
    if (out->all != NULL && EXO_VK_CALL(fn->EnumerateDeviceExtensionProperties(
                                physical, NULL, &out->n, out->all)) >= VK_SUCCESS) {
        return true;
    }
    exo_free(out->all);
    memset(out, 0, sizeof *out);
    return false;
}

static bool has(const extension_list *l, const char *name) {
    for (uint32_t i = 0; i < l->n; i++) {
        if (strncmp(l->all[i].extensionName, name, VK_MAX_EXTENSION_NAME_SIZE) == 0) return true;
    }
    return false;
}

bool exo_vk_has_extension(const exo_vk_instance_functions *fn, VkPhysicalDevice physical,
                          const char *name) {
    extension_list l;
    bool found = list_extensions(fn, physical, &l) && has(&l, name);
    exo_free(l.all);
    return found;
}

/* ---- questions ---- */

/* Everything that may be asked; next() links in what this device knows. */
typedef struct {
    VkPhysicalDeviceProperties2 base;
    VkPhysicalDeviceIDProperties id;
    VkPhysicalDeviceSubgroupProperties subgroup;
    VkPhysicalDeviceMaintenance3Properties maintenance3;
    VkPhysicalDeviceMaintenance4Properties maintenance4;
    VkPhysicalDeviceDriverProperties driver;
    VkPhysicalDeviceSubgroupSizeControlProperties subgroup_size;
    VkPhysicalDeviceExternalMemoryHostPropertiesEXT host_import;
    VkPhysicalDeviceShaderIntegerDotProductProperties dot_product;
    VkPhysicalDeviceShaderCorePropertiesAMD amd;
    VkPhysicalDeviceShaderCoreProperties2AMD amd2;
    VkPhysicalDeviceShaderSMBuiltinsPropertiesNV nv;
    VkPhysicalDeviceShaderCoreBuiltinsPropertiesARM arm;
} property_chain;

typedef struct {
    VkPhysicalDeviceFeatures2 base;
    VkPhysicalDevice16BitStorageFeatures storage16;
    VkPhysicalDevice8BitStorageFeatures storage8;
    VkPhysicalDeviceShaderFloat16Int8Features f16_int8;
    VkPhysicalDeviceTimelineSemaphoreFeatures timeline;
    VkPhysicalDeviceVulkanMemoryModelFeatures memory_model;
    VkPhysicalDeviceSubgroupSizeControlFeatures subgroup_size;
    VkPhysicalDeviceShaderIntegerDotProductFeatures dot_product;
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR matrix;
} feature_chain;

/* Links a structure behind the last one. */
static void next(VkBaseOutStructure **tail, void *structure, VkStructureType type) {
    VkBaseOutStructure *s = structure;
    s->sType = type;
    s->pNext = NULL;
    (*tail)->pNext = s;
    *tail = s;
}

static void ask_properties(const exo_vk_instance_functions *fn, VkPhysicalDevice physical,
                           uint32_t api, const extension_list *l, property_chain *p) {
    memset(p, 0, sizeof *p);
    p->base.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2;
    VkBaseOutStructure *tail = (VkBaseOutStructure *)&p->base;
    next(&tail, &p->id, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES);
    next(&tail, &p->subgroup, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES);
    next(&tail, &p->maintenance3, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES);
#define ASK(field, version, extension, type)                                                       \
    if (api >= (version) || has(l, extension)) {                                                   \
        next(&tail, &p->field, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_##type);                          \
    }
    ASK(maintenance4, VK_API_VERSION_1_3, "VK_KHR_maintenance4", MAINTENANCE_4_PROPERTIES)
    ASK(driver, VK_API_VERSION_1_2, "VK_KHR_driver_properties", DRIVER_PROPERTIES)
    ASK(subgroup_size, VK_API_VERSION_1_3, "VK_EXT_subgroup_size_control",
        SUBGROUP_SIZE_CONTROL_PROPERTIES)
    ASK(dot_product, VK_API_VERSION_1_3, "VK_KHR_shader_integer_dot_product",
        SHADER_INTEGER_DOT_PRODUCT_PROPERTIES)
    ASK(host_import, UINT32_MAX, "VK_EXT_external_memory_host", EXTERNAL_MEMORY_HOST_PROPERTIES_EXT)
    ASK(amd, UINT32_MAX, "VK_AMD_shader_core_properties", SHADER_CORE_PROPERTIES_AMD)
    ASK(amd2, UINT32_MAX, "VK_AMD_shader_core_properties2", SHADER_CORE_PROPERTIES_2_AMD)
    ASK(nv, UINT32_MAX, "VK_NV_shader_sm_builtins", SHADER_SM_BUILTINS_PROPERTIES_NV)
    ASK(arm, UINT32_MAX, "VK_ARM_shader_core_builtins", SHADER_CORE_BUILTINS_PROPERTIES_ARM)
#undef ASK
    fn->GetPhysicalDeviceProperties2(physical, &p->base);
}

static void ask_features(const exo_vk_instance_functions *fn, VkPhysicalDevice physical,
                         uint32_t api, const extension_list *l, feature_chain *f) {
    memset(f, 0, sizeof *f);
    f->base.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2;
    VkBaseOutStructure *tail = (VkBaseOutStructure *)&f->base;
    next(&tail, &f->storage16, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES);
#define ASK(field, version, extension, type)                                                       \
    if (api >= (version) || has(l, extension)) {                                                   \
        next(&tail, &f->field, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_##type);                          \
    }
    ASK(storage8, VK_API_VERSION_1_2, "VK_KHR_8bit_storage", 8BIT_STORAGE_FEATURES)
    ASK(f16_int8, VK_API_VERSION_1_2, "VK_KHR_shader_float16_int8", SHADER_FLOAT16_INT8_FEATURES)
    ASK(timeline, VK_API_VERSION_1_2, "VK_KHR_timeline_semaphore", TIMELINE_SEMAPHORE_FEATURES)
    ASK(memory_model, VK_API_VERSION_1_2, "VK_KHR_vulkan_memory_model",
        VULKAN_MEMORY_MODEL_FEATURES)
    ASK(subgroup_size, VK_API_VERSION_1_3, "VK_EXT_subgroup_size_control",
        SUBGROUP_SIZE_CONTROL_FEATURES)
    ASK(dot_product, VK_API_VERSION_1_3, "VK_KHR_shader_integer_dot_product",
        SHADER_INTEGER_DOT_PRODUCT_FEATURES)
    ASK(matrix, UINT32_MAX, VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME,
        COOPERATIVE_MATRIX_FEATURES_KHR)
#undef ASK
    fn->GetPhysicalDeviceFeatures2(physical, &f->base);
}

/* ---- answers ---- */

/* Drivers name themselves as they like; what goes into JSON and onto terminals is plain ASCII. */
static void take_text(char *out, size_t cap, const char *text) {
    size_t n = 0;
    for (; n + 1 < cap && text[n] != '\0'; n++) {
        out[n] = text[n] >= ' ' && text[n] <= '~' ? text[n] : '?';
    }
    out[n] = '\0';
}

static void take_identity(const property_chain *p, const extension_list *l, exo_vk_caps *c) {
    const VkPhysicalDeviceProperties *b = &p->base.properties;
    take_text(c->name, sizeof c->name, b->deviceName);
    c->vendor_id = b->vendorID;
    c->device_id = b->deviceID;
    c->driver_version = b->driverVersion;
    c->api_version = b->apiVersion;
    c->type = b->deviceType;
    c->vendor = exo_vk_vendor_of(b->vendorID);
    (void)snprintf(c->vendor_name, sizeof c->vendor_name, "%s", exo_vk_vendor_name(c->vendor));
    c->mobile = is_mobile(c);
    c->portability = has(l, "VK_KHR_portability_subset");
    take_text(c->driver, sizeof c->driver, p->driver.driverName);
    take_text(c->driver_info, sizeof c->driver_info, p->driver.driverInfo);
    if (c->driver_info[0] == '\0') { /* SwiftShader has nothing to say */
        (void)snprintf(c->driver_info, sizeof c->driver_info, "%u.%u.%u",
                       VK_VERSION_MAJOR(b->driverVersion), VK_VERSION_MINOR(b->driverVersion),
                       VK_VERSION_PATCH(b->driverVersion));
    }
    exo_hex(p->id.deviceUUID, VK_UUID_SIZE, c->uuid);
    exo_hex(p->id.driverUUID, VK_UUID_SIZE, c->driver_uuid);
}

static uint32_t compute_units(const property_chain *p) {
    if (p->nv.shaderSMCount != 0) return p->nv.shaderSMCount;
    if (p->amd2.activeComputeUnitCount != 0) return p->amd2.activeComputeUnitCount;
    if (p->arm.shaderCoreCount != 0) return p->arm.shaderCoreCount;
    return p->amd.shaderEngineCount * p->amd.shaderArraysPerEngineCount *
           p->amd.computeUnitsPerShaderArray;
}

static void take_limits(const property_chain *p, exo_vk_caps *c) {
    const VkPhysicalDeviceLimits *l = &p->base.properties.limits;
    c->max_storage_range = l->maxStorageBufferRange;
    c->max_texel_elements = l->maxTexelBufferElements;
    c->max_shared_bytes = l->maxComputeSharedMemorySize;
    c->max_invocations = l->maxComputeWorkGroupInvocations;
    memcpy(c->max_workgroup_size, l->maxComputeWorkGroupSize, sizeof c->max_workgroup_size);
    memcpy(c->max_workgroup_count, l->maxComputeWorkGroupCount, sizeof c->max_workgroup_count);
    c->max_push_bytes = l->maxPushConstantsSize;
    c->max_bound_sets = l->maxBoundDescriptorSets;
    c->max_storage_buffers = l->maxPerStageDescriptorStorageBuffers;
    c->min_storage_alignment = (uint32_t)l->minStorageBufferOffsetAlignment;
    c->non_coherent_atom = (uint32_t)l->nonCoherentAtomSize;
    c->max_allocations = l->maxMemoryAllocationCount;
    c->max_allocation_bytes = p->maintenance3.maxMemoryAllocationSize;
    c->max_buffer_bytes = p->maintenance4.maxBufferSize;
    if (c->max_buffer_bytes == 0) c->max_buffer_bytes = c->max_allocation_bytes;
    c->host_import_alignment = p->host_import.minImportedHostPointerAlignment;
    c->compute_units = compute_units(p);
    c->timestamp_ns = (double)l->timestampPeriod;
}

static void take_subgroup(const property_chain *p, const feature_chain *f, exo_vk_caps *c) {
    c->subgroup_size = c->subgroup_min = c->subgroup_max = p->subgroup.subgroupSize;
    bool compute = (p->subgroup.supportedStages & VK_SHADER_STAGE_COMPUTE_BIT) != 0;
    VkSubgroupFeatureFlags ops = compute ? p->subgroup.supportedOperations : 0;
    c->subgroup_basic = (ops & VK_SUBGROUP_FEATURE_BASIC_BIT) != 0;
    c->subgroup_arithmetic = (ops & VK_SUBGROUP_FEATURE_ARITHMETIC_BIT) != 0;
    c->subgroup_shuffle = (ops & VK_SUBGROUP_FEATURE_SHUFFLE_BIT) != 0;
    c->subgroup_ballot = (ops & VK_SUBGROUP_FEATURE_BALLOT_BIT) != 0;
    c->subgroup_clustered = (ops & VK_SUBGROUP_FEATURE_CLUSTERED_BIT) != 0;
    c->subgroup_size_control =
        f->subgroup_size.subgroupSizeControl == VK_TRUE &&
        (p->subgroup_size.requiredSubgroupSizeStages & VK_SHADER_STAGE_COMPUTE_BIT) != 0;
    if (c->subgroup_size_control) {
        c->subgroup_min = p->subgroup_size.minSubgroupSize;
        c->subgroup_max = p->subgroup_size.maxSubgroupSize;
    }
}

static void take_features(const property_chain *p, const feature_chain *f, exo_vk_caps *c) {
    c->storage_16bit = f->storage16.storageBuffer16BitAccess == VK_TRUE;
    c->storage_8bit = f->storage8.storageBuffer8BitAccess == VK_TRUE;
    c->f16 = f->f16_int8.shaderFloat16 == VK_TRUE;
    c->int8 = f->f16_int8.shaderInt8 == VK_TRUE;
    c->int16 = f->base.features.shaderInt16 == VK_TRUE;
    c->int64 = f->base.features.shaderInt64 == VK_TRUE;
    c->timeline = f->timeline.timelineSemaphore == VK_TRUE;
    c->memory_model = f->memory_model.vulkanMemoryModel == VK_TRUE &&
                      f->memory_model.vulkanMemoryModelDeviceScope == VK_TRUE;
    c->dot_product = f->dot_product.shaderIntegerDotProduct == VK_TRUE;
    c->dot_product_accelerated =
        c->dot_product && p->dot_product.integerDotProduct4x8BitPackedSignedAccelerated == VK_TRUE;
}

static void take_matrix_shapes(const exo_vk_instance_functions *fn, VkPhysicalDevice physical,
                               const feature_chain *f, exo_vk_caps *c) {
    VkCooperativeMatrixPropertiesKHR all[EXO_VK_MAX_MATRIX_SHAPES];
    uint32_t n = EXO_VK_MAX_MATRIX_SHAPES;
    if (f->matrix.cooperativeMatrix != VK_TRUE) return;
    if (fn->GetPhysicalDeviceCooperativeMatrixPropertiesKHR == NULL) return;
    memset(all, 0, sizeof all);
    for (uint32_t i = 0; i < n; i++) {
        all[i].sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR;
    }
    VkResult r =
        EXO_VK_CALL(fn->GetPhysicalDeviceCooperativeMatrixPropertiesKHR(physical, &n, all));
    if (r != VK_SUCCESS && r != VK_INCOMPLETE) return;
    for (uint32_t i = 0; i < n; i++) {
        const VkCooperativeMatrixPropertiesKHR *m = &all[i];
        if (m->scope != VK_SCOPE_SUBGROUP_KHR) continue;
        c->matrix_shapes[c->n_matrix_shapes++] = (exo_vk_matrix_shape){.m = m->MSize,
                                                                       .n = m->NSize,
                                                                       .k = m->KSize,
                                                                       .a = m->AType,
                                                                       .b = m->BType,
                                                                       .c = m->CType,
                                                                       .result = m->ResultType};
    }
    c->cooperative_matrix = c->n_matrix_shapes > 0;
}

/* ---- memory ---- */

void exo_vk_caps_refresh(const exo_vk_instance_functions *fn, VkPhysicalDevice physical,
                         exo_vk_caps *c) {
    VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT};
    VkPhysicalDeviceMemoryProperties2 m = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2,
        .pNext = c->has_budget ? &budget : NULL};
    fn->GetPhysicalDeviceMemoryProperties2(physical, &m);
    c->memory = m.memoryProperties;
    c->n_heaps = c->memory.memoryHeapCount;
    for (uint32_t i = 0; i < c->n_heaps; i++) {
        const VkMemoryHeap *h = &c->memory.memoryHeaps[i];
        c->heaps[i].bytes = c->heaps[i].budget_bytes = h->size;
        c->heaps[i].device_local = (h->flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT) != 0;
        if (!c->has_budget) continue;
        c->heaps[i].used_bytes = budget.heapUsage[i];
        if (budget.heapBudget[i] != 0 && budget.heapBudget[i] < h->size) {
            c->heaps[i].budget_bytes = budget.heapBudget[i];
        }
    }
}

/* The host can write all of the device's own memory: one memory, or a window over all of it.  A
 * small window (256 MiB of a discrete card) does not count. */
static bool is_unified(const exo_vk_caps *c) {
    const VkMemoryPropertyFlags both =
        VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT | VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT;
    uint64_t largest = 0, visible = 0;
    for (uint32_t i = 0; i < c->n_heaps; i++) {
        if (c->heaps[i].device_local && c->heaps[i].bytes > largest) largest = c->heaps[i].bytes;
    }
    for (uint32_t i = 0; i < c->memory.memoryTypeCount; i++) {
        const VkMemoryType *t = &c->memory.memoryTypes[i];
        if ((t->propertyFlags & both) != both) continue;
        uint64_t bytes = c->heaps[t->heapIndex].bytes;
        if (bytes > visible) visible = bytes;
    }
    return largest > 0 && visible >= largest;
}

/* ---- the queue ---- */

#define MAX_QUEUE_FAMILIES 32

/* A family that computes; one without graphics is preferred: the desktop's work waits elsewhere. */
static bool choose_queue(const exo_vk_instance_functions *fn, VkPhysicalDevice physical,
                         exo_vk_caps *c) {
    VkQueueFamilyProperties families[MAX_QUEUE_FAMILIES];
    uint32_t n = MAX_QUEUE_FAMILIES, best = UINT32_MAX;
    fn->GetPhysicalDeviceQueueFamilyProperties(physical, &n, families);
    for (uint32_t i = 0; i < n; i++) {
        VkQueueFlags flags = families[i].queueFlags;
        if ((flags & VK_QUEUE_COMPUTE_BIT) == 0 || families[i].queueCount == 0) continue;
        if (best == UINT32_MAX || (flags & VK_QUEUE_GRAPHICS_BIT) == 0) best = i;
        if ((flags & VK_QUEUE_GRAPHICS_BIT) == 0) break;
    }
    if (best == UINT32_MAX) return false;
    c->queue_family = best;
    if (families[best].timestampValidBits == 0) c->timestamp_ns = 0;
    return true;
}

exo_status exo_vk_caps_query(const exo_vk_instance_functions *fn, VkPhysicalDevice physical,
                             exo_vk_caps *out, exo_error *err) {
    memset(out, 0, sizeof *out);
    VkPhysicalDeviceProperties basic;
    fn->GetPhysicalDeviceProperties(physical, &basic);
    if (basic.apiVersion < VK_API_VERSION_1_1) {
        take_text(out->name, sizeof out->name, basic.deviceName);
        return exo_error_set(err, EXO_EUNSUPPORTED, "Vulkan %u.%u; exo needs 1.1 or newer",
                             VK_API_VERSION_MAJOR(basic.apiVersion),
                             VK_API_VERSION_MINOR(basic.apiVersion));
    }
    extension_list l;
    if (!list_extensions(fn, physical, &l)) {
        return exo_error_set(err, EXO_EIO, "the driver does not list its extensions");
    }
    property_chain p;
    feature_chain f;
    ask_properties(fn, physical, basic.apiVersion, &l, &p);
    ask_features(fn, physical, basic.apiVersion, &l, &f);
    take_identity(&p, &l, out);
    take_limits(&p, out);
    take_subgroup(&p, &f, out);
    take_features(&p, &f, out);
    take_matrix_shapes(fn, physical, &f, out);
    out->has_budget = has(&l, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
    exo_free(l.all);
    exo_vk_caps_refresh(fn, physical, out);
    out->unified = is_unified(out);
    if (!choose_queue(fn, physical, out)) {
        return exo_error_set(err, EXO_EUNSUPPORTED, "no queue of it computes");
    }
    return EXO_OK;
}
