/* members.c - peers of this node: dialling, control links, and what nodes tell each other.
 *
 * Every pair of nodes holds one control link.  Each node sends its own record (devices, models,
 * instances it owns) when it changes, and the addresses of the peers it knows, so that one
 * --peer is enough to find all.  A node whose link breaks is gone until it comes back. */
#define _DEFAULT_SOURCE
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "node/node_impl.h"
#include "node/record.h"

#include <stdio.h>
#include <string.h>

#define DIAL_YIELD_MS 2000u /* of two nodes that hear of each other, the lower id dials first */
#define RETIRE_MS     2000u /* what was sent on a link before both sides chose the other arrives */
#define MAX_ADDRESSES 1024
#define QUIET_TRIES   3

exo_peer *exo_members_find(exo_node *n, const char *node_id) {
    exo_peer *p = n->peers;
    while (p != NULL && strcmp(p->node_id, node_id) != 0) p = p->next;
    return p;
}

/* ---- addresses ---- */

void exo_members_add_address(exo_node *n, const char *host_port, const char *node_id,
                             uint64_t dial_at_ms) {
    size_t count = 0;
    for (exo_address *a = n->addresses; a != NULL; a = a->next, count++) {
        if (strcmp(a->host_port, host_port) != 0) continue;
        a->redial.hearsay = false; /* told before, and now given */
        return;
    }
    if (count >= MAX_ADDRESSES || strlen(host_port) >= sizeof n->addresses->host_port) return;
    exo_address *a = exo_calloc(1, sizeof *a);
    if (a == NULL) return; /* told again with the next announcement */
    snprintf(a->host_port, sizeof a->host_port, "%s", host_port);
    snprintf(a->node_id, sizeof a->node_id, "%s", node_id);
    exo_redial_start(&a->redial, dial_at_ms, false);
    a->next = n->addresses;
    n->addresses = a;
}

static exo_address *find_address(exo_node *n, const char *host_port) {
    exo_address *a = n->addresses;
    while (a != NULL && strcmp(a->host_port, host_port) != 0) a = a->next;
    return a;
}

static void dial(exo_node *n, exo_address *a, uint64_t now_ms) {
    exo_error err = {0};
    exo_link_ctx *ctx = exo_calloc(1, sizeof *ctx);
    exo_status st = EXO_ENOMEM;
    if (ctx != NULL) {
        ctx->use = EXO_LINK_CONTROL;
        ctx->address = a;
        st = exo_net_dial(n->net, a->host_port, ctx, &a->link, &err);
    }
    if (st == EXO_OK) return;
    exo_free(ctx);
    a->link = NULL;
    a->redial.at_ms = now_ms + EXO_REDIAL_MAX_MS;
    exo_warn("cannot dial %s: %s", a->host_port, err.message);
}

/* Adds an address that nobody of this machine gave. */
static exo_address *add_hearsay(exo_node *n, const char *host_port, const char *node_id,
                                uint64_t dial_at_ms) {
    exo_members_add_address(n, host_port, node_id, dial_at_ms);
    exo_address *a = find_address(n, host_port);
    if (a != NULL) a->redial.hearsay = true;
    return a;
}

void exo_members_heard(exo_node *n, const char *host_port, const char *node_id,
                       uint64_t dial_at_ms) {
    exo_address *a = find_address(n, host_port);
    if (a == NULL) {
        add_hearsay(n, host_port, node_id, dial_at_ms);
    } else if (a->link == NULL) {
        exo_redial_soon(&a->redial, dial_at_ms);
    }
}

void exo_members_move(exo_node *n, const char *host_port, const char *node_id) {
    uint64_t now = exo_now_ms();
    exo_address *a = find_address(n, host_port);
    if (a == NULL) a = add_hearsay(n, host_port, node_id, now);
    if (a != NULL && a->link == NULL) dial(n, a, now);
}

void exo_members_forget(exo_node *n, const char *host_port) {
    for (exo_address **at = &n->addresses; *at != NULL; at = &(*at)->next) {
        exo_address *a = *at;
        if (strcmp(a->host_port, host_port) != 0) continue;
        if (a->link != NULL || !a->redial.hearsay) return;
        *at = a->next;
        exo_free(a);
        return;
    }
}

/* What peers told, and nobody answered at: discovery forgets its own (peers.h), and what the user
 * gave is dialled for good, at the slowest rate. */
static void forget_in_vain(exo_node *n) {
    for (exo_address **at = &n->addresses; *at != NULL;) {
        exo_address *a = *at;
        if (a->link != NULL || !exo_redial_in_vain(&a->redial)) {
            at = &a->next;
            continue;
        }
        *at = a->next;
        exo_free(a);
    }
}

void exo_members_tick(exo_node *n, uint64_t now_ms) {
    forget_in_vain(n);
    for (exo_address *a = n->addresses; a != NULL; a = a->next) {
        bool known = a->node_id[0] != '\0', connected = known && exo_members_find(n, a->node_id);
        if (known && exo_keyring_is_removed(&n->keyring, a->node_id)) continue;
        if (a->link == NULL && !connected && now_ms >= a->redial.at_ms) dial(n, a, now_ms);
    }
    for (exo_link_ctx *c = n->retired; c != NULL; c = c->next) {
        if (now_ms >= c->close_at_ms) {
            exo_link_close(c->retired, EXO_OK, "another link between us is open");
        }
    }
    if (n->record_changed) exo_members_announce(n);
}

/* ---- announcements ---- */

static json_t *known_addresses(exo_node *n) {
    json_t *list = json_array();
    for (exo_peer *p = n->peers; p != NULL && list != NULL; p = p->next) {
        if (p->listen[0] == '\0' || strchr(p->listen, '%') != NULL) continue; /* link-local: ours */
        json_array_append_new(list,
                              json_pack("{s:s, s:s}", "node_id", p->node_id, "listen", p->listen));
    }
    return list;
}

static void send_record(exo_node *n, exo_link *l) {
    json_t *m = json_pack("{s:o, s:o}", "self", exo_node_record(n), "peers", known_addresses(n));
    exo_error err = {0};
    exo_status st = m != NULL ? exo_link_send_json(l, EXO_MSG_NODES, m, &err) : EXO_ENOMEM;
    if (st != EXO_OK) exo_warn("cannot tell %s about us: %s", exo_link_peer(l)->name, err.message);
    json_decref(m);
}

void exo_members_announce(exo_node *n) {
    n->record_changed = false;
    for (exo_peer *p = n->peers; p != NULL; p = p->next) send_record(n, p->link);
}

/* What cannot be kept costs itself: what the peer said before stands. */
static void take_record(exo_peer *from, json_t *self) {
    exo_error err = {0};
    if (exo_record_check(self, from->node_id, from->name, &err) == EXO_OK) {
        json_decref(from->record);
        from->record = json_incref(self);
    } else if (!from->record_blamed) {
        from->record_blamed = true;
        exo_warn("what %s (%s) says of itself is left out: %s", from->name, from->node_id,
                 err.message);
    }
}

static void on_nodes(exo_node *n, exo_peer *from, json_t *m) {
    json_t *self = json_object_get(m, "self");
    if (json_is_object(self)) take_record(from, self);
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(m, "peers"), i, item) {
        const char *id = json_string_value(json_object_get(item, "node_id"));
        const char *listen = json_string_value(json_object_get(item, "listen"));
        if (id == NULL || listen == NULL || strlen(id) != EXO_NODE_ID_BYTES - 1) continue;
        const char *own = exo_identity_node_id(n->identity);
        if (strcmp(id, own) == 0 || exo_members_find(n, id) != NULL) continue;
        uint32_t wait = strcmp(own, id) < 0 ? 0 : DIAL_YIELD_MS;
        if (find_address(n, listen) == NULL) add_hearsay(n, listen, id, exo_now_ms() + wait);
    }
}

/* ---- control links ---- */

/* Both sides keep the same one of two links: the one dialled by the lower node id; of two
 * dialled by the same side the newer, since the older is dying. */
static bool replaces(const exo_node *n, const exo_peer *p, bool outgoing) {
    if (p->outgoing == outgoing) return true;
    bool we_are_lower = strcmp(exo_identity_node_id(n->identity), p->node_id) < 0;
    return outgoing == we_are_lower;
}

/* l only receives from now on, and is closed soon: nothing on its way is lost. */
static void retire(exo_node *n, exo_link *l) {
    exo_link_ctx *ctx = exo_link_ud(l);
    ctx->retired = l;
    ctx->close_at_ms = exo_now_ms() + RETIRE_MS;
    ctx->next = n->retired;
    n->retired = ctx;
}

static void forget_retired(exo_node *n, const exo_link_ctx *ctx) {
    exo_link_ctx **at = &n->retired;
    while (*at != NULL && *at != ctx) at = &(*at)->next;
    if (*at != NULL) *at = ctx->next;
}

static exo_peer *add_peer(exo_node *n, const exo_peer_info *info) {
    exo_peer *p = exo_calloc(1, sizeof *p);
    if (p == NULL) return NULL;
    snprintf(p->node_id, sizeof p->node_id, "%s", info->node_id);
    p->next = n->peers;
    n->peers = p;
    return p;
}

/* The peer of a control link that opened; l becomes the one we send on, or retires. */
static void register_control(exo_node *n, exo_link *l, const exo_peer_info *info, bool outgoing) {
    exo_peer *p = exo_members_find(n, info->node_id);
    if (p != NULL && !replaces(n, p, outgoing)) {
        retire(n, l);
        return;
    }
    if (p != NULL) {
        retire(n, p->link);
    } else {
        p = add_peer(n, info);
        if (p == NULL) {
            exo_link_close(l, EXO_ENOMEM, "out of memory");
            return;
        }
        exo_info("node %s (%s) joined", info->name, info->node_id);
    }
    p->link = l;
    p->outgoing = outgoing;
    p->plan = (exo_path_plan){0}; /* another way, perhaps */
    snprintf(p->name, sizeof p->name, "%s", info->name);
    snprintf(p->listen, sizeof p->listen, "%s", info->listen);
    exo_admit_greet(n, l);
    exo_members_announce(n);
    exo_watch_greet(n, p);
    exo_topology_greet(n);
    exo_consensus_peer(n, p->node_id, true);
}

static void on_open(void *ud, exo_link *l, const exo_peer_info *peer, bool outgoing) {
    exo_node *n = ud;
    exo_link_ctx *ctx = exo_link_ud(l);
    if (!outgoing) return; /* its first frame says what it is for */
    if (ctx->use == EXO_LINK_LANE) {
        exo_instances_lane_open(n, l, ctx);
        return;
    }
    exo_address *a = ctx->address;
    snprintf(a->node_id, sizeof a->node_id, "%s", peer->node_id);
    a->redial.opened_ms = exo_now_ms();
    register_control(n, l, peer, true);
}

/* The first frame of a link that was dialled to us.  False: it is no control link. */
static bool classify(exo_node *n, exo_link *l, const exo_frame *f) {
    if (f->type == EXO_MSG_LANE) {
        exo_instances_on_lane(n, l, f);
        return false;
    }
    exo_link_ctx *ctx = exo_calloc(1, sizeof *ctx);
    if (ctx == NULL) {
        exo_link_close(l, EXO_ENOMEM, "out of memory");
        return false;
    }
    ctx->use = EXO_LINK_CONTROL;
    exo_link_set_ud(l, ctx);
    register_control(n, l, exo_link_peer(l), false);
    return true;
}

static void on_frame(void *ud, exo_link *l, const exo_frame *f) {
    exo_node *n = ud;
    if (exo_link_ud(l) == NULL && !classify(n, l, f)) return;
    exo_peer *p = exo_members_find(n, exo_link_peer(l)->node_id);
    if (p == NULL) return; /* it left; this is a retired link's rest */
    if (f->type == EXO_MSG_CLUSTER) exo_consensus_on_frame(n, p, f);
    if (f->type == EXO_MSG_TELEMETRY) exo_watch_on_frame(n, p, f);
    if (f->type != EXO_MSG_KEYRING && f->type != EXO_MSG_NODES && f->type != EXO_MSG_INSTANCE &&
        f->type != EXO_MSG_REQUEST && f->type != EXO_MSG_PROBE) {
        return; /* unknown types are skipped */
    }
    exo_error err = {0};
    json_t *m = NULL;
    exo_status st = EXO_OK;
    if (f->type == EXO_MSG_NODES && f->header_bytes > EXO_RECORD_MAX_BYTES) {
        st = exo_error_set(&err, EXO_EFORMAT, "%u bytes of what it says of itself; %u at most",
                           f->header_bytes, EXO_RECORD_MAX_BYTES);
    }
    if (st == EXO_OK) st = exo_frame_json(f, &m, &err);
    if (st != EXO_OK) {
        exo_link_close(l, EXO_EFORMAT, err.message);
        return;
    }
    switch (f->type) {
    case EXO_MSG_NODES: on_nodes(n, p, m); break;
    case EXO_MSG_PROBE: exo_topology_on_probe(n, p, m); break;
    case EXO_MSG_KEYRING: exo_admit_on_message(n, p, m); break;
    case EXO_MSG_INSTANCE: exo_instances_on_message(n, p, m); break;
    default: exo_routes_on_message(n, p, m); break;
    }
    json_decref(m);
}

static void drop_peer(exo_node *n, exo_peer *p, const char *why) {
    exo_peer **at = &n->peers;
    while (*at != p) at = &(*at)->next;
    *at = p->next;
    exo_info("node %s (%s) left: %s", p->name, p->node_id, why);
    exo_consensus_peer(n, p->node_id, false);
    exo_instances_peer_lost(n, p->node_id, why);
    exo_routes_peer_lost(n, p->node_id, why);
    json_decref(p->record);
    exo_watch_forget(p);
    exo_topology_forget(p);
    exo_free(p);
}

/* Nodes start and end in any order: a peer that does not answer is news at the third try, a key
 * that does not match at once. */
static void redial_later(exo_address *a, exo_status status, const char *why) {
    bool lasted = exo_redial_ended(&a->redial, exo_now_ms());
    if (lasted) a->last_reason[0] = a->why[0] = '\0';
    a->link = NULL;
    if (status != EXO_OK) snprintf(a->why, sizeof a->why, "%s", why);
    bool news = status == EXO_EAUTH || (status != EXO_OK && a->redial.n_failed >= QUIET_TRIES);
    if (news && strcmp(a->last_reason, why) != 0) {
        exo_warn("link to %s: %s", a->host_port, why);
        snprintf(a->last_reason, sizeof a->last_reason, "%s", why);
    }
}

static void on_close(void *ud, exo_link *l, exo_status status, const char *why) {
    exo_node *n = ud;
    exo_link_ctx *ctx = exo_link_ud(l);
    if (ctx == NULL) {
        if (status != EXO_OK) exo_admit_refused(n, why);
        return;
    }
    if (ctx->use == EXO_LINK_LANE) {
        exo_instances_lane_lost(n, ctx->instance, why);
    } else {
        forget_retired(n, ctx);
        if (ctx->address != NULL) redial_later(ctx->address, status, why);
        for (exo_peer *p = n->peers; p != NULL; p = p->next) {
            if (p->link != l) continue;
            drop_peer(n, p, why);
            break;
        }
    }
    exo_free(ctx);
}

exo_link_events exo_members_events(void) {
    return (exo_link_events){.on_open = on_open, .on_frame = on_frame, .on_close = on_close};
}

void exo_members_finish(exo_node *n) {
    for (exo_peer *p = n->peers, *next; p != NULL; p = next) {
        next = p->next;
        json_decref(p->record);
        exo_watch_forget(p);
        exo_topology_forget(p);
        exo_free(p);
    }
    for (exo_address *a = n->addresses, *next; a != NULL; a = next) {
        next = a->next;
        exo_free(a);
    }
    n->peers = NULL;
    n->addresses = NULL;
}
