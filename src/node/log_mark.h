/* log_mark.h - the data directory's cluster.mark: how many writes the log had, kept outside of it.
 *
 * SQLite takes a damaged frame of its journal for the journal's end: what was written behind it is
 * gone, and nothing says so.  This file holds the number of the last write, which is also in the
 * log itself.  It is on disk after that write and before anybody hears of it, so a log that has
 * fewer has lost promises, and one that has more is sound (the power went in between).
 * Thread: one at a time per object. */
#ifndef EXO_NODE_LOG_MARK_H
#define EXO_NODE_LOG_MARK_H

#include <exo/base.h>

typedef struct {
    int fd;
    char path[1200];
    uint64_t n_writes; /* as last read or written; 0 = none is known */
    bool whole;        /* what stood there when it was opened: false for none, or damaged */
} exo_log_mark;

/* Opens or makes the file (mode 0600).  One that is empty or damaged knows of no writes. */
exo_status exo_log_mark_open(const char *data_dir, exo_log_mark *out, exo_error *err);
void exo_log_mark_close(exo_log_mark *m); /* also after an open that failed */
/* On disk when it returns. */
exo_status exo_log_mark_write(exo_log_mark *m, uint64_t n_writes, exo_error *err);

#endif
