/* Asks of rows of logits on the software devices: every vocabulary size, equal logits, all lanes;
 * what is refused, and what cannot be answered. */
#define _GNU_SOURCE /* dl_iterate_phdr */
#include "base/mem.h"
#include "compute/vulkan/golden_head.h"
#include "compute/vulkan/plan.h"
#include "compute/vulkan/testing_bench.h"

#include <math.h>

static void check(bench *b, const exo_vk_head_case *c) {
    exo_error err = {.message = ""};
    exo_status st = exo_vk_check_head(b->device, c, &err);
    if (st != EXO_OK) fail_msg("%u ids, %u asked: %s", c->n_vocab, c->ask.n_ids, err.message);
}

static void test_highest(void **state) {
    bench b = open_bench(*state);
    static const uint32_t sizes[] = {4096, 4097, 5121, 32000, 151936};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        exo_vk_head_case c = {
            .n_vocab = sizes[i], .n = 3, .ask = {.kind = EXO_HEAD_HIGHEST}, .seed = i + 1};
        c.spread = 300; /* few equal ones */
        static const uint32_t asked[] = {1, 40, 64, EXO_HEAD_MAX_ASK};
        for (size_t k = 0; k < sizeof asked / sizeof asked[0]; k++) {
            c.ask.n_ids = asked[k];
            c.ask.total = k % 2 == 1;
            check(&b, &c);
        }
    }
    close_bench(&b);
}

static void test_scores(void **state) {
    bench b = open_bench(*state);
    for (uint64_t seed = 1; seed <= 6; seed++) {
        exo_vk_head_case c = {.n_vocab = seed == 1 ? 32000 : 4999,
                              .n = 2,
                              .ask = {.kind = EXO_HEAD_SCORES,
                                      .n_ids = 16,
                                      .temperature = seed % 3 == 0 ? 0.05f : 0.5f * (float)seed,
                                      .seed = seed << 40 | 7,
                                      .choice = (uint32_t)seed,
                                      .position = 1000},
                              .seed = seed};
        check(&b, &c);
    }
    close_bench(&b);
}

/* Both variants and, on the shared one, workgroups of other sizes. */
static void test_lanes(void **state) {
    bench b = open_bench(*state);
    const uint32_t own = b.device->shaders.shape.lanes;
    for (int v = EXO_VK_SHARED; v <= EXO_VK_SUBGROUP; v++) {
        exo_vk_shaders_choose(&b.device->shaders, EXO_VK_KERNEL_head_top, (exo_vk_variant)v);
        for (uint32_t lanes = 4; v == EXO_VK_SHARED && lanes <= 64; lanes *= 4) {
            exo_vk_shaders_choose(&b.device->shaders, EXO_VK_KERNEL_matmul_f32, EXO_VK_SHARED);
            b.device->shaders.shape.lanes = b.device->shaders.shape.row_lanes = lanes;
            exo_vk_head_case c = {.n_vocab = 20001,
                                  .n = 2,
                                  .ask = {.kind = EXO_HEAD_HIGHEST, .n_ids = 20, .total = true},
                                  .spread = 100,
                                  .seed = lanes};
            check(&b, &c);
            c.n_vocab = 4096; /* as many maxima as are needed, of however few lanes */
            c.ask.n_ids = EXO_HEAD_MAX_ASK;
            check(&b, &c);
        }
        b.device->shaders.shape.lanes = b.device->shaders.shape.row_lanes = own;
    }
    close_bench(&b);
}

/* ---- one plan of a HEAD, for what the golden cases do not reach ---- */

enum { VOCAB = 8192, COLS = 32, ROWS = 4 };

typedef struct {
    exo_weight *w;
    exo_buffer *norm;
    exo_plan *plan;
    float x[ROWS][COLS], weights[VOCAB][COLS];
    exo_row rows[ROWS];
    exo_head_ask asks[ROWS];
    exo_head_top tops[ROWS];
    float logits[ROWS][VOCAB];
    exo_plan_args args;
} head;

static const exo_backend *const vk = &exo_backend_vulkan;

static void make_head(bench *b, head *h, float weight) {
    exo_error err = {0};
    float ones[COLS];
    for (uint32_t i = 0; i < COLS; i++) ones[i] = 1;
    memset(h, 0, sizeof *h);
    for (uint32_t i = 0; i < VOCAB; i++) h->weights[i][0] = weight;
    for (uint32_t i = 0; i < ROWS; i++) {
        h->x[i][0] = 1;
        h->rows[i] = (exo_row){.pos = i, .flags = EXO_ROW_LOGITS};
        h->asks[i] = (exo_head_ask){.kind = EXO_HEAD_HIGHEST, .n_ids = 1};
    }
    exo_vk_test_ok(vk->weight_create(b->device, EXO_F32, VOCAB, COLS, h->weights, &h->w, &err),
                   &err);
    exo_vk_test_ok(vk->allocate(b->device, sizeof ones, &h->norm, &err), &err);
    exo_vk_test_ok(vk->copy_to_device(b->device, h->norm, 0, ones, sizeof ones, &err), &err);
    exo_op op = {.kind = EXO_OP_HEAD, .u.head = {.norm = h->norm, .norm_eps = 1e-6f, .w = h->w}};
    const uint32_t width = COLS;
    const exo_plan_desc desc = {&op, 1, &width, 1, ROWS, ROWS, 1, 1};
    exo_vk_test_ok(vk->plan_create(b->device, &desc, &h->plan, &err), &err);
    static const uint32_t page = 0;
    h->args = (exo_plan_args){.rows = h->rows,
                              .n_rows = ROWS,
                              .block_table = &page,
                              .x_in = h->x[0],
                              .logits = h->logits[0],
                              .asks = h->asks,
                              .tops = h->tops};
}

static void free_head(bench *b, head *h) {
    vk->plan_destroy(h->plan);
    vk->deallocate(b->device, h->norm);
    vk->weight_destroy(b->device, h->w);
}

/* Equal logits all reach the bound: more than there is room for, and the count says so. */
static void test_too_many(void **state) {
    bench b = open_bench(*state);
    static head h;
    make_head(&b, &h, 0.5f);
    assert_int_equal(vk->plan_run(h.plan, &h.args, NULL), EXO_OK);
    for (int i = 0; i < ROWS; i++) assert_int_equal(h.tops[i].n_found, VOCAB);
    free_head(&b, &h);
    close_bench(&b);
}

/* Rows that ask and rows that do not, in one step; nothing is recorded or allocated, and reading
 * rows afterwards is one more submission for all of them. */
static void test_mixed_rows(void **state) {
    bench b = open_bench(*state);
    static head h;
    make_head(&b, &h, 0.25f);
    h.asks[1].kind = EXO_HEAD_LOGITS;
    h.logits[0][5] = h.logits[2][5] = 77;
    exo_vk_counters before = b.vk->counters;
    uint64_t heap = exo_mem_count();
    assert_int_equal(vk->plan_run(h.plan, &h.args, NULL), EXO_OK);
    assert_true(h.logits[0][5] == 77 && h.logits[2][5] == 77); /* not wanted, not read */
    assert_true(h.logits[1][5] == h.tops[0].highest && h.logits[1][5] != 0);
    assert_int_equal(b.vk->counters.submits, before.submits + 1);
    h.asks[1].kind = EXO_HEAD_HIGHEST;
    assert_int_equal(vk->plan_run(h.plan, &h.args, NULL), EXO_OK);
    for (uint32_t i = 0; i < ROWS; i++) {
        assert_int_equal(vk->plan_read_logits(h.plan, i, h.logits[i], NULL), EXO_OK);
        assert_true(h.logits[i][VOCAB - 1] == h.tops[0].highest);
    }
    assert_int_equal(b.vk->counters.submits, before.submits + 3);
    assert_int_equal(b.vk->counters.allocations, before.allocations);
    assert_int_equal(b.vk->counters.recordings, before.recordings);
    assert_true(exo_mem_count() == heap);
    free_head(&b, &h);
    close_bench(&b);
}

static void test_refusals(void **state) {
    bench b = open_bench(*state);
    static head h;
    exo_error err;
    make_head(&b, &h, 1);
    assert_true(vk->plan_takes_asks(h.plan));
    assert_int_equal(vk->plan_read_logits(h.plan, 0, h.logits[0], &err), EXO_EINVAL); /* no step */
    h.asks[2].n_ids = 0;
    assert_int_equal(vk->plan_run(h.plan, &h.args, &err), EXO_EINVAL);
    h.asks[2].n_ids = EXO_HEAD_MAX_ASK + 1;
    assert_int_equal(vk->plan_run(h.plan, &h.args, &err), EXO_EINVAL);
    h.asks[2] = (exo_head_ask){.kind = EXO_HEAD_SCORES, .n_ids = 1};
    assert_int_equal(vk->plan_run(h.plan, &h.args, &err), EXO_EINVAL); /* temperature 0 */
    h.asks[2].temperature = 1;
    assert_int_equal(vk->plan_run(h.plan, &h.args, &err), EXO_OK);
    assert_int_equal(vk->plan_read_logits(h.plan, ROWS, h.logits[0], &err), EXO_EINVAL);
    h.x[3][0] = NAN;
    assert_int_equal(vk->plan_run(h.plan, &h.args, &err), EXO_EINTERNAL);
    assert_string_equal(err.message, "activation is not finite");
    assert_int_equal(vk->plan_read_logits(h.plan, 0, h.logits[0], &err), EXO_EINVAL);
    free_head(&b, &h);
    close_bench(&b);
}

/* A step whose rows run in two passes, each with logits: answers and rows of both are there, also
 * those that the second pass wrote over. */
static void test_two_passes(void **state) {
    bench b = open_bench(*state);
    if (!b.vk->caps.dot_product) {
        print_message("skipped: this device has no integer dot product\n");
        close_bench(&b);
        skip();
    }
    static head h;
    static uint8_t square[COLS * 34];
    static float whole[ROWS][VOCAB], row[VOCAB];
    exo_error err = {0};
    exo_weight *w;
    make_head(&b, &h, 0.25f);
    vk->plan_destroy(h.plan);
    for (size_t i = 0; i < sizeof square; i++)
        square[i] = i % 34 == 1 ? 0x20 : (uint8_t)(i * 7 % 23);
    for (uint32_t i = 0; i < ROWS; i++) h.x[i][3] = (float)i;
    exo_vk_test_ok(vk->weight_create(b.device, EXO_Q8_0, COLS, COLS, square, &w, &err), &err);
    exo_vk_shaders_use_dot(&b.device->shaders, EXO_Q8_0, true);
    const exo_op ops[] = {
        {.kind = EXO_OP_MATMUL, .u.matmul = {.n_parts = 1, .w = {w}, .out = {1}}},
        {.kind = EXO_OP_HEAD, .u.head = {.in = 1, .norm = h.norm, .norm_eps = 1e-6f, .w = h.w}}};
    const uint32_t width[] = {COLS, COLS};
    const exo_plan_desc desc = {ops, 2, width, 2, ROWS, ROWS, 1, 1};
    exo_vk_test_ok(vk->plan_create(b.device, &desc, &h.plan, &err), &err);
    assert_true(vk->plan_has_classes(h.plan));
    h.rows[0].flags = h.rows[1].flags = EXO_ROW_LOGITS | EXO_ROW_PROMPT;
    h.args.asks = NULL;
    exo_vk_test_ok(vk->plan_run(h.plan, &h.args, &err), &err);
    memcpy(whole, h.logits, sizeof whole);
    assert_true(whole[0][0] != whole[1][0] && whole[2][0] != whole[3][0]);
    h.args.asks = h.asks;
    for (int only_first = 0; only_first < 2; only_first++) { /* the second pass without logits */
        uint32_t n = only_first ? 2 : ROWS;
        if (only_first) h.rows[2].flags = h.rows[3].flags = 0;
        exo_vk_test_ok(vk->plan_run(h.plan, &h.args, &err), &err);
        for (uint32_t i = 0; i < n; i++) {
            assert_true(h.tops[i].highest == whole[i][0]);
            exo_vk_test_ok(vk->plan_read_logits(h.plan, i, row, &err), &err);
            assert_memory_equal(row, whole[i], sizeof row);
        }
        assert_int_equal(vk->plan_read_logits(h.plan, n, row, &err), EXO_EINVAL);
    }
    vk->weight_destroy(b.device, w);
    free_head(&b, &h);
    close_bench(&b);
}

int main(int argc, char **argv) {
    cmocka_set_test_filter(argc > 1 ? argv[1] : getenv("EXO_TEST_FILTER"));
    const struct CMUnitTest tests[] = {
        EXO_VK_ON_EACH("highest", test_highest),       EXO_VK_ON_EACH("scores", test_scores),
        EXO_VK_ON_EACH("lanes", test_lanes),           EXO_VK_ON_EACH("too many", test_too_many),
        EXO_VK_ON_EACH("mixed rows", test_mixed_rows), EXO_VK_ON_EACH("refusals", test_refusals),
        EXO_VK_ON_EACH("two passes", test_two_passes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
