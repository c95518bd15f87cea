/* beacon_wire_test.c - datagrams of discovery: written, read, and not believed without the key. */
#include "net/beacon_wire.h"

#include "net/tls.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static exo_beacon_keys keys, others;

static int derive(void **state) {
    (void)state;
    exo_tls_ctx *a, *b;
    if (exo_tls_ctx_create("correct horse battery", "default", &a, NULL) != EXO_OK ||
        exo_tls_ctx_create("another passphrase", "default", &b, NULL) != EXO_OK) {
        return 1;
    }
    int failed = exo_beacon_keys_derive(a, "default", &keys, NULL) != EXO_OK ||
                 exo_beacon_keys_derive(b, "default", &others, NULL) != EXO_OK;
    exo_tls_ctx_destroy(a);
    exo_tls_ctx_destroy(b);
    return failed;
}

static exo_beacon_msg example(void) {
    return (exo_beacon_msg){.kind = EXO_BEACON_ANNOUNCE,
                            .flags = EXO_BEACON_INVITES,
                            .protocol_min = 1,
                            .protocol_max = 3,
                            .port = 52416,
                            .node_id = "0123456789abcdef",
                            .run = 7,
                            .counter = 9,
                            .clock_ms = 1234567890123,
                            .nonce = 42,
                            .name = "laptop",
                            .version = "0.1.0"};
}

static void what_is_written_is_read(void **state) {
    (void)state;
    uint8_t bytes[EXO_BEACON_BYTES];
    exo_beacon_msg in = example(), out;
    exo_beacon_verdict verdict;
    assert_int_equal(exo_beacon_write(&in, &keys, bytes, NULL), EXO_OK);
    assert_int_equal(exo_beacon_read(bytes, sizeof bytes, &keys, &out, &verdict, NULL), EXO_OK);
    assert_int_equal(verdict, EXO_BEACON_OURS);
    assert_string_equal(out.node_id, in.node_id);
    assert_string_equal(out.name, "laptop");
    assert_string_equal(out.version, "0.1.0");
    assert_true(out.kind == in.kind && out.flags == in.flags && out.port == in.port);
    assert_true(out.run == in.run && out.counter == in.counter && out.clock_ms == in.clock_ms);
    assert_true(out.nonce == in.nonce && out.protocol_min == 1 && out.protocol_max == 3);
}

static void the_longest_texts_fit(void **state) {
    (void)state;
    uint8_t bytes[EXO_BEACON_BYTES];
    exo_beacon_msg in = example(), out;
    exo_beacon_verdict verdict;
    memset(in.name, 'n', sizeof in.name - 1);
    memset(in.version, 'v', sizeof in.version - 1);
    assert_int_equal(exo_beacon_write(&in, &keys, bytes, NULL), EXO_OK);
    assert_int_equal(exo_beacon_read(bytes, sizeof bytes, &keys, &out, &verdict, NULL), EXO_OK);
    assert_string_equal(out.name, in.name);
    assert_string_equal(out.version, in.version);
}

static void strangers_are_told_apart(void **state) {
    (void)state;
    uint8_t bytes[EXO_BEACON_BYTES];
    exo_beacon_msg in = example(), out;
    exo_beacon_verdict verdict;
    assert_int_equal(exo_beacon_write(&in, &others, bytes, NULL), EXO_OK);
    assert_int_equal(exo_beacon_read(bytes, sizeof bytes, &keys, &out, &verdict, NULL), EXO_OK);
    assert_int_equal(verdict, EXO_BEACON_OTHER_KEY);
    exo_beacon_keys lab = keys;
    lab.name_space[0] ^= 1;
    assert_int_equal(exo_beacon_write(&in, &lab, bytes, NULL), EXO_OK);
    assert_int_equal(exo_beacon_read(bytes, sizeof bytes, &keys, &out, &verdict, NULL), EXO_OK);
    assert_int_equal(verdict, EXO_BEACON_OTHER_NAMESPACE);
}

/* Of a datagram of ours with one bit changed, nothing is believed. */
static void every_bit_is_proven(void **state) {
    (void)state;
    uint8_t bytes[EXO_BEACON_BYTES];
    exo_beacon_msg in = example(), out;
    for (size_t bit = 0; bit < 8 * EXO_BEACON_BYTES; bit++) {
        exo_beacon_verdict verdict;
        exo_error err = {0};
        assert_int_equal(exo_beacon_write(&in, &keys, bytes, NULL), EXO_OK);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        exo_status st = exo_beacon_read(bytes, sizeof bytes, &keys, &out, &verdict, &err);
        assert_true(st == EXO_EFORMAT ? err.message[0] != '\0' : verdict != EXO_BEACON_OURS);
    }
}

static void other_sizes_and_texts_are_refused(void **state) {
    (void)state;
    uint8_t bytes[EXO_BEACON_BYTES + 1] = {0};
    exo_beacon_msg in = example(), out;
    exo_beacon_verdict verdict;
    assert_int_equal(exo_beacon_write(&in, &keys, bytes, NULL), EXO_OK);
    for (size_t n = 0; n <= sizeof bytes; n++) {
        exo_status st = exo_beacon_read(bytes, n, &keys, &out, &verdict, NULL);
        assert_int_equal(st, n == EXO_BEACON_BYTES ? EXO_OK : EXO_EFORMAT);
    }
    bytes[7] = 33; /* a name longer than any */
    assert_int_equal(exo_beacon_read(bytes, EXO_BEACON_BYTES, &keys, &out, &verdict, NULL),
                     EXO_EFORMAT);
    bytes[7] = 6;
    bytes[68] = '\n'; /* shown as one line, and not proven any more */
    assert_int_equal(exo_beacon_read(bytes, EXO_BEACON_BYTES, &keys, &out, &verdict, NULL), EXO_OK);
    assert_string_equal(out.name, "?aptop");
    assert_int_equal(verdict, EXO_BEACON_FORGED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(the_longest_texts_fit),
        cmocka_unit_test(strangers_are_told_apart),
        cmocka_unit_test(every_bit_is_proven),
        cmocka_unit_test(other_sizes_and_texts_are_refused),
    };
    return cmocka_run_group_tests(tests, derive, NULL);
}
