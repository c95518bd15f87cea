/* bandwidth.c - streams a buffer larger than any cache through the kernels' own loads.
 *
 * Each thread reads a contiguous share of its own, as decoding does.  The result of the reads is
 * kept, so that they cannot be dropped. */
#include "compute/cpu/bandwidth.h"

#include "base/clock.h"
#include "base/mem.h"
#include "compute/cpu/cpu_info.h"
#include "compute/cpu/kernels.h"

#include <string.h>

#define BUFFER_BYTES ((size_t)512 << 20)
#define SHARE_ALIGN  4096u

typedef struct {
    const exo_cpu_kernels *kernels;
    const uint8_t *bytes;
    size_t share; /* of each thread */
    uint64_t sum[EXO_POOL_MAX_THREADS];
} reading;

static void read_share(void *ud, uint32_t thread) {
    reading *r = ud;
    r->sum[thread] ^= r->kernels->read(r->bytes + thread * r->share, r->share);
}

static double best_pass(exo_pool *pool, reading *r, unsigned ms) {
    double best = 0, bytes = (double)r->share * exo_pool_threads(pool);
    uint64_t end = exo_now_ns() + (uint64_t)ms * 1000000, now = 0;
    while (now < end) {
        uint64_t begin = exo_now_ns();
        exo_pool_run(pool, read_share, r);
        now = exo_now_ns();
        if (bytes / (double)(now - begin + 1) > best) best = bytes / (double)(now - begin + 1);
    }
    return best;
}

double exo_cpu_read_bandwidth(unsigned n_threads, unsigned ms) {
    exo_device_info info = {.compute_units = 1};
    exo_cpu_info(&info);
    if (n_threads == 0) n_threads = info.compute_units;
    if (n_threads > EXO_POOL_MAX_THREADS) n_threads = EXO_POOL_MAX_THREADS;
    double best = 0;
    exo_pool *pool = NULL;
    uint8_t *bytes = exo_pages_alloc(BUFFER_BYTES);
    reading *r = exo_calloc(1, sizeof *r);
    if (bytes == NULL || r == NULL) goto done;
    if (exo_kernels_choose(NULL, &r->kernels, NULL) != EXO_OK) goto done;
    if (exo_pool_create(n_threads, false, &pool, NULL) != EXO_OK) goto done;
    exo_pages_prefer_huge(bytes, BUFFER_BYTES);
    memset(bytes, 1, BUFFER_BYTES);
    r->bytes = bytes;
    r->share = BUFFER_BYTES / exo_pool_threads(pool) / SHARE_ALIGN * SHARE_ALIGN;
    best = best_pass(pool, r, ms);

done:
    exo_pool_destroy(pool);
    exo_free(r);
    exo_pages_free(bytes, BUFFER_BYTES);
    return best;
}
