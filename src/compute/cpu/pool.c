/* pool.c - a gate that opens by generations serves both waits: for work and at barriers.
 *
 * Waiters compare the gate's generation; the thread that opens it takes the mutex only when
 * somebody sleeps.  A waiter announces that it sleeps before it looks at the generation for the
 * last time, the opener advances the generation before it looks for sleepers, both sequentially
 * consistent: one of the two always sees the other, so no wake-up is lost.
 *
 * Each worker has its own gate for work: one that is left out of runs is not woken for them.  What
 * a thread loses to others is its time in a run, less its processor time, less its sleep at
 * barriers; asking for that costs two calls of the system per run and thread. */
#define _POSIX_C_SOURCE 200809L
#include "compute/cpu/pool.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "compute/cpu/cpu_info.h"
#include "compute/cpu/shed.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define MAX_SPIN_US    50
#define MIN_SPIN_US    1
#define CACHE_LINE     64
#define PAUSES_A_CHECK 16

typedef struct {
    atomic_uint generation;
    atomic_uint sleepers;
    pthread_mutex_t mutex;
    pthread_cond_t opened;
} gate;

typedef struct {
    exo_pool *pool;
    uint32_t index;
    pthread_t thread;
    gate work;
    uint64_t lost_ns;    /* in the last run */
    uint32_t core, node; /* bound to, see exo_pool_place */
    uint32_t seen_core;  /* where the last run ended */
    uint32_t id;         /* of the thread, for the others */
    bool moved;          /* in the last run it was not on the core on which it is held */
} worker;

struct exo_pool {
    uint32_t n_threads, n_running;
    bool spin;
    exo_shed shed;
    uint64_t looked_ns; /* when the system was last asked what others do */
    exo_cores cores;
    uint32_t n_cores;    /* that this process may use, at the last look */
    uint32_t told_cores; /* the last number said to be too small; 0: none */
    exo_core_map map;    /* read when first needed */
    exo_node_split split;
    bool placed;     /* threads are bound by order, and not moved otherwise */
    uint32_t n_held; /* these threads are held on a core each: 0 when they are free */
    uint32_t caller; /* the id of the thread that runs the pool: bound as the user wants it */
    uint16_t held[EXO_POOL_MAX_THREADS];
    atomic_uint spin_us; /* now allowed; halves when in vain, doubles when it helped */
    exo_pool_fn fn;
    void *ud;
    bool stop;
    gate barrier;
    char line[CACHE_LINE]; /* keeps what follows off the gates' cache line */
    atomic_uint arrived;   /* at the barrier */
    worker workers[];      /* (n_threads - 1): thread i + 1 */
};

#define LOOK_NS 40000000u /* between two looks at what others do */

/* How long this thread has slept at barriers. */
static _Thread_local uint64_t slept_ns;

static inline void cpu_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int gate_init(gate *g) {
    if (pthread_mutex_init(&g->mutex, NULL) != 0) return -1;
    if (pthread_cond_init(&g->opened, NULL) == 0) return 0;
    pthread_mutex_destroy(&g->mutex);
    return -1;
}

static void gate_finish(gate *g) {
    pthread_cond_destroy(&g->opened);
    pthread_mutex_destroy(&g->mutex);
}

static void gate_open(gate *g) {
    atomic_fetch_add(&g->generation, 1);
    if (atomic_load(&g->sleepers) == 0) return;
    pthread_mutex_lock(&g->mutex);
    pthread_cond_broadcast(&g->opened);
    pthread_mutex_unlock(&g->mutex);
}

static void gate_sleep(gate *g, unsigned seen) {
    pthread_mutex_lock(&g->mutex);
    atomic_fetch_add(&g->sleepers, 1);
    while (atomic_load(&g->generation) == seen) pthread_cond_wait(&g->opened, &g->mutex);
    atomic_fetch_sub(&g->sleepers, 1);
    pthread_mutex_unlock(&g->mutex);
}

/* True when the generation changed within the time allowed. */
static bool gate_spin(gate *g, unsigned seen, uint32_t us) {
    uint64_t until = 0;
    for (;;) {
        for (int i = 0; i < PAUSES_A_CHECK; i++) {
            if (atomic_load_explicit(&g->generation, memory_order_acquire) != seen) return true;
            cpu_pause();
        }
        uint64_t now = exo_now_ns();
        if (until == 0) until = now + us * 1000ull;
        if (now >= until) return false;
    }
}

static void barrier_wait(exo_pool *p, unsigned seen) {
    if (p->spin) {
        uint32_t us = atomic_load_explicit(&p->spin_us, memory_order_relaxed);
        bool helped = gate_spin(&p->barrier, seen, us);
        uint32_t next = helped ? us * 2 : us / 2;
        if (next > MAX_SPIN_US) next = MAX_SPIN_US;
        if (next < MIN_SPIN_US) next = MIN_SPIN_US;
        if (next != us) atomic_store_explicit(&p->spin_us, next, memory_order_relaxed);
        if (helped) return;
    }
    uint64_t begin = exo_now_ns();
    gate_sleep(&p->barrier, seen);
    slept_ns += exo_now_ns() - begin;
}

/* True for the last thread to arrive, which opens the barrier. */
static bool barrier_arrive(exo_pool *p) {
    uint32_t n = p->n_running; /* once the last has arrived, the next run may set it anew */
    if (atomic_fetch_add(&p->arrived, 1) + 1 != n) return false;
    atomic_store(&p->arrived, 0);
    gate_open(&p->barrier);
    return true;
}

void exo_pool_barrier(exo_pool *p) {
    if (p->n_running == 1) return;
    unsigned seen = atomic_load(&p->barrier.generation);
    if (!barrier_arrive(p)) barrier_wait(p, seen);
}

static uint64_t processor_ns(void) {
    struct timespec t = {0};
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Runs fn; returns the time for which the thread had no core although it wanted one. */
static uint64_t run_timed(const exo_pool *p, uint32_t thread, uint32_t *core) {
    if (thread < p->n_held) {
        (void)exo_core_hold(p->held[thread]);
    } else if (thread > 0) {
        exo_core_release_as(p->caller);
    }
    uint64_t begin = exo_now_ns(), used = processor_ns(), slept = slept_ns;
    p->fn(p->ud, thread);
    uint64_t idle = processor_ns() - used + slept_ns - slept, wall = exo_now_ns() - begin;
    if (!exo_core_now(core)) *core = EXO_CORES_MAX + thread; /* on none that another has */
    return wall > idle ? wall - idle : 0;
}

static void *worker_main(void *ud) {
    worker *w = ud;
    exo_pool *p = w->pool;
    w->id = exo_core_thread();
    for (unsigned seen = 0;; seen++) {
        gate_sleep(&w->work, seen);
        if (p->stop) return NULL;
        w->lost_ns = run_timed(p, w->index, &w->seen_core);
        w->moved = w->index < p->n_held && !exo_core_is_held();
        (void)barrier_arrive(p); /* only the caller waits for the end */
    }
}

/* Whether two of the threads of the last run ended it on one core. */
static bool have_met(const exo_pool *p, uint32_t core) {
    uint64_t seen[(EXO_CORES_MAX + EXO_POOL_MAX_THREADS) / 64] = {0};
    seen[core / 64] = 1ull << core % 64;
    for (uint32_t i = 0; i + 1 < p->n_running; i++) {
        core = p->workers[i].seen_core;
        if ((seen[core / 64] >> core % 64 & 1) != 0) return true;
        seen[core / 64] |= 1ull << core % 64;
    }
    return false;
}

/* What the caller does between runs may go anywhere, or where the user has bound the process since:
 * the others, who are held on other cores, tell. */
static void release_caller(exo_pool *p) {
    for (uint32_t i = 0; i + 1 < p->n_held; i++) {
        if (!p->workers[i].moved) continue;
        exo_core_release_as(p->workers[i].id);
        p->n_held = 0;
    }
    exo_core_release();
}

/* Returns the time lost by all threads together. */
static uint64_t run_on(exo_pool *p, exo_pool_fn fn, void *ud, uint32_t n, uint32_t *core) {
    p->n_running = n;
    p->fn = fn;
    p->ud = ud;
    for (uint32_t i = 0; i + 1 < n; i++) gate_open(&p->workers[i].work);
    uint64_t lost = run_timed(p, 0, core);
    exo_pool_barrier(p);
    if (p->n_held > 0) release_caller(p);
    for (uint32_t i = 0; i + 1 < n; i++) lost += p->workers[i].lost_ns;
    return lost;
}

void exo_pool_run(exo_pool *p, exo_pool_fn fn, void *ud) {
    uint32_t core;
    (void)run_on(p, fn, ud, p->n_threads, &core);
}

/* Cores can be taken away, and come back, while the process runs. */
static void tell_cores(exo_pool *p, uint32_t cores) {
    bool few = cores != 0 && cores < p->shed.n_max;
    if (few && cores != p->told_cores) {
        exo_warn("CPU: this process may use only %u core(s) now: %u of %u threads compute", cores,
                 p->shed.n_now, p->n_threads);
    }
    p->told_cores = few ? cores : 0;
}

/* Whether a core is free for one more thread, while one is missing. */
static exo_cores look(exo_pool *p, uint64_t now) {
    if (now - p->looked_ns < LOOK_NS) return p->cores;
    p->looked_ns = now;
    p->cores = EXO_CORES_UNKNOWN;
    uint32_t cores = p->n_cores = exo_cores_usable();
    tell_cores(p, cores);
    if (p->shed.n_now == p->shed.n_max) return p->cores;
    uint32_t wanted = exo_cpu_wanted();
    bool is_free = wanted - 1 + p->shed.n_now < cores; /* this thread is one of each */
    p->cores = wanted == 0 || cores == 0 ? EXO_CORES_UNKNOWN
               : is_free                 ? EXO_CORES_FREE
                                         : EXO_CORES_BUSY;
    return p->cores;
}

/* As the decision is now: threads free to go, or each on a core of its own. */
static void hold_threads(exo_pool *p) {
    p->caller = exo_core_thread();
    if (!p->shed.apart) {
        p->n_held = 0;
        return;
    }
    if (p->map.n == 0) exo_core_map_read(&p->map);
    uint32_t n = exo_cores_pick(&p->map, p->shed.n_now, p->held);
    p->n_held = n == p->shed.n_now ? n : 0;
}

void exo_pool_run_some(exo_pool *p, exo_pool_fn fn, void *ud, uint64_t work) {
    uint64_t begin = exo_now_ns();
    uint32_t core;
    exo_shed_run r = {.work = work};
    r.lost_ns = run_on(p, fn, ud, p->shed.n_now, &core);
    r.now_ns = exo_now_ns();
    r.wall_ns = r.now_ns - begin;
    r.cores = look(p, r.now_ns);
    r.spare = p->n_cores > p->shed.n_now;
    r.met = !p->placed && have_met(p, core);
    if (!exo_shed_report(&p->shed, &r)) return;
    hold_threads(p);
    exo_debug("CPU: %u of %u threads from now on, for what others do on their cores%s",
              p->shed.n_now, p->n_threads, p->n_held > 0 ? "; each kept on one" : "");
}

void exo_pool_limit(exo_pool *p, uint32_t n) {
    n = n == 0 ? 1 : n;
    exo_shed_init(&p->shed, n < p->n_threads ? n : p->n_threads);
}

typedef struct {
    exo_pool *pool;
    bool to_core;
    atomic_bool refused;
} bind_job;

static void bind_worker(void *ud, uint32_t thread) {
    bind_job *j = ud;
    if (thread == 0) return;
    const worker *w = &j->pool->workers[thread - 1];
    bool done = j->to_core ? exo_core_bind(w->core) : exo_core_bind_node(&j->pool->map, w->node);
    if (!done) atomic_store(&j->refused, true);
}

void exo_pool_place(exo_pool *p) {
    exo_core cores[EXO_POOL_MAX_THREADS];
    bind_job j = {.pool = p, .to_core = exo_place_pin()};
    bool numa = exo_place_numa();
    exo_place_tell();
    if (!j.to_core && !numa) return;
    exo_core_map_read(&p->map);
    exo_place_threads(&p->map, numa, p->n_threads, cores, &p->split);
    for (uint32_t i = 0; i + 1 < p->n_threads; i++) {
        p->workers[i].core = cores[i + 1].core;
        p->workers[i].node = cores[i + 1].node;
    }
    atomic_init(&j.refused, p->map.n == 0);
    if (p->map.n > 0) exo_pool_run(p, bind_worker, &j);
    p->placed = !atomic_load(&j.refused);
    if (!p->placed) {
        exo_warn("the system binds no threads to cores: they run unbound");
    } else if (j.to_core) {
        exo_info("CPU: %u threads, all but the first bound to a core each", p->n_threads);
    }
    if (numa) {
        exo_info("NUMA: threads and weights on %u memory nodes; kept packed weights stay unused",
                 p->split.n);
    }
}

const exo_node_split *exo_pool_split(const exo_pool *p) { return &p->split; }

uint32_t exo_pool_node_now(const exo_pool *p) {
    return p->split.n > 1 ? exo_core_node_now(&p->map) : 0;
}

uint32_t exo_pool_threads(const exo_pool *p) { return p->n_threads; }

uint32_t exo_pool_running(const exo_pool *p) { return p->n_running; }

uint32_t exo_pool_sleepers(exo_pool *p) {
    uint32_t n = 0;
    for (uint32_t i = 0; i + 1 < p->n_threads; i++) n += atomic_load(&p->workers[i].work.sleepers);
    return n;
}

/* Thread 0 is the caller's. */
static bool start_worker(exo_pool *p, uint32_t index) {
    worker *w = &p->workers[index - 1];
    w->pool = p;
    w->index = index;
    if (gate_init(&w->work) != 0) return false;
    if (pthread_create(&w->thread, NULL, worker_main, w) == 0) return true;
    gate_finish(&w->work);
    return false;
}

exo_status exo_pool_create(uint32_t n_threads, bool spin, exo_pool **out, exo_error *err) {
    *out = NULL;
    if (n_threads == 0 || n_threads > EXO_POOL_MAX_THREADS) {
        return exo_error_set(err, EXO_EINVAL, "%u threads asked for: 1 to %d are possible",
                             n_threads, EXO_POOL_MAX_THREADS);
    }
    exo_pool *p = exo_calloc(1, sizeof *p + (n_threads - 1) * sizeof(worker));
    if (p == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for the thread pool");
    p->spin = spin;
    atomic_init(&p->spin_us, MAX_SPIN_US);
    if (gate_init(&p->barrier) != 0) {
        exo_free(p);
        return exo_error_set(err, EXO_ENOMEM, "the system refused a mutex");
    }
    uint32_t n = 1;
    while (n < n_threads && start_worker(p, n)) n++;
    if (n < n_threads) {
        exo_warn("CPU: the system refused thread %u of %u: %u compute", n + 1, n_threads, n);
    }
    p->n_threads = p->n_running = n;
    p->split = (exo_node_split){.n = 1, .end = {n}};
    exo_shed_init(&p->shed, n);
    *out = p;
    return EXO_OK;
}

void exo_pool_destroy(exo_pool *p) {
    if (p == NULL) return;
    p->stop = true;
    for (uint32_t i = 0; i + 1 < p->n_threads; i++) {
        worker *w = &p->workers[i];
        gate_open(&w->work);
        pthread_join(w->thread, NULL);
        gate_finish(&w->work);
    }
    gate_finish(&p->barrier);
    exo_free(p);
}
