/* The allocator on real (software) drivers: accounting, budget, exhaustion, import, failures. */
#define _GNU_SOURCE
#include "base/mem.h"
#include "compute/vulkan/testing.h"

#include <fcntl.h>
#include <sys/mman.h>

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)

/* The books must balance: allocations against their sum, blocks against the heap's figures. */
static void check_books(const exo_vk_memory *m, exo_vk_allocation *const *all, size_t n) {
    uint64_t requested = 0, held = 0, live = 0;
    for (size_t i = 0; i < n; i++) {
        if (all[i] == NULL) continue;
        live++;
        requested += all[i]->size;
        held += all[i]->held_bytes;
        assert_true(all[i]->held_bytes >= all[i]->size);
        assert_int_equal(all[i]->offset % m->alignment, 0);
        for (size_t k = 0; k < i; k++) { /* no two share a byte */
            if (all[k] == NULL || all[k]->buffer != all[i]->buffer) continue;
            assert_true(all[k]->offset + all[k]->held_bytes <= all[i]->offset ||
                        all[i]->offset + all[i]->held_bytes <= all[k]->offset);
        }
    }
    assert_int_equal(m->stats.n_allocations, live);
    assert_int_equal(m->stats.requested_bytes, requested);
    assert_int_equal(m->stats.held_bytes, held);
    assert_int_equal(m->stats.block_bytes, m->stats.held_bytes + m->stats.free_bytes);
    uint64_t heaps = 0;
    for (uint32_t i = 0; i < m->d->caps.n_heaps; i++) heaps += m->heap_bytes[i];
    assert_int_equal(heaps, m->stats.block_bytes);
}

static uint32_t next_random(uint32_t *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static void test_random_allocations(void **state) {
    enum { N = 60 };
    exo_vk_instance *i = exo_vk_test_instance(*state);
    exo_vk_device *d = exo_vk_test_open(i, &(exo_vk_open_desc){.block_bytes = MIB});
    exo_vk_memory *m = &d->memory;
    exo_vk_allocation *all[N] = {0};
    uint32_t seed = 7;
    uint64_t last_id = 0;
    exo_error err;
    for (int step = 0; step < 600; step++) {
        size_t k = next_random(&seed) % N;
        if (all[k] != NULL) {
            exo_vk_memory_deallocate(m, all[k]);
            all[k] = NULL;
        } else {
            uint64_t bytes = 1 + next_random(&seed) % (step % 7 == 0 ? 700 * KIB : 9000);
            exo_vk_memory_kind kind = (exo_vk_memory_kind)(next_random(&seed) % 3);
            exo_vk_test_ok(exo_vk_memory_allocate(m, kind, bytes, &all[k], &err), &err);
            assert_true(all[k]->id > last_id && all[k]->size == bytes && all[k]->kind == kind);
            assert_true(kind == EXO_VK_MEMORY_DEVICE || all[k]->mapped != NULL);
            if (all[k]->mapped != NULL) memset(all[k]->mapped, (int)k, bytes);
            last_id = all[k]->id;
        }
        if (step % 20 == 0) check_books(m, all, N);
    }
    for (size_t k = 0; k < N; k++) {
        if (all[k] == NULL) continue;
        if (all[k]->mapped != NULL) assert_int_equal(all[k]->mapped[all[k]->size - 1], k);
        exo_vk_memory_deallocate(m, all[k]);
        all[k] = NULL;
    }
    check_books(m, all, N);
    assert_true(m->stats.n_blocks <= EXO_VK_N_MEMORY_KINDS); /* one empty one of each kind */
    exo_vk_memory_deallocate(m, NULL);
    exo_vk_test_close(i, d);
}

static void test_refusals(void **state) {
    exo_vk_instance *i = exo_vk_test_instance(*state);
    exo_vk_device *d = exo_vk_test_open(i, NULL);
    exo_vk_allocation *a;
    exo_error err;
    const uint64_t sizes[] = {UINT64_MAX, UINT64_MAX - 10, (uint64_t)1 << 50,
                              d->caps.max_allocation_bytes + 1};
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        exo_status st =
            exo_vk_memory_allocate(&d->memory, EXO_VK_MEMORY_DEVICE, sizes[k], &a, &err);
        assert_int_equal(st, EXO_ENOMEM);
        assert_null(a);
    }
    assert_int_equal(exo_vk_memory_allocate(&d->memory, EXO_VK_MEMORY_DEVICE, 0, &a, &err),
                     EXO_EINVAL);
    assert_int_equal(d->counters.driver_allocations, 0); /* the driver was not even asked */
    exo_vk_test_close(i, d);
}

/* A device opened with 16 MiB: filled to the brim, refused, emptied, and filled again. */
static void test_exhaustion(void **state) {
    enum { N = 64 };
    exo_vk_instance *i = exo_vk_test_instance(*state);
    exo_vk_device *d = exo_vk_test_open(i, &(exo_vk_open_desc){.memory_limit_bytes = 16 * MIB});
    exo_vk_memory *m = &d->memory;
    exo_vk_allocation *all[N] = {0};
    exo_error err;
    for (int round = 0; round < 3; round++) {
        size_t n = 0;
        while (n < N &&
               exo_vk_memory_allocate(m, EXO_VK_MEMORY_DEVICE, MIB, &all[n], &err) == EXO_OK) {
            n++;
        }
        assert_int_equal(err.status, EXO_ENOMEM);
        assert_non_null(strstr(err.message, "16.0 MiB"));
        assert_int_equal(n, 16);
        check_books(m, all, n);
        while (n > 0) exo_vk_memory_deallocate(m, all[--n]);
        memset(all, 0, sizeof all);
    }
    assert_true(exo_vk_memory_available(m, EXO_VK_MEMORY_DEVICE) >= 16 * MIB);
    exo_vk_test_close(i, d);
}

/* What the check lets pass must fit, whatever the sizes. */
static void test_check_promises(void **state) {
    enum { N = 40 };
    exo_vk_instance *i = exo_vk_test_instance(*state);
    uint32_t seed = 3;
    unsigned passed = 0, refused = 0;
    exo_error err;
    for (int round = 0; round < 40; round++) {
        exo_vk_device *d = exo_vk_test_open(i, &(exo_vk_open_desc){.memory_limit_bytes = 24 * MIB});
        exo_vk_memory_need needs[N];
        exo_vk_allocation *a;
        for (int k = 0; k < N; k++) {
            needs[k].kind = (exo_vk_memory_kind)(next_random(&seed) % 3);
            needs[k].bytes = 1 + next_random(&seed) % (unsigned)(round % 2 ? 60 * KIB : 900 * KIB);
        }
        if (exo_vk_memory_check(&d->memory, needs, N, &err) == EXO_OK) {
            passed++;
            for (int k = 0; k < N; k++) {
                exo_vk_test_ok(
                    exo_vk_memory_allocate(&d->memory, needs[k].kind, needs[k].bytes, &a, &err),
                    &err);
            }
        } else {
            refused++;
            assert_int_equal(err.status, EXO_ENOMEM);
            assert_int_equal(d->counters.driver_allocations, 0);
        }
        exo_vk_device_close(d); /* with live allocations: they go with it */
    }
    assert_true(passed >= 5 && refused + passed == 40);
    exo_vk_device *d = exo_vk_test_open(i, &(exo_vk_open_desc){.memory_limit_bytes = 24 * MIB});
    exo_vk_memory_need two[] = {{EXO_VK_MEMORY_DEVICE, 13 * MIB}, {EXO_VK_MEMORY_DEVICE, 13 * MIB}};
    assert_int_equal(exo_vk_memory_check(&d->memory, two, 1, &err), EXO_OK);
    assert_int_equal(exo_vk_memory_check(&d->memory, two, 2, &err), EXO_ENOMEM);
    two[0].bytes = UINT64_MAX;
    assert_int_equal(exo_vk_memory_check(&d->memory, two, 2, &err), EXO_ENOMEM);
    exo_vk_test_close(i, d);
}

static void test_map(void **state) {
    exo_vk_instance *i = exo_vk_test_instance(*state);
    exo_vk_device *d = exo_vk_test_open(i, &(exo_vk_open_desc){.avoid = EXO_VK_AVOID_UNIFIED});
    exo_vk_allocation *hidden, *seen;
    void *p;
    exo_error err;
    exo_vk_test_ok(exo_vk_memory_allocate(&d->memory, EXO_VK_MEMORY_DEVICE, 100, &hidden, &err),
                   &err);
    assert_int_equal(exo_vk_memory_map(&d->memory, hidden, &p, &err), EXO_EUNSUPPORTED);
    assert_null(p);
    exo_vk_test_ok(exo_vk_memory_allocate(&d->memory, EXO_VK_MEMORY_UPLOAD, 100, &seen, &err),
                   &err);
    assert_int_equal(exo_vk_memory_map(&d->memory, seen, &p, &err), EXO_OK);
    memset(p, 5, 100);
    assert_int_equal(exo_vk_memory_flush(&d->memory, seen, 3, 9, &err), EXO_OK);
    assert_int_equal(exo_vk_memory_invalidate(&d->memory, seen, 3, 9, &err), EXO_OK);
    assert_int_equal(exo_vk_memory_unmap(&d->memory, seen, &err), EXO_OK);
    assert_int_equal(exo_vk_memory_unmap(&d->memory, hidden, &err), EXO_OK);
    exo_vk_test_close(i, d);
}

/* A file mapped read-only, read by the device in place. */
static void test_import_read_only_file(void **state) {
    const size_t bytes = 64 * KIB;
    exo_vk_instance *i = exo_vk_test_instance(*state);
    exo_vk_device *d = exo_vk_test_open(i, NULL);
    exo_vk_allocation *a, *copy;
    exo_error err;
    char name[] = "/tmp/exo-import-XXXXXX";
    int fd = mkstemp(name);
    assert_true(fd >= 0 && unlink(name) == 0);
    uint8_t *want = malloc(bytes), *got = malloc(bytes);
    for (size_t k = 0; k < bytes; k++) want[k] = (uint8_t)(k * 7 + k / 256);
    assert_int_equal(write(fd, want, bytes), bytes);
    void *file = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    assert_true(file != MAP_FAILED);
    exo_status st = exo_vk_memory_import(&d->memory, file, bytes, &a, &err);
    if (st == EXO_OK) {
        assert_true(a->read_only && a->mapped == NULL);
        exo_vk_test_ok(exo_vk_memory_allocate(&d->memory, EXO_VK_MEMORY_DEVICE, bytes, &copy, &err),
                       &err);
        exo_vk_test_ok(exo_vk_copy_device_to_device(d->transfer, copy, 0, a, 0, bytes, NULL, &err),
                       &err);
        exo_vk_test_ok(exo_vk_copy_from_device(d->transfer, got, copy, 0, bytes, &err), &err);
        assert_memory_equal(got, want, bytes);
        assert_int_equal(exo_vk_copy_to_device(d->transfer, a, 0, want, 4, NULL, &err), EXO_EINVAL);
        assert_int_equal(exo_vk_clear(d->transfer, a, 0, 4, NULL, &err), EXO_EINVAL);
        exo_vk_memory_deallocate(&d->memory, a);
    } else {
        assert_int_equal(st, EXO_EUNSUPPORTED);
    }
    const uint8_t *inside = (const uint8_t *)file + 1;
    if (d->caps.host_import_alignment > 0) {
        assert_int_equal(exo_vk_memory_import(&d->memory, inside, bytes, &a, &err), EXO_EINVAL);
        assert_int_equal(exo_vk_memory_import(&d->memory, file, 100, &a, &err), EXO_EINVAL);
    }
    exo_vk_device *without = exo_vk_test_open(i, &(exo_vk_open_desc){.avoid = EXO_VK_AVOID_IMPORT});
    assert_int_equal(exo_vk_memory_import(&without->memory, file, bytes, &a, &err),
                     EXO_EUNSUPPORTED);
    exo_vk_device_close(without);
    exo_vk_test_close(i, d);
    assert_int_equal(munmap(file, bytes), 0);
    assert_int_equal(close(fd), 0);
    free(want);
    free(got);
}

/* Each heap allocation and each driver call of allocating fails once: an error, no leak. */
static void test_failures(void **state) {
    exo_vk_instance *i = exo_vk_test_instance(*state);
    exo_vk_device *d = exo_vk_test_open(i, NULL);
    exo_vk_memory *m = &d->memory;
    exo_vk_allocation *a;
    exo_error err;
    const VkResult faults[] = {VK_ERROR_OUT_OF_DEVICE_MEMORY, VK_ERROR_OUT_OF_HOST_MEMORY,
                               VK_ERROR_MEMORY_MAP_FAILED};
    for (size_t f = 0; f < 3; f++) {
        for (uint64_t k = 1; k < 20; k++) {
            exo_vk_fail_at(k, faults[f]);
            exo_status st = exo_vk_memory_allocate(m, EXO_VK_MEMORY_DEVICE, 20 * MIB, &a, &err);
            bool hit = exo_vk_failed();
            exo_vk_fail_at(0, VK_SUCCESS);
            if (!hit)
                assert_int_equal(st, EXO_OK);
            else if (st != EXO_OK)
                assert_int_equal(st, EXO_ENOMEM);
            exo_vk_memory_deallocate(m, a);
            check_books(m, NULL, 0);
            if (!hit) break;
        }
    }
    for (uint64_t k = 1; k < 20; k++) {
        exo_mem_fail_at(k);
        exo_status st = exo_vk_memory_allocate(m, EXO_VK_MEMORY_DEVICE, 20 * MIB, &a, &err);
        bool hit = exo_mem_failed();
        exo_mem_fail_at(0);
        assert_int_equal(st, hit ? EXO_ENOMEM : EXO_OK);
        exo_vk_memory_deallocate(m, a);
        check_books(m, NULL, 0);
        if (!hit) break;
    }
    exo_vk_test_close(i, d);
}

int main(int argc, char **argv) {
    cmocka_set_test_filter(argc > 1 ? argv[1] : getenv("EXO_TEST_FILTER"));
    const struct CMUnitTest tests[] = {
        EXO_VK_ON_EACH("random allocations", test_random_allocations),
        EXO_VK_ON_EACH("refusals", test_refusals),
        EXO_VK_ON_EACH("exhaustion", test_exhaustion),
        EXO_VK_ON_EACH("what the check lets pass fits", test_check_promises),
        EXO_VK_ON_EACH("map", test_map),
        EXO_VK_ON_EACH("import of a read-only file", test_import_read_only_file),
        EXO_VK_ON_EACH("failures", test_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
