/* weight_blocks.h - which bits of a file's block stand where in the planes of a packed group.
 *
 * The layouts themselves are drawn in weight.h.  Both directions are one description: a move takes
 * the same bits from the file to the planes, or back.  Thread: ANY. */
#ifndef EXO_COMPUTE_VULKAN_WEIGHT_BLOCKS_H
#define EXO_COMPUTE_VULKAN_WEIGHT_BLOCKS_H

#include "compute/dtype.h"

#define EXO_VK_MAX_PLANES 5

/* A row of a group: the group's place in each plane, and the row's number in it. */
typedef struct {
    uint8_t *plane[EXO_VK_MAX_PLANES];
    uint32_t r;
} exo_vk_place;

/* Bytes that a group of so many units takes in plane i of a type with kernels; 0 = no plane. */
size_t exo_vk_plane_bytes(exo_dtype type, uint32_t i, uint32_t n_units);

/* n_cols elements between a row's file bytes and its group.  When packing, the group began as
 * zeros; when unpacking, the file's bytes are written whole. */
void exo_vk_move_row(exo_dtype type, uint32_t n_cols, const exo_vk_place *at, uint8_t *file,
                     bool pack);

#endif
