/* blocks_iq.h - the formats whose quants are entries of a codebook with signs: IQ1, IQ2, IQ3.
 *
 * An entry gives 4 or 8 magnitudes at once.  Codes and signs of a block are collected first; then
 * one loop spreads the codes to bytes and turns them into quants by arithmetic on whole words, no
 * byte of which ever carries into the next: compilers make vector code of it.  That is why this is
 * a header: blocks.c has it for any machine, the kernels' files for their instruction sets.
 *   IQ2     0, 1, 2 -> 8, 25, 43
 *   IQ3_XXS 0 .. 7  -> 4, 12, 20, 28, 36, 44, 52, 62
 *   IQ3_S   0 .. 7  -> 1, 3 .. 15
 *   IQ1     0, 1, 2 -> -1, 0, 1, plus or minus an eighth: all times 8
 * Scales are odd (2 s + 1), with the factor that is left over in d: both are exact. */
#ifndef EXO_COMPUTE_BLOCKS_IQ_H
#define EXO_COMPUTE_BLOCKS_IQ_H

#include "base/half.h"
#include "base/le.h"
#include "compute/blocks_codes.h"

#define EXO_IQ_EIGHTS  32 /* of a block of 256 */
#define EXO_EACH(byte) (0x0101010101010101u * (byte))
#define EXO_EACH_BIT   0x8040201008040201u

typedef struct {
    uint32_t code[EXO_IQ_EIGHTS]; /* of 8 elements: 2 bits each, or 3 */
    uint8_t signs[EXO_IQ_EIGHTS]; /* bit i: element i is negative */
} exo_iq_codes;

/* Two bits of each of 8 elements to 8 bytes. */
static inline uint64_t exo_spread2(uint32_t code) {
    uint64_t x = (code & 0xFF) | (uint64_t)(code >> 8) << 32;
    x = (x | x << 12) & 0x000F000F000F000Fu;
    return (x | x << 6) & EXO_EACH(3);
}

/* Three bits of each of 8 elements, 12 bits of four together, to 8 bytes. */
static inline uint64_t exo_spread3(uint32_t code) {
    uint64_t x = (code & 0xFFF) | (uint64_t)(code >> 12) << 32;
    x = (x | x << 10) & 0x003F003F003F003Fu;
    return (x | x << 5) & EXO_EACH(7);
}

/* Bytes of the elements whose bit in signs is set become negative; no byte is 0. */
static inline uint64_t exo_with_signs(uint64_t bytes, uint64_t signs) {
    signs |= signs << 8;
    signs |= signs << 16;
    signs |= signs << 32;
    uint64_t bit = signs & EXO_EACH_BIT;
    uint64_t negative = (bit + EXO_EACH(0x7F)) >> 7 & EXO_EACH(1);
    return (bytes ^ ((negative << 8) - negative)) + negative;
}

/* Seven signs are stored; the eighth makes the number of negative elements even. */
static inline void exo_eighth_signs(uint8_t signs[EXO_IQ_EIGHTS]) {
    for (int i = 0; i < EXO_IQ_EIGHTS; i++) {
        uint32_t seven = signs[i], parity = seven ^ seven >> 4;
        parity ^= parity >> 2;
        parity ^= parity >> 1;
        signs[i] = (uint8_t)(seven | (parity & 1) << 7);
    }
}

static inline void exo_put_words(exo_block *b, const uint64_t q[EXO_IQ_EIGHTS]) {
    memcpy(b->q, q, sizeof b->q); /* little-endian, as every machine that exo is built for */
}

static inline void exo_put_iq2(exo_block *b, const exo_iq_codes *c) {
    uint64_t q[EXO_IQ_EIGHTS];
    for (int i = 0; i < EXO_IQ_EIGHTS; i++) {
        uint64_t x = exo_spread2(c->code[i]);
        q[i] = exo_with_signs((x << 4) + x + EXO_EACH(8) + (x >> 1 & EXO_EACH(1)), c->signs[i]);
    }
    exo_put_words(b, q);
}

static inline float exo_scaled_half(const uint8_t *p, float factor) {
    return exo_f16_to_f32(exo_get_u16(p)) * factor;
}

/* Nibbles as scales. */
static inline void exo_odd_scales(exo_block *b, const uint8_t *src, int n) {
    for (int j = 0; j < n; j++) b->scale[j] = (int16_t)(2 * (src[j / 2] >> j % 2 * 4 & 15) + 1);
}

/* Of each 32: four indices of 8 bits; then four signs of 7 bits and a scale of 4. */
static inline void exo_decode_iq2_xxs(const uint8_t *src, exo_block *b) {
    exo_iq_codes c;
    b->sub = 32;
    b->d = exo_scaled_half(src, 0.125f);
    for (int j = 0; j < 8; j++) {
        const uint8_t *index = src + 2 + 8 * j;
        uint32_t word = exo_get_u32(index + 4);
        b->scale[j] = (int16_t)(2 * (word >> 28) + 1);
        for (int i = 0; i < 4; i++) {
            c.code[4 * j + i] = exo_codes_iq2_xxs[index[i]];
            c.signs[4 * j + i] = word >> 7 * i & 127;
        }
    }
    exo_eighth_signs(c.signs);
    exo_put_iq2(b, &c);
}

/* Of each 8: 9 bits of index and 7 of signs; of each 16 a scale of 4 bits. */
static inline void exo_decode_iq2_xs(const uint8_t *src, exo_block *b) {
    exo_iq_codes c;
    b->sub = 16;
    b->d = exo_scaled_half(src, 0.125f);
    exo_odd_scales(b, src + 66, 16);
    for (int i = 0; i < EXO_IQ_EIGHTS; i++) {
        uint32_t half = exo_get_u16(src + 2 + 2 * i);
        c.code[i] = exo_codes_iq2_xs[half & 511];
        c.signs[i] = (uint8_t)(half >> 9);
    }
    exo_eighth_signs(c.signs);
    exo_put_iq2(b, &c);
}

/* Indices of 10 bits: 8 and, apart, 2; signs of all 8; scales as IQ2_XS. */
static inline void exo_decode_iq2_s(const uint8_t *src, exo_block *b) {
    const uint8_t *low = src + 2, *high = src + 66;
    exo_iq_codes c;
    b->sub = 16;
    b->d = exo_scaled_half(src, 0.125f);
    exo_odd_scales(b, src + 74, 16);
    memcpy(c.signs, src + 34, sizeof c.signs);
    for (int i = 0; i < EXO_IQ_EIGHTS; i++) {
        uint32_t top = high[i / 4] >> i % 4 * 2 & 3;
        c.code[i] = exo_codes_iq2_s[low[i] | top << 8];
    }
    exo_put_iq2(b, &c);
}

/* 64 indices of 8 bits, each 4 elements; then of each 32 four signs of 7 bits and a scale of 4. */
static inline void exo_decode_iq3_xxs(const uint8_t *src, exo_block *b) {
    exo_iq_codes c;
    b->sub = 32;
    b->d = exo_scaled_half(src, 0.25f);
    for (int j = 0; j < 8; j++) {
        uint32_t word = exo_get_u32(src + 66 + 4 * j);
        b->scale[j] = (int16_t)(2 * (word >> 28) + 1);
        for (int i = 4 * j; i < 4 * j + 4; i++) {
            const uint8_t *index = src + 2 + 2 * i;
            uint32_t second = exo_codes_iq3_xxs[index[1]];
            c.code[i] = exo_codes_iq3_xxs[index[0]] | second << 12;
            c.signs[i] = word >> 7 * (i % 4) & 127;
        }
    }
    exo_eighth_signs(c.signs);
    uint64_t q[EXO_IQ_EIGHTS];
    for (int i = 0; i < EXO_IQ_EIGHTS; i++) {
        uint64_t x = exo_spread3(c.code[i]), sevens = x & x >> 1 & x >> 2 & EXO_EACH(1);
        q[i] = exo_with_signs((x << 3) + EXO_EACH(4) + (sevens << 1), c.signs[i]);
    }
    exo_put_words(b, q);
}

/* Indices of 9 bits: 8 and, apart, 1; signs of all; of each 32 a scale of 4 bits. */
static inline void exo_decode_iq3_s(const uint8_t *src, exo_block *b) {
    const uint8_t *low = src + 2, *high = src + 66;
    exo_iq_codes c;
    b->sub = 32;
    b->d = exo_scaled_half(src, 1);
    exo_odd_scales(b, src + 106, 8);
    memcpy(c.signs, src + 74, sizeof c.signs);
    for (int i = 0; i < EXO_IQ_EIGHTS; i++) {
        uint32_t top = (uint32_t)high[i / 4] << (8 - i % 4 * 2);
        uint32_t second = exo_codes_iq3_s[low[2 * i + 1] | (top >> 1 & 256)];
        c.code[i] = exo_codes_iq3_s[low[2 * i] | (top & 256)] | second << 12;
    }
    uint64_t q[EXO_IQ_EIGHTS];
    for (int i = 0; i < EXO_IQ_EIGHTS; i++) {
        q[i] = exo_with_signs((exo_spread3(c.code[i]) << 1) + EXO_EACH(1), c.signs[i]);
    }
    exo_put_words(b, q);
}

/* Entries moved down (signs 1) or up (0) by an eighth. */
static inline void exo_put_iq1(exo_block *b, const exo_iq_codes *c) {
    uint64_t q[EXO_IQ_EIGHTS];
    for (int i = 0; i < EXO_IQ_EIGHTS; i++) {
        uint64_t down = (uint64_t)c->signs[i] * EXO_EACH(2);
        q[i] = ((exo_spread2(c->code[i]) << 3) + (EXO_EACH(0x79) - down)) ^ EXO_EACH(0x80);
    }
    exo_put_words(b, q);
}

/* Of each 32: four indices of 8 bits; then 16 bits: 3 more of each index, a scale of 3, and which
 * way all of them are moved. */
static inline void exo_decode_iq1_s(const uint8_t *src, exo_block *b) {
    exo_iq_codes c;
    b->sub = 32;
    b->d = exo_scaled_half(src, 0.125f);
    for (int j = 0; j < 8; j++) {
        uint32_t half = exo_get_u16(src + 34 + 2 * j);
        b->scale[j] = (int16_t)(2 * (half >> 12 & 7) + 1);
        for (int i = 0; i < 4; i++) {
            c.code[4 * j + i] = exo_codes_iq1[src[2 + 4 * j + i] | (half >> 3 * i & 7) << 8];
            c.signs[4 * j + i] = (uint8_t)(half >> 15);
        }
    }
    exo_put_iq1(b, &c);
}

/* 32 indices of 8 bits; nibbles with 3 more and the way to move; of each 16 a scale of 3 bits in
 * four 16-bit words, whose top nibbles are the f16 scale of the block. */
static inline void exo_decode_iq1_m(const uint8_t *src, exo_block *b) {
    exo_iq_codes c;
    uint32_t d = 0;
    b->sub = 16;
    for (int w = 0; w < 4; w++) {
        uint32_t word = exo_get_u16(src + 48 + 2 * w);
        d |= word >> 12 << 4 * w;
        for (int j = 0; j < 4; j++) b->scale[4 * w + j] = (int16_t)(2 * (word >> 3 * j & 7) + 1);
    }
    b->d = exo_f16_to_f32((uint16_t)d) * 0.125f;
    for (int i = 0; i < EXO_IQ_EIGHTS; i++) {
        uint32_t nibble = src[32 + i / 2] >> i % 2 * 4 & 15;
        c.code[i] = exo_codes_iq1[src[i] | (nibble & 7) << 8];
        c.signs[i] = (uint8_t)(nibble >> 3);
    }
    exo_put_iq1(b, &c);
}

/* The decoder of a codebook type; NULL for others. */
typedef void (*exo_iq_decoder)(const uint8_t *src, exo_block *b);

static inline exo_iq_decoder exo_iq_decoder_of(exo_dtype type) {
    switch (type) {
    case EXO_IQ2_XXS: return exo_decode_iq2_xxs;
    case EXO_IQ2_XS: return exo_decode_iq2_xs;
    case EXO_IQ2_S: return exo_decode_iq2_s;
    case EXO_IQ3_XXS: return exo_decode_iq3_xxs;
    case EXO_IQ3_S: return exo_decode_iq3_s;
    case EXO_IQ1_S: return exo_decode_iq1_s;
    case EXO_IQ1_M: return exo_decode_iq1_m;
    default: return NULL;
    }
}

#undef EXO_EACH
#undef EXO_EACH_BIT

#endif
