/* link.c - one link from connected to closed: TLS, hello, frames, pings, deadlines, goodbye.
 *
 * All bytes enter through on_read and leave through flush; every failure goes through
 * exo_link_fail, which puts the peer's name in front of the reason.  Knows nothing of what frames
 * mean beyond HELLO, PING, PONG and BYE.
 * A link never ends inside a call-back of its owner: handles close on the next turn of the loop,
 * and on_close comes from there. */
#define _POSIX_C_SOURCE 200809L
#include "net/link_impl.h"

#include "base/clock.h"
#include "base/mem.h"
#include "net/hello.h"

#include <stdio.h>
#include <string.h>

typedef struct {
    uv_write_t req;
    exo_link *link;
    exo_buf bytes;
} link_write;

static void finish_ending(exo_link *l);

/* ---- ending ---- */

void exo_link_handle_closed(uv_handle_t *h) {
    exo_link *l = h->data;
    if (--l->n_handles == 0) exo_link_gone(l);
}

void exo_link_cut(exo_link *l) {
    if (l->state == LINK_CLOSED) return;
    l->state = LINK_CLOSED;
    exo_link_forget_dial(l);
    if (!uv_is_closing((uv_handle_t *)&l->tcp)) {
        uv_close((uv_handle_t *)&l->tcp, exo_link_handle_closed);
    }
    uv_close((uv_handle_t *)&l->timer, exo_link_handle_closed);
}

/* Whom a reason is about: "node laptop (0123456789abcdef) at 10.0.0.2:5678", or the address. */
static void name_peer(const exo_link *l, char *out, size_t cap) {
    if (l->peer.node_id[0] != '\0') {
        snprintf(out, cap, "node %s (%s) at %s", l->peer.name, l->peer.node_id, l->where);
    } else {
        snprintf(out, cap, "%s", l->where[0] != '\0' ? l->where : "a connection");
    }
}

static void note_end(exo_link *l, exo_status status, const char *why) {
    l->status = status;
    snprintf(l->why, sizeof l->why, "%s", why);
}

static exo_status flush(exo_link *l, exo_error *err);
static exo_status send_frame(exo_link *l, uint16_t type, uint64_t seq, const json_t *header,
                             exo_error *err);
static exo_status send_plain(exo_link *l, exo_error *err);

/* Last words, as far as the link has come: BYE, TLS goodbye, or only the alert in TLS's hands. */
static bool say_goodbye(exo_link *l, const char *why) {
    if (l->tls == NULL) return false;
    if (l->state > LINK_TLS) {
        json_t *bye = json_pack("{s:s}", "reason", why);
        if (bye != NULL) send_frame(l, EXO_MSG_BYE, ++l->seq, bye, NULL);
        json_decref(bye);
        exo_tls_goodbye(l->tls);
    }
    return flush(l, NULL) == EXO_OK;
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf);
static void offer_memory(uv_handle_t *h, size_t suggested, uv_buf_t *buf);

/* From here on only our last bytes go out; what comes in is read and dropped, because a socket
 * closed over unread bytes resets the connection and may take the reason with it. */
static void begin_ending(exo_link *l, bool say, const char *peer_hears) {
    bool detaching = l->state == LINK_DETACHING;
    if (!say || !say_goodbye(l, peer_hears)) {
        exo_link_cut(l);
        return;
    }
    if (detaching && uv_read_start((uv_stream_t *)&l->tcp, offer_memory, on_read) != 0) {
        exo_link_cut(l);
        return;
    }
    l->state = LINK_ENDING;
    exo_link_wait_anew(l);
    finish_ending(l);
}

void exo_link_fail(exo_link *l, bool say, exo_error *err) {
    if (l->state >= LINK_ENDING) return;
    char who[sizeof l->where + 128], said[EXO_ERROR_BYTES];
    memcpy(said, err->message, sizeof said);
    name_peer(l, who, sizeof who);
    exo_error_wrap(err, err->status, "%s", who);
    note_end(l, err->status, err->message);
    begin_ending(l, say, said);
}

void exo_link_close(exo_link *l, exo_status status, const char *why) {
    if (l->state >= LINK_ENDING) return;
    note_end(l, status, why);
    begin_ending(l, true, why);
}

static void on_shutdown(uv_shutdown_t *req, int status) {
    (void)status; /* the peer's end of stream or the tick ends it */
    (void)req;
}

static void finish_ending(exo_link *l) {
    if (l->n_writes > 0) return;
    if (uv_shutdown(&l->shutdown, (uv_stream_t *)&l->tcp, on_shutdown) != 0) exo_link_cut(l);
}

/* ---- bytes out ---- */

static void on_written(uv_write_t *req, int status) {
    link_write *w = (link_write *)req;
    exo_link *l = w->link;
    l->n_writes--;
    l->unsent_bytes -= w->bytes.n;
    exo_buf_finish(&w->bytes);
    exo_free(w);
    if (l->state == LINK_CLOSED) return;
    if (status < 0 && l->state == LINK_ENDING) {
        exo_link_cut(l);
    } else if (status < 0) {
        exo_error err;
        exo_error_set(&err, EXO_EPEER, "the connection broke: %s", uv_strerror(status));
        exo_link_fail(l, false, &err);
    } else if (l->state == LINK_ENDING) {
        finish_ending(l);
    } else if (l->state == LINK_DETACHING) {
        exo_link_try_detach(l);
    }
}

/* Hands bytes_take to the socket. */
static exo_status write_out(exo_link *l, exo_buf *bytes_take, exo_error *err) {
    if (bytes_take->n == 0) {
        exo_buf_finish(bytes_take);
        return EXO_OK;
    }
    link_write *w = exo_calloc(1, sizeof *w);
    if (w == NULL) {
        exo_buf_finish(bytes_take);
        return exo_error_set(err, EXO_ENOMEM, "no memory to send");
    }
    w->link = l;
    w->bytes = *bytes_take;
    uv_buf_t buf = uv_buf_init(w->bytes.data, (unsigned)w->bytes.n);
    int r = uv_write(&w->req, (uv_stream_t *)&l->tcp, &buf, 1, on_written);
    if (r != 0) {
        exo_buf_finish(&w->bytes);
        exo_free(w);
        return exo_error_set(err, EXO_EPEER, "the connection broke: %s", uv_strerror(r));
    }
    l->n_writes++;
    l->unsent_bytes += w->bytes.n;
    l->bytes_sent += w->bytes.n;
    l->sign_us = exo_now_us();
    return EXO_OK;
}

/* Sends what TLS has to say of its own. */
static exo_status flush(exo_link *l, exo_error *err) {
    exo_buf out = {0};
    exo_status st = exo_tls_drain(l->tls, &out, err);
    if (st != EXO_OK) {
        exo_buf_finish(&out);
        return st;
    }
    return write_out(l, &out, err);
}

static exo_status seal_out(exo_link *l, exo_buf *plain, exo_error *err) {
    exo_buf out = {0};
    exo_status st = exo_buf_ok(plain) ? exo_tls_seal(l->tls, plain->data, plain->n, &out, err)
                                      : exo_error_set(err, EXO_ENOMEM, "no memory to send");
    if (st == EXO_OK) {
        st = write_out(l, &out, err);
    } else {
        exo_buf_finish(&out);
    }
    exo_buf_clear(plain);
    if (plain->cap > EXO_LINK_KEEP_BYTES) exo_buf_finish(plain);
    return st;
}

/* Sends the frame that stands in net->plain, behind those that waited. */
static exo_status send_plain(exo_link *l, exo_error *err) {
    exo_buf *plain = &l->net->plain;
    if (l->later.n == 0) return seal_out(l, plain, err);
    exo_buf_append(&l->later, plain->data, plain->n);
    exo_buf_clear(plain);
    return seal_out(l, &l->later, err);
}

exo_status exo_link_flush_later(exo_link *l, exo_error *err) {
    return l->later.n > 0 ? seal_out(l, &l->later, err) : EXO_OK;
}

static exo_status send_frame(exo_link *l, uint16_t type, uint64_t seq, const json_t *header,
                             exo_error *err) {
    exo_buf *plain = &l->net->plain;
    exo_buf_clear(plain);
    exo_status st = exo_frame_write_json(type, seq, header, plain, err);
    return st == EXO_OK ? send_plain(l, err) : st;
}

exo_status exo_link_put(exo_link *l, const exo_frame *f, exo_error *err) {
    exo_buf_clear(&l->net->plain);
    exo_status st = exo_frame_write_small(f, &l->net->plain, err);
    return st == EXO_OK ? send_plain(l, err) : st;
}

static exo_status check_sendable(const exo_link *l, exo_error *err) {
    if (l->state != LINK_OPEN) {
        return exo_error_set(err, EXO_EPEER, "the link to %s is not open", l->where);
    }
    if (l->unsent_bytes >= EXO_LINK_MAX_UNSENT) {
        return exo_error_set(err, EXO_EBUSY, "%zu bytes for node %s are still unsent",
                             l->unsent_bytes, l->peer.name);
    }
    return EXO_OK;
}

/* A frame that was encoded but not sent leaves a hole in the TLS stream: the link is lost. */
static exo_status lost(exo_link *l, exo_status st, exo_error *err) {
    if (st == EXO_OK) return st;
    exo_error copy = *err;
    exo_link_fail(l, false, &copy);
    return st;
}

/* What stands in net->plain waits, unless too much does. */
static exo_status put_off(exo_link *l, exo_error *err) {
    if (l->later.n + l->net->plain.n > EXO_LINK_LATER_BYTES) return send_plain(l, err);
    exo_buf_append(&l->later, l->net->plain.data, l->net->plain.n);
    exo_buf_clear(&l->net->plain);
    return exo_buf_ok(&l->later) ? EXO_OK : exo_error_set(err, EXO_ENOMEM, "no memory to send");
}

static exo_status queue_frame(exo_link *l, const exo_frame *f, bool later, exo_error *err) {
    exo_error mine;
    if (err == NULL) err = &mine;
    exo_status st = check_sendable(l, err);
    if (st != EXO_OK) return st;
    exo_buf_clear(&l->net->plain);
    st = exo_frame_write_small(f, &l->net->plain, err);
    return st == EXO_OK ? lost(l, later ? put_off(l, err) : send_plain(l, err), err) : st;
}

static exo_status queue_json(exo_link *l, uint16_t type, const json_t *header, bool later,
                             exo_error *err) {
    exo_error mine;
    if (err == NULL) err = &mine;
    exo_status st = check_sendable(l, err);
    if (st != EXO_OK) return st;
    exo_buf_clear(&l->net->plain);
    st = exo_frame_write_json(type, l->seq + 1, header, &l->net->plain, err);
    if (st != EXO_OK) return st;
    l->seq++;
    return lost(l, later ? put_off(l, err) : send_plain(l, err), err);
}

exo_status exo_link_send(exo_link *l, const exo_frame *f, exo_error *err) {
    return queue_frame(l, f, false, err);
}

exo_status exo_link_send_later(exo_link *l, const exo_frame *f, exo_error *err) {
    return queue_frame(l, f, true, err);
}

exo_status exo_link_send_json(exo_link *l, uint16_t type, const json_t *header, exo_error *err) {
    return queue_json(l, type, header, false, err);
}

exo_status exo_link_send_json_later(exo_link *l, uint16_t type, const json_t *header,
                                    exo_error *err) {
    return queue_json(l, type, header, true, err);
}

/* ---- frames in ---- */

static exo_status take_bye(const exo_frame *f, exo_error *err) {
    json_t *bye = NULL;
    char reason[EXO_ERROR_BYTES] = "no reason given";
    if (exo_frame_json(f, &bye, NULL) == EXO_OK) {
        const char *text = json_string_value(json_object_get(bye, "reason"));
        if (text != NULL) exo_hello_text(text, reason, sizeof reason);
    }
    json_decref(bye);
    return exo_error_set(err, EXO_EPEER, "it closed the link: %s", reason);
}

static exo_status send_hello(exo_link *l, exo_error *err);

static exo_status take_hello(exo_link *l, const exo_frame *f, exo_error *err) {
    if (l->state != LINK_HELLO) return exo_error_set(err, EXO_EFORMAT, "a second hello frame");
    json_t *hello;
    exo_status st = exo_frame_json(f, &hello, err);
    if (st != EXO_OK) return st;
    exo_addr seen = {0};
    struct sockaddr_storage sa;
    int len = sizeof sa;
    if (uv_tcp_getpeername(&l->tcp, (struct sockaddr *)&sa, &len) == 0) {
        exo_addr_of((struct sockaddr *)&sa, &seen);
    }
    st = exo_hello_check(hello, l->exporter, !l->outgoing, seen.host, &l->peer, err);
    if (st == EXO_OK && l->net->admit != NULL && exo_link_guest(l) == NULL) {
        st = l->net->admit(l->net->ud, &l->peer, err);
    }
    if (st == EXO_OK && strcmp(l->peer.node_id, exo_identity_node_id(l->net->identity)) == 0) {
        l->peer.node_id[0] = '\0'; /* the reason names the address, not ourselves */
        st = exo_error_set(err, EXO_EINVAL, "this is our own node");
    }
    if (st == EXO_OK && !l->outgoing) st = send_hello(l, err); /* who is refused never opens */
    if (st != EXO_OK) {
        l->peer.hello = NULL;
        json_decref(hello);
        return st;
    }
    l->state = LINK_OPEN;
    exo_link_wait_anew(l);
    exo_link_set_half_open(l, false);
    exo_link_callbacks(l)->on_open(l->net->ud, l, &l->peer, l->outgoing);
    return EXO_OK;
}

static exo_status take_frame(exo_link *l, const exo_frame *f, exo_error *err) {
    if (f->type == EXO_MSG_BYE) return take_bye(f, err);
    if (f->type == EXO_MSG_HELLO) return take_hello(l, f, err);
    if (l->state == LINK_HELLO) {
        return exo_error_set(err, EXO_EFORMAT, "a frame of type %u came before the hello", f->type);
    }
    if (f->type == EXO_MSG_PING) return exo_link_take_ping(l, f, err);
    if (f->type == EXO_MSG_PONG) {
        exo_link_take_pong(l, f->seq);
    } else if (exo_link_guest(l) != NULL && f->type != EXO_MSG_JOIN) {
        return exo_error_set(err, EXO_EFORMAT, "a frame of type %u on a link for joining", f->type);
    } else {
        exo_link_callbacks(l)->on_frame(l->net->ud, l, f);
    }
    return EXO_OK;
}

/* All whole frames in l->in, until one of them ends or detaches the link. */
static exo_status take_frames(exo_link *l, exo_error *err) {
    size_t off = 0, used = 0;
    exo_status st = EXO_OK;
    l->in_frames = true;
    do {
        exo_frame f;
        const uint8_t *at = (const uint8_t *)exo_buf_str(&l->in) + off;
        st = exo_frame_parse(at, l->in.n - off, &f, &used, err);
        off += used;
        if (st == EXO_OK && used > 0) st = take_frame(l, &f, err);
    } while (st == EXO_OK && used > 0 && (l->state == LINK_HELLO || l->state == LINK_OPEN));
    l->in_frames = false;
    exo_buf_drop_front(&l->in, off);
    if (l->in.n == 0 && l->in.cap > EXO_LINK_KEEP_BYTES) exo_buf_finish(&l->in);
    if (st == EXO_OK && l->state == LINK_HELLO && l->in.n > EXO_LINK_MAX_HELLO) {
        return exo_error_set(err, EXO_EFORMAT, "its hello is longer than %u bytes",
                             EXO_LINK_MAX_HELLO);
    }
    return st;
}

/* ---- bytes in ---- */

static exo_status send_hello(exo_link *l, exo_error *err) {
    const exo_net *n = l->net;
    exo_hello_self self = {.identity = n->identity,
                           .name = n->name,
                           .listen = n->listen[0] != '\0' ? n->listen : NULL,
                           .extra = n->hello_extra};
    json_t *hello;
    exo_status st = exo_hello_make(&self, l->exporter, l->outgoing, &hello, err);
    if (st != EXO_OK) return st;
    st = send_frame(l, EXO_MSG_HELLO, ++l->seq, hello, err);
    json_decref(hello);
    return st;
}

static exo_status shake_hands(exo_link *l, exo_error *err) {
    bool done;
    exo_status st = exo_tls_handshake(l->tls, &done, err);
    if (st == EXO_OK) st = flush(l, err);
    if (st != EXO_OK || !done) return st;
    l->state = LINK_HELLO;
    if (exo_link_guest(l) != NULL && l->net->guest_events.on_open == NULL) {
        return exo_error_set(err, EXO_EAUTH, "join codes are not taken here");
    }
    st = exo_tls_exporter(l->tls, l->exporter, err);
    return st == EXO_OK && l->outgoing ? send_hello(l, err) : st;
}

static exo_status take_bytes(exo_link *l, const char *bytes, size_t n, exo_error *err) {
    exo_status st = exo_tls_feed(l->tls, bytes, n, err);
    if (st == EXO_OK && l->state == LINK_TLS) st = shake_hands(l, err);
    if (st != EXO_OK || l->state == LINK_TLS) return st;
    bool closed;
    st = exo_tls_read(l->tls, &l->in, &closed, err);
    if (st == EXO_OK) st = take_frames(l, err);
    /* What waits takes the acknowledgement along, which would leave by itself otherwise. */
    if (st == EXO_OK && l->state == LINK_OPEN && !l->outgoing) st = exo_link_flush_later(l, err);
    if (st == EXO_OK && closed && l->state < LINK_DETACHING) {
        st = exo_error_set(err, EXO_EPEER, "it closed the link without a reason");
    }
    return st;
}

static const char *const stage[] = {
    [LINK_RESOLVE] = "name lookup", [LINK_CONNECT] = "connecting",
    [LINK_TLS] = "TLS handshake",   [LINK_HELLO] = "waiting for its hello",
    [LINK_OPEN] = "link open",      [LINK_DETACHING] = "becoming a lane",
    [LINK_ENDING] = "closing",      [LINK_CLOSED] = "closed",
};

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf) {
    exo_link *l = s->data;
    exo_error err;
    if (n == 0 || l->state == LINK_CLOSED) return;
    if (l->state == LINK_ENDING) {
        if (n < 0) exo_link_cut(l);
        return;
    }
    if (n < 0) {
        exo_error_set(&err, EXO_EPEER, "the connection ended (%s)%s%s", stage[l->state],
                      n == UV_EOF ? "" : ": ", n == UV_EOF ? "" : uv_strerror((int)n));
        exo_link_fail(l, false, &err);
        return;
    }
    l->bytes_received += (uint64_t)n;
    if (l->state == LINK_OPEN) exo_link_wait_anew(l);
    exo_status st = take_bytes(l, buf->base, (size_t)n, &err);
    if (st != EXO_OK) {
        exo_link_fail(l, st != EXO_EPEER, &err);
    } else if (l->state == LINK_DETACHING) {
        exo_link_try_detach(l);
    }
}

static void offer_memory(uv_handle_t *h, size_t suggested, uv_buf_t *buf) {
    (void)suggested;
    exo_net *n = ((exo_link *)h->data)->net;
    *buf = uv_buf_init(n->read_buf, sizeof n->read_buf);
}

/* ---- time ---- */

void exo_link_wait_anew(exo_link *l) { l->since_us = exo_now_us(); }

uint32_t exo_link_waited_ms(const exo_link *l) {
    return (uint32_t)((exo_now_us() - l->since_us) / 1000);
}

static void take_open_tick(exo_link *l, uint32_t waited_ms) {
    exo_error err;
    exo_status st = EXO_OK;
    if (exo_link_quiet_ms(l) >= EXO_LINK_LOST_MS) {
        st = exo_error_set(&err, EXO_ETIMEDOUT, "nothing was heard or acknowledged for %d ms",
                           EXO_LINK_LOST_MS);
    } else if (waited_ms >= EXO_LINK_SILENT_MS) {
        st = exo_error_set(&err, EXO_ETIMEDOUT, "nothing was heard for %d ms", EXO_LINK_SILENT_MS);
    } else {
        st = exo_link_ping(l, &err);
    }
    if (st != EXO_OK) exo_link_fail(l, false, &err);
}

static void take_tick(exo_link *l) {
    exo_error err;
    uint32_t waited_ms = exo_link_waited_ms(l);
    if (l->state < LINK_OPEN && waited_ms >= EXO_LINK_OPEN_MS) {
        exo_error_set(&err, EXO_ETIMEDOUT, "no answer within %d ms (%s)", EXO_LINK_OPEN_MS,
                      stage[l->state]);
        exo_link_fail(l, false, &err);
    } else if (l->state == LINK_OPEN) {
        take_open_tick(l, waited_ms);
    } else if (l->state == LINK_DETACHING && waited_ms >= EXO_LINK_DETACH_MS) {
        exo_error_set(&err, EXO_ETIMEDOUT, "queued bytes did not leave within %d ms",
                      EXO_LINK_DETACH_MS);
        exo_link_fail(l, false, &err);
    } else if (l->state == LINK_ENDING && waited_ms >= EXO_LINK_LINGER_MS) {
        exo_link_cut(l);
    }
}

static void on_tick(uv_timer_t *t);

static void set_timer(exo_link *l) {
    uint32_t ms = l->state == LINK_OPEN ? exo_link_next_tick_ms(l) : EXO_LINK_PING_MS;
    l->tick_us = exo_now_us() + ms * 1000;
    uv_timer_start(&l->timer, on_tick, ms, 0);
}

static void on_tick(uv_timer_t *t) {
    exo_link *l = t->data;
    uint64_t now = exo_now_us();
    if (now > l->tick_us + EXO_LINK_LATE_MS * 1000) {
        l->since_us += now - l->tick_us;
        if (l->since_us > now) l->since_us = now; /* bytes came meanwhile */
    }
    take_tick(l);
    if (l->state != LINK_CLOSED) set_timer(l);
}

void exo_link_start_clock(exo_link *l) {
    exo_link_wait_anew(l);
    set_timer(l);
}

void exo_link_begin(exo_link *l) {
    exo_error err;
    l->state = LINK_TLS;
    if (!l->outgoing) exo_link_start_clock(l);
    uv_tcp_nodelay(&l->tcp, 1);
    int r = uv_read_start((uv_stream_t *)&l->tcp, offer_memory, on_read);
    exo_status st = r == 0 ? EXO_OK : exo_error_set(&err, EXO_EIO, "%s", uv_strerror(r));
    if (st == EXO_OK) st = exo_tls_create(l->net->tls, !l->outgoing, &l->tls, &err);
    if (st == EXO_OK) st = shake_hands(l, &err);
    if (st != EXO_OK) exo_link_fail(l, false, &err);
}

/* ---- plain getters ---- */

const char *exo_link_guest(const exo_link *l) {
    return l->tls != NULL ? exo_tls_guest(l->tls) : NULL;
}

const exo_link_events *exo_link_callbacks(const exo_link *l) {
    bool guest = exo_link_guest(l) != NULL && l->net->guest_events.on_open != NULL;
    return guest ? &l->net->guest_events : &l->net->events;
}

void *exo_link_ud(const exo_link *l) { return l->ud; }
void exo_link_set_ud(exo_link *l, void *ud) { l->ud = ud; }
const exo_peer_info *exo_link_peer(const exo_link *l) { return &l->peer; }
uint64_t exo_link_bytes_sent(const exo_link *l) { return l->bytes_sent; }
uint64_t exo_link_bytes_received(const exo_link *l) { return l->bytes_received; }
