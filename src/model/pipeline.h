/* pipeline.h - what a tokenizer.json does to a text before and after its model.
 *
 * GGUF files name a way to normalise and to cut text; a tokenizer.json describes it, step by step.
 * Here the steps are read and run one after another, each as Hugging Face's tokenizers library
 * does it.  A step that is not known is refused by name.
 *   pipeline.c            reading: JSON to steps
 *   pipeline_normalise.c  text to normalised text
 *   pipeline_unicode.c    Unicode's normal forms, and what characters are
 *   pipeline_cut.c        normalised text to pieces, within which a model merges
 *   pipeline_frame.c      the ids before and after each text
 * Knows neither vocabulary nor ids but those of the frame.  Thread: ANY after creation. */
#ifndef EXO_MODEL_PIPELINE_H
#define EXO_MODEL_PIPELINE_H

#include "base/buf.h"
#include "model/gguf.h"
#include "model/regex.h"

#include <jansson.h>

/* Keys of metadata: the description, and the tokens added to the model's with their flags. */
#define EXO_KEY_PIPELINE    "exo.tokenizer.pipeline"
#define EXO_KEY_ADDED_IDS   "exo.tokenizer.added_ids"
#define EXO_KEY_ADDED_FLAGS "exo.tokenizer.added_flags"
#define EXO_TOKENIZER_OWN   "huggingface" /* tokenizer.ggml.model where GGUF has no name */
enum {                                    /* in files: numbers stay */
       EXO_ADDED_STRIP_LEFT = 1,
       EXO_ADDED_STRIP_RIGHT = 2,
       EXO_ADDED_WHOLE_WORD = 4,
       EXO_ADDED_NORMALISED = 8,
       EXO_ADDED_NO_MODEL = 16, /* not in the model's own vocabulary */
       EXO_ADDED_ALL = 31,
};

#define EXO_PIPELINE_MAX_STEPS 32u
#define EXO_PIPELINE_MAX_FRAME 64u

/* ---- what characters are, as the library asks ---- */

bool exo_is_white(uint32_t c);       /* Unicode's White_Space */
bool exo_is_word_char(uint32_t c);   /* \w: letters, marks, digits, connectors */
bool exo_is_number(uint32_t c);      /* Nd, Nl, No */
bool exo_is_punctuation(uint32_t c); /* P*, and ASCII's symbols */
/* Appends what c is in small letters. */
void exo_append_lower(exo_buf *out, uint32_t c);
void exo_append_char(exo_buf *out, uint32_t c);
/* The printable stand-ins of byte-level BPE. */
void exo_append_stand_ins(exo_buf *out, const uint8_t *s, size_t n);

typedef enum { EXO_NFC, EXO_NFD, EXO_NFKC, EXO_NFKD } exo_normal_form;
/* Whether normal form C could change s: a quick look at its bytes. */
bool exo_nfc_may_change(const uint8_t *s, size_t n);
/* Appends valid UTF-8 s in a normal form.  Linear time.  False: no memory. */
bool exo_normal_form_append(exo_normal_form form, const uint8_t *s, size_t n, exo_buf *out);

/* ---- normalising ---- */

typedef enum {
    EXO_NORMALISE_FORM,
    EXO_NORMALISE_LOWERCASE,
    EXO_NORMALISE_STRIP,         /* white space at the ends */
    EXO_NORMALISE_STRIP_ACCENTS, /* all marks */
    EXO_NORMALISE_STRIP_MN,      /* nonspacing marks: BERT's */
    EXO_NORMALISE_CLEAN,         /* BERT's: control characters go, white space is a space */
    EXO_NORMALISE_CHINESE,       /* BERT's: a space before and after each ideograph */
    EXO_NORMALISE_NMT,
    EXO_NORMALISE_REPLACE,
    EXO_NORMALISE_PREPEND,
    EXO_NORMALISE_CHARSMAP, /* SentencePiece's */
    EXO_NORMALISE_STAND_INS,
} exo_normaliser_kind;

typedef struct {
    exo_normaliser_kind kind;
    exo_normal_form form;
    bool left, right; /* STRIP */
    exo_regex *regex; /* REPLACE */
    uint8_t *text;    /* REPLACE, PREPEND: what is put in; CHARSMAP: the map */
    size_t n_text;
} exo_normaliser;

/* ---- cutting ---- */

typedef enum {
    EXO_SPLIT_REMOVED,
    EXO_SPLIT_ISOLATED,
    EXO_SPLIT_WITH_PREVIOUS,
    EXO_SPLIT_WITH_NEXT,
    EXO_SPLIT_CONTIGUOUS,
} exo_split_behaviour;

typedef enum {
    EXO_CUT_SPLIT,      /* by an expression */
    EXO_CUT_CHARS,      /* by characters for which is() is true */
    EXO_CUT_BYTE_LEVEL, /* a space before, GPT-2's words, stand-ins */
    EXO_CUT_METASPACE,
    EXO_CUT_LENGTH, /* every so many characters */
} exo_cut_kind;

typedef enum { EXO_PREPEND_NEVER, EXO_PREPEND_FIRST, EXO_PREPEND_ALWAYS } exo_prepend;

typedef struct {
    exo_cut_kind kind;
    exo_split_behaviour behaviour;
    bool invert;
    exo_regex *regex;       /* SPLIT, BYTE_LEVEL with words; else NULL */
    bool (*is)(uint32_t c); /* CHARS; NULL: c is the delimiter */
    uint32_t delimiter;     /* CHARS without is; METASPACE: what stands for a space */
    exo_prepend prepend;
    bool cuts; /* METASPACE */
    size_t length;
} exo_cut_step;

/* ---- the whole ---- */

typedef enum {
    EXO_PIPELINE_BPE,
    EXO_PIPELINE_UNIGRAM,
    EXO_PIPELINE_WORD_PIECE,
    EXO_PIPELINE_WORD_LEVEL
} exo_pipeline_model;
typedef enum {
    EXO_DECODE_PLAIN,
    EXO_DECODE_STAND_INS,
    EXO_DECODE_SPACES, /* U+2581 is a space */
    EXO_DECODE_WORDS,  /* what does not begin with the prefix begins with a space */
    EXO_DECODE_SUFFIX, /* a suffix is a space */
} exo_pipeline_decoder;

typedef struct {
    exo_normaliser norms[EXO_PIPELINE_MAX_STEPS];
    size_t n_norms;
    exo_cut_step cuts[EXO_PIPELINE_MAX_STEPS];
    size_t n_cuts;
    bool named; /* cutting is byte-level by tokenizer.ggml.pre, not by cuts */
    exo_pipeline_model model;
    exo_pipeline_decoder decoder;
    bool leads_with_space; /* the first word's space is not part of the text */
    bool byte_fallback, fuse_unk, ignore_merges;
    char *prefix, *suffix; /* of a word's other and last parts; never NULL */
    size_t n_prefix, n_suffix, max_chars;
    bool framed; /* before and after are what is added, not BOS and EOS */
    int32_t before[EXO_PIPELINE_MAX_FRAME], after[EXO_PIPELINE_MAX_FRAME];
    size_t n_before, n_after;
} exo_pipeline;

/* A JSON object with normalizer, pre_tokenizer, post_processor, decoder and model (without vocab
 * and merges) as in tokenizer.json.  n_tokens: ids of the frame are below. */
exo_status exo_pipeline_create(exo_str json, uint32_t n_tokens, exo_pipeline **out, exo_error *err);
void exo_pipeline_destroy(exo_pipeline *p); /* NULL is allowed */

/* pipeline_normalise.c */
exo_status exo_pipeline_read_norms(exo_pipeline *p, const json_t *normalizer, exo_error *err);
void exo_normaliser_finish(exo_normaliser *s);
/* pipeline_cut.c */
exo_status exo_pipeline_read_cuts(exo_pipeline *p, const json_t *pre_tokenizer, exo_error *err);
void exo_cut_step_finish(exo_cut_step *s);
/* pipeline_frame.c */
exo_status exo_pipeline_read_frame(exo_pipeline *p, const json_t *post_processor, uint32_t n_tokens,
                                   exo_error *err);

/* One call's memory. */
typedef struct {
    exo_regex_match *match;
    exo_buf norm[2];
    exo_buf cut[EXO_PIPELINE_MAX_STEPS];           /* texts that a step changed */
    exo_buf stand_ins[EXO_PIPELINE_MAX_STEPS + 1]; /* pieces for the step of that number */
} exo_pipeline_scratch;
exo_status exo_pipeline_scratch_init(exo_pipeline_scratch *s, exo_error *err);
void exo_pipeline_scratch_finish(exo_pipeline_scratch *s);

/* Valid UTF-8 s normalised: *out is s itself or lies in the scratch until the next call.  *begins
 * (NULL is allowed): it begins with what became of the first character of s. */
exo_status exo_pipeline_normalise(const exo_pipeline *p, exo_pipeline_scratch *scratch, exo_str s,
                                  exo_str *out, bool *begins, exo_error *err);

typedef exo_status (*exo_piece_fn)(void *ud, const uint8_t *s, size_t n, exo_error *err);
/* Cuts normalised text.  first: it is the beginning of the whole text. */
exo_status exo_pipeline_cut(const exo_pipeline *p, exo_pipeline_scratch *scratch, exo_str s,
                            bool first, exo_piece_fn fn, void *ud, exo_error *err);

/* ---- reading JSON ---- */

const char *exo_json_text(const json_t *from, const char *name); /* "" where there is none */
/* An absent or null member is `fallback`; EXO_EFORMAT names one of another type. */
exo_status exo_json_flag(const json_t *from, const char *name, bool fallback, bool *out,
                         exo_error *err);
/* A copy of a string member, which may hold zero bytes; EXO_EFORMAT: there is none. */
exo_status exo_json_copy(const json_t *from, const char *name, char **out, size_t *n,
                         exo_error *err);
/* {"pattern": {"String": s}} or {"pattern": {"Regex": s}}. */
exo_status exo_json_pattern(const json_t *step, exo_regex **out, exo_error *err);

#endif
