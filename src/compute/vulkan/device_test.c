/* Loader, enumeration and opening: what real (software) drivers say, and every way to fail. */
#define _GNU_SOURCE
#include "base/mem.h"
#include "compute/vulkan/testing.h"

static void expect_no_instance(exo_status want, const char *says) {
    exo_vk_instance *i;
    exo_error err;
    assert_int_equal(exo_vk_instance_create(NULL, &i, &err), want);
    assert_null(i);
    if (strstr(err.message, says) == NULL) fail_msg("'%s' lacks '%s'", err.message, says);
}

static void test_no_loader(void **state) {
    (void)state;
    assert_int_equal(setenv("EXO_VULKAN_LOADER", "/nonexistent/libvulkan.so", 1), 0);
    expect_no_instance(EXO_ENOTFOUND, "EXO_VULKAN_LOADER is /nonexistent/libvulkan.so");
    assert_int_equal(setenv("EXO_VULKAN_LOADER", "libm.so.6", 1), 0);
    expect_no_instance(EXO_EUNSUPPORTED, "vkGetInstanceProcAddr");
    assert_int_equal(unsetenv("EXO_VULKAN_LOADER"), 0);
}

static void test_no_driver(void **state) {
    (void)state;
    exo_vk_loader probe;
    if (exo_vk_loader_open(&probe, NULL) != EXO_OK) skip();
    exo_vk_loader_close(&probe);
    assert_int_equal(setenv("VK_ICD_FILENAMES", "/nonexistent/driver.json", 1), 0);
    assert_int_equal(setenv("VK_DRIVER_FILES", "/nonexistent/driver.json", 1), 0);
    expect_no_instance(EXO_ENOTFOUND, "no Vulkan driver");
}

static void test_caps(void **state) {
    exo_vk_instance *i = exo_vk_test_instance(*state);
    bool lavapipe = strcmp(*state, "lavapipe") == 0;
    assert_int_equal(i->n_devices, 1);
    assert_string_equal(i->left_out, "");
    const exo_vk_caps *c = &i->devices[0].caps;
    assert_string_equal(c->vendor_name, lavapipe ? "Mesa" : "Google");
    assert_non_null(strstr(c->name, lavapipe ? "llvmpipe" : "SwiftShader"));
    assert_true(strlen(c->uuid) == 32 && c->driver[0] != '\0');
    assert_true(c->api_version >= VK_API_VERSION_1_1 && c->type == VK_PHYSICAL_DEVICE_TYPE_CPU);
    assert_true(c->n_heaps >= 1 && c->heaps[0].bytes > 0 && c->heaps[0].budget_bytes > 0);
    assert_true(c->unified && c->timeline && !c->mobile && !c->portability);
    assert_int_equal(c->compute_units, 0); /* neither tells */
    assert_true(c->subgroup_size >= 4 && c->subgroup_arithmetic);
    assert_int_equal(c->storage_16bit, lavapipe);
    assert_int_equal(c->f16, lavapipe);
    assert_true(c->max_storage_range >= (uint64_t)128 << 20 && c->max_invocations >= 128);
    assert_true(c->max_allocation_bytes > 0 && c->max_buffer_bytes > 0);
    exo_vk_test_close(i, NULL);
}

static void test_open(void **state) {
    exo_vk_instance *i = exo_vk_test_instance(*state);
    exo_vk_device *d, *second;
    exo_error err;
    assert_int_equal(exo_vk_device_open(i, 1, NULL, &d, &err), EXO_ENOTFOUND);
    assert_null(d);
    assert_non_null(strstr(err.message, "vulkan:1"));
    d = exo_vk_test_open(i, NULL);
    const uint32_t all = EXO_VK_AVOID_TIMELINE | EXO_VK_AVOID_UNIFIED | EXO_VK_AVOID_SUBGROUP |
                         EXO_VK_AVOID_16BIT | EXO_VK_AVOID_DOT_PRODUCT | EXO_VK_AVOID_IMPORT |
                         EXO_VK_AVOID_BUDGET;
    second = exo_vk_test_open(i, &(exo_vk_open_desc){.avoid = all}); /* both at once */
    const exo_vk_caps *c = &second->caps;
    assert_true(!c->timeline && !c->unified && !c->subgroup_arithmetic && !c->storage_16bit);
    assert_true(!c->f16 && !c->dot_product && !c->cooperative_matrix && !c->has_budget);
    assert_int_equal(c->host_import_alignment, 0);
    assert_true(d->caps.timeline);
    exo_vk_device_close(second);
    exo_vk_device_close(NULL);
    exo_vk_test_close(i, d);
    exo_vk_instance_destroy(NULL);
}

/* Instance and device made with the k-th driver call or heap allocation failing, for every k:
 * an error each time, or a device that works without what failed. */
static void open_with_fault(uint64_t k, bool heap, bool *hit) {
    exo_vk_instance *i = NULL;
    exo_vk_device *d = NULL;
    exo_error err;
    if (heap)
        exo_mem_fail_at(k);
    else
        exo_vk_fail_at(k, VK_ERROR_OUT_OF_HOST_MEMORY);
    exo_status st = exo_vk_instance_create(NULL, &i, &err);
    if (st == EXO_OK && i->n_devices > 0) st = exo_vk_device_open(i, 0, NULL, &d, &err);
    *hit = heap ? exo_mem_failed() : exo_vk_failed();
    exo_mem_fail_at(0);
    exo_vk_fail_at(0, VK_SUCCESS);
    if (st != EXO_OK) assert_true(*hit && err.message[0] != '\0' && d == NULL);
    if (d != NULL) {
        exo_vk_allocation *a;
        uint32_t in = 42, out = 0;
        exo_vk_test_ok(exo_vk_memory_allocate(&d->memory, EXO_VK_MEMORY_DEVICE, 4, &a, &err), &err);
        exo_vk_test_ok(exo_vk_copy_to_device(d->transfer, a, 0, &in, 4, NULL, &err), &err);
        exo_vk_test_ok(exo_vk_copy_from_device(d->transfer, &out, a, 0, 4, &err), &err);
        assert_int_equal(out, 42);
    }
    exo_vk_device_close(d);
    exo_vk_instance_destroy(i);
}

static void test_failures(void **state) {
    exo_vk_instance *pinned = exo_vk_test_instance(*state);
    for (int heap = 0; heap < 2; heap++) {
        bool hit = true;
        uint64_t k = 1;
        for (; hit; k++) open_with_fault(k, heap == 1, &hit);
        assert_true(k > 5);
    }
    exo_vk_test_close(pinned, NULL);
}

static void test_names(void **state) {
    (void)state;
    exo_error err;
    assert_int_equal(exo_vk_vendor_of(0x5143), EXO_VK_VENDOR_QUALCOMM);
    assert_string_equal(exo_vk_vendor_name(exo_vk_vendor_of(0x13B5)), "ARM");
    assert_string_equal(exo_vk_vendor_name(exo_vk_vendor_of(0x144D)), "Samsung");
    assert_string_equal(exo_vk_vendor_name(exo_vk_vendor_of(0x1010)), "Imagination");
    assert_int_equal(exo_vk_vendor_of(0xDEAD), EXO_VK_VENDOR_OTHER);
    assert_string_equal(exo_vk_result_name(VK_ERROR_DEVICE_LOST), "VK_ERROR_DEVICE_LOST");
    assert_int_equal(exo_vk_fail(VK_ERROR_TOO_MANY_OBJECTS, "vkX", &err), EXO_ENOMEM);
    assert_string_equal(err.message, "vkX: VK_ERROR_TOO_MANY_OBJECTS (-10)");
    assert_int_equal(exo_vk_fail((VkResult)-12345, "vkX", NULL), EXO_EIO);
    assert_int_equal(exo_vk_fail(VK_TIMEOUT, "vkX", NULL), EXO_ETIMEDOUT);
    assert_int_equal(exo_vk_fail(VK_ERROR_FEATURE_NOT_PRESENT, "vkX", NULL), EXO_EUNSUPPORTED);
}

int main(int argc, char **argv) {
    cmocka_set_test_filter(argc > 1 ? argv[1] : getenv("EXO_TEST_FILTER"));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),      cmocka_unit_test(test_no_loader),
        cmocka_unit_test(test_no_driver),  EXO_VK_ON_EACH("capabilities", test_caps),
        EXO_VK_ON_EACH("open", test_open), EXO_VK_ON_EACH("failures", test_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
