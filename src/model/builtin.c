/* builtin.c - the demo model's bytes inside the program.
 *
 * The assembler puts models/exo-tiny.gguf between two symbols (cmake/tiny.S.in); a build without
 * it has no bytes and says so through *n. */
#include "model/model.h"

#ifdef EXO_EMBED_TINY
extern const unsigned char exo_tiny_begin[], exo_tiny_end[];

const void *exo_builtin_tiny(size_t *n) {
    *n = (size_t)((uintptr_t)exo_tiny_end - (uintptr_t)exo_tiny_begin);
    return exo_tiny_begin;
}
#else
const void *exo_builtin_tiny(size_t *n) {
    *n = 0;
    return NULL;
}
#endif
