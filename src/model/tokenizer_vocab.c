/* tokenizer_vocab.c - reads a vocabulary from GGUF metadata and checks it.
 *
 * Owns the table of tokens and the hash index from bytes to ids.  Knows nothing of merging.
 * Texts are copied into one blob: a tokenizer does not depend on the file staying mapped, and
 * lookups touch one allocation instead of pages of the file.
 * The index holds only what merging may produce.  Control tokens are not in it, so plain text
 * can never turn into one. */
#include "model/tokenizer_impl.h"

#include "base/clock.h"
#include "base/le.h"
#include "base/mem.h"

#include <math.h>
#include <string.h>

#define TOKENS "tokenizer.ggml.tokens"
#define TYPES  "tokenizer.ggml.token_type"
#define SCORES "tokenizer.ggml.scores"

static const uint8_t escaped_space[3] = {0xE2, 0x96, 0x81}; /* U+2581 */

/* ---- hashing ---- */

static uint64_t mix(uint64_t h, uint64_t word, uint64_t secret) {
    h = (h ^ word) * secret;
    return h ^ h >> 32;
}

/* *word: what a slot of this key holds. */
static uint64_t hash_key(const exo_vocab *v, const uint8_t *s, size_t n, uint64_t *word) {
    uint64_t h = n, last;
    size_t left = n;
    for (; left > 8; left -= 8, s += 8) h = mix(h, exo_get_u64(s), v->secret);
    last = exo_pack(s, left);
    h = mix(h, last, v->secret);
    *word = n <= 8 ? last : h;
    return h;
}

uint64_t exo_vocab_hash(const exo_vocab *v, const uint8_t *s, size_t n) {
    uint64_t word;
    return hash_key(v, s, n, &word);
}

uint32_t exo_table_size(size_t n) {
    uint32_t size = 16;
    while (size < UINT32_MAX / 4 && size / 2 < n / 4 * 3 + 2) size *= 2;
    return size;
}

static uint32_t first_slot(const exo_vocab *v, uint64_t hash) {
    return (uint32_t)(hash * v->secret >> 32) & (v->n_slots - 1);
}

static const uint8_t *key_of(const exo_vocab *v, int32_t id) {
    const exo_token *t = &v->tokens[id];
    return v->blob + (v->raw ? t->text : t->bytes);
}

static size_t key_bytes(const exo_vocab *v, int32_t id) {
    const exo_token *t = &v->tokens[id];
    return v->raw ? t->n_text : t->n_bytes;
}

/* Where a key of n > 0 bytes is, or the empty slot where it belongs; hash and word by hash_key. */
static exo_vocab_slot *slot_of(const exo_vocab *v, const uint8_t *s, size_t n, uint64_t hash,
                               uint64_t word) {
    for (uint32_t i = first_slot(v, hash);; i = (i + 1) & (v->n_slots - 1)) {
        exo_vocab_slot *slot = &v->slots[i];
        if (slot->id == EXO_NO_TOKEN) return slot;
        if (slot->word != word || slot->n != n) continue;
        if (n <= 8 || memcmp(key_of(v, slot->id), s, n) == 0) return slot;
    }
}

int32_t exo_vocab_find(const exo_vocab *v, const uint8_t *s, size_t n) {
    uint64_t word, hash;
    if (n == 0 || n > v->max_key) return EXO_NO_TOKEN;
    hash = hash_key(v, s, n, &word);
    return slot_of(v, s, n, hash, word)->id;
}

bool exo_vocab_is(const exo_vocab *v, int32_t id, const uint8_t *s, size_t n) {
    if (id < 0 || (uint32_t)id >= v->n || !v->tokens[id].indexed) return false;
    return key_bytes(v, id) == n && memcmp(key_of(v, id), s, n) == 0;
}

/* Each turn fetches what the next one reads: the slot, its token, the token's key. */
void exo_vocab_find_many(const exo_vocab *v, exo_vocab_query *queries, size_t n) {
    const exo_vocab_slot *slots[EXO_VOCAB_BATCH];
    for (size_t i = 0; i < n; i++) {
        exo_vocab_query *q = &queries[i];
        q->hash = hash_key(v, q->s, q->n, &q->word);
        slots[i] = &v->slots[first_slot(v, q->hash)];
        exo_prefetch(slots[i]);
    }
    for (size_t i = 0; i < n; i++) {
        if (queries[i].n > 8 && slots[i]->id != EXO_NO_TOKEN)
            exo_prefetch(&v->tokens[slots[i]->id]);
    }
    for (size_t i = 0; i < n; i++) {
        if (queries[i].n > 8 && slots[i]->id != EXO_NO_TOKEN) exo_prefetch(key_of(v, slots[i]->id));
    }
    for (size_t i = 0; i < n; i++) {
        exo_vocab_query *q = &queries[i];
        q->id = slot_of(v, q->s, q->n, q->hash, q->word)->id;
    }
}

/* ---- strings of the file ---- */

exo_status exo_gguf_strings_init(exo_gguf_strings *w, const exo_gguf *g, const char *key,
                                 exo_error *err) {
    exo_gguf_type elem;
    exo_str first;
    *w = (exo_gguf_strings){0};
    if (!exo_gguf_array(g, key, &elem, &w->left))
        return exo_error_set(err, EXO_EFORMAT, "%s is missing", key);
    if (elem != EXO_GGUF_STRING)
        return exo_error_set(err, EXO_EFORMAT, "%s is not an array of strings", key);
    if (w->left > 0 && exo_gguf_array_str(g, key, 0, &first)) w->at = first.s - 8;
    return EXO_OK;
}

exo_str exo_gguf_strings_next(exo_gguf_strings *w) {
    exo_str s = {w->at + 8, (size_t)exo_get_u64(w->at)};
    w->at = s.s + s.n;
    w->left--;
    return s;
}

/* ---- one token ---- */

/* The byte that code point c, above ASCII, stands for; -1: none. */
static int stand_in_byte(uint32_t c) {
    if (c >= 0xA1 && c <= 0xFF && c != 0xAD) return (int)c;
    if (c >= 0x100 && c <= 0x120) return (int)c - 0x100;        /* 0x00..0x20 */
    if (c >= 0x121 && c <= 0x142) return (int)c - 0x121 + 0x7F; /* 0x7F..0xA0 */
    return c == 0x143 ? 0xAD : -1;
}

bool exo_bpe_decode(const uint8_t *s, size_t n, uint8_t *out, size_t *n_out) {
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] > ' ' && s[i] < 0x7F) {
            out[k++] = s[i];
            continue;
        }
        if (s[i] < 0xC2 || s[i] > 0xC5 || i + 1 == n || (s[i + 1] & 0xC0) != 0x80) return false;
        int byte = stand_in_byte((s[i] & 0x1Fu) << 6 | (s[i + 1] & 0x3Fu));
        if (byte < 0) return false;
        out[k++] = (uint8_t)byte;
        i++;
    }
    *n_out = k;
    return true;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

/* "<0x0A>" */
static bool byte_token(exo_str s, uint8_t *out) {
    if (s.n != 6 || memcmp(s.s, "<0x", 3) != 0 || s.s[5] != '>') return false;
    int high = hex_digit(s.s[3]), low = hex_digit(s.s[4]);
    *out = (uint8_t)(high * 16 + low);
    return high >= 0 && low >= 0;
}

/* A token of kind BYTE must spell one, each another, where the bytes are looked up by it. */
static exo_status check_byte(const exo_vocab *v, int32_t id, exo_str s, exo_error *err) {
    uint8_t byte;
    if (!v->raw || v->tokens[id].type != EXO_TOKEN_BYTE) return EXO_OK;
    if (!byte_token(s, &byte))
        return exo_error_set(err, EXO_EFORMAT,
                             "%s[%d] is a byte by its kind, but \"%.*s\" is not <0x00> to <0xFF>",
                             TOKENS, id, s.n < 40 ? (int)s.n : 40, s.s);
    if (v->byte_ids[byte] == EXO_NO_TOKEN) return EXO_OK;
    return exo_error_set(err, EXO_EFORMAT, "%s[%d] and [%d] are the same byte", TOKENS,
                         v->byte_ids[byte], id);
}

static size_t unescape(exo_str s, uint8_t *out) {
    size_t k = 0;
    for (size_t i = 0; i < s.n;) {
        if (s.n - i >= 3 && memcmp(s.s + i, escaped_space, 3) == 0) {
            out[k++] = ' ';
            i += 3;
        } else {
            out[k++] = (uint8_t)s.s[i++];
        }
    }
    return k;
}

/* Whether a space comes after another character. */
static bool has_inner_space(exo_str s) {
    bool other = false;
    for (size_t i = 0; i < s.n;) {
        bool space = s.n - i >= 3 && memcmp(s.s + i, escaped_space, 3) == 0;
        if (space && other) return true;
        other = other || !space;
        i += space ? 3 : 1;
    }
    return false;
}

/* Bytes of s (n), less what it begins or ends with; 0 where it does not. */
static size_t without_prefix(exo_str s, const char *prefix, size_t n) {
    return n > 0 && s.n > n && memcmp(s.s, prefix, n) == 0 ? n : 0;
}

static size_t without_suffix(exo_str s, const char *suffix, size_t n) {
    return n > 0 && s.n >= n && memcmp(s.s + s.n - n, suffix, n) == 0 ? n : 0;
}

/* token_bytes() by the decoder of a pipeline.  At most one byte longer than s. */
static size_t decoded_bytes(const exo_pipeline *p, exo_str s, uint8_t *out) {
    size_t n = s.n, less = 0, space = 0;
    switch (p->decoder) {
    case EXO_DECODE_STAND_INS:
        if (exo_bpe_decode((const uint8_t *)s.s, s.n, out, &n)) return n;
        break;
    case EXO_DECODE_SPACES: return unescape(s, out);
    case EXO_DECODE_WORDS:
        less = without_prefix(s, p->prefix, p->n_prefix);
        space = less == 0;
        if (space > 0) *out++ = ' ';
        break;
    case EXO_DECODE_SUFFIX:
        n -= without_suffix(s, p->suffix, p->n_suffix);
        if (n > 0) memcpy(out, s.s, n);
        if (n < s.n) out[n++] = ' ';
        return n;
    case EXO_DECODE_PLAIN: break;
    }
    if (n > less) memcpy(out, s.s + less, n - less);
    return n - less + space;
}

/* What the token of a pipeline stands for; see token_bytes(). */
static size_t pipeline_bytes(exo_vocab *v, int32_t id, exo_str s, uint8_t *out, bool *key) {
    exo_token *t = &v->tokens[id];
    bool in_model = (t->flags & EXO_TOKEN_NO_MODEL) == 0;
    *key = in_model && t->type != EXO_TOKEN_UNUSED;
    if (t->type == EXO_TOKEN_BYTE) {
        v->byte_ids[out[0]] = id;
        return 1;
    }
    if (!t->shown || (t->flags & EXO_TOKEN_ADDED) != 0) {
        if (s.n > 0) memcpy(out, s.s, s.n);
        return s.n;
    }
    return decoded_bytes(v->pipeline, s, out);
}

/* What the token stands for, written at out; returns its length.  *key: merging may make it. */
static size_t token_bytes(exo_vocab *v, int32_t id, exo_str s, uint8_t *out, bool *key) {
    exo_token *t = &v->tokens[id];
    size_t n = s.n;
    *key = false;
    if (t->type == EXO_TOKEN_BYTE && !byte_token(s, out)) t->type = EXO_TOKEN_UNDEFINED;
    bool special = t->type == EXO_TOKEN_CONTROL || t->type == EXO_TOKEN_UNKNOWN;
    /* A byte may be one of a tokenizer.json's added tokens, too. */
    if (v->pipeline != NULL && (t->flags & EXO_TOKEN_NO_MODEL) == 0) special = false;
    t->shown = t->type == EXO_TOKEN_NORMAL || t->type == EXO_TOKEN_USER_DEFINED ||
               t->type == EXO_TOKEN_BYTE;
    if (v->kind == EXO_VOCAB_HF) return pipeline_bytes(v, id, s, out, key);
    if (t->type == EXO_TOKEN_BYTE) {
        if (v->raw) v->byte_ids[out[0]] = id;
        return 1;
    }
    if (!special && v->escaped) {
        *key = true;
        return unescape(s, out);
    }
    if (!special && !v->raw && t->type != EXO_TOKEN_USER_DEFINED &&
        exo_bpe_decode((const uint8_t *)s.s, s.n, out, &n)) {
        *key = true;
        return n;
    }
    if (n > 0) memcpy(out, s.s, n); /* as it stands: an added token of a BPE vocabulary */
    *key = !special && v->raw;
    return n;
}

/* ---- the table ---- */

static exo_status read_types(exo_vocab *v, const exo_gguf *g, exo_error *err) {
    exo_gguf_type elem;
    size_t n;
    int64_t type;
    for (uint32_t i = 0; i < v->n; i++) v->tokens[i].type = EXO_TOKEN_NORMAL;
    if (!exo_gguf_has(g, TYPES)) return EXO_OK;
    if (!exo_gguf_array(g, TYPES, &elem, &n) || n != v->n)
        return exo_error_set(err, EXO_EFORMAT, "%s does not have one entry per token", TYPES);
    for (uint32_t i = 0; i < v->n; i++) {
        if (!exo_gguf_array_i64(g, TYPES, i, &type))
            return exo_error_set(err, EXO_EFORMAT, "%s is not an array of integers", TYPES);
        if (type < EXO_TOKEN_UNDEFINED || type > EXO_TOKEN_BYTE)
            return exo_error_set(err, EXO_EFORMAT, "%s[%u] is %lld; kinds are 0 to 6", TYPES, i,
                                 (long long)type);
        v->tokens[i].type = (uint8_t)type;
    }
    return EXO_OK;
}

static exo_status read_scores(exo_vocab *v, const exo_gguf *g, exo_error *err) {
    exo_gguf_type elem;
    size_t n;
    double score;
    if (!exo_gguf_array(g, SCORES, &elem, &n) || n != v->n)
        return exo_error_set(err, EXO_EFORMAT, "%s does not have one entry per token", SCORES);
    v->scores = exo_malloc(n * sizeof *v->scores);
    if (v->scores == NULL)
        return exo_error_set(err, EXO_ENOMEM, "out of memory for the vocabulary");
    for (uint32_t i = 0; i < v->n; i++) {
        if (!exo_gguf_array_f64(g, SCORES, i, &score) || !isfinite(score))
            return exo_error_set(err, EXO_EFORMAT, "%s[%u] is not a finite number", SCORES, i);
        v->scores[i] = score;
    }
    return EXO_OK;
}

static exo_status alloc_tables(exo_vocab *v, const exo_gguf *g, exo_error *err) {
    exo_gguf_strings w;
    exo_status status = exo_gguf_strings_init(&w, g, TOKENS, err);
    if (status != EXO_OK) return status;
    if (w.left == 0 || w.left > EXO_VOCAB_MAX_TOKENS)
        return exo_error_set(err, EXO_EFORMAT, "%s has %zu entries", TOKENS, w.left);
    v->n = (uint32_t)w.left;
    size_t bytes = 0;
    while (w.left > 0) {
        exo_str s = exo_gguf_strings_next(&w);
        if (s.n > EXO_TOKEN_MAX_BYTES)
            return exo_error_set(err, EXO_EFORMAT, "%s[%u] is longer than %d bytes", TOKENS,
                                 v->n - (uint32_t)w.left - 1, EXO_TOKEN_MAX_BYTES);
        bytes += s.n;
    }
    if (bytes > UINT32_MAX / 2)
        return exo_error_set(err, EXO_EFORMAT, "%s is larger than 2 GiB", TOKENS);
    v->n_slots = exo_table_size(v->n);
    v->tokens = exo_calloc(v->n, sizeof *v->tokens);
    v->blob = exo_malloc(2 * bytes + v->n); /* a decoder may put a space before each */
    v->slots = exo_malloc(v->n_slots * sizeof *v->slots);
    if (v->tokens == NULL || v->blob == NULL || v->slots == NULL)
        return exo_error_set(err, EXO_ENOMEM, "out of memory for the vocabulary");
    memset(v->slots, 0xFF, v->n_slots * sizeof *v->slots); /* ids of EXO_NO_TOKEN */
    return EXO_OK;
}

static exo_status index_token(exo_vocab *v, int32_t id, exo_error *err) {
    uint64_t word;
    const uint8_t *key = key_of(v, id);
    size_t n = key_bytes(v, id);
    if (n == 0) return EXO_OK; /* a gap in the list */
    uint64_t hash = hash_key(v, key, n, &word);
    exo_vocab_slot *slot = slot_of(v, key, n, hash, word);
    if (slot->id != EXO_NO_TOKEN)
        return exo_error_set(err, EXO_EFORMAT, "%s[%d] and [%d] are the same token", TOKENS,
                             slot->id, id);
    *slot = (exo_vocab_slot){word, (uint32_t)n, id};
    v->tokens[id].indexed = true;
    if (n > v->max_key) v->max_key = (uint32_t)n;
    return EXO_OK;
}

static exo_status read_tokens(exo_vocab *v, const exo_gguf *g, exo_error *err) {
    exo_gguf_strings w;
    bool typed = exo_gguf_has(g, TYPES), key;
    exo_status status = exo_gguf_strings_init(&w, g, TOKENS, err);
    v->words_are_apart = true;
    for (uint32_t id = 0; status == EXO_OK && id < v->n; id++) {
        exo_str s = exo_gguf_strings_next(&w);
        exo_token *t = &v->tokens[id];
        bool special = t->type == EXO_TOKEN_CONTROL || t->type == EXO_TOKEN_USER_DEFINED;
        if ((special || !typed) && exo_vocab_is_end_name(s)) {
            t->type = EXO_TOKEN_CONTROL;
            exo_vocab_add_end(v, (int32_t)id);
        }
        status = check_byte(v, (int32_t)id, s, err);
        if (status != EXO_OK) break;
        t->text = (uint32_t)v->n_blob;
        t->n_text = (uint16_t)s.n;
        if (s.n > 0) memcpy(v->blob + t->text, s.s, s.n);
        v->n_blob += s.n;
        t->bytes = (uint32_t)v->n_blob;
        t->n_bytes = (uint16_t)token_bytes(v, (int32_t)id, s, v->blob + t->bytes, &key);
        if (t->n_bytes == t->n_text && s.n > 0 && memcmp(v->blob + t->bytes, s.s, s.n) == 0) {
            t->bytes = t->text; /* most are what they look like */
        } else {
            v->n_blob += t->n_bytes;
        }
        if (!key) continue;
        if (v->words_are_apart && has_inner_space(s)) v->words_are_apart = false;
        status = index_token(v, (int32_t)id, err);
    }
    return status;
}

/* The tokens added to a pipeline's model, and how each is looked for. */
static exo_status read_added(exo_vocab *v, const exo_gguf *g, exo_error *err) {
    exo_gguf_type elem;
    size_t n = 0, n_flags = 0;
    int64_t id, flags;
    if (!exo_gguf_has(g, EXO_KEY_ADDED_IDS)) return EXO_OK;
    if (!exo_gguf_array(g, EXO_KEY_ADDED_IDS, &elem, &n) ||
        !exo_gguf_array(g, EXO_KEY_ADDED_FLAGS, &elem, &n_flags) || n != n_flags)
        return exo_error_set(err, EXO_EFORMAT, "%s and %s are not two lists of one length",
                             EXO_KEY_ADDED_IDS, EXO_KEY_ADDED_FLAGS);
    for (size_t i = 0; i < n; i++) {
        if (!exo_gguf_array_i64(g, EXO_KEY_ADDED_IDS, i, &id) || id < 0 || id >= v->n ||
            !exo_gguf_array_i64(g, EXO_KEY_ADDED_FLAGS, i, &flags) || flags < 0 ||
            flags > EXO_ADDED_ALL)
            return exo_error_set(err, EXO_EFORMAT, "%s[%zu] is no token, or its flags are unknown",
                                 EXO_KEY_ADDED_IDS, i);
        v->tokens[id].flags = (uint8_t)(flags | EXO_TOKEN_ADDED);
    }
    return EXO_OK;
}

/* What a byte becomes that nothing longer covers. */
static void fill_bytes(exo_vocab *v) {
    for (int b = 0; b < 256; b++) {
        uint8_t byte = (uint8_t)b;
        if (v->byte_ids[b] == EXO_NO_TOKEN) v->byte_ids[b] = exo_vocab_find(v, &byte, 1);
        if (v->byte_ids[b] == EXO_NO_TOKEN) v->byte_ids[b] = v->unk;
    }
}

exo_status exo_vocab_init(exo_vocab *v, const exo_gguf *g, const exo_vocab_desc *desc,
                          exo_error *err) {
    bool bpe = desc->kind == EXO_VOCAB_BPE, hf = desc->kind == EXO_VOCAB_HF;
    v->kind = desc->kind;
    v->pipeline = desc->pipeline;
    v->raw = !bpe || (desc->pre & EXO_PRE_RAW) != 0;
    v->escaped = !hf && (!bpe || (desc->pre & EXO_PRE_ESCAPED_SPACES) != 0);
    v->secret = exo_now_ns() * 0x9E3779B97F4A7C15u ^ (uint64_t)(uintptr_t)v;
    v->secret = (v->secret ^ v->secret >> 29) * 0xBF58476D1CE4E5B9u | 1;
    memset(v->byte_ids, 0xFF, sizeof v->byte_ids); /* EXO_NO_TOKEN */
    bool scored = v->kind == EXO_VOCAB_SPM || v->kind == EXO_VOCAB_UGM ||
                  (hf && v->pipeline->model == EXO_PIPELINE_UNIGRAM);
    exo_status status = alloc_tables(v, g, err);
    if (status == EXO_OK) status = read_types(v, g, err);
    if (status == EXO_OK && scored) status = read_scores(v, g, err);
    if (status == EXO_OK && v->pipeline != NULL) status = read_added(v, g, err);
    if (status == EXO_OK) status = read_tokens(v, g, err);
    if (status == EXO_OK) status = exo_vocab_read_meta(v, g, desc, err);
    if (status == EXO_OK && !hf) fill_bytes(v);
    return status;
}

void exo_vocab_finish(exo_vocab *v) {
    exo_free(v->tokens);
    exo_free(v->scores);
    exo_free(v->blob);
    exo_free(v->slots);
    exo_free(v->charsmap);
    *v = (exo_vocab){0};
}
