/* hparams.c - what the metadata of the supported architectures say, checked for sense.
 *
 * Owns the metadata keys that all architectures share; arch.c has what sets them apart.  A key that
 * would change the computation in a way exo does not follow is refused by name, so that no model
 * runs wrongly in silence. Source of keys and defaults: llama.cpp. Knows nothing of devices; shapes
 * are model_tensors.c's. */
#include "model/arch.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include <utf8proc.h>

#define MAX_WIDTH   (1u << 20) /* of the residual stream and the feed-forward layer */
#define MAX_HEADS   4096
#define MAX_CONTEXT (1u << 30)

/* ---- architecture ---- */

static exo_status read_arch(const exo_gguf *g, exo_hparams *hp, exo_arch_source *s,
                            exo_error *err) {
    exo_str name;
    if (!exo_gguf_str(g, "general.architecture", &name)) {
        return exo_error_set(err, EXO_EFORMAT, "metadata key general.architecture is missing");
    }
    hp->arch = exo_arch_find(name);
    if (hp->arch == NULL) {
        const char *missing = exo_arch_missing(name);
        return exo_error_set(err, EXO_EUNSUPPORTED,
                             "architecture '%.*s' is not supported%s%s (docs/architecture.md lists "
                             "those that are)",
                             (int)(name.n < 40 ? name.n : 40), name.s,
                             missing != NULL ? ": exo has no " : "",
                             missing != NULL ? missing : "");
    }
    *s = (exo_arch_source){g, hp->arch->name};
    hp->rope_neox = hp->arch->rope == EXO_ROPE_NEOX;
    hp->qk_norm = hp->arch->qk_norm;
    hp->bidirectional = hp->arch->encoder;
    hp->activation =
        hp->arch->activation != EXO_EPILOGUE_STORE ? hp->arch->activation : EXO_EPILOGUE_SILU_MUL;
    return EXO_OK;
}

/* Settings that change the computation, and the bit of those that some architectures follow. */
static exo_status refuse_variants(const exo_arch_source *s, const exo_arch_spec *arch,
                                  exo_error *err) {
    static const struct {
        const char *suffix;
        unsigned key;
    } variants[] = {
        {"expert_count", EXO_KEY_EXPERTS},
        {"attention.scale", EXO_KEY_ATTN_SCALE},
        {"attention.clamp_kqv", 0},
        {"logit_scale", EXO_KEY_LOGIT_SCALE},
        {"attention.max_alibi_bias", 0},
        {"attn_logit_softcapping", EXO_KEY_ATTN_SOFTCAP},
        {"residual_scale", EXO_KEY_RESIDUAL_SCALE},
        {"final_logit_softcapping", EXO_KEY_LOGIT_SOFTCAP},
        {"embedding_scale", EXO_KEY_EMBEDDING_SCALE},
        {"attention.value_residual", 0},
        {"attention.temperature_scale", 0},
        {"nextn_predict_layers", EXO_KEY_NEXTN},
        {"attention.shared_kv_layers", 0},
    };
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
        char key[EXO_KEY_BYTES];
        uint32_t u;
        float f;
        bool flag;
        exo_arch_key(s, variants[i].suffix, key);
        bool none = !exo_gguf_has(s->g, key) || (exo_gguf_u32(s->g, key, &u) && u == 0) ||
                    (exo_gguf_f32(s->g, key, &f) && f == 0) ||
                    (exo_gguf_bool(s->g, key, &flag) && !flag);
        if (!none && (variants[i].key & arch->keys) == 0) {
            return exo_error_set(err, EXO_EUNSUPPORTED, "a %s model with %s is not supported",
                                 s->arch, key);
        }
    }
    return EXO_OK;
}

/* Which side of itself a token sees is the architecture's; a file may only say the same. */
static exo_status check_causal(const exo_arch_source *s, const exo_arch_spec *arch,
                               exo_error *err) {
    bool causal = !arch->encoder;
    exo_status st = exo_arch_bool(s, "attention.causal", &causal, err);
    if (st != EXO_OK || causal == !arch->encoder) return st;
    return exo_error_set(err, EXO_EUNSUPPORTED,
                         "a %s model with %s.attention.causal %s is not "
                         "supported",
                         s->arch, s->arch, causal ? "true" : "false");
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

/* All layers share one shape of pages. */
static exo_status check_sliding_heads(const exo_arch_source *s, const exo_hparams *hp,
                                      exo_error *err) {
    const struct {
        const char *suffix;
        uint32_t used;
    } lengths[] = {{"attention.key_length_swa", hp->head_dim},
                   {"attention.value_length_swa", hp->v_dim}};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        uint32_t said = lengths[i].used;
        exo_status st = exo_arch_any_u32(s, lengths[i].suffix, &said, err);
        if (st != EXO_OK) return st;
        if (said == lengths[i].used) continue;
        return exo_error_set(err, EXO_EUNSUPPORTED,
                             "%s.%s is %u, but heads of other layers have %u: that is not "
                             "supported",
                             s->arch, lengths[i].suffix, said, lengths[i].used);
    }
    return EXO_OK;
}

static exo_status read_heads(const exo_arch_source *s, exo_hparams *hp, exo_error *err) {
    hp->n_kv_heads = hp->n_heads;
    exo_status st = exo_arch_u32(s, "attention.head_count_kv", MAX_HEADS, &hp->n_kv_heads, err);
    if (st != EXO_OK) return st;
    if (hp->n_heads % hp->n_kv_heads != 0) {
        return exo_error_set(err, EXO_EFORMAT,
                             "%s.attention.head_count %u is not a multiple of head_count_kv %u",
                             s->arch, hp->n_heads, hp->n_kv_heads);
    }
    char key[EXO_KEY_BYTES];
    bool own_head_dim = exo_gguf_has(s->g, exo_arch_key(s, "attention.key_length", key));
    if (!own_head_dim && hp->n_embd % hp->n_heads != 0) {
        return exo_error_set(err, EXO_EFORMAT,
                             "%s.embedding_length %u is not a multiple of attention.head_count %u",
                             s->arch, hp->n_embd, hp->n_heads);
    }
    hp->head_dim = hp->n_embd / hp->n_heads;
    st = exo_arch_u32(s, "attention.key_length", MAX_WIDTH, &hp->head_dim, err);
    if (st != EXO_OK) return st;
    hp->v_dim = hp->head_dim;
    st = exo_arch_u32(s, "attention.value_length", MAX_WIDTH, &hp->v_dim, err);
    if (st != EXO_OK) return st;
    if (hp->head_dim > EXO_MAX_HEAD_DIM || hp->v_dim > EXO_MAX_HEAD_DIM) {
        return exo_error_set(err, EXO_EUNSUPPORTED,
                             "heads of %u dimensions, at most %d are supported",
                             hp->head_dim > hp->v_dim ? hp->head_dim : hp->v_dim, EXO_MAX_HEAD_DIM);
    }
    hp->attn_scale = 1.0f / sqrtf((float)hp->head_dim);
    return (hp->arch->keys & EXO_KEY_WINDOW) != 0 ? check_sliding_heads(s, hp, err) : EXO_OK;
}

/* Layers at the end that guess tokens after the next are left alone, as llama.cpp does. */
static exo_status leave_out_layers(const exo_arch_source *s, exo_hparams *hp, exo_error *err) {
    char key[EXO_KEY_BYTES];
    uint32_t n = 0;
    exo_status st = exo_arch_any_u32(s, "nextn_predict_layers", &n, err);
    if (st != EXO_OK) return st;
    exo_arch_key(s, "nextn_predict_layers", key);
    if (n >= hp->n_layers) {
        return exo_error_set(err, EXO_EFORMAT, "%s is %u of %s.block_count %u layers", key, n,
                             s->arch, hp->n_layers);
    }
    hp->n_layers -= n;
    hp->n_unused_layers = n;
    return EXO_OK;
}

static exo_status read_sizes(const exo_arch_source *s, exo_hparams *hp, exo_error *err) {
    exo_status st = exo_arch_need_u32(s, "block_count", EXO_MAX_LAYERS, &hp->n_layers, err);
    if (st == EXO_OK) st = leave_out_layers(s, hp, err);
    if (st == EXO_OK) st = exo_arch_need_u32(s, "embedding_length", MAX_WIDTH, &hp->n_embd, err);
    if (st == EXO_OK) st = exo_arch_need_u32(s, "feed_forward_length", MAX_WIDTH, &hp->n_ff, err);
    if (st == EXO_OK) {
        st = exo_arch_need_u32(s, "attention.head_count", MAX_HEADS, &hp->n_heads, err);
    }
    if (st == EXO_OK) {
        st = exo_arch_need_u32(s, "context_length", MAX_CONTEXT, &hp->ctx_train, err);
    }
    return st == EXO_OK ? read_heads(s, hp, err) : st;
}

/* Scales and caps; refuse_variants has seen to it that an architecture knows those that are set. */
static exo_status read_scales(const exo_arch_source *s, exo_hparams *hp, exo_error *err) {
    const struct {
        const char *suffix;
        float *to;
    } scales[] = {
        {"attention.scale", &hp->attn_scale},
        {"embedding_scale", &hp->embedding_scale},
        {"residual_scale", &hp->residual_scale},
        {"logit_scale", &hp->logit_scale},
        {"attn_logit_softcapping", &hp->attn_softcap},
        {"final_logit_softcapping", &hp->logit_softcap},
    };
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++) {
        char key[EXO_KEY_BYTES];
        float v;
        exo_arch_key(s, scales[i].suffix, key);
        if (exo_gguf_f32(s->g, key, &v) && v == 0) continue; /* how files say "none" */
        exo_status st = exo_arch_f32(s, scales[i].suffix, scales[i].to, err);
        if (st != EXO_OK) return st;
    }
    if (hp->arch->logit_scale_divides && hp->logit_scale != 0) {
        hp->logit_scale = 1.0f / hp->logit_scale;
    }
    const char *eps = hp->arch->norm == EXO_NORM_LAYER ? "attention.layer_norm_epsilon"
                                                       : "attention.layer_norm_rms_epsilon";
    exo_status st = exo_arch_f32(s, eps, &hp->norm_eps, err);
    if (st == EXO_OK && hp->norm_eps == 0) {
        return exo_error_set(err, EXO_EFORMAT, "metadata key %s.%s is missing", s->arch, eps);
    }
    return st;
}

/* ---- which layers are unlike the others ---- */

/* The period as a number, or an array with one flag per layer. */
static exo_status read_pattern(const exo_arch_source *s, exo_hparams *hp, exo_error *err) {
    char key[EXO_KEY_BYTES];
    exo_gguf_type type;
    size_t n;
    uint32_t period = hp->arch->slide_period;
    exo_arch_key(s, "attention.sliding_window_pattern", key);
    if (exo_gguf_array(s->g, key, &type, &n)) {
        for (uint32_t il = 0; il < hp->n_layers; il++) {
            int64_t slides;
            if (n != hp->n_layers + hp->n_unused_layers ||
                !exo_gguf_array_i64(s->g, key, il, &slides)) {
                return exo_error_set(err, EXO_EFORMAT, "%s has %zu entries for %u layers", key, n,
                                     hp->n_layers);
            }
            hp->sliding[il] = slides != 0;
        }
        return EXO_OK;
    }
    exo_status st = exo_arch_u32(s, "attention.sliding_window_pattern", MAX_HEADS, &period, err);
    for (uint32_t il = 0; st == EXO_OK && il < hp->n_layers; il++) {
        hp->sliding[il] = il % period < period - 1;
    }
    return st;
}

static exo_status read_layers(const exo_arch_source *s, exo_hparams *hp, exo_error *err) {
    uint32_t unrotated = hp->arch->unrotated_period;
    for (uint32_t il = 0; unrotated > 0 && il < hp->n_layers; il++) {
        hp->unrotated[il] = il % unrotated == unrotated - 1;
    }
    if ((hp->arch->keys & EXO_KEY_WINDOW) == 0) return EXO_OK;
    char key[EXO_KEY_BYTES];
    uint32_t zero;
    exo_arch_key(s, "attention.sliding_window", key);
    if (exo_gguf_u32(s->g, key, &zero) && zero == 0) return EXO_OK;
    hp->window = hp->arch->window;
    exo_status st = exo_arch_u32(s, "attention.sliding_window", MAX_CONTEXT, &hp->window, err);
    if (st == EXO_OK && hp->window > 0) st = read_pattern(s, hp, err);
    for (uint32_t il = 0; hp->window > 0 && hp->arch->full_unrotated && il < hp->n_layers; il++) {
        hp->unrotated[il] = !hp->sliding[il];
    }
    return st;
}

static exo_status read_pooling(const exo_arch_source *s, exo_hparams *hp, exo_error *err) {
    char key[EXO_KEY_BYTES];
    uint32_t kind = hp->arch->encoder ? EXO_POOL_MEAN : EXO_POOL_NONE;
    exo_status st = exo_arch_any_u32(s, "pooling_type", &kind, err);
    if (st != EXO_OK) return st;
    exo_arch_key(s, "pooling_type", key);
    if (kind > EXO_POOL_LAST) {
        return exo_error_set(err, EXO_EUNSUPPORTED,
                             "%s is %u: only none, mean, cls and last (0 to 3) are known", key,
                             kind);
    }
    hp->pooling = (exo_pooling)kind;
    return EXO_OK;
}

static exo_status read_vocab(const exo_arch_source *s, exo_hparams *hp, exo_error *err) {
    const exo_gguf *g = s->g;
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
    char key[EXO_KEY_BYTES];
    uint32_t said = hp->n_vocab;
    exo_status st = exo_arch_any_u32(s, "vocab_size", &said, err);
    if (st != EXO_OK) return st;
    if (said != hp->n_vocab) {
        exo_arch_key(s, "vocab_size", key);
        return exo_error_set(err, EXO_EFORMAT, "%s is %u, but token_embd.weight has %u rows", key,
                             said, hp->n_vocab);
    }
    hp->tied_head = exo_gguf_find(g, "output.weight") == NULL;
    hp->qkv_bias = exo_gguf_find(g, "blk.0.attn_q.bias") != NULL ||
                   exo_gguf_find(g, "blk.0.attn_qkv.bias") != NULL;
    if (hp->arch->qk_norm_optional && exo_gguf_find(g, "blk.0.attn_q_norm.weight") == NULL) {
        hp->qk_norm = EXO_QK_NORM_NONE;
    }
    if (hp->arch->qkv_bias && !hp->qkv_bias) {
        return exo_error_set(err, EXO_EFORMAT, "tensor blk.0.attn_q.bias is missing");
    }
    return EXO_OK;
}

/* ---- all ---- */

exo_status exo_hparams_read(const exo_gguf *g, exo_str stem, exo_hparams *out, exo_error *err) {
    exo_hparams hp = {0};
    exo_arch_source s = {g, ""};
    exo_str name;
    *out = hp;
    exo_status st = read_arch(g, &hp, &s, err);
    if (st == EXO_OK) st = refuse_variants(&s, hp.arch, err);
    if (st == EXO_OK) st = check_causal(&s, hp.arch, err);
    if (st == EXO_OK) st = read_sizes(&s, &hp, err);
    if (st == EXO_OK) st = read_vocab(&s, &hp, err);
    if (st == EXO_OK) st = read_scales(&s, &hp, err);
    if (st == EXO_OK) st = read_layers(&s, &hp, err);
    if (st == EXO_OK) st = read_pooling(&s, &hp, err);
    if (st == EXO_OK && hp.arch->read != NULL) st = hp.arch->read(&s, &hp, err);
    if (st == EXO_OK) st = exo_hparams_read_rope(&s, &hp, err);
    if (st == EXO_OK) st = exo_hparams_read_experts(&s, &hp, err);
    if (st != EXO_OK) return st;
    bool named = exo_gguf_str(g, "general.name", &name) && name.n > 0;
    copy_name(named ? name : stem, hp.name, sizeof hp.name);
    *out = hp;
    return EXO_OK;
}
