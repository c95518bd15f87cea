/* clock.h - time that goes on while the machine sleeps (CLOCK_BOOTTIME where it exists). */
#ifndef EXO_BASE_CLOCK_H
#define EXO_BASE_CLOCK_H

#include <stdint.h>

uint64_t exo_now_ns(void);
static inline uint64_t exo_now_us(void) { return exo_now_ns() / 1000; }
static inline uint64_t exo_now_ms(void) { return exo_now_ns() / 1000000; }

/* Seconds since 1970, for timestamps that people read. */
double exo_unix_time(void);

#endif
