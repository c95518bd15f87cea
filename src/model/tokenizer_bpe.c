/* tokenizer_bpe.c - BPE by rank: one word's bytes, or characters, merged in the order of a list.
 *
 * Owns the table of merges, keyed by the two ids.  Most vocabularies are byte-level: the printable
 * stand-ins in which their files write tokens are decoded once, at load, and words are plain
 * bytes.  Raw ones merge characters and have byte tokens for the rest.
 * A merge that names a token the vocabulary does not have can never apply, so it is left out. */
#include "model/tokenizer_impl.h"

#include "base/mem.h"
#include "model/utf8.h"

#include <string.h>
#include <utf8proc.h>

#define MERGES     "tokenizer.ggml.merges"
#define MAX_MERGES (1u << 26)

#define MADE_BYTES 1024 /* where a word's other parts have a prefix */

/* ---- the table of merges ---- */

static uint32_t first_slot(const exo_bpe_merges *m, uint64_t secret, int32_t left, int32_t right) {
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    return (uint32_t)(key * secret >> 32) & (m->n_pairs - 1);
}

static exo_bpe_pair *slot_of(const exo_bpe_merges *m, uint64_t secret, int32_t left,
                             int32_t right) {
    for (uint32_t i = first_slot(m, secret, left, right);; i = (i + 1) & (m->n_pairs - 1)) {
        exo_bpe_pair *p = &m->pairs[i];
        if (p->left == EXO_NO_TOKEN || (p->left == left && p->right == right)) return p;
    }
}

const exo_bpe_pair *exo_bpe_merges_find(const exo_tokenizer *t, int32_t left, int32_t right) {
    const exo_bpe_pair *p = slot_of(&t->merges, t->vocab.secret, left, right);
    return p->left == EXO_NO_TOKEN ? NULL : p;
}

/* "left right", decoded at buf (2 * max_key bytes): the keys of left and right, one
 * behind the other.  False where that cannot be two tokens. */
static bool parse_merge(const exo_vocab *v, exo_str s, uint8_t *buf, exo_vocab_query parts[2]) {
    size_t n_left, n_right;
    if (s.n < 3 || s.n > 2 * (size_t)v->max_key + 1) return false; /* 2 characters a byte */
    const char *space = memchr(s.s + 1, ' ', s.n - 1);
    if (space == NULL) return false;
    size_t at = (size_t)(space - s.s);
    const uint8_t *right = (const uint8_t *)s.s + at + 1;
    if (v->raw) {
        n_left = at;
        n_right = s.n - at - 1;
        memcpy(buf, s.s, n_left);
        memcpy(buf + n_left, right, n_right);
    } else if (!exo_bpe_decode((const uint8_t *)s.s, at, buf, &n_left) ||
               !exo_bpe_decode(right, s.n - at - 1, buf + n_left, &n_right)) {
        return false;
    }
    parts[0] = (exo_vocab_query){.s = buf, .n = (uint32_t)n_left};
    parts[1] = (exo_vocab_query){.s = buf + n_left, .n = (uint32_t)n_right};
    return n_left > 0 && n_right > 0;
}

/* Files list merges in the order of the tokens they make: a guess saves a third of the look-ups. */
static int32_t find_made(const exo_vocab *v, const exo_vocab_query parts[2], int32_t last) {
    const uint8_t *s = parts[0].s;
    size_t n = parts[0].n + parts[1].n;
    size_t prefix = v->pipeline != NULL ? v->pipeline->n_prefix : 0;
    if (prefix > 0) { /* that of the right part does not come along */
        uint8_t made[MADE_BYTES];
        if (n > sizeof made || prefix > parts[1].n) return EXO_NO_TOKEN;
        memcpy(made, s, parts[0].n);
        memcpy(made + parts[0].n, parts[1].s + prefix, parts[1].n - prefix);
        return exo_vocab_find(v, made, n - prefix);
    }
    if (exo_vocab_is(v, last, s, n)) return last;
    if (exo_vocab_is(v, last + 1, s, n)) return last + 1;
    return exo_vocab_find(v, s, n);
}

#define MERGES_AT_ONCE (EXO_VOCAB_BATCH / 2)

typedef struct {
    exo_gguf_strings file;
    uint32_t rank;     /* of the next merge in the file */
    int32_t last_made; /* by the merge before it */
    uint8_t *buf;      /* (MERGES_AT_ONCE, 2 * max_key) */
} merge_reader;

/* A merge of tokens that there are not.  It can never apply, and GGUF files may have it; the
 * library that a tokenizer.json is for refuses the file. */
static exo_status lost_merge(const exo_vocab *v, uint32_t rank, exo_error *err) {
    if (v->pipeline == NULL) return EXO_OK;
    return exo_error_set(err, EXO_EFORMAT, "%s[%u] is not two tokens that make a third", MERGES,
                         rank);
}

/* Adds the next few merges; those of unknown tokens have a rank, but no place in the table. */
static exo_status add_merges(exo_bpe_merges *m, const exo_vocab *v, merge_reader *r,
                             exo_error *err) {
    exo_vocab_query parts[EXO_VOCAB_BATCH];
    exo_bpe_pair pairs[MERGES_AT_ONCE];
    size_t n = 0;
    for (; n < MERGES_AT_ONCE && r->file.left > 0; r->rank++) {
        exo_vocab_query *p = &parts[2 * n];
        exo_str text = exo_gguf_strings_next(&r->file);
        int32_t made = EXO_NO_TOKEN;
        if (parse_merge(v, text, r->buf + n * 2 * v->max_key, p))
            made = find_made(v, p, r->last_made);
        if (made == EXO_NO_TOKEN) {
            exo_status st = lost_merge(v, r->rank, err);
            if (st != EXO_OK) return st;
            continue;
        }
        pairs[n++] = (exo_bpe_pair){.rank = r->rank, .id = made};
        r->last_made = made;
    }
    exo_vocab_find_many(v, parts, 2 * n);
    for (size_t i = 0; i < n; i++) {
        pairs[i].left = parts[2 * i].id;
        pairs[i].right = parts[2 * i + 1].id;
        exo_prefetch(&m->pairs[first_slot(m, v->secret, pairs[i].left, pairs[i].right)]);
    }
    for (size_t i = 0; i < n; i++) {
        if (pairs[i].left == EXO_NO_TOKEN || pairs[i].right == EXO_NO_TOKEN) {
            exo_status st = lost_merge(v, pairs[i].rank, err);
            if (st != EXO_OK) return st;
            continue;
        }
        exo_bpe_pair *p = slot_of(m, v->secret, pairs[i].left, pairs[i].right);
        /* Of two that are the same, llama.cpp takes the first and Hugging Face's library the last.
         */
        if (p->left == EXO_NO_TOKEN || v->pipeline != NULL) *p = pairs[i];
    }
    return EXO_OK;
}

exo_status exo_bpe_merges_init(exo_bpe_merges *m, const exo_vocab *v, const exo_gguf *g,
                               exo_error *err) {
    merge_reader r = {0};
    exo_status status = exo_gguf_strings_init(&r.file, g, MERGES, err);
    if (status != EXO_OK) return status;
    if (r.file.left > MAX_MERGES)
        return exo_error_set(err, EXO_EFORMAT, "%s has %zu entries", MERGES, r.file.left);
    m->n_pairs = exo_table_size(r.file.left);
    m->pairs = exo_malloc(m->n_pairs * sizeof *m->pairs);
    r.buf = exo_malloc(MERGES_AT_ONCE * 2 * (size_t)v->max_key);
    if (m->pairs == NULL || r.buf == NULL) {
        exo_free(r.buf);
        return exo_error_set(err, EXO_ENOMEM, "out of memory for the merges");
    }
    memset(m->pairs, 0xFF, m->n_pairs * sizeof *m->pairs); /* left = EXO_NO_TOKEN */
    while (status == EXO_OK && r.file.left > 0) status = add_merges(m, v, &r, err);
    exo_free(r.buf);
    return status;
}

void exo_bpe_merges_finish(exo_bpe_merges *m) {
    exo_free(m->pairs);
    *m = (exo_bpe_merges){0};
}

/* ---- a word ---- */

bool exo_bpe_pair_merge(const void *ctx, const exo_symbol *l, const exo_symbol *r, uint32_t *order,
                        int32_t *id) {
    const exo_tokenize_call *c = ctx;
    if (l->id == EXO_NO_TOKEN || r->id == EXO_NO_TOKEN) return false;
    const exo_bpe_pair *p = exo_bpe_merges_find(c->t, l->id, r->id);
    if (p == NULL) return false;
    *order = p->rank;
    *id = p->id;
    return true;
}

static bool merge_bytes(exo_tokenize_call *c, const uint8_t *s, size_t n) {
    exo_merger *m = &c->merger;
    m->n_symbols = 0;
    for (size_t i = 0; i < n; i++) {
        if (!exo_merger_add(m, 1, c->t->vocab.byte_ids[s[i]])) return false;
    }
    if (!exo_merger_run(m, exo_bpe_pair_merge, c)) return false;
    for (uint32_t i = 0; i != EXO_NO_SYMBOL; i = m->symbols[i].next) {
        int32_t id = m->symbols[i].id; /* a byte that the vocabulary lacks has none */
        if (id != EXO_NO_TOKEN && !exo_ids_push(c->ids, id)) return false;
    }
    return true;
}

static bool whole_or_merged_bytes(exo_tokenize_call *c, const uint8_t *s, size_t n) {
    const exo_vocab *v = &c->t->vocab;
    int32_t id = exo_vocab_find(v, s, n);
    if (id == EXO_NO_TOKEN) return merge_bytes(c, s, n);
    bool plain = v->tokens[id].type != EXO_TOKEN_CONTROL || (c->flags & EXO_TOKENIZE_SPECIAL) != 0;
    return plain ? exo_ids_push(c->ids, id) : merge_bytes(c, s, n);
}

static void append_small(exo_buf *out, const uint8_t *s, size_t n) {
    uint8_t bytes[4];
    for (size_t i = 0, len; i < n; i += len) {
        exo_utf8_step(s + i, n - i, &len);
        int32_t code = utf8proc_tolower((int32_t)exo_utf8_decode(s + i, len));
        exo_buf_append(out, bytes, exo_utf8_encode((uint32_t)code, bytes));
    }
}

static bool merge_raw(exo_tokenize_call *c, const uint8_t *s, size_t n) {
    exo_buf_clear(&c->escaped);
    if (c->t->vocab.escaped) {
        exo_escape_spaces(&c->escaped, s, n);
    } else if (c->t->vocab.lowercase) {
        append_small(&c->escaped, s, n);
    } else {
        exo_buf_append(&c->escaped, s, n);
    }
    return exo_merge_escaped(c, exo_bpe_pair_merge);
}

/* ---- a text ---- */

static bool on_word(void *ud, const uint8_t *s, size_t n) {
    return exo_word_ids(ud, s, n, merge_bytes);
}

static bool on_word_or_token(void *ud, const uint8_t *s, size_t n) {
    return exo_word_ids(ud, s, n, whole_or_merged_bytes);
}

/* What the rule leaves between words is all white space. */
static bool begins_with_space(const uint8_t *s, size_t n) {
    size_t len;
    exo_utf8_step(s, n, &len);
    uint32_t code = exo_utf8_decode(s, len);
    utf8proc_category_t category = utf8proc_category((int32_t)code);
    return (code >= '\t' && code <= '\r') || code == 0x85 ||
           (category >= UTF8PROC_CATEGORY_ZS && category <= UTF8PROC_CATEGORY_ZP);
}

static bool on_raw_word(void *ud, const uint8_t *s, size_t n) {
    exo_tokenize_call *c = ud;
    const exo_vocab *v = &c->t->vocab;
    unsigned flags = exo_pretokenizer_flags(c->t->pre);
    if ((flags & EXO_PRE_NO_SPACES) != 0 && begins_with_space(s, n)) return true;
    if (s[0] == '\n' && (flags & EXO_PRE_WHOLE_NEWLINES) != 0) {
        int32_t id = exo_vocab_find(v, s, n);
        if (id != EXO_NO_TOKEN) return exo_ids_push(c->ids, id);
    }
    bool ok = true;
    for (size_t word; ok && n > 0; s += word, n -= word) {
        word = v->escaped && v->words_are_apart ? exo_escaped_word(s, n) : n;
        ok = exo_word_ids(c, s, word, merge_raw);
    }
    return ok;
}

exo_status exo_bpe_text(exo_tokenize_call *c, const uint8_t *s, size_t n, exo_error *err) {
    unsigned flags = exo_pretokenizer_flags(c->t->pre);
    const exo_pipeline *p = c->t->pipeline;
    bool whole = p != NULL ? p->ignore_merges : (flags & EXO_PRE_WHOLE_WORDS) != 0;
    exo_pretokenizer_fn fn = (flags & EXO_PRE_RAW) != 0 ? on_raw_word
                             : whole                    ? on_word_or_token
                                                        : on_word;
    return exo_pretokenizer_split(c->t->pre, c->match, s, n, fn, c, err);
}
