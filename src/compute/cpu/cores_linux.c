/* cores_linux.c - cores and memory nodes as the scheduler and /sys/devices/system describe them.
 *
 * Every file is optional: containers and phones hide some.  They are read without stdio, since a
 * pool may look for the first time in the middle of decoding, which allocates nothing.
 * mbind is called by number: libnuma is one function's worth of library, and none is on phones. */
#ifdef __linux__
#define _GNU_SOURCE /* sched_getaffinity, sched_getcpu, syscall */
#endif
#include "compute/cpu/cores.h"

#ifdef __linux__
#include "base/host.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LIST_BYTES     4096
#define MAX_NODE_ID    1023u
#define NODE_WORD_BITS (8 * sizeof(unsigned long))
#define PREFERRED      1 /* MPOL_PREFERRED: another node's memory when that one's is used up */

/* ---- files ---- */

/* The file's text, cut to cap; false when there is none. */
EXO_PRINTF(3, 4) static bool read_text(char *out, size_t cap, const char *fmt, ...) {
    char path[512];
    int at = snprintf(path, sizeof path, "%s/devices/system/", exo_host_sysfs());
    if (at < 0 || (size_t)at >= sizeof path) return false;
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(path + at, sizeof path - (size_t)at, fmt, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof path - (size_t)at) return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t got = read(fd, out, cap - 1);
    close(fd);
    out[got > 0 ? got : 0] = '\0';
    return got > 0;
}

static bool take_number(const char **p, uint32_t *out) {
    uint64_t v = 0;
    const char *s = *p;
    for (; *s >= '0' && *s <= '9'; s++) {
        v = v * 10 + (uint64_t)(*s - '0');
        if (v > UINT16_MAX) return false;
    }
    if (s == *p) return false;
    *p = s;
    *out = (uint32_t)v;
    return true;
}

/* The next run of "0-3,8,10-11"; false at the end, and at what is no such list. */
static bool next_run(const char **p, uint32_t *first, uint32_t *last) {
    if (**p == ',') (*p)++;
    if (!take_number(p, first)) return false;
    *last = *first;
    if (**p != '-') return true;
    (*p)++;
    return take_number(p, last) && *last >= *first;
}

/* 1024 for the fastest cores of a hybrid processor; kernels that do not say so know frequencies. */
static int64_t power_of(uint32_t core) {
    char text[32];
    if (read_text(text, sizeof text, "cpu/cpu%u/cpu_capacity", core) ||
        read_text(text, sizeof text, "cpu/cpu%u/cpufreq/cpuinfo_max_freq", core)) {
        return strtoll(text, NULL, 10);
    }
    return 0;
}

static uint16_t rank_of(uint32_t core) {
    char text[LIST_BYTES];
    uint32_t rank = 0, first, last;
    if (!read_text(text, sizeof text, "cpu/cpu%u/topology/thread_siblings_list", core)) return 0;
    for (const char *p = text; next_run(&p, &first, &last);) {
        if (first >= core) break;
        rank += (last < core ? last + 1 : core) - first;
    }
    return (uint16_t)rank;
}

/* ---- the map ---- */

/* Whether a thread should take a before b. */
static bool before(const exo_core *a, const exo_core *b) {
    if (a->rank != b->rank) return a->rank < b->rank;
    return a->power > b->power;
}

/* Marks the map's cores of one node; returns how many there are. */
static uint32_t mark_node(exo_core_map *m, uint32_t id, uint16_t index) {
    char text[LIST_BYTES];
    uint32_t first, last, n = 0;
    if (!read_text(text, sizeof text, "node/node%u/cpulist", id)) return 0;
    for (const char *p = text; next_run(&p, &first, &last);) {
        for (uint32_t i = 0; i < m->n; i++) {
            if (m->cores[i].core < first || m->cores[i].core > last) continue;
            m->cores[i].node = index;
            n++;
        }
    }
    return n;
}

static void find_nodes(exo_core_map *m) {
    char text[LIST_BYTES];
    uint32_t first, last;
    if (read_text(text, sizeof text, "node/online")) {
        for (const char *p = text; next_run(&p, &first, &last);) {
            for (uint32_t id = first; id <= last && id <= MAX_NODE_ID; id++) {
                if (m->n_nodes == EXO_NODES_MAX) return;
                if (mark_node(m, id, (uint16_t)m->n_nodes) > 0) m->node_id[m->n_nodes++] = id;
            }
        }
    }
    if (m->n_nodes == 0) m->n_nodes = 1;
}

void exo_core_map_describe(exo_core_map *m, const uint16_t *cores, uint32_t n) {
    m->n = n < EXO_CORES_MAX ? n : EXO_CORES_MAX;
    m->n_nodes = 0;
    m->node_id[0] = 0;
    for (uint32_t i = 0; i < m->n; i++) {
        exo_core c = {.core = cores[i], .rank = rank_of(cores[i]), .power = power_of(cores[i])};
        uint32_t at = i;
        for (; at > 0 && before(&c, &m->cores[at - 1]); at--) m->cores[at] = m->cores[at - 1];
        m->cores[at] = c;
    }
    find_nodes(m);
}

void exo_core_map_read(exo_core_map *m) {
    uint16_t cores[EXO_CORES_MAX];
    uint32_t n = 0;
    cpu_set_t set;
    CPU_ZERO(&set);
    (void)sched_getaffinity(0, sizeof set, &set);
    for (uint32_t i = 0; i < CPU_SETSIZE && n < EXO_CORES_MAX; i++) {
        if (CPU_ISSET(i, &set)) cores[n++] = (uint16_t)i;
    }
    exo_core_map_describe(m, cores, n);
}

uint32_t exo_cores_usable(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return (uint32_t)CPU_COUNT(&set);
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (uint32_t)n : 1;
}

bool exo_core_now(uint32_t *core) {
    int now = sched_getcpu();
    *core = now >= 0 ? (uint32_t)now : 0;
    return now >= 0;
}

uint32_t exo_core_node_now(const exo_core_map *m) {
    uint32_t core;
    if (m->n_nodes <= 1 || !exo_core_now(&core)) return 0;
    for (uint32_t i = 0; i < m->n; i++) {
        if (m->cores[i].core == core) return m->cores[i].node;
    }
    return 0;
}

/* ---- binding ---- */

bool exo_core_bind(uint32_t core) {
    cpu_set_t one;
    if (core >= CPU_SETSIZE) return false;
    CPU_ZERO(&one);
    CPU_SET(core, &one);
    return sched_setaffinity(0, sizeof one, &one) == 0;
}

bool exo_core_bind_node(const exo_core_map *m, uint32_t node) {
    cpu_set_t set;
    CPU_ZERO(&set);
    for (uint32_t i = 0; i < m->n; i++) {
        if (m->cores[i].node == node) CPU_SET(m->cores[i].core, &set);
    }
    return sched_setaffinity(0, sizeof set, &set) == 0;
}

static _Thread_local struct {
    bool held;
    uint32_t core;
    cpu_set_t before;
} hold;

bool exo_core_hold(uint32_t core) {
    if (hold.held) {
        if (hold.core == core) return true;
        exo_core_release();
    }
    if (core >= CPU_SETSIZE || sched_getaffinity(0, sizeof hold.before, &hold.before) != 0 ||
        !CPU_ISSET(core, &hold.before)) {
        return false;
    }
    hold.core = core;
    hold.held = exo_core_bind(core);
    return hold.held;
}

bool exo_core_is_held(void) {
    cpu_set_t now;
    return hold.held && sched_getaffinity(0, sizeof now, &now) == 0 && CPU_COUNT(&now) == 1 &&
           CPU_ISSET(hold.core, &now);
}

void exo_core_release(void) {
    if (exo_core_is_held()) (void)sched_setaffinity(0, sizeof hold.before, &hold.before);
    hold.held = false;
}

void exo_core_release_as(uint32_t thread) {
    cpu_set_t its;
    if (hold.held && sched_getaffinity((pid_t)thread, sizeof its, &its) == 0) hold.before = its;
    exo_core_release();
}

uint32_t exo_core_thread(void) { return (uint32_t)syscall(SYS_gettid); }

uint32_t exo_cores_pick(const exo_core_map *m, uint32_t want, uint16_t *out) {
    cpu_set_t set;
    uint32_t n = 0;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 0;
    for (uint32_t i = 0; i < m->n && n < want; i++) {
        if (CPU_ISSET(m->cores[i].core, &set)) out[n++] = m->cores[i].core;
    }
    return n;
}

/* ---- memory ---- */

int exo_memory_prefer(void *p, size_t n, uint32_t node_id) {
    unsigned long nodes[(MAX_NODE_ID + 1) / NODE_WORD_BITS] = {0};
    if (node_id > MAX_NODE_ID) return EINVAL;
    nodes[node_id / NODE_WORD_BITS] = 1ul << node_id % NODE_WORD_BITS;
    if (syscall(SYS_mbind, p, n, PREFERRED, nodes, MAX_NODE_ID + 2ul, 0u) == 0) return 0;
    return errno;
}
#endif
