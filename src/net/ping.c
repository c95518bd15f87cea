/* ping.c - signs of life on an open link, and what they tell of the way there.
 *
 * The side that dialled sends something at every tick; TCP acknowledges it, which shows that the
 * machine is there.  One ping in a second wants an answer: that shows that the program runs, and
 * takes the time.  Other frames are signs of life as well and save the ping.  The other side
 * pings when nothing came of what was due.  Whoever hears nothing at all, no acknowledgement
 * either, asks again and again before the peer is given up: many losses in a row are needed to
 * take a machine for dead that is there.  So an idle link carries about 1 kB/s, both
 * directions and all headers together, where pings and answers both ways took 2.6.
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

#define SECOND_US       (1000000u - EXO_LINK_PING_MS * 500u) /* the tick nearest to it */
#define EAGER_TICKS     8 /* a new link is measured at every tick */
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

/* The side that was dialled hears something at every tick of the other: it looks when something is
 * missing.  The side that dialled has acknowledgements, and looks when it pings. */
uint32_t exo_link_next_tick_ms(const exo_link *l) {
    uint32_t waited = exo_link_waited_ms(l), quiet = exo_link_quiet_ms(l);
    uint32_t ms = quiet >= EXO_LINK_DOUBT_MS ? EXO_LINK_ASK_MS : EXO_LINK_PING_MS;
    if (quiet < EXO_LINK_LOST_MS && EXO_LINK_LOST_MS - quiet < ms) ms = EXO_LINK_LOST_MS - quiet;
    if (!l->outgoing && waited < EXO_LINK_DOUBT_MS && EXO_LINK_DOUBT_MS - waited < ms) {
        ms = EXO_LINK_DOUBT_MS - waited;
    }
    return ms;
}

exo_status exo_link_ping(exo_link *l, exo_error *err) {
    uint64_t now = exo_now_us();
    bool sent = l->bytes_sent != l->ticked_bytes, second = now - l->second_us >= SECOND_US;
    bool ask = second || l->n_ticks < EAGER_TICKS;
    bool doubt = exo_link_waited_ms(l) > 2 * EXO_LINK_PING_MS && l->ping_us != 0;
    bool silent = exo_link_waited_ms(l) >= EXO_LINK_DOUBT_MS;
    uint8_t body[MEASURED_BYTES];
    exo_status st = EXO_OK;
    if (second) {
        count_segments(l);
        l->second_us = now;
    }
    l->n_ticks++;
    if (l->unsent_bytes >= EXO_LINK_MAX_UNSENT) return EXO_OK; /* the peer has plenty to read */
    if (l->outgoing ? ask || doubt || !sent : silent) {
        bool answer = l->outgoing ? ask || doubt : true;
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
        st = exo_link_put(l, &f, err);
    }
    l->ticked_bytes = l->bytes_sent;
    return st;
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
