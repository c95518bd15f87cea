/* Packing: what goes in comes out again, byte for byte, and costs no more than padding rows. */
#include "base/mem.h"
#include "compute/cpu/testing.h"
#include "compute/cpu/weight.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void check_round_trip(exo_pool *pool, exo_dtype type, uint32_t rows, uint32_t cols) {
    size_t bytes = rows * exo_dtype_row_bytes(type, cols);
    uint8_t *file = exo_malloc(bytes), *back = exo_calloc(1, bytes);
    assert_true(file != NULL && back != NULL);
    test_rng rng = {rows + cols};
    for (size_t i = 0; i < bytes; i++) file[i] = (uint8_t)test_next(&rng); /* any bits */
    exo_weight *w;
    assert_int_equal(exo_weight_pack(pool, type, rows, cols, file, &w, NULL), EXO_OK);
    exo_weight_unpack(w, back);
    assert_memory_equal(file, back, bytes);
    assert_int_equal((uintptr_t)w->quants % 64, 0);
    assert_int_equal((uintptr_t)w->scales % 64, 0);
    uint32_t padded = (rows + 15) / 16 * 16;
    assert_true(w->memory_bytes <= padded * exo_dtype_row_bytes(type, cols) + 64);
    uint32_t block_bytes = exo_dtype_get(type)->block_bytes;
    uint8_t block[256], zero[256] = {0};
    for (uint32_t row = rows; row < padded; row++) {
        exo_weight_block(w, row, w->n_blocks - 1, block);
        assert_memory_equal(block, zero, block_bytes);
    }
    exo_weight_free(w);
    exo_free(file);
    exo_free(back);
}

static void test_round_trip(void **state) {
    (void)state;
    static const uint32_t rows[] = {1, 15, 16, 17, 50};
    static const uint32_t cols[] = {1, 8, 32, 96, 172, 256, 768};
    exo_pool *pool;
    assert_int_equal(exo_pool_create(3, false, &pool, NULL), EXO_OK);
    for (size_t i = 0; i < TEST_N_TYPES; i++) {
        assert_true(exo_weight_supported(test_types[i]));
        for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
            for (size_t c = 0; c < sizeof cols / sizeof cols[0]; c++) {
                if (cols[c] % exo_dtype_get(test_types[i])->block_elems != 0) continue;
                check_round_trip(pool, test_types[i], rows[r], cols[c]);
            }
        }
    }
    exo_pool_destroy(pool);
}

/* Bytes packed before make the same weight again; others are refused. */
static void test_adopted(void **state) {
    (void)state;
    enum { ROWS = 37, COLS = 512 };
    exo_pool *pool;
    exo_weight *w, *again;
    exo_error err;
    size_t n = ROWS * exo_dtype_row_bytes(EXO_Q8_0, COLS);
    uint8_t *file = malloc(n), *back = malloc(n);
    assert_true(file != NULL && back != NULL);
    for (size_t i = 0; i < n; i++) file[i] = (uint8_t)(i * 7 + i / 251);
    assert_int_equal(exo_pool_create(2, false, &pool, NULL), EXO_OK);
    assert_int_equal(exo_weight_pack(pool, EXO_Q8_0, ROWS, COLS, file, &w, &err), EXO_OK);
    exo_packed p = {EXO_Q8_0, ROWS, COLS, w->memory, w->memory_bytes, 0};
    p.sum = exo_packed_sum(p.bytes, p.n_bytes);
    assert_int_equal(exo_weight_adopt(pool, &p, &again, &err), EXO_OK);
    exo_weight_unpack(again, back);
    assert_memory_equal(back, file, n);
    exo_weight_free(again); /* the bytes stay w's */
    exo_packed wrong[3] = {p, p, p};
    wrong[0].sum++;
    wrong[1].n_bytes--;
    wrong[2].n_rows += EXO_GROUP_ROWS;
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(exo_weight_adopt(pool, &wrong[i], &again, &err), EXO_EFORMAT);
        assert_null(again);
    }
    exo_weight_free(w);
    exo_pool_destroy(pool);
    free(file);
    free(back);
}

static void test_refusals(void **state) {
    (void)state;
    static const uint8_t file[1024];
    exo_pool *pool;
    exo_weight *w;
    exo_error err;
    assert_int_equal(exo_pool_create(1, false, &pool, NULL), EXO_OK);
    assert_int_equal(exo_weight_pack(pool, EXO_Q4_0, 1, 33, file, &w, &err), EXO_EINVAL);
    assert_non_null(strstr(err.message, "33 columns"));
    assert_int_equal(exo_weight_pack(pool, EXO_F32, 0, 8, file, &w, &err), EXO_EINVAL);
    assert_int_equal(exo_weight_pack(pool, EXO_F32, 1u << 29, 8, file, &w, &err), EXO_EINVAL);
    assert_int_equal(exo_weight_pack(pool, EXO_Q8_K, 1, 256, file, &w, &err), EXO_EUNSUPPORTED);
    assert_non_null(strstr(err.message, exo_dtype_get(EXO_Q8_K)->name));
    assert_int_equal(exo_weight_pack(pool, (exo_dtype)1000, 1, 256, file, &w, &err),
                     EXO_EUNSUPPORTED);
    for (uint64_t k = 1; k <= 2; k++) {
        exo_mem_fail_at(k);
        assert_int_equal(exo_weight_pack(pool, EXO_F32, 1, 8, file, &w, &err), EXO_ENOMEM);
        assert_null(w);
    }
    exo_mem_fail_at(0);
    exo_pool_destroy(pool);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_adopted),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
