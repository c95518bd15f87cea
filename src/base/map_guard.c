/* map_guard.c - see map_guard.h.
 *
 * The handler may run at any instruction of any thread: it reads atomics and calls mmap. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS, siginfo */
#include "base/map_guard.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#define CLAIMED 1 /* no address: the entry is being filled */

typedef struct {
    atomic_uintptr_t begin, end; /* begin 0: free */
    atomic_bool hurt;
} entry;

static entry entries[EXO_MAP_GUARD_MAX];
static atomic_size_t n_used; /* entries from here on were never used */
static atomic_size_t n_hurts;
static uintptr_t page_bytes;
static struct sigaction before;

/* From the page on to the end of the mapping: what is behind a missing page is missing, too. */
static bool fill(entry *e, uint8_t *at, uintptr_t end) {
    uint8_t *page = at - ((uintptr_t)at & (page_bytes - 1));
    void *got = mmap(page, end - (uintptr_t)page, PROT_READ,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (got == MAP_FAILED) return false;
    atomic_store(&e->hurt, true);
    atomic_fetch_add(&n_hurts, 1);
    return true;
}

static void pass_on(int number, siginfo_t *info, void *context) {
    if ((before.sa_flags & SA_SIGINFO) != 0) {
        before.sa_sigaction(number, info, context);
    } else if (before.sa_handler == SIG_DFL || before.sa_handler == SIG_IGN) {
        signal(number, SIG_DFL); /* the instruction runs again, and that is the end */
    } else {
        before.sa_handler(number);
    }
}

static void on_bus(int number, siginfo_t *info, void *context) {
    uintptr_t at = (uintptr_t)info->si_addr;
    size_t n = atomic_load(&n_used);
    int saved = errno;
    for (size_t i = 0; i < n; i++) {
        uintptr_t begin = atomic_load(&entries[i].begin), end = atomic_load(&entries[i].end);
        if (begin <= CLAIMED || at < begin || at >= end) continue;
        if (!fill(&entries[i], info->si_addr, end)) break;
        errno = saved;
        return;
    }
    errno = saved;
    pass_on(number, info, context);
}

static void install(void) {
    struct sigaction sa = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE);
    sigemptyset(&sa.sa_mask);
    sigaction(SIGBUS, &sa, &before);
}

void exo_map_guard_add(const void *begin, size_t n_bytes) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, install);
    for (size_t i = 0; i < EXO_MAP_GUARD_MAX; i++) {
        uintptr_t none = 0;
        if (!atomic_compare_exchange_strong(&entries[i].begin, &none, CLAIMED)) continue;
        atomic_store(&entries[i].hurt, false);
        atomic_store(&entries[i].end, (uintptr_t)begin + n_bytes);
        atomic_store(&entries[i].begin, (uintptr_t)begin);
        size_t n = atomic_load(&n_used);
        while (n <= i && !atomic_compare_exchange_weak(&n_used, &n, i + 1)) {}
        return;
    }
}

static entry *find(const void *begin) {
    size_t n = atomic_load(&n_used);
    for (size_t i = 0; i < n; i++) {
        if (atomic_load(&entries[i].begin) == (uintptr_t)begin) return &entries[i];
    }
    return NULL;
}

void exo_map_guard_remove(const void *begin) {
    entry *e = begin != NULL ? find(begin) : NULL;
    if (e == NULL) return;
    atomic_store(&e->end, 0);
    atomic_store(&e->begin, 0);
}

bool exo_map_guard_hurt(const void *begin) {
    const entry *e = begin != NULL ? find(begin) : NULL;
    return e != NULL && atomic_load(&e->hurt);
}

size_t exo_map_guard_hurts(void) { return atomic_load(&n_hurts); }
