/* link_impl.h - the data of nets and links, shared by the files that implement link.h only.
 *
 *   net.c     listener, accepting, the set of links, shutting down
 *   dial.c    names to addresses, connecting, trying the next address
 *   link.c    from connected to open to closed: TLS, hello, frames, pings, deadlines
 *   ping.c    signs of life, and how good the way is
 *   detach.c  an open link becomes a lane
 *   acks.c    a machine that is gone, told from a program that stands still
 *
 * A link's life:
 *
 *   RESOLVE > CONNECT > TLS > HELLO > OPEN > DETACHING      (accepted links begin at TLS)
 *         any of them > ENDING (our last bytes leave) > CLOSED (handles closing) > freed
 *
 * One timer per link, set to the moment at which something is due.  What it comes late is taken off
 * the peer's silence: a loop that was held up for seconds does not take its own sleep for it. */
#ifndef EXO_NET_LINK_IMPL_H
#define EXO_NET_LINK_IMPL_H

#include "net/addr.h"
#include "net/link.h"
#include "net/segments.h"

#define EXO_LINK_MAX_UNSENT    (64u << 20)
#define EXO_LINK_MAX_HELLO     (1u << 20) /* bytes held before the peer is known */
#define EXO_LINK_MAX_HALF_OPEN 64         /* accepted and not yet open */
#define EXO_LINK_DOUBT_MS      430        /* nothing heard: the peer is asked, again and again */
#define EXO_LINK_ASK_MS        100        /* in doubt */
#define EXO_LINK_LATE_MS       100        /* beyond, our own loop was held up */
#define EXO_LINK_LINGER_MS     500        /* for a last word to arrive */
#define EXO_LINK_DETACH_MS     5000       /* for queued bytes to leave */
#define EXO_LINK_LATER_BYTES   8192       /* beyond, nothing waits any more */
#define EXO_LINK_KEEP_BYTES    (1u << 20) /* scratch memory kept after a large frame */
#define EXO_LINK_READ_BYTES    65536
#define EXO_LINK_TIMES         8 /* of pings, of which the middle one counts */

typedef enum {
    LINK_RESOLVE,
    LINK_CONNECT,
    LINK_TLS,
    LINK_HELLO,
    LINK_OPEN,
    LINK_DETACHING,
    LINK_ENDING,
    LINK_CLOSED,
} exo_link_state;

typedef struct exo_resolve exo_resolve; /* dial.c: a name being looked up */

struct exo_net {
    uv_loop_t *loop;
    exo_tls_ctx *tls;
    const exo_identity *identity;
    json_t *hello_extra; /* a reference; NULL is allowed */
    exo_link_events events, guest_events;
    exo_status (*admit)(void *ud, const exo_peer_info *peer, exo_error *err);
    void *ud;
    char name[sizeof((exo_peer_info *)0)->name];
    char listen[sizeof((exo_peer_info *)0)->listen]; /* "" without listener */
    uint16_t port;

    uv_tcp_t listener; /* a handle in any case: its closing ends the net */
    bool listener_closed;
    exo_link *links;
    size_t n_half_open;
    bool closing;
    void (*done)(void *ud);
    void *done_ud;

    exo_buf plain;                      /* a frame being encoded */
    char read_buf[EXO_LINK_READ_BYTES]; /* libuv fills it and calls back at once */
};

struct exo_link {
    exo_net *net;
    exo_link *next, *prev;
    void *ud;

    exo_link_state state;
    bool outgoing, half_open;       /* half_open: counted in the net */
    char where[EXO_HOST_BYTES + 8]; /* "host:port" as dialled, or as seen */
    uint64_t since_us; /* when the state began, or bytes came; later by our own delays */
    uint64_t tick_us;  /* when the next tick is due */

    uv_tcp_t tcp;
    uv_timer_t timer;
    uv_connect_t connect;
    uv_shutdown_t shutdown;
    unsigned n_handles; /* open or closing; 0 = the link may be freed */
    exo_resolve *resolve;
    struct addrinfo *addresses, *next_address;

    exo_tls *tls;
    uint8_t exporter[32];
    exo_buf in;     /* decrypted, not yet parsed */
    exo_buf later;  /* frames that wait for the next one */
    bool in_frames; /* call-backs are running over `in` */
    size_t n_writes, unsent_bytes;
    uint64_t seq, bytes_sent, bytes_received;

    exo_peer_info peer;             /* peer.hello is owned */
    uint64_t ping_seq, ping_us;     /* ping_us 0: none waits for its answer */
    uint64_t sign_us;               /* when bytes left last, or a sign of life was due */
    uint64_t second_us;             /* when an answer was wanted last, whatever else there was */
    uint32_t n_signs;               /* that were due on the open link */
    float times_ms[EXO_LINK_TIMES]; /* that pings took, a ring */
    size_t n_times;                 /* ever */
    double rtt_ms, jitter_ms;       /* 0 = not measured */
    exo_segments segments;          /* as they were counted last */
    double n_sent, n_again;         /* segments of late, and those of them that were sent again */

    exo_lane_fn lane_done; /* set: detaching, on_close is not called any more */
    void *lane_ud;
    exo_lane *lane;

    exo_status status; /* why it ended */
    char why[EXO_ERROR_BYTES];
};

/* net.c */
exo_link *exo_link_new(exo_net *n, bool outgoing); /* in the net's set; NULL without memory */
void exo_link_set_half_open(exo_link *l, bool half_open);
void exo_link_gone(exo_link *l); /* last call-back, then frees */

/* dial.c */
void exo_link_forget_dial(exo_link *l); /* cancels and frees what dialling needs */

/* link.c */
void exo_link_start_clock(exo_link *l); /* the deadline of opening counts from here */
void exo_link_wait_anew(exo_link *l);   /* a state begins, or bytes came */
uint32_t exo_link_waited_ms(const exo_link *l);
void exo_link_begin(exo_link *l); /* TCP is connected: TLS starts */
/* Ends a link for a reason; the message gets the peer's name or address in front.  say: the peer
 * is told and may still read it; otherwise the connection is cut. */
void exo_link_fail(exo_link *l, bool say, exo_error *err);
/* The owner's call-backs for this kind of link. */
const exo_link_events *exo_link_callbacks(const exo_link *l);
void exo_link_cut(exo_link *l); /* closes the handles; status and why are set */
void exo_link_handle_closed(uv_handle_t *h);
exo_status exo_link_put(exo_link *l, const exo_frame *f, exo_error *err); /* as it is */
exo_status exo_link_flush_later(exo_link *l, exo_error *err);

/* ping.c */
exo_status exo_link_ping(exo_link *l, exo_error *err); /* a tick of an open link */
uint32_t exo_link_next_tick_ms(const exo_link *l);
exo_status exo_link_take_ping(exo_link *l, const exo_frame *f, exo_error *err);
void exo_link_take_pong(exo_link *l, uint64_t seq);

/* How long nothing was heard, not even an acknowledgement of what is on its way; 0 when nothing
 * is. */
uint32_t exo_link_quiet_ms(const exo_link *l);

/* acks.c: something is on its way, and the last acknowledgement came so long ago; 0: nothing is. */
uint32_t exo_link_unacknowledged_ms(const exo_link *l);

/* detach.c */
void exo_link_try_detach(exo_link *l); /* DETACHING: makes the lane once all bytes have left */

#endif
