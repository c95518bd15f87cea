/* tokenizer_golden_test.c - real vocabularies: ids that other tokenizers wrote, round trips, and
 * the time that long and awkward texts take.  Skips where the shared test data is absent. */
#include "base/mem.h"
#include "model/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define VOCABS    EXO_SHARED_DATA "/tokenizers/"
#define SEPARATOR "\n__ggml_vocab_test__\n"

static const char *const vocab_names[] = {"gpt-2", "llama-bpe", "qwen2", "llama-spm"};
#define N_VOCABS (sizeof vocab_names / sizeof vocab_names[0])

static exo_tokenizer *tokenizers[N_VOCABS]; /* loaded once: 128,000 tokens take a while */

/* The file does not stay open: a tokenizer stands alone. */
static exo_tokenizer *load(const char *path) {
    exo_error err = {0};
    exo_gguf *g = NULL;
    exo_tokenizer *t = NULL;
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        print_message("skipped: %s is not here\n", path);
        skip();
    }
    fclose(f);
    if (exo_gguf_open(path, &g, &err) != EXO_OK) fail_msg("%s: %s", path, err.message);
    if (exo_tokenizer_create(g, &t, &err) != EXO_OK) fail_msg("%s: %s", path, err.message);
    exo_gguf_close(g);
    return t;
}

static const exo_tokenizer *vocab(size_t i) {
    char path[512];
    snprintf(path, sizeof path, VOCABS "ggml-vocab-%s.gguf", vocab_names[i]);
    if (tokenizers[i] == NULL) tokenizers[i] = load(path);
    return tokenizers[i];
}

static int unload(void **state) {
    (void)state;
    for (size_t i = 0; i < N_VOCABS; i++) exo_tokenizer_destroy(tokenizers[i]);
    return 0;
}

static char *read_text(const char *name, const char *suffix) {
    char path[512];
    exo_buf b = {0};
    char chunk[4096];
    size_t n;
    snprintf(path, sizeof path, VOCABS "ggml-vocab-%s.gguf%s", name, suffix);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    while ((n = fread(chunk, 1, sizeof chunk, f)) > 0) exo_buf_append(&b, chunk, n);
    fclose(f);
    assert_true(exo_buf_ok(&b));
    return b.data;
}

/* Ids as the golden files write them: " 15 4". */
static void print_ids(const exo_ids *ids, exo_buf *out) {
    exo_buf_clear(out);
    for (size_t i = 0; i < ids->n; i++) exo_buf_printf(out, " %d", ids->ids[i]);
}

static void decode(const exo_tokenizer *t, const exo_ids *ids, exo_buf *out) {
    exo_detokenizer d;
    exo_buf_clear(out);
    exo_detokenizer_init(&d, t);
    for (size_t i = 0; i < ids->n; i++) exo_detokenize(&d, ids->ids[i], out);
    exo_detokenize_end(&d, out);
    assert_true(exo_buf_ok(out));
}

static void check_goldens(size_t which) {
    const exo_tokenizer *t = vocab(which);
    char *texts = read_text(vocab_names[which], ".inp");
    char *lines = read_text(vocab_names[which], ".out");
    exo_ids ids = {0};
    exo_buf got = {0};
    int n_texts = 0;
    char *text = texts, *line = lines, *end;
    while ((end = strstr(text, SEPARATOR)) != NULL) {
        char *eol = strchr(line, '\n');
        assert_non_null(eol);
        *eol = '\0';
        size_t n = (size_t)(end - text);
        ids.n = 0;
        assert_int_equal(exo_tokenize(t, text, n, 0, &ids, NULL), EXO_OK);
        print_ids(&ids, &got);
        if (strcmp(exo_buf_str(&got), line) != 0)
            fail_msg("%s, text %d:\n want%s\n got %s", vocab_names[which], n_texts, line,
                     exo_buf_str(&got));
        decode(t, &ids, &got);
        assert_int_equal(got.n, n);
        assert_memory_equal(exo_buf_str(&got), text, n);
        text = end + strlen(SEPARATOR);
        line = eol + 1;
        n_texts++;
    }
    assert_int_equal(n_texts, 46);
    exo_ids_finish(&ids);
    exo_buf_finish(&got);
    exo_free(texts);
    exo_free(lines);
}

static void golden_gpt2(void **state) {
    (void)state;
    check_goldens(0);
}

static void golden_llama_bpe(void **state) {
    (void)state;
    check_goldens(1);
}

static void golden_qwen2(void **state) {
    (void)state;
    check_goldens(2);
}

static void golden_llama_spm(void **state) {
    (void)state;
    check_goldens(3);
}

static void golden_stories(void **state) {
    (void)state;
    static const int32_t want[] = {1, 403, 407, 261, 378};
    exo_tokenizer *t = load(EXO_SHARED_DATA "/stories260K/stories260K-f32.gguf");
    exo_ids ids = {0};
    const char *text = "Once upon a time";
    assert_int_equal(exo_tokenize(t, text, strlen(text), EXO_TOKENIZE_BOS, &ids, NULL), EXO_OK);
    assert_int_equal(ids.n, 5);
    assert_memory_equal(ids.ids, want, sizeof want);
    exo_ids_finish(&ids);
    exo_tokenizer_destroy(t);
}

static void special_tokens_llama3(void **state) {
    (void)state;
    static const int32_t want[] = {128000, 128006, 882, 128007, 271, 6151, 128009};
    const exo_tokenizer *t = vocab(1);
    const char *text = "<|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>";
    exo_ids ids = {0};
    exo_buf out = {0};
    unsigned flags = EXO_TOKENIZE_BOS | EXO_TOKENIZE_SPECIAL;
    assert_int_equal(exo_tokenize(t, text, strlen(text), flags, &ids, NULL), EXO_OK);
    assert_int_equal(ids.n, sizeof want / sizeof want[0]);
    assert_memory_equal(ids.ids, want, sizeof want);
    decode(t, &ids, &out);
    assert_string_equal(exo_buf_str(&out), "user\n\nhi");
    ids.n = 0;
    assert_int_equal(exo_tokenize(t, text, strlen(text), 0, &ids, NULL), EXO_OK);
    for (size_t i = 0; i < ids.n; i++) assert_true(ids.ids[i] < 128000);
    assert_true(exo_tokenizer_is_end(t, 128001) && exo_tokenizer_is_end(t, 128009));
    assert_false(exo_tokenizer_is_end(t, 128006) || exo_tokenizer_is_end(t, -1));
    exo_ids_finish(&ids);
    exo_buf_finish(&out);
}

/* ---- random texts ---- */

static uint32_t rng_state = 12345;

static uint32_t rng(void) {
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 17;
    rng_state ^= rng_state << 5;
    return rng_state;
}

static size_t put_utf8(char *out, uint32_t c) {
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n; --i > 0; c >>= 6) out[i] = (char)(0x80 | (c & 0x3F));
    out[0] = (char)((0xF00u >> n & 0xFF) | c);
    return n;
}

/* Letters, digits, blanks, marks, CJK, emoji, unassigned: what the rules tell apart. */
static uint32_t random_char(void) {
    switch (rng() % 12) {
    case 0: return "\n\r\t  \v\f"[rng() % 7];
    case 1: return 0x300 + rng() % 0x70;
    case 2: return 0x4E00 + rng() % 0x5000;
    case 3: return 0x1F300 + rng() % 0x400;
    case 4: return 0xA0 + rng() % 0x2000;
    case 5: return 0x2000 + rng() % 0x70;
    case 6: {
        uint32_t c = rng() % 0x110000;
        return c >= 0xD800 && c < 0xE000 ? '?' : c;
    }
    case 7: return "'sStTrRvVmMlLdDeE"[rng() % 17];
    case 8: return '0' + rng() % 10;
    default: return ' ' + rng() % 95;
    }
}

static void random_text(char *out, size_t *n) {
    *n = 0;
    for (uint32_t left = rng() % 12; left > 0; left--) {
        uint32_t c = random_char();
        if (c == 0x2581) c = '_'; /* SPM cannot tell it from a space */
        *n += put_utf8(out + *n, c);
    }
}

static void random_texts_come_back(void **state) {
    (void)state;
    exo_ids ids = {0};
    exo_buf out = {0};
    char text[64];
    size_t n;
    for (size_t which = 0; which < N_VOCABS; which++) {
        const exo_tokenizer *t = vocab(which);
        for (int i = 0; i < 25000; i++) {
            random_text(text, &n);
            ids.n = 0;
            assert_int_equal(exo_tokenize(t, text, n, 0, &ids, NULL), EXO_OK);
            decode(t, &ids, &out);
            if (out.n != n || memcmp(exo_buf_str(&out), text, n) != 0)
                fail_msg("%s, text %d: \"%.*s\" came back as \"%s\"", vocab_names[which], i, (int)n,
                         text, exo_buf_str(&out));
        }
    }
    exo_ids_finish(&ids);
    exo_buf_finish(&out);
}

/* A word seen before is copied, not merged: both must give the same ids. */
static void long_texts_equal_their_parts(void **state) {
    (void)state;
    exo_ids whole = {0}, parts = {0};
    exo_buf text = {0};
    char line[64];
    size_t n;
    for (size_t which = 0; which < 3; which++) { /* BPE: a line break ends a word */
        const exo_tokenizer *t = vocab(which);
        whole.n = parts.n = 0;
        exo_buf_clear(&text);
        for (int i = 0; i < 3000; i++) {
            size_t at = text.n;
            rng_state = 1 + (uint32_t)(i % 700); /* every line comes again */
            random_text(line, &n);
            exo_buf_puts(&text, "x");
            exo_buf_append(&text, line, n);
            exo_buf_puts(&text, "x\n");
            assert_int_equal(exo_tokenize(t, text.data + at, text.n - at, 0, &parts, NULL), EXO_OK);
        }
        assert_int_equal(exo_tokenize(t, text.data, text.n, 0, &whole, NULL), EXO_OK);
        assert_int_equal(whole.n, parts.n);
        assert_memory_equal(whole.ids, parts.ids, whole.n * sizeof *whole.ids);
    }
    exo_ids_finish(&whole);
    exo_ids_finish(&parts);
    exo_buf_finish(&text);
}

/* ---- time ---- */

/* In CPU time, since tests share the machine; a quadratic algorithm would need minutes. */
#define MAX_SECONDS_PER_MB 5.0

static void awkward_texts_take_no_time(void **state) {
    (void)state;
    static const char *const units[] = {"a",  " ",  "\n",           "1",    "\xC3\xA9",
                                        "<|", " a", "\xE2\x96\x81", "\xFF", " \n"};
    static char text[1 << 20];
    const size_t n = sizeof text;
    exo_ids ids = {0};
    for (size_t which = 1; which < N_VOCABS; which += 2) { /* llama-bpe and llama-spm */
        const exo_tokenizer *t = vocab(which);
        for (size_t u = 0; u < sizeof units / sizeof units[0]; u++) {
            size_t len = strlen(units[u]), used = n / len * len;
            for (size_t i = 0; i < used; i += len) memcpy(text + i, units[u], len);
            ids.n = 0;
            clock_t start = clock();
            assert_int_equal(exo_tokenize(t, text, used, EXO_TOKENIZE_SPECIAL, &ids, NULL), EXO_OK);
            double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
            if (seconds > MAX_SECONDS_PER_MB)
                fail_msg("%s: 1 MB of \"%s\" took %.1f s", vocab_names[which], units[u], seconds);
        }
    }
    exo_ids_finish(&ids);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_gpt2),
        cmocka_unit_test(golden_llama_bpe),
        cmocka_unit_test(golden_qwen2),
        cmocka_unit_test(golden_llama_spm),
        cmocka_unit_test(golden_stories),
        cmocka_unit_test(special_tokens_llama3),
        cmocka_unit_test(random_texts_come_back),
        cmocka_unit_test(long_texts_equal_their_parts),
        cmocka_unit_test(awkward_texts_take_no_time),
    };
    return cmocka_run_group_tests(tests, NULL, unload);
}
