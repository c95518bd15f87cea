/* download_impl.h - what the files of a download share; private to download*.c and their tests.
 *
 *   download.c        the loop: connections, pieces, retries
 *   download_check.c  the finished file against its sha256
 *   download_head.c   response heads (pure)
 *   download_http.c   libcurl handles, redirects, small answers
 *   download_state.c  pieces and their state file
 *
 * Thread: one at a time per object. */
#ifndef EXO_NODE_DOWNLOAD_IMPL_H
#define EXO_NODE_DOWNLOAD_IMPL_H

#include "node/download.h"

#include <curl/curl.h>

#define EXO_ETAG_BYTES 160

/* ---- response heads ---- */

typedef struct {
    long status;
    char etag[EXO_ETAG_BYTES], linked_etag[EXO_ETAG_BYTES]; /* without W/ and quotes */
    uint64_t linked_bytes, content_bytes, range_total;      /* EXO_SIZE_UNKNOWN when absent */
    uint64_t range_begin;
    bool has_range;
    uint32_t retry_after_s;
    char next[EXO_DOWNLOAD_URL_BYTES]; /* of Link: rel="next" */
    char problem[120];                 /* X-Error-Message, printable */
} exo_http_head;

void exo_http_head_init(exo_http_head *h);
/* One header line as libcurl gives it; a status line begins a new head. */
void exo_http_head_line(exo_http_head *h, const char *line, size_t n);

/* ---- pieces ---- */

typedef struct {
    uint64_t bytes, piece_bytes;
    size_t n;
    uint64_t *done; /* (n) bytes of each piece that are in the part file */
} exo_pieces;

/* n_connections 1: one piece. */
exo_status exo_pieces_init(exo_pieces *p, uint64_t bytes, uint32_t n_connections, exo_error *err);
void exo_pieces_finish(exo_pieces *p);
uint64_t exo_pieces_length(const exo_pieces *p, size_t i);
uint64_t exo_pieces_done(const exo_pieces *p);

/* The state file of part_path.  Loading takes it only when it is of this identity and size, and
 * leaves *p untouched otherwise; true when something of the file is there. */
bool exo_pieces_load(exo_pieces *p, const char *part_path, const char *identity);
exo_status exo_pieces_save(const exo_pieces *p, const char *part_path, const char *identity,
                           exo_error *err);
void exo_pieces_forget(const char *part_path);

/* ---- libcurl ---- */

/* Where a file really lies, after all redirects. */
typedef struct {
    char url[EXO_DOWNLOAD_URL_BYTES];
    char etag[EXO_ETAG_BYTES];     /* of the last server; "" when it gives none */
    char identity[EXO_ETAG_BYTES]; /* what stays the same as long as the content does; may be "" */
    char sha256[65];               /* "" unless the first server tells it */
    uint64_t bytes;
    bool ranges; /* the server answers to Range */
} exo_remote;

/* Follows redirects by hand: the token goes to the endpoint's origin only. */
exo_status exo_http_probe(const exo_download_host *host, const char *url, exo_remote *out,
                          exo_error *err);
/* Everything that all requests have in common; head is filled as lines come in. */
exo_status exo_http_prepare(CURL *easy, const exo_download_host *host, const char *url,
                            exo_http_head *head, struct curl_slist **headers);
/* "host:port" for messages: signed addresses are nobody's business. */
const char *exo_http_host(const char *url, char out[256]);
bool exo_http_same_origin(const char *a, const char *b);
/* Fills err with what a status that is no success means. */
exo_status exo_http_refusal(const exo_download_host *host, const char *url,
                            const exo_http_head *head, exo_error *err);
/* Whether trying again may help. */
bool exo_http_is_transient(CURLcode code, const exo_http_head *head);
/* How long to wait before try number n (from 1), in ms; UINT32_MAX when the server asks for more
 * than anyone waits for. */
uint32_t exo_http_pause_ms(const exo_http_head *head, uint32_t n);
/* Waits; false when progress asks to stop. */
bool exo_http_wait(const exo_download_host *host, uint32_t ms);
#define EXO_HTTP_MAX_TRIES 6

/* ---- checking ---- */

/* EXO_EFORMAT when the file's sha256 is another. */
exo_status exo_download_check(const exo_download_host *host, int fd, uint64_t bytes,
                              const char *sha256, exo_error *err);

#endif
