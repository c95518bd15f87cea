/* lane.c - frames over TLS on a plain socket, for the one thread that owns the lane.
 *
 * A frame of up to 16 KiB is gathered and leaves as one TLS record in one send; of a larger one
 * the rest is encrypted from where it lies, piece by piece, while the peer already decrypts.
 * While a send waits for room it goes on receiving, so that two ends that both send cannot
 * block each other.  All buffers grow to the size of the largest frame and stay.
 * Knows no loop and no instance. */
#define _DEFAULT_SOURCE
#include "net/lane.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"
#include "net/hello.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* SIGPIPE is ignored since exo_net_create */
#endif

#define RECEIVE_BYTES    65536
#define PIECE_BYTES      (8 * EXO_TLS_RECORD_BYTES) /* encrypted, then sent */
#define MAX_UNREAD_BYTES (2u * EXO_FRAME_MAX_BODY)  /* received while a send waits */
#define MAX_POLL_MS      60000
#define STOP_POLL_MS     20 /* how often a waiting send looks at its stop flag */

struct exo_lane {
    int fd;
    exo_tls *tls;
    char peer[EXO_NODE_ID_BYTES];
    const atomic_bool *stop; /* NULL: sends only know their deadline */
    uint64_t sent_bytes, received_bytes;

    exo_buf in; /* decrypted; frames up to `off` have been handed out */
    size_t off;
    bool unparsed; /* `in` may hold a whole frame */
    bool ended;    /* the peer will send no more */

    exo_buf out; /* encrypted, on its way */
    uint8_t gathered[EXO_TLS_RECORD_BYTES];
    char received[RECEIVE_BYTES];

    exo_status status; /* sticks */
    char why[EXO_ERROR_BYTES];
};

/* ---- errors that stick ---- */

/* Remembers err, with the peer's name in front, as the lane's end. */
static exo_status break_lane(exo_lane *l, exo_error *err) {
    exo_error_wrap(err, err->status, "lane to node %s", l->peer);
    l->status = err->status;
    snprintf(l->why, sizeof l->why, "%s", err->message);
    return l->status;
}

static exo_status broken(const exo_lane *l, exo_error *err) {
    return exo_error_set(err, l->status, "%s", l->why);
}

/* ---- life ---- */

static void free_lane(exo_lane *l) {
    if (l->fd >= 0) close(l->fd);
    exo_tls_destroy(l->tls);
    exo_buf_finish(&l->in);
    exo_buf_finish(&l->out);
    exo_free(l);
}

exo_status exo_lane_create(exo_lane_parts *parts_take, exo_lane **out, exo_error *err) {
    *out = NULL;
    exo_lane *l = exo_calloc(1, sizeof *l);
    if (l == NULL) {
        close(parts_take->fd);
        exo_tls_destroy(parts_take->tls);
        exo_buf_finish(&parts_take->in);
        return exo_error_set(err, EXO_ENOMEM, "no memory for a lane");
    }
    l->fd = parts_take->fd;
    l->tls = parts_take->tls;
    l->in = parts_take->in;
    snprintf(l->peer, sizeof l->peer, "%s", parts_take->peer);
    /* The session may hold bytes that the socket will not announce again. */
    exo_status st = exo_tls_read(l->tls, &l->in, &l->ended, err);
    if (st != EXO_OK) {
        free_lane(l);
        return st;
    }
    l->unparsed = true;
    *out = l;
    return EXO_OK;
}

/* As much of a goodbye as the socket takes at once. */
static void say_goodbye(exo_lane *l) {
    static const char reason[] = "{\"reason\":\"the lane was closed\"}";
    exo_frame bye = {.type = EXO_MSG_BYE,
                     .flags = EXO_FRAME_JSON,
                     .header = (const uint8_t *)reason,
                     .header_bytes = sizeof reason - 1};
    exo_buf plain = {0};
    exo_buf_clear(&l->out);
    if (exo_frame_write(&bye, &plain, NULL) == EXO_OK &&
        exo_tls_seal(l->tls, plain.data, plain.n, &l->out, NULL) == EXO_OK) {
        exo_tls_goodbye(l->tls);
        if (exo_tls_drain(l->tls, &l->out, NULL) == EXO_OK &&
            send(l->fd, l->out.data, l->out.n, MSG_NOSIGNAL | MSG_DONTWAIT) > 0) {
            shutdown(l->fd, SHUT_WR);
        }
    }
    exo_buf_finish(&plain);
}

void exo_lane_destroy(exo_lane *l) {
    if (l == NULL) return;
    if (l->status == EXO_OK && !l->ended) say_goodbye(l);
    free_lane(l);
}

const char *exo_lane_peer(const exo_lane *l) { return l->peer; }
void exo_lane_set_stop(exo_lane *l, const atomic_bool *stop) { l->stop = stop; }
uint64_t exo_lane_bytes_sent(const exo_lane *l) { return l->sent_bytes; }
uint64_t exo_lane_bytes_received(const exo_lane *l) { return l->received_bytes; }

/* ---- receiving ---- */

/* One read of the socket, decrypted into l->in.  *got = false when there was nothing. */
static exo_status receive(exo_lane *l, bool *got, exo_error *err) {
    *got = false;
    ssize_t n = recv(l->fd, l->received, sizeof l->received, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return EXO_OK;
    if (n < 0) {
        return exo_error_set(err, EXO_EPEER, "the connection broke: %s", strerror(errno));
    }
    *got = true;
    l->unparsed = true;
    if (n == 0) {
        l->ended = true;
        return EXO_OK;
    }
    l->received_bytes += (uint64_t)n;
    exo_status st = exo_tls_feed(l->tls, l->received, (size_t)n, err);
    bool closed = false;
    if (st == EXO_OK) st = exo_tls_read(l->tls, &l->in, &closed, err);
    l->ended = l->ended || closed;
    return st;
}

static exo_status peer_ended(const exo_lane *l, exo_error *err) {
    return exo_error_set(err, EXO_EPEER, "the peer closed the connection%s",
                         l->in.n > l->off ? " in the middle of a frame" : "");
}

static exo_status peer_said_bye(const exo_frame *f, exo_error *err) {
    json_t *bye = NULL;
    char reason[128] = "no reason given";
    if (exo_frame_json(f, &bye, NULL) == EXO_OK) {
        const char *text = json_string_value(json_object_get(bye, "reason"));
        if (text != NULL) exo_hello_text(text, reason, sizeof reason);
    }
    json_decref(bye);
    return exo_error_set(err, EXO_EPEER, "the peer said goodbye: %s", reason);
}

/* The next frame in l->in that is meant for the owner. */
static exo_status next_frame(exo_lane *l, exo_frame *f, bool *have, exo_error *err) {
    for (;;) {
        size_t used;
        const uint8_t *at = (const uint8_t *)exo_buf_str(&l->in) + l->off;
        exo_status st = exo_frame_parse(at, l->in.n - l->off, f, &used, err);
        if (st != EXO_OK || used == 0) return st;
        l->off += used;
        if (f->type == EXO_MSG_BYE) return peer_said_bye(f, err);
        if (f->type == EXO_MSG_PING || f->type == EXO_MSG_PONG) continue;
        *have = true;
        return EXO_OK;
    }
}

exo_status exo_lane_recv(exo_lane *l, exo_frame *f, bool *have, exo_error *err) {
    exo_error mine;
    if (err == NULL) err = &mine;
    *have = false;
    *f = (exo_frame){0};
    if (l->status != EXO_OK) return broken(l, err);
    for (bool got = true; got;) {
        exo_status st = next_frame(l, f, have, err);
        l->unparsed = *have && l->off < l->in.n;
        if (st != EXO_OK) return break_lane(l, err);
        if (*have) return EXO_OK;
        exo_buf_drop_front(&l->in, l->off); /* at most one unfinished frame moves */
        l->off = 0;
        if (l->ended) {
            peer_ended(l, err);
            return break_lane(l, err);
        }
        if (receive(l, &got, err) != EXO_OK) return break_lane(l, err);
    }
    return EXO_OK;
}

/* ---- sending ---- */

static int poll_ms(uint64_t now_us, uint64_t deadline_us) {
    if (deadline_us <= now_us) return 0;
    uint64_t ms = (deadline_us - now_us - 1) / 1000 + 1; /* up: not to wake before it */
    return ms < MAX_POLL_MS ? (int)ms : MAX_POLL_MS;
}

/* Waits until the socket takes bytes again; receives meanwhile. */
static exo_status wait_for_room(exo_lane *l, uint64_t deadline_us, exo_error *err) {
    for (;;) {
        uint64_t now_us = exo_now_us();
        if (now_us >= deadline_us) {
            return exo_error_set(err, EXO_ETIMEDOUT, "it did not take a frame before the deadline");
        }
        if (l->stop != NULL && atomic_load(l->stop)) {
            return exo_error_set(err, EXO_ECANCELED, "stopped while it took no bytes");
        }
        int ms = poll_ms(now_us, deadline_us);
        if (l->stop != NULL && ms > STOP_POLL_MS) ms = STOP_POLL_MS;
        bool hears = !l->ended && l->in.n < MAX_UNREAD_BYTES;
        struct pollfd p = {.fd = l->fd, .events = (short)(hears ? POLLIN | POLLOUT : POLLOUT)};
        int r = poll(&p, 1, ms);
        if (r < 0 && errno != EINTR) {
            return exo_error_set(err, EXO_EIO, "poll: %s", strerror(errno));
        }
        if (r <= 0) continue;
        bool got;
        exo_status st = hears && (p.revents & POLLIN) != 0 ? receive(l, &got, err) : EXO_OK;
        if (st != EXO_OK || (p.revents & (POLLOUT | POLLERR | POLLHUP)) != 0) return st;
    }
}

static exo_status send_out(exo_lane *l, uint64_t deadline_us, exo_error *err) {
    for (size_t at = 0; at < l->out.n;) {
        ssize_t n = send(l->fd, l->out.data + at, l->out.n - at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) {
            at += (size_t)n;
            l->sent_bytes += (uint64_t)n;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            exo_status st = wait_for_room(l, deadline_us, err);
            if (st != EXO_OK) return st;
        } else if (errno != EINTR) {
            return exo_error_set(err, EXO_EPEER, "the connection broke: %s", strerror(errno));
        }
    }
    return EXO_OK;
}

static exo_status send_plain(exo_lane *l, const uint8_t *bytes, size_t n, uint64_t deadline_us,
                             exo_error *err) {
    exo_status st = EXO_OK;
    for (size_t piece; st == EXO_OK && n > 0; bytes += piece, n -= piece) {
        piece = n < PIECE_BYTES ? n : PIECE_BYTES;
        exo_buf_clear(&l->out);
        st = exo_tls_seal(l->tls, bytes, piece, &l->out, err);
        if (st == EXO_OK) st = send_out(l, deadline_us, err);
    }
    return st;
}

exo_status exo_lane_send(exo_lane *l, const exo_frame *f, uint64_t deadline_us, exo_error *err) {
    exo_error mine;
    if (err == NULL) err = &mine;
    if (l->status != EXO_OK) return broken(l, err);
    uint8_t head[EXO_FRAME_BYTES];
    exo_status st = exo_frame_head(f, head, err);
    if (st != EXO_OK) return st;

    struct {
        const uint8_t *bytes;
        size_t n;
    } parts[3] = {{head, sizeof head}, {f->header, f->header_bytes}, {f->body, f->body_bytes}};
    size_t n = 0;
    for (int i = 0; i < 3 && n < sizeof l->gathered; i++) {
        size_t room = sizeof l->gathered - n, piece = parts[i].n < room ? parts[i].n : room;
        if (piece > 0) memcpy(l->gathered + n, parts[i].bytes, piece);
        n += piece;
        parts[i].n -= piece;
        if (piece > 0) parts[i].bytes += piece;
    }
    st = send_plain(l, l->gathered, n, deadline_us, err);
    for (int i = 1; i < 3 && st == EXO_OK; i++) {
        st = send_plain(l, parts[i].bytes, parts[i].n, deadline_us, err);
    }
    return st == EXO_OK ? EXO_OK : break_lane(l, err);
}

/* ---- waiting ---- */

struct exo_lane_set {
    int wake[2]; /* a pipe: [0] is polled */
    size_t turn; /* lane looked at first, so that none starves */
};

exo_status exo_lane_set_create(exo_lane_set **out, exo_error *err) {
    *out = NULL;
    exo_lane_set *s = exo_calloc(1, sizeof *s);
    if (s == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory to wait for lanes");
    if (pipe(s->wake) != 0) {
        exo_free(s);
        return exo_error_set(err, EXO_EIO, "cannot make a pipe: %s", strerror(errno));
    }
    for (int i = 0; i < 2; i++) {
        fcntl(s->wake[i], F_SETFL, O_NONBLOCK);
        fcntl(s->wake[i], F_SETFD, FD_CLOEXEC);
    }
    *out = s;
    return EXO_OK;
}

void exo_lane_set_destroy(exo_lane_set *s) {
    if (s == NULL) return;
    close(s->wake[0]);
    close(s->wake[1]);
    exo_free(s);
}

/* A full pipe is as good a wake-up as one more byte. */
void exo_lane_wake(exo_lane_set *s) {
    while (write(s->wake[1], "w", 1) < 0 && errno == EINTR) {}
}

static void forget_wakes(exo_lane_set *s) {
    char bytes[64];
    while (read(s->wake[0], bytes, sizeof bytes) == (ssize_t)sizeof bytes) {}
}

/* What needs no system call to know: bytes at hand, an error, the peer's end. */
static bool is_ready(const exo_lane *l) { return l->unparsed || l->status != EXO_OK || l->ended; }

/* One poll over everything.  True when the wait is over. */
static bool poll_once(exo_lane_set *s, exo_lane *const *lanes, size_t n, int ms, int *ready) {
    struct pollfd fds[EXO_LANE_SET_MAX + 1];
    for (size_t i = 0; i < n; i++) {
        fds[i] = (struct pollfd){.fd = lanes[i] != NULL ? lanes[i]->fd : -1, .events = POLLIN};
    }
    fds[n] = (struct pollfd){.fd = s->wake[0], .events = POLLIN};
    if (poll(fds, (nfds_t)(n + 1), ms) <= 0) return false;
    for (size_t k = 0; k < n && *ready < 0; k++) {
        size_t i = (s->turn + k) % n;
        if (fds[i].revents != 0) *ready = (int)i;
    }
    if (*ready < 0) forget_wakes(s); /* a lane goes first; the wake-up stays for the next wait */
    return true;
}

void exo_lane_set_wait(exo_lane_set *s, exo_lane *const *lanes, size_t n, uint32_t spin_us,
                       uint64_t deadline_us, int *ready) {
    EXO_ASSERT(n <= EXO_LANE_SET_MAX);
    *ready = -1;
    for (size_t k = 0; k < n && *ready < 0; k++) {
        size_t i = (s->turn + k) % n;
        if (lanes[i] != NULL && is_ready(lanes[i])) *ready = (int)i;
    }
    uint64_t now_us = exo_now_us(), spin_until_us = now_us + spin_us;
    for (bool over = *ready >= 0; !over; now_us = exo_now_us()) {
        bool spins = now_us < spin_until_us;
        over = poll_once(s, lanes, n, spins ? 0 : poll_ms(now_us, deadline_us), ready) ||
               now_us >= deadline_us;
    }
    if (*ready >= 0) s->turn = (size_t)*ready + 1;
}
