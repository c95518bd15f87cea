/* beacon.h - the UDP beacon: announces this node on every usable interface and hears others.
 *
 * IPv4 broadcast and multicast, IPv6 link-local multicast; never on loopback.  A burst at start
 * and after every change of the interfaces, then one beacon in 5 s, rarer in a cluster whose nodes
 * are all linked and where many are heard, so that a link carries little of them whatever their
 * number.  Whoever is new is answered at once.  What strangers send costs at most a MAC and is
 * limited by rate. Thread: LOOP; on_heard comes from reads. */
#ifndef EXO_NET_BEACON_H
#define EXO_NET_BEACON_H

#include "net/beacon_wire.h"
#include "net/interfaces.h"

#include <uv.h>

#define EXO_BEACON_PORT        52417
#define EXO_BEACON_GROUP_V4    "239.255.52.17"
#define EXO_BEACON_GROUP_V6    "ff12::e0:5217"
#define EXO_BEACON_INTERVAL_MS 5000u
#define EXO_BEACON_SETTLED_MS  15000u /* while all who were heard are linked */
#define EXO_BEACON_SHARE_MS    300u   /* per node heard: the interval grows with the crowd */
#define EXO_BEACON_INVITE_MS   1000u  /* while a join code is open */

typedef struct {
    const exo_beacon_msg *msg;
    exo_beacon_verdict verdict;
    char host[64];         /* the sender, IPv6 with its zone */
    uint16_t udp_port;     /* asks and answers go there */
    const char *interface; /* its name, or "" */
    uint32_t rtt_us;       /* of an answer to our ask; else 0 */
} exo_beacon_heard;

typedef struct {
    uv_loop_t *loop;
    uint16_t udp_port;     /* 0 = EXO_BEACON_PORT */
    const char *only_host; /* the interface with this address only; NULL or a wildcard = all */
    bool no_v4, no_v6;     /* links are not accepted over that family */
    bool quiet;            /* hears and queries, announces nothing */
    exo_beacon_keys keys;
    exo_beacon_msg self; /* node_id, name, version, protocol range, port, run; cut to fit */
    void (*on_heard)(void *ud, const exo_beacon_heard *h);
    void *ud;
} exo_beacon_desc;

/* What doctor shows of one address of an interface. */
typedef struct {
    exo_interface interface;
    bool used;
    uint64_t n_sent, n_heard, n_own; /* n_own: our own beacons that came back */
    int send_error;                  /* of the last try, as libuv numbers it; 0 = it went out */
} exo_beacon_interface;

typedef struct {
    uint64_t n_heard, n_garbage, n_dropped; /* dropped: beyond the rate limit */
    uint64_t bytes_sent, bytes_heard;
    uint32_t interval_ms; /* between beacons, the burst of a start apart */
} exo_beacon_stats;

typedef struct exo_beacon exo_beacon;

/* EXO_EBUSY when another program holds the UDP port alone. */
exo_status exo_beacon_create(const exo_beacon_desc *d, exo_beacon **out, exo_error *err);
/* done(ud) comes when all handles are closed; then the object is freed. */
void exo_beacon_close(exo_beacon *b, void (*done)(void *ud), void *ud);

void exo_beacon_set_keys(exo_beacon *b, const exo_beacon_keys *keys);
void exo_beacon_set_flags(exo_beacon *b, uint8_t flags); /* a change is announced at once */
/* So many nodes are heard; settled: all of our cluster are linked, and there are some. */
void exo_beacon_set_crowd(exo_beacon *b, size_t n_nodes, bool settled);
void exo_beacon_burst(exo_beacon *b);
/* One datagram to one sender: our announcement, or a question whose answer is timed. */
void exo_beacon_tell(exo_beacon *b, const char *host, uint16_t udp_port);
void exo_beacon_ask(exo_beacon *b, const char *host, uint16_t udp_port);
void exo_beacon_query(exo_beacon *b); /* to everyone on every interface */

size_t exo_beacon_interfaces(const exo_beacon *b, const exo_beacon_interface **out);
exo_beacon_stats exo_beacon_counts(const exo_beacon *b);

#endif
