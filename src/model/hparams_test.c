/* hparams_test.c - metadata that make sense are read, metadata that contradict each other or the
 * tensors are refused with both facts in the message.
 *
 * A small valid model is described by two tables; each case changes one entry of it. */
#include "model/arch.h"

#include "base/mem.h"
#include "model/gguf_writer.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define N_VOCAB  10
#define N_LAYERS 2
#define EMBD     64
#define FF       96
#define Q        64
#define KV       32
#define HEAD     16

/* One departure from the valid model: a key or a tensor that is different, missing or new. */
typedef struct {
    const char *name; /* metadata key without "arch.", full tensor name, or NULL: no change */
    enum { GONE, U32, F32, BOOL, STR, TENSOR } what;
    uint32_t u;
    float f;
    const char *s;
    exo_dtype type;
    uint64_t dims[2];
} change;

typedef struct {
    const char *arch;
    change changes[2];
} spec;

typedef struct {
    exo_gguf_writer w;
    exo_buf file;
    const spec *spec;
} builder;

static const change *find_change(const builder *b, const char *name) {
    for (int i = 0; i < 2; i++) {
        const change *c = &b->spec->changes[i];
        if (c->name != NULL && strcmp(c->name, name) == 0) return c;
    }
    return NULL;
}

static void add_key(builder *b, const change *c) {
    char key[96];
    bool global = strncmp(c->name, "general.", 8) == 0;
    snprintf(key, sizeof key, "%s%s%s", global ? "" : b->spec->arch, global ? "" : ".", c->name);
    if (c->what == U32) exo_gguf_add_u32(&b->w, key, c->u);
    if (c->what == F32) exo_gguf_add_f32(&b->w, key, c->f);
    if (c->what == BOOL) exo_gguf_add_bool(&b->w, key, c->u != 0);
    if (c->what == STR) exo_gguf_add_str(&b->w, key, c->s);
}

static void add_tensor(builder *b, const char *name, exo_dtype type, uint64_t cols, uint64_t rows) {
    const change *c = find_change(b, name);
    if (c != NULL && c->what == GONE) return;
    uint64_t dims[2] = {c != NULL ? c->dims[0] : cols, c != NULL ? c->dims[1] : rows};
    exo_gguf_add_tensor(&b->w, name, c != NULL ? c->type : type, dims[1] == 0 ? 1 : 2, dims);
}

static void add_layer(builder *b, uint32_t il) {
    static const struct {
        const char *suffix, *only; /* only: the architecture that has it; NULL = all */
        uint64_t cols, rows;       /* rows 0: a vector */
    } rules[] = {
        {"attn_norm.weight", NULL, EMBD, 0},      {"attn_q.weight", NULL, EMBD, Q},
        {"attn_k.weight", NULL, EMBD, KV},        {"attn_v.weight", NULL, EMBD, KV},
        {"attn_output.weight", NULL, Q, EMBD},    {"attn_q.bias", "qwen2", Q, 0},
        {"attn_k.bias", "qwen2", KV, 0},          {"attn_v.bias", "qwen2", KV, 0},
        {"attn_q_norm.weight", "qwen3", HEAD, 0}, {"attn_k_norm.weight", "qwen3", HEAD, 0},
        {"ffn_norm.weight", NULL, EMBD, 0},       {"ffn_gate.weight", NULL, EMBD, FF},
        {"ffn_up.weight", NULL, EMBD, FF},        {"ffn_down.weight", NULL, FF, EMBD},
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        char name[64];
        if (rules[i].only != NULL && strcmp(rules[i].only, b->spec->arch) != 0) continue;
        snprintf(name, sizeof name, "blk.%u.%s", il, rules[i].suffix);
        add_tensor(b, name, rules[i].rows == 0 ? EXO_F32 : EXO_F16, rules[i].cols, rules[i].rows);
    }
}

static void build(builder *b, const spec *s) {
    static const change keys[] = {
        {"general.architecture", STR, .s = NULL},
        {"block_count", U32, .u = N_LAYERS},
        {"embedding_length", U32, .u = EMBD},
        {"feed_forward_length", U32, .u = FF},
        {"attention.head_count", U32, .u = 4},
        {"attention.head_count_kv", U32, .u = 2},
        {"context_length", U32, .u = 128},
        {"attention.layer_norm_rms_epsilon", F32, .f = 1e-5f},
    };
    *b = (builder){.spec = s};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (find_change(b, keys[i].name) != NULL) continue;
        change c = keys[i];
        if (c.what == STR) c.s = s->arch;
        add_key(b, &c);
    }
    for (int i = 0; i < 2; i++) {
        if (s->changes[i].name != NULL && s->changes[i].what != TENSOR) add_key(b, &s->changes[i]);
    }
    exo_gguf_add_array(&b->w, "tokenizer.ggml.tokens", EXO_GGUF_STRING, N_VOCAB);
    for (int i = 0; i < N_VOCAB; i++) exo_gguf_put_str(&b->w.kvs, "t", 1);
    add_tensor(b, "token_embd.weight", EXO_F16, EMBD, N_VOCAB);
    for (uint32_t il = 0; il < N_LAYERS; il++) add_layer(b, il);
    add_tensor(b, "output_norm.weight", EXO_F32, EMBD, 0);
    static const char *const extras[] = {"output.weight", "rope_freqs.weight", "blk.0.attn_q.extra",
                                         "blk.2.attn_q.weight", "blk.0.attn_q.bias"};
    for (size_t i = 0; i < sizeof extras / sizeof *extras; i++) {
        const change *c = find_change(b, extras[i]);
        if (c != NULL && c->what == TENSOR) add_tensor(b, extras[i], c->type, 0, 0);
    }
    exo_gguf_writer_head(&b->w, &b->file);
    while (b->w.data_bytes > 0 && exo_buf_ok(&b->file)) { /* 0x3F800000: every f32 is 1 */
        exo_gguf_put_u32(&b->file, 0x3F800000u);
        b->w.data_bytes -= 4;
    }
    assert_true(exo_buf_ok(&b->file));
}

/* Reads and binds; what a model's opening does with a file's head. */
static exo_status read_model(const builder *b, exo_hparams *hp, exo_error *err) {
    exo_gguf *g;
    exo_model_tensors t;
    exo_status st = exo_gguf_open_memory(b->file.data, b->file.n, &g, err);
    if (st != EXO_OK) return st;
    st = exo_hparams_read(g, (exo_str){"stem", 4}, hp, err);
    if (st == EXO_OK) st = exo_model_tensors_bind(g, hp, &t, err);
    if (st == EXO_OK) {
        assert_int_equal(t.layers[N_LAYERS - 1].down->dims[0], FF);
        assert_true((t.layers[0].q_bias != NULL) == hp->qkv_bias);
        assert_true((t.layers[0].q_norm != NULL) == (hp->qk_norm != EXO_QK_NORM_NONE));
        assert_true((t.outer.head == t.outer.embedding) == hp->tied_head);
        exo_model_tensors_finish(&t);
    }
    exo_gguf_close(g);
    return st;
}

static void check(const spec *s, exo_status want, const char *message_part, exo_hparams *hp) {
    builder b;
    exo_error err = {0};
    build(&b, s);
    exo_status st = read_model(&b, hp, &err);
    if (st != want || strstr(err.message, message_part) == NULL) {
        fail_msg("status %d \"%s\"; wanted %d \"%s\"", st, err.message, want, message_part);
    }
    exo_gguf_writer_finish(&b.w);
    exo_buf_finish(&b.file);
}

static void check_ok(const spec *s, exo_hparams *hp) { check(s, EXO_OK, "", hp); }

/* ---- sense ---- */

static void the_three_architectures_are_read(void **ud) {
    (void)ud;
    static const char *const names[] = {"llama", "qwen2", "qwen3"};
    for (int i = 0; i < 3; i++) {
        exo_hparams hp;
        check_ok(&(spec){.arch = names[i]}, &hp);
        assert_string_equal(hp.arch->name, names[i]);
        assert_int_equal(hp.n_layers, N_LAYERS);
        assert_int_equal(hp.n_embd, EMBD);
        assert_int_equal(hp.n_ff, FF);
        assert_int_equal(hp.n_heads, 4);
        assert_int_equal(hp.n_kv_heads, 2);
        assert_int_equal(hp.head_dim, HEAD);
        assert_int_equal(hp.n_vocab, N_VOCAB);
        assert_int_equal(hp.ctx_train, 128);
        assert_int_equal(hp.rope.dims, HEAD);
        assert_true(hp.rope_neox == (i > 0) && hp.qkv_bias == (i == 1) &&
                    (hp.qk_norm == EXO_QK_NORM_HEAD) == (i == 2));
        assert_true(hp.tied_head && hp.rope.scale == 1 && hp.norm_eps == 1e-5f);
        assert_string_equal(hp.name, "stem");
    }
    exo_hparams hp;
    check_ok(
        &(spec){"llama", {{"output.weight", TENSOR, .type = EXO_Q8_0, .dims = {EMBD, N_VOCAB}}}},
        &hp);
    assert_false(hp.tied_head);
}

static void names_are_made_printable(void **ud) {
    (void)ud;
    exo_hparams hp;
    check_ok(&(spec){"llama", {{"general.name", STR, .s = "L\xC3\xA9o\n\xFF!"}}}, &hp);
    assert_string_equal(hp.name, "L\xC3\xA9o?"
                                 "?!");
    char long_name[200];
    memset(long_name, 'x', sizeof long_name);
    memcpy(long_name + 62, "\xC3\xA9", 2); /* does not fit whole */
    long_name[199] = '\0';
    check_ok(&(spec){"llama", {{"general.name", STR, .s = long_name}}}, &hp);
    assert_int_equal(strlen(hp.name), 62);
}

/* ---- rotary positions ---- */

static void rotary_frequencies_follow_base_and_scaling(void **ud) {
    (void)ud;
    exo_hparams hp;
    check_ok(&(spec){"llama", {{"rope.freq_base", F32, .f = 500000}}}, &hp);
    for (int i = 0; i < HEAD / 2; i++) {
        double want = pow(500000, -2.0 * i / HEAD);
        assert_true(fabs(hp.rope.inv_freq[i] - want) < want * 1e-14);
    }
    exo_hparams plain;
    check_ok(&(spec){.arch = "llama"}, &plain);
    assert_true(plain.rope.inv_freq[0] == 1);

    check_ok(
        &(spec){"llama",
                {{"rope.scaling.type", STR, .s = "linear"}, {"rope.scaling.factor", F32, .f = 4}}},
        &hp);
    assert_true(hp.rope.inv_freq[3] == plain.rope.inv_freq[3] / 4);
    check_ok(&(spec){"llama", {{"rope.scale_linear", F32, .f = 2}}}, &hp);
    assert_true(hp.rope.inv_freq[3] == plain.rope.inv_freq[3] / 2);
    check_ok(
        &(spec){"llama",
                {{"rope.scaling.type", STR, .s = "none"}, {"rope.scaling.factor", F32, .f = 4}}},
        &hp);
    assert_true(hp.rope.inv_freq[3] == plain.rope.inv_freq[3]);
    check_ok(&(spec){"llama", {{"rope_freqs.weight", TENSOR, .type = EXO_F32, .dims = {HEAD / 2}}}},
             &hp); /* all factors are 1 in this file */
    assert_true(hp.rope.inv_freq[3] == plain.rope.inv_freq[3]);
    check_ok(&(spec){"llama", {{"rope.dimension_count", U32, .u = 8}}}, &hp);
    assert_true(hp.rope.dims == 8 && hp.rope.inv_freq[1] == plain.rope.inv_freq[2]);
}

static void unknown_rope_settings_are_refused(void **ud) {
    (void)ud;
    exo_hparams hp;
    check(&(spec){"llama", {{"rope.scaling.type", STR, .s = "ntk"}}}, EXO_EUNSUPPORTED,
          "rope scaling 'ntk' is not supported", &hp);
    check(&(spec){"llama", {{"rope.scaling.type", U32, .u = 1}}}, EXO_EFORMAT, "not a string", &hp);
    check(&(spec){"llama", {{"rope.dimension_count", U32, .u = 7}}}, EXO_EFORMAT, "odd", &hp);
    check(&(spec){"llama", {{"rope.dimension_count", U32, .u = 32}}}, EXO_EFORMAT,
          "rope.dimension_count 32 is odd or above the head's 16", &hp);
    check(&(spec){"llama", {{"rope.freq_base", F32, .f = -1}}}, EXO_EFORMAT, "rope.freq_base is -1",
          &hp);
    check(&(spec){"llama", {{"rope.freq_base", F32, .f = NAN}}}, EXO_EFORMAT, "above 0", &hp);
    check(&(spec){"llama", {{"rope_freqs.weight", TENSOR, .type = EXO_F32, .dims = {4}}}},
          EXO_EFORMAT, "rope_freqs.weight has 4 f32 values", &hp);
    check(&(spec){"llama", {{"rope_freqs.weight", TENSOR, .type = EXO_F16, .dims = {8}}}},
          EXO_EFORMAT, "rope_freqs.weight has 8 f16 values", &hp);
    check(&(spec){"qwen3", {{"rope_freqs.weight", TENSOR, .type = EXO_F32, .dims = {8}}}},
          EXO_EUNSUPPORTED, "'rope_freqs.weight' has no place", &hp);
}

/* ---- layers that are left alone ---- */

static void layers_for_later_tokens(void **ud) {
    (void)ud;
    exo_hparams hp;
    check(&(spec){"glm4moe", {{"nextn_predict_layers", U32, .u = N_LAYERS}}}, EXO_EFORMAT,
          "glm4moe.nextn_predict_layers is 2 of glm4moe.block_count 2", &hp);
    check(&(spec){"qwen3", {{"nextn_predict_layers", U32, .u = 1}}}, EXO_EUNSUPPORTED,
          "qwen3.nextn_predict_layers", &hp);
}

/* What an architecture alone must say. */
static void keys_of_few_architectures(void **ud) {
    (void)ud;
    exo_hparams hp;
    check(&(spec){"minicpm", {{"embedding_scale", F32, .f = 12}}}, EXO_EUNSUPPORTED,
          "minicpm.residual_scale is missing", &hp);
    check(&(spec){"ernie4_5-moe", {{"interleave_moe_layer_step", U32, .u = 2}}}, EXO_EUNSUPPORTED,
          "interleave_moe_layer_step is 2", &hp);
    check(&(spec){"qwen3vl", {{"rope.dimension_sections", U32, .u = 16}}}, EXO_EUNSUPPORTED,
          "rope.dimension_sections must be 4 numbers", &hp);
}

/* ---- nonsense ---- */

static void other_architectures_are_named(void **ud) {
    (void)ud;
    exo_hparams hp;
    check(&(spec){.arch = "mamba"}, EXO_EUNSUPPORTED,
          "architecture 'mamba' is not supported: exo has no layers that carry a state", &hp);
    check(&(spec){.arch = "llamas"}, EXO_EUNSUPPORTED,
          "architecture 'llamas' is not supported (docs/architecture.md", &hp);
    check(&(spec){"llama", {{"general.architecture", .what = GONE}}}, EXO_EFORMAT,
          "general.architecture", &hp);
    check(&(spec){"qwen3", {{"expert_count", U32, .u = 8}}}, EXO_EUNSUPPORTED, "qwen3.expert_count",
          &hp);
    check_ok(&(spec){"llama", {{"expert_count", U32, .u = 0}}}, &hp);
    check(&(spec){"llama", {{"logit_scale", F32, .f = 0.5f}}}, EXO_EUNSUPPORTED,
          "llama.logit_scale", &hp);
}

/* A key of another type is not taken for absent, one that changes the computation not skipped. */
static void no_key_is_passed_over(void **ud) {
    (void)ud;
    static const char *const numbers[] = {"pooling_type", "vocab_size", "expert_count"};
    exo_hparams hp;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        check(&(spec){"llama", {{numbers[i], STR, .s = "1"}}}, EXO_EFORMAT,
              "is not one non-negative number", &hp);
    }
    check(&(spec){"qwen3", {{"expert_count", STR, .s = "1"}}}, EXO_EUNSUPPORTED, "expert_count",
          &hp);
    check(&(spec){"llama", {{"attention.causal", BOOL, .u = 0}}}, EXO_EUNSUPPORTED,
          "a llama model with llama.attention.causal false", &hp);
    check(&(spec){"llama", {{"attention.causal", U32, .u = 1}}}, EXO_EFORMAT, "is not a bool", &hp);
    check_ok(&(spec){"llama", {{"attention.causal", BOOL, .u = 1}}}, &hp);
    check(&(spec){"bert", {{"attention.causal", BOOL, .u = 1}}}, EXO_EUNSUPPORTED,
          "bert.attention.causal true", &hp);
    check(&(spec){"llama", {{"attention.shared_kv_layers", U32, .u = 1}}}, EXO_EUNSUPPORTED,
          "attention.shared_kv_layers", &hp);
    check_ok(&(spec){"llama", {{"attention.shared_kv_layers", U32, .u = 0}}}, &hp);
    check(&(spec){"gemma3", {{"attention.key_length_swa", U32, .u = 8}}}, EXO_EUNSUPPORTED,
          "gemma3.attention.key_length_swa is 8, but heads of other layers have 16", &hp);
    check(&(spec){"olmo2", {{"attention.sliding_window", U32, .u = 64}}}, EXO_EUNSUPPORTED,
          "olmo2.attention.sliding_window 64", &hp);
    check_ok(&(spec){"qwen2", {{"attention.sliding_window", U32, .u = 64}}}, &hp);
}

static void missing_and_absurd_numbers_are_refused(void **ud) {
    (void)ud;
    static const char *const needed[] = {"block_count", "embedding_length", "feed_forward_length",
                                         "attention.head_count", "context_length"};
    exo_hparams hp;
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        check(&(spec){"llama", {{needed[i], .what = GONE}}}, EXO_EFORMAT, "is missing", &hp);
        check(&(spec){"llama", {{needed[i], STR, .s = "8"}}}, EXO_EFORMAT, needed[i], &hp);
        check(&(spec){"llama", {{needed[i], U32, .u = 0}}}, EXO_EFORMAT, "is 0, possible are 1 to",
              &hp);
        check(&(spec){"llama", {{needed[i], U32, .u = UINT32_MAX}}}, EXO_EFORMAT,
              "is 4294967295, possible are 1 to", &hp);
    }
    check(&(spec){"llama", {{"attention.layer_norm_rms_epsilon", .what = GONE}}}, EXO_EFORMAT,
          "layer_norm_rms_epsilon is missing", &hp);
    check(&(spec){"llama", {{"attention.head_count_kv", U32, .u = 3}}}, EXO_EFORMAT,
          "head_count 4 is not a multiple of head_count_kv 3", &hp);
    check(&(spec){"llama", {{"attention.head_count", U32, .u = 6}}}, EXO_EFORMAT,
          "embedding_length 64 is not a multiple of attention.head_count 6", &hp);
    check(&(spec){"llama", {{"attention.key_length", U32, .u = 1024}}}, EXO_EUNSUPPORTED,
          "heads of 1024 dimensions, at most 576 are supported", &hp);
    check(&(spec){"llama", {{"attention.value_length", U32, .u = 8}}}, EXO_EFORMAT,
          "64 (embedding_length) x 16 (head_count_kv * value_length)", &hp);
}

static void shapes_must_agree_with_the_metadata(void **ud) {
    (void)ud;
    exo_hparams hp;
    check(&(spec){"llama", {{"blk.1.ffn_up.weight", TENSOR, .type = EXO_F16, .dims = {EMBD, 95}}}},
          EXO_EFORMAT,
          "'blk.1.ffn_up.weight' is 64 x 95, but the metadata ask for 64 (embedding_length) x 96 "
          "(feed_forward_length)",
          &hp);
    check(&(spec){"llama", {{"attention.head_count_kv", U32, .u = 4}}}, EXO_EFORMAT,
          "'blk.0.attn_k.weight' is 64 x 32, but the metadata ask for 64 (embedding_length) x 64",
          &hp);
    check(&(spec){"qwen3", {{"attention.key_length", U32, .u = 32}}}, EXO_EFORMAT,
          "'blk.0.attn_q.weight'", &hp);
    check(&(spec){"llama", {{"token_embd.weight", TENSOR, .type = EXO_F16, .dims = {EMBD, 9}}}},
          EXO_EFORMAT, "has 9 rows, but tokenizer.ggml.tokens has 10 tokens", &hp);
    check(&(spec){"llama", {{"blk.0.ffn_norm.weight", TENSOR, .type = EXO_F16, .dims = {EMBD}}}},
          EXO_EUNSUPPORTED, "'blk.0.ffn_norm.weight' is f16, norms and biases must be f32", &hp);
    check(&(spec){"llama", {{"output.weight", TENSOR, .type = EXO_F16, .dims = {EMBD, 11}}}},
          EXO_EFORMAT, "(vocabulary)", &hp);
}

static void every_tensor_must_be_there_and_have_a_place(void **ud) {
    (void)ud;
    static const char *const needed[] = {"token_embd.weight", "output_norm.weight",
                                         "blk.0.attn_norm.weight", "blk.1.ffn_down.weight"};
    exo_hparams hp;
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        check(&(spec){"llama", {{needed[i], .what = GONE}}}, EXO_EFORMAT, needed[i], &hp);
    }
    check(&(spec){"qwen2", {{"blk.0.attn_q.bias", .what = GONE}}}, EXO_EFORMAT, "blk.0.attn_q.bias",
          &hp);
    check(&(spec){"qwen2", {{"blk.1.attn_v.bias", .what = GONE}}}, EXO_EFORMAT, "blk.1.attn_v.bias",
          &hp);
    check(&(spec){"qwen3", {{"blk.1.attn_k_norm.weight", .what = GONE}}}, EXO_EFORMAT,
          "blk.1.attn_k_norm.weight", &hp);
    check(&(spec){"llama", {{"blk.0.attn_q.bias", TENSOR, .type = EXO_F32, .dims = {Q}}}},
          EXO_EFORMAT, "'blk.0.attn_k.bias' is missing", &hp);
    check(&(spec){"llama", {{"blk.0.attn_q.extra", TENSOR, .type = EXO_F32, .dims = {Q}}}},
          EXO_EUNSUPPORTED, "'blk.0.attn_q.extra' has no place in a llama model with 2 layers",
          &hp);
    check(&(spec){"llama", {{"blk.2.attn_q.weight", TENSOR, .type = EXO_F16, .dims = {EMBD, Q}}}},
          EXO_EUNSUPPORTED, "'blk.2.attn_q.weight' has no place", &hp);
}

static void failed_allocations_are_reported(void **ud) {
    (void)ud;
    builder b;
    build(&b, &(spec){.arch = "qwen2"});
    for (uint64_t k = 1;; k++) {
        exo_hparams hp;
        exo_mem_fail_at(k);
        exo_status st = read_model(&b, &hp, NULL);
        int failed = exo_mem_failed();
        exo_mem_fail_at(0);
        assert_int_equal(st, failed ? EXO_ENOMEM : EXO_OK);
        if (!failed) break;
    }
    exo_gguf_writer_finish(&b.w);
    exo_buf_finish(&b.file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_three_architectures_are_read),
        cmocka_unit_test(names_are_made_printable),
        cmocka_unit_test(rotary_frequencies_follow_base_and_scaling),
        cmocka_unit_test(unknown_rope_settings_are_refused),
        cmocka_unit_test(layers_for_later_tokens),
        cmocka_unit_test(keys_of_few_architectures),
        cmocka_unit_test(other_architectures_are_named),
        cmocka_unit_test(no_key_is_passed_over),
        cmocka_unit_test(missing_and_absurd_numbers_are_refused),
        cmocka_unit_test(shapes_must_agree_with_the_metadata),
        cmocka_unit_test(every_tensor_must_be_there_and_have_a_place),
        cmocka_unit_test(failed_allocations_are_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
