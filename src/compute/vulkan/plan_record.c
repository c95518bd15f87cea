/* plan_record.c - records a plan's commands, once for each bucket of rows.
 *
 * Descriptor sets are made here and never written again; buckets share them, because a set names
 * memory and not rows.  Commands are cut where enough work stands in one command buffer. */
#include "compute/vulkan/plan_head.h"
#include "compute/vulkan/plan_host.h"
#include "compute/vulkan/plan_profile.h"

#include "base/mem.h"

#include <string.h>

#define SETS_IN_POOL 128
#define PIECE_COST   (UINT64_C(4) << 30) /* multiply-adds in one command buffer */

/* ---- descriptor sets ---- */

static exo_status add_set_pool(exo_plan *p, exo_error *err) {
    exo_vk_device *d = p->device->vk;
    if (exo_grow((void **)&p->set_pools, &p->cap_set_pools, p->n_set_pools + 1,
                 sizeof *p->set_pools) != 0) {
        return exo_error_set(err, EXO_ENOMEM, "no memory for descriptor pools");
    }
    const VkDescriptorPoolSize sizes[] = {
        {VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, SETS_IN_POOL * EXO_VK_BINDINGS},
        {VK_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER, SETS_IN_POOL * EXO_VK_TEXELS}};
    VkDescriptorPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
                                       .maxSets = SETS_IN_POOL,
                                       .poolSizeCount = 2,
                                       .pPoolSizes = sizes};
    VkResult r = EXO_VK_CALL(
        d->fn.CreateDescriptorPool(d->handle, &info, NULL, &p->set_pools[p->n_set_pools]));
    if (r != VK_SUCCESS) return exo_vk_device_fail(d, r, "vkCreateDescriptorPool", err);
    p->n_set_pools++;
    return EXO_OK;
}

/* What a set holds as texels: views of bindings 2, 5 and 6. */
static exo_status create_views(const exo_plan *p, exo_vk_set *set, exo_error *err) {
    exo_vk_device *d = p->device->vk;
    static const struct {
        uint32_t binding;
        VkFormat format;
    } of[EXO_VK_TEXELS] = {{2, VK_FORMAT_R32G32B32A32_UINT},
                           {5, VK_FORMAT_R32G32B32A32_SFLOAT},
                           {6, VK_FORMAT_R32G32B32A32_UINT}};
    for (uint32_t i = 0; i < EXO_VK_TEXELS; i++) {
        const exo_vk_range *r = &set->range[of[i].binding - 1];
        VkBufferViewCreateInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_VIEW_CREATE_INFO,
                                       .buffer = r->buffer,
                                       .format = of[i].format,
                                       .offset = r->begin,
                                       .range = (r->end - r->begin) / 16 * 16};
        VkResult result =
            EXO_VK_CALL(d->fn.CreateBufferView(d->handle, &info, NULL, &set->views[i]));
        if (result != VK_SUCCESS) return exo_vk_device_fail(d, result, "vkCreateBufferView", err);
    }
    return EXO_OK;
}

static void write_set(const exo_plan *p, const exo_vk_set *set) {
    exo_vk_device *d = p->device->vk;
    VkDescriptorBufferInfo buffers[EXO_VK_BINDINGS];
    VkWriteDescriptorSet writes[EXO_VK_BINDINGS + EXO_VK_TEXELS];
    for (uint32_t i = 0; i < EXO_VK_BINDINGS; i++) {
        const exo_vk_range *r = &set->range[i];
        buffers[i] = (VkDescriptorBufferInfo){r->buffer, r->begin, r->end - r->begin};
        writes[i] = (VkWriteDescriptorSet){.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                           .dstSet = set->handle,
                                           .dstBinding = i + 1,
                                           .descriptorCount = 1,
                                           .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                           .pBufferInfo = &buffers[i]};
    }
    for (uint32_t i = 0; set->texels && i < EXO_VK_TEXELS; i++) {
        writes[EXO_VK_BINDINGS + i] =
            (VkWriteDescriptorSet){.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                   .dstSet = set->handle,
                                   .dstBinding = EXO_VK_BINDINGS + 1 + i,
                                   .descriptorCount = 1,
                                   .descriptorType = VK_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER,
                                   .pTexelBufferView = &set->views[i]};
    }
    uint32_t n = EXO_VK_BINDINGS + (set->texels ? EXO_VK_TEXELS : 0);
    d->fn.UpdateDescriptorSets(d->handle, n, writes, 0, NULL);
}

static bool same_ranges(const exo_vk_range *a, const exo_vk_range *b) {
    for (uint32_t i = 0; i < EXO_VK_BINDINGS; i++) {
        if (a[i].buffer != b[i].buffer || a[i].begin != b[i].begin || a[i].end != b[i].end) {
            return false;
        }
    }
    return true;
}

/* The set that holds these ranges: one that is there, or a new one. */
static exo_status find_set(exo_vk_recorder *r, const exo_vk_range *range, bool texels,
                           VkDescriptorSet *out, exo_error *err) {
    exo_plan *p = r->p;
    for (size_t i = 0; i < p->n_sets; i++) {
        size_t k = (r->set_hint + i) % p->n_sets;
        if (p->sets[k].texels != texels || !same_ranges(p->sets[k].range, range)) continue;
        r->set_hint = k + 1;
        *out = p->sets[k].handle;
        return EXO_OK;
    }
    if (exo_grow((void **)&p->sets, &p->cap_sets, p->n_sets + 1, sizeof *p->sets) != 0) {
        return exo_error_set(err, EXO_ENOMEM, "no memory for descriptor sets");
    }
    exo_status st = EXO_OK;
    if (p->n_sets == p->n_set_pools * SETS_IN_POOL) st = add_set_pool(p, err);
    if (st != EXO_OK) return st;
    exo_vk_set *set = &p->sets[p->n_sets];
    *set = (exo_vk_set){.texels = texels};
    memcpy(set->range, range, sizeof set->range);
    exo_vk_device *d = p->device->vk;
    VkDescriptorSetAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                        .descriptorPool = p->set_pools[p->n_set_pools - 1],
                                        .descriptorSetCount = 1,
                                        .pSetLayouts = &p->device->shaders.set_layout};
    VkResult result = EXO_VK_CALL(d->fn.AllocateDescriptorSets(d->handle, &info, &set->handle));
    if (result != VK_SUCCESS) return exo_vk_device_fail(d, result, "vkAllocateDescriptorSets", err);
    r->set_hint = ++p->n_sets; /* from here on its views are freed with the plan */
    st = texels ? create_views(p, set, err) : EXO_OK;
    if (st != EXO_OK) return st;
    write_set(p, set);
    *out = set->handle;
    return EXO_OK;
}

/* ---- commands ---- */

exo_status exo_vk_begin_commands(exo_vk_recorder *r, exo_error *err) {
    exo_vk_bucket *b = r->bucket;
    VkCommandBuffer *grown =
        exo_realloc(b->commands, (b->n_commands + 2) * sizeof(VkCommandBuffer));
    if (grown == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for commands");
    b->commands = grown;
    exo_status st = exo_vk_command_allocate(&r->p->pool, &b->commands[b->n_commands], err);
    if (st != EXO_OK) return st;
    r->commands = b->commands[b->n_commands++];
    st = exo_vk_command_begin(&r->p->pool, r->commands, false, err);
    if (st != EXO_OK) return st;
    exo_vk_device *d = r->p->device->vk;
    exo_vk_profile_begin(r->p->profile, r->commands);
    exo_vk_hazards_begin(&r->hazards, d, r->commands);
    exo_vk_barrier(d, r->commands, EXO_VK_USE_ANY, EXO_VK_USE_ANY);
    r->bound = VK_NULL_HANDLE;
    r->cost = 0;
    return EXO_OK;
}

static exo_status end_commands(exo_vk_recorder *r, exo_error *err) {
    r->bucket->n_barriers += r->hazards.n_barriers;
    return exo_vk_command_end(&r->p->pool, r->commands, err);
}

static void declare(exo_vk_recorder *r, const exo_vk_allocation *a, VkDeviceSize offset,
                    VkDeviceSize bytes, uint32_t use) {
    exo_vk_hazards_declare(&r->hazards, a->buffer, a->offset + offset, bytes, use);
}

exo_status exo_vk_emit_grid(exo_vk_recorder *r, const exo_vk_grid *grid, uint32_t *out,
                            exo_error *err) {
    exo_plan *p = r->p;
    uint32_t i = 0;
    while (i < p->n_grids && (p->grids[i].kind != grid->kind || p->grids[i].x != grid->x ||
                              p->grids[i].z != grid->z || p->grids[i].cols != grid->cols)) {
        i++;
    }
    if (i == EXO_VK_MAX_GRIDS) {
        return exo_error_set(err, EXO_EUNSUPPORTED, "a plan with %d kinds of attention",
                             EXO_VK_MAX_GRIDS);
    }
    if (i == p->n_grids) p->grids[p->n_grids++] = *grid;
    *out = i;
    return EXO_OK;
}

exo_status exo_vk_emit_dispatch(exo_vk_recorder *r, const exo_vk_dispatch *d, exo_error *err) {
    exo_plan *p = r->p;
    exo_vk_shaders *shaders = &p->device->shaders;
    const exo_vk_device_functions *fn = &p->device->vk->fn;
    exo_status st = EXO_OK;
    if (r->cost > 0 && r->cost + d->cost > PIECE_COST) {
        st = end_commands(r, err);
        if (st == EXO_OK) st = exo_vk_begin_commands(r, err);
    }
    if (p->device->absent[d->kernel]) {
        return exo_error_set(err, EXO_EUNSUPPORTED,
                             "vulkan:%u (%s): no variant of kernel %s works there; exo devices "
                             "tells more",
                             p->device->vk->index, p->device->vk->caps.name,
                             exo_vk_kernel_name(d->kernel));
    }
    exo_vk_range range[EXO_VK_BINDINGS];
    const exo_vk_allocation *step = p->step;
    for (uint32_t i = 0; i < EXO_VK_BINDINGS; i++) {
        range[i] = d->range[i];
        if (range[i].buffer == VK_NULL_HANDLE) { /* never read, but it must hold something */
            range[i] = (exo_vk_range){step->buffer, step->offset, step->offset + step->size, 0};
        }
    }
    bool texels = shaders->variant[d->kernel] == EXO_VK_TEXEL;
    VkPipeline pipeline;
    VkDescriptorSet set;
    if (st == EXO_OK) {
        st = exo_vk_shaders_get(shaders, d->kernel, d->spec, d->n_specs, &pipeline, err);
    }
    if (st == EXO_OK) st = find_set(r, range, texels, &set, err);
    if (st != EXO_OK) return st;

    declare(r, step, 0, step->size, EXO_VK_USE_SHADER_READ | EXO_VK_USE_INDIRECT);
    for (uint32_t i = 0; i < EXO_VK_BINDINGS; i++) {
        const exo_vk_range *u = &range[i];
        if (u->use == 0) continue;
        exo_vk_hazards_declare(&r->hazards, u->buffer, u->begin, u->end - u->begin, u->use);
    }
    exo_vk_hazards_settle(&r->hazards);
    if (pipeline != r->bound) {
        fn->CmdBindPipeline(r->commands, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline);
    }
    r->bound = pipeline;
    fn->CmdBindDescriptorSets(r->commands, VK_PIPELINE_BIND_POINT_COMPUTE, shaders->layout, 0, 1,
                              &set, 0, NULL);
    fn->CmdPushConstants(r->commands, shaders->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0,
                         d->push_bytes, d->push);
    if (d->grid == EXO_VK_NO_GRID) {
        fn->CmdDispatch(r->commands, d->groups[0], d->groups[1], d->groups[2]);
    } else {
        VkDeviceSize at = (EXO_VK_GRIDS_AT + 3 * (VkDeviceSize)d->grid) * sizeof(uint32_t);
        fn->CmdDispatchIndirect(r->commands, step->buffer, step->offset + at);
    }
    exo_vk_profile_dispatch(p->profile, r->commands, d, r->rows);
    r->cost += d->cost;
    r->bucket->n_dispatches++;
    return EXO_OK;
}

/* ---- buckets ---- */

void exo_vk_emit_copy(exo_vk_recorder *r, const exo_vk_allocation *from, VkDeviceSize from_at,
                      const exo_vk_allocation *to, VkDeviceSize to_at, VkDeviceSize bytes) {
    VkBufferCopy region = {from->offset + from_at, to->offset + to_at, bytes};
    declare(r, from, from_at, bytes, EXO_VK_USE_COPY_READ);
    declare(r, to, to_at, bytes, EXO_VK_USE_COPY_WRITE);
    exo_vk_hazards_settle(&r->hazards);
    r->p->device->vk->fn.CmdCopyBuffer(r->commands, from->buffer, to->buffer, 1, &region);
}

exo_status exo_vk_end_for_host(exo_vk_recorder *r, exo_error *err) {
    exo_vk_barrier(r->p->device->vk, r->commands, EXO_VK_USE_SHADER_WRITE | EXO_VK_USE_COPY_WRITE,
                   EXO_VK_USE_HOST_READ);
    return end_commands(r, err);
}

exo_status exo_vk_emit_cut(exo_vk_recorder *r, exo_error *err) {
    exo_status st = exo_vk_end_for_host(r, err);
    return st == EXO_OK ? exo_vk_begin_commands(r, err) : st;
}

/* Rows of slot 0. */
static void copy_rows(exo_vk_recorder *r, const exo_vk_allocation *from, VkDeviceSize from_at,
                      const exo_vk_allocation *to, VkDeviceSize to_at) {
    uint32_t rows = r->rows < r->p->desc.max_rows ? r->rows : r->p->desc.max_rows;
    VkDeviceSize bytes = (VkDeviceSize)rows * r->p->slots[0].x.ld * sizeof(float);
    exo_vk_emit_copy(r, from, from_at, to, to_at, bytes);
}

/* Operation *i, or all of the host point that begins with it; *i is then the next one. */
static exo_status record_op(exo_vk_recorder *r, size_t *i, exo_error *err) {
    const exo_vk_span *span = exo_vk_host_span(r->p, *i);
    if (span == NULL) return exo_vk_emit_op(r, (*i)++, err);
    *i = span->end;
    return exo_vk_host_record(r, span, err);
}

static exo_status record_bucket(exo_vk_recorder *r, exo_error *err) {
    exo_plan *p = r->p;
    memset(r->held, 0, p->desc.n_slots * sizeof *r->held);
    r->set_hint = 0;
    exo_status st = exo_vk_begin_commands(r, err);
    if (st != EXO_OK) return st;
    if (p->input != NULL) copy_rows(r, p->input, 0, p->acts, p->slots[0].x.offset);
    for (size_t i = 0; st == EXO_OK && i < p->desc.n_ops;) st = record_op(r, &i, err);
    if (st != EXO_OK) return st;
    if (p->bounds.n_vocab == 0) copy_rows(r, p->acts, p->slots[0].x.offset, p->output, 0);
    return exo_vk_end_for_host(r, err);
}

/* [*n] buckets of one class, from one row up to the most. */
static exo_status record_buckets(exo_vk_recorder *r, exo_vk_bucket *buckets, uint32_t *n,
                                 exo_error *err) {
    uint32_t max_rows = r->p->desc.max_rows;
    exo_status st = EXO_OK;
    for (uint32_t rows = 1; st == EXO_OK; rows *= 2) {
        r->rows = rows < max_rows ? rows : max_rows;
        r->bucket = &buckets[(*n)++];
        r->bucket->rows = r->rows;
        st = record_bucket(r, err);
        if (rows >= max_rows) break;
    }
    return st;
}

exo_status exo_vk_plan_record(exo_plan *p, exo_error *err) {
    exo_vk_recorder r = {.p = p};
    r.held = exo_calloc(p->desc.n_slots, sizeof(const exo_buffer *));
    if (r.held == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for a plan");
    exo_status st = exo_vk_profile_create(p->device->vk, &p->profile, err);
    if (st == EXO_OK) st = record_buckets(&r, p->buckets, &p->n_buckets, err);
    r.prompt = true;
    if (st == EXO_OK && exo_vk_plan_has_classes(p)) {
        st = record_buckets(&r, p->prompt_buckets, &p->n_prompt_buckets, err);
    }
    if (st == EXO_OK) st = exo_vk_head_record_reads(&r, err);
    exo_free(r.held);
    return st;
}
