/* lane_test.c - lanes over socket pairs: frames, deadlines, wake-ups and broken peers.
 *
 * Both ends are real TLS sessions.  A broken peer is the other session, used by hand. */
#define _DEFAULT_SOURCE
#include "net/lane.h"

#include "base/clock.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define SECOND_US 1000000u

static exo_tls_ctx *key;

static int derive_key(void **ud) {
    (void)ud;
    return exo_tls_ctx_create("correct horse battery", "test", &key, NULL) != EXO_OK;
}

static int forget_key(void **ud) {
    (void)ud;
    exo_tls_ctx_destroy(key);
    return 0;
}

/* One lane, and what the other end of it is made of. */
typedef struct {
    exo_lane *lane;
    int fd;
    exo_tls *tls;
} half;

static void carry(exo_tls *from, exo_tls *to) {
    exo_buf wire = {0};
    assert_int_equal(exo_tls_drain(from, &wire, NULL), EXO_OK);
    assert_int_equal(exo_tls_feed(to, wire.data, wire.n, NULL), EXO_OK);
    exo_buf_finish(&wire);
}

static exo_lane *as_lane(int fd, exo_tls *tls, exo_buf in, const char *peer) {
    exo_lane *l;
    exo_lane_parts parts = {.fd = fd, .tls = tls, .in = in, .peer = peer};
    assert_int_equal(exo_lane_create(&parts, &l, NULL), EXO_OK);
    return l;
}

static half open_half(void) {
    half h;
    exo_tls *mine;
    int fds[2];
    bool done = false;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    fcntl(fds[1], F_SETFL, O_NONBLOCK);
    assert_int_equal(exo_tls_create(key, false, &mine, NULL), EXO_OK);
    assert_int_equal(exo_tls_create(key, true, &h.tls, NULL), EXO_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(exo_tls_handshake(mine, &done, NULL), EXO_OK);
        carry(mine, h.tls);
        assert_int_equal(exo_tls_handshake(h.tls, &done, NULL), EXO_OK);
        carry(h.tls, mine);
    }
    assert_true(done);
    h.fd = fds[1];
    h.lane = as_lane(fds[0], mine, (exo_buf){0}, "00000000000000bb");
    return h;
}

static void close_half(half *h) {
    exo_lane_destroy(h->lane);
    exo_tls_destroy(h->tls);
    close(h->fd);
}

static void open_lanes(exo_lane **a, exo_lane **b) {
    half h = open_half();
    *a = h.lane;
    *b = as_lane(h.fd, h.tls, (exo_buf){0}, "00000000000000aa");
}

static uint64_t in_us(uint64_t us) { return exo_now_us() + us; }

/* The next frame, soon.  Called by threads, where cmocka's assertions do not reach. */
static exo_frame expect_frame(exo_lane_set *set, exo_lane *l) {
    exo_frame f;
    uint64_t deadline = in_us(10 * SECOND_US);
    while (exo_now_us() < deadline) {
        bool have;
        int ready;
        if (exo_lane_recv(l, &f, &have, NULL) != EXO_OK) break;
        if (have) return f;
        exo_lane_set_wait(set, &l, 1, 0, deadline, &ready);
    }
    fprintf(stderr, "expect_frame: no frame came\n");
    abort();
}

static uint8_t *pattern(size_t n) {
    uint8_t *p = malloc(n + 1);
    assert_non_null(p);
    for (size_t i = 0; i < n; i++) p[i] = (uint8_t)(i * 13 + i / 4099);
    return p;
}

/* ---- frames ---- */

static void frames_of_every_size_arrive_whole(void **ud) {
    (void)ud;
    static const size_t sizes[] = {0, 1, 16341, 16342, 16343, 16344, 16345, 40000};
    exo_lane *a, *b;
    exo_lane_set *set;
    open_lanes(&a, &b);
    assert_int_equal(exo_lane_set_create(&set, NULL), EXO_OK);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t n_header = i % 3 == 2 ? 20000 : 3; /* one longer than a record */
        uint8_t *body = pattern(sizes[i]), *header = pattern(n_header);
        exo_frame f = {.type = EXO_MSG_STEP,
                       .epoch = 5,
                       .seq = i,
                       .header = header,
                       .header_bytes = (uint32_t)n_header,
                       .body = body,
                       .body_bytes = (uint32_t)sizes[i]};
        assert_int_equal(exo_lane_send(a, &f, in_us(SECOND_US), NULL), EXO_OK);
        assert_int_equal(exo_lane_send(a, &f, in_us(SECOND_US), NULL), EXO_OK);
        for (int k = 0; k < 2; k++) {
            exo_frame got = expect_frame(set, b);
            assert_int_equal(got.body_bytes, sizes[i]);
            assert_true(got.seq == i);
            assert_int_equal(got.epoch, 5);
            assert_memory_equal(got.header, header, n_header);
            if (sizes[i] > 0) assert_memory_equal(got.body, body, sizes[i]);
        }
        free(body);
        free(header);
    }
    exo_lane_destroy(a);
    exo_lane_destroy(b);
    exo_lane_set_destroy(set);
}

/* What one token of a model with 2048 dimensions may cost on the wire: hidden x 4 + 128. */
static void a_step_of_one_row_stays_in_its_budget(void **ud) {
    (void)ud;
    enum { STEP_HEADER = 8 + 8 + 12 }; /* with a page entry, which most steps lack */
    static const uint32_t hidden[] = {64, 2048, 4096};
    exo_lane *a, *b;
    open_lanes(&a, &b);
    for (size_t i = 0; i < 3; i++) {
        uint8_t *body = pattern(hidden[i] * 4), header[STEP_HEADER] = {0};
        uint64_t before = exo_lane_bytes_sent(a);
        exo_frame f = {.type = EXO_MSG_STEP,
                       .header = header,
                       .header_bytes = STEP_HEADER,
                       .body = body,
                       .body_bytes = hidden[i] * 4};
        assert_int_equal(exo_lane_send(a, &f, in_us(SECOND_US), NULL), EXO_OK);
        assert_in_range(exo_lane_bytes_sent(a) - before, hidden[i] * 4 + 1, hidden[i] * 4 + 128);
        free(body);
    }
    exo_lane_destroy(a);
    exo_lane_destroy(b);
}

typedef struct {
    exo_lane *lane;
    unsigned n;
    size_t body_bytes;
    bool begins;
    uint64_t allocations; /* of the whole process, while warm */
} player;

/* Sends and receives n frames in turn. */
static void *play(void *ud) {
    player *p = ud;
    exo_lane_set *set;
    uint8_t *body = pattern(p->body_bytes);
    unsigned got = 0;
    if (exo_lane_set_create(&set, NULL) != EXO_OK) abort();
    exo_frame f = {.type = EXO_MSG_STEP, .body = body, .body_bytes = (uint32_t)p->body_bytes};
    bool send = p->begins;
    while (got < p->n) {
        f.seq = got;
        if (got == 20) p->allocations = exo_mem_count();
        if (send && exo_lane_send(p->lane, &f, in_us(5 * SECOND_US), NULL) != EXO_OK) abort();
        exo_frame in = expect_frame(set, p->lane);
        if (in.seq != got || in.body_bytes != p->body_bytes ||
            memcmp(in.body, body, p->body_bytes) != 0) {
            abort();
        }
        got++;
        if (!send && exo_lane_send(p->lane, &f, in_us(5 * SECOND_US), NULL) != EXO_OK) abort();
    }
    p->allocations = exo_mem_count() - p->allocations;
    exo_lane_set_destroy(set);
    free(body);
    return NULL;
}

static void two_threads_play_ping_pong_without_allocating(void **ud) {
    (void)ud;
    player a = {.n = 1000, .body_bytes = 8192, .begins = true}, b = {.n = 1000, .body_bytes = 8192};
    open_lanes(&a.lane, &b.lane);
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, play, &b), 0);
    play(&a);
    pthread_join(t, NULL);
    assert_in_range(a.allocations, 0, 0);
    assert_true(exo_lane_bytes_sent(a.lane) == 1000 * (8192 + 40 + 22));
    assert_true(exo_lane_bytes_received(b.lane) == exo_lane_bytes_sent(a.lane));
    exo_lane_destroy(a.lane);
    exo_lane_destroy(b.lane);
}

static void large_frames_pass_between_threads(void **ud) {
    (void)ud;
    player a = {.n = 8, .body_bytes = 1 << 20, .begins = true}, b = {.n = 8, .body_bytes = 1 << 20};
    open_lanes(&a.lane, &b.lane);
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, play, &b), 0);
    play(&a);
    pthread_join(t, NULL);
    exo_lane_destroy(a.lane);
    exo_lane_destroy(b.lane);
}

/* Each sends before it receives, far more than the sockets hold. */
static void two_senders_do_not_block_each_other(void **ud) {
    (void)ud;
    player a = {.n = 4, .body_bytes = 4 << 20, .begins = true}, b = a;
    open_lanes(&a.lane, &b.lane);
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, play, &b), 0);
    play(&a);
    pthread_join(t, NULL);
    exo_lane_destroy(a.lane);
    exo_lane_destroy(b.lane);
}

static void pings_on_their_way_are_dropped(void **ud) {
    (void)ud;
    exo_lane *a, *b;
    open_lanes(&a, &b);
    exo_frame ping = {.type = EXO_MSG_PING}, pong = {.type = EXO_MSG_PONG},
              step = {.type = EXO_MSG_STEP, .seq = 3}, got;
    bool have;
    assert_int_equal(exo_lane_send(a, &ping, in_us(SECOND_US), NULL), EXO_OK);
    assert_int_equal(exo_lane_send(a, &pong, in_us(SECOND_US), NULL), EXO_OK);
    assert_int_equal(exo_lane_recv(b, &got, &have, NULL), EXO_OK);
    assert_false(have);
    assert_int_equal(exo_lane_send(a, &ping, in_us(SECOND_US), NULL), EXO_OK);
    assert_int_equal(exo_lane_send(a, &step, in_us(SECOND_US), NULL), EXO_OK);
    assert_int_equal(exo_lane_recv(b, &got, &have, NULL), EXO_OK);
    assert_true(have);
    assert_true(got.seq == 3);
    exo_lane_destroy(a);
    exo_lane_destroy(b);
}

static void bytes_that_came_early_are_not_lost(void **ud) {
    (void)ud;
    exo_frame early = {.type = EXO_MSG_STEP, .seq = 1}, later = {.type = EXO_MSG_STEP, .seq = 2};
    exo_buf plain = {0}, wire = {0};
    half h = open_half();
    /* Frame 1 was decrypted before the hand-over, frame 2 lies encrypted inside the session. */
    assert_int_equal(exo_frame_write(&early, &plain, NULL), EXO_OK);
    assert_int_equal(exo_lane_send(h.lane, &later, in_us(SECOND_US), NULL), EXO_OK);
    char bytes[256];
    ssize_t n = recv(h.fd, bytes, sizeof bytes, 0);
    assert_int_equal(n, 40 + 22);
    assert_int_equal(exo_tls_feed(h.tls, bytes, (size_t)n, NULL), EXO_OK);
    exo_lane *b = as_lane(h.fd, h.tls, plain, "00000000000000aa");
    exo_lane_set *set;
    assert_int_equal(exo_lane_set_create(&set, NULL), EXO_OK);
    for (uint64_t seq = 1; seq <= 2; seq++) {
        int ready;
        bool have;
        exo_frame f;
        exo_lane_set_wait(set, &b, 1, 0, in_us(SECOND_US), &ready);
        assert_int_equal(ready, 0); /* although the socket is silent */
        assert_int_equal(exo_lane_recv(b, &f, &have, NULL), EXO_OK);
        assert_true(have);
        assert_true(f.seq == seq);
    }
    exo_lane_set_destroy(set);
    exo_buf_finish(&wire);
    exo_lane_destroy(h.lane);
    exo_lane_destroy(b);
}

/* ---- ends ---- */

static exo_error recv_error(exo_lane *l) {
    exo_frame f;
    bool have = true;
    exo_error err = {0};
    uint64_t deadline = in_us(2 * SECOND_US);
    while (err.status == EXO_OK && exo_now_us() < deadline) exo_lane_recv(l, &f, &have, &err);
    assert_false(have);
    exo_error again = {0};
    assert_int_equal(exo_lane_recv(l, &f, &have, &again), err.status); /* it sticks */
    assert_string_equal(again.message, err.message);
    exo_frame out = {.type = EXO_MSG_STEP};
    assert_int_equal(exo_lane_send(l, &out, in_us(SECOND_US), NULL), err.status);
    return err;
}

static void a_goodbye_comes_after_the_frames_before_it(void **ud) {
    (void)ud;
    exo_lane *a, *b;
    open_lanes(&a, &b);
    exo_frame step = {.type = EXO_MSG_RESULT, .seq = 8}, f;
    bool have;
    assert_int_equal(exo_lane_send(a, &step, in_us(SECOND_US), NULL), EXO_OK);
    exo_lane_destroy(a);
    assert_int_equal(exo_lane_recv(b, &f, &have, NULL), EXO_OK);
    assert_true(have);
    assert_true(f.seq == 8);
    exo_error err = recv_error(b);
    assert_int_equal(err.status, EXO_EPEER);
    assert_non_null(strstr(err.message, "lane to node 00000000000000aa"));
    assert_non_null(strstr(err.message, "the lane was closed"));
    exo_lane_destroy(b);
}

static void puppet_send(half *h, const void *bytes, size_t n) {
    exo_buf wire = {0};
    assert_int_equal(exo_tls_seal(h->tls, bytes, n, &wire, NULL), EXO_OK);
    assert_int_equal(send(h->fd, wire.data, wire.n, MSG_NOSIGNAL), wire.n);
    exo_buf_finish(&wire);
}

static void a_peer_that_dies_mid_frame_is_named(void **ud) {
    (void)ud;
    half h = open_half();
    exo_frame f = {.type = EXO_MSG_STEP, .body_bytes = 1000, .body = pattern(1000)};
    exo_buf frame = {0};
    assert_int_equal(exo_frame_write(&f, &frame, NULL), EXO_OK);
    puppet_send(&h, frame.data, 500);
    shutdown(h.fd, SHUT_RDWR);
    exo_error err = recv_error(h.lane);
    assert_int_equal(err.status, EXO_EPEER);
    assert_non_null(strstr(err.message, "in the middle of a frame"));
    exo_buf_finish(&frame);
    free((void *)(uintptr_t)f.body);
    close_half(&h);
}

static void damaged_bytes_break_the_lane(void **ud) {
    (void)ud;
    exo_frame f = {.type = EXO_MSG_STEP, .body_bytes = 100, .body = pattern(100)};
    exo_buf frame = {0}, wire = {0};
    assert_int_equal(exo_frame_write(&f, &frame, NULL), EXO_OK);

    half h = open_half(); /* inside TLS: the frame's hash */
    frame.data[60] ^= 1;
    puppet_send(&h, frame.data, frame.n);
    exo_error err = recv_error(h.lane);
    assert_int_equal(err.status, EXO_EFORMAT);
    assert_non_null(strstr(err.message, "wrong hash"));
    close_half(&h);

    h = open_half(); /* outside: TLS's own check */
    assert_int_equal(exo_tls_seal(h.tls, frame.data, frame.n, &wire, NULL), EXO_OK);
    wire.data[80] ^= 1;
    assert_int_equal(send(h.fd, wire.data, wire.n, 0), wire.n);
    err = recv_error(h.lane);
    assert_int_equal(err.status, EXO_EFORMAT);
    assert_non_null(strstr(err.message, "TLS failed"));
    close_half(&h);
    free((void *)(uintptr_t)f.body);
    exo_buf_finish(&frame);
    exo_buf_finish(&wire);
}

static void a_send_nobody_takes_hits_its_deadline(void **ud) {
    (void)ud;
    half h = open_half();
    exo_frame f = {.type = EXO_MSG_STEP, .body_bytes = 8 << 20, .body = pattern(8 << 20)};
    exo_error err = {0};
    uint64_t begin = exo_now_us();
    assert_int_equal(exo_lane_send(h.lane, &f, begin + 100000, &err), EXO_ETIMEDOUT);
    assert_in_range(exo_now_us() - begin, 100000, 1000000);
    assert_non_null(strstr(err.message, "deadline"));
    assert_int_equal(recv_error(h.lane).status, EXO_ETIMEDOUT);
    free((void *)(uintptr_t)f.body);
    close_half(&h);
}

static void a_frame_too_large_breaks_nothing(void **ud) {
    (void)ud;
    exo_lane *a, *b;
    open_lanes(&a, &b);
    exo_frame f = {.type = EXO_MSG_STEP, .body_bytes = EXO_FRAME_MAX_BODY + 1}, got;
    bool have;
    assert_int_equal(exo_lane_send(a, &f, in_us(SECOND_US), NULL), EXO_EINVAL);
    f.body_bytes = 0;
    assert_int_equal(exo_lane_send(a, &f, in_us(SECOND_US), NULL), EXO_OK);
    assert_int_equal(exo_lane_recv(b, &got, &have, NULL), EXO_OK);
    assert_true(have);
    exo_lane_destroy(a);
    exo_lane_destroy(b);
}

/* ---- waiting ---- */

static void *wake_later(void *set) {
    usleep(50000);
    exo_lane_wake(set);
    return NULL;
}

static void waits_end_by_wake_deadline_or_frame(void **ud) {
    (void)ud;
    exo_lane *a, *b, *none = NULL;
    exo_lane_set *set;
    int ready;
    open_lanes(&a, &b);
    exo_lane *lanes[] = {none, b};
    assert_int_equal(exo_lane_set_create(&set, NULL), EXO_OK);
    exo_frame f = {.type = EXO_MSG_STEP}, got;
    bool have;
    assert_int_equal(exo_lane_recv(b, &got, &have, NULL), EXO_OK); /* nothing is left from before */

    for (uint32_t spin = 0; spin <= 100; spin += 100) {
        uint64_t begin = exo_now_us();
        exo_lane_set_wait(set, lanes, 2, spin, begin + 30000, &ready);
        assert_int_equal(ready, -1);
        assert_in_range(exo_now_us() - begin, 30000, 500000);
    }
    uint64_t begin = exo_now_us();
    exo_lane_set_wait(set, lanes, 2, 0, begin, &ready); /* a deadline that has passed */
    assert_int_equal(ready, -1);

    exo_lane_wake(set); /* before the wait: ends it */
    exo_lane_wake(set);
    exo_lane_set_wait(set, lanes, 2, 0, in_us(20 * SECOND_US), &ready);
    assert_int_equal(ready, -1);
    assert_in_range(exo_now_us() - begin, 0, SECOND_US);
    begin = exo_now_us();
    exo_lane_set_wait(set, lanes, 2, 0, begin + 30000, &ready); /* both were one */
    assert_in_range(exo_now_us() - begin, 30000, 500000);

    pthread_t t; /* during the wait */
    assert_int_equal(pthread_create(&t, NULL, wake_later, set), 0);
    begin = exo_now_us();
    exo_lane_set_wait(set, lanes, 2, 0, UINT64_MAX, &ready);
    assert_int_equal(ready, -1);
    assert_in_range(exo_now_us() - begin, 40000, 5 * SECOND_US);
    pthread_join(t, NULL);

    assert_int_equal(exo_lane_send(a, &f, in_us(SECOND_US), NULL), EXO_OK);
    exo_lane_wake(set); /* a frame comes first, the wake-up is kept */
    exo_lane_set_wait(set, lanes, 2, 0, in_us(SECOND_US), &ready);
    assert_int_equal(ready, 1);
    assert_int_equal(exo_lane_recv(b, &got, &have, NULL), EXO_OK);
    assert_true(have);
    exo_lane_set_wait(set, lanes, 2, 0, in_us(20 * SECOND_US), &ready);
    assert_int_equal(ready, -1);
    exo_lane_set_destroy(set);
    exo_lane_destroy(a);
    exo_lane_destroy(b);
}

static void no_lane_starves(void **ud) {
    (void)ud;
    exo_lane *a[2], *b[2];
    exo_lane_set *set;
    unsigned turns[2] = {0};
    exo_frame f = {.type = EXO_MSG_STEP}, got;
    assert_int_equal(exo_lane_set_create(&set, NULL), EXO_OK);
    for (int i = 0; i < 2; i++) {
        open_lanes(&a[i], &b[i]);
        for (int k = 0; k < 10; k++) {
            assert_int_equal(exo_lane_send(a[i], &f, in_us(SECOND_US), NULL), EXO_OK);
        }
    }
    for (int k = 0; k < 10; k++) {
        int ready;
        bool have;
        exo_lane_set_wait(set, b, 2, 0, in_us(SECOND_US), &ready);
        assert_in_range(ready, 0, 1);
        turns[ready]++;
        assert_int_equal(exo_lane_recv(b[ready], &got, &have, NULL), EXO_OK);
        assert_true(have);
    }
    assert_int_equal(turns[0], 5);
    for (int i = 0; i < 2; i++) {
        exo_lane_destroy(a[i]);
        exo_lane_destroy(b[i]);
    }
    exo_lane_set_destroy(set);
}

static void every_failed_allocation_is_reported(void **ud) {
    (void)ud;
    exo_lane_set *set;
    exo_mem_fail_at(1);
    assert_int_equal(exo_lane_set_create(&set, NULL), EXO_ENOMEM);
    assert_null(set);
    half h = open_half();
    exo_lane *b;
    exo_lane_parts parts = {.fd = h.fd, .tls = h.tls, .peer = "00000000000000aa"};
    exo_mem_fail_at(1);
    assert_int_equal(exo_lane_create(&parts, &b, NULL), EXO_ENOMEM); /* takes the parts anyway */
    assert_null(b);
    exo_mem_fail_at(0);
    exo_lane_destroy(h.lane);

    h = open_half();
    exo_frame f = {.type = EXO_MSG_STEP};
    exo_mem_fail_at(1);
    assert_int_equal(exo_lane_send(h.lane, &f, in_us(SECOND_US), NULL), EXO_ENOMEM);
    exo_mem_fail_at(0);
    assert_int_equal(recv_error(h.lane).status, EXO_ENOMEM);
    close_half(&h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_of_every_size_arrive_whole),
        cmocka_unit_test(a_step_of_one_row_stays_in_its_budget),
        cmocka_unit_test(two_threads_play_ping_pong_without_allocating),
        cmocka_unit_test(large_frames_pass_between_threads),
        cmocka_unit_test(two_senders_do_not_block_each_other),
        cmocka_unit_test(pings_on_their_way_are_dropped),
        cmocka_unit_test(bytes_that_came_early_are_not_lost),
        cmocka_unit_test(a_goodbye_comes_after_the_frames_before_it),
        cmocka_unit_test(a_peer_that_dies_mid_frame_is_named),
        cmocka_unit_test(damaged_bytes_break_the_lane),
        cmocka_unit_test(a_send_nobody_takes_hits_its_deadline),
        cmocka_unit_test(a_frame_too_large_breaks_nothing),
        cmocka_unit_test(waits_end_by_wake_deadline_or_frame),
        cmocka_unit_test(no_lane_starves),
        cmocka_unit_test(every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, derive_key, forget_key);
}
