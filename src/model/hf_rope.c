/* hf_rope.c - rotary positions in config.json: base, scaling, and tables of factors.
 *
 * Newer files have all of it in rope_parameters, older ones in rope_scaling and rope_theta; models
 * with sliding layers have it once for each kind of layer.  What hparams_rope.c does not follow is
 * refused by name. */
#include "model/hf_impl.h"

#include "compute/dmath.h"
#include "model/arch.h"

#include <math.h>
#include <string.h>

static const json_t *rope_of(const json_t *config) {
    const json_t *p = json_object_get(config, "rope_parameters");
    const json_t *full = json_object_get(p, "full_attention");
    if (json_is_object(full)) return full;
    return json_is_object(p) ? p : json_object_get(config, "rope_scaling");
}

static const char *rope_type(const json_t *rope) {
    const char *type = json_string_value(json_object_get(rope, "rope_type"));
    if (type == NULL) type = json_string_value(json_object_get(rope, "type"));
    if (type == NULL) return "default";
    return strcmp(type, "su") == 0 ? "longrope" : type; /* its first name */
}

static const exo_arch_spec *spec_of(const exo_hf_arch *a) {
    return exo_arch_find((exo_str){a->arch, strlen(a->arch)});
}

static bool is_set(const json_t *v) { return v != NULL && !json_is_null(v); }

/* What is of another kind than transformers reads must not pass for absent. */
static exo_status check_kinds(const exo_hf_source *s) {
    static const char *const objects[] = {"rope_parameters", "rope_scaling"};
    for (size_t i = 0; i < 2; i++) {
        const json_t *v = json_object_get(s->config, objects[i]);
        if (!is_set(v) || json_is_object(v)) continue;
        return exo_error_set(s->err, EXO_EFORMAT, "config.json: %s is neither an object nor null",
                             objects[i]);
    }
    const json_t *rope = rope_of(s->config);
    const json_t *type = json_object_get(rope, "rope_type"), *old = json_object_get(rope, "type");
    bool named = json_is_string(type) || (!is_set(type) && json_is_string(old));
    if ((type != NULL || old != NULL) && !named) {
        return exo_error_set(s->err, EXO_EFORMAT, "config.json: %s of rope_scaling is no string",
                             type != NULL ? "rope_type" : "type");
    }
    const json_t *theta = json_object_get(s->config, "rope_theta");
    if (theta == NULL) theta = json_object_get(rope, "rope_theta");
    bool elsewhere = is_set(json_object_get(rope, "rope_theta")) ||
                     is_set(json_object_get(s->config, "rotary_emb_base"));
    if (!json_is_null(theta) || elsewhere || spec_of(s->arch)->rope == EXO_ROPE_NONE) return EXO_OK;
    return exo_error_set(s->err, EXO_EFORMAT, "config.json: rope_theta is null");
}

static bool is(const char *a, const char *b) { return strcmp(a, b) == 0; }

/* How many dimensions of a head are rotated. */
static uint32_t rotated_dims(const json_t *config, const exo_hf_arch *a, uint32_t head_dim) {
    double part = exo_hf_number_or(config, "partial_rotary_factor", 1);
    part = exo_hf_number_or(rope_of(config), "partial_rotary_factor", part);
    double latent = exo_hf_number_or(config, "qk_rope_head_dim", 0);
    if (spec_of(a)->latent) return latent < 1e6 ? (uint32_t)latent : 0;
    return part < 1 ? (uint32_t)((double)head_dim * part) : head_dim;
}

/* Where the context before stretching is said. */
static double original_context(const json_t *config) {
    const char *name = "original_max_position_embeddings";
    return exo_hf_number_or(rope_of(config), name, exo_hf_number_or(config, name, 0));
}

/* ---- keys ---- */

static void add_f32(const exo_hf_source *s, const char *suffix, double v) {
    char key[EXO_HF_KEY_BYTES];
    exo_gguf_add_f32(s->w, exo_hf_key(s, suffix, key), (float)v);
}

static exo_status add_yarn(const exo_hf_source *s, const json_t *rope, double factor) {
    static const struct {
        const char *theirs, *ours;
    } betas[] = {{"beta_fast", "rope.scaling.yarn_beta_fast"},
                 {"beta_slow", "rope.scaling.yarn_beta_slow"}};
    bool latent = spec_of(s->arch)->latent;
    /* gpt-oss is published so; llama.cpp, and exo with it, rounds the ends of the ramp there, too
     */
    bool rounds = !json_is_false(json_object_get(rope, "truncate"));
    if (!rounds && strcmp(s->arch->arch, "gpt-oss") != 0) {
        return exo_error_set(s->err, EXO_EUNSUPPORTED,
                             "config.json: yarn with truncate false is not supported in a %s model",
                             s->arch->model_type);
    }
    double attention = 0, scale = 0, all = 0;
    for (size_t i = 0; i < 2; i++) {
        double v = 0;
        exo_status st = exo_hf_number(s, rope, betas[i].theirs, &v);
        if (st != EXO_OK) return st;
        if (v > 0) add_f32(s, betas[i].ours, v);
    }
    exo_status st = exo_hf_number(s, rope, "attention_factor", &attention);
    if (st == EXO_OK) st = exo_hf_number(s, rope, "mscale", &scale);
    if (st == EXO_OK) st = exo_hf_number(s, rope, "mscale_all_dim", &all);
    if (st != EXO_OK) return st;
    bool equal = scale == all || scale == 0;
    if ((scale > 0 || all > 0) && !(latent && equal)) {
        return exo_error_set(s->err, EXO_EUNSUPPORTED,
                             "config.json: yarn with mscale %g and mscale_all_dim %g is not "
                             "supported in a %s model",
                             scale, all, s->arch->model_type);
    }
    if (all > 0) add_f32(s, "rope.scaling.yarn_log_multiplier", 0.1 * all);
    double usual = factor > 1 ? 1 + 0.1 * exo_dlog(factor) : 1;
    if (attention > 0) add_f32(s, "rope.scaling.yarn_attn_factor", attention / usual);
    return EXO_OK;
}

/* longrope: attention is scaled by how far the context is stretched. */
static exo_status add_longrope(const exo_hf_source *s, const json_t *rope, double context) {
    double original = original_context(s->config), attention = 0;
    exo_status st = exo_hf_number(s, rope, "attention_factor", &attention);
    if (st != EXO_OK) return st;
    static const char *const lists[] = {"long_factor", "short_factor"};
    uint32_t dims = rotated_dims(s->config, s->arch, exo_hf_head_dim(s->config, s->arch));
    for (size_t i = 0; i < 2; i++) {
        size_t n = json_array_size(json_object_get(rope, lists[i]));
        if (n == dims / 2 && n <= EXO_HF_MAX_ROPE_FACTORS) continue;
        return exo_error_set(s->err, EXO_EFORMAT,
                             "config.json: %s of rope_scaling has %zu values, %u rotated "
                             "dimensions ask for %u",
                             lists[i], n, dims, dims / 2);
    }
    if (original < 2) {
        return exo_error_set(s->err, EXO_EFORMAT,
                             "config.json: longrope without original_max_position_embeddings");
    }
    if (attention == 0) { /* the ratio counts where config.json itself has both lengths */
        bool both = exo_hf_number_or(s->config, "original_max_position_embeddings", 0) > 0;
        double by = context / original;
        if (!both) by = exo_hf_number_or(rope, "factor", by);
        attention = by > 1 ? sqrt(1 + exo_dlog(by) / exo_dlog(original)) : 1;
    }
    add_f32(s, "rope.scaling.attn_factor", attention);
    return EXO_OK;
}

/* All of llama3's numbers must be there, as in transformers; fill_llama3 reads them. */
static exo_status check_llama3(const exo_hf_source *s, const json_t *rope) {
    static const char *const names[] = {"factor", "low_freq_factor", "high_freq_factor",
                                        "original_max_position_embeddings"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (exo_hf_number_or(rope, names[i], 0) > 0) continue;
        return exo_error_set(s->err, EXO_EFORMAT,
                             "config.json: rope type llama3 without a %s above 0", names[i]);
    }
    return EXO_OK;
}

static exo_status add_scaling(const exo_hf_source *s, const json_t *rope, uint32_t context) {
    const char *type = rope_type(rope);
    double factor = 1, original = original_context(s->config);
    char key[EXO_HF_KEY_BYTES];
    exo_status st = exo_hf_number(s, rope, "factor", &factor);
    if (st != EXO_OK) return st;
    if (!is(type, "linear") && !is(type, "yarn") && !is(type, "longrope")) {
        return exo_error_set(s->err, EXO_EUNSUPPORTED,
                             "config.json: rope type \"%.32s\" is not supported (default, dynamic, "
                             "linear, llama3, yarn and longrope are)",
                             type);
    }
    if (!is(type, "longrope") && !is_set(json_object_get(rope, "factor"))) {
        return exo_error_set(s->err, EXO_EFORMAT, "config.json: rope type %s without a factor",
                             type);
    }
    exo_gguf_add_str(s->w, exo_hf_key(s, "rope.scaling.type", key), type);
    if (!is(type, "longrope")) add_f32(s, "rope.scaling.factor", factor);
    if (original >= 1 && original < 1e9) {
        exo_gguf_add_u32(s->w, exo_hf_key(s, "rope.scaling.original_context_length", key),
                         (uint32_t)original);
    }
    if (is(type, "yarn")) return add_yarn(s, rope, factor);
    return is(type, "longrope") ? add_longrope(s, rope, context) : EXO_OK;
}

exo_status exo_hf_add_rope(const exo_hf_source *s, uint32_t head_dim, uint32_t context) {
    const json_t *rope = rope_of(s->config);
    const json_t *sliding =
        json_object_get(json_object_get(s->config, "rope_parameters"), "sliding_attention");
    const char *type = rope_type(rope);
    double theta = 10000, local = 0;
    char key[EXO_HF_KEY_BYTES];
    exo_status st = check_kinds(s);
    if (st == EXO_OK) st = exo_hf_number(s, s->config, "rope_theta", &theta);
    if (st == EXO_OK) st = exo_hf_number(s, rope, "rope_theta", &theta);
    if (st == EXO_OK) st = exo_hf_number(s, s->config, "rope_local_base_freq", &local);
    if (st == EXO_OK) st = exo_hf_number(s, sliding, "rope_theta", &local);
    if (st != EXO_OK) return st;
    exo_gguf_add_u32(s->w, exo_hf_key(s, "rope.dimension_count", key),
                     rotated_dims(s->config, s->arch, head_dim));
    add_f32(s, "rope.freq_base", theta);
    if (local > 0) add_f32(s, "rope.freq_base_swa", local);
    /* "dynamic" begins to scale behind max_position_embeddings, where the context ends here */
    if (is(type, "llama3")) return check_llama3(s, rope);
    bool plain = is(type, "default") || is(type, "none") || is(type, "dynamic");
    return plain ? EXO_OK : add_scaling(s, rope, context);
}

/* ---- factors ---- */

static void fill_llama3(const json_t *config, const json_t *rope, exo_hf_factors *out) {
    const double two_pi = 6.283185307179586;
    double theta =
        exo_hf_number_or(rope, "rope_theta", exo_hf_number_or(config, "rope_theta", 1e4));
    double factor = exo_hf_number_or(rope, "factor", 8);
    double low = exo_hf_number_or(rope, "low_freq_factor", 1);
    double high = exo_hf_number_or(rope, "high_freq_factor", 4);
    double context = exo_hf_number_or(rope, "original_max_position_embeddings", 8192);
    for (uint32_t i = 0; i < out->n; i++) {
        double wavelength = two_pi * exo_dpow(theta, 2.0 * i / (2.0 * out->n));
        double turns = context / wavelength, by = factor;
        if (turns > high) by = 1;
        if (turns <= high && turns >= low && high > low) {
            double smooth = (turns - low) / (high - low);
            by = 1 / ((1 - smooth) / factor + smooth);
        }
        out->v[i] = (float)by;
    }
}

bool exo_hf_rope_factors(const json_t *config, const exo_hf_arch *a, int which,
                         exo_hf_factors *out) {
    const json_t *rope = rope_of(config);
    uint32_t head_dim = exo_hf_head_dim(config, a);
    out->n = 0;
    if (head_dim < 2 || head_dim > 2 * EXO_HF_MAX_ROPE_FACTORS) return false;
    if (is(rope_type(rope), "llama3") && which == 0) {
        out->name = "rope_freqs.weight";
        out->n = head_dim / 2;
        fill_llama3(config, rope, out);
        return true;
    }
    if (!is(rope_type(rope), "longrope") || which > 1) return false;
    const json_t *list = json_object_get(rope, which == 0 ? "long_factor" : "short_factor");
    size_t n = json_array_size(list);
    if (n == 0 || n > EXO_HF_MAX_ROPE_FACTORS) return false;
    out->name = which == 0 ? "rope_factors_long.weight" : "rope_factors_short.weight";
    out->n = (uint32_t)n;
    for (size_t i = 0; i < n; i++) {
        out->v[i] = (float)json_number_value(json_array_get(list, i));
    }
    return true;
}
