/* hash_test.c - pinned values of the 64-bit hash, its sensitivity, and SHA-256 by the standard. */
#include "base/hash.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void fill(uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++) p[i] = (uint8_t)(i * 7 + 3);
}

/* Frames carry this hash between machines and versions: the values must never change. */
static void hash64_values_are_pinned(void **state) {
    (void)state;
    static const struct {
        size_t n;
        uint64_t seed, hash;
    } pinned[] = {
        {0, 0, 0x1D212B6301FF76ACU},       {0, 12345, 0x616D4CC974BFD5E4U},
        {1, 0, 0x6DDF3B08058ACC48U},       {7, 0, 0x74EC6946FEA2FA10U},
        {8, 0, 0x9C7CF80C2BB7F62DU},       {31, 0, 0xADDCF262F8C99EA3U},
        {32, 0, 0x8AB8D97BEF330582U},      {33, 0, 0x787BEAF64DDFC971U},
        {64, 0, 0xA1A15A8CBB442935U},      {100, 0, 0x1C6726E351F5C430U},
        {100, 12345, 0x27B992187D279C8FU},
    };
    uint8_t m[100];
    fill(m, sizeof m);
    for (size_t i = 0; i < sizeof pinned / sizeof *pinned; i++) {
        uint64_t h = exo_hash64(m, pinned[i].n, pinned[i].seed);
        if (h != pinned[i].hash) {
            fail_msg("%zu bytes, seed %llu: 0x%016llx", pinned[i].n,
                     (unsigned long long)pinned[i].seed, (unsigned long long)h);
        }
    }
}

static void every_flipped_bit_changes_hash64(void **state) {
    (void)state;
    uint8_t m[100];
    for (size_t n = 1; n <= sizeof m; n++) {
        fill(m, sizeof m);
        uint64_t h = exo_hash64(m, n, 0);
        for (size_t bit = 0; bit < 8 * n; bit++) {
            m[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_int_not_equal(exo_hash64(m, n, 0), h);
            m[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
}

static void length_seed_and_order_change_hash64(void **state) {
    (void)state;
    static const uint8_t zeros[100];
    for (size_t n = 0; n < sizeof zeros; n++) {
        assert_int_not_equal(exo_hash64(zeros, n, 0), exo_hash64(zeros, n + 1, 0));
        assert_int_not_equal(exo_hash64(zeros, n, 0), exo_hash64(zeros, n, 1));
    }
    uint64_t ab = exo_hash64("b", 1, exo_hash64("a", 1, 0));
    uint64_t ba = exo_hash64("a", 1, exo_hash64("b", 1, 0));
    assert_int_not_equal(ab, ba);
    assert_int_not_equal(ab, exo_hash64("ab", 2, 0)); /* where the parts end matters */
}

static void expect_digest(const exo_sha256 *h, const char *hex) {
    uint8_t digest[EXO_SHA256_BYTES];
    char text[EXO_SHA256_HEX_BYTES];
    exo_sha256_peek(h, digest);
    exo_hex(digest, sizeof digest, text);
    assert_string_equal(text, hex);
}

/* FIPS 180-4's examples. */
static void sha256_of_known_messages_peeked_on_the_way(void **state) {
    (void)state;
    exo_sha256 *h = exo_sha256_create();
    assert_non_null(h);
    expect_digest(h, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    exo_sha256_update(h, "abc", 3);
    for (int i = 0; i < 3; i++) { /* peeking leaves the state alone */
        expect_digest(h, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
    exo_sha256_update(h, "dbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 53);
    expect_digest(h, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    exo_sha256_destroy(h);
    exo_sha256_destroy(NULL);
}

static void sha256_without_memory(void **state) {
    (void)state;
    exo_mem_fail_at(1);
    assert_null(exo_sha256_create());
    exo_mem_fail_at(0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hash64_values_are_pinned),
        cmocka_unit_test(every_flipped_bit_changes_hash64),
        cmocka_unit_test(length_seed_and_order_change_hash64),
        cmocka_unit_test(sha256_of_known_messages_peeked_on_the_way),
        cmocka_unit_test(sha256_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
