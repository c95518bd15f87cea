/* Pipelines on disk: written once, read back, refused when damaged or foreign, never fatal. */
#define _GNU_SOURCE /* dl_iterate_phdr, mkdtemp */
#include "compute/vulkan/pipeline_cache.h"

#include "base/hash.h"
#include "base/le.h"
#include "compute/vulkan/backend.h"
#include "compute/vulkan/testing.h"

#include <sys/stat.h>

typedef struct {
    exo_vk_instance *instance;
    exo_vk_device *vk;
    char home[64], path[700];
} bench;

static bench open_bench(const char *driver) {
    bench b = {.home = "/tmp/exo-test-XXXXXX"};
    assert_non_null(mkdtemp(b.home));
    assert_int_equal(setenv("EXO_HOME", b.home, 1), 0);
    b.instance = exo_vk_test_instance(driver);
    b.vk = exo_vk_test_open(b.instance, NULL);
    assert_true(exo_vk_pipeline_cache_path(b.vk, b.path, sizeof b.path));
    return b;
}

static void close_bench(bench *b) {
    char folder[80];
    (void)snprintf(folder, sizeof folder, "%s/vulkan", b->home);
    exo_vk_test_close(b->instance, b->vk);
    (void)unlink(b->path);
    assert_int_equal(rmdir(folder), 0); /* nothing half written stays behind */
    assert_int_equal(rmdir(b->home), 0);
}

/* Bytes that the device's driver accepts, in a file of ours; a driver that keeps nothing has its
 * header only. */
static size_t good_file(const bench *b, uint8_t bytes[256]) {
    VkPhysicalDeviceProperties p;
    b->instance->fn.GetPhysicalDeviceProperties(b->vk->physical, &p);
    memset(bytes, 0, 256);
    uint8_t *data = bytes + 32;
    exo_put_u32(data, 32);
    exo_put_u32(data + 4, 1);
    exo_put_u32(data + 8, p.vendorID);
    exo_put_u32(data + 12, p.deviceID);
    memcpy(data + 16, p.pipelineCacheUUID, VK_UUID_SIZE);
    char subject[256];
    (void)snprintf(subject, sizeof subject, "pipelines %s %s %u", b->vk->caps.uuid,
                   b->vk->caps.driver_uuid, b->vk->caps.driver_version);
    memcpy(bytes, "EXOVKPC1", 8);
    exo_put_u64(bytes + 8, 32);
    exo_put_u64(bytes + 16, exo_hash64(data, 32, 0));
    exo_put_u64(bytes + 24, exo_hash64(subject, strlen(subject), 1));
    return 64;
}

static void write_bytes(const bench *b, const uint8_t *bytes, size_t n) {
    FILE *f = fopen(b->path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* Bytes of the file that were given to the driver. */
static uint64_t loaded(const bench *b) {
    exo_vk_pipeline_cache c;
    exo_error err = {.message = ""};
    exo_vk_test_ok(exo_vk_pipeline_cache_load(b->vk, &c, &err), &err);
    b->vk->fn.DestroyPipelineCache(b->vk->handle, c.handle, NULL);
    return c.kept_bytes;
}

static void test_only_good_files_are_read(void **state) {
    bench b = open_bench(*state);
    uint8_t good[256], bytes[256];
    size_t n = good_file(&b, good);
    assert_int_equal(loaded(&b), 0); /* there is none */
    write_bytes(&b, good, n);
    assert_int_equal(loaded(&b), 32);
    for (size_t i = 0; i < n; i++) { /* no bit may differ */
        memcpy(bytes, good, n);
        bytes[i] ^= (uint8_t)(1u << i % 8);
        write_bytes(&b, bytes, n);
        assert_int_equal(loaded(&b), 0);
    }
    for (size_t i = 0; i < n; i += 7) { /* cut, or longer */
        write_bytes(&b, good, i);
        assert_int_equal(loaded(&b), 0);
    }
    write_bytes(&b, good, n + 1);
    assert_int_equal(loaded(&b), 0);
    memcpy(bytes, good, n); /* another driver's data, but well kept */
    bytes[32 + 16] ^= 1;
    exo_put_u64(bytes + 16, exo_hash64(bytes + 32, 32, 0));
    write_bytes(&b, bytes, n);
    assert_int_equal(loaded(&b), 0);
    assert_int_equal(truncate(b.path, (off_t)EXO_VK_MAX_CACHE_BYTES + 4096), 0);
    assert_int_equal(loaded(&b), 0);
    close_bench(&b);
}

/* ---- a driver that keeps its pipelines ---- */

/* The software drivers return a header and nothing behind it: their answers are lengthened here. */
#define EXTRA 1000

static PFN_vkGetPipelineCacheData own_get;
static PFN_vkCreatePipelineCache own_create;

static VKAPI_ATTR VkResult VKAPI_CALL get_more(VkDevice d, VkPipelineCache c, size_t *n, void *to) {
    size_t header = 32;
    if (to == NULL) {
        *n = header + EXTRA;
        return VK_SUCCESS;
    }
    assert_int_equal(*n, header + EXTRA);
    VkResult r = own_get(d, c, &header, to);
    for (int i = 0; i < EXTRA; i++) ((uint8_t *)to)[32 + i] = (uint8_t)(i * 7);
    return r;
}

static VKAPI_ATTR VkResult VKAPI_CALL create_from(VkDevice d, const VkPipelineCacheCreateInfo *info,
                                                  const VkAllocationCallbacks *a,
                                                  VkPipelineCache *out) {
    const uint8_t *bytes = info->pInitialData;
    for (size_t i = 0; info->initialDataSize > 32 && i < EXTRA; i++) {
        assert_int_equal(bytes[32 + i], (uint8_t)(i * 7));
    }
    VkPipelineCacheCreateInfo empty = {.sType = info->sType};
    return own_create(d, &empty, a, out);
}

static void use_keeping_driver(bench *b) {
    own_get = b->vk->fn.GetPipelineCacheData;
    own_create = b->vk->fn.CreatePipelineCache;
    b->vk->fn.GetPipelineCacheData = get_more;
    b->vk->fn.CreatePipelineCache = create_from;
}

/* A device opened, used and closed. */
static void use_device(const bench *b) {
    exo_device *d;
    exo_error err = {.message = ""};
    VkPipeline pipeline;
    exo_vk_test_ok(exo_vk_device_wrap(b->vk, &d, &err), &err);
    exo_vk_test_ok(exo_vk_shaders_keep(&d->shaders, &err), &err);
    exo_vk_test_ok(exo_vk_shaders_get(&d->shaders, EXO_VK_KERNEL_rms, NULL, 0, &pipeline, &err),
                   &err);
    exo_vk_device_unwrap(d);
}

/* What a device's pipelines become: a file of this user's, replaced where it was damaged, not
 * written again where nothing came to it. */
static void test_pipelines_are_kept(void **state) {
    bench b = open_bench(*state);
    struct stat s, again;
    use_device(&b);
    assert_int_equal(access(b.path, F_OK), -1); /* a header is not worth a file */
    use_keeping_driver(&b);
    write_bytes(&b, (const uint8_t *)"damaged", 7);
    use_device(&b);
    assert_int_equal(stat(b.path, &s), 0);
    assert_int_equal(s.st_size, 32 + 32 + EXTRA);
    assert_int_equal(s.st_mode & 0777, 0600);
    assert_int_equal(loaded(&b), 32 + EXTRA);
    use_device(&b);
    assert_int_equal(stat(b.path, &again), 0);
    assert_int_equal(again.st_ino, s.st_ino);
    close_bench(&b);
}

/* A home that cannot be written costs nothing but time. */
static void test_no_home(void **state) {
    bench b = open_bench(*state);
    use_keeping_driver(&b);
    assert_int_equal(setenv("EXO_HOME", "/proc/none", 1), 0);
    use_device(&b);
    close_bench(&b);
}

int main(int argc, char **argv) {
    cmocka_set_test_filter(argc > 1 ? argv[1] : getenv("EXO_TEST_FILTER"));
    const struct CMUnitTest tests[] = {
        EXO_VK_ON_EACH("only good files are read", test_only_good_files_are_read),
        EXO_VK_ON_EACH("pipelines are kept", test_pipelines_are_kept),
        EXO_VK_ON_EACH("no home", test_no_home),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
