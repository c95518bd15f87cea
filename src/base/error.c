/* error.c - filling and prefixing exo_error.
 *
 * Owns the text conventions of errors: one line, no trailing newline, truncated at a UTF-8
 * boundary.  Knows nothing of logs or files. */
#include <exo/base.h>

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Cuts a truncated UTF-8 tail and folds control characters, so that a message is one clean line. */
static void tidy(char *s) {
    size_t n = strlen(s);
    if (n == EXO_ERROR_BYTES - 1) {
        size_t i = n;
        while (i > 0 && ((unsigned char)s[i - 1] & 0xC0) == 0x80) i--;
        if (i > 0 && (unsigned char)s[i - 1] >= 0x80) s[i - 1] = '\0';
    }
    for (; *s != '\0'; s++) {
        if ((unsigned char)*s < 0x20 || *s == 0x7F) *s = ' ';
    }
}

exo_status exo_error_set(exo_error *err, exo_status status, const char *fmt, ...) {
    if (err == NULL) return status;
    err->status = status;
    va_list args;
    va_start(args, fmt);
    vsnprintf(err->message, sizeof err->message, fmt, args);
    va_end(args);
    tidy(err->message);
    return status;
}

exo_status exo_error_wrap(exo_error *err, const char *fmt, ...) {
    if (err == NULL) return EXO_EINTERNAL;
    char prefix[EXO_ERROR_BYTES], whole[2 * EXO_ERROR_BYTES + 2];
    va_list args;
    va_start(args, fmt);
    vsnprintf(prefix, sizeof prefix, fmt, args);
    va_end(args);
    snprintf(whole, sizeof whole, "%s: %s", prefix, err->message);
    size_t n = strlen(whole);
    if (n >= sizeof err->message) n = sizeof err->message - 1;
    memcpy(err->message, whole, n);
    err->message[n] = '\0';
    tidy(err->message);
    return err->status;
}

const char *exo_status_name(exo_status status) {
    switch (status) {
    case EXO_OK: return "ok";
    case EXO_ENOMEM: return "out of memory";
    case EXO_EINVAL: return "invalid argument";
    case EXO_EIO: return "input/output error";
    case EXO_EFORMAT: return "malformed data";
    case EXO_EUNSUPPORTED: return "not supported";
    case EXO_ENOTFOUND: return "not found";
    case EXO_ECANCELED: return "canceled";
    case EXO_ETIMEDOUT: return "timed out";
    case EXO_EPEER: return "peer failed";
    case EXO_EAUTH: return "not authorised";
    case EXO_EBUSY: return "busy";
    case EXO_ETOOLONG: return "too long";
    case EXO_EINTERNAL: return "internal error";
    }
    return "unknown status";
}
