/* blocks_iq.c - the formats whose quants are entries of a codebook with signs: IQ1, IQ2, IQ3.
 *
 * An entry gives 4 or 8 magnitudes at once.  Codes are spread to bytes and turned into magnitudes
 * by arithmetic on whole words, no byte of which ever carries into the next:
 *   IQ2     0, 1, 2 -> 8, 25, 43
 *   IQ3_XXS 0 .. 7  -> 4, 12, 20, 28, 36, 44, 52, 62
 *   IQ3_S   0 .. 7  -> 1, 3 .. 15
 *   IQ1     0, 1, 2 -> -1, 0, 1, plus or minus an eighth: all times 8
 * Scales are odd (2 s + 1), with the factor that is left over in d: both are exact. */
#include "compute/blocks_impl.h"

#include "base/half.h"
#include "base/le.h"

#define EACH(byte) (0x0101010101010101u * (byte))

/* Two bits of each of 8 elements to 8 bytes. */
static uint64_t spread2(uint32_t code) {
    uint64_t x = (code & 0xFF) | (uint64_t)(code >> 8) << 32;
    x = (x | x << 12) & 0x000F000F000F000Fu;
    return (x | x << 6) & EACH(3);
}

/* Three bits of each of 4 elements to 4 bytes. */
static uint32_t spread3(uint32_t code) {
    return (code & 7) | (code & 0x38) << 5 | (code & 0x1C0) << 10 | (code & 0xE00) << 15;
}

/* Bytes of the elements whose bit in signs is set become negative; no byte is 0. */
static uint64_t with_signs(uint64_t bytes, uint32_t signs) {
    uint64_t bit = EACH(1) * signs & 0x8040201008040201u;
    uint64_t negative = (bit + EACH(0x7F)) >> 7 & EACH(1);
    return (bytes ^ negative * 0xFF) + negative;
}

/* Seven signs are stored; the eighth makes the number of negative elements even. */
static uint32_t eighth_sign(uint32_t seven) {
    uint32_t parity = seven ^ seven >> 4;
    parity ^= parity >> 2;
    parity ^= parity >> 1;
    return seven | (parity & 1) << 7;
}

static void put_iq2(int8_t *q, uint32_t code, uint32_t signs) {
    uint64_t c = spread2(code);
    exo_put_u64(q, with_signs(c * 17 + EACH(8) + (c >> 1 & EACH(1)), signs));
}

static uint64_t pair_of(uint32_t low, uint32_t high) { return low | (uint64_t)high << 32; }

static float scaled_half(const uint8_t *p, float factor) {
    return exo_f16_to_f32(exo_get_u16(p)) * factor;
}

/* Of each 32: four indices of 8 bits; then four signs of 7 bits and a scale of 4. */
void exo_decode_iq2_xxs(const uint8_t *src, exo_block *b) {
    b->sub = 32;
    b->d = scaled_half(src, 0.125f);
    for (int j = 0; j < 8; j++) {
        const uint8_t *index = src + 2 + 8 * j;
        uint32_t word = exo_get_u32(index + 4);
        b->scale[j] = (int16_t)(2 * (word >> 28) + 1);
        for (int i = 0; i < 4; i++) {
            put_iq2(b->q + 32 * j + 8 * i, exo_codes_iq2_xxs[index[i]],
                    eighth_sign(word >> 7 * i & 127));
        }
    }
}

/* Of each 8: 9 bits of index and 7 of signs; of each 16 a scale of 4 bits. */
void exo_decode_iq2_xs(const uint8_t *src, exo_block *b) {
    b->sub = 16;
    b->d = scaled_half(src, 0.125f);
    for (int j = 0; j < 16; j++) {
        b->scale[j] = (int16_t)(2 * (src[66 + j / 2] >> j % 2 * 4 & 15) + 1);
    }
    for (int i = 0; i < 32; i++) {
        uint32_t half = exo_get_u16(src + 2 + 2 * i);
        put_iq2(b->q + 8 * i, exo_codes_iq2_xs[half & 511], eighth_sign(half >> 9));
    }
}

/* Indices of 10 bits: 8 and, apart, 2; signs of all 8; scales as IQ2_XS. */
void exo_decode_iq2_s(const uint8_t *src, exo_block *b) {
    const uint8_t *low = src + 2, *signs = src + 34, *high = src + 66, *scales = src + 74;
    b->sub = 16;
    b->d = scaled_half(src, 0.125f);
    for (int j = 0; j < 16; j++) {
        b->scale[j] = (int16_t)(2 * (scales[j / 2] >> j % 2 * 4 & 15) + 1);
    }
    for (int i = 0; i < 32; i++) {
        uint32_t top = high[i / 4] >> i % 4 * 2 & 3;
        put_iq2(b->q + 8 * i, exo_codes_iq2_s[low[i] | top << 8], signs[i]);
    }
}

/* 64 indices of 8 bits, each 4 elements; then of each 32 four signs of 7 bits and a scale of 4. */
void exo_decode_iq3_xxs(const uint8_t *src, exo_block *b) {
    b->sub = 32;
    b->d = scaled_half(src, 0.25f);
    for (int j = 0; j < 8; j++) {
        uint32_t word = exo_get_u32(src + 66 + 4 * j);
        b->scale[j] = (int16_t)(2 * (word >> 28) + 1);
        for (int i = 0; i < 4; i++) {
            const uint8_t *index = src + 2 + 8 * j + 2 * i;
            uint64_t c =
                pair_of(spread3(exo_codes_iq3_xxs[index[0]]), spread3(exo_codes_iq3_xxs[index[1]]));
            uint64_t sevens = c & c >> 1 & c >> 2 & EACH(1);
            exo_put_u64(b->q + 32 * j + 8 * i,
                        with_signs(c * 8 + EACH(4) + sevens * 2, eighth_sign(word >> 7 * i & 127)));
        }
    }
}

/* Indices of 9 bits: 8 and, apart, 1; signs of all; of each 32 a scale of 4 bits. */
void exo_decode_iq3_s(const uint8_t *src, exo_block *b) {
    const uint8_t *low = src + 2, *high = src + 66, *signs = src + 74, *scales = src + 106;
    b->sub = 32;
    b->d = scaled_half(src, 1);
    for (int j = 0; j < 8; j++) {
        b->scale[j] = (int16_t)(2 * (scales[j / 2] >> j % 2 * 4 & 15) + 1);
    }
    for (int i = 0; i < 32; i++) {
        uint32_t top = (uint32_t)high[i / 4] << (8 - i % 4 * 2);
        uint64_t c = pair_of(spread3(exo_codes_iq3_s[low[2 * i] | (top & 256)]),
                             spread3(exo_codes_iq3_s[low[2 * i + 1] | (top >> 1 & 256)]));
        exo_put_u64(b->q + 8 * i, with_signs(c * 2 + EACH(1), signs[i]));
    }
}

/* 8 elements: entry `index`, moved down or up by an eighth. */
static void put_iq1(int8_t *q, uint32_t index, bool down) {
    uint64_t moved = spread2(exo_codes_iq1[index]) * 8 + (down ? EACH(0x77) : EACH(0x79));
    exo_put_u64(q, moved ^ EACH(0x80));
}

/* Of each 32: four indices of 8 bits; then 16 bits: 3 more of each index, a scale of 3, and which
 * way all of them are moved. */
void exo_decode_iq1_s(const uint8_t *src, exo_block *b) {
    b->sub = 32;
    b->d = scaled_half(src, 0.125f);
    for (int j = 0; j < 8; j++) {
        uint32_t half = exo_get_u16(src + 34 + 2 * j);
        b->scale[j] = (int16_t)(2 * (half >> 12 & 7) + 1);
        for (int i = 0; i < 4; i++) {
            put_iq1(b->q + 32 * j + 8 * i, src[2 + 4 * j + i] | (half >> 3 * i & 7) << 8,
                    (half & 0x8000) != 0);
        }
    }
}

/* 32 indices of 8 bits; nibbles with 3 more and the way to move; of each 16 a scale of 3 bits in
 * four 16-bit words, whose top nibbles are the f16 scale of the block. */
void exo_decode_iq1_m(const uint8_t *src, exo_block *b) {
    uint32_t d = 0;
    b->sub = 16;
    for (int w = 0; w < 4; w++) {
        uint32_t word = exo_get_u16(src + 48 + 2 * w);
        d |= word >> 12 << 4 * w;
        for (int j = 0; j < 4; j++) b->scale[4 * w + j] = (int16_t)(2 * (word >> 3 * j & 7) + 1);
    }
    b->d = exo_f16_to_f32((uint16_t)d) * 0.125f;
    for (int i = 0; i < 32; i++) {
        uint32_t nibble = src[32 + i / 2] >> i % 2 * 4 & 15;
        put_iq1(b->q + 8 * i, src[i] | (nibble & 7) << 8, (nibble & 8) != 0);
    }
}
