/* fuzz_hf.c - any JSON as config.json and as tokenizer.json.
 *
 * Input: {"config": {...}, "tokenizer": {...}, "tokenizer_config": {...}, "rows": n}.  What is
 * taken must make a well-formed GGUF head; a tokenizer may be made of it or refused. */
#include "model/hf_impl.h"
#include "model/tokenizer.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void use(const exo_gguf_writer *w) {
    exo_buf head = {0};
    exo_gguf *g = NULL;
    exo_tokenizer *t = NULL;
    exo_error err = {0};
    exo_ids ids = {0};
    exo_gguf_writer_head(w, &head);
    if (exo_gguf_open_memory(head.data, head.n, &g, &err) != EXO_OK) abort();
    if (exo_tokenizer_create(g, &t, &err) == EXO_OK) {
        (void)exo_tokenize(t, "Hi, 12 \xC3\xA9!", 11, EXO_TOKENIZE_SPECIAL, &ids, &err);
    } else if (err.message[0] == '\0') {
        abort();
    }
    exo_ids_finish(&ids);
    exo_tokenizer_destroy(t);
    exo_gguf_close(g);
    exo_buf_finish(&head);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    exo_gguf_writer w = {0};
    exo_error err = {0};
    const exo_hf_arch *arch;
    exo_hf_factors factors;
    json_t *all = json_loadb((const char *)bytes, n, JSON_ALLOW_NUL, NULL);
    json_t *config = json_object_get(all, "config"), *text = NULL;
    exo_hf_texts texts = {.tokenizer = json_object_get(all, "tokenizer"),
                          .tokenizer_config = json_object_get(all, "tokenizer_config"),
                          .config = config,
                          .generation = config};
    json_int_t rows = json_integer_value(json_object_get(all, "rows"));
    if (exo_hf_find_family(config, &arch, &text, &err) == EXO_OK) {
        for (int i = 0; exo_hf_rope_factors(text, arch, i, &factors);) i++;
        if (exo_hf_add_config(text, arch, &w, &err) != EXO_OK && err.message[0] == '\0') abort();
    }
    uint32_t n_rows = rows > 0 && rows < 100000 ? (uint32_t)rows : 512;
    err.message[0] = '\0';
    if (exo_hf_add_tokenizer(&texts, n_rows, &w, &err) == EXO_OK) {
        use(&w);
    } else if (err.message[0] == '\0') {
        abort();
    }
    exo_gguf_writer_finish(&w);
    json_decref(text);
    json_decref(all);
    return 0;
}
