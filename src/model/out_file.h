/* out_file.h - a large file that is whole or not there.
 *
 * Written under another name beside its place and renamed at the end; on failure nothing is left.
 * What a killed process left of the same file is removed, and a line says so.
 * Room on the disk is checked before the first byte.  Thread: one at a time. */
#ifndef EXO_MODEL_OUT_FILE_H
#define EXO_MODEL_OUT_FILE_H

#include "base/buf.h"

typedef struct {
    const char *path; /* borrowed until the end */
    exo_buf temp;
    int fd;
    uint64_t done, total;
    exo_progress_fn progress; /* may be NULL; false stops with EXO_ECANCELED */
    void *ud;
} exo_out_file;

/* total: bytes that will be put.  EXO_EINVAL when path is there and is no plain file. */
exo_status exo_out_file_begin(exo_out_file *o, const char *path, uint64_t total, exo_error *err);
exo_status exo_out_file_put(exo_out_file *o, const void *bytes, size_t n, exo_error *err);
/* st: what became of it so far.  Gives the file its name, or removes it; returns st, or why it
 * could not be finished.  Follows every begin that succeeded. */
exo_status exo_out_file_end(exo_out_file *o, exo_status st, exo_error *err);

#endif
