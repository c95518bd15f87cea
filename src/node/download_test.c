/* download_test.c - heads of responses, and pieces with their state file. */
#define _DEFAULT_SOURCE /* mkdtemp */
#include "node/download_impl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static exo_http_head read_head(const char *const *lines) {
    exo_http_head h;
    exo_http_head_init(&h);
    for (; *lines != NULL; lines++) exo_http_head_line(&h, *lines, strlen(*lines));
    return h;
}

static void fields_are_read(void **ud) {
    (void)ud;
    exo_http_head h = read_head((const char *[]){
        "HTTP/1.1 100 Continue\r\n", "ETag: gone\r\n", "\r\n", "HTTP/2 206\r\n",
        "etag: W/\"abc\"\r\n", "X-Linked-ETag: \"def\"\r\n", "x-linked-size:  77 \r\n",
        "Content-Range: bytes 10-19/1000\r\n", "Content-Length: 10\r\n", "Retry-After: 5\r\n",
        "Link: <http://h/a>; rel=\"prev\", <http://h/b?c=1>; rel=\"next\"\r\n",
        "X-Error-Message: no\x01 access\r\n", "\r\n", NULL});
    assert_int_equal(h.status, 206);
    assert_string_equal(h.etag, "abc");
    assert_string_equal(h.linked_etag, "def");
    assert_int_equal(h.linked_bytes, 77);
    assert_int_equal(h.content_bytes, 10);
    assert_true(h.has_range);
    assert_int_equal(h.range_begin, 10);
    assert_int_equal(h.range_total, 1000);
    assert_int_equal(h.retry_after_s, 5);
    assert_string_equal(h.next, "http://h/b?c=1");
    assert_string_equal(h.problem, "no? access");
}

static void odd_fields_are_ignored(void **ud) {
    (void)ud;
    static const char *const odd[] = {
        "Content-Range: bytes 5-4/10",
        "Content-Range: bytes",
        "Content-Range: bytes -/",
        "Content-Range: items 0-1/2",
        "Content-Range: bytes 99999999999999999999-1/2",
        "Content-Range:",
        "Content-Length: -1",
        "Content-Length: 99999999999999999999999",
        "Link: <",
        "Link: <x; rel=\"next\"",
        "Link: >",
        ":",
        "",
        "ETag",
    };
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        exo_http_head h = read_head((const char *[]){"HTTP/1.1 206 OK", odd[i], NULL});
        assert_false(h.has_range);
        assert_int_equal(h.content_bytes, EXO_SIZE_UNKNOWN);
        assert_string_equal(h.next, "");
        assert_string_equal(h.etag, "");
    }
    exo_http_head star =
        read_head((const char *[]){"HTTP/1.1 416", "content-range: bytes */0", NULL});
    assert_false(star.has_range);
    assert_int_equal(star.range_total, 0);
}

static void pieces_cover_the_file(void **ud) {
    (void)ud;
    static const uint64_t sizes[] = {0,        1,          1 << 20,   (1 << 20) + 1,
                                     99999999, 1ull << 40, 1ull << 46};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (uint32_t connections = 1; connections <= 16; connections += 5) {
            exo_pieces p;
            uint64_t sum = 0;
            assert_int_equal(exo_pieces_init(&p, sizes[i], connections, NULL), EXO_OK);
            for (size_t k = 0; k < p.n; k++) {
                assert_true(exo_pieces_length(&p, k) > 0);
                sum += exo_pieces_length(&p, k);
            }
            assert_int_equal(sum, sizes[i]);
            assert_true(p.n <= 70000);
            if (connections == 1) assert_true(p.n <= 1);
            exo_pieces_finish(&p);
        }
    }
}

static void write_text(const char *path, const char *text) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void a_state_is_taken_when_it_fits(void **ud) {
    (void)ud;
    char dir[] = "/tmp/exo-download-XXXXXX", part[64], state[80];
    assert_non_null(mkdtemp(dir));
    snprintf(part, sizeof part, "%s/x.part", dir);
    snprintf(state, sizeof state, "%s.json", part);
    write_text(part, "");
    assert_int_equal(truncate(part, 5 << 20), 0);
    exo_pieces p, q;
    assert_int_equal(exo_pieces_init(&p, 5 << 20, 4, NULL), EXO_OK);
    assert_int_equal(exo_pieces_init(&q, 5 << 20, 4, NULL), EXO_OK);
    p.done[0] = 1 << 20;
    p.done[3] = 17;
    assert_int_equal(exo_pieces_save(&p, part, "etag", NULL), EXO_OK);
    assert_false(exo_pieces_load(&q, part, "other"));
    assert_false(exo_pieces_load(&q, part, ""));
    assert_true(exo_pieces_load(&q, part, "etag"));
    assert_int_equal(exo_pieces_done(&q), (1 << 20) + 17);
    assert_int_equal(q.done[3], 17);
    static const char one_byte_more[] = /* than the piece has */
        "{\"identity\":\"etag\",\"bytes\":5242880,\"piece_bytes\":1048576,"
        "\"done\":[1,1,1,1,1048577]}";
    static const char *const bad[] = {
        "{\"identity\":\"etag\",\"bytes\":5242880,\"piece_bytes\":0,\"done\":[]}",
        "{\"identity\":\"etag\",\"bytes\":5242880,\"piece_bytes\":1048576,\"done\":[1,1,1,1]}",
        one_byte_more,
        "{\"identity\":\"etag\",\"bytes\":5242880,\"piece_bytes\":1048576,\"done\":[1,1,1,1,-1]}",
        "{\"identity\":\"etag\",\"bytes\":5242880,\"piece_bytes\":1,\"done\":[]}",
        "{\"identity\":\"etag\",\"bytes\":5,\"piece_bytes\":5,\"done\":[5]}",
        "nonsense",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_text(state, bad[i]);
        assert_false(exo_pieces_load(&q, part, "etag"));
        assert_int_equal(exo_pieces_done(&q), (1 << 20) + 17); /* untouched */
    }
    exo_pieces_forget(part);
    assert_int_not_equal(access(state, F_OK), 0);
    exo_pieces_finish(&p);
    exo_pieces_finish(&q);
    unlink(part);
    rmdir(dir);
}

static void origins_are_compared_whole(void **ud) {
    (void)ud;
    assert_true(exo_http_same_origin("https://h/a", "https://h:443/b?c"));
    assert_true(exo_http_same_origin("https://H/a", "https://h/a"));
    assert_false(exo_http_same_origin("https://h/a", "http://h/a"));
    assert_false(exo_http_same_origin("https://h/a", "https://h:444/a"));
    assert_false(exo_http_same_origin("https://h/a", "https://h.evil/a"));
    assert_false(exo_http_same_origin("http://localhost/a", "http://127.0.0.1/a"));
    assert_false(exo_http_same_origin("https://h@evil/a", "https://h/a"));
    assert_false(exo_http_same_origin("", ""));
    char name[256];
    assert_string_equal(exo_http_host("https://u:secret@h/a?token=1", name), "h:443");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_are_read),
        cmocka_unit_test(odd_fields_are_ignored),
        cmocka_unit_test(pieces_cover_the_file),
        cmocka_unit_test(a_state_is_taken_when_it_fits),
        cmocka_unit_test(origins_are_compared_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
