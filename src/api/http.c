/* http.c - the server: routes, bodies, start and stop; see http.h.
 *
 * One libmicrohttpd thread (epoll) parses and answers; handlers never wait for tokens. */
#define _DEFAULT_SOURCE
#include "api/http.h"

#include "api/call.h"
#include "api/cluster.h"
#include "api/openai.h"
#include "api/site.h"
#include "base/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define DEFAULT_MAX_BODY (8u << 20)
#define MAX_CONNECTIONS  1000u
#define IDLE_SECONDS     60u
#define HTTP_THREADS     4u /* a long prompt holds up only the clients of its thread */

struct exo_api {
    exo_calls *calls;
    struct MHD_Daemon *daemon;
    size_t max_body_bytes;
    uint16_t port;
};

/* ---- routes ---- */

typedef struct {
    const char *method, *path;
    void (*run)(exo_call *c);
    void (*run_tail)(exo_call *c, const char *tail); /* path is a prefix; tail is the rest */
} route;

static const route routes[] = {
    {"GET", "/health", exo_cluster_health, NULL},
    {"GET", "/state", exo_cluster_state, NULL},
    {"GET", "/state/", exo_cluster_state, NULL},
    {"GET", "/state/", NULL, exo_cluster_state_part},
    {"GET", "/node_id", exo_cluster_node_id, NULL},
    {"GET", "/events", exo_events_get, NULL},
    {"GET", "/metrics", exo_metrics_get, NULL},
    {"POST", "/place_instance", exo_cluster_place, NULL},
    {"POST", "/instance", exo_instance_create, NULL},
    {"GET", "/instance/previews", exo_instance_previews, NULL},
    {"GET", "/instance/await", exo_instance_await, NULL},
    {"GET", "/instance/", NULL, exo_instance_get},
    {"DELETE", "/instance/", NULL, exo_cluster_delete},
    {"POST", "/download/start", exo_cluster_download, NULL},
    {"DELETE", "/download/", NULL, exo_cluster_drop_download},
    {"GET", "/v1/models", exo_openai_models, NULL},
    {"GET", "/v1/models/", NULL, exo_openai_model},
    {"POST", "/v1/chat/completions", exo_openai_chat, NULL},
    {"POST", "/v1/completions", exo_openai_completions, NULL},
};

static bool path_fits(const route *r, const char *url) {
    if (r->run != NULL) return strcmp(r->path, url) == 0;
    size_t n = strlen(r->path);
    return strncmp(r->path, url, n) == 0 && url[n] != '\0';
}

/* A path with routes of its own is no other route's tail: /instance/await is no instance. */
static bool has_own_route(const char *url) {
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        if (routes[i].run != NULL && path_fits(&routes[i], url)) return true;
    }
    return false;
}

static void dispatch(exo_call *c, const char *method, const char *url) {
    if (strcmp(method, "HEAD") == 0) method = "GET";
    exo_error err;
    char allowed[32] = "";
    bool own = has_own_route(url);
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        const route *r = &routes[i];
        if ((own && r->run == NULL) || !path_fits(r, url)) continue;
        if (strcmp(r->method, method) != 0) {
            size_t n = strlen(allowed);
            bool told = strstr(allowed, r->method) != NULL;
            if (!told) {
                snprintf(allowed + n, sizeof allowed - n, "%s%s", n > 0 ? ", " : "", r->method);
            }
            continue;
        }
        if (r->run != NULL) {
            r->run(c);
        } else {
            r->run_tail(c, url + strlen(r->path));
        }
        return;
    }
    if (allowed[0] != '\0') {
        exo_error_set(&err, EXO_EINVAL, "%.100s takes %s, not %.16s", url, allowed, method);
        exo_call_reply_method(c, allowed, err.message);
    } else {
        exo_error_set(&err, EXO_ENOTFOUND, "there is no route %.16s %.150s", method, url);
        exo_call_reply_error(c, EXO_ENOTFOUND, err.message, NULL, NULL);
    }
}

/* ---- libmicrohttpd's call-backs ---- */

static void answer(exo_call *c, struct MHD_Connection *connection, const char *method,
                   const char *url) {
    const char *host = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Host");
    const char *origin = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Origin");
    exo_error err;
    if (exo_site_check(host, origin, &err) == EXO_OK) {
        dispatch(c, method, url);
    } else {
        exo_call_reply_json(c, MHD_HTTP_FORBIDDEN,
                            exo_error_json(EXO_EINVAL, err.message, NULL, NULL));
    }
}

/* The state of one request between call-backs. */
typedef struct {
    exo_call *call;
    bool dispatched, too_big;
} http_request;

static enum MHD_Result on_request(void *ud, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *n_data, void **state) {
    exo_api *api = ud;
    http_request *q = *state;
    (void)version;
    if (q == NULL) {
        q = exo_calloc(1, sizeof *q);
        if (q == NULL) return MHD_NO;
        q->call = exo_call_create(api->calls, connection);
        if (q->call == NULL) {
            exo_free(q);
            return MHD_NO;
        }
        *state = q;
        return MHD_YES;
    }
    if (*n_data > 0) {
        q->too_big |= !exo_call_add_body(q->call, data, *n_data, api->max_body_bytes);
        *n_data = 0;
        return MHD_YES;
    }
    if (!q->dispatched) {
        q->dispatched = true;
        if (q->too_big) {
            exo_call_reply_json(q->call, MHD_HTTP_CONTENT_TOO_LARGE,
                                exo_error_json(EXO_EINVAL, "the body is too large", NULL, NULL));
        } else {
            answer(q->call, connection, method, url);
        }
    }
    return exo_call_answer(q->call);
}

static void on_completed(void *ud, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode why) {
    (void)ud;
    (void)connection;
    (void)why;
    http_request *q = *state;
    if (q == NULL) return;
    exo_call_completed(q->call);
    exo_free(q);
    *state = NULL;
}

/* ---- start and stop ---- */

typedef union {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
} address;

/* Loopback only: there are no API keys yet. */
static exo_status loopback(const exo_api_desc *d, address *a, exo_error *err) {
    *a = (address){0};
    if (inet_pton(AF_INET, d->addr, &a->v4.sin_addr) == 1) {
        a->v4.sin_family = AF_INET;
        a->v4.sin_port = htons(d->port);
        if (ntohl(a->v4.sin_addr.s_addr) >> 24 == 127) return EXO_OK;
    } else if (inet_pton(AF_INET6, d->addr, &a->v6.sin6_addr) == 1) {
        a->v6.sin6_family = AF_INET6;
        a->v6.sin6_port = htons(d->port);
        if (IN6_IS_ADDR_LOOPBACK(&a->v6.sin6_addr)) return EXO_OK;
    } else {
        return exo_error_set(err, EXO_EINVAL, "\"%s\" is not an IP address", d->addr);
    }
    return exo_error_set(
        err, EXO_EUNSUPPORTED,
        "the API listens on loopback only (127.0.0.1) until it has keys, not on %s", d->addr);
}

/* Our own socket, so that a port in use is said by name. */
static exo_status listen_on(const exo_api_desc *d, int *out, uint16_t *port, exo_error *err) {
    address a;
    exo_status st = loopback(d, &a, err);
    if (st != EXO_OK) return st;
    socklen_t n = a.any.sa_family == AF_INET ? sizeof a.v4 : sizeof a.v6;
    int fd = socket(a.any.sa_family, SOCK_STREAM, 0), on = 1;
    if (fd < 0) return exo_error_set(err, EXO_EIO, "cannot make a socket: %s", strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, &a.any, n) != 0 || listen(fd, 128) != 0 || getsockname(fd, &a.any, &n) != 0) {
        bool in_use = errno == EADDRINUSE;
        exo_error_set(err, EXO_EIO, "cannot listen on %s port %u: %s%s%s", d->addr, d->port,
                      strerror(errno), in_use ? "; choose another port for the API with " : "",
                      in_use ? d->port_option : "");
        close(fd);
        return EXO_EIO;
    }
    *out = fd;
    *port = ntohs(a.any.sa_family == AF_INET ? a.v4.sin_port : a.v6.sin6_port);
    return EXO_OK;
}

exo_status exo_api_start(const exo_api_desc *d, exo_api **out, exo_error *err) {
    *out = NULL;
    int fd = -1;
    exo_api *api = exo_calloc(1, sizeof *api);
    if (api == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for the API");
    api->max_body_bytes = d->max_body_bytes != 0 ? d->max_body_bytes : DEFAULT_MAX_BODY;
    exo_status st = listen_on(d, &fd, &api->port, err);
    if (st == EXO_OK) st = exo_calls_create(d->node, &api->calls, err);
    if (st != EXO_OK) goto fail;
    api->daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request, api,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_NOTIFY_COMPLETED, on_completed, api,
        MHD_OPTION_CONNECTION_LIMIT, MAX_CONNECTIONS, MHD_OPTION_THREAD_POOL_SIZE, HTTP_THREADS,
        MHD_OPTION_CONNECTION_TIMEOUT, IDLE_SECONDS, MHD_OPTION_END);
    if (api->daemon == NULL) {
        st = exo_error_set(err, EXO_EIO, "cannot start the HTTP server on port %u", api->port);
        goto fail;
    }
    *out = api;
    return EXO_OK;
fail:
    if (fd >= 0) close(fd);
    if (api->calls != NULL) exo_calls_shut(api->calls);
    exo_calls_destroy(api->calls);
    exo_free(api);
    return st;
}

uint16_t exo_api_port(const exo_api *a) { return a->port; }

void exo_api_stop(exo_api *a) {
    if (a == NULL) return;
    exo_calls_shut(a->calls);
    MHD_stop_daemon(a->daemon); /* completes every request, which cancels its answer */
    exo_calls_destroy(a->calls);
    exo_free(a);
}
