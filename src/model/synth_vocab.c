/* synth_vocab.c - a small byte-level BPE vocabulary, padded to the size a shape asks for.
 *
 * Any text encodes (all 256 bytes are tokens) and common English words are one token each: the
 * merges spell every word of a list letter by letter.  Fillers are ordinary tokens that no text
 * reaches but a random model prints. */
#include "model/synth_impl.h"

#include <stdio.h>
#include <string.h>

#define MAX_MERGES   240
#define WORD_BYTES   24
#define N_BYTES      256
#define N_CONTROL    4
#define TYPE_NORMAL  1 /* of tokenizer.ggml.token_type */
#define TYPE_CONTROL 3

static const char *const control[N_CONTROL] = {"<|begin_of_text|>", "<|end_of_text|>",
                                               "<|im_start|>", "<|im_end|>"};

static const char chat_template[] =
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + "
    "message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/* Learned in this order; '_' stands for the space before a word. */
static const char words[] =
    "_the _of _and _to _in _is _was _he _for _it _with _as _his _on _be _at _by _had _not _are "
    "_but _from _or _have _an _they _which _one _you _were _all _her _she _there _would _their "
    "_we _him _been _has _when _who _will _no _more _if _out _so _up _said _what _its _about "
    "_than _into _them _can _only _other _time _new _some _could _these _two _may _then _do "
    "_a _i _my _like _little _day _once ing ed er ly es en re st an or";

/* A merge and the token it makes: left + right. */
typedef struct {
    char token[WORD_BYTES];
    size_t left_n; /* bytes of left */
} merge;

typedef struct {
    merge items[MAX_MERGES];
    uint32_t n;
} merges;

/* GPT-2's spelling of a byte as one visible character; returns its length in UTF-8. */
static size_t spell_byte(unsigned byte, char out[3]) {
    unsigned cp = 0, n_hidden = 0;
    for (unsigned b = 0; b <= byte; b++) {
        bool visible = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        cp = visible ? b : 256 + n_hidden++;
    }
    size_t n = 0;
    if (cp < 0x80) {
        out[n++] = (char)cp;
    } else {
        out[n++] = (char)(uint8_t)(0xC0 | cp >> 6);
        out[n++] = (char)(uint8_t)(0x80 | (cp & 63));
    }
    out[n] = '\0';
    return n;
}

static bool known(const merges *m, const char *token) {
    for (uint32_t i = 0; i < m->n; i++) {
        if (strcmp(m->items[i].token, token) == 0) return true;
    }
    return false;
}

/* Adds the merges that build one word from the left. */
static void learn_word(merges *m, const char *word, size_t n) {
    char token[WORD_BYTES] = "", letter[3];
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        size_t left_n = len;
        unsigned byte = word[i] == '_' ? ' ' : (unsigned char)word[i];
        size_t letter_n = spell_byte(byte, letter);
        if (len + letter_n >= WORD_BYTES || m->n == MAX_MERGES) return;
        memcpy(token + len, letter, letter_n + 1);
        len += letter_n;
        if (i == 0 || known(m, token)) continue;
        merge *item = &m->items[m->n++];
        memcpy(item->token, token, len + 1);
        item->left_n = left_n;
    }
}

static void learn_all(merges *m) {
    for (const char *s = words; *s != '\0';) {
        size_t n = strcspn(s, " ");
        learn_word(m, s, n);
        s += n + (s[n] == ' ');
    }
}

static void add_tokens(exo_gguf_writer *w, const merges *m, uint32_t n_vocab) {
    char text[WORD_BYTES];
    exo_gguf_add_array(w, "tokenizer.ggml.tokens", EXO_GGUF_STRING, n_vocab);
    for (unsigned b = 0; b < N_BYTES; b++) {
        exo_gguf_put_str(&w->kvs, text, spell_byte(b, text));
    }
    for (uint32_t i = 0; i < m->n; i++) {
        exo_gguf_put_str(&w->kvs, m->items[i].token, strlen(m->items[i].token));
    }
    for (uint32_t i = N_BYTES + m->n; i < n_vocab - N_CONTROL; i++) {
        int n = snprintf(text, sizeof text, "<unused%u>", i);
        exo_gguf_put_str(&w->kvs, text, (size_t)n);
    }
    for (uint32_t i = 0; i < N_CONTROL; i++) {
        exo_gguf_put_str(&w->kvs, control[i], strlen(control[i]));
    }
    exo_gguf_add_array(w, "tokenizer.ggml.token_type", EXO_GGUF_I32, n_vocab);
    for (uint32_t i = 0; i < n_vocab; i++) {
        exo_gguf_put_u32(&w->kvs, i < n_vocab - N_CONTROL ? TYPE_NORMAL : TYPE_CONTROL);
    }
}

static void add_merges(exo_gguf_writer *w, const merges *m) {
    exo_gguf_add_array(w, "tokenizer.ggml.merges", EXO_GGUF_STRING, m->n);
    for (uint32_t i = 0; i < m->n; i++) {
        char text[WORD_BYTES + 1];
        const merge *item = &m->items[i];
        int n = snprintf(text, sizeof text, "%.*s %s", (int)item->left_n, item->token,
                         item->token + item->left_n);
        exo_gguf_put_str(&w->kvs, text, (size_t)n);
    }
}

void exo_synth_add_vocab(exo_gguf_writer *w, uint32_t n_vocab, bool qwen) {
    merges m = {.n = 0};
    learn_all(&m);
    exo_gguf_add_str(w, "tokenizer.ggml.model", "gpt2");
    exo_gguf_add_str(w, "tokenizer.ggml.pre", qwen ? "qwen2" : "llama-bpe");
    add_tokens(w, &m, n_vocab);
    add_merges(w, &m);
    exo_gguf_add_u32(w, "tokenizer.ggml.bos_token_id", n_vocab - 4);
    exo_gguf_add_u32(w, "tokenizer.ggml.eos_token_id", n_vocab - 3);
    exo_gguf_add_u32(w, "tokenizer.ggml.eot_token_id", n_vocab - 1);
    exo_gguf_add_bool(w, "tokenizer.ggml.add_bos_token", !qwen);
    exo_gguf_add_str(w, "tokenizer.chat_template", chat_template);
}
