/* peers.c - the peer table of peers.h: an array, because a LAN has tens of nodes. */
#define _POSIX_C_SOURCE 200809L
#include "net/peers.h"

#include "base/mem.h"
#include "net/addr.h"
#include "net/hello.h"

#include <stdio.h>
#include <string.h>

#define BETTER_BY_US   300u
#define BETTER_TIMES   3u
#define SILENT_ASKS    3u
#define FORGET_PEER_MS 600000u

struct exo_peer_table {
    exo_heard_peer *peers;
    size_t n, cap;
};

exo_peer_table *exo_peers_create(void) { return exo_calloc(1, sizeof(exo_peer_table)); }

void exo_peers_destroy(exo_peer_table *t) {
    if (t == NULL) return;
    exo_free(t->peers);
    exo_free(t);
}

size_t exo_peers_count(const exo_peer_table *t) { return t->n; }
exo_heard_peer *exo_peers_at(exo_peer_table *t, size_t i) { return &t->peers[i]; }

static exo_heard_peer *find(exo_peer_table *t, const char *node_id, bool proven) {
    for (size_t i = 0; i < t->n; i++) {
        exo_heard_peer *p = &t->peers[i];
        if (p->proven == proven && strcmp(p->node_id, node_id) == 0) return p;
    }
    return NULL;
}

exo_heard_peer *exo_peers_find(exo_peer_table *t, const char *node_id) {
    exo_heard_peer *p = find(t, node_id, true);
    return p != NULL ? p : find(t, node_id, false);
}

static void drop(exo_peer_table *t, size_t i) { t->peers[i] = t->peers[--t->n]; }

/* Room for one more of this kind: the one that was silent longest goes. */
static bool make_room(exo_peer_table *t, bool proven) {
    size_t same = 0, oldest = SIZE_MAX;
    for (size_t i = 0; i < t->n; i++) {
        if (t->peers[i].proven != proven) continue;
        same++;
        if (oldest == SIZE_MAX || t->peers[i].heard_ms < t->peers[oldest].heard_ms) oldest = i;
    }
    if (same >= (proven ? EXO_PEERS_MAX_PROVEN : EXO_PEERS_MAX_SAID)) drop(t, oldest);
    return exo_grow((void **)&t->peers, &t->cap, t->n + 1, sizeof *t->peers) == 0;
}

static exo_heard_peer *add(exo_peer_table *t, const exo_sighting *s, uint64_t now_ms) {
    if (!make_room(t, s->proven)) return NULL;
    exo_heard_peer *p = &t->peers[t->n++];
    *p = (exo_heard_peer){.proven = s->proven, .first_ms = now_ms};
    snprintf(p->node_id, sizeof p->node_id, "%s", s->node_id);
    return p;
}

/* ---- runs: a restart, a replay, or the same identity twice ---- */

static bool is_recent(uint64_t counter, uint64_t highest) {
    return counter + EXO_PEER_BEACON_WINDOW > highest;
}

/* False: an old datagram. */
static bool take_run(exo_heard_peer *p, const exo_sighting *s, exo_peer_news *news) {
    if (s->run == 0) return true;
    if (s->run == p->run) {
        if (!is_recent(s->counter, p->counter)) return false;
        if (s->counter > p->counter) p->counter = s->counter;
        return true;
    }
    if (s->run == p->before_run) {
        if (s->counter <= p->before_counter) return false;
        p->before_counter = s->counter;
        p->n_two_runs++;
        return true;
    }
    if (p->run != 0) *news = EXO_NEWS_RESTART;
    p->before_run = p->run;
    p->before_counter = p->counter;
    p->run = s->run;
    p->counter = s->counter;
    return true;
}

/* ---- addresses ---- */

static exo_peer_address *find_address(exo_heard_peer *p, const char *host_port) {
    for (size_t i = 0; i < p->n_addresses; i++) {
        if (strcmp(p->addresses[i].host_port, host_port) == 0) return &p->addresses[i];
    }
    return NULL;
}

/* The slot for a new address; the one heard longest ago makes room. */
static exo_peer_address *new_address(exo_heard_peer *p) {
    if (p->n_addresses < EXO_PEER_ADDRESSES) return &p->addresses[p->n_addresses++];
    exo_peer_address *oldest = &p->addresses[0];
    for (size_t i = 1; i < p->n_addresses; i++) {
        if (p->addresses[i].heard_ms < oldest->heard_ms) oldest = &p->addresses[i];
    }
    return oldest;
}

static void take_address(exo_heard_peer *p, const exo_sighting *s, uint64_t now_ms,
                         exo_peer_news *news) {
    char host_port[sizeof p->addresses->host_port];
    if (s->port == 0 || *s->host == '\0' || strlen(s->host) >= sizeof p->addresses->host ||
        !exo_addr_format(s->host, s->port, host_port, sizeof host_port)) {
        return;
    }
    exo_peer_address *a = find_address(p, host_port);
    if (a == NULL) {
        a = new_address(p);
        *a = (exo_peer_address){0};
        snprintf(a->host_port, sizeof a->host_port, "%s", host_port);
        snprintf(a->host, sizeof a->host, "%s", s->host);
        if (*news == EXO_NEWS_NONE) *news = EXO_NEWS_ADDRESS;
    }
    a->sources |= (unsigned)s->source;
    a->heard_ms = now_ms;
    if (s->udp_port != 0) a->udp_port = s->udp_port;
    if (*s->interface != '\0') snprintf(a->interface, sizeof a->interface, "%s", s->interface);
}

/* What is only said adds nothing to a proven address but its source. */
static bool confirms(exo_peer_table *t, const exo_sighting *s, uint64_t now_ms) {
    char host_port[sizeof((exo_peer_address *)0)->host_port];
    exo_heard_peer *p = find(t, s->node_id, true);
    if (p == NULL || !exo_addr_format(s->host, s->port, host_port, sizeof host_port)) return false;
    exo_peer_address *a = find_address(p, host_port);
    if (a == NULL) return false;
    a->sources |= (unsigned)s->source;
    a->heard_ms = now_ms;
    return true;
}

exo_heard_peer *exo_peers_note(exo_peer_table *t, const exo_sighting *s, uint64_t now_ms,
                               exo_peer_news *news) {
    *news = EXO_NEWS_NONE;
    if (strlen(s->node_id) != EXO_NODE_ID_BYTES - 1) return NULL;
    if (!s->proven && confirms(t, s, now_ms)) return NULL;
    exo_heard_peer *p = find(t, s->node_id, s->proven);
    bool added = p == NULL;
    if (added) p = add(t, s, now_ms);
    if (p == NULL) return NULL;
    if (!take_run(p, s, news)) {
        *news = EXO_NEWS_REPLAY;
        return NULL;
    }
    if (added) *news = EXO_NEWS_PEER;
    exo_hello_text(s->name, p->name, sizeof p->name);
    exo_hello_text(s->version, p->version, sizeof p->version);
    p->verdict = s->verdict;
    p->alone = s->alone;
    p->invites = s->invites;
    p->protocol_min = s->protocol_min;
    p->protocol_max = s->protocol_max;
    if (s->has_clock) {
        p->has_clock = true;
        p->skew_ms = s->skew_ms;
    }
    p->heard_ms = now_ms;
    take_address(p, s, now_ms, news);
    return p;
}

void exo_peers_measured(exo_peer_table *t, const char *node_id, const char *host, uint32_t rtt_us) {
    exo_heard_peer *p = find(t, node_id, true);
    for (size_t i = 0; p != NULL && i < p->n_addresses; i++) {
        exo_peer_address *a = &p->addresses[i];
        if (strcmp(a->host, host) != 0) continue;
        a->n_unanswered = 0;
        if (a->rtt_us == 0) {
            a->rtt_us = rtt_us;
        } else {
            a->rtt_us = a->rtt_us - a->rtt_us / 4 + rtt_us / 4;
        }
    }
}

void exo_peers_expire(exo_peer_table *t, uint64_t now_ms,
                      void (*forget)(void *ud, const char *host_port), void *ud) {
    for (size_t i = t->n; i-- > 0;) {
        exo_heard_peer *p = &t->peers[i];
        for (size_t k = p->n_addresses; k-- > 0;) {
            const exo_peer_address *a = &p->addresses[k];
            if ((a->sources & EXO_SOURCE_STATIC) != 0) continue;
            if (now_ms - a->heard_ms < EXO_PEER_ADDRESS_MS) continue;
            forget(ud, a->host_port);
            memmove(&p->addresses[k], &p->addresses[k + 1],
                    (p->n_addresses - k - 1) * sizeof *p->addresses);
            p->n_addresses--;
        }
        if (p->n_addresses == 0 && now_ms - p->heard_ms >= FORGET_PEER_MS) drop(t, i);
    }
}

/* ---- the best address ---- */

/* What an address costs, for comparing. */
static uint64_t cost(const exo_peer_address *a) {
    static const uint64_t unmeasured = (uint64_t)1 << 32, link_local = (uint64_t)1 << 40;
    uint64_t c = a->rtt_us != 0 ? a->rtt_us : unmeasured;
    if (strchr(a->host, '%') != NULL) c += link_local;
    return a->n_unanswered >= SILENT_ASKS ? UINT64_MAX : c;
}

size_t exo_peer_rank(const exo_heard_peer *p, const exo_peer_address *a) {
    size_t rank = 0;
    for (size_t i = 0; i < p->n_addresses; i++) {
        const exo_peer_address *other = &p->addresses[i];
        if (cost(other) < cost(a) || (cost(other) == cost(a) && other < a)) rank++;
    }
    return rank;
}

const exo_peer_address *exo_peer_better(exo_heard_peer *p, const char *host_port_in_use) {
    const exo_peer_address *in_use = find_address(p, host_port_in_use), *best = NULL;
    for (size_t i = 0; i < p->n_addresses; i++) {
        if (best == NULL || cost(&p->addresses[i]) < cost(best)) best = &p->addresses[i];
    }
    bool better = in_use != NULL && best != NULL && best->rtt_us != 0 && best != in_use &&
                  best->n_unanswered == 0 && cost(best) * 2 < cost(in_use) &&
                  cost(in_use) - cost(best) >= BETTER_BY_US &&
                  (in_use->rtt_us != 0 || in_use->n_unanswered >= SILENT_ASKS);
    p->n_better = better ? p->n_better + 1 : 0;
    if (p->n_better < BETTER_TIMES) return NULL;
    p->n_better = 0;
    return best;
}
