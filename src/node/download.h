/* download.h - one file from an HTTP server to disk: in parts, resumable, verified.
 *
 * The bytes go to a part file; beside it a state file (".json" added) says which of them are there
 * and of which version of the remote file.  A killed process, a cut connection or a power loss
 * costs the last few seconds, never the file: what a state claims is checked again by the
 * sha256 at the end.  Giving the finished file its name is the caller's.
 * Thread: ANY; a call blocks until the file is there or cannot be had. */
#ifndef EXO_NODE_DOWNLOAD_H
#define EXO_NODE_DOWNLOAD_H

#include "base/buf.h"

#define EXO_DOWNLOAD_STALL_S 30 /* default: how long a connection may send nothing */

typedef enum {
    EXO_DOWNLOAD_GETTING,
    EXO_DOWNLOAD_CHECKING, /* reading the file again for its sha256 */
    EXO_DOWNLOAD_WAITING,  /* for a server that asked for a pause, or failed */
} exo_download_phase;

/* Called several times a second on the calling thread; false stops the download, which then
 * returns EXO_ECANCELED and can be resumed. */
typedef bool (*exo_download_fn)(void *ud, exo_download_phase phase, uint64_t done, uint64_t total);

/* Who is asked, and with what right. */
typedef struct {
    const char *endpoint;     /* "https://huggingface.co"; the token goes to this origin only */
    const char *token;        /* NULL: none */
    uint32_t stall_s;         /* 0 = EXO_DOWNLOAD_STALL_S */
    uint32_t n_connections;   /* 0 = 4 */
    exo_download_fn progress; /* NULL is allowed */
    void *ud;
} exo_download_host;

typedef struct {
    const char *url;
    const char *part_path;
    uint64_t bytes;     /* what it must have; EXO_SIZE_UNKNOWN: as the server says */
    const char *sha256; /* what it must be, in hex; NULL or "": as the server says, if it does */
} exo_download_file;
#define EXO_SIZE_UNKNOWN UINT64_MAX

/* On success the part file is whole and on disk, and its state file is gone.  EXO_ECANCELED and
 * failures of the network leave both for the next call; a file whose sha256 is wrong is removed.
 * EXO_EPEER: the remote file is not the one that bytes and sha256 describe, or keeps changing. */
exo_status exo_download(const exo_download_host *host, const exo_download_file *file,
                        exo_error *err);

#define EXO_DOWNLOAD_URL_BYTES 4096

/* A small answer (a hub's JSON) into memory, at most out->limit_bytes.  next: the address of the
 * next page when the server names one, else "". */
exo_status exo_download_text(const exo_download_host *host, const char *url, exo_buf *out,
                             char next[EXO_DOWNLOAD_URL_BYTES], exo_error *err);

#endif
