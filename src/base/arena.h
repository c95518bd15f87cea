/* arena.h - bump allocation with one lifetime: a request, a frame, a parsed file.
 *
 * A failed allocation is remembered, so that a parser may allocate freely and check once with
 * exo_arena_ok().  Memory is 16-byte aligned.  Thread: one at a time. */
#ifndef EXO_BASE_ARENA_H
#define EXO_BASE_ARENA_H

#include <stdbool.h>
#include <stddef.h>

typedef struct exo_arena_block exo_arena_block;

typedef struct {
    exo_arena_block *head; /* newest block first */
    size_t used_bytes;     /* in all blocks */
    size_t limit_bytes;    /* 0 = none; beyond it allocations fail */
    bool failed;
} exo_arena;

/* All-zero memory is a valid empty arena; finish leaves it so. */
void exo_arena_finish(exo_arena *a);
/* Empty again, with the newest block kept for what comes next. */
void exo_arena_clear(exo_arena *a);

void *exo_arena_alloc(exo_arena *a, size_t n); /* uninitialised; NULL on failure */
void *exo_arena_zalloc(exo_arena *a, size_t count, size_t size); /* zeroed, overflow-checked */
char *exo_arena_strndup(exo_arena *a, const char *s, size_t n);
static inline bool exo_arena_ok(const exo_arena *a) { return !a->failed; }

#endif
