/* shard_weights.c - reads the tensors of a layer range and packs them on a device.
 *
 * Knows files and device memory, not what the matrices are for: the forward pass is shard.c's.
 * Tensor shapes were checked when the model was opened; here only types can still be wrong,
 * since what a device computes with is known to its backend alone. */
#include "engine/shard_weights.h"

#include "base/mem.h"

/* One load in progress. */
typedef struct {
    const exo_weights_source *from;
    uint64_t done, total; /* bytes of the file */
    uint64_t held;        /* bytes on the device */
    exo_error *err;
} loader;

/* The tensor is on the device: its file pages can go. */
static exo_status tensor_done(loader *l, const exo_tensor *t) {
    exo_gguf_drop_pages(exo_model_file(l->from->model), t);
    l->done += t->bytes;
    if (l->from->progress == NULL || l->from->progress(l->from->ud, l->done, l->total)) {
        return EXO_OK;
    }
    return exo_error_set(l->err, EXO_ECANCELED, "loading was stopped");
}

static exo_status load_matrix(loader *l, const exo_tensor *t, exo_weight **out) {
    const exo_backend *be = l->from->backend;
    if (!be->supports(t->type)) {
        return exo_error_set(l->err, EXO_EUNSUPPORTED,
                             "tensor %.*s is %s, which this %s backend does not compute with",
                             (int)t->name.n, t->name.s, exo_dtype_get(t->type)->name, be->name);
    }
    exo_status st = be->weight_create(l->from->device, t->type, (uint32_t)t->dims[1],
                                      (uint32_t)t->dims[0], t->data, out, l->err);
    if (st != EXO_OK) return exo_error_wrap(l->err, st, "tensor %.*s", (int)t->name.n, t->name.s);
    l->held += be->weight_bytes(*out);
    return tensor_done(l, t);
}

/* A norm or bias, f32 as the model was checked to have it; an absent one (NULL) stays NULL. */
static exo_status load_vector(loader *l, const exo_tensor *t, exo_buffer **out) {
    if (t == NULL) return EXO_OK;
    const exo_backend *be = l->from->backend;
    exo_status st = be->allocate(l->from->device, t->bytes, out, l->err);
    if (st == EXO_OK) st = be->copy_to_device(l->from->device, *out, 0, t->data, t->bytes, l->err);
    if (st != EXO_OK) return exo_error_wrap(l->err, st, "tensor %.*s", (int)t->name.n, t->name.s);
    l->held += t->bytes;
    return tensor_done(l, t);
}

static exo_status load_layer(loader *l, uint32_t il, exo_layer_weights *w) {
    exo_layer_tensors t = {0};
    exo_status st = exo_model_layer(l->from->model, il, &t, l->err);
    const struct {
        const exo_tensor *from;
        exo_buffer **to;
    } vectors[] = {
        {t.attn_norm, &w->attn_norm}, {t.q_bias, &w->q_bias}, {t.k_bias, &w->k_bias},
        {t.v_bias, &w->v_bias},       {t.q_norm, &w->q_norm}, {t.k_norm, &w->k_norm},
        {t.ffn_norm, &w->ffn_norm},
    };
    const struct {
        const exo_tensor *from;
        exo_weight **to;
    } matrices[] = {
        {t.q, &w->q},       {t.k, &w->k},   {t.v, &w->v},       {t.o, &w->o},
        {t.gate, &w->gate}, {t.up, &w->up}, {t.down, &w->down},
    };
    for (size_t i = 0; st == EXO_OK && i < sizeof vectors / sizeof *vectors; i++) {
        st = load_vector(l, vectors[i].from, vectors[i].to);
    }
    for (size_t i = 0; st == EXO_OK && i < sizeof matrices / sizeof *matrices; i++) {
        st = load_matrix(l, matrices[i].from, matrices[i].to);
    }
    return st;
}

static exo_status load_head(loader *l, exo_shard_weights *w) {
    exo_status st = load_vector(l, exo_model_final_norm(l->from->model), &w->final_norm);
    if (st != EXO_OK) return st;
    const exo_tensor *t = exo_model_head(l->from->model);
    if (w->embedding != NULL && t == exo_model_embedding(l->from->model)) {
        w->head = w->embedding;
        return EXO_OK;
    }
    return load_matrix(l, t, &w->head);
}

exo_status exo_shard_weights_load(const exo_weights_source *from, const exo_shard_desc *d,
                                  exo_shard_weights *out, exo_error *err) {
    *out = (exo_shard_weights){.n_layers = d->layer_end - d->layer_begin};
    loader l = {.from = from, .err = err};
    l.total = exo_model_range_bytes(from->model, d->layer_begin, d->layer_end, d->has_embedding,
                                    d->has_head);
    exo_status st = EXO_OK;
    out->layers = exo_calloc(out->n_layers, sizeof *out->layers);
    if (out->layers == NULL) {
        out->n_layers = 0;
        st = exo_error_set(err, EXO_ENOMEM, "no memory for the list of layers");
    }
    if (st == EXO_OK && d->has_embedding) {
        st = load_matrix(&l, exo_model_embedding(from->model), &out->embedding);
    }
    for (uint32_t i = 0; st == EXO_OK && i < out->n_layers; i++) {
        st = load_layer(&l, d->layer_begin + i, &out->layers[i]);
    }
    if (st == EXO_OK && d->has_head) st = load_head(&l, out);
    out->bytes = l.held;
    if (st != EXO_OK) exo_shard_weights_finish(out, from->backend, from->device);
    return st;
}

void exo_shard_weights_finish(exo_shard_weights *w, const exo_backend *backend,
                              exo_device *device) {
    for (uint32_t i = 0; i < w->n_layers; i++) {
        exo_layer_weights *y = &w->layers[i];
        exo_weight *matrices[] = {y->q, y->k, y->v, y->o, y->gate, y->up, y->down};
        exo_buffer *vectors[] = {y->attn_norm, y->q_bias, y->k_bias,  y->v_bias,
                                 y->q_norm,    y->k_norm, y->ffn_norm};
        for (size_t k = 0; k < sizeof matrices / sizeof *matrices; k++) {
            if (matrices[k] != NULL) backend->weight_destroy(device, matrices[k]);
        }
        for (size_t k = 0; k < sizeof vectors / sizeof *vectors; k++) {
            if (vectors[k] != NULL) backend->deallocate(device, vectors[k]);
        }
    }
    if (w->head != NULL && w->head != w->embedding) backend->weight_destroy(device, w->head);
    if (w->embedding != NULL) backend->weight_destroy(device, w->embedding);
    if (w->final_norm != NULL) backend->deallocate(device, w->final_norm);
    exo_free(w->layers);
    *w = (exo_shard_weights){0};
}
