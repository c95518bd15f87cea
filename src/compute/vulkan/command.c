/* command.c - submissions and their numbers, command buffers, barriers. */
#include "compute/vulkan/command.h"

#include "base/assert.h"
#include "compute/vulkan/device.h"

#include <string.h>

/* ---- Queue and Fence ---- */

static exo_status check_alive(exo_vk_device *d, const char *call, exo_error *err) {
    if (!atomic_load(&d->lost)) return EXO_OK;
    return exo_vk_device_fail(d, VK_ERROR_DEVICE_LOST, call, err);
}

/* False when the driver will not make one although it says it could. */
static bool create_timeline(exo_vk_queue *q) {
    VkSemaphoreTypeCreateInfo type = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
                                      .semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE};
    VkSemaphoreCreateInfo info = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO, .pNext = &type};
    exo_vk_device *d = q->d;
    if (EXO_VK_CALL(d->fn.CreateSemaphore(d->handle, &info, NULL, &q->timeline)) == VK_SUCCESS) {
        return true;
    }
    q->timeline = VK_NULL_HANDLE;
    return false;
}

exo_status exo_vk_queue_init(exo_vk_device *d, exo_error *err) {
    exo_vk_queue *q = &d->queue;
    memset(q, 0, sizeof *q);
    q->d = d;
    d->fn.GetDeviceQueue(d->handle, d->caps.queue_family, 0, &q->handle);
    if (d->caps.timeline) d->caps.timeline = create_timeline(q);
    VkFenceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
    for (uint32_t i = 0; i < EXO_VK_FENCE_RING && !d->caps.timeline; i++) {
        VkResult r = EXO_VK_CALL(d->fn.CreateFence(d->handle, &info, NULL, &q->ring[i]));
        if (r == VK_SUCCESS) continue;
        q->ring[i] = VK_NULL_HANDLE;
        return exo_vk_device_fail(d, r, "vkCreateFence", err);
    }
    return EXO_OK;
}

void exo_vk_queue_finish(exo_vk_queue *q) {
    if (q->d == NULL) return;
    exo_vk_device *d = q->d;
    for (uint32_t i = 0; i < EXO_VK_FENCE_RING; i++) {
        if (q->ring[i] != VK_NULL_HANDLE) d->fn.DestroyFence(d->handle, q->ring[i], NULL);
    }
    if (q->timeline != VK_NULL_HANDLE) d->fn.DestroySemaphore(d->handle, q->timeline, NULL);
    memset(q, 0, sizeof *q);
}

/* Waits until the ring's fence of this value is free again, and resets it. */
static exo_status take_fence(exo_vk_queue *q, uint64_t value, VkFence *out, exo_error *err) {
    *out = q->ring[value % EXO_VK_FENCE_RING];
    if (value <= EXO_VK_FENCE_RING) return EXO_OK; /* never used */
    exo_vk_fence last = {value - EXO_VK_FENCE_RING};
    exo_status st = exo_vk_fence_wait(q, last, EXO_VK_DEADLINE_MS, err);
    if (st != EXO_OK) return st;
    VkResult r = EXO_VK_CALL(q->d->fn.ResetFences(q->d->handle, 1, out));
    return r == VK_SUCCESS ? EXO_OK : exo_vk_device_fail(q->d, r, "vkResetFences", err);
}

exo_status exo_vk_queue_submit(exo_vk_queue *q, const VkCommandBuffer *commands, uint32_t n,
                               exo_vk_fence *out, exo_error *err) {
    exo_vk_device *d = q->d;
    uint64_t value = q->submitted + 1;
    VkFence fence = VK_NULL_HANDLE;
    if (out != NULL) out->value = 0;
    exo_status st = check_alive(d, "vkQueueSubmit", err);
    if (st == EXO_OK && q->timeline == VK_NULL_HANDLE) st = take_fence(q, value, &fence, err);
    if (st != EXO_OK) return st;
    VkTimelineSemaphoreSubmitInfo timeline = {.sType =
                                                  VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
                                              .signalSemaphoreValueCount = 1,
                                              .pSignalSemaphoreValues = &value};
    VkSubmitInfo info = {.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
                         .commandBufferCount = n,
                         .pCommandBuffers = commands};
    if (q->timeline != VK_NULL_HANDLE) {
        info.pNext = &timeline;
        info.signalSemaphoreCount = 1;
        info.pSignalSemaphores = &q->timeline;
    }
    VkResult r = EXO_VK_CALL(d->fn.QueueSubmit(q->handle, 1, &info, fence));
    if (r != VK_SUCCESS) return exo_vk_device_fail(d, r, "vkQueueSubmit", err);
    q->submitted = value;
    d->counters.submits++;
    if (out != NULL) out->value = value;
    return EXO_OK;
}

static VkResult wait_for(exo_vk_queue *q, uint64_t value, uint64_t ns) {
    exo_vk_device *d = q->d;
    if (q->timeline == VK_NULL_HANDLE) {
        return EXO_VK_CALL(
            d->fn.WaitForFences(d->handle, 1, &q->ring[value % EXO_VK_FENCE_RING], VK_TRUE, ns));
    }
    VkSemaphoreWaitInfo info = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
                                .semaphoreCount = 1,
                                .pSemaphores = &q->timeline,
                                .pValues = &value};
    return EXO_VK_CALL(d->fn.WaitSemaphores(d->handle, &info, ns));
}

exo_status exo_vk_fence_wait(exo_vk_queue *q, exo_vk_fence fence, uint32_t timeout_ms,
                             exo_error *err) {
    if (fence.value <= q->completed) return check_alive(q->d, "wait", err);
    if (fence.value > q->submitted) {
        return exo_error_set(err, EXO_EINVAL, "a wait for work that was not submitted");
    }
    exo_status st = check_alive(q->d, "wait", err);
    if (st != EXO_OK) return st;
    VkResult r = wait_for(q, fence.value, (uint64_t)timeout_ms * 1000000);
    if (r == VK_SUCCESS) {
        q->completed = fence.value;
        return EXO_OK;
    }
    if (r != VK_TIMEOUT) return exo_vk_device_fail(q->d, r, "wait", err);
    if (timeout_ms >= EXO_VK_DEADLINE_MS) {
        atomic_store(&q->d->hung, true);
        atomic_store(&q->d->lost, true);
    }
    return exo_error_set(err, EXO_ETIMEDOUT, "vulkan:%u (%s) did not finish within %u ms",
                         q->d->index, q->d->caps.name, timeout_ms);
}

bool exo_vk_fence_done(exo_vk_queue *q, exo_vk_fence fence) {
    exo_vk_device *d = q->d;
    if (fence.value <= q->completed || atomic_load(&d->lost)) return true;
    if (fence.value > q->submitted) return false;
    uint64_t reached = 0;
    VkResult r;
    if (q->timeline != VK_NULL_HANDLE) {
        r = EXO_VK_CALL(d->fn.GetSemaphoreCounterValue(d->handle, q->timeline, &reached));
    } else {
        r = EXO_VK_CALL(d->fn.GetFenceStatus(d->handle, q->ring[fence.value % EXO_VK_FENCE_RING]));
        if (r == VK_SUCCESS) reached = fence.value;
    }
    if (r == VK_ERROR_DEVICE_LOST) (void)exo_vk_device_fail(d, r, "fence status", NULL);
    if (r == VK_SUCCESS && reached > q->completed) q->completed = reached;
    return fence.value <= q->completed || atomic_load(&d->lost);
}

exo_status exo_vk_queue_wait_idle(exo_vk_queue *q, uint32_t timeout_ms, exo_error *err) {
    exo_vk_device *d = q->d;
    if (d != NULL && atomic_load(&d->lost) && !atomic_load(&d->hung)) {
        /* of a lost device it ends soon, and work that came before may still have been running */
        (void)EXO_VK_CALL(d->fn.DeviceWaitIdle(d->handle));
    }
    return exo_vk_fence_wait(q, (exo_vk_fence){q->submitted}, timeout_ms, err);
}

/* ---- CommandPool ---- */

exo_status exo_vk_command_pool_init(exo_vk_device *d, exo_vk_command_pool *out, exo_error *err) {
    *out = (exo_vk_command_pool){.d = d};
    VkCommandPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                    .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
                                    .queueFamilyIndex = d->caps.queue_family};
    VkResult r = EXO_VK_CALL(d->fn.CreateCommandPool(d->handle, &info, NULL, &out->handle));
    if (r == VK_SUCCESS) return EXO_OK;
    memset(out, 0, sizeof *out);
    return exo_vk_device_fail(d, r, "vkCreateCommandPool", err);
}

void exo_vk_command_pool_finish(exo_vk_command_pool *p) {
    bool there = p->handle != VK_NULL_HANDLE && !atomic_load(&p->d->hung);
    if (there) p->d->fn.DestroyCommandPool(p->d->handle, p->handle, NULL);
    memset(p, 0, sizeof *p);
}

exo_status exo_vk_command_allocate(exo_vk_command_pool *p, VkCommandBuffer *out, exo_error *err) {
    VkCommandBufferAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                        .commandPool = p->handle,
                                        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                        .commandBufferCount = 1};
    VkResult r = EXO_VK_CALL(p->d->fn.AllocateCommandBuffers(p->d->handle, &info, out));
    if (r == VK_SUCCESS) return EXO_OK;
    *out = VK_NULL_HANDLE;
    return exo_vk_device_fail(p->d, r, "vkAllocateCommandBuffers", err);
}

void exo_vk_command_free(exo_vk_command_pool *p, VkCommandBuffer c) {
    if (c != VK_NULL_HANDLE) p->d->fn.FreeCommandBuffers(p->d->handle, p->handle, 1, &c);
}

exo_status exo_vk_command_begin(exo_vk_command_pool *p, VkCommandBuffer c, bool once,
                                exo_error *err) {
    VkCommandBufferBeginInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                     .flags =
                                         once ? VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT : 0};
    p->d->counters.recordings++;
    VkResult r = EXO_VK_CALL(p->d->fn.ResetCommandBuffer(c, 0)); /* may be half recorded */
    if (r != VK_SUCCESS) return exo_vk_device_fail(p->d, r, "vkResetCommandBuffer", err);
    r = EXO_VK_CALL(p->d->fn.BeginCommandBuffer(c, &info));
    return r == VK_SUCCESS ? EXO_OK : exo_vk_device_fail(p->d, r, "vkBeginCommandBuffer", err);
}

exo_status exo_vk_command_end(exo_vk_command_pool *p, VkCommandBuffer c, exo_error *err) {
    VkResult r = EXO_VK_CALL(p->d->fn.EndCommandBuffer(c));
    return r == VK_SUCCESS ? EXO_OK : exo_vk_device_fail(p->d, r, "vkEndCommandBuffer", err);
}

/* ---- barriers ---- */

static const struct {
    uint32_t use;
    VkPipelineStageFlags stage;
    VkAccessFlags access;
} uses[] = {
    {EXO_VK_USE_COPY_READ, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_ACCESS_TRANSFER_READ_BIT},
    {EXO_VK_USE_COPY_WRITE, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_ACCESS_TRANSFER_WRITE_BIT},
    {EXO_VK_USE_SHADER_READ, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_ACCESS_SHADER_READ_BIT},
    {EXO_VK_USE_SHADER_WRITE, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_ACCESS_SHADER_WRITE_BIT},
    {EXO_VK_USE_INDIRECT, VK_PIPELINE_STAGE_DRAW_INDIRECT_BIT, VK_ACCESS_INDIRECT_COMMAND_READ_BIT},
    {EXO_VK_USE_HOST_READ, VK_PIPELINE_STAGE_HOST_BIT, VK_ACCESS_HOST_READ_BIT},
    {EXO_VK_USE_HOST_WRITE, VK_PIPELINE_STAGE_HOST_BIT, VK_ACCESS_HOST_WRITE_BIT},
};

static void masks(uint32_t use, VkPipelineStageFlags *stage, VkAccessFlags *access) {
    *stage = 0;
    *access = 0;
    for (size_t i = 0; i < sizeof uses / sizeof uses[0]; i++) {
        if ((use & uses[i].use) == 0) continue;
        *stage |= uses[i].stage;
        *access |= uses[i].access;
    }
}

void exo_vk_barrier(exo_vk_device *d, VkCommandBuffer c, uint32_t before, uint32_t after) {
    VkPipelineStageFlags from, to;
    VkMemoryBarrier barrier = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER};
    masks(before, &from, &barrier.srcAccessMask);
    masks(after, &to, &barrier.dstAccessMask);
    if (from == 0 || to == 0) return;
    d->fn.CmdPipelineBarrier(c, from, to, 0, 1, &barrier, 0, NULL, 0, NULL);
}

void exo_vk_hazards_begin(exo_vk_hazards *h, exo_vk_device *d, VkCommandBuffer c) {
    h->d = d;
    h->commands = c;
    h->n_settled = h->n_declared = h->n_barriers = 0;
}

void exo_vk_hazards_declare(exo_vk_hazards *h, VkBuffer buffer, VkDeviceSize offset,
                            VkDeviceSize bytes, uint32_t use) {
    EXO_ASSERT(h->n_declared < EXO_VK_HAZARD_DECLARED);
    h->declared[h->n_declared++] = (exo_vk_range){buffer, offset, offset + bytes, use};
}

static bool conflict(const exo_vk_range *a, const exo_vk_range *b) {
    const uint32_t writes = EXO_VK_USE_COPY_WRITE | EXO_VK_USE_SHADER_WRITE | EXO_VK_USE_HOST_WRITE;
    if (a->buffer != b->buffer || a->end <= b->begin || b->end <= a->begin) return false;
    return ((a->use | b->use) & writes) != 0;
}

/* After a barrier everything before it is visible to every later use (EXO_VK_USE_ANY), so that
 * only uses since then need to be remembered. */
void exo_vk_hazards_settle(exo_vk_hazards *h) {
    uint32_t before = 0;
    bool needed = h->n_settled + h->n_declared > EXO_VK_HAZARD_SETTLED;
    for (uint32_t i = 0; i < h->n_settled; i++) {
        before |= h->settled[i].use;
        for (uint32_t k = 0; k < h->n_declared && !needed; k++) {
            needed = conflict(&h->settled[i], &h->declared[k]);
        }
    }
    if (needed) {
        exo_vk_barrier(h->d, h->commands, before, EXO_VK_USE_ANY);
        h->n_barriers++;
        h->n_settled = 0;
    }
    memcpy(h->settled + h->n_settled, h->declared, h->n_declared * sizeof *h->declared);
    h->n_settled += h->n_declared;
    h->n_declared = 0;
}
