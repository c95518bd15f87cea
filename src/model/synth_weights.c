/* synth_weights.c - random blocks of every weight format, made directly in that format.
 *
 * Counter-based: the random words of block i are a hash of (tensor key, i), so any piece of any
 * tensor can be made alone, in any order.  Quantised blocks are not quantised from floats: quants
 * are uniform bits, and the scales are chosen so that the weights have the wanted standard
 * deviation and mean 0. */
#include "model/synth_impl.h"

#include "base/half.h"
#include "base/le.h"
#include "compute/blocks.h"

#include <string.h>

#define GOLDEN 0x9E3779B97F4A7C15u

/* splitmix64 (Steele, Lea, Flood 2014) at position i of the stream `key`. */
static uint64_t word(uint64_t key, uint64_t i) {
    uint64_t z = key + (i + 1) * GOLDEN;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/* Close to a normal deviate: four 16-bit uniforms, centred, scaled to standard deviation 1. */
static float normal(uint64_t w) {
    int32_t sum = (int32_t)(w & 0xFFFF) + (int32_t)(w >> 16 & 0xFFFF) +
                  (int32_t)(w >> 32 & 0xFFFF) + (int32_t)(w >> 48);
    return (float)(sum - 2 * 65535) * (1.0f / 37837.0f); /* sqrt(4 / 12) * 65536 */
}

/* A block's own scale: 0.75 to 1.25 times what the tensor asks for, from 16 random bits. */
static float jittered(float scale, uint64_t bits) {
    return scale * (0.75f + 0.5f / 65536.0f * (float)(bits & 0xFFFF));
}

static void put_random(uint8_t *out, uint64_t key, uint64_t at, int n_words) {
    for (int i = 0; i < n_words; i++) exo_put_u64(out + 8 * i, word(key, at + (uint64_t)i));
}

/* ---- one block of each format; i is its index in the tensor ---- */

static void fill_f32(const exo_synth_weights *w, uint64_t i, uint8_t *out) {
    exo_put_f32(out, w->mean + w->std * normal(word(w->key, i)));
}

static void fill_f16(const exo_synth_weights *w, uint64_t i, uint8_t *out) {
    exo_put_u16(out, exo_f32_to_f16(w->std * normal(word(w->key, i))));
}

static void fill_bf16(const exo_synth_weights *w, uint64_t i, uint8_t *out) {
    exo_put_u16(out, exo_f32_to_bf16(w->std * normal(word(w->key, i))));
}

/* f16 d; 32 nibbles q - 8.  Root mean square of the quants: 4.64.  The sign of d is random, which
 * evens out that nibbles reach from -8 to 7. */
static void fill_q4_0(const exo_synth_weights *w, uint64_t i, uint8_t *out) {
    uint64_t r = word(w->key, 4 * i);
    uint16_t sign = (uint16_t)(r >> 63 << 15);
    exo_put_u16(out, exo_f32_to_f16(jittered(w->std / 4.64f, r)) | sign);
    put_random(out + 2, w->key, 4 * i + 1, 2);
}

/* f16 d; 32 signed bytes in [-127, 127], as quantisers leave them.  Root mean square: 73.6. */
static void fill_q8_0(const exo_synth_weights *w, uint64_t i, uint8_t *out) {
    exo_put_u16(out, exo_f32_to_f16(jittered(w->std / 73.6f, word(w->key, 8 * i))));
    put_random(out + 2, w->key, 8 * i + 1, 4);
    for (int k = 2; k < 34; k++) out[k] = out[k] == 0x80 ? 0x81 : out[k];
}

/* f16 d, f16 dmin; 8 scales and 8 minima of 6 bits in 12 bytes; then quants from 0 to 2 middle:
 * weight = d * scale * q - dmin * min.  Scales are 32 to 63 (root mean square 48.4), minima within
 * 4 of them, dmin = middle * d, which centres the quants; spread is their deviation with that. */
static void put_six_bits(const exo_synth_weights *w, uint64_t at, float middle, float spread,
                         uint8_t *out) {
    uint64_t r = word(w->key, at), s = word(w->key, at + 1);
    uint8_t scale[8], min[8];
    for (int k = 0; k < 8; k++, s >>= 8) {
        unsigned jitter = (unsigned)(s >> 5 & 7);
        scale[k] = (uint8_t)(32 + (s & 31));
        min[k] = (uint8_t)(scale[k] + jitter - 4 > 63 ? 63 : scale[k] + jitter - 4);
    }
    float d = jittered(w->std / (48.4f * spread), r);
    exo_put_u16(out, exo_f32_to_f16(d));
    exo_put_u16(out + 2, exo_f32_to_f16(middle * d));
    for (int k = 0; k < 4; k++) { /* the high 2 bits of the last four lie above the first four */
        out[4 + k] = (uint8_t)(scale[k] | (scale[k + 4] >> 4) << 6);
        out[8 + k] = (uint8_t)(min[k] | (min[k + 4] >> 4) << 6);
        out[12 + k] = (uint8_t)((scale[k + 4] & 15) | (min[k + 4] & 15) << 4);
    }
}

static void fill_q4_K(const exo_synth_weights *w, uint64_t i, uint8_t *out) {
    put_six_bits(w, 32 * i, 7.5f, 4.61f, out);
    put_random(out + 16, w->key, 32 * i + 2, 16);
}

static void fill_q5_K(const exo_synth_weights *w, uint64_t i, uint8_t *out) {
    put_six_bits(w, 32 * i, 15.5f, 9.29f, out);
    put_random(out + 16, w->key, 32 * i + 2, 20);
}

/* 128 bytes of low nibbles, 64 bytes of high bit pairs, 16 signed scales, f16 d:
 * weight = d * scale * (q - 32).  Scales are 64 to 127 of either sign (root mean square 97.3),
 * quants have 18.5. */
static void fill_q6_K(const exo_synth_weights *w, uint64_t i, uint8_t *out) {
    uint64_t at = 32 * i;
    put_random(out, w->key, at, 24);
    for (int half = 0; half < 2; half++) {
        uint64_t s = word(w->key, at + 24 + (uint64_t)half);
        for (int k = 0; k < 8; k++, s >>= 8) {
            uint8_t size = (uint8_t)(64 + (s & 63));
            out[192 + 8 * half + k] = (uint8_t)((s & 64) != 0 ? 256 - size : size);
        }
    }
    exo_put_u16(out + 208,
                exo_f32_to_f16(jittered(w->std / (97.3f * 18.5f), word(w->key, at + 26))));
}

/* 16 bytes of scale and minimum, nibbles; 64 bytes of bit pairs; f16 d, f16 dmin.  Scales are 8 to
 * 15 (root mean square 11.7), minima the same, dmin = 1.5 d: quants have 1.118 around 1.5. */
static void fill_q2_K(const exo_synth_weights *w, uint64_t i, uint8_t *out) {
    put_random(out, w->key, 16 * i, 10);
    for (int k = 0; k < 16; k++) out[k] = (uint8_t)((out[k] & 7) * 17 + 0x88);
    float d = jittered(w->std / (11.73f * 1.118f), word(w->key, 16 * i + 10));
    exo_put_u16(out + 80, exo_f32_to_f16(d));
    exo_put_u16(out + 82, exo_f32_to_f16(1.5f * d));
}

/* f16 d, f16 m; random quants from 0 to 2 middle; m = -middle * d. */
static void put_addend(const exo_synth_weights *w, uint64_t i, float middle, float spread,
                       uint8_t *out) {
    uint16_t d = exo_f32_to_f16(jittered(w->std / spread, word(w->key, 4 * i)));
    exo_put_u16(out, d);
    exo_put_u16(out + 2, exo_f32_to_f16(-middle * exo_f16_to_f32(d)));
}

static void fill_q4_1(const exo_synth_weights *w, uint64_t i, uint8_t *out) {
    put_addend(w, i, 7.5f, 4.61f, out);
    put_random(out + 4, w->key, 4 * i + 1, 2);
}

static void fill_q5_1(const exo_synth_weights *w, uint64_t i, uint8_t *out) {
    uint8_t bits[24];
    put_addend(w, i, 15.5f, 9.23f, out);
    put_random(bits, w->key, 4 * i + 1, 3);
    memcpy(out + 4, bits, 20);
}

/* Exponent, then 32 signed values of 4 bits (doubled: root mean square 5.92).  Powers of two are
 * mixed so that their mean square is what is wanted. */
static void fill_mxfp4(const exo_synth_weights *w, uint64_t i, uint8_t *out) {
    uint64_t r = word(w->key, 4 * i);
    float want = w->std / 5.92f;
    uint8_t e = 1;
    while (e < 254 && exo_mxfp4_scale((uint8_t)(e + 1)) <= want) e++;
    float over = want / exo_mxfp4_scale(e);
    bool up = (float)(r & 0xFFFF) * 3 < (over * over - 1) * 65536; /* s^2 is 1 or 4 */
    out[0] = (uint8_t)(e + (up ? 1 : 0));
    put_random(out + 1, w->key, 4 * i + 1, 2);
}

/* No f16 of its own: the top nibbles of four 16-bit words at the end are its bits. */
static void fill_iq1_m(const exo_synth_weights *w, uint64_t i, uint8_t *out) {
    uint64_t r = word(w->key, 8 * i);
    uint32_t d = exo_f32_to_f16(jittered(w->std / 7.2f, r)) | (uint32_t)(r >> 63 << 15);
    put_random(out, w->key, 8 * i + 1, 7);
    for (int k = 0; k < 4; k++) {
        out[49 + 2 * k] = (uint8_t)((out[49 + 2 * k] & 15) | (d >> 4 * k & 15) << 4);
    }
}

/* Types all bits of which may be anything but an f16 scale: where it is, and the root mean square
 * of the block with scale 1.  The scale's sign is random, which evens out what is not centred. */
typedef struct {
    exo_dtype type;
    uint16_t at;
    float rms;
} any_bits;

static const any_bits *find_any_bits(exo_dtype type) {
    static const any_bits types[] = {
        {EXO_Q5_0, 0, 9.25f},  {EXO_IQ4_NL, 0, 67.4f},   {EXO_Q3_K, 108, 43.2f},
        {EXO_IQ4_XS, 0, 1248}, {EXO_IQ2_XXS, 0, 53.4f},  {EXO_IQ2_XS, 0, 56},
        {EXO_IQ2_S, 0, 56.2f}, {EXO_IQ3_XXS, 0, 142.4f}, {EXO_IQ3_S, 0, 140.3f},
        {EXO_IQ1_S, 0, 7.2f},
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (types[i].type == type) return &types[i];
    }
    return NULL;
}

static void fill_any_bits(const exo_synth_weights *w, const any_bits *t, uint64_t i, uint8_t *out) {
    size_t bytes = exo_dtype_get(t->type)->block_bytes;
    uint64_t at = (bytes / 8 + 2) * i, r = word(w->key, at);
    uint8_t last[8];
    put_random(out, w->key, at + 1, (int)(bytes / 8));
    put_random(last, w->key, at + 1 + bytes / 8, 1);
    memcpy(out + bytes / 8 * 8, last, bytes % 8);
    uint16_t sign = (uint16_t)(r >> 63 << 15);
    exo_put_u16(out + t->at, exo_f32_to_f16(jittered(w->std / t->rms, r)) | sign);
}

/* Each loop is its own, so that the compiler sees the format inside it. */
#define FILL(function, block_bytes)                                                                \
    for (size_t k = 0; k < n; k++) function(w, first + k, out + k * (block_bytes))

void exo_synth_fill(const exo_synth_weights *w, uint64_t first, size_t n, uint8_t *out) {
    switch (w->type) {
    case EXO_F32: FILL(fill_f32, 4); break;
    case EXO_F16: FILL(fill_f16, 2); break;
    case EXO_BF16: FILL(fill_bf16, 2); break;
    case EXO_Q4_0: FILL(fill_q4_0, 18); break;
    case EXO_Q8_0: FILL(fill_q8_0, 34); break;
    case EXO_Q4_K: FILL(fill_q4_K, 144); break;
    case EXO_Q6_K: FILL(fill_q6_K, 210); break;
    case EXO_Q4_1: FILL(fill_q4_1, 20); break;
    case EXO_Q5_1: FILL(fill_q5_1, 24); break;
    case EXO_Q2_K: FILL(fill_q2_K, 84); break;
    case EXO_Q5_K: FILL(fill_q5_K, 176); break;
    case EXO_MXFP4: FILL(fill_mxfp4, 17); break;
    case EXO_IQ1_M: FILL(fill_iq1_m, 56); break;
    default: {
        const any_bits *t = find_any_bits(w->type);
        const size_t bytes = exo_dtype_get(w->type)->block_bytes;
        for (size_t k = 0; k < n; k++) fill_any_bits(w, t, first + k, out + k * bytes);
    }
    }
}
#undef FILL

bool exo_synth_fills(exo_dtype type) {
    switch (type) {
    case EXO_F32:
    case EXO_F16:
    case EXO_BF16: return true;
    default: return exo_block_known(type);
    }
}
