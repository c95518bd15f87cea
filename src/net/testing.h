/* testing.h - what link_test.c, stranger_test.c and detach_test.c share: a node's side of links, on
 * a real loop.
 *
 * A side has an identity of its own, a net on loopback and a record of what was called back.
 * RUN_UNTIL turns the loop until a condition holds and fails the test when it does not in time.
 * Include after cmocka.h. */
#ifndef EXO_NET_TESTING_H
#define EXO_NET_TESTING_H

#include "base/clock.h"
#include "net/lane.h"
#include "net/link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FRAME_TO_CLOSE_ON 500 /* a type without a meaning of its own */

typedef struct {
    uv_loop_t *loop;
    exo_identity *identity;
    exo_net *net;
    bool net_closed;

    exo_link *link; /* the one opened last */
    unsigned n_open, n_close, n_frames;
    exo_peer_info peer; /* as at on_open; hello is a reference of its own */
    bool outgoing;
    uint16_t last_type;
    uint64_t last_seq;
    exo_buf last_header, last_body;
    exo_status status;
    char why[EXO_ERROR_BYTES];

    exo_lane *lane;
    char lane_why[EXO_ERROR_BYTES];
} side;

static exo_tls_ctx *cluster_key; /* scrypt is slow: once per program */

static int derive_key(void **ud) {
    (void)ud;
    return exo_tls_ctx_create("correct horse battery", "test", &cluster_key, NULL) != EXO_OK;
}

static int forget_key(void **ud) {
    (void)ud;
    exo_tls_ctx_destroy(cluster_key);
    return 0;
}

static exo_identity *new_identity(void) {
    char dir[] = "/tmp/exo-net-XXXXXX", file[64];
    assert_non_null(mkdtemp(dir));
    exo_identity *i;
    assert_int_equal(exo_identity_load(dir, &i, NULL), EXO_OK);
    snprintf(file, sizeof file, "%s/node.key", dir);
    unlink(file);
    rmdir(dir);
    return i;
}

static void on_lane(void *ud, exo_lane *lane, const char *why) {
    side *s = ud;
    s->lane = lane;
    snprintf(s->lane_why, sizeof s->lane_why, "%s", why != NULL ? why : "");
}

static void on_open(void *ud, exo_link *l, const exo_peer_info *peer, bool outgoing) {
    side *s = ud;
    s->n_open++;
    s->link = l;
    json_decref(s->peer.hello);
    s->peer = *peer;
    json_incref(s->peer.hello);
    s->outgoing = outgoing;
}

static void on_frame(void *ud, exo_link *l, const exo_frame *f) {
    side *s = ud;
    s->n_frames++;
    s->last_type = f->type;
    s->last_seq = f->seq;
    exo_buf_clear(&s->last_header);
    exo_buf_clear(&s->last_body);
    exo_buf_append(&s->last_header, f->header, f->header_bytes);
    exo_buf_append(&s->last_body, f->body, f->body_bytes);
    if (f->type == EXO_MSG_LANE) exo_link_detach(l, on_lane, s);
    if (f->type == FRAME_TO_CLOSE_ON) exo_link_close(l, EXO_ECANCELED, "enough");
}

static void on_close(void *ud, exo_link *l, exo_status status, const char *why) {
    side *s = ud;
    if (s->link == l) s->link = NULL;
    s->n_close++;
    s->status = status;
    snprintf(s->why, sizeof s->why, "%s", why);
}

static exo_status start_side_with(side *s, uv_loop_t *loop, exo_net_desc d, exo_error *err) {
    *s = (side){.loop = loop, .identity = new_identity()};
    d.loop = loop;
    if (d.tls == NULL) d.tls = cluster_key;
    if (d.name == NULL) d.name = "node";
    d.identity = s->identity;
    d.events = (exo_link_events){on_open, on_frame, on_close};
    d.ud = s;
    return exo_net_create(&d, &s->net, err);
}

static void start_side(side *s, uv_loop_t *loop, const char *name) {
    exo_net_desc d = {.name = name, .listen_addr = "127.0.0.1"};
    assert_int_equal(start_side_with(s, loop, d, NULL), EXO_OK);
}

static void on_net_closed(void *ud) { ((side *)ud)->net_closed = true; }

/* Frees what the side recorded; its net is closed by then. */
static void forget_side(side *s) {
    json_decref(s->peer.hello);
    exo_buf_finish(&s->last_header);
    exo_buf_finish(&s->last_body);
    exo_lane_destroy(s->lane);
    exo_identity_destroy(s->identity);
}

static void on_test_tick(uv_timer_t *t) { (void)t; }

#define RUN_UNTIL(loop, condition, ms)                                                             \
    do {                                                                                           \
        uv_timer_t tick;                                                                           \
        uint64_t end_ms = exo_now_ms() + (uint64_t)(ms);                                           \
        uv_timer_init(loop, &tick);                                                                \
        uv_timer_start(&tick, on_test_tick, 5, 5);                                                 \
        while (!(condition) && exo_now_ms() < end_ms) uv_run(loop, UV_RUN_ONCE);                   \
        uv_close((uv_handle_t *)&tick, NULL);                                                      \
        uv_run(loop, UV_RUN_NOWAIT);                                                               \
        if (!(condition)) fail_msg("not within %d ms: %s", (int)(ms), #condition);                 \
    } while (0)

static void stop_side(side *s) {
    exo_net_close(s->net, on_net_closed, s);
    RUN_UNTIL(s->loop, s->net_closed, 3000);
    forget_side(s);
}

/* All handles are gone when a loop can be closed; a name look-up may still run for a while. */
static void close_loop(uv_loop_t *loop) {
    for (int i = 0; i < 3000 && uv_run(loop, UV_RUN_NOWAIT) != 0; i++) usleep(10000);
    assert_int_equal(uv_loop_close(loop), 0);
}

static inline exo_link *dial(side *from, const side *to) {
    char where[32];
    snprintf(where, sizeof where, "127.0.0.1:%u", exo_net_port(to->net));
    exo_link *l;
    assert_int_equal(exo_net_dial(from->net, where, NULL, &l, NULL), EXO_OK);
    return l;
}

/* Two nodes, linked. */
static inline void open_pair(uv_loop_t *loop, side *a, side *b) {
    assert_int_equal(uv_loop_init(loop), 0);
    start_side(a, loop, "alpha");
    start_side(b, loop, "beta");
    dial(a, b);
    RUN_UNTIL(loop, a->n_open == 1 && b->n_open == 1, 3000);
}

static inline void close_pair(uv_loop_t *loop, side *a, side *b) {
    stop_side(a);
    stop_side(b);
    close_loop(loop);
}

/* ---- texts and raw sockets ---- */

static inline void contains(const char *text, const char *part) {
    if (strstr(text, part) == NULL) fail_msg("\"%s\" is not in \"%s\"", part, text);
}

static inline int raw_connect(uint16_t port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

/* A listener that never accepts: the kernel completes TCP, nobody speaks. */
static inline int raw_listen(uint16_t *port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(fd, 5), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    *port = ntohs(a.sin_port);
    return fd;
}

static inline bool at_end(int fd) {
    char drop[4096];
    ssize_t n;
    while ((n = recv(fd, drop, sizeof drop, 0)) > 0) {}
    return n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
}

#endif
