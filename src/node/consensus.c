/* consensus.c - carries out what the cluster's pure step asks for: the log on disk, messages on
 * control links, the clock, and whoever waits for an event to count.
 *
 * A full or broken disk takes this node out of the log, not out of the cluster: it goes on
 * computing, says so in one line, promises nothing any more, and tries the disk again. */
#define _DEFAULT_SOURCE
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "node/node_impl.h"

#include <inttypes.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A busy machine answers late; a death is noticed by the link, not by these, which then costs half
 * an election at most.  Heartbeats leave with the link's signs of life, up to EXO_LINK_PING_MS late
 * on each way. */
#define HEARTBEAT_MS 500u
#define ELECTION_MS  1500u

#define RETRY_MS      5000u  /* before a disk that refused is tried again */
#define WAITER_MS     10000u /* an event must count by then, or its waiter hears that it does not */
#define MAX_INPUTS    4096   /* of this node's own, not yet taken */
#define STEPS_AT_ONCE 1000   /* a step that always asks for another is a bug, not a hang */

/* An input that came up while another was being carried out. */
typedef struct input {
    struct input *next;
    exo_cluster_input in;
    exo_event event;
} input;

typedef struct waiter {
    struct waiter *next;
    uint64_t tag, deadline_ms;
    exo_counted_fn fn;
    void *ud;
} waiter;

struct exo_consensus {
    exo_node *node;
    exo_log_store *store; /* NULL: a cluster of one that remembers nothing */
    exo_cluster *cluster;
    exo_cluster_actions actions;
    bool keeps;    /* it should have a store */
    bool stopped;  /* the disk refused; cluster is what was known then */
    bool carrying; /* actions are being carried out */
    uint64_t retry_at_ms;
    uint64_t last_tag;
    input *first, *last;
    size_t n_inputs;
    waiter *waiters;
    uint64_t shown_master, shown_term;
    bool shown_provisional;
    char refusal[EXO_ERROR_BYTES]; /* of the disk, while stopped */
};

uint64_t exo_node_number(const char *node_id) { return strtoull(node_id, NULL, 16); }

void exo_node_number_id(uint64_t number, char out[EXO_NODE_ID_BYTES]) {
    snprintf(out, EXO_NODE_ID_BYTES, "%016" PRIx64, number);
}

/* ---- life ---- */

/* The cluster that this node's log is of.  A key from outside has no id beside it: what follows
 * from it stands for one. */
static exo_status cluster_number(const exo_node *n, uint64_t *out, exo_error *err) {
    const exo_keyring *k = &n->keyring;
    uint8_t derived[32];
    bool stored = strcmp(k->key, k->stored_key) == 0 && k->cluster[0] != '\0';
    if (stored) {
        uint64_t h = exo_hash64(k->cluster, strlen(k->cluster), 0);
        *out = exo_hash64(k->name_space, strlen(k->name_space), h) | 1;
        return EXO_OK;
    }
    exo_status st = exo_tls_ctx_derive(n->tls, "exo cluster log 1", derived, err);
    if (st == EXO_OK) *out = exo_hash64(derived, sizeof derived, 0) | 1;
    return st;
}

static exo_status open_store(exo_consensus *k, exo_error *err) {
    uint64_t cluster;
    exo_status st = cluster_number(k->node, &cluster, err);
    return st == EXO_OK ? exo_log_store_open(k->node->data_dir, cluster, &k->store, err) : st;
}

/* From what the store holds; without one, from nothing. */
static exo_status create_cluster(exo_consensus *k, exo_error *err) {
    exo_node *n = k->node;
    uint64_t seed = 0;
    if (RAND_bytes((unsigned char *)&seed, sizeof seed) != 1) {
        return exo_error_set(err, EXO_EIO, "no random numbers");
    }
    exo_cluster_desc d = {.node = exo_node_number(exo_node_id(n)),
                          .name = n->name,
                          .voter_ok = true,
                          .alone = n->net == NULL,
                          .seed = seed,
                          .heartbeat_ms = HEARTBEAT_MS,
                          .election_ms = ELECTION_MS,
                          .session = 1,
                          .unix_ms = (uint64_t)(exo_unix_time() * 1000)};
    if (k->store != NULL) {
        d.stored = *exo_log_store_found(k->store);
        d.session = exo_log_store_session(k->store);
    }
    exo_cluster *fresh = NULL;
    exo_status st = exo_cluster_create(&d, exo_now_ms(), &fresh, err);
    if (st != EXO_OK) return st;
    exo_cluster_destroy(k->cluster);
    k->cluster = fresh;
    n->next_epoch = (uint32_t)(d.session << 8) & INT32_MAX; /* above those of earlier runs */
    return EXO_OK;
}

static exo_status make_cluster(exo_consensus *k, exo_error *err) {
    exo_status st = k->keeps ? open_store(k, err) : EXO_OK;
    if (st == EXO_OK) st = create_cluster(k, err);
    if (st != EXO_OK) {
        exo_log_store_close(k->store);
        k->store = NULL;
    } else if (k->store != NULL) {
        exo_log_store_forget(k->store);
    }
    return st;
}

static void stop(exo_consensus *k, const char *why) {
    exo_warn("this node takes no part in the cluster's decisions for now, and goes on computing: "
             "%s",
             why);
    snprintf(k->refusal, sizeof k->refusal, "%s", why);
    k->stopped = true;
    k->retry_at_ms = exo_now_ms() + RETRY_MS;
    exo_log_store_close(k->store);
    k->store = NULL;
}

exo_status exo_consensus_create(exo_node *n, exo_error *err) {
    exo_consensus *k = exo_calloc(1, sizeof *k);
    if (k == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for the cluster");
    k->node = n;
    k->keeps = n->net != NULL; /* one machine that serves one model has nothing to remember */
    exo_error why = {0};
    exo_status st = make_cluster(k, &why);
    if (st == EXO_EIO) { /* it knows nothing and votes for nobody until the disk takes it */
        stop(k, why.message);
        st = create_cluster(k, &why);
    }
    if (st != EXO_OK && err != NULL) *err = why;
    if (st != EXO_OK) {
        exo_free(k);
        return st;
    }
    n->consensus = k;
    return EXO_OK;
}

/* Whatever waits for the log hears that nothing comes of it. */
static void drop_waiting(exo_consensus *k, const char *why) {
    waiter *waiters = k->waiters;
    input *inputs = k->first;
    k->waiters = NULL;
    k->first = k->last = NULL;
    k->n_inputs = 0;
    for (waiter *w = waiters, *next; w != NULL; w = next) {
        next = w->next;
        w->fn(w->ud, EXO_EPEER, why);
        exo_free(w);
    }
    for (input *i = inputs, *next; i != NULL; i = next) {
        next = i->next;
        exo_free(i);
    }
}

void exo_consensus_finish(exo_node *n) {
    exo_consensus *k = n->consensus;
    if (k == NULL) return;
    drop_waiting(k, EXO_NODE_STOPPING);
    exo_cluster_destroy(k->cluster);
    exo_cluster_actions_finish(&k->actions);
    exo_log_store_close(k->store);
    exo_free(k);
    n->consensus = NULL;
}

/* ---- actions ---- */

static void tell_waiter(exo_consensus *k, uint64_t tag, exo_status st, const char *message) {
    for (waiter **at = &k->waiters; *at != NULL; at = &(*at)->next) {
        waiter *w = *at;
        if (w->tag != tag) continue;
        *at = w->next;
        w->fn(w->ud, st, message);
        exo_free(w);
        return;
    }
}

static void send_out(exo_consensus *k, const exo_cluster_action *a) {
    char id[EXO_NODE_ID_BYTES];
    exo_node_number_id(a->node, id);
    exo_peer *p = exo_members_find(k->node, id);
    if (p == NULL) return; /* the log sends again */
    exo_frame f = {.type = EXO_MSG_CLUSTER, .body = a->bytes, .body_bytes = (uint32_t)a->n_bytes};
    exo_error err = {0};
    exo_status st =
        a->may_wait ? exo_link_send_later(p->link, &f, &err) : exo_link_send(p->link, &f, &err);
    if (st != EXO_OK) {
        exo_debug("cannot tell %s about the log: %s", p->name, err.message);
    }
}

static void show_status(exo_consensus *k) {
    uint64_t master = exo_cluster_master(k->cluster), term = exo_cluster_term(k->cluster);
    bool provisional = exo_cluster_provisional(k->cluster);
    if (master == k->shown_master && term == k->shown_term && provisional == k->shown_provisional) {
        return;
    }
    k->shown_master = master;
    k->shown_term = term;
    k->shown_provisional = provisional;
    if (master == 0 || k->node->net == NULL) return;
    char id[EXO_NODE_ID_BYTES];
    exo_node_number_id(master, id);
    exo_info("node %s is master of term %" PRIu64 "%s", id, term,
             provisional ? ", provisional: most voters are away" : "");
}

static void carry_out(exo_consensus *k) {
    for (size_t i = 0; i < k->actions.n; i++) {
        const exo_cluster_action *a = &k->actions.items[i];
        switch (a->kind) {
        case EXO_CLUSTER_SEND: send_out(k, a); break;
        case EXO_CLUSTER_APPLIED:
            exo_instances_on_event(k->node, a->event);
            exo_events_applied(k->node, a);
            if (a->tag != 0) tell_waiter(k, a->tag, EXO_OK, "");
            break;
        case EXO_CLUSTER_RESTORED:
            exo_instances_on_state(k->node);
            exo_events_restored(k->node, a);
            break;
        case EXO_CLUSTER_DROPPED:
            tell_waiter(k, a->tag, EXO_EBUSY, "too many changes wait for a master");
            break;
        default: break; /* on disk; the status is shown below */
        }
    }
    show_status(k);
}

/* ---- steps ---- */

static void step(exo_consensus *k, const exo_cluster_input *in) {
    exo_error err = {0};
    if (k->stopped) return;
    exo_status st = exo_cluster_step(k->cluster, in, exo_now_ms(), &k->actions, &err);
    if (st == EXO_EFORMAT && in->kind == EXO_CLUSTER_MESSAGE) {
        char id[EXO_NODE_ID_BYTES];
        exo_node_number_id(in->node, id);
        exo_peer *p = exo_members_find(k->node, id);
        if (p != NULL) exo_link_close(p->link, EXO_EFORMAT, err.message);
        st = EXO_OK;
    }
    /* What is promised must be on disk before anybody hears of it. */
    if (st == EXO_OK && k->store != NULL) st = exo_log_store_write(k->store, &k->actions, &err);
    if (st != EXO_OK) {
        stop(k, err.message);
        return;
    }
    carry_out(k);
}

static void arm(exo_consensus *k);

static void run_step(exo_consensus *k, const exo_cluster_input *in) {
    k->carrying = true;
    step(k, in);
    for (uint32_t i = 0; i < STEPS_AT_ONCE && k->first != NULL && !k->stopped; i++) {
        input *next = k->first;
        k->first = next->next;
        if (k->first == NULL) k->last = NULL;
        k->n_inputs--;
        step(k, &next->in);
        exo_free(next);
    }
    k->carrying = false;
    arm(k);
}

/* Now, or once what is being carried out is done. */
static bool take(exo_consensus *k, const exo_cluster_input *in) {
    if (!k->carrying && !k->stopped) {
        run_step(k, in);
        return true;
    }
    input *i = k->n_inputs < MAX_INPUTS ? exo_calloc(1, sizeof *i) : NULL;
    if (i == NULL) return false;
    i->in = *in;
    if (in->event != NULL) {
        i->event = *in->event;
        i->in.event = &i->event;
    }
    if (k->last != NULL) {
        k->last->next = i;
    } else {
        k->first = i;
    }
    k->last = i;
    k->n_inputs++;
    return true;
}

static void on_timer(uv_timer_t *t) {
    exo_node *n = t->data;
    if (n->stopping || n->consensus == NULL) return;
    run_step(n->consensus, &(exo_cluster_input){.kind = EXO_CLUSTER_TICK});
}

static void arm(exo_consensus *k) {
    exo_node *n = k->node;
    if (k->stopped || n->stopping) return;
    uint64_t at = exo_cluster_deadline(k->cluster), now = exo_now_ms();
    uv_update_time(&n->loop);
    uv_timer_start(&n->cluster_timer, on_timer, at > now ? at - now : 0, 0);
}

void exo_consensus_start(exo_node *n) {
    run_step(n->consensus, &(exo_cluster_input){.kind = EXO_CLUSTER_TICK});
}

/* The disk may be writable again: everything from what it holds. */
static void try_again(exo_consensus *k) {
    exo_error err = {0};
    if (make_cluster(k, &err) != EXO_OK) {
        k->retry_at_ms = exo_now_ms() + RETRY_MS;
        exo_debug("the cluster's log is still not writable: %s", err.message);
        return;
    }
    exo_info("the cluster's log is written again: this node takes part in decisions");
    k->stopped = false;
    run_step(k, &(exo_cluster_input){.kind = EXO_CLUSTER_TICK});
    for (exo_peer *p = k->node->peers; p != NULL; p = p->next) {
        exo_consensus_peer(k->node, p->node_id, true);
    }
}

void exo_consensus_begin_anew(exo_node *n) {
    static const char why[] = "this node belongs to another cluster now";
    exo_consensus *k = n->consensus;
    exo_error err = {0};
    drop_waiting(k, why);
    while (n->instances != NULL) exo_instances_end(n, n->instances, why);
    drop_waiting(k, why); /* what their end proposed */
    exo_log_store_close(k->store);
    k->store = NULL;
    if (make_cluster(k, &err) != EXO_OK) {
        stop(k, err.message);
        return;
    }
    k->stopped = false;
    exo_consensus_start(n); /* the links to the last one's nodes are closing */
}

/* Whom the keyring keeps outside is no member of the log either; the master says so. */
static void follow_keyring(exo_node *n) {
    const exo_consensus *k = n->consensus;
    if (k->stopped || exo_cluster_master(k->cluster) != exo_node_number(exo_node_id(n))) return;
    const exo_state *s = exo_cluster_state_of(k->cluster);
    for (size_t i = 0; i < s->n_nodes; i++) {
        char id[EXO_NODE_ID_BYTES];
        exo_event e = {.type = EXO_EVENT_NODE_LEFT, .node = s->nodes[i].node};
        exo_node_number_id(e.node, id);
        if (s->nodes[i].member == 0 || !exo_keyring_is_removed(&n->keyring, id)) continue;
        exo_consensus_propose(n, &e, NULL, NULL);
        return; /* the state may be another now; the next tick looks for more */
    }
}

void exo_consensus_tick(exo_node *n, uint64_t now_ms) {
    exo_consensus *k = n->consensus;
    if (n->net != NULL) follow_keyring(n);
    if (k->stopped && now_ms >= k->retry_at_ms) try_again(k);
    for (waiter *w = k->waiters, *next; w != NULL; w = next) {
        next = w->next;
        if (now_ms < w->deadline_ms) continue;
        tell_waiter(k, w->tag, EXO_EBUSY,
                    k->stopped ? "this node's disk refuses the cluster's log (see its log)"
                               : "the cluster has had no master for 10 s; try again");
    }
}

/* ---- what happens ---- */

void exo_consensus_peer(exo_node *n, const char *node_id, bool up) {
    if (n->stopping || n->consensus == NULL) return;
    exo_cluster_input in = {.kind = up ? EXO_CLUSTER_PEER_UP : EXO_CLUSTER_PEER_DOWN,
                            .node = exo_node_number(node_id)};
    if (n->consensus->stopped) return; /* peers are told when it goes on */
    take(n->consensus, &in);
}

void exo_consensus_on_frame(exo_node *n, const exo_peer *from, const exo_frame *f) {
    if (n->stopping || n->consensus->stopped) return;
    exo_cluster_input in = {.kind = EXO_CLUSTER_MESSAGE,
                            .node = exo_node_number(from->node_id),
                            .bytes = f->body,
                            .n_bytes = f->body_bytes};
    run_step(n->consensus, &in);
}

void exo_consensus_propose(exo_node *n, const exo_event *e, exo_counted_fn fn, void *ud) {
    exo_consensus *k = n->consensus;
    exo_cluster_input in = {.kind = EXO_CLUSTER_PROPOSE, .event = e};
    waiter *w = fn != NULL ? exo_calloc(1, sizeof *w) : NULL;
    if (fn != NULL && w == NULL) {
        fn(ud, EXO_ENOMEM, "out of memory for a change of the cluster");
        return;
    }
    if (w != NULL) {
        *w = (waiter){.next = k->waiters,
                      .tag = ++k->last_tag,
                      .deadline_ms = exo_now_ms() + WAITER_MS,
                      .fn = fn,
                      .ud = ud};
        k->waiters = w;
        in.tag = w->tag;
    }
    if (!take(k, &in) && w != NULL) {
        tell_waiter(k, w->tag, EXO_EBUSY, "too many changes wait on this node");
    }
}

/* ---- questions ---- */

const exo_state *exo_consensus_state(const exo_node *n) {
    return exo_cluster_state_of(n->consensus->cluster);
}

uint64_t exo_consensus_master(const exo_node *n) {
    const exo_consensus *k = n->consensus;
    return k == NULL || k->stopped ? 0 : exo_cluster_master(k->cluster);
}

bool exo_consensus_is_stopped(const exo_node *n) { return n->consensus->stopped; }

static json_t *log_json(const exo_consensus *k) {
    const char *trouble = k->stopped         ? k->refusal
                          : k->store != NULL ? exo_log_store_trouble(k->store)
                                             : "";
    return json_pack("{s:b, s:s?}", "kept", k->store != NULL, "trouble",
                     trouble[0] != '\0' ? trouble : NULL);
}

/* The names that /state has for it, as members of s. */
void exo_consensus_show(exo_node *n, json_t *s) {
    const exo_consensus *k = n->consensus;
    uint64_t master = exo_consensus_master(n);
    char id[EXO_NODE_ID_BYTES];
    exo_node_number_id(master, id);
    json_object_set_new(s, "master", master != 0 ? json_string(id) : json_null());
    json_object_set_new(s, "term", json_integer((json_int_t)exo_cluster_term(k->cluster)));
    json_object_set_new(s, "provisional", json_boolean(exo_cluster_provisional(k->cluster)));
    json_t *members = json_object();
    const exo_state *st = exo_cluster_state_of(k->cluster);
    for (size_t i = 0; i < st->n_nodes && members != NULL; i++) {
        const exo_state_node *m = &st->nodes[i];
        if (m->member == 0 && !m->removed) continue; /* it left */
        exo_node_number_id(m->node, id);
        bool here = strcmp(id, exo_node_id(n)) == 0 || exo_members_find(n, id) != NULL;
        json_object_set_new(
            members, id,
            json_pack("{s:s, s:b, s:b, s:b}", "name", m->name, "connected", (int)here, "voter",
                      (int)exo_cluster_is_voter(k->cluster, m->node), "removed", (int)m->removed));
    }
    json_object_set_new(s, "members", members);
    json_object_set_new(s, "log", log_json(k));
}
