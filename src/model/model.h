/* model.h - one opened model: file, hyperparameters, tokenizer, chat template.
 *
 * Shared and read-only: any number of shards and sessions may use it at the same time.
 * Hyperparameters are read and checked against the tensors once, here; code above never looks
 * at metadata keys.
 * Thread: ANY; reference-counted. */
#ifndef EXO_MODEL_MODEL_H
#define EXO_MODEL_MODEL_H

#include "model/gguf.h"

#define EXO_MAX_LAYERS   512
#define EXO_MAX_HEAD_DIM 512

typedef enum { EXO_ARCH_LLAMA, EXO_ARCH_QWEN2, EXO_ARCH_QWEN3 } exo_arch;

typedef struct {
    exo_arch arch;
    char name[64]; /* general.name, or the file's stem */
    uint32_t n_layers;
    uint32_t n_embd; /* width of the residual stream */
    uint32_t n_ff;
    uint32_t n_heads, n_kv_heads, head_dim;
    uint32_t n_vocab;
    uint32_t ctx_train; /* positions the model was trained for */
    float norm_eps;
    uint32_t rope_dims;
    bool rope_neox; /* pairs (i, i + rope_dims/2); false: (2i, 2i+1) */
    double rope_base;
    double rope_inv_freq[EXO_MAX_HEAD_DIM / 2]; /* (rope_dims / 2), scaling applied */
    float rope_scale;                           /* factor on cos and sin */
    bool tied_head;                             /* no output.weight: the embedding serves */
    bool qkv_bias;                              /* qwen2 */
    bool qk_norm;                               /* qwen3 */
} exo_hparams;

typedef struct exo_tokenizer exo_tokenizer;
typedef struct exo_template exo_template;
typedef struct exo_model exo_model;

/* path: a GGUF file, a folder of safetensors (model/hf.h), or "tiny" (built in).  Checks everything
 * a shard needs: shapes, types known to exo_dtype, the architecture, the tokenizer.  Errors name
 * file, tensor or key.  A chat template that does not compile leaves the model usable for raw
 * prompts (exo_model_template_error). */
exo_status exo_model_open(const char *path, exo_model **out, exo_error *err);
exo_model *exo_model_ref(exo_model *m);
void exo_model_unref(exo_model *m); /* NULL is allowed */

const exo_hparams *exo_model_hparams(const exo_model *m);
const exo_gguf *exo_model_file(const exo_model *m);
const exo_tokenizer *exo_model_tokenizer(const exo_model *m);
const exo_template *exo_model_template(const exo_model *m); /* NULL: none, or it is unusable */
/* Why the file's chat template cannot be used; NULL when it can or the file has none. */
const exo_error *exo_model_template_error(const exo_model *m);
const char *
exo_model_id(const exo_model *m); /* file name without .gguf and shard suffix, or folder name */

/* The tensors of one layer, or the ones around the layers; found by architecture, all checked. */
typedef struct {
    const exo_tensor *attn_norm, *q, *k, *v, *o;   /* (n_embd), (n_heads*head_dim, n_embd), ... */
    const exo_tensor *q_bias, *k_bias, *v_bias;    /* NULL unless qkv_bias */
    const exo_tensor *q_norm, *k_norm;             /* (head_dim), NULL unless qk_norm */
    const exo_tensor *ffn_norm, *gate, *up, *down; /* (n_embd), (n_ff, n_embd) x2, (n_embd, n_ff) */
} exo_layer_tensors;
exo_status exo_model_layer(const exo_model *m, uint32_t il, exo_layer_tensors *out, exo_error *err);
const exo_tensor *exo_model_embedding(const exo_model *m);  /* (n_vocab, n_embd) */
const exo_tensor *exo_model_head(const exo_model *m);       /* the embedding when tied */
const exo_tensor *exo_model_final_norm(const exo_model *m); /* (n_embd) */
/* Bytes of the tensors that layers [a,b), embedding and head need. */
uint64_t exo_model_range_bytes(const exo_model *m, uint32_t a, uint32_t b, bool embedding,
                               bool head);

/* ---- finding models ---- */

/* Resolves what -m takes: a path, "tiny", or an id looked up in EXO_MODELS_DIRS and
 * <data_dir>/models.  Writes the path (or "tiny") to out. */
exo_status exo_models_resolve(const char *name, const char *data_dir, char *out, size_t cap,
                              exo_error *err);
/* Calls fn for each model found; ids are unique, the first directory wins. */
typedef void (*exo_models_fn)(void *ud, const char *id, const char *path);
void exo_models_each(const char *data_dir, exo_models_fn fn, void *ud);

/* The embedded demo model's bytes; *n is 0 in a build without it. */
const void *exo_builtin_tiny(size_t *n);

#endif
