/* plan_record.h - between plan_record.c, which records dispatches, and plan_ops.c, which knows what
 * dispatches an operation is made of. */
#ifndef EXO_COMPUTE_VULKAN_PLAN_RECORD_H
#define EXO_COMPUTE_VULKAN_PLAN_RECORD_H

#include "compute/vulkan/plan.h"

#define EXO_VK_NO_GRID UINT32_MAX

/* Bindings, as shader.h numbers them. */
enum {
    BIND_STEP = 1,
    BIND_W16,
    BIND_W8,
    BIND_W4,
    BIND_IN,
    BIND_NORM_IN,
    BIND_OUT,
    BIND_BIAS, /* three of them */
    BIND_Q_NORM = BIND_BIAS,
    BIND_K_NORM,
    BIND_PARTIALS = BIND_K_NORM,
    BIND_K_PAGES,
    BIND_V_PAGES,
    BIND_NEXT_NORM = BIND_V_PAGES,
};

/* One dispatch as an operation asks for it.  `use` of a range is what hazards are found by; a range
 * without is memory that no plan writes. */
typedef struct {
    exo_vk_kernel kernel;
    uint32_t n_specs;
    uint32_t spec[EXO_VK_MAX_SPECS - 1]; /* behind the number of lanes */
    exo_vk_range range[EXO_VK_BINDINGS]; /* [binding - 1]; buffer VK_NULL_HANDLE = not bound */
    uint32_t push[EXO_VK_PUSH_BYTES / 4];
    uint32_t push_bytes;
    uint32_t groups[3];
    uint32_t grid; /* instead of groups: its size stands in the step block; or EXO_VK_NO_GRID */
    uint64_t cost; /* multiply-adds */
} exo_vk_dispatch;

/* One bucket being recorded. */
typedef struct {
    exo_plan *p;
    uint32_t rows; /* the bucket's */
    bool prompt;   /* its class, where there are two */
    exo_vk_bucket *bucket;
    VkCommandBuffer commands; /* being recorded, or VK_NULL_HANDLE */
    exo_vk_hazards hazards;
    VkPipeline bound;
    uint64_t cost;           /* of these commands so far */
    size_t set_hint;         /* where the next dispatch's set probably stands: buckets are alike */
    uint32_t bytes_block;    /* units in a block of this product's input as int8; 0 = not made */
    const exo_buffer **held; /* [n_slots] the norm that the slot's twin is multiplied by, or NULL */
} exo_vk_recorder;

/* One workgroup of a kernel, with nothing but the step block bound. */
exo_vk_dispatch exo_vk_new_dispatch(const exo_vk_recorder *r, exo_vk_kernel kernel);
void exo_vk_bind(exo_vk_dispatch *d, int binding, const exo_vk_allocation *a, VkDeviceSize offset,
                 VkDeviceSize bytes, uint32_t use);

/* Dispatches of operation i. */
exo_status exo_vk_emit_op(exo_vk_recorder *r, size_t i, exo_error *err);
exo_status exo_vk_emit_dispatch(exo_vk_recorder *r, const exo_vk_dispatch *d, exo_error *err);
/* A copy between two allocations. */
void exo_vk_emit_copy(exo_vk_recorder *r, const exo_vk_allocation *from, VkDeviceSize from_at,
                      const exo_vk_allocation *to, VkDeviceSize to_at, VkDeviceSize bytes);
/* Ends the commands, for the host to see what they made, and begins the next ones. */
exo_status exo_vk_emit_cut(exo_vk_recorder *r, exo_error *err);

/* A dispatch size that steps set; the same one again gives the same index. */
exo_status exo_vk_emit_grid(exo_vk_recorder *r, const exo_vk_grid *grid, uint32_t *out,
                            exo_error *err);
void exo_vk_emit_copy(exo_vk_recorder *r, const exo_vk_allocation *from, VkDeviceSize from_at,
                      const exo_vk_allocation *to, VkDeviceSize to_at, VkDeviceSize bytes);

/* Another command buffer of the bucket. */
exo_status exo_vk_begin_commands(exo_vk_recorder *r, exo_error *err);
/* Ends it; what it wrote is then visible to the host. */
exo_status exo_vk_end_for_host(exo_vk_recorder *r, exo_error *err);

#endif
