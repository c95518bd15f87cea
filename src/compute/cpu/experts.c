/* experts.c - ROUTE, EXPERTS and MIX: the products of which each row takes only some matrices.
 *
 * Rows are sorted by the expert they chose, so that every matrix is read once per step however many
 * rows want it.  An output is a function of its own row: which other rows share the step changes
 * neither a product's order nor that of the sum over a row's experts, which is by rank.
 * Knows nothing of models; order of sums: reference.h. */
#include "compute/cpu/plan_run.h"

#include "compute/cpu/reference.h"

#include <math.h>
#include <string.h>

#define STRIP_GROUPS 8u /* of one expert, handed out at a time */

/* ---- choosing ---- */

/* p and c, (n_experts) each, live in the caller's scratch. */
typedef struct {
    const exo_op_route *o;
    float *p; /* probabilities */
    float *c; /* what the choice goes by; -INFINITY once it is out */
} choice;

/* x to exp(x - max) / sum, in place. */
static bool softmax(float *x, uint32_t n) {
    float max = -INFINITY, sum = 0;
    for (uint32_t i = 0; i < n; i++) max = x[i] > max ? x[i] : max;
    for (uint32_t i = 0; i < n; i++) {
        x[i] = exo_ref_exp(x[i] - max);
        sum += x[i];
    }
    for (uint32_t i = 0; i < n; i++) x[i] /= sum;
    return fabsf(max) < INFINITY;
}

static uint32_t best_of(const float *c, uint32_t n) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++) best = c[i] > c[best] ? i : best;
    return best;
}

/* The sum of the two best of a group. */
static float group_rank(const float *c, uint32_t n) {
    float first = -INFINITY, second = -INFINITY;
    for (uint32_t i = 0; i < n; i++) {
        if (c[i] > first) {
            second = first;
            first = c[i];
        } else if (c[i] > second) {
            second = c[i];
        }
    }
    return first + second;
}

/* Takes the experts of all but the best groups out.  A group is out when n_groups_used others
 * rank before it. */
static void keep_groups(const choice *ch) {
    const exo_op_route *o = ch->o;
    uint32_t each = o->n_experts / o->n_groups;
    float *rank = ch->c + o->n_experts; /* (n_groups) */
    for (uint32_t g = 0; g < o->n_groups; g++) rank[g] = group_rank(ch->c + g * each, each);
    for (uint32_t g = 0; g < o->n_groups; g++) {
        uint32_t before = 0;
        for (uint32_t k = 0; k < o->n_groups; k++) {
            before += rank[k] > rank[g] || (rank[k] == rank[g] && k < g);
        }
        for (uint32_t i = 0; before >= o->n_groups_used && i < each; i++) {
            ch->c[g * each + i] = -INFINITY;
        }
    }
}

static bool gate(const choice *ch, const float *x) {
    uint32_t n = ch->o->n_experts;
    for (uint32_t i = 0; i < n; i++) {
        if (!(fabsf(x[i]) < INFINITY)) return false;
        ch->p[i] = x[i];
        if (ch->o->gating == EXO_GATING_SIGMOID) ch->p[i] = 1.0f / (1.0f + exo_ref_exp(-x[i]));
    }
    return ch->o->gating == EXO_GATING_SOFTMAX ? softmax(ch->p, n) : true;
}

static void weigh(const exo_op_route *o, float *w) {
    if (o->gating == EXO_GATING_SOFTMAX_CHOSEN) (void)softmax(w, o->n_used);
    float sum = 0;
    for (uint32_t r = 0; r < o->n_used; r++) sum += w[r];
    sum = sum > EXO_ROUTE_MIN ? sum : EXO_ROUTE_MIN;
    for (uint32_t r = 0; r < o->n_used; r++) {
        if (o->normalize) w[r] /= sum;
        if (o->scale != 0) w[r] *= o->scale;
    }
}

bool exo_ref_route(const exo_op_route *o, const float *choice_bias, const exo_route_row *row) {
    choice ch = {o, row->scratch, row->scratch + o->n_experts};
    float *weights = row->out + o->n_used;
    if (!gate(&ch, row->x)) return false;
    for (uint32_t i = 0; i < o->n_experts; i++) {
        ch.c[i] = choice_bias != NULL ? ch.p[i] + choice_bias[i] : ch.p[i];
    }
    if (o->n_groups > 1) keep_groups(&ch);
    for (uint32_t r = 0; r < o->n_used; r++) {
        uint32_t e = best_of(ch.c, o->n_experts);
        ch.c[e] = -INFINITY;
        row->out[r] = (float)e;
        weights[r] = ch.p[e];
    }
    weigh(o, weights);
    return true;
}

void exo_run_route(const exo_run *r, const exo_op_route *o) {
    const exo_plan *p = r->p;
    uint32_t from, to;
    exo_run_share(r, p->args->n_rows, &from, &to);
    for (uint32_t i = from; i < to; i++) {
        exo_route_row row = {.x = p->slots[o->in] + (size_t)i * p->slot_ld[o->in],
                             .out = p->slots[o->out] + (size_t)i * p->slot_ld[o->out],
                             .scratch = r->scratch->route};
        if (!exo_ref_route(o, exo_run_vector(o->choice_bias), &row)) exo_run_not_finite(r);
    }
}

/* ---- products ---- */

static uint32_t expert_of(const exo_plan *p, const exo_op_experts *e, uint32_t row, uint32_t rank) {
    if (e->route == EXO_NO_SLOT) return rank;
    return (uint32_t)p->slots[e->route][(size_t)row * p->slot_ld[e->route] + rank];
}

/* Fills pairs and expert_at: a counting sort, so equal experts keep the order of rows. */
static void sort_pairs(const exo_plan *p, const exo_op_experts *e) {
    uint32_t n_rows = p->args->n_rows, *at = p->expert_at;
    memset(at, 0, (e->n_experts + 1u) * sizeof *at);
    for (uint32_t i = 0; i < n_rows * e->n_used; i++) {
        at[expert_of(p, e, i / e->n_used, i % e->n_used) + 1]++;
    }
    for (uint32_t k = 1; k <= e->n_experts; k++) at[k] += at[k - 1];
    for (uint32_t i = 0; i < n_rows * e->n_used; i++) { /* each `at` moves on to its own end */
        p->pairs[at[expert_of(p, e, i / e->n_used, i % e->n_used)]++] = i;
    }
    for (uint32_t k = e->n_experts; k > 0; k--) at[k] = at[k - 1];
    at[0] = 0;
}

static void prepare_pairs(const exo_run *r, const exo_op_experts *e, const exo_act_strides *ld) {
    const exo_plan *p = r->p;
    exo_run_input in = {
        .n = e->w[0]->n_cols, .norm = exo_run_vector(e->norm), .eps = e->norm_eps, .gather = true};
    for (uint32_t k = 0; k < e->n_parts; k++) in.forms |= 1u << exo_act_form_of(e->w[k]->type);
    uint32_t from, to;
    exo_run_share(r, p->args->n_rows * e->n_used, &from, &to);
    for (uint32_t c = from; c < to; c++) {
        uint32_t row = p->pairs[c] / e->n_used, rank = p->pairs[c] % e->n_used;
        in.x = p->slots[e->in] + (size_t)row * p->slot_ld[e->in];
        if (e->split) in.x += (size_t)rank * in.n;
        exo_run_prepare(r, &in, c, &p->chosen, ld);
    }
}

static exo_act act_at(const exo_plan *p, const exo_act_strides *ld, exo_dtype type,
                      uint32_t first) {
    const exo_act_space *a = &p->chosen;
    exo_act act = {.ld_x = ld->x, .ld_q = ld->q};
    exo_act_form form = exo_act_form_of(type);
    if (form == EXO_ACT_F32) {
        act.x = a->x + first * ld->x;
        return act;
    }
    act.ld_d = ld->d[form - 1];
    act.q = a->q[form - 1] + first * ld->q;
    act.d = a->d[form - 1] + first * act.ld_d;
    if (form == EXO_ACT_Q32) act.sum32 = a->sum32 + first * act.ld_d;
    if (form == EXO_ACT_Q256) act.sums = a->sums + first * act.ld_d * EXO_Q256_SUMS;
    return act;
}

/* A strip of one expert's rows, for all the rows of the step that chose it. */
typedef struct {
    uint32_t expert, g0, n_groups; /* groups within the expert */
} strip;

static void add_bias(float *y, const float *bias, uint32_t n) {
    for (uint32_t i = 0; bias != NULL && i < n; i++) y[i] += bias[i];
}

static void finish_strip(const exo_run *r, const exo_op_experts *e, const strip *s, uint32_t rows) {
    const exo_plan *p = r->p;
    uint32_t first = p->expert_at[s->expert], n = p->expert_at[s->expert + 1] - first;
    size_t ld = (size_t)s->n_groups * EXO_GROUP_ROWS, row0 = (size_t)s->g0 * EXO_GROUP_ROWS;
    for (uint32_t c = 0; c < n; c++) {
        float *y[2] = {r->scratch->strip[0] + c * ld, r->scratch->strip[1] + c * ld};
        for (uint32_t i = 0; i < e->n_parts; i++) {
            const float *bias = exo_run_vector(e->bias[i]);
            if (bias != NULL) add_bias(y[i], bias + s->expert * (size_t)rows + row0, (uint32_t)ld);
        }
        uint32_t row = p->pairs[first + c] / e->n_used, rank = p->pairs[first + c] % e->n_used;
        float *out = p->slots[e->out] + (size_t)row * p->slot_ld[e->out];
        exo_run_epilogue(r, e->epilogue, out + (size_t)rank * rows + row0, y[0], y[1],
                         (uint32_t)ld);
    }
}

static void run_strip(const exo_run *r, const exo_op_experts *e, const exo_act_strides *ld,
                      const strip *s) {
    const exo_plan *p = r->p;
    uint32_t first = p->expert_at[s->expert], n = p->expert_at[s->expert + 1] - first;
    uint32_t groups = e->w[0]->n_groups / e->n_experts;
    for (uint32_t i = 0; i < e->n_parts; i++) {
        exo_act act = act_at(p, ld, e->w[i]->type, first);
        exo_matmul_task t = {.w = e->w[i],
                             .a = &act,
                             .n = n,
                             .g0 = s->expert * groups + s->g0,
                             .n_groups = s->n_groups,
                             .y = r->scratch->strip[i],
                             .ld_y = (size_t)s->n_groups * EXO_GROUP_ROWS};
        r->kernels->matmul[e->w[i]->type](&t);
    }
    finish_strip(r, e, s, groups * EXO_GROUP_ROWS);
}

/* Strips are numbered by expert; every thread walks the experts as its numbers grow. */
static void run_strips(const exo_run *r, const exo_op_experts *e, const exo_act_strides *ld) {
    exo_plan *p = r->p;
    uint32_t groups = e->w[0]->n_groups / e->n_experts, expert = 0, before = 0;
    for (;;) {
        uint32_t item = atomic_fetch_add_explicit(&p->taken[r->op], 1, memory_order_relaxed);
        uint32_t step = 0;
        for (; expert < e->n_experts; expert++) {
            uint32_t n = p->expert_at[expert + 1] - p->expert_at[expert];
            if (n == 0) continue;
            step = (uint32_t)(p->strip_floats / ((size_t)n * EXO_GROUP_ROWS));
            step = step < STRIP_GROUPS ? step : STRIP_GROUPS;
            if (item - before < (groups + step - 1) / step) break;
            before += (groups + step - 1) / step;
        }
        if (expert == e->n_experts) return;
        uint32_t g0 = (item - before) * step;
        run_strip(r, e, ld, &(strip){expert, g0, groups - g0 < step ? groups - g0 : step});
    }
}

void exo_run_experts(const exo_run *r, const exo_op_experts *e) {
    exo_act_strides ld = exo_act_strides_for(e->w[0]->n_cols);
    if (r->thread == 0) sort_pairs(r->p, e);
    exo_pool_barrier(r->p->device->pool);
    prepare_pairs(r, e, &ld);
    exo_pool_barrier(r->p->device->pool);
    run_strips(r, e, &ld);
}

/* ---- the sum ---- */

void exo_run_mix(const exo_run *r, const exo_op_mix *m) {
    const exo_plan *p = r->p;
    uint32_t n = p->slot_width[m->out], from, to;
    exo_run_share(r, p->args->n_rows, &from, &to);
    for (uint32_t i = from; i < to; i++) {
        const float *y = p->slots[m->in] + (size_t)i * p->slot_ld[m->in];
        const float *w = p->slots[m->route] + (size_t)i * p->slot_ld[m->route] + m->n_used;
        float *out = p->slots[m->out] + (size_t)i * p->slot_ld[m->out];
        r->kernels->mix(out, &(exo_mix_row){y, w, m->n_used, n, m->add});
    }
}
