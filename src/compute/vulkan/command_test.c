/* Fences in order and with deadlines, both kinds; barriers exactly where hazards are. */
#define _GNU_SOURCE
#include "compute/vulkan/testing.h"

static void fences(const char *driver, uint32_t avoid) {
    enum { N = 3 * EXO_VK_FENCE_RING + 5 };
    exo_vk_instance *i = exo_vk_test_instance(driver);
    exo_vk_device *d = exo_vk_test_open(i, &(exo_vk_open_desc){.avoid = avoid});
    exo_vk_queue *q = &d->queue;
    exo_vk_command_pool pool;
    exo_vk_allocation *a;
    VkCommandBuffer c[N];
    exo_vk_fence f[N], none = {0}, future = {1000};
    exo_error err;
    exo_vk_test_ok(exo_vk_memory_allocate(&d->memory, EXO_VK_MEMORY_READBACK, N * 4, &a, &err),
                   &err);
    exo_vk_test_ok(exo_vk_command_pool_init(d, &pool, &err), &err);
    for (uint32_t k = 0; k < N; k++) { /* more in flight than the ring holds */
        exo_vk_test_ok(exo_vk_command_allocate(&pool, &c[k], &err), &err);
        exo_vk_test_ok(exo_vk_command_begin(&pool, c[k], true, &err), &err);
        d->fn.CmdFillBuffer(c[k], a->buffer, a->offset + 4 * k, 4, k);
        exo_vk_barrier(d, c[k], EXO_VK_USE_COPY_WRITE, EXO_VK_USE_HOST_READ);
        exo_vk_test_ok(exo_vk_command_end(&pool, c[k], &err), &err);
        exo_vk_test_ok(exo_vk_queue_submit(q, &c[k], 1, &f[k], &err), &err);
        assert_int_equal(f[k].value, k + 1);
    }
    exo_vk_test_ok(exo_vk_fence_wait(q, f[N / 2], EXO_VK_DEADLINE_MS, &err), &err);
    uint32_t seen;
    for (uint32_t k = 0; k <= N / 2; k++) {
        assert_true(exo_vk_fence_done(q, f[k]));
        memcpy(&seen, a->mapped + 4 * k, 4);
        assert_int_equal(seen, k);
    }
    exo_vk_test_ok(exo_vk_queue_wait_idle(q, EXO_VK_DEADLINE_MS, &err), &err);
    assert_true(exo_vk_fence_done(q, f[N - 1]) && exo_vk_fence_done(q, none));
    assert_false(exo_vk_fence_done(q, future));
    assert_int_equal(exo_vk_fence_wait(q, none, 0, &err), EXO_OK);
    assert_int_equal(exo_vk_fence_wait(q, future, 10, &err), EXO_EINVAL);
    assert_int_equal(d->counters.submits, N);
    assert_true(d->counters.recordings >= N);
    exo_vk_command_free(&pool, c[0]);
    exo_vk_command_free(&pool, VK_NULL_HANDLE);
    exo_vk_command_pool_finish(&pool);
    exo_vk_test_close(i, d);
}

static void test_timeline(void **state) { fences(*state, 0); }
static void test_fence_ring(void **state) { fences(*state, EXO_VK_AVOID_TIMELINE); }

/* A deadline passes; the work is done later. */
static void test_deadline(void **state) {
    exo_vk_instance *i = exo_vk_test_instance(*state);
    exo_vk_device *d = exo_vk_test_open(i, NULL);
    exo_error err;
    exo_vk_fence f;
    exo_vk_test_ok(exo_vk_queue_submit(&d->queue, NULL, 0, &f, &err), &err);
    exo_vk_fail_at(1, VK_TIMEOUT);
    assert_int_equal(exo_vk_fence_wait(&d->queue, f, 5, &err), EXO_ETIMEDOUT);
    assert_non_null(strstr(err.message, "5 ms"));
    assert_int_equal(exo_vk_fence_wait(&d->queue, f, EXO_VK_DEADLINE_MS, &err), EXO_OK);
    exo_vk_test_close(i, d);
}

/* Declares a use and returns whether it brought a barrier. */
static bool barrier_for(exo_vk_hazards *h, const exo_vk_allocation *a, VkDeviceSize offset,
                        VkDeviceSize bytes, uint32_t use) {
    uint32_t n = h->n_barriers;
    exo_vk_hazards_declare(h, a->buffer, a->offset + offset, bytes, use);
    exo_vk_hazards_settle(h);
    return h->n_barriers > n;
}

static void test_hazards(void **state) {
    const uint32_t rd = EXO_VK_USE_SHADER_READ, wr = EXO_VK_USE_SHADER_WRITE,
                   cp = EXO_VK_USE_COPY_READ;
    exo_vk_instance *i = exo_vk_test_instance(*state);
    exo_vk_device *d = exo_vk_test_open(i, NULL);
    exo_vk_command_pool pool;
    VkCommandBuffer c;
    exo_vk_allocation *a, *b;
    exo_vk_hazards h;
    exo_error err;
    exo_vk_test_ok(exo_vk_memory_allocate(&d->memory, EXO_VK_MEMORY_DEVICE, 4096, &a, &err), &err);
    exo_vk_test_ok(exo_vk_memory_allocate(&d->memory, EXO_VK_MEMORY_UPLOAD, 4096, &b, &err), &err);
    exo_vk_test_ok(exo_vk_command_pool_init(d, &pool, &err), &err);
    exo_vk_test_ok(exo_vk_command_allocate(&pool, &c, &err), &err);
    exo_vk_test_ok(exo_vk_command_begin(&pool, c, false, &err), &err);
    exo_vk_hazards_begin(&h, d, c);
    assert_false(barrier_for(&h, a, 0, 100, wr));  /* the first use of all */
    assert_false(barrier_for(&h, a, 100, 50, wr)); /* beside it */
    assert_false(barrier_for(&h, b, 0, 100, wr));  /* another buffer */
    assert_true(barrier_for(&h, a, 99, 1, rd));    /* read after write */
    assert_false(barrier_for(&h, a, 99, 1, rd));   /* read after read */
    assert_false(barrier_for(&h, b, 0, 100, cp));  /* that barrier covered b, too */
    assert_true(barrier_for(&h, a, 90, 20, wr));   /* write after read */
    assert_true(barrier_for(&h, a, 0, 4096, wr));  /* write after write */
    uint32_t before = h.n_barriers;
    for (VkDeviceSize k = 0; k < EXO_VK_HAZARD_SETTLED + 1; k++) barrier_for(&h, b, k, 1, rd);
    assert_int_equal(h.n_barriers, before + 1); /* the list is full: one that is not needed */
    exo_vk_test_ok(exo_vk_command_end(&pool, c, &err), &err);
    exo_vk_command_pool_finish(&pool);
    exo_vk_test_close(i, d);
}

int main(int argc, char **argv) {
    cmocka_set_test_filter(argc > 1 ? argv[1] : getenv("EXO_TEST_FILTER"));
    const struct CMUnitTest tests[] = {
        EXO_VK_ON_EACH("timeline semaphore", test_timeline),
        EXO_VK_ON_EACH("ring of fences", test_fence_ring),
        EXO_VK_ON_EACH("deadline", test_deadline),
        EXO_VK_ON_EACH("hazards", test_hazards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
