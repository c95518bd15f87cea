/* coordinator.h - sole author of an instance's steps: requests in, events out.
 *
 * Lives on the COMPUTE thread of stage 0.  Joins the pure scheduler with the stage, the lanes,
 * the detokenisers and the call-backs of whoever asked.
 * Thread: COMPUTE. */
#ifndef EXO_NODE_COORDINATOR_H
#define EXO_NODE_COORDINATOR_H

#include "node/stage_io.h"

typedef struct exo_coordinator exo_coordinator;

typedef struct {
    exo_stage_io *io;               /* borrowed */
    const exo_tokenizer *tokenizer; /* borrowed */
    uint32_t n_stages, n_pages;
    uint32_t chunk_tokens;   /* 0 = sized by time */
    bool has_classes;        /* a stage tells rows of prompts apart */
    void (*moved)(void *ud); /* stage 0 itself went on to the CPU; may be NULL */
    void *ud;
} exo_coordinator_desc;

exo_status exo_coordinator_create(const exo_coordinator_desc *d, exo_coordinator **out,
                                  exo_error *err);
void exo_coordinator_destroy(exo_coordinator *c); /* no requests are left by then */

/* Takes r's contents.  A refusal is reported through fn as the last event. */
void exo_coordinator_submit(exo_coordinator *c, uint64_t id, exo_request *r_take,
                            exo_node_event_fn fn, void *ud);
void exo_coordinator_cancel(exo_coordinator *c, uint64_t id);

/* Hands out steps and takes results until nothing is left to do now.  *deadline_us: when to call
 * again at the latest although nothing came. */
exo_status exo_coordinator_turn(exo_coordinator *c, uint64_t *deadline_us, exo_error *err);

/* Ends every request with status and reason. */
void exo_coordinator_fail(exo_coordinator *c, exo_status status, const char *reason);

#endif
