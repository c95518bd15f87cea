/* device.c - the instance with its list of devices, and the logical device. */
#include "compute/vulkan/device.h"

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#define VALIDATION_LAYER "VK_LAYER_KHRONOS_validation"
#define LOGGED_MESSAGES  10

/* ---- validation ---- */

static VKAPI_ATTR VkBool32 VKAPI_CALL on_message(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
                                                 VkDebugUtilsMessageTypeFlagsEXT type,
                                                 const VkDebugUtilsMessengerCallbackDataEXT *data,
                                                 void *ud) {
    (void)severity;
    (void)type;
    exo_vk_instance *i = ud;
    if (atomic_fetch_add(&i->validation_messages, 1) < LOGGED_MESSAGES) {
        exo_warn("vulkan: %s", data->pMessage);
    }
    return VK_FALSE;
}

unsigned exo_vk_validation_messages(const exo_vk_instance *i) {
    return atomic_load(&i->validation_messages);
}

static bool has_layer(const exo_vk_global_functions *fn, const char *name) {
    VkLayerProperties *all = NULL;
    uint32_t n = 0;
    bool found = false;
    if (EXO_VK_CALL(fn->EnumerateInstanceLayerProperties(&n, NULL)) != VK_SUCCESS) return false;
    all = exo_calloc(n + 1, sizeof *all);
    if (all == NULL) return false;
    if (EXO_VK_CALL(fn->EnumerateInstanceLayerProperties(&n, all)) >= VK_SUCCESS) {
        for (uint32_t i = 0; i < n; i++) found = found || strcmp(all[i].layerName, name) == 0;
    }
    exo_free(all);
    return found;
}

static bool has_instance_extension(const exo_vk_global_functions *fn, const char *name) {
    VkExtensionProperties *all = NULL;
    uint32_t n = 0;
    bool found = false;
    if (EXO_VK_CALL(fn->EnumerateInstanceExtensionProperties(NULL, &n, NULL)) != VK_SUCCESS) {
        return false;
    }
    all = exo_calloc(n + 1, sizeof *all);
    if (all == NULL) return false;
    if (EXO_VK_CALL(fn->EnumerateInstanceExtensionProperties(NULL, &n, all)) >= VK_SUCCESS) {
        for (uint32_t i = 0; i < n; i++) found = found || strcmp(all[i].extensionName, name) == 0;
    }
    exo_free(all);
    return found;
}

/* ---- instance ---- */

static exo_vk_instance_desc effective_desc(const exo_vk_instance_desc *desc) {
    exo_vk_instance_desc out = {0};
    if (desc != NULL) out = *desc;
    const char *named = getenv("EXO_VULKAN_VALIDATION");
    if (!out.validation && named != NULL && *named != '\0' && strcmp(named, "0") != 0) {
        out.validation = true;
        out.gpu_assisted = strcmp(named, "gpu") == 0;
    }
    return out;
}

/* The highest version the loader knows, 1.3 at most: the headers this is written against. */
static uint32_t instance_version(const exo_vk_global_functions *fn) {
    uint32_t version = VK_API_VERSION_1_0;
    if (fn->EnumerateInstanceVersion == NULL) return version;
    if (EXO_VK_CALL(fn->EnumerateInstanceVersion(&version)) != VK_SUCCESS) {
        return VK_API_VERSION_1_0;
    }
    return version < VK_API_VERSION_1_3 ? version : VK_API_VERSION_1_3;
}

/* What vkCreateInstance is told; the structures point into each other. */
typedef struct {
    VkApplicationInfo app;
    VkValidationFeaturesEXT features;
    VkDebugUtilsMessengerCreateInfoEXT messenger;
    const char *extensions[4], *layer;
    VkInstanceCreateInfo info;
} instance_request;

static void ask_validation(instance_request *q, bool gpu_assisted, exo_vk_instance *i) {
    static const VkValidationFeatureEnableEXT enables[] = {
        VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT,
        VK_VALIDATION_FEATURE_ENABLE_GPU_ASSISTED_EXT,
        VK_VALIDATION_FEATURE_ENABLE_GPU_ASSISTED_RESERVE_BINDING_SLOT_EXT};
    q->messenger = (VkDebugUtilsMessengerCreateInfoEXT){
        .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
        .messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT |
                           VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT,
        .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT |
                       VK_DEBUG_UTILS_MESSAGE_TYPE_PERFORMANCE_BIT_EXT,
        .pfnUserCallback = on_message,
        .pUserData = i};
    q->features = (VkValidationFeaturesEXT){.sType = VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT,
                                            .pNext = &q->messenger,
                                            .enabledValidationFeatureCount = gpu_assisted ? 3 : 1,
                                            .pEnabledValidationFeatures = enables};
    q->layer = VALIDATION_LAYER;
    q->info.pNext = &q->features;
    q->info.enabledLayerCount = 1;
    q->info.ppEnabledLayerNames = &q->layer;
    q->extensions[q->info.enabledExtensionCount++] = VK_EXT_DEBUG_UTILS_EXTENSION_NAME;
    q->extensions[q->info.enabledExtensionCount++] = VK_EXT_VALIDATION_FEATURES_EXTENSION_NAME;
}

static void ask_instance(instance_request *q, const exo_vk_global_functions *fn, uint32_t version) {
    memset(q, 0, sizeof *q);
    q->app = (VkApplicationInfo){.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                                 .pApplicationName = "exo",
                                 .pEngineName = "exo",
                                 .apiVersion = version};
    q->info = (VkInstanceCreateInfo){.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
                                     .pApplicationInfo = &q->app,
                                     .ppEnabledExtensionNames = q->extensions};
    if (!has_instance_extension(fn, VK_KHR_PORTABILITY_ENUMERATION_EXTENSION_NAME)) return;
    q->extensions[q->info.enabledExtensionCount++] = VK_KHR_PORTABILITY_ENUMERATION_EXTENSION_NAME;
    q->info.flags |= VK_INSTANCE_CREATE_ENUMERATE_PORTABILITY_BIT_KHR;
}

static exo_status create_handle(exo_vk_instance *i, const exo_vk_instance_desc *desc,
                                exo_error *err) {
    const exo_vk_global_functions *fn = &i->loader.fn;
    uint32_t version = instance_version(fn);
    if (version < VK_API_VERSION_1_1) {
        return exo_error_set(err, EXO_EUNSUPPORTED, "the Vulkan loader is older than 1.1");
    }
    instance_request q;
    ask_instance(&q, fn, version);
    if (desc->validation && !has_layer(fn, VALIDATION_LAYER)) {
        return exo_error_set(err, EXO_ENOTFOUND,
                             "no Vulkan validation layer; on Debian: apt install "
                             "vulkan-validationlayers");
    }
    if (desc->validation) ask_validation(&q, desc->gpu_assisted, i);
    VkResult r = EXO_VK_CALL(fn->CreateInstance(&q.info, NULL, &i->handle));
    if (r != VK_SUCCESS) {
        i->handle = VK_NULL_HANDLE;
        if (r == VK_ERROR_INCOMPATIBLE_DRIVER) {
            return exo_error_set(err, EXO_ENOTFOUND, "no Vulkan driver on this machine");
        }
        return exo_vk_fail(r, "vkCreateInstance", err);
    }
    exo_status st = exo_vk_load_instance(&i->loader, i->handle, &i->fn, err);
    if (st != EXO_OK || !desc->validation) return st;
    r = EXO_VK_CALL(
        i->fn.CreateDebugUtilsMessengerEXT(i->handle, &q.messenger, NULL, &i->messenger));
    return r == VK_SUCCESS ? EXO_OK : exo_vk_fail(r, "vkCreateDebugUtilsMessengerEXT", err);
}

static exo_status list_devices(exo_vk_instance *i, exo_error *err) {
    VkPhysicalDevice all[EXO_VK_MAX_DEVICES] = {0};
    uint32_t n = EXO_VK_MAX_DEVICES;
    exo_buf left_out = {0};
    VkResult r = EXO_VK_CALL(i->fn.EnumeratePhysicalDevices(i->handle, &n, all));
    if (r == VK_ERROR_INITIALIZATION_FAILED)
        n = 0; /* what the loader says without any driver */
    else if (r != VK_SUCCESS && r != VK_INCOMPLETE)
        return exo_vk_fail(r, "vkEnumeratePhysicalDevices", err);
    i->devices = exo_calloc(n + 1, sizeof *i->devices);
    exo_status st = i->devices != NULL ? EXO_OK : EXO_ENOMEM;
    for (uint32_t k = 0; k < n && st == EXO_OK; k++) {
        exo_vk_physical *p = &i->devices[i->n_devices];
        exo_error why;
        p->physical = all[k];
        if (exo_vk_caps_query(&i->fn, all[k], &p->caps, &why) == EXO_OK) {
            i->n_devices++;
        } else {
            exo_buf_printf(&left_out, "%s%s: %s", left_out.n > 0 ? "\n" : "",
                           p->caps.name[0] != '\0' ? p->caps.name : "a device", why.message);
        }
    }
    if (st == EXO_OK) i->left_out = exo_strdup(exo_buf_str(&left_out));
    if (st == EXO_OK && (i->left_out == NULL || !exo_buf_ok(&left_out))) st = EXO_ENOMEM;
    exo_buf_finish(&left_out);
    if (st != EXO_OK) exo_error_set(err, st, "no memory for the list of Vulkan devices");
    return st;
}

exo_status exo_vk_instance_create(const exo_vk_instance_desc *desc, exo_vk_instance **out,
                                  exo_error *err) {
    *out = NULL;
    exo_vk_instance *i = exo_calloc(1, sizeof *i);
    if (i == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for Vulkan");
    exo_vk_instance_desc want = effective_desc(desc);
    exo_status st = exo_vk_loader_open(&i->loader, err);
    if (st == EXO_OK) st = create_handle(i, &want, err);
    if (st == EXO_OK) st = list_devices(i, err);
    if (st != EXO_OK) {
        exo_vk_instance_destroy(i);
        return st;
    }
    *out = i;
    return EXO_OK;
}

void exo_vk_instance_destroy(exo_vk_instance *i) {
    if (i == NULL) return;
    if (i->messenger != VK_NULL_HANDLE) {
        i->fn.DestroyDebugUtilsMessengerEXT(i->handle, i->messenger, NULL);
    }
    if (i->handle != VK_NULL_HANDLE && i->fn.DestroyInstance != NULL) {
        i->fn.DestroyInstance(i->handle, NULL);
    }
    exo_vk_loader_close(&i->loader);
    exo_free(i->devices);
    exo_free(i->left_out);
    exo_free(i);
}

/* ---- device ---- */

static void apply_avoid(exo_vk_caps *c, uint32_t avoid) {
    if (avoid & EXO_VK_AVOID_TIMELINE) c->timeline = false;
    if (avoid & EXO_VK_AVOID_UNIFIED) c->unified = false;
    if (avoid & EXO_VK_AVOID_SUBGROUP) {
        c->subgroup_basic = c->subgroup_arithmetic = c->subgroup_shuffle = false;
        c->subgroup_ballot = c->subgroup_clustered = false;
    }
    if (avoid & EXO_VK_AVOID_16BIT) {
        c->storage_8bit = c->storage_16bit = c->f16 = c->int8 = c->int16 = false;
    }
    if (avoid & EXO_VK_AVOID_DOT_PRODUCT) c->dot_product = c->dot_product_accelerated = false;
    if (avoid & EXO_VK_AVOID_IMPORT) c->host_import_alignment = 0;
    if (avoid & EXO_VK_AVOID_BUDGET) c->has_budget = false;
}

/* The features switched on: those in caps, in structures as the device's version knows them. */
typedef struct {
    VkPhysicalDeviceFeatures2 base;
    VkPhysicalDevice16BitStorageFeatures storage16;
    VkPhysicalDevice8BitStorageFeatures storage8;
    VkPhysicalDeviceShaderFloat16Int8Features f16_int8;
    VkPhysicalDeviceTimelineSemaphoreFeatures timeline;
    VkPhysicalDeviceVulkanMemoryModelFeatures memory_model;
    VkPhysicalDeviceSubgroupSizeControlFeatures subgroup_size;
    VkPhysicalDeviceShaderIntegerDotProductFeatures dot_product;
    const char *extensions[16];
    uint32_t n_extensions;
} feature_set;

static void link_feature(feature_set *s, void *structure, VkStructureType type) {
    VkBaseOutStructure *b = structure;
    b->sType = type;
    b->pNext = s->base.pNext;
    s->base.pNext = b;
}

/* Names an extension unless the device's version has it in its core. */
static void name_extension(feature_set *s, const exo_vk_caps *c, uint32_t core, const char *name) {
    if (c->api_version < core) s->extensions[s->n_extensions++] = name;
}

static void choose_features(const exo_vk_caps *c, feature_set *s) {
    memset(s, 0, sizeof *s);
    s->base.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2;
    s->base.features.shaderInt16 = c->int16;
    s->base.features.shaderInt64 = c->int64;
    s->storage16.storageBuffer16BitAccess = c->storage_16bit;
    s->storage8.storageBuffer8BitAccess = c->storage_8bit;
    s->f16_int8.shaderFloat16 = c->f16;
    s->f16_int8.shaderInt8 = c->int8;
    s->timeline.timelineSemaphore = VK_TRUE;
    s->memory_model.vulkanMemoryModel = s->memory_model.vulkanMemoryModelDeviceScope = VK_TRUE;
    s->subgroup_size.subgroupSizeControl = s->dot_product.shaderIntegerDotProduct = VK_TRUE;
#define USE(wanted, field, core, extension, type)                                                  \
    if (wanted) {                                                                                  \
        link_feature(s, &s->field, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_##type);                      \
        name_extension(s, c, core, extension);                                                     \
    }
    USE(c->storage_16bit, storage16, VK_API_VERSION_1_1, "VK_KHR_16bit_storage",
        16BIT_STORAGE_FEATURES)
    USE(c->storage_8bit, storage8, VK_API_VERSION_1_2, "VK_KHR_8bit_storage", 8BIT_STORAGE_FEATURES)
    USE(c->f16 || c->int8, f16_int8, VK_API_VERSION_1_2, "VK_KHR_shader_float16_int8",
        SHADER_FLOAT16_INT8_FEATURES)
    USE(c->timeline, timeline, VK_API_VERSION_1_2, "VK_KHR_timeline_semaphore",
        TIMELINE_SEMAPHORE_FEATURES)
    USE(c->memory_model, memory_model, VK_API_VERSION_1_2, "VK_KHR_vulkan_memory_model",
        VULKAN_MEMORY_MODEL_FEATURES)
    USE(c->subgroup_size_control, subgroup_size, VK_API_VERSION_1_3, "VK_EXT_subgroup_size_control",
        SUBGROUP_SIZE_CONTROL_FEATURES)
    USE(c->dot_product, dot_product, VK_API_VERSION_1_3, "VK_KHR_shader_integer_dot_product",
        SHADER_INTEGER_DOT_PRODUCT_FEATURES)
#undef USE
    if (c->has_budget) name_extension(s, c, UINT32_MAX, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
    if (c->host_import_alignment != 0) {
        name_extension(s, c, UINT32_MAX, VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME);
    }
    if (c->portability) name_extension(s, c, UINT32_MAX, "VK_KHR_portability_subset");
}

static exo_status create_logical(exo_vk_device *d, exo_error *err) {
    feature_set features;
    choose_features(&d->caps, &features);
    const float priority = 1;
    VkDeviceQueueCreateInfo queue = {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                     .queueFamilyIndex = d->caps.queue_family,
                                     .queueCount = 1,
                                     .pQueuePriorities = &priority};
    VkDeviceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                               .pNext = &features.base,
                               .queueCreateInfoCount = 1,
                               .pQueueCreateInfos = &queue,
                               .enabledExtensionCount = features.n_extensions,
                               .ppEnabledExtensionNames = features.extensions};
    VkResult r = EXO_VK_CALL(d->instance->fn.CreateDevice(d->physical, &info, NULL, &d->handle));
    if (r != VK_SUCCESS) {
        d->handle = VK_NULL_HANDLE;
        return exo_vk_fail(r, "vkCreateDevice", err);
    }
    exo_status st = exo_vk_load_device(&d->instance->fn, d->handle, &d->fn, err);
    if (st == EXO_OK && (d->fn.WaitSemaphores == NULL || d->fn.GetSemaphoreCounterValue == NULL)) {
        d->caps.timeline = false;
    }
    if (d->fn.GetMemoryHostPointerPropertiesEXT == NULL) d->caps.host_import_alignment = 0;
    return st;
}

exo_status exo_vk_device_open(exo_vk_instance *instance, uint32_t index,
                              const exo_vk_open_desc *desc, exo_vk_device **out, exo_error *err) {
    *out = NULL;
    if (index >= instance->n_devices) {
        return exo_error_set(err, EXO_ENOTFOUND, "no device vulkan:%u: this machine has %u%s%s",
                             index, instance->n_devices,
                             instance->left_out[0] != '\0' ? "; left out: " : "",
                             instance->left_out);
    }
    exo_vk_device *d = exo_calloc(1, sizeof *d);
    if (d == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for a device");
    d->instance = instance;
    d->index = index;
    d->physical = instance->devices[index].physical;
    d->caps = instance->devices[index].caps;
    if (desc != NULL) apply_avoid(&d->caps, desc->avoid);
    d->caps.cooperative_matrix = false; /* no kernel has any */
    d->caps.n_matrix_shapes = 0;
    exo_status st = create_logical(d, err);
    if (st == EXO_OK) st = exo_vk_queue_init(d, err);
    if (st == EXO_OK) {
        st = exo_vk_memory_init(d, desc != NULL ? desc->memory_limit_bytes : 0,
                                desc != NULL ? desc->block_bytes : 0, err);
    }
    if (st == EXO_OK) st = exo_vk_transfer_create(d, &d->transfer, err);
    if (st != EXO_OK) {
        exo_vk_device_close(d);
        bool named = err != NULL && strncmp(err->message, "vulkan:", 7) == 0;
        return named ? st : exo_error_wrap(err, st, "vulkan:%u", index);
    }
    *out = d;
    return EXO_OK;
}

void exo_vk_device_close(exo_vk_device *d) {
    if (d == NULL) return;
    exo_error err;
    bool idle = !atomic_load(&d->hung);
    exo_error_set(&err, EXO_ETIMEDOUT, "its work does not end");
    if (idle && d->queue.handle != VK_NULL_HANDLE) {
        idle = exo_vk_queue_wait_idle(&d->queue, EXO_VK_DEADLINE_MS, &err) == EXO_OK ||
               (atomic_load(&d->lost) && !atomic_load(&d->hung));
    }
    if (!idle) { /* destroying what a hung driver still uses would crash: it is given up */
        exo_warn("vulkan:%u: closed while busy, its memory is not returned: %s", d->index,
                 err.message);
        return;
    }
    exo_vk_transfer_destroy(d->transfer);
    exo_vk_memory_finish(&d->memory);
    exo_vk_queue_finish(&d->queue);
    if (d->handle != VK_NULL_HANDLE && d->fn.DestroyDevice != NULL) {
        d->fn.DestroyDevice(d->handle, NULL);
    }
    exo_free(d);
}

exo_status exo_vk_device_fail(exo_vk_device *d, VkResult r, const char *call, exo_error *err) {
    if (r == VK_ERROR_DEVICE_LOST) {
        atomic_store(&d->lost, true);
        return exo_error_set(err, EXO_EIO, "vulkan:%u (%s) is lost: %s: %s", d->index, d->caps.name,
                             call, exo_vk_result_name(r));
    }
    exo_status st = exo_vk_fail(r, call, err);
    return exo_error_wrap(err, st, "vulkan:%u", d->index);
}
