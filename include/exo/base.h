/* base.h - what every part of exo's public API shares: status codes, errors, token spans.
 *
 * Fallible functions return an exo_status and, as their last parameter, take an exo_error
 * (may be NULL) that is filled once, where the fault is seen.  Out-parameters are NULL or 0 on
 * failure.  Thread: ANY. */
#ifndef EXO_BASE_H
#define EXO_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define EXO_API               __attribute__((visibility("default")))
#define EXO_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define EXO_API
#define EXO_PRINTF(fmt, args)
#endif

typedef enum {
    EXO_OK = 0,
    EXO_ENOMEM = -1,       /* memory, host or device */
    EXO_EINVAL = -2,       /* the caller's argument */
    EXO_EIO = -3,          /* the operating system refused: file, socket, device */
    EXO_EFORMAT = -4,      /* bytes from disk or network that break their format */
    EXO_EUNSUPPORTED = -5, /* well-formed, but this build cannot do it */
    EXO_ENOTFOUND = -6,    /* no such file, model, node, device */
    EXO_ECANCELED = -7,    /* the caller asked to stop */
    EXO_ETIMEDOUT = -8,    /* a deadline passed */
    EXO_EPEER = -9,        /* another node failed or left */
    EXO_EAUTH = -10,       /* wrong cluster key or identity */
    EXO_EBUSY = -11,       /* no capacity now; trying again may help */
    EXO_ETOOLONG = -12,    /* a prompt beyond the context */
    EXO_EINTERNAL = -13,   /* a bug, reported instead of crashed on */
} exo_status;

#define EXO_ERROR_BYTES 240

typedef struct {
    exo_status status;
    char message[EXO_ERROR_BYTES]; /* one line: what, where, what to do; UTF-8 */
} exo_error;

/* Fills err (NULL is allowed) and returns status, so that `return exo_error_set(...)` reads well.
 */
EXO_API exo_status exo_error_set(exo_error *err, exo_status status, const char *fmt, ...)
    EXO_PRINTF(3, 4);

/* Puts "prefix: " before the message already in err (NULL is allowed), sets its status and returns
 * it. */
EXO_API exo_status exo_error_wrap(exo_error *err, exo_status status, const char *fmt, ...)
    EXO_PRINTF(3, 4);

/* A short English name: "out of memory", "not found". Never NULL. */
EXO_API const char *exo_status_name(exo_status status);

/* A borrowed run of token ids. */
typedef struct {
    const int32_t *ids;
    size_t n;
} exo_tokens;

/* Return true to go on, false to stop (the call then returns EXO_ECANCELED). */
typedef bool (*exo_progress_fn)(void *ud, uint64_t done, uint64_t total);

#endif
