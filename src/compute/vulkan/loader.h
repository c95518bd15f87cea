/* loader.h - the Vulkan loader found at run time, and its functions as plain tables.
 *
 * exo never links against Vulkan: libvulkan.so.1 is opened when somebody asks for a GPU, and a
 * machine without it merely has no such device.  One list per level (global, instance, device)
 * names every function used; a function missing from a required list makes the driver unusable,
 * one from an optional list is NULL.
 *
 * Every call that returns a VkResult is written EXO_VK_CALL(d->fn.CreateBuffer(...)), so that
 * test builds can make the k-th of them fail.  Thread: ANY. */
#ifndef EXO_COMPUTE_VULKAN_LOADER_H
#define EXO_COMPUTE_VULKAN_LOADER_H

#include <exo/base.h>

#ifndef VK_NO_PROTOTYPES
#define VK_NO_PROTOTYPES
#endif
#include <vulkan/vulkan_core.h>

#include "compute/vulkan/cooperative_matrix.h" /* what older headers lack */

#define EXO_VK_GLOBAL_FUNCTIONS(X)                                                                 \
    X(CreateInstance)                                                                              \
    X(EnumerateInstanceExtensionProperties)                                                        \
    X(EnumerateInstanceLayerProperties)

#define EXO_VK_GLOBAL_OPTIONAL(X) X(EnumerateInstanceVersion)

#define EXO_VK_INSTANCE_FUNCTIONS(X)                                                               \
    X(DestroyInstance)                                                                             \
    X(EnumeratePhysicalDevices)                                                                    \
    X(EnumerateDeviceExtensionProperties)                                                          \
    X(GetPhysicalDeviceProperties)                                                                 \
    X(GetPhysicalDeviceProperties2)                                                                \
    X(GetPhysicalDeviceFeatures2)                                                                  \
    X(GetPhysicalDeviceMemoryProperties2)                                                          \
    X(GetPhysicalDeviceQueueFamilyProperties)                                                      \
    X(CreateDevice)                                                                                \
    X(GetDeviceProcAddr)

#define EXO_VK_INSTANCE_OPTIONAL(X)                                                                \
    X(CreateDebugUtilsMessengerEXT)                                                                \
    X(DestroyDebugUtilsMessengerEXT)                                                               \
    X(GetPhysicalDeviceCooperativeMatrixPropertiesKHR)

#define EXO_VK_DEVICE_FUNCTIONS(X)                                                                 \
    X(DestroyDevice)                                                                               \
    X(DeviceWaitIdle)                                                                              \
    X(GetDeviceQueue)                                                                              \
    X(QueueSubmit)                                                                                 \
    X(QueueWaitIdle)                                                                               \
    /* memory */                                                                                   \
    X(AllocateMemory)                                                                              \
    X(FreeMemory)                                                                                  \
    X(MapMemory)                                                                                   \
    X(UnmapMemory)                                                                                 \
    X(FlushMappedMemoryRanges)                                                                     \
    X(InvalidateMappedMemoryRanges)                                                                \
    X(CreateBuffer)                                                                                \
    X(DestroyBuffer)                                                                               \
    X(CreateBufferView)                                                                            \
    X(DestroyBufferView)                                                                           \
    X(GetBufferMemoryRequirements)                                                                 \
    X(BindBufferMemory)                                                                            \
    /* synchronisation */                                                                          \
    X(CreateFence)                                                                                 \
    X(DestroyFence)                                                                                \
    X(ResetFences)                                                                                 \
    X(WaitForFences)                                                                               \
    X(GetFenceStatus)                                                                              \
    X(CreateSemaphore)                                                                             \
    X(DestroySemaphore)                                                                            \
    /* commands */                                                                                 \
    X(CreateCommandPool)                                                                           \
    X(DestroyCommandPool)                                                                          \
    X(AllocateCommandBuffers)                                                                      \
    X(FreeCommandBuffers)                                                                          \
    X(ResetCommandBuffer)                                                                          \
    X(BeginCommandBuffer)                                                                          \
    X(EndCommandBuffer)                                                                            \
    X(CmdPipelineBarrier)                                                                          \
    X(CmdCopyBuffer)                                                                               \
    X(CmdFillBuffer)                                                                               \
    X(CmdUpdateBuffer)                                                                             \
    X(CmdBindPipeline)                                                                             \
    X(CmdBindDescriptorSets)                                                                       \
    X(CmdPushConstants)                                                                            \
    X(CmdDispatch)                                                                                 \
    X(CmdDispatchIndirect)                                                                         \
    X(CmdResetQueryPool)                                                                           \
    X(CmdWriteTimestamp)                                                                           \
    /* queries */                                                                                  \
    X(CreateQueryPool)                                                                             \
    X(DestroyQueryPool)                                                                            \
    X(GetQueryPoolResults)                                                                         \
    /* pipelines */                                                                                \
    X(CreateShaderModule)                                                                          \
    X(DestroyShaderModule)                                                                         \
    X(CreatePipelineCache)                                                                         \
    X(DestroyPipelineCache)                                                                        \
    X(GetPipelineCacheData)                                                                        \
    X(CreateComputePipelines)                                                                      \
    X(DestroyPipeline)                                                                             \
    X(CreatePipelineLayout)                                                                        \
    X(DestroyPipelineLayout)                                                                       \
    X(CreateDescriptorSetLayout)                                                                   \
    X(DestroyDescriptorSetLayout)                                                                  \
    X(CreateDescriptorPool)                                                                        \
    X(DestroyDescriptorPool)                                                                       \
    X(ResetDescriptorPool)                                                                         \
    X(AllocateDescriptorSets)                                                                      \
    X(UpdateDescriptorSets)

/* Timeline semaphores come under their core names or, on Vulkan 1.1, with the suffix KHR. */
#define EXO_VK_DEVICE_OPTIONAL(X)                                                                  \
    X(GetSemaphoreCounterValue)                                                                    \
    X(WaitSemaphores)                                                                              \
    X(GetMemoryHostPointerPropertiesEXT)

#define EXO_VK_POINTER(name) PFN_vk##name name;
typedef struct {
    PFN_vkGetInstanceProcAddr GetInstanceProcAddr;
    EXO_VK_GLOBAL_FUNCTIONS(EXO_VK_POINTER)
    EXO_VK_GLOBAL_OPTIONAL(EXO_VK_POINTER)
} exo_vk_global_functions;

typedef struct {
    EXO_VK_INSTANCE_FUNCTIONS(EXO_VK_POINTER)
    EXO_VK_INSTANCE_OPTIONAL(EXO_VK_POINTER)
} exo_vk_instance_functions;

typedef struct {
    EXO_VK_DEVICE_FUNCTIONS(EXO_VK_POINTER)
    EXO_VK_DEVICE_OPTIONAL(EXO_VK_POINTER)
} exo_vk_device_functions;
#undef EXO_VK_POINTER

typedef struct {
    void *library; /* dlopen handle */
    exo_vk_global_functions fn;
} exo_vk_loader;

/* Opens the library that EXO_VULKAN_LOADER names, or the system's: EXO_ENOTFOUND with a hint what
 * to install when there is none. */
exo_status exo_vk_loader_open(exo_vk_loader *out, exo_error *err);
void exo_vk_loader_close(exo_vk_loader *l); /* zeroed memory is allowed */

exo_status exo_vk_load_instance(const exo_vk_loader *l, VkInstance instance,
                                exo_vk_instance_functions *out, exo_error *err);
exo_status exo_vk_load_device(const exo_vk_instance_functions *fn, VkDevice device,
                              exo_vk_device_functions *out, exo_error *err);

/* "VK_ERROR_OUT_OF_DEVICE_MEMORY"; never NULL. */
const char *exo_vk_result_name(VkResult r);

/* The exo_status that a failed call means, with "vkCreateBuffer: VK_ERROR_..." in err: lack of
 * memory is EXO_ENOMEM, a missing feature EXO_EUNSUPPORTED, a passed deadline EXO_ETIMEDOUT,
 * everything else EXO_EIO.  (For calls on an open device use exo_vk_device_fail.) */
exo_status exo_vk_fail(VkResult r, const char *call, exo_error *err);

#ifdef EXO_TEST_HOOKS
/* Makes the k-th EXO_VK_CALL from now (1 = the next) return `r` without being made, once; k = 0
 * switches off.  Per process. */
void exo_vk_fail_at(uint64_t k, VkResult r);
bool exo_vk_failed(void); /* the armed failure has happened */
/* A fault takes the call's place, so that nothing is made that nobody would free. */
bool exo_vk_fault_due(void);
VkResult exo_vk_fault_result(void);
#define EXO_VK_CALL(call) (exo_vk_fault_due() ? exo_vk_fault_result() : (call))
#else
#define EXO_VK_CALL(call) (call)
#endif

#endif
