/* file_type.h - general.file_type: the number that says how a model was quantised.
 *
 * Source: llama.h (enum llama_ftype) of llama.cpp.  Thread: ANY. */
#ifndef EXO_MODEL_FILE_TYPE_H
#define EXO_MODEL_FILE_TYPE_H

#include "model/gguf.h"

/* "Q4_K_M"; NULL for a number never assigned. */
const char *exo_file_type_name(uint32_t number);
/* The number of a name without regard to case; EXO_ENOTFOUND otherwise. */
exo_status exo_file_type_parse(const char *name, uint32_t *out);
/* What a file says of itself; else the type that most bytes of its tensors have; "" for none. */
const char *exo_file_type_of(const exo_gguf *g);

#endif
