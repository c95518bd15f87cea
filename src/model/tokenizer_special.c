/* tokenizer_special.c - finds tokens that text may spell out: <|im_end|>, [INST] and the like.
 *
 * Leftmost, and of those the longest, as the models' own tokenizers do.
 * Files do not say which of them swallow the white space beside them; the models that have such
 * tokens are known by their names, as they are to llama.cpp. */
#include "model/tokenizer_impl.h"

#include "base/mem.h"

#include <string.h>

static bool is_special(const exo_token *t) {
    bool kind = t->type == EXO_TOKEN_CONTROL || t->type == EXO_TOKEN_USER_DEFINED ||
                t->type == EXO_TOKEN_UNKNOWN;
    return kind && t->n_text > 0;
}

/* ---- tokens that swallow white space ---- */

static const struct {
    const char *key;   /* of the metadata */
    const char *part;  /* of its value, in small letters */
    const char *token; /* NULL: every special token but the three below */
    uint8_t strip;
} stripping[] = {
    {"tokenizer.ggml.pre", "jina-v2-de", "<mask>", EXO_STRIP_LEFT},
    {"tokenizer.ggml.pre", "jina-v2-es", "<mask>", EXO_STRIP_LEFT},
    {"tokenizer.ggml.pre", "jina-v2-code", "<mask>", EXO_STRIP_LEFT},
    {"general.architecture", "nomic-bert-moe", "<mask>", EXO_STRIP_LEFT},
    {"general.architecture", "jina-bert-v3", "<mask>", EXO_STRIP_LEFT},
    {"general.name", "phi-3", NULL, EXO_STRIP_RIGHT},
    {"general.name", "phi3", NULL, EXO_STRIP_RIGHT},
    {"general.name", "modern-bert", "[MASK]", EXO_STRIP_LEFT},
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

static void mark_stripping(exo_vocab *v, const exo_gguf *g, const int32_t *ids, size_t n) {
    exo_str value;
    for (size_t i = 0; i < sizeof stripping / sizeof stripping[0]; i++) {
        if (!exo_gguf_str(g, stripping[i].key, &value) || !holds(value, stripping[i].part))
            continue;
        for (size_t k = 0; k < n; k++) {
            exo_token *t = &v->tokens[ids[k]];
            if (strips(v, t, stripping[i].token)) t->strip = stripping[i].strip;
        }
        return;
    }
}

/* ---- the index ---- */

exo_status exo_special_init(exo_trie *x, exo_vocab *v, const exo_gguf *g, exo_error *err) {
    size_t n = 0;
    for (uint32_t id = 0; id < v->n; id++) n += is_special(&v->tokens[id]);
    int32_t *ids = exo_malloc((n + 1) * sizeof *ids);
    if (ids == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for the vocabulary");
    n = 0;
    for (uint32_t id = 0; id < v->n; id++) {
        if (is_special(&v->tokens[id])) ids[n++] = (int32_t)id;
    }
    mark_stripping(v, g, ids, n);
    exo_status status = exo_trie_init(x, v, ids, n, "special token", err);
    exo_free(ids);
    return status;
}

int32_t exo_special_match(const exo_trie *x, const exo_vocab *v, const uint8_t *s, size_t n,
                          bool control_too) {
    int32_t longest = EXO_NO_TOKEN;
    uint32_t node = x->first[s[0]];
    for (size_t depth = 1; node != 0; depth++) {
        int32_t id = x->nodes[node].id;
        if (id != EXO_NO_TOKEN && (control_too || v->tokens[id].type == EXO_TOKEN_USER_DEFINED))
            longest = id;
        node = depth < n ? exo_trie_next(x, node, s[depth]) : 0;
    }
    return longest;
}
