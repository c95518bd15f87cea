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
void exo_model_tensors_finish(exo_model_tensors *t);

#endif
