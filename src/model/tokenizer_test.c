/* tokenizer_test.c - the rules of tokenising, one by one, on small vocabularies made in memory;
 * broken vocabularies; allocation failures. */
#include "model/tokenizer.h"

#include "base/mem.h"
#include "toy_vocab.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define BYTE(b) (3 + (b)) /* SPM's id of a byte */

static exo_status try_create(const toy_vocab *v, exo_tokenizer **t, exo_error *err) {
    exo_buf file = {0};
    exo_gguf *g = NULL;
    toy_write(v, &file);
    assert_true(exo_buf_ok(&file));
    if (exo_gguf_open_memory(file.data, file.n, &g, err) != EXO_OK) fail_msg("%s", err->message);
    exo_status status = exo_tokenizer_create(g, t, err);
    assert_true((status == EXO_OK) == (*t != NULL));
    exo_gguf_close(g);
    exo_buf_finish(&file); /* a tokenizer keeps nothing of the file */
    return status;
}

static exo_tokenizer *create(const toy_vocab *v) {
    exo_tokenizer *t = NULL;
    exo_error err = {0};
    if (try_create(v, &t, &err) != EXO_OK) fail_msg("%s", err.message);
    return t;
}

static exo_tokenizer *create_bpe(const char *pre) {
    toy_vocab v;
    toy_bpe(&v, pre);
    return create(&v);
}

static exo_tokenizer *create_spm(void) {
    toy_vocab v;
    toy_spm(&v);
    return create(&v);
}

static void decode(const exo_tokenizer *t, const exo_ids *ids, exo_buf *out) {
    exo_detokenizer d;
    exo_buf_clear(out);
    exo_detokenizer_init(&d, t);
    for (size_t i = 0; i < ids->n; i++) exo_detokenize(&d, ids->ids[i], out);
    exo_detokenize_end(&d, out);
}

/* Pieces as stored, joined by '|'. */
static void check_flags(const exo_tokenizer *t, const char *text, unsigned flags,
                        const char *want) {
    exo_ids ids = {0};
    exo_buf got = {0};
    assert_int_equal(exo_tokenize(t, text, strlen(text), flags, &ids, NULL), EXO_OK);
    for (size_t i = 0; i < ids.n; i++) {
        exo_str piece = exo_tokenizer_piece(t, ids.ids[i]);
        exo_buf_printf(&got, "%s%.*s", i > 0 ? "|" : "", (int)piece.n, piece.s);
    }
    assert_string_equal(exo_buf_str(&got), want);
    exo_ids_finish(&ids);
    exo_buf_finish(&got);
}

static void check(const exo_tokenizer *t, const char *text, const char *want) {
    check_flags(t, text, 0, want);
}

/* ---- merging ---- */

static void bpe_merges_by_rank_then_leftmost(void **state) {
    (void)state;
    exo_tokenizer *t = create_bpe("gpt-2");
    check(t, "", "");
    check(t, "hello", "hello");
    check(t, "hellhe", "hell|he");
    check(t, "aaa", "aa|a");
    check(t, "aaaaa", "aa|aa|a");
    check(t, "abc", "a|bc"); /* "b c" comes before "a b" */
    check(t, "ab", "ab");
    check(t, "\xC3\xA9", "Ã©");
    exo_tokenizer_destroy(t);
}

static void bpe_without_token_types(void **state) {
    (void)state;
    toy_vocab v;
    toy_bpe(&v, "gpt-2");
    v.n_types = 0;
    exo_tokenizer *t = create(&v);
    check(t, "hello aa", "hello|Ġ|aa");
    assert_true(exo_tokenizer_is_end(t, 256 + 11 + 2)); /* <|im_end|>, by its name */
    exo_tokenizer_destroy(t);
}

static void ignore_merges_takes_whole_words(void **state) {
    (void)state;
    toy_vocab v;
    toy_bpe(&v, "llama-bpe");
    toy_add(&v, "Ġword", 1, 0); /* no merge leads there */
    v.n_types = v.n_tokens;
    exo_tokenizer *t = create(&v);
    check(t, " word", "Ġword");
    check(t, " words", "Ġ|w|o|r|d|s");
    exo_tokenizer_destroy(t);
    v.pre = "smaug-bpe"; /* the same rule without that */
    t = create(&v);
    check(t, " word", "Ġ|w|o|r|d");
    exo_tokenizer_destroy(t);
}

static void spm_merges_by_score_then_leftmost(void **state) {
    (void)state;
    exo_tokenizer *t = create_spm();
    check(t, "", "");
    check(t, "aaa", "▁a|aa");
    check(t, "babc", "▁b|ab|c"); /* "ab" has the better score */
    check(t, "cbc", "▁|c|bc");
    check(t, "xaaa", "▁|<0x78>|aa|a");
    check(t, " hello", "▁▁|he|ll|o"); /* "ell" scores less than "he" and "ll" */
    check(t, "\xF0\x9F\x98\x80", "▁|<0xF0>|<0x9F>|<0x98>|<0x80>");
    check(t, "c c", "▁|c|▁|c");
    check(t,
          "c\xE2\x96\x81"
          "c",
          "▁|c|▁|c"); /* U+2581 is how SPM writes a space */
    exo_tokenizer_destroy(t);
}

/* A token that reaches over a space forbids taking words one by one. */
static void spm_tokens_may_span_words(void **state) {
    (void)state;
    toy_vocab v;
    toy_spm(&v);
    toy_add(&v, "c▁", 1, 1);
    toy_add(&v, "c▁c", 1, 2);
    v.n_types = v.n_scores = v.n_tokens;
    exo_tokenizer *t = create(&v);
    check(t, "c c", "▁|c▁c");
    exo_tokenizer_destroy(t);
}

/* ---- words ---- */

static void check_words(const char *pre, const char *text, const char *want) {
    exo_tokenizer *t = create_bpe(pre);
    check(t, text, want);
    exo_tokenizer_destroy(t);
}

static void words_bound_merges(void **state) {
    (void)state;
    check_words("gpt-2", "12", "12");     /* \p{N}+ */
    check_words("qwen2", "12", "1|2");    /* \p{N} */
    check_words("llama-bpe", "12", "12"); /* \p{N}{1,3} */
    check_words("llama-bpe", "00012", "0|0|0|12");
    check_words("llama-bpe", "0012", "0|0|1|2");
    check_words("smollm", "12", "1|2");
    check_words("gpt-2", "   a", "ĠĠ|Ġa"); /* the last space goes with the word */
    check_words("gpt-2", "  ", "ĠĠ");
    check_words("gpt-2", "  1", "Ġ|Ġ|1");
    check_words("smollm", "  1", "ĠĠ|1"); /* digits were set apart before */
    check_words("llama-bpe", "  1", "Ġ|Ġ|1");
    check_words("gpt-2", "h'ell", "h|'|e|ll");
    check_words("qwen2", "hell'llo", "hell|'|ll|o");
}

/* Each broken byte is U+FFFD to byte-level BPE; SentencePiece's pieces are spelled in bytes, and a
 * first byte has those that it promises. */
static void broken_utf8_is_kept_apart(void **state) {
    (void)state;
    exo_tokenizer *t = create_bpe("gpt-2");
    check(t,
          "a\xFF\x80"
          "aa\xC3",
          "a|ï|¿|½|ï|¿|½|aa|ï|¿|½");
    exo_tokenizer_destroy(t);
    t = create_spm();
    check(t,
          "a\x80"
          "aa\xC3",
          "▁a|<0x80>|aa|<0xC3>");
    check(t,
          "a\xE2"
          "ab",
          "▁a|<0xE2>|<0x61>|<0x62>");
    exo_tokenizer_destroy(t);
}

/* ---- the other kinds ---- */

static void check_way_back(const exo_tokenizer *t, const char *text, const char *want) {
    exo_ids ids = {0};
    exo_buf out = {0};
    assert_int_equal(exo_tokenize(t, text, strlen(text), EXO_TOKENIZE_BOS, &ids, NULL), EXO_OK);
    decode(t, &ids, &out);
    assert_string_equal(exo_buf_str(&out), want);
    exo_ids_finish(&ids);
    exo_buf_finish(&out);
}

static void wordpiece(void **state) {
    (void)state;
    toy_vocab v;
    toy_wpm(&v);
    exo_tokenizer *t = create(&v);
    check(t, "", "");
    check(t, "Hello  a\n", "▁hello|▁a");
    check(t, "heb helloz", "▁he|b|[UNK]"); /* what cannot be covered is unknown as a whole */
    check(t, "a!a", "▁a|▁!|▁a");
    check(t, "日a日", "▁日|▁a|▁日");
    check(t, "Über", "▁uber");
    check(t,
          "U\xCC\x88"
          "ber",
          "▁uber");
    check(t, "\xEA\xB0\x80", "▁ᄀ|ᅡ");          /* a syllable is its letters */
    check(t, "he\xE2\x80\x8Bllo\x07", "▁hello"); /* control characters are nothing */
    check(t,
          "a\xFF"
          "a",
          "[UNK]");
    check_flags(t, "a", EXO_TOKENIZE_BOS, "[CLS]|▁a|[SEP]");
    check_way_back(t, "Hello\n a-", "hello a -");
    exo_tokenizer_destroy(t);
    v.no_flag = "normalizer.lowercase";
    t = create(&v);
    check(t, "É hello Hello", "▁É|▁hello|[UNK]");
    exo_tokenizer_destroy(t);
}

static void unigram(void **state) {
    (void)state;
    toy_vocab v;
    toy_ugm(&v);
    exo_tokenizer *t = create(&v);
    check(t, "", "");
    check(t, "abc", "abc");
    check(t, "ab", "ab");
    check(t, " a b", "▁a|▁|b");
    check(t, "xya", "<unk>|a"); /* a run of unknown characters is one token */
    check(t, "axb", "a|<unk>|b");
    check(t, "\xFF\xFE", "<unk>");
    check(t, "a<tool>b", "a|<tool>|b");
    check_flags(t, "c", EXO_TOKENIZE_BOS, "c|</s>");
    exo_tokenizer_destroy(t);
    uint8_t charsmap[TOY_CHARSMAP_BYTES];
    toy_charsmap(charsmap);
    v.charsmap = charsmap;
    v.flag = "add_space_prefix";
    t = create(&v);
    check(t, "A", "▁|bc");
    check(t, "aQb\tc", "▁ab|▁|c");
    check_way_back(t, "ab  c", "ab  c");
    exo_tokenizer_destroy(t);
    v.flag = "remove_extra_whitespaces";
    t = create(&v);
    check(t, "  a\t a  ", "▁a|▁a");
    exo_tokenizer_destroy(t);
}

static void raw_bpe(void **state) {
    (void)state;
    toy_vocab v;
    toy_raw(&v);
    exo_tokenizer *t = create(&v);
    check(t, "ab ab", "ab|▁ab");
    check(t, "a  b", "a|▁▁|b");
    check(t, "a\n\nb\n\n\n", "a|\n\n|b|\n|\n|\n");
    check(t, "éx", "é|<0x78>");
    check_way_back(t, " ab\n x日", " ab\n x日");
    check_flags(t, "a", EXO_TOKENIZE_BOS, "<bos>|a"); /* whatever the file says */
    exo_tokenizer_destroy(t);
    v.model = "whitespace";
    v.no_flag = "add_bos_token";
    v.flag = "normalizer.lowercase";
    t = create(&v);
    check(t, " AB\n a", "ab|a");
    exo_tokenizer_destroy(t);
}

static void tokens_swallow_spaces(void **state) {
    (void)state;
    toy_vocab v;
    toy_bpe(&v, "gpt-2");
    v.name = "Some Phi-3 mini";
    exo_tokenizer *t = create(&v);
    check(t, "a <tool> \n a", "a|Ġ|<tool>|a");
    exo_tokenizer_destroy(t);
    toy_bpe(&v, "roberta-bpe");
    toy_add(&v, "<mask>", 4, 0);
    v.n_types = v.n_tokens;
    t = create(&v);
    check(t, "a <mask> a", "a|Ġ|<mask>|Ġa");
    exo_tokenizer_destroy(t);
    v.pre = "jina-v2-code";
    t = create(&v);
    check(t, "a \t<mask> a", "a|<mask>|Ġa");
    exo_tokenizer_destroy(t);
}

/* ---- special tokens ---- */

static void special_tokens(void **state) {
    (void)state;
    exo_tokenizer *t = create_bpe("gpt-2");
    const char *text = "a<|im_end|>a<tool>xa<tool>";
    check_flags(t, text, EXO_TOKENIZE_SPECIAL, "a|<|im_end|>|a|<tool>x|a|<tool>");
    check(t, text, "a|<|||i|m|_|e|n|d|||>|a|<tool>x|a|<tool>"); /* user-defined ones always */
    check_flags(t, "<|im_end<|im_end|>", EXO_TOKENIZE_SPECIAL, "<|||i|m|_|e|n|d|<|im_end|>");
    assert_true(exo_tokenizer_is_end(t, exo_tokenizer_eos(t)));
    assert_false(exo_tokenizer_is_end(t, exo_tokenizer_bos(t)));
    assert_false(exo_tokenizer_is_end(t, -1));
    assert_int_equal(exo_tokenizer_piece(t, -1).n, 0);
    assert_int_equal(exo_tokenizer_piece(t, 1 << 30).n, 0);
    exo_tokenizer_destroy(t);
    t = create_spm();
    check_flags(t, "a</s>a", EXO_TOKENIZE_SPECIAL | EXO_TOKENIZE_BOS, "<s>|▁a|</s>|▁a");
    check(t, "</s>", "▁|<0x3C>|<0x2F>|<0x73>|<0x3E>");
    exo_tokenizer_destroy(t);
}

/* SentencePiece never merges into a control token, even where the pieces lead there. */
static void plain_text_never_becomes_control(void **state) {
    (void)state;
    toy_vocab v;
    toy_spm(&v);
    toy_add(&v, "<", 1, 0);
    toy_add(&v, "s", 1, 0);
    toy_add(&v, ">", 1, 0);
    toy_add(&v, "s>", 1, 0);
    v.n_types = v.n_scores = v.n_tokens;
    exo_tokenizer *t = create(&v);
    check(t, "<s>", "▁|<|s>");
    exo_tokenizer_destroy(t);
}

static void bos_and_eos(void **state) {
    (void)state;
    exo_tokenizer *t = create_bpe("gpt-2");
    check_flags(t, "a", EXO_TOKENIZE_BOS, "a");
    exo_tokenizer_destroy(t);
    t = create_bpe("llama-bpe");
    check_flags(t, "a", EXO_TOKENIZE_BOS, "<|bos|>|a");
    exo_tokenizer_destroy(t);
    t = create_spm();
    check_flags(t, "", EXO_TOKENIZE_BOS, "<s>");
    exo_tokenizer_destroy(t);
}

/* ---- the way back ---- */

static void check_step(exo_detokenizer *d, int32_t id, const char *want) {
    exo_buf out = {0};
    exo_detokenize(d, id, &out);
    assert_string_equal(exo_buf_str(&out), want);
    exo_buf_finish(&out);
}

static void detokenizer_streams_whole_characters(void **state) {
    (void)state;
    exo_tokenizer *t = create_bpe("gpt-2");
    exo_detokenizer d;
    exo_buf out = {0};
    exo_detokenizer_init(&d, t);
    check_step(&d, ' ', " "); /* only SPM drops a first space */
    check_step(&d, 0xF0, "");
    check_step(&d, 0x9F, "");
    check_step(&d, 0x98, "");
    check_step(&d, exo_tokenizer_eos(t), ""); /* control tokens add nothing */
    check_step(&d, -1, "");
    check_step(&d, 100000, "");
    check_step(&d, 0x80, "\xF0\x9F\x98\x80");
    check_step(&d, 0xE2, "");
    check_step(&d, 'a',
               "\xEF\xBF\xBD"
               "a"); /* the sequence will not come */
    check_step(&d, 0x80, "\xEF\xBF\xBD");
    check_step(&d, 0xC3, "");
    check_step(&d, 0xC3, "\xEF\xBF\xBD");
    exo_detokenize_end(&d, &out);
    assert_string_equal(exo_buf_str(&out), "\xEF\xBF\xBD");
    exo_detokenize_end(&d, &out);
    assert_int_equal(out.n, 3);
    exo_buf_finish(&out);
    exo_tokenizer_destroy(t);
}

static void detokenizer_drops_the_first_space_of_spm(void **state) {
    (void)state;
    const int32_t space_a = BYTE(256) + 1;
    exo_tokenizer *t = create_spm();
    exo_detokenizer d;
    exo_detokenizer_init(&d, t);
    check_step(&d, exo_tokenizer_bos(t), "");
    check_step(&d, space_a, "a");
    check_step(&d, space_a, " a");
    exo_detokenizer_init_continue(&d, t);
    check_step(&d, space_a, " a");
    exo_tokenizer_destroy(t);
}

/* ---- broken vocabularies ---- */

static void check_refused(const toy_vocab *v, exo_status status, const char *why) {
    exo_tokenizer *t = NULL;
    exo_error err = {0};
    assert_int_equal(try_create(v, &t, &err), status);
    if (strstr(err.message, why) == NULL) fail_msg("\"%s\" lacks \"%s\"", err.message, why);
}

static void unknown_kinds_are_named(void **state) {
    (void)state;
    toy_vocab v;
    toy_bpe(&v, "no-such-rule");
    check_refused(&v, EXO_EUNSUPPORTED, "\"no-such-rule\"");
    v.pre = NULL;
    check_refused(&v, EXO_EUNSUPPORTED, "tokenizer.ggml.pre is missing");
    v.model = "rwkv";
    check_refused(&v, EXO_EUNSUPPORTED, "\"rwkv\"");
    v.model = NULL;
    check_refused(&v, EXO_EFORMAT, "tokenizer.ggml.model is missing");
}

static void broken_lists_are_refused(void **state) {
    (void)state;
    toy_vocab v;
    toy_spm(&v);
    v.n_scores--;
    check_refused(&v, EXO_EFORMAT, "scores");
    v.n_scores = 0;
    check_refused(&v, EXO_EFORMAT, "scores");
    toy_spm(&v);
    v.n_types--;
    check_refused(&v, EXO_EFORMAT, "token_type");
    toy_spm(&v);
    v.scores[5] = NAN;
    check_refused(&v, EXO_EFORMAT, "scores[5]");
    toy_spm(&v);
    v.n_tokens = v.n_types = v.n_scores = 0;
    check_refused(&v, EXO_EFORMAT, "tokens has 0 entries");
    toy_bpe(&v, "gpt-2");
    v.n_merges = 0;
    check_refused(&v, EXO_EFORMAT, "merges is missing");
}

static void broken_entries_are_refused(void **state) {
    (void)state;
    toy_vocab v;
    toy_bpe(&v, "gpt-2");
    toy_add(&v, "hello", 1, 0);
    v.n_types = v.n_tokens;
    check_refused(&v, EXO_EFORMAT, "same token");
    toy_bpe(&v, "gpt-2");
    toy_add(&v, "<tool>", 3, 0);
    v.n_types = v.n_tokens;
    check_refused(&v, EXO_EFORMAT, "same special token");
    toy_spm(&v);
    v.types[7] = 99;
    check_refused(&v, EXO_EFORMAT, "token_type[7] is 99");
    toy_spm(&v);
    v.types[7] = UINT32_MAX;
    check_refused(&v, EXO_EFORMAT, "token_type[7] is -1");
    toy_spm(&v);
    toy_add(&v, "<0xZZ>", 6, 0);
    v.n_types = v.n_scores = v.n_tokens;
    check_refused(&v, EXO_EFORMAT, "\"<0xZZ>\" is not <0x00> to <0xFF>");
    toy_spm(&v);
    toy_add(&v, "<0x0a>", 6, 0);
    v.n_types = v.n_scores = v.n_tokens;
    check_refused(&v, EXO_EFORMAT, "are the same byte");
    toy_bpe(&v, "gpt-2");
    toy_id(&v, "add_bos_token", 1);
    check_refused(&v, EXO_EFORMAT, "add_bos_token is neither true nor false");
    toy_bpe(&v, "gpt-2");
    toy_id(&v, "padding_token_id", 123456789);
    check_refused(&v, EXO_EFORMAT, "padding_token_id is 123456789, but there are");
    toy_bpe(&v, "gpt-2");
    v.ids[0].value = (uint32_t)v.n_tokens;
    check_refused(&v, EXO_EFORMAT, "eos_token_id");
    toy_bpe(&v, "llama-bpe");
    v.n_ids = 1;
    check_refused(&v, EXO_EFORMAT, "bos_token_id");
}

static void broken_charsmaps_are_refused(void **state) {
    (void)state;
    uint8_t charsmap[TOY_CHARSMAP_BYTES];
    toy_vocab v;
    toy_ugm(&v);
    v.charsmap = charsmap;
    toy_charsmap(charsmap);
    exo_put_u32(charsmap, TOY_CHARSMAP_BYTES);
    check_refused(&v, EXO_EFORMAT, "precompiled_charsmap");
    toy_charsmap(charsmap);
    charsmap[TOY_CHARSMAP_BYTES - 1] = 'x'; /* the last text has no end */
    check_refused(&v, EXO_EFORMAT, "precompiled_charsmap");
    toy_charsmap(charsmap);
    exo_put_u32(charsmap + 4, 0x1FFFFFu << 10); /* children far away */
    exo_tokenizer *t = create(&v);
    exo_ids ids = {0};
    exo_error err = {0};
    assert_int_equal(exo_tokenize(t, "A", 1, 0, &ids, &err), EXO_EFORMAT);
    assert_non_null(strstr(err.message, "outside of itself"));
    assert_int_equal(ids.n, 0);
    exo_ids_finish(&ids);
    exo_tokenizer_destroy(t);
}

/* Gaps in the list, bytes without a token and merges that lead nowhere do no harm. */
static void odd_vocabularies_work(void **state) {
    (void)state;
    static const char *const odd[] = {"", " ", "h", "x yz", "h  e", "no nsense", "he", "\xFF \xFE"};
    toy_vocab v;
    toy_bpe(&v, "gpt-2");
    v.texts['h'][0] = v.texts['!'][0] = '\0';
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) v.merges[v.n_merges++] = odd[i];
    exo_tokenizer *t = create(&v);
    check(t, "aa!aa", "aa|aa");
    check(t, "hello", "e|ll|o");
    exo_tokenizer_destroy(t);
    toy_spm(&v);
    for (size_t i = 3; i < 259; i++) v.types[i] = 5; /* no bytes: <unk> stands for them */
    t = create(&v);
    check(t, "a!", "▁a|<unk>");
    exo_tokenizer_destroy(t);
}

/* ---- memory ---- */

static void check_every_allocation(const toy_vocab *v) {
    exo_buf file = {0}, text = {0};
    exo_gguf *g = NULL;
    exo_ids ids = {0};
    toy_write(v, &file);
    assert_int_equal(exo_gguf_open_memory(file.data, file.n, &g, NULL), EXO_OK);
    for (int i = 0; i < 400; i++) exo_buf_printf(&text, "hello aab %d", i);
    int failed = 1;
    for (uint64_t k = 1; failed; k++) {
        exo_tokenizer *t = NULL;
        exo_error err = {0};
        ids.n = 0;
        exo_mem_fail_at(k);
        exo_status status = exo_tokenizer_create(g, &t, &err);
        if (status == EXO_OK) {
            status = exo_tokenize(t, text.data, text.n, 3, &ids, &err);
            if (status != EXO_OK) assert_int_equal(ids.n, 0);
        }
        failed = exo_mem_failed(); /* only without the JIT compiler's memory all is well */
        exo_mem_fail_at(0);
        if (status != EXO_ENOMEM && status != EXO_OK)
            fail_msg("allocation %d: %s", (int)k, err.message);
        if (!failed) assert_int_equal(status, EXO_OK);
        if (status != EXO_OK) assert_true(err.message[0] != '\0');
        exo_tokenizer_destroy(t);
        exo_ids_finish(&ids);
    }
    exo_gguf_close(g);
    exo_buf_finish(&file);
    exo_buf_finish(&text);
}

static void allocation_failures(void **state) {
    (void)state;
    toy_vocab v;
    toy_bpe(&v, "llama-bpe");
    check_every_allocation(&v);
    toy_spm(&v);
    check_every_allocation(&v);
    toy_wpm(&v);
    check_every_allocation(&v);
    uint8_t charsmap[TOY_CHARSMAP_BYTES];
    toy_ugm(&v);
    toy_charsmap(charsmap);
    v.charsmap = charsmap;
    check_every_allocation(&v);
    toy_raw(&v);
    check_every_allocation(&v);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bpe_merges_by_rank_then_leftmost),
        cmocka_unit_test(bpe_without_token_types),
        cmocka_unit_test(ignore_merges_takes_whole_words),
        cmocka_unit_test(spm_merges_by_score_then_leftmost),
        cmocka_unit_test(spm_tokens_may_span_words),
        cmocka_unit_test(words_bound_merges),
        cmocka_unit_test(broken_utf8_is_kept_apart),
        cmocka_unit_test(wordpiece),
        cmocka_unit_test(unigram),
        cmocka_unit_test(raw_bpe),
        cmocka_unit_test(tokens_swallow_spaces),
        cmocka_unit_test(broken_charsmaps_are_refused),
        cmocka_unit_test(special_tokens),
        cmocka_unit_test(plain_text_never_becomes_control),
        cmocka_unit_test(bos_and_eos),
        cmocka_unit_test(detokenizer_streams_whole_characters),
        cmocka_unit_test(detokenizer_drops_the_first_space_of_spm),
        cmocka_unit_test(unknown_kinds_are_named),
        cmocka_unit_test(broken_lists_are_refused),
        cmocka_unit_test(broken_entries_are_refused),
        cmocka_unit_test(odd_vocabularies_work),
        cmocka_unit_test(allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
