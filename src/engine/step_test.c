/* step_test.c - the wire form of a step: exact bytes, round trips, hostile input. */
#include "engine/step.h"

#include "base/le.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define HEADER 8

static exo_step new_step(uint32_t cap_rows, uint32_t cap_pages) {
    exo_step s;
    assert_int_equal(exo_step_init(&s, cap_rows, cap_pages, NULL), EXO_OK);
    return s;
}

/* Two page entries and three rows, the widest values among them. */
static exo_step sample_step(void) {
    exo_step s = new_step(4, 4);
    s.n_pages = 2;
    s.pages[0] = (exo_page_entry){.seq = 3, .index = 7, .page = 0x01020304};
    s.pages[1] = (exo_page_entry){.seq = 255, .index = 65535, .page = UINT32_MAX};
    s.n_rows = 3;
    s.rows[0] = (exo_row){.seq = 3, .pos = 225, .token = 5};
    s.rows[1] = (exo_row){.seq = 3, .pos = 226, .token = -1, .flags = EXO_ROW_LOGITS};
    s.rows[2] = (exo_row){.seq = 255, .pos = UINT32_MAX, .token = INT32_MAX};
    return s;
}

static void has_the_documented_bytes(void **state) {
    (void)state;
    static const uint8_t expected[] = {
        3,   0, 2,   0,   0,   0,   0,   0,                       /* counts, reserved */
        3,   0, 7,   0,   4,   3,   2,   1,                       /* page entries */
        255, 0, 255, 255, 255, 255, 255, 255,                     /* */
        3,   0, 0,   0,   225, 0,   0,   0,   5,   0,   0,   0,   /* rows */
        3,   0, 1,   0,   226, 0,   0,   0,   255, 255, 255, 255, /* */
        255, 0, 0,   0,   255, 255, 255, 255, 255, 255, 255, 127,
    };
    exo_step s = sample_step();
    uint8_t wire[sizeof expected];
    assert_int_equal(exo_step_wire_bytes(&s), sizeof expected);
    exo_step_encode(&s, wire);
    assert_memory_equal(wire, expected, sizeof expected);
    assert_int_equal(exo_step_n_logits(&s), 1);
    exo_step_finish(&s);
}

static void comes_back_as_it_went(void **state) {
    (void)state;
    exo_step s = sample_step(), back = new_step(3, 2);
    uint8_t wire[128];
    exo_step_encode(&s, wire);
    back.number = 77;
    assert_int_equal(exo_step_decode(&back, wire, exo_step_wire_bytes(&s), NULL), EXO_OK);
    assert_int_equal(back.number, 77);
    assert_int_equal(back.n_rows, 3);
    assert_int_equal(back.n_pages, 2);
    assert_memory_equal(back.rows, s.rows, 3 * sizeof *s.rows);
    assert_memory_equal(back.pages, s.pages, 2 * sizeof *s.pages);
    exo_step_finish(&s);
    exo_step_finish(&back);
}

/* Decodes a changed sample; expects the failure and an empty step. */
static void refuse(const uint8_t *wire, size_t n, uint32_t cap_rows, uint32_t cap_pages,
                   const char *why) {
    exo_step s = new_step(cap_rows, cap_pages);
    exo_error err = {0};
    assert_int_equal(exo_step_decode(&s, wire, n, &err), EXO_EFORMAT);
    if (strstr(err.message, why) == NULL) fail_msg("'%s' lacks '%s'", err.message, why);
    assert_int_equal(s.n_rows, 0);
    assert_int_equal(s.n_pages, 0);
    exo_step_finish(&s);
}

static void refuses_what_is_not_a_step(void **state) {
    (void)state;
    exo_step s = sample_step();
    uint8_t good[128], bad[128];
    exo_step_encode(&s, good);
    size_t n = exo_step_wire_bytes(&s), rows = HEADER + 2 * 8;
    exo_step_finish(&s);

    for (size_t cut = 0; cut < n; cut++) refuse(good, cut, 4, 4, "bytes");
    refuse(good, n + 1, 4, 4, "take");
    refuse(good, n, 2, 4, "room for 2 and 4");
    refuse(good, n, 4, 1, "room for 4 and 1");

    memcpy(bad, good, n), bad[5] = 1;
    refuse(bad, n, 4, 4, "reserved");
    memcpy(bad, good, n), exo_put_u16(bad + HEADER, EXO_MAX_SEQS);
    refuse(bad, n, 4, 4, "page entry 0 has sequence 256");
    memcpy(bad, good, n), exo_put_u16(bad + rows + 12, EXO_MAX_SEQS);
    refuse(bad, n, 4, 4, "row 1 has sequence 256");
    memcpy(bad, good, n), exo_put_u16(bad + rows + 2, 4);
    refuse(bad, n, 4, 4, "unknown flags 0x4");
}

/* Whatever decodes encodes to the very same bytes, and nothing else happens to memory. */
static void survives_random_bytes(void **state) {
    (void)state;
    exo_step s = new_step(5, 5);
    uint64_t x = 88172645463325252u;
    uint32_t accepted = 0;
    for (int round = 0; round < 200000; round++) {
        uint8_t in[128], out[128];
        for (size_t i = 0; i < sizeof in; i++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            in[i] = x >> 60 != 0 ? 0 : (uint8_t)(x >> 40);
        }
        exo_put_u16(in, (uint16_t)(x >> 20 & 7)), exo_put_u16(in + 2, (uint16_t)(x >> 30 & 7));
        size_t n = HEADER + 8 * (x >> 30 & 7) + 12 * (x >> 20 & 7);
        if ((x & 15) == 0) n = (x >> 10) % sizeof in;
        if (n > sizeof in || exo_step_decode(&s, in, n, NULL) != EXO_OK) continue;
        accepted++;
        assert_int_equal(exo_step_wire_bytes(&s), n);
        exo_step_encode(&s, out);
        assert_memory_equal(in, out, n);
    }
    assert_true(accepted > 1000);
    exo_step_finish(&s);
}

static void bounds_and_memory(void **state) {
    (void)state;
    exo_step s;
    assert_int_equal(exo_step_init(&s, EXO_MAX_STEP_ROWS + 1, 1, NULL), EXO_EINVAL);
    assert_int_equal(exo_step_init(&s, 1, EXO_MAX_STEP_PAGES + 1, NULL), EXO_EINVAL);
    for (uint64_t k = 1; k <= 2; k++) {
        exo_mem_fail_at(k);
        assert_int_equal(exo_step_init(&s, 8, 8, NULL), EXO_ENOMEM);
        assert_null(s.rows);
    }
    exo_mem_fail_at(0);
    exo_step_finish(&s);
    exo_step_finish(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(has_the_documented_bytes),   cmocka_unit_test(comes_back_as_it_went),
        cmocka_unit_test(refuses_what_is_not_a_step), cmocka_unit_test(survives_random_bytes),
        cmocka_unit_test(bounds_and_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
