/* pages.c - reference counts, the hash of known pages and the list of cached ones.
 *
 * Knows nothing of sequences.  A known page names its predecessor by serial, not by page id:
 * ids are reused, serials never, so a match is exact by induction (same predecessor, same 32
 * tokens) and a hash collision costs one comparison.  A page whose predecessor was dropped can
 * not be found again and leaves by age. */
#include "engine/pages.h"

#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"

#include <inttypes.h>
#include <string.h>

typedef struct {
    uint32_t n_holders;
    uint32_t next_in_bucket; /* of known pages */
    uint32_t older, newer;   /* among cached pages; free: newer = next free */
    exo_prefix prefix;       /* up to this page's end; serial 0 = not known */
    uint64_t previous;       /* serial of the prefix before it */
    uint32_t n_prompt;
    int32_t tokens[EXO_KV_PAGE_TOKENS];
} page_state;

struct exo_pages {
    page_state *pages; /* (n_pages) */
    uint32_t n_pages, n_free, n_cached;
    uint32_t first_free;     /* linked by newer */
    uint32_t oldest, newest; /* cached pages by time of release */
    uint32_t *buckets;       /* (n_buckets), a power of two */
    uint32_t n_buckets;
    uint64_t last_serial;
};

exo_status exo_pages_create(uint32_t n_pages, exo_pages **out, exo_error *err) {
    *out = NULL;
    if (n_pages == 0 || n_pages > UINT32_MAX / 4)
        return exo_error_set(err, EXO_EINVAL, "a pool of %" PRIu32 " pages", n_pages);
    exo_pages *p = exo_calloc(1, sizeof *p);
    if (p == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for the page pool");
    p->n_pages = p->n_free = n_pages;
    p->n_buckets = 1;
    while (p->n_buckets < n_pages) p->n_buckets *= 2;
    p->pages = exo_calloc(n_pages, sizeof *p->pages);
    p->buckets = exo_malloc(p->n_buckets * sizeof *p->buckets);
    if (p->pages == NULL || p->buckets == NULL) {
        exo_pages_destroy(p);
        return exo_error_set(err, EXO_ENOMEM, "no memory for %" PRIu32 " pages", n_pages);
    }
    exo_pages_reset(p);
    *out = p;
    return EXO_OK;
}

void exo_pages_reset(exo_pages *p) {
    memset(p->pages, 0, p->n_pages * sizeof *p->pages);
    for (uint32_t i = 0; i < p->n_buckets; i++) p->buckets[i] = EXO_NO_PAGE;
    for (uint32_t i = 0; i < p->n_pages; i++)
        p->pages[i].newer = i + 1 < p->n_pages ? i + 1 : EXO_NO_PAGE;
    p->n_free = p->n_pages;
    p->n_cached = 0;
    p->first_free = 0;
    p->oldest = p->newest = EXO_NO_PAGE;
}

void exo_pages_destroy(exo_pages *p) {
    if (p == NULL) return;
    exo_free(p->pages);
    exo_free(p->buckets);
    exo_free(p);
}

/* ---- known pages ---- */

static uint32_t *bucket_of(const exo_pages *p, uint64_t hash) {
    return &p->buckets[hash & (p->n_buckets - 1)];
}

static uint64_t hash_after(exo_prefix prefix, exo_page_content c) {
    return exo_hash64(c.tokens, EXO_KV_PAGE_TOKENS * sizeof *c.tokens, prefix.hash + c.n_prompt);
}

static uint32_t find_known(const exo_pages *p, exo_prefix prefix, uint64_t hash,
                           exo_page_content c) {
    uint32_t i = *bucket_of(p, hash);
    for (; i != EXO_NO_PAGE; i = p->pages[i].next_in_bucket) {
        const page_state *s = &p->pages[i];
        if (s->prefix.hash == hash && s->previous == prefix.serial && s->n_prompt == c.n_prompt &&
            memcmp(s->tokens, c.tokens, sizeof s->tokens) == 0)
            break;
    }
    return i;
}

static void forget(exo_pages *p, uint32_t page) {
    uint32_t *link = bucket_of(p, p->pages[page].prefix.hash);
    while (*link != page) link = &p->pages[*link].next_in_bucket;
    *link = p->pages[page].next_in_bucket;
    p->pages[page].prefix = (exo_prefix){0};
}

uint32_t exo_pages_find(const exo_pages *p, exo_prefix *prefix, exo_page_content content) {
    uint32_t page = find_known(p, *prefix, hash_after(*prefix, content), content);
    if (page != EXO_NO_PAGE) *prefix = p->pages[page].prefix;
    return page;
}

void exo_pages_publish(exo_pages *p, uint32_t page, exo_prefix *prefix, exo_page_content content) {
    uint64_t hash = hash_after(*prefix, content);
    uint32_t known = find_known(p, *prefix, hash, content);
    if (known == EXO_NO_PAGE) {
        page_state *s = &p->pages[page];
        EXO_ASSERT(s->n_holders > 0 && s->prefix.serial == 0);
        s->prefix = (exo_prefix){.serial = ++p->last_serial, .hash = hash};
        s->previous = prefix->serial;
        s->n_prompt = content.n_prompt;
        memcpy(s->tokens, content.tokens, sizeof s->tokens);
        s->next_in_bucket = *bucket_of(p, hash);
        *bucket_of(p, hash) = page;
        known = page;
    }
    *prefix = p->pages[known].prefix;
}

/* ---- cached pages, by age ---- */

static void cache_add(exo_pages *p, uint32_t page) {
    page_state *s = &p->pages[page];
    s->older = p->newest;
    s->newer = EXO_NO_PAGE;
    if (p->newest != EXO_NO_PAGE)
        p->pages[p->newest].newer = page;
    else
        p->oldest = page;
    p->newest = page;
    p->n_cached++;
}

static void cache_remove(exo_pages *p, uint32_t page) {
    const page_state *s = &p->pages[page];
    if (s->older != EXO_NO_PAGE)
        p->pages[s->older].newer = s->newer;
    else
        p->oldest = s->newer;
    if (s->newer != EXO_NO_PAGE)
        p->pages[s->newer].older = s->older;
    else
        p->newest = s->older;
    p->n_cached--;
}

/* ---- holding ---- */

uint32_t exo_pages_take(exo_pages *p) {
    uint32_t page = p->first_free;
    if (page != EXO_NO_PAGE) {
        p->first_free = p->pages[page].newer;
        p->n_free--;
    } else {
        page = p->oldest;
        if (page == EXO_NO_PAGE) return EXO_NO_PAGE;
        cache_remove(p, page);
        forget(p, page);
    }
    p->pages[page].n_holders = 1;
    return page;
}

void exo_pages_hold(exo_pages *p, uint32_t page) {
    if (p->pages[page].n_holders++ == 0) cache_remove(p, page);
}

void exo_pages_release(exo_pages *p, uint32_t page) {
    page_state *s = &p->pages[page];
    EXO_ASSERT(s->n_holders > 0);
    if (--s->n_holders > 0) return;
    if (s->prefix.serial != 0) {
        cache_add(p, page);
        return;
    }
    s->newer = p->first_free;
    p->first_free = page;
    p->n_free++;
}

bool exo_pages_is_held(const exo_pages *p, uint32_t page) { return p->pages[page].n_holders > 0; }

exo_pages_counts exo_pages_count(const exo_pages *p) {
    return (exo_pages_counts){
        .n_held = p->n_pages - p->n_free - p->n_cached,
        .n_cached = p->n_cached,
        .n_free = p->n_free,
    };
}
