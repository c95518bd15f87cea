/* pretokenize.h - cutting text into words, by the rule that a model's file names.
 *
 * BPE merges never cross a word, so the same vocabulary with another rule gives other ids: the
 * name in tokenizer.ggml.pre decides, and an unknown name is an error.
 * Thread: ANY; a scratch belongs to one call. */
#ifndef EXO_MODEL_PRETOKENIZE_H
#define EXO_MODEL_PRETOKENIZE_H

#include "model/gguf.h"

typedef struct exo_pretokenizer exo_pretokenizer;
typedef struct exo_pretokenizer_scratch exo_pretokenizer_scratch;

/* EXO_EUNSUPPORTED names a rule that exo does not know. */
exo_status exo_pretokenizer_create(exo_str name, exo_pretokenizer **out, exo_error *err);
void exo_pretokenizer_destroy(exo_pretokenizer *p); /* NULL is allowed */

/* A word that is a token as it stands is taken whole, without merging. */
bool exo_pretokenizer_ignore_merges(const exo_pretokenizer *p);
/* Whether models of this kind want BOS when their file does not say. */
bool exo_pretokenizer_add_bos(const exo_pretokenizer *p);

exo_pretokenizer_scratch *exo_pretokenizer_scratch_create(const exo_pretokenizer *p);
void exo_pretokenizer_scratch_destroy(exo_pretokenizer_scratch *s); /* NULL is allowed */

/* Length of the word that valid UTF-8 s (n > 0 bytes, the rest of the text) begins with. */
exo_status exo_pretokenizer_word(const exo_pretokenizer *p, exo_pretokenizer_scratch *scratch,
                                 const uint8_t *s, size_t n, size_t *word, exo_error *err);

#endif
