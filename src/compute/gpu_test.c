/* The public GPU memory API on real (software) drivers, with arguments nobody should give. */
#define _GNU_SOURCE
#include <exo/gpu.h>

#include "base/mem.h"
#include "compute/vulkan/testing.h"

#include <dirent.h>

static exo_gpu *open_both(void) {
    char list[2048], one[1024];
    exo_gpu *g;
    exo_error err = {0};
    size_t n = 0;
    for (int k = 0; k < 2; k++) {
        if (!exo_vk_test_choose(k == 0 ? "lavapipe" : "swiftshader")) continue;
        (void)snprintf(one, sizeof one, "%s", getenv("VK_ICD_FILENAMES"));
        n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", n > 0 ? ":" : "", one);
    }
    if (n == 0) {
        print_message("skipped: no software Vulkan driver (tests/vulkan/icd.sh got none)\n");
        skip();
    }
    assert_int_equal(setenv("VK_ICD_FILENAMES", list, 1), 0);
    assert_int_equal(setenv("VK_DRIVER_FILES", list, 1), 0);
    exo_status st = exo_gpu_create(&g, &err);
    if (st == EXO_ENOTFOUND) {
        print_message("skipped: %s\n", err.message);
        skip();
    }
    exo_vk_test_ok(st, &err);
    (void)dl_iterate_phdr(exo_vk_test_pin, NULL);
    assert_true(exo_gpu_count(g) >= 1);
    return g;
}

static void test_list(void **state) {
    (void)state;
    exo_gpu *g = open_both();
    exo_gpu_info info;
    exo_error err;
    char *json;
    for (uint32_t i = 0; i < exo_gpu_count(g); i++) {
        exo_vk_test_ok(exo_gpu_get_info(g, i, &info, &err), &err);
        assert_true(info.usable && info.bandwidth_gbps > 0 && info.memory_bytes > 0);
        assert_string_equal(info.type, "cpu");
        assert_int_equal(strlen(info.uuid), 32);
    }
    assert_int_equal(exo_gpu_get_info(g, 99, &info, &err), EXO_ENOTFOUND);
    assert_string_equal(info.device_id, "");
    exo_vk_test_ok(exo_gpu_devices_json(g, &json, &err), &err);
    assert_non_null(strstr(json, "\"device_id\":\"vulkan:0\""));
    assert_non_null(strstr(json, exo_gpu_count(g) == 2 ? "\"count\":2" : "\"count\":1"));
    exo_gpu_free_string(json);
    exo_gpu_destroy(g);
    exo_gpu_destroy(NULL);
}

static void fill(uint8_t *p, size_t n, unsigned salt) {
    for (size_t i = 0; i < n; i++) p[i] = (uint8_t)(i * 13 + i / 251 + salt);
}

static void test_copies(void **state) {
    enum { N = 3000000 };
    (void)state;
    exo_gpu *g = open_both();
    uint32_t last = exo_gpu_count(g) - 1;
    exo_gpu_handle a, b, c;
    exo_error err;
    uint8_t *in = malloc(N), *out = calloc(1, N);
    fill(in, N, 1);
    exo_vk_test_ok(exo_gpu_allocate(g, 0, N, &a, &err), &err);
    exo_vk_test_ok(exo_gpu_allocate(g, 0, N, &b, &err), &err);
    exo_vk_test_ok(exo_gpu_allocate(g, last, N, &c, &err), &err); /* another device, if any */
    exo_vk_test_ok(exo_gpu_copy_to_device(g, a, 0, in, N, &err), &err);
    exo_gpu_copy step = {.dst = b, .src = a, .dst_offset = 5, .src_offset = 3, .bytes = N - 5};
    exo_vk_test_ok(exo_gpu_copy_device_to_device(g, &step, &err), &err);
    step = (exo_gpu_copy){.dst = c, .src = b, .dst_offset = 1, .src_offset = 5, .bytes = N - 5};
    exo_vk_test_ok(exo_gpu_copy_device_to_device(g, &step, &err), &err);
    exo_vk_test_ok(exo_gpu_synchronize(g, last, &err), &err);
    exo_vk_test_ok(exo_gpu_copy_from_device(g, out, c, 1, N - 5, &err), &err);
    assert_memory_equal(out, in + 3, N - 5);
    exo_gpu_memory m;
    exo_vk_test_ok(exo_gpu_get_memory(g, 0, &m, &err), &err);
    assert_int_equal(m.n_allocations, last == 0 ? 3 : 2);
    assert_int_equal(m.allocated_bytes, m.n_allocations * N);
    assert_true(m.reserved_bytes >= m.allocated_bytes && m.available_bytes > 0);
    exo_gpu_allocation info;
    exo_vk_test_ok(exo_gpu_get_allocation(g, b, &info, &err), &err);
    assert_true(info.handle == b && info.size == N && info.device == 0 && info.id == 2);
    if (info.mapped != NULL) assert_memory_equal((uint8_t *)info.mapped + 5, in + 3, 100);
    exo_gpu_destroy(g); /* with live allocations */
    free(in);
    free(out);
}

static void test_bad_arguments(void **state) {
    (void)state;
    exo_gpu *g = open_both();
    exo_gpu_handle a, b, h;
    exo_error err;
    exo_gpu_memory m;
    exo_gpu_allocation info;
    uint8_t bytes[100] = {0};
    assert_int_equal(exo_gpu_allocate(g, 17, 10, &h, &err), EXO_ENOTFOUND);
    assert_int_equal(exo_gpu_allocate(g, 0, 0, &h, &err), EXO_EINVAL);
    assert_int_equal(exo_gpu_allocate(g, 0, UINT64_MAX, &h, &err), EXO_ENOMEM);
    assert_int_equal(h, 0);
    assert_int_equal(exo_gpu_get_memory(g, 17, &m, &err), EXO_ENOTFOUND);
    assert_int_equal(exo_gpu_synchronize(g, 17, &err), EXO_ENOTFOUND);
    exo_vk_test_ok(exo_gpu_allocate(g, 0, 100, &a, &err), &err);
    exo_vk_test_ok(exo_gpu_allocate(g, 0, 100, &b, &err), &err);
    assert_int_equal(exo_gpu_copy_to_device(g, a, 1, bytes, 100, &err), EXO_EINVAL);
    assert_int_equal(exo_gpu_copy_to_device(g, a, UINT64_MAX, bytes, 2, &err), EXO_EINVAL);
    assert_int_equal(exo_gpu_copy_to_device(g, a, 0, NULL, 5, &err), EXO_EINVAL);
    assert_int_equal(exo_gpu_copy_from_device(g, bytes, a, 100, 1, &err), EXO_EINVAL);
    assert_int_equal(exo_gpu_copy_from_device(g, NULL, a, 0, 1, &err), EXO_EINVAL);
    assert_int_equal(exo_gpu_copy_from_device(g, NULL, a, 100, 0, &err), EXO_OK);
    exo_gpu_copy bad[] = {{.dst = a, .src = b, .bytes = 101},
                          {.dst = a, .src = b, .dst_offset = 50, .bytes = 51},
                          {.dst = a, .src = b, .src_offset = UINT64_MAX, .bytes = 2},
                          {.dst = a, .src = 12345, .bytes = 1},
                          {.dst = 0, .src = b, .bytes = 1}};
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        assert_int_equal(exo_gpu_copy_device_to_device(g, &bad[k], &err), EXO_EINVAL);
    }
    const exo_gpu_handle wrong[] = {0, UINT64_MAX, 1ull << 32, a + 1000, a + (1ull << 32)};
    for (size_t k = 0; k < sizeof wrong / sizeof wrong[0]; k++) {
        assert_int_equal(exo_gpu_free(g, wrong[k], &err), EXO_EINVAL);
        assert_int_equal(exo_gpu_get_allocation(g, wrong[k], &info, &err), EXO_EINVAL);
        assert_int_equal(exo_gpu_copy_to_device(g, wrong[k], 0, bytes, 1, &err), EXO_EINVAL);
    }
    assert_int_equal(exo_gpu_free(g, a, &err), EXO_OK);
    assert_int_equal(exo_gpu_free(g, a, &err), EXO_EINVAL); /* twice */
    exo_vk_test_ok(exo_gpu_allocate(g, 0, 100, &h, &err), &err);
    assert_true(h != a && h != b); /* the slot is used again, the handle is not */
    assert_int_equal(exo_gpu_copy_to_device(g, a, 0, bytes, 1, &err), EXO_EINVAL);
    exo_gpu_destroy(g);
}

static void test_failures(void **state) {
    (void)state;
    exo_gpu_destroy(open_both()); /* verdicts are cached from here on */
    bool hit = true;
    for (uint64_t k = 1; hit; k++) {
        exo_gpu *g = NULL;
        exo_gpu_handle h = 0;
        exo_error err;
        exo_mem_fail_at(k);
        exo_status st = exo_gpu_create(&g, &err);
        if (st == EXO_OK && exo_gpu_count(g) > 0) st = exo_gpu_allocate(g, 0, 1000, &h, &err);
        hit = exo_mem_failed();
        exo_mem_fail_at(0);
        if (st != EXO_OK) assert_true(hit && h == 0);
        exo_gpu_destroy(g);
    }
}

static void remove_files(const char *dir) {
    char name[600];
    DIR *d = opendir(dir);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        (void)snprintf(name, sizeof name, "%s/%s", dir, e->d_name);
        (void)unlink(name);
    }
    if (d != NULL) (void)closedir(d);
    (void)rmdir(dir);
}

int main(void) {
    char home[] = "/tmp/exo-gpu-XXXXXX", cache[64];
    if (mkdtemp(home) == NULL || setenv("EXO_HOME", home, 1) != 0) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_copies),
        cmocka_unit_test(test_bad_arguments),
        cmocka_unit_test(test_failures),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    (void)snprintf(cache, sizeof cache, "%s/vulkan", home);
    remove_files(cache);
    remove_files(home);
    return rc;
}
