/* hparams.c - what the metadata of the supported architectures say, checked for sense.
 *
 * Owns the metadata keys and the rotary frequencies.  A key that would change the computation in
 * a way exo does not follow is refused by name, so that no model runs wrongly in silence.
 * Source of keys and defaults: llama.cpp (llama-arch.cpp, llama-model.cpp).
 * Knows nothing of devices; shapes are model_tensors.c's. */
#include "model/hparams.h"

#include "base/le.h"
#include "compute/dmath.h"

#include <stdio.h>
#include <string.h>

#include <utf8proc.h>

#define MAX_WIDTH   (1u << 20) /* of the residual stream and the feed-forward layer */
#define MAX_HEADS   4096
#define MAX_CONTEXT (1u << 30)
#define KEY_BYTES   96

static const struct {
    const char *name;
    exo_arch arch;
    bool rope_neox, qk_norm;
} archs[] = {
    {"llama", EXO_ARCH_LLAMA, false, false},
    {"qwen2", EXO_ARCH_QWEN2, true, false},
    {"qwen3", EXO_ARCH_QWEN3, true, true},
};

/* The file and its architecture's name, for keys like "llama.block_count". */
typedef struct {
    const exo_gguf *g;
    const char *arch;
} source;

static const char *key_of(const source *s, const char *suffix, char out[KEY_BYTES]) {
    snprintf(out, KEY_BYTES, "%s.%s", s->arch, suffix);
    return out;
}

/* ---- single keys ---- */

/* A number from 1 to max that must be there. */
static exo_status need_u32(const source *s, const char *suffix, uint32_t max, uint32_t *out,
                           exo_error *err) {
    char key[KEY_BYTES];
    key_of(s, suffix, key);
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

static exo_status optional_u32(const source *s, const char *suffix, uint32_t max, uint32_t fallback,
                               uint32_t *out, exo_error *err) {
    char key[KEY_BYTES];
    *out = fallback;
    if (!exo_gguf_has(s->g, key_of(s, suffix, key))) return EXO_OK;
    return need_u32(s, suffix, max, out, err);
}

/* A finite number above 0; *out keeps its value when the key is absent. */
static exo_status optional_f32(const source *s, const char *suffix, float *out, exo_error *err) {
    char key[KEY_BYTES];
    float v;
    if (!exo_gguf_has(s->g, key_of(s, suffix, key))) return EXO_OK;
    if (!exo_gguf_f32(s->g, key, &v)) {
        return exo_error_set(err, EXO_EFORMAT, "metadata key %s is not a float", key);
    }
    if (!(v > 0 && v < 1e30f)) {
        return exo_error_set(err, EXO_EFORMAT, "%s is %g, it must be above 0", key, (double)v);
    }
    *out = v;
    return EXO_OK;
}

/* ---- architecture ---- */

static exo_status read_arch(const exo_gguf *g, exo_hparams *hp, source *s, exo_error *err) {
    exo_str name;
    if (!exo_gguf_str(g, "general.architecture", &name)) {
        return exo_error_set(err, EXO_EFORMAT, "metadata key general.architecture is missing");
    }
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++) {
        if (name.n != strlen(archs[i].name) || memcmp(name.s, archs[i].name, name.n) != 0) continue;
        hp->arch = archs[i].arch;
        hp->rope_neox = archs[i].rope_neox;
        hp->qk_norm = archs[i].qk_norm;
        *s = (source){g, archs[i].name};
        return EXO_OK;
    }
    return exo_error_set(err, EXO_EUNSUPPORTED,
                         "architecture '%.*s' is not supported (llama, qwen2 and qwen3 are)",
                         (int)(name.n < 40 ? name.n : 40), name.s);
}

/* Settings that change the computation in ways that are not followed here. */
static exo_status refuse_variants(const source *s, exo_error *err) {
    static const char *const variants[] = {
        "expert_count",
        "attention.scale",
        "attention.clamp_kqv",
        "logit_scale",
        "attention.max_alibi_bias",
        "attn_logit_softcapping",
        "residual_scale",
        "final_logit_softcapping",
        "embedding_scale",
        "attention.value_residual",
    };
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
        char key[KEY_BYTES];
        uint32_t u;
        float f;
        key_of(s, variants[i], key);
        bool set =
            (exo_gguf_u32(s->g, key, &u) && u != 0) || (exo_gguf_f32(s->g, key, &f) && f != 0);
        if (set) {
            return exo_error_set(err, EXO_EUNSUPPORTED, "a %s model with %s is not supported",
                                 s->arch, key);
        }
    }
    return EXO_OK;
}

/* A display name: whole characters, no control characters. */
static void copy_name(exo_str from, char *out, size_t cap) {
    const uint8_t *s = (const uint8_t *)from.s;
    size_t n = 0;
    for (size_t left = from.n; left > 0;) {
        utf8proc_int32_t cp;
        utf8proc_ssize_t left_now = left < 4 ? (utf8proc_ssize_t)left : 4;
        utf8proc_ssize_t got = utf8proc_iterate(s, left_now, &cp);
        size_t step = got > 0 ? (size_t)got : 1;
        if (n + step >= cap) break;
        if (got > 0 && cp >= 0x20 && cp != 0x7F) {
            memcpy(out + n, s, step);
            n += step;
        } else {
            out[n++] = '?';
        }
        s += step;
        left -= step;
    }
    out[n] = '\0';
}

/* ---- sizes ---- */

static exo_status read_sizes(const source *s, exo_hparams *hp, exo_error *err) {
    exo_status st = need_u32(s, "block_count", EXO_MAX_LAYERS, &hp->n_layers, err);
    if (st == EXO_OK) st = need_u32(s, "embedding_length", MAX_WIDTH, &hp->n_embd, err);
    if (st == EXO_OK) st = need_u32(s, "feed_forward_length", MAX_WIDTH, &hp->n_ff, err);
    if (st == EXO_OK) st = need_u32(s, "attention.head_count", MAX_HEADS, &hp->n_heads, err);
    if (st == EXO_OK) st = need_u32(s, "context_length", MAX_CONTEXT, &hp->ctx_train, err);
    if (st != EXO_OK) return st;
    st = optional_u32(s, "attention.head_count_kv", MAX_HEADS, hp->n_heads, &hp->n_kv_heads, err);
    if (st != EXO_OK) return st;
    if (hp->n_heads % hp->n_kv_heads != 0) {
        return exo_error_set(err, EXO_EFORMAT,
                             "%s.attention.head_count %u is not a multiple of head_count_kv %u",
                             s->arch, hp->n_heads, hp->n_kv_heads);
    }
    char key[KEY_BYTES];
    bool own_head_dim = exo_gguf_has(s->g, key_of(s, "attention.key_length", key));
    if (!own_head_dim && hp->n_embd % hp->n_heads != 0) {
        return exo_error_set(err, EXO_EFORMAT,
                             "%s.embedding_length %u is not a multiple of attention.head_count %u",
                             s->arch, hp->n_embd, hp->n_heads);
    }
    uint32_t head_dim = hp->n_embd / hp->n_heads, value_dim;
    st = optional_u32(s, "attention.key_length", EXO_MAX_HEAD_DIM, head_dim, &hp->head_dim, err);
    if (st != EXO_OK) return st;
    if (hp->head_dim > EXO_MAX_HEAD_DIM) {
        return exo_error_set(err, EXO_EUNSUPPORTED,
                             "heads of %u dimensions, at most %d are supported", hp->head_dim,
                             EXO_MAX_HEAD_DIM);
    }
    st = optional_u32(s, "attention.value_length", MAX_WIDTH, hp->head_dim, &value_dim, err);
    if (st != EXO_OK) return st;
    if (value_dim != hp->head_dim) {
        return exo_error_set(
            err, EXO_EUNSUPPORTED,
            "attention.value_length %u differs from attention.key_length %u: not supported",
            value_dim, hp->head_dim);
    }
    return EXO_OK;
}

static exo_status read_vocab(const exo_gguf *g, exo_hparams *hp, exo_error *err) {
    const exo_tensor *embd = exo_gguf_find(g, "token_embd.weight");
    exo_gguf_type elem;
    size_t n_tokens;
    if (embd == NULL) return exo_error_set(err, EXO_EFORMAT, "tensor token_embd.weight is missing");
    if (!exo_gguf_array(g, "tokenizer.ggml.tokens", &elem, &n_tokens)) {
        return exo_error_set(err, EXO_EFORMAT, "metadata key tokenizer.ggml.tokens is missing");
    }
    if (embd->dims[1] != n_tokens || n_tokens == 0 || n_tokens > INT32_MAX) {
        return exo_error_set(
            err, EXO_EFORMAT,
            "token_embd.weight has %llu rows, but tokenizer.ggml.tokens has %zu tokens",
            (unsigned long long)embd->dims[1], n_tokens);
    }
    hp->n_vocab = (uint32_t)n_tokens;
    hp->tied_head = exo_gguf_find(g, "output.weight") == NULL;
    hp->qkv_bias = exo_gguf_find(g, "blk.0.attn_q.bias") != NULL;
    if (hp->arch == EXO_ARCH_QWEN2 && !hp->qkv_bias) {
        return exo_error_set(err, EXO_EFORMAT, "tensor blk.0.attn_q.bias is missing");
    }
    return EXO_OK;
}

/* ---- rotary positions ---- */

/* The factor that positions are divided by; 1 without scaling. */
static exo_status read_rope_scaling(const source *s, float *factor, exo_error *err) {
    char key[KEY_BYTES];
    exo_str type = {"linear", 6}; /* what a lone factor means */
    *factor = 1;
    key_of(s, "rope.scaling.type", key);
    if (exo_gguf_has(s->g, key) && !exo_gguf_str(s->g, key, &type)) {
        return exo_error_set(err, EXO_EFORMAT, "metadata key %s is not a string", key);
    }
    if (type.n == 4 && memcmp(type.s, "none", 4) == 0) return EXO_OK;
    if (type.n != 6 || memcmp(type.s, "linear", 6) != 0) {
        return exo_error_set(err, EXO_EUNSUPPORTED,
                             "rope scaling '%.*s' is not supported (none and linear are)",
                             (int)(type.n < 40 ? type.n : 40), type.s);
    }
    exo_status st = optional_f32(s, "rope.scale_linear", factor, err); /* the older name */
    if (st == EXO_OK) st = optional_f32(s, "rope.scaling.factor", factor, err);
    return st;
}

/* Llama 3.1 and later: a tensor of factors that divide the frequencies; NULL when absent. */
static exo_status find_rope_factors(const exo_gguf *g, const exo_hparams *hp,
                                    const exo_tensor **out, exo_error *err) {
    const exo_tensor *t = exo_gguf_find(g, "rope_freqs.weight");
    *out = hp->arch == EXO_ARCH_LLAMA ? t : NULL;
    if (*out == NULL) return EXO_OK;
    if (t->type != EXO_F32 || t->dims[0] != hp->rope_dims / 2 || t->bytes != 2ull * hp->rope_dims) {
        return exo_error_set(
            err, EXO_EFORMAT,
            "rope_freqs.weight has %llu %s values, rope.dimension_count %u asks for %u f32",
            (unsigned long long)t->dims[0], exo_dtype_get(t->type)->name, hp->rope_dims,
            hp->rope_dims / 2);
    }
    for (uint32_t i = 0; i < hp->rope_dims / 2; i++) {
        float f = exo_get_f32(t->data + 4 * (size_t)i);
        if (!(f >= 1e-6f && f <= 1e6f)) {
            return exo_error_set(err, EXO_EFORMAT, "rope_freqs.weight[%u] is %g", i, (double)f);
        }
    }
    return EXO_OK;
}

static exo_status read_rope(const source *s, exo_hparams *hp, exo_error *err) {
    float base = 10000, factor;
    const exo_tensor *factors = NULL;
    exo_status st = optional_u32(s, "rope.dimension_count", EXO_MAX_HEAD_DIM, hp->head_dim,
                                 &hp->rope_dims, err);
    if (st != EXO_OK) return st;
    if (hp->rope_dims > hp->head_dim || hp->rope_dims % 2 != 0) {
        return exo_error_set(err, EXO_EFORMAT,
                             "%s.rope.dimension_count %u is odd or above the head's %u dimensions",
                             s->arch, hp->rope_dims, hp->head_dim);
    }
    st = optional_f32(s, "rope.freq_base", &base, err);
    if (st == EXO_OK) st = read_rope_scaling(s, &factor, err);
    if (st == EXO_OK) st = find_rope_factors(s->g, hp, &factors, err);
    if (st != EXO_OK) return st;
    hp->rope_base = (double)base;
    hp->rope_scale = 1;
    for (uint32_t i = 0; i < hp->rope_dims / 2; i++) {
        double freq = exo_dpow(hp->rope_base, -2.0 * i / hp->rope_dims);
        if (factors != NULL) freq /= (double)exo_get_f32(factors->data + 4 * (size_t)i);
        hp->rope_inv_freq[i] = freq / (double)factor;
    }
    return EXO_OK;
}

/* ---- all ---- */

exo_status exo_hparams_read(const exo_gguf *g, exo_str stem, exo_hparams *out, exo_error *err) {
    exo_hparams hp = {0};
    source s = {g, ""};
    exo_str name;
    *out = hp;
    exo_status st = read_arch(g, &hp, &s, err);
    if (st == EXO_OK) st = refuse_variants(&s, err);
    if (st == EXO_OK) st = read_sizes(&s, &hp, err);
    if (st == EXO_OK) st = read_vocab(g, &hp, err);
    if (st == EXO_OK) st = read_rope(&s, &hp, err);
    if (st == EXO_OK) st = optional_f32(&s, "attention.layer_norm_rms_epsilon", &hp.norm_eps, err);
    if (st != EXO_OK) return st;
    if (hp.norm_eps == 0) {
        return exo_error_set(err, EXO_EFORMAT,
                             "metadata key %s.attention.layer_norm_rms_epsilon is missing", s.arch);
    }
    bool named = exo_gguf_str(g, "general.name", &name) && name.n > 0;
    copy_name(named ? name : stem, hp.name, sizeof hp.name);
    *out = hp;
    return EXO_OK;
}
