/* hf_pre.c - what a tokenizer.json's pre_tokenizer does, as the name that GGUF files have for it.
 *
 * The steps are written down as one line each ("split REGEX", "digits", "bytes"), and the whole is
 * looked up in a table: structure against structure, so that layout, unknown members and the order
 * of members do not matter.  The expressions are those that the models' files have. */
#include "model/hf_impl.h"

#include "base/buf.h"

#include <stdio.h>
#include <string.h>

#define MAX_STEPS 16

#define CONTRACTION "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SPACES      "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define CASED_1                                                                                    \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
#define CASED_2                                                                                    \
    "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*"
#define SPLIT "split "

static const struct {
    const char *steps, *name;
} known[] = {
    {"words+bytes\n", "gpt-2"},
    {"digits\nwords+bytes\n", "starcoder"},
    {SPLIT CONTRACTION
     "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" SPACES "\nbytes\n",
     "llama-bpe"},
    {SPLIT CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" SPACES
                       "\nbytes\n",
     "qwen2"},
    {SPLIT CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}|"
                       " ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" SPACES "\nbytes\n",
     "qwen35"},
    {SPLIT CASED_1 CONTRACTION "?" CASED_2 CONTRACTION "?|\\p{N}{1,3}|"
                               " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" SPACES "\nbytes\n",
     "gpt-4o"},
    {SPLIT CASED_1 CASED_2 "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" SPACES "\nbytes\n", "tekken"},
    {SPLIT "[\\r\\n]\n" SPLIT "\\s?\\p{L}+\n" SPLIT "\\s?\\p{P}+\n" SPLIT
           "[\xE4\xB8\x80-\xE9\xBE\xA5\xE0\xA0\x80-\xE4\xB8\x80\xEA\xB0\x80-\xED\x9F\xBF]+\n"
           "digits\nbytes\n",
     "deepseek-coder"},
    {SPLIT "\\p{N}{1,3}\n" SPLIT
           "[\xE4\xB8\x80-\xE9\xBE\xA5\xE3\x81\x80-\xE3\x82\x9F\xE3\x82\xA0-\xE3\x83\xBF]+\n" SPLIT
           "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?"
           "[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*" SPACES "\nbytes\n",
     "deepseek-v3"},
    {"punctuation\nwords+bytes\nnumbers\n" SPLIT "[0-9][0-9][0-9]\n", "falcon"},
};

static const char *text_of(const json_t *from, const char *name) {
    const char *s = json_string_value(json_object_get(from, name));
    return s != NULL ? s : "";
}

/* A member that is absent means what the tokenizers library takes it for. */
static bool flag_of(const json_t *from, const char *name, bool fallback) {
    const json_t *v = json_object_get(from, name);
    return json_is_boolean(v) ? json_is_true(v) : fallback;
}

/* "Isolated" keeps matches as words; "Removed" of the inverse comes to the same. */
static void add_split(const json_t *step, exo_buf *out) {
    const json_t *pattern = json_object_get(step, "pattern");
    const char *behavior = text_of(step, "behavior"), *regex = text_of(pattern, "Regex");
    bool invert = flag_of(step, "invert", false);
    bool usual = (strcmp(behavior, "Isolated") == 0 && !invert) ||
                 (strcmp(behavior, "Removed") == 0 && invert);
    exo_buf_printf(out, usual && regex[0] != '\0' ? SPLIT "%s\n" : "odd split %s\n", regex);
}

static void add_step(const json_t *step, exo_buf *out) {
    const char *type = text_of(step, "type");
    if (strcmp(type, "Split") == 0) {
        add_split(step, out);
    } else if (strcmp(type, "ByteLevel") == 0) {
        if (flag_of(step, "add_prefix_space", true)) exo_buf_puts(out, "space+");
        exo_buf_puts(out, flag_of(step, "use_regex", true) ? "words+bytes\n" : "bytes\n");
    } else if (strcmp(type, "Digits") == 0) {
        exo_buf_puts(out, flag_of(step, "individual_digits", false) ? "digits\n" : "numbers\n");
    } else if (strcmp(type, "Punctuation") == 0) {
        bool usual = strcmp(text_of(step, "behavior"), "Contiguous") == 0;
        exo_buf_puts(out, usual ? "punctuation\n" : "odd punctuation\n");
    } else {
        exo_buf_printf(out, "%s\n", type);
    }
}

static void describe(const json_t *pre, exo_buf *out) {
    const json_t *steps = json_object_get(pre, "pretokenizers");
    if (!json_is_array(steps)) {
        add_step(pre, out);
        return;
    }
    size_t n = json_array_size(steps);
    for (size_t i = 0; i < n && i < MAX_STEPS; i++) add_step(json_array_get(steps, i), out);
    if (n > MAX_STEPS) exo_buf_puts(out, "more\n");
}

exo_status exo_hf_pre_name(const json_t *tokenizer, const char **out, exo_error *err) {
    exo_buf steps = {.limit_bytes = 16384};
    *out = NULL;
    describe(json_object_get(tokenizer, "pre_tokenizer"), &steps);
    for (size_t i = 0; i < sizeof known / sizeof *known && exo_buf_ok(&steps); i++) {
        if (strcmp(exo_buf_str(&steps), known[i].steps) == 0) *out = known[i].name;
    }
    /* The same words, but words that are in the vocabulary are not taken whole. */
    bool whole = flag_of(json_object_get(tokenizer, "model"), "ignore_merges", false);
    if (*out != NULL && strcmp(*out, "llama-bpe") == 0 && !whole) *out = "smaug-bpe";
    exo_status st = EXO_OK;
    if (*out == NULL) {
        for (size_t i = 0; i < steps.n; i++) {
            if (steps.data[i] == '\n') steps.data[i] = ';';
        }
        st = exo_error_set(err, EXO_EUNSUPPORTED,
                           "tokenizer.json: this pre-tokenizer is not known: %.120s",
                           exo_buf_str(&steps));
    }
    exo_buf_finish(&steps);
    return st;
}
