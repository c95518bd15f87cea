/* kernels.h - the table of kernels of one instruction set, and what they are given.
 *
 * reference.h defines what each kernel computes, to the bit; every table gives the same bits.
 * Kernels see plain arrays: slots, threads and plans are plan.c's.
 * Thread: ANY; the tables are constant. */
#ifndef EXO_COMPUTE_CPU_KERNELS_H
#define EXO_COMPUTE_CPU_KERNELS_H

#include "compute/cpu/weight.h"

/* Sums of one super-block of 256: 8 of 32 elements, then 16 of 16.  In each four the order is
 * 0 2 1 3: a 32-bit pair then meets the even, or the odd, bytes of four packed scales. */
#define EXO_Q256_SUMS 24
static inline uint32_t exo_sum32_at(uint32_t j) {
    return (j & ~3u) | (j & 1u) << 1 | (j >> 1 & 1u);
}
static inline uint32_t exo_sum16_at(uint32_t j) { return 8 + exo_sum32_at(j); }

/* The right-hand side of a product: n rows in the form that the weight type asks for.
 *   F32, F16, BF16   x
 *   blocks of 32     q, d and sum32 with one scale per 32 elements: Q4_0, Q8_0 and the like
 *   blocks of 256    q, d and sums with one scale per 256 elements: Q4_K, IQ4_XS and the like */
typedef struct {
    const float *x;       /* (n, ld_x) */
    const int8_t *q;      /* (n, ld_q) */
    const float *d;       /* (n, ld_d) scale of each block */
    const int32_t *sum32; /* (n, ld_d) sum of q over each block of 32 */
    const int16_t *sums;  /* (n, ld_d, EXO_Q256_SUMS) */
    size_t ld_x, ld_q, ld_d;
} exo_act;

/* Which form a weight type multiplies with. */
typedef enum { EXO_ACT_F32, EXO_ACT_Q32, EXO_ACT_Q256 } exo_act_form;
exo_act_form exo_act_form_of(exo_dtype weight_type);

/* y[c * ld_y + i] for columns c < n and the 16 * n_groups rows i of groups g0 .. of w: padding
 * rows are written too.  y is the caller's strip, not the final output. */
typedef struct {
    const exo_weight *w;
    const exo_act *a;
    uint32_t n;
    uint32_t g0, n_groups;
    float *y;
    size_t ld_y;
} exo_matmul_task;

/* n_rows consecutive rows of one sequence, all query heads of one kv head: query i is row
 * i / group, head i % group of them.
 * With parts, attention only computes splits [split, split + n_splits) of EXO_ATTN_SPLIT_TOKENS
 * positions, as far as each query sees them, and leaves query i's part of split s at
 * (i * ld_parts + s - parts_first) * exo_attention_part(v_dim); attention_join makes the output
 * of them.  The bits are those of a task without parts. */
typedef struct {
    const float *q; /* (n_rows, ld_q): first row of the task */
    float *out;     /* (n_rows, ld_out); may be q */
    size_t ld_q, ld_out;
    const uint32_t *pos; /* (n_rows) last position each row sees */
    uint32_t n_rows;
    uint32_t kv_head, n_kv_heads, group; /* group = query heads per kv head */
    uint32_t head_dim, v_dim;
    float scale;
    float softcap;      /* 0 = none */
    uint32_t window;    /* 0 = none */
    const float *sinks; /* (n_heads) or NULL */
    const uint8_t *k_pages, *v_pages;
    size_t k_page_bytes, v_page_bytes;
    exo_dtype kv_type;
    const uint32_t *table; /* the sequence's page of each 32 positions */
    float *scratch;        /* exo_attention_scratch(v_dim) floats, 64-byte aligned */
    float *parts;          /* NULL = none */
    uint32_t split, n_splits, parts_first, ld_parts;
} exo_attention_task;

#define EXO_ATTENTION_QUERIES 4  /* queries that a kernel takes through a split at once */
#define EXO_ATTENTION_BATCH   32 /* and one after another, before the next split */
size_t exo_attention_scratch(uint32_t v_dim);
/* Floats of one query's part of one split: v_dim in whole vectors, maximum, sum, padding. */
size_t exo_attention_part(uint32_t v_dim);

/* The outputs of a row's experts, and their weights. */
typedef struct {
    const float *y; /* (n_used, n) */
    const float *w; /* (n_used) */
    uint32_t n_used, n;
    bool add; /* out += */
} exo_mix_row;

/* bias may be NULL. */
typedef struct {
    const float *weight, *bias; /* (n) */
    float eps;
} exo_norm_weights;

/* Functions that return bool give false when an input is not finite.  gelu_mul's up may be NULL:
 * no gate. */
typedef struct {
    const char *isa;    /* "avx2", "avxvnni", "neon-dotprod" and the like: for desc.isa */
    const char *driver; /* what people see: "avx512-vnni" */
    bool (*runs_here)(void);
    void (*matmul[EXO_DTYPE_LIMIT])(const exo_matmul_task *t);
    bool (*norm)(float *out, const float *x, const float *weight, uint32_t n, float eps);
    bool (*quantize32)(const float *x, uint32_t n, int8_t *q, float *d, int32_t *sum);
    bool (*quantize256)(const float *x, uint32_t n, int8_t *q, float *d, int16_t *sums);
    bool (*layer_norm)(float *out, const float *x, const exo_norm_weights *w, uint32_t n);
    void (*silu_mul)(float *out, const float *gate, const float *up, uint32_t n);
    void (*gelu_mul)(float *out, const float *gate, const float *up, uint32_t n);
    void (*swiglu_oai)(float *out, const float *gate, const float *up, uint32_t n);
    void (*mix)(float *out, const exo_mix_row *m);
    void (*softcap)(float *x, float cap, uint32_t n); /* in place */
    void (*rope)(float *head, const float *cos, const float *sin, uint32_t dims, bool neox);
    void (*attention)(const exo_attention_task *t);
    void (*attention_join)(const exo_attention_task *t, uint32_t i); /* of query i */
    void (*round_f16)(float *x, uint32_t n);
    uint64_t (*read)(const void *p, size_t bytes); /* streams 64-byte aligned memory once */
} exo_cpu_kernels;

extern const exo_cpu_kernels exo_kernels_reference;
#if defined(__x86_64__)
extern const exo_cpu_kernels exo_kernels_avx2, exo_kernels_avxvnni, exo_kernels_avx512;
#elif defined(__aarch64__)
extern const exo_cpu_kernels exo_kernels_neon, exo_kernels_neon_dotprod, exo_kernels_neon_i8mm;
#endif

/* The types without a kernel of their own share one (unpacked.h): entries of a table. */
#define EXO_UNPACKED_TYPES(kernel)                                                                 \
    [EXO_Q4_1] = (kernel), [EXO_Q5_0] = (kernel), [EXO_Q5_1] = (kernel), [EXO_IQ4_NL] = (kernel),  \
    [EXO_MXFP4] = (kernel), [EXO_Q2_K] = (kernel), [EXO_Q3_K] = (kernel), [EXO_Q5_K] = (kernel),   \
    [EXO_IQ4_XS] = (kernel), [EXO_IQ2_XXS] = (kernel), [EXO_IQ2_XS] = (kernel),                    \
    [EXO_IQ2_S] = (kernel), [EXO_IQ3_XXS] = (kernel), [EXO_IQ3_S] = (kernel),                      \
    [EXO_IQ1_S] = (kernel), [EXO_IQ1_M] = (kernel)

/* The best table this machine runs, or the one named (isa NULL: the environment variable
 * EXO_CPU_ISA, when set).  EXO_EINVAL for an unknown name, EXO_EUNSUPPORTED when the machine
 * lacks it. */
exo_status exo_kernels_choose(const char *isa, const exo_cpu_kernels **out, exo_error *err);

/* All tables of this build, best first; the reference is the last. */
const exo_cpu_kernels *const *exo_kernels_all(size_t *n);

#endif
