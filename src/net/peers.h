/* peers.h - the peer table: every node that was heard of, by whatever way, and how to reach it.
 *
 * Beacon, DNS-SD, the platform's own discovery, --peer and the peers file all end here.  A node
 * has several addresses; the best is the one with the shortest measured way there and back.  What
 * is proven (a beacon with our cluster's MAC) and what is only said are kept apart: a stranger
 * can neither change what is known of a member nor push members out of the table.
 * Pure: time comes in.  Thread: LOOP. */
#ifndef EXO_NET_PEERS_H
#define EXO_NET_PEERS_H

#include "net/beacon_wire.h"

#define EXO_PEER_ADDRESSES     8
#define EXO_PEERS_MAX_PROVEN   1024
#define EXO_PEERS_MAX_SAID     128    /* strangers, and what DNS-SD says */
#define EXO_PEER_ADDRESS_MS    60000u /* not heard for so long: the address is forgotten */
#define EXO_PEER_BEACON_WINDOW 32     /* datagrams of one run may overtake one another so far */

typedef enum {
    EXO_SOURCE_BEACON = 1u << 0,
    EXO_SOURCE_DNS_SD = 1u << 1,
    EXO_SOURCE_PLATFORM = 1u << 2,
    EXO_SOURCE_STATIC = 1u << 3,
} exo_peer_source;

typedef enum {
    EXO_HEARD_MEMBER, /* of this cluster */
    EXO_HEARD_REMOVED,
    EXO_HEARD_OTHER_VERSION,
    EXO_HEARD_CLONE, /* this cluster, and our own node id */
    EXO_HEARD_OTHER_KEY,
    EXO_HEARD_OTHER_NAMESPACE,
    EXO_HEARD_FORGED,
} exo_heard_verdict;

/* One piece of news.  Texts are borrowed and printable. */
typedef struct {
    const char *node_id, *name, *version;
    exo_heard_verdict verdict;
    exo_peer_source source;
    const char *host, *interface; /* interface may be "" */
    uint16_t port, udp_port;      /* udp_port 0: it cannot be asked */
    bool proven, alone, invites;
    uint16_t protocol_min, protocol_max;
    uint64_t run, counter; /* run 0: unknown */
    bool has_clock;
    int64_t skew_ms; /* its clock minus ours */
} exo_sighting;

typedef struct {
    char host_port[72], host[64], interface[32];
    unsigned sources;
    uint16_t udp_port;
    uint64_t heard_ms, asked_ms;
    uint32_t rtt_us;       /* smoothed; 0 = not measured */
    uint32_t n_unanswered; /* asks in a row */
} exo_peer_address;

typedef struct {
    char node_id[EXO_NODE_ID_BYTES], name[64], version[EXO_BEACON_VERSION_BYTES];
    exo_heard_verdict verdict;
    bool proven, alone, invites, has_clock;
    uint16_t protocol_min, protocol_max;
    int64_t skew_ms;
    uint64_t run, counter, before_run, before_counter; /* before: the run seen before this one */
    uint32_t n_two_runs; /* times that the earlier run spoke again: the identity is used twice */
    uint64_t first_ms, heard_ms;
    exo_peer_address addresses[EXO_PEER_ADDRESSES];
    size_t n_addresses;
    uint32_t n_better; /* judgements in a row that another address is better */
} exo_heard_peer;

typedef struct exo_peer_table exo_peer_table;

exo_peer_table *exo_peers_create(void); /* NULL without memory */
void exo_peers_destroy(exo_peer_table *t);

typedef enum {
    EXO_NEWS_NONE,
    EXO_NEWS_REPLAY,  /* an old datagram: nothing was taken */
    EXO_NEWS_ADDRESS, /* a new way to a known node */
    EXO_NEWS_RESTART, /* a known node runs anew */
    EXO_NEWS_PEER,
} exo_peer_news;

/* The entry, valid until the next call on t, or NULL when it was a replay or the table is full. */
exo_heard_peer *exo_peers_note(exo_peer_table *t, const exo_sighting *s, uint64_t now_ms,
                               exo_peer_news *news);
/* An ask to this address was answered. */
void exo_peers_measured(exo_peer_table *t, const char *node_id, const char *host, uint32_t rtt_us);
/* Forgets addresses that were not heard (forget is told of each), and peers without any. */
void exo_peers_expire(exo_peer_table *t, uint64_t now_ms,
                      void (*forget)(void *ud, const char *host_port), void *ud);

/* NULL when it is not there: proven entries first. */
exo_heard_peer *exo_peers_find(exo_peer_table *t, const char *node_id);
size_t exo_peers_count(const exo_peer_table *t);
exo_heard_peer *exo_peers_at(exo_peer_table *t, size_t i);

/* Where an address stands among its peer's, 0 = best: measured ones by their time, then the
 * others as they were heard; link-local ones last, since they mean nothing to other nodes. */
size_t exo_peer_rank(const exo_heard_peer *p, const exo_peer_address *a);
/* An address that is much better than the one in use (half the time and 0.3 ms less, or the one
 * in use does not answer), judged so three times running; else NULL. */
const exo_peer_address *exo_peer_better(exo_heard_peer *p, const char *host_port_in_use);

#endif
