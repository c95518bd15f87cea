/* hf_pre.c - what a tokenizer.json's pre_tokenizer does, as the name that GGUF files have for it.
 *
 * The steps are written down as one line each ("split REGEX", "digits", "bytes"), and the whole is
 * looked up in a table: structure against structure, so that layout, unknown members and the order
 * of members do not matter.  The expressions are those that the models' files have.  What is not
 * here is done step by step (pipeline_cut.c), but has no name for other programs. */
#include "model/hf_impl.h"

#include "base/buf.h"

#include <stdio.h>
#include <string.h>

#define MAX_STEPS 16

/* Letters, punctuation, space at the end and ideographs, each cut out. */
#define DEEPSEEK_LLM_SPLITS                                                                        \
    "split [\r\n]\nsplit \\s?[A-Za-z\xC2\xB5\xC3\x80-\xC3\x96\xC3\x98-\xC3\xB6\xC3\xB8-"           \
    "\xC6\xBA\xC6\xBC-\xC6\xBF\xC7\x84-\xCA\x93\xCA\x95-\xCA\xAF\xCD\xB0-\xCD\xB3\xCD\xB6"         \
    "\xCD\xB7\xCD\xBB-\xCD\xBD\xCD\xBF\xCE\x86\xCE\x88-\xCE\x8A\xCE\x8C\xCE\x8E-\xCE\xA1"          \
    "\xCE\xA3-\xCF\xB5\xCF\xB7-\xD2\x81\xD2\x8A-\xD4\xAF\xD4\xB1-\xD5\x96\xE1\x82\xA0-"            \
    "\xE1\x83\x85\xE1\x8E\xA0-\xE1\x8F\xB5\xE1\x8F\xB8-\xE1\x8F\xBD\xE1\xB2\x90-"                  \
    "\xE1\xB2\xBA\xE1\xB2\xBD-\xE1\xB2\xBF\xE1\xB4\x80-\xE1\xB4\xAB\xE1\xB5\xAB-"                  \
    "\xE1\xB5\xB7\xE1\xB5\xB9-\xE1\xB6\x9A\xE1\xB8\x80-\xE1\xBC\x95\xE1\xBC\x98-"                  \
    "\xE1\xBC\x9D\xE1\xBC\xA0-\xE1\xBD\x85\xE1\xBD\x88-\xE1\xBD\x8D\xE1\xBD\x90-"                  \
    "\xE1\xBD\x97\xE1\xBD\x99\xE1\xBD\x9B\xE1\xBD\x9D\xE1\xBD\x9F-\xE1\xBD\xBD\xE1\xBE\x80"        \
    "-\xE1\xBE\xB4\xE1\xBE\xB6-\xE1\xBE\xBC\xE1\xBE\xBE\xE1\xBF\x82-\xE1\xBF\x84"                  \
    "\xE1\xBF\x86-\xE1\xBF\x8C\xE1\xBF\x90-\xE1\xBF\x93\xE1\xBF\x96-\xE1\xBF\x9B"                  \
    "\xE1\xBF\xA0-\xE1\xBF\xAC\xE1\xBF\xB2-\xE1\xBF\xB4\xE1\xBF\xB6-\xE1\xBF\xBC"                  \
    "\xE2\x84\x82\xE2\x84\x87\xE2\x84\x8A-\xE2\x84\x93\xE2\x84\x95\xE2\x84\x99-"                   \
    "\xE2\x84\x9D\xE2\x84\xA4\xE2\x84\xA6\xE2\x84\xA8\xE2\x84\xAA-\xE2\x84\xAD\xE2\x84\xAF"        \
    "-\xE2\x84\xB4\xE2\x84\xB9\xE2\x84\xBC-\xE2\x84\xBF\xE2\x85\x85-\xE2\x85\x89"                  \
    "\xE2\x85\x8E\xE2\x86\x83\xE2\x86\x84\xE2\xB0\x80-\xE2\xB1\xBB\xE2\xB1\xBE-"                   \
    "\xE2\xB3\xA4\xE2\xB3\xAB-\xE2\xB3\xAE\xE2\xB3\xB2\xE2\xB3\xB3\xEA\x99\x80-"                   \
    "\xEA\x99\xAD\xEA\x9A\x80-\xEA\x9A\x9B\xEA\x9C\xA2-\xEA\x9D\xAF\xEA\x9D\xB1-"                  \
    "\xEA\x9E\x87\xEA\x9E\x8B-\xEA\x9E\x8E\xEA\xAD\xB0-\xEA\xAE\xBF\xEF\xAC\x80-"                  \
    "\xEF\xAC\x86\xEF\xAC\x93-\xEF\xAC\x97\xEF\xBC\xA1-\xEF\xBC\xBA\xEF\xBD\x81-"                  \
    "\xEF\xBD\x9A\xF0\x90\x90\x80-\xF0\x90\x91\x8F\xF0\x90\x92\xB0-\xF0\x90\x93\x93"               \
    "\xF0\x90\x93\x98-\xF0\x90\x93\xBB\xF0\x90\xB2\x80-\xF0\x90\xB2\xB2\xF0\x90\xB3\x80-"          \
    "\xF0\x90\xB3\xB2\xF0\x91\xA2\xA0-\xF0\x91\xA3\x9F\xF0\x9E\xA4\x80-\xF0\x9E\xA5\x83]+"         \
    "\nsplit \\s?[!-/:-~\xEF\xBC\x81-\xEF\xBC\x8F\xEF\xBC\x9A-\xEF\xBD\x9E\xE2\x80\x98-"           \
    "\xE2\x80\x9F\xE3\x80\x80-\xE3\x80\x82]+\nsplit \\s+$\nsplit [\xE4\xB8\x80-"                   \
    "\xE9\xBE\xA5\xE0\xA0\x80-\xE4\xB8\x80\xEA\xB0\x80-\xED\x9F\xBF]+\n"

static const struct {
    const char *steps, *name;
    bool exactly; /* exo's rules of that name cut just so, whatever the vocabulary */
} known[] = {
    {"words+bytes\n", "gpt-2", true},
    {"split 's|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|"
     "\\s+\nbytes\n",
     "gpt-2", true},
    {"digits\nwords+bytes\n", "starcoder", true},
    {"split \\p{N}\nsplit 's|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+"
     "|\\s+(?!\\S)|\\s+\nbytes\n",
     "starcoder", true},
    {"split (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s"
     "\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+\nbytes\n",
     "llama-bpe", true},
    {"split (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}"
     "\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+\nbytes\n",
     "qwen2", true},
    {"split (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^"
     "\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+\nbytes\n",
     "qwen35", true},
    {"split [^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{L"
     "o}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}"
     "\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3"
     "}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+\nbytes\n",
     "gpt-4o", true},
    {"split [^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{L"
     "o}\\p{M}]+|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}"
     "\\p{Lo}\\p{M}]*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
     "\nbytes\n",
     "tekken", true},
    {"split [\r\n]\nsplit \\s?\\p{L}+\nsplit \\s?\\p{P}+\nsplit [\xE4\xB8\x80-\xE9\xBE\xA5"
     "\xE0\xA0\x80-\xE4\xB8\x80\xEA\xB0\x80-\xED\x9F\xBF]+\ndigits\nbytes\n",
     "deepseek-coder", true},
    {DEEPSEEK_LLM_SPLITS "digits\nbytes\n", "deepseek-llm", false},
    {DEEPSEEK_LLM_SPLITS "numbers\nbytes\n", "deepseek-llm", true},
    {"split \\p{N}{1,3}\nsplit [\xE4\xB8\x80-\xE9\xBE\xA5\xE3\x81\x80-\xE3\x82\x9F"
     "\xE3\x82\xA0-\xE3\x83\xBF]+\nsplit [!\\\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Z"
     "a-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r"
     "\\n]+|\\s+(?!\\S)|\\s+\nbytes\n",
     "deepseek-v3", true},
    {"punctuation\nwords+bytes\nnumbers\nsplit [0-9][0-9][0-9]\n", "falcon", false},
    {"split '(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}"
     "]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+\nbytes\n",
     "bailingmoe", true},
    {"split [^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n"
     "]+|\\s+(?!\\S)|\\s+\nbytes\n",
     "ufakzeka", true},
    {"split (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p"
     "{L}\\p{N}\\r\\n]+|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+\nbytes\n",
     "seed-coder", true},
    {"split (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\"
     "p{M}*)*)+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+\nbytes"
     "\n",
     "exaone-moe", true},
    {"split (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s"
     "\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s{512}(?!\\S)|\\s{256}(?!\\S)|\\s{128}(?!\\S)"
     "|\\s{64}(?!\\S)|\\s{32}(?!\\S)|\\s{16}(?!\\S)|\\s{8}(?!\\S)|\\s{4}(?!\\S)|\\s{1,2}(?!"
     "\\S)|\\s{1}\nbytes\n",
     "jais-2", true},
    {"split [^\\n]+|[\\n]+\nsplit (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}"
     "+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+\nbytes\n",
     "laguna", true},
    {"split \\p{N}{1,3}\nsplit (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
     "\\p{N}+| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+\nbytes\n",
     "minicpm5", true},
    {"split [\xEA\xB0\x80-\xED\x9E\xA3\xE3\x84\xB1-\xE3\x86\x8E]+|[\xEF\xBC\x81\xE2\x80\xA6"
     "\xE2\x80\x9C\xE2\x80\x9D\xE2\x80\x98\xE2\x80\x99\xE2\x80\x94\xEF\xBC\x9A\xEF\xBC\x9B"
     "\xEF\xBC\x8C\xE3\x80\x81-\xE3\x80\xBF\xEF\xB8\xB0-\xEF\xB9\x8F]+|[\xE3\x84\x85-"
     "\xE3\x84\xAF]+|[\xE4\xB8\x80-\xE9\xBE\xA5\xE3\x81\x80-\xE3\x82\x9F\xE3\x82\xA0-"
     "\xE3\x83\xBF]+\nsplit [^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p"
     "{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu"
     "}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|"
     "'d)?|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+\nbytes\n",
     "youtu", true},
    {"split \\d{1,3}(?=(?:\\d{3})*\\b)\nsplit [^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}"
     "\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\r\\n\\"
     "p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s"
     "|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s"
     "+(?!\\S)|\\s+\nbytes\n",
     "tiny_aya", true},
    {"split [\\p{Han}]+|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Ha"
     "n}]]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\r\\"
     "n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]+[\\p{Ll}\\p{Lm}\\p{L"
     "o}\\p{M}&&[^\\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]"
     "+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+\nbytes\n",
     "kimi-k2", true},
    {"split \\p{N}{1,3}\nsplit [\xE4\xB8\x80-\xE9\xBE\xA5\xE3\x81\x80-\xE3\x82\x9F"
     "\xE3\x82\xA0-\xE3\x83\xBF]+\nsplit [!\\\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Z"
     "a-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+|[\\r\\n]|\\s+(?!"
     "\\S)|\\s+\nsplit \\p{N}\nbytes\n",
     "spark2_5", true},
    {"split \\P{N}*\\p{N}{1,3}(?=(?:\\p{N}{3})*(?!\\p{N}))\nsplit [\xE4\xB8\x80-"
     "\xE9\xBF\xBF\xE3\x90\x80-\xE4\xB6\xBF\xEF\xA4\x80-\xEF\xAB\xBF\xE3\x81\x80-"
     "\xE3\x82\x9F\xE3\x82\xA0-\xE3\x83\xBF\xEF\xBD\xA5-\xEF\xBE\x9F\xE2\xBC\x80-"
     "\xE2\xBF\x9F\xE0\xB9\x80-\xE0\xB9\xBF\xE0\xBA\x80-\xE0\xBB\xBF\xE1\x9E\x80-"
     "\xE1\x9F\xBF\xE1\x80\x80-\xE1\x82\x9F\xEA\xA9\xA0-\xEA\xA9\xBF\xEA\xA7\xA0-"
     "\xEA\xA7\xBF\xEA\xB0\x80-\xED\x9E\xAF\xE1\x84\x80-\xE1\x87\xBF]+\nsplit [!\\\"#$%&'()"
     "*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]"
     "+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+\nbytes\n",
     "afmoe", true},
    {"split  ?[^(\\s|.,!?\xE2\x80\xA6\xE3\x80\x82\xEF\xBC\x8C\xE3\x80\x81\xE0\xA5\xA4"
     "\xDB\x94\xD8\x8C)]+\nbytes\n",
     "bloom", true},
    {"split  ?[^(\\s|.,!?\xE2\x80\xA6\xE3\x80\x82\xEF\xBC\x8C\xE3\x80\x81\xE0\xA5\xA4"
     "\xDB\x94\xD8\x8C)]+\nsplit \\p{N}\nbytes\n",
     "viking", true},
    {"split \\p{N}+\nsplit (?=(?:\\d{3})+(?!\\d))\nbytes\n", "superbpe", true},
    {"split  ?[^(\\s|.,!?\xE2\x80\xA6\xE3\x80\x82\xEF\xBC\x8C\xE3\x80\x81\xE0\xA5\xA4"
     "\xDB\x94\xD8\x8C)]+\ndigits\nbytes\n",
     "viking", true},
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
    exo_buf_printf(out, usual && regex[0] != '\0' ? "split %s\n" : "odd split %s\n", regex);
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

const char *exo_hf_pre_name(const json_t *tokenizer, bool *exactly) {
    exo_buf steps = {.limit_bytes = 16384};
    const char *name = NULL;
    *exactly = false;
    describe(json_object_get(tokenizer, "pre_tokenizer"), &steps);
    for (size_t i = 0; i < sizeof known / sizeof *known && exo_buf_ok(&steps); i++) {
        if (strcmp(exo_buf_str(&steps), known[i].steps) != 0) continue;
        name = known[i].name;
        *exactly = known[i].exactly;
    }
    /* The same words, but words that are in the vocabulary are not taken whole. */
    bool whole = flag_of(json_object_get(tokenizer, "model"), "ignore_merges", false);
    if (name != NULL && strcmp(name, "llama-bpe") == 0 && !whole) name = "smaug-bpe";
    exo_buf_finish(&steps);
    return name;
}
