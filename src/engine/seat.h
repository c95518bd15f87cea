/* seat.h - the device that a shard computes on, and the CPU of the same machine behind it.
 *
 * Whoever asks for a GPU gets an answer.  Where the GPU cannot be used (no driver, left out by its
 * verdict, too little memory, a call that fails) the shard is made on the CPU instead; where it
 * fails later the shard moves there, and what was computed is computed again from its tokens, since
 * another device is another numeric profile.  The reason is kept, and said once on the log.
 *
 * A device of the CPU has nothing behind it: its failures are errors.
 * Thread: COMPUTE. */
#ifndef EXO_ENGINE_SEAT_H
#define EXO_ENGINE_SEAT_H

#include "engine/shard.h"

typedef struct {
    const char *device;         /* "vulkan:0"; NULL = "cpu:0" */
    const exo_backend *backend; /* NULL = the one that the device's name belongs to */
    uint32_t n_threads;         /* of the CPU; 0 = all cores */
    exo_model *model;           /* borrowed while the seat is open */
    exo_shard_desc shard;
    exo_progress_fn progress; /* bytes of weights in the file; may be NULL */
    void *ud;
} exo_seat_desc;

typedef struct {
    exo_seat_desc d;
    char asked[32];     /* the device that was asked for */
    char device_id[32]; /* the one that computes */
    const exo_backend *backend;
    exo_device *device;           /* owned */
    char reason[EXO_ERROR_BYTES]; /* why it is not the one asked for; "" while it is */
} exo_seat;

/* Whether this names a kind of device that the CPU stands in for: "vulkan:0".  ANY. */
bool exo_seat_is_gpu(const char *device);

/* Opens the device and makes the shard, on the CPU when the device will not.  The caller destroys
 * *shard before the seat is closed.  EXO_EINVAL for what is no device's name; EXO_ECANCELED when
 * progress said so; other errors are the CPU's. */
exo_status exo_seat_open(exo_seat *s, const exo_seat_desc *d, exo_shard **shard, exo_error *err);
/* Whether a step that failed with st may succeed on the CPU. */
bool exo_seat_can_move(const exo_seat *s, exo_status st);
/* Destroys the shard, closes its device and makes the shard anew on the CPU, without any KV.  why:
 * what the device's step said.  On failure *shard is NULL. */
exo_status exo_seat_move(exo_seat *s, exo_shard *lost_take, const char *why, exo_shard **shard,
                         exo_error *err);
void exo_seat_close(exo_seat *s); /* zeroed memory is allowed */

#endif
