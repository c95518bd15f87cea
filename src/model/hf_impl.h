/* hf_impl.h - what the files of hf.h share; private to hf_*.c, their tests and fuzz targets. */
#ifndef EXO_MODEL_HF_IMPL_H
#define EXO_MODEL_HF_IMPL_H

#include "model/gguf_writer.h"
#include "model/hf.h"

#include <jansson.h>

#define EXO_HF_MAX_CONFIG    (8u << 20)
#define EXO_HF_MAX_TOKENIZER (128u << 20)

/* ---- architectures ---- */

/* What becomes of a tensor.  Vectors are widened to f32 in any case. */
typedef enum {
    EXO_HF_AS_IS,
    EXO_HF_WIDE,    /* f32, as routers and tables of positions are in GGUF files */
    EXO_HF_FLAT,    /* one row: a vector */
    EXO_HF_EXPERT,  /* one expert's matrix of a stacked tensor */
    EXO_HF_STACK,   /* all experts' matrices */
    EXO_HF_GATE_UP, /* the same, gate above up in each: becomes two tensors */
    EXO_HF_NOT_NEEDED,
} exo_hf_how;

/* One tensor name: the first "%u" stands for the layer, the second for the expert. */
typedef struct {
    const char *theirs; /* NULL ends a table */
    const char *ours;   /* NULL: not needed */
    exo_hf_how how;
} exo_hf_name;

typedef struct {
    const char *model_type;   /* as in config.json */
    const char *arch;         /* as in general.architecture */
    const char *prefix;       /* what some files put before every name; NULL: nothing */
    const exo_hf_name *names; /* looked into before the common ones; NULL: none of its own */
    bool interleaved;  /* GGUF files of this architecture pair (2i, 2i+1): rows are permuted */
    bool tied;         /* what a silent tie_word_embeddings means */
    bool norms_less_1; /* weights of norms lack 1, which GGUF files have added */
    bool window;       /* sliding_window counts even where use_sliding_window is silent */
    bool sigmoid;      /* what a silent scoring_func means; else softmax */
    bool extra_layers; /* layers behind the last are for training: left out */
    uint32_t head_dim; /* what a silent head_dim means; 0: hidden_size / heads */
    uint32_t n_experts, n_experts_used; /* what silence about them means */
    double rotated;                     /* what a silent partial_rotary_factor means; 0: all */
} exo_hf_arch;

/* By model_type; EXO_EUNSUPPORTED names it. */
exo_status exo_hf_find_arch(const json_t *config, const exo_hf_arch **out, exo_error *err);

/* What one of their tensors is to us. */
typedef struct {
    char name[64];
    uint32_t layer, expert;
    exo_hf_how how;
} exo_hf_place;

/* False: there is no such tensor in the architecture. */
bool exo_hf_find_name(const exo_hf_arch *a, const char *theirs, exo_hf_place *out);
/* The pattern with the layer in it. */
void exo_hf_fill_layer(const char *pattern, uint32_t layer, char out[64]);

/* ---- keys ---- */

/* A file as JSON; EXO_ENOTFOUND when it is not there. */
exo_status exo_hf_load_json(const char *dir, const char *name, size_t limit, json_t **out,
                            exo_error *err);

/* config.json, and where what it says is written to. */
typedef struct {
    const json_t *config;
    const exo_hf_arch *arch;
    exo_gguf_writer *w;
    exo_error *err;
} exo_hf_source;

#define EXO_HF_KEY_BYTES 96
const char *exo_hf_key(const exo_hf_source *s, const char *suffix, char out[EXO_HF_KEY_BYTES]);
/* Keeps *out when the member is absent or null. */
exo_status exo_hf_number(const exo_hf_source *s, const json_t *from, const char *name, double *out);
/* The same without complaint. */
double exo_hf_number_or(const json_t *from, const char *name, double fallback);
uint32_t exo_hf_head_dim(const json_t *config, const exo_hf_arch *a);

#define EXO_HF_MAX_ROPE_FACTORS 1024
typedef struct {
    const char *name;
    uint32_t n;
    float v[EXO_HF_MAX_ROPE_FACTORS];
} exo_hf_factors;

/* Checks config.json and writes the architecture's keys. */
exo_status exo_hf_add_config(const json_t *config, const exo_hf_arch *a, exo_gguf_writer *w,
                             exo_error *err);
/* How the rows of a text become one, by 1_Pooling/config.json; NULL where there is none. */
exo_status exo_hf_add_pooling(const json_t *pooling, const exo_hf_arch *a, exo_gguf_writer *w,
                              exo_error *err);
/* Whether the embedding serves as head. */
bool exo_hf_is_tied(const json_t *config, const exo_hf_arch *a);
/* 0 where there are none. */
uint32_t exo_hf_n_experts(const json_t *config, const exo_hf_arch *a);
uint32_t exo_hf_n_layers(const json_t *config);

/* hf_rope.c: the keys of rotary positions; head_dim: of what is rotated in part. */
exo_status exo_hf_add_rope(const exo_hf_source *s, uint32_t head_dim, uint32_t context);
/* Factors on rotary frequencies, (n) f32: which-th tensor of them, with its name; false when there
 * is none.  Llama 3's are one tensor, longrope's are two. */
bool exo_hf_rope_factors(const json_t *config, const exo_hf_arch *a, int which,
                         exo_hf_factors *out);

/* What describes a tokenizer; NULL where a file is not there. */
typedef struct {
    const json_t *tokenizer;        /* tokenizer.json */
    const json_t *tokenizer_config; /* tokenizer_config.json */
    const json_t *config;           /* config.json */
    const json_t *generation;       /* generation_config.json */
    const char *chat_template;      /* chat_template.jinja */
    size_t n_chat_template;
    const json_t *chat_template_json; /* chat_template.json */
} exo_hf_texts;

/* Writes the tokenizer's keys for a model whose embedding has n_rows. */
exo_status exo_hf_add_tokenizer(const exo_hf_texts *t, uint32_t n_rows, exo_gguf_writer *w,
                                exo_error *err);

/* The GGUF name of what a byte-level BPE does before it merges; NULL: there is none.  *exactly:
 * exo cuts by that name as the file says; else the name is only what other programs call it. */
const char *exo_hf_pre_name(const json_t *tokenizer, bool *exactly);

#endif
