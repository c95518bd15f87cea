/* link_test.c - nets on loopback with real sockets: opening, talking, and every way of ending.
 * Peers that break the rules are in stranger_test.c. */
#define _DEFAULT_SOURCE
#include "base/mem.h"
#include "net/link.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "net/testing.h"

/* ---- opening ---- */

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
    static const char *const any[] = {"0.0.0.0", "::"};
    for (int i = 0; i < 2; i++) {
        uv_loop_t loop;
        uv_loop_init(&loop);
        side a, b;
        json_t *extra = json_pack("{s:[s], s:s}", "models", "tiny", "node_id", "not mine");
        exo_net_desc d = {.name = "any", .listen_addr = any[i], .hello_extra = extra};
        exo_status st = start_side_with(&a, &loop, d, NULL);
        if (st == EXO_EIO && i == 1) { /* a machine without IPv6 */
            forget_side(&a);
        } else {
            assert_int_equal(st, EXO_OK);
            start_side(&b, &loop, "beta");
            dial(&b, &a); /* over IPv4, also to "::" */
            RUN_UNTIL(&loop, b.n_open == 1, 3000);
            char where[32];
            snprintf(where, sizeof where, "127.0.0.1:%u", exo_net_port(a.net));
            assert_string_equal(b.peer.listen, where);
            assert_int_equal(json_array_size(json_object_get(b.peer.hello, "models")), 1);
            assert_string_equal(b.peer.node_id, exo_identity_node_id(a.identity));
            stop_side(&a);
            stop_side(&b);
        }
        json_decref(extra);
        close_loop(&loop);
    }
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

/* Frames that may wait leave with the next one, in front of it, or with a sign of life; from both
 * sides. */
static void what_may_wait_leaves_with_the_next(void **ud) {
    (void)ud;
    uv_loop_t loop;
    side a, b;
    open_pair(&loop, &a, &b);
    side *sides[] = {&a, &b};
    for (int i = 0; i < 2; i++) {
        side *from = sides[i], *to = sides[1 - i];
        exo_frame waits = {.type = 100, .seq = 1}, goes = {.type = 101, .seq = 2};
        json_t *j = json_pack("{s:s}", "what", "figures");
        uint64_t before = exo_link_bytes_sent(from->link);
        assert_int_equal(exo_link_send_later(from->link, &waits, NULL), EXO_OK);
        assert_true(exo_link_bytes_sent(from->link) == before);
        assert_int_equal(exo_link_send(from->link, &goes, NULL), EXO_OK);
        RUN_UNTIL(&loop, to->n_frames == 2, 3000);
        assert_int_equal(to->last_type, 101); /* and 100 came before it */
        assert_int_equal(exo_link_send_json_later(from->link, EXO_MSG_NODES, j, NULL), EXO_OK);
        RUN_UNTIL(&loop, to->n_frames == 3, 3000);
        assert_int_equal(to->last_type, EXO_MSG_NODES);
        json_decref(j);
    }
    close_pair(&loop, &a, &b);
}

/* A link that ends says what had waited, too. */
static void what_waits_is_said_before_the_end(void **ud) {
    (void)ud;
    uv_loop_t loop;
    side a, b;
    open_pair(&loop, &a, &b);
    exo_frame waits = {.type = 100};
    assert_int_equal(exo_link_send_later(a.link, &waits, NULL), EXO_OK);
    exo_link_close(a.link, EXO_OK, "done");
    RUN_UNTIL(&loop, b.n_close == 1, 3000);
    assert_int_equal(b.n_frames, 1);
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

/* Frames behind the one whose call-back closed the link are not delivered. */
static void closing_from_a_call_back_is_final(void **ud) {
    (void)ud;
    uv_loop_t loop;
    side a, b;
    open_pair(&loop, &a, &b);
    exo_frame f = {.type = FRAME_TO_CLOSE_ON};
    for (int i = 0; i < 5; i++) assert_int_equal(exo_link_send(a.link, &f, NULL), EXO_OK);
    RUN_UNTIL(&loop, a.n_close == 1 && b.n_close == 1, 3000);
    assert_int_equal(b.n_frames, 1);
    contains(a.why, "enough");
    close_pair(&loop, &a, &b);
}

/* One allocation fails, wherever: both sides end up open or closed with a reason. */
static void every_failed_allocation_ends_in_a_reason(void **ud) {
    (void)ud;
    uint64_t k = 1;
    for (bool failed = true; failed; k++) {
        uv_loop_t loop;
        uv_loop_init(&loop);
        side a, b;
        start_side(&a, &loop, "alpha");
        start_side(&b, &loop, "beta");
        char where[32];
        exo_link *l;
        snprintf(where, sizeof where, "127.0.0.1:%u", exo_net_port(b.net));
        exo_mem_fail_at(k);
        exo_status st = exo_net_dial(a.net, where, NULL, &l, NULL);
        if (st == EXO_OK) {
            RUN_UNTIL(&loop, a.n_open + a.n_close > 0 && (b.n_open > 0 || a.n_close > 0), 3000);
        }
        failed = exo_mem_failed();
        exo_mem_fail_at(0);
        assert_true(failed || (a.n_open == 1 && b.n_open == 1));
        if (a.n_close > 0) assert_true(a.status != EXO_OK && strlen(a.why) > 20);
        close_pair(&loop, &a, &b);
    }
    assert_true(k > 10);
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

/* Held up for longer than the silence limit, our own loop must not blame the peer; and a link
 * with nothing to say stays open by its pings alone. */
static void our_own_sleep_is_not_the_peers_silence(void **ud) {
    (void)ud;
    uv_loop_t loop;
    side a, b;
    open_pair(&loop, &a, &b);
    usleep((EXO_LINK_SILENT_MS + 300) * 1000);
    uint64_t begin = exo_now_ms();
    RUN_UNTIL(&loop, exo_now_ms() - begin > EXO_LINK_SILENT_MS + 1000, EXO_LINK_SILENT_MS + 2000);
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
        cmocka_unit_test(what_may_wait_leaves_with_the_next),
        cmocka_unit_test(what_waits_is_said_before_the_end),
        cmocka_unit_test(a_goodbye_carries_its_reason),
        cmocka_unit_test(shutting_down_tells_the_peers),
        cmocka_unit_test(closing_from_a_call_back_is_final),
        cmocka_unit_test(every_failed_allocation_ends_in_a_reason),
        cmocka_unit_test(opening_has_a_deadline),
        cmocka_unit_test(a_silent_peer_is_given_up),
        cmocka_unit_test(our_own_sleep_is_not_the_peers_silence),
        cmocka_unit_test(unsent_bytes_have_a_limit),
    };
    return cmocka_run_group_tests(tests, derive_key, forget_key);
}
