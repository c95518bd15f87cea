/* probe.h - tries out each Vulkan device in a child process, and remembers the verdict.
 *
 * A driver may crash, hang or compute wrongly.  So the first use of a device starts a child that
 * opens it, copies bytes about, measures its speed and runs the kernels' self-test; only what the
 * child reports as good is used here.  Verdicts are cached on disk by device UUID, driver version
 * and kernel set.  Before each trial the child writes a marker file: after a crash the marker
 * names the guilty variant, which is not tried again.  A shortage of memory is no verdict: the
 * device is left out, and the next start tries it again.
 *
 * This file knows no kernel: the self-test is a function handed in.  Where no child can be started
 * the trial runs in this process, still under the marker.  Thread: COMPUTE. */
#ifndef EXO_COMPUTE_VULKAN_PROBE_H
#define EXO_COMPUTE_VULKAN_PROBE_H

#include "compute/vulkan/device.h"

/* ---- verdicts ---- */

#define EXO_VK_TRIAL_CACHE "pipeline_cache" /* a trial that is no kernel's; variant: */
#define EXO_VK_TRIAL_DISK  "disk"

typedef enum {
    EXO_VK_TRIAL_UNKNOWN,
    EXO_VK_TRIAL_PASSED,
    EXO_VK_TRIAL_FAILED,  /* would not compile, or computed wrongly */
    EXO_VK_TRIAL_CRASHED, /* the process died or hung during it */
} exo_vk_trial_result;

typedef struct {
    char pipeline[48]; /* "matmul_q8_0" */
    char variant[32];  /* "subgroup", "shared" */
    exo_vk_trial_result result;
    char reason[128]; /* of a failure; of a pass, what was measured, or "" */
} exo_vk_trial_entry;

#define EXO_VK_MAX_TRIALS 128

typedef struct {
    bool usable;
    char reason[EXO_ERROR_BYTES]; /* why not; "" when usable */
    double copy_gbps;             /* measured, device to device, read + written bytes; 0 = not */
    double compute_gflops;        /* measured by the self-test's kernels, f32; 0 = not */
    double read_gbps;             /* likewise: bytes that a kernel reads; 0 = not */
    exo_vk_trial_entry trials[EXO_VK_MAX_TRIALS];
    uint32_t n_trials;
    bool cached; /* read from the cache, not tried just now */
    bool again;  /* left out this time only: memory was short */
} exo_vk_verdict;

/* UNKNOWN when that variant was not tried. */
exo_vk_trial_result exo_vk_verdict_of(const exo_vk_verdict *v, const char *pipeline,
                                      const char *variant);

/* ---- the child's side ---- */

typedef struct exo_vk_trials exo_vk_trials; /* the trials of one device, under way */

/* False: this variant crashed in an earlier process and must not be touched, or lost there, or
 * memory ran out in a trial before it.
 * True: the marker is on disk; compile and run it, then say how it went. */
bool exo_vk_trial_begin(exo_vk_trials *t, const char *pipeline, const char *variant);
void exo_vk_trial_end(exo_vk_trials *t, bool passed,
                      const char *reason); /* may be NULL if passed */
void exo_vk_trials_set_gflops(exo_vk_trials *t, double gflops);
void exo_vk_trials_set_read_gbps(exo_vk_trials *t, double gbps);

/* Runs every pipeline's variants between trial_begin and trial_end.  EXO_OK also when variants
 * failed; an error leaves the device out with err's reason. */
typedef exo_status (*exo_vk_selftest_fn)(exo_vk_device *d, exo_vk_trials *t, exo_error *err);

/* First thing in main(): when this process was started to probe, does so and returns true with the
 * exit code; main() then calls _exit(), so that no driver gets to crash in clean-up.  A program
 * that calls this serves as its own child. */
bool exo_vk_probe_child(int argc, char **argv, exo_vk_selftest_fn selftest, int *exit_code);

/* ---- the caller's side ---- */

typedef struct {
    const char *cache_dir;       /* NULL = EXO_HOME/vulkan or ~/.exo/vulkan */
    const char *kernels;         /* names the kernel set; another one makes verdicts stale;
                                    NULL = copies only, no kernel is tried */
    const char *program;         /* child program; NULL = this one if it serves as its own child,
                                    else EXO_VULKAN_PROBE, else `exo` beside libexo, else none:
                                    the trial runs here */
    exo_vk_selftest_fn selftest; /* for a trial in this process; NULL = copies only */
    uint32_t timeout_ms;         /* for one trial in a child; 0 = 120000 */
    bool refresh;                /* try again even if cached (what crashed stays out) */
} exo_vk_probe_desc;

/* exo_vk_instance_create, after a child has loaded the drivers and listed their devices without
 * dying (remembered until the set of drivers changes).  EXO_EIO when the child crashed or hung,
 * EXO_ENOMEM when this process' address space is limited to less than drivers need. */
exo_status exo_vk_probe_instance(const exo_vk_instance_desc *instance,
                                 const exo_vk_probe_desc *desc, exo_vk_instance **out,
                                 exo_error *err);

/* The verdict on vulkan:index, from the cache or from a trial.  An unusable device is EXO_OK with
 * usable = false and the reason; errors are those of this process (memory, cache directory).  From
 * a cache directory that cannot be written a complete verdict is used as it lies there. */
exo_status exo_vk_probe(exo_vk_instance *instance, uint32_t index, const exo_vk_probe_desc *desc,
                        exo_vk_verdict *out, exo_error *err);

#endif
