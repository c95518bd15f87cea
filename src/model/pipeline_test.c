/* pipeline_test.c - steps of a tokenizer.json: what they make of a text, and which are refused.
 * That they are those of Hugging Face's library is tests/oracle/hf_diff.py's to show. */
#include "model/pipeline.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define MODEL   "\"model\":{\"type\":\"BPE\"}"
#define NORM(n) "{\"normalizer\":" n "," MODEL "}"
#define PRE(p)  "{\"pre_tokenizer\":" p "," MODEL "}"
#define POST(p) "{\"post_processor\":" p ",\"pre_tokenizer\":null," MODEL "}"

static exo_status try_create(const char *json, exo_pipeline **p, exo_error *err) {
    return exo_pipeline_create((exo_str){json, strlen(json)}, 100, p, err);
}

static exo_status put_piece(void *ud, const uint8_t *s, size_t n, exo_error *err) {
    (void)err;
    exo_buf_append(ud, s, n);
    exo_buf_putc(ud, '|');
    return EXO_OK;
}

/* The text normalised and cut. */
static void run(const char *json, const char *text, exo_buf *out) {
    exo_pipeline *p = NULL;
    exo_pipeline_scratch scratch;
    exo_error err = {0};
    exo_str s = {text, strlen(text)};
    bool begins;
    if (try_create(json, &p, &err) != EXO_OK) fail_msg("%s: %s", json, err.message);
    assert_int_equal(exo_pipeline_scratch_init(&scratch, &err), EXO_OK);
    assert_int_equal(exo_pipeline_normalise(p, &scratch, s, &s, &begins, &err), EXO_OK);
    exo_buf_clear(out);
    assert_int_equal(exo_pipeline_cut(p, &scratch, s, begins, put_piece, out, &err), EXO_OK);
    exo_pipeline_scratch_finish(&scratch);
    exo_pipeline_destroy(p);
}

static void steps_change_and_cut_text(void **ud) {
    (void)ud;
    static const struct {
        const char *json, *text, *want;
    } cases[] = {
        {NORM("{\"type\":\"NFC\"}"), "e\xCC\x81", "\xC3\xA9|"},
        {NORM("{\"type\":\"NFD\"}"), "\xC3\xA9", "e\xCC\x81|"},
        {NORM("{\"type\":\"NFKC\"}"), "\xEF\xAC\x81", "fi|"},
        {NORM("{\"type\":\"Lowercase\"}"), "\xC4\xB0S", "i\xCC\x87s|"},
        {NORM("{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":false}"), " a ", "a |"},
        {NORM("{\"type\":\"Prepend\",\"prepend\":\"_\"}"), "a", "_a|"},
        {NORM("{\"type\":\"Replace\",\"pattern\":{\"String\":\"a.\"},\"content\":\"x\"}"), "a.ab",
         "xab|"},
        {NORM("{\"type\":\"BertNormalizer\"}"), "\xC3\x89\t\xE4\xB8\xAD", "e  \xE4\xB8\xAD |"},
        {PRE("{\"type\":\"ByteLevel\",\"add_prefix_space\":true}"), "a b",
         "\xC4\xA0"
         "a|\xC4\xA0"
         "b|"},
        {PRE("{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"first\"}"), "a b",
         "_a|_b|"},
        {PRE("{\"type\":\"Digits\",\"individual_digits\":true}"), "a12", "a|1|2|"},
        {PRE("{\"type\":\"Split\",\"pattern\":{\"String\":\"-\"},\"behavior\":"
             "\"MergedWithPrevious\",\"invert\":false}"),
         "a--b", "a-|-|b|"},
        {PRE("{\"type\":\"Split\",\"pattern\":{\"String\":\"-\"},\"behavior\":\"MergedWithNext\"}"),
         "a--b", "a|-|-b|"},
        {PRE("{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a-c]+\"},\"behavior\":\"Removed\","
             "\"invert\":true}"),
         "ab1c", "ab|c|"},
        {PRE("{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"WhitespaceSplit\"},"
             "{\"type\":\"FixedLength\",\"length\":2}]}"),
         "abc d", "ab|c|d|"},
    };
    exo_buf out = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        run(cases[i].json, cases[i].text, &out);
        if (strcmp(exo_buf_str(&out), cases[i].want) != 0)
            fail_msg("%s: %s", cases[i].json, exo_buf_str(&out));
    }
    exo_buf_finish(&out);
}

/* Quadratic work would take minutes. */
static void long_runs_of_marks_take_linear_time(void **ud) {
    (void)ud;
    exo_buf text = {0}, out = {0};
    for (size_t i = 0; i < 300000; i++) exo_buf_puts(&text, i % 2 == 0 ? "\xCC\x81" : "\xCC\xA3");
    run(NORM("{\"type\":\"NFC\"}"), exo_buf_str(&text), &out);
    assert_int_equal(out.n, text.n + 1);
    assert_memory_equal(out.data, "\xCC\xA3\xCC\xA3", 4); /* the lower class first */
    exo_buf_finish(&text);
    exo_buf_finish(&out);
}

static void ids_are_put_around(void **ud) {
    (void)ud;
    exo_pipeline *p = NULL;
    const char *template =
        POST("{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"},{"
             "\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{"
             "\"id\":\"<x>\"}},{\"Sequence\":{\"id\":\"A\"}}],\"special_tokens\":"
             "{\"<x>\":{\"ids\":[7,8]}}}]}");
    assert_int_equal(try_create(template, &p, NULL), EXO_OK);
    assert_true(p->framed && p->n_before == 2 && p->before[1] == 8 && p->n_after == 0);
    exo_pipeline_destroy(p);
    const char *bert = POST("{\"type\":\"RobertaProcessing\",\"cls\":[\"a\",3],\"sep\":[\"b\",4]}");
    assert_int_equal(try_create(bert, &p, NULL), EXO_OK);
    assert_true(p->n_before == 1 && p->before[0] == 3 && p->n_after == 1 && p->after[0] == 4);
    exo_pipeline_destroy(p);
}

static void what_is_not_known_is_named(void **ud) {
    (void)ud;
    static const struct {
        const char *json, *says;
    } cases[] = {
        {NORM("{\"type\":\"Odd\"}"), "normalizer \"Odd\""},
        {PRE("{\"type\":\"UnicodeScripts\"}"), "pre-tokenizer \"UnicodeScripts\""},
        {POST("{\"type\":\"Odd\"}"), "post-processor \"Odd\""},
        {POST("{\"type\":\"BertProcessing\",\"cls\":[\"a\",100],\"sep\":[\"b\",4]}"), "id 100"},
        {"{\"model\":{\"type\":\"Odd\"}}", "model \"Odd\""},
        {"{\"model\":{\"type\":\"BPE\",\"ignore_merges\":1}}", "ignore_merges"},
        {"[]", "no JSON object"},
        {NORM("{\"type\":\"Strip\",\"strip_left\":\"yes\"}"), "strip_left"},
        {NORM("{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"QUJD\"}"), "charsmap"},
        {PRE("{\"type\":\"Split\",\"pattern\":{},\"behavior\":\"Isolated\"}"), "pattern"},
        {PRE("{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},\"behavior\":\"Odd\"}"), "Odd"},
        {PRE("{\"type\":\"FixedLength\",\"length\":0}"), "0 characters"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        exo_pipeline *p = NULL;
        exo_error err = {0};
        assert_int_not_equal(try_create(cases[i].json, &p, &err), EXO_OK);
        assert_null(p);
        if (strstr(err.message, cases[i].says) == NULL)
            fail_msg("%s: %s", cases[i].json, err.message);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_change_and_cut_text),
        cmocka_unit_test(long_runs_of_marks_take_linear_time),
        cmocka_unit_test(ids_are_put_around),
        cmocka_unit_test(what_is_not_known_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
