/* dial.c - from "host:port" to a connected socket.
 *
 * Numbers connect at once; names go through libuv's resolver, and every address they have is
 * tried in turn ("localhost" is ::1 first, where an IPv4 listener does not answer).  A look-up
 * cannot be stopped once it runs, so it lives apart from its link, which may end before it. */
#define _POSIX_C_SOURCE 200809L
#include "net/link_impl.h"

#include "base/mem.h"

#include <netdb.h>
#include <stdio.h>
#include <string.h>

struct exo_resolve {
    uv_getaddrinfo_t req;
    exo_link *link; /* NULL: nobody waits any more */
};

static void try_address(exo_link *l, const struct sockaddr *sa);

void exo_link_forget_dial(exo_link *l) {
    if (l->resolve != NULL) {
        l->resolve->link = NULL;
        uv_cancel((uv_req_t *)&l->resolve->req);
        l->resolve = NULL;
    }
    if (l->addresses != NULL) uv_freeaddrinfo(l->addresses);
    l->addresses = l->next_address = NULL;
}

static void fail(exo_link *l, const char *what, int uv_status) {
    exo_error err;
    exo_error_set(&err, EXO_EIO, "%s: %s", what, uv_strerror(uv_status));
    exo_link_fail(l, false, &err);
}

static void try_next_address(exo_link *l) {
    const struct addrinfo *a = l->next_address;
    l->next_address = a->ai_next;
    try_address(l, a->ai_addr);
}

/* libuv connects a handle once: the next address needs a fresh one. */
static void on_ready_for_next(uv_handle_t *h) {
    exo_link *l = h->data;
    if (l->state != LINK_CONNECT) {
        exo_link_handle_closed(h);
        return;
    }
    uv_tcp_init(l->net->loop, &l->tcp);
    l->tcp.data = l;
    try_next_address(l);
}

static void connect_failed(exo_link *l, int uv_status) {
    if (l->next_address != NULL) {
        uv_close((uv_handle_t *)&l->tcp, on_ready_for_next);
    } else {
        fail(l, "cannot connect", uv_status);
    }
}

static void on_connected(uv_connect_t *req, int status) {
    exo_link *l = req->data;
    if (l->state != LINK_CONNECT || uv_is_closing((uv_handle_t *)&l->tcp)) return;
    if (status < 0) {
        connect_failed(l, status);
        return;
    }
    exo_link_forget_dial(l);
    exo_link_begin(l);
}

static void try_address(exo_link *l, const struct sockaddr *sa) {
    l->state = LINK_CONNECT;
    int r = uv_tcp_connect(&l->connect, &l->tcp, sa, on_connected);
    if (r != 0) connect_failed(l, r);
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *list) {
    exo_resolve *job = (exo_resolve *)req;
    exo_link *l = job->link;
    exo_free(job);
    if (l == NULL) {
        if (list != NULL) uv_freeaddrinfo(list);
        return;
    }
    l->resolve = NULL;
    if (status < 0 || list == NULL) {
        fail(l, "cannot find this host", status < 0 ? status : UV_EAI_NONAME);
        return;
    }
    l->addresses = l->next_address = list;
    try_next_address(l);
}

static exo_status resolve(exo_link *l, const exo_addr *a, exo_error *err) {
    exo_resolve *job = exo_calloc(1, sizeof *job);
    if (job == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory to look up %s", a->host);
    char port[8];
    snprintf(port, sizeof port, "%u", a->port);
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    int r = uv_getaddrinfo(l->net->loop, &job->req, on_resolved, a->host, port, &hints);
    if (r != 0) {
        exo_free(job);
        return exo_error_set(err, EXO_EINVAL, "cannot look up %s: %s", a->host, uv_strerror(r));
    }
    job->link = l;
    l->resolve = job;
    return EXO_OK;
}

exo_status exo_net_dial(exo_net *n, const char *host_port, void *link_ud, exo_link **out,
                        exo_error *err) {
    *out = NULL;
    exo_addr a;
    exo_status st = exo_addr_parse(host_port, &a, err);
    if (st != EXO_OK) return st;
    if (n->closing) return exo_error_set(err, EXO_ECANCELED, "this node is shutting down");
    exo_link *l = exo_link_new(n, true);
    if (l == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for a link");
    l->ud = link_ud;
    exo_addr_format(a.host, a.port, l->where, sizeof l->where);
    *out = l;

    struct sockaddr_storage sa = {0};
    exo_error failure;
    exo_link_start_clock(l);
    if (uv_ip4_addr(a.host, a.port, (struct sockaddr_in *)&sa) == 0 ||
        uv_ip6_addr(a.host, a.port, (struct sockaddr_in6 *)&sa) == 0) {
        try_address(l, (struct sockaddr *)&sa);
    } else if (resolve(l, &a, &failure) != EXO_OK) {
        exo_link_fail(l, false, &failure);
    }
    return EXO_OK;
}
