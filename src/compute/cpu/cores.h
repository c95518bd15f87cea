/* cores.h - which cores this process may use, how they differ, and which memory is near them.
 *
 * The system's own files answer what the pool asks (docs/decisions/hwloc.md); cores_linux.c reads
 * them, cores_none.c stands for systems that bind no threads.  EXO_SYSFS names another folder than
 * /sys, for tests.  Nothing here allocates.  Thread: ANY; what binds, binds the calling thread. */
#ifndef EXO_COMPUTE_CPU_CORES_H
#define EXO_COMPUTE_CPU_CORES_H

#include <exo/base.h>

#define EXO_CORES_MAX 1024
#define EXO_NODES_MAX 64

typedef struct {
    uint16_t core; /* the system's number */
    uint16_t node; /* index into node_id */
    uint16_t rank; /* among the threads of one physical core: 0 for the first */
    int64_t power; /* higher computes faster; 0: the system does not tell */
} exo_core;

/* In the order in which threads should take them: one of each physical core before any second, the
 * fastest first. */
typedef struct {
    uint32_t n, n_nodes; /* n = 0 where the system does not tell */
    exo_core cores[EXO_CORES_MAX];
    uint32_t node_id[EXO_NODES_MAX]; /* of memory nodes that have some of these cores */
} exo_core_map;

/* Of the cores that the calling thread may use. */
void exo_core_map_read(exo_core_map *m);
/* Of cores[n] by number, whether they are there or not. */
void exo_core_map_describe(exo_core_map *m, const uint16_t *cores, uint32_t n);

/* How many cores this process may use now. */
uint32_t exo_cores_usable(void);
/* The core that the calling thread is on; false where the system does not tell. */
bool exo_core_now(uint32_t *core);
/* The index of the node that the calling thread is on; 0 where the map has one. */
uint32_t exo_core_node_now(const exo_core_map *m);

/* Binds to one core; false when the system refuses. */
bool exo_core_bind(uint32_t core);
/* Binds to the map's cores of one node. */
bool exo_core_bind_node(const exo_core_map *m, uint32_t node);

/* Binds to one core for a while; false when it is not one that the thread may use now. */
bool exo_core_hold(uint32_t core);
/* Whether the thread is still as exo_core_hold left it: false once somebody else has bound it. */
bool exo_core_is_held(void);
/* Ends that: all cores from before again, unless somebody else has bound the thread since. */
void exo_core_release(void);
/* Ends it with the cores that another thread may use: a user who binds the whole process to the
 * core that one thread is held on changes nothing of that thread, and all of the others. */
void exo_core_release_as(uint32_t thread);
/* The calling thread, for exo_core_release_as. */
uint32_t exo_core_thread(void);
/* Writes the first cores of the map that the calling thread may use now; returns how many. */
uint32_t exo_cores_pick(const exo_core_map *m, uint32_t want, uint16_t *out);

/* Asks that the pages of n bytes at p, which nobody has touched yet, come from that node's memory
 * while there is some.  p is page-aligned.  0, or the system's number for why not. */
int exo_memory_prefer(void *p, size_t n, uint32_t node_id);

#endif
