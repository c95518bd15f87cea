/* toy_vocab.h - small vocabularies written as GGUF files in memory, for tests and fuzzing.
 *
 * A test takes one as it is, or breaks what it wants to see refused before it is written. */
#ifndef EXO_TESTS_TOY_VOCAB_H
#define EXO_TESTS_TOY_VOCAB_H

#include "base/le.h"
#include "model/gguf_writer.h"

#include <stdio.h>
#include <string.h>

#define TOY_MAX_TOKENS 400

typedef struct {
    const char *model, *pre; /* NULL: the key is left out */
    char texts[TOY_MAX_TOKENS][24];
    uint32_t types[TOY_MAX_TOKENS];
    float scores[TOY_MAX_TOKENS];
    size_t n_tokens;
    size_t n_types, n_scores; /* entries written; 0: the key is left out */
    const char *merges[32];
    size_t n_merges;
    struct {
        const char *key;
        uint32_t value;
    } ids[8]; /* tokenizer.ggml.<key> */
    size_t n_ids;
    const char *name;    /* general.name; NULL: left out */
    const char *no_flag; /* tokenizer.ggml.<no_flag> is false; NULL: left out */
    const char *flag;    /* tokenizer.ggml.<flag> is true; NULL: left out */
    uint8_t *charsmap;   /* of TOY_CHARSMAP_BYTES; NULL: left out */
} toy_vocab;

#define TOY_CHARSMAP_UNITS 1024
#define TOY_CHARSMAP_BYTES (4 + 4 * TOY_CHARSMAP_UNITS + 6)

static inline uint32_t toy_add(toy_vocab *v, const char *text, uint32_t type, float score) {
    size_t i = v->n_tokens++;
    snprintf(v->texts[i], sizeof v->texts[i], "%s", text);
    v->types[i] = type;
    v->scores[i] = score;
    return (uint32_t)i;
}

static inline void toy_id(toy_vocab *v, const char *key, uint32_t value) {
    v->ids[v->n_ids].key = key;
    v->ids[v->n_ids++].value = value;
}

/* The printable stand-in of a byte in byte-level BPE. */
static inline void toy_stand_in(int byte, char out[3]) {
    int c = byte;
    if (byte <= 0x20) c = 0x100 + byte;
    if (byte >= 0x7F && byte <= 0xA0) c = 0x121 + byte - 0x7F;
    if (byte == 0xAD) c = 0x143;
    if (c < 0x80) {
        snprintf(out, 3, "%c", c);
    } else {
        snprintf(out, 3, "%c%c", 0xC0 | c >> 6, 0x80 | (c & 0x3F));
    }
}

/* Ids 0 to 255 are the bytes; then what the merges make; then special tokens. */
static inline void toy_bpe(toy_vocab *v, const char *pre) {
    static const char *const merges[] = {"h e", "l l", "he ll", "hell o", "a a", "b c",
                                         "a b", "Ġ a", "1 2",   "Ġ Ġ",    "Ã ©"};
    *v = (toy_vocab){.model = "gpt2", .pre = pre};
    char text[16];
    for (int b = 0; b < 256; b++) {
        toy_stand_in(b, text);
        toy_add(v, text, 1, 0);
    }
    for (size_t i = 0; i < sizeof merges / sizeof merges[0]; i++) {
        size_t n = 0;
        for (const char *s = merges[i]; *s != '\0'; s++) {
            if (*s != ' ') text[n++] = *s;
        }
        text[n] = '\0';
        toy_add(v, text, 1, 0);
        v->merges[v->n_merges++] = merges[i];
    }
    toy_id(v, "eos_token_id", toy_add(v, "<|eos|>", 3, 0));
    toy_id(v, "bos_token_id", toy_add(v, "<|bos|>", 3, 0));
    toy_add(v, "<|im_end|>", 3, 0);
    toy_add(v, "<tool>", 4, 0);
    toy_add(v, "<tool>x", 4, 0);
    v->n_types = v->n_tokens;
}

/* <unk> <s> </s>, the 256 bytes from 3 on, then pieces with scores. */
static inline void toy_spm(toy_vocab *v) {
    static const char *const pieces[] = {"▁",  "▁a", "a",   "b",  "c",     "ab", "bc",
                                         "aa", "h",  "e",   "l",  "o",     "he", "ll",
                                         "▁▁", "é",  "ell", "▁b", "hello", "▁h"};
    *v = (toy_vocab){.model = "llama"};
    char text[16];
    toy_add(v, "<unk>", 2, 0);
    toy_add(v, "<s>", 3, 0);
    toy_add(v, "</s>", 3, 0);
    for (int b = 0; b < 256; b++) {
        snprintf(text, sizeof text, "<0x%02X>", b);
        toy_add(v, text, 6, 0);
    }
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++)
        toy_add(v, pieces[i], 1, -(float)i);
    toy_add(v, "<tool>", 4, 0);
    v->n_types = v->n_scores = v->n_tokens;
}

/* One character to be replaced by the text at offset `at` of the replacements. */
static inline void toy_map(uint8_t *charsmap, uint8_t c, uint32_t at) {
    uint32_t node = 256 ^ c, value = node ^ 512;
    exo_put_u32(charsmap + 4 + 4 * node, 512u << 10 | 1u << 8 | c);
    exo_put_u32(charsmap + 4 + 4 * value, 0x80000000u | at);
}

/* A becomes "bc", a tab becomes a space, Q goes. */
static inline void toy_charsmap(uint8_t charsmap[TOY_CHARSMAP_BYTES]) {
    memset(charsmap, 0, TOY_CHARSMAP_BYTES);
    exo_put_u32(charsmap, 4 * TOY_CHARSMAP_UNITS);
    exo_put_u32(charsmap + 4, 256u << 10); /* the root */
    memcpy(charsmap + 4 + 4 * TOY_CHARSMAP_UNITS, "bc\0 \0", 6);
    toy_map(charsmap, 'A', 0);
    toy_map(charsmap, '\t', 3);
    toy_map(charsmap, 'Q', 5);
}

/* Unigram: pieces with scores, no bytes. */
static inline void toy_ugm(toy_vocab *v) {
    static const char *const pieces[] = {"▁", "▁a", "a", "b", "c", "ab", "bc", "▁ab", "abc", "é"};
    *v = (toy_vocab){.model = "t5"};
    toy_add(v, "<pad>", 3, 0);
    toy_add(v, "</s>", 3, 0);
    toy_add(v, "<unk>", 2, 0);
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++)
        toy_add(v, pieces[i], 1, -1.5f - (float)i / 4);
    toy_add(v, "<tool>", 4, 0);
    v->n_types = v->n_scores = v->n_tokens;
}

/* WordPiece, as files have it: a word's beginning is marked. */
static inline void toy_wpm(toy_vocab *v) {
    static const char *const pieces[] = {"▁a",  "▁hello", "▁he", "llo", "b",  "▁!",
                                         "▁日", "▁uber",  "ᅡ",  "▁ᄀ", "▁É", "▁-"};
    *v = (toy_vocab){.model = "bert"};
    toy_add(v, "[PAD]", 3, 0);
    toy_id(v, "unknown_token_id", toy_add(v, "[UNK]", 2, 0));
    toy_id(v, "cls_token_id", toy_add(v, "[CLS]", 3, 0));
    toy_id(v, "seperator_token_id", toy_add(v, "[SEP]", 3, 0));
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) toy_add(v, pieces[i], 1, 0);
    v->n_types = v->n_tokens;
}

/* BPE over characters, with bytes from 0 on. */
static inline void toy_raw(toy_vocab *v) {
    static const char *const merges[] = {"▁ a", "a b", "▁ ▁", "▁a b"};
    static const char *const pieces[] = {"▁", "a", "b", "é", "▁a", "ab", "▁▁", "▁ab", "\n", "\n\n"};
    *v = (toy_vocab){.model = "gemma4"};
    char text[16];
    for (int b = 0; b < 256; b++) {
        snprintf(text, sizeof text, "<0x%02X>", b);
        toy_add(v, text, 6, 0);
    }
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) toy_add(v, pieces[i], 1, 0);
    for (size_t i = 0; i < sizeof merges / sizeof merges[0]; i++)
        v->merges[v->n_merges++] = merges[i];
    toy_id(v, "bos_token_id", toy_add(v, "<bos>", 3, 0));
    toy_id(v, "eos_token_id", toy_add(v, "<turn|>", 3, 0));
    toy_add(v, "<tool>", 4, 0);
    v->n_types = v->n_tokens;
}

static inline void toy_write(const toy_vocab *v, exo_buf *out) {
    exo_gguf_writer w = {0};
    uint8_t f32[4];
    char key[64];
    if (v->model != NULL) exo_gguf_add_str(&w, "tokenizer.ggml.model", v->model);
    if (v->pre != NULL) exo_gguf_add_str(&w, "tokenizer.ggml.pre", v->pre);
    exo_gguf_add_array(&w, "tokenizer.ggml.tokens", EXO_GGUF_STRING, v->n_tokens);
    for (size_t i = 0; i < v->n_tokens; i++)
        exo_gguf_put_str(&w.kvs, v->texts[i], strlen(v->texts[i]));
    if (v->n_types > 0) {
        exo_gguf_add_array(&w, "tokenizer.ggml.token_type", EXO_GGUF_I32, v->n_types);
        for (size_t i = 0; i < v->n_types; i++) exo_gguf_put_u32(&w.kvs, v->types[i]);
    }
    if (v->n_scores > 0) {
        exo_gguf_add_array(&w, "tokenizer.ggml.scores", EXO_GGUF_F32, v->n_scores);
        for (size_t i = 0; i < v->n_scores; i++) {
            exo_put_f32(f32, v->scores[i]);
            exo_buf_append(&w.kvs, f32, sizeof f32);
        }
    }
    if (v->n_merges > 0) {
        exo_gguf_add_array(&w, "tokenizer.ggml.merges", EXO_GGUF_STRING, v->n_merges);
        for (size_t i = 0; i < v->n_merges; i++)
            exo_gguf_put_str(&w.kvs, v->merges[i], strlen(v->merges[i]));
    }
    for (size_t i = 0; i < v->n_ids; i++) {
        snprintf(key, sizeof key, "tokenizer.ggml.%s", v->ids[i].key);
        exo_gguf_add_u32(&w, key, v->ids[i].value);
    }
    if (v->name != NULL) exo_gguf_add_str(&w, "general.name", v->name);
    for (int value = 0; value < 2; value++) {
        const char *flag = value == 0 ? v->no_flag : v->flag;
        if (flag == NULL) continue;
        snprintf(key, sizeof key, "tokenizer.ggml.%s", flag);
        exo_gguf_add_bool(&w, key, value != 0);
    }
    if (v->charsmap != NULL) {
        exo_gguf_add_array(&w, "tokenizer.ggml.precompiled_charsmap", EXO_GGUF_U8,
                           TOY_CHARSMAP_BYTES);
        exo_buf_append(&w.kvs, v->charsmap, TOY_CHARSMAP_BYTES);
    }
    exo_gguf_writer_head(&w, out);
    exo_gguf_writer_finish(&w);
}

#endif
