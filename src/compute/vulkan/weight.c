/* weight.c - packing of weights: file blocks to planes and back, a few groups at a time.
 *
 * A chunk of groups is packed in host memory, then each plane's piece goes to its place in the
 * slab.  Unpacking is the mirror: pieces come back, rows are put together. */
#include "compute/vulkan/weight.h"

#include "base/le.h"
#include "base/mem.h"

#include <string.h>

#define MAX_EDGE    (1u << 28) /* rows or columns of one matrix */
#define MAX_PLANES  4
#define CHUNK_BYTES (1u << 20) /* host memory for packing */
#define SUPER_UNITS 8          /* units in a super-block of a K-quant */

/* Bytes that one group takes in a plane, for each unit or each super-block. */
typedef struct {
    uint32_t bytes;
    bool per_super;
} plane;

typedef struct {
    exo_dtype type;
    plane planes[MAX_PLANES];
} layout;

static const layout layouts[EXO_VK_WEIGHT_TYPES] = {
    {EXO_F32, {{512, false}}},
    {EXO_F16, {{256, false}}},
    {EXO_BF16, {{256, false}}},
    {EXO_Q4_0, {{64, false}, {8, false}}},
    {EXO_Q8_0, {{128, false}, {8, false}}},
    {EXO_Q4_K, {{64, false}, {16, true}, {4, false}, {2, false}}},
    {EXO_Q6_K, {{64, false}, {32, false}, {8, false}, {8, true}}},
};

uint32_t exo_vk_weight_type(exo_dtype type) {
    for (uint32_t i = 0; i < EXO_VK_WEIGHT_TYPES; i++) {
        if (layouts[i].type == type) return i;
    }
    return EXO_VK_NO_WEIGHT_TYPE;
}

static const layout *layout_of(exo_dtype type) { return &layouts[exo_vk_weight_type(type)]; }

static size_t plane_bytes(const plane *p, uint32_t n_units) { /* of one group */
    return (size_t)p->bytes * (p->per_super ? n_units / SUPER_UNITS : n_units);
}

static size_t group_bytes(const layout *l, uint32_t n_units) {
    size_t sum = 0;
    for (int i = 0; i < MAX_PLANES; i++) sum += plane_bytes(&l->planes[i], n_units);
    return sum;
}

/* ---- one row of one group ---- */

/* The group's place in each plane. */
typedef struct {
    uint8_t *plane[MAX_PLANES];
    uint32_t r; /* row in the group */
} place;

/* n elements of `size` bytes; units follow each other at four times their own size. */
static void move_floats(const place *at, uint8_t *file, uint32_t n, uint32_t size, bool pack) {
    uint32_t unit = EXO_VK_UNIT * size;
    for (uint32_t e = 0, left = n * size; left > 0; e++) {
        uint32_t bytes = left < unit ? left : unit;
        uint8_t *packed = at->plane[0] + ((size_t)e * EXO_VK_GROUP_ROWS + at->r) * unit;
        if (pack) {
            memcpy(packed, file + (size_t)e * unit, bytes);
        } else {
            memcpy(file + (size_t)e * unit, packed, bytes);
        }
        left -= bytes;
    }
}

/* Q4_0 and Q8_0: an f16 scale, then `quants` bytes. */
static void move_simple(const place *at, uint8_t *block, uint32_t u, uint32_t quants, bool pack) {
    uint8_t *q = at->plane[0] + ((size_t)u * EXO_VK_GROUP_ROWS + at->r) * quants;
    uint8_t *d = at->plane[1] + (size_t)u * 8 + at->r * 2u;
    memcpy(pack ? d : block, pack ? block : d, 2);
    memcpy(pack ? q : block + 2, pack ? block + 2 : q, quants);
}

static void put_nibble(uint8_t *q, uint32_t e, uint32_t v) {
    q[e % 16] |= (uint8_t)(v << (e < 16 ? 0 : 4));
}
static uint32_t get_nibble(const uint8_t *q, uint32_t e) {
    return (uint32_t)q[e % 16] >> (e < 16 ? 0 : 4) & 15;
}

/* The 12 scale bytes of a Q4_K block as 8 scales and 8 minima, and back. */
static void read_scales(const uint8_t *s, uint8_t scale[8], uint8_t min[8]) {
    for (int j = 0; j < 4; j++) {
        scale[j] = s[j] & 63;
        min[j] = s[4 + j] & 63;
        scale[4 + j] = (uint8_t)((s[8 + j] & 15) | s[j] >> 6 << 4);
        min[4 + j] = (uint8_t)(s[8 + j] >> 4 | s[4 + j] >> 6 << 4);
    }
}
static void write_scales(uint8_t *s, const uint8_t scale[8], const uint8_t min[8]) {
    for (int j = 0; j < 4; j++) {
        s[j] = (uint8_t)(scale[j] | scale[4 + j] >> 4 << 6);
        s[4 + j] = (uint8_t)(min[j] | min[4 + j] >> 4 << 6);
        s[8 + j] = (uint8_t)((scale[4 + j] & 15) | (min[4 + j] & 15) << 4);
    }
}

/* {d, dmin, scales[12], quants[128]}; super-block b of the row. */
static void pack_q4_k(const place *at, const uint8_t *block, uint32_t b) {
    uint8_t scale[8], min[8];
    read_scales(block + 4, scale, min);
    memcpy(at->plane[1] + (size_t)b * 16 + at->r * 4u, block, 4);
    for (uint32_t s = 0; s < SUPER_UNITS; s++) {
        size_t u = (size_t)b * SUPER_UNITS + s;
        uint8_t *q = at->plane[0] + (u * EXO_VK_GROUP_ROWS + at->r) * 16;
        for (uint32_t e = 0; e < EXO_VK_UNIT; e++) {
            put_nibble(q, e, (uint32_t)block[16 + s / 2 * 32 + e] >> (s % 2 * 4) & 15);
        }
        uint32_t minima = (uint32_t)min[s] << (6 * at->r);
        uint8_t *low = at->plane[2] + u * 4, *high = at->plane[3] + u * 2;
        uint32_t word = exo_get_u32(low) | (uint32_t)scale[s] << (6 * at->r) | minima << 24;
        exo_put_u32(low, word);
        exo_put_u16(high, (uint16_t)(exo_get_u16(high) | minima >> 8));
    }
}

static void unpack_q4_k(const place *at, uint8_t *block, uint32_t b) {
    uint8_t scale[8], min[8];
    memset(block, 0, 144);
    memcpy(block, at->plane[1] + (size_t)b * 16 + at->r * 4u, 4);
    for (uint32_t s = 0; s < SUPER_UNITS; s++) {
        size_t u = (size_t)b * SUPER_UNITS + s;
        const uint8_t *q = at->plane[0] + (u * EXO_VK_GROUP_ROWS + at->r) * 16;
        for (uint32_t e = 0; e < EXO_VK_UNIT; e++) {
            block[16 + s / 2 * 32 + e] |= (uint8_t)(get_nibble(q, e) << (s % 2 * 4));
        }
        uint32_t word = exo_get_u32(at->plane[2] + u * 4);
        uint32_t minima = word >> 24 | (uint32_t)exo_get_u16(at->plane[3] + u * 2) << 8;
        scale[s] = (uint8_t)(word >> (6 * at->r) & 63);
        min[s] = (uint8_t)(minima >> (6 * at->r) & 63);
    }
    write_scales(block + 4, scale, min);
}

/* Where element e of unit s of a Q6_K block stands in {low[128], high[64], scales[16], d}. */
typedef struct {
    uint32_t low, low_shift, high, high_shift;
} q6_bits;

static q6_bits q6_bits_of(uint32_t s, uint32_t e) {
    uint32_t half = s / 4, quarter = s % 4;
    return (q6_bits){half * 64 + quarter % 2 * 32 + e, quarter / 2 * 4, 128 + half * 32 + e,
                     quarter * 2};
}

static void move_q6_k(const place *at, uint8_t *block, uint32_t b, bool pack) {
    uint8_t *d = at->plane[3] + (size_t)b * 8 + at->r * 2u;
    if (!pack) memset(block, 0, 192);
    memcpy(pack ? d : block + 208, pack ? block + 208 : d, 2);
    for (uint32_t s = 0; s < SUPER_UNITS; s++) {
        size_t u = (size_t)b * SUPER_UNITS + s;
        uint8_t *low = at->plane[0] + (u * EXO_VK_GROUP_ROWS + at->r) * 16;
        uint8_t *high = at->plane[1] + (u * EXO_VK_GROUP_ROWS + at->r) * 8;
        uint8_t *scale = at->plane[2] + u * 8 + at->r * 2u, *file_scale = block + 192 + s * 2;
        memcpy(pack ? scale : file_scale, pack ? file_scale : scale, 2);
        for (uint32_t e = 0; e < EXO_VK_UNIT; e++) {
            q6_bits at_file = q6_bits_of(s, e);
            uint8_t *high_byte = &high[e / 16 * 4 + e % 4];
            uint32_t high_shift = e / 4 % 4 * 2;
            if (pack) {
                put_nibble(low, e, (uint32_t)block[at_file.low] >> at_file.low_shift & 15);
                uint32_t bits = (uint32_t)block[at_file.high] >> at_file.high_shift & 3;
                *high_byte |= (uint8_t)(bits << high_shift);
            } else {
                block[at_file.low] |= (uint8_t)(get_nibble(low, e) << at_file.low_shift);
                uint32_t bits = (uint32_t)*high_byte >> high_shift & 3;
                block[at_file.high] |= (uint8_t)(bits << at_file.high_shift);
            }
        }
    }
}

/* One row between its file bytes and its group.  When packing the group began as zeros. */
static void move_row(const exo_weight *w, const place *at, uint8_t *file, bool pack) {
    const exo_dtype_info *info = exo_dtype_get(w->type);
    uint32_t n_blocks = w->n_cols / info->block_elems;
    if (w->type == EXO_F32 || w->type == EXO_F16 || w->type == EXO_BF16) {
        move_floats(at, file, w->n_cols, info->block_bytes, pack);
        return;
    }
    for (uint32_t b = 0; b < n_blocks; b++, file += info->block_bytes) {
        if (w->type == EXO_Q6_K) {
            move_q6_k(at, file, b, pack);
        } else if (w->type != EXO_Q4_K) {
            move_simple(at, file, b, w->type == EXO_Q4_0 ? 16 : 32, pack);
        } else if (pack) {
            pack_q4_k(at, file, b);
        } else {
            unpack_q4_k(at, file, b);
        }
    }
}

/* ---- slabs ---- */

/* Host memory for some groups of a slab: the planes' pieces one behind the other. */
typedef struct {
    const exo_weight *w;
    const layout *l;
    uint8_t *bytes;
    uint32_t cap; /* groups */
} chunk;

static exo_status chunk_init(chunk *c, const exo_weight *w, exo_error *err) {
    size_t one = group_bytes(layout_of(w->type), w->n_units), n = CHUNK_BYTES / one;
    *c = (chunk){.w = w, .l = layout_of(w->type), .cap = n == 0 ? 1 : (uint32_t)n};
    c->bytes = exo_malloc(c->cap * one);
    return c->bytes != NULL ? EXO_OK : exo_error_set(err, EXO_ENOMEM, "no memory to pack weights");
}

static place chunk_group(const chunk *c, uint32_t n_groups, uint32_t g) {
    place at = {{NULL}, 0};
    uint8_t *p = c->bytes;
    for (int i = 0; i < MAX_PLANES; i++) {
        size_t bytes = plane_bytes(&c->l->planes[i], c->w->n_units);
        at.plane[i] = p + g * bytes;
        p += n_groups * bytes;
    }
    return at;
}

/* The file bytes (`file` = the matrix's) of n groups from g0 on, to or from the chunk. */
static void chunk_rows(const chunk *c, const exo_vk_slab *s, uint32_t g0, uint32_t n, uint8_t *file,
                       bool pack) {
    size_t row_bytes = exo_dtype_row_bytes(c->w->type, c->w->n_cols);
    if (pack) memset(c->bytes, 0, n * group_bytes(c->l, c->w->n_units));
    for (uint32_t g = 0; g < n; g++) {
        place at = chunk_group(c, n, g);
        for (at.r = 0; at.r < EXO_VK_GROUP_ROWS; at.r++) {
            uint32_t row = (g0 + g) * EXO_VK_GROUP_ROWS + at.r;
            if (row < s->n_rows) move_row(c->w, &at, file + (s->row0 + row) * row_bytes, pack);
        }
    }
}

/* The chunk's n groups from g0 on, to or from the device. */
static exo_status chunk_copy(const chunk *c, exo_vk_device *d, const exo_vk_slab *s, uint32_t g0,
                             uint32_t n, bool pack, exo_error *err) {
    uint8_t *p = c->bytes;
    size_t plane_at = 0;
    for (int i = 0; i < MAX_PLANES; i++) {
        size_t bytes = plane_bytes(&c->l->planes[i], c->w->n_units);
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
    size_t one = group_bytes(layout_of(w->type), w->n_units);
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
