/* The test set-up notices planted faults: a missing barrier between dispatches, an access beyond
 * what is bound.  And it has nothing to say of exo's own kernels when it looks at every access.
 *
 * GPU-assisted validation of 1.3.239 knows the end of a buffer, not that of a binding's range, so
 * here each allocation is a buffer of its own. */
#define _GNU_SOURCE /* dl_iterate_phdr */
#include "compute/vulkan/golden.h"
#include "compute/vulkan/testing.h"

/* layout(set = 0, binding = 7) buffer Out { uint word[]; };  push constant: uint at;
 * void main() { word[at] = 7; } */
static const uint32_t store_code[] = {
    0x7230203,  0x10300,    0xd000b,    0x19,    0,       0x20011, 1,       0x6000b, 1,
    0x4c534c47, 0x6474732e, 0x3035342e, 0,       0x3000e, 0,       1,       0x5000f, 5,
    4,          0x6e69616d, 0,          0x60010, 4,       0x11,    1,       1,       1,
    0x40047,    7,          6,          4,       0x50048, 8,       0,       0x23,    0,
    0x30047,    8,          2,          0x40047, 0xa,     0x22,    0,       0x40047, 0xa,
    0x21,       7,          0x50048,    0xd,     0,       0x23,    0,       0x30047, 0xd,
    2,          0x40047,    0x18,       0xb,     0x19,    0x20013, 2,       0x30021, 3,
    2,          0x40015,    6,          0x20,    0,       0x3001d, 7,       6,       0x3001e,
    8,          7,          0x40020,    9,       0xc,     8,       0x4003b, 9,       0xa,
    0xc,        0x40015,    0xb,        0x20,    1,       0x4002b, 0xb,     0xc,     0,
    0x3001e,    0xd,        6,          0x40020, 0xe,     9,       0xd,     0x4003b, 0xe,
    0xf,        9,          0x40020,    0x10,    9,       6,       0x4002b, 6,       0x13,
    7,          0x40020,    0x14,       0xc,     6,       0x40017, 0x16,    6,       3,
    0x4002b,    6,          0x17,       1,       0x6002c, 0x16,    0x18,    0x17,    0x17,
    0x17,       0x50036,    2,          4,       0,       3,       0x200f8, 5,       0x50041,
    0x10,       0x11,       0xf,        0xc,     0x4003d, 6,       0x12,    0x11,    0x60041,
    0x14,       0x15,       0xa,        0xc,     0x12,    0x3003e, 0x15,    0x13,    0x100fd,
    0x10038,
};

enum { BINDING = 7, BYTES = 256 }; /* a multiple of what any device aligns to */

static const exo_vk_open_desc apart = {.block_bytes = EXO_VK_BLOCKS_APART};

typedef struct {
    exo_vk_instance *instance;
    exo_vk_device *vk;
    exo_device *device;
    exo_vk_allocation *memory, *other;
    unsigned at_first; /* messages before there was anything to say */
    exo_vk_command_pool pool;
    VkCommandBuffer commands;
    VkPipeline pipeline;
    VkDescriptorPool sets;
    VkDescriptorSet set;
} bench;

static void make_pipeline(bench *b) {
    const exo_vk_device_functions *fn = &b->vk->fn;
    VkDevice d = b->vk->handle;
    VkShaderModuleCreateInfo code = {.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
                                     .codeSize = sizeof store_code,
                                     .pCode = store_code};
    VkShaderModule module;
    assert_int_equal(fn->CreateShaderModule(d, &code, NULL, &module), VK_SUCCESS);
    VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                  .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                  .module = module,
                  .pName = "main"},
        .layout = b->device->shaders.layout};
    assert_int_equal(fn->CreateComputePipelines(d, VK_NULL_HANDLE, 1, &info, NULL, &b->pipeline),
                     VK_SUCCESS);
    fn->DestroyShaderModule(d, module, NULL);
}

static void make_set(bench *b) {
    const exo_vk_device_functions *fn = &b->vk->fn;
    VkDevice d = b->vk->handle;
    const VkDescriptorPoolSize sizes[] = {{VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, EXO_VK_BINDINGS},
                                          {VK_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER, EXO_VK_TEXELS}};
    VkDescriptorPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
                                       .maxSets = 1,
                                       .poolSizeCount = 2,
                                       .pPoolSizes = sizes};
    assert_int_equal(fn->CreateDescriptorPool(d, &pool, NULL, &b->sets), VK_SUCCESS);
    VkDescriptorSetAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                        .descriptorPool = b->sets,
                                        .descriptorSetCount = 1,
                                        .pSetLayouts = &b->device->shaders.set_layout};
    assert_int_equal(fn->AllocateDescriptorSets(d, &info, &b->set), VK_SUCCESS);
    VkDescriptorBufferInfo range = {b->memory->buffer, b->memory->offset, BYTES};
    VkWriteDescriptorSet write = {.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                  .dstSet = b->set,
                                  .dstBinding = BINDING,
                                  .descriptorCount = 1,
                                  .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                  .pBufferInfo = &range};
    fn->UpdateDescriptorSets(d, 1, &write, 0, NULL);
}

static void bench_begin(bench *b, const char *driver, bool gpu_assisted) {
    exo_error err = {0};
    b->instance = exo_vk_test_instance_with(driver, gpu_assisted);
    b->vk = exo_vk_test_open(b->instance, &apart);
    b->at_first = exo_vk_validation_messages(b->instance); /* of what the layer cannot check */
    exo_vk_test_ok(exo_vk_device_wrap(b->vk, &b->device, &err), &err);
    exo_vk_memory *m = &b->vk->memory;
    exo_vk_test_ok(exo_vk_memory_allocate(m, EXO_VK_MEMORY_DEVICE, BYTES, &b->memory, &err), &err);
    exo_vk_test_ok(exo_vk_memory_allocate(m, EXO_VK_MEMORY_DEVICE, BYTES, &b->other, &err), &err);
    exo_vk_test_ok(exo_vk_command_pool_init(b->vk, &b->pool, &err), &err);
    exo_vk_test_ok(exo_vk_command_allocate(&b->pool, &b->commands, &err), &err);
    make_pipeline(b);
    make_set(b);
}

/* Messages of the validation layers since bench_begin. */
static unsigned bench_end(bench *b) {
    exo_error err = {0};
    exo_vk_test_ok(exo_vk_queue_wait_idle(&b->vk->queue, EXO_VK_DEADLINE_MS, &err), &err);
    b->vk->fn.DestroyDescriptorPool(b->vk->handle, b->sets, NULL);
    b->vk->fn.DestroyPipeline(b->vk->handle, b->pipeline, NULL);
    exo_vk_command_pool_finish(&b->pool);
    exo_vk_memory_deallocate(&b->vk->memory, b->memory);
    exo_vk_memory_deallocate(&b->vk->memory, b->other);
    exo_vk_device_unwrap(b->device);
    exo_vk_device_close(b->vk);
    unsigned n = exo_vk_validation_messages(b->instance) - b->at_first;
    exo_vk_instance_destroy(b->instance);
    return n;
}

static void begin_commands(bench *b) {
    const exo_vk_device_functions *fn = &b->vk->fn;
    exo_error err = {0};
    exo_vk_test_ok(exo_vk_command_begin(&b->pool, b->commands, true, &err), &err);
    fn->CmdBindPipeline(b->commands, VK_PIPELINE_BIND_POINT_COMPUTE, b->pipeline);
    fn->CmdBindDescriptorSets(b->commands, VK_PIPELINE_BIND_POINT_COMPUTE,
                              b->device->shaders.layout, 0, 1, &b->set, 0, NULL);
}

static void store(bench *b, uint32_t at) {
    const exo_vk_device_functions *fn = &b->vk->fn;
    uint32_t push[EXO_VK_PUSH_BYTES / 4] = {at};
    fn->CmdPushConstants(b->commands, b->device->shaders.layout, VK_SHADER_STAGE_COMPUTE_BIT, 0,
                         sizeof push, push);
    fn->CmdDispatch(b->commands, 1, 1, 1);
}

static void submit(bench *b) {
    exo_error err = {0};
    exo_vk_test_ok(exo_vk_command_end(&b->pool, b->commands, &err), &err);
    exo_vk_test_ok(exo_vk_queue_submit(&b->vk->queue, &b->commands, 1, NULL, &err), &err);
    exo_vk_test_ok(exo_vk_queue_wait_idle(&b->vk->queue, EXO_VK_DEADLINE_MS, &err), &err);
}

/* A dispatch writes what a copy behind it reads. */
static unsigned messages_of_a_hazard(const char *driver, bool with_barrier) {
    bench b = {0};
    bench_begin(&b, driver, false);
    begin_commands(&b);
    store(&b, 0);
    if (with_barrier) {
        exo_vk_barrier(b.vk, b.commands, EXO_VK_USE_SHADER_WRITE, EXO_VK_USE_COPY_READ);
    }
    VkBufferCopy region = {b.memory->offset, b.other->offset, BYTES};
    b.vk->fn.CmdCopyBuffer(b.commands, b.memory->buffer, b.other->buffer, 1, &region);
    submit(&b);
    return bench_end(&b);
}

static void test_missing_barrier(void **state) {
    assert_int_equal(messages_of_a_hazard(*state, true), 0);
    assert_true(messages_of_a_hazard(*state, false) > 0);
}

static unsigned messages_of_a_store(const char *driver, uint32_t at) {
    bench b = {0};
    bench_begin(&b, driver, true);
    begin_commands(&b);
    store(&b, at);
    submit(&b);
    return bench_end(&b);
}

static void test_out_of_bounds(void **state) {
    assert_int_equal(messages_of_a_store(*state, BYTES / 4 - 1), 0);
    assert_true(messages_of_a_store(*state, BYTES / 4) > 0);
}

/* One of each kind of kernel, at sizes that fill no group. */
static void test_kernels_stay_in_bounds(void **state) {
    exo_vk_instance *instance = exo_vk_test_instance_with(*state, true);
    exo_vk_device *vk = exo_vk_test_open(instance, &apart);
    unsigned at_first = exo_vk_validation_messages(instance);
    exo_device *d;
    exo_error err = {0};
    exo_vk_test_ok(exo_vk_device_wrap(vk, &d, &err), &err);
    static const exo_dtype types[][EXO_MATMUL_PARTS] = {{EXO_Q4_K, EXO_Q6_K, EXO_Q8_0},
                                                        {EXO_Q5_K, EXO_Q3_K, EXO_IQ4_XS},
                                                        {EXO_Q5_1, EXO_Q2_K, EXO_MXFP4}};
    exo_vk_product_case product = {.n_parts = 3,
                                   .n_rows = {37, 9, 17},
                                   .n_cols = 256,
                                   .n = 3,
                                   .norm = true,
                                   .bias = true,
                                   .epilogue = EXO_EPILOGUE_STORE,
                                   .seed = 1};
    const exo_vk_embed_case embed = {
        .type = EXO_Q4_0, .n_rows = 13, .n_cols = 96, .n = 3, .next_norm = true, .seed = 2};
    const exo_vk_attention_case attention = {.n_heads = 3,
                                             .n_kv_heads = 1,
                                             .head_dim = 20,
                                             .rope_dims = 10,
                                             .kv_type = EXO_F16,
                                             .n_tokens = 35,
                                             .chunk = 5,
                                             .seed = 3};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        memcpy(product.type, types[i], sizeof types[i]);
        exo_vk_test_ok(exo_vk_check_product(d, &product, &err), &err);
    }
    exo_vk_test_ok(exo_vk_check_embed(d, &embed, &err), &err);
    exo_vk_test_ok(exo_vk_check_attention(d, &attention, &err), &err);
    exo_vk_test_ok(exo_vk_check_round(d, 3, 37, &err), &err);
    exo_vk_device_unwrap(d);
    exo_vk_device_close(vk);
    unsigned n = exo_vk_validation_messages(instance);
    exo_vk_instance_destroy(instance);
    assert_int_equal(n, at_first);
}

int main(int argc, char **argv) {
    cmocka_set_test_filter(argc > 1 ? argv[1] : getenv("EXO_TEST_FILTER"));
    const struct CMUnitTest tests[] = {
        EXO_VK_ON_EACH("a missing barrier is caught", test_missing_barrier),
        EXO_VK_ON_EACH("an access out of bounds is caught", test_out_of_bounds),
        /* lavapipe's compiler takes minutes for what the layer makes of a kernel */
        {"kernels stay in bounds (swiftshader)", test_kernels_stay_in_bounds, NULL, NULL,
         (void *)(uintptr_t) "swiftshader"},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
