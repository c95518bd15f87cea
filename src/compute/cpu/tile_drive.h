/* tile_drive.h - walks a product's strip with tiles of constant size.
 *
 * A tile function computes R groups of 16 rows by N columns; both are constants.  Rows go
 * outside and columns inside, so that a strip of weights stays in the cache while all columns
 * pass: any number of columns reads the weights from memory once.
 *
 * A single column is memory's speed: its range of groups is cut into RD contiguous parts that are
 * read side by side.  One stream does not keep enough lines in flight (Sapphire Rapids: 10 GB/s a
 * core, with four 15), and a stream that is contiguous over many groups never starts anew. */
#ifndef EXO_COMPUTE_CPU_TILE_DRIVE_H
#define EXO_COMPUTE_CPU_TILE_DRIVE_H

#include "compute/cpu/kernels.h"
#include "compute/cpu/unroll.h"

/* Where a tile reads and writes: R groups, N columns.  Pointers are at the first of both. */
typedef struct {
    const uint8_t *q, *s; /* the planes of the weight */
    size_t gq, gs;        /* from one group of the tile to the next */
    uint32_t n_blocks;    /* along a row */
    const float *xf;      /* the activations, as in exo_act */
    const int8_t *x;
    const float *d;
    const int32_t *sum32;
    const int16_t *sums;
    size_t ld_x, ld_q, ld_d;
    float *y; /* (N, ld_y) */
    size_t gy, ld_y;
} exo_tile;

EXO_INLINE exo_tile exo_tile_at(const exo_matmul_task *t, uint32_t g, uint32_t apart, uint32_t c) {
    const exo_weight *w = t->w;
    const exo_act *a = t->a;
    exo_tile tile = {.q = w->quants + (t->g0 + g) * w->group_quants,
                     .s = w->scales + (t->g0 + g) * w->group_scales,
                     .gq = w->group_quants * apart,
                     .gs = w->group_scales * apart,
                     .n_blocks = w->n_blocks,
                     .ld_x = a->ld_x,
                     .ld_q = a->ld_q,
                     .ld_d = a->ld_d,
                     .y = t->y + c * t->ld_y + (size_t)g * EXO_GROUP_ROWS,
                     .gy = (size_t)apart * EXO_GROUP_ROWS,
                     .ld_y = t->ld_y};
    if (a->x != NULL) tile.xf = a->x + c * a->ld_x; /* a form has only its own arrays */
    if (a->q != NULL) tile.x = a->q + c * a->ld_q;
    if (a->d != NULL) tile.d = a->d + c * a->ld_d;
    if (a->sum32 != NULL) tile.sum32 = a->sum32 + c * a->ld_d;
    if (a->sums != NULL) tile.sums = a->sums + c * a->ld_d * EXO_Q256_SUMS;
    return tile;
}

/* One instance: name_RxN. */
#define EXO_TILE(name, tile, R, N)                                                                 \
    static EXO_NOINLINE void name##_##R##x##N(const exo_matmul_task *t, uint32_t g, uint32_t c) {  \
        tile(exo_tile_at(t, g, 1, c), R, N);                                                       \
    }

/* All columns of R groups from g on, as widely as possible. */
#define EXO_TILE_COLUMNS(name, tile, R, N1, N2)                                                    \
    EXO_TILE(name, tile, R, N1)                                                                    \
    EXO_TILE(name, tile, R, N2)                                                                    \
    EXO_TILE(name, tile, R, 2)                                                                     \
    EXO_TILE(name, tile, R, 1)                                                                     \
    static void name##_columns_##R(const exo_matmul_task *t, uint32_t g) {                         \
        uint32_t c = 0;                                                                            \
        for (; c + N1 <= t->n; c += N1) name##_##R##x##N1(t, g, c);                                \
        for (; c + N2 <= t->n; c += N2) name##_##R##x##N2(t, g, c);                                \
        for (; c + 2 <= t->n; c += 2) name##_##R##x##2(t, g, c);                                   \
        for (; c < t->n; c++) name##_##R##x##1(t, g, c);                                           \
    }

/* A single column in RD streams; what does not divide goes alone. */
#define EXO_TILE_STREAM(name, tile, RD)                                                            \
    static EXO_NOINLINE void name##_side_by_side(const exo_matmul_task *t, uint32_t g,             \
                                                 uint32_t apart) {                                 \
        tile(exo_tile_at(t, g, apart, 0), RD, 1);                                                  \
    }                                                                                              \
    static void name##_stream(const exo_matmul_task *t) {                                          \
        uint32_t part = t->n_groups / RD;                                                          \
        for (uint32_t g = 0; g < part; g++) name##_side_by_side(t, g, part);                       \
        for (uint32_t g = part * RD; g < t->n_groups; g++) name##_1x1(t, g, 0);                    \
    }

/* The kernel `name`: tiles of 2 groups, and of 1 for the last. */
#define EXO_TILE_DRIVE(name, tile, RD, N1, N2)                                                     \
    EXO_TILE_COLUMNS(name, tile, 1, N1, N2)                                                        \
    EXO_TILE_COLUMNS(name, tile, 2, N1, N2)                                                        \
    EXO_TILE_STREAM(name, tile, RD)                                                                \
    void name(const exo_matmul_task *t) {                                                          \
        if (t->n == 1) {                                                                           \
            name##_stream(t);                                                                      \
            return;                                                                                \
        }                                                                                          \
        uint32_t g = 0, n = t->n_groups;                                                           \
        for (; g + 2 <= n; g += 2) name##_columns_2(t, g);                                         \
        for (; g < n; g++) name##_columns_1(t, g);                                                 \
    }

/* The same with wide tiles of one group. */
#define EXO_TILE_DRIVE_1(name, tile, RD, N1, N2)                                                   \
    EXO_TILE_COLUMNS(name, tile, 1, N1, N2)                                                        \
    EXO_TILE_STREAM(name, tile, RD)                                                                \
    void name(const exo_matmul_task *t) {                                                          \
        if (t->n == 1) {                                                                           \
            name##_stream(t);                                                                      \
            return;                                                                                \
        }                                                                                          \
        for (uint32_t g = 0; g < t->n_groups; g++) name##_columns_1(t, g);                         \
    }

#endif
