/* map_guard.h - mapped files that are cut while somebody reads them.
 *
 * Reading behind the end of a mapped file that became shorter, or from a disk that fails, raises
 * SIGBUS, which would end the whole process: a node with its other models, the app around the
 * library.  Within guarded mappings the missing rest reads as zeros instead, and whoever reads
 * asks afterwards whether that happened.  A SIGBUS elsewhere goes to the handler that was there
 * before.  Thread: ANY. */
#ifndef EXO_BASE_MAP_GUARD_H
#define EXO_BASE_MAP_GUARD_H

#include <stdbool.h>
#include <stddef.h>

/* After mmap.  Of more than EXO_MAP_GUARD_MAX mappings at a time the rest is not guarded. */
#define EXO_MAP_GUARD_MAX 4096
void exo_map_guard_add(const void *begin, size_t n_bytes);
/* Before munmap; what is not guarded is left alone. */
void exo_map_guard_remove(const void *begin);
/* Whether zeros were read where the file had nothing. */
bool exo_map_guard_hurt(const void *begin);
/* How often that happened, in any mapping: while it is 0 nobody need ask. */
size_t exo_map_guard_hurts(void);

#endif
