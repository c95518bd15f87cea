/* mix.c - the choices of types behind the names of quantised files. */
#define _POSIX_C_SOURCE 200809L /* strcasecmp */
#include "model/mix.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { /* general.file_type of the mixes that choose */
       Q2_K = 10,
       Q3_K_S = 11,
       Q3_K_M = 12,
       Q3_K_L = 13,
       Q4_K_S = 14,
       Q4_K_M = 15,
       Q5_K_S = 16,
       Q5_K_M = 17,
       IQ4_NL = 25,
       IQ4_XS = 30,
       MXFP4_MOE = 38,
};

static const exo_mix mixes[] = {
    {"f32", 0, EXO_F32},
    {"f16", 1, EXO_F16},
    {"bf16", 32, EXO_BF16},
    {"q4_0", 2, EXO_Q4_0},
    {"q4_1", 3, EXO_Q4_1},
    {"q5_0", 8, EXO_Q5_0},
    {"q5_1", 9, EXO_Q5_1},
    {"q8_0", 7, EXO_Q8_0},
    {"q2_K", Q2_K, EXO_Q2_K},
    {"q3_K_S", Q3_K_S, EXO_Q3_K},
    {"q3_K_M", Q3_K_M, EXO_Q3_K},
    {"q3_K_L", Q3_K_L, EXO_Q3_K},
    {"q4_K_S", Q4_K_S, EXO_Q4_K},
    {"q4_K_M", Q4_K_M, EXO_Q4_K},
    {"q5_K_S", Q5_K_S, EXO_Q5_K},
    {"q5_K_M", Q5_K_M, EXO_Q5_K},
    {"q6_K", 18, EXO_Q6_K},
    {"iq4_nl", IQ4_NL, EXO_IQ4_NL},
    {"iq4_xs", IQ4_XS, EXO_IQ4_XS},
    {"mxfp4_moe", MXFP4_MOE, EXO_Q8_0},
};
#define N_MIXES (sizeof mixes / sizeof *mixes)

const exo_mix *exo_mix_at(size_t i) { return i < N_MIXES ? &mixes[i] : NULL; }

/* llama.cpp's short names. */
static const char *in_full(const char *name) {
    static const char *const names[][2] = {
        {"q3_K", "q3_K_M"}, {"q4_K", "q4_K_M"}, {"q5_K", "q5_K_M"}, {"mxfp4", "mxfp4_moe"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcasecmp(name, names[i][0]) == 0) return names[i][1];
    }
    return name;
}

const exo_mix *exo_mix_find(const char *name) {
    name = in_full(name);
    for (size_t i = 0; i < N_MIXES; i++) {
        if (strcasecmp(name, mixes[i].name) == 0) return &mixes[i];
    }
    return NULL;
}

/* The first and the last eighth of the layers, and every third between. */
static bool more_bits(uint32_t il, uint32_t n_layers) {
    return il < n_layers / 8 || il >= 7 * n_layers / 8 || (il - n_layers / 8) % 3 == 2;
}

static exo_dtype values_type(const exo_mix *mix, const exo_mix_model *m, uint32_t il) {
    bool shared = m->n_kv_heads > 0 && m->n_heads / m->n_kv_heads >= 4;
    if (m->n_experts == 8 && mix->file_type >= Q2_K) return EXO_Q8_0; /* small beside the experts */
    switch (mix->file_type) {
    case Q2_K: return shared ? EXO_Q4_K : EXO_Q3_K;
    case Q3_K_M: return il < 2 ? EXO_Q5_K : EXO_Q4_K;
    case Q3_K_L: return EXO_Q5_K;
    case Q4_K_S: return il < 4 ? EXO_Q5_K : EXO_Q4_K;
    case Q4_K_M:
    case Q5_K_M: return more_bits(il, m->n_layers) ? EXO_Q6_K : mix->base;
    case IQ4_NL:
    case IQ4_XS: return shared ? EXO_Q5_K : mix->base;
    default: return mix->base;
    }
}

static exo_dtype down_type(const exo_mix *mix, const exo_mix_model *m, uint32_t il) {
    switch (mix->file_type) {
    case Q2_K: return EXO_Q3_K;
    case Q3_K_M: return il < m->n_layers / 16 ? EXO_Q5_K : EXO_Q4_K;
    case Q3_K_L: return EXO_Q5_K;
    case Q4_K_M:
    case Q5_K_M: return more_bits(il, m->n_layers) ? EXO_Q6_K : mix->base;
    case Q4_K_S:
    case IQ4_NL:
    case IQ4_XS: return il < m->n_layers / 8 ? EXO_Q5_K : mix->base;
    default: return mix->base;
    }
}

static exo_dtype output_type(const exo_mix *mix, const exo_mix_model *m) {
    if (m->n_experts == 8) {
        bool small = mix->file_type >= Q2_K && mix->file_type <= Q4_K_M;
        small = small || mix->file_type == IQ4_NL || mix->file_type == IQ4_XS;
        return small ? EXO_Q5_K : mix->base;
    }
    switch (mix->file_type) {
    case Q2_K: return EXO_Q3_K;
    case Q3_K_M: return EXO_Q4_K;
    case Q3_K_L: return EXO_Q5_K;
    default: return mix->base;
    }
}

static exo_dtype fused_type(const exo_mix *mix) {
    switch (mix->file_type) {
    case Q3_K_M:
    case Q3_K_L: return EXO_Q4_K;
    case Q4_K_M: return EXO_Q5_K;
    case Q5_K_M: return EXO_Q6_K;
    default: return mix->base;
    }
}

static bool is(const char *tensor, const char *part) { return strstr(tensor, part) != NULL; }

static exo_dtype wanted(const exo_mix *mix, const exo_mix_model *m, const char *tensor) {
    uint32_t il = strncmp(tensor, "blk.", 4) == 0 ? (uint32_t)strtoul(tensor + 4, NULL, 10) : 0;
    bool floats = exo_dtype_get(mix->base)->block_elems == 1;
    bool head = strcmp(tensor, "output.weight") == 0 ||
                (m->tied && strcmp(tensor, "token_embd.weight") == 0);
    if (floats) return mix->base;
    if (head) return mix->base == EXO_Q8_0 ? EXO_Q8_0 : EXO_Q6_K;
    if (mix->file_type == MXFP4_MOE) return is(tensor, "_exps.weight") ? EXO_MXFP4 : EXO_Q8_0;
    if (is(tensor, "attn_v.weight")) return values_type(mix, m, il);
    if (is(tensor, "attn_k.weight") && m->n_experts == 8) return EXO_Q8_0;
    if (is(tensor, "ffn_down")) return down_type(mix, m, il);
    if (is(tensor, "attn_output.weight")) return output_type(mix, m);
    if (is(tensor, "attn_qkv.weight")) return fused_type(mix);
    return mix->base;
}

/* The type of blocks of 32 for rows that are no whole blocks of 256. */
static exo_dtype in_blocks_of_32(exo_dtype type) {
    switch (type) {
    case EXO_Q2_K:
    case EXO_Q3_K: return EXO_Q4_0;
    case EXO_IQ4_XS: return EXO_IQ4_NL;
    case EXO_Q4_K: return EXO_Q5_0;
    case EXO_Q5_K: return EXO_Q5_1;
    default: return EXO_Q8_0;
    }
}

exo_dtype exo_mix_type(const exo_mix *mix, const exo_mix_model *model, const char *tensor,
                       uint64_t n_cols) {
    exo_dtype type = wanted(mix, model, tensor);
    if (n_cols % exo_dtype_get(type)->block_elems == 0) return type;
    bool head = strcmp(tensor, "output.weight") == 0;
    if (exo_dtype_get(type)->block_elems == 256) type = head ? EXO_Q8_0 : in_blocks_of_32(type);
    return n_cols % exo_dtype_get(type)->block_elems == 0 ? type : EXO_F16;
}
