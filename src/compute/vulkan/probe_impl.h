/* probe_impl.h - what the files of the probe share: the record of one subject on disk.
 *
 * The record is the only thing that parent, child and later processes exchange.  KEY.json holds
 * the verdict so far and is replaced whole after each trial; KEY.marker exists while a trial runs
 * and names it.  So after any death, of the child, the parent or the machine, the two files say
 * what was found out and what was being tried. */
#ifndef EXO_COMPUTE_VULKAN_PROBE_IMPL_H
#define EXO_COMPUTE_VULKAN_PROBE_IMPL_H

#include "compute/vulkan/probe.h"

#define EXO_VK_PROBE_OPTION      "--exo-vulkan-probe"
#define EXO_VK_PROBE_INTERRUPTED 3 /* exit code of a child that somebody asked to stop */
#define EXO_VK_PROBE_SHORT       4 /* of one that had no memory to begin with */

typedef struct {
    char dir[512];
    char key[32];
    int lock;         /* descriptor while this process works on the record; -1 = it does not */
    uint32_t trial_s; /* seconds that one trial may take before it kills this process; 0 = any */
} exo_vk_record;

/* The directory (made if it can be) and the key of a subject: a hash of everything its verdict
 * depends on. */
exo_status exo_vk_record_init(exo_vk_record *r, const char *dir, const char *subject,
                              exo_error *err);

/* False when there is none, it cannot be read, or exo would not have written it: then it is as if
 * never tried. */
bool exo_vk_record_load(const exo_vk_record *r, exo_vk_verdict *out, bool *complete);
exo_status exo_vk_record_save(const exo_vk_record *r, const exo_vk_verdict *v, bool complete,
                              exo_error *err);

exo_status exo_vk_marker_write(const exo_vk_record *r, const char *pipeline, const char *variant,
                               exo_error *err);
/* False, and empty names, when no trial is under way.  A marker that exo would not have written
 * accuses nobody: it is removed. */
bool exo_vk_marker_read(const exo_vk_record *r, char pipeline[48], char variant[32]);
void exo_vk_marker_clear(const exo_vk_record *r);
/* From now on SIGINT, SIGTERM and SIGHUP end this process without a marker, with exit code
 * EXO_VK_PROBE_INTERRUPTED: somebody who loses patience is no crash of a driver. */
void exo_vk_marker_guard(const exo_vk_record *r);
/* A number that is another one after each trial: a slow child is not a hanging one. */
uint64_t exo_vk_record_progress(const exo_vk_record *r);

/* One process at a time works on a record, together with its child, which inherits the lock: a
 * child that outlives its parent is waited for.  EXO_EBUSY when another holds it beyond the
 * deadline, EXO_EIO when the directory cannot be written. */
exo_status exo_vk_record_lock(exo_vk_record *r, uint32_t timeout_ms, exo_error *err);
void exo_vk_record_unlock(exo_vk_record *r);

void exo_vk_verdict_add(exo_vk_verdict *v, const char *pipeline, const char *variant,
                        exo_vk_trial_result result, const char *reason);

/* Memory was short: the device is left out now, with err's reason, and tried again next time. */
exo_status exo_vk_trials_postpone(const exo_vk_record *r, const exo_error *why, exo_vk_verdict *out,
                                  exo_error *err);
/* Runs all trials of a device in this process and saves the complete verdict, or postpones it. */
exo_status exo_vk_trials_run(exo_vk_instance *instance, uint32_t index, const exo_vk_record *r,
                             exo_vk_selftest_fn selftest, exo_vk_verdict *out, exo_error *err);

#endif
