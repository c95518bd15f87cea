/* Probing in a child: good devices, variants that fail, crash or hang, drivers that crash.
 *
 * This program is its own child; EXO_TEST_TRIAL tells the child what goes wrong: a word and the
 * variant it befalls. */
#define _GNU_SOURCE
#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "compute/vulkan/probe_impl.h"
#include "compute/vulkan/testing.h"

#include <dirent.h>
#include <jansson.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char cache[64];
static const char *const variants[] = {"subgroup", "shared", "plain"};

static exo_status selftest(exo_vk_device *d, exo_vk_trials *t, exo_error *err) {
    const char *fault = getenv("EXO_TEST_TRIAL"), *on = fault != NULL ? strchr(fault, ':') : NULL;
    (void)d;
    for (int k = 0; k < 3; k++) {
        if (!exo_vk_trial_begin(t, "matmul", variants[k])) continue;
        bool here = on != NULL && strcmp(on + 1, variants[k]) == 0;
        if (here && strncmp(fault, "crash", 5) == 0) {
            (void)signal(SIGSEGV, SIG_DFL); /* a sanitizer would turn it into an exit */
            (void)raise(SIGSEGV);
        }
        if (here && strncmp(fault, "kill", 4) == 0) (void)raise(SIGKILL);
        while (here && strncmp(fault, "hang", 4) == 0) (void)sleep(1);
        if (here && strncmp(fault, "stop", 4) == 0) (void)raise(SIGTERM);
        if (fault != NULL && strcmp(fault, "slow") == 0) (void)sleep(1);
        bool wrong = here && strncmp(fault, "wrong", 5) == 0;
        const char *why = wrong ? "differs from the reference" : NULL;
        if (here && strncmp(fault, "short", 5) == 0) {
            why = "vkAllocateMemory: VK_ERROR_OUT_OF_DEVICE_MEMORY (-2)";
        }
        if (here && strncmp(fault, "refuse", 6) == 0) {
            why = "kernel matmul: vkCreateComputePipelines: VK_ERROR_OUT_OF_HOST_MEMORY (-1)";
        }
        exo_vk_trial_end(t, why == NULL, why);
    }
    if (fault != NULL && strcmp(fault, "no memory") == 0) {
        return exo_error_set(err, EXO_ENOMEM, "no memory for matmul");
    }
    if (fault != NULL && strcmp(fault, "useless") == 0) {
        return exo_error_set(err, EXO_EUNSUPPORTED, "no variant of matmul works");
    }
    exo_vk_trials_set_gflops(t, 12.5);
    return EXO_OK;
}

static void fresh_cache(const char *fault) {
    (void)snprintf(cache, sizeof cache, "/tmp/exo-probe-XXXXXX");
    assert_non_null(mkdtemp(cache));
    if (fault != NULL)
        assert_int_equal(setenv("EXO_TEST_TRIAL", fault, 1), 0);
    else
        (void)unsetenv("EXO_TEST_TRIAL");
}

static void drop_cache(void) {
    char name[400];
    DIR *d = opendir(cache);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        (void)snprintf(name, sizeof name, "%s/%s", cache, e->d_name);
        (void)unlink(name);
    }
    if (d != NULL) (void)closedir(d);
    assert_int_equal(rmdir(cache), 0);
}

static exo_vk_probe_desc with_children(void) {
    return (exo_vk_probe_desc){.cache_dir = cache, .kernels = "test", .selftest = selftest};
}

static exo_vk_verdict *probe(exo_vk_instance *i, const exo_vk_probe_desc *desc) {
    static exo_vk_verdict v;
    exo_error err;
    exo_vk_test_ok(exo_vk_probe(i, 0, desc, &v, &err), &err);
    return &v;
}

static void test_good(void **state) {
    exo_vk_instance *i = exo_vk_test_instance(*state);
    fresh_cache(NULL);
    exo_vk_probe_desc desc = with_children();
    exo_vk_verdict *v = probe(i, &desc);
    if (!v->usable) fail_msg("%s", v->reason);
    assert_true(v->usable && !v->cached && v->reason[0] == '\0');
    assert_true(v->copy_gbps > 0.01 && v->compute_gflops == 12.5);
    assert_int_equal(exo_vk_verdict_of(v, "matmul", "subgroup"), EXO_VK_TRIAL_PASSED);
    assert_int_equal(exo_vk_verdict_of(v, "matmul", "other"), EXO_VK_TRIAL_UNKNOWN);
    double gbps = v->copy_gbps;
    v = probe(i, &desc);
    assert_true(v->cached && v->usable && v->copy_gbps == gbps);
    desc.kernels = "other kernels";
    assert_false(probe(i, &desc)->cached);
    desc.kernels = "test";
    assert_true(probe(i, &desc)->cached);
    desc.refresh = true;
    v = probe(i, &desc);
    assert_true(v->usable && !v->cached);
    exo_error err;
    assert_int_equal(exo_vk_probe(i, 7, &desc, v, &err), EXO_ENOTFOUND);
    drop_cache();
    exo_vk_test_close(i, NULL);
}

/* The fault befalls one variant; the other two are good, and the device stays. */
static void one_bad_variant(const char *driver, const char *fault, exo_vk_trial_result want,
                            const char *says) {
    exo_vk_instance *i = exo_vk_test_instance(driver);
    fresh_cache(fault);
    exo_vk_probe_desc desc = with_children();
    desc.timeout_ms = 15000;
    if (strncmp(fault, "hang", 4) == 0) desc.timeout_ms = 4000;
    exo_vk_verdict *v = probe(i, &desc);
    assert_true(v->usable);
    assert_int_equal(exo_vk_verdict_of(v, "matmul", "subgroup"), EXO_VK_TRIAL_PASSED);
    assert_int_equal(exo_vk_verdict_of(v, "matmul", "shared"), want);
    assert_int_equal(exo_vk_verdict_of(v, "matmul", "plain"), EXO_VK_TRIAL_PASSED);
    bool told = false;
    for (uint32_t k = 0; k < v->n_trials; k++) {
        told = told || strstr(v->trials[k].reason, says) != NULL;
    }
    assert_true(told);
    desc.refresh = true; /* what crashed is not touched again, even now */
    v = probe(i, &desc);
    assert_int_equal(exo_vk_verdict_of(v, "matmul", "shared"), want);
    drop_cache();
    exo_vk_test_close(i, NULL);
}

static void test_wrong(void **state) {
    one_bad_variant(*state, "wrong:shared", EXO_VK_TRIAL_FAILED, "differs");
}
static void test_crash(void **state) {
    one_bad_variant(*state, "crash:shared", EXO_VK_TRIAL_CRASHED, "signal");
}
/* Some drivers call it a shortage when they cannot compile a pipeline: the plainer one is used. */
static void test_refused(void **state) {
    one_bad_variant(*state, "refuse:shared", EXO_VK_TRIAL_FAILED, "vkCreateComputePipelines");
}
static void test_hang(void **state) {
    one_bad_variant(*state, "hang:shared", EXO_VK_TRIAL_CRASHED, "hung");
}

/* Three slow trials take longer than one trial may. */
static void test_slow(void **state) {
    exo_vk_instance *i = exo_vk_test_instance(*state);
    fresh_cache("slow");
    exo_vk_probe_desc desc = with_children();
    desc.timeout_ms = 2500;
    exo_vk_verdict *v = probe(i, &desc);
    assert_true(v->usable);
    assert_int_equal(exo_vk_verdict_of(v, "matmul", "plain"), EXO_VK_TRIAL_PASSED);
    drop_cache();
    exo_vk_test_close(i, NULL);
}

/* Somebody ends the child: that is no verdict on the variant under trial. */
static void test_interrupted(void **state) {
    exo_vk_instance *i = exo_vk_test_instance(*state);
    exo_error err;
    static exo_vk_verdict v;
    fresh_cache("stop:shared");
    exo_vk_probe_desc desc = with_children();
    assert_int_equal(exo_vk_probe(i, 0, &desc, &v, &err), EXO_ECANCELED);
    (void)unsetenv("EXO_TEST_TRIAL");
    assert_int_equal(exo_vk_verdict_of(probe(i, &desc), "matmul", "shared"), EXO_VK_TRIAL_PASSED);
    drop_cache();
    exo_vk_test_close(i, NULL);
}

static void test_useless(void **state) {
    exo_vk_instance *i = exo_vk_test_instance(*state);
    fresh_cache("useless");
    exo_vk_probe_desc desc = with_children();
    exo_vk_verdict *v = probe(i, &desc);
    assert_false(v->usable);
    assert_string_equal(v->reason, "no variant of matmul works");
    drop_cache();
    exo_vk_test_close(i, NULL);
}

/* No child can be started: the trial runs here; and a marker left by a process that died so is
 * believed at the next start. */
static void test_without_children(void **state) {
    exo_vk_instance *i = exo_vk_test_instance(*state);
    fresh_cache(NULL);
    exo_vk_probe_desc desc = with_children();
    desc.program = "/nonexistent/program";
    exo_vk_verdict *v = probe(i, &desc);
    assert_true(v->usable && v->copy_gbps > 0);
    assert_int_equal(exo_vk_verdict_of(v, "matmul", "plain"), EXO_VK_TRIAL_PASSED);
    drop_cache();
    exo_vk_test_close(i, NULL);
}

/* Beside every file that ends so: writes a marker, or (text NULL) drops the verdict. */
static void each_file(const char *suffix, const char *text) {
    char name[400];
    DIR *d = opendir(cache);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        size_t n = strlen(e->d_name), s = strlen(suffix);
        if (n < s || strcmp(e->d_name + n - s, suffix) != 0) continue;
        (void)snprintf(name, sizeof name, "%s/%.*s.json", cache, (int)(n - s), e->d_name);
        if (text == NULL) (void)unlink(name);
        FILE *f = NULL;
        if (text != NULL) {
            (void)snprintf(name, sizeof name, "%s/%.*s.marker", cache, (int)(n - s), e->d_name);
            f = fopen(name, "w");
        }
        if (f != NULL) assert_true(fputs(text, f) >= 0 && fclose(f) == 0);
    }
    if (d != NULL) (void)closedir(d);
}

static void test_left_marker(void **state) {
    exo_vk_instance *i = exo_vk_test_instance(*state);
    fresh_cache(NULL);
    exo_vk_probe_desc desc = with_children();
    (void)probe(i, &desc);
    each_file(".lock", "matmul\nshared\n"); /* as if the machine had died in that trial */
    each_file(".lock", NULL);
    exo_vk_verdict *v = probe(i, &desc);
    assert_true(v->usable);
    assert_int_equal(exo_vk_verdict_of(v, "matmul", "shared"), EXO_VK_TRIAL_CRASHED);
    assert_int_equal(exo_vk_verdict_of(v, "matmul", "plain"), EXO_VK_TRIAL_PASSED);
    each_file(".lock", "device\ncopy\n");
    each_file(".lock", NULL);
    v = probe(i, &desc);
    assert_false(v->usable);
    assert_non_null(strstr(v->reason, "crashed (copy)"));
    drop_cache();
    exo_vk_test_close(i, NULL);
}

/* A marker that exo does not write accuses nobody. */
static void test_damaged_marker(void **state) {
    exo_vk_instance *i = exo_vk_test_instance(*state);
    fresh_cache(NULL);
    exo_vk_probe_desc desc = with_children();
    const char *const bad[] = {"",
                               "\n\n",
                               "\x8f\xfe\x01\n\xc3(\n",
                               "matmul\nshared",
                               "matmul\nshared\nmore\n",
                               "matmul shared\nplain\n",
                               "device\nrubbish\n",
                               "matmul\na_name_that_is_longer_than_any_variant\n"};
    (void)probe(i, &desc);
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        each_file(".lock", NULL);
        each_file(".lock", bad[k]);
        exo_vk_verdict *v = probe(i, &desc);
        assert_true(v->usable && !v->cached);
        for (uint32_t n = 0; n < v->n_trials; n++) {
            assert_int_equal(v->trials[n].result, EXO_VK_TRIAL_PASSED);
        }
    }
    drop_cache();
    exo_vk_test_close(i, NULL);
}

/* Memory that was short once: left out with the reason, and tried again at the next start. */
static void test_shortage(void **state) {
    const char *const faults[] = {"short:shared", "no memory"};
    const char *const says[] = {"OUT_OF_DEVICE_MEMORY", "no memory for matmul"};
    exo_vk_instance *i = exo_vk_test_instance(*state);
    for (int children = 0; children < 2; children++) {
        for (int k = 0; k < 2; k++) {
            fresh_cache(faults[k]);
            exo_vk_probe_desc desc = with_children();
            if (children == 0) desc.program = "/nonexistent/program";
            for (int start = 0; start < 2; start++) {
                exo_vk_verdict *v = probe(i, &desc);
                assert_true(!v->usable && v->again && !v->cached);
                assert_non_null(strstr(v->reason, says[k]));
                assert_non_null(strstr(v->reason, "the next start tries again"));
            }
            (void)unsetenv("EXO_TEST_TRIAL");
            exo_vk_verdict *v = probe(i, &desc);
            assert_true(v->usable && !v->again && !v->cached && v->reason[0] == '\0');
            for (int n = 0; n < 3; n++) {
                assert_int_equal(exo_vk_verdict_of(v, "matmul", variants[n]), EXO_VK_TRIAL_PASSED);
            }
            assert_true(probe(i, &desc)->cached);
            drop_cache();
        }
    }
    exo_vk_test_close(i, NULL);
}

/* Out of memory a driver crashes, or the system kills its process: neither is a verdict. */
static void test_killed_by_a_shortage(void **state) {
    const char *const faults[] = {"kill:shared", "crash:shared"};
    const char *const says[] = {"no memory left", "ulimit"};
    exo_vk_instance *i = exo_vk_test_instance(*state);
    struct rlimit before, limit;
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    limit = (struct rlimit){(rlim_t)1 << 46, before.rlim_max}; /* ample, but a limit */
    for (int k = 0; k < 2; k++) {
        fresh_cache(faults[k]);
        exo_vk_probe_desc desc = with_children();
        if (k == 1) assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
        exo_vk_verdict *v = probe(i, &desc);
        assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
        assert_true(!v->usable && v->again);
        if (strstr(v->reason, says[k]) == NULL) fail_msg("%s", v->reason);
        (void)unsetenv("EXO_TEST_TRIAL");
        v = probe(i, &desc);
        assert_true(v->usable && !v->again);
        assert_int_equal(exo_vk_verdict_of(v, "matmul", "shared"), EXO_VK_TRIAL_PASSED);
        drop_cache();
    }
    exo_vk_test_close(i, NULL);
}

/* The child cannot even be loaded: its end is no crash of a driver. */
static void test_no_memory_for_a_child(void **state) {
    exo_vk_instance *i = exo_vk_test_instance(*state), *none;
    exo_error err;
    char program[96];
    fresh_cache(NULL);
    (void)snprintf(program, sizeof program, "%s/program", cache);
    FILE *f = fopen(program, "w");
    assert_true(f != NULL && fputs("#!/bin/sh\nexit 127\n", f) >= 0 && fclose(f) == 0);
    assert_int_equal(chmod(program, 0700), 0);
    exo_vk_probe_desc desc = with_children();
    desc.program = program;
    exo_vk_verdict *v = probe(i, &desc);
    assert_true(!v->usable && v->again);
    assert_int_equal(exo_vk_probe_instance(NULL, &desc, &none, &err), EXO_ENOMEM);
    desc.program = NULL;
    assert_true(probe(i, &desc)->usable);
    exo_vk_test_ok(exo_vk_probe_instance(NULL, &desc, &none, &err), &err);
    exo_vk_instance_destroy(none);
    drop_cache();
    exo_vk_test_close(i, NULL);
}

static void verdict_file(char *name, size_t n) {
    DIR *d = opendir(cache);
    *name = '\0';
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        if (strstr(e->d_name, ".json")) (void)snprintf(name, n, "%s/%s", cache, e->d_name);
    }
    if (d != NULL) (void)closedir(d);
    assert_true(*name != '\0');
}

static void test_damaged_cache(void **state) {
    exo_vk_instance *i = exo_vk_test_instance(*state);
    fresh_cache(NULL);
    exo_vk_probe_desc desc = with_children();
    const char *const bad[] = {"",
                               "{",
                               "[]",
                               "{\"version\": 1}",
                               "\xff\xfe",
                               "{\"version\": 9, \"complete\": true, \"usable\": true, "
                               "\"reason\": \"\", \"copy_gbps\": 1, \"compute_gflops\": 1, "
                               "\"trials\": []}"};
    (void)probe(i, &desc);
    char name[400];
    verdict_file(name, sizeof name);
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        FILE *f = fopen(name, "w");
        assert_true(f != NULL && fputs(bad[k], f) >= 0 && fclose(f) == 0);
        exo_vk_verdict *v = probe(i, &desc);
        assert_true(v->usable && !v->cached);
    }
    drop_cache();
    exo_vk_test_close(i, NULL);
}

/* Puts something else into the verdict; sealed: with the hash that exo would write. */
static void forge(const char *name, const char *member, json_t *value, bool sealed) {
    json_t *j = json_load_file(name, 0, NULL);
    assert_non_null(j);
    char hash[24];
    assert_int_equal(json_object_set_new(j, member, value), 0);
    if (sealed) {
        json_object_del(j, "hash");
        char *text = json_dumps(j, JSON_COMPACT | JSON_SORT_KEYS);
        (void)snprintf(hash, sizeof hash, "%016llx",
                       (unsigned long long)exo_hash64(text, strlen(text), 2));
        json_object_set_new(j, "hash", json_string(hash));
        free(text);
    }
    assert_int_equal(json_dump_file(j, name, 0), 0);
    json_decref(j);
}

/* Valid JSON that no self-test would have written. */
static void test_implausible_cache(void **state) {
    exo_vk_instance *i = exo_vk_test_instance(*state);
    fresh_cache(NULL);
    exo_vk_probe_desc desc = with_children();
    char name[400];
    (void)probe(i, &desc);
    verdict_file(name, sizeof name);
    forge(name, "compute_gflops", json_real(77), true); /* the seal is right */
    exo_vk_verdict *v = probe(i, &desc);
    assert_true(v->cached && v->compute_gflops == 77);
    forge(name, "compute_gflops", json_real(78), false);
    v = probe(i, &desc);
    assert_true(!v->cached && v->compute_gflops == 12.5);
    const struct {
        const char *member, *value;
    } bad[] = {
        {"copy_gbps", "-1e300"},
        {"compute_gflops", "1e308"},
        {"read_gbps", "1.5e9"},
        {"trials", "[]"},
        {"trials", "[{\"pipeline\": \"device\", \"variant\": \"open\", \"result\": \"passed\", "
                   "\"reason\": \"\"}, {\"pipeline\": \"device\", \"variant\": \"copy\", "
                   "\"result\": \"passed\", \"reason\": \"\"}]"},
        {"trials", "[{\"pipeline\": \"x\", \"variant\": \"y\", \"result\": \"splendid\", "
                   "\"reason\": \"\"}]"},
        {"trials", "[7]"},
    };
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        forge(name, bad[k].member, json_loads(bad[k].value, JSON_DECODE_ANY, NULL), true);
        v = probe(i, &desc);
        assert_true(v->usable && !v->cached && v->copy_gbps > 0 && v->compute_gflops == 12.5);
        assert_int_equal(exo_vk_verdict_of(v, "matmul", "plain"), EXO_VK_TRIAL_PASSED);
    }
    drop_cache();
    exo_vk_test_close(i, NULL);
}

/* In a process that may not write there: 0 = the good verdict is used, and a new one refused. */
static int without_writing(exo_vk_instance *i, exo_vk_probe_desc *desc) {
    static exo_vk_verdict v;
    exo_error err;
    if (getuid() == 0 && setresuid(65534, 65534, 65534) != 0) return 1;
    if (access(cache, W_OK) == 0) return 2;
    if (exo_vk_probe(i, 0, desc, &v, &err) != EXO_OK || !v.usable || !v.cached) return 3;
    desc->kernels = "other kernels";
    if (exo_vk_probe(i, 0, desc, &v, &err) != EXO_EIO) return 4;
    return strstr(err.message, cache) != NULL ? 0 : 5;
}

static void test_read_only_cache(void **state) {
    exo_vk_instance *i = exo_vk_test_instance(*state);
    fresh_cache(NULL);
    exo_vk_probe_desc desc = with_children();
    char name[400];
    (void)probe(i, &desc);
    verdict_file(name, sizeof name);
    assert_int_equal(chmod(name, 0444), 0);
    assert_int_equal(chmod(cache, 0555), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) _exit(without_writing(i, &desc));
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(chmod(cache, 0700), 0);
    memcpy(name + strlen(name) - 5, ".lock", 6); /* and where only the lock cannot be had */
    assert_true(unlink(name) == 0 && mkdir(name, 0700) == 0);
    exo_vk_verdict *v = probe(i, &desc);
    assert_true(v->usable && v->cached);
    assert_int_equal(rmdir(name), 0);
    drop_cache();
    exo_vk_test_close(i, NULL);
}

/* Listing drivers: one that crashes while it is loaded is noticed in the child. */
static void test_instance(void **state) {
    exo_vk_instance *first = exo_vk_test_instance(*state), *i;
    exo_error err;
    fresh_cache(NULL);
    exo_vk_probe_desc desc = with_children();
    exo_vk_test_ok(exo_vk_probe_instance(NULL, &desc, &i, &err), &err);
    exo_vk_instance_destroy(i);
    exo_vk_test_ok(exo_vk_probe_instance(NULL, &desc, &i, &err), &err); /* from the cache */
    assert_int_equal(i->n_devices, 1);
    exo_vk_instance_destroy(i);
    desc.refresh = true;
    desc.program = "/bin/false"; /* a child that dies */
    assert_int_equal(exo_vk_probe_instance(NULL, &desc, &i, &err), EXO_EIO);
    assert_non_null(strstr(err.message, "left out until"));
    desc.refresh = false;
    desc.program = NULL;
    assert_int_equal(exo_vk_probe_instance(NULL, &desc, &i, &err), EXO_EIO); /* remembered */
    desc.refresh = true;
    exo_vk_test_ok(exo_vk_probe_instance(NULL, &desc, &i, &err), &err);
    exo_vk_instance_destroy(i);
    drop_cache();
    desc.cache_dir = "/proc/nowhere";
    assert_int_equal(exo_vk_probe_instance(NULL, &desc, &i, &err), EXO_EIO);
    assert_non_null(strstr(err.message, "/proc/nowhere"));
    exo_vk_test_close(first, NULL);
}

/* A driver that dies while it is loaded takes only the child along. */
static void test_crashing_driver(void **state) {
    (void)state;
    char json[128];
    exo_vk_loader probe;
    exo_vk_instance *i;
    exo_error err;
    if (exo_vk_loader_open(&probe, NULL) != EXO_OK) skip();
    exo_vk_loader_close(&probe);
    fresh_cache(NULL);
    (void)snprintf(json, sizeof json, "%s/crash.json", cache);
    FILE *f = fopen(json, "w");
    assert_true(f != NULL && fprintf(f,
                                     "{\"file_format_version\": \"1.0.0\", \"ICD\": "
                                     "{\"library_path\": \"%s\", \"api_version\": \"1.3.0\"}}\n",
                                     EXO_CRASH_ICD) > 0);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(setenv("VK_ICD_FILENAMES", json, 1), 0);
    assert_int_equal(setenv("VK_DRIVER_FILES", json, 1), 0);
    exo_vk_probe_desc desc = with_children();
    for (int round = 0; round < 2; round++) { /* found out, then remembered */
        assert_int_equal(exo_vk_probe_instance(NULL, &desc, &i, &err), EXO_EIO);
        assert_non_null(strstr(err.message, "crashed (signal"));
    }
    drop_cache();
}

int main(int argc, char **argv) {
    int rc;
    if (exo_vk_probe_child(argc, argv, selftest, &rc)) _exit(rc);
    cmocka_set_test_filter(argc > 1 ? argv[1] : getenv("EXO_TEST_FILTER"));
    const struct CMUnitTest tests[] = {
        EXO_VK_ON_EACH("good", test_good),
        EXO_VK_ON_EACH("a wrong variant", test_wrong),
        EXO_VK_ON_EACH("a crashing variant", test_crash),
        EXO_VK_ON_EACH("a refused variant", test_refused),
        EXO_VK_ON_EACH("a hanging variant", test_hang),
        EXO_VK_ON_EACH("slow trials", test_slow),
        EXO_VK_ON_EACH("an interrupted trial", test_interrupted),
        EXO_VK_ON_EACH("a useless device", test_useless),
        EXO_VK_ON_EACH("without children", test_without_children),
        EXO_VK_ON_EACH("a marker that was left", test_left_marker),
        EXO_VK_ON_EACH("a damaged marker", test_damaged_marker),
        EXO_VK_ON_EACH("a damaged cache", test_damaged_cache),
        EXO_VK_ON_EACH("an implausible cache", test_implausible_cache),
        EXO_VK_ON_EACH("a cache to read only", test_read_only_cache),
        EXO_VK_ON_EACH("a shortage of memory", test_shortage),
        EXO_VK_ON_EACH("killed by a shortage of memory", test_killed_by_a_shortage),
        EXO_VK_ON_EACH("no memory for a child", test_no_memory_for_a_child),
        EXO_VK_ON_EACH("instance", test_instance),
        cmocka_unit_test(test_crashing_driver),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
