/* store.h - the data directory's models/: unfinished pulls beside finished models.
 *
 *   models/NAME.gguf, models/NAME/          finished; only ever renamed into place
 *   models/.pull/ID/FILE.part, FILE.part.json, FILE, pull.json    one unfinished pull
 *   models/.pull/ID.lock                    held while a process works on it
 *
 * Names with a leading dot are no models, so nothing half-written is ever found by its id.
 * Thread: ANY; between processes a lock file decides. */
#ifndef EXO_NODE_STORE_H
#define EXO_NODE_STORE_H

#include "node/hub.h"

#define EXO_STORE_PATH_BYTES 4096

/* A place to work on one model; nobody else works on it at the same time. */
typedef struct {
    char id[EXO_HUB_ID_BYTES];
    char models[EXO_STORE_PATH_BYTES - 1024]; /* the models folder */
    char staging[EXO_STORE_PATH_BYTES - 512]; /* models/.pull/ID */
    int lock;                                 /* -1: not held */
} exo_store;

/* Makes the folders and takes the lock; EXO_EBUSY when another process has it. */
exo_status exo_store_open(const char *data_dir, const char *id, exo_store *out, exo_error *err);
/* Gives the lock back; an empty staging folder goes.  All-zero memory is not allowed, a failed
 * open is. */
void exo_store_close(exo_store *s);

/* Makes the folder in the staging folder that a file's name has in it, if any. */
exo_status exo_store_make_folder(const exo_store *s, const char *name, exo_error *err);

/* Notes what is being pulled, for exo_store_partials. */
exo_status exo_store_note(const exo_store *s, const char *ref, uint64_t bytes, exo_error *err);
/* Bytes of staged files that are already on disk. */
uint64_t exo_store_staged_bytes(const exo_store *s);
/* EXO_EIO when the disk has less than that. */
exo_status exo_store_check_space(const exo_store *s, uint64_t bytes, exo_error *err);
/* staging/NAME[suffix] or models/NAME into out. */
exo_status exo_store_path(const char *dir, const char *name, const char *suffix,
                          char out[EXO_STORE_PATH_BYTES], exo_error *err);
/* Gives all staged files their final names: each into models/, the first one last, or as one
 * folder. */
exo_status exo_store_publish(const exo_store *s, const exo_hub_choice *c, exo_error *err);
/* Removes what is staged. */
void exo_store_discard(const exo_store *s);

/* ---- what is there ---- */

typedef struct {
    const char *id, *ref, *path;
    uint64_t done_bytes, total_bytes;
    bool active; /* a process is working on it */
} exo_partial;
typedef void (*exo_partial_fn)(void *ud, const exo_partial *p);
void exo_store_partials(const char *data_dir, exo_partial_fn fn, void *ud);

/* Removes a finished model and an unfinished pull of this id from the data directory.
 * EXO_ENOTFOUND when there is neither; EXO_EINVAL when the model lies elsewhere. */
exo_status exo_store_remove(const char *data_dir, const char *id, exo_error *err);

#endif
