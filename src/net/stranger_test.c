/* stranger_test.c - whoever else may come to the cluster port, and peers that break the rules.
 *
 * Strangers are raw sockets.  Past TLS a puppet holds the cluster key and says what the test
 * wants; each time the node must end the link and tell both sides why. */
#define _DEFAULT_SOURCE
#include "net/hello.h"
#include "net/link.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "net/testing.h"

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
