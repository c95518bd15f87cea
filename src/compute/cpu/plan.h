/* plan.h - a CPU plan: the operations, the slots they work on, and every scratch they need.
 *
 * All of it is one block of memory, laid out once when the plan is made; a run allocates
 * nothing.  plan.c makes plans, compute/plan_check.c refuses bad ones and bad arguments,
 * plan_run.c runs them. */
#ifndef EXO_COMPUTE_CPU_PLAN_H
#define EXO_COMPUTE_CPU_PLAN_H

#include "compute/cpu/device.h"
#include "compute/plan_check.h"

#include <stdatomic.h>

#define EXO_ATTENTION_ROWS 8 /* rows of one sequence in one attention task */

/* Writable activations, for `rows` rows; the fields are exo_act's. */
typedef struct {
    float *x;
    int8_t *q[2]; /* by form: EXO_ACT_Q32 - 1, EXO_ACT_Q256 - 1 */
    float *d[2];
    int32_t *sum32;
    int16_t *sums;
} exo_act_space;

/* Elements from one row to the next. */
typedef struct {
    size_t x, q, d[2]; /* d by form, as above */
} exo_act_strides;

/* Of rows of k elements, padded so that the columns of a tile fall into different cache sets. */
exo_act_strides exo_act_strides_for(size_t k);

typedef struct {
    const double *inv_freq; /* (dims / 2), borrowed */
    uint32_t dims;
    float scale;
    float *cos, *sin; /* (max_rows, dims / 2) */
} exo_rope_table;

typedef struct {
    float *strip[2]; /* (n, 16 * groups) results before the epilogue */
    float *row;      /* (max K) a normed row on its way to quantisation */
    float *attention;
    float *route;      /* EXO_ROUTE_SCRATCH(most experts) */
    exo_act_space own; /* one row: steps of one row are prepared by every thread for itself */
    uint64_t n_items;  /* of products that this thread took since the plan was made */
} exo_thread_scratch;

typedef struct {
    uint32_t row, n; /* consecutive rows of one sequence */
} exo_row_block;

struct exo_plan {
    exo_device *device;
    exo_plan_desc desc; /* ops and slot_width point into this plan's memory */
    exo_op *ops;
    uint32_t *slot_width;
    exo_plan_bounds bounds;

    float **slots; /* [n_slots] (max_rows, slot_ld) */
    uint32_t *slot_ld;
    uint32_t *op_rope; /* [n_ops] index of a ROPE_KV's table */
    exo_rope_table *rope;
    uint32_t n_rope;
    exo_act_space act; /* max_rows rows, shared by the threads */
    exo_act_strides ld;
    exo_act_space chosen; /* inputs of EXPERTS, one row per row and chosen expert */
    size_t strip_floats;
    exo_thread_scratch *threads;

    /* one step */
    const exo_plan_args *args;
    float *parts; /* of attention that is cut by splits; touched only where it is */
    size_t parts_floats;
    uint32_t *pos;       /* (max_rows) */
    uint32_t *pos_end;   /* (max_rows) last position of the row's sequence in this step */
    uint32_t *pairs;     /* (max_rows * n_used) row * n_used + rank, by expert, then by row */
    uint32_t *expert_at; /* (n_experts + 1) where an expert's pairs begin */
    exo_row_block *blocks;
    uint32_t n_blocks;
    atomic_uint *taken;  /* (memory nodes, n_ops) work items handed out */
    atomic_uint stop_at; /* the operation after which all threads leave */
    atomic_bool not_finite, canceled;

    void *memory;
    size_t memory_bytes;
};

#endif
