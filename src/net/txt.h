/* txt.h - what a node says of itself through DNS-SD and the platforms' own discovery.
 *
 * Service type "_exo-gpu._tcp"; a TXT record of the keys gpu_name, gpu_vendor, max_memory,
 * compute_units, id, cluster, port and v.  Everything in it is only said, not proven: it leads to
 * an address, and the link proves the rest.
 * Pure.  Thread: ANY. */
#ifndef EXO_NET_TXT_H
#define EXO_NET_TXT_H

#include "net/identity.h"

#define EXO_SERVICE_TYPE      "_exo-gpu._tcp"
#define EXO_TXT_BYTES         512 /* of a record that we write */
#define EXO_TXT_MAX_BYTES     4096
#define EXO_TXT_CLUSTER_BYTES 17

typedef struct {
    char gpu_name[64], gpu_vendor[32]; /* "" = not told */
    uint64_t max_memory;               /* bytes */
    uint32_t compute_units;            /* 0 = unknown */
    char id[EXO_NODE_ID_BYTES];
    char cluster[EXO_TXT_CLUSTER_BYTES]; /* the beacon's cluster tag, hex */
    uint16_t port;                       /* for links; 0 = the service's */
    uint16_t v;                          /* highest protocol version */
} exo_txt;

/* The record's bytes: each item with its length in front. */
size_t exo_txt_write(const exo_txt *t, uint8_t out[EXO_TXT_BYTES]);
/* Unknown keys are skipped, of a repeated key the first counts (RFC 6763).  EXO_EFORMAT: broken
 * lengths, no id, or a number that is none.  Texts come out printable. */
exo_status exo_txt_read(const void *bytes, size_t n, exo_txt *out, exo_error *err);
/* One "key=value", as platforms hand them over; takes nothing from unknown keys. */
exo_status exo_txt_take(exo_txt *t, const char *item, size_t n, exo_error *err);

#endif
