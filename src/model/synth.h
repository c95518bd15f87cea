/* synth.h - random-weight models of real shapes, for tests and benchmarks.
 *
 * The file is a valid GGUF with a small working tokenizer padded to the shape's vocabulary; it
 * also loads in llama.cpp.  Same (shape, type, seed) = same bytes on every machine.  A matrix whose
 * rows are no whole blocks of the type (K = 576 in a K-quant) is q8_0; vectors are always f32.
 * Thread: ANY. */
#ifndef EXO_MODEL_SYNTH_H
#define EXO_MODEL_SYNTH_H

#include <exo/base.h>

typedef struct {
    const char *shape; /* "llama-3.2-1b"; exo_synth_shapes() */
    const char *type;  /* "f32", "f16", "bf16", "q4_0", "q8_0", "q4_K", "q6_K", "q4_K_M" */
    uint64_t seed;
    uint32_t n_layers; /* 0 = the shape's own; fewer makes a small file of the same widths */
} exo_synth_desc;

/* NULL-terminated list of shape names. */
const char *const *exo_synth_shapes(void);

/* Writes path atomically (a temporary file beside it is renamed). */
exo_status exo_synth_write(const exo_synth_desc *desc, const char *path, exo_progress_fn progress,
                           void *ud, exo_error *err);

#endif
