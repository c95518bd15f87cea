/* bandwidth.c - see bandwidth.h.
 *
 * Each thread sums its share of a buffer far larger than any cache, as 64-bit words that the
 * compiler vectorises; the sum is kept so that the reads cannot be dropped. */
#define _DEFAULT_SOURCE
#include "compute/cpu/bandwidth.h"

#include "base/clock.h"
#include "base/mem.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#define BUFFER_BYTES ((size_t)256 << 20)
#define MAX_THREADS  256u
#define BLOCK_WORDS  4096u

typedef struct {
    const atomic_bool *go; /* all begin together */
    const uint64_t *words;
    size_t n_words;
    uint64_t sum;
    uint64_t begin_ns, end_ns;
} reader;

static uint64_t sum_words(const uint64_t *w, size_t n) {
    uint64_t lane[16] = {0};
    for (size_t i = 0; i + 16 <= n; i += 16) {
        __builtin_prefetch(w + i + 512);
        for (size_t k = 0; k < 16; k++) lane[k] += w[i + k];
    }
    uint64_t sum = 0;
    for (size_t k = 0; k < 16; k++) sum += lane[k];
    return sum;
}

static void *read_share(void *ud) {
    reader *r = ud;
    while (!atomic_load(r->go)) sched_yield();
    r->begin_ns = exo_now_ns();
    r->sum += sum_words(r->words, r->n_words);
    r->end_ns = exo_now_ns();
    return NULL;
}

/* GB/s of one pass over the buffer; 0 when a thread cannot be made. */
static double one_pass(const uint64_t *words, unsigned n) {
    pthread_t threads[MAX_THREADS];
    reader readers[MAX_THREADS];
    atomic_bool go = false;
    size_t share = BUFFER_BYTES / sizeof(uint64_t) / n;
    unsigned made = 1; /* the calling thread is the first reader */
    for (unsigned i = 0; i < n; i++) {
        readers[i] = (reader){.go = &go, .words = words + i * share, .n_words = share};
    }
    while (made < n && pthread_create(&threads[made], NULL, read_share, &readers[made]) == 0)
        made++;
    atomic_store(&go, true);
    read_share(&readers[0]);
    uint64_t begin = readers[0].begin_ns, end = readers[0].end_ns;
    for (unsigned i = 1; i < made; i++) {
        pthread_join(threads[i], NULL);
        if (readers[i].begin_ns < begin) begin = readers[i].begin_ns;
        if (readers[i].end_ns > end) end = readers[i].end_ns;
    }
    return made == n && end > begin ? (double)BUFFER_BYTES / (double)(end - begin) : 0;
}

double exo_cpu_read_bandwidth(unsigned n_threads, unsigned ms) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (n_threads == 0) n_threads = cores > 0 ? (unsigned)cores : 1;
    if (n_threads > MAX_THREADS) n_threads = MAX_THREADS;
    uint64_t *words = exo_pages_alloc(BUFFER_BYTES);
    if (words == NULL) return 0;
    memset(words, 1, BUFFER_BYTES);
    double best = 0;
    uint64_t until = exo_now_ms() + ms;
    do {
        double gbps = one_pass(words, n_threads);
        if (gbps > best) best = gbps;
    } while (exo_now_ms() < until);
    exo_pages_free(words, BUFFER_BYTES);
    return best;
}
