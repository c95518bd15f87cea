/* beacon_wire.c - writing and judging discovery datagrams; see beacon_wire.h for the layout. */
#define _POSIX_C_SOURCE 200809L
#include "net/beacon_wire.h"

#include "base/hash.h"
#include "base/le.h"
#include "net/hello.h"
#include "net/tls.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <string.h>

#define MAGIC     0x424F5845u /* "EXOB" */
#define FORMAT    1
#define TEXT_AT   68
#define MAC_AT    132
#define MAC_BYTES 16

exo_status exo_beacon_keys_derive(const exo_tls_ctx *key, const char *name_space,
                                  exo_beacon_keys *out, exo_error *err) {
    uint8_t tag[32], digest[EXO_SHA256_BYTES] = {0};
    *out = (exo_beacon_keys){0};
    exo_status st = exo_tls_ctx_derive(key, "exo beacon mac 1", out->mac, err);
    if (st == EXO_OK) st = exo_tls_ctx_derive(key, "exo beacon tag 1", tag, err);
    if (st != EXO_OK) return st;
    memcpy(out->tag, tag, sizeof out->tag);
    if (EVP_Digest(name_space, strlen(name_space), digest, NULL, EVP_sha256(), NULL) != 1) {
        return exo_error_set(err, EXO_ENOMEM, "no memory for the namespace's tag");
    }
    memcpy(out->name_space, digest, sizeof out->name_space);
    return EXO_OK;
}

static bool mac_of(const uint8_t *bytes, const exo_beacon_keys *keys, uint8_t out[MAC_BYTES]) {
    uint8_t full[32];
    size_t n = 0;
    if (EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, keys->mac, sizeof keys->mac, bytes, MAC_AT,
                  full, sizeof full, &n) == NULL) {
        return false;
    }
    memcpy(out, full, MAC_BYTES);
    return true;
}

static bool id_bytes(const char *text, uint8_t out[8]) {
    static const char digits[] = "0123456789abcdef";
    memset(out, 0, 8);
    for (size_t i = 0; i < 16; i++) {
        const char *at = text[i] != '\0' ? strchr(digits, text[i]) : NULL;
        if (at == NULL) return false;
        out[i / 2] = (uint8_t)(out[i / 2] << 4 | (at - digits));
    }
    return true;
}

exo_status exo_beacon_write(const exo_beacon_msg *m, const exo_beacon_keys *keys,
                            uint8_t out[EXO_BEACON_BYTES], exo_error *err) {
    size_t name = strlen(m->name), version = strlen(m->version);
    memset(out, 0, EXO_BEACON_BYTES);
    exo_put_u32(out, MAGIC);
    out[4] = FORMAT;
    out[5] = (uint8_t)m->kind;
    out[6] = m->flags;
    out[7] = (uint8_t)name;
    memcpy(out + 8, keys->tag, sizeof keys->tag);
    memcpy(out + 16, keys->name_space, sizeof keys->name_space);
    exo_put_u16(out + 20, m->protocol_min);
    exo_put_u16(out + 22, m->protocol_max);
    id_bytes(m->node_id, out + 24); /* a query has none: zeros */
    exo_put_u64(out + 32, m->run);
    exo_put_u64(out + 40, m->counter);
    exo_put_u64(out + 48, m->clock_ms);
    exo_put_u64(out + 56, m->nonce);
    exo_put_u16(out + 64, m->port);
    out[66] = (uint8_t)version;
    memcpy(out + TEXT_AT, m->name, name);
    memcpy(out + TEXT_AT + name, m->version, version);
    if (!mac_of(out, keys, out + MAC_AT)) {
        return exo_error_set(err, EXO_ENOMEM, "no memory for a beacon");
    }
    return EXO_OK;
}

/* A stranger's text, printable; it may not hold a NUL. */
static bool take_text(const uint8_t *bytes, size_t n, char *out, size_t cap) {
    char raw[EXO_BEACON_NAME_BYTES];
    if (n >= cap || memchr(bytes, 0, n) != NULL) return false;
    memcpy(raw, bytes, n);
    raw[n] = '\0';
    exo_hello_text(raw, out, cap);
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)out[i] >= 0x80) out[i] = '?'; /* names travel cut: no half characters */
    }
    return true;
}

static exo_beacon_verdict judge(const uint8_t *b, const exo_beacon_keys *keys) {
    uint8_t mac[MAC_BYTES];
    if (memcmp(b + 16, keys->name_space, sizeof keys->name_space) != 0) {
        return EXO_BEACON_OTHER_NAMESPACE;
    }
    if (memcmp(b + 8, keys->tag, sizeof keys->tag) != 0) return EXO_BEACON_OTHER_KEY;
    bool good = mac_of(b, keys, mac) && CRYPTO_memcmp(mac, b + MAC_AT, MAC_BYTES) == 0;
    return good ? EXO_BEACON_OURS : EXO_BEACON_FORGED;
}

exo_status exo_beacon_read(const void *bytes, size_t n, const exo_beacon_keys *keys,
                           exo_beacon_msg *out, exo_beacon_verdict *verdict, exo_error *err) {
    const uint8_t *b = bytes;
    *out = (exo_beacon_msg){0};
    *verdict = EXO_BEACON_FORGED;
    if (n != EXO_BEACON_BYTES || exo_get_u32(b) != MAGIC) {
        return exo_error_set(err, EXO_EFORMAT, "no exo beacon");
    }
    if (b[4] != FORMAT || b[5] < EXO_BEACON_ANNOUNCE || b[5] > EXO_BEACON_QUERY) {
        return exo_error_set(err, EXO_EFORMAT, "a beacon of format %u, kind %u", b[4], b[5]);
    }
    size_t name = b[7], version = b[66];
    exo_beacon_msg m = {.kind = (exo_beacon_kind)b[5],
                        .flags = b[6],
                        .protocol_min = exo_get_u16(b + 20),
                        .protocol_max = exo_get_u16(b + 22),
                        .run = exo_get_u64(b + 32),
                        .counter = exo_get_u64(b + 40),
                        .clock_ms = exo_get_u64(b + 48),
                        .nonce = exo_get_u64(b + 56),
                        .port = exo_get_u16(b + 64)};
    if (!take_text(b + TEXT_AT, name, m.name, sizeof m.name) ||
        !take_text(b + TEXT_AT + name, version, m.version, sizeof m.version)) {
        return exo_error_set(err, EXO_EFORMAT, "a beacon with broken texts");
    }
    memcpy(m.tag, b + 8, sizeof m.tag);
    memcpy(m.name_space, b + 16, sizeof m.name_space);
    exo_hex(b + 24, 8, m.node_id);
    *verdict = judge(b, keys);
    *out = m;
    return EXO_OK;
}
