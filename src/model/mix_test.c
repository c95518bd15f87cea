/* Mixes: the types that llama.cpp's quantiser writes for the same names (node-llama-cpp 3.22.1,
 * compared tensor by tensor over 32 layers; a sample of them is repeated here). */
#include "model/mix.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static const exo_mix_model plain = {32, 32, 16, 0, false}; /* two heads share keys and values */
static const exo_mix_model shared = {32, 32, 8, 0, true};  /* four do; no head of its own */
static const exo_mix_model experts = {32, 32, 16, 8, false};

static exo_dtype type_of(const char *mix, const exo_mix_model *m, const char *tensor) {
    const exo_mix *found = exo_mix_find(mix);
    assert_non_null(found);
    return exo_mix_type(found, m, tensor, 4096);
}

static void heads_get_six_bits(void **state) {
    (void)state;
    static const char *const names[] = {"q4_0", "q5_1", "q2_K", "q3_K_S", "q4_K_M", "iq4_xs"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_int_equal(type_of(names[i], &plain, "output.weight"), EXO_Q6_K);
        assert_int_equal(type_of(names[i], &shared, "token_embd.weight"), EXO_Q6_K);
        assert_int_equal(type_of(names[i], &plain, "token_embd.weight"),
                         exo_mix_find(names[i])->base);
    }
    assert_int_equal(type_of("q8_0", &plain, "output.weight"), EXO_Q8_0);
    assert_int_equal(type_of("bf16", &plain, "output.weight"), EXO_BF16);
}

static void layers_get_what_their_place_asks_for(void **state) {
    (void)state;
    static const struct {
        const char *mix, *part;
        exo_dtype at_0, at_3, at_5, at_30; /* layers */
    } wanted[] = {
        {"q4_K_M", "attn_v", EXO_Q6_K, EXO_Q6_K, EXO_Q4_K, EXO_Q6_K},
        {"q5_k_m", "ffn_down", EXO_Q6_K, EXO_Q6_K, EXO_Q5_K, EXO_Q6_K},
        {"q4_K_M", "ffn_up", EXO_Q4_K, EXO_Q4_K, EXO_Q4_K, EXO_Q4_K},
        {"q4_K_S", "attn_v", EXO_Q5_K, EXO_Q5_K, EXO_Q4_K, EXO_Q4_K},
        {"q4_K_S", "ffn_down", EXO_Q5_K, EXO_Q5_K, EXO_Q4_K, EXO_Q4_K},
        {"q3_K_M", "attn_v", EXO_Q5_K, EXO_Q4_K, EXO_Q4_K, EXO_Q4_K},
        {"q3_K_M", "attn_output", EXO_Q4_K, EXO_Q4_K, EXO_Q4_K, EXO_Q4_K},
        {"q3_K_L", "ffn_down", EXO_Q5_K, EXO_Q5_K, EXO_Q5_K, EXO_Q5_K},
        {"q2_K", "attn_v", EXO_Q3_K, EXO_Q3_K, EXO_Q3_K, EXO_Q3_K},
        {"iq4_xs", "ffn_down", EXO_Q5_K, EXO_Q5_K, EXO_IQ4_XS, EXO_IQ4_XS},
        {"q5_K_M", "attn_qkv", EXO_Q6_K, EXO_Q6_K, EXO_Q6_K, EXO_Q6_K},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        static const int layers[] = {0, 3, 5, 30};
        const exo_dtype types[] = {wanted[i].at_0, wanted[i].at_3, wanted[i].at_5, wanted[i].at_30};
        for (int k = 0; k < 4; k++) {
            char name[64];
            snprintf(name, sizeof name, "blk.%d.%s.weight", layers[k], wanted[i].part);
            exo_dtype type = type_of(wanted[i].mix, &plain, name);
            if (type != types[k]) {
                fail_msg("%s %s: %s", wanted[i].mix, name, exo_dtype_get(type)->name);
            }
        }
    }
    assert_int_equal(type_of("q2_K", &shared, "blk.9.attn_v.weight"), EXO_Q4_K);
    assert_int_equal(type_of("iq4_nl", &shared, "blk.9.attn_v.weight"), EXO_Q5_K);
    assert_int_equal(type_of("q4_K_M", &experts, "blk.5.attn_v.weight"), EXO_Q8_0);
    assert_int_equal(type_of("q4_K_M", &experts, "blk.5.attn_output.weight"), EXO_Q5_K);
    assert_int_equal(type_of("mxfp4_moe", &experts, "blk.5.ffn_up_exps.weight"), EXO_MXFP4);
    assert_int_equal(type_of("mxfp4_moe", &experts, "blk.5.attn_q.weight"), EXO_Q8_0);
}

static void rows_of_broken_blocks_fall_back(void **state) {
    (void)state;
    static const struct {
        const char *mix;
        uint64_t n_cols;
        exo_dtype type;
    } wanted[] = {
        {"q2_K", 288, EXO_Q4_0},   {"q3_K_S", 288, EXO_Q4_0}, {"q4_K_S", 288, EXO_Q5_0},
        {"q5_K_S", 288, EXO_Q5_1}, {"q6_K", 288, EXO_Q8_0},   {"iq4_xs", 288, EXO_IQ4_NL},
        {"q4_K_S", 172, EXO_F16},  {"q4_0", 172, EXO_F16},    {"f32", 172, EXO_F32},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        exo_dtype type = exo_mix_type(exo_mix_find(wanted[i].mix), &plain, "blk.9.ffn_up.weight",
                                      wanted[i].n_cols);
        assert_int_equal(type, wanted[i].type);
    }
    assert_null(exo_mix_find("q4_K_X"));
    size_t n = 0;
    while (exo_mix_at(n) != NULL) n++;
    assert_int_equal(n, 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads_get_six_bits),
        cmocka_unit_test(layers_get_what_their_place_asks_for),
        cmocka_unit_test(rows_of_broken_blocks_fall_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
