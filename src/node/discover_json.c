/* discover_json.c - what discovery knows, for GET /state and `exo doctor`, with reasons in words.
 */
#define _DEFAULT_SOURCE
#include "node/discover_impl.h"

#include "base/clock.h"
#include "base/hash.h"

#include <stdio.h>
#include <string.h>

#define CLOCK_OFF_MS 30000

static const char *const verdict_names[] = {
    [EXO_HEARD_MEMBER] = "member",
    [EXO_HEARD_REMOVED] = "removed",
    [EXO_HEARD_OTHER_VERSION] = "other_version",
    [EXO_HEARD_CLONE] = "copied_identity",
    [EXO_HEARD_OTHER_KEY] = "other_key",
    [EXO_HEARD_OTHER_NAMESPACE] = "other_namespace",
    [EXO_HEARD_FORGED] = "forged",
};

static const exo_address *dialled(const exo_node *n, const char *host_port) {
    const exo_address *a = n->addresses;
    while (a != NULL && strcmp(a->host_port, host_port) != 0) a = a->next;
    return a;
}

/* Of a member without link: the way that failed last, and what that means. */
static void dial_reason(exo_node *n, const exo_heard_peer *p, char out[EXO_ERROR_BYTES]) {
    const exo_address *failed = NULL;
    bool answers = false, asked = false;
    for (size_t i = 0; i < p->n_addresses; i++) {
        const exo_address *a = dialled(n, p->addresses[i].host_port);
        if (a != NULL && a->why[0] != '\0' &&
            (failed == NULL || a->redial.n_failed > failed->redial.n_failed)) {
            failed = a;
        }
        asked = asked || p->addresses[i].n_unanswered >= 3;
        answers = answers || p->addresses[i].rtt_us != 0;
    }
    if (p->n_addresses == 0) {
        snprintf(out, EXO_ERROR_BYTES, "its beacons stopped");
    } else if (failed == NULL) {
        snprintf(out, EXO_ERROR_BYTES, "it is being dialled");
    } else if (strstr(failed->why, "cannot connect") == NULL &&
               strstr(failed->why, "no answer") == NULL) {
        snprintf(out, EXO_ERROR_BYTES, "%s", failed->why);
    } else if (asked && !answers) {
        snprintf(out, EXO_ERROR_BYTES,
                 "its beacons arrive here, but nothing from here reaches it (%s): a firewall on "
                 "it, or a network that carries one way only",
                 failed->why);
    } else {
        snprintf(out, EXO_ERROR_BYTES,
                 "it hears us, but its port for links does not answer (%s): a firewall on it",
                 failed->why);
    }
}

void exo_discover_reason(exo_node *n, const exo_heard_peer *p, char out[EXO_ERROR_BYTES]) {
    out[0] = '\0';
    switch (p->verdict) {
    case EXO_HEARD_MEMBER:
        if (exo_members_find(n, p->node_id) == NULL) dial_reason(n, p, out);
        break;
    case EXO_HEARD_REMOVED:
        snprintf(out, EXO_ERROR_BYTES,
                 "it was removed from this cluster; to take it back: `exo invite` here, `exo join "
                 "CODE` there");
        break;
    case EXO_HEARD_OTHER_VERSION:
        snprintf(out, EXO_ERROR_BYTES,
                 "it runs exo %s, which speaks protocol %u to %u, this node %d to %d: update the "
                 "older one",
                 p->version, p->protocol_min, p->protocol_max, EXO_PROTOCOL_MIN, EXO_PROTOCOL_MAX);
        break;
    case EXO_HEARD_CLONE:
        snprintf(out, EXO_ERROR_BYTES,
                 "it runs with this node's identity: its data directory is a copy of this one's; "
                 "remove node.key from one of them and start it again");
        break;
    case EXO_HEARD_OTHER_KEY:
        snprintf(out, EXO_ERROR_BYTES,
                 p->alone ? "it is a cluster of its own; to join: `exo invite` on one of the two, "
                            "`exo join CODE` on the other"
                          : "it belongs to another cluster (its key is another); to move it here: "
                            "`exo invite` here, `exo join CODE` there");
        break;
    case EXO_HEARD_OTHER_NAMESPACE:
        snprintf(out, EXO_ERROR_BYTES, "it is in another namespace than this node (\"%s\")",
                 n->keyring.name_space);
        break;
    case EXO_HEARD_FORGED:
        snprintf(out, EXO_ERROR_BYTES,
                 "it claims to be of this cluster, but its beacon is forged or damaged");
        break;
    }
}

static json_t *sources_json(unsigned sources) {
    static const char *const names[] = {"beacon", "dns-sd", "platform", "static"};
    json_t *list = json_array();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if ((sources & 1u << i) != 0) json_array_append_new(list, json_string(names[i]));
    }
    return list;
}

static json_t *address_json(const exo_node *n, const exo_peer_address *a) {
    const exo_address *d = dialled(n, a->host_port);
    json_t *rtt = a->rtt_us != 0 ? json_real(a->rtt_us / 1000.0) : json_null();
    return json_pack("{s:s, s:s, s:o, s:o, s:I, s:I, s:s?}", "address", a->host_port, "interface",
                     a->interface, "sources", sources_json(a->sources), "rtt_ms", rtt, "unanswered",
                     (json_int_t)a->n_unanswered, "n_failed",
                     (json_int_t)(d != NULL ? d->redial.n_failed : 0), "failure",
                     d != NULL && d->why[0] != '\0' ? d->why : NULL);
}

static json_t *peer_json(exo_node *n, const exo_heard_peer *p) {
    char why[EXO_ERROR_BYTES];
    exo_discover_reason(n, p, why);
    json_t *addresses = json_array();
    for (size_t i = 0; i < p->n_addresses; i++) {
        json_array_append_new(addresses, address_json(n, &p->addresses[i]));
    }
    bool off = p->has_clock && (p->skew_ms > CLOCK_OFF_MS || p->skew_ms < -CLOCK_OFF_MS);
    return json_pack("{s:s, s:s, s:s, s:s, s:b, s:b, s:s?, s:o, s:b, s:b, s:f, s:o}", "node_id",
                     p->node_id, "name", p->name, "version", p->version, "status",
                     verdict_names[p->verdict], "proven", p->proven, "connected",
                     exo_members_find(n, p->node_id) != NULL, "reason", why[0] != '\0' ? why : NULL,
                     "clock_skew_ms", p->has_clock ? json_integer(p->skew_ms) : json_null(),
                     "clock_is_off", off, "identity_used_twice", p->n_two_runs >= 2, "last_heard_s",
                     (double)(exo_now_ms() - p->heard_ms) / 1000, "addresses", addresses);
}

static json_t *interfaces_json(const exo_discover *d) {
    json_t *list = json_array();
    const exo_beacon_interface *all;
    size_t n = d->beacon != NULL ? exo_beacon_interfaces(d->beacon, &all) : 0;
    for (size_t i = 0; i < n; i++) {
        const exo_beacon_interface *b = &all[i];
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:s, s:b, s:b, s:I, s:I, s:I, s:s?}", "name",
                            b->interface.name, "address", b->interface.host, "kind",
                            exo_interface_kind_name(b->interface.kind), "up", b->interface.up,
                            "used", b->used, "sent", (json_int_t)b->n_sent, "heard",
                            (json_int_t)b->n_heard, "own", (json_int_t)b->n_own, "error",
                            b->send_error != 0 ? uv_strerror(b->send_error) : NULL));
    }
    return list;
}

/* Addresses that are dialled though nobody was heard there: --peer, the peers file, hearsay. */
static json_t *dialled_json(exo_node *n) {
    json_t *list = json_array();
    for (const exo_address *a = n->addresses; a != NULL; a = a->next) {
        bool heard = false;
        for (size_t i = 0; i < exo_peers_count(n->discover->peers) && !heard; i++) {
            const exo_heard_peer *p = exo_peers_at(n->discover->peers, i);
            for (size_t k = 0; k < p->n_addresses; k++) {
                heard = heard || strcmp(p->addresses[k].host_port, a->host_port) == 0;
            }
        }
        bool works = a->redial.opened_ms != 0 ||
                     (a->node_id[0] != '\0' && exo_members_find(n, a->node_id) != NULL);
        if (heard || works) continue;
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:I, s:s?}", "address", a->host_port, "node_id",
                                        a->node_id, "n_failed", (json_int_t)a->redial.n_failed,
                                        "failure", a->why[0] != '\0' ? a->why : NULL));
    }
    return list;
}

json_t *exo_discover_json(exo_node *n) {
    exo_discover *d = n->discover;
    if (d == NULL) return json_null();
    char tag[2 * EXO_BEACON_TAG_BYTES + 1];
    exo_hex(d->keys.tag, sizeof d->keys.tag, tag);
    json_t *heard = json_array();
    for (size_t i = 0; i < exo_peers_count(d->peers); i++) {
        const exo_heard_peer *p = exo_peers_at(d->peers, i);
        if (exo_peers_find(d->peers, p->node_id) == p) { /* what is proven stands for both */
            json_array_append_new(heard, peer_json(n, p));
        }
    }
    char dnssd[EXO_ERROR_BYTES];
    snprintf(dnssd, sizeof dnssd, "%s", d->dnssd_off);
    if (d->dnssd != NULL) exo_dnssd_trouble(d->dnssd, dnssd);
    exo_beacon_stats s = d->beacon != NULL ? exo_beacon_counts(d->beacon) : (exo_beacon_stats){0};
    return json_pack(
        "{s:s, s:s, s:s, s:i, s:f, s:s?, s:s?, s:{s:I, s:I, s:I, s:I, s:I, s:f}, s:o, s:o, s:o}",
        "cluster", tag, "namespace", n->keyring.name_space, "key",
        n->keyring.given ? "given" : "stored", "port", (int)n->listen_port, "listening_s",
        (double)(exo_now_ms() - d->started_ms) / 1000, "off",
        d->beacon == NULL ? d->beacon_off : NULL, "dns_sd_off", dnssd[0] != '\0' ? dnssd : NULL,
        "beacons", "heard", (json_int_t)s.n_heard, "garbage", (json_int_t)s.n_garbage, "dropped",
        (json_int_t)s.n_dropped, "bytes_sent", (json_int_t)s.bytes_sent, "bytes_heard",
        (json_int_t)s.bytes_heard, "interval_s", s.interval_ms / 1000.0, "interfaces",
        interfaces_json(d), "heard", heard, "dialled", dialled_json(n));
}
