/* model.c - an opened model: file, hyperparameters, tensors, tokenizer, template as one object.
 *
 * Owns all of them and the reference count.  What metadata mean is hparams.c's, which tensors
 * there must be is model_tensors.c's; neither devices nor requests are known here. */
#include "model/model.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "model/hparams.h"
#include "model/paths.h"
#include "model/template.h"
#include "model/tokenizer.h"

#include <stdatomic.h>
#include <string.h>

/* exo_layer_tensors is pointers to tensors and nothing else. */
enum { N_LAYER_TENSORS = sizeof(exo_layer_tensors) / sizeof(const exo_tensor *) };

struct exo_model {
    atomic_uint refs;
    char *id;
    exo_gguf *file;
    exo_hparams hp;
    exo_model_tensors tensors;
    exo_tokenizer *tokenizer;
    exo_template *chat; /* NULL: none, or template_error says why */
    exo_error template_error;
};

/* ---- opening ---- */

static exo_status open_file(const char *path, exo_gguf **out, exo_error *err) {
    if (strcmp(path, "tiny") != 0) return exo_gguf_open(path, out, err);
    size_t n;
    const void *bytes = exo_builtin_tiny(&n);
    *out = NULL;
    if (n == 0) return exo_error_set(err, EXO_ENOTFOUND, "this build has no built-in model 'tiny'");
    return exo_gguf_open_memory(bytes, n, out, err);
}

/* One part under a foreign name is a valid file, but not a model. */
static exo_status refuse_lone_part(const char *path, const exo_gguf *g, exo_error *err) {
    exo_split_name split;
    uint32_t no, count;
    if (!exo_gguf_u32(g, "split.count", &count) || count <= 1) return EXO_OK;
    if (exo_path_split(path, &split) && split.count == count) return EXO_OK;
    (void)exo_gguf_u32(g, "split.no", &no);
    return exo_error_set(err, EXO_EINVAL,
                         "one part of %u of a split model: its name must end in -%05u-of-%05u.gguf",
                         count, no % 100000 + 1, count % 100000);
}

/* A template that does not compile costs chat, not the model: raw prompts still work. */
static exo_status compile_template(exo_model *m, exo_error *err) {
    static const char key[] = "tokenizer.chat_template";
    exo_str source;
    if (!exo_gguf_has(m->file, key)) return EXO_OK;
    exo_status st = exo_gguf_str(m->file, key, &source)
                        ? exo_template_compile(source.s, source.n, &m->chat, &m->template_error)
                        : exo_error_set(&m->template_error, EXO_EFORMAT,
                                        "metadata key %s is not a string", key);
    if (st == EXO_ENOMEM) return exo_error_set(err, st, "%s", m->template_error.message);
    if (st != EXO_OK) exo_warn("%s: no chat: %s", m->id, m->template_error.message);
    return EXO_OK;
}

static exo_status open_model(exo_model *m, const char *path, exo_error *err) {
    size_t n;
    const char *id = exo_path_id(path, &n);
    m->id = exo_strndup(id, n);
    if (m->id == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for a model");
    exo_status st = open_file(path, &m->file, err);
    if (st != EXO_OK) return st; /* names the file already */
    st = refuse_lone_part(path, m->file, err);
    if (st == EXO_OK) st = exo_hparams_read(m->file, (exo_str){id, n}, &m->hp, err);
    if (st == EXO_OK && exo_gguf_rotates_halves(m->file)) m->hp.rope_neox = true;
    if (st == EXO_OK) st = exo_model_tensors_bind(m->file, &m->hp, &m->tensors, err);
    if (st == EXO_OK) st = exo_tokenizer_create(m->file, &m->tokenizer, err);
    if (st == EXO_OK) st = compile_template(m, err);
    if (st == EXO_OK) st = exo_gguf_check_whole(m->file, err);
    if (st != EXO_OK) exo_error_wrap(err, st, "%s", exo_path_tail(path));
    return st;
}

exo_status exo_model_open(const char *path, exo_model **out, exo_error *err) {
    *out = NULL;
    exo_model *m = exo_calloc(1, sizeof *m);
    if (m == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for a model");
    atomic_init(&m->refs, 1);
    exo_status st = open_model(m, path, err);
    if (st != EXO_OK) {
        exo_model_unref(m);
        return st;
    }
    *out = m;
    return EXO_OK;
}

exo_model *exo_model_ref(exo_model *m) {
    atomic_fetch_add(&m->refs, 1);
    return m;
}

void exo_model_unref(exo_model *m) {
    if (m == NULL || atomic_fetch_sub(&m->refs, 1) != 1) return;
    exo_template_destroy(m->chat);
    exo_tokenizer_destroy(m->tokenizer);
    exo_model_tensors_finish(&m->tensors);
    exo_gguf_close(m->file);
    exo_free(m->id);
    exo_free(m);
}

/* ---- parts ---- */

const exo_hparams *exo_model_hparams(const exo_model *m) { return &m->hp; }
const exo_gguf *exo_model_file(const exo_model *m) { return m->file; }
const exo_tokenizer *exo_model_tokenizer(const exo_model *m) { return m->tokenizer; }
const exo_template *exo_model_template(const exo_model *m) { return m->chat; }
const exo_error *exo_model_template_error(const exo_model *m) {
    return m->template_error.status != EXO_OK ? &m->template_error : NULL;
}
const char *exo_model_id(const exo_model *m) { return m->id; }
const exo_outer_tensors *exo_model_outer(const exo_model *m) { return &m->tensors.outer; }
const exo_tensor *exo_model_embedding(const exo_model *m) { return m->tensors.outer.embedding; }
const exo_tensor *exo_model_head(const exo_model *m) { return m->tensors.outer.head; }
const exo_tensor *exo_model_final_norm(const exo_model *m) { return m->tensors.outer.final_norm; }

exo_status exo_model_layer(const exo_model *m, uint32_t il, exo_layer_tensors *out,
                           exo_error *err) {
    *out = (exo_layer_tensors){0};
    if (il >= m->hp.n_layers) {
        return exo_error_set(err, EXO_EINVAL, "layer %u of a model with %u layers", il,
                             m->hp.n_layers);
    }
    *out = m->tensors.layers[il];
    return EXO_OK;
}

uint64_t exo_model_range_bytes(const exo_model *m, uint32_t a, uint32_t b, bool embedding,
                               bool head) {
    uint64_t bytes = 0;
    for (uint32_t il = a; il < b && il < m->hp.n_layers; il++) {
        const exo_tensor *all[N_LAYER_TENSORS];
        memcpy(all, &m->tensors.layers[il], sizeof all);
        for (int i = 0; i < N_LAYER_TENSORS; i++) bytes += all[i] != NULL ? all[i]->bytes : 0;
    }
    const exo_outer_tensors *t = &m->tensors.outer;
    const exo_tensor *first[] = {t->embedding, t->positions, t->token_type, t->embd_norm,
                                 t->embd_norm_bias};
    const exo_tensor *last[] = {t->final_norm, t->final_norm_bias, t->head_bias};
    for (size_t i = 0; embedding && i < sizeof first / sizeof *first; i++) {
        bytes += first[i] != NULL ? first[i]->bytes : 0;
    }
    for (size_t i = 0; head && i < sizeof last / sizeof *last; i++) {
        bytes += last[i] != NULL ? last[i]->bytes : 0;
    }
    if (head && t->head != NULL && !(embedding && m->hp.tied_head)) bytes += t->head->bytes;
    return bytes;
}
