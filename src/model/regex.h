/* regex.h - regular expressions as tokenizer.json files write them, run by PCRE2.
 *
 * The files mean Oniguruma's syntax and Unicode's classes.  What both engines spell alike is
 * passed on, what they spell differently is respelled (\s, \w, \h, \uXXXX, script names, {1,3}+),
 * and what has no counterpart is refused by name, since another meaning would give other ids.
 * Files are hostile: an expression that backtracks for ever is an error of the text, not a hang.
 * Thread: ANY; a match belongs to one call. */
#ifndef EXO_MODEL_REGEX_H
#define EXO_MODEL_REGEX_H

#include "base/buf.h"
#include "model/gguf.h"

#define EXO_REGEX_MAX_BYTES  65536u
#define EXO_REGEX_MAX_GROUPS 200u

typedef struct exo_regex exo_regex;
typedef struct exo_regex_match exo_regex_match; /* memory of a call, for any expression */

/* EXO_EUNSUPPORTED says what in it has no counterpart, EXO_EFORMAT that it is no expression. */
exo_status exo_regex_create(exo_str pattern, exo_regex **out, exo_error *err);
void exo_regex_destroy(exo_regex *r);          /* NULL is allowed */
exo_regex_match *exo_regex_match_create(void); /* NULL: no memory */
void exo_regex_match_destroy(exo_regex_match *m);

/* Walks over all matches in valid UTF-8 s from left to right.  An empty one right behind the match
 * before it does not count. */
typedef struct {
    const exo_regex *r;
    exo_regex_match *m;
    const uint8_t *s;
    size_t n;
    size_t from, last_end; /* where to look next; the end of the last match, SIZE_MAX: none */
} exo_regex_walk;
/* *found is false behind the last one. */
exo_status exo_regex_next(exo_regex_walk *w, size_t *begin, size_t *end, bool *found,
                          exo_error *err);

/* regex_syntax.c: the expression in PCRE2's syntax, for PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE. */
exo_status exo_regex_respell(exo_str pattern, exo_buf *out, exo_error *err);

#endif
