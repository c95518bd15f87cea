/* stage_wire.h - what stages say to each other besides steps: admissions and results.
 *
 * EXO_MSG_ADMIT   JSON header {"seq", "request"}; body: history, i32 little-endian
 * EXO_MSG_RESULT  header, little-endian:
 *   offset  bytes  field
 *   0       2      n results
 *   2       6      0
 *   then each: seq u16, n_top u8, flags u8 (1 logprob, 2 hash), pos u32, token i32,
 *              [logprob f32], n_top x {id i32, logprob f32}, [logits hash, 32 bytes]
 * EXO_MSG_DEVICE  JSON {"op", "stage", "device_id", "reason"}: what the stages tell one another
 * while one of them moves from a device that failed to its node's CPU, in this order: "moving" the
 * stage to the coordinator, through the stages between: it loads, no more steps "moved"       the
 * same way: it is there, without KV; steps and admissions are lost on it "reread"      the
 * coordinator to all stages: what comes now begins again from tokens Thread: COMPUTE. */
#ifndef EXO_NODE_STAGE_WIRE_H
#define EXO_NODE_STAGE_WIRE_H

#include "base/buf.h"
#include "engine/stage.h"
#include "net/frame.h"

/* A request takes slot seq: as sent by the coordinator and passed on by every stage. */
exo_status exo_admit_encode(uint32_t seq, const exo_request *r, exo_tokens history, json_t **json,
                            exo_buf *body, exo_error *err);
/* *request: exo_request_finish; *history: exo_free its ids. */
exo_status exo_admit_decode(const exo_frame *f, uint32_t *seq, exo_request *request,
                            exo_tokens *history, exo_error *err);

/* Replaces out.  A log-probability of 0 without alternatives and an all-zero hash mean "not asked
 * for" and are not sent. */
void exo_results_encode(const exo_stage_result *results, uint32_t n, exo_buf *out);
exo_status exo_results_decode(const uint8_t *bytes, size_t n_bytes, uint32_t cap,
                              exo_stage_result *out, uint32_t *n, exo_error *err);

typedef enum { EXO_MOVE_MOVING, EXO_MOVE_MOVED, EXO_MOVE_REREAD } exo_move_op;

typedef struct {
    exo_move_op op;
    uint32_t stage;               /* that moves */
    char device_id[32];           /* it goes to */
    char reason[EXO_ERROR_BYTES]; /* why */
} exo_move_note;

char *exo_move_note_encode(const exo_move_note *n); /* free() it; NULL without memory */
exo_status exo_move_note_decode(const exo_frame *f, exo_move_note *out, exo_error *err);

#endif
