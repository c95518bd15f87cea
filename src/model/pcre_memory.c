/* pcre_memory.c - see pcre_memory.h. */
#include "model/pcre_memory.h"

#include "base/mem.h"

static void *allocate(size_t n, void *ud) {
    (void)ud;
    return exo_malloc(n);
}

static void deallocate(void *p, void *ud) {
    (void)ud;
    exo_free(p);
}

pcre2_general_context *exo_pcre_memory(void) {
    return pcre2_general_context_create(allocate, deallocate, NULL);
}
