/* synth.h - random-weight models of real shapes, for tests and benchmarks.
 *
 * The file is a valid GGUF with a small working tokenizer padded to the shape's vocabulary; it
 * also loads in llama.cpp.  Same (shape, type, seed) = same bytes on every machine.  A matrix whose
 * rows are no whole blocks of the type (K = 576 in a K-quant) is q8_0; vectors are always f32.
 * Thread: ANY. */
#ifndef EXO_MODEL_SYNTH_H
#define EXO_MODEL_SYNTH_H

#include <exo/base.h>

/* Weight types, then mixes of them (model/mix.h); in any case of letters. */
#define EXO_SYNTH_TYPES                                                                            \
    "f32 f16 bf16 q4_0 q4_1 q5_0 q5_1 q8_0 q2_K q3_K q4_K q5_K q6_K iq4_nl iq4_xs mxfp4 "          \
    "iq2_xxs iq2_xs iq2_s iq3_xxs iq3_s iq1_s iq1_m "                                              \
    "q3_K_S q3_K_M q3_K_L q4_K_S q4_K_M q5_K_S q5_K_M"

typedef struct {
    const char *shape; /* "llama-3.2-1b"; exo_synth_shapes() */
    const char *type;  /* one of EXO_SYNTH_TYPES */
    uint64_t seed;
    uint32_t n_layers; /* 0 = the shape's own; fewer makes a small file of the same widths */
    const char *const *settings; /* (n_settings) other numbers, as "head_dim=80": synth_set.c */
    size_t n_settings;
} exo_synth_desc;

/* NULL-terminated list of shape names. */
const char *const *exo_synth_shapes(void);

/* Writes path atomically (a temporary file beside it is renamed). */
exo_status exo_synth_write(const exo_synth_desc *desc, const char *path, exo_progress_fn progress,
                           void *ud, exo_error *err);

#endif
