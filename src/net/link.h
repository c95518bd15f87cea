/* link.h - an encrypted, mutually authenticated connection between two nodes, on LOOP.
 *
 * A link opens TCP, does the TLS handshake, exchanges hello frames (identity, version, profile)
 * and then carries frames both ways.  It pings, and breaks when the peer is silent: every link
 * ends with one reason that says who, what and why.  A link may be detached and become a tensor
 * lane (lane.h).
 * Thread: LOOP; call-backs come on LOOP, never from within the call that causes them, except
 * on_frame from reads.  After on_close the link is gone. */
#ifndef EXO_NET_LINK_H
#define EXO_NET_LINK_H

#include "net/frame.h"
#include "net/identity.h"
#include "net/tls.h"

#include <uv.h>

#define EXO_PROTOCOL_MIN   1
#define EXO_PROTOCOL_MAX   1
#define EXO_LINK_OPEN_MS   5000 /* TCP, TLS and hello together */
#define EXO_LINK_PING_MS   333
#define EXO_LINK_LOST_MS   850  /* nothing heard, and nothing acknowledged: the machine is gone */
#define EXO_LINK_SILENT_MS 4000 /* nothing heard: the program stands still for too long */

typedef struct exo_net exo_net; /* one node's listener, key and identity */
typedef struct exo_link exo_link;
typedef struct exo_lane exo_lane;

typedef struct {
    char node_id[EXO_NODE_ID_BYTES];
    char name[64];
    char listen[64]; /* "host:port" the peer accepts links on; host as we see it */
    json_t *hello;   /* the peer's whole hello, borrowed for the link's life */
} exo_peer_info;

typedef struct {
    /* Both hellos are verified. outgoing: we dialled. */
    void (*on_open)(void *ud, exo_link *l, const exo_peer_info *peer, bool outgoing);
    /* f is borrowed for the call. */
    void (*on_frame)(void *ud, exo_link *l, const exo_frame *f);
    /* The last call for l; also for a link that never opened.  why: one line. */
    void (*on_close)(void *ud, exo_link *l, exo_status status, const char *why);
} exo_link_events;

typedef struct {
    uv_loop_t *loop;
    exo_tls_ctx *tls;             /* borrowed */
    const exo_identity *identity; /* borrowed */
    const char *name;
    const char *listen_addr; /* "127.0.0.1", "0.0.0.0", "::"; NULL = no listener */
    uint16_t listen_port;    /* 0 = any; exo_net_port tells */
    json_t *hello_extra;     /* members added to our hello (devices, models, ...); borrowed */
    exo_link_events events;
    /* Links made with a join code (tls.h), which carry JOIN frames and nothing else; without
     * on_open they are refused. */
    exo_link_events guest_events;
    /* May refuse a node whose hello was verified, our own included, with a reason; NULL = takes
     * all.  The peer is told. */
    exo_status (*admit)(void *ud, const exo_peer_info *peer, exo_error *err);
    void *ud;
} exo_net_desc;

/* EXO_EBUSY names a port in use.  Ignores SIGPIPE unless the program handles it: a write to a
 * closed connection is an error here, not a signal.  On failure the loop has one more turn to
 * make before it can be closed. */
exo_status exo_net_create(const exo_net_desc *d, exo_net **out, exo_error *err);
uint16_t exo_net_port(const exo_net *n);
/* Closes listener and links ("shutting down"); done(ud) comes when all handles are closed, and
 * then the object is freed. */
void exo_net_close(exo_net *n, void (*done)(void *ud), void *ud);

/* Dials host:port ("[::1]:5678" for IPv6; names are resolved).  *out stays valid until on_close. */
exo_status exo_net_dial(exo_net *n, const char *host_port, void *link_ud, exo_link **out,
                        exo_error *err);

/* The id of the join code a link was made with; NULL for links of the cluster. */
const char *exo_link_guest(const exo_link *l);
void *exo_link_ud(const exo_link *l);
void exo_link_set_ud(exo_link *l, void *ud);
const exo_peer_info *exo_link_peer(const exo_link *l);
double exo_link_rtt_ms(const exo_link *l); /* smoothed from pings; 0 before the first */

/* How good the way is; NAN = not known (yet). */
typedef struct {
    double rtt_ms, jitter_ms; /* there and back, and how far single times are from that */
    double loss;              /* the part of what we sent of late that had to be sent again, 0..1 */
    bool waits;               /* a ping was not answered in the time it takes */
} exo_link_quality;
exo_link_quality exo_link_measured(const exo_link *l);
/* A train (train.h) showed n_lost of n_sent packets lost. */
void exo_link_note_loss(exo_link *l, uint32_t n_sent, uint32_t n_lost);
/* The two ends of the connection, without ports; "" = unknown. */
void exo_link_hosts(const exo_link *l, char ours[64], char theirs[64]);
uint64_t exo_link_bytes_sent(const exo_link *l);
uint64_t exo_link_bytes_received(const exo_link *l);

/* Queues a frame; header and body are copied.  EXO_EBUSY beyond 64 MiB of unsent bytes. */
exo_status exo_link_send(exo_link *l, const exo_frame *f, exo_error *err);
exo_status exo_link_send_json(exo_link *l, uint16_t type, const json_t *header, exo_error *err);
/* The same for what may wait: it leaves with the next frame or sign of life, in one packet with it,
 * EXO_LINK_PING_MS later at most.  Frames keep their order. */
exo_status exo_link_send_later(exo_link *l, const exo_frame *f, exo_error *err);
exo_status exo_link_send_json_later(exo_link *l, uint16_t type, const json_t *header,
                                    exo_error *err);
/* Says BYE with the reason and closes; on_close follows. */
void exo_link_close(exo_link *l, exo_status status, const char *why);

/* Turns an open link into a lane: what is queued is sent first, on_close is not called any more.
 * done comes on LOOP with the lane, or with NULL and a reason. */
typedef void (*exo_lane_fn)(void *ud, exo_lane *lane, const char *why);
void exo_link_detach(exo_link *l, exo_lane_fn done, void *ud);

#endif
