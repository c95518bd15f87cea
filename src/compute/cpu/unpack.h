/* unpack.h - the unpacked form of a group's blocks, and how each weight type gets there.
 *
 * A group's blocks are unpacked, 256 elements at a time, into signed bytes and their scales, which
 * stay in the first-level cache; every column of the activations then passes over them.  What
 * multiplies them is unpacked.h's, paired_avx2.h's or one instruction set's own.
 *
 * Included by one file per instruction set, behind a header that defines registers of 4 bytes
 * (32 bits) for BV_ROWS rows, BV_ROWS being 4, 8 or 16, in which a 16-byte lane is 4 rows:
 *   bv                     that many bytes; fv: as floats
 *   bv_load, bv_store      unaligned; bv_load_u8, bv_load_u16: 8 or 16 bits of a row, widened
 *   bv_bytes, bv_words     one byte, or 32 bits, everywhere; bv_table: 16 bytes in each lane
 *   bv_and, bv_or, bv_sub8, bv_same8 (bytes: 0xFF where equal), bv_sub32
 *   bv_shr, bv_shl, bv_sar logical and arithmetic shifts of 32-bit words
 *   bv_pick(table, index)  in each 16-byte lane: byte i becomes table[index[i]]; index < 16
 *   fv_store, fv_load_f16, fv_scaled (v, float) */
#include "compute/blocks_iq.h"
#include "compute/cpu/tile_drive.h"

#include <string.h>

#define ELEMENTS 256  /* in the unpacked form: one block of 256, or up to 8 of 32 */
#define AHEAD    1024 /* bytes ahead in the packed planes */

typedef struct {
    int8_t q[ELEMENTS / 4][EXO_GROUP_ROWS][4];
    int16_t scale[16][EXO_GROUP_ROWS][2]; /* of each 16 elements, twice */
    int16_t min[8][EXO_GROUP_ROWS][2];    /* of each 16 elements, pairs in exo_sum16_at's order */
    float d[8][EXO_GROUP_ROWS], dmin[8][EXO_GROUP_ROWS]; /* of each block */
} unpacked;

/* n blocks of a group, from its two planes. */
typedef void (*unpack_fn)(unpacked *u, const exo_weight *w, uint32_t g, uint32_t b, uint32_t n);

static const uint8_t *quants_at(const exo_weight *w, uint32_t g, uint32_t b, size_t record) {
    return w->quants + g * w->group_quants + b * record;
}

static const uint8_t *scales_at(const exo_weight *w, uint32_t g, uint32_t b, size_t record) {
    return w->scales + g * w->group_scales + b * record;
}

EXO_INLINE void ahead(const uint8_t *p, uint32_t bytes) {
    for (uint32_t i = 0; i < bytes; i += 64) __builtin_prefetch(p + AHEAD + i);
}

EXO_INLINE void put_words(unpacked *u, int word, int row, bv v) { bv_store(u->q[word][row], v); }

/* Four bytes of the lane for all of it: byte j (constant) of each row, twice as int16. */
EXO_INLINE bv twice(bv v, int j) {
    bv top = bv_shl(v, 24 - 8 * j);
    return bv_or(bv_and(bv_sar(top, 8), bv_words(0xFFFF0000u)), bv_shr(bv_sar(top, 8), 16));
}

/* ---- blocks of 32 ---- */

EXO_INLINE bv nibbles(bv v, int high) { return bv_and(high ? bv_shr(v, 4) : v, bv_bytes(15)); }

/* Bits 4t .. 4t + 3 of each row as its four bytes, 0x10 or 0. */
EXO_INLINE bv fifth_bits(bv bits, int t) {
    static const int8_t first[16] = {0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12};
    bv from = bv_or(bv_table(first), bv_bytes(t / 2));
    bv mask = bv_words(t % 2 == 0 ? 0x08040201u : 0x80402010u);
    return bv_and(bv_same8(bv_and(bv_pick(bits, from), mask), mask), bv_bytes(0x10));
}

/* The bits of exo_mxfp4_scale(e) of each row: e < 2 are denormal. */
EXO_INLINE bv mxfp4_scales(bv e) {
    bv zero = bv_words(0), one = bv_words(1);
    bv small = bv_sar(bv_shl(bv_same8(bv_and(e, bv_words(0xFE)), zero), 24), 24);
    bv large = bv_sub32(bv_words(0xFFFFFFFFu), small);
    return bv_or(bv_and(small, bv_shl(bv_sub32(e, bv_words(0xFFFFFFFFu)), 21)),
                 bv_and(large, bv_shl(bv_sub32(e, one), 23)));
}

typedef struct {
    uint32_t quants, scales; /* bytes of a record */
    bool fifth, minima;
    int offset;           /* of the quants, or */
    const int8_t *values; /* what they are indices of */
} small_type;

EXO_INLINE void unpack_small(unpacked *u, const uint8_t *q, const uint8_t *s, uint32_t n,
                             const small_type t) {
    bv table = t.values != NULL ? bv_table(t.values) : bv_bytes(0);
    ahead(q, n * t.quants);
    for (uint32_t b = 0; b < n; b++, q += t.quants, s += t.scales) {
        EXO_UNROLL for (int r = 0; r < EXO_GROUP_ROWS; r += BV_ROWS) {
            EXO_UNROLL for (int i = 0; i < 8; i++) {
                bv v = nibbles(bv_load(q + i % 4 * 64 + r * 4), i / 4);
                if (t.fifth) v = bv_or(v, fifth_bits(bv_load(q + 256 + r * 4), i));
                v = t.values != NULL ? bv_pick(table, v) : bv_sub8(v, bv_bytes(t.offset));
                put_words(u, (int)b * 8 + i, r, v);
            }
            if (t.values == exo_mxfp4_values) {
                bv_store(&u->d[b][r], mxfp4_scales(bv_load_u8(s + r)));
            } else {
                fv_store(&u->d[b][r], fv_load_f16(s + r * 2));
            }
            if (t.minima) { /* as the specification has it: an addend is a minimum turned */
                fv m = fv_load_f16(s + 32 + r * 2);
                fv_store(&u->dmin[b][r], fv_scaled(m, -1));
            }
        }
    }
}

#define SMALL(name, ...)                                                                           \
    static EXO_NOINLINE void name(unpacked *u, const exo_weight *w, uint32_t g, uint32_t b,        \
                                  uint32_t n) {                                                    \
        const small_type t = {__VA_ARGS__};                                                        \
        unpack_small(u, quants_at(w, g, b, t.quants), scales_at(w, g, b, t.scales), n, t);         \
    }

SMALL(unpack_q4_1, 256, 64, .minima = true)
SMALL(unpack_q5_0, 320, 32, .fifth = true, .offset = 16)
SMALL(unpack_q5_1, 320, 64, .fifth = true, .minima = true)
SMALL(unpack_iq4_nl, 256, 32, .values = exo_iq4_values)
SMALL(unpack_mxfp4, 256, 16, .values = exo_mxfp4_values)
#undef SMALL

/* ---- blocks of 256 ---- */

/* The four bytes of each row are the scales of four sub-blocks of 16, from sub-block j on. */
EXO_INLINE void put_scales16(unpacked *u, int j, int row, bv scales) {
    EXO_UNROLL for (int i = 0; i < 4; i++) bv_store(u->scale[j + i][row], twice(scales, i));
}

EXO_INLINE void put_minima16(unpacked *u, int j, int row, bv minima) {
    const bv even = bv_words(0x00FF00FFu);
    bv_store(u->min[j / 2][row], bv_and(minima, even));
    bv_store(u->min[j / 2 + 1][row], bv_and(bv_shr(minima, 8), even));
}

/* The same of four sub-blocks of 32, each of which is two of 16. */
EXO_INLINE void put_scales32(unpacked *u, int j, int row, bv scales) {
    EXO_UNROLL for (int i = 0; i < 4; i++) {
        bv v = twice(scales, i);
        bv_store(u->scale[2 * (j + i)][row], v);
        bv_store(u->scale[2 * (j + i) + 1][row], v);
    }
}

EXO_INLINE void put_minima32(unpacked *u, int j, int row, bv minima) {
    EXO_UNROLL for (int i = 0; i < 2; i++) { /* pairs 0 2 and 1 3 of 16 are both 0 1 of 32 */
        bv both = i == 0 ? minima : bv_shr(minima, 16);
        bv v = bv_or(bv_and(both, bv_words(0xFF)), bv_shl(bv_and(both, bv_words(0xFF00)), 8));
        bv_store(u->min[j + 2 * i][row], v);
        bv_store(u->min[j + 2 * i + 1][row], v);
    }
}

EXO_INLINE void put_halves(float *to, const uint8_t *s, int row) {
    fv_store(to + row, fv_load_f16(s + row * 2));
}

static EXO_NOINLINE void unpack_q2_k(unpacked *u, const exo_weight *w, uint32_t g, uint32_t b,
                                     uint32_t n) {
    const uint8_t *q = quants_at(w, g, b, 1024), *s = scales_at(w, g, b, 320);
    (void)n;
    ahead(q, 1024);
    for (int r = 0; r < EXO_GROUP_ROWS; r += BV_ROWS) {
        EXO_UNROLL for (int i = 0; i < 16; i++) {
            bv v = bv_load(q + i * 64 + r * 4);
            EXO_UNROLL for (int k = 0; k < 4; k++) { /* quarters of a half */
                put_words(u, i / 8 * 32 + k * 8 + i % 8, r, bv_and(bv_shr(v, 2 * k), bv_bytes(3)));
            }
        }
        EXO_UNROLL for (int i = 0; i < 4; i++) {
            bv v = bv_load(s + 64 + i * 64 + r * 4);
            put_scales16(u, 4 * i, r, nibbles(v, 0));
            put_minima16(u, 4 * i, r, nibbles(v, 1));
        }
        put_halves(u->d[0], s, r);
        put_halves(u->dmin[0], s + 32, r);
    }
}

static EXO_NOINLINE void unpack_q3_k(unpacked *u, const exo_weight *w, uint32_t g, uint32_t b,
                                     uint32_t n) {
    const uint8_t *q = quants_at(w, g, b, 1536), *s = scales_at(w, g, b, 224);
    (void)n;
    ahead(q, 1536);
    for (int r = 0; r < EXO_GROUP_ROWS; r += BV_ROWS) {
        EXO_UNROLL for (int i = 0; i < 16; i++) {
            bv low = bv_load(q + i * 64 + r * 4);
            bv high = bv_shr(bv_load(q + 1024 + i % 8 * 64 + r * 4), i / 8 * 4);
            EXO_UNROLL for (int k = 0; k < 4; k++) { /* quarters of a half */
                bv top = bv_and(k == 3 ? bv_shr(high, 1) : bv_shl(high, 2 - k), bv_bytes(4));
                bv v = bv_or(bv_and(bv_shr(low, 2 * k), bv_bytes(3)), top);
                put_words(u, i / 8 * 32 + k * 8 + i % 8, r, bv_sub8(v, bv_bytes(4)));
            }
        }
        bv top = bv_load(s + 32 + 128 + r * 4);
        EXO_UNROLL for (int i = 0; i < 4; i++) {
            bv low = nibbles(bv_load(s + 32 + i % 2 * 64 + r * 4), i / 2);
            bv high = bv_and(i == 3 ? bv_shr(top, 2) : bv_shl(top, 4 - 2 * i), bv_bytes(0x30));
            put_scales16(u, 4 * i, r, bv_sub8(bv_or(low, high), bv_bytes(32)));
        }
        put_halves(u->d[0], s, r);
    }
}

static EXO_NOINLINE void unpack_q5_k(unpacked *u, const exo_weight *w, uint32_t g, uint32_t b,
                                     uint32_t n) {
    const uint8_t *q = quants_at(w, g, b, 2560), *s = scales_at(w, g, b, 256);
    (void)n;
    ahead(q, 2560);
    for (int r = 0; r < EXO_GROUP_ROWS; r += BV_ROWS) {
        EXO_UNROLL for (int c = 0; c < 4; c++) { /* pairs of sub-blocks: low, high nibbles */
            EXO_UNROLL for (int i = 0; i < 8; i++) {
                bv low = bv_load(q + (c * 8 + i) * 64 + r * 4);
                bv high = bv_load(q + 2048 + i * 64 + r * 4);
                EXO_UNROLL for (int k = 0; k < 2; k++) {
                    int bit = 2 * c + k;
                    bv top = bit < 4 ? bv_shl(high, 4 - bit) : bv_shr(high, bit - 4);
                    put_words(u, (2 * c + k) * 8 + i, r,
                              bv_or(nibbles(low, k), bv_and(top, bv_bytes(0x10))));
                }
            }
        }
        const bv six = bv_bytes(0x3F), top = bv_bytes(0x30);
        bv w0 = bv_load(s + 64 + r * 4), w1 = bv_load(s + 128 + r * 4);
        bv w2 = bv_load(s + 192 + r * 4);
        put_scales32(u, 0, r, bv_and(w0, six));
        put_scales32(u, 4, r, bv_or(nibbles(w2, 0), bv_and(bv_shr(w0, 2), top)));
        put_minima32(u, 0, r, bv_and(w1, six));
        put_minima32(u, 4, r, bv_or(nibbles(w2, 1), bv_and(bv_shr(w1, 2), top)));
        put_halves(u->d[0], s, r);
        put_halves(u->dmin[0], s + 32, r);
    }
}

static EXO_NOINLINE void unpack_iq4_xs(unpacked *u, const exo_weight *w, uint32_t g, uint32_t b,
                                       uint32_t n) {
    const uint8_t *q = quants_at(w, g, b, 2048), *s = scales_at(w, g, b, 128);
    const bv table = bv_table(exo_iq4_values);
    (void)n;
    ahead(q, 2048);
    for (int r = 0; r < EXO_GROUP_ROWS; r += BV_ROWS) {
        EXO_UNROLL for (int i = 0; i < 32; i++) {
            bv v = bv_load(q + i * 64 + r * 4);
            put_words(u, i / 4 * 8 + i % 4, r, bv_pick(table, nibbles(v, 0)));
            put_words(u, i / 4 * 8 + 4 + i % 4, r, bv_pick(table, nibbles(v, 1)));
        }
        bv low = bv_load(s + 64 + r * 4), high = bv_load_u16(s + 32 + r * 2);
        EXO_UNROLL for (int j = 0; j < 8; j++) {
            bv v = bv_and(bv_shr(low, 4 * j), bv_words(15));
            v = bv_or(v, bv_and(j < 2 ? bv_shl(high, 4 - 2 * j) : bv_shr(high, 2 * j - 4),
                                bv_words(0x30)));
            v = twice(bv_sub32(v, bv_words(32)), 0);
            bv_store(u->scale[2 * j][r], v);
            bv_store(u->scale[2 * j + 1][r], v);
        }
        put_halves(u->d[0], s, r);
    }
}

/* A codebook type: row by row, as the format is defined. */
static EXO_NOINLINE void unpack_rows(unpacked *u, const exo_weight *w, uint32_t g, uint32_t b,
                                     uint32_t n) {
    const exo_iq_decoder decode = exo_iq_decoder_of(w->type);
    (void)n;
    for (uint32_t r = 0; r < EXO_GROUP_ROWS; r++) {
        uint8_t src[EXO_BLOCK_MAX_BYTES];
        exo_block block;
        exo_weight_block(w, g * EXO_GROUP_ROWS + r, b, src);
        decode(src, &block);
        for (int i = 0; i < ELEMENTS / 4; i++) memcpy(u->q[i][r], block.q + 4 * i, 4);
        const bool each = block.sub == 16; /* has a scale of its own */
        for (int j = 0; j < 16; j++) {
            uint32_t twice_it = (uint32_t)block.scale[each ? j : j / 2] * 0x10001u; /* positive */
            memcpy(u->scale[j][r], &twice_it, 4);
        }
        u->d[0][r] = block.d;
    }
}

/* ---- the columns that pass over it ---- */

/* Where a tile reads and writes: N columns from c on, of group g. */
typedef struct {
    const int8_t *x;
    const float *d;
    const int32_t *sum32;
    const int16_t *sums;
    size_t ld_q, ld_d, ld_y;
    float *y;
    bool first; /* y is not there yet */
} columns;

static columns columns_at(const exo_matmul_task *t, uint32_t g, uint32_t b, uint32_t c,
                          uint32_t elems) {
    const exo_act *a = t->a;
    columns at = {.x = a->q + c * a->ld_q + (size_t)b * elems,
                  .d = a->d + c * a->ld_d + b,
                  .ld_q = a->ld_q,
                  .ld_d = a->ld_d,
                  .ld_y = t->ld_y,
                  .y = t->y + c * t->ld_y + (size_t)g * EXO_GROUP_ROWS,
                  .first = b == 0};
    if (elems == 32) {
        at.sum32 = a->sum32 + c * a->ld_d + b;
    } else {
        at.sums = a->sums + (c * a->ld_d + b) * EXO_Q256_SUMS;
    }
    return at;
}
