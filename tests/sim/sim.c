/* sim.c - virtual time and chance; see sim.h.  Without memory a simulation ends. */
#include "sim/sim.h"

#include <stdio.h>
#include <stdlib.h>

#define WAYS 4 /* children of one item in the heap: fewer cache lines than with two */

uint64_t sim_draw(sim_rng *r) { /* splitmix64 */
    uint64_t z = r->state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

uint64_t sim_below(sim_rng *r, uint64_t n) { return sim_draw(r) % n; }

bool sim_chance(sim_rng *r, double p) { return (double)(sim_draw(r) >> 11) * 0x1p-53 < p; }

static bool before(const sim_event *a, const sim_event *b) {
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

void sim_add(sim_queue *q, sim_event e) {
    if (q->n == q->cap) {
        q->cap = q->cap > 0 ? q->cap * 2 : 256;
        q->items = realloc(q->items, q->cap * sizeof *q->items);
        if (q->items == NULL) {
            fprintf(stderr, "sim: no memory\n");
            exit(1);
        }
    }
    e.order = q->n_added++;
    size_t i = q->n++;
    for (; i > 0 && before(&e, &q->items[(i - 1) / WAYS]); i = (i - 1) / WAYS) {
        q->items[i] = q->items[(i - 1) / WAYS];
    }
    q->items[i] = e;
}

/* The one that comes first; q->n or more: there is none. */
static size_t first_child(const sim_queue *q, size_t i) {
    size_t best = WAYS * i + 1;
    for (size_t k = best + 1; k <= WAYS * i + WAYS && k < q->n; k++) {
        if (before(&q->items[k], &q->items[best])) best = k;
    }
    return best;
}

bool sim_next(sim_queue *q, sim_event *out) {
    if (q->n == 0) return false;
    *out = q->items[0];
    sim_event last = q->items[--q->n];
    size_t i = 0, child;
    while ((child = first_child(q, i)) < q->n) {
        if (!before(&q->items[child], &last)) break;
        q->items[i] = q->items[child];
        i = child;
    }
    if (q->n > 0) q->items[i] = last;
    return true;
}

void sim_queue_finish(sim_queue *q) {
    free(q->items);
    *q = (sim_queue){0};
}
