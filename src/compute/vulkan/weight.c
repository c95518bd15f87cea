/* weight.c - packing of weights: file blocks to planes and back, a few groups at a time.
 *
 * Which bits go where is weight_blocks.c's.  A chunk of groups is packed in host memory, then each
 * plane's piece goes to its place in the slab.  Unpacking is the mirror: pieces come back, rows are
 * put together. */
#include "compute/vulkan/weight.h"

#include "base/mem.h"
#include "compute/vulkan/weight_blocks.h"

#include <string.h>

#define MAX_EDGE    (1u << 28) /* rows or columns of one matrix */
#define CHUNK_BYTES (1u << 20) /* host memory for packing */

static size_t group_bytes(exo_dtype type, uint32_t n_units) {
    size_t sum = 0;
    for (uint32_t i = 0; i < EXO_VK_MAX_PLANES; i++) sum += exo_vk_plane_bytes(type, i, n_units);
    return sum;
}

/* ---- slabs ---- */

/* Host memory for some groups of a slab: the planes' pieces one behind the other. */
typedef struct {
    const exo_weight *w;
    uint8_t *bytes;
    uint32_t cap; /* groups */
} chunk;

static exo_status chunk_init(chunk *c, const exo_weight *w, exo_error *err) {
    size_t one = group_bytes(w->type, w->n_units), n = CHUNK_BYTES / one;
    *c = (chunk){.w = w, .cap = n == 0 ? 1 : (uint32_t)n};
    c->bytes = exo_malloc(c->cap * one);
    return c->bytes != NULL ? EXO_OK : exo_error_set(err, EXO_ENOMEM, "no memory to pack weights");
}

static exo_vk_place chunk_group(const chunk *c, uint32_t n_groups, uint32_t g) {
    exo_vk_place at = {{NULL}, 0};
    uint8_t *p = c->bytes;
    for (uint32_t i = 0; i < EXO_VK_MAX_PLANES; i++) {
        size_t bytes = exo_vk_plane_bytes(c->w->type, i, c->w->n_units);
        at.plane[i] = p + g * bytes;
        p += n_groups * bytes;
    }
    return at;
}

/* The file bytes (`file` = the matrix's) of n groups from g0 on, to or from the chunk. */
static void chunk_rows(const chunk *c, const exo_vk_slab *s, uint32_t g0, uint32_t n, uint8_t *file,
                       bool pack) {
    size_t row_bytes = exo_dtype_row_bytes(c->w->type, c->w->n_cols);
    if (pack) memset(c->bytes, 0, n * group_bytes(c->w->type, c->w->n_units));
    for (uint32_t g = 0; g < n; g++) {
        exo_vk_place at = chunk_group(c, n, g);
        for (at.r = 0; at.r < EXO_VK_GROUP_ROWS; at.r++) {
            uint32_t row = (g0 + g) * EXO_VK_GROUP_ROWS + at.r;
            if (row >= s->n_rows) continue;
            exo_vk_move_row(c->w->type, c->w->n_cols, &at, file + (s->row0 + row) * row_bytes,
                            pack);
        }
    }
}

/* The chunk's n groups from g0 on, to or from the device. */
static exo_status chunk_copy(const chunk *c, exo_vk_device *d, const exo_vk_slab *s, uint32_t g0,
                             uint32_t n, bool pack, exo_error *err) {
    uint8_t *p = c->bytes;
    size_t plane_at = 0;
    for (uint32_t i = 0; i < EXO_VK_MAX_PLANES; i++) {
        size_t bytes = exo_vk_plane_bytes(c->w->type, i, c->w->n_units);
        if (bytes == 0) break;
        exo_status st;
        exo_vk_fence done;
        if (pack) {
            st = exo_vk_copy_to_device(d->transfer, s->memory, plane_at + g0 * bytes, p, n * bytes,
                                       &done, err);
        } else {
            st = exo_vk_copy_from_device(d->transfer, p, s->memory, plane_at + g0 * bytes,
                                         n * bytes, err);
        }
        if (st != EXO_OK) return st;
        p += n * bytes;
        plane_at += s->n_groups * bytes;
    }
    return EXO_OK;
}

static exo_status move_slabs(exo_vk_device *d, const exo_weight *w, uint8_t *file, bool pack,
                             exo_error *err) {
    chunk c;
    exo_status st = chunk_init(&c, w, err);
    for (uint32_t i = 0; st == EXO_OK && i < w->n_slabs; i++) {
        const exo_vk_slab *s = &w->slabs[i];
        for (uint32_t g = 0; st == EXO_OK && g < s->n_groups; g += c.cap) {
            uint32_t n = s->n_groups - g < c.cap ? s->n_groups - g : c.cap;
            if (pack) chunk_rows(&c, s, g, n, file, true);
            st = chunk_copy(&c, d, s, g, n, pack, err);
            if (st == EXO_OK && !pack) chunk_rows(&c, s, g, n, file, false);
        }
    }
    exo_free(c.bytes);
    return st;
}

/* ---- weights ---- */

static exo_status check_shape(exo_dtype type, uint32_t n_rows, uint32_t n_cols, exo_error *err) {
    const exo_dtype_info *info = exo_dtype_get((uint32_t)type);
    if (exo_vk_weight_type(type) == EXO_VK_NO_WEIGHT_TYPE) {
        return exo_error_set(err, EXO_EUNSUPPORTED,
                             "the Vulkan backend has no kernels for %s weights",
                             info != NULL && info->name != NULL ? info->name : "unknown");
    }
    if (n_rows == 0 || n_cols == 0 || n_rows > MAX_EDGE || n_cols > MAX_EDGE) {
        return exo_error_set(err, EXO_EINVAL, "weight shape (%u, %u) is out of range", n_rows,
                             n_cols);
    }
    if (n_cols % info->block_elems != 0) {
        return exo_error_set(err, EXO_EINVAL, "%u columns are not a multiple of the %s block of %u",
                             n_cols, info->name, info->block_elems);
    }
    return EXO_OK;
}

static exo_status cut_slabs(exo_vk_device *d, exo_weight *w, exo_error *err) {
    size_t one = group_bytes(w->type, w->n_units);
    uint32_t n_groups = (w->n_rows + EXO_VK_GROUP_ROWS - 1) / EXO_VK_GROUP_ROWS;
    uint64_t most = d->caps.max_storage_range;
    if (most > d->caps.max_buffer_bytes) most = d->caps.max_buffer_bytes;
    most /= one;
    if (most > EXO_VK_MAX_GROUPS) most = EXO_VK_MAX_GROUPS;
    if (most == 0) {
        return exo_error_set(err, EXO_EUNSUPPORTED, "%u columns do not fit one buffer of vulkan:%u",
                             w->n_cols, d->index);
    }
    w->n_slabs = (uint32_t)((n_groups + most - 1) / most);
    w->slabs = exo_calloc(w->n_slabs, sizeof *w->slabs);
    if (w->slabs == NULL) {
        w->n_slabs = 0;
        return exo_error_set(err, EXO_ENOMEM, "no memory for a weight");
    }
    for (uint32_t i = 0, g = 0; i < w->n_slabs; i++) {
        exo_vk_slab *s = &w->slabs[i];
        s->n_groups = n_groups - g < most ? n_groups - g : (uint32_t)most;
        s->row0 = g * EXO_VK_GROUP_ROWS;
        uint32_t left = w->n_rows - s->row0, all = s->n_groups * EXO_VK_GROUP_ROWS;
        s->n_rows = left < all ? left : all;
        g += s->n_groups;
        VkDeviceSize bytes = (s->n_groups * one + 15) / 16 * 16; /* whole texels */
        exo_status st =
            exo_vk_memory_allocate(&d->memory, EXO_VK_MEMORY_DEVICE, bytes, &s->memory, err);
        if (st != EXO_OK) return st;
        w->memory_bytes += s->memory->held_bytes;
    }
    return EXO_OK;
}

exo_status exo_vk_weight_pack(exo_vk_device *d, exo_dtype type, uint32_t n_rows, uint32_t n_cols,
                              const void *src, exo_weight **out, exo_error *err) {
    *out = NULL;
    exo_status st = check_shape(type, n_rows, n_cols, err);
    if (st != EXO_OK) return st;
    exo_weight *w = exo_calloc(1, sizeof *w);
    if (w == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for a weight");
    w->type = type;
    w->n_rows = n_rows;
    w->n_cols = n_cols;
    w->n_units = (n_cols + EXO_VK_UNIT - 1) / EXO_VK_UNIT;
    st = cut_slabs(d, w, err);
    /* packing only reads the file's bytes */
    if (st == EXO_OK) st = move_slabs(d, w, (uint8_t *)(uintptr_t)src, true, err);
    if (st != EXO_OK) {
        exo_vk_weight_free(d, w);
        return st;
    }
    *out = w;
    return EXO_OK;
}

void exo_vk_weight_free(exo_vk_device *d, exo_weight *w) {
    if (w == NULL) return;
    for (uint32_t i = 0; i < w->n_slabs; i++) {
        exo_vk_memory_deallocate(&d->memory, w->slabs[i].memory);
    }
    exo_free(w->slabs);
    exo_free(w);
}

exo_status exo_vk_weight_unpack(exo_vk_device *d, const exo_weight *w, void *dst, exo_error *err) {
    return move_slabs(d, w, dst, false, err);
}
