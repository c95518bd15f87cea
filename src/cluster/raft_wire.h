/* raft_wire.h - Raft's messages as bytes.
 *
 * What a peer sends is hostile: every length is checked, entries follow each other, and whatever
 * reads as a message is written back as the same bytes.  `from` and `to` travel along, since a
 * node's name in a log is not its node id.
 * Thread: ANY. */
#ifndef EXO_CLUSTER_RAFT_WIRE_H
#define EXO_CLUSTER_RAFT_WIRE_H

#include "base/arena.h"
#include "cluster/event.h"
#include "cluster/raft.h"

#define EXO_RAFT_WIRE_MAX_ENTRIES     64 /* what one APPEND carries (raft_impl.h) */
#define EXO_RAFT_WIRE_MAX_IMAGE_BYTES (16u << 20)

/* Appends; a failure is in out. */
void exo_raft_wire_write(const exo_raft_message *m, exo_buf *out);
/* Reads to the end of r.  Entries and snapshot are made in the arena and borrow r's bytes. */
exo_status exo_raft_wire_read(exo_reader *r, exo_arena *arena, exo_raft_message *out,
                              exo_error *err);

#endif
