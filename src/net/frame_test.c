/* frame_test.c - frames survive the wire whole or not at all.
 *
 * Real frames are cut at every byte and flipped at every bit; what comes back is the same frame,
 * "more bytes, please", or an error with a text. */
#include "net/frame.h"

#include "base/hash.h"
#include "base/le.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const uint8_t body[] = {0, 1, 2, 250, 255};

static exo_frame sample(void) {
    return (exo_frame){.type = EXO_MSG_STEP,
                       .flags = 6,
                       .epoch = 7,
                       .seq = 0x1122334455667788,
                       .header = (const uint8_t *)"abc",
                       .header_bytes = 3,
                       .body = body,
                       .body_bytes = sizeof body};
}

static void same_frame(const exo_frame *a, const exo_frame *b) {
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->flags, b->flags);
    assert_int_equal(a->epoch, b->epoch);
    assert_true(a->seq == b->seq);
    assert_int_equal(a->header_bytes, b->header_bytes);
    assert_int_equal(a->body_bytes, b->body_bytes);
    if (a->header_bytes > 0) assert_memory_equal(a->header, b->header, a->header_bytes);
    if (a->body_bytes > 0) assert_memory_equal(a->body, b->body, a->body_bytes);
}

/* The layout is a promise to other versions: these bytes may never change. */
static void bytes_are_as_documented(void **ud) {
    (void)ud;
    exo_frame f = sample();
    exo_buf out = {0};
    assert_int_equal(exo_frame_write(&f, &out, NULL), EXO_OK);
    static const uint8_t head[32] = {'E',  'X',  'O', '1', 1, 0,    18,   0,    6,    0,    0,
                                     0,    7,    0,   0,   0, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33,
                                     0x22, 0x11, 3,   0,   0, 0,    5,    0,    0,    0};
    assert_int_equal(out.n, EXO_FRAME_BYTES + 3 + 5);
    assert_memory_equal(out.data, head, sizeof head);
    uint64_t h = exo_hash64(body, 5, exo_hash64("abc", 3, exo_hash64(head, 32, 0)));
    assert_true(exo_get_u64(out.data + 32) == h);
    assert_memory_equal(out.data + 40, "abc", 3);
    assert_memory_equal(out.data + 43, body, 5);
    exo_buf_finish(&out);
}

static void every_prefix_waits_for_more(void **ud) {
    (void)ud;
    exo_frame f = sample(), got;
    exo_buf out = {0};
    assert_int_equal(exo_frame_write(&f, &out, NULL), EXO_OK);
    size_t one = out.n, used;
    assert_int_equal(exo_frame_write(&f, &out, NULL), EXO_OK);
    for (size_t n = 0; n < one; n++) {
        uint8_t *exact = exo_malloc(n); /* a read past n is a sanitizer error */
        assert_non_null(exact);
        if (n > 0) memcpy(exact, out.data, n);
        assert_int_equal(exo_frame_parse(exact, n, &got, &used, NULL), EXO_OK);
        assert_int_equal(used, 0);
        exo_free(exact);
    }
    assert_int_equal(exo_frame_parse((uint8_t *)out.data, out.n, &got, &used, NULL), EXO_OK);
    assert_int_equal(used, one);
    same_frame(&got, &f);
    exo_buf_finish(&out);
}

static void every_flipped_bit_is_noticed(void **ud) {
    (void)ud;
    exo_frame f = sample(), got;
    exo_buf out = {0};
    assert_int_equal(exo_frame_write(&f, &out, NULL), EXO_OK);
    for (size_t bit = 0; bit < 8 * out.n; bit++) {
        size_t used;
        exo_error err = {0};
        out.data[bit / 8] = (char)(out.data[bit / 8] ^ 1 << bit % 8);
        exo_status st = exo_frame_parse((uint8_t *)out.data, out.n, &got, &used, &err);
        assert_int_equal(used, 0); /* a longer length waits: also no frame */
        if (st != EXO_OK) {
            assert_int_equal(st, EXO_EFORMAT);
            assert_true(strlen(err.message) > 10);
        }
        bool length = bit / 8 >= 24 && bit / 8 < 32;
        if (!length) assert_int_equal(st, EXO_EFORMAT);
        out.data[bit / 8] = (char)(out.data[bit / 8] ^ 1 << bit % 8);
    }
    exo_buf_finish(&out);
}

static void lying_lengths_are_refused_at_once(void **ud) {
    (void)ud;
    exo_frame f = {.type = EXO_MSG_NODES}, got;
    uint8_t head[EXO_FRAME_BYTES];
    assert_int_equal(exo_frame_head(&f, head, NULL), EXO_OK);
    size_t used;
    exo_error err = {0};
    exo_put_u32(head + 28, EXO_FRAME_MAX_BODY + 1);
    assert_int_equal(exo_frame_parse(head, sizeof head, &got, &used, &err), EXO_EFORMAT);
    assert_non_null(strstr(err.message, "67108865"));
    exo_put_u32(head + 28, 0);
    exo_put_u32(head + 24, UINT32_MAX);
    assert_int_equal(exo_frame_parse(head, sizeof head, &got, &used, &err), EXO_EFORMAT);
    exo_put_u16(head + 4, 2);
    assert_int_equal(exo_frame_parse(head, 6, &got, &used, &err), EXO_EFORMAT);
    assert_non_null(strstr(err.message, "format 2"));
    assert_int_equal(exo_frame_parse((const uint8_t *)"GET", 3, &got, &used, &err), EXO_EFORMAT);
}

static void frames_beyond_the_limits_are_not_sent(void **ud) {
    (void)ud;
    exo_buf out = {0};
    exo_frame f = {.type = 5, .header_bytes = EXO_FRAME_MAX_HEADER + 1};
    assert_int_equal(exo_frame_write(&f, &out, NULL), EXO_EINVAL);
    f = (exo_frame){.type = 5, .body_bytes = EXO_FRAME_MAX_BODY + 1};
    assert_int_equal(exo_frame_write(&f, &out, NULL), EXO_EINVAL);
    json_t *number = json_integer(3);
    assert_int_equal(exo_frame_write_json(5, 0, number, &out, NULL), EXO_EINVAL);
    json_decref(number);
    assert_int_equal(out.n, 0);
}

static void json_goes_there_and_back(void **ud) {
    (void)ud;
    json_t *sent = json_pack("{s:s, s:[i, i]}", "reason", "gr\xC3\xBC\xC3\x9F", "n", 1, 2), *got;
    exo_buf out = {0};
    exo_frame f;
    size_t used;
    assert_int_equal(exo_frame_write_json(EXO_MSG_BYE, 9, sent, &out, NULL), EXO_OK);
    assert_int_equal(exo_frame_parse((uint8_t *)out.data, out.n, &f, &used, NULL), EXO_OK);
    assert_int_equal(used, out.n);
    assert_int_equal(f.type, EXO_MSG_BYE);
    assert_true(f.seq == 9);
    assert_int_equal(exo_frame_json(&f, &got, NULL), EXO_OK);
    assert_true(json_equal(sent, got));
    json_decref(sent);
    json_decref(got);
    exo_buf_finish(&out);
}

static exo_status read_json(const char *text, exo_error *err) {
    exo_frame f = {.type = 5,
                   .flags = EXO_FRAME_JSON,
                   .header = (const uint8_t *)text,
                   .header_bytes = (uint32_t)strlen(text)};
    json_t *v;
    exo_status st = exo_frame_json(&f, &v, err);
    assert_true((st == EXO_OK) == (v != NULL));
    json_decref(v);
    return st;
}

static void hostile_json_is_refused(void **ud) {
    (void)ud;
    static const char *const bad[] = {
        "",
        "[]",
        "3",
        "null",
        "{",
        "{\"a\":1}x",
        "{\"a\":1,\"a\":2}",
        "{\"a\":\"\xff\"}",
        "{\"a\":1e999}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        exo_error err = {0};
        assert_int_equal(read_json(bad[i], &err), EXO_EFORMAT);
        assert_true(strlen(err.message) > 10);
    }
    assert_int_equal(read_json("{\"a\":\"\\u0000\"}", NULL), EXO_OK); /* text may hold any byte */
    char deep[400] = "{\"a\":";
    memset(deep + 5, '[', EXO_FRAME_MAX_DEPTH - 1);
    memset(deep + 5 + EXO_FRAME_MAX_DEPTH - 1, ']', EXO_FRAME_MAX_DEPTH - 1);
    strcat(deep, "}");
    assert_int_equal(read_json(deep, NULL), EXO_OK);
    memset(deep + 5, '[', EXO_FRAME_MAX_DEPTH);
    memset(deep + 5 + EXO_FRAME_MAX_DEPTH, ']', EXO_FRAME_MAX_DEPTH);
    strcat(deep, "}");
    exo_error err = {0};
    assert_int_equal(read_json(deep, &err), EXO_EFORMAT);
    assert_non_null(strstr(err.message, "deeper"));
    assert_int_equal(read_json("{\"a\":\"[[\\\"[[\"}", NULL), EXO_OK);

    exo_frame binary = {.type = EXO_MSG_STEP, .header = body, .header_bytes = 5};
    json_t *v;
    assert_int_equal(exo_frame_json(&binary, &v, NULL), EXO_EFORMAT);
    assert_null(v);
}

static void every_failed_allocation_is_reported(void **ud) {
    (void)ud;
    json_t *header = json_pack("{s:s}", "reason", "a text long enough to need memory of its own");
    uint64_t k = 1;
    for (bool failed = true; failed; k++) {
        exo_buf out = {0};
        exo_error err = {0};
        exo_mem_fail_at(k);
        exo_status st = exo_frame_write_json(EXO_MSG_BYE, 1, header, &out, &err);
        failed = exo_mem_failed();
        exo_mem_fail_at(0);
        assert_int_equal(st, failed ? EXO_ENOMEM : EXO_OK);
        if (failed) assert_int_equal(out.n, 0);
        exo_buf_finish(&out);
    }
    assert_true(k > 2); /* at least the text and the frame */
    json_decref(header);
}

/* ---- the short form ---- */

static exo_frame small_sample(void) {
    return (exo_frame){.type = EXO_MSG_PING,
                       .flags = EXO_FRAME_NO_ANSWER,
                       .seq = 0x11223344,
                       .body = body,
                       .body_bytes = sizeof body};
}

static void short_bytes_are_as_documented(void **ud) {
    (void)ud;
    exo_frame f = small_sample(), got;
    exo_buf out = {0};
    size_t used;
    assert_int_equal(exo_frame_write_small(&f, &out, NULL), EXO_OK);
    static const uint8_t head[8] = {'s', 2, 2, 5, 0x44, 0x33, 0x22, 0x11};
    assert_int_equal(out.n, EXO_FRAME_SHORT + sizeof body);
    assert_memory_equal(out.data, head, sizeof head);
    uint64_t h = exo_hash64(body, sizeof body, exo_hash64(head, sizeof head, 0));
    assert_true(exo_get_u32(out.data + 8) == (uint32_t)h);
    assert_memory_equal(out.data + 12, body, sizeof body);
    assert_int_equal(exo_frame_parse((uint8_t *)out.data, out.n, &got, &used, NULL), EXO_OK);
    assert_int_equal(used, out.n);
    same_frame(&got, &f);
    for (size_t n = 0; n < out.n; n++) {
        uint8_t *exact = exo_malloc(n);
        assert_non_null(exact);
        if (n > 0) memcpy(exact, out.data, n);
        assert_int_equal(exo_frame_parse(exact, n, &got, &used, NULL), EXO_OK);
        assert_int_equal(used, 0);
        exo_free(exact);
    }
    exo_buf_finish(&out);
}

static void every_flipped_bit_of_a_short_frame_is_noticed(void **ud) {
    (void)ud;
    exo_frame f = small_sample(), got;
    exo_buf out = {0};
    assert_int_equal(exo_frame_write_small(&f, &out, NULL), EXO_OK);
    for (size_t bit = 0; bit < 8 * out.n; bit++) {
        size_t used;
        out.data[bit / 8] = (char)(out.data[bit / 8] ^ 1 << bit % 8);
        exo_status st = exo_frame_parse((uint8_t *)out.data, out.n, &got, &used, NULL);
        assert_int_equal(used, 0); /* a longer length waits: also no frame */
        if (bit / 8 != 3) assert_int_equal(st, EXO_EFORMAT);
        out.data[bit / 8] = (char)(out.data[bit / 8] ^ 1 << bit % 8);
    }
    exo_buf_finish(&out);
}

/* One member beyond what it holds, and the long form is written. */
static void what_does_not_fit_is_written_long(void **ud) {
    (void)ud;
    static const uint8_t large[UINT8_MAX + 1];
    exo_frame all[] = {small_sample(), small_sample(), small_sample(),
                       small_sample(), small_sample(), small_sample()};
    all[0].type = UINT8_MAX + 1;
    all[1].flags = UINT8_MAX + 1;
    all[2].epoch = 1;
    all[3].seq = (uint64_t)UINT32_MAX + 1;
    all[4].header = body;
    all[4].header_bytes = 1;
    all[5].body = large;
    all[5].body_bytes = sizeof large;
    exo_frame got;
    size_t used;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        exo_buf out = {0};
        assert_int_equal(exo_frame_write_small(&all[i], &out, NULL), EXO_OK);
        assert_int_equal(exo_get_u32(out.data), EXO_FRAME_MAGIC);
        assert_int_equal(exo_frame_parse((uint8_t *)out.data, out.n, &got, &used, NULL), EXO_OK);
        assert_int_equal(used, out.n);
        same_frame(&got, &all[i]);
        exo_buf_finish(&out);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_as_documented),
        cmocka_unit_test(every_prefix_waits_for_more),
        cmocka_unit_test(every_flipped_bit_is_noticed),
        cmocka_unit_test(short_bytes_are_as_documented),
        cmocka_unit_test(every_flipped_bit_of_a_short_frame_is_noticed),
        cmocka_unit_test(what_does_not_fit_is_written_long),
        cmocka_unit_test(lying_lengths_are_refused_at_once),
        cmocka_unit_test(frames_beyond_the_limits_are_not_sent),
        cmocka_unit_test(json_goes_there_and_back),
        cmocka_unit_test(hostile_json_is_refused),
        cmocka_unit_test(every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
