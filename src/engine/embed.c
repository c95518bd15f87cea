/* embed.c - see embed.h: one sequence, one step, one shard without a head.
 *
 * An encoder's rows see each other, so that a text must fit one step; decoders are held to the
 * same limit for simplicity.  Sums over rows are in double, in order. */
#include "engine/embed.h"

#include "base/mem.h"
#include "engine/shard.h"

#include <math.h>
#include <string.h>

struct exo_embedder {
    const exo_backend *backend;
    exo_device *device;
    exo_shard *shard;
    const exo_hparams *hparams;
    exo_step step;
    float *rows; /* (max_rows, n_embd) */
};

static exo_status create_parts(exo_embedder *e, exo_model *m, const exo_session_desc *d,
                               exo_error *err) {
    const exo_device_desc device = {.n_threads = d->n_threads, .spin = true};
    uint32_t ctx = d->ctx_tokens != 0 ? d->ctx_tokens : e->hparams->ctx_train;
    if (ctx > EXO_MAX_STEP_ROWS) ctx = EXO_MAX_STEP_ROWS;
    exo_status st = exo_device_open(d->device != NULL ? d->device : "cpu:0", &device, &e->backend,
                                    &e->device, err);
    if (st != EXO_OK) return st;
    const exo_shard_desc shard = {.layer_end = e->hparams->n_layers,
                                  .has_embedding = true,
                                  .embeddings = true,
                                  .kv_type = exo_kv_type_of(d->kv_f16, d->kv_q8_0),
                                  .ctx_tokens = ctx,
                                  .max_seqs = 1,
                                  .max_rows = ctx};
    st =
        exo_shard_create(m, e->backend, e->device, &shard, d->load_progress, d->ud, &e->shard, err);
    if (st != EXO_OK) return st;
    uint32_t n_pages = exo_shard_get_desc(e->shard)->n_pages;
    e->rows = exo_calloc((size_t)ctx * e->hparams->n_embd, sizeof *e->rows);
    if (e->rows == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for %u rows", ctx);
    st = exo_step_init(&e->step, ctx, n_pages, err);
    if (st != EXO_OK) return st;
    for (uint32_t i = 0; i < n_pages; i++) {
        e->step.pages[e->step.n_pages++] = (exo_page_entry){.index = i, .page = i};
    }
    return exo_shard_run(e->shard, &e->step, NULL, NULL, NULL, err);
}

exo_status exo_embedder_create(exo_model *m, const exo_session_desc *d, exo_embedder **out,
                               exo_error *err) {
    *out = NULL;
    if (exo_model_hparams(m)->pooling == EXO_POOL_NONE) {
        return exo_error_set(err, EXO_EUNSUPPORTED,
                             "%s names no pooling: it is no model for embeddings", exo_model_id(m));
    }
    exo_embedder *e = exo_calloc(1, sizeof *e);
    if (e == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for an embedder");
    e->hparams = exo_model_hparams(m);
    exo_status st = create_parts(e, m, d, err);
    if (st != EXO_OK) {
        exo_embedder_destroy(e);
        return st;
    }
    *out = e;
    return EXO_OK;
}

void exo_embedder_destroy(exo_embedder *e) {
    if (e == NULL) return;
    exo_step_finish(&e->step);
    exo_free(e->rows);
    exo_shard_destroy(e->shard);
    if (e->device != NULL) e->backend->close(e->device);
    exo_free(e);
}

uint32_t exo_embedder_max_tokens(const exo_embedder *e) {
    return exo_shard_get_desc(e->shard)->ctx_tokens;
}

static void pool(const exo_embedder *e, uint32_t n_rows, float *out) {
    uint32_t n = e->hparams->n_embd;
    exo_pooling how = e->hparams->pooling;
    uint32_t first = how == EXO_POOL_LAST ? n_rows - 1 : 0;
    uint32_t end = how == EXO_POOL_CLS ? 1 : n_rows;
    double squares = 0;
    for (uint32_t k = 0; k < n; k++) {
        double sum = 0;
        for (uint32_t i = first; i < end; i++) sum += (double)e->rows[(size_t)i * n + k];
        sum /= (double)(end - first);
        squares += sum * sum;
        out[k] = (float)sum;
    }
    double length = sqrt(squares);
    for (uint32_t k = 0; length > 0 && k < n; k++) out[k] = (float)((double)out[k] / length);
}

exo_status exo_embedder_run(exo_embedder *e, exo_tokens tokens, float *out, exo_error *err) {
    uint32_t most = exo_embedder_max_tokens(e);
    if (tokens.n == 0) return exo_error_set(err, EXO_EINVAL, "no tokens to embed");
    if (tokens.n > most) {
        return exo_error_set(err, EXO_ETOOLONG, "%zu tokens: an embedding takes at most %u",
                             tokens.n, most);
    }
    exo_step_clear(&e->step);
    e->step.n_rows = (uint32_t)tokens.n;
    for (uint32_t i = 0; i < e->step.n_rows; i++) {
        e->step.rows[i] = (exo_row){.pos = i, .token = tokens.ids[i]};
    }
    exo_status st = exo_shard_run(e->shard, &e->step, NULL, e->rows, NULL, err);
    if (st == EXO_OK) pool(e, e->step.n_rows, out);
    return st;
}
