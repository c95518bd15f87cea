/* hf_config.c - config.json to the keys that a GGUF file of the same model has.
 *
 * Only keys are written here; hparams.c checks their sense, as for any file.  What config.json says
 * and exo would not follow is refused by name.  Rotary positions are hf_rope.c's. */
#include "model/hf_impl.h"

#include "model/arch.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const char *exo_hf_key(const exo_hf_source *s, const char *suffix, char out[EXO_HF_KEY_BYTES]) {
    snprintf(out, EXO_HF_KEY_BYTES, "%s.%s", s->arch->arch, suffix);
    return out;
}

static bool is_set(const json_t *v) { return v != NULL && !json_is_null(v); }

static const exo_arch_spec *spec_of(const exo_hf_arch *a) {
    return exo_arch_find((exo_str){a->arch, strlen(a->arch)});
}

/* A member under the name that most models have for it, or under another. */
static const json_t *member(const json_t *from, const char *name) {
    static const struct {
        const char *name, *other;
    } others[] = {
        {"num_hidden_layers", "n_layer"},
        {"num_hidden_layers", "num_layers"},
        {"hidden_size", "n_embd"},
        {"num_attention_heads", "n_head"},
        {"intermediate_size", "n_inner"},
        {"max_position_embeddings", "max_trained_positions"},
        {"max_position_embeddings", "n_positions"},
        {"rope_theta", "rotary_emb_base"},
        {"partial_rotary_factor", "rotary_emb_fraction"},
        {"rms_norm_eps", "layer_norm_epsilon"},
    };
    const json_t *v = json_object_get(from, name);
    for (size_t i = 0; !is_set(v) && i < sizeof others / sizeof *others; i++) {
        if (strcmp(others[i].name, name) == 0) v = json_object_get(from, others[i].other);
    }
    return v;
}

/* A whole number from 1 to 2^31; *out keeps its value when the member is absent. */
static exo_status get_u32(const exo_hf_source *s, const char *name, bool needed, uint32_t *out) {
    const json_t *v = member(s->config, name);
    if (!is_set(v) && !needed) return EXO_OK;
    if (!json_is_integer(v) || json_integer_value(v) < 1 || json_integer_value(v) > INT32_MAX) {
        return exo_error_set(s->err, EXO_EFORMAT, "config.json: %s %s", name,
                             is_set(v) ? "is not a whole number above 0" : "is missing");
    }
    *out = (uint32_t)json_integer_value(v);
    return EXO_OK;
}

exo_status exo_hf_number(const exo_hf_source *s, const json_t *from, const char *name,
                         double *out) {
    const json_t *v = member(from, name);
    if (!is_set(v)) return EXO_OK;
    double d = json_number_value(v);
    if (!json_is_number(v) || !(d > 0 && d < 1e30)) {
        return exo_error_set(s->err, EXO_EFORMAT, "config.json: %s is not a number above 0", name);
    }
    *out = d;
    return EXO_OK;
}

double exo_hf_number_or(const json_t *from, const char *name, double fallback) {
    const json_t *v = member(from, name);
    double d = json_number_value(v);
    return json_is_number(v) && d > 0 && d < 1e30 ? d : fallback;
}

static void add_u32(const exo_hf_source *s, const char *suffix, uint32_t v) {
    char key[EXO_HF_KEY_BYTES];
    exo_gguf_add_u32(s->w, exo_hf_key(s, suffix, key), v);
}

static void add_f32(const exo_hf_source *s, const char *suffix, double v) {
    char key[EXO_HF_KEY_BYTES];
    exo_gguf_add_f32(s->w, exo_hf_key(s, suffix, key), (float)v);
}

/* ---- refusals ---- */

static bool is_gelu(const char *name) { return strncmp(name, "gelu", 4) == 0; }

static exo_status check_activation(const exo_hf_source *s) {
    static const char *const members[] = {"hidden_activation", "hidden_act", "activation_function"};
    exo_epilogue own = spec_of(s->arch)->activation;
    bool gelu = own == EXO_EPILOGUE_GELU || own == EXO_EPILOGUE_GELU_MUL;
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        const json_t *v = json_object_get(s->config, members[i]);
        const char *act = json_string_value(v);
        if (!is_set(v)) continue;
        if (act == NULL) {
            return exo_error_set(s->err, EXO_EFORMAT, "config.json: %s is not a string",
                                 members[i]);
        }
        bool silu = strcmp(act, "silu") == 0 || strcmp(act, "swish") == 0 ||
                    (strcmp(act, "swiglu") == 0 && spec_of(s->arch)->encoder);
        if (gelu ? is_gelu(act) : silu) return EXO_OK;
        return exo_error_set(s->err, EXO_EUNSUPPORTED,
                             "config.json: %s %.32s is not supported in a %s model (%s is)",
                             members[i], act, s->arch->model_type, gelu ? "gelu" : "silu");
    }
    return EXO_OK;
}

/* Absent, false, empty, or the number that goes without saying. */
static bool is_plain(const json_t *v, double plain) {
    if (!is_set(v) || json_is_false(v)) return true;
    if (json_is_array(v)) return json_array_size(v) == 0;
    return json_is_number(v) && json_number_value(v) == plain;
}

static exo_status refuse_variants(const exo_hf_source *s) {
    static const struct {
        const char *name;
        double plain;
    } members[] = {
        {"mlp_only_layers", 0},
        {"decoder_sparse_step", 1},
        {"moe_layer_freq", 1},
        {"rotary_scaling_factor", 0},
        {"prenorm", 0},
        {"rotary_emb_interleaved", 0},
        {"moe_every_n_layers", 0},
        {"use_qk_norm", 0},
        {"clip_qkv", 0},
        {"use_parallel_residual", 0},
        {"no_rope_layer_interval", 4},
        {"use_bidirectional_attention", 0},
        {"swiglu_limit", 7},
        {"swiglu_alpha", 1.702},
    };
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        if (is_plain(json_object_get(s->config, members[i].name), members[i].plain)) continue;
        return exo_error_set(s->err, EXO_EUNSUPPORTED,
                             "config.json: this value of %s is not supported in a %s model",
                             members[i].name, s->arch->model_type);
    }
    return EXO_OK;
}

static exo_status check_quantisation(const exo_hf_source *s) {
    const json_t *quant = json_object_get(s->config, "quantization_config");
    const char *method = json_string_value(json_object_get(quant, "quant_method"));
    bool mxfp4 =
        method != NULL && strcmp(method, "mxfp4") == 0 && strcmp(s->arch->arch, "gpt-oss") == 0;
    if (!is_set(quant) || mxfp4) return EXO_OK;
    return exo_error_set(s->err, EXO_EUNSUPPORTED,
                         "weights quantised by \"%.32s\" are not supported: take the model's "
                         "unquantised safetensors, or a GGUF file of it",
                         method != NULL ? method : "quantization_config");
}

/* Lists with a word or number for each layer that must say what goes without saying. */
static exo_status check_layers(const exo_hf_source *s) {
    const json_t *types = json_object_get(s->config, "layer_types");
    const json_t *rotated = json_object_get(s->config, "no_rope_layers");
    uint32_t period = spec_of(s->arch)->unrotated_period;
    for (size_t i = 0; i < json_array_size(types); i++) {
        const char *type = json_string_value(json_array_get(types, i));
        if (type != NULL &&
            (strcmp(type, "full_attention") == 0 || strcmp(type, "sliding_attention") == 0)) {
            continue;
        }
        return exo_error_set(s->err, EXO_EUNSUPPORTED,
                             "config.json: layer_types[%zu] is %.32s: only full_attention and "
                             "sliding_attention are supported",
                             i, type != NULL ? type : "no word");
    }
    for (size_t i = 0; period > 0 && i < json_array_size(rotated); i++) {
        const json_t *v = json_array_get(rotated, i);
        if (json_is_integer(v) && json_integer_value(v) == ((i + 1) % period != 0)) continue;
        return exo_error_set(s->err, EXO_EUNSUPPORTED,
                             "config.json: no_rope_layers[%zu] is not supported: all layers but "
                             "each %uth are rotated",
                             i, period);
    }
    return EXO_OK;
}

static exo_status refuse_latent_variants(const exo_hf_source *s) {
    if (!spec_of(s->arch)->latent) return EXO_OK;
    bool bias = json_is_true(json_object_get(s->config, "attention_bias"));
    if (!bias && !json_is_false(json_object_get(s->config, "rope_interleave"))) return EXO_OK;
    return exo_error_set(s->err, EXO_EUNSUPPORTED, "config.json: %s is not supported in a %s model",
                         bias ? "attention_bias true" : "rope_interleave false",
                         s->arch->model_type);
}

/* gemma's scale is a key there, but follows from the sizes in arch.c. */
static exo_status check_scale(const exo_hf_source *s, uint32_t n_layers, uint32_t head_dim) {
    double said = exo_hf_number_or(s->config, "query_pre_attn_scalar", head_dim), used = head_dim;
    if ((strcmp(s->arch->arch, "gemma2") == 0 && n_layers == 46) ||
        (strcmp(s->arch->arch, "gemma3") == 0 && n_layers == 62)) {
        used = exo_hf_number_or(s->config, "hidden_size", 0) /
               exo_hf_number_or(s->config, "num_attention_heads", 1);
    }
    if (fabs(said - used) < 1e-6 * used) return EXO_OK;
    return exo_error_set(s->err, EXO_EUNSUPPORTED,
                         "config.json: query_pre_attn_scalar %g is not supported in a %s model of "
                         "%u layers (%g is)",
                         said, s->arch->model_type, n_layers, used);
}

/* ---- sizes ---- */

uint32_t exo_hf_head_dim(const json_t *config, const exo_hf_arch *a) {
    double heads = exo_hf_number_or(config, "num_attention_heads", 1);
    double dim =
        exo_hf_number_or(config, "head_dim", exo_hf_number_or(config, "hidden_size", 0) / heads);
    if (spec_of(a)->latent) {
        dim = exo_hf_number_or(config, "qk_nope_head_dim", 0) +
              exo_hf_number_or(config, "qk_rope_head_dim", 0);
    }
    return dim >= 1 && dim < 1e6 ? (uint32_t)dim : 0;
}

uint32_t exo_hf_n_layers(const json_t *config) {
    double n = exo_hf_number_or(config, "num_hidden_layers", 0);
    return n < 1e6 ? (uint32_t)n : 0;
}

/* Attention within a window equals full attention as long as the context fits into it. */
static void cap_context(const exo_hf_source *s, uint32_t *context) {
    const json_t *window = json_object_get(s->config, "sliding_window");
    const json_t *use = json_object_get(s->config, "use_sliding_window");
    double first = exo_hf_number_or(s->config, "max_window_layers", 0); /* that slides */
    if (!json_is_integer(window) || !exo_hf_has_member(s->arch, "sliding_window")) return;
    if (exo_hf_has_member(s->arch, "use_sliding_window") && !json_is_true(use)) return;
    if (exo_hf_has_member(s->arch, "max_window_layers") && first >= exo_hf_n_layers(s->config)) {
        return;
    }
    json_int_t n = json_integer_value(window);
    if (n > 0 && n < (json_int_t)*context) *context = (uint32_t)n;
}

/* The window, and which layers slide: all but each n-th, or as a list says. */
static exo_status add_window(const exo_hf_source *s) {
    const json_t *types = json_object_get(s->config, "layer_types");
    uint32_t window = 0, period = 0;
    char key[EXO_HF_KEY_BYTES];
    exo_status st = get_u32(s, "sliding_window", false, &window);
    if (st == EXO_OK) st = get_u32(s, "sliding_window_pattern", false, &period);
    if (st != EXO_OK || window == 0) return st;
    add_u32(s, "attention.sliding_window", window);
    exo_hf_key(s, "attention.sliding_window_pattern", key);
    size_t n = json_array_size(types);
    if (n == 0) {
        if (period > 0) exo_gguf_add_u32(s->w, key, period);
        return EXO_OK;
    }
    exo_gguf_add_array(s->w, key, EXO_GGUF_BOOL, n);
    for (size_t i = 0; i < n; i++) {
        const char *type = json_string_value(json_array_get(types, i));
        exo_buf_putc(&s->w->kvs, type != NULL && strcmp(type, "sliding_attention") == 0);
    }
    return EXO_OK;
}

static exo_status add_heads(const exo_hf_source *s, uint32_t n_heads, uint32_t n_embd) {
    uint32_t n_kv = n_heads, dim = exo_hf_head_dim(s->config, s->arch), own = 0, v_dim;
    bool latent = spec_of(s->arch)->latent;
    exo_status st = get_u32(s, "num_key_value_heads", false, &n_kv);
    if (st == EXO_OK && latent && n_kv != n_heads) {
        return exo_error_set(s->err, EXO_EFORMAT,
                             "config.json: num_key_value_heads %u, but of %u heads that share a "
                             "latent all have keys",
                             n_kv, n_heads);
    }
    if (st == EXO_OK) st = get_u32(s, "head_dim", false, &own);
    if (st != EXO_OK) return st;
    bool given = own > 0 || latent;
    if (!given && (n_heads == 0 || n_embd % n_heads != 0)) {
        return exo_error_set(s->err, EXO_EFORMAT,
                             "config.json: hidden_size %u is no multiple of num_attention_heads %u",
                             n_embd, n_heads);
    }
    v_dim = dim;
    st = get_u32(s, "v_head_dim", false, &v_dim);
    add_u32(s, "attention.head_count", n_heads);
    add_u32(s, "attention.head_count_kv", n_kv);
    add_u32(s, "attention.key_length", dim);
    add_u32(s, "attention.value_length", v_dim);
    return st;
}

static exo_status add_sizes(const exo_hf_source *s) {
    uint32_t n_layers = 0, n_embd = 0, n_ff = 0, n_heads = 0, context = 0, n_vocab;
    exo_status st = get_u32(s, "vocab_size", false, &n_vocab); /* the tensors say how many */
    if (st == EXO_OK) st = get_u32(s, "num_hidden_layers", true, &n_layers);
    if (st == EXO_OK) st = get_u32(s, "hidden_size", true, &n_embd);
    if (st == EXO_OK) st = get_u32(s, "intermediate_size", true, &n_ff);
    if (st == EXO_OK) st = get_u32(s, "num_attention_heads", true, &n_heads);
    if (st == EXO_OK) st = get_u32(s, "max_position_embeddings", true, &context);
    if (st == EXO_OK) st = add_heads(s, n_heads, n_embd);
    if (st == EXO_OK) st = check_scale(s, n_layers, exo_hf_head_dim(s->config, s->arch));
    if (st != EXO_OK) return st;
    add_u32(s, "block_count", n_layers);
    add_u32(s, "embedding_length", n_embd);
    add_u32(s, "feed_forward_length", n_ff);
    st = exo_hf_add_rope(s, exo_hf_head_dim(s->config, s->arch), context);
    bool slides = (spec_of(s->arch)->keys & EXO_KEY_WINDOW) != 0;
    if (st == EXO_OK && slides) st = add_window(s);
    if (!slides) cap_context(s, &context);
    add_u32(s, "context_length", context);
    return st;
}

/* ---- experts ---- */

/* The class's own name for it, or another that it takes for the same. */
uint32_t exo_hf_n_experts(const json_t *config, const exo_hf_arch *a) {
    static const char *const names[] = {"num_local_experts", "num_experts", "n_routed_experts"};
    double n = 0;
    if (!exo_hf_has_member(a, "num_experts_per_tok")) return 0;
    for (size_t i = 0; i < 3; i++) {
        if (exo_hf_has_member(a, names[i])) n = exo_hf_number_or(config, names[i], n);
    }
    for (size_t i = 0; i < 3; i++) {
        if (!exo_hf_has_member(a, names[i])) n = exo_hf_number_or(config, names[i], n);
    }
    return n < 1e6 ? (uint32_t)n : 0;
}

/* Whether experts are chosen group by group, as llama.cpp does: by the best two of each. */
static exo_status find_choice(const exo_hf_source *s, bool *groups) {
    const char *choice = json_string_value(json_object_get(s->config, "topk_method"));
    bool alone = exo_hf_number_or(s->config, "n_group", 1) == 1;
    *groups = choice != NULL && strcmp(choice, "noaux_tc") == 0;
    if (choice == NULL || *groups || strcmp(choice, "greedy") == 0) return EXO_OK;
    if (strcmp(choice, "group_limited_greedy") == 0 && alone) return EXO_OK;
    return exo_error_set(s->err, EXO_EUNSUPPORTED,
                         "config.json: topk_method %.32s is not supported", choice);
}

static exo_status add_expert_sizes(const exo_hf_source *s) {
    static const struct {
        const char *theirs, *ours;
        bool of_groups;
    } numbers[] = {
        {"moe_intermediate_size", "expert_feed_forward_length", false},
        {"shared_expert_intermediate_size", "expert_shared_feed_forward_length", false},
        {"shared_intermediate_size", "expert_shared_feed_forward_length", false},
        {"n_shared_experts", "expert_shared_count", false},
        {"first_k_dense_replace", "leading_dense_block_count", false},
        {"n_group", "expert_group_count", true},
        {"topk_group", "expert_group_used_count", true},
    };
    bool groups;
    uint32_t n_ff = 0; /* of the experts where the class has one width only */
    exo_status st = find_choice(s, &groups);
    if (st == EXO_OK && !exo_hf_has_member(s->arch, "moe_intermediate_size")) {
        st = get_u32(s, "intermediate_size", true, &n_ff);
        add_u32(s, "expert_feed_forward_length", n_ff);
    }
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers && st == EXO_OK; i++) {
        const json_t *v = json_object_get(s->config, numbers[i].theirs);
        uint32_t n = 0;
        bool none = json_is_integer(v) && json_integer_value(v) == 0;
        if (none || !exo_hf_has_member(s->arch, numbers[i].theirs)) continue;
        if (numbers[i].of_groups && !groups) continue;
        st = get_u32(s, numbers[i].theirs, false, &n);
        if (n > 0) add_u32(s, numbers[i].ours, n);
    }
    return st;
}

/* How experts are weighed; the members are those of some classes only. */
static exo_status add_weighing(const exo_hf_source *s) {
    const json_t *normalize = json_object_get(s->config, "norm_topk_prob");
    const char *scores = json_string_value(json_object_get(s->config, "scoring_func"));
    double scale = 0;
    char key[EXO_HF_KEY_BYTES];
    bool known = exo_hf_has_member(s->arch, "routed_scaling_factor");
    exo_status st = known ? exo_hf_number(s, s->config, "routed_scaling_factor", &scale) : EXO_OK;
    if (st != EXO_OK) return st;
    if (scale > 0) add_f32(s, "expert_weights_scale", scale);
    if (exo_hf_has_member(s->arch, "norm_topk_prob")) {
        exo_gguf_add_bool(s->w, exo_hf_key(s, "expert_weights_norm", key), json_is_true(normalize));
    }
    if (!exo_hf_has_member(s->arch, "scoring_func")) return EXO_OK;
    bool sigmoid = scores != NULL && strcmp(scores, "sigmoid") == 0;
    if (!sigmoid && (scores == NULL || strcmp(scores, "softmax") != 0)) {
        return exo_error_set(s->err, EXO_EUNSUPPORTED,
                             "config.json: scoring_func %.32s is not known",
                             scores != NULL ? scores : "that is no word");
    }
    add_u32(s, "expert_gating_func", sigmoid ? 2 : 1);
    if (sigmoid || !json_is_true(normalize) || scale == 0 || scale == 1) return EXO_OK;
    return exo_error_set(s->err, EXO_EUNSUPPORTED,
                         "config.json: norm_topk_prob with routed_scaling_factor %g is not "
                         "supported in a %s model: implementations differ about it",
                         scale, s->arch->model_type);
}

static exo_status add_experts(const exo_hf_source *s) {
    uint32_t used = 0;
    exo_status st = get_u32(s, "num_experts_per_tok", true, &used);
    if (st != EXO_OK) return st;
    add_u32(s, "expert_count", exo_hf_n_experts(s->config, s->arch));
    add_u32(s, "expert_used_count", used);
    st = add_expert_sizes(s);
    return st == EXO_OK ? add_weighing(s) : st;
}

/* ---- scales ---- */

/* hparams.c refuses those that an architecture does not know. */
static exo_status add_scales(const exo_hf_source *s) {
    static const struct {
        const char *theirs, *ours;
    } scales[] = {
        {"attention_multiplier", "attention.scale"},
        {"embedding_multiplier", "embedding_scale"},
        {"residual_multiplier", "residual_scale"},
        {"logits_scaling", "logit_scale"},
        {"logit_scale", "logit_scale"},
        {"attn_logit_softcapping", "attn_logit_softcapping"},
        {"final_logit_softcapping", "final_logit_softcapping"},
        {"q_lora_rank", "attention.q_lora_rank"},
        {"kv_lora_rank", "attention.kv_lora_rank"},
    };
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++) {
        double v = 0;
        exo_status st = exo_hf_number(s, s->config, scales[i].theirs, &v);
        if (st != EXO_OK) return st;
        bool rank = strstr(scales[i].ours, "rank") != NULL;
        bool none = json_is_null(json_object_get(s->config, scales[i].theirs));
        if (none && strstr(scales[i].ours, "softcapping") != NULL) add_f32(s, scales[i].ours, 0);
        if (v > 0 && rank && v < 1e9) add_u32(s, scales[i].ours, (uint32_t)v);
        if (v > 0 && !rank) add_f32(s, scales[i].ours, v);
    }
    return EXO_OK;
}

static exo_status add_epsilon(const exo_hf_source *s) {
    static const char *const layer_names[] = {"layer_norm_eps", "norm_epsilon",
                                              "layer_norm_epsilon", NULL};
    static const char *const rms_names[] = {"rms_norm_eps", NULL};
    bool layer = spec_of(s->arch)->norm == EXO_NORM_LAYER;
    double eps = 0;
    for (const char *const *name = layer ? layer_names : rms_names; *name != NULL; name++) {
        exo_status st = exo_hf_number(s, s->config, *name, &eps);
        if (st != EXO_OK) return st;
    }
    if (eps == 0) return exo_error_set(s->err, EXO_EFORMAT, "config.json: the epsilon is missing");
    add_f32(s, layer ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon", eps);
    return EXO_OK;
}

/* ---- encoders ---- */

static exo_status add_encoder(const exo_hf_source *s) {
    const char *kind = json_string_value(json_object_get(s->config, "position_embedding_type"));
    double types = exo_hf_number_or(s->config, "type_vocab_size", 0);
    char key[EXO_HF_KEY_BYTES];
    if (kind != NULL && strcmp(kind, "absolute") != 0) {
        return exo_error_set(s->err, EXO_EUNSUPPORTED,
                             "config.json: position_embedding_type %.32s is not supported", kind);
    }
    exo_gguf_add_bool(s->w, exo_hf_key(s, "attention.causal", key), false);
    if (types >= 1 && types < 1e6) {
        exo_gguf_add_u32(s->w, "tokenizer.ggml.token_type_count", (uint32_t)types);
    }
    return EXO_OK;
}

exo_status exo_hf_add_pooling(const json_t *pooling, const exo_hf_arch *a, exo_gguf_writer *w,
                              exo_error *err) {
    static const struct {
        const char *name;
        uint32_t kind;
    } modes[] = {
        {"pooling_mode_mean_tokens", 1},
        {"pooling_mode_cls_token", 2},
        {"pooling_mode_lasttoken", 3},
    };
    const exo_hf_source s = {NULL, a, w, err};
    uint32_t kind = 0, n = 0;
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        if (!json_is_true(json_object_get(pooling, modes[i].name))) continue;
        kind = modes[i].kind;
        n++;
    }
    if (n == 1) add_u32(&s, "pooling_type", kind);
    if (n == 1 || (pooling == NULL && !spec_of(a)->encoder)) return EXO_OK;
    return exo_error_set(err, EXO_EUNSUPPORTED,
                         "1_Pooling/config.json %s: embeddings need one of mean, cls and lasttoken",
                         pooling == NULL ? "is missing" : "names no pooling that is known");
}

/* ---- all ---- */

bool exo_hf_is_tied(const json_t *config) {
    return json_is_true(json_object_get(config, "tie_word_embeddings"));
}

exo_status exo_hf_add_config(const json_t *config, const exo_hf_arch *a, exo_gguf_writer *w,
                             exo_error *err) {
    const exo_hf_source s = {config, a, w, err};
    exo_gguf_add_str(w, "general.architecture", a->arch);
    exo_gguf_add_str(w, "general.type", "model");
    exo_status st = refuse_variants(&s);
    if (st == EXO_OK) st = check_quantisation(&s);
    if (st == EXO_OK) st = check_activation(&s);
    if (st == EXO_OK) st = check_layers(&s);
    if (st == EXO_OK) st = refuse_latent_variants(&s);
    if (st == EXO_OK) st = add_sizes(&s);
    if (st == EXO_OK) st = add_epsilon(&s);
    if (st == EXO_OK) st = add_scales(&s);
    if (st == EXO_OK && spec_of(a)->encoder) st = add_encoder(&s);
    if (st == EXO_OK && exo_hf_n_experts(config, a) > 0) st = add_experts(&s);
    return st;
}
