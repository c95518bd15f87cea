/* pipeline_cache.h - compiled pipelines kept on disk, so that a device's second start is fast.
 *
 * One file per device in EXO_HOME/vulkan, named by a hash of device UUID, driver UUID and version.
 * What the driver returned stands behind a header of ours, so that a damaged or foreign file is
 * never handed to a driver: it is passed over with a debug line and replaced.
 *
 *   offset  bytes  (little-endian)
 *   0       8      "EXOVKPC1"
 *   8       8      bytes of the driver's data
 *   16      8      hash64 of them
 *   24      8      hash64 of what the file is named by
 *   32      ...    the driver's data
 *
 * Thread: COMPUTE. */
#ifndef EXO_COMPUTE_VULKAN_PIPELINE_CACHE_H
#define EXO_COMPUTE_VULKAN_PIPELINE_CACHE_H

#include "compute/vulkan/device.h"

#define EXO_VK_MAX_CACHE_BYTES (UINT64_C(64) << 20) /* larger ones are neither read nor written */

typedef struct {
    VkPipelineCache handle;
    uint64_t kept_bytes; /* of the driver's data that the disk has */
} exo_vk_pipeline_cache;

/* A cache with what the disk has for this device; empty where it has nothing good. */
exo_status exo_vk_pipeline_cache_load(exo_vk_device *d, exo_vk_pipeline_cache *out, exo_error *err);
/* Writes it, atomically and for this user only.  A failure costs the next start time, nothing else:
 * it goes to the log.  Nothing is written when the driver keeps nothing, or no more than there is.
 */
void exo_vk_pipeline_cache_save(exo_vk_device *d, exo_vk_pipeline_cache *cache);

/* The file's name, for tests; false when it would be too long. */
bool exo_vk_pipeline_cache_path(const exo_vk_device *d, char *out, size_t n);

#endif
