/* redial_test.c - dialling again and giving up, on virtual time. */
#include "node/redial.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define DAY_MS 86400000u

/* A try that failed at once; how long the next one waits. */
static uint64_t one_try_fails(exo_redial *r, uint64_t *now_ms) {
    *now_ms = r->at_ms;
    exo_redial_ended(r, *now_ms);
    return r->at_ms - *now_ms;
}

static void waits_grow_to_five_seconds_for_two_minutes(void **state) {
    (void)state;
    static const uint64_t first[] = {250, 500, 1000, 2000, 4000};
    exo_redial r;
    uint64_t now = 0;
    exo_redial_start(&r, 1000, true);
    assert_true(r.at_ms == 1000);
    for (size_t i = 0; i < sizeof first / sizeof *first; i++) {
        assert_true(one_try_fails(&r, &now) == first[i]);
    }
    uint64_t wait = one_try_fails(&r, &now);
    for (; wait == 5000; wait = one_try_fails(&r, &now)) assert_true(now < DAY_MS);
    assert_in_range(now, 115000, 130000);
    assert_true(wait > 5000);
}

static void waits_grow_on_to_a_minute(void **state) {
    (void)state;
    exo_redial r;
    uint64_t now = 0, last = 0;
    exo_redial_start(&r, 0, false);
    for (int i = 0; i < 200; i++) {
        uint64_t wait = one_try_fails(&r, &now);
        assert_true(wait >= last && wait <= 60000);
        last = wait;
    }
    assert_true(last == 60000);
}

static void hearsay_is_forgotten_and_what_was_given_never(void **state) {
    (void)state;
    exo_redial told, given;
    uint64_t now = 0;
    unsigned tries = 0;
    exo_redial_start(&told, 0, true);
    while (!exo_redial_in_vain(&told) && tries < 1000) {
        one_try_fails(&told, &now);
        tries++;
    }
    assert_int_equal(tries, 40);
    assert_in_range(now, 10 * 60000, 15 * 60000);
    exo_redial_start(&given, 0, false);
    for (tries = 0; now < 30ull * DAY_MS; tries++) {
        one_try_fails(&given, &now);
        assert_false(exo_redial_in_vain(&given));
    }
    assert_in_range(tries, 30 * 1440, 30 * 1440 + 100); /* once a minute */
}

static void a_link_that_lasted_makes_an_address_new(void **state) {
    (void)state;
    exo_redial r;
    uint64_t now = 0;
    exo_redial_start(&r, 0, true);
    for (int i = 0; i < 39; i++) one_try_fails(&r, &now);
    r.opened_ms = r.at_ms;
    assert_true(exo_redial_ended(&r, r.opened_ms + 5000));
    assert_true(r.n_failed == 1 && r.opened_ms == 0);
    assert_false(exo_redial_in_vain(&r));
    assert_true(one_try_fails(&r, &now) == 500);
}

/* A peer that accepts and refuses each time is not dialled four times in a second for good. */
static void a_link_that_broke_at_once_is_a_try_in_vain(void **state) {
    (void)state;
    exo_redial r;
    exo_redial_start(&r, 100, true);
    for (int i = 0; i < 40; i++) {
        assert_false(exo_redial_in_vain(&r));
        r.opened_ms = r.at_ms;
        assert_false(exo_redial_ended(&r, r.opened_ms + 4999));
    }
    assert_true(exo_redial_in_vain(&r));
}

static void news_bring_the_next_try_forward(void **state) {
    (void)state;
    exo_redial r;
    uint64_t now = 0;
    exo_redial_start(&r, 0, true);
    for (int i = 0; i < 35; i++) one_try_fails(&r, &now);
    uint64_t planned = r.at_ms;
    exo_redial_soon(&r, planned + 1); /* later than it is due anyway */
    assert_true(r.at_ms == planned);
    exo_redial_soon(&r, now + 10);
    assert_true(r.at_ms == now + 10);
    assert_true(one_try_fails(&r, &now) == 250);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waits_grow_to_five_seconds_for_two_minutes),
        cmocka_unit_test(waits_grow_on_to_a_minute),
        cmocka_unit_test(hearsay_is_forgotten_and_what_was_given_never),
        cmocka_unit_test(a_link_that_lasted_makes_an_address_new),
        cmocka_unit_test(a_link_that_broke_at_once_is_a_try_in_vain),
        cmocka_unit_test(news_bring_the_next_try_forward),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
