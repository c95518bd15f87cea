/* link_test.c - nets on loopback with real sockets: opening, talking, and every way of ending.
 *
 * Peers that break the rules are played by raw sockets and, past TLS, by a puppet that holds the
 * cluster key and says what the test wants. */
#define _DEFAULT_SOURCE
#include "net/hello.h"
#include "net/link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "net/testing.h"

static void contains(const char *text, const char *part) {
    if (strstr(text, part) == NULL) fail_msg("\"%s\" is not in \"%s\"", part, text);
}

/* ---- raw sockets ---- */

static int raw_connect(uint16_t port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

/* A listener that never accepts: the kernel completes TCP, nobody speaks. */
static int raw_listen(uint16_t *port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(fd, 5), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    *port = ntohs(a.sin_port);
    return fd;
}

static bool at_end(int fd) {
    char drop[4096];
    ssize_t n;
    while ((n = recv(fd, drop, sizeof drop, 0)) > 0) {}
    return n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
}

/* ---- opening ---- */

static void open_pair(uv_loop_t *loop, side *a, side *b) {
    assert_int_equal(uv_loop_init(loop), 0);
    start_side(a, loop, "alpha");
    start_side(b, loop, "beta");
    dial(a, b);
    RUN_UNTIL(loop, a->n_open == 1 && b->n_open == 1, 3000);
}

static void close_pair(uv_loop_t *loop, side *a, side *b) {
    stop_side(a);
    stop_side(b);
    close_loop(loop);
}

static void both_learn_who_the_other_is(void **ud) {
    (void)ud;
    uv_loop_t loop;
    side a, b;
    open_pair(&loop, &a, &b);
    assert_true(a.outgoing);
    assert_false(b.outgoing);
    assert_string_equal(a.peer.node_id, exo_identity_node_id(b.identity));
    assert_string_equal(b.peer.node_id, exo_identity_node_id(a.identity));
    assert_string_equal(a.peer.name, "beta");
    char where[32];
    snprintf(where, sizeof where, "127.0.0.1:%u", exo_net_port(a.net));
    assert_string_equal(b.peer.listen, where);
    assert_string_equal(json_string_value(json_object_get(b.peer.hello, "name")), "alpha");
    close_pair(&loop, &a, &b);
}

static void a_wildcard_listener_is_told_as_it_is_seen(void **ud) {
    (void)ud;
    uv_loop_t loop;
    uv_loop_init(&loop);
    side a, b;
    json_t *extra = json_pack("{s:[s], s:s}", "models", "tiny", "node_id", "not mine");
    exo_net_desc d = {.name = "any", .listen_addr = "0.0.0.0", .hello_extra = extra};
    assert_int_equal(start_side_with(&a, &loop, d, NULL), EXO_OK);
    start_side(&b, &loop, "beta");
    dial(&a, &b);
    RUN_UNTIL(&loop, b.n_open == 1, 3000);
    char where[32];
    snprintf(where, sizeof where, "127.0.0.1:%u", exo_net_port(a.net));
    assert_string_equal(b.peer.listen, where);
    assert_int_equal(json_array_size(json_object_get(b.peer.hello, "models")), 1);
    assert_string_equal(b.peer.node_id, exo_identity_node_id(a.identity));
    close_pair(&loop, &a, &b);
    json_decref(extra);
}

static void names_are_resolved_and_all_addresses_tried(void **ud) {
    (void)ud;
    uv_loop_t loop;
    uv_loop_init(&loop);
    side a, b;
    start_side(&a, &loop, "alpha");
    start_side(&b, &loop, "beta");
    char where[32];
    exo_link *l;
    snprintf(where, sizeof where, "localhost:%u", exo_net_port(b.net));
    assert_int_equal(exo_net_dial(a.net, where, &a, &l, NULL), EXO_OK);
    assert_ptr_equal(exo_link_ud(l), &a);
    RUN_UNTIL(&loop, a.n_open == 1 && b.n_open == 1, 5000);
    close_pair(&loop, &a, &b);
}

static void dialling_nowhere_says_why(void **ud) {
    (void)ud;
    uv_loop_t loop;
    uv_loop_init(&loop);
    side a;
    start_side(&a, &loop, "alpha");
    exo_link *l;
    exo_error err;
    assert_int_equal(exo_net_dial(a.net, "node1", NULL, &l, &err), EXO_EINVAL);
    assert_null(l);
    contains(err.message, "port is missing");
    uint16_t port;
    close(raw_listen(&port)); /* free again: nobody listens there */
    char where[32];
    snprintf(where, sizeof where, "127.0.0.1:%u", port);
    assert_int_equal(exo_net_dial(a.net, where, NULL, &l, NULL), EXO_OK);
    RUN_UNTIL(&loop, a.n_close == 1, 3000);
    contains(a.why, where);
    contains(a.why, "refused");
    assert_int_equal(a.status, EXO_EIO);
    assert_int_equal(exo_net_dial(a.net, "no-such-host.invalid:1", NULL, &l, NULL), EXO_OK);
    RUN_UNTIL(&loop, a.n_close == 2, 7000);
    contains(a.why, "no-such-host.invalid:1");
    stop_side(&a);
    close_loop(&loop);
}

static void a_port_in_use_is_named(void **ud) {
    (void)ud;
    uv_loop_t loop;
    uv_loop_init(&loop);
    uint16_t port;
    int fd = raw_listen(&port);
    side a;
    exo_error err;
    char number[8];
    exo_net_desc d = {.listen_addr = "127.0.0.1", .listen_port = port};
    snprintf(number, sizeof number, "%u", port);
    assert_int_equal(start_side_with(&a, &loop, d, &err), EXO_EBUSY);
    assert_null(a.net);
    contains(err.message, number);
    forget_side(&a);
    d.listen_addr = "localhost";
    assert_int_equal(start_side_with(&a, &loop, d, &err), EXO_EINVAL);
    contains(err.message, "localhost");
    forget_side(&a);
    close(fd);
    close_loop(&loop);
}

static void another_key_is_refused_and_both_say_why(void **ud) {
    (void)ud;
    uv_loop_t loop;
    uv_loop_init(&loop);
    side a, b;
    exo_tls_ctx *other;
    assert_int_equal(exo_tls_ctx_create("a different passphrase", "test", &other, NULL), EXO_OK);
    exo_net_desc d = {.name = "stranger", .tls = other};
    assert_int_equal(start_side_with(&a, &loop, d, NULL), EXO_OK);
    start_side(&b, &loop, "beta");
    dial(&a, &b);
    RUN_UNTIL(&loop, a.n_close == 1 && b.n_close == 1, 3000);
    assert_int_equal(a.status, EXO_EAUTH);
    assert_int_equal(b.status, EXO_EAUTH);
    contains(a.why, "cluster key does not match");
    contains(b.why, "cluster key does not match");
    contains(b.why, "127.0.0.1:"); /* who it was */
    assert_int_equal(a.n_open + b.n_open, 0);
    close_pair(&loop, &a, &b);
    exo_tls_ctx_destroy(other);
}

static void dialling_oneself_is_noticed(void **ud) {
    (void)ud;
    uv_loop_t loop;
    uv_loop_init(&loop);
    side a;
    start_side(&a, &loop, "alpha");
    dial(&a, &a);
    RUN_UNTIL(&loop, a.n_close == 2, 3000);
    assert_int_equal(a.n_open, 0);
    contains(a.why, "this is our own node");
    stop_side(&a);
    close_loop(&loop);
}

/* ---- talking ---- */

static void frames_go_both_ways(void **ud) {
    (void)ud;
    uv_loop_t loop;
    side a, b;
    open_pair(&loop, &a, &b);
    json_t *j = json_pack("{s:s}", "what", "news");
    assert_int_equal(exo_link_send_json(a.link, EXO_MSG_NODES, j, NULL), EXO_OK);
    RUN_UNTIL(&loop, b.n_frames == 1, 3000);
    assert_int_equal(b.last_type, EXO_MSG_NODES);
    assert_string_equal(exo_buf_str(&b.last_header), "{\"what\":\"news\"}");

    size_t n = 3 << 20;
    uint8_t *body = malloc(n);
    assert_non_null(body);
    for (size_t i = 0; i < n; i++) body[i] = (uint8_t)(i * 31 + i / 65536);
    exo_frame f = {.type = 999, .seq = 42, .body = body, .body_bytes = (uint32_t)n};
    assert_int_equal(exo_link_send(b.link, &f, NULL), EXO_OK);
    assert_int_equal(exo_link_send_json(b.link, EXO_MSG_NODES, j, NULL), EXO_OK);
    RUN_UNTIL(&loop, a.n_frames == 2, 5000);
    assert_int_equal(a.last_type, EXO_MSG_NODES);
    assert_int_equal(exo_link_send(a.link, &f, NULL), EXO_OK);
    RUN_UNTIL(&loop, b.n_frames == 2, 5000);
    assert_int_equal(b.last_type, 999); /* unknown types are the owner's business */
    assert_true(b.last_seq == 42);
    assert_int_equal(b.last_body.n, n);
    assert_memory_equal(b.last_body.data, body, n);
    assert_true(exo_link_bytes_sent(a.link) > n);
    RUN_UNTIL(&loop, exo_link_rtt_ms(a.link) > 0 && exo_link_rtt_ms(b.link) > 0, 2000);
    assert_true(exo_link_rtt_ms(a.link) < 500);
    f.body_bytes = EXO_FRAME_MAX_BODY + 1;
    assert_int_equal(exo_link_send(a.link, &f, NULL), EXO_EINVAL);
    assert_non_null(a.link); /* a refused frame breaks nothing */
    json_decref(j);
    free(body);
    close_pair(&loop, &a, &b);
}

static void a_goodbye_carries_its_reason(void **ud) {
    (void)ud;
    uv_loop_t loop;
    side a, b;
    open_pair(&loop, &a, &b);
    exo_link *l = a.link;
    exo_link_close(l, EXO_ECANCELED, "the owner went\nto bed");
    assert_int_equal(a.n_close, 0); /* never from within the call */
    json_t *j = json_object();
    assert_int_equal(exo_link_send_json(l, EXO_MSG_NODES, j, NULL), EXO_EPEER);
    json_decref(j);
    RUN_UNTIL(&loop, a.n_close == 1 && b.n_close == 1, 400); /* less than the lingering limit */
    assert_int_equal(a.status, EXO_ECANCELED);
    assert_string_equal(a.why, "the owner went\nto bed");
    assert_int_equal(b.status, EXO_EPEER);
    contains(b.why, "node alpha (");
    contains(b.why, "the owner went?to bed");
    close_pair(&loop, &a, &b);
}

static void shutting_down_tells_the_peers(void **ud) {
    (void)ud;
    uv_loop_t loop;
    side a, b;
    open_pair(&loop, &a, &b);
    exo_link *l;
    exo_error err;
    assert_int_equal(exo_net_dial(a.net, "localhost:9", NULL, &l, NULL), EXO_OK);
    assert_int_equal(exo_net_dial(a.net, "127.0.0.1:9", NULL, &l, NULL), EXO_OK);
    exo_net_close(a.net, on_net_closed, &a);
    assert_int_equal(exo_net_dial(a.net, "127.0.0.1:9", NULL, &l, &err), EXO_ECANCELED);
    RUN_UNTIL(&loop, a.net_closed && b.n_close == 1, 3000);
    assert_int_equal(a.n_close, 3);
    contains(b.why, "shutting down");
    forget_side(&a);
    stop_side(&b);
    close_loop(&loop);
}

/* ---- deadlines ---- */

static void opening_has_a_deadline(void **ud) {
    (void)ud;
    uv_loop_t loop;
    uv_loop_init(&loop);
    side a;
    start_side(&a, &loop, "alpha");
    uint16_t port;
    int mute = raw_listen(&port), silent = raw_connect(exo_net_port(a.net));
    char where[32];
    exo_link *l;
    snprintf(where, sizeof where, "127.0.0.1:%u", port);
    uint64_t begin = exo_now_ms();
    assert_int_equal(exo_net_dial(a.net, where, NULL, &l, NULL), EXO_OK);
    RUN_UNTIL(&loop, a.n_close == 2, EXO_LINK_OPEN_MS + 2000);
    assert_true(exo_now_ms() - begin >= EXO_LINK_OPEN_MS - 500);
    assert_int_equal(a.status, EXO_ETIMEDOUT);
    contains(a.why, "TLS handshake");
    assert_true(at_end(silent));
    close(mute);
    close(silent);
    stop_side(&a);
    close_loop(&loop);
}

/* beta's loop stands still: TCP goes on, nobody answers. */
static void a_silent_peer_is_given_up(void **ud) {
    (void)ud;
    uv_loop_t loop, still;
    uv_loop_init(&loop);
    uv_loop_init(&still);
    side a, b;
    start_side(&a, &loop, "alpha");
    start_side(&b, &still, "beta");
    dial(&a, &b);
    for (int i = 0; i < 1000 && !(a.n_open && b.n_open); i++) {
        uv_run(&loop, UV_RUN_NOWAIT);
        uv_run(&still, UV_RUN_NOWAIT);
        usleep(1000);
    }
    assert_int_equal(a.n_open + b.n_open, 2);
    RUN_UNTIL(&loop, a.n_close == 1, EXO_LINK_SILENT_MS + 1500);
    assert_int_equal(a.status, EXO_ETIMEDOUT);
    contains(a.why, "node beta (");
    contains(a.why, "nothing was heard");
    RUN_UNTIL(&still, b.n_close == 1, 3000); /* awake again: it sees the end at once */
    assert_int_equal(b.status, EXO_EPEER);
    stop_side(&a);
    stop_side(&b);
    close_loop(&loop);
    close_loop(&still);
}

/* Held up for longer than the silence limit, our own loop must not blame the peer. */
static void our_own_sleep_is_not_the_peers_silence(void **ud) {
    (void)ud;
    uv_loop_t loop;
    side a, b;
    open_pair(&loop, &a, &b);
    usleep((EXO_LINK_SILENT_MS + 300) * 1000);
    uint64_t begin = exo_now_ms();
    RUN_UNTIL(&loop, exo_now_ms() - begin > 600, 1000);
    assert_int_equal(a.n_close + b.n_close, 0);
    close_pair(&loop, &a, &b);
}

static void unsent_bytes_have_a_limit(void **ud) {
    (void)ud;
    uv_loop_t loop, still;
    uv_loop_init(&loop);
    uv_loop_init(&still);
    side a, b;
    start_side(&a, &loop, "alpha");
    start_side(&b, &still, "beta");
    dial(&a, &b);
    for (int i = 0; i < 1000 && !(a.n_open && b.n_open); i++) {
        uv_run(&loop, UV_RUN_NOWAIT);
        uv_run(&still, UV_RUN_NOWAIT);
        usleep(1000);
    }
    size_t n = 8 << 20;
    uint8_t *body = calloc(1, n);
    exo_frame f = {.type = 100, .body = body, .body_bytes = (uint32_t)n};
    exo_error err = {0};
    unsigned sent = 0;
    while (sent < 20 && exo_link_send(a.link, &f, &err) == EXO_OK) sent++;
    assert_in_range(sent, 8, 9);
    assert_int_equal(err.status, EXO_EBUSY);
    assert_non_null(a.link);
    for (int i = 0; i < 3000 && b.n_frames < sent; i++) {
        uv_run(&loop, UV_RUN_NOWAIT);
        uv_run(&still, UV_RUN_NOWAIT);
        usleep(1000);
    }
    assert_int_equal(b.n_frames, sent);
    assert_int_equal(exo_link_send(a.link, &f, &err), EXO_OK);
    free(body);
    stop_side(&a);
    stop_side(&b);
    close_loop(&loop);
    close_loop(&still);
}

/* ---- strangers ---- */

static void http_is_shown_the_door(void **ud) {
    (void)ud;
    static const char request[] = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    uv_loop_t loop;
    uv_loop_init(&loop);
    side a;
    start_side(&a, &loop, "alpha");
    int fd = raw_connect(exo_net_port(a.net));
    assert_int_equal(send(fd, request, sizeof request - 1, 0), sizeof request - 1);
    RUN_UNTIL(&loop, at_end(fd), 3000);
    close(fd);
    RUN_UNTIL(&loop, a.n_close == 1, 1000);
    assert_int_equal(a.status, EXO_EFORMAT);
    contains(a.why, "HTTP");
    stop_side(&a);
    close_loop(&loop);
}

static void strangers_cannot_take_all_places(void **ud) {
    (void)ud;
    enum { CROWD = 100 };
    uv_loop_t loop;
    uv_loop_init(&loop);
    side a, b;
    start_side(&a, &loop, "alpha");
    start_side(&b, &loop, "beta");
    int crowd[CROWD], refused = 0;
    for (int i = 0; i < CROWD; i++) crowd[i] = raw_connect(exo_net_port(a.net));
    uint64_t begin = exo_now_ms();
    RUN_UNTIL(&loop, exo_now_ms() - begin > 200, 1000);
    for (int i = 0; i < CROWD; i++) refused += at_end(crowd[i]);
    assert_int_equal(refused, CROWD - 64);
    for (int i = 0; i < CROWD; i++) close(crowd[i]);
    RUN_UNTIL(&loop, a.n_close == 64, 3000);
    dial(&b, &a);
    RUN_UNTIL(&loop, a.n_open == 1 && b.n_open == 1, 3000);
    close_pair(&loop, &a, &b);
}

/* ---- a peer that holds the key and breaks the rules ---- */

typedef struct {
    int fd;
    exo_tls *tls;
    exo_identity *identity;
    bool open, ended;
    uint8_t exporter[32];
    exo_buf heard;
} puppet;

static void puppet_flush(puppet *p) {
    exo_buf wire = {0};
    assert_int_equal(exo_tls_drain(p->tls, &wire, NULL), EXO_OK);
    if (wire.n > 0) assert_int_equal(send(p->fd, wire.data, wire.n, MSG_NOSIGNAL), wire.n);
    exo_buf_finish(&wire);
}

static bool puppet_turn(puppet *p) {
    char bytes[4096];
    ssize_t n;
    bool closed;
    while ((n = recv(p->fd, bytes, sizeof bytes, 0)) > 0) {
        assert_int_equal(exo_tls_feed(p->tls, bytes, (size_t)n, NULL), EXO_OK);
    }
    if (n == 0) p->ended = true;
    if (!p->open) assert_int_equal(exo_tls_handshake(p->tls, &p->open, NULL), EXO_OK);
    puppet_flush(p);
    if (p->open) assert_int_equal(exo_tls_read(p->tls, &p->heard, &closed, NULL), EXO_OK);
    return p->open;
}

static void puppet_connect(puppet *p, uv_loop_t *loop, uint16_t port) {
    *p = (puppet){.fd = raw_connect(port), .identity = new_identity()};
    assert_int_equal(exo_tls_create(cluster_key, false, &p->tls, NULL), EXO_OK);
    RUN_UNTIL(loop, puppet_turn(p), 3000);
    assert_int_equal(exo_tls_exporter(p->tls, p->exporter, NULL), EXO_OK);
}

static json_t *puppet_hello(const puppet *p, bool dialled) {
    exo_hello_self self = {.identity = p->identity, .name = "puppet"};
    json_t *hello;
    assert_int_equal(exo_hello_make(&self, p->exporter, dialled, &hello, NULL), EXO_OK);
    return hello;
}

static void puppet_say(puppet *p, const void *bytes, size_t n) {
    assert_int_equal(exo_tls_write(p->tls, bytes, n, NULL), EXO_OK);
    puppet_flush(p);
}

static void puppet_say_json(puppet *p, uint16_t type, json_t *header_take) {
    exo_buf frame = {0};
    assert_int_equal(exo_frame_write_json(type, 1, header_take, &frame, NULL), EXO_OK);
    puppet_say(p, frame.data, frame.n);
    exo_buf_finish(&frame);
    json_decref(header_take);
}

static void puppet_finish(puppet *p) {
    close(p->fd);
    exo_tls_destroy(p->tls);
    exo_identity_destroy(p->identity);
    exo_buf_finish(&p->heard);
}

/* The last frame the puppet heard is a BYE that says so. */
static void puppet_heard_bye(puppet *p, const char *part) {
    size_t used = 1;
    exo_frame f, last = {0};
    puppet_turn(p);
    for (size_t at = 0; used > 0; at += used) {
        const uint8_t *bytes = (const uint8_t *)exo_buf_str(&p->heard) + at;
        assert_int_equal(exo_frame_parse(bytes, p->heard.n - at, &f, &used, NULL), EXO_OK);
        if (used > 0) last = f;
    }
    json_t *bye;
    assert_int_equal(last.type, EXO_MSG_BYE);
    assert_int_equal(exo_frame_json(&last, &bye, NULL), EXO_OK);
    contains(json_string_value(json_object_get(bye, "reason")), part);
    json_decref(bye);
}

typedef struct {
    side a;
    uv_loop_t loop;
    puppet p;
} scene;

static scene *begin_scene(void) {
    scene *s = calloc(1, sizeof *s);
    assert_non_null(s);
    uv_loop_init(&s->loop);
    start_side(&s->a, &s->loop, "alpha");
    puppet_connect(&s->p, &s->loop, exo_net_port(s->a.net));
    return s;
}

static void end_scene(scene *s, exo_status status, const char *why) {
    RUN_UNTIL(&s->loop, (puppet_turn(&s->p), s->p.ended), 3000);
    puppet_heard_bye(&s->p, why);
    puppet_finish(&s->p);
    RUN_UNTIL(&s->loop, s->a.n_close == 1, 1000);
    assert_int_equal(s->a.status, status);
    contains(s->a.why, why);
    stop_side(&s->a);
    close_loop(&s->loop);
    free(s);
}

static void protocol_ranges_must_meet(void **ud) {
    (void)ud;
    scene *s = begin_scene();
    json_t *hello = puppet_hello(&s->p, true);
    json_object_set_new(hello, "protocol", json_pack("{s:i, s:i}", "min", 7, "max", 9));
    puppet_say_json(&s->p, EXO_MSG_HELLO, hello);
    end_scene(s, EXO_EUNSUPPORTED, "protocol 7 to 9, this node 1 to 1");
}

static void a_reflected_signature_is_no_proof(void **ud) {
    (void)ud;
    scene *s = begin_scene();
    puppet_say_json(&s->p, EXO_MSG_HELLO, puppet_hello(&s->p, false));
    end_scene(s, EXO_EAUTH, "could not prove");
}

static void another_nodes_id_cannot_be_claimed(void **ud) {
    (void)ud;
    scene *s = begin_scene();
    json_t *hello = puppet_hello(&s->p, true);
    json_object_set_new(hello, "node_id", json_string("0123456789abcdef"));
    puppet_say_json(&s->p, EXO_MSG_HELLO, hello);
    end_scene(s, EXO_EAUTH, "does not belong to its key");
}

static void the_hello_comes_first(void **ud) {
    (void)ud;
    scene *s = begin_scene();
    puppet_say_json(&s->p, EXO_MSG_NODES, json_object());
    end_scene(s, EXO_EFORMAT, "before the hello");
    s = begin_scene();
    puppet_say(&s->p, "GET / HTTP/1.1\r\n", 16);
    end_scene(s, EXO_EFORMAT, "no exo frame");
}

static void one_hello_is_enough(void **ud) {
    (void)ud;
    scene *s = begin_scene();
    puppet_say_json(&s->p, EXO_MSG_HELLO, puppet_hello(&s->p, true));
    puppet_say_json(&s->p, EXO_MSG_HELLO, puppet_hello(&s->p, true));
    end_scene(s, EXO_EFORMAT, "second hello");
}

static void a_damaged_frame_poisons_the_link(void **ud) {
    (void)ud;
    scene *s = begin_scene();
    puppet_say_json(&s->p, EXO_MSG_HELLO, puppet_hello(&s->p, true));
    exo_buf frame = {0};
    exo_frame f = {.type = 50, .body = (const uint8_t *)"body", .body_bytes = 4};
    assert_int_equal(exo_frame_write(&f, &frame, NULL), EXO_OK);
    puppet_say(&s->p, frame.data, frame.n);
    frame.data[frame.n - 1] ^= 1;
    puppet_say(&s->p, frame.data, frame.n);
    puppet_say(&s->p, "more that nobody reads", 22);
    exo_buf_finish(&frame);
    RUN_UNTIL(&s->loop, s->a.n_frames == 1, 3000); /* what was whole arrived */
    end_scene(s, EXO_EFORMAT, "wrong hash");
}

static void an_endless_hello_is_cut(void **ud) {
    (void)ud;
    scene *s = begin_scene();
    exo_frame f = {.type = EXO_MSG_HELLO, .header_bytes = EXO_FRAME_MAX_HEADER};
    uint8_t *much = calloc(1, EXO_FRAME_BYTES + 10000), *p = much;
    assert_non_null(much);
    f.header = calloc(1, f.header_bytes);
    assert_int_equal(exo_frame_head(&f, p, NULL), EXO_OK);
    puppet_say(&s->p, much, EXO_FRAME_BYTES);
    memset(much, 0, EXO_FRAME_BYTES);
    for (int i = 0; i < 200 && s->a.n_close == 0; i++) {
        exo_buf wire = {0};
        assert_int_equal(exo_tls_seal(s->p.tls, much, 10000, &wire, NULL), EXO_OK);
        if (send(s->p.fd, wire.data, wire.n, MSG_NOSIGNAL) < 0) i = 200;
        exo_buf_finish(&wire);
        uv_run(&s->loop, UV_RUN_NOWAIT);
    }
    free((void *)(uintptr_t)f.header);
    free(much);
    end_scene(s, EXO_EFORMAT, "hello is longer");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_learn_who_the_other_is),
        cmocka_unit_test(a_wildcard_listener_is_told_as_it_is_seen),
        cmocka_unit_test(names_are_resolved_and_all_addresses_tried),
        cmocka_unit_test(dialling_nowhere_says_why),
        cmocka_unit_test(a_port_in_use_is_named),
        cmocka_unit_test(another_key_is_refused_and_both_say_why),
        cmocka_unit_test(dialling_oneself_is_noticed),
        cmocka_unit_test(frames_go_both_ways),
        cmocka_unit_test(a_goodbye_carries_its_reason),
        cmocka_unit_test(shutting_down_tells_the_peers),
        cmocka_unit_test(opening_has_a_deadline),
        cmocka_unit_test(a_silent_peer_is_given_up),
        cmocka_unit_test(our_own_sleep_is_not_the_peers_silence),
        cmocka_unit_test(unsent_bytes_have_a_limit),
        cmocka_unit_test(http_is_shown_the_door),
        cmocka_unit_test(strangers_cannot_take_all_places),
        cmocka_unit_test(protocol_ranges_must_meet),
        cmocka_unit_test(a_reflected_signature_is_no_proof),
        cmocka_unit_test(another_nodes_id_cannot_be_claimed),
        cmocka_unit_test(the_hello_comes_first),
        cmocka_unit_test(one_hello_is_enough),
        cmocka_unit_test(a_damaged_frame_poisons_the_link),
        cmocka_unit_test(an_endless_hello_is_cut),
    };
    return cmocka_run_group_tests(tests, derive_key, forget_key);
}
