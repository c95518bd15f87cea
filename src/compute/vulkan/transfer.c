/* transfer.c - copies in place, or through a ring of staging slots.
 *
 * Every submission of this file begins and ends with a barrier against everything else, so the
 * callers' own command buffers stay free of barriers for transfers. */
#include "compute/vulkan/transfer.h"

#include "base/mem.h"
#include "compute/vulkan/device.h"

#include <string.h>

typedef struct {
    exo_vk_allocation *memory; /* NULL until the first staged copy */
    VkCommandBuffer commands;
    exo_vk_fence busy; /* the last submission of commands */
} staging_slot;

struct exo_vk_transfer {
    exo_vk_device *d;
    exo_vk_command_pool pool;
    staging_slot slots[EXO_VK_STAGING_SLOTS];
    uint32_t next; /* slot */
    size_t slot_bytes;
    VkCommandBuffer to_host; /* recorded once: makes all writes visible to the host */
    exo_vk_fence to_host_busy;
    uint64_t host_sees; /* writes up to this submission are visible to the host */
};

static exo_status check_range(const exo_vk_allocation *a, uint64_t offset, size_t bytes,
                              exo_error *err) {
    if (offset <= a->size && bytes <= a->size - offset) return EXO_OK;
    return exo_error_set(err, EXO_EINVAL, "bytes %llu + %zu of an allocation of %llu",
                         (unsigned long long)offset, bytes, (unsigned long long)a->size);
}

static exo_status check_writable(const exo_vk_allocation *a, uint64_t offset, size_t bytes,
                                 exo_error *err) {
    if (!a->read_only) return check_range(a, offset, bytes, err);
    return exo_error_set(err, EXO_EINVAL, "allocation %llu is imported and read-only",
                         (unsigned long long)a->id);
}

/* ---- one submission ---- */

/* The next slot, idle, its commands being recorded. */
static exo_status begin(exo_vk_transfer *t, staging_slot **out, exo_error *err) {
    staging_slot *s = &t->slots[t->next];
    *out = s;
    exo_status st = exo_vk_fence_wait(&t->d->queue, s->busy, EXO_VK_DEADLINE_MS, err);
    if (st == EXO_OK) st = exo_vk_command_begin(&t->pool, s->commands, true, err);
    if (st != EXO_OK) return st;
    t->next = (t->next + 1) % EXO_VK_STAGING_SLOTS;
    exo_vk_barrier(t->d, s->commands, EXO_VK_USE_ANY, EXO_VK_USE_COPY_READ | EXO_VK_USE_COPY_WRITE);
    return EXO_OK;
}

static exo_status submit(exo_vk_transfer *t, staging_slot *s, exo_error *err) {
    exo_vk_barrier(t->d, s->commands, EXO_VK_USE_COPY_READ | EXO_VK_USE_COPY_WRITE,
                   EXO_VK_USE_ANY | EXO_VK_USE_HOST_READ);
    exo_status st = exo_vk_command_end(&t->pool, s->commands, err);
    if (st == EXO_OK) st = exo_vk_queue_submit(&t->d->queue, &s->commands, 1, &s->busy, err);
    return st;
}

/* Waits unless the caller wants to know when. */
static exo_status settle(exo_vk_transfer *t, exo_vk_fence *done, exo_error *err) {
    exo_vk_fence last = {t->d->queue.submitted};
    if (done == NULL) return exo_vk_fence_wait(&t->d->queue, last, EXO_VK_DEADLINE_MS, err);
    *done = last;
    return EXO_OK;
}

static void record_copy(exo_vk_transfer *t, const staging_slot *s, const exo_vk_allocation *src,
                        uint64_t src_offset, const exo_vk_allocation *dst, uint64_t dst_offset,
                        size_t bytes) {
    VkBufferCopy region = {src->offset + src_offset, dst->offset + dst_offset, bytes};
    t->d->fn.CmdCopyBuffer(s->commands, src->buffer, dst->buffer, 1, &region);
}

static exo_status take_staging(exo_vk_transfer *t, exo_error *err) {
    for (uint32_t i = 0; i < EXO_VK_STAGING_SLOTS; i++) {
        if (t->slots[i].memory != NULL) continue;
        exo_status st = exo_vk_memory_allocate(&t->d->memory, EXO_VK_MEMORY_READBACK, t->slot_bytes,
                                               &t->slots[i].memory, err);
        if (st != EXO_OK) return exo_error_wrap(err, st, "staging");
    }
    return EXO_OK;
}

static size_t at_most(size_t bytes, size_t limit) { return bytes < limit ? bytes : limit; }

/* ---- host to device ---- */

static exo_status upload_staged(exo_vk_transfer *t, const exo_vk_allocation *dst, uint64_t offset,
                                const uint8_t *src, size_t bytes, exo_error *err) {
    exo_status st = take_staging(t, err);
    for (size_t at = 0; at < bytes && st == EXO_OK;) {
        size_t n = at_most(bytes - at, t->slot_bytes);
        staging_slot *s;
        st = begin(t, &s, err);
        if (st != EXO_OK) break;
        memcpy(s->memory->mapped, src + at, n);
        st = exo_vk_memory_flush(&t->d->memory, s->memory, 0, n, err);
        record_copy(t, s, s->memory, 0, dst, offset + at, n);
        if (st == EXO_OK) st = submit(t, s, err);
        at += n;
    }
    return st;
}

exo_status exo_vk_copy_to_device(exo_vk_transfer *t, exo_vk_allocation *dst, uint64_t offset,
                                 const void *src, size_t bytes, exo_vk_fence *done,
                                 exo_error *err) {
    if (done != NULL) done->value = 0;
    exo_status st = check_writable(dst, offset, bytes, err);
    if (st != EXO_OK || bytes == 0) return st;
    if (dst->mapped == NULL) {
        st = upload_staged(t, dst, offset, src, bytes, err);
        return st == EXO_OK ? settle(t, done, err) : st;
    }
    st = exo_vk_synchronize(t, err);
    if (st != EXO_OK) return st;
    memcpy(dst->mapped + offset, src, bytes);
    return exo_vk_memory_flush(&t->d->memory, dst, offset, bytes, err);
}

/* ---- device to host ---- */

typedef struct {
    staging_slot *slot;
    size_t at, bytes;
} download;

/* Takes what a slot has received out to the host. */
static exo_status land(exo_vk_transfer *t, const download *l, uint8_t *dst, exo_error *err) {
    exo_status st = exo_vk_fence_wait(&t->d->queue, l->slot->busy, EXO_VK_DEADLINE_MS, err);
    if (st == EXO_OK) {
        st = exo_vk_memory_invalidate(&t->d->memory, l->slot->memory, 0, l->bytes, err);
    }
    if (st == EXO_OK) memcpy(dst + l->at, l->slot->memory->mapped, l->bytes);
    return st;
}

static exo_status download_staged(exo_vk_transfer *t, uint8_t *dst, const exo_vk_allocation *src,
                                  uint64_t offset, size_t bytes, exo_error *err) {
    download flying[EXO_VK_STAGING_SLOTS];
    size_t n_begun = 0, n_landed = 0;
    exo_status st = take_staging(t, err);
    for (size_t at = 0; at < bytes && st == EXO_OK;) {
        if (n_begun - n_landed == EXO_VK_STAGING_SLOTS) {
            st = land(t, &flying[n_landed++ % EXO_VK_STAGING_SLOTS], dst, err);
            if (st != EXO_OK) break;
        }
        download *f = &flying[n_begun++ % EXO_VK_STAGING_SLOTS];
        f->at = at;
        f->bytes = at_most(bytes - at, t->slot_bytes);
        st = begin(t, &f->slot, err);
        if (st != EXO_OK) break;
        record_copy(t, f->slot, src, offset + at, f->slot->memory, 0, f->bytes);
        st = submit(t, f->slot, err);
        at += f->bytes;
    }
    while (n_landed < n_begun && st == EXO_OK) {
        st = land(t, &flying[n_landed++ % EXO_VK_STAGING_SLOTS], dst, err);
    }
    return st;
}

/* Memory seen through a PCIe window is not cached by the host: reading it byte by byte takes a
 * hundred times as long as having it copied out. */
static bool reads_well(const exo_vk_allocation *a) {
    return a->mapped != NULL && (a->properties & VK_MEMORY_PROPERTY_HOST_CACHED_BIT) != 0;
}

exo_status exo_vk_copy_from_device(exo_vk_transfer *t, void *dst, const exo_vk_allocation *src,
                                   uint64_t offset, size_t bytes, exo_error *err) {
    exo_status st = check_range(src, offset, bytes, err);
    if (st != EXO_OK || bytes == 0) return st;
    if (!reads_well(src)) return download_staged(t, dst, src, offset, bytes, err);
    st = exo_vk_synchronize(t, err);
    if (st == EXO_OK) st = exo_vk_memory_invalidate(&t->d->memory, src, offset, bytes, err);
    if (st == EXO_OK) memcpy(dst, src->mapped + offset, bytes);
    return st;
}

/* ---- device to device ---- */

/* Piece by piece through the slots, in the direction that reads each byte before it is
 * overwritten. */
static exo_status copy_overlapping(exo_vk_transfer *t, const exo_vk_allocation *dst,
                                   uint64_t dst_offset, const exo_vk_allocation *src,
                                   uint64_t src_offset, size_t bytes, exo_error *err) {
    exo_status st = take_staging(t, err);
    bool upwards = dst_offset < src_offset;
    for (size_t done = 0; done < bytes && st == EXO_OK;) {
        size_t n = at_most(bytes - done, t->slot_bytes);
        size_t at = upwards ? done : bytes - done - n;
        staging_slot *s;
        st = begin(t, &s, err);
        if (st != EXO_OK) break;
        record_copy(t, s, src, src_offset + at, s->memory, 0, n);
        exo_vk_barrier(t->d, s->commands, EXO_VK_USE_COPY_READ | EXO_VK_USE_COPY_WRITE,
                       EXO_VK_USE_COPY_READ | EXO_VK_USE_COPY_WRITE);
        record_copy(t, s, s->memory, 0, dst, dst_offset + at, n);
        st = submit(t, s, err);
        done += n;
    }
    return st;
}

exo_status exo_vk_copy_device_to_device(exo_vk_transfer *t, exo_vk_allocation *dst,
                                        uint64_t dst_offset, const exo_vk_allocation *src,
                                        uint64_t src_offset, size_t bytes, exo_vk_fence *done,
                                        exo_error *err) {
    if (done != NULL) done->value = 0;
    exo_status st = check_range(src, src_offset, bytes, err);
    if (st == EXO_OK) st = check_writable(dst, dst_offset, bytes, err);
    if (st != EXO_OK || bytes == 0) return st;
    bool overlapping =
        dst == src && dst_offset < src_offset + bytes && src_offset < dst_offset + bytes;
    if (overlapping) {
        if (dst_offset == src_offset) return EXO_OK;
        st = copy_overlapping(t, dst, dst_offset, src, src_offset, bytes, err);
        return st == EXO_OK ? settle(t, done, err) : st;
    }
    staging_slot *s;
    st = begin(t, &s, err);
    if (st != EXO_OK) return st;
    record_copy(t, s, src, src_offset, dst, dst_offset, bytes);
    st = submit(t, s, err);
    return st == EXO_OK ? settle(t, done, err) : st;
}

/* ---- clearing ---- */

exo_status exo_vk_clear(exo_vk_transfer *t, exo_vk_allocation *dst, uint64_t offset, size_t bytes,
                        exo_vk_fence *done, exo_error *err) {
    static const uint8_t zeros[3];
    if (done != NULL) done->value = 0;
    exo_status st = check_writable(dst, offset, bytes, err);
    if (st != EXO_OK || bytes == 0) return st;
    if (dst->mapped != NULL) {
        st = exo_vk_synchronize(t, err);
        if (st != EXO_OK) return st;
        memset(dst->mapped + offset, 0, bytes);
        return exo_vk_memory_flush(&t->d->memory, dst, offset, bytes, err);
    }
    /* vkCmdFillBuffer knows whole words only */
    size_t head = at_most((4 - offset % 4) % 4, bytes), tail = (bytes - head) % 4;
    size_t words = bytes - head - tail;
    if (head > 0) st = upload_staged(t, dst, offset, zeros, head, err);
    if (st == EXO_OK && tail > 0) {
        st = upload_staged(t, dst, offset + bytes - tail, zeros, tail, err);
    }
    if (st == EXO_OK && words > 0) {
        staging_slot *s;
        st = begin(t, &s, err);
        if (st != EXO_OK) return st;
        t->d->fn.CmdFillBuffer(s->commands, dst->buffer, dst->offset + offset + head, words, 0);
        st = submit(t, s, err);
    }
    return st == EXO_OK ? settle(t, done, err) : st;
}

/* ---- the host's view ---- */

exo_status exo_vk_synchronize(exo_vk_transfer *t, exo_error *err) {
    exo_vk_queue *q = &t->d->queue;
    if (q->submitted == t->host_sees) return exo_vk_fence_wait(q, (exo_vk_fence){0}, 0, err);
    exo_status st = exo_vk_fence_wait(q, t->to_host_busy, EXO_VK_DEADLINE_MS, err);
    if (st == EXO_OK) st = exo_vk_queue_submit(q, &t->to_host, 1, &t->to_host_busy, err);
    if (st == EXO_OK) st = exo_vk_fence_wait(q, t->to_host_busy, EXO_VK_DEADLINE_MS, err);
    if (st == EXO_OK) t->host_sees = t->to_host_busy.value;
    return st;
}

/* ---- life ---- */

static exo_status record_to_host(exo_vk_transfer *t, exo_error *err) {
    exo_status st = exo_vk_command_allocate(&t->pool, &t->to_host, err);
    if (st == EXO_OK) st = exo_vk_command_begin(&t->pool, t->to_host, false, err);
    if (st != EXO_OK) return st;
    exo_vk_barrier(t->d, t->to_host, EXO_VK_USE_ANY, EXO_VK_USE_HOST_READ | EXO_VK_USE_HOST_WRITE);
    return exo_vk_command_end(&t->pool, t->to_host, err);
}

exo_status exo_vk_transfer_create(exo_vk_device *d, exo_vk_transfer **out, exo_error *err) {
    *out = NULL;
    exo_vk_transfer *t = exo_calloc(1, sizeof *t);
    if (t == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for transfers");
    t->d = d;
    t->slot_bytes = EXO_VK_STAGING_SLOT_BYTES / (d->caps.mobile ? 4 : 1);
    exo_status st = exo_vk_command_pool_init(d, &t->pool, err);
    for (uint32_t i = 0; i < EXO_VK_STAGING_SLOTS && st == EXO_OK; i++) {
        st = exo_vk_command_allocate(&t->pool, &t->slots[i].commands, err);
    }
    if (st == EXO_OK) st = record_to_host(t, err);
    if (st != EXO_OK) {
        exo_vk_transfer_destroy(t);
        return st;
    }
    *out = t;
    return EXO_OK;
}

void exo_vk_transfer_destroy(exo_vk_transfer *t) {
    if (t == NULL) return;
    for (uint32_t i = 0; i < EXO_VK_STAGING_SLOTS; i++) {
        exo_vk_memory_deallocate(&t->d->memory, t->slots[i].memory);
    }
    exo_vk_command_pool_finish(&t->pool);
    exo_free(t);
}
