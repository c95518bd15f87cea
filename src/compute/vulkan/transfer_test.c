/* Copies on real (software) drivers: any size and offset, staged and in place, with fences and
 * with timeline semaphores; every call failing once; a lost device. */
#define _GNU_SOURCE
#include "base/mem.h"
#include "compute/vulkan/testing.h"

#define BYTES ((size_t)11 << 20) /* more than two staging slots */

static uint32_t next_random(uint32_t *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 7;
}

typedef struct {
    exo_vk_device *d;
    exo_vk_allocation *device[2];
    uint8_t *shadow[2]; /* what the device must hold */
    uint8_t *host;
    uint32_t seed;
} bench;

static void bench_begin(bench *b, exo_vk_instance *i, uint32_t avoid) {
    exo_error err;
    memset(b, 0, sizeof *b);
    b->seed = 11 + avoid;
    b->d = exo_vk_test_open(i, &(exo_vk_open_desc){.avoid = avoid});
    b->host = malloc(BYTES);
    for (int k = 0; k < 2; k++) {
        exo_vk_test_ok(
            exo_vk_memory_allocate(&b->d->memory, EXO_VK_MEMORY_DEVICE, BYTES, &b->device[k], &err),
            &err);
        assert_true((b->device[k]->mapped == NULL) == !b->d->caps.unified);
        b->shadow[k] = calloc(1, BYTES);
        exo_vk_test_ok(exo_vk_clear(b->d->transfer, b->device[k], 0, BYTES, NULL, &err), &err);
    }
}

static void bench_end(bench *b) {
    for (int k = 0; k < 2; k++) {
        exo_vk_memory_deallocate(&b->d->memory, b->device[k]);
        free(b->shadow[k]);
    }
    free(b->host);
    exo_vk_device_close(b->d);
}

static void expect_equal(bench *b, int k, size_t offset, size_t bytes) {
    exo_error err;
    memset(b->host, 0xAA, bytes);
    exo_vk_test_ok(
        exo_vk_copy_from_device(b->d->transfer, b->host, b->device[k], offset, bytes, &err), &err);
    assert_memory_equal(b->host, b->shadow[k] + offset, bytes);
}

/* Small ranges mostly, now and then the whole buffer. */
static void pick(bench *b, size_t *offset, size_t *bytes) {
    size_t most = next_random(&b->seed) % 6 == 0 ? BYTES : 5000;
    *bytes = next_random(&b->seed) % (most + 1);
    *offset = next_random(&b->seed) % (BYTES - *bytes + 1);
}

static void random_step(bench *b) {
    exo_vk_transfer *t = b->d->transfer;
    exo_error err;
    exo_vk_fence done, *wait_later = next_random(&b->seed) % 2 ? &done : NULL;
    int k = (int)(next_random(&b->seed) % 2), from = (int)(next_random(&b->seed) % 2);
    size_t offset, bytes, src;
    pick(b, &offset, &bytes);
    src = next_random(&b->seed) % (BYTES - bytes + 1);
    switch (next_random(&b->seed) % 4) {
    case 0:
        for (size_t n = 0; n < bytes; n++) b->host[n] = (uint8_t)(next_random(&b->seed) >> 3);
        memcpy(b->shadow[k] + offset, b->host, bytes);
        exo_vk_test_ok(
            exo_vk_copy_to_device(t, b->device[k], offset, b->host, bytes, wait_later, &err), &err);
        memset(b->host, 0x55, bytes); /* the source may be reused at once */
        break;
    case 1: /* overlaps itself when k == from */
        memmove(b->shadow[k] + offset, b->shadow[from] + src, bytes);
        exo_vk_test_ok(exo_vk_copy_device_to_device(t, b->device[k], offset, b->device[from], src,
                                                    bytes, wait_later, &err),
                       &err);
        break;
    case 2:
        if (bytes > 3000) return;
        memset(b->shadow[k] + offset, 0, bytes);
        exo_vk_test_ok(exo_vk_clear(t, b->device[k], offset, bytes, wait_later, &err), &err);
        break;
    default: expect_equal(b, k, offset, bytes);
    }
}

static void copies(const char *driver, uint32_t avoid) {
    exo_vk_instance *i = exo_vk_test_instance(driver);
    bench b;
    bench_begin(&b, i, avoid);
    for (int step = 0; step < 120; step++) random_step(&b);
    expect_equal(&b, 0, 0, BYTES);
    expect_equal(&b, 1, 0, BYTES);
    bench_end(&b);
    exo_vk_test_close(i, NULL);
}

static void test_in_place(void **state) { copies(*state, 0); }
static void test_staged(void **state) { copies(*state, EXO_VK_AVOID_UNIFIED); }
static void test_staged_fences(void **state) {
    copies(*state, EXO_VK_AVOID_UNIFIED | EXO_VK_AVOID_TIMELINE);
}

static void test_bounds(void **state) {
    exo_vk_instance *i = exo_vk_test_instance(*state);
    exo_vk_device *d = exo_vk_test_open(i, NULL);
    exo_vk_transfer *t = d->transfer;
    exo_vk_allocation *a, *b;
    exo_error err;
    uint8_t bytes[64] = {0};
    exo_vk_test_ok(exo_vk_memory_allocate(&d->memory, EXO_VK_MEMORY_DEVICE, 50, &a, &err), &err);
    exo_vk_test_ok(exo_vk_memory_allocate(&d->memory, EXO_VK_MEMORY_DEVICE, 60, &b, &err), &err);
    const struct {
        uint64_t offset;
        size_t bytes;
    } bad[] = {{0, 51}, {50, 1}, {51, 0}, {UINT64_MAX, 2}, {2, SIZE_MAX}, {UINT64_MAX, SIZE_MAX}};
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        uint64_t o = bad[k].offset;
        size_t n = bad[k].bytes;
        assert_int_equal(exo_vk_copy_to_device(t, a, o, bytes, n, NULL, &err), EXO_EINVAL);
        assert_int_equal(exo_vk_copy_from_device(t, bytes, a, o, n, &err), EXO_EINVAL);
        assert_int_equal(exo_vk_copy_device_to_device(t, b, 0, a, o, n, NULL, &err), EXO_EINVAL);
        assert_int_equal(exo_vk_copy_device_to_device(t, a, o, b, 0, n, NULL, &err), EXO_EINVAL);
        assert_int_equal(exo_vk_clear(t, a, o, n, NULL, &err), EXO_EINVAL);
    }
    assert_int_equal(exo_vk_copy_to_device(t, a, 50, bytes, 0, NULL, &err), EXO_OK);
    assert_int_equal(d->counters.submits, 0);
    exo_vk_test_close(i, d);
}

/* The whole chain of a staged copy with its k-th driver call failing, for every k. */
static void test_failures(void **state) {
    exo_vk_instance *i = exo_vk_test_instance(*state);
    bench b;
    exo_error err;
    size_t n = (size_t)9 << 20;
    bench_begin(&b, i, EXO_VK_AVOID_UNIFIED);
    exo_vk_transfer *t = b.d->transfer;
    for (uint64_t k = 1; k < 200; k++) {
        exo_vk_fail_at(k, VK_ERROR_OUT_OF_HOST_MEMORY);
        exo_status st = exo_vk_copy_to_device(t, b.device[0], 3, b.host, n, NULL, &err);
        if (st == EXO_OK) {
            st = exo_vk_copy_device_to_device(t, b.device[0], 5, b.device[0], 0, n, NULL, &err);
        }
        if (st == EXO_OK) st = exo_vk_copy_from_device(t, b.host, b.device[0], 9, n, &err);
        bool hit = exo_vk_failed();
        exo_vk_fail_at(0, VK_SUCCESS);
        assert_int_equal(st, hit ? EXO_ENOMEM : EXO_OK);
        if (!hit) break;
        assert_true(k < 199);
    }
    assert_false(atomic_load(&b.d->lost));
    exo_vk_test_ok(exo_vk_copy_to_device(t, b.device[1], 0, b.shadow[1], BYTES, NULL, &err), &err);
    expect_equal(&b, 1, 0, BYTES); /* works again */
    bench_end(&b);
    exo_vk_test_close(i, NULL);
}

static void test_lost(void **state) {
    exo_vk_instance *i = exo_vk_test_instance(*state);
    bench b;
    exo_error err;
    bench_begin(&b, i, EXO_VK_AVOID_UNIFIED);
    exo_vk_transfer *t = b.d->transfer;
    exo_vk_fail_at(3, VK_ERROR_DEVICE_LOST);
    assert_int_equal(exo_vk_copy_to_device(t, b.device[0], 0, b.host, 100, NULL, &err), EXO_EIO);
    assert_non_null(strstr(err.message, "lost"));
    assert_true(exo_vk_failed() && atomic_load(&b.d->lost));
    assert_int_equal(exo_vk_copy_from_device(t, b.host, b.device[0], 0, 100, &err), EXO_EIO);
    assert_int_equal(exo_vk_synchronize(t, &err), EXO_EIO);
    assert_true(exo_vk_fence_done(&b.d->queue, (exo_vk_fence){b.d->queue.submitted}));
    bench_end(&b);
    exo_vk_test_close(i, NULL);
}

/* No staging memory: a clear error, and copies in place still work. */
static void test_no_room_for_staging(void **state) {
    exo_vk_instance *i = exo_vk_test_instance(*state);
    exo_vk_open_desc desc = {.memory_limit_bytes = (uint64_t)8 << 20,
                             .avoid = EXO_VK_AVOID_UNIFIED};
    exo_vk_device *d = exo_vk_test_open(i, &desc);
    exo_vk_allocation *a;
    exo_error err;
    uint8_t byte = 1;
    exo_vk_test_ok(exo_vk_memory_allocate(&d->memory, EXO_VK_MEMORY_DEVICE, 100, &a, &err), &err);
    assert_int_equal(exo_vk_copy_to_device(d->transfer, a, 0, &byte, 1, NULL, &err), EXO_ENOMEM);
    assert_non_null(strstr(err.message, "staging"));
    exo_vk_test_close(i, d);
}

/* The set-up of these tests notices a missing barrier. */
static void test_missing_barrier_is_caught(void **state) {
    exo_vk_instance *i = exo_vk_test_instance(*state);
    exo_vk_device *d = exo_vk_test_open(i, NULL);
    exo_vk_command_pool pool;
    exo_vk_allocation *a, *b;
    VkCommandBuffer c;
    exo_error err;
    exo_vk_test_ok(exo_vk_memory_allocate(&d->memory, EXO_VK_MEMORY_DEVICE, 64, &a, &err), &err);
    exo_vk_test_ok(exo_vk_memory_allocate(&d->memory, EXO_VK_MEMORY_DEVICE, 64, &b, &err), &err);
    exo_vk_test_ok(exo_vk_command_pool_init(d, &pool, &err), &err);
    exo_vk_test_ok(exo_vk_command_allocate(&pool, &c, &err), &err);
    for (int with_barrier = 1; with_barrier >= 0; with_barrier--) {
        exo_vk_test_ok(exo_vk_command_begin(&pool, c, true, &err), &err);
        d->fn.CmdFillBuffer(c, a->buffer, a->offset, 64, 7);
        if (with_barrier) {
            exo_vk_barrier(d, c, EXO_VK_USE_COPY_WRITE, EXO_VK_USE_COPY_READ);
        }
        VkBufferCopy region = {a->offset, b->offset, 64};
        d->fn.CmdCopyBuffer(c, a->buffer, b->buffer, 1, &region);
        exo_vk_test_ok(exo_vk_command_end(&pool, c, &err), &err);
        if (with_barrier) assert_int_equal(exo_vk_validation_messages(i), 0);
    }
    assert_true(exo_vk_validation_messages(i) > 0);
    exo_vk_command_pool_finish(&pool);
    exo_vk_device_close(d);
    exo_vk_instance_destroy(i);
}

int main(int argc, char **argv) {
    cmocka_set_test_filter(argc > 1 ? argv[1] : getenv("EXO_TEST_FILTER"));
    const struct CMUnitTest tests[] = {
        EXO_VK_ON_EACH("in place", test_in_place),
        EXO_VK_ON_EACH("staged", test_staged),
        EXO_VK_ON_EACH("staged, with fences", test_staged_fences),
        EXO_VK_ON_EACH("bounds", test_bounds),
        EXO_VK_ON_EACH("failures", test_failures),
        EXO_VK_ON_EACH("lost device", test_lost),
        EXO_VK_ON_EACH("no room for staging", test_no_room_for_staging),
        EXO_VK_ON_EACH("a missing barrier is caught", test_missing_barrier_is_caught),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
