/* shader.h - the kernels of one device as pipelines, made on demand and kept.
 *
 * A kernel is one GLSL source of compute/kernels, committed as SPIR-V.  It comes in up to three
 * variants: `shared` adds lanes through shared memory, `subgroup` by shuffles, `texel` reads its
 * large inputs through texel buffers besides (devices that are CPUs gather texels many times
 * faster than they load from storage buffers).  All add in the same order and give the same bits,
 * so a driver that compiles one of them wrongly costs speed and nothing else.  Sizes are
 * specialisation constants; a pipeline is a kernel, its variant and their values.
 *
 * The dot kernels multiply rows in int8, as the CPU does, and so give other bits than the matmul
 * kernels.  They are for rows of prompts, where they are right and faster; which types use them is
 * part of the device's numeric profile.
 *
 * All kernels share one descriptor layout of storage buffers, numbered from 1 (Metal wants 0 for
 * the push constants), and three texel buffers behind them:
 *
 *   1  step block             5  inputs, q               9   k norm; bias 1; partials
 *   2  weights x16, k pages   6  input of norm, v pages  10  bias 2; k pages, written
 *   3  weights x8, k as f16   7  outputs                 11  weight of the next norm;
 *   4  weights x4, v as f16   8  q norm; bias 0              v pages, written
 *   12, 13, 14: bindings 2, 5 and 6 as texels
 *
 * Dot kernels have int8 inputs in 6 and 1 / rms in 5.
 *
 * A binding that a kernel does not name may hold anything.
 * Thread: COMPUTE. */
#ifndef EXO_COMPUTE_VULKAN_SHADER_H
#define EXO_COMPUTE_VULKAN_SHADER_H

#include "compute/dtype.h"
#include "compute/vulkan/pipeline_cache.h"

#define EXO_VK_BINDINGS   11  /* storage buffers, numbered from 1 */
#define EXO_VK_TEXELS     3   /* texel buffers, numbered on */
#define EXO_VK_PUSH_BYTES 128 /* what every device has */
#define EXO_VK_MAX_SPECS  8   /* specialisation constants; 0 is the number of lanes */

/* name, number of variants.  A weight type's kernel is the first one + exo_vk_weight_type(). */
#define EXO_VK_KERNELS(X)                                                                          \
    X(matmul_f32, 3)                                                                               \
    X(matmul_f16, 3)                                                                               \
    X(matmul_bf16, 3)                                                                              \
    X(matmul_q4_0, 3)                                                                              \
    X(matmul_q8_0, 3)                                                                              \
    X(matmul_q4_k, 3)                                                                              \
    X(matmul_q6_k, 3)                                                                              \
    X(matmul_q4_1, 3)                                                                              \
    X(matmul_q5_0, 3)                                                                              \
    X(matmul_q5_1, 3)                                                                              \
    X(matmul_q2_k, 3)                                                                              \
    X(matmul_q3_k, 3)                                                                              \
    X(matmul_q5_k, 3)                                                                              \
    X(matmul_iq4_nl, 3)                                                                            \
    X(matmul_iq4_xs, 3)                                                                            \
    X(matmul_mxfp4, 3)                                                                             \
    X(embed_f32, 1)                                                                                \
    X(embed_f16, 1)                                                                                \
    X(embed_bf16, 1)                                                                               \
    X(embed_q4_0, 1)                                                                               \
    X(embed_q8_0, 1)                                                                               \
    X(embed_q4_k, 1)                                                                               \
    X(embed_q6_k, 1)                                                                               \
    X(embed_q4_1, 1)                                                                               \
    X(embed_q5_0, 1)                                                                               \
    X(embed_q5_1, 1)                                                                               \
    X(embed_q2_k, 1)                                                                               \
    X(embed_q3_k, 1)                                                                               \
    X(embed_q5_k, 1)                                                                               \
    X(embed_iq4_nl, 1)                                                                             \
    X(embed_iq4_xs, 1)                                                                             \
    X(embed_mxfp4, 1)                                                                              \
    X(rms, 2)                                                                                      \
    X(elementwise, 1)                                                                              \
    X(rope_kv, 2)                                                                                  \
    X(attention, 3)                                                                                \
    X(attention_combine, 1)                                                                        \
    X(quantize, 1)                                                                                 \
    X(dot_q4_0, 3)                                                                                 \
    X(dot_q8_0, 3)                                                                                 \
    X(dot_q4_k, 3)                                                                                 \
    X(dot_q6_k, 3)                                                                                 \
    X(head_top, 2)                                                                                 \
    X(speed, 3)

typedef enum {
#define EXO_VK_KERNEL_ID(name, variants) EXO_VK_KERNEL_##name,
    EXO_VK_KERNELS(EXO_VK_KERNEL_ID)
#undef EXO_VK_KERNEL_ID
        EXO_VK_N_KERNELS,
} exo_vk_kernel;

/* From here on kernels that a device may lack: products of prompts with int8 inputs, answers from
 * rows of logits, measuring. */
#define EXO_VK_FIRST_OPTIONAL EXO_VK_KERNEL_quantize

/* From the plainest on. */
typedef enum { EXO_VK_SHARED, EXO_VK_SUBGROUP, EXO_VK_TEXEL, EXO_VK_N_VARIANTS } exo_vk_variant;

/* How work is laid over a device's lanes.  Part of the numeric profile: sums of products
 * follow `lanes`, `row_lanes` and `split`, those of attention the three members of its own. */
typedef struct {
    uint32_t lanes;     /* of every workgroup; a power of two */
    uint32_t row_lanes; /* of a product: lanes with rows of their own; the others share K */
    uint32_t split;     /* lanes that share the rows of a group: 1 or 4; 4 wants row_lanes 1 */
    uint32_t max_cols;  /* rows of a step that share one load of the weights */
    uint32_t max_pair_cols;
    uint32_t attention_lanes;
    uint32_t split_tokens; /* of attention: positions that one workgroup takes; whole pages */
    uint32_t score_lanes;  /* that share the score of one position */
    uint32_t wide_rows;    /* from here on 1 / rms has a dispatch of its own */
    uint32_t dot_row_lanes, dot_cols, dot_pair_cols; /* the same of products with int8 inputs */
} exo_vk_shape;

/* A unit of 32 elements as a dot kernel's input takes 10 words: q in 8 words, then, behind all of
 * the row's, {d, sum of q}.  Words of a row: */
static inline uint32_t exo_vk_dot_row_words(uint32_t n_units) { return (10 * n_units + 3) / 4 * 4; }

typedef struct {
    exo_vk_kernel kernel;
    uint32_t n_specs;
    uint32_t spec[EXO_VK_MAX_SPECS];
    VkPipeline handle;
} exo_vk_pipeline;

typedef struct {
    exo_vk_device *d;
    VkDescriptorSetLayout set_layout;
    VkPipelineLayout layout;
    exo_vk_pipeline_cache cache;
    bool keeps_pipelines; /* the cache is the disk's */
    exo_vk_variant variant[EXO_VK_N_KERNELS];
    exo_vk_shape shape;
    bool dot[EXO_DTYPE_LIMIT]; /* rows of prompts take the dot kernel of this weight type */
    bool no_head_top;          /* that kernel does not work here: rows of logits are read whole */
    exo_vk_pipeline *pipelines;
    size_t n_pipelines, cap_pipelines;
} exo_vk_shaders;

/* The dot kernel of a weight type, or EXO_VK_N_KERNELS; the inputs' block in units of 32. */
exo_vk_kernel exo_vk_dot_kernel(exo_dtype type);
bool exo_vk_kernel_is_dot(exo_vk_kernel k);
uint32_t exo_vk_dot_block_units(exo_dtype type);

/* "matmul_q4_0"; "subgroup". */
const char *exo_vk_kernel_name(exo_vk_kernel k);
const char *exo_vk_variant_name(exo_vk_variant v);
/* True when the kernel has such a variant and the device the operations for it. */
bool exo_vk_variant_possible(const exo_vk_device *d, exo_vk_kernel k, exo_vk_variant v);
/* Changes whenever a kernel does: verdicts and caches of other kernels are stale. */
const char *exo_vk_kernels_version(void);

/* How a device of this type lays work over its lanes; tests give a CPU the shape of a GPU. */
exo_vk_shape exo_vk_shape_of(const exo_vk_caps *c, VkPhysicalDeviceType type);

/* EXO_EUNSUPPORTED with the reason when the device lacks what every kernel needs. */
exo_status exo_vk_shaders_init(exo_vk_device *d, exo_vk_shaders *out, exo_error *err);
void exo_vk_shaders_finish(exo_vk_shaders *s); /* zeroed memory is allowed */
/* Which kernels serve prompts of this weight type: the dot kernel, or those of all rows. */
void exo_vk_shaders_use_dot(exo_vk_shaders *s, exo_dtype type, bool use);
/* The variant tried first: the last one that is possible and pays on such a device. */
exo_vk_variant exo_vk_variant_best(const exo_vk_device *d, exo_vk_kernel k);
/* From now on pipelines come from the disk where it has them, and exo_vk_shaders_save and _finish
 * leave them there. */
exo_status exo_vk_shaders_keep(exo_vk_shaders *s, exo_error *err);
void exo_vk_shaders_save(exo_vk_shaders *s);
/* Drops the kernel's pipelines of another variant: no plan uses them. */
void exo_vk_shaders_choose(exo_vk_shaders *s, exo_vk_kernel k, exo_vk_variant v);

/* The pipeline of kernel k with these constants (the number of lanes is put before them). */
exo_status exo_vk_shaders_get(exo_vk_shaders *s, exo_vk_kernel k, const uint32_t *spec, uint32_t n,
                              VkPipeline *out, exo_error *err);

#endif
