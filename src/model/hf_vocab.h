/* hf_vocab.h - the vocabulary of a tokenizer.json on its way into GGUF keys; private to
 * hf_tokenizer.c and hf_vocab.c. */
#ifndef EXO_MODEL_HF_VOCAB_H
#define EXO_MODEL_HF_VOCAB_H

#include "model/hf_impl.h"

typedef enum { /* tokenizer.ggml.token_type */
               EXO_HF_NORMAL = 1,
               EXO_HF_UNKNOWN = 2,
               EXO_HF_CONTROL = 3,
               EXO_HF_USER_DEFINED = 4,
               EXO_HF_UNUSED = 5,
               EXO_HF_BYTE = 6,
} exo_hf_token_type;

typedef struct {
    const char *s; /* NULL: a gap */
    size_t n;
    exo_hf_token_type type;
    bool in_model; /* not only among the added tokens */
    double score;
} exo_hf_entry;

/* What a GGUF file calls it. */
typedef enum {
    EXO_HF_AS_GPT2,  /* byte-level, cut in a way that has a name */
    EXO_HF_AS_LLAMA, /* SentencePiece's in other clothes */
    EXO_HF_AS_BERT,
    EXO_HF_AS_OWN, /* nothing: exo alone can use it */
} exo_hf_form;

typedef struct {
    const exo_hf_texts *texts;
    const json_t *model;   /* of tokenizer.json */
    exo_hf_entry *entries; /* (n) */
    uint32_t n;
    exo_hf_form form;
    bool bpe, unigram, byte_fallback;
    bool exactly; /* AS_GPT2: the name says all about cutting */
    const char *pre;
    json_t *post; /* the post_processor; null where there is none */
    exo_gguf_writer *w;
    exo_error *err;
} exo_hf_vocab;

/* The member as text; "" where there is none. */
const char *exo_hf_text_of(const json_t *from, const char *name);
/* Its id by model.vocab and added_tokens, or -1; both were read. */
int64_t exo_hf_find_token(const exo_hf_vocab *v, const char *s);
const char *exo_hf_unknown_text(const exo_hf_vocab *v);

exo_status exo_hf_read_vocab(exo_hf_vocab *v);
exo_status exo_hf_read_added(exo_hf_vocab *v);
exo_status exo_hf_score_by_merges(exo_hf_vocab *v);
exo_status exo_hf_add_merges(const exo_hf_vocab *v);
void exo_hf_add_entries(const exo_hf_vocab *v);
/* The added tokens' ids and how each is looked for. */
void exo_hf_add_added(const exo_hf_vocab *v);

#endif
