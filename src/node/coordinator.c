/* coordinator.c - see coordinator.h.
 *
 * One turn: hand out steps while the scheduler has some and the pipeline has room, then take
 * the results that are there.  In a pipeline of one a step's results are there at once. */
#define _DEFAULT_SOURCE
#include "node/coordinator.h"

#include "base/clock.h"
#include "base/mem.h"
#include "engine/scheduler.h"

#include <string.h>

#define RESULT_DEADLINE_US 60000000u /* a step in flight for so long has failed */
#define MOVE_DEADLINE_US                                                                           \
    600000000u                     /* a stage that loads its layers on the CPU for so long, too    \
                                    */
#define CHUNK_TARGET_US    100000u /* one prompt chunk, while nobody else decodes */
#define CHUNK_SHARED_US    40000u  /* while others wait for their next token */
#define CHUNK_MIN_TOKENS   8u
#define CHUNK_FIRST_TOKENS 64u /* before anything was measured */

typedef struct live {
    struct live *next;
    uint64_t id;
    exo_request request;
    exo_answer *answer;
    exo_node_event_fn fn;
    void *ud;
    int32_t *tokens; /* prompt, then generated; (ctx_tokens) */
    size_t n_tokens;
    bool started;
} live;

struct exo_coordinator {
    exo_coordinator_desc d;
    exo_sched *sched;
    exo_step step;
    exo_admission *admitted;   /* (max_seqs) */
    uint32_t *seqs;            /* (max_seqs) of one result */
    int32_t *drawn;            /* (max_seqs) */
    exo_sched_answer *answers; /* (max_seqs) */
    live *requests;            /* newest first */
    uint32_t ctx_tokens, max_rows, max_seqs, n_vocab;
    uint32_t n_in_flight;
    uint64_t last_progress_us;
    uint64_t stale;  /* steps up to this number were given up: their results are dropped */
    uint64_t moving; /* bit i: stage i loads its layers on the CPU, no step goes out */
    uint64_t moving_since_us;
    double us_per_row; /* of prompt chunks on this stage; 0 = not measured */
    exo_buf text;
};

exo_status exo_coordinator_create(const exo_coordinator_desc *d, exo_coordinator **out,
                                  exo_error *err) {
    *out = NULL;
    exo_coordinator *c = exo_calloc(1, sizeof *c);
    if (c == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for a coordinator");
    const exo_shard_desc *shard = exo_shard_get_desc(exo_stage_shard(d->io->stage));
    c->d = *d;
    c->n_vocab = exo_model_hparams(exo_shard_model(exo_stage_shard(d->io->stage)))->n_vocab;
    c->ctx_tokens = shard->ctx_tokens;
    c->max_rows = shard->max_rows;
    c->max_seqs = shard->max_seqs;
    exo_sched_desc sd = {.max_seqs = c->max_seqs,
                         .n_pages = d->n_pages,
                         .ctx_tokens = c->ctx_tokens,
                         .max_rows = c->max_rows,
                         .chunk_tokens = d->chunk_tokens ? d->chunk_tokens : CHUNK_FIRST_TOKENS,
                         .max_in_flight = d->n_stages,
                         .has_classes = d->has_classes};
    exo_status st = exo_sched_create(&sd, &c->sched, err);
    if (st == EXO_OK) st = exo_step_init(&c->step, c->max_rows, EXO_MAX_STEP_PAGES, err);
    if (st != EXO_OK) goto fail;
    c->admitted = exo_calloc(c->max_seqs, sizeof *c->admitted);
    c->seqs = exo_calloc(c->max_seqs, sizeof *c->seqs);
    c->drawn = exo_calloc(c->max_seqs, sizeof *c->drawn);
    c->answers = exo_calloc(c->max_seqs, sizeof *c->answers);
    if (c->admitted && c->seqs && c->drawn && c->answers) {
        *out = c;
        return EXO_OK;
    }
    st = exo_error_set(err, EXO_ENOMEM, "out of memory for a coordinator");
fail:
    exo_coordinator_destroy(c);
    return st;
}

void exo_coordinator_destroy(exo_coordinator *c) {
    if (c == NULL) return;
    exo_sched_destroy(c->sched);
    exo_step_finish(&c->step);
    exo_free(c->admitted);
    exo_free(c->seqs);
    exo_free(c->drawn);
    exo_free(c->answers);
    exo_buf_finish(&c->text);
    exo_free(c);
}

/* ---- requests ---- */

static live *find(exo_coordinator *c, uint64_t id) {
    live *l = c->requests;
    while (l != NULL && l->id != id) l = l->next;
    return l;
}

static void free_live(live *l) {
    exo_answer_destroy(l->answer);
    exo_request_finish(&l->request);
    exo_free(l->tokens);
    exo_free(l);
}

static void count_tokens(exo_coordinator *c, const live *l, exo_node_event *e) {
    uint32_t done, total;
    e->n_prompt = (uint32_t)l->request.n_prompt;
    e->n_answer = exo_answer_n_tokens(l->answer);
    exo_sched_progress(c->sched, l->id, &done, &total, &e->n_cached);
}

/* Takes l out of the list and the scheduler, after its last event. */
static void remove_live(exo_coordinator *c, live *l) {
    exo_sched_end(c->sched, l->id);
    live **at = &c->requests;
    while (*at != l) at = &(*at)->next;
    *at = l->next;
    free_live(l);
}

static void put_text(const exo_coordinator *c, const live *l, exo_node_event *e) {
    exo_str reasoning = exo_answer_reasoning(l->answer);
    e->text = exo_buf_str(&c->text);
    e->n_text = c->text.n;
    e->reasoning = reasoning.s;
    e->n_reasoning = reasoning.n;
}

static void end_with_error(exo_coordinator *c, live *l, exo_status status, const char *why) {
    exo_node_event e = {.status = status, .message = why};
    exo_buf_clear(&c->text);
    exo_answer_flush(l->answer, &c->text);
    put_text(c, l, &e);
    count_tokens(c, l, &e);
    l->fn(l->ud, &e);
    remove_live(c, l);
}

void exo_coordinator_submit(exo_coordinator *c, uint64_t id, exo_request *r_take,
                            exo_node_event_fn fn, void *ud) {
    exo_error err = {0};
    exo_status st = EXO_ENOMEM;
    live *l = exo_calloc(1, sizeof *l);
    if (l == NULL) goto no_memory;
    l->request = *r_take;
    *r_take = (exo_request){0};
    l->id = id;
    l->fn = fn;
    l->ud = ud;
    l->tokens = exo_malloc(sizeof *l->tokens * (size_t)c->ctx_tokens);
    if (l->tokens == NULL) goto no_memory;
    st = exo_answer_create(c->d.tokenizer, &l->request, &l->answer, &err);
    if (st != EXO_OK) goto refused;
    st = exo_request_check_vocab(&l->request, c->n_vocab, &err); /* a step with it would fail all */
    if (st != EXO_OK) goto refused;
    exo_tokens prompt = {l->request.prompt, l->request.n_prompt};
    st = exo_sched_add(c->sched, id, prompt, &err);
    if (st != EXO_OK) goto refused;
    memcpy(l->tokens, prompt.ids, prompt.n * sizeof *l->tokens); /* the scheduler: n < ctx_tokens */
    l->n_tokens = prompt.n;
    l->next = c->requests;
    c->requests = l;
    return;
no_memory:
    st = exo_error_set(&err, EXO_ENOMEM, "out of memory for a request");
refused:
    fn(ud, &(exo_node_event){.status = st, .message = err.message});
    if (l != NULL) free_live(l);
    exo_request_finish(r_take);
}

void exo_coordinator_cancel(exo_coordinator *c, uint64_t id) {
    live *l = find(c, id);
    if (l != NULL) end_with_error(c, l, EXO_ECANCELED, "canceled");
}

void exo_coordinator_fail(exo_coordinator *c, exo_status status, const char *reason) {
    while (c->requests != NULL) end_with_error(c, c->requests, status, reason);
}

/* ---- a stage's device failed ---- */

/* Every answer under way hears of it; what was sent stays sent. */
static void announce(exo_coordinator *c, const exo_move_note *note) {
    exo_node_move move = {.stage = note->stage};
    memcpy(move.device_id, note->device_id, sizeof move.device_id);
    memcpy(move.reason, note->reason, sizeof move.reason);
    for (live *l = c->requests, *next; l != NULL; l = next) {
        next = l->next;
        exo_node_event e = {.message = "", .move = &move};
        count_tokens(c, l, &e);
        if (l->started) l->fn(l->ud, &e);
    }
}

/* All stages are there again, one of them without KV: every answer goes on from its tokens. */
static exo_status reread(exo_coordinator *c, const exo_move_note *note, exo_error *err) {
    c->stale = exo_sched_reread(c->sched);
    c->n_in_flight = 0;
    c->us_per_row = 0;
    c->last_progress_us = exo_now_us();
    announce(c, note);
    exo_move_note order = *note;
    order.op = EXO_MOVE_REREAD;
    return c->d.n_stages > 1 ? exo_stage_io_send_note(c->d.io, &order, err) : EXO_OK;
}

static exo_status move_own_stage(exo_coordinator *c, const char *why, exo_error *err) {
    exo_status st = exo_stage_io_move(c->d.io, why, err);
    if (st != EXO_OK) return st;
    exo_move_note note = {.op = EXO_MOVE_MOVED};
    memcpy(note.device_id, c->d.io->seat.device_id, sizeof note.device_id);
    memcpy(note.reason, c->d.io->seat.reason, sizeof note.reason);
    if (c->d.moved != NULL) c->d.moved(c->d.ud);
    return reread(c, &note, err);
}

static exo_status take_note(exo_coordinator *c, const exo_frame *f, exo_error *err) {
    exo_move_note note;
    exo_status st = exo_move_note_decode(f, &note, err);
    if (st != EXO_OK) return st;
    uint64_t bit = UINT64_C(1) << note.stage;
    if (note.op == EXO_MOVE_MOVING) {
        c->moving |= bit;
        c->moving_since_us = exo_now_us();
    } else if (note.op == EXO_MOVE_MOVED) {
        c->moving &= ~bit;
        return reread(c, &note, err);
    }
    return EXO_OK;
}

/* ---- steps out ---- */

static exo_status admit(exo_coordinator *c, const exo_admission *a, exo_error *err) {
    live *l = find(c, a->id);
    if (l == NULL) return exo_error_set(err, EXO_EINTERNAL, "admission of an unknown request");
    exo_tokens history = {l->tokens, l->n_tokens};
    exo_status st = exo_stage_admit(c->d.io->stage, a->seq, &l->request, history, err);
    if (st == EXO_OK && c->d.n_stages > 1) {
        st = exo_stage_io_send_admit(c->d.io, a->seq, &l->request, history, err);
    }
    if (st == EXO_OK && !l->started) {
        l->started = true;
        exo_node_event e = {.started = true, .message = ""};
        count_tokens(c, l, &e);
        l->fn(l->ud, &e);
    }
    return st;
}

/* Prompt chunks follow measured time, so that cancel and other answers never wait long. */
static void size_chunks(exo_coordinator *c) {
    uint32_t rows = c->step.n_rows;
    if (c->d.chunk_tokens != 0 || rows < 2 || exo_step_n_logits(&c->step) == rows) return;
    double us = (double)c->d.io->last_run_us / rows;
    c->us_per_row = c->us_per_row == 0 ? us : 0.75 * c->us_per_row + 0.25 * us;
    exo_sched_stats stats;
    exo_sched_get_stats(c->sched, &stats);
    double target = stats.n_running > 1 ? CHUNK_SHARED_US : CHUNK_TARGET_US;
    double chunk = target / (c->us_per_row + 0.001);
    if (chunk < CHUNK_MIN_TOKENS) chunk = CHUNK_MIN_TOKENS;
    exo_sched_set_chunk(c->sched, chunk > c->max_rows ? c->max_rows : (uint32_t)chunk);
}

static exo_status take_results(exo_coordinator *c, uint64_t number, exo_error *err);

/* *any: a step was handed out. */
static exo_status hand_out(exo_coordinator *c, bool *any, exo_error *err) {
    uint32_t n_admitted = 0;
    exo_step_clear(&c->step);
    *any = false;
    if (c->moving != 0) return EXO_OK;
    *any = exo_sched_next(c->sched, &c->step, c->admitted, &n_admitted);
    if (!*any) return EXO_OK;
    exo_status st = EXO_OK;
    for (uint32_t i = 0; i < n_admitted && st == EXO_OK; i++) st = admit(c, &c->admitted[i], err);
    if (st != EXO_OK) return st;
    exo_error why = {0};
    st = exo_stage_io_run(c->d.io, &c->step, &why);
    if (exo_seat_can_move(&c->d.io->seat, st)) return move_own_stage(c, why.message, err);
    if (st != EXO_OK) {
        *err = why;
        return st;
    }
    size_chunks(c);
    if (c->n_in_flight++ == 0) c->last_progress_us = exo_now_us();
    if (c->d.n_stages == 1) return take_results(c, c->step.number, err);
    return exo_stage_io_send_step(c->d.io, &c->step, err);
}

/* ---- results in ---- */

static void deliver(exo_coordinator *c, const exo_stage_result *r, const exo_sched_answer *a) {
    live *l = find(c, a->id);
    if (l == NULL) return;
    if (l->n_tokens < c->ctx_tokens) l->tokens[l->n_tokens++] = r->draw.id;
    exo_node_event e = {.has_token = true, .draw = r->draw, .pos = r->pos, .message = ""};
    exo_buf_clear(&c->text);
    exo_status st = exo_answer_push(l->answer, r->draw.id, a->ctx_full, &c->text, &e.finish);
    if (st != EXO_OK || !exo_buf_ok(&c->text)) {
        end_with_error(c, l, EXO_ENOMEM, "out of memory for the text of an answer");
        return;
    }
    put_text(c, l, &e);
    e.aside = exo_answer_is_aside(l->answer);
    if (l->request.hash_logits) e.logits_hash = r->logits_hash;
    count_tokens(c, l, &e);
    l->fn(l->ud, &e);
    if (e.finish != EXO_GOING_ON) remove_live(c, l);
}

/* The results of step `number` are in io->results. */
static exo_status take_results(exo_coordinator *c, uint64_t number, exo_error *err) {
    exo_stage_io *io = c->d.io;
    for (uint32_t i = 0; i < io->n_results; i++) {
        c->seqs[i] = io->results[i].seq;
        c->drawn[i] = io->results[i].draw.id;
    }
    exo_status st =
        exo_sched_result(c->sched, number, c->seqs, c->drawn, io->n_results, c->answers, err);
    if (st != EXO_OK) return st;
    c->n_in_flight--;
    c->last_progress_us = exo_now_us();
    for (uint32_t i = 0; i < io->n_results; i++) {
        if (c->answers[i].live) deliver(c, &io->results[i], &c->answers[i]);
    }
    return EXO_OK;
}

/* *any: a frame was taken. */
static exo_status take_frame(exo_coordinator *c, bool *any, exo_error *err) {
    exo_stage_io *io = c->d.io;
    exo_frame f;
    exo_status st = exo_stage_io_recv(io, &f, any, err);
    if (st != EXO_OK || !*any) return st;
    if (f.type == EXO_MSG_DEVICE) return take_note(c, &f, err);
    if (f.type != EXO_MSG_RESULT || f.seq <= c->stale)
        return EXO_OK; /* unknown types are skipped */
    st =
        exo_results_decode(f.header, f.header_bytes, c->max_seqs, io->results, &io->n_results, err);
    return st != EXO_OK ? st : take_results(c, f.seq, err);
}

static void count_pages(const exo_coordinator *c) {
    exo_sched_stats s;
    exo_sched_get_stats(c->sched, &s);
    atomic_store(&c->d.io->counters->pages_used, s.pages_used);
    atomic_store(&c->d.io->counters->pages_total, s.pages_total);
}

exo_status exo_coordinator_turn(exo_coordinator *c, uint64_t *deadline_us, exo_error *err) {
    bool handed, taken = false;
    exo_status st = hand_out(c, &handed, err);
    if (st == EXO_OK && c->d.n_stages > 1) st = take_frame(c, &taken, err);
    if (st != EXO_OK) return st;
    count_pages(c);
    uint64_t now = exo_now_us();
    *deadline_us = UINT64_MAX;
    if (handed || taken) {
        *deadline_us = now;
    } else if (c->moving != 0) {
        *deadline_us = c->moving_since_us + MOVE_DEADLINE_US;
        if (now > *deadline_us) {
            return exo_error_set(err, EXO_ETIMEDOUT,
                                 "a stage was not loaded on its CPU within %u s",
                                 MOVE_DEADLINE_US / 1000000);
        }
    } else if (c->n_in_flight > 0) {
        *deadline_us = c->last_progress_us + RESULT_DEADLINE_US;
        if (now > *deadline_us) {
            return exo_error_set(err, EXO_ETIMEDOUT, "no result of a step for %u s",
                                 RESULT_DEADLINE_US / 1000000);
        }
    }
    return EXO_OK;
}
