/* stage_vulkan_test.c - answers of a Vulkan device: the tokens of the whole rows, without them.
 *
 * Each request runs twice on the same stage: as it is, and with log-probabilities, which need whole
 * rows and change no token. */
#define _GNU_SOURCE /* mkstemps, dl_iterate_phdr */
#include "engine/stage.h"

#include "base/mem.h"
#include "compute/vulkan/backend.h"
#include "compute/vulkan/testing.h"

#include "engine/testing.h"

#define CTX      64
#define N_DRAWN  40
#define N_PROMPT 3

typedef struct {
    exo_vk_instance *instance;
    exo_vk_device *vk;
    exo_device *device;
    exo_model *model;
    exo_stage *stage;
    exo_step step;
} bench;

static bench open_bench(const char *driver) {
    bench b = {0};
    exo_error err = {0};
    b.instance = exo_vk_test_instance(driver);
    b.vk = exo_vk_test_open(b.instance, NULL);
    check(exo_vk_device_wrap(b.vk, &b.device, &err), &err);
    b.model = synth_model("stories-15m", "q8_0"); /* 32000 ids */
    exo_shard_desc d = {.layer_end = 1,
                        .has_embedding = true,
                        .ctx_tokens = CTX,
                        .max_seqs = 2,
                        .max_rows = 2,
                        .n_pages = 2 * CTX / EXO_KV_PAGE_TOKENS};
    d.layer_end = exo_model_hparams(b.model)->n_layers;
    d.has_head = true;
    exo_shard *shard;
    check(exo_shard_create(b.model, &exo_backend_vulkan, b.device, &d, NULL, NULL, &shard, &err),
          &err);
    check(exo_stage_create(shard, &b.stage, &err), &err);
    check(exo_step_init(&b.step, 2, 4, &err), &err);
    return b;
}

static void close_bench(bench *b) {
    exo_step_finish(&b->step);
    exo_stage_destroy(b->stage);
    exo_model_unref(b->model);
    exo_vk_device_unwrap(b->device);
    exo_vk_test_close(b->instance, b->vk);
}

/* The request answered in slot 0, row by row. */
static void run(bench *b, const exo_sampling *p, int32_t tokens[CTX]) {
    exo_error err = {0};
    const exo_request request = {.n_prompt = N_PROMPT, .sampling = *p};
    for (int32_t i = 0; i < N_PROMPT; i++) tokens[i] = 100 + i;
    check(exo_stage_admit(b->stage, 0, &request, (exo_tokens){tokens, N_PROMPT}, &err), &err);
    for (uint32_t pos = 0; pos < N_PROMPT + N_DRAWN - 1; pos++) {
        exo_stage_result result[2];
        uint32_t n;
        exo_step_clear(&b->step);
        if (pos % EXO_KV_PAGE_TOKENS == 0) {
            uint32_t page = pos / EXO_KV_PAGE_TOKENS;
            b->step.pages[b->step.n_pages++] = (exo_page_entry){0, page, page};
        }
        uint32_t flags = pos + 1 >= N_PROMPT ? EXO_ROW_LOGITS : 0;
        b->step.rows[b->step.n_rows++] = (exo_row){0, pos, tokens[pos], flags};
        check(exo_stage_run(b->stage, &b->step, NULL, NULL, result, &n, NULL, &err), &err);
        if (flags != 0) tokens[pos + 1] = result[0].draw.id;
    }
}

static const exo_sampling samplings[] = {
    {.top_k = 5},
    {.temperature = 1},
    {.temperature = 0.6f, .top_p = 0.5f},
    {.temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f},
    {.temperature = 1.3f, .min_p = 0.2f},
};
#define N_SAMPLINGS (sizeof samplings / sizeof samplings[0])

static void test_tokens_of_whole_rows(void **state) {
    bench b = open_bench(*state);
    exo_shard *shard = exo_stage_shard(b.stage);
    uint32_t n = strcmp(*state, "swiftshader") == 0 ? 2 : N_SAMPLINGS; /* it takes a minute each */
    for (uint32_t i = 0; i < n; i++) {
        int32_t asked[CTX], whole[CTX];
        exo_sampling p = samplings[i];
        p.seed = 77 + i;
        exo_shard_rows before = exo_shard_count_rows(shard);
        run(&b, &p, asked);
        exo_shard_rows after = exo_shard_count_rows(shard);
        assert_int_equal(after.n_asked - before.n_asked, N_DRAWN);
        uint64_t n_read = after.n_read - before.n_read;
        /* greedy draws and plain ones are decided by the answer; nuclei of a random model are wide
         */
        if (i < 2) assert_in_range(n_read, 0, 1);
        p.want_logprobs = true;
        run(&b, &p, whole);
        assert_int_equal(exo_shard_count_rows(shard).n_read - after.n_read, N_DRAWN);
        assert_memory_equal(asked, whole, (N_PROMPT + N_DRAWN) * sizeof asked[0]);
    }
    close_bench(&b);
}

/* A decoded token costs one submission when its answer decides it: nothing is recorded, allocated
 * or read besides. */
static void test_a_token_is_one_submission(void **state) {
    bench b = open_bench(*state);
    int32_t tokens[CTX];
    const exo_sampling greedy = {0};
    run(&b, &greedy, tokens);
    uint64_t heap = exo_mem_count();
    exo_vk_counters before = b.vk->counters;
    for (uint32_t pos = N_PROMPT; pos < N_PROMPT + 8; pos++) {
        exo_stage_result result[2];
        uint32_t n;
        exo_step_clear(&b.step);
        b.step.rows[b.step.n_rows++] = (exo_row){0, pos, tokens[pos], EXO_ROW_LOGITS};
        assert_int_equal(exo_stage_run(b.stage, &b.step, NULL, NULL, result, &n, NULL, NULL),
                         EXO_OK);
        assert_int_equal(result[0].draw.id, tokens[pos + 1]);
    }
    assert_true(exo_mem_count() == heap);
    assert_int_equal(b.vk->counters.submits, before.submits + 8);
    assert_int_equal(b.vk->counters.recordings, before.recordings);
    assert_int_equal(b.vk->counters.allocations, before.allocations);
    assert_int_equal(b.vk->counters.driver_allocations, before.driver_allocations);
    close_bench(&b);
}

int main(int argc, char **argv) {
    cmocka_set_test_filter(argc > 1 ? argv[1] : getenv("EXO_TEST_FILTER"));
    const struct CMUnitTest tests[] = {
        EXO_VK_ON_EACH("tokens of whole rows", test_tokens_of_whole_rows),
        EXO_VK_ON_EACH("a token is one submission", test_a_token_is_one_submission),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
