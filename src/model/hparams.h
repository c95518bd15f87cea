/* hparams.h - metadata to hyperparameters; private to model.c and tests.
 *
 * The only code that knows metadata keys of architectures.  Thread: ANY. */
#ifndef EXO_MODEL_HPARAMS_H
#define EXO_MODEL_HPARAMS_H

#include "model/model.h"

/* Reads and checks the hyperparameters; *out->name falls back to the n bytes of stem. */
exo_status exo_hparams_read(const exo_gguf *g, exo_str stem, exo_hparams *out, exo_error *err);

/* The tensors of the whole model, every shape checked against the hyperparameters. */
typedef struct {
    exo_outer_tensors outer;
    exo_layer_tensors *layers; /* (n_layers), owned */
    exo_tensor *views;         /* (n_views) rows of tensors of the file, owned */
    size_t n_views;
} exo_model_tensors;

exo_status exo_model_tensors_bind(const exo_gguf *g, const exo_hparams *hp, exo_model_tensors *out,
                                  exo_error *err);
/* What a layer of such a model holds, for those who write files. */
typedef struct {
    const char *suffix; /* behind "blk.N." */
    uint64_t dims[3];   /* fastest first; unused are 1 */
    bool vector;        /* f32 */
    bool optional;      /* models of the architecture may do without */
} exo_tensor_rule;
/* The next tensor of layer il from *at on, which begins as 0; false behind the last. */
bool exo_model_layer_rule(const exo_hparams *hp, uint32_t il, size_t *at, exo_tensor_rule *out);

void exo_model_tensors_finish(exo_model_tensors *t);

#endif
