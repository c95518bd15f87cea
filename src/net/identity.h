/* identity.h - who a node is: an Ed25519 key pair in its data directory.
 *
 * The node id is derived from the public key, so it cannot be claimed by another.  The secret
 * key file has mode 0600 and never leaves the machine.  Thread: ANY after load. */
#ifndef EXO_NET_IDENTITY_H
#define EXO_NET_IDENTITY_H

#include <exo/base.h>

#define EXO_NODE_ID_BYTES    17 /* 16 hex digits and NUL: the first 8 bytes of SHA-256(public key) */
#define EXO_PUBLIC_KEY_BYTES 32
#define EXO_SIGNATURE_BYTES  64

typedef struct exo_identity exo_identity;

/* Loads <data_dir>/node.key, or makes it (and the directory, mode 0700) on first start.
 * EXO_EAUTH when others can read the file: the message says what to do. */
exo_status exo_identity_load(const char *data_dir, exo_identity **out, exo_error *err);
void exo_identity_destroy(exo_identity *i);

const char *exo_identity_node_id(const exo_identity *i);
const uint8_t *exo_identity_public_key(const exo_identity *i); /* EXO_PUBLIC_KEY_BYTES */
exo_status exo_identity_sign(const exo_identity *i, const void *bytes, size_t n,
                             uint8_t out[EXO_SIGNATURE_BYTES], exo_error *err);
bool exo_identity_verify(const uint8_t public_key[EXO_PUBLIC_KEY_BYTES], const void *bytes,
                         size_t n, const uint8_t signature[EXO_SIGNATURE_BYTES]);
void exo_identity_node_id_of(const uint8_t public_key[EXO_PUBLIC_KEY_BYTES],
                             char out[EXO_NODE_ID_BYTES]);

#endif
