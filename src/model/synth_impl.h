/* synth_impl.h - what the parts of synth share: shapes, random weights, the vocabulary.
 *
 * Private to synth*.c and their tests.  Everything here is a pure function of its arguments, with
 * integer and IEEE operations only, so that a file is the same on every machine. */
#ifndef EXO_MODEL_SYNTH_IMPL_H
#define EXO_MODEL_SYNTH_IMPL_H

#include "model/gguf_writer.h"
#include "model/synth.h"

typedef struct {
    const char *name;
    const char *arch;                /* as in general.architecture */
    uint32_t n_layers, n_embd, n_ff; /* n_ff: of one expert where there are experts */
    uint32_t n_heads, n_kv_heads, head_dim;
    uint32_t n_vocab, ctx;
    float rope_base, norm_eps;
    float rope_factor;                  /* of Llama 3.1's frequency scaling; 0 = none */
    uint32_t n_experts, n_experts_used; /* 0 = dense */
    bool tied;
} exo_synth_shape;

const exo_synth_shape *exo_synth_find_shape(const char *name); /* NULL when unknown */

/* The layout of `type` for one tensor: key names it, so that no two tensors are alike. */
typedef struct {
    exo_dtype type; /* one that exo_synth_fills() */
    uint64_t key;
    float mean; /* F32 only; others have mean 0 */
    float std;
} exo_synth_weights;

/* Writes blocks [first, first + n) of a tensor; any cut into calls gives the same bytes. */
void exo_synth_fill(const exo_synth_weights *w, uint64_t first, size_t n, uint8_t *out);

bool exo_synth_fills(exo_dtype type);

/* Adds tokenizer and chat template: 256 bytes, merges of common English, fillers up to n_vocab,
 * four control tokens at the end.  n_vocab >= EXO_SYNTH_MIN_VOCAB. */
#define EXO_SYNTH_MIN_VOCAB 512
void exo_synth_add_vocab(exo_gguf_writer *w, uint32_t n_vocab, bool qwen);

#endif
