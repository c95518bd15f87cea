/* memory.h - MemoryAllocator: few large blocks of device memory, cut into allocations.
 *
 * A block is one VkDeviceMemory with one VkBuffer over all of it; an allocation is a range of a
 * block, so that drivers with few allocations (4096) and phones with slow ones are served alike.
 * Blocks of host-visible memory stay mapped for their life.  Everything is accounted against the
 * heap's budget before the driver is asked: what does not fit is refused with the numbers.
 *
 * Contents of fresh memory are undefined.  Thread: COMPUTE, with the device. */
#ifndef EXO_COMPUTE_VULKAN_MEMORY_H
#define EXO_COMPUTE_VULKAN_MEMORY_H

#include "compute/vulkan/loader.h"

struct exo_vk_device;
typedef struct exo_vk_block exo_vk_block;

typedef enum {
    EXO_VK_MEMORY_DEVICE,   /* fastest for shaders; mapped as well where the memory is unified */
    EXO_VK_MEMORY_UPLOAD,   /* written by the host, read by the device: parameters, staging */
    EXO_VK_MEMORY_READBACK, /* written by the device, read by the host (cached where possible) */
    EXO_VK_N_MEMORY_KINDS,
} exo_vk_memory_kind;

/* AllocationInfo.  Read-only for users; valid until deallocated. */
typedef struct exo_vk_allocation {
    uint64_t id;             /* never used twice on one device */
    VkBuffer buffer;         /* the block's; bind it at [offset, offset + size) */
    VkDeviceSize offset;     /* a multiple of every alignment the device asks of a binding */
    VkDeviceSize size;       /* bytes asked for */
    VkDeviceSize held_bytes; /* bytes taken from the block: size rounded up */
    uint32_t memory_type;
    VkMemoryPropertyFlags properties;
    exo_vk_memory_kind kind;
    uint8_t *mapped; /* its first byte in host memory, or NULL: not host-visible */
    bool read_only;  /* imported host memory: no copy writes to it */
    exo_vk_block *block;
    struct exo_vk_allocation *prev, *next; /* neighbours in the block, by offset */
} exo_vk_allocation;

typedef struct {
    exo_vk_memory_kind kind;
    VkDeviceSize bytes;
} exo_vk_memory_need;

typedef struct {
    uint64_t n_allocations, n_blocks;
    uint64_t requested_bytes; /* sum of size */
    uint64_t held_bytes;      /* sum of held_bytes of live allocations */
    uint64_t block_bytes;     /* what the driver has given us, imports included */
    uint64_t free_bytes;      /* in blocks: block_bytes = held_bytes + free_bytes */
} exo_vk_memory_stats;

/* Part of exo_vk_device. */
typedef struct {
    struct exo_vk_device *d;
    exo_vk_block *blocks; /* newest first */
    VkDeviceSize block_bytes, limit_bytes, alignment;
    uint64_t heap_bytes[VK_MAX_MEMORY_HEAPS]; /* blocks we hold in each heap */
    uint32_t type_of[EXO_VK_N_MEMORY_KINDS];  /* memory type chosen for each kind */
    uint32_t n_blocks;
    uint64_t next_id;
    exo_vk_memory_stats stats;
} exo_vk_memory;

exo_status exo_vk_memory_init(struct exo_vk_device *d, uint64_t limit_bytes, uint64_t block_bytes,
                              exo_error *err);
void exo_vk_memory_finish(exo_vk_memory *m); /* frees every block; zeroed memory is allowed */

/* `bytes` of 0 is refused.  EXO_ENOMEM with what was asked, what is held and what the budget is. */
exo_status exo_vk_memory_allocate(exo_vk_memory *m, exo_vk_memory_kind kind, VkDeviceSize bytes,
                                  exo_vk_allocation **out, exo_error *err);
/* The device no longer uses it.  NULL is allowed.  Empty blocks go back to the driver, except one
 * of each kind. */
void exo_vk_memory_deallocate(exo_vk_memory *m, exo_vk_allocation *a);

/* Whether all needs fit together, at worst each in blocks of its own.  Allocates nothing: a plan
 * that does not fit is refused by this call. */
exo_status exo_vk_memory_check(exo_vk_memory *m, const exo_vk_memory_need *needs, size_t n,
                               exo_error *err);
/* Bytes that can still be allocated of this kind, in free ranges and in the budget together. */
uint64_t exo_vk_memory_available(exo_vk_memory *m, exo_vk_memory_kind kind);

/* Host access.  Mapping is free (blocks stay mapped): EXO_EUNSUPPORTED when the memory is not
 * host-visible.  A write is seen by work submitted after flush; a read sees finished work whose
 * command buffer made it visible to the host, after invalidate.  Both do nothing on coherent
 * memory.  unmap flushes everything. */
exo_status exo_vk_memory_map(exo_vk_memory *m, exo_vk_allocation *a, void **out, exo_error *err);
exo_status exo_vk_memory_unmap(exo_vk_memory *m, exo_vk_allocation *a, exo_error *err);
exo_status exo_vk_memory_flush(exo_vk_memory *m, const exo_vk_allocation *a, VkDeviceSize offset,
                               VkDeviceSize bytes, exo_error *err);
exo_status exo_vk_memory_invalidate(exo_vk_memory *m, const exo_vk_allocation *a,
                                    VkDeviceSize offset, VkDeviceSize bytes, exo_error *err);

/* Lets the device read host memory in place (VK_EXT_external_memory_host), which must stay mapped
 * until deallocated; a read-only file mapping is allowed and must then not be written by a shader.
 * `host` and `bytes` are multiples of caps.host_import_alignment.  EXO_EUNSUPPORTED when device or
 * driver refuse: the caller uploads instead. */
exo_status exo_vk_memory_import(exo_vk_memory *m, const void *host, VkDeviceSize bytes,
                                exo_vk_allocation **out, exo_error *err);

#endif
