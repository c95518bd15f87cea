/* device.h - Vulkan instances and opened devices.
 *
 * An instance lists the machine's Vulkan devices in the loader's order: `vulkan:N` is the N-th of
 * them that exo can use, and the device UUID kept beside it tells the same device again after the
 * order changed.  Opening one makes a logical device with one compute queue and only the features
 * that exo uses and the device has; the memory allocator, the queue and the transfer ring come
 * with it.  Several opened devices may share one physical device.
 *
 * The structure is open to the other files of this folder: they call the driver through `fn`.
 * Thread: an instance is ANY after creation; a device is COMPUTE, one thread at a time. */
#ifndef EXO_COMPUTE_VULKAN_DEVICE_H
#define EXO_COMPUTE_VULKAN_DEVICE_H

#include "compute/vulkan/caps.h"
#include "compute/vulkan/command.h"
#include "compute/vulkan/memory.h"
#include "compute/vulkan/transfer.h"

#include <stdatomic.h>

/* ---- instance ---- */

#define EXO_VK_MAX_DEVICES 32

typedef struct {
    bool validation;    /* core and synchronization validation; EXO_ENOTFOUND without the layer */
    bool gpu_assisted;  /* the slow check of shader accesses, too */
} exo_vk_instance_desc; /* NULL or all-zero = what EXO_VULKAN_VALIDATION=1|gpu says, else none */

typedef struct {
    VkPhysicalDevice physical;
    exo_vk_caps caps;
} exo_vk_physical;

typedef struct exo_vk_instance {
    exo_vk_loader loader;
    VkInstance handle;
    exo_vk_instance_functions fn;
    VkDebugUtilsMessengerEXT messenger;
    exo_vk_physical *devices; /* usable ones; index N is vulkan:N */
    uint32_t n_devices;
    char *left_out; /* one line per device that cannot be used and why; "" = none */
    atomic_uint validation_messages; /* warnings and errors so far */
} exo_vk_instance;

/* Loads Vulkan and lists its devices.  A machine with a loader and no usable device gives an
 * instance with n_devices 0. */
exo_status exo_vk_instance_create(const exo_vk_instance_desc *desc, exo_vk_instance **out,
                                  exo_error *err);
void exo_vk_instance_destroy(
    exo_vk_instance *i); /* NULL is allowed; its devices are closed before */

/* Messages of the validation layers so far; tests want 0.  The first few go to the log. */
unsigned exo_vk_validation_messages(const exo_vk_instance *i);

/* ---- device ---- */

/* Features not to use although present: what vendor defaults and tests switch off.  The device's
 * caps then say that they are absent. */
enum {
    EXO_VK_AVOID_TIMELINE = 1u << 0,    /* VkFence instead */
    EXO_VK_AVOID_UNIFIED = 1u << 1,     /* device memory is never mapped: copies go staged */
    EXO_VK_AVOID_SUBGROUP = 1u << 2,    /* no subgroup operations */
    EXO_VK_AVOID_16BIT = 1u << 3,       /* no 8/16-bit storage, f16, int8, int16 */
    EXO_VK_AVOID_DOT_PRODUCT = 1u << 4, /* no integer dot product */
    EXO_VK_AVOID_IMPORT = 1u << 5,      /* no import of host memory */
    EXO_VK_AVOID_BUDGET = 1u << 6,      /* heap sizes instead of VK_EXT_memory_budget */
};

typedef struct {
    uint64_t memory_limit_bytes; /* 0 = the driver's budget */
    uint64_t block_bytes;        /* size of memory blocks; 0 = by the device */
#define EXO_VK_BLOCKS_APART 1    /* each allocation is a buffer that ends with it, for validation */
    uint32_t avoid;              /* EXO_VK_AVOID_* */
} exo_vk_open_desc;              /* NULL = all-zero */

/* Counted since the device was opened; tests prove that none happen per token. */
typedef struct {
    uint64_t allocations;        /* exo_vk_memory_allocate */
    uint64_t driver_allocations; /* vkAllocateMemory */
    uint64_t recordings;         /* command buffers begun */
    uint64_t submits;
} exo_vk_counters;

typedef struct exo_vk_device {
    exo_vk_instance *instance; /* borrowed */
    uint32_t index;            /* N of vulkan:N */
    VkPhysicalDevice physical;
    exo_vk_caps caps; /* of what is switched on, not of all that is there */
    VkDevice handle;
    exo_vk_device_functions fn;
    exo_vk_queue queue;
    exo_vk_memory memory;
    exo_vk_transfer *transfer;
    exo_vk_counters counters;
    atomic_bool lost; /* the driver gave the device up: every call from now on is EXO_EIO */
    atomic_bool hung; /* lost because its work does not end: nothing that it may use is freed */
} exo_vk_device;

/* The instance outlives the device.  EXO_ENOTFOUND for an index beyond the list. */
exo_status exo_vk_device_open(exo_vk_instance *instance, uint32_t index,
                              const exo_vk_open_desc *desc, exo_vk_device **out, exo_error *err);
/* Waits for the queue (with a deadline), then frees everything. NULL is allowed. */
void exo_vk_device_close(exo_vk_device *d);

/* exo_vk_fail for a call on an open device: VK_ERROR_DEVICE_LOST marks it as lost. */
exo_status exo_vk_device_fail(exo_vk_device *d, VkResult r, const char *call, exo_error *err);

#endif
