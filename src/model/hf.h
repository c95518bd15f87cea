/* hf.h - a folder as transformers writes it (config.json, *.safetensors, tokenizer.json) as a
 * model.
 *
 * It becomes what a GGUF file of the same model would be: the same keys, the same tensor names, so
 * that nothing above knows the difference.  Matrices stay where they are in the files; vectors are
 * widened to f32 in memory.  Input is hostile.
 *
 *   hf_open.c       files, tensors, putting it together
 *   hf_config.c     config.json to keys of the architecture
 *   hf_rope.c       rotary positions in it
 *   hf_names.c      which architectures and tensor names there are: tables
 *   hf_tokenizer.c  tokenizer.json and tokenizer_config.json to tokenizer keys
 *   hf_pre.c        what a pre_tokenizer amounts to
 * Thread: ANY. */
#ifndef EXO_MODEL_HF_H
#define EXO_MODEL_HF_H

#include "model/gguf.h"

/* A folder with a config.json. */
bool exo_hf_is_folder(const char *path);
/* exo_gguf_open() comes here for folders. */
exo_status exo_hf_open(const char *path, exo_gguf **out, exo_error *err);

#endif
