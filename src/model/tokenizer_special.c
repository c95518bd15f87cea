/* tokenizer_special.c - finds tokens that text may spell out: <|im_end|>, [INST] and the like.
 *
 * Leftmost, and of those the longest, as the models' own tokenizers do.
 * Files do not say which of them swallow the white space beside them; the models that have such
 * tokens are known by their names, as they are to llama.cpp. */
#include "model/tokenizer_impl.h"

#include "base/mem.h"
#include "model/utf8.h"

#include <string.h>

bool exo_is_special(const exo_token *t) {
    return t->type == EXO_TOKEN_CONTROL || t->type == EXO_TOKEN_USER_DEFINED ||
           t->type == EXO_TOKEN_UNKNOWN;
}

/* ---- tokens that swallow white space ---- */

static const struct {
    const char *key;   /* of the metadata */
    const char *part;  /* of its value, in small letters */
    const char *token; /* NULL: every special token but the three below */
    uint8_t strip;
} stripping[] = {
    {"tokenizer.ggml.pre", "jina-v2-de", "<mask>", EXO_TOKEN_STRIP_LEFT},
    {"tokenizer.ggml.pre", "jina-v2-es", "<mask>", EXO_TOKEN_STRIP_LEFT},
    {"tokenizer.ggml.pre", "jina-v2-code", "<mask>", EXO_TOKEN_STRIP_LEFT},
    {"general.architecture", "nomic-bert-moe", "<mask>", EXO_TOKEN_STRIP_LEFT},
    {"general.architecture", "jina-bert-v3", "<mask>", EXO_TOKEN_STRIP_LEFT},
    {"general.name", "phi-3", NULL, EXO_TOKEN_STRIP_RIGHT},
    {"general.name", "phi3", NULL, EXO_TOKEN_STRIP_RIGHT},
    {"general.name", "modern-bert", "[MASK]", EXO_TOKEN_STRIP_LEFT},
};
static const char *const never_strip[] = {"<unk>", "<s>", "<|endoftext|>"};

static bool holds(exo_str value, const char *part) {
    size_t len = strlen(part), k;
    for (size_t i = 0; i + len <= value.n; i++) {
        for (k = 0; k < len; k++) {
            char c = value.s[i + k];
            if (c >= 'A' && c <= 'Z') c = (char)(c - 'A' + 'a');
            if (c != part[k]) break;
        }
        if (k == len) return true;
    }
    return false;
}

static bool text_is(const exo_vocab *v, const exo_token *t, const char *text) {
    return t->n_text == strlen(text) && memcmp(v->blob + t->text, text, t->n_text) == 0;
}

static bool strips(const exo_vocab *v, const exo_token *t, const char *token) {
    if (token != NULL) return text_is(v, t, token);
    for (size_t i = 0; i < sizeof never_strip / sizeof never_strip[0]; i++) {
        if (text_is(v, t, never_strip[i])) return false;
    }
    return true;
}

static void mark_stripping(exo_vocab *v, const exo_gguf *g) {
    exo_str value;
    for (size_t i = 0; i < sizeof stripping / sizeof stripping[0]; i++) {
        if (!exo_gguf_str(g, stripping[i].key, &value) || !holds(value, stripping[i].part))
            continue;
        for (uint32_t id = 0; id < v->n; id++) {
            exo_token *t = &v->tokens[id];
            if (exo_is_special(t) && strips(v, t, stripping[i].token))
                t->flags = stripping[i].strip;
        }
        return;
    }
}

/* ---- the index ---- */

exo_status exo_special_init(exo_trie *x, exo_vocab *v, const exo_gguf *g, exo_error *err) {
    size_t n;
    exo_trie_key *keys = exo_trie_keys(v, exo_is_special, &n);
    if (keys == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for the vocabulary");
    mark_stripping(v, g);
    exo_status status = exo_trie_init(x, keys, n, "special token", err);
    exo_free(keys);
    return status;
}

/* ---- walking over a text ---- */

/* The longest special token that s (n > 0) begins with and its bytes there, or EXO_NO_TOKEN. */
static int32_t match(const exo_tokenize_call *c, const exo_trie *x, const uint8_t *s, size_t n,
                     size_t *len) {
    const exo_vocab *v = &c->t->vocab;
    bool control_too = (c->flags & EXO_TOKENIZE_SPECIAL) != 0;
    int32_t longest = EXO_NO_TOKEN;
    uint32_t node = x->first[s[0]];
    for (size_t depth = 1; node != 0; depth++) {
        int32_t id = x->nodes[node].id;
        if (id != EXO_NO_TOKEN && (control_too || v->tokens[id].type == EXO_TOKEN_USER_DEFINED)) {
            longest = id;
            *len = depth;
        }
        node = depth < n ? exo_trie_next(x, node, s[depth]) : 0;
    }
    return longest;
}

/* The character before byte i > 0: where it begins.  Broken bytes stand alone. */
static size_t char_before(const uint8_t *s, size_t i, uint32_t *code) {
    size_t from = i - 1, len;
    while (from > 0 && i - from < 4 && (s[from] & 0xC0) == 0x80) from--;
    bool whole = exo_utf8_step(s + from, i - from, &len) == EXO_UTF8_WHOLE && from + len == i;
    *code = whole ? exo_utf8_decode(s + from, len) : 0xFFFD;
    return whole ? from : i - 1;
}

static size_t char_after(const uint8_t *s, size_t n, size_t i, uint32_t *code) {
    size_t len;
    bool whole = exo_utf8_step(s + i, n - i, &len) == EXO_UTF8_WHOLE;
    *code = whole ? exo_utf8_decode(s + i, len) : 0xFFFD;
    return i + len;
}

static bool is_whole_word(const uint8_t *s, size_t n, size_t begin, size_t end) {
    uint32_t code;
    if (begin > 0) {
        (void)char_before(s, begin, &code);
        if (exo_is_word_char(code)) return false;
    }
    if (end == n) return true;
    (void)char_after(s, n, end, &code);
    return !exo_is_word_char(code);
}

/* Where the white space before `begin` begins, but not before `least`. */
static size_t strip_left(const uint8_t *s, size_t begin, size_t least) {
    uint32_t code;
    if (begin < least) return least;
    for (size_t before; begin > least; begin = before) {
        before = char_before(s, begin, &code);
        if (!exo_is_white(code)) break;
    }
    return begin;
}

static size_t strip_right(const uint8_t *s, size_t n, size_t end) {
    uint32_t code;
    for (size_t after; end < n; end = after) {
        after = char_after(s, n, end, &code);
        if (!exo_is_white(code)) break;
    }
    return end;
}

exo_status exo_special_split(exo_tokenize_call *c, const exo_trie *x, exo_str str, bool first,
                             exo_plain_fn fn, exo_error *err) {
    const uint8_t *s = (const uint8_t *)str.s;
    size_t n = str.n, done = 0, len = 0; /* everything before done is in the ids */
    for (size_t i = 0; i < n;) {
        int32_t id = x->first[s[i]] != 0 ? match(c, x, s + i, n - i, &len) : EXO_NO_TOKEN;
        unsigned flags = id != EXO_NO_TOKEN ? c->t->vocab.tokens[id].flags : 0;
        if (id == EXO_NO_TOKEN) {
            i++;
            continue;
        }
        if ((flags & EXO_TOKEN_WHOLE_WORD) != 0 && !is_whole_word(s, n, i, i + len)) {
            i += len;
            continue;
        }
        size_t begin = i, end = i + len;
        if ((flags & EXO_TOKEN_STRIP_LEFT) != 0) begin = strip_left(s, begin, done);
        if ((flags & EXO_TOKEN_STRIP_RIGHT) != 0) end = strip_right(s, n, end);
        exo_status status = EXO_OK;
        if (done < begin)
            status = fn(c, (exo_str){str.s + done, begin - done}, first && done == 0, err);
        if (status != EXO_OK) return status;
        /* Of one that lies in white space which the token before it took, nothing is left. */
        if (begin < end && !exo_ids_push(c->ids, id)) return exo_ids_no_memory(err);
        i += len; /* and not end: the white space that it took may begin another one */
        done = end;
    }
    if (done == n) return EXO_OK;
    return fn(c, (exo_str){str.s + done, n - done}, first && done == 0, err);
}
