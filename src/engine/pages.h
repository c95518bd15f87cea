/* pages.h - the page pool of one instance: who holds a page, and which whole pages are known.
 *
 * A page is held by any number of sequences, cached (nobody holds it, but its tokens are known
 * and it may be found again) or free.  The content of a whole page is a function of all tokens
 * and their classes up to its end, so a page is known by the page before it and its own 32 tokens.
 * Page ids only: the memory behind them is each stage's.  Allocates nothing after creation. Thread:
 * COMPUTE. */
#ifndef EXO_ENGINE_PAGES_H
#define EXO_ENGINE_PAGES_H

#include "compute/backend.h"

#define EXO_NO_PAGE UINT32_MAX

typedef struct exo_pages exo_pages;

/* A run of whole pages from position 0.  All-zero is the empty run.  The serial is unique to the
 * run's content as long as the pool lives; the hash only finds it. */
typedef struct {
    uint64_t serial, hash;
} exo_prefix;

exo_status exo_pages_create(uint32_t n_pages, exo_pages **out, exo_error *err);
void exo_pages_destroy(exo_pages *p);

/* A page to write to, held once; the least recently used cached page when none is free.
 * EXO_NO_PAGE when all are held. */
uint32_t exo_pages_take(exo_pages *p);
void exo_pages_hold(exo_pages *p, uint32_t page); /* once more */
/* Held by nobody any more, a known page is cached and any other is free. */
void exo_pages_release(exo_pages *p, uint32_t page);
bool exo_pages_is_held(const exo_pages *p, uint32_t page);

/* What stands in a whole page.  Where rows of prompts are computed by other kernels, keys and
 * values depend on the class of each position; a page's first n_prompt positions are the prompt's.
 * Callers leave it 0 where classes make no difference. */
typedef struct {
    const int32_t *tokens; /* (EXO_KV_PAGE_TOKENS) */
    uint32_t n_prompt;
} exo_page_content;

/* The known page that continues *prefix with this content, not held for the caller; *prefix then
 * includes it.  EXO_NO_PAGE: unknown, *prefix is unchanged. */
uint32_t exo_pages_find(const exo_pages *p, exo_prefix *prefix, exo_page_content content);
/* Makes a held, whole page known, unless one of the same content is; *prefix then includes it. */
void exo_pages_publish(exo_pages *p, uint32_t page, exo_prefix *prefix, exo_page_content content);

/* The content of all pages is lost: none is held or known any more. */
void exo_pages_reset(exo_pages *p);

typedef struct {
    uint32_t n_held, n_cached, n_free;
} exo_pages_counts;
exo_pages_counts exo_pages_count(const exo_pages *p);

#endif
