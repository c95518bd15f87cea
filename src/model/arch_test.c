/* arch_test.c - every architecture's files open, and none opens when its metadata contradict its
 * tensors.
 *
 * The files are exo synth's, one layer of each test shape; a lie is written over a number of the
 * metadata, found by its key. */
#define _DEFAULT_SOURCE /* mkdtemp */
#include "model/arch.h"

#include "base/mem.h"
#include "model/synth_impl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/exo-arch-test-XXXXXX";
static char path[64];

typedef struct {
    uint8_t *bytes;
    size_t n;
} file;

static file make(const char *shape, uint32_t n_layers) {
    exo_error err = {0};
    const exo_synth_desc desc = {.shape = shape, .type = "q8_0", .seed = 5, .n_layers = n_layers};
    if (exo_synth_write(&desc, path, NULL, NULL, &err) != EXO_OK) fail_msg("%s", err.message);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    file out = {.n = (size_t)ftell(f)};
    rewind(f);
    out.bytes = exo_malloc(out.n);
    assert_int_equal(fread(out.bytes, 1, out.n, f), out.n);
    fclose(f);
    return out;
}

static exo_status read_model(const file *f, exo_hparams *hp, exo_error *err) {
    exo_gguf *g;
    exo_model_tensors t;
    exo_status st = exo_gguf_open_memory(f->bytes, f->n, &g, err);
    if (st != EXO_OK) return st;
    st = exo_hparams_read(g, (exo_str){"x", 1}, hp, err);
    if (st == EXO_OK) st = exo_model_tensors_bind(g, hp, &t, err);
    if (st == EXO_OK) exo_model_tensors_finish(&t);
    exo_gguf_close(g);
    return st;
}

/* Where the value of a 4-byte key lies; NULL when the file has none. */
static uint8_t *value_of(const file *f, const char *arch, const char *suffix) {
    char key[EXO_KEY_BYTES];
    size_t n = (size_t)snprintf(key, sizeof key, "%s.%s", arch, suffix);
    for (size_t i = 8; i + n + 8 < f->n && i < 65536; i++) {
        if (f->bytes[i - 8] == n && memcmp(f->bytes + i, key, n) == 0) {
            return f->bytes + i + n + 4; /* behind the type */
        }
    }
    return NULL;
}

static void put_u32(uint8_t *at, uint32_t v) {
    for (int i = 0; i < 4; i++) at[i] = (uint8_t)(v >> 8 * i);
}

static bool is_test_shape(const char *name) { return strncmp(name, "test-", 5) == 0; }

static void every_architecture_opens(void **ud) {
    (void)ud;
    bool seen[64] = {false};
    for (const char *const *s = exo_synth_shapes(); *s != NULL; s++) {
        exo_hparams hp;
        exo_error err = {0};
        if (!is_test_shape(*s)) continue;
        file f = make(*s, 2);
        if (read_model(&f, &hp, &err) != EXO_OK) fail_msg("%s: %s", *s, err.message);
        assert_string_equal(hp.arch->name, exo_synth_find_shape(*s)->arch);
        for (size_t i = 0; exo_arch_at(i) != NULL; i++) seen[i] |= exo_arch_at(i) == hp.arch;
        exo_free(f.bytes);
    }
    for (size_t i = 0; exo_arch_at(i) != NULL; i++) {
        const char *name = exo_arch_at(i)->name;
        if (!seen[i]) fail_msg("%s has no test shape", name);
        if (exo_arch_missing((exo_str){name, strlen(name)}) != NULL) fail_msg("%s is there", name);
    }
}

static const struct {
    const char *shape, *suffix;
    uint32_t lie;
    const char *facts[2];
} cases[] = {
    {"test-qwen3moe", "expert_count", 32, {"ffn_gate_inp.weight", "32 (expert_count)"}},
    {"test-qwen3moe", "expert_used_count", 17, {"expert_used_count 17", "expert_count 16"}},
    {"test-qwen3moe",
     "expert_feed_forward_length",
     64,
     {"ffn_gate_exps.weight' is 256 x 128", "64 (expert_feed_forward_length)"}},
    {"test-qwen2moe",
     "expert_shared_feed_forward_length",
     96,
     {"ffn_gate_shexp.weight' is 256 x 512", "96 (width of the shared"}},
    {"test-gemma3", "attention.key_length", 128, {"attn_q.weight' is 256 x 256", "x 512"}},
    {"test-phi", "attention.head_count_kv", 4, {"attn_qkv.weight' is 256 x 512", "768 rows"}},
    {"test-phi", "feed_forward_length", 256, {"ffn_up.weight' is 256 x 1024", "512 rows"}},
    {"test-phi", "rope.dimension_count", 32, {"rope_factors_long.weight has 24", "asks for 16"}},
    {"test-deepseek2", "attention.kv_lora_rank", 128, {"key_length 288", "kv_lora_rank 128"}},
    {"test-deepseek2", "attention.key_length", 96, {"key_length 96", "make them 288"}},
    {"test-deepseek2", "attention.value_length", 64, {"value_length 64", "and 256"}},
    {"test-deepseek2", "attention.head_count_kv", 2, {"head_count_kv is 2", "4 heads"}},
    {"test-deepseek2", "attention.key_length_mla", 64, {"attn_q_b.weight' is 256 x 384", "256"}},
    {"test-deepseek2", "expert_shared_count", 1, {"expert_shared_count is 1", "length is 256"}},
    {"test-deepseek2-lite",
     "attention.value_length",
     16,
     {"attn_output.weight' is 128", "64 (head"}},
    {"test-deepseek2-lite", "attention.head_count_kv", 2, {"head_count_kv is 2", "4 heads"}},
    {"test-granite", "vocab_size", 9, {"vocab_size is 9", "520 rows"}},
    {"test-olmoe", "attention.head_count_kv", 2, {"attn_k.weight' is 256 x 256", "128 (head"}},
    {"test-deepseek2",
     "attention.q_lora_rank",
     64,
     {"attn_q_a.weight' is 256 x 256", "64 (q_lora"}},
    {"test-deepseek2", "expert_group_count", 3, {"16 experts", "3 groups"}},
    {"test-deepseek2", "leading_dense_block_count", 9, {"blk.1.ffn_", ""}},
    {"test-deepseek2", "rope.dimension_count", 96, {"dimension_count 96", "make them 352"}},
    {"test-deepseek2-lite", "rope.dimension_count", 48, {"dimension_count 48", "48 dimensions"}},
    {"test-gpt-oss", "attention.head_count", 8, {"attn_q.weight' is 256 x 256", "512 (head_count"}},
    {"test-bert", "context_length", 1024, {"position_embd.weight' is 256 x 512", "1024 (context"}},
    {"test-olmo2",
     "attention.head_count_kv",
     4,
     {"attn_k.weight' is 256 x 128", "256 (head_count_kv"}},
};

static void contradictions_name_both_facts(void **ud) {
    (void)ud;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        exo_hparams hp;
        exo_error err = {0};
        file f = make(cases[i].shape, 2);
        const char *arch = exo_synth_find_shape(cases[i].shape)->arch;
        uint8_t *at = value_of(&f, arch, cases[i].suffix);
        if (at == NULL) fail_msg("%s has no %s", cases[i].shape, cases[i].suffix);
        put_u32(at, cases[i].lie);
        exo_status st = read_model(&f, &hp, &err);
        if (st == EXO_OK)
            fail_msg("%s opens with %s %u", cases[i].shape, cases[i].suffix, cases[i].lie);
        for (int k = 0; k < 2; k++) {
            if (strstr(err.message, cases[i].facts[k]) != NULL) continue;
            fail_msg("%s: '%s' lacks '%s'", cases[i].shape, err.message, cases[i].facts[k]);
        }
        exo_free(f.bytes);
    }
}

/* Whatever one number says, opening ends with yes or with a reason. */
static void any_number_may_lie(void **ud) {
    (void)ud;
    static const char *const suffixes[] = {
        "block_count",
        "context_length",
        "embedding_length",
        "feed_forward_length",
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "attention.value_length",
        "attention.key_length_mla",
        "attention.value_length_mla",
        "attention.kv_lora_rank",
        "attention.q_lora_rank",
        "attention.sliding_window",
        "rope.dimension_count",
        "rope.scaling.original_context_length",
        "rope.scaling.factor",
        "rope.freq_base",
        "rope.scaling.attn_factor",
        "rope.scaling.yarn_log_multiplier",
        "attention.scale",
        "expert_count",
        "expert_used_count",
        "expert_feed_forward_length",
        "expert_shared_count",
        "expert_shared_feed_forward_length",
        "expert_group_count",
        "expert_group_used_count",
        "expert_gating_func",
        "leading_dense_block_count",
        "pooling_type",
    };
    static const uint32_t lies[] = {0,   1,   2,    3,          31,         64,         65,
                                    576, 577, 4096, 0x3F800000, 0x7F7FFFFF, 0x7FFFFFFF, UINT32_MAX};
    for (const char *const *s = exo_synth_shapes(); *s != NULL; s++) {
        if (!is_test_shape(*s)) continue;
        file f = make(*s, 2);
        for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
            uint8_t *at = value_of(&f, exo_synth_find_shape(*s)->arch, suffixes[i]), truth[4];
            for (size_t k = 0; at != NULL && k < sizeof lies / sizeof *lies; k++) {
                exo_hparams hp;
                exo_error err = {0};
                memcpy(truth, at, sizeof truth);
                put_u32(at, lies[k]);
                exo_status st = read_model(&f, &hp, &err);
                assert_true(st == EXO_OK || strlen(err.message) > 10);
                memcpy(at, truth, sizeof truth);
            }
        }
        exo_free(f.bytes);
    }
}

static int make_dir(void **ud) {
    (void)ud;
    if (mkdtemp(dir) == NULL) return -1;
    snprintf(path, sizeof path, "%s/x.gguf", dir);
    return 0;
}

static int remove_dir(void **ud) {
    (void)ud;
    unlink(path);
    return rmdir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_architecture_opens),
        cmocka_unit_test(contradictions_name_both_facts),
        cmocka_unit_test(any_number_may_lie),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
