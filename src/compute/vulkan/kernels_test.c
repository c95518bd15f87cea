/* Every kernel in every variant and for every weight type against the reference, at odd sizes.
 *
 * A driver fixes its subgroup size when it is loaded, so each size is a process of its own:
 * LP_NATIVE_VECTOR_WIDTH chooses lavapipe's (cmake/tests.cmake has an entry for 128, 256 and 512
 * bits: subgroups of 4, 8 and 16), SwiftShader's is 4. */
#define _GNU_SOURCE /* dl_iterate_phdr */
#include "compute/vulkan/golden.h"
#include "compute/vulkan/testing.h"
#include "compute/vulkan/weight.h"

static const exo_dtype types[EXO_VK_WEIGHT_TYPES] = {
    EXO_F32,  EXO_F16,  EXO_BF16, EXO_Q4_0, EXO_Q8_0, EXO_Q4_K,   EXO_Q6_K,   EXO_Q4_1,
    EXO_Q5_0, EXO_Q5_1, EXO_Q2_K, EXO_Q3_K, EXO_Q5_K, EXO_IQ4_NL, EXO_IQ4_XS, EXO_MXFP4};
#define N_TYPES (sizeof types / sizeof types[0])

/* For a CPU's layout, where a lane has its rows to itself: how a type is unpacked knows a unit, not
 * a lane, so sizes and types need not be multiplied.  Every type runs at 8 lanes and, on
 * SwiftShader, at 4; lavapipe's 4 and 16 take the plain one, one of each block, and the two
 * k-quants of unlike scales, which are also the types of mixed products and of dot kernels. */
static bool is_tried_at(const exo_device *d, const char *driver, exo_dtype type) {
    if (strcmp(driver, "lavapipe") != 0 || d->vk->caps.subgroup_size == 8) return true;
    return type == EXO_F32 || type == EXO_Q4_0 || type == EXO_Q8_0 || type == EXO_Q4_K ||
           type == EXO_Q6_K || type == EXO_IQ4_NL;
}

typedef void (*device_test)(exo_device *d);

/* One device serves all tests of its driver: what was compiled for one is there for the next. */
static struct {
    const char *driver;
    exo_vk_instance *instance;
    exo_vk_device *vk;
    exo_device *variant[EXO_VK_N_VARIANTS]; /* every kernel in it that has it; NULL = none has */
} opened;

static void close_opened(void) {
    if (opened.driver == NULL) return;
    for (int v = 0; v < EXO_VK_N_VARIANTS; v++) exo_vk_device_unwrap(opened.variant[v]);
    opened.driver = NULL;
    exo_vk_test_close(opened.instance, opened.vk);
}

static int close_last(void **state) {
    (void)state;
    close_opened();
    return 0;
}

static exo_device *open_variant(exo_vk_variant v) {
    exo_device *d;
    exo_error err = {0};
    if (!exo_vk_variant_possible(opened.vk, EXO_VK_KERNEL_attention, v)) return NULL;
    exo_vk_test_ok(exo_vk_device_wrap(opened.vk, &d, &err), &err);
    for (int k = 0; k < EXO_VK_N_KERNELS; k++) {
        if (!exo_vk_variant_possible(opened.vk, (exo_vk_kernel)k, v)) continue;
        exo_vk_shaders_choose(&d->shaders, (exo_vk_kernel)k, v);
    }
    return d;
}

static void open_driver(const char *driver) {
    if (opened.driver != NULL && strcmp(opened.driver, driver) == 0) return;
    close_opened();
    opened.instance = exo_vk_test_instance(driver);
    opened.vk = exo_vk_test_open(opened.instance, NULL);
    opened.driver = driver;
    for (int v = 0; v < EXO_VK_N_VARIANTS; v++) opened.variant[v] = open_variant((exo_vk_variant)v);
}

/* Once with every kernel in each variant that the device can have. */
static void on_variants(const char *driver, device_test test) {
    open_driver(driver);
    for (int v = 0; v < EXO_VK_N_VARIANTS; v++) {
        exo_device *d = opened.variant[v];
        if (d == NULL) continue;
        const exo_vk_shape shape = d->shaders.shape;
        test(d);
        d->shaders.shape = shape;
        for (int t = 0; t < EXO_DTYPE_LIMIT; t++) {
            exo_vk_shaders_use_dot(&d->shaders, (exo_dtype)t, false);
        }
    }
    assert_int_equal(exo_vk_validation_messages(opened.instance), 0);
}

static void check(exo_status st, const exo_error *err, const char *what, uint32_t x, uint32_t y,
                  uint32_t z) {
    if (st != EXO_OK) fail_msg("%s (%u, %u, %u): %s", what, x, y, z, err->message);
}

/* ---- products ---- */

static bool prompt; /* the class of all rows */

static void check_product(exo_device *d, exo_vk_product_case *c) {
    exo_error err = {0};
    c->prompt = prompt;
    check(exo_vk_check_product(d, c, &err), &err, exo_dtype_get(c->type[0])->name, c->n_rows[0],
          c->n_cols, c->n);
}

static void check_shapes(exo_device *d, exo_dtype type) {
    static const uint32_t cols[] = {5, 8, 32, 96, 172, 256, 768};
    static const uint32_t rows[] = {1, 16, 17, 50};
    static const uint32_t n[] = {1, 2, 3, 7, 19};
    for (size_t k = 0; k < sizeof cols / sizeof cols[0]; k++) {
        if (cols[k] % exo_dtype_get(type)->block_elems != 0) continue;
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
            size_t which = (k * 4 + i) % 5;
            exo_vk_product_case c = {.type = {type},
                                     .n_parts = 1,
                                     .n_rows = {rows[i]},
                                     .n_cols = cols[k],
                                     .n = n[which],
                                     .norm = which % 2 == 0,
                                     .bias = i % 2 == 0,
                                     .epilogue = i == 3 ? EXO_EPILOGUE_ADD : EXO_EPILOGUE_STORE,
                                     .seed = cols[k] * 7919 + rows[i]};
            check_product(d, &c);
        }
    }
}

/* Three parts and gate with up, in every number of columns. */
static void check_fusions(exo_device *d, exo_dtype type) {
    for (uint32_t n = 1; n <= 9; n += 2) {
        exo_vk_product_case c = {.type = {type, type, type},
                                 .n_parts = 3,
                                 .n_rows = {35, 8, 61},
                                 .n_cols = 256,
                                 .n = n,
                                 .norm = true,
                                 .bias = n % 4 == 1,
                                 .epilogue = EXO_EPILOGUE_STORE,
                                 .seed = n};
        check_product(d, &c);
        c.n_parts = 2;
        c.n_rows[1] = c.n_rows[0];
        c.epilogue = EXO_EPILOGUE_SILU_MUL;
        check_product(d, &c);
    }
}

static void products(exo_device *d) {
    for (size_t t = 0; t < N_TYPES; t++) {
        if (!is_tried_at(d, opened.driver, types[t])) continue;
        check_shapes(d, types[t]);
        check_fusions(d, types[t]);
    }
}

/* Parts of unlike types share an input, not a dispatch. */
static void mixed_products(exo_device *d) {
    for (uint32_t n = 1; n <= 5; n += 2) {
        exo_vk_product_case c = {.type = {EXO_Q4_K, EXO_Q4_K, EXO_Q6_K},
                                 .n_parts = 3,
                                 .n_rows = {64, 32, 32},
                                 .n_cols = 256,
                                 .n = n,
                                 .norm = true,
                                 .bias = true,
                                 .epilogue = EXO_EPILOGUE_STORE,
                                 .seed = n};
        check_product(d, &c);
        c.type[1] = EXO_Q8_0;
        c.n_parts = 2;
        c.n_rows[1] = 64;
        c.epilogue = EXO_EPILOGUE_SILU_MUL;
        check_product(d, &c);
    }
}

static void test_products(void **state) { on_variants(*state, products); }
static void test_mixed_products(void **state) { on_variants(*state, mixed_products); }

/* ---- products of prompts in int8 ---- */

static const exo_dtype dot_types[] = {EXO_Q4_0, EXO_Q8_0, EXO_Q4_K, EXO_Q6_K};
#define N_DOT_TYPES (sizeof dot_types / sizeof dot_types[0])

static void use_dot(exo_device *d, bool use) {
    for (size_t t = 0; t < N_DOT_TYPES; t++) {
        exo_vk_shaders_use_dot(&d->shaders, dot_types[t], use);
    }
}

static void quantized_rows(exo_device *d) {
    for (size_t t = 0; t < N_DOT_TYPES; t += 2) { /* blocks of 32 and of 256 */
        uint32_t block = exo_dtype_get(dot_types[t])->block_elems;
        for (uint32_t n = 1; n <= 5; n += 4) {
            exo_error err = {0};
            check(exo_vk_check_quantize(d, dot_types[t], n, block * n, &err), &err,
                  exo_dtype_get(dot_types[t])->name, n, block * n, 0);
        }
    }
}

static void dot_products(exo_device *d) {
    prompt = true;
    use_dot(d, true);
    for (size_t t = 0; t < N_DOT_TYPES; t++) {
        check_shapes(d, dot_types[t]);
        check_fusions(d, dot_types[t]);
    }
    mixed_products(d); /* both blocks of inputs in one operation */
    prompt = false;
}

/* With classes, rows of the other one go through the kernels that they always take. */
static void products_beside_dot(exo_device *d) {
    use_dot(d, true);
    mixed_products(d);
}

/* Gives the device the shape of a GPU; false where that is not tried: in the variant of CPUs, at
 * one subgroup size of three, since its 64 lanes are several subgroups of either of the others, and
 * at the larger of these in the variant that knows no subgroups: its pipelines are the same, and
 * the fewer lanes run in step, the sooner a barrier that is missing shows. */
static bool lay_as_a_gpu(exo_device *d) {
    exo_vk_variant v = d->shaders.variant[EXO_VK_KERNEL_attention];
    uint32_t lanes = d->vk->caps.subgroup_size;
    if (v == EXO_VK_TEXEL || lanes == 8 || (v == EXO_VK_SHARED && lanes > 8)) return false;
    d->shaders.shape = exo_vk_shape_of(&d->vk->caps, VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU);
    return true;
}

/* As GPUs lay work over their lanes: lanes that share K, more columns; CPUs do neither. */
static void products_of_a_gpu(exo_device *d) {
    if (!lay_as_a_gpu(d)) return;
    use_dot(d, true);
    prompt = true;
    for (size_t t = 1; t < N_DOT_TYPES; t += 2) { /* Q8_0; Q6_K, which has two scales a unit */
        exo_dtype type = dot_types[t];
        exo_vk_product_case c = {.type = {type, type},
                                 .n_parts = 2,
                                 .n_rows = {77, 77},
                                 .n_cols = 768,
                                 .n = 19,
                                 .norm = true,
                                 .bias = true,
                                 .epilogue = EXO_EPILOGUE_STORE,
                                 .seed = t};
        check_product(d, &c);
        c.epilogue = EXO_EPILOGUE_SILU_MUL;
        check_product(d, &c);
    }
    prompt = false;
}

/* The same for rows that are no prompt's: four lanes to a group of rows, inputs by way of shared
 * memory, with and without a dispatch of its own for the norm's factor. */
static void split_products(exo_device *d) {
    if (!lay_as_a_gpu(d)) return;
    for (size_t t = 0; t < N_TYPES;
         t += t % 4 == 0 ? 1 : 3) { /* half of the types: compiling costs */
        exo_vk_product_case c = {.type = {types[t], types[t]},
                                 .n_parts = 2,
                                 .n_rows = {77, 77},
                                 .n_cols = 768 + 256 * (t % 2),
                                 .n = t % 3 == 0   ? 1
                                      : t % 3 == 1 ? 3
                                                   : 7,
                                 .norm = true,
                                 .bias = true,
                                 .epilogue =
                                     t % 2 == 0 ? EXO_EPILOGUE_SILU_MUL : EXO_EPILOGUE_STORE,
                                 .seed = t};
        check_product(d, &c);
    }
}

static void test_products_of_a_gpu(void **state) { on_variants(*state, products_of_a_gpu); }
static void test_split_products(void **state) { on_variants(*state, split_products); }

static void test_quantized_rows(void **state) { /* one variant */
    open_driver(*state);
    quantized_rows(opened.variant[exo_vk_variant_best(opened.vk, EXO_VK_KERNEL_attention)]);
    assert_int_equal(exo_vk_validation_messages(opened.instance), 0);
}
static void test_dot_products(void **state) { on_variants(*state, dot_products); }
static void test_products_beside_dot(void **state) { on_variants(*state, products_beside_dot); }

/* ---- embedding, rounding ---- */

static void embeddings(exo_device *d) {
    for (size_t t = 0; t < N_TYPES; t++) {
        uint32_t block = exo_dtype_get(types[t])->block_elems;
        for (uint32_t k = 1; k <= 3; k++) {
            exo_vk_embed_case c = {.type = types[t],
                                   .n_rows = 13 * k,
                                   .n_cols = block == 1 ? 29 * k : block * k,
                                   .n = k == 2 ? 1 : 5 * k,
                                   .next_norm = k > 1,
                                   .seed = k};
            exo_error err = {0};
            check(exo_vk_check_embed(d, &c, &err), &err, exo_dtype_get(types[t])->name, c.n_rows,
                  c.n_cols, c.n);
        }
    }
}

static void rounding(exo_device *d) {
    exo_error err = {0};
    for (uint32_t n = 1; n < 5; n++) {
        check(exo_vk_check_round(d, n, 31 * n, &err), &err, "rounding", n, 31 * n, 0);
    }
}

static void test_embeddings(void **state) { on_variants(*state, embeddings); }
static void test_rounding(void **state) { on_variants(*state, rounding); }

/* ---- rope and attention ---- */

static void attention(exo_device *d) {
    static const exo_vk_attention_case cases[] = {
        {1, 1, 8, 8, false, false, EXO_F32, 33, 1, 1},
        {4, 2, 20, 10, true, false, EXO_F32, 70, 7, 2},
        {6, 6, 48, 48, false, true, EXO_F16, 65, 64, 3},
        {8, 2, 64, 64, true, true, EXO_F16, 40, 2, 4},
        {7, 1, 128, 64, true, false, EXO_F32, 35, 5, 5},
        {3, 1, 80, 0, false, false, EXO_F16, 20, 20, 6},
        {2, 1, 256, 256, true, false, EXO_F32, 20, 3, 7},
        /* several splits: at once, one by one */
        {4, 2, 16, 16, false, false, EXO_F32, 600, 150, 8},
        {4, 1, 16, 16, true, false, EXO_F16, 520, 8, 9},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        exo_error err = {0};
        check(exo_vk_check_attention(d, &cases[i], &err), &err, "attention", cases[i].n_heads,
              cases[i].head_dim, cases[i].n_tokens);
    }
}

/* Lanes that share a position, several places along the positions, short splits. */
static void attention_of_a_gpu(exo_device *d) {
    if (!lay_as_a_gpu(d)) return;
    attention(d);
}

static void test_attention(void **state) { on_variants(*state, attention); }
static void test_attention_of_a_gpu(void **state) { on_variants(*state, attention_of_a_gpu); }

int main(int argc, char **argv) {
    cmocka_set_test_filter(argc > 1 ? argv[1] : getenv("EXO_TEST_FILTER"));
    const struct CMUnitTest tests[] = {
        EXO_VK_ON_EACH("products", test_products),
        EXO_VK_ON_EACH("mixed products", test_mixed_products),
        EXO_VK_ON_EACH("quantized rows", test_quantized_rows),
        EXO_VK_ON_EACH("dot products", test_dot_products),
        {"products of a gpu (lavapipe)", test_products_of_a_gpu, NULL, NULL,
         (void *)(uintptr_t) "lavapipe"},
        {"split products (lavapipe)", test_split_products, NULL, NULL,
         (void *)(uintptr_t) "lavapipe"},
        EXO_VK_ON_EACH("products beside dot", test_products_beside_dot),
        EXO_VK_ON_EACH("embeddings", test_embeddings),
        EXO_VK_ON_EACH("rounding", test_rounding),
        EXO_VK_ON_EACH("attention", test_attention),
        {"attention of a gpu (lavapipe)", test_attention_of_a_gpu, NULL, NULL,
         (void *)(uintptr_t) "lavapipe"},
    };
    return cmocka_run_group_tests(tests, NULL, close_last);
}
