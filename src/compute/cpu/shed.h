/* shed.h - how many of a pool's threads the next run should use, from how the last ones went.
 *
 * A thread whose core is busy with other work makes all threads wait at every barrier: two threads
 * then are slower than one.  So threads that lose time (run-queue time: neither computing nor
 * asleep by choice) are given up, one is tried again after a while, the longer the more often that
 * was in vain, and a change that made equal work slower is taken back.  Where the system tells how
 * many threads want a core now, the next try waits for a free one.
 *
 * Threads that lose time because the system runs them on one core by turns (as Linux does where no
 * core is idle, however unimportant what runs on the others) are first kept apart, each on a core
 * of its own; only when that does not help, one is given up.
 *
 * Numbers only: no thread, no clock.  Thread: ANY, one at a time per object. */
#ifndef EXO_COMPUTE_CPU_SHED_H
#define EXO_COMPUTE_CPU_SHED_H

#include <exo/base.h>

typedef struct {
    uint32_t n_max, n_now;
    uint64_t window_ns, lost_ns; /* of the runs since the last decision */
    uint64_t slowest_ns;         /* of them: the neighbour may have begun within the window */
    uint64_t work, n_runs;       /* the window's kind of work, and how often it was done */
    uint64_t retry_ns, wait_ns;  /* when one more is tried; how long after a vain trial */
    uint64_t keep_ns, hold_ns;   /* nothing is given up before; how long after a vain giving up */
    uint64_t before_ns;          /* one run's time before a thread was given up; 0 = not asked */
    uint64_t before_work;
    uint32_t before_n;
    bool trial;                     /* this window has one thread more, to see */
    bool early;                     /* that is because a core seemed free */
    bool not_free;                  /* it only seemed so: the usual wait counts */
    uint32_t n_free;                /* windows in a row in which a core was free */
    bool apart;                     /* each thread is to stay on a core of its own */
    bool apart_new;                 /* that is to be judged yet */
    uint64_t n_met;                 /* runs of the window that ended with two threads on one core */
    uint64_t part_ns, part_wait_ns; /* not before; how long after it was in vain */
} exo_shed;

typedef enum { EXO_CORES_UNKNOWN, EXO_CORES_BUSY, EXO_CORES_FREE } exo_cores;

/* A finished run.  work: equal for runs that take equally long; lost_ns: of all threads together.
 */
typedef struct {
    uint64_t now_ns, wall_ns, lost_ns, work;
    exo_cores cores; /* whether one more thread would have a core */
    bool met;        /* two threads ended it on one core, and may be kept apart */
    bool spare;      /* there are more cores than threads took part */
} exo_shed_run;

void exo_shed_init(exo_shed *s, uint32_t n_threads);
/* True when n_now or apart has changed. */
bool exo_shed_report(exo_shed *s, const exo_shed_run *r);

#endif
