/* tls.c - OpenSSL over memory, with one external pre-shared key and nothing else.
 *
 * There are no certificates: a server without the key has nothing to answer with, and a client
 * accepts no certificate, so a handshake ends with the shared key or not at all.  Knows no
 * socket; whoever owns one feeds and drains.
 * OpenSSL keeps its errors per thread: each call here clears them first and reads them last. */
#include "net/tls.h"

#include "base/mem.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>

#include <limits.h>
#include <stdio.h>
#include <string.h>

#define KEY_BYTES      32
#define SCRYPT_N       32768 /* with r = 8: 32 MiB and about 50 ms */
#define SCRYPT_R       8
#define SCRYPT_P       1
#define SCRYPT_MEMORY  (64u << 20)
#define KEY_NAME       "exo-1" /* the PSK identity: says which derivation, not which cluster */
#define GUEST_NAME     "exo-join-1:" /* and the code's id */
#define SALT_PREFIX    "exo cluster key 1:"
#define EXPORTER_LABEL "EXPORTER-exo-identity"
#define SEAL_BYTES     (16 * EXO_TLS_RECORD_BYTES)
#define SERVER_REFUSAL "cluster key does not match: the peer holds another key"
#define CLIENT_REFUSAL "cluster key does not match: the peer refused ours"
#define GUEST_REFUSAL  "no join code like this is open there: check the words, or ask for a new code"
#define NO_KEY_REFUSAL "cluster key does not match: the peer offered none that this node knows"

struct exo_tls_ctx {
    SSL_CTX *ssl;
    uint8_t key[KEY_BYTES];
    char guest[EXO_JOIN_ID_BYTES]; /* of a context that dials with a join code; "" */
    bool (*find_guest)(void *ud, const char join_id[EXO_JOIN_ID_BYTES],
                       uint8_t key[EXO_JOIN_KEY_BYTES]);
    void *guest_ud;
};

struct exo_tls {
    SSL *ssl;
    BIO *in, *out; /* encrypted bytes; owned by ssl */
    exo_tls_ctx *ctx;
    char guest[EXO_JOIN_ID_BYTES]; /* the join code of this handshake; "" = the cluster key */
    char offered[sizeof GUEST_NAME + EXO_JOIN_ID_BYTES]; /* OpenSSL keeps a pointer to it */
    bool server;
    uint32_t records_left; /* until the sending key is replaced */
};

/* The session that stands for a key.  TLS binds a PSK to a hash, not to a cipher: both ciphers
 * below use SHA-256. */
static SSL_SESSION *psk_session(SSL *ssl, const uint8_t key[KEY_BYTES]) {
    static const unsigned char aes_128_gcm_sha256[2] = {0x13, 0x01};
    const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, aes_128_gcm_sha256);
    SSL_SESSION *s = SSL_SESSION_new();
    if (s == NULL || cipher == NULL || SSL_SESSION_set1_master_key(s, key, KEY_BYTES) != 1 ||
        SSL_SESSION_set_cipher(s, cipher) != 1 ||
        SSL_SESSION_set_protocol_version(s, TLS1_3_VERSION) != 1) {
        SSL_SESSION_free(s);
        return NULL;
    }
    return s;
}

static int offer_psk(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *id_len,
                     SSL_SESSION **session) {
    (void)md;
    exo_tls *t = SSL_get_app_data(ssl);
    memcpy(t->guest, t->ctx->guest, sizeof t->guest);
    snprintf(t->offered, sizeof t->offered, GUEST_NAME "%s", t->guest);
    const char *name = t->guest[0] != '\0' ? t->offered : KEY_NAME;
    *id = (const unsigned char *)name;
    *id_len = strlen(name);
    *session = psk_session(ssl, t->ctx->key);
    return *session != NULL;
}

/* The key of a join code that the other side names, if this node gave it out. */
static bool find_guest(exo_tls *t, const unsigned char *id, size_t id_len, uint8_t *key) {
    size_t prefix = strlen(GUEST_NAME);
    if (t->ctx->find_guest == NULL || id_len != prefix + EXO_JOIN_ID_BYTES - 1 ||
        memcmp(id, GUEST_NAME, prefix) != 0) {
        return false;
    }
    memcpy(t->guest, id + prefix, EXO_JOIN_ID_BYTES - 1);
    t->guest[EXO_JOIN_ID_BYTES - 1] = '\0';
    return t->ctx->find_guest(t->ctx->guest_ud, t->guest, key);
}

static int find_psk(SSL *ssl, const unsigned char *id, size_t id_len, SSL_SESSION **session) {
    exo_tls *t = SSL_get_app_data(ssl);
    uint8_t key[KEY_BYTES];
    *session = NULL;
    t->guest[0] = '\0';
    if (id_len == strlen(KEY_NAME) && memcmp(id, KEY_NAME, id_len) == 0) {
        memcpy(key, t->ctx->key, sizeof key);
    } else if (!find_guest(t, id, id_len, key)) {
        return 1;
    }
    *session = psk_session(ssl, key);
    OPENSSL_cleanse(key, sizeof key);
    return *session != NULL;
}

static size_t n_characters(const char *s) {
    size_t n = 0;
    for (; *s != '\0'; s++) n += ((unsigned char)*s & 0xC0) != 0x80;
    return n;
}

static exo_status derive_key(const char *passphrase, const char *name_space, uint8_t *key,
                             exo_error *err) {
    if (passphrase == NULL || n_characters(passphrase) < EXO_MIN_PASSPHRASE) {
        return exo_error_set(err, EXO_EINVAL, "the cluster key needs at least %d characters",
                             EXO_MIN_PASSPHRASE);
    }
    exo_buf salt = {0};
    exo_buf_puts(&salt, SALT_PREFIX);
    exo_buf_puts(&salt, name_space);
    exo_status st = EXO_OK;
    if (!exo_buf_ok(&salt) ||
        EVP_PBE_scrypt(passphrase, strlen(passphrase), (const unsigned char *)salt.data, salt.n,
                       SCRYPT_N, SCRYPT_R, SCRYPT_P, SCRYPT_MEMORY, key, KEY_BYTES) != 1) {
        st = exo_error_set(err, EXO_ENOMEM, "no memory to derive the cluster key (32 MiB)");
    }
    exo_buf_finish(&salt);
    return st;
}

/* TLS 1.3, (EC)DHE with the key, no tickets, no early data. */
static bool configure(SSL_CTX *ssl) {
    SSL_CTX_set_options(ssl, SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_clear_options(ssl, SSL_OP_ALLOW_NO_DHE_KEX);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_psk_use_session_callback(ssl, offer_psk);
    SSL_CTX_set_psk_find_session_callback(ssl, find_psk);
    SSL_CTX_set_read_ahead(ssl, 1);
    return SSL_CTX_set_min_proto_version(ssl, TLS1_3_VERSION) == 1 &&
           SSL_CTX_set_max_proto_version(ssl, TLS1_3_VERSION) == 1 &&
           SSL_CTX_set_ciphersuites(ssl, "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256") ==
               1 &&
           SSL_CTX_set1_groups_list(ssl, "X25519:P-256") == 1 &&
           SSL_CTX_set_num_tickets(ssl, 0) == 1;
}

static exo_status new_ssl(exo_tls_ctx *c, exo_error *err) {
    ERR_clear_error();
    c->ssl = SSL_CTX_new(TLS_method());
    if (c->ssl != NULL && configure(c->ssl)) return EXO_OK;
    return exo_error_set(err, EXO_EUNSUPPORTED, "this OpenSSL cannot do TLS 1.3 as exo needs it");
}

exo_status exo_tls_ctx_create(const char *passphrase, const char *name_space, exo_tls_ctx **out,
                              exo_error *err) {
    *out = NULL;
    exo_tls_ctx *c = exo_calloc(1, sizeof *c);
    if (c == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for TLS");
    exo_status st = derive_key(passphrase, name_space, c->key, err);
    if (st == EXO_OK) st = new_ssl(c, err);
    if (st != EXO_OK) {
        exo_tls_ctx_destroy(c);
        return st;
    }
    *out = c;
    return EXO_OK;
}

exo_status exo_tls_ctx_create_guest(const char join_id[EXO_JOIN_ID_BYTES],
                                    const uint8_t key[EXO_JOIN_KEY_BYTES], exo_tls_ctx **out,
                                    exo_error *err) {
    *out = NULL;
    exo_tls_ctx *c = exo_calloc(1, sizeof *c);
    if (c == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for TLS");
    memcpy(c->key, key, KEY_BYTES);
    snprintf(c->guest, sizeof c->guest, "%s", join_id);
    exo_status st = new_ssl(c, err);
    if (st != EXO_OK) {
        exo_tls_ctx_destroy(c);
        return st;
    }
    *out = c;
    return EXO_OK;
}

exo_status exo_tls_ctx_rekey(exo_tls_ctx *c, const char *passphrase, const char *name_space,
                             exo_error *err) {
    uint8_t key[KEY_BYTES];
    exo_status st = derive_key(passphrase, name_space, key, err);
    if (st == EXO_OK) memcpy(c->key, key, sizeof key);
    OPENSSL_cleanse(key, sizeof key);
    return st;
}

exo_status exo_tls_ctx_derive(const exo_tls_ctx *c, const char *label, uint8_t out[32],
                              exo_error *err) {
    size_t n = 0;
    if (EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, c->key, KEY_BYTES,
                  (const unsigned char *)label, strlen(label), out, 32, &n) != NULL &&
        n == 32) {
        return EXO_OK;
    }
    return exo_error_set(err, EXO_ENOMEM, "no memory to derive from the cluster key");
}

void exo_tls_ctx_set_guests(exo_tls_ctx *c,
                            bool (*find)(void *ud, const char join_id[EXO_JOIN_ID_BYTES],
                                         uint8_t key[EXO_JOIN_KEY_BYTES]),
                            void *ud) {
    c->find_guest = find;
    c->guest_ud = ud;
}

const char *exo_tls_guest(const exo_tls *t) { return t->guest[0] != '\0' ? t->guest : NULL; }

void exo_tls_ctx_destroy(exo_tls_ctx *c) {
    if (c == NULL) return;
    SSL_CTX_free(c->ssl);
    OPENSSL_cleanse(c->key, sizeof c->key);
    exo_free(c);
}

exo_status exo_tls_create(exo_tls_ctx *c, bool server, exo_tls **out, exo_error *err) {
    *out = NULL;
    exo_tls *t = exo_calloc(1, sizeof *t);
    if (t == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for a TLS session");
    t->server = server;
    t->ctx = c;
    t->records_left = EXO_TLS_REKEY_RECORDS;
    t->ssl = SSL_new(c->ssl);
    t->in = BIO_new(BIO_s_mem());
    t->out = BIO_new(BIO_s_mem());
    if (t->ssl == NULL || t->in == NULL || t->out == NULL || SSL_set_app_data(t->ssl, t) != 1) {
        BIO_free(t->in);
        BIO_free(t->out);
        SSL_free(t->ssl);
        exo_free(t);
        return exo_error_set(err, EXO_ENOMEM, "no memory for a TLS session");
    }
    SSL_set_bio(t->ssl, t->in, t->out);
    if (server) {
        SSL_set_accept_state(t->ssl);
    } else {
        SSL_set_verify(t->ssl, SSL_VERIFY_PEER, NULL); /* against no authority: all are refused */
        SSL_set_connect_state(t->ssl);
    }
    *out = t;
    return EXO_OK;
}

void exo_tls_destroy(exo_tls *t) {
    if (t == NULL) return;
    SSL_free(t->ssl);
    exo_free(t);
}

exo_status exo_tls_feed(exo_tls *t, const void *bytes, size_t n, exo_error *err) {
    const char *p = bytes;
    while (n > 0) {
        int piece = n > INT_MAX ? INT_MAX : (int)n;
        if (BIO_write(t->in, p, piece) != piece) {
            return exo_error_set(err, EXO_ENOMEM, "no memory for %zu received bytes", n);
        }
        p += piece;
        n -= (size_t)piece;
    }
    return EXO_OK;
}

exo_status exo_tls_drain(exo_tls *t, exo_buf *out, exo_error *err) {
    size_t n = BIO_ctrl_pending(t->out), got = 0;
    if (n == 0) return EXO_OK;
    if (!exo_buf_reserve(out, n) || BIO_read_ex(t->out, out->data + out->n, n, &got) != 1) {
        return exo_error_set(err, EXO_ENOMEM, "no memory for %zu bytes to send", n);
    }
    out->n += got;
    out->data[out->n] = '\0';
    return EXO_OK;
}

/* What a stranger's bytes were, as far as OpenSSL can tell; NULL for any other failure. */
static const char *stranger(int reason) {
    switch (reason) {
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST: return "an HTTP request came to the cluster port";
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_BAD_RECORD_TYPE:
    case SSL_R_UNEXPECTED_MESSAGE: return "the peer does not speak TLS 1.3";
    default: return NULL;
    }
}

/* Why OpenSSL refused, from this thread's error queue. */
static exo_status explain(const exo_tls *t, bool handshake, exo_error *err) {
    unsigned long code = ERR_peek_error();
    int reason = ERR_GET_LIB(code) == ERR_LIB_SSL ? ERR_GET_REASON(code) : 0;
    char text[160] = "no reason given";
    if (code != 0) ERR_error_string_n(code, text, sizeof text);
    ERR_clear_error();
    if (handshake && t->server) {
        if (reason == SSL_R_BINDER_DOES_NOT_VERIFY) {
            return exo_error_set(err, EXO_EAUTH, SERVER_REFUSAL);
        }
        if (reason == SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM || reason == SSL_R_NO_SHARED_CIPHER) {
            return exo_error_set(err, EXO_EAUTH, NO_KEY_REFUSAL);
        }
    } else if (handshake) {
        if (reason == SSL_R_SSLV3_ALERT_ILLEGAL_PARAMETER ||
            reason == SSL_R_TLSV1_ALERT_DECRYPT_ERROR ||
            reason == SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE) {
            return exo_error_set(err, EXO_EAUTH,
                                 t->guest[0] != '\0' ? GUEST_REFUSAL : CLIENT_REFUSAL);
        }
        if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
            return exo_error_set(err, EXO_EAUTH,
                                 "the peer showed a certificate, not the cluster key");
        }
    }
    const char *who = stranger(reason);
    if (who != NULL) return exo_error_set(err, EXO_EFORMAT, "%s", who);
    return exo_error_set(err, EXO_EFORMAT, "TLS failed: %s", text);
}

exo_status exo_tls_handshake(exo_tls *t, bool *done, exo_error *err) {
    ERR_clear_error();
    int r = SSL_do_handshake(t->ssl);
    *done = r == 1;
    if (r != 1) {
        int why = SSL_get_error(t->ssl, r);
        return why == SSL_ERROR_WANT_READ ? EXO_OK : explain(t, true, err);
    }
    if (!SSL_session_reused(t->ssl)) { /* unreachable while no certificate is accepted */
        *done = false;
        return exo_error_set(err, EXO_EAUTH, NO_KEY_REFUSAL);
    }
    return EXO_OK;
}

exo_status exo_tls_write(exo_tls *t, const void *bytes, size_t n, exo_error *err) {
    if (n == 0) return EXO_OK;
    ERR_clear_error();
    size_t records = (n + EXO_TLS_RECORD_BYTES - 1) / EXO_TLS_RECORD_BYTES, written;
    if (records > t->records_left) {
        if (SSL_key_update(t->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) != 1) {
            return explain(t, false, err);
        }
        t->records_left = EXO_TLS_REKEY_RECORDS;
    }
    t->records_left -= records < t->records_left ? (uint32_t)records : t->records_left;
    if (SSL_write_ex(t->ssl, bytes, n, &written) != 1) return explain(t, false, err);
    return EXO_OK;
}

exo_status exo_tls_seal(exo_tls *t, const void *bytes, size_t n, exo_buf *out, exo_error *err) {
    const char *p = bytes;
    exo_status st = EXO_OK;
    for (size_t piece; st == EXO_OK && n > 0; p += piece, n -= piece) {
        piece = n < SEAL_BYTES ? n : SEAL_BYTES;
        st = exo_tls_write(t, p, piece, err);
        if (st == EXO_OK) st = exo_tls_drain(t, out, err);
    }
    return st;
}

void exo_tls_goodbye(exo_tls *t) {
    ERR_clear_error();
    if (SSL_is_init_finished(t->ssl)) SSL_shutdown(t->ssl);
    ERR_clear_error();
}

exo_status exo_tls_read(exo_tls *t, exo_buf *out, bool *closed, exo_error *err) {
    *closed = false;
    for (;;) {
        if (!exo_buf_reserve(out, EXO_TLS_RECORD_BYTES)) {
            return exo_error_set(err, EXO_ENOMEM, "no memory for received bytes");
        }
        ERR_clear_error();
        size_t n = 0;
        if (SSL_read_ex(t->ssl, out->data + out->n, EXO_TLS_RECORD_BYTES, &n) != 1) {
            int why = SSL_get_error(t->ssl, 0);
            *closed = why == SSL_ERROR_ZERO_RETURN;
            if (why == SSL_ERROR_WANT_READ || *closed) return EXO_OK;
            return explain(t, false, err);
        }
        out->n += n;
        out->data[out->n] = '\0';
    }
}

exo_status exo_tls_exporter(exo_tls *t, uint8_t out[32], exo_error *err) {
    ERR_clear_error();
    if (SSL_export_keying_material(t->ssl, out, 32, EXPORTER_LABEL, strlen(EXPORTER_LABEL), NULL, 0,
                                   0) != 1) {
        return explain(t, false, err);
    }
    return EXO_OK;
}
