/* topology_test.c - the topology message goes out and comes back; ways are measured when they
 * changed, and seldom otherwise. */
#include "cluster/topology.h"

#include "cluster/telemetry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static exo_link_metrics example(void) {
    exo_link_metrics m = {.latency_ms = 20,
                          .bandwidth_gbps = 0.05,
                          .p2p_bandwidth_gbps = NAN,
                          .jitter_ms = 0.5,
                          .loss = NAN};
    strcpy(m.source_node, "a");
    strcpy(m.sink_node, "b");
    strcpy(m.link_type, "lan");
    strcpy(m.interface, "eth0");
    return m;
}

static void a_topology_comes_back_as_it_was(void **ud) {
    (void)ud;
    exo_link_metrics m[2] = {example(), example()}, *back;
    size_t n;
    exo_error err = {0};
    strcpy(m[1].sink_node, "c");
    json_t *message = exo_telemetry_create_topology_message(5.5, m, 2);
    exo_telemetry_message t;
    assert_int_equal(exo_telemetry_judge_message(message, &t, &err), EXO_OK);
    assert_int_equal(t.type, EXO_TELEMETRY_TOPOLOGY);
    assert_int_equal(exo_telemetry_parse_topology(t.payload, &back, &n, &err), EXO_OK);
    assert_int_equal(n, 2);
    assert_string_equal(back[1].sink_node, "c");
    assert_true(back[0].latency_ms == 20 && back[0].bandwidth_gbps == 0.05);
    assert_true(isnan(back[0].loss) && isnan(back[0].p2p_bandwidth_gbps)); /* unknown, not 0 */
    assert_true(exo_estimate_transfer_time_ms(&back[0], 50000) == 20 + 8);
    exo_topology_free(back, n);
    exo_telemetry_message_finish(&t);
    json_decref(message);
}

static void what_breaks_a_topology_is_named(void **ud) {
    (void)ud;
    static const struct {
        const char *text, *says;
    } bad[] = {{"{}", "links"},
               {"{\"links\":7}", "links"},
               {"{\"links\":[7]}", "link"},
               {"{\"links\":[{\"source_node\":\"a\",\"sink_node\":3}]}", "sink_node"},
               {"{\"links\":[{\"source_node\":\"a\",\"sink_node\":\"b\",\"latency_ms\":-1}]}",
                "latency_ms"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        exo_link_metrics *links;
        size_t n;
        exo_error err = {0};
        json_t *payload = json_loads(bad[i].text, 0, NULL);
        assert_non_null(payload);
        assert_int_equal(exo_telemetry_parse_topology(payload, &links, &n, &err), EXO_EFORMAT);
        assert_null(links);
        if (strstr(err.message, bad[i].says) == NULL) fail_msg("%s", err.message);
        json_decref(payload);
    }
}

static void a_way_is_measured_seldom_and_after_a_change(void **ud) {
    (void)ud;
    exo_path_plan p = {0};
    assert_true(exo_path_due(&p, 40, 1000));
    assert_false(exo_path_wants_long(&p));
    assert_true(exo_path_measured(&p, false, 6e6, 40, 1000)); /* fast: the long train follows */
    assert_true(exo_path_due(&p, 40, 1000) && exo_path_wants_long(&p));
    exo_path_measured(&p, true, 6.2e6, 40, 1100);
    assert_false(exo_path_due(&p, 41, 11000));
    assert_true(exo_path_due(&p, 41, 11100));
    assert_false(exo_path_wants_long(&p));
    assert_false(exo_path_measured(&p, false, 5.5e6, 41, 11100)); /* nothing new */
    assert_true(p.bytes_per_s == 6.2e6);
    assert_false(exo_path_due(&p, 41, 71000));
    assert_true(exo_path_due(&p, 41, 71100));
    exo_path_measured(&p, false, 0, 41, 71100); /* nothing arrived: later */
    assert_false(exo_path_due(&p, 41, 600000));
    assert_true(exo_path_due(&p, 80, 600000)); /* the round trip is another: at once */
    assert_true(exo_path_measured(&p, true, 1e6, 80, 600000));
    assert_true(p.bytes_per_s == 1e6);
    exo_path_put_off(&p, 600000);
    assert_false(exo_path_due(&p, NAN, 600900));
    assert_true(exo_path_due(&p, NAN, 601000));
}

/* A busy machine's round trips and rates change all the time: an hour of that costs 20 trains or
 * so, not one for each change. */
static void a_way_that_changes_all_the_time_is_not_measured_all_the_time(void **ud) {
    (void)ud;
    exo_path_plan p = {0};
    uint32_t n_short = 0, n_long = 0;
    for (uint64_t s = 1; s <= 3600; s++) {
        double rtt_ms = s / 3 % 2 == 0 ? 10 : 40, rate = s % 2 == 0 ? 5e6 : 200e6;
        while (exo_path_due(&p, rtt_ms, s * 1000)) {
            bool is_long = exo_path_wants_long(&p);
            *(is_long ? &n_long : &n_short) += 1;
            exo_path_measured(&p, is_long, rate, rtt_ms, s * 1000);
            assert_true(n_short + n_long < 100);
        }
    }
    assert_in_range(n_short, 6, 40);
    assert_in_range(n_long, 3, 20);
    assert_true(exo_path_due(&p, NAN, (3600 + 1200) * 1000));
    p.n_done = 2;
    p.due_ms = 10000000;
    assert_true(exo_path_due(&p, 1000, (3600 + 1300) * 1000)); /* after a rest: at once again */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_topology_comes_back_as_it_was),
        cmocka_unit_test(what_breaks_a_topology_is_named),
        cmocka_unit_test(a_way_is_measured_seldom_and_after_a_change),
        cmocka_unit_test(a_way_that_changes_all_the_time_is_not_measured_all_the_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
