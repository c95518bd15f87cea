/* arena.c - blocks of doubling size in a list; nothing is freed before finish or clear. */
#include "base/arena.h"

#include "base/mem.h"

#include <stdint.h>
#include <string.h>

#define ARENA_FIRST_BYTES     4096
#define ARENA_MAX_BLOCK_BYTES (1u << 20)
#define ARENA_ALIGN           16u

struct exo_arena_block {
    exo_arena_block *next;
    size_t cap, used;
    _Alignas(16) unsigned char data[];
};

void exo_arena_finish(exo_arena *a) {
    for (exo_arena_block *b = a->head, *next; b != NULL; b = next) {
        next = b->next;
        exo_free(b);
    }
    size_t limit = a->limit_bytes;
    *a = (exo_arena){.limit_bytes = limit};
}

void exo_arena_clear(exo_arena *a) {
    exo_arena_block *kept = a->head;
    size_t limit = a->limit_bytes;
    if (kept == NULL) return;
    a->head = kept->next;
    exo_arena_finish(a);
    kept->next = NULL;
    kept->used = 0;
    *a = (exo_arena){.head = kept, .limit_bytes = limit};
}

static exo_arena_block *add_block(exo_arena *a, size_t n) {
    size_t cap = a->head == NULL ? ARENA_FIRST_BYTES : a->head->cap * 2;
    if (cap > ARENA_MAX_BLOCK_BYTES) cap = ARENA_MAX_BLOCK_BYTES;
    if (cap < n) cap = n;
    exo_arena_block *b = exo_malloc(sizeof *b + cap);
    if (b == NULL) return NULL;
    b->next = a->head;
    b->cap = cap;
    b->used = 0;
    a->head = b;
    return b;
}

void *exo_arena_alloc(exo_arena *a, size_t n) {
    if (n > SIZE_MAX / 2) goto fail;
    n = (n + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    if (a->limit_bytes != 0 && n > a->limit_bytes - a->used_bytes) goto fail;
    exo_arena_block *b = a->head;
    if (b == NULL || b->cap - b->used < n) b = add_block(a, n);
    if (b == NULL) goto fail;
    void *p = b->data + b->used;
    b->used += n;
    a->used_bytes += n;
    return p;
fail:
    a->failed = true;
    return NULL;
}

void *exo_arena_zalloc(exo_arena *a, size_t count, size_t size) {
    if (size != 0 && count > SIZE_MAX / size) {
        a->failed = true;
        return NULL;
    }
    void *p = exo_arena_alloc(a, count * size);
    if (p != NULL) memset(p, 0, count * size);
    return p;
}

char *exo_arena_strndup(exo_arena *a, const char *s, size_t n) {
    char *copy = n == SIZE_MAX ? NULL : exo_arena_alloc(a, n + 1);
    if (copy == NULL) return NULL;
    if (n > 0) memcpy(copy, s, n);
    copy[n] = '\0';
    return copy;
}
