/* raft_log.c - entries in an array behind a snapshot; see raft_log.h. */
#include "cluster/raft_log.h"

#include "base/mem.h"

#include <string.h>

static uint8_t *copy_bytes(const uint8_t *bytes, uint32_t n) {
    uint8_t *copy = exo_malloc(n > 0 ? n : 1);
    if (copy != NULL && n > 0) memcpy(copy, bytes, n);
    return copy;
}

static void free_bytes(const uint8_t *bytes) { exo_free((void *)bytes); }

void exo_raft_log_finish(exo_raft_log *l) {
    for (size_t i = 0; i < l->n; i++) free_bytes(l->items[i].bytes);
    exo_free(l->items);
    free_bytes(l->snapshot.config);
    free_bytes(l->snapshot.image);
    memset(l, 0, sizeof *l);
}

const exo_raft_entry *exo_raft_log_at(const exo_raft_log *l, uint64_t index) {
    if (index <= l->snapshot.index || index > exo_raft_log_last(l)) return NULL;
    return &l->items[index - l->snapshot.index - 1];
}

uint64_t exo_raft_log_term(const exo_raft_log *l, uint64_t index) {
    if (index == l->snapshot.index) return l->snapshot.term;
    const exo_raft_entry *e = exo_raft_log_at(l, index);
    return e != NULL ? e->term : 0;
}

bool exo_raft_log_append(exo_raft_log *l, const exo_raft_entry *e) {
    if (exo_grow((void **)&l->items, &l->cap, l->n + 1, sizeof *l->items) != 0) return false;
    exo_raft_entry *copy = &l->items[l->n];
    *copy = *e;
    copy->bytes = copy_bytes(e->bytes, e->n_bytes);
    if (copy->bytes == NULL) return false;
    l->n++;
    return true;
}

void exo_raft_log_truncate(exo_raft_log *l, uint64_t from) {
    while (l->n > 0 && l->items[l->n - 1].index >= from) free_bytes(l->items[--l->n].bytes);
}

bool exo_raft_log_set_snapshot(exo_raft_log *l, const exo_raft_snapshot *s) {
    exo_raft_snapshot copy = *s;
    copy.config = copy_bytes(s->config, s->n_config);
    copy.image = copy_bytes(s->image, s->n_image);
    if (copy.config == NULL || copy.image == NULL) {
        free_bytes(copy.config);
        free_bytes(copy.image);
        return false;
    }
    size_t drop = l->n;
    if (exo_raft_log_term(l, s->index) == s->term) drop = (size_t)(s->index - l->snapshot.index);
    for (size_t i = 0; i < drop; i++) free_bytes(l->items[i].bytes);
    if (l->n > drop) memmove(l->items, l->items + drop, (l->n - drop) * sizeof *l->items);
    l->n -= drop;
    free_bytes(l->snapshot.config);
    free_bytes(l->snapshot.image);
    l->snapshot = copy;
    return true;
}

const uint8_t *exo_raft_log_config(const exo_raft_log *l, uint64_t index, uint32_t *n_bytes,
                                   uint64_t *at) {
    for (uint64_t i = index; i > l->snapshot.index; i--) {
        const exo_raft_entry *e = exo_raft_log_at(l, i);
        if (e == NULL || e->kind != EXO_RAFT_CONFIG) continue;
        *n_bytes = e->n_bytes;
        *at = i;
        return e->bytes;
    }
    *n_bytes = l->snapshot.n_config;
    *at = l->snapshot.index;
    return l->snapshot.config;
}

uint64_t exo_raft_log_meet(const exo_raft_log *l, uint64_t from, uint64_t term) {
    uint64_t i = from < exo_raft_log_last(l) ? from : exo_raft_log_last(l);
    while (i > l->snapshot.index && exo_raft_log_term(l, i) > term) i--;
    return i;
}
