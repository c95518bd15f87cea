/* memory.c - libexo's Vulkan memory from plain C: what tests/integration/test_vulkan_memory.py
 * runs.
 *
 *   usage: memory copies | exhaust | cycles N [leak]
 *
 * Prints one line of JSON on success; any failure goes to stderr with exit code 1. */
#include <exo/gpu.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CYCLE_BYTES 65536u
#define LARGE_BYTES (12u << 20) /* has a driver allocation of its own */

static void need(exo_status st, const exo_error *err) {
    if (st == EXO_OK) return;
    fprintf(stderr, "%s: %s\n", exo_status_name(st), err->message);
    exit(1);
}

static void expect(bool good, const char *what) {
    if (good) return;
    fprintf(stderr, "not so: %s\n", what);
    exit(1);
}

/* VmRSS in KiB. */
static long resident(void) {
    char line[256];
    long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        if (sscanf(line, "VmRSS: %ld", &kib) == 1) break;
    }
    if (f != NULL) fclose(f);
    return kib;
}

static void fill(uint8_t *p, size_t n, unsigned salt) {
    for (size_t i = 0; i < n; i++) p[i] = (uint8_t)(i * 7 + i / 253 + salt);
}

/* Host to device 0, there to another allocation, from there to the last device, and back. */
static void copies(exo_gpu *g) {
    static const uint64_t sizes[] = {1, 3, 4096, 65537, 9000001};
    exo_error err;
    uint32_t last = exo_gpu_count(g) - 1;
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        uint64_t n = sizes[k];
        exo_gpu_handle a, b, c;
        uint8_t *in = malloc(n), *out = calloc(1, n);
        expect(in != NULL && out != NULL, "memory");
        fill(in, n, (unsigned)k);
        need(exo_gpu_allocate(g, 0, n, &a, &err), &err);
        need(exo_gpu_allocate(g, 0, n + 9, &b, &err), &err);
        need(exo_gpu_allocate(g, last, n, &c, &err), &err);
        need(exo_gpu_copy_to_device(g, a, 0, in, n, &err), &err);
        exo_gpu_copy within = {.dst = b, .src = a, .dst_offset = 9, .bytes = n};
        need(exo_gpu_copy_device_to_device(g, &within, &err), &err);
        exo_gpu_copy across = {.dst = c, .src = b, .src_offset = 9, .bytes = n};
        need(exo_gpu_copy_device_to_device(g, &across, &err), &err);
        need(exo_gpu_copy_from_device(g, out, c, 0, n, &err), &err);
        expect(memcmp(in, out, n) == 0, "bytes come back as they went");
        need(exo_gpu_free(g, a, &err), &err);
        need(exo_gpu_free(g, b, &err), &err);
        need(exo_gpu_free(g, c, &err), &err);
        free(in);
        free(out);
    }
    printf("{\"devices\": %u, \"sizes\": %zu}\n", exo_gpu_count(g), sizeof sizes / sizeof sizes[0]);
}

/* Takes the device's memory in pieces until it is refused; then everything is given back. */
static void exhaust(exo_gpu *g) {
    enum { MOST = 4096 };
    static exo_gpu_handle all[MOST];
    exo_error err = {0};
    exo_gpu_memory before, full, after;
    need(exo_gpu_get_memory(g, 0, &before, &err), &err);
    uint64_t piece = before.total_bytes / 10;
    if (piece > (uint64_t)512 << 20) piece = (uint64_t)512 << 20;
    unsigned n = 0;
    exo_status st;
    while ((st = exo_gpu_allocate(g, 0, piece, &all[n], &err)) == EXO_OK && ++n < MOST) {}
    expect(st == EXO_ENOMEM && all[n] == 0, "the end is EXO_ENOMEM");
    expect(strstr(err.message, "MiB") != NULL, "the message has the numbers");
    need(exo_gpu_get_memory(g, 0, &full, &err), &err);
    expect(full.available_bytes < piece && full.allocated_bytes == n * piece,
           "the books when full");
    for (unsigned k = 0; k < n; k++) need(exo_gpu_free(g, all[k], &err), &err);
    need(exo_gpu_get_memory(g, 0, &after, &err), &err);
    expect(after.n_allocations == 0 && after.allocated_bytes == 0, "the books when empty");
    expect(after.available_bytes >= piece * n, "everything is there again");
    need(exo_gpu_allocate(g, 0, piece, &all[0], &err), &err);
    printf("{\"pieces\": %u, \"piece_bytes\": %llu, \"message\": \"%s\"}\n", n,
           (unsigned long long)piece, err.message);
}

static void cycle(exo_gpu *g, unsigned k, bool leak) {
    static uint8_t in[CYCLE_BYTES], out[CYCLE_BYTES];
    exo_error err;
    exo_gpu_handle a, b, large;
    fill(in, 64, k);
    need(exo_gpu_allocate(g, 0, CYCLE_BYTES, &a, &err), &err);
    need(exo_gpu_allocate(g, 0, CYCLE_BYTES - k % 1000, &b, &err), &err);
    need(exo_gpu_copy_to_device(g, a, 0, in, CYCLE_BYTES, &err), &err);
    exo_gpu_copy step = {.dst = b, .src = a, .bytes = CYCLE_BYTES - 1000};
    need(exo_gpu_copy_device_to_device(g, &step, &err), &err);
    need(exo_gpu_copy_from_device(g, out, b, 0, CYCLE_BYTES - 1000, &err), &err);
    expect(memcmp(in, out, 64) == 0, "bytes come back as they went");
    if (k % 50 == 0) {
        need(exo_gpu_allocate(g, 0, LARGE_BYTES, &large, &err), &err);
        need(exo_gpu_free(g, large, &err), &err);
    }
    need(exo_gpu_free(g, a, &err), &err);
    if (!leak) need(exo_gpu_free(g, b, &err), &err);
}

static void cycles(exo_gpu *g, unsigned n, bool leak) {
    exo_error err;
    exo_gpu_memory m;
    long early = 0;
    for (unsigned k = 0; k < n; k++) {
        cycle(g, k, leak);
        if (k == n / 10) early = resident();
    }
    need(exo_gpu_get_memory(g, 0, &m, &err), &err);
    printf("{\"cycles\": %u, \"early_kib\": %ld, \"late_kib\": %ld, \"allocations\": %llu}\n", n,
           early, resident(), (unsigned long long)m.n_allocations);
}

int main(int argc, char **argv) {
    exo_gpu *g;
    exo_error err;
    need(exo_gpu_create(&g, &err), &err);
    expect(exo_gpu_count(g) > 0, "there is a device");
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "copies") == 0)
        copies(g);
    else if (strcmp(what, "exhaust") == 0)
        exhaust(g);
    else if (strcmp(what, "cycles") == 0 && argc > 2)
        cycles(g, (unsigned)strtoul(argv[2], NULL, 10), argc > 3);
    else
        expect(false, "usage: memory copies | exhaust | cycles N [leak]");
    exo_gpu_destroy(g);
    return 0;
}
