/* hf_impl.h - what the files of hf.h share; private to hf_*.c, their tests and fuzz targets. */
#ifndef EXO_MODEL_HF_IMPL_H
#define EXO_MODEL_HF_IMPL_H

#include "base/arena.h"
#include "model/gguf_writer.h"
#include "model/hf.h"
#include "model/json_limits.h"
#include "model/safetensors.h"

#include <jansson.h>

/* ---- architectures ---- */

/* What becomes of a tensor.  Vectors are widened to f32 in any case. */
typedef enum {
    EXO_HF_AS_IS,
    EXO_HF_WIDE,        /* f32, as routers and tables of positions are in GGUF files */
    EXO_HF_FLAT,        /* one row: a vector */
    EXO_HF_HALVES,      /* gate above up: becomes two tensors */
    EXO_HF_GROUPS,      /* queries, a key and a value, for each head of keys: three tensors */
    EXO_HF_EXPERT,      /* one expert's matrix of a stacked tensor */
    EXO_HF_STACK,       /* all experts' matrices */
    EXO_HF_GATE_UP,     /* the same, gate above up in each: becomes two tensors */
    EXO_HF_TURNED,      /* all experts' matrices, rows as columns */
    EXO_HF_TURNED_PAIR, /* the same, gates and ups by turns: becomes two tensors */
    EXO_HF_BLOCKS,      /* all experts' MXFP4 quants, or their scales */
    EXO_HF_SCALES,
    EXO_HF_BLOCKS_PAIR, /* the same, gates and ups by turns */
    EXO_HF_SCALES_PAIR,
    EXO_HF_BIAS_PAIR,
    EXO_HF_NOT_NEEDED,
} exo_hf_how;

/* One tensor name: the first "%u" stands for the layer, the second for the expert. */
typedef struct {
    const char *theirs; /* NULL ends a table */
    const char *ours;   /* NULL: not needed; the first of several tensors that one becomes */
    exo_hf_how how;
} exo_hf_name;

/* Instead of a member that says whether there are biases. */
#define EXO_HF_ALWAYS "+"
#define EXO_HF_NEVER  "-"

/* A configuration class of transformers. */
typedef struct {
    const char *model_type;   /* as in config.json */
    const char *arch;         /* as in general.architecture */
    const char *prefix;       /* what some files put before every name; NULL: nothing */
    const exo_hf_name *names; /* looked into before the common ones; NULL: none of its own */
    const char *members; /* JSON: what the class reads beyond sizes, and what silence means there */
    const char *qkv_bias, *o_bias, *ffn_bias; /* the members that say so; NULL: not looked at */
    bool interleaved;  /* GGUF files of this architecture pair (2i, 2i+1): rows are permuted */
    bool norms_less_1; /* weights of norms lack 1, which GGUF files have added */
} exo_hf_arch;

/* hf_family.c: the class of a config.json, and a new reference to what describes the text model:
 * the file's object, or text_config of a model that sees pictures, too.  Members that are not
 * there are added as the class has them.  EXO_EUNSUPPORTED names the model_type. */
exo_status exo_hf_find_family(json_t *file, const exo_hf_arch **out, json_t **config,
                              exo_error *err);
/* Whether the class knows a member; others are not read, whatever a file says. */
bool exo_hf_has_member(const exo_hf_arch *a, const char *name);
/* By model_type; NULL: unknown. */
const exo_hf_arch *exo_hf_arch_find(const char *model_type);
/* The i-th of all; NULL behind the last. */
const exo_hf_arch *exo_hf_arch_at(size_t i);

/* What one of their tensors is to us. */
typedef struct {
    char name[64];
    uint32_t layer, expert;
    exo_hf_how how;
} exo_hf_place;

/* False: there is no such tensor in the architecture. */
bool exo_hf_find_name(const exo_hf_arch *a, const char *theirs, exo_hf_place *out);
/* Whether it belongs to the part of a model that sees pictures. */
bool exo_hf_is_vision(const char *theirs);
/* The pattern with the layer in it. */
void exo_hf_fill_layer(const char *pattern, uint32_t layer, char out[64]);

/* ---- tensors ---- */

/* hf_tensors.c: the tensors of all files as a GGUF file would have them. */
typedef struct {
    const json_t *config;
    const exo_hf_arch *arch;
    exo_arena memory; /* names, widened vectors, and where rows are */
    exo_tensor *tensors;
    size_t n_tensors, cap_tensors;
    size_t n_vision; /* skipped */
    bool tied;
    const uint8_t *head; /* a tied model's lm_head.weight in its file; NULL: none */
    uint64_t head_bytes;
} exo_hf_tensors;

#define EXO_HF_VECTOR_LIMIT (1u << 30) /* bytes of all vectors, widened */

exo_status exo_hf_tensors_add(exo_hf_tensors *s, const exo_safetensor *from, exo_error *err);
/* After the last: factors of rotations, and whether what config.json says is there. */
exo_status exo_hf_tensors_end(exo_hf_tensors *s, exo_error *err);
exo_tensor *exo_hf_tensors_find(const exo_hf_tensors *s, const char *name); /* NULL: none */
/* For hf_stack.c: names a copy of *t. */
exo_status exo_hf_tensors_push(exo_hf_tensors *s, const char *name, const exo_tensor *t,
                               exo_error *err);
/* hf_stack.c: what becomes several tensors, or is one of several; *t has type and shape. */
exo_status exo_hf_stack_add(exo_hf_tensors *s, const exo_hf_place *place, const exo_tensor *t,
                            exo_error *err);
/* Whether all experts, and scales for all quants, were there. */
exo_status exo_hf_stack_end(const exo_hf_tensors *s, exo_error *err);
/* hf_check.c: whether biases are there where config.json says so, and only there. */
exo_status exo_hf_check_biases(const exo_hf_tensors *s, exo_error *err);
/* Whether the head of a tied model, where a file has one, is the embedding. */
exo_status exo_hf_check_head(const exo_hf_tensors *s, exo_error *err);
/* Whether vocab_size and the ids of special tokens fit the embedding. */
exo_status exo_hf_check_ids(const json_t *config, uint64_t n_rows, exo_error *err);

/* ---- keys ---- */

/* How much text a file may have, and what it may make a parser build. */
typedef struct {
    size_t bytes;
    exo_json_limits json;
} exo_hf_limits;

extern const exo_hf_limits exo_hf_config_limits, exo_hf_tokenizer_limits;

/* A file as JSON; EXO_ENOTFOUND when it is not there. */
exo_status exo_hf_load_json(const char *dir, const char *name, const exo_hf_limits *limits,
                            json_t **out, exo_error *err);

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
bool exo_hf_is_tied(const json_t *config);
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
