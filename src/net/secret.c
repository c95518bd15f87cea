/* secret.c - private files: reading with suspicion, writing beside and renaming, locks. */
#define _DEFAULT_SOURCE
#include "net/secret.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK_RETRY_US 10000

exo_status exo_secret_directory(const char *path, exo_error *err) {
    if (*path == '\0') return exo_error_set(err, EXO_EINVAL, "the data directory has no name");
    char *part = exo_strdup(path);
    if (part == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for a path");
    exo_status st = EXO_OK;
    for (char *slash = part + 1; st == EXO_OK; slash++) {
        bool last = *slash == '\0';
        if (*slash != '/' && !last) continue;
        *slash = '\0';
        if (mkdir(part, 0700) != 0 && errno != EEXIST && errno != EROFS) {
            st = exo_error_set(err, EXO_EIO, "cannot make the directory %s: %s", part,
                               strerror(errno));
        }
        if (last) break;
        *slash = '/';
    }
    exo_free(part);
    return st;
}

static exo_status path_of(const char *dir, const char *name, const char *suffix, exo_buf *out,
                          exo_error *err) {
    exo_buf_printf(out, "%s/%s%s", dir, name, suffix);
    return exo_buf_ok(out) ? EXO_OK : exo_error_set(err, EXO_ENOMEM, "no memory for a path");
}

static exo_status check_file(int fd, const char *path, const char *what, exo_error *err) {
    struct stat info;
    if (fstat(fd, &info) != 0) {
        return exo_error_set(err, EXO_EIO, "%s: %s", path, strerror(errno));
    }
    if (!S_ISREG(info.st_mode)) {
        return exo_error_set(err, EXO_EAUTH, "%s is not a regular file", path);
    }
    if ((info.st_mode & 077) == 0) return EXO_OK;
    return exo_error_set(err, EXO_EAUTH,
                         "%s can be read by others (mode %03o); %s is in it. If nobody has copied "
                         "it: chmod 600 %s",
                         path, (unsigned)info.st_mode & 0777, what, path);
}

static exo_status read_fd(int fd, const char *path, size_t limit, exo_buf *out, exo_error *err) {
    char chunk[4096];
    for (;;) {
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n == 0) break;
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            return exo_error_set(err, EXO_EIO, "cannot read %s: %s", path, strerror(errno));
        }
        if (out->n + (size_t)n > limit) {
            return exo_error_set(err, EXO_EFORMAT, "%s is longer than %zu bytes", path, limit);
        }
        exo_buf_append(out, chunk, (size_t)n);
    }
    return exo_buf_ok(out) ? EXO_OK : exo_error_set(err, EXO_ENOMEM, "no memory for %s", path);
}

exo_status exo_secret_read(const char *dir, const char *name, const char *what, size_t limit,
                           exo_buf *out, exo_error *err) {
    exo_buf path = {0};
    exo_status st = path_of(dir, name, "", &path, err);
    int fd = -1;
    if (st == EXO_OK) {
        fd = open(path.data, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0 && errno == ENOENT) {
            st = EXO_ENOTFOUND;
        } else if (fd < 0) {
            st = exo_error_set(err, EXO_EIO, "cannot open %s: %s", path.data, strerror(errno));
        }
    }
    if (st == EXO_OK) st = check_file(fd, path.data, what, err);
    if (st == EXO_OK) st = read_fd(fd, path.data, limit, out, err);
    if (fd >= 0) close(fd);
    exo_buf_finish(&path);
    return st;
}

static bool write_whole(int fd, const char *bytes, size_t n) {
    while (n > 0) {
        ssize_t w = write(fd, bytes, n);
        if (w < 0 && errno == EINTR) continue;
        if (w <= 0) return false;
        bytes += w;
        n -= (size_t)w;
    }
    return fsync(fd) == 0;
}

static exo_status write_new(const char *path, const void *bytes, size_t n, exo_error *err) {
    unlink(path); /* of a writer that did not end well */
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return exo_error_set(err, EXO_EIO, "cannot make %s: %s", path, strerror(errno));
    bool whole = write_whole(fd, bytes, n);
    int why = errno;
    if (close(fd) != 0 && whole) {
        whole = false;
        why = errno;
    }
    if (whole) return EXO_OK;
    unlink(path);
    return exo_error_set(err, EXO_EIO, "cannot write %s: %s", path, strerror(why));
}

exo_status exo_secret_write(const char *dir, const char *name, const void *bytes, size_t n,
                            exo_error *err) {
    exo_buf path = {0}, fresh = {0};
    exo_status st = path_of(dir, name, "", &path, err);
    if (st == EXO_OK) st = path_of(dir, name, ".new", &fresh, err);
    if (st == EXO_OK) st = write_new(fresh.data, bytes, n, err);
    if (st == EXO_OK && rename(fresh.data, path.data) != 0) {
        st = exo_error_set(err, EXO_EIO, "cannot write %s: %s", path.data, strerror(errno));
        unlink(fresh.data);
    }
    exo_buf_finish(&path);
    exo_buf_finish(&fresh);
    return st;
}

uint64_t exo_secret_stamp(const char *dir, const char *name) {
    char path[1200];
    struct stat s;
    int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    if (n < 0 || (size_t)n >= sizeof path || stat(path, &s) != 0) return 0;
    uint64_t parts[4] = {(uint64_t)s.st_mtime, (uint64_t)s.st_ino, (uint64_t)s.st_size, 1};
#ifdef __linux__
    parts[3] = (uint64_t)s.st_mtim.tv_nsec;
#endif
    return exo_hash64(parts, sizeof parts, 0);
}

exo_status exo_secret_lock(const char *dir, const char *name, uint32_t wait_ms, int *fd,
                           exo_error *err) {
    *fd = -1;
    exo_buf path = {0};
    exo_status st = path_of(dir, name, "", &path, err);
    int f = st == EXO_OK ? open(path.data, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (st == EXO_OK && f < 0) {
        st = exo_error_set(err, EXO_EIO, "cannot open %s: %s", path.data, strerror(errno));
    }
    uint64_t deadline = exo_now_ms() + wait_ms;
    while (st == EXO_OK && flock(f, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR) {
            st = exo_error_set(err, EXO_EIO, "cannot lock %s: %s", path.data, strerror(errno));
        } else if (exo_now_ms() >= deadline) {
            st = exo_error_set(err, EXO_EBUSY, "%s is held by another exo process", path.data);
        } else {
            usleep(LOCK_RETRY_US);
        }
    }
    if (st == EXO_OK) {
        *fd = f;
    } else if (f >= 0) {
        close(f);
    }
    exo_buf_finish(&path);
    return st;
}
