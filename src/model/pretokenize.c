/* pretokenize.c - the word rules of the BPE families, as regular expressions run by PCRE2.
 *
 * Owns the table from names in model files to rules.  Knows nothing of vocabularies.
 * The rules are those of the models' own tokenizers, with two changes that keep their meaning:
 * white space is spelled out, because PCRE2's \s also holds U+180E, which Unicode took out; and
 * what can never be given back is possessive, so that long runs cost linear time without JIT. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "model/pretokenize.h"

#include "base/mem.h"

#include <pcre2.h>
#include <string.h>

struct exo_pretokenizer {
    bool ignore_merges, add_bos;
    pcre2_general_context *memory;
    pcre2_match_context *limits;
    pcre2_code *code;
};

struct exo_pretokenizer_scratch {
    pcre2_match_data *match;
};

#define WHITE                                                                                      \
    "\\x{9}-\\x{D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}"    \
    "\\x{205F}\\x{3000}"
#define SPACE     "[" WHITE "]"
#define NOT_SPACE "[^" WHITE "]"
#define LAST_SPACES                                                                                \
    SPACE "+(?!" NOT_SPACE ")|" SPACE "+" /* all but the one that belongs to the next word */

#define GPT2_LETTERS  "'(?:[stmd]|re|ve|ll)| ?\\p{L}++"
#define GPT2_SYMBOLS  " ?[^" WHITE "\\p{L}\\p{N}]++"
#define GPT4_LETTERS  "'(?i:[stmd]|re|ve|ll)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}++"
#define GPT4_SYMBOLS  " ?[^" WHITE "\\p{L}\\p{N}]++[\\r\\n]*+"
#define GPT4_NEWLINES SPACE "*[\\r\\n]++"

static const char rule_gpt2[] = GPT2_LETTERS "| ?\\p{N}++|" GPT2_SYMBOLS "|" LAST_SPACES;
/* As GPT-2 after every digit was set apart: a digit ends the white space before it. */
static const char rule_digits[] =
    GPT2_LETTERS "|\\p{N}|" GPT2_SYMBOLS "|" SPACE "+(?![^" WHITE "\\p{N}])|" SPACE "+";
static const char rule_llama3[] =
    GPT4_LETTERS "|\\p{N}{1,3}+|" GPT4_SYMBOLS "|" GPT4_NEWLINES "|" LAST_SPACES;
static const char rule_qwen2[] =
    GPT4_LETTERS "|\\p{N}|" GPT4_SYMBOLS "|" GPT4_NEWLINES "|" LAST_SPACES;
/* Qwen 3.5: combining marks belong to the letters. */
static const char rule_qwen35[] =
    "'(?i:[stmd]|re|ve|ll)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]++|\\p{N}|"
    " ?[^" WHITE "\\p{L}\\p{M}\\p{N}]++[\\r\\n]*+|" GPT4_NEWLINES "|" LAST_SPACES;

typedef struct {
    const char *name;
    const char *rule;
    bool ignore_merges, add_bos;
} family;

static const family families[] = {
    {"llama-bpe", rule_llama3, true, true},   {"llama3", rule_llama3, true, true},
    {"llama-v3", rule_llama3, true, true},    {"falcon3", rule_llama3, true, true},
    {"falcon-h1", rule_llama3, true, true},   {"pixtral", rule_llama3, true, true},
    {"midm-2.0", rule_llama3, true, true},    {"lfm2", rule_llama3, true, true},
    {"smaug-bpe", rule_llama3, false, false}, {"dbrx", rule_llama3, false, false},
    {"glm4", rule_llama3, false, false},      {"chatglm-bpe", rule_llama3, false, false},
    {"qwen2", rule_qwen2, false, false},      {"deepseek-r1-qwen", rule_qwen2, false, false},
    {"stablelm2", rule_qwen2, false, false},  {"megrez", rule_qwen2, false, false},
    {"hunyuan", rule_qwen2, false, false},    {"grok-2", rule_qwen2, false, false},
    {"qwen35", rule_qwen35, false, false},    {"gpt-2", rule_gpt2, false, false},
    {"phi-2", rule_gpt2, false, false},       {"mpt", rule_gpt2, false, false},
    {"olmo", rule_gpt2, false, false},        {"jais", rule_gpt2, false, false},
    {"exaone4", rule_gpt2, false, false},     {"smollm", rule_digits, false, false},
    {"starcoder", rule_digits, false, false}, {"refact", rule_digits, false, false},
    {"command-r", rule_digits, false, false}, {"codeshell", rule_digits, false, false},
    {"exaone", rule_digits, false, false},
};

static const family *find_family(exo_str name) {
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        const family *f = &families[i];
        if (strlen(f->name) == name.n && memcmp(f->name, name.s, name.n) == 0) return f;
    }
    return NULL;
}

static void *pcre_malloc(size_t n, void *ud) {
    (void)ud;
    return exo_malloc(n);
}

static void pcre_free(void *p, void *ud) {
    (void)ud;
    exo_free(p);
}

static exo_status compile(exo_pretokenizer *p, const char *rule, exo_error *err) {
    int code;
    PCRE2_SIZE at;
    pcre2_compile_context *cc = pcre2_compile_context_create(p->memory);
    if (cc == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for the pre-tokenizer");
    p->code = pcre2_compile((PCRE2_SPTR)rule, PCRE2_ZERO_TERMINATED,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &code, &at, cc);
    pcre2_compile_context_free(cc);
    if (p->code == NULL && (code == PCRE2_ERROR_NOMEMORY || code == PCRE2_ERROR_HEAP_FAILED))
        return exo_error_set(err, EXO_ENOMEM, "out of memory for the pre-tokenizer");
    if (p->code == NULL)
        return exo_error_set(err, EXO_EINTERNAL, "pre-tokenizer rule: PCRE2 error %d at %zu", code,
                             at);
    /* Without JIT (iOS, hardened kernels) pcre2_match interprets: slower, the same words. */
    (void)pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE);
    return EXO_OK;
}

exo_status exo_pretokenizer_create(exo_str name, exo_pretokenizer **out, exo_error *err) {
    *out = NULL;
    const family *f = find_family(name);
    if (f == NULL)
        return exo_error_set(err, EXO_EUNSUPPORTED, "unknown pre-tokenizer \"%.*s\"",
                             name.n < 64 ? (int)name.n : 64, name.s);
    exo_pretokenizer *p = exo_calloc(1, sizeof *p);
    if (p == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for the pre-tokenizer");
    p->ignore_merges = f->ignore_merges;
    p->add_bos = f->add_bos;
    p->memory = pcre2_general_context_create(pcre_malloc, pcre_free, NULL);
    if (p->memory != NULL) p->limits = pcre2_match_context_create(p->memory);
    exo_status status = EXO_ENOMEM;
    if (p->limits == NULL) {
        exo_error_set(err, EXO_ENOMEM, "out of memory for the pre-tokenizer");
    } else {
        pcre2_set_match_limit(p->limits, UINT32_MAX); /* the rules are linear, texts may be long */
        status = compile(p, f->rule, err);
    }
    if (status != EXO_OK) {
        exo_pretokenizer_destroy(p);
        return status;
    }
    *out = p;
    return EXO_OK;
}

void exo_pretokenizer_destroy(exo_pretokenizer *p) {
    if (p == NULL) return;
    pcre2_code_free(p->code);
    pcre2_match_context_free(p->limits);
    pcre2_general_context_free(p->memory);
    exo_free(p);
}

bool exo_pretokenizer_ignore_merges(const exo_pretokenizer *p) { return p->ignore_merges; }

bool exo_pretokenizer_add_bos(const exo_pretokenizer *p) { return p->add_bos; }

exo_pretokenizer_scratch *exo_pretokenizer_scratch_create(const exo_pretokenizer *p) {
    exo_pretokenizer_scratch *s = exo_malloc(sizeof *s);
    if (s == NULL) return NULL;
    s->match = pcre2_match_data_create(1, p->memory);
    if (s->match == NULL) {
        exo_free(s);
        return NULL;
    }
    return s;
}

void exo_pretokenizer_scratch_destroy(exo_pretokenizer_scratch *s) {
    if (s == NULL) return;
    pcre2_match_data_free(s->match);
    exo_free(s);
}

exo_status exo_pretokenizer_word(const exo_pretokenizer *p, exo_pretokenizer_scratch *scratch,
                                 const uint8_t *s, size_t n, size_t *word, exo_error *err) {
    *word = 0;
    int rc = pcre2_match(p->code, s, n, 0, PCRE2_NO_UTF_CHECK, scratch->match, p->limits);
    if (rc == PCRE2_ERROR_NOMEMORY)
        return exo_error_set(err, EXO_ENOMEM, "out of memory for the pre-tokenizer");
    if (rc >= 0) *word = pcre2_get_ovector_pointer(scratch->match)[1];
    if (*word == 0) /* the rules cover every character */
        return exo_error_set(err, EXO_EINTERNAL, "pre-tokenizer: PCRE2 result %d", rc);
    return EXO_OK;
}
