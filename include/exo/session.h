/* session.h - one mutable inference timeline on a model.
 *
 * Callers hand over the full token prefix; exo_session_sync() reuses, extends or rebuilds the
 * cache, so that nothing above sees tensors, pages or ranks.
 * Thread: ANY, one at a time per session. */
#ifndef EXO_SESSION_H
#define EXO_SESSION_H

#include <exo/base.h>

typedef struct exo_model exo_model; /* shared, read-only, reference-counted */
typedef struct exo_session exo_session;

typedef struct {                   /* all-zero = sensible defaults */
    const char *device;            /* "cpu:0"; the CPU stands in for a GPU that fails */
    uint32_t n_threads;            /* CPU; 0 = all cores */
    uint32_t ctx_tokens;           /* 0 = the model's trained context, at most 8192 */
    uint32_t prefill_chunk;        /* tokens per step; 0 = chosen */
    bool kv_f16;                   /* keys and values in f16 instead of f32 */
    bool kv_q8_0;                  /* or in q8_0: heads of a multiple of 32, CPU only */
    exo_progress_fn load_progress; /* bytes of weights */
    void *ud;
} exo_session_desc;

/* Holds a reference on model until destroyed. */
EXO_API exo_status exo_session_create(exo_model *model, const exo_session_desc *desc,
                                      exo_session **out, exo_error *err);
EXO_API void exo_session_destroy(exo_session *s); /* NULL is allowed */

/* Makes the KV cache equal to tokens and computes the logits behind the last one.  On failure
 * the session keeps the longest prefix computed; calling again resumes from there. */
EXO_API exo_status exo_session_sync(exo_session *s, exo_tokens tokens, exo_progress_fn progress,
                                    void *ud, exo_error *err);

/* Says that only the first n_prompt tokens of what comes are the prompt and the rest is generated;
 * without it all tokens count as prompt.  Some devices compute the two by different kernels, and a
 * server does so from the same tokens: to get its bits, say the same.  Positions whose class this
 * changes are computed anew. */
EXO_API void exo_session_set_prompt(exo_session *s, size_t n_prompt);

/* (n_vocab) logits of the last position; borrowed, valid until the next call. */
EXO_API const float *exo_session_logits(const exo_session *s);

/* Logits of every position from `from` on, in order, for perplexity and tests: fn is called with
 * the position and its (n_vocab) logits.  Starts from an empty cache. */
typedef void (*exo_logits_fn)(void *ud, size_t pos, const float *logits);
EXO_API exo_status exo_session_eval(exo_session *s, exo_tokens tokens, size_t from,
                                    exo_logits_fn fn, void *ud, exo_error *err);

EXO_API uint32_t exo_session_ctx(const exo_session *s);
EXO_API uint64_t exo_session_weight_bytes(const exo_session *s);
EXO_API uint64_t exo_session_kv_bytes(const exo_session *s);
/* Bytes of the weights that are mapped from kept files instead of held in memory. */
EXO_API uint64_t exo_session_mapped_bytes(const exo_session *s);
/* Returns when packed weights are kept on disk for the next start, or will not be; or after so
 * long: destroying the session ends it, and the next start goes on from there. */
EXO_API void exo_session_settle(exo_session *s, uint64_t timeout_ms);
/* The device that computes now, and why it is not the one asked for ("" while it is); borrowed,
 * valid until the next call. */
EXO_API const char *exo_session_device(const exo_session *s);
EXO_API const char *exo_session_device_reason(const exo_session *s);

#endif
