/* tokenizer_impl.h - what the tokenizer's own files share; nobody else includes it.
 *
 * Text becomes ids in steps, each in its file:
 *   tokenizer.c          one call: what is added, special tokens, the text between them
 *   tokenizer_special.c  finds special tokens
 *   pretokenize.c        (BPE) cuts that text into words by the model's regular expressions
 *   tokenizer_{bpe,spm}  turns one word into symbols and says which neighbours may merge
 *   tokenizer_merge.c    merges best pair first until none is left
 *   tokenizer_wpm.c      (WordPiece) normalises, cuts words, covers each with the longest tokens
 *   tokenizer_ugm.c      (Unigram) normalises, finds the tokens of the highest total score
 *   tokenizer_hf.c       (of a tokenizer.json) normalises and cuts as a pipeline describes it
 *   tokenizer_hf_model.c turns the pieces into ids
 * tokenizer_vocab.c reads and checks the vocabulary, tokenizer_meta.c what the metadata say about
 * its use; detokenizer.c goes the other way.
 * A word gives the same ids wherever it stands, so one call remembers words it has seen
 * (exo_word_ids); nothing is remembered between calls, which keeps a tokenizer read-only. */
#ifndef EXO_MODEL_TOKENIZER_IMPL_H
#define EXO_MODEL_TOKENIZER_IMPL_H

#include "base/le.h"
#include "model/pipeline.h"
#include "model/pretokenize.h"
#include "model/tokenizer.h"

/* ---- vocabulary ---- */

typedef enum { /* tokenizer.ggml.token_type */
               EXO_TOKEN_UNDEFINED = 0,
               EXO_TOKEN_NORMAL = 1,
               EXO_TOKEN_UNKNOWN = 2,
               EXO_TOKEN_CONTROL = 3,
               EXO_TOKEN_USER_DEFINED = 4,
               EXO_TOKEN_UNUSED = 5,
               EXO_TOKEN_BYTE = 6,
} exo_token_type;

#define EXO_VOCAB_MAX_TOKENS  (1u << 24)
#define EXO_TOKEN_MAX_BYTES   (UINT16_MAX - 1)
#define EXO_VOCAB_MAX_END_IDS 32
#define EXO_NO_TOKEN          (-1)

enum {                                              /* of a special token */
       EXO_TOKEN_STRIP_LEFT = EXO_ADDED_STRIP_LEFT, /* white space beside it belongs to it */
       EXO_TOKEN_STRIP_RIGHT = EXO_ADDED_STRIP_RIGHT,
       EXO_TOKEN_WHOLE_WORD = EXO_ADDED_WHOLE_WORD, /* no word character stands beside it */
       EXO_TOKEN_NORMALISED = EXO_ADDED_NORMALISED, /* looked for after normalising */
       EXO_TOKEN_NO_MODEL = EXO_ADDED_NO_MODEL,     /* found as a special token only */
       EXO_TOKEN_ADDED = 32,                        /* of the pipeline's added ones */
};

typedef struct {
    uint32_t text;  /* offset in blob: the text as the file has it */
    uint32_t bytes; /* offset in blob: the bytes the token stands for */
    uint16_t n_text, n_bytes;
    uint8_t type;  /* exo_token_type */
    uint8_t flags; /* EXO_TOKEN_STRIP_LEFT and the like */
    bool shown;    /* false: adds nothing to detokenised text */
    bool indexed;  /* exo_vocab_find finds it */
} exo_token;

typedef struct {
    uint64_t word; /* a key of up to 8 bytes itself, or the hash of a longer one */
    uint32_t n;    /* bytes of the key */
    int32_t id;    /* EXO_NO_TOKEN: empty */
} exo_vocab_slot;

typedef enum {
    EXO_VOCAB_SPM,
    EXO_VOCAB_BPE,
    EXO_VOCAB_WPM,
    EXO_VOCAB_UGM,
    EXO_VOCAB_HF, /* as a pipeline says */
} exo_vocab_kind;

/* What tokenizer.ggml.model and .pre say before any token is read. */
typedef struct {
    exo_vocab_kind kind;
    unsigned pre;                 /* EXO_PRE_*; BPE */
    const exo_pipeline *pipeline; /* NULL: none */
} exo_vocab_desc;

typedef struct {
    exo_vocab_kind kind;
    const exo_pipeline *pipeline; /* the tokenizer's; NULL: none */
    bool raw;     /* tokens are found by their texts, not by bytes written with stand-ins */
    bool escaped; /* raw, and a space is written as U+2581 */
    uint32_t n;
    exo_token *tokens; /* (n) */
    double *scores;    /* (n) SPM, UGM, HF's Unigram; else NULL */
    uint8_t *blob;     /* all texts and bytes */
    size_t n_blob;
    exo_vocab_slot *slots; /* (n_slots) tokens that merging may produce, by text (raw) or bytes */
    uint32_t n_slots;      /* a power of two, at most 2/3 full */
    uint64_t secret;       /* odd, drawn at load: no crafted vocabulary makes the tables slow */
    uint32_t max_key;      /* the longest of them */
    int32_t byte_ids[256]; /* a lone byte: <0xXX> (raw) or its one-byte token (BPE); else unk */
    int32_t bos, eos, unk, sep; /* EXO_NO_TOKEN: none */
    int32_t end_ids[EXO_VOCAB_MAX_END_IDS];
    uint32_t n_end_ids;
    bool add_bos, add_eos, add_sep;
    bool add_space_prefix;    /* SPM, UGM */
    bool remove_extra_spaces; /* UGM */
    bool lowercase;           /* WPM, and BPE that drops white space */
    bool strip_accents;       /* WPM */
    bool words_are_apart;     /* escaped: none goes on with a space after another character */
    uint8_t *charsmap;        /* (n_charsmap) UGM: see charsmap.h; NULL: none */
    size_t n_charsmap;
} exo_vocab;

/* v is zeroed memory; finish it on failure too. */
exo_status exo_vocab_init(exo_vocab *v, const exo_gguf *g, const exo_vocab_desc *desc,
                          exo_error *err);
void exo_vocab_finish(exo_vocab *v);
/* tokenizer_meta.c: ids and flags that the metadata name, over the kind's defaults; v->tokens and
 * v->end_ids (by their names) are there already. */
exo_status exo_vocab_read_meta(exo_vocab *v, const exo_gguf *g, const exo_vocab_desc *desc,
                               exo_error *err);
/* Whether the text is that of a token which ends an answer, whatever the metadata name. */
bool exo_vocab_is_end_name(exo_str s);
void exo_vocab_add_end(exo_vocab *v, int32_t id); /* EXO_NO_TOKEN is allowed */
/* The id of a token that merging may produce, or EXO_NO_TOKEN. */
int32_t exo_vocab_find(const exo_vocab *v, const uint8_t *s, size_t n);
/* Whether exo_vocab_find would find id.  Also for ids beyond the list. */
bool exo_vocab_is(const exo_vocab *v, int32_t id, const uint8_t *s, size_t n);
/* exo_vocab_find for up to EXO_VOCAB_BATCH keys of n > 0 bytes, whose cache misses overlap. */
#define EXO_VOCAB_BATCH 64
typedef struct {
    const uint8_t *s;
    uint32_t n;
    int32_t id;          /* the answer */
    uint64_t hash, word; /* exo_vocab_find_many's own */
} exo_vocab_query;
void exo_vocab_find_many(const exo_vocab *v, exo_vocab_query *queries, size_t n);
/* Asks the processor to bring p near; no effect on results. */
static inline void exo_prefetch(const void *p) {
#if defined(__GNUC__)
    __builtin_prefetch(p);
#else
    (void)p;
#endif
}
/* 1 to 8 bytes as one number; the loads may overlap. */
static inline uint64_t exo_pack(const uint8_t *s, size_t n) {
    if (n >= 4) return exo_get_u32(s) | (uint64_t)exo_get_u32(s + n - 4) << 8 * (n - 4);
    return s[0] | (uint64_t)s[n / 2] << 8 * (n / 2) | (uint64_t)s[n - 1] << 8 * (n - 1);
}

uint64_t exo_vocab_hash(const exo_vocab *v, const uint8_t *s, size_t n); /* n > 0 */
/* A power of two that n entries fill to 2/3 at most. */
uint32_t exo_table_size(size_t n);
/* Decodes the printable stand-ins of byte-level BPE; false when s has other characters.  out
 * holds n bytes at least. */
bool exo_bpe_decode(const uint8_t *s, size_t n, uint8_t *out, size_t *n_out);

/* The strings of a GGUF array one after another: each is a u64 length and its bytes, and the
 * file was checked when it was opened.  By index a vocabulary would load twice as slowly. */
typedef struct {
    const char *at; /* the next length; NULL before the first string */
    size_t left;
} exo_gguf_strings;

/* EXO_EFORMAT unless key is an array of strings (an empty one has nothing to walk). */
exo_status exo_gguf_strings_init(exo_gguf_strings *w, const exo_gguf *g, const char *key,
                                 exo_error *err);
exo_str exo_gguf_strings_next(exo_gguf_strings *w); /* w->left > 0 */

/* ---- tokens by their beginnings ---- */

#define EXO_TRIE_MAX_BYTES 512 /* of a token: every position of a text may have to look so far */

typedef struct {
    uint32_t first_child; /* n_children of them stand side by side, in the order of their bytes */
    int32_t id;           /* the token that ends here, or EXO_NO_TOKEN */
    uint16_t n_children;
    uint8_t byte; /* that leads here from the parent */
} exo_trie_node;

typedef struct {
    exo_trie_node *nodes; /* (n) the root first */
    uint32_t n;
    uint32_t first[256]; /* the root's children by their bytes; 0: none */
} exo_trie;

typedef struct {
    const uint8_t *s;
    uint32_t n; /* > 0 */
    int32_t id;
    uint32_t order; /* of two that are the same text, the lower one counts */
} exo_trie_key;

/* The tokens' own texts as keys, (n) of them, to be freed; NULL: no memory. */
exo_trie_key *exo_trie_keys(const exo_vocab *v, bool (*takes)(const exo_token *t), size_t *n);
/* Of the keys (n), which it sorts.  EXO_EFORMAT names two that are the same `what`, or one that is
 * too long.  what is NULL where two may be the same.  Finish it on failure too. */
exo_status exo_trie_init(exo_trie *t, exo_trie_key *keys, size_t n, const char *what,
                         exo_error *err);
void exo_trie_finish(exo_trie *t);
uint32_t exo_trie_next(const exo_trie *t, uint32_t node, uint8_t byte); /* 0: none */
/* The longest token that s begins with and its length, or EXO_NO_TOKEN and 0. */
int32_t exo_trie_longest(const exo_trie *t, const uint8_t *s, size_t n, size_t *len);
/* The same below a node: of what follows the bytes that lead to it. */
int32_t exo_trie_longest_below(const exo_trie *t, uint32_t node, const uint8_t *s, size_t n,
                               size_t *len);

/* Tokens that text may spell out, of a file without a pipeline; sets their strip flags. */
exo_status exo_special_init(exo_trie *x, exo_vocab *v, const exo_gguf *g, exo_error *err);
bool exo_is_special(const exo_token *t);

/* ---- merging ---- */

#define EXO_NO_SYMBOL UINT32_MAX

typedef struct {
    uint32_t start, n; /* bytes of the word; n = 0: merged into its left neighbour */
    uint32_t prev, next;
    int32_t id; /* EXO_NO_TOKEN where the vocabulary has none */
} exo_symbol;

typedef struct {
    uint64_t key; /* order of the merge, then the left symbol: the smallest goes first */
    uint32_t right;
    uint32_t n; /* bytes of both; differs once one of them has changed */
    int32_t id; /* what they become */
} exo_merge;

/* Says whether l and its right neighbour r may merge, how soon, and into what. */
typedef bool (*exo_merge_fn)(const void *ctx, const exo_symbol *l, const exo_symbol *r,
                             uint32_t *order, int32_t *id);

typedef struct {
    exo_symbol *symbols;
    size_t n_symbols, symbols_cap;
    exo_merge *heap;
    size_t n_heap, heap_cap;
} exo_merger;

void exo_merger_finish(exo_merger *m);
bool exo_merger_add(exo_merger *m, uint32_t n_bytes, int32_t id); /* the next symbol of a word */
/* Merges until nothing can; symbols[0] and the next links are the result.  False: no memory. */
bool exo_merger_run(exo_merger *m, exo_merge_fn fn, const void *ctx);

/* ---- BPE merges ---- */

typedef struct {
    int32_t left, right; /* left = EXO_NO_TOKEN: empty */
    uint32_t rank;
    int32_t id;
} exo_bpe_pair;

typedef struct {
    exo_bpe_pair *pairs; /* (n_pairs) hashed by (left, right) */
    uint32_t n_pairs;    /* a power of two, at most 2/3 full */
} exo_bpe_merges;

exo_status exo_bpe_merges_init(exo_bpe_merges *m, const exo_vocab *v, const exo_gguf *g,
                               exo_error *err);
void exo_bpe_merges_finish(exo_bpe_merges *m);
const exo_bpe_pair *exo_bpe_merges_find(const exo_tokenizer *t, int32_t left, int32_t right);
/* An exo_merge_fn by the table; ctx is the exo_tokenize_call. */
bool exo_bpe_pair_merge(const void *ctx, const exo_symbol *l, const exo_symbol *r, uint32_t *order,
                        int32_t *id);

/* ---- one call ---- */

#define EXO_WORD_CACHE_MIN_BYTES 4096u /* of text: below, remembering costs more than it saves */
#define EXO_WORD_CACHE_MAX_SLOTS 32768u

#define EXO_WORD_IDS 3

/* A word of this call's text and its ids; n = 0: empty. */
typedef struct {
    uint64_t key[2]; /* up to 16 bytes: the word; longer: its hash, and where it is in text */
    uint16_t n;      /* bytes */
    uint16_t n_ids;
    int32_t ids[EXO_WORD_IDS]; /* more than these: ids[0] is where they are, after first_id */
} exo_word_slot;

typedef struct { /* the best way to a position of a word */
    double score;
    size_t from, to; /* where its last token begins; where the next one ends (HF) */
    int32_t id;
} exo_best;

typedef struct {
    const exo_tokenizer *t;
    const uint8_t *text;
    exo_ids *ids;
    size_t first_id;      /* of this call */
    exo_word_slot *words; /* (n_words) a power of two; NULL for a short text */
    uint32_t n_words;
    exo_merger merger;
    exo_buf repaired; /* the text with U+FFFD for each broken byte, if it had any */
    exo_buf escaped;  /* a word with its spaces written as U+2581; UGM: a normalised text */
    exo_pretokenizer_scratch *match; /* BPE */
    exo_best *best;                  /* UGM, HF */
    size_t best_cap;
    unsigned flags;                /* EXO_TOKENIZE_* */
    exo_pipeline_scratch *scratch; /* of a pipeline; NULL: there is none */
    exo_buf normal;                /* all that it made of the text: words point into it */
    bool no_unknown;               /* a character that the vocabulary lacks, and no unknown token */
} exo_tokenize_call;

struct exo_tokenizer {
    exo_vocab vocab;
    exo_trie special;
    exo_pretokenizer *pre;  /* BPE */
    exo_bpe_merges merges;  /* BPE */
    exo_trie trie;          /* WPM, UGM, HF: all that text may become */
    double unknown_score;   /* UGM: of a character that no token covers */
    exo_pipeline *pipeline; /* NULL: none */
    exo_trie normalised;    /* special tokens that are looked for after normalising */
    uint32_t prefix_node;   /* HF: in trie, where a word's other parts begin; 0: nowhere */
};

bool exo_ids_push(exo_ids *ids, int32_t id); /* false: no memory */

/* tokenizer_words.c: remembering words.  A short text (n_bytes) has no table. */
exo_status exo_words_init(exo_tokenize_call *c, size_t n_bytes, exo_error *err);
/* Appends a word's ids: those found before, or what fresh appends.  False: no memory.  The word
 * is part of c->text and not empty. */
typedef bool (*exo_word_fn)(exo_tokenize_call *c, const uint8_t *s, size_t n);
bool exo_word_ids(exo_tokenize_call *c, const uint8_t *s, size_t n, exo_word_fn fresh);
exo_status exo_ids_no_memory(exo_error *err); /* EXO_ENOMEM, with its message */

/* tokenizer_special.c: walks over s, appends the ids of x's tokens and gives what is between them
 * to fn. */
typedef exo_status (*exo_plain_fn)(exo_tokenize_call *c, exo_str s, bool first, exo_error *err);
exo_status exo_special_split(exo_tokenize_call *c, const exo_trie *x, exo_str s, bool first,
                             exo_plain_fn fn, exo_error *err);

/* tokenizer_spm.c: text in which a space is written as U+2581.
 * Bytes of the first word of s (n > 0 bytes): spaces and what follows up to the next ones. */
size_t exo_escaped_word(const uint8_t *s, size_t n);
void exo_escape_spaces(exo_buf *out, const uint8_t *s, size_t n);
/* Takes c->escaped for a word: merges its characters as fn says (ctx is c), and appends tokens, or
 * byte tokens for what is none.  False: no memory. */
bool exo_merge_escaped(exo_tokenize_call *c, exo_merge_fn fn);

exo_status exo_wpm_init(exo_tokenizer *t, exo_error *err);
exo_status exo_ugm_init(exo_tokenizer *t, exo_error *err);
/* tokenizer_hf.c: special tokens of a pipeline; tokenizer_hf_model.c: its model. */
exo_status exo_hf_special_init(exo_tokenizer *t, exo_error *err);
exo_status exo_hf_model_init(exo_tokenizer *t, const exo_gguf *g, exo_error *err);
/* A run of text between special tokens that are looked for before normalising. */
exo_status exo_hf_text(exo_tokenize_call *c, exo_str s, bool first, exo_error *err);
/* An exo_piece_fn; ud is the call. */
exo_status exo_hf_piece(void *ud, const uint8_t *s, size_t n, exo_error *err);
/* A whole run of text between special tokens. */
exo_status exo_bpe_text(exo_tokenize_call *c, const uint8_t *s, size_t n, exo_error *err);
exo_status exo_spm_text(exo_tokenize_call *c, const uint8_t *s, size_t n, exo_error *err);
exo_status exo_wpm_text(exo_tokenize_call *c, const uint8_t *s, size_t n, exo_error *err);
exo_status exo_ugm_text(exo_tokenize_call *c, const uint8_t *s, size_t n, exo_error *err);

#endif
