/* placement_test.c - every split covers each layer once, in order, evenly. */
#include "cluster/placement.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void make_candidates(exo_place_candidate *c, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        snprintf(c[i].node_id, sizeof c[i].node_id, "%016x", i);
        snprintf(c[i].device_id, sizeof c[i].device_id, "cpu:0");
    }
}

static void test_every_split_covers_all_layers_once(void **state) {
    (void)state;
    exo_place_candidate c[EXO_MAX_STAGES];
    make_candidates(c, EXO_MAX_STAGES);
    for (uint32_t n_layers = 1; n_layers <= 80; n_layers++) {
        for (uint32_t n = 1; n <= n_layers && n <= EXO_MAX_STAGES; n++) {
            exo_shard_place p[EXO_MAX_STAGES];
            assert_int_equal(exo_place_even(c, EXO_MAX_STAGES, n_layers, n, p, NULL), EXO_OK);
            uint32_t next = 0, least = UINT32_MAX, most = 0;
            for (uint32_t i = 0; i < n; i++) {
                assert_int_equal(p[i].start_layer, next);
                assert_true(p[i].end_layer > p[i].start_layer);
                assert_string_equal(p[i].node_id, c[i].node_id);
                uint32_t share = p[i].end_layer - p[i].start_layer;
                if (share < least) least = share;
                if (share > most) most = share;
                next = p[i].end_layer;
            }
            assert_int_equal(next, n_layers);
            assert_true(most - least <= 1);
        }
    }
}

static void test_refusals_say_both_numbers(void **state) {
    (void)state;
    exo_place_candidate c[4];
    make_candidates(c, 4);
    exo_shard_place p[EXO_MAX_STAGES];
    exo_error err;
    assert_int_equal(exo_place_even(c, 2, 12, 3, p, &err), EXO_EINVAL);
    assert_non_null(strstr(err.message, "3 nodes"));
    assert_non_null(strstr(err.message, "2 can"));
    assert_int_equal(exo_place_even(c, 4, 2, 3, p, &err), EXO_EINVAL);
    assert_non_null(strstr(err.message, "2 layers"));
    assert_int_equal(exo_place_even(c, 4, 12, 0, p, &err), EXO_EINVAL);
}

static void test_cuts_are_taken_as_given(void **state) {
    (void)state;
    exo_place_candidate c[3];
    make_candidates(c, 3);
    exo_shard_place p[3];
    exo_error err;
    const uint32_t good[] = {1, 11}, equal[] = {4, 4}, beyond[] = {4, 12};
    assert_int_equal(exo_place_cuts(c, 3, 12, 3, good, p, &err), EXO_OK);
    assert_int_equal(p[0].end_layer, 1);
    assert_int_equal(p[1].end_layer, 11);
    assert_int_equal(p[2].end_layer, 12);
    assert_int_equal(exo_place_cuts(c, 3, 12, 3, equal, p, &err), EXO_EINVAL);
    assert_int_equal(exo_place_cuts(c, 3, 12, 3, beyond, p, &err), EXO_EINVAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_split_covers_all_layers_once),
        cmocka_unit_test(test_refusals_say_both_numbers),
        cmocka_unit_test(test_cuts_are_taken_as_given),
    };
    return cmocka_run_group_tests_name("placement", tests, NULL, NULL);
}
