/* log.c - formats a line in a local buffer and writes it with one call. */
#define _POSIX_C_SOURCE 200809L
#include "base/log.h"

#include "base/clock.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const level_names[] = {"error", "warn", "info", "debug"};
static atomic_int threshold = EXO_LOG_WARN;

void exo_log_init(void) {
    const char *want = getenv("EXO_LOG");
    if (want == NULL || *want == '\0') return;
    for (int i = 0; i <= EXO_LOG_DEBUG; i++) {
        if (strcmp(want, level_names[i]) == 0) {
            atomic_store(&threshold, i);
            return;
        }
    }
    exo_warn("EXO_LOG: unknown level (use error, warn, info or debug)");
}

void exo_log_set(exo_log_level level) { atomic_store(&threshold, (int)level); }

bool exo_log_on(exo_log_level level) { return (int)level <= atomic_load(&threshold); }

void exo_log_write(exo_log_level level, const char *fmt, ...) {
    if (!exo_log_on(level)) return;
    double now = exo_unix_time();
    time_t seconds = (time_t)now;
    struct tm tm;
    localtime_r(&seconds, &tm);
    char line[1024];
    size_t n = strftime(line, sizeof line, "%H:%M:%S", &tm);
    n += (size_t)snprintf(line + n, sizeof line - n, ".%03d %-5s ",
                          (int)((now - (double)seconds) * 1000), level_names[level]);
    va_list args;
    va_start(args, fmt);
    int m = vsnprintf(line + n, sizeof line - n - 1, fmt, args);
    va_end(args);
    if (m > 0) n += (size_t)m < sizeof line - n - 1 ? (size_t)m : sizeof line - n - 2;
    line[n++] = '\n';
    ssize_t written = write(STDERR_FILENO, line, n);
    (void)written; /* a closed stderr is not worth failing for */
}
