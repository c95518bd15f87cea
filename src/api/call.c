/* call.c - see call.h.
 *
 * One lock guards all calls of a server: what happens under it is short (append bytes, set a
 * flag, suspend or resume).  libmicrohttpd does not look at a suspended connection's socket, so
 * the watcher thread polls them, tells a client that hung up from one that waits, sends
 * keep-alive comments, and cancels on every node what nobody waits for. */
#define _GNU_SOURCE /* POLLRDHUP */
#include "api/call.h"

#include "base/clock.h"
#include "base/lock.h"
#include "base/mem.h"
#include "model/utf8.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef POLLRDHUP
#define POLLRDHUP 0 /* elsewhere POLLHUP tells */
#endif
#define WATCH_MS         50
#define MAX_WATCHED      4096
#define LARGE_BODY_BYTES (1u << 20) /* the parsed JSON is larger still */
#define DRAIN_MS         500        /* for last words to be read when the server stops */
/* 0.015 is no 0.014999999999999999: what a double surely holds of a decimal number. */
#define NUMBERS JSON_REAL_PRECISION(15)

typedef enum { REPLY_NONE, REPLY_WHOLE, REPLY_STREAM } reply_kind;

struct exo_call {
    exo_call *next; /* in exo_calls.waiting */
    exo_calls *all;
    struct MHD_Connection *connection;
    exo_buf body;
    /* guarded by all->lock from here */
    int holders;    /* HTTP side, node */
    bool watched;   /* in the list */
    bool suspended; /* by us; resume before anything can happen */
    bool gone;      /* the client hung up, or HTTP is done */
    bool queued;    /* the response was handed to libmicrohttpd */
    bool ended;     /* the stream is complete */
    reply_kind kind;
    unsigned http_status;
    char allowed[32];         /* methods of an Allow header, or "" */
    const char *content_type; /* of a whole reply */
    exo_buf out;              /* whole reply, or stream bytes not yet taken */
    uint64_t began_ms, sent_ms;
    uint64_t handle; /* 0 = nothing to cancel */
};

struct exo_calls {
    exo_node *node;
    exo_lock *lock;
    atomic_int holders; /* the server and every call */
    bool shut;          /* guarded: nothing may be suspended any more */
    exo_call *waiting;  /* guarded */
    pthread_t watcher;
    atomic_bool stop;
};

/* ---- life ---- */

exo_node *exo_calls_node(exo_calls *c) { return c->node; }
exo_calls *exo_call_all(exo_call *c) { return c->all; }
const exo_buf *exo_call_body(const exo_call *c) { return &c->body; }

const char *exo_call_query(const exo_call *c, const char *name) {
    return MHD_lookup_connection_value(c->connection, MHD_GET_ARGUMENT_KIND, name);
}

const char *exo_call_header(const exo_call *c, const char *name) {
    return MHD_lookup_connection_value(c->connection, MHD_HEADER_KIND, name);
}

bool exo_call_wants_events(const exo_call *c) {
    const char *accept = exo_call_header(c, MHD_HTTP_HEADER_ACCEPT);
    return accept != NULL && strstr(accept, "text/event-stream") != NULL;
}

/* The node may hold a call, and so this, longer than the server lives. */
static void let_go(exo_calls *all) {
    if (atomic_fetch_sub(&all->holders, 1) > 1) return;
    exo_lock_destroy(all->lock);
    exo_free(all);
}

exo_call *exo_call_create(exo_calls *all, struct MHD_Connection *connection) {
    exo_call *c = exo_calloc(1, sizeof *c);
    if (c == NULL) return NULL;
    atomic_fetch_add(&all->holders, 1);
    c->all = all;
    c->connection = connection;
    c->holders = 1;
    c->began_ms = c->sent_ms = exo_now_ms();
    return c;
}

bool exo_call_add_body(exo_call *c, const char *bytes, size_t n, size_t max_bytes) {
    if (c->body.n + n > max_bytes) return false;
    exo_buf_append(&c->body, bytes, n);
    return exo_buf_ok(&c->body);
}

static void unwatch(exo_call *c) {
    if (!c->watched) return;
    exo_call **at = &c->all->waiting;
    while (*at != c) at = &(*at)->next;
    *at = c->next;
    c->watched = false;
}

/* Under the lock; true: the caller frees it outside. */
static bool drop(exo_call *c) {
    if (--c->holders > 0) return false;
    unwatch(c);
    return true;
}

static void free_call(exo_call *c) {
    exo_calls *all = c->all;
    bool was_large = c->body.n >= LARGE_BODY_BYTES;
    exo_buf_finish(&c->body);
    if (was_large) exo_mem_trim();
    exo_buf_finish(&c->out);
    exo_free(c);
    let_go(all);
}

void exo_call_hold(exo_call *c) {
    exo_lock_take(c->all->lock);
    c->holders++;
    exo_lock_give(c->all->lock);
}

void exo_call_release(exo_call *c) {
    exo_calls *all = c->all;
    exo_lock_take(all->lock);
    c->handle = 0;
    bool last = drop(c);
    exo_lock_give(all->lock);
    if (last) free_call(c);
}

void exo_call_set_handle(exo_call *c, uint64_t handle) {
    exo_lock_take(c->all->lock);
    bool gone = c->gone;
    if (c->holders > 1) c->handle = handle; /* 1: its last event has been here already */
    exo_lock_give(c->all->lock);
    if (gone) exo_node_cancel(c->all->node, handle);
}

void exo_call_completed(exo_call *c) {
    exo_calls *all = c->all;
    exo_lock_take(all->lock);
    c->gone = true;
    unwatch(c);
    uint64_t handle = c->handle;
    c->handle = 0;
    bool last = drop(c);
    exo_lock_give(all->lock);
    if (handle != 0) exo_node_cancel(all->node, handle);
    if (last) free_call(c);
}

/* ---- waiting ---- */

/* Under the lock. */
static void wait_for_more(exo_call *c) {
    c->suspended = true;
    MHD_suspend_connection(c->connection);
    if (c->watched) return;
    c->watched = true;
    c->next = c->all->waiting;
    c->all->waiting = c;
}

/* Under the lock. */
static void wake(exo_call *c) {
    if (!c->suspended) return;
    c->suspended = false;
    MHD_resume_connection(c->connection);
}

/* libmicrohttpd asks for the next bytes of a stream. */
static ssize_t read_stream(void *ud, uint64_t pos, char *buffer, size_t max) {
    exo_call *c = ud;
    (void)pos;
    exo_lock_take(c->all->lock);
    ssize_t n = 0;
    if (c->gone || c->all->shut || !exo_buf_ok(&c->out)) {
        n = MHD_CONTENT_READER_END_WITH_ERROR;
    } else if (c->out.n > 0) {
        n = (ssize_t)(c->out.n < max ? c->out.n : max);
        memcpy(buffer, c->out.data, (size_t)n);
        exo_buf_drop_front(&c->out, (size_t)n);
        c->sent_ms = exo_now_ms();
    } else if (c->ended) {
        n = MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        wait_for_more(c);
    }
    exo_lock_give(c->all->lock);
    return n;
}

static enum MHD_Result queue_whole(exo_call *c) {
    struct MHD_Response *r = MHD_create_response_from_buffer(c->out.n, (void *)exo_buf_str(&c->out),
                                                             MHD_RESPMEM_MUST_COPY);
    if (r == NULL) return MHD_NO;
    MHD_add_response_header(r, "Content-Type", c->content_type);
    if (c->allowed[0] != '\0') MHD_add_response_header(r, "Allow", c->allowed);
    enum MHD_Result ok = MHD_queue_response(c->connection, c->http_status, r);
    MHD_destroy_response(r);
    return ok;
}

static enum MHD_Result queue_stream(exo_call *c) {
    struct MHD_Response *r =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 16384, read_stream, c, NULL);
    if (r == NULL) return MHD_NO;
    MHD_add_response_header(r, "Content-Type", "text/event-stream; charset=utf-8");
    MHD_add_response_header(r, "Cache-Control", "no-cache");
    enum MHD_Result ok = MHD_queue_response(c->connection, MHD_HTTP_OK, r);
    MHD_destroy_response(r);
    return ok;
}

enum MHD_Result exo_call_answer(exo_call *c) {
    exo_lock_take(c->all->lock);
    uint64_t waited = exo_now_ms() - c->began_ms;
    bool begins = c->out.n > 0 || c->ended || waited >= EXO_STREAM_AFTER_MS;
    bool stream = c->kind == REPLY_STREAM && begins, whole = c->kind == REPLY_WHOLE;
    if (stream || whole) c->queued = true;
    bool gone = c->gone || c->all->shut;
    if (!stream && !whole && !gone) wait_for_more(c);
    exo_lock_give(c->all->lock);
    if (gone) return MHD_NO;
    if (stream) return queue_stream(c);
    return whole ? queue_whole(c) : MHD_YES;
}

/* ---- replies ---- */

/* text NULL: there was no memory for it. */
static void reply(exo_call *c, unsigned http_status, const char *type, const char *text) {
    exo_lock_take(c->all->lock);
    if (c->kind != REPLY_WHOLE && !c->queued) {
        exo_buf_clear(&c->out);
        exo_buf_puts(&c->out,
                     text != NULL ? text : "{\"error\":{\"message\":\"out of memory\"}}\n");
        c->kind = REPLY_WHOLE;
        c->content_type = text != NULL ? type : "application/json";
        c->http_status = text != NULL ? http_status : MHD_HTTP_SERVICE_UNAVAILABLE;
        wake(c);
    }
    exo_lock_give(c->all->lock);
}

void exo_call_reply_json(exo_call *c, unsigned http_status, json_t *json_take) {
    exo_buf text = {0};
    char *line =
        json_take != NULL ? json_dumps(json_take, JSON_COMPACT | JSON_ENCODE_ANY | NUMBERS) : NULL;
    json_decref(json_take);
    if (line != NULL) exo_buf_printf(&text, "%s\n", line);
    bool good = line != NULL && exo_buf_ok(&text);
    reply(c, http_status, "application/json", good ? exo_buf_str(&text) : NULL);
    exo_buf_finish(&text);
    free(line);
}

void exo_call_reply_text(exo_call *c, const char *content_type, const exo_buf *text) {
    reply(c, MHD_HTTP_OK, content_type, exo_buf_ok(text) ? exo_buf_str(text) : NULL);
}

unsigned exo_http_status(exo_status status) {
    switch (status) {
    case EXO_OK: return MHD_HTTP_OK;
    case EXO_EINVAL:
    case EXO_EFORMAT:
    case EXO_EUNSUPPORTED:
    case EXO_ETOOLONG: return MHD_HTTP_BAD_REQUEST;
    case EXO_EAUTH: return MHD_HTTP_UNAUTHORIZED;
    case EXO_ENOTFOUND: return MHD_HTTP_NOT_FOUND;
    case EXO_EBUSY: return MHD_HTTP_TOO_MANY_REQUESTS;
    case EXO_EPEER:
    case EXO_ENOMEM: return MHD_HTTP_SERVICE_UNAVAILABLE;
    case EXO_ETIMEDOUT: return MHD_HTTP_GATEWAY_TIMEOUT;
    default: return MHD_HTTP_INTERNAL_SERVER_ERROR;
    }
}

/* A message may be cut inside a character, and JSON holds nothing but UTF-8. */
static json_t *message_json(const char *message) {
    const uint8_t *s = (const uint8_t *)message;
    exo_buf text = {0};
    for (size_t n = strlen(message), len; n > 0; s += len, n -= len) {
        if (exo_utf8_step(s, n, &len) == EXO_UTF8_WHOLE) {
            exo_buf_append(&text, s, len);
        } else {
            exo_buf_puts(&text, "\xEF\xBF\xBD");
        }
    }
    json_t *j = json_stringn(exo_buf_str(&text), text.n);
    exo_buf_finish(&text);
    return j;
}

json_t *exo_error_json(exo_status status, const char *message, const char *param,
                       const char *code) {
    unsigned http = exo_http_status(status);
    const char *type = http >= 500 ? "server_error" : "invalid_request_error";
    if (code == NULL && status == EXO_ETOOLONG) code = "context_length_exceeded";
    return json_pack("{s:{s:o, s:s, s:s?, s:s?}}", "error", "message", message_json(message),
                     "type", type, "param", param, "code", code);
}

void exo_call_reply_error(exo_call *c, exo_status status, const char *message, const char *param,
                          const char *code) {
    exo_call_reply_json(c, exo_http_status(status), exo_error_json(status, message, param, code));
}

void exo_call_reply_method(exo_call *c, const char *allowed, const char *message) {
    /* before the reply, hence before any other thread looks */
    snprintf(c->allowed, sizeof c->allowed, "%s", allowed);
    exo_call_reply_json(c, MHD_HTTP_METHOD_NOT_ALLOWED,
                        exo_error_json(EXO_EINVAL, message, NULL, NULL));
}

void exo_call_will_stream(exo_call *c) {
    exo_lock_take(c->all->lock);
    if (c->kind == REPLY_NONE) c->kind = REPLY_STREAM;
    exo_lock_give(c->all->lock);
}

static void send_bytes(exo_call *c, const char *a, const char *b, const char *d) {
    exo_lock_take(c->all->lock);
    if (!c->gone) {
        exo_buf_puts(&c->out, a);
        exo_buf_puts(&c->out, b);
        exo_buf_puts(&c->out, d);
        wake(c);
    }
    exo_lock_give(c->all->lock);
}

void exo_call_send_text(exo_call *c, const char *text) { send_bytes(c, text, "", ""); }

size_t exo_call_unread_bytes(exo_call *c) {
    exo_lock_take(c->all->lock);
    size_t n = c->out.n;
    exo_lock_give(c->all->lock);
    return n;
}

void exo_call_send_json(exo_call *c, json_t *json_take) {
    char *text = json_take != NULL ? json_dumps(json_take, JSON_COMPACT | NUMBERS) : NULL;
    json_decref(json_take);
    send_bytes(c, "data: ", text != NULL ? text : "{}", "\n\n");
    free(text);
}

void exo_call_end_stream(exo_call *c) {
    exo_lock_take(c->all->lock);
    c->ended = true;
    wake(c);
    exo_lock_give(c->all->lock);
}

void exo_call_fail(exo_call *c, exo_status status, const char *message) {
    exo_lock_take(c->all->lock);
    bool began = c->kind == REPLY_STREAM && (c->queued || c->out.n > 0);
    if (!began) c->kind = REPLY_NONE; /* no stream begins between this and the reply */
    exo_lock_give(c->all->lock);
    if (!began) {
        exo_call_reply_error(c, status, message, NULL, NULL);
        return;
    }
    exo_call_send_json(c, exo_error_json(status, message, NULL, NULL));
    exo_call_send_text(c, "data: [DONE]\n\n");
    exo_call_end_stream(c);
}

/* ---- the watcher ---- */

/* Under the lock: what time brings to a waiting call. */
static void tick(exo_call *c, uint64_t now) {
    if (c->kind != REPLY_STREAM || !c->suspended) return;
    if (!c->queued && now - c->began_ms >= EXO_STREAM_AFTER_MS) wake(c);
    if (c->queued && now - c->sent_ms >= EXO_KEEPALIVE_MS) {
        exo_buf_puts(&c->out, ": keep-alive\n\n");
        wake(c);
    }
}

static int socket_of(exo_call *c) {
    const union MHD_ConnectionInfo *i =
        MHD_get_connection_info(c->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    return i != NULL ? i->connect_fd : -1;
}

/* Under the lock: the client hung up.  Returns what to cancel. */
static uint64_t hang_up(exo_call *c) {
    uint64_t handle = c->handle;
    c->gone = true;
    c->handle = 0;
    wake(c); /* libmicrohttpd closes it */
    return handle;
}

typedef struct {
    struct pollfd fds[MAX_WATCHED];
    exo_call *calls[MAX_WATCHED];
    uint64_t cancel[MAX_WATCHED];
} watch_set;

/* Looks at every suspended call once. */
static void look(exo_calls *all, watch_set *w) {
    nfds_t n = 0, n_cancel = 0;
    exo_lock_take(all->lock);
    uint64_t now = exo_now_ms();
    for (exo_call *c = all->waiting; c != NULL && n < MAX_WATCHED; c = c->next) {
        tick(c, now);
        if (!c->suspended || c->gone) continue;
        w->fds[n] = (struct pollfd){.fd = socket_of(c), .events = POLLRDHUP};
        w->calls[n++] = c;
    }
    if (n > 0 && poll(w->fds, n, 0) > 0) { /* still under the lock: no socket is closed meanwhile */
        for (nfds_t i = 0; i < n; i++) {
            if ((w->fds[i].revents & (POLLRDHUP | POLLHUP | POLLERR)) == 0) continue;
            w->cancel[n_cancel] = hang_up(w->calls[i]);
            if (w->cancel[n_cancel] != 0) n_cancel++;
        }
    }
    exo_lock_give(all->lock);
    for (nfds_t i = 0; i < n_cancel; i++) exo_node_cancel(all->node, w->cancel[i]);
}

static void *watch(void *ud) {
    exo_calls *all = ud;
    watch_set *w = exo_calloc(1, sizeof *w);
    while (w != NULL && !atomic_load(&all->stop)) {
        poll(NULL, 0, WATCH_MS);
        look(all, w);
    }
    exo_free(w);
    return NULL;
}

exo_status exo_calls_create(exo_node *node, exo_calls **out, exo_error *err) {
    *out = NULL;
    exo_calls *c = exo_calloc(1, sizeof *c);
    if (c == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for the API");
    c->node = node;
    atomic_store(&c->holders, 1);
    exo_status st = exo_lock_create(&c->lock, err);
    if (st == EXO_OK && pthread_create(&c->watcher, NULL, watch, c) != 0) {
        st = exo_error_set(err, EXO_EIO, "cannot start the API's watcher thread");
        exo_lock_destroy(c->lock);
    }
    if (st != EXO_OK) {
        exo_free(c);
        return st;
    }
    *out = c;
    return EXO_OK;
}

/* Some reply is complete and its client has not read it all. */
static bool has_last_words(exo_calls *all) {
    bool any = false;
    exo_lock_take(all->lock);
    for (const exo_call *c = all->waiting; c != NULL && !any; c = c->next) {
        any = !c->gone && (c->ended || c->kind == REPLY_WHOLE);
    }
    exo_lock_give(all->lock);
    return any;
}

static void drain(exo_calls *all) {
    uint64_t deadline = exo_now_ms() + DRAIN_MS;
    while (has_last_words(all) && exo_now_ms() < deadline) poll(NULL, 0, 5);
}

void exo_calls_shut(exo_calls *c) {
    drain(c);
    atomic_store(&c->stop, true);
    pthread_join(c->watcher, NULL);
    exo_lock_take(c->lock);
    c->shut = true;
    for (exo_call *call = c->waiting; call != NULL; call = call->next) wake(call);
    exo_lock_give(c->lock);
}

void exo_calls_destroy(exo_calls *c) {
    if (c != NULL) let_go(c);
}
