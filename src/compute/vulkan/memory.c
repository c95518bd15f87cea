/* memory.c - blocks, and allocations cut out of them.
 *
 * Small allocations share blocks of one size, first fit; an allocation of an eighth of a block or
 * more gets a block of exactly its size.  So a shared block wastes an eighth at most, and
 * exo_vk_memory_check() can promise that what it lets pass will fit. */
#include "compute/vulkan/memory.h"

#include "base/mem.h"
#include "compute/vulkan/device.h"

#include <string.h>

#define MIB                ((VkDeviceSize)1 << 20)
#define BLOCK_BYTES        (64 * MIB)
#define BLOCK_BYTES_MOBILE (32 * MIB)
/* A big device has bigger blocks: matrices of a layer that lie in one buffer share a dispatch. */
#define MAX_BLOCK_BYTES    (2048 * MIB)
#define BLOCKS_OF_BUDGET   64
#define HOST_BLOCK_BYTES   (8 * MIB) /* upload and readback */
#define SMALLEST_BLOCK     ((VkDeviceSize)64 << 10)
#define SHARE_OF_BLOCK     8  /* from 1/8 of a block on, an allocation has its own */
#define SHARE_OF_BUDGET    16 /* a block is at most 1/16 of the budget */
#define SMALLEST_ALIGNMENT 64u

struct exo_vk_block {
    VkDeviceMemory memory;
    VkBuffer buffer; /* over all of it */
    VkDeviceSize bytes, free_bytes;
    uint32_t memory_type;
    exo_vk_memory_kind kind;
    bool shared, imported;
    uint8_t *mapped;          /* or NULL */
    exo_vk_allocation *first; /* by offset; the rest is free */
    exo_vk_block *prev, *next;
};

static VkDeviceSize round_up(VkDeviceSize n, VkDeviceSize to) { return (n + to - 1) / to * to; }

/* ---- memory types ---- */

typedef struct {
    VkMemoryPropertyFlags required, wanted, unwanted;
} type_wish;

static type_wish wish_for(const exo_vk_caps *c, exo_vk_memory_kind kind) {
    const VkMemoryPropertyFlags local = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT,
                                visible = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT,
                                coherent = VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
                                cached = VK_MEMORY_PROPERTY_HOST_CACHED_BIT;
    switch (kind) {
    case EXO_VK_MEMORY_UPLOAD:
        return (type_wish){.required = visible, .wanted = coherent, .unwanted = cached};
    case EXO_VK_MEMORY_READBACK:
        return (type_wish){.required = visible, .wanted = cached | coherent, .unwanted = local};
    default:
        if (c->unified) return (type_wish){.required = local | visible, .wanted = coherent};
        return (type_wish){.required = local, .unwanted = visible};
    }
}

static uint32_t bits(VkMemoryPropertyFlags f) {
    uint32_t n = 0;
    for (; f != 0; f &= f - 1) n++;
    return n;
}

/* The type that fits a wish best: most wanted properties, fewest unwanted, largest heap. */
static uint32_t choose_type(const exo_vk_caps *c, uint32_t allowed, type_wish w) {
    const VkMemoryPropertyFlags never =
        VK_MEMORY_PROPERTY_PROTECTED_BIT | VK_MEMORY_PROPERTY_LAZILY_ALLOCATED_BIT |
        VK_MEMORY_PROPERTY_DEVICE_COHERENT_BIT_AMD | VK_MEMORY_PROPERTY_DEVICE_UNCACHED_BIT_AMD;
    uint32_t best = UINT32_MAX;
    uint64_t best_score = 0;
    for (uint32_t i = 0; i < c->memory.memoryTypeCount; i++) {
        const VkMemoryType *t = &c->memory.memoryTypes[i];
        if ((allowed >> i & 1) == 0 || (t->propertyFlags & never) != 0) continue;
        if ((t->propertyFlags & w.required) != w.required) continue;
        uint64_t rank =
            8 + 2 * bits(t->propertyFlags & w.wanted) - bits(t->propertyFlags & w.unwanted);
        uint64_t score = rank << 56 | c->heaps[t->heapIndex].bytes >> 8;
        if (best != UINT32_MAX && score <= best_score) continue;
        best = i;
        best_score = score;
    }
    return best;
}

/* ---- the budget ---- */

static uint32_t heap_of(const exo_vk_memory *m, uint32_t type) {
    return m->d->caps.memory.memoryTypes[type].heapIndex;
}

/* Bytes left of the limit that the device was opened with. */
static uint64_t limit_left(const exo_vk_memory *m) {
    if (m->limit_bytes == 0) return UINT64_MAX;
    return m->limit_bytes > m->stats.block_bytes ? m->limit_bytes - m->stats.block_bytes : 0;
}

/* Bytes the driver may still be asked for in this heap. */
static uint64_t budget_left(const exo_vk_memory *m, uint32_t heap) {
    const exo_vk_heap *h = &m->d->caps.heaps[heap];
    uint64_t used = m->heap_bytes[heap] > h->used_bytes ? m->heap_bytes[heap] : h->used_bytes;
    uint64_t left = h->budget_bytes > used ? h->budget_bytes - used : 0;
    return left < limit_left(m) ? left : limit_left(m);
}

static exo_status no_room(const exo_vk_memory *m, uint32_t heap, VkDeviceSize bytes,
                          exo_error *err) {
    const exo_vk_heap *h = &m->d->caps.heaps[heap];
    uint64_t budget = h->budget_bytes;
    if (m->limit_bytes != 0 && m->limit_bytes < budget) budget = m->limit_bytes;
    return exo_error_set(err, EXO_ENOMEM,
                         "vulkan:%u: no memory for %.1f MiB: %.1f of %.1f MiB can be had, exo "
                         "holds %.1f MiB",
                         m->d->index, (double)bytes / 0x1p20, (double)budget_left(m, heap) / 0x1p20,
                         (double)budget / 0x1p20, (double)m->stats.block_bytes / 0x1p20);
}

/* ---- blocks ---- */

static const VkBufferUsageFlags buffer_usage =
    VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_UNIFORM_TEXEL_BUFFER_BIT |
    VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT |
    VK_BUFFER_USAGE_INDIRECT_BUFFER_BIT;

static VkResult create_buffer(exo_vk_memory *m, VkDeviceSize bytes, const void *next,
                              VkBuffer *out) {
    VkBufferCreateInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                               .pNext = next,
                               .size = bytes,
                               .usage = buffer_usage,
                               .sharingMode = VK_SHARING_MODE_EXCLUSIVE};
    *out = VK_NULL_HANDLE;
    return EXO_VK_CALL(m->d->fn.CreateBuffer(m->d->handle, &info, NULL, out));
}

static void account(exo_vk_memory *m, const exo_vk_block *b, bool made) {
    uint64_t sign = made ? 1 : UINT64_MAX; /* unsigned -1 */
    m->n_blocks += made ? 1u : UINT32_MAX;
    m->stats.n_blocks += sign;
    m->stats.block_bytes += sign * b->bytes;
    m->stats.free_bytes += sign * b->bytes;
    if (!b->imported) m->heap_bytes[heap_of(m, b->memory_type)] += sign * b->bytes;
}

static void link_block(exo_vk_memory *m, exo_vk_block *b) {
    b->free_bytes = b->bytes;
    b->next = m->blocks;
    if (b->next != NULL) b->next->prev = b;
    m->blocks = b;
    account(m, b, true);
}

/* Frees a block that is, or is not yet, in the list. */
static void free_block(exo_vk_memory *m, exo_vk_block *b, bool linked) {
    exo_vk_device *d = m->d;
    if (linked) {
        if (b->prev != NULL)
            b->prev->next = b->next;
        else
            m->blocks = b->next;
        if (b->next != NULL) b->next->prev = b->prev;
        account(m, b, false);
    }
    bool unused = !atomic_load(&d->hung);
    if (unused && b->mapped != NULL) d->fn.UnmapMemory(d->handle, b->memory);
    if (unused && b->buffer != VK_NULL_HANDLE) d->fn.DestroyBuffer(d->handle, b->buffer, NULL);
    if (unused && b->memory != VK_NULL_HANDLE) d->fn.FreeMemory(d->handle, b->memory, NULL);
    exo_free(b);
}

/* Memory behind b->buffer, mapped where the host is to see it. */
static exo_status back_block(exo_vk_memory *m, exo_vk_block *b, const void *next, exo_error *err) {
    exo_vk_device *d = m->d;
    VkMemoryAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                 .pNext = next,
                                 .allocationSize = b->bytes,
                                 .memoryTypeIndex = b->memory_type};
    d->counters.driver_allocations++;
    VkResult r = EXO_VK_CALL(d->fn.AllocateMemory(d->handle, &info, NULL, &b->memory));
    if (r != VK_SUCCESS) {
        b->memory = VK_NULL_HANDLE;
        return exo_vk_device_fail(d, r, "vkAllocateMemory", err);
    }
    r = EXO_VK_CALL(d->fn.BindBufferMemory(d->handle, b->buffer, b->memory, 0));
    if (r != VK_SUCCESS) return exo_vk_device_fail(d, r, "vkBindBufferMemory", err);
    if (b->imported || (b->kind == EXO_VK_MEMORY_DEVICE && !d->caps.unified)) return EXO_OK;
    void *mapped = NULL;
    r = EXO_VK_CALL(d->fn.MapMemory(d->handle, b->memory, 0, VK_WHOLE_SIZE, 0, &mapped));
    if (r != VK_SUCCESS) return exo_vk_device_fail(d, r, "vkMapMemory", err);
    b->mapped = mapped;
    return EXO_OK;
}

static exo_status create_block(exo_vk_memory *m, exo_vk_memory_kind kind, VkDeviceSize bytes,
                               exo_vk_block **out, exo_error *err) {
    *out = NULL;
    exo_vk_device *d = m->d;
    if (m->n_blocks >= d->caps.max_allocations) {
        return exo_error_set(err, EXO_ENOMEM, "vulkan:%u: the driver allows %u memory blocks",
                             d->index, d->caps.max_allocations);
    }
    exo_vk_block *b = exo_calloc(1, sizeof *b);
    if (b == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for a block's description");
    b->kind = kind;
    b->memory_type = m->type_of[kind];
    exo_status st = EXO_OK;
    VkResult r = create_buffer(m, bytes, NULL, &b->buffer);
    if (r != VK_SUCCESS) {
        st = exo_vk_device_fail(d, r, "vkCreateBuffer", err);
    } else {
        VkMemoryRequirements need;
        d->fn.GetBufferMemoryRequirements(d->handle, b->buffer, &need);
        b->bytes = need.size; /* the buffer's bytes, and what the driver wants behind them */
        st = back_block(m, b, NULL, err);
    }
    if (st != EXO_OK) {
        free_block(m, b, false);
        return st;
    }
    link_block(m, b);
    *out = b;
    return EXO_OK;
}

/* Gives back what keep_empty() kept. */
static bool release_empty_blocks(exo_vk_memory *m) {
    bool any = false;
    for (exo_vk_block *b = m->blocks, *next; b != NULL; b = next) {
        next = b->next;
        if (b->first != NULL) continue;
        free_block(m, b, true);
        any = true;
    }
    return any;
}

/* ---- allocations ---- */

static VkDeviceSize block_bytes_of(const exo_vk_memory *m, exo_vk_memory_kind kind) {
    if (kind == EXO_VK_MEMORY_DEVICE || m->block_bytes < HOST_BLOCK_BYTES) return m->block_bytes;
    return HOST_BLOCK_BYTES;
}

/* Takes `held` bytes out of the first gap of b that is large enough. */
static bool take_gap(exo_vk_block *b, VkDeviceSize held, exo_vk_allocation *a) {
    if (b->free_bytes < held) return false;
    VkDeviceSize begin = 0;
    exo_vk_allocation *before = NULL, *after = b->first;
    while (after != NULL && after->offset - begin < held) {
        begin = after->offset + after->held_bytes;
        before = after;
        after = after->next;
    }
    if (after == NULL && (b->bytes < begin || b->bytes - begin < held)) return false;
    a->prev = before;
    a->next = after;
    if (before != NULL)
        before->next = a;
    else
        b->first = a;
    if (after != NULL) after->prev = a;
    b->free_bytes -= held;
    a->offset = begin;
    return true;
}

static void fill_in(exo_vk_memory *m, exo_vk_block *b, VkDeviceSize size, VkDeviceSize held,
                    exo_vk_allocation *a) {
    a->id = ++m->next_id;
    a->block = b;
    a->buffer = b->buffer;
    a->size = size;
    a->held_bytes = held;
    a->memory_type = b->memory_type;
    a->properties = m->d->caps.memory.memoryTypes[b->memory_type].propertyFlags;
    a->kind = b->kind;
    a->mapped = b->mapped != NULL ? b->mapped + a->offset : NULL;
    a->read_only = b->imported;
    m->stats.n_allocations++;
    m->stats.requested_bytes += size;
    m->stats.held_bytes += held;
    m->stats.free_bytes -= held;
    m->d->counters.allocations++;
}

/* A block that can take `held` bytes: a shared one of the usual size for small allocations, else,
 * or where that cannot be had, one of just this size. */
static exo_status new_block(exo_vk_memory *m, exo_vk_memory_kind kind, VkDeviceSize held,
                            exo_vk_block **out, exo_error *err) {
    exo_vk_device *d = m->d;
    uint32_t heap = heap_of(m, m->type_of[kind]);
    VkDeviceSize usual = block_bytes_of(m, kind), exact = round_up(held, SMALLEST_BLOCK);
    if (m->block_bytes == EXO_VK_BLOCKS_APART) exact = held;
    exo_vk_caps_refresh(&d->instance->fn, d->physical, &d->caps);
    if (held < usual / SHARE_OF_BLOCK && usual <= budget_left(m, heap) &&
        create_block(m, kind, usual, out, NULL) == EXO_OK && *out != NULL) {
        (*out)->shared = true;
        return EXO_OK;
    }
    if (atomic_load(&d->lost)) return exo_vk_device_fail(d, VK_ERROR_DEVICE_LOST, "memory", err);
    if (exact > budget_left(m, heap)) return no_room(m, heap, held, err);
    return create_block(m, kind, exact, out, err);
}

exo_status exo_vk_memory_allocate(exo_vk_memory *m, exo_vk_memory_kind kind, VkDeviceSize bytes,
                                  exo_vk_allocation **out, exo_error *err) {
    *out = NULL;
    const exo_vk_caps *c = &m->d->caps;
    if (bytes == 0) return exo_error_set(err, EXO_EINVAL, "an allocation of 0 bytes");
    uint64_t largest = c->max_allocation_bytes < c->max_buffer_bytes ? c->max_allocation_bytes
                                                                     : c->max_buffer_bytes;
    if (bytes > largest - SMALLEST_BLOCK) {
        return exo_error_set(err, EXO_ENOMEM,
                             "vulkan:%u: %.1f MiB in one piece; the driver allows %.1f MiB",
                             m->d->index, (double)bytes / 0x1p20, (double)largest / 0x1p20);
    }
    exo_vk_allocation *a = exo_calloc(1, sizeof *a);
    if (a == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for an allocation's record");
    VkDeviceSize held = round_up(bytes, m->alignment);
    bool small = held < block_bytes_of(m, kind) / SHARE_OF_BLOCK;
    for (exo_vk_block *b = m->blocks; b != NULL; b = b->next) {
        if (b->kind != kind || b->imported || b->shared != small) continue;
        if (!take_gap(b, held, a)) continue;
        fill_in(m, b, bytes, held, a);
        *out = a;
        return EXO_OK;
    }
    exo_vk_block *b = NULL;
    exo_status st = new_block(m, kind, held, &b, err);
    if (st == EXO_ENOMEM && release_empty_blocks(m)) st = new_block(m, kind, held, &b, err);
    if (b == NULL) {
        exo_free(a);
        return st;
    }
    (void)take_gap(b, held, a); /* fits: the block was made for it */
    fill_in(m, b, bytes, held, a);
    *out = a;
    return EXO_OK;
}

/* One empty shared block of each kind stays for the next allocation. */
static bool keep_empty(const exo_vk_memory *m, const exo_vk_block *b) {
    if (!b->shared) return false;
    for (const exo_vk_block *o = m->blocks; o != NULL; o = o->next) {
        if (o != b && o->kind == b->kind && o->shared && o->first == NULL) return false;
    }
    return true;
}

void exo_vk_memory_deallocate(exo_vk_memory *m, exo_vk_allocation *a) {
    if (a == NULL) return;
    exo_vk_block *b = a->block;
    if (a->prev != NULL)
        a->prev->next = a->next;
    else
        b->first = a->next;
    if (a->next != NULL) a->next->prev = a->prev;
    b->free_bytes += a->held_bytes;
    m->stats.n_allocations--;
    m->stats.requested_bytes -= a->size;
    m->stats.held_bytes -= a->held_bytes;
    m->stats.free_bytes += a->held_bytes;
    exo_free(a);
    if (b->first == NULL && !keep_empty(m, b)) free_block(m, b, true);
}

/* ---- will it fit ---- */

uint64_t exo_vk_memory_available(exo_vk_memory *m, exo_vk_memory_kind kind) {
    exo_vk_caps_refresh(&m->d->instance->fn, m->d->physical, &m->d->caps);
    uint64_t n = budget_left(m, heap_of(m, m->type_of[kind]));
    for (const exo_vk_block *b = m->blocks; b != NULL; b = b->next) {
        if (b->kind == kind && !b->imported) n += b->free_bytes;
    }
    return n;
}

exo_status exo_vk_memory_check(exo_vk_memory *m, const exo_vk_memory_need *needs, size_t n,
                               exo_error *err) {
    uint64_t small[EXO_VK_N_MEMORY_KINDS] = {0}, heap[VK_MAX_MEMORY_HEAPS] = {0}, total = 0;
    const exo_vk_caps *c = &m->d->caps;
    for (size_t i = 0; i < n; i++) {
        exo_vk_memory_kind kind = needs[i].kind;
        if (needs[i].bytes > c->max_allocation_bytes) {
            return no_room(m, heap_of(m, m->type_of[kind]), needs[i].bytes, err);
        }
        VkDeviceSize held = round_up(needs[i].bytes, m->alignment);
        if (held < block_bytes_of(m, kind) / SHARE_OF_BLOCK)
            small[kind] += held;
        else
            heap[heap_of(m, m->type_of[kind])] += round_up(held, SMALLEST_BLOCK);
    }
    for (int kind = 0; kind < EXO_VK_N_MEMORY_KINDS; kind++) {
        VkDeviceSize block = block_bytes_of(m, (exo_vk_memory_kind)kind);
        if (small[kind] == 0) continue;
        VkDeviceSize filled = block / SHARE_OF_BLOCK * (SHARE_OF_BLOCK - 1);
        heap[heap_of(m, m->type_of[kind])] += (small[kind] + filled - 1) / filled * block;
    }
    exo_vk_caps_refresh(&m->d->instance->fn, m->d->physical, &m->d->caps);
    for (uint32_t i = 0; i < c->n_heaps; i++) {
        total += heap[i];
        if (heap[i] > budget_left(m, i)) return no_room(m, i, heap[i], err);
    }
    return total <= limit_left(m) ? EXO_OK : no_room(m, 0, total, err);
}

/* ---- host access ---- */

exo_status exo_vk_memory_map(exo_vk_memory *m, exo_vk_allocation *a, void **out, exo_error *err) {
    *out = a->mapped;
    if (a->mapped != NULL) return EXO_OK;
    return exo_error_set(err, EXO_EUNSUPPORTED,
                         "vulkan:%u: allocation %llu cannot be seen by the host", m->d->index,
                         (unsigned long long)a->id);
}

exo_status exo_vk_memory_unmap(exo_vk_memory *m, exo_vk_allocation *a, exo_error *err) {
    return a->mapped != NULL ? exo_vk_memory_flush(m, a, 0, a->size, err) : EXO_OK;
}

/* The range in whole atoms; allocations begin and end on them, a block's end counts as one. */
static VkMappedMemoryRange atoms(const exo_vk_memory *m, const exo_vk_allocation *a,
                                 VkDeviceSize offset, VkDeviceSize bytes) {
    VkDeviceSize atom = m->d->caps.non_coherent_atom > 0 ? m->d->caps.non_coherent_atom : 1;
    VkDeviceSize begin = (a->offset + offset) / atom * atom;
    VkDeviceSize end = round_up(a->offset + offset + bytes, atom);
    if (end > a->block->bytes) end = a->block->bytes;
    return (VkMappedMemoryRange){.sType = VK_STRUCTURE_TYPE_MAPPED_MEMORY_RANGE,
                                 .memory = a->block->memory,
                                 .offset = begin,
                                 .size = end - begin};
}

static bool coherent(const exo_vk_allocation *a) {
    return (a->properties & VK_MEMORY_PROPERTY_HOST_COHERENT_BIT) != 0;
}

exo_status exo_vk_memory_flush(exo_vk_memory *m, const exo_vk_allocation *a, VkDeviceSize offset,
                               VkDeviceSize bytes, exo_error *err) {
    if (coherent(a) || bytes == 0) return EXO_OK;
    VkMappedMemoryRange range = atoms(m, a, offset, bytes);
    VkResult r = EXO_VK_CALL(m->d->fn.FlushMappedMemoryRanges(m->d->handle, 1, &range));
    return r == VK_SUCCESS ? EXO_OK : exo_vk_device_fail(m->d, r, "vkFlushMappedMemoryRanges", err);
}

exo_status exo_vk_memory_invalidate(exo_vk_memory *m, const exo_vk_allocation *a,
                                    VkDeviceSize offset, VkDeviceSize bytes, exo_error *err) {
    if (coherent(a) || bytes == 0) return EXO_OK;
    VkMappedMemoryRange range = atoms(m, a, offset, bytes);
    VkResult r = EXO_VK_CALL(m->d->fn.InvalidateMappedMemoryRanges(m->d->handle, 1, &range));
    return r == VK_SUCCESS ? EXO_OK
                           : exo_vk_device_fail(m->d, r, "vkInvalidateMappedMemoryRanges", err);
}

/* ---- import ---- */

/* The block's buffer and memory over `host`; EXO_EUNSUPPORTED when the driver says no. */
static exo_status import_block(exo_vk_memory *m, exo_vk_block *b, const void *host,
                               VkDeviceSize bytes, exo_error *err) {
    exo_vk_device *d = m->d;
    const VkExternalMemoryHandleTypeFlagBits type =
        VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT;
    VkExternalMemoryBufferCreateInfo external = {
        .sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO, .handleTypes = type};
    VkImportMemoryHostPointerInfoEXT import = {
        .sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT, .handleType = type};
    memcpy(&import.pHostPointer, &host, sizeof host); /* Vulkan's type has no const */
    VkMemoryHostPointerPropertiesEXT properties = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_HOST_POINTER_PROPERTIES_EXT};
    VkResult r = EXO_VK_CALL(
        d->fn.GetMemoryHostPointerPropertiesEXT(d->handle, type, import.pHostPointer, &properties));
    if (r == VK_SUCCESS) r = create_buffer(m, bytes, &external, &b->buffer);
    if (r == VK_ERROR_DEVICE_LOST) return exo_vk_device_fail(d, r, "import", err);
    if (r != VK_SUCCESS) goto refused;
    VkMemoryRequirements need;
    d->fn.GetBufferMemoryRequirements(d->handle, b->buffer, &need);
    b->memory_type = choose_type(&d->caps, need.memoryTypeBits & properties.memoryTypeBits,
                                 (type_wish){.wanted = VK_MEMORY_PROPERTY_HOST_CACHED_BIT});
    if (b->memory_type == UINT32_MAX || need.size > bytes) goto refused;
    b->bytes = bytes;
    b->imported = true;
    exo_status st = back_block(m, b, &import, err);
    if (st == EXO_OK || atomic_load(&d->lost)) return st;

refused:
    return exo_error_set(err, EXO_EUNSUPPORTED, "vulkan:%u: the driver refuses host memory",
                         d->index);
}

exo_status exo_vk_memory_import(exo_vk_memory *m, const void *host, VkDeviceSize bytes,
                                exo_vk_allocation **out, exo_error *err) {
    *out = NULL;
    uint64_t alignment = m->d->caps.host_import_alignment;
    if (alignment == 0) {
        return exo_error_set(err, EXO_EUNSUPPORTED, "vulkan:%u cannot read host memory in place",
                             m->d->index);
    }
    if (bytes == 0 || bytes % alignment != 0 || (uintptr_t)host % alignment != 0) {
        return exo_error_set(err, EXO_EINVAL, "imported memory is not in whole pages of %llu bytes",
                             (unsigned long long)alignment);
    }
    exo_vk_allocation *a = exo_calloc(1, sizeof *a);
    exo_vk_block *b = exo_calloc(1, sizeof *b);
    exo_status st = EXO_ENOMEM;
    if (a == NULL || b == NULL) {
        exo_error_set(err, EXO_ENOMEM, "no memory for an import's record");
        goto failed;
    }
    st = import_block(m, b, host, bytes, err);
    if (st != EXO_OK) goto failed;
    link_block(m, b);
    (void)take_gap(b, bytes, a); /* all of it */
    fill_in(m, b, bytes, bytes, a);
    *out = a;
    return EXO_OK;

failed:
    if (b != NULL) free_block(m, b, false);
    exo_free(a);
    return st;
}

/* ---- life ---- */

/* The memory types a buffer of exo's usage may have. */
static exo_status allowed_types(exo_vk_memory *m, uint32_t *out, exo_error *err) {
    exo_vk_device *d = m->d;
    VkBuffer buffer;
    VkResult r = create_buffer(m, SMALLEST_BLOCK, NULL, &buffer);
    if (r != VK_SUCCESS) return exo_vk_device_fail(d, r, "vkCreateBuffer", err);
    VkMemoryRequirements need;
    d->fn.GetBufferMemoryRequirements(d->handle, buffer, &need);
    d->fn.DestroyBuffer(d->handle, buffer, NULL);
    *out = need.memoryTypeBits;
    return EXO_OK;
}

static VkDeviceSize default_block(const exo_vk_memory *m) {
    const exo_vk_caps *c = &m->d->caps;
    VkDeviceSize n = c->mobile ? BLOCK_BYTES_MOBILE : BLOCK_BYTES;
    uint64_t budget = c->heaps[heap_of(m, m->type_of[EXO_VK_MEMORY_DEVICE])].budget_bytes;
    if (m->limit_bytes != 0 && m->limit_bytes < budget) budget = m->limit_bytes;
    while (!c->mobile && n < MAX_BLOCK_BYTES && 2 * n <= budget / BLOCKS_OF_BUDGET) n *= 2;
    while (n > MIB && n > budget / SHARE_OF_BUDGET) n /= 2;
    return n;
}

exo_status exo_vk_memory_init(exo_vk_device *d, uint64_t limit_bytes, uint64_t block_bytes,
                              exo_error *err) {
    exo_vk_memory *m = &d->memory;
    memset(m, 0, sizeof *m);
    m->d = d;
    m->limit_bytes = limit_bytes;
    uint32_t allowed = 0;
    exo_status st = allowed_types(m, &allowed, err);
    if (st != EXO_OK) return st;
    for (int kind = 0; kind < EXO_VK_N_MEMORY_KINDS; kind++) {
        type_wish wish = wish_for(&d->caps, (exo_vk_memory_kind)kind);
        m->type_of[kind] = choose_type(&d->caps, allowed, wish);
        if (m->type_of[kind] != UINT32_MAX) continue;
        return exo_error_set(err, EXO_EUNSUPPORTED, "vulkan:%u has no %s memory for buffers",
                             d->index, kind == EXO_VK_MEMORY_DEVICE ? "device" : "host-visible");
    }
    m->alignment = SMALLEST_ALIGNMENT;
    if (d->caps.min_storage_alignment > m->alignment) m->alignment = d->caps.min_storage_alignment;
    if (d->caps.non_coherent_atom > m->alignment) m->alignment = d->caps.non_coherent_atom;
    m->block_bytes = block_bytes != 0 ? round_up(block_bytes, SMALLEST_BLOCK) : default_block(m);
    if (block_bytes == EXO_VK_BLOCKS_APART) m->block_bytes = EXO_VK_BLOCKS_APART;
    return EXO_OK;
}

void exo_vk_memory_finish(exo_vk_memory *m) {
    while (m->blocks != NULL) {
        for (exo_vk_allocation *a = m->blocks->first, *next; a != NULL; a = next) {
            next = a->next;
            exo_free(a);
        }
        free_block(m, m->blocks, true);
    }
    memset(m, 0, sizeof *m);
}
