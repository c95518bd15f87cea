/* model.h - one opened model: file, hyperparameters, tokenizer, chat template.
 *
 * Shared and read-only: any number of shards and sessions may use it at the same time.
 * Hyperparameters are read and checked against the tensors once, here; code above never looks
 * at metadata keys.
 * Thread: ANY; reference-counted. */
#ifndef EXO_MODEL_MODEL_H
#define EXO_MODEL_MODEL_H

#include "compute/op_kinds.h"
#include "model/gguf.h"

#define EXO_MAX_LAYERS   512
#define EXO_MAX_HEAD_DIM 576 /* deepseek2: a latent of 512 and 64 rotated dimensions */
#define EXO_MAX_EXPERTS  1024

/* Rotary positions of some of the layers. */
typedef struct {
    uint32_t dims;                         /* rotated dimensions of a head; 0 = none */
    float scale;                           /* factor on cos and sin */
    double inv_freq[EXO_MAX_HEAD_DIM / 2]; /* (dims / 2), scaling applied */
} exo_rope;

typedef enum { EXO_QK_NORM_NONE, EXO_QK_NORM_HEAD, EXO_QK_NORM_ROW } exo_qk_norm;
typedef enum { EXO_POOL_NONE, EXO_POOL_MEAN, EXO_POOL_CLS, EXO_POOL_LAST } exo_pooling;

/* A feed-forward layer of which each row takes n_used of n matrices. */
typedef struct {
    uint32_t n, n_used;         /* 0 = the model has none */
    uint32_t n_ff, n_ff_shared; /* of one expert, of the shared one (0 = none) */
    uint32_t n_dense_layers;    /* layers before this one are dense */
    uint32_t n_groups, n_groups_used;
    exo_gating gating;
    bool normalize; /* weights of the chosen sum to 1 */
    float scale;    /* on the weights; 0 = 1 */
} exo_experts;

/* Keys and values kept as one latent vector (deepseek2); all 0 without.  `absorbed`: attention
 * works on the latent itself, with one kv head of latent + rope dimensions. */
typedef struct {
    uint32_t kv_rank, q_rank;    /* q_rank 0 = queries are made in one product */
    uint32_t nope_dim, rope_dim; /* of a query head: without and with rotation */
    uint32_t v_dim;              /* of an output head */
    bool absorbed;
} exo_latent;

typedef struct exo_arch_spec exo_arch_spec;

typedef struct {
    const exo_arch_spec *arch; /* model/arch.h */
    char name[64];             /* general.name, or the file's stem */
    uint32_t n_layers;
    uint32_t n_unused_layers; /* behind those in the file */
    uint32_t n_embd;          /* width of the residual stream */
    uint32_t n_ff;
    uint32_t n_heads, n_kv_heads, head_dim, v_dim; /* as attention and the page pool see them */
    uint32_t n_vocab;
    uint32_t ctx_train; /* positions the model was trained for */
    float norm_eps;
    exo_qk_norm qk_norm;
    exo_epilogue activation; /* of the feed-forward layer */
    bool bidirectional;      /* an encoder: rows see all of their sequence */
    exo_pooling pooling;     /* how rows become one embedding */

    bool rope_neox;              /* pairs (i, i + dims/2); false: (2i, 2i+1) */
    exo_rope rope, rope_sliding; /* of layers that see all, and of those with a window */
    exo_rope rope_long;          /* for contexts above long_ctx; dims 0 = the same */
    uint32_t long_ctx;

    uint32_t window;              /* positions that sliding layers see; 0 = none slides */
    bool sliding[EXO_MAX_LAYERS]; /* (n_layers) */
    bool unrotated[EXO_MAX_LAYERS];

    float embedding_scale, residual_scale, logit_scale; /* 0 = 1 */
    float attn_scale;                                   /* on q k */
    float attn_softcap, logit_softcap;                  /* 0 = none */
    exo_experts experts;
    exo_latent latent;
    bool tied_head; /* no output.weight: the embedding serves */
    bool qkv_bias;
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

/* The tensors of one layer; found by architecture, all checked.  NULL where a layer has none.
 * Some are views: rows of a tensor of the file. */
typedef struct {
    const exo_tensor *attn_norm, *attn_norm_bias; /* (n_embd): before attention */
    const exo_tensor *q, *k, *v, *o;              /* (n_heads*head_dim, n_embd), ... */
    const exo_tensor *q_bias, *k_bias, *v_bias, *o_bias;
    const exo_tensor *q_norm, *k_norm;                      /* (head_dim), or a whole row */
    const exo_tensor *sinks;                                /* (n_heads) */
    const exo_tensor *attn_post_norm, *attn_post_norm_bias; /* on what attention adds */
    const exo_tensor *attn_out_norm, *attn_out_norm_bias;   /* on the residual after attention */
    const exo_tensor *ffn_norm, *ffn_norm_bias;             /* before the feed-forward layer */
    const exo_tensor *gate, *up, *down;                     /* (n_ff, n_embd) x2, (n_embd, n_ff) */
    const exo_tensor *gate_bias, *up_bias, *down_bias;
    const exo_tensor *ffn_post_norm, *ffn_post_norm_bias;   /* on what it adds */
    const exo_tensor *layer_out_norm, *layer_out_norm_bias; /* on the residual after it */
    const exo_tensor *router, *router_bias, *choice_bias;   /* (n_experts, n_embd), (n_experts) */
    const exo_tensor *gate_exps, *up_exps, *down_exps;      /* (n_experts, n_ff, n_embd), ... */
    const exo_tensor *gate_exps_bias, *up_exps_bias, *down_exps_bias;
    const exo_tensor *gate_shared, *up_shared, *down_shared;
    const exo_tensor *shared_gate;          /* (1, n_embd): weighs the shared one */
    const exo_tensor *q_a, *q_a_norm, *q_b; /* latent attention: exo_latent */
    const exo_tensor *kv_a, *k_rope, *kv_a_norm, *kv_b, *k_b, *v_b;
} exo_layer_tensors;
exo_status exo_model_layer(const exo_model *m, uint32_t il, exo_layer_tensors *out, exo_error *err);

/* The tensors around the layers. */
typedef struct {
    const exo_tensor *embedding;                    /* (n_vocab, n_embd) */
    const exo_tensor *positions;                    /* (ctx_train, n_embd) or NULL */
    const exo_tensor *token_type;                   /* (n_embd): kind 0, added to all, or NULL */
    const exo_tensor *embd_norm, *embd_norm_bias;   /* (n_embd) or NULL */
    const exo_tensor *final_norm, *final_norm_bias; /* (n_embd); NULL in encoders */
    const exo_tensor *head, *head_bias;             /* the embedding when tied; NULL in encoders */
} exo_outer_tensors;
const exo_outer_tensors *exo_model_outer(const exo_model *m);
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
/* The same for names from a command line: a folder of safetensors in the working directory comes
 * before an id. */
exo_status exo_models_resolve_given(const char *name, const char *data_dir, char *out, size_t cap,
                                    exo_error *err);
/* Calls fn for each model found; ids are unique, the first directory wins. */
typedef void (*exo_models_fn)(void *ud, const char *id, const char *path);
void exo_models_each(const char *data_dir, exo_models_fn fn, void *ud);

/* The embedded demo model's bytes; *n is 0 in a build without it. */
const void *exo_builtin_tiny(size_t *n);

#endif
