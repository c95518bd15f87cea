/* download.c - the loop of one download: which connection fetches which piece, and what then.
 *
 * One thread, libcurl's multi interface.  A piece belongs to one connection at a time; bytes are
 * written where they belong as they come, so a cut connection loses nothing.  A connection that
 * fails pauses, longer each time; one that never works is given up while others do.
 * What a server says is compared with what was agreed on (size, range, etag) before a byte of its
 * answer is written. */
#define _POSIX_C_SOURCE 200809L
#include "node/download_impl.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "model/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define DEFAULT_CONNECTIONS  4
#define MAX_CONNECTIONS      16
#define POLL_MS              100
#define SAVE_EVERY_MS        1000
#define MAX_RESTARTS         2    /* from the beginning, because the remote file changed */
#define LEAST_PROGRESS_BYTES 4096 /* of one try, for it to be no failure */
#define MAX_MOVES            8    /* to a fresh address, because the old one expired */
#define MAX_ETAG_MOVES       3    /* after that, of a file with a sha256, etags are not compared */
#define MAX_REFUSAL_BYTES    65536

typedef enum {
    GOING,      /* nothing is wrong so far */
    ENOUGH,     /* all bytes of the piece are there; the server would send more */
    NO_RANGE,   /* the whole file came instead of a piece */
    WRONG_PART, /* another range, or of a file of another size */
    CHANGED,    /* another etag */
    REFUSED,    /* a status that is no success */
    DISK,       /* the part file cannot be written */
} verdict;

typedef struct job job;

typedef struct {
    job *j;
    CURL *easy;
    struct curl_slist *headers;
    exo_http_head head;
    size_t piece;
    bool busy, judged, retired;
    verdict v;
    uint64_t got;        /* bytes written by this request */
    uint64_t n_refusal;  /* bytes of an error page */
    uint32_t n_failures; /* in a row, without progress between them */
    uint64_t not_before_ms;
} slot;

struct job {
    const exo_download_host *host;
    const exo_download_file *file;
    exo_remote remote;
    exo_pieces pieces;
    bool *taken; /* (pieces.n) */
    char sha256[65];
    int fd, disk_errno;
    CURLM *multi;
    slot slots[MAX_CONNECTIONS];
    uint32_t n_slots;
    uint32_t n_restarts, n_moves, n_etag_moves;
    bool move;     /* the address must be asked for again */
    bool no_range; /* the server answers to Range sometimes: not relied on */
    bool resumed;  /* from an earlier call's part file */
    uint64_t saved_ms;
};

/* ---- answers ---- */

static uint64_t piece_begin(const job *j, size_t i) { return (uint64_t)i * j->pieces.piece_bytes; }

static verdict judge(const slot *s) {
    const job *j = s->j;
    const exo_http_head *h = &s->head;
    uint64_t at = piece_begin(j, s->piece) + j->pieces.done[s->piece];
    if (h->status != 200 && h->status != 206) return REFUSED;
    if (j->remote.etag[0] != '\0' && h->etag[0] != '\0' && strcmp(j->remote.etag, h->etag) != 0) {
        return CHANGED;
    }
    if (h->status == 200) {
        if (j->remote.ranges) return NO_RANGE;
        bool other = h->content_bytes != EXO_SIZE_UNKNOWN && h->content_bytes != j->remote.bytes;
        return other ? WRONG_PART : GOING;
    }
    if (!h->has_range || h->range_begin != at) return WRONG_PART;
    return h->range_total != EXO_SIZE_UNKNOWN && h->range_total != j->remote.bytes ? WRONG_PART
                                                                                   : GOING;
}

static bool write_at(int fd, const char *bytes, size_t n, uint64_t at) {
    while (n > 0) {
        ssize_t got = pwrite(fd, bytes, n, (off_t)at);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        bytes += got;
        n -= (size_t)got;
        at += (uint64_t)got;
    }
    return true;
}

static size_t on_bytes(char *bytes, size_t size, size_t n, void *ud) {
    slot *s = ud;
    job *j = s->j;
    (void)size;
    if (!s->judged) {
        s->v = judge(s);
        s->judged = true;
    }
    if (s->v == REFUSED) {
        s->n_refusal += n;
        return s->n_refusal <= MAX_REFUSAL_BYTES ? n : 0;
    }
    if (s->v != GOING) return 0;
    uint64_t *done = &j->pieces.done[s->piece];
    uint64_t left = exo_pieces_length(&j->pieces, s->piece) - *done;
    size_t take = n < left ? n : (size_t)left;
    if (!write_at(j->fd, bytes, take, piece_begin(j, s->piece) + *done)) {
        j->disk_errno = errno;
        s->v = DISK;
        return 0;
    }
    *done += take;
    s->got += take;
    if (take < n) s->v = ENOUGH;
    return take == n ? n : 0;
}

/* ---- connections ---- */

static exo_status start(slot *s, size_t piece, exo_error *err) {
    job *j = s->j;
    char range[64];
    if (exo_http_prepare(s->easy, j->host, j->remote.url, &s->head, &s->headers) != EXO_OK) {
        return exo_error_set(err, EXO_ENOMEM, "out of memory for a request");
    }
    if (!j->remote.ranges) j->pieces.done[piece] = 0;
    uint64_t begin = piece_begin(j, piece), end = begin + exo_pieces_length(&j->pieces, piece);
    if (j->remote.ranges) {
        uint64_t next = begin + j->pieces.done[piece], last = end - 1;
        snprintf(range, sizeof range, "%llu-%llu", (unsigned long long)next,
                 (unsigned long long)last);
        curl_easy_setopt(s->easy, CURLOPT_RANGE, range);
    }
    curl_easy_setopt(s->easy, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(s->easy, CURLOPT_WRITEDATA, s);
    curl_easy_setopt(s->easy, CURLOPT_PRIVATE, s);
    s->piece = piece;
    s->judged = false;
    s->v = GOING;
    s->got = s->n_refusal = 0;
    if (curl_multi_add_handle(j->multi, s->easy) != CURLM_OK) {
        return exo_error_set(err, EXO_ENOMEM, "out of memory for a request");
    }
    s->busy = true;
    j->taken[piece] = true;
    return EXO_OK;
}

static void stop(slot *s) {
    if (!s->busy) return;
    curl_multi_remove_handle(s->j->multi, s->easy);
    s->busy = false;
    s->j->taken[s->piece] = false;
}

static bool next_piece(const job *j, size_t *out) {
    for (size_t i = 0; i < j->pieces.n; i++) {
        if (j->taken[i] || j->pieces.done[i] == exo_pieces_length(&j->pieces, i)) continue;
        *out = i;
        return true;
    }
    return false;
}

static exo_status start_idle(job *j, exo_error *err) {
    uint64_t now = exo_now_ms();
    exo_status st = EXO_OK;
    for (uint32_t i = 0; i < j->n_slots && st == EXO_OK; i++) {
        slot *s = &j->slots[i];
        size_t piece;
        if (s->busy || s->retired || now < s->not_before_ms) continue;
        if (!next_piece(j, &piece)) break;
        st = start(s, piece, err);
    }
    return st;
}

static bool others_work(const slot *s) {
    for (uint32_t i = 0; i < s->j->n_slots; i++) {
        const slot *o = &s->j->slots[i];
        if (o != s && !o->retired && o->n_failures == 0 && o->got > 0) return true;
    }
    return false;
}

/* Another try after a pause, unless there were too many. */
static exo_status try_later(slot *s, exo_status st, exo_error *err) {
    uint32_t pause = exo_http_pause_ms(&s->head, ++s->n_failures);
    if (s->n_failures < EXO_HTTP_MAX_TRIES && pause != UINT32_MAX) {
        s->not_before_ms = exo_now_ms() + pause;
        return EXO_OK;
    }
    if (!others_work(s)) return st;
    exo_debug("download: one connection is given up: %s", err != NULL ? err->message : "");
    s->retired = true;
    return EXO_OK;
}

/* ---- what became of a request ---- */

/* The address has expired, or points to something else now: ask the hub again. */
static exo_status move(job *j, exo_status st, const char *why, exo_error *err) {
    if (++j->n_moves > MAX_MOVES) {
        return st != EXO_OK ? st
                            : exo_error_set(err, EXO_EPEER, "the address keeps changing: %s", why);
    }
    j->move = true;
    return EXO_OK;
}

static exo_status settle_refusal(slot *s, CURLcode code, exo_error *err) {
    job *j = s->j;
    exo_status st = exo_http_refusal(j->host, j->remote.url, &s->head, err);
    if (exo_http_is_transient(code, &s->head)) return try_later(s, st, err);
    bool redirected = strcmp(j->remote.url, j->file->url) != 0;
    return redirected || s->head.status < 400 ? move(j, st, "refused", err) : st;
}

static exo_status settle(slot *s, CURLcode code, exo_error *err) {
    job *j = s->j;
    char name[256];
    exo_http_host(j->remote.url, name);
    if (!s->judged && code == CURLE_OK) s->v = judge(s); /* an empty body */
    if (s->got >= LEAST_PROGRESS_BYTES) s->n_failures = 0;
    if (j->pieces.done[s->piece] == exo_pieces_length(&j->pieces, s->piece)) return EXO_OK;
    exo_status st;
    switch (s->v) {
    case DISK:
        return exo_error_set(err, EXO_EIO, "cannot write %s: %s", exo_path_tail(j->file->part_path),
                             strerror(j->disk_errno));
    case REFUSED: return settle_refusal(s, code, err);
    case CHANGED: return move(j, EXO_OK, "another etag", err);
    case NO_RANGE: j->no_range = true; return move(j, EXO_OK, "ranges are ignored", err);
    case WRONG_PART:
        st = exo_error_set(err, EXO_EPEER, "%s answers with another range or size than asked for",
                           name);
        return try_later(s, st, err);
    case GOING:
    case ENOUGH: break;
    }
    if (!exo_http_is_transient(code, &s->head) && code != CURLE_OK) {
        return exo_error_set(err, EXO_EPEER, "%s: %s", name, curl_easy_strerror(code));
    }
    const char *why = code == CURLE_OK ? "the connection ended early" : curl_easy_strerror(code);
    bool silent = code == CURLE_OPERATION_TIMEDOUT;
    st = exo_error_set(err, silent ? EXO_ETIMEDOUT : EXO_EPEER, "%s: %s after %llu of %llu bytes",
                       name, why, (unsigned long long)exo_pieces_done(&j->pieces),
                       (unsigned long long)j->pieces.bytes);
    return try_later(s, st, err);
}

static exo_status collect(job *j, exo_error *err) {
    int left;
    exo_status st = EXO_OK;
    for (CURLMsg *m; st == EXO_OK && (m = curl_multi_info_read(j->multi, &left)) != NULL;) {
        slot *s = NULL;
        if (m->msg != CURLMSG_DONE) continue;
        CURLcode code = m->data.result; /* m is gone with the handle */
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&s);
        stop(s);
        st = settle(s, code, err);
    }
    return st;
}

/* ---- the remote file ---- */

/* A file whose size only its server knew could not be checked earlier. */
static exo_status check_space(const job *j, exo_error *err) {
    struct statvfs fs;
    uint64_t need = j->remote.bytes - exo_pieces_done(&j->pieces);
    if (fstatvfs(j->fd, &fs) != 0) return EXO_OK;
    uint64_t left = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (left >= need) return EXO_OK;
    return exo_error_set(err, EXO_EIO, "%.2f GB more are needed, but the disk has %.2f GB free",
                         (double)need / 1e9, (double)left / 1e9);
}

static exo_status begin_pieces(job *j, exo_error *err) {
    exo_pieces fresh;
    uint32_t n = j->remote.ranges ? j->n_slots : 1;
    exo_status st = exo_pieces_init(&fresh, j->remote.bytes, n, err);
    if (st != EXO_OK) return st;
    exo_pieces_finish(&j->pieces);
    j->pieces = fresh;
    j->resumed =
        j->remote.ranges && exo_pieces_load(&j->pieces, j->file->part_path, j->remote.identity);
    exo_free(j->taken);
    j->taken = exo_calloc(j->pieces.n > 0 ? j->pieces.n : 1, sizeof *j->taken);
    if (j->taken == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for a download");
    st = check_space(j, err);
    if (st != EXO_OK) return st;
    if (ftruncate(j->fd, (off_t)j->remote.bytes) != 0) {
        return exo_error_set(err, EXO_EIO, "cannot make room for %s: %s",
                             exo_path_tail(j->file->part_path), strerror(errno));
    }
    return exo_pieces_save(&j->pieces, j->file->part_path, j->remote.identity, err);
}

/* Asks where the file lies, and whether it is the one that is wanted. */
static exo_status find(job *j, exo_remote *r, exo_error *err) {
    const exo_download_file *f = j->file;
    exo_status st = exo_http_probe(j->host, f->url, r, err);
    if (st != EXO_OK) return st;
    if (f->bytes != EXO_SIZE_UNKNOWN && r->bytes != f->bytes) {
        return exo_error_set(err, EXO_EPEER, "the hub lists %llu bytes, but the file has %llu",
                             (unsigned long long)f->bytes, (unsigned long long)r->bytes);
    }
    bool wanted = f->sha256 != NULL && f->sha256[0] != '\0';
    if (wanted && r->sha256[0] != '\0' && strcasecmp(f->sha256, r->sha256) != 0) {
        return exo_error_set(err, EXO_EPEER, "the file has changed on the hub");
    }
    snprintf(j->sha256, sizeof j->sha256, "%s", wanted ? f->sha256 : r->sha256);
    if (j->sha256[0] != '\0') { /* the same content, whoever serves it */
        snprintf(r->identity, sizeof r->identity, "sha256:%s", j->sha256);
    }
    return EXO_OK;
}

/* After a change of address: goes on where the content is the same, else begins anew. */
static exo_status find_again(job *j, exo_error *err) {
    exo_remote r;
    for (uint32_t i = 0; i < j->n_slots; i++) stop(&j->slots[i]);
    j->move = false;
    exo_status st = find(j, &r, err);
    if (st != EXO_OK) return st;
    bool same = r.identity[0] != '\0' && strcmp(r.identity, j->remote.identity) == 0 &&
                r.bytes == j->remote.bytes;
    bool other_etag = strcmp(r.etag, j->remote.etag) != 0;
    bool ranges = r.ranges && !j->no_range;
    if (same && other_etag && ++j->n_etag_moves > MAX_ETAG_MOVES && j->sha256[0] != '\0') {
        r.etag[0] = '\0';
    }
    if (same && ranges) {
        j->remote = r;
        return EXO_OK;
    }
    if (++j->n_restarts > MAX_RESTARTS) {
        return exo_error_set(err, EXO_EPEER, "the file keeps changing while it is downloaded");
    }
    exo_pieces_forget(j->file->part_path);
    j->remote = r;
    j->remote.ranges = ranges;
    return begin_pieces(j, err);
}

/* ---- the loop ---- */

static exo_status tick(job *j, exo_error *err) {
    uint64_t now = exo_now_ms(), done = exo_pieces_done(&j->pieces);
    const exo_download_host *h = j->host;
    if (now - j->saved_ms >= SAVE_EVERY_MS) {
        j->saved_ms = now;
        exo_status st = exo_pieces_save(&j->pieces, j->file->part_path, j->remote.identity, err);
        if (st != EXO_OK) return st;
    }
    bool any = false;
    for (uint32_t i = 0; i < j->n_slots; i++) any = any || j->slots[i].busy;
    exo_download_phase phase = any ? EXO_DOWNLOAD_GETTING : EXO_DOWNLOAD_WAITING;
    if (h->progress != NULL && !h->progress(h->ud, phase, done, j->pieces.bytes)) {
        return exo_error_set(err, EXO_ECANCELED, "stopped");
    }
    return EXO_OK;
}

static exo_status fetch(job *j, exo_error *err) {
    exo_status st = EXO_OK;
    while (st == EXO_OK && exo_pieces_done(&j->pieces) < j->pieces.bytes) {
        int running;
        if (j->move) st = find_again(j, err);
        if (st == EXO_OK) st = start_idle(j, err);
        if (st != EXO_OK) break;
        if (curl_multi_perform(j->multi, &running) != CURLM_OK) {
            st = exo_error_set(err, EXO_EINTERNAL, "libcurl failed");
            break;
        }
        st = collect(j, err);
        if (st == EXO_OK) st = tick(j, err);
        if (st == EXO_OK) curl_multi_poll(j->multi, NULL, 0, POLL_MS, NULL);
    }
    for (uint32_t i = 0; i < j->n_slots; i++) stop(&j->slots[i]);
    exo_status saved = exo_pieces_save(&j->pieces, j->file->part_path, j->remote.identity,
                                       st == EXO_OK ? err : NULL);
    return st != EXO_OK ? st : saved;
}

/* Once more from the beginning when what an earlier call left was damaged. */
static exo_status check(job *j, exo_error *err) {
    exo_status st = EXO_OK;
    for (int attempt = 0;; attempt++) {
        if (fsync(j->fd) != 0) {
            return exo_error_set(err, EXO_EIO, "cannot write %s: %s",
                                 exo_path_tail(j->file->part_path), strerror(errno));
        }
        if (j->sha256[0] == '\0') return EXO_OK;
        st = exo_download_check(j->host, j->fd, j->pieces.bytes, j->sha256, err);
        if (st != EXO_EFORMAT) return st;
        exo_pieces_forget(j->file->part_path);
        if (attempt > 0 || !j->resumed) break;
        exo_warn("the download that was to be resumed is damaged: beginning anew");
        st = begin_pieces(j, err);
        if (st == EXO_OK) st = fetch(j, err);
        if (st != EXO_OK) return st;
    }
    unlink(j->file->part_path);
    return exo_error_wrap(err, st, "the download is damaged and was removed");
}

static exo_status open_job(job *j, exo_error *err) {
    const exo_download_host *h = j->host;
    j->n_slots = h->n_connections != 0 ? h->n_connections : DEFAULT_CONNECTIONS;
    if (j->n_slots > MAX_CONNECTIONS) j->n_slots = MAX_CONNECTIONS;
    exo_status st = find(j, &j->remote, err); /* sets libcurl up, too */
    if (st != EXO_OK) return st;
    j->fd = open(j->file->part_path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (j->fd < 0) {
        return exo_error_set(err, EXO_EIO, "cannot create %s: %s",
                             exo_path_tail(j->file->part_path), strerror(errno));
    }
    j->multi = curl_multi_init();
    bool ok = j->multi != NULL;
    for (uint32_t i = 0; i < j->n_slots && ok; i++) {
        j->slots[i] = (slot){.j = j, .easy = curl_easy_init()};
        ok = j->slots[i].easy != NULL;
    }
    if (!ok) return exo_error_set(err, EXO_ENOMEM, "out of memory for connections");
    j->saved_ms = exo_now_ms();
    return begin_pieces(j, err);
}

static void close_job(job *j) {
    for (uint32_t i = 0; i < MAX_CONNECTIONS; i++) {
        curl_easy_cleanup(j->slots[i].easy);
        curl_slist_free_all(j->slots[i].headers);
    }
    curl_multi_cleanup(j->multi);
    exo_pieces_finish(&j->pieces);
    exo_free(j->taken);
    if (j->fd >= 0) close(j->fd);
}

exo_status exo_download(const exo_download_host *host, const exo_download_file *file,
                        exo_error *err) {
    job *j = exo_calloc(1, sizeof *j);
    if (j == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for a download");
    exo_error why = {0}; /* settle() reads it, so that it is always there */
    j->host = host;
    j->file = file;
    j->fd = -1;
    exo_status st = open_job(j, &why);
    if (st == EXO_OK) st = fetch(j, &why);
    if (st == EXO_OK) st = check(j, &why);
    if (st == EXO_OK) exo_pieces_forget(file->part_path);
    if (st != EXO_OK) exo_error_set(err, st, "%s", why.message);
    close_job(j);
    exo_free(j);
    return st;
}
