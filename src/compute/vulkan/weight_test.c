/* Packing gives the file's bytes back, for every type, odd shapes, and matrices of several slabs.
 */
#define _GNU_SOURCE /* dl_iterate_phdr */
#include "compute/vulkan/weight.h"

#include "base/mem.h"
#include "compute/cpu/testing.h"
#include "compute/vulkan/golden.h"
#include "compute/vulkan/testing.h"

static void check_back(exo_vk_device *d, exo_dtype type, uint32_t rows, uint32_t cols,
                       uint32_t slabs) {
    test_rng rng = {(uint64_t)type * 7919 + rows * 31 + cols};
    size_t bytes = rows * exo_dtype_row_bytes(type, cols);
    uint8_t *file = exo_malloc(bytes), *back = exo_calloc(1, bytes);
    for (size_t i = 0; i < bytes; i++) file[i] = (uint8_t)(test_next(&rng) >> 56);
    exo_weight *w;
    exo_error err = {0};
    exo_vk_test_ok(exo_vk_weight_pack(d, type, rows, cols, file, &w, &err), &err);
    assert_int_equal(w->n_slabs, slabs);
    exo_vk_test_ok(exo_vk_weight_unpack(d, w, back, &err), &err);
    if (memcmp(file, back, bytes) != 0) {
        fail_msg("%s (%u, %u) comes back changed", exo_dtype_get(type)->name, rows, cols);
    }
    exo_vk_weight_free(d, w);
    exo_free(file);
    exo_free(back);
}

static void test_comes_back(void **state) {
    exo_vk_instance *i = exo_vk_test_instance(*state);
    exo_vk_device *d = exo_vk_test_open(i, &(exo_vk_open_desc){.avoid = EXO_VK_AVOID_UNIFIED});
    for (size_t t = 0; t < TEST_N_TYPES; t++) {
        if (exo_vk_weight_type(test_types[t]) == EXO_VK_NO_WEIGHT_TYPE) continue;
        uint32_t block = exo_dtype_get(test_types[t])->block_elems;
        check_back(d, test_types[t], 1, block, 1);
        check_back(d, test_types[t], 50, block == 1 ? 37 : 3 * block, 1);
        check_back(d, test_types[t], 4099, 256, 1); /* more than one chunk of packing */
    }
    exo_vk_test_close(i, d);
}

/* With little room in a binding, matrices are cut, and products and embeddings walk the slabs. */
static void test_slabs(void **state) {
    exo_vk_instance *i = exo_vk_test_instance(*state);
    exo_vk_device *d = exo_vk_test_open(i, NULL);
    d->caps.max_storage_range = 1 << 16;
    check_back(d, EXO_F32, 100, 512, 4);
    exo_device *device;
    exo_error err = {0};
    exo_vk_test_ok(exo_vk_device_wrap(d, &device, &err), &err);
    exo_vk_product_case c = {.type = {EXO_F32, EXO_F32, EXO_F32},
                             .n_parts = 3,
                             .n_rows = {70, 33, 100},
                             .n_cols = 512,
                             .n = 3,
                             .norm = true,
                             .bias = true,
                             .epilogue = EXO_EPILOGUE_STORE};
    exo_vk_test_ok(exo_vk_check_product(device, &c, &err), &err);
    c.n_parts = 2;
    c.n_rows[1] = c.n_rows[0];
    c.epilogue = EXO_EPILOGUE_SILU_MUL;
    exo_vk_test_ok(exo_vk_check_product(device, &c, &err), &err);
    exo_vk_embed_case e = {
        .type = EXO_F32, .n_rows = 100, .n_cols = 512, .n = 9, .next_norm = true};
    exo_vk_test_ok(exo_vk_check_embed(device, &e, &err), &err);
    exo_vk_device_unwrap(device);
    exo_vk_test_close(i, d);
}

static void test_refusals(void **state) {
    exo_vk_instance *i = exo_vk_test_instance(*state);
    exo_vk_device *d = exo_vk_test_open(i, NULL);
    uint8_t bytes[64] = {0};
    exo_weight *w;
    exo_error err;
    assert_int_equal(exo_vk_weight_pack(d, EXO_IQ3_S, 1, 256, bytes, &w, &err), EXO_EUNSUPPORTED);
    assert_non_null(strstr(err.message, "iq3_s"));
    assert_int_equal(exo_vk_weight_pack(d, EXO_Q4_0, 1, 33, bytes, &w, &err), EXO_EINVAL);
    assert_int_equal(exo_vk_weight_pack(d, EXO_F32, 0, 33, bytes, &w, &err), EXO_EINVAL);
    assert_null(w);
    exo_vk_test_close(i, d);
}

int main(int argc, char **argv) {
    cmocka_set_test_filter(argc > 1 ? argv[1] : getenv("EXO_TEST_FILTER"));
    const struct CMUnitTest tests[] = {
        EXO_VK_ON_EACH("comes back", test_comes_back),
        EXO_VK_ON_EACH("slabs", test_slabs),
        EXO_VK_ON_EACH("refusals", test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
