/* mem.h - every heap allocation of exo goes through here.
 *
 * One door makes two tests possible: the token loop allocates nothing (count), and every
 * allocation may fail without a crash or a leak (inject).  Both hooks exist in test builds only
 * (EXO_TEST_HOOKS).  Failure returns NULL; the caller reports EXO_ENOMEM.
 * Thread: ANY. */
#ifndef EXO_BASE_MEM_H
#define EXO_BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

void *exo_malloc(size_t n);
void *exo_calloc(size_t count, size_t size); /* NULL when count * size overflows */
void *exo_realloc(void *p, size_t n);
void exo_free(void *p); /* NULL is allowed */
char *exo_strdup(const char *s);
char *exo_strndup(const char *s, size_t n); /* copies n bytes and adds a NUL */

/* Grows *items (element size `size`) so that at least `need` fit; *cap is in elements.
 * Returns 0, or -1 with *items unchanged. */
int exo_grow(void **items, size_t *cap, size_t need, size_t size);

/* Page-aligned, zeroed, lazily touched memory straight from the OS, for weights and KV pages. */
void *exo_pages_alloc(size_t bytes);
void exo_pages_free(void *p, size_t bytes); /* NULL is allowed */
/* Asks for huge pages where the block is large enough to gain; says so once when refused. */
void exo_pages_prefer_huge(void *p, size_t bytes);

/* After something large was freed: gives what the heap keeps in store back to the OS. */
void exo_mem_trim(void);

#ifdef EXO_TEST_HOOKS
/* Allocations since the process began. */
uint64_t exo_mem_count(void);
/* Makes the k-th allocation from now (1 = the next) fail, once; 0 switches off.  Per process. */
void exo_mem_fail_at(uint64_t k);
/* True when the armed failure has happened. */
int exo_mem_failed(void);
#endif

#endif
