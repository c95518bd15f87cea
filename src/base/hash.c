/* hash.c - multiply-and-fold hash over 64-bit words, read little-endian; SHA-256 by OpenSSL. */
#include "base/hash.h"

#include "base/le.h"
#include "base/mem.h"

#include <openssl/evp.h>
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

struct exo_sha256 {
    EVP_MD_CTX *ctx, *copy; /* peek finalises the copy */
};

exo_sha256 *exo_sha256_create(void) {
    exo_sha256 *h = exo_calloc(1, sizeof *h);
    if (h == NULL) return NULL;
    h->ctx = EVP_MD_CTX_new();
    h->copy = EVP_MD_CTX_new();
    if (h->ctx == NULL || h->copy == NULL || EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL) != 1) {
        exo_sha256_destroy(h);
        return NULL;
    }
    return h;
}

void exo_sha256_destroy(exo_sha256 *h) {
    if (h == NULL) return;
    EVP_MD_CTX_free(h->ctx);
    EVP_MD_CTX_free(h->copy);
    exo_free(h);
}

void exo_sha256_update(exo_sha256 *h, const void *bytes, size_t n) {
    EVP_DigestUpdate(h->ctx, bytes, n);
}

void exo_sha256_peek(const exo_sha256 *h, uint8_t out[EXO_SHA256_BYTES]) {
    memset(out, 0, EXO_SHA256_BYTES);
    if (EVP_MD_CTX_copy_ex(h->copy, h->ctx) == 1) EVP_DigestFinal_ex(h->copy, out, NULL);
}

void exo_hex(const uint8_t *bytes, size_t n, char *out) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * n] = '\0';
}
