/* command.h - CommandPool, Queue and Fence, and the barriers between commands.
 *
 * A fence is the number of a submission on its queue.  With timeline semaphores it is the
 * semaphore's value; without, the queue keeps a small ring of VkFence behind the same numbers.
 * Every wait has a deadline.
 *
 * Barriers are asked for by what the commands do with memory, not by stage and access masks.
 * Thread: COMPUTE, with the device. */
#ifndef EXO_COMPUTE_VULKAN_COMMAND_H
#define EXO_COMPUTE_VULKAN_COMMAND_H

#include "compute/vulkan/loader.h"

struct exo_vk_device;

/* ---- Queue and Fence ---- */

#define EXO_VK_FENCE_RING 16 /* submissions in flight without timeline semaphores */
/* For waits that nobody gave a deadline.  lavapipe compiles kernels in the submission that uses
 * them first: with 16 lanes that took over 30 s on a busy machine. */
#define EXO_VK_DEADLINE_MS 120000

typedef struct {
    uint64_t value; /* 0 = nothing to wait for */
} exo_vk_fence;

/* Part of exo_vk_device. */
typedef struct {
    struct exo_vk_device *d;
    VkQueue handle;
    VkSemaphore timeline; /* or VK_NULL_HANDLE: */
    VkFence ring[EXO_VK_FENCE_RING];
    uint64_t submitted, completed; /* fence values */
} exo_vk_queue;

exo_status exo_vk_queue_init(struct exo_vk_device *d, exo_error *err);
void exo_vk_queue_finish(exo_vk_queue *q); /* idle by then; zeroed memory is allowed */

/* Submits the command buffers in order, as one batch.  *out (may be NULL) is reached when they are
 * done, and so is every earlier one. */
exo_status exo_vk_queue_submit(exo_vk_queue *q, const VkCommandBuffer *commands, uint32_t n,
                               exo_vk_fence *out, exo_error *err);
/* EXO_ETIMEDOUT when the deadline passes; the work goes on. */
exo_status exo_vk_fence_wait(exo_vk_queue *q, exo_vk_fence fence, uint32_t timeout_ms,
                             exo_error *err);
/* Does not block.  A lost device counts as done: the next wait tells. */
bool exo_vk_fence_done(exo_vk_queue *q, exo_vk_fence fence);
/* Everything submitted so far. */
exo_status exo_vk_queue_wait_idle(exo_vk_queue *q, uint32_t timeout_ms, exo_error *err);

/* ---- CommandPool ---- */

typedef struct {
    struct exo_vk_device *d;
    VkCommandPool handle;
} exo_vk_command_pool;

exo_status exo_vk_command_pool_init(struct exo_vk_device *d, exo_vk_command_pool *out,
                                    exo_error *err);
/* Frees its command buffers as well; none is in flight.  Zeroed memory is allowed. */
void exo_vk_command_pool_finish(exo_vk_command_pool *p);

exo_status exo_vk_command_allocate(exo_vk_command_pool *p, VkCommandBuffer *out, exo_error *err);
void exo_vk_command_free(exo_vk_command_pool *p, VkCommandBuffer c);
/* Starts recording, from nothing; what was recorded before is dropped.  once: it is submitted at
 * most once before the next begin. */
exo_status exo_vk_command_begin(exo_vk_command_pool *p, VkCommandBuffer c, bool once,
                                exo_error *err);
exo_status exo_vk_command_end(exo_vk_command_pool *p, VkCommandBuffer c, exo_error *err);

/* ---- barriers ---- */

/* What commands do with memory. */
enum {
    EXO_VK_USE_COPY_READ = 1u << 0,
    EXO_VK_USE_COPY_WRITE = 1u << 1, /* copies, fills, updates */
    EXO_VK_USE_SHADER_READ = 1u << 2,
    EXO_VK_USE_SHADER_WRITE = 1u << 3,
    EXO_VK_USE_INDIRECT = 1u << 4, /* arguments of an indirect dispatch */
    EXO_VK_USE_HOST_READ = 1u << 5,
    EXO_VK_USE_HOST_WRITE = 1u << 6,
    EXO_VK_USE_ANY = EXO_VK_USE_COPY_READ | EXO_VK_USE_COPY_WRITE | EXO_VK_USE_SHADER_READ |
                     EXO_VK_USE_SHADER_WRITE | EXO_VK_USE_INDIRECT,
};

/* Commands before (doing any of `before`) finish, and their writes are seen, before commands after
 * do any of `after`.  Over all memory. */
void exo_vk_barrier(struct exo_vk_device *d, VkCommandBuffer c, uint32_t before, uint32_t after);

/* Finds where barriers are needed while a command buffer is recorded: declare the ranges each
 * command uses (at most EXO_VK_HAZARD_DECLARED), then call exo_vk_hazards_settle() right before
 * recording that command; it puts in one barrier when a declared use conflicts with a use since
 * the last barrier. */
#define EXO_VK_HAZARD_DECLARED 16
#define EXO_VK_HAZARD_SETTLED  96

typedef struct {
    VkBuffer buffer;
    VkDeviceSize begin, end;
    uint32_t use; /* EXO_VK_USE_* */
} exo_vk_range;

typedef struct {
    struct exo_vk_device *d;
    VkCommandBuffer commands;
    exo_vk_range settled[EXO_VK_HAZARD_SETTLED];   /* uses since the last barrier */
    exo_vk_range declared[EXO_VK_HAZARD_DECLARED]; /* uses of the command to come */
    uint32_t n_settled, n_declared;
    uint32_t n_barriers; /* so far */
} exo_vk_hazards;

void exo_vk_hazards_begin(exo_vk_hazards *h, struct exo_vk_device *d, VkCommandBuffer c);
void exo_vk_hazards_declare(exo_vk_hazards *h, VkBuffer buffer, VkDeviceSize offset,
                            VkDeviceSize bytes, uint32_t use);
void exo_vk_hazards_settle(exo_vk_hazards *h);

#endif
