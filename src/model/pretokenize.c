/* pretokenize.c - runs a family's word rules over text, by PCRE2.
 *
 * Owns the compiled expressions and the order of cuts.  Knows neither names nor vocabularies.
 * Each expression sees one piece of what the expressions before it cut, from its beginning to its
 * end; a match of no characters is a cut without a word. */
#include "model/pretokenize.h"

#include "base/assert.h"
#include "base/mem.h"
#include "model/pcre_memory.h"

struct exo_pretokenizer {
    const exo_pre_family *family;
    pcre2_general_context *memory;
    pcre2_match_context *limits;
    pcre2_code *codes[EXO_PRE_MAX_RULES];
    bool fast[EXO_PRE_MAX_RULES]; /* machine code was made */
    size_t n_codes;
    exo_pre_quick quick; /* of the last */
};

struct exo_pretokenizer_scratch {
    pcre2_match_data *match;
};

static exo_status no_memory(exo_error *err) {
    return exo_error_set(err, EXO_ENOMEM, "out of memory for the pre-tokenizer");
}

/* ---- life ---- */

static exo_status compile(exo_pretokenizer *p, const char *rule, exo_error *err) {
    int code;
    PCRE2_SIZE at;
    pcre2_compile_context *cc = pcre2_compile_context_create(p->memory);
    if (cc == NULL) return no_memory(err);
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)rule, PCRE2_ZERO_TERMINATED,
                                         PCRE2_UTF | PCRE2_UCP, &code, &at, cc);
    pcre2_compile_context_free(cc);
    if (compiled == NULL && (code == PCRE2_ERROR_NOMEMORY || code == PCRE2_ERROR_HEAP_FAILED))
        return no_memory(err);
    if (compiled == NULL)
        return exo_error_set(err, EXO_EINTERNAL, "pre-tokenizer rule: PCRE2 error %d at %zu", code,
                             at);
    /* Without JIT (iOS, hardened kernels) the expression is interpreted: slower, the same words. */
    p->fast[p->n_codes] = pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE) == 0;
    p->codes[p->n_codes++] = compiled;
    return EXO_OK;
}

static exo_status init(exo_pretokenizer *p, exo_error *err) {
    p->memory = exo_pcre_memory();
    if (p->memory != NULL) p->limits = pcre2_match_context_create(p->memory);
    if (p->limits == NULL) return no_memory(err);
    pcre2_set_match_limit(p->limits, UINT32_MAX); /* the rules are linear, texts may be long */
    pcre2_set_depth_limit(p->limits, UINT32_MAX);
    exo_status status = EXO_OK;
    for (size_t i = 0; status == EXO_OK && p->family->rules[i] != NULL; i++) {
        EXO_ASSERT(i < EXO_PRE_MAX_RULES);
        status = compile(p, p->family->rules[i], err);
    }
    return status;
}

exo_status exo_pretokenizer_create(exo_str name, exo_pretokenizer **out, exo_error *err) {
    *out = NULL;
    const exo_pre_family *family = exo_pre_family_find(name);
    if (family == NULL)
        return exo_error_set(err, EXO_EUNSUPPORTED,
                             "unknown pre-tokenizer \"%.*s\" (tokenizer.ggml.pre): a newer exo may "
                             "know it",
                             name.n < 64 ? (int)name.n : 64, name.s);
    exo_pretokenizer *p = exo_calloc(1, sizeof *p);
    if (p == NULL) return no_memory(err);
    p->family = family;
    p->quick = exo_pre_quick_find(family);
    exo_status status = init(p, err);
    if (status != EXO_OK) {
        exo_pretokenizer_destroy(p);
        return status;
    }
    *out = p;
    return EXO_OK;
}

void exo_pretokenizer_destroy(exo_pretokenizer *p) {
    if (p == NULL) return;
    for (size_t i = 0; i < p->n_codes; i++) pcre2_code_free(p->codes[i]);
    pcre2_match_context_free(p->limits);
    pcre2_general_context_free(p->memory);
    exo_free(p);
}

unsigned exo_pretokenizer_flags(const exo_pretokenizer *p) { return p->family->flags; }

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

/* ---- cutting ---- */

typedef struct {
    const exo_pretokenizer *p;
    pcre2_match_data *match;
    exo_pretokenizer_fn fn;
    void *ud;
    exo_error *err;
} cutting;

/* Where the next match of rule i at or behind `from` begins and ends; both n where there is none.
 */
static exo_status next_match(const cutting *c, size_t i, const uint8_t *s, size_t n, size_t from,
                             uint32_t options, size_t *begin, size_t *end) {
    const exo_pretokenizer *p = c->p;
    int rc = PCRE2_ERROR_JIT_STACKLIMIT;
    options |= PCRE2_NO_UTF_CHECK;
    if (p->fast[i]) rc = pcre2_jit_match(p->codes[i], s, n, from, options, c->match, p->limits);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(p->codes[i], s, n, from, options | PCRE2_NO_JIT, c->match, p->limits);
    *begin = *end = n;
    if (rc == PCRE2_ERROR_NOMATCH) return EXO_OK;
    if (rc == PCRE2_ERROR_NOMEMORY || rc == PCRE2_ERROR_HEAPLIMIT) return no_memory(c->err);
    if (rc < 0)
        return exo_error_set(c->err, EXO_EINTERNAL, "pre-tokenizer \"%s\": PCRE2 result %d",
                             p->family->name, rc);
    const PCRE2_SIZE *found = pcre2_get_ovector_pointer(c->match);
    *begin = found[0];
    *end = found[1];
    return EXO_OK;
}

static bool is_capital(uint8_t c) { return c >= 'A' && c <= 'Z'; }
static bool is_small(uint8_t c) { return c >= 'a' && c <= 'z'; }
static bool is_letter(uint8_t c) { return is_small(c | 0x20); }
static bool is_mark(uint8_t c) {
    return c > ' ' && c < 0x7F && !is_letter(c) && (c < '0' || c > '9');
}

/* Bytes of the word that s (n > 0) begins with; 0 where only the expression knows.  A character
 * beyond ASCII may continue a word, so what it follows is left to the expression. */
static size_t quick_word(exo_pre_quick quick, const uint8_t *s, size_t n) {
    if (is_mark(s[0])) return n > 1 && s[1] == ' ';
    size_t i = s[0] == ' ', letters = i;
    if (quick == EXO_PRE_CASED) {
        while (i < n && is_capital(s[i])) i++;
        while (i < n && is_small(s[i])) i++;
        if (i < n && s[i] == '\'') return 0;
    } else {
        while (i < n && is_letter(s[i])) i++;
    }
    return i > letters && (i == n || s[i] < 0x80) ? i : 0;
}

static exo_status cut(const cutting *c, size_t i, const uint8_t *s, size_t n) {
    if (n == 0) return EXO_OK;
    if (i == c->p->n_codes) return c->fn(c->ud, s, n) ? EXO_OK : no_memory(c->err);
    uint32_t options = 0;
    exo_pre_quick quick = i + 1 == c->p->n_codes ? c->p->quick : EXO_PRE_NOT_QUICK;
    for (size_t done = 0, begin, end; done < n; done = end) {
        size_t word = quick == EXO_PRE_NOT_QUICK ? 0 : quick_word(quick, s + done, n - done);
        exo_status status = EXO_OK;
        begin = done;
        end = done + word;
        if (word == 0) status = next_match(c, i, s, n, done, options, &begin, &end);
        if (status == EXO_OK) status = cut(c, i + 1, s + done, begin - done);
        if (status == EXO_OK) status = cut(c, i + 1, s + begin, end - begin);
        if (status != EXO_OK) return status;
        options = begin == end ? PCRE2_NOTEMPTY_ATSTART : 0; /* not the same cut again */
    }
    return EXO_OK;
}

exo_status exo_pretokenizer_split(const exo_pretokenizer *p, exo_pretokenizer_scratch *scratch,
                                  const uint8_t *s, size_t n, exo_pretokenizer_fn fn, void *ud,
                                  exo_error *err) {
    const cutting c = {.p = p, .match = scratch->match, .fn = fn, .ud = ud, .err = err};
    return cut(&c, 0, s, n);
}
