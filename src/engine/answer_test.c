/* Streaming must give the text, cut before the stop string that a plain search finds first. */
#include "engine/answer.h"

#include "base/mem.h"
#include "model/format.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static exo_gguf *file;
static exo_tokenizer *tokenizer;

static uint64_t rng_state;

static uint32_t rng(uint32_t n) { /* below n */
    uint64_t z = rng_state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (uint32_t)((z >> 32) * n >> 32);
}

static int open_tokenizer(void **state) {
    (void)state;
    const char *path = EXO_SHARED_DATA "/stories260K/stories260K-f16.gguf";
    exo_error err = {0};
    exo_status st = exo_gguf_open(path, &file, &err);
    if (st != EXO_OK) {
        printf("skipping: %s\n", err.message);
        return 0;
    }
    return exo_tokenizer_create(file, &tokenizer, &err) == EXO_OK ? 0 : -1;
}

static int close_tokenizer(void **state) {
    (void)state;
    exo_tokenizer_destroy(tokenizer);
    exo_gguf_close(file);
    return 0;
}

static void need_tokenizer(void) {
    if (tokenizer == NULL) skip();
}

static exo_ids ids_of(const char *text) {
    exo_ids ids = {0};
    assert_int_equal(exo_tokenize(tokenizer, text, strlen(text), 0, &ids, NULL), EXO_OK);
    return ids;
}

/* The plain text of all ids. */
static exo_buf text_of(const int32_t *ids, size_t n) {
    exo_buf text = {0};
    exo_detokenizer d;
    exo_detokenizer_init_continue(&d, tokenizer);
    for (size_t i = 0; i < n; i++) exo_detokenize(&d, ids[i], &text);
    exo_detokenize_end(&d, &text);
    assert_true(exo_buf_ok(&text));
    return text;
}

/* Bytes before the stop string that ends first, the longest of those; n when there is none. */
static size_t plain_cut(const char *text, size_t n, const exo_request *r) {
    for (size_t end = 1; end <= n; end++) {
        size_t longest = 0;
        for (uint32_t i = 0; i < r->n_stops; i++) {
            size_t len = strlen(r->stops[i]);
            if (len <= end && len > longest && memcmp(text + end - len, r->stops[i], len) == 0)
                longest = len;
        }
        if (longest > 0) return end - longest;
    }
    return n;
}

static exo_answer *new_answer(const exo_request *r) {
    exo_answer *a;
    exo_error err = {0};
    if (exo_answer_create(tokenizer, r, &a, &err) != EXO_OK) fail_msg("%s", err.message);
    return a;
}

static void test_text_is_that_of_the_tokens(void **state) {
    (void)state;
    need_tokenizer();
    exo_ids ids =
        ids_of("Once upon a time, there was a caf\xC3\xA9 with \xF0\x9F\x98\x80 and \xE2\x9C\x93.");
    exo_request r = {.max_tokens = (uint32_t)ids.n};
    exo_answer *a = new_answer(&r);
    exo_buf text = {0}, plain = text_of(ids.ids, ids.n);
    exo_finish finish;
    for (size_t i = 0; i < ids.n; i++) {
        size_t before = text.n;
        assert_int_equal(exo_answer_push(a, ids.ids[i], false, &text, &finish), EXO_OK);
        assert_int_equal(finish, i + 1 < ids.n ? EXO_GOING_ON : EXO_FINISH_LENGTH);
        /* never a part of a character: the next piece does not begin with a continuation byte */
        if (text.n > before) assert_int_not_equal((unsigned char)text.data[before] & 0xC0, 0x80);
    }
    assert_string_equal(exo_buf_str(&text), exo_buf_str(&plain));
    assert_int_equal(exo_answer_n_tokens(a), ids.n);
    exo_answer_destroy(a);
    exo_buf_finish(&text);
    exo_buf_finish(&plain);
    exo_ids_finish(&ids);
}

static void test_random_tokens_and_stops_against_plain_search(void **state) {
    (void)state;
    need_tokenizer();
    rng_state = 5;
    const char *story =
        "aab aabaab abab. The cat sat. The cat sat on the mat, aaaa b aab\n\nUser: no";
    exo_ids words = ids_of(story);
    uint32_t n_vocab = exo_tokenizer_n_vocab(tokenizer), n_cut = 0;
    for (int round = 0; round < 2000; round++) {
        int32_t ids[60];
        size_t n = 1 + rng(60);
        for (size_t i = 0; i < n; i++) { /* byte tokens too, so broken characters */
            uint32_t kind = rng(8);
            ids[i] =
                kind == 0 ? (int32_t)(3 + rng(n_vocab - 3)) : words.ids[rng((uint32_t)words.n)];
        }
        exo_buf plain = text_of(ids, n);
        exo_request r = {.n_stops = rng(4)};
        for (uint32_t i = 0; i < r.n_stops; i++) { /* pieces of the text, sometimes changed */
            size_t from = rng((uint32_t)plain.n + 1), len = 1 + rng(6);
            if (from + len > plain.n) {
                r.stops[i] = exo_strdup("aab");
                continue;
            }
            r.stops[i] = exo_strndup(plain.data + from, len);
            if (rng(2) == 0) r.stops[i][len - 1] = 'a';
        }
        exo_answer *a = new_answer(&r);
        exo_buf text = {0};
        exo_finish finish = EXO_GOING_ON;
        for (size_t i = 0; i < n && finish == EXO_GOING_ON; i++)
            assert_int_equal(exo_answer_push(a, ids[i], i + 1 == n, &text, &finish), EXO_OK);
        size_t cut = plain_cut(exo_buf_str(&plain), plain.n, &r);
        assert_int_equal(text.n, cut);
        if (cut > 0) assert_memory_equal(text.data, plain.data, cut);
        assert_int_equal(finish, cut < plain.n ? EXO_FINISH_STOP : EXO_FINISH_LENGTH);
        n_cut += cut < plain.n;
        size_t n_shown = text.n;
        exo_answer_flush(a, &text);
        assert_int_equal(text.n, n_shown); /* all of it was out */
        exo_answer_destroy(a);
        exo_buf_finish(&text);
        exo_buf_finish(&plain);
        for (uint32_t i = 0; i < r.n_stops; i++) exo_free(r.stops[i]);
    }
    assert_in_range(n_cut, 500, 1900);
    exo_ids_finish(&words);
}

static void test_possible_stop_is_held_back(void **state) {
    (void)state;
    need_tokenizer();
    char stop[] = "time there";
    exo_request r = {.n_stops = 1, .stops = {stop}};
    exo_ids ids = ids_of("Once upon a time, there");
    exo_answer *a = new_answer(&r);
    exo_buf text = {0};
    exo_finish finish;
    bool held = false;
    for (size_t i = 0; i < ids.n; i++) {
        assert_int_equal(exo_answer_push(a, ids.ids[i], false, &text, &finish), EXO_OK);
        size_t n = strlen(" Once upon a ");
        if (text.n >= n && strcmp(text.data + text.n - n, " Once upon a ") == 0) held = true;
    }
    assert_true(held); /* "time" waited until the comma came */
    exo_answer_flush(a, &text);
    assert_string_equal(exo_buf_str(&text), " Once upon a time, there");
    exo_answer_destroy(a);
    exo_buf_finish(&text);
    exo_ids_finish(&ids);
}

static void test_end_token_ends_unless_ignored(void **state) {
    (void)state;
    need_tokenizer();
    char stop[] = " a time";
    int32_t eos = exo_tokenizer_eos(tokenizer);
    exo_ids ids = ids_of("Once upon a");
    for (int ignored = 0; ignored < 2; ignored++) {
        exo_request r = {.n_stops = 1, .stops = {stop}, .ignore_end = ignored == 1};
        exo_answer *a = new_answer(&r);
        exo_buf text = {0};
        exo_finish finish;
        for (size_t i = 0; i < ids.n; i++)
            assert_int_equal(exo_answer_push(a, ids.ids[i], false, &text, &finish), EXO_OK);
        assert_string_equal(exo_buf_str(&text), " Once upon");
        assert_int_equal(exo_answer_push(a, eos, false, &text, &finish), EXO_OK);
        assert_int_equal(finish, ignored ? EXO_GOING_ON : EXO_FINISH_STOP);
        if (!ignored) assert_string_equal(exo_buf_str(&text), " Once upon a");
        exo_answer_destroy(a);
        exo_buf_finish(&text);
    }
    exo_ids_finish(&ids);
}

static void test_broken_character_ends_as_replacement(void **state) {
    (void)state;
    need_tokenizer();
    exo_ids ids = ids_of("\xF0\x9F\x98\x80"); /* bytes, as the vocabulary has no such token */
    assert_true(ids.n >= 4);
    exo_request r = {0};
    exo_answer *a = new_answer(&r);
    exo_buf text = {0};
    exo_finish finish;
    for (size_t i = 0; i + 1 < ids.n; i++)
        assert_int_equal(exo_answer_push(a, ids.ids[i], i + 2 == ids.n, &text, &finish), EXO_OK);
    assert_int_equal(finish, EXO_FINISH_LENGTH);
    assert_int_equal(memcmp(text.data + text.n - 3, "\xEF\xBF\xBD", 3), 0);
    exo_answer_destroy(a);
    exo_buf_finish(&text);
    exo_ids_finish(&ids);
}

static void test_stop_strings_are_checked(void **state) {
    (void)state;
    char *longest = calloc(EXO_MAX_STOP_BYTES + 2, 1);
    memset(longest, 'x', EXO_MAX_STOP_BYTES + 1);
    exo_request r = {.n_stops = 2, .stops = {"a", longest}};
    exo_answer *a;
    assert_int_equal(exo_answer_create(tokenizer, &r, &a, NULL), EXO_EINVAL);
    longest[EXO_MAX_STOP_BYTES] = '\0';
    assert_int_equal(exo_answer_create(tokenizer, &r, &a, NULL), EXO_OK);
    exo_answer_destroy(a);
    longest[0] = '\0';
    assert_int_equal(exo_answer_create(tokenizer, &r, &a, NULL), EXO_EINVAL);
    assert_null(a);
    exo_answer_destroy(NULL);
    free(longest);
}

static void test_no_memory_is_reported_and_nothing_leaks(void **state) {
    (void)state;
    need_tokenizer();
    exo_request r = {.n_stops = 2, .stops = {"stop", "halt"}};
    exo_ids ids = ids_of("Once upon a time, there was");
    for (uint64_t k = 1;; k++) {
        exo_answer *a;
        exo_buf text = {0};
        exo_finish finish;
        exo_mem_fail_at(k);
        exo_status st = exo_answer_create(tokenizer, &r, &a, NULL);
        for (size_t i = 0; st == EXO_OK && i < ids.n; i++)
            st = exo_answer_push(a, ids.ids[i], false, &text, &finish);
        int failed = exo_mem_failed();
        exo_mem_fail_at(0);
        assert_int_equal(st, failed ? EXO_ENOMEM : EXO_OK);
        exo_answer_destroy(a);
        exo_buf_finish(&text);
        if (!failed) break;
    }
    exo_ids_finish(&ids);
}

static void test_tokens_allocate_nothing(void **state) {
    (void)state;
    need_tokenizer();
    exo_request r = {.n_stops = 1, .stops = {"never this"}};
    exo_ids ids = ids_of("Once upon a time, there was a never that");
    exo_answer *a = new_answer(&r);
    exo_buf text = {0};
    assert_true(exo_buf_reserve(&text, 1000));
    uint64_t before = exo_mem_count();
    exo_finish finish;
    for (size_t i = 0; i < ids.n; i++)
        assert_int_equal(exo_answer_push(a, ids.ids[i], false, &text, &finish), EXO_OK);
    assert_true(exo_mem_count() == before);
    exo_answer_destroy(a);
    exo_buf_finish(&text);
    exo_ids_finish(&ids);
}

/* Stop strings are looked for in the content; every push says what reasoning it brought. */
static void test_reasoning_comes_apart_and_stops_nothing(void **state) {
    (void)state;
    need_tokenizer();
    exo_request r = {.format = EXO_FORMAT_THINK, .n_stops = 1, .stops = {"cat"}};
    exo_ids ids = ids_of("<think>The cat sat.</think> A dog and a cat sat.");
    exo_answer *a = new_answer(&r);
    exo_buf text = {0}, reasoning = {0};
    exo_finish finish = EXO_GOING_ON;
    size_t i = 0;
    for (; finish == EXO_GOING_ON && i < ids.n; i++) {
        assert_int_equal(exo_answer_push(a, ids.ids[i], false, &text, &finish), EXO_OK);
        exo_str brought = exo_answer_reasoning(a);
        if (brought.n > 0) assert_int_equal(text.n, 0);
        exo_buf_append(&reasoning, brought.s, brought.n);
    }
    assert_int_equal(finish, EXO_FINISH_STOP);
    assert_true(i < ids.n);
    assert_string_equal(exo_buf_str(&reasoning), "The cat sat.");
    assert_string_equal(exo_buf_str(&text), "A dog and a ");
    exo_answer_destroy(a);
    exo_buf_finish(&text);
    exo_buf_finish(&reasoning);
    exo_ids_finish(&ids);
}

/* An answer that is ended from outside keeps what it thought. */
static void test_flush_gives_the_reasoning(void **state) {
    (void)state;
    need_tokenizer();
    exo_request r = {.format = EXO_FORMAT_THINK};
    exo_ids ids = ids_of("<think>so </thin");
    exo_answer *a = new_answer(&r);
    exo_buf text = {0};
    exo_finish finish;
    for (size_t i = 0; i < ids.n; i++) {
        assert_int_equal(exo_answer_push(a, ids.ids[i], false, &text, &finish), EXO_OK);
    }
    exo_answer_flush(a, &text);
    exo_str brought = exo_answer_reasoning(a);
    assert_int_equal(brought.n, strlen(" </thin"));
    assert_memory_equal(brought.s, " </thin", brought.n);
    assert_int_equal(text.n, 0);
    exo_answer_destroy(a);
    exo_buf_finish(&text);
    exo_ids_finish(&ids);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_is_that_of_the_tokens),
        cmocka_unit_test(test_random_tokens_and_stops_against_plain_search),
        cmocka_unit_test(test_possible_stop_is_held_back),
        cmocka_unit_test(test_end_token_ends_unless_ignored),
        cmocka_unit_test(test_broken_character_ends_as_replacement),
        cmocka_unit_test(test_stop_strings_are_checked),
        cmocka_unit_test(test_no_memory_is_reported_and_nothing_leaks),
        cmocka_unit_test(test_tokens_allocate_nothing),
        cmocka_unit_test(test_reasoning_comes_apart_and_stops_nothing),
        cmocka_unit_test(test_flush_gives_the_reasoning),
    };
    return cmocka_run_group_tests(tests, open_tokenizer, close_tokenizer);
}
