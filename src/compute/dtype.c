/* dtype.c - the table of number formats.
 *
 * Owns nothing but facts: names and block sizes as GGUF files use them.  Numbers that ggml once
 * assigned and took back (4, 5, 31 to 33, 36 to 38) have no entry, so files that use them are
 * refused like files with numbers never assigned. */
#define _POSIX_C_SOURCE 200809L /* strcasecmp */
#include "compute/dtype.h"

#include <strings.h>

static const exo_dtype_info table[EXO_DTYPE_LIMIT] = {
    [EXO_F32] = {"f32", 1, 4},
    [EXO_F16] = {"f16", 1, 2},
    [EXO_Q4_0] = {"q4_0", 32, 18},
    [EXO_Q4_1] = {"q4_1", 32, 20},
    [EXO_Q5_0] = {"q5_0", 32, 22},
    [EXO_Q5_1] = {"q5_1", 32, 24},
    [EXO_Q8_0] = {"q8_0", 32, 34},
    [EXO_Q8_1] = {"q8_1", 32, 36},
    [EXO_Q2_K] = {"q2_K", 256, 84},
    [EXO_Q3_K] = {"q3_K", 256, 110},
    [EXO_Q4_K] = {"q4_K", 256, 144},
    [EXO_Q5_K] = {"q5_K", 256, 176},
    [EXO_Q6_K] = {"q6_K", 256, 210},
    [EXO_Q8_K] = {"q8_K", 256, 292},
    [EXO_IQ2_XXS] = {"iq2_xxs", 256, 66},
    [EXO_IQ2_XS] = {"iq2_xs", 256, 74},
    [EXO_IQ3_XXS] = {"iq3_xxs", 256, 98},
    [EXO_IQ1_S] = {"iq1_s", 256, 50},
    [EXO_IQ4_NL] = {"iq4_nl", 32, 18},
    [EXO_IQ3_S] = {"iq3_s", 256, 110},
    [EXO_IQ2_S] = {"iq2_s", 256, 82},
    [EXO_IQ4_XS] = {"iq4_xs", 256, 136},
    [EXO_I8] = {"i8", 1, 1},
    [EXO_I16] = {"i16", 1, 2},
    [EXO_I32] = {"i32", 1, 4},
    [EXO_I64] = {"i64", 1, 8},
    [EXO_F64] = {"f64", 1, 8},
    [EXO_IQ1_M] = {"iq1_m", 256, 56},
    [EXO_BF16] = {"bf16", 1, 2},
    [EXO_TQ1_0] = {"tq1_0", 256, 54},
    [EXO_TQ2_0] = {"tq2_0", 256, 66},
    [EXO_MXFP4] = {"mxfp4", 32, 17},
    [EXO_NVFP4] = {"nvfp4", 64, 36},
    [EXO_Q1_0] = {"q1_0", 128, 18},
    [EXO_Q2_0] = {"q2_0", 64, 18},
};

const exo_dtype_info *exo_dtype_get(uint32_t dtype) {
    return dtype < EXO_DTYPE_LIMIT && table[dtype].name != NULL ? &table[dtype] : NULL;
}

exo_status exo_dtype_parse(const char *name, exo_dtype *out) {
    for (uint32_t i = 0; i < EXO_DTYPE_LIMIT; i++) {
        if (table[i].name != NULL && strcasecmp(name, table[i].name) == 0) {
            *out = (exo_dtype)i;
            return EXO_OK;
        }
    }
    *out = EXO_F32;
    return EXO_ENOTFOUND;
}

size_t exo_dtype_row_bytes(exo_dtype dtype, size_t n_elems) {
    return n_elems / table[dtype].block_elems * table[dtype].block_bytes;
}
