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

uint32_t exo_link_unacknowledged_ms(const exo_link *l) {
    struct tcp_info info = {0};
    socklen_t n = sizeof info;
    uv_os_fd_t fd;
    if (uv_fileno((const uv_handle_t *)&l->tcp, &fd) != 0) return 0;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &n) != 0) return 0;
    return info.tcpi_unacked > 0 ? info.tcpi_last_ack_recv : 0;
}

#else

uint32_t exo_link_unacknowledged_ms(const exo_link *l) {
    (void)l;
    return 0;
}

#endif
