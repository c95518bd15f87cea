/* regex_test.c - what is respelled, what is refused, and that no expression takes for ever. */
#include "model/regex.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static exo_regex *create(const char *pattern) {
    exo_regex *r = NULL;
    exo_error err = {0};
    if (exo_regex_create((exo_str){pattern, strlen(pattern)}, &r, &err) != EXO_OK)
        fail_msg("%s: %s", pattern, err.message);
    return r;
}

/* The matches in text, each in brackets. */
static void mark(const char *pattern, const char *text, exo_buf *out) {
    exo_regex *r = create(pattern);
    exo_regex_match *m = exo_regex_match_create();
    assert_non_null(m);
    exo_regex_walk w = {r, m, (const uint8_t *)text, strlen(text), 0, SIZE_MAX};
    size_t begin, end;
    bool found = true;
    exo_buf_clear(out);
    while (found) {
        assert_int_equal(exo_regex_next(&w, &begin, &end, &found, NULL), EXO_OK);
        if (!found) break;
        exo_buf_putc(out, '[');
        exo_buf_append(out, text + begin, end - begin);
        exo_buf_putc(out, ']');
    }
    exo_regex_match_destroy(m);
    exo_regex_destroy(r);
}

static void expressions_mean_what_oniguruma_means(void **ud) {
    (void)ud;
    static const struct {
        const char *pattern, *text, *want;
    } cases[] = {
        {"\\s+",
         "a \xC2\x85\xE3\x80\x80"
         "b\xE1\xA0\x8E"
         "c",
         "[ \xC2\x85\xE3\x80\x80]"}, /* U+180E is no space */
        {"[^\\s]+", "ab c", "[ab][c]"},
        {"[\\S]", "a b", "[a][b]"},
        {"\\h+", "xaF0 g", "[aF0]"},
        {"\\p{N}{1,3}+", "12345 6", "[12345][6]"}, /* the interval again and again */
        {"a{,2}b", "aaab", "[aab]"},
        {"\\u4e2d", "x\xE4\xB8\xAD", "[\xE4\xB8\xAD]"},
        {"\\p{^L}+", "a12b", "[12]"},
        {"\\p{Letter}", "a1", "[a]"},
        {"\\p{Han}", "a\xE4\xB8\xAD\xE3\x80\x82", "[\xE4\xB8\xAD]"}, /* not by extensions */
        {"[[:upper:]-]+", "aB-c", "[B-]"},
        {"[\\d-x]+", "1-x2", "[1-x2]"},
        {"(?i:'S)", "it'\xC5\xBF", "['\xC5\xBF]"},
        {"^b|a$", "a\nb", "[a][b]"},
        {"\\w", "\xC2\xBD_\xE2\x91\xA0", "[\xC2\xBD][_]"},
        {"x|", "axa", "[][x][]"}, /* none right behind a match */
        {"(?<=a)b", "bab", "[b]"},
        {"{", "a{b", "[{]"},
    };
    exo_buf out = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mark(cases[i].pattern, cases[i].text, &out);
        if (strcmp(exo_buf_str(&out), cases[i].want) != 0)
            fail_msg("%s in \"%s\": %s", cases[i].pattern, cases[i].text, exo_buf_str(&out));
    }
    exo_buf_finish(&out);
}

static void what_has_no_counterpart_is_named(void **ud) {
    (void)ud;
    static const struct {
        const char *pattern, *says;
    } cases[] = {
        {"[a-z&&[^b]]", "intersection"},
        {"[a[b]]", "set within a set"},
        {"a(?i)b", "option"},
        {"\\k<x>", "escape"},
        {"\\1", "escape"},
        {"(?~a)", "group"},
        {"a{2}?", "repetition"},
        {"*a", "repetition of nothing"},
        {"\\xE4", "number"},
        {"[]a]", "begins with ']'"},
        {"a\\", "backslash"},
        {"[\\W]", "escape"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        exo_regex *r = NULL;
        exo_error err = {0};
        exo_str pattern = {cases[i].pattern, strlen(cases[i].pattern)};
        assert_int_equal(exo_regex_create(pattern, &r, &err), EXO_EUNSUPPORTED);
        assert_null(r);
        if (strstr(err.message, cases[i].says) == NULL)
            fail_msg("%s: %s", cases[i].pattern, err.message);
    }
}

static void what_is_no_expression_is_refused(void **ud) {
    (void)ud;
    static const char *const broken[] = {"(a", "a)", "[a", "[z-a]", "\\p{Nonesuch}", "(?<=a+)b"};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        exo_regex *r = NULL;
        exo_error err = {0};
        assert_int_not_equal(exo_regex_create((exo_str){broken[i], strlen(broken[i])}, &r, &err),
                             EXO_OK);
        assert_string_not_equal(err.message, "");
    }
}

static void backtracking_ends(void **ud) {
    (void)ud;
    static char text[64];
    memset(text, 'a', sizeof text - 1);
    exo_regex *r = create("(?:a|aa)+(?:a|aa)+[bc]");
    exo_regex_match *m = exo_regex_match_create();
    exo_regex_walk w = {r, m, (const uint8_t *)text, sizeof text - 1, 0, SIZE_MAX};
    size_t begin, end;
    bool found;
    exo_error err = {0};
    assert_int_equal(exo_regex_next(&w, &begin, &end, &found, &err), EXO_EUNSUPPORTED);
    assert_false(found);
    assert_non_null(strstr(err.message, "steps at byte 0"));
    exo_regex_match_destroy(m);
    exo_regex_destroy(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expressions_mean_what_oniguruma_means),
        cmocka_unit_test(what_has_no_counterpart_is_named),
        cmocka_unit_test(what_is_no_expression_is_refused),
        cmocka_unit_test(backtracking_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
