/* topology.h - how good the ways between nodes are: the record, its message, when to measure anew.
 *
 * GPUAwareLinkMetrics is one direction of one way as its source measured it; the telemetry
 * protocol's `topology` message carries a node's.  What is not known is null on the wire and NAN
 * here, never 0.
 *
 * Pure: sends nothing and reads no clock.  Thread: ANY. */
#ifndef EXO_CLUSTER_TOPOLOGY_H
#define EXO_CLUSTER_TOPOLOGY_H

#include <exo/base.h>

#include <jansson.h>

#define EXO_TOPOLOGY_MAX_LINKS 1024 /* of one message */

typedef struct {
    char source_node[64], sink_node[64];
    double latency_ms;     /* one way: half of there and back */
    double bandwidth_gbps; /* Gbit/s */
    bool p2p_supported;    /* device memory to device memory */
    double p2p_bandwidth_gbps;
    char link_type[32]; /* the kind of interface: "lan", "vpn", "loopback", ... */
    /* Not in the seeds' record: */
    double jitter_ms, loss; /* loss: 0..1 */
    char interface[32];     /* the source's */
    json_t *extra;          /* owned; NULL = nothing */
} exo_link_metrics;
void exo_link_metrics_finish(exo_link_metrics *m); /* zeroed memory is allowed */

json_t *exo_link_metrics_json(const exo_link_metrics *m); /* NULL without memory */
/* latency + bytes / bandwidth; NAN when one of them is not known. */
double exo_estimate_transfer_time_ms(const exo_link_metrics *m, double bytes);

/* A new reference; NULL without memory. */
json_t *exo_telemetry_create_topology_message(double timestamp, const exo_link_metrics *links,
                                              size_t n);
/* *links is freed with exo_topology_free; on failure it is NULL, and err names what is wrong. */
exo_status exo_telemetry_parse_topology(const json_t *payload, exo_link_metrics **links, size_t *n,
                                        exo_error *err);
void exo_topology_free(exo_link_metrics *links, size_t n);

/* ---- when a way is measured ---- */

/* All-zero: never measured, due at once. */
typedef struct {
    uint64_t due_ms;
    bool doubted;       /* a short train said otherwise: a long one is to tell */
    uint32_t n_done;    /* since the last change */
    double rtt_ms;      /* when it was measured last; 0 = never */
    double bytes_per_s; /* 0 = not known */
    uint64_t at_ms;     /* of bytes_per_s */
    uint64_t looked_ms; /* when a change was looked into last; 0 = never */
    uint64_t again_ms;  /* and when another one is: some ways change all the time */
    uint32_t n_changes; /* that were looked into, one soon after the other */
} exo_path_plan;

/* Soon after a change of the way's round trip, seldom otherwise.  rtt_ms may be NAN. */
bool exo_path_due(exo_path_plan *p, double rtt_ms, uint64_t now_ms);
/* How many datagrams the next train has: few, and many where few say too little. */
bool exo_path_wants_long(const exo_path_plan *p);
/* A train's outcome, 0 = it told nothing.  True: the way is another than it was known to be. */
bool exo_path_measured(exo_path_plan *p, bool was_long, double bytes_per_s, double rtt_ms,
                       uint64_t now_ms);
/* The peer is busy: later, without harm. */
void exo_path_put_off(exo_path_plan *p, uint64_t now_ms);

#endif
