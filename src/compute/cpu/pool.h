/* pool.h - the threads of one CPU device: one program over all of them, with barriers.
 *
 * exo_pool_run() runs a function on every thread, the caller being thread 0.  Inside it threads
 * meet at exo_pool_barrier().  While a run is on, a waiting thread spins for a few microseconds
 * (only if asked for, and less the more often that was in vain: then the cores are busy with
 * somebody else's work) and sleeps on a condition variable after that.  Between runs all threads
 * sleep.  A pool of one thread has no thread of its own and synchronises nothing.
 *
 * exo_pool_run_some() leaves out threads whose cores others keep busy, and for a while binds each
 * to a core of its own where they get in each other's way (shed.h); what is computed must not
 * depend on their number.
 *
 * It knows nothing of kernels.  Thread: COMPUTE, one run at a time. */
#ifndef EXO_COMPUTE_CPU_POOL_H
#define EXO_COMPUTE_CPU_POOL_H

#include "compute/cpu/place.h"

#define EXO_POOL_MAX_THREADS 1024

typedef struct exo_pool exo_pool;
typedef void (*exo_pool_fn)(void *ud, uint32_t thread);

/* Where the system refuses threads, as many as it gave: that is said, and exo_pool_threads tells.
 */
exo_status exo_pool_create(uint32_t n_threads, bool spin, exo_pool **out, exo_error *err);
void exo_pool_destroy(exo_pool *p); /* NULL is allowed; joins the threads */
uint32_t exo_pool_threads(const exo_pool *p);

/* Returns when every thread has returned from fn; what they wrote is visible to the caller. */
void exo_pool_run(exo_pool *p, exo_pool_fn fn, void *ud);
/* The same with as many threads as serve best now, 0 .. exo_pool_running() - 1.  work: any number
 * that is equal for runs that should take equally long. */
void exo_pool_run_some(exo_pool *p, exo_pool_fn fn, void *ud, uint64_t work);

/* No more than n threads take part in exo_pool_run_some() from now on; between runs only. */
void exo_pool_limit(exo_pool *p, uint32_t n);

/* Places the threads as exo_place_pin() and exo_place_numa() ask, and says what became of it: each
 * worker is bound to a core of its own, the fastest first, or to the cores of a memory node.  The
 * caller's thread, which has other things to do, stays free.  Before the first run. */
void exo_pool_place(exo_pool *p);
/* How rows are divided among memory nodes. */
const exo_node_split *exo_pool_split(const exo_pool *p);
/* The index of the node that the calling thread is on now; 0 where there is one. */
uint32_t exo_pool_node_now(const exo_pool *p);

/* Inside fn only: how many threads this run has; returns when all of them have called it. */
uint32_t exo_pool_running(const exo_pool *p);
void exo_pool_barrier(exo_pool *p);

/* How many workers sleep on their condition variable now: all of them when the pool is idle. */
uint32_t exo_pool_sleepers(exo_pool *p);

#endif
