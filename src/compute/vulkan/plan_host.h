/* plan_host.h - host points: operations of a Vulkan plan that the CPU computes.
 *
 * Neighbouring operations of that kind form a span, a CPU plan of its own.  The recorded commands
 * are cut before each span: they end with the span's input slots copied to memory of the host, and
 * what follows begins with its output slots copied back.  So a step is commands, span, commands,
 * span, ..., commands, and nothing is recorded or allocated while it runs.
 *
 * Weights of a span lie in the CPU's layout; norms and biases are copied to the host once.  Keys
 * and values are read by attention whole, so rotation, their storing and attention go to the CPU
 * together, with the page pool of the span's plan in host memory.
 * Thread: COMPUTE. */
#ifndef EXO_COMPUTE_VULKAN_PLAN_HOST_H
#define EXO_COMPUTE_VULKAN_PLAN_HOST_H

#include "compute/vulkan/plan_record.h"

#define EXO_VK_SPAN_SLOTS 16 /* slots that one span takes in, or gives back */

/* Operations [begin, end) of the plan. */
typedef struct {
    size_t begin, end;
    exo_plan *cpu;
    uint32_t in[EXO_VK_SPAN_SLOTS], out[EXO_VK_SPAN_SLOTS];
    uint32_t n_in, n_out;
} exo_vk_span;

/* A thing of the device and its copy on the CPU. */
typedef struct {
    const void *of;
    exo_weight *weight; /* owned, or NULL */
    exo_buffer *buffer; /* owned, or NULL */
} exo_vk_copy;

typedef struct exo_vk_host {
    bool *takes; /* [n_ops] */
    exo_vk_span *spans;
    uint32_t n_spans;
    exo_vk_copy *copies;
    size_t n_copies, cap_copies;
    uint32_t
        *cuts; /* of each bucket [n_spans]: its commands before that one come before the span */
    size_t n_cuts, cap_cuts;
    VkDeviceSize *slot_at;          /* [n_slots] bytes, in both of these */
    exo_vk_allocation *from_device; /* what spans take in */
    exo_vk_allocation *to_device;   /* what they give back */
    float *x;                       /* (max_rows, width of slot 0) */
    exo_row *rows;                  /* (max_rows) of the pass that is under way */
    bool takes_head;
} exo_vk_host;

/* Decides what the CPU computes and makes the spans; p->host stays NULL where it is nothing.
 * EXO_EUNSUPPORTED when it would be most of the plan: then the CPU may as well do all of it. */
exo_status exo_vk_host_create(exo_plan *p, exo_error *err);
void exo_vk_host_destroy(exo_plan *p); /* a plan without is allowed */

/* The CPU computes the logits. */
static inline bool exo_vk_host_takes_head(const exo_plan *p) {
    return p->host != NULL && p->host->takes_head;
}

/* While recording: the span that begins with operation i, or NULL. */
const exo_vk_span *exo_vk_host_span(const exo_plan *p, size_t i);
/* Cuts the recorded commands for the span. */
exo_status exo_vk_host_record(exo_vk_recorder *r, const exo_vk_span *s, exo_error *err);

/* The first command of bucket b behind span i. */
uint32_t exo_vk_host_cut(const exo_plan *p, const exo_vk_bucket *b, uint32_t i);
/* Runs span i of a pass whose commands before it are done: args has its rows only.  The logits of a
 * HEAD go where the device would have put them. */
exo_status exo_vk_host_run(exo_plan *p, uint32_t i, const exo_plan_args *args, exo_error *err);

#endif
