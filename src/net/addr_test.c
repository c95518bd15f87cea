/* addr_test.c - what people type as an address, and what sockets say theirs is. */
#define _POSIX_C_SOURCE 200809L
#include "net/addr.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <uv.h>

#include <cmocka.h>

static void good_addresses_are_taken_apart(void **ud) {
    (void)ud;
    static const struct {
        const char *text, *host;
        uint16_t port;
    } cases[] = {{"127.0.0.1:5678", "127.0.0.1", 5678},
                 {"node-1.local:1", "node-1.local", 1},
                 {"[::1]:65535", "::1", 65535},
                 {"[fe80::1%eth0]:80", "fe80::1%eth0", 80}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        exo_addr a;
        char back[64];
        assert_int_equal(exo_addr_parse(cases[i].text, &a, NULL), EXO_OK);
        assert_string_equal(a.host, cases[i].host);
        assert_int_equal(a.port, cases[i].port);
        assert_true(exo_addr_format(a.host, a.port, back, sizeof back));
        assert_string_equal(back, cases[i].text);
    }
}

static void bad_addresses_are_named(void **ud) {
    (void)ud;
    static const char *const bad[] = {"",        "host",    ":80",     "host:",     "host:0",
                                      "host:x",  "h:65536", "h:-1",    "h: 80",     "::1:80",
                                      "[::1]80", "[::1:80", "[::1]:0", "[]:80",     "h:80 ",
                                      "[::1]",   "h:+80",   "h:1e3",   "h:0000080", "1:2:3"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        exo_addr a;
        exo_error err = {0};
        assert_int_equal(exo_addr_parse(bad[i], &a, &err), EXO_EINVAL);
        assert_non_null(strstr(err.message, bad[i]));
        assert_int_equal(a.port, 0);
    }
    char long_name[400];
    exo_addr a;
    memset(long_name, 'a', sizeof long_name);
    strcpy(long_name + 254, ":80");
    assert_int_equal(exo_addr_parse(long_name, &a, NULL), EXO_EINVAL);
    strcpy(long_name + 253, ":80");
    assert_int_equal(exo_addr_parse(long_name, &a, NULL), EXO_OK);
    char little[8];
    assert_false(exo_addr_format("127.0.0.1", 80, little, sizeof little));
}

static void socket_addresses_are_shown_as_people_know_them(void **ud) {
    (void)ud;
    struct sockaddr_storage sa = {0};
    exo_addr a;
    assert_int_equal(uv_ip4_addr("10.1.2.3", 99, (struct sockaddr_in *)&sa), 0);
    exo_addr_of((struct sockaddr *)&sa, &a);
    assert_string_equal(a.host, "10.1.2.3");
    assert_int_equal(a.port, 99);
    assert_int_equal(uv_ip6_addr("::ffff:10.1.2.3", 98, (struct sockaddr_in6 *)&sa), 0);
    exo_addr_of((struct sockaddr *)&sa, &a);
    assert_string_equal(a.host, "10.1.2.3");
    assert_int_equal(a.port, 98);
    assert_int_equal(uv_ip6_addr("fe80::2", 97, (struct sockaddr_in6 *)&sa), 0);
    ((struct sockaddr_in6 *)&sa)->sin6_scope_id = 4000000; /* of no interface */
    exo_addr_of((struct sockaddr *)&sa, &a);
    assert_string_equal(a.host, "fe80::2%4000000");
    assert_true(exo_addr_is_any("0.0.0.0"));
    assert_true(exo_addr_is_any("::"));
    assert_false(exo_addr_is_any("127.0.0.1"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_addresses_are_taken_apart),
        cmocka_unit_test(bad_addresses_are_named),
        cmocka_unit_test(socket_addresses_are_shown_as_people_know_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
