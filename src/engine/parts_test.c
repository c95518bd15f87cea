/* parts_test.c - whatever a text is cut into, its parts are the same and no mark shows; models that
 * break their format lose no text. */
#include "engine/parts.h"

#include "toy_vocab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define CONTROL      3
#define USER_DEFINED 4

static uint64_t rng_state;

static uint32_t rng(uint32_t n) { /* below n */
    uint64_t z = rng_state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (uint32_t)((z >> 32) * n >> 32);
}

/* Bytes and a few words; the marks are tokens of this type, or none when it is 0. */
static exo_tokenizer *tokenizer_with(const char *const *marks, uint32_t type) {
    toy_vocab v;
    exo_buf file = {0};
    exo_gguf *g = NULL;
    exo_tokenizer *t = NULL;
    exo_error err = {0};
    toy_bpe(&v, "gpt-2");
    for (size_t i = 0; type != 0 && marks[i] != NULL; i++) toy_add(&v, marks[i], type, 0);
    v.n_types = v.n_tokens;
    toy_write(&v, &file);
    if (exo_gguf_open_memory(file.data, file.n, &g, &err) != EXO_OK) fail_msg("%s", err.message);
    if (exo_tokenizer_create(g, &t, &err) != EXO_OK) fail_msg("%s", err.message);
    exo_gguf_close(g);
    exo_buf_finish(&file);
    return t;
}

static const char *const harmony_marks[] = {"<|start|>", "<|channel|>", "<|message|>",   "<|end|>",
                                            "<|call|>",  "<|return|>",  "<|constrain|>", NULL};
static const char *const think_marks[] = {"<think>", "</think>", "<|channel>", "<channel|>", NULL};

typedef struct {
    exo_buf content, reasoning;
    size_t n_content_tokens;
} answer;

/* The text in pieces of `piece` bytes, or of random sizes when it is 0; special tokens whole. */
static void say(const exo_tokenizer *t, exo_format f, const char *prompt, const char *text,
                uint32_t piece, answer *a) {
    exo_ids before = {0}, ids = {0};
    exo_parts p;
    *a = (answer){0};
    assert_int_equal(exo_tokenize(t, prompt, strlen(prompt), EXO_TOKENIZE_SPECIAL, &before, NULL),
                     EXO_OK);
    for (size_t i = 0, n = strlen(text); i < n;) {
        size_t step = piece > 0 ? piece : 1 + rng(9);
        if (step > n - i) step = n - i;
        assert_int_equal(exo_tokenize(t, text + i, step, EXO_TOKENIZE_SPECIAL, &ids, NULL), EXO_OK);
        i += step;
    }
    assert_int_equal(exo_parts_init(&p, t, f, (exo_tokens){before.ids, before.n}, NULL), EXO_OK);
    for (size_t i = 0; i < ids.n; i++) {
        a->n_content_tokens += exo_parts_push(&p, ids.ids[i], &a->content, &a->reasoning);
    }
    exo_parts_end(&p, &a->content, &a->reasoning);
    assert_true(exo_parts_ok(&p));
    exo_parts_finish(&p);
    exo_ids_finish(&before);
    exo_ids_finish(&ids);
}

static void finish(answer *a) {
    exo_buf_finish(&a->content);
    exo_buf_finish(&a->reasoning);
}

typedef struct {
    const char *prompt, *text, *content, *reasoning;
} expected;

static void check(const exo_tokenizer *t, exo_format f, const expected *e, uint32_t piece) {
    answer a;
    say(t, f, e->prompt, e->text, piece, &a);
    if (strcmp(exo_buf_str(&a.content), e->content) != 0 ||
        strcmp(exo_buf_str(&a.reasoning), e->reasoning) != 0) {
        fail_msg("%s: content \"%s\", reasoning \"%s\"", e->text, exo_buf_str(&a.content),
                 exo_buf_str(&a.reasoning));
    }
    finish(&a);
}

/* ---- harmony ---- */

#define ASK "<|start|>user<|message|>hi<|end|><|start|>assistant"

static const expected harmony_cases[] = {
    {ASK,
     "<|channel|>analysis<|message|>User says hi.<|end|><|start|>assistant<|channel|>final"
     "<|message|>Hello!",
     "Hello!", "User says hi."},
    {ASK, "<|channel|>final<|message|>Hello!<|return|>", "Hello!", ""},
    /* cut off: in the reasoning, in a header, behind a mark */
    {ASK, "<|channel|>analysis<|message|>We nee", "", "We nee"},
    {ASK, "<|channel|>analysis<|message|>hm<|end|><|start|>assist", "", "hm"},
    {ASK, "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>fin", "", "hm"},
    {ASK, "<|channel|>analysis<|message|>hm<|end|>", "", "hm"},
    {ASK, "", "", ""},
    /* other channels */
    {ASK,
     "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary<|message|>b"
     "<|end|><|start|>assistant<|channel|>final<|message|>c",
     "c", "a\n\nb"},
    {ASK, "<|channel|>summary<|message|>In short.", "In short.", ""},
    {ASK, "<|channel|>analysisx<|message|>In short.", "In short.", ""},
    {ASK, "<|message|>no channel", "no channel", ""},
    {ASK, "<|channel|><|message|>no name", "no name", ""},
    {ASK, "<|channel|>final<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b",
     "a\n\nb", ""},
    /* tool calls, with the recipient on either side */
    {ASK, "<|channel|>commentary to=functions.f <|constrain|>json<|message|>{\"x\":1}<|call|>",
     "to=functions.f {\"x\":1}", ""},
    {ASK, " to=functions.f<|channel|>commentary json<|message|>{}", "to=functions.f {}", ""},
    /* broken: no header, no end, marks that repeat, text that looks like a mark */
    {ASK, "Just text.", "Just text.", ""},
    {ASK, "Just text.<|end|><|start|>assistant<|channel|>final<|message|>More.",
     "Just text.\n\nMore.", ""},
    {ASK, "<|channel|>analysis<|message|>a<|channel|>final<|message|>b", "b", "a"},
    {ASK, "<|channel|>final<|message|>a<|message|>b", "ab", ""},
    {ASK, "<|channel|><|channel|>analysis<|message|>a<|end|>\n<|end|>\n", "", "a"},
    {ASK, "<|start|><|start|>assistant<|channel|>final<|message|>a<|end|><|end|>", "a", ""},
    {ASK, "<|channel|>final<|message|>Say <|chan", "Say <|chan", ""},
    /* the prompt has begun the message */
    {ASK "<|channel|>final<|message|>", "Hello!", "Hello!", ""},
    {ASK "<|channel|>analysis<|message|>Let", " me see<|end|>", "", " me see"},
    {ASK "<|channel|>analysis", "<|message|>hm<|end|>", "", "hm"},
    {"no marks at all", "<|channel|>analysis<|message|>hm<|end|>", "", "hm"},
};

static void test_harmony_channels(void **state) {
    (void)state;
    exo_tokenizer *t = tokenizer_with(harmony_marks, CONTROL);
    for (size_t i = 0; i < sizeof harmony_cases / sizeof *harmony_cases; i++) {
        check(t, EXO_FORMAT_HARMONY, &harmony_cases[i], UINT32_MAX);
    }
    exo_tokenizer_destroy(t);
}

static void test_an_endless_header_is_text(void **state) {
    (void)state;
    char text[2000] = "<|channel|>final", content[2000];
    exo_tokenizer *t = tokenizer_with(harmony_marks, CONTROL);
    answer a;
    for (size_t n = strlen(text); n < 1500; n++) text[n] = (char)('a' + n % 26);
    say(t, EXO_FORMAT_HARMONY, ASK, text, UINT32_MAX, &a);
    strcpy(content, text + strlen("<|channel|>"));
    assert_string_equal(exo_buf_str(&a.content), content);
    finish(&a);
    exo_tokenizer_destroy(t);
}

/* Marks that are spelled are text, and a vocabulary without them has no harmony. */
static void test_spelled_harmony_marks_are_text(void **state) {
    (void)state;
    exo_tokenizer *t = tokenizer_with(harmony_marks, CONTROL);
    const expected spelled = {ASK, "<|channel|>final<|message|>Write <|end|> there.",
                              "Write <|end|> there.", ""};
    exo_parts p;
    exo_ids ids = {0};
    exo_buf content = {0}, reasoning = {0};
    assert_int_equal(
        exo_tokenize(t, "<|channel|>final<|message|>", 27, EXO_TOKENIZE_SPECIAL, &ids, NULL),
        EXO_OK);
    assert_int_equal(exo_tokenize(t, "Write <|end|> there.", 20, 0, &ids, NULL), EXO_OK);
    assert_int_equal(exo_parts_init(&p, t, EXO_FORMAT_HARMONY, (exo_tokens){0}, NULL), EXO_OK);
    for (size_t i = 0; i < ids.n; i++) exo_parts_push(&p, ids.ids[i], &content, &reasoning);
    assert_string_equal(exo_buf_str(&content), spelled.content);
    exo_parts_finish(&p);
    exo_buf_finish(&content);
    exo_buf_finish(&reasoning);
    exo_ids_finish(&ids);
    exo_tokenizer_destroy(t);
    t = tokenizer_with(harmony_marks, 0);
    int32_t marks[EXO_N_MARKS];
    assert_false(exo_format_harmony_ids(t, marks));
    const expected plain = {ASK, "<|channel|>x", "<|channel|>x", ""};
    check(t, EXO_FORMAT_HARMONY, &plain, UINT32_MAX);
    exo_tokenizer_destroy(t);
}

/* ---- marks around reasoning ---- */

#define OPENED "...assistant\n<think>\n"

static const expected think_cases[] = {
    {"", "<think>\nhm\n</think>\n\nHello!", "Hello!", "hm"},
    {"", "<think>\n\n</think>\n\nHello!", "Hello!", ""},
    {"", "  <think>a\n\nb</think>c\n", "c\n", "a\n\nb"},
    {"", "Hello!", "Hello!", ""},
    {"", "\n\n Hello!", "\n\n Hello!", ""},
    {"", "<thinking>", "<thinking>", ""},
    {"", "<thi", "<thi", ""},
    {"", " \n", " \n", ""},
    {"", "", "", ""},
    {"", "<think>never ended </thi", "", "never ended </thi"},
    {"", "<think>a < b </ c <<//</think>d", "d", "a < b </ c <<//"},
    {"", "<think>a<think>b</think>c", "c", "a<think>b"},
    {"", "The tag <think>x</think> is text.", "The tag <think>x</think> is text.", ""},
    {"", "<think>a</think>b</think>c", "b</think>c", "a"},
    {OPENED, "hm</think>\nHello!", "Hello!", "hm"},
    {OPENED, "hm", "", "hm"},
    {"<think>\n\n</think>\n\n", "Hello!", "Hello!", ""},
    {"say <think> to me.", "Hello!", "Hello!", ""},
};

static void test_reasoning_however_it_is_cut(void **state) {
    (void)state;
    exo_tokenizer *spelled = tokenizer_with(think_marks, 0);
    exo_tokenizer *shown = tokenizer_with(think_marks, USER_DEFINED);
    rng_state = 3;
    for (size_t i = 0; i < sizeof think_cases / sizeof *think_cases; i++) {
        check(spelled, EXO_FORMAT_THINK, &think_cases[i], 1);
        check(spelled, EXO_FORMAT_THINK, &think_cases[i], UINT32_MAX);
        check(shown, EXO_FORMAT_THINK, &think_cases[i], UINT32_MAX);
        for (int round = 0; round < 20; round++) {
            check(spelled, EXO_FORMAT_THINK, &think_cases[i], 0);
            check(shown, EXO_FORMAT_THINK, &think_cases[i], 0);
        }
    }
    exo_tokenizer_destroy(spelled);
    exo_tokenizer_destroy(shown);
}

/* Control tokens detokenise to nothing; as marks they count, and behind the reasoning they are
 * what they were. */
static void test_marks_that_are_control_tokens(void **state) {
    (void)state;
    exo_tokenizer *t = tokenizer_with(think_marks, CONTROL);
    static const expected cases[] = {
        {"", "<think>\nhm\n</think>\n\nHello!", "Hello!", "hm"},
        {OPENED, "hm</think>Hello!</think>", "Hello!", "hm"},
        {"", "Hello<think>!", "Hello!", ""},
    };
    static const expected channel[] = {
        {"", "<|channel>thought\nhm\n<channel|>Hello!", "Hello!", "hm"},
        {"", "<|channel>thoughtful", "<|channel>thoughtful", ""},
        {"<|channel>thought\n<channel|>", "Hello!", "Hello!", ""},
    };
    for (size_t i = 0; i < 3; i++) {
        check(t, EXO_FORMAT_THINK, &cases[i], UINT32_MAX);
        check(t, EXO_FORMAT_THOUGHT_CHANNEL, &channel[i], UINT32_MAX);
    }
    exo_tokenizer_destroy(t);
}

static void test_only_content_tokens_count_as_content(void **state) {
    (void)state;
    answer a;
    exo_tokenizer *t = tokenizer_with(harmony_marks, CONTROL);
    say(t, EXO_FORMAT_HARMONY, ASK,
        "<|channel|>analysis<|message|>x<|end|><|start|>assistant<|channel|>final<|message|>yz",
        1000, &a);
    assert_int_equal(a.n_content_tokens, 2);
    finish(&a);
    say(t, EXO_FORMAT_PLAIN, ASK, "xyz", 1, &a);
    assert_int_equal(a.n_content_tokens, 3);
    finish(&a);
    say(t, EXO_FORMAT_THINK, "", "<think>x</think>yz", 1, &a);
    assert_int_equal(a.n_content_tokens, 2);
    finish(&a);
    exo_tokenizer_destroy(t);
}

/* ---- hostile ---- */

/* No token twice, none lost: letters of what is said come out once, and never a mark. */
static void test_random_tokens_lose_no_message(void **state) {
    (void)state;
    exo_tokenizer *t = tokenizer_with(harmony_marks, CONTROL);
    int32_t marks[EXO_N_MARKS];
    assert_true(exo_format_harmony_ids(t, marks));
    rng_state = 11;
    for (int round = 0; round < 3000; round++) {
        exo_parts p;
        exo_buf content = {0}, reasoning = {0};
        size_t n_said = 0, n_out = 0;
        bool in_message = false;
        assert_int_equal(exo_parts_init(&p, t, EXO_FORMAT_HARMONY, (exo_tokens){0}, NULL), EXO_OK);
        for (uint32_t i = 0, n = rng(60); i < n; i++) {
            uint32_t mark = rng(8);
            int32_t id = mark < EXO_N_MARKS ? marks[mark] : (int32_t)('a' + rng(4));
            if (mark == EXO_MARK_MESSAGE) in_message = true;
            if (mark < EXO_N_MARKS && mark != EXO_MARK_MESSAGE) in_message = false;
            n_said += mark >= EXO_N_MARKS && in_message;
            exo_parts_push(&p, id, &content, &reasoning);
        }
        exo_parts_end(&p, &content, &reasoning);
        for (size_t i = 0; i < content.n; i++) {
            assert_int_not_equal(content.data[i], '<');
            n_out += content.data[i] != '\n';
        }
        assert_true(n_out >= n_said); /* no channel here has the name of one for reasoning */
        assert_int_equal(reasoning.n, 0);
        exo_parts_finish(&p);
        exo_buf_finish(&content);
        exo_buf_finish(&reasoning);
    }
    exo_tokenizer_destroy(t);
}

/* What templates say. */
static void test_formats_of_templates(void **state) {
    (void)state;
    static const struct {
        const char *source;
        exo_format plain, harmony; /* without and with harmony's tokens */
    } cases[] = {
        {"{{ messages[0].content }}", EXO_FORMAT_PLAIN, EXO_FORMAT_PLAIN},
        {"<|start|>assistant<|channel|>final", EXO_FORMAT_PLAIN, EXO_FORMAT_HARMONY},
        {"{{ content.split('</think>')[-1] }}", EXO_FORMAT_THINK, EXO_FORMAT_THINK},
        {"[THINK]{{ m.thinking }}[/THINK]", EXO_FORMAT_THINK_SQUARE, EXO_FORMAT_THINK_SQUARE},
        {"<seed:think>x</seed:think>", EXO_FORMAT_SEED_THINK, EXO_FORMAT_SEED_THINK},
        {"<|START_THINKING|><|END_THINKING|>", EXO_FORMAT_START_THINKING,
         EXO_FORMAT_START_THINKING},
        {"text.split('<channel|>')", EXO_FORMAT_THOUGHT_CHANNEL, EXO_FORMAT_THOUGHT_CHANNEL},
        {"", EXO_FORMAT_PLAIN, EXO_FORMAT_PLAIN},
    };
    exo_tokenizer *plain = tokenizer_with(harmony_marks, 0);
    exo_tokenizer *harmony = tokenizer_with(harmony_marks, CONTROL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        exo_str source = {cases[i].source, strlen(cases[i].source)};
        assert_int_equal(exo_format_of_template(source, plain), cases[i].plain);
        assert_int_equal(exo_format_of_template(source, harmony), cases[i].harmony);
    }
    exo_tokenizer_destroy(plain);
    exo_tokenizer_destroy(harmony);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_harmony_channels),
        cmocka_unit_test(test_an_endless_header_is_text),
        cmocka_unit_test(test_spelled_harmony_marks_are_text),
        cmocka_unit_test(test_reasoning_however_it_is_cut),
        cmocka_unit_test(test_marks_that_are_control_tokens),
        cmocka_unit_test(test_only_content_tokens_count_as_content),
        cmocka_unit_test(test_random_tokens_lose_no_message),
        cmocka_unit_test(test_formats_of_templates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
