/* out_file.c - see out_file.h. */
#define _DEFAULT_SOURCE /* open, flock, statvfs */
#include "model/out_file.h"

#include "base/log.h"
#include "model/paths.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
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

/* ---- what a killed process left ---- */

/* "NAME.123.tmp" */
static bool is_temp_of(const char *entry, const char *name) {
    size_t n = strlen(name);
    if (strncmp(entry, name, n) != 0 || entry[n] != '.') return false;
    size_t digits = strspn(entry + n + 1, "0123456789");
    return digits > 0 && strcmp(entry + n + 1 + digits, ".tmp") == 0;
}

/* Whoever still writes it holds a lock. */
static void remove_if_left(int dir, const char *entry) {
    struct stat s;
    int fd = openat(dir, entry, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return;
    bool left = fstat(fd, &s) == 0 && S_ISREG(s.st_mode) && flock(fd, LOCK_EX | LOCK_NB) == 0;
    if (left && unlinkat(dir, entry, 0) == 0) {
        exo_warn("removed %.200s, %lld bytes that an interrupted run left", entry,
                 (long long)s.st_size);
    }
    close(fd);
}

static exo_status remove_left(const char *path, exo_error *err) {
    const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;
    exo_buf folder = {0};
    exo_buf_append(&folder, path, slash != NULL ? (size_t)(slash - path) + 1 : 0);
    if (!exo_buf_ok(&folder)) return exo_error_set(err, EXO_ENOMEM, "out of memory for a path");
    DIR *d = opendir(slash != NULL ? exo_buf_str(&folder) : ".");
    for (const struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        if (is_temp_of(e->d_name, name)) remove_if_left(dirfd(d), e->d_name);
    }
    if (d != NULL) closedir(d);
    exo_buf_finish(&folder);
    return EXO_OK;
}

/* ---- the file ---- */

/* Creates and locks; again where another process took it for left before it was locked. */
static int create_locked(const char *path) {
    struct stat s;
    for (int tries = 0; tries < 3; tries++) {
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        if (fd < 0) return fd;
        (void)flock(fd, LOCK_EX | LOCK_NB); /* not every file system has locks */
        if (fstat(fd, &s) == 0 && s.st_nlink > 0) return fd;
        close(fd);
    }
    errno = EAGAIN;
    return -1;
}

exo_status exo_out_file_begin(exo_out_file *o, const char *path, uint64_t total, exo_error *err) {
    o->path = path;
    o->total = total;
    o->done = 0;
    exo_status st = check_target(path, err);
    if (st == EXO_OK) st = remove_left(path, err);
    if (st != EXO_OK) return st;
    o->temp = (exo_buf){0};
    exo_buf_printf(&o->temp, "%s.%ld.tmp", path, (long)getpid());
    if (!exo_buf_ok(&o->temp)) {
        exo_buf_finish(&o->temp);
        return exo_error_set(err, EXO_ENOMEM, "out of memory for a path");
    }
    o->fd = create_locked(o->temp.data);
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
