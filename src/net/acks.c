/* acks.c - whether the peer's machine still takes what is sent: the difference between a program
 * that stands still and a machine that is gone.
 *
 * Linux tells how long ago TCP was acknowledged last.  Other systems do not, and a link then waits
 * for its ordinary deadline. */
#define _GNU_SOURCE
#include "net/link_impl.h"

#ifdef __linux__

#include <netinet/tcp.h>
#include <sys/socket.h>

bool exo_link_unacknowledged(const exo_link *l, uint32_t for_ms) {
    struct tcp_info info = {0};
    socklen_t n = sizeof info;
    uv_os_fd_t fd;
    if (uv_fileno((const uv_handle_t *)&l->tcp, &fd) != 0) return false;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &n) != 0) return false;
    return info.tcpi_unacked > 0 && info.tcpi_last_ack_recv >= for_ms;
}

#else

bool exo_link_unacknowledged(const exo_link *l, uint32_t for_ms) {
    (void)l;
    (void)for_ms;
    return false;
}

#endif
