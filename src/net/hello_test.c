/* hello_test.c - every member of a hello that is missing, wrong or hostile gets its own words. */
#define _DEFAULT_SOURCE
#include "net/hello.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static exo_identity *identity;
static const uint8_t exporter[32] = "the exporter of one connection";

static int load(void **ud) {
    (void)ud;
    char dir[] = "/tmp/exo-hello-XXXXXX", file[64];
    if (mkdtemp(dir) == NULL || exo_identity_load(dir, &identity, NULL) != EXO_OK) return -1;
    snprintf(file, sizeof file, "%s/node.key", dir);
    unlink(file);
    rmdir(dir);
    return 0;
}

static int unload(void **ud) {
    (void)ud;
    exo_identity_destroy(identity);
    return 0;
}

static json_t *make(const char *listen) {
    exo_hello_self self = {.identity = identity, .name = "laptop", .listen = listen};
    json_t *hello;
    assert_int_equal(exo_hello_make(&self, exporter, true, &hello, NULL), EXO_OK);
    return hello;
}

static void a_good_hello_is_believed(void **ud) {
    (void)ud;
    exo_peer_info peer;
    json_t *hello = make("192.168.1.5:5678");
    assert_int_equal(exo_hello_check(hello, exporter, true, "10.0.0.9", &peer, NULL), EXO_OK);
    assert_string_equal(peer.node_id, exo_identity_node_id(identity));
    assert_string_equal(peer.name, "laptop");
    assert_string_equal(peer.listen, "192.168.1.5:5678");
    assert_ptr_equal(peer.hello, hello);
    json_object_set_new(hello, "future_member", json_true());
    assert_int_equal(exo_hello_check(hello, exporter, true, "10.0.0.9", &peer, NULL), EXO_OK);
    json_decref(hello);

    hello = make(NULL);
    assert_int_equal(exo_hello_check(hello, exporter, true, "10.0.0.9", &peer, NULL), EXO_OK);
    assert_string_equal(peer.listen, "");
    json_decref(hello);
    hello = make("[::]:5678");
    assert_int_equal(exo_hello_check(hello, exporter, true, "fe80::7%2", &peer, NULL), EXO_OK);
    assert_string_equal(peer.listen, "[fe80::7%2]:5678");
    json_decref(hello);
}

static void a_hello_belongs_to_one_connection_and_role(void **ud) {
    (void)ud;
    exo_peer_info peer;
    exo_error err = {0};
    uint8_t other[32];
    json_t *hello = make(NULL);
    assert_int_equal(exo_hello_check(hello, exporter, false, "x", &peer, &err), EXO_EAUTH);
    memcpy(other, exporter, 32);
    other[31] ^= 1;
    assert_int_equal(exo_hello_check(hello, other, true, "x", &peer, &err), EXO_EAUTH);
    assert_non_null(strstr(err.message, "could not prove"));
    assert_string_equal(peer.node_id, "");
    json_decref(hello);
}

static void bad_members_are_named(void **ud) {
    (void)ud;
    static const struct {
        const char *member, *value, *why;
        exo_status status;
    } cases[] = {
        {"node_id", NULL, "no node_id", EXO_EFORMAT},
        {"node_id", "7", "no node_id", EXO_EFORMAT},
        {"node_id", "\"\"", "does not belong", EXO_EAUTH},
        {"name", "null", "no name", EXO_EFORMAT},
        {"public_key", NULL, "no public_key", EXO_EFORMAT},
        {"public_key", "\"12\"", "64 hex digits", EXO_EFORMAT},
        {"public_key", "\"zz000000000000000000000000000000000000000000000000000000000000000\"",
         "64 hex digits", EXO_EFORMAT},
        {"signature", "[1]", "no signature", EXO_EFORMAT},
        {"signature", "\"00\"", "128 hex digits", EXO_EFORMAT},
        {"protocol", NULL, "no protocol range", EXO_EFORMAT},
        {"protocol", "1", "no protocol range", EXO_EFORMAT},
        {"protocol", "{\"min\":1}", "no protocol range", EXO_EFORMAT},
        {"protocol", "{\"min\":2,\"max\":3}", "2 to 3, this node 1 to 1", EXO_EUNSUPPORTED},
        {"protocol", "{\"min\":-5,\"max\":0}", "-5 to 0, this node 1 to 1", EXO_EUNSUPPORTED},
        {"protocol", "{\"min\":1,\"max\":-1}", "protocol", EXO_EUNSUPPORTED},
        {"listen", "\"nowhere\"", "no valid address", EXO_EFORMAT},
        {"listen", "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:1\"",
         "no valid address", EXO_EFORMAT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *hello = make("10.0.0.1:1");
        exo_peer_info peer;
        exo_error err = {0};
        json_object_del(hello, cases[i].member);
        if (cases[i].value != NULL) {
            json_t *v = json_loads(cases[i].value, JSON_DECODE_ANY, NULL);
            assert_non_null(v);
            json_object_set_new(hello, cases[i].member, v);
        }
        assert_int_equal(exo_hello_check(hello, exporter, true, "x", &peer, &err), cases[i].status);
        if (strstr(err.message, cases[i].why) == NULL) {
            fail_msg("case %zu: \"%s\"", i, err.message);
        }
        json_decref(hello);
    }
}

static void a_range_that_reaches_beyond_ours_still_meets_it(void **ud) {
    (void)ud;
    json_t *hello = make(NULL);
    exo_peer_info peer;
    json_object_set_new(hello, "protocol", json_pack("{s:i, s:i}", "min", 0, "max", 40));
    assert_int_equal(exo_hello_check(hello, exporter, true, "x", &peer, NULL), EXO_OK);
    json_decref(hello);
}

static void names_become_one_clean_line(void **ud) {
    (void)ud;
    char out[8];
    exo_hello_text("a\nb\x1b[m", out, sizeof out);
    assert_string_equal(out, "a?b?[m");
    exo_hello_text("123456\xC3\xA4", out, sizeof out); /* no half of a character */
    assert_string_equal(out, "123456");
    exo_hello_text("12345\xC3\xA4", out, sizeof out);
    assert_string_equal(out, "12345\xC3\xA4");
    exo_hello_text("", out, sizeof out);
    assert_string_equal(out, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_hello_is_believed),
        cmocka_unit_test(a_hello_belongs_to_one_connection_and_role),
        cmocka_unit_test(bad_members_are_named),
        cmocka_unit_test(a_range_that_reaches_beyond_ours_still_meets_it),
        cmocka_unit_test(names_become_one_clean_line),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
