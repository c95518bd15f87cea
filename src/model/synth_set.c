/* synth_set.c - other numbers for a shape: "head_dim=80".
 *
 * Owns the names of the numbers and their ranges, so that whatever was set makes a file.  Whether
 * anyone can run it is the reader's to say. */
#include "model/model.h"
#include "model/synth_impl.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define MAX_WIDTH    65536
#define MAX_HEAD_DIM 512 /* synth.c's room for rope factors */

typedef struct {
    const char *name;
    size_t offset;
    bool is_float, of_extra;
    double min, max;
} number;

#define SHAPE(field) #field, offsetof(exo_synth_shape, field)
#define EXTRA(field) #field, offsetof(exo_synth_extra, field)
static const number numbers[] = {
    {SHAPE(n_layers), false, false, 1, EXO_MAX_LAYERS},
    {SHAPE(n_embd), false, false, 1, MAX_WIDTH},
    {SHAPE(n_ff), false, false, 1, MAX_WIDTH},
    {SHAPE(n_heads), false, false, 1, 1024},
    {SHAPE(n_kv_heads), false, false, 1, 1024},
    {SHAPE(head_dim), false, false, 2, MAX_HEAD_DIM},
    {SHAPE(n_vocab), false, false, EXO_SYNTH_MIN_VOCAB, 1 << 20},
    {SHAPE(ctx), false, false, 8, 1 << 24},
    {SHAPE(rope_base), true, false, 2, 1e9},
    {SHAPE(norm_eps), true, false, 1e-12, 1},
    {SHAPE(rope_factor), true, false, 0, 1024},
    {SHAPE(n_experts), false, false, 1, 1024},
    {SHAPE(n_experts_used), false, false, 1, 1024},
    {EXTRA(rope_dims), false, true, 2, MAX_HEAD_DIM},
    {EXTRA(window), false, true, 0, 1 << 24},
    {EXTRA(attn_scale), true, true, 0, 100},
    {EXTRA(embedding_scale), true, true, 0, 100},
    {EXTRA(residual_scale), true, true, 0, 100},
    {EXTRA(logit_scale), true, true, 0, 100},
    {EXTRA(attn_softcap), true, true, 0, 1000},
    {EXTRA(logit_softcap), true, true, 0, 1000},
    {EXTRA(n_ff_dense), false, true, 0, MAX_WIDTH},
    {EXTRA(n_ff_shared), false, true, 0, MAX_WIDTH},
    {EXTRA(n_dense_layers), false, true, 0, EXO_MAX_LAYERS},
    {EXTRA(expert_scale), true, true, 0, 100},
};
#undef SHAPE
#undef EXTRA

static exo_status set_one(exo_synth_shape *s, exo_synth_extra *x, const char *setting,
                          exo_error *err) {
    const char *equals = strchr(setting, '=');
    size_t n = equals != NULL ? (size_t)(equals - setting) : 0;
    for (size_t i = 0; n > 0 && i < sizeof numbers / sizeof *numbers; i++) {
        const number *m = &numbers[i];
        if (strlen(m->name) != n || memcmp(m->name, setting, n) != 0) continue;
        if (m->of_extra && s->extra == NULL) {
            return exo_error_set(err, EXO_EINVAL, "%s has no \"%s\"", s->name, m->name);
        }
        char *end, *at = (m->of_extra ? (char *)x : (char *)s) + m->offset;
        double v = strtod(equals + 1, &end);
        bool whole = m->is_float || v == (double)(int64_t)v;
        if (end == equals + 1 || *end != '\0' || !(v >= m->min && v <= m->max) || !whole) {
            return exo_error_set(err, EXO_EINVAL, "%.64s: a %s from %g to %g is needed", setting,
                                 m->is_float ? "number" : "whole number", m->min, m->max);
        }
        if (m->is_float) {
            *(float *)(void *)at = (float)v;
        } else {
            *(uint32_t *)(void *)at = (uint32_t)v;
        }
        return EXO_OK;
    }
    return exo_error_set(err, EXO_EINVAL, "\"%.64s\" sets no number of a shape", setting);
}

static exo_status check(const exo_synth_shape *s, const exo_synth_extra *x, exo_error *err) {
    if (s->n_heads % s->n_kv_heads != 0) {
        return exo_error_set(err, EXO_EINVAL, "n_heads %u is not a multiple of n_kv_heads %u",
                             s->n_heads, s->n_kv_heads);
    }
    if (s->head_dim % 2 != 0 || x->rope_dims % 2 != 0 || x->rope_dims > s->head_dim) {
        return exo_error_set(err, EXO_EINVAL,
                             "head_dim %u and rope_dims %u must be even, the latter no larger",
                             s->head_dim, x->rope_dims);
    }
    if (s->n_experts_used > s->n_experts) {
        return exo_error_set(err, EXO_EINVAL, "n_experts_used %u is above n_experts %u",
                             s->n_experts_used, s->n_experts);
    }
    return EXO_OK;
}

exo_status exo_synth_set(exo_synth_shape *s, exo_synth_extra *x, const char *const *settings,
                         size_t n, exo_error *err) {
    for (size_t i = 0; i < n; i++) {
        exo_status st = set_one(s, x, settings[i], err);
        if (st != EXO_OK) return st;
    }
    return check(s, x, err);
}
