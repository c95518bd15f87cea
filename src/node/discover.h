/* discover.h - how this node finds others: the beacon, DNS-SD, the platform, the peers file.
 *
 * Every way feeds one peer table; addresses worth dialling go to members.c, the best first.
 * Strangers are listed with the reason why they are none of us, and said once.
 * Thread: LOOP, exo_node_found excepted (node.h). */
#ifndef EXO_NODE_DISCOVER_H
#define EXO_NODE_DISCOVER_H

#include "net/peers.h"
#include "node/node.h"

#define EXO_PEERS_FILE "peers" /* in the data directory: HOST:PORT lines, "#" begins a comment */

typedef struct exo_discover exo_discover;

/* After the links listen.  A beacon or DNS-SD that cannot start is a line in the log, no error. */
exo_status exo_discover_start(exo_node *n, exo_error *err);
void exo_discover_tick(exo_node *n, uint64_t now_ms);
/* The cluster key or namespace is another: announced and judged by it from now on. */
void exo_discover_rekeyed(exo_node *n);
void exo_discover_stop(exo_node *n);   /* closes handles; the loop frees them */
void exo_discover_finish(exo_node *n); /* after the loop */

/* News from any source. */
void exo_discover_note(exo_node *n, const exo_sighting *s);
/* Random per start of this program: tells a restart from a copied identity. */
uint64_t exo_discover_run(const exo_node *n);
/* What GET /state shows as "discovery": a new reference. */
json_t *exo_discover_json(exo_node *n);

#endif
