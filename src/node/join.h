/* join.h - the new device's side of `exo join CODE`: finds the node that gave the code out, asks a
 * person, fetches the cluster's key and stores it.
 *
 * Works without a running node, on a loop of its own.  Thread: ANY; blocks. */
#ifndef EXO_NODE_JOIN_H
#define EXO_NODE_JOIN_H

#include "net/identity.h"

#define EXO_JOIN_FIND_MS 15000u

typedef struct {
    char name[64], name_space[65]; /* of the node that answered */
    char nodes[256];               /* names, "a, b, c" */
    size_t n_nodes;
} exo_join_offer;

typedef struct {
    const char *data_dir;
    const char *name;         /* NULL = the host name */
    const char *code;         /* as typed, or what a QR code holds */
    const char *const *peers; /* (n_peers) "host:port" to ask besides those that are heard */
    size_t n_peers;
    /* Asked once, on a thread of its own, may take its time; false: do not join. */
    bool (*confirm)(void *ud, const exo_join_offer *offer);
    void *ud;
    uint32_t find_ms;     /* 0 = EXO_JOIN_FIND_MS */
    uint16_t beacon_port; /* 0 = the usual one */
} exo_join_desc;

/* EXO_EINVAL: the code is none.  EXO_ETIMEDOUT: nobody with this code answered.  EXO_EAUTH,
 * EXO_EPEER: refused, with the reason.  EXO_ECANCELED: the person said no. */
exo_status exo_join(const exo_join_desc *d, exo_join_offer *out, exo_error *err);

#endif
