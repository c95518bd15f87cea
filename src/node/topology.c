/* topology.c - how good this node's links are: measured, told to peers, shown in GET /state.
 *
 * Round trip, jitter and loss come with every link (net/ping.c).  The bandwidth is measured by a
 * short train of datagrams (net/train.h), soon after a link opens or changes and seldom otherwise:
 *
 *   source: PROBE {"ask": token, "packets": n}     sink: PROBE {"go": token, "port": p}
 *   source: the train                              sink: PROBE {"result": token, "packets": got,
 *                                                               "bytes_per_second": x}
 *
 * The sink takes one train at a time and none while a stage of it computes; it says {"busy": token}
 * then.  The token comes over the link, so that nobody else can have a train counted. */
#define _DEFAULT_SOURCE
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/interfaces.h"
#include "net/probe.h"
#include "net/train.h"
#include "node/node_impl.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ASK_MS       2000u   /* an ask without its result has failed by then */
#define TRAIN_MS     600u    /* for all of a train to arrive */
#define TELL_MS      5000u   /* between two words to peers when something has changed */
#define TELL_IDLE_MS 300000u /* and when nothing has */
#define TOKEN_BYTES  17

struct exo_topology {
    exo_probe *probe; /* NULL: no socket, no bandwidth */
    /* Our own train. */
    uint64_t token; /* 0 = none is under way */
    char sink[EXO_NODE_ID_BYTES];
    uint32_t n_sent;
    uint64_t give_up_ms;
    /* A peer's. */
    exo_train train; /* token 0 = none is expected */
    char source[EXO_NODE_ID_BYTES];
    uint64_t train_end_ms;
    bool changed;
    uint64_t told_ms, busy_us;
};

/* ---- what is measured ---- */

/* Times to the microsecond, which is what they are read in; of a bandwidth kilobits. */
static exo_link_metrics metrics_of(exo_node *n, const exo_peer *p) {
    exo_link_quality q = exo_link_measured(p->link);
    exo_link_metrics m = {.latency_ms = exo_json_rounded(q.rtt_ms / 2, 1e4),
                          .bandwidth_gbps = NAN,
                          .p2p_bandwidth_gbps = NAN,
                          .jitter_ms = exo_json_rounded(q.jitter_ms, 1e3),
                          .loss = exo_json_rounded(q.loss, 1e4)};
    exo_interface all[EXO_MAX_INTERFACES];
    char ours[64], theirs[64];
    size_t n_all = 0;
    snprintf(m.source_node, sizeof m.source_node, "%s", exo_node_id(n));
    snprintf(m.sink_node, sizeof m.sink_node, "%s", p->node_id);
    if (p->plan.bytes_per_s > 0) {
        m.bandwidth_gbps = exo_json_rounded(p->plan.bytes_per_s * 8e-9, 1e6);
    }
    exo_link_hosts(p->link, ours, theirs);
    const exo_interface *i = NULL;
    if (exo_interfaces_list(all, EXO_MAX_INTERFACES, &n_all, NULL) == EXO_OK) {
        i = exo_interface_of(all, n_all, ours);
    }
    snprintf(m.interface, sizeof m.interface, "%s", i != NULL ? i->name : "");
    snprintf(m.link_type, sizeof m.link_type, "%s",
             i != NULL ? exo_interface_kind_name(i->kind) : "unknown");
    return m;
}

static json_t *real_or_null(double v) { return isnan(v) ? json_null() : json_real(v); }

json_t *exo_topology_link(exo_node *n, const exo_peer *p) {
    exo_link_metrics m = metrics_of(n, p);
    char ours[64], theirs[64];
    exo_link_hosts(p->link, ours, theirs);
    json_t *age =
        p->plan.at_ms != 0 ? json_real((double)(exo_now_ms() - p->plan.at_ms) / 1000) : json_null();
    return json_pack(
        "{s:s, s:s, s:f, s:o, s:o, s:o, s:o, s:s, s:s, s:s, s:I, s:I}", "source", m.source_node,
        "sink", m.sink_node, "rtt_ms", exo_json_rounded(exo_link_rtt_ms(p->link), 1e3), "jitter_ms",
        real_or_null(m.jitter_ms), "loss", real_or_null(m.loss), "bandwidth_mbps",
        real_or_null(exo_json_rounded(m.bandwidth_gbps * 1000, 1e3)), "bandwidth_age_s", age,
        "address", theirs, "interface", m.interface, "link_type", m.link_type, "bytes_sent",
        (json_int_t)exo_link_bytes_sent(p->link), "bytes_received",
        (json_int_t)exo_link_bytes_received(p->link));
}

json_t *exo_topology_all(exo_node *n) {
    json_t *all = json_array();
    for (const exo_peer *p = n->peers; p != NULL && all != NULL; p = p->next) {
        exo_link_metrics own = metrics_of(n, p);
        json_array_append_new(all, exo_link_metrics_json(&own));
        for (size_t i = 0; i < p->n_links; i++) {
            json_array_append_new(all, exo_link_metrics_json(&p->links[i]));
        }
    }
    return all;
}

/* ---- telling and hearing ---- */

static void tell(exo_node *n, uint64_t now_ms) {
    size_t count = 0, i = 0;
    for (const exo_peer *p = n->peers; p != NULL; p = p->next) count++;
    exo_link_metrics *own = exo_calloc(count + 1, sizeof *own);
    if (own == NULL) return; /* with the next change */
    for (const exo_peer *p = n->peers; p != NULL; p = p->next) own[i++] = metrics_of(n, p);
    json_t *m = exo_telemetry_create_topology_message(exo_unix_time(), own, count);
    for (const exo_peer *p = n->peers; p != NULL && m != NULL; p = p->next) {
        exo_link_send_json(p->link, EXO_MSG_TELEMETRY, m, NULL);
    }
    json_decref(m);
    exo_free(own);
    n->topology->told_ms = now_ms;
    n->topology->changed = false;
}

exo_status exo_topology_on_message(exo_peer *from, const json_t *payload, exo_error *err) {
    exo_link_metrics *links;
    size_t count;
    exo_status st = exo_telemetry_parse_topology(payload, &links, &count, err);
    if (st != EXO_OK) return st;
    for (size_t i = 0; i < count; i++) { /* whose they are, the link says */
        snprintf(links[i].source_node, sizeof links[i].source_node, "%s", from->node_id);
    }
    exo_topology_forget(from);
    from->links = links;
    from->n_links = count;
    return EXO_OK;
}

void exo_topology_forget(exo_peer *p) {
    exo_topology_free(p->links, p->n_links);
    p->links = NULL;
    p->n_links = 0;
}

void exo_topology_greet(exo_node *n) {
    if (n->topology != NULL) n->topology->changed = true;
}

/* ---- trains ---- */

/* A stage of this node has computed since this was asked last, or an answer is asked here. */
static bool computes(exo_node *n) {
    uint64_t busy_us = 0;
    for (const exo_instance *i = n->instances; i != NULL; i = i->next) {
        exo_worker_stats s;
        if (i->worker == NULL) continue;
        exo_worker_get_stats(i->worker, &s);
        busy_us += s.busy_us;
    }
    bool worked = busy_us != n->topology->busy_us;
    n->topology->busy_us = busy_us;
    return worked || n->n_routes > 0;
}

static void say(const exo_peer *p, json_t *m_take) {
    if (m_take != NULL) exo_link_send_json(p->link, EXO_MSG_PROBE, m_take, NULL);
    json_decref(m_take);
}

static void token_text(uint64_t token, char out[TOKEN_BYTES]) {
    snprintf(out, TOKEN_BYTES, "%016" PRIx64, token);
}

static void ask(exo_node *n, exo_peer *p, uint64_t now_ms) {
    exo_topology *t = n->topology;
    char text[TOKEN_BYTES];
    if (uv_random(NULL, NULL, &t->token, sizeof t->token, 0, NULL) != 0 || t->token == 0) {
        t->token = 0;
        return;
    }
    t->n_sent = exo_path_wants_long(&p->plan) ? EXO_TRAIN_LONG : EXO_TRAIN_SHORT;
    t->give_up_ms = now_ms + ASK_MS;
    snprintf(t->sink, sizeof t->sink, "%s", p->node_id);
    token_text(t->token, text);
    say(p, json_pack("{s:s, s:I}", "ask", text, "packets", (json_int_t)t->n_sent));
}

static void ended(exo_node *n, exo_peer *p, double bytes_per_s, uint64_t now_ms) {
    exo_topology *t = n->topology;
    exo_link_quality q = exo_link_measured(p->link);
    t->token = 0;
    if (exo_path_measured(&p->plan, t->n_sent > EXO_TRAIN_SHORT, bytes_per_s, q.rtt_ms, now_ms)) {
        t->changed = true;
    }
}

static void on_packet(void *ud, uint64_t token, uint32_t index, uint32_t bytes, uint64_t at_us) {
    exo_topology *t = ((exo_node *)ud)->topology;
    if (t->train.token != 0) exo_train_note(&t->train, token, index, bytes, at_us);
}

/* The peer's train has arrived, or its time is over. */
static void end_train(exo_node *n) {
    exo_topology *t = n->topology;
    exo_peer *p = exo_members_find(n, t->source);
    char text[TOKEN_BYTES];
    token_text(t->train.token, text);
    if (p != NULL) {
        say(p, json_pack("{s:s, s:I, s:f}", "result", text, "packets", (json_int_t)t->train.n_got,
                         "bytes_per_second", exo_train_rate(&t->train)));
    }
    t->train.token = 0;
}

static void on_ask(exo_node *n, exo_peer *from, const char *text, const json_t *m) {
    exo_topology *t = n->topology;
    uint64_t token = strtoull(text, NULL, 16);
    json_int_t packets = json_integer_value(json_object_get(m, "packets"));
    if (t->probe == NULL || t->train.token != 0 || computes(n) || token == 0 || packets < 2 ||
        packets > EXO_TRAIN_LONG) {
        say(from, json_pack("{s:s}", "busy", text));
        return;
    }
    exo_train_begin(&t->train, token, (uint32_t)packets);
    snprintf(t->source, sizeof t->source, "%s", from->node_id);
    t->train_end_ms = exo_now_ms() + TRAIN_MS;
    say(from, json_pack("{s:s, s:i}", "go", text, "port", (int)exo_probe_port(t->probe)));
}

static void on_go(exo_node *n, exo_peer *from, const json_t *m) {
    exo_topology *t = n->topology;
    json_int_t port = json_integer_value(json_object_get(m, "port"));
    char ours[64], theirs[64];
    if (port < 1 || port > UINT16_MAX || t->probe == NULL) return;
    exo_link_hosts(from->link, ours, theirs);
    exo_probe_send(t->probe, theirs, (uint16_t)port, t->token, t->n_sent);
}

static void on_result(exo_node *n, exo_peer *from, const json_t *m) {
    exo_topology *t = n->topology;
    double rate = json_number_value(json_object_get(m, "bytes_per_second"));
    json_int_t got = json_integer_value(json_object_get(m, "packets"));
    bool sane = isfinite(rate) && rate >= 0 && rate < 1e14 && got >= 0 && got <= t->n_sent;
    if (sane && got > 0) exo_link_note_loss(from->link, t->n_sent, t->n_sent - (uint32_t)got);
    ended(n, from, sane ? rate : 0, exo_now_ms());
}

void exo_topology_on_probe(exo_node *n, exo_peer *from, const json_t *m) {
    exo_topology *t = n->topology;
    const char *text = json_string_value(json_object_get(m, "ask"));
    if (t == NULL) return;
    if (text != NULL) {
        if (strlen(text) == TOKEN_BYTES - 1) on_ask(n, from, text, m);
        return;
    }
    static const char *const answers[] = {"go", "result", "busy"};
    for (size_t i = 0; i < 3; i++) {
        text = json_string_value(json_object_get(m, answers[i]));
        if (text == NULL) continue;
        bool ours = t->token != 0 && strtoull(text, NULL, 16) == t->token &&
                    strcmp(from->node_id, t->sink) == 0;
        if (ours && i == 0) on_go(n, from, m);
        if (ours && i == 1) on_result(n, from, m);
        if (ours && i == 2) {
            t->token = 0;
            exo_path_put_off(&from->plan, exo_now_ms());
        }
        return;
    }
}

/* ---- time ---- */

static void ask_next(exo_node *n, uint64_t now_ms) {
    for (exo_peer *p = n->peers; p != NULL; p = p->next) {
        exo_link_quality q = exo_link_measured(p->link);
        if (isnan(q.rtt_ms) || q.waits || !exo_path_due(&p->plan, q.rtt_ms, now_ms)) continue;
        if (computes(n)) {
            exo_path_put_off(&p->plan, now_ms);
        } else {
            ask(n, p, now_ms);
        }
        return;
    }
}

void exo_topology_tick(exo_node *n, uint64_t now_ms) {
    exo_topology *t = n->topology;
    if (t == NULL || n->stopping) return;
    if (t->train.token != 0 && (t->train.n_got == t->train.n_sent || now_ms >= t->train_end_ms)) {
        end_train(n);
    }
    if (t->token != 0 && now_ms >= t->give_up_ms) {
        exo_peer *p = exo_members_find(n, t->sink);
        if (p != NULL) ended(n, p, 0, now_ms);
        t->token = 0;
    }
    if (t->token == 0 && t->probe != NULL) ask_next(n, now_ms);
    if (n->peers == NULL) return;
    uint64_t wait = t->changed ? TELL_MS : TELL_IDLE_MS;
    if (t->told_ms == 0 || now_ms - t->told_ms >= wait) tell(n, now_ms);
}

/* ---- life ---- */

exo_status exo_topology_start(exo_node *n, exo_error *err) {
    exo_error why;
    n->topology = exo_calloc(1, sizeof *n->topology);
    if (n->topology == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for the topology");
    if (exo_probe_create(&n->loop, n->listen_addr, n->listen_port, on_packet, n,
                         &n->topology->probe, &why) != EXO_OK) {
        exo_warn("%s", why.message);
    }
    return EXO_OK;
}

void exo_topology_stop(exo_node *n) {
    if (n->topology == NULL) return;
    exo_probe_close(n->topology->probe);
    n->topology->probe = NULL;
}

void exo_topology_finish(exo_node *n) {
    exo_free(n->topology);
    n->topology = NULL;
}
