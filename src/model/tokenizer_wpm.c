/* tokenizer_wpm.c - WordPiece as BERT has it: words, each covered by the longest tokens.
 *
 * Owns the normalisation: control characters go, white space parts words, punctuation and
 * Chinese characters are words of their own, and, where the model says so, accents are stripped
 * and letters made small.  In files a word begins with U+2581 and goes on without a mark.
 * A word that cannot be covered is one unknown token. */
#include "model/tokenizer_impl.h"

#include "base/mem.h"
#include "model/utf8.h"

#include <utf8proc.h>

#define MAX_WORD_CHARS 100 /* a longer word is unknown */
#define MAX_DECOMPOSED 8   /* code points; the longest canonical decomposition has 4 */

static const char word_begin[] = "\xE2\x96\x81";

static bool is_indexed(const exo_token *t) { return t->indexed; }

exo_status exo_wpm_init(exo_tokenizer *t, exo_error *err) {
    const exo_vocab *v = &t->vocab;
    size_t n;
    exo_trie_key *keys = exo_trie_keys(v, is_indexed, &n);
    if (keys == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for the vocabulary");
    exo_status status = exo_trie_init(&t->trie, keys, n, "token", err);
    exo_free(keys);
    return status;
}

/* ---- characters ---- */

static bool is_control(uint32_t c, int category) {
    if (c == '\t' || c == '\n' || c == '\r') return false;
    return category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CF ||
           category == UTF8PROC_CATEGORY_CS || category == UTF8PROC_CATEGORY_CO;
}

static bool is_space(uint32_t c, int category) {
    return c == '\t' || c == '\n' || c == '\r' || category == UTF8PROC_CATEGORY_ZS ||
           category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP;
}

static bool is_punctuation(uint32_t c, int category) {
    if (category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO) return true;
    return c < 0x7F && category >= UTF8PROC_CATEGORY_SM && category <= UTF8PROC_CATEGORY_SO;
}

/* BERT's list, with the gap that its implementations have at U+2B820. */
static bool is_chinese(uint32_t c) {
    static const uint32_t ranges[][2] = {{0x3400, 0x4DBF},   {0x4E00, 0x9FFF},   {0xF900, 0xFAFF},
                                         {0x20000, 0x2A6DF}, {0x2A700, 0x2B73F}, {0x2B740, 0x2B81F},
                                         {0x2B920, 0x2CEAF}, {0x2F800, 0x2FA1F}};
    if (c < ranges[0][0]) return false;
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        if (c >= ranges[i][0] && c <= ranges[i][1]) return true;
    }
    return false;
}

/* ---- words ---- */

static size_t count_chars(const uint8_t *s, size_t n) {
    size_t k = 0;
    for (size_t i = 0; i < n; i++) k += (s[i] & 0xC0) != 0x80;
    return k;
}

/* The word in c->escaped, if there is one. */
static bool end_word(exo_tokenize_call *c) {
    const exo_tokenizer *t = c->t;
    const uint8_t *s = (const uint8_t *)exo_buf_str(&c->escaped);
    size_t n = c->escaped.n, first = c->ids->n, len;
    bool ok = exo_buf_ok(&c->escaped), too_long = count_chars(s, n) > MAX_WORD_CHARS + 1;
    for (size_t i = 0; ok && i < n; i += len) {
        int32_t id = too_long ? EXO_NO_TOKEN : exo_trie_longest(&t->trie, s + i, n - i, &len);
        if (id == EXO_NO_TOKEN) {
            c->ids->n = first;
            id = t->vocab.unk;
            len = n - i;
        }
        ok = exo_ids_push(c->ids, id);
    }
    exo_buf_clear(&c->escaped);
    return ok;
}

static void add_char(exo_tokenize_call *c, uint32_t code) {
    uint8_t bytes[4];
    if (c->escaped.n == 0) exo_buf_puts(&c->escaped, word_begin);
    exo_buf_append(&c->escaped, bytes, exo_utf8_encode(code, bytes));
}

/* code is what is left after accents were taken apart. */
static bool add_part(exo_tokenize_call *c, uint32_t code) {
    const exo_vocab *v = &c->t->vocab;
    int category = (int)utf8proc_category((int32_t)code);
    if (v->strip_accents && category == UTF8PROC_CATEGORY_MN) return true;
    bool alone = is_punctuation(code, category);
    if (alone && !end_word(c)) return false;
    add_char(c, v->lowercase ? (uint32_t)utf8proc_tolower((int32_t)code) : code);
    return !alone || end_word(c);
}

static bool add_code(exo_tokenize_call *c, uint32_t code) {
    int category = (int)utf8proc_category((int32_t)code), boundary = 0;
    if (code == 0xFFFD || is_control(code, category)) return true;
    if (is_space(code, category)) return end_word(c);
    int32_t parts[MAX_DECOMPOSED] = {(int32_t)code};
    ptrdiff_t n = 1;
    if (code >= 0x80 && c->t->vocab.strip_accents)
        n = utf8proc_decompose_char((int32_t)code, parts, MAX_DECOMPOSED, UTF8PROC_DECOMPOSE,
                                    &boundary);
    bool alone = is_chinese(code), ok = !alone || end_word(c);
    for (ptrdiff_t i = 0; ok && i < n; i++) ok = add_part(c, (uint32_t)parts[i]);
    return ok && (!alone || end_word(c));
}

exo_status exo_wpm_text(exo_tokenize_call *c, const uint8_t *s, size_t n, exo_error *err) {
    bool ok = true;
    exo_buf_clear(&c->escaped);
    for (size_t i = 0, len; ok && i < n; i += len) {
        exo_utf8_step(s + i, n - i, &len);
        ok = add_code(c, exo_utf8_decode(s + i, len));
    }
    return ok && end_word(c) ? EXO_OK : exo_ids_no_memory(err);
}
