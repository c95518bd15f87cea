/* place.h - where threads run and where weights lie: what --pin and --numa ask for.
 *
 * Products are handed out item by item to whichever thread is free, so no row belongs to a thread.
 * It can belong to a memory node: each matrix is cut into one range of rows per node, as long as
 * the node's part of the threads, with its pages in that node's memory; a thread takes the items
 * of the node it is on first, and those of the others when there are none left.  Interleaving pages
 * would need no such order, and would leave all but one of n reads in n to the far memory.
 *
 * Settings are the process's, as the cores are.  Thread: ANY, but for exo_place_ask(): before any
 * device is opened. */
#ifndef EXO_COMPUTE_CPU_PLACE_H
#define EXO_COMPUTE_CPU_PLACE_H

#include "compute/cpu/cores.h"

/* What options of the command line ask for, beside EXO_PIN and EXO_NUMA. */
void exo_place_ask(bool pin, bool numa);
bool exo_place_pin(void);
/* True only where there are several memory nodes. */
bool exo_place_numa(void);
/* Says once when that was asked for in vain. */
void exo_place_tell(void);

/* How the threads of a pool are divided among memory nodes. */
typedef struct {
    uint32_t n;                  /* nodes; 1: nothing is divided */
    uint32_t end[EXO_NODES_MAX]; /* how many threads the nodes up to this one have */
    uint32_t id[EXO_NODES_MAX];  /* the system's numbers */
} exo_node_split;

/* A core and a node for each of n threads: nodes are filled evenly, by their number of cores; with
 * !numa all nodes count as one. */
void exo_place_threads(const exo_core_map *m, bool numa, uint32_t n, exo_core *out,
                       exo_node_split *split);

/* The node's part [from, to) of n rows or items. */
static inline void exo_node_share(const exo_node_split *s, uint32_t node, uint32_t n,
                                  uint32_t *from, uint32_t *to) {
    uint32_t all = s->end[s->n - 1];
    *from = node == 0 ? 0 : (uint32_t)((uint64_t)n * s->end[node - 1] / all);
    *to = (uint32_t)((uint64_t)n * s->end[node] / all);
}

/* Asks the system for each node's part of n units of unit_bytes from first on, in fresh memory
 * [memory, memory + bytes).  A refusal is said once; the pages are then where they are touched
 * first. */
typedef struct {
    uint8_t *memory; /* page-aligned */
    size_t bytes;
    const uint8_t *first;
    size_t unit_bytes;
    uint32_t n;
} exo_place_units;
void exo_place_memory(const exo_node_split *s, const exo_place_units *u);

#endif
