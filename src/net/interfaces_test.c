/* interfaces_test.c - what kind of interface a name stands for, and whom a sender belongs to. */
#include "net/interfaces.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void kinds_follow_names_and_flags(void **state) {
    (void)state;
    assert_int_equal(exo_interface_kind_of("eth0", false, false), EXO_INTERFACE_LAN);
    assert_int_equal(exo_interface_kind_of("wlan0", false, false), EXO_INTERFACE_LAN);
    assert_int_equal(exo_interface_kind_of("bridge0", false, false), EXO_INTERFACE_LAN);
    assert_int_equal(exo_interface_kind_of("lo", true, false), EXO_INTERFACE_LOOPBACK);
    assert_int_equal(exo_interface_kind_of("docker0", false, false), EXO_INTERFACE_CONTAINER);
    assert_int_equal(exo_interface_kind_of("br-1a2b3c", false, false), EXO_INTERFACE_CONTAINER);
    assert_int_equal(exo_interface_kind_of("tailscale0", false, false), EXO_INTERFACE_VPN);
    assert_int_equal(exo_interface_kind_of("x0", false, true), EXO_INTERFACE_VPN);
}

static void senders_belong_to_interfaces(void **state) {
    (void)state;
    exo_interface list[2] = {
        {.name = "eth0", .host = "10.1.2.3", .up = true, .index = 2, .multicast = true},
        {.name = "eth0",
         .host = "fe80::1%eth0",
         .up = true,
         .index = 2,
         .v6 = true,
         .link_local = true,
         .multicast = true}};
    list[0].v4 = inet_addr("10.1.2.3");
    list[0].v4_mask = inet_addr("255.255.255.0");
    assert_ptr_equal(exo_interface_of(list, 1, "10.1.2.99"), &list[0]);
    assert_null(exo_interface_of(list, 1, "10.1.3.99"));
    assert_ptr_equal(exo_interface_of(list, 2, "fe80::9%eth0"), &list[0]);
    assert_null(exo_interface_of(list, 2, "fe80::9%eth1"));
    assert_true(exo_interface_usable(&list[0]) && exo_interface_usable(&list[1]));
    list[0].up = false;
    list[1].link_local = false;
    assert_false(exo_interface_usable(&list[0]) || exo_interface_usable(&list[1]));
}

static void this_machine_has_a_loopback(void **state) {
    (void)state;
    exo_interface list[EXO_MAX_INTERFACES];
    size_t n, loopbacks = 0;
    assert_int_equal(exo_interfaces_list(list, EXO_MAX_INTERFACES, &n, NULL), EXO_OK);
    for (size_t i = 0; i < n; i++) {
        if (list[i].kind != EXO_INTERFACE_LOOPBACK) continue;
        loopbacks++;
        assert_false(exo_interface_usable(&list[i]));
    }
    assert_true(loopbacks > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds_follow_names_and_flags),
        cmocka_unit_test(senders_belong_to_interfaces),
        cmocka_unit_test(this_machine_has_a_loopback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
