/* plan_run.h - what the operations of a running plan share; private to plan_run.c, attend.c and
 * experts.c.
 *
 * Every thread has its own exo_run and walks the same operations.
 * Thread: the pool's. */
#ifndef EXO_COMPUTE_CPU_PLAN_RUN_H
#define EXO_COMPUTE_CPU_PLAN_RUN_H

#include "compute/cpu/plan.h"

typedef struct {
    exo_plan *p;
    const exo_cpu_kernels *kernels;
    exo_thread_scratch *scratch;
    uint32_t thread, n_threads;
    uint32_t node; /* of the memory near this thread */
    size_t op;     /* index */
} exo_run;

/* This thread's part [from, to) of n. */
static inline void exo_run_share(const exo_run *r, uint32_t n, uint32_t *from, uint32_t *to) {
    *from = (uint32_t)((uint64_t)n * r->thread / r->n_threads);
    *to = (uint32_t)((uint64_t)n * (r->thread + 1) / r->n_threads);
}

static inline const float *exo_run_vector(const exo_buffer *b) {
    return b == NULL ? NULL : (const float *)(const void *)b->data;
}

static inline void exo_run_not_finite(const exo_run *r) {
    atomic_store_explicit(&r->p->not_finite, true, memory_order_relaxed);
}

/* One row of a product's input. */
typedef struct {
    const float *x; /* (n) */
    uint32_t n;
    const float *norm; /* (n) or NULL */
    float eps;
    unsigned forms; /* 1 << exo_act_form of every form that is needed */
    bool gather;    /* f32 rows are copied even without a norm */
} exo_run_input;

/* Norms and quantises into row c of a. */
void exo_run_prepare(const exo_run *r, const exo_run_input *in, uint32_t c, const exo_act_space *a,
                     const exo_act_strides *ld);

/* out = the epilogue of y and up, all (n); not ADD.  up: where the epilogue is gated. */
void exo_run_epilogue(const exo_run *r, exo_epilogue e, float *out, const float *y, const float *up,
                      uint32_t n);

/* Meets the other threads in between where tasks are cut by splits. */
void exo_run_attention(const exo_run *r, const exo_op_attention *a);
void exo_run_route(const exo_run *r, const exo_op_route *o);
void exo_run_experts(const exo_run *r, const exo_op_experts *e);
void exo_run_mix(const exo_run *r, const exo_op_mix *m);

#endif
