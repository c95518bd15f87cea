/* detach.c - an open link gives its connection away and becomes a lane.
 *
 * The socket is duplicated and libuv's handle closed: the lane has a descriptor of its own that
 * no loop watches.  Everything received so far goes along, as plain bytes and inside the TLS
 * session; otherwise a frame that came early would never wake anybody.
 * Knows both sides of the hand-over, and nothing of what either does before or after. */
#define _POSIX_C_SOURCE 200809L
#include "net/lane.h"
#include "net/link_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

static exo_status make_lane(exo_link *l, exo_error *err) {
    uv_os_fd_t fd = -1;
    int own = -1;
    if (uv_fileno((uv_handle_t *)&l->tcp, &fd) == 0) own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0) return exo_error_set(err, EXO_EIO, "no descriptor for it: %s", strerror(errno));
    exo_lane_parts parts = {.fd = own, .tls = l->tls, .in = l->in, .peer = l->peer.node_id};
    l->tls = NULL;
    l->in = (exo_buf){0};
    return exo_lane_create(&parts, &l->lane, err);
}

void exo_link_try_detach(exo_link *l) {
    if (l->n_writes > 0 || l->in_frames) return; /* comes again */
    exo_error err;
    if (make_lane(l, &err) != EXO_OK) {
        exo_link_fail(l, false, &err);
    } else {
        exo_link_cut(l); /* its handles only; the call-back comes when they are closed */
    }
}

void exo_link_detach(exo_link *l, exo_lane_fn done, void *ud) {
    l->lane_done = done;
    l->lane_ud = ud;
    if (l->state != LINK_OPEN) { /* ending already: done hears the reason */
        exo_error err;
        exo_error_set(&err, EXO_EINVAL, "a link that is not open cannot become a lane");
        exo_link_fail(l, true, &err);
        return;
    }
    l->state = LINK_DETACHING;
    exo_link_wait_anew(l);
    uv_read_stop((uv_stream_t *)&l->tcp);
    exo_link_try_detach(l);
}
