/* What is measured of a device: figures, a right kernel, no message of the validation layers. */
#define _GNU_SOURCE /* dl_iterate_phdr */
#include "compute/vulkan/speed.h"
#include "compute/vulkan/testing.h"

static void test_every_variant(void **state) {
    exo_error err = {.message = ""};
    exo_vk_instance *i = exo_vk_test_instance(*state);
    exo_vk_device *vk = exo_vk_test_open(i, NULL);
    exo_device *d;
    exo_vk_test_ok(exo_vk_device_wrap(vk, &d, &err), &err);
    uint64_t held = vk->memory.stats.held_bytes;
    for (int v = EXO_VK_SHARED; v < EXO_VK_N_VARIANTS; v++) {
        exo_vk_speed speed;
        if (!exo_vk_variant_possible(vk, EXO_VK_KERNEL_speed, (exo_vk_variant)v)) continue;
        exo_vk_shaders_choose(&d->shaders, EXO_VK_KERNEL_speed, (exo_vk_variant)v);
        exo_vk_test_ok(exo_vk_measure_speed(d, &speed, &err), &err);
        print_message("%s, %s: %.1f GFLOP/s, reads %.1f GB/s\n", (const char *)*state,
                      exo_vk_variant_name((exo_vk_variant)v), speed.gflops, speed.read_gbps);
        /* a machine that is this slow or this fast was not measured */
        assert_true(speed.gflops > 0.01 && speed.gflops < 1e6);
        assert_true(speed.read_gbps > 0.001 && speed.read_gbps < 1e5);
    }
    assert_int_equal(vk->memory.stats.held_bytes, held);
    exo_vk_device_unwrap(d);
    exo_vk_test_close(i, vk);
}

/* Each of the first Vulkan calls fails once: an error, unless another kind of memory did, and
 * nothing left behind. */
static void test_failures(void **state) {
    exo_error err = {.message = ""};
    exo_vk_instance *i = exo_vk_test_instance(*state);
    exo_vk_device *vk = exo_vk_test_open(i, NULL);
    exo_device *d;
    exo_vk_speed speed;
    exo_vk_test_ok(exo_vk_device_wrap(vk, &d, &err), &err);
    uint64_t held = vk->memory.stats.held_bytes;
    int refused = 0;
    for (uint64_t k = 1; k < 14; k++) { /* all of making it, and the first run */
        exo_vk_fail_at(k, VK_ERROR_OUT_OF_DEVICE_MEMORY);
        exo_status st = exo_vk_measure_speed(d, &speed, &err);
        exo_vk_fail_at(0, VK_SUCCESS);
        assert_true(st == EXO_OK || st == EXO_ENOMEM);
        refused += st != EXO_OK;
        assert_int_equal(vk->memory.stats.held_bytes, held);
    }
    assert_true(refused > 6);
    exo_vk_device_unwrap(d);
    exo_vk_test_close(i, vk);
}

int main(int argc, char **argv) {
    cmocka_set_test_filter(argc > 1 ? argv[1] : getenv("EXO_TEST_FILTER"));
    const struct CMUnitTest tests[] = {
        EXO_VK_ON_EACH("every variant", test_every_variant),
        {"failures (lavapipe)", test_failures, NULL, NULL, (void *)(uintptr_t) "lavapipe"},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
