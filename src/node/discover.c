/* discover.c - from what is heard to addresses that are dialled. */
#define _DEFAULT_SOURCE
#include "node/discover_impl.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/addr.h"
#include "net/secret.h"

#include <exo/version.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define YIELD_MS       2000u /* the lower node id dials first; the other if nothing came */
#define STAGGER_MS     400u  /* between addresses of one peer, the best first */
#define ASK_MS         30000u
#define ASK_SOON_MS    1000u
#define WORSE_BY_MS    2.0 /* and twice: the way in use is worse than another was */
#define ASKS_SOON      4
#define CLONE_DIAL_MS  30000u
#define PEERS_FILE_MAX 65536
#define PEERS_LINE_MAX 256

uint64_t exo_discover_run(const exo_node *n) { return n->discover != NULL ? n->discover->run : 0; }

/* ---- dialling ---- */

static void dial_addresses(exo_node *n, const exo_heard_peer *p, uint64_t now_ms) {
    if (exo_members_find(n, p->node_id) != NULL) return;
    bool we_first = strcmp(exo_node_id(n), p->node_id) < 0;
    for (size_t i = 0; i < p->n_addresses; i++) {
        const exo_peer_address *a = &p->addresses[i];
        uint64_t wait = exo_peer_rank(p, a) * STAGGER_MS + (we_first ? 0 : YIELD_MS);
        exo_members_heard(n, a->host_port, p->node_id, now_ms + wait);
    }
    exo_members_tick(n, now_ms);
}

/* Somebody uses our identity: a link to it proves that, and tells both sides. */
static void dial_clone(exo_node *n, const exo_sighting *s, uint64_t now_ms) {
    exo_discover *d = n->discover;
    char host_port[72];
    if (d->clone_dial_ms != 0 && now_ms - d->clone_dial_ms < CLONE_DIAL_MS) return;
    if (!exo_addr_format(s->host, s->port, host_port, sizeof host_port)) return;
    d->clone_dial_ms = now_ms;
    exo_members_heard(n, host_port, "", now_ms);
    exo_members_tick(n, now_ms);
}

/* ---- news ---- */

/* One line per stranger, and only for so many of them. */
static void say_stranger(exo_node *n, const exo_heard_peer *p, const char *host) {
    exo_discover *d = n->discover;
    char why[EXO_ERROR_BYTES];
    for (size_t i = 0; i < d->n_said; i++) {
        if (strcmp(d->said[i], p->node_id) == 0) return;
    }
    if (d->n_said >= EXO_MAX_SAID) return;
    snprintf(d->said[d->n_said++], EXO_NODE_ID_BYTES, "%s", p->node_id);
    exo_discover_reason(n, p, why);
    exo_warn("heard %s (%s) at %s: %s", p->name[0] != '\0' ? p->name : "a device", p->node_id, host,
             why);
}

void exo_discover_note(exo_node *n, const exo_sighting *s) {
    exo_discover *d = n->discover;
    uint64_t now = exo_now_ms();
    exo_peer_news news;
    if (d->stopping) return;
    exo_heard_peer *p = exo_peers_note(d->peers, s, now, &news);
    if (p == NULL) return;
    if (p->verdict == EXO_HEARD_CLONE) {
        dial_clone(n, s, now);
    } else if (p->verdict == EXO_HEARD_MEMBER) {
        if (news != EXO_NEWS_NONE) dial_addresses(n, p, now);
    } else if (news == EXO_NEWS_PEER) {
        say_stranger(n, p, s->host);
    }
    if (d->beacon != NULL && (news == EXO_NEWS_PEER || news == EXO_NEWS_RESTART)) {
        exo_beacon_set_crowd(d->beacon, exo_peers_count(d->peers), false);
        if (s->udp_port != 0) exo_beacon_tell(d->beacon, s->host, s->udp_port);
    }
}

static exo_heard_verdict verdict_of(const exo_node *n, const exo_beacon_heard *h) {
    switch (h->verdict) {
    case EXO_BEACON_OTHER_KEY: return EXO_HEARD_OTHER_KEY;
    case EXO_BEACON_OTHER_NAMESPACE: return EXO_HEARD_OTHER_NAMESPACE;
    case EXO_BEACON_FORGED: return EXO_HEARD_FORGED;
    default: break;
    }
    const exo_beacon_msg *m = h->msg;
    if (strcmp(m->node_id, exo_node_id(n)) == 0) return EXO_HEARD_CLONE;
    if (exo_keyring_is_removed(&n->keyring, m->node_id)) return EXO_HEARD_REMOVED;
    bool meets = m->protocol_min <= EXO_PROTOCOL_MAX && m->protocol_max >= EXO_PROTOCOL_MIN;
    return meets ? EXO_HEARD_MEMBER : EXO_HEARD_OTHER_VERSION;
}

exo_sighting exo_discover_sighting(const exo_node *n, const exo_beacon_heard *h) {
    const exo_beacon_msg *m = h->msg;
    bool proven = h->verdict == EXO_BEACON_OURS;
    return (exo_sighting){.node_id = m->node_id,
                          .name = m->name,
                          .version = m->version,
                          .verdict = verdict_of(n, h),
                          .source = EXO_SOURCE_BEACON,
                          .host = h->host,
                          .interface = h->interface,
                          .port = m->port,
                          .udp_port = proven ? h->udp_port : 0, /* strangers get no answer */
                          .proven = proven,
                          .alone = (m->flags & EXO_BEACON_ALONE) != 0,
                          .invites = (m->flags & EXO_BEACON_INVITES) != 0,
                          .protocol_min = m->protocol_min,
                          .protocol_max = m->protocol_max,
                          .run = m->run,
                          .counter = m->counter,
                          .has_clock = proven,
                          .skew_ms = (int64_t)m->clock_ms - (int64_t)(exo_unix_time() * 1000)};
}

static void on_beacon(void *ud, const exo_beacon_heard *h) {
    exo_node *n = ud;
    const exo_beacon_msg *m = h->msg;
    exo_sighting s = exo_discover_sighting(n, h);
    if (h->rtt_us != 0) exo_peers_measured(n->discover->peers, m->node_id, h->host, h->rtt_us);
    exo_discover_note(n, &s);
}

/* ---- DNS-SD and the platform ---- */

static exo_advert make_advert(const exo_node *n) {
    const exo_device_info *device = &n->device_info;
    exo_advert a = {.port = n->listen_port};
    snprintf(a.name, sizeof a.name, "%.40s %.6s", n->name, exo_node_id(n));
    snprintf(a.txt.gpu_name, sizeof a.txt.gpu_name, "%s", device->name);
    snprintf(a.txt.gpu_vendor, sizeof a.txt.gpu_vendor, "%s", device->vendor);
    snprintf(a.txt.id, sizeof a.txt.id, "%s", exo_node_id(n));
    exo_hex(n->discover->keys.tag, sizeof n->discover->keys.tag, a.txt.cluster);
    a.txt.max_memory = device->memory_bytes;
    a.txt.compute_units = device->compute_units;
    a.txt.port = n->listen_port;
    a.txt.v = EXO_PROTOCOL_MAX;
    return a;
}

static void advertise(exo_node *n) {
    exo_discover *d = n->discover;
    exo_advert a = make_advert(n);
    if (d->dnssd != NULL) exo_dnssd_advertise(d->dnssd, &a);
    if (d->platform.advertise != NULL) d->platform.advertise(d->platform.ud, &a);
}

static void note_found(exo_node *n, exo_peer_source source, const exo_found *f) {
    const exo_txt *t = &f->txt;
    char tag[EXO_TXT_CLUSTER_BYTES];
    if (n->discover == NULL || strcmp(t->id, exo_node_id(n)) == 0) return;
    exo_hex(n->discover->keys.tag, sizeof n->discover->keys.tag, tag);
    exo_sighting s = {.node_id = t->id,
                      .name = f->name,
                      .version = "",
                      .verdict = EXO_HEARD_MEMBER,
                      .source = source,
                      .host = f->host,
                      .interface = f->interface,
                      .port = t->port != 0 ? t->port : f->port,
                      .protocol_min = t->v < EXO_PROTOCOL_MIN ? t->v : EXO_PROTOCOL_MIN,
                      .protocol_max = t->v};
    if (strcmp(t->cluster, tag) != 0) {
        s.verdict = EXO_HEARD_OTHER_KEY;
    } else if (exo_keyring_is_removed(&n->keyring, t->id)) {
        s.verdict = EXO_HEARD_REMOVED;
    } else if (t->v < EXO_PROTOCOL_MIN) {
        s.verdict = EXO_HEARD_OTHER_VERSION;
    }
    exo_discover_note(n, &s);
}

typedef struct {
    exo_loop_call call;
    exo_peer_source source;
    exo_found found;
} found_call;

static void found_on_loop(exo_node *n, exo_loop_call *c) {
    found_call *f = (found_call *)c;
    note_found(n, f->source, &f->found);
    exo_free(f);
}

exo_status exo_node_found(exo_node *n, exo_peer_source source, const exo_found *f, exo_error *err) {
    found_call *c = exo_calloc(1, sizeof *c);
    if (c == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for a node that was found");
    c->call.run = found_on_loop;
    c->source = source;
    c->found = *f;
    exo_node_post(n, &c->call);
    return EXO_OK;
}

static void dnssd_found(void *ud, const exo_found *f) {
    exo_node_found(ud, EXO_SOURCE_DNS_SD, f, NULL);
}

static void start_finders(exo_node *n) {
    exo_discover *d = n->discover;
    exo_error err;
    exo_advert a = make_advert(n);
    if (n->d.platform != NULL) d->platform = *n->d.platform;
    n->d.platform = NULL;
    if (d->platform.advertise != NULL) d->platform.advertise(d->platform.ud, &a);
    if (d->beacon == NULL && d->beacon_off_on_purpose) {
        snprintf(d->dnssd_off, sizeof d->dnssd_off, "%s", d->beacon_off);
    } else if (exo_dnssd_start(&a, dnssd_found, n, &d->dnssd, &err) != EXO_OK) {
        snprintf(d->dnssd_off, sizeof d->dnssd_off, "%s", err.message);
    }
}

/* ---- time ---- */

static bool ask_now(const exo_heard_peer *p, const exo_peer_address *a, bool worse,
                    uint64_t now_ms) {
    if (a->udp_port == 0) return false;
    bool choice = p->n_addresses > 1; /* with one address the link's own pings are enough */
    bool soon = (a->rtt_us == 0 && a->n_unanswered < ASKS_SOON) || (choice && worse);
    if (!choice && !soon) return false;
    return now_ms - a->asked_ms >= (soon ? ASK_SOON_MS : ASK_MS);
}

/* By the link's own pings: an address that was measured is much better, or nothing comes back. */
static bool is_worse(exo_node *n, const exo_heard_peer *p) {
    const exo_peer *peer = exo_members_find(n, p->node_id);
    if (peer == NULL) return false;
    exo_link_quality q = exo_link_measured(peer->link);
    bool worse = q.waits;
    for (size_t i = 0; i < p->n_addresses && !worse; i++) {
        double ms = p->addresses[i].rtt_us / 1000.0;
        worse = ms > 0 && q.rtt_ms > 2 * ms && q.rtt_ms > ms + WORSE_BY_MS;
    }
    return worse;
}

static void ask_addresses(exo_discover *d, exo_heard_peer *p, bool worse, uint64_t now_ms) {
    for (size_t i = 0; i < p->n_addresses; i++) {
        exo_peer_address *a = &p->addresses[i];
        if (!ask_now(p, a, worse, now_ms)) continue;
        a->asked_ms = now_ms;
        a->n_unanswered++; /* until the answer comes */
        exo_beacon_ask(d->beacon, a->host, a->udp_port);
    }
}

/* The lower node id, whose links both sides keep, moves to a much better address. */
static void move_if_better(exo_node *n, exo_heard_peer *p) {
    exo_peer *peer = exo_members_find(n, p->node_id);
    if (peer == NULL || strcmp(exo_node_id(n), p->node_id) > 0) return;
    char ours[64], theirs[64];
    const exo_peer_address *in_use = NULL;
    exo_link_hosts(peer->link, ours, theirs);
    for (size_t i = 0; i < p->n_addresses; i++) {
        if (strcmp(p->addresses[i].host, theirs) == 0) in_use = &p->addresses[i];
    }
    if (in_use == NULL) return;
    const exo_peer_address *better = exo_peer_better(p, in_use->host_port);
    if (better == NULL) return;
    exo_info("link to %s moves from %s to %s (%.1f ms there and back)", peer->name,
             in_use->host_port, better->host_port, better->rtt_us / 1000.0);
    exo_members_move(n, better->host_port, p->node_id);
}

static void forget_address(void *ud, const char *host_port) { exo_members_forget(ud, host_port); }

static void each_second(exo_node *n, uint64_t now_ms) {
    exo_discover *d = n->discover;
    exo_peers_expire(d->peers, now_ms, forget_address, n);
    if (d->beacon == NULL) return;
    bool linked = n->peers != NULL;
    for (size_t i = 0; i < exo_peers_count(d->peers); i++) {
        exo_heard_peer *p = exo_peers_at(d->peers, i);
        if (!p->proven || p->verdict != EXO_HEARD_MEMBER) continue;
        linked = linked && exo_members_find(n, p->node_id) != NULL;
        bool worse = is_worse(n, p);
        /* The last round of answers is judged before the next one is asked for. */
        if (p->n_addresses > 1 && ask_now(p, &p->addresses[0], worse, now_ms)) move_if_better(n, p);
        ask_addresses(d, p, worse, now_ms);
    }
    exo_beacon_set_crowd(d->beacon, exo_peers_count(d->peers), linked);
}

/* ---- the peers file ---- */

static void take_line(exo_node *n, char *line, unsigned number) {
    exo_addr a;
    exo_error err;
    line[strcspn(line, "#\r\n")] = '\0';
    char *word = line + strspn(line, " \t");
    word[strcspn(word, " \t")] = '\0';
    if (*word == '\0') return;
    if (exo_addr_parse(word, &a, &err) != EXO_OK) {
        exo_warn("%s/" EXO_PEERS_FILE " line %u: %s", n->data_dir, number, err.message);
        return;
    }
    exo_members_add_address(n, word, "", 0);
}

static void read_peers_file(exo_node *n) {
    char path[1100], line[PEERS_LINE_MAX];
    uint64_t stamp = exo_secret_stamp(n->data_dir, EXO_PEERS_FILE);
    if (stamp == n->discover->peers_file_stamp) return;
    n->discover->peers_file_stamp = stamp;
    snprintf(path, sizeof path, "%s/" EXO_PEERS_FILE, n->data_dir);
    FILE *f = stamp != 0 ? fopen(path, "r") : NULL;
    if (f == NULL) return;
    for (unsigned number = 1; fgets(line, sizeof line, f) != NULL; number++) {
        take_line(n, line, number);
        if (ftell(f) > PEERS_FILE_MAX) break;
    }
    fclose(f);
}

static uint8_t flags_of(const exo_node *n) {
    uint8_t flags = 0;
    if (exo_admit_inviting(n)) flags |= EXO_BEACON_INVITES;
    if (!n->keyring.joined && !n->keyring.given && n->peers == NULL) flags |= EXO_BEACON_ALONE;
    return flags;
}

void exo_discover_tick(exo_node *n, uint64_t now_ms) {
    exo_discover *d = n->discover;
    if (d == NULL || d->stopping) return;
    if (d->beacon != NULL) exo_beacon_set_flags(d->beacon, flags_of(n));
    if (now_ms - d->second_ms < 1000) return;
    d->second_ms = now_ms;
    read_peers_file(n);
    each_second(n, now_ms);
}

/* ---- life ---- */

static bool is_loopback(const char *host) {
    return strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0;
}

static void beacon_is_off(exo_discover *d, const char *why) {
    snprintf(d->beacon_off, sizeof d->beacon_off, "%s", why);
}

static void start_beacon(exo_node *n) {
    exo_discover *d = n->discover;
    exo_error err;
    if (!n->d.discovery) {
        d->beacon_off_on_purpose = true;
        beacon_is_off(d, "discovery is off (--no-discovery): only --peer finds nodes");
        return;
    }
    if (is_loopback(n->listen_addr)) {
        d->beacon_off_on_purpose = true;
        beacon_is_off(d, "links are accepted on this machine only (--listen is a loopback "
                         "address): there is nothing to announce");
        return;
    }
    exo_beacon_desc bd = {.loop = &n->loop,
                          .udp_port = n->d.beacon_port,
                          .only_host = n->listen_addr,
                          .no_v4 = strchr(n->listen_addr, ':') != NULL &&
                                   !exo_addr_is_any(n->listen_addr),
                          .no_v6 = strchr(n->listen_addr, ':') == NULL,
                          .keys = d->keys,
                          .on_heard = on_beacon,
                          .ud = n};
    exo_beacon_msg *self = &bd.self;
    self->protocol_min = EXO_PROTOCOL_MIN;
    self->protocol_max = EXO_PROTOCOL_MAX;
    self->port = n->listen_port;
    self->run = d->run;
    self->flags = flags_of(n);
    snprintf(self->node_id, sizeof self->node_id, "%s", exo_node_id(n));
    snprintf(self->name, sizeof self->name, "%s", n->name);
    snprintf(self->version, sizeof self->version, "%s", EXO_VERSION);
    if (exo_beacon_create(&bd, &d->beacon, &err) == EXO_OK) return;
    beacon_is_off(d, err.message);
    exo_warn("%s; nodes are found by --peer and DNS-SD only", err.message);
}

exo_status exo_discover_start(exo_node *n, exo_error *err) {
    exo_discover *d = exo_calloc(1, sizeof *d);
    if (d == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for discovery");
    n->discover = d;
    d->started_ms = exo_now_ms();
    d->node = n;
    d->peers = exo_peers_create();
    if (d->peers == NULL || uv_random(NULL, NULL, &d->run, sizeof d->run, 0, NULL) != 0) {
        return exo_error_set(err, EXO_ENOMEM, "no memory for discovery");
    }
    exo_status st = exo_beacon_keys_derive(n->tls, n->keyring.name_space, &d->keys, err);
    if (st != EXO_OK) return st;
    char run[2 * sizeof d->run + 1];
    snprintf(run, sizeof run, "%016llx", (unsigned long long)d->run);
    json_object_set_new(n->hello_extra, "run", json_string(run));
    start_beacon(n);
    start_finders(n);
    read_peers_file(n);
    return EXO_OK;
}

void exo_discover_rekeyed(exo_node *n) {
    exo_discover *d = n->discover;
    exo_error err;
    if (d == NULL || d->stopping) return;
    if (exo_beacon_keys_derive(n->tls, n->keyring.name_space, &d->keys, &err) != EXO_OK) {
        exo_warn("beacon: %s", err.message);
        return;
    }
    exo_peer_table *fresh = exo_peers_create(); /* what was a stranger may be one of us now */
    if (fresh != NULL) {
        exo_peers_expire(d->peers, UINT64_MAX, forget_address, n);
        exo_peers_destroy(d->peers);
        d->peers = fresh;
        d->n_said = 0;
    }
    advertise(n);
    if (d->beacon == NULL) return;
    exo_beacon_set_keys(d->beacon, &d->keys);
    exo_beacon_query(d->beacon);
}

void exo_discover_stop(exo_node *n) {
    exo_discover *d = n->discover;
    if (d == NULL || d->stopping) return;
    d->stopping = true;
    if (d->beacon != NULL) exo_beacon_close(d->beacon, NULL, NULL);
    d->beacon = NULL;
    exo_dnssd_stop(d->dnssd);
    d->dnssd = NULL;
    if (d->platform.withdraw != NULL) d->platform.withdraw(d->platform.ud);
}

void exo_discover_finish(exo_node *n) {
    if (n->discover == NULL) return;
    exo_peers_destroy(n->discover->peers);
    exo_free(n->discover);
    n->discover = NULL;
}
