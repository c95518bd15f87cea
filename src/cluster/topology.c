/* topology.c - the record's table, its message, and the rules of when to measure; see topology.h.
 */
#include "cluster/topology.h"

#include "base/mem.h"
#include "cluster/telemetry.h"
#include "cluster/telemetry_record.h"

#include <math.h>
#include <stddef.h>

#define MAX_MS       1e6
#define MAX_GBPS     1e6
#define PUT_OFF_MS   1000u
#define FAST         4e6 /* bytes per second from where a short train is over too soon */
#define CHANGED_RATE 1.5 /* a short train that differs by so much is looked into */
#define VERY_FAST    20e6
#define CHANGED_FAST 4.0
#define CHANGED_RTT  1.5
#define RTT_NOISE_MS 2.0
#define SAME_MS      3000u /* a change's trains: a short one, and a long one behind it */

#define AT(m) .name = #m, .offset = offsetof(exo_link_metrics, m)
#define TEXT(m, fl)                                                                                \
    { AT(m), .kind = EXO_FIELD_TEXT, .size = sizeof((exo_link_metrics *)0)->m, .flags = (fl) }
#define REAL(m, high)                                                                              \
    { AT(m), .kind = EXO_FIELD_REAL, .most = (high), .flags = EXO_FIELD_MAY_BE_UNKNOWN }

static const exo_field link_fields[] = {
    TEXT(source_node, 0),
    TEXT(sink_node, 0),
    REAL(latency_ms, MAX_MS),
    REAL(bandwidth_gbps, MAX_GBPS),
    {AT(p2p_supported), .kind = EXO_FIELD_BOOL, .flags = EXO_FIELD_MAY_BE_ABSENT},
    REAL(p2p_bandwidth_gbps, MAX_GBPS),
    TEXT(link_type, 0),
    REAL(jitter_ms, MAX_MS),
    REAL(loss, 1),
    TEXT(interface, EXO_FIELD_MAY_BE_ABSENT),
};
#undef AT
#undef TEXT
#undef REAL

static const exo_record_table link_table = {"link", link_fields,
                                            sizeof link_fields / sizeof link_fields[0],
                                            offsetof(exo_link_metrics, extra)};

void exo_link_metrics_finish(exo_link_metrics *m) { exo_record_finish(&link_table, m); }

json_t *exo_link_metrics_json(const exo_link_metrics *m) {
    return exo_record_write(&link_table, m);
}

double exo_estimate_transfer_time_ms(const exo_link_metrics *m, double bytes) {
    return m->latency_ms + bytes * 8 / (m->bandwidth_gbps * 1e6);
}

json_t *exo_telemetry_create_topology_message(double timestamp, const exo_link_metrics *links,
                                              size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n && list != NULL; i++) {
        json_array_append_new(list, exo_link_metrics_json(&links[i]));
    }
    return json_pack("{s:s, s:s, s:f, s:{s:f, s:o}}", "type",
                     exo_telemetry_type_name(EXO_TELEMETRY_TOPOLOGY), "version",
                     EXO_TELEMETRY_VERSION, "timestamp", timestamp, "payload", "timestamp",
                     timestamp, "links", list);
}

void exo_topology_free(exo_link_metrics *links, size_t n) {
    for (size_t i = 0; i < n; i++) exo_link_metrics_finish(&links[i]);
    exo_free(links);
}

exo_status exo_telemetry_parse_topology(const json_t *payload, exo_link_metrics **links, size_t *n,
                                        exo_error *err) {
    *links = NULL;
    *n = 0;
    const json_t *list = json_object_get(payload, "links");
    size_t count = json_array_size(list);
    if (!json_is_array(list) || count > EXO_TOPOLOGY_MAX_LINKS) {
        return exo_error_set(err, EXO_EFORMAT, "topology: \"links\" is no array of at most %d",
                             EXO_TOPOLOGY_MAX_LINKS);
    }
    exo_link_metrics *all = exo_calloc(count > 0 ? count : 1, sizeof *all);
    if (all == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for a topology");
    for (size_t i = 0; i < count; i++) {
        exo_status st = exo_record_read(&link_table, json_array_get(list, i), &all[i], err);
        if (st != EXO_OK) {
            exo_topology_free(all, i);
            return st;
        }
    }
    *links = all;
    *n = count;
    return EXO_OK;
}

/* ---- when a way is measured ---- */

static const uint32_t pause_ms[] = {10000, 60000, 600000}; /* after the first measure, and on */
enum { N_PAUSES = sizeof pause_ms / sizeof pause_ms[0] };

static bool rtt_changed(const exo_path_plan *p, double rtt_ms) {
    if (p->rtt_ms == 0 || isnan(rtt_ms)) return false;
    double low = rtt_ms < p->rtt_ms ? rtt_ms : p->rtt_ms, high = rtt_ms + p->rtt_ms - low;
    return high > low * CHANGED_RTT && high - low > RTT_NOISE_MS;
}

/* A change is looked into at once; where one follows the other (a busy machine, a moving phone),
 * rarer and rarer, down to the usual pause: measuring must not be what the link is busy with. */
static bool may_look(exo_path_plan *p, uint64_t now_ms) {
    if (p->looked_ms != 0 && now_ms - p->looked_ms < SAME_MS) return true; /* into the same one */
    if (now_ms < p->again_ms) return false;
    p->looked_ms = now_ms;
    if (now_ms - p->again_ms > pause_ms[N_PAUSES - 1]) p->n_changes = 0;
    uint64_t wait = (uint64_t)pause_ms[1] << p->n_changes;
    if (wait < pause_ms[N_PAUSES - 1]) p->n_changes++;
    p->again_ms = now_ms + (wait < pause_ms[N_PAUSES - 1] ? wait : pause_ms[N_PAUSES - 1]);
    return true;
}

bool exo_path_due(exo_path_plan *p, double rtt_ms, uint64_t now_ms) {
    if (rtt_changed(p, rtt_ms) && may_look(p, now_ms)) {
        p->rtt_ms = rtt_ms;
        p->n_done = 0;
        p->due_ms = now_ms;
    }
    return now_ms >= p->due_ms;
}

bool exo_path_wants_long(const exo_path_plan *p) {
    return p->doubted || (p->n_done == 0 && p->bytes_per_s > FAST);
}

static void pause(exo_path_plan *p, uint64_t now_ms) {
    p->due_ms = now_ms + pause_ms[p->n_done < N_PAUSES - 1 ? p->n_done : N_PAUSES - 1];
    p->n_done++;
}

/* Where a train is over within a millisecond, the machine's own clock and load show as well. */
static bool is_other(double a, double b) {
    double low = a < b ? a : b, high = a < b ? b : a;
    return high > low * (low > VERY_FAST ? CHANGED_FAST : CHANGED_RATE);
}

bool exo_path_measured(exo_path_plan *p, bool was_long, double bytes_per_s, double rtt_ms,
                       uint64_t now_ms) {
    double before = p->bytes_per_s;
    bool news = bytes_per_s > 0 && is_other(bytes_per_s, before);
    if (!isnan(rtt_ms)) p->rtt_ms = rtt_ms;
    if (bytes_per_s <= 0) {
        p->doubted = false;
        pause(p, now_ms);
        return false;
    }
    p->at_ms = now_ms;
    bool rough = !was_long && bytes_per_s > FAST && (before == 0 || news);
    bool look = before == 0 || (news && may_look(p, now_ms));
    if (rough && !look) { /* a long one told more, not long ago */
        pause(p, now_ms);
        return false;
    }
    if (rough) {
        p->doubted = true; /* a long one tells more, now */
        p->due_ms = now_ms;
        p->n_done = 0;
        if (before == 0) p->bytes_per_s = bytes_per_s;
        return before == 0;
    }
    p->doubted = false;
    if (was_long || news) p->bytes_per_s = bytes_per_s;
    if (news && look) p->n_done = 0;
    pause(p, now_ms);
    return news;
}

void exo_path_put_off(exo_path_plan *p, uint64_t now_ms) { p->due_ms = now_ms + PUT_OFF_MS; }
