/* plan.h - a plan on a Vulkan device: activations, the step block, and recorded commands.
 *
 * plan.c lays out memory, plan_record.c turns operations into dispatches and records them, once
 * for each bucket of rows (1, 2, 4, ... max_rows); plan_run.c writes the step block and submits
 * the bucket's commands.  Where rows of prompts have kernels of their own, they have commands of
 * their own, too: a step of both classes is run as one step of prompt rows, then one of the others.
 * What a step may change stands in the step block alone, so nothing is recorded, allocated or
 * written to a descriptor while a plan runs.
 *
 * Activations are one allocation.  Each slot is (max_rows, ld) floats, ld the width rounded up to
 * whole units; what lies behind the width is zero.  A slot that norms read has a twin that holds
 * the row times the norm's weight, written by whatever writes the slot, so that a product needs
 * only 1 / rms to norm its input.
 *
 * The step block is u32 words, read by every kernel:
 *
 *   0   number of rows            rows      {seq, pos, token, flags} of each row
 *   1   rows that want logits     logits    which rows those are
 *   16  {x, y, z} of dispatches   rope      per table (row, pair) {cos, sin}
 *       whose size a step sets    pages     (max_seqs, max_seq_pages)
 *                                 asks      of each row of logits {kind, n_ids, total, 1 / T, seed
 *                                           low, seed high, choice, position}
 *
 * Thread: COMPUTE. */
#ifndef EXO_COMPUTE_VULKAN_PLAN_H
#define EXO_COMPUTE_VULKAN_PLAN_H

#include "compute/plan_check.h"
#include "compute/vulkan/backend.h"
#include "compute/vulkan/weight.h"

#define EXO_VK_SPLIT_ROWS  8 /* steps up to this many rows attend to their splits in parallel */
#define EXO_VK_MAX_GRIDS   64
#define EXO_VK_MAX_BUCKETS 17
#define EXO_VK_GRIDS_AT    16 /* word of the step block */

/* A part of the activations: (max_rows, ld) floats from `offset` bytes on. */
typedef struct {
    VkDeviceSize offset, bytes;
    uint32_t ld; /* floats */
} exo_vk_area;

typedef struct {
    exo_vk_area x;
    exo_vk_area scaled; /* right behind x; bytes 0 = no norm reads this slot */
} exo_vk_slot;

/* A dispatch whose size depends on the step. */
typedef enum {
    EXO_VK_GRID_SPLITS,    /* x = splits of the longest row, y = rows */
    EXO_VK_GRID_ROWS,      /* x = 1, y = rows */
    EXO_VK_GRID_COMBINE,   /* y = rows, 0 when no row has a second split */
    EXO_VK_GRID_HEAD_FEW,  /* y = rows that want logits, 0 from half of `cols` on */
    EXO_VK_GRID_HEAD_MANY, /* y = the same in tiles of `cols`, 0 below half of it */
    EXO_VK_GRID_ASKS,      /* y = rows that want logits, 0 when none of them asks */
} exo_vk_grid_kind;

typedef struct {
    exo_vk_grid_kind kind;
    uint32_t x, z, cols;
} exo_vk_grid;

typedef struct {
    const double *inv_freq; /* (half), borrowed */
    uint32_t half;
    float scale;
    uint32_t at; /* word of the step block */
} exo_vk_rope;

/* One descriptor set and what it holds. */
typedef struct {
    exo_vk_range range[EXO_VK_BINDINGS];
    bool texels; /* weights and inputs are there as texels, too */
    VkBufferView views[EXO_VK_TEXELS];
    VkDescriptorSet handle;
} exo_vk_set;

typedef struct {
    uint32_t rows;
    VkCommandBuffer *commands; /* short enough to be submitted one by one; room for one more */
    uint32_t n_commands;
    uint32_t n_dispatches, n_barriers;
    size_t first_cut; /* of its host points (plan_host.h) */
} exo_vk_bucket;

/* Logits, answers to asks, and the commands that read rows: plan_head.c. */
typedef struct {
    exo_vk_allocation *logits;  /* (max_logit_rows, ld) on the device */
    exo_vk_allocation *found;   /* answers, then blocks' values, on the device; NULL: no asks */
    exo_vk_allocation *answers; /* (max_logit_rows, words) for the host */
    uint64_t logits_bytes, answers_bytes, blocks_at, blocks_bytes;
    uint32_t ld; /* floats */
    bool takes_asks;
    uint32_t n_blocks, block4, maxima;       /* of a row; vec4, and maxima, of a block */
    uint32_t asks_at;                        /* word of the step block */
    exo_vk_bucket reads[EXO_VK_MAX_BUCKETS]; /* one command buffer each */
    uint32_t n_reads;
    uint32_t n_rows;  /* with logits of the last pass that had any */
    uint32_t n_asks;  /* of the last pass */
    bool reads_rows;  /* it brings rows to the plan's output at once */
    bool is_read;     /* they are there */
    uint32_t n_step;  /* rows with logits of the last step; 0 until it has succeeded */
    uint32_t *places; /* (max_rows) of each of those in the last pass, or NO_PLACE: in kept */
    float *kept; /* (max_logit_rows, n_vocab) rows of the pass before the last; NULL: one pass */
} exo_vk_head;

struct exo_plan {
    exo_device *device;
    exo_plan_desc desc; /* ops and slot_width point into this plan's memory */
    exo_op *ops;
    uint32_t *slot_width;
    exo_plan_bounds bounds;

    /* device memory */
    exo_vk_allocation *acts, *step, *input, *partials; /* the last two may be NULL */
    exo_vk_allocation
        *output; /* rows, or logits (max_logit_rows, head.ld), for the host; or NULL */
    exo_vk_head head;
    exo_vk_slot *slots;
    exo_vk_area factors;  /* 1 / rms of each row */
    exo_vk_area gate, up; /* for gate and up of unlike types; bytes 0 = not needed */
    exo_vk_area bytes;    /* int8 inputs of dot kernels, see quantize.comp; bytes 0 = not needed */
    uint32_t split_rows;  /* steps of up to so many rows have room for partials; 0 = none */
    uint32_t max_splits;

    struct exo_vk_host *host; /* operations of the CPU (plan_host.h); NULL = none */

    /* words of the step block */
    uint32_t rows_at, logits_rows_at, pages_at, step_words;
    exo_vk_rope *rope;
    uint32_t n_rope;
    uint32_t *op_rope; /* [n_ops] */
    exo_vk_grid grids[EXO_VK_MAX_GRIDS];
    uint32_t n_grids;

    /* recorded */
    exo_vk_command_pool pool;
    struct exo_vk_profile *profile; /* plan_profile.h; NULL = none is wanted */
    VkDescriptorPool *set_pools;
    size_t n_set_pools, cap_set_pools;
    exo_vk_set *sets;
    size_t n_sets, cap_sets;
    exo_vk_bucket buckets[EXO_VK_MAX_BUCKETS];
    uint32_t n_buckets;
    exo_vk_bucket prompt_buckets[EXO_VK_MAX_BUCKETS]; /* of prompt rows; none = no classes */
    uint32_t n_prompt_buckets;
    uint32_t *pass_rows;   /* (max_rows) rows of the step that are under way, */
    uint32_t *pass_logits; /* (max_rows) which of those want logits */
    exo_vk_fence pending;  /* the last submission; a failed step may have left it running */
};

/* Records the commands of every bucket. */
exo_status exo_vk_plan_record(exo_plan *p, exo_error *err);
/* EXO_EINTERNAL when one of x (n) is infinite or no number. */
exo_status exo_vk_check_finite(const float *x, size_t n, exo_error *err);

#endif
