/* lane.h - a tensor lane: an open TLS connection owned by one COMPUTE thread.
 *
 * Blocking, with a deadline on every wait and a wake-up for other work: no event loop and no
 * queue between a stage and its neighbour.  One frame is one write.  Errors stick: after one, the
 * lane only reports it.
 * Thread: COMPUTE, one at a time; exo_lane_wake is ANY. */
#ifndef EXO_NET_LANE_H
#define EXO_NET_LANE_H

#include "net/link.h"

#include <stdatomic.h>

#define EXO_LANE_SET_MAX 64 /* lanes waited for at once */

/* Waits for several lanes and one wake-up: what a stage sleeps on. */
typedef struct exo_lane_set exo_lane_set;
exo_status exo_lane_set_create(exo_lane_set **out, exo_error *err);
void exo_lane_set_destroy(exo_lane_set *s);
/* n <= EXO_LANE_SET_MAX; lane NULL slots are skipped.  Spins spin_us first, then polls until the
 * deadline (exo_now_us time; UINT64_MAX = none).  *ready = index of a lane with something to read
 * or an error; -1 = woken or deadline. */
void exo_lane_set_wait(exo_lane_set *s, exo_lane *const *lanes, size_t n, uint32_t spin_us,
                       uint64_t deadline_us, int *ready);
void exo_lane_wake(exo_lane_set *s); /* ANY; ends the wait in progress, or the next one */

void exo_lane_destroy(exo_lane *l);           /* says goodbye and closes; NULL is allowed */
const char *exo_lane_peer(const exo_lane *l); /* node id */

/* Sends header and body as one frame, from where they lie.  deadline_us in exo_now_us time; a
 * frame that was not sent whole breaks the lane.  EXO_EINVAL (too large) does not. */
exo_status exo_lane_send(exo_lane *l, const exo_frame *f, uint64_t deadline_us, exo_error *err);
/* The next whole frame, without waiting: EXO_OK with *have = false when none is there yet.
 * f is borrowed until the next call on this lane.  Frames that came before an error are delivered
 * first; pings are dropped, and the peer's goodbye is EXO_EPEER with its reason. */
exo_status exo_lane_recv(exo_lane *l, exo_frame *f, bool *have, exo_error *err);
/* From now on a send that waits for the peer gives up (EXO_ECANCELED) soon after *stop is set. */
void exo_lane_set_stop(exo_lane *l, const atomic_bool *stop);
uint64_t exo_lane_bytes_sent(const exo_lane *l); /* on the wire, TLS included */
uint64_t exo_lane_bytes_received(const exo_lane *l);

/* What a lane is made of: exo_link_detach hands over a link's, tests their own. */
typedef struct {
    int fd;       /* connected, non-blocking; closed by the lane */
    exo_tls *tls; /* after its handshake */
    exo_buf in;   /* decrypted bytes that no one has parsed yet */
    const char *peer;
} exo_lane_parts;
/* Takes parts over, also on failure. */
exo_status exo_lane_create(exo_lane_parts *parts_take, exo_lane **out, exo_error *err);

#endif
