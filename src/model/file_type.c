/* file_type.c - see file_type.h. */
#define _POSIX_C_SOURCE 200809L /* strcasecmp */
#include "model/file_type.h"

#include <strings.h>

static const struct {
    uint32_t number;
    const char *name;
} file_types[] = {
    {0, "F32"},      {1, "F16"},      {2, "Q4_0"},    {3, "Q4_1"},    {7, "Q8_0"},
    {8, "Q5_0"},     {9, "Q5_1"},     {10, "Q2_K"},   {11, "Q3_K_S"}, {12, "Q3_K_M"},
    {13, "Q3_K_L"},  {14, "Q4_K_S"},  {15, "Q4_K_M"}, {16, "Q5_K_S"}, {17, "Q5_K_M"},
    {18, "Q6_K"},    {19, "IQ2_XXS"}, {20, "IQ2_XS"}, {21, "Q2_K_S"}, {22, "IQ3_XS"},
    {23, "IQ3_XXS"}, {24, "IQ1_S"},   {25, "IQ4_NL"}, {26, "IQ3_S"},  {27, "IQ3_M"},
    {28, "IQ2_S"},   {29, "IQ2_M"},   {30, "IQ4_XS"}, {31, "IQ1_M"},  {32, "BF16"},
    {36, "TQ1_0"},   {37, "TQ2_0"},   {38, "MXFP4"},
};
enum { N_FILE_TYPES = sizeof file_types / sizeof *file_types };

const char *exo_file_type_name(uint32_t number) {
    for (int i = 0; i < N_FILE_TYPES; i++) {
        if (file_types[i].number == number) return file_types[i].name;
    }
    return NULL;
}

exo_status exo_file_type_parse(const char *name, uint32_t *out) {
    *out = 0;
    for (int i = 0; i < N_FILE_TYPES; i++) {
        if (strcasecmp(file_types[i].name, name) != 0) continue;
        *out = file_types[i].number;
        return EXO_OK;
    }
    return EXO_ENOTFOUND;
}

static const char *largest_type(const exo_gguf *g) {
    uint64_t bytes[EXO_DTYPE_LIMIT] = {0}, most = 0;
    const char *name = "";
    for (size_t i = 0; i < exo_gguf_n_tensors(g); i++) {
        const exo_tensor *t = exo_gguf_tensor(g, i);
        bytes[t->type] += t->bytes;
    }
    for (uint32_t type = 0; type < EXO_DTYPE_LIMIT; type++) {
        if (bytes[type] <= most) continue;
        most = bytes[type];
        name = exo_dtype_get(type)->name;
    }
    return name;
}

const char *exo_file_type_of(const exo_gguf *g) {
    uint32_t number;
    const char *name = NULL;
    if (exo_gguf_u32(g, "general.file_type", &number)) name = exo_file_type_name(number);
    return name != NULL ? name : largest_type(g);
}
