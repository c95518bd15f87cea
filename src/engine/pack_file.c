/* pack_file.c - see pack_file.h.
 *
 * A file is opened without following links and only when it is the user's own.  Written in pieces
 * of 8 MiB, which is what makes the system keep it in large pages. */
#define _DEFAULT_SOURCE /* madvise, futimens */
#include "engine/pack_file.h"

#include "base/clock.h"
#include "base/host.h"
#include "base/le.h"
#include "base/map_guard.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define WRITE_BYTES ((size_t)8 << 20)
#define PROBE_BYTES ((size_t)4 << 20)
#define SPARE_BYTES ((uint64_t)1 << 30) /* left free on the disk */
#define MAX_FILES   65536
#define TIME_STEP_S 2.0    /* a file's time may be so much earlier than when it was used */
#define STALE_S     3600.0 /* an unfinished file that nobody writes any more */
#define TEMPORARY   ".tmp-"

/* ---- the trailer ---- */

static const uint8_t magic[8] = {'E', 'X', 'O', 'P', 'A', 'C', 'K', '1'};

void exo_pack_trailer_write(const exo_pack_key *k, uint64_t n_bytes, uint64_t sum,
                            uint8_t out[EXO_PACK_TRAILER_BYTES]) {
    memcpy(out, magic, sizeof magic);
    exo_put_u32(out + 8, k->layout);
    exo_put_u32(out + 12, k->type);
    exo_put_u32(out + 16, k->n_rows);
    exo_put_u32(out + 20, k->n_cols);
    exo_put_u64(out + 24, n_bytes);
    exo_put_u64(out + 32, sum);
    memcpy(out + 40, k->content, EXO_SHA256_BYTES);
    exo_put_u64(out + 72, exo_hash64(out, 72, 0));
}

exo_status exo_pack_trailer_read(const uint8_t bytes[EXO_PACK_TRAILER_BYTES], const exo_pack_key *k,
                                 uint64_t file_bytes, uint64_t *sum, exo_error *err) {
    *sum = 0;
    uint64_t n_bytes = exo_get_u64(bytes + 24);
    bool whole = memcmp(bytes, magic, sizeof magic) == 0 &&
                 exo_get_u64(bytes + 72) == exo_hash64(bytes, 72, 0);
    bool same = exo_get_u32(bytes + 8) == k->layout && exo_get_u32(bytes + 12) == k->type &&
                exo_get_u32(bytes + 16) == k->n_rows && exo_get_u32(bytes + 20) == k->n_cols &&
                memcmp(bytes + 40, k->content, EXO_SHA256_BYTES) == 0;
    bool fits =
        file_bytes >= EXO_PACK_TRAILER_BYTES && n_bytes == file_bytes - EXO_PACK_TRAILER_BYTES;
    if (!whole || !same || !fits) {
        return exo_error_set(err, EXO_EFORMAT, "its trailer is %s",
                             !whole ? "damaged"
                             : same ? "another length's"
                                    : "another matrix's");
    }
    *sum = exo_get_u64(bytes + 32);
    return EXO_OK;
}

/* ---- names ---- */

void exo_pack_name(const exo_pack_key *k, char out[EXO_PACK_NAME_BYTES]) {
    char hex[EXO_SHA256_HEX_BYTES];
    exo_hex(k->content, sizeof k->content, hex);
    snprintf(out, EXO_PACK_NAME_BYTES, "%s-%u-%ux%u-%u" EXO_PACK_SUFFIX, hex, k->type, k->n_rows,
             k->n_cols, k->layout);
}

static bool path_of(const char *dir, const char *name, char out[EXO_PACK_PATH_BYTES]) {
    int n = snprintf(out, EXO_PACK_PATH_BYTES, "%s/%s", dir, name);
    return n > 0 && n < EXO_PACK_PATH_BYTES;
}

static bool key_path(const char *dir, const exo_pack_key *k, char out[EXO_PACK_PATH_BYTES]) {
    char name[EXO_PACK_NAME_BYTES];
    exo_pack_name(k, name);
    return path_of(dir, name, out);
}

/* ---- reading ---- */

/* The user's own plain file of that name; -1 with errno. */
static int open_own(const char *path, struct stat *st) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return -1;
    if (fstat(fd, st) == 0 && S_ISREG(st->st_mode) && st->st_uid == geteuid()) return fd;
    close(fd);
    errno = EPERM;
    return -1;
}

static exo_status map_fd(int fd, const exo_pack_key *k, uint64_t file_bytes, exo_pack_map *out,
                         exo_error *err) {
    uint8_t trailer[EXO_PACK_TRAILER_BYTES];
    uint64_t sum;
    if (file_bytes <= sizeof trailer || file_bytes > SIZE_MAX) {
        return exo_error_set(err, EXO_EFORMAT, "it has %llu bytes", (unsigned long long)file_bytes);
    }
    size_t n = (size_t)file_bytes - sizeof trailer;
    if (pread(fd, trailer, sizeof trailer, (off_t)n) != (ssize_t)sizeof trailer) {
        return exo_error_set(err, EXO_EIO, "it cannot be read");
    }
    exo_status st = exo_pack_trailer_read(trailer, k, file_bytes, &sum, err);
    if (st != EXO_OK) return st;
    void *p = mmap(NULL, (size_t)file_bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) return exo_error_set(err, EXO_EIO, "cannot map: %s", strerror(errno));
    *out = (exo_pack_map){.bytes = p, .n_bytes = n, .n_mapped = (size_t)file_bytes, .sum = sum};
    exo_map_guard_add(out->bytes, out->n_mapped);
#ifdef MADV_HUGEPAGE
    (void)madvise(p, out->n_mapped, MADV_HUGEPAGE); /* how a cold file is read: 2 MiB at a time */
#endif
    return EXO_OK;
}

exo_status exo_pack_open(const char *dir, const exo_pack_key *k, exo_pack_map *out,
                         exo_error *err) {
    char path[EXO_PACK_PATH_BYTES];
    struct stat info;
    *out = (exo_pack_map){0};
    if (!key_path(dir, k, path)) return exo_error_set(err, EXO_EINVAL, "the path is too long");
    int fd = open_own(path, &info);
    if (fd < 0) {
        return exo_error_set(err, errno == ENOENT ? EXO_ENOTFOUND : EXO_EIO, "%s", strerror(errno));
    }
    exo_status st = map_fd(fd, k, (uint64_t)info.st_size, out, err);
    if (st == EXO_OK) (void)futimens(fd, NULL);
    close(fd);
    return st;
}

void exo_pack_close(exo_pack_map *m) {
    if (m->bytes != NULL) {
        exo_map_guard_remove(m->bytes);
        munmap((void *)m->bytes, m->n_mapped);
    }
    *m = (exo_pack_map){0};
}

bool exo_pack_touch(const char *dir, const exo_pack_key *k) {
    char path[EXO_PACK_PATH_BYTES];
    return key_path(dir, k, path) && utimensat(AT_FDCWD, path, NULL, AT_SYMLINK_NOFOLLOW) == 0;
}

void exo_pack_remove(const char *dir, const exo_pack_key *k) {
    char path[EXO_PACK_PATH_BYTES];
    if (key_path(dir, k, path)) (void)unlink(path);
}

/* ---- writing ---- */

static exo_status write_all(int fd, const uint8_t *bytes, size_t n, const atomic_bool *stop,
                            exo_error *err) {
    for (size_t at = 0; at < n;) {
        if (stop != NULL && atomic_load(stop)) return exo_error_set(err, EXO_ECANCELED, "stopped");
        ssize_t k = write(fd, bytes + at, n - at < WRITE_BYTES ? n - at : WRITE_BYTES);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) {
            return exo_error_set(err, EXO_EIO, "%s", strerror(k < 0 ? errno : ENOSPC));
        }
        at += (size_t)k;
    }
    return EXO_OK;
}

/* A new file beside the others; *fd -1 on failure. */
static exo_status make_temporary(const char *dir, char path[EXO_PACK_PATH_BYTES], int *fd,
                                 exo_error *err) {
    *fd = -1;
    if (!path_of(dir, TEMPORARY "XXXXXX", path)) {
        return exo_error_set(err, EXO_EINVAL, "the path is too long");
    }
    *fd = mkstemp(path);
    return *fd >= 0 ? EXO_OK : exo_error_set(err, EXO_EIO, "%s", strerror(errno));
}

exo_status exo_pack_write(const char *dir, const exo_pack_key *k, const void *bytes, size_t n,
                          const atomic_bool *stop, exo_error *err) {
    char path[EXO_PACK_PATH_BYTES], temporary[EXO_PACK_PATH_BYTES];
    uint8_t trailer[EXO_PACK_TRAILER_BYTES];
    int fd;
    if (!key_path(dir, k, path)) return exo_error_set(err, EXO_EINVAL, "the path is too long");
    exo_status st = make_temporary(dir, temporary, &fd, err);
    if (st != EXO_OK) return st;
    st = write_all(fd, bytes, n, stop, err);
    if (st == EXO_OK) {
        exo_pack_trailer_write(k, n, exo_packed_sum(bytes, n), trailer);
        st = write_all(fd, trailer, sizeof trailer, stop, err);
    }
    if (close(fd) != 0 && st == EXO_OK) st = exo_error_set(err, EXO_EIO, "%s", strerror(errno));
    if (st == EXO_OK && rename(temporary, path) != 0) {
        st = exo_error_set(err, EXO_EIO, "%s", strerror(errno));
    }
    if (st != EXO_OK) (void)unlink(temporary);
    return st;
}

bool exo_pack_large_pages(const char *dir) {
    char path[EXO_PACK_PATH_BYTES];
    int fd;
    size_t large = 0;
    exo_error err;
    uint8_t *zeros = exo_calloc(1, PROBE_BYTES);
    if (zeros == NULL || make_temporary(dir, path, &fd, &err) != EXO_OK) {
        exo_free(zeros);
        return false;
    }
    (void)unlink(path);
    bool ok = write_all(fd, zeros, PROBE_BYTES, NULL, &err) == EXO_OK;
    exo_free(zeros);
    void *p = ok ? mmap(NULL, PROBE_BYTES, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (p != MAP_FAILED) {
        exo_map_guard_add(p, PROBE_BYTES);
        (void)exo_hash64(p, PROBE_BYTES, 0); /* touched: pages are seen once they are mapped */
        (void)exo_host_large_bytes(p, PROBE_BYTES, &large);
        exo_map_guard_remove(p);
        munmap(p, PROBE_BYTES);
    }
    close(fd);
    return large > 0;
}

/* ---- room ---- */

typedef struct {
    char name[EXO_PACK_NAME_BYTES];
    uint64_t bytes;
    double used; /* seconds since 1970 */
} kept;

typedef struct {
    kept *files;
    size_t n, cap;
    uint64_t bytes;
} kept_list;

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), k = strlen(end);
    return n >= k && strcmp(s + n - k, end) == 0;
}

static void list_file(const char *dir, const char *name, kept_list *l) {
    char path[EXO_PACK_PATH_BYTES];
    struct stat st;
    bool temporary = strncmp(name, TEMPORARY, strlen(TEMPORARY)) == 0;
    if (!temporary && !ends_with(name, EXO_PACK_SUFFIX)) return;
    if (strlen(name) >= EXO_PACK_NAME_BYTES || l->n >= MAX_FILES) return;
    if (!path_of(dir, name, path) || lstat(path, &st) != 0 || !S_ISREG(st.st_mode)) return;
    double used = (double)st.st_mtime;
    if (temporary && used + STALE_S < exo_unix_time()) {
        (void)unlink(path);
        return;
    }
    l->bytes += (uint64_t)st.st_size;
    if (temporary) return;
    if (exo_grow((void **)&l->files, &l->cap, l->n + 1, sizeof *l->files) != 0) return;
    kept *k = &l->files[l->n++];
    snprintf(k->name, sizeof k->name, "%s", name);
    k->bytes = (uint64_t)st.st_size;
    k->used = used;
}

static int by_use(const void *a, const void *b) {
    double x = ((const kept *)a)->used, y = ((const kept *)b)->used;
    return (x > y) - (x < y);
}

static bool disk_has(const char *dir, uint64_t need) {
    struct statvfs fs;
    if (statvfs(dir, &fs) != 0) return true;
    uint64_t left = (uint64_t)fs.f_bavail * fs.f_frsize;
    uint64_t tenth = (uint64_t)fs.f_blocks * fs.f_frsize / 10;
    uint64_t spare = tenth < SPARE_BYTES ? tenth : SPARE_BYTES;
    return left >= need && left - need >= spare;
}

bool exo_pack_make_room(const char *dir, uint64_t need, uint64_t cap, double since) {
    char path[EXO_PACK_PATH_BYTES];
    kept_list l = {0};
    DIR *d = opendir(dir);
    if (d == NULL) return false;
    for (struct dirent *e; (e = readdir(d)) != NULL;) list_file(dir, e->d_name, &l);
    closedir(d);
    if (l.n > 1) qsort(l.files, l.n, sizeof *l.files, by_use);
    bool fits = need <= cap;
    for (size_t i = 0; fits; i++) {
        bool enough = l.bytes <= cap - need && disk_has(dir, need);
        if (enough) break;
        if (i == l.n || l.files[i].used + TIME_STEP_S > since) fits = false;
        if (!fits || !path_of(dir, l.files[i].name, path) || unlink(path) != 0) continue;
        l.bytes -= l.files[i].bytes;
    }
    exo_free(l.files);
    return fits;
}
