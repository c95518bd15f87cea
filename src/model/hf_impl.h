/* hf_impl.h - what the files of hf.h share; private to hf_*.c, their tests and fuzz targets. */
#ifndef EXO_MODEL_HF_IMPL_H
#define EXO_MODEL_HF_IMPL_H

#include "model/gguf_writer.h"
#include "model/hf.h"

#include <jansson.h>

#define EXO_HF_MAX_CONFIG    (8u << 20)
#define EXO_HF_MAX_TOKENIZER (128u << 20)

/* ---- architectures ---- */

/* One tensor name: "%u" stands for the layer. */
typedef struct {
    const char *theirs; /* NULL ends a table */
    const char *ours;   /* NULL: not needed */
} exo_hf_name;

typedef struct {
    const char *model_type;   /* as in config.json */
    const char *arch;         /* as in general.architecture */
    const exo_hf_name *names; /* looked into before the common ones; NULL: none of its own */
    bool interleaved;  /* GGUF files of this architecture pair (2i, 2i+1): rows are permuted */
    bool tied;         /* what a silent tie_word_embeddings means */
    uint32_t head_dim; /* what a silent head_dim means; 0: hidden_size / heads */
} exo_hf_arch;

/* By model_type; EXO_EUNSUPPORTED names it. */
exo_status exo_hf_find_arch(const json_t *config, const exo_hf_arch **out, exo_error *err);
/* Our name of theirs, or NULL; *known: it is one that is not needed. */
const char *exo_hf_our_name(const exo_hf_arch *a, const char *theirs, char out[64], bool *known);

/* ---- keys ---- */

/* A file as JSON; EXO_ENOTFOUND when it is not there. */
exo_status exo_hf_load_json(const char *dir, const char *name, size_t limit, json_t **out,
                            exo_error *err);

/* Checks config.json and writes the architecture's keys. */
exo_status exo_hf_add_config(const json_t *config, const exo_hf_arch *a, exo_gguf_writer *w,
                             exo_error *err);
/* Whether the embedding serves as head. */
bool exo_hf_is_tied(const json_t *config, const exo_hf_arch *a);
/* Llama 3's factors on rotary frequencies, (n) f32; false when the model has none. */
bool exo_hf_rope_factors(const json_t *config, const exo_hf_arch *a, float *out, uint32_t *n);
#define EXO_HF_MAX_ROPE_FACTORS 1024

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

/* The GGUF name of what a byte-level BPE does before it merges; EXO_EUNSUPPORTED describes it. */
exo_status exo_hf_pre_name(const json_t *tokenizer, const char **out, exo_error *err);

#endif
