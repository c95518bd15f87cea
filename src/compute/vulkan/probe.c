/* probe.c - starts the child, waits for it with a deadline, and reads what it left behind.
 *
 * posix_spawn of a whole program, never a bare fork: the caller may be a JVM with threads. */
#define _GNU_SOURCE /* dladdr */
#include "compute/vulkan/probe_impl.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TIMEOUT_MS        120000
#define LOCK_MS           600000
#define LOCK_FD           3 /* in the child */
#define BAD_USAGE         2
#define MIN_ADDRESS_BYTES (2ull << 30)
#define NOT_LOADED        127       /* exit code of a program whose libraries could not be loaded */
#define COPIES_ONLY       "-copies" /* behind the number of a device: no kernel is asked for */
#define MAX_CRASHES       12        /* of one device, then it is left out */

extern char **environ;

static bool own_child; /* this program calls exo_vk_probe_child() */

/* ---- subjects ---- */

static void device_subject(const exo_vk_caps *c, const char *kernels, exo_buf *out) {
    exo_buf_printf(out, "device %s %s %u %u %s sg%u kernels %s", c->uuid, c->driver_uuid,
                   c->driver_version, c->api_version, c->driver_info, c->subgroup_size,
                   kernels != NULL ? kernels : "");
}

static void add_stat(exo_buf *out, const char *file) {
    struct stat s;
    if (stat(file, &s) == 0) {
        exo_buf_printf(out, " %s:%lld:%lld", file, (long long)s.st_size, (long long)s.st_mtime);
    }
}

/* The set of drivers: what names them, and the files named. */
static void drivers_subject(exo_buf *out) {
    static const char *const variables[] = {"EXO_VULKAN_LOADER", "VK_ICD_FILENAMES",
                                            "VK_DRIVER_FILES", "VK_ADD_DRIVER_FILES",
                                            "VK_INSTANCE_LAYERS"};
    static const char *const folders[] = {"/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d",
                                          "/usr/local/share/vulkan/icd.d"};
    exo_buf_puts(out, "drivers");
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++) {
        const char *value = getenv(variables[i]);
        exo_buf_printf(out, " %s=%s", variables[i], value != NULL ? value : "");
    }
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        DIR *d = opendir(folders[i]);
        for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
            char file[600];
            (void)snprintf(file, sizeof file, "%s/%s", folders[i], e->d_name);
            if (e->d_name[0] != '.') add_stat(out, file);
        }
        if (d != NULL) (void)closedir(d);
    }
}

/* ---- the child's side ---- */

bool exo_vk_probe_child(int argc, char **argv, exo_vk_selftest_fn selftest, int *exit_code) {
    own_child = true;
    if (argc != 6 || strcmp(argv[1], EXO_VK_PROBE_OPTION) != 0) return false;
    exo_vk_record r;
    exo_vk_instance *i = NULL;
    exo_vk_verdict *v = exo_calloc(1, sizeof *v);
    exo_error err = {0};
    *exit_code = 1;
    (void)setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    (void)snprintf(r.dir, sizeof r.dir, "%s", argv[3]);
    (void)snprintf(r.key, sizeof r.key, "%s", argv[4]);
    r.trial_s = (uint32_t)strtoul(argv[5], NULL, 10); /* it dies even if its parent has died */
    (void)alarm(r.trial_s);
    exo_vk_marker_guard(&r);
    bool only_lists = strcmp(argv[2], "instance") == 0;
    exo_status st = v != NULL ? EXO_OK : EXO_ENOMEM;
    if (st == EXO_OK && only_lists) st = exo_vk_marker_write(&r, "drivers", "list", &err);
    if (st == EXO_OK) st = exo_vk_instance_create(NULL, &i, &err);
    if (only_lists) {
        exo_vk_marker_clear(&r);
        *exit_code = 0; /* an error is no crash: the parent will see the same one */
    } else if (st == EXO_OK) {
        char *end;
        uint32_t index = (uint32_t)strtoul(argv[2], &end, 10);
        bool copies = strcmp(end, COPIES_ONLY) == 0;
        st = exo_vk_trials_run(i, index, &r, copies ? NULL : selftest, v, &err);
        if (st == EXO_OK) *exit_code = 0;
    } else if (st == EXO_ENOMEM) {
        *exit_code = EXO_VK_PROBE_SHORT;
    }
    exo_vk_instance_destroy(i);
    exo_free(v);
    return true;
}

/* ---- starting and waiting ---- */

typedef struct {
    bool started, exited_well, hung, interrupted;
    bool too_short; /* of memory, as far as one can tell */
    int signal;     /* 0 = none */
} child_end;

/* The program `exo` beside the library that this code is in: libexo inside Python or a JVM. */
static bool program_beside_library(char *out, size_t n) {
    Dl_info here;
    if (dladdr(&own_child, &here) == 0 || here.dli_fname == NULL) return false;
    const char *slash = strrchr(here.dli_fname, '/');
    int folder = slash != NULL ? (int)(slash - here.dli_fname) : 0;
    if (folder == 0) return false;
    (void)snprintf(out, n, "%.*s/exo", folder, here.dli_fname);
    return access(out, X_OK) == 0;
}

static const char *child_program(const exo_vk_probe_desc *desc, char buffer[1024]) {
    if (desc->program != NULL) return desc->program;
    if (own_child) {
        ssize_t n = readlink("/proc/self/exe", buffer, 1023);
        if (n > 0) {
            buffer[n] = '\0';
            return buffer;
        }
    }
    const char *named = getenv("EXO_VULKAN_PROBE");
    if (named != NULL) return named;
    return program_beside_library(buffer, 1024) ? buffer : NULL;
}

/* Many drivers crash when they get no memory, and a system that has none left kills processes: a
 * child that dies under a limit on its memory, or is killed, says nothing about the driver. */
static bool memory_is_limited(void) {
    struct rlimit space, data;
    return (getrlimit(RLIMIT_AS, &space) == 0 && space.rlim_cur != RLIM_INFINITY) ||
           (getrlimit(RLIMIT_DATA, &data) == 0 && data.rlim_cur != RLIM_INFINITY);
}

/* Until it ends, or no trial has begun or ended for timeout_ms. */
static void wait_for_child(pid_t pid, const exo_vk_record *r, uint32_t timeout_ms, child_end *end) {
    uint64_t deadline = exo_now_ms() + timeout_ms, seen = exo_vk_record_progress(r);
    int status = 0;
    pid_t got;
    while ((got = waitpid(pid, &status, WNOHANG)) == 0 || (got < 0 && errno == EINTR)) {
        uint64_t progress = exo_vk_record_progress(r);
        if (progress != seen) {
            seen = progress;
            deadline = exo_now_ms() + timeout_ms;
        }
        if (!end->hung && exo_now_ms() >= deadline) {
            end->hung = true;
            (void)kill(pid, SIGKILL);
        }
        (void)nanosleep(&(struct timespec){.tv_nsec = 3 * 1000 * 1000}, NULL);
    }
    if (got != pid) { /* somebody else reaps children here: the record tells the rest */
        end->exited_well = true;
        return;
    }
    end->exited_well = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    /* a program that does not know the option says so with bad usage: no trial took place */
    if (WIFEXITED(status) && WEXITSTATUS(status) == BAD_USAGE) end->started = false;
    if (WIFSIGNALED(status)) end->signal = WTERMSIG(status);
    end->interrupted = (WIFEXITED(status) && WEXITSTATUS(status) == EXO_VK_PROBE_INTERRUPTED) ||
                       end->signal == SIGINT || end->signal == SIGTERM || end->signal == SIGHUP;
    if (end->signal == SIGALRM) end->hung = true;
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
    bool died = end->signal != 0 && !end->hung && !end->interrupted;
    end->too_short = code == EXO_VK_PROBE_SHORT || code == NOT_LOADED ||
                     (died && (end->signal == SIGKILL || memory_is_limited()));
}

/* The child holds the lock, too: if this process is killed, the next one waits for it. */
static child_end run_child(const char *program, const char *what, const exo_vk_record *r,
                           uint32_t timeout_ms) {
    child_end end = {0};
    if (timeout_ms == 0) timeout_ms = TIMEOUT_MS;
    char option[] = EXO_VK_PROBE_OPTION, subject[16], dir[512], key[32], seconds[16], path[1024];
    (void)snprintf(path, sizeof path, "%s", program);
    (void)snprintf(subject, sizeof subject, "%s", what);
    (void)snprintf(dir, sizeof dir, "%s", r->dir);
    (void)snprintf(key, sizeof key, "%s", r->key);
    (void)snprintf(seconds, sizeof seconds, "%u", timeout_ms / 1000 + 2);
    char *argv[] = {path, option, subject, dir, key, seconds, NULL};
    posix_spawn_file_actions_t quiet;
    pid_t pid = 0;
    if (posix_spawn_file_actions_init(&quiet) != 0) return end;
    int fault = posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0);
    if (fault == 0) fault = posix_spawn_file_actions_adddup2(&quiet, r->lock, LOCK_FD);
    if (fault == 0 && !exo_log_on(EXO_LOG_DEBUG)) {
        fault = posix_spawn_file_actions_addopen(&quiet, 2, "/dev/null", O_WRONLY, 0);
    }
    if (fault == 0) fault = posix_spawn(&pid, path, &quiet, NULL, argv, environ);
    (void)posix_spawn_file_actions_destroy(&quiet);
    if (fault != 0) {
        exo_warn("vulkan: cannot start %s to probe devices: %s", path, strerror(fault));
        return end;
    }
    end.started = true;
    wait_for_child(pid, r, timeout_ms, &end);
    return end;
}

static void say_how(const child_end *end, char *out, size_t n) {
    if (end->hung)
        (void)snprintf(out, n, "hung");
    else if (end->signal != 0)
        (void)snprintf(out, n, "crashed (signal %d)", end->signal);
    else
        (void)snprintf(out, n, "ended before it was done");
}

/* ---- instance ---- */

static exo_status was_interrupted(exo_error *err) {
    return exo_error_set(err, EXO_ECANCELED, "trying Vulkan devices was interrupted");
}

static exo_status was_too_short(const child_end *end, exo_error *err) {
    if (end->signal == 0) {
        return exo_error_set(err, EXO_ENOMEM, "no memory for a process that tries Vulkan devices");
    }
    return exo_error_set(err, EXO_ENOMEM,
                         "the process that tries Vulkan devices died (signal %d) %s", end->signal,
                         end->signal == SIGKILL ? "as when the system has no memory left"
                                                : "under a limit on its memory (ulimit)");
}

static exo_status crashed_before(const exo_vk_verdict *v, exo_error *err) {
    return exo_error_set(err, EXO_EIO,
                         "a Vulkan driver %s when devices were listed; Vulkan is left out until "
                         "the drivers change",
                         v->reason);
}

/* Loads the drivers under supervision; *v says whether that went well. */
static exo_status try_drivers(const exo_vk_probe_desc *desc, const exo_vk_record *r,
                              exo_vk_verdict *v, exo_error *err) {
    char buffer[1024], pipeline[48], variant[32];
    const char *program = child_program(desc, buffer);
    memset(v, 0, sizeof *v);
    if (exo_vk_marker_read(r, pipeline, variant) && strcmp(pipeline, "drivers") == 0) {
        (void)snprintf(v->reason, sizeof v->reason, "crashed");
        exo_vk_marker_clear(r);
        return exo_vk_record_save(r, v, true, err);
    }
    child_end end = {0};
    if (program != NULL) end = run_child(program, "instance", r, desc->timeout_ms);
    if (!end.started) { /* here */
        exo_vk_instance *i = NULL;
        exo_status st = exo_vk_marker_write(r, "drivers", "list", err);
        if (st != EXO_OK) return st;
        (void)exo_vk_instance_create(NULL, &i, NULL);
        exo_vk_instance_destroy(i);
        end.exited_well = true;
    }
    exo_vk_marker_clear(r);
    if (end.interrupted) return was_interrupted(err);
    if (end.too_short) return was_too_short(&end, err);
    v->usable = end.exited_well;
    if (!v->usable) say_how(&end, v->reason, sizeof v->reason);
    return exo_vk_record_save(r, v, true, err);
}

/* EXO_OK with the lock, or with *known when a complete verdict lies where nothing can be written.
 */
static exo_status lock_or_know(exo_vk_record *r, const exo_vk_probe_desc *desc, exo_vk_verdict *v,
                               bool *known, exo_error *err) {
    bool complete = false;
    *known = false;
    exo_status st = exo_vk_record_lock(r, LOCK_MS, err);
    if (st != EXO_EIO || desc->refresh) return st;
    if (!exo_vk_record_load(r, v, &complete) || !complete) return st;
    *known = v->cached = true;
    return EXO_OK;
}

static exo_status drivers_verdict(const exo_vk_probe_desc *desc, exo_vk_verdict *v,
                                  exo_error *err) {
    exo_vk_record r;
    exo_buf subject = {0};
    bool complete = false, known = false;
    drivers_subject(&subject);
    exo_status st = exo_buf_ok(&subject)
                        ? exo_vk_record_init(&r, desc->cache_dir, exo_buf_str(&subject), err)
                        : exo_error_set(err, EXO_ENOMEM, "no memory to list Vulkan drivers");
    exo_buf_finish(&subject);
    if (st == EXO_OK) st = lock_or_know(&r, desc, v, &known, err);
    if (st != EXO_OK || known) return st;
    if (desc->refresh) exo_vk_marker_clear(&r);
    if (desc->refresh || !exo_vk_record_load(&r, v, &complete) || !complete) {
        st = try_drivers(desc, &r, v, err);
    }
    exo_vk_record_unlock(&r);
    return st;
}

/* A driver that gets no address space crashes this process, long after its trials in a child. */
static exo_status check_address_space(exo_error *err) {
    struct rlimit space;
    if (getrlimit(RLIMIT_AS, &space) != 0 || space.rlim_cur == RLIM_INFINITY ||
        space.rlim_cur >= MIN_ADDRESS_BYTES) {
        return EXO_OK;
    }
    return exo_error_set(
        err, EXO_ENOMEM,
        "Vulkan drivers need an address space of %llu MiB; this process is limited "
        "to %llu (ulimit -v)",
        MIN_ADDRESS_BYTES >> 20, (unsigned long long)space.rlim_cur >> 20);
}

exo_status exo_vk_probe_instance(const exo_vk_instance_desc *instance,
                                 const exo_vk_probe_desc *desc, exo_vk_instance **out,
                                 exo_error *err) {
    const exo_vk_probe_desc defaults = {0};
    if (desc == NULL) desc = &defaults;
    *out = NULL;
    exo_status st = check_address_space(err);
    if (st != EXO_OK) return st;
    exo_vk_verdict *v = exo_calloc(1, sizeof *v);
    if (v == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for a verdict");
    st = drivers_verdict(desc, v, err);
    if (st == EXO_OK && !v->usable) st = crashed_before(v, err);
    exo_free(v);
    return st == EXO_OK ? exo_vk_instance_create(instance, out, err) : st;
}

/* ---- devices ---- */

/* Adds to the verdict what the marker of a dead process names.  False when nothing of the device
 * is left to try. */
static bool blame(const exo_vk_record *r, exo_vk_verdict *v, const char *how) {
    char pipeline[48], variant[32], reason[96];
    bool complete;
    (void)exo_vk_record_load(r, v, &complete);
    if (!exo_vk_marker_read(r, pipeline, variant) || pipeline[0] == '\0') {
        (void)snprintf(pipeline, sizeof pipeline, "device"); /* it did not even come to a trial */
        (void)snprintf(variant, sizeof variant, "list");
    }
    (void)snprintf(reason, sizeof reason, "the driver %s", how);
    exo_vk_verdict_add(v, pipeline, variant, EXO_VK_TRIAL_CRASHED, reason);
    exo_vk_marker_clear(r);
    if (strcmp(pipeline, "device") != 0) return true;
    (void)snprintf(v->reason, sizeof v->reason, "its driver %s (%s)", how, variant);
    return false;
}

/* EXO_EUNSUPPORTED when no child can be started. */
static exo_status try_in_children(uint32_t index, const exo_vk_probe_desc *desc,
                                  const exo_vk_record *r, exo_vk_verdict *v, exo_error *err) {
    char buffer[1024];
    const char *program = child_program(desc, buffer);
    if (program == NULL) return EXO_EUNSUPPORTED;
    char what[16], how[64];
    bool complete = false;
    (void)snprintf(what, sizeof what, "%u%s", index, desc->kernels != NULL ? "" : COPIES_ONLY);
    for (int crash = 0; crash < MAX_CRASHES; crash++) {
        child_end end = run_child(program, what, r, desc->timeout_ms);
        if (!end.started) return EXO_EUNSUPPORTED;
        if (end.interrupted) return was_interrupted(err);
        if (exo_vk_record_load(r, v, &complete) && (complete || v->again)) return EXO_OK;
        if (end.too_short) {
            exo_error why;
            (void)was_too_short(&end, &why);
            exo_vk_marker_clear(r);
            return exo_vk_trials_postpone(r, &why, v, err);
        }
        say_how(&end, how, sizeof how);
        bool more = blame(r, v, how);
        exo_status st = exo_vk_record_save(r, v, !more, err);
        if (st != EXO_OK || !more) return st;
    }
    v->usable = false;
    (void)snprintf(v->reason, sizeof v->reason, "its driver crashed on %d kernels", MAX_CRASHES);
    return exo_vk_record_save(r, v, true, err);
}

/* Of a usable device it says how that was found out. */
static bool is_whole(const exo_vk_verdict *v, const exo_vk_probe_desc *desc) {
    if (!v->usable) return true;
    return exo_vk_verdict_of(v, "device", "open") == EXO_VK_TRIAL_PASSED &&
           exo_vk_verdict_of(v, "device", "copy") == EXO_VK_TRIAL_PASSED &&
           (desc->kernels == NULL || v->n_trials > 2);
}

/* What is left when a device is tried again. */
static void keep_crashes(exo_vk_verdict *v) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < v->n_trials; i++) {
        if (v->trials[i].result == EXO_VK_TRIAL_CRASHED) v->trials[n++] = v->trials[i];
    }
    v->n_trials = n;
    v->copy_gbps = v->compute_gflops = v->read_gbps = 0;
}

static exo_status probe_locked(exo_vk_instance *instance, uint32_t index,
                               const exo_vk_probe_desc *desc, const exo_vk_record *r,
                               exo_vk_verdict *out, exo_error *err) {
    char pipeline[48], variant[32];
    bool complete = false;
    if (exo_vk_record_load(r, out, &complete) && complete && !desc->refresh &&
        is_whole(out, desc)) {
        out->cached = true;
        return EXO_OK;
    }
    if (desc->refresh || complete || out->again) {
        if (!out->again || desc->refresh) keep_crashes(out);
        out->again = false;
        exo_status st = exo_vk_record_save(r, out, false, err);
        if (st != EXO_OK) return st;
    }
    if (exo_vk_marker_read(r, pipeline, variant)) { /* a process died while it tried this device */
        bool more = blame(r, out, "crashed");
        exo_status st = exo_vk_record_save(r, out, !more, err);
        if (st != EXO_OK || !more) return st;
    }
    exo_status st = try_in_children(index, desc, r, out, err);
    if (st != EXO_EUNSUPPORTED) return st;
    return exo_vk_trials_run(instance, index, r, desc->selftest, out, err);
}

static exo_status record_of(exo_vk_instance *instance, uint32_t index,
                            const exo_vk_probe_desc *desc, exo_vk_record *r, exo_error *err) {
    if (index >= instance->n_devices) {
        return exo_error_set(err, EXO_ENOTFOUND, "no device vulkan:%u", index);
    }
    exo_buf subject = {0};
    device_subject(&instance->devices[index].caps, desc->kernels, &subject);
    exo_status st = exo_buf_ok(&subject)
                        ? exo_vk_record_init(r, desc->cache_dir, exo_buf_str(&subject), err)
                        : exo_error_set(err, EXO_ENOMEM, "no memory to probe a device");
    exo_buf_finish(&subject);
    return st;
}

exo_status exo_vk_probe(exo_vk_instance *instance, uint32_t index, const exo_vk_probe_desc *desc,
                        exo_vk_verdict *out, exo_error *err) {
    const exo_vk_probe_desc defaults = {0};
    exo_vk_record r;
    memset(out, 0, sizeof *out);
    if (desc == NULL) desc = &defaults;
    exo_status st = record_of(instance, index, desc, &r, err);
    if (st != EXO_OK) return st;
    bool known;
    st = lock_or_know(&r, desc, out, &known, err);
    if (st != EXO_OK) return st;
    if (known && is_whole(out, desc)) return EXO_OK;
    if (known) {
        return exo_error_set(err, EXO_EIO,
                             "%s cannot be written, and vulkan:%u's verdict there is "
                             "not whole",
                             r.dir, index);
    }
    st = probe_locked(instance, index, desc, &r, out, err);
    exo_vk_record_unlock(&r);
    return st;
}
