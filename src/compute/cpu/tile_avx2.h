/* tile_avx2.h - what the AVX2 products share: loads, broadcasts, one group's results.
 *
 * A group is 16 rows: two registers.  A tile of many columns holds one group, both halves of
 * which use each broadcast activation; its accumulators are all that 16 registers can hold, so
 * the loop over a block's words stays a loop: unrolled, gcc 12 moves the broadcasts of all words
 * to the front and spills every one of them (Zen 2, Q4_0: 110 instead of 160 GOP/s a core). */
#ifndef EXO_COMPUTE_CPU_TILE_AVX2_H
#define EXO_COMPUTE_CPU_TILE_AVX2_H

#include "compute/cpu/bv_avx2.h"
#include "compute/cpu/tile_drive.h"

#define PREFETCH 0

EXO_INLINE __m256i load(const uint8_t *p) {
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

EXO_INLINE __m256 load_f16(const uint8_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}

/* As EXO_TILE_DRIVE_1; many columns go another way (paired_avx2.h). */
#define TILE_DRIVE_PAIRED(name, tile, RD, N1, N2)                                                  \
    EXO_TILE_COLUMNS(name, tile, 1, N1, N2)                                                        \
    EXO_TILE_STREAM(name, tile, RD)                                                                \
    void name(const exo_matmul_task *t) {                                                          \
        if (t->n == 1) {                                                                           \
            name##_stream(t);                                                                      \
            return;                                                                                \
        }                                                                                          \
        if (exo_avx2_paired(t)) return;                                                            \
        for (uint32_t g = 0; g < t->n_groups; g++) name##_columns_1(t, g);                         \
    }

#endif
