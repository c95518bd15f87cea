/* plan_profile.c - see plan_profile.h. */
#include "compute/vulkan/plan_profile.h"

#include "base/log.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#define MAX_QUERIES 32768u
#define IN_COMMANDS 1024u /* timestamps of one command buffer */
#define MAX_BUFFERS (MAX_QUERIES / IN_COMMANDS)
#define MAX_KINDS   128u

/* Dispatches that are alike: one line of the profile. */
typedef struct {
    exo_vk_kernel kernel;
    uint32_t rows, groups; /* of the bucket; workgroups in x, 0 = the step says */
    uint64_t calls;
    double ns;
} kind;

typedef struct {
    VkCommandBuffer commands;
    uint32_t n;                    /* dispatches with a timestamp */
    uint16_t kind_of[IN_COMMANDS]; /* index into kinds */
} buffer;

struct exo_vk_profile {
    exo_vk_device *d;
    VkQueryPool pool;
    uint32_t n_buffers, n_kinds;
    buffer buffers[MAX_BUFFERS];
    kind kinds[MAX_KINDS];
    uint64_t ticks[IN_COMMANDS];
};

exo_status exo_vk_profile_create(exo_vk_device *d, exo_vk_profile **out, exo_error *err) {
    const char *wanted = getenv("EXO_VULKAN_PROFILE");
    *out = NULL;
    if (wanted == NULL || strcmp(wanted, "1") != 0 || d->caps.timestamp_ns <= 0) return EXO_OK;
    exo_vk_profile *pf = exo_calloc(1, sizeof *pf);
    if (pf == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for a profile");
    pf->d = d;
    VkQueryPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
                                  .queryType = VK_QUERY_TYPE_TIMESTAMP,
                                  .queryCount = MAX_QUERIES};
    VkResult r = EXO_VK_CALL(d->fn.CreateQueryPool(d->handle, &info, NULL, &pf->pool));
    if (r != VK_SUCCESS) {
        exo_free(pf);
        return exo_vk_device_fail(d, r, "vkCreateQueryPool", err);
    }
    *out = pf;
    return EXO_OK;
}

static int by_time(const void *a, const void *b) {
    double x = ((const kind *)a)->ns, y = ((const kind *)b)->ns;
    return (x < y) - (x > y);
}

void exo_vk_profile_destroy(exo_vk_profile *pf) {
    if (pf == NULL) return;
    qsort(pf->kinds, pf->n_kinds, sizeof *pf->kinds, by_time);
    for (uint32_t i = 0; i < pf->n_kinds; i++) {
        const kind *k = &pf->kinds[i];
        if (k->calls == 0) continue;
        exo_info("vulkan:%u: profile: %-18s %4u rows, %6u groups: %7llu calls, %8.1f us each, "
                 "%9.2f ms in all",
                 pf->d->index, exo_vk_kernel_name(k->kernel), k->rows, k->groups,
                 (unsigned long long)k->calls, k->ns / 1e3 / (double)k->calls, k->ns / 1e6);
    }
    if (!atomic_load(&pf->d->hung)) {
        pf->d->fn.DestroyQueryPool(pf->d->handle, pf->pool, NULL);
    }
    exo_free(pf);
}

static buffer *find_buffer(exo_vk_profile *pf, VkCommandBuffer c) {
    for (uint32_t i = 0; i < pf->n_buffers; i++) {
        if (pf->buffers[i].commands == c) return &pf->buffers[i];
    }
    return NULL;
}

static uint32_t first_query(const exo_vk_profile *pf, const buffer *b) {
    return (uint32_t)(b - pf->buffers) * IN_COMMANDS;
}

static void stamp(exo_vk_profile *pf, const buffer *b, uint32_t i) {
    pf->d->fn.CmdWriteTimestamp(b->commands, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, pf->pool,
                                first_query(pf, b) + i);
}

void exo_vk_profile_begin(exo_vk_profile *pf, VkCommandBuffer c) {
    if (pf == NULL || pf->n_buffers == MAX_BUFFERS) return;
    buffer *b = &pf->buffers[pf->n_buffers++];
    b->commands = c;
    pf->d->fn.CmdResetQueryPool(c, pf->pool, first_query(pf, b), IN_COMMANDS);
    stamp(pf, b, 0);
}

static uint32_t find_kind(exo_vk_profile *pf, const exo_vk_dispatch *d, uint32_t rows) {
    uint32_t groups = d->grid == EXO_VK_NO_GRID ? d->groups[0] : 0, i = 0;
    while (i < pf->n_kinds && (pf->kinds[i].kernel != d->kernel || pf->kinds[i].rows != rows ||
                               pf->kinds[i].groups != groups)) {
        i++;
    }
    if (i == MAX_KINDS) return MAX_KINDS - 1; /* the last line takes what has none of its own */
    if (i == pf->n_kinds) {
        pf->kinds[pf->n_kinds++] = (kind){.kernel = d->kernel, .rows = rows, .groups = groups};
    }
    return i;
}

void exo_vk_profile_dispatch(exo_vk_profile *pf, VkCommandBuffer c, const exo_vk_dispatch *d,
                             uint32_t rows) {
    buffer *b = pf != NULL ? find_buffer(pf, c) : NULL;
    if (b == NULL || b->n + 1 == IN_COMMANDS) return;
    b->kind_of[b->n++] = (uint16_t)find_kind(pf, d, rows);
    stamp(pf, b, b->n);
}

void exo_vk_profile_collect(exo_vk_profile *pf, const VkCommandBuffer *commands, uint32_t n) {
    for (uint32_t i = 0; pf != NULL && i < n; i++) {
        buffer *b = find_buffer(pf, commands[i]);
        if (b == NULL) continue;
        VkResult r = pf->d->fn.GetQueryPoolResults(pf->d->handle, pf->pool, first_query(pf, b),
                                                   b->n + 1, sizeof pf->ticks, pf->ticks,
                                                   sizeof *pf->ticks, VK_QUERY_RESULT_64_BIT);
        for (uint32_t k = 0; r == VK_SUCCESS && k < b->n; k++) {
            kind *of = &pf->kinds[b->kind_of[k]];
            of->calls++;
            of->ns += (double)(pf->ticks[k + 1] - pf->ticks[k]) * pf->d->caps.timestamp_ns;
        }
    }
}
