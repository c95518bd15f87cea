/* worker.h - one stage of one instance on this node: a COMPUTE thread with its shard and lanes.
 *
 * Stages form a ring: stage i sends to stage i + 1, the last one sends what it drew back to
 * stage 0, whose thread is also the coordinator (coordinator.h).  The thread loads the shard,
 * waits for its lanes, then runs steps until it is stopped or something fails; then it ends every
 * request it holds with the reason.  A device that fails in mid-answer is not such a failure: the
 * stage moves to the CPU and every answer is read again from its tokens (stage_wire.h).
 * Thread: create, connect, stop and destroy on LOOP; submit and cancel ANY.  Reports come on the
 * COMPUTE thread. */
#ifndef EXO_NODE_WORKER_H
#define EXO_NODE_WORKER_H

#include "engine/stage.h"
#include "net/lane.h"
#include "node/node.h"

typedef struct exo_worker exo_worker;

typedef enum {
    EXO_WORKER_LOADED, /* the shard is in memory: bytes and pages are known */
    EXO_WORKER_READY,  /* lanes are there: steps can come */
    EXO_WORKER_MOVED,  /* its device failed; the stage goes on from device_id */
    EXO_WORKER_FAILED, /* ended by itself; message says why */
} exo_worker_event;

typedef struct {
    exo_worker_event event;
    uint64_t weight_bytes, kv_bytes;
    uint32_t n_pages;
    bool has_classes;             /* exo_shard_has_classes */
    char device_id[32];           /* that computes the stage */
    char reason[EXO_ERROR_BYTES]; /* why it is not the one asked for; "" while it is */
    char message[EXO_ERROR_BYTES];
} exo_worker_report;

typedef struct {
    exo_model *model;           /* the worker takes its own reference */
    const char *device;         /* "cpu:0"; a GPU that fails is stood in for by the CPU */
    const exo_backend *backend; /* NULL = the device's own */
    uint32_t n_threads;
    exo_shard_desc shard;
    uint32_t epoch; /* of the instance; frames of another epoch poison the lane */
    uint32_t stage, n_stages;
    uint32_t chunk_tokens; /* 0 = sized by time */
    void (*report)(void *ud, const exo_worker_report *r);
    void *ud;
} exo_worker_desc;

exo_status exo_worker_create(const exo_worker_desc *d, exo_worker **out, exo_error *err);
/* What an instance's stages have in common. */
typedef struct {
    uint32_t n_pages; /* the smallest pool */
    bool has_classes; /* one of them tells rows of prompts apart */
} exo_worker_common;

/* Hands over the lanes (NULL both for a pipeline of one). */
void exo_worker_connect(exo_worker *w, exo_lane *prev_take, exo_lane *next_take,
                        exo_worker_common common);

/* Stage 0 only.  fn gets exactly one last event, also when the worker has failed already. */
exo_status exo_worker_submit(exo_worker *w, uint64_t id, const exo_request *r, exo_node_event_fn fn,
                             void *ud, exo_error *err);
void exo_worker_cancel(exo_worker *w, uint64_t id);

/* Asks the thread to end (reason goes to its requests), waits for it, frees all. */
void exo_worker_destroy(exo_worker *w, const char *reason);

typedef struct {
    uint64_t steps, rows, tokens;        /* tokens: rows that wanted logits */
    uint64_t busy_us;                    /* inside the engine */
    uint64_t decode_steps, decode_us;    /* steps of one row per sequence, the usual token */
    uint64_t bytes_sent, bytes_received; /* on lanes, TLS included */
    uint64_t pages_used, pages_total;    /* keys and values: held by answers, of all; stage 0's */
} exo_worker_stats;
void exo_worker_get_stats(const exo_worker *w, exo_worker_stats *out); /* ANY */

#endif
