/* hparams_rope.c - rotary frequencies: base, scaling, factors, and which layers have which.
 *
 * The frequencies are made here, in double and with own functions, so that they are the same bits
 * everywhere; the engine multiplies by positions only.
 * Scaling: none, linear, yarn (arXiv 2309.00071), longrope (two sets of factors), and Llama 3's,
 * which comes as a tensor of factors. */
#include "model/arch.h"

#include "base/le.h"
#include "compute/dmath.h"

#include <math.h>
#include <string.h>

#define TWO_PI 6.283185307179586

/* One set of settings; sliding layers may have their own base. */
typedef struct {
    bool yarn, longrope;
    float base, base_sliding;
    float factor; /* positions are divided by it */
    float attn_factor;
    float beta_fast, beta_slow, ext_factor, log_multiplier;
    uint32_t original_ctx;
} scaling;

static bool is(exo_str s, const char *text) {
    return s.n == strlen(text) && memcmp(s.s, text, s.n) == 0;
}

static exo_status read_type(const exo_arch_source *s, scaling *c, exo_error *err) {
    char key[EXO_KEY_BYTES];
    exo_str type = {"linear", 6}; /* what a lone factor means */
    exo_arch_key(s, "rope.scaling.type", key);
    if (exo_gguf_has(s->g, key) && !exo_gguf_str(s->g, key, &type)) {
        return exo_error_set(err, EXO_EFORMAT, "metadata key %s is not a string", key);
    }
    c->yarn = is(type, "yarn");
    c->longrope = is(type, "longrope");
    if (is(type, "none")) return EXO_OK;
    if (!c->yarn && !c->longrope && !is(type, "linear")) {
        return exo_error_set(
            err, EXO_EUNSUPPORTED,
            "rope scaling '%.*s' is not supported (none, linear, yarn and longrope are)",
            (int)(type.n < 40 ? type.n : 40), type.s);
    }
    exo_status st = exo_arch_f32(s, "rope.scale_linear", &c->factor, err); /* the older name */
    return st == EXO_OK ? exo_arch_f32(s, "rope.scaling.factor", &c->factor, err) : st;
}

static exo_status read_scaling(const exo_arch_source *s, const exo_hparams *hp, scaling *c,
                               exo_error *err) {
    *c = (scaling){.base = 10000,
                   .factor = 1,
                   .attn_factor = 1,
                   .beta_fast = 32,
                   .beta_slow = 1,
                   .ext_factor = 1,
                   .original_ctx = hp->ctx_train};
    exo_status st = exo_arch_f32(s, "rope.freq_base", &c->base, err);
    c->base_sliding = strcmp(s->arch, "gemma3") == 0 ? 10000 : c->base;
    if (st == EXO_OK) st = exo_arch_f32(s, "rope.freq_base_swa", &c->base_sliding, err);
    if (st == EXO_OK) st = read_type(s, c, err);
    const struct {
        const char *suffix;
        float *to;
    } floats[] = {
        {"rope.scaling.attn_factor", &c->attn_factor},
        {"rope.scaling.yarn_beta_fast", &c->beta_fast},
        {"rope.scaling.yarn_beta_slow", &c->beta_slow},
        {"rope.scaling.yarn_ext_factor", &c->ext_factor},
        {"rope.scaling.yarn_attn_factor", &c->attn_factor},
        {"rope.scaling.yarn_log_multiplier", &c->log_multiplier},
    };
    for (size_t i = 0; st == EXO_OK && i < sizeof floats / sizeof *floats; i++) {
        st = exo_arch_f32(s, floats[i].suffix, floats[i].to, err);
    }
    if (st != EXO_OK) return st;
    return exo_arch_u32(s, "rope.scaling.original_context_length", UINT32_MAX, &c->original_ctx,
                        err);
}

/* A tensor of factors that divide the frequencies; *out is NULL when it is absent. */
static exo_status find_factors(const exo_arch_source *s, const char *name, uint32_t dims,
                               const exo_tensor **out, exo_error *err) {
    const exo_tensor *t = exo_gguf_find(s->g, name);
    *out = t;
    if (t == NULL) return EXO_OK;
    if (t->type != EXO_F32 || t->dims[0] != dims / 2 || t->bytes != 2ull * dims) {
        return exo_error_set(
            err, EXO_EFORMAT, "%s has %llu %s values, rope.dimension_count %u asks for %u f32",
            name, (unsigned long long)t->dims[0], exo_dtype_get(t->type)->name, dims, dims / 2);
    }
    for (uint32_t i = 0; i < dims / 2; i++) {
        float f = exo_get_f32(t->data + 4 * (size_t)i);
        if (!(f >= 1e-6f && f <= 1e6f)) {
            return exo_error_set(err, EXO_EFORMAT, "%s[%u] is %g", name, i, (double)f);
        }
    }
    return EXO_OK;
}

/* The dimension that turns `turns` times within the original context. */
static double yarn_dim(const scaling *c, uint32_t dims, double base, double turns) {
    double ratio = (double)c->original_ctx / (turns * TWO_PI);
    return dims * exo_dlog(ratio) / (2 * exo_dlog(base));
}

/* Fast dimensions keep their frequency, slow ones are divided by the factor, a ramp between. */
static double yarn_blend(const scaling *c, uint32_t dims, double base, uint32_t i) {
    double low = floor(yarn_dim(c, dims, base, (double)c->beta_fast));
    double high = ceil(yarn_dim(c, dims, base, (double)c->beta_slow));
    low = low > 0 ? low : 0;
    high = high < dims - 1 ? high : dims - 1;
    double span = high - low > 0.001 ? high - low : 0.001;
    double ramp = ((double)i - low) / span;
    ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
    return (1 - ramp) * (double)c->ext_factor;
}

static double log_scale(const scaling *c, double multiplier) {
    return c->factor <= 1 ? 1 : 1 + 0.1 * multiplier * exo_dlog((double)c->factor);
}

static void fill(exo_rope *r, const scaling *c, uint32_t dims, float base,
                 const exo_tensor *factors) {
    r->dims = dims;
    r->scale = c->attn_factor;
    for (uint32_t i = 0; i < dims / 2; i++) {
        double freq = exo_dpow((double)base, -2.0 * i / dims);
        if (factors != NULL) freq /= (double)exo_get_f32(factors->data + 4 * (size_t)i);
        double slow = freq / (double)c->factor;
        if (c->yarn) {
            double keep = yarn_blend(c, dims, (double)base, i);
            r->inv_freq[i] = slow * (1 - keep) + freq * keep;
        } else {
            r->inv_freq[i] = slow;
        }
    }
    /* with a multiplier it is the scores that grow: see scale_scores() */
    if (c->yarn && c->log_multiplier == 0) {
        r->scale = (float)((double)c->attn_factor * log_scale(c, 1));
    }
}

/* Settings that are possible one by one may still be no frequencies together. */
static exo_status check_finite(const exo_arch_source *s, const exo_rope *r, exo_error *err) {
    for (uint32_t i = 0; i < r->dims / 2; i++) {
        if (r->inv_freq[i] >= 0 && r->inv_freq[i] < 1e30) continue;
        return exo_error_set(err, EXO_EFORMAT,
                             "%s.rope.freq_base and rope.scaling give rotation %u the frequency %g",
                             s->arch, i, r->inv_freq[i]);
    }
    return EXO_OK;
}

/* deepseek2 with yarn: the length factor is on the scores, squared. */
static void scale_scores(const scaling *c, exo_hparams *hp) {
    if (!hp->arch->latent || !c->yarn) return;
    double multiplier = c->log_multiplier != 0 ? (double)c->log_multiplier / 0.1 : 0;
    double m = (double)hp->rope.scale * log_scale(c, multiplier);
    hp->attn_scale = (float)((double)hp->attn_scale * m * m);
}

static exo_status fill_all(const exo_arch_source *s, exo_hparams *hp, uint32_t dims,
                           const scaling *c, exo_error *err) {
    const exo_tensor *plain = NULL, *lng = NULL, *shrt = NULL;
    exo_status st = EXO_OK;
    if (hp->arch->rope_factors) st = find_factors(s, "rope_freqs.weight", dims, &plain, err);
    if (st == EXO_OK && hp->arch->rope_factors) {
        st = find_factors(s, "rope_factors_long.weight", dims, &lng, err);
    }
    if (st == EXO_OK && hp->arch->rope_factors) {
        st = find_factors(s, "rope_factors_short.weight", dims, &shrt, err);
    }
    if (st != EXO_OK) return st;
    if ((lng == NULL) != (shrt == NULL)) {
        return exo_error_set(err, EXO_EFORMAT, "tensor rope_factors_%s.weight is missing",
                             lng == NULL ? "long" : "short");
    }
    fill(&hp->rope, c, dims, c->base, shrt != NULL ? shrt : plain);
    if (lng != NULL) {
        fill(&hp->rope_long, c, dims, c->base, lng);
        hp->long_ctx = c->original_ctx;
    }
    scaling sliding = *c;
    if (strcmp(s->arch, "gemma3") == 0) sliding.factor = 1;
    fill(&hp->rope_sliding, &sliding, dims, c->base_sliding, NULL);
    scale_scores(c, hp);
    st = check_finite(s, &hp->rope, err);
    if (st == EXO_OK) st = check_finite(s, &hp->rope_long, err);
    return st == EXO_OK ? check_finite(s, &hp->rope_sliding, err) : st;
}

exo_status exo_hparams_read_rope(const exo_arch_source *s, exo_hparams *hp, exo_error *err) {
    uint32_t dims = hp->latent.rope_dim > 0 ? hp->latent.rope_dim : hp->head_dim;
    scaling c;
    if (hp->arch->rope == EXO_ROPE_NONE) return EXO_OK;
    exo_status st = exo_arch_u32(s, "rope.dimension_count", EXO_MAX_HEAD_DIM, &dims, err);
    if (st != EXO_OK) return st;
    if (dims > hp->head_dim || dims % 2 != 0) {
        return exo_error_set(err, EXO_EFORMAT,
                             "%s.rope.dimension_count %u is odd or above the head's %u dimensions",
                             s->arch, dims, hp->head_dim);
    }
    st = read_scaling(s, hp, &c, err);
    return st == EXO_OK ? fill_all(s, hp, dims, &c, err) : st;
}
