/* tokenizer.h - text to token ids and back: SentencePiece BPE and Unigram, BPE, WordPiece.
 *
 * Exact: the same ids as the model's own tokenizer on any Unicode text, normalised as that does
 * it.  The pre-tokenizer of a BPE vocabulary is named by the file; a name that exo does not know
 * is an error that says it, for another rule would give other ids.
 * Thread: ANY after creation (read-only). */
#ifndef EXO_MODEL_TOKENIZER_H
#define EXO_MODEL_TOKENIZER_H

#include "base/buf.h"
#include "model/model.h"

typedef struct {
    int32_t *ids; /* owned; exo_ids_finish */
    size_t n, cap;
} exo_ids;
void exo_ids_finish(exo_ids *ids);

/* Copies what it needs: g may be closed.  EXO_EUNSUPPORTED names an unknown kind of vocabulary or
 * pre-tokenizer, EXO_EFORMAT the entry that is wrong. */
exo_status exo_tokenizer_create(const exo_gguf *g, exo_tokenizer **out, exo_error *err);
void exo_tokenizer_destroy(exo_tokenizer *t); /* NULL is allowed */

/* Whether only exo can use the file's tokenizer: GGUF has no name for what it does. */
bool exo_tokenizer_is_own(const exo_gguf *g);

uint32_t exo_tokenizer_n_vocab(const exo_tokenizer *t);
int32_t exo_tokenizer_bos(const exo_tokenizer *t); /* -1: none */
int32_t exo_tokenizer_eos(const exo_tokenizer *t);
/* True for eos and every other end-of-turn token (<|eot_id|>, <|im_end|>, ...). */
bool exo_tokenizer_is_end(const exo_tokenizer *t, int32_t id);
/* The token's text as stored, control tokens too; valid while t lives.  "" when out of range. */
exo_str exo_tokenizer_piece(const exo_tokenizer *t, int32_t id);

enum {
    EXO_TOKENIZE_BOS = 1u << 0,     /* add BOS, EOS and SEP where the model wants them */
    EXO_TOKENIZE_SPECIAL = 1u << 1, /* text that spells a control token becomes that token */
};
/* Appends to *ids, or leaves them as they were on failure.  Tokens that the vocabulary calls
 * user-defined are found in the text with and without EXO_TOKENIZE_SPECIAL.  A byte that is no
 * UTF-8 counts as U+FFFD; SentencePiece BPE spells it with byte tokens.  n log n at worst.
 * EXO_EFORMAT: the file's character map is broken where this text needs it. */
exo_status exo_tokenize(const exo_tokenizer *t, const char *text, size_t n, unsigned flags,
                        exo_ids *ids, exo_error *err);

/* Streaming: bytes come out only as whole UTF-8 sequences; the rest is held back. */
typedef struct {
    const exo_tokenizer *t;
    uint8_t held[8]; /* the beginning of a sequence that is not whole yet */
    uint32_t n_held;
    bool started; /* SPM: the space before the first word is dropped */
} exo_detokenizer;
void exo_detokenizer_init(exo_detokenizer *d, const exo_tokenizer *t);
/* As _init, but text goes on after a prompt: a leading space is kept. */
void exo_detokenizer_init_continue(exo_detokenizer *d, const exo_tokenizer *t);
/* Appends the text that is complete after this token.  Control tokens add nothing. */
void exo_detokenize(exo_detokenizer *d, int32_t id, exo_buf *out);
/* Appends what is held back, each broken byte run as U+FFFD. */
void exo_detokenize_end(exo_detokenizer *d, exo_buf *out);

#endif
