/* trials.c - tries a device out: open it, copy and compare, measure, run the self-test.
 *
 * Runs in the child, or, where there is none, in the caller's own process; it cannot tell which.
 * What crashed or failed in an earlier, interrupted run is not tried again. */
#define _DEFAULT_SOURCE /* alarm */
#include "base/clock.h"
#include "base/mem.h"
#include "compute/vulkan/probe_impl.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PATTERN_BYTES  ((size_t)1 << 20)
#define MEASURE_BYTES  ((uint64_t)64 << 20)
#define MEASURE_NS     (200 * 1000 * 1000ull)
#define MEASURE_PASSES 3 /* at least */

struct exo_vk_trials {
    const exo_vk_record *record;
    exo_vk_verdict *verdict;
    char pipeline[48], variant[32]; /* under way; "" = none */
    exo_error short_of;             /* status EXO_ENOMEM: memory ran out, and where */
};

/* A trial says why it failed in words only.  Drivers also call it a shortage when they cannot
 * compile a pipeline: that is the variant's fault, and its plainer one is tried. */
static bool is_shortage(const char *reason) {
    static const char *const says[] = {"VK_ERROR_OUT_OF_HOST_MEMORY",
                                       "VK_ERROR_OUT_OF_DEVICE_MEMORY", "no memory for "};
    if (strstr(reason, "vkCreateComputePipelines") != NULL) return false;
    for (size_t i = 0; i < sizeof says / sizeof says[0]; i++) {
        if (strstr(reason, says[i]) != NULL) return true;
    }
    return false;
}

bool exo_vk_trial_begin(exo_vk_trials *t, const char *pipeline, const char *variant) {
    exo_vk_trial_result known = exo_vk_verdict_of(t->verdict, pipeline, variant);
    if (known != EXO_VK_TRIAL_UNKNOWN && known != EXO_VK_TRIAL_PASSED) return false;
    if (t->short_of.status != EXO_OK) return false;
    if (t->record->trial_s != 0) (void)alarm(t->record->trial_s);
    (void)snprintf(t->pipeline, sizeof t->pipeline, "%s", pipeline);
    (void)snprintf(t->variant, sizeof t->variant, "%s", variant);
    return exo_vk_marker_write(t->record, t->pipeline, t->variant, NULL) == EXO_OK;
}

static void end_for_shortage(exo_vk_trials *t, const char *reason) {
    exo_error_set(&t->short_of, EXO_ENOMEM, "%s", reason);
    exo_vk_marker_clear(t->record);
    t->pipeline[0] = t->variant[0] = '\0';
}

void exo_vk_trial_end(exo_vk_trials *t, bool passed, const char *reason) {
    if (!passed && reason != NULL && is_shortage(reason)) {
        end_for_shortage(t, reason);
        return;
    }
    exo_vk_verdict_add(t->verdict, t->pipeline, t->variant,
                       passed ? EXO_VK_TRIAL_PASSED : EXO_VK_TRIAL_FAILED, reason);
    (void)exo_vk_record_save(t->record, t->verdict, false, NULL);
    exo_vk_marker_clear(t->record);
    t->pipeline[0] = t->variant[0] = '\0';
}

void exo_vk_trials_set_gflops(exo_vk_trials *t, double gflops) {
    t->verdict->compute_gflops = gflops;
}

void exo_vk_trials_set_read_gbps(exo_vk_trials *t, double gbps) { t->verdict->read_gbps = gbps; }

/* ---- copies ---- */

static exo_status compare_copies(exo_vk_device *d, exo_vk_allocation *a, exo_vk_allocation *b,
                                 uint8_t *bytes, exo_error *err) {
    for (size_t i = 0; i < PATTERN_BYTES; i++) bytes[i] = (uint8_t)(i * 31 + (i >> 8) * 7);
    exo_status st = exo_vk_copy_to_device(d->transfer, a, 0, bytes, PATTERN_BYTES, NULL, err);
    if (st == EXO_OK) {
        st = exo_vk_copy_device_to_device(d->transfer, b, 0, a, 0, PATTERN_BYTES, NULL, err);
    }
    memset(bytes, 0, PATTERN_BYTES);
    if (st == EXO_OK) st = exo_vk_copy_from_device(d->transfer, bytes, b, 0, PATTERN_BYTES, err);
    for (size_t i = 0; i < PATTERN_BYTES && st == EXO_OK; i++) {
        if (bytes[i] == (uint8_t)(i * 31 + (i >> 8) * 7)) continue;
        st = exo_error_set(err, EXO_EIO, "copied bytes come back wrong (byte %zu)", i);
    }
    return st;
}

/* Best of several device-to-device copies, read and written bytes counted. */
static exo_status measure_copies(exo_vk_device *d, exo_vk_allocation *a, exo_vk_allocation *b,
                                 double *gbps, exo_error *err) {
    uint64_t end = exo_now_ns() + MEASURE_NS;
    exo_status st = EXO_OK;
    for (int pass = 0; st == EXO_OK && (pass < MEASURE_PASSES || exo_now_ns() < end); pass++) {
        uint64_t begin = exo_now_ns();
        st = exo_vk_copy_device_to_device(d->transfer, b, 0, a, 0, (size_t)a->size, NULL, err);
        double rate = 2 * (double)a->size / (double)(exo_now_ns() - begin + 1);
        if (st == EXO_OK && rate > *gbps) *gbps = rate;
    }
    return st;
}

static exo_status try_copies(exo_vk_device *d, double *gbps, exo_error *err) {
    uint64_t bytes = MEASURE_BYTES;
    uint64_t available = exo_vk_memory_available(&d->memory, EXO_VK_MEMORY_DEVICE);
    exo_vk_allocation *a = NULL, *b = NULL;
    while (bytes > PATTERN_BYTES && bytes > available / 8) bytes /= 2;
    uint8_t *host = exo_malloc(PATTERN_BYTES);
    exo_status st = host != NULL ? EXO_OK : exo_error_set(err, EXO_ENOMEM, "no memory for a trial");
    if (st == EXO_OK) {
        st = exo_vk_memory_allocate(&d->memory, EXO_VK_MEMORY_DEVICE, bytes, &a, err);
    }
    if (st == EXO_OK) {
        st = exo_vk_memory_allocate(&d->memory, EXO_VK_MEMORY_DEVICE, bytes, &b, err);
    }
    if (st == EXO_OK) st = compare_copies(d, a, b, host, err);
    if (st == EXO_OK) st = measure_copies(d, a, b, gbps, err);
    exo_vk_memory_deallocate(&d->memory, a);
    exo_vk_memory_deallocate(&d->memory, b);
    exo_free(host);
    return st;
}

/* ---- all of it ---- */

static void end_device_trial(exo_vk_trials *t, exo_status st, const exo_error *err) {
    if (st == EXO_ENOMEM)
        end_for_shortage(t, err->message);
    else
        exo_vk_trial_end(t, st == EXO_OK, st == EXO_OK ? NULL : err->message);
}

static exo_status try_device(exo_vk_instance *instance, uint32_t index, exo_vk_trials *t,
                             exo_vk_selftest_fn selftest, exo_error *err) {
    exo_vk_device *d = NULL;
    if (!exo_vk_trial_begin(t, "device", "open")) {
        return exo_error_set(err, EXO_EIO, "its driver crashes when the device is opened");
    }
    exo_status st = exo_vk_device_open(instance, index, NULL, &d, err);
    end_device_trial(t, st, err);
    if (st != EXO_OK) return st;
    if (!exo_vk_trial_begin(t, "device", "copy")) {
        st = exo_error_set(err, EXO_EIO, "its driver crashes when bytes are copied");
    } else {
        st = try_copies(d, &t->verdict->copy_gbps, err);
        end_device_trial(t, st, err);
    }
    if (st == EXO_OK && selftest != NULL) st = selftest(d, t, err);
    if (st == EXO_OK && atomic_load(&d->lost)) {
        st = exo_error_set(err, EXO_EIO, "the device was lost during its self-test");
    }
    exo_vk_device_close(d);
    return st;
}

exo_status exo_vk_trials_postpone(const exo_vk_record *r, const exo_error *why, exo_vk_verdict *out,
                                  exo_error *err) {
    out->usable = false;
    out->again = true;
    (void)snprintf(out->reason, sizeof out->reason, "%.200s; the next start tries again",
                   why->message);
    return exo_vk_record_save(r, out, false, err);
}

exo_status exo_vk_trials_run(exo_vk_instance *instance, uint32_t index, const exo_vk_record *r,
                             exo_vk_selftest_fn selftest, exo_vk_verdict *out, exo_error *err) {
    bool complete;
    exo_error why = {0};
    (void)exo_vk_record_load(r, out, &complete);
    exo_vk_trials t = {.record = r, .verdict = out};
    out->again = false;
    exo_status st = try_device(instance, index, &t, selftest, &why);
    exo_vk_marker_clear(r);
    if (t.short_of.status != EXO_OK) return exo_vk_trials_postpone(r, &t.short_of, out, err);
    if (st == EXO_ENOMEM) return exo_vk_trials_postpone(r, &why, out, err);
    out->usable = st == EXO_OK;
    (void)snprintf(out->reason, sizeof out->reason, "%s", out->usable ? "" : why.message);
    return exo_vk_record_save(r, out, true, err);
}
