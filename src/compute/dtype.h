/* dtype.h - the number formats of weights, activations and KV entries, numbered as GGUF does.
 *
 * The table knows every type that a GGUF file may hold, so that files can be checked whole;
 * which of them a device computes with is the backend's to say.
 * Source: ggml.h (enum ggml_type) and ggml-common.h (block structs) of llama.cpp.  Thread: ANY. */
#ifndef EXO_COMPUTE_DTYPE_H
#define EXO_COMPUTE_DTYPE_H

#include <exo/base.h>

typedef enum {
    EXO_F32 = 0,
    EXO_F16 = 1,
    EXO_Q4_0 = 2,
    EXO_Q4_1 = 3,
    EXO_Q5_0 = 6,
    EXO_Q5_1 = 7,
    EXO_Q8_0 = 8,
    EXO_Q8_1 = 9,
    EXO_Q2_K = 10,
    EXO_Q3_K = 11,
    EXO_Q4_K = 12,
    EXO_Q5_K = 13,
    EXO_Q6_K = 14,
    EXO_Q8_K = 15,
    EXO_IQ2_XXS = 16,
    EXO_IQ2_XS = 17,
    EXO_IQ3_XXS = 18,
    EXO_IQ1_S = 19,
    EXO_IQ4_NL = 20,
    EXO_IQ3_S = 21,
    EXO_IQ2_S = 22,
    EXO_IQ4_XS = 23,
    EXO_I8 = 24,
    EXO_I16 = 25,
    EXO_I32 = 26,
    EXO_I64 = 27,
    EXO_F64 = 28,
    EXO_IQ1_M = 29,
    EXO_BF16 = 30,
    EXO_TQ1_0 = 34,
    EXO_TQ2_0 = 35,
    EXO_MXFP4 = 39,
    EXO_NVFP4 = 40,
    EXO_Q1_0 = 41,
    EXO_Q2_0 = 42,
    EXO_DTYPE_LIMIT = 64,
} exo_dtype;

typedef struct {
    const char *name;     /* "q4_K", as llama.cpp prints it; NULL for a number never assigned */
    uint32_t block_elems; /* elements in one block along a row */
    uint32_t block_bytes;
} exo_dtype_info;

/* NULL for an unknown number. */
const exo_dtype_info *exo_dtype_get(uint32_t dtype);

/* By name without regard to case ("q4_k", "Q8_0"); EXO_ENOTFOUND otherwise. */
exo_status exo_dtype_parse(const char *name, exo_dtype *out);

/* Bytes of one row of n_elems; n_elems is a multiple of block_elems and the product fits. */
size_t exo_dtype_row_bytes(exo_dtype dtype, size_t n_elems);

#endif
