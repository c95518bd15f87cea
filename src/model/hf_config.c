/* hf_config.c - config.json to the keys that a GGUF file of the same model has.
 *
 * Only keys are written here; hparams.c checks their sense, as for any file.  What config.json says
 * and exo would not follow is refused by name. */
#include "model/hf_impl.h"

#include "compute/dmath.h"

#include <stdio.h>
#include <string.h>

/* The keys being written, and where they come from. */
typedef struct {
    const json_t *config;
    const exo_hf_arch *arch;
    exo_gguf_writer *w;
    exo_error *err;
} source;

static const char *key_of(const source *s, const char *suffix, char out[96]) {
    snprintf(out, 96, "%s.%s", s->arch->arch, suffix);
    return out;
}

static bool is_set(const json_t *v) { return v != NULL && !json_is_null(v); }

/* A whole number from 1 to 2^31; *out keeps its value when the member is absent. */
static exo_status get_u32(const source *s, const char *name, bool needed, uint32_t *out) {
    const json_t *v = json_object_get(s->config, name);
    if (!is_set(v) && !needed) return EXO_OK;
    if (!json_is_integer(v) || json_integer_value(v) < 1 || json_integer_value(v) > INT32_MAX) {
        return exo_error_set(s->err, EXO_EFORMAT, "config.json: %s %s", name,
                             is_set(v) ? "is not a whole number above 0" : "is missing");
    }
    *out = (uint32_t)json_integer_value(v);
    return EXO_OK;
}

static exo_status get_number(const source *s, const json_t *from, const char *name, double *out) {
    const json_t *v = json_object_get(from, name);
    if (!is_set(v)) return EXO_OK;
    double d = json_number_value(v);
    if (!json_is_number(v) || !(d > 0 && d < 1e30)) {
        return exo_error_set(s->err, EXO_EFORMAT, "config.json: %s is not a number above 0", name);
    }
    *out = d;
    return EXO_OK;
}

/* ---- refusals ---- */

static exo_status refuse_variants(const source *s) {
    const char *act = json_string_value(json_object_get(s->config, "hidden_act"));
    if (act != NULL && strcmp(act, "silu") != 0 && strcmp(act, "swish") != 0) {
        return exo_error_set(s->err, EXO_EUNSUPPORTED,
                             "config.json: hidden_act %.32s is not "
                             "supported (silu is)",
                             act);
    }
    const json_t *quant = json_object_get(s->config, "quantization_config");
    if (is_set(quant)) {
        const char *method = json_string_value(json_object_get(quant, "quant_method"));
        return exo_error_set(s->err, EXO_EUNSUPPORTED,
                             "weights quantised by \"%.32s\" are not supported: take the model's "
                             "unquantised safetensors, or a GGUF file of it",
                             method != NULL ? method : "quantization_config");
    }
    return EXO_OK;
}

/* ---- sizes ---- */

/* Attention within a window equals full attention as long as the context fits into it. */
static void cap_context(const source *s, uint32_t *context) {
    const json_t *window = json_object_get(s->config, "sliding_window");
    const json_t *use = json_object_get(s->config, "use_sliding_window");
    if (!json_is_integer(window) || json_is_false(use)) return;
    if (use == NULL && strcmp(s->arch->model_type, "mistral") != 0) return;
    json_int_t n = json_integer_value(window);
    if (n > 0 && n < (json_int_t)*context) *context = (uint32_t)n;
}

static exo_status add_sizes(const source *s, uint32_t *head_dim) {
    static const struct {
        const char *theirs, *ours;
    } needed[] = {
        {"num_hidden_layers", "block_count"},
        {"hidden_size", "embedding_length"},
        {"intermediate_size", "feed_forward_length"},
        {"num_attention_heads", "attention.head_count"},
    };
    uint32_t v[4] = {0}, context = 0;
    char key[96];
    for (size_t i = 0; i < 4; i++) {
        exo_status st = get_u32(s, needed[i].theirs, true, &v[i]);
        if (st != EXO_OK) return st;
        exo_gguf_add_u32(s->w, key_of(s, needed[i].ours, key), v[i]);
    }
    uint32_t n_kv = v[3], dim = s->arch->head_dim;
    exo_status st = get_u32(s, "max_position_embeddings", true, &context);
    if (st == EXO_OK) st = get_u32(s, "num_key_value_heads", false, &n_kv);
    if (st == EXO_OK) st = get_u32(s, "head_dim", false, &dim);
    if (st != EXO_OK) return st;
    if (dim == 0 && v[1] % v[3] != 0) {
        return exo_error_set(s->err, EXO_EFORMAT,
                             "config.json: hidden_size %u is no multiple of num_attention_heads %u",
                             v[1], v[3]);
    }
    if (dim == 0) dim = v[1] / v[3];
    cap_context(s, &context);
    exo_gguf_add_u32(s->w, key_of(s, "context_length", key), context);
    exo_gguf_add_u32(s->w, key_of(s, "attention.head_count_kv", key), n_kv);
    exo_gguf_add_u32(s->w, key_of(s, "attention.key_length", key), dim);
    exo_gguf_add_u32(s->w, key_of(s, "attention.value_length", key), dim);
    exo_gguf_add_u32(s->w, key_of(s, "rope.dimension_count", key), dim);
    *head_dim = dim;
    return EXO_OK;
}

/* ---- rotary positions ---- */

/* Newer files have all of it in rope_parameters, older ones in rope_scaling and rope_theta. */
static const json_t *rope_of(const json_t *config) {
    const json_t *p = json_object_get(config, "rope_parameters");
    return json_is_object(p) ? p : json_object_get(config, "rope_scaling");
}

static const char *rope_type(const json_t *rope) {
    const char *type = json_string_value(json_object_get(rope, "rope_type"));
    if (type == NULL) type = json_string_value(json_object_get(rope, "type"));
    return type != NULL ? type : "default";
}

static exo_status add_rope(const source *s) {
    const json_t *rope = rope_of(s->config);
    const char *type = rope_type(rope);
    double theta = 10000, factor = 1, original = 0;
    char key[96];
    exo_status st = get_number(s, s->config, "rope_theta", &theta);
    if (st == EXO_OK) st = get_number(s, rope, "rope_theta", &theta);
    if (st == EXO_OK) st = get_number(s, rope, "factor", &factor);
    if (st == EXO_OK) st = get_number(s, rope, "original_max_position_embeddings", &original);
    if (st != EXO_OK) return st;
    exo_gguf_add_f32(s->w, key_of(s, "rope.freq_base", key), (float)theta);
    bool plain = strcmp(type, "default") == 0 || strcmp(type, "none") == 0;
    if (plain || strcmp(type, "llama3") == 0) return EXO_OK;
    if (strcmp(type, "linear") != 0 && strcmp(type, "yarn") != 0) {
        return exo_error_set(s->err, EXO_EUNSUPPORTED,
                             "config.json: rope type \"%.32s\" is not "
                             "supported (default, linear, llama3 and yarn are)",
                             type);
    }
    exo_gguf_add_str(s->w, key_of(s, "rope.scaling.type", key), type);
    exo_gguf_add_f32(s->w, key_of(s, "rope.scaling.factor", key), (float)factor);
    if (original >= 1 && original < 1e9) {
        exo_gguf_add_u32(s->w, key_of(s, "rope.scaling.original_context_length", key),
                         (uint32_t)original);
    }
    return EXO_OK;
}

static double number_or(const json_t *from, const char *name, double fallback) {
    const json_t *v = json_object_get(from, name);
    double d = json_number_value(v);
    return json_is_number(v) && d > 0 && d < 1e30 ? d : fallback;
}

bool exo_hf_rope_factors(const json_t *config, const exo_hf_arch *a, float *out, uint32_t *n) {
    const json_t *rope = rope_of(config);
    *n = 0;
    if (strcmp(rope_type(rope), "llama3") != 0) return false;
    const double two_pi = 6.283185307179586;
    double theta = number_or(rope, "rope_theta", number_or(config, "rope_theta", 10000));
    double factor = number_or(rope, "factor", 8), low = number_or(rope, "low_freq_factor", 1);
    double high = number_or(rope, "high_freq_factor", 4);
    double context = number_or(rope, "original_max_position_embeddings", 8192);
    double heads = number_or(config, "num_attention_heads", 1);
    double dim = number_or(config, "head_dim",
                           a->head_dim != 0 ? (double)a->head_dim
                                            : number_or(config, "hidden_size", 0) / heads);
    if (dim < 2 || dim > 2.0 * EXO_HF_MAX_ROPE_FACTORS) return false;
    *n = (uint32_t)dim / 2;
    for (uint32_t i = 0; i < *n; i++) {
        double wavelength = two_pi * exo_dpow(theta, 2.0 * i / (2.0 * *n));
        double turns = context / wavelength, by = factor;
        if (turns > high) by = 1;
        if (turns <= high && turns >= low && high > low) {
            double smooth = (turns - low) / (high - low);
            by = 1 / ((1 - smooth) / factor + smooth);
        }
        out[i] = (float)by;
    }
    return true;
}

/* ---- all ---- */

bool exo_hf_is_tied(const json_t *config, const exo_hf_arch *a) {
    const json_t *v = json_object_get(config, "tie_word_embeddings");
    return json_is_boolean(v) ? json_is_true(v) : a->tied;
}

exo_status exo_hf_add_config(const json_t *config, const exo_hf_arch *a, exo_gguf_writer *w,
                             exo_error *err) {
    const source s = {config, a, w, err};
    uint32_t head_dim;
    double eps = 1e-6;
    char key[96];
    exo_gguf_add_str(w, "general.architecture", a->arch);
    exo_gguf_add_str(w, "general.type", "model");
    exo_status st = refuse_variants(&s);
    if (st == EXO_OK) st = add_sizes(&s, &head_dim);
    if (st == EXO_OK) st = get_number(&s, config, "rms_norm_eps", &eps);
    if (st == EXO_OK) st = add_rope(&s);
    if (st != EXO_OK) return st;
    exo_gguf_add_f32(w, key_of(&s, "attention.layer_norm_rms_epsilon", key), (float)eps);
    return EXO_OK;
}
