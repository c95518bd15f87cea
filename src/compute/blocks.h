/* blocks.h - what the bytes of a weight block mean: quants, scales, and the numbers they stand for.
 *
 * The one place that knows every block format of a file as such.  A block is
 *   value[e] = (d * scale[e / sub]) * q[e] - dmin * min[e / sub]
 * with exact integers q, scale and min, which is also the form that products are defined in
 * (compute/cpu/reference.h).  In f32 each value is rounded at most once, so that other orders of
 * the same formula give the same bits.
 * Sources: ggml-common.h and ggml-quants.c of llama.cpp.  Thread: ANY. */
#ifndef EXO_COMPUTE_BLOCKS_H
#define EXO_COMPUTE_BLOCKS_H

#include "compute/dtype.h"

#include <string.h>

#define EXO_BLOCK_MAX_ELEMS 256
#define EXO_BLOCK_MAX_BYTES 256

typedef struct {
    float d, dmin;
    uint32_t sub;      /* elements that share a scale: 16 or 32 */
    bool has_min;      /* dmin and min count */
    int8_t q[256];     /* (block_elems) */
    int16_t scale[16]; /* (block_elems / sub) */
    int16_t min[16];   /* (block_elems / sub) */
} exo_block;

/* Which types are blocks with an entry here; F32, F16 and BF16 are none. */
bool exo_block_known(exo_dtype type);

/* src has the type's block_bytes; the type is known. */
void exo_block_decode(exo_dtype type, const uint8_t *src, exo_block *out);

/* n elements of any known type, or of F32, F16, BF16, as f32; n is a multiple of block_elems. */
void exo_dequantize(exo_dtype type, const uint8_t *src, size_t n, float *out);

/* What the 4-bit indices of IQ4_NL and IQ4_XS, and of MXFP4 (twice the value), stand for. */
extern const int8_t exo_iq4_values[16], exo_mxfp4_values[16];

/* The scale of an MXFP4 block for values doubled: 2^(e - 128). */
static inline float exo_mxfp4_scale(uint8_t e) {
    uint32_t bits = e < 2 ? (e + 1u) << 21 : (e - 1u) << 23;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

#endif
