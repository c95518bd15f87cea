/* Whole plans: the same bits for every instruction set, number of threads and cut of the steps,
 * and a clear refusal of plans and steps that do not fit. */
#include "base/mem.h"
#include "compute/backend.h"
#include "compute/cpu/kernels.h"
#include "compute/cpu/testing.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

enum { EMBD = 256, HEADS = 4, KV_HEADS = 2, HEAD_DIM = 64, FF = 512, VOCAB = 100, LAYERS = 2 };
enum { MAX_ROWS = 64, MAX_SEQS = 2, SEQ_PAGES = 9, N_PAGES = 18, TOKENS = 270 };
enum { SLOT_X, SLOT_Q, SLOT_K, SLOT_V, SLOT_ATTN, SLOT_FF, N_SLOTS };
enum { W_Q, W_K, W_V, W_O, W_GATE, W_UP, W_DOWN, N_W };
enum { OPS_A_LAYER = 7, N_OPS = 2 + LAYERS * OPS_A_LAYER };

static const exo_backend *const cpu = &exo_backend_cpu;

/* A small transformer whose matrices use every weight type, on one device. */
typedef struct {
    exo_device *device;
    exo_weight *table, *w[LAYERS][N_W];
    exo_buffer *norm, *bias, *k_pages[LAYERS], *v_pages[LAYERS];
    double inv_freq[HEAD_DIM / 2];
    exo_op ops[N_OPS];
    exo_plan *plan;
    uint32_t pages[MAX_SEQS * SEQ_PAGES];
} net;

static exo_weight *make_weight(net *n, test_rng *rng, exo_dtype type, uint32_t rows,
                               uint32_t cols) {
    size_t bytes = rows * exo_dtype_row_bytes(type, cols);
    uint8_t *file = exo_malloc(bytes);
    assert_non_null(file);
    test_weights(rng, type, file, (size_t)rows * cols / exo_dtype_get(type)->block_elems);
    exo_weight *w;
    assert_int_equal(cpu->weight_create(n->device, type, rows, cols, file, &w, NULL), EXO_OK);
    exo_free(file);
    return w;
}

static exo_buffer *make_buffer(net *n, size_t bytes) {
    exo_buffer *b;
    assert_int_equal(cpu->allocate(n->device, bytes, &b, NULL), EXO_OK);
    return b;
}

static exo_buffer *make_vector(net *n, test_rng *rng, float about) {
    float v[FF];
    for (int i = 0; i < FF; i++) v[i] = about + 0.1f * test_float(rng);
    exo_buffer *b = make_buffer(n, sizeof v);
    assert_int_equal(cpu->copy_to_device(n->device, b, 0, v, sizeof v, NULL), EXO_OK);
    return b;
}

static exo_op product(const net *n, uint32_t in, exo_epilogue epilogue, uint32_t n_parts,
                      exo_weight *const *w) {
    exo_op op = {.kind = EXO_OP_MATMUL};
    exo_op_matmul *m = &op.u.matmul;
    m->in = in;
    m->norm = epilogue == EXO_EPILOGUE_ADD ? NULL : n->norm;
    m->norm_eps = 1e-5f;
    m->n_parts = n_parts;
    for (uint32_t i = 0; i < n_parts; i++) m->w[i] = w[i];
    m->epilogue = epilogue;
    return op;
}

static void layer_ops(net *n, int il, exo_op *op) {
    op[0] = product(n, SLOT_X, EXO_EPILOGUE_STORE, 3, n->w[il]);
    for (uint32_t i = 0; i < 3; i++) {
        op[0].u.matmul.out[i] = SLOT_Q + i;
        op[0].u.matmul.bias[i] = il == 0 ? n->bias : NULL;
    }
    op[1] = (exo_op){.kind = EXO_OP_ROPE_KV};
    op[1].u.rope_kv = (exo_op_rope_kv){.q = SLOT_Q,
                                       .k = SLOT_K,
                                       .v = SLOT_V,
                                       .q_norm = il == 1 ? n->norm : NULL,
                                       .k_norm = il == 1 ? n->norm : NULL,
                                       .norm_eps = 1e-6f,
                                       .n_heads = HEADS,
                                       .n_kv_heads = KV_HEADS,
                                       .head_dim = HEAD_DIM,
                                       .rope_dims = HEAD_DIM,
                                       .rope_neox = il == 1,
                                       .rope_inv_freq = n->inv_freq,
                                       .rope_scale = 1,
                                       .k_pages = n->k_pages[il],
                                       .v_pages = n->v_pages[il],
                                       .kv_type = il == 0 ? EXO_F32 : EXO_F16};
    op[2] = (exo_op){.kind = EXO_OP_ATTENTION};
    op[2].u.attention = (exo_op_attention){.q = SLOT_Q,
                                           .out = SLOT_ATTN,
                                           .n_heads = HEADS,
                                           .n_kv_heads = KV_HEADS,
                                           .head_dim = HEAD_DIM,
                                           .scale = 0.125f,
                                           .k_pages = n->k_pages[il],
                                           .v_pages = n->v_pages[il],
                                           .kv_type = il == 0 ? EXO_F32 : EXO_F16};
    op[3] = product(n, SLOT_ATTN, EXO_EPILOGUE_ADD, 1, &n->w[il][W_O]);
    op[3].u.matmul.out[0] = SLOT_X;
    op[4] = product(n, SLOT_X, EXO_EPILOGUE_SILU_MUL, 2, &n->w[il][W_GATE]);
    op[4].u.matmul.out[0] = SLOT_FF;
    op[5] = product(n, SLOT_FF, EXO_EPILOGUE_ADD, 1, &n->w[il][W_DOWN]);
    op[5].u.matmul.out[0] = SLOT_X;
    op[6] = (exo_op){.kind = EXO_OP_ROUND_F16};
    op[6].u.round_slot = SLOT_X;
}

static const uint32_t slot_width[N_SLOTS] = {
    EMBD, HEADS *HEAD_DIM, KV_HEADS *HEAD_DIM, KV_HEADS *HEAD_DIM, HEADS *HEAD_DIM, FF};

static exo_plan_desc plan_desc(const net *n) {
    return (exo_plan_desc){.ops = n->ops,
                           .n_ops = N_OPS,
                           .slot_width = slot_width,
                           .n_slots = N_SLOTS,
                           .max_rows = MAX_ROWS,
                           .max_logit_rows = MAX_ROWS,
                           .max_seqs = MAX_SEQS,
                           .max_seq_pages = SEQ_PAGES};
}

static void make_net(net *n, const char *isa, uint32_t n_threads, bool spin) {
    static const exo_dtype types[LAYERS][N_W] = {
        {EXO_Q4_K, EXO_Q8_0, EXO_F16, EXO_Q6_K, EXO_Q4_0, EXO_Q4_0, EXO_BF16},
        {EXO_Q8_0, EXO_Q8_0, EXO_Q8_0, EXO_F32, EXO_Q4_K, EXO_Q6_K, EXO_Q6_K}};
    static const uint32_t shape[N_W][2] = {{EMBD, EMBD}, {KV_HEADS * HEAD_DIM, EMBD},
                                           {KV_HEADS * HEAD_DIM, EMBD}, {EMBD, EMBD},
                                           {FF, EMBD}, {FF, EMBD}, {EMBD, FF}};
    test_rng rng = {42};
    memset(n, 0, sizeof *n);
    exo_device_desc desc = {.n_threads = n_threads, .isa = isa, .spin = spin};
    assert_int_equal(cpu->open(0, &desc, &n->device, NULL), EXO_OK);
    n->table = make_weight(n, &rng, EXO_Q6_K, VOCAB, EMBD);
    n->norm = make_vector(n, &rng, 1);
    n->bias = make_vector(n, &rng, 0);
    for (int i = 0; i < HEAD_DIM / 2; i++) n->inv_freq[i] = 1.0 / (1 + i * i);
    for (int il = 0; il < LAYERS; il++) {
        size_t bytes = N_PAGES * exo_kv_page_bytes(EXO_F32, KV_HEADS, HEAD_DIM);
        n->k_pages[il] = make_buffer(n, bytes);
        n->v_pages[il] = make_buffer(n, bytes);
        for (int i = 0; i < N_W; i++) {
            n->w[il][i] = make_weight(n, &rng, types[il][i], shape[i][0], shape[i][1]);
        }
        layer_ops(n, il, &n->ops[1 + il * OPS_A_LAYER]);
    }
    n->ops[0] = (exo_op){.kind = EXO_OP_EMBED, .u.embed = {SLOT_X, n->table}};
    n->ops[N_OPS - 1] = (exo_op){.kind = EXO_OP_HEAD,
                                 .u.head = {SLOT_X, n->norm, 1e-5f, n->table}};
    exo_plan_desc pd = plan_desc(n);
    assert_int_equal(cpu->plan_create(n->device, &pd, &n->plan, NULL), EXO_OK);
    for (uint32_t i = 0; i < MAX_SEQS * SEQ_PAGES; i++) n->pages[i] = i * 7 % N_PAGES;
}

static void free_net(net *n) {
    cpu->plan_destroy(n->plan);
    for (int il = 0; il < LAYERS; il++) {
        for (int i = 0; i < N_W; i++) cpu->weight_destroy(n->device, n->w[il][i]);
        cpu->deallocate(n->device, n->k_pages[il]);
        cpu->deallocate(n->device, n->v_pages[il]);
    }
    cpu->weight_destroy(n->device, n->table);
    cpu->deallocate(n->device, n->norm);
    cpu->deallocate(n->device, n->bias);
    cpu->close(n->device);
}

static exo_row row_of(uint32_t seq, uint32_t pos) {
    return (exo_row){seq, pos, (int32_t)((pos * 31 + seq * 17) % VOCAB), EXO_ROW_LOGITS};
}

static float logits[TOKENS][VOCAB]; /* of sequence 0 */

/* Sequence 0 in steps of `chunk` rows; with_other: one row of sequence 1 goes before them. */
static uint64_t run_tokens(net *n, uint32_t chunk, bool with_other, uint32_t tokens) {
    static float out[MAX_ROWS][VOCAB];
    memset(logits, 0, sizeof logits);
    for (uint32_t pos = 0, step = 0; pos < tokens; pos += chunk, step++) {
        exo_row rows[MAX_ROWS];
        uint32_t first = 0, m = tokens - pos < chunk ? tokens - pos : chunk;
        if (with_other) rows[first++] = row_of(1, step);
        for (uint32_t i = 0; i < m; i++) rows[first + i] = row_of(0, pos + i);
        exo_plan_args args = {.rows = rows,
                              .n_rows = first + m,
                              .block_table = n->pages,
                              .logits = &out[0][0]};
        exo_error err;
        if (cpu->plan_run(n->plan, &args, &err) != EXO_OK) fail_msg("%s", err.message);
        memcpy(logits[pos], out[first], m * sizeof logits[0]);
    }
    for (uint32_t i = 0; i < tokens * VOCAB; i++) assert_true(isfinite((&logits[0][0])[i]));
    return test_hash(logits, tokens * sizeof logits[0], 0);
}

static uint64_t hash_with(const char *isa, uint32_t threads, bool spin, uint32_t chunk,
                          bool with_other) {
    net n;
    make_net(&n, isa, threads, spin);
    uint64_t h = run_tokens(&n, chunk, with_other, TOKENS);
    free_net(&n);
    return h;
}

static void test_same_bits(void **state) {
    (void)state;
    uint64_t want = hash_with("reference", 1, false, 60, false);
    assert_true(hash_with("reference", 3, false, 7, true) == want);
    size_t n;
    const exo_cpu_kernels *const *all = exo_kernels_all(&n);
    for (size_t i = 0; i < n; i++) {
        if (!all[i]->runs_here() || all[i] == &exo_kernels_reference) continue;
        const char *isa = all[i]->isa;
        static const uint32_t chunks[] = {1, 2, 3, 7, 17, 33, 60};
        for (size_t c = 0; c < sizeof chunks / sizeof chunks[0]; c++) {
            uint32_t threads = 1 + (uint32_t)c % 3;
            if (hash_with(isa, threads, c % 2 == 0, chunks[c], c % 2 == 1) == want) continue;
            fail_msg("%s with %u threads in steps of %u differs from the reference", isa, threads,
                     chunks[c]);
        }
    }
}

/* A row at a position that was computed before replaces it and leaves what precedes. */
static void test_replay_is_idempotent(void **state) {
    (void)state;
    net n;
    make_net(&n, NULL, 2, true);
    uint64_t want = run_tokens(&n, 17, false, 100);
    assert_true(run_tokens(&n, 5, false, 100) == want);
    free_net(&n);
}

static void test_run_allocates_nothing(void **state) {
    (void)state;
    net n;
    make_net(&n, NULL, 2, false);
    uint64_t before = exo_mem_count();
    (void)run_tokens(&n, 9, true, 40);
    assert_true(exo_mem_count() == before);
    free_net(&n);
}

/* ---- refusals ---- */

static void expect_bad_plan(net *n, const exo_plan_desc *desc, const char *says) {
    exo_plan *p;
    exo_error err;
    assert_int_equal(cpu->plan_create(n->device, desc, &p, &err), EXO_EINVAL);
    assert_null(p);
    if (strstr(err.message, says) == NULL) fail_msg("'%s' lacks '%s'", err.message, says);
}

static void test_bad_plans(void **state) {
    (void)state;
    net n;
    make_net(&n, NULL, 1, false);
    exo_plan_desc d = plan_desc(&n);
    uint32_t width[N_SLOTS];
    exo_op good[N_OPS];
    memcpy(good, n.ops, sizeof good);
#define WITH(change, says)                                                                         \
    do {                                                                                           \
        d = plan_desc(&n);                                                                         \
        memcpy(width, slot_width, sizeof width);                                                   \
        d.slot_width = width;                                                                      \
        change;                                                                                    \
        expect_bad_plan(&n, &d, says);                                                             \
        memcpy(n.ops, good, sizeof good);                                                          \
    } while (0)
    WITH(d.n_ops = 0, "0 operations");
    WITH(d.max_rows = 0, "0 rows");
    WITH(d.max_seqs = 0, "0 sequences");
    WITH(d.max_logit_rows = MAX_ROWS + 1, "with logits");
    WITH(width[SLOT_Q] = 255, "width of an output slot is 255, not 256");
    WITH(width[SLOT_X] = 512, "EMBED");
    WITH(n.ops[0].u.embed.out = N_SLOTS, "slot is out of range");
    WITH(n.ops[1].u.matmul.n_parts = 4, "part count");
    WITH(n.ops[1].u.matmul.w[1] = NULL, "weight is missing");
    WITH(n.ops[1].u.matmul.out[1] = SLOT_V, "same slot");
    WITH(n.ops[4].u.matmul.in = SLOT_X, "input and output are the same slot");
    WITH(n.ops[5].u.matmul.n_parts = 1, "parts is 1, not 2");
    WITH(n.ops[2].u.rope_kv.rope_dims = 63, "rope_dims");
    WITH(n.ops[2].u.rope_kv.rope_inv_freq = NULL, "rope frequencies");
    WITH(n.ops[2].u.rope_kv.n_kv_heads = 3, "do not divide");
    WITH(n.ops[3].u.attention.kv_type = EXO_Q8_0, "KV type");
    WITH(n.ops[3].u.attention.head_dim = 1024, "head_dim");
    WITH(n.ops[3].u.attention.v_pages = NULL, "page pool is missing");
    WITH(n.ops[3].u.attention.v_pages = n.norm, "page pool's size");
    WITH(n.ops[N_OPS - 1].u.head.norm = NULL, "vector is missing");
    WITH(n.ops[1] = n.ops[N_OPS - 1], "not the last");
    WITH(n.ops[7].kind = (exo_op_kind)99, "no such operation");
#undef WITH
    free_net(&n);
}

static void test_bad_steps(void **state) {
    (void)state;
    static float out[MAX_ROWS][VOCAB];
    net n;
    make_net(&n, NULL, 2, false);
    exo_row rows[MAX_ROWS + 1], good[MAX_ROWS + 1];
    for (uint32_t i = 0; i <= MAX_ROWS; i++) good[i] = row_of(0, i);
    uint32_t pages[MAX_SEQS * SEQ_PAGES];
    exo_plan_args args;
    exo_error err;
#define WITH(change, says)                                                                         \
    do {                                                                                           \
        memcpy(rows, good, sizeof rows);                                                           \
        memcpy(pages, n.pages, sizeof pages);                                                      \
        args = (exo_plan_args){                                                                    \
            .rows = rows, .n_rows = 40, .block_table = pages, .logits = &out[0][0]};               \
        change;                                                                                    \
        assert_int_equal(cpu->plan_run(n.plan, &args, &err), EXO_EINVAL);                          \
        if (strstr(err.message, says) == NULL) fail_msg("'%s' lacks '%s'", err.message, says);     \
    } while (0)
    WITH(args.n_rows = 0, "0 rows");
    WITH(args.n_rows = MAX_ROWS + 1, "65 rows");
    WITH(rows[3].seq = MAX_SEQS, "row 3: sequence 2");
    WITH(rows[39].pos = SEQ_PAGES * 32, "row 39: position 288");
    WITH(rows[5].pos = 4, "row 5: position 4");
    WITH(rows[1].token = VOCAB, "row 1: token 100");
    WITH(rows[1].token = -1, "row 1: token -1");
    WITH(pages[1] = N_PAGES * 2, "page 36");
    WITH(args.block_table = NULL, "block table");
    WITH(args.logits = NULL, "logits");
#undef WITH
    free_net(&n);
}

static void test_cancel(void **state) {
    (void)state;
    static float out[MAX_ROWS][VOCAB];
    net n;
    make_net(&n, NULL, 2, true);
    atomic_bool cancel = true;
    exo_row row = row_of(0, 0);
    exo_plan_args args = {
        .rows = &row, .n_rows = 1, .block_table = n.pages, .logits = &out[0][0], .cancel = &cancel};
    assert_int_equal(cpu->plan_run(n.plan, &args, NULL), EXO_ECANCELED);
    atomic_store(&cancel, false);
    assert_int_equal(cpu->plan_run(n.plan, &args, NULL), EXO_OK);
    free_net(&n);
}

/* One matrix alone, rows in and out; an input that is not a number fails the step. */
static void test_not_finite(void **state) {
    (void)state;
    net n;
    make_net(&n, NULL, 2, false);
    exo_op op = product(&n, 0, EXO_EPILOGUE_ADD, 1, &n.w[0][W_O]);
    op.u.matmul.out[0] = 1;
    const uint32_t widths[2] = {EMBD, EMBD};
    exo_plan_desc d = {&op, 1, widths, 2, 4, 0, 1, 1};
    exo_plan *p;
    assert_int_equal(cpu->plan_create(n.device, &d, &p, NULL), EXO_OK);
    static float x[4][EMBD], y[4][EMBD];
    exo_row rows[4];
    for (uint32_t i = 0; i < 4; i++) rows[i] = row_of(0, i);
    exo_error err;
    for (uint32_t n_rows = 1; n_rows <= 4; n_rows += 3) {
        exo_plan_args args = {.rows = rows, .n_rows = n_rows, .x_in = x[0], .x_out = y[0]};
        x[n_rows - 1][77] = NAN;
        assert_int_equal(cpu->plan_run(p, &args, &err), EXO_EINTERNAL);
        assert_string_equal(err.message, "activation is not finite");
        x[n_rows - 1][77] = 1;
        assert_int_equal(cpu->plan_run(p, &args, &err), EXO_OK);
        assert_float_equal(y[n_rows - 1][77], 1, 0);
    }
    cpu->plan_destroy(p);
    free_net(&n);
}

static void test_allocation_failure(void **state) {
    (void)state;
    net n;
    make_net(&n, NULL, 1, false);
    exo_plan_desc d = plan_desc(&n);
    for (uint64_t k = 1;; k++) {
        exo_plan *p;
        exo_mem_fail_at(k);
        exo_status st = cpu->plan_create(n.device, &d, &p, NULL);
        bool failed = exo_mem_failed();
        exo_mem_fail_at(0);
        if (!failed) {
            assert_int_equal(st, EXO_OK);
            cpu->plan_destroy(p);
            break;
        }
        assert_int_equal(st, EXO_ENOMEM);
        assert_null(p);
    }
    free_net(&n);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_replay_is_idempotent),
        cmocka_unit_test(test_run_allocates_nothing),
        cmocka_unit_test(test_bad_plans),
        cmocka_unit_test(test_bad_steps),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_allocation_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
