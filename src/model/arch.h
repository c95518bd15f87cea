/* arch.h - what distinguishes one architecture from the others, as data.
 *
 * An architecture is one entry of a table (arch.c): traits that the generic reader of metadata
 * (hparams.c), the binder of tensors (model_tensors.c) and the forward pass (engine/graph.c) look
 * at.  What no trait says is a function of the entry, called when the generic part is read.
 * Thread: ANY; the table is constant. */
#ifndef EXO_MODEL_ARCH_H
#define EXO_MODEL_ARCH_H

#include "model/hparams.h"

/* The file and its architecture's name, for keys like "llama.block_count". */
typedef struct {
    const exo_gguf *g;
    const char *arch;
} exo_arch_source;

/* Metadata that change the computation; an architecture that does not know one refuses it. */
enum {
    EXO_KEY_EXPERTS = 1u << 0,
    EXO_KEY_ATTN_SCALE = 1u << 1,
    EXO_KEY_EMBEDDING_SCALE = 1u << 2,
    EXO_KEY_RESIDUAL_SCALE = 1u << 3,
    EXO_KEY_LOGIT_SCALE = 1u << 4,
    EXO_KEY_ATTN_SOFTCAP = 1u << 5,
    EXO_KEY_LOGIT_SOFTCAP = 1u << 6,
    EXO_KEY_WINDOW = 1u << 7,
    EXO_KEY_NEXTN = 1u << 8, /* last layers that predict further tokens: not used */
};

/* Which norms a layer has, and under which names. */
enum {
    EXO_NORMS_PRE = 1u << 0,         /* attn_norm and ffn_norm before their parts */
    EXO_NORMS_POST = 1u << 1,        /* post_attention_norm, post_ffw_norm on what they add */
    EXO_NORMS_OUT = 1u << 2,         /* attn_output_norm, layer_output_norm on the residual */
    EXO_NORMS_FFN_RENAMED = 1u << 3, /* ffn_norm is called post_attention_norm */
    EXO_NORMS_PARALLEL = 1u << 4,    /* attention and feed-forward both read attn_norm */
};

typedef enum { EXO_ROPE_PAIRS, EXO_ROPE_NEOX, EXO_ROPE_NONE } exo_rope_kind;

struct exo_arch_spec { /* by size: tables of it have no holes */
    const char *name;
    exo_status (*read)(const exo_arch_source *s, exo_hparams *hp, exo_error *err);
    exo_rope_kind rope;
    exo_norm_kind norm; /* of every norm but those of q and k */
    unsigned norms;     /* EXO_NORMS_*; 0 = PRE */
    exo_qk_norm qk_norm;
    exo_epilogue activation;   /* 0 = SILU_MUL */
    unsigned keys;             /* EXO_KEY_* that may be set */
    exo_gating gating;         /* where metadata do not say */
    uint32_t window;           /* where metadata do not say */
    uint32_t slide_period;     /* of these layers the last sees all, the others slide */
    uint32_t unrotated_period; /* of these layers the last is not rotated */
    bool qkv_bias;             /* must be there */
    bool qk_norm_optional;     /* the file decides */
    bool full_unrotated;       /* where some layers slide, the others are not rotated */
    bool rope_factors;         /* a rope_freqs tensor divides the frequencies */
    bool sinks;
    bool encoder;             /* rows in, rows out: no head, both sides attended */
    bool positions;           /* position_embd */
    bool latent;              /* exo_latent */
    bool experts_normalize;   /* where metadata do not say */
    bool logit_scale_divides; /* logits / scale */
};

/* NULL when unknown. */
const exo_arch_spec *exo_arch_find(exo_str name);
/* What exo lacks for a known architecture that is not in the table; NULL for unknown ones. */
const char *exo_arch_missing(exo_str name);
/* The i-th of the table; NULL behind the last. */
const exo_arch_spec *exo_arch_at(size_t i);

/* ---- single keys, for hparams.c and the table's functions ---- */

#define EXO_KEY_BYTES 96
const char *exo_arch_key(const exo_arch_source *s, const char *suffix, char out[EXO_KEY_BYTES]);
/* A number from 1 to max that must be there. */
exo_status exo_arch_need_u32(const exo_arch_source *s, const char *suffix, uint32_t max,
                             uint32_t *out, exo_error *err);
/* These keep *out when the key is absent: a number from 1 to max; one above 0; a flag. */
exo_status exo_arch_u32(const exo_arch_source *s, const char *suffix, uint32_t max, uint32_t *out,
                        exo_error *err);
exo_status exo_arch_f32(const exo_arch_source *s, const char *suffix, float *out, exo_error *err);
/* Keeps *out when the key is absent; 0 is a number, too. */
exo_status exo_arch_any_u32(const exo_arch_source *s, const char *suffix, uint32_t *out,
                            exo_error *err);
exo_status exo_arch_bool(const exo_arch_source *s, const char *suffix, bool *out, exo_error *err);

/* hparams_rope.c: frequencies of all layers; needs the sizes. */
exo_status exo_hparams_read_rope(const exo_arch_source *s, exo_hparams *hp, exo_error *err);
/* hparams_experts.c: needs the sizes. */
exo_status exo_hparams_read_experts(const exo_arch_source *s, exo_hparams *hp, exo_error *err);

#endif
