/* ping.c - signs of life on an open link, and what they tell of the way there.
 *
 * The side that dialled sends something every EXO_LINK_PING_MS; TCP acknowledges it, which shows
 * that the machine is there.  One ping in a second wants an answer: that shows that the program
 * runs, and takes the time.  Other frames are signs of life as well and save the ping; those that
 * may wait leave with it, or with the acknowledgement of it.  The other side pings when nothing
 * came of what was due.  Whoever hears nothing at all, no acknowledgement either, asks again and
 * again before the peer is given up: many losses in a row are needed to take a machine for dead
 * that is there.
 *
 * A ping that wants an answer tells the peer what was measured: {rtt_us u32, jitter_us u32},
 * little-endian, in its body. */
#define _DEFAULT_SOURCE
#include "net/link_impl.h"

#include "base/clock.h"
#include "base/le.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define SECOND_MS       (1000u - EXO_LINK_PING_MS / 2) /* the sign of life nearest to it */
#define SECOND_LATE_MS  (1000u + EXO_LINK_PING_MS / 2) /* other frames left all the time */
#define EARLY_MS        5u                             /* a timer may be, by rounding */
#define EAGER_SIGNS     8                              /* a new link is measured at every one */
#define WAIT_LONG_US    500000u
#define KEPT_SEGMENTS   2000.0 /* beyond, old segments count less and less */
#define ENOUGH_SEGMENTS 100.0  /* below, a loss says nothing */
#define MEASURED_BYTES  8

static void count_segments(exo_link *l) {
    exo_segments s;
    uv_os_fd_t fd;
    if (uv_fileno((const uv_handle_t *)&l->tcp, &fd) != 0 || !exo_segments_of(fd, &s)) return;
    l->n_sent += (double)(s.n_sent - l->segments.n_sent);
    l->n_again += (double)(s.n_again - l->segments.n_again);
    l->segments = s;
    exo_link_note_loss(l, 0, 0);
}

void exo_link_note_loss(exo_link *l, uint32_t n_sent, uint32_t n_lost) {
    l->n_sent += n_sent;
    l->n_again += n_lost;
    if (l->n_sent < KEPT_SEGMENTS) return;
    l->n_sent /= 2;
    l->n_again /= 2;
}

static uint32_t to_us(double ms) { return ms < 4e6 ? (uint32_t)(ms * 1000) : UINT32_MAX; }

uint32_t exo_link_quiet_ms(const exo_link *l) {
    uint32_t waited = exo_link_waited_ms(l), unacknowledged = exo_link_unacknowledged_ms(l);
    return waited < unacknowledged ? waited : unacknowledged;
}

static uint32_t since_ms(uint64_t us) { return (uint32_t)((exo_now_us() - us) / 1000); }

/* The time from `passed` to `limit`, if that comes before *ms. */
static void sooner(uint32_t *ms, uint32_t limit, uint32_t passed) {
    uint32_t left = passed < limit ? limit - passed : 0;
    if (left < *ms) *ms = left;
}

/* The side that was dialled hears something with every sign of life of the other: it looks when
 * one is missing.  The side that dialled looks when an acknowledgement is. */
uint32_t exo_link_next_tick_ms(const exo_link *l) {
    uint32_t waited = exo_link_waited_ms(l), quiet = exo_link_quiet_ms(l), ms = EXO_LINK_PING_MS;
    if (l->outgoing) {
        sooner(&ms, EXO_LINK_PING_MS, since_ms(l->sign_us));
        sooner(&ms, SECOND_LATE_MS, since_ms(l->second_us));
    } else if (waited < EXO_LINK_DOUBT_MS) {
        sooner(&ms, EXO_LINK_DOUBT_MS, waited);
    }
    if (quiet >= EXO_LINK_DOUBT_MS) {
        sooner(&ms, EXO_LINK_ASK_MS, 0);
    } else if (quiet > 0) {
        sooner(&ms, EXO_LINK_DOUBT_MS, quiet);
    }
    if (quiet < EXO_LINK_LOST_MS) sooner(&ms, EXO_LINK_LOST_MS, quiet);
    return ms > 0 ? ms : 1;
}

static exo_status send_ping(exo_link *l, bool answer, exo_error *err) {
    uint8_t body[MEASURED_BYTES];
    exo_frame f = {.type = EXO_MSG_PING, .flags = answer ? 0 : EXO_FRAME_NO_ANSWER};
    if (answer && l->ping_us == 0) {
        l->ping_us = exo_now_us();
        l->ping_seq++;
    }
    f.seq = l->ping_seq;
    if (answer && l->outgoing && l->rtt_ms > 0) {
        exo_put_u32(body, to_us(l->rtt_ms));
        exo_put_u32(body + 4, to_us(l->jitter_ms));
        f.body = body;
        f.body_bytes = sizeof body;
    }
    return exo_link_put(l, &f, err);
}

exo_status exo_link_ping(exo_link *l, exo_error *err) {
    uint32_t waited = exo_link_waited_ms(l);
    bool second = since_ms(l->second_us) >= SECOND_MS;
    bool due = since_ms(l->sign_us) + EARLY_MS >= EXO_LINK_PING_MS;
    bool late = since_ms(l->second_us) + EARLY_MS >= SECOND_LATE_MS;
    bool doubt = exo_link_quiet_ms(l) >= EXO_LINK_DOUBT_MS;
    bool ask = waited > 2 * EXO_LINK_PING_MS && l->ping_us != 0;
    if (l->outgoing && !due && !late && !doubt) return EXO_OK; /* only a look */
    if (l->outgoing && (second || l->n_signs < EAGER_SIGNS)) ask = true;
    if (second) {
        count_segments(l);
        l->second_us = exo_now_us();
    }
    l->n_signs++;
    l->sign_us = exo_now_us();
    if (l->unsent_bytes >= EXO_LINK_MAX_UNSENT) return EXO_OK; /* the peer has plenty to read */
    if (!l->outgoing && waited >= EXO_LINK_DOUBT_MS) return send_ping(l, true, err);
    if (ask && l->outgoing) return send_ping(l, true, err);
    if (l->later.n > 0) return exo_link_flush_later(l, err);
    return l->outgoing ? send_ping(l, false, err) : EXO_OK;
}

exo_status exo_link_take_ping(exo_link *l, const exo_frame *f, exo_error *err) {
    if (!l->outgoing && f->body_bytes == MEASURED_BYTES) {
        l->rtt_ms = exo_get_u32(f->body) / 1000.0;
        l->jitter_ms = exo_get_u32(f->body + 4) / 1000.0;
    }
    bool reads = l->unsent_bytes < EXO_LINK_MAX_UNSENT; /* else it has enough from us */
    if ((f->flags & EXO_FRAME_NO_ANSWER) != 0 || !reads) return EXO_OK;
    exo_frame pong = {.type = EXO_MSG_PONG, .seq = f->seq};
    return exo_link_put(l, &pong, err);
}

/* The middle one of n times, which come out in order. */
static float middle(float *ms, size_t n) {
    for (size_t i = 1; i < n; i++) {
        float x = ms[i];
        size_t k = i;
        for (; k > 0 && ms[k - 1] > x; k--) ms[k] = ms[k - 1];
        ms[k] = x;
    }
    return ms[n / 2];
}

/* Middles, not means: a segment that TCP had to send again says 200 ms more, and nothing of the
 * way. */
static void measure(exo_link *l) {
    float ms[EXO_LINK_TIMES];
    size_t n = l->n_times < EXO_LINK_TIMES ? l->n_times : EXO_LINK_TIMES;
    memcpy(ms, l->times_ms, n * sizeof *ms);
    float rtt = middle(ms, n);
    for (size_t i = 0; i < n; i++) ms[i] = fabsf(l->times_ms[i] - rtt);
    l->rtt_ms = rtt > 0.001f ? (double)rtt : 0.001;
    l->jitter_ms = (double)middle(ms, n);
}

void exo_link_take_pong(exo_link *l, uint64_t seq) {
    if (seq != l->ping_seq || l->ping_us == 0) return;
    l->times_ms[l->n_times++ % EXO_LINK_TIMES] = (float)(exo_now_us() - l->ping_us) / 1000;
    l->ping_us = 0;
    measure(l);
}

double exo_link_rtt_ms(const exo_link *l) { return l->rtt_ms; }

exo_link_quality exo_link_measured(const exo_link *l) {
    bool known = l->rtt_ms > 0;
    return (exo_link_quality){.rtt_ms = known ? l->rtt_ms : NAN,
                              .jitter_ms = known ? l->jitter_ms : NAN,
                              .loss = l->n_sent >= ENOUGH_SEGMENTS ? fmin(l->n_again / l->n_sent, 1)
                                                                   : NAN,
                              .waits = l->ping_us != 0 && exo_now_us() - l->ping_us > WAIT_LONG_US};
}

void exo_link_hosts(const exo_link *l, char ours[64], char theirs[64]) {
    struct sockaddr_storage sa;
    int n = sizeof sa;
    exo_addr a = {0};
    if (uv_tcp_getsockname(&l->tcp, (struct sockaddr *)&sa, &n) == 0) {
        exo_addr_of((struct sockaddr *)&sa, &a);
    }
    snprintf(ours, 64, "%s", a.host);
    a = (exo_addr){0};
    n = sizeof sa;
    if (uv_tcp_getpeername(&l->tcp, (struct sockaddr *)&sa, &n) == 0) {
        exo_addr_of((struct sockaddr *)&sa, &a);
    }
    snprintf(theirs, 64, "%s", a.host);
}
