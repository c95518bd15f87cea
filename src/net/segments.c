/* segments.c - Linux counts segments in a longer tcp_info than the C library's header knows, and
 * the two headers do not go together: hence a file of its own.  Other systems do not tell. */
#include "net/segments.h"

#ifdef __linux__

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

bool exo_segments_of(int fd, exo_segments *out) {
    struct tcp_info info = {0};
    socklen_t n = sizeof info;
    *out = (exo_segments){0};
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &n) != 0) return false;
    if (n < offsetof(struct tcp_info, tcpi_data_segs_out) + sizeof info.tcpi_data_segs_out) {
        return false; /* an old kernel */
    }
    *out = (exo_segments){info.tcpi_data_segs_out, info.tcpi_total_retrans};
    return true;
}

#else

bool exo_segments_of(int fd, exo_segments *out) {
    (void)fd;
    *out = (exo_segments){0};
    return false;
}

#endif
