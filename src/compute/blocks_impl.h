/* blocks_impl.h - the codebook formats' part of blocks.c, and the codebooks.
 *
 * A codebook entry is packed: two bits for each of 8 elements (IQ1, IQ2) or three for each of 4
 * (IQ3), the first element lowest.  blocks_iq.c says what the codes stand for. */
#ifndef EXO_COMPUTE_BLOCKS_IMPL_H
#define EXO_COMPUTE_BLOCKS_IMPL_H

#include "compute/blocks.h"

extern const uint16_t exo_codes_iq2_xxs[256], exo_codes_iq2_xs[512], exo_codes_iq2_s[1024];
extern const uint16_t exo_codes_iq3_xxs[256], exo_codes_iq3_s[512], exo_codes_iq1[2048];

void exo_decode_iq2_xxs(const uint8_t *src, exo_block *b);
void exo_decode_iq2_xs(const uint8_t *src, exo_block *b);
void exo_decode_iq2_s(const uint8_t *src, exo_block *b);
void exo_decode_iq3_xxs(const uint8_t *src, exo_block *b);
void exo_decode_iq3_s(const uint8_t *src, exo_block *b);
void exo_decode_iq1_s(const uint8_t *src, exo_block *b);
void exo_decode_iq1_m(const uint8_t *src, exo_block *b);

#endif
