/* probe.c - see probe.h.  A socket of its own and not libuv's: libuv does not hand on the time at
 * which the kernel got a datagram, and the loop's own time says when it woke up. */
#define _DEFAULT_SOURCE
#include "net/probe.h"

#include "base/clock.h"
#include "base/mem.h"
#include "net/train.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define BUFFER_BYTES (1 << 20) /* asked for; the system may give less */
#define AT_ONCE      256       /* datagrams read before the loop goes on */
#define UDP_BYTES    8u
#define IPV4_BYTES   20u
#define IPV6_BYTES   40u

struct exo_probe {
    uv_poll_t poll;
    int fd;
    bool v6;
    uint16_t port;
    exo_probe_fn on_packet;
    void *ud;
};

static socklen_t address_of(bool v6, const char *host, uint16_t port,
                            struct sockaddr_storage *out) {
    char mapped[80];
    *out = (struct sockaddr_storage){0};
    if (!v6) {
        bool good = uv_ip4_addr(host, port, (struct sockaddr_in *)out) == 0;
        return good ? sizeof(struct sockaddr_in) : 0;
    }
    snprintf(mapped, sizeof mapped, "%s%s", strchr(host, ':') == NULL ? "::ffff:" : "", host);
    bool good = uv_ip6_addr(mapped, port, (struct sockaddr_in6 *)out) == 0;
    return good ? sizeof(struct sockaddr_in6) : 0;
}

static uint16_t port_of(int fd) {
    struct sockaddr_storage sa = {0};
    socklen_t n = sizeof sa;
    if (getsockname(fd, (struct sockaddr *)&sa, &n) != 0) return 0;
    in_port_t port = sa.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&sa)->sin6_port
                                              : ((struct sockaddr_in *)&sa)->sin_port;
    return ntohs(port);
}

static bool open_socket(exo_probe *p, const char *host, uint16_t port) {
    struct sockaddr_storage sa;
    int on = 1, off = 0, bytes = BUFFER_BYTES;
    p->v6 = strchr(host, ':') != NULL;
    p->fd = socket(p->v6 ? AF_INET6 : AF_INET, SOCK_DGRAM, 0);
    if (p->fd < 0) return false;
    int flags = fcntl(p->fd, F_GETFL);
    fcntl(p->fd, F_SETFL, flags | O_NONBLOCK);
    fcntl(p->fd, F_SETFD, FD_CLOEXEC);
    if (p->v6) setsockopt(p->fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    setsockopt(p->fd, SOL_SOCKET, SO_TIMESTAMP, &on, sizeof on);
    setsockopt(p->fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    setsockopt(p->fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    socklen_t n = address_of(p->v6, host, port, &sa);
    if (n > 0 && bind(p->fd, (struct sockaddr *)&sa, n) == 0) return true;
    n = address_of(p->v6, host, 0, &sa);
    if (n > 0 && bind(p->fd, (struct sockaddr *)&sa, n) == 0) return true;
    close(p->fd);
    return false;
}

/* When the kernel got it, or now. */
static uint64_t arrival(struct msghdr *m) {
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
        struct timeval tv;
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_TIMESTAMP) continue;
        memcpy(&tv, CMSG_DATA(c), sizeof tv);
        return (uint64_t)tv.tv_sec * 1000000 + (uint64_t)tv.tv_usec;
    }
    return exo_now_us();
}

static void on_readable(uv_poll_t *poll, int status, int events) {
    exo_probe *p = poll->data;
    (void)events;
    for (int i = 0; status == 0 && i < AT_ONCE; i++) {
        uint8_t bytes[EXO_TRAIN_BYTES + 1];
        union {
            struct cmsghdr head; /* for its alignment */
            char bytes[128];
        } control;
        struct sockaddr_storage from;
        struct iovec iov = {bytes, sizeof bytes};
        struct msghdr m = {.msg_name = &from,
                           .msg_namelen = sizeof from,
                           .msg_iov = &iov,
                           .msg_iovlen = 1,
                           .msg_control = &control,
                           .msg_controllen = sizeof control};
        ssize_t n = recvmsg(p->fd, &m, 0);
        uint64_t token;
        uint32_t index;
        if (n < 0) return;
        if (!exo_train_read(bytes, (size_t)n, &token, &index)) continue;
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&from;
        bool long_head = from.ss_family == AF_INET6 && !IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr);
        uint32_t head = UDP_BYTES + (long_head ? IPV6_BYTES : IPV4_BYTES);
        p->on_packet(p->ud, token, index, (uint32_t)n + head, arrival(&m));
    }
}

exo_status exo_probe_create(uv_loop_t *loop, const char *host, uint16_t port,
                            exo_probe_fn on_packet, void *ud, exo_probe **out, exo_error *err) {
    *out = NULL;
    exo_probe *p = exo_calloc(1, sizeof *p);
    if (p == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for probes");
    if (!open_socket(p, host, port)) {
        exo_free(p);
        return exo_error_set(err, EXO_EIO, "no UDP socket on %s: bandwidth is not measured", host);
    }
    p->port = port_of(p->fd);
    p->on_packet = on_packet;
    p->ud = ud;
    int r = uv_poll_init(loop, &p->poll, p->fd);
    if (r != 0) {
        close(p->fd);
        exo_free(p);
        return exo_error_set(err, EXO_EIO, "cannot watch a UDP socket: %s", uv_strerror(r));
    }
    p->poll.data = p;
    uv_poll_start(&p->poll, UV_READABLE, on_readable);
    *out = p;
    return EXO_OK;
}

uint16_t exo_probe_port(const exo_probe *p) { return p->port; }

uint32_t exo_probe_send(exo_probe *p, const char *host, uint16_t port, uint64_t token, uint32_t n) {
    struct sockaddr_storage to;
    uint8_t bytes[EXO_TRAIN_BYTES];
    socklen_t length = address_of(p->v6, host, port, &to);
    uint32_t sent = 0;
    for (; length > 0 && sent < n; sent++) {
        exo_train_write(token, sent, bytes);
        if (sendto(p->fd, bytes, sizeof bytes, 0, (struct sockaddr *)&to, length) < 0) break;
    }
    return sent;
}

static void on_closed(uv_handle_t *h) {
    exo_probe *p = h->data;
    close(p->fd);
    exo_free(p);
}

void exo_probe_close(exo_probe *p) {
    if (p != NULL) uv_close((uv_handle_t *)&p->poll, on_closed);
}
