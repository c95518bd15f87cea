/* stage.c - sequence slots over a shard: request, token history, draw, proof hash.
 *
 * Owns what a slot remembers between steps; knows neither pages nor peers.  History is absolute:
 * a row writes its token at its position, so a step run twice leaves the same history and draws
 * the same token.  The logits hash is the one thing that only goes forward, and it remembers how
 * far it came. */
#include "engine/stage.h"

#include "base/mem.h"

#include <string.h>

/* One sequence slot. */
typedef struct {
    bool used;
    exo_request request;
    int32_t *tokens; /* (ctx_tokens) token at each position; allocated with the first request */
    uint32_t n_tokens;
    exo_sha256 *hash;   /* over the logits asked for; NULL unless the request wants it */
    uint32_t hash_next; /* least position that is not in it yet */
} slot;

struct exo_stage {
    exo_shard *shard;
    exo_shard_desc own_desc;    /* the shard's; it outlives a shard that is replaced */
    const exo_shard_desc *desc; /* own_desc */
    uint32_t n_vocab;
    exo_sampler *sampler; /* NULL without head */
    slot *slots;          /* (max_seqs) */
};

exo_status exo_stage_create(exo_shard *shard_take, exo_stage **out, exo_error *err) {
    *out = NULL;
    exo_status st = EXO_OK;
    exo_stage *s = exo_calloc(1, sizeof *s);
    if (s == NULL) {
        exo_shard_destroy(shard_take);
        return exo_error_set(err, EXO_ENOMEM, "no memory for a stage");
    }
    s->shard = shard_take;
    s->own_desc = *exo_shard_get_desc(shard_take);
    s->desc = &s->own_desc;
    s->n_vocab = exo_model_hparams(exo_shard_model(shard_take))->n_vocab;
    s->slots = exo_calloc(s->desc->max_seqs, sizeof *s->slots);
    if (s->slots == NULL) st = exo_error_set(err, EXO_ENOMEM, "no memory for sequence slots");
    if (st == EXO_OK && s->desc->has_head) st = exo_sampler_create(s->n_vocab, &s->sampler, err);
    if (st != EXO_OK) {
        exo_stage_destroy(s);
        return st;
    }
    *out = s;
    return EXO_OK;
}

void exo_stage_destroy(exo_stage *s) {
    if (s == NULL) return;
    for (uint32_t i = 0; s->slots != NULL && i < s->desc->max_seqs; i++) {
        exo_request_finish(&s->slots[i].request);
        exo_sha256_destroy(s->slots[i].hash);
        exo_free(s->slots[i].tokens);
    }
    exo_free(s->slots);
    exo_sampler_destroy(s->sampler);
    exo_shard_destroy(s->shard);
    exo_free(s);
}

exo_shard *exo_stage_shard(exo_stage *s) { return s->shard; }

exo_shard *exo_stage_give_shard(exo_stage *s) {
    exo_shard *shard = s->shard;
    s->shard = NULL;
    return shard;
}

void exo_stage_take_shard(exo_stage *s, exo_shard *shard_take) { s->shard = shard_take; }

/* ---- admission ---- */

/* The slot a request was put back from, when nobody took it since; it holds the hash so far. */
static slot *find_earlier(exo_stage *s, const exo_request *r) {
    if (r->id[0] == '\0') return NULL;
    for (uint32_t i = 0; i < s->desc->max_seqs; i++) {
        slot *p = &s->slots[i];
        if (p->used && p->hash != NULL && strcmp(p->request.id, r->id) == 0) return p;
    }
    return NULL;
}

/* The hash that r goes on with: a new one, or its own from before.  An answer that comes back
 * without it goes on without: half a proof would be a wrong one. */
static exo_status take_hash(exo_stage *s, const exo_request *r, size_t n_history, exo_sha256 **hash,
                            uint32_t *next, exo_error *err) {
    *hash = NULL;
    *next = 0;
    if (!r->hash_logits || !s->desc->has_head) return EXO_OK;
    if (n_history > r->n_prompt) {
        slot *earlier = find_earlier(s, r);
        if (earlier == NULL) return EXO_OK;
        *hash = earlier->hash;
        *next = earlier->hash_next;
        earlier->hash = NULL;
        return EXO_OK;
    }
    *hash = exo_sha256_create();
    if (*hash == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for the logits hash");
    return EXO_OK;
}

exo_status exo_stage_admit(exo_stage *s, uint32_t seq, const exo_request *r, exo_tokens history,
                           exo_error *err) {
    if (seq >= s->desc->max_seqs) {
        return exo_error_set(err, EXO_EINVAL, "sequence slot %u of %u", seq, s->desc->max_seqs);
    }
    if (history.n < r->n_prompt || history.n > s->desc->ctx_tokens) {
        return exo_error_set(err, EXO_EINVAL,
                             "a history of %zu tokens: the prompt has %zu, the context %u",
                             history.n, r->n_prompt, s->desc->ctx_tokens);
    }
    slot *p = &s->slots[seq];
    if (p->tokens == NULL) p->tokens = exo_calloc(s->desc->ctx_tokens, sizeof *p->tokens);
    if (p->tokens == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for token history");
    exo_request request;
    exo_status st = exo_request_dup(r, &request, err);
    if (st != EXO_OK) return st;
    exo_sha256 *hash;
    uint32_t hash_next;
    st = take_hash(s, r, history.n, &hash, &hash_next, err);
    if (st != EXO_OK) {
        exo_request_finish(&request);
        return st;
    }
    exo_request_finish(&p->request);
    exo_sha256_destroy(p->hash);
    *p = (slot){.used = true,
                .request = request,
                .tokens = p->tokens,
                .n_tokens = (uint32_t)history.n,
                .hash = hash,
                .hash_next = hash_next};
    if (history.n > 0) memcpy(p->tokens, history.ids, history.n * sizeof *history.ids);
    exo_shard_clear_seq(s->shard, seq);
    return EXO_OK;
}

/* ---- steps ---- */

/* Every row's token into its slot's history. */
static exo_status extend_histories(exo_stage *s, const exo_step *step, exo_error *err) {
    for (uint32_t i = 0; i < step->n_rows; i++) {
        const exo_row *r = &step->rows[i];
        slot *p = r->seq < s->desc->max_seqs ? &s->slots[r->seq] : NULL;
        if (p == NULL || !p->used) {
            return exo_error_set(err, EXO_EINVAL, "step %llu: slot %u serves no request",
                                 (unsigned long long)step->number, r->seq);
        }
        if (r->pos > p->n_tokens || r->pos >= s->desc->ctx_tokens) {
            return exo_error_set(err, EXO_EINVAL,
                                 "step %llu: position %u of slot %u, whose history has %u tokens",
                                 (unsigned long long)step->number, r->pos, r->seq, p->n_tokens);
        }
        p->tokens[r->pos] = r->token;
        if (r->pos == p->n_tokens) p->n_tokens++;
    }
    return EXO_OK;
}

/* Asks for what each draw of the step needs: a hash needs all logits, most draws a few ids. */
static void ask_for_draws(exo_stage *s, const exo_step *step) {
    uint32_t n = 0;
    for (uint32_t i = 0; s->desc->has_head && i < step->n_rows; i++) {
        const exo_row *r = &step->rows[i];
        if ((r->flags & EXO_ROW_LOGITS) == 0) continue;
        const slot *p = &s->slots[r->seq];
        exo_head_ask ask = exo_sampler_ask(&p->request.sampling, s->n_vocab, r->pos + 1);
        if (p->hash != NULL) ask.kind = EXO_HEAD_LOGITS;
        exo_shard_ask(s->shard, n++, &ask);
    }
}

/* The i-th logits row of the step becomes a token. */
static exo_status draw_row(exo_stage *s, const exo_row *r, uint32_t i, exo_stage_result *out,
                           exo_error *err) {
    slot *p = &s->slots[r->seq];
    *out = (exo_stage_result){.seq = r->seq, .pos = r->pos + 1};
    const exo_head_ask *asked = exo_shard_asked(s->shard, i);
    if (asked != NULL && exo_sampler_draw_top(s->sampler, &p->request.sampling, asked,
                                              exo_shard_top(s->shard, i), &out->draw)) {
        return EXO_OK;
    }
    exo_status st = exo_shard_read_logits(s->shard, i, err);
    if (st != EXO_OK) return st;
    const float *logits = exo_shard_logits(s->shard, i);
    if (p->hash != NULL) {
        if (r->pos >= p->hash_next) {
            exo_sha256_update(p->hash, logits, s->n_vocab * sizeof *logits);
            p->hash_next = r->pos + 1;
        }
        exo_sha256_peek(p->hash, out->logits_hash);
    }
    const exo_tokens history = {p->tokens, (size_t)r->pos + 1};
    st = exo_sampler_draw(s->sampler, &p->request.sampling, history, p->request.n_prompt, logits,
                          &out->draw, err);
    if (st != EXO_OK) exo_error_wrap(err, st, "slot %u, position %u", r->seq, r->pos + 1);
    return st;
}

exo_status exo_stage_run(exo_stage *s, const exo_step *step, const float *x_in, float *x_out,
                         exo_stage_result *results, uint32_t *n_results, const atomic_bool *cancel,
                         exo_error *err) {
    *n_results = 0;
    if (s->desc->has_head && exo_step_n_logits(step) > s->desc->max_seqs) {
        return exo_error_set(err, EXO_EINVAL, "step %llu wants %u tokens of %u slots",
                             (unsigned long long)step->number, exo_step_n_logits(step),
                             s->desc->max_seqs);
    }
    exo_status st = extend_histories(s, step, err);
    if (st == EXO_OK) ask_for_draws(s, step);
    if (st == EXO_OK) st = exo_shard_run(s->shard, step, x_in, x_out, cancel, err);
    if (!s->desc->has_head) return st;
    uint32_t n = 0;
    for (uint32_t i = 0; st == EXO_OK && i < step->n_rows; i++) {
        if ((step->rows[i].flags & EXO_ROW_LOGITS) == 0) continue;
        st = draw_row(s, &step->rows[i], n, &results[n], err);
        n++;
    }
    if (st == EXO_OK) *n_results = n;
    return st;
}
