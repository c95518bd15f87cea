/* net.c - one node's listener and the set of its links.
 *
 * Strangers can reach this port: until a connection is open it is one of a limited number, each
 * with a deadline, and none of them has made this node compute more than a TLS hello.  Knows the
 * life of the whole set; what happens on one link is link.c's. */
#define _POSIX_C_SOURCE 200809L
#include "net/link_impl.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/hello.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define BACKLOG 128

/* ---- the set of links ---- */

exo_link *exo_link_new(exo_net *n, bool outgoing) {
    exo_link *l = exo_calloc(1, sizeof *l);
    if (l == NULL) return NULL;
    l->net = n;
    l->outgoing = outgoing;
    l->state = outgoing ? LINK_RESOLVE : LINK_TLS;
    uv_timer_init(n->loop, &l->timer);
    uv_tcp_init(n->loop, &l->tcp);
    l->timer.data = l->tcp.data = l->connect.data = l->shutdown.data = l;
    l->n_handles = 2;
    l->next = n->links;
    if (l->next != NULL) l->next->prev = l;
    n->links = l;
    return l;
}

void exo_link_set_half_open(exo_link *l, bool half_open) {
    if (l->half_open == half_open) return;
    l->half_open = half_open;
    if (half_open) {
        l->net->n_half_open++;
    } else {
        l->net->n_half_open--;
    }
}

static void end_if_empty(exo_net *n) {
    if (!n->closing || !n->listener_closed || n->links != NULL) return;
    void (*done)(void *ud) = n->done;
    void *ud = n->done_ud;
    json_decref(n->hello_extra);
    exo_buf_finish(&n->plain);
    exo_free(n);
    if (done != NULL) done(ud);
}

void exo_link_gone(exo_link *l) {
    exo_net *n = l->net;
    exo_link_set_half_open(l, false);
    if (l->lane_done != NULL) {
        l->lane_done(l->lane_ud, l->lane, l->lane != NULL ? NULL : l->why);
    } else {
        exo_link_callbacks(l)->on_close(n->ud, l, l->status, l->why);
    }
    *(l->prev != NULL ? &l->prev->next : &n->links) = l->next;
    if (l->next != NULL) l->next->prev = l->prev;
    exo_tls_destroy(l->tls);
    exo_buf_finish(&l->in);
    exo_buf_finish(&l->later);
    json_decref(l->peer.hello);
    exo_free(l);
    end_if_empty(n);
}

/* ---- accepting ---- */

static void free_handle(uv_handle_t *h) { exo_free(h); }

/* Takes a connection off the queue only to close it. */
static void turn_away(exo_net *n) {
    uv_tcp_t *tcp = exo_malloc(sizeof *tcp);
    if (tcp == NULL) return;
    uv_tcp_init(n->loop, tcp);
    uv_accept((uv_stream_t *)&n->listener, (uv_stream_t *)tcp);
    uv_close((uv_handle_t *)tcp, free_handle);
    exo_debug("a connection was turned away: %zu others are still opening (limit %d)",
              n->n_half_open, EXO_LINK_MAX_HALF_OPEN);
}

static void on_connection(uv_stream_t *listener, int status) {
    exo_net *n = listener->data;
    if (status < 0 || n->closing) return;
    exo_link *l = n->n_half_open < EXO_LINK_MAX_HALF_OPEN ? exo_link_new(n, false) : NULL;
    if (l == NULL) {
        turn_away(n);
        return;
    }
    exo_link_set_half_open(l, true);
    int r = uv_accept(listener, (uv_stream_t *)&l->tcp);
    struct sockaddr_storage seen;
    int len = sizeof seen;
    if (r == 0) r = uv_tcp_getpeername(&l->tcp, (struct sockaddr *)&seen, &len);
    if (r != 0) {
        exo_error err;
        exo_error_set(&err, EXO_EIO, "cannot accept a connection: %s", uv_strerror(r));
        exo_link_fail(l, false, &err);
        return;
    }
    exo_addr a;
    exo_addr_of((struct sockaddr *)&seen, &a);
    exo_addr_format(a.host, a.port, l->where, sizeof l->where);
    exo_link_begin(l);
}

/* ---- life ---- */

static void on_listener_closed(uv_handle_t *h) {
    exo_net *n = h->data;
    n->listener_closed = true;
    end_if_empty(n);
}

static exo_status listen_on(exo_net *n, const char *host, uint16_t port, exo_error *err) {
    struct sockaddr_storage sa = {0};
    int len = sizeof sa;
    if (uv_ip4_addr(host, port, (struct sockaddr_in *)&sa) != 0 &&
        uv_ip6_addr(host, port, (struct sockaddr_in6 *)&sa) != 0) {
        return exo_error_set(err, EXO_EINVAL, "cannot listen on \"%s\": an IP address is expected",
                             host);
    }
    int r = uv_tcp_bind(&n->listener, (struct sockaddr *)&sa, 0);
    if (r == 0) r = uv_listen((uv_stream_t *)&n->listener, BACKLOG, on_connection);
    if (r == 0) r = uv_tcp_getsockname(&n->listener, (struct sockaddr *)&sa, &len);
    if (r == UV_EADDRINUSE) {
        return exo_error_set(err, EXO_EBUSY,
                             "port %u on %s is in use by another program; choose another with "
                             "--port, or stop that program",
                             port, host);
    }
    if (r != 0) {
        return exo_error_set(err, EXO_EIO, "cannot listen on %s port %u: %s", host, port,
                             uv_strerror(r));
    }
    exo_addr bound;
    exo_addr_of((struct sockaddr *)&sa, &bound);
    n->port = bound.port;
    exo_addr_format(host, n->port, n->listen, sizeof n->listen);
    return EXO_OK;
}

/* A write to a connection that the peer has closed must return an error, not end the process. */
static void ignore_sigpipe(void) {
    struct sigaction now;
    if (sigaction(SIGPIPE, NULL, &now) == 0 && now.sa_handler == SIG_DFL) signal(SIGPIPE, SIG_IGN);
}

exo_status exo_net_create(const exo_net_desc *d, exo_net **out, exo_error *err) {
    *out = NULL;
    exo_net *n = exo_calloc(1, sizeof *n);
    if (n == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for links");
    ignore_sigpipe();
    n->loop = d->loop;
    n->tls = d->tls;
    n->identity = d->identity;
    n->hello_extra = json_incref(d->hello_extra);
    n->events = d->events;
    n->guest_events = d->guest_events;
    n->admit = d->admit;
    n->ud = d->ud;
    exo_hello_text(d->name, n->name, sizeof n->name);
    uv_tcp_init(n->loop, &n->listener);
    n->listener.data = n;
    exo_status st = EXO_OK;
    if (d->listen_addr != NULL) st = listen_on(n, d->listen_addr, d->listen_port, err);
    if (st != EXO_OK) {
        exo_net_close(n, NULL, NULL); /* the loop frees it */
        return st;
    }
    *out = n;
    return EXO_OK;
}

uint16_t exo_net_port(const exo_net *n) { return n->port; }

void exo_net_close(exo_net *n, void (*done)(void *ud), void *ud) {
    EXO_ASSERT(!n->closing);
    n->closing = true;
    n->done = done;
    n->done_ud = ud;
    for (exo_link *l = n->links; l != NULL; l = l->next) {
        exo_link_close(l, EXO_ECANCELED, "shutting down");
    }
    uv_close((uv_handle_t *)&n->listener, on_listener_closed);
}
