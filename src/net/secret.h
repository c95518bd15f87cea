/* secret.h - small private files in the data directory: for the owner alone, whole or absent.
 *
 * A file is replaced by writing another beside it and renaming that, so a crash or a full disk
 * leaves the old one.  Files that others can read are refused rather than repaired: what is in
 * them may already have been copied.  Thread: ANY. */
#ifndef EXO_NET_SECRET_H
#define EXO_NET_SECRET_H

#include "base/buf.h"

/* Makes path and its missing parents with mode 0700. */
exo_status exo_secret_directory(const char *path, exo_error *err);
/* EXO_ENOTFOUND (without a message) when there is no such file, EXO_EAUTH when others can read
 * it, EXO_EFORMAT beyond limit bytes.  what: named in messages, "the cluster's key". */
exo_status exo_secret_read(const char *dir, const char *name, const char *what, size_t limit,
                           exo_buf *out, exo_error *err);
exo_status exo_secret_write(const char *dir, const char *name, const void *bytes, size_t n,
                            exo_error *err);
/* A number that changes when the file does; 0 when it is absent. */
uint64_t exo_secret_stamp(const char *dir, const char *name);
/* Holds dir/name locked until the process ends or the fd is closed.  wait_ms 0: at once or
 * EXO_EBUSY. */
exo_status exo_secret_lock(const char *dir, const char *name, uint32_t wait_ms, int *fd,
                           exo_error *err);

#endif
