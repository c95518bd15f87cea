/* tile_drive.h - walks a product's strip with tiles of constant size.
 *
 * A tile function computes R groups of 16 rows by N columns.  Rows go outside and columns inside,
 * so that a strip of weights stays in the cache while all columns pass: any number of columns
 * reads the weights from memory once.  A step of one row streams RD groups at a time. */
#ifndef EXO_COMPUTE_CPU_TILE_DRIVE_H
#define EXO_COMPUTE_CPU_TILE_DRIVE_H

#include "compute/cpu/unroll.h"

/* One instance: name_RxN. */
#define EXO_TILE(name, tile, R, N)                                                                 \
    static EXO_NOINLINE void name##_##R##x##N(const exo_matmul_task *t, uint32_t g, uint32_t c) {  \
        tile(t, g, c, R, N);                                                                       \
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

/* The kernel `name`: tiles of 2 groups, and of 1 for the last; RD groups for a single column. */
#define EXO_TILE_DRIVE(name, tile, RD, N1, N2)                                                     \
    EXO_TILE_COLUMNS(name, tile, 1, N1, N2)                                                        \
    EXO_TILE_COLUMNS(name, tile, 2, N1, N2)                                                        \
    void name(const exo_matmul_task *t) {                                                          \
        uint32_t g = 0, n = t->n_groups;                                                           \
        if (t->n > 1 || RD == 2) {                                                                 \
            for (; g + 2 <= n; g += 2) name##_columns_2(t, g);                                     \
        }                                                                                          \
        for (; g < n; g++) name##_columns_1(t, g);                                                 \
    }

/* The kernel `name` with tiles of one group only. */
#define EXO_TILE_DRIVE_1(name, tile, N1, N2)                                                       \
    EXO_TILE_COLUMNS(name, tile, 1, N1, N2)                                                        \
    void name(const exo_matmul_task *t) {                                                          \
        for (uint32_t g = 0; g < t->n_groups; g++) name##_columns_1(t, g);                         \
    }

#endif
