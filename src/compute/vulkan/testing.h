/* testing.h - opens the software Vulkan devices for tests: lavapipe and SwiftShader.
 *
 * tests/vulkan/icd.sh puts their descriptions where EXO_VULKAN_ICD_DIR (macro, or environment)
 * says; a driver that is not there makes the test skip with one line.  Instances are made with
 * core and synchronization validation, and closing one fails on any message. */
#ifndef EXO_COMPUTE_VULKAN_TESTING_H
#define EXO_COMPUTE_VULKAN_TESTING_H

#ifndef _GNU_SOURCE
#error "define _GNU_SOURCE first: dl_iterate_phdr"
#endif

#include "compute/vulkan/device.h"

#include <dlfcn.h>
#include <link.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Drivers and layers keep memory for the life of the process, and the loader unloads them before
 * the leak check can say whose it is.  So they are pinned, and their leaks left to them. */
EXO_API const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
    return "leak:libvulkan\nleak:libvk_swiftshader\nleak:libVkLayer\nleak:libLLVM\n";
}

static int exo_vk_test_pin(struct dl_phdr_info *info, size_t size, void *ud) {
    (void)size;
    (void)ud;
    (void)dlopen(info->dlpi_name, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
    return 0;
}

#ifndef EXO_VULKAN_ICD_DIR
#define EXO_VULKAN_ICD_DIR "build/vulkan"
#endif

/* A test on each of the drivers; its state is the driver's name. */
#define EXO_VK_ON_EACH(name, test)                                                                 \
    {name " (lavapipe)", test, NULL, NULL, (void *)(uintptr_t) "lavapipe"}, {                      \
        name " (swiftshader)", test, NULL, NULL, (void *)(uintptr_t) "swiftshader"                 \
    }

/* Makes the loader see one driver only; false when it is not to be had. */
static inline bool exo_vk_test_choose(const char *driver) {
    char path[1024];
    const char *dir = getenv("EXO_VULKAN_ICD_DIR");
    (void)snprintf(path, sizeof path, "%s/%s.json", dir != NULL ? dir : EXO_VULKAN_ICD_DIR, driver);
    if (access(path, R_OK) != 0) return false;
    return setenv("VK_ICD_FILENAMES", path, 1) == 0 && setenv("VK_DRIVER_FILES", path, 1) == 0;
}

static inline void exo_vk_test_ok(exo_status st, const exo_error *err) {
    if (st != EXO_OK) fail_msg("%s: %s", exo_status_name(st), err->message);
}

/* An instance on one driver with validation, of every access of a shader, too, where gpu_assisted
 * says so; or skips the test. */
static inline exo_vk_instance *exo_vk_test_instance_with(const char *driver, bool gpu_assisted) {
    exo_vk_instance *i;
    exo_error err = {0};
    if (!exo_vk_test_choose(driver)) {
        print_message("skipped: no %s (tests/vulkan/icd.sh could not get it)\n", driver);
        skip();
    }
    exo_vk_instance_desc desc = {.validation = true, .gpu_assisted = gpu_assisted};
    exo_status st = exo_vk_instance_create(&desc, &i, &err);
    if (st == EXO_ENOTFOUND) {
        print_message("skipped: %s\n", err.message);
        skip();
    }
    exo_vk_test_ok(st, &err);
    (void)dl_iterate_phdr(exo_vk_test_pin, NULL);
    return i;
}

static inline exo_vk_instance *exo_vk_test_instance(const char *driver) {
    return exo_vk_test_instance_with(driver, false);
}

static inline exo_vk_device *exo_vk_test_open(exo_vk_instance *i, const exo_vk_open_desc *desc) {
    exo_vk_device *d;
    exo_error err = {0};
    exo_vk_test_ok(exo_vk_device_open(i, 0, desc, &d, &err), &err);
    return d;
}

/* Closes and fails the test if the validation layer had anything to say. */
static inline void exo_vk_test_close(exo_vk_instance *i, exo_vk_device *d) {
    exo_vk_device_close(d);
    unsigned n = exo_vk_validation_messages(i);
    exo_vk_instance_destroy(i);
    assert_int_equal(n, 0);
}

#endif
