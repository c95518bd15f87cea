/* kernels.c - speed of the CPU products, as CSV beside the machine's own read bandwidth.
 *
 *   bench_kernels [TYPE [ISA [THREADS]]]
 *
 * Runs plans of one weight type through the backend, so activation quantisation, barriers and
 * epilogues are inside the figures.  decode: one row, weights larger than the caches, GB/s of
 * packed bytes; prefill: 512 rows, GOP/s (a multiplication and an addition are two).
 * Columns: type, isa, threads, rows x cols, decode_gbps, read_gbps, decode_share, prefill_gops. */
#include "compute/cpu/kernels.h"
#include "base/clock.h"
#include "base/mem.h"
#include "compute/cpu/bandwidth.h"
#include "compute/cpu/testing.h"

#include <stdio.h>
#include <stdlib.h>

#define DECODE_BYTES   ((size_t)320 << 20)
#define PREFILL_ROWS   512u
#define MAX_MATRICES   512u
#define DECODE_PASSES  8
#define PREFILL_PASSES 4

typedef struct {
    const exo_backend *cpu;
    exo_device *device;
    uint32_t rows, cols;
    uint32_t n; /* matrices */
    exo_weight *w[MAX_MATRICES];
    size_t bytes; /* of all */
} bench;

static void die(const char *what) {
    (void)fprintf(stderr, "bench_kernels: %s\n", what);
    exit(1);
}

/* One random matrix, packed often enough to overflow the caches. */
static void fill(bench *b, exo_dtype type) {
    size_t file_bytes = b->rows * exo_dtype_row_bytes(type, b->cols);
    uint8_t *file = exo_malloc(file_bytes);
    if (file == NULL) die("no memory");
    test_rng rng = {1};
    size_t block = exo_dtype_get(type)->block_bytes * 1024;
    test_weights(&rng, type, file, 1024);
    for (size_t at = block; at < file_bytes; at += block) {
        memcpy(file + at, file, file_bytes - at < block ? file_bytes - at : block);
    }
    for (b->n = 0, b->bytes = 0; b->bytes < DECODE_BYTES && b->n < MAX_MATRICES; b->n++) {
        if (b->cpu->weight_create(b->device, type, b->rows, b->cols, file, &b->w[b->n], NULL) !=
            EXO_OK) {
            die("no memory for weights");
        }
        b->bytes += b->cpu->weight_bytes(b->w[b->n]);
    }
    exo_free(file);
}

/* Best seconds of one step of n_rows rows over the first n matrices. */
static double measure(bench *b, uint32_t n, uint32_t n_rows, int passes) {
    static exo_op ops[MAX_MATRICES];
    static exo_row rows[PREFILL_ROWS];
    const uint32_t width[2] = {b->cols, b->rows};
    for (uint32_t i = 0; i < n; i++) {
        ops[i] = (exo_op){.kind = EXO_OP_MATMUL,
                          .u.matmul = {.in = 0, .n_parts = 1, .w = {b->w[i]}, .out = {1}}};
    }
    for (uint32_t i = 0; i < n_rows; i++) rows[i] = (exo_row){0, i, 0, 0};
    exo_plan_desc desc = {ops, n, width, 2, n_rows, 0, 1, PREFILL_ROWS / EXO_KV_PAGE_TOKENS};
    exo_plan *plan;
    float *x = exo_malloc((size_t)n_rows * b->cols * sizeof *x);
    if (x == NULL || b->cpu->plan_create(b->device, &desc, &plan, NULL) != EXO_OK) {
        die("no memory for a plan");
    }
    test_rng rng = {2};
    for (size_t i = 0; i < (size_t)n_rows * b->cols; i++) x[i] = test_float(&rng);
    exo_plan_args args = {.rows = rows, .n_rows = n_rows, .x_in = x, .x_out = x};
    double best = 1e9;
    for (int i = 0; i < passes; i++) {
        uint64_t begin = exo_now_ns();
        if (b->cpu->plan_run(plan, &args, NULL) != EXO_OK) die("a step failed");
        double s = (double)(exo_now_ns() - begin) * 1e-9;
        if (s < best) best = s;
    }
    b->cpu->plan_destroy(plan);
    exo_free(x);
    return best;
}

static void run(exo_dtype type, const char *isa, uint32_t threads, double read_gbps) {
    static const uint32_t shapes[][2] = {{8192, 2048}, {2048, 8192}};
    for (size_t s = 0; s < 2; s++) {
        bench b = {.cpu = &exo_backend_cpu, .rows = shapes[s][0], .cols = shapes[s][1]};
        exo_device_desc desc = {.n_threads = threads, .isa = isa, .spin = true};
        if (b.cpu->open(0, &desc, &b.device, NULL) != EXO_OK) die("the device does not open");
        fill(&b, type);
        double decode = (double)b.bytes * 1e-9 / measure(&b, b.n, 1, DECODE_PASSES);
        double ops = 2.0 * b.rows * b.cols * PREFILL_ROWS * 1e-9;
        double prefill = ops / measure(&b, 1, PREFILL_ROWS, PREFILL_PASSES);
        printf("%s,%s,%u,%ux%u,%.1f,%.1f,%.2f,%.0f\n", exo_dtype_get(type)->name, isa, threads,
               b.rows, b.cols, decode, read_gbps, decode / read_gbps, prefill);
        (void)fflush(stdout);
        for (uint32_t i = 0; i < b.n; i++) b.cpu->weight_destroy(b.device, b.w[i]);
        b.cpu->close(b.device);
    }
}

int main(int argc, char **argv) {
    exo_dtype only = EXO_DTYPE_LIMIT;
    if (argc > 1 && exo_dtype_parse(argv[1], &only) != EXO_OK) die("unknown type");
    puts("type,isa,threads,shape,decode_gbps,read_gbps,decode_share,prefill_gops");
    size_t n;
    const exo_cpu_kernels *const *all = exo_kernels_all(&n);
    uint32_t only_threads = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 0;
    for (uint32_t threads = 1; threads <= 2; threads++) {
        if (only_threads != 0 && threads != only_threads) continue;
        double read_gbps = exo_cpu_read_bandwidth(threads, 300);
        for (size_t i = 0; i < n; i++) {
            bool named = argc > 2 && strcmp(argv[2], all[i]->isa) == 0;
            if (!all[i]->runs_here() || (argc > 2 && !named)) continue;
            if (all[i] == &exo_kernels_reference && !named) continue;
            for (size_t t = 0; t < TEST_N_TYPES; t++) {
                if (only != EXO_DTYPE_LIMIT && only != test_types[t]) continue;
                run(test_types[t], all[i]->isa, threads, read_gbps);
            }
        }
    }
    return 0;
}
