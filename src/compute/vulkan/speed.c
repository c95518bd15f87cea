/* speed.c - runs the speed kernel long enough to be timed from the host. */
#include "compute/vulkan/speed.h"

#include "base/clock.h"

#include <string.h>

#define ENOUGH_NS   (UINT64_C(15) * 1000 * 1000) /* a run this long is timed to a few per cent */
#define MAX_ROUNDS  (1u << 22)
#define MAX_REPEATS 256u
#define PASSES      3
#define FLOPS       32.0  /* of a lane in one round */
#define GPU_GROUPS  4096u /* fill any GPU several times over */
#define CPU_GROUPS  256u
#define GPU_BYTES   (UINT64_C(256) << 20) /* beyond the largest caches */
#define CPU_BYTES   (UINT64_C(64) << 20)
#define LEAST_BYTES (UINT64_C(1) << 20)
#define ONE_BITS    0x3F800000u /* 1.0f */

enum { MODE_MULTIPLY, MODE_READ };
enum { BIND_IN = 5, BIND_OUT = 7, BIND_IN_TEXELS = 13 };

typedef struct {
    uint32_t rounds, stretch, n_lanes;
    float a, b;
} push_speed;

typedef struct {
    exo_device *d;
    exo_vk_allocation *in, *out, *seen; /* seen: the first lane's result, for the host */
    exo_vk_command_pool pool;
    VkCommandBuffer commands;
    VkDescriptorPool sets;
    VkBufferView view; /* the input as texels */
    VkDescriptorSet set;
    uint32_t n_groups;
    push_speed push;
} bench;

static exo_status add_view(bench *b, exo_error *err) {
    exo_vk_device *vk = b->d->vk;
    VkBufferViewCreateInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_VIEW_CREATE_INFO,
                                   .buffer = b->in->buffer,
                                   .format = VK_FORMAT_R32G32B32A32_SFLOAT,
                                   .offset = b->in->offset,
                                   .range = b->in->size};
    VkResult r = EXO_VK_CALL(vk->fn.CreateBufferView(vk->handle, &info, NULL, &b->view));
    if (r != VK_SUCCESS) return exo_vk_device_fail(vk, r, "vkCreateBufferView", err);
    VkWriteDescriptorSet write = {.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                  .dstSet = b->set,
                                  .dstBinding = BIND_IN_TEXELS,
                                  .descriptorCount = 1,
                                  .descriptorType = VK_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER,
                                  .pTexelBufferView = &b->view};
    vk->fn.UpdateDescriptorSets(vk->handle, 1, &write, 0, NULL);
    return EXO_OK;
}

static exo_status make_set(bench *b, exo_error *err) {
    exo_vk_device *vk = b->d->vk;
    const VkDescriptorPoolSize size = {VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, EXO_VK_BINDINGS};
    const VkDescriptorPoolSize texels = {VK_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER, EXO_VK_TEXELS};
    const VkDescriptorPoolSize sizes[] = {size, texels};
    VkDescriptorPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
                                       .maxSets = 1,
                                       .poolSizeCount = 2,
                                       .pPoolSizes = sizes};
    VkResult r = EXO_VK_CALL(vk->fn.CreateDescriptorPool(vk->handle, &info, NULL, &b->sets));
    if (r != VK_SUCCESS) return exo_vk_device_fail(vk, r, "vkCreateDescriptorPool", err);
    VkDescriptorSetAllocateInfo want = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                        .descriptorPool = b->sets,
                                        .descriptorSetCount = 1,
                                        .pSetLayouts = &b->d->shaders.set_layout};
    r = EXO_VK_CALL(vk->fn.AllocateDescriptorSets(vk->handle, &want, &b->set));
    if (r != VK_SUCCESS) return exo_vk_device_fail(vk, r, "vkAllocateDescriptorSets", err);
    VkDescriptorBufferInfo buffers[EXO_VK_BINDINGS];
    VkWriteDescriptorSet writes[EXO_VK_BINDINGS];
    for (uint32_t i = 0; i < EXO_VK_BINDINGS; i++) {
        const exo_vk_allocation *a = i + 1 == BIND_IN ? b->in : b->out;
        buffers[i] = (VkDescriptorBufferInfo){a->buffer, a->offset, a->size};
        writes[i] = (VkWriteDescriptorSet){.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                           .dstSet = b->set,
                                           .dstBinding = i + 1,
                                           .descriptorCount = 1,
                                           .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                           .pBufferInfo = &buffers[i]};
    }
    vk->fn.UpdateDescriptorSets(vk->handle, EXO_VK_BINDINGS, writes, 0, NULL);
    bool texels_used = b->d->shaders.variant[EXO_VK_KERNEL_speed] == EXO_VK_TEXEL;
    return texels_used ? add_view(b, err) : EXO_OK;
}

static exo_status make(bench *b, exo_error *err) {
    exo_vk_device *vk = b->d->vk;
    bool is_cpu = vk->caps.type == VK_PHYSICAL_DEVICE_TYPE_CPU;
    uint64_t bytes = is_cpu ? CPU_BYTES : GPU_BYTES;
    uint64_t most = exo_vk_memory_available(&vk->memory, EXO_VK_MEMORY_DEVICE) / 8;
    while (bytes > LEAST_BYTES && (bytes > most || bytes > vk->caps.max_storage_range)) bytes /= 2;
    b->n_groups = is_cpu ? CPU_GROUPS : GPU_GROUPS;
    b->push.n_lanes = b->n_groups * b->d->shaders.shape.lanes;
    uint32_t step = 8 * b->d->shaders.shape.lanes; /* vec4 of a workgroup's round */
    if (bytes < 16ull * b->n_groups * step) bytes = 16ull * b->n_groups * step;
    b->push.stretch = (uint32_t)(bytes / 16 / b->n_groups) / step * step;
    exo_vk_memory *m = &vk->memory;
    exo_status st = exo_vk_memory_allocate(m, EXO_VK_MEMORY_DEVICE, bytes, &b->in, err);
    if (st == EXO_OK) {
        st = exo_vk_memory_allocate(m, EXO_VK_MEMORY_DEVICE, 16ull * b->push.n_lanes, &b->out, err);
    }
    if (st == EXO_OK) st = exo_vk_memory_allocate(m, EXO_VK_MEMORY_READBACK, 16, &b->seen, err);
    if (st == EXO_OK) st = make_set(b, err);
    if (st == EXO_OK) st = exo_vk_command_pool_init(vk, &b->pool, err);
    return st == EXO_OK ? exo_vk_command_allocate(&b->pool, &b->commands, err) : st;
}

static void finish(bench *b) {
    exo_vk_device *vk = b->d->vk;
    (void)exo_vk_queue_wait_idle(&vk->queue, EXO_VK_DEADLINE_MS, NULL);
    exo_vk_command_pool_finish(&b->pool);
    vk->fn.DestroyDescriptorPool(vk->handle, b->sets, NULL);
    vk->fn.DestroyBufferView(vk->handle, b->view, NULL);
    exo_vk_memory_deallocate(&vk->memory, b->in);
    exo_vk_memory_deallocate(&vk->memory, b->out);
    exo_vk_memory_deallocate(&vk->memory, b->seen);
}

/* One submission of `repeats` dispatches, after an input of ones when `fill`; its time. */
static exo_status run(bench *b, VkPipeline pipeline, uint32_t repeats, bool fill, uint64_t *ns,
                      exo_error *err) {
    exo_vk_device *vk = b->d->vk;
    VkCommandBuffer c = b->commands;
    VkPipelineLayout layout = b->d->shaders.layout;
    exo_status st = exo_vk_command_begin(&b->pool, c, true, err);
    if (st != EXO_OK) return st;
    if (fill) vk->fn.CmdFillBuffer(c, b->in->buffer, b->in->offset, b->in->size, ONE_BITS);
    vk->fn.CmdBindPipeline(c, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline);
    vk->fn.CmdBindDescriptorSets(c, VK_PIPELINE_BIND_POINT_COMPUTE, layout, 0, 1, &b->set, 0, NULL);
    vk->fn.CmdPushConstants(c, layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, sizeof b->push, &b->push);
    for (uint32_t i = 0; i < repeats; i++) {
        exo_vk_barrier(vk, c, EXO_VK_USE_ANY, EXO_VK_USE_ANY);
        vk->fn.CmdDispatch(c, b->n_groups, 1, 1);
    }
    VkBufferCopy first = {b->out->offset, b->seen->offset, 16};
    exo_vk_barrier(vk, c, EXO_VK_USE_SHADER_WRITE, EXO_VK_USE_COPY_READ);
    vk->fn.CmdCopyBuffer(c, b->out->buffer, b->seen->buffer, 1, &first);
    exo_vk_barrier(vk, c, EXO_VK_USE_COPY_WRITE, EXO_VK_USE_HOST_READ);
    st = exo_vk_command_end(&b->pool, c, err);
    exo_vk_fence done = {0};
    uint64_t begin = exo_now_ns();
    if (st == EXO_OK) st = exo_vk_queue_submit(&vk->queue, &c, 1, &done, err);
    if (st == EXO_OK) st = exo_vk_fence_wait(&vk->queue, done, EXO_VK_DEADLINE_MS, err);
    *ns = exo_now_ns() - begin + 1;
    if (st == EXO_OK) st = exo_vk_memory_invalidate(&vk->memory, b->seen, 0, 16, err);
    return st;
}

/* The first element that lane 0 stored. */
static exo_status check(const bench *b, float want, exo_error *err) {
    float got;
    memcpy(&got, b->seen->mapped, sizeof got);
    if (got == want) return EXO_OK;
    return exo_error_set(err, EXO_EINTERNAL, "speed: lane 0 has %g, not %g", (double)got,
                         (double)want);
}

/* Longer and longer until it lasts, then the best of some. */
static exo_status measure_multiply(bench *b, double *gflops, exo_error *err) {
    VkPipeline pipeline;
    const uint32_t mode = MODE_MULTIPLY;
    uint64_t ns = 0, best = UINT64_MAX;
    exo_status st =
        exo_vk_shaders_get(&b->d->shaders, EXO_VK_KERNEL_speed, &mode, 1, &pipeline, err);
    b->push.a = b->push.b = 1;
    b->push.rounds = 16;
    if (st == EXO_OK) st = run(b, pipeline, 1, false, &ns, err);
    if (st == EXO_OK) st = check(b, 16 + 17 + 18 + 19, err); /* w, x, y and z of lane 0 */
    while (st == EXO_OK && ns < ENOUGH_NS && b->push.rounds < MAX_ROUNDS) {
        b->push.rounds *= 2;
        st = run(b, pipeline, 1, false, &ns, err);
    }
    for (int pass = 0; st == EXO_OK && pass < PASSES; pass++) {
        st = run(b, pipeline, 1, false, &ns, err);
        if (ns < best) best = ns;
    }
    if (st == EXO_OK) *gflops = FLOPS * b->push.rounds * b->push.n_lanes / (double)best;
    return st;
}

static exo_status measure_read(bench *b, double *gbps, exo_error *err) {
    VkPipeline pipeline;
    const uint32_t mode = MODE_READ;
    uint64_t ns = 0, best = UINT64_MAX;
    uint32_t repeats = 1;
    exo_status st =
        exo_vk_shaders_get(&b->d->shaders, EXO_VK_KERNEL_speed, &mode, 1, &pipeline, err);
    if (st == EXO_OK) st = run(b, pipeline, 1, true, &ns, err);
    uint32_t per_lane = b->push.stretch / b->d->shaders.shape.lanes;
    if (st == EXO_OK) st = check(b, (float)per_lane, err);
    while (st == EXO_OK && ns < ENOUGH_NS && repeats < MAX_REPEATS) {
        repeats *= 2;
        st = run(b, pipeline, repeats, false, &ns, err);
    }
    for (int pass = 0; st == EXO_OK && pass < PASSES; pass++) {
        st = run(b, pipeline, repeats, false, &ns, err);
        if (ns < best) best = ns;
    }
    if (st == EXO_OK) *gbps = 16.0 * b->push.stretch * b->n_groups * repeats / (double)best;
    return st;
}

exo_status exo_vk_measure_speed(exo_device *d, exo_vk_speed *out, exo_error *err) {
    *out = (exo_vk_speed){0};
    bench b = {.d = d};
    exo_status st = make(&b, err);
    if (st == EXO_OK) st = measure_multiply(&b, &out->gflops, err);
    if (st == EXO_OK) st = measure_read(&b, &out->read_gbps, err);
    finish(&b);
    return st;
}
