/* http.h - the HTTP server: routes, bodies, streams, hang-ups.
 *
 * libmicrohttpd in epoll mode.  A connection that waits for tokens is suspended; node threads
 * only append to its queue and resume it.  While suspended libmicrohttpd does not look at the
 * socket, so a watcher thread does, and cancels the request of a client that went away.
 * Thread: start and stop from one thread. */
#ifndef EXO_API_HTTP_H
#define EXO_API_HTTP_H

#include "node/node.h"

typedef struct exo_api exo_api;

typedef struct {
    exo_node *node;   /* borrowed until stop */
    const char *addr; /* loopback only: "127.0.0.1", "::1"; others are refused until keys exist */
    uint16_t port;    /* 0 = any */
    const char *port_option; /* what sets it, for who reads that it is in use */
    size_t max_body_bytes;   /* 0 = 8 MiB */
} exo_api_desc;

exo_status exo_api_start(const exo_api_desc *d, exo_api **out,
                         exo_error *err); /* port in use: named */
uint16_t exo_api_port(const exo_api *a);
/* Stops accepting, ends open answers with an error, joins the threads. */
void exo_api_stop(exo_api *a);

#endif
