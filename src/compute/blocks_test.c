/* Blocks whose values are worked out by hand from the formats' descriptions.  tests/oracle compares
 * blocks of random bytes with ggml. */
#include "compute/blocks.h"

#include "base/half.h"
#include "base/le.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static uint8_t b[EXO_BLOCK_MAX_BYTES];
static float v[EXO_BLOCK_MAX_ELEMS];

static void clear(void) { memset(b, 0, sizeof b); }

static void put_half(int at, float x) { exo_put_u16(b + at, exo_f32_to_f16(x)); }

static void decode(exo_dtype type) {
    assert_true(exo_block_known(type));
    exo_dequantize(type, b, exo_dtype_get(type)->block_elems, v);
}

static void test_blocks_of_32(void **state) {
    (void)state;
    clear();
    put_half(0, 0.5f);
    put_half(2, -1);
    b[4 + 3] = 0xA4;
    decode(EXO_Q4_1);
    assert_true(v[3] == 1 && v[19] == 4 && v[0] == -1);
    clear();
    put_half(0, 2);
    exo_put_u32(b + 2, 1u << 3 | 1u << 20);
    b[6 + 4] = 0x50;
    decode(EXO_Q5_0);
    assert_true(v[3] == 0 && v[20] == 10 && v[4] == -32 && v[31] == -32);
    clear();
    put_half(0, 2);
    put_half(2, 0.25f);
    exo_put_u32(b + 4, 1u << 31);
    b[8 + 15] = 0xF7;
    decode(EXO_Q5_1);
    assert_true(v[31] == 62.25f && v[15] == 14.25f && v[0] == 0.25f);
    clear();
    put_half(0, -1);
    b[2] = 0xF0;
    decode(EXO_IQ4_NL);
    assert_true(v[0] == 127 && v[16] == -113);
    clear();
    b[0] = 127; /* 2^0 of the values as they are written: 6 is the largest */
    b[1] = 0xF7;
    b[2] = 0x81;
    decode(EXO_MXFP4);
    assert_true(v[0] == 6 && v[16] == -6 && v[1] == 0.5f && v[17] == 0);
    assert_true(exo_mxfp4_scale(0) == 0x1p-128f && exo_mxfp4_scale(1) == 0x1p-127f);
    assert_true(exo_mxfp4_scale(2) == 0x1p-126f && exo_mxfp4_scale(255) == 0x1p127f);
}

static void test_blocks_of_256(void **state) {
    (void)state;
    clear();
    put_half(80, 1);
    put_half(82, 0.5f);
    b[9] = 0x32; /* elements 144 to 159: scale 2, minimum 3 */
    b[16 + 32 + 16] = 0x03;
    decode(EXO_Q2_K);
    assert_true(v[144] == 2 * 3 - 1.5f && v[145] == -1.5f && v[143] == 0);
    clear();
    put_half(108, 1);
    b[96 + 1] = 0x50;       /* low bits of scale 9 */
    b[96 + 8 + 1] = 2 << 4; /* and its high ones: 37 - 32 */
    b[16] = 1 << 4;         /* high bit of element 144 */
    b[32 + 32 + 16] = 0x02;
    decode(EXO_Q3_K);
    assert_true(v[144] == 5 * 2 && v[145] == 5 * -4 && v[0] == -32 * -4);
    clear();
    put_half(0, 0.25f);
    put_half(2, 0.125f);
    b[4 + 8 + 1] = 0x21; /* sub-block 5: scale 1 + 32, minimum 2 + 48 */
    b[4 + 1] = 2 << 6;
    b[4 + 4 + 1] = 3 << 6;
    b[16 + 7] = 1 << 5;
    b[48 + 2 * 32 + 7] = 0xB0;
    decode(EXO_Q5_K);
    assert_true(v[5 * 32 + 7] == 0.25f * 33 * 27 - 0.125f * 50 && v[5 * 32] == -0.125f * 50);
    clear();
    put_half(0, 1);
    exo_put_u16(b + 2, 2 << 12); /* high bits of scale 6 */
    b[4 + 3] = 0x0F;             /* low ones: 47 - 32 */
    b[8 + 6 * 16 + 2] = 0xF0;
    decode(EXO_IQ4_XS);
    assert_true(v[6 * 32 + 2] == 15 * -127 && v[6 * 32 + 18] == 15 * 113 && v[0] == -32 * -127);
}

static void test_codebooks(void **state) {
    (void)state;
    clear();
    put_half(0, 8);
    b[2 + 8] = 1; /* sub-block 1: entry 1 is 43, 8, 8 ...; signs: first, and so the eighth */
    exo_put_u32(b + 2 + 12, 3u << 28 | 1);
    decode(EXO_IQ2_XXS);
    assert_true(v[32] == 7 * -43 && v[33] == 7 * 8 && v[39] == 7 * -8 && v[40] == 7 * 8);
    assert_true(v[0] == 8);
    clear();
    put_half(0, 8);
    exo_put_u16(b + 2 + 2 * 31, 1 | 2 << 9);
    b[66 + 7] = 0x40; /* sub-block 15 */
    decode(EXO_IQ2_XS);
    assert_true(v[248] == 9 * 43 && v[249] == 9 * -8 && v[255] == 9 * -8 && v[0] == 8);
    clear();
    put_half(0, 8);
    b[2 + 1] = 1;
    b[34 + 1] = 0x82;
    decode(EXO_IQ2_S);
    assert_true(v[8] == 43 && v[9] == -8 && v[10] == 8 && v[15] == -8);
    clear();
    put_half(0, 4);
    b[2] = 1, b[3] = 3;
    exo_put_u32(b + 66, 1u << 28 | 0x41); /* elements 0 and 6 */
    decode(EXO_IQ3_XXS);
    assert_true(v[0] == 3 * -20 && v[1] == 3 * 4 && v[4] == 3 * 12 && v[6] == 3 * -4);
    clear();
    put_half(0, 1);
    b[2 + 2] = 1;
    b[74 + 1] = 1;
    b[106] = 2;
    decode(EXO_IQ3_S);
    assert_true(v[8] == 5 * -3 && v[9] == 5 && v[32] == 1);
    clear();
    put_half(0, 8);
    b[2 + 4] = 1;
    exo_put_u16(b + 34 + 2, 1u << 12);
    exo_put_u16(b + 34, 0x8000);
    decode(EXO_IQ1_S);
    assert_true(v[0] == -9 && v[32] == 3 * 9 && v[33] == 3 * -7);
    clear();
    exo_put_u16(b + 54, 0x4000 | 2 << 9); /* d = 2 from the top nibbles; sub-block 15 */
    b[31] = 1;
    b[47] = 0x80;
    decode(EXO_IQ1_M);
    assert_true(v[248] == 5 * 0.25f * 7 && v[249] == 5 * 0.25f * -9 && v[0] == -0.25f * 7);
}

static void test_floats_and_strangers(void **state) {
    (void)state;
    exo_put_u32(b, 0x40490FDB);
    exo_dequantize(EXO_F32, b, 1, v);
    exo_dequantize(EXO_BF16, b + 2, 1, v + 1);
    put_half(0, 1.5f);
    exo_dequantize(EXO_F16, b, 1, v + 2);
    assert_true(fabsf(v[0] - 3.14159274f) < 1e-7f && v[1] == 3.140625f && v[2] == 1.5f);
    assert_false(exo_block_known(EXO_F32) || exo_block_known(EXO_Q8_K));
    assert_false(exo_block_known((exo_dtype)1000));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks_of_32),
        cmocka_unit_test(test_blocks_of_256),
        cmocka_unit_test(test_codebooks),
        cmocka_unit_test(test_floats_and_strangers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
