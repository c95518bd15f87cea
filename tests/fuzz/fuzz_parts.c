/* fuzz_parts.c - any text as a model's answer, in any format; with libFuzzer.
 *
 * The first byte chooses the format, the second whether marks are control tokens, user-defined ones
 * or spelled in bytes.  Byte 0x1E ends the prompt, if there is one; byte 0x1F cuts the text, so
 * that a mark falls into pieces.  Beyond not crashing: nothing comes out that did not go in, and in
 * the formats whose marks are text the parts do not depend on the cuts. */
#include "base/mem.h"
#include "engine/parts.h"
#include "fuzz/target.h"
#include "toy_vocab.h"

#define MAX_INPUT_BYTES 4096
#define PROMPT_END      0x1E
#define CUT             0x1F

/* Made once; never freed, like everything a fuzz target keeps. */
static exo_tokenizer *toy(uint32_t type) {
    static const char *const marks[] = {"<|start|>", "<|channel|>",   "<|message|>", "<|end|>",
                                        "<|call|>",  "<|constrain|>", "<think>",     "</think>",
                                        "[THINK]",   "<seed:think>",  "<|channel>",  "<channel|>"};
    static exo_tokenizer *made[5];
    toy_vocab v;
    exo_buf file = {0};
    exo_gguf *g = NULL;
    if (made[type] != NULL) return made[type];
    toy_bpe(&v, "gpt-2");
    for (size_t i = 0; type != 0 && i < sizeof marks / sizeof *marks; i++) {
        toy_add(&v, marks[i], type, 0);
    }
    v.n_types = v.n_tokens;
    toy_write(&v, &file);
    CHECK(exo_gguf_open_memory(file.data, file.n, &g, NULL) == EXO_OK);
    CHECK(exo_tokenizer_create(g, &made[type], NULL) == EXO_OK);
    exo_gguf_close(g);
    exo_buf_finish(&file);
    return made[type];
}

static void tokenize(const exo_tokenizer *t, const uint8_t *s, size_t n, bool cut, exo_ids *ids) {
    size_t begin = 0;
    exo_buf text = {0};
    for (size_t i = 0; i <= n; i++) {
        if (i < n && s[i] != CUT) exo_buf_putc(&text, (char)s[i]);
        if (i < n && (s[i] != CUT || !cut)) continue;
        CHECK(exo_tokenize(t, exo_buf_str(&text), text.n, EXO_TOKENIZE_SPECIAL, ids, NULL) ==
              EXO_OK);
        begin = i + 1;
        exo_buf_clear(&text);
    }
    CHECK(begin == n + 1);
    exo_buf_finish(&text);
}

typedef struct {
    exo_buf part[2];
} answer;

static void parse(const exo_tokenizer *t, exo_format f, exo_tokens prompt, const exo_ids *ids,
                  answer *a) {
    exo_parts p;
    size_t n_in = 0, n_marks = 0;
    *a = (answer){0};
    CHECK(exo_parts_init(&p, t, f, prompt, NULL) == EXO_OK);
    for (size_t i = 0; i < ids->n; i++) {
        exo_parts_push(&p, ids->ids[i], &a->part[EXO_PART_CONTENT], &a->part[EXO_PART_REASONING]);
        n_in += 3 * exo_tokenizer_piece(t, ids->ids[i]).n; /* a broken byte becomes U+FFFD */
        n_marks++;
    }
    exo_parts_end(&p, &a->part[EXO_PART_CONTENT], &a->part[EXO_PART_REASONING]);
    CHECK(exo_parts_ok(&p));
    size_t n_out = a->part[0].n + a->part[1].n;
    CHECK(n_out <= n_in + 3 * n_marks + 256); /* blank lines between messages; a header's rest */
    exo_parts_end(&p, &a->part[EXO_PART_CONTENT], &a->part[EXO_PART_REASONING]);
    CHECK(a->part[0].n + a->part[1].n == n_out);
    exo_parts_finish(&p);
}

static bool same(const exo_buf *a, const exo_buf *b) {
    return a->n == b->n && memcmp(exo_buf_str(a), exo_buf_str(b), a->n) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    static const uint32_t types[] = {0, 3, 4};
    if (n < 2 || n > MAX_INPUT_BYTES) return 0;
    exo_format f = (exo_format)(bytes[0] % EXO_N_FORMATS);
    const exo_tokenizer *t = toy(types[bytes[1] % 3]);
    const uint8_t *text = bytes + 2, *end = memchr(text, PROMPT_END, n - 2);
    size_t n_text = n - 2;
    exo_ids prompt = {0}, cut = {0}, whole = {0};
    if (end != NULL) {
        tokenize(t, text, (size_t)(end - text), false, &prompt);
        n_text -= (size_t)(end + 1 - text);
        text = end + 1;
    }
    tokenize(t, text, n_text, true, &cut);
    tokenize(t, text, n_text, false, &whole);
    answer a, b;
    parse(t, f, (exo_tokens){prompt.ids, prompt.n}, &cut, &a);
    parse(t, f, (exo_tokens){prompt.ids, prompt.n}, &whole, &b);
    bool ascii = true; /* a cut inside a character breaks it */
    for (size_t i = 2; i < n; i++) ascii = ascii && bytes[i] < 0x80;
    if (ascii && exo_format_reasoning(f) != NULL && bytes[1] % 3 == 0) {
        CHECK(same(&a.part[0], &b.part[0]) && same(&a.part[1], &b.part[1]));
    }
    for (int i = 0; i < 2; i++) {
        exo_buf_finish(&a.part[i]);
        exo_buf_finish(&b.part[i]);
    }
    exo_ids_finish(&prompt);
    exo_ids_finish(&cut);
    exo_ids_finish(&whole);
    return 0;
}
