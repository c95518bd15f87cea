/* synth_impl.h - what the parts of synth share: shapes, random weights, the vocabulary.
 *
 * Private to synth*.c and their tests.  Everything here is a pure function of its arguments, with
 * integer and IEEE operations only, so that a file is the same on every machine. */
#ifndef EXO_MODEL_SYNTH_IMPL_H
#define EXO_MODEL_SYNTH_IMPL_H

#include "model/gguf_writer.h"
#include "model/synth.h"

typedef struct {
    const char *name;
    const char *arch;                /* as in general.architecture */
    uint32_t n_layers, n_embd, n_ff; /* n_ff: of one expert where there are experts */
    uint32_t n_heads, n_kv_heads, head_dim;
    uint32_t n_vocab, ctx;
    float rope_base, norm_eps;
    float rope_factor;                  /* of Llama 3.1's frequency scaling; 0 = none */
    uint32_t n_experts, n_experts_used; /* 0 = dense */
    bool tied;
    const struct exo_synth_extra *extra; /* NULL for llama, qwen2, qwen3 and qwen3moe */
} exo_synth_shape;

/* What architectures have beyond those; synth_arch.c. */
typedef struct exo_synth_extra {
    unsigned with;      /* EXO_SYNTH_* */
    uint32_t v_dim;     /* 0 = head_dim */
    uint32_t rope_dims; /* 0 = head_dim */
    uint32_t window;
    float attn_scale, embedding_scale, residual_scale, logit_scale;
    float attn_softcap, logit_softcap;
    const char *rope_scaling; /* NULL = none */
    float yarn_log_multiplier;
    uint32_t n_ff_dense; /* of dense layers beside experts; 0 = n_ff */
    uint32_t n_ff_shared, n_dense_layers, n_groups, n_groups_used, gating;
    float expert_scale;
    uint32_t kv_rank, q_rank;
    uint32_t pooling;
} exo_synth_extra;

enum {
    EXO_SYNTH_QKV_BIAS = 1u << 0,
    EXO_SYNTH_BIASES = 1u << 1, /* every bias that the architecture may have */
    EXO_SYNTH_FUSED_QKV = 1u << 2,
    EXO_SYNTH_FUSED_UP = 1u << 3,
    EXO_SYNTH_LATENT_ABSORBED = 1u << 4,
    EXO_SYNTH_SHARED_GATE = 1u << 5,
    EXO_SYNTH_NORMALIZE = 1u << 6, /* says so in the metadata */
    EXO_SYNTH_LONG_FACTORS = 1u << 7,
    EXO_SYNTH_CHOICE_BIAS = 1u << 8,
    EXO_SYNTH_TOKEN_TYPES = 1u << 9,
    EXO_SYNTH_NORM_BIASES = 1u << 10,
    EXO_SYNTH_HEAD_BIAS = 1u << 11,
    EXO_SYNTH_SECTIONS = 1u << 12, /* rope.dimension_sections: half of a head in three parts */
    EXO_SYNTH_STEP = 1u << 13,     /* interleave_moe_layer_step 1 */
};

/* Where synth_arch.c puts tensors: synth.c, which knows types and randomness. */
typedef struct {
    void *ud;
    void (*vector)(void *ud, const char *name, const uint64_t dims[2], float mean, float std);
    /* factor: on the usual deviation; plain: f32 whatever the type asked for */
    void (*matrix)(void *ud, const char *name, const uint64_t dims[3], float factor, bool plain);
} exo_synth_sink;
void exo_synth_extra_tensors(const exo_synth_shape *s, uint32_t n_layers, const exo_synth_sink *to);
void exo_synth_extra_metadata(const exo_synth_shape *s, exo_gguf_writer *w);

const exo_synth_shape *exo_synth_find_shape(const char *name); /* NULL when unknown */
/* synth_small.c: one of every architecture, for tests. */
extern const exo_synth_shape exo_synth_small[];
extern const size_t exo_synth_n_small;

/* synth_set.c: changes the two; x is s->extra's copy, or zeros where the shape has none. */
exo_status exo_synth_set(exo_synth_shape *s, exo_synth_extra *x, const char *const *settings,
                         size_t n, exo_error *err);

/* The layout of `type` for one tensor: key names it, so that no two tensors are alike. */
typedef struct {
    exo_dtype type; /* one that exo_synth_fills() */
    uint64_t key;
    float mean; /* F32 only; others have mean 0 */
    float std;
} exo_synth_weights;

/* Writes blocks [first, first + n) of a tensor; any cut into calls gives the same bytes. */
void exo_synth_fill(const exo_synth_weights *w, uint64_t first, size_t n, uint8_t *out);

bool exo_synth_fills(exo_dtype type);

/* Adds tokenizer and chat template: 256 bytes, merges of common English, fillers up to n_vocab,
 * four control tokens at the end.  n_vocab >= EXO_SYNTH_MIN_VOCAB. */
#define EXO_SYNTH_MIN_VOCAB 512
void exo_synth_add_vocab(exo_gguf_writer *w, uint32_t n_vocab, bool qwen);

#endif
