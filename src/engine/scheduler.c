/* scheduler.c - the life of requests: queued, running, answered, ended.
 *
 * Owns the lists, slots and the ring of steps in flight; scheduler_step.c decides what goes into
 * a step.  Knows no model, text or network.  Everything a request may ever need is allocated when
 * it is added, so that steps and results cannot fail for want of memory. */
#include "engine/scheduler_impl.h"

#include "base/assert.h"
#include "base/mem.h"

#include <inttypes.h>
#include <string.h>

#define DEFAULT_MAX_WAITING 256
#define MAX_IN_FLIGHT       1024

/* ---- lists ---- */

void exo_seq_list_insert(exo_seq_list *l, exo_seq *q) {
    exo_seq *older = l->youngest;
    while (older != NULL && older->arrival > q->arrival) older = older->older;
    q->older = older;
    q->younger = older != NULL ? older->younger : l->oldest;
    if (q->younger != NULL)
        q->younger->older = q;
    else
        l->youngest = q;
    if (older != NULL)
        older->younger = q;
    else
        l->oldest = q;
    l->n++;
}

void exo_seq_list_remove(exo_seq_list *l, exo_seq *q) {
    if (q->older != NULL)
        q->older->younger = q->younger;
    else
        l->oldest = q->younger;
    if (q->younger != NULL)
        q->younger->older = q->older;
    else
        l->youngest = q->older;
    l->n--;
}

static exo_seq *find_in(const exo_seq_list *l, uint64_t id) {
    exo_seq *q = l->oldest;
    while (q != NULL && q->id != id) q = q->younger;
    return q;
}

static exo_seq *find_seq(const exo_sched *s, uint64_t id) {
    exo_seq *q = find_in(&s->running, id);
    return q != NULL ? q : find_in(&s->waiting, id);
}

/* ---- creation ---- */

static exo_status check_desc(const exo_sched_desc *d, exo_error *err) {
    if (d->max_seqs == 0 || d->max_seqs > EXO_MAX_SEQS)
        return exo_error_set(err, EXO_EINVAL, "max_seqs is %" PRIu32 ", not from 1 to %d",
                             d->max_seqs, EXO_MAX_SEQS);
    if (d->max_rows < d->max_seqs || d->max_rows > EXO_MAX_STEP_ROWS)
        return exo_error_set(err, EXO_EINVAL,
                             "max_rows is %" PRIu32 ", not from max_seqs (%" PRIu32 ") to %d",
                             d->max_rows, d->max_seqs, EXO_MAX_STEP_ROWS);
    uint32_t max_ctx = (EXO_MAX_STEP_PAGES - EXO_MAX_SEQS) * EXO_KV_PAGE_TOKENS;
    if (d->ctx_tokens < 2 || d->ctx_tokens > max_ctx)
        return exo_error_set(err, EXO_EINVAL, "ctx_tokens is %" PRIu32 ", not from 2 to %" PRIu32,
                             d->ctx_tokens, max_ctx);
    if (d->max_in_flight > MAX_IN_FLIGHT)
        return exo_error_set(err, EXO_EINVAL, "max_in_flight is %" PRIu32 ", more than %d",
                             d->max_in_flight, MAX_IN_FLIGHT);
    return EXO_OK;
}

static exo_status allocate(exo_sched *s, exo_error *err) {
    const exo_sched_desc *d = &s->desc;
    exo_status st = exo_pages_create(d->n_pages, &s->pages, err);
    if (st != EXO_OK) return st;
    s->slot_taken = exo_calloc(d->max_seqs, sizeof *s->slot_taken);
    s->in_flight = exo_calloc(d->max_in_flight, sizeof *s->in_flight);
    s->due = exo_calloc((size_t)d->max_in_flight * d->max_seqs, sizeof *s->due);
    if (s->slot_taken == NULL || s->in_flight == NULL || s->due == NULL)
        return exo_error_set(err, EXO_ENOMEM, "no memory for the scheduler");
    for (uint32_t i = 0; i < d->max_in_flight; i++)
        s->in_flight[i].due = s->due + (size_t)i * d->max_seqs;
    return EXO_OK;
}

exo_status exo_sched_create(const exo_sched_desc *d, exo_sched **out, exo_error *err) {
    *out = NULL;
    exo_status st = check_desc(d, err);
    if (st != EXO_OK) return st;
    exo_sched *s = exo_calloc(1, sizeof *s);
    if (s == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for the scheduler");
    s->desc = *d;
    if (s->desc.max_in_flight == 0) s->desc.max_in_flight = 1;
    if (s->desc.max_waiting == 0) s->desc.max_waiting = DEFAULT_MAX_WAITING;
    /* The last token that is drawn needs no place in the pool. */
    uint64_t pool_tokens = (uint64_t)d->n_pages * EXO_KV_PAGE_TOKENS + 1;
    s->limit_tokens = d->ctx_tokens < pool_tokens ? d->ctx_tokens : (uint32_t)pool_tokens;
    s->limit_pages = exo_pages_for(s->limit_tokens - 1);
    exo_sched_set_chunk(s, d->chunk_tokens);
    st = allocate(s, err);
    if (st != EXO_OK) {
        exo_sched_destroy(s);
        return st;
    }
    *out = s;
    return EXO_OK;
}

static void destroy_seq(exo_seq *q) {
    if (q == NULL) return;
    exo_free(q->tokens);
    exo_free(q->pages);
    exo_free(q);
}

static void destroy_list(exo_seq_list *l) {
    while (l->oldest != NULL) {
        exo_seq *q = l->oldest;
        exo_seq_list_remove(l, q);
        destroy_seq(q);
    }
}

void exo_sched_destroy(exo_sched *s) {
    if (s == NULL) return;
    destroy_list(&s->running);
    destroy_list(&s->waiting);
    exo_pages_destroy(s->pages);
    exo_free(s->slot_taken);
    exo_free(s->in_flight);
    exo_free(s->due);
    exo_free(s);
}

void exo_sched_set_chunk(exo_sched *s, uint32_t chunk_tokens) {
    uint32_t max = s->desc.max_rows;
    s->desc.chunk_tokens = chunk_tokens == 0 || chunk_tokens > max ? max : chunk_tokens;
}

uint32_t exo_sched_step_pages(const exo_sched *s) { return s->limit_pages + s->desc.max_seqs; }

/* ---- requests ---- */

static exo_status check_prompt(const exo_sched *s, uint64_t id, size_t n_prompt, exo_error *err) {
    if (n_prompt == 0) return exo_error_set(err, EXO_EINVAL, "the prompt is empty");
    if (n_prompt >= s->desc.ctx_tokens)
        return exo_error_set(err, EXO_ETOOLONG,
                             "the prompt has %zu tokens, but the context holds %" PRIu32
                             " with the answer",
                             n_prompt, s->desc.ctx_tokens);
    if (n_prompt >= s->limit_tokens)
        return exo_error_set(err, EXO_ETOOLONG,
                             "the prompt of %zu tokens needs %" PRIu32
                             " KV pages, but there are only %" PRIu32,
                             n_prompt, exo_pages_for((uint32_t)n_prompt), s->desc.n_pages);
    if (find_seq(s, id) != NULL)
        return exo_error_set(err, EXO_EINVAL, "request %" PRIu64 " exists already", id);
    if (s->waiting.n >= s->desc.max_waiting)
        return exo_error_set(err, EXO_EBUSY, "%" PRIu32 " requests are waiting already; try later",
                             s->waiting.n);
    return EXO_OK;
}

exo_status exo_sched_add(exo_sched *s, uint64_t id, exo_tokens prompt, exo_error *err) {
    exo_status st = check_prompt(s, id, prompt.n, err);
    if (st != EXO_OK) return st;
    exo_seq *q = exo_calloc(1, sizeof *q);
    if (q == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for a request");
    q->tokens = exo_malloc(s->limit_tokens * sizeof *q->tokens);
    q->pages = exo_malloc(s->limit_pages * sizeof *q->pages);
    if (q->tokens == NULL || q->pages == NULL) {
        destroy_seq(q);
        return exo_error_set(err, EXO_ENOMEM, "no memory for a request");
    }
    q->id = id;
    q->arrival = ++s->last_arrival;
    q->n_prompt = q->n_tokens = (uint32_t)prompt.n;
    memcpy(q->tokens, prompt.ids, prompt.n * sizeof *q->tokens);
    exo_seq_list_insert(&s->waiting, q);
    return EXO_OK;
}

exo_page_content exo_sched_content(const exo_sched *s, const exo_seq *q, uint32_t i) {
    uint32_t first = i * EXO_KV_PAGE_TOKENS, n = 0;
    if (s->desc.has_classes && q->n_prompt > first) n = q->n_prompt - first;
    if (n > EXO_KV_PAGE_TOKENS) n = EXO_KV_PAGE_TOKENS;
    return (exo_page_content){q->tokens + first, n};
}

void exo_sched_publish(exo_sched *s, exo_seq *q) {
    while ((q->n_whole + 1) * EXO_KV_PAGE_TOKENS <= q->n_rows) {
        exo_pages_publish(s->pages, q->pages[q->n_whole], &q->prefix,
                          exo_sched_content(s, q, q->n_whole));
        q->n_whole++;
    }
}

void exo_sched_vacate(exo_sched *s, exo_seq *q) {
    exo_sched_publish(s, q);
    /* The last page first, so that of a cached prefix its tail is the oldest. */
    for (uint32_t i = q->n_pages; i > 0; i--) exo_pages_release(s->pages, q->pages[i - 1]);
    q->n_pages = q->n_whole = q->n_rows = 0;
    q->prefix = (exo_prefix){0};
    s->slot_taken[q->slot] = false;
    q->is_running = false;
    exo_seq_list_remove(&s->running, q);
}

void exo_sched_end(exo_sched *s, uint64_t id) {
    exo_seq *q = find_seq(s, id);
    if (q == NULL) return;
    if (q->is_running)
        exo_sched_vacate(s, q);
    else
        exo_seq_list_remove(&s->waiting, q);
    for (uint32_t i = 0; q->is_drawing && i < s->n_in_flight; i++) {
        exo_step_due *step = &s->in_flight[(s->first_in_flight + i) % s->desc.max_in_flight];
        for (uint32_t k = 0; k < step->n_due; k++) {
            if (step->due[k].seq == q) step->due[k].seq = NULL;
        }
    }
    destroy_seq(q);
}

/* ---- results ---- */

static exo_status check_result(const exo_sched *s, uint64_t number, const uint32_t *seqs,
                               const int32_t *tokens, uint32_t n, exo_error *err) {
    const exo_step_due *step = &s->in_flight[s->first_in_flight];
    if (s->n_in_flight == 0 || step->number != number)
        return exo_error_set(err, EXO_EINTERNAL,
                             "a result of step %" PRIu64 ", but step %" PRIu64 " is due", number,
                             s->n_in_flight == 0 ? 0 : step->number);
    if (step->n_due != n)
        return exo_error_set(err, EXO_EINTERNAL,
                             "step %" PRIu64 " drew %" PRIu32 " tokens instead of %" PRIu32, number,
                             n, step->n_due);
    for (uint32_t i = 0; i < n; i++) {
        if (seqs[i] != step->due[i].slot || tokens[i] < 0)
            return exo_error_set(err, EXO_EINTERNAL,
                                 "step %" PRIu64 " drew token %" PRId32 " for slot %" PRIu32
                                 ", but slot %" PRIu32 " is due",
                                 number, tokens[i], seqs[i], step->due[i].slot);
    }
    return EXO_OK;
}

exo_status exo_sched_result(exo_sched *s, uint64_t number, const uint32_t *seqs,
                            const int32_t *tokens, uint32_t n, exo_sched_answer *out,
                            exo_error *err) {
    exo_status st = check_result(s, number, seqs, tokens, n, err);
    if (st != EXO_OK) return st;
    exo_step_due *step = &s->in_flight[s->first_in_flight];
    for (uint32_t i = 0; i < n; i++) {
        const exo_draw_due *due = &step->due[i];
        exo_seq *q = due->seq;
        out[i] = (exo_sched_answer){.id = due->id, .pos = due->pos, .live = q != NULL};
        if (q == NULL) continue;
        EXO_ASSERT(q->is_drawing && q->n_tokens == due->pos);
        q->tokens[q->n_tokens++] = tokens[i];
        q->is_drawing = false;
        q->is_full = q->n_tokens >= s->limit_tokens;
        out[i].ctx_full = q->is_full;
    }
    step->n_due = 0;
    s->first_in_flight = (s->first_in_flight + 1) % s->desc.max_in_flight;
    s->n_in_flight--;
    return EXO_OK;
}

/* ---- questions ---- */

exo_tokens exo_sched_tokens(const exo_sched *s, uint64_t id) {
    const exo_seq *q = find_seq(s, id);
    if (q == NULL) return (exo_tokens){0};
    return (exo_tokens){.ids = q->tokens, .n = q->n_tokens};
}

void exo_sched_get_stats(const exo_sched *s, exo_sched_stats *out) {
    exo_pages_counts pages = exo_pages_count(s->pages);
    *out = (exo_sched_stats){
        .n_running = s->running.n,
        .n_waiting = s->waiting.n,
        .n_in_flight = s->n_in_flight,
        .pages_used = pages.n_held,
        .pages_cached = pages.n_cached,
        .pages_total = s->desc.n_pages,
        .prefix_hit_tokens = s->prefix_hit_tokens,
        .preemptions = s->preemptions,
    };
}

bool exo_sched_progress(const exo_sched *s, uint64_t id, uint32_t *done, uint32_t *total,
                        uint32_t *cached) {
    const exo_seq *q = find_seq(s, id);
    if (q == NULL) return false;
    bool whole = q->n_tokens > q->n_prompt || q->n_rows > q->n_prompt;
    *done = whole ? q->n_prompt : q->n_rows;
    *total = q->n_prompt;
    *cached = q->n_reused < q->n_prompt ? q->n_reused : q->n_prompt;
    return true;
}
