/* arch.c - the table of architectures, and what few of them read beyond the common metadata.
 *
 * Source of traits, keys and defaults: llama.cpp, whose files these are; docs/oracle.md has what
 * was compared. */
#include "model/arch.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define MAX_RANK (1u << 16)

/* ---- readers ---- */

static exo_status read_gemma(const exo_arch_source *s, exo_hparams *hp, exo_error *err) {
    (void)s;
    (void)err;
    hp->embedding_scale = sqrtf((float)hp->n_embd);
    return EXO_OK;
}

/* What the first files of gemma2 leave out. */
static void fill_gemma2(const exo_arch_source *s, exo_hparams *hp) {
    char key[EXO_KEY_BYTES];
    if (!exo_gguf_has(s->g, exo_arch_key(s, "attn_logit_softcapping", key))) hp->attn_softcap = 50;
    if (!exo_gguf_has(s->g, exo_arch_key(s, "final_logit_softcapping", key))) {
        hp->logit_softcap = 30;
    }
}

/* The largest gemma2 and gemma3 (46 and 62 layers) scale by the width a head would have. */
static exo_status read_gemma23(const exo_arch_source *s, exo_hparams *hp, exo_error *err) {
    bool second = strcmp(s->arch, "gemma2") == 0;
    uint32_t largest = second ? 46 : 62;
    if (second) fill_gemma2(s, hp);
    if (hp->n_layers == largest) {
        hp->attn_scale = 1.0f / sqrtf((float)hp->n_embd / (float)hp->n_heads);
    }
    return read_gemma(s, hp, err);
}

/* Where attention works on the latent, heads are as long as that is. */
static exo_status check_absorbed(const exo_arch_source *s, const exo_hparams *hp, exo_error *err) {
    const exo_latent *l = &hp->latent;
    if (hp->head_dim == l->kv_rank + l->rope_dim && hp->v_dim == l->kv_rank) return EXO_OK;
    return exo_error_set(err, EXO_EFORMAT,
                         "%s.attention.key_length %u and value_length %u, but kv_lora_rank %u and "
                         "rope.dimension_count %u make them %u and %u",
                         s->arch, hp->head_dim, hp->v_dim, l->kv_rank, l->rope_dim,
                         l->kv_rank + l->rope_dim, l->kv_rank);
}

/* What attention sees follows from the ranks: metadata may say it in two ways. */
static exo_status read_latent(const exo_arch_source *s, exo_hparams *hp, exo_error *err) {
    exo_latent *l = &hp->latent;
    uint32_t key_dim = hp->head_dim, value_dim = hp->v_dim;
    if (hp->n_kv_heads != 1 && hp->n_kv_heads != hp->n_heads) {
        return exo_error_set(err, EXO_EFORMAT,
                             "%s.attention.head_count_kv is %u: of %u heads that share a latent, "
                             "1 or all can have keys",
                             s->arch, hp->n_kv_heads, hp->n_heads);
    }
    exo_status st = exo_arch_need_u32(s, "attention.kv_lora_rank", MAX_RANK, &l->kv_rank, err);
    if (st == EXO_OK) st = exo_arch_u32(s, "attention.q_lora_rank", MAX_RANK, &l->q_rank, err);
    if (st == EXO_OK)
        st = exo_arch_need_u32(s, "rope.dimension_count", EXO_MAX_HEAD_DIM, &l->rope_dim, err);
    if (st != EXO_OK) return st;
    char key[EXO_KEY_BYTES];
    l->absorbed = exo_gguf_has(s->g, exo_arch_key(s, "attention.key_length_mla", key));
    if (l->absorbed) {
        st = check_absorbed(s, hp, err);
        if (st != EXO_OK) return st;
        st = exo_arch_need_u32(s, "attention.key_length_mla", EXO_MAX_HEAD_DIM, &key_dim, err);
        if (st == EXO_OK)
            st = exo_arch_need_u32(s, "attention.value_length_mla", EXO_MAX_HEAD_DIM, &value_dim,
                                   err);
        if (st != EXO_OK) return st;
    }
    if (l->rope_dim >= key_dim) {
        return exo_error_set(err, EXO_EFORMAT,
                             "%s.rope.dimension_count %u leaves nothing of a key of %u dimensions",
                             s->arch, l->rope_dim, key_dim);
    }
    l->nope_dim = key_dim - l->rope_dim;
    l->v_dim = value_dim;
    hp->attn_scale *= sqrtf((float)hp->head_dim / (float)key_dim);
    hp->n_kv_heads = l->absorbed ? 1 : hp->n_heads;
    hp->head_dim = l->absorbed ? l->kv_rank + l->rope_dim : key_dim;
    hp->v_dim = l->absorbed ? l->kv_rank : value_dim;
    if (hp->head_dim > EXO_MAX_HEAD_DIM) {
        return exo_error_set(err, EXO_EUNSUPPORTED, "a latent of %u dimensions, at most %d",
                             hp->head_dim, EXO_MAX_HEAD_DIM);
    }
    return EXO_OK;
}

/* Of several positions of a picture's pieces; text has them all equal, but for the fourth. */
static exo_status read_sections(const exo_arch_source *s, exo_hparams *hp, exo_error *err) {
    char key[EXO_KEY_BYTES];
    int64_t fourth = 0;
    (void)hp;
    exo_arch_key(s, "rope.dimension_sections", key);
    if (!exo_gguf_has(s->g, key)) return EXO_OK;
    if (!exo_gguf_array_i64(s->g, key, 3, &fourth) || fourth != 0) {
        return exo_error_set(
            err, EXO_EUNSUPPORTED,
            "%s must be 4 numbers, of which the last is 0: others are not followed", key);
    }
    return EXO_OK;
}

/* Older files leave out scales that are not 1. */
static exo_status read_minicpm(const exo_arch_source *s, exo_hparams *hp, exo_error *err) {
    static const char *const scales[] = {"embedding_scale", "residual_scale", "logit_scale"};
    (void)hp;
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++) {
        char key[EXO_KEY_BYTES];
        if (exo_gguf_has(s->g, exo_arch_key(s, scales[i], key))) continue;
        return exo_error_set(err, EXO_EUNSUPPORTED, "metadata key %s is missing", key);
    }
    return EXO_OK;
}

static exo_status read_interleaved(const exo_arch_source *s, exo_hparams *hp, exo_error *err) {
    char key[EXO_KEY_BYTES];
    uint32_t step = 1;
    (void)hp;
    (void)exo_gguf_u32(s->g, exo_arch_key(s, "interleave_moe_layer_step", key), &step);
    if (step == 1) return EXO_OK;
    return exo_error_set(err, EXO_EUNSUPPORTED, "%s is %u: only 1 is supported", key, step);
}

/* ---- the table ---- */

/* Olmo 3 comes under this name, with windows and two kinds of rotation; within the window it is
 * the same as without. */
static exo_status refuse_window(const exo_arch_source *s, exo_hparams *hp, exo_error *err) {
    uint32_t window = 0;
    exo_status st = exo_arch_any_u32(s, "attention.sliding_window", &window, err);
    if (st != EXO_OK || window == 0 || window >= hp->ctx_train) return st;
    return exo_error_set(err, EXO_EUNSUPPORTED,
                         "a %s model with %s.attention.sliding_window %u is not supported", s->arch,
                         s->arch, window);
}

static const exo_arch_spec specs[] = {
    /* mistral, mixtral, smollm and many more are llamas too */
    {.name = "llama", .keys = EXO_KEY_EXPERTS, .rope_factors = true, .experts_normalize = true},
    {.name = "qwen2", .rope = EXO_ROPE_NEOX, .qkv_bias = true},
    {.name = "qwen2moe", .rope = EXO_ROPE_NEOX, .qkv_bias = true, .keys = EXO_KEY_EXPERTS},
    {.name = "qwen3", .rope = EXO_ROPE_NEOX, .qk_norm = EXO_QK_NORM_HEAD},
    {.name = "qwen3moe",
     .rope = EXO_ROPE_NEOX,
     .qk_norm = EXO_QK_NORM_HEAD,
     .keys = EXO_KEY_EXPERTS,
     .experts_normalize = true},
    {.name = "gemma",
     .rope = EXO_ROPE_NEOX,
     .activation = EXO_EPILOGUE_GELU_MUL,
     .read = read_gemma},
    {.name = "gemma2",
     .rope = EXO_ROPE_NEOX,
     .norms = EXO_NORMS_PRE | EXO_NORMS_POST,
     .activation = EXO_EPILOGUE_GELU_MUL,
     .keys = EXO_KEY_ATTN_SOFTCAP | EXO_KEY_LOGIT_SOFTCAP | EXO_KEY_WINDOW,
     .window = 4096,
     .slide_period = 2,
     .read = read_gemma23},
    {.name = "gemma3",
     .rope = EXO_ROPE_NEOX,
     .norms = EXO_NORMS_PRE | EXO_NORMS_POST,
     .qk_norm = EXO_QK_NORM_HEAD,
     .activation = EXO_EPILOGUE_GELU_MUL,
     .keys = EXO_KEY_LOGIT_SOFTCAP | EXO_KEY_WINDOW,
     .slide_period = 6,
     .read = read_gemma23},
    {.name = "phi3", .rope = EXO_ROPE_NEOX, .rope_factors = true},
    {.name = "granite",
     .keys = EXO_KEY_ATTN_SCALE | EXO_KEY_EMBEDDING_SCALE | EXO_KEY_RESIDUAL_SCALE |
             EXO_KEY_LOGIT_SCALE,
     .logit_scale_divides = true},
    {.name = "granitemoe",
     .keys = EXO_KEY_ATTN_SCALE | EXO_KEY_EMBEDDING_SCALE | EXO_KEY_RESIDUAL_SCALE |
             EXO_KEY_LOGIT_SCALE | EXO_KEY_EXPERTS,
     .experts_normalize = true,
     .logit_scale_divides = true},
    {.name = "glm4", .norms = EXO_NORMS_PRE | EXO_NORMS_POST},
    {.name = "gpt-oss",
     .rope = EXO_ROPE_NEOX,
     .norms = EXO_NORMS_PRE | EXO_NORMS_FFN_RENAMED,
     .qkv_bias = true,
     .activation = EXO_EPILOGUE_SWIGLU_OAI,
     .keys = EXO_KEY_EXPERTS | EXO_KEY_WINDOW,
     .sinks = true,
     .gating = EXO_GATING_SOFTMAX_CHOSEN,
     .slide_period = 2},
    {.name = "deepseek2", .keys = EXO_KEY_EXPERTS, .latent = true, .read = read_latent},
    {.name = "bert",
     .rope = EXO_ROPE_NONE,
     .norm = EXO_NORM_LAYER,
     .norms = EXO_NORMS_OUT,
     .activation = EXO_EPILOGUE_GELU,
     .encoder = true,
     .positions = true},
    {.name = "nomic-bert",
     .rope = EXO_ROPE_NEOX,
     .norm = EXO_NORM_LAYER,
     .norms = EXO_NORMS_OUT,
     .encoder = true},
    {.name = "olmo2",
     .rope = EXO_ROPE_NEOX,
     .norms = EXO_NORMS_POST,
     .qk_norm = EXO_QK_NORM_ROW,
     .read = refuse_window},
    {.name = "olmoe", .rope = EXO_ROPE_NEOX, .qk_norm = EXO_QK_NORM_ROW, .keys = EXO_KEY_EXPERTS},
    {.name = "starcoder2",
     .rope = EXO_ROPE_NEOX,
     .norm = EXO_NORM_LAYER,
     .activation = EXO_EPILOGUE_GELU},
    {.name = "command-r",
     .norm = EXO_NORM_LAYER,
     .norms = EXO_NORMS_PARALLEL,
     .keys = EXO_KEY_LOGIT_SCALE},
    {.name = "smollm3", .unrotated_period = 4},
    {.name = "internlm2"},
    {.name = "exaone", .rope = EXO_ROPE_NEOX, .rope_factors = true},
    {.name = "ernie4_5"},
    {.name = "seed_oss", .rope = EXO_ROPE_NEOX, .norms = EXO_NORMS_PRE | EXO_NORMS_FFN_RENAMED},
    {.name = "cohere2",
     .norm = EXO_NORM_LAYER,
     .norms = EXO_NORMS_PARALLEL,
     .keys = EXO_KEY_LOGIT_SCALE | EXO_KEY_WINDOW,
     .slide_period = 4,
     .full_unrotated = true},
    {.name = "exaone4",
     .rope = EXO_ROPE_NEOX,
     .norms = EXO_NORMS_POST,
     .qk_norm = EXO_QK_NORM_HEAD,
     .keys = EXO_KEY_WINDOW,
     .slide_period = 4,
     .rope_factors = true,
     .full_unrotated = true},
    {.name = "exaone-moe",
     .rope = EXO_ROPE_NEOX,
     .qk_norm = EXO_QK_NORM_HEAD,
     .keys = EXO_KEY_WINDOW | EXO_KEY_EXPERTS | EXO_KEY_NEXTN,
     .slide_period = 4,
     .rope_factors = true,
     .full_unrotated = true},
    {.name = "glm4moe",
     .rope = EXO_ROPE_NEOX,
     .norms = EXO_NORMS_PRE | EXO_NORMS_FFN_RENAMED,
     .qk_norm = EXO_QK_NORM_HEAD,
     .qk_norm_optional = true,
     .gating = EXO_GATING_SIGMOID,
     .keys = EXO_KEY_EXPERTS | EXO_KEY_NEXTN},
    {.name = "ernie4_5-moe",
     .keys = EXO_KEY_EXPERTS,
     .experts_normalize = true,
     .read = read_interleaved},
    {.name = "dots1", .rope = EXO_ROPE_NEOX, .qk_norm = EXO_QK_NORM_HEAD, .keys = EXO_KEY_EXPERTS},
    {.name = "deepseek", .keys = EXO_KEY_EXPERTS},
    {.name = "bailingmoe", .keys = EXO_KEY_EXPERTS},
    {.name = "bailingmoe2",
     .rope = EXO_ROPE_NEOX,
     .qk_norm = EXO_QK_NORM_HEAD,
     .keys = EXO_KEY_EXPERTS | EXO_KEY_NEXTN},
    {.name = "minimax-m2",
     .rope = EXO_ROPE_NEOX,
     .qk_norm = EXO_QK_NORM_ROW,
     .keys = EXO_KEY_EXPERTS,
     .experts_normalize = true},
    {.name = "minicpm",
     .keys = EXO_KEY_EMBEDDING_SCALE | EXO_KEY_RESIDUAL_SCALE | EXO_KEY_LOGIT_SCALE,
     .rope_factors = true,
     .logit_scale_divides = true,
     .read = read_minicpm},
    {.name = "qwen2vl", .rope = EXO_ROPE_NEOX, .qkv_bias = true, .read = read_sections},
    {.name = "qwen3vl", .rope = EXO_ROPE_NEOX, .qk_norm = EXO_QK_NORM_HEAD, .read = read_sections},
    {.name = "qwen3vlmoe",
     .rope = EXO_ROPE_NEOX,
     .qk_norm = EXO_QK_NORM_HEAD,
     .keys = EXO_KEY_EXPERTS,
     .experts_normalize = true,
     .read = read_sections},
    {.name = "stablelm", .rope = EXO_ROPE_NEOX, .norm = EXO_NORM_LAYER},
    {.name = "phi2",
     .rope = EXO_ROPE_NEOX,
     .norm = EXO_NORM_LAYER,
     .norms = EXO_NORMS_PARALLEL,
     .activation = EXO_EPILOGUE_GELU},
    {.name = "falcon",
     .rope = EXO_ROPE_NEOX,
     .norm = EXO_NORM_LAYER,
     .norms = EXO_NORMS_PARALLEL,
     .activation = EXO_EPILOGUE_GELU},
};
#define N_SPECS (sizeof specs / sizeof *specs)

const exo_arch_spec *exo_arch_find(exo_str name) {
    for (size_t i = 0; i < N_SPECS; i++) {
        if (name.n == strlen(specs[i].name) && memcmp(name.s, specs[i].name, name.n) == 0) {
            return &specs[i];
        }
    }
    return NULL;
}

static const char recurrent[] = "layers that carry a state from token to token";
static const char sparse[] = "attention to chosen tokens";
static const char late_norms[] = "norms of queries and keys behind their rotation";
static const struct {
    const char *name, *missing;
} others[] = {
    {"qwen3next", recurrent},
    {"qwen35", recurrent},
    {"qwen35moe", recurrent},
    {"mamba", recurrent},
    {"mamba2", recurrent},
    {"jamba", recurrent},
    {"falcon-h1", recurrent},
    {"granitehybrid", recurrent},
    {"nemotron_h", recurrent},
    {"nemotron_h_moe", recurrent},
    {"lfm2", recurrent},
    {"lfm2moe", recurrent},
    {"plamo2", recurrent},
    {"kimi-linear", recurrent},
    {"rwkv6", recurrent},
    {"rwkv7", recurrent},
    {"deepseek32", sparse},
    {"glm-dsa", sparse},
    {"hunyuan-dense", late_norms},
    {"hunyuan-moe", late_norms},
    {"gemma3n", "embeddings of every layer's own"},
    {"gemma4", "heads of several sizes in one model"},
    {"deci", "heads of several sizes in one model"},
    {"openelm", "heads of several sizes in one model"},
    {"gemma-embedding", "windows to both sides"},
    {"modern-bert", "windows to both sides"},
    {"llama4", "attention in chunks"},
    {"mistral3", "queries scaled by their position"},
    {"mistral4", "queries scaled by their position"},
    {"arcee", "squared ReLU"},
    {"nemotron", "squared ReLU"},
    {"apertus", "xIELU"},
    {"gptneox", "two norms side by side"},
    {"gpt2", "learned positions in a model that answers"},
    {"mpt", "ALiBi"},
    {"bloom", "ALiBi"},
    {"t5", "an encoder beside the decoder"},
};

const char *exo_arch_missing(exo_str name) {
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        if (name.n == strlen(others[i].name) && memcmp(name.s, others[i].name, name.n) == 0) {
            return others[i].missing;
        }
    }
    return NULL;
}

const exo_arch_spec *exo_arch_at(size_t i) { return i < N_SPECS ? &specs[i] : NULL; }

/* ---- single keys ---- */

const char *exo_arch_key(const exo_arch_source *s, const char *suffix, char out[EXO_KEY_BYTES]) {
    snprintf(out, EXO_KEY_BYTES, "%s.%s", s->arch, suffix);
    return out;
}

exo_status exo_arch_need_u32(const exo_arch_source *s, const char *suffix, uint32_t max,
                             uint32_t *out, exo_error *err) {
    char key[EXO_KEY_BYTES];
    exo_arch_key(s, suffix, key);
    if (!exo_gguf_u32(s->g, key, out)) {
        return exo_error_set(err, EXO_EFORMAT, "metadata key %s %s", key,
                             exo_gguf_has(s->g, key) ? "is not one non-negative number"
                                                     : "is missing");
    }
    if (*out == 0 || *out > max) {
        return exo_error_set(err, EXO_EFORMAT, "%s is %u, possible are 1 to %u", key, *out, max);
    }
    return EXO_OK;
}

exo_status exo_arch_u32(const exo_arch_source *s, const char *suffix, uint32_t max, uint32_t *out,
                        exo_error *err) {
    char key[EXO_KEY_BYTES];
    if (!exo_gguf_has(s->g, exo_arch_key(s, suffix, key))) return EXO_OK;
    return exo_arch_need_u32(s, suffix, max, out, err);
}

exo_status exo_arch_any_u32(const exo_arch_source *s, const char *suffix, uint32_t *out,
                            exo_error *err) {
    char key[EXO_KEY_BYTES];
    if (!exo_gguf_has(s->g, exo_arch_key(s, suffix, key))) return EXO_OK;
    if (exo_gguf_u32(s->g, key, out)) return EXO_OK;
    return exo_error_set(err, EXO_EFORMAT, "metadata key %s is not one non-negative number", key);
}

exo_status exo_arch_f32(const exo_arch_source *s, const char *suffix, float *out, exo_error *err) {
    char key[EXO_KEY_BYTES];
    float v;
    if (!exo_gguf_has(s->g, exo_arch_key(s, suffix, key))) return EXO_OK;
    if (!exo_gguf_f32(s->g, key, &v)) {
        return exo_error_set(err, EXO_EFORMAT, "metadata key %s is not a float", key);
    }
    if (!(v > 0 && v < 1e30f)) {
        return exo_error_set(err, EXO_EFORMAT, "%s is %g, it must be above 0 and below 1e30", key,
                             (double)v);
    }
    *out = v;
    return EXO_OK;
}

exo_status exo_arch_bool(const exo_arch_source *s, const char *suffix, bool *out, exo_error *err) {
    char key[EXO_KEY_BYTES];
    if (!exo_gguf_has(s->g, exo_arch_key(s, suffix, key))) return EXO_OK;
    if (exo_gguf_bool(s->g, key, out)) return EXO_OK;
    return exo_error_set(err, EXO_EFORMAT, "metadata key %s is not a bool", key);
}
