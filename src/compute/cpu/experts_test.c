/* experts_test.c - choosing experts by hand-made scores, and EXPERTS, MIX, COPY and NORM in a plan
 * against the products of single matrices, bit for bit. */
#include "compute/cpu/reference.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "compute/cpu/testing_net.h"

#define N 4 /* experts */

static bool route(const exo_op_route *o, const float *bias, const float *x, float *out) {
    float scratch[EXO_ROUTE_SCRATCH(8)];
    return exo_ref_route(o, bias, &(exo_route_row){x, out, scratch});
}

static void softmax_weights_are_probabilities(void **state) {
    (void)state;
    const float x[N] = {0, 2, 1, 2};
    float out[4];
    exo_op_route o = {.n_experts = N, .n_used = 2, .gating = EXO_GATING_SOFTMAX};
    assert_true(route(&o, NULL, x, out));
    assert_true(out[0] == 1 && out[1] == 3); /* the lower number wins the tie */
    double sum = 1 + 2 * exp(2) + exp(1);
    assert_true(fabs((double)out[2] - exp(2) / sum) < 1e-6 && out[2] == out[3]);
    o.normalize = true;
    o.scale = 3;
    assert_true(route(&o, NULL, x, out));
    assert_true(out[2] == 1.5f && out[3] == 1.5f);
}

static void the_choice_bias_moves_the_choice_only(void **state) {
    (void)state;
    const float x[N] = {0, 2, 1, -1}, bias[N] = {5, 0, 0, 0};
    float out[4];
    exo_op_route o = {.n_experts = N, .n_used = 2, .gating = EXO_GATING_SIGMOID};
    assert_true(route(&o, bias, x, out));
    assert_true(out[0] == 0 && out[1] == 1);
    assert_true(out[2] == 0.5f); /* sigmoid(0), without the bias */
}

static void softmax_over_the_chosen_sums_to_one(void **state) {
    (void)state;
    const float x[N] = {1, 1, 3, -100};
    float out[6];
    const exo_op_route o = {.n_experts = N, .n_used = 3, .gating = EXO_GATING_SOFTMAX_CHOSEN};
    assert_true(route(&o, NULL, x, out));
    assert_true(out[0] == 2 && out[1] == 0 && out[2] == 1);
    assert_true(fabs((double)out[3] + (double)out[4] + (double)out[5] - 1) < 1e-6);
    assert_true(out[4] == out[5]);
}

/* The best expert of all sits in a group whose two best are the worse sum. */
static void groups_go_by_their_two_best(void **state) {
    (void)state;
    const float x[6] = {4, -9, 3, 3, 2.5f, 2};
    float out[4];
    const exo_op_route o = {.n_experts = 6,
                            .n_used = 2,
                            .gating = EXO_GATING_SOFTMAX_CHOSEN,
                            .n_groups = 3,
                            .n_groups_used = 1};
    assert_true(route(&o, NULL, x, out));
    assert_true(out[0] == 2 && out[1] == 3);
}

static void scores_that_are_no_numbers_fail(void **state) {
    (void)state;
    float x[N] = {0, 1, NAN, 3}, out[4];
    const exo_op_route o = {.n_experts = N, .n_used = 2};
    assert_false(route(&o, NULL, x, out));
    x[2] = INFINITY;
    assert_false(route(&o, NULL, x, out));
}

/* ---- in a plan ---- */

#define K      64
#define ROWS   32 /* of one expert */
#define N_ROWS 5
#define USED   2

enum { SLOT_IN, SLOT_SCORE, SLOT_CHOICE, SLOT_EACH, SLOT_SUM, N_MY_SLOTS };
static const uint32_t my_widths[N_MY_SLOTS] = {K, N, 2 * USED, USED *ROWS, ROWS};

static exo_device *open_device(const char *isa, uint32_t threads) {
    const exo_device_desc desc = {.n_threads = threads, .isa = isa};
    exo_device *d;
    if (test_backend->open(0, &desc, &d, NULL) != EXO_OK) return NULL;
    return d;
}

static exo_weight *make_weight(exo_device *d, exo_dtype type, const uint8_t *bytes, uint32_t rows) {
    exo_weight *w;
    test_must(test_backend->weight_create(d, type, rows, K, bytes, &w, NULL) == EXO_OK);
    return w;
}

/* x and y: (N_ROWS, K), slot 0 before and after the operations. */
static void run_ops(exo_device *d, const exo_op *ops, size_t n, const float *x, float *y) {
    exo_row rows[N_ROWS];
    exo_plan *p;
    exo_error err = {0};
    const exo_plan_desc desc = {.ops = ops,
                                .n_ops = n,
                                .slot_width = my_widths,
                                .n_slots = N_MY_SLOTS,
                                .max_rows = N_ROWS,
                                .max_seqs = 1,
                                .max_seq_pages = 1};
    for (uint32_t i = 0; i < N_ROWS; i++) rows[i] = (exo_row){.pos = i};
    exo_status st = test_backend->plan_create(d, &desc, &p, &err);
    if (st != EXO_OK) fail_msg("%s", err.message);
    const exo_plan_args args = {.rows = rows, .n_rows = N_ROWS, .x_in = x, .x_out = y};
    st = test_backend->plan_run(p, &args, &err);
    if (st != EXO_OK) fail_msg("%s", err.message);
    test_backend->plan_destroy(p);
}

/* The sum becomes the first ROWS elements of slot 0. */
static exo_op copy_back(void) {
    return (exo_op){.kind = EXO_OP_COPY,
                    .u.copy = {.in = SLOT_SUM, .out = SLOT_IN, .n = 1, .width = ROWS}};
}

/* Every expert's matrix alone, for all rows: (N, N_ROWS, K). */
static void products_alone(exo_device *d, exo_dtype type, const uint8_t *bytes, const float *x,
                           float *out) {
    size_t each = exo_dtype_row_bytes(type, K) * ROWS;
    for (uint32_t e = 0; e < N; e++) {
        exo_weight *w = make_weight(d, type, bytes + e * each, ROWS);
        const exo_op product = {
            .kind = EXO_OP_MATMUL,
            .u.matmul = {.in = SLOT_IN, .n_parts = 1, .w = {w}, .out = {SLOT_SUM}}};
        run_ops(d, (const exo_op[]){product, copy_back()}, 2, x, out + (size_t)e * N_ROWS * K);
        test_backend->weight_destroy(d, w);
    }
}

static void check_experts(const char *isa, uint32_t threads, exo_dtype type) {
    static uint8_t bytes[N * ROWS * K * 4];
    static float x[N_ROWS * K], y[N_ROWS * K], alone[N * N_ROWS * K];
    exo_device *d = open_device(isa, threads);
    test_rng rng = {77};
    if (d == NULL) return;
    test_weights(&rng, type, bytes, N * ROWS * K / exo_dtype_get(type)->block_elems);
    test_floats(&rng, x, N_ROWS * K);
    exo_weight *all = make_weight(d, type, bytes, N * ROWS);
    const exo_op_route r = {
        .in = SLOT_SCORE, .out = SLOT_CHOICE, .n_experts = N, .n_used = USED, .normalize = true};
    const exo_op ops[] = {
        /* the scores are the first elements of x */
        {.kind = EXO_OP_COPY, .u.copy = {.in = SLOT_IN, .out = SLOT_SCORE, .n = 1, .width = N}},
        {.kind = EXO_OP_ROUTE, .u.route = r},
        {.kind = EXO_OP_EXPERTS,
         .u.experts = {.in = SLOT_IN,
                       .route = SLOT_CHOICE,
                       .n_experts = N,
                       .n_used = USED,
                       .n_parts = 1,
                       .w = {all},
                       .out = SLOT_EACH}},
        {.kind = EXO_OP_MIX,
         .u.mix = {.in = SLOT_EACH, .route = SLOT_CHOICE, .out = SLOT_SUM, .n_used = USED}},
        copy_back()};
    run_ops(d, ops, sizeof ops / sizeof *ops, x, y);
    products_alone(d, type, bytes, x, alone);
    for (uint32_t i = 0; i < N_ROWS; i++) {
        float c[2 * USED], scratch[EXO_ROUTE_SCRATCH(N)];
        test_must(exo_ref_route(&r, NULL, &(exo_route_row){x + i * K, c, scratch}));
        for (uint32_t k = 0; k < ROWS; k++) {
            float want = 0;
            for (uint32_t rank = 0; rank < USED; rank++) {
                size_t e = (size_t)c[rank];
                want = fmaf(c[USED + rank], alone[(e * N_ROWS + i) * K + k], want);
            }
            if (y[i * K + k] != want) fail_msg("%s row %u, %u", isa, i, k);
        }
    }
    test_backend->weight_destroy(d, all);
    test_backend->close(d);
}

static void experts_are_products_of_their_matrices(void **state) {
    (void)state;
    static const exo_dtype types[] = {EXO_F32, EXO_F16, EXO_Q8_0, EXO_Q4_0};
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        check_experts("reference", 1, types[t]);
        check_experts("reference", 3, types[t]);
        check_experts(NULL, 2, types[t]);
    }
}

/* ---- norms and copies ---- */

static void norms_add_and_scale(void **state) {
    (void)state;
    static float x[N_ROWS * K], y[N_ROWS * K];
    exo_device *d = open_device(NULL, 2);
    test_rng rng = {5};
    assert_non_null(d);
    test_floats(&rng, x, N_ROWS * K);
    const exo_op add = {.kind = EXO_OP_NORM,
                        .u.norm = {.norm = EXO_NORM_NONE, .scale = 0.5f, .add = true}};
    run_ops(d, &add, 1, x, y);
    for (uint32_t i = 0; i < N_ROWS * K; i++) assert_true(y[i] == x[i] + x[i] * 0.5f);
    test_backend->close(d);
}

static void expect_refused(exo_device *d, const exo_op *op, const char *says) {
    exo_plan *p;
    exo_error err = {0};
    const exo_plan_desc desc = {.ops = op,
                                .n_ops = 1,
                                .slot_width = my_widths,
                                .n_slots = N_MY_SLOTS,
                                .max_rows = 1,
                                .max_seqs = 1,
                                .max_seq_pages = 1};
    assert_int_equal(test_backend->plan_create(d, &desc, &p, &err), EXO_EINVAL);
    if (strstr(err.message, says) == NULL) fail_msg("'%s' lacks '%s'", err.message, says);
}

static void plans_that_do_not_fit_are_refused(void **state) {
    (void)state;
    exo_device *d = open_device(NULL, 1);
    test_rng rng = {1};
    static uint8_t bytes[N * 24 * K * 2];
    assert_non_null(d);
    test_weights(&rng, EXO_Q8_0, bytes, N * 24 * K / 32);
    exo_weight *odd = make_weight(d, EXO_Q8_0, bytes, N * 24);
    exo_op op = {.kind = EXO_OP_EXPERTS,
                 .u.experts = {.route = SLOT_CHOICE,
                               .n_experts = N,
                               .n_used = USED,
                               .n_parts = 1,
                               .w = {odd},
                               .out = SLOT_EACH}};
    expect_refused(d, &op, "multiple of 16");
    op.u.experts.n_used = N + 1;
    expect_refused(d, &op, "chosen experts");
    op.u.experts.n_used = USED;
    op.u.experts.epilogue = EXO_EPILOGUE_SILU_MUL;
    expect_refused(d, &op, "parts is 1, not 2");
    op = (exo_op){.kind = EXO_OP_ROUTE,
                  .u.route = {.in = SLOT_SCORE,
                              .out = SLOT_CHOICE,
                              .n_experts = N,
                              .n_used = USED,
                              .n_groups = 3,
                              .n_groups_used = 1}};
    expect_refused(d, &op, "groups of experts");
    op = (exo_op){.kind = EXO_OP_MIX,
                  .u.mix = {.in = SLOT_EACH, .route = SLOT_SCORE, .out = SLOT_SUM, .n_used = 3}};
    expect_refused(d, &op, "choice's width is 4, not 6");
    op =
        (exo_op){.kind = EXO_OP_COPY,
                 .u.copy = {.in = SLOT_IN, .out = SLOT_SUM, .n = 2, .width = 20, .out_stride = 20}};
    expect_refused(d, &op, "beyond its slot");
    op = (exo_op){.kind = EXO_OP_NORM, .u.norm = {.in = SLOT_IN, .out = SLOT_SUM}};
    expect_refused(d, &op, "output slot's width");
    test_backend->weight_destroy(d, odd);
    test_backend->close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(softmax_weights_are_probabilities),
        cmocka_unit_test(the_choice_bias_moves_the_choice_only),
        cmocka_unit_test(softmax_over_the_chosen_sums_to_one),
        cmocka_unit_test(groups_go_by_their_two_best),
        cmocka_unit_test(scores_that_are_no_numbers_fail),
        cmocka_unit_test(experts_are_products_of_their_matrices),
        cmocka_unit_test(norms_add_and_scale),
        cmocka_unit_test(plans_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
