/* hash.c - SHA-256 by OpenSSL, and hexadecimal; the 64-bit hash is in hash64.c. */
#include "base/hash.h"

#include "base/mem.h"

#include <openssl/evp.h>
#include <string.h>

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
