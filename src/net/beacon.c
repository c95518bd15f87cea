/* beacon.c - sockets and timing of the UDP beacon.
 *
 * Four sockets: one per family on the beacon port, shared with other nodes of this machine, that
 * hears what is sent to everyone; and one per family with a port of its own, that sends and gets
 * answers.  When interfaces change all four are made anew. */
#define _POSIX_C_SOURCE 200809L
#include "net/beacon.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/addr.h"

#include <stdio.h>
#include <string.h>

#define REFRESH_MS     2000u /* how often interfaces are looked at */
#define HEAR_PER_S     1000u /* datagrams judged; more are dropped unread */
#define REPLIES_PER_S  50u
#define MAX_ASKED      64
#define ASK_TIMEOUT_US 5000000u

static const uint32_t burst_ms[] = {0, 60, 150, 350, 800, 1500}; /* after its begin */
enum { N_BURST = sizeof burst_ms / sizeof *burst_ms };
enum { HEAR_4, HEAR_6, SEND_4, SEND_6, N_SOCKETS };

typedef struct {
    uv_udp_t udp[N_SOCKETS];
    bool good[N_SOCKETS];
    unsigned n_handles;
    exo_beacon *owner; /* NULL: replaced by newer ones */
} sockets;

typedef struct {
    uint64_t nonce, sent_us;
} asked;

struct exo_beacon {
    exo_beacon_desc d;
    char only_host[64];
    exo_beacon_msg self;
    sockets *now;
    unsigned n_sockets; /* sets of sockets that are open or closing */
    uv_timer_t timer;
    bool timer_open;
    exo_beacon_interface interfaces[EXO_MAX_INTERFACES];
    size_t n_interfaces;
    uint64_t interfaces_hash, refresh_at_ms;
    uint64_t burst_from_ms, next_at_ms;
    unsigned burst_step;
    uint32_t interval_ms;
    uint64_t second_ms; /* the second that the rates below count */
    uint32_t heard_in_second, replies_in_second;
    asked asks[MAX_ASKED];
    size_t next_ask;
    exo_beacon_stats stats;
    char buf[2048];
    bool closing;
    void (*done)(void *ud);
    void *done_ud;
};

static void schedule(exo_beacon *b);

/* ---- life of the sockets ---- */

static void end_if_closed(exo_beacon *b) {
    if (!b->closing || b->timer_open || b->n_sockets > 0) return;
    void (*done)(void *ud) = b->done;
    void *ud = b->done_ud;
    exo_free(b);
    if (done != NULL) done(ud);
}

static void on_udp_closed(uv_handle_t *h) {
    sockets *s = h->data;
    if (--s->n_handles > 0) return;
    exo_beacon *b = s->owner;
    exo_free(s);
    b->n_sockets--;
    end_if_closed(b);
}

static void close_sockets(exo_beacon *b) {
    if (b->now == NULL) return;
    for (int i = 0; i < N_SOCKETS; i++) {
        b->now->good[i] = false;
        uv_close((uv_handle_t *)&b->now->udp[i], on_udp_closed);
    }
    b->now = NULL;
}

static void offer_memory(uv_handle_t *h, size_t suggested, uv_buf_t *buf) {
    (void)suggested;
    exo_beacon *b = ((sockets *)h->data)->owner;
    *buf = uv_buf_init(b->buf, sizeof b->buf);
}

static void on_datagram(uv_udp_t *udp, ssize_t n, const uv_buf_t *buf, const struct sockaddr *from,
                        unsigned flags);

static int open_one(sockets *s, int which, uint16_t port) {
    uv_udp_t *udp = &s->udp[which];
    struct sockaddr_storage sa = {0};
    bool v6 = which == HEAR_6 || which == SEND_6, hears = which == HEAR_4 || which == HEAR_6;
    if (v6) {
        uv_ip6_addr("::", hears ? port : 0, (struct sockaddr_in6 *)&sa);
    } else {
        uv_ip4_addr("0.0.0.0", hears ? port : 0, (struct sockaddr_in *)&sa);
    }
    unsigned flags = (v6 ? UV_UDP_IPV6ONLY : 0u) | (hears ? UV_UDP_REUSEADDR : 0u);
    int r = uv_udp_bind(udp, (struct sockaddr *)&sa, flags);
    if (r == 0 && which == SEND_4) r = uv_udp_set_broadcast(udp, 1);
    if (r == 0) r = uv_udp_recv_start(udp, offer_memory, on_datagram);
    s->good[which] = r == 0;
    return r;
}

static void join_groups(exo_beacon *b) {
    for (size_t i = 0; i < b->n_interfaces; i++) {
        const exo_interface *f = &b->interfaces[i].interface;
        if (!b->interfaces[i].used || !f->multicast) continue;
        int which = f->v6 ? HEAR_6 : HEAR_4;
        if (!b->now->good[which]) continue;
        int r = uv_udp_set_membership(&b->now->udp[which],
                                      f->v6 ? EXO_BEACON_GROUP_V6 : EXO_BEACON_GROUP_V4, f->host,
                                      UV_JOIN_GROUP);
        if (r != 0 && r != UV_EADDRINUSE) {
            exo_debug("beacon: cannot join the group on %s: %s", f->name, uv_strerror(r));
        }
    }
}

/* One family may be missing on this machine; both is an error. */
static exo_status open_sockets(exo_beacon *b, exo_error *err) {
    sockets *s = exo_calloc(1, sizeof *s);
    if (s == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for the beacon");
    s->owner = b;
    int result[N_SOCKETS];
    for (int i = 0; i < N_SOCKETS; i++) {
        uv_udp_init(b->d.loop, &s->udp[i]);
        s->udp[i].data = s;
        s->n_handles++;
        result[i] = open_one(s, i, b->d.udp_port);
    }
    b->now = s;
    b->n_sockets++;
    join_groups(b);
    if (s->good[HEAR_4] || s->good[HEAR_6]) return EXO_OK;
    return exo_error_set(err, result[HEAR_4] == UV_EADDRINUSE ? EXO_EBUSY : EXO_EIO,
                         "cannot hear beacons on UDP port %u: %s", b->d.udp_port,
                         uv_strerror(result[HEAR_4]));
}

/* ---- interfaces ---- */

static bool is_used(const exo_beacon *b, const exo_interface *list, size_t n,
                    const exo_interface *f) {
    if (!exo_interface_usable(f) || (f->v6 ? b->d.no_v6 : b->d.no_v4)) return false;
    if (b->only_host[0] == '\0') return true;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(list[i].host, b->only_host) == 0) return list[i].index == f->index;
    }
    return false;
}

static void keep_counts(const exo_beacon *b, exo_beacon_interface *fresh) {
    for (size_t i = 0; i < b->n_interfaces; i++) {
        const exo_beacon_interface *old = &b->interfaces[i];
        if (strcmp(old->interface.host, fresh->interface.host) != 0 ||
            old->interface.index != fresh->interface.index) {
            continue;
        }
        fresh->n_sent = old->n_sent;
        fresh->n_heard = old->n_heard;
        fresh->n_own = old->n_own;
        fresh->send_error = old->send_error;
        return;
    }
}

/* True when interfaces are others than before. */
static bool look_at_interfaces(exo_beacon *b) {
    exo_interface list[EXO_MAX_INTERFACES];
    exo_beacon_interface fresh[EXO_MAX_INTERFACES];
    size_t n;
    uint64_t hash = 1;
    b->refresh_at_ms = exo_now_ms() + REFRESH_MS;
    if (exo_interfaces_list(list, EXO_MAX_INTERFACES, &n, NULL) != EXO_OK) return false;
    for (size_t i = 0; i < n; i++) {
        fresh[i] =
            (exo_beacon_interface){.interface = list[i], .used = is_used(b, list, n, &list[i])};
        keep_counts(b, &fresh[i]);
        hash = exo_hash64(list[i].host, strlen(list[i].host), hash);
        hash = exo_hash64(&fresh[i].used, sizeof fresh[i].used, hash + list[i].index);
    }
    memcpy(b->interfaces, fresh, n * sizeof *fresh);
    b->n_interfaces = n;
    bool changed = hash != b->interfaces_hash;
    b->interfaces_hash = hash;
    return changed;
}

/* ---- sending ---- */

static exo_status compose(exo_beacon *b, exo_beacon_kind kind, uint64_t nonce,
                          uint8_t out[EXO_BEACON_BYTES]) {
    exo_beacon_msg m = b->self;
    m.kind = kind;
    m.nonce = nonce;
    m.counter = ++b->self.counter;
    m.clock_ms = (uint64_t)(exo_unix_time() * 1000);
    if (kind == EXO_BEACON_QUERY) m = (exo_beacon_msg){.kind = kind, .run = m.run};
    return exo_beacon_write(&m, &b->d.keys, out, NULL);
}

static int send_to(exo_beacon *b, const struct sockaddr *to,
                   const uint8_t bytes[EXO_BEACON_BYTES]) {
    int which = to->sa_family == AF_INET6 ? SEND_6 : SEND_4;
    if (b->now == NULL || !b->now->good[which]) return UV_EBADF;
    uv_buf_t buf = uv_buf_init((char *)bytes, EXO_BEACON_BYTES);
    int r = uv_udp_try_send(&b->now->udp[which], &buf, 1, to);
    if (r > 0) b->stats.bytes_sent += (uint64_t)r;
    return r < 0 ? r : 0;
}

static void send_on(exo_beacon *b, exo_beacon_interface *i, const uint8_t bytes[EXO_BEACON_BYTES]) {
    const exo_interface *f = &i->interface;
    struct sockaddr_storage to = {0};
    int r = UV_EBADF;
    if (f->v6) {
        struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&to;
        uv_ip6_addr(EXO_BEACON_GROUP_V6, b->d.udp_port, v6);
        v6->sin6_scope_id = f->index;
        r = send_to(b, (struct sockaddr *)&to, bytes);
    } else {
        struct sockaddr_in *v4 = (struct sockaddr_in *)&to;
        if (f->multicast && b->now->good[SEND_4] &&
            uv_udp_set_multicast_interface(&b->now->udp[SEND_4], f->host) == 0) {
            uv_ip4_addr(EXO_BEACON_GROUP_V4, b->d.udp_port, v4);
            r = send_to(b, (struct sockaddr *)&to, bytes);
        }
        if (f->broadcast[0] != '\0') {
            uv_ip4_addr(f->broadcast, b->d.udp_port, v4);
            int second = send_to(b, (struct sockaddr *)&to, bytes);
            if (r != 0) r = second;
        }
    }
    i->send_error = r;
    if (r == 0) i->n_sent++;
}

static void send_everywhere(exo_beacon *b, exo_beacon_kind kind) {
    uint8_t bytes[EXO_BEACON_BYTES];
    if (b->now == NULL || compose(b, kind, 0, bytes) != EXO_OK) return;
    for (size_t i = 0; i < b->n_interfaces; i++) {
        if (b->interfaces[i].used) send_on(b, &b->interfaces[i], bytes);
    }
}

static void send_one(exo_beacon *b, exo_beacon_kind kind, uint64_t nonce,
                     const struct sockaddr *to) {
    uint8_t bytes[EXO_BEACON_BYTES];
    if (compose(b, kind, nonce, bytes) == EXO_OK) send_to(b, to, bytes);
}

static bool may_reply(exo_beacon *b) { return b->replies_in_second++ < REPLIES_PER_S; }

static bool address_of(const char *host, uint16_t port, struct sockaddr_storage *out) {
    return uv_ip4_addr(host, port, (struct sockaddr_in *)out) == 0 ||
           uv_ip6_addr(host, port, (struct sockaddr_in6 *)out) == 0;
}

void exo_beacon_tell(exo_beacon *b, const char *host, uint16_t udp_port) {
    struct sockaddr_storage to = {0};
    if (b->d.quiet || !may_reply(b) || !address_of(host, udp_port, &to)) return;
    send_one(b, EXO_BEACON_ANNOUNCE, 0, (struct sockaddr *)&to);
}

void exo_beacon_ask(exo_beacon *b, const char *host, uint16_t udp_port) {
    struct sockaddr_storage to = {0};
    asked a = {.sent_us = exo_now_us()};
    if (!address_of(host, udp_port, &to) || uv_random(NULL, NULL, &a.nonce, 8, 0, NULL) != 0) {
        return;
    }
    b->asks[b->next_ask++ % MAX_ASKED] = a;
    send_one(b, EXO_BEACON_ASK, a.nonce, (struct sockaddr *)&to);
}

void exo_beacon_query(exo_beacon *b) { send_everywhere(b, EXO_BEACON_QUERY); }

/* ---- hearing ---- */

static void count_second(exo_beacon *b) {
    uint64_t now = exo_now_ms();
    if (now - b->second_ms < 1000) return;
    b->second_ms = now;
    b->heard_in_second = b->replies_in_second = 0;
}

static exo_beacon_interface *interface_of(exo_beacon *b, const char *host) {
    bool v6 = strchr(host, ':') != NULL;
    for (size_t i = 0; i < b->n_interfaces; i++) {
        const exo_interface *f = &b->interfaces[i].interface;
        if (f->v6 == v6 && exo_interface_of(f, 1, host) != NULL) return &b->interfaces[i];
    }
    return NULL;
}

/* The time an answer took; 0 when we did not ask. */
static uint32_t take_answer(exo_beacon *b, uint64_t nonce) {
    uint64_t now = exo_now_us();
    for (size_t i = 0; i < MAX_ASKED; i++) {
        asked *a = &b->asks[i];
        if (a->sent_us == 0 || a->nonce != nonce || now - a->sent_us > ASK_TIMEOUT_US) continue;
        uint32_t us = (uint32_t)(now - a->sent_us);
        a->sent_us = 0;
        return us > 0 ? us : 1;
    }
    return 0;
}

static void take(exo_beacon *b, const exo_beacon_msg *m, exo_beacon_verdict verdict,
                 const struct sockaddr *from) {
    exo_addr a;
    exo_addr_of(from, &a);
    exo_beacon_heard h = {.msg = m, .verdict = verdict, .udp_port = a.port, .interface = ""};
    snprintf(h.host, sizeof h.host, "%s", a.host);
    exo_beacon_interface *i = interface_of(b, h.host);
    if (i != NULL) h.interface = i->interface.name;
    if (m->run == b->self.run) {
        if (i != NULL) i->n_own++;
        return;
    }
    if (i != NULL) i->n_heard++;
    if (m->kind == EXO_BEACON_QUERY) {
        if (!b->d.quiet && may_reply(b)) send_one(b, EXO_BEACON_ANNOUNCE, 0, from);
        return;
    }
    if (verdict == EXO_BEACON_OURS && m->kind == EXO_BEACON_ASK && !b->d.quiet && may_reply(b)) {
        send_one(b, EXO_BEACON_ANSWER, m->nonce, from);
    }
    if (verdict == EXO_BEACON_OURS && m->kind == EXO_BEACON_ANSWER) {
        h.rtt_us = take_answer(b, m->nonce);
    }
    b->d.on_heard(b->d.ud, &h);
}

static void on_datagram(uv_udp_t *udp, ssize_t n, const uv_buf_t *buf, const struct sockaddr *from,
                        unsigned flags) {
    exo_beacon *b = ((sockets *)udp->data)->owner;
    if (n <= 0 || from == NULL || b->closing) return;
    count_second(b);
    b->stats.bytes_heard += (uint64_t)n;
    if (b->heard_in_second++ >= HEAR_PER_S) {
        b->stats.n_dropped++;
        return;
    }
    exo_beacon_msg m;
    exo_beacon_verdict verdict;
    if ((flags & UV_UDP_PARTIAL) != 0 ||
        exo_beacon_read(buf->base, (size_t)n, &b->d.keys, &m, &verdict, NULL) != EXO_OK) {
        b->stats.n_garbage++;
        return;
    }
    b->stats.n_heard++;
    take(b, &m, verdict, from);
}

/* ---- time ---- */

static uint32_t usual_interval(const exo_beacon *b) {
    return (b->self.flags & EXO_BEACON_INVITES) != 0 ? EXO_BEACON_INVITE_MS : b->interval_ms;
}

static void announce(exo_beacon *b, uint64_t now) {
    if (!b->d.quiet) send_everywhere(b, EXO_BEACON_ANNOUNCE);
    if (b->burst_step + 1 < N_BURST) {
        b->burst_step++;
        b->next_at_ms = b->burst_from_ms + burst_ms[b->burst_step];
    } else { /* up to 10 % off, so that nodes started together drift apart */
        uint32_t usual = usual_interval(b);
        b->next_at_ms = now + usual - (uint32_t)((now + b->self.run) % (usual / 10));
    }
}

/* An IPv6 address that is a second old may still be tried out by the system, and sends nothing. */
static bool address_was_too_new(exo_beacon *b) {
    bool found = false;
    for (size_t i = 0; i < b->n_interfaces; i++) {
        if (b->interfaces[i].send_error != UV_EADDRNOTAVAIL) continue;
        b->interfaces[i].send_error = 0;
        found = true;
    }
    return found;
}

static void on_timer(uv_timer_t *t) {
    exo_beacon *b = t->data;
    uint64_t now = exo_now_ms();
    bool refresh = now >= b->refresh_at_ms;
    if (refresh && address_was_too_new(b)) b->next_at_ms = now;
    if (refresh && look_at_interfaces(b)) {
        exo_error err;
        close_sockets(b);
        if (open_sockets(b, &err) != EXO_OK) exo_warn("beacon: %s", err.message);
        exo_beacon_burst(b);
    }
    if (now >= b->next_at_ms) announce(b, now);
    schedule(b);
}

static void schedule(exo_beacon *b) {
    uint64_t now = exo_now_ms(), at = b->next_at_ms;
    if (b->refresh_at_ms < at) at = b->refresh_at_ms;
    uv_timer_start(&b->timer, on_timer, at > now ? at - now : 0, 0);
}

void exo_beacon_burst(exo_beacon *b) {
    b->burst_from_ms = b->next_at_ms = exo_now_ms();
    b->burst_step = 0;
    schedule(b);
}

/* ---- life ---- */

static void set_self(exo_beacon *b, const exo_beacon_msg *self) {
    b->self = *self;
    b->self.counter = 0;
    b->self.name[sizeof b->self.name - 1] = b->self.version[sizeof b->self.version - 1] = '\0';
}

static void on_timer_closed(uv_handle_t *h) {
    exo_beacon *b = h->data;
    b->timer_open = false;
    end_if_closed(b);
}

exo_status exo_beacon_create(const exo_beacon_desc *d, exo_beacon **out, exo_error *err) {
    *out = NULL;
    exo_beacon *b = exo_calloc(1, sizeof *b);
    if (b == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for the beacon");
    b->d = *d;
    if (d->udp_port == 0) b->d.udp_port = EXO_BEACON_PORT;
    if (d->only_host != NULL && !exo_addr_is_any(d->only_host)) {
        snprintf(b->only_host, sizeof b->only_host, "%s", d->only_host);
    }
    b->d.only_host = NULL;
    set_self(b, &d->self);
    b->interval_ms = EXO_BEACON_INTERVAL_MS;
    uv_timer_init(d->loop, &b->timer);
    b->timer.data = b;
    b->timer_open = true;
    look_at_interfaces(b);
    exo_status st = open_sockets(b, err);
    if (st != EXO_OK) {
        exo_beacon_close(b, NULL, NULL);
        return st;
    }
    exo_beacon_burst(b);
    *out = b;
    return EXO_OK;
}

void exo_beacon_close(exo_beacon *b, void (*done)(void *ud), void *ud) {
    b->closing = true;
    b->done = done;
    b->done_ud = ud;
    close_sockets(b);
    uv_close((uv_handle_t *)&b->timer, on_timer_closed);
}

void exo_beacon_set_keys(exo_beacon *b, const exo_beacon_keys *keys) {
    b->d.keys = *keys;
    exo_beacon_burst(b);
}

void exo_beacon_set_flags(exo_beacon *b, uint8_t flags) {
    if (b->self.flags == flags) return;
    b->self.flags = flags;
    exo_beacon_burst(b);
}

void exo_beacon_set_crowd(exo_beacon *b, size_t n_nodes, bool settled) {
    uint32_t usual = settled ? EXO_BEACON_SETTLED_MS : EXO_BEACON_INTERVAL_MS;
    uint32_t n = n_nodes < 10000 ? (uint32_t)n_nodes : 10000;
    uint32_t fair = n * EXO_BEACON_SHARE_MS;
    uint32_t before = b->interval_ms;
    b->interval_ms = fair > usual ? fair : usual;
    if (b->interval_ms >= before) return;
    uint64_t at = exo_now_ms() + b->interval_ms; /* somebody was lost: not later than that */
    if (at < b->next_at_ms) b->next_at_ms = at;
    schedule(b);
}

size_t exo_beacon_interfaces(const exo_beacon *b, const exo_beacon_interface **out) {
    *out = b->interfaces;
    return b->n_interfaces;
}

exo_beacon_stats exo_beacon_counts(const exo_beacon *b) {
    exo_beacon_stats s = b->stats;
    s.interval_ms = usual_interval(b);
    return s;
}
