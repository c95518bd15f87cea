/* Host points: operations whose kernels are absent go to the CPU and back.  Every such split gives
 * the same bits for every cut of the steps, agrees with the device, records and allocates nothing
 * while it runs, and fails cleanly. */
#define _GNU_SOURCE /* dl_iterate_phdr */
#include "compute/vulkan/golden.h"
#include "compute/vulkan/plan_host.h"
#include "compute/vulkan/testing_plan.h"

/* Absent kernels and how many host points they make of the plan of test_net. */
typedef struct {
    const char *name;
    exo_vk_kernel absent[4];
    uint32_t n_absent;
    uint32_t n_spans;
    double tolerance; /* against the device alone, of the logits' root mean square */
} split;

#define ROUNDED 0.2 /* the CPU rounds inputs of quantised products to int8 */

static const split splits[] = {
    {"rotation", {EXO_VK_KERNEL_rope_kv}, 1, LAYERS, 1e-3},
    {"attention", {EXO_VK_KERNEL_attention}, 1, LAYERS, 1e-3},
    {"embedding", {EXO_VK_KERNEL_embed_q6_k}, 1, 1, 1e-3},
    {"joined splits", {EXO_VK_KERNEL_attention_combine}, 1, 0, 1e-3},
    {"norms", {EXO_VK_KERNEL_rms}, 1, 0, 1e-3},
    {"bf16", {EXO_VK_KERNEL_matmul_bf16}, 1, 1, 1e-3},
    {"q4_0 and f16", {EXO_VK_KERNEL_matmul_q4_0, EXO_VK_KERNEL_matmul_f16}, 2, 2, ROUNDED},
    {"q6_k", {EXO_VK_KERNEL_matmul_q6_k}, 1, 4, ROUNDED},
};

static void expect_near(const float *got, const float *want, size_t n, const split *s) {
    double sum = 0, worst = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)got[i] - (double)want[i]);
        sum += (double)want[i] * (double)want[i];
        if (d > worst) worst = d;
    }
    double rms = sqrt(sum / (double)n);
    if (worst <= s->tolerance * rms) return;
    fail_msg("%s on the CPU: off by %g of a root mean square of %g", s->name, worst, rms);
}

static void set_absent(bench *b, const split *s) {
    for (uint32_t i = 0; i < s->n_absent; i++) b->device->absent[s->absent[i]] = true;
}

static void test_each_split(void **state) {
    enum { N = 60 };
    static float device[N][VOCAB];
    bench b = open_bench_of_plans(*state);
    test_net n;
    test_make_net_on(&n, b.device, test_mixed_types);
    assert_null(n.plan->host);
    (void)test_run_tokens(&n, N, false, N);
    memcpy(device, test_logits, sizeof device);
    test_free_net_on(&n);
    for (size_t i = 0; i < sizeof splits / sizeof splits[0]; i++) {
        const split *s = &splits[i];
        set_absent(&b, s);
        test_make_net_on(&n, b.device, test_mixed_types);
        assert_int_equal(n.plan->host != NULL ? n.plan->host->n_spans : 0, s->n_spans);
        uint64_t want = test_run_tokens(&n, N, false, N);
        expect_near(test_logits[0], device[0], (size_t)N * VOCAB, s);
        if (test_run_tokens(&n, 7, true, N) != want) fail_msg("%s: bits follow the steps", s->name);
        if (test_run_tokens(&n, 1, false, N) != want) fail_msg("%s: one row differs", s->name);
        test_free_net_on(&n);
        memset(b.device->absent, 0, sizeof b.device->absent);
    }
    close_bench(&b);
}

/* All operations on the CPU but roundings, which are exact: its own bits. */
static void test_all_on_the_cpu(void **state) {
    test_net n;
    test_backend = &exo_backend_cpu;
    test_make_net(&n, NULL, 2, false);
    uint64_t want = test_run_tokens(&n, 13, false, TOKENS);
    test_free_net(&n);
    bench b = open_bench_of_plans(*state);
    for (int k = 0; k < EXO_VK_N_KERNELS; k++) {
        b.device->absent[k] = k != EXO_VK_KERNEL_elementwise;
    }
    test_make_net_on(&n, b.device, test_mixed_types);
    assert_int_equal(n.plan->host->n_spans, LAYERS + 1);
    assert_true(test_run_tokens(&n, 13, false, TOKENS) == want);
    assert_true(test_run_tokens(&n, 40, true, TOKENS) == want);
    test_free_net_on(&n);
    close_bench(&b);
}

/* Rows in and rows out, as a stage in the middle of a pipeline has them. */
static void test_a_stage_of_rows(void **state) {
    static float x[4][EMBD], want[4][EMBD], got[4][EMBD];
    bench b = open_bench_of_plans(*state);
    exo_row rows[4];
    for (uint32_t i = 0; i < 4; i++) rows[i] = test_row(0, i);
    for (int i = 0; i < 4 * EMBD; i++) x[i / EMBD][i % EMBD] = (float)(i % 17) * 0.1f - 0.8f;
    for (int absent = 0; absent < 3; absent++) {
        if (absent == 1) b.device->absent[EXO_VK_KERNEL_rope_kv] = true;
        if (absent == 2) b.device->absent[EXO_VK_KERNEL_matmul_q6_k] = true;
        test_net n;
        test_make_net_on(&n, b.device, test_mixed_types);
        exo_plan_desc desc = test_plan_desc(&n);
        exo_plan *p;
        desc.ops += 1;
        desc.n_ops = OPS_A_LAYER;
        test_must(test_backend->plan_create(n.device, &desc, &p, NULL) == EXO_OK);
        exo_plan_args args = {.rows = rows,
                              .n_rows = 4,
                              .block_table = n.pages,
                              .x_in = x[0],
                              .x_out = absent == 0 ? want[0] : got[0]};
        test_must(test_backend->plan_run(p, &args, NULL) == EXO_OK);
        if (absent > 0) {
            split s = {.name = "a stage", .tolerance = absent == 1 ? 2e-3 : ROUNDED};
            expect_near(got[0], want[0], (size_t)4 * EMBD, &s);
        }
        test_backend->plan_destroy(p);
        test_free_net_on(&n);
    }
    close_bench(&b);
}

static void test_steps_only_submit(void **state) {
    bench b = open_bench_of_plans(*state);
    set_absent(&b, &splits[1]);
    test_net n;
    test_make_net_on(&n, b.device, test_mixed_types);
    uint64_t heap = exo_mem_count();
    exo_vk_counters before = b.vk->counters;
    (void)test_run_tokens(&n, 9, true, 40);
    (void)test_run_tokens(&n, 1, false, 10);
    assert_true(exo_mem_count() == heap);
    assert_int_equal(b.vk->counters.allocations, before.allocations);
    assert_int_equal(b.vk->counters.recordings, before.recordings);
    assert_int_equal(b.vk->counters.submits, before.submits + (5 + 10) * (LAYERS + 1));
    test_free_net_on(&n);
    close_bench(&b);
}

/* A type without kernels is kept in the CPU's layout and comes back as it was. */
static void test_weights_of_the_cpu(void **state) {
    enum { ROWS = 19, COLS = 64, BYTES = ROWS * COLS * 4 };
    bench b = open_bench_of_plans(*state);
    static uint8_t file[BYTES], back[BYTES];
    for (int i = 0; i < BYTES; i++) file[i] = (uint8_t)(i * 7);
    b.device->absent[EXO_VK_KERNEL_matmul_f32] = true;
    exo_weight *w;
    exo_error err;
    exo_vk_test_ok(test_backend->weight_create(b.device, EXO_F32, ROWS, COLS, file, &w, &err),
                   &err);
    assert_non_null(w->host);
    assert_true(test_backend->weight_bytes(w) >= BYTES);
    exo_vk_test_ok(test_backend->weight_unpack(b.device, w, back, &err), &err);
    assert_memory_equal(file, back, BYTES);
    test_backend->weight_destroy(b.device, w);
    close_bench(&b);
}

/* What kernels do not take goes to the CPU: heads of 6 elements, and f32 products without theirs.
 */
static void test_golden_problems(void **state) {
    bench b = open_bench_of_plans(*state);
    exo_error err = {0};
    const exo_vk_attention_case heads = {.n_heads = 4,
                                         .n_kv_heads = 2,
                                         .head_dim = 6,
                                         .rope_dims = 6,
                                         .kv_type = EXO_F32,
                                         .n_tokens = 70,
                                         .chunk = 9,
                                         .seed = 3};
    exo_vk_test_ok(exo_vk_check_attention(b.device, &heads, &err), &err);
    const exo_vk_product_case product = {.type = {EXO_F32, EXO_F16, EXO_F32},
                                         .n_parts = 3,
                                         .n_rows = {37, 9, 16},
                                         .n_cols = 96,
                                         .n = 5,
                                         .norm = true,
                                         .bias = true,
                                         .epilogue = EXO_EPILOGUE_STORE,
                                         .seed = 4};
    b.device->absent[EXO_VK_KERNEL_matmul_f32] = true;
    exo_vk_test_ok(exo_vk_check_product(b.device, &product, &err), &err);
    close_bench(&b);
}

/* A layer of experts, which only the CPU knows, behind a product of the device: rows of x become
 * rows of y on the backend of `device`. */
static void run_experts(exo_device *device, float x[4][EMBD], float y[4][EMBD]) {
    enum { EXPERTS = 4, USED = 2, WIDTH = 32 };
    enum { X, SCORES, ROUTE, HIDDEN, OUT, N };
    static const uint32_t width[N] = {EMBD, EXPERTS, 2 * USED, USED * WIDTH, USED * EMBD};
    test_net n = {.device = device};
    test_rng rng = {9};
    exo_weight *router = test_make_weight(&n, &rng, EXO_F32, EXPERTS, EMBD);
    exo_weight *up = test_make_weight(&n, &rng, EXO_F16, EXPERTS * WIDTH, EMBD);
    exo_weight *down = test_make_weight(&n, &rng, EXO_F16, EXPERTS * EMBD, WIDTH);
    exo_buffer *norm = test_make_vector(&n, &rng, 1);
    exo_op ops[] = {
        {.kind = EXO_OP_MATMUL,
         .u.matmul = {.in = X, .norm = norm, .norm_eps = 1e-5f, .n_parts = 1, .w = {router}}},
        {.kind = EXO_OP_ROUTE,
         .u.route = {.in = SCORES, .out = ROUTE, .n_experts = EXPERTS, .n_used = USED}},
        {.kind = EXO_OP_EXPERTS,
         .u.experts = {.in = X, .route = ROUTE, .norm = norm, .norm_eps = 1e-5f}},
        {.kind = EXO_OP_EXPERTS, .u.experts = {.in = HIDDEN, .split = true, .route = ROUTE}},
        {.kind = EXO_OP_MIX,
         .u.mix = {.in = OUT, .route = ROUTE, .out = X, .n_used = USED, .add = true}},
        {.kind = EXO_OP_ROUND_F16, .u.round_slot = X}};
    ops[0].u.matmul.out[0] = SCORES;
    for (int i = 2; i < 4; i++) {
        exo_op_experts *e = &ops[i].u.experts;
        e->n_experts = EXPERTS;
        e->n_used = USED;
        e->n_parts = 1;
        e->w[0] = i == 2 ? up : down;
        e->out = i == 2 ? HIDDEN : OUT;
        e->epilogue = i == 2 ? EXO_EPILOGUE_GELU : EXO_EPILOGUE_STORE;
    }
    const exo_plan_desc desc = {ops, sizeof ops / sizeof ops[0], width, N, 4, 0, 1, 1};
    exo_plan *p;
    exo_error err = {0};
    exo_vk_test_ok(test_backend->plan_create(device, &desc, &p, &err), &err);
    exo_row rows[4];
    for (uint32_t i = 0; i < 4; i++) rows[i] = (exo_row){.pos = i};
    const exo_plan_args args = {.rows = rows, .n_rows = 4, .x_in = x[0], .x_out = y[0]};
    exo_vk_test_ok(test_backend->plan_run(p, &args, &err), &err);
    test_backend->plan_destroy(p);
    test_backend->weight_destroy(device, router);
    test_backend->weight_destroy(device, up);
    test_backend->weight_destroy(device, down);
    test_backend->deallocate(device, norm);
}

static void test_experts(void **state) {
    static float x[4][EMBD], want[4][EMBD], got[4][EMBD];
    exo_device *host;
    exo_error err = {0};
    for (int i = 0; i < 4 * EMBD; i++) x[i / EMBD][i % EMBD] = (float)(i % 23) * 0.1f - 1.1f;
    test_backend = &exo_backend_cpu;
    const exo_device_desc one = {.n_threads = 1};
    exo_vk_test_ok(exo_backend_cpu.open(0, &one, &host, &err), &err);
    run_experts(host, x, want);
    exo_backend_cpu.close(host);
    bench b = open_bench_of_plans(*state);
    run_experts(b.device, x, got);
    const split s = {.name = "experts", .tolerance = 2e-3}; /* f16: a unit in the last place */
    expect_near(got[0], want[0], (size_t)4 * EMBD, &s);
    close_bench(&b);
}

static void test_too_much_for_the_cpu(void **state) {
    bench b = open_bench_of_plans(*state);
    test_net n;
    b.device->absent[EXO_VK_KERNEL_matmul_q6_k] = true;
    test_make_net_on(&n, b.device, test_mixed_types);
    exo_plan_desc desc = test_plan_desc(&n);
    exo_plan *p;
    exo_error err;
    b.device->max_host_percent = 20;
    assert_int_equal(test_backend->plan_create(n.device, &desc, &p, &err), EXO_EUNSUPPORTED);
    assert_null(p);
    if (strstr(err.message, "above all products of q6_K") == NULL) fail_msg("%s", err.message);
    b.device->max_host_percent = 95;
    assert_int_equal(test_backend->plan_create(n.device, &desc, &p, &err), EXO_OK);
    test_backend->plan_destroy(p);
    test_free_net_on(&n);
    close_bench(&b);
}

static void test_creation_failures(void **state) {
    bench b = open_bench_of_plans(*state);
    test_net n;
    set_absent(&b, &splits[6]);
    set_absent(&b, &splits[0]);
    test_make_net_on(&n, b.device, test_mixed_types);
    fail_each_creation(&b, &n);
    test_free_net_on(&n);
    close_bench(&b);
}

static void test_run_failures(void **state) {
    bench b = open_bench_of_plans(*state);
    static float out[MAX_ROWS][VOCAB];
    test_net n;
    set_absent(&b, &splits[0]);
    test_make_net_on(&n, b.device, test_mixed_types);
    /* a submission and a wait for each piece between two host points */
    assert_true(fail_each_call_of_a_step(&n) >= 2 * (LAYERS + 1));
    atomic_bool cancel = true;
    exo_row row = test_row(0, 0);
    exo_plan_args args = {
        .rows = &row, .n_rows = 1, .block_table = n.pages, .logits = out[0], .cancel = &cancel};
    assert_int_equal(test_backend->plan_run(n.plan, &args, NULL), EXO_ECANCELED);
    test_free_net_on(&n);
    close_bench(&b);
}

#define ON_LAVAPIPE(name, test)                                                                    \
    { name " (lavapipe)", test, NULL, NULL, (void *)(uintptr_t) "lavapipe" }

int main(int argc, char **argv) {
    cmocka_set_test_filter(argc > 1 ? argv[1] : getenv("EXO_TEST_FILTER"));
    const struct CMUnitTest tests[] = {
        ON_LAVAPIPE("each split", test_each_split),
        EXO_VK_ON_EACH("all on the CPU", test_all_on_the_cpu),
        ON_LAVAPIPE("a stage of rows", test_a_stage_of_rows),
        ON_LAVAPIPE("steps only submit", test_steps_only_submit),
        EXO_VK_ON_EACH("weights of the CPU", test_weights_of_the_cpu),
        EXO_VK_ON_EACH("golden problems", test_golden_problems),
        EXO_VK_ON_EACH("experts", test_experts),
        ON_LAVAPIPE("too much for the CPU", test_too_much_for_the_cpu),
        ON_LAVAPIPE("creation failures", test_creation_failures),
        ON_LAVAPIPE("run failures", test_run_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
