/* blocks_codes.h - the codebooks of the IQ formats.
 *
 * An entry is packed: two bits for each of 8 elements (IQ1, IQ2) or three for each of 4 (IQ3), the
 * first element lowest.  blocks_iq.h says what the codes stand for. */
#ifndef EXO_COMPUTE_BLOCKS_CODES_H
#define EXO_COMPUTE_BLOCKS_CODES_H

#include "compute/blocks.h"

extern const uint16_t exo_codes_iq2_xxs[256], exo_codes_iq2_xs[512], exo_codes_iq2_s[1024];
extern const uint16_t exo_codes_iq3_xxs[256], exo_codes_iq3_s[512], exo_codes_iq1[2048];

#endif
