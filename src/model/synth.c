/* synth.c - a model of random weights, written as one GGUF file.
 *
 * The name of a weight type (q4_0, q4_K, iq2_xxs ...) puts every matrix into that format; that of
 * a mix (q4_K_M, q3_K_S ...; model/mix.h) chooses as llama.cpp does.  A matrix whose rows are no
 * whole blocks becomes q8_0, or f32 when not even of that.  Norms, biases, rope factors and expert
 * routers are f32.
 * Matrices have deviation 1/sqrt(K), embedding and head 2/sqrt(K), so logits have about 2.  Those
 * that write to the residual stream have 3/sqrt(n_layers) times as much: its sum over all layers is
 * about 2 then, large beside the embedding, else a tied head would only repeat the last token.
 * The file is streamed: nothing but one chunk is ever in memory. */
#include "model/synth_impl.h"

#include "base/hash.h"
#include "base/le.h"
#include "base/mem.h"
#include "compute/blocks.h"
#include "compute/dmath.h"
#include "model/mix.h"
#include "model/out_file.h"
#include "model/paths.h"

#include <stdio.h>
#include <string.h>

#define CHUNK_BYTES (4u << 20)
#define NAME_BYTES  64

typedef struct {
    char name[NAME_BYTES];
    uint32_t n_dims;
    uint64_t dims[3]; /* as in the file: dims[0] is K */
    exo_synth_weights weights;
    const uint8_t *bytes; /* given data instead of random; NULL = random */
} tensor;

typedef struct {
    const exo_synth_shape *shape;
    exo_synth_shape own; /* with settings: the shape, changed */
    exo_synth_extra own_extra;
    uint32_t n_layers;
    exo_dtype type;     /* of matrices, or */
    const exo_mix *mix; /* what chooses it; NULL = type */
    uint64_t seed;
    tensor *tensors;
    size_t n, cap;
    bool failed;                   /* out of memory */
    tensor spare;                  /* takes what is said of tensors after that */
    uint8_t rope_factors[4 * 256]; /* little-endian f32 */
} job;

/* ---- which tensors there are ---- */

static tensor *add(job *j, const char *name, uint64_t cols, uint64_t rows) {
    if (j->failed || exo_grow((void **)&j->tensors, &j->cap, j->n + 1, sizeof *j->tensors) != 0) {
        j->failed = true;
        return &j->spare;
    }
    tensor *t = &j->tensors[j->n++];
    *t = (tensor){.n_dims = rows == 0 ? 1 : 2, .dims = {cols, rows == 0 ? 1 : rows, 1}};
    snprintf(t->name, sizeof t->name, "%s", name);
    t->weights.key = exo_hash64(name, strlen(name), j->seed);
    return t;
}

static void add_vector(job *j, const char *name, uint64_t n, float mean, float std) {
    tensor *t = add(j, name, n, 0);
    t->weights.type = EXO_F32;
    t->weights.mean = mean;
    t->weights.std = std;
}

/* A matrix of `type`, or where its rows are no whole blocks, of q8_0 or f32. */
static tensor *add_matrix(job *j, const char *name, uint64_t cols, uint64_t rows, exo_dtype type) {
    const exo_synth_shape *s = j->shape;
    tensor *t = add(j, name, cols, rows);
    if (j->mix != NULL && type == j->type) {
        exo_mix_model m = {j->n_layers, s->n_heads, s->n_kv_heads, s->n_experts, s->tied};
        type = exo_mix_type(j->mix, &m, name, EXO_BLOCK_MAX_ELEMS);
    }
    if (cols % exo_dtype_get(type)->block_elems != 0) type = EXO_Q8_0;
    if (cols % exo_dtype_get(type)->block_elems != 0) type = EXO_F32;
    t->weights.type = type;
    t->weights.std = (float)exo_dpow((double)cols, -0.5);
    return t;
}

static const char *layer_name(char out[NAME_BYTES], uint32_t il, const char *suffix) {
    snprintf(out, NAME_BYTES, "blk.%u.%s", il, suffix);
    return out;
}

static void add_attention(job *j, uint32_t il, float residual) {
    const exo_synth_shape *s = j->shape;
    uint64_t q = (uint64_t)s->n_heads * s->head_dim, kv = (uint64_t)s->n_kv_heads * s->head_dim;
    char name[NAME_BYTES];
    add_vector(j, layer_name(name, il, "attn_norm.weight"), s->n_embd, 1, 0.05f);
    add_matrix(j, layer_name(name, il, "attn_q.weight"), s->n_embd, q, j->type);
    add_matrix(j, layer_name(name, il, "attn_k.weight"), s->n_embd, kv, j->type);
    add_matrix(j, layer_name(name, il, "attn_v.weight"), s->n_embd, kv, j->type);
    add_matrix(j, layer_name(name, il, "attn_output.weight"), q, s->n_embd, j->type)->weights.std *=
        residual;
    if (strcmp(s->arch, "qwen2") == 0) {
        add_vector(j, layer_name(name, il, "attn_q.bias"), q, 0, 0.2f);
        add_vector(j, layer_name(name, il, "attn_k.bias"), kv, 0, 0.2f);
        add_vector(j, layer_name(name, il, "attn_v.bias"), kv, 0, 0.2f);
    } else if (strncmp(s->arch, "qwen3", 5) == 0) {
        add_vector(j, layer_name(name, il, "attn_q_norm.weight"), s->head_dim, 1, 0.05f);
        add_vector(j, layer_name(name, il, "attn_k_norm.weight"), s->head_dim, 1, 0.05f);
    }
}

static void add_experts(job *j, uint32_t il, float residual) {
    const exo_synth_shape *s = j->shape;
    char name[NAME_BYTES];
    add_matrix(j, layer_name(name, il, "ffn_gate_inp.weight"), s->n_embd, s->n_experts, EXO_F32);
    static const char *const suffixes[] = {"ffn_gate_exps.weight", "ffn_up_exps.weight",
                                           "ffn_down_exps.weight"};
    for (int i = 0; i < 3; i++) {
        bool down = i == 2;
        tensor *t = add_matrix(j, layer_name(name, il, suffixes[i]), down ? s->n_ff : s->n_embd,
                               down ? s->n_embd : s->n_ff, j->type);
        t->n_dims = 3;
        t->dims[2] = s->n_experts;
        if (down) t->weights.std *= residual;
    }
}

static void add_layer(job *j, uint32_t il) {
    const exo_synth_shape *s = j->shape;
    char name[NAME_BYTES];
    float residual = 3 * (float)exo_dpow((double)j->n_layers, -0.5);
    add_attention(j, il, residual);
    add_vector(j, layer_name(name, il, "ffn_norm.weight"), s->n_embd, 1, 0.05f);
    if (s->n_experts > 0) {
        add_experts(j, il, residual);
        return;
    }
    add_matrix(j, layer_name(name, il, "ffn_gate.weight"), s->n_embd, s->n_ff, j->type);
    add_matrix(j, layer_name(name, il, "ffn_up.weight"), s->n_embd, s->n_ff, j->type);
    add_matrix(j, layer_name(name, il, "ffn_down.weight"), s->n_ff, s->n_embd, j->type)
        ->weights.std *= residual;
}

/* Llama 3.1's scaling: slow rotations are divided by the factor, fast ones kept, and those between
 * blended; constants low_freq_factor 1, high_freq_factor 4, original context 8192. */
static void add_rope_factors(job *j) {
    const exo_synth_shape *s = j->shape;
    const double two_pi = 6.283185307179586, context = 8192, low = 1, high = 4;
    for (uint32_t i = 0; i < s->head_dim / 2; i++) {
        double wavelength = two_pi * exo_dpow((double)s->rope_base, 2.0 * i / s->head_dim);
        double turns = context / wavelength, factor = (double)s->rope_factor;
        if (turns > high) factor = 1;
        if (turns <= high && turns >= low) {
            double smooth = (turns - low) / (high - low);
            factor = 1 / ((1 - smooth) / factor + smooth);
        }
        exo_put_f32(j->rope_factors + 4 * (size_t)i, (float)factor);
    }
    tensor *t = add(j, "rope_freqs.weight", s->head_dim / 2, 0);
    t->weights.type = EXO_F32;
    t->bytes = j->rope_factors;
}

static void sink_vector(void *ud, const char *name, const uint64_t dims[2], float mean, float std) {
    add_vector(ud, name, dims[0], mean, std);
    job *j = ud;
    if (j->failed || dims[1] == 1) return;
    j->tensors[j->n - 1].n_dims = 2;
    j->tensors[j->n - 1].dims[1] = dims[1];
}

static void sink_matrix(void *ud, const char *name, const uint64_t dims[3], float factor,
                        bool plain) {
    job *j = ud;
    tensor *t = add_matrix(j, name, dims[0], dims[1], plain ? EXO_F32 : j->type);
    t->weights.std *= factor;
    t->dims[2] = dims[2];
    if (dims[2] > 1) t->n_dims = 3;
}

static void add_tensors(job *j) {
    const exo_synth_shape *s = j->shape;
    if (s->extra != NULL) {
        exo_synth_extra_tensors(s, j->n_layers, &(exo_synth_sink){j, sink_vector, sink_matrix});
        return;
    }
    add_matrix(j, "token_embd.weight", s->n_embd, s->n_vocab, j->type)->weights.std *= 2;
    if (s->rope_factor > 0) add_rope_factors(j);
    for (uint32_t il = 0; il < j->n_layers; il++) add_layer(j, il);
    add_vector(j, "output_norm.weight", s->n_embd, 1, 0.05f);
    if (!s->tied) {
        add_matrix(j, "output.weight", s->n_embd, s->n_vocab, j->type)->weights.std *= 2;
    }
}

/* ---- metadata ---- */

static uint32_t file_type(const job *j) { /* general.file_type, as llama.cpp numbers it */
    static const uint8_t of_type[EXO_DTYPE_LIMIT] = {
        [EXO_F32] = 0,      [EXO_F16] = 1,     [EXO_Q4_0] = 2,   [EXO_Q4_1] = 3,
        [EXO_Q8_0] = 7,     [EXO_Q5_0] = 8,    [EXO_Q5_1] = 9,   [EXO_Q2_K] = 10,
        [EXO_Q3_K] = 11,    [EXO_Q4_K] = 14,   [EXO_Q5_K] = 16,  [EXO_Q6_K] = 18,
        [EXO_IQ2_XXS] = 19, [EXO_IQ2_XS] = 20, [EXO_IQ1_S] = 24, [EXO_IQ3_XXS] = 23,
        [EXO_IQ4_NL] = 25,  [EXO_IQ3_S] = 26,  [EXO_IQ2_S] = 28, [EXO_IQ4_XS] = 30,
        [EXO_IQ1_M] = 31,   [EXO_BF16] = 32,   [EXO_MXFP4] = 38,
    };
    return j->mix != NULL ? j->mix->file_type : of_type[j->type];
}

static void add_u32(exo_gguf_writer *w, const char *arch, const char *suffix, uint32_t v) {
    char key[NAME_BYTES];
    snprintf(key, sizeof key, "%s.%s", arch, suffix);
    exo_gguf_add_u32(w, key, v);
}

static void add_f32(exo_gguf_writer *w, const char *arch, const char *suffix, float v) {
    char key[NAME_BYTES];
    snprintf(key, sizeof key, "%s.%s", arch, suffix);
    exo_gguf_add_f32(w, key, v);
}

static void add_metadata(const job *j, exo_gguf_writer *w) {
    const exo_synth_shape *s = j->shape;
    char title[NAME_BYTES];
    snprintf(title, sizeof title, "synthetic %s", s->name);
    exo_gguf_add_str(w, "general.architecture", s->arch);
    exo_gguf_add_str(w, "general.type", "model");
    exo_gguf_add_str(w, "general.name", title);
    exo_gguf_add_u32(w, "general.file_type", file_type(j));
    exo_gguf_add_u32(w, "general.quantization_version", 2);
    add_u32(w, s->arch, "block_count", j->n_layers);
    add_u32(w, s->arch, "context_length", s->ctx);
    add_u32(w, s->arch, "embedding_length", s->n_embd);
    bool dense = s->extra != NULL && s->extra->n_ff_dense > 0;
    add_u32(w, s->arch, "feed_forward_length", dense ? s->extra->n_ff_dense : s->n_ff);
    add_u32(w, s->arch, "attention.head_count", s->n_heads);
    add_u32(w, s->arch, "attention.head_count_kv", s->n_kv_heads);
    if (s->extra != NULL) {
        exo_synth_extra_metadata(s, w);
    } else {
        add_u32(w, s->arch, "attention.key_length", s->head_dim);
        add_u32(w, s->arch, "attention.value_length", s->head_dim);
        add_f32(w, s->arch, "attention.layer_norm_rms_epsilon", s->norm_eps);
        add_u32(w, s->arch, "rope.dimension_count", s->head_dim);
    }
    add_f32(w, s->arch, "rope.freq_base", s->rope_base);
    add_u32(w, s->arch, "vocab_size", s->n_vocab);
    if (s->n_experts > 0) {
        add_u32(w, s->arch, "expert_count", s->n_experts);
        add_u32(w, s->arch, "expert_used_count", s->n_experts_used);
        add_u32(w, s->arch, "expert_feed_forward_length", s->n_ff);
    }
    exo_synth_add_vocab(w, s->n_vocab, strncmp(s->arch, "qwen", 4) == 0);
}

/* ---- writing ---- */

static exo_status put_tensor(exo_out_file *o, const tensor *t, uint8_t *chunk, exo_error *err) {
    static const uint8_t zeros[EXO_GGUF_ALIGNMENT];
    const exo_dtype_info *info = exo_dtype_get(t->weights.type);
    uint64_t n_blocks = t->dims[0] * t->dims[1] * t->dims[2] / info->block_elems;
    uint64_t bytes = n_blocks * info->block_bytes;
    exo_status st = t->bytes != NULL ? exo_out_file_put(o, t->bytes, (size_t)bytes, err) : EXO_OK;
    uint64_t per_chunk = CHUNK_BYTES / info->block_bytes;
    for (uint64_t i = 0; t->bytes == NULL && i < n_blocks && st == EXO_OK; i += per_chunk) {
        size_t n = (size_t)(n_blocks - i < per_chunk ? n_blocks - i : per_chunk);
        exo_synth_fill(&t->weights, i, n, chunk);
        st = exo_out_file_put(o, chunk, n * info->block_bytes, err);
    }
    if (st == EXO_OK)
        st = exo_out_file_put(o, zeros, (size_t)(exo_gguf_padded(bytes) - bytes), err);
    return st;
}

static exo_status write_all(const job *j, const exo_buf *head, exo_out_file *o, exo_error *err) {
    uint8_t *chunk = exo_malloc(CHUNK_BYTES);
    if (chunk == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for a chunk");
    exo_status st = exo_out_file_put(o, head->data, head->n, err);
    for (size_t i = 0; i < j->n && st == EXO_OK; i++)
        st = put_tensor(o, &j->tensors[i], chunk, err);
    exo_free(chunk);
    return st;
}

/* ---- the whole ---- */

static exo_status apply_settings(const exo_synth_desc *desc, job *j, exo_error *err) {
    if (desc->n_settings == 0) return EXO_OK;
    j->own = *j->shape;
    if (j->own.extra != NULL) j->own_extra = *j->own.extra;
    exo_status st = exo_synth_set(&j->own, &j->own_extra, desc->settings, desc->n_settings, err);
    if (j->own.extra != NULL) j->own.extra = &j->own_extra;
    j->shape = &j->own;
    return st;
}

static exo_status parse_desc(const exo_synth_desc *desc, job *j, exo_error *err) {
    j->shape = desc->shape != NULL ? exo_synth_find_shape(desc->shape) : NULL;
    if (j->shape == NULL) {
        return exo_error_set(err, EXO_EINVAL, "unknown shape \"%.64s\"",
                             desc->shape != NULL ? desc->shape : "");
    }
    exo_status st = apply_settings(desc, j, err);
    if (st != EXO_OK) return st;
    const char *type = desc->type != NULL ? desc->type : "";
    bool found = exo_dtype_parse(type, &j->type) == EXO_OK;
    if (!found && (j->mix = exo_mix_find(type)) != NULL) {
        j->type = j->mix->base;
        found = true;
    }
    if (!found || !exo_synth_fills(j->type)) {
        return exo_error_set(err, EXO_EINVAL, "unknown type \"%.64s\" (%s)", type, EXO_SYNTH_TYPES);
    }
    if (desc->n_layers > j->shape->n_layers) {
        return exo_error_set(err, EXO_EINVAL, "%u layers, but %s has %u", desc->n_layers,
                             j->shape->name, j->shape->n_layers);
    }
    j->n_layers = desc->n_layers != 0 ? desc->n_layers : j->shape->n_layers;
    j->seed = desc->seed;
    return EXO_OK;
}

exo_status exo_synth_write(const exo_synth_desc *desc, const char *path, exo_progress_fn progress,
                           void *ud, exo_error *err) {
    job j = {0};
    exo_gguf_writer w = {0};
    exo_buf head = {0};
    exo_status st = parse_desc(desc, &j, err);
    if (st != EXO_OK) return st;
    add_tensors(&j);
    add_metadata(&j, &w);
    for (size_t i = 0; i < j.n; i++) {
        const tensor *t = &j.tensors[i];
        exo_gguf_add_tensor(&w, t->name, t->weights.type, t->n_dims, t->dims);
    }
    exo_gguf_writer_head(&w, &head);
    exo_out_file o = {.progress = progress, .ud = ud};
    uint64_t total = head.n + w.data_bytes;
    exo_gguf_writer_finish(&w);
    if (j.failed || !exo_buf_ok(&head)) {
        st =
            exo_error_set(err, EXO_ENOMEM, "out of memory for the head of %s", exo_path_tail(path));
    } else {
        st = exo_out_file_begin(&o, path, total, err);
        if (st == EXO_OK) st = exo_out_file_end(&o, write_all(&j, &head, &o, err), err);
    }
    exo_buf_finish(&head);
    exo_free(j.tensors);
    return st;
}
