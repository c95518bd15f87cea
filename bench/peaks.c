/* peaks.c - what this machine can do at most, as JSON: the figures that speeds are shares of.
 *
 *   bench_peaks [MS]
 *
 * read_gbps: plain reading of memory through the kernels' own loads; int8_gops: the densest
 * multiply-add of bytes this processor has (vpdpbusd, else vpmaddubsw, whose int16 sums no whole
 * product can do without adding up, so that nothing reaches this figure); f32_gflops: fused
 * multiply-adds.  Each with one thread and with two; best of several runs of MS (default 100). */
#include "base/clock.h"
#include "compute/cpu/bandwidth.h"
#include "compute/cpu/cpu_info.h"
#include "compute/cpu/pool.h"

#include <stdio.h>
#include <stdlib.h>

#define CHAINS 12 /* independent accumulators: latency times throughput of every core so far */
#define ROUNDS 20000

#if defined(__x86_64__)
#include <immintrin.h>

#define EACH(OP) OP(0) OP(1) OP(2) OP(3) OP(4) OP(5) OP(6) OP(7) OP(8) OP(9) OP(10) OP(11)

#define VNNI(i)    __asm__ volatile("vpdpbusd %1, %1, %0" : "+v"(acc[i]) : "v"(x));
#define VNNI256(i) __asm__ volatile("%{vex%} vpdpbusd %1, %1, %0" : "+x"(acc[i]) : "x"(x));
#define FMA512(i)  __asm__ volatile("vfmadd231ps %1, %1, %0" : "+v"(acc[i]) : "v"(x));
#define MADDUBS(i) __asm__ volatile("vpmaddubsw %1, %1, %0" : "=x"(acc[i]) : "x"(x));
#define FMA256(i)  __asm__ volatile("vfmadd231ps %1, %1, %0" : "+x"(acc[i]) : "x"(x));

__attribute__((target("avx512f,avx512vnni"))) static void vnni(void *ud, uint32_t thread) {
    (void)ud, (void)thread;
    __m512i acc[CHAINS] = {0}, x = _mm512_setzero_si512();
    for (int n = 0; n < ROUNDS; n++) {
        EACH(VNNI)
    }
}
__attribute__((target("avx2"))) static void vnni256(void *ud, uint32_t thread) {
    (void)ud, (void)thread;
    __m256i acc[CHAINS] = {0}, x = _mm256_setzero_si256();
    for (int n = 0; n < ROUNDS; n++) {
        EACH(VNNI256)
    }
}
__attribute__((target("avx512f"))) static void fma512(void *ud, uint32_t thread) {
    (void)ud, (void)thread;
    __m512 acc[CHAINS] = {0}, x = _mm512_setzero_ps();
    for (int n = 0; n < ROUNDS; n++) {
        EACH(FMA512)
    }
}
__attribute__((target("avx2"))) static void maddubs(void *ud, uint32_t thread) {
    (void)ud, (void)thread;
    __m256i acc[CHAINS], x = _mm256_setzero_si256();
    for (int n = 0; n < ROUNDS; n++) {
        EACH(MADDUBS)
    }
}
__attribute__((target("avx2,fma"))) static void fma256(void *ud, uint32_t thread) {
    (void)ud, (void)thread;
    __m256 acc[CHAINS] = {0}, x = _mm256_setzero_ps();
    for (int n = 0; n < ROUNDS; n++) {
        EACH(FMA256)
    }
}
#endif

/* Operations (a multiplication and an addition are two) of one call of the fastest that runs. */
typedef struct {
    exo_pool_fn fn;
    double ops;
} loop;

static void choose(loop *int8, loop *f32) {
    *int8 = *f32 = (loop){NULL, 0};
#if defined(__x86_64__)
    const double calls = (double)ROUNDS * CHAINS;
    if (__builtin_cpu_supports("avx2")) *int8 = (loop){maddubs, calls * 64};
    if (__builtin_cpu_supports("fma")) *f32 = (loop){fma256, calls * 16};
    if (exo_cpu_has_avxvnni()) *int8 = (loop){vnni256, calls * 64};
    if (__builtin_cpu_supports("avx512vnni")) *int8 = (loop){vnni, calls * 128};
    if (__builtin_cpu_supports("avx512f")) *f32 = (loop){fma512, calls * 32};
#endif
}

/* Billions of operations a second; 0 where there is no loop for this processor. */
static double peak(const loop *l, uint32_t n_threads, uint64_t ms) {
    exo_pool *pool;
    double best = 0;
    if (l->fn == NULL || exo_pool_create(n_threads, true, &pool, NULL) != EXO_OK) return 0;
    for (uint64_t end = exo_now_ns() + ms * 1000000, now = 0; now < end;) {
        uint64_t begin = exo_now_ns();
        exo_pool_run(pool, l->fn, NULL);
        now = exo_now_ns();
        double rate = l->ops * n_threads / (double)(now - begin);
        if (rate > best) best = rate;
    }
    exo_pool_destroy(pool);
    return best;
}

int main(int argc, char **argv) {
    unsigned ms = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 100;
    loop int8, f32;
    choose(&int8, &f32);
    printf("{\"read_gbps\": [%.2f, %.2f], \"int8_gops\": [%.1f, %.1f], "
           "\"f32_gflops\": [%.1f, %.1f]}\n",
           exo_cpu_read_bandwidth(1, ms), exo_cpu_read_bandwidth(2, ms), peak(&int8, 1, ms),
           peak(&int8, 2, ms), peak(&f32, 1, ms), peak(&f32, 2, ms));
    return 0;
}
