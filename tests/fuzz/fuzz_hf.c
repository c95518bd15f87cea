/* fuzz_hf.c - any JSON as config.json, as tokenizer.json and as the tensors beside them.
 *
 * Input: {"config": {...}, "tokenizer": {...}, "tokenizer_config": {...}, "rows": n,
 * "tensors": {name: [dtype, [shape]]}}.  What is taken must make a well-formed GGUF head; a
 * tokenizer may be made of it or refused; of tensors that are taken every row can be read. */
#include "base/mem.h"
#include "fuzz/target.h"
#include "model/hf_impl.h"
#include "model/tensor_rows.h"
#include "model/tokenizer.h"

#include <stdlib.h>
#include <string.h>

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

/* ---- tensors ---- */

#define MAX_BYTES 65536

/* False: more than there are bytes for. */
static bool describe(const char *name, const json_t *entry, uint8_t *data, exo_safetensor *out) {
    const char *dtype = json_string_value(json_array_get(entry, 0));
    const json_t *shape = json_array_get(entry, 1);
    if (dtype == NULL || json_array_size(shape) > EXO_SAFETENSORS_MAX_DIMS) return false;
    uint32_t bytes = strcmp(dtype, "U8") == 0 ? 1 : strcmp(dtype, "F32") == 0 ? 4 : 2;
    *out = (exo_safetensor){.name = name,
                            .dtype = dtype,
                            .elem_bits = 8 * bytes,
                            .n_dims = (uint32_t)json_array_size(shape),
                            .data = data,
                            .bytes = bytes};
    for (uint32_t i = 0; i < out->n_dims; i++) {
        json_int_t d = json_integer_value(json_array_get(shape, i));
        if (d < 0 || d > MAX_BYTES) return false;
        out->shape[i] = (uint64_t)d;
        out->bytes *= (uint64_t)d;
        if (out->bytes > MAX_BYTES) return false;
    }
    return true;
}

static void read_rows(const exo_tensor *t) {
    uint64_t n = t->n_dims == 1 ? 1 : t->dims[1] * t->dims[2];
    uint8_t *out = exo_malloc((size_t)t->bytes + 1);
    if (out != NULL && t->dims[0] % exo_dtype_get(t->type)->block_elems == 0) {
        exo_tensor_copy_rows(t, 0, n, out);
    }
    exo_free(out);
}

static void use_tensors(const json_t *config, const exo_hf_arch *arch, json_t *all) {
    exo_hf_tensors s = {.config = config, .arch = arch, .memory = {.limit_bytes = 1u << 26}};
    exo_error err = {0};
    const char *name;
    json_t *entry;
    exo_status st = EXO_OK;
    uint8_t *data[64] = {0};
    size_t n = 0;
    s.tied = exo_hf_is_tied(config);
    json_object_foreach(all, name, entry) {
        exo_safetensor t;
        if (st != EXO_OK || n == 64) break;
        if (!describe(name, entry, NULL, &t)) continue;
        data[n] = exo_calloc((size_t)t.bytes + 1, 1); /* a byte too far is seen */
        t.data = data[n++];
        st = exo_hf_tensors_add(&s, &t, &err);
    }
    if (st == EXO_OK) st = exo_hf_tensors_end(&s, &err);
    for (size_t i = 0; st == EXO_OK && i < s.n_tensors; i++) read_rows(&s.tensors[i]);
    if (st != EXO_OK && err.message[0] == '\0') abort();
    exo_free(s.tensors);
    exo_arena_finish(&s.memory);
    for (size_t i = 0; i < n; i++) exo_free(data[i]);
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
        use_tensors(text, arch, json_object_get(all, "tensors"));
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
