/* log.h - one line per event on stderr: time, level, text.
 *
 * EXO_LOG = error | warn | info | debug (default warn).  Secrets, prompts and answers never go
 * into a log line.  Thread: ANY; lines are written whole. */
#ifndef EXO_BASE_LOG_H
#define EXO_BASE_LOG_H

#include <exo/base.h>

typedef enum { EXO_LOG_ERROR, EXO_LOG_WARN, EXO_LOG_INFO, EXO_LOG_DEBUG } exo_log_level;

/* Reads EXO_LOG; an unknown value keeps the default and says so. */
void exo_log_init(void);
void exo_log_set(exo_log_level level);
bool exo_log_on(exo_log_level level);
void exo_log_write(exo_log_level level, const char *fmt, ...) EXO_PRINTF(2, 3);

#define exo_error_log(...) exo_log_write(EXO_LOG_ERROR, __VA_ARGS__)
#define exo_warn(...)      exo_log_write(EXO_LOG_WARN, __VA_ARGS__)
#define exo_info(...)      exo_log_write(EXO_LOG_INFO, __VA_ARGS__)
#define exo_debug(...)                                                                             \
    do {                                                                                           \
        if (exo_log_on(EXO_LOG_DEBUG)) exo_log_write(EXO_LOG_DEBUG, __VA_ARGS__);                  \
    } while (0)

#endif
