/* admit.c - who may be in this cluster: the keyring followed, join codes answered, removed nodes
 * and copies of identities refused, new keys handed on.
 *
 * Commands (`exo invite`, `join`, `leave`, `remove`, `rekey`) change files in the data directory;
 * the running node looks at them every tick.  A guest's link (net/tls.h) gets the cluster's key
 * and nothing else:
 *
 *   node to guest  {"op": "offer", "name", "namespace", "nodes": [names]}
 *   guest to node  {"op": "accept"}                       after a person said yes
 *   node to guest  {"op": "welcome", "key", "namespace", "generation", "removed", "peers",
 * "cluster"?} guest to node  {"op": "stored"}                       then it closes
 *
 * Members tell each other (KEYRING frames) who was removed, and a new key:
 *   {"removed": {id: counter}, "rekey": {"key", "namespace", "generation"}} */
#define _DEFAULT_SOURCE
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/invite.h"
#include "net/secret.h"
#include "node/discover.h"
#include "node/node_impl.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define NODE_LOCK     "node.lock"
#define GUEST_MS      120000u /* for a person to say yes */
#define REFUSED_KEPT  16
#define REFUSED_AGAIN 60000u
#define GOODBYE_MS    2000u /* for the cluster to write down that this node leaves */

typedef struct guest {
    struct guest *next;
    exo_link *link;
    uint64_t close_at_ms;
    bool welcomed;
} guest;

struct exo_admit {
    int lock;
    uint64_t keyring_stamp, invites_stamp;
    double inviting_until;
    guest *guests;
    bool leaving; /* this node's key is another cluster's now, and its peers are being told */
    uint64_t leave_by_ms;
    struct {
        uint64_t hash, at_ms;
    } refused[REFUSED_KEPT];
    size_t n_refused;
};

/* ---- the keyring ---- */

exo_status exo_admit_start(exo_node *n, exo_error *err) {
    n->admit = exo_calloc(1, sizeof *n->admit);
    if (n->admit == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for the keyring");
    n->admit->lock = -1;
    exo_status st = exo_secret_lock(n->data_dir, NODE_LOCK, 0, &n->admit->lock, err);
    if (st == EXO_EBUSY) {
        return exo_error_set(err, EXO_EBUSY,
                             "another exo node uses the data directory %s: give this one its "
                             "own (--data-dir)",
                             n->data_dir);
    }
    st = exo_keyring_load(n->data_dir, n->d.cluster_key, n->d.name_space, &n->keyring, err);
    n->admit->keyring_stamp = exo_secret_stamp(n->data_dir, EXO_KEYRING_FILE);
    return st;
}

void exo_admit_finish(exo_node *n) {
    if (n->admit == NULL) return;
    for (guest *g = n->admit->guests, *next; g != NULL; g = next) {
        next = g->next;
        exo_free(g);
    }
    if (n->admit->lock >= 0) close(n->admit->lock);
    exo_free(n->admit);
}

static void tell_removed(exo_node *n, exo_link *l) {
    json_t *m = json_pack("{s:O}", "removed", n->keyring.removed);
    if (m != NULL) exo_link_send_json(l, EXO_MSG_KEYRING, m, NULL);
    json_decref(m);
}

void exo_admit_greet(exo_node *n, exo_link *l) {
    if (json_object_size(n->keyring.removed) > 0) tell_removed(n, l);
}

/* Everyone is told, and links with who was removed end. */
static void removals_changed(exo_node *n) {
    for (exo_peer *p = n->peers; p != NULL; p = p->next) {
        tell_removed(n, p->link);
        if (!exo_keyring_is_removed(&n->keyring, p->node_id)) continue;
        char why[EXO_ERROR_BYTES];
        snprintf(why, sizeof why, "node %s (%s) was removed from the cluster", p->name, p->node_id);
        exo_link_close(p->link, EXO_EAUTH, why);
    }
}

static void dial_all_again(exo_node *n) {
    uint64_t now = exo_now_ms();
    for (exo_address *a = n->addresses; a != NULL; a = a->next) {
        if (a->link != NULL) continue;
        a->redial.at_ms = now;
        a->last_reason[0] = '\0';
    }
}

static void hand_on_key(exo_node *n, const exo_keyring *k) {
    json_t *m = json_pack("{s:{s:s, s:s, s:I}}", "rekey", "key", k->stored_key, "namespace",
                          k->stored_name_space, "generation", (json_int_t)k->generation);
    for (exo_peer *p = n->peers; p != NULL && m != NULL; p = p->next) {
        exo_link_send_json(p->link, EXO_MSG_KEYRING, m, NULL);
    }
    json_decref(m);
}

/* The stored key is another one.  A rotation goes to all members and their links stay; otherwise
 * this node belongs elsewhere now. */
static void key_changed(exo_node *n, const exo_keyring *now) {
    exo_error err;
    bool elsewhere = strcmp(n->keyring.cluster, now->cluster) != 0;
    if (now->rekeyed && !elsewhere) {
        hand_on_key(n, now);
    } else {
        for (exo_peer *p = n->peers; p != NULL; p = p->next) {
            exo_link_close(p->link, EXO_EPEER, "it belongs to another cluster now");
        }
    }
    if (exo_tls_ctx_rekey(n->tls, now->stored_key, now->stored_name_space, &err) != EXO_OK) {
        exo_error_log("the new cluster key cannot be used: %s", err.message);
        return;
    }
    memcpy(n->keyring.key, now->stored_key, sizeof n->keyring.key);
    memcpy(n->keyring.name_space, now->stored_name_space, sizeof n->keyring.name_space);
    memcpy(n->keyring.cluster, now->cluster, sizeof n->keyring.cluster);
    exo_info(elsewhere ? "this node belongs to another cluster now (key generation %u)"
                       : "the cluster has a new key (generation %u)",
             now->generation);
    if (elsewhere) exo_consensus_begin_anew(n);
    exo_discover_rekeyed(n);
    dial_all_again(n);
}

static bool same_key(const exo_keyring *a, const exo_keyring *b) {
    return strcmp(a->stored_key, b->stored_key) == 0 &&
           strcmp(a->stored_name_space, b->stored_name_space) == 0;
}

static void on_goodbye(void *ud, exo_status status, const char *message) {
    (void)message;
    ((exo_node *)ud)->admit->leaving = status != EXO_OK; /* else only its deadline ends it */
}

/* The cluster that this node leaves writes it down, so that nobody waits for its vote. */
static bool goodbye_is_said(exo_node *n) {
    exo_admit *a = n->admit;
    uint64_t now = exo_now_ms();
    if (n->peers != NULL && a->leave_by_ms == 0) {
        exo_event e = {.type = EXO_EVENT_NODE_LEFT, .node = exo_node_number(exo_node_id(n))};
        a->leaving = true;
        a->leave_by_ms = now + GOODBYE_MS;
        exo_consensus_propose(n, &e, on_goodbye, n);
        return false; /* also where it counts at once: peers have yet to hear of it */
    }
    if (a->leaving && n->peers != NULL && now < a->leave_by_ms) return false;
    a->leaving = false;
    a->leave_by_ms = 0;
    return true;
}

/* The file changed, by a command or by us. */
static void follow_keyring(exo_node *n) {
    exo_keyring now;
    exo_error err = {0};
    n->admit->keyring_stamp = exo_secret_stamp(n->data_dir, EXO_KEYRING_FILE);
    if (exo_keyring_load(n->data_dir, NULL, NULL, &now, &err) != EXO_OK) {
        exo_warn("%s", err.message);
        return;
    }
    bool changed = !same_key(&n->keyring, &now);
    bool leaves = changed && !n->keyring.given && strcmp(n->keyring.cluster, now.cluster) != 0;
    if (leaves && !goodbye_is_said(n)) {
        n->admit->keyring_stamp = 0; /* the next tick looks again */
        exo_keyring_finish(&now);
        return;
    }
    if (exo_keyring_merge_removed(&n->keyring, now.removed)) removals_changed(n);
    memcpy(n->keyring.stored_key, now.stored_key, sizeof now.stored_key);
    memcpy(n->keyring.stored_name_space, now.stored_name_space, sizeof now.stored_name_space);
    n->keyring.generation = now.generation;
    n->keyring.joined = now.joined;
    if (changed && !n->keyring.given) key_changed(n, &now);
    exo_keyring_finish(&now);
}

typedef struct {
    const json_t *removed;
    const char *key, *name_space, *admitted;
    uint32_t generation;
} keyring_news;

static exo_status apply_news(void *ud, exo_keyring *k, exo_error *err) {
    const keyring_news *news = ud;
    if (news->removed != NULL) exo_keyring_merge_removed(k, news->removed);
    k->joined = true;
    exo_status st = EXO_OK;
    if (news->admitted != NULL) st = exo_keyring_set_removed(k, news->admitted, false, err);
    if (st == EXO_OK && news->key != NULL && news->generation > k->generation) {
        st = exo_keyring_set(k, news->key, news->name_space, news->generation, err);
        k->rekeyed = true;
    }
    return st;
}

/* Writes news to the file and goes by it. */
static void store_news(exo_node *n, keyring_news *news) {
    exo_error err;
    if (exo_keyring_change(n->data_dir, apply_news, news, NULL, &err) != EXO_OK) {
        exo_warn("what changed in the cluster is not stored: %s", err.message);
        if (news->removed != NULL && exo_keyring_merge_removed(&n->keyring, news->removed)) {
            removals_changed(n);
        }
        return;
    }
    follow_keyring(n);
}

static void take_rekey(exo_node *n, const exo_peer *from, const json_t *rekey) {
    keyring_news news = {.key = json_string_value(json_object_get(rekey, "key")),
                         .name_space = json_string_value(json_object_get(rekey, "namespace")),
                         .generation =
                             (uint32_t)json_integer_value(json_object_get(rekey, "generation"))};
    if (news.key == NULL || news.name_space == NULL || news.generation <= n->keyring.generation ||
        strcmp(news.name_space, n->keyring.name_space) != 0) {
        return;
    }
    if (n->keyring.given) {
        exo_warn("node %s has a new cluster key, but this node's comes from EXO_CLUSTER_KEY: "
                 "change it there",
                 from->name);
        return;
    }
    store_news(n, &news);
}

static bool has_news(const exo_keyring *k, const json_t *theirs) {
    exo_keyring copy = {.removed = json_copy(k->removed)};
    bool news = copy.removed != NULL && exo_keyring_merge_removed(&copy, theirs);
    json_decref(copy.removed);
    return news;
}

void exo_admit_on_message(exo_node *n, const exo_peer *from, const json_t *m) {
    const json_t *removed = json_object_get(m, "removed"), *rekey = json_object_get(m, "rekey");
    if (json_is_object(rekey)) take_rekey(n, from, rekey);
    if (json_is_object(removed) && has_news(&n->keyring, removed)) {
        keyring_news news = {.removed = removed};
        store_news(n, &news);
    }
}

/* ---- who is let in ---- */

static const char *run_of(const json_t *hello) {
    const char *run = json_string_value(json_object_get(hello, "run"));
    return run != NULL ? run : "";
}

exo_status exo_admit_check(void *node, const exo_peer_info *peer, exo_error *err) {
    exo_node *n = node;
    const char *run = run_of(peer->hello), *own_run = run_of(n->hello_extra);
    if (strcmp(peer->node_id, exo_node_id(n)) == 0 && strcmp(run, own_run) != 0) {
        return exo_error_set(err, EXO_EAUTH,
                             "two devices run with the identity %s: the data directory of one is "
                             "a copy of the other's; remove node.key from one of them and start "
                             "it again",
                             peer->node_id);
    }
    if (exo_keyring_is_removed(&n->keyring, peer->node_id)) {
        return exo_error_set(err, EXO_EAUTH, "node %s was removed from the cluster", peer->name);
    }
    const exo_peer *p = exo_members_find(n, peer->node_id);
    if (p == NULL || strcmp(run_of(exo_link_peer(p->link)->hello), run) == 0) return EXO_OK;
    return exo_error_set(err, EXO_EAUTH,
                         "another device runs with the identity %s: if its data directory was "
                         "copied, remove node.key from one of them and start it again",
                         peer->node_id);
}

/* The same refusal, whatever port it came from, is said once a minute. */
void exo_admit_refused(exo_node *n, const char *why) {
    exo_admit *a = n->admit;
    char plain[EXO_ERROR_BYTES];
    size_t k = 0;
    for (const char *c = why; *c != '\0'; c++) {
        plain[k++] = *c;
        if (*c == ':' && isdigit((unsigned char)c[1])) c += strspn(c + 1, "0123456789");
    }
    uint64_t hash = exo_hash64(plain, k, 0), now = exo_now_ms();
    for (size_t i = 0; i < REFUSED_KEPT; i++) {
        if (a->refused[i].hash == hash && now - a->refused[i].at_ms < REFUSED_AGAIN) return;
    }
    size_t slot = a->n_refused++ % REFUSED_KEPT;
    a->refused[slot].hash = hash;
    a->refused[slot].at_ms = now;
    exo_warn("a link to us was refused: %s", why);
}

/* ---- guests ---- */

static bool find_guest(void *ud, const char join_id[EXO_JOIN_ID_BYTES],
                       uint8_t key[EXO_JOIN_KEY_BYTES]) {
    exo_node *n = ud;
    exo_invite i;
    if (!exo_invites_find(n->data_dir, join_id, &i)) return false;
    memcpy(key, i.key, sizeof i.key);
    return true;
}

void exo_admit_guests(exo_node *n) { exo_tls_ctx_set_guests(n->tls, find_guest, n); }

static json_t *node_names(const exo_node *n) {
    json_t *names = json_pack("[s]", n->name);
    for (const exo_peer *p = n->peers; p != NULL && names != NULL; p = p->next) {
        json_array_append_new(names, json_string(p->name));
    }
    return names;
}

/* Used and expired codes still open a link: its end says which of the two it is. */
static exo_status check_invite(exo_node *n, exo_link *l, exo_error *err) {
    exo_invite i;
    if (!exo_invites_find(n->data_dir, exo_link_guest(l), &i)) {
        return exo_error_set(err, EXO_ENOTFOUND, "this join code is not known any more");
    }
    if (i.used_by[0] != '\0') {
        return exo_error_set(err, EXO_EBUSY,
                             "this join code was used already, by %s: ask for a new one (`exo "
                             "invite`)",
                             i.used_by);
    }
    if (i.expires > exo_unix_time()) return EXO_OK;
    return exo_error_set(err, EXO_ETIMEDOUT,
                         "this join code has expired: ask for a new one (`exo invite`)");
}

static void on_guest(void *ud, exo_link *l, const exo_peer_info *peer, bool outgoing) {
    exo_node *n = ud;
    exo_error err;
    (void)peer;
    (void)outgoing;
    if (check_invite(n, l, &err) != EXO_OK) {
        exo_link_close(l, err.status, err.message);
        return;
    }
    guest *g = exo_calloc(1, sizeof *g);
    json_t *offer = json_pack("{s:s, s:s, s:s, s:o}", "op", "offer", "name", n->name, "namespace",
                              n->keyring.name_space, "nodes", node_names(n));
    if (g == NULL || offer == NULL || exo_link_send_json(l, EXO_MSG_JOIN, offer, NULL) != EXO_OK) {
        exo_link_close(l, EXO_ENOMEM, "out of memory");
        exo_free(g);
    } else {
        g->link = l;
        g->close_at_ms = exo_now_ms() + GUEST_MS;
        g->next = n->admit->guests;
        n->admit->guests = g;
        exo_link_set_ud(l, g);
    }
    json_decref(offer);
}

static json_t *dial_list(const exo_node *n) {
    json_t *list = json_array();
    for (const exo_peer *p = n->peers; p != NULL && list != NULL; p = p->next) {
        if (p->listen[0] == '\0' || strchr(p->listen, '%') != NULL) continue;
        json_array_append_new(list, json_string(p->listen));
    }
    return list;
}

static void welcome(exo_node *n, guest *g) {
    const exo_peer_info *who = exo_link_peer(g->link);
    char by[sizeof who->name + EXO_NODE_ID_BYTES + 3];
    exo_error err;
    snprintf(by, sizeof by, "%s (%s)", who->name, who->node_id);
    if (exo_invites_use(n->data_dir, exo_link_guest(g->link), by, &err) != EXO_OK) {
        exo_link_close(g->link, err.status, err.message);
        return;
    }
    keyring_news news = {.admitted = who->node_id};
    store_news(n, &news);
    json_t *m = json_pack("{s:s, s:s, s:s, s:I, s:O, s:o, s:s*}", "op", "welcome", "key",
                          n->keyring.key, "namespace", n->keyring.name_space, "generation",
                          (json_int_t)n->keyring.generation, "removed", n->keyring.removed, "peers",
                          dial_list(n), "cluster", n->keyring.given ? NULL : n->keyring.cluster);
    if (m == NULL || exo_link_send_json(g->link, EXO_MSG_JOIN, m, NULL) != EXO_OK) {
        exo_link_close(g->link, EXO_ENOMEM, "out of memory");
    }
    json_decref(m);
    g->welcomed = true;
}

static void on_guest_frame(void *ud, exo_link *l, const exo_frame *f) {
    exo_node *n = ud;
    guest *g = exo_link_ud(l);
    exo_error err;
    json_t *m = NULL;
    if (g == NULL) return;
    if (exo_frame_json(f, &m, &err) != EXO_OK) {
        exo_link_close(l, EXO_EFORMAT, err.message);
        return;
    }
    const char *op = json_string_value(json_object_get(m, "op"));
    if (op != NULL && strcmp(op, "accept") == 0 && !g->welcomed) {
        welcome(n, g);
    } else if (op != NULL && strcmp(op, "stored") == 0 && g->welcomed) {
        exo_info("%s (%s) holds the cluster key now, by a join code", exo_link_peer(l)->name,
                 exo_link_peer(l)->node_id);
    }
    json_decref(m);
}

static void on_guest_close(void *ud, exo_link *l, exo_status status, const char *why) {
    exo_node *n = ud;
    guest *g = exo_link_ud(l);
    if (g == NULL) {
        if (status != EXO_OK) exo_admit_refused(n, why);
        return;
    }
    if (!g->welcomed) exo_debug("a device with a join code did not join: %s", why);
    for (guest **at = &n->admit->guests; *at != NULL; at = &(*at)->next) {
        if (*at != g) continue;
        *at = g->next;
        break;
    }
    exo_free(g);
}

exo_link_events exo_admit_guest_events(void) {
    return (exo_link_events){
        .on_open = on_guest, .on_frame = on_guest_frame, .on_close = on_guest_close};
}

bool exo_admit_inviting(const exo_node *n) { return n->admit->inviting_until > exo_unix_time(); }

/* ---- time ---- */

static void note_joined(exo_node *n) {
    if (n->keyring.joined || n->peers == NULL || n->keyring.given) return;
    keyring_news news = {0};
    n->keyring.joined = true;
    store_news(n, &news);
}

void exo_admit_tick(exo_node *n, uint64_t now_ms) {
    exo_admit *a = n->admit;
    uint64_t stamp = exo_secret_stamp(n->data_dir, EXO_KEYRING_FILE);
    if (stamp != a->keyring_stamp && stamp != 0) follow_keyring(n);
    stamp = exo_secret_stamp(n->data_dir, EXO_INVITE_FILE);
    if (stamp != a->invites_stamp) {
        a->invites_stamp = stamp;
        a->inviting_until = exo_invites_said_until(n->data_dir);
    }
    for (guest *g = a->guests; g != NULL; g = g->next) {
        if (now_ms >= g->close_at_ms) {
            exo_link_close(g->link, EXO_ETIMEDOUT, "nobody confirmed the join in 2 minutes");
        }
    }
    note_joined(n);
}
