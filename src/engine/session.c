/* session.c - the public session: one sequence on one shard that holds the whole model.
 *
 * Owns its device, the shard and the tokens whose KV is computed.  Its pages are the identity
 * (page i holds positions 32 i on) and are assigned once, when it is created.  It has no sampler:
 * callers that want text use the stages; callers that want numbers, such as perplexity and tests,
 * take the logits here.  Where its device fails the session moves to the CPU and computes its
 * tokens again. */
#include <exo/session.h>

#include "base/mem.h"
#include "engine/seat.h"

#include <string.h>

#define DEFAULT_CHUNK   256
#define EVAL_LOGIT_ROWS 32 /* rows per step of exo_session_eval(); memory is touched by it only */

struct exo_session {
    exo_model *model; /* the seat makes the shard anew from it */
    exo_seat seat;
    exo_shard *shard; /* NULL: the device was lost and the CPU would not take over */
    uint32_t ctx;
    exo_step step;       /* room for one chunk */
    int32_t *tokens;     /* (ctx) whose KV is computed ... */
    uint32_t n_tokens;   /* ... this many */
    size_t n_prompt;     /* positions below are the prompt's */
    const float *logits; /* behind tokens[n_tokens - 1]; NULL when not computed */
    uint32_t chunk;      /* rows per step */
    uint32_t eval_chunk; /* rows per step when each wants logits */
};

/* All pages of the one sequence, in a step without rows. */
static exo_status assign_identity_pages(exo_session *s, exo_error *err) {
    uint32_t n = exo_shard_get_desc(s->shard)->n_pages;
    exo_step step;
    exo_status st = exo_step_init(&step, 0, n < EXO_MAX_STEP_PAGES ? n : EXO_MAX_STEP_PAGES, err);
    for (uint32_t first = 0; st == EXO_OK && first < n; first += step.n_pages) {
        exo_step_clear(&step);
        for (uint32_t i = first; i < n && step.n_pages < step.cap_pages; i++) {
            step.pages[step.n_pages++] = (exo_page_entry){.index = i, .page = i};
        }
        st = exo_shard_run(s->shard, &step, NULL, NULL, NULL, err);
    }
    exo_step_finish(&step);
    return st;
}

static exo_status create_parts(exo_session *s, exo_model *model, const exo_session_desc *d,
                               exo_error *err) {
    const exo_seat_desc seat = {.device = d->device,
                                .n_threads = d->n_threads,
                                .model = model,
                                .shard = {.layer_end = exo_model_hparams(model)->n_layers,
                                          .has_embedding = true,
                                          .has_head = true,
                                          .kv_type = exo_kv_type_of(d->kv_f16, d->kv_q8_0),
                                          .ctx_tokens = d->ctx_tokens,
                                          .max_seqs = 1,
                                          .max_rows = s->chunk,
                                          .max_logit_rows = s->eval_chunk},
                                .progress = d->load_progress,
                                .ud = d->ud};
    exo_status st = exo_seat_open(&s->seat, &seat, &s->shard, err);
    if (st != EXO_OK) return st;
    s->seat.d.progress = NULL; /* what is loaded again later is no news to the caller */
    s->ctx = exo_shard_get_desc(s->shard)->ctx_tokens;
    s->tokens = exo_calloc(exo_session_ctx(s), sizeof *s->tokens);
    if (s->tokens == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for the tokens");
    st = exo_step_init(&s->step, s->chunk, 0, err);
    return st == EXO_OK ? assign_identity_pages(s, err) : st;
}

exo_status exo_session_create(exo_model *model, const exo_session_desc *desc, exo_session **out,
                              exo_error *err) {
    *out = NULL;
    exo_session *s = exo_calloc(1, sizeof *s);
    if (s == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for a session");
    s->model = exo_model_ref(model);
    s->chunk = desc->prefill_chunk != 0 ? desc->prefill_chunk : DEFAULT_CHUNK;
    s->n_prompt = SIZE_MAX;
    s->eval_chunk = s->chunk < EVAL_LOGIT_ROWS ? s->chunk : EVAL_LOGIT_ROWS;
    exo_status st = create_parts(s, model, desc, err);
    if (st != EXO_OK) {
        exo_session_destroy(s);
        return st;
    }
    *out = s;
    return EXO_OK;
}

void exo_session_destroy(exo_session *s) {
    if (s == NULL) return;
    exo_step_finish(&s->step);
    exo_free(s->tokens);
    exo_shard_destroy(s->shard);
    exo_seat_close(&s->seat);
    exo_model_unref(s->model);
    exo_free(s);
}

/* ---- steps ---- */

/* Computes the next n of tokens behind what is there.  The logits of the last n_logits rows are
 * then in the shard. */
static exo_status try_extend(exo_session *s, const int32_t *tokens, uint32_t n, uint32_t n_logits,
                             exo_error *err) {
    s->logits = NULL;
    exo_step_clear(&s->step);
    s->step.number++;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t pos = s->n_tokens + i;
        s->step.rows[i] = (exo_row){.pos = pos,
                                    .token = tokens[i],
                                    .flags = (i >= n - n_logits ? EXO_ROW_LOGITS : 0u) |
                                             (pos < s->n_prompt ? EXO_ROW_PROMPT : 0u)};
    }
    s->step.n_rows = n;
    exo_status st = exo_shard_run(s->shard, &s->step, NULL, NULL, NULL, err);
    if (st != EXO_OK) return st;
    memcpy(s->tokens + s->n_tokens, tokens, n * sizeof *tokens);
    s->n_tokens += n;
    if (n_logits > 0) s->logits = exo_shard_logits(s->shard, n_logits - 1);
    return EXO_OK;
}

/* try_extend; where the device fails the session moves to the CPU, and *moved tells that nothing is
 * computed any more: the caller begins anew. */
static exo_status extend(exo_session *s, const int32_t *tokens, uint32_t n, uint32_t n_logits,
                         bool *moved, exo_error *err) {
    exo_error why = {0};
    *moved = false;
    exo_status st = s->shard != NULL ? try_extend(s, tokens, n, n_logits, &why)
                                     : exo_error_set(&why, EXO_EIO, "%s", s->seat.reason);
    if (s->shard == NULL || !exo_seat_can_move(&s->seat, st)) {
        if (err != NULL && st != EXO_OK) *err = why;
        return st;
    }
    *moved = true;
    s->n_tokens = 0;
    st = exo_seat_move(&s->seat, s->shard, why.message, &s->shard, err);
    return st == EXO_OK ? assign_identity_pages(s, err) : st;
}

static exo_status check_length(const exo_session *s, exo_tokens tokens, exo_error *err) {
    if (tokens.n == 0) return exo_error_set(err, EXO_EINVAL, "no tokens to compute");
    if (tokens.n > exo_session_ctx(s)) {
        return exo_error_set(err, EXO_ETOOLONG, "%zu tokens do not fit a context of %u", tokens.n,
                             exo_session_ctx(s));
    }
    return EXO_OK;
}

exo_status exo_session_sync(exo_session *s, exo_tokens tokens, exo_progress_fn progress, void *ud,
                            exo_error *err) {
    exo_status st = check_length(s, tokens, err);
    if (st != EXO_OK) return st;
    uint32_t n = (uint32_t)tokens.n, common = 0;
    while (common < n && common < s->n_tokens && tokens.ids[common] == s->tokens[common]) common++;
    if (common == n && s->n_tokens == n && s->logits != NULL) return EXO_OK;

    /* The last token is computed even when its KV is there: its logits are what is asked for. */
    s->n_tokens = common < n ? common : n - 1;
    s->logits = NULL;
    while (s->n_tokens < n) {
        uint32_t left = n - s->n_tokens, rows = left < s->chunk ? left : s->chunk;
        bool moved;
        st = extend(s, tokens.ids + s->n_tokens, rows, rows == left, &moved, err);
        if (st != EXO_OK) return st;
        if (progress != NULL && !progress(ud, s->n_tokens, n)) {
            return exo_error_set(err, EXO_ECANCELED, "stopped after %u of %u tokens", s->n_tokens,
                                 n);
        }
    }
    return EXO_OK;
}

exo_status exo_session_eval(exo_session *s, exo_tokens tokens, size_t from, exo_logits_fn fn,
                            void *ud, exo_error *err) {
    exo_status st = check_length(s, tokens, err);
    if (st != EXO_OK) return st;
    if (from >= tokens.n) {
        return exo_error_set(err, EXO_EINVAL, "logits from position %zu of %zu tokens", from,
                             tokens.n);
    }
    uint32_t n = (uint32_t)tokens.n, first = (uint32_t)from;
    s->n_tokens = 0;
    s->logits = NULL;
    while (s->n_tokens < n) {
        bool wanted = s->n_tokens >= first;
        uint32_t left = (wanted ? n : first) - s->n_tokens;
        uint32_t cap = wanted ? s->eval_chunk : s->chunk, rows = left < cap ? left : cap;
        bool moved;
        st = extend(s, tokens.ids + s->n_tokens, rows, wanted ? rows : 0, &moved, err);
        if (st != EXO_OK) return st;
        if (s->n_tokens > first) first = s->n_tokens; /* told, whatever becomes of the device */
        for (uint32_t i = 0; wanted && !moved && i < rows; i++) {
            fn(ud, s->n_tokens - rows + i, exo_shard_logits(s->shard, i));
        }
    }
    return EXO_OK;
}

void exo_session_set_prompt(exo_session *s, size_t n_prompt) {
    size_t same = n_prompt < s->n_prompt ? n_prompt : s->n_prompt;
    s->n_prompt = n_prompt;
    if (same >= s->n_tokens || !exo_shard_has_classes(s->shard)) return;
    s->n_tokens = (uint32_t)same;
    s->logits = NULL;
}

const float *exo_session_logits(const exo_session *s) { return s->logits; }
uint32_t exo_session_ctx(const exo_session *s) { return s->ctx; }
uint64_t exo_session_weight_bytes(const exo_session *s) {
    return s->shard != NULL ? exo_shard_weight_bytes(s->shard) : 0;
}
uint64_t exo_session_kv_bytes(const exo_session *s) {
    return s->shard != NULL ? exo_shard_kv_bytes(s->shard) : 0;
}
uint64_t exo_session_mapped_bytes(const exo_session *s) {
    return s->shard != NULL ? exo_shard_mapped_bytes(s->shard) : 0;
}
void exo_session_settle(exo_session *s, uint64_t timeout_ms) {
    if (s != NULL && s->shard != NULL) exo_shard_settle(s->shard, timeout_ms);
}
const char *exo_session_device(const exo_session *s) { return s->seat.device_id; }
const char *exo_session_device_reason(const exo_session *s) { return s->seat.reason; }
