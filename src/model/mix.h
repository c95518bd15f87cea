/* mix.h - which weight type each tensor of a model gets, under the names that people ask for.
 *
 * "q8_0" or "q4_K_M": a name stands for a type of most matrices and for the tensors that get more
 * bits because they matter more.  The choices are llama.cpp's (llama_tensor_get_type), so that
 * files of the same name have the same types; tests/oracle compares them.
 * Thread: ANY; all pure functions. */
#ifndef EXO_MODEL_MIX_H
#define EXO_MODEL_MIX_H

#include "compute/dtype.h"

typedef struct {
    const char *name;   /* "q4_K_M" */
    uint32_t file_type; /* as general.file_type numbers it */
    exo_dtype base;     /* of most matrices */
} exo_mix;

/* What a choice may depend on. */
typedef struct {
    uint32_t n_layers, n_heads, n_kv_heads, n_experts;
    bool tied; /* token_embd.weight is the head too */
} exo_mix_model;

/* By name without regard to case; "q3_K", "q4_K", "q5_K" and "mxfp4" stand for the mixes that
 * llama.cpp takes them for.  NULL when unknown. */
const exo_mix *exo_mix_find(const char *name);

/* The i-th mix; NULL behind the last. */
const exo_mix *exo_mix_at(size_t i);

/* The type of matrix `tensor` ("blk.3.attn_v.weight") whose rows have n_cols elements.  Where they
 * are no whole blocks of the type chosen, the nearest type of blocks of 32, or F16 where they are
 * no whole blocks of that either. */
exo_dtype exo_mix_type(const exo_mix *mix, const exo_mix_model *model, const char *tensor,
                       uint64_t n_cols);

#endif
