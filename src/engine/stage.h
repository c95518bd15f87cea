/* stage.h - one stage of a pipeline: a shard plus the requests that its rows belong to.
 *
 * The stage with the head draws the tokens.  A stage is told of each request when it takes a
 * sequence slot and then only sees steps; it keeps the token history that penalties need from
 * the steps themselves.
 * Thread: COMPUTE. */
#ifndef EXO_ENGINE_STAGE_H
#define EXO_ENGINE_STAGE_H

#include "base/hash.h"
#include "engine/sampler.h"
#include "engine/shard.h"

typedef struct exo_stage exo_stage;

/* What one logits row became. */
typedef struct {
    uint32_t seq;
    uint32_t pos; /* position of the drawn token */
    exo_draw draw;
    uint8_t logits_hash[EXO_SHA256_BYTES]; /* so far; zero unless asked for */
} exo_stage_result;

/* Takes the shard over; on failure it is destroyed. */
exo_status exo_stage_create(exo_shard *shard_take, exo_stage **out, exo_error *err);
void exo_stage_destroy(exo_stage *s);     /* destroys the shard */
exo_shard *exo_stage_shard(exo_stage *s); /* NULL between give and take */
/* For a shard that moves to another device: the caller's now, until take brings one of the same
 * description; between them a stage can only be destroyed.  Requests, histories and hashes stay,
 * KV does not: every request is admitted again. */
exo_shard *exo_stage_give_shard(exo_stage *s);
void exo_stage_take_shard(exo_stage *s, exo_shard *shard_take);

/* Slot seq now serves r (copied) and has no pages; history: prompt and already generated ids.
 * A request that comes back with more history takes its logits hash along from the slot it had;
 * when that slot was taken since, its hash stays zero from here on.
 * On failure the slot stays as it was. */
exo_status exo_stage_admit(exo_stage *s, uint32_t seq, const exo_request *r, exo_tokens history,
                           exo_error *err);

/* Runs a step.  With the head: *n_results rows in results (room for max_seqs), in row order.
 * The same step again gives the same results.  Allocates nothing.  EXO_EINVAL as
 * exo_shard_run(), for a row of a slot without a request, and for a row beyond the history. */
exo_status exo_stage_run(exo_stage *s, const exo_step *step, const float *x_in, float *x_out,
                         exo_stage_result *results, uint32_t *n_results, const atomic_bool *cancel,
                         exo_error *err);

#endif
