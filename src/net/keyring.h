/* keyring.h - which cluster this node belongs to: its key, its namespace, and who was removed.
 *
 * <data_dir>/cluster.json (mode 0600), made with a random key at first start: a node that never
 * joined is a cluster of its own.  `exo join` replaces the key, `exo rekey` and `exo remove`
 * change it, and a running node follows the file.  Beside the key stands the cluster's id, which
 * outlives rotations: the log in the data directory is of one id.  A passphrase from outside
 * (EXO_CLUSTER_KEY) stands in for the stored key and is never written. Removals travel between
 * nodes as a counter per node: odd = removed, even = admitted again; the higher wins, so nodes
 * agree in whatever order they hear. Thread: ANY, one at a time per object; changes of the file are
 * serialised by a lock. */
#ifndef EXO_NET_KEYRING_H
#define EXO_NET_KEYRING_H

#include "net/identity.h"

#include <jansson.h>

#define EXO_KEY_BYTES         129 /* text: a passphrase or 64 hex digits, and NUL */
#define EXO_KEY_MIN           10  /* characters */
#define EXO_NAMESPACE_BYTES   65
#define EXO_DEFAULT_NAMESPACE "default"
#define EXO_CLUSTER_ID_BYTES  33 /* 32 hex digits and NUL */
#define EXO_MAX_REMOVED       1024
#define EXO_KEYRING_FILE      "cluster.json"

typedef struct {
    char key[EXO_KEY_BYTES]; /* what links use */
    char name_space[EXO_NAMESPACE_BYTES];
    bool given;          /* the key came from outside */
    bool joined;         /* by a code, or others have joined: no longer a cluster of one */
    bool rekeyed;        /* the last change of the stored key was a rotation: members get it */
    uint32_t generation; /* of the stored key: exo rekey counts it up */
    json_t *removed;     /* {node id: counter} */
    char stored_key[EXO_KEY_BYTES], stored_name_space[EXO_NAMESPACE_BYTES];
    char cluster[EXO_CLUSTER_ID_BYTES]; /* which cluster the stored key is of: rotations keep it */
} exo_keyring;

/* Loads the file, or makes it (and the directory).  key, name_space: from outside, NULL = as
 * stored.  EXO_EFORMAT for a broken file: it is not replaced, since the key in it may be the only
 * copy. */
exo_status exo_keyring_load(const char *data_dir, const char *key, const char *name_space,
                            exo_keyring *out, exo_error *err);
void exo_keyring_finish(exo_keyring *k); /* wipes the key; zeroed memory is allowed */

/* Reads the file under its lock, changes it, writes it back.  *after (may be NULL) gets what was
 * written; the caller finishes it. */
typedef exo_status (*exo_keyring_fn)(void *ud, exo_keyring *k, exo_error *err);
exo_status exo_keyring_change(const char *data_dir, exo_keyring_fn change, void *ud,
                              exo_keyring *after, exo_error *err);

/* Changes for exo_keyring_change's functions. */
exo_status exo_keyring_renew(exo_keyring *k, exo_error *err); /* a random key, next generation */
/* A cluster of this node's own: another id, another key, nobody removed. */
exo_status exo_keyring_begin(exo_keyring *k, exo_error *err);
exo_status exo_keyring_set(exo_keyring *k, const char *key, const char *name_space,
                           uint32_t generation, exo_error *err);
/* What a node that lets us in sends: {"key", "namespace", "generation", "removed", "cluster"?}. */
exo_status exo_keyring_welcome(exo_keyring *k, const json_t *m, exo_error *err);
bool exo_keyring_is_removed(const exo_keyring *k, const char *node_id);
/* Counts a node up to removed or admitted, if it is not. */
exo_status exo_keyring_set_removed(exo_keyring *k, const char *node_id, bool removed,
                                   exo_error *err);
/* Takes what another node knows; true when something was news.  Odd members are skipped. */
bool exo_keyring_merge_removed(exo_keyring *k, const json_t *theirs);

bool exo_is_node_id(const char *text); /* 16 lower-case hex digits */

#endif
