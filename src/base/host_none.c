/* host_none.c - systems of which nothing of host.h is known. */
#include "base/host.h"

#ifndef __linux__
bool exo_host_large_bytes(const void *p, size_t n, size_t *out) {
    (void)p;
    (void)n;
    *out = 0;
    return false;
}

const char *exo_host_no_large_pages(void) { return NULL; }

const char *exo_host_sysfs(void) { return "/sys"; }

uint64_t exo_host_process_us(void) { return 0; }

void exo_host_background_thread(void) {}
#endif
