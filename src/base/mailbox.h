/* mailbox.h - messages from any thread to one: a locked list and a wake-up.
 *
 * The only way threads talk besides atomics.  Messages are intrusive (first member exo_msg) and
 * belong to the receiver once pushed.  The wake call-back runs on the pushing thread, outside
 * the lock: uv_async_send, exo_lane_wake.
 * Thread: push ANY; take one thread. */
#ifndef EXO_BASE_MAILBOX_H
#define EXO_BASE_MAILBOX_H

#include <exo/base.h>

typedef struct exo_msg {
    struct exo_msg *next;
} exo_msg;

typedef struct exo_mailbox exo_mailbox;

exo_status exo_mailbox_create(void (*wake)(void *ud), void *ud, exo_mailbox **out, exo_error *err);
void exo_mailbox_destroy(exo_mailbox *m); /* empty by then; NULL is allowed */
void exo_mailbox_push(exo_mailbox *m, exo_msg *msg);
/* All messages so far, oldest first, linked by next; NULL when there are none. */
exo_msg *exo_mailbox_take(exo_mailbox *m);

/* A one-shot event that another thread waits for with a deadline. */
typedef struct exo_latch exo_latch;
exo_status exo_latch_create(exo_latch **out, exo_error *err);
void exo_latch_destroy(exo_latch *l);
void exo_latch_set(exo_latch *l);
bool exo_latch_wait(exo_latch *l, uint32_t ms); /* false: the deadline passed */

#endif
