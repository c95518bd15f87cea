/* Specialised kernels: constants are numbers, what they switch off is gone, the rest is untouched.
 */
#include "compute/vulkan/specialise.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OP(n, op) ((uint32_t)(n) << 16 | (op))

enum { VOID = 1, FN, BOOL, UINT, MAIN, SPEC, SEVEN, IS, ENTRY, THEN, ELSE, END, SUM, GONE, N_IDS };

/* void main() { x = spec > 7 ? 7 + 7 : spec; } as a header, two branches and a phi. */
static const uint32_t choice[] = {
    0x07230203, 0x10300,   0,     N_IDS,      0,                            //
    OP(2, 17),  1,                                                          // OpCapability Shader
    OP(3, 14),  0,         1,                                               // OpMemoryModel
    OP(5, 15),  5,         MAIN,  0x6e69616d, 0,     OP(4, 71), SPEC, 1, 0, // SpecId 0
    OP(3, 71),  GONE,      42,                              // NoContraction, as good as any
    OP(2, 19),  VOID,                                       //
    OP(3, 33),  FN,        VOID,                            //
    OP(2, 20),  BOOL,                                       //
    OP(4, 21),  UINT,      32,    0,                        //
    OP(4, 50),  UINT,      SPEC,  3,                        // OpSpecConstant
    OP(4, 43),  UINT,      SEVEN, 7,                        //
    OP(6, 52),  BOOL,      IS,    172,        SPEC,  SEVEN, // OpSpecConstantOp UGreaterThan
    OP(5, 54),  VOID,      MAIN,  0,          FN,           //
    OP(2, 248), ENTRY,                                      //
    OP(3, 247), END,       0,                               // OpSelectionMerge
    OP(4, 250), IS,        THEN,  ELSE,                     //
    OP(2, 248), THEN,                                       //
    OP(5, 128), UINT,      GONE,  SEVEN,      SEVEN,        //
    OP(2, 249), END,                                        //
    OP(2, 248), ELSE,                                       //
    OP(2, 249), END,                                        //
    OP(2, 248), END,                                        //
    OP(7, 245), UINT,      SUM,   GONE,       THEN,  SPEC,      ELSE, //
    OP(1, 253), OP(1, 56),
};
#define N_CHOICE (sizeof choice / sizeof choice[0])

static uint32_t *specialise(const uint32_t *code, size_t n_words, uint32_t spec, size_t *n) {
    uint32_t *out;
    exo_error err = {0};
    exo_vk_module_desc desc = {code, n_words, &spec, 1, "kernel"};
    if (exo_vk_specialise(&desc, &out, n, &err) != EXO_OK) fail_msg("%s", err.message);
    return out;
}

/* The i-th instruction of this kind; NULL when there are fewer. */
static const uint32_t *find(const uint32_t *code, size_t n, uint32_t op, int i) {
    for (size_t at = 5; at < n; at += code[at] >> 16) {
        if ((code[at] & 0xffff) == op && i-- == 0) return code + at;
    }
    return NULL;
}

static void test_branch_taken(void **state) {
    (void)state;
    size_t n;
    uint32_t *out = specialise(choice, N_CHOICE, 8, &n);
    const uint32_t *spec = find(out, n, 43, 0);
    assert_true(spec[2] == SPEC && spec[3] == 8);
    assert_null(find(out, n, 50, 0));
    assert_null(find(out, n, 52, 0));
    assert_int_equal(find(out, n, 41, 0)[2], IS); /* OpConstantTrue */
    assert_null(find(out, n, 247, 0));            /* no selection is left */
    assert_int_equal(find(out, n, 249, 0)[1], THEN);
    assert_int_equal(find(out, n, 71, 0)[1], GONE); /* still there; SpecId is not */
    const uint32_t *phi = find(out, n, 245, 0);
    assert_true(phi[0] == OP(5, 245) && phi[3] == GONE && phi[4] == THEN);
    assert_int_equal(find(out, n, 5, 0)[1], MAIN);
    assert_string_equal((const char *)(find(out, n, 5, 0) + 2), "kernel");
    exo_free(out);
}

static void test_branch_not_taken(void **state) {
    (void)state;
    size_t n;
    uint32_t *out = specialise(choice, N_CHOICE, 7, &n);
    assert_int_equal(find(out, n, 42, 0)[2], IS); /* OpConstantFalse */
    assert_null(find(out, n, 128, 0));            /* the sum and what is said about it are gone */
    assert_null(find(out, n, 71, 0));
    assert_int_equal(find(out, n, 249, 0)[1], ELSE);
    const uint32_t *phi = find(out, n, 245, 0);
    assert_true(phi[0] == OP(5, 245) && phi[3] == SPEC && phi[4] == ELSE);
    exo_free(out);
}

static void test_default_value(void **state) {
    (void)state;
    uint32_t *out;
    size_t n;
    exo_vk_module_desc desc = {choice, N_CHOICE, NULL, 0, "k"};
    assert_int_equal(exo_vk_specialise(&desc, &out, &n, NULL), EXO_OK);
    assert_int_equal(find(out, n, 43, 0)[3], 3);
    exo_free(out);
}

/* What has been specialised has nothing left to specialise. */
static void test_twice(void **state) {
    (void)state;
    size_t n, again_n;
    uint32_t *out = specialise(choice, N_CHOICE, 8, &n);
    uint32_t *again = specialise(out, n, 3, &again_n);
    const uint32_t *name = find(again, again_n, 5, 1); /* there are two now */
    assert_int_equal(again_n, n + (name[0] >> 16));
    exo_free(out);
    exo_free(again);
}

/* Every kernel of the program, as the pipelines want them; the validation layer of the other tests
 * sees whether the results are valid. */
static void test_committed_kernels(void **state) {
    (void)state;
    static const char *const names[] = {"matmul_f32", "matmul_q6_k_subgroup",
                                        "attention",  "matmul_q4_0_texel",
                                        "rope_kv",    "embed_q4_k"};
    static uint32_t code[1 << 18];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[512];
        (void)snprintf(path, sizeof path, "%s/src/compute/kernels/spv/%s.spv", EXO_SOURCE_DIR,
                       names[i]);
        FILE *f = fopen(path, "rb");
        assert_non_null(f);
        size_t words = fread(code, 4, sizeof code / 4, f), n;
        (void)fclose(f);
        uint32_t *out = specialise(code, words, 8, &n);
        for (uint32_t op = 48; op <= 52; op++) assert_null(find(out, n, op, 0));
        exo_free(out);
    }
}

static void test_refusals(void **state) {
    (void)state;
    uint32_t bad[N_CHOICE], *out;
    size_t n;
    exo_error err;
    exo_vk_module_desc desc = {bad, N_CHOICE, NULL, 0, "broken"};
    for (size_t i = 0; i < N_CHOICE; i++) { /* a length of nothing, then one beyond the end */
        for (uint32_t length = 0; length <= 0xffff; length += 0xffff) {
            memcpy(bad, choice, sizeof bad);
            bad[i] = length << 16 | (bad[i] & 0xffff);
            if (exo_vk_specialise(&desc, &out, &n, &err) == EXO_OK) exo_free(out);
        }
    }
    memcpy(bad, choice, sizeof bad);
    bad[0] = 1;
    assert_int_equal(exo_vk_specialise(&desc, &out, &n, &err), EXO_EINVAL);
    assert_non_null(strstr(err.message, "broken"));
    for (size_t words = 0; words < N_CHOICE; words++) { /* cut short; whole instructions may do */
        memcpy(bad, choice, sizeof bad);
        desc.n_words = words;
        if (exo_vk_specialise(&desc, &out, &n, &err) == EXO_OK) exo_free(out);
    }
}

static void test_no_memory(void **state) {
    (void)state;
    uint32_t *out;
    size_t n;
    exo_vk_module_desc desc = {choice, N_CHOICE, NULL, 0, "k"};
    for (uint64_t k = 1; k <= 4; k++) {
        exo_mem_fail_at(k);
        assert_int_equal(exo_vk_specialise(&desc, &out, &n, NULL), EXO_ENOMEM);
        assert_null(out);
    }
    exo_mem_fail_at(0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_branch_taken),      cmocka_unit_test(test_branch_not_taken),
        cmocka_unit_test(test_default_value),     cmocka_unit_test(test_twice),
        cmocka_unit_test(test_committed_kernels), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
