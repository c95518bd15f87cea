/* detach_test.c - links on real loops become lanes, in every state a hand-over can meet. */
#define _DEFAULT_SOURCE
#include "net/lane.h"
#include "net/link.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "net/testing.h"

#define SECOND_US 1000000u

static void send_lane_frame(side *s) {
    json_t *j = json_pack("{s:s}", "instance", "test");
    assert_int_equal(exo_link_send_json(s->link, EXO_MSG_LANE, j, NULL), EXO_OK);
    json_decref(j);
}

/* How the node does it: the dialler asks and turns at once, the other turns when asked. */
static void become_lanes(uv_loop_t *loop, side *a, side *b) {
    send_lane_frame(a);
    exo_link_detach(a->link, on_lane, a);
    assert_null(a->lane); /* never from within the call */
    RUN_UNTIL(loop, a->lane != NULL && b->lane != NULL, 3000);
    assert_int_equal(a->n_close + b->n_close, 0);
    assert_string_equal(exo_lane_peer(a->lane), exo_identity_node_id(b->identity));
}

typedef struct {
    exo_lane *lane;
    unsigned n;
    bool begins, good;
} player;

static void *play(void *ud) {
    player *p = ud;
    exo_lane_set *set;
    static const uint8_t body[8192];
    exo_frame f = {.type = EXO_MSG_STEP, .body = body, .body_bytes = sizeof body}, in;
    if (exo_lane_set_create(&set, NULL) != EXO_OK) return NULL;
    uint64_t deadline = exo_now_us() + 20 * SECOND_US;
    bool good = true;
    for (f.seq = 0; good && f.seq < p->n; f.seq++) {
        bool have = false;
        if (p->begins) good = exo_lane_send(p->lane, &f, deadline, NULL) == EXO_OK;
        while (good && !have) {
            int ready;
            exo_lane_set_wait(set, &p->lane, 1, 0, deadline, &ready);
            good = exo_now_us() < deadline && exo_lane_recv(p->lane, &in, &have, NULL) == EXO_OK;
        }
        good = good && in.seq == f.seq && in.body_bytes == sizeof body;
        if (good && !p->begins) good = exo_lane_send(p->lane, &f, deadline, NULL) == EXO_OK;
    }
    p->good = good;
    exo_lane_set_destroy(set);
    return NULL;
}

static void both_ends_play_ping_pong_on_threads_of_their_own(void **ud) {
    (void)ud;
    uv_loop_t loop;
    side a, b;
    open_pair(&loop, &a, &b);
    become_lanes(&loop, &a, &b);
    player pa = {.lane = a.lane, .n = 1000, .begins = true}, pb = {.lane = b.lane, .n = 1000};
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, play, &pb), 0);
    play(&pa);
    pthread_join(t, NULL);
    assert_true(pa.good);
    assert_true(pb.good);
    close_pair(&loop, &a, &b);
}

/* The dialler's first step may sit in the same segment as its LANE frame, or behind it, or in
 * TLS; whichever it is, the other end must find it. */
static void the_first_frame_is_never_lost(void **ud) {
    (void)ud;
    for (int i = 0; i < 20; i++) {
        uv_loop_t loop;
        side a, b;
        open_pair(&loop, &a, &b);
        send_lane_frame(&a);
        exo_frame extra = {.type = EXO_MSG_ADMIT, .seq = 77};
        assert_int_equal(exo_link_send(a.link, &extra, NULL),
                         EXO_OK); /* behind LANE, on the link */
        exo_link_detach(a.link, on_lane, &a);
        RUN_UNTIL(&loop, a.lane != NULL, 3000);
        exo_frame step = {.type = EXO_MSG_STEP, .seq = 78}, f;
        assert_int_equal(exo_lane_send(a.lane, &step, exo_now_us() + SECOND_US, NULL), EXO_OK);
        RUN_UNTIL(&loop, b.lane != NULL, 3000);
        assert_int_equal(b.n_frames, 1); /* LANE; all later ones belong to the lane */
        exo_lane_set *set;
        assert_int_equal(exo_lane_set_create(&set, NULL), EXO_OK);
        for (uint64_t want = 77; want <= 78; want++) {
            int ready;
            bool have = false;
            uint64_t deadline = exo_now_us() + SECOND_US;
            while (!have && exo_now_us() < deadline) {
                exo_lane_set_wait(set, &b.lane, 1, 0, deadline, &ready);
                assert_int_equal(exo_lane_recv(b.lane, &f, &have, NULL), EXO_OK);
            }
            assert_true(have);
            assert_true(f.seq == want);
        }
        exo_lane_set_destroy(set);
        close_pair(&loop, &a, &b);
    }
}

static void queued_bytes_leave_first(void **ud) {
    (void)ud;
    uv_loop_t loop;
    side a, b;
    open_pair(&loop, &a, &b);
    size_t n = 20 << 20; /* more than the sockets hold */
    uint8_t *body = calloc(1, n);
    exo_frame f = {.type = 100, .body = body, .body_bytes = (uint32_t)n};
    assert_int_equal(exo_link_send(a.link, &f, NULL), EXO_OK);
    become_lanes(&loop, &a, &b);
    assert_int_equal(b.n_frames, 2);
    assert_int_equal(b.last_type, EXO_MSG_LANE);
    free(body);
    close_pair(&loop, &a, &b);
}

static void a_lane_outlives_its_net(void **ud) {
    (void)ud;
    uv_loop_t loop;
    side a, b;
    open_pair(&loop, &a, &b);
    become_lanes(&loop, &a, &b);
    exo_net_close(a.net, on_net_closed, &a);
    RUN_UNTIL(&loop, a.net_closed, 3000);
    exo_frame step = {.type = EXO_MSG_STEP, .seq = 5}, f;
    bool have = false;
    assert_int_equal(exo_lane_send(a.lane, &step, exo_now_us() + SECOND_US, NULL), EXO_OK);
    uint64_t deadline = exo_now_us() + SECOND_US;
    while (!have && exo_now_us() < deadline) {
        assert_int_equal(exo_lane_recv(b.lane, &f, &have, NULL), EXO_OK);
    }
    assert_true(have);
    forget_side(&a);
    stop_side(&b);
    close_loop(&loop);
}

static void detaching_a_dying_link_says_why(void **ud) {
    (void)ud;
    uv_loop_t loop;
    side a, b;
    open_pair(&loop, &a, &b);
    exo_link *l = a.link;
    exo_link_close(l, EXO_ECANCELED, "changed my mind");
    exo_link_detach(l, on_lane, &a);
    RUN_UNTIL(&loop, a.lane_why[0] != '\0' && b.n_close == 1, 3000);
    assert_null(a.lane);
    assert_string_equal(a.lane_why, "changed my mind");
    assert_int_equal(a.n_close, 0);
    close_pair(&loop, &a, &b);
}

/* The peer's loop stands still and the socket is full: detaching gives up in time. */
static void detaching_has_a_deadline(void **ud) {
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
    size_t n = 40 << 20;
    uint8_t *body = calloc(1, n);
    exo_frame f = {.type = 100, .body = body, .body_bytes = (uint32_t)n};
    assert_int_equal(exo_link_send(a.link, &f, NULL), EXO_OK);
    exo_link_detach(a.link, on_lane, &a);
    RUN_UNTIL(&loop, a.lane_why[0] != '\0', 8000);
    assert_null(a.lane);
    assert_non_null(strstr(a.lane_why, "queued bytes did not leave"));
    free(body);
    stop_side(&a);
    RUN_UNTIL(&still, b.n_close == 1, 3000);
    stop_side(&b);
    close_loop(&loop);
    close_loop(&still);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_ends_play_ping_pong_on_threads_of_their_own),
        cmocka_unit_test(the_first_frame_is_never_lost),
        cmocka_unit_test(queued_bytes_leave_first),
        cmocka_unit_test(a_lane_outlives_its_net),
        cmocka_unit_test(detaching_a_dying_link_says_why),
        cmocka_unit_test(detaching_has_a_deadline),
    };
    return cmocka_run_group_tests(tests, derive_key, forget_key);
}
