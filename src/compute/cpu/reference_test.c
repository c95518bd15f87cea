/* The reference against plain double arithmetic and against hand-made blocks: the specification
 * itself must be right, since every other kernel is compared with it. */
#include "base/half.h"
#include "base/le.h"
#include "compute/cpu/reference.h"
#include "compute/cpu/testing.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_exp(void **state) {
    (void)state;
    assert_true(exo_ref_exp(0) == 1 && exo_ref_exp(-0.0f) == 1);
    for (float x = -86.9f; x < 87.9f; x += 0.0137f) {
        double want = exp((double)x);
        assert_true(fabs((double)exo_ref_exp(x) - want) < want * 2.5e-7);
    }
    assert_true(exo_ref_exp(-1000) < 2e-38f && exo_ref_exp(-1000) >= 0);
    assert_true(exo_ref_exp(1000) > 1e38f && isfinite(exo_ref_exp(1000)));
    assert_true(exo_ref_exp(-INFINITY) == exo_ref_exp(-87));
}

static void test_norm_and_silu(void **state) {
    (void)state;
    float x[100], w[100], out[100];
    test_rng rng = {5};
    test_floats(&rng, x, 100);
    test_floats(&rng, w, 100);
    double sum = 0;
    for (int i = 0; i < 100; i++) sum += (double)x[i] * x[i];
    assert_true(exo_ref_norm(out, x, w, 100, 1e-5f));
    for (int i = 0; i < 100; i++) {
        double want = x[i] / sqrt(sum / 100 + 1e-5) * w[i];
        assert_true(fabs(out[i] - want) <= fabs(want) * 1e-6 + 1e-12);
    }
    exo_ref_silu_mul(out, x, w, 100);
    for (int i = 0; i < 100; i++) {
        double want = x[i] / (1 + exp(-(double)x[i])) * w[i];
        assert_true(fabs(out[i] - want) <= fabs(want) * 1e-6 + 1e-12);
    }
}

static void test_quantize(void **state) {
    (void)state;
    float x[256], d[8];
    int8_t q[256];
    int32_t sum[8];
    int16_t sums[EXO_Q256_SUMS];
    for (int i = 0; i < 256; i++) x[i] = (float)i - 127;
    x[255] = 127;
    assert_true(exo_ref_quantize256(x, 256, q, d, sums));
    assert_true(d[0] == 1 && q[0] == -127 && q[127] == 0 && q[254] == 127);
    int by_hand = 0;
    for (int i = 5 * 32; i < 6 * 32; i++) by_hand += q[i];
    assert_int_equal(sums[exo_sum32_at(5)], by_hand);
    by_hand = 0;
    for (int i = 9 * 16; i < 10 * 16; i++) by_hand += q[i];
    assert_int_equal(sums[exo_sum16_at(9)], by_hand);
    for (int i = 0; i < 256; i++) x[i] = (i % 2 == 0 ? 0.5f : 1.5f) * (i % 4 < 2 ? 1 : -1);
    for (int i = 0; i < 256; i += 32) x[i] = 127; /* d = 1: halves are ties, to even */
    assert_true(exo_ref_quantize32(x, 256, q, d, sum));
    assert_true(q[1] == 2 && q[2] == 0 && q[3] == -2 && q[4] == 0);
    for (int i = 0; i < 256; i++) x[i] = 0x1p-101f;
    assert_true(exo_ref_quantize32(x, 256, q, d, sum));
    assert_true(d[0] == 0 && q[0] == 0 && sum[0] == 0);
}

/* Blocks as the file format defines them, their values worked out by hand. */
static void test_embed_blocks(void **state) {
    (void)state;
    exo_pool *pool;
    assert_int_equal(exo_pool_create(1, false, &pool, NULL), EXO_OK);
    uint8_t file[256] = {0};
    float out[256];
    exo_weight *w;
    exo_put_u16(file, exo_f32_to_f16(0.5f)); /* Q4_0: d, then nibbles */
    file[2] = 0xF0;
    assert_int_equal(exo_weight_pack(pool, EXO_Q4_0, 1, 32, file, &w, NULL), EXO_OK);
    exo_ref_embed(w, 0, out);
    assert_true(out[0] == -4 && out[16] == 3.5f && out[1] == -4);
    exo_weight_free(w);

    memset(file, 0, sizeof file); /* Q4_K: sub-block 5 has scale 0x21, minimum 0x32 */
    exo_put_u16(file, exo_f32_to_f16(0.25f));
    exo_put_u16(file + 2, exo_f32_to_f16(0.125f));
    file[4 + 8 + 1] = 0x21; /* low nibbles: scale 1, minimum 2 */
    file[4 + 1] = 2 << 6;   /* upper bits of scale 5 */
    file[4 + 4 + 1] = 3 << 6;
    file[16 + 2 * 32 + 7] = 0xB0; /* element 5 * 32 + 7 is 11 */
    assert_int_equal(exo_weight_pack(pool, EXO_Q4_K, 1, 256, file, &w, NULL), EXO_OK);
    exo_ref_embed(w, 0, out);
    assert_true(out[5 * 32 + 7] == 0.25f * 33 * 11 - 0.125f * 50);
    assert_true(out[5 * 32] == -0.125f * 50 && out[0] == 0);
    exo_weight_free(w);

    memset(file, 0, sizeof file); /* Q6_K: element 128 + 96 + 20 is the upper half's quarter 3 */
    exo_put_u16(file + 208, exo_f32_to_f16(2));
    for (int j = 0; j < 16; j++) file[192 + j] = (uint8_t)(j == 15 ? -3 : 1);
    file[64 + 32 + 20] = 0x50;
    file[128 + 32 + 20] = 0x80;
    assert_int_equal(exo_weight_pack(pool, EXO_Q6_K, 1, 256, file, &w, NULL), EXO_OK);
    exo_ref_embed(w, 0, out);
    assert_true(out[128 + 96 + 20] == 2.0f * -3 * (0x25 - 32));
    assert_true(out[0] == -64 && out[255] == 192);
    exo_weight_free(w);
    exo_pool_destroy(pool);
}

/* Products agree with the dequantised matrix times the row, within the activations' rounding. */
static void test_matmul(void **state) {
    (void)state;
    enum { ROWS = 16, COLS = 512 };
    static uint8_t file[ROWS * COLS * 4];
    static float row[COLS], x[COLS], y[ROWS];
    exo_pool *pool;
    assert_int_equal(exo_pool_create(1, false, &pool, NULL), EXO_OK);
    for (size_t i = 0; i < TEST_N_TYPES; i++) {
        exo_dtype type = test_types[i];
        test_rng rng = {type};
        test_weights(&rng, type, file, ROWS * COLS / exo_dtype_get(type)->block_elems);
        for (int k = 0; k < COLS; k++) x[k] = test_float(&rng);
        exo_weight *w;
        assert_int_equal(exo_weight_pack(pool, type, ROWS, COLS, file, &w, NULL), EXO_OK);
        int8_t q[COLS];
        float d[COLS / 32];
        int32_t sum[COLS / 32];
        int16_t sums[2 * EXO_Q256_SUMS];
        if (exo_act_form_of(type) == EXO_ACT_Q32) (void)exo_ref_quantize32(x, COLS, q, d, sum);
        if (exo_act_form_of(type) == EXO_ACT_Q256) (void)exo_ref_quantize256(x, COLS, q, d, sums);
        exo_act a = {x, q, d, sum, sums, COLS, COLS, COLS / 32};
        exo_matmul_task t = {w, &a, 1, 0, 1, y, ROWS};
        exo_ref_matmul(&t);
        for (uint32_t r = 0; r < ROWS; r++) {
            double want = 0, scale = 0;
            exo_ref_embed(w, r, row);
            for (int k = 0; k < COLS; k++) {
                want += (double)row[k] * x[k];
                scale += (double)row[k] * row[k];
            }
            double bound = exo_act_form_of(type) == EXO_ACT_F32 ? 1e-5 : 2e-2;
            assert_true(fabs(y[r] - want) <= bound * sqrt(scale) + 1e-9);
        }
        exo_weight_free(w);
    }
    exo_pool_destroy(pool);
}

/* Softmax attention over 300 positions in double, against two splits. */
static void test_attention(void **state) {
    (void)state;
    enum { HD = 8, N = 300, PAGES = 10 };
    static uint8_t k_pages[PAGES * HD * 32 * 4], v_pages[PAGES * HD * 32 * 4];
    static float k[N][HD], v[N][HD];
    uint32_t table[PAGES], pos = N - 1;
    float q[HD], out[HD], scratch[4096];
    size_t bytes = exo_kv_page_bytes(EXO_F32, 1, HD);
    exo_kv_pool pool = {k_pages, v_pages, bytes, bytes, HD, HD, EXO_F32};
    test_rng rng = {6};
    for (uint32_t i = 0; i < PAGES; i++) table[i] = (i * 3 + 1) % PAGES;
    for (uint32_t p = 0; p < N; p++) {
        for (int d = 0; d < HD; d++) k[p][d] = test_float(&rng), v[p][d] = test_float(&rng);
        assert_true(exo_ref_kv_store(&pool, table[p / 32], p % 32, 0, k[p], v[p]));
    }
    for (int d = 0; d < HD; d++) q[d] = test_float(&rng) * 3;
    exo_attention_task t = {.q = q,
                            .out = out,
                            .ld_q = HD,
                            .ld_out = HD,
                            .pos = &pos,
                            .n_rows = 1,
                            .n_kv_heads = 1,
                            .group = 1,
                            .head_dim = HD,
                            .v_dim = HD,
                            .scale = 0.5f,
                            .k_pages = k_pages,
                            .v_pages = v_pages,
                            .k_page_bytes = bytes,
                            .v_page_bytes = bytes,
                            .kv_type = EXO_F32,
                            .table = table,
                            .scratch = scratch};
    exo_ref_attention(&t);
    double sum = 0, want[HD] = {0};
    for (int p = 0; p < N; p++) {
        double s = 0;
        for (int d = 0; d < HD; d++) s += (double)q[d] * k[p][d];
        for (int d = 0; d < HD; d++) want[d] += exp(s * 0.5) * v[p][d];
        sum += exp(s * 0.5);
    }
    for (int d = 0; d < HD; d++) assert_true(fabs(out[d] - want[d] / sum) < 1e-6);
}

static void test_rope(void **state) {
    (void)state;
    float a[6] = {1, 2, 3, 4, 5, 6}, b[6] = {1, 2, 3, 4, 5, 6};
    const float c[2] = {0, 1}, s[2] = {1, 0};
    exo_ref_rope(a, c, s, 4, false); /* pairs (0, 1), (2, 3); the rest stays */
    const float want_a[6] = {-2, 1, 3, 4, 5, 6};
    assert_memory_equal(a, want_a, sizeof a);
    exo_ref_rope(b, c, s, 4, true); /* pairs (0, 2), (1, 3) */
    const float want_b[6] = {-3, 2, 1, 4, 5, 6};
    assert_memory_equal(b, want_b, sizeof b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exp),      cmocka_unit_test(test_norm_and_silu),
        cmocka_unit_test(test_quantize), cmocka_unit_test(test_embed_blocks),
        cmocka_unit_test(test_matmul),   cmocka_unit_test(test_attention),
        cmocka_unit_test(test_rope),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
