/* caps.h - what a Vulkan device says of itself, asked once and kept as plain data.
 *
 * Every figure comes from the driver; one that no driver tells is 0, never guessed.  Nothing here
 * is a decision: which kernels run is chosen from these figures elsewhere.
 * Thread: ANY (plain data). */
#ifndef EXO_COMPUTE_VULKAN_CAPS_H
#define EXO_COMPUTE_VULKAN_CAPS_H

#include "compute/vulkan/loader.h"

typedef enum {
    EXO_VK_VENDOR_OTHER,
    EXO_VK_VENDOR_AMD,
    EXO_VK_VENDOR_APPLE,
    EXO_VK_VENDOR_ARM,
    EXO_VK_VENDOR_BROADCOM,
    EXO_VK_VENDOR_GOOGLE, /* SwiftShader */
    EXO_VK_VENDOR_HUAWEI,
    EXO_VK_VENDOR_IMAGINATION,
    EXO_VK_VENDOR_INTEL,
    EXO_VK_VENDOR_MESA, /* lavapipe */
    EXO_VK_VENDOR_MICROSOFT,
    EXO_VK_VENDOR_NVIDIA,
    EXO_VK_VENDOR_QUALCOMM,
    EXO_VK_VENDOR_SAMSUNG,
    EXO_VK_VENDOR_VERISILICON,
} exo_vk_vendor;

typedef struct {
    uint64_t bytes;
    uint64_t
        budget_bytes;    /* what this process may hold in all; equals bytes without the extension */
    uint64_t used_bytes; /* what this process holds, as the driver counts; 0 = it does not say */
    bool device_local;
} exo_vk_heap;

/* One shape a cooperative matrix multiply may have: D(m,n) = A(m,k) B(k,n) + C(m,n). */
typedef struct {
    uint32_t m, n, k;
    VkComponentTypeKHR a, b, c, result;
} exo_vk_matrix_shape;

#define EXO_VK_MAX_MATRIX_SHAPES 32

typedef struct {
    /* identity */
    char name[128];        /* "llvmpipe (LLVM 15.0.6, 256 bits)" */
    char vendor_name[32];  /* "Mesa" */
    char driver[64];       /* driver's name: "llvmpipe" */
    char driver_info[128]; /* its version as it words it: "Mesa 22.3.6 (LLVM 15.0.6)" */
    char uuid[33];         /* deviceUUID, hex */
    char driver_uuid[33];
    exo_vk_vendor vendor;
    uint32_t vendor_id, device_id, driver_version, api_version;
    VkPhysicalDeviceType type;
    bool mobile;      /* a phone's GPU by its vendor: small blocks, careful variants */
    bool portability; /* runs on another API (MoltenVK) */

    /* memory */
    exo_vk_heap heaps[VK_MAX_MEMORY_HEAPS];
    uint32_t n_heaps;
    VkPhysicalDeviceMemoryProperties memory;
    bool has_budget; /* VK_EXT_memory_budget */
    bool unified;    /* all device-local memory can be written by the host */
    uint64_t max_allocation_bytes, max_buffer_bytes;
    uint32_t max_allocations;
    uint64_t host_import_alignment; /* VK_EXT_external_memory_host; 0 = absent */

    /* compute */
    uint32_t compute_units;                     /* 0 = no vendor extension tells */
    uint32_t subgroup_size;                     /* default */
    uint32_t subgroup_min, subgroup_max;        /* equal without size control */
    bool subgroup_size_control;                 /* a pipeline may ask for a size in that range */
    bool subgroup_arithmetic, subgroup_shuffle; /* in compute shaders */
    bool subgroup_basic, subgroup_ballot, subgroup_clustered;
    bool storage_8bit, storage_16bit, f16, int8, int16, int64;
    bool dot_product;             /* integer dot product, KHR or 1.3 */
    bool dot_product_accelerated; /* 4 x 8 bit packed, signed */
    bool memory_model;            /* Vulkan memory model with device scope, as atomics use it */
    bool timeline;                /* timeline semaphores */
    bool cooperative_matrix;      /* VK_KHR_cooperative_matrix in compute, subgroup scope */
    exo_vk_matrix_shape matrix_shapes[EXO_VK_MAX_MATRIX_SHAPES];
    uint32_t n_matrix_shapes;

    /* limits */
    uint64_t max_storage_range;  /* bytes of one storage buffer binding */
    uint32_t max_texel_elements; /* of one texel buffer */
    uint32_t max_shared_bytes, max_invocations;
    uint32_t max_workgroup_size[3], max_workgroup_count[3];
    uint32_t max_push_bytes, max_bound_sets, max_storage_buffers; /* the last: per stage */
    uint32_t min_storage_alignment;                               /* of a binding's offset */
    uint32_t non_coherent_atom;
    double timestamp_ns; /* nanoseconds per tick; 0 = the queue has no timestamps */
    uint32_t queue_family;
} exo_vk_caps;

/* Asks a physical device.  EXO_EUNSUPPORTED with the reason when exo cannot compute on it: older
 * than Vulkan 1.1, or without a compute queue.  `out` then still holds the identity. */
exo_status exo_vk_caps_query(const exo_vk_instance_functions *fn, VkPhysicalDevice physical,
                             exo_vk_caps *out, exo_error *err);

/* Brings heaps[].budget_bytes and used_bytes up to date. */
void exo_vk_caps_refresh(const exo_vk_instance_functions *fn, VkPhysicalDevice physical,
                         exo_vk_caps *caps);

/* True when the device names this extension. */
bool exo_vk_has_extension(const exo_vk_instance_functions *fn, VkPhysicalDevice physical,
                          const char *name);

exo_vk_vendor exo_vk_vendor_of(uint32_t vendor_id);
const char *exo_vk_vendor_name(exo_vk_vendor v);

#endif
