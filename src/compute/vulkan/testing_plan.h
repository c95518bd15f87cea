/* testing_plan.h - plans of testing_net on a Vulkan device; how they fail, call by call. */
#ifndef EXO_COMPUTE_VULKAN_TESTING_PLAN_H
#define EXO_COMPUTE_VULKAN_TESTING_PLAN_H

#include "compute/cpu/testing_net.h"
#include "compute/vulkan/plan.h"
#include "compute/vulkan/testing_bench.h"

/* What testing_net makes from here on is the device's. */
static inline bench open_bench_of_plans(const char *driver) {
    test_backend = &exo_backend_vulkan;
    return open_bench(driver);
}

/* Every heap allocation, then every Vulkan call of plan_create fails once. */
static inline void fail_each_creation(const bench *b, test_net *n) {
    exo_plan_desc desc = test_plan_desc(n);
    desc.max_rows = 2;
    desc.max_logit_rows = 1;
    uint64_t held = b->vk->memory.stats.held_bytes;
    for (int calls = 0; calls < 2; calls++) {
        for (uint64_t k = 1;; k++) {
            exo_plan *p;
            if (calls == 0) exo_mem_fail_at(k);
            if (calls == 1) exo_vk_fail_at(k, VK_ERROR_OUT_OF_HOST_MEMORY);
            exo_status st = test_backend->plan_create(n->device, &desc, &p, NULL);
            bool failed = calls == 0 ? exo_mem_failed() : exo_vk_failed();
            exo_mem_fail_at(0);
            exo_vk_fail_at(0, VK_SUCCESS);
            if (st == EXO_OK) test_backend->plan_destroy(p);
            if (!failed) {
                assert_int_equal(st, EXO_OK);
                break;
            }
            if (st != EXO_OK) assert_null(p);
            assert_int_equal(b->vk->memory.stats.held_bytes, held);
        }
    }
}

/* Every Vulkan call of a step fails once: so does the step, and the next one works.  Returns how
 * many calls there were. */
static inline uint64_t fail_each_call_of_a_step(test_net *n) {
    static float out[MAX_ROWS][VOCAB];
    exo_row row = test_row(0, 0);
    exo_plan_args args = {.rows = &row, .n_rows = 1, .block_table = n->pages, .logits = out[0]};
    for (uint64_t k = 1;; k++) {
        exo_vk_fail_at(k, VK_ERROR_OUT_OF_DEVICE_MEMORY);
        exo_status st = test_backend->plan_run(n->plan, &args, NULL);
        bool failed = exo_vk_failed();
        exo_vk_fail_at(0, VK_SUCCESS);
        assert_int_equal(st, failed ? EXO_ENOMEM : EXO_OK);
        assert_int_equal(test_backend->plan_run(n->plan, &args, NULL), EXO_OK);
        if (!failed) return k - 1;
    }
}

#endif
