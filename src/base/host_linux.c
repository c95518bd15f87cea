/* host_linux.c - /proc/self/pagemap's scan (Linux 6.7), whether large pages are given, when a
 * process began, and the niceness that a thread has of its own there.
 *
 * The request is written out: the system's headers may be older than the system. */
#ifdef __linux__
#define _GNU_SOURCE /* SYS_gettid */
#endif
#include "base/host.h"

#ifdef __linux__
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define N_REGIONS 64
#define LARGE     (1u << 6) /* PAGE_IS_HUGE */
#define NICENESS  10        /* the weight of a tenth of a usual thread */
#define MAX_STAT  1024
#define FIELDS    20 /* of /proc/self/stat from behind the name to the time it began */

typedef struct {
    uint64_t begin, end, categories;
} region;

/* struct pm_scan_arg */
typedef struct {
    uint64_t size, flags, begin, end, walked_to, regions, n_regions, max_pages;
    uint64_t inverted, all_of, any_of, tell;
} scan;

#define SCAN _IOWR('f', 16, scan)

bool exo_host_large_bytes(const void *p, size_t n, size_t *out) {
    region found[N_REGIONS];
    *out = 0;
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    scan s = {.size = sizeof s,
              .begin = (uintptr_t)p,
              .end = (uintptr_t)p + n,
              .regions = (uintptr_t)found,
              .n_regions = N_REGIONS,
              .all_of = LARGE,
              .tell = LARGE};
    int got = 0;
    while (s.begin < s.end) {
        got = ioctl(fd, SCAN, &s);
        if (got < 0 || s.walked_to <= s.begin) break;
        for (int i = 0; i < got; i++) *out += (size_t)(found[i].end - found[i].begin);
        s.begin = s.walked_to;
    }
    close(fd);
    return got >= 0;
}

const char *exo_host_sysfs(void) {
    const char *other = getenv("EXO_SYSFS");
    return other != NULL && *other != '\0' ? other : "/sys";
}

/* Whether "always [madvise] never" has the word in brackets. */
static bool chosen(const char *file, const char *word) {
    char path[512], text[128];
    (void)snprintf(path, sizeof path, "%s/kernel/mm/transparent_hugepage/%s", exo_host_sysfs(),
                   file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0) close(fd);
    text[n > 0 ? n : 0] = '\0';
    return strstr(text, word) != NULL;
}

const char *exo_host_no_large_pages(void) {
    static const char two_mib[] = "hugepages-2048kB/enabled"; /* may differ, from Linux 6.8 on */
    if (prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 1) return "this process was started without them";
    if (chosen("enabled", "[never]") && !chosen(two_mib, "[always]") &&
        !chosen(two_mib, "[madvise]")) {
        return "the system is set to give none";
    }
    return NULL;
}

/* The process began so many ticks after the machine did. */
uint64_t exo_host_process_us(void) {
    char text[MAX_STAT];
    struct timespec now;
    long ticks = sysconf(_SC_CLK_TCK);
    int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0) close(fd);
    if (n <= 0 || ticks <= 0 || clock_gettime(CLOCK_BOOTTIME, &now) != 0) return 0;
    text[n] = '\0';
    const char *p = strrchr(text, ')'); /* the name may have spaces */
    for (int i = 0; i < FIELDS && p != NULL; i++) p = strchr(p + 1, ' ');
    if (p == NULL) return 0;
    uint64_t began = strtoull(p, NULL, 10) * 1000000 / (uint64_t)ticks;
    uint64_t us = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
    return us > began ? us - began : 0;
}

void exo_host_background_thread(void) {
    (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICENESS);
}
#endif
