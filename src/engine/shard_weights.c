/* shard_weights.c - reads the tensors of a layer range and packs them on a device.
 *
 * Knows files and device memory, not what the matrices are for: the forward pass is shard.c's.
 * Tensor shapes were checked when the model was opened; here only types can still be wrong,
 * since what a device computes with is known to its backend alone. */
#include "engine/shard_weights.h"

#include "base/mem.h"
#include "model/tensor_rows.h"

#include <stddef.h>
#include <string.h>

/* One load in progress. */
typedef struct {
    const exo_weights_source *from;
    exo_pack_cache *cache;
    uint64_t done, total; /* bytes of the file */
    uint64_t held;        /* bytes on the device */
    exo_error *err;
} loader;

/* The tensor is on the device: its file pages can go. */
static exo_status tensor_done(loader *l, const exo_tensor *t) {
    exo_status st = exo_gguf_check_whole(exo_model_file(l->from->model), l->err);
    if (st != EXO_OK) return exo_error_wrap(l->err, st, "%s", exo_model_id(l->from->model));
    exo_gguf_drop_pages(exo_model_file(l->from->model), t);
    l->done += t->bytes;
    if (l->from->progress == NULL || l->from->progress(l->from->ud, l->done, l->total)) {
        return EXO_OK;
    }
    return exo_error_set(l->err, EXO_ECANCELED, "loading was stopped");
}

/* Rows from all over, in one piece: one tensor at a time, so that no model is in memory twice. */
static exo_status gather(loader *l, const exo_tensor *t, uint8_t **out) {
    *out = exo_malloc((size_t)t->bytes);
    if (*out == NULL) {
        return exo_error_set(l->err, EXO_ENOMEM, "out of memory for tensor %.*s", (int)t->name.n,
                             t->name.s);
    }
    exo_tensor_copy_rows(t, 0, t->dims[1] * t->dims[2], *out);
    return EXO_OK;
}

static exo_status pack_matrix(loader *l, const exo_tensor *t, uint32_t n_rows, exo_weight **out) {
    uint8_t *gathered = NULL;
    exo_status st = t->rows != NULL ? gather(l, t, &gathered) : EXO_OK;
    if (st != EXO_OK) return st;
    st = l->from->backend->weight_create(l->from->device, t->type, n_rows, (uint32_t)t->dims[0],
                                         gathered != NULL ? gathered : t->data, out, l->err);
    exo_free(gathered);
    if (st != EXO_OK) return exo_error_wrap(l->err, st, "tensor %.*s", (int)t->name.n, t->name.s);
    exo_pack_cache_keep(l->cache, t, *out);
    return EXO_OK;
}

/* Matrices of several experts become one with all their rows; an absent one (NULL) stays NULL. */
static exo_status load_matrix(loader *l, const exo_tensor *t, exo_weight **out) {
    if (t == NULL) return EXO_OK;
    const exo_backend *be = l->from->backend;
    uint64_t n_rows = t->dims[1] * t->dims[2];
    if (n_rows > UINT32_MAX) {
        return exo_error_set(l->err, EXO_EUNSUPPORTED, "tensor %.*s has %llu rows", (int)t->name.n,
                             t->name.s, (unsigned long long)n_rows);
    }
    if (!be->supports(t->type)) {
        return exo_error_set(l->err, EXO_EUNSUPPORTED,
                             "tensor %.*s is %s, which this %s backend does not compute with",
                             (int)t->name.n, t->name.s, exo_dtype_get(t->type)->name, be->name);
    }
    *out = exo_pack_cache_get(l->cache, t);
    if (*out == NULL) {
        exo_status st = pack_matrix(l, t, (uint32_t)n_rows, out);
        if (st != EXO_OK) return st;
    }
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

/* Where a tensor of a layer goes. */
typedef struct {
    size_t from, to; /* offsets in exo_layer_tensors and exo_layer_weights */
} place;

#define AT(name)                                                                                   \
    { offsetof(exo_layer_tensors, name), offsetof(exo_layer_weights, name) }
static const place vectors[] = {
    AT(attn_norm),
    AT(attn_norm_bias),
    AT(q_bias),
    AT(k_bias),
    AT(v_bias),
    AT(o_bias),
    AT(q_norm),
    AT(k_norm),
    AT(sinks),
    AT(attn_post_norm),
    AT(attn_out_norm),
    AT(attn_out_norm_bias),
    AT(ffn_norm),
    AT(ffn_norm_bias),
    AT(gate_bias),
    AT(up_bias),
    AT(down_bias),
    AT(ffn_post_norm),
    AT(layer_out_norm),
    AT(layer_out_norm_bias),
    AT(router_bias),
    AT(choice_bias),
    AT(gate_exps_bias),
    AT(up_exps_bias),
    AT(down_exps_bias),
    AT(q_a_norm),
    AT(kv_a_norm),
    AT(attn_post_norm_bias),
    AT(ffn_post_norm_bias),
};
static const place matrices[] = {
    AT(q),         AT(k),           AT(v),           AT(o),       AT(gate),      AT(up),
    AT(down),      AT(router),      AT(gate_exps),   AT(up_exps), AT(down_exps), AT(gate_shared),
    AT(up_shared), AT(down_shared), AT(shared_gate), AT(q_a),     AT(q_b),       AT(kv_a),
    AT(k_rope),    AT(kv_b),        AT(k_b),         AT(v_b),
};
#undef AT
#define N_VECTORS  (sizeof vectors / sizeof *vectors)
#define N_MATRICES (sizeof matrices / sizeof *matrices)

static const exo_tensor *tensor_at(const exo_layer_tensors *t, const place *p) {
    return *(const exo_tensor *const *)(const void *)((const char *)t + p->from);
}
static exo_buffer **vector_at(exo_layer_weights *w, const place *p) {
    return (exo_buffer **)(void *)((char *)w + p->to);
}
static exo_weight **matrix_at(exo_layer_weights *w, const place *p) {
    return (exo_weight **)(void *)((char *)w + p->to);
}

static exo_status load_layer(loader *l, uint32_t il, exo_layer_weights *w) {
    exo_layer_tensors t = {0};
    exo_status st = exo_model_layer(l->from->model, il, &t, l->err);
    for (size_t i = 0; st == EXO_OK && i < N_VECTORS; i++) {
        st = load_vector(l, tensor_at(&t, &vectors[i]), vector_at(w, &vectors[i]));
    }
    for (size_t i = 0; st == EXO_OK && i < N_MATRICES; i++) {
        st = load_matrix(l, tensor_at(&t, &matrices[i]), matrix_at(w, &matrices[i]));
    }
    return st;
}

static exo_status load_first(loader *l, exo_shard_weights *w) {
    const exo_outer_tensors *t = exo_model_outer(l->from->model);
    exo_status st = load_matrix(l, t->embedding, &w->embedding);
    if (st == EXO_OK) st = load_matrix(l, t->positions, &w->positions);
    if (st == EXO_OK) st = load_vector(l, t->token_type, &w->token_type);
    if (st == EXO_OK) st = load_vector(l, t->embd_norm, &w->embd_norm);
    return st == EXO_OK ? load_vector(l, t->embd_norm_bias, &w->embd_norm_bias) : st;
}

static exo_status load_last(loader *l, exo_shard_weights *w) {
    const exo_outer_tensors *t = exo_model_outer(l->from->model);
    exo_status st = load_vector(l, t->final_norm, &w->final_norm);
    if (st == EXO_OK) st = load_vector(l, t->final_norm_bias, &w->final_norm_bias);
    if (st == EXO_OK) st = load_vector(l, t->head_bias, &w->head_bias);
    if (st != EXO_OK) return st;
    if (w->embedding != NULL && t->head == t->embedding) {
        w->head = w->embedding;
        return EXO_OK;
    }
    return load_matrix(l, t->head, &w->head);
}

exo_status exo_shard_weights_load(const exo_weights_source *from, const exo_shard_desc *d,
                                  exo_shard_weights *out, exo_error *err) {
    *out = (exo_shard_weights){.n_layers = d->layer_end - d->layer_begin};
    loader l = {.from = from, .err = err};
    l.total = exo_model_range_bytes(from->model, d->layer_begin, d->layer_end, d->has_embedding,
                                    d->has_head);
    l.cache = out->cache =
        exo_pack_cache_open(exo_model_file(from->model), from->backend, from->device, l.total);
    exo_status st = EXO_OK;
    out->layers = exo_calloc(out->n_layers, sizeof *out->layers);
    if (out->layers == NULL) {
        out->n_layers = 0;
        st = exo_error_set(err, EXO_ENOMEM, "no memory for the list of layers");
    }
    if (st == EXO_OK && d->has_embedding) st = load_first(&l, out);
    for (uint32_t i = 0; st == EXO_OK && i < out->n_layers; i++) {
        st = load_layer(&l, d->layer_begin + i, &out->layers[i]);
    }
    if (st == EXO_OK && d->has_head) st = load_last(&l, out);
    if (st == EXO_OK && d->embeddings) {
        st = load_vector(&l, exo_model_final_norm(from->model), &out->final_norm);
    }
    out->bytes = l.held;
    if (st != EXO_OK) exo_shard_weights_finish(out, from->backend, from->device);
    exo_pack_cache_loaded(out->cache);
    return st;
}

void exo_shard_weights_finish(exo_shard_weights *w, const exo_backend *backend,
                              exo_device *device) {
    exo_pack_cache_stop(w->cache); /* it reads the weights that it writes */
    for (uint32_t i = 0; i < w->n_layers; i++) {
        for (size_t k = 0; k < N_MATRICES; k++) {
            exo_weight *m = *matrix_at(&w->layers[i], &matrices[k]);
            if (m != NULL) backend->weight_destroy(device, m);
        }
        for (size_t k = 0; k < N_VECTORS; k++) {
            exo_buffer *v = *vector_at(&w->layers[i], &vectors[k]);
            if (v != NULL) backend->deallocate(device, v);
        }
    }
    if (w->head == w->embedding) w->head = NULL;
    exo_weight *const outer[] = {w->head, w->embedding, w->positions};
    exo_buffer *const around[] = {w->token_type, w->embd_norm,  w->embd_norm_bias,
                                  w->head_bias,  w->final_norm, w->final_norm_bias};
    for (size_t k = 0; k < sizeof outer / sizeof *outer; k++) {
        if (outer[k] != NULL) backend->weight_destroy(device, outer[k]);
    }
    for (size_t k = 0; k < sizeof around / sizeof *around; k++) {
        if (around[k] != NULL) backend->deallocate(device, around[k]);
    }
    exo_pack_cache_close(w->cache);
    exo_free(w->layers);
    *w = (exo_shard_weights){0};
}
