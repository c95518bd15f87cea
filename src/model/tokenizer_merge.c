/* tokenizer_merge.c - merges neighbouring symbols of one word, the best pair first.
 *
 * Owns the order: lowest key first, leftmost among equals, as SentencePiece and byte-level BPE
 * both define it.  Knows no vocabulary; which pairs merge is asked of a function.
 * A heap holds every pair that may merge.  Pairs that a merge makes obsolete stay in it and are
 * recognised when they come up, so a word of n bytes costs n log n, whatever it holds. */
#include "model/tokenizer_impl.h"

#include "base/mem.h"

void exo_merger_finish(exo_merger *m) {
    exo_free(m->symbols);
    exo_free(m->heap);
    *m = (exo_merger){0};
}

bool exo_merger_add(exo_merger *m, uint32_t n_bytes, int32_t id) {
    size_t i = m->n_symbols;
    if (exo_grow((void **)&m->symbols, &m->symbols_cap, i + 1, sizeof *m->symbols) != 0)
        return false;
    exo_symbol *s = &m->symbols[i];
    *s = (exo_symbol){.n = n_bytes, .id = id, .prev = EXO_NO_SYMBOL, .next = EXO_NO_SYMBOL};
    if (i > 0) {
        s->start = s[-1].start + s[-1].n;
        s->prev = (uint32_t)(i - 1);
        s[-1].next = (uint32_t)i;
    }
    m->n_symbols++;
    return true;
}

static bool push(exo_merger *m, exo_merge merge) {
    if (exo_grow((void **)&m->heap, &m->heap_cap, m->n_heap + 1, sizeof *m->heap) != 0)
        return false;
    size_t i = m->n_heap++;
    for (; i > 0 && m->heap[(i - 1) / 2].key > merge.key; i = (i - 1) / 2)
        m->heap[i] = m->heap[(i - 1) / 2];
    m->heap[i] = merge;
    return true;
}

static exo_merge pop(exo_merger *m) {
    exo_merge top = m->heap[0], last = m->heap[--m->n_heap];
    size_t i = 0, child;
    while ((child = 2 * i + 1) < m->n_heap) {
        if (child + 1 < m->n_heap && m->heap[child + 1].key < m->heap[child].key) child++;
        if (m->heap[child].key >= last.key) break;
        m->heap[i] = m->heap[child];
        i = child;
    }
    m->heap[i] = last;
    return top;
}

static bool consider(exo_merger *m, uint32_t left, uint32_t right, exo_merge_fn fn,
                     const void *ctx) {
    uint32_t order;
    exo_merge merge = {.right = right};
    if (left == EXO_NO_SYMBOL || right == EXO_NO_SYMBOL) return true;
    const exo_symbol *l = &m->symbols[left], *r = &m->symbols[right];
    if (!fn(ctx, l, r, &order, &merge.id)) return true;
    merge.key = (uint64_t)order << 32 | left;
    merge.n = l->n + r->n;
    return push(m, merge);
}

bool exo_merger_run(exo_merger *m, exo_merge_fn fn, const void *ctx) {
    m->n_heap = 0;
    for (uint32_t i = 1; i < m->n_symbols; i++) {
        if (!consider(m, i - 1, i, fn, ctx)) return false;
    }
    while (m->n_heap > 0) {
        exo_merge merge = pop(m);
        uint32_t left = (uint32_t)merge.key;
        exo_symbol *l = &m->symbols[left], *r = &m->symbols[merge.right];
        /* Starts never move, so equal lengths mean that neither has changed. */
        if (l->n == 0 || r->n == 0 || l->n + r->n != merge.n) continue;
        l->n = merge.n;
        l->id = merge.id;
        l->next = r->next;
        r->n = 0;
        if (l->next != EXO_NO_SYMBOL) m->symbols[l->next].prev = left;
        if (!consider(m, l->prev, left, fn, ctx) || !consider(m, left, l->next, fn, ctx))
            return false;
    }
    return true;
}
