/* shard.h - layers [a, b) x rank r of n of one model, loaded on one device, with its KV pool.
 *
 * Owns the packed weights, the page pool, the block table and one plan.  Knows rows and pages,
 * not requests: what a sequence slot means is the caller's business.  Only tensors of its own
 * range are read from the file, and their source pages are dropped once packed.
 * Thread: COMPUTE. */
#ifndef EXO_ENGINE_SHARD_H
#define EXO_ENGINE_SHARD_H

#include "engine/step.h"
#include "model/model.h"

typedef struct exo_shard exo_shard;

typedef struct {
    uint32_t layer_begin, layer_end; /* [a, b) */
    bool has_embedding;              /* tokens in; otherwise activations */
    bool has_head;                   /* logits out; otherwise activations */
    bool embeddings;                 /* last layer, no head: activations after the final norm */
    uint32_t rank, n_ranks;          /* tensor parallel; 0 of 1 (0 of 0 means the same) */
    exo_dtype kv_type;               /* EXO_F32, EXO_F16 or EXO_Q8_0; all-zero = F32 */
    bool wire_f16;                   /* residual rounded to f16 after every layer */
    uint32_t ctx_tokens;             /* per sequence; 0 = the model's, at most 8192 */
    uint32_t max_seqs;               /* 0 = 8 */
    uint32_t max_rows;               /* 0 = 512 */
    uint32_t max_logit_rows;         /* rows of one step that may want logits; 0 = max_seqs */
    uint32_t n_pages;                /* 0 = enough for max_seqs / 2 full contexts, at least one */
} exo_shard_desc;

/* The KV type of the two settings that people have; q8_0 goes first. */
static inline exo_dtype exo_kv_type_of(bool f16, bool q8_0) {
    return q8_0 ? EXO_Q8_0 : f16 ? EXO_F16 : EXO_F32;
}

/* Fills every 0 of d with what will be used, from the model; EXO_EINVAL names what is wrong. */
exo_status exo_shard_desc_resolve(const exo_model *m, exo_shard_desc *d, exo_error *err);

/* d is resolved on the way in.  Holds a reference on m; backend and device are borrowed until
 * destroyed.  progress counts bytes of weights in the file. */
exo_status exo_shard_create(exo_model *m, const exo_backend *backend, exo_device *device,
                            const exo_shard_desc *d, exo_progress_fn progress, void *ud,
                            exo_shard **out, exo_error *err);
void exo_shard_destroy(exo_shard *s);

const exo_shard_desc *exo_shard_get_desc(const exo_shard *s); /* resolved */
const exo_model *exo_shard_model(const exo_shard *s);
uint64_t exo_shard_weight_bytes(const exo_shard *s);
/* Of them: in the page cache, mapped from kept files (engine/pack_cache.h). */
uint64_t exo_shard_mapped_bytes(const exo_shard *s);
/* Returns when nothing goes on in the background (what was packed is kept, or will not be), or
 * something has for so long. */
void exo_shard_settle(exo_shard *s, uint64_t timeout_ms);
uint64_t exo_shard_kv_bytes(const exo_shard *s);

/* True when its device computes rows with EXO_ROW_PROMPT by other kernels than the others. */
bool exo_shard_has_classes(const exo_shard *s);

/* Runs a step: x_in (n_rows, n_embd) unless has_embedding; x_out likewise unless has_head.
 * Logits stay in the shard until the next run.  A step without rows only assigns its pages.
 * EXO_EINVAL when a row, slot or page is out of range, or when a row's position or one before it
 * has no page yet.  Allocates nothing. */
exo_status exo_shard_run(exo_shard *s, const exo_step *step, const float *x_in, float *x_out,
                         const atomic_bool *cancel, exo_error *err);
/* (n_vocab) logits of the i-th row that wanted them in the last run; borrowed.  NULL for a row that
 * asked, until exo_shard_read_logits has read it. */
const float *exo_shard_logits(const exo_shard *s, uint32_t i);

/* What the next run should find out of its i-th row of logits instead of handing the row over (a
 * question for one run); without effect on a device that hands over rows in any case. */
void exo_shard_ask(exo_shard *s, uint32_t i, const exo_head_ask *ask);
/* The question that row asked in the last run, and the answer; NULL: its logits are there. */
const exo_head_ask *exo_shard_asked(const exo_shard *s, uint32_t i);
const exo_head_top *exo_shard_top(const exo_shard *s, uint32_t i);
/* Reads the logits of a row whose answer did not do. */
exo_status exo_shard_read_logits(exo_shard *s, uint32_t i, exo_error *err);

/* Rows of logits that runs so far decided by an answer, or handed over whole. */
typedef struct {
    uint64_t n_asked, n_read; /* n_read counts rows read after they had asked, too */
} exo_shard_rows;
exo_shard_rows exo_shard_count_rows(const exo_shard *s);

/* For measurements: fills every page with numbers such as keys and values have, so that reading
 * them is reading memory.  What was in them is lost. */
exo_status exo_shard_pretend_kv(exo_shard *s, exo_error *err);

/* Forgets the pages of a slot: the next sequence in it must be given all of its own. */
void exo_shard_clear_seq(exo_shard *s, uint32_t seq);

#endif
