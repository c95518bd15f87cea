/* cluster_world_stage.c - an engine stand-in on the real scheduler: what src/node/worker.c and
 * coordinator.c do around it, with layers that are a hash each.
 *
 * A layer mixes a row with what it kept for the position before, in the page that the coordinator's
 * table names; a token is drawn from the last layer's row, the request and a sampler that has seen
 * the answer so far.  So a token is right only if every stage ran every row of its sequence, in
 * order, on the right pages, and knows the request and its tokens.  One machine alone computes the
 * same (stage_reference). */
#include "sim/cluster_world_engine.h"

#include <stdlib.h>
#include <string.h>

#define STEP_PAGES    64
#define LOAD_LEAST_MS 20
#define LOAD_MOST_MS  600
#define STEP_LEAST_US 200
#define STEP_MOST_US  5000
#define VOCABULARY    1000003u
#define PAGE_TOKENS   32u

typedef struct {
    uint32_t seq;
    int32_t token;
} drawn;

static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static uint64_t layer(uint64_t x, uint64_t before, uint32_t il) {
    return mix(x + before * 0x9E3779B97F4A7C15u + il + 1);
}

static uint64_t embed(int32_t token) { return mix((uint64_t)token + 1); }

int32_t stage_token(uint64_t x, uint64_t sampler, uint32_t stream) {
    return (int32_t)(mix(x ^ mix(sampler + stream)) % VOCABULARY);
}

static uint64_t sampler_after(uint64_t sampler, int32_t token) {
    return mix(sampler * 31 + (uint64_t)token + 7);
}

void stage_reference(const int32_t *prompt, uint32_t n_prompt, uint32_t stream, uint32_t n_answer,
                     int32_t *out) {
    uint64_t before[SIM_LAYERS] = {0}, sampler = 0, x = 0;
    for (uint32_t p = 0; p + 1 < n_prompt + n_answer; p++) {
        x = embed(p < n_prompt ? prompt[p] : out[p - n_prompt]);
        for (uint32_t il = 0; il < SIM_LAYERS; il++) x = before[il] = layer(x, before[il], il);
        if (p + 1 < n_prompt) continue;
        out[p + 1 - n_prompt] = stage_token(x, sampler, stream);
        sampler = sampler_after(sampler, out[p + 1 - n_prompt]);
    }
}

/* ---- a stage ---- */

static const exo_shard_place *own_place(const sim_instance *i) { return &i->places[i->my_stage]; }

static uint64_t *cell(sim_instance *i, uint32_t il, const sim_seq *q, uint32_t pos) {
    uint32_t page = q->table[pos / PAGE_TOKENS];
    return &i->kv[((size_t)il * i->common_pages + page) * PAGE_TOKENS + pos % PAGE_TOKENS];
}

/* x: (n_rows), rows on their way through the layers. */
static void run_rows(sim_instance *i, const exo_step *s, uint64_t *x) {
    uint32_t begin = own_place(i)->start_layer, n = own_place(i)->end_layer - begin;
    for (uint32_t k = 0; k < s->n_pages; k++) {
        const exo_page_entry *e = &s->pages[k];
        i->seqs[e->seq].table[e->index] = e->page;
    }
    for (uint32_t r = 0; r < s->n_rows; r++) {
        const exo_row *row = &s->rows[r];
        const sim_seq *q = &i->seqs[row->seq];
        if (i->my_stage == 0) x[r] = embed(row->token);
        for (uint32_t il = 0; il < n; il++) {
            uint64_t before = row->pos > 0 ? *cell(i, il, q, row->pos - 1) : 0;
            x[r] = *cell(i, il, q, row->pos) = layer(x[r], before, begin + il);
        }
    }
}

static uint32_t draw(sim_instance *i, const exo_step *s, const uint64_t *x, drawn *out) {
    uint32_t n = 0;
    for (uint32_t r = 0; r < s->n_rows; r++) {
        if ((s->rows[r].flags & EXO_ROW_LOGITS) == 0) continue;
        sim_seq *q = &i->seqs[s->rows[r].seq];
        out[n] = (drawn){s->rows[r].seq, stage_token(x[r], q->sampler, q->stream)};
        q->sampler = sampler_after(q->sampler, out[n++].token);
    }
    return n;
}

static void admit(const cworld *w, sim_instance *i, uint32_t seq, uint32_t stream,
                  exo_tokens history) {
    sim_live request;
    stream_prompt(w, stream, &request);
    sim_seq *q = &i->seqs[seq];
    *q = (sim_seq){.stream = stream};
    if (w->d.spoil == SPOIL_HISTORY_FORGOTTEN) return;
    for (size_t k = request.n_prompt; k < history.n; k++) {
        q->sampler = sampler_after(q->sampler, history.ids[k]);
    }
}

static void send_results(cworld *w, sim_instance *i, uint64_t step, const drawn *d, uint32_t n) {
    sim_word m = {.kind = i->n_stages > 1 ? WORD_RESULT : WORD_WORK_RESULT,
                  .end = 1,
                  .step = step,
                  .n_extra = n * sizeof *d,
                  .extra = (void *)d,
                  .depart_us = i->busy_until_us};
    if (i->n_stages > 1) {
        word_on_lane(w, i->next_lane, &m, i->busy_until_us);
    } else {
        word_to_work(w, i, &m);
    }
}

/* The step through this stage's layers, and on. */
static void run_step(cworld *w, sim_instance *i, uint64_t *x) {
    uint64_t begin_us = i->busy_until_us > w->now_us ? i->busy_until_us : w->now_us;
    i->busy_until_us = begin_us + engine_between(w, STEP_LEAST_US, STEP_MOST_US);
    run_rows(i, &i->step, x);
    count(w, COUNT_STEPS);
    if (i->my_stage + 1 == i->n_stages) {
        drawn d[SIM_ROWS];
        send_results(w, i, i->step.number, d, draw(i, &i->step, x, d));
        return;
    }
    size_t n_wire = exo_step_wire_bytes(&i->step), n_rows = i->step.n_rows * sizeof *x;
    uint8_t *bytes = malloc(n_wire + n_rows);
    if (bytes == NULL) abort();
    exo_step_encode(&i->step, bytes);
    memcpy(bytes + n_wire, x, n_rows);
    word_on_lane(w, i->next_lane,
                 &(sim_word){.kind = WORD_STEP,
                             .end = 1,
                             .step = i->step.number,
                             .n_extra = n_wire + n_rows,
                             .extra = bytes},
                 i->busy_until_us);
    free(bytes);
}

/* ---- the coordinator ---- */

static sim_live *find_live(sim_instance *i, uint64_t handle) {
    sim_live *l = i->live;
    while (l != NULL && l->handle != handle) l = l->next;
    return l;
}

static void remove_live(sim_instance *i, sim_live *l) {
    sim_live **at = &i->live;
    while (*at != l) at = &(*at)->next;
    *at = l->next;
    exo_sched_end(i->sched, l->handle);
    free(l);
}

static void end_live(cworld *w, sim_instance *i, sim_live *l, exo_status status) {
    route_event(w, i->node, l->handle, &(sim_answer_event){.status = status});
    remove_live(i, l);
}

static void send_admission(cworld *w, sim_instance *i, const exo_admission *a) {
    const sim_live *l = find_live(i, a->id);
    if (l == NULL) {
        cworld_broken(w, "node %u: the scheduler admits a request that has ended", i->node);
        return;
    }
    exo_tokens history = {l->tokens, l->n_tokens};
    if (a->n_history > 0) count(w, COUNT_PUT_BACK);
    admit(w, i, a->seq, l->stream, history);
    if (i->n_stages == 1) return;
    word_on_lane(w, i->next_lane,
                 &(sim_word){.kind = WORD_ADMIT,
                             .end = 1,
                             .seq = a->seq,
                             .stream = l->stream,
                             .n_extra = history.n * sizeof *history.ids,
                             .extra = (void *)history.ids},
                 i->busy_until_us > w->now_us ? i->busy_until_us : w->now_us);
}

static void turn(cworld *w, sim_instance *i) {
    exo_admission admitted[SIM_SEQS];
    uint64_t x[SIM_ROWS] = {0};
    uint32_t n = 0;
    while (!cworld_over(w)) {
        exo_step_clear(&i->step);
        if (!exo_sched_next(i->sched, &i->step, admitted, &n)) break;
        for (uint32_t k = 0; k < n; k++) send_admission(w, i, &admitted[k]);
        run_step(w, i, x);
    }
}

static void deliver(cworld *w, sim_instance *i, const exo_sched_answer *a, int32_t token) {
    sim_live *l = find_live(i, a->id);
    if (l == NULL) return;
    l->tokens[l->n_tokens++] = token;
    sim_answer_event e = {.has_token = true, .pos = a->pos - l->n_prompt, .token = token};
    e.finished = l->n_tokens == l->n_prompt + l->n_answer || a->ctx_full;
    route_event(w, i->node, l->handle, &e);
    if (e.finished) remove_live(i, l);
}

static void on_result(cworld *w, sim_instance *i, const sim_word *m) {
    const drawn *d = m->extra;
    uint32_t seqs[SIM_ROWS], n = (uint32_t)(m->n_extra / sizeof *d);
    int32_t tokens[SIM_ROWS];
    exo_sched_answer answers[SIM_ROWS];
    exo_error err = {0};
    for (uint32_t k = 0; k < n; k++) {
        seqs[k] = d[k].seq;
        tokens[k] = d[k].token;
    }
    if (exo_sched_result(i->sched, m->step, seqs, tokens, n, answers, &err) != EXO_OK) {
        cworld_broken(w, "node %u: %s", i->node, err.message);
        return;
    }
    for (uint32_t k = 0; k < n; k++) {
        if (answers[k].live) deliver(w, i, &answers[k], tokens[k]);
    }
    turn(w, i);
}

static void submit(cworld *w, sim_instance *i, const sim_word *m) {
    exo_status st = EXO_EPEER;
    sim_live *l = calloc(1, sizeof *l);
    if (l == NULL) abort();
    stream_prompt(w, m->stream, l);
    l->handle = m->handle;
    l->stream = m->stream;
    if (i->sched != NULL && !i->failed) {
        st = exo_sched_add(i->sched, m->handle, (exo_tokens){l->tokens, l->n_tokens}, NULL);
    }
    if (st != EXO_OK) {
        free(l);
        route_event(w, i->node, m->handle, &(sim_answer_event){.status = st});
        return;
    }
    l->next = i->live;
    i->live = l;
    turn(w, i);
}

/* ---- the thread ---- */

void stage_start(cworld *w, sim_instance *i) {
    uint64_t load_ms = engine_between(w, LOAD_LEAST_MS, LOAD_MOST_MS);
    i->n_pages[i->my_stage] = (uint32_t)engine_between(w, SIM_SEQ_PAGES, SIM_MAX_PAGES);
    word_to_work(w, i,
                 &(sim_word){.kind = WORD_WORK_LOADED, .depart_us = w->now_us + load_ms * SIM_MS});
}

static void report(cworld *w, const sim_instance *i, word_kind kind) {
    sim_word m = {.kind = kind,
                  .to = i->node,
                  .instance_epoch = i->epoch,
                  .n_pages = i->n_pages[i->my_stage]};
    memcpy(m.instance, i->id, sizeof m.instance);
    word_to_loop(w, &m);
}

static void connect(cworld *w, sim_instance *i, uint32_t n_pages) {
    if (i->failed || i->connected) return;
    exo_sched_desc d = {.max_seqs = SIM_SEQS,
                        .n_pages = n_pages,
                        .ctx_tokens = SIM_CTX,
                        .max_rows = SIM_ROWS,
                        .chunk_tokens = 16,
                        .max_in_flight = i->n_stages};
    i->connected = true;
    i->common_pages = n_pages;
    uint32_t n_layers = own_place(i)->end_layer - own_place(i)->start_layer;
    i->kv = calloc((size_t)n_layers * n_pages * PAGE_TOKENS, sizeof *i->kv);
    if (i->kv == NULL || exo_step_init(&i->step, SIM_ROWS, STEP_PAGES, NULL) != EXO_OK) abort();
    exo_error err = {0};
    if (i->my_stage == 0 && exo_sched_create(&d, &i->sched, &err) != EXO_OK) {
        cworld_broken(w, "node %u: %s", i->node, err.message);
    }
    report(w, i, WORD_REPORT_READY);
}

void stage_drop(sim_instance *i) {
    for (sim_live *l = i->live, *next; l != NULL; l = next) {
        next = l->next;
        free(l);
    }
    i->live = NULL;
    exo_sched_destroy(i->sched);
    i->sched = NULL;
    exo_step_finish(&i->step);
    free(i->kv);
    i->kv = NULL;
}

void stage_stop(cworld *w, sim_instance *i) {
    while (i->live != NULL) end_live(w, i, i->live, EXO_EPEER);
    i->failed = true;
    stage_drop(i);
}

void stage_fail(cworld *w, sim_instance *i) {
    if (i->failed) return;
    i->failed = true;
    while (i->live != NULL) end_live(w, i, i->live, EXO_EPEER);
    lane_close(w, i->prev, 1);
    lane_close(w, i->next_lane, 0);
    i->prev = i->next_lane = NULL;
    report(w, i, WORD_REPORT_FAILED);
}

static void follow_step(cworld *w, sim_instance *i, const sim_word *m) {
    uint64_t x[SIM_ROWS] = {0};
    const uint8_t *bytes = m->extra;
    uint32_t n_rows = (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8;
    size_t n_wire = m->n_extra - n_rows * sizeof *x;
    exo_error err = {0};
    if (n_rows > SIM_ROWS || exo_step_decode(&i->step, bytes, n_wire, &err) != EXO_OK) {
        cworld_broken(w, "node %u cannot read a step: %s", i->node, err.message);
        return;
    }
    i->step.number = m->step;
    memcpy(x, bytes + n_wire, n_rows * sizeof *x);
    run_step(w, i, x);
}

/* What has an effect on a stage that has failed is said here; the rest waits for its end. */
void stage_on_word(cworld *w, sim_instance *i, const sim_word *m) {
    sim_live *l;
    if (m->kind == WORD_WORK_SUBMIT) submit(w, i, m);
    if (i->failed) return;
    switch (m->kind) {
    case WORD_CLOSED: stage_fail(w, i); break;
    case WORD_WORK_LOADED: report(w, i, WORD_REPORT_LOADED); break;
    case WORD_WORK_CONNECT: connect(w, i, m->n_pages); break;
    case WORD_WORK_CANCEL:
        l = w->d.spoil != SPOIL_CANCEL_IGNORED ? find_live(i, m->handle) : NULL;
        if (l != NULL) end_live(w, i, l, EXO_ECANCELED);
        if (l != NULL) turn(w, i);
        break;
    case WORD_ADMIT:
        admit(w, i, m->seq, m->stream, (exo_tokens){m->extra, m->n_extra / sizeof(int32_t)});
        if (i->my_stage + 1 < i->n_stages) {
            sim_word on = *m;
            on.lane = NULL;
            word_on_lane(w, i->next_lane, &on, w->now_us);
        }
        break;
    case WORD_STEP: follow_step(w, i, m); break;
    case WORD_RESULT:
    case WORD_WORK_RESULT: on_result(w, i, m); break;
    default: break;
    }
}
