/* join.c - one guest link that works out, of the several that may be tried.
 *
 * Nodes with an open join code say so in their beacon; each that is heard is dialled with the
 * code's key, and only the one that gave it out can answer. */
#define _DEFAULT_SOURCE
#include "node/join.h"

#include "base/clock.h"
#include "base/mem.h"
#include "net/addr.h"
#include "net/beacon.h"
#include "net/hello.h"
#include "net/invite.h"
#include "net/keyring.h"
#include "net/link.h"

#include <exo/version.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_TRIED    64
#define TICK_MS      250u
#define QUERY_MS     1000u
#define RETRY_MS     2000u
#define REFUSED_MS   1000u /* so long others may still answer after one refused */
#define MAX_PEERS    16
#define PEERS_FILE   "peers"
#define CONFIRM_NOTE "not joined"

typedef struct {
    char host_port[72];
    exo_link *link;
    uint64_t again_ms;
    bool given; /* by --peer or the QR code, not heard */
} try_at;

typedef struct {
    exo_join_desc d;
    uv_loop_t loop;
    uv_timer_t tick;
    uv_work_t work;
    exo_invite code;
    exo_identity *identity;
    exo_tls_ctx *tls;
    exo_net *net;
    exo_beacon *beacon;
    try_at tried[MAX_TRIED];
    size_t n_tried;
    exo_link *chosen; /* the one whose offer came first */
    char chosen_at[72];
    bool chosen_given;
    exo_join_offer offer;
    bool asking, said_yes, ending;
    size_t n_heard; /* beacons of whomever */
    uint64_t begin_ms, query_ms, refused_ms;
    exo_status status;
    exo_error err;
} joiner;

/* ---- ending ---- */

static void end(joiner *j, exo_status st) {
    if (j->ending) return;
    j->ending = true;
    j->status = st;
    uv_timer_stop(&j->tick);
    uv_close((uv_handle_t *)&j->tick, NULL);
    if (j->beacon != NULL) exo_beacon_close(j->beacon, NULL, NULL);
    if (j->net != NULL) exo_net_close(j->net, NULL, NULL);
    j->beacon = NULL;
    j->net = NULL;
}

static void end_with(joiner *j, exo_status st, const char *why) {
    if (!j->ending) exo_error_set(&j->err, st, "%s", why);
    end(j, st);
}

/* ---- storing ---- */

static exo_status set_key(void *ud, exo_keyring *k, exo_error *err) {
    return exo_keyring_welcome(k, ud, err);
}

/* Where beacons did not reach, the addresses that did are kept for the node. */
static void keep_addresses(const joiner *j, const json_t *peers) {
    char path[1200];
    if (!j->chosen_given) return;
    snprintf(path, sizeof path, "%s/" PEERS_FILE, j->d.data_dir);
    FILE *f = fopen(path, "a");
    if (f == NULL) return;
    fprintf(f, "# from exo join\n%s\n", j->chosen_at);
    size_t i;
    json_t *item;
    json_array_foreach((json_t *)peers, i, item) {
        exo_addr a;
        const char *text = json_string_value(item);
        if (i >= MAX_PEERS || text == NULL || exo_addr_parse(text, &a, NULL) != EXO_OK) continue;
        if (strpbrk(text, "\r\n#") == NULL) fprintf(f, "%s\n", text);
    }
    fclose(f);
}

static void take_welcome(joiner *j, json_t *m) {
    exo_status st = exo_keyring_change(j->d.data_dir, set_key, m, NULL, &j->err);
    if (st != EXO_OK) {
        end(j, st);
        return;
    }
    keep_addresses(j, json_object_get(m, "peers"));
    json_t *reply = json_pack("{s:s}", "op", "stored");
    if (reply != NULL) exo_link_send_json(j->chosen, EXO_MSG_JOIN, reply, NULL);
    json_decref(reply);
    end(j, EXO_OK);
}

/* ---- the person ---- */

static void ask_person(uv_work_t *w) {
    joiner *j = w->data;
    j->said_yes = j->d.confirm(j->d.ud, &j->offer);
}

static void person_answered(uv_work_t *w, int status) {
    joiner *j = w->data;
    (void)status;
    j->asking = false;
    if (j->ending) return;
    if (!j->said_yes) {
        end_with(j, EXO_ECANCELED, CONFIRM_NOTE);
        return;
    }
    json_t *m = json_pack("{s:s}", "op", "accept");
    exo_status st =
        m != NULL ? exo_link_send_json(j->chosen, EXO_MSG_JOIN, m, &j->err) : EXO_ENOMEM;
    json_decref(m);
    if (st != EXO_OK) end(j, st);
}

static void take_text(const json_t *m, const char *key, char *out, size_t cap) {
    const char *text = json_string_value(json_object_get(m, key));
    exo_hello_text(text != NULL ? text : "", out, cap);
}

static void take_offer(joiner *j, exo_link *l, const json_t *m) {
    if (j->chosen != NULL) return;
    j->chosen = l;
    const try_at *t = exo_link_ud(l);
    snprintf(j->chosen_at, sizeof j->chosen_at, "%s", t->host_port);
    j->chosen_given = t->given;
    take_text(m, "name", j->offer.name, sizeof j->offer.name);
    take_text(m, "namespace", j->offer.name_space, sizeof j->offer.name_space);
    const json_t *names = json_object_get(m, "nodes");
    size_t used = 0;
    j->offer.n_nodes = json_array_size(names);
    for (size_t i = 0; i < j->offer.n_nodes && used + 70 < sizeof j->offer.nodes; i++) {
        const char *name = json_string_value(json_array_get(names, i));
        char one[64];
        exo_hello_text(name != NULL ? name : "?", one, sizeof one);
        used += (size_t)snprintf(j->offer.nodes + used, sizeof j->offer.nodes - used, "%s%s",
                                 i > 0 ? ", " : "", one);
    }
    j->asking = true;
    j->work.data = j;
    if (uv_queue_work(&j->loop, &j->work, ask_person, person_answered) != 0) {
        j->asking = false;
        end_with(j, EXO_EIO, "cannot ask for confirmation");
    }
}

/* ---- links ---- */

static void on_open(void *ud, exo_link *l, const exo_peer_info *peer, bool outgoing) {
    (void)ud;
    (void)l;
    (void)peer;
    (void)outgoing; /* its offer comes next, or its refusal */
}

static void on_frame(void *ud, exo_link *l, const exo_frame *f) {
    joiner *j = ud;
    json_t *m = NULL;
    exo_error err;
    if (j->ending) return;
    if (exo_frame_json(f, &m, &err) != EXO_OK) {
        exo_link_close(l, EXO_EFORMAT, err.message);
        return;
    }
    const char *op = json_string_value(json_object_get(m, "op"));
    if (op != NULL && strcmp(op, "offer") == 0) {
        take_offer(j, l, m);
    } else if (op != NULL && strcmp(op, "welcome") == 0 && l == j->chosen && j->said_yes) {
        take_welcome(j, m);
    }
    json_decref(m);
}

/* A node that knows the code and says no ends the search; one that does not know it may just not
 * be the one. */
static void on_close(void *ud, exo_link *l, exo_status status, const char *why) {
    joiner *j = ud;
    try_at *t = exo_link_ud(l);
    t->link = NULL;
    t->again_ms = exo_now_ms() + RETRY_MS;
    if (j->ending || status == EXO_OK) return;
    if (l == j->chosen || strstr(why, "join code") != NULL) {
        exo_error_set(&j->err, status, "%s", why);
        if (l == j->chosen || status != EXO_EAUTH) {
            end(j, status);
        } else if (j->refused_ms == 0) {
            j->refused_ms = exo_now_ms();
        }
    } else if (j->err.message[0] == '\0') {
        exo_error_set(&j->err, status, "%s", why);
    }
}

static void dial(joiner *j, try_at *t) {
    exo_error err;
    if (exo_net_dial(j->net, t->host_port, t, &t->link, &err) == EXO_OK) return;
    t->again_ms = UINT64_MAX;
    if (j->err.message[0] == '\0') j->err = err;
}

static void add(joiner *j, const char *host_port, bool given) {
    for (size_t i = 0; i < j->n_tried; i++) {
        if (strcmp(j->tried[i].host_port, host_port) == 0) return;
    }
    if (j->n_tried >= MAX_TRIED || j->chosen != NULL) return;
    try_at *t = &j->tried[j->n_tried++];
    *t = (try_at){.given = given};
    snprintf(t->host_port, sizeof t->host_port, "%s", host_port);
    dial(j, t);
}

static void on_heard(void *ud, const exo_beacon_heard *h) {
    joiner *j = ud;
    char host_port[72];
    j->n_heard++;
    if (j->ending || (h->msg->flags & EXO_BEACON_INVITES) == 0) return;
    if (exo_addr_format(h->host, h->msg->port, host_port, sizeof host_port)) {
        add(j, host_port, false);
    }
}

/* ---- time ---- */

static void gave_up(joiner *j, uint32_t find_ms) {
    if (j->n_tried == 0) {
        exo_error_set(&j->err, EXO_ETIMEDOUT,
                      j->n_heard > 0 ? "devices were heard in %u s, but none gave out a join code: "
                                       "make one there (`exo invite`)"
                                     : "nobody was heard in %u s: is `exo` running where the code "
                                       "was made, on this network? Otherwise name it: --peer "
                                       "HOST:PORT",
                      find_ms / 1000);
    } else if (j->refused_ms == 0) {
        exo_error_wrap(&j->err, EXO_ETIMEDOUT, "no device answered to this join code in %u s",
                       find_ms / 1000);
    }
    end(j, j->err.status);
}

static void on_tick(uv_timer_t *timer) {
    joiner *j = timer->data;
    uint64_t now = exo_now_ms();
    uint32_t find_ms = j->d.find_ms != 0 ? j->d.find_ms : EXO_JOIN_FIND_MS;
    if (j->chosen != NULL) return; /* the other side has the deadline now */
    if (now - j->begin_ms >= find_ms || (j->refused_ms != 0 && now - j->refused_ms >= REFUSED_MS)) {
        gave_up(j, find_ms);
        return;
    }
    if (j->beacon != NULL && now - j->query_ms >= QUERY_MS) {
        j->query_ms = now;
        exo_beacon_query(j->beacon);
    }
    for (size_t i = 0; i < j->n_tried; i++) {
        if (j->tried[i].link == NULL && now >= j->tried[i].again_ms) dial(j, &j->tried[i]);
    }
}

/* ---- life ---- */

static exo_status begin(joiner *j, exo_error *err) {
    char host[64] = "exo";
    if (j->d.name == NULL) gethostname(host, sizeof host - 1);
    exo_net_desc nd = {.loop = &j->loop,
                       .tls = j->tls,
                       .identity = j->identity,
                       .name = j->d.name != NULL ? j->d.name : host,
                       .events = {on_open, on_frame, on_close},
                       .guest_events = {on_open, on_frame, on_close},
                       .ud = j};
    exo_status st = exo_net_create(&nd, &j->net, err);
    if (st != EXO_OK) return st;
    exo_beacon_desc bd = {.loop = &j->loop,
                          .udp_port = j->d.beacon_port,
                          .quiet = true,
                          .on_heard = on_heard,
                          .ud = j};
    snprintf(bd.self.version, sizeof bd.self.version, "%s", EXO_VERSION);
    if (uv_random(NULL, NULL, &bd.self.run, sizeof bd.self.run, 0, NULL) != 0 ||
        exo_beacon_create(&bd, &j->beacon, err) != EXO_OK) {
        j->beacon = NULL; /* --peer may still do */
        if (j->d.n_peers == 0) return EXO_EIO;
    }
    j->begin_ms = exo_now_ms();
    for (size_t i = 0; i < j->d.n_peers; i++) add(j, j->d.peers[i], true);
    uv_timer_start(&j->tick, on_tick, 0, TICK_MS);
    return EXO_OK;
}

/* "exo:CODE?peers=a:1,b:2": the addresses a QR code brings. */
static void peers_of_code(joiner *j, const char *code) {
    const char *at = strstr(code, "?peers=");
    if (at == NULL) return;
    at += strlen("?peers=");
    while (*at != '\0') {
        char one[72];
        size_t n = strcspn(at, ",");
        snprintf(one, sizeof one, "%.*s", (int)(n < sizeof one ? n : 0), at);
        exo_addr a;
        if (exo_addr_parse(one, &a, NULL) == EXO_OK) add(j, one, true);
        at += n + (at[n] == ',');
    }
}

exo_status exo_join(const exo_join_desc *d, exo_join_offer *out, exo_error *err) {
    *out = (exo_join_offer){0};
    joiner *j = exo_calloc(1, sizeof *j);
    if (j == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory to join");
    j->d = *d;
    exo_status st = exo_code_read(d->code, &j->code, err);
    exo_invite own;
    if (st == EXO_OK && exo_invites_find(d->data_dir, j->code.id, &own)) {
        st = exo_error_set(err, EXO_EBUSY,
                           "this join code is of this device's own cluster: give it to the device "
                           "that is to join");
    }
    if (st == EXO_OK) st = exo_identity_load(d->data_dir, &j->identity, err);
    if (st == EXO_OK) st = exo_tls_ctx_create_guest(j->code.id, j->code.key, &j->tls, err);
    if (st == EXO_OK && uv_loop_init(&j->loop) != 0) {
        st = exo_error_set(err, EXO_EIO, "cannot make an event loop");
    } else if (st == EXO_OK) {
        uv_timer_init(&j->loop, &j->tick);
        j->tick.data = j;
        st = begin(j, &j->err);
        if (st == EXO_OK) peers_of_code(j, d->code);
        if (st != EXO_OK) end(j, st);
        uv_run(&j->loop, UV_RUN_DEFAULT);
        uv_loop_close(&j->loop);
        st = j->status;
        if (st != EXO_OK && err != NULL) *err = j->err;
        *out = j->offer;
    }
    exo_tls_ctx_destroy(j->tls);
    exo_identity_destroy(j->identity);
    exo_free(j);
    return st;
}
