/* pretokenize_test.c - the short cut for ASCII words against the expressions that it stands for.
 *
 * For every family that has it, texts of whatever touches such words (capitals, apostrophes,
 * marks, digits, white space, characters beyond ASCII) are cut by the pre-tokenizer, and once more
 * here, by the family's expressions alone. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "model/pretokenize.h"

#include "base/buf.h"

#include <pcre2.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEXTS 3000

static const char *const names[] = {
    "gpt-2",    "starcoder", "llama-bpe",   "qwen2", "qwen35", "ufakzeka", "seed-coder", "laguna",
    "minicpm5", "gpt-4o",    "deepseek-v3", "afmoe", "tekken", "youtu",    "kimi-k2",    "tiny_aya",
};
static const char *const parts[] = {
    "a",  "b",  "word", "Word",   "HTTP",   "s",      "S",       "'",        "'s",
    "'T", "ll", " ",    " ",      "  ",     "\n",     "\r\n",    "\t",       ",",
    ".",  "-",  "/",    "_",      "1",      "12",     "345",     "\u00E9",   "\u0301",
    "$",  "`",  "\x7F", "\u00A0", "\u2019", "\u017F", "\u01C5x", "\u65E5",   "\u0660",
    "@",  "[",  "{",    "~",      "x",      "Z",      "\u02B0",  "\u200D  ", "\uFF01",
};

static bool put_word(void *ud, const uint8_t *s, size_t n) {
    exo_buf *out = ud;
    exo_buf_append(out, s, n);
    exo_buf_append(out, "|", 1);
    return exo_buf_ok(out);
}

static pcre2_code *compile(const char *rule) {
    int code;
    PCRE2_SIZE at;
    pcre2_code *made = pcre2_compile((PCRE2_SPTR)rule, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP,
                                     &code, &at, NULL);
    assert_non_null(made);
    return made;
}

static void cut(pcre2_code *const *rules, const uint8_t *s, size_t n, exo_buf *out) {
    uint32_t options = 0;
    if (n == 0) return;
    if (*rules == NULL) {
        assert_true(put_word(out, s, n));
        return;
    }
    pcre2_match_data *match = pcre2_match_data_create(1, NULL);
    for (size_t done = 0, begin, end; done < n; done = end) {
        begin = end = n;
        if (pcre2_match(*rules, s, n, done, options, match, NULL) != PCRE2_ERROR_NOMATCH) {
            begin = pcre2_get_ovector_pointer(match)[0];
            end = pcre2_get_ovector_pointer(match)[1];
        }
        cut(rules + 1, s + done, begin - done, out);
        cut(rules + 1, s + begin, end - begin, out);
        options = begin == end ? PCRE2_NOTEMPTY_ATSTART : 0;
    }
    pcre2_match_data_free(match);
}

static void check_family(const char *name) {
    pcre2_code *rules[EXO_PRE_MAX_RULES + 1] = {0};
    exo_str key = {name, strlen(name)};
    const exo_pre_family *family = exo_pre_family_find(key);
    exo_pretokenizer *p = NULL;
    exo_buf text = {0}, got = {0}, want = {0};
    assert_non_null(family);
    assert_int_not_equal(exo_pre_quick_find(family), EXO_PRE_NOT_QUICK);
    assert_int_equal(exo_pretokenizer_create(key, &p, NULL), EXO_OK);
    exo_pretokenizer_scratch *scratch = exo_pretokenizer_scratch_create(p);
    for (size_t i = 0; family->rules[i] != NULL; i++) rules[i] = compile(family->rules[i]);
    srand(7);
    for (int i = 0; i < TEXTS; i++) {
        exo_buf_clear(&text);
        exo_buf_clear(&got);
        exo_buf_clear(&want);
        for (int k = rand() % 12; k >= 0; k--) {
            const char *part = parts[(size_t)rand() % (sizeof parts / sizeof *parts)];
            exo_buf_append(&text, part, strlen(part));
        }
        const uint8_t *s = (const uint8_t *)exo_buf_str(&text);
        assert_int_equal(exo_pretokenizer_split(p, scratch, s, text.n, put_word, &got, NULL),
                         EXO_OK);
        cut(rules, s, text.n, &want);
        if (strcmp(exo_buf_str(&got), exo_buf_str(&want)) != 0)
            fail_msg("%s: %s, not %s", name, exo_buf_str(&got), exo_buf_str(&want));
    }
    for (size_t i = 0; rules[i] != NULL; i++) pcre2_code_free(rules[i]);
    exo_pretokenizer_scratch_destroy(scratch);
    exo_pretokenizer_destroy(p);
    exo_buf_finish(&text);
    exo_buf_finish(&got);
    exo_buf_finish(&want);
}

static void quick_words_are_those_of_the_expressions(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) check_family(names[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quick_words_are_those_of_the_expressions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
