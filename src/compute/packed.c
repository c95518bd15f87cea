/* packed.c - the checksum over packed weights that are kept (backend.h).
 *
 * In pieces, so that the threads of a device share it: it must not take longer than the bytes take
 * to be read. */
#include "compute/packed.h"

#include "base/hash.h"
#include "base/le.h"
#include "compute/backend.h"

size_t exo_packed_pieces(size_t n) { return (n + EXO_PACKED_PIECE - 1) / EXO_PACKED_PIECE; }

uint64_t exo_packed_piece_sum(const void *bytes, size_t n, size_t i) {
    size_t at = i * EXO_PACKED_PIECE, left = n - at;
    return exo_hash64((const uint8_t *)bytes + at,
                      left < EXO_PACKED_PIECE ? left : EXO_PACKED_PIECE, i);
}

/* Read as little-endian bytes, so that it is the same everywhere. */
uint64_t exo_packed_join(const uint64_t *sums, size_t n) {
    uint64_t sum = n;
    for (size_t i = 0; i < n; i++) {
        uint8_t b[8];
        exo_put_u64(b, sums[i]);
        sum = exo_hash64(b, sizeof b, sum);
    }
    return sum;
}

uint64_t exo_packed_sum(const void *bytes, size_t n) {
    size_t n_pieces = exo_packed_pieces(n);
    uint64_t sum = n_pieces;
    for (size_t i = 0; i < n_pieces; i++) {
        uint8_t b[8];
        exo_put_u64(b, exo_packed_piece_sum(bytes, n, i));
        sum = exo_hash64(b, sizeof b, sum);
    }
    return sum;
}
