/* tls_test.c - two real TLS sessions joined by memory: who gets in, and what strangers hear.
 *
 * Peers without exo's rules (a certificate server, TLS 1.2, plain HTTP) are made with OpenSSL
 * itself. */
#include "net/tls.h"

#include "base/mem.h"

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

typedef struct {
    exo_tls *client, *server;
    exo_status client_status, server_status;
    exo_error client_err, server_err;
    bool client_done, server_done;
    size_t wire_bytes;
} pair;

static exo_tls_ctx *key_a, *key_b, *key_other_space; /* scrypt is slow: once for all tests */

static int derive_keys(void **ud) {
    (void)ud;
    return exo_tls_ctx_create("correct horse battery", "home", &key_a, NULL) != EXO_OK ||
           exo_tls_ctx_create("wrong horse battery", "home", &key_b, NULL) != EXO_OK ||
           exo_tls_ctx_create("correct horse battery", "lab", &key_other_space, NULL) != EXO_OK;
}

static int forget_keys(void **ud) {
    (void)ud;
    exo_tls_ctx_destroy(key_a);
    exo_tls_ctx_destroy(key_b);
    exo_tls_ctx_destroy(key_other_space);
    return 0;
}

/* Moves what one side has to say to the other. */
static void carry(exo_tls *from, exo_tls *to, pair *p) {
    exo_buf wire = {0};
    assert_int_equal(exo_tls_drain(from, &wire, NULL), EXO_OK);
    assert_int_equal(exo_tls_feed(to, wire.data, wire.n, NULL), EXO_OK);
    p->wire_bytes += wire.n;
    exo_buf_finish(&wire);
}

static void shake_hands(pair *p, exo_tls_ctx *client_key, exo_tls_ctx *server_key) {
    *p = (pair){0};
    assert_int_equal(exo_tls_create(client_key, false, &p->client, NULL), EXO_OK);
    assert_int_equal(exo_tls_create(server_key, true, &p->server, NULL), EXO_OK);
    for (int i = 0; i < 4; i++) {
        if (p->client_status == EXO_OK) {
            p->client_status = exo_tls_handshake(p->client, &p->client_done, &p->client_err);
        }
        carry(p->client, p->server, p);
        if (p->server_status == EXO_OK) {
            p->server_status = exo_tls_handshake(p->server, &p->server_done, &p->server_err);
        }
        carry(p->server, p->client, p);
    }
}

static void open_pair(pair *p) {
    shake_hands(p, key_a, key_a);
    if (p->client_status != EXO_OK) fail_msg("client: %s", p->client_err.message);
    assert_int_equal(p->client_status, EXO_OK);
    assert_int_equal(p->server_status, EXO_OK);
    assert_true(p->client_done);
    assert_true(p->server_done);
}

static void close_pair(pair *p) {
    exo_tls_destroy(p->client);
    exo_tls_destroy(p->server);
}

static void the_same_key_opens(void **ud) {
    (void)ud;
    pair p;
    open_pair(&p);
    assert_true(p.wire_bytes < 1000); /* no certificate travels */
    uint8_t a[32], b[32], c[32];
    assert_int_equal(exo_tls_exporter(p.client, a, NULL), EXO_OK);
    assert_int_equal(exo_tls_exporter(p.server, b, NULL), EXO_OK);
    assert_memory_equal(a, b, 32);
    close_pair(&p);
    open_pair(&p);
    assert_int_equal(exo_tls_exporter(p.client, c, NULL), EXO_OK);
    assert_memory_not_equal(a, c, 32); /* bound to the connection, not to the key */
    close_pair(&p);
}

static void expect_refusal(exo_tls_ctx *client_key, exo_tls_ctx *server_key) {
    pair p;
    shake_hands(&p, client_key, server_key);
    assert_int_equal(p.client_status, EXO_EAUTH);
    assert_int_equal(p.server_status, EXO_EAUTH);
    assert_non_null(strstr(p.client_err.message, "cluster key does not match"));
    assert_non_null(strstr(p.server_err.message, "cluster key does not match"));
    assert_false(p.client_done || p.server_done);
    close_pair(&p);
}

static void another_key_is_refused_and_both_know_why(void **ud) {
    (void)ud;
    expect_refusal(key_b, key_a);
    expect_refusal(key_a, key_b);
    expect_refusal(key_a, key_other_space);
}

static void short_passphrases_are_refused(void **ud) {
    (void)ud;
    exo_tls_ctx *c = key_a;
    exo_error err = {0};
    assert_int_equal(exo_tls_ctx_create("123456789", "home", &c, &err), EXO_EINVAL);
    assert_null(c);
    assert_non_null(strstr(err.message, "10"));
    /* nine characters, eighteen bytes */
    assert_int_equal(exo_tls_ctx_create("\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4"
                                        "\xC3\xA4\xC3\xA4",
                                        "home", &c, NULL),
                     EXO_EINVAL);
    assert_int_equal(exo_tls_ctx_create(NULL, "home", &c, NULL), EXO_EINVAL);
}

static void send_and_expect(exo_tls *from, exo_tls *to, pair *p, size_t n) {
    uint8_t *bytes = exo_malloc(n);
    assert_non_null(bytes);
    for (size_t i = 0; i < n; i++) bytes[i] = (uint8_t)(i * 7 + i / 251);
    exo_buf wire = {0}, plain = {0};
    bool closed;
    assert_int_equal(exo_tls_seal(from, bytes, n, &wire, NULL), EXO_OK);
    size_t records = (n + EXO_TLS_RECORD_BYTES - 1) / EXO_TLS_RECORD_BYTES;
    assert_int_equal(wire.n, n + 22 * records);
    for (size_t at = 0; at < wire.n; at += 1000) { /* in pieces that fit no record */
        size_t piece = wire.n - at < 1000 ? wire.n - at : 1000;
        assert_int_equal(exo_tls_feed(to, wire.data + at, piece, NULL), EXO_OK);
        assert_int_equal(exo_tls_read(to, &plain, &closed, NULL), EXO_OK);
        assert_false(closed);
    }
    assert_int_equal(plain.n, n);
    assert_memory_equal(plain.data, bytes, n);
    p->wire_bytes += wire.n;
    exo_buf_finish(&wire);
    exo_buf_finish(&plain);
    exo_free(bytes);
}

static void bytes_arrive_with_22_more_per_record(void **ud) {
    (void)ud;
    pair p;
    open_pair(&p);
    static const size_t sizes[] = {1, 60, 8192, 16384, 16385, 300000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        send_and_expect(p.client, p.server, &p, sizes[i]);
        send_and_expect(p.server, p.client, &p, sizes[i]);
    }
    close_pair(&p);
}

/* The test counts bytes: exactly one frame must be longer, by the key update's own record. */
static void the_key_is_replaced_in_time(void **ud) {
    (void)ud;
    pair p;
    open_pair(&p);
    exo_buf wire = {0}, plain = {0};
    unsigned updates = 0;
    bool closed;
    for (unsigned i = 0; i < EXO_TLS_REKEY_RECORDS + 10; i++) {
        exo_buf_clear(&wire);
        exo_buf_clear(&plain);
        assert_int_equal(exo_tls_seal(p.client, "x", 1, &wire, NULL), EXO_OK);
        updates += wire.n != 23;
        assert_int_equal(exo_tls_feed(p.server, wire.data, wire.n, NULL), EXO_OK);
        assert_int_equal(exo_tls_read(p.server, &plain, &closed, NULL), EXO_OK);
        assert_int_equal(plain.n, 1);
    }
    assert_int_equal(updates, 1);
    send_and_expect(p.server, p.client, &p, 100);
    exo_buf_finish(&wire);
    exo_buf_finish(&plain);
    close_pair(&p);
}

static void a_flipped_bit_breaks_the_session(void **ud) {
    (void)ud;
    for (size_t at = 0; at < 60; at += 7) {
        pair p;
        open_pair(&p);
        exo_buf wire = {0}, plain = {0};
        exo_error err = {0};
        bool closed;
        assert_int_equal(
            exo_tls_seal(p.client, "forty bytes of plain text, give or take", 39, &wire, NULL),
            EXO_OK);
        assert_int_equal(wire.n, 61);
        wire.data[at] ^= 4;
        assert_int_equal(exo_tls_feed(p.server, wire.data, wire.n, NULL), EXO_OK);
        exo_status st = exo_tls_read(p.server, &plain, &closed, &err);
        assert_int_equal(plain.n, 0);
        if (st != EXO_OK) assert_non_null(strstr(err.message, "TLS"));
        if (at != 3 && at != 4) assert_int_equal(st, EXO_EFORMAT); /* a longer record waits */
        exo_buf_finish(&wire);
        exo_buf_finish(&plain);
        close_pair(&p);
    }
}

static void goodbye_is_heard(void **ud) {
    (void)ud;
    pair p;
    open_pair(&p);
    exo_buf plain = {0};
    bool closed;
    assert_int_equal(exo_tls_write(p.client, "last", 4, NULL), EXO_OK);
    exo_tls_goodbye(p.client);
    carry(p.client, p.server, &p);
    assert_int_equal(exo_tls_read(p.server, &plain, &closed, NULL), EXO_OK);
    assert_true(closed);
    assert_string_equal(exo_buf_str(&plain), "last");
    exo_buf_finish(&plain);
    close_pair(&p);
}

static void strangers_hear_a_reason(void **ud) {
    (void)ud;
    static const struct {
        const char *bytes, *why;
    } cases[] = {{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP"},
                 {"CONNECT x:443 HTTP/1.1\r\n\r\n", "HTTP"},
                 {"EXO1\1\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "TLS"},
                 {"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", "TLS"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        exo_tls *t;
        bool done;
        exo_error err = {0};
        assert_int_equal(exo_tls_create(key_a, true, &t, NULL), EXO_OK);
        assert_int_equal(exo_tls_feed(t, cases[i].bytes, strlen(cases[i].bytes), NULL), EXO_OK);
        assert_int_equal(exo_tls_handshake(t, &done, &err), EXO_EFORMAT);
        assert_non_null(strstr(err.message, cases[i].why));
        exo_tls_destroy(t);
    }
}

/* A server with a certificate, as any web server has, and no cluster key. */
static SSL *certificate_server(SSL_CTX *ctx) {
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    assert_non_null(key);
    assert_non_null(x);
    X509_gmtime_adj(X509_getm_notBefore(x), -60);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, key);
    assert_true(X509_sign(x, key, EVP_sha256()) > 0);
    assert_int_equal(SSL_CTX_use_certificate(ctx, x), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(ctx, key), 1);
    X509_free(x);
    EVP_PKEY_free(key);
    SSL *s = SSL_new(ctx);
    assert_non_null(s);
    SSL_set_bio(s, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_accept_state(s);
    return s;
}

static void a_certificate_does_not_open(void **ud) {
    (void)ud;
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    SSL *server = certificate_server(ctx);
    exo_tls *client;
    bool done = false;
    exo_error err = {0};
    exo_buf wire = {0};
    assert_int_equal(exo_tls_create(key_a, false, &client, NULL), EXO_OK);
    assert_int_equal(exo_tls_handshake(client, &done, NULL), EXO_OK);
    assert_int_equal(exo_tls_drain(client, &wire, NULL), EXO_OK);
    assert_int_equal(BIO_write(SSL_get_rbio(server), wire.data, (int)wire.n), wire.n);
    SSL_do_handshake(server);
    char *answer;
    long n = BIO_get_mem_data(SSL_get_wbio(server), &answer);
    assert_true(n > 200);
    assert_int_equal(exo_tls_feed(client, answer, (size_t)n, NULL), EXO_OK);
    assert_int_equal(exo_tls_handshake(client, &done, &err), EXO_EAUTH);
    assert_false(done);
    assert_non_null(strstr(err.message, "certificate"));
    exo_buf_finish(&wire);
    exo_tls_destroy(client);
    SSL_free(server);
    SSL_CTX_free(ctx);
}

/* An OpenSSL client that offers what the test says; returns why the exo server refused. */
static exo_error refuse_client(SSL_CTX *ctx) {
    SSL *client = SSL_new(ctx);
    exo_tls *server;
    bool done = true;
    exo_error err = {0};
    assert_non_null(client);
    SSL_set_bio(client, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_connect_state(client);
    SSL_do_handshake(client);
    char *hello;
    long n = BIO_get_mem_data(SSL_get_wbio(client), &hello);
    assert_true(n > 50);
    assert_int_equal(exo_tls_create(key_a, true, &server, NULL), EXO_OK);
    assert_int_equal(exo_tls_feed(server, hello, (size_t)n, NULL), EXO_OK);
    assert_true(exo_tls_handshake(server, &done, &err) != EXO_OK);
    assert_false(done);
    exo_tls_destroy(server);
    SSL_free(client);
    SSL_CTX_free(ctx);
    return err;
}

static void clients_without_the_key_are_refused(void **ud) {
    (void)ud;
    exo_error err = refuse_client(SSL_CTX_new(TLS_client_method()));
    assert_int_equal(err.status, EXO_EAUTH);
    assert_non_null(strstr(err.message, "cluster key does not match"));
    SSL_CTX *old = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_max_proto_version(old, TLS1_2_VERSION);
    err = refuse_client(old);
    assert_non_null(strstr(err.message, "TLS 1.3"));
}

static void every_failed_allocation_is_reported(void **ud) {
    (void)ud;
    exo_tls *t;
    exo_mem_fail_at(1);
    assert_int_equal(exo_tls_create(key_a, true, &t, NULL), EXO_ENOMEM);
    assert_null(t);
    exo_tls_ctx *c;
    for (uint64_t k = 1; k <= 2; k++) { /* the context and its salt */
        exo_mem_fail_at(k);
        assert_int_equal(exo_tls_ctx_create("correct horse battery", "home", &c, NULL), EXO_ENOMEM);
        assert_null(c);
    }
    pair p;
    exo_mem_fail_at(0);
    open_pair(&p);
    exo_buf wire = {0};
    exo_mem_fail_at(1);
    assert_int_equal(exo_tls_seal(p.client, "x", 1, &wire, NULL), EXO_ENOMEM);
    exo_mem_fail_at(0);
    exo_buf_finish(&wire);
    close_pair(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_key_opens),
        cmocka_unit_test(another_key_is_refused_and_both_know_why),
        cmocka_unit_test(short_passphrases_are_refused),
        cmocka_unit_test(bytes_arrive_with_22_more_per_record),
        cmocka_unit_test(the_key_is_replaced_in_time),
        cmocka_unit_test(a_flipped_bit_breaks_the_session),
        cmocka_unit_test(goodbye_is_heard),
        cmocka_unit_test(strangers_hear_a_reason),
        cmocka_unit_test(a_certificate_does_not_open),
        cmocka_unit_test(clients_without_the_key_are_refused),
        cmocka_unit_test(every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, derive_keys, forget_keys);
}
