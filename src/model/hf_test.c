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
    static const char *const strange[] = {"model.layers.x.mlp.up_proj.weight",
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

/* What the table in docs/architecture.md says. */
static void every_architecture_has_a_folder(void **ud) {
    (void)ud;
    for (size_t i = 0; exo_arch_at(i) != NULL; i++) {
        const exo_hf_arch *a;
        bool found = false;
        for (size_t k = 0; (a = exo_hf_arch_at(k)) != NULL; k++) {
            found |= strcmp(a->arch, exo_arch_at(i)->name) == 0;
        }
        if (!found) fail_msg("no model_type is %s", exo_arch_at(i)->name);
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
        cmocka_unit_test(every_architecture_has_a_folder),
        cmocka_unit_test(what_is_silent_is_as_the_class_has_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
