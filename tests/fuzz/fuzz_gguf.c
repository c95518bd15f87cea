/* fuzz_gguf.c - any bytes as a GGUF file: refused, or every claim in it is true.
 *
 * What opens is walked whole: each metadata value by every getter, each string's and each tensor's
 * first and last byte, then the hyperparameters and shapes that a model's opening would read. */
#include "fuzz/target.h"
#include "model/hparams.h"

#include <stdlib.h>
#include <string.h>

static volatile uint8_t sink;

static void touch(const void *p, size_t n) {
    const uint8_t *b = p;
    if (n > 0) sink = (uint8_t)(b[0] ^ b[n - 1]);
}

/* Keys that parsers ask for; the fuzzer's dictionary in effect. */
static const char *const keys[] = {
    "general.architecture",
    "general.name",
    "general.alignment",
    "llama.block_count",
    "llama.rope.freq_base",
    "tokenizer.ggml.model",
    "tokenizer.ggml.tokens",
    "tokenizer.ggml.scores",
    "tokenizer.ggml.token_type",
    "tokenizer.ggml.merges",
    "tokenizer.ggml.add_bos_token",
    "split.count",
};

static void walk_array(const exo_gguf *g, const char *key) {
    exo_gguf_type elem;
    size_t count;
    if (!exo_gguf_array(g, key, &elem, &count)) return;
    size_t step = count > 1000 ? count / 1000 : 1;
    for (size_t i = 0; i <= count; i += step) { /* one beyond the end, too */
        exo_str s;
        int64_t v;
        double d;
        if (exo_gguf_array_str(g, key, i, &s)) touch(s.s, s.n);
        bool any = exo_gguf_array_i64(g, key, i, &v) || exo_gguf_array_f64(g, key, i, &d);
        if (any && i >= count) abort();
    }
}

static void walk_metadata(const exo_gguf *g) {
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        exo_str s;
        uint32_t u;
        float f;
        bool b;
        if (exo_gguf_str(g, keys[i], &s)) touch(s.s, s.n);
        bool found = exo_gguf_u32(g, keys[i], &u) || exo_gguf_f32(g, keys[i], &f) ||
                     exo_gguf_bool(g, keys[i], &b);
        if (found && !exo_gguf_has(g, keys[i])) abort();
        walk_array(g, keys[i]);
    }
}

static void walk_tensors(const exo_gguf *g) {
    uint64_t sum = 0;
    for (size_t i = 0; i < exo_gguf_n_tensors(g); i++) {
        const exo_tensor *t = exo_gguf_tensor(g, i);
        char name[64];
        if (t->name.n >= sizeof name) abort();
        memcpy(name, t->name.s, t->name.n);
        name[t->name.n] = '\0';
        if (strlen(name) == t->name.n && exo_gguf_find(g, name) != t) abort();
        touch(t->data, (size_t)t->bytes);
        exo_gguf_drop_pages(g, t);
        sum += t->bytes;
    }
    if (sum != exo_gguf_bytes(g)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    exo_gguf *g;
    exo_error err = {0};
    if (exo_gguf_open_memory(bytes, n, &g, &err) != EXO_OK) {
        if (g != NULL || err.message[0] == '\0') abort();
        return 0;
    }
    walk_metadata(g);
    walk_tensors(g);
    exo_hparams hp;
    exo_model_tensors t;
    if (exo_hparams_read(g, (exo_str){"fuzz", 4}, &hp, &err) == EXO_OK &&
        exo_model_tensors_bind(g, &hp, &t, &err) == EXO_OK) {
        exo_model_tensors_finish(&t);
    }
    exo_gguf_close(g);
    return 0;
}
