/* place.c - see place.h. */
#define _DEFAULT_SOURCE /* sysconf */
#include "compute/cpu/place.h"

#include "base/log.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LARGE_PAGE ((uintptr_t)2 << 20)
#define LARGE_FROM ((uintptr_t)16 << 20) /* ranges that end at large pages from here on */

static struct { bool pin, numa; } asked;

void exo_place_ask(bool pin, bool numa) {
    asked.pin = asked.pin || pin;
    asked.numa = asked.numa || numa;
}

static bool is_on(const char *name, atomic_flag *told) {
    const char *value = getenv(name);
    if (value == NULL || *value == '\0' || strcmp(value, "0") == 0) return false;
    if (strcmp(value, "1") == 0) return true;
    if (!atomic_flag_test_and_set(told)) {
        exo_warn("%s must be 1 or 0, not \"%.32s\": taken for 0", name, value);
    }
    return false;
}

bool exo_place_pin(void) {
    static atomic_flag told = ATOMIC_FLAG_INIT;
    return asked.pin || is_on("EXO_PIN", &told);
}

static bool asks_numa(void) {
    static atomic_flag told = ATOMIC_FLAG_INIT;
    return asked.numa || is_on("EXO_NUMA", &told);
}

bool exo_place_numa(void) {
    exo_core_map map;
    if (!asks_numa()) return false;
    exo_core_map_read(&map);
    return map.n_nodes > 1;
}

void exo_place_tell(void) {
    static atomic_flag told = ATOMIC_FLAG_INIT;
    if (!asks_numa() || exo_place_numa() || atomic_flag_test_and_set(&told)) return;
    exo_warn("NUMA: the cores of this process have one memory node: nothing to place");
}

/* The k-th core of a node. */
static exo_core core_of(const exo_core_map *m, bool numa, uint32_t node, uint32_t k) {
    for (uint32_t i = 0; i < m->n; i++) {
        if (numa && m->cores[i].node != node) continue;
        if (k-- == 0) return m->cores[i];
    }
    return (exo_core){0};
}

void exo_place_threads(const exo_core_map *m, bool numa, uint32_t n, exo_core *out,
                       exo_node_split *split) {
    uint32_t n_cores[EXO_NODES_MAX] = {0}, used[EXO_NODES_MAX] = {0};
    split->n = numa ? m->n_nodes : 1;
    for (uint32_t i = 0; i < m->n; i++) n_cores[numa ? m->cores[i].node : 0]++;
    for (uint32_t t = 0; t < n; t++) {
        uint32_t node = 0;
        for (uint32_t i = 1; i < split->n; i++) { /* the emptiest */
            if ((uint64_t)used[i] * n_cores[node] < (uint64_t)used[node] * n_cores[i]) node = i;
        }
        out[t] = core_of(m, numa, node, n_cores[node] > 0 ? used[node] % n_cores[node] : 0);
        used[node]++;
    }
    for (uint32_t i = 0; i < split->n; i++) {
        split->end[i] = used[i] + (i > 0 ? split->end[i - 1] : 0);
        split->id[i] = m->node_id[i];
    }
}

static void tell_refusal(uint32_t node_id, int why) {
    static atomic_flag told = ATOMIC_FLAG_INIT;
    if (atomic_flag_test_and_set(&told)) return;
    exo_warn("NUMA: the system places no memory on node %u (%s): weights lie where they are first "
             "written",
             node_id, strerror(why));
}

void exo_place_memory(const exo_node_split *s, const exo_place_units *u) {
    uintptr_t begin = (uintptr_t)u->memory, first = (uintptr_t)u->first;
    long page_size = sysconf(_SC_PAGESIZE);
    uintptr_t page = page_size > 0 ? (uintptr_t)page_size : 4096;
    if ((uintptr_t)u->n * u->unit_bytes / s->n >= LARGE_FROM) page = LARGE_PAGE;
    for (uint32_t node = 0; node < s->n; node++) {
        uint32_t from, to;
        exo_node_share(s, node, u->n, &from, &to);
        uintptr_t a = (first + from * u->unit_bytes) / page * page;
        uintptr_t b = (first + to * u->unit_bytes) / page * page;
        size_t at = a > begin ? a - begin : 0, end = b > begin ? b - begin : 0;
        if (to == u->n) end = u->bytes;
        if (end <= at) continue;
        int why = exo_memory_prefer(u->memory + at, end - at, s->id[node]);
        if (why == 0) continue;
        tell_refusal(s->id[node], why);
        return;
    }
}
