/* verdict.c - a subject's verdict and marker on disk.
 *
 * Files are replaced by rename, and the marker is synced before the trial it announces: a driver
 * may take the machine down with it.  A file that is damaged, or that exo would not have written,
 * counts as absent: the verdict carries a hash of itself, and its figures and names are checked. */
#define _DEFAULT_SOURCE /* flock, sigaction */
#include "base/buf.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "compute/vulkan/probe_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define RECORD_VERSION   2
#define MAX_RECORD_BYTES (256u << 10)
#define MAX_FIGURE       1e9 /* GB/s or GFLOP/s */

typedef struct {
    char text[600];
} path;

static path path_of(const exo_vk_record *r, const char *suffix) {
    path p;
    (void)snprintf(p.text, sizeof p.text, "%s/%s%s", r->dir, r->key, suffix);
    return p;
}

/* mkdir -p */
static bool make_dirs(const char *dir) {
    char part[512];
    (void)snprintf(part, sizeof part, "%s", dir);
    for (char *p = part + 1; *p != '\0'; p++) {
        if (*p != '/') continue;
        *p = '\0';
        if (mkdir(part, 0700) != 0 && errno != EEXIST) return false;
        *p = '/';
    }
    return mkdir(part, 0700) == 0 || errno == EEXIST;
}

exo_status exo_vk_record_init(exo_vk_record *r, const char *dir, const char *subject,
                              exo_error *err) {
    const char *home = getenv("EXO_HOME"), *user = getenv("HOME");
    int n;
    if (dir != NULL)
        n = snprintf(r->dir, sizeof r->dir, "%s", dir);
    else if (home != NULL)
        n = snprintf(r->dir, sizeof r->dir, "%s/vulkan", home);
    else
        n = snprintf(r->dir, sizeof r->dir, "%s/.exo/vulkan", user != NULL ? user : "");
    r->trial_s = 0;
    r->lock = -1;
    if (n < 0 || (size_t)n >= sizeof r->dir) {
        return exo_error_set(err, EXO_EINVAL, "the Vulkan cache directory's name is too long");
    }
    (void)snprintf(r->key, sizeof r->key, "%016llx",
                   (unsigned long long)exo_hash64(subject, strlen(subject), 0));
    (void)make_dirs(r->dir); /* whoever writes says why it cannot */
    return EXO_OK;
}

/* ---- files ---- */

static exo_status write_file(const path *p, const char *bytes, size_t n, exo_error *err) {
    char fresh[640];
    (void)snprintf(fresh, sizeof fresh, "%s.%ld", p->text, (long)getpid());
    int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool good = fd >= 0 && write(fd, bytes, n) == (ssize_t)n && fsync(fd) == 0;
    if (fd >= 0 && close(fd) != 0) good = false;
    if (good && rename(fresh, p->text) == 0) return EXO_OK;
    exo_error_set(err, EXO_EIO, "cannot write %s: %s", p->text, strerror(errno));
    (void)unlink(fresh);
    return EXO_EIO;
}

/* The whole file as a string of *length bytes; NULL when absent, too large or out of memory. */
static char *read_file(const path *p, size_t limit, size_t *length) {
    int fd = open(p->text, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return NULL;
    char *text = exo_malloc(limit + 1);
    size_t n = 0;
    ssize_t got = text != NULL ? 1 : 0;
    while (got > 0 && n < limit) {
        got = read(fd, text + n, limit - n);
        if (got > 0) n += (size_t)got;
    }
    (void)close(fd);
    if (text == NULL || got != 0) {
        exo_free(text);
        return NULL;
    }
    text[n] = '\0';
    *length = n;
    return text;
}

/* ---- the verdict ---- */

static const char *const result_names[] = {"unknown", "passed", "failed", "crashed"};
#define N_RESULTS ((int)(sizeof result_names / sizeof result_names[0]))

static exo_vk_trial_result result_of(const char *name) {
    for (int i = 0; name != NULL && i < N_RESULTS; i++) {
        if (strcmp(name, result_names[i]) == 0) return (exo_vk_trial_result)i;
    }
    return EXO_VK_TRIAL_UNKNOWN;
}

exo_vk_trial_result exo_vk_verdict_of(const exo_vk_verdict *v, const char *pipeline,
                                      const char *variant) {
    for (uint32_t i = 0; i < v->n_trials; i++) {
        const exo_vk_trial_entry *e = &v->trials[i];
        if (strcmp(e->pipeline, pipeline) == 0 && strcmp(e->variant, variant) == 0) {
            return e->result;
        }
    }
    return EXO_VK_TRIAL_UNKNOWN;
}

void exo_vk_verdict_add(exo_vk_verdict *v, const char *pipeline, const char *variant,
                        exo_vk_trial_result result, const char *reason) {
    exo_vk_trial_entry *e = NULL;
    for (uint32_t i = 0; i < v->n_trials && e == NULL; i++) {
        if (strcmp(v->trials[i].pipeline, pipeline) == 0 &&
            strcmp(v->trials[i].variant, variant) == 0) {
            e = &v->trials[i];
        }
    }
    if (e == NULL && v->n_trials == EXO_VK_MAX_TRIALS) return; /* unknown: tried again next time */
    if (e == NULL) e = &v->trials[v->n_trials++];
    (void)snprintf(e->pipeline, sizeof e->pipeline, "%s", pipeline);
    (void)snprintf(e->variant, sizeof e->variant, "%s", variant);
    (void)snprintf(e->reason, sizeof e->reason, "%s", reason != NULL ? reason : "");
    e->result = result;
}

static bool plausible(double figure) {
    return isfinite(figure) && figure >= 0 && figure <= MAX_FIGURE;
}

static double figure_of(double measured) { return plausible(measured) ? measured : 0; }

/* Of everything else in the object: whoever edits the file, or a disk that does, is noticed. */
static void hash_of(const json_t *verdict, char out[24]) {
    json_t *rest = json_copy((json_t *)(uintptr_t)verdict);
    json_object_del(rest, "hash");
    char *text = rest != NULL ? json_dumps(rest, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    size_t n = text != NULL ? strlen(text) : 0;
    (void)snprintf(out, 24, "%016llx",
                   (unsigned long long)exo_hash64(n > 0 ? text : "", n, RECORD_VERSION));
    free(text);
    json_decref(rest);
}

static json_t *verdict_json(const exo_vk_verdict *v, bool complete) {
    json_t *trials = json_array();
    for (uint32_t i = 0; i < v->n_trials; i++) {
        const exo_vk_trial_entry *e = &v->trials[i];
        json_array_append_new(trials, json_pack("{s:s, s:s, s:s, s:s}", "pipeline", e->pipeline,
                                                "variant", e->variant, "result",
                                                result_names[e->result], "reason", e->reason));
    }
    json_t *j = json_pack("{s:i, s:b, s:b, s:b, s:s, s:f, s:f, s:f, s:o}", "version",
                          RECORD_VERSION, "complete", complete, "again", v->again, "usable",
                          v->usable, "reason", v->reason, "copy_gbps", figure_of(v->copy_gbps),
                          "compute_gflops", figure_of(v->compute_gflops), "read_gbps",
                          figure_of(v->read_gbps), "trials", trials);
    char hash[24];
    if (j != NULL) {
        hash_of(j, hash);
        json_object_set_new(j, "hash", json_string(hash));
    }
    return j;
}

exo_status exo_vk_record_save(const exo_vk_record *r, const exo_vk_verdict *v, bool complete,
                              exo_error *err) {
    path p = path_of(r, ".json");
    json_t *j = verdict_json(v, complete);
    char *text = j != NULL ? json_dumps(j, JSON_INDENT(1)) : NULL;
    exo_status st = text != NULL ? write_file(&p, text, strlen(text), err)
                                 : exo_error_set(err, EXO_ENOMEM, "no memory for a verdict");
    free(text);
    json_decref(j);
    return st;
}

static bool trials_from(const json_t *trials, exo_vk_verdict *out) {
    if (!json_is_array(trials) || json_array_size(trials) > EXO_VK_MAX_TRIALS) return false;
    for (size_t i = 0; i < json_array_size(trials); i++) {
        const char *pipeline, *variant, *result, *why;
        if (json_unpack(json_array_get(trials, i), "{s:s, s:s, s:s, s:s}", "pipeline", &pipeline,
                        "variant", &variant, "result", &result, "reason", &why) != 0 ||
            result_of(result) == EXO_VK_TRIAL_UNKNOWN) {
            return false;
        }
        exo_vk_verdict_add(out, pipeline, variant, result_of(result), why);
    }
    return out->n_trials == json_array_size(trials); /* none twice */
}

static bool verdict_from(json_t *j, exo_vk_verdict *out, bool *complete) {
    int version = 0, usable = 0, done = 0, again = 0;
    const char *reason, *said;
    char hash[24];
    json_t *trials;
    if (json_unpack(j, "{s:i, s:b, s:b, s:b, s:s, s:F, s:F, s:F, s:o, s:s}", "version", &version,
                    "complete", &done, "again", &again, "usable", &usable, "reason", &reason,
                    "copy_gbps", &out->copy_gbps, "compute_gflops", &out->compute_gflops,
                    "read_gbps", &out->read_gbps, "trials", &trials, "hash", &said) != 0) {
        return false;
    }
    hash_of(j, hash);
    if (version != RECORD_VERSION || strcmp(said, hash) != 0) return false;
    if (!plausible(out->copy_gbps) || !plausible(out->compute_gflops) ||
        !plausible(out->read_gbps)) {
        return false;
    }
    out->usable = usable != 0;
    out->again = again != 0;
    *complete = done != 0;
    (void)snprintf(out->reason, sizeof out->reason, "%s", reason);
    return trials_from(trials, out);
}

bool exo_vk_record_load(const exo_vk_record *r, exo_vk_verdict *out, bool *complete) {
    memset(out, 0, sizeof *out);
    *complete = false;
    path p = path_of(r, ".json");
    size_t n;
    char *text = read_file(&p, MAX_RECORD_BYTES, &n);
    if (text == NULL) return false;
    json_t *j = json_loadb(text, n, 0, NULL);
    exo_free(text);
    bool good = j != NULL && verdict_from(j, out, complete);
    if (!good) {
        memset(out, 0, sizeof *out);
        *complete = false;
    }
    json_decref(j);
    return good;
}

/* ---- the marker ---- */

exo_status exo_vk_marker_write(const exo_vk_record *r, const char *pipeline, const char *variant,
                               exo_error *err) {
    char line[100];
    int n = snprintf(line, sizeof line, "%s\n%s\n", pipeline, variant);
    path p = path_of(r, ".marker");
    return write_file(&p, line, (size_t)n, err);
}

/* The length of the name at the start of text, which a line feed ends; 0 = it is none. */
static size_t name_length(const char *text, size_t limit) {
    size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_");
    return n < limit && text[n] == '\n' ? n : 0;
}

/* What is no kernel has trials of its own only. */
static bool has_trial(const char *pipeline, const char *variant) {
    static const char *const known[][2] = {{"device", "open"},
                                           {"device", "copy"},
                                           {"drivers", "list"},
                                           {EXO_VK_TRIAL_CACHE, EXO_VK_TRIAL_DISK}};
    bool kernel = true;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(pipeline, known[i][0]) != 0) continue;
        if (strcmp(variant, known[i][1]) == 0) return true;
        kernel = false;
    }
    return kernel;
}

bool exo_vk_marker_read(const exo_vk_record *r, char pipeline[48], char variant[32]) {
    path p = path_of(r, ".marker");
    size_t size = 0, first = 0, second = 0;
    char *text = read_file(&p, 100, &size);
    *pipeline = *variant = '\0';
    if (text != NULL) first = name_length(text, 48);
    if (first > 0) second = name_length(text + first + 1, 32);
    if (second > 0 && first + second + 2 == size) {
        (void)snprintf(pipeline, 48, "%.*s", (int)first, text);
        (void)snprintf(variant, 32, "%.*s", (int)second, text + first + 1);
    }
    exo_free(text);
    if (*pipeline != '\0' && has_trial(pipeline, variant)) return true;
    *pipeline = *variant = '\0';
    exo_vk_marker_clear(r);
    return false;
}

void exo_vk_marker_clear(const exo_vk_record *r) {
    path p = path_of(r, ".marker");
    (void)unlink(p.text);
}

static char guarded_marker[600];

static void end_without_marker(int signal_number) {
    (void)signal_number;
    (void)unlink(guarded_marker);
    _exit(EXO_VK_PROBE_INTERRUPTED);
}

void exo_vk_marker_guard(const exo_vk_record *r) {
    const int asks_to_stop[] = {SIGINT, SIGTERM, SIGHUP};
    path p = path_of(r, ".marker");
    memcpy(guarded_marker, p.text, sizeof guarded_marker);
    struct sigaction end = {.sa_handler = end_without_marker};
    for (size_t i = 0; i < sizeof asks_to_stop / sizeof asks_to_stop[0]; i++) {
        (void)sigaction(asks_to_stop[i], &end, NULL);
    }
}

uint64_t exo_vk_record_progress(const exo_vk_record *r) {
    path p = path_of(r, ".marker");
    struct stat s;
    if (stat(p.text, &s) != 0) return 0;
    return (uint64_t)s.st_mtim.tv_sec * 1000000000u + (uint64_t)s.st_mtim.tv_nsec +
           (uint64_t)s.st_ino;
}

/* ---- the lock ---- */

exo_status exo_vk_record_lock(exo_vk_record *r, uint32_t timeout_ms, exo_error *err) {
    path p = path_of(r, ".lock");
    int fd = -1;
    if (access(r->dir, W_OK) == 0) {
        fd = open(p.text, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    }
    if (fd < 0) {
        return exo_error_set(err, EXO_EIO, "cannot write the Vulkan cache directory %s: %s", r->dir,
                             strerror(errno));
    }
    uint64_t end = exo_now_ms() + timeout_ms;
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (exo_now_ms() >= end) {
            (void)close(fd);
            return exo_error_set(err, EXO_EBUSY, "another process is trying Vulkan devices");
        }
        (void)nanosleep(&(struct timespec){.tv_nsec = 20 * 1000 * 1000}, NULL);
    }
    r->lock = fd;
    return EXO_OK;
}

void exo_vk_record_unlock(exo_vk_record *r) {
    if (r->lock >= 0) (void)close(r->lock);
    r->lock = -1;
}
