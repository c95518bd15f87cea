/* seat.c - opens a device or the CPU behind it.
 *
 * Which failures are the device's own is not asked: whatever the CPU cannot do either it says
 * itself.  Only a stop that somebody asked for, and a step that no device could take, are passed
 * on as they are. */
#include "engine/seat.h"

#include "base/log.h"
#include "base/mailbox.h"
#include "base/mem.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define CPU_ID           "cpu:0"
#define CLOSE_TIMEOUT_MS 10000u /* what a driver gets to clean up after it has failed */

/* Kinds of devices that a build may lack, and that the CPU stands in for. */
static const char *const kinds[] = {"vulkan:", "metal:"};

static atomic_bool driver_hangs; /* in this process: it is not called any more */

bool exo_seat_is_gpu(const char *device) {
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        size_t n = strlen(kinds[i]);
        if (strncmp(device, kinds[i], n) != 0 || device[n] == '\0') continue;
        return strspn(device + n, "0123456789") == strlen(device + n);
    }
    return false;
}

static bool has_cpu_behind(const exo_seat *s) {
    return s->d.backend != NULL ? s->d.backend != &exo_backend_cpu : exo_seat_is_gpu(s->asked);
}

static exo_status open_device(exo_seat *s, const exo_backend *backend, exo_error *err) {
    const exo_device_desc desc = {.n_threads = s->d.n_threads, .spin = true};
    if (backend == NULL) return exo_device_open(s->device_id, &desc, &s->backend, &s->device, err);
    exo_status st = backend->open(0, &desc, &s->device, err);
    s->backend = st == EXO_OK ? backend : NULL;
    return st;
}

static void close_device(exo_seat *s) {
    if (s->device != NULL) s->backend->close(s->device);
    s->device = NULL;
    s->backend = NULL;
}

/* ---- a failed device is closed ---- */

typedef struct {
    exo_shard *shard;
    const exo_backend *backend;
    exo_device *device;
    exo_latch *closed;
} farewell;

static void *close_failed(void *arg) {
    farewell *f = arg;
    exo_shard_destroy(f->shard);
    f->backend->close(f->device);
    exo_latch_set(f->closed);
    return NULL;
}

/* On a thread of its own: a driver that has failed may well hang now.  Then thread and memory are
 * left to it, and no driver of a GPU is called in this process again. */
static void close_failed_device(exo_seat *s, exo_shard *shard_take) {
    farewell *f = exo_calloc(1, sizeof *f);
    pthread_t thread;
    const farewell what = {shard_take, s->backend, s->device, NULL};
    if (f != NULL) *f = what;
    s->device = NULL;
    s->backend = NULL;
    if (f == NULL || exo_latch_create(&f->closed, NULL) != EXO_OK ||
        pthread_create(&thread, NULL, close_failed, f) != 0) {
        exo_shard_destroy(what.shard);
        what.backend->close(what.device);
    } else if (exo_latch_wait(f->closed, CLOSE_TIMEOUT_MS)) {
        pthread_join(thread, NULL);
    } else {
        exo_warn("the driver of %s hangs while it is closed: it keeps its memory", s->asked);
        atomic_store(&driver_hangs, true);
        pthread_detach(thread);
        return;
    }
    if (f != NULL) exo_latch_destroy(f->closed);
    exo_free(f);
}

/* The device s->device_id and the shard on it; neither is there after a failure. */
static exo_status sit(exo_seat *s, const exo_backend *backend, const exo_shard_desc *desc,
                      exo_shard **shard, exo_error *err) {
    *shard = NULL;
    exo_status st = open_device(s, backend, err);
    if (st == EXO_OK) {
        st = exo_shard_create(s->d.model, s->backend, s->device, desc, s->d.progress, s->d.ud,
                              shard, err);
    }
    if (st != EXO_OK) close_device(s);
    return st;
}

static exo_status sit_on_cpu(exo_seat *s, const exo_shard_desc *desc, const char *why,
                             const char *instead, exo_shard **shard, exo_error *err) {
    (void)snprintf(s->reason, sizeof s->reason, "%s", why);
    (void)snprintf(s->device_id, sizeof s->device_id, "%s", CPU_ID);
    exo_warn("%s %s: %s", CPU_ID, instead, s->reason);
    return sit(s, NULL, desc, shard, err);
}

exo_status exo_seat_open(exo_seat *s, const exo_seat_desc *d, exo_shard **shard, exo_error *err) {
    exo_error why = {0};
    *s = (exo_seat){.d = *d};
    const char *asked = d->device != NULL ? d->device : CPU_ID;
    if (strlen(asked) >= sizeof s->asked) {
        *shard = NULL;
        return exo_error_set(err, EXO_EINVAL, "'%.40s...' is not a device", asked);
    }
    memcpy(s->asked, asked, strlen(asked) + 1);
    memcpy(s->device_id, s->asked, sizeof s->device_id);
    s->d.device = s->asked;
    exo_status st =
        atomic_load(&driver_hangs) && has_cpu_behind(s)
            ? exo_error_set(&why, EXO_EIO, "%s: its driver hung earlier; start exo anew", s->asked)
            : sit(s, d->backend, &d->shard, shard, &why);
    if (st == EXO_OK) return st;
    *shard = NULL;
    if (st == EXO_ECANCELED || !has_cpu_behind(s)) {
        if (err != NULL) *err = why;
        return st;
    }
    exo_error named;
    exo_error_set(&named, st, "%s", why.message);
    if (strstr(why.message, s->asked) == NULL) exo_error_wrap(&named, st, "%s", s->asked);
    return sit_on_cpu(s, &d->shard, named.message, "computes instead", shard, err);
}

bool exo_seat_can_move(const exo_seat *s, exo_status st) {
    return st != EXO_OK && st != EXO_ECANCELED && st != EXO_EINVAL && s->device != NULL &&
           has_cpu_behind(s) && s->reason[0] == '\0';
}

exo_status exo_seat_move(exo_seat *s, exo_shard *lost_take, const char *why, exo_shard **shard,
                         exo_error *err) {
    const exo_shard_desc desc = *exo_shard_get_desc(lost_take); /* pages and rows stay */
    exo_error reason;
    exo_error_set(&reason, EXO_EIO, "%s", why);
    if (strstr(why, s->asked) == NULL) exo_error_wrap(&reason, EXO_EIO, "%s", s->asked);
    close_failed_device(s, lost_take);
    return sit_on_cpu(s, &desc, reason.message, "goes on with the answers", shard, err);
}

void exo_seat_close(exo_seat *s) { close_device(s); }
