/* Whole plans on a Vulkan device: the same bits for every cut of the steps, page layout, company
 * and variant of the kernels; nothing recorded or allocated by a step; refusals and failures. */
#define _GNU_SOURCE /* dl_iterate_phdr */
#include "compute/vulkan/testing_plan.h"

/* One device for the tests that leave it as they found it: its pipelines are made once. */
static bench shared;
static const char *shared_driver;

static int close_shared(void **state) {
    (void)state;
    if (shared_driver != NULL) close_bench(&shared);
    shared_driver = NULL;
    return 0;
}

static bench share_bench(const char *driver) {
    if (shared_driver != NULL && strcmp(shared_driver, driver) == 0) return shared;
    (void)close_shared(NULL);
    shared = open_bench_of_plans(driver);
    shared_driver = driver;
    return shared;
}

static void leave_bench(const bench *b) {
    assert_int_equal(exo_vk_validation_messages(b->instance), 0);
}

/* ---- exactness ---- */

/* Sequence 0 in steps of `chunk`, a stage for each of two plans: layer 0, then the rest. */
static uint64_t run_in_two(test_net *n, uint32_t chunk) {
    static float middle[MAX_ROWS][EMBD], out[MAX_ROWS][VOCAB];
    exo_plan_desc desc = test_plan_desc(n);
    exo_plan *first, *second;
    desc.n_ops = 1 + OPS_A_LAYER;
    test_must(test_backend->plan_create(n->device, &desc, &first, NULL) == EXO_OK);
    desc.ops += 1 + OPS_A_LAYER;
    desc.n_ops = N_OPS - 1 - OPS_A_LAYER;
    test_must(test_backend->plan_create(n->device, &desc, &second, NULL) == EXO_OK);
    for (uint32_t pos = 0; pos < TOKENS; pos += chunk) {
        exo_row rows[MAX_ROWS];
        uint32_t m = TOKENS - pos < chunk ? TOKENS - pos : chunk;
        for (uint32_t i = 0; i < m; i++) rows[i] = test_row(0, pos + i);
        exo_plan_args args = {
            .rows = rows, .n_rows = m, .block_table = n->pages, .x_out = middle[0]};
        test_must(test_backend->plan_run(first, &args, NULL) == EXO_OK);
        args.x_in = args.x_out;
        args.x_out = NULL;
        args.logits = out[0];
        test_must(test_backend->plan_run(second, &args, NULL) == EXO_OK);
        memcpy(test_logits[pos], out, m * sizeof out[0]);
    }
    test_backend->plan_destroy(first);
    test_backend->plan_destroy(second);
    return test_hash(test_logits, sizeof test_logits, 0);
}

static void same_bits(exo_device *d) {
    test_net n;
    test_make_net_on(&n, d, test_mixed_types);
    uint64_t want = test_run_tokens(&n, 60, false, TOKENS);
    static const uint32_t chunks[] = {1, 2, 7, 17, 33};
    for (size_t c = 0; c < sizeof chunks / sizeof chunks[0]; c++) {
        if (test_run_tokens(&n, chunks[c], c % 2 == 1, TOKENS) == want) continue;
        fail_msg("steps of %u rows give other bits than steps of 60", chunks[c]);
    }
    for (uint32_t i = 0; i < MAX_SEQS * SEQ_PAGES; i++) n.pages[i] = N_PAGES - 1 - i;
    assert_true(test_run_tokens(&n, 5, true, TOKENS) == want);
    assert_true(run_in_two(&n, 1) == want);
    assert_true(run_in_two(&n, 31) == want);
    test_free_net_on(&n);
}

static void test_same_bits(void **state) {
    bench b = share_bench(*state);
    same_bits(b.device);
    leave_bench(&b);
}

/* Timestamps are put in and read without a message of the validation, and change no bit. */
static void test_profile(void **state) {
    bench b = share_bench(*state);
    uint64_t hash[2];
    for (int on = 0; on < 2; on++) {
        test_net n;
        if (on) assert_int_equal(setenv("EXO_VULKAN_PROFILE", "1", 1), 0);
        test_make_net_on(&n, b.device, test_mixed_types);
        assert_int_equal(unsetenv("EXO_VULKAN_PROFILE"), 0);
        assert_int_equal(n.plan->profile != NULL, on && b.vk->caps.timestamp_ns > 0);
        hash[on] = test_run_tokens(&n, 7, false, 21);
        test_free_net_on(&n);
    }
    assert_true(hash[0] == hash[1]);
    leave_bench(&b);
}

static const exo_dtype one_type[LAYERS][N_W] = {
    {EXO_Q8_0, EXO_Q8_0, EXO_Q8_0, EXO_Q8_0, EXO_Q8_0, EXO_Q8_0, EXO_Q8_0},
    {EXO_Q8_0, EXO_Q8_0, EXO_Q8_0, EXO_Q8_0, EXO_Q8_0, EXO_Q8_0, EXO_Q8_0}};

/* As a GPU lays work over its lanes: compiling that takes a CPU longer, so fewer ways. */
static void test_same_bits_of_a_gpu(void **state) {
    bench b = open_bench_of_plans(*state);
    test_net n;
    b.device->shaders.shape = exo_vk_shape_of(&b.vk->caps, VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU);
    for (int k = 0; k < EXO_VK_N_KERNELS; k++) {
        if (!exo_vk_variant_possible(b.vk, (exo_vk_kernel)k, EXO_VK_SUBGROUP)) continue;
        exo_vk_shaders_choose(&b.device->shaders, (exo_vk_kernel)k, EXO_VK_SUBGROUP);
    }
    test_make_net_on(&n, b.device, one_type);
    uint64_t want = test_run_tokens(&n, 60, false, 100);
    assert_true(test_run_tokens(&n, 3, false, 100) == want);
    assert_true(test_run_tokens(&n, 17, true, 100) == want);
    test_free_net_on(&n);
    close_bench(&b);
}

/* Rows of prompts through dot kernels: a row's bits depend on its class, and still on nothing else
 * of the step: chunk, company (of the other class), pages or cut. */
static void use_all_dot(const bench *b, bool use) {
    for (int t = 0; t < EXO_DTYPE_LIMIT; t++) {
        bool has = exo_vk_dot_kernel((exo_dtype)t) != EXO_VK_N_KERNELS;
        exo_vk_shaders_use_dot(&b->device->shaders, (exo_dtype)t, use && has);
    }
}

/* Rows of prompts through dot kernels: a row's bits depend on its class, and still on nothing else
 * of the step: chunk, company (of the other class), pages or cut. */
static void test_same_bits_in_classes(void **state) {
    bench b = share_bench(*state);
    test_net plain, n;
    test_n_prompt = 101;
    test_make_net_on(&plain, b.device, test_mixed_types);
    assert_false(test_backend->plan_has_classes(plain.plan));
    uint64_t without = test_run_tokens(&plain, 60, false, TOKENS);
    test_free_net_on(&plain);
    use_all_dot(&b, true);
    test_make_net_on(&n, b.device, test_mixed_types);
    assert_true(test_backend->plan_has_classes(n.plan));
    uint64_t want = test_run_tokens(&n, 60, false, TOKENS);
    assert_true(want != without);
    assert_true(test_run_tokens(&n, 1, true, TOKENS) == want);
    assert_true(test_run_tokens(&n, 33, true, TOKENS) == want);
    for (uint32_t i = 0; i < MAX_SEQS * SEQ_PAGES; i++) n.pages[i] = N_PAGES - 1 - i;
    assert_true(test_run_tokens(&n, 7, false, TOKENS) == want);
    assert_true(run_in_two(&n, 31) == want);
    test_n_prompt = 0; /* all of the other class: as on a device without dot kernels */
    assert_true(test_run_tokens(&n, 60, false, TOKENS) == without);
    test_free_net_on(&n);
    use_all_dot(&b, false);
    leave_bench(&b);
}

/* A variant differs from another in speed only. */
static void test_variants_agree(void **state) {
    bench b = open_bench_of_plans(*state);
    uint64_t want = 0;
    for (int v = 0; v < EXO_VK_N_VARIANTS; v++) {
        if (!exo_vk_variant_possible(b.vk, EXO_VK_KERNEL_attention, (exo_vk_variant)v)) continue;
        for (int k = 0; k < EXO_VK_N_KERNELS; k++) {
            if (!exo_vk_variant_possible(b.vk, (exo_vk_kernel)k, (exo_vk_variant)v)) continue;
            exo_vk_shaders_choose(&b.device->shaders, (exo_vk_kernel)k, (exo_vk_variant)v);
        }
        use_all_dot(&b, true);
        test_n_prompt = 40;
        test_net n;
        test_make_net_on(&n, b.device, test_mixed_types);
        uint64_t got = test_run_tokens(&n, 9, false, 60);
        test_n_prompt = 0;
        test_free_net_on(&n);
        if (v > 0 && got != want) {
            fail_msg("%s gives other bits than shared", exo_vk_variant_name((exo_vk_variant)v));
        }
        want = got;
    }
    close_bench(&b);
}

static void test_replay_is_idempotent(void **state) {
    bench b = share_bench(*state);
    test_net n;
    test_make_net_on(&n, b.device, test_mixed_types);
    uint64_t want = test_run_tokens(&n, 17, false, 100);
    assert_true(test_run_tokens(&n, 5, false, 100) == want);
    test_free_net_on(&n);
    leave_bench(&b);
}

/* ---- what a step costs ---- */

static void test_steps_only_submit(void **state) {
    bench b = share_bench(*state);
    test_net n;
    test_make_net_on(&n, b.device, test_mixed_types);
    uint64_t heap = exo_mem_count();
    exo_vk_counters before = b.vk->counters;
    (void)test_run_tokens(&n, 9, true, 40);
    (void)test_run_tokens(&n, 1, false, 10);
    assert_true(exo_mem_count() == heap);
    assert_int_equal(b.vk->counters.allocations, before.allocations);
    assert_int_equal(b.vk->counters.driver_allocations, before.driver_allocations);
    assert_int_equal(b.vk->counters.recordings, before.recordings);
    assert_int_equal(b.vk->counters.submits, before.submits + 5 + 10);
    test_free_net_on(&n);
    leave_bench(&b);
}

/* A layer of like types: q, k and v; rope; attention, joined; o; gate and up; down; and here the
 * rounding of the wire.  At decode the embedding and the head are one each. */
static void test_few_dispatches(void **state) {
    bench b = share_bench(*state);
    exo_dtype types[LAYERS][N_W];
    for (int i = 0; i < LAYERS * N_W; i++) (&types[0][0])[i] = EXO_Q8_0;
    test_net n;
    test_make_net_on(&n, b.device, (const exo_dtype(*)[N_W])types);
    assert_int_equal(n.plan->buckets[0].rows, 1);
    assert_int_equal(n.plan->buckets[0].n_dispatches, 1 + LAYERS * (7 + 1) + 1);
    test_free_net_on(&n);
    leave_bench(&b);
}

/* ---- refusals ---- */

static void expect_refused(test_net *n, const exo_plan_desc *desc, exo_status want,
                           const char *says) {
    exo_plan *p;
    exo_error err;
    assert_int_equal(test_backend->plan_create(n->device, desc, &p, &err), want);
    assert_null(p);
    if (strstr(err.message, says) == NULL) fail_msg("'%s' lacks '%s'", err.message, says);
}

static void test_refusals(void **state) {
    bench b = open_bench_of_plans(*state);
    test_net n;
    test_make_net_on(&n, b.device, test_mixed_types);
    exo_plan_desc desc = test_plan_desc(&n);
    n.ops[1].u.matmul.n_parts = 4;
    expect_refused(&n, &desc, EXO_EINVAL, "part count");
    n.ops[1].u.matmul.n_parts = 3;
    b.vk->caps.max_storage_range = N_PAGES * 32 * 4 - 1;
    expect_refused(&n, &desc, EXO_EUNSUPPORTED, "fewer pages fit");
    desc.ops++;
    desc.n_ops = 1; /* q, k and v */
    expect_refused(&n, &desc, EXO_EUNSUPPORTED, "fewer rows fit");
    test_free_net_on(&n);
    close_bench(&b);
}

static void test_bad_input(void **state) {
    bench b = share_bench(*state);
    static float out[MAX_ROWS][VOCAB], x[4][EMBD];
    test_net n;
    test_make_net_on(&n, b.device, test_mixed_types);
    atomic_bool cancel = true;
    exo_row row = test_row(0, 0), rows[4];
    exo_error err;
    exo_plan_args args = {
        .rows = &row, .n_rows = 1, .block_table = n.pages, .logits = out[0], .cancel = &cancel};
    assert_int_equal(test_backend->plan_run(n.plan, &args, &err), EXO_ECANCELED);
    atomic_store(&cancel, false);
    assert_int_equal(test_backend->plan_run(n.plan, &args, &err), EXO_OK);
    args.n_rows = MAX_ROWS + 1;
    assert_int_equal(test_backend->plan_run(n.plan, &args, &err), EXO_EINVAL);
    /* the second layer and the head, from rows of the host */
    exo_plan_desc desc = test_plan_desc(&n);
    exo_plan *p;
    desc.ops += 1 + OPS_A_LAYER;
    desc.n_ops = N_OPS - 1 - OPS_A_LAYER;
    assert_int_equal(test_backend->plan_create(n.device, &desc, &p, &err), EXO_OK);
    for (uint32_t i = 0; i < 4; i++) rows[i] = test_row(0, i);
    args = (exo_plan_args){
        .rows = rows, .n_rows = 4, .block_table = n.pages, .x_in = x[0], .logits = out[0]};
    x[2][77] = NAN;
    assert_int_equal(test_backend->plan_run(p, &args, &err), EXO_EINTERNAL);
    assert_string_equal(err.message, "activation is not finite");
    x[2][77] = 1e30f; /* its square overflows */
    assert_int_equal(test_backend->plan_run(p, &args, &err), EXO_EINTERNAL);
    x[2][77] = 1;
    assert_int_equal(test_backend->plan_run(p, &args, &err), EXO_OK);
    test_backend->plan_destroy(p);
    test_free_net_on(&n);
    leave_bench(&b);
}

/* ---- failures ---- */

static void test_creation_failures(void **state) {
    bench b = open_bench_of_plans(*state);
    test_net n;
    test_make_net_on(&n, b.device, test_mixed_types);
    fail_each_creation(&b, &n);
    test_free_net_on(&n);
    close_bench(&b);
}

static void test_run_failures(void **state) {
    bench b = share_bench(*state);
    test_net n;
    test_make_net_on(&n, b.device, test_mixed_types);
    assert_true(fail_each_call_of_a_step(&n) > 0);
    test_free_net_on(&n);
    leave_bench(&b);
}

int main(int argc, char **argv) {
    cmocka_set_test_filter(argc > 1 ? argv[1] : getenv("EXO_TEST_FILTER"));
    const struct CMUnitTest tests[] = {
        EXO_VK_ON_EACH("profile", test_profile),
        EXO_VK_ON_EACH("same bits", test_same_bits),
        {"same bits of a gpu (lavapipe)", test_same_bits_of_a_gpu, NULL, NULL,
         (void *)(uintptr_t) "lavapipe"},
        EXO_VK_ON_EACH("same bits in classes", test_same_bits_in_classes),
        EXO_VK_ON_EACH("variants agree", test_variants_agree),
        EXO_VK_ON_EACH("replay is idempotent", test_replay_is_idempotent),
        EXO_VK_ON_EACH("steps only submit", test_steps_only_submit),
        EXO_VK_ON_EACH("few dispatches", test_few_dispatches),
        EXO_VK_ON_EACH("refusals", test_refusals),
        EXO_VK_ON_EACH("bad input", test_bad_input),
        EXO_VK_ON_EACH("creation failures", test_creation_failures),
        EXO_VK_ON_EACH("run failures", test_run_failures),
    };
    return cmocka_run_group_tests(tests, NULL, close_shared);
}
