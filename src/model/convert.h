/* convert.h - a model as one GGUF file, in the same or another weight type.
 *
 * From a folder of safetensors (then in the row order that GGUF files of its architecture have) or
 * from a GGUF file, split or not.  Which tensor gets which type is model/mix.h's, how blocks are
 * made compute/quantize.h's.  The output is whole or not there.
 * Thread: ANY; blocks. */
#ifndef EXO_MODEL_CONVERT_H
#define EXO_MODEL_CONVERT_H

#include "model/gguf.h"

typedef struct {
    const char *type;   /* "q4_K_M"; NULL: every tensor keeps its type */
    const char *name;   /* general.name where the model has none; NULL: leave it out */
    uint32_t n_threads; /* 0 = 1 */
    exo_progress_fn progress;
    void *ud;
} exo_convert_desc;

/* EXO_EINVAL for an unknown type name, for a path that is no plain file, and for values that the
 * type cannot hold (the tensor is named). */
exo_status exo_convert(const exo_gguf *g, const exo_convert_desc *desc, const char *path,
                       exo_error *err);

#endif
