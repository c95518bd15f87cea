/* weight.h - the packed form of a weight matrix on a Vulkan device.
 *
 * Kernels read 16-byte words only, so that a device without 8- and 16-bit storage runs them and
 * the best one has wide aligned loads.  Rows stand in groups of four and K in units of 32
 * elements: a unit of a group is what one lane of a product takes at a time.  Packing moves bits
 * and loses none: the file's bytes come back exactly, and the size stays the file's but for rows
 * and columns that fill up the last group and unit with zeros.
 *
 * A matrix is cut into slabs of whole groups that fit one storage buffer binding.  A slab is a
 * sequence of planes, [group][unit] each (K-quants: some per super-block of 8 units):
 *
 *   type       planes
 *   F32        f32 [4][32]
 *   F16, BF16  u16 [4][32]
 *   Q8_0       i8 [4][32]; d f16 [4]
 *   Q4_0       nibbles [4][32]; d f16 [4]
 *   Q4_1       nibbles [4][32]; {d, m} f16 [4]
 *   Q5_0       nibbles [4][32]; fifth bits [4][32]; d f16 [4]
 *   Q5_1       nibbles [4][32]; fifth bits [4][32]; {d, m} f16 [4]
 *   IQ4_NL     nibbles [4][32], indices into a table; d f16 [4]
 *   MXFP4      nibbles [4][32], likewise; exponents u8 [4]
 *   Q2_K       pairs [4][32]; {d, dmin} f16 [4] per super-block; u8 [4][2], scale and minimum of
 *              each half
 *   Q3_K       pairs [4][32]; third bits [4][32]; d f16 [4] per super-block; sixes, two scales
 *   Q4_K       nibbles [4][32]; {d, dmin} f16 [4] per super-block; sixes, scale and minimum
 *   Q5_K       as Q4_K, fifth bits [4][32] behind the nibbles
 *   Q6_K       nibbles [4][32]; pairs [4][32], the high bits; scales i8 [4][2]; d f16 [4] per
 *              super-block
 *   IQ4_XS     nibbles [4][32] as IQ4_NL; d f16 [4] per super-block; sixes, one scale
 *
 * Nibbles [32]: byte i holds element i low, 16 + i high.  Pairs [32]: bits 2j of byte k of word h
 * hold element 16h + 4j + k.  Bits [32]: bit j of byte k holds element 4j + k.  Sixes: numbers of
 * 6 bits, the first of each row, then the second; 48 bits (24 where there is one) as two planes,
 * the first two thirds as u32 (u16), the rest as u16 (u8).
 *
 * Thread: COMPUTE. */
#ifndef EXO_COMPUTE_VULKAN_WEIGHT_H
#define EXO_COMPUTE_VULKAN_WEIGHT_H

#include "compute/backend.h"
#include "compute/vulkan/device.h"

#define EXO_VK_GROUP_ROWS     4
#define EXO_VK_UNIT           32    /* elements along K */
#define EXO_VK_MAX_GROUPS     65535 /* of one slab: workgroups of one dispatch, at one a group */
#define EXO_VK_WEIGHT_TYPES   16
#define EXO_VK_NO_WEIGHT_TYPE UINT32_MAX

typedef struct {
    exo_vk_allocation *memory;
    uint32_t row0, n_rows; /* of the matrix */
    uint32_t n_groups;
} exo_vk_slab;

struct exo_weight {
    exo_dtype type;
    uint32_t n_rows, n_cols;
    uint32_t n_units; /* along one row */
    exo_vk_slab *slabs;
    uint32_t n_slabs;
    size_t memory_bytes;
    exo_weight *host; /* the matrix in the CPU's layout, instead of slabs: host.h; or NULL */
};

/* Which of a kernel's EXO_VK_WEIGHT_TYPES modules serves this type, or EXO_VK_NO_WEIGHT_TYPE. */
uint32_t exo_vk_weight_type(exo_dtype type);

/* Packs (n_rows, n_cols) file bytes onto the device. */
exo_status exo_vk_weight_pack(exo_vk_device *d, exo_dtype type, uint32_t n_rows, uint32_t n_cols,
                              const void *src, exo_weight **out, exo_error *err);
void exo_vk_weight_free(exo_vk_device *d, exo_weight *w); /* NULL is allowed */
/* The file's bytes of the whole matrix. */
exo_status exo_vk_weight_unpack(exo_vk_device *d, const exo_weight *w, void *dst, exo_error *err);

#endif
