/* shed.c - decisions per window of runs, since a single run may be shorter than a time slice. */
#include "compute/cpu/shed.h"

#define MS            1000000ull
#define WINDOW_NS     (40 * MS)
#define FIRST_WAIT_NS (500 * MS)
#define MAX_WAIT_NS   (4000 * MS)
#define MIN_KEEP_NS   (500 * MS)
#define FREE_WINDOWS  2
#define LOST_PERCENT  10 /* of one thread's time, all threads together */
#define WORSE_PERCENT 110

void exo_shed_init(exo_shed *s, uint32_t n_threads) {
    *s = (exo_shed){.n_max = n_threads, .n_now = n_threads, .wait_ns = FIRST_WAIT_NS};
    s->hold_ns = MIN_KEEP_NS;
    s->part_wait_ns = FIRST_WAIT_NS;
}

static void new_window(exo_shed *s) {
    s->window_ns = s->lost_ns = s->n_runs = s->slowest_ns = s->n_met = 0;
}

/* Bound threads cannot evade what else comes to their cores. */
static void join(exo_shed *s, uint64_t now) {
    uint64_t wait = s->apart_new ? s->part_wait_ns * 2 : FIRST_WAIT_NS;
    s->apart = false;
    s->part_wait_ns = wait < MAX_WAIT_NS ? wait : MAX_WAIT_NS;
    s->part_ns = now + s->part_wait_ns;
}

/* Whether threads that lose time should first be kept apart, or no longer be: those that met in
 * most runs lose it to each other. */
static bool move_first(exo_shed *s, uint64_t now, bool spare) {
    if (!s->apart) {
        s->apart = s->apart_new = now >= s->part_ns && s->n_met * 2 >= s->n_runs;
        return s->apart;
    }
    bool in_vain = s->apart_new || !spare;
    join(s, now);
    return !in_vain;
}

/* Back to more threads: the time was lost to something that fewer threads do not escape. */
static bool was_worse(exo_shed *s, uint64_t now, uint64_t run_ns) {
    uint64_t before = s->before_ns;
    s->before_ns = 0;
    if (before == 0 || s->work != s->before_work) return false;
    if (run_ns * 100 <= before * WORSE_PERCENT) {
        s->hold_ns = MIN_KEEP_NS;
        return false;
    }
    s->n_now = s->before_n;
    s->keep_ns = now + s->hold_ns;
    s->hold_ns = s->hold_ns * 2 < MAX_WAIT_NS ? s->hold_ns * 2 : MAX_WAIT_NS;
    return true;
}

static bool give_up(exo_shed *s, uint64_t now) {
    uint64_t lost = (s->lost_ns + s->window_ns / 2) / s->window_ns; /* threads' worth of time */
    if (lost == 0) lost = 1;
    s->before_ns = s->slowest_ns;
    s->before_work = s->work;
    s->before_n = s->n_now;
    s->n_now = lost < s->n_now ? s->n_now - (uint32_t)lost : 1;
    if (!s->trial) {
        s->wait_ns = FIRST_WAIT_NS;
    } else {
        s->before_ns = 0; /* known already */
        s->wait_ns = s->wait_ns * 2 < MAX_WAIT_NS ? s->wait_ns * 2 : MAX_WAIT_NS;
    }
    s->retry_ns = now + s->wait_ns;
    s->not_free = s->early;
    s->trial = s->early = false;
    s->n_free = 0;
    return true;
}

/* Whether the time has come to see if one more thread helps. */
static bool is_time(exo_shed *s, uint64_t now, exo_cores cores) {
    s->n_free = cores == EXO_CORES_FREE ? s->n_free + 1 : 0;
    s->early = !s->not_free && s->n_free >= FREE_WINDOWS;
    uint64_t at = s->retry_ns; /* who keeps the cores busy may be where this process may not run */
    if (cores == EXO_CORES_BUSY) at += MAX_WAIT_NS - s->wait_ns;
    return s->early || now >= at;
}

static bool decide(exo_shed *s, const exo_shed_run *r) {
    uint64_t now = r->now_ns;
    uint64_t run_ns = s->window_ns / s->n_runs;
    if (was_worse(s, now, run_ns)) return true;
    bool loses = s->lost_ns * 100 > s->window_ns * LOST_PERCENT;
    bool was_apart = s->apart;
    if (loses && s->n_now > 1 && move_first(s, now, r->spare)) return true;
    s->apart_new = false;
    if (loses && s->n_now > 1 && now >= s->keep_ns) return give_up(s, now);
    if (was_apart && !s->apart) return true;
    if (!loses && s->trial) {
        s->wait_ns = FIRST_WAIT_NS;
        s->not_free = false;
    }
    bool go_on = s->trial && !loses; /* the next one at once */
    s->trial = false;
    if (s->n_now == s->n_max || (!is_time(s, now, r->cores) && !go_on)) return false;
    s->n_now++;
    s->trial = true;
    return true;
}

bool exo_shed_report(exo_shed *s, const exo_shed_run *r) {
    if (s->n_max == 1) return false;
    if (r->work != s->work) new_window(s);
    s->work = r->work;
    s->window_ns += r->wall_ns;
    s->lost_ns += r->lost_ns;
    s->n_runs++;
    if (r->met) s->n_met++;
    if (r->wall_ns > s->slowest_ns) s->slowest_ns = r->wall_ns;
    if (s->window_ns < WINDOW_NS) return false;
    bool changed = decide(s, r);
    new_window(s);
    return changed;
}
