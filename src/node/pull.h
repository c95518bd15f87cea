/* pull.h - a whole model from a hub or an address to the models folder.
 *
 * Finds out what the files are, checks room on the disk, fetches and verifies each, looks whether
 * the result is a model at all, and only then gives it its name.  Stopped or failed pulls go on
 * where they were when the same reference is pulled again.
 * Thread: ANY; blocks.  The command line and, from a worker thread, a node use it. */
#ifndef EXO_NODE_PULL_H
#define EXO_NODE_PULL_H

#include "node/download.h"
#include "node/store.h"

typedef struct {
    exo_download_phase phase;
    const char *file;               /* name of the one at work; "" while the hub is asked */
    size_t i, n;                    /* which one of how many */
    uint64_t done, total;           /* bytes of the whole model */
    uint64_t file_done, file_total; /* of this file; when checking, bytes checked */
} exo_pull_status;

/* Called several times a second; false stops the pull (EXO_ECANCELED). */
typedef bool (*exo_pull_fn)(void *ud, const exo_pull_status *s);

typedef struct {          /* zero: defaults */
    const char *endpoint; /* NULL: HF_ENDPOINT, else https://huggingface.co */
    const char *token;    /* NULL: HF_TOKEN, if it is set */
    const char *data_dir;
    uint32_t n_connections, stall_s;
    exo_pull_fn progress;
    void *ud;
} exo_pull_desc;

typedef struct {
    char id[EXO_HUB_ID_BYTES];
    char path[EXO_STORE_PATH_BYTES]; /* the file (its first part), or the folder */
    uint64_t bytes;
    size_t n_files;
    bool was_there; /* nothing had to be fetched */
} exo_pull_result;

/* EXO_OFFLINE in the environment refuses at once. */
exo_status exo_pull(const char *ref, const exo_pull_desc *desc, exo_pull_result *out,
                    exo_error *err);

#endif
