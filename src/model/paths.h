/* paths.h - what a model's file name says: its id, and which part of a split file it is.
 *
 * Pure string work; no file is touched.  Thread: ANY. */
#ifndef EXO_MODEL_PATHS_H
#define EXO_MODEL_PATHS_H

#include <exo/base.h>

/* "dir/llama-00002-of-00003.gguf": part 2 of 3, stem "dir/llama". */
typedef struct {
    size_t stem_n; /* bytes of the path before "-00002-of-" */
    uint32_t no;   /* from 1 */
    uint32_t count;
} exo_split_name;

/* False when the name does not have that form or its numbers contradict each other. */
bool exo_path_split(const char *path, exo_split_name *out);

/* The id within a path: file name without folder, part suffix and .gguf.  Borrowed from path; *n
 * is its length. */
const char *exo_path_id(const char *path, size_t *n);

/* At most the last 100 bytes of a path, so that a message keeps room for its reason. */
const char *exo_path_tail(const char *path);

#endif
