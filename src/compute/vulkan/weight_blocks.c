/* weight_blocks.c - the layouts of all packed types as tables, and the moves that they consist of.
 *
 * A plane is filled in one of a few ways; a type is a list of planes.  So a type whose blocks are
 * cut like another's costs a line here, and packing cannot differ from unpacking. */
#include "compute/vulkan/weight_blocks.h"

#include "compute/vulkan/weight.h"

#include <string.h>

#define SUPER_UNITS 8 /* units in a super-block */

typedef enum {
    NONE,
    FLOATS,     /* elements in order; the last unit of a row may be short */
    COPY,       /* the bytes of each unit as they stand in the block */
    COPY_SUPER, /* the block's bytes, once per super-block */
    NIBBLES_K,  /* quants of 4 bits: units 2i and 2i + 1 share 32 bytes */
    NIBBLES_6,  /* the same, units i and i + 2 of each four */
    PAIRS,      /* of 2 bits: each four units share 32 bytes */
    BITS,       /* of 1 bit: 32 bits in order */
    BITS_K,     /* of 1 bit: all eight units share 32 bytes */
    SIXES,      /* codes of 6 bits: the first two thirds of their bits; the next plane: */
    REST,       /* the last third */
} filling;

typedef struct {
    filling fill;
    uint16_t bytes; /* that one group takes, for each unit or each super-block */
    uint16_t at;    /* first byte in the file's block */
} plane;

/* Where the two pieces of a 6-bit code stand, 4 bits and 2, behind the plane's first byte. */
typedef struct {
    uint32_t low, low_shift, high, high_shift;
} code_bits;
typedef code_bits (*code_fn)(uint32_t s, uint32_t which); /* code `which` of unit s */

typedef struct {
    exo_dtype type;
    plane planes[EXO_VK_MAX_PLANES];
    code_fn code;
} layout;

/* Q4_K, Q5_K: a scale and a minimum. */
static code_bits code_k(uint32_t s, uint32_t which) {
    if (s < 4) return (code_bits){4 * which + s, 0, 4 * which + s, 4};
    return (code_bits){4 + s, 4 * which, 4 * which + s - 4, 6};
}

/* Q3_K: a scale for each half. */
static code_bits code_3(uint32_t s, uint32_t which) {
    uint32_t j = 2 * s + which;
    return (code_bits){j % 8, j / 8 * 4, 8 + j % 4, j / 4 * 2};
}

static code_bits code_xs(uint32_t s, uint32_t which) {
    (void)which; /* one scale */
    return (code_bits){2 + s / 2, s % 2 * 4, s / 4, s % 4 * 2};
}

static const layout layouts[EXO_VK_WEIGHT_TYPES] = {
    {EXO_F32, {{FLOATS, 512, 0}}, NULL},
    {EXO_F16, {{FLOATS, 256, 0}}, NULL},
    {EXO_BF16, {{FLOATS, 256, 0}}, NULL},
    {EXO_Q4_0, {{COPY, 64, 2}, {COPY, 8, 0}}, NULL},
    {EXO_Q8_0, {{COPY, 128, 2}, {COPY, 8, 0}}, NULL},
    {EXO_Q4_K, {{NIBBLES_K, 64, 16}, {COPY_SUPER, 16, 0}, {SIXES, 4, 4}, {REST, 2, 0}}, code_k},
    {EXO_Q6_K, {{NIBBLES_6, 64, 0}, {PAIRS, 32, 128}, {COPY, 8, 192}, {COPY_SUPER, 8, 208}}, NULL},
    {EXO_Q4_1, {{COPY, 64, 4}, {COPY, 16, 0}}, NULL},
    {EXO_Q5_0, {{COPY, 64, 6}, {BITS, 16, 2}, {COPY, 8, 0}}, NULL},
    {EXO_Q5_1, {{COPY, 64, 8}, {BITS, 16, 4}, {COPY, 16, 0}}, NULL},
    {EXO_Q2_K, {{PAIRS, 32, 16}, {COPY_SUPER, 16, 80}, {COPY, 8, 0}}, NULL},
    {EXO_Q3_K,
     {{PAIRS, 32, 32}, {BITS_K, 16, 0}, {COPY_SUPER, 8, 108}, {SIXES, 4, 96}, {REST, 2, 0}},
     code_3},
    {EXO_Q5_K,
     {{NIBBLES_K, 64, 48}, {BITS_K, 16, 16}, {COPY_SUPER, 16, 0}, {SIXES, 4, 4}, {REST, 2, 0}},
     code_k},
    {EXO_IQ4_NL, {{COPY, 64, 2}, {COPY, 8, 0}}, NULL},
    {EXO_IQ4_XS, {{COPY, 64, 8}, {COPY_SUPER, 8, 0}, {SIXES, 2, 2}, {REST, 1, 0}}, code_xs},
    {EXO_MXFP4, {{COPY, 64, 1}, {COPY, 4, 0}}, NULL},
};

uint32_t exo_vk_weight_type(exo_dtype type) {
    for (uint32_t i = 0; i < EXO_VK_WEIGHT_TYPES; i++) {
        if (layouts[i].type == type) return i;
    }
    return EXO_VK_NO_WEIGHT_TYPE;
}

size_t exo_vk_plane_bytes(exo_dtype type, uint32_t i, uint32_t n_units) {
    const plane *p = &layouts[exo_vk_weight_type(type)].planes[i];
    return (size_t)p->bytes * (p->fill == COPY_SUPER ? n_units / SUPER_UNITS : n_units);
}

/* ---- moves ---- */

static void move_bytes(uint8_t *packed, uint8_t *file, size_t n, bool pack) {
    memcpy(pack ? packed : file, pack ? file : packed, n);
}

/* n bits within one byte of either side; where they go is still zero. */
static void move_bits(uint8_t *packed, uint32_t packed_shift, uint8_t *file, uint32_t file_shift,
                      uint32_t n, bool pack) {
    uint32_t mask = (1u << n) - 1;
    if (pack) {
        *packed |= (uint8_t)((*file >> file_shift & mask) << packed_shift);
    } else {
        *file |= (uint8_t)((*packed >> packed_shift & mask) << file_shift);
    }
}

/* The quants of unit s of a block, as the planes have them (weight.h). */
static void move_quants(filling fill, uint8_t *packed, uint8_t *file, uint32_t s, bool pack) {
    for (uint32_t e = 0; e < EXO_VK_UNIT; e++) {
        uint8_t *bit = &packed[e % 4];
        if (fill == NIBBLES_K) {
            move_bits(&packed[e % 16], e / 16 * 4, &file[s / 2 * 32 + e], s % 2 * 4, 4, pack);
        } else if (fill == NIBBLES_6) {
            uint8_t *byte = &file[s / 4 * 64 + s % 2 * 32 + e];
            move_bits(&packed[e % 16], e / 16 * 4, byte, s % 4 / 2 * 4, 4, pack);
        } else if (fill == PAIRS) {
            uint8_t *byte = &file[s / 4 * 32 + e];
            move_bits(&packed[e / 16 * 4 + e % 4], e / 4 % 4 * 2, byte, s % 4 * 2, 2, pack);
        } else if (fill == BITS) {
            move_bits(bit, e / 4, &file[e / 8], e % 8, 1, pack);
        } else {
            move_bits(bit, e / 4, &file[e], s, 1, pack);
        }
    }
}

/* The 6-bit codes of one row of a unit, bit by bit: `first` and `rest` are the unit's bytes of the
 * two planes, n those of the first. */
static void move_codes(uint8_t *first, uint8_t *rest, uint32_t n, uint32_t r,
                       const code_bits codes[2], uint8_t *file, bool pack) {
    for (uint32_t which = 0; which < n / 2; which++) {
        const code_bits *c = &codes[which];
        for (uint32_t bit = 0; bit < 6; bit++) {
            uint32_t to = (which * EXO_VK_GROUP_ROWS + r) * 6 + bit;
            uint8_t *packed = to / 8 < n ? &first[to / 8] : &rest[to / 8 - n];
            uint32_t shift = bit < 4 ? c->low_shift + bit : c->high_shift + bit - 4;
            move_bits(packed, to % 8, &file[bit < 4 ? c->low : c->high], shift, 1, pack);
        }
    }
}

/* ---- rows ---- */

/* n bytes; units follow each other at four times their own size. */
static void move_floats(const exo_vk_place *at, uint8_t *file, size_t n, size_t unit, bool pack) {
    for (size_t e = 0; e * unit < n; e++) {
        size_t left = n - e * unit;
        uint8_t *packed = at->plane[0] + (e * EXO_VK_GROUP_ROWS + at->r) * unit;
        move_bytes(packed, file + e * unit, left < unit ? left : unit, pack);
    }
}

typedef struct {
    uint32_t b, s; /* block of the row, unit of the block */
    size_t u;      /* unit of the row */
} unit_place;

/* What plane i has of one unit. */
static void move_plane(const layout *l, uint32_t i, const exo_vk_place *at, uint8_t *block,
                       unit_place unit, bool pack) {
    const plane *p = &l->planes[i];
    uint32_t s = unit.s, size = p->bytes / EXO_VK_GROUP_ROWS;
    size_t u = unit.u;
    uint8_t *packed = at->plane[i] + (u * EXO_VK_GROUP_ROWS + at->r) * size;
    uint8_t *file = block + p->at;
    if (p->fill == COPY) {
        move_bytes(packed, file + (size_t)s * size, size, pack);
    } else if (p->fill == COPY_SUPER) {
        packed = at->plane[i] + ((size_t)unit.b * EXO_VK_GROUP_ROWS + at->r) * size;
        if (s == 0) move_bytes(packed, file, size, pack);
    } else if (p->fill == SIXES) {
        const code_bits codes[2] = {l->code(s, 0), l->code(s, 1)};
        move_codes(at->plane[i] + u * p->bytes, at->plane[i + 1] + u * p->bytes / 2, p->bytes,
                   at->r, codes, file, pack);
    } else if (p->fill != REST) {
        move_quants(p->fill, packed, file, s, pack);
    }
}

void exo_vk_move_row(exo_dtype type, uint32_t n_cols, const exo_vk_place *at, uint8_t *file,
                     bool pack) {
    const exo_dtype_info *info = exo_dtype_get(type);
    const layout *l = &layouts[exo_vk_weight_type(type)];
    if (l->planes[0].fill == FLOATS) {
        move_floats(at, file, exo_dtype_row_bytes(type, n_cols),
                    l->planes[0].bytes / EXO_VK_GROUP_ROWS, pack);
        return;
    }
    uint32_t n = info->block_elems / EXO_VK_UNIT;
    for (uint32_t b = 0; b < n_cols / info->block_elems; b++, file += info->block_bytes) {
        if (!pack) memset(file, 0, info->block_bytes);
        for (uint32_t i = 0; i < EXO_VK_MAX_PLANES && l->planes[i].fill != NONE; i++) {
            for (uint32_t s = 0; s < n; s++) {
                move_plane(l, i, at, file, (unit_place){b, s, (size_t)b * n + s}, pack);
            }
        }
    }
}
