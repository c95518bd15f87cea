/* Every kernel of every instruction set this machine runs, against the reference, bit by bit.
 *
 * Tile kernels are not instrumented by sanitizers, so their arrays end at a page that must not
 * be touched. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include "compute/cpu/reference.h"
#include "compute/cpu/testing.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <cmocka.h>

#define MAX_N 66 /* columns: from 64 on every type takes its way for many, if it has one */

/* Every table that runs here; EXO_TEST_ISA: only the one of that name. */
static bool is_tested(const exo_cpu_kernels *k) {
    const char *only = getenv("EXO_TEST_ISA");
    return k->runs_here() && (only == NULL || strcmp(only, k->isa) == 0);
}

/* Calls fn with each of them but the reference; says so when there is none. */
static void each_table(void (*fn)(const exo_cpu_kernels *k)) {
    size_t n, tested = 0;
    const exo_cpu_kernels *const *all = exo_kernels_all(&n);
    for (size_t i = 0; i < n; i++) {
        if (all[i] == &exo_kernels_reference || !is_tested(all[i])) continue;
        fn(all[i]);
        tested++;
    }
    if (tested == 0) {
        print_message("skipped: no vector kernels run on this machine\n");
        skip();
    }
}

static void assert_same(const exo_cpu_kernels *k, const void *a, const void *b, size_t bytes,
                        const char *what, unsigned x, unsigned y) {
    if (memcmp(a, b, bytes) == 0) return;
    fail_msg("%s: %s differs from the reference at (%u, %u)", k->driver, what, x, y);
}

#define GUARD 65536u /* a multiple of any page size */

/* Zeroed memory that ends (up to 15 bytes) at a page without access. */
static void *guarded(size_t bytes) {
    size_t all = (bytes + GUARD - 1) / GUARD * GUARD;
    uint8_t *p =
        mmap(NULL, all + GUARD, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(p != MAP_FAILED);
    assert_int_equal(mprotect(p + all, GUARD, PROT_NONE), 0);
    return p + (all - bytes) / 16 * 16;
}

static void unguard(void *p, size_t bytes) {
    size_t all = (bytes + GUARD - 1) / GUARD * GUARD;
    munmap((uint8_t *)p - (all - bytes) / 16 * 16, all + GUARD);
}

static float *floats(size_t n) { return guarded(n * sizeof(float)); }

/* ---- element operations ---- */

static const uint32_t widths[] = {1, 3, 4, 8, 15, 16, 17, 32, 64, 80, 100, 172, 512, 2049};
#define N_WIDTHS (sizeof widths / sizeof widths[0])

static void check_layer_norm(const exo_cpu_kernels *k, const float *x, const float *y, uint32_t n) {
    static float a[4096], b[4096];
    for (int biased = 0; biased < 2; biased++) {
        const exo_norm_weights w = {y, biased ? x : NULL, 1e-5f};
        assert_true(k->layer_norm(a, x, &w, n));
        assert_true(exo_ref_layer_norm(b, x, &w, n));
        assert_same(k, a, b, sizeof a, "layer_norm", n, (unsigned)biased);
    }
}

/* The n elements as the outputs of three experts. */
static void check_mix(const exo_cpu_kernels *k, const float *x, const float *y, uint32_t n) {
    static float a[4096], b[4096];
    if (n < 3) return;
    for (int add = 0; add < 2; add++) {
        const exo_mix_row m = {x, y, 3, n / 3, add != 0};
        memcpy(a, y, n * sizeof *a);
        memcpy(b, y, n * sizeof *b);
        k->mix(a, &m);
        exo_ref_mix(b, &m);
        assert_same(k, a, b, sizeof a, "mix", n, (unsigned)add);
    }
}

static void check_elements(const exo_cpu_kernels *k) {
    static float x[4096], y[4096], a[4096], b[4096];
    test_rng rng = {1};
    for (size_t i = 0; i < N_WIDTHS; i++) {
        uint32_t n = widths[i];
        test_floats(&rng, x, n);
        test_floats(&rng, y, n);
        memset(a, 0x55, sizeof a);
        memset(b, 0x55, sizeof b);
        assert_true(k->norm(a, x, y, n, 1e-5f));
        assert_true(exo_ref_norm(b, x, y, n, 1e-5f));
        assert_same(k, a, b, sizeof a, "norm", n, 0);
        for (uint32_t e = 0; e < n; e++) x[e] *= 40; /* into both ends of exp */
        k->silu_mul(a, x, y, n);
        exo_ref_silu_mul(b, x, y, n);
        assert_same(k, a, b, sizeof a, "silu_mul", n, 0);
        k->gelu_mul(a, x, y, n);
        exo_ref_gelu_mul(b, x, y, n);
        assert_same(k, a, b, sizeof a, "gelu_mul", n, 0);
        k->gelu_mul(a, x, NULL, n);
        exo_ref_gelu_mul(b, x, NULL, n);
        assert_same(k, a, b, sizeof a, "gelu", n, 0);
        k->swiglu_oai(a, x, x, n);
        exo_ref_swiglu_oai(b, x, x, n);
        assert_same(k, a, b, sizeof a, "swiglu_oai", n, 0);
        memcpy(a, x, sizeof a);
        memcpy(b, x, sizeof b);
        k->softcap(a, 30, n);
        exo_ref_softcap(b, 30, n);
        assert_same(k, a, b, sizeof a, "softcap", n, 0);
        check_layer_norm(k, x, y, n);
        check_mix(k, x, y, n);
        for (uint32_t e = 0; e < n; e++) a[e] = b[e] = x[e] * (e % 3 == 0 ? 1e-6f : 1000.0f);
        k->round_f16(a, n);
        exo_ref_round_f16(b, n);
        assert_same(k, a, b, sizeof a, "round_f16", n, 0);
    }
}

static void check_rope(const exo_cpu_kernels *k) {
    static float a[128], b[128], c[64], s[64];
    test_rng rng = {2};
    for (uint32_t dims = 2; dims <= 128; dims += 2) {
        for (int neox = 0; neox < 2; neox++) {
            test_floats(&rng, a, 128);
            memcpy(b, a, sizeof b);
            test_floats(&rng, c, 64);
            test_floats(&rng, s, 64);
            k->rope(a, c, s, dims, neox != 0);
            exo_ref_rope(b, c, s, dims, neox != 0);
            assert_same(k, a, b, sizeof a, "rope", dims, (unsigned)neox);
        }
    }
}

static void check_quantize(const exo_cpu_kernels *k) {
    static float x[2048], d[2][64];
    static int8_t q[2][2048];
    static int32_t sum[2][64];
    static int16_t sums[2][8 * EXO_Q256_SUMS];
    test_rng rng = {3};
    for (uint32_t n = 32; n <= 2048; n *= 2) {
        test_floats(&rng, x, n);
        for (uint32_t i = 0; i < 32; i++) x[i] = (float)i * 0.5f - 8; /* ties */
        memset(q, 0x55, sizeof q);
        assert_true(k->quantize32(x, n, q[0], d[0], sum[0]));
        assert_true(exo_ref_quantize32(x, n, q[1], d[1], sum[1]));
        assert_same(k, q[0], q[1], sizeof q[0], "quantize32 quants", n, 0);
        assert_same(k, d[0], d[1], n / 32 * 4, "quantize32 scales", n, 0);
        assert_same(k, sum[0], sum[1], n / 32 * 4, "quantize32 sums", n, 0);
        if (n < 256) continue;
        assert_true(k->quantize256(x, n, q[0], d[0], sums[0]));
        assert_true(exo_ref_quantize256(x, n, q[1], d[1], sums[1]));
        assert_same(k, q[0], q[1], sizeof q[0], "quantize256 quants", n, 0);
        assert_same(k, d[0], d[1], n / 256 * 4, "quantize256 scales", n, 0);
        assert_same(k, sums[0], sums[1], n / 256 * EXO_Q256_SUMS * 2, "quantize256 sums", n, 0);
    }
}

static void check_not_finite(const exo_cpu_kernels *k) {
    static float x[256], out[256], one[256];
    int8_t q[256];
    float d[8];
    int32_t sum[8];
    int16_t sums[EXO_Q256_SUMS];
    const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 256; i++) one[i] = 1;
    for (size_t i = 0; i < 4; i++) {
        for (int at = 0; at < 256; at += 51) {
            memcpy(x, one, sizeof x);
            x[at] = bad[i];
            assert_false(k->quantize32(x, 256, q, d, sum));
            assert_false(k->quantize256(x, 256, q, d, sums));
            assert_false(k->norm(out, x, one, 256, 1e-5f));
        }
    }
}

static void test_elements(void **state) {
    (void)state;
    each_table(check_elements);
}
static void test_rope(void **state) {
    (void)state;
    each_table(check_rope);
}
static void test_quantize(void **state) {
    (void)state;
    each_table(check_quantize);
}
static void test_not_finite(void **state) {
    (void)state;
    check_not_finite(&exo_kernels_reference);
    each_table(check_not_finite);
}

/* ---- products ---- */

typedef struct {
    float *x, *d;
    int8_t *q;
    int32_t *sum32;
    int16_t *sums;
    exo_act act;
} test_act;

static test_act make_act(test_rng *rng, exo_act_form form, uint32_t n, uint32_t k) {
    test_act a = {0};
    a.act.ld_x = (k + 15) / 16 * 16 + 16;
    a.act.ld_q = k + 64;
    a.act.ld_d = k / 32 + 1;
    a.x = floats(n * a.act.ld_x);
    a.d = floats(n * a.act.ld_d);
    a.q = guarded(n * a.act.ld_q);
    a.sum32 = guarded(n * a.act.ld_d * sizeof *a.sum32);
    a.sums = guarded(n * a.act.ld_d * EXO_Q256_SUMS * sizeof *a.sums);
    for (uint32_t c = 0; c < n; c++) {
        float *x = a.x + c * a.act.ld_x, *d = a.d + c * a.act.ld_d;
        int8_t *q = a.q + c * a.act.ld_q;
        test_floats(rng, x, k);
        if (form == EXO_ACT_Q32) {
            assert_true(exo_ref_quantize32(x, k, q, d, a.sum32 + c * a.act.ld_d));
        } else if (form == EXO_ACT_Q256) {
            int16_t *sums = a.sums + c * a.act.ld_d * EXO_Q256_SUMS;
            assert_true(exo_ref_quantize256(x, k, q, d, sums));
        }
    }
    a.act.x = a.x;
    a.act.q = a.q;
    a.act.d = a.d;
    a.act.sum32 = a.sum32;
    a.act.sums = a.sums;
    return a;
}

static void free_act(test_act *a, uint32_t n) {
    unguard(a->x, n * a->act.ld_x * sizeof(float));
    unguard(a->d, n * a->act.ld_d * sizeof(float));
    unguard(a->q, n * a->act.ld_q);
    unguard(a->sum32, n * a->act.ld_d * sizeof *a->sum32);
    unguard(a->sums, n * a->act.ld_d * EXO_Q256_SUMS * sizeof *a->sums);
}

/* All columns in one task, then column by column in two row ranges: the same bits. */
static void check_product(const exo_cpu_kernels *k, const exo_weight *w, const exo_act *act,
                          uint32_t n, const float *want, float *got) {
    size_t ld = (size_t)w->n_groups * EXO_GROUP_ROWS, bytes = n * ld * sizeof(float);
    memset(got, 0x55, bytes);
    exo_matmul_task t = {w, act, n, 0, w->n_groups, got, ld};
    k->matmul[w->type](&t);
    assert_same(k, got, want, bytes, exo_dtype_get(w->type)->name, n, w->n_cols);
    memset(got, 0x55, bytes);
    for (uint32_t c = 0; c < n; c++) {
        exo_act one = *act;
        one.x += c * act->ld_x;
        one.q += c * act->ld_q;
        one.d += c * act->ld_d;
        one.sum32 += c * act->ld_d;
        one.sums += c * act->ld_d * EXO_Q256_SUMS;
        uint32_t cut = w->n_groups / 2;
        exo_matmul_task low = {w, &one, 1, 0, cut, got + c * ld, ld};
        exo_matmul_task high = {
            w, &one, 1, cut, w->n_groups - cut, got + c * ld + (size_t)cut * EXO_GROUP_ROWS, ld};
        k->matmul[w->type](&low);
        k->matmul[w->type](&high);
    }
    assert_same(k, got, want, bytes, "one column at a time", n, w->n_cols);
}

static void check_shape(exo_pool *pool, exo_dtype type, uint32_t rows, uint32_t cols) {
    static const uint32_t columns[] = {1, 2, 3, 5, 7, 17, 33, 64, 65, MAX_N};
    test_rng rng = {(uint64_t)type * 7919 + rows * 31 + cols};
    size_t bytes = rows * exo_dtype_row_bytes(type, cols);
    uint8_t *file = guarded(bytes);
    test_weights(&rng, type, file, (size_t)rows * cols / exo_dtype_get(type)->block_elems);
    exo_weight *w;
    assert_int_equal(exo_weight_pack(pool, type, rows, cols, file, &w, NULL), EXO_OK);
    size_t ld = (size_t)w->n_groups * EXO_GROUP_ROWS;
    float *want = floats(MAX_N * ld), *got = floats(MAX_N * ld);
    test_act a = make_act(&rng, exo_act_form_of(type), MAX_N, cols);
    exo_matmul_task t = {w, &a.act, MAX_N, 0, w->n_groups, want, ld};
    exo_ref_matmul(&t);
    size_t n;
    const exo_cpu_kernels *const *all = exo_kernels_all(&n);
    for (size_t i = 0; i < n; i++) {
        if (all[i] == &exo_kernels_reference || !is_tested(all[i])) continue;
        for (size_t c = 0; c < sizeof columns / sizeof columns[0]; c++) {
            check_product(all[i], w, &a.act, columns[c], want, got);
        }
    }
    free_act(&a, MAX_N);
    unguard(want, MAX_N * ld * sizeof(float));
    unguard(got, MAX_N * ld * sizeof(float));
    unguard(file, bytes);
    exo_weight_free(w);
}

static void test_matmul(void **state) {
    (void)state;
    static const uint32_t cols[] = {5, 8, 32, 64, 96, 172, 256, 512, 2048};
    static const uint32_t rows[] = {1, 16, 17, 50};
    exo_pool *pool;
    assert_int_equal(exo_pool_create(1, false, &pool, NULL), EXO_OK);
    for (size_t i = 0; i < TEST_N_TYPES; i++) {
        for (size_t c = 0; c < sizeof cols / sizeof cols[0]; c++) {
            if (cols[c] % exo_dtype_get(test_types[i])->block_elems != 0) continue;
            for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
                if (cols[c] == 2048 && rows[r] != 50) continue;
                check_shape(pool, test_types[i], rows[r], cols[c]);
            }
        }
    }
    exo_pool_destroy(pool);
}

/* 16 rows of 512 quants, every byte `fill`, against activations of all +127 and all -127. */
static void check_fill(exo_pool *pool, exo_dtype type, int fill) {
    const exo_dtype_info *info = exo_dtype_get(type);
    test_rng rng = {9};
    uint8_t file[16 * 544];
    memset(file, fill, sizeof file);
    for (size_t b = 0; b < 16 * 512 / info->block_elems; b++) {
        test_put_scales(&rng, type, file + b * info->block_bytes);
    }
    exo_weight *w;
    assert_int_equal(exo_weight_pack(pool, type, 16, 512, file, &w, NULL), EXO_OK);
    test_act a = make_act(&rng, exo_act_form_of(type), MAX_N, 512);
    for (uint32_t c = 0; c < MAX_N; c++) {
        float *x = a.x + c * a.act.ld_x, *d = a.d + c * a.act.ld_d;
        int8_t *q = a.q + c * a.act.ld_q;
        for (uint32_t e = 0; e < 512; e++) x[e] = c % 2 == 0 ? 1 : -1;
        if (exo_act_form_of(type) == EXO_ACT_Q32) {
            (void)exo_ref_quantize32(x, 512, q, d, a.sum32 + c * a.act.ld_d);
        } else {
            (void)exo_ref_quantize256(x, 512, q, d, a.sums + c * a.act.ld_d * EXO_Q256_SUMS);
        }
    }
    static float want[MAX_N * EXO_GROUP_ROWS], got[MAX_N * EXO_GROUP_ROWS];
    exo_matmul_task t = {w, &a.act, MAX_N, 0, 1, want, EXO_GROUP_ROWS};
    exo_ref_matmul(&t);
    size_t n;
    const exo_cpu_kernels *const *all = exo_kernels_all(&n);
    for (size_t k = 0; k < n; k++) {
        if (is_tested(all[k])) check_product(all[k], w, &a.act, MAX_N, want, got);
    }
    free_act(&a, MAX_N);
    exo_weight_free(w);
}

/* The largest sums that the integer steps may meet: no saturation, no overflow. */
static void test_extreme_quants(void **state) {
    (void)state;
    static const int fills[] = {0x00, 0x7F, 0x80, 0xFF, 0x3F, 0xF0, 0x0F};
    exo_pool *pool;
    assert_int_equal(exo_pool_create(1, false, &pool, NULL), EXO_OK);
    for (size_t i = 0; i < TEST_N_TYPES; i++) {
        if (exo_act_form_of(test_types[i]) == EXO_ACT_F32) continue;
        for (size_t f = 0; f < sizeof fills / sizeof fills[0]; f++) {
            check_fill(pool, test_types[i], fills[f]);
        }
    }
    exo_pool_destroy(pool);
}

/* ---- attention ---- */

#define N_PAGES 160

typedef struct {
    uint32_t head_dim, v_dim, n_kv_heads, group;
    exo_dtype type;
    uint32_t window;
    float softcap;
    const float *sinks;
} heads;

/* n pages that do not lie in order. */
static const uint32_t *page_table(uint32_t n) {
    static uint32_t table[N_PAGES];
    for (uint32_t i = 0; i < n; i++) table[i] = (i * 37 + 7) % n;
    return table;
}

/* The task in runs of `step` splits, joined afterwards; 0: in one. */
static void run_task(const exo_cpu_kernels *k, exo_attention_task t, uint32_t step) {
    if (step == 0) {
        k->attention(&t);
        return;
    }
    uint32_t n = t.n_rows * t.group, last = t.pos[t.n_rows - 1] / EXO_ATTN_SPLIT_TOKENS;
    uint32_t seen = t.window > 0 && t.pos[0] >= t.window ? t.pos[0] - t.window + 1 : 0;
    t.parts_first = seen / EXO_ATTN_SPLIT_TOKENS;
    t.ld_parts = last - t.parts_first + 1;
    size_t n_parts = (size_t)n * t.ld_parts * exo_attention_part(t.v_dim);
    t.parts = floats(n_parts);
    t.n_splits = step;
    for (t.split = t.parts_first; t.split <= last; t.split += step) k->attention(&t);
    for (uint32_t i = 0; i < n; i++) k->attention_join(&t, i);
    unguard(t.parts, n_parts * sizeof(float));
}

typedef struct {
    const uint32_t *pos; /* ascending */
    uint32_t n_rows, n_pages;
    uint32_t step; /* splits that are computed together; 0 = all */
} test_rows;

static void run_attention(const exo_cpu_kernels *k, const heads *h, exo_kv_pool *pool,
                          const float *q, float *out, const test_rows *rows) {
    size_t floats_needed = exo_attention_scratch(h->v_dim);
    float *scratch = floats(floats_needed);
    size_t n_heads = (size_t)h->n_kv_heads * h->group;
    for (uint32_t head = 0; head < h->n_kv_heads; head++) {
        exo_attention_task t = {.q = q,
                                .out = out,
                                .ld_q = n_heads * h->head_dim,
                                .ld_out = n_heads * h->v_dim,
                                .pos = rows->pos,
                                .n_rows = rows->n_rows,
                                .kv_head = head,
                                .n_kv_heads = h->n_kv_heads,
                                .group = h->group,
                                .head_dim = h->head_dim,
                                .v_dim = h->v_dim,
                                .scale = 0.125f,
                                .softcap = h->softcap,
                                .window = h->window,
                                .sinks = h->sinks,
                                .k_pages = pool->k_pages,
                                .v_pages = pool->v_pages,
                                .k_page_bytes = pool->k_page_bytes,
                                .v_page_bytes = pool->v_page_bytes,
                                .kv_type = h->type,
                                .table = page_table(rows->n_pages),
                                .scratch = scratch};
        run_task(k, t, rows->step);
    }
    unguard(scratch, floats_needed * sizeof(float));
}

static void fill_pool(const heads *h, exo_kv_pool *pool, uint32_t n_pages, test_rng *rng) {
    uint32_t dim = h->head_dim > h->v_dim ? h->head_dim : h->v_dim;
    size_t width = (size_t)h->n_kv_heads * dim;
    float *kv = floats(width);
    pool->k_pages = guarded(n_pages * pool->k_page_bytes);
    pool->v_pages = guarded(n_pages * pool->v_page_bytes);
    for (uint32_t i = 0; i < n_pages * EXO_KV_PAGE_TOKENS; i++) {
        test_floats(rng, kv, width);
        for (uint32_t head = 0; head < h->n_kv_heads; head++) {
            const float *row = kv + (size_t)head * dim;
            assert_true(exo_ref_kv_store(pool, i / EXO_KV_PAGE_TOKENS, i % EXO_KV_PAGE_TOKENS, head,
                                         row, row));
        }
    }
    unguard(kv, width * sizeof(float));
}

static void fit_pool(const heads *h, exo_kv_pool *pool) {
    *pool = (exo_kv_pool){.k_page_bytes = exo_kv_page_bytes(h->type, h->n_kv_heads, h->head_dim),
                          .v_page_bytes = exo_kv_page_bytes(h->type, h->n_kv_heads, h->v_dim),
                          .head_dim = h->head_dim,
                          .v_dim = h->v_dim,
                          .kv_type = h->type};
}

/* Every table gives the bits of the reference over all splits, whole, cut and in place. */
static void check_heads(const heads *h, const uint32_t *pos, uint32_t n_rows) {
    test_rng rng = {h->head_dim * 101 + h->group};
    size_t n_heads = (size_t)h->n_kv_heads * h->group;
    size_t n_q = n_rows * n_heads * h->head_dim, n_out = n_rows * n_heads * h->v_dim;
    exo_kv_pool pool;
    fit_pool(h, &pool);
    uint32_t n_pages = pos[n_rows - 1] / EXO_KV_PAGE_TOKENS + 1;
    fill_pool(h, &pool, n_pages, &rng);
    float *q = floats(n_q), *want = floats(n_out), *got = floats(n_out);
    test_floats(&rng, q, n_q);
    test_rows rows = {pos, n_rows, n_pages, 0};
    run_attention(&exo_kernels_reference, h, &pool, q, want, &rows);
    size_t n;
    const exo_cpu_kernels *const *all = exo_kernels_all(&n);
    for (size_t i = 0; i < n; i++) {
        if (!is_tested(all[i])) continue;
        for (rows.step = 0; rows.step < 3; rows.step += 2) {
            memset(got, 0x55, n_out * sizeof(float));
            run_attention(all[i], h, &pool, q, got, &rows);
            assert_same(all[i], got, want, n_out * sizeof(float), "attention", h->head_dim,
                        h->group);
        }
        if (h->v_dim != h->head_dim) continue;
        memcpy(got, q, n_out * sizeof(float)); /* in place */
        rows.step = 0;
        run_attention(all[i], h, &pool, got, got, &rows);
        assert_same(all[i], got, want, n_out * sizeof(float), "attention in place", h->head_dim,
                    h->group);
    }
    unguard(pool.k_pages, n_pages * pool.k_page_bytes);
    unguard(pool.v_pages, n_pages * pool.v_page_bytes);
    unguard(q, n_q * sizeof(float));
    unguard(want, n_out * sizeof(float));
    unguard(got, n_out * sizeof(float));
}

static const uint32_t attention_rows[][8] = {{0, 1, 2, 3, 4, 5, 6, 7},
                                             {30, 31, 32, 33, 100, 101, 200, 201},
                                             {252, 253, 254, 255, 256, 257, 258, 259},
                                             {500, 510, 511, 512, 513, 600, 700, 767}};

/* Every size of a group's tiles and heads with and without whole vectors and blocks. */
static void test_attention(void **state) {
    (void)state;
    static const uint32_t dims[] = {4, 8, 32, 64, 72, 80, 96, 128, 256};
    static const exo_dtype types[] = {EXO_F32, EXO_F16, EXO_Q8_0};
    for (size_t d = 0; d < sizeof dims / sizeof dims[0]; d++) {
        for (uint32_t group = 1; group <= 8; group += dims[d] > 100 ? 3 : 1) {
            heads h = {.head_dim = dims[d], .v_dim = dims[d], .n_kv_heads = 2, .group = group};
            h.type = types[(d + group) % 3];
            if (!exo_kv_type_fits(h.type, h.head_dim)) h.type = EXO_F16;
            check_heads(&h, attention_rows[(d + group) % 4], group == 3 ? 8 : 2);
            check_heads(&h, attention_rows[(d + group + 1) % 4], 1);
        }
    }
}

/* Twenty splits, and more queries than one batch. */
static void test_attention_long(void **state) {
    (void)state;
    static const uint32_t pos[] = {4992, 4993, 4994, 4995, 4996, 4997, 4998, 4999};
    static const exo_dtype types[] = {EXO_F32, EXO_F16, EXO_Q8_0};
    for (size_t i = 0; i < 3; i++) {
        heads h = {.head_dim = 32, .v_dim = 32, .n_kv_heads = 1, .group = 5, .type = types[i]};
        check_heads(&h, pos, i == 0 ? 8 : 1);
        h.window = 700;
        check_heads(&h, pos, 8);
    }
}

/* What does not fit a block's f16 scale is refused, and so is what is not finite. */
static void test_quantized_store(void **state) {
    (void)state;
    static const float bad[] = {1e9f, INFINITY, NAN};
    heads h = {.head_dim = 64, .v_dim = 64, .n_kv_heads = 1, .type = EXO_Q8_0};
    float row[64] = {0};
    exo_kv_pool pool;
    fit_pool(&h, &pool);
    pool.k_pages = guarded(pool.k_page_bytes);
    pool.v_pages = guarded(pool.v_page_bytes);
    assert_int_equal(pool.k_page_bytes, 64 * 34);
    assert_true(exo_ref_kv_store(&pool, 0, 31, 0, row, row));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        row[63] = bad[i];
        assert_false(exo_ref_kv_store(&pool, 0, 31, 0, row, row));
    }
    unguard(pool.k_pages, pool.k_page_bytes);
    unguard(pool.v_pages, pool.v_page_bytes);
}

/* Windows that end within a split, at its edge and over it; caps, sinks, narrow values. */
static void test_attention_options(void **state) {
    (void)state;
    static const uint32_t windows[] = {0, 1, 3, 16, 33, 256, 300};
    static const float sinks[6] = {0.5f, -2, 3, 0, 10, -90};
    for (size_t w = 0; w < sizeof windows / sizeof windows[0]; w++) {
        for (unsigned o = 0; o < 8; o++) {
            heads h = {.head_dim = 24,
                       .v_dim = o & 1 ? 40 : 24,
                       .n_kv_heads = 2,
                       .group = 3,
                       .type = w % 2 == 0 ? EXO_F32 : EXO_F16,
                       .window = windows[w],
                       .softcap = o & 2 ? 0.75f : 0,
                       .sinks = o & 4 ? sinks : NULL};
            for (size_t r = 0; r < 4; r++) check_heads(&h, attention_rows[r], 8);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_elements),       cmocka_unit_test(test_rope),
        cmocka_unit_test(test_quantize),       cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_matmul),         cmocka_unit_test(test_extreme_quants),
        cmocka_unit_test(test_attention),      cmocka_unit_test(test_attention_options),
        cmocka_unit_test(test_attention_long), cmocka_unit_test(test_quantized_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
