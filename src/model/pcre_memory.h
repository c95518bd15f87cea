/* pcre_memory.h - PCRE2 with exo's heap: failures can be planted, and allocations counted. */
#ifndef EXO_MODEL_PCRE_MEMORY_H
#define EXO_MODEL_PCRE_MEMORY_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

/* The caller frees it with pcre2_general_context_free(); NULL when there is no memory. */
pcre2_general_context *exo_pcre_memory(void);

#endif
