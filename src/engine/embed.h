/* embed.h - texts to vectors: the rows of a model without its head, pooled into one.
 *
 * For encoders (bert) and for models whose file names a pooling (mean, first or last row).  The
 * vector has length 1.  It is a function of its own tokens only.
 * Thread: COMPUTE, one at a time per embedder. */
#ifndef EXO_ENGINE_EMBED_H
#define EXO_ENGINE_EMBED_H

#include "model/model.h"

#include <exo/session.h>

typedef struct exo_embedder exo_embedder;

/* Of d: device, n_threads, ctx_tokens, kv_f16 and the progress.  Holds a reference on m.
 * EXO_EUNSUPPORTED when the file names no pooling. */
exo_status exo_embedder_create(exo_model *m, const exo_session_desc *d, exo_embedder **out,
                               exo_error *err);
void exo_embedder_destroy(exo_embedder *e); /* NULL is allowed */

uint32_t exo_embedder_max_tokens(const exo_embedder *e);
/* (n_embd) numbers into out.  EXO_EINVAL for no tokens, EXO_ETOOLONG for too many, with both
 * counts. */
exo_status exo_embedder_run(exo_embedder *e, exo_tokens tokens, float *out, exo_error *err);

#endif
