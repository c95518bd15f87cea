/* sim.h - virtual time: a queue of things to come, and chance from one seed.
 *
 * Everything a simulated cluster does happens because an event came out of the queue; nothing
 * reads a clock or the system's random numbers, so that a seed replays a run exactly. */
#ifndef EXO_TESTS_SIM_H
#define EXO_TESTS_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- chance ---- */

typedef struct {
    uint64_t state;
} sim_rng;

uint64_t sim_draw(sim_rng *r);
uint64_t sim_below(sim_rng *r, uint64_t n); /* 0 .. n - 1; n > 0 */
bool sim_chance(sim_rng *r, double p);

/* ---- what will happen ---- */

typedef struct {
    uint64_t at_us;
    uint64_t order; /* among those of one time: as they were added */
    uint32_t kind;
    uint32_t node;
    uint64_t epoch; /* of the node, when it matters that it still lives */
    void *data;
} sim_event;

typedef struct {
    sim_event *items; /* a heap */
    size_t n, cap;
    uint64_t n_added;
} sim_queue;

void sim_add(sim_queue *q, sim_event e); /* e.order is set here */
bool sim_next(sim_queue *q, sim_event *out);
void sim_queue_finish(sim_queue *q); /* data of what is left is the caller's */

#endif
