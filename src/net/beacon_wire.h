/* beacon_wire.h - one UDP datagram of discovery: who is here, on which port, of which cluster.
 *
 *   offset  bytes
 *        0  4  magic "EXOB"
 *        4  1  format, 1
 *        5  1  kind: 1 announce, 2 ask, 3 answer, 4 query
 *        6  1  flags: bit 0 a join code is open here, bit 1 a cluster of one that never joined
 *        7  1  name bytes (n), at most 32
 *        8  8  cluster tag: follows from the cluster key, tells clusters apart
 *       16  4  namespace tag
 *       20  4  protocol range, two u16
 *       24  8  node id
 *       32  8  run: random per start of the program
 *       40  8  counter: grows with every datagram of a run
 *       48  8  clock of the sender, ms since 1970
 *       56  8  nonce of an ask, and of its answer
 *       64  2  port for links
 *       66  1  version bytes (v), at most 16
 *       67  1  0
 *       68  n  name; then v bytes of version; then zeros up to EXO_BEACON_BYTES - 16
 *      132 16  HMAC-SHA-256 of all before it, cut to 16 bytes
 *
 * All datagrams have the same size, so that an answer is never larger than its question.  The MAC
 * key follows from the cluster key: who does not have it can be heard, and is listed as a
 * stranger, but is not believed.  A query comes from a program that may have no key: its MAC is
 * not looked at, and it says nothing of its sender.
 * Pure: no socket, no clock.  Thread: ANY. */
#ifndef EXO_NET_BEACON_WIRE_H
#define EXO_NET_BEACON_WIRE_H

#include "net/identity.h"

#define EXO_BEACON_BYTES         148
#define EXO_BEACON_TAG_BYTES     8
#define EXO_BEACON_NAME_BYTES    33
#define EXO_BEACON_VERSION_BYTES 17

typedef enum {
    EXO_BEACON_ANNOUNCE = 1,
    EXO_BEACON_ASK = 2, /* please answer, with my nonce: measures the way there and back */
    EXO_BEACON_ANSWER = 3,
    EXO_BEACON_QUERY = 4, /* please announce yourself */
} exo_beacon_kind;

enum { EXO_BEACON_INVITES = 1u << 0, EXO_BEACON_ALONE = 1u << 1 };

/* What follows from the cluster key and namespace. */
typedef struct {
    uint8_t tag[EXO_BEACON_TAG_BYTES], name_space[4], mac[32];
} exo_beacon_keys;

typedef struct {
    exo_beacon_kind kind;
    uint8_t flags;
    uint8_t tag[EXO_BEACON_TAG_BYTES], name_space[4];
    uint16_t protocol_min, protocol_max, port;
    char node_id[EXO_NODE_ID_BYTES];
    uint64_t run, counter, clock_ms, nonce;
    char name[EXO_BEACON_NAME_BYTES], version[EXO_BEACON_VERSION_BYTES]; /* printable */
} exo_beacon_msg;

typedef enum {
    EXO_BEACON_OURS,            /* this cluster, proven by its MAC */
    EXO_BEACON_FORGED,          /* says it is of this cluster, and its MAC is wrong */
    EXO_BEACON_OTHER_KEY,       /* another cluster of the same namespace */
    EXO_BEACON_OTHER_NAMESPACE, /* another namespace */
} exo_beacon_verdict;

struct exo_tls_ctx;
exo_status exo_beacon_keys_derive(const struct exo_tls_ctx *key, const char *name_space,
                                  exo_beacon_keys *out, exo_error *err);
exo_status exo_beacon_write(const exo_beacon_msg *m, const exo_beacon_keys *keys,
                            uint8_t out[EXO_BEACON_BYTES], exo_error *err);
/* EXO_EFORMAT for anything that is no datagram of this format.  Texts come out printable. */
exo_status exo_beacon_read(const void *bytes, size_t n, const exo_beacon_keys *keys,
                           exo_beacon_msg *out, exo_beacon_verdict *verdict, exo_error *err);

#endif
