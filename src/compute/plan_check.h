/* plan_check.h - refuses plans whose shapes do not fit and steps that leave their bounds.
 *
 * Every backend's plans pass the same checks, with the same words; afterwards kernels may trust
 * every index.  A backend says how its weights and buffers look through exo_plan_objects, since
 * only it knows what they are.
 * Thread: COMPUTE. */
#ifndef EXO_COMPUTE_PLAN_CHECK_H
#define EXO_COMPUTE_PLAN_CHECK_H

#include "compute/backend.h"

typedef struct {
    uint32_t n_rows, n_cols;
} exo_weight_shape;

typedef struct {
    exo_weight_shape (*shape)(const exo_weight *w);
    size_t (*bytes)(const exo_buffer *b);
} exo_plan_objects;

/* What steps are checked against, and what the check finds out. */
typedef struct {
    const exo_plan_desc *desc; /* outlives this */
    uint32_t n_vocab;          /* of the HEAD, or 0 */
    uint32_t embed_vocab;      /* least rows of an EMBED table, or 0 */
    uint32_t n_pages;          /* least pages of a pool, or UINT32_MAX */
    uint32_t n_positions;      /* that an EMBED has rows for, or UINT32_MAX */
    uint32_t *last_pos;        /* (max_seqs) the caller's room for the check */
    uint32_t *logit_rows;      /* (max_rows) the caller's; rows of the step that want logits */
    uint32_t n_logit_rows;
} exo_plan_bounds;

/* EXO_EINVAL with the operation's number and what is wrong. */
exo_status exo_plan_check(const exo_plan_desc *desc, const exo_plan_objects *objects,
                          exo_error *err);

/* Fills n_vocab, embed_vocab, n_pages and n_positions of a plan that passed. */
void exo_plan_bounds_find(exo_plan_bounds *b, const exo_plan_objects *objects);

/* Also fills logit_rows. */
exo_status exo_plan_check_step(exo_plan_bounds *b, const exo_plan_args *args, exo_error *err);

#endif
