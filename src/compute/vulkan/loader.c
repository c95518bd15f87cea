/* loader.c - opens the Vulkan loader and fills the function tables. */
#include "compute/vulkan/loader.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

static void *open_library(void) {
    const char *named = getenv("EXO_VULKAN_LOADER");
    if (named != NULL) return dlopen(named, RTLD_NOW | RTLD_LOCAL);
    static const char *const names[] = {"libvulkan.so.1", "libvulkan.so", "libvulkan.1.dylib",
                                        "libMoltenVK.dylib"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        void *library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
        if (library != NULL) return library;
    }
    return NULL;
}

/* A function as vkGet*ProcAddr and dlsym hand it out, read as another type. */
#define SET(field, pointer)                                                                        \
    do {                                                                                           \
        PFN_vkVoidFunction f_ = (pointer);                                                         \
        memcpy(&(field), &f_, sizeof(field));                                                      \
    } while (0)

#define REQUIRE(table, name)                                                                       \
    if ((table)->name == NULL) missing = "vk" #name;

exo_status exo_vk_loader_open(exo_vk_loader *out, exo_error *err) {
    memset(out, 0, sizeof *out);
    void *library = open_library();
    const char *named = getenv("EXO_VULKAN_LOADER");
    if (library == NULL && named != NULL) {
        return exo_error_set(err, EXO_ENOTFOUND,
                             "no Vulkan loader: EXO_VULKAN_LOADER is %.160s, which does not open",
                             named);
    }
    if (library == NULL) {
        return exo_error_set(err, EXO_ENOTFOUND,
                             "no Vulkan loader (libvulkan.so.1) on this machine; on Debian: "
                             "apt install libvulkan1 mesa-vulkan-drivers");
    }
    void *symbol = dlsym(library, "vkGetInstanceProcAddr");
    memcpy(&out->fn.GetInstanceProcAddr, &symbol, sizeof symbol);
    const char *missing = NULL;
    REQUIRE(&out->fn, GetInstanceProcAddr)
    if (missing == NULL) {
#define GET(name)   SET(out->fn.name, out->fn.GetInstanceProcAddr(NULL, "vk" #name));
#define CHECK(name) REQUIRE(&out->fn, name)
        EXO_VK_GLOBAL_FUNCTIONS(GET)
        EXO_VK_GLOBAL_OPTIONAL(GET)
        EXO_VK_GLOBAL_FUNCTIONS(CHECK)
#undef GET
    }
    if (missing != NULL) {
        (void)dlclose(library);
        memset(out, 0, sizeof *out);
        return exo_error_set(err, EXO_EUNSUPPORTED, "the Vulkan loader lacks %s", missing);
    }
    out->library = library;
    return EXO_OK;
}

void exo_vk_loader_close(exo_vk_loader *l) {
    if (l->library != NULL) (void)dlclose(l->library);
    memset(l, 0, sizeof *l);
}

exo_status exo_vk_load_instance(const exo_vk_loader *l, VkInstance instance,
                                exo_vk_instance_functions *out, exo_error *err) {
    const char *missing = NULL;
#define GET(name) SET(out->name, l->fn.GetInstanceProcAddr(instance, "vk" #name));
#undef CHECK
#define CHECK(name) REQUIRE(out, name)
    EXO_VK_INSTANCE_FUNCTIONS(GET)
    EXO_VK_INSTANCE_OPTIONAL(GET)
    EXO_VK_INSTANCE_FUNCTIONS(CHECK)
#undef GET
    if (missing == NULL) return EXO_OK;
    return exo_error_set(err, EXO_EUNSUPPORTED, "the Vulkan loader lacks %s", missing);
}

exo_status exo_vk_load_device(const exo_vk_instance_functions *fn, VkDevice device,
                              exo_vk_device_functions *out, exo_error *err) {
    const char *missing = NULL;
#define GET(name) SET(out->name, fn->GetDeviceProcAddr(device, "vk" #name));
    EXO_VK_DEVICE_FUNCTIONS(GET)
    EXO_VK_DEVICE_OPTIONAL(GET)
    EXO_VK_DEVICE_FUNCTIONS(CHECK)
#undef GET
    if (out->WaitSemaphores == NULL) {
        SET(out->WaitSemaphores, fn->GetDeviceProcAddr(device, "vkWaitSemaphoresKHR"));
    }
    if (out->GetSemaphoreCounterValue == NULL) {
        SET(out->GetSemaphoreCounterValue,
            fn->GetDeviceProcAddr(device, "vkGetSemaphoreCounterValueKHR"));
    }
    if (missing == NULL) return EXO_OK;
    return exo_error_set(err, EXO_EUNSUPPORTED, "the Vulkan driver lacks %s", missing);
}

const char *exo_vk_result_name(VkResult r) {
    switch (r) {
#define NAME(code)                                                                                 \
    case code: return #code;
        NAME(VK_SUCCESS)
        NAME(VK_NOT_READY)
        NAME(VK_TIMEOUT)
        NAME(VK_INCOMPLETE)
        NAME(VK_ERROR_OUT_OF_HOST_MEMORY)
        NAME(VK_ERROR_OUT_OF_DEVICE_MEMORY)
        NAME(VK_ERROR_INITIALIZATION_FAILED)
        NAME(VK_ERROR_DEVICE_LOST)
        NAME(VK_ERROR_MEMORY_MAP_FAILED)
        NAME(VK_ERROR_LAYER_NOT_PRESENT)
        NAME(VK_ERROR_EXTENSION_NOT_PRESENT)
        NAME(VK_ERROR_FEATURE_NOT_PRESENT)
        NAME(VK_ERROR_INCOMPATIBLE_DRIVER)
        NAME(VK_ERROR_TOO_MANY_OBJECTS)
        NAME(VK_ERROR_FRAGMENTED_POOL)
        NAME(VK_ERROR_OUT_OF_POOL_MEMORY)
        NAME(VK_ERROR_INVALID_EXTERNAL_HANDLE)
        NAME(VK_ERROR_INVALID_SHADER_NV)
        NAME(VK_ERROR_UNKNOWN)
#undef NAME
    default: return "an unnamed VkResult";
    }
}

static exo_status status_of(VkResult r) {
    switch (r) {
    case VK_ERROR_OUT_OF_HOST_MEMORY:
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:
    case VK_ERROR_TOO_MANY_OBJECTS:
    case VK_ERROR_FRAGMENTED_POOL:
    case VK_ERROR_OUT_OF_POOL_MEMORY:
    case VK_ERROR_MEMORY_MAP_FAILED: return EXO_ENOMEM;
    case VK_ERROR_LAYER_NOT_PRESENT:
    case VK_ERROR_EXTENSION_NOT_PRESENT:
    case VK_ERROR_FEATURE_NOT_PRESENT:
    case VK_ERROR_INCOMPATIBLE_DRIVER:
    case VK_ERROR_INVALID_EXTERNAL_HANDLE: return EXO_EUNSUPPORTED;
    case VK_TIMEOUT: return EXO_ETIMEDOUT;
    default: return EXO_EIO;
    }
}

exo_status exo_vk_fail(VkResult r, const char *call, exo_error *err) {
    return exo_error_set(err, status_of(r), "%s: %s (%d)", call, exo_vk_result_name(r), (int)r);
}

#ifdef EXO_TEST_HOOKS
#include <stdatomic.h>

static atomic_ullong calls_left;
static atomic_bool fault_happened;
static VkResult fault;

void exo_vk_fail_at(uint64_t k, VkResult r) {
    fault = r;
    atomic_store(&fault_happened, false);
    atomic_store(&calls_left, k);
}

bool exo_vk_failed(void) { return atomic_load(&fault_happened); }

bool exo_vk_fault_due(void) {
    unsigned long long left = atomic_load(&calls_left);
    if (left == 0) return false;
    atomic_store(&calls_left, left - 1);
    if (left != 1) return false;
    atomic_store(&fault_happened, true);
    return true;
}

VkResult exo_vk_fault_result(void) { return fault; }
#endif
