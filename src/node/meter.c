/* meter.c - see meter.h.  Tables of fixed size: counting allocates nothing. */
#define _DEFAULT_SOURCE
#include "node/meter.h"

#include "base/clock.h"
#include "base/lock.h"
#include "base/mem.h"
#include "node/node_impl.h"

#include <stdio.h>
#include <string.h>

#define MAX_MODELS 64 /* the last row is of all that come later */
#define MAX_BOUNDS 24

typedef enum { FIRST_TOKEN, NEXT_TOKEN, WHOLE_ANSWER, N_TIMES } time_kind;
typedef enum { STOP, LENGTH, ABORT, FAILURE, N_ENDS } end_kind;

typedef struct {
    double bounds[MAX_BOUNDS]; /* seconds, ascending; 0 = no more */
} scale;

/* vLLM's, so that its dashboards fit. */
static const scale scales[N_TIMES] = {
    [FIRST_TOKEN] = {{0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
                      1,     2.5,   5,    7.5,  10,   20,   40,   80,  160,  640, 2560}},
    [NEXT_TOKEN] = {{0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5,
                     10, 20, 40, 80}},
    [WHOLE_ANSWER] = {{0.3, 0.5, 0.8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                       30,  40,  50,  60, 120, 240, 480, 960, 1920, 7680}},
};

typedef struct {
    uint64_t counts[MAX_BOUNDS + 1]; /* each by itself; the last is of what no bound holds */
    double sum;
} histogram;

typedef struct {
    char model_id[EXO_MODEL_ID_BYTES];
    uint64_t running, waiting;
    uint64_t prompt_tokens, answer_tokens, cached_tokens;
    uint64_t ended[N_ENDS];
    histogram times[N_TIMES];
} row;

struct exo_meter {
    exo_lock *lock;
    uint32_t n;
    row rows[MAX_MODELS];
};

exo_status exo_meter_create(exo_meter **out, exo_error *err) {
    *out = NULL;
    exo_meter *m = exo_calloc(1, sizeof *m);
    if (m == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for counters");
    exo_status st = exo_lock_create(&m->lock, err);
    if (st != EXO_OK) {
        exo_free(m);
        return st;
    }
    *out = m;
    return EXO_OK;
}

void exo_meter_destroy(exo_meter *m) {
    if (m == NULL) return;
    exo_lock_destroy(m->lock);
    exo_free(m);
}

/* ---- counting ---- */

static uint32_t find(exo_meter *m, const char *model_id) {
    for (uint32_t i = 0; i < m->n; i++) {
        if (strcmp(m->rows[i].model_id, model_id) == 0) return i;
    }
    if (m->n == MAX_MODELS) return MAX_MODELS - 1;
    bool last = m->n == MAX_MODELS - 1;
    snprintf(m->rows[m->n].model_id, EXO_MODEL_ID_BYTES, "%s", last ? "(others)" : model_id);
    return m->n++;
}

void exo_meter_begin(exo_meter *m, exo_meter_mark *mark, const char *model_id) {
    *mark = (exo_meter_mark){.began_us = exo_now_us()};
    exo_lock_take(m->lock);
    uint32_t i = find(m, model_id);
    m->rows[i].waiting++;
    mark->model = i + 1;
    exo_lock_give(m->lock);
}

/* n times so many microseconds. */
static void note_times(row *r, time_kind kind, uint64_t us, uint64_t n) {
    const double *bounds = scales[kind].bounds;
    histogram *h = &r->times[kind];
    double s = (double)us / 1e6;
    uint32_t i = 0;
    while (i < MAX_BOUNDS && bounds[i] != 0 && s > bounds[i]) i++;
    h->counts[i] += n;
    h->sum += s * (double)n;
}

/* Tokens may come several to an event, and an event without one says how many there were. */
static void note_tokens(row *r, exo_meter_mark *mark, const exo_node_event *e, uint64_t now_us) {
    if (e->n_answer <= mark->n_answer) return;
    uint32_t n = e->n_answer - mark->n_answer;
    if (mark->n_answer == 0) {
        note_times(r, FIRST_TOKEN, now_us - mark->began_us, 1);
        r->prompt_tokens += e->n_prompt;
        r->cached_tokens += e->n_cached;
        n--;
    }
    uint64_t since_us = now_us - (mark->token_us != 0 ? mark->token_us : now_us);
    if (n > 0) note_times(r, NEXT_TOKEN, since_us / n, n);
    r->answer_tokens += e->n_answer - mark->n_answer;
    mark->n_answer = e->n_answer;
    mark->token_us = now_us;
}

static end_kind end_of(const exo_node_event *e) {
    if (e->status == EXO_ECANCELED) return ABORT;
    if (e->status != EXO_OK) return FAILURE;
    return e->finish == EXO_FINISH_STOP ? STOP : LENGTH;
}

void exo_meter_event(exo_meter *m, exo_meter_mark *mark, const exo_node_event *e) {
    if (mark->model == 0) return;
    uint64_t now_us = exo_now_us();
    bool last = e->status != EXO_OK || e->finish != EXO_GOING_ON;
    exo_lock_take(m->lock);
    row *r = &m->rows[mark->model - 1];
    if (!mark->running && (e->started || e->has_token)) {
        mark->running = true;
        r->waiting--;
        r->running++;
    }
    note_tokens(r, mark, e, now_us);
    if (last) {
        *(mark->running ? &r->running : &r->waiting) -= 1;
        r->ended[end_of(e)]++;
        if (e->status == EXO_OK) note_times(r, WHOLE_ANSWER, now_us - mark->began_us, 1);
        mark->model = 0;
    }
    exo_lock_give(m->lock);
}

/* ---- showing ---- */

static json_t *histogram_json(const histogram *h, time_kind kind) {
    const double *bounds = scales[kind].bounds;
    json_t *le = json_array(), *counts = json_array();
    for (uint32_t i = 0; i < MAX_BOUNDS && bounds[i] != 0; i++) {
        json_array_append_new(le, json_real(bounds[i]));
    }
    size_t n = json_array_size(le);
    for (size_t i = 0; i <= n; i++) {
        json_array_append_new(counts, json_integer((json_int_t)h->counts[i]));
    }
    return json_pack("{s:o, s:o, s:f}", "le", le, "counts", counts, "sum", h->sum);
}

static json_t *row_json(const row *r) {
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:{s:I, s:I, s:I, s:I}, s:o, s:o, s:o}", "running",
                     (json_int_t)r->running, "waiting", (json_int_t)r->waiting, "prompt_tokens",
                     (json_int_t)r->prompt_tokens, "answer_tokens", (json_int_t)r->answer_tokens,
                     "cached_tokens", (json_int_t)r->cached_tokens, "ended", "stop",
                     (json_int_t)r->ended[STOP], "length", (json_int_t)r->ended[LENGTH], "abort",
                     (json_int_t)r->ended[ABORT], "error", (json_int_t)r->ended[FAILURE],
                     "first_token_s", histogram_json(&r->times[FIRST_TOKEN], FIRST_TOKEN),
                     "next_token_s", histogram_json(&r->times[NEXT_TOKEN], NEXT_TOKEN), "answer_s",
                     histogram_json(&r->times[WHOLE_ANSWER], WHOLE_ANSWER));
}

json_t *exo_meter_json(exo_meter *m) {
    json_t *all = json_object();
    exo_lock_take(m->lock);
    for (uint32_t i = 0; i < m->n; i++) {
        json_object_set_new(all, m->rows[i].model_id, row_json(&m->rows[i]));
    }
    exo_lock_give(m->lock);
    return all;
}
