/* regex.c - see regex.h: compiling and matching; respelling is regex_syntax.c's. */
#include "model/regex.h"

#include "base/mem.h"
#include "model/pcre_memory.h"
#include "model/utf8.h"

#include <string.h>

/* Steps of one search.  Expressions of models take a few a byte. */
#define MATCH_LIMIT 50000000u

struct exo_regex {
    pcre2_general_context *memory;
    pcre2_match_context *limits;
    pcre2_code *code;
    bool fast; /* machine code was made */
};

struct exo_regex_match {
    pcre2_general_context *memory;
    pcre2_match_data *data;
};

static exo_status no_memory(exo_error *err) {
    return exo_error_set(err, EXO_ENOMEM, "out of memory for a regular expression");
}

static exo_status compile(exo_regex *r, exo_str pattern, const exo_buf *text, exo_error *err) {
    int code;
    PCRE2_SIZE at;
    r->memory = exo_pcre_memory();
    pcre2_compile_context *cc = r->memory != NULL ? pcre2_compile_context_create(r->memory) : NULL;
    if (cc == NULL) return no_memory(err);
    pcre2_set_parens_nest_limit(cc, EXO_REGEX_MAX_GROUPS);
    r->code = pcre2_compile((PCRE2_SPTR)exo_buf_str(text), text->n,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &code, &at, cc);
    pcre2_compile_context_free(cc);
    if (r->code == NULL && (code == PCRE2_ERROR_NOMEMORY || code == PCRE2_ERROR_HEAP_FAILED))
        return no_memory(err);
    if (r->code == NULL) {
        PCRE2_UCHAR why[80];
        if (pcre2_get_error_message(code, why, sizeof why) < 0) why[0] = '\0';
        return exo_error_set(err, EXO_EFORMAT, "the expression \"%.*s\" cannot be used: %s",
                             pattern.n < 60 ? (int)pattern.n : 60, pattern.s, (char *)why);
    }
    r->fast = pcre2_jit_compile(r->code, PCRE2_JIT_COMPLETE) == 0;
    r->limits = pcre2_match_context_create(r->memory);
    if (r->limits == NULL) return no_memory(err);
    pcre2_set_match_limit(r->limits, MATCH_LIMIT);
    pcre2_set_depth_limit(r->limits, MATCH_LIMIT);
    return EXO_OK;
}

exo_status exo_regex_create(exo_str pattern, exo_regex **out, exo_error *err) {
    exo_buf text = {0};
    *out = NULL;
    exo_regex *r = exo_calloc(1, sizeof *r);
    if (r == NULL) return no_memory(err);
    exo_status st = exo_regex_respell(pattern, &text, err);
    if (st == EXO_OK) st = compile(r, pattern, &text, err);
    exo_buf_finish(&text);
    if (st != EXO_OK) {
        exo_regex_destroy(r);
        return st;
    }
    *out = r;
    return EXO_OK;
}

void exo_regex_destroy(exo_regex *r) {
    if (r == NULL) return;
    pcre2_code_free(r->code);
    pcre2_match_context_free(r->limits);
    pcre2_general_context_free(r->memory);
    exo_free(r);
}

exo_regex_match *exo_regex_match_create(void) {
    exo_regex_match *m = exo_calloc(1, sizeof *m);
    if (m == NULL) return NULL;
    m->memory = exo_pcre_memory();
    if (m->memory != NULL) m->data = pcre2_match_data_create(1, m->memory);
    if (m->data != NULL) return m;
    exo_regex_match_destroy(m);
    return NULL;
}

void exo_regex_match_destroy(exo_regex_match *m) {
    if (m == NULL) return;
    pcre2_match_data_free(m->data);
    pcre2_general_context_free(m->memory);
    exo_free(m);
}

static exo_status find(const exo_regex_walk *w, size_t *begin, size_t *end, bool *found,
                       exo_error *err) {
    const exo_regex *r = w->r;
    int rc = PCRE2_ERROR_JIT_STACKLIMIT;
    *found = false;
    if (r->fast)
        rc = pcre2_jit_match(r->code, w->s, w->n, w->from, PCRE2_NO_UTF_CHECK, w->m->data,
                             r->limits);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(r->code, w->s, w->n, w->from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                         w->m->data, r->limits);
    if (rc == PCRE2_ERROR_NOMATCH) return EXO_OK;
    if (rc == PCRE2_ERROR_MATCHLIMIT || rc == PCRE2_ERROR_DEPTHLIMIT)
        return exo_error_set(err, EXO_EUNSUPPORTED,
                             "an expression of the tokenizer takes more than %u steps at byte "
                             "%zu of the text",
                             MATCH_LIMIT, w->from);
    if (rc == PCRE2_ERROR_NOMEMORY || rc == PCRE2_ERROR_HEAPLIMIT) return no_memory(err);
    if (rc < 0)
        return exo_error_set(err, EXO_EINTERNAL, "an expression of the tokenizer: PCRE2 says %d",
                             rc);
    const PCRE2_SIZE *pair = pcre2_get_ovector_pointer(w->m->data);
    *begin = pair[0];
    *end = pair[1];
    *found = *end >= *begin && *begin >= w->from; /* \K and the like could say otherwise */
    return EXO_OK;
}

exo_status exo_regex_next(exo_regex_walk *w, size_t *begin, size_t *end, bool *found,
                          exo_error *err) {
    *found = false;
    while (w->from <= w->n) {
        exo_status st = find(w, begin, end, found, err);
        if (st != EXO_OK || !*found) return st;
        if (*begin < *end || *end != w->last_end) {
            w->from = w->last_end = *end;
            return EXO_OK;
        }
        size_t len = 1;
        *found = false;
        if (w->from < w->n) exo_utf8_step(w->s + w->from, w->n - w->from, &len);
        w->from += len;
    }
    return EXO_OK;
}
