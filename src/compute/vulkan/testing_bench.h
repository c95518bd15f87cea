/* testing_bench.h - a software Vulkan device as the backend's door shows it, for tests of plans. */
#ifndef EXO_COMPUTE_VULKAN_TESTING_BENCH_H
#define EXO_COMPUTE_VULKAN_TESTING_BENCH_H

#include "compute/vulkan/host.h"
#include "compute/vulkan/testing.h"

typedef struct {
    exo_vk_instance *instance;
    exo_vk_device *vk;
    exo_device *device;
} bench;

static inline bench open_bench(const char *driver) {
    bench b;
    exo_error err = {0};
    b.instance = exo_vk_test_instance(driver);
    b.vk = exo_vk_test_open(b.instance, NULL);
    exo_vk_test_ok(exo_vk_device_wrap(b.vk, &b.device, &err), &err);
    b.device->host_desc.n_threads = 2;
    return b;
}

static inline void close_bench(bench *b) {
    exo_vk_device_unwrap(b->device);
    exo_vk_test_close(b->instance, b->vk);
}

#endif
