/* pipeline_cache.c - reads, checks and replaces the file. */
#define _DEFAULT_SOURCE /* O_CLOEXEC, S_ISREG */
#include "compute/vulkan/pipeline_cache.h"

#include "base/hash.h"
#include "base/le.h"
#include "base/log.h"
#include "base/mem.h"
#include "compute/vulkan/probe_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER_BYTES    32u
#define VK_HEADER_BYTES 32u /* VkPipelineCacheHeaderVersionOne */

static const char magic[8] = {'E', 'X', 'O', 'V', 'K', 'P', 'C', '1'};

static uint64_t name_of(const exo_vk_device *d, exo_vk_record *r, exo_error *err) {
    char subject[256];
    (void)snprintf(subject, sizeof subject, "pipelines %s %s %u", d->caps.uuid, d->caps.driver_uuid,
                   d->caps.driver_version);
    if (exo_vk_record_init(r, NULL, subject, err) != EXO_OK) return 0;
    return exo_hash64(subject, strlen(subject), 1);
}

static bool path_of(const exo_vk_record *r, char *out, size_t n) {
    int length = snprintf(out, n, "%s/%s.pipelines", r->dir, r->key);
    return length > 0 && (size_t)length < n;
}

bool exo_vk_pipeline_cache_path(const exo_vk_device *d, char *out, size_t n) {
    exo_vk_record r;
    return name_of(d, &r, NULL) != 0 && path_of(&r, out, n);
}

/* ---- reading ---- */

/* Why these bytes are not what was written for this device; NULL: they are. */
static const char *fault_of(const exo_vk_device *d, uint64_t name, const uint8_t *bytes, size_t n) {
    if (n < HEADER_BYTES + VK_HEADER_BYTES || memcmp(bytes, magic, sizeof magic) != 0) {
        return "it is no pipeline cache";
    }
    const uint8_t *data = bytes + HEADER_BYTES;
    size_t n_data = n - HEADER_BYTES;
    if (exo_get_u64(bytes + 8) != n_data) return "it is cut";
    if (exo_get_u64(bytes + 16) != exo_hash64(data, n_data, 0)) return "it is damaged";
    if (exo_get_u64(bytes + 24) != name) return "it is another device's";
    VkPhysicalDeviceProperties p;
    d->instance->fn.GetPhysicalDeviceProperties(d->physical, &p);
    if (exo_get_u32(data) < VK_HEADER_BYTES || exo_get_u32(data + 4) != 1 ||
        exo_get_u32(data + 8) != p.vendorID || exo_get_u32(data + 12) != p.deviceID ||
        memcmp(data + 16, p.pipelineCacheUUID, VK_UUID_SIZE) != 0) {
        return "it is another driver's";
    }
    return NULL;
}

/* The whole file, or NULL; a size beyond the limit counts as absent. */
static uint8_t *read_file(const char *path, size_t *n) {
    *n = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return NULL;
    struct stat s;
    uint8_t *bytes = NULL;
    if (fstat(fd, &s) == 0 && S_ISREG(s.st_mode) && s.st_size > 0 &&
        (uint64_t)s.st_size <= EXO_VK_MAX_CACHE_BYTES + HEADER_BYTES) {
        bytes = exo_malloc((size_t)s.st_size);
    }
    ssize_t got = bytes != NULL ? 1 : 0;
    while (got > 0 && *n < (size_t)s.st_size) {
        got = read(fd, bytes + *n, (size_t)s.st_size - *n);
        if (got > 0) *n += (size_t)got;
    }
    (void)close(fd);
    return bytes;
}

exo_status exo_vk_pipeline_cache_load(exo_vk_device *d, exo_vk_pipeline_cache *out,
                                      exo_error *err) {
    exo_vk_record r;
    exo_error why = {.message = ""};
    char path[640];
    size_t n = 0;
    uint8_t *bytes = NULL;
    const char *fault = NULL;
    uint64_t name = name_of(d, &r, &why);
    if (name != 0 && path_of(&r, path, sizeof path)) bytes = read_file(path, &n);
    if (bytes != NULL) fault = fault_of(d, name, bytes, n);
    if (fault != NULL) exo_debug("vulkan:%u: %s is passed over: %s", d->index, path, fault);
    bool good = bytes != NULL && fault == NULL;
    VkPipelineCacheCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO,
                                      .initialDataSize = good ? n - HEADER_BYTES : 0,
                                      .pInitialData = good ? bytes + HEADER_BYTES : NULL};
    VkResult result = EXO_VK_CALL(d->fn.CreatePipelineCache(d->handle, &info, NULL, &out->handle));
    if (result != VK_SUCCESS && good) { /* a driver may refuse its own data: then without */
        info.initialDataSize = 0;
        info.pInitialData = NULL;
        result = EXO_VK_CALL(d->fn.CreatePipelineCache(d->handle, &info, NULL, &out->handle));
    }
    exo_free(bytes);
    out->kept_bytes = info.initialDataSize;
    if (result == VK_SUCCESS) return EXO_OK;
    out->handle = VK_NULL_HANDLE;
    return exo_vk_device_fail(d, result, "vkCreatePipelineCache", err);
}

/* ---- writing ---- */

static bool write_file(const char *path, const uint8_t *bytes, size_t n) {
    char fresh[680];
    (void)snprintf(fresh, sizeof fresh, "%s.%ld", path, (long)getpid());
    int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    size_t done = 0;
    while (fd >= 0 && done < n) {
        ssize_t put = write(fd, bytes + done, n - done);
        if (put <= 0) break;
        done += (size_t)put;
    }
    bool good = fd >= 0 && done == n;
    if (fd >= 0 && close(fd) != 0) good = false;
    if (good && rename(fresh, path) == 0) return true;
    int fault = errno;
    (void)unlink(fresh);
    errno = fault;
    return false;
}

void exo_vk_pipeline_cache_save(exo_vk_device *d, exo_vk_pipeline_cache *cache) {
    exo_vk_record r;
    char path[640];
    size_t n = 0;
    uint64_t name = name_of(d, &r, NULL);
    if (name == 0 || !path_of(&r, path, sizeof path)) return;
    VkResult result = EXO_VK_CALL(d->fn.GetPipelineCacheData(d->handle, cache->handle, &n, NULL));
    if (result != VK_SUCCESS || n <= VK_HEADER_BYTES) return; /* the driver keeps nothing */
    if (n <= cache->kept_bytes) return;
    if (n > EXO_VK_MAX_CACHE_BYTES) {
        exo_debug("vulkan:%u: %zu bytes of pipelines are not kept", d->index, n);
        return;
    }
    uint8_t *bytes = exo_malloc(HEADER_BYTES + n);
    if (bytes == NULL) return;
    result =
        EXO_VK_CALL(d->fn.GetPipelineCacheData(d->handle, cache->handle, &n, bytes + HEADER_BYTES));
    memcpy(bytes, magic, sizeof magic);
    exo_put_u64(bytes + 8, n);
    exo_put_u64(bytes + 16, exo_hash64(bytes + HEADER_BYTES, n, 0));
    exo_put_u64(bytes + 24, name);
    if (result == VK_SUCCESS) {
        cache->kept_bytes = n; /* a disk that is full now is not tried at every plan */
        if (!write_file(path, bytes, HEADER_BYTES + n)) {
            exo_debug("vulkan:%u: cannot write %s: %s", d->index, path, strerror(errno));
        }
    }
    exo_free(bytes);
}
