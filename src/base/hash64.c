/* hash64.c - multiply-and-fold hash over 64-bit words, read little-endian (hash.h).
 *
 * Apart from hash.c because it needs no OpenSSL: kernels alone are built for machines whose OpenSSL
 * is not at hand (tests/neon). */
#include "base/hash.h"

#include "base/le.h"

#include <string.h>

#define HASH_K0 0x9E3779B97F4A7C15u
#define HASH_K1 0xD6E8FEB86659FD93u

/* The finaliser of splitmix64 (Steele, Lea, Flood 2014): every input bit reaches every output bit.
 */
static uint64_t mix(uint64_t h) {
    h ^= h >> 32;
    h *= HASH_K1;
    h ^= h >> 32;
    h *= HASH_K1;
    return h ^ h >> 32;
}

uint64_t exo_hash64(const void *bytes, size_t n, uint64_t seed) {
    const uint8_t *p = bytes;
    uint64_t h[4] = {seed ^ HASH_K0, seed + HASH_K0, seed ^ HASH_K1, seed + HASH_K1};
    size_t left = n;
    for (; left >= 32; left -= 32, p += 32) { /* four lanes: one word each per turn */
        for (int i = 0; i < 4; i++) {
            h[i] = (h[i] ^ exo_get_u64(p + 8 * i)) * HASH_K0;
            h[i] ^= h[i] >> 29;
        }
    }
    uint8_t tail[32] = {0};
    if (left > 0) memcpy(tail, p, left);
    for (int i = 0; i < 4; i++) h[i] = (h[i] ^ exo_get_u64(tail + 8 * i)) * HASH_K0;
    return mix(mix(h[0] + n) ^ mix(h[1] + 1) ^ mix(h[2] + 2) ^ mix(h[3] + 3));
}
