/* pretokenize.h - cutting text into words, by the rule that a model's file names.
 *
 * BPE merges never cross a word, so the same vocabulary with another rule gives other ids: the
 * name in tokenizer.ggml.pre decides, and an unknown name is an error.
 * A rule is a list of expressions.  The first cuts the text into its matches and what stands
 * between them; the next does the same with each piece alone, which it takes for a whole text.
 * Thread: ANY; a scratch belongs to one call. */
#ifndef EXO_MODEL_PRETOKENIZE_H
#define EXO_MODEL_PRETOKENIZE_H

#include "model/gguf.h"

enum {                                   /* what else a family's tokenizer does differently */
       EXO_PRE_WHOLE_WORDS = 1u << 0,    /* a word that is a token as it stands is taken whole */
       EXO_PRE_BOS = 1u << 1,            /* models want BOS when their file does not say */
       EXO_PRE_RAW = 1u << 2,            /* tokens are plain UTF-8, with byte tokens: <0x0A> */
       EXO_PRE_ESCAPED_SPACES = 1u << 3, /* raw, and a space is written as U+2581 */
       EXO_PRE_WHOLE_NEWLINES = 1u << 4, /* a run of newlines that is a token is taken whole */
       EXO_PRE_NO_SPACES = 1u << 5,      /* raw; white space parts words and is dropped */
};

#define EXO_PRE_MAX_RULES 6

/* What a list's last expression makes of ASCII letters behind a space or none, and of a mark before
 * a space: the commonest words by far, which need no expression. */
typedef enum {
    EXO_PRE_NOT_QUICK, /* something else */
    EXO_PRE_LETTERS,   /* all letters are one word */
    EXO_PRE_CASED,     /* capitals, then small letters; an apostrophe may belong to them */
} exo_pre_quick;

typedef struct {
    const char *name;
    const char *const *rules; /* PCRE2 expressions, NULL at the end */
    unsigned flags;
} exo_pre_family;

const exo_pre_family *exo_pre_family_find(exo_str name); /* NULL: unknown */
exo_pre_quick exo_pre_quick_find(const exo_pre_family *family);

typedef struct exo_pretokenizer exo_pretokenizer;
typedef struct exo_pretokenizer_scratch exo_pretokenizer_scratch;

/* EXO_EUNSUPPORTED names a rule that exo does not know. */
exo_status exo_pretokenizer_create(exo_str name, exo_pretokenizer **out, exo_error *err);
void exo_pretokenizer_destroy(exo_pretokenizer *p); /* NULL is allowed */
unsigned exo_pretokenizer_flags(const exo_pretokenizer *p);

exo_pretokenizer_scratch *exo_pretokenizer_scratch_create(const exo_pretokenizer *p);
void exo_pretokenizer_scratch_destroy(exo_pretokenizer_scratch *s); /* NULL is allowed */

/* Told of each word in turn; false (no memory) ends the cutting. */
typedef bool (*exo_pretokenizer_fn)(void *ud, const uint8_t *s, size_t n);
/* Cuts valid UTF-8 s; the words are all of it, in order. */
exo_status exo_pretokenizer_split(const exo_pretokenizer *p, exo_pretokenizer_scratch *scratch,
                                  const uint8_t *s, size_t n, exo_pretokenizer_fn fn, void *ud,
                                  exo_error *err);

#endif
