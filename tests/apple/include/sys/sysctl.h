/* sys/sysctl.h - what exo uses of it, declared from Apple's documentation. */
#include <stddef.h>

int sysctlbyname(const char *name, void *old, size_t *n_old, void *fresh, size_t n_fresh);
