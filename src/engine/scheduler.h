/* scheduler.h - the coordinator of one instance: admission, batches, pages, prefix reuse.
 *
 * Sole author of steps.  Pure: no clock, thread, socket or device; the caller runs the steps it
 * hands out, in order, and brings back the sampled tokens.  Each sequence holds a slot and the
 * pages of its positions; whole pages of equal prefixes are shared by hash and kept after use
 * until memory is needed (least recently used first).  When no page is free the youngest running
 * sequence is put back and later re-read from its tokens.
 * Decoding rows go first; what room is left in a step goes to prompts, oldest request first.
 * Several steps may be in flight (pipeline stages); a sequence has at most one row in flight
 * whose token is not known yet.  Every stage runs steps in the order of their numbers, so pages
 * of one step may be shared or reused from the next step on, answered or not.
 * Thread: COMPUTE (one at a time). */
#ifndef EXO_ENGINE_SCHEDULER_H
#define EXO_ENGINE_SCHEDULER_H

#include "engine/sampler.h"
#include "engine/step.h"

typedef struct exo_sched exo_sched;

typedef struct {
    uint32_t max_seqs;      /* slots, <= EXO_MAX_SEQS */
    uint32_t n_pages;       /* pool size: the minimum over all stages */
    uint32_t ctx_tokens;    /* limit of prompt + answer of one sequence */
    uint32_t max_rows;      /* rows per step, >= max_seqs so that no decoding sequence waits */
    uint32_t chunk_tokens;  /* prompt rows per step; 0 = max_rows */
    uint32_t max_in_flight; /* steps handed out and not yet answered; 0 = 1 */
    uint32_t max_waiting;   /* queued requests; 0 = 256 */
    bool has_classes; /* a stage computes rows of prompts by other kernels (exo_shard_has_classes):
                         rows carry EXO_ROW_PROMPT, pages are shared within a class only */
} exo_sched_desc;

/* EXO_EINVAL names the limit that is out of range. */
exo_status exo_sched_create(const exo_sched_desc *d, exo_sched **out, exo_error *err);
void exo_sched_destroy(exo_sched *s);

/* Prompt chunk size may follow measured time. */
void exo_sched_set_chunk(exo_sched *s, uint32_t chunk_tokens);

/* Queues a request; ids are the caller's, unique among the live.  The prompt is copied.
 * EXO_ETOOLONG with both counts when n_prompt >= ctx_tokens or when the prompt alone needs more
 * pages than the pool has; EXO_EBUSY when the queue is full; EXO_EINVAL for an empty prompt or an
 * id in use.  This is the only call that allocates. */
exo_status exo_sched_add(exo_sched *s, uint64_t id, exo_tokens prompt, exo_error *err);

/* A request took a slot; the stages must hear of it after the step before and before the step it
 * comes with.  Whoever had the slot has ended or was put back. */
typedef struct {
    uint64_t id;
    uint32_t seq;
    uint32_t n_history; /* tokens already generated (a sequence that was put back) */
} exo_admission;

/* Page entries that a step needs room for; rows: max_rows. */
uint32_t exo_sched_step_pages(const exo_sched *s);

/* Builds the next step; the first has number 1.  False: nothing to do now (all waits for
 * results, or idle).  admitted: room for max_seqs entries; *n_admitted are new in this step.
 * A request whose answer is complete is ended before the next call, or it is decoded further. */
bool exo_sched_next(exo_sched *s, exo_step *step, exo_admission *admitted, uint32_t *n_admitted);

/* One sampled token of step `number`; steps answer in order, rows in row order. */
typedef struct {
    uint64_t id;   /* request */
    uint32_t pos;  /* position of the new token */
    bool live;     /* false: the request ended meanwhile; drop it */
    bool ctx_full; /* no further token fits the context or the pool */
} exo_sched_answer;
/* seqs: (n) the slots whose rows wanted logits, tokens: (n) what was drawn; n is 0 for a step
 * without such rows, which is answered as well.  out: (n).  EXO_EINTERNAL, and nothing has
 * changed, when the step, a slot or a token is not the expected one. */
exo_status exo_sched_result(exo_sched *s, uint64_t number, const uint32_t *seqs,
                            const int32_t *tokens, uint32_t n, exo_sched_answer *out,
                            exo_error *err);

/* Ends a request (answered, cancelled, failed): its slot is free for others, rows of it that are
 * in flight are answered as not live.  An unknown id is ignored. */
void exo_sched_end(exo_sched *s, uint64_t id);

/* All KV is lost (a stage moved to another device): steps in flight are forgotten, and every
 * running sequence waits to be read again from its tokens, in order of arrival.  Returns the number
 * of the last step that must not be answered any more. */
uint64_t exo_sched_reread(exo_sched *s);

/* Prompt and drawn tokens of a live request, for its admission; valid until the next call.
 * Empty: unknown id. */
exo_tokens exo_sched_tokens(const exo_sched *s, uint64_t id);

typedef struct {
    uint32_t n_running, n_waiting, n_in_flight;
    uint32_t pages_used, pages_cached, pages_total; /* held; known but not held */
    uint64_t prefix_hit_tokens, preemptions;
} exo_sched_stats;
void exo_sched_get_stats(const exo_sched *s, exo_sched_stats *out);
/* Prompt tokens of a request: handed out so far, all, and those taken from the prefix cache.
 * False: unknown id. */
bool exo_sched_progress(const exo_sched *s, uint64_t id, uint32_t *done, uint32_t *total,
                        uint32_t *cached);

#endif
