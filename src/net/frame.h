/* frame.h - the one frame format of every exo link.
 *
 *   offset  bytes  field (little-endian)
 *   0       4      magic 0x314F5845 "EXO1"
 *   4       2      version 1
 *   6       2      type
 *   8       4      flags: bit 0 = header is JSON, bit 1 = a PING that wants no answer
 *   12      4      epoch of the instance (0 on control links)
 *   16      8      seq: step number, or a counter per link and direction
 *   24      4      header bytes (JSON, or a fixed struct)
 *   28      4      body bytes (raw)
 *   32      8      hash64 of bytes 0..31, chained over the header, then over the body
 *   40      ...    header, then body
 *
 * A link's small frames (no header, no epoch; signs of life above all) have a short form:
 *
 *   0       1      's'
 *   1       1      type
 *   2       1      flags
 *   3       1      body bytes
 *   4       4      seq
 *   8       4      the lower half of hash64 of bytes 0..7, chained over the body
 *   12      ...    body
 *
 * Unknown types and JSON members are skipped; a bad magic, version, length or hash poisons the
 * link with a reason.  Thread: ANY. */
#ifndef EXO_NET_FRAME_H
#define EXO_NET_FRAME_H

#include "base/buf.h"

#include <jansson.h>

#define EXO_FRAME_BYTES      40
#define EXO_FRAME_MAGIC      0x314F5845u
#define EXO_FRAME_SHORT      12  /* bytes of the short form without its body */
#define EXO_FRAME_SHORT_MARK 's' /* its first byte */
#define EXO_FRAME_VERSION    1
#define EXO_FRAME_MAX_HEADER (4u << 20)
#define EXO_FRAME_MAX_BODY   (64u << 20)
#define EXO_FRAME_MAX_DEPTH  64 /* nesting of a JSON header */

typedef enum {
    EXO_MSG_HELLO = 1, /* JSON; first frame of each side on every link */
    EXO_MSG_PING = 2,  /* answered by EXO_MSG_PONG with the same seq; body: see ping.c */
    EXO_MSG_PONG = 3,
    EXO_MSG_BYE = 4,       /* JSON {"reason"}; the sender closes */
    EXO_MSG_NODES = 5,     /* JSON: what the sender knows of the cluster's nodes */
    EXO_MSG_INSTANCE = 6,  /* JSON: create, ready, failed, delete */
    EXO_MSG_REQUEST = 7,   /* JSON: a request for another node's instance, its tokens, its end */
    EXO_MSG_CLUSTER = 8,   /* body: a message of the cluster's log (cluster_message.c) */
    EXO_MSG_TELEMETRY = 9, /* JSON: an envelope of the telemetry protocol (cluster/telemetry.h) */
    EXO_MSG_PROBE = 10,    /* JSON: a train of datagrams is agreed on (node/topology.c) */
    EXO_MSG_JOIN = 12,     /* JSON, links made with a join code only: offer, accept, welcome */
    EXO_MSG_KEYRING = 13,  /* JSON: removed nodes, and a new cluster key */
    EXO_MSG_LANE = 16,     /* JSON: this link becomes a tensor lane of an instance */
    EXO_MSG_ADMIT = 17,    /* lane. JSON: slot, request descriptor; body: history i32[] */
    EXO_MSG_STEP = 18,     /* lane. header: exo_step; body: activations (n_rows, n_embd) */
    EXO_MSG_RESULT = 19,   /* lane. header: fixed results (stage_wire.h); back to the coordinator */
    EXO_MSG_FAIL = 20,     /* lane. JSON {"reason"}: the stage could not run a step */
    EXO_MSG_DEVICE = 24,   /* lane. JSON: a stage moves to another device (stage_move.h) */
} exo_msg_type;

enum { EXO_FRAME_JSON = 1u << 0, EXO_FRAME_NO_ANSWER = 1u << 1 };

typedef struct {
    uint16_t type;
    uint32_t flags, epoch;
    uint64_t seq;
    uint32_t header_bytes, body_bytes;
    const uint8_t *header, *body; /* borrowed from the buffer that was parsed */
} exo_frame;

/* The fixed part of f with the hash of all of it; header and body follow it on the wire as they
 * are.  EXO_EINVAL beyond the limits. */
exo_status exo_frame_head(const exo_frame *f, uint8_t out[EXO_FRAME_BYTES], exo_error *err);
/* Appends the whole frame.  f->header and f->body are the bytes to send.  On failure out holds
 * what it held before. */
exo_status exo_frame_write(const exo_frame *f, exo_buf *out, exo_error *err);
/* The same, in the short form if the frame fits into it. */
exo_status exo_frame_write_small(const exo_frame *f, exo_buf *out, exo_error *err);
/* The same with a JSON header. */
exo_status exo_frame_write_json(uint16_t type, uint64_t seq, const json_t *header, exo_buf *out,
                                exo_error *err);

/* Looks at the first n bytes: EXO_OK with *used = 0 when more are needed, *used = the frame's
 * length when it is whole and *out valid; EXO_EFORMAT when the stream is broken. */
exo_status exo_frame_parse(const uint8_t *bytes, size_t n, exo_frame *out, size_t *used,
                           exo_error *err);
/* The JSON header, an object, as a value: a new reference.  EXO_EFORMAT for anything else, for
 * duplicate members and for nesting beyond EXO_FRAME_MAX_DEPTH. */
exo_status exo_frame_json(const exo_frame *f, json_t **out, exo_error *err);

#endif
