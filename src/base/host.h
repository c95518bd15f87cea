/* host.h - what only some systems can tell or do, with an answer for the others.
 *
 * Thread: ANY. */
#ifndef EXO_BASE_HOST_H
#define EXO_BASE_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How many of n mapped bytes at p the processor sees as large pages (2 MiB on most).  False where
 * the system does not tell. */
bool exo_host_large_bytes(const void *p, size_t n, size_t *out);

/* Time since this process was begun (exec), to 10 ms; 0 where the system does not tell. */
uint64_t exo_host_process_us(void);

/* From now on the calling thread gives way to others, which still leave it a tenth of a core. */
void exo_host_background_thread(void);

#endif
