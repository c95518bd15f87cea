/* discover_impl.h - what discover.c and discover_json.c share. */
#ifndef EXO_NODE_DISCOVER_IMPL_H
#define EXO_NODE_DISCOVER_IMPL_H

#include "net/beacon.h"
#include "net/dnssd.h"
#include "node/discover.h"
#include "node/node_impl.h"

#define EXO_MAX_SAID 32 /* strangers that got their line; then silence */

struct exo_discover {
    exo_node *node;
    uint64_t run;
    exo_beacon_keys keys;
    exo_beacon *beacon; /* NULL: off, or it could not start */
    char beacon_off[EXO_ERROR_BYTES];
    bool beacon_off_on_purpose;
    exo_dnssd *dnssd; /* NULL: off, or it could not start */
    char dnssd_off[EXO_ERROR_BYTES];
    exo_platform_discovery platform; /* all zero without one */
    exo_peer_table *peers;
    char said[EXO_MAX_SAID][EXO_NODE_ID_BYTES];
    size_t n_said;
    uint64_t started_ms, second_ms, peers_file_stamp, clone_dial_ms;
    bool stopping;
};

/* What a beacon means for this node. */
exo_sighting exo_discover_sighting(const exo_node *n, const exo_beacon_heard *h);
/* One line: why a node that was heard is not linked, and what to do; "" when it is. */
void exo_discover_reason(exo_node *n, const exo_heard_peer *p, char out[EXO_ERROR_BYTES]);

#endif
