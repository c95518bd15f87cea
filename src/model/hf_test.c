/* hf_test.c - tables and small parsers of hf_*.c; whole folders are in tests/integration. */
#include "model/hf_impl.h"

#include "model/arch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define LEVEL(regex) "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":" regex "}"
#define SPLIT(regex, behavior, invert)                                                             \
    "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" regex "\"},\"behavior\":\"" behavior           \
    "\",\"invert\":" invert "}"
#define SEQUENCE(steps) "{\"type\":\"Sequence\",\"pretokenizers\":[" steps "]}"
#define QWEN2                                                                                      \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| "              \
    "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"

static void pre_tokenizers_are_recognised(void **ud) {
    (void)ud;
    static const struct {
        const char *pre, *name; /* NULL: unknown */
    } cases[] = {
        {LEVEL("true"), "gpt-2"},
        {"{\"use_regex\":true,\"x\":1,\"type\":\"ByteLevel\",\"add_prefix_space\":false}", "gpt-2"},
        {"{\"type\":\"ByteLevel\",\"add_prefix_space\":true}", NULL},
        {SEQUENCE("{\"type\":\"Digits\",\"individual_digits\":true}," LEVEL("true")), "starcoder"},
        {SEQUENCE("{\"type\":\"Digits\",\"individual_digits\":false}," LEVEL("true")), NULL},
        {SEQUENCE(SPLIT(QWEN2, "Isolated", "false") "," LEVEL("false")), "qwen2"},
        {SEQUENCE(SPLIT(QWEN2, "Removed", "true") "," LEVEL("false")), "qwen2"},
        {SEQUENCE(SPLIT(QWEN2, "Removed", "false") "," LEVEL("false")), NULL},
        {SEQUENCE(SPLIT(QWEN2, "Isolated", "false") "," LEVEL("true")), NULL},
        {SEQUENCE(SPLIT("x", "Isolated", "false") "," LEVEL("false")), NULL},
        {SEQUENCE(""), NULL},
        {"null", NULL},
        {"[1]", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[2048];
        bool exactly;
        snprintf(text, sizeof text, "{\"pre_tokenizer\":%s}", cases[i].pre);
        json_t *j = json_loads(text, 0, NULL);
        assert_non_null(j);
        const char *name = exo_hf_pre_name(j, &exactly);
        if (cases[i].name != NULL) {
            assert_non_null(name);
            assert_string_equal(name, cases[i].name);
            assert_true(exactly);
        } else {
            assert_null(name);
        }
        json_decref(j);
    }
}

static void names_are_translated(void **ud) {
    (void)ud;
    json_t *config = json_loads("{\"model_type\":\"llama\"}", 0, NULL);
    const exo_hf_arch *a;
    json_t *text;
    exo_hf_place p;
    assert_int_equal(exo_hf_find_family(config, &a, &text, NULL), EXO_OK);
    assert_true(exo_hf_find_name(a, "model.layers.17.mlp.up_proj.weight", &p));
    assert_string_equal(p.name, "blk.17.ffn_up.weight");
    assert_int_equal(p.how, EXO_HF_AS_IS);
    assert_true(exo_hf_find_name(a, "lm_head.weight", &p));
    assert_string_equal(p.name, "output.weight");
    assert_true(exo_hf_find_name(a, "model.layers.3.self_attn.rotary_emb.inv_freq", &p));
    assert_int_equal(p.how, EXO_HF_NOT_NEEDED);
    assert_true(exo_hf_find_name(a, "model.layers.3.mlp.experts.12.up_proj.weight", &p));
    assert_string_equal(p.name, "blk.3.ffn_up_exps.weight");
    assert_true(p.how == EXO_HF_EXPERT && p.layer == 3 && p.expert == 12);
    assert_true(exo_hf_find_name(a, "layers.17.mlp.up_proj.weight", &p));
    assert_string_equal(p.name, "blk.17.ffn_up.weight");
    assert_true(exo_hf_find_name(a, "embed_tokens.weight", &p));
    assert_string_equal(p.name, "token_embd.weight");
    static const char *const strange[] = {"layers.x.mlp.up_proj.weight",
                                          "model.model.norm.weight",
                                          "model.layers.x.mlp.up_proj.weight",
                                          "model.layers..mlp.up_proj.weight",
                                          "model.layers.01.mlp.up_proj.weight",
                                          "model.layers.9999999.mlp.up_proj.weight",
                                          "model.layers.1.mlp.up_proj.weight2",
                                          "model.layers.1.mlp.experts.x.up_proj.weight",
                                          "model.layers.1.mlp.experts..up_proj.weight",
                                          "model.layers.1.mlp.experts.1.up_proj",
                                          "lm_head.weight.x",
                                          ""};
    for (size_t i = 0; i < sizeof strange / sizeof *strange; i++) {
        assert_false(exo_hf_find_name(a, strange[i], &p));
    }
    json_decref(text);
    json_decref(config);
}

/* Llama 3.2 1B: fast rotations stay, slow ones are divided by 32, a few are between. */
static void llama3_factors_rise_from_1_to_the_factor(void **ud) {
    (void)ud;
    json_t *config = json_loads(
        "{\"model_type\":\"llama\",\"hidden_size\":2048,\"num_attention_heads\":32,\"head_dim\":64,"
        "\"rope_theta\":500000.0,\"rope_scaling\":{\"factor\":32.0,\"high_freq_factor\":4.0,"
        "\"low_freq_factor\":1.0,\"original_max_position_embeddings\":8192,\"rope_type\":"
        "\"llama3\"}}",
        0, NULL);
    const exo_hf_arch *a;
    json_t *text;
    exo_hf_factors f;
    assert_int_equal(exo_hf_find_family(config, &a, &text, NULL), EXO_OK);
    assert_true(exo_hf_rope_factors(text, a, 0, &f));
    assert_int_equal(f.n, 32);
    assert_string_equal(f.name, "rope_freqs.weight");
    assert_true(f.v[0] == 1 && f.v[31] == 32);
    int between = 0;
    for (uint32_t i = 1; i < f.n; i++) {
        assert_true(f.v[i] >= f.v[i - 1]);
        between += f.v[i] > 1 && f.v[i] < 32;
    }
    assert_true(between >= 2 && between <= 6);
    json_object_set_new(config, "rope_scaling", json_null());
    assert_false(exo_hf_rope_factors(text, a, 0, &f));
    json_decref(text);
    json_decref(config);
}

/* What add_config says of a small llama whose members are those, before others. */
static void expect_config(const char *members, const char *want) {
    char text[1024];
    exo_gguf_writer w = {0};
    exo_error err = {0};
    const exo_hf_arch *a;
    json_t *config;
    snprintf(
        text, sizeof text,
        "{\"model_type\":\"llama\",\"hidden_size\":64,\"num_attention_heads\":4,"
        "\"num_hidden_layers\":2,\"intermediate_size\":96,\"max_position_embeddings\":128%s%s}",
        members[0] != '\0' ? "," : "", members);
    json_t *file = json_loads(text, 0, NULL);
    assert_non_null(file);
    assert_int_equal(exo_hf_find_family(file, &a, &config, &err), EXO_OK);
    exo_status st = exo_hf_add_config(config, a, &w, &err);
    if ((st == EXO_OK) != (want == NULL) || (want != NULL && strstr(err.message, want) == NULL)) {
        fail_msg("%s: \"%s\"", members, err.message);
    }
    exo_gguf_writer_finish(&w);
    json_decref(config);
    json_decref(file);
}

static void wrong_kinds_are_not_taken_for_absent(void **ud) {
    (void)ud;
    static const struct {
        const char *members, *want; /* NULL: fine */
    } cases[] = {
        {"", NULL},
        {"\"rope_scaling\":null,\"hidden_act\":\"silu\",\"vocab_size\":10", NULL},
        {"\"rope_scaling\":{\"type\":\"linear\",\"factor\":2}", NULL},
        {"\"rope_scaling\":{\"rope_type\":null,\"type\":\"linear\",\"factor\":2}", NULL},
        {"\"rope_scaling\":\"linear\"", "rope_scaling is neither"},
        {"\"rope_scaling\":[]", "rope_scaling is neither"},
        {"\"rope_parameters\":4", "rope_parameters is neither"},
        {"\"rope_scaling\":{\"rope_type\":7,\"factor\":2}", "rope_type of rope_scaling"},
        {"\"rope_scaling\":{\"type\":null,\"factor\":2}", "type of rope_scaling is no string"},
        {"\"rope_scaling\":{\"type\":\"linear\",\"factor\":null}", "linear without a factor"},
        {"\"rope_scaling\":{\"type\":\"yarn\",\"factor\":\"4\"}", "factor is not a number"},
        {"\"rope_theta\":null", "rope_theta is null"},
        {"\"rope_theta\":null,\"rope_parameters\":{\"rope_theta\":5e5}", NULL},
        {"\"rope_theta\":\"1e4\"", "rope_theta is not a number"},
        {"\"vocab_size\":\"10\"", "vocab_size is not a whole number"},
        {"\"vocab_size\":10.5", "vocab_size is not a whole number"},
        {"\"hidden_act\":1", "hidden_act is not a string"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        expect_config(cases[i].members, cases[i].want);
    }
}

static bool is_known(const char *arch) {
    for (size_t i = 0; exo_arch_at(i) != NULL; i++) {
        if (strcmp(exo_arch_at(i)->name, arch) == 0) return true;
    }
    return false;
}

/* What the table in docs/architecture.md says. */
static void architectures_have_folders(void **ud) {
    (void)ud;
    static const char *const have[] = {
        "llama",    "qwen2",    "qwen2moe",   "qwen3",      "qwen3moe", "gemma",     "gemma2",
        "gemma3",   "phi3",     "granite",    "granitemoe", "glm4",     "gpt-oss",   "deepseek2",
        "olmo2",    "olmoe",    "starcoder2", "command-r",  "smollm3",  "internlm2", "exaone",
        "ernie4_5", "seed_oss", "bert",       "nomic-bert"};
    for (size_t i = 0; i < sizeof have / sizeof have[0]; i++) {
        bool found = false;
        const exo_hf_arch *folder;
        for (size_t k = 0; (folder = exo_hf_arch_at(k)) != NULL; k++) {
            found |= strcmp(folder->arch, have[i]) == 0;
            if (!is_known(folder->arch)) fail_msg("%s is no architecture", folder->arch);
        }
        if (!found) fail_msg("no model_type is %s", have[i]);
    }
    const exo_hf_arch *a;
    for (size_t k = 0; (a = exo_hf_arch_at(k)) != NULL; k++) {
        json_t *members = json_loads(a->members, JSON_REJECT_DUPLICATES, NULL);
        if (members == NULL) fail_msg("the members of %s are no JSON", a->model_type);
        const char *const says[] = {a->qkv_bias, a->o_bias, a->ffn_bias};
        for (int i = 0; i < 3; i++) {
            bool named = says[i] != NULL && says[i][0] != '+' && says[i][0] != '-';
            if (named) assert_true(json_is_boolean(json_object_get(members, says[i])));
        }
        json_decref(members);
    }
}

/* gemma-3-4b's text_config says little more than its sizes. */
static void what_is_silent_is_as_the_class_has_it(void **ud) {
    (void)ud;
    json_t *file = json_loads(
        "{\"model_type\":\"gemma3\",\"eos_token_id\":[1,106],\"text_config\":{\"hidden_size\":2560,"
        "\"sliding_window\":1024,\"head_dim\":null}}",
        0, NULL);
    const exo_hf_arch *a;
    json_t *text;
    assert_int_equal(exo_hf_find_family(file, &a, &text, NULL), EXO_OK);
    assert_string_equal(a->arch, "gemma3");
    assert_true(json_number_value(json_object_get(text, "rope_theta")) == 1e6);
    assert_int_equal(json_integer_value(json_object_get(text, "sliding_window")), 1024);
    assert_int_equal(json_integer_value(json_object_get(text, "num_key_value_heads")), 4);
    assert_true(json_is_null(json_object_get(text, "head_dim"))); /* said, if not much */
    assert_int_equal(json_array_size(json_object_get(text, "eos_token_id")), 2);
    assert_true(exo_hf_is_tied(text));
    assert_true(exo_hf_has_member(a, "sliding_window"));
    assert_false(exo_hf_has_member(a, "norm_topk_prob"));
    json_decref(text);
    json_decref(file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pre_tokenizers_are_recognised),
        cmocka_unit_test(names_are_translated),
        cmocka_unit_test(llama3_factors_rise_from_1_to_the_factor),
        cmocka_unit_test(wrong_kinds_are_not_taken_for_absent),
        cmocka_unit_test(architectures_have_folders),
        cmocka_unit_test(what_is_silent_is_as_the_class_has_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
