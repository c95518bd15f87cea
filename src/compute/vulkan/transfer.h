/* transfer.h - DataTransfer: bytes between the host and a device, and within a device.
 *
 * Memory the host can see is written in place, and read in place where the host caches it; all
 * else goes through a ring of staging slots, several in flight, so that copying into a slot and the
 * device's copy out of the last one overlap.  Any size and offset; ranges are checked against the
 * allocation.
 *
 * Order: a transfer sees everything submitted before it, and work submitted after it sees the
 * transfer; commands in other command buffers need no barrier against transfers.
 * Thread: COMPUTE, with the device. */
#ifndef EXO_COMPUTE_VULKAN_TRANSFER_H
#define EXO_COMPUTE_VULKAN_TRANSFER_H

#include "compute/vulkan/command.h"
#include "compute/vulkan/memory.h"

#define EXO_VK_STAGING_SLOTS      4
#define EXO_VK_STAGING_SLOT_BYTES (4u << 20) /* a quarter of it on phones */

typedef struct exo_vk_transfer exo_vk_transfer;

/* The ring's memory is taken at the first staged copy. */
exo_status exo_vk_transfer_create(struct exo_vk_device *d, exo_vk_transfer **out, exo_error *err);
void exo_vk_transfer_destroy(exo_vk_transfer *t); /* idle by then; NULL is allowed */

/* src may be reused on return; the bytes are on the device once *done is reached (NULL: waits). */
exo_status exo_vk_copy_to_device(exo_vk_transfer *t, exo_vk_allocation *dst, uint64_t offset,
                                 const void *src, size_t bytes, exo_vk_fence *done, exo_error *err);
/* Waits for all earlier work, then reads. */
exo_status exo_vk_copy_from_device(exo_vk_transfer *t, void *dst, const exo_vk_allocation *src,
                                   uint64_t offset, size_t bytes, exo_error *err);
/* Overlapping ranges of one allocation are copied as if through a temporary.  done as above. */
exo_status exo_vk_copy_device_to_device(exo_vk_transfer *t, exo_vk_allocation *dst,
                                        uint64_t dst_offset, const exo_vk_allocation *src,
                                        uint64_t src_offset, size_t bytes, exo_vk_fence *done,
                                        exo_error *err);
/* Sets the bytes to 0.  done as above. */
exo_status exo_vk_clear(exo_vk_transfer *t, exo_vk_allocation *dst, uint64_t offset, size_t bytes,
                        exo_vk_fence *done, exo_error *err);

/* Waits for everything submitted and makes its writes visible to host reads of mapped memory. */
exo_status exo_vk_synchronize(exo_vk_transfer *t, exo_error *err);

#endif
