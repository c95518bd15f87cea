/* Whole plans: the same bits for every instruction set, number of threads and cut of the steps,
 * work that goes to the cores that are free, and a clear refusal of plans and steps that do not
 * fit. */
#define _GNU_SOURCE /* sched_setaffinity, mkdtemp */
#include "base/clock.h"
#include "compute/cpu/kernels.h"
#include "compute/cpu/plan.h"
#include "compute/cpu/testing_net.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __linux__
#include <sched.h>
#include <signal.h>
#endif

#include <cmocka.h>

static uint64_t hash_with(const char *isa, uint32_t threads, bool spin, uint32_t chunk,
                          bool with_other) {
    test_net n;
    test_make_net(&n, isa, threads, spin);
    uint64_t h = test_run_tokens(&n, chunk, with_other, TOKENS);
    test_free_net(&n);
    return h;
}

/* What all must equal; computed once, since it is slow. */
static uint64_t reference_hash(void) {
    static uint64_t hash;
    if (hash == 0) hash = hash_with("reference", 1, false, 60, false);
    return hash;
}

static void test_same_bits(void **state) {
    (void)state;
    uint64_t want = reference_hash();
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
    test_net n;
    test_make_net(&n, NULL, 2, true);
    uint64_t want = test_run_tokens(&n, 17, false, 100);
    assert_true(test_run_tokens(&n, 5, false, 100) == want);
    test_free_net(&n);
}

static void test_run_allocates_nothing(void **state) {
    (void)state;
    test_net n;
    test_make_net(&n, NULL, 2, false);
    uint64_t before = exo_mem_count();
    (void)test_run_tokens(&n, 9, true, 40);
    assert_true(exo_mem_count() == before);
    test_free_net(&n);
}

/* ---- attention over the threads ---- */

enum { END_ROWS = EXO_ATTENTION_ROWS, CONTEXT = SEQ_PAGES * EXO_KV_PAGE_TOKENS };
enum { CONTEXT_SPLITS = (CONTEXT + EXO_ATTN_SPLIT_TOKENS - 1) / EXO_ATTN_SPLIT_TOKENS };

typedef struct {
    uint64_t hash;    /* of the output */
    uint32_t n_items; /* handed out to the threads */
    bool in_parts;    /* the scratch for parts was written */
    bool behind;      /* and what lies behind it */
} attended;

static bool any_set(const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (x[i] != 0) return true;
    }
    return false;
}

/* Runs the last rows of the longest context through a plan that only attends; nothing but parts
 * that do not fit can reach its threads' strips. */
static void attend_once(exo_plan *p, const test_net *n, uint32_t n_rows, attended *out) {
    static float x[END_ROWS][HEADS * HEAD_DIM], y[END_ROWS][HEADS * HEAD_DIM];
    test_rng rng = {5};
    exo_row rows[END_ROWS];
    for (uint32_t i = 0; i < n_rows; i++) rows[i] = test_row(0, CONTEXT - n_rows + i);
    for (uint32_t i = 0; i < n_rows; i++) test_floats(&rng, x[i], HEADS * HEAD_DIM);
    exo_plan_args args = {
        .rows = rows, .n_rows = n_rows, .block_table = n->pages, .x_in = x[0], .x_out = y[0]};
    assert_int_equal(test_backend->plan_run(p, &args, NULL), EXO_OK);
    out->hash = test_hash(p->slots[1], (size_t)n_rows * p->slot_ld[1] * sizeof(float), 0);
    uint32_t n_threads = exo_pool_running(p->device->pool); /* each asks once in vain */
    out->n_items = atomic_load(&p->taken[0]) - n_threads;
    out->in_parts = any_set(p->parts, p->parts_floats);
    for (uint32_t t = 0; t < exo_pool_threads(p->device->pool); t++) {
        for (int i = 0; i < 2; i++) {
            if (any_set(p->threads[t].strip[i], p->strip_floats)) out->behind = true;
        }
    }
}

static attended attend_at_end(uint32_t threads, uint32_t n_rows) {
    test_net n;
    test_rng rng = {3};
    attended out = {0};
    exo_plan *p;
    test_make_net(&n, NULL, threads, false);
    exo_op op = n.ops[3];
    op.u.attention.q = 0;
    op.u.attention.out = 1;
    assert_int_equal(op.u.attention.kv_type, EXO_F32);
    test_floats(&rng, (float *)(void *)n.k_pages[0]->data, n.k_pages[0]->bytes / sizeof(float));
    test_floats(&rng, (float *)(void *)n.v_pages[0]->data, n.v_pages[0]->bytes / sizeof(float));
    const uint32_t widths[2] = {HEADS * HEAD_DIM, HEADS * HEAD_DIM};
    exo_plan_desc d = {&op, 1, widths, 2, END_ROWS, 0, 1, SEQ_PAGES};
    assert_int_equal(test_backend->plan_create(n.device, &d, &p, NULL), EXO_OK);
    attend_once(p, &n, n_rows, &out);
    test_backend->plan_destroy(p);
    test_free_net(&n);
    return out;
}

/* One row has fewer kv heads than keep the threads busy. */
static void test_long_context_is_cut(void **state) {
    (void)state;
    attended one = attend_at_end(1, 1), some = attend_at_end(3, 1);
    assert_int_equal(one.n_items, KV_HEADS);
    assert_int_equal(some.n_items, KV_HEADS * CONTEXT_SPLITS);
    assert_true(some.in_parts);
    assert_false(some.behind);
    assert_true(some.hash == one.hash);
}

/* There is room for the parts of one row at the end of the context. */
static void test_parts_without_room_are_not_made(void **state) {
    (void)state;
    attended one = attend_at_end(1, END_ROWS), some = attend_at_end(3, END_ROWS);
    assert_int_equal(some.n_items, KV_HEADS);
    assert_false(some.in_parts);
    assert_false(some.behind);
    assert_true(some.hash == one.hash);
}

/* ---- cores that differ ---- */

#ifdef __linux__
static void put(const char *dir, const char *name, const char *text) {
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    (void)fputs(text, f);
    (void)fclose(f);
}

/* A folder like /sys that says: each of two cores has a memory node of its own. */
static void make_nodes(char *root, const uint16_t core[2]) {
    char dir[256], text[16];
    assert_non_null(mkdtemp(root));
    static const char *const folders[] = {"", "/system", "/system/node", "/system/node/node0",
                                          "/system/node/node1"};
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        (void)snprintf(dir, sizeof dir, "%s/devices%s", root, folders[i]);
        assert_int_equal(mkdir(dir, 0700), 0);
    }
    (void)snprintf(dir, sizeof dir, "%s/devices/system/node", root);
    put(dir, "online", "0-1\n");
    for (int i = 0; i < 2; i++) {
        (void)snprintf(text, sizeof text, "%u\n", core[i]);
        put(dir, i == 0 ? "node0/cpulist" : "node1/cpulist", text);
    }
}

/* Two cores that this process may use; skips where there are none. */
static void two_cores(uint16_t core[2]) {
    exo_core_map m;
    exo_core_map_read(&m);
    if (exo_cores_pick(&m, 2, core) < 2) {
        print_message("skipped: this process may use one core only\n");
        skip();
    }
}

static void test_same_bits_on_two_nodes(void **state) {
    (void)state;
    char root[] = "/tmp/exo-plan-XXXXXX", command[64];
    uint16_t core[2];
    two_cores(core);
    uint64_t want = reference_hash();
    make_nodes(root, core);
    assert_int_equal(setenv("EXO_SYSFS", root, 1), 0);
    assert_int_equal(setenv("EXO_NUMA", "1", 1), 0);
    for (uint32_t threads = 2; threads <= 3; threads++) {
        assert_true(hash_with(NULL, threads, true, threads == 2 ? 33 : 3, true) == want);
    }
    test_net n;
    test_make_net(&n, NULL, 2, false);
    assert_int_equal(exo_pool_split(n.device->pool)->n, 2);
    test_free_net(&n);
    assert_int_equal(unsetenv("EXO_NUMA"), 0);
    assert_int_equal(unsetenv("EXO_SYSFS"), 0);
    (void)snprintf(command, sizeof command, "rm -rf %s", root);
    assert_int_equal(system(command), 0);
}

enum { BIG_ROWS = 8192, BIG_COLS = 1024, NEIGHBOURS = 2, NEIGHBOUR_S = 120 };

static void begin_neighbours(pid_t pid[NEIGHBOURS], uint32_t core) {
    for (int i = 0; i < NEIGHBOURS; i++) {
        pid[i] = fork();
        assert_true(pid[i] >= 0);
        if (pid[i] > 0) continue;
        (void)alarm(NEIGHBOUR_S); /* whatever becomes of the test */
        if (!exo_core_bind(core)) _exit(1);
        for (volatile unsigned x = 0;; x++) continue;
    }
}

/* Runs 64 rows through the product until the first thread takes twice as many items of a step as
 * the second. */
static bool first_does_most(const test_net *n, exo_plan *p, uint32_t n_cols, uint64_t limit_ms) {
    static float x[MAX_ROWS][BIG_COLS], y[MAX_ROWS][BIG_COLS];
    exo_row rows[MAX_ROWS];
    for (uint32_t i = 0; i < MAX_ROWS; i++) {
        rows[i] = test_row(0, i);
        for (uint32_t k = 0; k < n_cols; k++) x[i][k] = (float)(i + k) / 1000;
    }
    exo_plan_args args = {
        .rows = rows, .n_rows = MAX_ROWS, .block_table = n->pages, .x_in = x[0], .x_out = y[0]};
    uint64_t end = exo_now_ms() + limit_ms;
    while (exo_now_ms() < end) {
        uint64_t before[2] = {p->threads[0].n_items, p->threads[1].n_items};
        assert_int_equal(test_backend->plan_run(p, &args, NULL), EXO_OK);
        uint64_t first = p->threads[0].n_items - before[0];
        uint64_t second = p->threads[1].n_items - before[1];
        assert_int_equal(first + second, BIG_ROWS / EXO_GROUP_ROWS / 4);
        if (first >= 2 * second) return true;
    }
    return false;
}

/* Two threads bound to a core each, the second core shared with other processes: the first thread
 * takes most of the items. */
static void test_free_core_does_most(void **state) {
    (void)state;
    uint16_t core[2];
    two_cores(core);
    test_net n;
    test_rng rng = {7};
    pid_t pid[NEIGHBOURS];
    cpu_set_t before;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    assert_int_equal(setenv("EXO_PIN", "1", 1), 0);
    test_make_net(&n, NULL, 2, true);
    assert_int_equal(unsetenv("EXO_PIN"), 0);
    exo_weight *w = test_make_weight(&n, &rng, EXO_Q8_0, BIG_ROWS, BIG_COLS);
    exo_op op = {.kind = EXO_OP_MATMUL};
    op.u.matmul = (exo_op_matmul){.n_parts = 1, .w = {w}, .out = {1}};
    const uint32_t widths[2] = {BIG_COLS, BIG_ROWS};
    exo_plan_desc d = {&op, 1, widths, 2, MAX_ROWS, 0, 1, SEQ_PAGES};
    exo_plan *p;
    assert_int_equal(test_backend->plan_create(n.device, &d, &p, NULL), EXO_OK);
    assert_true(exo_core_bind(core[0]));
    begin_neighbours(pid, core[1]);
    bool found = first_does_most(&n, p, BIG_COLS, 60000);
    for (int i = 0; i < NEIGHBOURS; i++) {
        (void)kill(pid[i], SIGKILL);
        (void)waitpid(pid[i], NULL, 0);
    }
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
    test_backend->plan_destroy(p);
    test_backend->weight_destroy(n.device, w);
    test_free_net(&n);
    assert_true(found);
}
#endif

/* ---- refusals ---- */

static void expect_bad_plan(test_net *n, const exo_plan_desc *desc, const char *says) {
    exo_plan *p;
    exo_error err;
    assert_int_equal(test_backend->plan_create(n->device, desc, &p, &err), EXO_EINVAL);
    assert_null(p);
    if (strstr(err.message, says) == NULL) fail_msg("'%s' lacks '%s'", err.message, says);
}

static void test_bad_plans(void **state) {
    (void)state;
    test_net n;
    test_make_net(&n, NULL, 1, false);
    exo_plan_desc d = test_plan_desc(&n);
    uint32_t width[N_SLOTS];
    exo_op good[N_OPS];
    memcpy(good, n.ops, sizeof good);
#define WITH(change, says)                                                                         \
    do {                                                                                           \
        d = test_plan_desc(&n);                                                                    \
        memcpy(width, test_slot_width, sizeof width);                                              \
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
    WITH(n.ops[3].u.attention.kv_type = EXO_Q4_0, "KV type");
    WITH(n.ops[3].u.attention.head_dim = 1024, "head_dim");
    WITH(n.ops[3].u.attention.v_pages = NULL, "page pool is missing");
    WITH(n.ops[3].u.attention.v_pages = n.norm, "page pool's size");
    WITH(n.ops[N_OPS - 1].u.head.w = NULL, "weight is missing");
    WITH(n.ops[N_OPS - 1].u.head.softcap = -1, "soft cap");
    WITH(n.ops[2].u.rope_kv.rope_offset = 2, "rope_dims");
    WITH(n.ops[3].u.attention.v_dim = 32, "width of the output is 256, not 128");
    WITH(n.ops[1] = n.ops[N_OPS - 1], "not the last");
    WITH(n.ops[7].kind = (exo_op_kind)99, "no such operation");
#undef WITH
    test_free_net(&n);
}

static void test_bad_steps(void **state) {
    (void)state;
    static float out[MAX_ROWS][VOCAB];
    test_net n;
    test_make_net(&n, NULL, 2, false);
    exo_row rows[MAX_ROWS + 1], good[MAX_ROWS + 1];
    for (uint32_t i = 0; i <= MAX_ROWS; i++) good[i] = test_row(0, i);
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
        assert_int_equal(test_backend->plan_run(n.plan, &args, &err), EXO_EINVAL);                 \
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
    test_free_net(&n);
}

static void test_cancel(void **state) {
    (void)state;
    static float out[MAX_ROWS][VOCAB];
    test_net n;
    test_make_net(&n, NULL, 2, true);
    atomic_bool cancel = true;
    exo_row row = test_row(0, 0);
    exo_plan_args args = {
        .rows = &row, .n_rows = 1, .block_table = n.pages, .logits = &out[0][0], .cancel = &cancel};
    assert_int_equal(test_backend->plan_run(n.plan, &args, NULL), EXO_ECANCELED);
    atomic_store(&cancel, false);
    assert_int_equal(test_backend->plan_run(n.plan, &args, NULL), EXO_OK);
    test_free_net(&n);
}

/* One matrix alone, rows in and out; an input that is not a number fails the step. */
static void test_not_finite(void **state) {
    (void)state;
    test_net n;
    test_make_net(&n, NULL, 2, false);
    exo_op op = test_product(&n, 0, EXO_EPILOGUE_ADD, 1, &n.w[0][W_O]);
    op.u.matmul.out[0] = 1;
    const uint32_t widths[2] = {EMBD, EMBD};
    exo_plan_desc d = {&op, 1, widths, 2, 4, 0, 1, 1};
    exo_plan *p;
    assert_int_equal(test_backend->plan_create(n.device, &d, &p, NULL), EXO_OK);
    static float x[4][EMBD], y[4][EMBD];
    exo_row rows[4];
    for (uint32_t i = 0; i < 4; i++) rows[i] = test_row(0, i);
    exo_error err;
    for (uint32_t n_rows = 1; n_rows <= 4; n_rows += 3) {
        exo_plan_args args = {.rows = rows, .n_rows = n_rows, .x_in = x[0], .x_out = y[0]};
        x[n_rows - 1][77] = NAN;
        assert_int_equal(test_backend->plan_run(p, &args, &err), EXO_EINTERNAL);
        assert_string_equal(err.message, "activation is not finite");
        x[n_rows - 1][77] = 1;
        assert_int_equal(test_backend->plan_run(p, &args, &err), EXO_OK);
        assert_float_equal(y[n_rows - 1][77], 1, 0);
    }
    test_backend->plan_destroy(p);
    test_free_net(&n);
}

static void test_allocation_failure(void **state) {
    (void)state;
    test_net n;
    test_make_net(&n, NULL, 1, false);
    exo_plan_desc d = test_plan_desc(&n);
    for (uint64_t k = 1;; k++) {
        exo_plan *p;
        exo_mem_fail_at(k);
        exo_status st = test_backend->plan_create(n.device, &d, &p, NULL);
        bool failed = exo_mem_failed();
        exo_mem_fail_at(0);
        if (!failed) {
            assert_int_equal(st, EXO_OK);
            test_backend->plan_destroy(p);
            break;
        }
        assert_int_equal(st, EXO_ENOMEM);
        assert_null(p);
    }
    test_free_net(&n);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_replay_is_idempotent),
        cmocka_unit_test(test_run_allocates_nothing),
        cmocka_unit_test(test_long_context_is_cut),
        cmocka_unit_test(test_parts_without_room_are_not_made),
#ifdef __linux__
        cmocka_unit_test(test_same_bits_on_two_nodes),
        cmocka_unit_test(test_free_core_does_most),
#endif
        cmocka_unit_test(test_bad_plans),
        cmocka_unit_test(test_bad_steps),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_allocation_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
