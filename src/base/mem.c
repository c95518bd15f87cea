/* mem.c - the heap behind mem.h, with the test hooks that count and fail allocations.
 *
 * Knows nothing of arenas; arena.c builds on it. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS, MAP_NORESERVE */
#include "base/mem.h"

#include "base/host.h"
#include "base/log.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#define HUGE_PAGE_FROM ((size_t)4 << 20)

#ifdef EXO_TEST_HOOKS
static atomic_uint_fast64_t n_allocs;
static atomic_uint_fast64_t fail_at; /* n_allocs value that fails; 0 = never */
static atomic_int failed;

uint64_t exo_mem_count(void) { return atomic_load(&n_allocs); }

void exo_mem_fail_at(uint64_t k) {
    atomic_store(&failed, 0);
    atomic_store(&fail_at, k == 0 ? 0 : atomic_load(&n_allocs) + k);
}

int exo_mem_failed(void) { return atomic_load(&failed); }

static int refused(void) {
    uint64_t i = atomic_fetch_add(&n_allocs, 1) + 1;
    if (i != atomic_load(&fail_at)) return 0;
    atomic_store(&failed, 1);
    return 1;
}
#else
static int refused(void) { return 0; }
#endif

void *exo_malloc(size_t n) { return refused() ? NULL : malloc(n == 0 ? 1 : n); }

void *exo_calloc(size_t count, size_t size) {
    if (refused() || (size != 0 && count > SIZE_MAX / size)) return NULL;
    return calloc(count == 0 ? 1 : count, size == 0 ? 1 : size);
}

void *exo_realloc(void *p, size_t n) { return refused() ? NULL : realloc(p, n == 0 ? 1 : n); }

void exo_free(void *p) { free(p); }

char *exo_strndup(const char *s, size_t n) {
    char *copy = exo_malloc(n + 1);
    if (copy == NULL) return NULL;
    if (n > 0) memcpy(copy, s, n);
    copy[n] = '\0';
    return copy;
}

char *exo_strdup(const char *s) { return exo_strndup(s, strlen(s)); }

int exo_grow(void **items, size_t *cap, size_t need, size_t size) {
    if (need <= *cap) return 0;
    size_t want = *cap < 8 ? 8 : *cap;
    while (want < need) {
        if (want > SIZE_MAX / 2) return -1;
        want *= 2;
    }
    if (want > SIZE_MAX / size) return -1;
    void *grown = exo_realloc(*items, want * size);
    if (grown == NULL) return -1;
    *items = grown;
    *cap = want;
    return 0;
}

void *exo_pages_alloc(size_t bytes) {
    if (refused()) return NULL;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
#ifdef MAP_NORESERVE
    flags |= MAP_NORESERVE;
#endif
    void *p = mmap(NULL, bytes == 0 ? 1 : bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

void exo_pages_free(void *p, size_t bytes) {
    if (p != NULL) munmap(p, bytes == 0 ? 1 : bytes);
}

void exo_pages_prefer_huge(void *p, size_t bytes) {
#ifdef MADV_HUGEPAGE
    static atomic_flag looked = ATOMIC_FLAG_INIT, told = ATOMIC_FLAG_INIT;
    const char *why = NULL;
    if (bytes < HUGE_PAGE_FROM) return;
    if (madvise(p, bytes, MADV_HUGEPAGE) != 0) { /* EINVAL: a kernel without them */
        why = strerror(errno);
    } else if (!atomic_flag_test_and_set(&looked)) {
        why = exo_host_no_large_pages();
    }
    if (why != NULL && !atomic_flag_test_and_set(&told)) {
        exo_warn("memory: huge pages are refused (%s): small ones do, a little slower", why);
    }
#else
    (void)p;
    (void)bytes;
#endif
}

void exo_mem_trim(void) {
#ifdef __GLIBC__
    (void)malloc_trim(0);
#endif
}
