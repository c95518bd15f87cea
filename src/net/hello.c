/* hello.c - making and judging the hello frame; see hello.h for its members. */
#define _POSIX_C_SOURCE 200809L
#include "net/hello.h"

#include "base/hash.h"
#include "net/addr.h"

#include <exo/version.h>
#include <string.h>

#define SIGNED_BYTES 33 /* exporter and role */

static void signed_bytes(const uint8_t exporter[32], bool dialled, uint8_t out[SIGNED_BYTES]) {
    memcpy(out, exporter, 32);
    out[32] = dialled ? 'C' : 'S';
}

exo_status exo_hello_make(const exo_hello_self *self, const uint8_t exporter[32], bool dialled,
                          json_t **out, exo_error *err) {
    *out = NULL;
    uint8_t message[SIGNED_BYTES], signature[EXO_SIGNATURE_BYTES];
    signed_bytes(exporter, dialled, message);
    exo_status st = exo_identity_sign(self->identity, message, sizeof message, signature, err);
    if (st != EXO_OK) return st;
    char key_hex[2 * EXO_PUBLIC_KEY_BYTES + 1], signature_hex[2 * EXO_SIGNATURE_BYTES + 1];
    exo_hex(exo_identity_public_key(self->identity), EXO_PUBLIC_KEY_BYTES, key_hex);
    exo_hex(signature, EXO_SIGNATURE_BYTES, signature_hex);
    json_t *hello =
        json_pack("{s:s, s:s, s:s, s:s, s:{s:i, s:i}, s:s, s:s?}", "node_id",
                  exo_identity_node_id(self->identity), "name", self->name, "public_key", key_hex,
                  "signature", signature_hex, "protocol", "min", EXO_PROTOCOL_MIN, "max",
                  EXO_PROTOCOL_MAX, "version", EXO_VERSION, "listen", self->listen);
    if (hello == NULL ||
        (self->extra != NULL && json_object_update_missing(hello, self->extra) != 0)) {
        json_decref(hello);
        return exo_error_set(err, EXO_ENOMEM, "no memory for a hello frame");
    }
    *out = hello;
    return EXO_OK;
}

void exo_hello_text(const char *in, char *out, size_t cap) {
    size_t n = strlen(in);
    if (n >= cap) {
        n = cap - 1;
        while (n > 0 && ((unsigned char)in[n] & 0xC0) == 0x80) n--;
    }
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)in[i];
        out[i] = c < 0x20 || c == 0x7F ? '?' : in[i];
    }
    out[n] = '\0';
}

static exo_status take_text(json_t *hello, const char *key, const char **out, exo_error *err) {
    *out = json_string_value(json_object_get(hello, key));
    if (*out == NULL) return exo_error_set(err, EXO_EFORMAT, "its hello has no %s", key);
    return EXO_OK;
}

static bool hex_value(char c, uint8_t *out) {
    static const char digits[] = "0123456789abcdef";
    const char *at = c == '\0' ? NULL : strchr(digits, c);
    if (at == NULL) return false;
    *out = (uint8_t)(at - digits);
    return true;
}

static exo_status take_bytes(json_t *hello, const char *key, uint8_t *out, size_t n,
                             exo_error *err) {
    const char *text;
    exo_status st = take_text(hello, key, &text, err);
    if (st != EXO_OK) return st;
    bool good = strlen(text) == 2 * n;
    for (size_t i = 0; good && i < n; i++) {
        uint8_t high, low;
        good = hex_value(text[2 * i], &high) && hex_value(text[2 * i + 1], &low);
        if (good) out[i] = (uint8_t)(high << 4 | low);
    }
    if (!good) {
        return exo_error_set(err, EXO_EFORMAT, "%s in its hello is not %zu hex digits", key, 2 * n);
    }
    return EXO_OK;
}

static exo_status check_protocol(json_t *hello, exo_error *err) {
    json_t *range = json_object_get(hello, "protocol");
    json_t *min = json_object_get(range, "min"), *max = json_object_get(range, "max");
    if (!json_is_integer(min) || !json_is_integer(max)) {
        return exo_error_set(err, EXO_EFORMAT, "its hello has no protocol range");
    }
    json_int_t low = json_integer_value(min), high = json_integer_value(max);
    if (low > EXO_PROTOCOL_MAX || high < EXO_PROTOCOL_MIN || low > high) {
        return exo_error_set(err, EXO_EUNSUPPORTED,
                             "it speaks protocol %lld to %lld, this node %d to %d: update the "
                             "older one",
                             (long long)low, (long long)high, EXO_PROTOCOL_MIN, EXO_PROTOCOL_MAX);
    }
    return EXO_OK;
}

static exo_status check_key(json_t *hello, const uint8_t exporter[32], bool dialled,
                            const char *node_id, exo_error *err) {
    uint8_t key[EXO_PUBLIC_KEY_BYTES], signature[EXO_SIGNATURE_BYTES], message[SIGNED_BYTES];
    char derived[EXO_NODE_ID_BYTES];
    exo_status st = take_bytes(hello, "public_key", key, sizeof key, err);
    if (st == EXO_OK) st = take_bytes(hello, "signature", signature, sizeof signature, err);
    if (st != EXO_OK) return st;
    exo_identity_node_id_of(key, derived);
    if (strcmp(derived, node_id) != 0) {
        return exo_error_set(err, EXO_EAUTH, "its node id does not belong to its key");
    }
    signed_bytes(exporter, dialled, message);
    if (!exo_identity_verify(key, message, sizeof message, signature)) {
        return exo_error_set(err, EXO_EAUTH, "it could not prove that it is node %s", node_id);
    }
    return EXO_OK;
}

static exo_status take_listen(json_t *hello, const char *seen_host, exo_peer_info *out,
                              exo_error *err) {
    const char *text = json_string_value(json_object_get(hello, "listen"));
    if (text == NULL) return EXO_OK;
    exo_addr told;
    if (exo_addr_parse(text, &told, NULL) != EXO_OK ||
        !exo_addr_format(exo_addr_is_any(told.host) ? seen_host : told.host, told.port, out->listen,
                         sizeof out->listen)) {
        out->listen[0] = '\0';
        return exo_error_set(err, EXO_EFORMAT, "its hello tells no valid address to listen on");
    }
    return EXO_OK;
}

exo_status exo_hello_check(json_t *hello, const uint8_t exporter[32], bool dialled,
                           const char *seen_host, exo_peer_info *out, exo_error *err) {
    *out = (exo_peer_info){0};
    const char *node_id, *name;
    exo_peer_info peer = {.hello = hello};
    exo_status st = take_text(hello, "node_id", &node_id, err);
    if (st == EXO_OK) st = take_text(hello, "name", &name, err);
    if (st == EXO_OK) st = check_protocol(hello, err);
    if (st == EXO_OK) st = check_key(hello, exporter, dialled, node_id, err);
    if (st == EXO_OK) st = take_listen(hello, seen_host, &peer, err);
    if (st != EXO_OK) return st;
    memcpy(peer.node_id, node_id, sizeof peer.node_id); /* equal to the derived id: 16 digits */
    exo_hello_text(name, peer.name, sizeof peer.name);
    *out = peer;
    return EXO_OK;
}
