/* bits.c - prints the hash of every kernel's results, for each instruction set of this machine.
 *
 *   bits [DRIVER...]   of the tables that are named only
 *
 * Built for two machines, both must print the same hashes: run.sh compares x86 with ARM.  One
 * line per table and operation: "operation hash driver".  A plain program, so that it builds
 * where the test library does not. */
#include "compute/cpu/reference.h"
#include "compute/cpu/testing_net.h"

enum { COLUMNS = 9, ROWS = 34, K_MAX = 768, N_DIMS = 5 };

static float x[COLUMNS][K_MAX + 64], d[COLUMNS][K_MAX / 32];
static int8_t q[COLUMNS][K_MAX + 64];
static int32_t sum32[COLUMNS][K_MAX / 32];
static int16_t sums[COLUMNS][K_MAX / 32][EXO_Q256_SUMS];

static void report(const char *op, uint64_t hash, const exo_cpu_kernels *k) {
    printf("%s %016llx %s\n", op, (unsigned long long)hash, k->driver);
}

static uint64_t hash_elements(const exo_cpu_kernels *k) {
    static float a[2049], b[2049], out[2049];
    static const uint32_t widths[] = {1, 8, 17, 100, 172, 2049};
    test_rng rng = {1};
    uint64_t h = 0;
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++) {
        uint32_t n = widths[i];
        test_floats(&rng, a, n);
        test_floats(&rng, b, n);
        test_must(k->norm(out, a, b, n, 1e-5f));
        h = test_hash(out, n * sizeof *out, h);
        for (uint32_t e = 0; e < n; e++) a[e] *= 40;
        k->silu_mul(out, a, b, n);
        h = test_hash(out, n * sizeof *out, h);
        k->round_f16(a, n);
        h = test_hash(a, n * sizeof *a, h);
        for (uint32_t neox = 0; neox < 2 && n >= 100; neox++) k->rope(a, b, b + 32, 64, neox != 0);
        h = test_hash(a, n * sizeof *a, h);
    }
    return h;
}

/* Fills the activations in the form of the type; the same values for every table. */
static uint64_t quantize(const exo_cpu_kernels *k, exo_act_form form, uint32_t n) {
    test_rng rng = {n};
    uint64_t h = 0;
    for (uint32_t c = 0; c < COLUMNS; c++) {
        test_floats(&rng, x[c], n);
        if (form == EXO_ACT_Q32) {
            test_must(k->quantize32(x[c], n, q[c], d[c], sum32[c]));
            h = test_hash(sum32[c], n / 32 * sizeof sum32[c][0], h);
        } else if (form == EXO_ACT_Q256) {
            test_must(k->quantize256(x[c], n, q[c], d[c], sums[c][0]));
            h = test_hash(sums[c], n / 256 * sizeof sums[c][0], h);
        }
        if (form != EXO_ACT_F32) h = test_hash(q[c], n, h);
    }
    return h;
}

static uint64_t hash_product(const exo_cpu_kernels *k, exo_pool *pool, exo_dtype type, uint32_t n) {
    static uint8_t file[ROWS * K_MAX * 4];
    static float y[COLUMNS * 64];
    test_rng rng = {type};
    test_weights(&rng, type, file, (size_t)ROWS * n / exo_dtype_get(type)->block_elems);
    exo_weight *w;
    test_must(exo_weight_pack(pool, type, ROWS, n, file, &w, NULL) == EXO_OK);
    uint64_t h = quantize(k, exo_act_form_of(type), n);
    exo_act a = {.x = x[0],
                 .q = q[0],
                 .d = d[0],
                 .sum32 = sum32[0],
                 .sums = sums[0][0],
                 .ld_x = K_MAX + 64,
                 .ld_q = K_MAX + 64,
                 .ld_d = K_MAX / 32};
    for (uint32_t columns = 1; columns <= COLUMNS; columns++) {
        exo_matmul_task t = {w, &a, columns, 0, w->n_groups, y, 64};
        k->matmul[type](&t);
        h = test_hash(y, columns * 64 * sizeof *y, h);
    }
    exo_weight_free(w);
    return h;
}

static uint64_t hash_attention(const exo_cpu_kernels *k, exo_dtype type) {
    enum { PAGES = 10, MAX_DIM = 128, GROUP = 3 };
    static uint8_t k_pages[PAGES * MAX_DIM * 32 * 4], v_pages[PAGES * MAX_DIM * 32 * 4];
    static float in[8 * GROUP * MAX_DIM], out[8 * GROUP * MAX_DIM], scratch[8192];
    static const uint32_t dims[N_DIMS] = {4, 8, 64, 80, 128};
    static const uint32_t pos[8] = {0, 31, 100, 253, 254, 255, 256, 319};
    static const uint32_t table[PAGES] = {3, 1, 4, 0, 5, 9, 2, 6, 8, 7};
    test_rng rng = {7};
    uint64_t h = 0;
    for (size_t i = 0; i < N_DIMS; i++) {
        uint32_t hd = dims[i], ld = GROUP * hd;
        if (!exo_kv_type_fits(type, hd)) continue;
        size_t bytes = exo_kv_page_bytes(type, 1, hd);
        exo_kv_pool pool = {k_pages, v_pages, bytes, bytes, hd, hd, type};
        for (uint32_t p = 0; p < PAGES * EXO_KV_PAGE_TOKENS; p++) {
            float row[MAX_DIM];
            test_floats(&rng, row, hd);
            test_must(exo_ref_kv_store(&pool, table[p / 32], p % 32, 0, row, row));
        }
        test_floats(&rng, in, 8 * ld);
        exo_attention_task t = {.q = in,
                                .out = out,
                                .ld_q = ld,
                                .ld_out = ld,
                                .pos = pos,
                                .n_rows = 8,
                                .n_kv_heads = 1,
                                .group = GROUP,
                                .head_dim = hd,
                                .v_dim = hd,
                                .scale = 0.125f,
                                .k_pages = k_pages,
                                .v_pages = v_pages,
                                .k_page_bytes = bytes,
                                .v_page_bytes = bytes,
                                .kv_type = type,
                                .table = table,
                                .scratch = scratch};
        test_must(exo_attention_scratch(hd) <= sizeof scratch / sizeof scratch[0]);
        k->attention(&t);
        h = test_hash(out, 8 * ld * sizeof *out, h);
    }
    return h;
}

static bool wanted(const exo_cpu_kernels *k, int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], k->driver) == 0) return true;
    }
    return argc < 2;
}

int main(int argc, char **argv) {
    exo_pool *pool;
    size_t n;
    const exo_cpu_kernels *const *all = exo_kernels_all(&n);
    test_must(exo_pool_create(1, false, &pool, NULL) == EXO_OK);
    for (size_t i = 0; i < n; i++) {
        const exo_cpu_kernels *k = all[i];
        if (!k->runs_here() || !wanted(k, argc, argv)) continue;
        report("elements", hash_elements(k), k);
        report("attention-f32", hash_attention(k, EXO_F32), k);
        report("attention-f16", hash_attention(k, EXO_F16), k);
        report("attention-q8_0", hash_attention(k, EXO_Q8_0), k);
        for (size_t t = 0; t < TEST_N_TYPES; t++) {
            report(exo_dtype_get(test_types[t])->name, hash_product(k, pool, test_types[t], K_MAX),
                   k);
        }
        report("f16-odd", hash_product(k, pool, EXO_F16, 172), k);
        test_net net;
        test_make_net(&net, k->isa, 2, false);
        report("net", test_run_tokens(&net, 7, true, 40), k);
        test_free_net(&net);
    }
    exo_pool_destroy(pool);
    return 0;
}
