/* raft_log.h - the entries that a node keeps, behind the snapshot that stands for the others.
 *
 * Owns copies of all bytes.  Knows nothing of terms' meaning, peers or time; raft_*.c do.
 * Thread: one at a time. */
#ifndef EXO_CLUSTER_RAFT_LOG_H
#define EXO_CLUSTER_RAFT_LOG_H

#include "cluster/raft.h"

typedef struct {
    exo_raft_snapshot snapshot; /* index 0 = none */
    exo_raft_entry *items;      /* items[i].index == snapshot.index + 1 + i */
    size_t n, cap;
} exo_raft_log;

void exo_raft_log_finish(exo_raft_log *l); /* zeroed memory is allowed */

static inline uint64_t exo_raft_log_last(const exo_raft_log *l) { return l->snapshot.index + l->n; }
/* Term of the entry at index, the snapshot's included; 0 where the log has none. */
uint64_t exo_raft_log_term(const exo_raft_log *l, uint64_t index);
/* NULL unless snapshot.index < index <= last. */
const exo_raft_entry *exo_raft_log_at(const exo_raft_log *l, uint64_t index);

/* Appends a copy; e->index is last + 1.  False without memory. */
bool exo_raft_log_append(exo_raft_log *l, const exo_raft_entry *e);
void exo_raft_log_truncate(exo_raft_log *l, uint64_t from); /* drops entries at `from` and behind */
/* Replaces the snapshot by a copy of s and drops the entries up to its index; all of them when the
 * log does not hold s->index with s->term.  False without memory, with nothing changed. */
bool exo_raft_log_set_snapshot(exo_raft_log *l, const exo_raft_snapshot *s);

/* The members as the log says at its end, or at `index`: bytes of the last CONFIG entry up to it,
 * else the snapshot's.  *at: that entry's index. */
const uint8_t *exo_raft_log_config(const exo_raft_log *l, uint64_t index, uint32_t *n_bytes,
                                   uint64_t *at);
/* The last index <= from whose term is <= term: where two logs may still agree. */
uint64_t exo_raft_log_meet(const exo_raft_log *l, uint64_t from, uint64_t term);

#endif
