/* hello.h - the first frame of each side: who am I, and proof that I hold that key.
 *
 *   node_id     16 hex digits, derived from public_key
 *   name        what people call the node
 *   public_key  64 hex digits, Ed25519
 *   signature   128 hex digits, over the TLS exporter (32 bytes) and one role byte:
 *               'C' for the side that dialled, 'S' for the one that accepted
 *   protocol    {min, max}
 *   version     of the program
 *   listen      "host:port" where the node accepts links, or null
 *   ...         members of the node's own (devices, models); unknown ones are skipped
 *
 * The exporter binds the signature to this connection and the role byte to this direction, so
 * neither can be replayed.  Makes and judges JSON; sends nothing.  Thread: LOOP. */
#ifndef EXO_NET_HELLO_H
#define EXO_NET_HELLO_H

#include "net/link.h"

typedef struct {
    const exo_identity *identity;
    const char *name;
    const char *listen; /* NULL = no listener */
    json_t *extra;      /* borrowed; NULL is allowed; cannot override the members above */
} exo_hello_self;

exo_status exo_hello_make(const exo_hello_self *self, const uint8_t exporter[32], bool dialled,
                          json_t **out, exo_error *err);

/* Judges what the peer said; dialled: the peer is the side that dialled.  seen_host: the address
 * its connection has, which replaces a wildcard in listen.  out->hello borrows hello.
 * EXO_EFORMAT for a broken hello, EXO_EUNSUPPORTED when the protocol ranges do not meet,
 * EXO_EAUTH when id, key and signature do not belong together. */
exo_status exo_hello_check(json_t *hello, const uint8_t exporter[32], bool dialled,
                           const char *seen_host, exo_peer_info *out, exo_error *err);

/* Copies a stranger's text as one printable line that fits. */
void exo_hello_text(const char *in, char *out, size_t cap);

#endif
