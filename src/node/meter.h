/* meter.h - counts the answers that were asked on this node, per model: for GET /metrics.
 *
 * An answer is counted where it was asked, once, wherever it is computed: sums over all nodes of a
 * cluster are right.  Times are those of whoever asked: queue and network included.
 * Thread: ANY; the marks of one answer one at a time. */
#ifndef EXO_NODE_METER_H
#define EXO_NODE_METER_H

#include "node/node.h"

typedef struct exo_meter exo_meter;

/* Where an answer stands; all-zero memory at first. */
typedef struct {
    uint32_t model;    /* which row, from 1 on; 0 = it is not counted */
    bool running;      /* it has left the queue */
    uint64_t began_us; /* it was asked */
    uint64_t token_us; /* its last token; 0 = none yet */
    uint32_t n_answer; /* tokens that are counted */
} exo_meter_mark;

exo_status exo_meter_create(exo_meter **out, exo_error *err);
void exo_meter_destroy(exo_meter *m); /* NULL is allowed */

void exo_meter_begin(exo_meter *m, exo_meter_mark *mark, const char *model_id);
void exo_meter_event(exo_meter *m, exo_meter_mark *mark, const exo_node_event *e);

/* {model: {"running", "waiting", "prompt_tokens", "answer_tokens", "cached_tokens",
 *          "ended": {"stop", "length", "abort", "error"},
 *          "first_token_s", "next_token_s", "answer_s": {"le": [bounds], "counts": [each],
 * "sum"}}}: the counts are one more than the bounds.  A new reference. */
json_t *exo_meter_json(exo_meter *m);

#endif
