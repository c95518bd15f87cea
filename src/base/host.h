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

/* Why the system gives this process no large pages although it takes the request; NULL where it
 * gives some or does not tell. */
const char *exo_host_no_large_pages(void);

/* The folder with what the kernel tells of the machine: EXO_SYSFS in tests, else /sys. */
const char *exo_host_sysfs(void);

/* Time since this process was begun (exec), to 10 ms; 0 where the system does not tell. */
uint64_t exo_host_process_us(void);

/* From now on the calling thread gives way to others, which still leave it a tenth of a core. */
void exo_host_background_thread(void);

#endif
