/* packed.h - exo_packed_sum() (backend.h) piece by piece, for several threads.  Thread: ANY. */
#ifndef EXO_COMPUTE_PACKED_H
#define EXO_COMPUTE_PACKED_H

#include <stddef.h>
#include <stdint.h>

size_t exo_packed_pieces(size_t n);
/* Of piece i < exo_packed_pieces(n) of n bytes. */
uint64_t exo_packed_piece_sum(const void *bytes, size_t n, size_t i);
uint64_t exo_packed_join(const uint64_t *sums, size_t n);

#endif
