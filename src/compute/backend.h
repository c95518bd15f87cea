/* backend.h - the only door to a device: memory, transfers, packed weights, plans.
 *
 * A backend is a table of functions over one kind of device.  What the engine computes is a
 * plan: an ordered list of fused operations over f32 activation slots, created once per shard
 * and run once per step with a small block of arguments.  Nothing is allocated or recorded
 * while a plan runs.
 *
 * Exactness: every output row is a function of its own sequence only.  The order of every
 * floating-point sum is part of the operation's definition (compute/cpu/reference.h) and never
 * depends on the number of rows in a step, threads, pages or chunks.  A backend may compute rows
 * of prompts by other kernels than generated ones (plan_has_classes): then a row's bits depend on
 * its class and the classes of the positions before it, and still on nothing else of the step.
 *
 * Thread: COMPUTE for everything that touches a device; the query functions are ANY. */
#ifndef EXO_COMPUTE_BACKEND_H
#define EXO_COMPUTE_BACKEND_H

#include "compute/dtype.h"
#include "compute/head.h"
#include "compute/op_kinds.h"

#include <stdatomic.h>

typedef struct exo_device exo_device; /* one opened device */
typedef struct exo_buffer exo_buffer; /* plain device memory */
typedef struct exo_weight exo_weight; /* one matrix in the device's packed layout */
typedef struct exo_plan exo_plan;

#define EXO_KV_PAGE_TOKENS 32 /* positions in one KV page */
#define EXO_ATTN_SPLIT_TOKENS                                                                      \
    256                    /* attention sums are combined in splits of this many positions         \
                            */
#define EXO_MATMUL_PARTS 3 /* matrices that share one input: q, k, v or gate, up */
#define EXO_NO_SLOT      UINT32_MAX

/* What list_devices tells; unknown figures are 0 (or NAN), never guessed. */
typedef struct {
    char id[32];    /* "cpu:0", "vulkan:1" */
    char name[128]; /* "AMD Ryzen 9 9950X" */
    char vendor[64];
    char driver[64];        /* driver or instruction set in use: "avx512-vnni" */
    uint32_t compute_units; /* cores */
    uint64_t memory_bytes, memory_available_bytes;
    double clock_mhz, temperature_celsius, power_watts; /* NAN = no sensor */
} exo_device_info;

typedef struct {
    uint32_t n_threads; /* 0 = one per core this process may use; CPU only */
    const char *isa;    /* NULL = best; "reference", "avx2", "neon" (kernels.h); CPU only */
    bool spin;          /* threads spin briefly between operations of a running plan; then a step
                         * of few rows has no more of them than there are cores */
} exo_device_desc;

/* ---- a step's rows ---- */

enum {
    EXO_ROW_LOGITS = 1u << 0, /* this row's logits are wanted */
    EXO_ROW_PROMPT = 1u << 1, /* the row's class: its token was given, not generated */
};

typedef struct {
    uint32_t seq;   /* sequence slot, < max_seqs */
    uint32_t pos;   /* absolute position in the sequence */
    int32_t token;  /* token id at that position */
    uint32_t flags; /* EXO_ROW_* */
} exo_row;

/* ---- operations ---- */

typedef enum {
    EXO_OP_EMBED,     /* out = row `token` of the matrix, as f32 */
    EXO_OP_MATMUL,    /* [norm] -> 1..3 matrices -> [bias] -> epilogue */
    EXO_OP_ROPE_KV,   /* [per-head q/k norm], rotate q and k, store k and v in the page pool */
    EXO_OP_ATTENTION, /* out = softmax(q k / sqrt(head_dim)) v over the row's own sequence */
    EXO_OP_HEAD,      /* logits = W norm(x) for the rows that want them, packed in row order */
    EXO_OP_ROUND_F16, /* slot rounded to f16 in place (the f16 wire profile, after each layer) */
    EXO_OP_NORM,      /* out = norm(in) or out += norm(in), scaled */
    EXO_OP_COPY,      /* equal pieces of one slot into another */
    EXO_OP_ROUTE,     /* scores of experts -> the chosen ones and their weights */
    EXO_OP_EXPERTS,   /* [norm] -> 1..2 matrices of each chosen expert -> [bias] -> epilogue */
    EXO_OP_MIX,       /* out = sum of the chosen experts' outputs by weight, or out += */
} exo_op_kind;

typedef struct {
    uint32_t out;                /* slot, width n_cols */
    const exo_weight *table;     /* (n_vocab, n_cols) */
    float scale;                 /* on the row; 0 = 1 */
    const exo_weight *positions; /* (n_positions, n_cols): the row's position is added, or NULL */
    const exo_buffer *bias;      /* (n_cols) added to every row, or NULL */
} exo_op_embed;

typedef struct {
    uint32_t in;            /* slot, width K of every part */
    const exo_buffer *norm; /* RMS norm weight (K) f32, or NULL: no norm */
    float norm_eps;
    uint32_t n_parts;
    const exo_weight *w[EXO_MATMUL_PARTS];    /* (n_rows_i, K) */
    const exo_buffer *bias[EXO_MATMUL_PARTS]; /* (n_rows_i) f32 or NULL */
    uint32_t out[EXO_MATMUL_PARTS];           /* slots, width n_rows_i */
    exo_epilogue epilogue;
} exo_op_matmul;

typedef struct {
    uint32_t q, k,
        v; /* slots: (n_heads * head_dim), (n_kv_heads * head_dim), (n_kv_heads * v_dim) */
    const exo_buffer *q_norm, *k_norm; /* (head_dim) f32 or NULL */
    float norm_eps;
    uint32_t n_heads, n_kv_heads, head_dim;
    uint32_t v_dim;              /* of a value; 0 = head_dim */
    uint32_t rope_offset;        /* first rotated dimension of each head */
    uint32_t rope_dims;          /* rotated dimensions from there on, even */
    bool rope_neox;              /* pairs (i, i + rope_dims/2) instead of (2i, 2i + 1) */
    const double *rope_inv_freq; /* (rope_dims / 2) host, borrowed for the plan's life */
    float rope_scale;            /* factor on cos and sin (yarn's attention factor); 1 otherwise */
    exo_buffer *k_pages, *v_pages; /* this layer's pool; layout: exo_kv_page_bytes */
    exo_dtype kv_type;             /* EXO_F32, EXO_F16; on the CPU also EXO_Q8_0 */
} exo_op_rope_kv;

typedef struct {
    uint32_t q, out; /* slots, width n_heads * head_dim and n_heads * v_dim */
    uint32_t n_heads, n_kv_heads, head_dim;
    uint32_t v_dim;          /* of a value; 0 = head_dim */
    float scale;             /* on q k, usually 1/sqrt(head_dim) */
    float softcap;           /* score = softcap * tanh(score / softcap); 0 = none */
    uint32_t window;         /* positions a row sees, its own included; 0 = all before it */
    bool bidirectional;      /* rows see all of their sequence that is in the step or before */
    const exo_buffer *sinks; /* (n_heads) f32: one more score that weighs no value, or NULL */
    const exo_buffer *k_pages, *v_pages;
    exo_dtype kv_type;
} exo_op_attention;

typedef struct {
    uint32_t in;            /* slot, width K */
    const exo_buffer *norm; /* (K) f32, or NULL: no norm */
    float norm_eps;
    const exo_weight *w;    /* (n_vocab, K) */
    const exo_buffer *bias; /* (n_vocab) f32 or NULL */
    float scale;            /* on the logits; 0 = 1 */
    float softcap;          /* logit = softcap * tanh(logit / softcap); 0 = none */
} exo_op_head;

typedef struct {
    uint32_t in, out; /* slots of one width; may be the same */
    exo_norm_kind norm;
    const exo_buffer *weight, *bias; /* (width) f32; bias of EXO_NORM_LAYER, or NULL */
    float eps;
    float scale; /* on the result; 0 = 1 */
    bool add;    /* out += */
} exo_op_norm;

/* Piece i of n is `width` elements from i * in_stride + in_offset of `in` to i * out_stride +
 * out_offset of `out`; a stride of 0 repeats a piece. */
typedef struct {
    uint32_t in, out; /* two slots */
    uint32_t n, width;
    uint32_t in_offset, in_stride, out_offset, out_stride;
} exo_op_copy;

typedef struct {
    uint32_t in;  /* slot of scores, width n_experts */
    uint32_t out; /* slot, width 2 * n_used: expert numbers, then their weights, best first */
    uint32_t n_experts, n_used;
    exo_gating gating;
    uint32_t n_groups, n_groups_used; /* experts only from the best groups; 0 = no groups */
    const exo_buffer *choice_bias;    /* (n_experts) added for the choice only, or NULL */
    bool normalize;                   /* weights sum to 1 */
    float scale;                      /* on the weights; 0 = 1 */
} exo_op_route;

/* Matrices of all experts lie one behind another: (n_experts * rows, K), rows a multiple of 16. */
typedef struct {
    uint32_t in;    /* slot: (K) for all, or (n_used, K) with `split` */
    bool split;     /* the r-th chosen expert reads the r-th piece of `in` */
    uint32_t route; /* slot as ROUTE writes it; EXO_NO_SLOT: expert r is r-th, all of them */
    const exo_buffer *norm; /* (K) f32 or NULL; not with split */
    float norm_eps;
    uint32_t n_experts, n_used;
    uint32_t n_parts; /* 1, or 2 for a gated epilogue */
    const exo_weight *w[2];
    const exo_buffer *bias[2]; /* (n_experts, rows) f32 or NULL */
    uint32_t out;              /* slot, width n_used * rows */
    exo_epilogue epilogue;     /* not ADD */
} exo_op_experts;

typedef struct {
    uint32_t in;    /* slot, width n_used * width of out */
    uint32_t route; /* slot as ROUTE writes it */
    uint32_t out;   /* slot */
    uint32_t n_used;
    bool add; /* out += */
} exo_op_mix;

typedef struct {
    exo_op_kind kind;
    union {
        exo_op_embed embed;
        exo_op_matmul matmul;
        exo_op_rope_kv rope_kv;
        exo_op_attention attention;
        exo_op_head head;
        uint32_t round_slot;
        exo_op_norm norm;
        exo_op_copy copy;
        exo_op_route route;
        exo_op_experts experts;
        exo_op_mix mix;
    } u;
} exo_op;

/* ---- plans ---- */

typedef struct {
    const exo_op *ops; /* copied */
    size_t n_ops;
    const uint32_t *slot_width; /* (n_slots) f32 per row; slot 0 is the residual stream */
    uint32_t n_slots;
    uint32_t max_rows;       /* rows in one step */
    uint32_t max_logit_rows; /* rows of one step that may want logits */
    uint32_t max_seqs;       /* sequence slots */
    uint32_t max_seq_pages;  /* block table length of one sequence */
} exo_plan_desc;

/* The parameter block of one step.  All pointers are host memory, borrowed for the call. */
typedef struct {
    const exo_row *rows; /* (n_rows); rows of one sequence in ascending position, prompt first */
    uint32_t n_rows;
    const uint32_t *block_table; /* (max_seqs, max_seq_pages): page of each 32 positions */
    const float *x_in; /* (n_rows, width of slot 0), or NULL when the plan begins with EMBED */
    float *x_out;      /* (n_rows, width of slot 0), or NULL when the plan ends with HEAD */
    float *logits;     /* (rows with EXO_ROW_LOGITS, n_vocab), or NULL */
    const exo_head_ask *asks; /* (rows with EXO_ROW_LOGITS), or NULL: all logits are wanted; only
                                 for a plan that takes asks */
    exo_head_top *tops;       /* the same rows; filled, instead of the logits, for those that ask */
    const atomic_bool *cancel; /* polled between operations; NULL = never */
} exo_plan_args;

/* Bytes of one page of K (or V) for one layer.  The CPU stores K transposed:
 *   K page: (n_kv_heads, head_dim, EXO_KV_PAGE_TOKENS)
 *   V page: (n_kv_heads, EXO_KV_PAGE_TOKENS, head_dim)
 * so that scores and outputs are sums whose order does not depend on vector width.  In Q8_0 each
 * head has its int8 elements first, then the f16 scales of blocks of 32 along head_dim:
 *   K: (head_dim / 32, EXO_KV_PAGE_TOKENS), V: (EXO_KV_PAGE_TOKENS, head_dim / 32). */
size_t exo_kv_page_bytes(exo_dtype kv_type, uint32_t n_kv_heads, uint32_t head_dim);
/* Whether keys or values of this many elements can be kept in the type: whole blocks. */
bool exo_kv_type_fits(exo_dtype kv_type, uint32_t head_dim);

/* ---- packed weights that are kept ---- */

typedef struct {
    exo_dtype type;
    uint32_t n_rows, n_cols;
    const void *bytes;
    size_t n_bytes;
    uint64_t sum; /* exo_packed_sum() */
} exo_packed;

/* A checksum that several threads can share: of the checksums of pieces of EXO_PACKED_PIECE bytes.
 */
#define EXO_PACKED_PIECE ((size_t)1 << 20)
uint64_t exo_packed_sum(const void *bytes, size_t n);

/* ---- the table ---- */

typedef struct exo_backend {
    const char *name; /* "cpu", "vulkan", "metal" */

    exo_status (*initialize)(exo_error *err);
    void (*shutdown)(void);
    /* Writes at most cap entries and the full count. */
    exo_status (*list_devices)(exo_device_info *out, size_t cap, size_t *n, exo_error *err);
    exo_status (*open)(uint32_t index, const exo_device_desc *desc, exo_device **out,
                       exo_error *err);
    void (*close)(exo_device *d); /* everything made from it is gone before */

    exo_status (*allocate)(exo_device *d, size_t bytes, exo_buffer **out, exo_error *err);
    void (*deallocate)(exo_device *d, exo_buffer *b);
    exo_status (*copy_to_device)(exo_device *d, exo_buffer *dst, size_t offset, const void *src,
                                 size_t bytes, exo_error *err);
    exo_status (*copy_from_device)(exo_device *d, void *dst, const exo_buffer *src, size_t offset,
                                   size_t bytes, exo_error *err);
    exo_status (*copy_device_to_device)(exo_device *d, exo_buffer *dst, size_t dst_offset,
                                        const exo_buffer *src, size_t src_offset, size_t bytes,
                                        exo_error *err);
    exo_status (*synchronize)(exo_device *d, exo_error *err);
    exo_status (*query)(exo_device *d, exo_device_info *out, exo_error *err);

    bool (*supports)(exo_dtype weight_type);
    /* Packs (n_rows, n_cols) canonical file bytes into the device's layout. */
    exo_status (*weight_create)(exo_device *d, exo_dtype type, uint32_t n_rows, uint32_t n_cols,
                                const void *src, exo_weight **out, exo_error *err);
    void (*weight_destroy)(exo_device *d, exo_weight *w);
    /* The canonical file bytes again, for peers and tests. */
    exo_status (*weight_unpack)(exo_device *d, const exo_weight *w, void *dst, exo_error *err);
    size_t (*weight_bytes)(const exo_weight *w); /* device memory it holds */
    /* Packed bytes that can be kept and used again; NULL where that is not done.  The layout's
     * number changes whenever the same matrix would be packed to other bytes. */
    uint32_t weight_layout;
    /* The weight's bytes, in host memory, as long as it lives. */
    const void *(*weight_packed)(const exo_weight *w, size_t *bytes);
    /* A weight over such bytes (aligned to 64, borrowed until it is destroyed).  EXO_EFORMAT when
     * there are more or fewer of them than this shape has, or they are not those of p->sum. */
    exo_status (*weight_adopt)(exo_device *d, const exo_packed *p, exo_weight **out,
                               exo_error *err);

    exo_status (*plan_create)(exo_device *d, const exo_plan_desc *desc, exo_plan **out,
                              exo_error *err);
    /* True when EXO_ROW_PROMPT makes a difference: keys and values of a position then belong to its
     * class.  False: the flag is ignored. */
    bool (*plan_has_classes)(const exo_plan *p);
    exo_status (*plan_run)(exo_plan *p, const exo_plan_args *args, exo_error *err);
    void (*plan_destroy)(exo_plan *p);
    /* True when steps of this plan may ask instead of reading logits; NULL: never. */
    bool (*plan_takes_asks)(const exo_plan *p);
    /* The logits of the i-th row that wanted them in the last step that succeeded: out (n_vocab).
     * For rows whose answer did not do. */
    exo_status (*plan_read_logits)(exo_plan *p, uint32_t i, float *out, exo_error *err);
} exo_backend;

extern const exo_backend exo_backend_cpu;
#ifdef EXO_VULKAN
extern const exo_backend exo_backend_vulkan;
#endif

/* The backends of this build: [*n]. */
const exo_backend *const *exo_backends(size_t *n);

/* What list_devices tells of "cpu:0" and the like, without opening it. */
exo_status exo_device_describe(const char *id, exo_device_info *out, exo_error *err);

/* Opens "cpu:0" and the like; *backend is the table that made it. */
exo_status exo_device_open(const char *id, const exo_device_desc *desc, const exo_backend **backend,
                           exo_device **out, exo_error *err);

#endif
