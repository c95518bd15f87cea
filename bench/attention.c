/* attention.c - speed of CPU attention of one row over a long context, as CSV.
 *
 *   bench_attention [ISA [THREADS [DEPTH [N_KV_HEADS [GROUP [HEAD_DIM [MIB]]]]]]]
 *
 * Runs a plan of attention alone, with as many layers as their pages take MIB (256: beyond the
 * caches; 0: one layer), over random keys and values in pages in a shuffled order.  Columns: kv,
 * isa, threads, kv heads x group x head_dim, depth, us a layer, kv_gbps (bytes of keys and values),
 * read_gbps (plain reading), share. */
#include "base/clock.h"
#include "base/mem.h"
#include "compute/cpu/bandwidth.h"
#include "compute/cpu/reference.h"
#include "compute/cpu/testing.h"

#include <stdio.h>
#include <stdlib.h>

#define MAX_LAYERS 256u
#define PASSES     16
#define SOME_PAGES 16u /* filled one position at a time; the others are copies */

typedef struct {
    uint32_t n_kv_heads, group, head_dim, depth;
    size_t pool_bytes; /* of all layers at least */
    exo_dtype type;
} shape;

typedef struct {
    const exo_backend *cpu;
    exo_device *device;
    uint32_t n_layers;
    exo_buffer *k[MAX_LAYERS], *v[MAX_LAYERS];
} bench;

static void die(const char *what) {
    (void)fprintf(stderr, "bench_attention: %s\n", what);
    exit(1);
}

/* Random keys and values in the first pages of a pool of n. */
static void fill_pages(const shape *s, uint8_t *k, uint8_t *v, uint32_t n) {
    size_t bytes = exo_kv_page_bytes(s->type, s->n_kv_heads, s->head_dim);
    const exo_kv_pool pool = {k, v, bytes, bytes, s->head_dim, s->head_dim, s->type};
    test_rng rng = {3};
    float row[1024];
    for (uint32_t i = 0; i < n * EXO_KV_PAGE_TOKENS; i++) {
        for (uint32_t h = 0; h < s->n_kv_heads; h++) {
            test_floats(&rng, row, s->head_dim);
            (void)exo_ref_kv_store(&pool, i / EXO_KV_PAGE_TOKENS, i % EXO_KV_PAGE_TOKENS, h, row,
                                   row);
        }
    }
}

static void fill(bench *b, const shape *s, uint32_t n_pages) {
    size_t page = exo_kv_page_bytes(s->type, s->n_kv_heads, s->head_dim);
    uint32_t some = n_pages < SOME_PAGES ? n_pages : SOME_PAGES;
    uint8_t *k = exo_malloc(some * page), *v = exo_malloc(some * page);
    if (k == NULL || v == NULL) die("no memory");
    fill_pages(s, k, v, some);
    for (b->n_layers = 0; b->n_layers < MAX_LAYERS; b->n_layers++) {
        if (b->n_layers > 0 && b->n_layers * page * n_pages * 2 >= s->pool_bytes) break;
        exo_buffer **to = &b->k[b->n_layers], **vo = &b->v[b->n_layers];
        if (b->cpu->allocate(b->device, page * n_pages, to, NULL) != EXO_OK ||
            b->cpu->allocate(b->device, page * n_pages, vo, NULL) != EXO_OK) {
            die("no memory for pages");
        }
        for (uint32_t i = 0; i < n_pages; i++) {
            (void)b->cpu->copy_to_device(b->device, *to, i * page, k + i % some * page, page, NULL);
            (void)b->cpu->copy_to_device(b->device, *vo, i * page, v + i % some * page, page, NULL);
        }
    }
    exo_free(k);
    exo_free(v);
}

/* Best seconds of one layer. */
static double measure(bench *b, const shape *s, uint32_t n_pages) {
    static exo_op ops[MAX_LAYERS];
    static uint32_t table[1u << 16];
    uint32_t width = s->n_kv_heads * s->group * s->head_dim;
    for (uint32_t i = 0; i < b->n_layers; i++) {
        ops[i] = (exo_op){.kind = EXO_OP_ATTENTION,
                          .u.attention = {.n_heads = s->n_kv_heads * s->group,
                                          .n_kv_heads = s->n_kv_heads,
                                          .head_dim = s->head_dim,
                                          .scale = 0.125f,
                                          .k_pages = b->k[i],
                                          .v_pages = b->v[i],
                                          .kv_type = s->type}};
    }
    for (uint32_t i = 0; i < n_pages; i++) table[i] = (uint32_t)((uint64_t)i * 7919 % n_pages);
    exo_plan_desc desc = {ops, b->n_layers, &width, 1, 1, 0, 1, n_pages};
    exo_plan *plan;
    float *x = exo_malloc(width * sizeof *x), *y = exo_malloc(width * sizeof *y);
    if (x == NULL || y == NULL || b->cpu->plan_create(b->device, &desc, &plan, NULL) != EXO_OK) {
        die("no memory for a plan");
    }
    test_rng rng = {2};
    test_floats(&rng, x, width);
    const exo_row row = {0, s->depth - 1, 0, 0};
    exo_plan_args args = {.rows = &row, .n_rows = 1, .block_table = table, .x_in = x, .x_out = y};
    double best = 1e9;
    for (int i = 0; i < PASSES; i++) {
        uint64_t begin = exo_now_ns();
        if (b->cpu->plan_run(plan, &args, NULL) != EXO_OK) die("a step failed");
        double seconds = (double)(exo_now_ns() - begin) * 1e-9;
        if (seconds < best) best = seconds;
    }
    b->cpu->plan_destroy(plan);
    exo_free(x);
    exo_free(y);
    return best / b->n_layers;
}

static void run(const shape *s, const char *isa, uint32_t threads, double read_gbps) {
    bench b = {.cpu = &exo_backend_cpu};
    const exo_device_desc desc = {.n_threads = threads, .isa = isa, .spin = true};
    if (b.cpu->open(0, &desc, &b.device, NULL) != EXO_OK) die("the device does not open");
    uint32_t n_pages = (s->depth + EXO_KV_PAGE_TOKENS - 1) / EXO_KV_PAGE_TOKENS;
    fill(&b, s, n_pages);
    double seconds = measure(&b, s, n_pages);
    size_t page = exo_kv_page_bytes(s->type, s->n_kv_heads, s->head_dim);
    double gbps = 2e-9 * (double)page * n_pages / seconds;
    printf("%s,%s,%u,%ux%ux%u,%u,%.1f,%.1f,%.1f,%.2f\n", exo_dtype_get(s->type)->name, isa, threads,
           s->n_kv_heads, s->group, s->head_dim, s->depth, seconds * 1e6, gbps, read_gbps,
           gbps / read_gbps);
    (void)fflush(stdout);
    for (uint32_t i = 0; i < b.n_layers; i++) {
        b.cpu->deallocate(b.device, b.k[i]);
        b.cpu->deallocate(b.device, b.v[i]);
    }
    b.cpu->close(b.device);
}

static uint32_t number(int argc, char **argv, int i, uint32_t otherwise) {
    return argc > i ? (uint32_t)strtoul(argv[i], NULL, 10) : otherwise;
}

int main(int argc, char **argv) {
    static const exo_dtype types[] = {EXO_F32, EXO_F16, EXO_Q8_0};
    shape s = {.depth = number(argc, argv, 3, 16000),
               .n_kv_heads = number(argc, argv, 4, 8),
               .group = number(argc, argv, 5, 4),
               .head_dim = number(argc, argv, 6, 64),
               .pool_bytes = (size_t)number(argc, argv, 7, 256) << 20};
    uint32_t only_threads = number(argc, argv, 2, 0);
    if (s.depth == 0 || s.depth > 1u << 20 || s.head_dim > 576) die("DEPTH or HEAD_DIM");
    puts("kv,isa,threads,shape,depth,us_layer,kv_gbps,read_gbps,share");
    size_t n;
    const exo_cpu_kernels *const *all = exo_kernels_all(&n);
    for (uint32_t threads = 1; threads <= 2; threads++) {
        if (only_threads != 0 && threads != only_threads) continue;
        double read_gbps = exo_cpu_read_bandwidth(threads, 300);
        for (size_t i = 0; i < n; i++) {
            bool named = argc > 1 && strcmp(argv[1], all[i]->isa) == 0;
            if (!all[i]->runs_here() || (argc > 1 && !named)) continue;
            if (all[i] == &exo_kernels_reference && !named) continue;
            for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
                s.type = types[t];
                run(&s, all[i]->isa, threads, read_gbps);
            }
        }
    }
    return 0;
}
