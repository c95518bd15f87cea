/* weight.h - the packed form of a weight matrix, one layout per type for all instruction sets.
 *
 * Rows stand in groups of 16, padded with zero rows; along K the bytes of the 16 rows are
 * interleaved four by four, so that one 512-bit register (two of 256, four of 128 bits) holds
 * 16 rows x 4 bytes.  Packing only moves bytes: the file's bytes come back exactly, and the size
 * stays the file's but for the padding rows.
 *
 * Two planes, each aligned to 64 bytes; [group][block] records within, 16 rows to a record:
 *
 *   type   per block   quants                             scales
 *   F32    1           f32 [16]                           -
 *   F16    1           u16 [16]                           -
 *   BF16   1           u16 [16]                           -
 *   Q4_0   32          u32 [4][16]: element 4t+i low      d f16 [16]
 *                      nibble, 16+4t+i high nibble
 *   Q8_0   32          u32 [8][16]: element 4j+i          d f16 [16]
 *   Q4_K   256         u32 [4][8][16]: sub-block 2c low   d f16 [16], dmin f16 [16],
 *                      nibble, 2c+1 high; 4t+i in it      u32 [3][16]: the 12 scale bytes
 *   Q4_1   32          as Q4_0                            d, m f16 [16]
 *   Q5_0   32          as Q4_0; u32 [16]: fifth bits      d f16 [16]
 *   Q5_1   32          as Q5_0                            d, m f16 [16]
 *   IQ4_NL 32          as Q4_0, indices                   d f16 [16]
 *   MXFP4  32          as Q4_0, indices                   e u8 [16]
 *   Q2_K   256         u32 [16][16], as in the file       d, dmin f16 [16], u32 [4][16]
 *   Q3_K   256         low u32 [16][16], high             d f16 [16],
 *                      u32 [8][16], as in the file        u32 [3][16]: the 12 scale bytes
 *   Q5_K   256         low as Q4_K, high u32 [8][16]      as Q4_K
 *   IQ4_XS 256         as Q4_K, indices, 8 runs of 16     d, high of scales u16 [16], low u32 [16]
 *   IQ1, IQ2, IQ3      the block as it is, u32 [n][16]    d f16 [16]; IQ1_M has none
 *   Q6_K   256         low u32 [2][16][16], high          i8x4 [4][16], d f16 [16]
 *                      u32 [2][8][16], as in the file
 *
 * Thread: COMPUTE. */
#ifndef EXO_COMPUTE_CPU_WEIGHT_H
#define EXO_COMPUTE_CPU_WEIGHT_H

#include "compute/backend.h"
#include "compute/cpu/pool.h"

#define EXO_GROUP_ROWS 16

struct exo_weight {
    exo_dtype type;
    uint32_t n_rows, n_cols;
    uint32_t n_groups;                 /* of 16 rows */
    uint32_t n_blocks;                 /* along one row */
    size_t group_quants, group_scales; /* bytes of one group in each plane */
    const uint8_t *quants, *scales;
    void *memory;
    size_t memory_bytes;
    bool borrowed; /* the memory is somebody else's */
};

/* Changes when the same matrix would be packed to other bytes. */
#define EXO_WEIGHT_LAYOUT 1

bool exo_weight_supported(exo_dtype type);

/* Packs (n_rows, n_cols) file bytes; the pool's threads share the work. */
exo_status exo_weight_pack(exo_pool *pool, exo_dtype type, uint32_t n_rows, uint32_t n_cols,
                           const void *src, exo_weight **out, exo_error *err);
/* Over bytes that were packed before; see weight_adopt in compute/backend.h. */
exo_status exo_weight_adopt(exo_pool *pool, const exo_packed *p, exo_weight **out, exo_error *err);
void exo_weight_free(exo_weight *w); /* NULL is allowed */

/* The file's bytes of one block of one row; row < 16 * n_groups. */
void exo_weight_block(const exo_weight *w, uint32_t row, uint32_t block, uint8_t *dst);
/* The file's bytes of the whole matrix. */
void exo_weight_unpack(const exo_weight *w, uint8_t *dst);

#endif
