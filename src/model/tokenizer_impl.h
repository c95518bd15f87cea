/* tokenizer_impl.h - what the tokenizer's own files share; nobody else includes it.
 *
 * Text becomes ids in four steps, each in its file:
 *   tokenizer.c          finds special tokens and hands on the text between them
 *   pretokenize.c        (BPE) cuts that text into words by the model's regular expression
 *   tokenizer_{bpe,spm}  turns one word into symbols and says which neighbours may merge
 *   tokenizer_merge.c    merges best pair first until none is left
 * tokenizer_vocab.c reads and checks the vocabulary; detokenizer.c goes the other way.
 * A word gives the same ids wherever it stands, so one call remembers words it has seen
 * (exo_word_cache); nothing is remembered between calls, which keeps a tokenizer read-only. */
#ifndef EXO_MODEL_TOKENIZER_IMPL_H
#define EXO_MODEL_TOKENIZER_IMPL_H

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
#define EXO_TOKEN_MAX_BYTES   UINT16_MAX
#define EXO_VOCAB_MAX_END_IDS 32
#define EXO_NO_TOKEN          (-1)

typedef struct {
    uint32_t text;  /* offset in blob: the text as the file has it */
    uint32_t bytes; /* offset in blob: the bytes the token stands for */
    uint16_t n_text, n_bytes;
    uint8_t type; /* exo_token_type */
    bool shown;   /* false: adds nothing to detokenised text */
    bool indexed; /* exo_vocab_find finds it */
} exo_token;

typedef struct {
    uint64_t word; /* a key of up to 8 bytes itself, or the hash of a longer one */
    uint32_t n;    /* bytes of the key */
    int32_t id;    /* EXO_NO_TOKEN: empty */
} exo_vocab_slot;

typedef enum { EXO_VOCAB_SPM, EXO_VOCAB_BPE } exo_vocab_kind;

typedef struct {
    exo_vocab_kind kind;
    uint32_t n;
    exo_token *tokens; /* (n) */
    float *scores;     /* (n) SPM; NULL for BPE */
    uint8_t *blob;     /* all texts and bytes */
    size_t n_blob;
    exo_vocab_slot *slots; /* (n_slots) tokens that merging may produce, by text (SPM) or bytes */
    uint32_t n_slots;      /* a power of two, at most 2/3 full */
    uint64_t secret;       /* odd, drawn at load: no crafted vocabulary makes the tables slow */
    uint32_t max_key;      /* the longest of them */
    int32_t byte_ids[256]; /* a lone byte: <0xXX> (SPM) or its one-byte token (BPE); else unk */
    int32_t bos, eos, unk; /* EXO_NO_TOKEN: none */
    int32_t end_ids[EXO_VOCAB_MAX_END_IDS];
    uint32_t n_end_ids;
    bool add_bos, add_eos;
    bool add_space_prefix; /* SPM */
    bool words_are_apart;  /* SPM: no token goes on with a space after another character */
} exo_vocab;

/* v is zeroed memory; finish it on failure too.  add_bos: what a silent file means. */
exo_status exo_vocab_init(exo_vocab *v, const exo_gguf *g, exo_vocab_kind kind, bool add_bos,
                          exo_error *err);
void exo_vocab_finish(exo_vocab *v);
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

/* ---- special tokens ---- */

/* Sorted by text, so that one text position narrows a range byte by byte, as in a trie. */
typedef struct {
    int32_t *ids; /* (n) */
    uint32_t n;
    uint32_t first[257]; /* ids[first[b]..first[b+1]) begin with byte b */
} exo_special_index;

exo_status exo_special_init(exo_special_index *x, const exo_vocab *v, exo_error *err);
void exo_special_finish(exo_special_index *x);
/* The longest special token that s begins with, or EXO_NO_TOKEN. */
int32_t exo_special_match(const exo_special_index *x, const exo_vocab *v, const uint8_t *s,
                          size_t n, bool control_too);

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

/* ---- one call ---- */

#define EXO_WORD_CACHE_MIN_BYTES 4096u /* of text: below, remembering costs more than it saves */
#define EXO_WORD_CACHE_MAX_SLOTS 32768u

/* A word of this call's text and where its ids stand in this call's output: no copies. */
typedef struct {
    uint32_t word, n;       /* in text; n = 0: empty */
    uint32_t ids_at, n_ids; /* after first_id */
} exo_word_slot;

typedef struct {
    const exo_tokenizer *t;
    const uint8_t *text;
    exo_ids *ids;
    size_t first_id;      /* of this call */
    exo_word_slot *words; /* (n_words) a power of two; NULL for a short text */
    uint32_t n_words;
    exo_merger merger;
    exo_buf escaped;                 /* SPM: a word with its spaces written as U+2581 */
    exo_pretokenizer_scratch *match; /* BPE */
} exo_tokenize_call;

struct exo_tokenizer {
    exo_vocab vocab;
    exo_special_index special;
    exo_pretokenizer *pre; /* BPE */
    exo_bpe_merges merges; /* BPE */
};

bool exo_ids_push(exo_ids *ids, int32_t id); /* false: no memory */
/* Appends a word's ids: those found before, or what fresh appends.  False: no memory. */
typedef bool (*exo_word_fn)(exo_tokenize_call *c, const uint8_t *s, size_t n);
bool exo_word_ids(exo_tokenize_call *c, const uint8_t *s, size_t n, exo_word_fn fresh);

/* A whole run of text between special tokens. */
exo_status exo_bpe_text(exo_tokenize_call *c, const uint8_t *s, size_t n, exo_error *err);
exo_status exo_spm_text(exo_tokenize_call *c, const uint8_t *s, size_t n, exo_error *err);

#endif
