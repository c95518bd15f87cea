/* golden.h - problems with known results for every kernel, of any size.
 *
 * Inputs come from a seed, results from plain C in double precision over the dequantised weights
 * (a kernel's inputs stay f32, so every weight type is held to the same small error).  Dot kernels
 * are held to it over the inputs as the CPU's reference rounds them to int8: what the rounding
 * itself does is not their error.  The self-test runs small ones at the
 * first use of a device, the tests run odd ones.
 *
 * Each check runs a plan on the device and returns EXO_EINTERNAL with the place and both values
 * when a result is off by more than EXO_VK_TOLERANCE of the row's root mean square. */
#ifndef EXO_COMPUTE_VULKAN_GOLDEN_H
#define EXO_COMPUTE_VULKAN_GOLDEN_H

#include "compute/vulkan/backend.h"

#define EXO_VK_TOLERANCE 1e-3

typedef struct {
    exo_dtype type[EXO_MATMUL_PARTS];
    uint32_t n_parts;
    uint32_t n_rows[EXO_MATMUL_PARTS]; /* of each matrix */
    uint32_t n_cols;
    uint32_t n; /* rows of the step */
    bool norm, bias;
    bool prompt; /* the rows' class: dot kernels, where the device uses them */
    exo_epilogue epilogue;
    uint64_t seed;
} exo_vk_product_case;

typedef struct {
    exo_dtype type;
    uint32_t n_rows, n_cols, n;
    bool next_norm; /* a norm follows: its product is checked, too */
    uint64_t seed;
} exo_vk_embed_case;

typedef struct {
    uint32_t n_heads, n_kv_heads, head_dim, rope_dims;
    bool neox, qk_norm;
    exo_dtype kv_type;
    uint32_t n_tokens; /* of the sequence */
    uint32_t chunk;    /* rows per step */
    uint64_t seed;
} exo_vk_attention_case;

/* The norm of a row, by itself where `n` makes steps wide. */
exo_status exo_vk_check_product(exo_device *d, const exo_vk_product_case *c, exo_error *err);
/* Rows of (n, n_cols) as int8 in blocks of this weight type, against the CPU's reference. */
exo_status exo_vk_check_quantize(exo_device *d, exo_dtype type, uint32_t n, uint32_t n_cols,
                                 exo_error *err);
/* Multiply-adds per second of one product (n_rows, n_cols) of n rows of either class: the best of a
 * few runs, in *per_s. */
typedef struct {
    exo_dtype type;
    uint32_t n_rows, n_cols, n;
} exo_vk_timing_case;
exo_status exo_vk_time_product(exo_device *d, const exo_vk_timing_case *c, double per_s[2],
                               exo_error *err); /* [0] generated, [1] prompt */
exo_status exo_vk_check_embed(exo_device *d, const exo_vk_embed_case *c, exo_error *err);
/* Rotation, KV store and attention over a shuffled page table. */
exo_status exo_vk_check_attention(exo_device *d, const exo_vk_attention_case *c, exo_error *err);
/* Rows rounded to f16, (n, width). */
exo_status exo_vk_check_round(exo_device *d, uint32_t n, uint32_t width, exo_error *err);

#endif
