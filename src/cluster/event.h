/* event.h - what the cluster's log is about: the events that change what all nodes agree on.
 *
 * One flat record; which members count depends on the type.  Heartbeats, telemetry and tokens are
 * never events.  On the wire and on disk an event is bytes with strict limits; whatever reads as an
 * event is written back as the same bytes.
 * Thread: ANY. */
#ifndef EXO_CLUSTER_EVENT_H
#define EXO_CLUSTER_EVENT_H

#include "base/buf.h"

#define EXO_CLUSTER_NAME_BYTES     64 /* with the NUL, as all four */
#define EXO_CLUSTER_INSTANCE_BYTES 24
#define EXO_CLUSTER_MODEL_BYTES    128
#define EXO_CLUSTER_REASON_BYTES   192
#define EXO_CLUSTER_MAX_CUTS       63

typedef enum {
    EXO_EVENT_NODE_JOINED = 1,  /* node, member, voter_ok, name */
    EXO_EVENT_NODE_LEFT,        /* node: it said goodbye for good, and may come back */
    EXO_EVENT_NODE_REMOVED,     /* node: it is not let in again */
    EXO_EVENT_NODE_RENAMED,     /* node, name */
    EXO_EVENT_INSTANCE_CREATED, /* instance, model_id, node (its owner), min_nodes, cuts */
    EXO_EVENT_INSTANCE_MOVED,   /* instance, node: its new owner */
    EXO_EVENT_INSTANCE_DELETED, /* instance */
    EXO_EVENT_DOWNLOAD_STARTED, /* node, model_id: what to fetch, as people write it */
    EXO_EVENT_DOWNLOAD_ENDED,   /* node, model_id: it is there, or nobody wants it any more */
    EXO_EVENT_DOWNLOAD_FAILED,  /* node, model_id, reason: trying again by itself would not help */
    EXO_EVENT_LAST = EXO_EVENT_DOWNLOAD_FAILED
} exo_event_type;

typedef struct {
    exo_event_type type;
    uint64_t node;   /* its id, as a number */
    uint64_t member; /* what it is called in the log (exo_raft_id); never the same twice */
    bool voter_ok;   /* it may vote: mains power, and there to stay */
    char name[EXO_CLUSTER_NAME_BYTES];
    char instance[EXO_CLUSTER_INSTANCE_BYTES];
    char model_id[EXO_CLUSTER_MODEL_BYTES];
    char reason[EXO_CLUSTER_REASON_BYTES];
    uint32_t min_nodes, n_cuts;
    uint32_t cuts[EXO_CLUSTER_MAX_CUTS]; /* (n_cuts) as asked for; ascending */
} exo_event;

/* Who says so.  Each of a node's events has a number, so that one that arrives twice counts once.
 */
typedef struct {
    uint64_t node, session, number; /* session rises with each start of the node */
} exo_event_origin;

/* Appends origin and event; a failure is in out. */
void exo_event_write(const exo_event_origin *o, const exo_event *e, exo_buf *out);
/* EXO_EFORMAT names what is wrong; every byte must be used. */
exo_status exo_event_read(const uint8_t *bytes, size_t n, exo_event_origin *o, exo_event *e,
                          exo_error *err);

/* "joined", "instance created", ...: for logs. */
const char *exo_event_name(exo_event_type t);

/* ---- the pieces that events, states and messages are made of ---- */

/* A failed read sets `bad` and leaves the rest at zero. */
typedef struct {
    const uint8_t *at;
    size_t left;
    bool bad;
} exo_reader;

uint8_t exo_read_u8(exo_reader *r);
uint32_t exo_read_u32(exo_reader *r);
uint64_t exo_read_u64(exo_reader *r);
bool exo_read_bool(exo_reader *r);                        /* 0 or 1, else bad */
void exo_read_text(exo_reader *r, char *out, size_t cap); /* printable; else, or too long, bad */
const uint8_t *exo_read_bytes(exo_reader *r, size_t n);   /* NULL when they are not there */

void exo_write_u8(exo_buf *b, uint8_t v);
void exo_write_u32(exo_buf *b, uint32_t v);
void exo_write_u64(exo_buf *b, uint64_t v);
void exo_write_text(exo_buf *b, const char *s); /* under 256 bytes */

#endif
