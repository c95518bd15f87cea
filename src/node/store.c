/* store.c - see store.h.
 *
 * Removing walks one level of folders and never follows a link: a models folder holds files and
 * folders of files. */
#define _DEFAULT_SOURCE /* flock */
#include "node/store.h"

#include "base/buf.h"
#include "base/mem.h"
#include "model/model.h"
#include "model/paths.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define NOTE        "pull.json"
#define SPARE_BYTES (64ull << 20) /* left free on the disk */
#define LOCK_TRIES  100

/* ---- paths ---- */

exo_status exo_store_path(const char *dir, const char *name, const char *suffix,
                          char out[EXO_STORE_PATH_BYTES], exo_error *err) {
    int n = snprintf(out, EXO_STORE_PATH_BYTES, "%s/%s%s", dir, name, suffix);
    if (n > 0 && n < EXO_STORE_PATH_BYTES) return EXO_OK;
    return exo_error_set(err, EXO_EINVAL, "the path of %.100s is too long", name);
}

/* One part of a path that names no other folder. */
static bool is_id(const char *id) {
    return id[0] != '\0' && id[0] != '.' && strchr(id, '/') == NULL &&
           strlen(id) < EXO_HUB_ID_BYTES;
}

static exo_status make_dir(const char *path, exo_error *err) {
    if (mkdir(path, 0755) == 0 || errno == EEXIST) return EXO_OK;
    return exo_error_set(err, EXO_EIO,
                         "cannot make the folder %s: %s; set EXO_HOME to one that "
                         "can be written",
                         exo_path_tail(path), strerror(errno));
}

static exo_status set_paths(const char *data_dir, const char *id, exo_store *s, exo_error *err) {
    *s = (exo_store){.lock = -1};
    if (!is_id(id)) return exo_error_set(err, EXO_EINVAL, "\"%.64s\" is not a model id", id);
    int a = snprintf(s->models, sizeof s->models, "%s/models", data_dir);
    int b = snprintf(s->staging, sizeof s->staging, "%s/.pull/%s", s->models, id);
    snprintf(s->id, sizeof s->id, "%s", id);
    if (a > 0 && (size_t)a < sizeof s->models && b > 0 && (size_t)b < sizeof s->staging) {
        return EXO_OK;
    }
    return exo_error_set(err, EXO_EINVAL, "the data directory's path is too long");
}

/* ---- the lock ---- */

/* The lock file is removed by who gives it back, so what was locked may be gone by then. */
static bool is_current(int fd, const char *path) {
    struct stat a, b;
    return fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_ino == b.st_ino &&
           a.st_dev == b.st_dev;
}

/* Holds the lock file of s; *busy when somebody else does. */
static exo_status take_lock(exo_store *s, bool *busy, exo_error *err) {
    char path[EXO_STORE_PATH_BYTES];
    *busy = false;
    exo_status st = exo_store_path(s->staging, "", "", path, err);
    if (st != EXO_OK) return st;
    snprintf(path, sizeof path, "%s.lock", s->staging);
    for (int i = 0; i < LOCK_TRIES; i++) {
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        if (fd < 0) break;
        if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
            *busy = errno == EWOULDBLOCK;
            close(fd);
            break;
        }
        if (is_current(fd, path)) {
            s->lock = fd;
            return EXO_OK;
        }
        close(fd);
    }
    if (*busy) {
        return exo_error_set(err, EXO_EBUSY,
                             "another process is pulling or removing %.64s: wait "
                             "for it",
                             s->id);
    }
    return exo_error_set(err, EXO_EIO, "cannot lock %s: %s", exo_path_tail(path), strerror(errno));
}

static void give_lock(exo_store *s) {
    char path[EXO_STORE_PATH_BYTES];
    if (s->lock < 0) return;
    snprintf(path, sizeof path, "%s.lock", s->staging);
    unlink(path);
    close(s->lock);
    s->lock = -1;
}

/* Makes data_dir itself with its parents: it may be the first thing exo ever does here. */
static exo_status make_parents(const char *data_dir, exo_error *err) {
    char path[EXO_STORE_PATH_BYTES];
    exo_status st = EXO_OK;
    int n = snprintf(path, sizeof path, "%s/", data_dir);
    if (n < 0 || (size_t)n >= sizeof path) return EXO_OK; /* set_paths has refused it */
    for (char *c = path + 1; *c != '\0' && st == EXO_OK; c++) {
        if (*c != '/') continue;
        *c = '\0';
        st = make_dir(path, err);
        *c = '/';
    }
    return st;
}

exo_status exo_store_open(const char *data_dir, const char *id, exo_store *out, exo_error *err) {
    char pull[EXO_STORE_PATH_BYTES];
    bool busy;
    exo_status st = set_paths(data_dir, id, out, err);
    if (st == EXO_OK) st = make_parents(data_dir, err);
    if (st == EXO_OK) st = make_dir(out->models, err);
    if (st == EXO_OK) st = exo_store_path(out->models, ".pull", "", pull, err);
    if (st == EXO_OK) st = make_dir(pull, err);
    if (st == EXO_OK) st = take_lock(out, &busy, err);
    if (st == EXO_OK) st = make_dir(out->staging, err);
    if (st != EXO_OK) exo_store_close(out);
    return st;
}

void exo_store_close(exo_store *s) {
    if (s->lock < 0) return;
    char path[EXO_STORE_PATH_BYTES];
    rmdir(s->staging); /* only when it is empty */
    give_lock(s);
    if (exo_store_path(s->models, ".pull", "", path, NULL) == EXO_OK) rmdir(path);
}

/* ---- a pull under way ---- */

exo_status exo_store_note(const exo_store *s, const char *ref, uint64_t bytes, exo_error *err) {
    char path[EXO_STORE_PATH_BYTES];
    exo_status st = exo_store_path(s->staging, NOTE, "", path, err);
    if (st != EXO_OK) return st;
    json_t *note = json_pack("{s:s, s:I}", "ref", ref, "bytes", (json_int_t)bytes);
    if (note == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for a pull");
    if (json_dump_file(note, path, JSON_COMPACT) != 0) {
        st = exo_error_set(err, EXO_EIO, "cannot write %s: %s", exo_path_tail(path),
                           strerror(errno));
    }
    json_decref(note);
    return st;
}

/* Bytes on disk of the files in dir; a part file is sparse, so its blocks count. */
static uint64_t dir_bytes(const char *dir) {
    uint64_t bytes = 0;
    char path[EXO_STORE_PATH_BYTES];
    DIR *d = opendir(dir);
    if (d == NULL) return 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        struct stat st;
        if (e->d_name[0] == '.' || exo_store_path(dir, e->d_name, "", path, NULL) != EXO_OK) {
            continue;
        }
        if (lstat(path, &st) != 0 || !S_ISREG(st.st_mode)) continue;
        uint64_t blocks = (uint64_t)st.st_blocks * 512, size = (uint64_t)st.st_size;
        bytes += blocks < size ? blocks : size;
    }
    closedir(d);
    return bytes;
}

uint64_t exo_store_staged_bytes(const exo_store *s) { return dir_bytes(s->staging); }

exo_status exo_store_check_space(const exo_store *s, uint64_t bytes, exo_error *err) {
    struct statvfs fs;
    if (statvfs(s->models, &fs) != 0) return EXO_OK;
    uint64_t left = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (left >= SPARE_BYTES && left - SPARE_BYTES >= bytes) return EXO_OK;
    return exo_error_set(err, EXO_EIO,
                         "%.64s needs %.2f GB more, but only %.2f GB are free in %s: make room, or "
                         "set EXO_HOME to another disk",
                         s->id, (double)bytes / 1e9, (double)left / 1e9, exo_path_tail(s->models));
}

exo_status exo_store_make_folder(const exo_store *s, const char *name, exo_error *err) {
    char path[EXO_STORE_PATH_BYTES];
    exo_status st = exo_store_path(s->staging, name, "", path, err);
    if (st != EXO_OK || strchr(name, '/') == NULL) return st;
    *strrchr(path, '/') = '\0';
    return make_dir(path, err);
}

static exo_status rename_file(const char *from, const char *to, exo_error *err) {
    if (rename(from, to) == 0) return EXO_OK;
    return exo_error_set(err, EXO_EIO, "cannot rename to %s: %s", exo_path_tail(to),
                         strerror(errno));
}

exo_status exo_store_publish(const exo_store *s, const exo_hub_choice *c, exo_error *err) {
    char from[EXO_STORE_PATH_BYTES], to[EXO_STORE_PATH_BYTES];
    if (exo_store_path(s->staging, NOTE, "", from, err) == EXO_OK) unlink(from);
    exo_status st = EXO_OK;
    if (c->folder) {
        st = exo_store_path(s->models, c->id, "", to, err);
        return st == EXO_OK ? rename_file(s->staging, to, err) : st;
    }
    for (size_t i = c->n; i-- > 0 && st == EXO_OK;) { /* the first part makes it a model */
        const char *name = exo_hub_base_name(c->files[i]->path);
        st = exo_store_path(s->staging, name, "", from, err);
        if (st == EXO_OK) st = exo_store_path(s->models, name, "", to, err);
        if (st == EXO_OK) st = rename_file(from, to, err);
    }
    return st;
}

/* ---- removing ---- */

/* Of a folder of exo's own making, whose folders hold files only. */
static void remove_files(const char *dir, bool folders) {
    char path[EXO_STORE_PATH_BYTES];
    DIR *d = opendir(dir);
    if (d == NULL) return;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        struct stat s;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        if (exo_store_path(dir, e->d_name, "", path, NULL) != EXO_OK) continue;
        if (folders && lstat(path, &s) == 0 && S_ISDIR(s.st_mode)) {
            remove_files(path, false);
            rmdir(path);
        } else {
            unlink(path);
        }
    }
    closedir(d);
}

void exo_store_discard(const exo_store *s) { remove_files(s->staging, true); }

static exo_status remove_one(const char *path, exo_error *err) {
    struct stat st;
    if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        remove_files(path, true);
        if (rmdir(path) == 0) return EXO_OK;
    } else if (unlink(path) == 0) {
        return EXO_OK;
    }
    return exo_error_set(err, EXO_EIO, "cannot remove %s: %s", exo_path_tail(path),
                         strerror(errno));
}

/* All parts, the first one last: until then it is a model that says what it lacks. */
static exo_status remove_parts(const char *path, exo_error *err) {
    exo_split_name split;
    char part[EXO_STORE_PATH_BYTES];
    if (!exo_path_split(path, &split)) return remove_one(path, err);
    exo_status st = EXO_OK;
    for (uint32_t i = split.count; i >= 1 && st == EXO_OK; i--) {
        snprintf(part, sizeof part, "%.*s-%05u-of-%05u.gguf", (int)split.stem_n, path, i,
                 split.count);
        struct stat s;
        if (lstat(part, &s) == 0) st = remove_one(part, err);
    }
    return st;
}

static exo_status remove_model(const exo_store *s, const char *id, bool *any, exo_error *err) {
    char path[EXO_STORE_PATH_BYTES];
    size_t n = strlen(s->models);
    *any = exo_models_resolve(id, NULL, path, sizeof path, NULL) == EXO_OK;
    if (*any && strcmp(path, "tiny") == 0) {
        return exo_error_set(err, EXO_EINVAL, "tiny is built into exo: it cannot be removed");
    }
    if (*any) {
        return exo_error_set(err, EXO_EINVAL,
                             "%.64s is %s, which exo did not put there: remove it "
                             "by hand",
                             id, exo_path_tail(path));
    }
    char data_dir[EXO_STORE_PATH_BYTES];
    snprintf(data_dir, sizeof data_dir, "%.*s", (int)(n - strlen("/models")), s->models);
    *any = exo_models_resolve(id, data_dir, path, sizeof path, NULL) == EXO_OK;
    return *any ? remove_parts(path, err) : EXO_OK;
}

exo_status exo_store_remove(const char *data_dir, const char *id, exo_error *err) {
    exo_store s;
    struct stat info;
    bool any = false, busy = false, partial;
    exo_status st = set_paths(data_dir, id, &s, err);
    if (st != EXO_OK) return st;
    partial = stat(s.staging, &info) == 0;
    if (partial) {
        st = take_lock(&s, &busy, err);
        if (st != EXO_OK) return st;
        exo_store_discard(&s);
        exo_store_close(&s);
    }
    st = remove_model(&s, id, &any, err);
    if (st == EXO_OK && !any && !partial) {
        st = exo_error_set(err, EXO_ENOTFOUND,
                           "model \"%.64s\" not found: exo models lists what "
                           "there is",
                           id);
    }
    return st;
}

/* ---- listing ---- */

/* What the pieces of FILE.part amount to. */
static uint64_t part_done(const char *state_path) {
    uint64_t done = 0;
    size_t i;
    json_t *state = json_load_file(state_path, 0, NULL), *v;
    json_array_foreach(json_object_get(state, "done"), i, v) {
        if (json_is_integer(v) && json_integer_value(v) > 0)
            done += (uint64_t)json_integer_value(v);
    }
    json_decref(state);
    return done;
}

static uint64_t done_bytes(const char *dir) {
    uint64_t bytes = 0;
    char path[EXO_STORE_PATH_BYTES];
    DIR *d = opendir(dir);
    if (d == NULL) return 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        struct stat st;
        size_t n = strlen(e->d_name);
        if (exo_store_path(dir, e->d_name, "", path, NULL) != EXO_OK) continue;
        bool part = n > 5 && strcmp(e->d_name + n - 5, ".part") == 0;
        bool state = n > 10 && strcmp(e->d_name + n - 10, ".part.json") == 0;
        if (state) bytes += part_done(path);
        if (part || state || strcmp(e->d_name, NOTE) == 0) continue;
        if (stat(path, &st) == 0 && S_ISREG(st.st_mode)) bytes += (uint64_t)st.st_size;
    }
    closedir(d);
    return bytes;
}

static void tell_partial(const char *data_dir, const char *id, exo_partial_fn fn, void *ud) {
    exo_store s;
    char path[EXO_STORE_PATH_BYTES];
    exo_error err;
    bool busy;
    struct stat info;
    if (set_paths(data_dir, id, &s, NULL) != EXO_OK || stat(s.staging, &info) != 0) return;
    if (!S_ISDIR(info.st_mode)) return;
    if (exo_store_path(s.staging, NOTE, "", path, NULL) != EXO_OK) return;
    json_t *note = json_load_file(path, 0, NULL);
    const char *ref = json_string_value(json_object_get(note, "ref"));
    json_int_t total = json_integer_value(json_object_get(note, "bytes"));
    bool active = take_lock(&s, &busy, &err) != EXO_OK && busy;
    give_lock(&s);
    exo_partial p = {.id = id,
                     .ref = ref != NULL ? ref : "",
                     .path = s.staging,
                     .done_bytes = done_bytes(s.staging),
                     .total_bytes = total > 0 ? (uint64_t)total : 0,
                     .active = active};
    fn(ud, &p);
    json_decref(note);
}

void exo_store_partials(const char *data_dir, exo_partial_fn fn, void *ud) {
    char path[EXO_STORE_PATH_BYTES];
    int n = snprintf(path, sizeof path, "%s/models/.pull", data_dir);
    DIR *d = n > 0 && (size_t)n < sizeof path ? opendir(path) : NULL;
    if (d == NULL) return;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (is_id(e->d_name)) tell_partial(data_dir, e->d_name, fn, ud);
    }
    closedir(d);
}
