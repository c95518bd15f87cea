/* train_test.c - what the arrival of a train says, and what it does not. */
#include "net/train.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void the_spread_is_the_rate(void **ud) {
    (void)ud;
    exo_train t;
    exo_train_begin(&t, 7, 16);
    for (uint32_t i = 0; i < 16; i++) exo_train_note(&t, 7, i, 1250, 1000 + 200 * i);
    assert_true(exo_train_rate(&t) == 1250 * 15 / 0.003); /* 50 Mbit/s */
    exo_train_note(&t, 7, 3, 1250, 9000);                 /* twice */
    exo_train_note(&t, 8, 3, 1250, 9000);                 /* of another train */
    exo_train_note(&t, 7, 16, 1250, 9000);                /* beyond the end */
    assert_int_equal(t.n_got, 16);
    assert_true(exo_train_rate(&t) == 1250 * 15 / 0.003);
}

static void loss_and_disorder_do_not_matter_much(void **ud) {
    (void)ud;
    exo_train t;
    exo_train_begin(&t, 7, 16);
    for (uint32_t i = 16; i-- > 0;) {
        if (i % 5 != 2) exo_train_note(&t, 7, i, 1250, 1000 + 200 * i);
    }
    assert_int_equal(t.n_got, 13);
    double rate = exo_train_rate(&t);
    assert_true(rate > 0.75 * 1250 * 5000 && rate < 1250 * 5000 * 1.01);
    exo_train_begin(&t, 7, 16);
    for (uint32_t i = 0; i < 7; i++) exo_train_note(&t, 7, i, 1250, 1000 + 200 * i);
    assert_true(exo_train_rate(&t) == 0); /* too few */
    exo_train_begin(&t, 7, 1 << 20);
    assert_int_equal(t.n_sent, EXO_TRAIN_LONG);
}

static void only_trains_are_read(void **ud) {
    (void)ud;
    uint8_t bytes[EXO_TRAIN_BYTES];
    uint64_t token;
    uint32_t index;
    exo_train_write(0x1122334455667788u, 95, bytes);
    assert_true(exo_train_read(bytes, sizeof bytes, &token, &index));
    assert_true(token == 0x1122334455667788u);
    assert_int_equal(index, 95);
    for (size_t n = 0; n < sizeof bytes; n += 7) {
        assert_false(exo_train_read(bytes, n, &token, &index));
    }
    bytes[0] ^= 1;
    assert_false(exo_train_read(bytes, sizeof bytes, &token, &index));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_spread_is_the_rate),
        cmocka_unit_test(loss_and_disorder_do_not_matter_much),
        cmocka_unit_test(only_trains_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
