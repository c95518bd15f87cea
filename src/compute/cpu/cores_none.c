/* cores_none.c - systems that bind no threads to cores, or do not say which there are. */
#include "compute/cpu/cores.h"

#ifndef __linux__
#include <errno.h>
#include <unistd.h>

void exo_core_map_describe(exo_core_map *m, const uint16_t *cores, uint32_t n) {
    (void)cores;
    (void)n;
    m->n = 0;
    m->n_nodes = 1;
    m->node_id[0] = 0;
}

void exo_core_map_read(exo_core_map *m) { exo_core_map_describe(m, NULL, 0); }

uint32_t exo_cores_usable(void) {
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (uint32_t)n : 1;
}

bool exo_core_now(uint32_t *core) {
    *core = 0;
    return false;
}

uint32_t exo_core_node_now(const exo_core_map *m) {
    (void)m;
    return 0;
}

bool exo_core_bind(uint32_t core) {
    (void)core;
    return false;
}

bool exo_core_bind_node(const exo_core_map *m, uint32_t node) {
    (void)m;
    (void)node;
    return false;
}

bool exo_core_hold(uint32_t core) {
    (void)core;
    return false;
}

bool exo_core_is_held(void) { return false; }
void exo_core_release(void) {}
void exo_core_release_as(uint32_t thread) { (void)thread; }
uint32_t exo_core_thread(void) { return 0; }

uint32_t exo_cores_pick(const exo_core_map *m, uint32_t want, uint16_t *out) {
    (void)m;
    (void)want;
    (void)out;
    return 0;
}

int exo_memory_prefer(void *p, size_t n, uint32_t node_id) {
    (void)p;
    (void)n;
    (void)node_id;
    return ENOTSUP;
}
#endif
