/* stage_io.h - a stage with its two lanes: the frames it reads and writes, and its counters.
 *
 * Shared by the coordinator (stage 0) and the followers.  All buffers are made once; sending,
 * receiving and running allocate nothing.
 * Thread: COMPUTE; counters may be read from ANY. */
#ifndef EXO_NODE_STAGE_IO_H
#define EXO_NODE_STAGE_IO_H

#include "engine/seat.h"
#include "node/stage_wire.h"
#include "node/worker.h"

typedef struct {
    atomic_uint_fast64_t steps, rows, tokens, busy_us, decode_steps, decode_us, bytes_sent,
        bytes_received, pages_used, pages_total; /* pages: of the coordinator's pool */
} exo_stage_counters;

typedef struct {
    exo_stage *stage;        /* owned */
    exo_seat seat;           /* the device below it; all-zero: somebody else's */
    exo_lane *prev, *next;   /* owned; NULL in a pipeline of one */
    exo_lane_set *wait;      /* borrowed */
    const atomic_bool *stop; /* borrowed: set = cancel what runs */
    exo_stage_counters *counters;
    uint32_t epoch;
    uint32_t n_embd;
    bool wire_f16;
    exo_step step;             /* a follower's current step */
    float *x_in, *x_out;       /* (max_rows, n_embd) */
    uint8_t *step_bytes;       /* an encoded step */
    uint16_t *x_wire;          /* (max_rows, n_embd) when the wire is f16 */
    exo_stage_result *results; /* (max_seqs) of the last run */
    uint32_t n_results;
    exo_buf result_bytes;
    uint64_t last_run_us; /* how long the last run took */
} exo_stage_io;

/* Takes the stage.  On failure io is finished. */
exo_status exo_stage_io_init(exo_stage_io *io, exo_stage *stage_take, uint32_t n_embd,
                             exo_error *err);
void exo_stage_io_finish(exo_stage_io *io);

/* Runs a step from x_in (unless it begins with tokens) into x_out or results. */
exo_status exo_stage_io_run(exo_stage_io *io, const exo_step *step, exo_error *err);
/* The device failed at a step (exo_seat_can_move): the stage goes on from the CPU, without KV.
 * After a failure it can only be finished. */
exo_status exo_stage_io_move(exo_stage_io *io, const char *why, exo_error *err);

/* To the next stage: the step with x_out; what was drawn; an admission; why this stage gave up. */
exo_status exo_stage_io_send_step(exo_stage_io *io, const exo_step *step, exo_error *err);
exo_status exo_stage_io_send_results(exo_stage_io *io, uint64_t number, exo_error *err);
exo_status exo_stage_io_send_admit(exo_stage_io *io, uint32_t seq, const exo_request *r,
                                   exo_tokens history, exo_error *err);
void exo_stage_io_send_fail(exo_stage_io *io, const char *reason);
exo_status exo_stage_io_send_note(exo_stage_io *io, const exo_move_note *note, exo_error *err);

/* From the previous stage: decodes a step into io->step and x_in. */
exo_status exo_stage_io_take_step(exo_stage_io *io, const exo_frame *f, exo_error *err);

/* Reads the next frame of either lane; *have = false when there is none now.  A frame on the
 * lane to the next stage, another epoch, or FAIL (its reason is the error) breaks the ring. */
exo_status exo_stage_io_recv(exo_stage_io *io, exo_frame *f, bool *have, exo_error *err);

/* After a lane failed: a neighbour that sent FAIL before it closed its lanes gives its own reason,
 * which then replaces err. */
void exo_stage_io_hear_reason(exo_stage_io *io, exo_error *err);

/* Sleeps until a lane has something, exo_lane_wake, or the deadline (exo_now_us time). */
void exo_stage_io_wait(exo_stage_io *io, uint64_t deadline_us);

#endif
