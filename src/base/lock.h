/* lock.h - a plain mutex for tables that several threads fill; never held while waiting.
 *
 * Threads talk by mailbox; this is for the few shared caches.  Thread: ANY. */
#ifndef EXO_BASE_LOCK_H
#define EXO_BASE_LOCK_H

#include <exo/base.h>

typedef struct exo_lock exo_lock;

exo_status exo_lock_create(exo_lock **out, exo_error *err);
void exo_lock_destroy(exo_lock *l); /* NULL is allowed */
void exo_lock_take(exo_lock *l);
void exo_lock_give(exo_lock *l);

#endif
