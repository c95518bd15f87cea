/* download_check.c - a finished file against the sha256 that the hub promises. */
#define _POSIX_C_SOURCE 200809L
#include "node/download_impl.h"

#include "base/hash.h"
#include "base/mem.h"

#include <errno.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define CHUNK_BYTES (4u << 20)

static exo_status hash_file(const exo_download_host *host, int fd, uint64_t bytes, exo_sha256 *hash,
                            uint8_t *chunk, exo_error *err) {
    for (uint64_t at = 0; at < bytes;) {
        size_t want = bytes - at < CHUNK_BYTES ? (size_t)(bytes - at) : CHUNK_BYTES;
        ssize_t got = pread(fd, chunk, want, (off_t)at);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) {
            return exo_error_set(err, EXO_EIO, "cannot read the download back: %s",
                                 got < 0 ? strerror(errno) : "it became shorter");
        }
        exo_sha256_update(hash, chunk, (size_t)got);
        at += (uint64_t)got;
        if (host->progress != NULL && !host->progress(host->ud, EXO_DOWNLOAD_CHECKING, at, bytes)) {
            return exo_error_set(err, EXO_ECANCELED, "stopped");
        }
    }
    return EXO_OK;
}

exo_status exo_download_check(const exo_download_host *host, int fd, uint64_t bytes,
                              const char *sha256, exo_error *err) {
    uint8_t digest[EXO_SHA256_BYTES];
    char hex[EXO_SHA256_HEX_BYTES];
    exo_sha256 *hash = exo_sha256_create();
    uint8_t *chunk = exo_malloc(CHUNK_BYTES);
    exo_status st = EXO_ENOMEM;
    if (hash == NULL || chunk == NULL) {
        exo_error_set(err, st, "out of memory for a checksum");
    } else {
        st = hash_file(host, fd, bytes, hash, chunk, err);
    }
    if (st == EXO_OK) {
        exo_sha256_peek(hash, digest);
        exo_hex(digest, sizeof digest, hex);
        if (strcasecmp(hex, sha256) != 0) {
            st = exo_error_set(err, EXO_EFORMAT, "its sha256 is %.16s..., promised was %.16s...",
                               hex, sha256);
        }
    }
    exo_free(chunk);
    exo_sha256_destroy(hash);
    return st;
}
