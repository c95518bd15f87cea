/* log_store.h - the data directory's cluster.db: the cluster's log as this node keeps it.
 *
 * One SQLite file (mode 0600) with log, term, vote and snapshots.  A write is one transaction and
 * is on disk when it returns.  Every row has a checksum, and how many writes there must be stands
 * in another file (log_mark.h).  A file that is damaged is moved aside, and what could be read of
 * it (the last good snapshot, and the entries behind it without a gap) is what the node goes on
 * from, under a new name in the log, so that no vote is given twice.
 * A log belongs to one cluster: the file of another one is moved aside, too, and an empty log
 * begins.
 * One process at a time has the file.
 * Thread: LOOP, and whoever starts the node before that. */
#ifndef EXO_NODE_LOG_STORE_H
#define EXO_NODE_LOG_STORE_H

#include "cluster/cluster.h"

typedef struct exo_log_store exo_log_store;

/* Opens or makes the file.  cluster is a number that stands for the cluster, not 0.  EXO_EBUSY when
 * another process has it; EXO_EIO when the disk refuses.  Damage, and another cluster's log, are
 * no errors: one line says what was found and where the file went. */
exo_status exo_log_store_open(const char *data_dir, uint64_t cluster, exo_log_store **out,
                              exo_error *err);
void exo_log_store_close(exo_log_store *s); /* NULL is allowed */

/* What was found; borrowed until forget or close. */
const exo_cluster_stored *exo_log_store_found(const exo_log_store *s);
void exo_log_store_forget(exo_log_store *s);               /* frees it */
const char *exo_log_store_trouble(const exo_log_store *s); /* what the warning of open said; "" */
uint64_t exo_log_store_session(const exo_log_store *s);    /* higher than at every earlier open */

/* Carries out all PERSIST actions of a step, all or none.  EXO_EIO says what the disk says; the
 * cluster must then be created anew from what is stored. */
exo_status exo_log_store_write(exo_log_store *s, const exo_cluster_actions *a, exo_error *err);

#endif
