/* hash.h - a fast 64-bit checksum for frames and page keys, and SHA-256 for proofs.
 *
 * The 64-bit hash catches corruption and desynchronised peers; it is no defence against an
 * attacker (TLS is).  Same value on every machine. */
#ifndef EXO_BASE_HASH_H
#define EXO_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* Chainable: pass the previous result as seed (0 to begin). */
uint64_t exo_hash64(const void *bytes, size_t n, uint64_t seed);

#define EXO_SHA256_BYTES     32
#define EXO_SHA256_HEX_BYTES 65

typedef struct exo_sha256 exo_sha256;
exo_sha256 *exo_sha256_create(void); /* NULL without memory */
void exo_sha256_destroy(exo_sha256 *h);
void exo_sha256_update(exo_sha256 *h, const void *bytes, size_t n);
/* The digest of all bytes so far; more may follow. */
void exo_sha256_peek(const exo_sha256 *h, uint8_t out[EXO_SHA256_BYTES]);
void exo_hex(const uint8_t *bytes, size_t n, char *out); /* writes 2n + 1 bytes */

#endif
