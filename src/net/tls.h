/* tls.h - TLS 1.3 with one external pre-shared key: strangers stay out.
 *
 * The key is scrypt(passphrase, namespace); psk_dhe_ke only, AES-128-GCM or ChaCha20, no tickets.
 * A session works on memory: encrypted bytes go in and out by calls, so the same object serves
 * libuv (LOOP) and a tensor lane (COMPUTE) and can be handed from one to the other.
 * Thread: contexts ANY; a session one thread at a time. */
#ifndef EXO_NET_TLS_H
#define EXO_NET_TLS_H

#include "base/buf.h"

#define EXO_MIN_PASSPHRASE   10
#define EXO_TLS_RECORD_BYTES 16384 /* of plain text; +22 on the wire */
#define EXO_TLS_REKEY_RECORDS                                                                      \
    65536 /* sent under one key; AES-GCM allows 2^24.5 (RFC 8446, 5.5)                             \
           */

typedef struct exo_tls_ctx exo_tls_ctx; /* both roles, one key */
typedef struct exo_tls exo_tls;         /* one connection */

/* EXO_EINVAL for a passphrase under EXO_MIN_PASSPHRASE characters.  Takes about 50 ms (scrypt). */
exo_status exo_tls_ctx_create(const char *passphrase, const char *name_space, exo_tls_ctx **out,
                              exo_error *err);
void exo_tls_ctx_destroy(exo_tls_ctx *c); /* NULL is allowed; wipes the key */
/* Handshakes from now on use another key; open sessions go on. */
exo_status exo_tls_ctx_rekey(exo_tls_ctx *c, const char *passphrase, const char *name_space,
                             exo_error *err);
/* 32 bytes that follow from the key and the label, of no use to find the key. */
exo_status exo_tls_ctx_derive(const exo_tls_ctx *c, const char *label, uint8_t out[32],
                              exo_error *err);

/* ---- join codes: links that authenticate nothing but the hand-over of the cluster key ---- */

#define EXO_JOIN_ID_BYTES  9 /* 8 hex digits and NUL: which code */
#define EXO_JOIN_KEY_BYTES 32

/* A context for dialling with a join code's key instead of the cluster's. */
exo_status exo_tls_ctx_create_guest(const char join_id[EXO_JOIN_ID_BYTES],
                                    const uint8_t key[EXO_JOIN_KEY_BYTES], exo_tls_ctx **out,
                                    exo_error *err);
/* find fills the key of a code that this node gave out; false: no such code.  Called in
 * handshakes. */
void exo_tls_ctx_set_guests(exo_tls_ctx *c,
                            bool (*find)(void *ud, const char join_id[EXO_JOIN_ID_BYTES],
                                         uint8_t key[EXO_JOIN_KEY_BYTES]),
                            void *ud);
/* After the handshake: the join code it was made with, or NULL for the cluster key. */
const char *exo_tls_guest(const exo_tls *t);

exo_status exo_tls_create(exo_tls_ctx *c, bool server, exo_tls **out, exo_error *err);
void exo_tls_destroy(exo_tls *t);

/* Bytes from the socket. */
exo_status exo_tls_feed(exo_tls *t, const void *bytes, size_t n, exo_error *err);
/* Appends bytes for the socket (handshake, records, alerts). */
exo_status exo_tls_drain(exo_tls *t, exo_buf *out, exo_error *err);
/* Goes on with the handshake; *done once both sides hold the key.  A different key:
 * EXO_EAUTH "cluster key does not match". */
exo_status exo_tls_handshake(exo_tls *t, bool *done, exo_error *err);
/* Plain bytes in; call drain afterwards. */
exo_status exo_tls_write(exo_tls *t, const void *bytes, size_t n, exo_error *err);
/* Both at once, in pieces, so that large messages do not pass through the session whole: appends
 * the records for n plain bytes, one record where they fit. */
exo_status exo_tls_seal(exo_tls *t, const void *bytes, size_t n, exo_buf *out, exo_error *err);
/* No more will be written: the peer's read reports *closed.  Call drain afterwards. */
void exo_tls_goodbye(exo_tls *t);
/* Appends what can be decrypted now; *closed when the peer said goodbye. */
exo_status exo_tls_read(exo_tls *t, exo_buf *out, bool *closed, exo_error *err);
/* 32 bytes bound to this connection, the same on both sides: what identities sign. */
exo_status exo_tls_exporter(exo_tls *t, uint8_t out[32], exo_error *err);

#endif
