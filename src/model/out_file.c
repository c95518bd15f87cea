/* out_file.c - see out_file.h. */
#define _POSIX_C_SOURCE 200809L /* open, statvfs */
#include "model/out_file.h"

#include "model/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* A device, a folder or a pipe must not be replaced by a file. */
static exo_status check_target(const char *path, exo_error *err) {
    struct stat s;
    if (lstat(path, &s) != 0 || S_ISREG(s.st_mode)) return EXO_OK;
    return exo_error_set(err, EXO_EINVAL, "%s is there and is no plain file", exo_path_tail(path));
}

/* Says so before writing gigabytes, not after. */
static exo_status check_space(const exo_out_file *o, exo_error *err) {
    struct statvfs fs;
    if (fstatvfs(o->fd, &fs) != 0) return EXO_OK;
    uint64_t free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (free_bytes >= o->total) return EXO_OK;
    return exo_error_set(err, EXO_EIO, "%s needs %llu bytes, but only %llu are free on that disk",
                         exo_path_tail(o->path), (unsigned long long)o->total,
                         (unsigned long long)free_bytes);
}

exo_status exo_out_file_begin(exo_out_file *o, const char *path, uint64_t total, exo_error *err) {
    o->path = path;
    o->total = total;
    o->done = 0;
    exo_status st = check_target(path, err);
    if (st != EXO_OK) return st;
    o->temp = (exo_buf){0};
    exo_buf_printf(&o->temp, "%s.%ld.tmp", path, (long)getpid());
    if (!exo_buf_ok(&o->temp)) {
        exo_buf_finish(&o->temp);
        return exo_error_set(err, EXO_ENOMEM, "out of memory for a path");
    }
    o->fd = open(o->temp.data, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (o->fd < 0) {
        st = exo_error_set(err, EXO_EIO, "cannot create %s: %s", exo_path_tail(path),
                           strerror(errno));
        exo_buf_finish(&o->temp);
        return st;
    }
    st = check_space(o, err);
    return st == EXO_OK ? st : exo_out_file_end(o, st, err);
}

exo_status exo_out_file_put(exo_out_file *o, const void *bytes, size_t n, exo_error *err) {
    const uint8_t *p = bytes;
    while (n > 0) {
        ssize_t got = write(o->fd, p, n);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) {
            return exo_error_set(err, EXO_EIO, "cannot write %s: %s (%llu of %llu bytes written)",
                                 exo_path_tail(o->path), strerror(got < 0 ? errno : ENOSPC),
                                 (unsigned long long)o->done, (unsigned long long)o->total);
        }
        p += got;
        n -= (size_t)got;
        o->done += (uint64_t)got;
    }
    if (o->progress != NULL && !o->progress(o->ud, o->done, o->total)) {
        return exo_error_set(err, EXO_ECANCELED, "canceled");
    }
    return EXO_OK;
}

exo_status exo_out_file_end(exo_out_file *o, exo_status st, exo_error *err) {
    if (close(o->fd) != 0 && st == EXO_OK) {
        st = exo_error_set(err, EXO_EIO, "cannot write %s: %s", exo_path_tail(o->path),
                           strerror(errno));
    }
    if (st == EXO_OK && rename(o->temp.data, o->path) != 0) {
        st = exo_error_set(err, EXO_EIO, "cannot rename to %s: %s", exo_path_tail(o->path),
                           strerror(errno));
    }
    if (st != EXO_OK) unlink(o->temp.data);
    exo_buf_finish(&o->temp);
    return st;
}
